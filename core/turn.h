/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * turn.h - what one worker holds while it turns: the frames just received, what leaves, and its counters.
 *
 *     turn.c     one turn after the other
 *     worker.c   parses, looks up; hits                              ┐
 *     miss.c     the rest: classify, stages, store                   ├─► transmit.c ─► tx ring │ hand-off │ TAP │ back to the pool
 *     idle.c     when there is nothing to do                         ┘
 *
 * All of it belongs to the worker's thread, except what is marked atomic.
 */
#ifndef MR_CORE_TURN_H
#define MR_CORE_TURN_H

#include "core/batch.h"
#include "core/handoff.h"
#include "core/worker.h"
#include <pthread.h>

#define MR_PENDING            256 /* frames waiting for one egress before they are sent in the middle of a turn */
#define MR_GIVE               256 /* frames waiting to go back to the magazine */
#define MR_NEXTHOP_WAYS       8   /* copies of next hops kept during a turn */

#define MR_OFFLOAD_CANDIDATES 256 /* a power of two, and of 64 at least */

struct mr_egress {
	unsigned cnt;
	struct mr_frame frame[MR_PENDING];
	uint8_t ingress[MR_PENDING];
};

/* Frames of one queue, as arrays: the hit path touches no struct mr_packet. */
struct mr_arrivals {
	unsigned cnt;
	unsigned interface_id;
	uint16_t queue; /* of it; of fragments that come out of another ring, the one before */
	struct mr_frame frame[MR_BATCH];
	uint8_t *data[MR_BATCH];
	struct mr_parsed parsed[MR_BATCH];
	uint64_t arrived4; /* bit by packet: core/arrive.h knew it */
	/* by position among the packets of that family: */
	unsigned cnt4, cnt6;
	uint8_t idx4[MR_BATCH], idx6[MR_BATCH]; /* ... which packet it is */
	struct mr_key4 key4[MR_BATCH];
	struct mr_key6 key6[MR_BATCH];
	uint64_t hash4[MR_BATCH], hash6[MR_BATCH];
	struct mr_flow4 *rec4[MR_BATCH], copy4[MR_BATCH];
	struct mr_flow6 *rec6[MR_BATCH], copy6[MR_BATCH];
};

_Static_assert(MR_BATCH <= 64, "a bit a packet");

/* A record that was found, of either family. */
struct mr_found {
	struct mr_flow_state *live;     /* for counting */
	const struct mr_flow_state *st; /* of the copy */
	const struct mr_rewrite4 *r4;   /* one of the two */
	const struct mr_rewrite6 *r6;
	uint8_t ingress;
	uint8_t family;
	uint64_t hash;
	uint32_t mss;    /* core/mss.h; of a record always 0: segments with SYN are the stages' */
	const void *rec; /* the live record: mr_turn_ref() names it */
};

/* A packet that no record decides, and what was found of its session. */
struct mr_missed {
	uint8_t idx;      /* in mr_arrivals */
	uint32_t session; /* 0 = no record */
	uint16_t flags;
	uint16_t generation;
	mr_flow_ref ref;
};

struct mr_moment {
	uint32_t ms, turn;
};

/* Of a queue: packets were found in it, whenever it was looked at since. */
struct mr_filled {
	struct mr_moment since;
	bool is;
};

/* A flow to be left to the kernel tier as soon as nothing of it is under way here (core/offload_turn.c). */
struct mr_candidate {
	mr_flow_ref ref;
	uint32_t session;
	struct mr_moment born;
	uint16_t queue;
	uint8_t interface_id;
	bool closing; /* the record was marked so, and the session had not heard why */
};

struct mr_offloading {
	unsigned cnt;
	bool released; /* what waited for a neighbour is about to be sent: nothing goes over in this turn */
	uint64_t taken[MR_OFFLOAD_CANDIDATES / 64]; /* bit by slot, which is a hash of the reference */
	struct mr_filled filled[MR_MAX_INTERFACES + 1][MR_MAX_QUEUES]; /* of the queues served here */
	struct mr_candidate candidate[MR_OFFLOAD_CANDIDATES];
};

