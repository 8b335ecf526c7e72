/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hotplug.h - interfaces coming and going while the program runs.
 *
 *     configured ─open─► in the plan ─link down─► in the plan, egress drops ─link up─► in the plan
 *                            │ device deleted
 *                            ▼
 *                         absent: taken out of the plan, one epoch, closed, frames taken back
 *                            │ device is there again (same name)
 *                            └──► opened, steered, back in the plan
 *
 * All on the control thread.  Workers only ever see a new plan.
 */
#ifndef MR_CORE_HOTPLUG_H
#define MR_CORE_HOTPLUG_H

#include "core/runtime.h"

/* The id of an interface by name: the one it has, or a free one; 0 = no room. */
unsigned mr_hotplug_id(struct mr_runtime *rt, const char *name);
/* Opens interface `id` as `c` says, with its hand-back, and fills its next hop.  -errno with the sentence, nothing left. */
int mr_hotplug_open(struct mr_runtime *rt, unsigned id, const struct mr_config_interface *c, struct mr_error *e);
/* Closes it; no worker may use it any more.  Its counters go on in `closed`. */
void mr_hotplug_close(struct mr_runtime *rt, unsigned id);
/* Closing shall leave nothing on its device, whatever on_exit says (mr_interface_let_go()); the log says so. */
void mr_hotplug_let_go(struct mr_runtime *rt, unsigned id, bool inherited);
/* Closes and forgets it, so that the id is free. */
void mr_hotplug_forget(struct mr_runtime *rt, unsigned id);
/* What a plan needs to know of all of them. */
void mr_hotplug_describe(struct mr_runtime *rt, struct mr_plan_env *env);
/* Looks at every device: lost ones out, returned ones in, link states into the plan.  Call on link events and regularly. */
void mr_hotplug_poll(struct mr_runtime *rt);
/* True when every interface is a file that was read to its end and nothing is in flight. */
bool mr_hotplug_drained(struct mr_runtime *rt);

#endif
