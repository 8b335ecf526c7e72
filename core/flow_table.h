/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * flow_table.h - what flow.c (writers) and flow_lookup.c (readers) know of the table in memory.  Nobody else includes it.
 *
 * Each family is a side: bucket_cnt buckets that both tiers look at, and overflow_cnt more, of the same form, that only
 * user space knows.  Code that writes treats the families alike, by sizes; the lookup is compiled for each.
 *
 * A key lives in its primary bucket, its secondary one, or one of two overflow buckets.  Whoever makes a key appear or
 * vanish holds the lock of its primary bucket, so the key is unique; whoever writes a record holds the lock of the bucket
 * it lies in.  Locks are taken lowest address first.
 */
#ifndef MR_CORE_FLOW_TABLE_H
#define MR_CORE_FLOW_TABLE_H

#include "core/flow.h"
#include <sched.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#if defined(__SANITIZE_THREAD__)
#define MR_FLOW_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MR_FLOW_TSAN 1
#endif
#endif
#ifndef MR_FLOW_TSAN
#define MR_FLOW_TSAN 0
#endif

#define MR_FLOW_REF_V6       (1u << 31)
#define MR_FLOW_REF_OVERFLOW (1u << 30)
#define MR_FLOW_REF_MASK     (MR_FLOW_REF_OVERFLOW - 1)

/* What a key that is not in its primary bucket adds to that bucket's spill. */
#define MR_FLOW_SPILL_SECOND   1u
#define MR_FLOW_SPILL_OVERFLOW 0x10000u

/* How often a reader looks again at a record that is being written; after that it counts as not found (core/flow.h). */
#define MR_FLOW_READ_TRIES 64

struct mr_flow_side {
	uint8_t *base;     /* bucket_cnt buckets */
	uint8_t *overflow; /* overflow_cnt buckets */
	uint32_t bucket_cnt, overflow_cnt;
	uint32_t bucket_bytes, record_bytes;
	uint32_t state_offset; /* of struct mr_flow_state in a record */
	uint32_t key_bytes;
	void *mapped; /* ours to unmap; holds the overflow and, unless memory was given, the buckets */
	size_t mapped_bytes;
	size_t given_bytes;
	bool huge;
	uint64_t live __attribute__((aligned(64))); /* atomic, overflow included */
	uint64_t overflow_live;                     /* atomic */
};

struct mr_flows {
	struct mr_flow_side side[2]; /* 0: IPv4, 1: IPv6 */
	uint64_t seed;
	uint64_t offloaded; /* records marked so; atomic */
};

/* The first 64-bit word of either key without the `ingress` byte. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define MR_FLOW_KEY_MASK (~((uint64_t)0xff << 24))
#else
#define MR_FLOW_KEY_MASK (~((uint64_t)0xff << 32))
#endif

static inline void mr_flow_relax(void)
{
#if defined(__SSE2__)
	_mm_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* The two buckets of the overflow (of at least two) where a key may lie. */
static inline uint32_t mr_flow_bucket_overflow(uint64_t hash, uint32_t overflow_cnt, unsigned i)
{
	uint64_t other = hash * 0xff51afd7ed558ccdULL;
	uint32_t first = (uint32_t)(((other >> 32) * overflow_cnt) >> 32);

	if (i == 0)
		return first;
	uint32_t second = (uint32_t)(((other & UINT32_MAX) * overflow_cnt) >> 32);
	if (second != first)
		return second;
	return second + 1 < overflow_cnt ? second + 1 : 0;
}

/*
 * The ways of a bucket whose tag equals `tag`: bit 2 * way.  Tags are published with release stores after their record.
 * One vector compare; AVX2 has nothing to add to 16 bytes.  Under the thread sanitizer, and without SSE2, two words are
 * loaded atomically and compared in place.
 */
