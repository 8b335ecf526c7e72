/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench_change.c - a route, a neighbour, a link or an MTU changes under a million flows: when no packet goes the old way any more, and
 * what the change costs the packets that meet it.
 *
 *                 172.16.1.2 ── lan ┌────────┐ wan ─── 172.16.2.2 (old), 172.16.2.3
 *     flows from 10/8 to 90/8  ───► │ worker │
 *                          ◄─────── └────────┘ wan2 ── 172.16.3.2          answers come in by wan2
 *                                     ▲ records      ▲ core/route.c, core/neighbour.c
 *                                     └──────────────┴── netlink ── a namespace of its own, changed by `ip`
 *
 * The kernel's side is real: devices, routes and announcements.  The packets are not: the queues are memory.  Control and worker take
 * turns on one thread, as they would on two: the announcement waits in the socket when the clock starts; control takes a slice of what
 * there is, the worker 64 packets, until all of these go the new way.  Then all flows are gone through once, both directions, and once more.
 *
 *     bench_change [--what time|cost] [--rounds N] [--flows N] [--routes N]
 *
 * "time": ms until nothing goes the old way ("old"), until all goes the new way ("new"), until control has nothing left to do ("settled").
 * "cost": clocks a packet, devices of memory included, of an ordinary pass and of the first after the change.
 */
#include "bench/bench.h"
#include "core/handoff.h"
#include "core/mirror.h"
#include "core/route.h"
#include "core/route_flows.h"
#include "core/worker.h"
#include "kern/rewrite.h"

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

#define FRAMES      4096
#define FRAME_LEN   128
#define GIVE_UP_NS  5000000000ull
#define MAC_OLD     0x0a /* the last byte of a neighbour's address tells it */
#define MAC_NEW     0x0b
#define MAC_WAN2    0x0c
#define MAC_NOWHERE 0 /* the packets are to be dropped */

enum { LAN = 1, WAN, WAN2, DEVICES };

static const char *const device_name[DEVICES] = { [LAN] = "lan", [WAN] = "wan", [WAN2] = "wan2" };

struct device {
	struct mr_queue queue; /* first */
	struct mr_queue *queues[1];
	struct mr_magazine *magazine;
	uint8_t *base;
	bool offers, reply;
	uint32_t flow_cnt, step, next;
};

static struct {
	struct mr_shared sh;
	struct mr_plan *plan;
	struct mr_worker *worker;
	struct device device[DEVICES];
	uint64_t sent[256]; /* by the last byte of the destination's MAC address */
} bed;

/* What is changed: batches of `ip`.  Before each round `before` is in force, and all flows have met it. */
struct change {
	const char *name;
	const char *before, *change;
	uint8_t to; /* MAC_* */
};

#define OLD "172.16.2.2"
#define NEW "172.16.2.3"

static const struct change changes[] = {
	{ "route of a /8", "route replace 90.0.0.0/8 via " OLD "\n", "route replace 90.0.0.0/8 via " NEW "\n",
		MAC_NEW },
	{ "default route", "route del 90.0.0.0/8\nroute replace default via " OLD "\n",
		"route replace default via " NEW "\n", MAC_NEW },
	{ "next-hop object", "nexthop replace id 7 via " OLD " dev wan\nroute replace 90.0.0.0/8 nhid 7\n",
		"nexthop replace id 7 via " NEW " dev wan\n", MAC_NEW },
	{ "neighbour's MAC", "route replace 90.0.0.0/8 via " OLD "\n",
		"neigh replace " OLD " lladdr 02:00:00:00:00:0b dev wan nud permanent\n", MAC_NEW },
	{ "MTU of a link", "route replace 90.0.0.0/8 via " OLD "\n", "link set wan mtu 100\n", MAC_NOWHERE },
	{ "link down",
		"route del 90.0.0.0/8\nroute add 90.0.0.0/8 via " OLD
		" metric 10\nroute add 90.0.0.0/8 via 172.16.3.2 metric 20\n",
		"link set wan down\n", MAC_WAN2 },
};
/* What the changes have left. */
static const char restore[] = "link set wan mtu 1500\nlink set wan up\n"
			      "neigh replace " OLD " lladdr 02:00:00:00:00:0a dev wan nud permanent\n"
			      "neigh replace " NEW " lladdr 02:00:00:00:00:0b dev wan nud permanent\n"
			      "route del 90.0.0.0/8 metric 10\nroute del 90.0.0.0/8 metric 20\nroute del default\n"
			      "nexthop del id 7\nroute del 90.0.0.0/8\nroute add 90.0.0.0/8 via " OLD "\n";
