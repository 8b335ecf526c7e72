/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * turn.c - one turn of a worker, from its queues to its queues, and what is done between two packets; its making and ending.
 */
#include "core/turn.h"

#include "core/fragment.h"
#include "core/hold.h"
#include "core/icmp.h"
#include "core/later.h"
#include "core/route.h"
#include "core/tier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SWEEP_MS_MAX 16 /* a worker that slept long sweeps no more than this at once */

/* ---- the turn ---------------------------------------------------------------------------------------------------- */

static unsigned serve(struct mr_worker *w, struct mr_queue *q, unsigned interface_id)
{
	unsigned n = q->ops->rx(q, w->in.frame, MR_BATCH);
	if (w->offloads)
		mr_offload_found(w, q, n);
	if (!n)
		return 0;
	w->in.cnt = n;
	w->in.queue = q->queue_idx;
	mr_turn_batch(w, interface_id);
	if (mr_fragment_any_held(w->fragments))
		mr_turn_fragments_release(w);
	return n;
}

static void tell_time(struct mr_worker *w)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	w->pass.now_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	w->pass.now_ms = (uint32_t)(w->pass.now_ns / 1000000u);
}

/* About once a millisecond: time-outs and what stages want done. */
static void housekeep(struct mr_worker *w)
{
	uint32_t elapsed_ms = w->pass.now_ms - w->swept_ms;
	if (!elapsed_ms)
		return;
	w->swept_ms = w->pass.now_ms;
	if (w->tier)
		mr_tier_beat(w->tier, w->pass.now_ns);
	if (elapsed_ms > SWEEP_MS_MAX)
		elapsed_ms = SWEEP_MS_MAX;
	mr_sessions_sweep(w->sh->sessions, w->idx, w->pass.now_ms, elapsed_ms * mr_sessions_budget(w->sh->sessions));
	for (unsigned i = 0; i < w->plan->stage_cnt; i++) {
		const struct mr_plan_stage *s = &w->plan->stage[i];
		if (s->type->tick)
			s->type->tick(s->self, w->idx, w->pass.now_ns);
	}
}

/* Queues i, i + workers ... of every interface.  Found anew each turn: a plan's address may be that of one before. */
static unsigned serve_all(struct mr_worker *w, bool *drained)
{
	unsigned got = 0;
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		const struct mr_plan_interface *pi = &w->plan->interface[id];
		for (unsigned q = w->idx; q < pi->queue_cnt; q += w->sh->worker_cnt) {
			unsigned n = serve(w, pi->queue[q], id);
			if (!n && !pi->queue[q]->ops->drained(pi->queue[q]))
				*drained = false;
			got += n;
		}
	}
	return got;
}

static void service_all(struct mr_worker *w)
{
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		const struct mr_plan_interface *pi = &w->plan->interface[id];
		for (unsigned q = w->idx; q < pi->queue_cnt; q += w->sh->worker_cnt)
			pi->queue[q]->ops->service(pi->queue[q]);
	}
}

/* Nothing waits here.  At once, so that nothing new does. */
static void wake_tier(struct mr_worker *w)
{
	if (atomic_exchange(&w->waking, false) && atomic_fetch_sub(&w->sh->asleep_cnt, 1) == 1)
		mr_tier_wake(w->tier, w->pass.now_ns);
}

