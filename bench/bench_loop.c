/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench_loop.c - what the engine costs a packet when a record decides it: parse, lookup, NAT rewrite, TTL, MACs, counters.
 *
 *     bench_loop [--rounds N] [--flows 1000,64000,1000000] [--routed 1] [--tier 1] [--json FILE]
 *
 * The device is memory: rx writes the 60 bytes of a UDP packet of the next flow (in an order that looks random) into a frame of the
 * pool, tx takes the frame back.  "empty" is that alone; "loop" is a whole turn of the worker around it; their difference, round by
 * round, is the engine.  Every flow is a session with a stored source translation and a routed next hop.
 * With --routed 1 records carry the version of a route, which is looked at with every packet; and the time is told that control takes to
 * look through all of them (core/route_flows.c).
 * With --tier 1 there is a kernel tier, so that records are counted in with atomics, and "unreplied" is the loop where flows would go over
 * to it, had they been answered: what a worker looks at in vain.
 * A line of JSON for each value goes to stdout or FILE, a table of medians to stderr.
 */
#include "bench/bench.h"
#include "core/handoff.h"
#include "core/route.h"
#include "core/route_flows.h"
#include "core/tier_table.h"
#include "core/worker.h"
#include "kern/rewrite.h"

#include <arpa/inet.h>
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
#define PACKETS    (1u << 20) /* of a round */
#define SLICE      (1u << 11) /* empty and loop take turns after so many */
#define FRAME_LEN  60

struct device {
	struct mr_queue queue; /* first */
	struct mr_frames *frames;
	uint64_t free[FRAMES];
	unsigned free_cnt;
	uint32_t flow_cnt, next;
	uint8_t header[FRAME_LEN];
	uint64_t sent;
};

struct loop {
	uint32_t flow_cnt;
	uint16_t routed; /* MR_FLOW_ROUTED: the version of the route is looked at, and the MAC address */
	struct mr_shared sh;
	struct mr_plan *plan;
	struct mr_tier_maps tier; /* without maps */
	struct mr_tier shared;
	struct mr_worker *worker;
	struct device in, out;
	struct mr_queue *in_queue[1], *out_queue[1];
};

static void die(const char *why)
{
	fprintf(stderr, "bench_loop: %s\n", why);
	exit(1);
}

static uint64_t clocks(void)
{
#if defined(__x86_64__)
	return __rdtsc();
#else
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
#endif
}

/* ---- the device --------------------------------------------------------------------------------------------------- */

/* Flow i: 10.x.y.z:port > 192.0.2.1:53. */
static uint32_t flow_addr(uint32_t flow)
{
	return htonl(0x0a000000u + (flow >> 4));
}

static uint16_t flow_port(uint32_t flow)
{
	return htons(1024 + (flow & 15));
}

static unsigned device_rx(struct mr_queue *q, struct mr_frame *f, unsigned n)
{
	struct device *d = (struct device *)q;
	uint8_t *base = mr_frames_base(d->frames);
	n = n < d->free_cnt ? n : d->free_cnt;
	for (unsigned i = 0; i < n; i++) {
		/* a step prime to the number of flows: every flow once a lap, in no order a prefetcher sees */
		d->next += 2654435761u % d->flow_cnt | 1;
		d->next -= d->next >= d->flow_cnt ? d->flow_cnt : 0;
		f[i] = (struct mr_frame){ .addr = d->free[--d->free_cnt] + 256, .len = FRAME_LEN };
		uint8_t *p = base + f[i].addr;
		uint32_t addr = flow_addr(d->next);
		uint16_t port = flow_port(d->next);
		memcpy(p, d->header, FRAME_LEN);
		memcpy(p + 26, &addr, 4);
		memcpy(p + 34, &port, 2);
		bench_seal(p + 14);
	}
	return n;
}

static struct device *taker; /* frames sent go back to the device they came from */

static unsigned device_tx(struct mr_queue *q, const struct mr_frame *f, unsigned n)
{
	struct device *d = (struct device *)q;
	for (unsigned i = 0; i < n; i++)
		taker->free[taker->free_cnt++] = f[i].addr & ~2047ull;
	d->sent += n;
	return n;
}

static const struct mr_interface_ops ops = { .abi = MR_INTERFACE_ABI,
	.name = "bench",
	.rx = device_rx,
	.tx = device_tx,
	.service = bench_service,
	.fd = bench_fd,
	.drained = bench_drained };

/* The engine never hands anything back here. */
int mr_handback_send(struct mr_handback *h, const void *frame, uint32_t len)
{
	return -1;
}

