/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tier.h - what the kernel tier and user space share besides flow records (flow.h) and next hops.
 *
 *     steer.bpf.c: parse ─► tier: key ─► record ─► may it? ─► rewrite ─► XDP_TX, XDP_REDIRECT, XDP_PASS
 *                                  │         │
 *                                  └─ no ────┴─ no ─► steering, as if there were no tier: the flow tier takes it
 *
 * The tier decides nothing.  It carries out a record that user space has marked MR_FLOW_OFFLOAD, and whatever it is in doubt about
 * comes up: a packet that comes up needlessly costs time, one that does not costs correctness.
 *
 * All of it lies in array maps that every interface's program and user space map alike; core/tier.h makes them.  User space
 * writes struct mr_tier, except nexthop_used_ms, which both write.  Counters are the tier's own, one cell a CPU.
 */
#ifndef MR_KERN_TIER_H
#define MR_KERN_TIER_H

#include "effect.h"
#include "flow.h"

#define MR_TIER_INGRESS      256   /* ingress pairs, as in key.ingress */
#define MR_TIER_COUNTERS     16384 /* counters the tier can add to; a record that needs another stays in user space */
#define MR_TIER_HALVES       2     /* of what belongs to one configuration: the one in force and the next */
#define MR_TIER_HEARTBEAT_MS 1000  /* older, and the owner is taken for dead: nothing is offloaded */
#define MR_TIER_EGRESS       (MR_MAX_INTERFACES + 1)

/* What is fixed for one interface's program before it is loaded: `steer_tier` in map .rodata.tier of steer.bpf.c. */
struct mr_tier_fixed {
	__u32 on; /* 0: there is no tier; the verifier then drops its code, and its maps may be as small as the object declares them */
	__u32 interface_id;
	__u64 seed;          /* of the flow table's hash */
	__u32 bucket_cnt[2]; /* of the flow table, IPv4 and IPv6 */
	__u32 redirect_back; /* out where it came in by XDP_REDIRECT: a veth whose peer has GRO and no program is not woken by XDP_TX */
	__u32 reserved;
};

/* What an ingress pair stands for. */
struct mr_tier_ingress {
	__u8 interface_id;   /* 0 = none */
	__u8 steer_pipeline; /* as the interface's steering numbers it */
};

#define MR_TIER_KEY_ONLY (1u << 0) /* interface and key determine the pipeline: no need to look at anything else */

struct mr_tier_interface {
	__u16 zone; /* mr_parse_zone(); 0 = no packet of it is carried out */
	__u16 vlan_mask;
	__u8 mac[6]; /* routed frames are for it; zeros: any */
	__u16 flags; /* MR_TIER_* */
};

/* Of one configuration.  Changed in place, store by store, while it is in force (a link, a MAC address); filled anew before it is. */
struct mr_tier_half {
	struct mr_tier_ingress ingress[MR_TIER_INGRESS];
	struct mr_tier_interface interface[MR_MAX_INTERFACES + 1]; /* by id */
};

/* Of one queue, a cache line: packets its program has sent up to the socket, written by it alone. */
struct mr_tier_queue {
	__u64 up_packets;
	__u64 reserved[7];
};

struct mr_tier {
	__u32 word; /* generation in force, and bit 16: its half; 0 = nothing is offloaded */
	__u32 reserved;
	__u64 heartbeat_ns; /* CLOCK_MONOTONIC, coarse; of a worker or control.  All of it: a pinned program may be left for months */
	struct mr_tier_half half[MR_TIER_HALVES];
	__u8 version[2][MR_ROUTE_BUCKETS]; /* of route buckets, IPv4 and IPv6 (flow.h) */
	__u64 vlan[MR_MAX_INTERFACES + 1]
		  [4096 / 64]; /* tags that routed frames may carry, by interface (core/route.h: takes_tag) */
	struct mr_tier_queue queue[MR_MAX_INTERFACES + 1]
				  [MR_MAX_QUEUES]; /* by the device's number; from 0 with each program */
	__u32 nexthop_used_ms[MR_MAX_NEXTHOPS];    /* written when MR_TIER_TOUCH_MS newer */
};

#define MR_TIER_TOUCH_MS      16
#define MR_TIER_WORD(g, h)    ((__u32)(__u16)(g) | (__u32)(h) << 16)
#define MR_TIER_GENERATION(w) ((__u16)(w))
#define MR_TIER_HALF(w)       ((w) >> 16 & 1)

/* Of one ingress pair and CPU.  received = forwarded + kernel + metered; `lost` of the forwarded were refused by their egress. */
struct mr_tier_pair {
	__u64 received_packets, received_bytes;
	__u64 forwarded_packets, forwarded_bytes; /* XDP_TX and XDP_REDIRECT */
	__u64 kernel_packets, kernel_bytes;       /* XDP_PASS */
	__u64 metered_packets;                    /* XDP_DROP: over the rate of a limit */
	__u64 lost_packets;                       /* counted by kern/xmit.bpf.c */
};

struct mr_tier_count {
	__u64 packets, bytes;
};

/* Of one egress (by id) and CPU. */
struct mr_tier_egress {
	__u64 sent_packets, sent_bytes; /* given to it by the tier */
	__u64 lost_packets;             /* ... which it did not take */
	__u64 refused_ns;    /* when it last took none at all of a bulk with an error: it is no target (any more) */
	__u32 refused;       /* how often */
	__s32 refused_errno; /* the last error */
	__u8 last_ingress;   /* the pair last sent to it */
	__u8 reserved[7];
};

#endif
