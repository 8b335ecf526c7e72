/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_offload.c - which flows are left to the kernel tier, and why others are not; what it counts.
 */
#include "offload_rig.h"

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
