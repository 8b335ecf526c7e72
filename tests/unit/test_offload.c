/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which flows workers leave to the kernel tier, when, and what takes them back; over whole workers and a tier in plain memory.
 * What XDP would do to a record (mark it CLOSING, count in it) the tests do.
 */
#include "rig.h"

#include "core/offload.h"
#include "core/session.h"
#include "core/tier.h"
#include "core/turn.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HEAD(flows)                 \
	"version: 1\n"              \
	"flows: { " flows " }\n"    \
	"interfaces:\n"             \
	"  wan: { device: wan0 }\n" \
	"  lan: { device: lan0 }\n" \
	"pipelines:\n"
#define BOTH                                             \
	"  in: { from: [ wan ], match: all, to: lan }\n" \
	"  out: { from: [ lan ], match: all, to: wan }\n"

static const char established[] = HEAD("capacity: 1k") BOTH;
static const char always[] = HEAD("offload: always") BOTH;
static const char never[] = HEAD("offload: never") BOTH;
static const struct rig_options with_tier = { .tier = true };

#define UDP_THERE "udp 10.0.0.1:1000 > 10.0.0.2:53"
#define UDP_BACK  "udp 10.0.0.2:53 > 10.0.0.1:1000"
#define TCP_THERE "tcp 10.0.0.1:1000 > 10.0.0.2:80 flags "
#define TCP_BACK  "tcp 10.0.0.2:80 > 10.0.0.1:1000 flags "

static void say(struct rig *r, const char *interface, const char *packet, unsigned times)
{
	for (unsigned i = 0; i < times; i++) {
		rig_say(r, interface, packet);
		rig_turn(r);
	}
}

/* The session there is: each test has one. */
static uint32_t session(struct rig *r)
{
	uint32_t idx = mr_sessions_next(r->sh.sessions, 1);
	cr_assert(idx, "there is a session");
	return idx;
}

static mr_flow_ref ref_of(struct rig *r, enum mr_direction dir)
{
	return mr_session_at(r->sh.sessions, session(r))->ref[dir];
}

static struct mr_flow_state *state_of(struct rig *r, enum mr_direction dir)
{
	struct mr_flow_state *st = mr_flows_state(r->sh.flows, ref_of(r, dir));
	cr_assert_not_null(st);
	return st;
}

static bool offloaded(struct rig *r, enum mr_direction dir)
{
	return (state_of(r, dir)->flags & (MR_FLOW_OFFLOAD | MR_FLOW_TRACK | MR_FLOW_CLOSING)) == MR_FLOW_OFFLOAD;
}

static const char *why(struct rig *r, enum mr_direction dir)
{
	const struct mr_session *s = mr_session_at(r->sh.sessions, session(r));
	const struct mr_flow4 *rec = mr_flows_record4(r->sh.flows, ref_of(r, dir));
	return mr_offload_name(mr_offload_judge(&r->sh, rig_plan(r), s, dir, rec->key.ingress, &rec->st));
}

/* SYN, SYN/ACK, ACK and data in both directions: more than three packets each. */
static void converse(struct rig *r)
{
	say(r, "wan", TCP_THERE "syn", 1);
	say(r, "lan", TCP_BACK "syn,ack", 1);
	for (unsigned i = 0; i < 4; i++) {
		say(r, "wan", TCP_THERE "ack", 1);
		say(r, "lan", TCP_BACK "ack", 1);
	}
}

/* What kern/tier.bpf.h does before it sends a FIN or RST up. */
static void xdp_marks(struct rig *r, enum mr_direction dir)
{
	__atomic_fetch_or(&state_of(r, dir)->flags, MR_FLOW_CLOSING, __ATOMIC_RELAXED);
}

/* ---- going over ---------------------------------------------------------------------------------------------------- */

Test(offload, without_a_tier_nothing_is_marked)
{
	struct rig *r = rig_create(always, NULL);
	say(r, "wan", UDP_THERE, 5);
	say(r, "lan", UDP_BACK, 5);
	cr_expect_not(offloaded(r, MR_FORWARD));
	cr_expect_str_eq(why(r, MR_FORWARD), "no-kernel-tier");
	rig_destroy(r);
}

