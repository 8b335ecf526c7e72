/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/frames.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static struct mr_frames *make(uint32_t frame_cnt, uint32_t worker_cnt)
{
	struct mr_frames_options opt = { .frame_cnt = frame_cnt, .frame_bytes = 2048, .worker_cnt = worker_cnt };
	struct mr_frames *f = NULL;
	struct mr_error e = { { 0 } };

	cr_assert_eq(mr_frames_create(&opt, &f, &e), 0, "%s", e.text);
	return f;
}

static void assert_sum(const struct mr_frames *f, uint32_t total, uint32_t in_pool)
{
	struct mr_frames_census c;
	uint32_t sum = 0;

	mr_frames_count(f, &c);
	for (unsigned i = 0; i < MR_OWNER_CNT; i++)
		sum += c.by_owner_cnt[i];
	cr_assert_eq(c.total_cnt, total);
	cr_assert_eq(sum, total);
	cr_assert_eq(c.by_owner_cnt[MR_OWNER_POOL], in_pool, "pool has %u", c.by_owner_cnt[MR_OWNER_POOL]);
}

/* Takes everything there is through one magazine; every frame must come once. */
static uint32_t drain(struct mr_frames *f, unsigned worker, uint64_t *addr, uint32_t total)
{
	uint8_t *seen = calloc(total, 1);
	uint32_t cnt = 0;
	unsigned n;

	while ((n = mr_frames_take(mr_frames_magazine(f, worker), addr + cnt, 7)))
		for (unsigned i = 0; i < n; i++, cnt++) {
			cr_assert_lt(addr[cnt] / 2048, total);
			cr_assert_eq(addr[cnt] % 2048, 0);
			cr_assert_eq(seen[addr[cnt] / 2048]++, 0, "frame %lu twice", (unsigned long)addr[cnt] / 2048);
		}
	free(seen);
	return cnt;
}

Test(frames, refuses_impossible_sizes)
{
	struct mr_frames_options opt = { .frame_cnt = 64, .frame_bytes = 1024, .worker_cnt = 1 };
	struct mr_frames *f = NULL;
	struct mr_error e = { { 0 } };

	cr_assert_eq(mr_frames_create(&opt, &f, &e), -EINVAL);
	cr_assert_neq(e.text[0], 0);
	opt.frame_bytes = 2048;
	opt.frame_cnt = 0;
	cr_assert_eq(mr_frames_create(&opt, &f, &e), -EINVAL);
	opt.frame_cnt = 64;
	opt.worker_cnt = 0;
	cr_assert_eq(mr_frames_create(&opt, &f, &e), -EINVAL);
	cr_assert_null(f);
	mr_frames_destroy(NULL);
}

Test(frames, exhaustion_and_return)
{
	const uint32_t total = 3000;
	uint64_t *addr = malloc(total * 2 * sizeof(*addr));
	struct mr_frames *f = make(total, 2);

	assert_sum(f, total, total);
	cr_assert_eq(mr_frames_bytes(f) % (2u << 20), 0);
	cr_assert_geq(mr_frames_bytes(f), (size_t)total * 2048);
	for (unsigned round = 0; round < 3; round++) {
		cr_assert_eq(drain(f, 0, addr, total), total);
		cr_assert_eq(mr_frames_take(mr_frames_magazine(f, 1), addr, 1), 0, "empty for everybody");
		/* addresses anywhere in the frame are the frame's */
		for (uint32_t i = 0; i < total; i++)
			addr[i] += 256 + i % 1700;
		mr_frames_give(mr_frames_magazine(f, 0), addr, total);
		assert_sum(f, total, total);
		mr_frames_flush(mr_frames_magazine(f, 0));
	}
	mr_frames_destroy(f);
	free(addr);
}

Test(frames, magazines_do_not_hoard_a_small_pool)
{
	uint64_t addr[64];
	struct mr_frames *f = make(64, 2);

	/* worker 0 had them all and gave them back: worker 1 gets most of them */
	cr_assert_eq(drain(f, 0, addr, 64), 64);
	mr_frames_give(mr_frames_magazine(f, 0), addr, 64);
	cr_assert_geq(drain(f, 1, addr, 64), 48);
	mr_frames_destroy(f);
}

Test(frames, reclaim_takes_only_what_was_lent_to_that_queue)
{
	uint64_t addr[100];
	struct mr_frames *f = make(1000, 1);
	struct mr_magazine *m = mr_frames_magazine(f, 0);

	cr_assert_eq(mr_frames_take(m, addr, 100), 100);
	for (unsigned i = 0; i < 100; i++) {
		if (i < 20)
			mr_frames_tag(f, addr[i] + 300, MR_OWNER_FILL, 3, 1);
		else if (i < 40)
			mr_frames_tag(f, addr[i], MR_OWNER_TX, 3, 1);
		else if (i < 50)
			mr_frames_tag(f, addr[i], MR_OWNER_RX, 3, 1);
		else if (i < 70)
			mr_frames_tag(f, addr[i], MR_OWNER_FILL, 3, 0);
		else
			mr_frames_tag(f, addr[i], MR_OWNER_TX, 4, 1);
	}
	assert_sum(f, 1000, 900);
	cr_assert_eq(mr_frames_reclaim(f, 3, 1), 40);
	assert_sum(f, 1000, 940);
	cr_assert_eq(mr_frames_reclaim(f, 3, 1), 0);
	cr_assert_eq(mr_frames_reclaim(f, 3, 0), 20);
	cr_assert_eq(mr_frames_reclaim(f, 4, 1), 30);
	mr_frames_give(m, addr + 40, 10);
	assert_sum(f, 1000, 1000);
	uint64_t *all = malloc(1000 * 2 * sizeof(*all));
	cr_assert_eq(drain(f, 0, all, 1000), 1000, "each once, none lost");
	free(all);
	mr_frames_destroy(f);
}

