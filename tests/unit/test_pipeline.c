/* SPDX-License-Identifier: BSD-2-Clause */
/* Packets through whole workers: hits, misses, what is stored, the ways out. */
#include "rig.h"

#include "core/batch.h"
#include "core/session.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define WIRE                        \
	"version: 1\n"              \
	"interfaces:\n"             \
	"  wan: { device: wan0 }\n" \
	"  lan: { device: lan0 }\n"
#define BOTH                                                                \
	"pipelines:\n"                                                      \
	"  in: { from: [ wan ], match: all, stages: [ guard ], to: lan }\n" \
	"  out: { from: [ lan ], match: all, stages: [ guard ], to: wan }\n"

static const char open_wire[] = WIRE "stages:\n  guard: { type: filter, default: accept }\n" BOTH;

Test(pipeline, first_packet_is_decided_the_second_hits)
{
	struct rig *r = rig_create(open_wire, NULL);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 1);
	cr_assert_eq(rig_stats(r, "wan", "in").hits, 0);
	for (int i = 0; i < 5; i++)
		rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 5);
	cr_assert_eq(rig_stats(r, "wan", "in").hits, 5);
	cr_assert_eq(rig_stats(r, "wan", "in").forwarded.packets, 6);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(pipeline, the_reply_has_its_own_decision_and_then_hits_too)
{
	struct rig *r = rig_create(open_wire, NULL);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	rig_say(r, "lan", "udp 10.0.0.2:53 > 10.0.0.1:1000");
	rig_turn(r);
	cr_assert_eq(rig_stats(r, "lan", "out").hits, 0);
	rig_say(r, "lan", "udp 10.0.0.2:53 > 10.0.0.1:1000");
	rig_turn(r);
	cr_assert_eq(rig_stats(r, "lan", "out").hits, 1);
	cr_assert_eq(rig_sent(r, "wan"), 2);
	struct mr_session *s = mr_session_at(r->sh.sessions, mr_sessions_next(r->sh.sessions, 1));
	cr_assert_eq(s->state, MR_SESSION_ESTABLISHED);
	rig_destroy(r);
}