unsigned mr_worker_poll(struct mr_worker *w)
{
	bool drained = true;
	if (!w->started)
		mr_epoch_online(w->sh->epoch, w->idx);
	w->plan = atomic_load_explicit(&w->sh->plan, memory_order_acquire);
	tell_time(w);
	w->offloads = w->tier && w->plan->offloads;
	if (w->pass.plan != w->plan && w->offloads)
		mr_offload_begin(w);
	w->pass.plan = w->plan; /* its address may be that of one before */
	memset(w->nexthop_slot, 0, sizeof(w->nexthop_slot));
	unsigned got = mr_transmit_take(w);
	w->offloading.released = mr_hold_cnt(w->hold) && mr_hold_release(w);
	got += serve_all(w, &drained);
	if (!got && atomic_load_explicit(&w->waking, memory_order_relaxed))
		wake_tier(w);
	mr_turn_fragments_end(w);
	if (mr_later_due(w->later, w->pass.now_ms))
		mr_later_send(w);
	mr_transmit_flush(w);
	service_all(w);
	mr_transmit_sent(w);
	if (w->offloading.cnt)
		mr_offload_turn_end(w);
	housekeep(w);
	mr_turn_add(&w->stats->loops, 1);
	if (got)
		mr_turn_add(&w->stats->busy_loops, 1);
	bool waits = mr_hold_cnt(w->hold) || mr_fragment_any_held(w->fragments);
	atomic_store_explicit(&w->drained, drained && !got && !waits, memory_order_release);
	if (w->started)
		mr_epoch_quiet(w->sh->epoch, w->idx);
	else
		mr_epoch_offline(w->sh->epoch, w->idx);
	return got;
}

bool mr_worker_drained(const struct mr_worker *w)
{
	return atomic_load_explicit(&w->drained, memory_order_acquire) && !mr_handoff_waiting(w->sh->handoff, w->idx);
}

void mr_worker_wake_tier(struct mr_shared *sh, struct mr_worker *const *worker)
{
	atomic_store(&sh->asleep_cnt, sh->worker_cnt);
	for (unsigned i = 0; i < sh->worker_cnt; i++)
		atomic_store(&worker[i]->waking, true);
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

static void free_parts(struct mr_worker *w)
{
	mr_hold_destroy(w->hold);
	mr_fragment_destroy(w->fragments);
	mr_icmp_limit_destroy(w->icmp_limit);
	mr_later_destroy(w->later);
	free(w->egress);
	free(w);
}

int mr_worker_create(struct mr_shared *sh, unsigned idx, struct mr_worker **out, struct mr_error *e)
{
	struct mr_worker *w = aligned_alloc(64, (sizeof(*w) + 63) / 64 * 64);
	struct mr_frames_census census;
	if (!w)
		return mr_error_set(e, -ENOMEM, "no memory for worker %u", idx);
	memset(w, 0, sizeof(*w));
	mr_frames_count(sh->frames, &census);
	w->egress = calloc(MR_MAX_INTERFACES + 1, sizeof(*w->egress));
	w->hold = mr_hold_create(census.total_cnt / sh->worker_cnt / 8);
	w->fragments = mr_fragment_create(census.total_cnt / sh->worker_cnt / 8);
	w->icmp_limit = mr_icmp_limit_create(mr_flows_seed(sh->flows) + idx);
	w->later = mr_later_create(mr_flows_seed(sh->flows));
	if (!w->egress || !w->hold || !w->fragments || !w->icmp_limit || !w->later) {
		free_parts(w);
		return mr_error_set(e, -ENOMEM, "no memory for worker %u", idx);
	}
	w->sh = sh;
	w->idx = idx;
	w->alone = sh->worker_cnt == 1 && !sh->tier;
	w->tier = sh->tier ? mr_tier_shared(sh->tier) : NULL;
	w->pass = (struct mr_pass){ .sh = sh, .worker = idx };
	w->stats = mr_stats_worker(sh->stats, idx);
	w->magazine = mr_frames_magazine(sh->frames, idx);
	w->base = mr_frames_base(sh->frames);
	w->frame_mask = mr_frames_frame_bytes(sh->frames) - 1;
	w->seed = mr_flows_seed(sh->flows);
	for (unsigned i = 0; i < 2; i++)
		w->version[i] = sh->routes ? mr_routes_versions(sh->routes, i ? 6 : 4) : NULL;
	tell_time(w);
	w->swept_ms = w->pass.now_ms;
	*out = w;
	return 0;
}

void mr_worker_destroy(struct mr_worker *w)
{
	if (!w)
		return;
	mr_worker_stop(w); /* again: what others handed over after it had stopped */
	mr_frames_flush(w->magazine);
	free_parts(w);
}
