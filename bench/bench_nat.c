/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench_nat.c - filter + nat44 + route over memory: what a packet of a known session costs, what a new session costs, what one takes of memory.
 *
 *     bench_nat [--what nat44|filter|route] [--rounds N] [--sessions 1000,60000,1000000] [--only new] [--json FILE]
 *
 * The configuration is a file's, and all behind it the program's own; devices are arrays, one worker is turned by hand.  Routes and neighbours
 * are the kernel's, of a network namespace of its own: it needs root.  In each round, for each number of sessions, in tables made anew:
 *
 *     new      the first packet of each session, from inside; the clocks of the median slice, and sessions a second of the whole
 *     out      every packet from inside, all decided by records
 *     mixed    as many from outside, in turn
 *
 * Clocks are from a received frame to a finished one: what the devices cost alone is taken off, slice by slice.  Inside, 16 sessions are one
 * address's, each to an address of its own.  Every packet is looked at once, in both directions, whether it went out as it should.
 * What memory a session takes is what the tables say they have, by the capacity that the file asks for.  A line of JSON for each value goes to
 * stdout or FILE, a table of medians to stderr.
 */
#include "bench/bench_nat.h"
#include "pipelines/nat44/nat44.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#define SIZES_MAX  8
#define ROUNDS_MAX 101
#define PACKETS    (1u << 19) /* of a series of a round */
#define SLICE      (1u << 11) /* empty and loop take turns after so many */
#define SLICES     (PACKETS / SLICE)

static const char *const what_name[WHAT_CNT] = { "route", "filter", "nat44" };

static uint64_t clocks(void)
{
#if defined(__x86_64__)
	return __rdtsc();
#else
	return (uint64_t)(now_s() * 1e9);
#endif
}

/* ---- measuring ------------------------------------------------------------------------------------------------------ */

/* Who offers, and in which order: session_cnt is prime to the steps. */
static void offer(bool out, bool in, uint32_t step)
{
	bed.device[LAN].offers = out;
	bed.device[WAN].offers = in;
	for (unsigned id = LAN; id < DEVICES; id++)
		bed.device[id].step = step;
}

static double run_empty(unsigned packets)
{
	struct mr_frame f[MR_BATCH];
	uint64_t start = clocks();
	unsigned done = 0;
	while (done < packets)
		for (unsigned id = LAN; id < DEVICES; id++) {
			unsigned n = device_rx(&bed.device[id].queue, f, MR_BATCH);
			device_tx(&bed.device[id].queue, f, n);
			done += n;
		}
	return (double)(clocks() - start) / done;
}

