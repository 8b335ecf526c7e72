/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * later.h - ICMP errors of one worker that are sent after a while, if nothing comes of the packet until then (RFC 5382 REQ-4).
 *
 *     packet dropped ─ its beginning, key and time are kept ─┬─ its key has a session meanwhile ──► nothing
 *                                                            └─ due ──► mr_answer()
 *
 * The packet was counted when it was dropped, so this owes nobody anything: what finds no room is dropped only, as is all of it when
 * the worker ends.  A packet with a key that waits already adds nothing.
 */
#ifndef MR_CORE_LATER_H
#define MR_CORE_LATER_H

#include "core/turn.h"

#define MR_LATER_MAX   256
#define MR_LATER_BYTES 128 /* of each packet are kept: the error quotes no more */

struct mr_later {
	uint32_t cnt;
	uint32_t next_ms; /* nothing is due before; with cnt */
};

struct mr_later *mr_later_create(uint64_t seed); /* NULL = no memory */
void mr_later_destroy(struct mr_later *l);       /* NULL allowed */
/* Keeps what is needed to answer packet p by an error of `kind` (enum mr_icmp_kind) at due_ms.  False: no room, or it names no flow. */
bool mr_later_put(struct mr_later *l, const struct mr_packet *p, unsigned kind, uint32_t due_ms);
/* Sends what is due.  Once in a turn, when it is time. */
void mr_later_send(struct mr_worker *w);

static inline bool mr_later_due(const struct mr_later *l, uint32_t now_ms)
{
	return l->cnt && (int32_t)(now_ms - l->next_ms) >= 0;
}

#endif
