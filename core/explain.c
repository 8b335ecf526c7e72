/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * explain.c - the path of one packet told in sentences, on the real tables, changing nothing.
 *
 * The same functions decide as in a worker: only the last step, storing and sending, is left out.
 */
#include "core/apply.h"
#include "core/decide.h"
#include "core/fragment.h"
#include "core/offload.h"
#include "core/pipeline.h"
#include "core/route.h"
#include "core/turn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void say(struct mr_explanation *x, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void say(struct mr_explanation *x, const char *fmt, ...)
{
	size_t used = strlen(x->text), room = sizeof(x->text) - used;
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(x->text + used, room, fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n + 1 < room)
		memcpy(x->text + used + n, "\n", 2);
}

static void set_verdict(struct mr_explanation *x, const char *verdict, const char *reason)
{
	snprintf(x->verdict, sizeof(x->verdict), "%s", verdict);
	snprintf(x->reason, sizeof(x->reason), "%s", reason ? reason : "");
}

static void drop(const struct mr_pass *pass, struct mr_explanation *x, unsigned reason)
{
	const char *name = mr_stats_reason_name(pass->sh->stats, reason);
	const char *help = mr_stats_reason_help(pass->sh->stats, reason);
	set_verdict(x, "drop", name);
	say(x, "dropped: %s (%s)", name ? name : "?", help ? help : "");
}

static void to_kernel(const struct mr_pass *pass, unsigned interface_id, struct mr_explanation *x)
{
	if (!pass->plan->interface[interface_id].handback) {
		drop(pass, x, MR_REASON_HANDBACK);
		return;
	}
	set_verdict(x, "kernel", NULL);
	say(x, "handed to the kernel stack");
}

/* A next hop of routing, in words. */
static void say_nexthop(
	struct mr_explanation *x, const struct mr_pass *pass, uint16_t slot, const struct mr_nexthop *nh)
{
	static const char *const states[] = { [MR_NH_NONE] = "not in use",
		[MR_NH_ROUTED] = "known",
		[MR_NH_RESOLVING] = "being resolved by the kernel: packets wait",
		[MR_NH_UNREACHABLE] = "not found by the kernel" };
	static const char *const encaps[] = { "", "in IPv4, ", "in IPv6, ", "in UDP over IPv4, ",
		"in UDP over IPv6, " };
	const char *state = nh->kind < sizeof(states) / sizeof(states[0]) && states[nh->kind] ? states[nh->kind] : "?";
	const char *encap = nh->encap < sizeof(encaps) / sizeof(encaps[0]) ? encaps[nh->encap] : "";
	const char *out = nh->egress <= MR_MAX_INTERFACES ? pass->plan->interface[nh->egress].name : NULL;
	char mac[32] = "";
	if (nh->kind == MR_NH_ROUTED)
		snprintf(mac, sizeof(mac), ", %02x:%02x:%02x:%02x:%02x:%02x", nh->dmac[0], nh->dmac[1], nh->dmac[2],
			nh->dmac[3], nh->dmac[4], nh->dmac[5]);
	say(x, "next hop %u: %sby %s%s, neighbour %s, MTU %u", slot, encap, out ? out : "no interface", mac, state,
		nh->mtu);
}

/* The route over its destination; of a stored decision also whether it is still in force. */
static void say_route(
	struct mr_explanation *x, const struct mr_pass *pass, const struct mr_parsed *p, const struct mr_found *how)
{
	const struct mr_shared *sh = pass->sh;
	uint8_t family = p->flags & MR_PKT_IP4 ? 4 : 6;
	const void *dst = family == 4 ? (const void *)&how->r4->daddr_be : (const void *)how->r6->daddr_be;
	char words[256];
	if (!(how->st->flags & MR_FLOW_ROUTED) || !sh->routes)
		return;
	if (!mr_routes_describe(sh->routes, family, dst, words, sizeof(words)))
		say(x, "route %s", words);
	else
		say(x, "no route covers the destination");
}

/* What is said of a drop that its sender hears of. */
static void say_too_big(struct mr_explanation *x, const struct mr_parsed *p, const struct mr_nexthop *nh)
{
	unsigned mtu = nh->mtu - mr_rewrite_outer_bytes(nh);
	if (p->flags & MR_PKT_IP4 && !(p->flags & MR_PKT_DF))
		say(x, "larger than %u bytes: sent in fragments", mtu);
	else
		say(x, "larger than %u bytes and not to be fragmented: its sender is told by ICMP", mtu);
}

