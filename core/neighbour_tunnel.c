/* SPDX-License-Identifier: BSD-2-Clause */
/* neighbour_tunnel.c - next hops with an encapsulation: each follows the slot its outer destination is routed to. */
#include "core/neighbour_table.h"

#include "core/route.h"
#include <stdlib.h>
#include <string.h>

static bool outer6(const struct mr_tunnel *p)
{
	return p->encap == MR_ENCAP_IP6 || p->encap == MR_ENCAP_GUE6;
}

static struct mr_nexthop compose(const struct mr_neighbours *t, const struct mr_neighbour_tunnel *n)
{
	struct mr_nexthop nh = { .kind = MR_NH_UNREACHABLE };
	unsigned bytes = outer6(&n->param) ? 16 : 4;

	if (n->under)
		mr_nexthops_get(t->opt.nexthops, n->under, &nh);
	nh.encap = n->param.encap;
	nh.outer_ttl = n->param.ttl ? n->param.ttl : 64;
	nh.outer_dport = n->param.dport;
	memcpy(nh.outer_saddr_be, n->param.src, bytes);
	memcpy(nh.outer_daddr_be, n->param.dst, bytes);
	return nh;
}

/* True when packets waited for it. */
static bool write_tunnel(struct mr_neighbours *t, const struct mr_neighbour_tunnel *n)
{
	struct mr_nexthop nh = compose(t, n), old;

	mr_nexthops_get(t->opt.nexthops, n->slot, &old);
	nh.seq = old.seq;
	if (memcmp(&nh, &old, sizeof(nh)))
		mr_nexthops_set(t->opt.nexthops, n->slot, &nh);
	return nh.kind != MR_NH_RESOLVING && __atomic_exchange_n(&t->wanted[n->slot], 0, __ATOMIC_ACQ_REL);
}

bool mr_neighbours_tunnels_follow(struct mr_neighbours *t, uint16_t under)
{
	bool waited = false;
	for (uint32_t i = 0; i < t->tunnel_cnt; i++)
		if (t->tunnel[i].under == under)
			waited |= write_tunnel(t, &t->tunnel[i]);
	return waited;
}

uint32_t mr_neighbours_used(const struct mr_neighbours *t, uint16_t slot)
{
	uint32_t newest = __atomic_load_n(&t->used_ms[slot], __ATOMIC_RELAXED);
	if (!t->slot[slot].tunnel_cnt)
		return newest;
	for (uint32_t i = 0; i < t->tunnel_cnt; i++) {
		uint32_t used_ms = __atomic_load_n(&t->used_ms[t->tunnel[i].slot], __ATOMIC_RELAXED);
		if (t->tunnel[i].under == slot && (int32_t)(used_ms - newest) > 0)
			newest = used_ms;
	}
	return newest;
}

uint16_t mr_neighbours_under(const struct mr_neighbours *t, uint16_t slot)
{
	if (t->slot[slot].state != MR_NEIGHBOUR_TUNNEL)
		return slot;
	for (uint32_t i = 0; i < t->tunnel_cnt; i++)
		if (t->tunnel[i].slot == slot)
			return t->tunnel[i].under;
	return 0;
}

/* Where the outer destination goes now. */
static uint16_t resolve(struct mr_neighbours *t, struct mr_routes *routes, const struct mr_tunnel *p)
{
	struct mr_route_answer answer;
	uint32_t w[4];
	memcpy(w, p->dst, sizeof(w));
	uint64_t hash = mr_flow_hash_finish(mr_flow_hash_pair(w[0], w[1], t->seed, 0x9e3779b97f4a7c15ULL) +
		mr_flow_hash_pair(w[2], w[3], t->seed, 0xd6e8feb86659fd93ULL));

	mr_routes_lookup(routes, 0, outer6(p) ? 6 : 4, p->dst, hash, &answer);
	return answer.verdict == MR_ROUTE_SLOT ? answer.slot : 0;
}

static bool attach(struct mr_neighbours *t, struct mr_neighbour_tunnel *n, uint16_t under)
{
	if (n->under != under) {
		if (n->under)
			t->slot[n->under].tunnel_cnt--;
		if (under)
			t->slot[under].tunnel_cnt++;
		n->under = under;
	}
	bool waited = write_tunnel(t, n);
	/* Whoever waits for the tunnel waits for this one now, and does not say so again. */
	if (under && __atomic_load_n(&t->wanted[n->slot], __ATOMIC_RELAXED))
		mr_neighbours_want(t, under);
	return waited;
}

/* The parameters as they are compared: what the encapsulation does not use is 0. */
static struct mr_tunnel plain(const struct mr_tunnel *from)
{
	struct mr_tunnel p;
	unsigned bytes = outer6(from) ? 16 : 4;
	memset(&p, 0, sizeof(p));
	p.encap = from->encap;
	p.ttl = from->ttl;
	if (p.encap == MR_ENCAP_GUE4 || p.encap == MR_ENCAP_GUE6)
		p.dport = from->dport;
	memcpy(p.src, from->src, bytes);
	memcpy(p.dst, from->dst, bytes);
	return p;
}

uint16_t mr_neighbours_tunnel(struct mr_neighbours *t, struct mr_routes *routes, const struct mr_tunnel *tunnel)
{
	struct mr_tunnel p = plain(tunnel);

	if (p.encap == MR_ENCAP_NONE || p.encap > MR_ENCAP_GUE6)
		return 0;
	for (uint32_t i = 0; i < t->tunnel_cnt; i++)
		if (!memcmp(&t->tunnel[i].param, &p, sizeof(p)))
			return t->tunnel[i].slot;
	if (t->tunnel_cnt == t->tunnel_room) {
		uint32_t room = t->tunnel_room ? 2 * t->tunnel_room : 16;
		struct mr_neighbour_tunnel *more = realloc(t->tunnel, room * sizeof(*more));
		if (!more)
			return 0;
		t->tunnel = more;
		t->tunnel_room = room;
	}
	uint16_t under = resolve(t, routes, &p);
	mr_neighbours_lock(t);
	uint16_t slot = mr_neighbours_take(t);
	if (slot) {
		struct mr_neighbour_tunnel *n = &t->tunnel[t->tunnel_cnt++];
		*n = (struct mr_neighbour_tunnel){ .param = p, .slot = slot };
		t->slot[slot] = (struct mr_neighbour_slot){ .state = MR_NEIGHBOUR_TUNNEL };
		__atomic_store_n(&t->wanted[slot], 0, __ATOMIC_RELAXED);
		__atomic_store_n(&t->used_ms[slot], t->now_ms, __ATOMIC_RELAXED);
		attach(t, n, under);
	} else {
		t->count.refused_cnt++;
	}
	mr_neighbours_unlock(t);
	return slot;
}

void mr_neighbours_tunnels_refresh(struct mr_neighbours *t, struct mr_routes *routes)
{
	bool waited = false;
	for (uint32_t i = 0; i < t->tunnel_cnt; i++) {
		uint16_t under = resolve(t, routes, &t->tunnel[i].param);
		mr_neighbours_lock(t);
		waited |= attach(t, &t->tunnel[i], under);
		mr_neighbours_unlock(t);
	}
	if (waited && t->opt.changed)
		t->opt.changed(t->opt.ctx);
}
