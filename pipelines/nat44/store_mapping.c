/* SPDX-License-Identifier: BSD-2-Clause */
/* store_mapping.c - mappings: found from inside and from outside, made, held by sessions, ended; whom they let in. */
#include "pipelines/nat44/store_table.h"

#include <arpa/inet.h>

/* ---- from inside ------------------------------------------------------------------------------------------------- */

/* What a mapping is found by. */
struct key {
	__be32 inside_be, remote_be;
	__be16 inside_port_be, remote_port_be;
	uint16_t zone;
	uint8_t proto;
};

static struct key key_of(const struct nat_flow *f, uint8_t mapping)
{
	struct key k = {
		.inside_be = f->inside_be, .inside_port_be = f->inside_port_be, .zone = f->zone, .proto = f->proto
	};

	if (mapping != NAT_ENDPOINT_INDEPENDENT)
		k.remote_be = f->remote_be;
	if (mapping == NAT_ADDRESS_AND_PORT_DEPENDENT)
		k.remote_port_be = f->remote_port_be;
	return k;
}

static struct key key_in(const struct nat_entry *e)
{
	return (struct key){ e->inside_be, e->remote_be, e->inside_port_be, e->remote_port_be, e->zone,
		nat_entry_proto(e) };
}

static bool is_of(const struct nat_entry *e, const struct key *k)
{
	return e->inside_be == k->inside_be && e->remote_be == k->remote_be && e->inside_port_be == k->inside_port_be &&
		e->remote_port_be == k->remote_port_be && e->zone == k->zone && nat_entry_proto(e) == k->proto;
}

static uint32_t *head_of(const struct nat_store *s, const struct key *k)
{
	uint64_t hash = nat_hash(s, (uint64_t)k->inside_be << 32 | k->remote_be,
		(uint64_t)k->inside_port_be << 48 | (uint64_t)k->remote_port_be << 32 | (uint64_t)k->zone << 16 |
			k->proto);

	return &s->head[NAT_MAPPINGS][hash & (s->head_cnt[NAT_MAPPINGS] - 1)];
}

static uint32_t find(const struct nat_store *s, const struct key *k)
{
	uint32_t *head = head_of(s, k), first = nat_chain_lock(head), number = first;

	while (number && !is_of(nat_entry_at(s, number), k))
		number = nat_entry_at(s, number)->next;
	nat_chain_unlock(head, first);
	return number;
}

static void link_entry(struct nat_store *s, const struct key *k, uint32_t number)
{
	uint32_t *head = head_of(s, k);

	nat_entry_at(s, number)->next = nat_chain_lock(head);
	nat_chain_unlock(head, number);
}

static void unlink_entry(struct nat_store *s, uint32_t number)
{
	struct nat_entry *e = nat_entry_at(s, number);
	struct key k = key_in(e);
	uint32_t *head = head_of(s, &k), first = nat_chain_lock(head), *at = &first;

	while (*at != number)
		at = &nat_entry_at(s, *at)->next;
	*at = e->next;
	nat_chain_unlock(head, first);
}

/* ---- peers ------------------------------------------------------------------------------------------------------- */

static uint32_t *peers_of(const struct nat_store *s, uint32_t mapping, __be32 remote_be)
{
	return &s->head[NAT_PEERS][nat_hash(s, mapping, remote_be) & (s->head_cnt[NAT_PEERS] - 1)];
}

/* Where the peer's number is, or 0. */
static uint32_t *peer_in(const struct nat_store *s, uint32_t *first, uint32_t mapping, __be32 remote_be)
{
	uint32_t *at = first;

	while (*at) {
		struct nat_peer *p = nat_peer_at(s, *at);
		if (p->mapping == mapping && p->remote_be == remote_be)
			break;
		at = &p->next;
	}
	return at;
}

static bool peer_known(const struct nat_store *s, uint32_t mapping, __be32 remote_be)
{
	uint32_t *head = peers_of(s, mapping, remote_be), first = nat_chain_lock(head);
	bool known = *peer_in(s, &first, mapping, remote_be) != 0;

	nat_chain_unlock(head, first);
	return known;
}

/* One session more; false = no room. */
static bool peer_hold(struct nat_store *s, unsigned worker, uint32_t mapping, __be32 remote_be)
{
	uint32_t *head = peers_of(s, mapping, remote_be), first = nat_chain_lock(head);
	uint32_t number = *peer_in(s, &first, mapping, remote_be);

	if (number) {
		nat_peer_at(s, number)->session_cnt++;
	} else {
		number = nat_pool_take(s, NAT_PEERS, worker);
		if (number) {
			*nat_peer_at(s, number) = (struct nat_peer){ first, mapping, remote_be, 1 };
			first = number;
		}
	}
	nat_chain_unlock(head, first);
	return number != 0;
}

