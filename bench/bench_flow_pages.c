/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench_flow_pages.c - what a worker's lookups cost where the flow table lies: huge pages, ordinary ones, or a BPF array, which is where it lies with
 * a kernel tier (core/tier.h).
 *
 *     bench_flow_pages [--rounds N] [--flows 1000,64000,1000000] [--json FILE]
 *
 * The same keys in the same order in one process, in turn, 32 at a time, all hits in random order with the decision taken along.  Needs
 * CAP_BPF.  A line of JSON for each value goes to stdout or FILE, a table of medians to stderr.
 */
#include "bench/bench.h"
#include "core/flow.h"

#include <bpf/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <x86intrin.h>

#define BURST      32
#define LOOKUPS    (1u << 20) /* of a round */
#define ROUNDS_MAX 100
#define SEED       42

enum where { HUGE, SMALL, ARRAY, WHERE_CNT };

static const char *const where_name[WHERE_CNT] = { "huge pages", "ordinary pages", "BPF array" };

static struct mr_flows *table[WHERE_CNT];
static int map_fd;
static void *map;
static struct mr_key4 *keys; /* [LOOKUPS] in the order they are looked up */
static double clocks[WHERE_CNT][ROUNDS_MAX];

static void die(const char *what)
{
	fprintf(stderr, "bench_flow_pages: %s\n", what);
	exit(1);
}

static struct mr_key4 key_of(uint32_t n)
{
	return (struct mr_key4){ .zone = MR_ZONE_DEFAULT,
		.proto = 17,
		.saddr_be = 0x0a000000 + n / 64,
		.daddr_be = n * 2654435761u,
		.sport_be = (uint16_t)(1024 + n % 64),
		.dport_be = 53 };
}

static void open_map(uint32_t flow_cnt)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_MMAPABLE);
	size_t bytes = mr_flows_bytes4(flow_cnt);

	map_fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "bench_flows4", 4, sizeof(struct mr_bucket4),
		(uint32_t)(bytes / sizeof(struct mr_bucket4)), &opts);
	map = map_fd < 0 ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
	if (map == MAP_FAILED)
		die("the kernel gives no array (CAP_BPF is needed)");
}

static void make(uint32_t flow_cnt)
{
	struct mr_flow_state st = { .flags = MR_FLOW_DECIDED, .generation = 1 };
	struct mr_rewrite4 rw = { 0 };
	struct mr_error e = { "" };

	open_map(flow_cnt);
	for (unsigned w = 0; w < WHERE_CNT; w++) {
		struct mr_flows_options opt = {
			.capacity4 = flow_cnt, .seed = SEED, .want_huge = w == HUGE, .memory4 = w == ARRAY ? map : NULL
		};
		mr_flow_ref ref;
		if (mr_flows_create(&opt, &table[w], &e))
			die(e.text);
		for (uint32_t n = 0; n < flow_cnt; n++) {
			struct mr_key4 k = key_of(n);
			if (mr_flows_insert4(table[w], &k, mr_flow_hash4(&k, SEED), &rw, &st, 1000, &ref))
				die("a record has no room");
		}
	}
	for (uint32_t i = 0; i < LOOKUPS; i++)
		keys[i] = key_of((uint32_t)(bench_random64() % flow_cnt));
}

static void unmake(uint32_t flow_cnt)
{
	for (unsigned w = 0; w < WHERE_CNT; w++)
		mr_flows_destroy(table[w]);
	munmap(map, mr_flows_bytes4(flow_cnt));
	close(map_fd);
}

static double lookup_clocks(const struct mr_flows *t)
{
	struct mr_key4 key[BURST];
	struct mr_flow4 *rec[BURST], copy[BURST];
	uint64_t hash[BURST], got = 0, begin = __rdtsc();

	for (uint32_t at = 0; at < LOOKUPS; at += BURST) {
		memcpy(key, keys + at, sizeof(key));
		for (unsigned i = 0; i < BURST; i++)
			hash[i] = mr_flow_hash4(&key[i], SEED);
		got += (uint64_t)__builtin_popcountll(mr_flows_lookup4(t, key, hash, BURST, rec, copy));
		__asm__ volatile("" : : "r"(rec), "r"(copy) : "memory");
	}
	uint64_t end = __rdtsc();
	if (got != LOOKUPS)
		die("a record was not found");
	return (double)(end - begin) / LOOKUPS;
}

static int ascending(const void *x, const void *y)
{
	double p = *(const double *)x, q = *(const double *)y;

	return (p > q) - (p < q);
}

static void run(uint32_t flow_cnt, unsigned rounds, FILE *out)
{
	struct mr_flows_usage u;

	make(flow_cnt);
	mr_flows_usage(table[HUGE], &u);
	for (unsigned round = 0; round < rounds; round++)
		for (unsigned i = 0; i < WHERE_CNT; i++) {
			unsigned w = (round + i) % WHERE_CNT;
			clocks[w][round] = lookup_clocks(table[w]);
			fprintf(out, "{\"series\": \"%s %u\", \"value\": %.2f}\n", where_name[w], flow_cnt,
				clocks[w][round]);
		}
	fprintf(stderr, "%u flows (huge pages: %s)\n", flow_cnt, u.huge ? "reserved" : "transparent, if there are");
	for (unsigned w = 0; w < WHERE_CNT; w++) {
		qsort(clocks[w], rounds, sizeof(clocks[w][0]), ascending);
		fprintf(stderr, "  %-16s %6.1f clocks a key (%.1f to %.1f)\n", where_name[w], clocks[w][rounds / 2],
			clocks[w][0], clocks[w][rounds - 1]);
	}
	unmake(flow_cnt);
}

int main(int argc, char **argv)
{
	const char *flows = "1000,64000,1000000";
	unsigned rounds = 9;
	FILE *out = stdout;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--rounds"))
			rounds = (unsigned)atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--flows"))
			flows = argv[i + 1];
		else if (!strcmp(argv[i], "--json"))
			out = fopen(argv[i + 1], "w");
		else
			die("[--rounds N] [--flows N,N] [--json FILE]");
	}
	keys = malloc(LOOKUPS * sizeof(*keys));
	if (!out || !keys || !rounds || rounds > ROUNDS_MAX)
		die("[--rounds N] [--flows N,N] [--json FILE]");
	for (const char *at = flows; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
		run((uint32_t)strtoul(at, NULL, 10), rounds, out);
	free(keys);
	return out == stdout || !fclose(out) ? 0 : 1;
}
