/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fib_lookup.c - the readers of the forwarding table: one address, or many with each memory access asked for before it is needed.
 *
 *     bulk: all first levels ─► what is a value is done; the rest, level by level: prefetch all ─► step all ─► ...
 */
#include "core/fib_table.h"
#include <endian.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define CHUNK 64u

/* Which run of a line a key is in: the first whose last key is not before it.  Reads the 12 bytes of `last` and nothing else: what
 * follows changes. */
static inline unsigned run_of(const uint8_t *last, unsigned key)
{
#if defined(__SSE2__)
	uint32_t tail;
	uint64_t head;
	memcpy(&head, last, 8);
	memcpy(&tail, last + 8, 4);
	__m128i ends = _mm_set_epi64x((long long)tail, (long long)head), k = _mm_set1_epi8((char)key);
	__m128i not_before = _mm_cmpeq_epi8(_mm_max_epu8(ends, k), ends);

	return (unsigned)__builtin_ctz((unsigned)_mm_movemask_epi8(not_before));
#else
	unsigned cnt = 0;

	for (unsigned i = 0; i < MR_FIB_RUNS; i++)
		cnt += last[i] < key;
	return cnt;
#endif
}

static inline const uint8_t *block_at(const uint8_t *arena, uint32_t e)
{
	return arena + (uint64_t)MR_FIB_UNIT(e) * MR_FIB_UNIT_BYTES;
}

/* The entry of a key, without a branch on the shape: lines and full blocks come in any order. */
static inline uint32_t entry_of(const uint8_t *block, uint32_t e, unsigned key)
{
	unsigned in_line = offsetof(struct mr_fib_line, run) + 4 * run_of(block, key);
	unsigned in_full = offsetof(struct mr_fib_full, entry) + 4 * key;
	unsigned offset = e & MR_FIB_FULL ? in_full : in_line;

	return mr_fib_load((const uint32_t *)(block + offset));
}

/* Whether at most one update was under way between two looks at the version: see fib_table.h. */
static inline bool undisturbed(uint64_t before, uint64_t after)
{
	return __builtin_expect(after - before <= 2 - (before & 1), 1);
}

static inline uint32_t first_idx(const uint8_t *addr_be)
{
	return (uint32_t)addr_be[0] << 16 | (uint32_t)addr_be[1] << 8 | addr_be[2];
}

/* Each time round the writer has made two updates, which takes it longer than this takes. */
static __attribute__((noinline)) uint32_t walk(const struct mr_fib *f, unsigned side, const uint8_t *addr_be)
{
	uint64_t before, after;
	uint32_t best;

	do {
		before = __atomic_load_n(&f->version, __ATOMIC_ACQUIRE);
		best = mr_fib_load(&f->brief[side][addr_be[0]]);
		uint32_t e = mr_fib_load(&f->first[side][first_idx(addr_be)]);
		for (const uint8_t *key = addr_be + 3; e & MR_FIB_BLOCK; key++) {
			const uint8_t *block = block_at(f->arena, e);
			uint32_t header = mr_fib_load((const uint32_t *)(block + offsetof(struct mr_fib_line, header)));
			e = entry_of(block, e, *key);
			best = header ? header : best;
		}
		best = e ? e : best;
		after = __atomic_load_n(&f->version, __ATOMIC_ACQUIRE);
	} while (!undisturbed(before, after));
	return MR_FIB_VALUE(best);
}

uint32_t mr_fib_lookup4(const struct mr_fib *f, __be32 addr_be)
{
	uint32_t e = mr_fib_load(&f->first[0][be32toh(addr_be) >> 8]);

	if (__builtin_expect(MR_FIB_IS_VALUE(e), 1))
		return MR_FIB_VALUE(e);
	return walk(f, 0, (const uint8_t *)&addr_be);
}

uint32_t mr_fib_lookup6(const struct mr_fib *f, const void *addr_be)
{
	return walk(f, 1, addr_be);
}

/* ---- many -------------------------------------------------------------------------------------------------------- */

/* Addresses whose lookup goes on in blocks. */
struct open {
	uint32_t block[CHUNK], best[CHUNK];
	uint8_t idx[CHUNK];
	unsigned cnt;
};

