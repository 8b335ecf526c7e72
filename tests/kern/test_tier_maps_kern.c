/* SPDX-License-Identifier: BSD-2-Clause */
/* test_tier_maps_kern.c - core/tier.h with the kernel: its maps, a program that has joined, what is in force, what was counted. */
#include "core/flow.h"
#include "core/nexthop.h"
#include "core/plan.h"
#include "core/steer.h"
#include "core/tier.h"
#include "core/xmit.h"
#include "prog_run.h"
#include "tests/packets.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ID       3 /* interface of the program */
#define LO       1 /* ifindex; nothing is sent by a test run */
#define PAIR     1 /* the first that statistics give */
#define COUNTER  1
#define CAPACITY 1000
#define ZONE     16
#define ACT_PASS 2
#define ACT_TX   3

struct bed {
	struct mr_tier_maps *t;
	struct mr_flows *flows;
	struct mr_nexthops *nexthops;
	struct mr_stats *stats;
	struct mr_steer *steer;
	struct mr_plan *plan;
	struct packet p;
};

static uint64_t clock_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static struct mr_tier_options options(void)
{
	return (struct mr_tier_options){ .seed = 42,
		.flows_bytes = { mr_flows_bytes4(CAPACITY), mr_flows_bytes6(CAPACITY) } };
}

/* A UDP packet whose flow is sent back where it came from. */
static void make_flow(struct bed *b)
{
	struct rng r = { 99 };
	struct mr_parsed parsed;
	struct mr_key4 key;
	mr_flow_ref ref;
	do {
		packet_build(&r, &b->p);
		mr_parse(b->p.bytes, b->p.bytes + b->p.len, &parsed);
	} while (!(parsed.flags & MR_PKT_IP4) || parsed.error || parsed.proto != 17 || !mr_parse_has_key(&parsed) ||
		parsed.flags & (MR_PKT_FRAG | MR_PKT_OPTIONS));
	mr_parse_key4(&parsed, b->p.bytes, ZONE, &key);
	key.ingress = PAIR;
	struct mr_effect effect = { .counter = { COUNTER } };
	mr_tier_effects(b->t, (unsigned)b->plan->tier_half)[5] = effect;
	struct mr_flow_state st = { .flags = MR_FLOW_DECIDED | MR_FLOW_OFFLOAD | MR_FLOW_NO_TTL,
		.nexthop = MR_NEXTHOP_BACK,
		.session = 1,
		.generation = b->plan->generation,
		.effects = 5 };
	struct mr_rewrite4 rw = { 0 };
	CHECK(!mr_flows_insert4(b->flows, &key, mr_flow_hash4(&key, 42), &rw, &st, 1000, &ref), "insert");
}

static void open_bed(struct bed *b)
{
	struct mr_tier_options opt = options();
	struct mr_error e = { "" };
	memset(b, 0, sizeof(*b));
	int err = mr_tier_create(&opt, &b->t, &e);
	if (err)
		load_failed(e.text, err);
	struct mr_flows_options fo = { .capacity4 = CAPACITY,
		.capacity6 = CAPACITY,
		.seed = 42,
		.memory4 = mr_tier_flows(b->t, false),
		.memory6 = mr_tier_flows(b->t, true) };
	CHECK(!mr_flows_create(&fo, &b->flows, &e), "%s", e.text);
	b->nexthops = mr_nexthops_create(mr_tier_nexthops(b->t));
	b->stats = mr_stats_create(1);
	CHECK(mr_stats_ingress_id(b->stats, "wan", "in") == PAIR, "pair");
	CHECK(mr_stats_counter_id(b->stats, "stages.x.y") == COUNTER, "counter");
	b->plan = calloc(1, sizeof(*b->plan));
	b->plan->generation = 7;
	b->plan->tier_half = mr_tier_take(b->t);
	b->plan->interface[ID] = (struct mr_plan_interface){
		.name = "wan", .zone = ZONE, .key_only = true, .pipeline_cnt = 1, .ingress = { PAIR }
	};
	b->plan->ingress[PAIR] = (struct mr_plan_ingress){ .interface_id = ID, .offload = MR_OFFLOAD_ALWAYS };
	struct mr_steer_options so = { .interface_id = ID, .tier = b->t };
	err = mr_steer_load(&so, &b->steer, &e);
	if (err)
		load_failed(e.text, err);
	make_flow(b);
}

