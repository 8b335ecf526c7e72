/* SPDX-License-Identifier: BSD-2-Clause */
/* epoch.c - quiet moments of workers, counted. */
#include "core/epoch.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct slot {
	uint64_t seen; /* atomic: the epoch of the last quiet moment; 0 = offline */
} __attribute__((aligned(64)));

struct mr_epoch {
	uint64_t now __attribute__((aligned(64))); /* atomic; starts at 1, grows with every retire */
	struct slot slot[MR_EPOCH_WORKERS];
};

struct mr_epoch *mr_epoch_create(void)
{
	struct mr_epoch *e = aligned_alloc(64, sizeof(*e));

	if (!e)
		return NULL;
	memset(e, 0, sizeof(*e));
	e->now = 1;
	return e;
}

void mr_epoch_destroy(struct mr_epoch *e)
{
	free(e);
}

/*
 * Whoever looks at the slots may still find this one offline after the store below.  Then its retire came before the store in
 * the one order of sequentially consistent operations, so the load after the store sees it, and with it what was unlinked.
 */
void mr_epoch_online(struct mr_epoch *e, unsigned worker)
{
	uint64_t now = __atomic_load_n(&e->now, __ATOMIC_SEQ_CST);

	__atomic_store_n(&e->slot[worker].seen, now, __ATOMIC_SEQ_CST);
	now = __atomic_load_n(&e->now, __ATOMIC_SEQ_CST);
	__atomic_store_n(&e->slot[worker].seen, now, __ATOMIC_RELEASE);
}

void mr_epoch_offline(struct mr_epoch *e, unsigned worker)
{
	__atomic_store_n(&e->slot[worker].seen, 0, __ATOMIC_RELEASE);
}

/* The line of `now` is shared, but it changes only with a retire; without one this is a load and a compare. */
void mr_epoch_quiet(struct mr_epoch *e, unsigned worker)
{
	uint64_t now = __atomic_load_n(&e->now, __ATOMIC_ACQUIRE);

	if (__atomic_load_n(&e->slot[worker].seen, __ATOMIC_RELAXED) != now)
		__atomic_store_n(&e->slot[worker].seen, now, __ATOMIC_RELEASE);
}

uint64_t mr_epoch_retire(struct mr_epoch *e)
{
	return __atomic_add_fetch(&e->now, 1, __ATOMIC_SEQ_CST);
}

bool mr_epoch_passed(const struct mr_epoch *e, uint64_t stamp)
{
	for (unsigned i = 0; i < MR_EPOCH_WORKERS; i++) {
		uint64_t seen = __atomic_load_n(&e->slot[i].seen, __ATOMIC_SEQ_CST);
		if (seen && seen < stamp)
			return false;
	}
	return true;
}

int mr_epoch_wait(struct mr_epoch *e, uint64_t stamp, unsigned timeout_ms)
{
	struct timespec now, end, nap = { .tv_nsec = 100000 };

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += timeout_ms / 1000;
	end.tv_nsec += timeout_ms % 1000 * 1000000;
	end.tv_sec += end.tv_nsec / 1000000000;
	end.tv_nsec %= 1000000000;
	while (!mr_epoch_passed(e, stamp)) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec > end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec >= end.tv_nsec))
			return -ETIMEDOUT;
		nanosleep(&nap, NULL);
	}
	return 0;
}
