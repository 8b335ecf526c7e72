/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/effects.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define EFFECTS      65536u
#define INDEX        131072u /* twice as many: probes stay short when the table is full */
#define METERS       65536u
#define TICKS_PER_NS 64u /* resolution of a meter; 64 bits of it last nine years */

/*
 * A virtual queue (GCRA, ITU-T I.371): `full_at` is when the bucket will be full again; a packet moves it by its cost and passes while it
 * is no further than the burst ahead of now.  One word, so a compare-and-swap is all the locking.
 */
struct meter {
	uint64_t full_at_ticks; /* atomic */
	uint64_t burst_ticks;
	double ticks_per_unit; /* of one packet, or one bit */
	bool bits;
} __attribute__((aligned(64)));

struct mr_effects {
	pthread_mutex_t lock; /* of adding */
	struct mr_effect *entry;
	uint16_t *index; /* atomic; open addressing by hash, 0 = free */
	uint32_t cnt;
	struct meter *meter;
	uint32_t meter_cnt;
};

/* Pages are touched as entries are used. */
static void *reserve(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

struct mr_effects *mr_effects_create(void)
{
	struct mr_effects *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	pthread_mutex_init(&t->lock, NULL);
	t->entry = reserve(EFFECTS * sizeof(*t->entry));
	t->index = reserve(INDEX * sizeof(*t->index));
	t->meter = reserve(METERS * sizeof(*t->meter));
	t->cnt = 1;
	t->meter_cnt = 1;
	if (t->entry && t->index && t->meter)
		return t;
	mr_effects_destroy(t);
	return NULL;
}

void mr_effects_destroy(struct mr_effects *t)
{
	if (!t)
		return;
	if (t->entry)
		munmap(t->entry, EFFECTS * sizeof(*t->entry));
	if (t->index)
		munmap(t->index, INDEX * sizeof(*t->index));
	if (t->meter)
		munmap(t->meter, METERS * sizeof(*t->meter));
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static uint32_t hash_of(const struct mr_effect *e)
{
	uint64_t h = 0;
	for (unsigned i = 0; i < MR_EFFECT_COUNTERS; i++)
		h = (h ^ e->counter[i]) * 0x9e3779b97f4a7c15ULL;
	for (unsigned i = 0; i < MR_EFFECT_METERS; i++)
		h = (h ^ e->meter[i]) * 0x9e3779b97f4a7c15ULL;
	return (uint32_t)(h >> 40) % INDEX;
}

/* The place of e in the index: its own, or the free one where it would go. */
static uint32_t find(const struct mr_effects *t, const struct mr_effect *e, uint16_t *id)
{
	for (uint32_t at = hash_of(e);; at = (at + 1) % INDEX) {
		*id = __atomic_load_n(&t->index[at], __ATOMIC_ACQUIRE);
		if (!*id || !memcmp(&t->entry[*id], e, sizeof(*e)))
			return at;
	}
}

int mr_effects_intern(struct mr_effects *t, const struct mr_effect *e)
{
	static const struct mr_effect nothing;
	uint16_t id;
	if (!memcmp(e, &nothing, sizeof(nothing)))
		return 0;
	find(t, e, &id);
	if (id)
		return id;
	pthread_mutex_lock(&t->lock); /* once for each combination there is, not for each flow */
	uint32_t at = find(t, e, &id);
	if (!id && t->cnt < EFFECTS) {
		id = t->cnt++;
		t->entry[id] = *e;
		__atomic_store_n(&t->index[at], id, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&t->lock);
	return id ? id : -1;
}

const struct mr_effect *mr_effects_at(const struct mr_effects *t, uint16_t id)
{
	return &t->entry[id];
}

uint16_t mr_effects_meter_add(struct mr_effects *t, uint64_t rate_per_s, uint64_t burst, bool bits)
{
	if (t->meter_cnt == METERS || !rate_per_s)
		return 0;
	struct meter *m = &t->meter[t->meter_cnt];
	m->ticks_per_unit = 1e9 * TICKS_PER_NS / (double)rate_per_s;
	double burst_ticks = (double)(burst ? burst : 1) * m->ticks_per_unit;
	m->burst_ticks = burst_ticks < 0x1p62 ? (uint64_t)burst_ticks : (uint64_t)1 << 62;
	m->bits = bits;
	return t->meter_cnt++;
}

bool mr_effects_meter_pass(struct mr_effects *t, uint16_t meter, uint32_t bytes, uint64_t now_ns)
{
	struct meter *m = &t->meter[meter];
	uint64_t now = now_ns * TICKS_PER_NS;
	uint64_t cost = (uint64_t)(m->ticks_per_unit * (m->bits ? 8.0 * bytes : 1.0));
	uint64_t full_at = __atomic_load_n(&m->full_at_ticks, __ATOMIC_RELAXED);
	for (;;) {
		/* A full bucket passes any packet, or one larger than the burst would never get through. */
		uint64_t start = full_at > now ? full_at : now;
		if (start > now && start + cost - now > m->burst_ticks)
			return false;
		if (__atomic_compare_exchange_n(
			    &m->full_at_ticks, &full_at, start + cost, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return true;
	}
}
