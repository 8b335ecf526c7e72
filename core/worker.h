/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * worker.h - the poll-mode loop: one pinned thread, queue i of every interface, run to completion.
 *
 *     rx ─► parse ─► lookup ─┬─ hit ──────────────► apply ─► transmit │ kernel │ drop
 *                            └─ miss ─► stages ─► store ─┘
 *
 * Nothing in the loop locks or allocates.  A frame whose egress queue belongs to another worker crosses by a single-producer
 * single-consumer hand-off ring (core/handoff.h).
 */
#ifndef MR_CORE_WORKER_H
#define MR_CORE_WORKER_H

#include "core/epoch.h"
#include "core/frames.h"
#include "core/plan.h"
#include "core/session.h"
#include "core/stats.h"
#include <stdatomic.h>

#define MR_WORKERS_MAX 32
#define MR_BATCH       64

struct mr_worker;
struct mr_handoff; /* all rings between all workers */
struct mr_tier_maps;

/* What all workers share; made by the runtime (or a test) before the first worker. */
struct mr_shared {
	_Atomic(struct mr_plan *) plan;
	_Atomic(struct mr_plan *) abandoned; /* plans given up; ended with the workers */
	struct mr_frames *frames;
	struct mr_flows *flows;
	struct mr_sessions *sessions;
	struct mr_epoch *epoch; /* slot w = worker w; slot worker_cnt = control */
	struct mr_stats *stats;
	struct mr_nexthops *nexthops;
	struct mr_neighbours *neighbours; /* NULL: nothing routes */
	struct mr_routes *routes;         /* NULL: likewise */
	struct mr_tier_maps *tier;        /* NULL: no kernel tier */
	struct mr_handoff *handoff;
	unsigned worker_cnt;
	atomic_uint asleep_cnt;        /* workers that have not found their queues empty since mr_worker_wake_tier() */
	struct mr_config_workers idle; /* idle mode and spin time */
};

/* Makes worker `idx` without a thread: mr_worker_poll() may then be called by hand (tests, benches). */
int mr_worker_create(struct mr_shared *sh, unsigned idx, struct mr_worker **out, struct mr_error *e);
void mr_worker_destroy(struct mr_worker *w); /* NULL allowed; stopped */

/* One turn: receives up to a batch from each of its queues and finishes it.  Returns packets received (and taken from hand-off). */
unsigned mr_worker_poll(struct mr_worker *w);
/* True when all its sources are drained and nothing is in flight (capture files). */
bool mr_worker_drained(const struct mr_worker *w);
/* The worker that is the last of all to find its queues empty wakes the kernel tier's heart (core/tier.h).  Threads: control. */
void mr_worker_wake_tier(struct mr_shared *sh, struct mr_worker *const *worker);

/* Starts the thread, pinned to `core` (-1 = not pinned).  -EAGAIN, -EINVAL (no such core), -EPERM. */
int mr_worker_start(struct mr_worker *w, int core, struct mr_error *e);
/* Asks it to end, wakes it and joins it.  Frames that wait for it are counted as STOPPING and given back; again for a worker that has ended
 * (others may have handed over meanwhile).  NULL allowed.  Threads: control. */
void mr_worker_stop(struct mr_worker *w);
/* Wakes a sleeping worker (new plan, hand-off).  Threads: any. */
void mr_worker_wake(struct mr_worker *w);
bool mr_worker_running(const struct mr_worker *w);

/*
 * What would happen to a packet: fills `text` with lines.  Runs classification, lookup and stages on the real tables with the control
 * slot of every stage; stores and counts nothing.  frame: a whole Ethernet frame.  Threads: control.
 */
struct mr_explanation {
	char text[4096];
	char verdict[32]; /* forward, drop, kernel, unmatched */
	char reason[64];  /* drop reason, or "" */
	char pipeline[64];
	char egress[64];
	bool from_record; /* a stored record decides */
	bool stored;      /* the decision would be stored */
};
int mr_worker_explain(struct mr_shared *sh, struct mr_plan *plan, unsigned interface_id, const void *frame,
	uint32_t len, struct mr_explanation *out, struct mr_error *e);

#endif
