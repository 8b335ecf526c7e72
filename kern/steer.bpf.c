/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * steer.bpf.c - the fork in the river: what the pipelines match goes to the queue's socket, the rest to the stack.
 *
 * One instance an interface.  Two tables, of which `steer_active` names the one in force; core/steer.c fills the other and flips
 * with one store.  A packet reads steer_active once and uses that table to its end.
 *
 *     shim? ─► strip, PASS        active == 0 ─► PASS
 *     kernel tier (tier_fast.bpf.h, and behind the parse tier.bpf.h): known flow ─► rewritten and sent, TX, REDIRECT or PASS
 *           ─► fields ─► addresses ─► pipeline ─► XSKMAP[queue], or `steer_unserved` when the queue has no socket
 *
 * Where the key does not tell the pipeline, the kernel tier comes after it.
 *
 * When the process is gone its sockets have left the XSKMAP: where a pinned link keeps the program (`on_exit: drop`), steer_unserved
 * then decides about everything that matches.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "kern/steer.h"
#include "kern/tier_fast.bpf.h"

const volatile __u64 steer_shim_cookie = 0; /* 0: no shim is expected (native mode) */
const volatile struct mr_steer_owner steer_owner SEC(".rodata.owner") = { { 0 } };

__u32 steer_active = 0;          /* 0: nothing matches; 1 or 2: table 0 or 1 is in force */
__u32 steer_unserved = XDP_PASS; /* of a matched packet whose queue has no socket */

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, MR_MAX_QUEUES);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct mr_steer_image);
} steer_tables SEC(".maps");

struct trie {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(struct mr_steer_key)); /* by size: clang leaves inner types undefined */
	__uint(value_size, sizeof(struct mr_steer_bits));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MR_STEER_TRIE_CNT);
	__type(key, __u32);
	__array(values, struct trie);
} steer_tries SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mr_steer_cpu_counters);
} steer_counters SEC(".maps");

static __always_inline void count(enum mr_steer_count which)
{
	__u32 key = 0;
	struct mr_steer_cpu_counters *c = bpf_map_lookup_elem(&steer_counters, &key);
	if (c)
		c->packets[which]++;
}

static __always_inline int is_shim(const void *data, const void *data_end)
{
	const struct mr_shim *shim = mr_parse_at(data, data_end, 0, sizeof(*shim));
	if (!shim || mr_load16(&shim->ethertype_be) != mr_be16(MR_SHIM_ETHERTYPE))
		return 0;
	__u64 cookie = (__u64)mr_load32(&shim->cookie[4]) << 32 | mr_load32(&shim->cookie[0]);
	return cookie == steer_shim_cookie;
}

static __always_inline void end_bits(const struct mr_steer_image *m, __u32 table, enum mr_steer_field f,
	const struct mr_parsed *p, const void *data, const void *data_end, struct mr_steer_bits *b)
{
	const struct mr_steer_bits *found = (void *)0;
	struct mr_steer_key key = { 0 };
	if (!(m->head.fields & 1u << f) || !mr_steer_any(b))
		return;
	if (p->flags & MR_PKT_IP4) {
		const __u8 *ip = mr_parse_ip_header(data, data_end, p, 20);
		if (ip) {
			key.prefix_bits = MR_STEER_KEY_BITS + 32;
			key.end = MR_STEER_END(0, f);
			key.addr_be[0] = mr_load32(ip + (f == MR_STEER_SRC ? 12 : 16));
		}
	} else if (p->flags & MR_PKT_IP6) {
		const __u8 *ip = mr_parse_ip_header(data, data_end, p, 40);
		if (ip) {
			key.prefix_bits = MR_STEER_KEY_BITS + 128;
			key.end = MR_STEER_END(1, f);
			for (int i = 0; i < 4; i++)
				key.addr_be[i] = mr_load32(ip + (f == MR_STEER_SRC ? 8 : 24) + 4 * i);
		}
	}
	void *trie = key.prefix_bits ? bpf_map_lookup_elem(&steer_tries, &table) : (void *)0;
	if (trie)
		found = bpf_map_lookup_elem(trie, &key);
	mr_steer_and(b, found ? found : &m->head.absent[f]);
}

