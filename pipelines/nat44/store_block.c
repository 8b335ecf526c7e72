/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * store_block.c - blocks of ports (RFC 6888 REQ-14, RFC 7422).
 *
 *     free ──open──► a subscriber's ──last port given back──► idle ──rested──► free
 *                        ▲                                     │
 *                        └──────────a port taken───────────────┘
 *
 * An idle block is still its subscriber's.  It is free when its last port has been given back for the quarantine and no bit of it rests any
 * more, so that its next owner has all of it.  Sizes may differ from one policy to the next: a map of units of 16 ports says what is owned.
 */
#include "pipelines/nat44/store_table.h"

#include <errno.h>

#define RESTED_AT_ONCE 16 /* blocks of a shard given back while it is locked */

/* ---- which is free ----------------------------------------------------------------------------------------------- */

/* Of 64 units from `unit` on (a multiple of 64), the first ones of blocks of which nothing is owned. */
static uint64_t free_starts(const uint64_t *owned, unsigned unit, unsigned size)
{
	uint64_t some = owned[unit / 64], starts = 1;

	if (size >= 64) {
		for (unsigned i = 1; i < size / 64; i++)
			some |= owned[unit / 64 + i];
		return some ? 0 : 1;
	}
	for (unsigned i = 1; i < size; i *= 2)
		some |= some >> i;
	for (unsigned i = size; i < 64; i *= 2)
		starts |= starts << i;
	return ~some & starts;
}

/* The first free block of those that begin at from..to; -1. */
static int next_block(const uint64_t *owned, unsigned from, unsigned to, unsigned size)
{
	unsigned step = size > 64 ? size : 64;

	for (unsigned unit = from - from % step; unit <= to; unit += step) {
		uint64_t starts = free_starts(owned, unit, size);
		if (unit < from)
			starts &= size >= 64 ? 0 : ~0ull << (from - unit);
		if (starts) {
			unit += (unsigned)__builtin_ctzll(starts);
			return unit <= to ? (int)unit : -1;
		}
	}
	return -1;
}

static void map(struct nat_address *a, unsigned unit, unsigned cnt, bool owned)
{
	for (unsigned i = unit; i < unit + cnt; i++) {
		if (owned)
			a->owned[i / 64] |= 1ull << i % 64;
		else
			a->owned[i / 64] &= ~(1ull << i % 64);
		a->start[i] = owned ? (uint16_t)(unit + 1) : 0;
	}
}

/* ---- lists ------------------------------------------------------------------------------------------------------- */

static void link_first(struct nat_store *s, struct nat_subscriber *u, uint32_t block)
{
	struct nat_block *b = nat_block_at(s, block);

	b->prev = 0;
	b->next = u->block;
	if (b->next)
		nat_block_at(s, b->next)->prev = block;
	u->block = block;
}

static void unlink_block(struct nat_store *s, struct nat_subscriber *u, uint32_t block)
{
	struct nat_block *b = nat_block_at(s, block);

	if (b->prev)
		nat_block_at(s, b->prev)->next = b->next;
	else
		u->block = b->next;
	if (b->next)
		nat_block_at(s, b->next)->prev = b->prev;
}

static void make_idle(struct nat_store *s, struct nat_shard *shard, uint32_t block, uint32_t now_ms)
{
	struct nat_block *b = nat_block_at(s, block);

	b->idle = true;
	b->idle_ms = now_ms;
	b->idle_next = 0;
	b->idle_prev = shard->idle_last;
	if (shard->idle_last)
		nat_block_at(s, shard->idle_last)->idle_next = block;
	else
		__atomic_store_n(&shard->idle_first, block, __ATOMIC_RELAXED);
	shard->idle_last = block;
}

static void make_busy(struct nat_store *s, struct nat_shard *shard, uint32_t block)
{
	struct nat_block *b = nat_block_at(s, block);

	b->idle = false;
	if (b->idle_prev)
		nat_block_at(s, b->idle_prev)->idle_next = b->idle_next;
	else
		__atomic_store_n(&shard->idle_first, b->idle_next, __ATOMIC_RELAXED);
	if (b->idle_next)
		nat_block_at(s, b->idle_next)->idle_prev = b->idle_prev;
	else
		shard->idle_last = b->idle_prev;
}

static struct nat_shard *shard_of(struct nat_store *s, const struct nat_subscriber *u)
{
	return &s->shard[u->shard - 1];
}

