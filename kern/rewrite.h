/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * rewrite.h - carrying out a stored decision on a frame, the same lines in XDP and in user space.
 *
 *     parse ─► mr_rewrite_apply4/6      addresses, ports, checksums, TTL: in place
 *          ─► mr_rewrite_begin          checks, and how many bytes the front grows (or shrinks)
 *          ─► [the caller moves the front: bpf_xdp_adjust_head(), or the headroom of a frame]
 *          ─► mr_rewrite_finish         encapsulation, VLAN tags, MACs: written into the new front
 *
 * Checksums are never computed over the packet: deltas (RFC 1624, equation 3) were precomputed by mr_rewrite_delta4/6 when the
 * flow was decided.  A wrong checksum stays wrong.  Every function checks before it writes: after an error the frame is as before.
 */
#ifndef MR_KERN_REWRITE_H
#define MR_KERN_REWRITE_H

#include "flow.h"
#include "parse.h"

enum mr_rewrite_error {
	MR_REWRITE_OK = 0,
	MR_REWRITE_SHORT, /* the frame is shorter than its parse says (or has not the headroom) */
	MR_REWRITE_KEY, /* malformed; or a translation of an ICMP message that is no query: no key, so no rewrite is for it */
	MR_REWRITE_TTL,   /* TTL or hop limit would reach 0 */
	MR_REWRITE_PORTS, /* new ports for a protocol whose checksum cannot be adjusted (SCTP: CRC32c) or that has none */
	MR_REWRITE_NEXTHOP, /* the next hop is not in use */
	MR_REWRITE_VLAN,    /* a third tag */
	MR_REWRITE_NOT_IP,  /* encapsulation or routing of something else */
	MR_REWRITE_SIZE,    /* the outer packet would be longer than its length field can say */
	MR_REWRITE_ERROR_CNT
};

/* ---- one's complement sums -------------------------------------------------------------------------------------- */
/* Over 16-bit words as they lie in memory: the sum does not depend on byte order (RFC 1071 section 2 B). */

static __always_inline __u16 mr_csum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)((sum & 0xffff) + (sum >> 16));
}

static __always_inline __u32 mr_csum_change16(__u16 from, __u16 to)
{
	return (__u32)(__u16)~from + to;
}

static __always_inline __u32 mr_csum_change32(__u32 from, __u32 to)
{
	return mr_csum_change16((__u16)from, (__u16)to) + mr_csum_change16((__u16)(from >> 16), (__u16)(to >> 16));
}

/* A delta of nothing is 0 and not 0xffff, so that it leaves every checksum, valid or not, exactly as it was. */
static __always_inline __u16 mr_csum_delta(__u32 sum)
{
	__u16 delta = mr_csum_fold(sum);
	return delta == 0xffff ? 0 : delta;
}

static __always_inline __u16 mr_csum_apply(__u16 csum, __u32 delta)
{
	return (__u16)~mr_csum_fold((__u16)~csum + delta);
}

/* ---- deltas ----------------------------------------------------------------------------------------------------- */

/*
 * Fills l3_delta and l4_delta of a rewrite whose addresses and ports are set (unchanged ones repeated), for packets with this key.
 * ICMP has no pseudo header: there only the identifier counts.
 */
static __always_inline void mr_rewrite_delta4(const struct mr_key4 *key, struct mr_rewrite4 *rw)
{
	__u32 addr = mr_csum_change32(key->saddr_be, rw->saddr_be) + mr_csum_change32(key->daddr_be, rw->daddr_be);
	__u32 port = mr_csum_change16(key->sport_be, rw->sport_be) + mr_csum_change16(key->dport_be, rw->dport_be);
	rw->l3_delta = mr_csum_delta(addr);
	rw->l4_delta = mr_csum_delta(key->proto == MR_IP_ICMP ? port : addr + port);
}

static __always_inline void mr_rewrite_delta6(const struct mr_key6 *key, struct mr_rewrite6 *rw)
{
	__u32 sum = mr_csum_change16(key->sport_be, rw->sport_be) + mr_csum_change16(key->dport_be, rw->dport_be);
	for (int i = 0; i < 4; i++)
		sum += mr_csum_change32(key->saddr_be[i], rw->saddr_be[i]) +
			mr_csum_change32(key->daddr_be[i], rw->daddr_be[i]);
	rw->l4_delta = mr_csum_delta(sum);
	rw->reserved = 0;
}