struct mr_worker {
	struct mr_pass pass;
	struct mr_shared *sh;
	unsigned idx;
	bool alone;           /* the only worker, and no kernel tier: nobody else writes records */
	bool offloads;        /* some pair of the plan's may be left to the kernel tier */
	struct mr_tier *tier; /* NULL: none */
	struct mr_plan *plan; /* of this turn */
	struct mr_stats_worker *stats;
	struct mr_magazine *magazine;
	uint8_t *base;
	uint32_t frame_mask; /* offset within a frame */
	uint64_t seed;

	struct mr_arrivals in;
	struct mr_missed missed[MR_BATCH];
	unsigned missed_cnt;

	/* fragments */
	struct mr_fragments *fragments;
	const struct mr_fragment_known
		*released;          /* of the batch at hand, by arrival: it was kept; NULL = just received */
	uint32_t fragments_crossed; /* bit by worker: to be notified */

	struct mr_packet packet[MR_BATCH];

	/* routing */
	const uint8_t *version[2]; /* of the buckets of IPv4 and IPv6 destinations (core/route.h) */
	struct mr_hold *hold;
	struct mr_icmp_limit *icmp_limit;
	struct mr_later *later; /* ICMP errors to be sent after a while (core/later.h) */
	uint64_t mac, mac_mask; /* of the interface being served: its first six bytes; mask 0: it has none */

	uint16_t nexthop_slot[MR_NEXTHOP_WAYS]; /* 0 = empty */
	struct mr_nexthop nexthop[MR_NEXTHOP_WAYS];

	struct mr_egress *egress;              /* [MR_MAX_INTERFACES + 1] */
	uint8_t active[MR_MAX_INTERFACES + 1]; /* egresses with frames */
	unsigned active_cnt;
	uint64_t give[MR_GIVE];
	unsigned give_cnt;
	bool taken_over; /* some of the frames are another worker's, who waits to hear that they were sent */

	struct mr_offloading offloading;

	uint32_t swept_ms;
	uint64_t busy_ns; /* when it last had something to do */

	pthread_t thread;
	bool started;
	atomic_bool stop;
	atomic_bool running;
	atomic_bool drained;
	atomic_bool waking; /* it is one of sh->asleep_cnt */
};

/* Adds to a cell that only this worker writes. */
static inline void mr_turn_add(uint64_t *cell, uint64_t n)
{
	__atomic_store_n(cell, *cell + n, __ATOMIC_RELAXED);
}

static inline void mr_turn_count(struct mr_count *c, uint64_t packets, uint64_t bytes)
{
	mr_turn_add(&c->packets, packets);
	mr_turn_add(&c->bytes, bytes);
}

static inline mr_flow_ref mr_turn_ref(const struct mr_flows *t, const struct mr_found *f)
{
	return f->family == 4 ? mr_flows_ref4(t, f->rec) : mr_flows_ref6(t, f->rec);
}

/* worker.c: the hit path */
/* Finishes the w->in.cnt frames of w->in.frame, received on this interface. */
void mr_turn_batch(struct mr_worker *w, unsigned interface_id);
/* One packet more in a record. */
void mr_turn_record_count(struct mr_worker *w, struct mr_flow_state *st, uint32_t bytes);
/* Carries out the record found for arrival `idx`, if it may be: false leaves the packet to the stages.  Counts hits, not received. */
bool mr_turn_hit(struct mr_worker *w, unsigned idx, const struct mr_found *f);
/* Looks one packet up by key; true and *f when there is a record.  The copies are kept in *c4 or *c6. */
bool mr_turn_find(struct mr_worker *w, const struct mr_flow_key *key, struct mr_found *f, struct mr_flow4 *c4,
	struct mr_flow6 *c6);
/* Applies a decision to a frame and sends it on its way, or holds it; the frame is gone afterwards. */
void mr_turn_apply(struct mr_worker *w, struct mr_frame f, uint8_t *data, const struct mr_parsed *p, uint8_t ingress,
	const struct mr_found *how);
/* The same for arrival `idx`. */
void mr_turn_apply_arrival(struct mr_worker *w, unsigned idx, uint8_t ingress, const struct mr_found *how);

/* answer.c: ICMP errors */
/* Drops a packet of a pipeline that routes, and says so to its sender where that is due.  Nothing has been written into the frame. */
void mr_answer_drop(struct mr_worker *w, const struct mr_frame *f, const uint8_t *data, const struct mr_parsed *p,
	uint8_t ingress, unsigned reason, uint32_t mtu);
