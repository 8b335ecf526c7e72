/* SPDX-License-Identifier: BSD-2-Clause */
/* test_fib.c - the longest prefix, as a list of prefixes gone through one by one finds it, for any order of changes.  What readers see
 * meanwhile: test_fib_readers.c. */
#include "core/fib.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static uint64_t state = 1;
static uint64_t random64(void)
{
	uint64_t z = state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static unsigned length_of(unsigned family)
{
	return family == AF_INET ? 4 : 16;
}

static void cut(uint8_t *addr, unsigned bits)
{
	for (unsigned i = 0; i < 16; i++) {
		unsigned have = bits <= i * 8 ? 0 : bits - i * 8;
		addr[i] &= have >= 8 ? 255 : (uint8_t) ~(255u >> have);
	}
}

static bool under(const uint8_t *addr, const uint8_t *prefix, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	return !memcmp(addr, prefix, whole) && (!rest || !((addr[whole] ^ prefix[whole]) & ~(255u >> rest) & 255));
}

static uint32_t lookup(const struct mr_fib *f, unsigned family, const uint8_t *addr)
{
	__be32 a;

	if (family == AF_INET6)
		return mr_fib_lookup6(f, addr);
	memcpy(&a, addr, 4);
	return mr_fib_lookup4(f, a);
}

static void lookup_bulk(const struct mr_fib *f, unsigned family, const uint8_t (*addr)[16], uint32_t *value, unsigned n)
{
	__be32 a[256];

	if (family == AF_INET6) {
		mr_fib_lookup6_bulk(f, addr, value, n);
		return;
	}
	for (unsigned i = 0; i < n; i++)
		memcpy(&a[i], addr[i], 4);
	mr_fib_lookup4_bulk(f, a, value, n);
}

/* ---- the list -------------------------------------------------------------------------------------------------- */

#define MODEL_MAX 256
struct model {
	unsigned family, cnt;
	struct {
		uint8_t addr[16];
		unsigned bits;
		uint32_t value;
	} p[MODEL_MAX];
};

static uint32_t model_match(const struct model *m, const uint8_t *addr, unsigned *bits)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < m->cnt; i++) {
		if ((!value || m->p[i].bits > *bits) && under(addr, m->p[i].addr, m->p[i].bits)) {
			value = m->p[i].value;
			*bits = m->p[i].bits;
		}
	}
	return value;
}

static int model_find(const struct model *m, const uint8_t *addr, unsigned bits)
{
	for (unsigned i = 0; i < m->cnt; i++) {
		if (m->p[i].bits == bits && !memcmp(m->p[i].addr, addr, 16))
			return (int)i;
	}
	return -1;
}

/* Few different bytes, so that prefixes nest and meet. */
static void random_addr(unsigned family, uint8_t *addr)
{
	static const uint8_t some[] = { 0, 1, 10, 127, 128, 192, 254, 255 };
	uint64_t r = random64();

	memset(addr, 0, 16);
	for (unsigned i = 0; i < length_of(family); i++)
		addr[i] = i < 3 || (r >> (40 + i) & 1) ? some[(r >> 2 * i & 3) + (i > 2 && r >> 60 > 12 ? 4 : 0)]
						       : (uint8_t)random64();
}

/* An edge of a prefix of the list, one beside it, or anything. */
static void interesting_addr(const struct model *m, uint8_t *addr)
{
	uint64_t r = random64();

	if (!m->cnt || r % 8 == 0) {
		random_addr(m->family, addr);
		return;
	}
	unsigned n = (unsigned)(r >> 8) % m->cnt, bits = m->p[n].bits, len = length_of(m->family);
	memcpy(addr, m->p[n].addr, 16);
	if (r >> 40 & 1) {
		for (unsigned i = 0; i < len; i++)
			addr[i] |= i * 8 >= bits ? 255 : bits - i * 8 < 8 ? 255 >> (bits - i * 8) : 0;
	}
	int by = r >> 42 & 1 ? 0 : r >> 41 & 1 ? 1 : -1;
	for (unsigned i = len; by && i--;) {
		int sum = addr[i] + by;
		addr[i] = (uint8_t)sum;
		by = sum < 0 ? -1 : sum > 255 ? 1 : 0;
	}
	if (r >> 43 & 1)
		addr[len - 1 - (r >> 44) % (len / 2)] = (uint8_t)(r >> 50);
}

