/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * egress.h - the kernel tier in the running program: made at the start, given to plans, told which devices its packets may leave by.
 *
 *     opened, link up, takes redirected frames (core/redirect.h) ─► packets may leave by it
 *     link down, gone, takes none any more, refused a bulk       ─► at once they may not, and come up to the workers
 *
 * A device that refused although it is said to take them rests: it is tried again when what is said of it has changed, and after a while
 * that doubles.  All on the control thread.  Without a tier (mr_shared.tier NULL) everything here does nothing.
 */
#ifndef MR_CORE_EGRESS_H
#define MR_CORE_EGRESS_H

#include "core/runtime.h"

/* epoll_event.data.u32 of the descriptor that tells of devices (core/redirect.h), beside those of core/mirror.h */
#define MR_EGRESS_EVENT 102

struct mr_egresses; /* the runtime's */

/* Makes the tier when the configuration wants one, and names its memory for the flow table, whose seed and capacities are set.  A failure
 * is a line in the log, and everything is as without. */
void mr_egress_create(struct mr_runtime *rt, const struct mr_config *c, struct mr_flows_options *flows);
/* After all that lies in the tier's memory. */
void mr_egress_destroy(struct mr_runtime *rt);

/* A place for the effects of a plan that is to be made; give it back (mr_egress_give) when the plan is ended or was never made. */
void mr_egress_describe(struct mr_runtime *rt, struct mr_plan_env *env);
void mr_egress_give(struct mr_runtime *rt, int half);
/* The plan is what workers take up from now on, or (a device changed) still. */
void mr_egress_publish(struct mr_runtime *rt, const struct mr_plan *plan);
/* Before the interfaces are quieted: nothing is offloaded any more. */
void mr_egress_stop(struct mr_runtime *rt);

/* The interface was opened. */
void mr_egress_opened(struct mr_runtime *rt, unsigned id);
/* As its link is now (mr_interface_poll). */
void mr_egress_follow(struct mr_runtime *rt, unsigned id);
/* It will be closed, or its device is gone. */
void mr_egress_withdraw(struct mr_runtime *rt, unsigned id);
/* On MR_EGRESS_EVENT: some device's answer may have changed. */
void mr_egress_service(struct mr_runtime *rt);
/* About every 100 ms: says that somebody lives, looks for what was refused. */
void mr_egress_tick(struct mr_runtime *rt);

/* Of the interface as it is named, however often it was opened. */
void mr_egress_counted(const struct mr_runtime *rt, unsigned id, struct mr_egress_count *out);
/* Whether packets of the tier may leave by it now; if not, *why says so ("" = there is no tier). */
bool mr_egress_is(const struct mr_runtime *rt, unsigned id, const char **why);

#endif