/* At least so many; *done tells. */
static double run_loop(unsigned packets, unsigned *done)
{
	uint64_t start = clocks();
	for (*done = 0; *done < packets;) {
		unsigned got = mr_worker_poll(bed.worker);
		if (!got)
			die("no frames are left: packets were dropped");
		*done += got;
	}
	return (double)(clocks() - start) / *done;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static double median(double *v, unsigned n)
{
	qsort(v, n, sizeof(*v), compare);
	return v[n / 2];
}

struct totals {
	uint64_t received, hits, forwarded;
};

static struct totals totals(void)
{
	struct totals t = { 0 };
	for (unsigned id = 0; id < MR_STATS_INGRESS; id++) {
		struct mr_stats_ingress s;
		mr_stats_ingress_sum(bed.sh.stats, id, &s);
		t.received += s.received.packets;
		t.hits += s.hits;
		t.forwarded += s.forwarded.packets;
	}
	return t;
}

/* All sessions once, and every packet looked at. */
static void lap(bool out, uint32_t step)
{
	offer(out, !out, step);
	bed.looks = true;
	bed.looked_cnt = 0;
	unsigned done;
	while (bed.looked_cnt < bed.session_cnt)
		run_loop(1, &done);
	bed.looks = false;
	if (bed.wrong_cnt)
		die("packets went out as they should not");
}

enum series { NEW, NEW_PER_S, OUT, MIXED, SERIES_CNT };
static const char *const series_name[SERIES_CNT] = { "new", "new per s", "out", "mixed" };

/* First packets; the few that are left open theirs in the lap after, which learns what all have become. */
static void measure_new(double *value)
{
	enum { SLICES_MAX = 1 << 17 };
	static double slice[SLICES_MAX];
	double empty[64];
	unsigned cnt = 0, done, n = 4 * MR_BATCH; /* shorter than a scheduler gives */
	offer(true, false, step_of(bed.session_cnt, 3266489917u));
	for (unsigned i = 0; i < 64; i++)
		empty[i] = run_empty(n);
	double start = now_s();
	for (uint32_t left = bed.session_cnt; left > n + MR_BATCH && cnt < SLICES_MAX; left -= done)
		slice[cnt++] = run_loop(n, &done);
	double took = now_s() - start;
	struct mr_sessions_usage u;
	mr_sessions_usage(bed.sh.sessions, &u);
	if (u.live != totals().received)
		die("not every first packet opened a session");
	value[NEW_PER_S] = (double)u.live / took;
	value[NEW] = median(slice, cnt) - median(empty, 64);
}

static double measure_known(bool in)
{
	static double differs[SLICES];
	unsigned done;
	offer(true, in, step_of(bed.session_cnt, 2654435761u));
	struct totals before = totals();
	for (unsigned i = 0; i < SLICES; i++) {
		double empty = run_empty(SLICE);
		differs[i] = run_loop(SLICE, &done) - empty;
	}
	struct totals after = totals();
	uint64_t received = after.received - before.received;
	if (!received || after.hits - before.hits != received || after.forwarded - before.forwarded != received)
		die("packets were not all decided by records: this measured something else");
	return median(differs, SLICES);
}

static void measure(double *value)
{
	measure_new(value);
	value[OUT] = value[MIXED] = 0;
	if (bed.only_new)
		return;
	lap(true, 1);
	for (unsigned i = 0; i < 3; i++) {
		lap(false, 1);
		lap(true, 1);
	}
	value[OUT] = measure_known(false);
	value[MIXED] = measure_known(true);
}

/* ---- memory --------------------------------------------------------------------------------------------------------- */

static void tell_memory(FILE *out)
{
	struct mr_sessions_usage s;
	const struct mr_plan *plan = atomic_load(&bed.sh.plan);
	double n = bed.session_cnt, flows = (double)mr_flows_bytes4(2 * (bed.session_cnt + 64)), store = 0;
	mr_sessions_usage(bed.sh.sessions, &s);
	for (unsigned i = 0; i < plan->stage_cnt; i++)
		if (!strcmp(plan->stage[i].type->type, "nat44")) {
			struct nat_store_usage u;
			nat_store_usage(((const struct nat *)plan->stage[i].self)->shared->store, &u);
			store = (double)u.bytes;
		}
	double sum = (flows + (double)s.bytes + store) / n;
	fprintf(out, "{\"series\": \"bytes of flow records %u\", \"value\": %.1f}\n", bed.session_cnt, flows / n);
	fprintf(out, "{\"series\": \"bytes of sessions %u\", \"value\": %.1f}\n", bed.session_cnt, (double)s.bytes / n);
	fprintf(out, "{\"series\": \"bytes of mappings %u\", \"value\": %.1f}\n", bed.session_cnt, store / n);
	fprintf(out, "{\"series\": \"bytes %u\", \"value\": %.1f}\n", bed.session_cnt, sum);
	fprintf(stderr,
		"%10u sessions, bytes each: %.1f of flow records, %.1f of sessions, %.1f of mappings, in all %.1f\n",
		bed.session_cnt, flows / n, (double)s.bytes / n, store / n, sum);
}

static unsigned read_sizes(char *text, uint32_t *size)
{
	unsigned n = 0;
	for (char *at = text; *at && n < SIZES_MAX; at += *at == ',') {
		char *end;
		size[n] = (uint32_t)strtoul(at, &end, 10);
		if (end == at || size[n] < 1000 || size[n] > 16u << 20)
			die("--sessions wants numbers of 1000 to 16777216");
		n++;
		at = end;
	}
	return n;
}

static void usage(void)
{
	die("[--what nat44|filter|route] [--rounds N] [--sessions N,N] [--only new] [--json FILE]");
}

int main(int argc, char **argv)
{
	static double value[SIZES_MAX][SERIES_CNT][ROUNDS_MAX];
	uint32_t size[SIZES_MAX] = { 1000, 60000, 1000000 };
	unsigned size_cnt = 3, rounds = 11;
	FILE *out = stdout;
	bed.what = WHAT_NAT44;
	for (int i = 1; i < argc; i += 2) {
		unsigned what = 0;
		if (i + 1 < argc && !strcmp(argv[i], "--rounds"))
			rounds = (unsigned)atoi(argv[i + 1]);
		else if (i + 1 < argc && !strcmp(argv[i], "--json"))
			out = fopen(argv[i + 1], "w");
		else if (i + 1 < argc && !strcmp(argv[i], "--only") && !strcmp(argv[i + 1], "new"))
			bed.only_new = true;
		else if (i + 1 < argc && !strcmp(argv[i], "--sessions"))
			size_cnt = read_sizes(argv[i + 1], size);
		else if (i + 1 < argc && !strcmp(argv[i], "--what")) {
			while (what < WHAT_CNT && strcmp(argv[i + 1], what_name[what]))
				what++;
			bed.what = what;
		} else
			usage();
	}
	if (!out || !rounds || rounds > ROUNDS_MAX || bed.what == WHAT_CNT)
		usage();
	if (unshare(CLONE_NEWNET)) {
		fprintf(stderr, "bench_nat: a network namespace needs root: %s\n", strerror(errno));
		return 77;
	}
	tell_kernel();
	for (unsigned r = 0; r < rounds; r++)
		for (unsigned k = 0; k < size_cnt; k++) {
			double of[SERIES_CNT];
			open_bed(size[k]);
			measure(of);
			for (unsigned s = 0; s < SERIES_CNT; s++) {
				value[k][s][r] = of[s];
				fprintf(out, "{\"series\": \"%s %u\", \"value\": %.2f}\n", series_name[s], size[k],
					of[s]);
			}
			if (r + 1 == rounds)
				tell_memory(out);
			close_bed();
		}
	fprintf(stderr, "%10s %8s %8s %8s   clocks a packet; %10s   %s, medians of %u rounds\n", "sessions", "out",
		"mixed", "new", "new per s", what_name[bed.what], rounds);
	for (unsigned k = 0; k < size_cnt; k++)
		fprintf(stderr, "%10u %8.1f %8.1f %8.1f                    %10.0f\n", size[k],
			median(value[k][OUT], rounds), median(value[k][MIXED], rounds), median(value[k][NEW], rounds),
			median(value[k][NEW_PER_S], rounds));
	return 0;
}
