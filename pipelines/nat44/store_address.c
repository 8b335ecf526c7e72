/* SPDX-License-Identifier: BSD-2-Clause */
/* store_address.c - which outside address, and a port of it. */
#include "pipelines/nat44/store_table.h"

#include <arpa/inet.h>
#include <errno.h>

/* ---- dry: nothing to be had there -------------------------------------------------------------------------------- */

static uint64_t what_of(const struct nat_policy *p)
{
	return 1ull << 48 | (uint64_t)p->block_ports << 32 | (uint64_t)p->port_hi << 16 | p->port_lo;
}

static struct nat_dry *dry_of(struct nat_store *s, const struct nat_policy *p, uint32_t address, uint8_t proto)
{
	return &s->dry[address][p->block_ports ? NAT_PROTO_CNT : proto];
}

static bool is_dry(struct nat_store *s, const struct nat_turn *t, uint32_t address, uint8_t proto)
{
	struct nat_dry *d = dry_of(s, t->policy, address, proto);
	uint64_t until;

	if (__atomic_load_n(&d->what, __ATOMIC_RELAXED) != what_of(t->policy))
		return false;
	until = __atomic_load_n(&d->until, __ATOMIC_RELAXED);
	return !until || (int32_t)(t->now_ms - (uint32_t)until) < 0;
}

/* Ports that rest may be free at the next turn; what makes other ports free says so.  Blocks may also wait for single ports to be free. */
static void set_dry(struct nat_store *s, const struct nat_turn *t, struct nat_address *a, uint8_t proto)
{
	struct nat_dry *d = dry_of(s, t->policy, a->number, proto);
	uint32_t at_ms = t->now_ms + 100;
	bool ends = t->policy->block_ports || nat_ports_next_turn(&a->ports[proto], t->policy->quarantine_ms, &at_ms);

	__atomic_store_n(&d->until, ends ? 1ull << 32 | at_ms : 0, __ATOMIC_RELAXED);
	__atomic_store_n(&d->what, what_of(t->policy), __ATOMIC_RELAXED);
}

void nat_address_wet(struct nat_store *s, struct nat_address *a)
{
	for (unsigned i = 0; i <= NAT_PROTO_CNT; i++)
		if (__atomic_load_n(&s->dry[a->number][i].what, __ATOMIC_RELAXED))
			__atomic_store_n(&s->dry[a->number][i].what, 0, __ATOMIC_RELAXED);
}

void nat_address_turn(struct nat_store *s, const struct nat_turn *t, struct nat_address *a, uint8_t proto)
{
	if (nat_ports_turn(&a->ports[proto], t->now_ms, t->policy->quarantine_ms))
		nat_address_wet(s, a);
}

/* ---- a port ------------------------------------------------------------------------------------------------------ */

static bool take_at(struct nat_store *s, const struct nat_turn *t, uint32_t subscriber, uint32_t address, uint8_t proto,
	struct nat_ports_want *want, uint16_t *port)
{
	const struct nat_policy *p = t->policy;
	struct nat_address *a = s->address[address];
	int rc;

	nat_lock(&a->lock);
	nat_address_turn(s, t, a, proto);
	want->lo = p->port_lo;
	want->hi = p->port_hi;
	want->closed = a->owned;
	rc = p->block_ports ? nat_block_open(s, t, subscriber, a, proto, want, port)
			    : nat_ports_take(&a->ports[proto], want, t->now_ms, p->quarantine_ms, port);
	if (rc == -EADDRINUSE)
		set_dry(s, t, a, proto);
	nat_unlock(&a->lock);
	return !rc;
}

/* Of two drawn at random the one with less to do, then all in turn. */
static bool take_any(struct nat_store *s, const struct nat_turn *t, uint32_t subscriber, uint8_t proto,
	struct nat_ports_want *want, uint32_t *address, uint16_t *port)
{
	const struct nat_policy *p = t->policy;
	uint32_t first = (uint32_t)((uint64_t)nat_store_random(s, t->worker) * p->address_cnt >> 32);
	uint32_t other = (uint32_t)((uint64_t)nat_store_random(s, t->worker) * p->address_cnt >> 32);

