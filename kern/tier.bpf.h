/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tier.bpf.h - the kernel tier in steer.bpf.c: an established flow's packet is rewritten and sent on inside XDP.
 *
 * The maps are as small as can be here; where there is a tier (steer_tier.on) core/tier.c puts the real ones, which all interfaces share,
 * in their place before the program is loaded.
 */
#ifndef MR_KERN_TIER_BPF_H
#define MR_KERN_TIER_BPF_H

#include "rewrite.h"
#include "tier.h"

const volatile struct mr_tier_fixed steer_tier SEC(".rodata.tier") = { 0 };

#define MR_TIER_SHARED(name, value_type)                \
	struct {                                        \
		__uint(type, BPF_MAP_TYPE_ARRAY);       \
		__uint(map_flags, BPF_F_MMAPABLE);      \
		__uint(max_entries, 1);                 \
		__uint(key_size, sizeof(__u32));        \
		__uint(value_size, sizeof(value_type)); \
	} name SEC(".maps")

MR_TIER_SHARED(flows4, struct mr_bucket4);
MR_TIER_SHARED(flows6, struct mr_bucket6);
MR_TIER_SHARED(nexthops, struct mr_nexthop);    /* [MR_MAX_NEXTHOPS] */
MR_TIER_SHARED(tier, __u64);                    /* struct mr_tier */
MR_TIER_SHARED(tier_effects, struct mr_effect); /* [MR_TIER_HALVES * MR_EFFECTS] */
MR_TIER_SHARED(tier_meters, struct mr_meter);   /* [MR_TIER_HALVES * MR_METERS] */

#define MR_TIER_COUNTED(name, value_type)                \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); \
		__uint(max_entries, 1);                  \
		__uint(key_size, sizeof(__u32));         \
		__uint(value_size, sizeof(value_type));  \
	} name SEC(".maps")

MR_TIER_COUNTED(tier_pairs, struct mr_tier_pair);     /* [MR_TIER_INGRESS] */
MR_TIER_COUNTED(tier_counters, struct mr_tier_count); /* [MR_TIER_COUNTERS] */
MR_TIER_COUNTED(tier_egress, struct mr_tier_egress);  /* [MR_TIER_EGRESS] */

/* Interfaces that take redirected frames and whose link is up, by id. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, MR_TIER_EGRESS);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32)); /* ifindex */
} tier_devmap SEC(".maps");

enum {
	TIER_UP = -1,    /* to the flow tier, the frame as it was */
	TIER_AGAIN = -2, /* ... but the pipeline has to be known: call again with it */
	TIER_NONE = -3,  /* ... and no record is its */
};

#define TIER_NAT (MR_FLOW_SNAT | MR_FLOW_DNAT)

/* What is taken of a record. */
struct tier_found {
	union {
		struct mr_rewrite4 r4;
		struct mr_rewrite6 r6;
		__u64 align; /* copied in words */
	};
	__u64 hash;
	__u32 word; /* what is in force for this packet: read once */
	struct mr_flow_taken t;
};

/* One packet's way through the tier. */
struct tier_pass {
	struct mr_tier *shared;
	struct mr_flow_state *live;
	const struct tier_found *f;
	__u32 half, now_ms;
	__u32 len; /* of the frame as it came */
};

/* ---- the record ------------------------------------------------------------------------------------------------- */

static __always_inline int tier_find4(const struct mr_key4 *key, struct tier_found *f)
{
	__u32 idx = mr_flow_bucket_primary(f->hash, steer_tier.bucket_cnt[0]);
	struct mr_bucket4 *b = bpf_map_lookup_elem(&flows4, &idx);
	if (!b)
		return TIER_UP;
	int way = mr_flow_find4(b, key, mr_flow_tag(f->hash), &f->r4, &f->t);
	if (way >= 0)
		return (int)(idx * MR_FLOW_WAYS) + way;
	if (!(mr_flow_load64(&b->head.spilled) & mr_flow_spill_bit(f->hash)))
		return TIER_UP;
	idx = mr_flow_bucket_secondary(f->hash, steer_tier.bucket_cnt[0]);
	b = bpf_map_lookup_elem(&flows4, &idx);
	if (!b)
		return TIER_UP;
	way = mr_flow_find4(b, key, mr_flow_tag(f->hash), &f->r4, &f->t);
	return way < 0 ? TIER_UP : (int)(idx * MR_FLOW_WAYS) + way;
}

