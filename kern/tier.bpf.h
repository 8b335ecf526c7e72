/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tier.bpf.h - the kernel tier in steer.bpf.c: an established flow's packet is rewritten and sent on inside XDP.
 *
 * The maps are as small as can be here; where there is a tier (steer_tier.on) core/tier.c puts the real ones, which all interfaces share,
 * in their place before the program is loaded.
 */
#ifndef MR_KERN_TIER_BPF_H
#define MR_KERN_TIER_BPF_H

#include "rewrite.h"
#include "tier.h"

const volatile struct mr_tier_fixed steer_tier SEC(".rodata.tier") = { 0 };

#define MR_TIER_SHARED(name, value_type)                \
	struct {                                        \
		__uint(type, BPF_MAP_TYPE_ARRAY);       \
		__uint(map_flags, BPF_F_MMAPABLE);      \
		__uint(max_entries, 1);                 \
		__uint(key_size, sizeof(__u32));        \
		__uint(value_size, sizeof(value_type)); \
	} name SEC(".maps")

MR_TIER_SHARED(flows4, struct mr_bucket4);
MR_TIER_SHARED(flows6, struct mr_bucket6);
MR_TIER_SHARED(nexthops, struct mr_nexthop);    /* [MR_MAX_NEXTHOPS] */
MR_TIER_SHARED(tier, __u64);                    /* struct mr_tier */
MR_TIER_SHARED(tier_effects, struct mr_effect); /* [MR_TIER_HALVES * MR_EFFECTS] */
MR_TIER_SHARED(tier_meters, struct mr_meter);   /* [MR_TIER_HALVES * MR_METERS] */

#define MR_TIER_COUNTED(name, value_type)                \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); \
		__uint(max_entries, 1);                  \
		__uint(key_size, sizeof(__u32));         \
		__uint(value_size, sizeof(value_type));  \
	} name SEC(".maps")

MR_TIER_COUNTED(tier_pairs, struct mr_tier_pair);     /* [MR_TIER_INGRESS] */
MR_TIER_COUNTED(tier_counters, struct mr_tier_count); /* [MR_TIER_COUNTERS] */
MR_TIER_COUNTED(tier_egress, struct mr_tier_egress);  /* [MR_TIER_EGRESS] */

/* Interfaces that take redirected frames and whose link is up, by id. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, MR_TIER_EGRESS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32)); /* ifindex */
} tier_devmap SEC(".maps");

#endif