static void check_lookups(const struct mr_fib *f, const struct model *m, unsigned cnt)
{
	uint8_t addr[256][16];
	uint32_t value[256];
	unsigned bits = 0, got_bits = 0;

	for (unsigned i = 0; i < cnt; i++)
		interesting_addr(m, addr[i]);
	lookup_bulk(f, m->family, (const uint8_t(*)[16])addr, value, cnt);
	for (unsigned i = 0; i < cnt; i++) {
		uint32_t want = model_match(m, addr[i], &bits);
		cr_assert_eq(value[i], want, "bulk lookup %u of %u: %u, not %u", i, cnt, value[i], want);
		cr_assert_eq(lookup(f, m->family, addr[i]), want);
		if (i % 8)
			continue;
		cr_assert_eq(mr_fib_match(f, m->family, addr[i], &got_bits), want);
		cr_assert(!want || got_bits == bits);
	}
}

static void one_change(struct mr_fib *f, struct model *m)
{
	uint8_t addr[16], cut_addr[16];
	unsigned top = length_of(m->family) * 8, bits = (unsigned)(random64() % (top + 1));
	uint32_t value = 1 + (uint32_t)(random64() % (random64() % 4 ? 7 : MR_FIB_VALUE_MAX));

	interesting_addr(m, addr);
	memcpy(cut_addr, addr, 16);
	cut(cut_addr, bits);
	int at = model_find(m, cut_addr, bits);
	if (m->cnt && (m->cnt == MODEL_MAX || random64() % 2)) { /* one that is there, mostly */
		at = (int)(random64() % m->cnt);
		bits = m->p[at].bits;
		memcpy(addr, m->p[at].addr, 16);
		if (random64() % 4) {
			cr_assert_eq(mr_fib_unset(f, m->family, addr, bits), 0);
			cr_assert_eq(mr_fib_unset(f, m->family, addr, bits), -ENOENT);
			m->p[at] = m->p[--m->cnt];
			return;
		}
	}
	cr_assert_eq(mr_fib_exact(f, m->family, addr, bits), at < 0 ? 0 : m->p[at].value);
	cr_assert_eq(mr_fib_set(f, m->family, addr, bits, value), 0);
	cr_assert_eq(mr_fib_exact(f, m->family, addr, bits), value);
	if (at < 0) {
		at = (int)m->cnt++;
		memcpy(m->p[at].addr, cut_addr, 16);
		m->p[at].bits = bits;
	}
	m->p[at].value = value;
}

static void churn(unsigned family, unsigned changes)
{
	struct mr_epoch *e = mr_epoch_create();
	struct mr_fib *f = mr_fib_create(e);
	struct model *m = calloc(1, sizeof(*m));
	struct mr_fib_usage u;

	m->family = family;
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < changes; i++) {
			one_change(f, m);
			check_lookups(f, m, 1 + (unsigned)random64() % 200);
		}
		mr_fib_usage(f, &u);
		cr_assert_eq(u.prefix_cnt[family == AF_INET6], m->cnt);
		while (m->cnt) {
			m->cnt--;
			cr_assert_eq(mr_fib_unset(f, family, m->p[m->cnt].addr, m->p[m->cnt].bits), 0);
		}
		check_lookups(f, m, 200);
		mr_fib_usage(f, &u);
		cr_assert_eq(u.block_cnt, 0, "%lu blocks are left of nothing", (unsigned long)u.block_cnt);
	}
	mr_fib_destroy(f);
	mr_epoch_destroy(e);
	free(m);
}

Test(fib, ipv4_as_the_list_finds_it, .timeout = 120)
{
	churn(AF_INET, 3000);
}

Test(fib, ipv6_as_the_list_finds_it, .timeout = 120)
{
	churn(AF_INET6, 3000);
}

/* ---- lengths --------------------------------------------------------------------------------------------------- */

