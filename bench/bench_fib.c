/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench_fib.c - the forwarding table next to DPDK's rte_fib (DIR24_8) and rte_fib6 (TRIE), both with 4-byte next hops, with the same
 * prefixes and addresses, in the same process, in turn.
 *
 *     bench_fib [--what lookup|load|memory] [--rounds N] [--burst 32] [--sizes 1000,100000,1000000] [--json FILE]
 *
 *     covered    64 k destinations, each under a prefix drawn from the table, in random order
 *     random     addresses drawn from all (IPv6: of 2000::/3), mostly no destination twice
 *     one        the covered ones, one a call (DPDK has no other call than bulk: one of 1)
 *     avx512     DPDK's vector lookup, where this machine has it (its default is the scalar one), and ours in turn with it
 *
 * rte_fib wants IPv4 addresses in host order and is given them so; ours takes them as packets have them.  Before anything is measured
 * every address is looked up by both: one that differs ends the bench.  Prefix lengths are spread as in full tables of the Internet,
 * prefixes of IPv6 within allocations of /32 of which few have most.
 * load: one prefix at a time in random order, in slices in turn.  memory: what each holds after; rte_fib allocates its blocks when it
 * is made: it is given more than the table needs, and charged for what the table needs.
 */
#include "bench/bench.h"
#include "core/fib.h"
#include <arpa/inet.h>
#include <rte_eal.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <x86intrin.h>

#define BURST_MAX  64
#define ROUNDS_MAX 101
#define COVERED    65536u
#define LOOKUPS    (1u << 18)
#define SLICES     64 /* the series take turns after this part of the lookups; a round counts its median slice */
#define SLICE      (LOOKUPS / SLICES)

struct prefix {
	uint8_t addr[16];
	uint8_t bits;
	uint32_t value;
};

enum side { OURS, RTE, OURS_AGAIN, RTE_VECTOR, SIDES }; /* two pairs */
enum work { COVERED_BULK, RANDOM_BULK, COVERED_ONE, WORKS };
static const char *const side_name[2][SIDES] = { { "IPv4", "rte_fib", "IPv4 by avx512", "rte_fib avx512" },
	{ "IPv6", "rte_fib6", "IPv6 by avx512", "rte_fib6 avx512" } };
static const char *const work_name[] = { "covered", "random", "one" };

static struct {
	unsigned v6, burst;
	uint32_t cnt; /* prefixes in the tables */
	struct prefix *prefix;
	struct mr_fib *ours;
	struct rte_fib *rte4;
	struct rte_fib6 *rte6;
	bool vector;
	uint32_t *be[2], *host[2]; /* LOOKUPS of covered, random */
	uint8_t (*addr6[2])[16];
} b;

static void die(const char *what)
{
	fprintf(stderr, "bench_fib: %s\n", what);
	exit(1);
}

static double random1(void)
{
	return (double)(bench_random64() >> 11) / (double)(1ull << 53);
}

static void *pages(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		die("no memory");
	return p;
}

static int ascending(const void *x, const void *y)
{
	double p = *(const double *)x, q = *(const double *)y;

	return (p > q) - (p < q);
}

static double middle(const double *values, unsigned cnt)
{
	double v[ROUNDS_MAX > SLICES ? ROUNDS_MAX : SLICES];

	memcpy(v, values, cnt * sizeof(*v));
	qsort(v, cnt, sizeof(*v), ascending);
	return cnt % 2 ? v[cnt / 2] : (v[cnt / 2 - 1] + v[cnt / 2]) / 2;
}

/* ---- prefixes and addresses --------------------------------------------------------------------------------- */

static const struct share {
	uint8_t bits;
	double part;
} share4[] = { { 24, .595 }, { 23, .10 }, { 22, .11 }, { 21, .05 }, { 20, .043 }, { 19, .025 }, { 18, .015 },
	{ 17, .009 }, { 16, .014 }, { 15, .002 }, { 14, .001 }, { 13, .0006 }, { 12, .0003 }, { 10, .0001 },
	{ 25, .004 }, { 26, .005 }, { 27, .005 }, { 28, .005 }, { 29, .004 }, { 30, .004 }, { 32, 1 } },
  share6[] = { { 48, .48 }, { 32, .11 }, { 40, .09 }, { 44, .09 }, { 36, .05 }, { 29, .03 }, { 33, .02 }, { 34, .02 },
	  { 35, .01 }, { 38, .01 }, { 42, .02 }, { 46, .02 }, { 47, .01 }, { 28, .003 }, { 30, .005 }, { 20, .0002 },
	  { 56, .01 }, { 64, .015 }, { 128, 1 } };

