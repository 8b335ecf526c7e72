/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * worker.c - the hit path: frames that a stored record decides, from the rx ring to the egress, in arrays.
 */
#include "core/apply.h"
#include "core/arrive.h"
#include "core/decide.h"
#include "core/hold.h"
#include "core/mss.h"
#include "core/route.h"
#include "core/split.h"
#include "core/turn.h"

#include <string.h>

#define TCP_FIN     0x01
#define TCP_SYN     0x02
#define TCP_RST     0x04
#define PARSE_AHEAD 12 /* frames whose headers are asked for before they are read */

/* ---- hits ----------------------------------------------------------------------------------------------------- */

/*
 * Two workers may meet on one record, and so may the kernel tier; then additions are locked, about 25 clocks each.
 * A single worker that has it for itself adds without.
 */
static __always_inline void record_count(struct mr_worker *w, struct mr_flow_state *st, uint32_t bytes)
{
	if (w->alone) {
		__atomic_store_n(&st->bytes, st->bytes + bytes, __ATOMIC_RELAXED);
		__atomic_store_n(&st->packets, st->packets + 1, __ATOMIC_RELAXED);
	} else {
		__atomic_fetch_add(&st->bytes, bytes, __ATOMIC_RELAXED);
		__atomic_fetch_add(&st->packets, 1, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&st->last_seen_ms, w->pass.now_ms, __ATOMIC_RELAXED);
}

void mr_turn_record_count(struct mr_worker *w, struct mr_flow_state *st, uint32_t bytes)
{
	record_count(w, st, bytes);
}

/* A copy for the turn: a change is in force with the next one. */
static __always_inline const struct mr_nexthop *nexthop(struct mr_worker *w, uint16_t slot)
{
	unsigned way = slot % MR_NEXTHOP_WAYS;
	if (w->nexthop_slot[way] != slot) {
		mr_nexthops_get(w->sh->nexthops, slot, &w->nexthop[way]);
		w->nexthop_slot[way] = slot;
		if (slot >= MR_NEXTHOP_FIRST_FREE && w->sh->neighbours)
			mr_neighbours_touch(w->sh->neighbours, slot, w->pass.now_ms);
	}
	return &w->nexthop[way];
}

/* A slot that is not in use: it was given up, or made since its copy of this turn was taken.  A routed packet finds another. */
static void renew(struct mr_worker *w, const struct mr_frame *f, uint8_t *data, const struct mr_parsed *p,
	uint8_t ingress, const struct mr_found *how)
{
	unsigned family = p->flags & MR_PKT_IP4 ? 4 : 6;
	struct mr_flow_state st = *how->st;
	struct mr_found other = *how;
	struct mr_route_answer a = { .verdict = MR_ROUTE_DROP, .reason = MR_REASON_NO_NEXTHOP };
	if (st.flags & MR_FLOW_ROUTED)
		mr_routes_lookup(w->sh->routes, w->plan->ingress[ingress].interface_id, family,
			family == 4 ? (const void *)&how->r4->daddr_be : (const void *)how->r6->daddr_be, how->hash,
			&a);
	if (a.verdict == MR_ROUTE_KERNEL && !(st.flags & (MR_FLOW_SNAT | MR_FLOW_DNAT))) {
		mr_transmit_kernel(w, f, data, w->plan->ingress[ingress].interface_id, ingress);
		return;
	}
	st.nexthop = a.slot;
	other.st = &st;
	w->nexthop_slot[st.nexthop % MR_NEXTHOP_WAYS] = 0;
	if (a.verdict != MR_ROUTE_SLOT || nexthop(w, st.nexthop)->kind == MR_NH_NONE)
		mr_answer_drop(w, f, data, p, ingress, a.reason ? a.reason : MR_REASON_NO_NEXTHOP, 0);
	else
		mr_turn_apply(w, *f, data, p, ingress, &other);
}

/* Frames that cannot go yet, or never will: their neighbour is being resolved, others wait for it before them, or nobody found it. */
static __attribute__((noinline)) void not_ready(struct mr_worker *w, const struct mr_frame *f, uint8_t *data,
	const struct mr_parsed *p, uint8_t ingress, const struct mr_found *how, uint8_t kind)
{
	uint16_t slot = how->st->nexthop;
	if (kind == MR_NH_NONE) {
		renew(w, f, data, p, ingress, how);
		return;
	}
	if (!(p->flags & (MR_PKT_IP4 | MR_PKT_IP6))) {
		mr_transmit_drop(w, f, ingress, MR_REASON_NOT_IP);
		return;
	}
	/* Before the neighbour is asked for, as a router does. */
	if (!(how->st->flags & MR_FLOW_NO_TTL) && p->ttl <= 1) {
		mr_answer_drop(w, f, data, p, ingress, MR_REASON_TTL, 0);
		return;
	}
	if (kind == MR_NH_RESOLVING && w->sh->neighbours)
		mr_neighbours_want(w->sh->neighbours, slot);
	if (kind == MR_NH_UNREACHABLE) {
		mr_answer_drop(w, f, data, p, ingress, MR_REASON_NEIGHBOUR_FAILED, 0);
		return;
	}
	/* Once the neighbour is known, nothing goes before those that wait. */
	if (how->rec && how->st->flags & MR_FLOW_OFFLOAD)
		mr_flows_mark(w->sh->flows, mr_turn_ref(w->sh->flows, how), how->st->session, 0, MR_FLOW_OFFLOAD);
	if (mr_hold_put(w->hold, slot, f, p, ingress, how))
		mr_frames_tag(w->sh->frames, f->addr, MR_OWNER_HELD, w->plan->ingress[ingress].interface_id, w->idx);
	else
		mr_transmit_drop(w, f, ingress, MR_REASON_NEIGHBOUR_QUEUE);
}

/* What could not be carried out.  Nothing has been written: the sender is told with the bytes it sent. */
static __attribute__((noinline)) void refused(struct mr_worker *w, const struct mr_frame *f, uint8_t *data,
	const struct mr_parsed *p, uint8_t ingress, const struct mr_found *how, const struct mr_nexthop *nh,
	unsigned reason)
{
	if (reason == MR_REASON_TOO_BIG && !(how->st->flags & MR_FLOW_NO_TTL) && p->ttl <= 1)
		reason = MR_REASON_TTL; /* a router looks at that first */
	if (reason == MR_REASON_TOO_BIG && nh->kind == MR_NH_ROUTED &&
		(p->flags & (MR_PKT_IP4 | MR_PKT_DF)) == MR_PKT_IP4)
		mr_split_send(w, f, data, p, ingress, how, nh);
	else if (nh->kind == MR_NH_ROUTED)
		mr_answer_drop(w, f, data, p, ingress, reason, nh->mtu - mr_rewrite_outer_bytes(nh));
	else
		mr_transmit_drop(w, f, ingress, reason);
}

/* mss: how->mss, which of a record is 0. */
static __always_inline void apply(struct mr_worker *w, struct mr_frame f, uint8_t *data, const struct mr_parsed *p,
	uint8_t ingress, const struct mr_found *how, uint32_t mss)
{
	const struct mr_nexthop *nh = nexthop(w, how->st->nexthop);
	unsigned interface_id = w->plan->ingress[ingress].interface_id;
	if (nh->kind == MR_NH_KERNEL) {
		mr_transmit_kernel(w, &f, data, interface_id, ingress);
		return;
	}
	/* neither WIRE, BACK nor ROUTED */
	if ((uint8_t)(nh->kind - 1) >= MR_NH_ROUTED ||
		(mr_hold_cnt(w->hold) && mr_hold_waiting(w->hold, how->st->nexthop))) {
		not_ready(w, &f, data, p, ingress, how, nh->kind);
		return;
	}
	uint8_t *start = data;
	unsigned reason =
		mr_apply(&data, &f.len, f.addr & w->frame_mask, p, how->st->flags, how->r4, how->r6, nh, how->hash);
	if (reason) {
		refused(w, &f, data, p, ingress, how, nh, reason);
		return;
	}
	if (mss) /* not before: who is told of a refusal reads what he sent.  Only the front has moved. */
		mr_mss_clamp(start + p->l4_off, p, mss, nh);
	f.addr += data - start;
	mr_transmit_frame(w, &f, nh->kind == MR_NH_BACK ? interface_id : nh->egress, ingress);
}

void mr_turn_apply(struct mr_worker *w, struct mr_frame f, uint8_t *data, const struct mr_parsed *p, uint8_t ingress,
	const struct mr_found *how)
{
	apply(w, f, data, p, ingress, how, how->mss);
}

/* mr_turn_apply() for what core/arrive.h knew: nearly all. */
static __always_inline void apply_arrived4(struct mr_worker *w, struct mr_frame f, uint8_t *data,
	const struct mr_parsed *p, uint8_t ingress, const struct mr_found *how)
{
	const struct mr_nexthop *nh = nexthop(w, how->st->nexthop);
	if (!mr_apply_front_stays(nh) || mr_hold_cnt(w->hold)) {
		mr_turn_apply(w, f, data, p, ingress, how);
		return;
	}
	unsigned reason = mr_apply_arrived4(data, &f.len, p, how->st->flags, how->r4, nh);
	if (reason)
		refused(w, &f, data, p, ingress, how, nh, reason);
	else
		mr_transmit_frame(w, &f, nh->egress, ingress);
}

void mr_turn_apply_arrival(struct mr_worker *w, unsigned i, uint8_t ingress, const struct mr_found *how)
{
	if (how->family == 4 && !how->mss && w->in.arrived4 >> i & 1)
		apply_arrived4(w, w->in.frame[i], w->in.data[i], &w->in.parsed[i], ingress, how);
	else
		mr_turn_apply(w, w->in.frame[i], w->in.data[i], &w->in.parsed[i], ingress, how);
}

/* Packets decided by records are counted in runs: of one pair, and of the same counters. */
struct run {
	uint8_t ingress;
	uint16_t effects;
	const struct mr_effect *effect; /* of that number */
	uint64_t packets, bytes;
	uint64_t counted_packets, counted_bytes; /* of those with these effects */
};

static __always_inline void run_count(struct mr_worker *w, struct run *r)
{
	const struct mr_effect *e = r->effect;
	for (unsigned i = 0; i < MR_EFFECT_COUNTERS && e->counter[i]; i++)
		mr_turn_count(&w->stats->counter[e->counter[i]], r->counted_packets, r->counted_bytes);
	r->counted_packets = r->counted_bytes = 0;
}

static inline void run_end(struct mr_worker *w, struct run *r)
{
	if (r->counted_packets)
		run_count(w, r);
	if (!r->packets)
		return;
	mr_turn_count(&w->stats->ingress[r->ingress].received, r->packets, r->bytes);
	mr_turn_add(&w->stats->ingress[r->ingress].hits, r->packets);
}

static inline void run_add(struct mr_worker *w, struct run *r, uint8_t ingress, uint32_t len)
{
	if (r->ingress != ingress) {
		run_end(w, r);
		*r = (struct run){ .ingress = ingress };
	}
	r->packets++;
	r->bytes += len;
}

/* The part of a decision that happens to each packet.  False: over the rate of a limit. */
static __always_inline bool run_effects(struct mr_worker *w, struct run *r, uint16_t effects, uint32_t len)
{
	if (r->effects != effects) {
		if (r->counted_packets)
			run_count(w, r);
		r->effects = effects;
		r->effect = mr_effects_at(w->plan->effects, effects);
	}
	r->counted_packets++;
	r->counted_bytes += len;
	const struct mr_effect *e = r->effect;
	for (unsigned i = 0; i < MR_EFFECT_METERS && e->meter[i]; i++)
		if (!mr_effects_meter_pass(w->plan->effects, e->meter[i], len, w->pass.now_ns))
			return false;
	return true;
}

/* Writes the decision at hand into the record again, with other flags. */
static void store(struct mr_worker *w, const struct mr_found *f, uint16_t flags)
{
	const struct mr_flow_state *st = f->st;
	struct mr_flow_decision d = { .ingress = f->ingress,
		.flags = flags & ~MR_FLOW_CLOSING, /* the live record keeps its mark */
		.nexthop = st->nexthop,
		.generation = st->generation,
		.effects = st->effects };
	if (f->family == 4)
		d.r4 = *f->r4;
	else
		d.r6 = *f->r6;
	mr_decide_record(w->sh->flows, mr_turn_ref(w->sh->flows, f), st->session, f->family, &d);
}

/* Tells the session, and keeps the record's TRACK flag as its state wants it.  False: the session is over. */
static bool tell_session(struct mr_worker *w, const struct mr_found *f, uint8_t tcp_flags)
{
	bool changed;
	const struct mr_flow_state *st = f->st;
	enum mr_direction dir = st->flags & MR_FLOW_REPLY ? MR_REPLY : MR_FORWARD;
	enum mr_session_state state =
		mr_session_packet(w->sh->sessions, st->session, dir, tcp_flags, w->pass.now_ms, &changed);
	if (state == MR_SESSION_FREE)
		return false;
	uint16_t track = mr_decide_track(MR_IP_TCP, state);
	if ((st->flags & MR_FLOW_TRACK) != track) /* back to the kernel tier in order, as any other */
		store(w, f, (st->flags & ~(MR_FLOW_TRACK | MR_FLOW_OFFLOAD)) | track);
	return true;
}

static inline bool valid(const struct mr_worker *w, const struct mr_found *f)
{
	return f->st->flags & MR_FLOW_DECIDED && f->st->generation == w->plan->generation;
}

/* Whether a route is still what the record says: none of its destination's bucket changed since. */
static __always_inline bool current(const struct mr_worker *w, const struct mr_found *f, uint8_t family)
{
	const uint8_t *version = w->version[family == 6];
	uint32_t bucket = family == 4 ? mr_route_bucket4(f->r4->daddr_be) : mr_route_bucket6(f->r6->daddr_be);
	return __atomic_load_n(&version[bucket], __ATOMIC_RELAXED) == f->st->flags >> MR_FLOW_VERSION_SHIFT;
}

/* For the box's own MAC address, in a VLAN it has, and nothing in it that a router has to look at: what a stored route does not know. */
static __always_inline bool routable(const struct mr_worker *w, unsigned i)
{
	const struct mr_parsed *p = &w->in.parsed[i];
	uint64_t head;
	memcpy(&head, w->in.data[i], sizeof(head));
	if ((head ^ w->mac) & w->mac_mask || p->flags & MR_PKT_OPTIONS)
		return false;
	return !p->vlan_cnt || mr_routes_takes_tag(w->sh->routes, w->in.interface_id, p->vlan_cnt, p->vlan_tci[0]);
}

/* Asks for the route again and stores the answer in the record, and in the copy at hand.  False: the stages are to decide again. */
static __attribute__((noinline)) bool reroute(struct mr_worker *w, unsigned i, const struct mr_found *f)
{
	struct mr_flow_state *st = (struct mr_flow_state *)f->st; /* the copy of this turn */
	const void *dst = f->family == 4 ? (const void *)&f->r4->daddr_be : (const void *)f->r6->daddr_be;
	struct mr_route_answer a;
	mr_routes_lookup(w->sh->routes, w->in.interface_id, f->family, dst, f->hash, &a);
	bool kernel = a.verdict == MR_ROUTE_KERNEL;
	if (a.verdict == MR_ROUTE_DROP || (!kernel && !a.slot) || (kernel && st->flags & (MR_FLOW_SNAT | MR_FLOW_DNAT)))
		return false;
	/* The kernel tier waits for what came up meanwhile to be sent. */
	uint16_t kept = st->flags & ~(MR_FLOW_VERSION_MASK | MR_FLOW_NO_TTL | MR_FLOW_OFFLOAD);
	st->flags = kept | (uint16_t)(a.version << MR_FLOW_VERSION_SHIFT) | (kernel ? MR_FLOW_NO_TTL : 0);
	st->nexthop = kernel ? MR_NEXTHOP_KERNEL : a.slot;
	w->nexthop_slot[st->nexthop % MR_NEXTHOP_WAYS] = 0; /* it may have been made just now */
	store(w, f, st->flags);
	return true;
}

/* The record's pair must be the packet's: the same interface, and where that does not settle it, the same pipeline. */
static inline bool same_ingress(const struct mr_worker *w, unsigned i, uint8_t ingress)
{
	const struct mr_plan_interface *pi = &w->plan->interface[w->in.interface_id];
	if (pi->key_only)
		return w->plan->ingress[ingress].interface_id == w->in.interface_id;
	int pipeline = mr_steer_classify(pi->steer, &w->in.parsed[i], w->in.data[i]);
	return pipeline >= 0 && pi->ingress[pipeline] == ingress;
}

/* It waits for more packets, or for an answer.  Told at once: most records that stay here do, and naming one costs two divisions. */
static __always_inline bool waits(const struct mr_worker *w, const struct mr_flow_state *st)
{
	const struct mr_session *s = mr_session_at(w->sh->sessions, st->session);
	return st->packets + 1 < w->plan->offload_after ||
		__atomic_load_n(&s->state, __ATOMIC_RELAXED) == MR_SESSION_NEW;
}

/* What came by a record that is not the kernel tier's yet, or that a FIN closed which nobody heard of. */
static __always_inline void consider(struct mr_worker *w, const struct mr_found *f)
{
	const uint8_t offload = w->plan->ingress[f->ingress].offload;
	if ((f->st->flags & (MR_FLOW_OFFLOAD | MR_FLOW_CLOSING)) != MR_FLOW_OFFLOAD && offload &&
		(offload != MR_OFFLOAD_ESTABLISHED || !waits(w, f->st)))
		mr_offload_consider(w, mr_turn_ref(w->sh->flows, f), f->live, f->ingress);
}

/* family: f->family, known while compiling. */
static __always_inline bool hit(
	struct mr_worker *w, unsigned i, const struct mr_found *f, uint8_t family, struct run *run)
{
	const struct mr_parsed *p = &w->in.parsed[i];
	struct mr_frame frame = w->in.frame[i];
	if (!valid(w, f) || !same_ingress(w, i, f->ingress))
		return false;
	if (f->st->flags & MR_FLOW_ROUTED && (!routable(w, i) || (!current(w, f, family) && !reroute(w, i, f))))
		return false;
	/* After a RST both records are marked, so that the session hears it when both ends go on. */
	if (p->proto == MR_IP_TCP && !(p->flags & MR_PKT_FRAG_LATER) &&
		(p->tcp_flags & (TCP_FIN | TCP_SYN | TCP_RST) || f->st->flags & (MR_FLOW_TRACK | MR_FLOW_CLOSING))) {
		/* A SYN may begin a new conversation between the same ends, and brings options: that is for the stages. */
		if (p->tcp_flags & TCP_SYN || !tell_session(w, f, p->tcp_flags))
			return false;
	}
	record_count(w, f->live, frame.len);
	if (w->offloads)
		consider(w, f);
	if (f->st->effects && !run_effects(w, run, f->st->effects, frame.len)) {
		mr_transmit_drop(w, &frame, f->ingress, MR_REASON_METER);
		return true;
	}
	if (family == 4 && w->in.arrived4 >> i & 1)
		apply_arrived4(w, frame, w->in.data[i], p, f->ingress, f);
	else
		mr_turn_apply(w, frame, w->in.data[i], p, f->ingress, f);
	return true;
}

bool mr_turn_hit(struct mr_worker *w, unsigned i, const struct mr_found *f)
{
	struct run run = { 0 };
	if (f->family == 4 ? !hit(w, i, f, 4, &run) : !hit(w, i, f, 6, &run))
		return false;
	run_end(w, &run);
	mr_turn_add(&w->stats->ingress[f->ingress].hits, 1);
	return true;
}

static inline void found4(struct mr_flow4 *rec, const struct mr_flow4 *copy, uint64_t hash, struct mr_found *f)
{
	f->live = &rec->st;
	f->st = &copy->st;
	f->r4 = &copy->rewrite;
	f->r6 = NULL;
	f->ingress = copy->key.ingress;
	f->family = 4;
	f->hash = hash;
	f->rec = rec;
}

static inline void found6(struct mr_flow6 *rec, const struct mr_flow6 *copy, uint64_t hash, struct mr_found *f)
{
	f->live = &rec->st;
	f->st = &copy->st;
	f->r4 = NULL;
	f->r6 = &copy->rewrite;
	f->ingress = copy->key.ingress;
	f->family = 6;
	f->hash = hash;
	f->rec = rec;
}

bool mr_turn_find(struct mr_worker *w, const struct mr_flow_key *key, struct mr_found *f, struct mr_flow4 *c4,
	struct mr_flow6 *c6)
{
	struct mr_flow4 *r4;
	struct mr_flow6 *r6;
	if (key->family == 4 && mr_flows_lookup4(w->sh->flows, &key->k4, &key->hash, 1, &r4, c4))
		found4(r4, c4, key->hash, f);
	else if (key->family == 6 && mr_flows_lookup6(w->sh->flows, &key->k6, &key->hash, 1, &r6, c6))
		found6(r6, c6, key->hash, f);
	else
		return false;
	return true;
}

/* ---- one queue's frames ---------------------------------------------------------------------------------------- */

static void miss(struct mr_worker *w, unsigned i, const struct mr_found *f)
{
	struct mr_missed *m = &w->missed[w->missed_cnt++];
	*m = (struct mr_missed){ .idx = i, .ref = MR_FLOW_NONE };
	if (!f)
		return;
	m->session = f->st->session;
	m->flags = f->st->flags;
	m->generation = f->st->generation;
	m->ref = mr_turn_ref(w->sh->flows, f);
}

/* Whether they may go over to the kernel tier their sessions tell: fetched for all at once, not waited for one by one. */
static void fetch_sessions(struct mr_worker *w)
{
	const struct mr_arrivals *in = &w->in;
	for (unsigned k = 0; k < in->cnt4; k++)
		if (in->rec4[k] && !(in->copy4[k].st.flags & MR_FLOW_OFFLOAD))
			__builtin_prefetch(mr_session_at(w->sh->sessions, in->copy4[k].st.session));
	for (unsigned k = 0; k < in->cnt6; k++)
		if (in->rec6[k] && !(in->copy6[k].st.flags & MR_FLOW_OFFLOAD))
			__builtin_prefetch(mr_session_at(w->sh->sessions, in->copy6[k].st.session));
}

static void hits(struct mr_worker *w)
{
	struct mr_arrivals *in = &w->in;
	struct run run = { 0 };
	struct mr_found f = { 0 };
	if (in->cnt4)
		mr_flows_lookup4(w->sh->flows, in->key4, in->hash4, in->cnt4, in->rec4, in->copy4);
	if (in->cnt6)
		mr_flows_lookup6(w->sh->flows, in->key6, in->hash6, in->cnt6, in->rec6, in->copy6);
	if (w->offloads)
		fetch_sessions(w);
	for (unsigned k = 0; k < in->cnt4; k++) {
		unsigned i = in->idx4[k];
		uint32_t len = in->frame[i].len;
		if (in->rec4[k])
			found4(in->rec4[k], &in->copy4[k], in->hash4[k], &f);
		if (in->rec4[k] && hit(w, i, &f, 4, &run))
			run_add(w, &run, f.ingress, len);
		else
			miss(w, i, in->rec4[k] ? &f : NULL);
	}
	for (unsigned k = 0; k < in->cnt6; k++) {
		unsigned i = in->idx6[k];
		uint32_t len = in->frame[i].len;
		if (in->rec6[k])
			found6(in->rec6[k], &in->copy6[k], in->hash6[k], &f);
		if (in->rec6[k] && hit(w, i, &f, 6, &run))
			run_add(w, &run, f.ingress, len);
		else
			miss(w, i, in->rec6[k] ? &f : NULL);
	}
	run_end(w, &run);
}

/* Of any other kind; one that names no session is a miss at once. */
static __attribute__((noinline)) void parse_any(struct mr_worker *w, unsigned i, uint16_t base)
{
	struct mr_arrivals *in = &w->in;
	const struct mr_plan_interface *pi = &w->plan->interface[in->interface_id];
	struct mr_parsed *p = &in->parsed[i];
	const uint8_t *data = in->data[i];
	mr_parse(data, data + in->frame[i].len, p);
	uint16_t zone = mr_parse_zone(p, base, pi->vlan_mask);
	if (p->flags & MR_PKT_FRAG && pi->fragments_follow && !mr_turn_fragment(w, i, zone))
		return;
	if (!mr_parse_has_key(p)) {
		miss(w, i, NULL);
	} else if (p->flags & MR_PKT_IP4) {
		mr_parse_key4(p, data, zone, &in->key4[in->cnt4]);
		in->hash4[in->cnt4] = mr_flow_hash4(&in->key4[in->cnt4], w->seed);
		in->idx4[in->cnt4++] = i;
	} else {
		mr_parse_key6(p, data, zone, &in->key6[in->cnt6]);
		in->hash6[in->cnt6] = mr_flow_hash6(&in->key6[in->cnt6], w->seed);
		in->idx6[in->cnt6++] = i;
	}
}

/* Headers and keys of all frames. */
static void parse(struct mr_worker *w)
{
	struct mr_arrivals *in = &w->in;
	const uint16_t base = w->plan->interface[in->interface_id].zone;
	const uint64_t seed = w->seed;
	const unsigned cnt = in->cnt;
	uint8_t *const memory = w->base;
	for (unsigned i = 0; i < PARSE_AHEAD && i < cnt; i++)
		__builtin_prefetch(memory + in->frame[i].addr);
	for (unsigned i = 0; i < cnt; i++) {
		struct mr_key4 key;
		uint8_t *data = memory + in->frame[i].addr;
		if (i + PARSE_AHEAD < cnt)
			__builtin_prefetch(memory + in->frame[i + PARSE_AHEAD].addr);
		in->data[i] = data;
		if (__builtin_expect(mr_arrive4(data, in->frame[i].len, base, &in->parsed[i], &key), 1)) {
			unsigned k = in->cnt4++;
			in->key4[k] = key;
			in->hash4[k] = mr_flow_hash4(&key, seed);
			in->idx4[k] = i;
			in->arrived4 |= 1ull << i;
		} else {
			parse_any(w, i, base);
		}
	}
}

/* As the first six bytes of a word in memory. */
static void learn_mac(struct mr_worker *w, const uint8_t mac[6])
{
	w->mac = w->mac_mask = 0;
	memcpy(&w->mac, mac, 6);
	if (w->mac)
		memset(&w->mac_mask, 0xff, 6);
}

void mr_turn_batch(struct mr_worker *w, unsigned interface_id)
{
	w->in.interface_id = interface_id;
	learn_mac(w, w->plan->interface[interface_id].mac);
	w->in.cnt4 = w->in.cnt6 = 0;
	w->in.arrived4 = 0;
	w->missed_cnt = 0;
	parse(w);
	hits(w);
	if (w->missed_cnt)
		mr_miss_finish(w);
}
