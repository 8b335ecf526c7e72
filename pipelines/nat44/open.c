/* SPDX-License-Identifier: BSD-2-Clause */
/* open.c - the first packet of a session: which static rule, mapping or address is its, for source, destination or both. */
#include "pipelines/nat44/look.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* An end as it will be. */
struct becomes {
	__be32 addr_be;
	int port_be;
};

struct text {
	char text[INET_ADDRSTRLEN];
};

static struct text say(__be32 addr_be)
{
	struct text t;
	inet_ntop(AF_INET, &addr_be, t.text, sizeof(t.text));
	return t;
}

static void remember_static(const struct nat_end *e, uint32_t *word, uint8_t *more)
{
	*word = (uint32_t)e->rule->identity << 16 | (e->offset & 0xffff);
	*more = (uint8_t)(e->offset >> 16);
}

/* ---- a new session: the source -------------------------------------------------------------------------------------- */

static void explain_end(struct nat_look *l, const char *which, __be32 was_be, __be16 was_port_be,
	const struct becomes *to, const char *by)
{
	char ports[2][8] = { "", "" };
	if (!mr_packet_explaining(l->p))
		return;
	for (unsigned i = 0; i < 2; i++) {
		int port = i && to->port_be != MR_PORT_KEEP ? to->port_be : was_port_be;
		if (was_port_be)
			snprintf(ports[i], sizeof(ports[i]), ":%u", ntohs((uint16_t)port));
	}
	mr_packet_explain(l->p, "%s %s%s becomes %s%s, %s", which, say(was_be).text, ports[0], say(to->addr_be).text,
		ports[1], by);
}

static void explain_rule(
	struct nat_look *l, const char *which, __be32 was_be, __be16 was_port_be, const struct nat_end *e)
{
	char by[300];
	struct becomes to = { e->address_be, e->port_be };
	if (!mr_packet_explaining(l->p))
		return;
	snprintf(by, sizeof(by), "by the static rule at %s", e->rule->where);
	explain_end(l, which, was_be, was_port_be, &to, by);
}

static uint8_t peers_of(const struct nat *n)
{
	return n->policy.filtering == NAT_ADDRESS_DEPENDENT ? NAT_PEERS : 0;
}

static bool source_by_mapping(struct nat_look *l, struct becomes *out)
{
	struct nat_store *s = l->n->shared->store;
	struct nat_flow f = nat_look_flow(&l->t);
	struct nat_mapping m;
	bool made;
	enum nat_outcome outcome = nat_store_take(s, &l->turn, &f, &l->mine->source, &made);
	if (outcome != NAT_OK) {
		nat_look_refuse(l, outcome, true);
		return false;
	}
	l->mine->flags |= NAT_SOURCE | peers_of(l->n);
	l->mine->aside = f.remote_be;
	nat_store_held(s, l->mine->source, &m);
	*out = (struct becomes){ m.outside_be, m.outside_port_be };
	explain_end(
		l, "source", l->src_be, l->t.sport_be, out, made ? "by a mapping it makes" : "by a mapping there is");
	return true;
}

static bool source_by_subscriber(struct nat_look *l, struct becomes *out)
{
	uint32_t subscriber;
	enum nat_outcome outcome = nat_store_take_subscriber(
		l->n->shared->store, &l->turn, l->t.zone, l->src_be, &subscriber, &out->addr_be);
	if (outcome != NAT_OK) {
		nat_look_refuse(l, outcome, true);
		return false;
	}
	out->port_be = MR_PORT_KEEP;
	l->mine->flags |= NAT_SOURCE | NAT_SUBSCRIBER;
	l->mine->source = out->addr_be;
	l->mine->aside = subscriber;
	explain_end(l, "source", l->src_be, 0, out, "the outside address of its sender: the protocol has no ports");
	return true;
}

