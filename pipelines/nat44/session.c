/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * session.c - what a session has taken of the store: it is given back when it ends, and is counted and logged.
 *
 * Everything is told by the session's private bytes alone.
 */
#include "pipelines/nat44/nat44.h"

#include <arpa/inet.h>
#include <string.h>

/* ---- what a session holds ----------------------------------------------------------------------------------------- */

static uint32_t static_offset(uint32_t word, uint8_t more)
{
	return (word & 0xffff) | (uint32_t)more << 16;
}

/* The outside address its source has; 0: the mapping is not there. */
static __be32 source_outside(const struct nat *n, const struct nat_private *mine)
{
	struct nat_mapping m;
	if (mine->flags & NAT_SUBSCRIBER)
		return mine->source;
	if (!(mine->flags & NAT_SOURCE_STATIC))
		return nat_store_mapping(n->shared->store, mine->source, &m) ? m.outside_be : 0;
	const struct nat_rule *r = &n->shared->identities.rule[mine->source >> 16];
	return htonl(r->outside + (r->ports ? 0 : static_offset(mine->source, mine->source_more)));
}

/* The destination first: whom its mapping was taken for is known by the source's. */
void nat_give_back(struct nat *n, const struct nat_turn *t, const struct nat_private *mine, bool unused)
{
	struct nat_store *s = n->shared->store;
	bool peers = mine->flags & NAT_PEERS;
	if (mine->flags & NAT_DESTINATION && !(mine->flags & NAT_DESTINATION_STATIC)) {
		__be32 remote_be = mine->flags & NAT_SOURCE ? source_outside(n, mine) : mine->aside;
		nat_store_release(s, t, mine->destination, peers ? remote_be : 0, unused);
	}
	if (!(mine->flags & NAT_SOURCE) || mine->flags & NAT_SOURCE_STATIC)
		return;
	if (mine->flags & NAT_SUBSCRIBER)
		nat_store_release_subscriber(s, t, mine->aside);
	else
		nat_store_release(s, t, mine->source, peers ? mine->aside : 0, unused);
}

/* ---- another configuration --------------------------------------------------------------------------------------------- */

static bool keeps_mapping(const struct nat *n, uint32_t mapping)
{
	struct nat_mapping m;
	if (!nat_store_mapping(n->shared->store, mapping, &m) || !nat_ranges_hold(&n->inside, ntohl(m.inside_be)) ||
		!nat_ranges_hold(&n->pool, ntohl(m.outside_be)))
		return false;
	uint16_t port = ntohs(m.outside_port_be);
	/* Ports beyond the range are the kernel's then: no packet of theirs would come up. */
	return n->o->leftover == NAT_LEFTOVER_DROP || (port >= n->policy.port_lo && port <= n->policy.port_hi);
}

/* The address it has is not that of the subscriber, which may have got another. */
static bool keeps_subscriber(const struct nat *n, uint32_t subscriber, __be32 outside_be)
{
	__be32 inside_be, today_be;
	return nat_store_outside_of(n->shared->store, subscriber, &inside_be, &today_be) &&
		nat_ranges_hold(&n->inside, ntohl(inside_be)) && nat_ranges_hold(&n->pool, ntohl(outside_be));
}

static bool keeps_static(const struct nat *n, uint32_t word, uint8_t more)
{
	__be32 outside_be;
	return nat_statics_keep(
		&n->statics, &n->shared->identities, (uint16_t)(word >> 16), static_offset(word, more), &outside_be);
}

bool nat_keeps(void *stage, const void *priv)
{
	const struct nat *n = stage;
	const struct nat_private *mine = priv;
	bool source = true, destination = true;
	if (mine->flags & NAT_SUBSCRIBER)
		source = keeps_subscriber(n, mine->aside, mine->source);
	else if (mine->flags & NAT_SOURCE)
		source = mine->flags & NAT_SOURCE_STATIC ? keeps_static(n, mine->source, mine->source_more)
							 : keeps_mapping(n, mine->source);
	if (mine->flags & NAT_DESTINATION)
		destination = mine->flags & NAT_DESTINATION_STATIC
			? keeps_static(n, mine->destination, mine->destination_more)
			: keeps_mapping(n, mine->destination);
	return source && destination;
}

/* ---- sessions that begin and end ------------------------------------------------------------------------------------------ */

static void add(uint64_t *counter)
{
	__atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

void nat_commit(void *stage, unsigned worker, struct mr_packet *p)
{
	struct nat *n = stage;
	const struct nat_private *mine = mr_packet_session(p);
	struct nat_counts *c = &n->shared->counts[worker];
	struct mr_tuple forward, reply;
	unsigned ends = mine ? mine->flags & (NAT_SOURCE | NAT_DESTINATION) : 0;
	if (!ends)
		return;
	add(ends == (NAT_SOURCE | NAT_DESTINATION) ? &c->opened_hairpin
			: ends == NAT_SOURCE       ? &c->opened_out
						   : &c->opened_in);
	if (mine->flags & (NAT_SOURCE_STATIC | NAT_DESTINATION_STATIC))
		add(&c->opened_static);
	if (n->log && n->o->log.events == NAT_LOG_SESSIONS && !mr_packet_session_tuples(p, &forward, &reply))
		nat_log_session(n->log, worker, ends, &forward, &reply);
}

void nat_abort(void *stage, unsigned worker, struct mr_packet *p)
{
	struct nat *n = stage;
	struct nat_private *mine = mr_packet_session(p);
	struct nat_turn turn = { &n->policy, worker, (uint32_t)(mr_packet_time_ns(p) / 1000000) };
	if (!mine)
		return;
	nat_give_back(n, &turn, mine, true);
	memset(mine, 0, sizeof(*mine));
}

void nat_expire(void *stage, const void *priv, const struct mr_session_end *end)
{
	struct nat *n = stage;
	const struct nat_private *mine = priv;
	unsigned ends = mine->flags & (NAT_SOURCE | NAT_DESTINATION), worker = mr_end_worker(end);
	struct nat_turn turn = { &n->policy, worker, (uint32_t)(mr_end_time_ns(end) / 1000000) };
	if (!ends)
		return;
	nat_give_back(n, &turn, mine, false);
	add(&n->shared->counts[worker].ended);
	if (n->log && n->o->log.events == NAT_LOG_SESSIONS)
		nat_log_session_end(n->log, ends, end);
}