static __always_inline int tier_find6(const struct mr_key6 *key, struct tier_found *f)
{
	__u32 idx = mr_flow_bucket_primary(f->hash, steer_tier.bucket_cnt[1]);
	struct mr_bucket6 *b = bpf_map_lookup_elem(&flows6, &idx);
	if (!b)
		return TIER_UP;
	int way = mr_flow_find6(b, key, mr_flow_tag(f->hash), &f->r6, &f->t);
	if (way >= 0)
		return (int)(idx * MR_FLOW_WAYS) + way;
	if (!(mr_flow_load64(&b->head.spilled) & mr_flow_spill_bit(f->hash)))
		return TIER_UP;
	idx = mr_flow_bucket_secondary(f->hash, steer_tier.bucket_cnt[1]);
	b = bpf_map_lookup_elem(&flows6, &idx);
	if (!b)
		return TIER_UP;
	way = mr_flow_find6(b, key, mr_flow_tag(f->hash), &f->r6, &f->t);
	return way < 0 ? TIER_UP : (int)(idx * MR_FLOW_WAYS) + way;
}

/* What is in force where packets of this interface come in; NULL: nothing of theirs is offloaded. */
static __always_inline const struct mr_tier_interface *tier_interface(const struct mr_tier *shared, __u32 word)
{
	const struct mr_tier_interface *in = &shared->half[MR_TIER_HALF(word)].interface[steer_tier.interface_id];
	return word && in->zone ? in : (void *)0;
}

/*
 * The place of a packet's record (bucket and way) and what was taken of it, or TIER_UP, or TIER_AGAIN.  pipeline: TIER_PIPELINE(), < 0: not
 * known yet.  A function of its own: Linux 6.1 looks at all that follows anew for each way by which a record may have been found.
 */
__noinline int steer_find(struct xdp_md *ctx, const struct mr_parsed *p, struct tier_found *f, int pipeline)
{
	const void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	__u32 first = 0;
	if (!steer_tier.on || !p || !f)
		return TIER_UP;
	if (!mr_parse_has_key(p) || p->flags & (MR_PKT_FRAG | MR_PKT_OPTIONS) ||
		!(p->flags & (MR_PKT_IP4 | MR_PKT_IP6)))
		return TIER_UP;
	const struct mr_tier *shared = bpf_map_lookup_elem(&tier, &first);
	if (!shared)
		return TIER_UP;
	f->word = mr_flow_load32(&shared->word);
	const struct mr_tier_interface *in = tier_interface(shared, f->word);
	if (!in)
		return TIER_UP;
	if (pipeline < 0 && !(in->flags & MR_TIER_KEY_ONLY))
		return TIER_AGAIN;
	__u16 zone = mr_parse_zone(p, in->zone, in->vlan_mask);
	if (p->flags & MR_PKT_IP4) {
		const void *ip = mr_parse_ip_header(data, data_end, p, 20);
		struct mr_key4 key;
		if (!ip)
			return TIER_UP;
		mr_parse_key4_at(p, ip, zone, &key);
		f->hash = mr_flow_hash4(&key, steer_tier.seed);
		return tier_find4(&key, f);
	}
	const void *ip = mr_parse_ip_header(data, data_end, p, 40);
	struct mr_key6 key;
	if (!ip)
		return TIER_UP;
	mr_parse_key6_at(p, ip, zone, &key);
	f->hash = mr_flow_hash6(&key, steer_tier.seed);
	return tier_find6(&key, f);
}

/* The live record at a place, to count in. */
static __always_inline struct mr_flow_state *tier_live(const struct mr_parsed *p, __u32 place)
{
	__u32 idx = place / MR_FLOW_WAYS, way = place % MR_FLOW_WAYS;
	if (p->flags & MR_PKT_IP4) {
		struct mr_bucket4 *b = bpf_map_lookup_elem(&flows4, &idx);
		if (!b)
			return (void *)0;
		MR_OPAQUE(b); /* no arithmetic before the check */
		return &b->rec[way].st;
	}
	struct mr_bucket6 *b = bpf_map_lookup_elem(&flows6, &idx);
	if (!b)
		return (void *)0;
	MR_OPAQUE(b);
	return &b->rec[way].st;
}

