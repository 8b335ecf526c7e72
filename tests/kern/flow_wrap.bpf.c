/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* flow_wrap.bpf.c - lookups of kern/flow.h as the kernel runs them, in arrays that user space maps and fills. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "kern/flow.h"

#define BUCKETS 64

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BUCKETS);
	__type(key, __u32);
	__type(value, struct mr_bucket4);
} flows4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, BUCKETS);
	__type(key, __u32);
	__type(value, struct mr_bucket6);
} flows6 SEC(".maps");

struct mr_key4 key4; /* .bss, written by the test through its mapping */
struct mr_key6 key6;
__u64 seed;

__u64 hash4, hash6; /* results */
int way4, way6;     /* of the bucket it was found in; -1 none */
__u32 bucket4, bucket6;
struct mr_rewrite4 rewrite4;
struct mr_rewrite6 rewrite6;
struct mr_flow_taken taken;

SEC("xdp")
int flow_wrap4(struct xdp_md *ctx)
{
	struct mr_rewrite4 rw;
	struct mr_flow_taken t;
	struct mr_key4 key = key4;
	hash4 = mr_flow_hash4(&key, seed);
	bucket4 = mr_flow_bucket_primary(hash4, BUCKETS);
	way4 = -1;
	struct mr_bucket4 *b = bpf_map_lookup_elem(&flows4, &bucket4);
	if (!b)
		return XDP_ABORTED;
	way4 = mr_flow_find4(b, &key, mr_flow_tag(hash4), &rw, &t);
	if (way4 < 0 && b->head.spill) {
		bucket4 = mr_flow_bucket_secondary(hash4, BUCKETS);
		b = bpf_map_lookup_elem(&flows4, &bucket4);
		if (!b)
			return XDP_ABORTED;
		way4 = mr_flow_find4(b, &key, mr_flow_tag(hash4), &rw, &t);
	}
	if (way4 < 0)
		return XDP_PASS;
	rewrite4 = rw;
	taken = t;
	return XDP_PASS;
}

SEC("xdp")
int flow_wrap6(struct xdp_md *ctx)
{
	struct mr_rewrite6 rw;
	struct mr_flow_taken t;
	struct mr_key6 key = key6;
	hash6 = mr_flow_hash6(&key, seed);
	bucket6 = mr_flow_bucket_primary(hash6, BUCKETS);
	way6 = -1;
	struct mr_bucket6 *b = bpf_map_lookup_elem(&flows6, &bucket6);
	if (!b)
		return XDP_ABORTED;
	way6 = mr_flow_find6(b, &key, mr_flow_tag(hash6), &rw, &t);
	if (way6 < 0 && b->head.spill) {
		bucket6 = mr_flow_bucket_secondary(hash6, BUCKETS);
		b = bpf_map_lookup_elem(&flows6, &bucket6);
		if (!b)
			return XDP_ABORTED;
		way6 = mr_flow_find6(b, &key, mr_flow_tag(hash6), &rw, &t);
	}
	if (way6 < 0)
		return XDP_PASS;
	rewrite6 = rw;
	taken = t;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
