/* SPDX-License-Identifier: BSD-2-Clause */
/* test_neighbour_use.c - who uses the slots of neighbours: tunnels, people, workers that run while all of it changes. */
#include "neighbour_world.h"

#include <pthread.h>

/* ---- tunnels ----------------------------------------------------------------------------------------------------- */

/* The routes of these tests: everything to the neighbour `via` (0 = no route). */
static struct world *routed_world;
static uint32_t via;

void mr_routes_lookup(struct mr_routes *r, unsigned interface_id, unsigned family, const void *dst_be, uint64_t hash,
	struct mr_route_answer *out)
{
	memset(out, 0, sizeof(*out));
	out->verdict = MR_ROUTE_DROP;
	(void)r, (void)interface_id, (void)family, (void)dst_be, (void)hash;
	if (!via)
		return;
	out->slot = slot4(routed_world, WAN, via, 0, 1);
	out->verdict = out->slot ? MR_ROUTE_SLOT : MR_ROUTE_KERNEL;
}

Test(neighbour_use, tunnels_follow)
{
	struct world *w = routed_world = world(true, 0);
	struct mr_tunnel p = { .encap = MR_ENCAP_IP4, .src = { 192, 0, 2, 1 }, .dst = { 198, 51, 100, 1 } }, q = p;
	via = 1;
	uint16_t a = mr_neighbours_tunnel(w->t, NULL, &p), under = slot4(w, WAN, 1, 0, 1);
	cr_assert(a && a != under);
	cr_assert_eq(mr_neighbours_tunnel(w->t, NULL, &p), a);
	p.dport = 6080; /* of no meaning without UDP */
	cr_assert_eq(mr_neighbours_tunnel(w->t, NULL, &p), a);
	q.dst[3] = 2;
	uint16_t b = mr_neighbours_tunnel(w->t, NULL, &q);
	cr_assert(b && b != a);

	cr_assert_eq(kind(w, a), MR_NH_RESOLVING);
	mr_neighbours_want(w->t, a);
	mr_neighbours_service(w->t, 10);
	heard(w, WAN, 1, NUD_REACHABLE, mac1);
	cr_assert_eq(w->changed_cnt, 1);
	struct mr_nexthop nh = at(w, a);
	cr_assert_eq(nh.kind, MR_NH_ROUTED);
	cr_assert_eq(nh.encap, MR_ENCAP_IP4);
	cr_assert_eq(nh.outer_ttl, 64);
	cr_assert_eq(nh.outer_dport, 0);
	cr_assert_eq(nh.mtu, 1500);
	cr_assert_eq(nh.egress, 1);
	cr_assert_arr_eq(nh.dmac, mac1, 6);
	cr_assert_arr_eq(&nh.outer_saddr_be, p.src, 16);
	cr_assert_arr_eq(&nh.outer_daddr_be, p.dst, 16);
	heard(w, WAN, 1, NUD_REACHABLE, mac2);
	cr_assert_arr_eq(at(w, a).dmac, mac2, 6);
	cr_assert_arr_eq(at(w, b).dmac, mac2, 6);
	struct mr_neighbour_device d = wan();
	d.mtu = 1400;
	mr_neighbours_device(w->t, &d);
	cr_assert_eq(at(w, b).mtu, 1400);

	heard(w, WAN, 2, NUD_REACHABLE, mac1);
	via = 2;
	mr_neighbours_tunnels_refresh(w->t, NULL);
	cr_assert_arr_eq(at(w, a).dmac, mac1, 6);
	deleted(w, WAN, 2);
	cr_assert_eq(kind(w, a), MR_NH_RESOLVING);
	via = 0;
	mr_neighbours_tunnels_refresh(w->t, NULL);
	cr_assert_eq(kind(w, a), MR_NH_UNREACHABLE);
	cr_assert_eq(at(w, a).encap, MR_ENCAP_IP4);
	mr_neighbours_want(w->t, a);
	mr_neighbours_service(w->t, 20);
	cr_assert_eq(w->changed_cnt, 2, "told at once");

	/* The slot under a tunnel is in use, however long nobody sends by it; tunnels are never freed. */
	via = 1;
	mr_neighbours_tunnels_refresh(w->t, NULL);
	serve(w, 1000, 200000);
	cr_assert_eq(kind(w, under), MR_NH_ROUTED);
	cr_assert_eq(usage(w).slot_cnt, 3);
	cr_assert_eq(usage(w).tunnel_cnt, 2);
	struct mr_tunnel none = { .encap = MR_ENCAP_NONE };
	cr_assert_eq(mr_neighbours_tunnel(w->t, NULL, &none), 0);
	end(w);
}

