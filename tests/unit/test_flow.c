/* SPDX-License-Identifier: BSD-2-Clause */
/* test_flow.c - the hash, the table's writers and readers, and both at once. */
#include "core/flow.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SEED 0x123456789abcdef1ULL

static uint64_t random_state = 0x9e3779b97f4a7c15ULL;

static uint64_t random64(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static struct mr_key4 key4(uint32_t n)
{
	return (struct mr_key4){ .zone = MR_ZONE_DEFAULT,
		.proto = 17,
		.saddr_be = 0x0a000000 + n / 60000,
		.daddr_be = 0x0a010203,
		.sport_be = (uint16_t)(n % 60000),
		.dport_be = 80 };
}

static struct mr_key6 key6(uint32_t n)
{
	return (struct mr_key6){ .zone = MR_ZONE_DEFAULT,
		.proto = 6,
		.sport_be = (uint16_t)n,
		.dport_be = 443,
		.saddr_be = { 0x20010db8, 0, 0, n },
		.daddr_be = { 0x20010db8, 1, 2, 3 } };
}

static struct mr_rewrite4 rewrite4(uint32_t n)
{
	return (struct mr_rewrite4){ .saddr_be = n, .daddr_be = ~n, .sport_be = (uint16_t)n, .l4_delta = (uint16_t)~n };
}

static struct mr_flows *table(uint32_t capacity4, uint32_t capacity6)
{
	struct mr_flows_options opt = { .capacity4 = capacity4, .capacity6 = capacity6, .seed = SEED };
	struct mr_error e = { "" };
	struct mr_flows *t = NULL;

	cr_assert_eq(mr_flows_create(&opt, &t, &e), 0, "%s", e.text);
	return t;
}

static int put4(struct mr_flows *t, uint32_t n, uint32_t now_ms, mr_flow_ref *ref)
{
	struct mr_key4 k = key4(n);
	struct mr_rewrite4 rw = rewrite4(n);
	struct mr_flow_state st = { .seq = 77, .session = n + 1, .nexthop = (uint16_t)n, .flags = MR_FLOW_DECIDED };

	return mr_flows_insert4(t, &k, mr_flow_hash4(&k, SEED), &rw, &st, now_ms, ref);
}

static struct mr_flow4 *get4(struct mr_flows *t, uint32_t n, struct mr_flow4 *copy)
{
	struct mr_key4 k = key4(n);
	uint64_t hash = mr_flow_hash4(&k, SEED);
	struct mr_flow4 *rec;

	cr_assert_eq(mr_flows_lookup4(t, &k, &hash, 1, &rec, copy), rec ? 1u : 0u);
	return rec;
}

static struct mr_flows_usage usage(struct mr_flows *t)
{
	struct mr_flows_usage u;

	mr_flows_usage(t, &u);
	return u;
}

/* ---- hash ----------------------------------------------------------------------------------------------- */

/* Each bit of the key, flipped, must flip each bit of the hash about every second time. */
static void avalanche(size_t key_bytes, uint64_t (*hash)(const void *))
{
	enum { TRIALS = 4000 };
	static unsigned flips[64];

	for (size_t bit = 0; bit < key_bytes * 8; bit++) {
		memset(flips, 0, sizeof(flips));
		for (unsigned i = 0; i < TRIALS; i++) {
			uint64_t word[5];
			for (unsigned w = 0; w < 5; w++)
				word[w] = random64();
			uint64_t before = hash(word);
			((uint8_t *)word)[bit / 8] ^= (uint8_t)(1u << bit % 8);
			uint64_t diff = before ^ hash(word);
			if (bit / 8 == offsetof(struct mr_key4, ingress)) {
				cr_assert_eq(diff, 0, "ingress is hashed");
				continue;
			}
			for (unsigned b = 0; b < 64; b++)
				flips[b] += diff >> b & 1;
		}
		for (unsigned b = 0; b < 64 && bit / 8 != offsetof(struct mr_key4, ingress); b++)
			cr_assert(flips[b] > TRIALS * 0.44 && flips[b] < TRIALS * 0.56,
				"key bit %zu, hash bit %u: %u of %u", bit, b, flips[b], TRIALS);
	}
}

static uint64_t hash4_seed0(const void *k)
{
	return mr_flow_hash4(k, SEED);
}

static uint64_t hash6_seed0(const void *k)
{
	return mr_flow_hash6(k, SEED);
}

Test(flow, hash4_avalanche)
{
	avalanche(sizeof(struct mr_key4), hash4_seed0);
}

Test(flow, hash6_avalanche)
{
	avalanche(sizeof(struct mr_key6), hash6_seed0);
}

/* Keys as networks make them (few addresses, running ports) must spread over buckets and tags as random ones would. */
Test(flow, hash_spreads_like_random)
{
	enum { BUCKETS = 1000, KEYS = 64000 };
	static unsigned first[BUCKETS], second[BUCKETS], tag[256];

	for (uint64_t seed = 1; seed < 20; seed++) {
		memset(first, 0, sizeof(first));
		memset(second, 0, sizeof(second));
		memset(tag, 0, sizeof(tag));
		for (uint32_t n = 0; n < KEYS; n++) {
			struct mr_key4 k = key4(n);
			uint64_t h = mr_flow_hash4(&k, seed);
			uint32_t a = mr_flow_bucket_primary(h, BUCKETS), b = mr_flow_bucket_secondary(h, BUCKETS);
			cr_assert(a < BUCKETS && b < BUCKETS && a != b);
			cr_assert_neq(mr_flow_tag(h), 0);
			first[a]++;
			second[b]++;
			tag[mr_flow_tag(h) >> 8]++;
		}
		double chi1 = 0, chi2 = 0, chi3 = 0;
		for (unsigned i = 0; i < BUCKETS; i++) {
			chi1 += (first[i] - 64.0) * (first[i] - 64.0) / 64.0;
			chi2 += (second[i] - 64.0) * (second[i] - 64.0) / 64.0;
		}
		for (unsigned i = 0; i < 256; i++)
			chi3 += (tag[i] - 250.0) * (tag[i] - 250.0) / 250.0;
		/* 999 and 255 degrees of freedom: six standard deviations. */
		cr_assert(chi1 < 999 + 6 * 44.7 && chi2 < 999 + 6 * 44.7 && chi3 < 255 + 6 * 22.6, "seed %lu: %f %f %f",
			(unsigned long)seed, chi1, chi2, chi3);
	}
}

Test(flow, tag_is_never_free)
{
	cr_assert_eq(mr_flow_tag(0xabcdef0000ULL << 16), 1);
	cr_assert_eq(mr_flow_tag(0x12340002), 2);
	for (uint64_t h = 1; h; h <<= 1) {
		cr_assert_neq(mr_flow_bucket_primary(h, 2), mr_flow_bucket_secondary(h, 2));
		cr_assert_lt(mr_flow_bucket_secondary(h, 2), 2u);
	}
}

/* ---- one at a time -------------------------------------------------------------------------------------- */

Test(flow, insert_find_free)
{
	struct mr_flows *t = table(1000, 0);
	struct mr_flow4 copy;
	mr_flow_ref ref, again = 0;

	cr_assert_null(get4(t, 5, NULL));
	cr_assert_eq(put4(t, 5, 100, &ref), 0);
	struct mr_flow4 *rec = get4(t, 5, &copy);
	cr_assert_not_null(rec);
	cr_assert_eq(mr_flows_ref4(t, rec), ref);
	cr_assert_eq(mr_flows_record4(t, ref), rec);
	cr_assert_eq(mr_flows_state(t, ref), &rec->st);
	cr_assert_eq(copy.rewrite.saddr_be, 5u);
	cr_assert_eq(copy.st.session, 6u);
	cr_assert_eq(copy.st.seq & 1, 0);
	cr_assert_eq(memcmp(&copy, rec, sizeof(copy)), 0);
	cr_assert_eq(put4(t, 5, 100, &again), -EEXIST);
	cr_assert_eq(again, ref);
	cr_assert_eq(usage(t).live4, 1u);

	cr_assert_eq(mr_flows_free(t, ref, 99, 100), -ESTALE, "another session's");
	cr_assert_eq(mr_flows_free(t, ref, 6, 100), 0);
	cr_assert_eq(mr_flows_free(t, ref, 6, 100), -ESTALE);
	cr_assert_null(mr_flows_state(t, ref));
	cr_assert_null(get4(t, 5, NULL));
	cr_assert_eq(usage(t).live4, 0u);
	mr_flows_destroy(t);
}

Test(flow, ingress_is_not_compared)
{
	struct mr_flows *t = table(100, 100);
	struct mr_key4 k = key4(1);
	struct mr_key6 q = key6(1);
	uint64_t h4 = mr_flow_hash4(&k, SEED), h6 = mr_flow_hash6(&q, SEED);
	struct mr_rewrite4 rw4 = { 0 };
	struct mr_rewrite6 rw6 = { 0 };
	struct mr_flow_state st = { .session = 1 };
	struct mr_flow4 *r4;
	struct mr_flow6 *r6;
	mr_flow_ref ref;

	k.ingress = q.ingress = 9;
	cr_assert_eq(mr_flows_insert4(t, &k, h4, &rw4, &st, 1, &ref), 0);
	cr_assert_eq(mr_flows_insert6(t, &q, h6, &rw6, &st, 1, &ref), 0);
	k.ingress = q.ingress = 0;
	cr_assert_eq(mr_flows_lookup4(t, &k, &h4, 1, &r4, NULL), 1u);
	cr_assert_eq(r4->key.ingress, 9);
	cr_assert_eq(mr_flows_lookup6(t, &q, &h6, 1, &r6, NULL), 1u);
	cr_assert_eq(r6->key.ingress, 9);
	mr_flows_destroy(t);
}

/* Keys that agree in bucket and tag are told apart by their records: the hash is given, so it can be made to collide. */
Test(flow, same_hash_different_keys)
{
	struct mr_flows *t = table(1000, 0);
	struct mr_rewrite4 rw = { 0 };
	struct mr_flow4 *rec;
	struct mr_flow4 copy;
	uint64_t hash = 0x1234567812345678ULL;
	mr_flow_ref ref;
	/* Two buckets and two of the overflow. */
	for (uint32_t n = 0; n < 4 * MR_FLOW_WAYS; n++) {
		struct mr_key4 k = key4(n);
		struct mr_flow_state st = { .session = n + 1 };
		cr_assert_eq(mr_flows_insert4(t, &k, hash, &rw, &st, 1, &ref), 0, "%u", n);
	}
	struct mr_key4 k = key4(1000);
	struct mr_flow_state st = { .session = 1 };
	cr_assert_eq(mr_flows_insert4(t, &k, hash, &rw, &st, 1, &ref), -ENOSPC);
	cr_assert_eq(mr_flows_lookup4(t, &k, &hash, 1, &rec, NULL), 0u);
	cr_assert_null(rec);
	for (uint32_t n = 0; n < 4 * MR_FLOW_WAYS; n++) {
		k = key4(n);
		cr_assert_eq(mr_flows_lookup4(t, &k, &hash, 1, &rec, &copy), 1u, "%u", n);
		cr_assert_eq(copy.st.session, n + 1);
		cr_assert_eq(mr_flows_insert4(t, &k, hash, &rw, &st, 1, &ref), -EEXIST);
		cr_assert_eq(mr_flows_record4(t, ref), rec);
		cr_assert_eq(mr_flows_ref4(t, rec), ref);
	}
	cr_assert_eq(usage(t).overflow4, 2u * MR_FLOW_WAYS);
	mr_flows_destroy(t);
}

Test(flow, quarantine)
{
	struct mr_flows *t = table(1, 0);
	unsigned slots = (unsigned)usage(t).slots4, held = 0;
	mr_flow_ref ref[64], again;

	cr_assert_leq(slots, 64u);
	for (uint32_t n = 0; n < 64; n++)
		held += put4(t, n, 1000, &ref[n]) == 0;
	cr_assert_eq(held, slots, "every slot can be used");
	uint32_t seq = mr_flows_record4(t, ref[0])->st.seq;
	cr_assert_eq(mr_flows_free(t, ref[0], 1, 1000), 0);
	cr_assert_eq(put4(t, 100, 1000, &again), -ENOSPC);
	cr_assert_eq(put4(t, 100, 1000 + MR_FLOW_QUARANTINE_MS - 1, &again), -ENOSPC);
	cr_assert_eq(put4(t, 100, 998, &again), -ENOSPC, "a clock a little behind");
	cr_assert_eq(put4(t, 100, 1000 + MR_FLOW_QUARANTINE_MS, &again), 0);
	cr_assert_eq(again, ref[0]);
	cr_assert_gt(mr_flows_record4(t, again)->st.seq, seq + 1, "the sequence number goes on");
	mr_flows_destroy(t);
}

Test(flow, decide_undecide_mark)
{
	struct mr_flows *t = table(100, 100);
	struct mr_rewrite4 rw = rewrite4(1234);
	struct mr_rewrite6 rw6 = {
		.saddr_be = { 1, 2, 3, 4 }, .daddr_be = { 5, 6, 7, 8 }, .sport_be = 9, .l4_delta = 10
	};
	struct mr_key6 q = key6(3);
	struct mr_flow_state st = { .session = 8 };
	struct mr_rewrite6 none = { 0 };
	mr_flow_ref ref, ref6;

	cr_assert_eq(put4(t, 7, 1, &ref), 0);
	struct mr_flow_state *live = mr_flows_state(t, ref);
	live->packets = 5;
	live->bytes = 500;
	live->last_seen_ms = 50;
	uint32_t seq = live->seq;
	cr_assert_eq(mr_flows_decide4(t, ref, 7, 3, &rw, MR_FLOW_DECIDED, 4, 5, 6), -ESTALE);
	cr_assert_eq(mr_flows_decide4(t, MR_FLOW_NONE, 0, 3, &rw, 0, 4, 5, 6), -ESTALE);
	cr_assert_eq(mr_flows_decide4(t, ref, 8, 3, &rw, MR_FLOW_DECIDED | MR_FLOW_OFFLOAD, 4, 5, 6), 0);
	const struct mr_flow4 *r = mr_flows_record4(t, ref);
	cr_assert_eq(memcmp(&r->rewrite, &rw, sizeof(rw)), 0);
	cr_assert(r->key.ingress == 3 && r->st.nexthop == 4 && r->st.generation == 5 && r->st.effects == 6);
	cr_assert(r->st.packets == 5 && r->st.bytes == 500 && r->st.last_seen_ms == 50 && r->st.session == 8);
	cr_assert_eq(r->st.seq, seq + 2);
	mr_flows_mark(t, ref, 8, MR_FLOW_CLOSING, 0);
	mr_flows_undecide(t, ref, 8);
	cr_assert_eq(r->st.flags, MR_FLOW_CLOSING);
	cr_assert_eq(mr_flows_decide4(t, ref, 8, 3, &rw, MR_FLOW_DECIDED, 4, 5, 6), 0);
	cr_assert_eq(r->st.flags, MR_FLOW_DECIDED | MR_FLOW_CLOSING);
	mr_flows_mark(t, ref, 9, 0, MR_FLOW_CLOSING);
	cr_assert_eq(r->st.flags, MR_FLOW_DECIDED | MR_FLOW_CLOSING, "another session's mark");

	cr_assert_eq(mr_flows_insert6(t, &q, mr_flow_hash6(&q, SEED), &none, &st, 1, &ref6), 0);
	cr_assert_eq(mr_flows_decide4(t, ref6, 8, 3, &rw, 0, 0, 0, 0), -ESTALE, "wrong family");
	cr_assert_eq(mr_flows_decide6(t, ref, 8, 3, &rw6, 0, 0, 0, 0), -ESTALE, "wrong family");
	cr_assert_eq(mr_flows_decide6(t, ref6, 8, 3, &rw6, MR_FLOW_DECIDED, 4, 5, 6), 0);
	cr_assert_eq(memcmp(&mr_flows_record6(t, ref6)->rewrite, &rw6, sizeof(rw6)), 0);
	cr_assert_null(mr_flows_record4(t, ref6));
	cr_assert_null(mr_flows_record6(t, ref));
	cr_assert_null(mr_flows_state(t, MR_FLOW_NONE));
	mr_flows_destroy(t);
}

Test(flow, numbers_of_generations_come_round)
{
	struct mr_flows *t = table(100, 100);
	struct mr_rewrite4 rw = rewrite4(1);
	mr_flow_ref ref[3];

	for (uint32_t n = 0; n < 3; n++) {
		cr_assert_eq(put4(t, n, 1, &ref[n]), 0);
		cr_assert_eq(mr_flows_decide4(t, ref[n], n + 1, 3, &rw, MR_FLOW_DECIDED | MR_FLOW_OFFLOAD, 4,
				     (uint16_t)(n + 65534), 6),
			0);
	} /* 65534, 65535, and none */
	uint32_t seq = mr_flows_state(t, ref[1])->seq;
	mr_flows_outdate(t, 65535);
	cr_expect_eq(mr_flows_state(t, ref[0])->generation, 0, "it is of none any more");
	cr_expect_eq(mr_flows_state(t, ref[0])->flags, MR_FLOW_DECIDED | MR_FLOW_OFFLOAD);
	cr_expect_eq(mr_flows_state(t, ref[1])->generation, 65535);
	cr_expect_eq(mr_flows_state(t, ref[1])->seq, seq, "not even touched");
	cr_expect_eq(mr_flows_state(t, ref[2])->generation, 0);
	cr_expect_eq(mr_flows_decide4(t, ref[0], 1, 3, &rw, MR_FLOW_DECIDED, 4, 65535, 6), 0);
	cr_expect_eq(mr_flows_state(t, ref[0])->generation, 65535, "and is decided like any other");
	mr_flows_destroy(t);
}

Test(flow, pair_is_both_or_neither)
{
	struct mr_flows *t = table(1000, 0);
	struct mr_rewrite4 rw = rewrite4(0);
	struct mr_flow_state st[2] = { { .session = 50 }, { .session = 50, .flags = MR_FLOW_REPLY } };
	mr_flow_ref old, ref[2];
	uint32_t holder = 0;

	for (unsigned taken = 0; taken < 2; taken++) {
		struct mr_key4 k[2] = { key4(10 + taken * 2), key4(11 + taken * 2) };
		struct mr_flow_insert in[2] = { { &k[0], mr_flow_hash4(&k[0], SEED), &rw, &st[0] },
			{ &k[1], mr_flow_hash4(&k[1], SEED), &rw, &st[1] } };
		cr_assert_eq(put4(t, 10 + taken * 3, 1, &old), 0);
		cr_assert_eq(mr_flows_insert_pair(t, false, in, 1, ref, &holder), -EEXIST);
		cr_assert_eq(ref[0], old);
		cr_assert_eq(holder, 11 + taken * 3);
		cr_assert_null(get4(t, taken ? 12 : 11, NULL), "the other one was not made");
		cr_assert_eq(mr_flows_free(t, old, 0, 1), 0);
		cr_assert_eq(mr_flows_insert_pair(t, false, in, 1, ref, &holder), 0);
		cr_assert_eq(mr_flows_ref4(t, get4(t, 10 + taken * 2, NULL)), ref[0]);
		cr_assert_eq(mr_flows_ref4(t, get4(t, 11 + taken * 2, NULL)), ref[1]);
	}
	cr_assert_eq(usage(t).live4, 4u);
	mr_flows_destroy(t);
}

/* ---- many ----------------------------------------------------------------------------------------------- */

/* Everything that was promised fits, is found, and leaves nothing behind. */
Test(flow, holds_its_capacity)
{
	static const uint32_t capacities[] = { 1, 2, 7, 100, 1024, 50000 };

	for (unsigned c = 0; c < sizeof(capacities) / sizeof(*capacities); c++) {
		uint32_t cnt = capacities[c];
		struct mr_flows *t = table(cnt, 0);
		mr_flow_ref *ref = calloc(cnt, sizeof(*ref));
		struct mr_flow4 copy;
		for (uint32_t n = 0; n < cnt; n++)
			cr_assert_eq(put4(t, n, 1, &ref[n]), 0, "%u of %u", n, cnt);
		cr_assert_eq(usage(t).live4, cnt);
		for (uint32_t n = 0; n < cnt; n++) {
			struct mr_flow4 *rec = get4(t, n, &copy);
			cr_assert_eq(mr_flows_ref4(t, rec), ref[n]);
			cr_assert_eq(mr_flows_record4(t, ref[n]), rec);
			cr_assert_eq(copy.rewrite.saddr_be, n);
		}
		for (uint32_t n = cnt; n < 2 * cnt; n++)
			cr_assert_null(get4(t, n, NULL));
		for (uint32_t n = 0; n < cnt; n += 2)
			cr_assert_eq(mr_flows_free(t, ref[n], n + 1, 1), 0);
		for (uint32_t n = 0; n < cnt; n++)
			cr_assert_eq(get4(t, n, NULL) != NULL, n % 2);
		for (uint32_t n = 1; n < cnt; n += 2)
			cr_assert_eq(mr_flows_free(t, ref[n], 0, 1), 0);
		cr_assert_eq(usage(t).live4 + usage(t).overflow4, 0u);
		const struct mr_bucket4 *b = (const struct mr_bucket4 *)((const char *)mr_flows_record4(t, 0) - 64);
		for (uint32_t i = 0; i < mr_flows_buckets4(t); i++)
			cr_assert_eq(b[i].head.spill + b[i].head.spilled + b[i].head.lock, 0u);
		free(ref);
		mr_flows_destroy(t);
	}
}

Test(flow, bulk_lookup_every_length)
{
	struct mr_flows *t = table(2000, 2000);
	struct mr_rewrite6 rw6 = { .reserved = 0 };
	mr_flow_ref ref;

	for (uint32_t n = 0; n < 2000; n++) {
		struct mr_key6 q = key6(n);
		struct mr_flow_state st = { .session = n + 1 };
		cr_assert_eq(put4(t, n, 1, &ref), 0);
		cr_assert_eq(mr_flows_insert6(t, &q, mr_flow_hash6(&q, SEED), &rw6, &st, 1, &ref), 0);
		cr_assert_eq(mr_flows_ref6(t, mr_flows_record6(t, ref)), ref);
	}
	for (unsigned n = 0; n <= 64; n++) {
		struct mr_key4 k[64];
		struct mr_key6 q[64];
		uint64_t h4[64], h6[64], want = 0;
		uint32_t id[64];
		struct mr_flow4 *r4[64], c4[64];
		struct mr_flow6 *r6[64], c6[64];
		for (unsigned i = 0; i < n; i++) {
			id[i] = (uint32_t)(random64() % 3000);
			want |= (uint64_t)(id[i] < 2000) << i;
			k[i] = key4(id[i]);
			q[i] = key6(id[i]);
			h4[i] = mr_flow_hash4(&k[i], SEED);
			h6[i] = mr_flow_hash6(&q[i], SEED);
		}
		cr_assert_eq(mr_flows_lookup4(t, k, h4, n, r4, n % 2 ? c4 : NULL), want);
		cr_assert_eq(mr_flows_lookup6(t, q, h6, n, r6, n % 2 ? c6 : NULL), want);
		for (unsigned i = 0; i < n; i++) {
			cr_assert_eq(r4[i] != NULL, want >> i & 1);
			cr_assert_eq(r6[i] != NULL, want >> i & 1);
			if (!r4[i] || !(n % 2))
				continue;
			cr_assert(c4[i].st.session == id[i] + 1 && c6[i].st.session == id[i] + 1);
			cr_assert_eq(memcmp(&c6[i].key, &q[i], sizeof(q[i])), 0);
		}
	}
	mr_flows_destroy(t);
}

Test(flow, full_table_says_so)
{
	struct mr_flows *t = table(1000, 0);
	uint32_t held = 0;
	mr_flow_ref ref;

	for (uint32_t n = 0; n < 3000; n++) {
		int err = put4(t, n, 1, &ref);
		cr_assert(err == 0 || err == -ENOSPC);
		held += !err;
	}
	cr_assert_eq(usage(t).live4, held);
	cr_assert(held > 1100, "only %u", held);
	cr_assert_leq(held, usage(t).slots4);
	mr_flows_destroy(t);
}

static void count_record(void *ctx, mr_flow_ref ref, const struct mr_flow_state *st)
{
	unsigned *seen = ctx;

	if (st->session)
		seen[st->session - 1]++;
}

/* In slices of any size every record is met once, those of both families and of the overflow. */
Test(flow, slices_meet_every_record_once)
{
	enum { FOUR = 4096, SIX = 300, OVER = 4 * MR_FLOW_WAYS, ALL = FOUR + SIX + OVER };
	static unsigned seen[ALL];
	static bool refused[ALL];
	struct mr_flows *t = table(8192, 1024);
	mr_flow_ref ref;

	for (uint32_t i = 0; i < FOUR; i++)
		cr_assert_eq(put4(t, i, 1000, &ref), 0);
	for (uint32_t i = 0; i < SIX; i++) {
		struct mr_key6 k = key6(i);
		struct mr_rewrite6 rw = { .sport_be = (uint16_t)i };
		struct mr_flow_state st = { .session = FOUR + i + 1 };
		cr_assert_eq(mr_flows_insert6(t, &k, mr_flow_hash6(&k, SEED), &rw, &st, 1000, &ref), 0);
	}
	for (uint32_t i = 0; i < OVER; i++) { /* two buckets full of one hash, and then the overflow */
		struct mr_key4 k = key4(100000 + i);
		struct mr_rewrite4 rw = { 0 };
		struct mr_flow_state st = { .session = FOUR + SIX + i + 1 };
		/* what others took of the buckets, these do not get */
		if (mr_flows_insert4(t, &k, 0x1234567812345678ULL, &rw, &st, 1000, &ref))
			refused[FOUR + SIX + i] = true;
	}
	cr_assert_gt(usage(t).overflow4, 0u);
	for (uint32_t slice = 1; slice < 5000; slice = slice * 3 + 1) {
		uint64_t at = 0, was;
		memset(seen, 0, sizeof(seen));
		bool more;
		do {
			was = at;
			more = mr_flows_each_some(t, &at, slice, count_record, seen);
			cr_assert(at > was || !more, "it goes on");
		} while (more);
		for (unsigned i = 0; i < ALL; i++)
			cr_assert_eq(
				seen[i], !refused[i], "record %u was met %u times in slices of %u", i, seen[i], slice);
	}
	mr_flows_destroy(t);
}

Test(flow, memory_given_or_none)
{
	size_t bytes = mr_flows_bytes4(1000);
	void *memory = aligned_alloc(64, bytes);
	struct mr_flows_options opt = { .capacity4 = 1000, .memory4 = memory, .seed = SEED, .want_huge = true };
	struct mr_error e = { "" };
	struct mr_flows *t;
	mr_flow_ref ref;

	memset(memory, 0, bytes);
	cr_assert_eq(bytes, 157 * sizeof(struct mr_bucket4));
	cr_assert_eq(mr_flows_create(&opt, &t, &e), 0);
	for (uint32_t n = 0; n < 1000; n++)
		cr_assert_eq(put4(t, n, 1, &ref), 0);
	struct mr_flow4 *rec = get4(t, 1, NULL);
	cr_assert((char *)rec > (char *)memory && (char *)rec < (char *)memory + bytes);
	cr_assert_eq(mr_flows_buckets4(t), bytes / sizeof(struct mr_bucket4));
	/* No IPv6 here: nothing is found and nothing fits. */
	struct mr_key6 q = key6(1);
	uint64_t h = mr_flow_hash6(&q, SEED);
	struct mr_rewrite6 rw = { 0 };
	struct mr_flow_state st = { 0 };
	struct mr_flow6 *r6 = (void *)1;
	cr_assert_eq(mr_flows_lookup6(t, &q, &h, 1, &r6, NULL), 0u);
	cr_assert_null(r6);
	cr_assert_eq(mr_flows_insert6(t, &q, h, &rw, &st, 1, &ref), -ENOSPC);
	mr_flows_destroy(t);

	opt.memory4 = (char *)memory + 8;
	cr_assert_eq(mr_flows_create(&opt, &t, &e), -EINVAL);
	cr_assert_neq(e.text[0], 0);
	opt.memory4 = NULL;
	opt.capacity4 = UINT32_MAX;
	cr_assert_eq(mr_flows_create(&opt, &t, &e), -EINVAL);
	mr_flows_destroy(NULL);
	free(memory);
}

Test(flow, random_seed_differs)
{
	struct mr_flows_options opt = { .capacity4 = 10 };
	struct mr_flows *a, *b;

	cr_assert_eq(mr_flows_create(&opt, &a, NULL), 0);
	cr_assert_eq(mr_flows_create(&opt, &b, NULL), 0);
	cr_assert_neq(mr_flows_seed(a), mr_flows_seed(b));
	mr_flows_destroy(a);
	mr_flows_destroy(b);
}

/* ---- at once -------------------------------------------------------------------------------------------- */

/* Writers insert, decide and free a few keys of a tiny table, whose slots therefore change owners all the time; a reader's copy must
 * always be of one moment: rewrite, next hop and session belong to its key.  Quarantine is skipped by a clock that jumps. */
#define KEYS    40
#define WRITERS 2
#define TURNS   100000

static struct mr_flows *shared;
static bool stop;
static unsigned torn, found;
static int64_t balance;

static void *writer(void *arg)
{
	uint64_t x = (uintptr_t)arg * 0x9e3779b97f4a7c15ULL + 1;

	for (uint32_t turn = 0; turn < TURNS; turn++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		uint32_t n = (uint32_t)(x >> 33) % KEYS, now_ms = 1000 + turn * 2 * MR_FLOW_QUARANTINE_MS;
		mr_flow_ref ref;
		int err = put4(shared, n, now_ms, &ref);
		if (!err) {
			__atomic_fetch_add(&balance, 1, __ATOMIC_RELAXED);
		} else if (err == -EEXIST && x & 1) {
			struct mr_rewrite4 rw = rewrite4(n + (x >> 20 & 1) * 1000000);
			mr_flows_decide4(shared, ref, n + 1, 0, &rw, MR_FLOW_DECIDED, (uint16_t)n, 0, 0);
		} else if (err == -EEXIST) {
			if (!mr_flows_free(shared, ref, n + 1, now_ms))
				__atomic_fetch_sub(&balance, 1, __ATOMIC_RELAXED);
		}
	}
	return NULL;
}

static void *reader(void *arg)
{
	(void)arg;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		struct mr_key4 k[KEYS];
		uint64_t h[KEYS];
		struct mr_flow4 *rec[KEYS], copy[KEYS];
		for (uint32_t n = 0; n < KEYS; n++) {
			k[n] = key4(n);
			h[n] = mr_flow_hash4(&k[n], SEED);
		}
		uint64_t hits = mr_flows_lookup4(shared, k, h, KEYS, rec, copy);
		for (; hits; hits &= hits - 1) {
			uint32_t n = (uint32_t)__builtin_ctzll(hits), as = copy[n].rewrite.saddr_be;
			struct mr_rewrite4 rw = rewrite4(as);
			if (as % 1000000 != n || memcmp(&rw, &copy[n].rewrite, sizeof(rw)) ||
				copy[n].st.session != n + 1 || copy[n].st.nexthop != n ||
				memcmp(&k[n], &copy[n].key, sizeof(k[n])))
				__atomic_fetch_add(&torn, 1, __ATOMIC_RELAXED);
			__atomic_fetch_add(&found, 1, __ATOMIC_RELAXED);
		}
	}
	return NULL;
}