static __always_inline int pass(int err)
{
	count(MR_STEER_CNT_PASSED);
	if (err != MR_PARSE_OK && err != MR_PARSE_NOT_IP)
		count(MR_STEER_CNT_UNPARSED);
	return XDP_PASS;
}

/*
 * Functions of their own, not inlined: the verifier then looks at each once, and not at every way through the one after every way through
 * the other (more than its million instructions), and their stacks are not on top of each other.
 */
__noinline int steer_parse(struct xdp_md *ctx, struct mr_parsed *p)
{
	if (!p)
		return MR_PARSE_SHORT_ETH;
	return mr_parse((void *)(long)ctx->data, (void *)(long)ctx->data_end, p);
}

__noinline int steer_resolve(struct mr_steer_image *m, struct mr_steer_bits *b)
{
	if (!m || !b)
		return -1;
	return mr_steer_resolve(m, b);
}

/* The pipeline of a packet by table 0 or 1, as TIER_PIPELINE(), or -1. */
__noinline int steer_classify(struct xdp_md *ctx, const struct mr_parsed *p, __u32 table)
{
	const void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct mr_steer_image *m = bpf_map_lookup_elem(&steer_tables, &table);
	struct mr_steer_bits b;
	if (!m || !p)
		return -1;
	mr_steer_fields(m, p, &b);
	end_bits(m, table, MR_STEER_DST, p, data, data_end, &b);
	end_bits(m, table, MR_STEER_SRC, p, data, data_end, &b);
	int number = steer_resolve(m, &b);
	return number < 0 ? -1 : TIER_PIPELINE(m->head.generation & 0xffff, number & 0xff);
}

static __always_inline int steer_matched(struct xdp_md *ctx)
{
	int action = bpf_redirect_map(&xsks, ctx->rx_queue_index, *(volatile __u32 *)&steer_unserved & 3);
	if (action == XDP_REDIRECT)
		tier_sent_up(ctx->rx_queue_index);
	count(action == XDP_REDIRECT         ? MR_STEER_CNT_STEERED
			: action == XDP_DROP ? MR_STEER_CNT_UNSERVED
					     : MR_STEER_CNT_NO_SOCKET);
	return action;
}

static __always_inline int steer_packet(struct xdp_md *ctx, int with_tier)
{
	__u32 active = *(volatile __u32 *)&steer_active;
	if (!active)
		return pass(MR_PARSE_OK);
	/* Drop sets belong here. */
	int taken = with_tier && steer_tier.on ? steer_fast(ctx) : TIER_UP;
	if (taken >= 0) {
		count(MR_STEER_CNT_OFFLOADED);
		return taken;
	}
	struct mr_parsed p;
	int err = steer_parse(ctx, &p);
	struct tier_found f = { 0 };
	if (with_tier && taken != TIER_NONE)
		taken = tier_take(ctx, &p, &f, -1);
	if (taken >= 0) {
		count(MR_STEER_CNT_OFFLOADED);
		return taken;
	}
	int pipeline = steer_classify(ctx, &p, active - 1);
	if (pipeline < 0)
		return pass(err);
	if (with_tier && taken == TIER_AGAIN) {
		taken = tier_take(ctx, &p, &f, pipeline);
		if (taken >= 0) {
			count(MR_STEER_CNT_OFFLOADED);
			return taken;
		}
	}
	return steer_matched(ctx);
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	if (steer_shim_cookie && is_shim(data, data_end)) {
		count(MR_STEER_CNT_HANDED_BACK);
		/* Only a frame that is nothing but shim cannot be cut: nobody sends one, and it is not to be seen by the stack. */
		return bpf_xdp_adjust_head(ctx, sizeof(struct mr_shim)) ? XDP_DROP : XDP_PASS;
	}
	return steer_packet(ctx, 1);
}

/*
 * The same for libxdp's dispatcher in native mode, where no shim is expected.  Newer kernels (6.13, and stable ones) let a program
 * that may change packets replace only a function that may, too, and a dispatcher's may not before libxdp 1.5.5: no trace of it here, and
 * no kernel tier.
 */
SEC("?freplace")
int steer_shared(struct xdp_md *ctx)
{
	return steer_packet(ctx, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
