// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * gen.bpf.c - writes UDP frames and sends them out of a device, driven by BPF_PROG_RUN with
 * BPF_F_TEST_XDP_LIVE_FRAMES.
 *
 * The kernel recycles the frames it lends to this program with whatever the receiver did to them, so each
 * run writes the whole header from the template.  Only source address and source port vary: flow n has port
 * sport + (n & 0x7fff) and address saddr + (n >> 15), and flows are taken in turn.  With gen_dst_cnt flow n has
 * the destination gen_dsts[n mod gen_dst_cnt].
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define GEN_ETH       14
#define GEN_HEAD4     (GEN_ETH + 20 + 8)
#define GEN_HEAD6     (GEN_ETH + 40 + 8)
#define GEN_PORT_MASK 0x7fff
#define GEN_PORT_BITS 15

const volatile __u32 gen_ifindex = 0; /* where the frames go */
const volatile __u32 gen_flows = 1;   /* how many flows to cycle through */
const volatile bool gen_ip6 = false;
const volatile __u32 gen_saddr = 0;    /* the source address's last 32 bits, host order */
const volatile __u32 gen_dst_cnt = 0;  /* IPv4 destinations of gen_dsts; 0 = the template's */
const volatile __u16 gen_sport = 0;    /* host order */
const volatile __u32 gen_ip_sum = 0;   /* IPv4: one's complement sum of the header without source and checksum */
const volatile __u32 gen_udp_sum = 0;  /* pseudo header, UDP header and payload without what varies */
const volatile __u8 gen_head[64] = {}; /* template, complete but for what varies */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __be32);
} gen_dsts SEC(".maps");

__u64 gen_sent = 0; /* frames handed to the redirect */
__u32 gen_next = 0; /* next flow */

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)~sum;
}

/* Writes the template's first n bytes (n is even and constant). */
static __always_inline void put_head(void *data, unsigned n)
{
	__u16 *to = data;
	const volatile __u16 *from = (const volatile __u16 *)gen_head;

#pragma unroll
	for (unsigned i = 0; i < 64 / 2; i++)
		if (i < n / 2)
			to[i] = from[i];
}

SEC("xdp")
int gen_xdp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 flow = gen_next;
	__u32 saddr = gen_saddr + (flow >> GEN_PORT_BITS);
	__u16 sport = gen_sport + (flow & GEN_PORT_MASK);
	__u32 varies = (saddr >> 16) + (saddr & 0xffff);
	__u16 udp_sum = fold(gen_udp_sum + varies + sport);

	gen_next = flow + 1 < gen_flows ? flow + 1 : 0;
	if (!udp_sum)
		udp_sum = 0xffff; /* RFC 768: 0 on the wire means none */

	if (gen_ip6) {
		if (data + GEN_HEAD6 > end)
			return XDP_ABORTED;
		put_head(data, GEN_HEAD6);
		*(__u16 *)(data + GEN_ETH + 20) = bpf_htons(saddr >> 16);
		*(__u16 *)(data + GEN_ETH + 22) = bpf_htons(saddr & 0xffff);
		*(__u16 *)(data + GEN_ETH + 40) = bpf_htons(sport);
		*(__u16 *)(data + GEN_ETH + 46) = bpf_htons(udp_sum);
	} else {
		if (data + GEN_HEAD4 > end)
			return XDP_ABORTED;
		put_head(data, GEN_HEAD4);
		if (gen_dst_cnt) {
			__u32 n = flow % gen_dst_cnt;
			__be32 *dst = bpf_map_lookup_elem(&gen_dsts, &n);

			if (!dst)
				return XDP_ABORTED;
			*(__u16 *)(data + GEN_ETH + 16) = (__u16)*dst;
			*(__u16 *)(data + GEN_ETH + 18) = (__u16)(*dst >> 16);
			varies += (bpf_ntohl(*dst) >> 16) + (bpf_ntohl(*dst) & 0xffff);
			udp_sum = fold(gen_udp_sum + varies + sport);
			if (!udp_sum)
				udp_sum = 0xffff;
		}
		*(__u16 *)(data + GEN_ETH + 10) = bpf_htons(fold(gen_ip_sum + varies));
		*(__u16 *)(data + GEN_ETH + 12) = bpf_htons(saddr >> 16);
		*(__u16 *)(data + GEN_ETH + 14) = bpf_htons(saddr & 0xffff);
		*(__u16 *)(data + GEN_ETH + 20) = bpf_htons(sport);
		*(__u16 *)(data + GEN_ETH + 26) = bpf_htons(udp_sum);
	}
	gen_sent++;
	return bpf_redirect(gen_ifindex, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
