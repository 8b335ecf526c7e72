/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * option.h - reads a mapping of the tree into a C struct by its table (millrace/option.h).
 *
 *     struct mr_node + struct mr_option[] ─► values at their offsets, defaults where nothing is given, or one sentence
 */
#ifndef MR_CORE_OPTION_H
#define MR_CORE_OPTION_H

#include "core/node.h"
#include <stdarg.h>

#define MR_OPTION_WHERE_BYTES 160

struct mr_config_set;

/* What reading needs to know; one for a whole file.  Values are allocated in `arena`. */
struct mr_reader {
	struct mr_arena *arena;
	const char *path; /* of the file, for sentences */
	struct mr_error *e;
	const struct mr_config_set *(*find_set)(const void *ctx, const char *name); /* NULL: no sets here */
	const void *ctx;
	const char *skip_key;              /* a key of the outermost mapping that is somebody else's; NULL = none */
	char where[MR_OPTION_WHERE_BYTES]; /* "stages.cgn": the mapping being read */
};

/* Reads all keys of `node` into *out (of the table's struct, zeroed by the caller).  Refuses keys the table does not know.
 * -EINVAL with the sentence, -ENOMEM. */
int mr_option_read(struct mr_reader *r, const struct mr_node *node, const struct mr_option *table, void *out);
/* The two halves of it: `node` is a mapping of known keys; one key of it, or its default. */
int mr_option_check_keys(struct mr_reader *r, const struct mr_node *node, const struct mr_option *table);
int mr_option_read_key(struct mr_reader *r, const struct mr_node *node, const struct mr_option *o, void *out);

/* Adds to `where`; returns what mr_option_leave() wants to undo it. */
size_t mr_option_enter(struct mr_reader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void mr_option_leave(struct mr_reader *r, size_t mark);

/* "path:line:column: where.key: ...", -EINVAL.  key may be NULL. */
int mr_option_error(struct mr_reader *r, struct mr_position at, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
int mr_option_no_memory(struct mr_reader *r);

/* list.c: reads any of the list types from a scalar or a sequence; `o` says which. */
int mr_list_read(struct mr_reader *r, const struct mr_node *node, const struct mr_option *o, void *out);
/* Sorts and merges ranges that touch. */
void mr_list_merge(struct mr_range *items, uint32_t *cnt);

/* What a type wants, for sentences and help: "a duration", "a number with a unit: 500ms, 2s, 5m, 2h". */
const char *mr_option_noun(enum mr_option_type type);
const char *mr_option_want(const struct mr_option *o, char *buf, size_t bytes);

#endif