/* ---- may it? ---------------------------------------------------------------------------------------------------- */

/* A pipeline by the number it has in the steering of one generation; never less than 0.  That of another generation numbers others. */
#define TIER_PIPELINE(generation, number) ((int)((__u32)(generation) << 8 | (number)))

/* The record is there to be carried out on packets of this interface (and pipeline, where the key does not settle that). */
static __always_inline int tier_allows(const struct tier_pass *w, __u32 word, int pipeline)
{
	const struct mr_tier_ingress *in = &w->shared->half[w->half].ingress[w->f->t.ingress];
	__u16 mask = MR_FLOW_DECIDED | MR_FLOW_OFFLOAD | MR_FLOW_TRACK | MR_FLOW_CLOSING;

	return (w->f->t.flags & mask) == (MR_FLOW_DECIDED | MR_FLOW_OFFLOAD) &&
		w->f->t.generation == MR_TIER_GENERATION(word) && in->interface_id == steer_tier.interface_id &&
		(pipeline < 0 || TIER_PIPELINE(MR_TIER_GENERATION(word), in->steer_pipeline) == pipeline);
}

/* The owner lives.  Its clock is the finer one, so it may be a little ahead. */
static __always_inline int tier_alive(struct tier_pass *w)
{
	__u64 now_ns = bpf_ktime_get_coarse_ns();
	w->now_ms = (__u32)(now_ns / 1000000);
	return (__s64)(now_ns - mr_flow_load64(&w->shared->heartbeat_ns)) <= MR_TIER_HEARTBEAT_MS * 1000000LL;
}

/* core/worker.c: routable() and current(). */
static __always_inline int tier_routable(const void *data, const void *data_end, const struct mr_parsed *p,
	const struct mr_tier_interface *in, struct tier_pass *w)
{
	const __u8 *h = mr_parse_at(data, data_end, 0, MR_ETH_HLEN);
	__u32 bucket, v6 = !(p->flags & MR_PKT_IP4), id = p->vlan_tci[0] & 0xfff;
	if (!h)
		return 0;
	__u16 m0 = mr_load16(&in->mac[0]), m1 = mr_load16(&in->mac[2]), m2 = mr_load16(&in->mac[4]);
	if ((m0 | m1 | m2) && ((m0 ^ mr_load16(h)) | (m1 ^ mr_load16(h + 2)) | (m2 ^ mr_load16(h + 4))))
		return 0;
	if (p->vlan_cnt > 1)
		return 0;
	if (p->vlan_cnt && id && !(w->shared->vlan[steer_tier.interface_id][id / 64] >> (id & 63) & 1))
		return 0;
	bucket = v6 ? mr_route_bucket6(w->f->r6.daddr_be) : mr_route_bucket4(w->f->r4.daddr_be);
	MR_OPAQUE(bucket); /* Linux 6.1 has forgotten its bounds, and clang would not mask what it knows them of */
	__u8 version = *(volatile __u8 *)&w->shared->version[v6][bucket & (MR_ROUTE_BUCKETS - 1)];
	return version == w->f->t.flags >> MR_FLOW_VERSION_SHIFT;
}

/* All its counters have cells here. */
static __always_inline int tier_effects_fit(const struct tier_pass *w)
{
	__u32 idx = w->half * MR_EFFECTS + w->f->t.effects;
	const struct mr_effect *e = bpf_map_lookup_elem(&tier_effects, &idx);
	return e && e->counter[0] < MR_TIER_COUNTERS && e->counter[1] < MR_TIER_COUNTERS &&
		e->counter[2] < MR_TIER_COUNTERS && e->counter[3] < MR_TIER_COUNTERS;
}

/* What sending needs of a next hop, as it stood at one moment; the outer addresses only where there are any.  The rest of struct mr_nexthop
 * is never touched, and not on the stack, which ends at 512 bytes. */
#define TIER_NH_WORDS       4
#define TIER_NH_OUTER_WORDS 8

typedef __u64 __attribute__((may_alias)) tier_word;

struct tier_nexthop {
	tier_word word[TIER_NH_OUTER_WORDS];
};

