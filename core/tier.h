/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tier.h - the user side of the kernel tier (kern/tier.h): makes the memory both share, says what is in force, reads what was counted.
 *
 *     create ─► flow table, next hops, route versions, meters lie in its memory
 *            ─► every interface's steering program is loaded with its maps (core/steer.h)
 *            ─► publish(plan): records of this generation may be carried out          ◄─ with every new plan
 *            ─► beat(): the owner lives                                               ◄─ workers and control
 *            ─► stop(): nothing is offloaded any more
 *
 * What is in force is one word, so a new configuration holds for every packet that begins after the store.  Offloading a flow is a flag
 * in its record (core/offload.h); everything else that may change (link, MAC, MTU, route, neighbour) XDP looks at itself.
 */
#ifndef MR_CORE_TIER_H
#define MR_CORE_TIER_H

#include "core/error.h"
#include "kern/tier.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bpf_object;
struct mr_plan;
struct mr_stats;
struct mr_tier_maps;

struct mr_tier_options {
	uint64_t seed;         /* of the flow table's hash */
	size_t flows_bytes[2]; /* of the bucket arrays, IPv4 and IPv6 (core/flow.h: mr_flows_bytes4/6) */
};

/* Makes the maps and maps them.  -EPERM, -ENOMEM, with the sentence: the program then runs without a kernel tier.  What the egress did not
 * take is counted where the kernel has tracepoints with BTF; *uncounted_why ("" = it is) says why not.  Threads: control. */
int mr_tier_create(const struct mr_tier_options *opt, struct mr_tier_maps **out, struct mr_error *e);
void mr_tier_destroy(struct mr_tier_maps *t); /* NULL allowed; after all that lies in its memory */

/* ---- memory others live in ---------------------------------------------------------------------------------- */

struct mr_tier *mr_tier_shared(struct mr_tier_maps *t);
void *mr_tier_flows(struct mr_tier_maps *t, bool v6);
struct mr_nexthop *mr_tier_nexthops(struct mr_tier_maps *t);              /* [MR_MAX_NEXTHOPS] */
struct mr_effect *mr_tier_effects(struct mr_tier_maps *t, unsigned half); /* [MR_EFFECTS] */
struct mr_meter *mr_tier_meters(struct mr_tier_maps *t, unsigned half);   /* [MR_METERS] */

/* ---- programs ------------------------------------------------------------------------------------------------ */

/* Gives the opened steering object, not loaded yet, these maps in place of its own, so that its packets meet the tier. */
int mr_tier_join(struct mr_tier_maps *t, struct bpf_object *steer, struct mr_error *e);

/*
 * Packets may leave by interface_id: the device `ifindex`, which takes redirected frames (core/redirect.h) and whose link is up; 0: they
 * may not, and come up.  At once.  0 or what bpf(2) says.  Threads: control.
 */
int mr_tier_egress(struct mr_tier_maps *t, unsigned interface_id, uint32_t ifindex);

/* ---- what is in force ---------------------------------------------------------------------------------------- */

/* The half a plan of this serial uses, for its effects. */
static inline unsigned mr_tier_half_of(uint64_t serial)
{
	return serial & (MR_TIER_HALVES - 1);
}

/* Fills the plan's half and puts it in force; of the plan in force (a device came or went) it changes what changed.  Threads: control. */
void mr_tier_publish(struct mr_tier_maps *t, const struct mr_plan *plan);
/* Nothing is offloaded any more, until the next publish.  For the end of the program, before interfaces are quieted. */
void mr_tier_stop(struct mr_tier_maps *t);

/* Somebody lives.  At least every MR_TIER_HEARTBEAT_MS / 4.  Threads: any. */
static inline void mr_tier_beat(struct mr_tier *shared, uint32_t now_ms)
{
	if (now_ms - __atomic_load_n(&shared->heartbeat_ms, __ATOMIC_RELAXED) >= 16)
		__atomic_store_n(&shared->heartbeat_ms, now_ms, __ATOMIC_RELAXED);
}

/* ---- what was counted ---------------------------------------------------------------------------------------- */

/* Brings the tier's counters into its own cells of `s`, where sums find them.  Threads: control. */
void mr_tier_collect(struct mr_tier_maps *t, struct mr_stats *s);

/* Of an egress, summed over CPUs. */
void mr_tier_egress_read(struct mr_tier_maps *t, unsigned interface_id, struct mr_tier_egress *out);

#endif
