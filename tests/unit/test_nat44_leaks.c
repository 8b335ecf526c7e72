/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What sessions took of a store comes back, whatever happens to them: packets of all kinds, time-outs, evictions, deletes, configurations that add,
 * remove and reorder stages and addresses, or are given up.  At the end no store that ever was has a mapping, a subscriber, a port or a block taken.
 */
#include "nat44_world.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define STEPS  6000
#define STORES 256

static uint32_t seed;

static uint32_t any(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)(((uint64_t)(seed >> 8) * n) >> 24);
}

#define ONE_OF(list) list[any(sizeof(list) / sizeof(list[0]))]

/* ---- configurations ---------------------------------------------------------------------------------------------- */

static const char *const outsides[] = { "203.0.113.1", "203.0.113.1, 203.0.113.2", "203.0.113.2-203.0.113.4",
	"203.0.113.3" };
static const char *const ports[] = { "ports: 2000-2063", "ports: 2016-2047, port_block: 16",
	"ports: 1990-2070, port_block: 32", "ports: 2000-2015, leftover: kernel, limits: { sessions: 30, mappings: 9 }",
	"ports: 2000-2063, port_block: 16, limits: { blocks: 1 }" };
static const char *const more[] = { "quarantine: 0s", "quarantine: 1s", "quarantine: 0s, filtering: address-dependent",
	"filtering: address-and-port-dependent, pooling: arbitrary", "mapping: address-dependent",
	"port_choice: parity", "mapping: address-and-port-dependent, quarantine: 0s, timeouts: { udp: 120s }",
	"exempt: [ 192.0.2.3 ], port_choice: preserve",
	"static: [ { inside: 10.0.0.2, outside: 203.0.113.9 }, { inside: 10.0.0.3, outside: 203.0.113.1, proto: [ tcp, "
	"udp ], "
	"ports: 2010-2012, inside_ports: 1002-1004 } ]" };
static const char *const pipelines[] = { "nat", "nat", "guard, nat", "nat, guard", "nat, other", "other, nat", "other",
	"guard" };

static const char *some_config(void)
{
	static char text[4096];
	snprintf(text, sizeof(text),
		"version: 1\ninterfaces:\n  wan: { device: wan0 }\n  lan: { device: lan0 }\nstages:\n  guard: { type: "
		"filter }\n"
		"  nat: { type: nat44, inside: [ 10.0.0.0/29 ], outside: [ %s ], %s, %s }\n"
		"  other: { type: nat44, inside: [ 10.0.0.8/29 ], outside: [ 198.51.100.%u ], %s }\npipelines:\n"
		"  in: { from: [ wan ], match: all, stages: [ %s ], to: lan }\n"
		"  out: { from: [ lan ], match: all, stages: [ %s ], to: wan }\n",
		ONE_OF(outsides), ONE_OF(ports), ONE_OF(more), 1 + any(2), ONE_OF(ports), ONE_OF(pipelines),
		ONE_OF(pipelines));
	return text;
}

/* ---- stores that were -------------------------------------------------------------------------------------------- */

static struct nat_store *store[STORES];
static unsigned store_cnt;

static void note_stores(const struct mr_plan *plan)
{
	for (unsigned i = 0; i < plan->stage_cnt; i++) {
		if (plan->stage[i].type != &mr_nat44_stage)
			continue;
		const struct nat *n = plan->stage[i].self;
		unsigned k = 0;
		while (k < store_cnt && store[k] != n->shared->store)
			k++;
		if (k < store_cnt)
			continue;
		cr_assert_lt(store_cnt, STORES);
		store[store_cnt++] = nat_store_hold(n->shared->store);
	}
}

static void expect_empty(struct nat_store *s, unsigned number)
{
	struct nat_policy p = { .quarantine_ms = 1000 };
	struct nat_turn t = { &p, 0, clock_ms() + 20000000 }; /* after all that time_out() did */
	struct nat_store_usage u;
	struct nat_address_usage a;
	for (unsigned i = 0; i < 20; i++)
		nat_store_tick(s, &t);
	nat_store_usage(s, &u);
	cr_assert_eq(u.mapping_cnt, 0, "store %u has %u mappings", number, u.mapping_cnt);
	struct nat_subscriber_usage who;
	for (uint32_t at = 0; nat_store_next_subscriber(s, &at, &who);)
		fprintf(stderr, "subscriber %x zone %u: %u sessions, %u mappings, %u blocks\n", ntohl(who.inside_be),
			who.zone, who.session_cnt, who.mapping_cnt, who.block_cnt);
	cr_assert_eq(u.subscriber_cnt, 0, "store %u has %u subscribers", number, u.subscriber_cnt);
	for (uint32_t i = 0; nat_store_address_usage(s, i, &a); i++) {
		for (unsigned k = 0; k < NAT_PROTO_CNT; k++)
			cr_assert(a.taken[k] == 0 && a.resting[k] == 0, "store %u, address %u: %u taken, %u rest",
				number, i, a.taken[k], a.resting[k]);
		cr_assert(a.subscriber_cnt == 0 && a.blocks_taken == 0, "store %u, address %u", number, i);
	}
}

static void finish(struct rig *r)
{
	uint64_t made = 0;
	for (uint32_t idx; (idx = mr_sessions_next(r->sh.sessions, 1)) != 0;)
		mr_session_end(r->sh.sessions, 0, idx, clock_ms());
	cr_assert_eq(sessions(r), 0);
	for (unsigned i = 0; i < store_cnt; i++) {
		struct nat_store_usage u;
		nat_store_usage(store[i], &u);
		made += u.mappings_made;
		expect_empty(store[i], i);
	}
	cr_assert_gt(made, 500);
	rig_destroy(r);
	while (store_cnt)
		nat_store_drop(store[--store_cnt]);
}