/* None for a session of another policy, whose remote_be is 0. */
static void peer_release(struct nat_store *s, unsigned worker, uint32_t mapping, __be32 remote_be)
{
	uint32_t *head = peers_of(s, mapping, remote_be), first = nat_chain_lock(head);
	uint32_t *at = peer_in(s, &first, mapping, remote_be), number = *at;

	if (number && --nat_peer_at(s, number)->session_cnt == 0)
		*at = nat_peer_at(s, number)->next;
	else
		number = 0;
	nat_chain_unlock(head, first);
	if (number)
		nat_pool_give(s, NAT_PEERS, worker, number);
}

/* ---- made, held, ended: with the shard locked -------------------------------------------------------------------- */

static enum nat_outcome make(
	struct nat_store *s, const struct nat_turn *t, const struct key *k, uint32_t subscriber, uint32_t *mapping)
{
	struct nat_subscriber *u = nat_subscriber_at(s, subscriber);
	uint32_t number, address;
	struct nat_entry *e;
	enum nat_outcome o;
	uint16_t port;

	if (t->policy->mappings_max && u->mapping_cnt >= t->policy->mappings_max)
		return NAT_MAPPING_LIMIT;
	number = nat_pool_take(s, NAT_MAPPINGS, t->worker);
	if (!number)
		return NAT_NO_MEMORY;
	o = nat_address_take(s, t, subscriber, k->proto, k->inside_port_be, &address, &port);
	if (o != NAT_OK) {
		nat_pool_give(s, NAT_MAPPINGS, t->worker, number);
		return o;
	}
	e = nat_entry_at(s, number);
	e->inside_be = k->inside_be;
	e->remote_be = k->remote_be;
	e->inside_port_be = k->inside_port_be;
	e->remote_port_be = k->remote_port_be;
	e->zone = k->zone;
	e->address = (uint16_t)(address | (uint32_t)k->proto << 12);
	e->outside_port = port;
	e->subscriber = subscriber;
	e->session_cnt = e->retired = e->worn = e->peers = 0;
	__atomic_store_n(&e->shard, u->shard, __ATOMIC_RELAXED);
	link_entry(s, k, number);
	__atomic_store_n(&s->address[address]->mapping[k->proto][port], number, __ATOMIC_RELEASE);
	u->mapping_cnt++;
	u->ports[k->proto]++;
	nat_count(&s->worker[t->worker].made[0]);
	*mapping = number;
	return NAT_OK;
}

/* Asks the memory for what end() will want: locks are barriers, so that each would be waited for alone. */
static void expect_end(const struct nat_store *s, const struct nat_entry *e)
{
	const struct nat_address *a = s->address[nat_entry_address(e)];
	struct key k = key_in(e);

	__builtin_prefetch(nat_subscriber_at(s, e->subscriber));
	__builtin_prefetch(head_of(s, &k));
	__builtin_prefetch(&a->mapping[k.proto][e->outside_port]);
	__builtin_prefetch(&a->ports[k.proto].busy[e->outside_port / 64]);
	__builtin_prefetch(&a->ports[k.proto].reserved[e->outside_port / 64]);
	__builtin_prefetch(&a->start[e->outside_port / NAT_PORTS_UNIT]);
}

static void end(struct nat_store *s, const struct nat_turn *t, uint32_t number, bool unused)
{
	struct nat_entry *e = nat_entry_at(s, number);
	struct nat_subscriber *u = nat_subscriber_at(s, e->subscriber);

	if (!e->retired)
		unlink_entry(s, number);
	u->mapping_cnt--;
	u->ports[nat_entry_proto(e)]--;
	nat_address_give(s, t, nat_entry_address(e), nat_entry_proto(e), e->outside_port, unused);
	__atomic_store_n(&e->shard, 0, __ATOMIC_RELAXED);
	nat_pool_give(s, NAT_MAPPINGS, t->worker, number);
	nat_count(&s->worker[t->worker].ended[0]);
}

/* One session more of a mapping and its subscriber. */
static enum nat_outcome hold(struct nat_store *s, const struct nat_turn *t, uint32_t number, __be32 remote_be)
{
	struct nat_entry *e = nat_entry_at(s, number);