	if (__atomic_load_n(&s->load[p->address[other]], __ATOMIC_RELAXED) <
		__atomic_load_n(&s->load[p->address[first]], __ATOMIC_RELAXED))
		first = other;
	for (uint32_t i = 0, at = first; i < p->address_cnt; i++, at = at + 1 == p->address_cnt ? 0 : at + 1) {
		*address = p->address[at];
		if (!is_dry(s, t, *address, proto) && take_at(s, t, subscriber, *address, proto, want, port))
			return true;
	}
	return false;
}

static enum nat_outcome take(struct nat_store *s, const struct nat_turn *t, uint32_t subscriber, uint8_t proto,
	__be16 inside_port_be, uint32_t *address, uint16_t *port)
{
	const struct nat_policy *p = t->policy;
	struct nat_subscriber *u = nat_subscriber_at(s, subscriber);
	struct nat_ports_want want = { .inside = ntohs(inside_port_be), .choice = p->choice };
	bool has;

	if (!p->address_cnt)
		return NAT_NO_ADDRESS;
	want.random = nat_store_random(s, t->worker);
	if (p->block_ports) {
		uint32_t cnt;
		if (nat_block_take(s, t, subscriber, proto, &want, address, port, &cnt))
			return NAT_OK;
		if (u->block_cnt >= NAT_BLOCKS_MAX || (p->blocks_max && cnt >= p->blocks_max))
			return NAT_BLOCK_LIMIT;
	}
	if (p->paired && u->address && nat_policy_has(p, u->address - 1)) {
		*address = u->address - 1;
		has = take_at(s, t, subscriber, *address, proto, &want, port);
	} else {
		has = take_any(s, t, subscriber, proto, &want, address, port);
		if (has && p->paired)
			nat_subscriber_move(s, u, *address + 1);
	}
	return has ? NAT_OK : p->block_ports ? NAT_NO_BLOCKS : NAT_NO_PORTS;
}

enum nat_outcome nat_address_take(struct nat_store *s, const struct nat_turn *t, uint32_t subscriber, uint8_t proto,
	__be16 inside_port_be, uint32_t *address, uint16_t *port)
{
	uint32_t number;
	enum nat_outcome o = take(s, t, subscriber, proto, inside_port_be, &number, port);

	if (o != NAT_OK)
		return o;
	__atomic_add_fetch(&s->load[number], 1, __ATOMIC_RELAXED);
	*address = number;
	return NAT_OK;
}

void nat_address_give(
	struct nat_store *s, const struct nat_turn *t, uint32_t address, uint8_t proto, uint16_t port, bool unused)
{
	struct nat_address *a = s->address[address];
	uint32_t start;

	nat_lock(&a->lock);
	__atomic_store_n(&a->mapping[proto][port], 0, __ATOMIC_RELAXED);
	nat_address_turn(s, t, a, proto);
	nat_ports_give(&a->ports[proto], port, unused, t->now_ms, t->policy->quarantine_ms);
	start = a->start[port / NAT_PORTS_UNIT];
	nat_address_wet(s, a); /* it is free, or will be at a turn */
	nat_unlock(&a->lock);
	__atomic_sub_fetch(&s->load[address], 1, __ATOMIC_RELAXED);
	if (start)
		nat_block_given(s, t, address * NAT_UNITS + start, unused);
}

/* ---- an address alone -------------------------------------------------------------------------------------------- */

enum nat_outcome nat_address_pick(struct nat_store *s, const struct nat_turn *t, struct nat_subscriber *u)
{
	const struct nat_policy *p = t->policy;
	uint32_t best = 0, least = UINT32_MAX;

	if (u->address && nat_policy_has(p, u->address - 1))
		return NAT_OK;
	if (!p->address_cnt)
		return NAT_NO_ADDRESS;
	for (unsigned i = 0; i < 2; i++) {
		uint32_t at = (uint32_t)((uint64_t)nat_store_random(s, t->worker) * p->address_cnt >> 32);
		uint32_t load = __atomic_load_n(&s->load[p->address[at]], __ATOMIC_RELAXED);
		/* It may want ports there later. */
		if (is_dry(s, t, p->address[at], NAT_TCP) || is_dry(s, t, p->address[at], NAT_UDP))
			load += UINT32_MAX / 2;
		if (load < least) {
			least = load;
			best = p->address[at];
		}
	}
	nat_subscriber_move(s, u, best + 1);
	return NAT_OK;
}
