/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/effects.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define INDEX (2 * MR_EFFECTS) /* probes stay short when the table is full */

struct mr_effects {
	pthread_mutex_t lock; /* of adding */
	struct mr_effect *entry;
	uint16_t *index; /* atomic; open addressing by hash, 0 = free */
	uint32_t cnt;
	struct mr_meter *meter;
	uint32_t meter_cnt;
	bool borrowed; /* entry and meter */
};

/* Pages are touched as entries are used. */
static void *reserve(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

struct mr_effects *mr_effects_create(struct mr_effect *entry, struct mr_meter *meter)
{
	struct mr_effects *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	pthread_mutex_init(&t->lock, NULL);
	t->borrowed = entry && meter;
	t->entry = t->borrowed ? entry : reserve(MR_EFFECTS * sizeof(*t->entry));
	t->meter = t->borrowed ? meter : reserve(MR_METERS * sizeof(*t->meter));
	t->index = reserve(INDEX * sizeof(*t->index));
	t->cnt = 1;
	t->meter_cnt = 1;
	if (!t->entry || !t->index || !t->meter) {
		mr_effects_destroy(t);
		return NULL;
	}
	if (t->borrowed) {
		memset(t->entry, 0, MR_EFFECTS * sizeof(*t->entry));
		memset(t->meter, 0, MR_METERS * sizeof(*t->meter));
	}
	return t;
}

void mr_effects_destroy(struct mr_effects *t)
{
	if (!t)
		return;
	if (t->entry && !t->borrowed)
		munmap(t->entry, MR_EFFECTS * sizeof(*t->entry));
	if (t->meter && !t->borrowed)
		munmap(t->meter, MR_METERS * sizeof(*t->meter));
	if (t->index)
		munmap(t->index, INDEX * sizeof(*t->index));
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
	if (!id && t->cnt < MR_EFFECTS) {
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

/* The largest shift that keeps cost_mul below 2^44: 43 bits of precision for any rate from one a second up.  Rounded up, so that a cost of a
 * whole number of ticks does not come out as one less. */
static void set_cost(struct mr_meter *m, uint64_t rate_per_s)
{
	unsigned __int128 ticks_per_s = (unsigned __int128)1000000000 * MR_METER_TICKS_PER_NS, mul;
	m->cost_shift = 64;
	do
		mul = ((ticks_per_s << --m->cost_shift) + rate_per_s - 1) / rate_per_s;
	while (mul >> 44);
	m->cost_mul = (uint64_t)mul;
}

uint16_t mr_effects_meter_add(struct mr_effects *t, uint64_t rate_per_s, uint64_t burst, bool bits)
{
	if (t->meter_cnt == MR_METERS || !rate_per_s)
		return 0;
	struct mr_meter *m = &t->meter[t->meter_cnt];
	set_cost(m, rate_per_s);
	unsigned __int128 burst_ticks =
		(unsigned __int128)(burst ? burst : 1) * 1000000000 * MR_METER_TICKS_PER_NS / rate_per_s;
	uint64_t most = (uint64_t)1 << 62; /* a burst without end */
	m->burst_ticks = burst_ticks < most ? (uint64_t)burst_ticks : most;
	m->bits = bits;
	return t->meter_cnt++;
}

bool mr_effects_meter_pass(struct mr_effects *t, uint16_t meter, uint32_t bytes, uint64_t now_ns)
{
	return mr_meter_pass(&t->meter[meter], bytes, now_ns);
}
