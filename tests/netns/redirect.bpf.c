/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * redirect.bpf.c - stands for the kernel tier in test_redirect.c and test_xmit.c: sends frames of its own on, tells the tier's maps so, and
 * counts them where they arrive.
 *
 *     BPF_PROG_RUN ─► send ─► devmap ─► a device ─► its peer: count, or turn ─► XDP_TX ─► back
 */
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "kern/tier.h"

#define OURS 0x88b5 /* IEEE 802: local experiments */

const volatile __u32 turn_id = 0; /* the interface `turn` runs on */
const volatile __u32 turn_pair = 0;

__u32 send_id = 0; /* where `send` sends to, as ... */
__u32 send_pair = 0;
__u64 counted = 0, turned = 0; /* atomic */

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, MR_TIER_EGRESS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} tier_devmap SEC(".maps");

/* Another one: what goes by it is not the tier's. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, MR_TIER_EGRESS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} other_devmap SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MR_TIER_INGRESS);
	__type(key, __u32);
	__type(value, struct mr_tier_pair);
} tier_pairs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MR_TIER_EGRESS);
	__type(key, __u32);
	__type(value, struct mr_tier_egress);
} tier_egress SEC(".maps");

static __always_inline void sent(__u32 id, __u32 pair)
{
	struct mr_tier_egress *e = bpf_map_lookup_elem(&tier_egress, &id);
	struct mr_tier_pair *p = bpf_map_lookup_elem(&tier_pairs, &pair);
	if (e && p) {
		e->sent_packets++;
		e->last_ingress = pair;
		p->forwarded_packets++;
	}
}

SEC("xdp")
int send(struct xdp_md *ctx)
{
	sent(send_id, send_pair);
	return bpf_redirect_map(&tier_devmap, send_id, 0);
}

SEC("xdp")
int send_other(struct xdp_md *ctx)
{
	return bpf_redirect_map(&other_devmap, send_id, 0);
}

static __always_inline int is_ours(struct xdp_md *ctx)
{
	const __u8 *data = (const __u8 *)(long)ctx->data;
	return data + 14 <= (const __u8 *)(long)ctx->data_end && (data[12] << 8 | data[13]) == OURS;
}

SEC("xdp")
int count(struct xdp_md *ctx)
{
	if (!is_ours(ctx))
		return XDP_PASS;
	__sync_fetch_and_add(&counted, 1);
	return XDP_DROP;
}

SEC("xdp")
int turn(struct xdp_md *ctx)
{
	if (!is_ours(ctx))
		return XDP_PASS;
	__sync_fetch_and_add(&turned, 1);
	sent(turn_id, turn_pair);
	return XDP_TX;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
