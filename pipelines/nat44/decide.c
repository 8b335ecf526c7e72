/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * decide.c - what becomes of a packet.
 *
 *     its session is translated ─► as the session's two keys say
 *     ICMP error                ─► as the packet it quotes (RFC 5508)
 *     from inside, to the box   ─► to its stack, as it is
 *     from inside, to outside   ─► source: static rule, else mapping, else (protocols without ports) only the address
 *     to an outside address     ─► destination: static rule, else mapping; from inside as well: both (hairpin, RFC 4787 REQ-9)
 *     to an inside address      ─► only from inside and from exempt sources, as it is
 *     anything else             ─► not ours, on to the next stage
 *
 * Only the effective tuple is read, so that every decision can be stored.  What is taken of the store is written into the session's private
 * bytes at once: abort() and expire() (session.c) give back what stands there.
 */
#include "pipelines/nat44/nat44.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define ANSWER_AFTER_MS 6000 /* RFC 5382 REQ-4 */

/* One packet at work.  The tuple as it was when it came to the stage: deciding changes it. */
struct look {
	struct nat *n;
	struct mr_packet *p;
	struct nat_private *mine;
	struct nat_turn turn;
	struct mr_tuple t;
	__be32 src_be, dst_be;
};

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

static void look_at(struct nat *n, unsigned worker, struct mr_packet *p, struct look *l)
{
	l->n = n;
	l->p = p;
	l->mine = NULL;
	l->turn = (struct nat_turn){ .policy = &n->policy,
		.worker = worker,
		.now_ms = (uint32_t)(mr_packet_time_ns(p) / 1000000),
		.trial = mr_packet_explaining(p) };
	l->t = *mr_packet_tuple(p);
	l->src_be = nat_address_at(l->t.src);
	l->dst_be = nat_address_at(l->t.dst);
}

/* ---- what a packet is --------------------------------------------------------------------------------------------- */

enum kind {
	NOT_OURS,
	OUTWARD,
	INWARD,
	HAIRPIN,
	UNASKED /* to an inside address that no stage made it: the answers would leave untranslated */
};

/* A group, all hosts of a link: the stack knows (DHCP, mDNS).  Anything else a default route may send out. */
static bool for_many(uint32_t address)
{
	return address >> 28 == 0xe || address == 0xffffffff;
}

static enum kind kind_of(const struct nat *n, __be32 src_be, __be32 dst_be, bool dst_changed)
{
	uint32_t src = ntohl(src_be), dst = ntohl(dst_be);
	bool to_outside = nat_ranges_hold(&n->outsides, dst);
	if (!nat_ranges_hold(&n->inside, src))
		return to_outside ? INWARD
			: dst_changed || nat_ranges_hold(&n->exempt, src) || !nat_ranges_hold(&n->inside, dst)
			? NOT_OURS
			: UNASKED;
	if (for_many(dst) || nat_ranges_hold(&n->exempt, dst))
		return NOT_OURS;
	if (to_outside)
		return HAIRPIN;
	return nat_ranges_hold(&n->inside, dst) ? NOT_OURS : OUTWARD;
}

static bool icmp_request(const struct mr_tuple *t)
{
	uint8_t type = t->icmp_type;
	return t->has_icmp && (type == 8 || type == 13 || type == 15 || type == 17);
}

static bool icmp_error(const struct mr_tuple *t)
{
	uint8_t type = t->icmp_type;
	return t->proto == IPPROTO_ICMP && t->has_icmp &&
		(type == 3 || type == 4 || type == 5 || type == 11 || type == 12);
}

/* The number of its protocol in the store; -1: it has no ports there. */
static int proto_of(const struct mr_tuple *t)
{
	if (t->proto == IPPROTO_TCP)
		return NAT_TCP;
	if (t->proto == IPPROTO_UDP)
		return NAT_UDP;
	return t->proto == IPPROTO_ICMP ? NAT_ICMP : -1;
}

static bool has_ports(const struct mr_tuple *t)
{
	return t->proto == IPPROTO_TCP || t->proto == IPPROTO_UDP;
}

static void remember_static(const struct nat_end *e, uint32_t *word, uint8_t *more)
{
	*word = (uint32_t)e->rule->identity << 16 | (e->offset & 0xffff);
	*more = (uint8_t)(e->offset >> 16);
}