Test(offload, udp_goes_over_when_both_directions_were_seen_and_three_packets)
{
	struct rig *r = rig_create(established, &with_tier);
	say(r, "wan", UDP_THERE, 5);
	cr_expect_not(offloaded(r, MR_FORWARD), "no reply yet");
	cr_expect_str_eq(why(r, MR_FORWARD), "state");
	cr_expect_str_eq(why(r, MR_REPLY), "undecided");
	say(r, "lan", UDP_BACK, 2);
	cr_expect_str_eq(why(r, MR_REPLY), "packets");
	cr_expect_str_eq(why(r, MR_FORWARD), "soon");
	say(r, "wan", UDP_THERE, 1);
	cr_expect(offloaded(r, MR_FORWARD));
	cr_expect_str_eq(why(r, MR_FORWARD), "");
	cr_expect_not(offloaded(r, MR_REPLY), "two packets");
	say(r, "lan", UDP_BACK, 1);
	cr_expect(offloaded(r, MR_REPLY), "three");
	struct mr_flows_usage u;
	mr_flows_usage(r->sh.flows, &u);
	cr_expect_eq(u.offloaded, 2);
	cr_assert(rig_adds_up(r));
	mr_session_end(r->sh.sessions, 0, session(r), 1000);
	mr_flows_usage(r->sh.flows, &u);
	cr_expect_eq(u.offloaded, 0, "freed");
	rig_destroy(r);
}

Test(offload, ipv6_as_well)
{
	struct rig *r = rig_create(always, &with_tier);
	say(r, "wan", "udp [fd00::1]:1000 > [fd00::2]:53", 1);
	cr_expect(offloaded(r, MR_FORWARD));
	rig_destroy(r);
}

Test(offload, always_is_with_the_first_packet)
{
	struct rig *r = rig_create(always, &with_tier);
	say(r, "wan", UDP_THERE, 1);
	cr_expect(offloaded(r, MR_FORWARD));
	cr_expect_str_eq(why(r, MR_FORWARD), "");
	rig_destroy(r);
}

Test(offload, offload_after_is_what_the_file_says)
{
	struct rig *r = rig_create(HEAD("offload_after: 10") BOTH, &with_tier);
	say(r, "wan", UDP_THERE, 1);
	say(r, "lan", UDP_BACK, 1);
	say(r, "wan", UDP_THERE, 8);
	cr_expect_not(offloaded(r, MR_FORWARD));
	say(r, "wan", UDP_THERE, 1);
	cr_expect(offloaded(r, MR_FORWARD));
	rig_destroy(r);
}

Test(offload, tcp_goes_over_after_the_handshake)
{
	for (unsigned i = 0; i < 2; i++) {
		struct rig *r = rig_create(i ? always : established, &with_tier);
		say(r, "wan", TCP_THERE "syn", 4);
		cr_expect_not(offloaded(r, MR_FORWARD));
		say(r, "lan", TCP_BACK "syn,ack", 4);
		cr_expect_not(offloaded(r, MR_REPLY), "the handshake is not over");
		cr_expect_str_eq(why(r, MR_FORWARD), "state");
		say(r, "wan", TCP_THERE "ack", 2);
		cr_expect(offloaded(r, MR_FORWARD));
		say(r, "lan", TCP_BACK "ack", 2);
		cr_expect(offloaded(r, MR_REPLY));
		rig_destroy(r);
	}
}

Test(offload, pipelines_have_their_own_word)
{
	struct rig *r =
		rig_create(HEAD("offload: never") "  in: { from: [ wan ], match: all, to: lan, offload: always }\n"
						  "  out: { from: [ lan ], match: all, to: wan }\n",
			&with_tier);
	say(r, "wan", UDP_THERE, 5);
	say(r, "lan", UDP_BACK, 5);
	cr_expect(offloaded(r, MR_FORWARD));
	cr_expect_not(offloaded(r, MR_REPLY));
	cr_expect_str_eq(why(r, MR_REPLY), "off");
	rig_destroy(r);
}

Test(offload, a_packet_that_is_decided_for_itself_stays)
{
	struct rig *r = rig_create("version: 1\nflows: { offload: always }\n"
				   "interfaces: { wan: { device: wan0 }, lan: { device: lan0 } }\n"
				   "stages: { g: { type: filter, default: accept, rules: [\n"
				   "  { name: big, action: drop, proto: udp, length: 1000-1500 } ] } }\n"
				   "pipelines: { in: { from: [ wan ], match: all, stages: [ g ], to: lan } }\n",
		&with_tier);
	say(r, "wan", UDP_THERE, 5);
	cr_expect_not(offloaded(r, MR_FORWARD));
	cr_expect_str_eq(why(r, MR_FORWARD), "undecided");
	rig_destroy(r);
}

