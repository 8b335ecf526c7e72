/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tier_fast.bpf.h - the kernel tier for nearly all packets: IPv4, TCP or UDP, no tag, no options, no fragment; the key alone tells the
 * pipeline, the record is the first with its tag in its first bucket, and the next hop adds nothing in front.
 *
 * One straight function in place of five, most of what tier.bpf.h asks of a packet being known while compiling: two thirds of the time.
 * The lines that decide, count and rewrite are the same.  What is not just so goes the general way, as if nothing had been looked at.
 */
#ifndef MR_KERN_TIER_FAST_BPF_H
#define MR_KERN_TIER_FAST_BPF_H

#include "tier.bpf.h"

#define FAST_L4_OFF (MR_ETH_HLEN + 20)

/* `bytes` of a word, from the first one that lay in memory at `at` on. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define FAST_FIELD(w, at, bytes) ((w) >> 8 * (at))
#else
#define FAST_FIELD(w, at, bytes) ((w) >> 8 * (8 - (at) - (bytes)))
#endif
#define FAST_8(w, at)  ((__u8)FAST_FIELD(w, at, 1))
#define FAST_16(w, at) ((__u16)FAST_FIELD(w, at, 2))
#define FAST_32(w, at) ((__u32)FAST_FIELD(w, at, 4))

/*
 * What mr_parse() would say, and the key without its zone, if it is of that kind and there is nothing wrong with it.  Read in words: frames lie
 * alike in their pages, and each load of one may have to wait for the stores to the one before.
 */
static __always_inline int fast_parse(const void *data, const void *data_end, struct mr_parsed *p, struct mr_key4 *key)
{
	const __u8 *h = mr_parse_at(data, data_end, 0, FAST_L4_OFF + 8);
	__builtin_memset(p, 0, sizeof(*p));
	if (!h)
		return 0;
	__u64 a = *(const __u64 *)(h + 12), b = *(const __u64 *)(h + 20), c = *(const __u64 *)(h + 26),
	      d = *(const __u64 *)(h + 34);
	if (FAST_16(a, 0) != mr_be16(MR_ETH_IP4) || FAST_8(a, 2) != 0x45 || FAST_16(b, 0) & mr_be16(0x3fff))
		return 0;
	p->flags = MR_PKT_IP4 | MR_PKT_PROTO | MR_PKT_PORTS;
	p->ethertype = MR_ETH_IP4;
	p->l3_off = MR_ETH_HLEN;
	p->l4_off = FAST_L4_OFF;
	p->l3_len = mr_be16(FAST_16(a, 4));
	p->ttl = FAST_8(b, 2);
	p->proto = FAST_8(b, 3);
	p->sport_be = FAST_16(d, 0);
	p->dport_be = FAST_16(d, 2);
	*key = (struct mr_key4){ .proto = p->proto,
		.saddr_be = FAST_32(c, 0),
		.daddr_be = FAST_32(c, 4),
		.sport_be = p->sport_be,
		.dport_be = p->dport_be };
	__u32 l4_len = (__u32)p->l3_len - 20;
	if (p->l3_len < 28 || MR_ETH_HLEN + (__u32)p->l3_len > mr_parse_frame_len(data, data_end))
		return 0;
	if (p->proto == MR_IP_UDP) {
		__u32 len = mr_be16(FAST_16(d, 4));
		return len >= 8 && len <= l4_len;
	}
	h = p->proto == MR_IP_TCP ? mr_parse_at(data, data_end, 0, FAST_L4_OFF + 20) : (void *)0;
	if (!h)
		return 0;
	__u32 hlen = (h[FAST_L4_OFF + 12] >> 4) * 4u;
	return hlen >= 20 && hlen <= l4_len && !(h[FAST_L4_OFF + 13] & (TIER_FIN | TIER_SYN | TIER_RST));
}