/* ---- addresses, ports, TTL -------------------------------------------------------------------------------------- */

/* Where the transport is to be changed.  Two pointers, each found readable by itself: the verifier does not remember that the protocol
 * of the check is the protocol of the store. */
struct mr_rewrite_l4 {
	__u8 *head; /* NULL: it stays as it is */
	__u8 *csum;
};

/* What may go wrong, before anything is written. */
static __always_inline int mr_rewrite_check(const void *data, const void *data_end, const struct mr_parsed *p,
	__be16 sport_be, __be16 dport_be, __u16 flow_flags, struct mr_rewrite_l4 *l4)
{
	__u32 off = p->l4_off & 0x7fff;
	l4->head = l4->csum = (void *)0;
	if (p->error != MR_PARSE_OK)
		return MR_REWRITE_KEY;
	/* Errors, neighbour discovery ...: routed like anything, but nothing in them is to be translated by a key they have not. */
	if (flow_flags & (MR_FLOW_SNAT | MR_FLOW_DNAT) && p->flags & MR_PKT_ICMP && !(p->flags & MR_PKT_ICMP_QUERY))
		return MR_REWRITE_KEY;
	if (!(flow_flags & MR_FLOW_NO_TTL) && p->ttl <= 1)
		return MR_REWRITE_TTL;
	if (!(flow_flags & (MR_FLOW_SNAT | MR_FLOW_DNAT)) || p->flags & MR_PKT_FRAG_LATER)
		return MR_REWRITE_OK;
	if (p->proto == MR_IP_TCP) {
		l4->head = mr_parse_at(data, data_end, off, 20);
		if (!l4->head)
			return MR_REWRITE_SHORT;
		l4->csum = l4->head + 16;
	} else if (p->proto == MR_IP_UDP) {
		l4->head = mr_parse_at(data, data_end, off, 8);
		if (!l4->head)
			return MR_REWRITE_SHORT;
		l4->csum = l4->head + 6;
	} else if (p->flags & MR_PKT_ICMP) {
		l4->head = mr_parse_at(data, data_end, off, 8);
		if (!l4->head)
			return MR_REWRITE_SHORT;
		l4->csum = l4->head + 2;
	} else if (sport_be != p->sport_be || dport_be != p->dport_be) {
		return MR_REWRITE_PORTS;
	}
	return MR_REWRITE_OK;
}

/* TCP, UDP, ICMP and ICMPv6 queries, where mr_rewrite_check() found them. */
static __always_inline void mr_rewrite_transport(
	const struct mr_rewrite_l4 *l4, const struct mr_parsed *p, __be16 sport_be, __be16 dport_be, __u16 delta)
{
	__u16 csum = mr_load16(l4->csum);
	if (p->flags & MR_PKT_ICMP) {
		/* The identifier is the end of the key that is not the type (flow.h): sport of a request, dport of a reply. */
		int request = p->flags & MR_PKT_IP4 ? p->icmp_type == 8 || p->icmp_type & 1 : p->icmp_type == 128;
		mr_store16(l4->head + 4, request ? sport_be : dport_be);
	} else {
		mr_store16(l4->head, sport_be);
		mr_store16(l4->head + 2, dport_be);
	}
	if (p->proto == MR_IP_UDP) {
		if (!csum) /* none was sent (RFC 768; IPv6: RFC 6935) */
			return;
		csum = mr_csum_apply(csum, delta);
		mr_store16(l4->csum, csum ? csum : 0xffff);
		return;
	}
	mr_store16(l4->csum, mr_csum_apply(csum, delta));
}

/*
 * Applies the rewrite (with MR_FLOW_SNAT or MR_FLOW_DNAT) and takes one from the TTL (without MR_FLOW_NO_TTL).
 * p is the parse of these bytes, and its key (of a later fragment: addresses and protocol) is the one the rewrite was made for.
 */
