/* SPDX-License-Identifier: BSD-2-Clause */
/* fib.c - the writer of the forwarding table: one prefix comes, changes or goes.  How it lies in memory: fib_table.h. */
#include "core/fib_walk.h"
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define HUGE_BYTES (2u << 20)
#define LEVELS     13u /* of blocks below the first: (128 - 24) / 8 */

/* The way down to a prefix: slot[k] is the entry that leads to block k, which is looked up by byte 3 + k of the address. */
struct way {
	uint32_t *slot[LEVELS + 1];
	uint8_t addr_be[16];
	unsigned side;
	unsigned level;      /* of the prefix: its block */
	unsigned begin, end; /* the entries it covers there */
	unsigned owner;
};

struct gone {
	uint32_t block[LEVELS + 1];
	unsigned cnt;
};

/* ---- brief and first level ----------------------------------------------------------------------------------- */

static unsigned owner_of(unsigned bits)
{
	return bits <= 8 ? bits + 1 : bits <= 24 ? bits - 8 : (bits - 25) % 8 + 1;
}

/* Length of the shortest prefix of the level that prefixes of `bits` bits are in. */
static unsigned level_from(unsigned bits)
{
	return bits <= 8 ? 0 : bits <= 24 ? 9 : bits - (bits - 25) % 8;
}

static void put(struct mr_fib *f, uint32_t *entry, unsigned owner, uint32_t now)
{
	uint32_t *at = *entry & MR_FIB_BLOCK ? mr_fib_block_header(f, *entry) : entry;

	if (MR_FIB_OWNER(*at) <= owner && *at != now)
		mr_fib_store(at, now);
}

static void touch(struct mr_fib *f, unsigned side, uint32_t begin, uint32_t end)
{
	for (uint32_t page = begin / (HUGE_BYTES / 4); page <= (end - 1) / (HUGE_BYTES / 4); page++)
		f->touched[side] |= 1u << page;
}

static void put_short(struct mr_fib *f, unsigned side, uint32_t key, unsigned bits, uint32_t now)
{
	uint32_t *table = bits <= 8 ? f->brief[side] : f->first[side];
	unsigned width = bits <= 8 ? 8 : 24;
	uint32_t begin = key >> (32 - width), end = begin + (1u << (width - bits));

	for (uint32_t i = begin; i < end; i++)
		put(f, &table[i], owner_of(bits), now);
	if (width == 24)
		touch(f, side, begin, end);
}

/* ---- blocks ---------------------------------------------------------------------------------------------------- */

static void way_begin(struct mr_fib *f, struct way *w, unsigned side, const uint32_t *key, unsigned bits)
{
	for (unsigned i = 0; i < f->prefixes[side].words; i++) {
		uint32_t be = htobe32(key[i]);
		memcpy(w->addr_be + 4 * i, &be, 4);
	}
	w->side = side;
	w->level = (bits - 25) / 8;
	w->owner = owner_of(bits);
	w->begin = w->addr_be[3 + w->level];
	w->end = w->begin + (1u << (8 - w->owner));
	w->slot[0] = &f->first[side][key[0] >> 8];
}

/* How many blocks of the way there are; slot[] as far. */
static unsigned way_walk(struct mr_fib *f, struct way *w)
{
	unsigned k = 0;

	for (; k <= w->level && *w->slot[k] & MR_FIB_BLOCK; k++)
		w->slot[k + 1] = mr_fib_block_entry(f, *w->slot[k], w->addr_be[3 + k]);
	return k;
}

/* Entry `slot` of the first level, or of block k - 1, leads to `e` from now on. */
static int link_entry(struct mr_fib *f, struct way *w, unsigned k, uint32_t e, struct gone *gone)
{
	uint32_t image[256], old;

	if (!k) {
		mr_fib_store(w->slot[0], e);
		touch(f, w->side, (uint32_t)(w->slot[0] - f->first[w->side]),
			(uint32_t)(w->slot[0] - f->first[w->side]) + 1);
		return 0;
	}
	mr_fib_block_image(f, *w->slot[k - 1], image);
	image[w->addr_be[3 + k - 1]] = e;
	int ret = mr_fib_block_write(f, w->slot[k - 1], image, &old);
	if (!ret && old)
		gone->block[gone->cnt++] = old;
	return ret;
}