/* False: it is refused. */
static bool find_source(struct nat_look *l, struct becomes *out)
{
	struct nat_end e;
	if (l->t.proto == IPPROTO_ICMP && !nat_look_is_request(&l->t)) {
		nat_look_drop(l, NAT_REASON_NO_SESSION, "it is from inside, and no request it would answer is known");
		return false;
	}
	l->mine = mr_packet_session(l->p);
	if (!l->mine) {
		nat_look_drop(l, NAT_REASON_NO_SESSION, "it is from inside, belongs to no session and cannot open one");
		return false;
	}
	if (nat_statics_outward(
		    &l->n->statics, l->t.proto, l->src_be, nat_look_has_ports(&l->t) ? l->t.sport_be : 0, &e)) {
		l->mine->flags |= NAT_SOURCE | NAT_SOURCE_STATIC;
		remember_static(&e, &l->mine->source, &l->mine->source_more);
		*out = (struct becomes){ e.address_be, e.port_be };
		explain_rule(l, "source", l->src_be, l->t.sport_be, &e);
		return true;
	}
	return nat_look_proto(&l->t) >= 0 ? source_by_mapping(l, out) : source_by_subscriber(l, out);
}

/* ---- ... the destination -------------------------------------------------------------------------------------------- */

/* Over the hairpin, and filtered: let in when the inside host it goes to has sent to its sender's outside end before, and was filtered itself. */
static enum nat_outcome meet(struct nat_look *l, __be32 remote_be, __be16 remote_port_be)
{
	struct nat_turn turn = l->turn;
	bool ports = l->n->policy.filtering == NAT_ADDRESS_AND_PORT_DEPENDENT, filtered;
	uint8_t proto = (uint8_t)nat_look_proto(&l->t);
	struct nat_knock there = { remote_be, l->dst_be, remote_port_be, ports ? l->t.dport_be : 0, l->t.zone, proto };
	struct nat_knock back = { l->dst_be, remote_be, l->t.dport_be, ports ? remote_port_be : 0, l->t.zone, proto };
	if (!mr_packet_explaining(l->p))
		nat_knock(l->n->shared, &there, l->turn.now_ms);
	if (!nat_knocked(l->n->shared, &back, l->turn.now_ms))
		return NAT_OK;
	turn.let_in = true;
	return nat_store_take_outside(l->n->shared->store, &turn, l->t.zone, proto, l->dst_be, l->t.dport_be, remote_be,
		remote_port_be, &l->mine->destination, &filtered);
}

static bool destination_by_mapping(struct nat_look *l, __be32 remote_be, __be16 remote_port_be, struct becomes *out)
{
	struct nat_store *s = l->n->shared->store;
	struct nat_mapping m;
	bool filtered = false;
	bool hairpin = l->mine->flags & NAT_SOURCE;
	enum nat_outcome outcome = nat_store_take_outside(s, &l->turn, l->t.zone, (uint8_t)nat_look_proto(&l->t),
		l->dst_be, l->t.dport_be, remote_be, remote_port_be, &l->mine->destination, &filtered);
	if (outcome == NAT_OK && filtered && hairpin)
		outcome = meet(l, remote_be, remote_port_be);
	if (outcome != NAT_OK) {
		nat_look_refuse(l, outcome, hairpin);
		return false;
	}
	if (!l->mine->destination) {
		nat_look_leave_over(l, filtered);
		return false;
	}
	l->mine->flags |= NAT_DESTINATION | peers_of(l->n);
	if (!hairpin)
		l->mine->aside = remote_be;
	nat_store_held(s, l->mine->destination, &m);
	*out = (struct becomes){ m.inside_be, m.inside_port_be };
	explain_end(l, "destination", l->dst_be, l->t.dport_be, out, "by the mapping it goes to");
	return true;
}

/*
 * Whether anybody may want a packet to an outside address.  Asked before anything is taken: what is left over takes no mapping of a sender
 * inside, and needs no session (a full table is no reason not to hand it to the kernel).
 */
static bool wanted(const struct nat_look *l)
{
	struct nat_end e;
	struct nat_mapping m;
	if (l->t.proto == IPPROTO_ICMP && !nat_look_is_request(&l->t))
		return false; /* a reply nobody asked for */
	bool fixed = nat_statics_inward(
		&l->n->statics, l->t.proto, l->dst_be, nat_look_has_ports(&l->t) ? l->t.dport_be : 0, &e);
	if (!fixed &&
		!(nat_look_has_ports(&l->t) &&
			nat_store_find_outside(
				l->n->shared->store, (uint8_t)nat_look_proto(&l->t), l->dst_be, l->t.dport_be, &m)))
		return false;
	return mr_packet_session(l->p);
}