/* Packets wait for a tunnel whose route moves: they wait for the neighbour it goes by now, and that one is asked for. */
Test(neighbour_use, a_tunnel_that_moves_takes_its_wants_along)
{
	struct world *w = routed_world = world(false, 0);
	struct mr_tunnel p = { .encap = MR_ENCAP_IP4, .src = { 192, 0, 2, 1 }, .dst = { 198, 51, 100, 1 } };
	via = 1;
	uint16_t a = mr_neighbours_tunnel(w->t, NULL, &p);

	mr_neighbours_want(w->t, a);
	mr_neighbours_service(w->t, 1000);
	via = 2;
	mr_neighbours_tunnels_refresh(w->t, NULL);
	mr_neighbours_want(w->t, a); /* the next packet */
	for (unsigned ms = 1000; ms <= 6500; ms += 100)
		mr_neighbours_service(w->t, ms);
	cr_assert_eq(kind(w, a), MR_NH_UNREACHABLE, "nobody answered");
	cr_assert_eq(kind(w, slot4(w, WAN, 2, 0, 1)), MR_NH_UNREACHABLE);
	cr_assert_geq(w->changed_cnt, 1, "who waits is told");
	end(w);
}

/* The clock of 32 bits goes round in 49 days; half of that is not in the future. */
Test(neighbour_use, a_slot_that_served_a_tunnel_for_a_month_is_freed)
{
	struct world *w = routed_world = world(true, 0);
	struct mr_tunnel p = { .encap = MR_ENCAP_IP4, .src = { 192, 0, 2, 1 }, .dst = { 198, 51, 100, 1 } };
	const uint32_t month_ms = 30u * 86400 * 1000;
	via = 1;
	heard(w, WAN, 1, NUD_REACHABLE, mac1);
	uint16_t under = slot4(w, WAN, 1, 0, 1);
	mr_neighbours_tunnel(w->t, NULL, &p);
	mr_neighbours_service(w->t, month_ms);
	heard(w, WAN, 1, NUD_PROBE, mac1);
	heard(w, WAN, 1, NUD_FAILED, NULL);
	cr_assert_eq(kind(w, under), MR_NH_RESOLVING, "nobody has used it for long");
	via = 0;
	mr_neighbours_tunnels_refresh(w->t, NULL);
	serve(w, month_ms, month_ms + 30000);
	cr_assert_eq(kind(w, under), MR_NH_NONE);
	end(w);
}

Test(neighbour_use, tunnel_over_ipv6)
{
	struct world *w = routed_world = world(false, 0);
	struct mr_tunnel p = { .encap = MR_ENCAP_GUE6,
		.ttl = 9,
		.dport = 6080,
		.src = { 0x20, 1, [15] = 1 },
		.dst = { 0x20, 1, [15] = 2 } };
	via = 1;
	heard(w, WAN, 1, NUD_REACHABLE, mac1);
	struct mr_nexthop nh = at(w, mr_neighbours_tunnel(w->t, NULL, &p));
	cr_assert_eq(nh.kind, MR_NH_ROUTED);
	cr_assert_eq(nh.outer_dport, 6080);
	cr_assert_eq(nh.outer_ttl, 9);
	cr_assert_arr_eq(&nh.outer_daddr_be, p.dst, 16);
	end(w);
}