static void every_length(unsigned family)
{
	static const uint8_t base[16] = { 0x5a, 0xa5, 0xc3, 0x3c, 0x96, 0x69, 0xf0, 0x0f, 0x55, 0xaa, 0x12, 0x34, 0x81,
		0x7e, 0x01, 0xfe };
	struct mr_fib *f = mr_fib_create(NULL);
	unsigned top = length_of(family) * 8, bits;

	/* From the longest to the shortest and back: the address is always the longest's, one that differs in bit n is n's. */
	for (unsigned turn = 0; turn < 3; turn++) {
		for (unsigned n = 0; n <= top; n++)
			cr_assert_eq(
				mr_fib_set(f, family, base, turn % 2 ? n : top - n, (turn % 2 ? n : top - n) + 1), 0);
		for (unsigned n = 0; n <= top; n++) {
			uint8_t addr[16];
			memcpy(addr, base, 16);
			if (n < top)
				addr[n / 8] ^= (uint8_t)(128 >> n % 8);
			cr_assert_eq(lookup(f, family, addr), n + 1, "%u bits: %u", n, lookup(f, family, addr));
			cr_assert_eq(mr_fib_match(f, family, addr, &bits), n + 1);
			cr_assert_eq(bits, n);
		}
		for (unsigned n = 0; n <= top; n++) {
			unsigned gone = turn == 1 ? top - n : n;
			cr_assert_eq(mr_fib_unset(f, family, base, gone), 0);
			cr_assert_eq(lookup(f, family, base), turn == 1 ? (gone ? gone : 0) : n == top ? 0 : top + 1);
		}
	}
	struct mr_fib_usage u;
	mr_fib_usage(f, &u);
	cr_assert_eq(u.block_cnt, 0);
	mr_fib_destroy(f);
}

Test(fib, every_length_of_ipv4)
{
	every_length(AF_INET);
}

Test(fib, every_length_of_ipv6)
{
	every_length(AF_INET6);
}

/* Alone, at both ends of the addresses: it has what is under it and nothing beside it. */
static void alone(unsigned family)
{
	struct mr_fib *f = mr_fib_create(NULL);
	unsigned top = length_of(family) * 8;

	for (unsigned bits = 0; bits <= top; bits++) {
		for (unsigned fill = 0; fill < 256; fill += 255) {
			uint8_t addr[16], beside[16];
			memset(addr, (int)fill, 16);
			cr_assert_eq(mr_fib_set(f, family, addr, bits, 5), 0);
			cr_assert_eq(lookup(f, family, addr), 5);
			memcpy(beside, addr, 16);
			if (bits) {
				beside[(bits - 1) / 8] ^= (uint8_t)(128 >> (bits - 1) % 8);
				cr_assert_eq(lookup(f, family, beside), 0);
				beside[(bits - 1) / 8] ^= (uint8_t)(128 >> (bits - 1) % 8);
			}
			for (unsigned n = bits; n < top; n++)
				beside[n / 8] ^= (uint8_t)(128 >> n % 8);
			cr_assert_eq(lookup(f, family, beside), 5);
			cr_assert_eq(mr_fib_unset(f, family, addr, bits), 0);
			cr_assert_eq(lookup(f, family, addr), 0);
		}
	}
	mr_fib_destroy(f);
}

Test(fib, a_prefix_alone)
{
	alone(AF_INET);
	alone(AF_INET6);
}

Test(fib, what_cannot_be)
{
	struct mr_fib *f = mr_fib_create(NULL);
	uint8_t addr[16] = { 10 };
	unsigned bits = 7;

	cr_assert_eq(mr_fib_set(f, AF_INET, addr, 33, 1), -EINVAL);
	cr_assert_eq(mr_fib_set(f, AF_INET6, addr, 129, 1), -EINVAL);
	cr_assert_eq(mr_fib_set(f, AF_UNIX, addr, 8, 1), -EINVAL);
	cr_assert_eq(mr_fib_set(f, AF_INET, addr, 8, 0), -EINVAL);
	cr_assert_eq(mr_fib_set(f, AF_INET, addr, 8, MR_FIB_VALUE_MAX + 1), -EINVAL);
	cr_assert_eq(mr_fib_unset(f, AF_INET, addr, 8), -ENOENT);
	cr_assert_eq(mr_fib_unset(f, AF_INET, addr, 33), -ENOENT);
	cr_assert_eq(mr_fib_exact(f, AF_INET, addr, 8), 0);
	cr_assert_eq(mr_fib_match(f, AF_INET, addr, &bits), 0);
	cr_assert_eq(bits, 7);
	mr_fib_lookup4_bulk(f, NULL, NULL, 0);
	mr_fib_lookup6_bulk(f, NULL, NULL, 0);
	mr_fib_destroy(f);
	mr_fib_destroy(NULL);
}

