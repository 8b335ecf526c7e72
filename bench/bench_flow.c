/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench_flow.c - the flow table next to DPDK's rte_hash, with the same keys, in the same process, in turn.
 *
 *     bench_flow [--rounds N] [--burst 32] [--sizes 1024,32768,1048576] [--json FILE]
 *
 * Both are asked for the same 16-byte IPv4 keys in the same random order, a burst at a time; both compute their own hash inside
 * the time taken.  What a lookup includes:
 *     find        ours: hash, head, tags, the record's key compared under its sequence number → pointer to the record
 *                 rte:  CRC hash, bucket, signatures, key compared → pointer that was stored with the key
 *     take        the decision in hand as well: ours a consistent copy of the 64-byte record; rte the 64 bytes copied from where
 *                 the pointer leads (no protection against a writer)
 *     miss        keys that are not there
 *     insert, delete   one key each
 * Both tables are made for as many keys as they hold.  The series take turns in slices short against a scheduler's; each round runs every series once; a line of JSON for each goes to
 * stdout or FILE (bench/results.py record makes a result of them), a table of medians to stderr.
 */
#include "bench/bench.h"
#include "core/flow.h"
#include <rte_eal.h>
#include <rte_hash.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <x86intrin.h>

#define BURST_MAX  64
#define ROUNDS_MAX 101
#define LOOKUPS    (1u << 20)
#define SLICES     64 /* the series take turns after this part of the lookups; a round counts its median slice */
#define SLICE      (LOOKUPS / SLICES)
#define SEED       0x5851f42d4c957f2dULL

enum series {
	OURS_FIND,
	RTE_FIND,
	OURS_TAKE,
	RTE_TAKE,
	OURS_MISS,
	RTE_MISS,
	OURS_INSERT,
	RTE_INSERT,
	OURS_DELETE,
	RTE_DELETE,
	SERIES_CNT
};
static const char *const series_name[] = { "find", "rte_hash find", "take", "rte_hash take", "miss", "rte_hash miss",
	"insert", "rte_hash insert", "delete", "rte_hash delete" };

static struct {
	uint32_t cnt; /* keys in the tables */
	unsigned burst;
	struct mr_flows *ours;
	struct rte_hash *rte;
	struct mr_flow4 *data;      /* what rte's pointers lead to */
	struct mr_key4 *hit, *miss; /* LOOKUPS each, in the order asked for */
	mr_flow_ref *ref;
	uint32_t now_ms;
} b;

static double clocks[SERIES_CNT][ROUNDS_MAX];

static void die(const char *what)
{
	fprintf(stderr, "bench_flow: %s\n", what);
	exit(1);
}

