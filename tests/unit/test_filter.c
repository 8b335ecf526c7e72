/* SPDX-License-Identifier: BSD-2-Clause */
/* The filter stage in whole pipelines: what each condition means, states, limits, reloads. */
#include "rig.h"

#include "core/stage.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define HEAD                                                                                                    \
	"version: 1\ninterfaces:\n  wan: { device: wan0 }\n  lan: { device: lan0 }\nstages:\n  guard: { type: " \
	"filter, "
#define TAIL                                                                \
	" }\npipelines:\n"                                                  \
	"  in: { from: [ wan ], match: all, stages: [ guard ], to: lan }\n" \
	"  out: { from: [ lan ], match: all, stages: [ guard ], to: wan }\n"

/* Says packets one by one and counts those that came through. */
static unsigned through(struct rig *r, const char *from, const char *to, const char *packet, unsigned times)
{
	rig_sent(r, to);
	for (unsigned i = 0; i < times; i++) {
		rig_say(r, from, packet);
		rig_turn(r);
	}
	return rig_sent(r, to);
}

static uint64_t live(struct rig *r)
{
	struct mr_sessions_usage u;
	mr_sessions_usage(r->sh.sessions, &u);
	return u.live;
}

static enum mr_session_state first_state(struct rig *r)
{
	return mr_session_at(r->sh.sessions, mr_sessions_next(r->sh.sessions, 1))->state;
}

