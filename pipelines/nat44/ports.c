/* SPDX-License-Identifier: BSD-2-Clause */
/* ports.c - free, taken, resting: bitmaps and their summary. */
#include "pipelines/nat44/ports.h"

#include <errno.h>

enum { EVEN = 1, ODD = 2, ANY = 3 };
#define NONE NAT_PORTS_WORDS
/* The clocks of two workers differ by a batch; what looks like less than a minute backwards is that. */
#define SKEW_MS 60000u

static const uint64_t mask_of[] = { 0, 0x5555555555555555u, 0xaaaaaaaaaaaaaaaau, ~0ull };

static uint64_t free_in(const struct nat_ports *p, unsigned word, unsigned which)
{
	return ~(p->busy[word] | p->reserved[word]) & mask_of[which];
}

/* After a word has changed. */
static void sum_up(struct nat_ports *p, unsigned word)
{
	for (unsigned odd = 0; odd < 2; odd++) {
		uint64_t *full = &p->full[odd][word / 64], bit = 1ull << word % 64;
		if (free_in(p, word, EVEN << odd))
			*full &= ~bit;
		else
			*full |= bit;
		if (~*full)
			p->filled[odd] &= ~(1u << word / 64);
		else
			p->filled[odd] |= 1u << word / 64;
	}
}

static uint64_t full_of(const struct nat_ports *p, unsigned at, unsigned which)
{
	return which == ANY ? p->full[0][at] & p->full[1][at] : p->full[which == ODD][at];
}

/* The first word from this one on that has a free port; NONE. */
static unsigned next_word(const struct nat_ports *p, unsigned word, unsigned which)
{
	unsigned at = word / 64;
	uint64_t some;
	uint32_t filled;

	if (word >= NAT_PORTS_WORDS)
		return NONE;
	some = ~full_of(p, at, which) & ~0ull << word % 64;
	if (!some) {
		filled = which == ANY ? p->filled[0] & p->filled[1] : p->filled[which == ODD];
		filled = ~filled & 0xffff & ~0u << (at + 1);
		if (!filled)
			return NONE;
		at = (unsigned)__builtin_ctz(filled);
		some = ~full_of(p, at, which);
	}
	return at * 64 + (unsigned)__builtin_ctzll(some);
}

/* The first free port of from..to; -1. */
static int next_free(const struct nat_ports *p, unsigned from, unsigned to, unsigned which)
{
	unsigned word = from / 64, port;
	uint64_t some = free_in(p, word, which) & ~0ull << from % 64;

	if (!some) {
		word = next_word(p, word + 1, which);
		if (word == NONE)
			return -1;
		some = free_in(p, word, which);
	}
	port = word * 64 + (unsigned)__builtin_ctzll(some);
	return port <= to ? (int)port : -1;
}

static bool is_closed(const uint64_t *closed, unsigned port)
{
	return closed && closed[port / NAT_PORTS_UNIT / 64] >> port / NAT_PORTS_UNIT % 64 & 1;
}

/* The first port after `port` of a unit that is not closed; 65536 = none. */
static unsigned after_closed(const uint64_t *closed, unsigned port)
{
	const unsigned words = 65536 / NAT_PORTS_UNIT / 64;
	unsigned unit = port / NAT_PORTS_UNIT, word = unit / 64;
	uint64_t open = ~closed[word] & ~0ull << unit % 64;

	while (!open && ++word < words)
		open = ~closed[word];
	return word == words ? 65536 : (word * 64 + (unsigned)__builtin_ctzll(open)) * NAT_PORTS_UNIT;
}

static int next_open(const struct nat_ports *p, unsigned from, unsigned to, unsigned which, const uint64_t *closed)
{
	while (from <= to) {
		int port = next_free(p, from, to, which);
		if (port < 0 || !is_closed(closed, (unsigned)port))
			return port;
		from = after_closed(closed, (unsigned)port);
	}
	return -1;
}

static int find(const struct nat_ports *p, const struct nat_ports_want *want)
{
	unsigned lo = want->lo, hi = want->hi, which = ANY;
	unsigned start = lo + (unsigned)((uint64_t)want->random * (hi - lo + 1) >> 32);
	int port;

	if (want->choice != NAT_CHOICE_RANDOM) {
		unsigned same = want->inside;
		if (want->choice == NAT_CHOICE_PRESERVE && same >= lo && same <= hi &&
			next_open(p, same, same, ANY, want->closed) >= 0)
			return (int)same;
		which = same % 2 ? ODD : EVEN;
	}
	for (;; which = ANY) {
		port = next_open(p, start, hi, which, want->closed);
		if (port < 0 && start > lo)
			port = next_open(p, lo, start - 1, which, want->closed);
		if (port >= 0 || which == ANY)
			return port;
	}
}

