/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench_nat_ports.c - what a mapping costs, taken and given back, by how many of the ports are in use.
 *
 *     bench_nat_ports [--rounds N] [--json FILE]
 *
 *     pool       nat_store_take() and nat_store_release(), 16 outside addresses (1 032 192 ports of UDP), any address for any mapping, 65536
 *                subscribers in random order, each mapping to be taken and the one to be released chosen at random; by one worker, and by two at
 *                once, which share all of it
 *     ports      nat_ports_take() and nat_ports_give() alone, one address
 *
 * Ports do not rest here, so that as many are in use at the end as were at the beginning.  A refusal ends the bench: there is room.  A round
 * counts the median slice.  A line of JSON for each value goes to stdout or FILE, a table of medians to stderr.
 */
#include "bench/bench.h"
#include "pipelines/nat44/store.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#define ADDRESSES  16
#define PORT_LO    1024
#define PORTS      (65536u - PORT_LO)
#define POOL       (ADDRESSES * PORTS)
#define WORKERS    2
#define SLICES     2048 /* of a round */
#define SLICE      64
#define ROUNDS_MAX 101
#define LEVELS     4

enum what { PORTS_ALONE, POOL_ONE, POOL_TWO, WHATS };

static const char *const what_name[WHATS] = { "ports alone", "pool, 1 worker", "pool, 2 workers" };
static const unsigned per_mille[LEVELS] = { 500, 900, 990, 999 };
static double clocks[WHATS][LEVELS][ROUNDS_MAX];

static struct nat_store *store;
static struct nat_policy policy = { .port_lo = PORT_LO, .port_hi = 65535 };

/* A worker, and the mappings that are its to release. */
struct worker {
	pthread_t id;
	unsigned number;
	uint32_t *mapping, cnt;
	uint64_t state;
	double clocks; /* a pair */
};

static void die(const char *what)
{
	fprintf(stderr, "bench_nat_ports: %s\n", what);
	exit(1);
}

static uint64_t clocks_now(void)
{
#if defined(__x86_64__)
	return __rdtsc();
#else
	return (uint64_t)__builtin_readcyclecounter();
#endif
}

static uint32_t random_of(struct worker *w)
{
	uint64_t z = w->state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	return (uint32_t)(z >> 32 ^ z >> 11);
}

static uint32_t take(struct worker *w, const struct nat_turn *t)
{
	uint32_t draw = random_of(w), mapping;
	struct nat_flow f = { .proto = NAT_UDP,
		.inside_be = 0x00004064u | (draw & 0xffff) << 16,
		.inside_port_be = (__be16)(draw >> 16),
		.remote_be = 1,
		.remote_port_be = 53 };
	bool made;

	if (nat_store_take(store, t, &f, &mapping, &made) != NAT_OK)
		die("refused, though there is room");
	return mapping;
}

static int ascending(const void *x, const void *y)
{
	double p = *(const double *)x, q = *(const double *)y;

	return (p > q) - (p < q);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct nat_turn t = { .policy = &policy, .worker = w->number, .now_ms = 1 };
	static __thread double slice[SLICES];

	for (unsigned i = 0; i < SLICES; i++) {
		uint64_t begin = clocks_now();
		for (unsigned k = 0; k < SLICE; k++) {
			uint32_t at = (uint32_t)((uint64_t)random_of(w) * w->cnt >> 32);
			nat_store_release(store, &t, w->mapping[at], 1, true);
			w->mapping[at] = take(w, &t);
		}
		slice[i] = (double)(clocks_now() - begin) / SLICE;
	}
	qsort(slice, SLICES, sizeof(slice[0]), ascending);
	w->clocks = slice[SLICES / 2];
	return NULL;
}

static void make_store(void)
{
	static uint32_t number[ADDRESSES];
	struct nat_store_options opt = { .mapping_max = 2 * POOL, .subscriber_max = 65536, .worker_cnt = WORKERS };

	if (nat_store_create(&opt, &store))
		die("no memory");
	for (uint32_t i = 0; i < ADDRESSES; i++)
		if (nat_store_address(store, 0x407100cbu + (i << 24), &number[i]))
			die("no memory");
	nat_policy_addresses(&policy, number, ADDRESSES);
}

/* Two that draw the same flow share a mapping: as many are taken as make the ports used up as far. */
static void fill(struct worker *w, unsigned level)
{
	uint32_t goal = (uint32_t)((uint64_t)POOL * per_mille[level] / 1000);
	struct nat_store_usage u = { 0 };

	for (unsigned i = 0; u.mapping_cnt < goal; i = (i + 1) % WORKERS) {
		struct nat_turn t = { .policy = &policy, .worker = i, .now_ms = 1 };
		for (unsigned k = 0; k < 64 && u.mapping_cnt < goal; k++, u.mapping_cnt++)
			w[i].mapping[w[i].cnt++] = take(&w[i], &t);
		if (u.mapping_cnt >= goal)
			nat_store_usage(store, &u);
	}
}

