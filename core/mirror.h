/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mirror.h - control's side of routing: makes the table and the slots, keeps them up to date, and tells workers.
 *
 *     create (with the memory) ─► open (first plan that routes) ─► events of the kernel, wishes of workers, ticks ─► destroy
 *
 * The mirror is made at the start, because workers keep pointers to it, and reads the kernel's tables when the first plan needs them.
 */
#ifndef MR_CORE_MIRROR_H
#define MR_CORE_MIRROR_H

#include "core/runtime.h"

/* sh->neighbours and sh->routes.  After nexthops, epoch, flows; before the first worker.  -ENOMEM, -errno. */
int mr_mirror_create(struct mr_runtime *rt, struct mr_error *e);
/* After the workers ended.  Half-made is fine. */
void mr_mirror_destroy(struct mr_runtime *rt);
/* Before a plan that wants routes is published: returns when the kernel's tables are in.  Nothing when they are, or are not wanted.
 * -EPERM, -ENOMEM, -errno. */
int mr_mirror_open(struct mr_runtime *rt, const struct mr_plan *plan, struct mr_error *e);
/* A device is ours to send by, or not any more (ifindex 0): then what routes lead out of it is the kernel's. */
void mr_mirror_device(struct mr_runtime *rt, unsigned interface_id, uint32_t ifindex);
/* Before a plan is published: takes out the devices it does not send by.  After: takes in those it does. */
void mr_mirror_withdraw(struct mr_runtime *rt, const struct mr_plan *plan);
void mr_mirror_follow(struct mr_runtime *rt, const struct mr_plan *plan);

/* What its descriptors are called in epoll (mr_runtime.epoll_fd). */
#define MR_MIRROR_EVENT_ROUTES     100
#define MR_MIRROR_EVENT_NEIGHBOURS 101
/* One of them is readable, or the last call said so.  True: there is more, call again after other events. */
bool mr_mirror_service(struct mr_runtime *rt);
void mr_mirror_tick(struct mr_runtime *rt); /* about every 100 ms */

#endif