static __always_inline int mr_rewrite_apply4(
	void *data, void *data_end, const struct mr_parsed *p, const struct mr_rewrite4 *rw, __u16 flow_flags)
{
	__u8 *ip = mr_parse_ip_header(data, data_end, p, 20);
	struct mr_rewrite_l4 l4;
	int err = mr_rewrite_check(data, data_end, p, rw->sport_be, rw->dport_be, flow_flags, &l4);
	if (err)
		return err;
	if (!ip || !(p->flags & MR_PKT_IP4))
		return MR_REWRITE_SHORT;
	__u32 delta = 0;
	if (flow_flags & (MR_FLOW_SNAT | MR_FLOW_DNAT)) {
		mr_store32(ip + 12, rw->saddr_be);
		mr_store32(ip + 16, rw->daddr_be);
		delta = rw->l3_delta;
		if (l4.head)
			mr_rewrite_transport(&l4, p, rw->sport_be, rw->dport_be, rw->l4_delta);
	}
	if (!(flow_flags & MR_FLOW_NO_TTL)) {
		/* with the protocol behind it: a byte that was just stored cannot be loaded as half of two at once */
		__u16 from = mr_load16(ip + 8), to = (__u16)(from - mr_be16(0x0100));
		mr_store16(ip + 8, to);
		delta += mr_csum_change16(from, to);
	}
	mr_store16(ip + 10, mr_csum_apply(mr_load16(ip + 10), delta));
	return MR_REWRITE_OK;
}

static __always_inline int mr_rewrite_apply6(
	void *data, void *data_end, const struct mr_parsed *p, const struct mr_rewrite6 *rw, __u16 flow_flags)
{
	__u8 *ip = mr_parse_ip_header(data, data_end, p, 40);
	struct mr_rewrite_l4 l4;
	int err = mr_rewrite_check(data, data_end, p, rw->sport_be, rw->dport_be, flow_flags, &l4);
	if (err)
		return err;
	if (!ip || !(p->flags & MR_PKT_IP6))
		return MR_REWRITE_SHORT;
	if (flow_flags & (MR_FLOW_SNAT | MR_FLOW_DNAT)) {
		for (int i = 0; i < 4; i++) {
			mr_store32(ip + 8 + 4 * i, rw->saddr_be[i]);
			mr_store32(ip + 24 + 4 * i, rw->daddr_be[i]);
		}
		if (l4.head)
			mr_rewrite_transport(&l4, p, rw->sport_be, rw->dport_be, rw->l4_delta);
	}
	if (!(flow_flags & MR_FLOW_NO_TTL))
		ip[7]--;
	return MR_REWRITE_OK;
}

/* ---- the front of the frame ------------------------------------------------------------------------------------- */

/* What the new front is made of; taken from the frame before it moves. */
struct mr_rewrite_front {
	__u16 mac[6];      /* destination, source, as they lie */
	__u16 tag[2][2];   /* TPID, TCI, network order, outer first */
	__be16 ethertype;  /* of what follows: the outer packet when encapsulated */
	__u16 l2_bytes;    /* of the new Ethernet header with tags */
	__u16 outer_bytes; /* of the encapsulation; 0 = none */
	__s16 grow_bytes;  /* the front moves down by this many bytes; negative = up; 0 = stays */
	__u16 changes;     /* 0: leave the frame alone */
};

static __always_inline __u32 mr_rewrite_outer_bytes(const struct mr_nexthop *nh)
{
	switch (nh->encap) {
	case MR_ENCAP_IP4:
		return 20;
	case MR_ENCAP_IP6:
		return 40;
	case MR_ENCAP_GUE4:
		return 28;
	case MR_ENCAP_GUE6:
		return 48;
	default:
		return 0;
	}
}

/* Tags a frame leaves with.  Routed frames get a new Ethernet header, so what tags they came with is gone; others keep theirs,
 * less the outer one with MR_NH_POP_VLAN.  MR_NH_PUSH_VLAN puts one in front. */
static __always_inline __u32 mr_rewrite_tags_kept(const struct mr_nexthop *nh, const struct mr_parsed *p)
{
	if (nh->kind == MR_NH_ROUTED)
		return 0;
	return p->vlan_cnt - (nh->flags & MR_NH_POP_VLAN && p->vlan_cnt ? 1 : 0);
}

/* Bytes by which the front of the frame grows (negative: shrinks) on its way to this next hop. */
static __always_inline int mr_rewrite_headroom(const struct mr_nexthop *nh, const struct mr_parsed *p)
{
	int tags = (int)mr_rewrite_tags_kept(nh, p) + (nh->flags & MR_NH_PUSH_VLAN ? 1 : 0);
	return (int)mr_rewrite_outer_bytes(nh) + 4 * (tags - (int)p->vlan_cnt);
}

