/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/effects.h"

#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SECOND 1000000000ull

Test(effects, the_empty_combination_is_0_and_equal_ones_are_one)
{
	struct mr_effects *t = mr_effects_create(NULL, NULL);
	struct mr_effect none = { 0 }, a = { .counter = { 1, 2 } }, b = { .counter = { 2, 1 } },
			 c = { .counter = { 1, 2 }, .meter = { 9 } };
	cr_assert_eq(mr_effects_intern(t, &none), 0);
	int ia = mr_effects_intern(t, &a), ib = mr_effects_intern(t, &b), ic = mr_effects_intern(t, &c);
	cr_assert(ia > 0 && ib > 0 && ic > 0 && ia != ib && ib != ic && ia != ic);
	cr_assert_eq(mr_effects_intern(t, &a), ia);
	cr_assert_eq(mr_effects_at(t, ic)->meter[0], 9);
	cr_assert_eq(mr_effects_at(t, ib)->counter[0], 2);
	mr_effects_destroy(t);
}

Test(effects, full_is_said_and_what_is_there_stays)
{
	struct mr_effects *t = mr_effects_create(NULL, NULL);
	unsigned stored = 0;
	for (unsigned i = 1; i <= 70000; i++) {
		struct mr_effect e = { .counter = { i & 0xffff, 1 + (i >> 16) } };
		stored += mr_effects_intern(t, &e) > 0;
	}
	cr_assert_eq(stored, 65535);
	struct mr_effect first = { .counter = { 1, 1 } }, late = { .counter = { 70000 & 0xffff, 2 } };
	cr_assert_eq(mr_effects_at(t, mr_effects_intern(t, &first))->counter[0], 1);
	cr_assert_eq(mr_effects_intern(t, &late), -1);
	mr_effects_destroy(t);
}

static unsigned offer(struct mr_effects *t, uint16_t m, unsigned n, uint32_t bytes, uint64_t from_ns, uint64_t step_ns)
{
	unsigned passed = 0;
	for (unsigned i = 0; i < n; i++)
		passed += mr_effects_meter_pass(t, m, bytes, from_ns + i * step_ns);
	return passed;
}

Test(effects, a_meter_lets_its_burst_and_its_rate_through)
{
	struct mr_effects *t = mr_effects_create(NULL, NULL);
	uint16_t m = mr_effects_meter_add(t, 1000, 50, false);
	uint64_t now = 5000 * SECOND;
	cr_assert_neq(m, 0);
	cr_assert_eq(offer(t, m, 200, 60, now, 0), 50, "at once: the burst");
	unsigned second = offer(t, m, 100000, 60, now, 10000);
	cr_assert(second >= 999 && second <= 1001, "a second at 100 times the rate passes %u", second);
	cr_assert_eq(offer(t, m, 200, 60, now + 100 * SECOND, 0), 50, "idle time is worth no more than the burst");
	mr_effects_destroy(t);
}

Test(effects, bits_count_by_length_and_large_packets_get_through)
{
	struct mr_effects *t = mr_effects_create(NULL, NULL);
	uint16_t m = mr_effects_meter_add(t, 8000000, 80000, true); /* a megabyte a second, ten kilobytes at once */
	uint64_t now = SECOND;
	cr_assert_eq(offer(t, m, 100, 1000, now, 0), 10);
	unsigned second = offer(t, m, 10000, 1000, now, SECOND / 10000);
	cr_assert(second >= 998 && second <= 1001, "%u kilobytes in a second", second);
	uint16_t tiny = mr_effects_meter_add(t, 8000, 8, true);
	cr_assert(mr_effects_meter_pass(t, tiny, 1500, now), "a full bucket passes any packet");
	cr_assert_not(mr_effects_meter_pass(t, tiny, 1500, now + SECOND));
	cr_assert(mr_effects_meter_pass(t, tiny, 1500, now + 2 * SECOND), "after what it cost");
	cr_assert_eq(mr_effects_meter_add(t, 0, 1, false), 0);
	mr_effects_destroy(t);
}

/* Ticks as they were reckoned before XDP had to: in double. */
static double ticks_of(uint64_t rate_per_s, uint64_t units)
{
	return 1e9 * MR_METER_TICKS_PER_NS / (double)rate_per_s * (double)units;
}

