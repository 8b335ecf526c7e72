// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * bare.bpf.c - the least an XDP program can do to forward: what bench/offload.py measures the kernel tier against.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} bare_to SEC(".maps");

SEC("xdp")
int bare(struct xdp_md *ctx)
{
	return bpf_redirect_map(&bare_to, 0, XDP_DROP);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
