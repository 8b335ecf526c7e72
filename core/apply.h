/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * apply.h - carrying a decision out on a frame in memory (kern/rewrite.h, the user side).
 */
#ifndef MR_CORE_APPLY_H
#define MR_CORE_APPLY_H

#include "core/reason.h"
#include "kern/rewrite.h"
#include <stdbool.h>

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

#endif