_Static_assert(__builtin_offsetof(struct mr_nexthop, outer_saddr_be) == 8 * TIER_NH_WORDS, "the first words");
_Static_assert(__builtin_offsetof(struct mr_nexthop, generation) == 8 * TIER_NH_OUTER_WORDS, "and the outer addresses");

static __always_inline int tier_nexthop(__u32 slot, struct tier_nexthop *to)
{
	const struct mr_nexthop *live = bpf_map_lookup_elem(&nexthops, &slot);
	if (!live)
		return 0;
	__u32 seq = mr_flow_load32(&live->seq);
	if (seq & 1)
		return 0;
	MR_FLOW_READ_FENCE();
	for (int i = 0; i < TIER_NH_WORDS; i++)
		to->word[i] = mr_flow_load64((const __u64 *)live + i);
	for (int i = TIER_NH_WORDS; i < TIER_NH_OUTER_WORDS; i++)
		to->word[i] = 0;
	if (((const struct mr_nexthop *)to)->encap) {
		for (int i = TIER_NH_WORDS; i < TIER_NH_OUTER_WORDS; i++)
			to->word[i] = mr_flow_load64((const __u64 *)live + i);
	}
	MR_FLOW_READ_FENCE();
	return mr_flow_load32(&live->seq) == seq;
}

static __always_inline int tier_header_sum_right(const void *data, const void *data_end, const struct mr_parsed *p)
{
	const __u8 *ip = mr_parse_ip_header(data, data_end, p, 20);
	__u64 sum = 0;
	if (!ip)
		return 0;
	for (int i = 0; i < 20; i += 4)
		sum += mr_load32(ip + i);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ((sum & 0xffff) + (sum >> 16)) == 0xffff;
}

/* core/apply.h: mr_apply(), up to the writing.  What it cuts off or answers comes up. */
static __always_inline int tier_fits(const void *data, const void *data_end, const struct mr_parsed *p,
	const struct mr_nexthop *nh, const struct tier_pass *w)
{
	__u32 end = p->l3_off + p->l3_len;
	if (!(w->f->t.flags & MR_FLOW_NO_TTL) && p->ttl <= 1)
		return 0;
	if (nh->kind == MR_NH_KERNEL)
		return !(w->f->t.flags & TIER_NAT);
	if ((__u8)(nh->kind - 1) >= MR_NH_ROUTED)
		return 0;
	if (nh->kind == MR_NH_ROUTED && w->len > (end > 60 ? end : 60))
		return 0;
	if (nh->kind == MR_NH_ROUTED && p->flags & MR_PKT_IP4 && !tier_header_sum_right(data, data_end, p))
		return 0;
	__u32 outer =
		nh->kind == MR_NH_ROUTED || nh->encap ? mr_rewrite_outer_bytes(nh) + p->l3_len : w->len - p->l3_off;
	return !nh->mtu || outer <= nh->mtu;
}

/* ---- counted ---------------------------------------------------------------------------------------------------- */

/* The part of a decision that happens to each packet.  0: over the rate of a limit.  A function of its own for the verifier's sake. */
__noinline int steer_effects(__u32 idx, __u32 half, __u32 len)
{
	if (!steer_tier.on)
		return 0;
	const struct mr_effect *e = bpf_map_lookup_elem(&tier_effects, &idx);
	if (!e)
		return 1;
	for (int i = 0; i < MR_EFFECT_COUNTERS; i++) {
		__u32 key = e->counter[i];
		if (!key)
			break;
		struct mr_tier_count *c = bpf_map_lookup_elem(&tier_counters, &key);
		if (c) {
			c->packets++;
			c->bytes += len;
		}
	}
	if (!e->meter[0])
		return 1;
	__u64 now_ns = bpf_ktime_get_ns();
	for (int i = 0; i < MR_EFFECT_METERS; i++) {
		__u32 key = (half & 1) * MR_METERS + e->meter[i];
		if (!e->meter[i])
			break;
		struct mr_meter *m = bpf_map_lookup_elem(&tier_meters, &key);
		if (m && !mr_meter_pass(m, len, now_ns))
			return 0;
	}
	return 1;
}

