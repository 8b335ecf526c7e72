/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a stage may ask and decide that a translation needs: ports that are 0 or stay, the two keys of a session, whose a reply would be, and
 * who is told what became of its decision.
 */
#include "script.h"

#include <errno.h>

#define HEAD                                                                                                       \
	"version: 1\ninterfaces:\n  wan: { device: wan0 }\n  lan: { device: lan0 }\n"                              \
	"stages:\n  s: { type: script }\n  t: { type: script }\n  f: { type: filter, default: accept, rules: [ { " \
	"action: drop, dport: 666 } ] }\n"
#define YAML                                                                  \
	HEAD "pipelines:\n"                                                   \
	     "  out: { from: [ lan ], match: all, stages: [ s ], to: wan }\n" \
	     "  in: { from: [ wan ], match: all, stages: [ s ], to: lan }\n"

static struct {
	const char *source, *destination; /* of forward packets */
	int sport, dport;                 /* host order, or MR_PORT_KEEP */
	unsigned decided, committed, aborted;
	struct mr_tuple forward, reply, seen;
	int tuples, tuples_at_commit;
	bool taken, exists_at_commit, no_session;
	uint64_t time_ns;
} now;

static int port_be(int port)
{
	return port == MR_PORT_KEEP ? MR_PORT_KEEP : htons((uint16_t)port);
}

/* A NAT whose memory is the session itself. */
static void translate(struct mr_packet *p)
{
	now.decided++;
	now.seen = *mr_packet_tuple(p);
	now.tuples = mr_packet_session_tuples(p, &now.forward, &now.reply);
	now.time_ns = mr_packet_time_ns(p);
	if (!now.tuples && mr_packet_direction(p)) {
		mr_decide_source(p, now.forward.dst, now.forward.dport_be);
		mr_decide_destination(p, now.forward.src, now.forward.sport_be);
		return;
	}
	if (now.source)
		mr_decide_source(p, address(now.source), port_be(now.sport));
	if (now.destination)
		mr_decide_destination(p, address(now.destination), port_be(now.dport));
	if (now.no_session)
		mr_decide_no_session(p);
	now.taken = mr_packet_reply_taken(p);
}

static void committed(struct mr_packet *p)
{
	now.committed++;
	now.exists_at_commit = mr_packet_session_exists(p);
	now.tuples_at_commit = mr_packet_session_tuples(p, &now.forward, &now.reply);
}

static void aborted(struct mr_packet *p)
{
	now.aborted++;
}

static struct rig *begin(const char *yaml)
{
	script(translate, committed, aborted);
	return rig_create(yaml, NULL);
}

static void through(struct rig *r, const char *in, const char *packet, const char *out, const char *ends)
{
	rig_say(r, in, packet);
	rig_turn(r);
	expect_ends(r, out, ends);
}

