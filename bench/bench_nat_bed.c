/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench_nat_bed.c - the devices and the engine of bench_nat: made as the runtime makes them, from a configuration file's text.
 */
#include "bench/bench_nat.h"
#include "core/handback.h"
#include "core/handoff.h"
#include "core/route.h"
#include "core/route_flows.h"
#include "core/succession.h"
#include "core/timeouts.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NUMBER_OFF 42 /* where a frame has the number of its session */

static const char *const what_stages[WHAT_CNT] = { "", "guard", "guard, cgn" };
static const char *const device_name[DEVICES] = { [LAN] = "lan", [WAN] = "wan" };

struct bench_nat_bed bed;

void die(const char *why)
{
	fprintf(stderr, "bench_nat: %s\n", why);
	exit(1);
}

double now_s(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- the devices -------------------------------------------------------------------------------------------------- */

uint32_t step_of(uint32_t cnt, uint32_t from)
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
	static const uint8_t header[BENCH_NAT_FRAME_LEN] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8,
		0, /* UDP, TTL 64, DF */
		0x45, 0, 0, BENCH_NAT_FRAME_LEN - 14, 0, 0, 0x40, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0, BENCH_NAT_FRAME_LEN - 34, 0x12, 0x34 };
	struct end from = reply ? remote_of(n) : inside_of(n), to = reply ? bed.outside[n] : remote_of(n);
	memcpy(p, header, BENCH_NAT_FRAME_LEN);
	memcpy(p + 26, &from.addr_be, 4);
	memcpy(p + 30, &to.addr_be, 4);
	memcpy(p + 34, &from.port_be, 2);
	memcpy(p + 36, &to.port_be, 2);
	memcpy(p + NUMBER_OFF, &n, 4);
	bench_seal(p + 14);
}

unsigned device_rx(struct mr_queue *q, struct mr_frame *f, unsigned n)
{
	struct mr_interface *d = (struct mr_interface *)q;
	if (!d->offers)
		return 0;
	n = n < bed.free_cnt ? n : bed.free_cnt;
	n = n < MR_BATCH ? n : MR_BATCH;
	for (unsigned i = 0; i < n; i++) {
		d->next += d->step;
		d->next -= d->next >= bed.session_cnt ? bed.session_cnt : 0;
		f[i] = (struct mr_frame){ .addr = bed.free[--bed.free_cnt] + 256, .len = BENCH_NAT_FRAME_LEN };
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

unsigned device_tx(struct mr_queue *q, const struct mr_frame *f, unsigned n)
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

void tell_kernel(void)
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

void open_bed(uint32_t session_cnt)
{
	struct mr_shared *sh = &bed.sh;
	struct mr_error e = { 0 };
	bed.session_cnt = session_cnt;
	bed.spread = step_of(session_cnt, 2246822519u);
	bed.outside = calloc(session_cnt, sizeof(*bed.outside));
	struct mr_config *c = read_config();
	uint32_t capacity = (uint32_t)c->flows.capacity;
	struct mr_frames_options fo = {
		.frame_cnt = BENCH_NAT_FRAMES, .frame_bytes = 2048, .worker_cnt = 1, .want_huge = true
	};
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
	bed.free_cnt = mr_frames_take(mr_frames_magazine(sh->frames, 0), bed.free, BENCH_NAT_FRAMES / 4);
	make_plan(c);
	if (mr_worker_create(sh, 0, &bed.worker, &e))
		die(e.text);
}

void close_bed(void)
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
