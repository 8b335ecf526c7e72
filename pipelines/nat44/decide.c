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
 * What a packet is says look.c, new sessions are made by open.c.  Only the effective tuple is read, so that every decision can be stored.  What is taken
 * of the store is written into the session's private bytes at once: abort() and expire() (session.c) give back what stands there.
 */
#include "pipelines/nat44/look.h"

#include <arpa/inet.h>
#include <string.h>

/* ---- sessions that are there, errors ----------------------------------------------------------------------------------- */

static uint16_t counter_of(const struct nat *n, const struct nat_private *mine, int direction)
{
	if ((mine->flags & (NAT_SOURCE | NAT_DESTINATION)) == (NAT_SOURCE | NAT_DESTINATION))
		return n->count_hairpin;
	return !(mine->flags & NAT_SOURCE) == !direction ? n->count_in : n->count_out;
}

static void decide_known(struct nat_look *l, const struct nat_private *mine)
{
	struct mr_tuple forward, reply;
	int direction = mr_packet_direction(l->p);
	bool source = mine->flags & NAT_SOURCE, destination = mine->flags & NAT_DESTINATION;
	if (mr_packet_session_tuples(l->p, &forward, &reply)) {
		nat_look_drop(l, NAT_REASON_NO_SESSION, "its session ended just now");
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
	nat_look_mss(l);
}

static void decide_error(struct nat_look *l)
{
	enum nat_kind kind = nat_look_kind(l);
	if (!mr_decide_related(l->p)) {
		mr_packet_explain(l->p, "translated as the session of the packet it quotes");
		mr_decide_count(l->p, l->n->count_errors);
		return;
	}
	if (kind == NAT_INWARD || kind == NAT_HAIRPIN)
		nat_look_leave_over(l, false);
	else if (kind == NAT_OUTWARD)
		nat_look_drop(l, NAT_REASON_NO_SESSION, "it is from inside, and quotes no packet of a session");
	else if (kind == NAT_TO_BOX)
		nat_look_to_box(l);
	else if (kind == NAT_UNASKED)
		nat_look_drop_unasked(l);
}

static void decide_one(struct nat *n, unsigned worker, struct mr_packet *p)
{
	struct nat_look l;
	if (mr_packet_tuple(p)->family != 4)
		return;
	nat_look_at(n, worker, p, &l);
	if (mr_packet_session_exists(p)) {
		const struct nat_private *mine = mr_packet_session(p);
		if (mine && mine->flags)
			decide_known(&l, mine);
		else
			mr_packet_explain(p, "its session is not translated here");
	} else if (nat_look_is_error(&l.t)) {
		decide_error(&l);
	} else {
		nat_open(&l, nat_look_kind(&l));
	}
}

void nat_decide(void *stage, unsigned worker, struct mr_batch *batch)
{
	const struct nat *n = stage;
	/* What the store will look at is fetched first, so that a batch of first packets waits for memory once. */
	for (unsigned i = 0; mr_batch_cnt(batch) > 1 && i < mr_batch_cnt(batch); i++) {
		const struct mr_tuple *t = mr_packet_tuple(mr_batch_packet(batch, i));
		struct nat_flow f = nat_look_flow(t);
		if (!mr_packet_session_exists(mr_batch_packet(batch, i)) && t->family == 4 && nat_look_proto(t) >= 0 &&
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
	struct nat_look l;
	struct mr_tuple forward, reply;
	bool dst_changed = mr_packet_destination_changed(p);
	if (mr_packet_tuple(p)->family != 4)
		return MR_REVALIDATE_KEEP;
	nat_look_at(n, worker, p, &l);
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
	return nat_look_kind_of(n, l.src_be, l.dst_be, dst_changed) == NAT_NOT_OURS ? MR_REVALIDATE_KEEP
										    : MR_REVALIDATE_END;
}