/* ---- for people -------------------------------------------------------------------------------------------------- */

struct seen {
	unsigned cnt;
	struct mr_neighbour_info info[16];
};

static void note(void *ctx, const struct mr_neighbour_info *info)
{
	struct seen *s = ctx;
	s->info[s->cnt++] = *info;
}

Test(neighbour_use, each)
{
	struct world *w = routed_world = world(false, 0);
	struct mr_neighbour_device v = { .ifindex = VLAN, .interface_id = 1, .vlan = 7, .mtu = 1400 };
	struct mr_tunnel p = { .encap = MR_ENCAP_IP4, .dst = { 198, 51, 100, 1 } };
	struct seen s = { 0 };
	heard(w, WAN, 1, NUD_REACHABLE, mac1);
	mr_neighbours_device(w->t, &v);
	slot4(w, WAN, 1, 0, 100);
	slot4(w, WAN, 2, 0, 100);
	slot4(w, VLAN, 3, 0, 100);
	via = 1;
	mr_neighbours_tunnel(w->t, NULL, &p);
	mr_neighbours_each(w->t, 250, note, &s);
	cr_assert_eq(s.cnt, 4);
	cr_assert_str_eq(s.info[0].state, "reachable");
	cr_assert_eq(s.info[0].used_ms_ago, 150);
	cr_assert_eq(s.info[0].ifindex, WAN);
	cr_assert_eq(s.info[0].addr[3], 1);
	cr_assert_arr_eq(s.info[0].mac, mac1, 6);
	cr_assert_str_eq(s.info[1].state, "resolving");
	cr_assert_str_eq(s.info[2].state, "link-down");
	cr_assert_eq(s.info[2].vlan, 7);
	cr_assert_eq(s.info[2].mtu, 1400);
	cr_assert(s.info[3].tunnel);
	cr_assert_eq(s.info[3].addr[0], 198);
	cr_assert_str_eq(s.info[3].state, "reachable");
	deleted(w, WAN, 1);
	s.cnt = 0;
	mr_neighbours_each(w->t, 50, note, &s);
	cr_assert_str_eq(s.info[0].state, "unused");
	cr_assert_eq(s.info[0].used_ms_ago, 0);
	end(w);
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

#define WORKERS 4
#define NAMES   400 /* neighbours */
#define HOLDS   64  /* slots a worker's records refer to */

static bool stop;
static uint32_t clock_ms;

struct holder {
	struct world *w;
	unsigned id;
	unsigned wrong, turns, made;
};

/* A worker: routes packets to neighbours, and keeps some of the slots in records.  What it holds stays the neighbour's: the last two
 * bytes of the MAC are those of the address, whichever MAC it is at the moment. */
static void *hold_slots(void *arg)
{
	struct holder *h = arg;
	struct world *w = h->w;
	uint16_t slot[HOLDS] = { 0 };
	uint32_t name[HOLDS] = { 0 };
	uint64_t seed = 99 + h->id;

	mr_epoch_online(w->epoch, h->id);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		uint32_t now = __atomic_load_n(&clock_ms, __ATOMIC_RELAXED);
		for (unsigned i = 0; i < 32; i++) {
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			unsigned k = (unsigned)(seed >> 33) % HOLDS;
			struct mr_nexthop nh;
			if (slot[k]) {
				mr_nexthops_get(w->nh, slot[k], &nh);
				if (nh.kind == MR_NH_NONE ||
					(nh.kind == MR_NH_ROUTED &&
						(nh.dmac[5] != (uint8_t)name[k] ||
							nh.dmac[4] != (uint8_t)(name[k] >> 8))))
					h->wrong++;
				if (nh.kind == MR_NH_RESOLVING)
					mr_neighbours_want(w->t, slot[k]);
				if (seed >> 57)
					continue;
				__atomic_sub_fetch(&w->refers[slot[k]], 1, __ATOMIC_RELEASE);
			}
			/* a window of names that moves, so that slots fall out of use */
			name[k] = (uint32_t)((seed >> 40) % 100 + now / 4000) % NAMES;
			slot[k] = slot4(w, WAN, name[k], 0, now);
			if (!slot[k])
				continue;
			h->made++;
			if (slot4(w, WAN, name[k], 0, now) != slot[k])
				h->wrong++; /* within a turn nothing is freed */
			mr_neighbours_touch(w->t, slot[k], now);
			__atomic_add_fetch(&w->refers[slot[k]], 1, __ATOMIC_RELEASE);
		}
		__atomic_add_fetch(&h->turns, 1, __ATOMIC_RELAXED);
		mr_epoch_quiet(w->epoch, h->id);
	}
	mr_epoch_offline(w->epoch, h->id);
	return NULL;
}

