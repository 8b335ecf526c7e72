/* SPDX-License-Identifier: BSD-2-Clause */
/* test_tier.c - what the kernel tier is told of a plan, in plain memory; what others keep in memory of its. */
#include "core/tier_table.h"

#include "core/flow.h"
#include "core/neighbour.h"
#include "core/nexthop.h"
#include "core/plan.h"
#include "core/stats.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WAN 3
#define LAN 5

static struct mr_tier_maps t;
static struct mr_tier *shared;
static struct mr_plan *plan;

static void up(void)
{
	shared = calloc(1, sizeof(*shared));
	plan = calloc(1, sizeof(*plan));
	t.at[MR_TIER_MAP_TIER] = shared;
	plan->generation = 7;
	plan->interface[WAN] = (struct mr_plan_interface){ .name = "wan",
		.zone = 16,
		.vlan_mask = 0xfff,
		.key_only = true,
		.mac = { 2, 0, 0, 0, 0, 3 },
		.pipeline_cnt = 2,
		.pipeline = { 4, 9 },
		.ingress = { 11, 12 },
		.ingress_none = 10 };
	plan->interface[LAN] = (struct mr_plan_interface){
		.name = "lan", .zone = 17, .pipeline_cnt = 1, .pipeline = { 9 }, .ingress = { 14 }, .ingress_none = 13
	};
	plan->ingress[10] = (struct mr_plan_ingress){ WAN, 0xff, 0, 0 };
	plan->ingress[11] = (struct mr_plan_ingress){ WAN, 4, MR_OFFLOAD_NEVER, 0 };
	plan->ingress[12] = (struct mr_plan_ingress){ WAN, 9, MR_OFFLOAD_ESTABLISHED, 0 };
	plan->ingress[14] = (struct mr_plan_ingress){ LAN, 9, MR_OFFLOAD_NEVER, 0 };
}

static void down(void)
{
	free(shared);
	free(plan);
}

TestSuite(tier, .init = up, .fini = down);

Test(tier, a_plan_is_told_by_the_numbers_of_steering)
{
	const struct mr_tier_half *half = &shared->half[1];
	plan->tier_half = 1;
	mr_tier_publish(&t, plan);
	cr_assert_eq(shared->word, MR_TIER_WORD(7, 1));
	cr_assert_eq(MR_TIER_GENERATION(shared->word), 7);
	cr_assert_eq(MR_TIER_HALF(shared->word), 1);
	cr_assert(half->ingress[11].interface_id == WAN && half->ingress[11].steer_pipeline == 0);
	cr_assert(half->ingress[12].interface_id == WAN && half->ingress[12].steer_pipeline == 1);
	cr_assert(half->ingress[14].interface_id == LAN && half->ingress[14].steer_pipeline == 0);
	cr_assert_eq(half->ingress[10].interface_id, 0, "frames of no pipeline have no records");
	cr_assert_eq(half->ingress[1].interface_id, 0);
	cr_assert(half->interface[WAN].zone == 16 && half->interface[WAN].vlan_mask == 0xfff);
	cr_assert_eq(half->interface[WAN].flags, MR_TIER_KEY_ONLY);
	cr_assert_eq(half->interface[WAN].mac[5], 3);
	cr_assert_eq(half->interface[LAN].zone, 0, "nothing of it is offloaded: its packets are not looked up");
	cr_assert_eq(shared->half[0].interface[WAN].zone, 0, "the other half is another plan's");
}

Test(tier, a_device_that_changed_changes_the_half_in_force)
{
	plan->tier_half = 0;
	mr_tier_publish(&t, plan);
	plan->interface[WAN].mac[5] = 4;
	plan->ingress[14].offload = MR_OFFLOAD_ALWAYS;
	mr_tier_publish(&t, plan);
	cr_assert_eq(shared->word, MR_TIER_WORD(7, 0));
	cr_assert_eq(shared->half[0].interface[WAN].mac[5], 4);
	cr_assert(shared->half[0].interface[LAN].zone == 17 && !shared->half[0].interface[LAN].flags);
	plan->ingress[12].offload = MR_OFFLOAD_NEVER; /* opened again in generic mode */
	mr_tier_publish(&t, plan);
	cr_assert_eq(shared->half[0].interface[WAN].zone, 0);
}

Test(tier, a_plan_without_a_half_offloads_nothing)
{
	plan->tier_half = 0;
	mr_tier_publish(&t, plan);
	struct mr_plan next = *plan;
	next.generation = 8;
	next.tier_half = -1;
	mr_tier_publish(&t, &next);
	cr_assert_eq(shared->word, 0);
	mr_tier_publish(&t, plan); /* it was given up: the one before again */
	cr_assert_eq(shared->word, MR_TIER_WORD(7, 0));
	cr_assert_eq(shared->half[0].ingress[12].steer_pipeline, 1);
}

Test(tier, generations_and_halves_do_not_meet_in_the_word)
{
	plan->generation = 65535;
	plan->tier_half = 1;
	mr_tier_publish(&t, plan);
	cr_assert_eq(MR_TIER_GENERATION(shared->word), 65535);
	cr_assert_eq(MR_TIER_HALF(shared->word), 1);
}

