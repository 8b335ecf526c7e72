/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fib_prefixes.c - which prefixes there are: the writer's table, by (address, bits).
 *
 * One open hash a family, 8 bytes a slot for IPv4 and 20 for IPv6, between an eighth and three quarters full: a prefix costs at
 * most 21 or 53 bytes where there are only more of them than before.  Linear probing; a removal moves later ones up, so nothing is left behind.
 */
#include "core/fib_table.h"
#include <endian.h>
#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define CAP_MIN 128u

static unsigned stride(const struct mr_fib_prefixes *p)
{
	return p->words + 1;
}

void mr_fib_prefix_key(unsigned words, const void *addr_be, unsigned bits, uint32_t *key)
{
	for (unsigned i = 0; i<words; i++, bits = bits> 32 ? bits - 32 : 0) {
		uint32_t be;
		memcpy(&be, (const uint8_t *)addr_be + 4 * i, 4);
		key[i] = bits >= 32 ? be32toh(be) : bits ? be32toh(be) & ~(~0u >> bits) : 0;
	}
}

static uint64_t home(const struct mr_fib_prefixes *p, const uint32_t *key, unsigned bits)
{
	uint64_t x = key[0] + ((uint64_t)bits << 32);

	x *= 0x9e3779b97f4a7c15ULL;
	if (p->words == 4) {
		x ^= x >> 32;
		x += key[1] | (uint64_t)key[2] << 32;
		x *= 0xbf58476d1ce4e5b9ULL;
		x ^= x >> 32;
		x += key[3];
		x *= 0x94d049bb133111ebULL;
	}
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ULL;
	return (x >> 32) & (p->cap - 1);
}

uint32_t *mr_fib_prefix_find(const struct mr_fib_prefixes *p, const uint32_t *key, unsigned bits)
{
	if (!p->cnt || !p->length_cnt[bits])
		return NULL;
	for (uint64_t at = home(p, key, bits);; at = (at + 1) & (p->cap - 1)) {
		uint32_t *s = p->slot + at * stride(p), *tag = s + p->words;
		if (!*tag)
			return NULL;
		if (*tag >> 24 == bits && !memcmp(s, key, p->words * 4))
			return tag;
	}
}

static void place(struct mr_fib_prefixes *p, const uint32_t *key, uint32_t tag)
{
	uint64_t at = home(p, key, tag >> 24);

	while (p->slot[at * stride(p) + p->words])
		at = (at + 1) & (p->cap - 1);
	memcpy(p->slot + at * stride(p), key, p->words * 4);
	p->slot[at * stride(p) + p->words] = tag;
}

static uint64_t bytes_of(const struct mr_fib_prefixes *p, uint64_t cap)
{
	return (cap * stride(p) * 4 + 4095) & ~4095ull;
}

static int resize(struct mr_fib_prefixes *p, uint64_t cap)
{
	struct mr_fib_prefixes old = *p;
	uint32_t *slot = mr_fib_map(bytes_of(p, cap));

	if (!slot)
		return -ENOMEM;
	p->slot = slot;
	p->cap = cap;
	for (uint64_t i = 0; i < old.cap; i++) {
		uint32_t *s = old.slot + i * stride(p);
		if (s[p->words])
			place(p, s, s[p->words]);
	}
	if (old.slot)
		munmap(old.slot, bytes_of(p, old.cap));
	return 0;
}

int mr_fib_prefix_prepare(struct mr_fib_prefixes *p)
{
	if (p->slot && p->cnt + 1 <= p->cap / 4 * 3)
		return 0;
	return resize(p, p->slot ? p->cap * 2 : CAP_MIN);
}

void mr_fib_prefix_add(struct mr_fib_prefixes *p, const uint32_t *key, unsigned bits, uint32_t value)
{
	place(p, key, (uint32_t)bits << 24 | value);
	p->cnt++;
	p->length_cnt[bits]++;
}