Test(offload, an_egress_that_takes_no_frames_is_said)
{
	struct rig *r = rig_create(always, &with_tier);
	rig_takes(r, "lan", false);
	say(r, "wan", UDP_THERE, 2);
	cr_expect_str_eq(why(r, MR_FORWARD), "egress");
	rig_takes(r, "lan", true);
	cr_expect_str_eq(why(r, MR_FORWARD), "", "the mark is a permission: XDP looks at the egress itself");
	rig_destroy(r);
}

Test(offload, back_is_a_way_out_like_any_other)
{
	struct rig *r = rig_create(HEAD("offload: always") "  in: { from: [ wan ], match: all, to: back }\n"
							   "  out: { from: [ lan ], match: all, to: lan }\n",
		&with_tier);
	say(r, "wan", UDP_THERE, 2);
	cr_expect_str_eq(why(r, MR_FORWARD), "");
	rig_takes(r, "wan", false);
	cr_expect_str_eq(why(r, MR_FORWARD), "egress", "XDP sends by no interface that takes no frames");
	say(r, "lan", UDP_BACK, 2);
	cr_expect_str_eq(why(r, MR_REPLY), "");
	rig_takes(r, "lan", false);
	cr_expect_str_eq(why(r, MR_REPLY), "egress", "nor by the one it came by");
	rig_destroy(r);
}

static enum mr_offload_why judge(struct rig *r, const struct mr_session *s, const struct mr_flow_state *st)
{
	const struct mr_flow4 *rec = mr_flows_record4(r->sh.flows, ref_of(r, MR_FORWARD));
	return mr_offload_judge(&r->sh, rig_plan(r), s, MR_FORWARD, rec->key.ingress, st);
}

Test(offload, what_the_tier_does_not_know_of_is_said)
{
	struct rig *r = rig_create(always, &with_tier);
	struct mr_effect e = { .counter = { 1, MR_TIER_COUNTERS } };
	say(r, "wan", UDP_THERE, 2);
	struct mr_session s = *mr_session_at(r->sh.sessions, session(r));
	struct mr_flow_state st = *state_of(r, MR_FORWARD);
	cr_expect_eq(judge(r, &s, &st), MR_OFFLOAD_OK);
	int effects = mr_effects_intern(rig_plan(r)->effects, &e);
	cr_assert_gt(effects, 0);
	st.effects = (uint16_t)effects;
	cr_expect_eq(judge(r, &s, &st), MR_OFFLOAD_EFFECTS);
	st.effects = 0;
	s.ref[MR_FORWARD] |= 1u << 30;
	cr_assert(mr_flows_overflows(s.ref[MR_FORWARD]));
	cr_expect_eq(judge(r, &s, &st), MR_OFFLOAD_OVERFLOW);
	rig_destroy(r);
}

Test(offload, an_interface_without_a_tier_is_said)
{
	struct rig *r = rig_create(always, &with_tier);
	r->interface[rig_id(r, "wan")].info.mode = MR_MODE_GENERIC;
	rig_refresh(r);
	say(r, "wan", UDP_THERE, 2);
	say(r, "lan", UDP_BACK, 2);
	cr_expect_not(offloaded(r, MR_FORWARD));
	cr_expect_str_eq(why(r, MR_FORWARD), "interface");
	cr_expect(offloaded(r, MR_REPLY), "the other one has");
	r->interface[rig_id(r, "wan")].info.mode = MR_MODE_COPY;
	rig_refresh(r);
	say(r, "wan", UDP_THERE, 1);
	cr_expect(offloaded(r, MR_FORWARD), "it was opened again in another mode");
	rig_destroy(r);
}

Test(offload, nobody_said_and_the_interface_is_zero_copy)
{
	struct rig *r = rig_create(HEAD("capacity: 1k") BOTH, &with_tier);
	r->interface[rig_id(r, "wan")].info.mode = MR_MODE_ZEROCOPY;
	rig_refresh(r);
	say(r, "wan", UDP_THERE, 5);
	say(r, "lan", UDP_BACK, 5);
	say(r, "wan", UDP_THERE, 1);
	cr_expect_not(offloaded(r, MR_FORWARD));
	cr_expect_str_eq(why(r, MR_FORWARD), "off");
	cr_expect(offloaded(r, MR_REPLY));
	rig_destroy(r);
}