static unsigned random_bits(const struct share *s)
{
	double x = random1();

	while (x > s->part)
		x -= s++->part;
	return s->bits;
}

static void cut(uint8_t *addr, unsigned bits)
{
	for (unsigned i = 0; i < 16; i++) {
		unsigned have = bits <= i * 8 ? 0 : bits - i * 8;
		addr[i] &= have >= 8 ? 255 : (uint8_t) ~(255u >> have);
	}
}

static void random_addr(uint8_t *addr)
{
	uint64_t r[2] = { bench_random64(), bench_random64() };

	memcpy(addr, r, 16);
	if (b.v6)
		addr[0] = 0x20 | (addr[0] & 0x1f);
}

/* An allocation: a /32 in the blocks the registries give out, one after the other with gaps.  Few holders announce most. */
static void allocated6(uint8_t *addr, uint32_t allocations)
{
	static const uint8_t block[] = { 0x20, 0x24, 0x26, 0x28, 0x2a, 0x2a, 0x24, 0x28 };
	double x = random1();
	uint32_t n = (uint32_t)(x * x * allocations);
	uint32_t in = n / 8 * 5 + n % 3;

	addr[0] = block[n % 8];
	addr[1] = (uint8_t)(in >> 16);
	addr[2] = (uint8_t)(in >> 8);
	addr[3] = (uint8_t)in;
	if (bench_random64() % 5 < 3) /* numbered from the start */
		addr[4] &= addr[5] & addr[6] & 3;
}

static void make_prefixes(void)
{
	/* Which are there already is asked of a table of ours that is not measured. */
	struct mr_fib *known = mr_fib_create(NULL);
	unsigned family = b.v6 ? AF_INET6 : AF_INET;

	b.prefix = pages(b.cnt * sizeof(*b.prefix));
	for (uint32_t n = 0; n < b.cnt;) {
		struct prefix *p = &b.prefix[n];
		p->bits = (uint8_t)random_bits(b.v6 ? share6 : share4);
		random_addr(p->addr);
		if (b.v6)
			allocated6(p->addr, b.cnt / 20 + 8);
		else
			p->addr[0] = (uint8_t)(1 + p->addr[0] % 223);
		cut(p->addr, b.v6 ? p->bits : p->bits > 32 ? 32 : p->bits);
		if (mr_fib_exact(known, family, p->addr, p->bits))
			continue;
		p->value = 1 + (uint32_t)(bench_random64() % 1000);
		if (mr_fib_set(known, family, p->addr, p->bits, p->value))
			die("no memory");
		n++;
	}
	mr_fib_destroy(known);
}

static void make_addresses(void)
{
	static uint8_t dst[COVERED][16];

	for (uint32_t i = 0; i < COVERED; i++) {
		const struct prefix *p = &b.prefix[bench_random64() % b.cnt];
		random_addr(dst[i]);
		for (unsigned k = 0; k < 16; k++) {
			unsigned have = p->bits <= k * 8 ? 0 : p->bits - k * 8;
			uint8_t mask = have >= 8 ? 255 : (uint8_t) ~(255u >> have);
			dst[i][k] = (uint8_t)((p->addr[k] & mask) | (dst[i][k] & ~mask));
		}
	}
	for (uint32_t i = 0; i < LOOKUPS; i++) {
		uint8_t addr[16];
		for (unsigned set = 0; set < 2; set++) {
			if (set)
				random_addr(addr);
			else
				memcpy(addr, dst[bench_random64() % COVERED], 16);
			memcpy(b.addr6[set][i], addr, 16);
			memcpy(&b.be[set][i], addr, 4);
			b.host[set][i] = ntohl(b.be[set][i]);
		}
	}
}

/* ---- the tables ---------------------------------------------------------------------------------------------- */

static void ours_add(uint32_t begin, uint32_t end)
{
	for (uint32_t n = begin; n < end; n++) {
		if (mr_fib_set(
			    b.ours, b.v6 ? AF_INET6 : AF_INET, b.prefix[n].addr, b.prefix[n].bits, b.prefix[n].value))
			die("our table is full");
	}
}