/* Counts a packet that stays in the kernel.  0: it is over the rate of a limit, and dropped. */
static __always_inline int tier_count(struct tier_pass *w, int action, __u32 egress)
{
	__u32 key = w->f->t.ingress;
	struct mr_tier_pair *pair = bpf_map_lookup_elem(&tier_pairs, &key);
	__sync_fetch_and_add(&w->live->bytes, w->len);
	__sync_fetch_and_add(&w->live->packets, 1);
	*(volatile __u32 *)&w->live->last_seen_ms = w->now_ms;
	if (!pair)
		return 1;
	pair->received_packets++;
	pair->received_bytes += w->len;
	if (w->f->t.effects && !steer_effects(w->half * MR_EFFECTS + w->f->t.effects, w->half, w->len)) {
		pair->metered_packets++;
		return 0;
	}
	if (action == XDP_PASS) {
		pair->kernel_packets++;
		pair->kernel_bytes += w->len;
		return 1;
	}
	pair->forwarded_packets++;
	pair->forwarded_bytes += w->len;
	struct mr_tier_egress *e = bpf_map_lookup_elem(&tier_egress, &egress);
	if (e) {
		e->sent_packets++;
		e->sent_bytes += w->len;
		e->last_ingress = w->f->t.ingress;
	}
	return 1;
}

/* ---- carried out ------------------------------------------------------------------------------------------------ */

/* Two functions of their own: else Linux 6.1 looks at every new front after every rewrite, more than its million instructions. */

/* Addresses, ports, TTL of the frame behind `skip` bytes of room. */
__noinline int steer_rewrite(struct xdp_md *ctx, const struct mr_parsed *p, const struct tier_found *f, __u32 skip)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	if (!steer_tier.on || !p || !f)
		return MR_REWRITE_KEY;
	data += skip & 63;
	if (p->flags & MR_PKT_IP4)
		return mr_rewrite_apply4(data, data_end, p, &f->r4, f->t.flags);
	return mr_rewrite_apply6(data, data_end, p, &f->r6, f->t.flags);
}

/* The new front of a frame that has its room. */
__noinline int steer_front(struct xdp_md *ctx, const struct mr_parsed *p, const struct tier_nexthop *nh,
	const struct mr_rewrite_front *front, __u64 hash)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	if (!steer_tier.on || !p || !nh || !front)
		return MR_REWRITE_KEY;
	return mr_rewrite_finish(data, data_end, p, (const struct mr_nexthop *)nh, front, hash);
}

static __always_inline int tier_rewrites(__u16 flags)
{
	return flags & TIER_NAT || !(flags & MR_FLOW_NO_TTL);
}

/*
 * Whatever may fail fails before the first byte is written: room in front is made first and given back, and taking some of it away (tags)
 * cannot fail, for there is an IP header behind it.
 */
static __always_inline int tier_send(
	struct xdp_md *ctx, const struct mr_parsed *p, const struct mr_nexthop *nh, struct tier_pass *w)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	__u32 egress = nh->kind == MR_NH_BACK ? steer_tier.interface_id : nh->egress;
	struct mr_rewrite_front f;
	if (mr_rewrite_begin(data, data_end, p, nh, &f))
		return TIER_UP;
	if (bpf_redirect_map(&tier_devmap, egress, 0) != XDP_REDIRECT)
		return TIER_UP;
	int action = egress == steer_tier.interface_id && !steer_tier.redirect_back ? XDP_TX : XDP_REDIRECT,
	    grow = f.grow_bytes;
	if (grow > 0 && bpf_xdp_adjust_head(ctx, -grow))
		return TIER_UP;
	if (tier_rewrites(w->f->t.flags) && steer_rewrite(ctx, p, w->f, grow > 0 ? grow : 0)) {
		if (grow > 0)
			bpf_xdp_adjust_head(ctx, grow);
		return TIER_UP;
	}
	if (!tier_count(w, action, egress))
		return XDP_DROP;
	if (grow < 0 && bpf_xdp_adjust_head(ctx, -grow))
		return XDP_ABORTED;
	if (!f.changes)
		return action;
	return steer_front(ctx, p, (const struct tier_nexthop *)nh, &f, w->f->hash) ? XDP_ABORTED : action;
}