static void give_up(struct look *l)
{
	if (!l->mine)
		return;
	nat_give_back(l->n, &l->turn, l->mine, true);
	memset(l->mine, 0, sizeof(*l->mine));
}

/* ---- refusals ------------------------------------------------------------------------------------------------------ */

static void drop(struct look *l, enum nat_reason reason, const char *why)
{
	mr_packet_explain(l->p, "%s", why);
	mr_decide_drop(l->p, l->n->reason[reason]);
}

static void drop_unasked(struct look *l)
{
	drop(l, NAT_REASON_NOT_EXEMPT,
		"it is to an inside address as such, and its sender is neither inside nor exempt");
}

/* RFC 6888 REQ-11 B: its sender is told.  A sender outside is not: it would learn who is inside. */
static void refuse(struct look *l, enum nat_outcome outcome, bool from_inside)
{
	static const struct {
		enum nat_reason reason;
		const char *why;
	} all[NAT_OUTCOME_CNT] = {
		[NAT_NO_PORTS] = { NAT_REASON_PORTS, "no outside port is free for it" },
		[NAT_NO_BLOCKS] = { NAT_REASON_BLOCKS, "its blocks of ports are used up, and no other block is free" },
		[NAT_BLOCK_LIMIT] = { NAT_REASON_BLOCK_LIMIT,
			"its blocks of ports are used up, and it may not have another" },
		[NAT_SESSION_LIMIT] = { NAT_REASON_SESSION_LIMIT, "the inside address has as many sessions as it may" },
		[NAT_MAPPING_LIMIT] = { NAT_REASON_MAPPING_LIMIT, "the inside address has as many mappings as it may" },
		[NAT_NO_MEMORY] = { NAT_REASON_MEMORY, "there is no room for another mapping or inside address" },
		[NAT_NO_ADDRESS] = { NAT_REASON_NO_ADDRESS, "there is no outside address for it" },
	};
	unsigned reason = l->n->reason[all[outcome].reason];
	give_up(l);
	mr_packet_explain(l->p, "%s", all[outcome].why);
	if (from_inside)
		mr_decide_reject(l->p, reason, MR_REJECT_HOST_UNREACHABLE);
	else
		mr_decide_drop(l->p, reason);
}

/* A session of it would have the key of replies that a host inside may yet ask for: its filter, or its mapping, opens with what it sends. */
static bool may_be_mapped(const struct look *l)
{
	uint16_t port = ntohs(l->t.dport_be);
	return has_ports(&l->t) && nat_ranges_hold(&l->n->pool, ntohl(l->dst_be)) && port >= l->n->policy.port_lo &&
		port <= l->n->policy.port_hi;
}

/* To an outside address, and nobody wants it. */
static void leave_over(struct look *l, bool filtered)
{
	struct nat *n = l->n;
	enum nat_reason reason = filtered ? NAT_REASON_FILTERED : NAT_REASON_UNWANTED;
	const char *why = filtered ? "the mapping it goes to lets nobody in it has not sent to"
				   : "no session, mapping or static rule wants it";
	give_up(l);
	mr_decide_count(l->p, n->count_leftover);
	if (n->o->leftover == NAT_LEFTOVER_KERNEL) {
		mr_packet_explain(l->p, "%s: the kernel gets it", why);
		mr_decide_kernel(l->p);
		if (may_be_mapped(l))
			mr_decide_no_session(l->p);
		return;
	}
	if (n->o->unsolicited == NAT_UNSOLICITED_ANSWER && l->t.proto == IPPROTO_TCP &&
		!nat_ranges_hold(&n->inside, ntohl(l->src_be)) && (mr_packet_tcp_flags(l->p) & 0x12) == 0x02) {
		mr_packet_explain(l->p, "%s: port unreachable, unless it is wanted within 6 seconds", why);
		mr_decide_reject_later(l->p, n->reason[reason], MR_REJECT_PORT_UNREACHABLE, ANSWER_AFTER_MS);
		return;
	}
	drop(l, reason, why);
}

/* ---- a new session: the source -------------------------------------------------------------------------------------- */

static void explain_end(
	struct look *l, const char *which, __be32 was_be, __be16 was_port_be, const struct becomes *to, const char *by)
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

static void explain_rule(struct look *l, const char *which, __be32 was_be, __be16 was_port_be, const struct nat_end *e)
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

