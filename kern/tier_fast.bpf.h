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

/* What mr_parse() would say, if it is of that kind and there is nothing wrong with it. */
static __always_inline int fast_parse(const void *data, const void *data_end, struct mr_parsed *p)
{
	const __u8 *h = mr_parse_at(data, data_end, 0, FAST_L4_OFF + 8);
	__builtin_memset(p, 0, sizeof(*p));
	if (!h || mr_load16(h + 12) != mr_be16(MR_ETH_IP4) || h[14] != 0x45 || mr_load16(h + 20) & mr_be16(0x3fff))
		return 0;
	p->flags = MR_PKT_IP4 | MR_PKT_PROTO | MR_PKT_PORTS;
	p->ethertype = MR_ETH_IP4;
	p->l3_off = MR_ETH_HLEN;
	p->l4_off = FAST_L4_OFF;
	p->l3_len = mr_be16(mr_load16(h + 16));
	p->ttl = h[22];
	p->proto = h[23];
	p->sport_be = mr_load16(h + FAST_L4_OFF);
	p->dport_be = mr_load16(h + FAST_L4_OFF + 2);
	__u32 l4_len = (__u32)p->l3_len - 20;
	if (p->l3_len < 28 || MR_ETH_HLEN + (__u32)p->l3_len > mr_parse_frame_len(data, data_end))
		return 0;
	if (p->proto == MR_IP_UDP) {
		__u32 len = mr_be16(mr_load16(h + FAST_L4_OFF + 4));
		return len >= 8 && len <= l4_len;
	}
	h = p->proto == MR_IP_TCP ? mr_parse_at(data, data_end, 0, FAST_L4_OFF + 20) : (void *)0;
	if (!h)
		return 0;
	__u32 hlen = (h[FAST_L4_OFF + 12] >> 4) * 4u;
	return hlen >= 20 && hlen <= l4_len && !(h[FAST_L4_OFF + 13] & (TIER_FIN | TIER_SYN | TIER_RST));
}

/* The record, and what is taken of it.  NULL: *why is TIER_NONE, there is none, or TIER_UP, it may be elsewhere. */
static __always_inline struct mr_flow_state *fast_find(
	const void *data, const void *data_end, const struct mr_parsed *p, __u16 zone, struct tier_found *f, int *why)
{
	const void *ip = mr_parse_at(data, data_end, MR_ETH_HLEN, 20);
	struct mr_key4 key;
	if (!ip)
		return (void *)0;
	mr_parse_key4_at(p, ip, zone, &key);
	f->hash = mr_flow_hash4(&key, steer_tier.seed);
	__u32 idx = mr_flow_bucket_primary(f->hash, steer_tier.bucket_cnt[0]);
	struct mr_bucket4 *b = bpf_map_lookup_elem(&flows4, &idx);
	if (!b)
		return (void *)0;
	__u64 tags = mr_flow_tags(&b->head, mr_flow_tag(f->hash));
	if (!tags) {
		if (!(mr_flow_load64(&b->head.spilled) & mr_flow_spill_bit(f->hash)))
			*why = TIER_NONE;
		return (void *)0;
	}
	__u32 way = mr_flow_tags_way(tags);
	MR_OPAQUE(way);
	struct mr_flow4 *rec = &b->rec[way & (MR_FLOW_WAYS - 1)];
	if (!mr_flow_take(&key, rec, sizeof(key) / 8, &f->r4, sizeof(f->r4) / 8, &f->t))
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
	struct tier_found f;
	struct tier_pass w = { .f = &f };
	struct tier_nexthop copy;
	const struct mr_nexthop *nh = (const struct mr_nexthop *)&copy;
	__u32 first = 0;
	int why = TIER_UP;
	if (!steer_tier.on || !fast_parse(data, data_end, &p))
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
	w.live = fast_find(data, data_end, &p, in->zone, &f, &why);
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
