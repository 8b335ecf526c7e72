/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/decide.h"

#include "core/keys.h"
#include "core/pipeline.h"
#include "core/route.h"
#include "kern/rewrite.h"

#include <errno.h>
#include <string.h>

uint16_t mr_decide_track(uint8_t proto, enum mr_session_state state)
{
	/* While closing, the direction that has ended is marked MR_FLOW_CLOSING; nothing of the other one but FIN and RST moves the session. */
	return proto == MR_IP_TCP && state != MR_SESSION_ESTABLISHED && state != MR_SESSION_CLOSING ? MR_FLOW_TRACK : 0;
}

void mr_decide_record(
	struct mr_flows *flows, mr_flow_ref ref, uint32_t session, uint8_t family, const struct mr_flow_decision *d)
{
	/* -ESTALE: the record went to somebody else meanwhile; then there is nothing to replace */
	if (family == 4)
		mr_flows_decide4(
			flows, ref, session, d->ingress, &d->r4, d->flags, d->nexthop, d->generation, d->effects);
	else
		mr_flows_decide6(
			flows, ref, session, d->ingress, &d->r6, d->flags, d->nexthop, d->generation, d->effects);
}

/*
 * The ends of the packet as it leaves, in the form of a key: what the other side answers to.  Of an ICMP query one end is the identifier,
 * the other the type, which stays; protocols without ports have 0 at both.
 */
void mr_decide_key_after(const struct mr_packet *p, const struct mr_flow_key *before, struct mr_flow_key *out)
{
	const struct mr_tuple *t = &p->tuple;
	bool sport = t->has_ports || mr_packet_is_query(p, true), dport = t->has_ports || mr_packet_is_query(p, false);
	*out = *before;
	if (out->family == 4) {
		memcpy(&out->k4.saddr_be, t->src, 4);
		memcpy(&out->k4.daddr_be, t->dst, 4);
		out->k4.sport_be = sport ? t->sport_be : before->k4.sport_be;
		out->k4.dport_be = dport ? t->dport_be : before->k4.dport_be;
		return;
	}
	memcpy(out->k6.saddr_be, t->src, 16);
	memcpy(out->k6.daddr_be, t->dst, 16);
	out->k6.sport_be = sport ? t->sport_be : before->k6.sport_be;
	out->k6.dport_be = dport ? t->dport_be : before->k6.dport_be;
}

/* The rewrite of this packet.  Packets without a key of their own (later fragments) are translated by addresses alone. */
static void make_rewrite(const struct mr_packet *p, struct mr_flow_decision *d)
{
	const struct mr_parsed *h = p->parsed;
	struct mr_flow_key before = { .family = p->tuple.family }, after;
	if (!p->tuple.family)
		return;
	if (p->tuple.family == 4)
		mr_parse_key4(h, p->data, p->zone, &before.k4);
	else
		mr_parse_key6(h, p->data, p->zone, &before.k6);
	mr_decide_key_after(p, &before, &after);
	if (p->tuple.family == 4) {
		d->r4 = (struct mr_rewrite4){ .saddr_be = after.k4.saddr_be,
			.daddr_be = after.k4.daddr_be,
			.sport_be = after.k4.sport_be,
			.dport_be = after.k4.dport_be };
		mr_rewrite_delta4(&before.k4, &d->r4);
		return;
	}
	memcpy(d->r6.saddr_be, after.k6.saddr_be, 16);
	memcpy(d->r6.daddr_be, after.k6.daddr_be, 16);
	d->r6.sport_be = after.k6.sport_be;
	d->r6.dport_be = after.k6.dport_be;
	mr_rewrite_delta6(&before.k6, &d->r6);
}

/* Effects as a number for the record.  False: they do not fit one. */
static bool make_effects(const struct mr_packet *p, struct mr_flow_decision *d)
{
	struct mr_effect e = { 0 };
	if (p->effects_lost || p->counter_cnt > MR_EFFECT_COUNTERS || p->meter_cnt > MR_EFFECT_METERS)
		return false;
	memcpy(e.counter, p->counter, p->counter_cnt * sizeof(e.counter[0]));
	memcpy(e.meter, p->meter, p->meter_cnt * sizeof(e.meter[0]));
	int id = mr_effects_intern(p->pass->plan->effects, &e);
	if (id < 0)
		return false;
	d->effects = id;
	return true;
}