static inline uint32_t mr_flow_match(const struct mr_bucket_head *h, uint16_t tag)
{
#if defined(__SSE2__) && !MR_FLOW_TSAN
	__m128i tags = _mm_load_si128((const __m128i *)h->tag);
	__asm__ volatile("" ::: "memory"); /* x86 keeps loads in order; so must the compiler */
	return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi16(tags, _mm_set1_epi16((short)tag))) & 0x5555;
#else
	const uint64_t low = 0x7fff7fff7fff7fffULL;
	const uint64_t want = tag * 0x0001000100010001ULL;
	uint32_t found = 0;

	for (unsigned i = 0; i < 2; i++) {
		uint64_t x = __atomic_load_n((const uint64_t *)h->tag + i, __ATOMIC_ACQUIRE) ^ want;
		uint64_t zero = ~(((x & low) + low) | x | low) >> 15;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
		zero = (zero >> 48 & 1) | (zero >> 32 & 1) << 16 | (zero >> 16 & 1) << 32 | (zero & 1) << 48;
#endif
		found |= (uint32_t)((zero | zero >> 14 | zero >> 28 | zero >> 42) & 0x55) << (8 * i);
	}
	return found;
#endif
}

/* A copy of a record, consistent when its sequence number says so: words loaded as below, on x86 by vectors. */
static inline __attribute__((always_inline)) void mr_flow_record_copy(
	void *copy, const uint64_t *word, size_t record_bytes)
{
#if defined(__SSE2__) && !MR_FLOW_TSAN
	__asm__ volatile("" ::: "memory");
	memcpy(copy, word, record_bytes);
	__asm__ volatile("" ::: "memory");
#else
	for (size_t i = 0; i < record_bytes / 8; i++) {
		uint64_t w = __atomic_load_n(word + i, __ATOMIC_ACQUIRE);
		memcpy((char *)copy + 8 * i, &w, 8);
	}
#endif
}

/*
 * Whether a record is live and has this key, decided under its sequence number; with `copy`, a consistent copy of it.
 * Loads are acquire (plain loads on x86): a word of a later writer makes its odd sequence number visible too.
 */
static inline __attribute__((always_inline)) bool mr_flow_record_is(
	const void *record, const void *key, size_t key_bytes, size_t state_offset, size_t record_bytes, void *copy)
{
	const uint64_t *word = record;
	const uint32_t *seq_at = (const uint32_t *)((const char *)record + state_offset);

	for (unsigned tries = 0; tries < MR_FLOW_READ_TRIES; tries++) {
		uint32_t seq = __atomic_load_n(seq_at, __ATOMIC_ACQUIRE);
		uint64_t differs = 0;

#pragma GCC unroll 5
		for (size_t i = 0; i < key_bytes / 8; i++) {
			uint64_t want;
			memcpy(&want, (const char *)key + 8 * i, 8);
			want ^= __atomic_load_n(word + i, __ATOMIC_ACQUIRE);
			differs |= i ? want : want & MR_FLOW_KEY_MASK;
		}
		if (copy && !differs)
			mr_flow_record_copy(copy, word, record_bytes);
		if (__builtin_expect(!(seq & 1) && __atomic_load_n(seq_at, __ATOMIC_RELAXED) == seq, 1))
			return !differs;
		mr_flow_relax();
	}
	return false;
}

/* ---- for the writers: locks and places ------------------------------------------------------------------- */

#define MR_FLOW_LOCKS_MAX 8 /* two keys, each with two buckets and two of the overflow */

struct mr_flow_lockset { /* distinct, lowest address first */
	struct mr_bucket_head *head[MR_FLOW_LOCKS_MAX];
	unsigned cnt;
};

static inline void mr_flow_head_lock(struct mr_bucket_head *h)
{
	for (unsigned spins = 1; __atomic_exchange_n(&h->lock, 1, __ATOMIC_ACQUIRE); spins++) {
		if (spins % 256 == 0)
			sched_yield(); /* the holder lost its CPU */
		else
			mr_flow_relax();
	}
}