/* ICMP queries, and protocols without ports: like UDP. */
Test(offload, what_has_no_ports_goes_over_too)
{
	static const char *const there[] = { "icmp 10.0.0.1 > 10.0.0.2 type 8 id 7", "gre 10.0.0.1 > 10.0.0.2",
		"esp 10.0.0.1 > 10.0.0.2", "icmp6 fd00::1 > fd00::2 type 128 id 7" };
	static const char *const back[] = { "icmp 10.0.0.2 > 10.0.0.1 type 0 id 7", "gre 10.0.0.2 > 10.0.0.1",
		"esp 10.0.0.2 > 10.0.0.1", "icmp6 fd00::2 > fd00::1 type 129 id 7" };
	for (unsigned i = 0; i < 4; i++) {
		struct rig *r = rig_create(established, &with_tier);
		say(r, "wan", there[i], 4);
		cr_expect_not(offloaded(r, MR_FORWARD), "%s", there[i]);
		say(r, "lan", back[i], 3);
		say(r, "wan", there[i], 1);
		cr_expect(offloaded(r, MR_FORWARD) && offloaded(r, MR_REPLY), "%s", there[i]);
		rig_destroy(r);
	}
}

/* ---- order --------------------------------------------------------------------------------------------------------- */

/* One turn of each worker, as opposed to rig_turn(). */
static void one_turn(struct rig *r)
{
	for (unsigned w = 0; w < r->sh.worker_cnt; w++)
		mr_worker_poll(r->worker[w]);
}

Test(offload, not_before_the_queue_was_found_empty)
{
	struct rig *r = rig_create(always, &with_tier);
	one_turn(r);
	for (unsigned i = 0; i < 3; i++) {
		rig_say(r, "wan", UDP_THERE);
		one_turn(r);
		cr_expect_not(offloaded(r, MR_FORWARD), "more may have come while the turn lasted");
	}
	one_turn(r);
	cr_expect(offloaded(r, MR_FORWARD));
	rig_destroy(r);
}

/* What a poll of the driver has not handed over yet is not in the ring, and comes before what XDP would carry. */
Test(offload, not_while_packets_are_on_their_way_up)
{
	struct rig *r = rig_create(always, &with_tier);
	struct mr_tier_queue *q = &mr_tier_shared(r->sh.tier)->queue[rig_id(r, "wan")][0];
	uint64_t taken = r->interface[rig_id(r, "wan")].queue[0].queue.counters.rx_packets;
	q->up_packets = taken + 2; /* one of them is still to come */
	one_turn(r);
	rig_say(r, "wan", UDP_THERE);
	for (unsigned i = 0; i < 10; i++)
		one_turn(r);
	cr_expect_not(offloaded(r, MR_FORWARD));
	r->interface[rig_id(r, "wan")].queue[0].queue.counters.kernel_rx_ring_full =
		2; /* it was lost, and so is no longer waited for */
	one_turn(r);
	cr_expect(offloaded(r, MR_FORWARD));
	rig_destroy(r);
}

Test(offload, patience_ends)
{
	struct rig *r = rig_create(always, &with_tier);
	unsigned turns = 0;
	one_turn(r);
	do {
		rig_say(r, "wan", UDP_THERE);
		usleep(turns == 2 ? 30000 : 500); /* once the worker is not let run: it is not behind for that */
		one_turn(r);
	} while (!offloaded(r, MR_FORWARD) && ++turns < 5000);
	cr_expect(offloaded(r, MR_FORWARD), "although packets came in every turn");
	cr_expect_geq(turns, 60);
	rig_destroy(r);
}

/* A worker that slept, or was not let run, is not behind: the queue was empty when it last looked. */
Test(offload, a_pause_of_the_worker_is_no_impatience)
{
	struct rig *r = rig_create(always, &with_tier);
	one_turn(r);
	usleep(30000);
	rig_say(r, "wan", UDP_THERE);
	one_turn(r);
	cr_expect_not(offloaded(r, MR_FORWARD), "more may have come");
	one_turn(r);
	cr_expect(offloaded(r, MR_FORWARD));
	rig_destroy(r);
}

static uint64_t offloaded_cnt(struct rig *r)
{
	struct mr_flows_usage u;
	mr_flows_usage(r->sh.flows, &u);
	return u.offloaded;
}

