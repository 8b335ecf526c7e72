/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * config_read.h - between the files that make a struct mr_config; nobody else's business.
 *
 *     config.c tables, order of reading ─► set.c sets and their files ─► config_check.c what tables cannot say
 */
#ifndef MR_CORE_CONFIG_READ_H
#define MR_CORE_CONFIG_READ_H

#include "core/config.h"
#include "core/option.h"

struct mr_config_set_raw {
	const char *name; /* first member: MAP key */
	struct mr_position at;
	int type; /* enum mr_set_type */
	const char *file;
	struct mr_position file_at;
	struct mr_string_list entries;
	bool has_entries;
};

struct mr_config_pipeline_raw {
	const char *name;
	struct mr_position at;
	struct mr_string_list from;
	struct mr_object_list match;  /* of struct mr_config_match */
	struct mr_object_list except; /* of struct mr_config_match */
	struct mr_string_list stages;
	const char *to;
	struct mr_position to_at;
	int state;
	int offload;
	bool has_offload;
};

struct mr_config_raw {
	uint64_t version;
	struct mr_config_workers workers;
	struct mr_config_memory memory;
	struct mr_config_flows flows;
	struct mr_string_list plugins;
	struct mr_object_list interfaces; /* of struct mr_config_interface */
	struct mr_object_list sets;       /* of struct mr_config_set_raw */
	const struct mr_node *stages;
	struct mr_object_list pipelines; /* of struct mr_config_pipeline_raw */
};

/* Reads a regular file of up to max bytes; *text is malloc'ed.  -errno; -EFBIG too large, -ENOTSUP or -EISDIR not a file. */
int mr_config_read_file(const char *path, size_t max, char **text, size_t *bytes);

/* For struct mr_reader: ctx is the struct mr_config whose sets are searched. */
const struct mr_config_set *mr_config_find_set(const void *ctx, const char *name);

/* Fills c->sets from what the table read, with their files.  -EINVAL with the sentence, -ENOMEM. */
int mr_set_read_all(struct mr_reader *r, struct mr_config *c, const struct mr_config_set_raw *raw, uint32_t cnt);
/* Adds the entries of a set file to a set.  `name` stands for the file in sentences.  Leaves the set unsorted. */
int mr_set_read_text(struct mr_arena *a, const char *text, size_t bytes, const char *name, struct mr_config_set *set,
	struct mr_error *e);
/* Sorts, removes doubles, merges ports. */
void mr_set_finish(struct mr_config_set *set);

/* What spans several keys: names that dangle, devices used twice, entries that can never match. */
int mr_config_check(struct mr_config *c, struct mr_error *e);

#endif