/* Every frame matches pipeline 0 of this generation. */
static void apply(struct bed *b, uint16_t generation)
{
	struct mr_steer_entry all = { NULL, 0, false };
	struct mr_steer_table *table;
	struct mr_error e = { "" };
	CHECK(!mr_steer_compile(&all, 1, &table, &e), "%s", e.text);
	mr_steer_table_number(table, generation);
	CHECK(!mr_steer_apply(b->steer, table, &e), "%s", e.text);
	mr_steer_table_free(table);
}

static void close_bed(struct bed *b)
{
	mr_steer_unload(b->steer);
	mr_flows_destroy(b->flows);
	mr_nexthops_destroy(b->nexthops);
	mr_stats_destroy(b->stats);
	free(b->plan);
	mr_tier_destroy(b->t);
}

static int run(struct bed *b)
{
	mr_tier_wake(mr_tier_shared(b->t), clock_ns());
	return prog_run(mr_steer_prog_fd(b->steer), b->p.bytes, b->p.len, NULL, NULL);
}

static void is_whole(struct bed *b, struct mr_stats_ingress *sum)
{
	uint64_t dropped = 0;
	mr_stats_ingress_sum(b->stats, PAIR, sum);
	for (unsigned i = 0; i < MR_REASON_CNT; i++)
		dropped += sum->dropped[i];
	CHECK(sum->received.packets == sum->forwarded.packets + sum->kernel.packets + dropped, "%llu received",
		(unsigned long long)sum->received.packets);
	CHECK(sum->hits == sum->received.packets, "hits");
}

/* ---- cases ------------------------------------------------------------------------------------------------------ */

static void test_in_force(void)
{
	struct bed b;
	struct mr_stats_ingress sum;
	open_bed(&b);
	apply(&b, 7);
	CHECK(run(&b) == ACT_PASS, "nothing is in force yet");
	mr_tier_publish(b.t, b.plan);
	CHECK(run(&b) == ACT_PASS, "the egress has no device");
	CHECK(!mr_tier_takes(b.t, ID) && !mr_tier_egress(b.t, ID, LO) && mr_tier_takes(b.t, ID), "egress");
	CHECK(run(&b) == ACT_TX, "offloaded");
	CHECK(!mr_tier_egress(b.t, ID, 0) && !mr_tier_takes(b.t, ID), "egress");
	CHECK(run(&b) == ACT_PASS, "its link is down");
	CHECK(!mr_tier_egress(b.t, ID, 0), "again");
	CHECK(mr_tier_egress(b.t, MR_TIER_EGRESS, LO) == -EINVAL, "no such interface");
	CHECK(mr_tier_egress(b.t, ID, 0x7ffffff0) < 0 && !mr_tier_takes(b.t, ID), "no such device");
	CHECK(!mr_tier_egress(b.t, ID, LO), "egress");
	b.plan->generation = 8;
	mr_tier_publish(b.t, b.plan);
	CHECK(run(&b) == ACT_PASS, "its record is of another generation");
	b.plan->generation = 7;
	mr_tier_publish(b.t, b.plan);
	CHECK(run(&b) == ACT_TX, "offloaded again");
	mr_tier_stop(b.t);
	CHECK(run(&b) == ACT_PASS, "stopped");
	mr_tier_collect(b.t, b.stats);
	is_whole(&b, &sum);
	CHECK(sum.received.packets == 2 && sum.forwarded.packets == 2 && sum.received.bytes == 2 * b.p.len &&
			sum.forwarded.bytes == 2 * b.p.len,
		"%llu", (unsigned long long)sum.received.packets);
	struct mr_count c = mr_stats_counter_sum(b.stats, COUNTER);
	CHECK(c.packets == 2 && c.bytes == 2 * b.p.len, "counter: %llu", (unsigned long long)c.packets);
	struct mr_tier_egress egress;
	mr_tier_egress_read(b.t, ID, &egress);
	CHECK(egress.sent_packets == 2 && egress.last_ingress == PAIR && !egress.refused, "egress counts");
	close_bed(&b);
	printf("published, egress taken and withdrawn, other generation, stopped; 2 packets carried out are counted\n");
}