static struct nat_address *address_of(struct nat_store *s, uint32_t block)
{
	return s->address[(block - 1) / NAT_UNITS];
}

/* Of a block that only a trial had nobody hears. */
static void say(struct nat_store *s, const struct nat_turn *t, uint32_t block, bool given)
{
	struct nat_block *b = nat_block_at(s, block);
	const struct nat_subscriber *u = nat_subscriber_at(s, b->subscriber);
	struct nat_block_event e = { .given = given,
		.inside_be = u->inside_be,
		.outside_be = address_of(s, block)->be,
		.lo = b->lo,
		.hi = b->hi,
		.zone = u->zone };

	if (b->told == given)
		return;
	b->told = given;
	if (t->policy->on_block)
		t->policy->on_block(t->policy->ctx, t->worker, &e);
}

/* ---- taken ------------------------------------------------------------------------------------------------------- */

/* It is at an address of the policy, and some of it in its range. */
static bool is_of_use(struct nat_store *s, const struct nat_policy *p, uint32_t block, struct nat_ports_want *want)
{
	const struct nat_block *b = nat_block_at(s, block);

	want->lo = b->lo > p->port_lo ? b->lo : p->port_lo;
	want->hi = b->hi < p->port_hi ? b->hi : p->port_hi;
	want->closed = NULL;
	return want->lo <= want->hi && nat_policy_has(p, address_of(s, block)->number);
}

static bool take_in(struct nat_store *s, const struct nat_turn *t, uint32_t block, uint8_t proto,
	struct nat_ports_want *want, uint16_t *port)
{
	struct nat_address *a = address_of(s, block);
	int rc;

	nat_lock(&a->lock);
	nat_address_turn(s, t, a, proto);
	rc = nat_ports_take(&a->ports[proto], want, t->now_ms, t->policy->quarantine_ms, port);
	nat_unlock(&a->lock);
	return !rc;
}

bool nat_block_take(struct nat_store *s, const struct nat_turn *t, uint32_t subscriber, uint8_t proto,
	struct nat_ports_want *want, uint32_t *address, uint16_t *port, uint32_t *cnt)
{
	struct nat_subscriber *u = nat_subscriber_at(s, subscriber);
	uint32_t block = u->block;
	struct nat_block *b;

	*cnt = 0;
	for (; block; block = nat_block_at(s, block)->next) {
		if (!is_of_use(s, t->policy, block, want))
			continue;
		++*cnt;
		if (take_in(s, t, block, proto, want, port))
			break;
	}
	if (!block)
		return false;
	b = nat_block_at(s, block);
	b->taken_cnt++;
	if (b->idle)
		make_busy(s, shard_of(s, u), block);
	if (u->block != block) { /* those before it are used up: it is the first to be asked next time */
		unlink_block(s, u, block);
		link_first(s, u, block);
	}
	*address = address_of(s, block)->number;
	return true;
}

static void own(struct nat_store *s, const struct nat_turn *t, uint32_t subscriber, struct nat_address *a,
	unsigned unit, const struct nat_ports_want *range)
{
	struct nat_subscriber *u = nat_subscriber_at(s, subscriber);
	uint32_t block = a->number * NAT_UNITS + unit + 1;
	struct nat_block *b = nat_block_at(s, block);

	*b = (struct nat_block){ .subscriber = subscriber,
		.taken_cnt = 1,
		.lo = range->lo,
		.hi = range->hi,
		.unit_cnt = (uint16_t)(t->policy->block_ports / NAT_PORTS_UNIT) };
	map(a, unit, b->unit_cnt, true);
	a->blocks_taken++;
	link_first(s, u, block);
	u->block_cnt++;
	__atomic_add_fetch(&s->block_cnt, 1, __ATOMIC_RELAXED);
}