/* ---- each ------------------------------------------------------------------------------------------------------ */

struct seen {
	const struct model *m;
	unsigned cnt, stop;
	bool seen[MODEL_MAX];
};

static int see(void *ctx, const uint8_t *addr_be, unsigned bits, uint32_t value)
{
	struct seen *s = ctx;
	uint8_t addr[16] = { 0 };

	memcpy(addr, addr_be, length_of(s->m->family));
	int at = model_find(s->m, addr, bits);
	cr_assert_geq(at, 0);
	cr_assert_eq(s->m->p[at].value, value);
	cr_assert_not(s->seen[at]);
	s->seen[at] = true;
	return ++s->cnt == s->stop ? -77 : 0;
}

static void each_of(unsigned family)
{
	struct mr_fib *f = mr_fib_create(NULL);
	struct model m = { .family = family };

	while (m.cnt < 200)
		one_change(f, &m);
	for (unsigned i = 0; i < 2000; i++) {
		uint8_t addr[16];
		unsigned bits = (unsigned)(random64() % (length_of(family) * 8 + 1)), want = 0;
		interesting_addr(&m, addr);
		struct seen s = { .m = &m };
		for (unsigned n = 0; n < m.cnt; n++)
			want += m.p[n].bits >= bits && under(m.p[n].addr, addr, bits);
		cr_assert_eq(mr_fib_each(f, family, addr, bits, see, &s), 0);
		cr_assert_eq(s.cnt, want);
		if (want > 1) {
			s = (struct seen){ .m = &m, .stop = want / 2 };
			cr_assert_eq(mr_fib_each(f, family, addr, bits, see, &s), -77);
			cr_assert_eq(s.cnt, want / 2);
		}
	}
	mr_fib_destroy(f);
}

Test(fib, each_under_a_prefix, .timeout = 60)
{
	each_of(AF_INET);
	each_of(AF_INET6);
}

/* ---- many ------------------------------------------------------------------------------------------------------ */

/* As many as the hash and full blocks have to grow for; mr_fib_match() is the reference, which the list has proven. */
#define MANY 120000
static uint8_t many_addr[MANY][16];
static uint8_t many_bits[MANY];

static void many(unsigned family)
{
	struct mr_fib *f = mr_fib_create(NULL);
	struct mr_fib_usage full, u;
	unsigned bits;

	for (unsigned i = 0; i < MANY; i++) {
		uint64_t r = random64(), q = random64();
		memset(many_addr[i], 0, 16);
		many_addr[i][0] = (uint8_t)(32 + r % 4);
		memcpy(many_addr[i] + 1, &q, family == AF_INET ? 3 : 6);
		many_addr[i][2] &= 15;
		many_bits[i] = (uint8_t)(family == AF_INET ? 9 + (r >> 8) % 24 : 16 + (r >> 8) % 41);
	}
	for (unsigned turn = 0; turn < 2; turn++) {
		for (unsigned i = 0; i < MANY; i++)
			cr_assert_eq(mr_fib_set(f, family, many_addr[i], many_bits[i], i + 1), 0);
		for (unsigned i = 0; i < 400000; i++) {
			uint8_t addr[16];
			uint64_t r = random64();
			memcpy(addr, many_addr[r % MANY], 16);
			addr[length_of(family) == 4 ? 3 : 3 + (r >> 32) % 5] ^= (uint8_t)(r >> 40);
			cr_assert_eq(lookup(f, family, addr), mr_fib_match(f, family, addr, &bits));
		}
		mr_fib_usage(f, turn ? &u : &full);
		for (unsigned i = 0; i < MANY; i++)
			mr_fib_unset(f, family, many_addr[i], many_bits[i]); /* some were there twice */
	}
	/* The order lines and full blocks were made in differs a little. */
	cr_assert_leq(u.bytes, full.bytes + 65536, "the second time needs %lu bytes, the first %lu",
		(unsigned long)u.bytes, (unsigned long)full.bytes);
	mr_fib_usage(f, &u);
	cr_assert_eq(u.prefix_cnt[0] + u.prefix_cnt[1] + u.block_cnt, 0);
	mr_fib_destroy(f);
}

