/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * parse.h - where the headers of a frame are, in one bounded pass.
 *
 * Ethernet, up to two VLAN tags, IPv4 with options, IPv6 with up to MR_PARSE_EXT_MAX extension headers,
 * fragments, TCP, UDP, SCTP (ports), ICMP, ICMPv6, GRE, ESP.  The same lines run in XDP and in user space.
 *
 * Parsing never fails silently: a frame that is not what its headers claim gets an enum mr_parse_error,
 * which is the reason it is dropped under (or, where a pipeline takes every frame, reported with).
 * What was understood before the error is filled in, and the flags say which of it: steering decides with that.
 */
#ifndef MR_KERN_PARSE_H
#define MR_KERN_PARSE_H

#include "abi.h"
#include "flow.h"

#define MR_PARSE_EXT_MAX 8 /* IPv6 extension headers followed before giving up */

enum mr_parse_error {
	MR_PARSE_OK = 0,
	MR_PARSE_NOT_IP,     /* a whole Ethernet frame that carries neither IPv4 nor IPv6; l3_off is valid */
	MR_PARSE_SHORT_ETH,  /* shorter than its Ethernet and VLAN headers */
	MR_PARSE_VLAN_DEPTH, /* more than two VLAN tags */
	MR_PARSE_SHORT_IP,   /* IP header cut off */
	MR_PARSE_BAD_IP,     /* version, header length or total length is impossible */
	MR_PARSE_TRUNCATED,  /* IP says more bytes than the frame has */
	MR_PARSE_EXT_CHAIN,  /* IPv6 extension headers cut off, malformed or more than MR_PARSE_EXT_MAX */
	MR_PARSE_SHORT_L4,   /* transport header cut off, or a first fragment too short to hold it */
	MR_PARSE_BAD_L4,     /* TCP data offset or UDP length is impossible */
	MR_PARSE_ERROR_CNT
};

/* mr_parsed.flags */
#define MR_PKT_IP4        (1u << 0)  /* the fixed IPv4 header is there: addresses, proto, ttl, tos */
#define MR_PKT_IP6        (1u << 1)  /* the fixed IPv6 header is there: addresses, ttl, tos */
#define MR_PKT_FRAG       (1u << 2)  /* any fragment (MF set or offset not 0; an IPv6 atomic fragment is none) */
#define MR_PKT_FRAG_LATER (1u << 3)  /* offset not 0: no transport header, ports are 0 */
#define MR_PKT_OPTIONS    (1u << 4)  /* IPv4 options, or IPv6 hop-by-hop / routing / destination options */
#define MR_PKT_PORTS      (1u << 5)  /* sport_be and dport_be come from a transport header */
#define MR_PKT_ICMP_ERROR (1u << 6)  /* an ICMP or ICMPv6 error message: belongs to the flow it quotes */
#define MR_PKT_ICMP_QUERY (1u << 7)  /* an ICMP query or its reply; icmp_id_be is valid */
#define MR_PKT_DF         (1u << 8)  /* IPv4 don't fragment */
#define MR_PKT_PROTO      (1u << 9)  /* proto and l4_off are known (IPv6: the extension headers were all followed) */
#define MR_PKT_ICMP       (1u << 10) /* icmp_type and icmp_code are valid (ICMP over IPv4, ICMPv6 over IPv6) */
/* Of a later fragment: what follows from the transport header was filled in from the first one.  mr_parse() never says so; user space
 * does (core/fragment.h). */
#define MR_PKT_FRAG_KNOWN (1u << 11)