Test(filter, only_replies_come_in)
{
	struct rig *r = rig_create(HEAD "default: drop, rules: [ { name: back, action: accept, state: established }, "
					"{ name: out, action: accept, interface: lan } ]" TAIL,
		NULL);
	cr_assert_eq(through(r, "wan", "lan", "udp 1.1.1.1:53 > 10.0.0.1:1000", 3), 0);
	cr_assert_eq(live(r), 0);
	cr_assert_eq(through(r, "lan", "wan", "udp 10.0.0.1:1000 > 1.1.1.1:53", 1), 1);
	cr_assert_eq(through(r, "wan", "lan", "udp 1.1.1.1:53 > 10.0.0.1:1000", 3), 3);
	cr_assert_eq(through(r, "wan", "lan", "udp 1.1.1.2:53 > 10.0.0.1:1000", 1), 0);
	cr_assert_eq(through(r, "wan", "lan", "icmp 1.1.1.2 > 10.0.0.1", 1), 0);
	cr_assert_eq(rig_dropped(r, "wan", "in", "filter-default"), 5);
	/* once established, the forward direction is "established" as well, and both are stored */
	cr_assert_eq(through(r, "lan", "wan", "udp 10.0.0.1:1000 > 1.1.1.1:53", 3), 3);
	cr_assert_eq(rig_counter(r, "stages.guard.rules.back"), 6);
	cr_assert_eq(rig_counter(r, "stages.guard.rules.out"), 1);
	cr_assert_eq(rig_stats(r, "lan", "out").hits, 2);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(filter, a_tcp_conversation)
{
	struct rig *r = rig_create(HEAD
		"default: drop, rules: [ { action: drop, state: invalid }, { action: accept, state: established }, "
		"{ action: accept, interface: lan, state: new } ]" TAIL,
		NULL);
	cr_assert_eq(through(r, "lan", "wan", "tcp 10.0.0.1:1000 > 1.1.1.1:80 flags rst", 1), 0, "a bare RST");
	cr_assert_eq(through(r, "lan", "wan", "tcp 10.0.0.1:1000 > 1.1.1.1:80 flags syn,ack", 1), 0);
	cr_assert_eq(rig_dropped(r, "lan", "out", "filter-blocked"), 2);
	cr_assert_eq(live(r), 0);
	cr_assert_eq(through(r, "lan", "wan", "tcp 10.0.0.1:1000 > 1.1.1.1:80 flags syn", 2), 2);
	cr_assert_eq(first_state(r), MR_SESSION_NEW);
	cr_assert_eq(through(r, "wan", "lan", "tcp 1.1.1.1:80 > 10.0.0.1:1000 flags syn,ack", 1), 1);
	cr_assert_eq(through(r, "lan", "wan", "tcp 10.0.0.1:1000 > 1.1.1.1:80 flags ack", 1), 1);
	cr_assert_eq(first_state(r), MR_SESSION_ESTABLISHED);
	cr_assert_eq(through(r, "wan", "lan", "tcp 1.1.1.1:80 > 10.0.0.1:1000 flags ack", 4), 4);
	cr_assert_eq(through(r, "lan", "wan", "tcp 10.0.0.1:1000 > 1.1.1.1:80 flags ack", 4), 4);
	cr_assert_gt(rig_stats(r, "wan", "in").hits, 2);
	cr_assert_gt(rig_stats(r, "lan", "out").hits, 2);
	cr_assert_eq(through(r, "lan", "wan", "tcp 10.0.0.1:1000 > 1.1.1.1:80 flags fin,ack", 1), 1);
	cr_assert_eq(first_state(r), MR_SESSION_CLOSING);
	cr_assert_eq(through(r, "wan", "lan", "tcp 1.1.1.1:80 > 10.0.0.1:1000 flags fin,ack", 1), 1);
	cr_assert_eq(through(r, "lan", "wan", "tcp 10.0.0.1:1000 > 1.1.1.1:80 flags ack", 1), 1);
	cr_assert_eq(first_state(r), MR_SESSION_CLOSED);
	/* the same ports again: a new conversation, which only lan may open */
	cr_assert_eq(through(r, "lan", "wan", "tcp 10.0.0.1:1000 > 1.1.1.1:80 flags syn", 1), 1);
	cr_assert_eq(first_state(r), MR_SESSION_NEW);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

static const char strict[] = HEAD "default: drop, rules: [ { name: back, action: accept, state: established }, "
				  "{ name: first, action: accept, interface: lan, state: new } ]" TAIL;

static void shake_hands(struct rig *r)
{
	cr_assert_eq(through(r, "lan", "wan", "tcp 10.0.0.1:1000 > 1.1.1.1:80 flags syn", 1), 1);
	cr_assert_eq(through(r, "wan", "lan", "tcp 1.1.1.1:80 > 10.0.0.1:1000 flags syn,ack", 1), 1);
	cr_assert_eq(through(r, "lan", "wan", "tcp 10.0.0.1:1000 > 1.1.1.1:80 flags ack", 2), 2);
	cr_assert_eq(through(r, "wan", "lan", "tcp 1.1.1.1:80 > 10.0.0.1:1000 flags ack", 2), 2);
	cr_assert_eq(first_state(r), MR_SESSION_ESTABLISHED);
}

/* Both ends go on, decided by their records: the session hears of it all the same. */
Test(filter, a_rst_nobody_believed)
{
	static const char *const rst[][3] = { { "lan", "wan", "tcp 10.0.0.1:1000 > 1.1.1.1:80 flags rst" },
		{ "wan", "lan", "tcp 1.1.1.1:80 > 10.0.0.1:1000 flags rst" } };
	for (unsigned i = 0; i < 2; i++) {
		struct rig *r = rig_create(strict, NULL);
		shake_hands(r);
		cr_assert_eq(through(r, rst[i][0], rst[i][1], rst[i][2], 1), 1);
		cr_assert_eq(first_state(r), MR_SESSION_CLOSED);
		cr_assert_eq(through(r, "lan", "wan", "tcp 10.0.0.1:1000 > 1.1.1.1:80 flags ack", 2), 2);
		cr_assert_eq(through(r, "wan", "lan", "tcp 1.1.1.1:80 > 10.0.0.1:1000 flags ack", 2), 2);
		cr_assert_eq(first_state(r), MR_SESSION_ESTABLISHED);
		rig_destroy(r);
	}
}

Test(filter, reset_before_anyone_answered_is_not_established)
{
	struct rig *r = rig_create(strict, NULL);
	cr_assert_eq(through(r, "lan", "wan", "tcp 10.0.0.1:1000 > 1.1.1.1:80 flags syn", 1), 1);
	cr_assert_eq(through(r, "lan", "wan", "tcp 10.0.0.1:1000 > 1.1.1.1:80 flags rst", 1), 1);
	cr_assert_eq(first_state(r), MR_SESSION_CLOSED);
	cr_assert_eq(through(r, "lan", "wan", "tcp 10.0.0.1:1000 > 1.1.1.1:80 flags ack", 3), 3);
	cr_assert_eq(rig_counter(r, "stages.guard.rules.back"), 0);
	cr_assert_eq(rig_counter(r, "stages.guard.rules.first"), 5);
	rig_destroy(r);
}

Test(filter, a_syn_of_the_other_end_is_no_reply)
{
	struct rig *r = rig_create(strict, NULL);
	shake_hands(r);
	cr_assert_eq(through(r, "lan", "wan", "tcp 10.0.0.1:1000 > 1.1.1.1:80 flags fin,ack", 1), 1);
	cr_assert_eq(through(r, "wan", "lan", "tcp 1.1.1.1:80 > 10.0.0.1:1000 flags fin,ack", 1), 1);
	cr_assert_eq(through(r, "wan", "lan", "tcp 1.1.1.1:80 > 10.0.0.1:1000 flags syn", 2), 0);
	cr_assert_eq(through(r, "lan", "wan", "tcp 10.0.0.1:1000 > 1.1.1.1:80 flags ack", 1), 1);
	cr_assert_eq(first_state(r), MR_SESSION_CLOSED);
	cr_assert_eq(through(r, "wan", "lan", "tcp 1.1.1.1:80 > 10.0.0.1:1000 flags syn", 2), 0);
	cr_assert_eq(
		through(r, "wan", "lan", "tcp 1.1.1.1:80 > 10.0.0.1:1000 flags ack", 2), 2, "what is late comes in");
	rig_destroy(r);
}

/* Identifiers that are themselves types: echo with id 13 and a timestamp reply with id 8 have one key. */
Test(filter, icmp_types_that_one_key_cannot_tell_apart)
{
	struct rig *r = rig_create(HEAD "default: drop, rules: [ { action: accept, icmp: [ 8 ] } ]" TAIL, NULL);
	cr_assert_eq(through(r, "wan", "lan", "icmp 10.0.0.1 > 10.0.0.2 type 8 id 13", 3), 3);
	cr_assert_eq(through(r, "wan", "lan", "icmp 10.0.0.1 > 10.0.0.2 type 14 id 8", 3), 0);
	cr_assert_eq(through(r, "wan", "lan", "icmp 10.0.0.1 > 10.0.0.2 type 8 id 17", 3), 3);
	cr_assert_eq(through(r, "wan", "lan", "icmp 10.0.0.1 > 10.0.0.2 type 18 id 8", 3), 0);
	rig_destroy(r);
}

static void sum_icmp(uint8_t *icmp, unsigned bytes)
{
	uint32_t sum = 0;
	icmp[2] = icmp[3] = 0;
	for (unsigned i = 0; i < bytes; i += 2)
		sum += (uint32_t)icmp[i] << 8 | icmp[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~(sum + (sum >> 16));
	icmp[2] = (uint8_t)(sum >> 8);
	icmp[3] = (uint8_t)sum;
}

Test(filter, an_icmp_error_is_related_to_what_it_quotes)
{
	struct rig *r = rig_create(HEAD "default: drop, rules: [ { action: accept, interface: lan }, { name: err, "
					"action: accept, state: related } ]" TAIL,
		NULL);
	uint8_t error[14 + 28 + 28] = { 0 };
	rig_say(r, "lan", "udp 10.0.0.1:1000 > 1.1.1.1:53");
	const uint8_t *quoted = r->interface[rig_id(r, "lan")].queue[0].in.frame[0].data + 14;
	rig_turn(r);
	memcpy(error, quoted - 14, 14 + 20);
	memcpy(error + 42, quoted, 28);
	error[14 + 9] = 1; /* ICMP, unreachable */
	error[14 + 3] = 56;
	error[34] = 3;
	sum_icmp(error + 34, 36);
	rig_inject(r, "wan", 0, error, sizeof(error));
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 0, "it goes to somebody who did not send what it quotes");
	memcpy(error + 14 + 16, quoted + 12, 4);
	rig_inject(r, "wan", 0, error, sizeof(error));
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 1);
	error[37]++; /* its checksum is wrong (RFC 5508 REQ-3) */
	rig_inject(r, "wan", 0, error, sizeof(error));
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 0);
	error[42 + 20 + 1]++; /* quotes another port */
	sum_icmp(error + 34, 36);
	rig_inject(r, "wan", 0, error, sizeof(error));
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 0);
	cr_assert_eq(rig_counter(r, "stages.guard.rules.err"), 1);
	cr_assert_eq(live(r), 1, "errors open nothing");
	rig_destroy(r);
}

