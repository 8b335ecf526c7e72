/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * announce.h - addresses the kernel answers ARP and neighbour discovery for, as long as the program runs.
 *
 *     plan (mr_stage_announce) ─► wanted ─► an address of the device whose network it belongs to (else lo), for 30 s at a time
 *                                            ▲ renewed every 10 s; nobody renews it after kill -9
 *
 * Ours is what carries MR_ADDRESS_PROTO and a lifetime.  An address that is there already is left as it is, and so is one that somebody made
 * permanent meanwhile.  A new one is told to the network by a gratuitous ARP (RFC 5227 section 2.3); of IPv6, the kernel's own answers suffice.
 */
#ifndef MR_CORE_ANNOUNCE_H
#define MR_CORE_ANNOUNCE_H

#include "core/runtime.h"

#define MR_ANNOUNCE_VALID_S   30
#define MR_ANNOUNCE_RENEW_S   10
#define MR_ANNOUNCE_ROUND_MAX 512 /* addresses renewed in one look, which is every second */

/* From now on these are wanted; what is not any more is taken away.  Threads: control. */
void mr_announce_follow(struct mr_runtime *rt, const struct mr_plan *plan);
/* About every 100 ms: looks at what is there once a second, adds, renews, moves.  Failures are logged once and tried again.  Threads: control. */
void mr_announce_tick(struct mr_runtime *rt);
/* Takes all away. */
void mr_announce_destroy(struct mr_runtime *rt);

#endif