	if (t->policy->filtering == NAT_ADDRESS_DEPENDENT) {
		if (!peer_hold(s, t->worker, number, remote_be))
			return NAT_NO_MEMORY;
		e->peers = 1;
	}
	/* Only now: its block, and the mapping too, may have been made by a trial. */
	if (t->policy->on_block && !t->trial && !e->worn)
		nat_block_tell(s, t, nat_entry_address(e), e->outside_port);
	e->session_cnt++;
	nat_subscriber_at(s, e->subscriber)->session_cnt++;
	return NAT_OK;
}

static bool sessions_left(const struct nat_store *s, const struct nat_policy *p, uint32_t subscriber)
{
	return !p->sessions_max || nat_subscriber_at(s, subscriber)->session_cnt < p->sessions_max;
}

static enum nat_outcome take(struct nat_store *s, const struct nat_turn *t, const struct nat_flow *f,
	const struct key *k, uint64_t hash, uint32_t *mapping, bool *made)
{
	uint32_t number = find(s, k), subscriber;
	bool fresh = false;
	enum nat_outcome o;

	if (number && !nat_policy_has(t->policy, nat_entry_address(nat_entry_at(s, number)))) {
		unlink_entry(s, number);
		nat_entry_at(s, number)->retired = 1;
		number = 0;
	}
	subscriber =
		number ? nat_entry_at(s, number)->subscriber : nat_subscriber_get(s, t, hash, f->zone, f->inside_be);
	if (!subscriber)
		return NAT_NO_MEMORY;
	o = sessions_left(s, t->policy, subscriber) ? NAT_OK : NAT_SESSION_LIMIT;
	if (o == NAT_OK && !number) {
		o = make(s, t, k, subscriber, &number);
		fresh = o == NAT_OK;
	}
	if (o == NAT_OK) {
		o = hold(s, t, number, f->remote_be);
		if (o != NAT_OK && fresh)
			end(s, t, number, true);
	}
	nat_subscriber_settle(s, t, subscriber);
	if (o == NAT_OK) {
		*mapping = number;
		*made = fresh;
	}
	return o;
}

void nat_store_prefetch(const struct nat_store *s, const struct nat_policy *p, const struct nat_flow *f)
{
	struct key k = key_of(f, p->mapping);

	__builtin_prefetch(head_of(s, &k), 1);
	__builtin_prefetch(nat_subscriber_head(s, nat_subscriber_hash(s, f->zone, f->inside_be)), 1);
}

enum nat_outcome nat_store_take(
	struct nat_store *s, const struct nat_turn *t, const struct nat_flow *f, uint32_t *mapping, bool *made)
{
	uint64_t hash = nat_subscriber_hash(s, f->zone, f->inside_be);
	struct nat_shard *shard = nat_shard_of(s, hash);
	struct key k = key_of(f, t->policy->mapping);
	enum nat_outcome o;

	__builtin_prefetch(nat_subscriber_head(
		s, hash)); /* locks are barriers: what is not asked for before is waited for after */
	__builtin_prefetch(head_of(s, &k));
	nat_lock(&shard->lock);
	o = take(s, t, f, &k, hash, mapping, made);
	nat_unlock(&shard->lock);
	if (o != NAT_OK && !t->trial)
		nat_count(&s->worker[t->worker].refused[o]);
	return o;
}

void nat_store_release(struct nat_store *s, const struct nat_turn *t, uint32_t mapping, __be32 remote_be, bool unused)
{
	struct nat_entry *e = nat_entry_at(s, mapping);
	struct nat_shard *shard = nat_shard_lock(s, &e->shard);
	uint32_t subscriber;

	if (!shard)
		return;
	subscriber = e->subscriber;
	if (e->session_cnt == 1)
		expect_end(s, e);
	if (e->peers)
		peer_release(s, t->worker, mapping, remote_be);
	if (!unused)
		e->worn = 1;
	nat_subscriber_at(s, subscriber)->session_cnt--;
	if (--e->session_cnt == 0)
		end(s, t, mapping, !e->worn);
	nat_subscriber_settle(s, t, subscriber);
	nat_unlock(&shard->lock);
}

/* ---- from outside ------------------------------------------------------------------------------------------------ */