static void round_of_pool(struct worker *w, unsigned level, unsigned round)
{
	work(&w[0]);
	clocks[POOL_ONE][level][round] = w[0].clocks;
	for (unsigned i = 0; i < WORKERS; i++)
		if (pthread_create(&w[i].id, NULL, work, &w[i]))
			die("no thread");
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(w[i].id, NULL);
	clocks[POOL_TWO][level][round] = (w[0].clocks + w[1].clocks) / 2;
}

/* One is given back at random, and another taken. */
static double ports_alone(struct nat_ports *p, uint16_t *taken, uint32_t cnt)
{
	struct nat_ports_want want = { .lo = PORT_LO, .hi = 65535 };
	static __thread double slice[SLICES];

	for (unsigned i = 0; i < SLICES; i++) {
		uint64_t begin = clocks_now();
		for (unsigned k = 0; k < SLICE; k++) {
			uint64_t draw = bench_random64();
			uint16_t *port = &taken[(draw >> 32) * cnt >> 32];
			nat_ports_give(p, *port, true, 1, 0);
			want.random = (uint32_t)draw;
			if (nat_ports_take(p, &want, 1, 0, port))
				die("refused, though there is room");
		}
		slice[i] = (double)(clocks_now() - begin) / SLICE;
	}
	qsort(slice, SLICES, sizeof(slice[0]), ascending);
	return slice[SLICES / 2];
}

static void run_ports(unsigned level, unsigned rounds)
{
	struct nat_ports *p = calloc(1, sizeof(*p));
	uint16_t *taken = malloc(PORTS * sizeof(*taken));
	struct nat_ports_want want = { .lo = PORT_LO, .hi = 65535 };
	uint32_t cnt = PORTS * per_mille[level] / 1000;

	if (!p || !taken)
		die("no memory");
	for (uint32_t i = 0; i < cnt; i++) {
		want.random = (uint32_t)bench_random64();
		if (nat_ports_take(p, &want, 1, 0, &taken[i]))
			die("refused, though there is room");
	}
	for (unsigned round = 0; round < rounds; round++)
		clocks[PORTS_ALONE][level][round] = ports_alone(p, taken, cnt);
	free(taken);
	free(p);
}

static void run_pool(unsigned level, unsigned rounds)
{
	struct worker w[WORKERS] = { 0 };
	struct nat_store_usage u;

	make_store();
	for (unsigned i = 0; i < WORKERS; i++) {
		w[i].number = i;
		w[i].state = i + 1;
		w[i].mapping = malloc((size_t)POOL * sizeof(uint32_t));
		if (!w[i].mapping)
			die("no memory");
	}
	fill(w, level);
	for (unsigned round = 0; round < rounds; round++)
		round_of_pool(w, level, round);
	nat_store_usage(store, &u);
	fprintf(stderr, "%.1f %%: %u mappings, %.1f bytes each\n", per_mille[level] / 10., u.mapping_cnt,
		(double)u.bytes / u.mapping_cnt);
	for (unsigned i = 0; i < WORKERS; i++)
		free(w[i].mapping);
	nat_store_drop(store);
}

int main(int argc, char **argv)
{
	unsigned rounds = 9;
	FILE *out = stdout;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--rounds"))
			rounds = (unsigned)atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--json"))
			out = fopen(argv[i + 1], "w");
		else
			die("[--rounds N] [--json FILE]");
	}
	if (!out || !rounds || rounds > ROUNDS_MAX)
		die("[--rounds N] [--json FILE]");
	for (unsigned level = 0; level < LEVELS; level++) {
		run_ports(level, rounds);
		run_pool(level, rounds);
	}
	for (unsigned what = 0; what < WHATS; what++)
		for (unsigned level = 0; level < LEVELS; level++) {
			double *c = clocks[what][level];
			for (unsigned round = 0; round < rounds; round++)
				fprintf(out, "{\"series\": \"%s, %.1f %%\", \"value\": %.1f}\n", what_name[what],
					per_mille[level] / 10., c[round]);
			qsort(c, rounds, sizeof(c[0]), ascending);
			fprintf(stderr, "  %-16s %5.1f %%  %7.1f clocks (%.1f to %.1f)\n", what_name[what],
				per_mille[level] / 10., c[rounds / 2], c[0], c[rounds - 1]);
		}
	return out == stdout || !fclose(out) ? 0 : 1;
}