static void device_open(struct device *d, struct mr_frames *frames, unsigned id, uint32_t flow_cnt, bool source)
{
	static const uint8_t header[] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, /* UDP, 46 bytes of IP, TTL 64 */
		0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1, 0, 0, 0, 53, 0, 26, 0x12, 0x34 };
	d->queue.ops = &ops;
	d->queue.interface_id = id;
	d->frames = frames;
	d->flow_cnt = flow_cnt;
	memcpy(d->header, header, sizeof(header));
	if (source)
		d->free_cnt = mr_frames_take(mr_frames_magazine(frames, 0), d->free, FRAMES / 2);
}

/* ---- the engine ------------------------------------------------------------------------------------------------------ */

static void open_sessions(struct loop *l)
{
	uint64_t seed = mr_flows_seed(l->sh.flows);
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	uint32_t now_ms = (uint32_t)((uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000);
	for (uint32_t i = 0; i < l->flow_cnt; i++) {
		struct mr_flow_key k = { .family = 4 }, back = { .family = 4 };
		uint32_t idx;
		k.k4 = (struct mr_key4){
			.zone = MR_ZONE_DEFAULT, .proto = 17, .saddr_be = flow_addr(i), .sport_be = flow_port(i)
		};
		k.k4.daddr_be = htonl(0xc0000201);
		k.k4.dport_be = htons(53);
		struct mr_flow_decision d = { .ingress = 1,
			.flags = MR_FLOW_DECIDED | MR_FLOW_SNAT | l->routed,
			.nexthop = MR_NEXTHOP_FIRST_FREE,
			.generation = 1 };
		d.r4 = (struct mr_rewrite4){ .saddr_be = htonl(0xcb007100u + (i >> 16)),
			.daddr_be = k.k4.daddr_be,
			.sport_be = htons(i & 0xffff),
			.dport_be = k.k4.dport_be };
		mr_rewrite_delta4(&k.k4, &d.r4);
		back.k4 = (struct mr_key4){ .zone = MR_ZONE_DEFAULT,
			.proto = 17,
			.saddr_be = d.r4.daddr_be,
			.daddr_be = d.r4.saddr_be,
			.sport_be = d.r4.dport_be,
			.dport_be = d.r4.sport_be };
		k.hash = mr_flow_hash4(&k.k4, seed);
		back.hash = mr_flow_hash4(&back.k4, seed);
		if (mr_session_create(l->sh.sessions, 0, &k, &back, &d, 0, false, NULL, now_ms, &idx))
			die("the flow table is full");
	}
}

static void make_plan(struct loop *l)
{
	struct mr_steer_entry all = { .match = NULL };
	struct mr_error e;
	struct mr_plan *p = l->plan;
	p->generation = 1;
	p->serial = 1;
	p->worker_cnt = 1;
	p->effects = mr_effects_create(NULL, NULL);
	p->nexthops = l->sh.nexthops;
	p->pipeline[0] = (struct mr_plan_pipeline){ .name = "in", .nexthop = MR_NEXTHOP_FIRST_FREE };
	p->pipeline_cnt = 1;
	p->ingress[1] = (struct mr_plan_ingress){ .interface_id = 1, .pipeline = 0 };
	p->interface[1] = (struct mr_plan_interface){ .name = "in",
		.zone = MR_ZONE_DEFAULT,
		.queue_cnt = 1,
		.queue = l->in_queue,
		.key_only = true,
		.pipeline_cnt = 1,
		.ingress = { 1 },
		.ingress_none = 2 };
	if (l->routed)
		memcpy(p->interface[1].mac, l->in.header, 6);
	p->interface[2] = (struct mr_plan_interface){
		.name = "out", .zone = MR_ZONE_DEFAULT, .queue_cnt = 1, .queue = l->out_queue
	};
	if (!p->effects || mr_steer_compile(&all, 1, &p->interface[1].steer, &e))
		die("no memory");
}

static void make_tier(struct loop *l)
{
	l->tier.at[MR_TIER_MAP_TIER] = &l->shared;
	l->sh.tier = &l->tier;
	l->plan->offload_after = 3;
	l->plan->ingress[1].offload = MR_OFFLOAD_ESTABLISHED;
}

static struct loop *loop_open(uint32_t flow_cnt, bool routed, bool tier)
{
	struct loop *l = aligned_alloc(64, (sizeof(*l) + 63) / 64 * 64);
	struct mr_error e = { 0 };
	if (!l)
		die("no memory");
	memset(l, 0, sizeof(*l));
	l->flow_cnt = flow_cnt;
	l->routed = routed ? MR_FLOW_ROUTED : 0;
	l->plan = calloc(1, sizeof(*l->plan));
	struct mr_frames_options fo = { .frame_cnt = FRAMES, .frame_bytes = 2048, .worker_cnt = 1, .want_huge = true };
	struct mr_flows_options lo = { .capacity4 = 2 * flow_cnt, .capacity6 = 1024, .seed = 7, .want_huge = true };
	if (!l->plan || mr_frames_create(&fo, &l->sh.frames, &e) || mr_flows_create(&lo, &l->sh.flows, &e))
		die(e.text);
	l->sh.worker_cnt = 1;
	l->sh.epoch = mr_epoch_create();
	l->sh.stats = mr_stats_create(1);
	l->sh.nexthops = mr_nexthops_create(NULL);
	l->sh.handoff = mr_handoff_create(1);
	struct mr_routes_options ro = { .epoch = l->sh.epoch };
	if (routed && mr_routes_create(&ro, &l->sh.routes, &e))
		die(e.text);
	struct mr_config_timeouts t = { .udp_ns = 1u << 30, .udp_unreplied_ns = 3600000000000ull };
	struct mr_sessions_options so = { .capacity = flow_cnt + 64,
		.half_open_max = flow_cnt + 64,
		.worker_cnt = 1,
		.flows = l->sh.flows,
		.epoch = l->sh.epoch,
		.timeouts = t,
		.want_huge = true };
	if (mr_sessions_create(&so, &l->sh.sessions, &e))
		die(e.text);
	struct mr_nexthop nh = { .kind = MR_NH_ROUTED, .egress = 2, .mtu = 1500, .dmac = { 2, 1 }, .smac = { 2, 2 } };
	mr_nexthops_set(l->sh.nexthops, MR_NEXTHOP_FIRST_FREE, &nh);
	device_open(&l->in, l->sh.frames, 1, flow_cnt, true);
	device_open(&l->out, l->sh.frames, 2, flow_cnt, false);
	l->in_queue[0] = &l->in.queue;
	l->out_queue[0] = &l->out.queue;
	make_plan(l);
	if (tier)
		make_tier(l);
	atomic_store(&l->sh.plan, l->plan);
	mr_epoch_online(l->sh.epoch, 0);
	open_sessions(l);
	if (mr_worker_create(&l->sh, 0, &l->worker, &e))
		die(e.text);
	return l;
}

/* ---- measuring ------------------------------------------------------------------------------------------------------- */

static uint64_t run_empty(struct loop *l, unsigned packets)
{
	struct mr_frame f[MR_BATCH];
	uint64_t start = clocks();
	for (unsigned done = 0; done < packets;) {
		unsigned n = device_rx(&l->in.queue, f, MR_BATCH);
		device_tx(&l->out.queue, f, n);
		done += n;
	}
	return clocks() - start;
}

static uint64_t run_loop(struct loop *l, unsigned packets)
{
	uint64_t start = clocks();
	for (unsigned done = 0; done < packets;)
		done += mr_worker_poll(l->worker);
	return clocks() - start;
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

/* One value of each: the median slice, which a scheduler's interruption does not reach. */
static void round_of(struct loop *l, double *empty, double *whole, double *unreplied)
{
	enum { SLICES = PACKETS / SLICE };
	double e[SLICES], w[SLICES], u[SLICES];
	taker = &l->in;
	for (unsigned s = 0; s < SLICES; s++) {
		e[s] = (double)run_empty(l, SLICE) / SLICE;
		w[s] = (double)run_loop(l, SLICE) / SLICE;
		l->plan->offloads = l->sh.tier;
		u[s] = l->sh.tier ? (double)run_loop(l, SLICE) / SLICE : 0;
		l->plan->offloads = false;
	}
	*empty = median(e, SLICES);
	*whole = median(w, SLICES);
	*unreplied = median(u, SLICES);
}

static void check(struct loop *l)
{
	struct mr_stats_ingress s;
	mr_stats_ingress_sum(l->sh.stats, 1, &s);
	if (!s.received.packets || s.hits != s.received.packets || s.forwarded.packets != s.received.packets)
		die("packets were not all decided by records: this measured something else");
}

static double ms_since(const struct timespec *start)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - start->tv_sec) * 1e3 + (double)(now.tv_nsec - start->tv_nsec) / 1e6;
}