/* The mapping that has a port, and its shard, locked; NULL = none. */
static struct nat_shard *lock_outside(
	const struct nat_store *s, uint32_t address, uint8_t proto, uint16_t port, uint32_t *mapping)
{
	const uint32_t *at = &s->address[address]->mapping[proto][port];

	for (;;) {
		uint32_t number = __atomic_load_n(at, __ATOMIC_ACQUIRE);
		struct nat_shard *shard;
		if (!number)
			return NULL;
		shard = nat_shard_lock(s, &nat_entry_at(s, number)->shard);
		if (shard && __atomic_load_n(at, __ATOMIC_RELAXED) == number) {
			*mapping = number;
			return shard;
		}
		if (shard)
			nat_unlock(&shard->lock); /* it ended meanwhile */
	}
}

/* One that is being made just now, its port taken before it was reserved, is missed. */
void nat_mapping_retire(struct nat_store *s, uint32_t address, uint8_t proto, uint16_t port)
{
	uint32_t number;
	struct nat_shard *shard = lock_outside(s, address, proto, port, &number);

	if (!shard)
		return;
	if (!nat_entry_at(s, number)->retired) {
		unlink_entry(s, number);
		nat_entry_at(s, number)->retired = 1;
	}
	nat_unlock(&shard->lock);
}

static bool lets_in(const struct nat_store *s, const struct nat_policy *p, uint32_t mapping, __be32 remote_be)
{
	switch (p->filtering) {
	case NAT_ENDPOINT_INDEPENDENT:
		return true;
	case NAT_ADDRESS_DEPENDENT:
		return peer_known(s, mapping, remote_be);
	default:
		return false;
	}
}

enum nat_outcome nat_store_take_outside(struct nat_store *s, const struct nat_turn *t, uint16_t zone, uint8_t proto,
	__be32 outside_be, __be16 outside_port_be, __be32 remote_be, __be16 remote_port_be, uint32_t *mapping,
	bool *filtered)
{
	uint32_t address, number;
	struct nat_shard *shard = NULL;
	enum nat_outcome o = NAT_OK;

	*mapping = 0;
	*filtered = false;
	if (!nat_store_known(s, outside_be, &address) && nat_policy_has(t->policy, address))
		shard = lock_outside(s, address, proto, ntohs(outside_port_be), &number);
	if (!shard)
		return NAT_OK;
	if (nat_entry_at(s, number)->zone == zone) {
		if (!t->let_in && !lets_in(s, t->policy, number, remote_be))
			*filtered = true;
		else if (!sessions_left(s, t->policy, nat_entry_at(s, number)->subscriber))
			o = NAT_SESSION_LIMIT;
		else
			o = hold(s, t, number, remote_be);
		if (o == NAT_OK && !*filtered)
			*mapping = number;
	}
	nat_unlock(&shard->lock);
	if (o != NAT_OK && !t->trial)
		nat_count(&s->worker[t->worker].refused[o]);
	return o;
}

void nat_store_held(const struct nat_store *s, uint32_t mapping, struct nat_mapping *out)
{
	const struct nat_entry *e = nat_entry_at(s, mapping);

	*out = (struct nat_mapping){ .inside_be = e->inside_be,
		.outside_be = s->address[nat_entry_address(e)]->be,
		.inside_port_be = e->inside_port_be,
		.outside_port_be = htons(e->outside_port),
		.remote_be = e->remote_be,
		.remote_port_be = e->remote_port_be,
		.zone = e->zone,
		.proto = nat_entry_proto(e) };
}

/* With its shard locked. */
static void copy(const struct nat_store *s, uint32_t mapping, struct nat_mapping *out)
{
	const struct nat_entry *e = nat_entry_at(s, mapping);

	nat_store_held(s, mapping, out);
	out->retired = e->retired;
	out->session_cnt = e->session_cnt;
}

bool nat_store_mapping(const struct nat_store *s, uint32_t mapping, struct nat_mapping *out)
{
	struct nat_shard *shard;

	if (!mapping || mapping > s->pool[NAT_MAPPINGS].cnt)
		return false;
	shard = nat_shard_lock(s, &nat_entry_at(s, mapping)->shard);
	if (!shard)
		return false;
	copy(s, mapping, out);
	nat_unlock(&shard->lock);
	return true;
}

bool nat_store_find_outside(
	const struct nat_store *s, uint8_t proto, __be32 outside_be, __be16 port_be, struct nat_mapping *out)
{
	uint32_t address, number;
	struct nat_shard *shard;

	if (nat_store_known(s, outside_be, &address))
		return false;
	shard = lock_outside(s, address, proto, ntohs(port_be), &number);
	if (!shard)
		return false;
	copy(s, number, out);
	nat_unlock(&shard->lock);
	return true;
}
