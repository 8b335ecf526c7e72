/* SPDX-License-Identifier: BSD-2-Clause */
/* test_nat_ports.c - ports of an address: against a naive model, to the last one, and how long they rest. */
#include "pipelines/nat44/ports.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 1;

static uint32_t random32(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 32);
}

static struct nat_ports *fresh(void)
{
	struct nat_ports *p = calloc(1, sizeof(*p));

	cr_assert_not_null(p);
	return p;
}

static int take_of(
	struct nat_ports *p, uint16_t lo, uint16_t hi, uint32_t now_ms, uint32_t quarantine_ms, uint16_t *port)
{
	struct nat_ports_want want = { .lo = lo, .hi = hi, .random = random32() };

	return nat_ports_take(p, &want, now_ms, quarantine_ms, port);
}

/* ---- to the last one --------------------------------------------------------------------------------------------- */

static void use_up(enum nat_choice choice)
{
	struct nat_ports *p = fresh();
	uint8_t *seen = calloc(1, 65536);
	struct nat_ports_want want = { .lo = 0, .hi = 65535, .choice = (uint8_t)choice };
	uint16_t port, again;

	for (unsigned i = 0; i < 65536; i++) {
		want.random = random32();
		want.inside = (uint16_t)random32();
		cr_assert_eq(nat_ports_take(p, &want, 5, 1000, &port), 0, "after %u", i);
		cr_assert(!seen[port]);
		seen[port] = 1;
	}
	cr_assert_eq(nat_ports_take(p, &want, 5, 1000, &port), -EADDRINUSE);
	cr_assert_eq(p->taken_cnt, 65536);
	for (unsigned i = 0; i < 10000; i++) { /* the one that is left, wherever the search begins */
		uint16_t one = (uint16_t)random32();
		nat_ports_give(p, one, true, 5, 1000);
		want.random = random32();
		cr_assert_eq(nat_ports_take(p, &want, 5, 1000, &again), 0);
		cr_assert_eq(again, one);
	}
	free(seen);
	free(p);
}

Test(nat_ports, all_65536_can_be_taken)
{
	use_up(NAT_CHOICE_RANDOM);
	use_up(NAT_CHOICE_PARITY);
	use_up(NAT_CHOICE_PRESERVE);
}

Test(nat_ports, only_of_the_range)
{
	static const struct {
		uint16_t lo, hi;
	} range[] = { { 0, 0 }, { 65535, 65535 }, { 1024, 65535 }, { 63, 64 }, { 4095, 4096 }, { 100, 163 },
		{ 5, 4099 } };
	uint16_t port;

	for (unsigned r = 0; r < sizeof(range) / sizeof(range[0]); r++) {
		struct nat_ports *p = fresh();
		for (unsigned i = range[r].lo; i <= range[r].hi; i++) {
			cr_assert_eq(take_of(p, range[r].lo, range[r].hi, 0, 0, &port), 0);
			cr_assert(port >= range[r].lo && port <= range[r].hi);
		}
		cr_assert_eq(take_of(p, range[r].lo, range[r].hi, 0, 0, &port), -EADDRINUSE);
		free(p);
	}
	struct nat_ports *p = fresh();
	cr_assert_eq(take_of(p, 10, 9, 0, 0, &port), -EADDRINUSE, "an empty one");
	free(p);
}

/* Each 1024th of the range is begun at about as often. */
Test(nat_ports, choice_is_spread_over_the_range)
{
	unsigned hits[64] = { 0 };
	struct nat_ports *p = fresh();
	uint16_t port;

	for (unsigned i = 0; i < 64000; i++) {
		cr_assert_eq(take_of(p, 0, 65535, 0, 0, &port), 0);
		hits[port / 1024]++;
		nat_ports_give(p, port, true, 0, 0);
	}
	for (unsigned i = 0; i < 64; i++)
		cr_assert(hits[i] > 800 && hits[i] < 1200, "%u: %u", i, hits[i]);
	free(p);
}

/* ---- rest -------------------------------------------------------------------------------------------------------- */

