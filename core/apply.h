/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * apply.h - carrying a decision out on a frame in memory (kern/rewrite.h, the user side).
 */
#ifndef MR_CORE_APPLY_H
#define MR_CORE_APPLY_H

#include "core/reason.h"
#include "kern/rewrite.h"
#include <stdbool.h>

/* The reason a rewrite error is dropped under. */
unsigned mr_apply_reason(int rewrite_error);

/*
 * Rewrites the frame of *len bytes at *frame: addresses, ports, TTL by flags (MR_FLOW_*), then encapsulation, VLAN and MACs by next hop.
 * Returns MR_REASON_NONE, or the reason to drop it under.  headroom_bytes: writable before *frame.
 */
static inline unsigned mr_apply(uint8_t **frame, uint32_t *len, uint32_t headroom_bytes, const struct mr_parsed *p,
	uint16_t flags, const struct mr_rewrite4 *r4, const struct mr_rewrite6 *r6, const struct mr_nexthop *nh,
	uint64_t hash)
{
	const uint16_t nat = MR_FLOW_SNAT | MR_FLOW_DNAT;
	/* What the link carries.  Padding counts: it is sent. */
	if (nh->mtu) {
		uint32_t outer = nh->encap ? mr_rewrite_outer_bytes(nh) + p->l3_len : *len - p->l3_off;
		if (*len > p->l3_off && outer > nh->mtu)
			return MR_REASON_TOO_BIG;
	}
	int err = 0;
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