/* What becomes of the frame once decided: the same steps as mr_turn_apply() and the flush, on a copy. */
static void leave(const struct mr_pass *pass, const void *frame, uint32_t len, const struct mr_parsed *p,
	unsigned interface_id, const struct mr_found *how, struct mr_explanation *x)
{
	enum { ROOM = 128 };
	struct mr_nexthop nh;
	mr_nexthops_get(pass->sh->nexthops, how->st->nexthop, &nh);
	say_route(x, pass, p, how);
	if (nh.kind == MR_NH_KERNEL) {
		to_kernel(pass, interface_id, x);
		return;
	}
	if (how->st->nexthop >= MR_NEXTHOP_FIRST_FREE)
		say_nexthop(x, pass, how->st->nexthop, &nh);
	if (nh.kind == MR_NH_UNREACHABLE) {
		drop(pass, x, MR_REASON_NEIGHBOUR_FAILED);
		return;
	}
	bool waits = nh.kind == MR_NH_RESOLVING;
	if (waits) /* what becomes of it then */
		nh.kind = MR_NH_ROUTED;
	uint8_t *copy = malloc(ROOM + len);
	if (!copy) {
		say(x, "no memory to carry it out");
		return;
	}
	uint8_t *at = copy + ROOM;
	memcpy(at, frame, len);
	unsigned reason = mr_apply(&at, &len, ROOM, p, how->st->flags, how->r4, how->r6, &nh, how->hash);
	free(copy);
	unsigned egress = nh.kind == MR_NH_BACK ? interface_id : nh.egress;
	const struct mr_plan_interface *pi = &pass->plan->interface[egress <= MR_MAX_INTERFACES ? egress : 0];
	if (reason == MR_REASON_TOO_BIG && nh.kind == MR_NH_ROUTED)
		say_too_big(x, p, &nh);
	if (reason == MR_REASON_TOO_BIG && nh.kind == MR_NH_ROUTED && p->flags & MR_PKT_IP4 && !(p->flags & MR_PKT_DF))
		reason = MR_REASON_NONE;
	if (!reason && (!egress || !pi->name))
		reason = MR_REASON_NO_NEXTHOP;
	if (!reason && (!pi->queue_cnt || pi->link_down))
		reason = MR_REASON_LINK_DOWN;
	if (reason) {
		drop(pass, x, reason);
		return;
	}
	set_verdict(x, "forward", NULL);
	snprintf(x->egress, sizeof(x->egress), "%s", pi->name);
	say(x, "%s of %s%s%s", waits ? "waits, and then is sent out" : "sent out", pi->name,
		how->st->flags & MR_FLOW_SNAT ? ", source translated" : "",
		how->st->flags & MR_FLOW_DNAT ? ", destination translated" : "");
}

/* A stored route is asked for again when one over the destination changed since: as the hit path does. */
static bool reroute(const struct mr_pass *pass, unsigned interface_id, struct mr_found *f, struct mr_flow_state *st,
	struct mr_explanation *x)
{
	const void *dst = f->family == 4 ? (const void *)&f->r4->daddr_be : (const void *)f->r6->daddr_be;
	uint32_t bucket = f->family == 4 ? mr_route_bucket4(f->r4->daddr_be) : mr_route_bucket6(f->r6->daddr_be);
	struct mr_route_answer a;
	if (!(st->flags & MR_FLOW_ROUTED) || !pass->sh->routes)
		return true;
	uint8_t version = __atomic_load_n(&mr_routes_versions(pass->sh->routes, f->family)[bucket], __ATOMIC_RELAXED);
	if (version == st->flags >> MR_FLOW_VERSION_SHIFT)
		return true;
	mr_routes_lookup(pass->sh->routes, interface_id, f->family, dst, f->hash, &a);
	bool kernel = a.verdict == MR_ROUTE_KERNEL;
	say(x, "a route changed since it was decided: looked up again");
	if (a.verdict == MR_ROUTE_DROP || (!kernel && !a.slot) || (kernel && st->flags & (MR_FLOW_SNAT | MR_FLOW_DNAT)))
		return false;
	st->nexthop = kernel ? MR_NEXTHOP_KERNEL : a.slot;
	st->flags = (st->flags & ~MR_FLOW_NO_TTL) | (kernel ? MR_FLOW_NO_TTL : 0);
	return true;
}

struct seen {
	struct mr_flow4 c4;
	struct mr_flow6 c6;
	struct mr_found f;
	bool found;
};