/* Given back at each moment of a turn: it rests for the quarantine at least, and a third more at most. */
Test(nat_ports, rests_at_least_the_quarantine_and_a_third_more_at_most)
{
	static const uint32_t quarantine[] = { 1, 2, 3, 10, 100, 120000 };
	static const uint32_t begin[] = { 0, 1, 77777, UINT32_MAX - 70000, UINT32_MAX - 50, 0x7fffffff };

	for (unsigned q = 0; q < 6; q++)
		for (unsigned b = 0; b < 6; b++)
			for (unsigned into = 0; into < 30; into++) {
				uint32_t part = (quarantine[q] + 2) / 3, given = begin[b] + part * into / 10;
				struct nat_ports *p = fresh();
				uint16_t port, other;
				p->turned_ms = begin[b]; /* as if it had been in use */
				cr_assert_eq(take_of(p, 7, 7, given, quarantine[q], &port), 0);
				nat_ports_give(p, 7, false, given, quarantine[q]);
				cr_assert_eq(nat_ports_resting(p), 1);
				for (uint32_t t = 0; t<quarantine[q]; t += part> 20 ? part / 20 : 1)
					cr_assert_eq(take_of(p, 7, 7, given + t, quarantine[q], &other), -EADDRINUSE);
				cr_assert_eq(take_of(p, 7, 7, given + quarantine[q] - 1, quarantine[q], &other),
					-EADDRINUSE, "quarantine %u, %u into it", quarantine[q], into);
				cr_assert_eq(take_of(p, 7, 7, given + 4 * part, quarantine[q], &other), 0,
					"quarantine %u, %u into it", quarantine[q], into);
				free(p);
			}
}

Test(nat_ports, no_quarantine_no_rest)
{
	struct nat_ports *p = fresh();
	uint16_t port;

	for (unsigned i = 0; i < 1000; i++) {
		cr_assert_eq(take_of(p, 9, 9, i / 100, 0, &port), 0);
		nat_ports_give(p, 9, false, i / 100, 0);
	}
	cr_assert_eq(nat_ports_resting(p), 0);
	free(p);
}

/* The quarantine is taken away by a reload: what rested is free. */
Test(nat_ports, quarantine_that_ends)
{
	struct nat_ports *p = fresh();
	uint16_t port;

	cr_assert_eq(take_of(p, 9, 9, 1000, 120000, &port), 0);
	nat_ports_give(p, 9, false, 1000, 120000);
	cr_assert_eq(take_of(p, 9, 9, 1001, 120000, &port), -EADDRINUSE);
	cr_assert_eq(take_of(p, 9, 9, 1002, 0, &port), 0);
	free(p);
}

/* A clock that is a little behind another frees nothing. */
Test(nat_ports, clocks_may_differ)
{
	struct nat_ports *p = fresh();
	uint16_t port;

	cr_assert_eq(take_of(p, 9, 9, 500000, 9000, &port), 0);
	nat_ports_turn(p, 500000, 9000);
	nat_ports_give(p, 9, false, 499000, 9000);
	cr_assert_eq(take_of(p, 9, 9, 495000, 9000, &port), -EADDRINUSE);
	cr_assert_eq(take_of(p, 9, 9, 500500, 9000, &port), -EADDRINUSE);
	cr_assert_eq(nat_ports_resting(p), 1);
	free(p);
}

Test(nat_ports, next_turn_is_when_something_may_be_free)
{
	struct nat_ports *p = fresh();
	uint32_t at_ms, now_ms = 5000;
	uint16_t port;

	cr_assert(!nat_ports_next_turn(p, 9000, &at_ms));
	cr_assert_eq(take_of(p, 9, 9, now_ms, 9000, &port), 0);
	cr_assert(!nat_ports_next_turn(p, 9000, &at_ms));
	nat_ports_give(p, 9, false, now_ms, 9000);
	while (nat_ports_next_turn(p, 9000, &at_ms)) {
		cr_assert_eq(nat_ports_turn(p, at_ms - 1, 9000), 0);
		nat_ports_turn(p, now_ms = at_ms, 9000);
	}
	cr_assert(now_ms >= 14000 && now_ms <= 17000);
	free(p);
}

/* ---- parity, preservation ---------------------------------------------------------------------------------------- */

Test(nat_ports, parity_as_long_as_there_are_any)
{
	struct nat_ports *p = fresh();
	struct nat_ports_want want = { .lo = 1024, .hi = 2047, .choice = NAT_CHOICE_PARITY, .inside = 5001 };
	uint16_t port;

	for (unsigned i = 0; i < 1024; i++) {
		want.random = random32();
		cr_assert_eq(nat_ports_take(p, &want, 0, 0, &port), 0);
		cr_assert_eq(
			port % 2, i < 512, "odd ones first, then the others: RFC 4787 REQ-4 is no reason to refuse");
	}
	free(p);
}

