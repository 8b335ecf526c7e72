/* SPDX-License-Identifier: BSD-2-Clause */
/* store.c - the store comes and goes: its memory, numbers, random choices, outside addresses. */
#include "pipelines/nat44/store_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#define KIND_MAX (1u << 29) /* peers are twice as many, and their numbers have room for NAT_CHAIN_LOCK */

/* Zeros, there as they are touched; NULL. */
static void *reserve(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

static uint32_t *link_of(const struct nat_pool *p, uint32_t number)
{
	return (uint32_t *)(void *)(p->base + number * p->size);
}

/* What is at the workers' hands comes on top, so that all of max can be in use. */
static int pool_make(struct nat_store *s, unsigned pool, uint64_t max, size_t size)
{
	struct nat_pool *p = &s->pool[pool];
	uint64_t cnt = max + (uint64_t)(s->worker_cnt + 1) * 2 * NAT_HANDFUL;
	uint32_t heads = NAT_SHARDS;

	while (heads < max)
		heads *= 2;
	p->cnt = (uint32_t)cnt;
	p->size = size;
	p->base = reserve((cnt + 1) * size);
	s->head_cnt[pool] = heads;
	s->head[pool] = reserve((size_t)heads * sizeof(uint32_t));
	if (!p->base || !s->head[pool])
		return -ENOMEM;
	/* Lowest numbers come first, and heads are met at random: nothing is lost by huge pages, and each of them is looked up at random. */
	madvise(p->base, (cnt + 1) * size, MADV_HUGEPAGE);
	madvise(s->head[pool], (size_t)heads * sizeof(uint32_t), MADV_HUGEPAGE);
	return 0;
}

static void pool_drop(struct nat_store *s, unsigned pool)
{
	struct nat_pool *p = &s->pool[pool];

	if (p->base)
		munmap(p->base, ((size_t)p->cnt + 1) * p->size);
	if (s->head[pool])
		munmap(s->head[pool], (size_t)s->head_cnt[pool] * sizeof(uint32_t));
}

uint32_t nat_pool_take(struct nat_store *s, unsigned pool, unsigned worker)
{
	struct nat_pool *p = &s->pool[pool];
	struct nat_hand *h = &s->worker[worker].hand[pool];

	if (h->cnt)
		return h->number[--h->cnt];
	nat_lock(&p->lock);
	while (p->free && h->cnt < NAT_HANDFUL) {
		h->number[h->cnt++] = p->free;
		p->free = *link_of(p, p->free);
	}
	if (!h->cnt) { /* those never used, the lowest first */
		uint32_t more = p->cnt - p->used < NAT_HANDFUL ? p->cnt - p->used : NAT_HANDFUL;
		for (h->cnt = more; more; more--)
			h->number[more - 1] = p->used + (h->cnt - more) + 1;
		__atomic_store_n(&p->used, p->used + h->cnt, __ATOMIC_RELAXED);
	}
	nat_unlock(&p->lock);
	return h->cnt ? h->number[--h->cnt] : 0;
}

void nat_pool_give(struct nat_store *s, unsigned pool, unsigned worker, uint32_t number)
{
	struct nat_pool *p = &s->pool[pool];
	struct nat_hand *h = &s->worker[worker].hand[pool];

	if (h->cnt == 2 * NAT_HANDFUL) {
		nat_lock(&p->lock);
		while (h->cnt > NAT_HANDFUL) {
			h->cnt--;
			*link_of(p, h->number[h->cnt]) = p->free;
			p->free = h->number[h->cnt];
		}
		nat_unlock(&p->lock);
	}
	h->number[h->cnt++] = number;
}

/* ---- random choices ---------------------------------------------------------------------------------------------- */

static uint32_t rotated(uint32_t x, unsigned by)
{
	return x << by | x >> (32 - by);
}

static void quarter(uint32_t *x, unsigned a, unsigned b, unsigned c, unsigned d)
{
	x[a] += x[b];
	x[d] = rotated(x[d] ^ x[a], 16);
	x[c] += x[d];
	x[b] = rotated(x[b] ^ x[c], 12);
	x[a] += x[b];
	x[d] = rotated(x[d] ^ x[a], 8);
	x[c] += x[d];
	x[b] = rotated(x[b] ^ x[c], 7);
}

/*
 * ChaCha of 8 rounds: what a subscriber has seen of its ports says nothing of the next one's (RFC 6056 section 3.3.1), at a dozen clocks a number.
 */
static void refill(struct nat_worker *w)
{
	static const uint32_t constant[4] = { 0x61707865, 0x3320646e, 0x79622d32, 0x6b206574 };
	uint32_t in[16];

	memcpy(in, constant, sizeof(constant));
	memcpy(in + 4, w->key, sizeof(w->key));
	memcpy(w->random, in, sizeof(in));
	for (unsigned i = 0; i < 4; i++) {
		for (unsigned k = 0; k < 4; k++)
			quarter(w->random, k, 4 + k, 8 + k, 12 + k);
		for (unsigned k = 0; k < 4; k++)
			quarter(w->random, k, 4 + (k + 1) % 4, 8 + (k + 2) % 4, 12 + (k + 3) % 4);
	}
	for (unsigned i = 0; i < 16; i++)
		w->random[i] += in[i];
	if (!++w->key[8])
		w->key[9]++;
	w->random_left = 16;
}

uint32_t nat_store_random(struct nat_store *s, unsigned worker)
{
	struct nat_worker *w = &s->worker[worker];

	if (!w->random_left)
		refill(w);
	return w->random[--w->random_left];
}

static int seed(struct nat_store *s, uint64_t fixed)
{
	for (unsigned i = 0; i <= s->worker_cnt; i++) {
		uint32_t *key = s->worker[i].key;
		if (!fixed) {
			if (getrandom(key, sizeof(s->worker[i].key), 0) != sizeof(s->worker[i].key))
				return -ENOMEM;
			continue;
		}
		memcpy(key, &fixed, sizeof(fixed));
		key[10] = i;
	}
	for (unsigned i = 0; i < 2; i++)
		s->seed[i] = (uint64_t)nat_store_random(s, 0) << 32 | nat_store_random(s, 0) | 1;
	return 0;
}

/* ---- coming and going -------------------------------------------------------------------------------------------- */

int nat_store_create(const struct nat_store_options *opt, struct nat_store **out)
{
	struct nat_store *s;
	int rc;

	if (!opt->mapping_max || !opt->subscriber_max || opt->mapping_max > KIND_MAX ||
		opt->subscriber_max > KIND_MAX || opt->worker_cnt > 4096)
		return -EINVAL;
	s = reserve(sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->holder_cnt = 1;
	s->worker_cnt = opt->worker_cnt;
	s->mapping_max = opt->mapping_max;
	s->subscriber_max = opt->subscriber_max;
	s->worker = aligned_alloc(64, (opt->worker_cnt + 1) * sizeof(*s->worker));
	rc = s->worker ? 0 : -ENOMEM;
	if (!rc) {
		memset(s->worker, 0, (opt->worker_cnt + 1) * sizeof(*s->worker));
		rc = seed(s, opt->seed);
	}
	if (!rc)
		rc = pool_make(s, NAT_MAPPINGS, opt->mapping_max, sizeof(struct nat_entry));
	if (!rc)
		rc = pool_make(s, NAT_SUBSCRIBERS, opt->subscriber_max, sizeof(struct nat_subscriber));
	if (!rc) /* a session has one at most, and a mapping some */
		rc = pool_make(s, NAT_PEERS, 2 * (uint64_t)opt->mapping_max, sizeof(struct nat_peer));
	if (rc) {
		nat_store_drop(s);
		return rc;
	}
	*out = s;
	return 0;
}

struct nat_store *nat_store_hold(struct nat_store *s)
{
	__atomic_add_fetch(&s->holder_cnt, 1, __ATOMIC_RELAXED);
	return s;
}

void nat_store_drop(struct nat_store *s)
{
	if (!s || __atomic_sub_fetch(&s->holder_cnt, 1, __ATOMIC_ACQ_REL))
		return;
	for (uint32_t i = 0; i < s->address_cnt; i++)
		munmap(s->address[i], sizeof(*s->address[i]));
	for (unsigned i = 0; i < NAT_POOL_CNT; i++)
		pool_drop(s, i);
	free(s->worker);
	munmap(s, sizeof(*s));
}

/* ---- outside addresses ------------------------------------------------------------------------------------------- */

void nat_policy_addresses(struct nat_policy *p, const uint32_t *address, uint32_t cnt)
{
	p->address = address;
	p->address_cnt = cnt;
	memset(p->address_set, 0, sizeof(p->address_set));
	for (uint32_t i = 0; i < cnt; i++)
		p->address_set[address[i] / 64] |= 1ull << address[i] % 64;
}

/* Its place, or the empty one it would have: they are never all taken. */
static uint32_t place_of(const struct nat_store *s, __be32 be, uint64_t *found)
{
	uint32_t at = (uint32_t)(nat_hash(s, be, 0) % (2 * NAT_ADDRESSES_MAX));

	for (;; at = (at + 1) % (2 * NAT_ADDRESSES_MAX)) {
		*found = __atomic_load_n(&s->known[at], __ATOMIC_ACQUIRE);
		if (!*found || (__be32)(*found >> 32) == be)
			return at;
	}
}

int nat_store_known(const struct nat_store *s, __be32 outside_be, uint32_t *number)
{
	uint64_t found;

	place_of(s, outside_be, &found);
	if (!found)
		return -ENOENT;
	*number = (uint32_t)found - 1;
	return 0;
}

int nat_store_address(struct nat_store *s, __be32 outside_be, uint32_t *number)
{
	struct nat_address *a;
	uint64_t found;
	uint32_t at = place_of(s, outside_be, &found);

	if (found) {
		*number = (uint32_t)found - 1;
		return 0;
	}
	if (s->address_cnt == NAT_ADDRESSES_MAX)
		return -ENOSPC;
	a = reserve(sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->be = outside_be;
	a->number = s->address_cnt;
	__atomic_store_n(&s->address[a->number], a, __ATOMIC_RELEASE);
	__atomic_store_n(&s->address_cnt, a->number + 1, __ATOMIC_RELEASE);
	__atomic_store_n(&s->known[at], (uint64_t)outside_be << 32 | (a->number + 1), __ATOMIC_RELEASE);
	*number = a->number;
	return 0;
}

void nat_store_reserve(struct nat_store *s, uint32_t number, int proto, uint16_t lo, uint16_t hi)
{
	struct nat_address *a = s->address[number];

	nat_lock(&a->lock);
	for (int i = 0; i < NAT_PROTO_CNT; i++)
		if (proto < 0 || proto == i)
			nat_ports_reserve(&a->ports[i], lo, hi);
	nat_unlock(&a->lock);
	for (int i = 0; i < NAT_PROTO_CNT; i++)
		for (uint32_t port = lo; port <= hi && (proto < 0 || proto == i); port++)
			nat_mapping_retire(s, number, (uint8_t)i, (uint16_t)port);
}

static bool has_reserved(const struct nat_address *a)
{
	bool some = false;

	for (int i = 0; i < NAT_PROTO_CNT; i++)
		some |= a->ports[i].reserved_cnt != 0; /* only control changes it */
	return some;
}

int nat_store_unreserve(
	struct nat_store *s, void (*fn)(void *ctx, __be32 outside_be, struct nat_port_set *keep), void *ctx)
{
	struct nat_port_set *keep = malloc(sizeof(*keep));

	if (!keep)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->address_cnt; i++) {
		struct nat_address *a = s->address[i];
		if (!has_reserved(a))
			continue;
		memset(keep, 0, sizeof(*keep));
		if (fn)
			fn(ctx, a->be, keep);
		nat_lock(&a->lock);
		for (int k = 0; k < NAT_PROTO_CNT; k++)
			nat_ports_unreserve(&a->ports[k], keep->port[k]);
		nat_address_wet(s, a);
		nat_unlock(&a->lock);
	}
	free(keep);
	return 0;
}
