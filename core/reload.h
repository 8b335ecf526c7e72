/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reload.h - from one configuration to the next while packets flow.
 *
 *     read ─► open new interfaces ─► make the plan ─► steer ─► adopt ─► publish ─► one epoch ─► end what is left over
 *     └──────── may fail: everything is undone ──────────┘
 *
 * Sockets of interfaces that stay are not touched, and neither are flows: their records carry the old generation and ask their
 * stages once.  A packet steered by one configuration and met by the other finds no pipeline and goes to the kernel, never lost.
 */
#ifndef MR_CORE_RELOAD_H
#define MR_CORE_RELOAD_H

#include "core/runtime.h"

/* Reads and checks a file as far as the running program needs: supported, cores, plugins loaded; on_exit and unserved decided where
 * they are auto.  -EINVAL, -ENOENT ... */
int mr_reload_read(const char *path, struct mr_config **out, struct mr_error *e);
/* Puts the interface's place in the file in front of the sentence in e, why it cannot be had; returns err as it is. */
int mr_reload_place(const struct mr_config *c, const struct mr_config_interface *i, int err, struct mr_error *e);
/* Refuses what only a restart can do: -EINVAL with the sentence.  Touches nothing.  Threads: control. */
int mr_reload_check(struct mr_runtime *rt, const struct mr_config *c, struct mr_error *e);
/* Puts a plan's time-outs and limits of sessions in force.  Threads: control. */
void mr_reload_timeouts(struct mr_runtime *rt, const struct mr_plan *plan);
#endif
