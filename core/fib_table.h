/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fib_table.h - how the forwarding table lies in memory: for core/fib*.c only.
 *
 *     brief[256]     prefixes of 0..8 bits         what an address has that finds nothing longer
 *     first[2^24]    prefixes of 9..24 bits        value ─┐ or block
 *     block          8 more bits each:                    └─► header: what covers the whole block; 256 entries: value or block
 *
 * A block is one of two shapes.  A *line* is one cache line: up to 12 runs of equal entries, found by comparing the key with the last key
 * of each.  A *full* block has its 256 entries one by one.  What has few prefixes, which is nearly every block, costs 64 bytes
 * instead of 1088, and that is what makes a table of a million IPv6 routes fit into caches.
 *
 * An entry says only what its own 8 bits add: 0 means "nothing longer here", and a reader keeps the last value it met on the way
 * (brief, then headers).  So a prefix changes one block and the headers of the blocks right under it, never a whole subtree:
 * a default route costs 256 stores however many routes there are, the longest update of all (9 bits) 32768.
 *
 * The price: what a reader returns was put together from several words.  One update changes at most one of those an address
 * depends on, so it meets the old or the new value; of two updates during one lookup it could mix both.  Hence `version`, which
 * is odd while an update is under way: a lookup that needed more than one word and was overtaken by two updates starts over.
 * In the first level a value is one word, and nothing of this is looked at.
 *
 * `last` of a line never changes once readers can reach it: an update that moves the borders makes a new line.  Entries and headers
 * change in place.
 */
#ifndef MR_CORE_FIB_TABLE_H
#define MR_CORE_FIB_TABLE_H

#include "core/fib.h"
#include <stdbool.h>
#include <string.h>

/* What intrinsics load this sanitizer does not see, or sees too wide: with it everything is plain C. */
#if defined(__SANITIZE_THREAD__)
#define MR_FIB_PLAIN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MR_FIB_PLAIN 1
#endif
#endif

#define MR_FIB_FIRST_BYTES (64u << 20)
#define MR_FIB_ARENA_BYTES (4ull << 30) /* address space; a million scattered host routes of IPv6 take 0.8 GiB */
#define MR_FIB_UNIT_BYTES  64u

/* An entry: a value with the length of the prefix it comes from, counted from its level's first bit (1..16; brief: 1..9), 0 = nothing;
 * or a block by its place in the arena, in units. */
#define MR_FIB_BLOCK       0x80000000u
#define MR_FIB_FULL        0x40000000u /* with MR_FIB_BLOCK: a full one */
#define MR_FIB_UNIT(e)     ((e)&0x3fffffffu)
#define MR_FIB_OWNER(e)    ((e) >> 24 & 0x3fu)
#define MR_FIB_VALUE(e)    ((e)&MR_FIB_VALUE_MAX)
#define MR_FIB_IS_VALUE(e) ((e)-1 < MR_FIB_FULL - 1) /* neither nothing nor a block */

#define MR_FIB_RUNS        12u
struct mr_fib_line {
	uint8_t last[MR_FIB_RUNS]; /* last key of each run, ascending; 255 from the last run on */
	uint32_t header;
	uint32_t run[MR_FIB_RUNS];
};
struct mr_fib_full {
	uint8_t unused[MR_FIB_RUNS]; /* so that header lies where a line's does */
	uint32_t header;
	uint8_t pad[48];
	uint32_t entry[256];
};
_Static_assert(sizeof(struct mr_fib_line) == 64 && sizeof(struct mr_fib_full) == 17 * 64, "whole cache lines");

/* What readers may still be in: waits for its epoch. */
struct mr_fib_retired {
	uint64_t stamp;
	uint32_t block; /* as an entry names it */
};

struct mr_fib_prefixes {
	uint32_t *slot; /* cap of (words of address, bits << 24 | value), linear probing; mapped */
	uint64_t cap, cnt;
	unsigned words;           /* 1 or 4, host order each */
	uint32_t length_cnt[129]; /* prefixes of each length */
};

struct mr_fib {
	uint32_t *first[2]; /* IPv4, IPv6 */
	uint8_t *arena;
	/* The bulk lookups for AVX-512, or NULL: fib_walk.h. */
	void (*wide[2])(const struct mr_fib *f, const uint8_t *addr_be, uint32_t *value, unsigned n);
	uint32_t brief[2][256];
	uint64_t version __attribute__((aligned(64))); /* atomic; odd: an update is under way */