static void count_slot(void *arg, uint16_t slot)
{
	++*(uint64_t *)arg;
}

/* What control does when versions come round, and when it looks for slots nobody uses. */
static void look_through(struct loop *l, FILE *out)
{
	struct timespec start;
	uint64_t marked = 0;
	clock_gettime(CLOCK_MONOTONIC, &start);
	mr_route_flows_sweep(&l->sh, &(uint64_t){ 0 }, UINT32_MAX);
	double sweep_ms = ms_since(&start);
	clock_gettime(CLOCK_MONOTONIC, &start);
	mr_route_flows_referred(&l->sh, count_slot, &marked);
	double referred_ms = ms_since(&start);
	if (marked != l->flow_cnt)
		die("not every record was seen");
	fprintf(out, "{\"series\": \"sweep %u\", \"value\": %.2f}\n", l->flow_cnt, sweep_ms);
	fprintf(out, "{\"series\": \"referred %u\", \"value\": %.2f}\n", l->flow_cnt, referred_ms);
	fprintf(stderr, "%10u flows: swept in %.1f ms, slots marked in %.1f ms\n", l->flow_cnt, sweep_ms, referred_ms);
}

static unsigned read_sizes(char *text, uint32_t *size)
{
	unsigned n = 0;
	for (char *at = text; *at && n < SIZES_MAX; at += *at == ',') {
		char *end;
		size[n] = (uint32_t)strtoul(at, &end, 10);
		if (end == at || size[n++] < 64)
			die("--flows wants numbers of 64 and more");
		at = end;
	}
	return n;
}

