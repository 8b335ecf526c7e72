/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nexthop.h - the slots that decisions point at.  One change here moves any number of flows.
 *
 * Slots 1..MR_MAX_INTERFACES are the wires: slot i sends out of interface i with the frame as it is.  Those from MR_NEXTHOP_FIRST_FREE on
 * are routing's: core/neighbour.h gives them out.
 */
#ifndef MR_CORE_NEXTHOP_H
#define MR_CORE_NEXTHOP_H

#include "kern/flow.h"
#include <stdint.h>

#define MR_NEXTHOP_BACK       (MR_MAX_INTERFACES + 1)
#define MR_NEXTHOP_KERNEL     (MR_MAX_INTERFACES + 2)
#define MR_NEXTHOP_FIRST_FREE (MR_MAX_INTERFACES + 3)

struct mr_nexthops;

/* With BACK and KERNEL set.  memory: [MR_MAX_NEXTHOPS] zeros, 64-byte aligned, the caller's, which outlives it (the kernel tier's map);
 * NULL = its own.  NULL: no memory.  Threads: control. */
struct mr_nexthops *mr_nexthops_create(struct mr_nexthop *memory);
void mr_nexthops_destroy(struct mr_nexthops *t);
/*
 * Sets a slot under its sequence number; readers see the old or the new one.  One writer of a slot at a time: control for wires, BACK and
 * KERNEL; for routing's slots whoever holds the lock of core/neighbour.c (a worker that makes one, control).
 */
void mr_nexthops_set(struct mr_nexthops *t, uint16_t slot, const struct mr_nexthop *nh);
/* A consistent copy.  Threads: any, no lock; looks again while a writer is at it. */
void mr_nexthops_get(const struct mr_nexthops *t, uint16_t slot, struct mr_nexthop *out);
/* Its kind alone: one load.  Threads: any, no lock. */
uint8_t mr_nexthops_kind(const struct mr_nexthops *t, uint16_t slot);

#endif
