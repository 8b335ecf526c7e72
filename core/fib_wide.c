/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fib_wide.c - many lookups at a time with AVX-512: 16 entries of the first level by one gather, which keeps 16 cache misses under way.
 * Chosen at start where the processor has it; what it does is fib_lookup.c's.
 */
#include "core/fib_table.h"

#if defined(__x86_64__) && !defined(MR_FIB_PLAIN)
#include <immintrin.h>
#ifdef __clang__
#pragma clang attribute push( \
	__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,bmi,bmi2")
#endif
#define MR_FIB_WIDE 1
#include "core/fib_walk.h"

/* The first 4 bytes of 16 addresses, host order. */
static inline __attribute__((always_inline)) __m512i heads(const uint8_t *addr_be, unsigned stride, __mmask16 lanes)
{
	const __m512i swap = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));
	const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
	__m512i be;

	if (stride == 4)
		be = _mm512_maskz_loadu_epi32(lanes, addr_be);
	else
		be = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), lanes, _mm512_slli_epi32(lane, 4), addr_be, 1);
	return _mm512_shuffle_epi8(be, swap);
}

struct lanes {
	__m512i e, best;
	__mmask16 open; /* lookups that go on in the block e */
};

/* How many of the 12 last keys of each lane's line are before its key. */
static inline __attribute__((always_inline)) __m512i runs_before(
	const uint8_t *arena, __mmask16 line, __m512i at, __m512i key)
{
	const __m512i four = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0c0c0c08080808, 0x0404040400000000));
	__m512i keys = _mm512_shuffle_epi8(key, four), cnt = _mm512_setzero_si512();

	for (unsigned part = 0; part < MR_FIB_RUNS; part += 4) {
		__m512i last = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), line, at, arena + part, 4);
		cnt = _mm512_sub_epi8(cnt, _mm512_movm_epi8(_mm512_cmplt_epu8_mask(last, keys)));
	}
	return _mm512_madd_epi16(_mm512_maddubs_epi16(cnt, _mm512_set1_epi8(1)), _mm512_set1_epi16(1));
}

/* One level: mr_fib_step() for 16.  Indices of gathers count words of 4 bytes; a block's place << 4 is one, and its two kind bits drop out. */
static inline __attribute__((always_inline)) void step16(const uint8_t *arena, struct lanes *l, __m512i key)
{
	const __m512i none = _mm512_setzero_si512();
	__m512i at = _mm512_slli_epi32(l->e, 4);
	__mmask16 full = _mm512_movepi32_mask(_mm512_slli_epi32(l->e, 1)), line = l->open & (__mmask16)~full;
	__m512i header =
		_mm512_mask_i32gather_epi32(none, l->open, at, arena + offsetof(struct mr_fib_line, header), 4);
	__m512i word = _mm512_add_epi32(key, _mm512_set1_epi32(offsetof(struct mr_fib_full, entry) / 4));

	if (line)
		word = _mm512_mask_add_epi32(word, line, runs_before(arena, line, at, key),
			_mm512_set1_epi32(offsetof(struct mr_fib_line, run) / 4));
	l->best = _mm512_mask_mov_epi32(l->best, _mm512_test_epi32_mask(header, header), header);
	l->e = _mm512_mask_i32gather_epi32(none, l->open, _mm512_add_epi32(at, word), arena, 4);
	l->open &= _mm512_movepi32_mask(l->e);
	l->best = _mm512_mask_mov_epi32(
		l->best, _mm512_test_epi32_mask(l->e, l->e) & (__mmask16)~_mm512_movepi32_mask(l->e), l->e);
}

/* The 4 bytes of 16 addresses from `byte` on, host order: `head` is the first of them. */
static inline __attribute__((always_inline)) void down(
	const uint8_t *arena, struct lanes *l, unsigned groups, const uint8_t *addr_be, __m512i *head)
{
	const __m512i byte = _mm512_set1_epi32(255);
	unsigned any = 1;

	for (unsigned level = 3; any; level++) {
		any = 0;
		for (unsigned g = 0; g < groups; g++) {
			if (!l[g].open)
				continue;
			if (level % 4 == 0)
				head[g] = heads(addr_be + g * 256 + level, 16, l[g].open);
			step16(arena, &l[g], _mm512_and_si512(_mm512_srli_epi32(head[g], (3 - level % 4) * 8), byte));
			any |= l[g].open;
		}
	}
}

