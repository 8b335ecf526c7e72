/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/nexthop.h"
#include "core/stats.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

Test(stats, names_have_numbers_for_life)
{
	struct mr_stats *s = mr_stats_create(2);
	uint8_t a = mr_stats_ingress_id(s, "wan", "in"), b = mr_stats_ingress_id(s, "wan", "");
	cr_assert(a && b && a != b);
	cr_assert_eq(mr_stats_ingress_id(s, "wan", "in"), a);
	cr_assert_str_eq(mr_stats_ingress_interface(s, a), "wan");
	cr_assert_str_eq(mr_stats_ingress_pipeline(s, b), "");
	cr_assert_null(mr_stats_ingress_interface(s, 200));
	uint16_t c = mr_stats_counter_id(s, "stages.guard.rules.x");
	cr_assert_eq(mr_stats_counter_id(s, "stages.guard.rules.x"), c);
	cr_assert_str_eq(mr_stats_counter_name(s, c), "stages.guard.rules.x");
	unsigned r = mr_stats_reason_id(s, "filter-blocked", "a rule");
	cr_assert_geq(r, MR_REASON_STAGE_BASE);
	cr_assert_eq(mr_stats_reason_id(s, "filter-blocked", "other words"), r);
	cr_assert_str_eq(mr_stats_reason_name(s, r), "filter-blocked");
	cr_assert_str_eq(mr_stats_reason_help(s, r), "a rule");
	cr_assert_str_eq(mr_stats_reason_name(s, MR_REASON_TTL), "ttl");
	cr_assert_null(mr_stats_reason_name(s, MR_REASON_CNT - 1));
	mr_stats_destroy(s);
	mr_stats_destroy(NULL);
}

Test(stats, full_is_0)
{
	struct mr_stats *s = mr_stats_create(1);
	char name[32];
	for (unsigned i = 1; i < MR_STATS_INGRESS; i++) {
		snprintf(name, sizeof(name), "i%u", i);
		cr_assert_eq(mr_stats_ingress_id(s, name, ""), i);
	}
	cr_assert_eq(mr_stats_ingress_id(s, "one", "more"), 0);
	for (unsigned i = MR_REASON_STAGE_BASE; i < MR_REASON_CNT; i++) {
		snprintf(name, sizeof(name), "r%u", i);
		cr_assert_eq(mr_stats_reason_id(s, name, ""), i);
	}
	cr_assert_eq(mr_stats_reason_id(s, "one more", ""), 0);
	mr_stats_destroy(s);
}

Test(stats, sums_are_over_workers)
{
	struct mr_stats *s = mr_stats_create(2);
	struct mr_stats_ingress sum;
	for (unsigned w = 0; w < 2; w++) {
		struct mr_stats_worker *c = mr_stats_worker(s, w);
		c->ingress[3].received = (struct mr_count){ 10 + w, 100 };
		c->ingress[3].hits = w;
		c->ingress[3].dropped[MR_REASON_CNT - 1] = 7;
		c->counter[5] = (struct mr_count){ 2, 50 };
	}
	mr_stats_ingress_sum(s, 3, &sum);
	cr_assert_eq(sum.received.packets, 21);
	cr_assert_eq(sum.received.bytes, 200);
	cr_assert_eq(sum.hits, 1);
	cr_assert_eq(sum.dropped[MR_REASON_CNT - 1], 14);
	cr_assert_eq(mr_stats_counter_sum(s, 5).bytes, 100);
	cr_assert_null(mr_stats_worker(s, 2));
	cr_assert_eq((uintptr_t)mr_stats_worker(s, 1) % 64, 0, "workers share no cache line");
	mr_stats_destroy(s);
}

static volatile bool stop;

static void *change(void *arg)
{
	struct mr_nexthop nh = { .kind = MR_NH_ROUTED };
	for (unsigned i = 0; i < 200000; i++) {
		memset(nh.dmac, i, 6);
		memset(nh.reserved, i, sizeof(nh.reserved));
		nh.egress = i;
		mr_nexthops_set(arg, 100, &nh);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	return NULL;
}

Test(stats, a_next_hop_is_never_read_half_changed)
{
	struct mr_nexthops *t = mr_nexthops_create(NULL);
	struct mr_nexthop nh;
	pthread_t writer;
	mr_nexthops_get(t, MR_NEXTHOP_BACK, &nh);
	cr_assert_eq(nh.kind, MR_NH_BACK);
	mr_nexthops_get(t, MR_NEXTHOP_KERNEL, &nh);
	cr_assert_eq(nh.kind, MR_NH_KERNEL);
	pthread_create(&writer, NULL, change, t);
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
		mr_nexthops_get(t, 100, &nh);
		for (unsigned i = 0; i < sizeof(nh.reserved); i++)
			cr_assert_eq(nh.reserved[i], nh.egress);
		cr_assert_eq(nh.dmac[5], nh.egress);
	}
	pthread_join(writer, NULL);
	mr_nexthops_get(t, 100, &nh);
	cr_assert_eq(nh.egress, (200000 - 1) & 0xff);
	mr_nexthops_destroy(t);
}
