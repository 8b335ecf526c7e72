/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/route_flows.h"

#include "core/route.h"

#define AHEAD 16   /* records asked for before they are looked at */
#define QUIET 8192 /* sessions between two quiet moments: what workers retire is not held up by the walk */

typedef void (*record_fn)(struct mr_shared *sh, const struct mr_session *s, enum mr_direction dir, void *arg);

static void ask_for(struct mr_shared *sh, uint32_t idx)
{
	const struct mr_session *s = mr_session_at(sh->sessions, idx);
	for (unsigned dir = 0; dir < 2; dir++) {
		mr_flow_ref ref = __atomic_load_n(&s->ref[dir], __ATOMIC_RELAXED);
		const void *rec = mr_flows_record4(sh->flows, ref);
		__builtin_prefetch(rec ? rec : (const void *)mr_flows_record6(sh->flows, ref));
	}
}

/* Indexes run some way ahead of the records they name, which lie anywhere in memory. */
static void walk(struct mr_shared *sh, record_fn fn, void *arg)
{
	uint32_t ring[AHEAD], next = 1, head = 0, tail = 0;
	mr_epoch_online(sh->epoch, sh->worker_cnt);
	for (;;) {
		while (next && head - tail < AHEAD) {
			uint32_t idx = mr_sessions_next(sh->sessions, next);
			if (idx) {
				ask_for(sh, idx);
				ring[head++ % AHEAD] = idx;
			}
			next = idx ? idx + 1 : 0;
		}
		if (head == tail)
			break;
		const struct mr_session *s = mr_session_at(sh->sessions, ring[tail++ % AHEAD]);
		fn(sh, s, MR_FORWARD, arg);
		fn(sh, s, MR_REPLY, arg);
		if (tail % QUIET == 0)
			mr_epoch_quiet(sh->epoch, sh->worker_cnt);
	}
	mr_epoch_offline(sh->epoch, sh->worker_cnt);
}

/* The state of a record, its session's; NULL when it is free. */
static const struct mr_flow_state *state_of(struct mr_shared *sh, const struct mr_session *s, enum mr_direction dir)
{
	return mr_flows_state(sh->flows, __atomic_load_n(&s->ref[dir], __ATOMIC_RELAXED));
}

static unsigned bucket_of(struct mr_shared *sh, mr_flow_ref ref, unsigned *family)
{
	const struct mr_flow4 *r4 = mr_flows_record4(sh->flows, ref);
	const __be32 *dst = r4 ? &r4->rewrite.daddr_be : mr_flows_record6(sh->flows, ref)->rewrite.daddr_be;
	__be32 first = __atomic_load_n(dst, __ATOMIC_RELAXED);
	*family = r4 ? 4 : 6;
	return r4 ? mr_route_bucket4(first) : mr_route_bucket6(&first);
}

static void check_version(struct mr_shared *sh, const struct mr_session *s, enum mr_direction dir, void *arg)
{
	const struct mr_flow_state *st = state_of(sh, s, dir);
	unsigned family;
	if (!st)
		return;
	uint16_t flags = __atomic_load_n(&st->flags, __ATOMIC_RELAXED);
	if ((flags & (MR_FLOW_ROUTED | MR_FLOW_DECIDED)) != (MR_FLOW_ROUTED | MR_FLOW_DECIDED))
		return;
	mr_flow_ref ref = __atomic_load_n(&s->ref[dir], __ATOMIC_RELAXED);
	/* A record that is being written reads as anything: a wrong bucket costs it a decision more at most, and one that is written
	 * now has the version of now. */
	unsigned bucket = bucket_of(sh, ref, &family);
	if (__atomic_load_n(&mr_routes_versions(sh->routes, family)[bucket], __ATOMIC_RELAXED) !=
		flags >> MR_FLOW_VERSION_SHIFT)
		mr_flows_undecide(sh->flows, ref, __atomic_load_n(&st->session, __ATOMIC_RELAXED));
}

void mr_route_flows_sweep(void *ctx)
{
	walk(ctx, check_version, NULL);
}

struct marking {
	void (*mark)(void *arg, uint16_t slot);
	void *arg;
};

static void mark_slot(struct mr_shared *sh, const struct mr_session *s, enum mr_direction dir, void *arg)
{
	const struct marking *m = arg;
	const struct mr_flow_state *st = state_of(sh, s, dir);
	uint16_t slot = st ? __atomic_load_n(&st->nexthop, __ATOMIC_RELAXED) : 0;
	if (slot)
		m->mark(m->arg, slot);
}

void mr_route_flows_referred(void *ctx, void (*mark)(void *arg, uint16_t slot), void *arg)
{
	struct marking m = { .mark = mark, .arg = arg };
	walk(ctx, mark_slot, &m);
}