static inline __attribute__((always_inline)) void look(
	const struct mr_fib *f, unsigned side, const uint8_t *addr_be, unsigned stride, uint32_t *value, unsigned n)
{
	const __m512i none = _mm512_setzero_si512(), max = _mm512_set1_epi32(MR_FIB_VALUE_MAX);
	uint64_t before = __atomic_load_n(&f->version, __ATOMIC_ACQUIRE), pieced = 0, open = 0;
	unsigned groups = (n + 15) / 16;
	struct lanes l[MR_FIB_CHUNK / 16];
	__m512i head[MR_FIB_CHUNK / 16];

	for (unsigned g = 0; g < groups; g++) {
		__mmask16 lanes = n - g * 16 >= 16 ? 0xffff : (__mmask16)((1u << (n - g * 16)) - 1);
		head[g] = heads(addr_be + g * 16 * stride, stride, lanes);
		l[g].e = _mm512_mask_i32gather_epi32(none, lanes, _mm512_srli_epi32(head[g], 8), f->first[side], 4);
		l[g].best = l[g].e;
		l[g].open = _mm512_movepi32_mask(l[g].e);
		__mmask16 more = l[g].open | _mm512_mask_testn_epi32_mask(lanes, l[g].e, l[g].e);
		if (more)
			l[g].best = _mm512_mask_i32gather_epi32(
				l[g].e, more, _mm512_srli_epi32(head[g], 24), f->brief[side], 4);
		pieced |= (uint64_t)more << g * 16;
		open |= (uint64_t)l[g].open << g * 16;
		_mm512_mask_storeu_epi32(value + g * 16, lanes, _mm512_and_si512(l[g].best, max));
	}
	if (!pieced)
		return;
	if (stride == 4) { /* few, and one level */
		for (uint64_t left = open; left; left &= left - 1)
			__builtin_prefetch(mr_fib_block_at(f->arena,
				((const uint32_t *)&l[__builtin_ctzll(left) / 16].e)[__builtin_ctzll(left) % 16]));
		for (uint64_t left = open; left; left &= left - 1) {
			unsigned i = (unsigned)__builtin_ctzll(left);
			uint32_t e = ((const uint32_t *)&l[i / 16].e)[i % 16];
			const uint8_t *block = mr_fib_block_at(f->arena, e);
			uint32_t header = mr_fib_header_of(block);
			e = mr_fib_entry_of(block, e, addr_be[i * 4 + 3]);
			value[i] = MR_FIB_VALUE(e ? e : header ? header : value[i]);
		}
	} else if (open) {
		down(f->arena, l, groups, addr_be, head);
		for (unsigned g = 0; g < groups; g++) {
			__mmask16 lanes = n - g * 16 >= 16 ? 0xffff : (__mmask16)((1u << (n - g * 16)) - 1);
			_mm512_mask_storeu_epi32(value + g * 16, lanes, _mm512_and_si512(l[g].best, max));
		}
	}
	/* The gathers are plain loads: none of them after the version. */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (mr_fib_undisturbed(before, __atomic_load_n(&f->version, __ATOMIC_ACQUIRE)))
		return;
	for (uint64_t left = pieced; left; left &= left - 1) {
		unsigned i = (unsigned)__builtin_ctzll(left);
		value[i] = mr_fib_walk(f, side, addr_be + i * stride);
	}
}

static void look4(const struct mr_fib *f, const uint8_t *addr_be, uint32_t *value, unsigned n)
{
	look(f, 0, addr_be, 4, value, n);
}

static void look6(const struct mr_fib *f, const uint8_t *addr_be, uint32_t *value, unsigned n)
{
	look(f, 1, addr_be, 16, value, n);
}

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

mr_fib_look mr_fib_wide(unsigned side)
{
	__builtin_cpu_init();
	if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") ||
		!__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("bmi2"))
		return NULL;
	return side ? look6 : look4;
}

#else
#include "core/fib_walk.h"

mr_fib_look mr_fib_wide(unsigned side)
{
	return NULL;
}
#endif