/* The flow's number among the paths of a multipath route; packets that name no flow are told apart by their addresses. */
static uint64_t flow_hash(const struct mr_packet *p)
{
	const struct mr_tuple *t = &p->tuple;
	uint64_t seed = mr_flows_seed(p->pass->sh->flows);
	struct mr_flow_key k;
	struct mr_key4 k4 = { .proto = t->proto };
	struct mr_key6 k6 = { .proto = t->proto };
	if (p->key.family)
		return p->key.hash;
	if (mr_packet_key(p->parsed, p->data, p->zone, seed, &k))
		return k.hash;
	if (t->family == 4) {
		memcpy(&k4.saddr_be, t->src, 4);
		memcpy(&k4.daddr_be, t->dst, 4);
		return mr_flow_hash4(&k4, seed);
	}
	memcpy(k6.saddr_be, t->src, 16);
	memcpy(k6.daddr_be, t->dst, 16);
	return mr_flow_hash6(&k6, seed);
}

/* ---- what a router does not forward by looking at the destination alone ------------------------------------------- */

/* Sources no router forwards (RFC 1812 section 5.3.7; RFC 4291 sections 2.5.2, 2.5.3, 2.5.6, 2.7). */
static bool martian(const struct mr_tuple *t)
{
	static const uint8_t loopback[16] = { [15] = 1 }, unspecified[16];
	const uint8_t *a = t->src;
	if (t->family == 4)
		return a[0] == 0 || a[0] == 127 || (a[0] & 0xf0) == 0xe0 || !memcmp(a, "\xff\xff\xff\xff", 4);
	return a[0] == 0xff || (a[0] == 0xfe && (a[1] & 0xc0) == 0x80) || !memcmp(a, unspecified, 16) ||
		!memcmp(a, loopback, 16);
}

/* IPv4 options and IPv6 hop-by-hop options are for every router on the way; other extension headers are not. */
static bool has_router_options(const struct mr_packet *p)
{
	const struct mr_parsed *h = p->parsed;
	if (!(h->flags & MR_PKT_OPTIONS))
		return false;
	return h->flags & MR_PKT_IP4 || p->data[h->l3_off + 6] == MR_IP_HOPOPTS;
}

/* The kernel takes no IPv4 packet from outside whose source is an address of its own; of IPv6 it does.  A source we wrote is no claim. */
static bool claims_to_be_us(const struct mr_packet *p)
{
	return p->tuple.family == 4 && !(p->translated & MR_FLOW_SNAT) &&
		mr_routes_local(p->pass->sh->routes, 4, p->tuple.src);
}

enum frame_for { FRAME_FOR_US, FRAME_FOR_ALL, FRAME_FOR_OTHER };

/* Whose the frame is.  Devices over the interface (VLAN, macvlan) may have addresses of their own, which only the stack knows. */
static enum frame_for frame_for(const struct mr_packet *p)
{
	static const uint8_t none[6];
	const uint8_t *mac = p->pass->plan->interface[p->interface_id].mac;
	if (p->data[0] & 1)
		return FRAME_FOR_ALL;
	if (!memcmp(mac, none, 6) || !memcmp(mac, p->data, 6))
		return FRAME_FOR_US;
	return FRAME_FOR_OTHER;
}

/* Of a VLAN that has no device here. */
static bool of_other_vlan(const struct mr_packet *p)
{
	const struct mr_parsed *h = p->parsed;
	const struct mr_routes *r = p->pass->sh->routes;
	return h->vlan_cnt && r && !mr_routes_takes_tag(r, p->interface_id, h->vlan_cnt, h->vlan_tci[0]);
}

static bool is_multicast(const struct mr_tuple *t)
{
	if (t->family == 4)
		return (t->dst[0] & 0xf0) == 0xe0 || !memcmp(t->dst, "\xff\xff\xff\xff", 4);
	return t->dst[0] == 0xff;
}

static bool drop(struct mr_packet *p, unsigned reason)
{
	p->verdict = MR_VERDICT_DROP;
	p->reason = reason;
	return false;
}

/* The stack would not know what to do with an address that is only ours. */
static bool to_stack(struct mr_packet *p, struct mr_flow_decision *d, unsigned reason)
{
	if (p->translated) {
		mr_packet_explain(p,
			"it leads to this box itself, whose stack gets nothing that was translated: `except` keeps it "
			"out");
		return drop(p, reason ? reason : MR_REASON_NO_NEXTHOP);
	}
	d->nexthop = MR_NEXTHOP_KERNEL;
	d->flags |= MR_FLOW_NO_TTL;
	return true;
}