Test(nat_ports, the_same_port_when_it_is_free)
{
	struct nat_ports *p = fresh();
	struct nat_ports_want want = { .lo = 1024, .hi = 65535, .choice = NAT_CHOICE_PRESERVE, .inside = 5060 };
	uint16_t port;

	cr_assert_eq(nat_ports_take(p, &want, 0, 100, &port), 0);
	cr_assert_eq(port, 5060);
	cr_assert_eq(nat_ports_take(p, &want, 0, 100, &port), 0);
	cr_assert(port != 5060 && port % 2 == 0);
	nat_ports_give(p, 5060, false, 0, 100);
	cr_assert_eq(nat_ports_take(p, &want, 50, 100, &port), 0);
	cr_assert_neq(port, 5060, "it rests");
	want.inside = 80;
	cr_assert_eq(nat_ports_take(p, &want, 50, 100, &port), 0);
	cr_assert(port >= 1024 && port % 2 == 0, "outside of the range");
	free(p);
}

/* ---- reserved, closed -------------------------------------------------------------------------------------------- */

Test(nat_ports, reserved_ones_are_not_given)
{
	struct nat_ports *p = fresh();
	uint16_t port;

	for (unsigned i = 100; i < 110; i++)
		cr_assert_eq(take_of(p, (uint16_t)i, (uint16_t)i, 0, 90, &port), 0);
	nat_ports_give(p, 109, false, 0, 90);
	nat_ports_reserve(p, 105, 300);
	nat_ports_reserve(p, 105, 200);
	cr_assert_eq(p->reserved_cnt, 196);
	cr_assert_eq(p->taken_cnt, 9, "those taken stay so");
	for (unsigned i = 100; i < 108; i++)
		nat_ports_give(p, (uint16_t)i, true, 0, 90);
	for (unsigned i = 0; i < 5; i++)
		cr_assert_eq(take_of(p, 100, 300, 1000, 90, &port), 0);
	cr_assert_eq(take_of(p, 100, 300, 1000, 90, &port), -EADDRINUSE);
	nat_ports_unreserve(p, NULL);
	cr_assert_eq(p->reserved_cnt, 0);
	for (unsigned i = 0; i < 195; i++)
		cr_assert_eq(take_of(p, 100, 300, 1000, 90, &port), 0, "all but 108, which is taken still");
	cr_assert_eq(take_of(p, 100, 300, 1000, 90, &port), -EADDRINUSE);
	free(p);
}

Test(nat_ports, closed_units_are_left_out)
{
	struct nat_ports *p = fresh();
	uint64_t closed[64];
	struct nat_ports_want want = { .hi = 65535, .closed = closed };
	uint16_t port;

	memset(closed, 0xff, sizeof(closed));
	cr_assert_eq(nat_ports_take(p, &want, 0, 0, &port), -EADDRINUSE);
	closed[63] &= ~(1ull << 63);
	closed[7] &= ~(1ull << 2);
	for (unsigned i = 0; i < 32; i++) {
		want.random = random32();
		cr_assert_eq(nat_ports_take(p, &want, 0, 0, &port), 0);
		cr_assert(port / 16 == 4095 || port / 16 == 7 * 64 + 2);
	}
	cr_assert_eq(nat_ports_take(p, &want, 0, 0, &port), -EADDRINUSE);
	free(p);
}

/* ---- the model --------------------------------------------------------------------------------------------------- */

enum { FREE, TAKEN, RESTING };

struct model {
	struct nat_ports *p;
	uint8_t is[65536];
	bool reserved[65536];
	uint32_t given_ms[65536];
	uint16_t taken[65536];
	unsigned taken_cnt;
	uint32_t now_ms, quarantine_ms;
};

static bool may_be_free(const struct model *m, unsigned port)
{
	return !m->reserved[port] &&
		(m->is[port] == FREE || (m->is[port] == RESTING && m->now_ms - m->given_ms[port] >= m->quarantine_ms));
}

static bool must_be_free(const struct model *m, unsigned port)
{
	uint32_t most_ms = (m->quarantine_ms + 2) / 3 * 4;

	return !m->reserved[port] &&
		(m->is[port] == FREE || (m->is[port] == RESTING && m->now_ms - m->given_ms[port] >= most_ms));
}

