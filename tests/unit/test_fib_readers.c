/* SPDX-License-Identifier: BSD-2-Clause */
/* test_fib_readers.c - what a reader sees while the forwarding table changes, and when what it could be in is used again. */
#include "core/fib_table.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

/* ---- blocks given up ------------------------------------------------------------------------------------------- */

static void swing(struct mr_fib *f, unsigned times)
{
	uint8_t addr[16] = { 10, 1, 2, 64 };

	for (unsigned i = 0; i < times; i++) {
		cr_assert_eq(mr_fib_set(f, AF_INET, addr, 26, 1 + i % 2), 0);
		cr_assert_eq(mr_fib_set(f, AF_INET6, addr, 61, 1 + i % 2), 0);
		cr_assert_eq(mr_fib_unset(f, AF_INET, addr, 26), 0);
		cr_assert_eq(mr_fib_unset(f, AF_INET6, addr, 61), 0);
	}
}

Test(fib_readers, blocks_wait_for_readers)
{
	struct mr_epoch *e = mr_epoch_create();
	struct mr_fib *f = mr_fib_create(e);
	struct mr_fib_usage quiet, held, later;

	swing(f, 1000);
	mr_fib_usage(f, &quiet);
	swing(f, 100000);
	mr_fib_usage(f, &held);
	cr_assert_eq(held.bytes, quiet.bytes, "with nobody online what is given up is used again");
	mr_epoch_online(e, 0);
	swing(f, 1000); /* 6 blocks each */
	mr_fib_usage(f, &held);
	cr_assert_geq(held.bytes, quiet.bytes + 64 * (6 * 1000 - 300), "a reader online may be in any of them");
	mr_epoch_quiet(e, 0);
	swing(f, 500);
	mr_fib_usage(f, &later);
	cr_assert_leq(later.bytes, held.bytes + 64 * 32, "it was quiet: those before that are free again");
	mr_epoch_offline(e, 0);
	swing(f, 10000);
	mr_fib_usage(f, &held);
	cr_assert_eq(held.bytes, later.bytes);
	mr_fib_destroy(f);
	mr_epoch_destroy(e);
}

/* Busy readers are always some updates behind, one or the other: what both have left is used again all the same. */
Test(fib_readers, busy_readers_hold_up_only_the_newest)
{
	struct mr_epoch *e = mr_epoch_create();
	struct mr_fib *f = mr_fib_create(e);
	struct mr_fib_usage before, after;

	mr_epoch_online(e, 0);
	mr_epoch_online(e, 1);
	for (unsigned i = 0; i < 1000; i++) {
		swing(f, 101); /* 6 blocks each */
		mr_epoch_quiet(e, i % 2);
		if (i == 100)
			mr_fib_usage(f, &before);
	}
	mr_fib_usage(f, &after);
	cr_assert_leq(after.bytes, before.bytes + 64 * 1024, "it grew by %lu bytes",
		(unsigned long)(after.bytes - before.bytes));
	mr_fib_destroy(f);
	mr_epoch_destroy(e);
}

/* However many wait when the last reader leaves, and by however many that number then grows: it does not grow for ever. */
Test(fib_readers, what_waits_is_used_again_whatever_its_number)
{
	static const uint8_t four[4] = { 10, 1, 2, 3 }, six[16] = { 0x20, 1, 0xd, 0xb8, 7 };
	struct mr_epoch *e = mr_epoch_create();
	struct mr_fib *f = mr_fib_create(e);
	struct mr_fib_usage before, after;

	cr_assert_eq(mr_fib_set(f, AF_INET6, six, 24, 1), 0); /* its huge page counts from the first */
	for (unsigned cnt = 128; cnt < 160; cnt++) {
		mr_epoch_online(e, 0);
		for (unsigned i = 0; i < cnt; i++) { /* a block each */
			cr_assert_eq(mr_fib_set(f, AF_INET, four, 32, 1), 0);
			cr_assert_eq(mr_fib_unset(f, AF_INET, four, 32), 0);
		}
		mr_epoch_offline(e, 0);
		mr_fib_usage(f, &before);
		for (unsigned i = 0; i < 2000; i++) { /* two */
			cr_assert_eq(mr_fib_set(f, AF_INET6, six, 40, 1), 0);
			cr_assert_eq(mr_fib_unset(f, AF_INET6, six, 40), 0);
		}
		mr_fib_usage(f, &after);
		cr_assert_leq(after.bytes, before.bytes + 64 * 1024, "%u blocks waited, and it grew by %lu bytes", cnt,
			(unsigned long)(after.bytes - before.bytes));
	}
	mr_fib_destroy(f);
	mr_epoch_destroy(e);
}

