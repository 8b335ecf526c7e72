/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * apply.h - carrying a decision out on a frame in memory (kern/rewrite.h, the user side).
 */
#ifndef MR_CORE_APPLY_H
#define MR_CORE_APPLY_H

#include "core/reason.h"
#include "kern/rewrite.h"
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define MR_APPLY_FRAME_MIN 60 /* the shortest Ethernet frame, without its check sequence */

/* The reason a rewrite error is dropped under. */
unsigned mr_apply_reason(int rewrite_error);

/* The sum of a whole IPv4 header, options included (RFC 1071). */
static inline bool mr_apply_header_sum_right(const uint8_t *ip, uint32_t header_bytes)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < header_bytes; i += 4)
		sum += mr_load32(ip + i);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ((sum & 0xffff) + (sum >> 16)) == 0xffff;
}

/*
 * Rewrites the frame of *len bytes at *frame: addresses, ports, TTL by flags (MR_FLOW_*), then encapsulation, VLAN and MACs by next hop.
 * Returns MR_REASON_NONE, or the reason to drop it under.  headroom_bytes: writable before *frame.
 */
static inline unsigned mr_apply(uint8_t **frame, uint32_t *len, uint32_t headroom_bytes, const struct mr_parsed *p,
	uint16_t flags, const struct mr_rewrite4 *r4, const struct mr_rewrite6 *r6, const struct mr_nexthop *nh,
	uint64_t hash)
{
	const uint16_t nat = MR_FLOW_SNAT | MR_FLOW_DNAT;
	/* RFC 1812 section 5.2.2: a router looks before it forwards. */
	if (nh->kind == MR_NH_ROUTED && p->flags & MR_PKT_IP4 && p->error == MR_PARSE_OK &&
		!mr_apply_header_sum_right(
			*frame + p->l3_off, p->flags & MR_PKT_OPTIONS ? (uint32_t)p->l4_off - p->l3_off : 20))
		return MR_REASON_IP_CHECKSUM;
	/* A router sends the IP packet on, and not what came behind it; padding stays, for drivers that do not pad. */
	if (nh->kind == MR_NH_ROUTED && p->l3_len) {
		uint32_t end = p->l3_off + p->l3_len > MR_APPLY_FRAME_MIN ? p->l3_off + p->l3_len : MR_APPLY_FRAME_MIN;
		*len = *len > end ? end : *len;
	}
	/* What the link carries.  What a wire sends behind the packet counts. */
	if (nh->mtu) {
		uint32_t outer = nh->kind == MR_NH_ROUTED || nh->encap ? mr_rewrite_outer_bytes(nh) + p->l3_len
								       : *len - p->l3_off;
		if (*len > p->l3_off && outer > nh->mtu)
			return MR_REASON_TOO_BIG;
	}
	int err = 0;
	if (p->flags & MR_PKT_ICMP_ERROR) /* translated before (core/related.h) */
		flags &= (uint16_t)~nat;
	if (flags & nat || !(flags & MR_FLOW_NO_TTL)) {
		if (p->flags & MR_PKT_IP4)
			err = mr_rewrite_apply4(*frame, *frame + *len, p, r4, flags);
		else if (p->flags & MR_PKT_IP6)
			err = mr_rewrite_apply6(*frame, *frame + *len, p, r6, flags);
		else
			err = MR_REWRITE_NOT_IP;
	}
	if (!err && (nh->kind != MR_NH_WIRE || nh->flags || nh->encap))
		err = mr_rewrite_front(frame, len, headroom_bytes, p, nh, hash);
	return err ? mr_apply_reason(err) : MR_REASON_NONE;
}

_Static_assert(offsetof(struct mr_nexthop, smac) == offsetof(struct mr_nexthop, dmac) + 6 &&
		offsetof(struct mr_rewrite4, saddr_be) == 0 && offsetof(struct mr_rewrite4, dport_be) == 10,
	"as they lie next to each other in a frame");

/* A next hop for mr_apply_arrived4(): it writes MAC addresses and no more. */
static inline bool mr_apply_front_stays(const struct mr_nexthop *nh)
{
	return nh->kind == MR_NH_ROUTED && !(nh->flags | nh->encap);
}

/*
 * What mr_apply() does, for a frame that core/arrive.h knew and a next hop as above: the same bytes, length and reason.  The front stays
 * where it is.  Addresses and ports are one copy, there being nothing between them.
 */
static inline __attribute__((always_inline)) unsigned mr_apply_arrived4(uint8_t *frame, uint32_t *len,
	const struct mr_parsed *p, uint16_t flags, const struct mr_rewrite4 *r4, const struct mr_nexthop *nh)
{
	uint8_t *ip = frame + MR_ETH_HLEN;
	uint32_t end = MR_ETH_HLEN + (uint32_t)p->l3_len, delta = 0;
	uint64_t half[2];
	memcpy(half, ip, sizeof(half));
	uint64_t sum = (half[0] & UINT32_MAX) + (half[0] >> 32) + (half[1] & UINT32_MAX) + (half[1] >> 32);
	sum += mr_load32(ip + 16);
	sum = (sum & UINT32_MAX) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	if (mr_csum_fold((uint32_t)sum) != 0xffff)
		return MR_REASON_IP_CHECKSUM;
	end = end > MR_APPLY_FRAME_MIN ? end : MR_APPLY_FRAME_MIN;
	*len = *len > end ? end : *len;
	if (nh->mtu && p->l3_len > nh->mtu)
		return MR_REASON_TOO_BIG;
	if (!(flags & MR_FLOW_NO_TTL) && p->ttl <= 1)
		return MR_REASON_TTL;
	if (flags & (MR_FLOW_SNAT | MR_FLOW_DNAT)) {
		uint8_t *at = ip + 20 + (p->proto == MR_IP_TCP ? 16 : 6);
		uint16_t csum = mr_load16(at);
		memcpy(ip + 12, r4, 12);
		delta = r4->l3_delta;
		if (csum || p->proto == MR_IP_TCP) { /* UDP: none was sent */
			csum = mr_csum_apply(csum, r4->l4_delta);
			mr_store16(at, csum || p->proto == MR_IP_TCP ? csum : 0xffff);
		}
	}
	uint16_t from = mr_load16(ip + 8), to = from, was = mr_load16(ip + 10);
	if (!(flags & MR_FLOW_NO_TTL)) {
		to = (uint16_t)(from - mr_be16(0x0100));
		delta += mr_csum_change16(from, to);
	}
	mr_store16(ip + 8, to);
	if (flags & (MR_FLOW_SNAT | MR_FLOW_DNAT) || !(flags & MR_FLOW_NO_TTL))
		mr_store16(ip + 10, mr_csum_apply(was, delta));
	memcpy(frame, (const uint8_t *)nh + offsetof(struct mr_nexthop, dmac), 12);
	return MR_REASON_NONE;
}

#endif