/* More than fits the turn is always there: what waits for the queue to be empty would wait for ever. */
Test(offload, a_queue_that_is_behind_is_not_waited_for)
{
	enum { FLOWS = 2000 };
	/* The second queue of the same interface has nothing to do, which says nothing of the first. */
	struct rig_options two_queues = { .tier = true, .worker_cnt = 1, .queues = 2, .sessions = 4096 };
	struct rig *r = rig_create(always, &two_queues);
	char text[64];

	mr_tier_shared(r->sh.tier)->queue[rig_id(r, "wan")][0].up_packets = 1 << 20; /* most were lost */
	for (unsigned i = 0; i < 80; i++) {
		rig_say(r, "wan", UDP_THERE);
		usleep(500);
		one_turn(r);
	}
	for (unsigned i = 0; i < FLOWS; i++) {
		snprintf(text, sizeof(text), "udp 10.1.%u.%u:1000 > 10.0.0.2:53", i / 256, i % 256);
		rig_say(r, "wan", text);
		if (i % 32 == 31)
			one_turn(r);
	}
	/* Some share a place with another one of their turn, and go over with their next packet. */
	cr_expect_gt(offloaded_cnt(r), FLOWS * 8 / 10, "%llu", (unsigned long long)offloaded_cnt(r));
	rig_turn(r);
	rig_destroy(r);
}

/*
 * Two workers, and one queue of lan: what the second receives crosses to the first.  One packet of a flow that is not marked has been
 * sent, and another one waits for the second worker.
 */
static struct rig *crossing(void)
{
	struct rig_options two = { .tier = true, .worker_cnt = 2, .queues = 2 };
	struct rig *r = rig_create(always, &two);
	r->interface[rig_id(r, "lan")].queue_cnt = 1;
	rig_refresh(r);
	say(r, "wan", UDP_THERE, 1); /* through the first worker: the record, and the bytes of the next */
	cr_assert_eq(r->interface[rig_id(r, "lan")].queue[0].out.cnt, 1);
	struct rig_frame *sent = &r->interface[rig_id(r, "lan")].queue[0].out.frame[0];
	mr_flows_mark(r->sh.flows, ref_of(r, MR_FORWARD), session(r), 0, MR_FLOW_OFFLOAD);
	rig_inject(r, "wan", 1, sent->data, sent->len);
	rig_sent(r, "lan");
	mr_worker_poll(r->worker[1]);
	return r;
}

