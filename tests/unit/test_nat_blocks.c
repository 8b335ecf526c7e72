/* SPDX-License-Identifier: BSD-2-Clause */
/* test_nat_blocks.c - blocks of ports: whose they are, when they come back, and that nobody gets another's ports too early. */
#include "nat_store_rig.h"

/* ---- events ------------------------------------------------------------------------------------------------------ */

/* The owner of each unit of 16 ports of each address, by what the events say; and when its last port was given back. */
struct books {
	__be32 owner[RIG_ADDRESSES][4096];
	unsigned given, taken_back;
	uint32_t size;
	bool whole; /* blocks begin and end at multiples of their size */
};
static struct books books;

static void on_block(void *ctx, unsigned worker, const struct nat_block_event *e)
{
	uint32_t address = ntohl(e->outside_be) - ntohl(rig_outside(0));

	cr_assert_eq(ctx, &books);
	cr_assert(e->hi >= e->lo);
	if (books.whole)
		cr_assert(e->lo % books.size == 0 && e->hi == e->lo + books.size - 1);
	for (unsigned unit = e->lo / 16; unit <= e->hi / 16; unit++) {
		cr_assert_eq(
			books.owner[address][unit], e->given ? 0 : e->inside_be, "given twice, or taken from another");
		books.owner[address][unit] = e->given ? e->inside_be : 0;
	}
	*(e->given ? &books.given : &books.taken_back) += 1;
}

static void rig_blocks(struct rig *r, uint32_t addresses, uint16_t ports)
{
	rig_init(r, addresses, 1);
	memset(&books, 0, sizeof(books));
	books.size = ports;
	r->policy.block_ports = ports;
	r->policy.on_block = on_block;
	r->policy.ctx = &books;
}

static void tick(struct rig *r)
{
	for (unsigned i = 0; i < 64; i++)
		nat_store_tick(r->s, &r->turn);
}

static void finish(struct rig *r)
{
	r->turn.now_ms += 200000;
	tick(r);
	cr_assert_eq(books.given, books.taken_back);
	rig_end(r);
}

static __be32 owner_of(const struct nat_mapping *m)
{
	return books.owner[ntohl(m->outside_be) - ntohl(rig_outside(0))][ntohs(m->outside_port_be) / 16];
}

/* ---- whose ------------------------------------------------------------------------------------------------------- */

Test(nat_blocks, a_block_is_of_all_protocols_and_is_used_up_before_another_is_taken)
{
	static const uint16_t sizes[] = { 16, 32, 64, 128, 1024, 16384 };

	for (unsigned k = 0; k < 6; k++) {
		uint32_t cnt = sizes[k] * 3u, *mapping = calloc(cnt + 1, sizeof(*mapping));
		struct nat_mapping m;
		struct rig r;
		rig_blocks(&r, 2, sizes[k]);
		r.policy.port_lo = 16384;
		books.whole = true;
		for (uint32_t i = 0; i < cnt; i++) {
			struct nat_flow f = rig_flow(1, (uint16_t)(i / 3 + 1), 0, 80);
			f.proto = (uint8_t)(i % 3);
			mapping[i] = rig_take(&r, &f);
			m = rig_mapping(&r, mapping[i]);
			cr_assert_eq(owner_of(&m), rig_inside(1));
		}
		cr_assert_eq(books.given, 1);
		struct nat_flow f = rig_flow(1, 60000, 0, 80);
		mapping[cnt] = rig_take(&r, &f);
		cr_assert_eq(books.given, 2);
		for (uint32_t i = 0; i <= cnt; i++)
			nat_store_release(r.s, &r.turn, mapping[i], 0, false);
		free(mapping);
		finish(&r);
	}
}

/* 1024-65535 in blocks of 16384: the first is a smaller one, so that no port is lost. */
Test(nat_blocks, all_ports_of_the_range_are_in_a_block)
{
	struct rig r;
	uint32_t *mapping = calloc(64512, sizeof(*mapping));
	struct nat_address_usage a;
	struct nat_flow f;

	rig_blocks(&r, 1, 16384);
	for (uint32_t i = 0; i < 64512; i++) {
		f = rig_flow(1, (uint16_t)(i + 1), 0, 80);
		mapping[i] = rig_take(&r, &f);
	}
	cr_assert_eq(books.given, 4);
	f = rig_flow(1, 65000, 0, 80);
	cr_assert_eq(rig_refused(&r, &f), NAT_NO_BLOCKS);
	f = rig_flow(2, 65000, 0, 80);
	cr_assert_eq(rig_refused(&r, &f), NAT_NO_BLOCKS);
	cr_assert(nat_store_address_usage(r.s, 0, &a));
	cr_assert_eq(a.blocks, 4);
	cr_assert_eq(a.blocks_taken, 4);
	for (uint32_t i = 0; i < 64512; i++)
		nat_store_release(r.s, &r.turn, mapping[i], 0, false);
	free(mapping);
	finish(&r);
}

