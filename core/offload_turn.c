/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * offload_turn.c - when a worker leaves a flow to the kernel tier, and why it does not.
 *
 * A packet that its record decided makes the flow a candidate once nothing but order is in the way.  Candidates are marked when their queue
 * was found empty, and as much was taken out of it as XDP has sent up: what had come before was sent in the turn before that.
 */
#include "core/hold.h"
#include "core/offload.h"
#include "core/route.h"
#include "core/tier.h"
#include "core/turn.h"

#include <string.h>

/*
 * A queue that was never empty for that long, and that so many packets wait in or were lost by, loses more of them soon: order is the lesser
 * harm.  In so many turns it would have been emptied, had its worker only not been let run.
 */
#define BEHIND_MS      10
#define BEHIND_TURNS   64
#define BEHIND_PACKETS 1024

#define PATIENCE_MS    500 /* after that a candidate goes over whatever it waits for */

#define READ_TRIES     16

/* ---- judging ---------------------------------------------------------------------------------------------------- */

/* Why the flow itself is not ready, without a look at the way it goes. */
static enum mr_offload_why ready(const struct mr_plan *plan, const struct mr_session *s, enum mr_direction dir,
	uint8_t ingress, const struct mr_flow_state *st)
{
	const struct mr_plan_ingress *in = &plan->ingress[ingress];
	uint8_t state = __atomic_load_n(&s->state, __ATOMIC_ACQUIRE);
	bool established = state == MR_SESSION_ESTABLISHED || state == MR_SESSION_CLOSING;

	if (!(st->flags & MR_FLOW_DECIDED))
		return MR_OFFLOAD_UNDECIDED;
	if (in->offload == MR_OFFLOAD_NEVER)
		return in->offload_why;
	if (st->generation != plan->generation)
		return MR_OFFLOAD_UNDECIDED;
	if (st->flags & (MR_FLOW_TRACK | MR_FLOW_CLOSING) || state == MR_SESSION_FREE || mr_session_closing(s, dir))
		return MR_OFFLOAD_STATE;
	if (!established && (in->offload == MR_OFFLOAD_ESTABLISHED || s->proto == MR_IP_TCP))
		return MR_OFFLOAD_STATE;
	if (in->offload == MR_OFFLOAD_ESTABLISHED && st->packets < plan->offload_after)
		return MR_OFFLOAD_PACKETS;
	return MR_OFFLOAD_OK;
}

static bool effects_fit(const struct mr_plan *plan, uint16_t effects)
{
	const struct mr_effect *e = effects ? mr_effects_at(plan->effects, effects) : NULL;

	for (unsigned i = 0; e && i < MR_EFFECT_COUNTERS; i++)
		if (e->counter[i] >= MR_TIER_COUNTERS)
			return false;
	return true;
}

/* No route over its destination changed since it was looked up. */
static bool route_holds(const struct mr_shared *sh, mr_flow_ref ref, uint16_t flags)
{
	const struct mr_flow4 *r4 = mr_flows_record4(sh->flows, ref);
	const struct mr_flow6 *r6 = mr_flows_record6(sh->flows, ref);

	if (!(flags & MR_FLOW_ROUTED) || !sh->routes || (!r4 && !r6))
		return true;
	__be32 first = __atomic_load_n(r4 ? &r4->rewrite.daddr_be : r6->rewrite.daddr_be, __ATOMIC_RELAXED);
	uint32_t bucket = r4 ? mr_route_bucket4(first) : mr_route_bucket6(&first);
	const uint8_t *version = mr_routes_versions(sh->routes, r4 ? 4 : 6);
	return __atomic_load_n(&version[bucket], __ATOMIC_RELAXED) == flags >> MR_FLOW_VERSION_SHIFT;
}

/* The way it goes: the next hop, and the interface behind it. */
static enum mr_offload_why way_out(
	const struct mr_shared *sh, const struct mr_plan *plan, uint8_t ingress, uint16_t nexthop)
{
	struct mr_nexthop nh;

	mr_nexthops_get(sh->nexthops, nexthop, &nh);
	if (nh.kind == MR_NH_KERNEL)
		return MR_OFFLOAD_OK;
	if (nh.kind != MR_NH_WIRE && nh.kind != MR_NH_ROUTED && nh.kind != MR_NH_BACK)
		return MR_OFFLOAD_NEXTHOP;
	unsigned egress = nh.kind == MR_NH_BACK ? plan->ingress[ingress].interface_id : nh.egress;
	if (!egress || egress > MR_MAX_INTERFACES || plan->interface[egress].link_down)
		return MR_OFFLOAD_EGRESS;
	return mr_tier_takes(sh->tier, egress) ? MR_OFFLOAD_OK : MR_OFFLOAD_EGRESS;
}

