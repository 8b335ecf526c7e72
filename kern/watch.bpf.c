// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * watch.bpf.c - tells by which MAC address UDP frames arrive, and when the first and the last of them did; drops them.
 *
 * The last byte of the destination's MAC address is the number of a way.  Everything else goes on to the stack.
 */
#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

const volatile __u16 watch_dport = 0; /* host order */

/* By way. */
__u64 watch_packets[256] = {};
__u64 watch_first_ns[256] = {}; /* CLOCK_MONOTONIC; 0 = none since user space made it 0 */
__u64 watch_last_ns[256] = {};

SEC("xdp")
int watch_xdp(struct xdp_md *ctx)
{
	const __u8 *data = (const __u8 *)(long)ctx->data;
	const __u8 *end = (const __u8 *)(long)ctx->data_end;

	if (data + 14 + 20 + 8 > end || data[12] != 0x08 || data[13] != 0x00 || data[14] != 0x45 || data[23] != 17 ||
		(data[36] << 8 | data[37]) != watch_dport)
		return XDP_PASS;
	__u32 way = data[5];
	__u64 now = bpf_ktime_get_ns();

	__sync_fetch_and_add(&watch_packets[way], 1);
	if (!watch_first_ns[way])
		watch_first_ns[way] = now;
	watch_last_ns[way] = now;
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
