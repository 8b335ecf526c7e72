/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reason.h - every way a packet can end that is not being forwarded, declared once.
 *
 * From this list come the enum, the stable names in `show drops` and JSON, and the text of `millrace help drops`.
 * Names are a contract: they are added, never renamed.  Stages add their own at load (millrace/stage.h);
 * those get numbers from MR_REASON_STAGE_BASE on.
 */
#ifndef MR_CORE_REASON_H
#define MR_CORE_REASON_H

#include <stdint.h>

/*      symbol             stable name           one line of help */
#define MR_REASONS(X)                                                                              \
	X(NONE, "none", "not dropped")                                                             \
	X(NOT_IP, "not-ip", "a frame that is neither IPv4 nor IPv6 met a pipeline that needs IP")  \
	X(SHORT_ETH, "short-ethernet", "frame shorter than its Ethernet and VLAN headers")         \
	X(VLAN_DEPTH, "vlan-depth", "more than two VLAN tags")                                     \
	X(SHORT_IP, "short-ip", "IP header cut off")                                               \
	X(BAD_IP, "bad-ip", "IP version, header length or total length is impossible")             \
	X(TRUNCATED, "truncated", "IP claims more bytes than the frame has")                       \
	X(EXT_CHAIN, "ext-chain", "IPv6 extension headers cut off, malformed or too many")         \
	X(SHORT_L4, "short-l4", "transport header cut off")                                        \
	X(BAD_L4, "bad-l4", "TCP data offset or UDP length is impossible")                         \
	X(STAGE, "stage", "a stage dropped it without a reason of its own")                        \
	X(TABLE_FULL, "table-full", "a stateful pipeline could not store the flow")                \
	X(HALF_OPEN, "half-open-quota", "too many half-open flows")                                \
	X(TOO_BIG, "too-big", "larger than the egress MTU")                                        \
	X(TTL, "ttl", "TTL or hop limit used up")                                                  \
	X(NO_NEXTHOP, "no-nexthop", "the decision has no usable next hop")                         \
	X(LINK_DOWN, "link-down", "the egress interface is down or gone")                          \
	X(TX_FULL, "tx-full", "the egress ring stayed full")                                       \
	X(HANDOFF_FULL, "handoff-full", "the ring to the worker that owns the queue was full")     \
	X(HANDBACK, "handback-failed", "the kernel did not take a frame handed back")              \
	X(METER, "meter", "over the rate of a limit")                                              \
	X(NO_ROUTE, "no-route", "the kernel has no route to the destination")                      \
	X(UNREACHABLE, "route-unreachable", "an unreachable route")                                \
	X(BLACKHOLE, "route-blackhole", "a blackhole route")                                       \
	X(PROHIBIT, "route-prohibit", "a prohibit route")                                          \
	X(UNMIRRORED, "route-unmirrored",                                                          \
		"translated, but its route is one only the kernel can follow (rule, VRF, tunnel)") \
	X(NEIGHBOUR_QUEUE, "neighbour-queue", "too many packets wait for a neighbour")             \
	X(NEIGHBOUR_FAILED, "neighbour-failed", "the kernel did not find the neighbour")           \
	X(FRAG_TIMEOUT, "fragment-timeout", "the first fragment did not come in time")             \
	X(FRAG_OVERLAP, "fragment-overlap", "a fragment overlaps another one of its datagram")     \
	X(FRAG_LIMIT, "fragment-limit", "too many fragments or datagrams in pieces at once")       \
	X(NO_FRAMES, "no-frames", "no frame was free for the fragments it had to be cut into")     \
	X(IP_CHECKSUM, "ip-checksum", "to be routed, but the IPv4 header checksum is wrong")       \
	X(REDIRECT, "redirect-lost", "the egress did not take it from the kernel tier")            \
	X(STOPPING, "stopping", "held when its interface or the program went away")

enum mr_reason {
#define X(sym, name, help) MR_REASON_##sym,
	MR_REASONS(X)
#undef X
		MR_REASON_CORE_CNT,
	MR_REASON_STAGE_BASE = 64, /* stages' own reasons */
	MR_REASON_CNT = 256
};

/* The stable name of a core reason; NULL for a number that is none.  Threads: any. */
const char *mr_reason_name(unsigned reason);
const char *mr_reason_help(unsigned reason);

#endif