static void rte_add(uint32_t begin, uint32_t end)
{
	for (uint32_t n = begin; n < end; n++) {
		const struct prefix *p = &b.prefix[n];
		uint32_t host;
		memcpy(&host, p->addr, 4);
		if (b.v6 ? rte_fib6_add(b.rte6, p->addr, p->bits, p->value)
			 : rte_fib_add(b.rte4, ntohl(host), p->bits, p->value))
			die("DPDK's table is full");
	}
}

static int by_address(const void *x, const void *y)
{
	return memcmp(x, y, 16);
}

/* Blocks of 256 these prefixes need: one for each different beginning of 24, 32, ... bits; and *sum of what each would need alone, which
 * is about what rte_fib6 reserves. */
static uint32_t blocks256(uint32_t *sum)
{
	struct prefix *p = pages(b.cnt * sizeof(*p));
	uint32_t cnt = 0;

	*sum = 0;

	memcpy(p, b.prefix, b.cnt * sizeof(*p));
	qsort(p, b.cnt, sizeof(*p), by_address);
	for (unsigned at = 3; at < (b.v6 ? 16 : 4); at++) {
		const struct prefix *last = NULL;
		for (uint32_t n = 0; n < b.cnt; n++) {
			if (p[n].bits <= at * 8)
				continue;
			++*sum;
			cnt += !last || memcmp(last->addr, p[n].addr, at);
			last = &p[n];
		}
	}
	munmap(p, b.cnt * sizeof(*p));
	return cnt;
}

static uint64_t rte_bytes(void)
{
	struct rte_malloc_socket_stats s;

	return rte_malloc_get_socket_stats((int)rte_socket_id(), &s) ? 0 : s.heap_allocsz_bytes;
}

static uint32_t rte_blocks, rte_spare;
static void make_tables(void)
{
	uint32_t sum, used = blocks256(&sum), tbl8 = (b.v6 ? sum : used + used / 10) + 64;
	struct rte_fib_conf c4 = { .type = RTE_FIB_DIR24_8,
		.max_routes = (int)b.cnt + b.cnt / 4 + 64,
		.dir24_8 = { .nh_sz = RTE_FIB_DIR24_8_4B, .num_tbl8 = tbl8 } };
	struct rte_fib6_conf c6 = { .type = RTE_FIB6_TRIE,
		.max_routes = (int)b.cnt + b.cnt / 4 + 64,
		.trie = { .nh_sz = RTE_FIB6_TRIE_4B, .num_tbl8 = tbl8 } };

	rte_blocks = used;
	rte_spare = tbl8 - used;
	b.ours = mr_fib_create(NULL);
	if (b.v6)
		b.rte6 = rte_fib6_create("bench6", (int)rte_socket_id(), &c6);
	else
		b.rte4 = rte_fib_create("bench4", (int)rte_socket_id(), &c4);
	if (!b.ours || !(b.v6 ? (void *)b.rte6 : (void *)b.rte4))
		die("no memory for a table (DPDK needs about 4 GiB: huge pages, or none free at all)");
}

static void unmake_tables(void)
{
	mr_fib_destroy(b.ours);
	rte_fib_free(b.rte4);
	rte_fib6_free(b.rte6);
	b.rte4 = NULL;
	b.rte6 = NULL;
}

static bool rte_choose(bool vector)
{
	if (b.v6)
		return !rte_fib6_select_lookup(
			b.rte6, vector ? RTE_FIB6_LOOKUP_TRIE_VECTOR_AVX512 : RTE_FIB6_LOOKUP_TRIE_SCALAR);
	return !rte_fib_select_lookup(
		b.rte4, vector ? RTE_FIB_LOOKUP_DIR24_8_VECTOR_AVX512 : RTE_FIB_LOOKUP_DIR24_8_SCALAR_MACRO);
}

/* ---- what is measured --------------------------------------------------------------------------------------- */

static void ours_look(unsigned set, uint32_t at, unsigned n, uint32_t *value)
{
	if (b.v6)
		mr_fib_lookup6_bulk(b.ours, (const uint8_t(*)[16])b.addr6[set] + at, value, n);
	else
		mr_fib_lookup4_bulk(b.ours, b.be[set] + at, value, n);
}

static void rte_look(unsigned set, uint32_t at, unsigned n, uint64_t *value)
{
	if (b.v6)
		rte_fib6_lookup_bulk(b.rte6, b.addr6[set] + at, value, (int)n);
	else
		rte_fib_lookup_bulk(b.rte4, b.host[set] + at, value, (int)n);
}

