/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mss.h - the MSS option of a TCP segment with SYN (RFC 9293 section 3.7.1), made smaller in place.
 *
 * What a packet is to have is a limit that travels with its decision; 0 is none.
 */
#ifndef MR_CORE_MSS_H
#define MR_CORE_MSS_H

#include "kern/flow.h"
#include "kern/parse.h"
#include <stdbool.h>
#include <stdint.h>

#define MR_MSS_AUTO (1u << 16) /* or-ed: what fits the next hop; the lower 16 bits are a limit besides (0 = none) */

/* The MSS whose segments fit an MTU, `outer` bytes around them; 0: none does, or the MTU is not known (0). */
uint32_t mr_mss_fits(const struct mr_parsed *p, uint32_t mtu, uint32_t outer_bytes);

/* Both limits. */
static inline uint32_t mr_mss_both(uint32_t a, uint32_t b)
{
	uint32_t x = a & 0xffff, y = b & 0xffff;
	return ((a | b) & MR_MSS_AUTO) | (!x || (y && y < x) ? y : x);
}

/*
 * Applies the limit to the segment whose TCP header lies at `tcp`, in the packet parsed as p, on its way to nh.  Its checksum follows, a wrong
 * one stays wrong.  Nothing is done to: what is no SYN, a fragment after the first, options that are malformed, an MSS that is small
 * enough.  True: something was written.
 */
bool mr_mss_clamp(uint8_t *tcp, const struct mr_parsed *p, uint32_t mss, const struct mr_nexthop *nh);

#endif
