/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * flow_lookup.c - the readers of the flow table: many keys at a time, each memory access asked for before it is needed.
 *
 *     all heads ─prefetch─► compare tags ─prefetch records─► verify keys ─► the few that spilled: the same again
 */
#include "core/flow_table.h"

/* A key whose primary bucket did not have it, and said that some live elsewhere. */
struct spilled {
	const uint8_t *bucket;
	uint32_t found;
	uint16_t idx;
	bool overflow; /* some live in the overflow */
};

static inline __attribute__((always_inline)) const uint8_t *record_at(
	const uint8_t *bucket, uint32_t found, size_t record_bytes)
{
	return bucket + sizeof(struct mr_bucket_head) + (size_t)(__builtin_ctz(found) / 2) * record_bytes;
}

/* Verifies the candidates of one bucket in turn. */
static inline __attribute__((always_inline)) const uint8_t *verify(const uint8_t *bucket, uint32_t found,
	const void *key, size_t key_bytes, size_t state_offset, size_t record_bytes, void *copy)
{
	for (; found; found &= found - 1) {
		const uint8_t *r = record_at(bucket, found, record_bytes);

		if (__builtin_expect(mr_flow_record_is(r, key, key_bytes, state_offset, record_bytes, copy), 1))
			return r;
	}
	return NULL;
}

static inline __attribute__((always_inline)) const uint8_t *in_overflow(const struct mr_flow_side *s, uint64_t hash,
	const void *key, size_t key_bytes, size_t state_offset, size_t record_bytes, void *copy)
{
	size_t bucket_bytes = sizeof(struct mr_bucket_head) + MR_FLOW_WAYS * record_bytes;

	for (unsigned i = 0; i < 2; i++) {
		const uint8_t *bucket = s->overflow + mr_flow_bucket_overflow(hash, s->overflow_cnt, i) * bucket_bytes;
		uint32_t found = mr_flow_match((const struct mr_bucket_head *)bucket, mr_flow_tag(hash));
		const uint8_t *r = verify(bucket, found, key, key_bytes, state_offset, record_bytes, copy);

		if (r)
			return r;
	}
	return NULL;
}

static inline __attribute__((always_inline)) void *copy_at(void *copy, unsigned i, size_t record_bytes)
{
	return copy ? (char *)copy + i * record_bytes : NULL;
}

/* Second buckets and overflow of those that spilled. */
static inline __attribute__((always_inline)) uint64_t lookup_spilled(const struct mr_flow_side *s, const void *key,
	size_t key_bytes, const uint64_t *hash, struct spilled *sp, unsigned n, const void **rec, void *copy,
	size_t state_offset, size_t record_bytes)
{
	uint64_t hits = 0;

	for (unsigned j = 0; j < n; j++) {
		sp[j].found = mr_flow_match((const struct mr_bucket_head *)sp[j].bucket, mr_flow_tag(hash[sp[j].idx]));
		if (sp[j].found)
			__builtin_prefetch(record_at(sp[j].bucket, sp[j].found, record_bytes));
	}
	for (unsigned j = 0; j < n; j++) {
		unsigned i = sp[j].idx;
		const void *k = (const char *)key + i * key_bytes;
		void *c = copy_at(copy, i, record_bytes);
		const uint8_t *r = verify(sp[j].bucket, sp[j].found, k, key_bytes, state_offset, record_bytes, c);

		if (!r && sp[j].overflow)
			r = in_overflow(s, hash[i], k, key_bytes, state_offset, record_bytes, c);
		rec[i] = r;
		hits |= (uint64_t)(r != NULL) << i;
	}
	return hits;
}

static inline __attribute__((always_inline)) uint64_t lookup(const struct mr_flow_side *s, const void *key,
	size_t key_bytes, const uint64_t *hash, unsigned n, const void **rec, void *copy, size_t state_offset,
	size_t record_bytes)
{
	const size_t bucket_bytes = sizeof(struct mr_bucket_head) + MR_FLOW_WAYS * record_bytes;
	const uint8_t *bucket[64];
	uint16_t found[64];
	struct spilled sp[64];
	unsigned sp_cnt = 0;
	uint64_t hits = 0;

	for (unsigned i = 0; i < n; i++) {
		bucket[i] = s->base + mr_flow_bucket_primary(hash[i], s->bucket_cnt) * bucket_bytes;
		__builtin_prefetch(bucket[i]);
	}
	for (unsigned i = 0; i < n; i++) {
		found[i] = (uint16_t)mr_flow_match((const struct mr_bucket_head *)bucket[i], mr_flow_tag(hash[i]));
		if (__builtin_expect(found[i] != 0, 1)) {
			const uint8_t *r = record_at(bucket[i], found[i], record_bytes);
			__builtin_prefetch(r);
			if (record_bytes > 64)
				__builtin_prefetch(r + 64);
		}
	}
	for (unsigned i = 0; i < n; i++) {
		const void *k = (const char *)key + i * key_bytes;
		void *c = copy_at(copy, i, record_bytes);
		const uint8_t *r = verify(bucket[i], found[i], k, key_bytes, state_offset, record_bytes, c);

		rec[i] = r;
		hits |= (uint64_t)(r != NULL) << i;
		const struct mr_bucket_head *h = (const struct mr_bucket_head *)bucket[i];
		if (!r && (__atomic_load_n(&h->spilled, __ATOMIC_ACQUIRE) & mr_flow_spill_bit(hash[i]))) {
			uint32_t second = mr_flow_bucket_secondary(hash[i], s->bucket_cnt);
			sp[sp_cnt].bucket = s->base + second * bucket_bytes;
			sp[sp_cnt].idx = (uint16_t)i;
			sp[sp_cnt].overflow = __atomic_load_n(&h->spill, __ATOMIC_RELAXED) >= MR_FLOW_SPILL_OVERFLOW;
			__builtin_prefetch(sp[sp_cnt++].bucket);
		}
	}
	if (sp_cnt)
		hits |= lookup_spilled(s, key, key_bytes, hash, sp, sp_cnt, rec, copy, state_offset, record_bytes);
	return hits;
}

static uint64_t miss_all(unsigned n, const void **rec)
{
	for (unsigned i = 0; i < n; i++)
		rec[i] = NULL;
	return 0;
}

uint64_t mr_flows_lookup4(const struct mr_flows *t, const struct mr_key4 *key, const uint64_t *hash, unsigned n,
	struct mr_flow4 **rec, struct mr_flow4 *copy)
{
	const struct mr_flow_side *s = &t->side[0];
	const void **r = (const void **)rec;

	if (!s->bucket_cnt)
		return miss_all(n, r);
	if (copy)
		return lookup(s, key, sizeof(*key), hash, n, r, copy, offsetof(struct mr_flow4, st), sizeof(*copy));
	return lookup(s, key, sizeof(*key), hash, n, r, NULL, offsetof(struct mr_flow4, st), sizeof(*copy));
}

uint64_t mr_flows_lookup6(const struct mr_flows *t, const struct mr_key6 *key, const uint64_t *hash, unsigned n,
	struct mr_flow6 **rec, struct mr_flow6 *copy)
{
	const struct mr_flow_side *s = &t->side[1];
	const void **r = (const void **)rec;

	if (!s->bucket_cnt)
		return miss_all(n, r);
	if (copy)
		return lookup(s, key, sizeof(*key), hash, n, r, copy, offsetof(struct mr_flow6, st), sizeof(*copy));
	return lookup(s, key, sizeof(*key), hash, n, r, NULL, offsetof(struct mr_flow6, st), sizeof(*copy));
}
