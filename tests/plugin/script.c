/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * script.c - a plugin for tests that does what the test says: it sets the functions below.
 */
#include <millrace/stage.h>

struct options {
	bool unused;
};

/* Looked up by the test with dlsym; NULL: nothing is done. */
MR_API void (*script_decide)(struct mr_packet *p);
MR_API void (*script_commit)(struct mr_packet *p);
MR_API void (*script_abort)(struct mr_packet *p);

static char self;

static const struct mr_option options[] = {
	MR_OPT("unused", MR_TYPE_BOOL, struct options, unused, .help = "nothing"),
	MR_OPT_END,
};

static int create(struct mr_stage_env *env, const void *opt, void **stage)
{
	*stage = &self;
	return 0;
}

static void destroy(void *stage)
{
}

static void decide(void *stage, unsigned worker, struct mr_batch *batch)
{
	for (unsigned i = 0; script_decide && i < mr_batch_cnt(batch); i++)
		script_decide(mr_batch_packet(batch, i));
}

static void commit(void *stage, unsigned worker, struct mr_packet *p)
{
	if (script_commit)
		script_commit(p);
}

static void give_up(void *stage, unsigned worker, struct mr_packet *p)
{
	if (script_abort)
		script_abort(p);
}

MR_STAGE_PLUGIN = {
	.abi = MR_STAGE_ABI,
	.type = "script",
	.summary = "for tests",
	.options = options,
	.options_bytes = sizeof(struct options),
	.session_bytes = 16,
	.create = create,
	.destroy = destroy,
	.decide = decide,
	.commit = commit,
	.abort = give_up,
};
