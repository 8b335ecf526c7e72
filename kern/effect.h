/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * effect.h - what happens to each packet of a decided flow, in every tier: counters and meters (core/effects.h).
 *
 * A meter is a virtual queue (GCRA, ITU-T I.371): `full_at` is when its bucket will be full again; a packet moves it by its cost and
 * passes while it is no further than the burst ahead of now.  One word, so a compare-and-swap is all the locking there is, and XDP
 * and workers share it.  Integers only: XDP has no others.
 */
#ifndef MR_KERN_EFFECT_H
#define MR_KERN_EFFECT_H

#include "abi.h"

#define MR_EFFECTS            65536 /* combinations of a configuration */
#define MR_METERS             65536
#define MR_EFFECT_COUNTERS    4
#define MR_EFFECT_METERS      2
#define MR_METER_TICKS_PER_NS 64 /* resolution; 64 bits of it last nine years */

struct mr_effect {
	__u16 counter[MR_EFFECT_COUNTERS]; /* 0 = none; filled from the front */
	__u16 meter[MR_EFFECT_METERS];
	__u16 reserved[2];
};

_Static_assert(sizeof(struct mr_effect) == 16, "effect");

struct mr_meter {
	__u64 full_at_ticks; /* atomic */
	__u64 burst_ticks;
	__u64 cost_mul; /* ticks of one unit = cost_mul / 2^cost_shift; units (packets, or bits) < 2^20, cost_mul < 2^44 */
	__u32 cost_shift;
	__u32 bits; /* units are bits */
};

_Static_assert(sizeof(struct mr_meter) == 32, "meter");

#if MR_BPF
#define mr_meter_load(p)          (*(volatile __u64 *)(p))
#define mr_meter_cas(p, old, new) __sync_val_compare_and_swap(p, old, new)
#else
#define mr_meter_load(p)          __atomic_load_n(p, __ATOMIC_RELAXED)
#define mr_meter_cas(p, old, new) mr_meter_cas_host(p, old, new)
static inline __u64 mr_meter_cas_host(__u64 *p, __u64 old, __u64 new)
{
	__atomic_compare_exchange_n(p, &old, new, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	return old;
}
#endif

#define MR_METER_TRIES 64 /* then others were faster that often: the packet is over the rate, by any measure */

static __always_inline __u64 mr_meter_cost(const struct mr_meter *m, __u32 bytes)
{
	__u64 units = m->bits ? (__u64)(bytes & 0x1ffff) * 8 : 1;

	return units * m->cost_mul >> (m->cost_shift & 63);
}

/* True when a packet of `bytes` may pass at now_ns (CLOCK_MONOTONIC).  Threads: any, XDP among them. */
static __always_inline int mr_meter_pass(struct mr_meter *m, __u32 bytes, __u64 now_ns)
{
	__u64 now = now_ns * MR_METER_TICKS_PER_NS;
	__u64 cost = mr_meter_cost(m, bytes);
	__u64 full_at = mr_meter_load(&m->full_at_ticks);

	for (int i = 0; i < MR_METER_TRIES; i++) {
		/* A full bucket passes any packet, or one larger than the burst would never get through. */
		__u64 start = full_at > now ? full_at : now;
		if (start > now && start + cost - now > m->burst_ticks)
			return 0;
		__u64 seen = mr_meter_cas(&m->full_at_ticks, full_at, start + cost);
		if (seen == full_at)
			return 1;
		full_at = seen;
	}
	return 0;
}

#endif