Test(effects, integers_cost_what_doubles_did_at_any_rate)
{
	static struct mr_effect entry[MR_EFFECTS];
	static struct mr_meter meter[MR_METERS];
	struct mr_effects *t = mr_effects_create(entry, meter);
	static const uint32_t lengths[] = { 1, 60, 1500, 9018, 65535, 131071 };
	unsigned compared = 0;
	for (uint64_t rate = 1; rate <= 1000000000000; rate += 1 + rate / 37)
		for (int bits = 0; bits < 2; bits++) {
			uint16_t m = mr_effects_meter_add(t, rate, 1000, bits);
			cr_assert_neq(m, 0);
			cr_assert(meter[m].cost_mul < 1ull << 44 && meter[m].cost_shift < 64, "rate %lu", rate);
			double burst = ticks_of(rate, 1000);
			cr_assert(fabs((double)meter[m].burst_ticks - burst) <= 1 + burst * 0x1p-50, "rate %lu", rate);
			for (unsigned i = 0; i < sizeof(lengths) / sizeof(*lengths); i++, compared++) {
				double was = ticks_of(rate, bits ? 8ull * lengths[i] : 1);
				double is = (double)mr_meter_cost(&meter[m], lengths[i]);
				cr_assert(fabs(is - was) <= 1 + was * 0x1p-42, "rate %lu, %u bytes: %f, was %f", rate,
					lengths[i], is, was);
			}
		}
	cr_assert_gt(compared, 5000);
	mr_effects_destroy(t);
}

Test(effects, extreme_rates_hold)
{
	struct mr_effects *t = mr_effects_create(NULL, NULL);
	uint64_t now = 5000 * SECOND;
	uint16_t slow = mr_effects_meter_add(t, 1, 1, false), slow_bits = mr_effects_meter_add(t, 1, 1, true);
	cr_assert_eq(offer(t, slow, 100, 60, now, 0), 1);
	cr_assert_eq(offer(t, slow, 1000, 60, now + SECOND, SECOND / 100), 10, "one a second");
	cr_assert_eq(offer(t, slow_bits, 2, 1, now, 7 * SECOND), 1, "eight bits take eight seconds");
	cr_assert_eq(offer(t, slow_bits, 2, 1, now + 8 * SECOND, SECOND), 1);
	/* 10^12 bits a second are 31.25 frames of 4000 bytes a microsecond, one every 32 ns; offered every 8 ns. */
	uint16_t fast = mr_effects_meter_add(t, 1000000000000, 32000 * 100ull, true);
	cr_assert_eq(offer(t, fast, 1000, 4000, now, 0), 100);
	unsigned passed = offer(t, fast, 1000000, 4000, now, 8);
	cr_assert(passed >= 249990 && passed <= 250010, "%u of 250000", passed);
	uint16_t all = mr_effects_meter_add(t, UINT64_MAX, UINT64_MAX, true);
	cr_assert_eq(offer(t, all, 1000, 65535, now, 0), 1000);
	uint16_t once = mr_effects_meter_add(t, 1, UINT64_MAX, false); /* a burst longer than time */
	cr_assert_eq(offer(t, once, 1000, 65535, now, 0), 1000);
	mr_effects_destroy(t);
}

Test(effects, given_memory_is_emptied_used_and_kept)
{
	struct mr_effect *entry = malloc(MR_EFFECTS * sizeof(*entry));
	struct mr_meter *meter = malloc(MR_METERS * sizeof(*meter));
	cr_assert(entry && meter);
	for (int round = 0; round < 2; round++) {
		memset(entry, 0xa5, MR_EFFECTS * sizeof(*entry));
		memset(meter, 0xa5, MR_METERS * sizeof(*meter));
		struct mr_effects *t = mr_effects_create(entry, meter);
		struct mr_effect a = { .counter = { 7 } };
		cr_assert_eq(mr_effects_intern(t, &a), 1);
		cr_assert_eq(entry[1].counter[0], 7);
		uint16_t m = mr_effects_meter_add(t, 1000, 50, false);
		cr_assert_eq(m, 1);
		cr_assert_eq(offer(t, m, 200, 60, 5000 * SECOND, 0), 50);
		cr_assert_neq(meter[1].full_at_ticks, 0);
		cr_assert_eq(entry[MR_EFFECTS - 1].counter[0], 0);
		cr_assert_eq(meter[MR_METERS - 1].cost_mul, 0);
		mr_effects_destroy(t);
		cr_assert_eq(entry[1].counter[0], 7, "the caller's memory stays");
	}
	free(entry);
	free(meter);
}

struct racer {
	struct mr_effects *t;
	uint16_t meter;
	unsigned passed;
	int ids[256];
};

static void *race(void *arg)
{
	struct racer *r = arg;
	for (unsigned i = 0; i < 256; i++) {
		struct mr_effect e = { .counter = { 1 + i } };
		r->ids[i] = mr_effects_intern(r->t, &e);
	}
	r->passed = offer(r->t, r->meter, 20000, 60, SECOND, 0);
	return NULL;
}

Test(effects, two_threads_share_a_meter_and_agree_on_numbers)
{
	struct mr_effects *t = mr_effects_create(NULL, NULL);
	struct racer r[2] = { { .t = t }, { .t = t } };
	pthread_t thread[2];
	r[0].meter = r[1].meter = mr_effects_meter_add(t, 1000, 10000, false);
	for (int i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, race, &r[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	cr_assert_eq(r[0].passed + r[1].passed, 10000);
	cr_assert_arr_eq(r[0].ids, r[1].ids, sizeof(r[0].ids));
	mr_effects_destroy(t);
}