/* Collects the tags the frame leaves with, outer first. */
static __always_inline void mr_rewrite_tags(
	const __u8 *h, const struct mr_nexthop *nh, const struct mr_parsed *p, struct mr_rewrite_front *f)
{
	__u32 kept = mr_rewrite_tags_kept(nh, p);
	/* The inner tag of two stays behind in second place, or alone; an outer one that stays is read from its own. */
	__u16 in0 = 0, in1 = 0, out0 = 0, out1 = 0;
	if (p->vlan_cnt) {
		out0 = mr_load16(h + 12);
		out1 = mr_be16(p->vlan_tci[0]);
	}
	if (p->vlan_cnt == 2) {
		in0 = mr_load16(h + 16);
		in1 = mr_be16(p->vlan_tci[1]);
	}
	if (kept == 1 && p->vlan_cnt == 2) {
		out0 = in0;
		out1 = in1;
	}
	if (nh->flags & MR_NH_PUSH_VLAN) {
		f->tag[1][0] = out0;
		f->tag[1][1] = out1;
		f->tag[0][0] = kept ? mr_be16(MR_ETH_QINQ) : mr_be16(MR_ETH_VLAN);
		f->tag[0][1] = mr_be16(nh->vlan_tci);
		return;
	}
	f->tag[0][0] = out0;
	f->tag[0][1] = out1;
	f->tag[1][0] = in0;
	f->tag[1][1] = in1;
}

static __always_inline int mr_rewrite_check_front(
	const struct mr_nexthop *nh, const struct mr_parsed *p, const struct mr_rewrite_front *f)
{
	if (nh->kind == MR_NH_NONE)
		return MR_REWRITE_NEXTHOP;
	if (f->l2_bytes > MR_ETH_HLEN + 8)
		return MR_REWRITE_VLAN;
	if (nh->kind == MR_NH_ROUTED || f->outer_bytes) {
		if (!(p->flags & (MR_PKT_IP4 | MR_PKT_IP6)) || !p->l3_len)
			return MR_REWRITE_NOT_IP;
		if (p->l3_len + (__u32)f->outer_bytes > 0xffff)
			return MR_REWRITE_SIZE;
	}
	return MR_REWRITE_OK;
}

/*
 * Takes from the frame what its new front needs.  After success the caller moves the front by f->grow_bytes and calls
 * mr_rewrite_finish() on the moved frame; nothing has been written yet.
 */
static __always_inline int mr_rewrite_begin(const void *data, const void *data_end, const struct mr_parsed *p,
	const struct mr_nexthop *nh, struct mr_rewrite_front *f)
{
	__builtin_memset(f, 0, sizeof(*f));
	__u32 push = nh->flags & MR_NH_PUSH_VLAN ? 1 : 0;
	f->outer_bytes = mr_rewrite_outer_bytes(nh);
	f->l2_bytes = MR_ETH_HLEN + 4 * (mr_rewrite_tags_kept(nh, p) + push);
	f->grow_bytes = mr_rewrite_headroom(nh, p);
	f->changes = nh->kind == MR_NH_ROUTED || nh->kind == MR_NH_BACK || f->grow_bytes || push || f->outer_bytes;
	int err = mr_rewrite_check_front(nh, p, f);
	if (err || !f->changes)
		return err;
	const __u8 *h = mr_parse_at(data, data_end, 0, MR_ETH_HLEN);
	if (!h)
		return MR_REWRITE_SHORT;
	/* Always the longest header when there are tags: two of them are 22 bytes, one 18. */
	if (p->vlan_cnt == 2 ? !mr_parse_at(data, data_end, 0, MR_ETH_HLEN + 8)
			     : p->vlan_cnt && !mr_parse_at(data, data_end, 0, MR_ETH_HLEN + 4))
		return MR_REWRITE_SHORT;
	for (int i = 0; i < 6; i++)
		f->mac[i] = mr_load16(h + 2 * i);
	if (nh->kind == MR_NH_BACK) {
		for (int i = 0; i < 3; i++) {
			__u16 w = f->mac[i];
			f->mac[i] = f->mac[i + 3];
			f->mac[i + 3] = w;
		}
	} else if (nh->kind == MR_NH_ROUTED) {
		__builtin_memcpy(&f->mac[0], nh->dmac, 6);
		__builtin_memcpy(&f->mac[3], nh->smac, 6);
	}
	if (p->vlan_cnt == 2) {
		const __u8 *t = mr_parse_at(data, data_end, 0, MR_ETH_HLEN + 8);
		if (!t)
			return MR_REWRITE_SHORT;
		mr_rewrite_tags(t, nh, p, f);
	} else {
		mr_rewrite_tags(h, nh, p, f);
	}
	f->ethertype = mr_be16(p->ethertype);
	if (nh->encap == MR_ENCAP_IP4 || nh->encap == MR_ENCAP_GUE4)
		f->ethertype = mr_be16(MR_ETH_IP4);
	else if (nh->encap == MR_ENCAP_IP6 || nh->encap == MR_ENCAP_GUE6)
		f->ethertype = mr_be16(MR_ETH_IP6);
	return MR_REWRITE_OK;
}