enum mr_offload_why mr_offload_judge(const struct mr_shared *sh, const struct mr_plan *plan, const struct mr_session *s,
	enum mr_direction dir, uint8_t ingress, const struct mr_flow_state *st)
{
	mr_flow_ref ref = __atomic_load_n(&s->ref[dir], __ATOMIC_RELAXED);

	if (!sh->tier)
		return MR_OFFLOAD_NO_TIER;
	uint32_t word = __atomic_load_n(&mr_tier_shared(sh->tier)->word, __ATOMIC_RELAXED);
	if (MR_TIER_GENERATION(word) != plan->generation)
		return MR_OFFLOAD_NO_TIER;
	enum mr_offload_why why = ready(plan, s, dir, ingress, st);
	if (why)
		return why;
	if (mr_flows_overflows(ref))
		return MR_OFFLOAD_OVERFLOW;
	if (!effects_fit(plan, st->effects))
		return MR_OFFLOAD_EFFECTS;
	why = route_holds(sh, ref, st->flags) ? way_out(sh, plan, ingress, st->nexthop) : MR_OFFLOAD_NEXTHOP;
	return !why && !(st->flags & MR_FLOW_OFFLOAD) ? MR_OFFLOAD_SOON : why;
}

/* ---- candidates ------------------------------------------------------------------------------------------------- */

static uint32_t turn_of(const struct mr_worker *w)
{
	return (uint32_t)w->stats->loops;
}

void mr_offload_consider(struct mr_worker *w, mr_flow_ref ref, const struct mr_flow_state *live, uint8_t ingress)
{
	struct mr_offloading *o = &w->offloading;
	struct mr_flow_state st = { .flags = __atomic_load_n(&live->flags, __ATOMIC_RELAXED),
		.packets = __atomic_load_n(&live->packets, __ATOMIC_RELAXED),
		.generation = __atomic_load_n(&live->generation, __ATOMIC_RELAXED),
		.session = __atomic_load_n(&live->session, __ATOMIC_RELAXED) };
	unsigned slot = ref * 2654435761u >> 24;
	bool closing = st.flags & MR_FLOW_CLOSING;
	enum mr_direction dir = st.flags & MR_FLOW_REPLY ? MR_REPLY : MR_FORWARD;

	if ((st.flags & MR_FLOW_OFFLOAD && !closing) || o->taken[slot / 64] >> slot % 64 & 1)
		return;
	st.flags &= (uint16_t)~MR_FLOW_CLOSING;
	if (ready(w->plan, mr_session_at(w->sh->sessions, st.session), dir, ingress, &st))
		return;
	o->candidate[slot] = (struct mr_candidate){ .ref = ref,
		.session = st.session,
		.born = { w->pass.now_ms, turn_of(w) },
		.interface_id = (uint8_t)w->in.interface_id,
		.queue = w->in.queue,
		.closing = closing };
	o->taken[slot / 64] |= 1ull << slot % 64;
	o->cnt++;
}

/* A copy of the record, and the pair it was decided for.  False: it is gone, or keeps being written. */
static bool read_record(const struct mr_flows *t, mr_flow_ref ref, struct mr_flow_state *st, uint8_t *ingress)
{
	const struct mr_flow4 *r4 = mr_flows_record4(t, ref);
	const struct mr_flow6 *r6 = mr_flows_record6(t, ref);
	struct mr_flow4 c4;
	struct mr_flow6 c6;

	for (unsigned try = 0; try < READ_TRIES; try++) {
		if (r4 && mr_flow_copy(&c4, r4, &r4->st.seq, sizeof(c4) / 8)) {
			*st = c4.st;
			*ingress = c4.key.ingress;
			return true;
		}
		if (r6 && mr_flow_copy(&c6, r6, &r6->st.seq, sizeof(c6) / 8)) {
			*st = c6.st;
			*ingress = c6.key.ingress;
			return true;
		}
	}
	return false;
}

/* Packets of the flow wait for its neighbour, or will. */
static bool neighbour_awaited(const struct mr_worker *w, uint16_t nexthop)
{
	return mr_nexthops_kind(w->sh->nexthops, nexthop) == MR_NH_RESOLVING ||
		(mr_hold_cnt(w->hold) && mr_hold_waiting(w->hold, nexthop));
}

/*
 * Packets that XDP has sent up to this queue and the worker has not taken out, but for those its socket has lost (control asks, now and then).
 * A poll of the driver hands packets to the socket when it ends: an empty ring alone says nothing of them.
 */
