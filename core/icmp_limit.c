/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * icmp_limit.c - how many errors may be sent.
 *
 * A bucket is one number: when it will be full again.  A token costs one interval; with more than burst intervals ahead of now it is
 * empty (the virtual scheduling of ITU-T I.371: the same as counting tokens, without a division and without rounding).
 */
#include "core/icmp.h"

#include "kern/flow.h"
#include <stdlib.h>

#define BUCKETS        4096
#define NS_PER_S       1000000000ull
#define EACH_NS        (NS_PER_S / MR_ICMP_RATE_PER_S)
#define TOTAL_NS       (NS_PER_S / MR_ICMP_TOTAL_RATE_PER_S)
#define EACH_AHEAD_NS  (EACH_NS * (MR_ICMP_BURST - 1))
#define TOTAL_AHEAD_NS (TOTAL_NS * (MR_ICMP_TOTAL_BURST - 1))

struct mr_icmp_limit {
	uint64_t seed;
	uint64_t total_full_ns;
	uint64_t full_ns[BUCKETS];
};

struct mr_icmp_limit *mr_icmp_limit_create(uint64_t seed)
{
	struct mr_icmp_limit *l = calloc(1, sizeof(*l));
	if (l)
		l->seed = seed;
	return l;
}

void mr_icmp_limit_destroy(struct mr_icmp_limit *l)
{
	free(l);
}

/* By the source of the packet, which the error goes to.  Seeded: nobody can choose sources that share a victim's bucket. */
static uint64_t *bucket(struct mr_icmp_limit *l, const void *frame, const struct mr_parsed *p)
{
	const uint8_t *ip = (const uint8_t *)frame + p->l3_off;
	uint64_t h;

	if (p->flags & MR_PKT_IP4) {
		h = mr_flow_hash_pair(4, mr_load32(ip + 12), l->seed, 0x9e3779b97f4a7c15ULL);
	} else {
		h = mr_flow_hash_pair(mr_load32(ip + 8), mr_load32(ip + 12), l->seed, 0xd6e8feb86659fd93ULL);
		h += mr_flow_hash_pair(mr_load32(ip + 16), mr_load32(ip + 20), l->seed, 0xa0761d6478bd642fULL);
	}
	return &l->full_ns[mr_flow_hash_finish(h) % BUCKETS];
}

static uint64_t take(uint64_t full_ns, uint64_t now_ns, uint64_t each_ns)
{
	return (full_ns > now_ns ? full_ns : now_ns) + each_ns;
}

bool mr_icmp_limit_pass(
	struct mr_icmp_limit *l, const void *frame, const struct mr_parsed *p, enum mr_icmp_kind kind, uint64_t now_ns)
{
	if (l->total_full_ns > now_ns + TOTAL_AHEAD_NS)
		return false;
	if (kind != MR_ICMP_TOO_BIG) {
		uint64_t *full = bucket(l, frame, p);
		if (*full > now_ns + EACH_AHEAD_NS)
			return false;
		*full = take(*full, now_ns, EACH_NS);
	}
	l->total_full_ns = take(l->total_full_ns, now_ns, TOTAL_NS);
	return true;
}