/* ---- encapsulation ---------------------------------------------------------------------------------------------- */

/* Outer IPv4 (RFC 2003): DF as inside (IPv6 inside is never to be fragmented on the way: set).  The identification is only needed
 * without DF (RFC 6864); the inner one, told apart by flow and, of fragments, by offset, is as unique as the sender made it. */
static __always_inline void mr_rewrite_outer4(
	__u8 *h, const struct mr_nexthop *nh, const struct mr_parsed *p, __u64 hash, __u32 len, __u8 proto)
{
	int df = p->flags & (MR_PKT_DF | MR_PKT_IP6);
	__u16 id = df ? 0 : (__u16)(p->frag_id_be ^ p->frag_off ^ hash);
	__u8 ttl = nh->outer_ttl ? nh->outer_ttl : 64;
	mr_store16(h, mr_be16(0x4500 | p->tos)); /* RFC 6040 normal mode: DSCP and ECN as inside */
	mr_store16(h + 2, mr_be16(len));
	mr_store16(h + 4, id);
	mr_store16(h + 6, df ? mr_be16(0x4000) : 0);
	mr_store16(h + 8, mr_be16(ttl << 8 | proto));
	mr_store16(h + 10, 0);
	mr_store32(h + 12, nh->outer_saddr_be[0]);
	mr_store32(h + 16, nh->outer_daddr_be[0]);
	__u32 sum = 0;
	for (int i = 0; i < 20; i += 2)
		sum += mr_load16(h + i);
	mr_store16(h + 10, (__u16)~mr_csum_fold(sum));
}

/* Outer IPv6 (RFC 2473); the flow label carries the flow for equal-cost paths (RFC 6438). */
static __always_inline void mr_rewrite_outer6(
	__u8 *h, const struct mr_nexthop *nh, const struct mr_parsed *p, __u64 hash, __u32 len, __u8 proto)
{
	__u8 ttl = nh->outer_ttl ? nh->outer_ttl : 64;
	mr_store32(h, mr_be32(0x60000000u | (__u32)p->tos << 20 | ((__u32)hash & 0xfffff)));
	mr_store16(h + 4, mr_be16(len - 40));
	mr_store16(h + 6, mr_be16(proto << 8 | ttl));
	for (int i = 0; i < 4; i++) {
		mr_store32(h + 8 + 4 * i, nh->outer_saddr_be[i]);
		mr_store32(h + 24 + 4 * i, nh->outer_daddr_be[i]);
	}
}

/* UDP before GUE variant 1: the inner version nibble is the GUE header.  Source port per flow from the dynamic range; no checksum
 * (RFC 6935 allows that over IPv6 for tunnels). */
static __always_inline void mr_rewrite_outer_udp(__u8 *h, const struct mr_nexthop *nh, __u64 hash, __u32 len)
{
	mr_store16(h, mr_be16(0xc000 | ((__u32)(hash >> 32) & 0x3fff)));
	mr_store16(h + 2, mr_be16(nh->outer_dport));
	mr_store16(h + 4, mr_be16(len));
	mr_store16(h + 6, 0);
}

