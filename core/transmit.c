/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * transmit.c - the ways out of a worker.  Every frame that came in leaves by exactly one of them, and is counted there.
 */
#include "core/hold.h"
#include "core/turn.h"

#define TX_TRIES 4 /* offers to a full ring in one turn, with a service in between; then the frames are dropped */

void mr_transmit_give(struct mr_worker *w, uint64_t addr)
{
	if (w->give_cnt == MR_GIVE) {
		mr_frames_give(w->magazine, w->give, w->give_cnt);
		w->give_cnt = 0;
	}
	w->give[w->give_cnt++] = addr;
}

void mr_transmit_drop(struct mr_worker *w, const struct mr_frame *f, uint8_t ingress, unsigned reason)
{
	mr_turn_add(&w->stats->ingress[ingress].dropped[reason], 1);
	mr_transmit_give(w, f->addr);
}

void mr_transmit_kernel(
	struct mr_worker *w, const struct mr_frame *f, const uint8_t *data, unsigned interface_id, uint8_t ingress)
{
	struct mr_handback *h = w->plan->interface[interface_id].handback;
	if (!h || mr_handback_send(h, data, f->len)) {
		mr_transmit_drop(w, f, ingress, MR_REASON_HANDBACK);
		return;
	}
	mr_turn_count(&w->stats->ingress[ingress].kernel, 1, f->len);
	mr_transmit_give(w, f->addr);
}

static void drop_range(struct mr_worker *w, const struct mr_egress *e, unsigned from, unsigned reason)
{
	for (unsigned i = from; i < e->cnt; i++)
		mr_transmit_drop(w, &e->frame[i], e->ingress[i], reason);
}

/* The first n were accepted.  Neighbours mostly share their pair: its cells are written once a run. */
static void count_forwarded(struct mr_worker *w, const struct mr_egress *e, unsigned n)
{
	for (unsigned i = 0; i < n;) {
		uint8_t ingress = e->ingress[i];
		uint64_t packets = 0, bytes = 0;
		for (; i < n && e->ingress[i] == ingress; i++) {
			packets++;
			bytes += e->frame[i].len;
		}
		mr_turn_count(&w->stats->ingress[ingress].forwarded, packets, bytes);
	}
}

static void send_own(struct mr_worker *w, struct mr_queue *q, struct mr_egress *e)
{
	unsigned sent = 0;
	for (unsigned try = 0; try < TX_TRIES && sent < e->cnt; try++) {
		if (try)
			q->ops->service(q);
		sent += q->ops->tx(q, e->frame + sent, e->cnt - sent);
	}
	count_forwarded(w, e, sent);
	drop_range(w, e, sent, MR_REASON_TX_FULL);
}

static void hand_over(struct mr_worker *w, unsigned id, unsigned to, struct mr_egress *e)
{
	struct mr_handoff_entry entry[MR_PENDING];
	for (unsigned i = 0; i < e->cnt; i++) {
		entry[i] = (struct mr_handoff_entry){ .frame = e->frame[i], .egress = id, .ingress = e->ingress[i] };
		mr_frames_tag(w->sh->frames, e->frame[i].addr, MR_OWNER_HELD, id, w->idx);
	}
	unsigned put = mr_handoff_put(w->sh->handoff, w->idx, to, entry, e->cnt);
	mr_turn_add(&w->stats->handoff_out, put);
	mr_handoff_notify(w->sh->handoff, to);
	drop_range(w, e, put, MR_REASON_HANDOFF_FULL);
}

static void flush_one(struct mr_worker *w, unsigned id)
{
	const struct mr_plan_interface *pi = &w->plan->interface[id];
	struct mr_egress *e = &w->egress[id];
	if (!pi->queue_cnt || pi->link_down)
		drop_range(w, e, 0, MR_REASON_LINK_DOWN);
	else if (w->idx < pi->queue_cnt)
		send_own(w, pi->queue[w->idx], e);
	else
		hand_over(w, id, w->idx % pi->queue_cnt, e);
	e->cnt = 0;
}

void mr_transmit_overflow(struct mr_worker *w, unsigned egress)
{
	flush_one(w, egress);
	for (unsigned i = 0; i < w->active_cnt; i++)
		if (w->active[i] == egress)
			w->active[i] = w->active[--w->active_cnt];
}

void mr_transmit_tell_held(struct mr_worker *w)
{
	uint64_t held = mr_handoff_held(w->sh->handoff, w->idx) + mr_hold_cnt(w->hold);
	__atomic_store_n(&w->stats->held, held, __ATOMIC_RELAXED);
}

void mr_transmit_flush(struct mr_worker *w)
{
	for (unsigned i = 0; i < w->active_cnt; i++)
		flush_one(w, w->active[i]);
	w->active_cnt = 0;
	if (w->give_cnt)
		mr_frames_give(w->magazine, w->give, w->give_cnt);
	w->give_cnt = 0;
	mr_transmit_tell_held(w);
}

void mr_transmit_sent(struct mr_worker *w)
{
	if (w->taken_over)
		mr_handoff_sent(w->sh->handoff, w->idx);
	w->taken_over = false;
}

static void take_in(struct mr_worker *w, const struct mr_handoff_entry *e, unsigned n)
{
	unsigned arrived = 0;
	for (unsigned i = 0; i < n; i++) {
		if (e[i].arrived)
			arrived++;
		else
			mr_transmit_frame(w, &e[i].frame, e[i].egress, e[i].ingress);
	}
	if (arrived)
		mr_turn_fragments_arrive(w, e, n);
}

/* All that is in the rings: a turn of another worker may put in a batch of each of its interfaces. */
unsigned mr_transmit_take(struct mr_worker *w)
{
	struct mr_handoff_entry e[MR_BATCH];
	unsigned sum = 0;
	for (unsigned from = 0; from < w->sh->worker_cnt; from++) {
		unsigned n = MR_BATCH;
		for (unsigned taken = 0; n == MR_BATCH && taken < MR_HANDOFF_RING; taken += n) {
			n = mr_handoff_take(w->sh->handoff, from, w->idx, e, MR_BATCH);
			take_in(w, e, n);
			sum += n;
		}
	}
	mr_turn_add(&w->stats->handoff_in, sum);
	w->taken_over |= sum > 0;
	return sum;
}

void mr_transmit_discard(struct mr_worker *w)
{
	struct mr_handoff_entry e[MR_BATCH];
	for (unsigned from = 0; from < w->sh->worker_cnt; from++) {
		unsigned n;
		while ((n = mr_handoff_take(w->sh->handoff, from, w->idx, e, MR_BATCH)) > 0) {
			mr_turn_add(&w->stats->handoff_in, n);
			for (unsigned i = 0; i < n; i++) {
				if (e[i].arrived)
					mr_turn_fragments_refuse(w, &e[i]);
				else
					mr_transmit_drop(w, &e[i].frame, e[i].ingress, MR_REASON_STOPPING);
			}
		}
	}
	if (w->give_cnt)
		mr_frames_give(w->magazine, w->give, w->give_cnt);
	w->give_cnt = 0;
	mr_transmit_tell_held(w);
}
