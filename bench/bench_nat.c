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
#include "bench/bench.h"
#include "core/handback.h"
#include "core/handoff.h"
#include "core/route.h"
#include "core/route_flows.h"
#include "core/succession.h"
#include "core/timeouts.h"
#include "core/worker.h"
#include "pipelines/nat44/nat44.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#define SIZES_MAX  8
#define ROUNDS_MAX 101
#define FRAMES     2048
#define PACKETS    (1u << 19) /* of a series of a round */
#define SLICE      (1u << 11) /* empty and loop take turns after so many */
#define SLICES     (PACKETS / SLICE)
#define FRAME_LEN  60
#define NUMBER_OFF 42 /* where a frame has the number of its session */

enum { LAN = 1, WAN, DEVICES };
enum what { WHAT_ROUTE, WHAT_FILTER, WHAT_NAT44, WHAT_CNT };

static const char *const what_name[WHAT_CNT] = { "route", "filter", "nat44" };
static const char *const what_stages[WHAT_CNT] = { "", "guard", "guard, cgn" };
static const char *const device_name[DEVICES] = { [LAN] = "lan", [WAN] = "wan" };

struct end {
	uint32_t addr_be;
	uint16_t port_be;
};

/* In place of core/interface.c: an interface is a queue. */
struct mr_interface {
	struct mr_queue queue; /* first */
	struct mr_interface_info info;
	bool offers;
	uint32_t next, step; /* of the number of a session */
};

static struct {
	enum what what;
	uint32_t session_cnt, spread;
	struct mr_shared sh;
	struct mr_worker *worker;
	struct mr_interface device[DEVICES];
	uint64_t free[FRAMES]; /* frames sent come back here */
	unsigned free_cnt;
	uint8_t *base;
	struct end *outside; /* by session: what a packet from inside has become */
	bool only_new;
	bool looks; /* at every frame that is sent */
	uint64_t wrong_cnt, looked_cnt;
} bed;

static void die(const char *why)
{
	fprintf(stderr, "bench_nat: %s\n", why);
	exit(1);
}

static double now_s(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static uint64_t clocks(void)
{
#if defined(__x86_64__)
	return __rdtsc();
#else
	return (uint64_t)(now_s() * 1e9);
#endif
}

/* ---- the devices -------------------------------------------------------------------------------------------------- */

/* A number prime to cnt, so that steps of it meet all of them once a lap, in no order a prefetcher sees. */
static uint32_t step_of(uint32_t cnt, uint32_t from)
{
	for (uint32_t step = from % cnt | 1;; step += 2) {
		uint32_t a = cnt, b = step % cnt;
		while (b) {
			uint32_t rest = a % b;
			a = b;
			b = rest;
		}
		if (a == 1)
			return step % cnt;
	}
}

static struct end inside_of(uint32_t n)
{
	uint32_t flow = (uint32_t)((uint64_t)n * bed.spread % bed.session_cnt);
	return (struct end){ htonl(0x64400000u + 16 + (flow >> 4)), htons((uint16_t)(1024 + (flow & 15))) };
}

static struct end remote_of(uint32_t n)
{
	return (struct end){ htonl(0x5a000000u | (n * 2654435761u >> 8)), htons(53) };
}

static void put_frame(uint8_t *p, uint32_t n, bool reply)
{
	static const uint8_t header[FRAME_LEN] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, /* UDP, TTL 64, DF */
		0x45, 0, 0, FRAME_LEN - 14, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		FRAME_LEN - 34, 0x12, 0x34 };
	struct end from = reply ? remote_of(n) : inside_of(n), to = reply ? bed.outside[n] : remote_of(n);
	memcpy(p, header, FRAME_LEN);
	memcpy(p + 26, &from.addr_be, 4);
	memcpy(p + 30, &to.addr_be, 4);
	memcpy(p + 34, &from.port_be, 2);
	memcpy(p + 36, &to.port_be, 2);
	memcpy(p + NUMBER_OFF, &n, 4);
	bench_seal(p + 14);
}

static unsigned device_rx(struct mr_queue *q, struct mr_frame *f, unsigned n)
{
	struct mr_interface *d = (struct mr_interface *)q;
	if (!d->offers)
		return 0;
	n = n < bed.free_cnt ? n : bed.free_cnt;
	n = n < MR_BATCH ? n : MR_BATCH;
	for (unsigned i = 0; i < n; i++) {
		d->next += d->step;
		d->next -= d->next >= bed.session_cnt ? bed.session_cnt : 0;
		f[i] = (struct mr_frame){ .addr = bed.free[--bed.free_cnt] + 256, .len = FRAME_LEN };
		put_frame(bed.base + f[i].addr, d->next, q->interface_id == WAN);
	}
	return n;
}