/* ---- updates during a lookup ----------------------------------------------------------------------------------- */

/*
 * A prefix Q inside P.  Q is always there while P has the value DARK, so no reader may ever see DARK: not even one that read P's value before
 * Q was taken out and Q's place after it.
 */
enum { LIGHT = 11, Q1, Q2, DEEP, DARK };
/*
 * Two updates between two loads of one lookup.  Blocks are made unreadable, so that the lookup stops when it has what P says and wants to
 * know of Q; there P gets LIGHT and Q goes.  What it has read by then and what it reads after were never so together.
 */
static struct mr_fib *stopped;
static unsigned stopped_family, stop_cnt;
static const uint8_t under_q[2][16] = { { 10, 1, 2 }, { 0x20, 1, 0xd } };

static void blocks_readable(bool readable)
{
	cr_assert_eq(mprotect(stopped->arena, stopped->unit_max * MR_FIB_UNIT_BYTES,
			     readable ? PROT_READ | PROT_WRITE : PROT_NONE),
		0);
}

static void on_fault(int signal)
{
	const uint8_t *addr = under_q[stopped_family == AF_INET6];

	(void)signal;
	stop_cnt++;
	blocks_readable(true);
	cr_assert_eq(mr_fib_set(stopped, stopped_family, addr, 8, LIGHT), 0);
	cr_assert_eq(mr_fib_unset(stopped, stopped_family, addr, 25), 0);
}

/* The values of n addresses under Q, looked up while that happens; n 0: of one, alone. */
static void stop_in(unsigned family, bool wide, unsigned n, uint32_t *value)
{
	uint8_t beside[16], addr6[64][16];
	__be32 addr4[64];

	stopped_family = family;
	stopped = mr_fib_create(NULL);
	if (!wide)
		stopped->wide[0] = stopped->wide[1] = NULL;
	for (unsigned i = 0; i < 64; i++) {
		memcpy(addr6[i], under_q[1], 16);
		memcpy(&addr4[i], under_q[0], 4);
		addr6[i][3] = ((uint8_t *)&addr4[i])[3] = (uint8_t)i;
	}
	memcpy(beside, under_q[family == AF_INET6], 16);
	cr_assert_eq(mr_fib_set(stopped, family, beside, 25, Q1), 0);
	cr_assert_eq(mr_fib_set(stopped, family, beside, 8, DARK), 0);
	beside[3] = 128; /* so that Q goes in place: its block keeps its borders */
	cr_assert_eq(mr_fib_set(stopped, family, beside, 25, Q2), 0);
	stop_cnt = 0;
	blocks_readable(false);
	if (family == AF_INET)
		n ? mr_fib_lookup4_bulk(stopped, addr4, value, n) : (void)(*value = mr_fib_lookup4(stopped, *addr4));
	else
		n ? mr_fib_lookup6_bulk(stopped, (const uint8_t(*)[16])addr6, value, n)
		  : (void)(*value = mr_fib_lookup6(stopped, *addr6));
	mr_fib_destroy(stopped);
}

Test(fib_readers, two_updates_during_one_lookup)
{
	static const unsigned sizes[] = { 0, 1, 15, 16, 17, 64 };
	uint32_t value[64];

	signal(SIGSEGV, on_fault);
	for (unsigned i = 0; i < 2 * 2 * 6; i++) {
		unsigned family = i % 2 ? AF_INET6 : AF_INET, n = sizes[i / 4];
		bool wide = i / 2 % 2;
		stop_in(family, wide, n, value);
		cr_assert_eq(stop_cnt, 1, "the lookup was stopped where it was to be");
		for (unsigned k = 0; k < (n ? n : 1); k++)
			cr_assert_eq(value[k], LIGHT, "family %u, %s, %u of %u: %u", family, wide ? "wide" : "plain", k,
				n, value[k]);
	}
}

/* ---- readers of their own -------------------------------------------------------------------------------------- */

#define READERS 2
static struct {
	struct mr_fib *f;
	struct mr_epoch *e;
	bool stop;
	unsigned long wrong, lookups, saw[DARK + 1];
} t;

