/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * record.c - events of the log, made of sessions that begin and end and of blocks.
 *
 * A session has two keys: what its forward packets are, and what replies to them are, as they come in.  With the source translated, the inside
 * end is where forward packets come from and the outside one where replies go to; with the destination translated it is the other way round.
 */
#include "pipelines/nat44/log.h"
#include "pipelines/nat44/store.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <time.h>

static uint64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static __be32 address(const uint8_t *bytes)
{
	__be32 a;
	memcpy(&a, bytes, sizeof(a));
	return a;
}

/* The end of `to_inside` that is a source, the one of `to_outside` that is a destination.  Of ICMP queries the ports are the identifiers, which
 * requests have as source and replies as destination; the other half of such a key is the type. */
static void fill(struct nat_event *e, const struct mr_tuple *inside, const struct mr_tuple *outside)
{
	e->proto = inside->proto;
	e->zone = inside->zone;
	e->inside_be = address(inside->src);
	e->outside_be = address(outside->dst);
	e->inside_port_be = inside->sport_be;
	e->outside_port_be = outside->dport_be;
}

static void put(struct nat_log *l, unsigned worker, unsigned ends, const struct mr_tuple *forward,
	const struct mr_tuple *reply, struct nat_event *e)
{
	bool icmp = forward->proto == IPPROTO_ICMP;
	uint64_t packets[2] = { e->packets[0], e->packets[1] }, bytes[2] = { e->bytes[0], e->bytes[1] };
	if (ends & NAT_LOG_SOURCE) {
		fill(e, forward, reply);
		e->remote_be = address(forward->dst);
		e->remote_port_be = icmp ? 0 : forward->dport_be;
		nat_log_put(l, worker, e);
	}
	if (ends & NAT_LOG_DESTINATION) {
		fill(e, reply, forward);
		e->remote_be = address(reply->dst);
		e->remote_port_be = icmp ? 0 : reply->dport_be;
		if (icmp) /* a request, to an address of a static rule: its identifier stays, be it that of a sender inside */
			e->inside_port_be = e->outside_port_be = reply->dport_be;
		for (unsigned dir = 0; dir < 2; dir++) {
			e->packets[dir] = packets[!dir];
			e->bytes[dir] = bytes[!dir];
		}
		nat_log_put(l, worker, e);
	}
}

void nat_log_session(
	struct nat_log *l, unsigned worker, unsigned ends, const struct mr_tuple *forward, const struct mr_tuple *reply)
{
	struct nat_event e = { .kind = NAT_EVENT_SESSION_ADD, .time_ns = now_ns() };
	put(l, worker, ends, forward, reply, &e);
}

void nat_log_session_end(struct nat_log *l, unsigned ends, const struct mr_session_end *end)
{
	struct nat_event e = { .kind = NAT_EVENT_SESSION_DELETE, .time_ns = now_ns(), .age_ms = mr_end_age_ms(end) };
	struct mr_tuple forward, reply;
	mr_end_tuples(end, &forward, &reply);
	for (int dir = 0; dir < 2; dir++)
		mr_end_totals(end, dir, &e.packets[dir], &e.bytes[dir]);
	put(l, mr_end_worker(end), ends, &forward, &reply, &e);
}

void nat_log_block(void *ctx, unsigned worker, const struct nat_block_event *b)
{
	struct nat_event e = {
		.time_ns = now_ns(),
		.kind = b->given ? NAT_EVENT_BLOCK_ADD : NAT_EVENT_BLOCK_DELETE,
		.inside_be = b->inside_be,
		.outside_be = b->outside_be,
		.inside_port_be = htons(b->lo),
		.outside_port_be = htons(b->hi),
		.zone = b->zone,
	};
	if (ctx)
		nat_log_put(ctx, worker, &e);
}