struct mr_parsed {
	__u16 flags;       /* MR_PKT_* */
	__u16 ethertype;   /* innermost, host order (after VLAN tags) */
	__u16 vlan_tci[2]; /* outer first, host order */
	__u8 vlan_cnt;
	__u8 proto;      /* IPPROTO_* of the transport (after extension headers) */
	__u8 ttl;        /* TTL or hop limit */
	__u8 tos;        /* TOS or traffic class */
	__u16 l3_off;    /* bytes from frame start to the IP header (or to the payload of a non-IP frame) */
	__u16 l4_off;    /* ... to the transport header (of a later fragment: to its data) */
	__u16 l3_len;    /* whole IP packet, bytes (padding after it is not part of it) */
	__be16 sport_be; /* ports as they go into the flow key: for ICMP queries as flow.h says */
	__be16 dport_be;
	__u8 tcp_flags; /* byte 13 of the TCP header */
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 error; /* enum mr_parse_error, what mr_parse() returned */
	__be16 icmp_id_be;
	__u16 frag_off;    /* fragment offset, host order, units of 8 bytes */
	__be32 frag_id_be; /* IPv4 identification or IPv6 fragment identification, network order */
};

_Static_assert(sizeof(struct mr_parsed) == 36, "parsed packet");

#define MR_ETH_HLEN   14
#define MR_L3_OFF_MAX 22 /* Ethernet and two tags; fits the mask 31 the verifier needs */

enum {
	MR_ETH_IP4 = 0x0800,
	MR_ETH_IP6 = 0x86dd,
	MR_ETH_VLAN = 0x8100,
	MR_ETH_QINQ = 0x88a8,
	MR_IP_HOPOPTS = 0,
	MR_IP_ICMP = 1,
	MR_IP_IP4 = 4,
	MR_IP_TCP = 6,
	MR_IP_UDP = 17,
	MR_IP_IP6 = 41,
	MR_IP_ROUTING = 43,
	MR_IP_FRAGMENT = 44,
	MR_IP_GRE = 47,
	MR_IP_ESP = 50,
	MR_IP_ICMP6 = 58,
	MR_IP_DSTOPTS = 60,
	MR_IP_SCTP = 132,
};

/* ---- access: frames are not aligned; BPF loads words as they lie, the host by memcpy ---------------------------- */

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define mr_be16(x) ((__u16)__builtin_bswap16((__u16)(x)))
#define mr_be32(x) ((__u32)__builtin_bswap32((__u32)(x)))
#else
#define mr_be16(x) ((__u16)(x))
#define mr_be32(x) ((__u32)(x))
#endif

#if MR_BPF
/* Keeps clang from re-associating pointer and offset, after which the verifier no longer sees one checked pointer. */
#define MR_OPAQUE(x)     asm volatile("" : "+r"(x))
#define mr_load16(p)     (*(const __u16 *)(p))
#define mr_load32(p)     (*(const __u32 *)(p))
#define mr_store16(p, v) ((void)(*(__u16 *)(p) = (v)))
#define mr_store32(p, v) ((void)(*(__u32 *)(p) = (v)))
#else
#define MR_OPAQUE(x) ((void)0)
static __always_inline __u16 mr_load16(const void *p)
{
	__u16 v;
	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}
static __always_inline __u32 mr_load32(const void *p)
{
	__u32 v;
	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}
static __always_inline void mr_store16(void *p, __u16 v)
{
	__builtin_memcpy(p, &v, sizeof(v));
}
static __always_inline void mr_store32(void *p, __u32 v)
{
	__builtin_memcpy(p, &v, sizeof(v));
}
#endif

/* `bytes` bytes at `off`, or NULL when the frame ends before.  off < 0x8000 for the verifier's sake. */
static __always_inline void *mr_parse_at(const void *data, const void *data_end, __u32 off, __u32 bytes)
{
#if MR_BPF
	const char *p = (const char *)data + off;
	MR_OPAQUE(p);
	if (p + bytes > (const char *)data_end)
		return (void *)0;
	return (void *)p;
#else
	__u64 have = (__u64)((const char *)data_end - (const char *)data);
	if ((__u64)off + bytes > have)
		return NULL;
	return (char *)data + off;
#endif
}