Test(pipeline, ipv6_hits_too)
{
	struct rig *r = rig_create(open_wire, NULL);
	for (int i = 0; i < 3; i++) {
		rig_say(r, "wan", "udp [fd00::1]:1000 > [fd00::2]:53");
		rig_turn(r);
	}
	cr_assert_eq(rig_sent(r, "lan"), 3);
	cr_assert_eq(rig_stats(r, "wan", "in").hits, 2);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(pipeline, a_batch_of_first_packets_opens_one_session)
{
	struct rig *r = rig_create(open_wire, NULL);
	struct mr_sessions_usage u;
	for (int i = 0; i < 60; i++)
		rig_say(r, "wan", i & 1 ? "udp 10.0.0.1:1000 > 10.0.0.2:53" : "udp 10.0.0.1:1001 > 10.0.0.2:53");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 60);
	mr_sessions_usage(r->sh.sessions, &u);
	cr_assert_eq(u.live, 2);
	cr_assert_eq(u.lost_race, 0);
	/* the record counts them all */
	uint64_t packets, bytes;
	mr_session_totals(r->sh.sessions, mr_sessions_next(r->sh.sessions, 1), MR_FORWARD, &packets, &bytes);
	cr_assert_eq(packets, 30);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* ---- ways out --------------------------------------------------------------------------------------------------- */

Test(pipeline, what_no_pipeline_wants_goes_to_the_kernel)
{
	struct rig *r = rig_create(WIRE
		"stages:\n  guard: { type: filter, default: accept }\n"
		"pipelines:\n  in: { from: [ wan ], match: [ { proto: udp } ], stages: [ guard ], to: lan }\n",
		NULL);
	rig_say(r, "wan", "tcp 10.0.0.1:1000 > 10.0.0.2:22");
	rig_say(r, "wan", "ethertype 0x0806");
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:22");
	rig_turn(r);
	cr_assert_eq(rig_kernel(r, "wan"), 2);
	cr_assert_eq(rig_sent(r, "lan"), 1);
	cr_assert_eq(rig_stats(r, "wan", "").kernel.packets, 2);
	r->handback[rig_id(r, "wan")].answer = -EAGAIN;
	rig_say(r, "wan", "tcp 10.0.0.1:1000 > 10.0.0.2:22");
	rig_turn(r);
	cr_assert_eq(rig_dropped(r, "wan", "", "handback-failed"), 1);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(pipeline, back_swaps_the_macs_and_kernel_hands_over)
{
	struct rig *r = rig_create(WIRE "pipelines:\n  in: { from: [ wan ], match: all, stages: [], to: back }\n"
					"  out: { from: [ lan ], match: all, stages: [], to: kernel }\n",
		NULL);
	for (int i = 0; i < 2; i++) {
		rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
		rig_turn(r);
		const struct rig_frame *in = &r->interface[1].queue[0].in.frame[0], *out = rig_last(r, "wan");
		cr_assert_not_null(out);
		cr_assert_arr_eq(out->data, in->data + 6, 6);
		cr_assert_arr_eq(out->data + 6, in->data, 6);
		cr_assert_arr_eq(out->data + 12, in->data + 12, in->len - 12);
		rig_say(r, "lan", "udp 10.0.0.9:1000 > 10.0.0.8:53");
		rig_turn(r);
		cr_assert_eq(rig_kernel(r, "lan"), 1);
	}
	cr_assert_eq(rig_stats(r, "lan", "out").hits, 1);
	cr_assert_eq(rig_stats(r, "wan", "in").hits, 1);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(pipeline, a_link_that_is_down_or_gone)
{
	struct rig *r = rig_create(open_wire, NULL);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	r->down[rig_id(r, "lan")] = true;
	rig_refresh(r);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	cr_assert_eq(rig_dropped(r, "wan", "in", "link-down"), 1);
	r->down[rig_id(r, "lan")] = false;
	r->interface[rig_id(r, "lan")].queue_cnt = 0;
	rig_refresh(r);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	cr_assert_eq(rig_dropped(r, "wan", "in", "link-down"), 2);
	r->interface[rig_id(r, "lan")].queue_cnt = 1;
	rig_refresh(r);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 2);
	cr_assert_eq(rig_stats(r, "wan", "in").hits, 3, "the flow was kept");
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(pipeline, a_consumer_that_stops)
{
	struct rig_options opt = { .frames = 64 };
	struct rig *r = rig_create(open_wire, &opt);
	struct rig_queue *lan = &r->interface[rig_id(r, "lan")].queue[0];
	lan->tx_room = 10;
	for (int i = 0; i < 200; i++)
		rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 10);
	cr_assert_eq(rig_dropped(r, "wan", "in", "tx-full"), 190);
	cr_assert_gt(lan->service_cnt, 0);
	lan->tx_room = UINT32_MAX;
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 1);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(pipeline, over_the_mtu)
{
	struct rig *r = rig_create(open_wire, NULL);
	for (int i = 0; i < 2; i++) {
		rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53 length 1500");
		rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53 length 1501");
		rig_turn(r);
	}
	cr_assert_eq(rig_sent(r, "lan"), 2);
	cr_assert_eq(rig_dropped(r, "wan", "in", "too-big"), 2);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* ---- bad frames ---------------------------------------------------------------------------------------------------- */

Test(pipeline, truncated_at_every_length)
{
	struct rig *r = rig_create(open_wire, NULL);
	uint8_t frame[RIG_FRAME];
	uint32_t len;
	rig_say(r, "wan", "tcp [fd00::1]:1000 > [fd00::2]:53 vlan 7 length 120");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 1);
	struct rig_list *in = &r->interface[1].queue[0].in;
	len = in->frame[0].len;
	memcpy(frame, in->frame[0].data, len);
	for (uint32_t cut = 0; cut < len; cut++)
		rig_inject(r, "wan", 0, frame, cut);
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 0);
	cr_assert_eq(rig_dropped(r, "wan", "in", "short-ethernet"), 18);
	cr_assert_eq(rig_dropped(r, "wan", "in", "short-ip"), 40);
	cr_assert_eq(rig_dropped(r, "wan", "in", "truncated"), len - 58);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* ---- two workers ---------------------------------------------------------------------------------------------------- */

Test(pipeline, an_interface_with_fewer_queues_than_workers)
{
	struct rig_options opt = { .worker_cnt = 2 };
	struct rig *r = rig_create(open_wire, &opt);
	uint8_t frame[RIG_FRAME];
	r->interface[rig_id(r, "lan")].queue_cnt = 1;
	rig_refresh(r);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	struct rig_frame *f = &r->interface[1].queue[0].in.frame[0];
	memcpy(frame, f->data, f->len);
	for (int i = 0; i < 100; i++)
		rig_inject(r, "wan", 1, frame, f->len);
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 101);
	cr_assert_eq(mr_stats_worker(r->sh.stats, 1)->handoff_out, 100);
	cr_assert_eq(mr_stats_worker(r->sh.stats, 0)->handoff_in, 100);
	cr_assert(rig_adds_up(r));
	/* held frames are counted when everything ends */
	rig_inject(r, "wan", 1, frame, f->len);
	mr_worker_poll(r->worker[1]);
	cr_assert_eq(mr_stats_worker(r->sh.stats, 1)->held, 1);
	rig_destroy(r);
}

Test(pipeline, a_full_hand_off_ring)
{
	struct rig_options opt = { .worker_cnt = 2, .frames = 4096 };
	struct rig *r = rig_create(open_wire, &opt);
	r->interface[rig_id(r, "lan")].queue_cnt = 1;
	rig_refresh(r);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	struct rig_frame f = r->interface[1].queue[0].in.frame[0];
	for (int i = 0; i < MR_HANDOFF_RING + 100; i++)
		rig_inject(r, "wan", 1, f.data, f.len);
	while (mr_worker_poll(r->worker[1])) /* worker 0 does not turn */
		;
	cr_assert_eq(rig_dropped(r, "wan", "in", "handoff-full"), 100);
	cr_assert_eq(mr_stats_worker(r->sh.stats, 1)->held, MR_HANDOFF_RING);
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), MR_HANDOFF_RING + 1);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* Threads, hand-off between them, a reload in the middle. */
Test(pipeline, threads, .timeout = 120)
{
	struct rig_options opt = { .worker_cnt = 2, .frames = 4096 };
	struct rig *r = rig_create(open_wire, &opt);
	struct mr_error e;
	r->interface[rig_id(r, "lan")].queue_cnt = 1;
	rig_refresh(r);
	const uint64_t n = 300000;
	for (unsigned q = 0; q < 2; q++) {
		rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
		struct rig_frame f = r->interface[1].queue[0].in.frame[0];
		r->interface[2].queue[q].discard = true;
		if (q)
			rig_inject(r, "wan", 1, f.data, f.len);
	}
	for (unsigned q = 0; q < 2; q++)
		r->interface[1].queue[q].endless = n;
	for (unsigned w = 0; w < 2; w++)
		cr_assert_eq(mr_worker_start(r->worker[w], -1, &e), 0, "%s", e.text);
	for (int i = 0; i < 5; i++)
		rig_reload(r, open_wire);
	for (;;) {
		struct mr_stats_ingress s = rig_stats(r, "wan", "in");
		if (s.received.packets >= 2 * n && !mr_handoff_waiting(r->sh.handoff, 0))
			break;
	}
	for (unsigned w = 0; w < 2; w++)
		mr_worker_stop(r->worker[w]);
	struct mr_stats_ingress s = rig_stats(r, "wan", "in");
	cr_assert_geq(s.received.packets, 2 * n);
	cr_assert_gt(s.hits, n);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* ---- explain --------------------------------------------------------------------------------------------------------- */

Test(pipeline, explain_says_what_happens_and_changes_nothing)
{
	struct rig *r = rig_create(WIRE "stages:\n  guard: { type: filter, default: accept, rules: [ { name: no-dns, "
					"action: drop, dport: 53 } ] }\n" BOTH,
		NULL);
	struct mr_explanation x;
	struct mr_error e;
	struct mr_sessions_usage u;
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:54");
	struct rig_frame f[2] = { r->interface[1].queue[0].in.frame[0], r->interface[1].queue[0].in.frame[1] };
	cr_assert_eq(mr_worker_explain(&r->sh, rig_plan(r), 1, f[0].data, f[0].len, &x, &e), 0);
	cr_assert_str_eq(x.verdict, "drop");
	cr_assert_str_eq(x.reason, "filter-blocked");
	cr_assert_str_eq(x.pipeline, "in");
	cr_assert(strstr(x.text, "rule no-dns (test.yaml:6)"), "%s", x.text);
	cr_assert_eq(mr_worker_explain(&r->sh, rig_plan(r), 1, f[1].data, f[1].len, &x, &e), 0);
	cr_assert_str_eq(x.verdict, "forward");
	cr_assert_str_eq(x.egress, "lan");
	cr_assert(x.stored && !x.from_record);
	mr_sessions_usage(r->sh.sessions, &u);
	cr_assert_eq(u.live, 0);
	cr_assert_eq(rig_counter(r, "stages.guard.rules.no-dns"), 0);
	rig_turn(r);
	cr_assert_eq(mr_worker_explain(&r->sh, rig_plan(r), 1, f[1].data, f[1].len, &x, &e), 0);
	cr_assert(x.from_record);
	cr_assert_str_eq(x.egress, "lan");
	cr_assert_eq(mr_worker_explain(&r->sh, rig_plan(r), 99, f[1].data, f[1].len, &x, &e), -ENOENT);
	rig_destroy(r);
}

/* Conversations whose two directions, and whose first packets, meet on two threads; with reloads and sleeps between. */
Test(pipeline, threads_open_the_same_flows, .timeout = 120)
{
	static const char other[] = WIRE "stages:\n  guard: { type: filter, default: accept, rules: [ { name: n, "
					 "action: accept, state: established }, "
					 "{ name: no, action: drop, dport: 1005 } ] }\n" BOTH;
	struct rig_options opt = { .worker_cnt = 2, .frames = 4096, .sessions = 256 };
	struct rig *r = rig_create(open_wire, &opt);
	struct mr_error e;
	char packet[80];
	const uint64_t n = 60000;
	for (unsigned i = 0; i < 300; i++) { /* more than the table holds */
		snprintf(packet, sizeof(packet), "udp 10.0.0.1:%u > 10.0.0.2:53", 1000 + i);
		rig_say(r, "wan", packet);
		snprintf(packet, sizeof(packet), "udp 10.0.0.2:53 > 10.0.0.1:%u", 1000 + i);
		rig_say(r, "lan", packet);
		for (unsigned id = 1; id <= 2; id++) {
			struct rig_frame f = r->interface[id].queue[0].in.frame[i];
			rig_inject(r, id == 1 ? "wan" : "lan", 1, f.data, f.len);
		}
	}
	for (unsigned id = 1; id <= 2; id++)
		for (unsigned q = 0; q < 2; q++) {
			r->interface[id].queue[q].discard = true;
			r->interface[id].queue[q].endless = n;
		}
	for (unsigned w = 0; w < 2; w++)
		cr_assert_eq(mr_worker_start(r->worker[w], -1, &e), 0, "%s", e.text);
	for (int i = 0; i < 20; i++)
		rig_reload(r, i & 1 ? open_wire : other);
	while (!mr_worker_drained(r->worker[0]) || !mr_worker_drained(r->worker[1]))
		;
	for (unsigned w = 0; w < 2; w++)
		mr_worker_stop(r->worker[w]);
	cr_assert_eq(rig_stats(r, "wan", "in").received.packets, 2 * n);
	cr_assert_eq(rig_stats(r, "lan", "out").received.packets, 2 * n);
	cr_assert(rig_adds_up(r));
	struct mr_sessions_usage u;
	mr_sessions_usage(r->sh.sessions, &u);
	cr_assert_leq(u.live, 256);
	rig_destroy(r);
}

/* TCP conversations that open, end, are reset and start over, both directions on two threads; more than the table holds, with reloads. */
Test(pipeline, threads_and_tcp, .timeout = 120)
{
	static const char other[] = WIRE "stages:\n  guard: { type: filter, default: accept, rules: [ { action: "
					 "accept, state: established }, { action: drop, dport: 1005 } ] }\n" BOTH;
	static const char *const flags[] = { "syn", "syn,ack", "ack", "ack", "ack", "fin,ack", "rst", "ack,psh" };
	struct rig_options opt = { .worker_cnt = 2, .frames = 4096, .sessions = 256, .half_open_max = 64 };
	struct rig *r = rig_create(open_wire, &opt);
	struct mr_sessions_usage u;
	struct mr_flows_usage f;
	struct mr_error e;
	char packet[80];
	unsigned seed = 7;
	const uint64_t n = 60000;
	for (unsigned i = 0; i < 2000; i++)
		for (unsigned k = 0; k < 4; k++) {
			const char *set = flags[(seed = seed * 1103515245 + 12345) >> 16 & 7];
			unsigned port = 1000 + (seed >> 20) % 400;
			if (k & 1)
				snprintf(packet, sizeof(packet), "tcp 10.0.0.2:53 > 10.0.0.1:%u flags %s", port, set);
			else
				snprintf(packet, sizeof(packet), "tcp 10.0.0.1:%u > 10.0.0.2:53 flags %s", port, set);
			rig_say(r, k & 1 ? "lan" : "wan", packet);
			if (k < 2)
				continue;
			struct rig_list *l = &r->interface[rig_id(r, k & 1 ? "lan" : "wan")].queue[0].in;
			struct rig_frame frame = l->frame[--l->cnt];
			rig_inject(r, k & 1 ? "lan" : "wan", 1, frame.data, frame.len);
		}
	for (unsigned id = 1; id <= 2; id++)
		for (unsigned q = 0; q < 2; q++) {
			r->interface[id].queue[q].discard = true;
			r->interface[id].queue[q].endless = n;
		}
	for (unsigned w = 0; w < 2; w++)
		cr_assert_eq(mr_worker_start(r->worker[w], -1, &e), 0, "%s", e.text);
	for (int i = 0; i < 20; i++)
		rig_reload(r, i & 1 ? open_wire : other);
	while (!mr_worker_drained(r->worker[0]) || !mr_worker_drained(r->worker[1]))
		;
	for (unsigned w = 0; w < 2; w++)
		mr_worker_stop(r->worker[w]);
	cr_assert(rig_adds_up(r));
	mr_sessions_usage(r->sh.sessions, &u);
	mr_flows_usage(r->sh.flows, &f);
	uint64_t live = 0, half_open = 0;
	for (uint32_t idx = 0; (idx = mr_sessions_next(r->sh.sessions, idx + 1)) != 0; live++)
		half_open += mr_session_half_open(mr_session_at(r->sh.sessions, idx));
	/* How many depends on how the threads met: once all sessions are established, none may be evicted. */
	cr_assert_gt(u.evicted, 0);
	cr_assert_eq(u.live, live);
	cr_assert_leq(live, 256);
	cr_assert_eq(f.live4, 2 * live);
	cr_assert_eq(u.half_open, half_open);
	cr_assert_eq(u.created, u.live + u.expired + u.ended + u.evicted);
	rig_destroy(r);
}

/* While a batch is being decided, somebody else is first with one of its flows. */
static struct mr_stage_type busy;
static const struct mr_stage_type *quiet;
static struct rig *busy_rig;

static void busy_decide(void *stage, unsigned worker, struct mr_batch *batch)
{
	struct mr_packet *p = mr_batch_packet(batch, 0);
	struct mr_flow_key reverse = p->key;
	struct mr_flow_decision d = { .ingress = p->ingress,
		.flags = MR_FLOW_DECIDED | MR_FLOW_NO_TTL,
		.nexthop = rig_id(busy_rig, "lan"),
		.generation = rig_plan(busy_rig)->generation };
	uint32_t idx;
	quiet->decide(stage, worker, batch);
	reverse.k4.saddr_be = p->key.k4.daddr_be;
	reverse.k4.daddr_be = p->key.k4.saddr_be;
	reverse.k4.sport_be = p->key.k4.dport_be;
	reverse.k4.dport_be = p->key.k4.sport_be;
	reverse.hash = mr_flow_hash4(&reverse.k4, mr_flows_seed(busy_rig->sh.flows));
	cr_assert_eq(mr_session_create(busy_rig->sh.sessions, 1, &p->key, &reverse, &d, 0, false, NULL, 1, &idx), 0);
	busy.decide = quiet->decide;
}

Test(pipeline, who_loses_a_race_keeps_the_order_of_his_flow)
{
	struct rig *r = busy_rig = rig_create(open_wire, NULL);
	char packet[80];
	quiet = rig_plan(r)->stage[0].type;
	busy = *quiet;
	busy.decide = busy_decide;
	rig_plan(r)->stage[0].type = &busy;
	for (unsigned i = 0; i < 20; i++) {
		snprintf(packet, sizeof(packet), "udp 10.0.0.1:1000 > 10.0.0.2:53 length %u", 100 + i);
		rig_say(r, "wan", packet);
	}
	rig_turn(r);
	struct rig_list *out = &r->interface[rig_id(r, "lan")].queue[0].out;
	cr_assert_eq(out->cnt, 20);
	for (unsigned i = 0; i < 20; i++)
		cr_assert_eq(out->frame[i].len, 14 + 100 + i, "frame %u has %u bytes", i, out->frame[i].len);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

static enum mr_revalidate busy_revalidate(void *stage, unsigned worker, struct mr_packet *p)
{
	mr_decide_drop(p, 0);
	return MR_REVALIDATE_END;
}

Test(pipeline, a_stage_ends_a_session_and_drops_the_packet)
{
	struct rig *r = rig_create(open_wire, NULL);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	cr_assert_eq(mr_sessions_next(r->sh.sessions, 1), 1);
	rig_reload(r, open_wire);
	busy = *rig_plan(r)->stage[0].type;
	busy.revalidate = busy_revalidate;
	rig_plan(r)->stage[0].type = &busy;
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	cr_assert_eq(rig_dropped(r, "wan", "in", "stage"), 2, "both were asked before the session ended");
	cr_assert_eq(mr_sessions_next(r->sh.sessions, 1), 0);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 2, "a new flow");
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* Where the pipeline is no function of the key, each packet is classified: one flow, two pipelines. */
Test(pipeline, a_flow_in_two_pipelines)
{
	struct rig *r =
		rig_create(WIRE "pipelines:\n  tagged: { from: [ wan ], match: [ { vlan: 5 } ], stages: [], to: lan }\n"
				"  plain: { from: [ wan ], match: [ { proto: udp } ], stages: [], to: back }\n",
			NULL);
	cr_assert_not(rig_plan(r)->interface[1].key_only);
	for (int i = 0; i < 3; i++) {
		rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53 vlan 5");
		rig_turn(r);
		rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
		rig_turn(r);
	}
	cr_assert_eq(rig_sent(r, "lan"), 3);
	cr_assert_eq(rig_sent(r, "wan"), 3);
	cr_assert_eq(rig_stats(r, "wan", "plain").forwarded.packets, 3);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	cr_assert_eq(rig_stats(r, "wan", "plain").hits, 1);
	cr_assert_eq(rig_sent(r, "wan"), 1);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(pipeline, a_sleeping_worker_wakes_for_what_is_handed_over, .timeout = 60)
{
	struct rig_options opt = { .worker_cnt = 2 };
	struct rig *r = rig_create(open_wire, &opt);
	struct mr_stats_worker *s = mr_stats_worker(r->sh.stats, 0);
	struct mr_error e;
	r->sh.idle.idle = MR_IDLE_POLL;
	r->interface[rig_id(r, "lan")].queue_cnt = 1;
	r->interface[rig_id(r, "lan")].queue[0].discard = true;
	rig_refresh(r);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	struct rig_frame f = r->interface[1].queue[0].in.frame[0];
	cr_assert_eq(mr_worker_start(r->worker[0], -1, &e), 0, "%s", e.text);
	for (unsigned i = 0; i < 50; i++) {
		uint64_t sleeps = __atomic_load_n(&s->sleeps, __ATOMIC_RELAXED);
		while (__atomic_load_n(&s->sleeps, __ATOMIC_RELAXED) < sleeps + 2)
			;
		rig_inject(r, "wan", 1, f.data, f.len);
		mr_worker_poll(r->worker[1]);
		while (mr_handoff_held(r->sh.handoff, 1))
			;
	}
	uint64_t loops = __atomic_load_n(&s->loops, __ATOMIC_RELAXED),
		 sleeps = __atomic_load_n(&s->sleeps, __ATOMIC_RELAXED);
	cr_assert_leq(loops, 2 * sleeps + 100, "it turned %llu times and slept %llu times", (unsigned long long)loops,
		(unsigned long long)sleeps);
	mr_worker_stop(r->worker[0]);
	cr_assert_eq(s->handoff_in, 50);
	cr_assert_not(mr_worker_running(r->worker[0]));
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(pipeline, no_such_core)
{
	struct rig *r = rig_create(open_wire, NULL);
	struct mr_error e;
	cr_assert_lt(mr_worker_start(r->worker[0], 1000, &e), 0);
	cr_assert(strstr(e.text, "core 1000"), "%s", e.text);
	cr_assert_lt(mr_worker_start(r->worker[0], 1000000, &e), 0);
	cr_assert_not(mr_worker_running(r->worker[0]));
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 1);
	rig_destroy(r);
}