Test(nat_blocks, every_block_of_every_size_can_be_had)
{
	for (uint16_t size = 16; size <= 16384; size *= 2) {
		uint32_t cnt = 2 * (65536u / size) - 2 * (size < 1024 ? 1024u / size : 0),
			 *mapping = calloc(cnt, sizeof(*mapping));
		struct nat_flow f;
		struct rig r;
		rig_blocks(&r, 2, size);
		if (size > 1024)
			r.policy.port_lo = 0;
		else if (size == 1024)
			cnt -= 2;
		for (uint32_t i = 0; i < cnt; i++) {
			f = rig_flow(i, 5, 0, 80);
			mapping[i] = rig_take(&r, &f);
		}
		f = rig_flow(cnt, 5, 0, 80);
		cr_assert_eq(rig_refused(&r, &f), NAT_NO_BLOCKS, "size %u", size);
		for (uint32_t i = 0; i < cnt; i++)
			nat_store_release(r.s, &r.turn, mapping[i], 0, i % 2);
		free(mapping);
		finish(&r);
	}
}

Test(nat_blocks, limit_of_blocks)
{
	struct rig r;
	struct nat_flow f;
	uint32_t mapping[33];

	rig_blocks(&r, 2, 16);
	r.policy.blocks_max = 2;
	for (unsigned i = 0; i < 32; i++) {
		f = rig_flow(1, (uint16_t)(i + 1), 0, 80);
		mapping[i] = rig_take(&r, &f);
	}
	f = rig_flow(1, 77, 0, 80);
	cr_assert_eq(rig_refused(&r, &f), NAT_BLOCK_LIMIT);
	f.proto = NAT_TCP;
	mapping[32] = rig_take(&r, &f);
	for (unsigned i = 0; i < 33; i++)
		nat_store_release(r.s, &r.turn, mapping[i], 0, true);
	finish(&r);
}

Test(nat_blocks, as_many_as_256_whatever_the_limit)
{
	struct rig r;
	struct nat_flow f;
	static uint32_t mapping[16 * 256];

	rig_blocks(&r, 1, 16);
	for (unsigned i = 0; i < 16 * 256; i++) {
		f = rig_flow(1, (uint16_t)(i + 1), 0, 80);
		mapping[i] = rig_take(&r, &f);
	}
	f = rig_flow(1, 60000, 0, 80);
	cr_assert_eq(rig_refused(&r, &f), NAT_BLOCK_LIMIT);
	for (unsigned i = 0; i < 16 * 256; i++)
		nat_store_release(r.s, &r.turn, mapping[i], 0, i % 5 == 0);
	finish(&r);
}

/* ---- when they come back ----------------------------------------------------------------------------------------- */

Test(nat_blocks, a_block_goes_back_when_all_its_ports_have_rested)
{
	struct rig r;
	struct nat_flow f = rig_flow(1, 1, 0, 80), g = rig_flow(1, 2, 0, 80), h = rig_flow(2, 1, 0, 80);
	uint32_t one, two;

	rig_blocks(&r, 1, 64);
	r.policy.port_lo = 1024;
	r.policy.port_hi = 1087;
	one = rig_take(&r, &f);
	two = rig_take(&r, &g);
	nat_store_release(r.s, &r.turn, one, 0, false);
	r.turn.now_ms += 100000;
	nat_store_release(r.s, &r.turn, two, 0, false);
	r.turn.now_ms += 119000;
	tick(&r);
	cr_assert_eq(books.taken_back, 0);
	cr_assert_eq(rig_refused(&r, &h), NAT_NO_BLOCKS);
	one = rig_take(&r, &f); /* its owner may use it meanwhile */
	cr_assert_eq(books.given, 1);
	r.turn.now_ms += 400000;
	tick(&r);
	cr_assert_eq(books.taken_back, 0, "it is in use again");
	nat_store_release(r.s, &r.turn, one, 0, false);
	r.turn.now_ms += 119999;
	tick(&r);
	cr_assert_eq(books.taken_back, 0);
	r.turn.now_ms += 40002;
	tick(&r);
	cr_assert_eq(books.taken_back, 1);
	one = rig_take(&r, &h);
	nat_store_release(r.s, &r.turn, one, 0, false);
	finish(&r);
}

