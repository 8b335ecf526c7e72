// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* An XDP program of somebody else that changes what it passes on: metadata in front, the tail shorter or longer. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

/* 0 nothing, 1 metadata, 2 shorter by 16, 3 longer by 16 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} change SEC(".maps");

SEC("xdp")
int changer(struct xdp_md *ctx)
{
	__u32 key = 0, *what = bpf_map_lookup_elem(&change, &key);

	if (!what)
		return XDP_DROP;
	if (*what == 1) {
		if (bpf_xdp_adjust_meta(ctx, -8))
			return XDP_DROP;
		__u32 *meta = (void *)(long)ctx->data_meta;
		if ((void *)(meta + 2) > (void *)(long)ctx->data)
			return XDP_DROP;
		meta[0] = 0x6d696c6c;
		meta[1] = 0x72616365;
	} else if (*what && bpf_xdp_adjust_tail(ctx, *what == 2 ? -16 : 16)) {
		return XDP_DROP;
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