Test(deciding, port_0_is_a_port)
{
	struct rig *r = begin(YAML);
	now.source = "203.0.113.1";
	now.sport = 0;
	for (int i = 0; i < 3; i++) {
		through(r, "lan", "udp 10.0.0.1:1000 > 192.0.2.1:53 length 60", "wan", "203.0.113.1:0 > 192.0.2.1:53");
		through(r, "wan", "udp 192.0.2.1:53 > 203.0.113.1:0 length 61", "lan", "192.0.2.1:53 > 10.0.0.1:1000");
	}
	cr_assert_eq(rig_stats(r, "lan", "out").hits, 2);
	cr_assert_eq(rig_stats(r, "wan", "in").hits, 2);
	cr_assert_eq(now.decided, 2);
	/* from port 0, to another one, and kept */
	now.sport = 7000;
	through(r, "lan", "udp 10.0.0.1:0 > 192.0.2.1:53", "wan", "203.0.113.1:7000 > 192.0.2.1:53");
	through(r, "wan", "udp 192.0.2.1:53 > 203.0.113.1:7000", "lan", "192.0.2.1:53 > 10.0.0.1:0");
	now.sport = MR_PORT_KEEP;
	through(r, "lan", "tcp 10.0.0.2:0 > 192.0.2.1:53", "wan", "203.0.113.1:0 > 192.0.2.1:53");
	/* ... and the destination */
	now.source = NULL;
	now.destination = "198.51.100.1";
	now.dport = 0;
	through(r, "lan", "udp 10.0.0.1:1 > 192.0.2.1:80", "wan", "10.0.0.1:1 > 198.51.100.1:0");
	through(r, "wan", "udp 198.51.100.1:0 > 10.0.0.1:1", "lan", "192.0.2.1:80 > 10.0.0.1:1");
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* Decided one by one, and nobody is left with what was taken for a session; of one there is already, and of a translation, it is no matter. */
Test(deciding, a_decision_that_opens_no_session)
{
	struct rig *r = begin(YAML);
	struct mr_sessions_usage u;
	now.no_session = true;
	for (unsigned i = 1; i <= 2; i++) {
		through(r, "lan", "udp 10.0.0.1:1000 > 192.0.2.1:53", "wan", "10.0.0.1:1000 > 192.0.2.1:53");
		cr_assert(now.decided == i && now.aborted == i && !now.committed);
	}
	now.source = "203.0.113.1";
	now.sport = 7;
	through(r, "lan", "udp 10.0.0.1:1000 > 192.0.2.1:53", "wan", "203.0.113.1:7 > 192.0.2.1:53");
	through(r, "wan", "udp 192.0.2.1:53 > 203.0.113.1:7", "lan", "192.0.2.1:53 > 10.0.0.1:1000");
	cr_assert(now.aborted == 2 && now.committed == 1);
	mr_sessions_usage(r->sh.sessions, &u);
	cr_assert_eq(u.live, 1);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(deciding, identifier_0_and_the_type_stays)
{
	struct rig *r = begin(YAML);
	now.source = "203.0.113.1";
	now.sport = 0;
	for (int i = 0; i < 2; i++) {
		through(r, "lan", "icmp 10.0.0.1 > 192.0.2.1 type 8 id 77 length 64", "wan",
			"203.0.113.1:0 > 192.0.2.1:8");
		through(r, "wan", "icmp 192.0.2.1 > 203.0.113.1 type 0 id 0 length 64", "lan",
			"192.0.2.1:8 > 10.0.0.1:77");
	}
	cr_assert_eq(rig_stats(r, "lan", "out").hits, 1);
	cr_assert_eq(rig_stats(r, "wan", "in").hits, 1);
	cr_assert_eq(now.seen.sport_be, 0);
	cr_assert_eq(now.seen.dport_be, 0);
	cr_assert_not(now.seen.has_ports);
	now.sport = 500;
	through(r, "lan", "icmp 10.0.0.1 > 192.0.2.1 type 13 id 0", "wan", "203.0.113.1:500 > 192.0.2.1:13");
	cr_assert_eq(now.seen.sport_be, 0);
	through(r, "wan", "icmp 192.0.2.1 > 203.0.113.1 type 14 id 500", "lan", "192.0.2.1:13 > 10.0.0.1:0");
	cr_assert_eq(now.seen.dport_be, htons(500));
	now.source = "2001:db8::1";
	now.sport = 0;
	through(r, "lan", "icmp6 fd00::1 > 2001:db8::9 type 128 id 9", "wan", "2001:db8::1:0 > 2001:db8::9:128");
	through(r, "wan", "icmp6 2001:db8::9 > 2001:db8::1 type 129 id 0", "lan", "2001:db8::9:128 > fd00::1:9");
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

static void expect_tuple(const struct mr_tuple *t, const char *src, int sport, const char *dst, int dport)
{
	cr_assert(!memcmp(t->src, address(src), 16));
	cr_assert(!memcmp(t->dst, address(dst), 16));
	cr_assert_eq(ntohs(t->sport_be), sport, "%u", ntohs(t->sport_be));
	cr_assert_eq(ntohs(t->dport_be), dport, "%u", ntohs(t->dport_be));
}

Test(deciding, a_session_says_how_it_is_translated)
{
	struct rig *r = begin(YAML);
	now.source = "203.0.113.1";
	now.sport = 4000;
	now.tuples_at_commit = 1;
	rig_say(r, "lan", "tcp 10.0.0.1:1000 > 192.0.2.1:80 flags syn");
	rig_turn(r);
	cr_assert_eq(now.tuples, -ENOENT, "it has none before it is made");
	cr_assert_eq(now.tuples_at_commit, 0);
	cr_assert(now.exists_at_commit);
	expect_tuple(&now.forward, "10.0.0.1", 1000, "192.0.2.1", 80);
	expect_tuple(&now.reply, "192.0.2.1", 80, "203.0.113.1", 4000);
	cr_assert(now.forward.has_ports && now.reply.has_ports);
	cr_assert_eq(now.forward.proto, 6);
	cr_assert_eq(now.forward.family, 4);
	rig_say(r, "wan", "tcp 192.0.2.1:80 > 203.0.113.1:4000 flags syn,ack");
	rig_turn(r);
	cr_assert_eq(now.tuples, 0);
	expect_tuple(&now.forward, "10.0.0.1", 1000, "192.0.2.1", 80);
	/* queries: identifier and type, whatever the identifier is */
	static const struct {
		uint8_t request, reply;
		unsigned id, to;
	} query[] = { { 8, 0, 77, 99 }, { 13, 14, 8, 17 }, { 17, 18, 0, 13 }, { 8, 0, 13, 0 } };
	for (unsigned i = 0; i < sizeof(query) / sizeof(query[0]); i++) {
		char text[80];
		now.sport = query[i].to;
		snprintf(text, sizeof(text), "icmp 10.0.0.%u > 192.0.2.1 type %u id %u", i + 1, query[i].request,
			query[i].id);
		rig_say(r, "lan", text);
		rig_turn(r);
		snprintf(text, sizeof(text), "10.0.0.%u", i + 1);
		expect_tuple(&now.forward, text, query[i].id, "192.0.2.1", 0);
		expect_tuple(&now.reply, "192.0.2.1", 0, "203.0.113.1", query[i].to);
		cr_assert(now.forward.has_icmp && now.reply.has_icmp && !now.forward.has_ports);
		cr_assert_eq(now.forward.icmp_type, query[i].request);
		cr_assert_eq(now.reply.icmp_type, query[i].reply);
	}
	now.source = "2001:db8::1";
	rig_say(r, "lan", "gre fd00::1 > 2001:db8::9");
	rig_turn(r);
	expect_tuple(&now.forward, "fd00::1", 0, "2001:db8::9", 0);
	expect_tuple(&now.reply, "2001:db8::9", 0, "2001:db8::1", 0);
	cr_assert_eq(now.reply.family, 6);
	cr_assert_gt(now.time_ns, 0);
	rig_destroy(r);
}

Test(deciding, whose_the_replies_would_be)
{
	struct rig *r = begin(YAML);
	now.source = "203.0.113.1";
	now.sport = MR_PORT_KEEP;
	rig_say(r, "lan", "gre 10.0.0.1 > 192.0.2.1");
	rig_turn(r);
	cr_assert_not(now.taken);
	rig_say(r, "lan", "gre 10.0.0.2 > 192.0.2.1");
	rig_turn(r);
	cr_assert(now.taken, "two inside hosts, one outside address, and nothing to tell their replies apart");
	rig_say(r, "lan", "gre 10.0.0.2 > 192.0.2.2");
	rig_turn(r);
	cr_assert_not(now.taken);
	/* its own session is nobody else */
	rig_reload(r, YAML);
	unsigned before = now.decided;
	rig_say(r, "lan", "gre 10.0.0.1 > 192.0.2.1");
	rig_turn(r);
	cr_assert_gt(now.decided, before);
	cr_assert_not(now.taken);
	/* who names no session has no replies */
	rig_say(r, "lan", "icmp 10.0.0.1 > 192.0.2.1 type 3 length 80");
	rig_turn(r);
	cr_assert_not(now.taken);
	rig_destroy(r);
}

static void expect_told(unsigned decided, unsigned commits, unsigned aborts)
{
	cr_assert_eq(now.decided, decided, "decided %u", now.decided);
	cr_assert_eq(now.committed, commits, "committed %u", now.committed);
	cr_assert_eq(now.aborted, aborts, "aborted %u", now.aborted);
	now.decided = now.committed = now.aborted = 0;
}

Test(deciding, everyone_hears_what_became_of_it)
{
	struct rig *r = begin(HEAD "pipelines:\n"
				   "  out: { from: [ lan ], match: all, stages: [ s, f, t ], to: wan }\n"
				   "  in: { from: [ wan ], match: all, state: none, stages: [ f ], to: lan }\n");
	rig_say(r, "lan", "udp 10.0.0.1:1000 > 192.0.2.1:80");
	rig_turn(r);
	expect_told(2, 2, 0);
	rig_say(r, "lan", "udp 10.0.0.1:1000 > 192.0.2.1:80");
	rig_turn(r);
	expect_told(0, 0, 0);
	/* a later stage drops it: those that were asked hear it, the others do not */
	rig_say(r, "lan", "udp 10.0.0.1:1000 > 192.0.2.1:666");
	rig_turn(r);
	expect_told(1, 0, 1);
	/* it can have no session: an ICMP error, a RST, neighbour discovery, a frame that is not IP, one that talks to itself */
	static const char *const none[] = { "icmp 10.0.0.1 > 192.0.2.1 type 3 length 80",
		"tcp 10.0.0.1:1 > 192.0.2.1:2 flags rst", "icmp6 fd00::1 > fd00::2 type 135 length 80",
		"ethertype 0x88b5", "udp 10.0.0.1:5 > 10.0.0.1:5" };
	for (unsigned i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		rig_say(r, "lan", none[i]);
		rig_turn(r);
		expect_told(2, 0, 2);
	}
	/* asked about by explain */
	struct mr_explanation x;
	struct mr_error e;
	struct rig_frame f = r->interface[rig_id(r, "lan")].queue[0].in.frame[0];
	rig_reload(r, HEAD "pipelines:\n  out: { from: [ lan ], match: all, stages: [ s, f, t ], to: wan }\n");
	mr_session_end(r->sh.sessions, 1, mr_sessions_next(r->sh.sessions, 1), 1);
	cr_assert_eq(mr_worker_explain(&r->sh, rig_plan(r), rig_id(r, "lan"), f.data, f.len, &x, &e), 0);
	cr_assert(x.stored, "%s", x.text);
	expect_told(2, 0, 2);
	/* a session that exists is asked about again, and is neither */
	rig_say(r, "lan", "udp 10.0.0.1:1001 > 192.0.2.1:80");
	rig_turn(r);
	expect_told(2, 2, 0);
	rig_reload(r, HEAD "pipelines:\n  out: { from: [ lan ], match: all, stages: [ s, f, t ], to: wan }\n");
	rig_say(r, "lan", "udp 10.0.0.1:1001 > 192.0.2.1:80");
	rig_turn(r);
	expect_told(2, 0, 0);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(deciding, a_full_table_gives_back)
{
	script(translate, committed, aborted);
	struct rig_options opt = { .sessions = 64 };
	struct rig *r = rig_create(YAML, &opt);
	char packet[80];
	now.source = "203.0.113.1";
	now.sport = MR_PORT_KEEP;
	for (unsigned i = 0; i < 300; i++) {
		snprintf(packet, sizeof(packet), "udp 10.0.0.1:%u > 192.0.2.1:80", 1 + i);
		rig_say(r, "lan", packet);
	}
	rig_turn(r);
	struct mr_sessions_usage u;
	mr_sessions_usage(r->sh.sessions, &u);
	cr_assert_eq(now.decided, 300);
	cr_assert_eq(now.committed, u.created);
	cr_assert_eq(now.committed + now.aborted, 300);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}