Test(nat_blocks, unused_blocks_go_back_at_once)
{
	struct rig r;
	struct nat_flow f = rig_flow(1, 1, 0, 80);
	uint32_t one;

	rig_blocks(&r, 1, 64);
	one = rig_take(&r, &f);
	nat_store_release(r.s, &r.turn, one, 0, true);
	cr_assert_eq(books.taken_back, 1);
	r.policy.quarantine_ms = 0;
	one = rig_take(&r, &f);
	nat_store_release(r.s, &r.turn, one, 0, false);
	cr_assert_eq(books.taken_back, 2, "no quarantine");
	finish(&r);
}

/* `explain`: nobody hears of a block that nobody got; who takes a port of it meanwhile gets it. */
Test(nat_blocks, a_trial_tells_nobody)
{
	struct rig r;
	struct nat_flow f = rig_flow(1, 1, 0, 80), g = rig_flow(1, 2, 0, 80);
	struct nat_store_usage u;
	struct nat_turn trial;
	uint32_t one, two;
	bool made;

	rig_blocks(&r, 1, 64);
	trial = r.turn;
	trial.trial = true;
	cr_assert_eq(nat_store_take(r.s, &trial, &f, &one, &made), NAT_OK);
	nat_store_release(r.s, &r.turn, one, 0, true);
	cr_assert_eq(books.given + books.taken_back, 0);

	cr_assert_eq(nat_store_take(r.s, &trial, &f, &one, &made), NAT_OK);
	two = rig_take(&r, &g);
	cr_assert_eq(books.given, 1);
	nat_store_release(r.s, &r.turn, one, 0, true);
	cr_assert_eq(books.taken_back, 0);
	nat_store_release(r.s, &r.turn, two, 0, true);
	cr_assert_eq(books.taken_back, 1);

	r.policy.sessions_max = 1;
	two = rig_take(&r, &g);
	cr_assert_eq(nat_store_take(r.s, &trial, &f, &one, &made), NAT_SESSION_LIMIT);
	nat_store_usage(r.s, &u);
	cr_assert_eq(u.refused[NAT_SESSION_LIMIT], 0);
	nat_store_release(r.s, &r.turn, two, 0, true);
	finish(&r);
}

Test(nat_blocks, a_subscriber_with_a_resting_block_keeps_its_address)
{
	struct rig r;
	struct nat_flow f = rig_flow(1, 1, 0, 80);
	uint32_t one;
	__be32 address;

	rig_blocks(&r, 64, 64);
	one = rig_take(&r, &f);
	address = rig_mapping(&r, one).outside_be;
	for (unsigned i = 0; i < 50; i++) {
		nat_store_release(r.s, &r.turn, one, 0, false);
		one = rig_take(&r, &f);
		cr_assert_eq(rig_mapping(&r, one).outside_be, address);
	}
	cr_assert_eq(books.given, 1);
	nat_store_release(r.s, &r.turn, one, 0, false);
	finish(&r);
}

/* Its block is at an address that left, or out of the new range: it counts for no limit, the subscriber gets another at once. */
Test(nat_blocks, blocks_a_policy_has_no_use_for_are_not_counted)
{
	struct nat_flow f = rig_flow(1, 1, 0, 80), g = rig_flow(1, 2, 0, 80), h = rig_flow(1, 3, 0, 80);
	uint32_t one, two, three, left;
	struct rig r;

	rig_blocks(&r, 2, 64);
	r.policy.blocks_max = 1;
	r.policy.port_hi = 32767;
	one = rig_take(&r, &f);
	left = rig_mapping(&r, one).outside_be == rig_outside(0);
	nat_policy_addresses(&r.policy, &r.number[left], 1);
	two = rig_take(&r, &g);
	cr_assert_eq(rig_mapping(&r, two).outside_be, rig_outside(left));
	r.policy.port_lo = 32768;
	r.policy.port_hi = 65535;
	three = rig_take(&r, &h);
	cr_assert_eq(books.given, 3);
	nat_store_release(r.s, &r.turn, one, 0, false);
	nat_store_release(r.s, &r.turn, two, 0, false);
	nat_store_release(r.s, &r.turn, three, 0, false);
	finish(&r);
}