static __always_inline __u32 mr_parse_frame_len(const void *data, const void *data_end)
{
	return (__u32)((const char *)data_end - (const char *)data);
}

/* ---- transport ------------------------------------------------------------------------------------------------- */

/* RFC 792 and 4443 queries as ports: see struct mr_key4. */
static __always_inline void mr_parse_query(struct mr_parsed *o, __be16 id_be, __u8 request, int reply)
{
	__be16 type_be = mr_be16(request);
	o->flags |= MR_PKT_ICMP_QUERY;
	o->icmp_id_be = id_be;
	o->sport_be = reply ? type_be : id_be;
	o->dport_be = reply ? id_be : type_be;
}

static __always_inline int mr_parse_icmp(const void *data, const void *data_end, __u32 l4_len, struct mr_parsed *o)
{
	const __u8 *h = l4_len < 8 ? (void *)0 : mr_parse_at(data, data_end, o->l4_off & 0x7fff, 8);
	if (!h)
		return MR_PARSE_SHORT_L4;
	__u8 type = h[0];
	__be16 id_be = mr_load16(h + 4);
	o->icmp_type = type;
	o->icmp_code = h[1];
	o->flags |= MR_PKT_ICMP;
	if (o->flags & MR_PKT_IP6) {
		if (type < 128) /* RFC 4443 section 2.1: the high bit tells errors from information */
			o->flags |= MR_PKT_ICMP_ERROR;
		else if (type == 128 || type == 129)
			mr_parse_query(o, id_be, 128, type == 129);
		return MR_PARSE_OK;
	}
	switch (type) {
	case 3:  /* unreachable */
	case 4:  /* source quench */
	case 5:  /* redirect */
	case 11: /* time exceeded */
	case 12: /* parameter problem */
		o->flags |= MR_PKT_ICMP_ERROR;
		break;
	case 8: /* echo */
	case 0:
		mr_parse_query(o, id_be, 8, type == 0);
		break;
	case 13: /* timestamp */
	case 15: /* information */
	case 17: /* address mask */
		mr_parse_query(o, id_be, type, 0);
		break;
	case 14:
	case 16:
	case 18:
		mr_parse_query(o, id_be, type - 1, 1);
		break;
	default:
		break;
	}
	return MR_PARSE_OK;
}

/* TCP, UDP, SCTP.  The ports are taken as soon as they are there, so that a header cut short after them is still steered
 * like its flow (a tiny first fragment must not slip past a port match). */
static __always_inline int mr_parse_ports(const void *data, const void *data_end, __u32 l4_len, struct mr_parsed *o)
{
	__u32 off = o->l4_off & 0x7fff;
	const __u8 *h = l4_len < 4 ? (void *)0 : mr_parse_at(data, data_end, off, 4);
	if (!h)
		return MR_PARSE_SHORT_L4;
	o->sport_be = mr_load16(h);
	o->dport_be = mr_load16(h + 2);
	o->flags |= MR_PKT_PORTS;
	if (o->proto == MR_IP_TCP) {
		h = l4_len < 20 ? (void *)0 : mr_parse_at(data, data_end, off, 20);
		if (!h)
			return MR_PARSE_SHORT_L4;
		__u32 hlen = (h[12] >> 4) * 4u;
		o->tcp_flags = h[13];
		if (hlen < 20)
			return MR_PARSE_BAD_L4;
		if (hlen > l4_len)
			return o->flags & MR_PKT_FRAG ? MR_PARSE_SHORT_L4 : MR_PARSE_BAD_L4;
		return MR_PARSE_OK;
	}
	if (o->proto == MR_IP_UDP) {
		h = l4_len < 8 ? (void *)0 : mr_parse_at(data, data_end, off, 8);
		if (!h)
			return MR_PARSE_SHORT_L4;
		__u32 len = mr_be16(mr_load16(h + 4));
		if (len < 8 || (!(o->flags & MR_PKT_FRAG) && len > l4_len))
			return MR_PARSE_BAD_L4;
		return MR_PARSE_OK;
	}
	return l4_len < 12 ? MR_PARSE_SHORT_L4 : MR_PARSE_OK;
}