static const char start[] =
	"link set lo up\nlink add lan type veth peer name lanx\nlink add wan type veth peer name wanx\n"
	"link add wan2 type veth peer name wan2x\nlink set lanx up\nlink set wanx up\nlink set wan2x up\n"
	"link set lan up\nlink set wan up\nlink set wan2 up\naddr add 172.16.1.1/24 dev lan\n"
	"addr add 172.16.2.1/24 dev wan\naddr add 172.16.3.1/24 dev wan2\n"
	"neigh replace 172.16.1.2 lladdr 02:00:00:00:00:01 dev lan nud permanent\n"
	"neigh replace 172.16.3.2 lladdr 02:00:00:00:00:0c dev wan2 nud permanent\n"
	"route add 10.0.0.0/8 via 172.16.1.2\n";

static void die(const char *why)
{
	fprintf(stderr, "bench_change: %s\n", why);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t clocks(void)
{
#if defined(__x86_64__)
	return __rdtsc();
#else
	return now_ns();
#endif
}

/* Gives the kernel a batch of commands; those for what is not there may fail. */
static void tell_kernel(const char *batch)
{
	FILE *f = popen("ip -force -batch - 2>/dev/null", "w");
	if (!f || fputs(batch, f) == EOF)
		die("cannot run ip");
	pclose(f);
}

static void sweep(void *ctx)
{
	mr_route_flows_sweep(ctx, &(uint64_t){ 0 }, UINT32_MAX);
}

/* ---- the devices -------------------------------------------------------------------------------------------------- */

static void put_frame(const struct device *d, uint8_t *p, uint32_t flow)
{
	static const uint8_t header[FRAME_LEN] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, /* UDP, TTL 64, DF */
		0x45, 0, 0, FRAME_LEN - 14, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		FRAME_LEN - 34, 0x12, 0x34 };
	uint32_t inside = htonl(0x0a000000u + (flow >> 4));
	uint32_t outside = htonl(0x5a000000u | (flow * 2654435761u >> 8));
	uint16_t port = htons((uint16_t)(1024 + (flow & 15))), service = htons(53);
	memcpy(p, header, FRAME_LEN);
	memcpy(p + 26, d->reply ? &outside : &inside, 4);
	memcpy(p + 30, d->reply ? &inside : &outside, 4);
	memcpy(p + 34, d->reply ? &service : &port, 2);
	memcpy(p + 36, d->reply ? &port : &service, 2);
	bench_seal(p + 14);
}

static unsigned device_rx(struct mr_queue *q, struct mr_frame *f, unsigned n)
{
	struct device *d = (struct device *)q;
	uint64_t addr[MR_BATCH];
	if (!d->offers)
		return 0;
	n = mr_frames_take(d->magazine, addr, n < MR_BATCH ? n : MR_BATCH);
	for (unsigned i = 0; i < n; i++) {
		d->next += d->step; /* every flow once a lap, in no order a prefetcher sees */
		d->next -= d->next >= d->flow_cnt ? d->flow_cnt : 0;
		f[i] = (struct mr_frame){ .addr = addr[i] + 256, .len = FRAME_LEN };
		put_frame(d, d->base + f[i].addr, d->next);
	}
	return n;
}

static unsigned device_tx(struct mr_queue *q, const struct mr_frame *f, unsigned n)
{
	struct device *d = (struct device *)q;
	uint64_t addr[MR_BATCH];
	for (unsigned i = 0; i < n; i++) {
		bed.sent[d->base[f[i].addr + 5]]++;
		addr[i % MR_BATCH] = f[i].addr;
		if (i % MR_BATCH == MR_BATCH - 1 || i == n - 1)
			mr_frames_give(d->magazine, addr, i % MR_BATCH + 1);
	}
	return n;
}