/* Where the key does not tell the pipeline, steering's number counts only when it is the plan's. */
static void test_pipeline_of_generation(void)
{
	struct bed b;
	open_bed(&b);
	b.plan->interface[ID].key_only = false;
	CHECK(!mr_tier_egress(b.t, ID, LO), "egress");
	mr_tier_publish(b.t, b.plan);
	apply(&b, 7);
	CHECK(run(&b) == ACT_TX, "its steering");
	apply(&b, 8);
	CHECK(run(&b) == ACT_PASS, "that of the next plan, which is not in force");
	apply(&b, 0);
	CHECK(run(&b) == ACT_PASS, "nobody's");
	apply(&b, 7);
	CHECK(run(&b) == ACT_TX, "its own again");
	close_bed(&b);
	printf("steering of another generation carries nothing out\n");
}

static void test_dead_owner(void)
{
	struct bed b;
	open_bed(&b);
	apply(&b, 7);
	CHECK(!mr_tier_egress(b.t, ID, LO), "egress");
	mr_tier_publish(b.t, b.plan);
	CHECK(run(&b) == ACT_TX, "alive");
	__atomic_store_n(&mr_tier_shared(b.t)->heartbeat_ns, clock_ns() - 2 * MR_TIER_HEARTBEAT_MS * 1000000LL,
		__ATOMIC_RELAXED);
	CHECK(prog_run(mr_steer_prog_fd(b.steer), b.p.bytes, b.p.len, NULL, NULL) == ACT_PASS, "dead");
	CHECK(run(&b) == ACT_TX, "alive again");
	close_bed(&b);
	printf("without heartbeats nothing is carried out\n");
}

static void test_halves(void)
{
	struct bed b;
	open_bed(&b);
	struct mr_tier *shared = mr_tier_shared(b.t);
	CHECK(b.plan->tier_half == 0, "the first");
	mr_tier_publish(b.t, b.plan);
	CHECK(mr_tier_take(b.t) == 1, "the other");
	shared->half[1].interface[ID].zone = 5;
	CHECK(mr_tier_take(b.t) == -1, "none is left: one in force, one of a plan given up");
	mr_tier_give(b.t, 1);
	mr_tier_give(b.t, -1);
	CHECK(mr_tier_take(b.t) == 1 && shared->half[1].interface[ID].zone == 0, "given back, and empty");
	CHECK(shared->half[0].interface[ID].zone == ZONE, "that in force is not touched");
	CHECK(mr_tier_effects(b.t, 1) == mr_tier_effects(b.t, 0) + MR_EFFECTS, "effects");
	CHECK(mr_tier_meters(b.t, 1) == mr_tier_meters(b.t, 0) + MR_METERS, "meters");
	close_bed(&b);
	printf("halves are nobody's before they are somebody's\n");
}

static atomic_bool ending;

static void *send(void *arg)
{
	struct bed *b = arg;
	while (!ending) {
		LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = b->p.bytes, .data_size_in = b->p.len, .repeat = 20000);
		mr_tier_wake(mr_tier_shared(b->t), clock_ns());
		CHECK(!bpf_prog_test_run_opts(mr_steer_prog_fd(b->steer), &o), "run");
	}
	return NULL;
}

/* A frame that XDP_TX promised and the device did not take is subtracted: as kern/xmit.bpf.c adds it. */
static void lose(struct bed *b, uint64_t cnt)
{
	int fd = mr_tier_xmit_maps(b->t).pairs_fd, cpus = libbpf_num_possible_cpus();
	uint32_t key = PAIR;
	struct mr_tier_pair *cell = calloc((size_t)cpus, sizeof(*cell));
	CHECK(!bpf_map_lookup_elem(fd, &key, cell), "pair");
	cell[0].lost_packets += cnt;
	CHECK(!bpf_map_update_elem(fd, &key, cell, BPF_ANY), "pair");
	free(cell);
}

