/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/effects.h"

#include <criterion/criterion.h>
#include <pthread.h>

#define SECOND 1000000000ull

Test(effects, the_empty_combination_is_0_and_equal_ones_are_one)
{
	struct mr_effects *t = mr_effects_create();
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
	struct mr_effects *t = mr_effects_create();
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
	struct mr_effects *t = mr_effects_create();
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
	struct mr_effects *t = mr_effects_create();
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
	struct mr_effects *t = mr_effects_create();
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