/* ---- steps ------------------------------------------------------------------------------------------------------- */

static void say_outward(struct rig *r)
{
	static const char *const kinds[] = { "udp", "tcp", "tcp", "tcp", "tcp", "gre", "icmp" };
	static const char *const ends[] = { "", " flags syn", " flags ack", " flags fin,ack", " flags rst" };
	char packet[96], to[16];
	unsigned what = any(7), host = any(16), port = 1000 + any(8);
	bool hairpin = !any(6);
	snprintf(to, sizeof(to), hairpin ? "203.0.113.%u" : "192.0.2.%u", 1 + any(4));
	if (what == 5)
		snprintf(packet, sizeof(packet), "gre 10.0.0.%u > %s", host, to);
	else if (what == 6)
		snprintf(packet, sizeof(packet), "icmp 10.0.0.%u > %s type 8 id %u", host, to, port);
	else
		snprintf(packet, sizeof(packet), "%s 10.0.0.%u:%u > %s:%u%s", kinds[what], host, port, to,
			hairpin ? 2000 + any(64) : 10 + any(40), ends[what]);
	rig_say(r, "lan", packet);
}

static void say_inward(struct rig *r)
{
	static const char *const ends[] = { "", " flags syn", " flags syn,ack", " flags ack" };
	static const char *const to[] = { "203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.9", "198.51.100.1",
		"10.0.0.9" };
	char packet[96];
	unsigned what = any(4);
	snprintf(packet, sizeof(packet), "%s 192.0.2.%u:%u > %s:%u%s", what ? "tcp" : "udp", 1 + any(4), 10 + any(40),
		ONE_OF(to), 2000 + any(64), ends[what]);
	rig_say(r, "wan", packet);
}

static void packets(struct rig *r)
{
	for (unsigned n = 1 + any(12); n; n--) {
		if (any(3))
			say_outward(r);
		else
			say_inward(r);
	}
	rig_turn(r);
	rig_sent(r, "lan");
	rig_sent(r, "wan");
}

static void meanwhile(struct rig *r)
{
	note_stores(rig_plan(r));
	packets(r);
}

/* A time-out of all that is older than that, or of none. */
static void time_out(struct rig *r)
{
	static const uint32_t after[] = { 1000, 61000, 250000, 700000, 8000000 };
	uint32_t now = clock_ms() + ONE_OF(after);
	for (unsigned i = 0; i < 8; i++)
		mr_sessions_sweep(r->sh.sessions, 0, now, 1u << 20);
}

static void walk(uint32_t first_seed, uint32_t capacity)
{
	struct rig_options opt = { .sessions = capacity, .half_open_max = capacity / 2 };
	seed = first_seed;
	struct rig *r = rig_create(some_config(), &opt);
	note_stores(rig_plan(r));
	r->meanwhile = meanwhile;
	for (unsigned i = 0; i < STEPS; i++) {
		unsigned what = any(200);
		uint32_t idx = what < 30 ? mr_sessions_next(r->sh.sessions, 1 + any(capacity)) : 0;
		if (idx)
			mr_session_end(r->sh.sessions, what < 5 ? r->sh.worker_cnt : 0, idx, clock_ms());
		else if (what < 35)
			time_out(r);
		else if (what < 38)
			rig_reload(r, some_config());
		else if (what == 38)
			rig_give_up(r, some_config());
		else
			packets(r);
	}
	cr_assert(rig_adds_up(r));
	finish(r);
}

Test(nat44_leaks, walk_1)
{
	walk(1 * 2654435761u, 96);
}

Test(nat44_leaks, walk_2)
{
	walk(2 * 2654435761u, 256);
}

Test(nat44_leaks, walk_3)
{
	walk(3 * 2654435761u, 24);
}

Test(nat44_leaks, walk_4)
{
	walk(4 * 2654435761u, 4096);
}

/* Two workers, with packets of some hundred conversations in a table for 128, while configurations come and go. */
Test(nat44_leaks, threads, .timeout = 200)
{
	struct rig_options opt = { .worker_cnt = 2, .sessions = 128 };
	struct mr_error e = { 0 };
	seed = 77;
	struct rig *r = rig_create(some_config(), &opt);
	for (unsigned i = 0; i < 400; i++) {
		say_outward(r);
		say_inward(r);
	}
	for (unsigned id = 1; id <= 2; id++) {
		r->handback[id].answer = -EAGAIN; /* two threads would write one list */
		struct rig_queue *q = r->interface[id].queue;
		const char *name = id == rig_id(r, "wan") ? "wan" : "lan";
		for (uint32_t i = 0; i < q[0].in.cnt; i++)
			rig_inject(r, name, 1, q[0].in.frame[(i + 150) % q[0].in.cnt].data,
				q[0].in.frame[(i + 150) % q[0].in.cnt].len);
		for (unsigned n = 0; n < 2; n++) {
			q[n].endless = UINT64_MAX / 2;
			q[n].discard = true;
		}
	}
	for (unsigned w = 0; w < 2; w++)
		cr_assert_eq(mr_worker_start(r->worker[w], -1, &e), 0, "%s", e.text);
	for (unsigned i = 0; i < 60; i++) {
		note_stores(rig_plan(r));
		rig_reload(r, some_config());
		usleep(2000);
	}
	note_stores(rig_plan(r));
	for (unsigned w = 0; w < 2; w++)
		mr_worker_stop(r->worker[w]);
	finish(r);
}
