/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tier.h - the user side of the kernel tier (kern/tier.h): makes the memory both share, says what is in force, reads what was counted.
 *
 *     create ─► flow table, next hops, route versions, meters lie in its memory
 *            ─► every interface's steering program is loaded with its maps (core/steer.h)
 *     take ─► a half for a new plan's effects ─► publish(plan): records of this generation may be carried out ─► give
 *            ─► beat(): the owner lives                                               ◄─ workers and control
 *            ─► stop(): nothing is offloaded any more
 *
 * What is in force is one word, so a new configuration holds for every packet that begins after the store.  Offloading a flow is a flag
 * in its record (core/offload.h); everything else that may change (link, MAC, MTU, route, neighbour) XDP looks at itself.
 *
 * tier.c makes and lends the maps, tier_plan.c knows plans and counters; core/egress.h is what the runtime does with both.
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
struct mr_xmit_maps;

struct mr_tier_options {
	uint64_t seed;         /* of the flow table's hash */
	size_t flows_bytes[2]; /* of the bucket arrays, IPv4 and IPv6 (core/flow.h: mr_flows_bytes4/6) */
};

/* Makes the maps and maps them, with nothing in force.  -EPERM, -ENOMEM (also when it would be nearly all there is), -EINVAL (no whole buckets),
 * what bpf(2) says; with the sentence: the program then runs without a kernel tier.  Threads: control. */
int mr_tier_create(const struct mr_tier_options *opt, struct mr_tier_maps **out, struct mr_error *e);
/* What that takes of the kernel's memory, all of it at once: the flow table's buckets, and what does not grow with it. */
size_t mr_tier_bytes(const struct mr_tier_options *opt);
/* After all that lies in its memory; programs keep its maps as long as they are loaded.  NULL allowed. */
void mr_tier_destroy(struct mr_tier_maps *t);
/* For counting what an egress does not take (core/xmit.h). */
struct mr_xmit_maps mr_tier_xmit_maps(const struct mr_tier_maps *t);

/* ---- memory others live in ---------------------------------------------------------------------------------- */

struct mr_tier *mr_tier_shared(struct mr_tier_maps *t);
void *mr_tier_flows(struct mr_tier_maps *t, bool v6);
struct mr_nexthop *mr_tier_nexthops(struct mr_tier_maps *t);              /* [MR_MAX_NEXTHOPS] */
struct mr_effect *mr_tier_effects(struct mr_tier_maps *t, unsigned half); /* [MR_EFFECTS] */
struct mr_meter *mr_tier_meters(struct mr_tier_maps *t, unsigned half);   /* [MR_METERS] */

/* ---- programs ------------------------------------------------------------------------------------------------ */

/* Gives an opened object, not loaded yet, these maps in place of those of the same name.  -EINVAL: one is of another shape. */
int mr_tier_join(struct mr_tier_maps *t, struct bpf_object *object, struct mr_error *e);
/* The constants of an interface's program that has joined. */
struct mr_tier_fixed mr_tier_fixed(const struct mr_tier_maps *t, unsigned interface_id);

/* Another program is to serve this interface: its queues count from 0, as its sockets do.  Before it is attached. */
void mr_tier_begin(struct mr_tier_maps *t, unsigned interface_id);

/*
 * Packets may leave by interface_id: the device `ifindex`, which takes redirected frames (core/redirect.h) and whose link is up; 0: they
 * may not, and come up.  At once.  0 or what bpf(2) says.  Threads: control.
 */
int mr_tier_egress(struct mr_tier_maps *t, unsigned interface_id, uint32_t ifindex);

/* Whether they may.  Threads: any. */
bool mr_tier_takes(const struct mr_tier_maps *t, unsigned interface_id);

/* ---- what is in force ---------------------------------------------------------------------------------------- */

/*
 * A half for the effects and meters of a plan to be made: one that no plan has, neither that in force nor one given up which a late worker
 * may still be in; returns when no XDP program uses it any more either.  -1: there is none, the plan's effects lie elsewhere and
 * mr_tier_publish() offloads nothing.  Waits some 10 ms.  Threads: control.
 */
int mr_tier_take(struct mr_tier_maps *t);
/* The plan is ended, or never came into force.  -1 allowed. */
void mr_tier_give(struct mr_tier_maps *t, int half);

/* Fills the plan's half and puts it in force; of the plan in force (a device came or went) it changes what changed.  A plan without a half:
 * nothing is offloaded.  Threads: control. */
void mr_tier_publish(struct mr_tier_maps *t, const struct mr_plan *plan);
/* Nothing is offloaded any more, until the next publish; nothing is under way in XDP when it returns (some 10 ms).  For the end of the
 * program, before interfaces are quieted. */
void mr_tier_stop(struct mr_tier_maps *t);
/* Returns when every XDP program that was running has ended.  0 or what bpf(2) says. */
int mr_tier_settle(struct mr_tier_maps *t);

/* Nobody has said for long that he lives (the process was stopped): XDP may have sent packets up. */
static inline bool mr_tier_stopped(const struct mr_tier *shared, uint64_t now_ns)
{
	return (int64_t)(now_ns - __atomic_load_n(&shared->heartbeat_ns, __ATOMIC_RELAXED)) >=
		MR_TIER_HEARTBEAT_MS * 750000LL;
}

/* Somebody lives.  At least every MR_TIER_HEARTBEAT_MS / 4.  Does not wake a heart that has stopped: packets wait in the queues, and those
 * behind them would overtake them.  Threads: any. */
static inline void mr_tier_beat(struct mr_tier *shared, uint64_t now_ns)
{
	uint64_t last_ns = __atomic_load_n(&shared->heartbeat_ns, __ATOMIC_RELAXED);
	if ((int64_t)(now_ns - last_ns) >= 16000000 && !mr_tier_stopped(shared, now_ns))
		__atomic_store_n(&shared->heartbeat_ns, now_ns, __ATOMIC_RELAXED);
}

/* The first beat, and the next one when nothing waits any more.  Threads: any (mr_worker_wake_tier). */
static inline void mr_tier_wake(struct mr_tier *shared, uint64_t now_ns)
{
	__atomic_store_n(&shared->heartbeat_ns, now_ns, __ATOMIC_RELAXED);
}

/* ---- what was counted ---------------------------------------------------------------------------------------- */

/*
 * Brings the tier's counters into its own cells of `s`, where sums find them.  A CPU counts on while it is read, so of the fields of a pair
 * one is worked out: received = forwarded + kernel + dropped, always.  None ever goes back: a frame the egress did not take is taken off
 * `forwarded` as those that follow are added.  Bytes forwarded are those given to the egress.  Threads: control.
 */
void mr_tier_collect(struct mr_tier_maps *t, struct mr_stats *s);

/* Adds one CPU's to a sum, whose error is the latest of all. */
static inline void mr_tier_egress_add(struct mr_tier_egress *sum, const struct mr_tier_egress *cpu)
{
	sum->sent_packets += cpu->sent_packets;
	sum->sent_bytes += cpu->sent_bytes;
	sum->lost_packets += cpu->lost_packets;
	sum->refused += cpu->refused;
	if (cpu->refused_ns > sum->refused_ns) {
		sum->refused_ns = cpu->refused_ns;
		sum->refused_errno = cpu->refused_errno;
	}
	if (cpu->last_ingress)
		sum->last_ingress = cpu->last_ingress;
}

/* Of an egress, summed over CPUs. */
void mr_tier_egress_read(struct mr_tier_maps *t, unsigned interface_id, struct mr_tier_egress *out);

#endif