/* Where the kernel's routes send it. */
static bool route(struct mr_packet *p, struct mr_flow_decision *d)
{
	struct mr_route_answer a;
	enum frame_for whose = frame_for(p);
	if (!p->tuple.family)
		return to_stack(p, d, MR_REASON_NONE);
	if (martian(&p->tuple) || (whose == FRAME_FOR_ALL && !is_multicast(&p->tuple)) || whose == FRAME_FOR_OTHER ||
		of_other_vlan(p) || (has_router_options(p) && !p->translated)) {
		p->aside = true;
		return to_stack(p, d, MR_REASON_NONE);
	}
	if (!p->pass->sh->routes)
		return drop(p, MR_REASON_NO_NEXTHOP);
	if (claims_to_be_us(p)) {
		p->aside = true;
		return to_stack(p, d, MR_REASON_NONE);
	}
	mr_routes_lookup(p->pass->sh->routes, p->interface_id, p->tuple.family, p->tuple.dst, p->key.hash, &a);
	d->flags |= MR_FLOW_ROUTED | (uint16_t)(a.version << MR_FLOW_VERSION_SHIFT);
	d->nexthop = a.slot;
	if (a.verdict == MR_ROUTE_KERNEL)
		return to_stack(p, d, a.reason);
	if (a.verdict == MR_ROUTE_DROP || !a.slot)
		return drop(p, a.reason ? a.reason : MR_REASON_NO_NEXTHOP);
	return true;
}

/* ---- the decision ------------------------------------------------------------------------------------------------ */

static bool find_nexthop(struct mr_packet *p, struct mr_flow_decision *d)
{
	const struct mr_plan_pipeline *pl = &p->pass->plan->pipeline[p->pipeline];
	switch (p->verdict) {
	case MR_VERDICT_KERNEL:
		d->nexthop = MR_NEXTHOP_KERNEL;
		break;
	case MR_VERDICT_INTERFACE:
		d->nexthop = p->egress;
		break;
	case MR_VERDICT_TUNNEL:
		d->nexthop = p->tunnel;
		break;
	default:
		if (pl->to_kind == MR_TO_ROUTE)
			return route(p, d);
		d->nexthop = pl->nexthop;
	}
	if (d->nexthop == MR_NEXTHOP_KERNEL)
		return to_stack(p, d, MR_REASON_NONE);
	/* A bump in the wire and `back` leave TTL alone; routing (slots from MR_NEXTHOP_FIRST_FREE on) takes one. */
	if (d->nexthop < MR_NEXTHOP_FIRST_FREE)
		d->flags |= MR_FLOW_NO_TTL;
	return d->nexthop || drop(p, MR_REASON_NO_NEXTHOP);
}

static bool make_decision(struct mr_packet *p, struct mr_flow_decision *d)
{
	memset(d, 0, sizeof(*d));
	d->ingress = p->ingress;
	d->generation = p->pass->plan->generation;
	d->flags = p->translated;
	/* A translation is by key, which these have not; an ICMP error has that of what it quotes (mr_decide_related). */
	if (p->translated && (p->parsed->flags & (MR_PKT_ICMP | MR_PKT_ICMP_QUERY)) == MR_PKT_ICMP && !p->related.found)
		return drop(p, MR_REASON_BAD_L4);
	if (!p->key.family && p->tuple.family)
		p->key.hash = flow_hash(p);
	if (!find_nexthop(p, d))
		return false;
	make_rewrite(p, d);
	return true;
}

/* The table has no room.  What needs no memory of the flow goes on; a translation or a stage's private bytes do need it. */
static enum mr_decide_outcome not_stored(struct mr_packet *p, int err)
{
	/* before abort(), which may look at the bytes, and that marks them used */
	bool needs_memory = p->translated || p->private_used;
	mr_pipeline_abort(p);
	if (!needs_memory)
		return MR_DECIDE_APPLY;
	p->reason = err == -EDQUOT ? MR_REASON_HALF_OPEN : MR_REASON_TABLE_FULL;
	return MR_DECIDE_DROP;
}