static void compare(void)
{
	uint32_t ours[BURST_MAX], one;
	uint64_t rte[BURST_MAX];

	for (unsigned set = 0; set < 2; set++) {
		for (uint32_t at = 0; at < LOOKUPS; at += b.burst) {
			ours_look(set, at, b.burst, ours);
			rte_look(set, at, b.burst, rte);
			for (unsigned i = 0; i < b.burst; i++) {
				one = b.v6 ? mr_fib_lookup6(b.ours, b.addr6[set][at + i])
					   : mr_fib_lookup4(b.ours, b.be[set][at + i]);
				if (ours[i] != rte[i] || one != rte[i])
					die("the tables do not agree");
			}
		}
	}
}

static double clocks_of(enum side s, enum work w, unsigned slice)
{
	uint32_t begin = slice * SLICE, ours[BURST_MAX];
	uint64_t rte[BURST_MAX];
	unsigned step = w == COVERED_ONE ? 1 : b.burst, set = w == RANDOM_BULK;
	uint64_t start = __rdtsc();

	for (uint32_t at = begin; at < begin + SLICE; at += step) {
		if (s % 2)
			rte_look(set, at, step, rte);
		else if (w != COVERED_ONE)
			ours_look(set, at, step, ours);
		else
			ours[0] = b.v6 ? mr_fib_lookup6(b.ours, b.addr6[0][at]) : mr_fib_lookup4(b.ours, b.be[0][at]);
		__asm__ volatile("" : : "r"(ours), "r"(rte) : "memory");
	}
	return (double)(__rdtsc() - start) / SLICE;
}

/*
 * Two take turns, each with a table of its own: with a third, two of the three would keep DPDK's table in the caches together.  Each begins
 * with a slice that does not count, so that it finds its table there whoever was there before; neither has the addresses
 * that the other just had.
 */
static void measure_pair(enum side first, enum work w, double part[SIDES][SLICES])
{
	for (unsigned slice = 0; slice < SLICES; slice++) {
		for (unsigned s = first; s < first + 2; s++) {
			unsigned mine = slice + s % 2 * (SLICES / 4);
			if (s % 2)
				rte_choose(s == RTE_VECTOR);
			clocks_of(s, w, (mine + SLICES / 2) % SLICES);
			part[s][slice] = clocks_of(s, w, mine % SLICES);
		}
	}
}

static void measure_lookups(double round[SIDES][WORKS])
{
	static double part[SIDES][SLICES];

	for (unsigned w = 0; w < WORKS; w++) {
		measure_pair(OURS, w, part);
		if (b.vector)
			measure_pair(OURS_AGAIN, w, part);
		for (unsigned s = 0; s < SIDES; s++)
			round[s][w] = middle(part[s], SLICES);
	}
}

static void lookups(unsigned rounds, FILE *out)
{
	static double clocks[ROUNDS_MAX][SIDES][WORKS];

	ours_add(0, b.cnt);
	rte_add(0, b.cnt);
	b.vector = rte_choose(true);
	compare();
	rte_choose(false);
	compare();
	for (unsigned r = 0; r < rounds; r++)
		measure_lookups(clocks[r]);
	for (unsigned w = 0; w < WORKS; w++) {
		fprintf(stderr, "  %u %-8s", b.cnt, work_name[w]);
		for (unsigned s = 0; s < (b.vector ? SIDES : OURS_AGAIN); s++) {
			double value[ROUNDS_MAX];
			for (unsigned r = 0; r < rounds; r++) {
				value[r] = clocks[r][s][w];
				fprintf(out, "{\"series\": \"%s %s %u\", \"value\": %.2f}\n", side_name[b.v6][s],
					work_name[w], b.cnt, value[r]);
			}
			fprintf(stderr, "  %s %6.1f", side_name[b.v6][s], middle(value, rounds));
		}
		fprintf(stderr, "\n");
	}
}

static void load(FILE *out)
{
	uint64_t clock[2] = { 0, 0 }, start;
	double hz = (double)rte_get_tsc_hz();

	for (unsigned i = 0; i < SLICES; i++) {
		uint32_t begin = (uint32_t)((uint64_t)b.cnt * i / SLICES),
			 end = (uint32_t)((uint64_t)b.cnt * (i + 1) / SLICES);
		start = __rdtsc();
		ours_add(begin, end);
		clock[0] += __rdtsc() - start;
		start = __rdtsc();
		rte_add(begin, end);
		clock[1] += __rdtsc() - start;
	}
	for (unsigned s = 0; s < 2; s++) {
		fprintf(out, "{\"series\": \"%s %u\", \"value\": %.3f}\n", side_name[b.v6][s], b.cnt,
			(double)clock[s] / hz * 1e3);
		fprintf(stderr, "  %s %u: %.1f ms\n", side_name[b.v6][s], b.cnt, (double)clock[s] / hz * 1e3);
	}
}