static inline void mr_flow_head_unlock(struct mr_bucket_head *h)
{
	__atomic_store_n(&h->lock, 0, __ATOMIC_RELEASE);
}

static inline void mr_flow_lockset_add(struct mr_flow_lockset *l, uint8_t *bucket)
{
	struct mr_bucket_head *h = (struct mr_bucket_head *)bucket;
	unsigned at = l->cnt;

	for (unsigned i = 0; i < l->cnt; i++) {
		if (l->head[i] == h)
			return;
	}
	for (; at && l->head[at - 1] > h; at--)
		l->head[at] = l->head[at - 1];
	l->head[at] = h;
	l->cnt++;
}

static inline void mr_flow_lockset_lock(struct mr_flow_lockset *l)
{
	for (unsigned i = 0; i < l->cnt; i++)
		mr_flow_head_lock(l->head[i]);
}

static inline void mr_flow_lockset_unlock(struct mr_flow_lockset *l)
{
	while (l->cnt)
		mr_flow_head_unlock(l->head[--l->cnt]);
}

static inline uint8_t *mr_flow_bucket_at(const struct mr_flow_side *s, uint32_t idx)
{
	return s->base + (size_t)idx * s->bucket_bytes;
}

static inline uint8_t *mr_flow_overflow_at(const struct mr_flow_side *s, uint64_t hash, unsigned i)
{
	return s->overflow + (size_t)mr_flow_bucket_overflow(hash, s->overflow_cnt, i) * s->bucket_bytes;
}

static inline uint8_t *mr_flow_primary_of(const struct mr_flow_side *s, uint64_t hash)
{
	return mr_flow_bucket_at(s, mr_flow_bucket_primary(hash, s->bucket_cnt));
}

static inline uint8_t *mr_flow_secondary_of(const struct mr_flow_side *s, uint64_t hash)
{
	return mr_flow_bucket_at(s, mr_flow_bucket_secondary(hash, s->bucket_cnt));
}

static inline uint8_t *mr_flow_record_of(const struct mr_flow_side *s, uint8_t *bucket, unsigned way)
{
	return bucket + sizeof(struct mr_bucket_head) + (size_t)way * s->record_bytes;
}

static inline struct mr_flow_state *mr_flow_state_of(const struct mr_flow_side *s, uint8_t *record)
{
	return (struct mr_flow_state *)(record + s->state_offset);
}

static inline mr_flow_ref mr_flow_ref_of(
	const struct mr_flows *t, const struct mr_flow_side *s, const uint8_t *bucket, unsigned way)
{
	size_t base_bytes = (size_t)s->bucket_cnt * s->bucket_bytes;
	mr_flow_ref ref = s == &t->side[1] ? MR_FLOW_REF_V6 : 0;
	size_t offset;

	if (bucket >= s->base && bucket < s->base + base_bytes) {
		offset = (size_t)(bucket - s->base);
	} else {
		offset = (size_t)(bucket - s->overflow);
		ref |= MR_FLOW_REF_OVERFLOW;
	}
	return ref | ((uint32_t)(offset / s->bucket_bytes) * MR_FLOW_WAYS + way);
}

/* The bucket and way a reference names; NULL when it names none. */
static inline uint8_t *mr_flow_ref_bucket(
	const struct mr_flows *t, mr_flow_ref ref, const struct mr_flow_side **side, unsigned *way)
{
	const struct mr_flow_side *s = &t->side[ref & MR_FLOW_REF_V6 ? 1 : 0];
	bool overflow = ref & MR_FLOW_REF_OVERFLOW;
	uint32_t idx = (ref & MR_FLOW_REF_MASK) / MR_FLOW_WAYS;

	if (idx >= (overflow ? s->overflow_cnt : s->bucket_cnt))
		return NULL;
	*side = s;
	*way = ref % MR_FLOW_WAYS;
	return (overflow ? s->overflow : s->base) + (size_t)idx * s->bucket_bytes;
}

#endif