/* The transport header at o->l4_off.  The whole IP packet lies in the frame: the caller has checked. */
static __always_inline int mr_parse_l4(const void *data, const void *data_end, struct mr_parsed *o)
{
	__u32 l4_len = (__u32)o->l3_off + o->l3_len - o->l4_off;
	if (o->flags & MR_PKT_FRAG_LATER)
		return MR_PARSE_OK;
	switch (o->proto) {
	case MR_IP_TCP:
	case MR_IP_UDP:
	case MR_IP_SCTP:
		return mr_parse_ports(data, data_end, l4_len, o);
	case MR_IP_ICMP:
		return o->flags & MR_PKT_IP4 ? mr_parse_icmp(data, data_end, l4_len, o) : MR_PARSE_OK;
	case MR_IP_ICMP6:
		return o->flags & MR_PKT_IP6 ? mr_parse_icmp(data, data_end, l4_len, o) : MR_PARSE_OK;
	case MR_IP_GRE:
		return l4_len < 4 ? MR_PARSE_SHORT_L4 : MR_PARSE_OK;
	case MR_IP_ESP:
		return l4_len < 8 ? MR_PARSE_SHORT_L4 : MR_PARSE_OK;
	default:
		return MR_PARSE_OK;
	}
}

/* ---- network --------------------------------------------------------------------------------------------------- */

static __always_inline int mr_parse_ip4(const void *data, const void *data_end, struct mr_parsed *o)
{
	const __u8 *h = mr_parse_at(data, data_end, o->l3_off & 31, 20);
	if (!h)
		return MR_PARSE_SHORT_IP;
	if (h[0] >> 4 != 4)
		return MR_PARSE_BAD_IP;
	__u32 hlen = (h[0] & 15) * 4u;
	__u32 len = mr_be16(mr_load16(h + 2));
	__u32 frag = mr_be16(mr_load16(h + 6));
	o->flags |= MR_PKT_IP4;
	o->tos = h[1];
	o->ttl = h[8];
	if (frag & 0x4000)
		o->flags |= MR_PKT_DF;
	if (frag & 0x3fff) {
		o->flags |= MR_PKT_FRAG;
		o->frag_off = frag & 0x1fff;
		if (o->frag_off)
			o->flags |= MR_PKT_FRAG_LATER;
	}
	o->frag_id_be = mr_load16(h + 4);
	if (hlen < 20 || len < hlen)
		return MR_PARSE_BAD_IP;
	o->l3_len = len;
	o->proto = h[9];
	o->l4_off = o->l3_off + hlen;
	o->flags |= MR_PKT_PROTO;
	if (hlen > 20)
		o->flags |= MR_PKT_OPTIONS;
	if (o->l3_off + len > mr_parse_frame_len(data, data_end))
		return MR_PARSE_TRUNCATED;
	return mr_parse_l4(data, data_end, o);
}

/*
 * RFC 8200 section 4.1.  AH, mobility, HIP and shim6 count as transports: what they carry is not ours to look into.
 * A later fragment ends the walk; its proto is what the fragment header names.
 */