static void test_sums_while_counting(void)
{
	struct bed b;
	struct mr_stats_ingress sum, before = { 0 };
	pthread_t thread;
	open_bed(&b);
	apply(&b, 7);
	CHECK(!mr_tier_egress(b.t, ID, LO), "egress");
	mr_tier_publish(b.t, b.plan);
	CHECK(!pthread_create(&thread, NULL, send, &b), "thread");
	unsigned moved = 0, looks = 0;
	while (moved < 200) { /* as often as it takes */
		mr_tier_collect(b.t, b.stats);
		is_whole(&b, &sum);
		CHECK(sum.received.packets >= before.received.packets && sum.received.bytes >= before.received.bytes,
			"it went back");
		moved += sum.received.packets != before.received.packets;
		before = sum;
		looks++;
		sched_yield();
	}
	ending = true;
	pthread_join(thread, NULL);
	mr_tier_collect(b.t, b.stats);
	is_whole(&b, &before);
	lose(&b, 10);
	mr_tier_collect(b.t, b.stats);
	is_whole(&b, &sum);
	CHECK(sum.dropped[MR_REASON_REDIRECT] == 10 && sum.forwarded.packets == before.forwarded.packets,
		"a total never goes back");
	for (unsigned i = 0; i < 10; i++)
		CHECK(run(&b) == ACT_TX, "offloaded");
	mr_tier_collect(b.t, b.stats);
	is_whole(&b, &sum);
	CHECK(sum.forwarded.packets == before.forwarded.packets && sum.received.packets == before.received.packets + 10,
		"ten more came, ten in all were lost");
	close_bed(&b);
	printf("%u looks while packets were counted: whole each time\n", looks);
}

static void test_exhaustion(void)
{
	struct mr_tier_options opt = options();
	struct mr_tier_maps *t = NULL;
	struct mr_error e = { "" };
	struct rlimit before, few;
	opt.flows_bytes[1] = sizeof(struct mr_bucket6) << 33; /* 9 TiB, and more than a map can count */
	CHECK(mr_tier_create(&opt, &t, &e) == -ENOMEM && !t, "%s", e.text);
	CHECK(strstr(e.text, "available"), "%s", e.text);
	printf("exhaustion: %s\n", e.text);
	/* Refused half way: the first two maps are made and given back. */
	opt = options();
	int next = dup(0);
	CHECK(next >= 0 && !getrlimit(RLIMIT_NOFILE, &before), "%s", strerror(errno));
	close(next);
	few = before;
	few.rlim_cur = (rlim_t)next + 2;
	CHECK(!setrlimit(RLIMIT_NOFILE, &few), "%s", strerror(errno));
	int err = mr_tier_create(&opt, &t, &e);
	CHECK(!setrlimit(RLIMIT_NOFILE, &before), "%s", strerror(errno));
	CHECK(err == -EMFILE && !t && strstr(e.text, "nexthops"), "%s", e.text);
	int again = dup(0);
	CHECK(again == next, "descriptors are left open");
	close(again);
	printf("exhaustion: %s\n", e.text);
}

static void test_permission(void)
{
	int status;
	pid_t child = fork();
	CHECK(child >= 0, "fork");
	if (!child) {
		struct mr_tier_options opt = options();
		struct mr_tier_maps *t = NULL;
		struct mr_error e = { "" };
		if (setresuid(65534, 65534, 65534))
			_exit(2);
		int err = mr_tier_create(&opt, &t, &e);
		printf("without the privilege: %s\n", e.text);
		fflush(stdout);
		_exit(err == -EPERM && !t && strstr(e.text, "CAP_BPF") ? 0 : 1);
	}
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && !WEXITSTATUS(status), "status %#x", status);
}

int main(void)
{
	test_in_force();
	test_pipeline_of_generation();
	test_dead_owner();
	test_halves();
	test_sums_while_counting();
	test_exhaustion();
	fflush(stdout);
	test_permission();
	return 0;
}
