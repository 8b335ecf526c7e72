/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hostquota.c - a stage that lets every source address have so many sessions at once, and no more.
 *
 *     stages:
 *       fair: { type: hostquota, sessions: 100 }
 *
 * The example of docs/writing-a-stage.md.  It shows options, a drop reason, private bytes of a session, giving back what was not
 * stored, and handing state over to the next configuration.
 */
#include <millrace/stage.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 65536 /* addresses share a slot when they are more than this, or unlucky */

struct options {
	uint64_t sessions;
};

/* Lives as long as a configuration that uses it. */
struct table {
	atomic_uint users;
	atomic_uint open[SLOTS]; /* sessions of the addresses of a slot */
};

struct hostquota {
	uint64_t sessions;
	unsigned reason;
	struct table *table;
};

/* What a session remembers: its slot + 1.  0 = it was not counted. */
struct private
{
	uint32_t slot_plus_1;
};

static const struct mr_option options[] = {
	MR_OPT("sessions", MR_TYPE_UINT, struct options, sessions, .min = 1, .max = 1000000000, .required = true,
		.help = "sessions a source address may have at once"),
	MR_OPT_END,
};

static void table_drop(struct table *t)
{
	if (t && atomic_fetch_sub(&t->users, 1) == 1)
		free(t);
}

static int create(struct mr_stage_env *env, const void *opt, void **stage)
{
	struct hostquota *q = calloc(1, sizeof(*q));
	if (q)
		q->table = calloc(1, sizeof(*q->table));
	if (!q || !q->table) {
		free(q);
		return -ENOMEM;
	}
	atomic_store(&q->table->users, 1);
	q->sessions = ((const struct options *)opt)->sessions;
	q->reason = mr_stage_reason(env, "exceeded", "the source address has as many sessions as it may");
	*stage = q;
	return 0;
}

static void destroy(void *stage)
{
	struct hostquota *q = stage;
	table_drop(q->table);
	free(q);
}

/* The sessions that are open stay counted over a reload: both configurations use one table, until the old one is gone. */
static void adopt(void *stage, void *old_stage)
{
	struct hostquota *q = stage, *old = old_stage;
	table_drop(q->table);
	q->table = old->table;
	atomic_fetch_add(&q->table->users, 1);
}

static uint32_t slot_of(const struct mr_tuple *t)
{
	uint64_t a, b;
	memcpy(&a, t->src, 8);
	memcpy(&b, t->src + 8, 8);
	return (uint32_t)(((a ^ b * 0x9e3779b97f4a7c15ULL) * 0xd6e8feb86659fd93ULL) >> 48) % SLOTS;
}

static void decide(void *stage, unsigned worker, struct mr_batch *batch)
{
	struct hostquota *q = stage;
	for (unsigned i = 0; i < mr_batch_cnt(batch); i++) {
		struct mr_packet *p = mr_batch_packet(batch, i);
		struct private *mine = mr_packet_session(p);
		if (!mine || mr_packet_session_exists(p)) /* opens no session, or was counted when it did */
			continue;
		uint32_t slot = slot_of(mr_packet_tuple(p));
		unsigned before = atomic_fetch_add(&q->table->open[slot], 1);
		mr_packet_explain(p, "its source has %u of %llu sessions", before, (unsigned long long)q->sessions);
		if (before >= q->sessions) {
			atomic_fetch_sub(&q->table->open[slot], 1);
			mr_decide_drop(p, q->reason);
			continue;
		}
		mine->slot_plus_1 = slot + 1;
	}
}

static void give_back(struct hostquota *q, const struct private *mine)
{
	if (mine && mine->slot_plus_1)
		atomic_fetch_sub(&q->table->open[mine->slot_plus_1 - 1], 1);
}

/* The session was not made after all. */
static void give_up(void *stage, unsigned worker, struct mr_packet *p)
{
	give_back(stage, mr_packet_session(p));
}

static void expire(void *stage, const void *priv, const struct mr_session_end *end)
{
	give_back(stage, priv);
}

/* A smaller quota does not end what is open. */
static enum mr_revalidate revalidate(void *stage, unsigned worker, struct mr_packet *p)
{
	return MR_REVALIDATE_KEEP;
}

MR_STAGE_PLUGIN = {
	.abi = MR_STAGE_ABI,
	.type = "hostquota",
	.summary = "so many sessions a source address, and no more",
	.options = options,
	.options_bytes = sizeof(struct options),
	.session_bytes = sizeof(struct private),
	.create = create,
	.destroy = destroy,
	.adopt = adopt,
	.decide = decide,
	.revalidate = revalidate,
	.abort = give_up,
	.expire = expire,
};