static void memory(FILE *out, uint64_t rte_before)
{
	struct mr_fib_usage u;
	double mib[2];

	ours_add(0, b.cnt);
	rte_add(0, b.cnt);
	mr_fib_usage(b.ours, &u);
	mib[0] = (double)u.bytes / (1 << 20);
	/* less the blocks it was given to spare */
	mib[1] = (double)(rte_bytes() - rte_before - (uint64_t)rte_spare * 1024) / (1 << 20);
	for (unsigned s = 0; s < 2; s++) {
		fprintf(out, "{\"series\": \"%s %u\", \"value\": %.2f}\n", side_name[b.v6][s], b.cnt, mib[s]);
		fprintf(stderr, "  %s %u: %.1f MiB, %lu blocks\n", side_name[b.v6][s], b.cnt, mib[s],
			s ? (unsigned long)rte_blocks : (unsigned long)u.block_cnt);
	}
}

static void run(const char *what, unsigned rounds, FILE *out)
{
	make_prefixes();
	make_addresses();
	for (unsigned r = 0; r < (strcmp(what, "load") ? 1 : rounds); r++) {
		uint64_t before = rte_bytes();
		make_tables();
		if (!strcmp(what, "load"))
			load(out);
		else if (!strcmp(what, "memory"))
			memory(out, before);
		else
			lookups(rounds, out);
		unmake_tables();
	}
	munmap(b.prefix, b.cnt * sizeof(*b.prefix));
}

static void start_dpdk(char *program)
{
	char *eal_huge[] = { program, "--in-memory", "--no-pci", "--no-telemetry", "-l", "0", "--log-level", "error",
		"--force-max-simd-bitwidth=512", NULL };
	char *eal_small[] = { program, "--no-huge", "-m", "4096", "--no-pci", "--no-telemetry", "-l", "0",
		"--log-level", "error", "--force-max-simd-bitwidth=512", NULL };
	size_t need = 3800ul << 20;
	void *probe = mmap(NULL, need, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);

	if (probe != MAP_FAILED)
		munmap(probe, need);
	else
		fprintf(stderr, "bench_fib: fewer than 1900 huge pages are free: DPDK uses small ones\n");
	if (probe != MAP_FAILED ? rte_eal_init(9, eal_huge) < 0 : rte_eal_init(11, eal_small) < 0)
		die("DPDK does not start");
}

int main(int argc, char **argv)
{
	const char *usage = "[--what lookup|load|memory] [--rounds N] [--burst 16|32|64] [--sizes N,N] [--json FILE]";
	const char *sizes = "1000,100000,1000000", *what = "lookup";
	unsigned rounds = 5;
	FILE *out = stdout;

	b.burst = 32;
	for (int i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--rounds"))
			rounds = (unsigned)atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--burst"))
			b.burst = (unsigned)atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--sizes"))
			sizes = argv[i + 1];
		else if (!strcmp(argv[i], "--what"))
			what = argv[i + 1];
		else if (!strcmp(argv[i], "--json"))
			out = fopen(argv[i + 1], "w");
		else
			die(usage);
	}
	if (!out || !rounds || rounds > ROUNDS_MAX || (b.burst != 32 && b.burst != 64 && b.burst != 16))
		die(usage);
	start_dpdk(argv[0]);
	for (unsigned set = 0; set < 2; set++) {
		b.be[set] = pages(LOOKUPS * 4);
		b.host[set] = pages(LOOKUPS * 4);
		b.addr6[set] = pages(LOOKUPS * 16);
	}
	for (b.v6 = 0; b.v6 < 2; b.v6++) {
		for (const char *at = sizes; *at; at += *at == ',') {
			char *end;
			b.cnt = (uint32_t)strtoul(at, &end, 10);
			if (end == at || b.cnt < SLICES)
				die("--sizes takes numbers from 64");
			run(what, rounds, out);
			at = end;
		}
	}
	fflush(out);
	return ferror(out) ? 1 : 0;
}
