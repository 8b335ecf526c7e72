/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * miss.c - packets that no record decides: which pipeline, what its stages say, and what of that is stored.
 *
 *     classify ─► round 1: one packet of each new conversation, and all whose session is known
 *              ─► round 2: the rest, most of which now find a record
 *              ─► more:    who lost a race to another worker, a few times
 *
 * A batch often holds several first packets of one conversation; letting one of them through first saves asking the stages (and taking
 * ports, quotas ...) for all of them.
 */
#include "core/decide.h"
#include "core/keys.h"
#include "core/later.h"
#include "core/pipeline.h"
#include "core/route.h"
#include "core/turn.h"

#include <string.h>

#define ATTEMPTS 4 /* times a packet is decided before it counts as not storable */

/* What a parse error is dropped under. */
unsigned mr_miss_reason(unsigned error)
{
	static const uint8_t reasons[MR_PARSE_ERROR_CNT] = {
		[MR_PARSE_SHORT_ETH] = MR_REASON_SHORT_ETH,
		[MR_PARSE_VLAN_DEPTH] = MR_REASON_VLAN_DEPTH,
		[MR_PARSE_SHORT_IP] = MR_REASON_SHORT_IP,
		[MR_PARSE_BAD_IP] = MR_REASON_BAD_IP,
		[MR_PARSE_TRUNCATED] = MR_REASON_TRUNCATED,
		[MR_PARSE_EXT_CHAIN] = MR_REASON_EXT_CHAIN,
		[MR_PARSE_SHORT_L4] = MR_REASON_SHORT_L4,
		[MR_PARSE_BAD_L4] = MR_REASON_BAD_L4,
	};
	return reasons[error];
}

/* A wire without stages need not understand what it passes on: frames with more tags than are parsed cross it as they are. */
bool mr_miss_malformed(const struct mr_plan_pipeline *p, unsigned error)
{
	if (error == MR_PARSE_OK || error == MR_PARSE_NOT_IP)
		return false;
	return error != MR_PARSE_VLAN_DEPTH || p->stage_cnt || p->to_kind == MR_TO_ROUTE;
}

/* Counters, and meters of a packet that is not dropped anyway. */
static bool run_effects(struct mr_worker *w, const struct mr_packet *p, bool meters)
{
	for (unsigned i = 0; i < p->counter_cnt; i++)
		mr_turn_count(&w->stats->counter[p->counter[i]], 1, p->frame.len);
	for (unsigned i = 0; meters && i < p->meter_cnt; i++)
		if (!mr_effects_meter_pass(w->plan->effects, p->meter[i], p->frame.len, w->pass.now_ns))
			return false;
	return true;
}

static void count_in_record(struct mr_worker *w, const struct mr_packet *p)
{
	struct mr_flow_state *st = p->ref == MR_FLOW_NONE ? NULL : mr_flows_state(w->sh->flows, p->ref);
	/* the slot may have gone to another session since it was looked up */
	if (!st || __atomic_load_n(&st->session, __ATOMIC_RELAXED) != p->session)
		return;
	mr_turn_record_count(w, st, p->frame.len);
	if (w->offloads && w->plan->ingress[p->ingress].offload)
		mr_offload_consider(w, p->ref, st, p->ingress);
}

static void carry_out(struct mr_worker *w, struct mr_packet *p, const struct mr_flow_decision *d)
{
	const struct mr_flow_state st = { .flags = d->flags, .nexthop = d->nexthop };
	const struct mr_found how = {
		.st = &st, .r4 = &d->r4, .r6 = &d->r6, .family = p->tuple.family, .hash = p->key.hash, .mss = p->mss
	};
	if (p->session)
		count_in_record(w, p);
	if (!run_effects(w, p, true))
		mr_transmit_drop(w, &p->frame, p->ingress, MR_REASON_METER);
	else {
		/* At once: an ICMP error is never answered, so nobody will quote the frame. */
		if (p->related.found && p->related.changes)
			mr_related_apply(p);
		mr_turn_apply_arrival(w, p->arrival, p->ingress, &how);
	}
}