static void judge(uint32_t value)
{
	if (value < LIGHT || value >= DARK)
		__atomic_add_fetch(&t.wrong, 1, __ATOMIC_RELAXED);
	else
		__atomic_store_n(&t.saw[value], 1, __ATOMIC_RELAXED);
}

static void *reader(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	uint8_t addr6[64][16];
	__be32 addr4[64];
	uint32_t value[64];

	for (unsigned i = 0; i < 64; i++) {
		memcpy(addr6[i], (uint8_t[16]){ 0x20, 1, 0xd, 0xb8, 0, 7, 9, (uint8_t)i }, 16);
		memcpy(&addr4[i], (uint8_t[4]){ 10, 1, 2, (uint8_t)(64 + i % 16) }, 4);
	}
	mr_epoch_online(t.e, me);
	while (!__atomic_load_n(&t.stop, __ATOMIC_RELAXED)) {
		mr_fib_lookup4_bulk(t.f, addr4, value, 64);
		for (unsigned i = 0; i < 64; i++)
			judge(value[i]);
		mr_fib_lookup6_bulk(t.f, (const uint8_t(*)[16])addr6, value, 64);
		for (unsigned i = 0; i < 64; i++)
			judge(value[i]);
		for (unsigned i = 0; i < 64; i++) {
			judge(mr_fib_lookup4(t.f, addr4[i]));
			judge(mr_fib_lookup6(t.f, addr6[i]));
		}
		__atomic_add_fetch(&t.lookups, 256, __ATOMIC_RELAXED);
		mr_epoch_quiet(t.e, me);
	}
	mr_epoch_offline(t.e, me);
	return NULL;
}

static void both(unsigned bits4, unsigned bits6, uint32_t value)
{
	static const uint8_t addr4[4] = { 10, 1, 2, 64 };
	static const uint8_t addr6[16] = { 0x20, 1, 0xd, 0xb8, 0, 7, 9, 0 };

	if (value) {
		cr_assert_eq(mr_fib_set(t.f, AF_INET, addr4, bits4, value), 0);
		cr_assert_eq(mr_fib_set(t.f, AF_INET6, addr6, bits6, value), 0);
	} else {
		cr_assert_eq(mr_fib_unset(t.f, AF_INET, addr4, bits4), 0);
		cr_assert_eq(mr_fib_unset(t.f, AF_INET6, addr6, bits6), 0);
	}
}

#ifdef __SANITIZE_THREAD__ /* it sees each pair of accesses once, and slowly */
#define CHURN_CNT 2000
#else
#define CHURN_CNT 40000
#endif

Test(fib_readers, readers_see_what_was_or_what_is, .timeout = 60)
{
	static const struct {
		unsigned p4, q4, p6, q6;
	} shape[] = { { 22, 26, 40, 56 }, { 8, 16, 7, 47 }, { 25, 27, 49, 55 }, { 0, 26, 0, 48 } };
	pthread_t thread[READERS];

	t.e = mr_epoch_create();
	t.f = mr_fib_create(t.e);
	both(0, 0, LIGHT);
	for (unsigned i = 0; i < READERS; i++)
		pthread_create(&thread[i], NULL, reader, (void *)(uintptr_t)i);
	for (unsigned i = 0; i < CHURN_CNT; i++) {
		unsigned s = i / 100 % 4;
		both(shape[s].q4, shape[s].q6, Q1 + i % 2);
		both(shape[s].p4, shape[s].p6, DARK);
		if (i % 3 == 0) { /* deeper: the block of Q changes its shape around it */
			both(28, 58, DEEP);
			both(32, 128, DEEP);
			both(28, 58, 0);
			both(32, 128, 0);
		}
		both(shape[s].q4, shape[s].q6, Q2 - i % 2);
		both(shape[s].p4, shape[s].p6, LIGHT);
		both(shape[s].q4, shape[s].q6, 0);
		if (shape[s].p4)
			both(shape[s].p4, shape[s].p6, 0);
	}
	__atomic_store_n(&t.stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < READERS; i++)
		pthread_join(thread[i], NULL);
	cr_assert_eq(t.wrong, 0, "%lu of %lu lookups saw a value that was never there", t.wrong, t.lookups);
	cr_assert(t.saw[LIGHT] && t.saw[Q1] && t.saw[Q2]);
	mr_fib_destroy(t.f);
	mr_epoch_destroy(t.e);
}