static uint64_t waiting(const struct mr_worker *w, const struct mr_queue *q)
{
	const struct mr_queue_counters *c = &q->counters;
	uint64_t taken = __atomic_load_n(&c->rx_packets, __ATOMIC_RELAXED) +
		__atomic_load_n(&c->kernel_rx_dropped, __ATOMIC_RELAXED) +
		__atomic_load_n(&c->kernel_rx_ring_full, __ATOMIC_RELAXED);
	uint64_t up = __atomic_load_n(&w->tier->queue[q->interface_id][q->device_queue].up_packets, __ATOMIC_ACQUIRE);

	return up > taken ? up - taken : 0;
}

/*
 * Marks a candidate, if it still is one; queue: that was found empty, NULL = it can wait no longer.  False: not yet, some of its packets may be
 * on their way.
 * A record that XDP found a FIN or RST for is marked CLOSING before the session hears of it.  When the queue was empty since and the session
 * has not heard, that packet was lost: the flow goes on as it was, and a FIN is sent again.
 */
static bool settle(struct mr_worker *w, const struct mr_candidate *c, const struct mr_queue *queue)
{
	struct mr_flow_state st;
	uint8_t ingress;

	if (!read_record(w->sh->flows, c->ref, &st, &ingress) || st.session != c->session)
		return true;
	enum mr_direction dir = st.flags & MR_FLOW_REPLY ? MR_REPLY : MR_FORWARD;
	const struct mr_session *s = mr_session_at(w->sh->sessions, c->session);
	uint16_t heal = c->closing && !mr_session_closing(s, dir) ? st.flags & MR_FLOW_CLOSING : 0;
	st.flags &= (uint16_t)~heal;
	if (ready(w->plan, s, dir, ingress, &st) || neighbour_awaited(w, st.nexthop)) {
		if (heal)
			mr_flows_mark(w->sh->flows, c->ref, c->session, 0, heal | MR_FLOW_OFFLOAD);
		return true;
	}
	if (queue && mr_handoff_under_way(w->sh->handoff, w->idx))
		return false;
	mr_flows_mark(w->sh->flows, c->ref, c->session, MR_FLOW_OFFLOAD, heal);
	if (!queue || !waiting(w, queue))
		return true;
	/* something came up before the mark could be seen, maybe of this flow */
	mr_flows_mark(w->sh->flows, c->ref, c->session, 0, MR_FLOW_OFFLOAD);
	return false;
}

static bool behind(const struct mr_worker *w, const struct mr_candidate *c)
{
	const struct mr_filled *f = &w->offloading.filled[c->interface_id][c->queue];
	const struct mr_plan_interface *pi = &w->plan->interface[c->interface_id];

	return f->is && w->pass.now_ms - f->since.ms >= BEHIND_MS && turn_of(w) - f->since.turn >= BEHIND_TURNS &&
		(c->queue >= pi->queue_cnt || waiting(w, pi->queue[c->queue]) >= BEHIND_PACKETS);
}

static bool impatient(const struct mr_worker *w, const struct mr_candidate *c)
{
	return behind(w, c) ||
		(w->pass.now_ms - c->born.ms >= PATIENCE_MS && turn_of(w) - c->born.turn >= BEHIND_TURNS);
}

/* Calls settle() for those it is time for: of a queue that is empty, or (queue NULL) which can wait no longer. */
static void settle_all(struct mr_worker *w, const struct mr_queue *queue)
{
	struct mr_offloading *o = &w->offloading;

	for (unsigned i = 0; i < MR_OFFLOAD_CANDIDATES / 64; i++)
		for (uint64_t left = o->taken[i]; left; left &= left - 1) {
			const struct mr_candidate *c = &o->candidate[i * 64 + (unsigned)__builtin_ctzll(left)];
			bool due = queue ? c->interface_id == queue->interface_id && c->queue == queue->queue_idx
					 : impatient(w, c);
			if (!due || !settle(w, c, queue))
				continue;
			o->taken[i] &= ~(left & -left);
			o->cnt--;
		}
}

void mr_offload_found(struct mr_worker *w, const struct mr_queue *queue, unsigned cnt)
{
	struct mr_filled *f = &w->offloading.filled[queue->interface_id][queue->queue_idx];

	if (cnt && !f->is)
		f->since = (struct mr_moment){ w->pass.now_ms, turn_of(w) };
	f->is = cnt;
	if (!cnt && w->offloading.cnt && !w->offloading.released && !waiting(w, queue))
		settle_all(w, queue);
}

void mr_offload_turn_end(struct mr_worker *w)
{
	settle_all(w, NULL);
}

void mr_offload_begin(struct mr_worker *w)
{
	struct mr_offloading *o = &w->offloading;

	memset(o->taken, 0, sizeof(o->taken));
	o->cnt = 0;
	memset(o->filled, 0, sizeof(o->filled));
}
