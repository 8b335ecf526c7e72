/* SPDX-License-Identifier: BSD-2-Clause */
/* test_neighbour.c - the slots of neighbours: made, changed, given up.  Who uses them: test_neighbour_use.c. */
#include "neighbour_world.h"

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

Test(neighbour, nothing_to_destroy)
{
	mr_neighbours_destroy(NULL);
}
