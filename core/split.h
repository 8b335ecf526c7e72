/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * split.h - IPv4 packets that may be fragmented and are longer than the next hop's MTU, cut into pieces (RFC 791, RFC 1812 section 5.2.6).
 *
 *     packet ─rewrite─► its addresses, ports and TTL are as they leave ─cut─► piece, piece, piece ─► each its own front (encapsulation,
 *                                                                            VLAN, MACs) ─► egress, in order
 *
 * Pieces carry multiples of 8 bytes, the identification of the packet, and its options: the first piece all of them, the others those
 * whose copied flag is set.  A packet that is a fragment itself is cut likewise.  What is encapsulated is cut inside, so that every piece
 * fits with its outer header; outer packets are never fragmented here.
 *
 * Accounting: one packet received is one forwarded, its first piece; the others count as our own (MR_STATS_OWN).
 */
#ifndef MR_CORE_SPLIT_H
#define MR_CORE_SPLIT_H

#include "core/turn.h"

#define MR_SPLIT_MTU_MIN 68  /* RFC 791: every link carries that */
#define MR_SPLIT_MAX     128 /* pieces of a frame of 4096 bytes are 85 at most */

/* A cut in progress. */
struct mr_split {
	const uint8_t *frame;
	const struct mr_parsed *p;
	uint32_t mtu;
	uint32_t at;         /* bytes of the payload that earlier pieces carry */
	uint32_t total;      /* all of them */
	uint8_t later_bytes; /* IP header of the pieces after the first */
	uint8_t later[60];   /* ... with the options they have, the fixed part left out */
};

/*
 * Begins to cut the packet in `frame`, an IPv4 packet parsed as p (error MR_PARSE_OK, flags with MR_PKT_IP4, header checksum right), into IP packets of up to mtu
 * bytes.  Returns how many pieces there will be; 0 = not possible (mtu under MR_SPLIT_MTU_MIN, too many, or an end beyond 64 KB).
 */
unsigned mr_split_begin(struct mr_split *s, const uint8_t *frame, const struct mr_parsed *p, uint32_t mtu);
/*
 * Writes the next piece: Ethernet header and tags as in the frame, IP header, payload; no padding.  out: room for p->l3_off + mtu bytes, not
 * the frame.  Returns its bytes and fills *out_p, with which it is rewritten and sent.
 */
uint32_t mr_split_next(struct mr_split *s, uint8_t *out, struct mr_parsed *out_p);

/*
 * Carries the decision `how` out on a packet that is too long for nh and may be fragmented, and sends the pieces.  The frame is gone
 * afterwards: sent, or dropped as a whole (no-frames when the pool has none left; what the rewrite says).  nh is of kind MR_NH_ROUTED.
 * core/worker.c calls it where mr_apply() answers too-big and nothing has been written yet.  Threads: the worker.
 */
void mr_split_send(struct mr_worker *w, const struct mr_frame *f, uint8_t *data, const struct mr_parsed *p,
	uint8_t ingress, const struct mr_found *how, const struct mr_nexthop *nh);

#endif