/* Answers only; the frame stays the caller's.  kind: enum mr_icmp_kind.  mtu: with MR_ICMP_TOO_BIG. */
void mr_answer(struct mr_worker *w, const uint8_t *data, uint32_t len, const struct mr_parsed *p, uint8_t ingress,
	unsigned kind, uint32_t mtu);

/* fragment_turn.c */
/* A fragment of an interface whose fragments follow.  True: it goes on, its ports filled in; false: the frame is taken care of. */
bool mr_turn_fragment(struct mr_worker *w, unsigned arrival, uint16_t zone);
/* Those of n entries taken out of a ring that are not decided yet; uses w->in. */
void mr_turn_fragments_arrive(struct mr_worker *w, const struct mr_handoff_entry *e, unsigned n);
void mr_turn_fragments_release(struct mr_worker *w); /* what waits no longer; uses w->in */
void mr_turn_fragments_end(struct mr_worker *w); /* once a turn, before the flush: time-outs, other workers, gauges */
void mr_turn_fragments_discard(struct mr_worker *w);                                  /* the worker has ended */
void mr_turn_fragments_refuse(struct mr_worker *w, const struct mr_handoff_entry *e); /* an undecided entry, likewise */

/* miss.c */
void mr_miss_finish(struct mr_worker *w);                                       /* w->in, w->missed */
bool mr_miss_malformed(const struct mr_plan_pipeline *p, unsigned parse_error); /* it is dropped for that */
unsigned mr_miss_reason(unsigned parse_error); /* what a malformed frame is dropped under */

/* transmit.c; the frame belongs to the worker before, and not after */
void mr_transmit_overflow(struct mr_worker *w, unsigned egress); /* it is full: sends in the middle of a turn */
void mr_transmit_kernel(
	struct mr_worker *w, const struct mr_frame *f, const uint8_t *data, unsigned interface_id, uint8_t ingress);
void mr_transmit_give(
	struct mr_worker *w, uint64_t addr); /* back to the pool, not counted: what it carried went another way */
void mr_transmit_drop(struct mr_worker *w, const struct mr_frame *f, uint8_t ingress, unsigned reason);
void mr_transmit_flush(struct mr_worker *w);
void mr_transmit_sent(struct mr_worker *w);      /* after the flush, and the service of the queues */
void mr_transmit_tell_held(struct mr_worker *w); /* the gauge: hand-off rings it feeds, packets that wait */
unsigned mr_transmit_take(struct mr_worker *w);  /* frames other workers handed over; returns how many */
void mr_transmit_discard(struct mr_worker *w);   /* the same, to drop them: the worker has ended */

static inline void mr_transmit_frame(struct mr_worker *w, const struct mr_frame *f, unsigned egress, uint8_t ingress)
{
	if (!egress || egress > MR_MAX_INTERFACES) {
		mr_transmit_drop(w, f, ingress, MR_REASON_NO_NEXTHOP);
		return;
	}
	struct mr_egress *e = &w->egress[egress];
	if (!e->cnt)
		w->active[w->active_cnt++] = egress;
	/* one by one, as they were written a moment ago: read together they would have to wait for the stores */
	e->frame[e->cnt].addr = f->addr;
	e->frame[e->cnt].len = f->len;
	e->frame[e->cnt].options = f->options;
	e->ingress[e->cnt] = ingress;
	if (++e->cnt == MR_PENDING)
		mr_transmit_overflow(w, egress);
}

/* offload_turn.c: candidates for the kernel tier */
/* A packet was decided by this record, which is not marked yet or is marked CLOSING. */
void mr_offload_consider(struct mr_worker *w, mr_flow_ref ref, const struct mr_flow_state *live, uint8_t ingress);
void mr_offload_found(struct mr_worker *w, const struct mr_queue *queue, unsigned cnt); /* so many were in it */
void mr_offload_turn_end(struct mr_worker *w); /* after the flush; there are candidates */
void mr_offload_begin(struct mr_worker *w);    /* another plan */

/* idle.c */
void mr_idle_rest(struct mr_worker *w);

#endif