Test(flow, readers_see_whole_records)
{
	pthread_t w[WRITERS], r[2];

	shared = table(KEYS / 2, 0);
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&r[i], NULL, reader, NULL);
	for (uintptr_t i = 0; i < WRITERS; i++)
		pthread_create(&w[i], NULL, writer, (void *)(i + 1));
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(w[i], NULL);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(r[i], NULL);
	cr_assert_eq(torn, 0u, "%u of %u", torn, found);
	cr_assert_gt(found, 100u);
	cr_assert_eq(usage(shared).live4, (uint64_t)balance);
	/* What is left is there once and can be taken away: counts, spills and locks are whole. */
	for (uint32_t n = 0; n < KEYS; n++) {
		struct mr_flow4 *rec = get4(shared, n, NULL);
		if (rec)
			cr_assert_eq(mr_flows_free(shared, mr_flows_ref4(shared, rec), n + 1, 1), 0);
		cr_assert_null(get4(shared, n, NULL));
	}
	cr_assert_eq(usage(shared).live4 + usage(shared).overflow4, 0u);
	mr_flows_destroy(shared);
}

/* A record held odd is nobody's to use; the reader neither waits for ever nor takes it. */
Test(flow, half_written_is_not_found)
{
	struct mr_flows *t = table(10, 0);
	mr_flow_ref ref;

	cr_assert_eq(put4(t, 1, 1, &ref), 0);
	struct mr_flow_state *st = mr_flows_state(t, ref);
	__atomic_store_n(&st->seq, st->seq + 1, __ATOMIC_RELAXED);
	cr_assert_null(get4(t, 1, NULL));
	__atomic_store_n(&st->seq, st->seq + 1, __ATOMIC_RELAXED);
	cr_assert_not_null(get4(t, 1, NULL));
	mr_flows_destroy(t);
}

