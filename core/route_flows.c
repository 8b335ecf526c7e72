/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/route_flows.h"

#include "core/route.h"

static unsigned bucket_of(struct mr_shared *sh, mr_flow_ref ref, unsigned *family)
{
	const struct mr_flow4 *r4 = mr_flows_record4(sh->flows, ref);
	const __be32 *dst = r4 ? &r4->rewrite.daddr_be : mr_flows_record6(sh->flows, ref)->rewrite.daddr_be;
	__be32 first = __atomic_load_n(dst, __ATOMIC_RELAXED);
	*family = r4 ? 4 : 6;
	return r4 ? mr_route_bucket4(first) : mr_route_bucket6(&first);
}

static void check_version(void *ctx, mr_flow_ref ref, const struct mr_flow_state *st)
{
	struct mr_shared *sh = ctx;
	uint16_t flags = __atomic_load_n(&st->flags, __ATOMIC_RELAXED);
	unsigned family;
	if ((flags & (MR_FLOW_ROUTED | MR_FLOW_DECIDED)) != (MR_FLOW_ROUTED | MR_FLOW_DECIDED))
		return;
	/* A record that is being written reads as anything: a wrong bucket costs it a decision more at most, and one that is written
	 * now has the version of now. */
	unsigned bucket = bucket_of(sh, ref, &family);
	if (__atomic_load_n(&mr_routes_versions(sh->routes, family)[bucket], __ATOMIC_RELAXED) !=
		flags >> MR_FLOW_VERSION_SHIFT)
		mr_flows_undecide(sh->flows, ref, __atomic_load_n(&st->session, __ATOMIC_RELAXED));
}

bool mr_route_flows_sweep(struct mr_shared *sh, uint64_t *at, uint32_t bucket_cnt)
{
	return mr_flows_each_some(sh->flows, at, bucket_cnt, check_version, sh);
}

struct marking {
	void (*mark)(void *arg, uint16_t slot);
	void *arg;
};

static void mark_slot(void *ctx, mr_flow_ref ref, const struct mr_flow_state *st)
{
	const struct marking *m = ctx;
	uint16_t slot = __atomic_load_n(&st->nexthop, __ATOMIC_RELAXED);
	if (slot)
		m->mark(m->arg, slot);
}

void mr_route_flows_referred(void *ctx, void (*mark)(void *arg, uint16_t slot), void *arg)
{
	struct mr_shared *sh = ctx;
	struct marking m = { .mark = mark, .arg = arg };
	mr_flows_each(sh->flows, mark_slot, &m);
}
