/* SPDX-License-Identifier: BSD-2-Clause */
/* store_subscriber.c - who is inside: found, made, gone; sessions without a mapping. */
#include "pipelines/nat44/store_table.h"

uint64_t nat_subscriber_hash(const struct nat_store *s, uint16_t zone, __be32 inside_be)
{
	return nat_hash(s, inside_be, zone);
}

struct nat_shard *nat_shard_lock(const struct nat_store *s, const uint16_t *shard)
{
	for (;;) {
		uint16_t named = __atomic_load_n(shard, __ATOMIC_RELAXED);
		struct nat_shard *sh;
		if (!named)
			return NULL;
		sh = (struct nat_shard *)&s->shard[named - 1];
		nat_lock(&sh->lock);
		if (__atomic_load_n(shard, __ATOMIC_RELAXED) == named)
			return sh;
		nat_unlock(&sh->lock); /* it went, and its number is in use again elsewhere */
	}
}

uint32_t nat_subscriber_get(
	struct nat_store *s, const struct nat_turn *t, uint64_t hash, uint16_t zone, __be32 inside_be)
{
	uint32_t *head = nat_subscriber_head(s, hash), number;
	struct nat_subscriber *u;

	for (number = *head; number; number = u->next) {
		u = nat_subscriber_at(s, number);
		if (u->inside_be == inside_be && u->zone == zone)
			return number;
	}
	number = nat_pool_take(s, NAT_SUBSCRIBERS, t->worker);
	if (!number)
		return 0;
	u = nat_subscriber_at(s, number);
	u->next = *head;
	u->inside_be = inside_be;
	u->zone = zone;
	u->address = u->session_cnt = u->mapping_cnt = u->block_cnt = u->block = 0;
	for (unsigned i = 0; i < NAT_PROTO_CNT; i++)
		u->ports[i] = 0;
	__atomic_store_n(&u->shard, (uint16_t)(hash % NAT_SHARDS + 1), __ATOMIC_RELAXED);
	*head = number;
	nat_count(&s->worker[t->worker].made[1]);
	return number;
}

void nat_subscriber_move(struct nat_store *s, struct nat_subscriber *u, uint32_t address)
{
	if (u->address) {
		__atomic_sub_fetch(&s->address[u->address - 1]->subscriber_cnt, 1, __ATOMIC_RELAXED);
		__atomic_sub_fetch(&s->load[u->address - 1], NAT_SUBSCRIBER_LOAD, __ATOMIC_RELAXED);
	}
	u->address = address;
	if (address) {
		__atomic_add_fetch(&s->address[address - 1]->subscriber_cnt, 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&s->load[address - 1], NAT_SUBSCRIBER_LOAD, __ATOMIC_RELAXED);
	}
}

void nat_subscriber_settle(struct nat_store *s, const struct nat_turn *t, uint32_t number)
{
	struct nat_subscriber *u = nat_subscriber_at(s, number);
	uint32_t *at;

	if (u->session_cnt || u->mapping_cnt || u->block_cnt)
		return;
	at = nat_subscriber_head(s, nat_subscriber_hash(s, u->zone, u->inside_be));
	while (*at != number)
		at = &nat_subscriber_at(s, *at)->next;
	*at = u->next;
	nat_subscriber_move(s, u, 0);
	__atomic_store_n(&u->shard, 0, __ATOMIC_RELAXED);
	nat_pool_give(s, NAT_SUBSCRIBERS, t->worker, number);
	nat_count(&s->worker[t->worker].ended[1]);
}

enum nat_outcome nat_store_take_subscriber(struct nat_store *s, const struct nat_turn *t, uint16_t zone,
	__be32 inside_be, uint32_t *subscriber, __be32 *outside_be)
{
	uint64_t hash = nat_subscriber_hash(s, zone, inside_be);
	struct nat_shard *shard = nat_shard_of(s, hash);
	enum nat_outcome o = NAT_NO_MEMORY;
	uint32_t number;

	nat_lock(&shard->lock);
	number = nat_subscriber_get(s, t, hash, zone, inside_be);
	if (number) {
		struct nat_subscriber *u = nat_subscriber_at(s, number);
		if (t->policy->sessions_max && u->session_cnt >= t->policy->sessions_max)
			o = NAT_SESSION_LIMIT;
		else
			o = nat_address_pick(s, t, u);
		if (o == NAT_OK) {
			u->session_cnt++;
			*subscriber = number;
			*outside_be = s->address[u->address - 1]->be;
		}
		nat_subscriber_settle(s, t, number);
	}
	nat_unlock(&shard->lock);
	if (o != NAT_OK && !t->trial)
		nat_count(&s->worker[t->worker].refused[o]);
	return o;
}

void nat_store_release_subscriber(struct nat_store *s, const struct nat_turn *t, uint32_t subscriber)
{
	struct nat_subscriber *u = nat_subscriber_at(s, subscriber);
	struct nat_shard *shard = nat_shard_lock(s, &u->shard);

	if (!shard)
		return;
	u->session_cnt--;
	nat_subscriber_settle(s, t, subscriber);
	nat_unlock(&shard->lock);
}
