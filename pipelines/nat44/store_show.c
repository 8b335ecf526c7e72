/* SPDX-License-Identifier: BSD-2-Clause */
/* store_show.c - what the store has, for people; and what is done once in a while. */
#include "pipelines/nat44/store_table.h"

#include <sys/mman.h>
#include <unistd.h>

#define TURNED_AT_ONCE 16 /* addresses a tick */

void nat_store_tick(struct nat_store *s, const struct nat_turn *t)
{
	struct nat_worker *w = &s->worker[t->worker];
	uint32_t cnt = __atomic_load_n(&s->address_cnt, __ATOMIC_ACQUIRE);

	for (uint32_t i = 0; i < cnt && i < TURNED_AT_ONCE; i++) {
		struct nat_address *a;
		w->turned = w->turned + 1 < cnt ? w->turned + 1 : 0;
		a = __atomic_load_n(&s->address[w->turned], __ATOMIC_ACQUIRE);
		nat_lock(&a->lock);
		for (unsigned k = 0; k < NAT_PROTO_CNT; k++)
			nat_address_turn(s, t, a, (uint8_t)k);
		nat_unlock(&a->lock);
	}
	for (unsigned i = 0; i < NAT_SHARDS && __atomic_load_n(&s->block_cnt, __ATOMIC_RELAXED); i++)
		nat_block_rested(s, t, &s->shard[i]);
}

bool nat_store_outside_of(const struct nat_store *s, uint32_t subscriber, __be32 *inside_be, __be32 *outside_be)
{
	struct nat_subscriber *u;
	struct nat_shard *shard;
	bool has;

	if (!subscriber || subscriber > s->pool[NAT_SUBSCRIBERS].cnt)
		return false;
	u = nat_subscriber_at(s, subscriber);
	shard = nat_shard_lock(s, &u->shard);
	if (!shard)
		return false;
	has = u->address != 0;
	if (has) {
		*inside_be = u->inside_be;
		*outside_be = s->address[u->address - 1]->be;
	}
	nat_unlock(&shard->lock);
	return has;
}

static uint64_t summed(const struct nat_store *s, const uint64_t *of_first)
{
	size_t offset = (size_t)((const uint8_t *)of_first - (const uint8_t *)s->worker);
	uint64_t sum = 0;

	for (unsigned i = 0; i <= s->worker_cnt; i++)
		sum += __atomic_load_n(
			(const uint64_t *)(const void *)((const uint8_t *)&s->worker[i] + offset), __ATOMIC_RELAXED);
	return sum;
}

/* Of an area, what has been touched. */
static uint64_t touched(const void *p, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (bytes + page - 1) / page, cnt = 0;
	unsigned char there[4096];

	for (size_t at = 0; at < pages; at += sizeof(there)) {
		size_t n = pages - at < sizeof(there) ? pages - at : sizeof(there);
		if (mincore((uint8_t *)(uintptr_t)p + at * page, n * page, there))
			continue;
		for (size_t i = 0; i < n; i++)
			cnt += there[i] & 1;
	}
	return cnt * page;
}

void nat_store_usage(const struct nat_store *s, struct nat_store_usage *out)
{
	const struct nat_worker *w = s->worker;
	uint64_t ended = summed(s, &w->ended[0]),
		 gone = summed(s, &w->ended[1]); /* first: so there are never less than none */

	*out = (struct nat_store_usage){ .address_cnt = __atomic_load_n(&s->address_cnt, __ATOMIC_ACQUIRE),
		.subscriber_max = s->subscriber_max,
		.mapping_max = s->mapping_max,
		.mappings_ended = ended,
		.mappings_made = summed(s, &w->made[0]) };
	out->mapping_cnt = (uint32_t)(out->mappings_made - ended);
	out->subscriber_cnt = (uint32_t)(summed(s, &w->made[1]) - gone);
	for (unsigned i = 0; i < NAT_OUTCOME_CNT; i++)
		out->refused[i] = summed(s, &w->refused[i]);
	out->bytes = touched(s, sizeof(*s)) + (s->worker_cnt + 1) * sizeof(*w);
	for (unsigned i = 0; i < NAT_POOL_CNT; i++) {
		const struct nat_pool *p = &s->pool[i];
		out->bytes += touched(p->base, ((size_t)p->cnt + 1) * p->size);
		out->bytes += touched(s->head[i], (size_t)s->head_cnt[i] * sizeof(uint32_t));
	}
	for (uint32_t i = 0; i < out->address_cnt; i++)
		out->bytes += touched(s->address[i], sizeof(*s->address[i]));
}

bool nat_store_address_usage(const struct nat_store *s, uint32_t number, struct nat_address_usage *out)
{
	struct nat_address *a;

	if (number >= __atomic_load_n(&s->address_cnt, __ATOMIC_ACQUIRE))
		return false;
	a = s->address[number];
	*out = (struct nat_address_usage){ .outside_be = a->be,
		.subscriber_cnt = __atomic_load_n(&a->subscriber_cnt, __ATOMIC_RELAXED) };
	nat_lock(&a->lock);
	for (unsigned i = 0; i < NAT_PROTO_CNT; i++) {
		out->taken[i] = a->ports[i].taken_cnt;
		out->resting[i] = nat_ports_resting(&a->ports[i]);
		out->reserved[i] = a->ports[i].reserved_cnt;
	}
	out->blocks_taken = a->blocks_taken;
	out->blocks = a->blocks;
	nat_unlock(&a->lock);
	return true;
}

bool nat_store_next_subscriber(const struct nat_store *s, uint32_t *at, struct nat_subscriber_usage *out)
{
	uint32_t used = __atomic_load_n(&s->pool[NAT_SUBSCRIBERS].used, __ATOMIC_RELAXED);

	while (*at < used) {
		struct nat_subscriber *u = nat_subscriber_at(s, ++*at);
		struct nat_shard *shard = nat_shard_lock(s, &u->shard);
		if (!shard)
			continue;
		*out = (struct nat_subscriber_usage){ .inside_be = u->inside_be,
			.zone = u->zone,
			.outside_be = u->address ? s->address[u->address - 1]->be : 0,
			.session_cnt = u->session_cnt,
			.mapping_cnt = u->mapping_cnt,
			.block_cnt = u->block_cnt };
		for (unsigned i = 0; i < NAT_PROTO_CNT; i++)
			out->ports[i] = u->ports[i];
		nat_unlock(&shard->lock);
		return true;
	}
	return false;
}

bool nat_store_next_mapping(const struct nat_store *s, uint32_t *at, struct nat_mapping *out)
{
	uint32_t used = __atomic_load_n(&s->pool[NAT_MAPPINGS].used, __ATOMIC_RELAXED);

	while (*at < used)
		if (nat_store_mapping(s, ++*at, out))
			return true;
	return false;
}