/* One long record, decided anew all the time: every copy is of one decision. */
static void *decider(void *arg)
{
	mr_flow_ref ref = *(mr_flow_ref *)arg;

	for (uint32_t i = 1; i < 600000; i++) {
		struct mr_rewrite6 rw = { .saddr_be = { i, i, i, i }, .daddr_be = { i, i, i, i } };
		mr_flows_decide6(shared, ref, 1, 0, &rw, MR_FLOW_DECIDED, (uint16_t)i, (uint16_t)i, (uint16_t)i);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	return NULL;
}

Test(flow, copies_are_of_one_decision)
{
	struct mr_rewrite6 rw = { .reserved = 0 };
	struct mr_flow_state st = { .session = 1 };
	struct mr_key6 k = key6(1);
	uint64_t hash = mr_flow_hash6(&k, SEED);
	mr_flow_ref ref;
	pthread_t w;

	shared = table(0, 10);
	cr_assert_eq(mr_flows_insert6(shared, &k, hash, &rw, &st, 1, &ref), 0);
	pthread_create(&w, NULL, decider, &ref);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		struct mr_flow6 *rec, c;
		if (!mr_flows_lookup6(shared, &k, &hash, 1, &rec, &c))
			continue; /* too busy to be read */
		found++;
		for (unsigned i = 0; i < 4; i++)
			torn += c.rewrite.saddr_be[i] != c.rewrite.saddr_be[0] ||
				c.rewrite.daddr_be[i] != c.rewrite.saddr_be[0];
		torn += c.st.nexthop != (uint16_t)c.rewrite.saddr_be[0] || c.st.effects != c.st.nexthop;
	}
	pthread_join(w, NULL);
	cr_assert_eq(torn, 0u, "%u of %u", torn, found);
	cr_assert_gt(found, 1000u);
	mr_flows_destroy(shared);
}
