/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stage.h - the stage types this program knows: built in, and loaded from plugins.
 */
#ifndef MR_CORE_STAGE_H
#define MR_CORE_STAGE_H

#include "core/claim.h"
#include "core/plan.h"

/* What mr_stage_* of millrace/stage.h work on while a stage is created. */
struct mr_stage_env {
	const struct mr_config *config;
	const struct mr_config_stage *stage;
	const struct mr_stage_type *type;
	struct mr_stats *stats;
	struct mr_effects *effects;
	unsigned worker_cnt;
	struct mr_neighbours *neighbours; /* NULL: the plan is only checked, or nothing routes */
	struct mr_routes *routes;
	bool *wants_routes; /* set when the stage makes a tunnel */
	unsigned (*interface_id)(void *ctx, const char *name);
	void *ctx;
	struct mr_timeouts *timeouts;
	struct mr_prefix_list *announce;
	struct mr_claims *claims; /* of the stages made so far */
	bool checking;            /* nothing will run */
	struct mr_error *error;
};

/* The types of pipelines/, NULL-terminated (pipelines/builtin.c). */
extern const struct mr_stage_type *const mr_stage_builtin[];

/* The type of a name; NULL = unknown. */
const struct mr_stage_type *mr_stage_find(const char *type);
/* All types, for help: NULL-terminated walk by index. */
const struct mr_stage_type *mr_stage_at(unsigned idx);
/* Loads a plugin (dlopen, symbol, abi).  A plugin stays loaded for good; the same file again is fine.  -ENOENT, -ENOEXEC, -EEXIST (its type
 * name is taken by another). */
int mr_stage_load(const char *path, struct mr_error *e);

/* Reads options and creates an instance into *out; on failure nothing is left. */
int mr_stage_create(struct mr_stage_env *env, struct mr_plan_stage *out);
void mr_stage_destroy(struct mr_plan_stage *s);

#endif