/* The record, and what is taken of it.  NULL: *why is TIER_NONE, there is none, or TIER_UP, it may be elsewhere. */
static __always_inline struct mr_flow_state *fast_find(const struct mr_key4 *key, struct tier_found *f, int *why)
{
	f->hash = mr_flow_hash4(key, steer_tier.seed);
	__u32 idx = mr_flow_bucket_primary(f->hash, steer_tier.bucket_cnt[0]);
	struct mr_bucket4 *b = bpf_map_lookup_elem(&flows4, &idx);
	if (!b)
		return (void *)0;
	/* Most are where they are looked for first, and the head need not be waited for. */
	struct mr_flow4 *rec = &b->rec[mr_flow_way_first(f->hash)];
	if (mr_flow_take(key, rec, sizeof(*key) / 8, &f->r4, sizeof(f->r4) / 8, &f->t))
		return &rec->st;
	__u64 tags = mr_flow_tags(&b->head, mr_flow_tag(f->hash));
	if (!tags) {
		if (!(mr_flow_load64(&b->head.spilled) & mr_flow_spill_bit(f->hash)))
			*why = TIER_NONE;
		return (void *)0;
	}
	__u32 way = mr_flow_tags_way(tags);
	MR_OPAQUE(way);
	rec = &b->rec[way & (MR_FLOW_WAYS - 1)];
	if (!mr_flow_take(key, rec, sizeof(*key) / 8, &f->r4, sizeof(f->r4) / 8, &f->t))
		return (void *)0;
	return &rec->st;
}

/* The MAC addresses of a frame whose length stays. */
static __always_inline int fast_front(void *data, void *data_end, const struct mr_nexthop *nh)
{
	__u8 *h = mr_parse_at(data, data_end, 0, MR_ETH_HLEN);
	if (!h)
		return 0;
	if (nh->kind == MR_NH_ROUTED) {
		for (int i = 0; i < 6; i += 2) {
			mr_store16(h + i, *(const __u16 *)&nh->dmac[i]);
			mr_store16(h + 6 + i, *(const __u16 *)&nh->smac[i]);
		}
	} else if (nh->kind == MR_NH_BACK) {
		for (int i = 0; i < 6; i += 2) {
			__u16 to = mr_load16(h + i);
			mr_store16(h + i, mr_load16(h + 6 + i));
			mr_store16(h + 6 + i, to);
		}
	}
	return 1;
}

static __always_inline int fast_send(
	void *data, void *data_end, const struct mr_parsed *p, const struct mr_nexthop *nh, struct tier_pass *w)
{
	__u32 egress = nh->kind == MR_NH_BACK ? steer_tier.interface_id : nh->egress;
	if (bpf_redirect_map(&tier_devmap, egress, 0) != XDP_REDIRECT)
		return TIER_UP;
	int action = egress == steer_tier.interface_id && !steer_tier.redirect_back ? XDP_TX : XDP_REDIRECT;
	if (tier_rewrites(w->f->t.flags) && mr_rewrite_apply4(data, data_end, p, &w->f->r4, w->f->t.flags))
		return TIER_UP;
	if (!fast_front(data, data_end, nh))
		return TIER_UP;
	return tier_count(w, action, egress) ? action : XDP_DROP;
}

/* An XDP action, or TIER_UP: nothing happened to the packet, and the general way is to be gone; TIER_NONE: that would find no record. */
__noinline int steer_fast(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct mr_parsed p;
	struct mr_key4 key;
	struct tier_found f;
	struct tier_pass w = { .f = &f };
	struct tier_nexthop copy;
	const struct mr_nexthop *nh = (const struct mr_nexthop *)&copy;
	__u32 first = 0;
	int why = TIER_UP;
	if (!steer_tier.on || !fast_parse(data, data_end, &p, &key))
		return TIER_UP;
	w.len = mr_parse_frame_len(data, data_end);
	w.shared = bpf_map_lookup_elem(&tier, &first);
	if (!w.shared)
		return TIER_UP;
	f.word = mr_flow_load32(&w.shared->word);
	w.half = MR_TIER_HALF(f.word);
	const struct mr_tier_interface *in = tier_interface(w.shared, f.word);
	if (!in || !(in->flags & MR_TIER_KEY_ONLY))
		return TIER_UP;
	key.zone = in->zone;
	w.live = fast_find(&key, &f, &why);
	if (!w.live)
		return why;
	if (!tier_allows(&w, f.word, -1) || !tier_alive(&w))
		return TIER_UP;
	if (f.t.flags & MR_FLOW_ROUTED && !tier_routable(data, data_end, &p, in, &w))
		return TIER_UP;
	if (f.t.effects && !tier_effects_fit(&w))
		return TIER_UP;
	if (!tier_nexthop(f.t.nexthop, &copy) || nh->encap || nh->flags || nh->kind == MR_NH_KERNEL ||
		!tier_fits(data, data_end, &p, nh, &w))
		return TIER_UP;
	if (nh->kind == MR_NH_ROUTED)
		tier_touch(&w);
	return fast_send(data, data_end, &p, nh, &w);
}

#endif
