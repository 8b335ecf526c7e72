/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * knock.c - who inside has sent to whose outside end and was not let in yet.
 *
 *     a ─► b's outside end: filtered, but a knocked      b ─► a's outside end: a has sent there, so b is let in
 *
 * Between an inside and an outside host the first packet out opens the filter for the answer, whatever becomes of it.  Over the hairpin it is
 * refused by the other one's filter, and nothing is left of it but this (RFC 4787 REQ-8 and REQ-9 together).  One word a knock:
 * 44 bits of a hash of both ends, 20 bits of time.  A later one in the same place takes it; then the hosts knock again.
 */
#include "pipelines/nat44/nat44.h"

#define TIME_BITS  20
#define TIME_MASK  ((1u << TIME_BITS) - 1)
#define TIME_SHIFT 8                     /* units of 256 ms */
#define LASTS      (30000 >> TIME_SHIFT) /* as long as hosts go on trying */

static uint64_t mix(uint64_t h, uint64_t v)
{
	h ^= v;
	h *= 0x9fb21c651e98df25ull;
	return h ^ h >> 32;
}

static uint64_t hash(const struct nat_shared *s, const struct nat_knock *k)
{
	uint64_t h = mix(s->knock_seed, (uint64_t)k->from_be << 32 | k->to_be);
	h = mix(h,
		(uint64_t)k->from_port_be << 48 | (uint64_t)k->to_port_be << 32 | (uint64_t)k->zone << 16 | k->proto);
	return mix(h, s->knock_seed);
}

static uint32_t clock_of(uint32_t now_ms)
{
	return now_ms >> TIME_SHIFT & TIME_MASK;
}

void nat_knock(struct nat_shared *s, const struct nat_knock *k, uint32_t now_ms)
{
	uint64_t h = hash(s, k);
	atomic_store_explicit(
		&s->knock[h % NAT_KNOCKS], (h & ~(uint64_t)TIME_MASK) | clock_of(now_ms), memory_order_relaxed);
}

bool nat_knocked(struct nat_shared *s, const struct nat_knock *k, uint32_t now_ms)
{
	uint64_t h = hash(s, k), was = atomic_load_explicit(&s->knock[h % NAT_KNOCKS], memory_order_relaxed);
	return was && !((was ^ h) >> TIME_BITS) && ((clock_of(now_ms) - (uint32_t)was) & TIME_MASK) <= LASTS;
}
