/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* rewrite_wrap.bpf.c - the lines of rewrite.h as the kernel runs them, for the test to compare with user space. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "kern/rewrite.h"

struct mr_rewrite4 rewrite4; /* .bss, written by the test through its mapping */
struct mr_rewrite6 rewrite6;
struct mr_nexthop nexthop;
__u64 hash;
__u32 flow_flags;

__u32 apply_err; /* results */
__u32 begin_err;
__u32 finish_err;

__noinline int wrap_parse(struct xdp_md *ctx, struct mr_parsed *p)
{
	if (!p)
		return MR_PARSE_SHORT_ETH;
	return mr_parse((void *)(long)ctx->data, (void *)(long)ctx->data_end, p);
}

SEC("xdp")
int rewrite_wrap(struct xdp_md *ctx)
{
	struct mr_parsed p;
	wrap_parse(ctx, &p);
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	apply_err = begin_err = finish_err = 0;
	if (p.flags & MR_PKT_IP4)
		apply_err = mr_rewrite_apply4(data, data_end, &p, &rewrite4, flow_flags);
	else if (p.flags & MR_PKT_IP6)
		apply_err = mr_rewrite_apply6(data, data_end, &p, &rewrite6, flow_flags);
	struct mr_rewrite_front f;
	begin_err = mr_rewrite_begin(data, data_end, &p, &nexthop, &f);
	if (begin_err)
		return XDP_PASS;
	if (f.grow_bytes && bpf_xdp_adjust_head(ctx, -f.grow_bytes))
		return XDP_ABORTED;
	data = (void *)(long)ctx->data;
	data_end = (void *)(long)ctx->data_end;
	finish_err = mr_rewrite_finish(data, data_end, &p, &nexthop, &f, hash);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
