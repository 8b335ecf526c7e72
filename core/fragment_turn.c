/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fragment_turn.c - fragments on their way through a worker: to the worker that owns their datagram, into its table, and on.
 *
 *     rx ─► owner? ─no─► hand-off ring ("arrived") ─► the owner's next turn, as if received there
 *             └─yes─► mr_fragment_see() ─┬─ goes on, filled in ─────────────────────────────┐
 *                                        ├─ kept ─► mr_fragment_next() ─► a batch of its own ┴─► hits, stages
 *                                        └─ refused ─► dropped
 *
 * A fragment is counted as received where it is decided, under the pair its datagram's ports belong to: until then, in a ring or kept, it
 * is in nobody's counters (nor in `held`), so that received is at every moment the sum of outcomes.  mr_stats_worker.fragments tells
 * how many are kept.
 */
#include "core/fragment.h"
#include "core/turn.h"

/* Since it was received its interface may have left the configuration, and another one have its number: `fallback`, the pair of what no
 * pipeline of it takes, is that of its name for ever. */
static bool same_interface(const struct mr_plan *plan, unsigned interface_id, uint8_t fallback)
{
	const struct mr_plan_interface *pi = &plan->interface[interface_id];
	return pi->name && pi->ingress_none == fallback;
}

static void drop(struct mr_worker *w, const struct mr_plan *plan, const struct mr_frame *f, unsigned interface_id,
	uint8_t fallback, unsigned reason)
{
	const struct mr_plan_interface *pi = &plan->interface[interface_id];
	const uint8_t *data = w->base + f->addr;
	uint8_t ingress = fallback;
	struct mr_parsed p;
	if (same_interface(plan, interface_id, fallback)) {
		mr_parse(data, data + f->len, &p);
		int pipeline = mr_steer_classify(pi->steer, &p, data);
		ingress = pipeline < 0 ? pi->ingress_none : pi->ingress[pipeline];
	}
	mr_turn_count(&w->stats->ingress[ingress].received, 1, f->len);
	mr_transmit_drop(w, f, ingress, reason);
}

static void cross(struct mr_worker *w, unsigned i, unsigned owner)
{
	const unsigned id = w->in.interface_id;
	const struct mr_handoff_entry e = {
		.frame = w->in.frame[i], .arrived = id, .ingress = w->plan->interface[id].ingress_none
	};
	mr_frames_tag(w->sh->frames, e.frame.addr, MR_OWNER_HELD, id, w->idx);
	if (!mr_handoff_put(w->sh->handoff, w->idx, owner, &e, 1)) {
		drop(w, w->plan, &e.frame, id, e.ingress, MR_REASON_HANDOFF_FULL);
		return;
	}
	mr_turn_add(&w->stats->handoff_out, 1);
	w->fragments_crossed |= 1u << owner;
}

bool mr_turn_fragment(struct mr_worker *w, unsigned i, uint16_t zone)
{
	const struct mr_plan_interface *pi = &w->plan->interface[w->in.interface_id];
	struct mr_parsed *p = &w->in.parsed[i];
	struct mr_frame *f = &w->in.frame[i];
	struct mr_fragment_key key;
	unsigned reason = MR_REASON_NONE;
	if (w->released) {
		mr_fragment_fill(&w->released[i], p);
		return true;
	}
	/* Malformed ones are dropped for that; those no pipeline could want are the kernel's in any order. */
	if (!mr_fragment_follows(p) || !mr_steer_wants_fragment(pi->steer, p, w->in.data[i]))
		return true;
	mr_fragment_key(p, w->in.data[i], zone, w->seed, &key);
	unsigned owner = mr_fragment_owner(&key, w->sh->worker_cnt);
	if (owner != w->idx) {
		cross(w, i, owner);
		return false;
	}
	switch (mr_fragment_see(w->fragments, &key, p, w->in.data[i], f, w->in.interface_id, pi->ingress_none,
		w->pass.now_ns, &reason)) {
	case MR_FRAGMENT_GO:
		return true;
	case MR_FRAGMENT_KEPT:
		mr_frames_tag(w->sh->frames, f->addr, MR_OWNER_HELD, w->in.interface_id, w->idx);
		return false;
	default:
		drop(w, w->plan, f, w->in.interface_id, pi->ingress_none, reason);
		return false;
	}
}