static void *pages(size_t bytes)
{
	size_t huge = (bytes + (2u << 20) - 1) & ~(size_t)((2u << 20) - 1);
	void *p = mmap(
		NULL, huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		p = mmap(NULL, huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (p == MAP_FAILED)
		die("no memory");
	return p;
}

static struct mr_key4 key_of(uint32_t n)
{
	uint64_t x = (n + 1) * 0x9e3779b97f4a7c15ULL;

	x ^= x >> 32;
	return (struct mr_key4){ .zone = MR_ZONE_DEFAULT,
		.proto = 17,
		.saddr_be = 0x0a000000 + n / 64,
		.daddr_be = (uint32_t)x,
		.sport_be = (uint16_t)(1024 + n % 64),
		.dport_be = 53 };
}

static int ascending(const void *x, const void *y)
{
	double p = *(const double *)x, q = *(const double *)y;

	return (p > q) - (p < q);
}

static double middle(double *values, unsigned cnt)
{
	qsort(values, cnt, sizeof(*values), ascending);
	return cnt % 2 ? values[cnt / 2] : (values[cnt / 2 - 1] + values[cnt / 2]) / 2;
}

/* ---- what is measured ----------------------------------------------------------------------------------- */

static uint64_t ours_lookup(const struct mr_key4 *keys, bool take)
{
	struct mr_key4 key[BURST_MAX];
	uint64_t hash[BURST_MAX], sum = 0;
	struct mr_flow4 *rec[BURST_MAX], copy[BURST_MAX];

	for (uint32_t at = 0; at < SLICE; at += b.burst) {
		memcpy(key, keys + at, b.burst * sizeof(*key));
		for (unsigned i = 0; i < b.burst; i++)
			hash[i] = mr_flow_hash4(&key[i], SEED);
		uint64_t hits = mr_flows_lookup4(b.ours, key, hash, b.burst, rec, take ? copy : NULL);
		sum += (uint64_t)__builtin_popcountll(hits);
		__asm__ volatile("" : : "r"(rec), "r"(copy) : "memory");
	}
	return sum;
}

static uint64_t rte_lookup(const struct mr_key4 *keys, bool take)
{
	struct mr_key4 key[BURST_MAX];
	const void *at_key[BURST_MAX];
	void *data[BURST_MAX];
	struct mr_flow4 copy[BURST_MAX];
	uint64_t sum = 0, hits;

	for (unsigned i = 0; i < b.burst; i++)
		at_key[i] = &key[i];
	for (uint32_t at = 0; at < SLICE; at += b.burst) {
		memcpy(key, keys + at, b.burst * sizeof(*key));
		rte_hash_lookup_bulk_data(b.rte, at_key, b.burst, &hits, data);
		sum += (uint64_t)__builtin_popcountll(hits);
		if (take) {
			for (uint64_t left = hits; left; left &= left - 1)
				__builtin_prefetch(data[__builtin_ctzll(left)]);
			for (uint64_t left = hits; left; left &= left - 1)
				copy[__builtin_ctzll(left)] = *(struct mr_flow4 *)data[__builtin_ctzll(left)];
		}
		__asm__ volatile("" : : "r"(data), "r"(copy) : "memory");
	}
	return sum;
}

static void ours_insert(uint32_t begin, uint32_t end)
{
	struct mr_rewrite4 rw = { 0 };

	for (uint32_t n = begin; n < end; n++) {
		struct mr_key4 k = key_of(n);
		struct mr_flow_state st = { .session = n + 1 };
		if (mr_flows_insert4(b.ours, &k, mr_flow_hash4(&k, SEED), &rw, &st, b.now_ms, &b.ref[n]))
			die("our table is full");
	}
}

static void ours_delete(uint32_t begin, uint32_t end)
{
	for (uint32_t n = begin; n < end; n++) {
		if (mr_flows_free(b.ours, b.ref[n], n + 1, b.now_ms))
			die("a record is lost");
	}
}

static void rte_insert(uint32_t begin, uint32_t end)
{
	for (uint32_t n = begin; n < end; n++) {
		struct mr_key4 k = key_of(n);
		if (rte_hash_add_key_data(b.rte, &k, &b.data[n]))
			die("rte_hash is full");
	}
}

static void rte_delete(uint32_t begin, uint32_t end)
{
	for (uint32_t n = begin; n < end; n++) {
		struct mr_key4 k = key_of(n);
		if (rte_hash_del_key(b.rte, &k) < 0)
			die("rte_hash lost a key");
	}
}

static double lookup_clocks(enum series s, unsigned slice)
{
	const struct mr_key4 *hit = b.hit + slice * SLICE, *miss = b.miss + slice * SLICE;
	uint64_t got = 0, begin = __rdtsc();

	switch (s) {
	case OURS_FIND:
		got = ours_lookup(hit, false);
		break;
	case RTE_FIND:
		got = rte_lookup(hit, false);
		break;
	case OURS_TAKE:
		got = ours_lookup(hit, true);
		break;
	case RTE_TAKE:
		got = rte_lookup(hit, true);
		break;
	case OURS_MISS:
		got = ours_lookup(miss, false);
		break;
	default:
		got = rte_lookup(miss, false);
		break;
	}
	uint64_t end = __rdtsc();
	if (got != (s == OURS_MISS || s == RTE_MISS ? 0 : SLICE))
		die("a lookup found what it should not, or not what it should");
	return (double)(end - begin) / SLICE;
}

static void measure_lookups(unsigned round)
{
	double part[SERIES_CNT][SLICES];

	for (unsigned slice = 0; slice < SLICES; slice++) {
		for (enum series s = OURS_FIND; s <= RTE_MISS; s++)
			part[s][slice] = lookup_clocks(s, slice);
	}
	for (enum series s = OURS_FIND; s <= RTE_MISS; s++)
		clocks[s][round] = middle(part[s], SLICES);
}

static void measure_each(enum series s, unsigned round, void (*each)(uint32_t begin, uint32_t end))
{
	static double part[4096];
	unsigned cnt = 0;
	uint32_t step = b.cnt / SLICES < 256 ? 256 : b.cnt / SLICES > 4096 ? 4096 : b.cnt / SLICES;

	for (uint32_t n = 0; n < b.cnt; n += step) {
		uint32_t until = b.cnt - n < step ? b.cnt : n + step;
		uint64_t begin = __rdtsc();
		each(n, until);
		part[cnt++] = (double)(__rdtsc() - begin) / (until - n);
	}
	clocks[s][round] = middle(part, cnt);
}

/* ---- one size ------------------------------------------------------------------------------------------- */

static void make(uint32_t cnt)
{
	struct mr_flows_options fo = { .capacity4 = cnt, .seed = SEED, .want_huge = true };
	char name[32];
	struct mr_error e = { "" };

	snprintf(name, sizeof(name), "flows%u", cnt);
	struct rte_hash_parameters hp = { .name = name, .entries = cnt + cnt / 4, .key_len = sizeof(struct mr_key4) };
	b.cnt = cnt;
	if (mr_flows_create(&fo, &b.ours, &e))
		die(e.text);
	b.rte = rte_hash_create(&hp);
	if (!b.rte)
		die("rte_hash_create failed");
	b.data = pages(cnt * sizeof(*b.data));
	b.ref = calloc(cnt, sizeof(*b.ref));
	for (uint32_t i = 0; i < LOOKUPS; i++) {
		b.hit[i] = key_of((uint32_t)(bench_random64() % cnt));
		b.miss[i] = key_of((uint32_t)(cnt + bench_random64() % cnt));
	}
	/* Every key once, in random order, where there are as many. */
	for (uint32_t i = 0; cnt >= LOOKUPS && i < LOOKUPS; i++)
		b.hit[i] = key_of(i);
	for (uint32_t i = LOOKUPS - 1; cnt >= LOOKUPS && i; i--) {
		uint32_t j = (uint32_t)(bench_random64() % (i + 1));
		struct mr_key4 k = b.hit[i];
		b.hit[i] = b.hit[j];
		b.hit[j] = k;
	}
}

static void unmake(void)
{
	mr_flows_destroy(b.ours);
	rte_hash_free(b.rte);
	munmap(b.data, ((size_t)b.cnt * sizeof(*b.data) + (2u << 20) - 1) & ~(size_t)((2u << 20) - 1));
	free(b.ref);
}

static void run(uint32_t cnt, unsigned rounds, FILE *out)
{
	struct mr_flows_usage u;
	double ratio[ROUNDS_MAX];

	make(cnt);
	for (unsigned round = 0; round < rounds; round++) {
		measure_each(OURS_INSERT, round, ours_insert);
		measure_each(RTE_INSERT, round, rte_insert);
		measure_lookups(round);
		if (round + 1 == rounds)
			mr_flows_usage(b.ours, &u);
		measure_each(OURS_DELETE, round, ours_delete);
		measure_each(RTE_DELETE, round, rte_delete);
		b.now_ms += 1000; /* past the quarantine */
	}
	fprintf(stderr,
		"%u keys, bursts of %u; ours %s pages, %.0f bytes a record, %.1f %% of slots, %lu in the overflow\n",
		cnt, b.burst, u.huge ? "huge" : "small", (double)u.bytes / cnt,
		100.0 * (double)u.live4 / (double)u.slots4, (unsigned long)u.overflow4);
	for (enum series s = 0; s < SERIES_CNT; s += 2) {
		for (unsigned r = 0; r < rounds; r++) {
			for (unsigned i = 0; i < 2; i++)
				fprintf(out, "{\"series\": \"%s %u\", \"value\": %.2f}\n", series_name[s + i], cnt,
					clocks[s + i][r]);
			ratio[r] = clocks[s][r] / clocks[s + 1][r];
		}
		double x = middle(clocks[s], rounds), y = middle(clocks[s + 1], rounds), q = middle(ratio, rounds);
		fprintf(stderr,
			"  %-8s %7.1f (%.1f to %.1f)   rte_hash %7.1f (%.1f to %.1f)   ratio %.2f (%.2f to %.2f)\n",
			series_name[s], x, clocks[s][0], clocks[s][rounds - 1], y, clocks[s + 1][0],
			clocks[s + 1][rounds - 1], q, ratio[0], ratio[rounds - 1]);
	}
	unmake();
}

int main(int argc, char **argv)
{
	char *eal_huge[] = { argv[0], "--in-memory", "--no-pci", "--no-telemetry", "-l", "0", "--log-level", "error",
		NULL };
	char *eal_small[] = { argv[0], "--no-huge", "-m", "512", "--no-pci", "--no-telemetry", "-l", "0", "--log-level",
		"error", NULL };
	const char *sizes = "1024,32768,1048576";
	unsigned rounds = 15;
	FILE *out = stdout;
	void *probe = mmap(NULL, 320u << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	bool huge = probe != MAP_FAILED;

	b.burst = 32;
	b.now_ms = 1000;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--rounds"))
			rounds = (unsigned)atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--burst"))
			b.burst = (unsigned)atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--sizes"))
			sizes = argv[i + 1];
		else if (!strcmp(argv[i], "--json"))
			out = fopen(argv[i + 1], "w");
		else
			die("[--rounds N] [--burst 32|64] [--sizes N,N] [--json FILE]");
	}
	if (!out || !rounds || rounds > ROUNDS_MAX || (b.burst != 32 && b.burst != 64 && b.burst != 16))
		die("[--rounds N] [--burst 16|32|64] [--sizes N,N] [--json FILE]");
	if (huge)
		munmap(probe, 320u << 20);
	else
		fprintf(stderr, "bench_flow: fewer than 160 huge pages are free: both sides use small ones\n");
	if (huge ? rte_eal_init(8, eal_huge) < 0 : rte_eal_init(10, eal_small) < 0)
		die("DPDK does not start");
	b.hit = pages(LOOKUPS * sizeof(*b.hit));
	b.miss = pages(LOOKUPS * sizeof(*b.miss));
	for (const char *at = sizes; *at; at += *at == ',') {
		char *end;
		uint32_t cnt = (uint32_t)strtoul(at, &end, 10);
		if (end == at || !cnt)
			die("--sizes takes numbers");
		run(cnt, rounds, out);
		at = end;
	}
	fflush(out);
	return ferror(out) ? 1 : 0;
}