static void look_up(const struct mr_pass *pass, const struct mr_flow_key *key, struct seen *s)
{
	struct mr_flow4 *r4 = NULL;
	struct mr_flow6 *r6 = NULL;
	if (key->family == 4 && mr_flows_lookup4(pass->sh->flows, &key->k4, &key->hash, 1, &r4, &s->c4)) {
		s->f = (struct mr_found){ .st = &s->c4.st, .r4 = &s->c4.rewrite, .ingress = s->c4.key.ingress };
		s->f.rec = r4;
	} else if (key->family == 6 && mr_flows_lookup6(pass->sh->flows, &key->k6, &key->hash, 1, &r6, &s->c6)) {
		s->f = (struct mr_found){ .st = &s->c6.st, .r6 = &s->c6.rewrite, .ingress = s->c6.key.ingress };
		s->f.rec = r6;
	}
	s->f.family = key->family;
	s->f.hash = key->hash;
	s->found = r4 || r6;
}

static struct mr_flow_state *key_state(struct seen *s, unsigned family)
{
	return family == 4 ? &s->c4.st : &s->c6.st;
}

/* Whether the record decides this packet, in the words of core/worker.c; and says so. */
static bool record_decides(const struct mr_packet *p, const struct seen *s, struct mr_explanation *x)
{
	const struct mr_flow_state *st = s->f.st;
	bool syn = p->parsed->proto == MR_IP_TCP && p->parsed->tcp_flags & 0x02;
	say(x, "flow record: session %u, %s direction", st->session, st->flags & MR_FLOW_REPLY ? "reply" : "forward");
	if (!(st->flags & MR_FLOW_DECIDED))
		say(x, "the record is undecided: the stages decide");
	else if (st->generation != p->pass->plan->generation)
		say(x, "the record is of an older configuration: the stages decide");
	else if (s->f.ingress != p->ingress)
		say(x, "the record was decided for another way in: the stages decide");
	else if (syn)
		say(x, "a SYN always goes to the stages");
	else if (st->flags & MR_FLOW_ROUTED && p->parsed->flags & MR_PKT_OPTIONS)
		say(x, "it has options: the stages decide");
	else if (st->flags & MR_FLOW_ROUTED && p->parsed->vlan_cnt && p->pass->sh->routes &&
		!mr_routes_takes_tag(p->pass->sh->routes, p->interface_id, p->parsed->vlan_cnt, p->parsed->vlan_tci[0]))
		say(x, "its VLAN has no device here: the stages decide");
	else
		return true;
	return false;
}

static void run_stages(struct mr_packet *p, struct mr_explanation *x)
{
	const struct mr_plan *plan = p->pass->plan;
	const struct mr_plan_pipeline *pl = &plan->pipeline[p->pipeline];
	for (unsigned k = 0; k < pl->stage_cnt; k++) {
		struct mr_packet *one = p;
		const struct mr_plan_stage *s = &plan->stage[pl->stage[k]];
		say(x, "stage %s (%s):", s->name, s->type->type);
		if (!mr_pipeline_ask(p->pass, p->pipeline, k, &one, 1))
			break;
	}
}

static void decided(struct mr_packet *p, struct mr_explanation *x)
{
	struct mr_flow_decision d;
	bool store;
	enum mr_decide_outcome outcome = mr_decide_settle(p, &d, true, &store);
	if (outcome == MR_DECIDE_DROP) {
		if (p->reject && p->pass->plan->pipeline[p->pipeline].to_kind == MR_TO_ROUTE)
			say(x, "its sender is told by ICMP%s",
				p->reject_ms ? ", unless a session comes of it meanwhile" : "");
		drop(p->pass, x, p->reason);
		return;
	}
	if (outcome == MR_DECIDE_AGAIN) {
		set_verdict(x, "drop", NULL);
		say(x, "its session would be ended, and the packet decided as the first of a new flow");
		return;
	}
	const struct mr_flow_state st = { .flags = d.flags, .nexthop = d.nexthop };
	const struct mr_found how = { .st = &st, .r4 = &d.r4, .r6 = &d.r6, .hash = p->key.hash };
	x->stored = store;
	if (p->related.found)
		say(x, "an ICMP error about a packet of session %u%s", p->related.session,
			p->related.changes ? ", translated as that one was" : "");
	if (p->mss && p->parsed->proto == MR_IP_TCP && p->parsed->tcp_flags & 0x02)
		say(x, "its MSS option becomes no larger than is allowed");
	if (p->meter_cnt)
		say(x, "passes %u rate limit%s, which may drop it", p->meter_cnt, p->meter_cnt > 1 ? "s" : "");
	leave(p->pass, p->data, p->frame.len, p->parsed, p->interface_id, &how, x);
	if (store)
		say(x, "the decision would be stored: later packets of the flow do not meet the stages");
	else
		say(x, "the decision holds for this packet only");
}