static void crossed(struct rig *r)
{
	mr_worker_poll(r->worker[0]);
	cr_expect_eq(rig_sent(r, "lan"), 1);
	mr_worker_poll(r->worker[1]);
	cr_expect(offloaded(r, MR_FORWARD));
	rig_turn(r);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(offload, not_while_packets_are_in_another_workers_ring)
{
	struct rig *r = crossing();
	mr_worker_poll(r->worker[1]);
	cr_expect_eq(mr_handoff_held(r->sh.handoff, 1), 1);
	cr_expect_not(offloaded(r, MR_FORWARD), "it is still in the ring");
	crossed(r);
}

Test(offload, not_before_another_worker_has_sent_them)
{
	struct rig *r = crossing();
	cr_expect_eq(mr_transmit_take(r->worker[0]), 1, "the first worker is in the middle of its turn");
	mr_worker_poll(r->worker[1]);
	cr_expect_not(offloaded(r, MR_FORWARD), "out of the ring, and not sent");
	crossed(r);
}

/* ---- coming back --------------------------------------------------------------------------------------------------- */

Test(offload, a_new_configuration_decides_and_earns_anew)
{
	struct rig *r = rig_create(established, &with_tier);
	say(r, "wan", UDP_THERE, 1);
	say(r, "lan", UDP_BACK, 1);
	say(r, "wan", UDP_THERE, 3);
	cr_assert(offloaded(r, MR_FORWARD));
	rig_reload(r, established);
	cr_expect_str_eq(why(r, MR_FORWARD), "undecided", "of the configuration before");
	rig_say(r, "wan", UDP_THERE);
	one_turn(r);
	cr_expect_not(offloaded(r, MR_FORWARD), "decided anew, what came with it is under way");
	rig_turn(r);
	cr_expect(offloaded(r, MR_FORWARD), "it has its packets already");
	rig_reload(r, never);
	say(r, "wan", UDP_THERE, 3);
	cr_expect_not(offloaded(r, MR_FORWARD));
	cr_expect_str_eq(why(r, MR_FORWARD), "off");
	rig_destroy(r);
}

Test(offload, a_fin_takes_its_own_direction_back)
{
	struct rig *r = rig_create(established, &with_tier);
	converse(r);
	cr_assert(offloaded(r, MR_FORWARD) && offloaded(r, MR_REPLY));
	xdp_marks(r, MR_FORWARD);
	say(r, "wan", TCP_THERE "fin,ack", 1);
	cr_expect_not(offloaded(r, MR_FORWARD));
	cr_expect_str_eq(why(r, MR_FORWARD), "state");
	cr_expect(offloaded(r, MR_REPLY), "half closed");
	cr_expect_str_eq(why(r, MR_REPLY), "");
	say(r, "wan", TCP_THERE "ack", 20);
	cr_expect_not(offloaded(r, MR_FORWARD), "and it stays");

	/* A half-closed flow that is decided anew goes over again. */
	rig_reload(r, established);
	say(r, "lan", TCP_BACK "ack", 3);
	say(r, "wan", TCP_THERE "ack", 3);
	cr_expect(offloaded(r, MR_REPLY));
	cr_expect_not(offloaded(r, MR_FORWARD));
	xdp_marks(r, MR_REPLY);
	say(r, "lan", TCP_BACK "fin,ack", 1);
	say(r, "wan", TCP_THERE "ack", 1);
	cr_expect_eq(mr_session_at(r->sh.sessions, session(r))->state, MR_SESSION_CLOSED);
	cr_expect(!offloaded(r, MR_FORWARD) && !offloaded(r, MR_REPLY));
	rig_destroy(r);
}

Test(offload, a_reset_nobody_believes_gives_the_flow_back)
{
	struct rig *r = rig_create(established, &with_tier);
	converse(r);
	xdp_marks(r, MR_REPLY);
	say(r, "lan", TCP_BACK "rst", 1);
	cr_expect(!offloaded(r, MR_FORWARD) && !offloaded(r, MR_REPLY));
	cr_expect_str_eq(why(r, MR_FORWARD), "state");
	for (unsigned i = 0; i < 3; i++) {
		say(r, "wan", TCP_THERE "ack", 1);
		say(r, "lan", TCP_BACK "ack", 1);
	}
	cr_expect_eq(mr_session_at(r->sh.sessions, session(r))->state, MR_SESSION_ESTABLISHED);
	cr_expect(offloaded(r, MR_FORWARD) && offloaded(r, MR_REPLY));
	rig_destroy(r);
}

Test(offload, a_lost_fin_heals)
{
	struct rig *r = rig_create(established, &with_tier);
	converse(r);
	xdp_marks(r, MR_FORWARD); /* and the packet is lost in a full ring */
	cr_expect_str_eq(why(r, MR_FORWARD), "state");
	rig_say(r, "wan", TCP_THERE "ack");
	one_turn(r);
	cr_expect_not(offloaded(r, MR_FORWARD), "the FIN may still be in the queue");
	rig_turn(r);
	cr_expect(offloaded(r, MR_FORWARD), "it was not");
	/* It is sent again. */
	xdp_marks(r, MR_FORWARD);
	say(r, "wan", TCP_THERE "fin,ack", 1);
	cr_expect_not(offloaded(r, MR_FORWARD));
	rig_destroy(r);
}

Test(offload, a_fin_behind_the_packet_that_came_up_is_not_taken_for_lost)
{
	struct rig *r = rig_create(established, &with_tier);
	converse(r);
	xdp_marks(r, MR_FORWARD);
	rig_say(r, "wan", TCP_THERE "ack"); /* by the time it is looked at, the FIN is in the queue */
	rig_say(r, "wan", TCP_THERE "fin,ack");
	rig_turn(r);
	cr_expect_not(offloaded(r, MR_FORWARD));
	cr_expect(state_of(r, MR_FORWARD)->flags & MR_FLOW_CLOSING);
	rig_destroy(r);
}

Test(offload, a_syn_is_decided_and_the_flow_earns_anew)
{
	struct rig *r = rig_create(established, &with_tier);
	converse(r);
	rig_say(r, "wan", TCP_THERE "syn");
	one_turn(r);
	cr_expect_not(state_of(r, MR_FORWARD)->flags & MR_FLOW_OFFLOAD);
	say(r, "wan", TCP_THERE "ack", 1);
	cr_expect(offloaded(r, MR_FORWARD));
	rig_destroy(r);
}

static uint8_t tcp_state(struct rig *r)
{
	return mr_session_at(r->sh.sessions, session(r))->state;
}

/* The reply's record is still marked when the SYN comes: what XDP carried of the old conversation does no harm to the new one. */
Test(offload, a_syn_after_half_a_close_begins_anew)
{
	struct rig *r = rig_create(established, &with_tier);
	converse(r);
	xdp_marks(r, MR_FORWARD);
	say(r, "wan", TCP_THERE "fin,ack", 1);
	cr_assert(offloaded(r, MR_REPLY));
	say(r, "wan", TCP_THERE "syn", 1);
	cr_expect_eq(tcp_state(r), MR_SESSION_NEW);
	cr_expect_not(offloaded(r, MR_FORWARD));
	cr_expect_not(state_of(r, MR_FORWARD)->flags & MR_FLOW_CLOSING, "started over");
	say(r, "lan", TCP_BACK "syn,ack", 1);
	cr_expect_not(offloaded(r, MR_REPLY), "the handshake is told to the session");
	say(r, "wan", TCP_THERE "ack", 1);
	cr_expect_eq(tcp_state(r), MR_SESSION_ESTABLISHED);
	say(r, "wan", TCP_THERE "ack", 1);
	say(r, "lan", TCP_BACK "ack", 2);
	cr_expect(offloaded(r, MR_FORWARD) && offloaded(r, MR_REPLY));
	rig_destroy(r);
}

Test(offload, a_simultaneous_close_and_a_syn_behind_it)
{
	struct rig *r = rig_create(established, &with_tier);
	converse(r);
	xdp_marks(r, MR_FORWARD);
	xdp_marks(r, MR_REPLY);
	rig_say(r, "wan", TCP_THERE "fin,ack");
	rig_say(r, "lan", TCP_BACK "fin,ack");
	rig_turn(r);
	cr_expect_eq(tcp_state(r), MR_SESSION_CLOSING);
	cr_expect(!offloaded(r, MR_FORWARD) && !offloaded(r, MR_REPLY));
	xdp_marks(r, MR_FORWARD); /* sent again: its ACK was lost */
	say(r, "wan", TCP_THERE "fin,ack", 1);
	cr_expect_eq(tcp_state(r), MR_SESSION_CLOSING);
	say(r, "lan", TCP_BACK "ack", 1);
	say(r, "wan", TCP_THERE "ack", 1);
	cr_expect_eq(tcp_state(r), MR_SESSION_CLOSED);
	cr_expect(!offloaded(r, MR_FORWARD) && !offloaded(r, MR_REPLY));
	converse(r);
	cr_expect_eq(tcp_state(r), MR_SESSION_ESTABLISHED);
	cr_expect(offloaded(r, MR_FORWARD) && offloaded(r, MR_REPLY), "the next conversation of these ends");
	rig_destroy(r);
}

/* A forged RST of one direction, while the other one's packets never come up. */
Test(offload, a_reset_heals_however_much_comes_of_one_direction)
{
	struct rig *r = rig_create(established, &with_tier);
	converse(r);
	xdp_marks(r, MR_FORWARD);
	say(r, "wan", TCP_THERE "rst", 1);
	cr_expect(!offloaded(r, MR_FORWARD) && !offloaded(r, MR_REPLY));
	say(r, "lan", TCP_BACK "ack", 50);
	cr_expect_eq(tcp_state(r), MR_SESSION_CLOSED, "the other end has not been heard of");
	cr_expect_not(offloaded(r, MR_REPLY));
	say(r, "wan", TCP_THERE "ack", 2);
	say(r, "lan", TCP_BACK "ack", 2);
	cr_expect_eq(tcp_state(r), MR_SESSION_ESTABLISHED);
	cr_expect(offloaded(r, MR_FORWARD) && offloaded(r, MR_REPLY));
	rig_destroy(r);
}

/* ---- counting ------------------------------------------------------------------------------------------------------ */

Test(offload, what_the_tier_counts_in_a_record_is_in_its_totals)
{
	struct rig *r = rig_create(always, &with_tier);
	uint64_t packets, bytes;
	say(r, "wan", UDP_THERE, 2);
	__atomic_fetch_add(&state_of(r, MR_FORWARD)->packets, 1000, __ATOMIC_RELAXED);
	__atomic_fetch_add(&state_of(r, MR_FORWARD)->bytes, 60000, __ATOMIC_RELAXED);
	say(r, "wan", UDP_THERE, 1);
	mr_session_totals(r->sh.sessions, session(r), MR_FORWARD, &packets, &bytes);
	cr_expect_eq(packets, 1003);
	cr_expect_geq(bytes, 60000 + 3 * 42u);
	rig_destroy(r);
}

Test(offload, the_heartbeat_is_the_workers)
{
	struct rig *r = rig_create(always, &with_tier);
	struct mr_tier *shared = mr_tier_shared(r->sh.tier);
	for (unsigned i = 0; i < 20; i++) {
		rig_turn(r);
		usleep(1000);
	}
	cr_expect_eq(shared->heartbeat_ns, 0, "a heart that stopped is not woken by a worker, whose queue may be full");
	mr_worker_wake_tier(&r->sh, r->worker);
	rig_turn(r);
	uint64_t woken_ns = shared->heartbeat_ns;
	cr_expect_neq(woken_ns, 0, "it is empty, and the worker was asked");
	for (unsigned i = 0; i < 5000 && shared->heartbeat_ns == woken_ns; i++) {
		rig_turn(r);
		usleep(1000);
	}
	cr_expect_neq(shared->heartbeat_ns, woken_ns);
	rig_destroy(r);
}

/* ---- policy -------------------------------------------------------------------------------------------------------- */

static int policy(const char *flows_word, const char *pipeline_word, enum mr_mode mode)
{
	static const char *const words[] = { "never", "established", "always" };
	struct mr_config_flows f = { .offload = MR_OFFLOAD_ESTABLISHED, .has_offload = flows_word };
	struct mr_config_pipeline p = { .has_offload = pipeline_word };
	struct mr_interface_info in = { .kind = MR_INTERFACE_XSK, .mode = mode };
	for (int i = 0; i < 3; i++) {
		if (flows_word && !strcmp(flows_word, words[i]))
			f.offload = i;
		if (pipeline_word && !strcmp(pipeline_word, words[i]))
			p.offload = i;
	}
	return mr_offload_policy(&f, &p, &in);
}

Test(offload, policy)
{
	cr_expect_eq(policy(NULL, NULL, MR_MODE_COPY), MR_OFFLOAD_ESTABLISHED);
	cr_expect_eq(policy("always", NULL, MR_MODE_COPY), MR_OFFLOAD_ALWAYS);
	cr_expect_eq(policy("always", "never", MR_MODE_COPY), MR_OFFLOAD_NEVER);
	cr_expect_eq(policy("never", "always", MR_MODE_COPY), MR_OFFLOAD_ALWAYS);
	cr_expect_eq(policy(NULL, NULL, MR_MODE_ZEROCOPY), MR_OFFLOAD_NEVER, "a redirected zero-copy buffer is copied");
	cr_expect_eq(policy("established", NULL, MR_MODE_ZEROCOPY), MR_OFFLOAD_ESTABLISHED);
	cr_expect_eq(policy(NULL, "always", MR_MODE_ZEROCOPY), MR_OFFLOAD_ALWAYS);
	cr_expect_eq(policy("always", "always", MR_MODE_GENERIC), MR_OFFLOAD_NEVER);
}

static bool wanted(const char *yaml)
{
	struct mr_config *c;
	struct mr_error e = { "" };
	cr_assert_eq(mr_config_read_text(yaml, strlen(yaml), "test.yaml", ".", &c, &e), 0, "%s", e.text);
	bool w = mr_offload_wanted(c);
	mr_config_free(c);
	return w;
}

Test(offload, a_tier_is_made_where_somebody_may_want_one)
{
	cr_expect(wanted(established));
	cr_expect(wanted(always));
	cr_expect_not(wanted(never));
	cr_expect(wanted(HEAD("offload: never") "  in: { from: [ wan ], match: all, to: lan, offload: always }\n"));
	cr_expect_not(wanted(HEAD("offload: always") "  in: { from: [ wan ], match: all, to: lan, state: none }\n"));
#define DEVICES(wan)                          \
	"version: 1\ninterfaces: { wan: " wan \
	", lan: { device: lan0 } }\npipelines: { in: { from: [ wan ], match: all, to: lan } }\n"
	cr_expect_not(wanted(DEVICES("{ pcap: x.pcap }")));
	cr_expect_not(wanted(DEVICES("{ device: wan0, mode: generic }")));
	cr_expect_not(wanted(DEVICES("{ device: wan0, mode: zerocopy }")));
	cr_expect_not(wanted(DEVICES("{ device: wan0, attach: shared }")));
	cr_expect(wanted(DEVICES("{ device: wan0, mode: copy }")));
}

Test(offload, every_reason_has_a_name_of_its_own)
{
	for (unsigned i = 1; i < MR_OFFLOAD_CNT; i++) {
		cr_expect(mr_offload_name(i)[0] && mr_offload_help(i)[0]);
		for (unsigned k = 0; k < i; k++)
			cr_expect_str_neq(mr_offload_name(i), mr_offload_name(k));
	}
	cr_expect_str_eq(mr_offload_name(MR_OFFLOAD_OK), "");
}