static struct nat_flow flow_of(const struct mr_tuple *t)
{
	return (struct nat_flow){ .zone = t->zone,
		.proto = (uint8_t)proto_of(t),
		.inside_be = nat_address_at(t->src),
		.inside_port_be = t->sport_be,
		.remote_be = nat_address_at(t->dst),
		.remote_port_be = has_ports(t) ? t->dport_be : 0 };
}

static bool source_by_mapping(struct look *l, struct becomes *out)
{
	struct nat_store *s = l->n->shared->store;
	struct nat_flow f = flow_of(&l->t);
	struct nat_mapping m;
	bool made;
	enum nat_outcome outcome = nat_store_take(s, &l->turn, &f, &l->mine->source, &made);
	if (outcome != NAT_OK) {
		refuse(l, outcome, true);
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

static bool source_by_subscriber(struct look *l, struct becomes *out)
{
	uint32_t subscriber;
	enum nat_outcome outcome = nat_store_take_subscriber(
		l->n->shared->store, &l->turn, l->t.zone, l->src_be, &subscriber, &out->addr_be);
	if (outcome != NAT_OK) {
		refuse(l, outcome, true);
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
static bool find_source(struct look *l, struct becomes *out)
{
	struct nat_end e;
	if (l->t.proto == IPPROTO_ICMP && !icmp_request(&l->t)) {
		drop(l, NAT_REASON_NO_SESSION, "it is from inside, and no request it would answer is known");
		return false;
	}
	l->mine = mr_packet_session(l->p);
	if (!l->mine) {
		drop(l, NAT_REASON_NO_SESSION, "it is from inside, belongs to no session and cannot open one");
		return false;
	}
	if (nat_statics_outward(&l->n->statics, l->t.proto, l->src_be, has_ports(&l->t) ? l->t.sport_be : 0, &e)) {
		l->mine->flags |= NAT_SOURCE | NAT_SOURCE_STATIC;
		remember_static(&e, &l->mine->source, &l->mine->source_more);
		*out = (struct becomes){ e.address_be, e.port_be };
		explain_rule(l, "source", l->src_be, l->t.sport_be, &e);
		return true;
	}
	return proto_of(&l->t) >= 0 ? source_by_mapping(l, out) : source_by_subscriber(l, out);
}

/* ---- ... the destination -------------------------------------------------------------------------------------------- */

/* Over the hairpin, and filtered: let in when the inside host it goes to has sent to its sender's outside end before, and was filtered itself. */
static enum nat_outcome meet(struct look *l, __be32 remote_be, __be16 remote_port_be)
{
	struct nat_turn turn = l->turn;
	bool ports = l->n->policy.filtering == NAT_ADDRESS_AND_PORT_DEPENDENT, filtered;
	uint8_t proto = (uint8_t)proto_of(&l->t);
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

static bool destination_by_mapping(struct look *l, __be32 remote_be, __be16 remote_port_be, struct becomes *out)
{
	struct nat_store *s = l->n->shared->store;
	struct nat_mapping m;
	bool filtered = false;
	bool hairpin = l->mine->flags & NAT_SOURCE;
	enum nat_outcome outcome = nat_store_take_outside(s, &l->turn, l->t.zone, (uint8_t)proto_of(&l->t), l->dst_be,
		l->t.dport_be, remote_be, remote_port_be, &l->mine->destination, &filtered);
	if (outcome == NAT_OK && filtered && hairpin)
		outcome = meet(l, remote_be, remote_port_be);
	if (outcome != NAT_OK) {
		refuse(l, outcome, hairpin);
		return false;
	}
	if (!l->mine->destination) {
		leave_over(l, filtered);
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
static bool wanted(const struct look *l)
{
	struct nat_end e;
	struct nat_mapping m;
	if (l->t.proto == IPPROTO_ICMP && !icmp_request(&l->t))
		return false; /* a reply nobody asked for */
	bool fixed =
		nat_statics_inward(&l->n->statics, l->t.proto, l->dst_be, has_ports(&l->t) ? l->t.dport_be : 0, &e);
	if (!fixed &&
		!(has_ports(&l->t) &&
			nat_store_find_outside(
				l->n->shared->store, (uint8_t)proto_of(&l->t), l->dst_be, l->t.dport_be, &m)))
		return false;
	return mr_packet_session(l->p);
}

/* Of a packet that is wanted; remote: the sender as it is outside.  False: nobody wants it after all, or it is refused. */
static bool find_destination(struct look *l, __be32 remote_be, __be16 remote_port_be, struct becomes *out)
{
	struct nat_end e;
	l->mine = mr_packet_session(l->p);
	if (!nat_statics_inward(&l->n->statics, l->t.proto, l->dst_be, has_ports(&l->t) ? l->t.dport_be : 0, &e))
		return destination_by_mapping(l, remote_be, remote_port_be, out);
	l->mine->flags |= NAT_DESTINATION | NAT_DESTINATION_STATIC;
	remember_static(&e, &l->mine->destination, &l->mine->destination_more);
	*out = (struct becomes){ e.address_be, e.port_be };
	explain_rule(l, "destination", l->dst_be, l->t.dport_be, &e);
	return true;
}

/* ---- ... and both ---------------------------------------------------------------------------------------------------- */

/* Replies must tell it from every other session. */
static void refuse_ambiguous(struct look *l)
{
	if (!mr_packet_reply_taken(l->p))
		return;
	give_up(l);
	drop(l, NAT_REASON_AMBIGUOUS, "replies to it could not be told from those of another session");
}

static void clamp_mss(struct look *l)
{
	if (l->n->o->mss_given && l->t.proto == IPPROTO_TCP)
		mr_decide_mss(l->p, (uint16_t)l->n->o->mss_bytes);
}

static void decide_outward(struct look *l)
{
	struct becomes source;
	if (!find_source(l, &source))
		return;
	mr_decide_source(l->p, (const uint8_t *)&source.addr_be, source.port_be);
	mr_decide_count(l->p, l->n->count_out);
	mr_decide_timeouts(l->p, l->n->timeouts_out);
	mr_decide_keep(l->p);
	clamp_mss(l);
	/* A mapping has its port for itself. */
	if (l->mine->flags & (NAT_SOURCE_STATIC | NAT_SUBSCRIBER))
		refuse_ambiguous(l);
}

static void decide_inward(struct look *l)
{
	struct becomes destination;
	if (!wanted(l)) {
		leave_over(l, false);
		return;
	}
	if (!find_destination(l, l->src_be, l->t.sport_be, &destination))
		return;
	mr_decide_destination(l->p, (const uint8_t *)&destination.addr_be, destination.port_be);
	mr_decide_count(l->p, l->n->count_in);
	mr_decide_timeouts(l->p, l->n->timeouts_in);
	clamp_mss(l);
	refuse_ambiguous(l);
}

/* RFC 4787 REQ-9: the other inside host sees the outside end of the sender. */
static void decide_hairpin(struct look *l)
{
	struct becomes source, destination;
	if (!wanted(l)) {
		leave_over(l, false);
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
	clamp_mss(l);
	refuse_ambiguous(l);
}

static void decide_new(struct look *l, enum kind kind)
{
	switch (kind) {
	case OUTWARD:
		if (mr_packet_to_box(l->p)) {
			mr_packet_explain(l->p, "it is for the box itself: left as it is, the kernel gets it");
			mr_decide_kernel(l->p);
			mr_decide_no_session(l->p);
			return;
		}
		decide_outward(l);
		return;
	case INWARD:
		decide_inward(l);
		return;
	case HAIRPIN:
		decide_hairpin(l);
		return;
	case UNASKED:
		drop_unasked(l);
		return;
	default:
		mr_packet_explain(l->p, "neither from inside to outside nor to an outside address: left as it is");
	}
}

/* ---- sessions that are there, errors ----------------------------------------------------------------------------------- */

static uint16_t counter_of(const struct nat *n, const struct nat_private *mine, int direction)
{
	if ((mine->flags & (NAT_SOURCE | NAT_DESTINATION)) == (NAT_SOURCE | NAT_DESTINATION))
		return n->count_hairpin;
	return !(mine->flags & NAT_SOURCE) == !direction ? n->count_in : n->count_out;
}

static void decide_known(struct look *l, const struct nat_private *mine)
{
	struct mr_tuple forward, reply;
	int direction = mr_packet_direction(l->p);
	bool source = mine->flags & NAT_SOURCE, destination = mine->flags & NAT_DESTINATION;
	if (mr_packet_session_tuples(l->p, &forward, &reply)) {
		drop(l, NAT_REASON_NO_SESSION, "its session ended just now");
		return;
	}
	if (direction) {
		if (source)
			mr_decide_destination(l->p, forward.src, forward.sport_be);
		if (destination)
			mr_decide_source(l->p, forward.dst, forward.dport_be);
	} else {
		if (source)
			mr_decide_source(l->p, reply.dst, reply.dport_be);
		if (destination)
			mr_decide_destination(l->p, reply.src, reply.sport_be);
	}
	mr_packet_explain(l->p, "its session is translated: %s",
		source && destination          ? "both ends, from inside to inside"
			: source == !direction ? "the source"
					       : "the destination");
	mr_decide_count(l->p, counter_of(l->n, mine, direction));
	clamp_mss(l);
}

static void decide_error(struct look *l)
{
	enum kind kind = kind_of(l->n, l->src_be, l->dst_be, mr_packet_destination_changed(l->p));
	if (!mr_decide_related(l->p)) {
		mr_packet_explain(l->p, "translated as the session of the packet it quotes");
		mr_decide_count(l->p, l->n->count_errors);
		return;
	}
	if (kind == INWARD || kind == HAIRPIN)
		leave_over(l, false);
	else if (kind == OUTWARD)
		drop(l, NAT_REASON_NO_SESSION, "it is from inside, and quotes no packet of a session");
	else if (kind == UNASKED)
		drop_unasked(l);
}

static void decide_one(struct nat *n, unsigned worker, struct mr_packet *p)
{
	struct look l;
	if (mr_packet_tuple(p)->family != 4)
		return;
	look_at(n, worker, p, &l);
	if (mr_packet_session_exists(p)) {
		const struct nat_private *mine = mr_packet_session(p);
		if (mine && mine->flags)
			decide_known(&l, mine);
		else
			mr_packet_explain(p, "its session is not translated here");
	} else if (icmp_error(&l.t)) {
		decide_error(&l);
	} else {
		decide_new(&l, kind_of(n, l.src_be, l.dst_be, mr_packet_destination_changed(p)));
	}
}

void nat_decide(void *stage, unsigned worker, struct mr_batch *batch)
{
	const struct nat *n = stage;
	/* What the store will look at is fetched first, so that a batch of first packets waits for memory once. */
	for (unsigned i = 0; mr_batch_cnt(batch) > 1 && i < mr_batch_cnt(batch); i++) {
		const struct mr_tuple *t = mr_packet_tuple(mr_batch_packet(batch, i));
		struct nat_flow f = flow_of(t);
		if (!mr_packet_session_exists(mr_batch_packet(batch, i)) && t->family == 4 && proto_of(t) >= 0 &&
			nat_ranges_hold(&n->inside, ntohl(f.inside_be)))
			nat_store_prefetch(n->shared->store, &n->policy, &f);
	}
	for (unsigned i = 0; i < mr_batch_cnt(batch); i++)
		decide_one(stage, worker, mr_batch_packet(batch, i));
}

/* ---- another configuration ------------------------------------------------------------------------------------------ */

/* A session goes on as it was as long as its ends are configured; one that was not translated and would be now ends. */
enum mr_revalidate nat_revalidate(void *stage, unsigned worker, struct mr_packet *p)
{
	struct nat *n = stage;
	struct look l;
	struct mr_tuple forward, reply;
	bool dst_changed = mr_packet_destination_changed(p);
	if (mr_packet_tuple(p)->family != 4)
		return MR_REVALIDATE_KEEP;
	look_at(n, worker, p, &l);
	const struct nat_private *mine = mr_packet_session(p);
	if (mine && mine->flags) {
		if (!nat_keeps(n, mine))
			return MR_REVALIDATE_END;
		decide_known(&l, mine);
		return MR_REVALIDATE_KEEP;
	}
	/* A reply says of its session what leaves: stages before this one may have made it what the other one never was here. */
	if (mr_packet_direction(p)) {
		if (mr_packet_session_tuples(p, &forward, &reply))
			return MR_REVALIDATE_END;
		l.src_be = nat_address_at(reply.dst);
		l.dst_be = nat_address_at(reply.src);
		dst_changed = l.dst_be != nat_address_at(forward.dst);
	}
	/* One to an outside address is decided anew: what the kernel had it gets again, unless somebody wants it now. */
	return kind_of(n, l.src_be, l.dst_be, dst_changed) == NOT_OURS ? MR_REVALIDATE_KEEP : MR_REVALIDATE_END;
}