/* The way ends at an entry without a block: blocks from there to the prefix, the lowest first, so that they appear at once. */
static int grow(struct mr_fib *f, struct way *w, unsigned k, uint32_t now, struct gone *gone)
{
	uint32_t image[256] = { 0 }, made[LEVELS], cnt = 0, e = 0;
	int ret = -ENOMEM;

	for (unsigned i = w->begin; i < w->end; i++)
		image[i] = now;
	for (unsigned level = w->level + 1; level-- > k;) {
		if (level < w->level)
			image[w->addr_be[3 + level]] = e;
		e = mr_fib_block_make(f, image, level == k ? *w->slot[k] : 0);
		if (!e)
			goto drop;
		made[cnt++] = e;
		memset(image, 0, sizeof(image));
	}
	ret = link_entry(f, w, k, e, gone);
	if (!ret)
		return 0;
drop:
	while (cnt)
		mr_fib_block_drop(f, made[--cnt]);
	return ret;
}

static bool nothing_in(const uint32_t *image)
{
	uint32_t any = 0;

	for (unsigned i = 0; i < 256; i++)
		any |= image[i];
	return !any;
}

/* The block of the prefix is there.  One that has nothing left goes: what its header said is the entry again, and so up the way. */
static int change(struct mr_fib *f, struct way *w, uint32_t now, struct gone *gone)
{
	uint32_t image[256], old;
	unsigned k = w->level;

	mr_fib_block_image(f, *w->slot[k], image);
	for (unsigned i = w->begin; i < w->end; i++) {
		if (!(image[i] & MR_FIB_BLOCK) && MR_FIB_OWNER(image[i]) <= w->owner)
			image[i] = now;
	}
	while (nothing_in(image)) {
		uint32_t e = *mr_fib_block_header(f, *w->slot[k]);
		gone->block[gone->cnt++] = *w->slot[k];
		if (!k) {
			mr_fib_store(w->slot[0], e);
			return 0;
		}
		mr_fib_block_image(f, *w->slot[--k], image);
		image[w->addr_be[3 + k]] = e;
	}
	int ret = mr_fib_block_write(f, w->slot[k], image, &old);
	if (ret) {
		gone->cnt = 0;
		return ret;
	}
	if (old)
		gone->block[gone->cnt++] = old;
	for (unsigned i = w->begin; k == w->level && i < w->end; i++) {
		if (image[i] & MR_FIB_BLOCK)
			put(f, &image[i], w->owner, now);
	}
	return 0;
}

static int put_long(struct mr_fib *f, unsigned side, const uint32_t *key, unsigned bits, uint32_t now)
{
	struct gone gone = { .cnt = 0 };
	struct way w;
	int ret = mr_fib_block_prepare(f, LEVELS + 1);

	if (ret)
		return ret;
	way_begin(f, &w, side, key, bits);
	unsigned k = way_walk(f, &w);
	ret = k <= w.level ? grow(f, &w, k, now, &gone) : change(f, &w, now, &gone);
	if (gone.cnt) {
		uint64_t stamp = f->epoch ? mr_epoch_retire(f->epoch) : 0;
		while (gone.cnt)
			mr_fib_block_retire(f, gone.block[--gone.cnt], stamp);
	}
	return ret;
}

/* The entries of the prefix are `now` wherever no longer prefix has them. */
static int put_prefix(struct mr_fib *f, unsigned side, const uint32_t *key, unsigned bits, uint32_t now)
{
	int ret = 0;

	__atomic_store_n(&f->version, f->version + 1, __ATOMIC_RELAXED); /* what follows are releases */
	if (bits <= 24)
		put_short(f, side, key[0], bits, now);
	else
		ret = put_long(f, side, key, bits, now);
	__atomic_store_n(&f->version, f->version + 1, __ATOMIC_RELEASE);
	return ret;
}

/* ---- prefixes -------------------------------------------------------------------------------------------------- */

/* 0 IPv4, 1 IPv6, -EINVAL. */
static int side_of(unsigned family, unsigned bits)
{
	if (family == AF_INET && bits <= 32)
		return 0;
	return family == AF_INET6 && bits <= 128 ? 1 : -EINVAL;
}