/* ---- from one size to another, and to none ----------------------------------------------------------------------- */

Test(nat_blocks, sizes_change_and_nobody_gets_anothers)
{
	static const uint16_t sizes[] = { 64, 0, 512, 16, 0, 1024, 4096 };
	static struct {
		uint32_t mapping;
		unsigned inside;
	} held[20000];
	static __be32 single[65536]; /* who has it, not in a block of its own */
	unsigned cnt = 0;
	struct rig r;

	rig_blocks(&r, 1, 64);
	for (unsigned k = 0; k < 7; k++) {
		books.size = r.policy.block_ports = sizes[k];
		for (unsigned i = 0; i < 1500; i++) {
			struct nat_flow f = rig_flow(i % 40, (uint16_t)(k * 1500 + i + 1), 0, 80);
			struct nat_mapping m;
			bool made;
			if (nat_store_take(r.s, &r.turn, &f, &held[cnt].mapping, &made))
				continue;
			held[cnt++].inside = i % 40;
			m = rig_mapping(&r, held[cnt - 1].mapping);
			if (sizes[k])
				cr_assert_eq(owner_of(&m), f.inside_be);
			else
				cr_assert_eq(owner_of(&m), 0, "a single port is of nobody's block");
			if (!sizes[k])
				single[ntohs(m.outside_port_be)] = f.inside_be;
		}
		for (unsigned port = 0; port < 65536; port++)
			cr_assert(!single[port] || !books.owner[0][port / 16],
				"a block has single ports of others in it");
		for (unsigned i = 0; i < cnt / 2; i++) {
			struct nat_mapping m = rig_mapping(&r, held[i].mapping);
			single[ntohs(m.outside_port_be)] = 0;
			nat_store_release(r.s, &r.turn, held[i].mapping, 0, i % 2);
			held[i] = held[--cnt];
		}
		r.turn.now_ms += 30000;
		tick(&r);
	}
	cr_assert(books.given > 100);
	for (unsigned i = 0; i < cnt; i++)
		nat_store_release(r.s, &r.turn, held[i].mapping, 0, false);
	finish(&r);
}

/* ---- random operations: no port reaches another subscriber within the quarantine ----------------------------------- */

struct user {
	__be32 inside_be;
	uint32_t until_ms; /* given back then, to rest; 0 = unused, or never taken */
};

/* Somebody was given a port just now: whose it was, in any protocol (a block is of all three), has given it back long enough ago.  Returns in how
 * many it was somebody else's. */
static unsigned taken(struct user (*last)[3][65536], const struct nat_mapping *m, __be32 inside_be, uint32_t now_ms)
{
	struct user(*mine)[65536] = last[ntohl(m->outside_be) - ntohl(rig_outside(0))];
	uint16_t port = ntohs(m->outside_port_be);
	unsigned others = 0;
	for (unsigned p = 0; p < 3; p++) {
		const struct user *u = &mine[p][port];
		if (u->inside_be && u->inside_be != inside_be) {
			cr_assert((int32_t)(now_ms - u->until_ms) >= 0);
			others++;
		}
	}
	struct user *u = &mine[m->proto][port];
	cr_assert(u->until_ms == 0 || (int32_t)(now_ms - u->until_ms) >= 0, "nor its own");
	*u = (struct user){ inside_be, now_ms };
	return others;
}

