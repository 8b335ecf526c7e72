/* SPDX-License-Identifier: BSD-2-Clause */
/* neighbour_show.c - the slots, for people. */
#include "core/neighbour_table.h"

#include <string.h>

static const char *state_name(const struct mr_neighbour_slot *s, const struct mr_neighbour_port *p)
{
	if (!p || !p->d.up)
		return "link-down";
	switch (s->state) {
	case MR_NEIGHBOUR_ROUTED:
		return "reachable";
	case MR_NEIGHBOUR_RESOLVING:
		return "resolving";
	case MR_NEIGHBOUR_UNREACHABLE:
		return "unreachable";
	default:
		return "unused";
	}
}

static void describe_tunnel(
	const struct mr_neighbours *t, const struct mr_neighbour_tunnel *n, struct mr_neighbour_info *out)
{
	const struct mr_neighbour_slot *under = &t->slot[n->under];
	bool v6 = n->param.encap == MR_ENCAP_IP6 || n->param.encap == MR_ENCAP_GUE6;

	out->tunnel = true;
	out->family = v6 ? 6 : 4;
	memcpy(out->addr, n->param.dst, sizeof(out->addr));
	out->ifindex = n->under ? under->key.ifindex : 0;
	out->state = n->under ? state_name(under, mr_neighbours_port(t, under->key.ifindex)) : "unreachable";
}

static bool describe(const struct mr_neighbours *t, uint16_t slot, uint32_t now_ms, struct mr_neighbour_info *out)
{
	const struct mr_neighbour_slot *s = &t->slot[slot];
	struct mr_nexthop nh;

	if (s->state == MR_NEIGHBOUR_FREE)
		return false;
	mr_nexthops_get(t->opt.nexthops, slot, &nh);
	memset(out, 0, sizeof(*out));
	out->slot = slot;
	out->interface_id = nh.egress;
	out->mtu = nh.mtu;
	out->vlan = nh.flags & MR_NH_PUSH_VLAN ? nh.vlan_tci : 0;
	memcpy(out->mac, nh.dmac, 6);
	out->used_ms_ago = now_ms - __atomic_load_n(&t->used_ms[slot], __ATOMIC_RELAXED);
	out->asked_cnt = s->asked_cnt;
	out->failed_cnt = s->failed_cnt;
	if (s->state == MR_NEIGHBOUR_TUNNEL)
		return true;
	out->ifindex = s->key.ifindex;
	out->family = s->key.family;
	memcpy(out->addr, s->key.addr, sizeof(out->addr));
	out->state = state_name(s, mr_neighbours_port(t, s->key.ifindex));
	return true;
}

/* The lock is held for one slot at a time and never while fn runs. */
void mr_neighbours_each(const struct mr_neighbours *table, uint32_t now_ms, mr_neighbours_fn fn, void *ctx)
{
	struct mr_neighbours *t = (struct mr_neighbours *)(uintptr_t)table; /* for its lock alone */
	struct mr_neighbour_info info;

	for (uint32_t slot = MR_NEXTHOP_FIRST_FREE; slot < MR_MAX_NEXTHOPS; slot++) {
		mr_neighbours_lock(t);
		bool there = describe(t, (uint16_t)slot, now_ms, &info);
		for (uint32_t i = 0; there && !info.state && i < t->tunnel_cnt; i++)
			if (t->tunnel[i].slot == slot)
				describe_tunnel(t, &t->tunnel[i], &info);
		mr_neighbours_unlock(t);
		if (!there)
			continue;
		if ((int32_t)info.used_ms_ago < 0)
			info.used_ms_ago = 0; /* a worker's clock is of a moment later */
		fn(ctx, &info);
	}
}

void mr_neighbours_usage(const struct mr_neighbours *table, struct mr_neighbours_usage *out)
{
	struct mr_neighbours *t = (struct mr_neighbours *)(uintptr_t)table;

	mr_neighbours_lock(t);
	*out = t->count;
	out->slot_max = MR_MAX_NEXTHOPS - MR_NEXTHOP_FIRST_FREE;
	out->slot_cnt = out->slot_max - t->free_cnt;
	out->resolving_cnt = t->resolving_cnt;
	out->tunnel_cnt = t->tunnel_cnt;
	out->known_cnt = t->known_cnt;
	mr_neighbours_unlock(t);
}