int mr_fib_set(struct mr_fib *f, unsigned family, const void *addr_be, unsigned bits, uint32_t value)
{
	int side = side_of(family, bits), ret;
	uint32_t key[4];

	if (side < 0 || !value || value > MR_FIB_VALUE_MAX)
		return -EINVAL;
	struct mr_fib_prefixes *p = &f->prefixes[side];
	mr_fib_prefix_key(p->words, addr_be, bits, key);
	uint32_t *found = mr_fib_prefix_find(p, key, bits);
	if (found && MR_FIB_VALUE(*found) == value)
		return 0;
	if (!found) {
		ret = mr_fib_prefix_prepare(p);
		if (ret)
			return ret;
	}
	ret = put_prefix(f, (unsigned)side, key, bits, mr_fib_entry(owner_of(bits), value));
	if (ret)
		return ret;
	if (found)
		*found = (uint32_t)bits << 24 | value;
	else
		mr_fib_prefix_add(p, key, bits, value);
	return 0;
}

int mr_fib_unset(struct mr_fib *f, unsigned family, const void *addr_be, unsigned bits)
{
	int side = side_of(family, bits);
	uint32_t key[4], now = 0, value;
	unsigned length;

	if (side < 0)
		return -ENOENT;
	struct mr_fib_prefixes *p = &f->prefixes[side];
	mr_fib_prefix_key(p->words, addr_be, bits, key);
	uint32_t *found = mr_fib_prefix_find(p, key, bits);
	if (!found)
		return -ENOENT;
	value = mr_fib_prefix_cover(p, key, bits, level_from(bits), &length);
	if (value)
		now = mr_fib_entry(owner_of(length), value);
	int ret = put_prefix(f, (unsigned)side, key, bits, now);
	if (!ret)
		mr_fib_prefix_remove(p, found);
	return ret;
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

/* Address space that starts at a huge page. */
static void *reserve(uint64_t bytes, int prot)
{
	uint8_t *p = mmap(NULL, bytes + HUGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	uint64_t before = -(uintptr_t)p % HUGE_BYTES;
	if (before)
		munmap(p, before);
	munmap(p + before + bytes, HUGE_BYTES - before);
	if (prot != PROT_NONE && mprotect(p + before, bytes, prot)) {
		munmap(p + before, bytes);
		return NULL;
	}
	return p + before;
}

struct mr_fib *mr_fib_create(struct mr_epoch *epoch)
{
	struct mr_fib *f = aligned_alloc(64, sizeof(*f));

	if (!f)
		return NULL;
	memset(f, 0, sizeof(*f));
	f->epoch = epoch;
	f->wide[0] = mr_fib_wide(0);
	f->wide[1] = mr_fib_wide(1);
	f->prefixes[0].words = 1;
	f->prefixes[1].words = 4;
	f->first[0] = reserve(MR_FIB_FIRST_BYTES, PROT_READ | PROT_WRITE);
	f->first[1] = reserve(MR_FIB_FIRST_BYTES, PROT_READ | PROT_WRITE);
	f->arena = reserve(MR_FIB_ARENA_BYTES, PROT_NONE);
	if (!f->first[0] || !f->first[1] || !f->arena) {
		mr_fib_destroy(f);
		return NULL;
	}
	/* Only advice: without huge pages everything works, with more TLB misses. */
	madvise(f->first[0], MR_FIB_FIRST_BYTES, MADV_HUGEPAGE);
	madvise(f->first[1], MR_FIB_FIRST_BYTES, MADV_HUGEPAGE);
	madvise(f->arena + HUGE_BYTES, MR_FIB_ARENA_BYTES - HUGE_BYTES, MADV_HUGEPAGE);
	return f;
}

void mr_fib_destroy(struct mr_fib *f)
{
	if (!f)
		return;
	for (unsigned side = 0; side < 2; side++) {
		mr_fib_prefix_free(&f->prefixes[side]);
		if (f->first[side])
			munmap(f->first[side], MR_FIB_FIRST_BYTES);
	}
	if (f->arena)
		munmap(f->arena, MR_FIB_ARENA_BYTES);
	if (f->retired)
		munmap(f->retired, f->retired_cap * sizeof(*f->retired));
	free(f);
}

void mr_fib_usage(const struct mr_fib *f, struct mr_fib_usage *out)
{
	struct mr_fib_usage u = { .block_cnt = f->block_cnt };

	u.bytes = sizeof(*f) + f->unit_cnt * MR_FIB_UNIT_BYTES + f->retired_cap * sizeof(*f->retired);
	for (unsigned side = 0; side < 2; side++) {
		const struct mr_fib_prefixes *p = &f->prefixes[side];
		u.prefix_cnt[side] = p->cnt;
		u.bytes += p->cap * (p->words + 1) * 4;
		u.bytes += (uint64_t)__builtin_popcount(f->touched[side]) * HUGE_BYTES;
	}
	*out = u;
}