/* What went out as it should: towards the outside its source is remembered, towards the inside it is what it was there. */
static void look(const uint8_t *p, unsigned id)
{
	uint32_t n;
	struct end from, to;
	memcpy(&n, p + NUMBER_OFF, 4);
	memcpy(&from.addr_be, p + 26, 4);
	memcpy(&to.addr_be, p + 30, 4);
	memcpy(&from.port_be, p + 34, 2);
	memcpy(&to.port_be, p + 36, 2);
	struct end inside = inside_of(n), remote = remote_of(n), *outside = &bed.outside[n];
	struct end *far = id == WAN ? &to : &from;
	bed.looked_cnt++;
	bool ok = far->addr_be == remote.addr_be && far->port_be == remote.port_be && p[22] == 63;
	if (id == LAN)
		ok = ok && to.addr_be == inside.addr_be && to.port_be == inside.port_be;
	else if (outside->addr_be)
		ok = ok && from.addr_be == outside->addr_be && from.port_be == outside->port_be;
	else
		ok = ok && (from.addr_be == inside.addr_be) == (bed.what != WHAT_NAT44);
	if (id == WAN)
		*outside = from;
	bed.wrong_cnt += !ok;
}

static unsigned device_tx(struct mr_queue *q, const struct mr_frame *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (bed.looks)
			look(bed.base + f[i].addr, q->interface_id);
		bed.free[bed.free_cnt++] = f[i].addr & ~2047ull;
	}
	return n;
}

static void open_device(unsigned id)
{
	static const struct mr_interface_ops ops = { .abi = MR_INTERFACE_ABI,
		.name = "bench",
		.rx = device_rx,
		.tx = device_tx,
		.service = bench_service,
		.fd = bench_fd,
		.drained = bench_drained };
	struct mr_interface *d = &bed.device[id];
	*d = (struct mr_interface){ .info = {
					    .name = device_name[id], .kind = MR_INTERFACE_XSK, .mode = MR_MODE_COPY } };
	d->queue.ops = &ops;
	d->queue.interface_id = (uint16_t)id;
	d->queue.interface = d;
}

/* In place of core/interface.c and core/handback.c. */
unsigned mr_interface_queue_cnt(const struct mr_interface *i)
{
	return 1;
}

struct mr_queue *mr_interface_queue(struct mr_interface *i, unsigned queue_idx)
{
	return &i->queue;
}

const struct mr_interface_info *mr_interface_info(const struct mr_interface *i)
{
	return &i->info;
}

int mr_handback_send(struct mr_handback *h, const void *frame, uint32_t len)
{
	return -1;
}

/* ---- the engine --------------------------------------------------------------------------------------------------- */

static void tell_kernel(void)
{
	static const char start[] =
		"link set lo up\nlink add lan type veth peer name lanx\nlink add wan type veth peer name wanx\n"
		"link set lanx up\nlink set wanx up\nlink set lan up\nlink set wan up\n"
		"addr add 172.16.1.1/24 dev lan\naddr add 172.16.2.1/24 dev wan\n"
		"neigh replace 172.16.1.2 lladdr 02:00:00:00:00:0a dev lan nud permanent\n"
		"neigh replace 172.16.2.2 lladdr 02:00:00:00:00:0b dev wan nud permanent\n"
		"route add 100.64.0.0/10 via 172.16.1.2\nroute add default via 172.16.2.2\n";
	FILE *f = popen("ip -batch -", "w");
	if (!f || fputs(start, f) == EOF || pclose(f))
		die("cannot run ip");
}

static void sweep(void *ctx)
{
	mr_route_flows_sweep(ctx, &(uint64_t){ 0 }, UINT32_MAX);
}

static void open_mirror(struct mr_shared *sh)
{
	struct mr_error e = { 0 };
	struct mr_neighbours_options no = { .nexthops = sh->nexthops, .epoch = sh->epoch, .ctx = sh };
	if (mr_neighbours_create(&no, false, &sh->neighbours, &e))
		die(e.text);
	struct mr_routes_options ro = { .neighbours = sh->neighbours, .epoch = sh->epoch, .sweep = sweep, .ctx = sh };
	if (mr_routes_create(&ro, &sh->routes, &e))
		die(e.text);
	for (unsigned id = LAN; id < DEVICES; id++)
		mr_routes_interface(sh->routes, id, if_nametoindex(device_name[id]));
	if (mr_routes_open(sh->routes, &e))
		die(e.text);
	while (mr_routes_service(sh->routes) > 0)
		;
	mr_neighbours_service(sh->neighbours, (uint64_t)(now_s() * 1e3));
}

