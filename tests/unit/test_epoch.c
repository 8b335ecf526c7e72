/* SPDX-License-Identifier: BSD-2-Clause */
/* test_epoch.c - nobody reuses what a worker may still hold. */
#include "core/epoch.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

Test(epoch, nobody_online_holds_nothing_up)
{
	struct mr_epoch *e = mr_epoch_create();
	uint64_t stamp = mr_epoch_retire(e);

	cr_assert(mr_epoch_passed(e, stamp));
	mr_epoch_destroy(e);
	mr_epoch_destroy(NULL);
}

Test(epoch, every_worker_must_be_quiet)
{
	struct mr_epoch *e = mr_epoch_create();

	mr_epoch_online(e, 0);
	mr_epoch_online(e, MR_EPOCH_WORKERS - 1);
	uint64_t stamp = mr_epoch_retire(e);
	cr_assert_not(mr_epoch_passed(e, stamp));
	mr_epoch_quiet(e, 0);
	cr_assert_not(mr_epoch_passed(e, stamp));
	cr_assert_eq(mr_epoch_wait(e, stamp, 5), -ETIMEDOUT);
	mr_epoch_quiet(e, MR_EPOCH_WORKERS - 1);
	cr_assert(mr_epoch_passed(e, stamp));

	uint64_t later = mr_epoch_retire(e);
	cr_assert_gt(later, stamp);
	cr_assert_not(mr_epoch_passed(e, later));
	mr_epoch_quiet(e, 0);
	mr_epoch_offline(e, MR_EPOCH_WORKERS - 1);
	cr_assert(mr_epoch_passed(e, later));
	cr_assert_eq(mr_epoch_wait(e, later, 0), 0);

	mr_epoch_online(e, MR_EPOCH_WORKERS - 1);
	cr_assert(mr_epoch_passed(e, later), "who comes online later never saw it");
	mr_epoch_destroy(e);
}

/* Readers use a shared cell; the writer replaces and frees it.  A sanitizer sees any use after free. */
#define READERS 3
#define ROUNDS  3000

static struct mr_epoch *shared;
static int *cell;
static bool stop;
static int wrong;

static void *reader(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;

	mr_epoch_online(shared, me);
	for (unsigned i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
		int *p = __atomic_load_n(&cell, __ATOMIC_ACQUIRE);
		if (*p != 7)
			__atomic_fetch_add(&wrong, 1, __ATOMIC_RELAXED);
		if (i % 64 == 63) {
			mr_epoch_offline(shared, me);
			mr_epoch_online(shared, me);
		} else {
			mr_epoch_quiet(shared, me);
		}
	}
	mr_epoch_offline(shared, me);
	return NULL;
}

Test(epoch, freed_memory_is_not_read)
{
	pthread_t t[READERS];

	shared = mr_epoch_create();
	cell = malloc(sizeof(*cell));
	*cell = 7;
	for (uintptr_t i = 0; i < READERS; i++)
		pthread_create(&t[i], NULL, reader, (void *)i);
	for (unsigned i = 0; i < ROUNDS; i++) {
		int *next = malloc(sizeof(*next)), *old = cell;
		*next = 7;
		__atomic_store_n(&cell, next, __ATOMIC_RELEASE);
		cr_assert_eq(mr_epoch_wait(shared, mr_epoch_retire(shared), 10000), 0);
		*old = 8;
		free(old);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(t[i], NULL);
	cr_assert_eq(wrong, 0);
	free(cell);
	mr_epoch_destroy(shared);
}
