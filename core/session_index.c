/* SPDX-License-Identifier: BSD-2-Clause */
/* session_index.c - where indexes of sessions come from and go to, and which are half open. */
#include "core/session_table.h"
#include <sched.h>

static bool try_lock(uint32_t *lock)
{
	return !__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE);
}

static void lock_take(uint32_t *lock)
{
	for (unsigned spins = 1; !try_lock(lock); spins++) {
		if (spins % 64 == 0)
			sched_yield(); /* the holder lost its CPU */
	}
}

static void lock_give(uint32_t *lock)
{
	__atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

static uint32_t depot_take(struct mr_sessions *s, uint32_t *to, uint32_t want)
{
	lock_take(&s->depot_lock);
	uint32_t cnt = s->depot_cnt < want ? s->depot_cnt : want;
	for (uint32_t i = 0; i < cnt; i++)
		to[cnt - 1 - i] = s->depot[--s->depot_cnt];
	lock_give(&s->depot_lock);
	return cnt;
}

/* Under the context's lock: what has waited long enough goes to the depot. */
static void reclaim_locked(struct mr_sessions *s, struct mr_session_ctx *c)
{
	while (c->waiting_cnt) {
		struct mr_session_batch *b = &c->waiting[c->waiting_head];
		if (!mr_epoch_passed(s->epoch, b->stamp))
			return;
		lock_take(&s->depot_lock);
		for (uint32_t idx = b->head, i = 0; i < b->cnt; i++) {
			s->depot[s->depot_cnt++] = idx;
			idx = s->session[idx].link;
		}
		lock_give(&s->depot_lock);
		c->waiting_head = (c->waiting_head + 1) % MR_SESSION_BATCHES;
		c->waiting_cnt--;
	}
}

static void close_locked(struct mr_sessions *s, struct mr_session_ctx *c)
{
	if (!c->open.cnt || c->waiting_cnt == MR_SESSION_BATCHES)
		return;
	c->open.stamp = mr_epoch_retire(s->epoch);
	c->waiting[(c->waiting_head + c->waiting_cnt++) % MR_SESSION_BATCHES] = c->open;
	c->open.cnt = 0;
}

void mr_session_index_retire(struct mr_sessions *s, struct mr_session_ctx *c, uint32_t idx)
{
	lock_take(&c->lock);
	if (!c->open.cnt)
		c->open.head = idx;
	else
		__atomic_store_n(&s->session[c->open.tail].link, idx, __ATOMIC_RELAXED);
	c->open.tail = idx;
	if (++c->open.cnt >= MR_SESSION_BATCH)
		close_locked(s, c);
	lock_give(&c->lock);
}

void mr_session_index_reclaim(struct mr_sessions *s, struct mr_session_ctx *c)
{
	if (!try_lock(&c->lock))
		return;
	reclaim_locked(s, c);
	close_locked(s, c);
	lock_give(&c->lock);
}

uint32_t mr_session_index_take(struct mr_sessions *s, struct mr_session_ctx *c)
{
	if (!c->cache_cnt)
		c->cache_cnt = depot_take(s, c->cache, MR_SESSION_CACHE / 2);
	for (uint32_t i = 0; !c->cache_cnt && i <= s->worker_cnt; i++) {
		mr_session_index_reclaim(s, &s->ctx[i]);
		c->cache_cnt = depot_take(s, c->cache, MR_SESSION_CACHE / 2);
	}
	if (!c->cache_cnt)
		return 0;
	uint32_t idx = c->cache[--c->cache_cnt];
	uint32_t high = __atomic_load_n(&s->high_water, __ATOMIC_RELAXED);
	while (high < idx &&
		!__atomic_compare_exchange_n(&s->high_water, &high, idx, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	return idx;
}

void mr_session_index_give(struct mr_sessions *s, struct mr_session_ctx *c, uint32_t idx)
{
	if (c->cache_cnt < MR_SESSION_CACHE) {
		c->cache[c->cache_cnt++] = idx;
		return;
	}
	lock_take(&s->depot_lock);
	s->depot[s->depot_cnt++] = idx;
	lock_give(&s->depot_lock);
}

/* The count goes with the bit, so setting and clearing may race and repeat. */
bool mr_session_half_open_set(struct mr_sessions *s, uint32_t idx)
{
	uint64_t bit = 1ull << (idx % 64);

	if (__atomic_fetch_or(&s->half_open_bits[idx / 64], bit, __ATOMIC_RELAXED) & bit)
		return false;
	__atomic_fetch_add(&s->half_open, 1, __ATOMIC_RELAXED);
	return true;
}

void mr_session_half_open_clear(struct mr_sessions *s, uint32_t idx)
{
	uint64_t bit = 1ull << (idx % 64);

	if (!(__atomic_load_n(&s->half_open_bits[idx / 64], __ATOMIC_RELAXED) & bit))
		return;
	if (__atomic_fetch_and(&s->half_open_bits[idx / 64], ~bit, __ATOMIC_RELAXED) & bit)
		__atomic_fetch_sub(&s->half_open, 1, __ATOMIC_RELAXED);
}