int nat_block_open(struct nat_store *s, const struct nat_turn *t, uint32_t subscriber, struct nat_address *a,
	uint8_t proto, struct nat_ports_want *want, uint16_t *port)
{
	const struct nat_policy *p = t->policy;
	unsigned size = p->block_ports / NAT_PORTS_UNIT, low = p->port_lo / p->block_ports;
	unsigned cnt = p->port_hi / p->block_ports - low + 1u, first = (low + cnt - 1) * size;
	unsigned start = (low + (unsigned)((uint64_t)nat_store_random(s, t->worker) * cnt >> 32)) * size, from = start;
	bool round = false;
	int rc = -EADDRINUSE;

	a->blocks = cnt;
	for (unsigned i = 0; i < NAT_PROTO_CNT; i++)
		nat_address_turn(s, t, a, (uint8_t)i);
	for (;;) {
		int unit = from <= first ? next_block(a->owned, from, round ? start - 1 : first, size) : -1;
		unsigned lo, hi;
		if (unit < 0) {
			if (round || start == low * size)
				return rc;
			round = true;
			from = low * size;
			continue;
		}
		from = (unsigned)unit + size;
		lo = (unsigned)unit * NAT_PORTS_UNIT;
		hi = lo + p->block_ports - 1u;
		want->lo = lo > p->port_lo ? (uint16_t)lo : p->port_lo;
		want->hi = hi < p->port_hi ? (uint16_t)hi : p->port_hi;
		want->closed = NULL;
		/* Single ports of it may be taken, or rest, from before there were blocks; also such as are not of the range now. */
		if (!nat_ports_idle(&a->ports[NAT_TCP], (uint16_t)lo, (uint16_t)hi) ||
			!nat_ports_idle(&a->ports[NAT_UDP], (uint16_t)lo, (uint16_t)hi) ||
			!nat_ports_idle(&a->ports[NAT_ICMP], (uint16_t)lo, (uint16_t)hi))
			continue;
		rc = -EAGAIN; /* reserved, all of them */
		if (!nat_ports_take(&a->ports[proto], want, t->now_ms, p->quarantine_ms, port)) {
			own(s, t, subscriber, a, (unsigned)unit, want);
			return 0;
		}
	}
}

void nat_block_tell(struct nat_store *s, const struct nat_turn *t, uint32_t address, uint16_t port)
{
	uint32_t start = s->address[address]->start[port / NAT_PORTS_UNIT];

	if (start)
		say(s, t, address * NAT_UNITS + start, true);
}

/* ---- given back -------------------------------------------------------------------------------------------------- */

static void disown(struct nat_store *s, const struct nat_turn *t, uint32_t block)
{
	struct nat_block *b = nat_block_at(s, block);
	struct nat_subscriber *u = nat_subscriber_at(s, b->subscriber);
	struct nat_address *a = address_of(s, block);

	say(s, t, block, false);
	unlink_block(s, u, block);
	u->block_cnt--;
	__atomic_sub_fetch(&s->block_cnt, 1, __ATOMIC_RELAXED);
	nat_lock(&a->lock);
	map(a, (block - 1) % NAT_UNITS, b->unit_cnt, false);
	a->blocks_taken--;
	nat_address_wet(s, a);
	nat_unlock(&a->lock);
}

void nat_block_given(struct nat_store *s, const struct nat_turn *t, uint32_t block, bool unused)
{
	struct nat_block *b = nat_block_at(s, block);

	if (!unused && t->policy->quarantine_ms)
		b->worn = true;
	if (--b->taken_cnt)
		return;
	if (b->worn)
		make_idle(s, shard_of(s, nat_subscriber_at(s, b->subscriber)), block, t->now_ms);
	else
		disown(s, t, block);
}

static bool has_rested(struct nat_store *s, const struct nat_turn *t, uint32_t block)
{
	const struct nat_block *b = nat_block_at(s, block);
	struct nat_address *a = address_of(s, block);
	int32_t since_ms = (int32_t)(t->now_ms - b->idle_ms);
	bool idle = true;

	if (since_ms < 0 || (uint32_t)since_ms < t->policy->quarantine_ms)
		return false;
	nat_lock(&a->lock);
	for (unsigned i = 0; i < NAT_PROTO_CNT; i++) {
		nat_address_turn(s, t, a, (uint8_t)i);
		idle = idle && nat_ports_idle(&a->ports[i], b->lo, b->hi);
	}
	nat_unlock(&a->lock);
	return idle;
}

void nat_block_rested(struct nat_store *s, const struct nat_turn *t, struct nat_shard *shard)
{
	if (!__atomic_load_n(&shard->idle_first, __ATOMIC_RELAXED))
		return;
	nat_lock(&shard->lock);
	for (unsigned i = 0; i < RESTED_AT_ONCE; i++) {
		uint32_t block = shard->idle_first, subscriber;
		if (!block || !has_rested(s, t, block))
			break;
		subscriber = nat_block_at(s, block)->subscriber;
		make_busy(s, shard, block);
		disown(s, t, block);
		nat_subscriber_settle(s, t, subscriber);
	}
	nat_unlock(&shard->lock);
}
