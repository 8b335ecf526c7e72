/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* reuse.h - what a record of test_tier_reuse.c holds: everything follows from its key and one number, so that any mixture shows. */
#ifndef MR_TESTS_KERN_REUSE_H
#define MR_TESTS_KERN_REUSE_H

#include "kern/flow.h"

#define REUSE_BUCKETS 64

static __always_inline __u32 reuse_word(__u32 key_word, __u32 number, __u32 i)
{
	return (key_word ^ 0x9e3779b9u * (i + 1)) * 0x85ebca6bu + number * 0xc2b2ae35u;
}

static __always_inline void reuse_fill4(const struct mr_key4 *k, __u32 number, struct mr_rewrite4 *rw)
{
	rw->saddr_be = reuse_word(k->saddr_be, number, 0);
	rw->daddr_be = reuse_word(k->saddr_be, number, 1);
	rw->sport_be = (__u16)number;
	rw->dport_be = (__u16)(number >> 16);
	rw->l3_delta = (__u16)reuse_word(k->saddr_be, number, 2);
	rw->l4_delta = (__u16)(reuse_word(k->saddr_be, number, 2) >> 16);
}

static __always_inline void reuse_fill6(const struct mr_key6 *k, __u32 number, struct mr_rewrite6 *rw)
{
	for (__u32 i = 0; i < 4; i++) {
		rw->saddr_be[i] = reuse_word(k->saddr_be[0], number, i);
		rw->daddr_be[i] = reuse_word(k->saddr_be[0], number, 4 + i);
	}
	rw->sport_be = (__u16)number;
	rw->dport_be = (__u16)(number >> 16);
	rw->l4_delta = (__u16)reuse_word(k->saddr_be[0], number, 8);
	rw->reserved = 0;
}

static __always_inline void reuse_fill(__u32 key_word, __u32 number, struct mr_flow_taken *t)
{
	__u32 a = reuse_word(key_word, number, 9), b = reuse_word(key_word, number, 10);

	/* CLOSING is kept by a change of the decision, so it is never set here. */
	t->flags = (__u16)(a & ~MR_FLOW_CLOSING);
	t->nexthop = (__u16)(a >> 16);
	t->generation = (__u16)b;
	t->effects = (__u16)(b >> 16);
	t->ingress = (__u8)reuse_word(key_word, number, 11);
}

static __always_inline int reuse_same(const struct mr_flow_taken *a, const struct mr_flow_taken *b)
{
	return a->flags == b->flags && a->nexthop == b->nexthop && a->generation == b->generation &&
		a->effects == b->effects && a->ingress == b->ingress;
}

static __always_inline int reuse_right4(
	const struct mr_key4 *k, const struct mr_rewrite4 *rw, const struct mr_flow_taken *t)
{
	__u32 number = rw->sport_be | (__u32)rw->dport_be << 16;
	struct mr_rewrite4 want;
	struct mr_flow_taken wt;
	reuse_fill4(k, number, &want);
	reuse_fill(k->saddr_be, number, &wt);
	return want.saddr_be == rw->saddr_be && want.daddr_be == rw->daddr_be && want.l3_delta == rw->l3_delta &&
		want.l4_delta == rw->l4_delta && reuse_same(&wt, t);
}

static __always_inline int reuse_right6(
	const struct mr_key6 *k, const struct mr_rewrite6 *rw, const struct mr_flow_taken *t)
{
	__u32 number = rw->sport_be | (__u32)rw->dport_be << 16, diff = 0;
	struct mr_rewrite6 want;
	struct mr_flow_taken wt;
	reuse_fill6(k, number, &want);
	reuse_fill(k->saddr_be[0], number, &wt);
	for (__u32 i = 0; i < 4; i++)
		diff |= (want.saddr_be[i] ^ rw->saddr_be[i]) | (want.daddr_be[i] ^ rw->daddr_be[i]);
	return !diff && want.l4_delta == rw->l4_delta && reuse_same(&wt, t);
}

#endif