/* Dropped by a stage, which says what its sender is told, and when. */
static void reject(struct mr_worker *w, const struct mr_packet *p)
{
	bool routes = w->plan->pipeline[p->pipeline].to_kind == MR_TO_ROUTE;
	if (routes && p->reject_ms)
		mr_later_put(w->later, p, p->reject, w->pass.now_ms + p->reject_ms);
	else if (routes)
		mr_answer(w, p->data, p->frame.len, p->parsed, p->ingress, p->reject, 0);
	mr_transmit_drop(w, &p->frame, p->ingress, p->reason);
}

/* True when the packet is done with; false: it is to be decided again. */
static bool settle(struct mr_worker *w, struct mr_packet *p)
{
	struct mr_flow_decision d;
	bool stored;
	switch (mr_decide_settle(p, &d, false, &stored)) {
	case MR_DECIDE_APPLY:
		carry_out(w, p, &d);
		return true;
	case MR_DECIDE_DROP:
		run_effects(w, p, false);
		if (p->reject)
			reject(w, p);
		else if (w->plan->pipeline[p->pipeline].to_kind == MR_TO_ROUTE)
			mr_answer_drop(w, &p->frame, p->data, p->parsed, p->ingress, p->reason, 0);
		else
			mr_transmit_drop(w, &p->frame, p->ingress, p->reason);
		return true;
	default:
		break;
	}
	if (++p->attempts < ATTEMPTS)
		return false;
	mr_transmit_drop(w, &p->frame, p->ingress, MR_REASON_TABLE_FULL);
	return true;
}

/* Where the records of the session it may open will lie, and where its addresses are looked up, so that several such packets wait for memory once. */
static void prefetch(const struct mr_worker *w, const struct mr_packet *p)
{
	struct mr_flow_key reverse;
	if (p->session || !p->stateful || !p->key.family || p->verdict == MR_VERDICT_DROP)
		return;
	mr_decide_key_after(p, &p->key, &reverse);
	if (p->key.family == 4 && w->sh->routes && w->plan->pipeline[p->pipeline].to_kind == MR_TO_ROUTE) {
		if (reverse.k4.saddr_be == p->key.k4.saddr_be)
			mr_routes_expect4(w->sh->routes, p->key.k4.saddr_be);
		mr_routes_expect4(w->sh->routes, reverse.k4.daddr_be);
	}
	mr_key_reverse(&reverse, w->seed);
	mr_flows_prefetch(w->sh->flows, p->key.family == 6, p->key.hash);
	mr_flows_prefetch(w->sh->flows, p->key.family == 6, reverse.hash);
}

/* Runs packets through their pipelines, one pipeline after the other; moves those to be decided again to the front and returns how many. */
static unsigned decide(struct mr_worker *w, struct mr_packet **p, unsigned n)
{
	struct mr_packet *same[MR_BATCH], *rest[MR_BATCH];
	unsigned again = 0;
	struct mr_packet *retry[MR_BATCH];
	while (n) {
		unsigned pipeline = p[0]->pipeline, same_cnt = 0, rest_cnt = 0;
		for (unsigned i = 0; i < n; i++) {
			if (p[i]->pipeline == pipeline)
				same[same_cnt++] = p[i];
			else
				rest[rest_cnt++] = p[i];
		}
		mr_pipeline_run(&w->pass, pipeline, same, same_cnt);
		for (unsigned i = 0; same_cnt > 1 && i < same_cnt; i++)
			prefetch(w, same[i]);
		for (unsigned i = 0; i < same_cnt; i++)
			if (!settle(w, same[i]))
				retry[again++] = same[i];
		memcpy(p, rest, rest_cnt * sizeof(p[0]));
		n = rest_cnt;
	}
	memcpy(p, retry, again * sizeof(p[0]));
	return again;
}

/* The same number for both directions of an untranslated conversation. */
static uint64_t conversation(const struct mr_flow_key *k)
{
	const struct mr_key6 *k6 = &k->k6;
	if (k->family == 4)
		return ((uint64_t)(k->k4.saddr_be ^ k->k4.daddr_be) << 32 |
			       (uint32_t)(k->k4.sport_be ^ k->k4.dport_be)) ^
			k->k4.proto;
	uint64_t a = k6->saddr_be[0] ^ k6->daddr_be[0] ^ k6->saddr_be[2] ^ k6->daddr_be[2];
	uint64_t b = k6->saddr_be[1] ^ k6->daddr_be[1] ^ k6->saddr_be[3] ^ k6->daddr_be[3];
	return (a << 32 | b) ^ (uint64_t)(k6->sport_be ^ k6->dport_be) << 16 ^ k6->proto;
}

