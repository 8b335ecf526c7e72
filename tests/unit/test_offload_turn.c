/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_offload_turn.c - when a worker leaves a flow to the kernel tier, so that order holds, and what brings it back.
 */
#include "offload_rig.h"

/* ---- order --------------------------------------------------------------------------------------------------------- */

/* One turn of each worker, as opposed to rig_turn(). */
static void one_turn(struct rig *r)
{
	for (unsigned w = 0; w < r->sh.worker_cnt; w++)
		mr_worker_poll(r->worker[w]);
}

Test(offload_turn, not_before_the_queue_was_found_empty)
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
Test(offload_turn, not_while_packets_are_on_their_way_up)
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

Test(offload_turn, patience_ends)
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
Test(offload_turn, a_pause_of_the_worker_is_no_impatience)
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
Test(offload_turn, a_queue_that_is_behind_is_not_waited_for)
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

Test(offload_turn, not_while_packets_are_in_another_workers_ring)
{
	struct rig *r = crossing();
	mr_worker_poll(r->worker[1]);
	cr_expect_eq(mr_handoff_held(r->sh.handoff, 1), 1);
	cr_expect_not(offloaded(r, MR_FORWARD), "it is still in the ring");
	crossed(r);
}

Test(offload_turn, not_before_another_worker_has_sent_them)
{
	struct rig *r = crossing();
	cr_expect_eq(mr_transmit_take(r->worker[0]), 1, "the first worker is in the middle of its turn");
	mr_worker_poll(r->worker[1]);
	cr_expect_not(offloaded(r, MR_FORWARD), "out of the ring, and not sent");
	crossed(r);
}

/* ---- coming back --------------------------------------------------------------------------------------------------- */

Test(offload_turn, a_new_configuration_decides_and_earns_anew)
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

Test(offload_turn, a_fin_takes_its_own_direction_back)
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

Test(offload_turn, a_reset_nobody_believes_gives_the_flow_back)
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

Test(offload_turn, a_lost_fin_heals)
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

Test(offload_turn, a_fin_behind_the_packet_that_came_up_is_not_taken_for_lost)
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

Test(offload_turn, a_syn_is_decided_and_the_flow_earns_anew)
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
Test(offload_turn, a_syn_after_half_a_close_begins_anew)
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

Test(offload_turn, a_simultaneous_close_and_a_syn_behind_it)
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
Test(offload_turn, a_reset_heals_however_much_comes_of_one_direction)
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
