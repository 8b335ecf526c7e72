/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/handoff.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

Test(handoff, in_order_bounded_and_by_pair)
{
	struct mr_handoff *h = mr_handoff_create(3);
	struct mr_handoff_entry e[MR_HANDOFF_RING + 10] = { 0 }, out[64];
	for (unsigned i = 0; i < MR_HANDOFF_RING + 10; i++)
		e[i].frame.addr = i;
	cr_assert_eq(mr_handoff_put(h, 0, 2, e, MR_HANDOFF_RING + 10), MR_HANDOFF_RING);
	cr_assert_eq(mr_handoff_put(h, 0, 2, e, 1), 0);
	cr_assert_eq(mr_handoff_put(h, 1, 2, e, 5), 5);
	cr_assert_eq(mr_handoff_held(h, 0), MR_HANDOFF_RING);
	cr_assert_eq(mr_handoff_waiting(h, 2), MR_HANDOFF_RING + 5);
	cr_assert_eq(mr_handoff_waiting(h, 1), 0);
	cr_assert_eq(mr_handoff_take(h, 0, 1, out, 64), 0);
	for (unsigned seen = 0; seen < MR_HANDOFF_RING;) {
		unsigned n = mr_handoff_take(h, 0, 2, out, 64);
		cr_assert_gt(n, 0);
		for (unsigned i = 0; i < n; i++)
			cr_assert_eq(out[i].frame.addr, seen++);
	}
	cr_assert_eq(mr_handoff_take(h, 0, 2, out, 64), 0);
	cr_assert_eq(mr_handoff_put(h, 0, 2, e, 3), 3);
	mr_handoff_destroy(h);
	mr_handoff_destroy(NULL);
}

Test(handoff, under_way_until_it_is_sent)
{
	struct mr_handoff *h = mr_handoff_create(2);
	struct mr_handoff_entry e[3] = { 0 };
	cr_expect_not(mr_handoff_under_way(h, 0));
	mr_handoff_put(h, 0, 1, e, 3);
	cr_expect(mr_handoff_under_way(h, 0));
	cr_expect_not(mr_handoff_under_way(h, 1));
	mr_handoff_sent(h, 1);
	cr_expect(mr_handoff_under_way(h, 0), "still in the ring");
	cr_assert_eq(mr_handoff_take(h, 0, 1, e, 2), 2);
	mr_handoff_sent(h, 1);
	cr_expect(mr_handoff_under_way(h, 0), "one is");
	cr_assert_eq(mr_handoff_take(h, 0, 1, e, 2), 1);
	cr_expect_eq(mr_handoff_held(h, 0), 0);
	cr_expect(mr_handoff_under_way(h, 0), "taken out, not sent");
	mr_handoff_sent(h, 1);
	cr_expect_not(mr_handoff_under_way(h, 0));
	mr_handoff_destroy(h);
}

Test(handoff, a_sleeper_is_woken_and_nobody_else)
{
	struct mr_handoff *h = mr_handoff_create(2);
	struct pollfd fd = { .fd = mr_handoff_fd(h, 1), .events = POLLIN };
	mr_handoff_notify(h, 1);
	cr_assert_eq(poll(&fd, 1, 0), 0, "it does not sleep: no system call for it");
	mr_handoff_sleep_begin(h, 1);
	mr_handoff_notify(h, 0);
	cr_assert_eq(poll(&fd, 1, 0), 0);
	mr_handoff_notify(h, 1);
	cr_assert_eq(poll(&fd, 1, 0), 1);
	mr_handoff_sleep_end(h, 1);
	cr_assert_eq(poll(&fd, 1, 0), 0);
	mr_handoff_wake(h, 1);
	mr_handoff_sleep_begin(h, 1);
	cr_assert_eq(poll(&fd, 1, 0), 1, "a wake before the sleep ends it too");
	mr_handoff_destroy(h);
}

#define STRESS 1000000u

static void *produce(void *arg)
{
	struct mr_handoff *h = arg;
	struct mr_handoff_entry e[16] = { 0 };
	for (uint32_t next = 0; next < STRESS;) {
		unsigned n = 1 + next % 16;
		n = n < STRESS - next ? n : STRESS - next;
		for (unsigned i = 0; i < n; i++)
			e[i].frame = (struct mr_frame){ .addr = next + i, .len = ~(next + i) };
		next += mr_handoff_put(h, 0, 1, e, n);
		mr_handoff_notify(h, 1);
	}
	return NULL;
}

/* The consumer sleeps whenever it finds nothing; the time-out of its poll is an error: somebody forgot to wake it. */
Test(handoff, stress_with_sleeping, .timeout = 120)
{
	struct mr_handoff *h = mr_handoff_create(2);
	struct pollfd fd = { .fd = mr_handoff_fd(h, 1), .events = POLLIN };
	struct mr_handoff_entry e[32];
	pthread_t producer;
	unsigned sleeps = 0;
	pthread_create(&producer, NULL, produce, h);
	for (uint32_t seen = 0; seen < STRESS;) {
		unsigned n = mr_handoff_take(h, 0, 1, e, 32);
		for (unsigned i = 0; i < n; i++, seen++)
			if (e[i].frame.addr != seen || e[i].frame.len != ~seen)
				cr_assert_fail("entry %u is %llu", seen, (unsigned long long)e[i].frame.addr);
		if (n)
			continue;
		mr_handoff_sleep_begin(h, 1);
		if (!mr_handoff_waiting(h, 1)) {
			sleeps++;
			cr_assert_eq(poll(&fd, 1, 30000), 1, "slept over a ring that has entries");
		}
		mr_handoff_sleep_end(h, 1);
	}
	pthread_join(producer, NULL);
	cr_assert_gt(sleeps, 0);
	mr_handoff_destroy(h);
}