/* Whether the kernel tier would have carried it out.  What of a packet it leaves alone is in its program (kern/tier.bpf.h). */
static void say_tier(const struct mr_pass *pass, const struct mr_found *f, struct mr_explanation *x)
{
	const struct mr_flow_state *st = f->st;
	const struct mr_session *s = mr_session_at(pass->sh->sessions, st->session);
	enum mr_direction dir = st->flags & MR_FLOW_REPLY ? MR_REPLY : MR_FORWARD;
	enum mr_offload_why why = mr_offload_judge(pass->sh, pass->plan, s, dir, f->ingress, st);
	if (why)
		say(x, "not by the kernel tier: %s (%s)", mr_offload_name(why), mr_offload_help(why));
	else
		say(x,
			"the kernel tier carries the flow out, but for fragments, options, SYN, FIN, RST, TTL 1 and "
			"what is "
			"too big");
}

static void explain_pipeline(const struct mr_pass *pass, unsigned interface_id, int pipeline, const void *frame,
	uint32_t len, const struct mr_parsed *parsed, struct mr_explanation *x)
{
	struct mr_frame desc = { .len = len };
	struct seen seen = { .found = false };
	struct mr_packet p;
	mr_packet_begin(&p, pass, &desc, (uint8_t *)frame, parsed, interface_id, pipeline);
	p.explanation = x;
	if (p.stateful)
		look_up(pass, &p.key, &seen);
	if (!p.key.family && pass->plan->pipeline[p.pipeline].state == MR_STATE_SESSIONS)
		say(x, "the packet names no flow: it is decided by itself");
	else if (p.stateful && !seen.found)
		say(x, "no flow record: it would be the first packet of a flow");
	struct mr_flow_state *st = key_state(&seen, p.key.family);
	if (seen.found && record_decides(&p, &seen, x) && reroute(pass, interface_id, &seen.f, st, x)) {
		x->from_record = true;
		x->stored = true;
		say(x, "the record decides");
		say_tier(pass, &seen.f, x);
		leave(pass, frame, len, parsed, interface_id, &seen.f, x);
		return;
	}
	if (seen.found)
		mr_packet_attach(&p, seen.f.st->session, seen.f.st->flags, seen.f.st->generation,
			mr_turn_ref(pass->sh->flows, &seen.f));
	mr_packet_reset(&p);
	run_stages(&p, x);
	decided(&p, x);
}

/* What workers know of its datagram only they may read. */
static void explain_later(const struct mr_pass *pass, struct mr_explanation *x)
{
	say(x,
		"a fragment after the first: it gets the ports of its first one and goes the same way; explain that "
		"one");
	say(x, "when the first one has not come, it waits %llu ms for it", MR_FRAGMENT_HOLD_NS / 1000000);
	drop(pass, x, MR_REASON_FRAG_TIMEOUT);
}

static void explain_frame(
	const struct mr_pass *pass, unsigned interface_id, const void *frame, uint32_t len, struct mr_explanation *x)
{
	const struct mr_plan_interface *pi = &pass->plan->interface[interface_id];
	struct mr_parsed parsed;
	int error = mr_parse(frame, (const uint8_t *)frame + len, &parsed);
	int pipeline = mr_steer_classify(pi->steer, &parsed, frame);
	if (pipeline < 0) {
		set_verdict(x, "unmatched", NULL);
		say(x, "no pipeline of %s matches it: it stays with the kernel", pi->name);
		return;
	}
	const char *name = pass->plan->pipeline[pi->pipeline[pipeline]].name;
	snprintf(x->pipeline, sizeof(x->pipeline), "%s", name);
	say(x, "pipeline %s takes it", name);
	if (mr_miss_malformed(&pass->plan->pipeline[pi->pipeline[pipeline]], (unsigned)error))
		drop(pass, x, mr_miss_reason(error));
	else if (parsed.flags & MR_PKT_FRAG_LATER && pi->fragments_follow)
		explain_later(pass, x);
	else
		explain_pipeline(pass, interface_id, pipeline, frame, len, &parsed, x);
}

int mr_worker_explain(struct mr_shared *sh, struct mr_plan *plan, unsigned interface_id, const void *frame,
	uint32_t len, struct mr_explanation *out, struct mr_error *e)
{
	struct mr_pass pass = { .sh = sh, .plan = plan, .worker = sh->worker_cnt };
	struct timespec ts;
	if (!interface_id || interface_id > MR_MAX_INTERFACES || !plan->interface[interface_id].name)
		return mr_error_set(e, -ENOENT, "there is no interface with number %u", interface_id);
	clock_gettime(CLOCK_MONOTONIC, &ts);
	pass.now_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	pass.now_ms = (uint32_t)(pass.now_ns / 1000000u);
	memset(out, 0, sizeof(*out));
	mr_epoch_online(sh->epoch, sh->worker_cnt);
	explain_frame(&pass, interface_id, frame, len, out);
	mr_epoch_offline(sh->epoch, sh->worker_cnt);
	return 0;
}
