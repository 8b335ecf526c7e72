/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hold.h - packets of one worker that wait for a next hop the kernel is still resolving.
 *
 *     decided packet ─ slot RESOLVING ─► queue of that slot ─┬─ slot ROUTED ──────► rewritten and sent, in order
 *                                                            └─ slot UNREACHABLE ─► dropped (neighbour-failed), ICMP host unreachable
 *
 * Each worker holds its own: packets of one flow come by one queue, so their order is kept without a lock.  While a slot has packets
 * waiting here, later ones of that slot wait behind them even if it is resolved meanwhile; they all go at the start of the next turn.
 * Frames held carry the tag HELD and count in mr_stats_worker.held.  Bounded: MR_HOLD_PER_SLOT and MR_HOLD_MAX; what does not
 * fit is dropped under neighbour-queue, the newest, so that the first packets of a flow survive.
 */
#ifndef MR_CORE_HOLD_H
#define MR_CORE_HOLD_H

#include "core/turn.h"

#define MR_HOLD_PER_SLOT 128  /* the kernel keeps about 100 small packets (unres_qlen) */
#define MR_HOLD_MAX      1024 /* frames of one worker, at most an eighth of its share of the pool */

struct mr_hold {
	uint32_t cnt; /* frames held; the rest is core/hold.c's */
};

struct mr_hold *mr_hold_create(uint32_t frame_cnt); /* how many may be held; NULL = no memory */
void mr_hold_destroy(struct mr_hold *h);            /* empty */
/* True when packets wait for this slot.  The hot path asks only when mr_hold_cnt() is not 0. */
bool mr_hold_waiting(const struct mr_hold *h, uint16_t slot);
static inline unsigned mr_hold_cnt(const struct mr_hold *h)
{
	return h->cnt;
}
/* Takes the frame, with all that is needed to carry out its decision later.  False: no room, the frame is still the caller's. */
bool mr_hold_put(struct mr_hold *h, uint16_t slot, const struct mr_frame *f, const struct mr_parsed *p, uint8_t ingress,
	const struct mr_found *how);
/* Sends or drops what need not wait any longer; true when there was some.  At the start of a turn, before anything is received. */
bool mr_hold_release(struct mr_worker *w);
/* Drops all of it under STOPPING: the worker ends. */
void mr_hold_discard(struct mr_worker *w);

#endif