Test(frames, shared_taking_stocks_from_the_depots)
{
	uint64_t addr[600];
	struct mr_frames *f = make(600, 1);

	cr_assert_eq(mr_frames_depot_cnt(f), 600);
	cr_assert_eq(mr_frames_take_shared(f, -1, addr, 599), 599);
	cr_assert_eq(mr_frames_depot_cnt(f), 1);
	cr_assert_eq(mr_frames_take_shared(f, 0, addr + 599, 5), 1);
	mr_frames_give_shared(f, addr, 600);
	cr_assert_eq(mr_frames_depot_cnt(f), 600);
	mr_frames_destroy(f);
}

Test(frames, parts_for_two_nodes)
{
	const int node[2] = { 0, 1 }; /* the second may not exist: then it is only a name */
	struct mr_frames_options opt = {
		.frame_cnt = 5000, .frame_bytes = 4096, .worker_cnt = 2, .worker_node = node, .want_huge = true
	};
	struct mr_frames *f = NULL;
	uint64_t *addr = malloc(5000 * sizeof(*addr));
	uint64_t near, far;
	unsigned cnt = 0, n;

	cr_assert_eq(mr_frames_create(&opt, &f, NULL), 0);
	cr_assert_eq(mr_frames_take(mr_frames_magazine(f, 0), &near, 1), 1);
	cr_assert_eq(mr_frames_take(mr_frames_magazine(f, 1), &far, 1), 1);
	cr_assert_lt(near, mr_frames_bytes(f) / 2, "each worker takes from its own part");
	cr_assert_geq(far, mr_frames_bytes(f) / 2);
	/* and from the other when its own is empty */
	while ((n = mr_frames_take(mr_frames_magazine(f, 0), addr, 16)))
		cnt += n;
	cr_assert_gt(cnt, 4000);
	memset(mr_frames_base(f), 0x5a, mr_frames_bytes(f));
	mr_frames_destroy(f);
	free(addr);
}

/* Frames move round between workers through small mailboxes, as packets do that are received by one and sent by another. */
#define THREADS 4
#define MOVES   50000

struct mailbox {
	pthread_mutex_t lock;
	uint64_t addr[32];
	unsigned cnt;
};

struct mover {
	struct mr_frames *f;
	unsigned worker;
	struct mailbox *boxes;
};

static void *mover_run(void *arg)
{
	struct mover *m = arg;
	struct mr_magazine *mag = mr_frames_magazine(m->f, m->worker);
	struct mailbox *to = &m->boxes[(m->worker + 1) % THREADS], *from = &m->boxes[m->worker];

	for (unsigned i = 0; i < MOVES; i++) {
		uint64_t addr[32];
		unsigned n = mr_frames_take(mag, addr, i % 13 + 1);
		for (unsigned k = 0; k < n; k++) {
			mr_frames_tag(m->f, addr[k], MR_OWNER_HELD, m->worker + 1, k);
			/* nobody else may hold it: the race detector watches this write */
			memcpy(mr_frames_base(m->f) + addr[k], &i, sizeof(i));
		}
		pthread_mutex_lock(&to->lock);
		unsigned put = n < 32 - to->cnt ? n : 32 - to->cnt;
		memcpy(to->addr + to->cnt, addr, put * sizeof(addr[0]));
		to->cnt += put;
		pthread_mutex_unlock(&to->lock);
		mr_frames_give(mag, addr + put, n - put);
		pthread_mutex_lock(&from->lock);
		n = from->cnt;
		memcpy(addr, from->addr, n * sizeof(addr[0]));
		from->cnt = 0;
		pthread_mutex_unlock(&from->lock);
		mr_frames_give(mag, addr, n);
	}
	return NULL;
}

Test(frames, many_threads_exchange, .timeout = 120)
{
	const uint32_t total = 500;
	struct mr_frames *f = make(total, THREADS);
	struct mailbox boxes[THREADS] = { 0 };
	struct mover mover[THREADS];
	pthread_t t[THREADS];

	for (unsigned i = 0; i < THREADS; i++)
		pthread_mutex_init(&boxes[i].lock, NULL);
	for (unsigned i = 0; i < THREADS; i++) {
		mover[i] = (struct mover){ f, i, boxes };
		cr_assert_eq(pthread_create(&t[i], NULL, mover_run, &mover[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	for (unsigned i = 0; i < THREADS; i++)
		mr_frames_give(mr_frames_magazine(f, i), boxes[i].addr, boxes[i].cnt);
	assert_sum(f, total, total);
	for (unsigned i = 0; i < THREADS; i++)
		mr_frames_flush(mr_frames_magazine(f, i));
	uint64_t *addr = malloc(2 * total * sizeof(*addr));
	cr_assert_eq(drain(f, 0, addr, total), total);
	free(addr);
	mr_frames_destroy(f);
}