Test(fib, many_of_ipv4, .timeout = 120)
{
	many(AF_INET);
}

Test(fib, many_of_ipv6, .timeout = 120)
{
	many(AF_INET6);
}

/* ---- no memory ------------------------------------------------------------------------------------------------- */

/* With a limit on data pages (not 0: the kernel takes that for none) every growth fails: of the arena, of the prefix table, of the ring of retired blocks. */
static void deny(bool denied)
{
	struct rlimit l;

	getrlimit(RLIMIT_DATA, &l);
	l.rlim_cur = denied ? 4096 : l.rlim_max;
	cr_assert_eq(setrlimit(RLIMIT_DATA, &l), 0);
}

static void far_addr(unsigned family, unsigned n, uint8_t *addr)
{
	uint64_t r = (n + 1) * 0x9e3779b97f4a7c15ULL;

	r ^= r >> 29;
	memset(addr, 0, 16);
	memcpy(addr, &r, 8);
	addr[15] = (uint8_t)n;
	if (family == AF_INET)
		memset(addr + 4, 0, 12);
}

static void no_memory(unsigned family, struct mr_epoch *e)
{
	struct mr_fib *f = mr_fib_create(e);
	struct mr_fib_usage before, after;
	unsigned top = length_of(family) * 8, failed = 0;
	uint8_t addr[16], other[16];

	for (unsigned n = 0; n < 12000; n++) {
		far_addr(family, n, addr);
		mr_fib_usage(f, &before);
		deny(true);
		int ret = mr_fib_set(f, family, addr, top, 1 + n);
		uint32_t now = lookup(f, family, addr), exact = mr_fib_exact(f, family, addr, top);
		mr_fib_usage(f, &after);
		deny(false);
		if (ret) {
			cr_assert_eq(ret, -ENOMEM);
			cr_assert_eq(now + exact, 0);
			cr_assert_eq(
				before.prefix_cnt[0] + before.prefix_cnt[1], after.prefix_cnt[0] + after.prefix_cnt[1]);
			cr_assert_eq(before.block_cnt, after.block_cnt);
			failed++;
			cr_assert_eq(mr_fib_set(f, family, addr, top, 1 + n), 0);
		}
		far_addr(family, (unsigned)random64() % (n + 1), other);
		cr_assert_neq(lookup(f, family, other), 0);
		cr_assert_eq(lookup(f, family, addr), 1 + n);
	}
	for (unsigned n = 0; n < 12000; n++) {
		far_addr(family, n, addr);
		deny(true);
		int ret = mr_fib_unset(f, family, addr, top);
		uint32_t now = lookup(f, family, addr);
		deny(false);
		cr_assert(ret ? now == 1 + n : now == 0);
		cr_assert(!ret || mr_fib_unset(f, family, addr, top) == 0);
	}
	mr_fib_usage(f, &after);
	cr_assert_eq(after.block_cnt, 0);
	mr_fib_destroy(f);
}

Test(fib, without_memory_nothing_changes, .timeout = 120)
{
	struct mr_epoch *e = mr_epoch_create();

#ifdef __SANITIZE_THREAD__
	cr_skip_test("ThreadSanitizer itself ends when it gets no memory");
#endif
	no_memory(AF_INET, NULL);
	no_memory(AF_INET6, NULL);
	mr_epoch_online(e, 3); /* holds every block: the ring grows as well */
	no_memory(AF_INET6, e);
	mr_epoch_destroy(e);
}
