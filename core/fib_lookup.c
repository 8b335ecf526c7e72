/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fib_lookup.c - the readers of the forwarding table: one address, or many with each memory access asked for before it is needed.
 *
 *     bulk: all first levels ─► what is a value is done; the rest, level by level: prefetch all ─► step all ─► ...
 */
#include "core/fib_walk.h"
#include <endian.h>

/* Each time round the writer has made two updates, which takes it longer than this takes. */
uint32_t mr_fib_walk(const struct mr_fib *f, unsigned side, const uint8_t *addr_be)
{
	uint64_t before, after;
	uint32_t best;

	do {
		before = __atomic_load_n(&f->version, __ATOMIC_ACQUIRE);
		best = mr_fib_load(&f->brief[side][addr_be[0]]);
		uint32_t e = mr_fib_load(&f->first[side][mr_fib_first_idx(addr_be)]);
		for (const uint8_t *key = addr_be + 3; e & MR_FIB_BLOCK; key++) {
			const uint8_t *block = mr_fib_block_at(f->arena, e);
			uint32_t header = mr_fib_header_of(block);
			e = mr_fib_entry_of(block, e, *key);
			best = header ? header : best;
		}
		best = e ? e : best;
		after = __atomic_load_n(&f->version, __ATOMIC_ACQUIRE);
	} while (!mr_fib_undisturbed(before, after));
	return MR_FIB_VALUE(best);
}

uint32_t mr_fib_lookup4(const struct mr_fib *f, __be32 addr_be)
{
	uint32_t e = mr_fib_load(&f->first[0][be32toh(addr_be) >> 8]);

	if (__builtin_expect(MR_FIB_IS_VALUE(e), 1))
		return MR_FIB_VALUE(e);
	return mr_fib_walk(f, 0, (const uint8_t *)&addr_be);
}

void mr_fib_expect4(const struct mr_fib *f, __be32 addr_be)
{
	__builtin_prefetch(&f->first[0][be32toh(addr_be) >> 8]);
}

uint32_t mr_fib_lookup6(const struct mr_fib *f, const void *addr_be)
{
	return mr_fib_walk(f, 1, addr_be);
}

/* ---- many -------------------------------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) void look(
	const struct mr_fib *f, unsigned side, const uint8_t *addr_be, unsigned stride, uint32_t *value, unsigned n)
{
	const uint32_t *first = f->first[side];
	uint64_t before = __atomic_load_n(&f->version, __ATOMIC_ACQUIRE);
	struct mr_fib_open o;
	uint8_t pieced[MR_FIB_CHUNK]; /* together from several words */
	unsigned cnt = 0;

	for (unsigned i = 0; i < n; i++) {
		uint32_t e = mr_fib_load(&first[mr_fib_first_idx(addr_be + i * stride)]);
		value[i] = MR_FIB_VALUE(e);
		o.block[i] = e;
		pieced[cnt] = (uint8_t)i;
		cnt += !MR_FIB_IS_VALUE(e);
	}
	if (!cnt)
		return;
	o.cnt = 0;
	for (unsigned j = 0; j < cnt; j++) {
		unsigned i = pieced[j];
		o.best[i] = mr_fib_load(&f->brief[side][addr_be[i * stride]]);
		o.idx[o.cnt] = (uint8_t)i;
		o.cnt += o.block[i] != 0;
	}
	for (unsigned j = 0; j < o.cnt; j++)
		mr_fib_prefetch(f->arena, o.block[o.idx[j]], addr_be[o.idx[j] * stride + 3]);
	for (unsigned level = 3; o.cnt; level++)
		mr_fib_step(f->arena, &o, addr_be + level, stride);
	for (unsigned j = 0; j < cnt; j++)
		value[pieced[j]] = MR_FIB_VALUE(o.best[pieced[j]]);
	if (mr_fib_undisturbed(before, __atomic_load_n(&f->version, __ATOMIC_ACQUIRE)))
		return;
	for (unsigned j = 0; j < cnt; j++)
		value[pieced[j]] = mr_fib_walk(f, side, addr_be + pieced[j] * stride);
}

static void look4(const struct mr_fib *f, const uint8_t *addr_be, uint32_t *value, unsigned n)
{
	look(f, 0, addr_be, 4, value, n);
}

static void look6(const struct mr_fib *f, const uint8_t *addr_be, uint32_t *value, unsigned n)
{
	look(f, 1, addr_be, 16, value, n);
}

void mr_fib_lookup4_bulk(const struct mr_fib *f, const __be32 *addr_be, uint32_t *value, unsigned n)
{
	for (; n; n -= n < MR_FIB_CHUNK ? n : MR_FIB_CHUNK, addr_be += MR_FIB_CHUNK, value += MR_FIB_CHUNK)
		(f->wide[0] ? f->wide[0] : look4)(
			f, (const uint8_t *)addr_be, value, n < MR_FIB_CHUNK ? n : MR_FIB_CHUNK);
}

void mr_fib_lookup6_bulk(const struct mr_fib *f, const uint8_t (*addr_be)[16], uint32_t *value, unsigned n)
{
	for (; n; n -= n < MR_FIB_CHUNK ? n : MR_FIB_CHUNK, addr_be += MR_FIB_CHUNK, value += MR_FIB_CHUNK)
		(f->wide[1] ? f->wide[1] : look6)(f, addr_be[0], value, n < MR_FIB_CHUNK ? n : MR_FIB_CHUNK);
}
