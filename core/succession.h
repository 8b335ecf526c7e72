/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * succession.h - sessions from one plan to the next: who hears of their end, and which do not live on.
 *
 *     publish n+1 ─► all workers in n+1 ─► mr_succession_walk ─► one epoch ─► mr_succession_close ─► destroy n
 *                    └─ a packet or the sweep may meet a session of n first: ended as n laid it out, heard by n+1's stages or those of n that left
 *
 * (core/layout.h says what `changed` is.)
 */
#ifndef MR_CORE_SUCCESSION_H
#define MR_CORE_SUCCESSION_H

#include "core/plan.h"
#include "core/worker.h"

/* Sessions that ended with a reload, by the stage whose they were: it is gone (or not where it was), or did not keep them. */
struct mr_succession {
	unsigned cnt;
	struct {
		char name[64];
		uint64_t sessions;
	} stage[MR_PLAN_STAGES];
};

/* The callback of the sessions (mr_sessions_on_expire); ctx is struct mr_shared.  Threads: who ends one, online. */
void mr_succession_ended(void *ctx, const struct mr_session_end *end);

/*
 * Ends what cannot live on under `plan`, which is in force on all workers after `old`, and asks stages about the rest (keeps).  Workers may be in the
 * middle of ending others: one epoch later no session needs `old` any more.  Threads: control.
 */
void mr_succession_walk(struct mr_shared *sh, struct mr_plan *plan, const struct mr_plan *old);
/* That epoch has passed, or is not waited for any longer: what ended because of the reload, whoever ended it.  Threads: control. */
void mr_succession_count(struct mr_plan *plan, const struct mr_plan *old, struct mr_succession *out);
/* That epoch has passed: forgets `old`.  Threads: control. */
void mr_succession_close(struct mr_plan *plan);
/* "2 sessions of stage cgn ended, 1 session of stage lb ended"; "" = none. */
void mr_succession_say(const struct mr_succession *s, char *text, size_t bytes);

#endif