static enum mr_decide_outcome open_session(struct mr_packet *p, struct mr_flow_decision *d, bool dry, bool *store)
{
	const struct mr_shared *sh = p->pass->sh;
	struct mr_flow_decision stored = *d;
	struct mr_flow_key reverse;
	uint32_t idx = 0;
	mr_decide_key_after(p, &p->key, &reverse);
	mr_key_reverse(&reverse, mr_flows_seed(sh->flows));
	if (mr_key_equal(&p->key, &reverse)) { /* it talks to itself: one key cannot be two directions */
		*store = false;
		mr_pipeline_abort(p);
		return MR_DECIDE_APPLY;
	}
	if (dry) {
		mr_pipeline_abort(p);
		return MR_DECIDE_APPLY;
	}
	if (*store)
		stored.flags |= MR_FLOW_DECIDED;
	stored.flags |= mr_decide_track(p->parsed->proto, MR_SESSION_NEW);
	stored.timeouts = p->timeouts;
	stored.keep = p->keep;
	stored.serial = (uint32_t)p->pass->plan->serial;
	int err = mr_session_create(sh->sessions, p->pass->worker, &p->key, &reverse, &stored, p->parsed->tcp_flags,
		p->one_way, p->fresh, p->pass->now_ms, &idx);
	if (err == -EEXIST) {
		mr_pipeline_abort(p);
		return MR_DECIDE_AGAIN;
	}
	if (err)
		return not_stored(p, err);
	p->session = idx;
	p->direction = MR_FORWARD;
	p->ref = mr_session_at(sh->sessions, idx)->ref[MR_FORWARD];
	mr_pipeline_commit(p);
	return MR_DECIDE_APPLY;
}

static enum mr_decide_outcome known_session(struct mr_packet *p, struct mr_flow_decision *d, bool dry, bool *store)
{
	const struct mr_shared *sh = p->pass->sh;
	struct mr_flow_decision stored = *d;
	bool changed;
	if (dry)
		return MR_DECIDE_APPLY;
	/* The flags of a fragmented segment are told once, by the fragment that has them. */
	uint8_t tcp_flags = p->parsed->flags & MR_PKT_FRAG_LATER ? 0 : p->parsed->tcp_flags;
	enum mr_session_state state =
		mr_session_packet(sh->sessions, p->session, p->direction, tcp_flags, p->pass->now_ms, &changed);
	if (state == MR_SESSION_FREE)
		return MR_DECIDE_AGAIN;
	if (p->aside || (!*store && !(p->record_flags & MR_FLOW_DECIDED) && !p->stale))
		return MR_DECIDE_APPLY;
	stored.flags |= p->direction == MR_REPLY ? MR_FLOW_REPLY : 0;
	stored.flags |= (*store ? MR_FLOW_DECIDED : 0) | mr_decide_track(p->parsed->proto, state);
	mr_decide_record(sh->flows, p->ref, p->session, p->key.family, &stored);
	return MR_DECIDE_APPLY;
}

static enum mr_decide_outcome settle_drop(struct mr_packet *p, bool dry)
{
	if (!p->session)
		mr_pipeline_abort(p);
	else if (p->ends && !dry)
		mr_session_end(p->pass->sh->sessions, p->pass->worker, p->session, p->pass->now_ms);
	return MR_DECIDE_DROP;
}

/* A session that a stage ended: its packet is the first of a new flow. */
static enum mr_decide_outcome settle_again(struct mr_packet *p, bool dry)
{
	if (!dry)
		mr_session_end(p->pass->sh->sessions, p->pass->worker, p->session, p->pass->now_ms);
	p->session = 0;
	return MR_DECIDE_AGAIN;
}

enum mr_decide_outcome mr_decide_settle(struct mr_packet *p, struct mr_flow_decision *out, bool dry, bool *store)
{
	*store = false;
	if (p->verdict == MR_VERDICT_AGAIN)
		return settle_again(p, dry);
	if (p->verdict == MR_VERDICT_DROP || !make_decision(p, out))
		return settle_drop(p, dry);
	/* Interned also for packets that are not stored: the same path then executes them. */
	bool fits = make_effects(p, out);
	if (!p->stateful) {
		mr_pipeline_abort(p);
		return MR_DECIDE_APPLY;
	}
	*store = fits && !p->this_packet_only && !p->aside;
	if (p->session)
		return known_session(p, out, dry, store);
	if (!mr_packet_opens(p) || (p->no_session && !p->translated)) {
		*store = false;
		mr_pipeline_abort(p);
		return MR_DECIDE_APPLY;
	}
	return open_session(p, out, dry, store);
}
