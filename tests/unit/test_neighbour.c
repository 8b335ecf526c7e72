/* SPDX-License-Identifier: BSD-2-Clause */
/* test_neighbour.c - the slots of neighbours without a kernel: what is said about neighbours and devices is said here. */
#include "core/neighbour.h"

#include "core/route.h"
#include <criterion/criterion.h>
#include <linux/neighbour.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define WAN      10u
#define LAN      11u
#define VLAN     12u
#define SLOT_MAX (MR_MAX_NEXTHOPS - MR_NEXTHOP_FIRST_FREE)

static const uint8_t wan_mac[6] = { 2, 0, 0, 0, 0, 0x10 };
static const uint8_t mac1[6] = { 2, 0, 0, 0, 1, 1 }, mac2[6] = { 2, 0, 0, 0, 1, 2 };

struct world {
	struct mr_nexthops *nh;
	struct mr_epoch *epoch;
	struct mr_neighbours *t;
	unsigned changed_cnt;
	unsigned referred_cnt;
	uint8_t refers[MR_MAX_NEXTHOPS];
};

static void on_changed(void *ctx)
{
	((struct world *)ctx)->changed_cnt++;
}

static void on_referred(void *ctx, void (*mark)(void *arg, uint16_t slot), void *arg)
{
	struct world *w = ctx;
	w->referred_cnt++;
	for (uint32_t i = 1; i < MR_MAX_NEXTHOPS; i++)
		if (__atomic_load_n(&w->refers[i], __ATOMIC_ACQUIRE))
			mark(arg, (uint16_t)i);
}

static struct mr_neighbour_device wan(void)
{
	struct mr_neighbour_device d = { .ifindex = WAN, .interface_id = 1, .mtu = 1500, .up = true };
	memcpy(d.mac, wan_mac, 6);
	return d;
}

static struct world *world(bool freeing, uint32_t resolving_max)
{
	struct world *w = calloc(1, sizeof(*w));
	struct mr_neighbours_options opt = { .changed = on_changed, .ctx = w, .resolving_max = resolving_max };
	struct mr_neighbour_device d = wan();
	struct mr_error e = { "" };

	opt.nexthops = w->nh = mr_nexthops_create();
	opt.epoch = w->epoch = mr_epoch_create();
	opt.referred = freeing ? on_referred : NULL;
	cr_assert_eq(mr_neighbours_create(&opt, true, &w->t, &e), 0, "%s", e.text);
	mr_neighbours_device(w->t, &d);
	return w;
}

static void end(struct world *w)
{
	mr_neighbours_destroy(w->t);
	mr_nexthops_destroy(w->nh);
	mr_epoch_destroy(w->epoch);
	free(w);
}

static void addr4(uint8_t a[16], uint32_t n)
{
	memset(a, 0, 16);
	a[0] = 10;
	a[1] = (uint8_t)(n >> 16);
	a[2] = (uint8_t)(n >> 8);
	a[3] = (uint8_t)n;
}

static uint16_t slot4(struct world *w, uint32_t ifindex, uint32_t n, uint16_t mtu, uint32_t now_ms)
{
	uint8_t a[16];
	addr4(a, n);
	return mr_neighbours_slot(w->t, ifindex, 4, a, mtu, now_ms);
}

static void heard(struct world *w, uint32_t ifindex, uint32_t n, uint16_t state, const uint8_t *mac)
{
	struct mr_rtnl_neigh m = { .ifindex = ifindex, .family = 4, .state = state, .has_mac = mac };
	addr4(m.addr, n);
	if (mac)
		memcpy(m.mac, mac, 6);
	mr_neighbours_heard(w->t, &m, false);
}

static void deleted(struct world *w, uint32_t ifindex, uint32_t n)
{
	struct mr_rtnl_neigh m = { .ifindex = ifindex, .family = 4, .state = NUD_REACHABLE, .has_mac = true };
	addr4(m.addr, n);
	mr_neighbours_heard(w->t, &m, true);
}

static struct mr_nexthop at(struct world *w, uint16_t slot)
{
	struct mr_nexthop nh;
	mr_nexthops_get(w->nh, slot, &nh);
	return nh;
}

static unsigned kind(struct world *w, uint16_t slot)
{
	return at(w, slot).kind;
}

