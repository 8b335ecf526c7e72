/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * effects.h - what must still happen to each packet of a decided flow: counters to add to, meters to pass.
 *
 * A flow record has room for one 16-bit number.  Combinations are interned: flows that hit the same rules share one entry.
 * Entries are added at any time by any worker and never change or go away while the table lives (as long as its plan).
 * What they are, and what a meter does, is kern/effect.h: XDP carries them out too.
 */
#ifndef MR_CORE_EFFECTS_H
#define MR_CORE_EFFECTS_H

#include "kern/effect.h"
#include <stdbool.h>
#include <stdint.h>

struct mr_effects;

/* In memory of the caller's (entry[MR_EFFECTS], meter[MR_METERS]: the kernel tier's, core/tier.h), which it empties and the caller keeps until
 * after destroy; or, both NULL, in its own.  NULL: out of memory.  Threads: control. */
struct mr_effects *mr_effects_create(struct mr_effect *entry, struct mr_meter *meter);
void mr_effects_destroy(struct mr_effects *t);
/* The number of a combination (0 = the empty one), or -1 when the table is full: then the decision is not stored. */
int mr_effects_intern(struct mr_effects *t, const struct mr_effect *e);
const struct mr_effect *mr_effects_at(const struct mr_effects *t, uint16_t id);

/* A token bucket shared by all workers.  Returns the id (1..), 0 = full.  Threads: control. */
uint16_t mr_effects_meter_add(struct mr_effects *t, uint64_t rate_per_s, uint64_t burst, bool bits);
/* True when a packet of `bytes` may pass now.  Lock-free.  Threads: any. */
bool mr_effects_meter_pass(struct mr_effects *t, uint16_t meter, uint32_t bytes, uint64_t now_ns);

#endif
