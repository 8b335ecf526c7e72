/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handoff.h - frames for another worker: those that leave by a queue of it, and fragments that it is to decide.
 *
 *     worker a ──ring[a][b]──► worker b        one producer, one consumer: no lock, no compare-and-swap
 *        └── b asleep? ──eventfd──► b
 *
 * A frame in a ring is owned by the ring (tag HELD); who takes it out owns it.  The producer counts what it could not put in.
 * A sleeper announces itself, looks once more, and only then sleeps; a producer puts first and looks for sleepers after: with a full
 * fence between the two steps on both sides nobody sleeps over a full ring.
 */
#ifndef MR_CORE_HANDOFF_H
#define MR_CORE_HANDOFF_H

#include "millrace/interface.h"
#include <stdbool.h>
#include <stdint.h>

#define MR_HANDOFF_RING 1024 /* entries; a power of two */

struct mr_handoff_entry {
	struct mr_frame frame;
	uint8_t egress;  /* interface id; 0: it is not decided yet */
	uint8_t ingress; /* pair that is told how it ended */
	uint8_t arrived; /* not decided yet: the interface it was received on, and is to be treated as if received there; else 0 */
};

struct mr_handoff;

/* All rings between worker_cnt workers.  NULL = no memory or no eventfd.  Threads: control. */
struct mr_handoff *mr_handoff_create(unsigned worker_cnt);
void mr_handoff_destroy(struct mr_handoff *h); /* empty: its workers are gone */

/* Puts up to n entries into the ring from `from` to `to`; returns how many.  Threads: worker `from`. */
unsigned mr_handoff_put(struct mr_handoff *h, unsigned from, unsigned to, const struct mr_handoff_entry *e, unsigned n);
/* Wakes `to` if it sleeps: once after a round of puts.  Threads: any. */
void mr_handoff_notify(struct mr_handoff *h, unsigned to);
/* Takes up to n entries meant for `to` out of the ring from `from`.  Threads: worker `to`. */
unsigned mr_handoff_take(struct mr_handoff *h, unsigned from, unsigned to, struct mr_handoff_entry *e, unsigned n);
/* Decided entries in the rings that `from` feeds (those that only `arrived` nobody has counted as received yet).  Exact for `from` but for
 * what consumers take meanwhile.  Threads: any. */
unsigned mr_handoff_held(const struct mr_handoff *h, unsigned from);
/* All that was taken out for `to` has left it, or is held as a fragment.  Threads: worker `to`. */
void mr_handoff_sent(struct mr_handoff *h, unsigned to);
/* Something `from` put in is in a ring, or was taken out and is not sent.  Threads: worker `from`. */
bool mr_handoff_under_way(const struct mr_handoff *h, unsigned from);
/* Entries waiting for `to`.  Threads: any. */
unsigned mr_handoff_waiting(const struct mr_handoff *h, unsigned to);

/* Sleeping: announce, check mr_handoff_waiting() and whatever else, poll the fd, end.  Threads: worker. */
void mr_handoff_sleep_begin(struct mr_handoff *h, unsigned worker);
void mr_handoff_sleep_end(struct mr_handoff *h, unsigned worker); /* also empties the eventfd */
int mr_handoff_fd(const struct mr_handoff *h, unsigned worker);
/* Ends its sleep, now or the next one it begins.  Threads: any. */
void mr_handoff_wake(struct mr_handoff *h, unsigned worker);

#endif