/* ---- arrived at another worker ---------------------------------------------------------------------------------------- */

void mr_turn_fragments_arrive(struct mr_worker *w, const struct mr_handoff_entry *e, unsigned n)
{
	struct mr_arrivals *in = &w->in;
	for (unsigned i = 0; i < n;) {
		const unsigned id = e[i].arrived;
		for (in->cnt = 0; i < n && e[i].arrived == id && in->cnt < MR_BATCH; i++) {
			if (id && same_interface(w->plan, id, e[i].ingress))
				in->frame[in->cnt++] = e[i].frame;
			else if (id)
				drop(w, w->plan, &e[i].frame, id, e[i].ingress, MR_REASON_STOPPING);
		}
		if (in->cnt)
			mr_turn_batch(w, id);
	}
	if (mr_fragment_any_held(w->fragments))
		mr_turn_fragments_release(w);
}

/* ---- kept no longer ------------------------------------------------------------------------------------------------------ */

static void run(struct mr_worker *w, unsigned interface_id, const struct mr_fragment_known *known)
{
	if (!w->in.cnt)
		return;
	w->released = known;
	mr_turn_batch(w, interface_id);
	w->released = NULL;
	w->in.cnt = 0;
}

void mr_turn_fragments_release(struct mr_worker *w)
{
	struct mr_fragment_known known[MR_BATCH];
	struct mr_fragment_out o;
	unsigned id = 0;
	w->in.cnt = 0;
	while (mr_fragment_next(w->fragments, &o)) {
		bool gone = !same_interface(w->plan, o.interface_id, o.fallback);
		if (o.reason || gone) {
			drop(w, w->plan, &o.frame, o.interface_id, o.fallback,
				o.reason ? o.reason : MR_REASON_STOPPING);
			continue;
		}
		if (w->in.cnt == MR_BATCH || id != o.interface_id)
			run(w, id, known);
		id = o.interface_id;
		known[w->in.cnt] = o.known;
		w->in.frame[w->in.cnt++] = o.frame;
	}
	run(w, id, known);
}

void mr_turn_fragments_end(struct mr_worker *w)
{
	struct mr_fragment_usage u;
	mr_fragment_expire(w->fragments, w->pass.now_ns);
	if (mr_fragment_any_held(w->fragments))
		mr_turn_fragments_release(w);
	for (unsigned to = 0; w->fragments_crossed && to < w->sh->worker_cnt; to++)
		if (w->fragments_crossed >> to & 1)
			mr_handoff_notify(w->sh->handoff, to);
	w->fragments_crossed = 0;
	mr_fragment_usage(w->fragments, &u);
	__atomic_store_n(&w->stats->fragments, u.held_cnt, __ATOMIC_RELAXED);
	__atomic_store_n(&w->stats->fragments_forgotten, u.forgotten, __ATOMIC_RELAXED);
}

void mr_turn_fragments_discard(struct mr_worker *w)
{
	const struct mr_plan *plan = atomic_load_explicit(&w->sh->plan, memory_order_acquire);
	struct mr_fragment_out o;
	mr_fragment_forget_all(w->fragments, MR_REASON_STOPPING);
	while (mr_fragment_next(w->fragments, &o))
		drop(w, plan, &o.frame, o.interface_id, o.fallback, MR_REASON_STOPPING);
	__atomic_store_n(&w->stats->fragments, 0, __ATOMIC_RELAXED);
}

void mr_turn_fragments_refuse(struct mr_worker *w, const struct mr_handoff_entry *e)
{
	const struct mr_plan *plan = atomic_load_explicit(&w->sh->plan, memory_order_acquire);
	drop(w, plan, &e->frame, e->arrived, e->ingress, MR_REASON_STOPPING);
}
