/* SPDX-License-Identifier: BSD-2-Clause */
/* Rings over plain memory; the test plays the kernel's side by writing the shared indexes. */
#include "core/ring.h"

#include <criterion/criterion.h>
#include <pthread.h>

#define SIZE 8u

struct shared {
	uint32_t producer, consumer, flags;
	uint64_t entries[SIZE];
};

static void pair_init(struct shared *s, uint32_t start, struct mr_ring *p, struct mr_ring *c)
{
	*s = (struct shared){ .producer = start, .consumer = start };
	mr_ring_init(p, &s->producer, &s->consumer, &s->flags, s->entries, SIZE, true);
	mr_ring_init(c, &s->producer, &s->consumer, &s->flags, s->entries, SIZE, false);
}

Test(ring, empty_and_full)
{
	struct shared s;
	struct mr_ring p, c;

	pair_init(&s, 0, &p, &c);
	cr_assert_eq(mr_ring_ready(&c, 4), 0);
	cr_assert_eq(mr_ring_free(&p, 100), SIZE);
	for (uint32_t i = 0; i < SIZE; i++)
		*mr_ring_addr(&p, i) = 100 + i;
	mr_ring_produce(&p, SIZE);
	cr_assert_eq(mr_ring_free(&p, 1), 0, "a full ring has no room");
	cr_assert_eq(mr_ring_pending(&p), SIZE);
	cr_assert_eq(mr_ring_ready(&c, 100), SIZE);
	for (uint32_t i = 0; i < SIZE; i++)
		cr_assert_eq(*mr_ring_addr(&c, i), 100 + i);
	mr_ring_consume(&c, 3);
	cr_assert_eq(mr_ring_free(&p, 100), 3);
	cr_assert_eq(mr_ring_pending(&p), SIZE - 3);
	cr_assert_eq(*mr_ring_addr(&c, 0), 103);
}

Test(ring, indexes_wrap_around)
{
	/* start values around 2^32 and around the middle, every offset of a few rounds */
	const uint32_t starts[] = { UINT32_MAX - 2 * SIZE, UINT32_MAX - 1, 0x7ffffffcu };

	for (unsigned k = 0; k < 3; k++) {
		struct shared s;
		struct mr_ring p, c;
		uint64_t put = 0, got = 0;

		pair_init(&s, starts[k], &p, &c);
		for (unsigned round = 0; round < 100; round++) {
			uint32_t n = mr_ring_free(&p, round % SIZE + 1);
			for (uint32_t i = 0; i < n; i++)
				*mr_ring_addr(&p, i) = put++;
			mr_ring_produce(&p, n);
			n = mr_ring_ready(&c, (round * 5) % SIZE + 1);
			for (uint32_t i = 0; i < n; i++)
				cr_assert_eq(*mr_ring_addr(&c, i), got++);
			mr_ring_consume(&c, n);
			cr_assert_leq(put - got, SIZE);
			cr_assert_eq(mr_ring_pending(&p), put - got);
		}
		cr_assert_gt(got, 2 * SIZE);
		cr_assert_eq(s.producer, starts[k] + (uint32_t)put);
		cr_assert_eq(s.consumer, starts[k] + (uint32_t)got);
	}
}

Test(ring, not_producing_and_not_consuming_roll_back)
{
	struct shared s;
	struct mr_ring p, c;

	pair_init(&s, UINT32_MAX, &p, &c);
	cr_assert_eq(mr_ring_free(&p, 4), 4);
	*mr_ring_addr(&p, 0) = 1;
	cr_assert_eq(s.producer, UINT32_MAX, "nothing is in force yet");
	cr_assert_eq(mr_ring_ready(&c, 4), 0);
	*mr_ring_addr(&p, 0) = 2;
	mr_ring_produce(&p, 1);
	cr_assert_eq(mr_ring_ready(&c, 4), 1);
	cr_assert_eq(mr_ring_ready(&c, 4), 1, "looking does not consume");
	cr_assert_eq(*mr_ring_addr(&c, 0), 2);
	cr_assert_eq(s.consumer, UINT32_MAX);
	mr_ring_consume(&c, 0);
	cr_assert_eq(mr_ring_ready(&c, 1), 1);
}

Test(ring, wakeup_flag)
{
	struct shared s;
	struct mr_ring p, c;

	pair_init(&s, 0, &p, &c);
	cr_assert_not(mr_ring_needs_wakeup(&p));
	s.flags = XDP_RING_NEED_WAKEUP;
	cr_assert(mr_ring_needs_wakeup(&p));
	p.flags = NULL;
	cr_assert_not(mr_ring_needs_wakeup(&p));
}

#define MANY 200000u

static void *producer_run(void *arg)
{
	struct mr_ring *p = arg;

	for (uint32_t put = 0; put < MANY;) {
		uint32_t n = mr_ring_free(p, MANY - put < 5 ? MANY - put : 5);
		for (uint32_t i = 0; i < n; i++)
			*mr_ring_addr(p, i) = put++;
		mr_ring_produce(p, n);
	}
	return NULL;
}

Test(ring, two_threads, .timeout = 60)
{
	struct shared s;
	struct mr_ring p, c;
	pthread_t t;

	pair_init(&s, UINT32_MAX - 1000, &p, &c);
	cr_assert_eq(pthread_create(&t, NULL, producer_run, &p), 0);
	for (uint32_t got = 0; got < MANY;) {
		uint32_t n = mr_ring_ready(&c, 3);
		for (uint32_t i = 0; i < n; i++)
			cr_assert_eq(*mr_ring_addr(&c, i), got++);
		mr_ring_consume(&c, n);
	}
	pthread_join(t, NULL);
	cr_assert_eq(mr_ring_ready(&c, 1), 0);
}