/* Nothing here has a stack to go to. */
int mr_handback_send(struct mr_handback *h, const void *frame, uint32_t len)
{
	return -1;
}

static uint32_t step_of(uint32_t cnt)
{
	for (uint32_t step = 2654435761u % cnt | 1;; step += 2) {
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

static void open_device(unsigned id, uint32_t flow_cnt)
{
	static const struct mr_interface_ops ops = { .abi = MR_INTERFACE_ABI,
		.name = "bench",
		.rx = device_rx,
		.tx = device_tx,
		.service = bench_service,
		.fd = bench_fd,
		.drained = bench_drained };
	struct device *d = &bed.device[id];
	*d = (struct device){ .magazine = mr_frames_magazine(bed.sh.frames, 0),
		.base = mr_frames_base(bed.sh.frames),
		.reply = id != LAN,
		.flow_cnt = flow_cnt,
		.step = step_of(flow_cnt) };
	d->queue.ops = &ops;
	d->queue.interface_id = (uint16_t)id;
	d->queues[0] = &d->queue;
}

/* ---- the engine ------------------------------------------------------------------------------------------------------ */

static void make_plan(void)
{
	static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 1 };
	struct mr_steer_entry all = { .match = NULL };
	struct mr_error e;
	struct mr_plan *p = bed.plan = calloc(1, sizeof(*p));
	if (!p)
		die("no memory");
	p->generation = 1;
	p->serial = 1;
	p->worker_cnt = 1;
	p->effects = mr_effects_create(NULL, NULL);
	p->nexthops = bed.sh.nexthops;
	p->pipeline[0] = (struct mr_plan_pipeline){ .name = "all", .to_kind = MR_TO_ROUTE, .state = MR_STATE_SESSIONS };
	p->pipeline_cnt = 1;
	for (unsigned id = LAN; id < DEVICES; id++) {
		struct mr_plan_interface *i = &p->interface[id];
		p->ingress[id] = (struct mr_plan_ingress){ .interface_id = (uint8_t)id, .pipeline = 0 };
		p->ingress[id + DEVICES] = (struct mr_plan_ingress){ .interface_id = (uint8_t)id, .pipeline = 0xff };
		*i = (struct mr_plan_interface){ .name = device_name[id],
			.zone = MR_ZONE_DEFAULT,
			.queue_cnt = 1,
			.queue = bed.device[id].queues,
			.key_only = true,
			.pipeline_cnt = 1,
			.ingress = { (uint8_t)id },
			.ingress_none = (uint8_t)(id + DEVICES) };
		memcpy(i->mac, mac, 6);
		if (mr_steer_compile(&all, 1, &i->steer, &e))
			die("no memory");
	}
	atomic_store(&bed.sh.plan, p);
}

static void referred(void *ctx, void (*mark)(void *arg, uint16_t slot), void *arg)
{
	mr_route_flows_referred(ctx, mark, arg);
}

static void open_mirror(struct mr_error *e)
{
	struct mr_shared *sh = &bed.sh;
	struct mr_neighbours_options no = {
		.nexthops = sh->nexthops, .epoch = sh->epoch, .referred = referred, .ctx = sh
	};
	if (mr_neighbours_create(&no, false, &sh->neighbours, e))
		die(e->text);
	struct mr_routes_options ro = { .neighbours = sh->neighbours, .epoch = sh->epoch, .sweep = sweep, .ctx = sh };
	if (mr_routes_create(&ro, &sh->routes, e))
		die(e->text);
	for (unsigned id = LAN; id < DEVICES; id++)
		mr_routes_interface(sh->routes, id, if_nametoindex(device_name[id]));
	if (mr_routes_open(sh->routes, e))
		die(e->text);
}

static void open_bed(uint32_t flow_cnt)
{
	struct mr_shared *sh = &bed.sh;
	struct mr_error e = { 0 };
	struct mr_frames_options fo = { .frame_cnt = FRAMES, .frame_bytes = 2048, .worker_cnt = 1, .want_huge = true };
	struct mr_flows_options lo = { .capacity4 = 2 * flow_cnt, .capacity6 = 1024, .seed = 7, .want_huge = true };
	if (mr_frames_create(&fo, &sh->frames, &e) || mr_flows_create(&lo, &sh->flows, &e))
		die(e.text);
	sh->worker_cnt = 1;
	sh->epoch = mr_epoch_create();
	sh->stats = mr_stats_create(1);
	sh->nexthops = mr_nexthops_create(NULL);
	sh->handoff = mr_handoff_create(1);
	struct mr_sessions_options so = { .capacity = flow_cnt + 64,
		.half_open_max = flow_cnt + 64,
		.worker_cnt = 1,
		.flows = sh->flows,
		.epoch = sh->epoch,
		.timeouts = { .udp_ns = 3600000000000ull, .udp_unreplied_ns = 3600000000000ull },
		.want_huge = true };
	if (mr_sessions_create(&so, &sh->sessions, &e))
		die(e.text);
	/* The kernel's slot and those of the interfaces, as the runtime makes them. */
	struct mr_nexthop stack = { .kind = MR_NH_KERNEL };
	mr_nexthops_set(sh->nexthops, MR_NEXTHOP_KERNEL, &stack);
	open_mirror(&e);
	for (unsigned id = LAN; id < DEVICES; id++)
		open_device(id, flow_cnt);
	make_plan();
	if (mr_worker_create(sh, 0, &bed.worker, &e))
		die(e.text);
}

/* ---- measuring ------------------------------------------------------------------------------------------------------- */

static bool control(void)
{
	bool more = mr_routes_service(bed.sh.routes) > 0;
	mr_neighbours_tunnels_refresh(bed.sh.neighbours, bed.sh.routes);
	mr_neighbours_service(bed.sh.neighbours, now_ns() / 1000000);
	return more;
}

/* All flows once, of one direction or both; clocks a packet. */
static double pass(bool forth, bool back)
{
	uint64_t left = (uint64_t)bed.device[LAN].flow_cnt * (unsigned)(forth + back), cnt = left;
	bed.device[LAN].offers = forth;
	bed.device[WAN2].offers = back;
	uint64_t begin = clocks();
	while (left) {
		unsigned got = mr_worker_poll(bed.worker);
		if (!got)
			die("the pool is empty: frames were lost");
		left -= got < left ? got : left;
	}
	return (double)(clocks() - begin) / (double)cnt;
}

/* One turn of flows that go out: how many go there, and how many the old way. */
static unsigned turn(uint8_t to, unsigned *gone, unsigned *old)
{
	uint64_t at[2] = { bed.sent[to], bed.sent[MAC_OLD] };
	bed.device[LAN].offers = true;
	bed.device[WAN2].offers = false;
	unsigned got = mr_worker_poll(bed.worker);
	*gone = (unsigned)(bed.sent[to] - at[0]);
	*old = (unsigned)(bed.sent[MAC_OLD] - at[1]);
	return got;
}

struct outcome {
	double old_ms, new_ms, settled_ms, ordinary, first;
};

static void settle(const char *why)
{
	uint64_t begin = now_ns();
	struct mr_routes_usage u;
	do {
		control();
		mr_routes_usage(bed.sh.routes, &u);
		if (now_ns() - begin > 20 * GIVE_UP_NS)
			die(why);
	} while (!u.synced || control());
}

/* From the moment the announcement waits. */
static void watch(const struct change *c, struct outcome *o)
{
	uint64_t begin = now_ns();
	unsigned gone, old, got;
	*o = (struct outcome){ .old_ms = -1, .new_ms = -1 };
	for (bool more = true; more || o->new_ms < 0;) {
		more = control();
		double ms = (double)(now_ns() - begin) / 1e6;
		got = turn(c->to, &gone, &old);
		if (!got)
			die("the pool is empty: frames were lost");
		if (old)
			o->old_ms = o->new_ms = -1;
		else if (o->old_ms < 0)
			o->old_ms = ms;
		if (!old && (c->to == MAC_NOWHERE || gone == got) && o->new_ms < 0)
			o->new_ms = ms;
		o->settled_ms = ms;
		if (now_ns() - begin > GIVE_UP_NS) {
			fprintf(stderr, "%s: of %u packets %u went there, %u the old way\n", c->name, got, gone, old);
			die("a change does not take effect");
		}
	}
}

static void one_round(const struct change *c, bool cost, struct outcome *o)
{
	double ordinary = 0;
	tell_kernel(restore);
	tell_kernel(c->before);
	settle("the routes do not settle");
	pass(true, true);
	uint64_t at = bed.sent[MAC_OLD];
	if (cost)
		ordinary = pass(true, true);
	else
		pass(true, false);
	if (bed.sent[MAC_OLD] - at < bed.device[LAN].flow_cnt)
		die("before the change not every packet went the old way");
	tell_kernel(c->change);
	watch(c, o);
	o->ordinary = ordinary;
	if (!cost)
		return;
	at = bed.sent[MAC_OLD];
	o->first = pass(true, true);
	if (bed.sent[MAC_OLD] != at)
		die("packets went the old way after the change was in force");
}

static void routes_of_others(uint32_t cnt)
{
	FILE *f = popen("ip -force -batch -", "w");
	if (!f)
		die("cannot run ip");
	for (uint32_t i = 0; i < cnt; i++) { /* /24s on both sides of the flows' /8, in no order */
		uint32_t a = 0x0b000000u + ((uint32_t)((uint64_t)i * 11184811u % (150u << 16)) << 8);
		if (a >> 24 != 90)
			fprintf(f, "route add %u.%u.%u.0/24 via 172.16.3.2\n", a >> 24, a >> 16 & 255, a >> 8 & 255);
	}
	pclose(f);
}

static void tell(const char *name, const char *what, double value)
{
	printf("{\"series\": \"%s, %s\", \"value\": %.3f}\n", name, what, value);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	uint32_t rounds = 5, flows = 1000000, routes = 0;
	bool cost = false;
	for (int i = 1; i < argc; i += 2) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";
		if (!strcmp(argv[i], "--what") && (!strcmp(value, "time") || !strcmp(value, "cost")))
			cost = !strcmp(value, "cost");
		else if (!strcmp(argv[i], "--rounds"))
			rounds = (uint32_t)atoi(value);
		else if (!strcmp(argv[i], "--flows"))
			flows = (uint32_t)atoi(value);
		else if (!strcmp(argv[i], "--routes"))
			routes = (uint32_t)atoi(value);
		else
			die("[--what time|cost] [--rounds N] [--flows N] [--routes N]");
	}
	if (!rounds || flows < 1024 || flows > 1u << 24 || routes > 150u << 16)
		die("[--what time|cost] [--rounds N] [--flows 1024..16777216] [--routes 0..9830400]");
	if (unshare(CLONE_NEWNET)) {
		fprintf(stderr, "bench_change: a network namespace needs root: %s\n", strerror(errno));
		return 77;
	}
	tell_kernel(start);
	tell_kernel(restore);
	routes_of_others(routes);
	open_bed(flows);
	settle("the routes do not settle");
	pass(true, false);
	pass(false, true);
	for (uint32_t r = 0; r < rounds; r++)
		for (unsigned k = 0; k < sizeof(changes) / sizeof(changes[0]); k++) {
			struct outcome o;
			one_round(&changes[k], cost, &o);
			if (cost) {
				tell(changes[k].name, "ordinary", o.ordinary);
				tell(changes[k].name, "first", o.first);
				continue;
			}
			tell(changes[k].name, "old way ended", o.old_ms);
			tell(changes[k].name, "new way", o.new_ms);
			if (changes[k].to == MAC_WAN2) /* the only one that control has long to do with */
				tell(changes[k].name, "settled", o.settled_ms);
		}
	return 0;
}