Test(filter, drops_are_never_stored)
{
	struct rig *r = rig_create(HEAD "rules: [ { name: no, action: drop, dport: 53 } ]" TAIL, NULL);
	char packet[80];
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(packet, sizeof(packet), "udp 10.%u.%u.1:1000 > 10.0.0.2:53", i / 200, i % 200);
		rig_say(r, "wan", packet);
	}
	rig_turn(r);
	cr_assert_eq(live(r), 0);
	cr_assert_eq(rig_dropped(r, "wan", "in", "filter-blocked"), 3000);
	cr_assert_eq(rig_counter(r, "stages.guard.rules.no"), 3000);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(filter, a_reload_is_in_force_for_flows_that_live)
{
	static const char open_wire[] = HEAD "default: accept" TAIL;
	static const char closed[] = HEAD "default: accept, rules: [ { name: no, action: drop, dport: 53 } ]" TAIL;
	struct rig *r = rig_create(open_wire, NULL);
	cr_assert_eq(through(r, "wan", "lan", "udp 10.0.0.1:1000 > 10.0.0.2:53", 3), 3);
	rig_reload(r, closed);
	cr_assert_eq(through(r, "wan", "lan", "udp 10.0.0.1:1000 > 10.0.0.2:53", 3), 0);
	cr_assert_eq(through(r, "wan", "lan", "udp 10.0.0.1:1000 > 10.0.0.2:54", 3), 3);
	rig_reload(r, open_wire);
	uint64_t hits = rig_stats(r, "wan", "in").hits;
	cr_assert_eq(through(r, "wan", "lan", "udp 10.0.0.1:1000 > 10.0.0.2:53", 3), 3);
	cr_assert_eq(rig_stats(r, "wan", "in").hits, hits + 2, "decided anew once, then from the record");
	cr_assert_eq(live(r), 2);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(filter, a_limit_counts_packets_of_records_too)
{
	struct rig *r = rig_create(HEAD
		"default: accept, rules: [ { name: slow, action: limit, rate: 1pps, burst: 10, proto: udp } ]" TAIL,
		NULL);
	unsigned n = through(r, "wan", "lan", "udp 10.0.0.1:1000 > 10.0.0.2:53", 50);
	n += through(r, "wan", "lan", "udp 10.0.0.1:1001 > 10.0.0.2:53", 50);
	cr_assert(n >= 10 && n <= 12, "%u came through", n);
	cr_assert_eq(rig_dropped(r, "wan", "in", "meter"), 100 - n);
	cr_assert_eq(rig_counter(r, "stages.guard.rules.slow"), 100);
	cr_assert_gt(rig_stats(r, "wan", "in").hits, 90);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(filter, frames_that_are_not_ip)
{
	struct rig *r = rig_create(HEAD "default: accept, rules: [ { action: drop, ethertype: 0x88cc }, { name: all, "
					"action: drop, src: 0.0.0.0/0 } ]" TAIL,
		NULL);
	cr_assert_eq(through(r, "wan", "lan", "ethertype 0x0806", 2), 2);
	cr_assert_eq(through(r, "wan", "lan", "ethertype 0x88cc", 2), 0);
	cr_assert_eq(through(r, "wan", "lan", "udp 10.0.0.1:1000 > 10.0.0.2:53", 2), 0);
	cr_assert_eq(through(r, "wan", "lan", "udp [fd00::1]:1000 > [fd00::2]:53", 2), 2);
	rig_reload(r, HEAD "default: drop, rules: [ { action: accept }, { action: accept, ethertype: arp } ]" TAIL);
	cr_assert_eq(through(r, "wan", "lan", "ethertype 0x0806", 2), 2);
	cr_assert_eq(through(r, "wan", "lan", "ethertype 0x88cc", 2), 0, "a rule without an ethertype is about IP");
	cr_assert_eq(through(r, "wan", "lan", "udp 10.0.0.1:1000 > 10.0.0.2:53", 2), 2);
	cr_assert_eq(live(r), 2);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(filter, a_pipeline_without_state_stores_nothing)
{
	struct rig *r = rig_create(HEAD
		"rules: [ { name: u, action: accept, state: untracked } ], default: drop }\npipelines:\n"
		"  in: { from: [ wan ], match: all, stages: [ guard ], to: lan, state: none }\n",
		NULL);
	cr_assert_eq(through(r, "wan", "lan", "udp 10.0.0.1:1000 > 10.0.0.2:53", 5), 5);
	cr_assert_eq(live(r), 0);
	cr_assert_eq(rig_counter(r, "stages.guard.rules.u"), 5);
	cr_assert_eq(through(r, "wan", "lan", "icmp 10.0.0.1 > 10.0.0.2 type 3 code 4", 1), 1, "errors, too");
	rig_destroy(r);
}

Test(filter, a_full_table_goes_on_filtering)
{
	struct rig_options opt = { .sessions = 64 };
	struct rig *r = rig_create(HEAD "default: accept, rules: [ { action: drop, dport: 53 } ]" TAIL, &opt);
	char packet[80];
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(
			packet, sizeof(packet), "udp 10.0.%u.%u:1000 > 10.0.0.2:%u", i / 200, i % 200, i & 1 ? 53 : 54);
		rig_say(r, "wan", packet);
	}
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 500);
	cr_assert_eq(rig_dropped(r, "wan", "in", "filter-blocked"), 500);
	cr_assert_leq(live(r), 64);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(filter, bad_options_are_told_where_they_stand)
{
	static const struct {
		const char *rule, *say;
	} bad[] = {
		{ "{ action: limit }", "needs a rate" },
		{ "{ action: drop, rate: 1pps }", "only action 'limit' uses" },
		{ "{ action: drop, state: [ open ] }", "'open' is no state" },
		{ "{ action: drop, interface: moon }", "no interface is called 'moon'" },
		{ "{ action: drop, dport: 1, icmp: 8 }", "no packet has both" },
		{ "{ name: a, action: drop }, { name: a, action: drop }", "two rules are called 'a'" },
		{ "{ name: \"2\", action: drop }, { action: drop, dport: 1 }", "two rules are called '2'" },
		{ "{ dport: 1 }", "action" },
	};
	struct rig *r = rig_create(HEAD "default: accept" TAIL, NULL);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[1024];
		struct mr_error e = { 0 };
		struct mr_config *c;
		struct mr_plan *plan = NULL;
		struct mr_plan_env env = {
			.stats = r->sh.stats, .nexthops = r->sh.nexthops, .worker_cnt = 1, .serial = 9
		};
		snprintf(text, sizeof(text), "%srules: [ %s ]%s", HEAD, bad[i].rule, TAIL);
		env.device[1].name = "wan";
		env.device[2].name = "lan";
		cr_assert_eq(mr_config_read_text(text, strlen(text), "bad.yaml", ".", &c, &e), 0, "%s", e.text);
		cr_assert_lt(mr_plan_create(c, &env, &plan, &e), 0, "%s", bad[i].rule);
		cr_assert(strstr(e.text, bad[i].say), "%s: %s", bad[i].rule, e.text);
		cr_assert(!strncmp(e.text, "bad.yaml:6:", 11), "%s", e.text);
		mr_config_free(c);
	}
	rig_destroy(r);
}