void mr_fib_prefix_remove(struct mr_fib_prefixes *p, uint32_t *found)
{
	uint64_t hole = (uint64_t)(found - p->words - p->slot) / stride(p), mask = p->cap - 1;

	p->cnt--;
	p->length_cnt[*found >> 24]--;
	for (uint64_t at = (hole + 1) & mask;; at = (at + 1) & mask) {
		uint32_t *s = p->slot + at * stride(p);
		if (!s[p->words])
			break;
		/* It may move into the hole when its own home is not after the hole. */
		uint64_t from = home(p, s, s[p->words] >> 24);
		if (((at - from) & mask) < ((at - hole) & mask))
			continue;
		memcpy(p->slot + hole * stride(p), s, stride(p) * 4);
		hole = at;
	}
	p->slot[hole * stride(p) + p->words] = 0;
	if (p->cap > CAP_MIN && p->cnt < p->cap / 8)
		resize(p, p->cap / 2); /* without memory it stays as large as it is */
}

uint32_t mr_fib_prefix_cover(
	const struct mr_fib_prefixes *p, const uint32_t *key, unsigned bits, unsigned from, unsigned *length)
{
	uint32_t k[4];

	memcpy(k, key, p->words * 4);
	for (unsigned n = bits; n-- > from;) {
		k[n / 32] &= ~(~0u >> n % 32); /* bit n is none of a prefix of n bits */
		const uint32_t *tag = mr_fib_prefix_find(p, k, n);
		if (tag) {
			*length = n;
			return MR_FIB_VALUE(*tag);
		}
	}
	return 0;
}

void mr_fib_prefix_free(struct mr_fib_prefixes *p)
{
	if (p->slot)
		munmap(p->slot, bytes_of(p, p->cap));
}

/* ---- asked by control ----------------------------------------------------------------------------------------- */

static const struct mr_fib_prefixes *family_of(const struct mr_fib *f, unsigned family, unsigned bits)
{
	if (family == AF_INET && bits <= 32)
		return &f->prefixes[0];
	return family == AF_INET6 && bits <= 128 ? &f->prefixes[1] : NULL;
}

uint32_t mr_fib_exact(const struct mr_fib *f, unsigned family, const void *addr_be, unsigned bits)
{
	const struct mr_fib_prefixes *p = family_of(f, family, bits);
	uint32_t key[4];

	if (!p)
		return 0;
	mr_fib_prefix_key(p->words, addr_be, bits, key);
	const uint32_t *tag = mr_fib_prefix_find(p, key, bits);
	return tag ? MR_FIB_VALUE(*tag) : 0;
}

uint32_t mr_fib_match(const struct mr_fib *f, unsigned family, const void *addr_be, unsigned *bits)
{
	const struct mr_fib_prefixes *p = family_of(f, family, 0);
	uint32_t key[4];

	if (!p)
		return 0;
	unsigned whole = p->words * 32;
	mr_fib_prefix_key(p->words, addr_be, whole, key);
	const uint32_t *tag = mr_fib_prefix_find(p, key, whole);
	if (!tag)
		return mr_fib_prefix_cover(p, key, whole, 0, bits);
	*bits = whole;
	return MR_FIB_VALUE(*tag);
}

int mr_fib_each(const struct mr_fib *f, unsigned family, const void *addr_be, unsigned bits, mr_fib_fn fn, void *ctx)
{
	const struct mr_fib_prefixes *p = family_of(f, family, bits);
	uint32_t under[4], key[4];

	if (!p)
		return 0;
	mr_fib_prefix_key(p->words, addr_be, bits, under);
	for (uint64_t i = 0; i < p->cap; i++) {
		const uint32_t *s = p->slot + i * stride(p);
		uint32_t tag = s[p->words];
		if (!tag || tag >> 24 < bits)
			continue;
		uint8_t addr[16];
		for (unsigned w = 0; w < p->words; w++) {
			uint32_t be = htobe32(s[w]);
			memcpy(addr + 4 * w, &be, 4);
		}
		mr_fib_prefix_key(p->words, addr, bits, key);
		if (memcmp(key, under, p->words * 4))
			continue;
		int ret = fn(ctx, addr, tag >> 24, MR_FIB_VALUE(tag));
		if (ret)
			return ret;
	}
	return 0;
}