/* As many outside addresses as hold the sessions' ports at half. */
static struct mr_config *read_config(void)
{
	static const char format[] =
		"version: 1\n"
		"flows: { capacity: %u, half_open: %u, timeouts: { udp: 3600s, udp_unreplied: 3600s } }\n"
		"interfaces: { lan: { device: lan }, wan: { device: wan } }\n"
		"stages:\n"
		"  guard:\n"
		"    type: filter\n"
		"    default: drop\n"
		"    rules:\n"
		"      - { name: replies, action: accept, state: established }\n"
		"      - { name: out, action: accept, src: 100.64.0.0/10 }\n"
		"%s"
		"pipelines:\n"
		"  out: { from: [ lan ], match: all, stages: [ %s ], to: route }\n"
		"  in: { from: [ wan ], match: all, stages: [ %s ], to: route }\n";
	char nat[512] = "", text[2048];
	const char *stages = what_stages[bed.what];
	uint32_t last = bed.session_cnt / 32256 + 1;
	struct mr_config *c;
	struct mr_error e = { 0 };
	if (bed.what == WHAT_NAT44)
		snprintf(nat, sizeof(nat),
			"  cgn:\n"
			"    type: nat44\n"
			"    inside: [ 100.64.0.0/10 ]\n"
			"    outside: [ 203.0.0.1-203.0.%u.%u ]\n"
			"    timeouts: { udp: 3600s, udp_unreplied: 3600s }\n",
			last >> 8, last & 255);
	snprintf(text, sizeof(text), format, bed.session_cnt + 64, bed.session_cnt + 64, nat, stages, stages);
	if (mr_config_read_text(text, strlen(text), "bench.yaml", ".", &c, &e))
		die(e.text);
	return c;
}

static void make_plan(struct mr_config *c)
{
	struct mr_shared *sh = &bed.sh;
	struct mr_plan_env *env = calloc(1, sizeof(*env));
	struct mr_plan *plan;
	struct mr_error e = { 0 };
	if (!env)
		die("no memory");
	for (unsigned id = LAN; id < DEVICES; id++)
		env->device[id] = (struct mr_plan_device){
			.name = device_name[id], .open = &bed.device[id], .mac = { 2, 0, 0, 0, 0, 1 }
		};
	env->neighbours = sh->neighbours;
	env->routes = sh->routes;
	env->stats = sh->stats;
	env->nexthops = sh->nexthops;
	env->worker_cnt = 1;
	env->serial = 1;
	env->tier_half = -1;
	if (mr_plan_create(c, env, &plan, &e))
		die(e.text);
	free(env);
	atomic_store(&sh->plan, plan);
	mr_timeouts_apply(plan->timeouts, sh->sessions);
	mr_sessions_configure(sh->sessions, &c->flows.timeouts, (uint32_t)c->flows.half_open_max);
}

static void open_bed(uint32_t session_cnt)
{
	struct mr_shared *sh = &bed.sh;
	struct mr_error e = { 0 };
	bed.session_cnt = session_cnt;
	bed.spread = step_of(session_cnt, 2246822519u);
	bed.outside = calloc(session_cnt, sizeof(*bed.outside));
	struct mr_config *c = read_config();
	uint32_t capacity = (uint32_t)c->flows.capacity;
	struct mr_frames_options fo = { .frame_cnt = FRAMES, .frame_bytes = 2048, .worker_cnt = 1, .want_huge = true };
	struct mr_flows_options lo = {
		.capacity4 = 2 * capacity, .capacity6 = 2 * capacity, .seed = 7, .want_huge = true
	};
	if (!bed.outside || mr_frames_create(&fo, &sh->frames, &e) || mr_flows_create(&lo, &sh->flows, &e))
		die(e.text);
	sh->worker_cnt = 1;
	sh->epoch = mr_epoch_create();
	sh->stats = mr_stats_create(1);
	sh->nexthops = mr_nexthops_create(NULL);
	sh->handoff = mr_handoff_create(1);
	struct mr_sessions_options so = { .capacity = capacity,
		.half_open_max = (uint32_t)c->flows.half_open_max,
		.worker_cnt = 1,
		.flows = sh->flows,
		.epoch = sh->epoch,
		.timeouts = c->flows.timeouts,
		.want_huge = true };
	if (mr_sessions_create(&so, &sh->sessions, &e))
		die(e.text);
	mr_sessions_on_expire(sh->sessions, mr_succession_ended, sh);
	struct mr_nexthop stack = { .kind = MR_NH_KERNEL };
	mr_nexthops_set(sh->nexthops, MR_NEXTHOP_KERNEL, &stack);
	for (unsigned id = LAN; id < DEVICES; id++)
		open_device(id);
	open_mirror(sh);
	bed.base = mr_frames_base(sh->frames);
	bed.free_cnt = mr_frames_take(mr_frames_magazine(sh->frames, 0), bed.free, FRAMES / 4);
	make_plan(c);
	if (mr_worker_create(sh, 0, &bed.worker, &e))
		die(e.text);
}

static void close_bed(void)
{
	struct mr_shared *sh = &bed.sh;
	mr_worker_destroy(bed.worker);
	mr_plan_destroy(atomic_load(&sh->plan));
	mr_routes_destroy(sh->routes);
	mr_neighbours_destroy(sh->neighbours);
	mr_sessions_destroy(sh->sessions);
	mr_flows_destroy(sh->flows);
	mr_handoff_destroy(sh->handoff);
	mr_nexthops_destroy(sh->nexthops);
	mr_stats_destroy(sh->stats);
	mr_epoch_destroy(sh->epoch);
	mr_frames_destroy(sh->frames);
	free(bed.outside);
	memset(sh, 0, sizeof(*sh));
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