/* Of a packet that is wanted; remote: the sender as it is outside.  False: nobody wants it after all, or it is refused. */
static bool find_destination(struct nat_look *l, __be32 remote_be, __be16 remote_port_be, struct becomes *out)
{
	struct nat_end e;
	l->mine = mr_packet_session(l->p);
	if (!nat_statics_inward(
		    &l->n->statics, l->t.proto, l->dst_be, nat_look_has_ports(&l->t) ? l->t.dport_be : 0, &e))
		return destination_by_mapping(l, remote_be, remote_port_be, out);
	l->mine->flags |= NAT_DESTINATION | NAT_DESTINATION_STATIC;
	remember_static(&e, &l->mine->destination, &l->mine->destination_more);
	*out = (struct becomes){ e.address_be, e.port_be };
	explain_rule(l, "destination", l->dst_be, l->t.dport_be, &e);
	return true;
}

/* ---- ... and both ---------------------------------------------------------------------------------------------------- */

/* Replies must tell it from every other session. */
static void refuse_ambiguous(struct nat_look *l)
{
	if (!mr_packet_reply_taken(l->p))
		return;
	nat_look_give_up(l);
	nat_look_drop(l, NAT_REASON_AMBIGUOUS, "replies to it could not be told from those of another session");
}

static void decide_outward(struct nat_look *l)
{
	struct becomes source;
	if (!find_source(l, &source))
		return;
	mr_decide_source(l->p, (const uint8_t *)&source.addr_be, source.port_be);
	mr_decide_count(l->p, l->n->count_out);
	mr_decide_timeouts(l->p, l->n->timeouts_out);
	mr_decide_keep(l->p);
	nat_look_mss(l);
	/* A mapping has its port for itself. */
	if (l->mine->flags & (NAT_SOURCE_STATIC | NAT_SUBSCRIBER))
		refuse_ambiguous(l);
}

static void decide_inward(struct nat_look *l)
{
	struct becomes destination;
	if (!wanted(l)) {
		nat_look_leave_over(l, false);
		return;
	}
	if (!find_destination(l, l->src_be, l->t.sport_be, &destination))
		return;
	mr_decide_destination(l->p, (const uint8_t *)&destination.addr_be, destination.port_be);
	mr_decide_count(l->p, l->n->count_in);
	mr_decide_timeouts(l->p, l->n->timeouts_in);
	nat_look_mss(l);
	refuse_ambiguous(l);
}

/* RFC 4787 REQ-9: the other inside host sees the outside end of the sender. */
static void decide_hairpin(struct nat_look *l)
{
	struct becomes source, destination;
	if (!wanted(l)) {
		nat_look_leave_over(l, false);
		return;
	}
	if (!find_source(l, &source))
		return;
	__be16 port_be = source.port_be == MR_PORT_KEEP ? l->t.sport_be : (__be16)source.port_be;
	if (!find_destination(l, source.addr_be, port_be, &destination))
		return;
	mr_decide_source(l->p, (const uint8_t *)&source.addr_be, source.port_be);
	mr_decide_destination(l->p, (const uint8_t *)&destination.addr_be, destination.port_be);
	mr_decide_count(l->p, l->n->count_hairpin);
	mr_decide_timeouts(l->p, l->n->timeouts_hairpin);
	mr_decide_keep(l->p);
	nat_look_mss(l);
	refuse_ambiguous(l);
}

void nat_open(struct nat_look *l, enum nat_kind kind)
{
	switch (kind) {
	case NAT_OUTWARD:
		decide_outward(l);
		return;
	case NAT_INWARD:
		decide_inward(l);
		return;
	case NAT_HAIRPIN:
		decide_hairpin(l);
		return;
	case NAT_TO_BOX:
		nat_look_to_box(l);
		return;
	case NAT_UNASKED:
		nat_look_drop_unasked(l);
		return;
	default:
		mr_packet_explain(l->p, "neither from inside to outside nor to an outside address: left as it is");
	}
}