static void run(uint32_t seed, uint32_t addresses, uint16_t size, bool paired, uint32_t blocks_max)
{
	struct user(*last)[3][65536] = calloc(addresses, sizeof(*last));
	struct {
		uint32_t mapping;
		struct nat_mapping is;
	} *held = calloc(40000, sizeof(*held));
	unsigned cnt = 0, others = 0, refused = 0, fill = 8;
	struct rig r;

	rig_blocks(&r, addresses, size);
	r.policy.paired = paired;
	r.policy.blocks_max = blocks_max;
	r.policy.port_lo = 1024;
	r.policy.port_hi = 1024 + 2047;
	r.policy.quarantine_ms = 3000;
	srandom(seed);
	for (unsigned i = 0; i < 400000; i++) {
		if (i % 2000 == 0)
			fill = (unsigned[]){ 0, 0, 3, 10, 15 }[random() % 5];
		if ((unsigned)random() % 16 < fill && cnt < 40000) {
			struct nat_flow f = rig_flow((uint32_t)random() % 60, (uint16_t)(random() % 65535 + 1), 0, 80);
			bool made;
			f.proto = (uint8_t)(random() % 3);
			if (nat_store_take(r.s, &r.turn, &f, &held[cnt].mapping, &made)) {
				refused++;
				continue;
			}
			held[cnt].is = rig_mapping(&r, held[cnt].mapping);
			cr_assert_eq(owner_of(&held[cnt].is), f.inside_be);
			if (made)
				others += taken(last, &held[cnt].is, f.inside_be, r.turn.now_ms);
			cnt++;
		} else if (cnt) {
			unsigned at = (unsigned)random() % cnt;
			const struct nat_mapping *m = &held[at].is;
			struct user *u = &last[ntohl(m->outside_be) - ntohl(rig_outside(0))][m->proto]
					      [ntohs(m->outside_port_be)];
			bool unused = random() % 8 == 0;
			nat_store_release(r.s, &r.turn, held[at].mapping, 0, unused);
			u->until_ms = r.turn.now_ms + 3000; /* for those unused this asks too much: they are left out */
			if (unused)
				u->inside_be = u->until_ms = 0;
			held[at] = held[--cnt];
		}
		r.turn.now_ms += cnt < 200 ? (uint32_t)random() % 16 : random() % 4 == 0;
		if (random() % 64 == 0)
			nat_store_tick(r.s, &r.turn);
	}
	cr_assert(others > 1000, "%u ports went from one to another", others);
	cr_assert(books.taken_back > 100, "%u", books.taken_back);
	cr_assert(refused > 1000, "%u", refused);
	while (cnt)
		nat_store_release(r.s, &r.turn, held[--cnt].mapping, 0, false);
	free(held);
	free(last);
	finish(&r);
}

Test(nat_blocks, never_anothers_within_the_quarantine, .timeout = 120)
{
	run(1, 1, 16, true, 0);
	run(2, 3, 64, true, 4);
	run(3, 2, 128, false, 0);
	run(4, 4, 256, true, 2);
}

/* A port of before there were blocks, beside the range of today but in the same block: it is nobody's block when it is given back. */
Test(nat_blocks, single_ports_beside_the_range_are_of_no_block)
{
	struct rig r;
	struct nat_flow f = rig_flow(1, 1, 0, 80), g = rig_flow(2, 1, 0, 80);
	rig_blocks(&r, 1, 2048);
	r.policy.block_ports = 0;
	r.policy.port_lo = r.policy.port_hi = 1030;
	uint32_t single = rig_take(&r, &f), mapping;
	r.policy.block_ports = 2048;
	r.policy.port_lo = 1100;
	r.policy.port_hi = 2047;
	cr_assert_eq(rig_refused(&r, &g), NAT_NO_BLOCKS, "not while that one is taken");
	nat_store_release(r.s, &r.turn, single, f.remote_be, true);
	r.turn.now_ms += 1000;
	mapping = rig_take(&r, &g);
	cr_assert_eq(books.given, 1);
	nat_store_release(r.s, &r.turn, mapping, g.remote_be, false);
	finish(&r);
}

/* A session that finds the mapping of a trial is the first to use its block. */
Test(nat_blocks, a_block_of_a_trial_is_told_when_it_is_used)
{
	struct rig r;
	struct nat_flow f = rig_flow(1, 1, 0, 80);
	struct nat_turn trial;
	struct nat_mapping m;
	uint32_t asked, used;
	bool made, filtered;
	rig_blocks(&r, 1, 64);
	trial = r.turn;
	trial.trial = true;
	for (unsigned inward = 0; inward < 2; inward++) {
		cr_assert_eq(nat_store_take(r.s, &trial, &f, &asked, &made), NAT_OK);
		m = rig_mapping(&r, asked);
		if (inward)
			cr_assert_eq(nat_store_take_outside(r.s, &r.turn, 0, NAT_UDP, m.outside_be, m.outside_port_be,
					     f.remote_be, f.remote_port_be, &used, &filtered),
				NAT_OK);
		else
			used = rig_take(&r, &f);
		cr_assert_eq(asked, used);
		cr_assert_eq(books.given, inward + 1);
		nat_store_release(r.s, &trial, asked, 0, true);
		nat_store_release(r.s, &r.turn, used, 0, false);
		r.turn.now_ms += 200000;
		trial.now_ms = r.turn.now_ms;
		tick(&r);
		cr_assert_eq(books.taken_back, inward + 1);
	}
	finish(&r);
}