int nat_ports_take(
	struct nat_ports *p, const struct nat_ports_want *want, uint32_t now_ms, uint32_t quarantine_ms, uint16_t *port)
{
	int found;

	nat_ports_turn(p, now_ms, quarantine_ms);
	found = want->lo <= want->hi ? find(p, want) : -1;
	if (found < 0)
		return -EADDRINUSE;
	p->busy[found / 64] |= 1ull << found % 64;
	sum_up(p, (unsigned)found / 64);
	p->taken_cnt++;
	*port = (uint16_t)found;
	return 0;
}

void nat_ports_give(struct nat_ports *p, uint16_t port, bool unused, uint32_t now_ms, uint32_t quarantine_ms)
{
	uint64_t bit = 1ull << port % 64;

	nat_ports_turn(p, now_ms, quarantine_ms);
	p->taken_cnt--;
	if (!unused && quarantine_ms) {
		p->resting[p->turn][port / 64] |= bit;
		p->resting_cnt[p->turn]++;
		return;
	}
	p->busy[port / 64] &= ~bit;
	sum_up(p, port / 64u);
}

/* All of one of the resting bitmaps. */
static uint32_t rested(struct nat_ports *p, unsigned turn)
{
	uint32_t cnt = p->resting_cnt[turn];

	if (!cnt)
		return 0;
	for (unsigned word = 0; word < NAT_PORTS_WORDS; word++) {
		uint64_t bits = p->resting[turn][word];
		if (!bits)
			continue;
		p->busy[word] &= ~bits;
		p->resting[turn][word] = 0;
		sum_up(p, word);
	}
	p->resting_cnt[turn] = 0;
	return cnt;
}

static uint32_t part_of(uint32_t quarantine_ms)
{
	return quarantine_ms / (NAT_PORTS_TURNS - 1) + (quarantine_ms % (NAT_PORTS_TURNS - 1) != 0);
}

/*
 * The bitmap that fills from T to T + part is emptied when its turn comes again, at T + 4 part: what came last into it, at T + part, has
 * then rested for 3 parts, and what came first for 4.
 */
uint32_t nat_ports_turn(struct nat_ports *p, uint32_t now_ms, uint32_t quarantine_ms)
{
	uint32_t elapsed = now_ms - p->turned_ms, part = part_of(quarantine_ms), steps, freed = 0;

	if (elapsed > UINT32_MAX - SKEW_MS)
		return 0;
	if (elapsed < part)
		return 0;
	steps = part ? elapsed / part : NAT_PORTS_TURNS;
	p->turned_ms = part ? p->turned_ms + steps * part : now_ms;
	if (steps > NAT_PORTS_TURNS)
		steps = NAT_PORTS_TURNS;
	while (steps--) {
		p->turn = (p->turn + 1) % NAT_PORTS_TURNS;
		freed += rested(p, p->turn);
	}
	return freed;
}

bool nat_ports_next_turn(const struct nat_ports *p, uint32_t quarantine_ms, uint32_t *at_ms)
{
	if (!nat_ports_resting(p))
		return false;
	*at_ms = p->turned_ms + part_of(quarantine_ms);
	return true;
}

uint32_t nat_ports_resting(const struct nat_ports *p)
{
	uint32_t cnt = 0;

	for (unsigned i = 0; i < NAT_PORTS_TURNS; i++)
		cnt += p->resting_cnt[i];
	return cnt;
}

/* Of a word, the bits of lo..hi. */
static uint64_t bits_of(unsigned word, uint16_t lo, uint16_t hi)
{
	uint64_t bits = ~0ull;

	if (word == lo / 64u)
		bits &= ~0ull << lo % 64;
	if (word == hi / 64u)
		bits &= ~0ull >> (63 - hi % 64);
	return bits;
}

bool nat_ports_idle(const struct nat_ports *p, uint16_t lo, uint16_t hi)
{
	uint64_t busy = 0;

	for (unsigned word = lo / 64u; word <= hi / 64u; word++)
		busy |= p->busy[word] & bits_of(word, lo, hi);
	return !busy;
}

void nat_ports_reserve(struct nat_ports *p, uint16_t lo, uint16_t hi)
{
	for (unsigned word = lo / 64u; word <= hi / 64u; word++) {
		uint64_t more = bits_of(word, lo, hi) & ~p->reserved[word];
		p->reserved_cnt += (uint32_t)__builtin_popcountll(more);
		p->reserved[word] |= more;
		sum_up(p, word);
	}
}

void nat_ports_unreserve(struct nat_ports *p, const uint64_t *but)
{
	for (unsigned word = 0; p->reserved_cnt && word < NAT_PORTS_WORDS; word++) {
		uint64_t less = p->reserved[word] & ~(but ? but[word] : 0);
		if (!less)
			continue;
		p->reserved_cnt -= (uint32_t)__builtin_popcountll(less);
		p->reserved[word] &= ~less;
		sum_up(p, word);
	}
}