/* Parts the packets: those that open a conversation some other packet here opens too go to `later`, in order. */
static void part(struct mr_packet **p, unsigned n, struct mr_packet **now, unsigned *now_cnt, struct mr_packet **later,
	unsigned *later_cnt)
{
	enum { SLOTS = 256 };
	uint8_t taken[SLOTS] = { 0 };
	*now_cnt = *later_cnt = 0;
	for (unsigned i = 0; i < n; i++) {
		if (!p[i]->session && p[i]->key.family) {
			unsigned slot = (conversation(&p[i]->key) * 0x9e3779b97f4a7c15ULL) >> 56;
			if (taken[slot]) { /* or another conversation of the same slot: it only waits for the second round */
				later[(*later_cnt)++] = p[i];
				continue;
			}
			taken[slot] = 1;
		}
		now[(*now_cnt)++] = p[i];
	}
}

/* Looks packets up again.  Those that a record decides now are carried out; the others are made ready for another round. */
static unsigned look_again(struct mr_worker *w, struct mr_packet **p, unsigned n)
{
	struct mr_flow4 c4;
	struct mr_flow6 c6;
	struct mr_found f = { 0 };
	unsigned left = 0;
	for (unsigned i = 0; i < n; i++) {
		p[i]->session = 0;
		p[i]->ref = MR_FLOW_NONE;
		p[i]->stale = false;
		p[i]->record_flags = 0;
		p[i]->direction = MR_FORWARD;
		if (p[i]->key.family && mr_turn_find(w, &p[i]->key, &f, &c4, &c6)) {
			if (mr_turn_hit(w, p[i]->arrival, &f))
				continue;
			mr_packet_attach(
				p[i], f.st->session, f.st->flags, f.st->generation, mr_turn_ref(w->sh->flows, &f));
		}
		mr_packet_reset(p[i]);
		p[left++] = p[i];
	}
	return left;
}

/* What needs no stage: no pipeline wants it, or it is malformed.  Else *out is ready. */
static bool admit(struct mr_worker *w, const struct mr_missed *m, struct mr_packet *out)
{
	const struct mr_plan_interface *pi = &w->plan->interface[w->in.interface_id];
	const struct mr_parsed *parsed = &w->in.parsed[m->idx];
	const struct mr_frame *f = &w->in.frame[m->idx];
	int pipeline = mr_steer_classify(pi->steer, parsed, w->in.data[m->idx]);
	uint8_t ingress = pipeline < 0 ? pi->ingress_none : pi->ingress[pipeline];
	mr_turn_count(&w->stats->ingress[ingress].received, 1, f->len);
	if (pipeline < 0) {
		mr_transmit_kernel(w, f, w->in.data[m->idx], w->in.interface_id, ingress);
		return false;
	}
	if (mr_miss_malformed(&w->plan->pipeline[pi->pipeline[pipeline]], parsed->error)) {
		mr_transmit_drop(w, f, ingress, mr_miss_reason(parsed->error));
		return false;
	}
	mr_packet_begin(out, &w->pass, f, w->in.data[m->idx], parsed, w->in.interface_id, pipeline);
	out->arrival = m->idx;
	if (out->stateful && m->session)
		mr_packet_attach(out, m->session, m->flags, m->generation, m->ref);
	return true;
}

void mr_miss_finish(struct mr_worker *w)
{
	struct mr_packet *all[MR_BATCH], *now[MR_BATCH], *later[MR_BATCH];
	unsigned n = 0, now_cnt, later_cnt;
	for (unsigned i = 0; i < w->missed_cnt; i++) {
		all[n] = &w->packet[n];
		if (admit(w, &w->missed[i], all[n]))
			n++;
	}
	part(all, n, now, &now_cnt, later, &later_cnt);
	unsigned again = decide(w, now, now_cnt);
	/* In front of those that wait for their first round: of one flow, they came before them. */
	memmove(later + again, later, later_cnt * sizeof(later[0]));
	memcpy(later, now, again * sizeof(now[0]));
	n = later_cnt + again;
	while (n) {
		n = look_again(w, later, n);
		n = decide(w, later, n);
	}
}