static void count_key(void *ctx, const struct mr_neighbour_info *info)
{
	unsigned *cnt = ctx;
	cnt[(unsigned)info->addr[2] << 8 | info->addr[3]]++;
}

static bool all_have_turned(struct holder *h, unsigned turns)
{
	for (unsigned i = 0; i < WORKERS; i++)
		if (__atomic_load_n(&h[i].turns, __ATOMIC_RELAXED) < turns)
			return false;
	return true;
}

Test(neighbour_use, workers_and_control)
{
	struct world *w = world(true, 1u << 20);
	pthread_t th[WORKERS];
	struct holder h[WORKERS];
	uint64_t seed = 5;
	unsigned wrong = 0, made = 0;

	for (unsigned i = 0; i < WORKERS; i++) {
		h[i] = (struct holder){ .w = w, .id = i };
		pthread_create(&th[i], NULL, hold_slots, &h[i]);
	}
	/* Until there was enough of everything, however the threads were scheduled. */
	bool enough = false;
	for (unsigned i = 0; i < 6000 || (!enough && i < 500000); i++) {
		enough = all_have_turned(h, 1000) && usage(w).freed_cnt > 50;
		uint8_t mac[6] = { 2, 0 };
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		uint32_t name = (uint32_t)(seed >> 33) % NAMES;
		mac[2] = (uint8_t)(seed >> 20);
		mac[4] = (uint8_t)(name >> 8);
		mac[5] = (uint8_t)name;
		switch (seed >> 61) {
		case 0:
			deleted(w, WAN, name);
			break;
		case 1:
			heard(w, WAN, name, NUD_FAILED, NULL);
			break;
		default:
			heard(w, WAN, name, seed >> 60 & 1 ? NUD_REACHABLE : NUD_STALE, mac);
		}
		if (i % 16 == 0) {
			struct mr_neighbour_device d = wan();
			d.mtu = (uint16_t)(1400 + i % 100);
			mr_neighbours_device(w->t, &d);
		}
		uint32_t now = __atomic_add_fetch(&clock_ms, 2000, __ATOMIC_RELAXED);
		mr_neighbours_service(w->t, now);
		if (i % 500 == 0) {
			unsigned cnt[65536] = { 0 };
			mr_neighbours_each(w->t, now, count_key, cnt);
			for (unsigned k = 0; k < NAMES; k++)
				wrong += cnt[k] > 1;
		}
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < WORKERS; i++) {
		pthread_join(th[i], NULL);
		wrong += h[i].wrong;
		made += h[i].made;
		cr_assert_geq(h[i].turns, 1000);
	}
	cr_assert_eq(wrong, 0);
	cr_assert_gt(made, 1000);
	cr_assert_gt(usage(w).freed_cnt, 50, "slots were freed meanwhile");
	memset(w->refers, 0, sizeof(w->refers));
	serve(w, clock_ms, clock_ms + 200000);
	cr_assert_eq(usage(w).slot_cnt, 0);
	end(w);
}
