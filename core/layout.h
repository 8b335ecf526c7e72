/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * layout.h - where stages have their private bytes in a session, from one plan to the next.
 *
 *     plan n     s at 0, t at 8      sessions that n made
 *     plan n+1   s at 0              those of pipelines t was in end: nobody else could give back what t holds for them
 *
 * A stage is the same as long as its name and type are.  It keeps its place, so that sessions outlive a reload.  Where that cannot be, or a stage
 * leaves a pipeline, or a pipeline an interface, the pair of interface and pipeline is `changed`: what older plans made for it cannot go on.
 * So every session that lives is laid out as the plan in force has it, or its pair is changed and it is about to end (core/succession.h).
 */
#ifndef MR_CORE_LAYOUT_H
#define MR_CORE_LAYOUT_H

#include "core/plan.h"

struct mr_session;

/* place.c */

/* Gives a stage its place, beside those of `plan` placed before it.  -EINVAL with the sentence: there is no room.  Threads: control. */
int mr_layout_place(struct mr_plan *plan, struct mr_plan_stage *s, const struct mr_plan *previous, struct mr_error *e);

/* layout.c */

/* Finds what is changed, when all pipelines are there, and remembers `previous` for as long as sessions are laid out by it.  Threads: control. */
void mr_layout_compare(struct mr_plan *plan, struct mr_plan *previous);

/* The stage of the same name and type; NULL = none.  Threads: any. */
const struct mr_plan_stage *mr_layout_same(const struct mr_plan *plan, const struct mr_plan_stage *s);
/* It has private bytes, or wants to hear of sessions' ends. */
bool mr_layout_concerns(const struct mr_plan_stage *s);

/* A stage of an older plan is in the pair's pipeline still, and at its place.  Threads: any. */
bool mr_layout_stays(const struct mr_plan *plan, unsigned pair, const struct mr_plan_stage *before);

enum mr_layout {
	MR_LAYOUT_KNOWN, /* as this plan has it */
	MR_LAYOUT_OLD,   /* not: of an older plan; it has to end */
	MR_LAYOUT_NEWER, /* not: of a plan that is just taking over from this one */
};
/* How a session is laid out, as a worker that uses `plan` sees it; `in_force` is the plan of new turns.  Threads: any. */
enum mr_layout mr_layout_of(const struct mr_plan *plan, const struct mr_plan *in_force, const struct mr_session *x);
/* Whether this stage was asked when the session was made, and so has bytes in it.  Threads: any. */
bool mr_layout_lodges(const struct mr_plan *plan, unsigned pair, unsigned stage);

#endif