static struct mr_neighbours_usage usage(struct world *w)
{
	struct mr_neighbours_usage u;
	mr_neighbours_usage(w->t, &u);
	return u;
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

Test(neighbour, one_slot_for_one_neighbour)
{
	struct world *w = world(false, 0);
	uint8_t six[16] = { 0x20, 1, 0x0d, 0xb8, [15] = 1 };
	uint16_t a = slot4(w, WAN, 1, 0, 100), b = slot4(w, WAN, 2, 0, 100);
	uint16_t c = mr_neighbours_slot(w->t, WAN, 6, six, 0, 100);

	cr_assert_geq(a, MR_NEXTHOP_FIRST_FREE);
	cr_assert(a != b && b != c && a != c && b && c);
	cr_assert_eq(slot4(w, WAN, 1, 0, 200), a);
	cr_assert_eq(mr_neighbours_slot(w->t, WAN, 6, six, 0, 200), c);
	struct mr_nexthop nh = at(w, a);
	cr_assert_eq(nh.kind, MR_NH_RESOLVING);
	cr_assert_eq(nh.egress, 1);
	cr_assert_eq(nh.ifindex, WAN);
	cr_assert_eq(nh.mtu, 1500);
	cr_assert_eq(nh.flags, 0);
	cr_assert_arr_eq(nh.smac, wan_mac, 6);
	cr_assert_eq(usage(w).slot_cnt, 3);
	cr_assert_eq(usage(w).resolving_cnt, 3);
	end(w);
}

Test(neighbour, what_the_kernel_knows_already_is_routed_at_once)
{
	static const uint16_t valid[] = { NUD_REACHABLE, NUD_STALE, NUD_DELAY, NUD_PROBE, NUD_PERMANENT, NUD_NOARP };
	struct world *w = world(false, 0);

	for (unsigned i = 0; i < 6; i++) {
		heard(w, WAN, i, valid[i], mac1);
		uint16_t slot = slot4(w, WAN, i, 0, 1);
		cr_assert_eq(kind(w, slot), MR_NH_ROUTED, "state %u", valid[i]);
		cr_assert_arr_eq(at(w, slot).dmac, mac1, 6);
	}
	heard(w, WAN, 20, NUD_NOARP, NULL); /* a device without MACs */
	heard(w, WAN, 21, NUD_INCOMPLETE, NULL);
	heard(w, WAN, 22, NUD_FAILED, NULL);
	for (unsigned i = 20; i < 23; i++)
		cr_assert_eq(kind(w, slot4(w, WAN, i, 0, 1)), MR_NH_RESOLVING);
	heard(w, LAN, 1, NUD_REACHABLE, mac1); /* not a device of ours yet */
	cr_assert_eq(slot4(w, LAN, 1, 0, 1), 0);
	struct mr_neighbour_device lan = { .ifindex = LAN, .interface_id = 2, .mtu = 9000, .up = true };
	mr_neighbours_device(w->t, &lan);
	cr_assert_eq(kind(w, slot4(w, LAN, 1, 0, 1)), MR_NH_ROUTED);
	cr_assert_eq(usage(w).known_cnt, 7);
	end(w);
}

Test(neighbour, mtu_of_route_and_device)
{
	struct world *w = world(false, 0);
	uint16_t a = slot4(w, WAN, 1, 0, 1), b = slot4(w, WAN, 1, 1400, 1), c = slot4(w, WAN, 1, 9000, 1);
	struct mr_neighbour_device d = wan();

	cr_assert(a != b && b != c && a != c);
	cr_assert_eq(at(w, a).mtu, 1500);
	cr_assert_eq(at(w, b).mtu, 1400);
	cr_assert_eq(at(w, c).mtu, 1500);
	heard(w, WAN, 1, NUD_REACHABLE, mac1);
	cr_assert(kind(w, a) == MR_NH_ROUTED && kind(w, b) == MR_NH_ROUTED && kind(w, c) == MR_NH_ROUTED);
	d.mtu = 1300;
	d.mac[5] = 0x77;
	mr_neighbours_device(w->t, &d);
	cr_assert(at(w, a).mtu == 1300 && at(w, b).mtu == 1300 && at(w, c).mtu == 1300);
	cr_assert_eq(at(w, b).smac[5], 0x77);
	cr_assert_arr_eq(at(w, b).dmac, mac1, 6);
	d.mtu = 9000;
	mr_neighbours_device(w->t, &d);
	cr_assert(at(w, a).mtu == 9000 && at(w, b).mtu == 1400 && at(w, c).mtu == 9000);
	end(w);
}

Test(neighbour, vlan_device)
{
	struct world *w = world(false, 0);
	struct mr_neighbour_device v = { .ifindex = VLAN, .interface_id = 1, .vlan = 100, .mtu = 1496, .up = true };
	memcpy(v.mac, wan_mac, 6);
	mr_neighbours_device(w->t, &v);
	uint16_t slot = slot4(w, VLAN, 1, 0, 1);
	struct mr_nexthop nh = at(w, slot);

	cr_assert_eq(nh.flags, MR_NH_PUSH_VLAN);
	cr_assert_eq(nh.vlan_tci, 100);
	cr_assert_eq(nh.egress, 1);
	cr_assert_eq(nh.ifindex, WAN, "the wire under it");
	cr_assert_eq(nh.mtu, 1496);
	/* The wire is replaced. */
	struct mr_neighbour_device gone = { .ifindex = WAN }, other = wan();
	mr_neighbours_device(w->t, &gone);
	other.ifindex = 99;
	mr_neighbours_device(w->t, &other);
	cr_assert_eq(at(w, slot).ifindex, 99);
	end(w);
}

Test(neighbour, refusals)
{
	struct world *w = world(false, 3);
	cr_assert_eq(slot4(w, 77, 1, 0, 1), 0);
	cr_assert_eq(usage(w).refused_cnt, 1);
	uint16_t a = slot4(w, WAN, 1, 0, 1);
	cr_assert(slot4(w, WAN, 2, 0, 1) && slot4(w, WAN, 3, 0, 1));
	cr_assert_eq(slot4(w, WAN, 4, 0, 1), 0);
	cr_assert_eq(usage(w).refused_cnt, 2);
	cr_assert_eq(slot4(w, WAN, 1, 0, 1), a);
	heard(w, WAN, 4, NUD_STALE, mac2); /* known: there is nothing to resolve */
	cr_assert_neq(slot4(w, WAN, 4, 0, 1), 0);
	heard(w, WAN, 1, NUD_REACHABLE, mac1);
	cr_assert_neq(slot4(w, WAN, 5, 0, 1), 0);
	end(w);
}

/* ---- what changes ------------------------------------------------------------------------------------------------ */

Test(neighbour, resolved_changed_deleted)
{
	struct world *w = world(false, 0);
	uint16_t a = slot4(w, WAN, 1, 0, 1), b = slot4(w, WAN, 2, 0, 1);

	mr_neighbours_want(w->t, a);
	mr_neighbours_service(w->t, 1);
	cr_assert_eq(w->changed_cnt, 0);
	heard(w, WAN, 1, NUD_REACHABLE, mac1);
	cr_assert_eq(kind(w, a), MR_NH_ROUTED);
	cr_assert_arr_eq(at(w, a).dmac, mac1, 6);
	cr_assert_eq(w->changed_cnt, 1, "packets waited for it");
	cr_assert_eq(kind(w, b), MR_NH_RESOLVING, "another neighbour");
	heard(w, WAN, 1, NUD_STALE, mac2);
	cr_assert_arr_eq(at(w, a).dmac, mac2, 6);
	cr_assert_eq(w->changed_cnt, 1, "nobody waited");
	deleted(w, WAN, 1);
	cr_assert_eq(kind(w, a), MR_NH_RESOLVING);
	cr_assert_eq(usage(w).resolving_cnt, 1, "only the other one is being asked for");
	cr_assert_eq(slot4(w, WAN, 1, 0, 2), a);
	mr_neighbours_want(w->t, a);
	mr_neighbours_service(w->t, 3);
	cr_assert_eq(usage(w).resolving_cnt, 2);
	heard(w, WAN, 1, NUD_INCOMPLETE, NULL);
	cr_assert_eq(kind(w, a), MR_NH_RESOLVING);
	heard(w, WAN, 1, NUD_REACHABLE, mac1);
	cr_assert_eq(kind(w, a), MR_NH_ROUTED);
	cr_assert_eq(w->changed_cnt, 2);
	heard(w, WAN, 1, NUD_INCOMPLETE, NULL);
	cr_assert_eq(kind(w, a), MR_NH_RESOLVING);
	end(w);
}

Test(neighbour, failed_for_a_second)
{
	struct world *w = world(false, 0);
	uint16_t a = slot4(w, WAN, 1, 0, 1000);

	mr_neighbours_want(w->t, a);
	mr_neighbours_service(w->t, 1000);
	heard(w, WAN, 1, NUD_FAILED, NULL);
	cr_assert_eq(kind(w, a), MR_NH_UNREACHABLE);
	cr_assert_eq(w->changed_cnt, 1);
	mr_neighbours_service(w->t, 1999);
	cr_assert_eq(kind(w, a), MR_NH_UNREACHABLE);
	mr_neighbours_service(w->t, 2000);
	cr_assert_eq(kind(w, a), MR_NH_RESOLVING, "the next packet asks again");
	cr_assert_eq(usage(w).resolving_cnt, 0);
	cr_assert_eq(usage(w).failed_cnt, 1);
	mr_neighbours_want(w->t, a);
	mr_neighbours_service(w->t, 2001);
	cr_assert_eq(usage(w).resolving_cnt, 1);
	heard(w, WAN, 1, NUD_REACHABLE, mac1);
	/* In use, then it fails: who sends is told.  Not in use: nobody is. */
	mr_neighbours_touch(w->t, a, 5000);
	mr_neighbours_service(w->t, 6000);
	heard(w, WAN, 1, NUD_FAILED, NULL);
	cr_assert_eq(kind(w, a), MR_NH_RESOLVING, "not probed: somebody deletes it");
	heard(w, WAN, 1, NUD_PROBE, mac1);
	heard(w, WAN, 1, NUD_FAILED, NULL);
	cr_assert_eq(kind(w, a), MR_NH_UNREACHABLE);
	heard(w, WAN, 1, NUD_REACHABLE, mac1);
	cr_assert_eq(kind(w, a), MR_NH_ROUTED, "good news are taken at any time");
	mr_neighbours_service(w->t, 60000);
	heard(w, WAN, 1, NUD_PROBE, mac1);
	heard(w, WAN, 1, NUD_FAILED, NULL);
	cr_assert_eq(kind(w, a), MR_NH_RESOLVING);
	cr_assert_eq(usage(w).resolving_cnt, 0);
	end(w);
}

Test(neighbour, no_answer)
{
	struct world *w = world(false, 0);
	uint16_t a = slot4(w, WAN, 1, 0, 1000), idle = slot4(w, WAN, 2, 0, 1000);

	mr_neighbours_want(w->t, a);
	for (unsigned ms = 1000; ms < 6000; ms += 100)
		mr_neighbours_service(w->t, ms);
	cr_assert_eq(kind(w, a), MR_NH_RESOLVING);
	mr_neighbours_service(w->t, 6000);
	cr_assert_eq(kind(w, a), MR_NH_UNREACHABLE);
	cr_assert_eq(w->changed_cnt, 1);
	cr_assert_eq(kind(w, idle), MR_NH_RESOLVING, "no packet waited for it");
	cr_assert_eq(usage(w).resolving_cnt, 0);
	mr_neighbours_service(w->t, 7000);
	cr_assert_eq(kind(w, a), MR_NH_RESOLVING);
	end(w);
}

/* A slot made for nobody: the first packet comes late, and has the whole time all the same. */
Test(neighbour, wanted_late_is_asked_for_as_long)
{
	struct world *w = world(false, 0);
	uint16_t a = slot4(w, WAN, 1, 0, 1000);

	mr_neighbours_service(w->t, 5900);
	mr_neighbours_want(w->t, a);
	mr_neighbours_service(w->t, 5901);
	mr_neighbours_service(w->t, 6100);
	cr_assert_eq(kind(w, a), MR_NH_RESOLVING);
	mr_neighbours_service(w->t, 10900);
	cr_assert_eq(kind(w, a), MR_NH_RESOLVING);
	mr_neighbours_service(w->t, 10901);
	cr_assert_eq(kind(w, a), MR_NH_UNREACHABLE);
	end(w);
}

/* A worker that read RESOLVING just before it was resolved says so just after. */
Test(neighbour, wanted_too_late)
{
	struct world *w = world(false, 0);
	uint16_t a = slot4(w, WAN, 1, 0, 1);
	heard(w, WAN, 1, NUD_REACHABLE, mac1);
	mr_neighbours_want(w->t, a);
	cr_assert_eq(w->changed_cnt, 0);
	mr_neighbours_service(w->t, 2);
	cr_assert_eq(w->changed_cnt, 1);
	mr_neighbours_service(w->t, 3);
	cr_assert_eq(w->changed_cnt, 1);
	end(w);
}

Test(neighbour, wanted_above_the_bound_waits_its_turn)
{
	struct world *w = world(false, 1);
	heard(w, WAN, 1, NUD_REACHABLE, mac1);
	uint16_t a = slot4(w, WAN, 1, 0, 1), b = slot4(w, WAN, 2, 0, 1);
	mr_neighbours_want(w->t, b);
	deleted(w, WAN, 1);
	mr_neighbours_want(w->t, a);
	mr_neighbours_service(w->t, 10);
	cr_assert_eq(usage(w).resolving_cnt, 1);
	heard(w, WAN, 2, NUD_REACHABLE, mac2);
	cr_assert_eq(usage(w).resolving_cnt, 0);
	mr_neighbours_service(w->t, 20);
	cr_assert_eq(usage(w).resolving_cnt, 1, "the next");
	heard(w, WAN, 1, NUD_REACHABLE, mac1);
	cr_assert_eq(w->changed_cnt, 2);
	end(w);
}

Test(neighbour, dump_takes_what_it_does_not_name_for_deleted)
{
	struct world *w = world(false, 0);
	for (unsigned i = 1; i <= 3; i++)
		heard(w, WAN, i, NUD_REACHABLE, mac1);
	uint16_t a = slot4(w, WAN, 1, 0, 1), b = slot4(w, WAN, 2, 0, 1), c = slot4(w, WAN, 3, 0, 1);
	mr_neighbours_dump_end(w->t); /* none was begun */
	mr_neighbours_dump_begin(w->t);
	heard(w, WAN, 1, NUD_STALE, mac2);
	heard(w, WAN, 4, NUD_REACHABLE, mac2);
	cr_assert_eq(kind(w, b), MR_NH_ROUTED);
	mr_neighbours_dump_end(w->t);
	cr_assert_eq(kind(w, a), MR_NH_ROUTED);
	cr_assert_arr_eq(at(w, a).dmac, mac2, 6);
	cr_assert_eq(kind(w, b), MR_NH_RESOLVING);
	cr_assert_eq(kind(w, c), MR_NH_RESOLVING);
	cr_assert_eq(usage(w).known_cnt, 2);
	end(w);
}

Test(neighbour, known_table_is_bounded)
{
	struct world *w = world(false, 0);
	for (unsigned i = 0; i < 70000; i++)
		heard(w, WAN, i, NUD_REACHABLE, mac1);
	cr_assert_eq(usage(w).known_cnt, 65536);
	for (unsigned i = 0; i < 70000; i += 2)
		deleted(w, WAN, i);
	cr_assert_eq(usage(w).known_cnt, 32768);
	for (unsigned i = 0; i < 1000; i++)
		cr_assert_eq(kind(w, slot4(w, WAN, i, 0, 1)), i % 2 ? MR_NH_ROUTED : MR_NH_RESOLVING);
	heard(w, WAN, 69999, NUD_REACHABLE, mac2);
	cr_assert_eq(kind(w, slot4(w, WAN, 69999, 0, 1)), MR_NH_ROUTED);
	end(w);
}

Test(neighbour, not_of_interest)
{
	struct world *w = world(false, 0);
	struct mr_rtnl_neigh n = {
		.ifindex = WAN, .family = 4, .state = NUD_NOARP, .has_mac = true, .addr = { 224, 0, 0, 1 }
	};
	mr_neighbours_heard(w->t, &n, false);
	n = (struct mr_rtnl_neigh){
		.ifindex = WAN, .family = 6, .state = NUD_NOARP, .has_mac = true, .addr = { 0xff, 2 }
	};
	mr_neighbours_heard(w->t, &n, false);
	n = (struct mr_rtnl_neigh){ .ifindex = WAN, .family = 7, .state = NUD_REACHABLE, .has_mac = true };
	mr_neighbours_heard(w->t, &n, false);
	n = (struct mr_rtnl_neigh){ .ifindex = WAN, .family = 4, .flags = NTF_PROXY, .has_mac = true, .addr = { 10 } };
	mr_neighbours_heard(w->t, &n, false);
	cr_assert_eq(usage(w).known_cnt, 0);
	end(w);
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

Test(neighbour, device_down_gone_and_back)
{
	struct world *w = world(false, 0);
	heard(w, WAN, 1, NUD_REACHABLE, mac1);
	uint16_t a = slot4(w, WAN, 1, 0, 1), b = slot4(w, WAN, 2, 0, 1);
	struct mr_neighbour_device d = wan();

	d.up = false;
	mr_neighbours_device(w->t, &d);
	cr_assert_eq(kind(w, a), MR_NH_ROUTED, "what is known stays");
	mr_neighbours_want(w->t, b);
	mr_neighbours_service(w->t, 10);
	cr_assert_eq(kind(w, b), MR_NH_UNREACHABLE, "nobody can be asked");
	cr_assert_eq(w->changed_cnt, 1);
	d.up = true;
	mr_neighbours_device(w->t, &d);
	cr_assert_eq(kind(w, b), MR_NH_RESOLVING, "up again: not a second longer");
	d.interface_id = 0;
	mr_neighbours_device(w->t, &d);
	cr_assert_eq(kind(w, a), MR_NH_NONE);
	cr_assert_eq(kind(w, b), MR_NH_NONE);
	cr_assert_eq(slot4(w, WAN, 1, 0, 2), 0);
	heard(w, WAN, 1, NUD_REACHABLE, mac2);
	cr_assert_eq(kind(w, a), MR_NH_NONE);
	d.interface_id = 3;
	mr_neighbours_device(w->t, &d);
	cr_assert_eq(kind(w, a), MR_NH_ROUTED);
	cr_assert_eq(at(w, a).egress, 3);
	cr_assert_arr_eq(at(w, a).dmac, mac2, 6);
	cr_assert_eq(slot4(w, WAN, 1, 0, 3), a, "the slot it has");
	cr_assert_eq(usage(w).slot_cnt, 2);
	end(w);
}

/* ---- freeing ----------------------------------------------------------------------------------------------------- */

static void serve(struct world *w, uint32_t from_ms, uint32_t to_ms)
{
	for (uint32_t ms = from_ms; ms <= to_ms; ms += 500)
		mr_neighbours_service(w->t, ms);
}

Test(neighbour, unused_slots_are_freed)
{
	struct world *w = world(true, 0);
	heard(w, WAN, 1, NUD_REACHABLE, mac1);
	heard(w, WAN, 2, NUD_REACHABLE, mac1);
	uint16_t a = slot4(w, WAN, 1, 0, 0), b = slot4(w, WAN, 2, 0, 0), c = slot4(w, WAN, 3, 0, 0);
	w->refers[b] = 1;
	serve(w, 0, 50000);
	cr_assert_eq(usage(w).slot_cnt, 3);
	mr_neighbours_touch(w->t, c, 50000);
	serve(w, 50000, 75000);
	cr_assert_eq(kind(w, a), MR_NH_NONE);
	cr_assert_eq(kind(w, b), MR_NH_ROUTED, "a record refers to it");
	cr_assert_eq(kind(w, c), MR_NH_RESOLVING, "in use");
	cr_assert_eq(usage(w).slot_cnt, 2);
	cr_assert_eq(usage(w).freed_cnt, 1);
	/* The one out of the index is served as before, and taken back when somebody asks for it. */
	heard(w, WAN, 2, NUD_REACHABLE, mac2);
	cr_assert_arr_eq(at(w, b).dmac, mac2, 6);
	cr_assert_eq(slot4(w, WAN, 2, 0, 75000), b);
	uint16_t again = slot4(w, WAN, 1, 0, 75000);
	cr_assert(again && again != b && again != c);
	w->refers[b] = 0;
	serve(w, 75000, 160000);
	cr_assert_eq(usage(w).slot_cnt, 0);
	end(w);
}

Test(neighbour, an_online_worker_holds_up_freeing)
{
	struct world *w = world(true, 0);
	heard(w, WAN, 1, NUD_REACHABLE, mac1);
	uint16_t a = slot4(w, WAN, 1, 0, 0);
	mr_epoch_online(w->epoch, 3);
	serve(w, 0, 100000);
	cr_assert_eq(kind(w, a), MR_NH_ROUTED);
	mr_epoch_quiet(w->epoch, 3);
	serve(w, 100000, 101000);
	cr_assert_eq(kind(w, a), MR_NH_NONE);
	mr_epoch_offline(w->epoch, 3);
	end(w);
}

Test(neighbour, touched_after_it_left_the_index)
{
	struct world *w = world(true, 0);
	heard(w, WAN, 1, NUD_REACHABLE, mac1);
	uint16_t a = slot4(w, WAN, 1, 0, 0);
	mr_epoch_online(w->epoch, 3);
	serve(w, 0, 61000);
	mr_neighbours_touch(w->t, a, 61500);
	mr_epoch_offline(w->epoch, 3);
	serve(w, 62000, 63000);
	cr_assert_eq(kind(w, a), MR_NH_ROUTED);
	serve(w, 63000, 100000);
	cr_assert_eq(kind(w, a), MR_NH_NONE);
	end(w);
}

Test(neighbour, nothing_is_freed_when_nobody_can_say_who_refers)
{
	struct world *w = world(false, 0);
	slot4(w, WAN, 1, 0, 0);
	serve(w, 0, 200000);
	cr_assert_eq(usage(w).slot_cnt, 1);
	end(w);
}

Test(neighbour, all_slots)
{
	struct world *w = world(true, 1u << 20);
	for (uint32_t i = 0; i < SLOT_MAX; i++)
		cr_assert_neq(slot4(w, WAN, i, 0, 0), 0, "%u", i);
	cr_assert_eq(slot4(w, WAN, SLOT_MAX, 0, 0), 0);
	cr_assert_eq(usage(w).slot_cnt, SLOT_MAX);
	cr_assert_eq(usage(w).slot_max, SLOT_MAX);
	for (uint32_t i = 0; i < SLOT_MAX; i += 3)
		heard(w, WAN, i, NUD_REACHABLE, mac1);
	for (uint32_t i = 0; i < SLOT_MAX; i += 97)
		cr_assert_eq(kind(w, slot4(w, WAN, i, 0, 0)), i % 3 ? MR_NH_RESOLVING : MR_NH_ROUTED);
	/* Scarce: those without a MAC go first, and sooner. */
	serve(w, 0, 9500);
	cr_assert_leq(usage(w).slot_cnt, SLOT_MAX - SLOT_MAX / 4);
	cr_assert_geq(usage(w).slot_cnt, SLOT_MAX / 3);
	cr_assert_neq(slot4(w, WAN, SLOT_MAX, 0, 9500), 0);
	cr_assert_eq(kind(w, slot4(w, WAN, 0, 0, 9500)), MR_NH_ROUTED);
	end(w);
}

/* Makes and frees for a long while: what is found is always what was made. */
Test(neighbour, churn)
{
	enum { KEYS = 3000 };
	struct world *w = world(true, 1u << 20);
	uint16_t *slot_of = calloc(KEYS, sizeof(*slot_of));
	uint32_t *used = calloc(KEYS, sizeof(*used));
	uint64_t seed = 7;
	for (uint32_t now = 0; now < 1500000; now += 500) {
		for (unsigned i = 0; i < 40; i++) {
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			/* a window of keys in use that moves */
			uint32_t key = (uint32_t)((seed >> 33) % 300 + now / 500) % KEYS;
			uint16_t slot = slot4(w, WAN, key, 0, now);
			cr_assert_neq(slot, 0);
			if (slot_of[key] && now - used[key] < 60000)
				cr_assert_eq(slot, slot_of[key]);
			mr_neighbours_touch(w->t, slot, now);
			slot_of[key] = slot;
			used[key] = now;
		}
		mr_neighbours_service(w->t, now);
	}
	cr_assert_gt(usage(w).freed_cnt, KEYS / 2);
	cr_assert_lt(usage(w).slot_cnt, 700);
	free(used);
	free(slot_of);
	end(w);
}

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

Test(neighbour, tunnels_follow)
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
Test(neighbour, a_tunnel_that_moves_takes_its_wants_along)
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
Test(neighbour, a_slot_that_served_a_tunnel_for_a_month_is_freed)
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

Test(neighbour, tunnel_over_ipv6)
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

Test(neighbour, each)
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

Test(neighbour, nothing_to_destroy)
{
	mr_neighbours_destroy(NULL);
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

Test(neighbour, workers_and_control)
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
