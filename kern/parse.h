/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * parse.h - where the headers of a frame are, in one bounded pass.
 *
 * Ethernet, up to two VLAN tags, IPv4 with options, IPv6 with up to MR_PARSE_EXT_MAX extension headers,
 * fragments, TCP, UDP, SCTP (ports), ICMP, ICMPv6, GRE, ESP.  The same lines run in XDP and in user space.
 *
 * Parsing never fails silently: a frame that is not what its headers claim gets an enum mr_parse_error,
 * which is the reason it is dropped under (or, where a pipeline takes every frame, reported with).
 */
#ifndef MR_KERN_PARSE_H
#define MR_KERN_PARSE_H

#include "abi.h"

#define MR_PARSE_EXT_MAX 8 /* IPv6 extension headers followed before giving up */

enum mr_parse_error {
	MR_PARSE_OK = 0,
	MR_PARSE_NOT_IP,        /* a whole Ethernet frame that carries neither IPv4 nor IPv6; l3_off is valid */
	MR_PARSE_SHORT_ETH,     /* shorter than its Ethernet and VLAN headers */
	MR_PARSE_VLAN_DEPTH,    /* more than two VLAN tags */
	MR_PARSE_SHORT_IP,      /* IP header cut off */
	MR_PARSE_BAD_IP,        /* version, header length or total length is impossible */
	MR_PARSE_TRUNCATED,     /* IP says more bytes than the frame has */
	MR_PARSE_EXT_CHAIN,     /* IPv6 extension headers cut off, malformed or more than MR_PARSE_EXT_MAX */
	MR_PARSE_SHORT_L4,      /* transport header cut off, or a first fragment too short to hold it */
	MR_PARSE_BAD_L4,        /* TCP data offset or UDP length is impossible */
	MR_PARSE_ERROR_CNT
};

/* mr_parsed.flags */
#define MR_PKT_IP4 (1u << 0)
#define MR_PKT_IP6 (1u << 1)
#define MR_PKT_FRAG (1u << 2)       /* any fragment (MF set or offset not 0; an IPv6 atomic fragment is none) */
#define MR_PKT_FRAG_LATER (1u << 3) /* offset not 0: no transport header, ports are 0 */
#define MR_PKT_OPTIONS (1u << 4)    /* IPv4 options, or IPv6 hop-by-hop / routing / destination options */
#define MR_PKT_PORTS (1u << 5)      /* sport_be and dport_be come from a transport header */
#define MR_PKT_ICMP_ERROR (1u << 6) /* an ICMP or ICMPv6 error message: belongs to the flow it quotes */
#define MR_PKT_ICMP_QUERY (1u << 7) /* an ICMP query or its reply; icmp_id_be is valid */
#define MR_PKT_DF (1u << 8)         /* IPv4 don't fragment */

struct mr_parsed {
	__u16 flags;       /* MR_PKT_* */
	__u16 ethertype;   /* innermost, host order (after VLAN tags) */
	__u16 vlan_tci[2]; /* outer first, host order */
	__u8 vlan_cnt;
	__u8 proto;        /* IPPROTO_* of the transport (after extension headers) */
	__u8 ttl;          /* TTL or hop limit */
	__u8 tos;          /* TOS or traffic class */
	__u16 l3_off;      /* bytes from frame start to the IP header (or to the payload of a non-IP frame) */
	__u16 l4_off;      /* ... to the transport header (of a later fragment: to its data) */
	__u16 l3_len;      /* whole IP packet, bytes (padding after it is not part of it) */
	__be16 sport_be;   /* ports as they go into the flow key: for ICMP queries as flow.h says */
	__be16 dport_be;
	__u8 tcp_flags;    /* byte 13 of the TCP header */
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 reserved;
	__be16 icmp_id_be;
	__be16 frag_off;   /* fragment offset, host order, units of 8 bytes */
	__u32 frag_id_be;  /* IPv4 identification or IPv6 fragment identification, network order */
};

_Static_assert(sizeof(struct mr_parsed) == 36, "parsed packet");

#endif