static inline void prefetch_entry(const uint8_t *arena, uint32_t e, unsigned key)
{
	const uint8_t *block = block_at(arena, e);

	__builtin_prefetch(block);
	__builtin_prefetch(block + (e & MR_FIB_FULL ? offsetof(struct mr_fib_full, entry) + 4 * key : 0));
}

/* One level for all that are open: `key` is the byte of the addresses the level is looked up by. */
static inline __attribute__((always_inline)) void step(
	const uint8_t *arena, struct open *o, const uint8_t *key, unsigned stride, bool more, uint32_t *value)
{
	unsigned cnt = 0;

	for (unsigned j = 0; j < o->cnt; j++) {
		unsigned i = o->idx[j];
		uint32_t e = o->block[j], best = o->best[j];
		const uint8_t *block = block_at(arena, e);
		uint32_t header = mr_fib_load((const uint32_t *)(block + offsetof(struct mr_fib_line, header)));
		uint32_t next = entry_of(block, e, key[i * stride]);
		bool goes_on = next & MR_FIB_BLOCK;

		best = header ? header : best;
		best = MR_FIB_IS_VALUE(next) ? next : best;
		value[i] = MR_FIB_VALUE(best);
		o->block[cnt] = next;
		o->best[cnt] = best;
		o->idx[cnt] = (uint8_t)i;
		if (more && goes_on)
			prefetch_entry(arena, next, key[i * stride + 1]);
		cnt += goes_on;
	}
	o->cnt = cnt;
}

static inline __attribute__((always_inline)) void look(
	const struct mr_fib *f, unsigned side, const uint8_t *addr_be, unsigned stride, uint32_t *value, unsigned n)
{
	const uint32_t *first = f->first[side];
	uint64_t before = __atomic_load_n(&f->version, __ATOMIC_ACQUIRE);
	struct open o;
	uint8_t again[CHUNK];
	unsigned again_cnt = 0;

	o.cnt = 0;
	for (unsigned i = 0; i < n; i++) {
		const uint8_t *a = addr_be + i * stride;
		uint32_t e = mr_fib_load(&first[first_idx(a)]);
		value[i] = MR_FIB_VALUE(e);
		again[again_cnt] = (uint8_t)i;
		o.block[again_cnt] = e;
		again_cnt += !MR_FIB_IS_VALUE(e);
	}
	if (!again_cnt)
		return;
	for (unsigned j = 0; j < again_cnt; j++) {
		const uint8_t *a = addr_be + again[j] * stride;
		uint32_t e = o.block[j], best = mr_fib_load(&f->brief[side][a[0]]);
		value[again[j]] = MR_FIB_VALUE(best);
		o.block[o.cnt] = e;
		o.best[o.cnt] = best;
		o.idx[o.cnt] = again[j];
		if (e)
			prefetch_entry(f->arena, e, a[3]);
		o.cnt += e != 0;
	}
	for (unsigned level = 3; o.cnt; level++)
		step(f->arena, &o, addr_be + level, stride, stride > 4, value);
	if (undisturbed(before, __atomic_load_n(&f->version, __ATOMIC_ACQUIRE)))
		return;
	for (unsigned j = 0; j < again_cnt; j++)
		value[again[j]] = walk(f, side, addr_be + again[j] * stride);
}

void mr_fib_lookup4_bulk(const struct mr_fib *f, const __be32 *addr_be, uint32_t *value, unsigned n)
{
	for (; n > CHUNK; n -= CHUNK, addr_be += CHUNK, value += CHUNK)
		look(f, 0, (const uint8_t *)addr_be, 4, value, CHUNK);
	look(f, 0, (const uint8_t *)addr_be, 4, value, n);
}

void mr_fib_lookup6_bulk(const struct mr_fib *f, const uint8_t (*addr_be)[16], uint32_t *value, unsigned n)
{
	for (; n > CHUNK; n -= CHUNK, addr_be += CHUNK, value += CHUNK)
		look(f, 1, addr_be[0], 16, value, CHUNK);
	look(f, 1, addr_be[0], 16, value, n);
}
