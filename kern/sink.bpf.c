// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * sink.bpf.c - counts and drops the UDP frames of a generator; everything else goes on to the stack, counted.
 *
 * Counters are per CPU: whoever reads them adds them up.
 */
#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

const volatile __u16 sink_dport = 0; /* host order; 0 = any port */

struct sink_counters {
	__u64 packets;
	__u64 bytes;
	__u64 other_packets; /* not the generator's: passed to the stack */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sink_counters);
} sink_counts SEC(".maps");

/* Offset of the UDP header, or 0 for what is not plain UDP. */
static __always_inline unsigned udp_offset(const __u8 *data, const __u8 *end)
{
	if (data + 14 + 20 + 8 > end)
		return 0;
	if (data[12] == 0x08 && data[13] == 0x00 && data[14] == 0x45 && data[23] == 17)
		return 34;
	if (data[12] == 0x86 && data[13] == 0xdd && data[20] == 17)
		return 54;
	return 0;
}

SEC("xdp")
int sink_xdp(struct xdp_md *ctx)
{
	const __u8 *data = (const __u8 *)(long)ctx->data;
	const __u8 *end = (const __u8 *)(long)ctx->data_end;
	unsigned off = udp_offset(data, end);
	__u32 key = 0;
	struct sink_counters *c = bpf_map_lookup_elem(&sink_counts, &key);

	if (!c)
		return XDP_ABORTED;
	if (!off || data + off + 4 > end || (sink_dport && (data[off + 2] << 8 | data[off + 3]) != sink_dport)) {
		c->other_packets++;
		return XDP_PASS;
	}
	c->packets++;
	c->bytes += end - data;
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