static __always_inline int mr_parse_ext(const void *data, const void *data_end, __u8 next, struct mr_parsed *o)
{
	__u32 off = o->l3_off + 40;
	__u32 end = o->l3_off + o->l3_len;
	int seen = 0; /* a fragment header; a second one, even behind an atomic one, nobody sends in earnest */
	/* Unrolled for BPF: Linux 6.1 refuses a loop whose way back is not a jump ("back-edge"), and clang may lay it out so. */
#if MR_BPF
#pragma clang loop unroll(full)
#endif
	for (int i = 0; i <= MR_PARSE_EXT_MAX; i++) {
		if (next != MR_IP_HOPOPTS && next != MR_IP_ROUTING && next != MR_IP_FRAGMENT && next != MR_IP_DSTOPTS) {
			o->l4_off = off;
			o->proto = next;
			o->flags |= MR_PKT_PROTO;
			return MR_PARSE_OK;
		}
		if (i == MR_PARSE_EXT_MAX || (next == MR_IP_HOPOPTS && i > 0))
			return MR_PARSE_EXT_CHAIN;
		const __u8 *h = off + 8 > end ? (void *)0 : mr_parse_at(data, data_end, off & 0x7fff, 8);
		if (!h)
			return MR_PARSE_EXT_CHAIN;
		if (next != MR_IP_FRAGMENT) {
			o->flags |= MR_PKT_OPTIONS;
			off += (h[1] + 1u) * 8;
			next = h[0];
			if (off > end)
				return MR_PARSE_EXT_CHAIN;
			continue;
		}
		__u32 frag = mr_be16(mr_load16(h + 2));
		if (seen)
			return MR_PARSE_EXT_CHAIN;
		seen = 1;
		off += 8;
		next = h[0];
		if (frag & 0xfff9) { /* RFC 6946: offset 0 and no M is an atomic fragment, a whole packet */
			o->flags |= MR_PKT_FRAG;
			o->frag_off = frag >> 3;
			o->frag_id_be = mr_load32(h + 4);
		}
		if (frag >> 3) {
			o->flags |= MR_PKT_FRAG_LATER | MR_PKT_PROTO;
			o->l4_off = off;
			o->proto = next;
			return MR_PARSE_OK;
		}
	}
	return MR_PARSE_EXT_CHAIN;
}

static __always_inline int mr_parse_ip6(const void *data, const void *data_end, struct mr_parsed *o)
{
	const __u8 *h = mr_parse_at(data, data_end, o->l3_off & 31, 40);
	if (!h)
		return MR_PARSE_SHORT_IP;
	if (h[0] >> 4 != 6)
		return MR_PARSE_BAD_IP;
	__u32 len = mr_be16(mr_load16(h + 4)) + 40u;
	o->flags |= MR_PKT_IP6;
	o->tos = (__u8)(h[0] << 4 | h[1] >> 4);
	o->ttl = h[7];
	if (o->l3_off + len > mr_parse_frame_len(data, data_end))
		return MR_PARSE_TRUNCATED;
	if (len > 0xffff)
		return MR_PARSE_BAD_IP;
	o->l3_len = len;
	int err = mr_parse_ext(data, data_end, h[6], o);
	return err ? err : mr_parse_l4(data, data_end, o);
}

/* ---- the whole frame ------------------------------------------------------------------------------------------- */

static __always_inline int mr_parse_frame(const void *data, const void *data_end, struct mr_parsed *o)
{
	const __u8 *h = mr_parse_at(data, data_end, 0, MR_ETH_HLEN);
	if (!h)
		return MR_PARSE_SHORT_ETH;
	__u16 type = mr_be16(mr_load16(h + 12));
	__u32 off = MR_ETH_HLEN;
	for (int i = 0; i < 2; i++) {
		if (type != MR_ETH_VLAN && type != MR_ETH_QINQ)
			break;
		h = mr_parse_at(data, data_end, off, 4);
		if (!h) {
			o->ethertype = type;
			o->l3_off = off;
			return MR_PARSE_SHORT_ETH;
		}
		o->vlan_tci[i] = mr_be16(mr_load16(h));
		o->vlan_cnt = i + 1;
		type = mr_be16(mr_load16(h + 2));
		off += 4;
	}
	o->ethertype = type;
	o->l3_off = off;
	if (type == MR_ETH_IP4)
		return mr_parse_ip4(data, data_end, o);
	if (type == MR_ETH_IP6)
		return mr_parse_ip6(data, data_end, o);
	return type == MR_ETH_VLAN || type == MR_ETH_QINQ ? MR_PARSE_VLAN_DEPTH : MR_PARSE_NOT_IP;
}