	struct mr_epoch *epoch __attribute__((aligned(64)));
	struct mr_fib_prefixes prefixes[2];
	uint64_t unit_cnt, unit_max;    /* of the arena: ever given out, usable */
	uint32_t free[2];               /* first free line, full block; 0 = none; linked by header */
	struct mr_fib_retired *retired; /* ring of retired_cap, a power of 2; mapped */
	uint64_t retired_head, retired_tail, retired_cap;
	uint64_t reclaim_at; /* the tail from which on it is worth asking again whose epoch has passed */
	uint64_t block_cnt;
	uint32_t touched[2]; /* which 2 MiB of the first levels were written */
};

static inline uint32_t mr_fib_load(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
static inline void mr_fib_store(uint32_t *p, uint32_t e)
{
	__atomic_store_n(p, e, __ATOMIC_RELEASE);
}
static inline struct mr_fib_line *mr_fib_line(const struct mr_fib *f, uint32_t block)
{
	return (struct mr_fib_line *)(f->arena + (uint64_t)MR_FIB_UNIT(block) * MR_FIB_UNIT_BYTES);
}
static inline struct mr_fib_full *mr_fib_full(const struct mr_fib *f, uint32_t block)
{
	return (struct mr_fib_full *)(f->arena + (uint64_t)MR_FIB_UNIT(block) * MR_FIB_UNIT_BYTES);
}
static inline uint32_t mr_fib_entry(unsigned owner, uint32_t value)
{
	return (uint32_t)owner << 24 | value;
}

/* ---- fib_block.c: blocks, and what they hold, by the writer ------------------------------------------------- */

/* Anonymous zeroed pages; NULL = no memory. */
void *mr_fib_map(uint64_t bytes);

/* Room to retire `cnt` blocks, so that giving up blocks cannot fail later; takes back those whose epoch has passed.  -ENOMEM. */
int mr_fib_block_prepare(struct mr_fib *f, unsigned cnt);
/* A block nobody reaches yet with these entries: a line where they fit.  0 = no memory. */
uint32_t mr_fib_block_make(struct mr_fib *f, const uint32_t *image, uint32_t header);
/* Gives back a block no reader ever reached. */
void mr_fib_block_drop(struct mr_fib *f, uint32_t block);
/* Readers may be in it; needs mr_fib_block_prepare(). */
void mr_fib_block_retire(struct mr_fib *f, uint32_t block, uint64_t stamp);
/* All 256 entries. */
void mr_fib_block_image(const struct mr_fib *f, uint32_t block, uint32_t *image);
/* The block that *slot leads to has these entries now, in place or as another block.  *old: the block to retire, 0 = none.  -ENOMEM:
 * nothing changed. */
int mr_fib_block_write(struct mr_fib *f, uint32_t *slot, const uint32_t *image, uint32_t *old);
/* Where the entry of a key lies. */
uint32_t *mr_fib_block_entry(const struct mr_fib *f, uint32_t block, unsigned key);
static inline uint32_t *mr_fib_block_header(const struct mr_fib *f, uint32_t block)
{
	return &mr_fib_line(f, block)->header;
}

/* ---- fib_prefixes.c: which prefixes there are ---------------------------------------------------------------- */

/* The address in host order, bits after the prefix 0. */
void mr_fib_prefix_key(unsigned words, const void *addr_be, unsigned bits, uint32_t *key);
/* Its bits and value in one word (never 0), or NULL. */
uint32_t *mr_fib_prefix_find(const struct mr_fib_prefixes *p, const uint32_t *key, unsigned bits);
/* Room for one more.  -ENOMEM. */
int mr_fib_prefix_prepare(struct mr_fib_prefixes *p);
/* One that is not there; needs mr_fib_prefix_prepare(). */
void mr_fib_prefix_add(struct mr_fib_prefixes *p, const uint32_t *key, unsigned bits, uint32_t value);
/* found: of mr_fib_prefix_find(); no such pointer is good afterwards. */
void mr_fib_prefix_remove(struct mr_fib_prefixes *p, uint32_t *found);
/* The longest prefix over key of at least `from` and less than `bits` bits: its value and *length; 0 = none. */
uint32_t mr_fib_prefix_cover(
	const struct mr_fib_prefixes *p, const uint32_t *key, unsigned bits, unsigned from, unsigned *length);
void mr_fib_prefix_free(struct mr_fib_prefixes *p);

#endif