static __always_inline int mr_rewrite_encap(
	void *data, void *data_end, const struct mr_parsed *p, const struct mr_nexthop *nh, __u64 hash, __u32 l2_bytes)
{
	__u8 inner = p->flags & MR_PKT_IP4 ? MR_IP_IP4 : MR_IP_IP6;
	__u32 off = l2_bytes, len = p->l3_len;
	__u8 *h;
	MR_OPAQUE(off); /* clang knows that it is small and drops the mask; the verifier of Linux 6.1 does not */
	off &= 31;
	switch (nh->encap) {
	case MR_ENCAP_IP4:
		h = mr_parse_at(data, data_end, off, 20);
		if (!h)
			return MR_REWRITE_SHORT;
		mr_rewrite_outer4(h, nh, p, hash, len + 20, inner);
		return MR_REWRITE_OK;
	case MR_ENCAP_IP6:
		h = mr_parse_at(data, data_end, off, 40);
		if (!h)
			return MR_REWRITE_SHORT;
		mr_rewrite_outer6(h, nh, p, hash, len + 40, inner);
		return MR_REWRITE_OK;
	case MR_ENCAP_GUE4:
		h = mr_parse_at(data, data_end, off, 28);
		if (!h)
			return MR_REWRITE_SHORT;
		mr_rewrite_outer4(h, nh, p, hash, len + 28, MR_IP_UDP);
		mr_rewrite_outer_udp(h + 20, nh, hash, len + 8);
		return MR_REWRITE_OK;
	case MR_ENCAP_GUE6:
		h = mr_parse_at(data, data_end, off, 48);
		if (!h)
			return MR_REWRITE_SHORT;
		mr_rewrite_outer6(h, nh, p, hash, len + 48, MR_IP_UDP);
		mr_rewrite_outer_udp(h + 40, nh, hash, len + 8);
		return MR_REWRITE_OK;
	default:
		return MR_REWRITE_OK;
	}
}

/*
 * Writes the new front.  data..data_end is the frame after its front has moved by f->grow_bytes; p is the parse of the frame as it
 * was before; hash is the flow's (any value that is the same for all packets of a flow).
 */
static __always_inline int mr_rewrite_finish(void *data, void *data_end, const struct mr_parsed *p,
	const struct mr_nexthop *nh, const struct mr_rewrite_front *f, __u64 hash)
{
	if (!f->changes)
		return MR_REWRITE_OK;
	__u8 *h = mr_parse_at(data, data_end, 0, MR_ETH_HLEN);
	if (!h)
		return MR_REWRITE_SHORT;
	for (int i = 0; i < 6; i++)
		mr_store16(h + 2 * i, f->mac[i]);
	__u32 off = 12;
	if (f->l2_bytes > MR_ETH_HLEN) {
		h = mr_parse_at(data, data_end, 0, MR_ETH_HLEN + 4);
		if (!h)
			return MR_REWRITE_SHORT;
		mr_store16(h + 12, f->tag[0][0]);
		mr_store16(h + 14, f->tag[0][1]);
		off = 16;
	}
	if (f->l2_bytes > MR_ETH_HLEN + 4) {
		h = mr_parse_at(data, data_end, 0, MR_ETH_HLEN + 8);
		if (!h)
			return MR_REWRITE_SHORT;
		mr_store16(h + 16, f->tag[1][0]);
		mr_store16(h + 18, f->tag[1][1]);
		off = 20;
	}
	h = mr_parse_at(data, data_end, off, 2);
	if (!h)
		return MR_REWRITE_SHORT;
	mr_store16(h, f->ethertype);
	return mr_rewrite_encap(data, data_end, p, nh, hash, f->l2_bytes);
}

#if !MR_BPF
/*
 * Begin, move and finish in memory.  *frame points at *len bytes with at least headroom_bytes writable before them; both are
 * changed on success and untouched (the bytes too) on failure.
 */
static inline int mr_rewrite_front(__u8 **frame, __u32 *len, __u32 headroom_bytes, const struct mr_parsed *p,
	const struct mr_nexthop *nh, __u64 hash)
{
	struct mr_rewrite_front f;
	int err = mr_rewrite_begin(*frame, *frame + *len, p, nh, &f);
	if (err)
		return err;
	if (f.grow_bytes > 0 && headroom_bytes < (__u32)f.grow_bytes)
		return MR_REWRITE_SHORT;
	__u8 *moved = *frame - f.grow_bytes;
	__u32 moved_len = (__u32)((int)*len + f.grow_bytes);
	err = mr_rewrite_finish(moved, moved + moved_len, p, nh, &f, hash);
	if (err)
		return err;
	*frame = moved;
	*len = moved_len;
	return MR_REWRITE_OK;
}
#endif

#endif