/* A packet goes up to the socket of its queue.  A flow goes over to the tier when its worker has taken as many out. */
static __always_inline void tier_sent_up(__u32 queue)
{
	__u32 first = 0;
	struct mr_tier *shared = steer_tier.on ? bpf_map_lookup_elem(&tier, &first) : (void *)0;
	if (shared && queue < MR_MAX_QUEUES)
		(*(volatile __u64 *)&shared->queue[steer_tier.interface_id][queue].up_packets)++;
}

/* The next hop is in use: control asks the kernel to confirm its neighbour. */
static __always_inline void tier_touch(struct tier_pass *w)
{
	__u32 slot = w->f->t.nexthop;
	MR_OPAQUE(slot);
	__u32 *used_ms = &w->shared->nexthop_used_ms[slot & (MR_MAX_NEXTHOPS - 1)];
	if (w->now_ms - *(volatile __u32 *)used_ms >= MR_TIER_TOUCH_MS)
		*(volatile __u32 *)used_ms = w->now_ms;
}

static __always_inline int tier_carry_out(struct xdp_md *ctx, const struct mr_parsed *p, struct tier_pass *w)
{
	const void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	const struct mr_tier_interface *in = &w->shared->half[w->half].interface[steer_tier.interface_id];
	struct tier_nexthop copy;
	const struct mr_nexthop *nh = (const struct mr_nexthop *)&copy;
	if (!tier_alive(w))
		return TIER_UP;
	if (w->f->t.flags & MR_FLOW_ROUTED && !tier_routable(data, data_end, p, in, w))
		return TIER_UP;
	if (w->f->t.effects && !tier_effects_fit(w))
		return TIER_UP;
	if (!tier_nexthop(w->f->t.nexthop, &copy) || !tier_fits(data, data_end, p, nh, w))
		return TIER_UP;
	if (nh->kind == MR_NH_KERNEL)
		return tier_count(w, XDP_PASS, 0) ? XDP_PASS : XDP_DROP;
	if (nh->kind == MR_NH_ROUTED)
		tier_touch(w);
	return tier_send(ctx, p, nh, w);
}

#define TIER_FIN 0x01
#define TIER_SYN 0x02
#define TIER_RST 0x04

/* This direction ends: nothing behind this packet is to overtake it on its way through user space. */
static __always_inline void tier_close(struct mr_flow_state *live)
{
	const __u32 flag = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? MR_FLOW_CLOSING : MR_FLOW_CLOSING << 16;
	__sync_fetch_and_or((__u32 *)&live->flags, flag);
}

_Static_assert(__builtin_offsetof(struct mr_flow_state, flags) % 4 == 0, "flags and next hop are one word");

/*
 * An XDP action for a packet that was carried out, or TIER_UP: nothing happened to it.  f, place: of steer_find(), at once.  Packet pointers
 * from before are no longer good.
 */
__noinline int steer_carry_out(
	struct xdp_md *ctx, const struct mr_parsed *p, const struct tier_found *f, __u32 place, int pipeline)
{
	struct tier_pass w = { 0 };
	__u32 first = 0;
	if (!steer_tier.on || !p || !f)
		return TIER_UP;
	w.f = f;
	w.half = MR_TIER_HALF(f->word);
	__u32 len = mr_parse_frame_len((void *)(long)ctx->data, (void *)(long)ctx->data_end);
	MR_OPAQUE(len); /* now, and not where it is used: half a packet pointer cannot be kept */
	w.len = len;
	w.shared = bpf_map_lookup_elem(&tier, &first);
	if (!w.shared || !tier_allows(&w, f->word, pipeline))
		return TIER_UP;
	w.live = tier_live(p, place);
	if (!w.live)
		return TIER_UP;
	if (p->tcp_flags & (TIER_FIN | TIER_SYN | TIER_RST)) {
		if (p->tcp_flags & (TIER_FIN | TIER_RST))
			tier_close(w.live);
		return TIER_UP;
	}
	return tier_carry_out(ctx, p, &w);
}

/* Both, for the program. */
static __always_inline int tier_take(struct xdp_md *ctx, const struct mr_parsed *p, struct tier_found *f, int pipeline)
{
	if (!steer_tier.on)
		return TIER_UP;
	int place = steer_find(ctx, p, f, pipeline);
	return place < 0 ? place : steer_carry_out(ctx, p, f, (__u32)place, pipeline);
}

#endif