/* Fills *out completely (what is not known is 0) and returns an enum mr_parse_error.  Reads only data..data_end. */
static __always_inline int mr_parse(const void *data, const void *data_end, struct mr_parsed *out)
{
	__builtin_memset(out, 0, sizeof(*out));
	int err = mr_parse_frame(data, data_end, out);
	out->error = (__u8)err;
	return err;
}

/* ---- session keys ---------------------------------------------------------------------------------------------- */

/*
 * Whether the packet itself names its session.  It does not when it is malformed or not IP, a fragment later than the first
 * (it has no ports, unless those of the first one were filled in), an ICMP error (it belongs to the flow it quotes), or ICMP that is no query (neighbour discovery ...).
 */
static __always_inline int mr_parse_has_key(const struct mr_parsed *p)
{
	if (p->error != MR_PARSE_OK || (p->flags & (MR_PKT_FRAG_LATER | MR_PKT_FRAG_KNOWN)) == MR_PKT_FRAG_LATER)
		return 0;
	return !(p->flags & MR_PKT_ICMP) || p->flags & MR_PKT_ICMP_QUERY;
}

/* The zone of a packet: its interface's, and with vlan_zones (vlan_mask 0xfff0) its outer VLAN id.  No tag and a priority tag
 * (IEEE 802.1Q: VLAN id 0) are the same.  Numbers: core/zone.h. */
static __always_inline __u16 mr_parse_zone(const struct mr_parsed *p, __u16 zone, __u16 vlan_mask)
{
	return zone | ((__u16)(p->vlan_tci[0] << 4) & vlan_mask);
}

/* The key from the IP header at `ip` (20 or 40 bytes readable).  In BPF, get it with mr_parse_ip_header(). */
static __always_inline void mr_parse_key4_at(const struct mr_parsed *p, const void *ip, __u16 zone, struct mr_key4 *key)
{
	key->zone = zone;
	key->proto = p->proto;
	key->ingress = 0;
	key->saddr_be = mr_load32((const __u8 *)ip + 12);
	key->daddr_be = mr_load32((const __u8 *)ip + 16);
	key->sport_be = p->sport_be;
	key->dport_be = p->dport_be;
}

static __always_inline void mr_parse_key6_at(const struct mr_parsed *p, const void *ip, __u16 zone, struct mr_key6 *key)
{
	key->zone = zone;
	key->proto = p->proto;
	key->ingress = 0;
	key->sport_be = p->sport_be;
	key->dport_be = p->dport_be;
	for (int i = 0; i < 4; i++) {
		key->saddr_be[i] = mr_load32((const __u8 *)ip + 8 + 4 * i);
		key->daddr_be[i] = mr_load32((const __u8 *)ip + 24 + 4 * i);
	}
}

/* The fixed IP header of a parsed frame, bounds checked again for the verifier; NULL only when `bytes` are not there. */
static __always_inline void *mr_parse_ip_header(
	const void *data, const void *data_end, const struct mr_parsed *p, __u32 bytes)
{
	__u32 off = p->l3_off & 31;
	return mr_parse_at(data, data_end, off, bytes);
}

#if !MR_BPF
/* The key of a packet for which mr_parse() set MR_PKT_IP4 (or IP6) on the same bytes.  Makes a key of any such packet;
 * whether it names a session is mr_parse_has_key(). */
static inline void mr_parse_key4(const struct mr_parsed *p, const void *frame, __u16 zone, struct mr_key4 *key)
{
	mr_parse_key4_at(p, (const __u8 *)frame + p->l3_off, zone, key);
}

static inline void mr_parse_key6(const struct mr_parsed *p, const void *frame, __u16 zone, struct mr_key6 *key)
{
	mr_parse_key6_at(p, (const __u8 *)frame + p->l3_off, zone, key);
}
#endif

#endif
