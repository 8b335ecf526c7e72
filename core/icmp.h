/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * icmp.h - ICMP and ICMPv6 errors of our own (RFC 792, 1122 section 3.2.2, 1812 section 4.3, 4443): may one be sent, and its bytes.
 *
 *     received frame, as it came ─► mr_icmp_may_answer() ─► mr_icmp_limit() ─► mr_icmp_build() ─► a frame back to where it came from
 *
 * The error goes out of the interface the packet came in on, to the station it came from (MACs swapped, VLAN tags kept), so it takes the
 * way back whatever our routes say.  Pure functions but for the limiter, which belongs to one worker.
 */
#ifndef MR_CORE_ICMP_H
#define MR_CORE_ICMP_H

#include "kern/parse.h"
#include <stdbool.h>
#include <stdint.h>

enum mr_icmp_kind {
	MR_ICMP_NONE,
	MR_ICMP_TIME_EXCEEDED,    /* 11/0; v6 3/0 */
	MR_ICMP_REASSEMBLY,       /* 11/1; v6 3/1 */
	MR_ICMP_TOO_BIG,          /* 3/4 with the MTU; v6 2/0 */
	MR_ICMP_NET_UNREACHABLE,  /* 3/0; v6 1/0 */
	MR_ICMP_HOST_UNREACHABLE, /* 3/1; v6 1/3 */
	MR_ICMP_PORT_UNREACHABLE, /* 3/3; v6 1/4 */
	MR_ICMP_ADMIN_PROHIBITED, /* 3/13; v6 1/1 */
	MR_ICMP_KIND_CNT
};

/* Longest frame mr_icmp_build() makes: Ethernet, two tags, and 576 (RFC 1812 section 4.3.2.3) or 1280 (RFC 4443 section 2.4 c) bytes. */
#define MR_ICMP_FRAME_MAX (22 + 1280)

/*
 * True when a packet may be answered by an error at all: not an ICMP error itself (or a redirect), not a later fragment, not to a multicast or
 * broadcast address (also of the Ethernet frame; but TOO_BIG answers ICMPv6 multicast), not from an address that names no single
 * host (unspecified, loopback, multicast, broadcast, class E; nor a frame whose source MAC is a group), not malformed (the checksum of
 * an IPv4 header is looked at here).  IPv4: an ICMP type nobody knows is taken for an error, as Linux does.  Threads: any.
 */
bool mr_icmp_may_answer(const void *frame, const struct mr_parsed *p, enum mr_icmp_kind kind);

/*
 * Builds the error into `out` (MR_ICMP_FRAME_MAX bytes).  src_be: 4 or 16 bytes, ours; mac: of the interface it leaves by.  mtu: with
 * TOO_BIG, bytes of the largest packet that would pass (IPv6: at least 1280 is written, RFC 8200 section 5).  Quotes as much of the
 * packet as fits, without padding behind it.  As Linux builds it (compared byte by byte) but for: IPv6 flow label 0, no ECN bits in the
 * TOS, no IPv4 options echoed.  Returns the length of the frame; 0: the packet is not there to be quoted.  Threads: any.
 */
uint32_t mr_icmp_build(uint8_t *out, const void *frame, uint32_t frame_bytes, const struct mr_parsed *p,
	enum mr_icmp_kind kind, uint32_t mtu, const void *src_be, const uint8_t mac[6]);

/*
 * How many errors may be sent: for each destination (a table of hashed buckets: those that share one share its rate) and in all.
 * TOO_BIG is not limited for each destination, only in all (a lost one stalls a connection; RFC 1191 section 7.1, Linux does the same).
 */
#define MR_ICMP_RATE_PER_S       10 /* for each destination */
#define MR_ICMP_BURST            10
#define MR_ICMP_TOTAL_RATE_PER_S 1000 /* for each worker */
#define MR_ICMP_TOTAL_BURST      200

struct mr_icmp_limit;

struct mr_icmp_limit *mr_icmp_limit_create(uint64_t seed); /* NULL = no memory */
void mr_icmp_limit_destroy(struct mr_icmp_limit *l);
/* One more to the sender of this packet: false = over the rate.  Threads: the worker that owns it. */
bool mr_icmp_limit_pass(
	struct mr_icmp_limit *l, const void *frame, const struct mr_parsed *p, enum mr_icmp_kind kind, uint64_t now_ns);

#endif
