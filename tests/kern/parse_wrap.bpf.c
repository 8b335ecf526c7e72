/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* parse_wrap.bpf.c - mr_parse() as the kernel runs it, its result laid out for the test to compare with user space. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "kern/parse.h"

struct mr_parsed result; /* .bss, read by the test through its mapping */
struct mr_key4 key4;
struct mr_key6 key6;
__u32 has_key;

SEC("xdp")
int parse_wrap(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct mr_parsed p;
	mr_parse(data, data_end, &p);
	result = p;
	has_key = mr_parse_has_key(&p);
	__builtin_memset(&key4, 0, sizeof(key4));
	__builtin_memset(&key6, 0, sizeof(key6));
	if (p.flags & MR_PKT_IP4) {
		void *ip = mr_parse_ip_header(data, data_end, &p, 20);
		if (ip)
			mr_parse_key4_at(&p, ip, MR_ZONE_DEFAULT, &key4);
	} else if (p.flags & MR_PKT_IP6) {
		void *ip = mr_parse_ip_header(data, data_end, &p, 40);
		if (ip)
			mr_parse_key6_at(&p, ip, MR_ZONE_DEFAULT, &key6);
	}
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