Test(tier, beats_are_seldom_stores)
{
	shared->heartbeat_ns = 1000000000;
	mr_tier_beat(shared, 1015999999);
	cr_assert_eq(shared->heartbeat_ns, 1000000000);
	mr_tier_beat(shared, 1016000000);
	cr_assert_eq(shared->heartbeat_ns, 1016000000);
	mr_tier_beat(shared, 1015000000);
	cr_assert_eq(shared->heartbeat_ns, 1016000000, "another's clock is a little behind");
}

Test(tier, a_heart_that_stopped_is_only_woken)
{
	const uint64_t stop_ns = 1000000000, long_ns = MR_TIER_HEARTBEAT_MS * 1000000ull;
	mr_tier_wake(shared, stop_ns);
	cr_assert(!mr_tier_stopped(shared, stop_ns) && !mr_tier_stopped(shared, stop_ns + long_ns / 2));
	cr_assert(mr_tier_stopped(shared, stop_ns + long_ns), "packets may have come up by now");
	mr_tier_beat(shared, stop_ns + long_ns);
	cr_assert_eq(shared->heartbeat_ns, stop_ns);
	mr_tier_wake(shared, stop_ns + long_ns);
	mr_tier_beat(shared, stop_ns + long_ns + long_ns / 4);
	cr_assert_eq(shared->heartbeat_ns, stop_ns + long_ns + long_ns / 4);
}

Test(tier, what_is_no_flow_table_makes_none)
{
	struct mr_tier_maps *made = (void *)&t;
	struct mr_error e = { "" };
	struct mr_tier_options opt = { .flows_bytes = {
					       2 * sizeof(struct mr_bucket4), 3 * sizeof(struct mr_bucket6) + 1 } };
	cr_assert_eq(mr_tier_create(&opt, &made, &e), -EINVAL);
	cr_assert_eq(made, (void *)&t);
	opt.flows_bytes[1] = sizeof(struct mr_bucket6);
	cr_assert_eq(mr_tier_create(&opt, &made, &e), -EINVAL, "one bucket has no second one");
	mr_tier_destroy(NULL);
}

Test(tier, what_the_machine_does_not_have_is_not_asked_for)
{
	struct mr_tier_maps *made = (void *)&t;
	struct mr_error e = { "" };
	struct mr_tier_options opt = { .flows_bytes = { ((size_t)1 << 36) * sizeof(struct mr_bucket4),
					       2 * sizeof(struct mr_bucket6) } };
	cr_assert_eq(mr_tier_create(&opt, &made, &e), -ENOMEM);
	cr_assert_eq(made, (void *)&t);
	cr_expect(strstr(e.text, "flows.capacity") && strstr(e.text, "MiB are available"), "%s", e.text);
}

/* ---- memory given ----------------------------------------------------------------------------------------------- */

Test(tier, next_hops_lie_where_they_are_told)
{
	struct mr_nexthop *memory = aligned_alloc(64, MR_MAX_NEXTHOPS * sizeof(*memory));
	memset(memory, 0, MR_MAX_NEXTHOPS * sizeof(*memory));
	struct mr_nexthops *n = mr_nexthops_create(memory);
	struct mr_nexthop wire = { .kind = MR_NH_WIRE, .egress = 9 };
	cr_assert_eq(memory[MR_NEXTHOP_BACK].kind, MR_NH_BACK);
	cr_assert_eq(memory[MR_NEXTHOP_KERNEL].kind, MR_NH_KERNEL);
	mr_nexthops_set(n, MR_MAX_NEXTHOPS - 1, &wire);
	cr_assert_eq(memory[MR_MAX_NEXTHOPS - 1].egress, 9);
	cr_assert_eq(memory[MR_MAX_NEXTHOPS - 1].seq, 2);
	cr_assert_eq(mr_nexthops_kind(n, MR_MAX_NEXTHOPS - 1), MR_NH_WIRE);
	mr_nexthops_destroy(n);
	cr_assert_eq(memory[MR_NEXTHOP_BACK].kind, MR_NH_BACK, "it is not theirs to free");
	free(memory);
	mr_nexthops_destroy(NULL);
}

Test(tier, neighbours_note_their_use_where_xdp_does)
{
	struct mr_neighbours *n;
	struct mr_neighbours_options opt = { .nexthops = mr_nexthops_create(NULL), .used_ms = shared->nexthop_used_ms };
	cr_assert_eq(mr_neighbours_create(&opt, true, &n, NULL), 0);
	mr_neighbours_touch(n, 4000, 123456);
	cr_assert_eq(shared->nexthop_used_ms[4000], 123456);
	mr_neighbours_destroy(n);
	mr_nexthops_destroy(opt.nexthops);
}

Test(tier, its_cells_are_in_sums_and_no_workers)
{
	struct mr_stats *s = mr_stats_create(2);
	struct mr_stats_ingress sum;
	cr_assert_eq(mr_stats_worker_cnt(s), 2);
	cr_assert_null(mr_stats_worker(s, 2));
	mr_stats_tier(s)->ingress[9].received.packets = 5;
	mr_stats_worker(s, 1)->ingress[9].received.packets = 3;
	mr_stats_tier(s)->counter[4] = (struct mr_count){ 2, 200 };
	mr_stats_ingress_sum(s, 9, &sum);
	cr_assert_eq(sum.received.packets, 8);
	cr_assert_eq(mr_stats_counter_sum(s, 4).bytes, 200);
	mr_stats_destroy(s);
}
