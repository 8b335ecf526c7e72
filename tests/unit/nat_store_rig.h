/* SPDX-License-Identifier: BSD-2-Clause */
/* nat_store_rig.h - a store, its policy and a clock, for its tests. */
#ifndef TEST_NAT_STORE_RIG_H
#define TEST_NAT_STORE_RIG_H

#include "pipelines/nat44/store.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define RIG_ADDRESSES 64

struct rig {
	struct nat_store *s;
	struct nat_policy policy;
	struct nat_turn turn;
	uint32_t number[RIG_ADDRESSES];
};

static inline __be32 rig_outside(uint32_t i)
{
	return htonl(0xcb007140u + i); /* 203.0.113.64 */
}

static inline __be32 rig_inside(uint32_t i)
{
	return htonl(0x64400001u + i); /* 100.64.0.1 */
}

/* Paired, endpoint-independent, random, ports 1024-65535, no blocks, no limits, a quarantine of 120 s. */
static inline void rig_init(struct rig *r, uint32_t addresses, unsigned workers)
{
	struct nat_store_options opt = {
		.mapping_max = 300000, .subscriber_max = 100000, .worker_cnt = workers, .seed = 7
	};

	memset(r, 0, sizeof(*r));
	cr_assert_eq(nat_store_create(&opt, &r->s), 0);
	for (uint32_t i = 0; i < addresses; i++)
		cr_assert_eq(nat_store_address(r->s, rig_outside(i), &r->number[i]), 0);
	r->policy = (struct nat_policy){ .paired = true, .port_lo = 1024, .port_hi = 65535, .quarantine_ms = 120000 };
	nat_policy_addresses(&r->policy, r->number, addresses);
	r->turn = (struct nat_turn){ .policy = &r->policy, .now_ms = 1000 };
}

static inline struct nat_flow rig_flow(uint32_t inside, uint16_t port, uint32_t remote, uint16_t remote_port)
{
	return (struct nat_flow){ .proto = NAT_UDP,
		.inside_be = rig_inside(inside),
		.inside_port_be = htons(port),
		.remote_be = htonl(0xc6336400u + remote),
		.remote_port_be = htons(remote_port) };
}

static inline uint32_t rig_take(struct rig *r, const struct nat_flow *f)
{
	uint32_t mapping = 0;
	bool made;

	cr_assert_eq(nat_store_take(r->s, &r->turn, f, &mapping, &made), NAT_OK);
	cr_assert_neq(mapping, 0);
	return mapping;
}

static inline enum nat_outcome rig_refused(struct rig *r, const struct nat_flow *f)
{
	uint32_t mapping = 77;
	bool made;
	enum nat_outcome o = nat_store_take(r->s, &r->turn, f, &mapping, &made);

	cr_assert_eq(mapping, 77, "untouched on failure");
	return o;
}

static inline struct nat_mapping rig_mapping(struct rig *r, uint32_t mapping)
{
	struct nat_mapping m;

	cr_assert(nat_store_mapping(r->s, mapping, &m));
	return m;
}

static inline uint32_t rig_outside_take(struct rig *r, const struct nat_mapping *m, uint32_t remote, bool *filtered)
{
	uint32_t mapping = 77;

	cr_assert_eq(nat_store_take_outside(r->s, &r->turn, m->zone, m->proto, m->outside_be, m->outside_port_be,
			     htonl(0xc6336400u + remote), htons(9), &mapping, filtered),
		NAT_OK);
	return mapping;
}

/* What everybody has is back, and nothing is counted. */
static inline void rig_end(struct rig *r)
{
	struct nat_store_usage u;
	struct nat_address_usage a;
	uint32_t at = 0;
	struct nat_mapping m;
	struct nat_subscriber_usage who;

	nat_store_usage(r->s, &u);
	cr_assert_eq(u.mapping_cnt, 0);
	cr_assert_eq(u.subscriber_cnt, 0);
	cr_assert(!nat_store_next_mapping(r->s, &at, &m));
	at = 0;
	cr_assert(!nat_store_next_subscriber(r->s, &at, &who));
	for (uint32_t i = 0; nat_store_address_usage(r->s, i, &a); i++) {
		cr_assert_eq(a.taken[NAT_TCP] + a.taken[NAT_UDP] + a.taken[NAT_ICMP], 0);
		cr_assert_eq(a.subscriber_cnt, 0);
		cr_assert_eq(a.blocks_taken, 0);
	}
	nat_store_drop(r->s);
}

#endif
