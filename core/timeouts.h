/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * timeouts.h - classes of time-outs: a plan's stages name them, sessions carry their number.
 *
 *     create: mr_stage_timeouts("udp53", ...) ─► number 7 of the plan ─published─► mr_timeouts_apply ─► sessions of number 7
 *
 * A number is its stage's and name's from plan to plan, as long as numbers last; then that of one nobody made any more is used again.
 */
#ifndef MR_CORE_TIMEOUTS_H
#define MR_CORE_TIMEOUTS_H

#include "millrace/stage.h"

struct mr_timeouts;
struct mr_sessions;

/* With the numbers of those before, which may be NULL, and none made.  NULL = no memory.  Threads: control. */
struct mr_timeouts *mr_timeouts_create(const struct mr_timeouts *before);
void mr_timeouts_destroy(struct mr_timeouts *t); /* NULL allowed */
/* 1..255; 0 = too many, or no memory.  Threads: control. */
uint8_t mr_timeouts_add(
	struct mr_timeouts *t, const char *stage, const char *name, const struct mr_stage_timeouts *values);
/* Tells the sessions, who follow with the next mr_sessions_configure().  Threads: control. */
void mr_timeouts_apply(const struct mr_timeouts *t, struct mr_sessions *s);

#endif
