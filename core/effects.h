/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * effects.h - what must still happen to each packet of a decided flow: counters to add to, meters to pass.
 *
 * A flow record has room for one 16-bit number.  Combinations are interned: flows that hit the same rules share one entry.
 * Entries are added at any time by any worker and never change or go away while the table lives (as long as its plan).
 */
#ifndef MR_CORE_EFFECTS_H
#define MR_CORE_EFFECTS_H

#include <stdbool.h>
#include <stdint.h>

#define MR_EFFECT_COUNTERS 4
#define MR_EFFECT_METERS   2

struct mr_effect {
	uint16_t counter[MR_EFFECT_COUNTERS]; /* 0 = none */
	uint16_t meter[MR_EFFECT_METERS];
};

struct mr_effects;
struct mr_meters; /* all meters of a plan */

struct mr_effects *mr_effects_create(void);
void mr_effects_destroy(struct mr_effects *t);
/* The number of a combination (0 = the empty one), or -1 when the table is full: then the decision is not stored. */
int mr_effects_intern(struct mr_effects *t, const struct mr_effect *e);
const struct mr_effect *mr_effects_at(const struct mr_effects *t, uint16_t id);

/* A token bucket shared by all workers.  Returns the id (1..), 0 = full.  Threads: control. */
uint16_t mr_effects_meter_add(struct mr_effects *t, uint64_t rate_per_s, uint64_t burst, bool bits);
/* True when a packet of `bytes` may pass now.  Lock-free.  Threads: any. */
bool mr_effects_meter_pass(struct mr_effects *t, uint16_t meter, uint32_t bytes, uint64_t now_ns);

#endif
