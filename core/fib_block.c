/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fib_block.c - the blocks of the forwarding table: made, changed, given up and used again, all by the writer.
 *
 *     arena: never used ─► made, nobody reaches it ─► readers reach it ─► retired ──every reader was quiet──► free list ─► made ...
 */
#include "core/fib_table.h"
#include <errno.h>
#include <sys/mman.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define LINE_UNITS 1u
#define FULL_UNITS ((uint32_t)(sizeof(struct mr_fib_full) / MR_FIB_UNIT_BYTES))
#define FULL_RUNS \
	8u /* a full block with no more runs than this becomes a line again: fewer than fit, so that it does not swing */
#define GROW_SMALL    (64u << 10) /* the arena up to GROW_HUGE, by small pages */
#define GROW_HUGE     (2u << 20)  /* and by this from there, by huge pages where the kernel has them */
#define RECLAIM_AT    64u         /* asking for an epoch looks at every worker: not for less */
#define RECLAIM_EVERY 16u         /* ... and while a reader holds them up, not before so many more were given up */
#define RING_MIN      256u

void *mr_fib_map(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* ---- memory -------------------------------------------------------------------------------------------------- */

static int ring_grow(struct mr_fib *f)
{
	uint64_t cap = f->retired_cap ? f->retired_cap * 2 : RING_MIN;
	struct mr_fib_retired *ring = mr_fib_map(cap * sizeof(*ring));

	if (!ring)
		return -ENOMEM;
	for (uint64_t i = f->retired_head; i != f->retired_tail; i++)
		ring[i & (cap - 1)] = f->retired[i & (f->retired_cap - 1)];
	if (f->retired)
		munmap(f->retired, f->retired_cap * sizeof(*ring));
	f->retired = ring;
	f->retired_cap = cap;
	return 0;
}

static const struct mr_fib_retired *retired_at(const struct mr_fib *f, uint64_t i)
{
	return &f->retired[i & (f->retired_cap - 1)];
}

/* The first of the ring that readers may still be in.  Stamps only grow: what was before one that has passed, has too. */
static uint64_t still_read(const struct mr_fib *f)
{
	uint64_t low = f->retired_head, high = f->retired_tail, look = high - 1; /* often all of them */

	if (!f->epoch)
		return high;
	for (; low < high; look = low + (high - low) / 2) {
		if (mr_epoch_passed(f->epoch, retired_at(f, look)->stamp))
			low = look + 1;
		else
			high = look;
	}
	return low;
}

static void reclaim(struct mr_fib *f)
{
	for (uint64_t end = still_read(f); f->retired_head != end; f->retired_head++) {
		mr_fib_block_drop(f, retired_at(f, f->retired_head)->block);
		f->block_cnt++; /* it left when it was retired */
	}
}

int mr_fib_block_prepare(struct mr_fib *f, unsigned cnt)
{
	if (f->retired_tail - f->retired_head >= RECLAIM_AT && f->retired_tail >= f->reclaim_at) {
		reclaim(f);
		f->reclaim_at = f->retired_tail + RECLAIM_EVERY;
	}
	while (f->retired_tail - f->retired_head + cnt > f->retired_cap) {
		int ret = ring_grow(f);
		if (ret)
			return ret;
	}
	return 0;
}

static int arena_grow(struct mr_fib *f)
{
	uint64_t at = f->unit_max * MR_FIB_UNIT_BYTES, step = at < GROW_HUGE ? GROW_SMALL : GROW_HUGE;

	if (at + step > MR_FIB_ARENA_BYTES || mprotect(f->arena + at, step, PROT_READ | PROT_WRITE))
		return -ENOMEM;
	f->unit_max += step / MR_FIB_UNIT_BYTES;
	return 0;
}

static uint32_t block_get(struct mr_fib *f, bool full)
{
	uint32_t block = f->free[full], units = full ? FULL_UNITS : LINE_UNITS;

	if (block) {
		f->free[full] = *mr_fib_block_header(f, block);
	} else {
		while (f->unit_cnt + units > f->unit_max) {
			if (arena_grow(f))
				return 0;
		}
		block = MR_FIB_BLOCK | (full ? MR_FIB_FULL : 0) | (uint32_t)f->unit_cnt;
		f->unit_cnt += units;
	}
	f->block_cnt++;
	return block;
}

void mr_fib_block_drop(struct mr_fib *f, uint32_t block)
{
	bool full = block & MR_FIB_FULL;

	*mr_fib_block_header(f, block) = f->free[full];
	f->free[full] = block;
	f->block_cnt--;
}

void mr_fib_block_retire(struct mr_fib *f, uint32_t block, uint64_t stamp)
{
	f->retired[f->retired_tail++ & (f->retired_cap - 1)] = (struct mr_fib_retired){ stamp, block };
	f->block_cnt--;
}

/* ---- what they hold ------------------------------------------------------------------------------------------ */

/* Which of 64 entries differ from the next; the very last ends its run. */
static uint64_t run_ends(const uint32_t *e, bool at_end)
{
	uint64_t ends = at_end ? 1ull << 63 : 0;
	unsigned i = 0;

#ifdef __SSE2__
	for (; i < 60; i += 4) {
		__m128i same = _mm_cmpeq_epi32(
			_mm_loadu_si128((const __m128i *)(e + i)), _mm_loadu_si128((const __m128i *)(e + i + 1)));
		ends |= (uint64_t)(~_mm_movemask_ps(_mm_castsi128_ps(same)) & 15) << i;
	}
#endif
	for (; i < (at_end ? 63 : 64); i++)
		ends |= (uint64_t)(e[i] != e[i + 1]) << i;
	return ends;
}

/* How many runs of equal entries; a line with them where they fit. */
static unsigned runs_of(const uint32_t *image, struct mr_fib_line *line)
{
	unsigned cnt = 0;

	memset(line->last, 255, sizeof(line->last));
	for (unsigned word = 0; word < 4; word++) {
		uint64_t ends = run_ends(image + word * 64, word == 3);
		for (; ends; ends &= ends - 1, cnt++) {
			unsigned key = word * 64 + (unsigned)__builtin_ctzll(ends);
			if (cnt >= MR_FIB_RUNS)
				continue;
			line->last[cnt] = (uint8_t)key;
			line->run[cnt] = image[key];
		}
	}
	for (unsigned i = cnt; i < MR_FIB_RUNS; i++)
		line->run[i] = 0;
	return cnt;
}

static uint32_t make(
	struct mr_fib *f, const uint32_t *image, const struct mr_fib_line *line, bool full, uint32_t header)
{
	uint32_t block = block_get(f, full);

	if (!block)
		return 0;
	*mr_fib_block_header(f, block) = header;
	if (full) {
		memset(mr_fib_full(f, block)->unused, 255, MR_FIB_RUNS);
		memcpy(mr_fib_full(f, block)->entry, image, sizeof(mr_fib_full(f, block)->entry));
	} else {
		memcpy(mr_fib_line(f, block)->last, line->last, sizeof(line->last));
		memcpy(mr_fib_line(f, block)->run, line->run, sizeof(line->run));
	}
	return block;
}

uint32_t mr_fib_block_make(struct mr_fib *f, const uint32_t *image, uint32_t header)
{
	struct mr_fib_line line;
	unsigned cnt = runs_of(image, &line);

	return make(f, image, &line, cnt > MR_FIB_RUNS, header);
}

void mr_fib_block_image(const struct mr_fib *f, uint32_t block, uint32_t *image)
{
	if (block & MR_FIB_FULL) {
		memcpy(image, mr_fib_full(f, block)->entry, 256 * sizeof(*image));
		return;
	}
	const struct mr_fib_line *line = mr_fib_line(f, block);
	for (unsigned i = 0, key = 0; i < MR_FIB_RUNS; i++) {
		for (; key <= line->last[i]; key++)
			image[key] = line->run[i];
	}
}

uint32_t *mr_fib_block_entry(const struct mr_fib *f, uint32_t block, unsigned key)
{
	if (block & MR_FIB_FULL)
		return &mr_fib_full(f, block)->entry[key];
	struct mr_fib_line *line = mr_fib_line(f, block);
	unsigned i = 0;
	while (line->last[i] < key)
		i++;
	return &line->run[i];
}

static void store_changed(uint32_t *entry, const uint32_t *now, unsigned cnt)
{
	for (unsigned i = 0; i < cnt; i++) {
		if (entry[i] != now[i])
			mr_fib_store(&entry[i], now[i]);
	}
}

int mr_fib_block_write(struct mr_fib *f, uint32_t *slot, const uint32_t *image, uint32_t *old)
{
	struct mr_fib_line line;
	unsigned cnt = runs_of(image, &line);
	uint32_t block = *slot, now = 0;
	bool is_full = block & MR_FIB_FULL,
	     same = is_full ? cnt > FULL_RUNS : !memcmp(line.last, mr_fib_line(f, block)->last, MR_FIB_RUNS);

	*old = 0;
	if (!is_full && cnt > MR_FIB_RUNS)
		same = false;
	if (!same)
		now = make(f, image, &line, cnt > MR_FIB_RUNS, *mr_fib_block_header(f, block));
	if (now) {
		mr_fib_store(slot, now);
		*old = block;
	} else if (is_full) { /* also when there is no memory for a smaller one */
		store_changed(mr_fib_full(f, block)->entry, image, 256);
	} else if (same) {
		store_changed(mr_fib_line(f, block)->run, line.run, MR_FIB_RUNS);
	} else {
		return -ENOMEM;
	}
	return 0;
}