int main(int argc, char **argv)
{
	static double empty[SIZES_MAX][ROUNDS_MAX], whole[SIZES_MAX][ROUNDS_MAX], engine[SIZES_MAX][ROUNDS_MAX],
		unreplied[SIZES_MAX][ROUNDS_MAX];
	uint32_t size[SIZES_MAX] = { 1000, 64000, 1000000 };
	unsigned size_cnt = 3, rounds = 11;
	bool routed = false, tier = false;
	struct loop *loop[SIZES_MAX];
	FILE *out = stdout;
	for (int i = 1; i < argc; i += 2) {
		if (i + 1 < argc && !strcmp(argv[i], "--rounds"))
			rounds = (unsigned)atoi(argv[i + 1]);
		else if (i + 1 < argc && !strcmp(argv[i], "--json"))
			out = fopen(argv[i + 1], "w");
		else if (i + 1 < argc && !strcmp(argv[i], "--routed"))
			routed = atoi(argv[i + 1]) != 0;
		else if (i + 1 < argc && !strcmp(argv[i], "--tier"))
			tier = atoi(argv[i + 1]) != 0;
		else if (i + 1 < argc && !strcmp(argv[i], "--flows"))
			size_cnt = read_sizes(argv[i + 1], size);
		else
			die("[--rounds N] [--flows N,N] [--routed 1] [--tier 1] [--json FILE]");
	}
	if (!out || !rounds || rounds > ROUNDS_MAX)
		die("[--rounds N] [--flows N,N] [--routed 1] [--tier 1] [--json FILE]");
	for (unsigned k = 0; k < size_cnt; k++)
		loop[k] = loop_open(size[k], routed, tier);
	for (unsigned r = 0; r < rounds; r++)
		for (unsigned k = 0; k < size_cnt; k++) {
			round_of(loop[k], &empty[k][r], &whole[k][r], &unreplied[k][r]);
			engine[k][r] = whole[k][r] - empty[k][r];
			fprintf(out, "{\"series\": \"empty %u\", \"value\": %.2f}\n", size[k], empty[k][r]);
			fprintf(out, "{\"series\": \"loop %u\", \"value\": %.2f}\n", size[k], whole[k][r]);
			fprintf(out, "{\"series\": \"engine %u\", \"value\": %.2f}\n", size[k], engine[k][r]);
			if (tier)
				fprintf(out, "{\"series\": \"unreplied %u\", \"value\": %.2f}\n", size[k],
					unreplied[k][r] - empty[k][r]);
		}
	fprintf(stderr, "%10s %8s %8s %8s   clocks a packet, medians of %u rounds\n", "flows", "empty", "loop",
		"engine", rounds);
	for (unsigned k = 0; routed && k < size_cnt; k++)
		look_through(loop[k], out);
	for (unsigned k = 0; k < size_cnt; k++) {
		check(loop[k]);
		fprintf(stderr, "%10u %8.1f %8.1f %8.1f\n", size[k], median(empty[k], rounds), median(whole[k], rounds),
			median(engine[k], rounds));
		if (tier)
			fprintf(stderr, "%10u flows that nobody answers: loop %.1f\n", size[k],
				median(unreplied[k], rounds));
	}
	return 0;
}