static bool some_must_be_free(const struct model *m, unsigned lo, unsigned hi, int parity)
{
	for (unsigned port = lo; port <= hi; port++)
		if ((parity < 0 || (int)(port % 2) == parity) && must_be_free(m, port))
			return true;
	return false;
}

static void model_take(struct model *m, uint16_t lo, uint16_t hi)
{
	struct nat_ports_want want = { .lo = lo,
		.hi = hi,
		.inside = (uint16_t)(lo + random32() % (hi - lo + 1u)),
		.choice = (uint8_t)(random32() % 3),
		.random = random32() };
	bool same = must_be_free(m, want.inside);
	uint16_t port = 0;
	int rc = nat_ports_take(m->p, &want, m->now_ms, m->quarantine_ms, &port);

	if (rc) {
		cr_assert_eq(rc, -EADDRINUSE);
		cr_assert(!some_must_be_free(m, lo, hi, -1));
		return;
	}
	cr_assert(port >= lo && port <= hi);
	cr_assert(may_be_free(m, port), "%u is %u, reserved %u", port, m->is[port], m->reserved[port]);
	if (want.choice == NAT_CHOICE_PRESERVE && same)
		cr_assert_eq(port, want.inside);
	if (want.choice != NAT_CHOICE_RANDOM && (port ^ want.inside) & 1)
		cr_assert(!some_must_be_free(m, lo, hi, want.inside % 2));
	m->is[port] = TAKEN;
	m->taken[m->taken_cnt++] = port;
}

static void model_give(struct model *m)
{
	unsigned at = random32() % m->taken_cnt;
	uint16_t port = m->taken[at];
	bool unused = random32() % 4 == 0;

	m->taken[at] = m->taken[--m->taken_cnt];
	nat_ports_give(m->p, port, unused, m->now_ms, m->quarantine_ms);
	m->is[port] = unused ? FREE : RESTING;
	m->given_ms[port] = m->now_ms;
}

static void model_reserve(struct model *m, uint16_t lo, uint16_t hi)
{
	if (random32() % 4) {
		nat_ports_reserve(m->p, lo, hi);
		memset(m->reserved + lo, 1, hi - lo + 1u);
	} else {
		nat_ports_unreserve(m->p, NULL);
		memset(m->reserved, 0, sizeof(m->reserved));
	}
}

/* `fill`: of 16 operations how many take, in turns of many. */
static void model_run(uint32_t quarantine_ms, uint16_t lo, uint16_t hi, unsigned operations, unsigned time)
{
	struct model *m = calloc(1, sizeof(*m));
	unsigned fill = 12;

	m->p = fresh();
	m->quarantine_ms = quarantine_ms;
	m->now_ms = random32();
	m->p->turned_ms = m->now_ms;
	for (unsigned i = 0; i < operations; i++) {
		if (i % 4096 == 0)
			fill = 4 + random32() % 9;
		if (random32() % 16 < fill)
			model_take(m, lo, (uint16_t)(lo + (hi - lo) / (1 + random32() % 3)));
		else if (m->taken_cnt)
			model_give(m);
		if (random32() % 20000 == 0)
			model_reserve(m, (uint16_t)(lo + 3), (uint16_t)(lo + 3 + random32() % ((hi - lo) / 4)));
		if (random32() % 8 == 0)
			m->now_ms += random32() % time;
		if (random32() % 50000 == 0)
			m->now_ms += quarantine_ms * (random32() % 3);
		cr_assert_eq(m->p->taken_cnt, m->taken_cnt);
	}
	for (unsigned port = 0; port < 65536; port++) /* taken ones are busy, others are so only while they rest */
		if (m->is[port] == TAKEN)
			cr_assert(m->p->busy[port / 64] >> port % 64 & 1);
		else if (m->is[port] == FREE)
			cr_assert(!(m->p->busy[port / 64] >> port % 64 & 1));
	free(m->p);
	free(m);
}

Test(nat_ports, model_of_few, .timeout = 120)
{
	for (unsigned i = 0; i < 10; i++)
		model_run(120 + i * 37, (uint16_t)(1000 + i * 13), (uint16_t)(1200 + i * 29), 200000, 4);
}

Test(nat_ports, model_of_all, .timeout = 120)
{
	model_run(3000, 0, 65535, 1500000, 2);
	model_run(0, 1024, 65535, 500000, 2);
}
