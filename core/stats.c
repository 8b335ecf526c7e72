/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/stats.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct pair {
	char *interface, *pipeline;
};

struct own_reason {
	char *name, *help;
};

/* Names are written by control under the lock, and published by storing the pointer: readers may be any thread. */
struct mr_stats {
	unsigned worker_cnt;
	struct mr_stats_worker *worker; /* [worker_cnt + 1]: the last is the kernel tier's */
	pthread_mutex_t lock;
	struct pair ingress[MR_STATS_INGRESS];
	struct own_reason reason[MR_REASON_CNT - MR_REASON_STAGE_BASE];
	char **counter; /* [MR_STATS_COUNTERS] */
	uint32_t counter_cnt;
};

#define INGRESS_BYTES (MR_STATS_INGRESS * sizeof(struct mr_stats_ingress))
#define COUNTER_BYTES (MR_STATS_COUNTERS * sizeof(struct mr_count))
#define NAME_BYTES    (MR_STATS_COUNTERS * sizeof(char *))

/* Pages are touched as cells are used. */
static void *reserve(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

static void release(void *p, size_t bytes)
{
	if (p)
		munmap(p, bytes);
}

struct mr_stats *mr_stats_create(unsigned worker_cnt)
{
	struct mr_stats *s = calloc(1, sizeof(*s));
	bool whole;
	if (!s)
		return NULL;
	pthread_mutex_init(&s->lock, NULL);
	s->counter_cnt = 1;
	s->worker_cnt = worker_cnt;
	s->counter = reserve(NAME_BYTES);
	s->worker = aligned_alloc(64, (worker_cnt + 1) * sizeof(*s->worker));
	whole = s->counter && s->worker;
	if (s->worker)
		memset(s->worker, 0, (worker_cnt + 1) * sizeof(*s->worker));
	for (unsigned w = 0; whole && w <= worker_cnt; w++) {
		s->worker[w].ingress = reserve(INGRESS_BYTES);
		s->worker[w].counter = reserve(COUNTER_BYTES);
		whole = s->worker[w].ingress && s->worker[w].counter;
	}
	if (whole)
		return s;
	mr_stats_destroy(s);
	return NULL;
}

void mr_stats_destroy(struct mr_stats *s)
{
	if (!s)
		return;
	for (unsigned w = 0; s->worker && w <= s->worker_cnt; w++) {
		release(s->worker[w].ingress, INGRESS_BYTES);
		release(s->worker[w].counter, COUNTER_BYTES);
	}
	for (unsigned i = 0; i < MR_STATS_INGRESS; i++) {
		free(s->ingress[i].interface);
		free(s->ingress[i].pipeline);
	}
	for (unsigned i = 0; i < MR_REASON_CNT - MR_REASON_STAGE_BASE; i++) {
		free(s->reason[i].name);
		free(s->reason[i].help);
	}
	for (uint32_t i = 0; s->counter && i < s->counter_cnt; i++)
		free(s->counter[i]);
	release(s->counter, NAME_BYTES);
	free(s->worker);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

struct mr_stats_worker *mr_stats_worker(struct mr_stats *s, unsigned worker)
{
	return worker < s->worker_cnt ? &s->worker[worker] : NULL;
}

struct mr_stats_worker *mr_stats_tier(struct mr_stats *s)
{
	return &s->worker[s->worker_cnt];
}

unsigned mr_stats_worker_cnt(const struct mr_stats *s)
{
	return s->worker_cnt;
}

/* ---- names --------------------------------------------------------------------------------------------------- */

static bool publish(char **where, const char *text)
{
	char *copy = strdup(text);
	__atomic_store_n(where, copy, __ATOMIC_RELEASE);
	return copy;
}

static const char *name_at(char *const *where)
{
	return __atomic_load_n(where, __ATOMIC_ACQUIRE);
}

uint8_t mr_stats_ingress_id(struct mr_stats *s, const char *interface, const char *pipeline)
{
	unsigned id = 0;
	pthread_mutex_lock(&s->lock);
	for (unsigned i = 1; !id && i < MR_STATS_INGRESS; i++) {
		struct pair *p = &s->ingress[i];
		if (!p->interface)
			id = publish(&p->pipeline, pipeline) && publish(&p->interface, interface) ? i : 0;
		else if (!strcmp(p->interface, interface) && !strcmp(p->pipeline, pipeline))
			id = i;
		if (id || !p->interface)
			break;
	}
	pthread_mutex_unlock(&s->lock);
	return id;
}

uint16_t mr_stats_counter_id(struct mr_stats *s, const char *name)
{
	uint32_t id = 0;
	pthread_mutex_lock(&s->lock);
	for (uint32_t i = 1; !id && i < s->counter_cnt; i++)
		if (!strcmp(s->counter[i], name))
			id = i;
	if (!id && s->counter_cnt < MR_STATS_COUNTERS && publish(&s->counter[s->counter_cnt], name)) {
		id = s->counter_cnt;
		__atomic_store_n(&s->counter_cnt, id + 1, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&s->lock);
	return id;
}

unsigned mr_stats_reason_id(struct mr_stats *s, const char *name, const char *help)
{
	unsigned id = 0;
	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; !id && i < MR_REASON_CNT - MR_REASON_STAGE_BASE; i++) {
		struct own_reason *r = &s->reason[i];
		if (!r->name && (!publish(&r->help, help) || !publish(&r->name, name)))
			break;
		if (!strcmp(r->name, name))
			id = MR_REASON_STAGE_BASE + i;
	}
	pthread_mutex_unlock(&s->lock);
	return id;
}

const char *mr_stats_ingress_interface(const struct mr_stats *s, uint8_t id)
{
	return name_at(&s->ingress[id].interface);
}

const char *mr_stats_ingress_pipeline(const struct mr_stats *s, uint8_t id)
{
	return name_at(&s->ingress[id].pipeline);
}

const char *mr_stats_counter_name(const struct mr_stats *s, uint16_t id)
{
	return name_at(&s->counter[id]);
}

const char *mr_stats_reason_name(const struct mr_stats *s, unsigned reason)
{
	if (reason < MR_REASON_STAGE_BASE)
		return mr_reason_name(reason);
	return reason < MR_REASON_CNT ? name_at(&s->reason[reason - MR_REASON_STAGE_BASE].name) : NULL;
}

const char *mr_stats_reason_help(const struct mr_stats *s, unsigned reason)
{
	if (reason < MR_REASON_STAGE_BASE)
		return mr_reason_help(reason);
	return reason < MR_REASON_CNT ? name_at(&s->reason[reason - MR_REASON_STAGE_BASE].help) : NULL;
}

/* ---- sums ---------------------------------------------------------------------------------------------------- */

/* The cells of an ingress pair are words and nothing else, so they are added as an array. */
void mr_stats_ingress_sum(const struct mr_stats *s, uint8_t id, struct mr_stats_ingress *out)
{
	enum { WORDS = sizeof(*out) / sizeof(uint64_t) };
	uint64_t sum[WORDS] = { 0 };
	for (unsigned w = 0; w <= s->worker_cnt; w++) {
		const uint64_t *cell = (const uint64_t *)&s->worker[w].ingress[id];
		for (unsigned i = 0; i < WORDS; i++)
			sum[i] += __atomic_load_n(&cell[i], __ATOMIC_RELAXED);
	}
	memcpy(out, sum, sizeof(*out));
}

struct mr_count mr_stats_counter_sum(const struct mr_stats *s, uint16_t id)
{
	struct mr_count sum = { 0 };
	for (unsigned w = 0; w <= s->worker_cnt; w++) {
		const struct mr_count *c = &s->worker[w].counter[id];
		sum.packets += __atomic_load_n(&c->packets, __ATOMIC_RELAXED);
		sum.bytes += __atomic_load_n(&c->bytes, __ATOMIC_RELAXED);
	}
	return sum;
}

void mr_stats_icmp_sum(const struct mr_stats *s, struct mr_stats_icmp *out)
{
	/* All members are counters of the same type. */
	uint64_t *sum = (uint64_t *)out;
	memset(out, 0, sizeof(*out));
	for (unsigned w = 0; w <= s->worker_cnt; w++) {
		const uint64_t *one = (const uint64_t *)&s->worker[w].icmp;
		for (size_t i = 0; i < sizeof(*out) / sizeof(*sum); i++)
			sum[i] += __atomic_load_n(&one[i], __ATOMIC_RELAXED);
	}
}
