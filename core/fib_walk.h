/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fib_walk.h - how readers go down the blocks of the forwarding table: compiled for any processor by fib_lookup.c, and with MR_FIB_WIDE for
 * AVX-512 by fib_wide.c.
 */
#ifndef MR_CORE_FIB_WALK_H
#define MR_CORE_FIB_WALK_H

#include "core/fib_table.h"
#ifdef __SSE2__
#include <immintrin.h>
#endif

#define MR_FIB_CHUNK 64u

/* Addresses whose lookup goes on in blocks: their places in idx; block and best value so far by place. */
struct mr_fib_open {
	uint32_t block[MR_FIB_CHUNK] __attribute__((aligned(64)));
	uint32_t best[MR_FIB_CHUNK] __attribute__((aligned(64)));
	uint8_t idx[MR_FIB_CHUNK];
	unsigned cnt;
};

/*
 * Which run of a line a key is in: the first whose last key is not before it.  The 4 bytes after `last` are loaded with it, since 16 are
 * one load, and change meanwhile: what they compare to comes after a run that is always found.  ThreadSanitizer reads only the 12.
 */
static inline unsigned mr_fib_run_of(const uint8_t *last, unsigned key)
{
#ifdef MR_FIB_WIDE
	return (unsigned)__builtin_ctz(
		_mm_cmpge_epu8_mask(_mm_load_si128((const __m128i *)last), _mm_set1_epi8((char)key)));
#elif defined(__SSE2__) && !defined(MR_FIB_PLAIN)
	__m128i ends = _mm_load_si128((const __m128i *)last), k = _mm_set1_epi8((char)key);
	__m128i not_before = _mm_cmpeq_epi8(_mm_max_epu8(ends, k), ends);

	return (unsigned)__builtin_ctz((unsigned)_mm_movemask_epi8(not_before));
#else
	unsigned cnt = 0;

	for (unsigned i = 0; i < MR_FIB_RUNS; i++)
		cnt += last[i] < key;
	return cnt;
#endif
}

static inline const uint8_t *mr_fib_block_at(const uint8_t *arena, uint32_t e)
{
	return arena + (uint64_t)MR_FIB_UNIT(e) * MR_FIB_UNIT_BYTES;
}

static inline uint32_t mr_fib_header_of(const uint8_t *block)
{
	return mr_fib_load((const uint32_t *)(block + offsetof(struct mr_fib_line, header)));
}

/* All ones for a full block: lines and full blocks come in any order, and a branch on it would be mispredicted. */
static inline uint32_t mr_fib_full_mask(uint32_t e)
{
	return (uint32_t)((int32_t)(e << 1) >> 31);
}

static inline uint32_t mr_fib_entry_of(const uint8_t *block, uint32_t e, unsigned key)
{
	uint32_t in_line = offsetof(struct mr_fib_line, run) + 4 * mr_fib_run_of(block, key);
	uint32_t in_full = offsetof(struct mr_fib_full, entry) + 4 * key;

	return mr_fib_load((const uint32_t *)(block + (in_line ^ ((in_line ^ in_full) & mr_fib_full_mask(e)))));
}

/* Whether at most one update was under way between two looks at the version: see fib_table.h. */
static inline bool mr_fib_undisturbed(uint64_t before, uint64_t after)
{
	return __builtin_expect(after - before <= 2 - (before & 1), 1);
}

static inline uint32_t mr_fib_first_idx(const uint8_t *addr_be)
{
	return (uint32_t)addr_be[0] << 16 | (uint32_t)addr_be[1] << 8 | addr_be[2];
}

static inline void mr_fib_prefetch(const uint8_t *arena, uint32_t e, unsigned key)
{
	const uint8_t *block = mr_fib_block_at(arena, e);

	__builtin_prefetch(block);
	__builtin_prefetch(block + ((offsetof(struct mr_fib_full, entry) + 4 * key) & mr_fib_full_mask(e)));
}

/* One level for all that are open; key: the byte that this level of the first address is looked up by. */
static inline __attribute__((always_inline)) void mr_fib_step(
	const uint8_t *arena, struct mr_fib_open *o, const uint8_t *key, unsigned stride)
{
	unsigned cnt = 0;

	for (unsigned j = 0; j < o->cnt; j++) {
		unsigned i = o->idx[j];
		uint32_t e = o->block[i], best = o->best[i];
		const uint8_t *block = mr_fib_block_at(arena, e);
		uint32_t header = mr_fib_header_of(block), next = mr_fib_entry_of(block, e, key[i * stride]);
		bool goes_on = next & MR_FIB_BLOCK;

		best = header ? header : best;
		o->best[i] = MR_FIB_IS_VALUE(next) ? next : best;
		o->block[i] = next;
		o->idx[cnt] = (uint8_t)i;
		cnt += goes_on;
	}
	o->cnt = cnt;
	for (unsigned j = 0; stride > 4 && j < cnt; j++)
		mr_fib_prefetch(arena, o->block[o->idx[j]], key[o->idx[j] * stride + 1]);
}

/* ---- the two of them ------------------------------------------------------------------------------------------ */

/* One address, again and again until undisturbed. */
uint32_t mr_fib_walk(const struct mr_fib *f, unsigned side, const uint8_t *addr_be);

/* n <= MR_FIB_CHUNK; NULL where the processor has no AVX-512. */
typedef void (*mr_fib_look)(const struct mr_fib *f, const uint8_t *addr_be, uint32_t *value, unsigned n);
mr_fib_look mr_fib_wide(unsigned side);

#endif
