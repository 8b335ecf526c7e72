/* SPDX-License-Identifier: BSD-2-Clause */
/* The stage nat44 over reloads: what lives on, and what ends. */
#include "nat44_world.h"

#define OUT(r, packet, want) BECOMES(r, "lan", packet, "wan", want)
#define IN(r, packet, want)  BECOMES(r, "wan", packet, "lan", want)
#define RULE                 "{ inside: 10.0.0.9, outside: 203.0.113.1, proto: tcp, ports: 443-445, inside_ports: 8443-8445 }"
#define RULES(list)          PLAIN ", static: [ " list " ]"

static void both_ways(struct rig *r)
{
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53", "udp 203.0.113.1:5000 > 192.0.2.9:53");
	IN(r, "udp 192.0.2.9:53 > 203.0.113.1:5000", "udp 192.0.2.9:53 > 10.0.0.1:5000");
}

Test(nat44_reload, sessions_go_on)
{
	static const char *const others[] = { WORLD(PLAIN), WORLD(PLAIN ", limits: { sessions: 1, mappings: 1 }"),
		WORLD(PLAIN ", timeouts: { udp: 500s }, quarantine: 1s"),
		WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1, 203.0.113.7-203.0.113.9 ]"),
		WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.0/24 ], ports: 20000-30000, pooling: arbitrary, "
		      "mapping: "
		      "address-and-port-dependent, filtering: address-dependent, unsolicited: answer, mss: auto"),
		WORLD(RULES(RULE)), WORLD(PLAIN ", exempt: [ 192.0.2.0/24 ]") };
	for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		struct rig *r = rig_create(WORLD(PLAIN), NULL);
		struct nat_shared *shared = nat_of(r)->shared;
		both_ways(r);
		for (int again = 0; again < 2; again++) {
			rig_reload(r, others[i]);
			cr_assert_eq(nat_of(r)->shared, shared, "the store lives on");
			cr_assert_eq(sessions(r), 1, "%s", others[i]);
			both_ways(r);
			both_ways(r);
			cr_assert_eq(mappings(r), 1);
		}
		end_world(r);
	}
}

Test(nat44_reload, a_mapping_is_found_again_by_new_sessions)
{
	struct rig *r = rig_create(WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1 ]"), NULL);
	unsigned port = 0, again = 1;
	cr_assert_eq(
		sscanf(passes(r, "lan", "udp 10.0.0.1:5000 > 192.0.2.9:53", "wan"), "udp 203.0.113.1:%u >", &port), 1);
	rig_reload(r, WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1, 203.0.113.2 ], timeouts: { icmp: 80s }"));
	cr_assert_eq(
		sscanf(passes(r, "lan", "udp 10.0.0.1:5000 > 192.0.2.10:53", "wan"), "udp 203.0.113.1:%u >", &again),
		1);
	cr_assert_eq(port, again);
	cr_assert_eq(mappings(r), 1);
	end_world(r);
}

Test(nat44_reload, sessions_of_an_address_that_goes_end)
{
	struct rig *r = rig_create(
		WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1, 203.0.113.2 ], pooling: arbitrary"), NULL);
	char packet[80];
	unsigned by[3] = { 0 };
	for (unsigned i = 0; i < 40; i++) {
		unsigned last;
		snprintf(packet, sizeof(packet), i % 4 ? "udp 10.0.0.1:%u > 192.0.2.9:53" : "gre 10.0.1.%u > 192.0.2.9",
			i + 1);
		const char *got = passes(r, "lan", packet, "wan");
		if (sscanf(got, "udp 203.0.113.%u:", &last) == 1 || sscanf(got, "47 203.0.113.%u", &last) == 1)
			by[last]++;
	}
	cr_assert(by[1] && by[2], "%u and %u", by[1], by[2]);
	cr_assert_eq(sessions(r), by[1] + by[2]);
	rig_reload(r, WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.2 ], pooling: arbitrary"));
	cr_assert_eq(sessions(r), by[2], "%u of %u and %u", sessions(r), by[1], by[2]);
	cr_assert_eq(rig_dropped(r, "lan", "out", "nat44-no-session"), 0);
	/* and the host gets another at once */
	const char *got = passes(r, "lan", "udp 10.0.0.1:2 > 192.0.2.9:53", "wan");
	cr_assert_eq(strncmp(got, "udp 203.0.113.2:", 16), 0, "%s", got);
	end_world(r);
}

static void a_packet_of_each(struct rig *r)
{
	cr_assert_str_eq(passes(r, "wan", "udp 192.0.2.9:53 > 203.0.113.1:5000", "lan"), "nothing");
	rig_sent(r, "wan");
	rig_say(r, "lan", "udp 10.0.0.1:5001 > 192.0.2.9:53");
	rig_turn(r);
}

/* Whoever meets a session of an address that left, a worker or control: it is counted once. */
Test(nat44_reload, all_sessions_of_an_address_that_goes_are_counted)
{
	struct rig *r = rig_create(WORLD(PLAIN), NULL);
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53", "udp 203.0.113.1:5000 > 192.0.2.9:53");
	OUT(r, "udp 10.0.0.1:5001 > 192.0.2.9:53", "udp 203.0.113.1:5001 > 192.0.2.9:53");
	OUT(r, "udp 10.0.0.1:5002 > 192.0.2.9:53", "udp 203.0.113.1:5002 > 192.0.2.9:53");
	r->meanwhile = a_packet_of_each;
	rig_reload(r, WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.2 ], port_choice: preserve"));
	r->meanwhile = NULL;
	cr_assert_eq(r->succession.cnt, 1);
	cr_assert_str_eq(r->succession.stage[0].name, "nat");
	cr_assert_eq(r->succession.stage[0].sessions, 3, "%llu", (unsigned long long)r->succession.stage[0].sessions);
	/* what ends later ends for itself */
	rig_reload(r, WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.2 ], port_choice: preserve"));
	cr_assert_eq(r->succession.cnt, 0);
	end_world(r);
}

Test(nat44_reload, sessions_of_a_static_rule_end_with_it)
{
	static const struct {
		const char *yaml;
		unsigned left;
	} all[] = {
		{ WORLD(RULES(RULE)), 2 },
		{ WORLD(RULES("{ inside: 10.0.0.77, outside: 203.0.113.77 }, " RULE)), 2 },
		/* the same, written otherwise */
		{ WORLD(RULES("{ inside: 10.0.0.9, outside: 203.0.113.1, proto: tcp, ports: 443, inside_ports: 8443 }, "
			      "{ inside: 10.0.0.9, outside: 203.0.113.1, proto: tcp, ports: 444-600, inside_ports: "
			      "8444-8600 }")),
			2 },
		/* less of it, another inside end, none */
		{ WORLD(RULES(
			  "{ inside: 10.0.0.9, outside: 203.0.113.1, proto: tcp, ports: 444, inside_ports: 8444 }")),
			1 },
		{ WORLD(RULES("{ inside: 10.0.0.9, outside: 203.0.113.1, proto: tcp, ports: 443-445, inside_ports: "
			      "8444-8446 }")),
			0 },
		{ WORLD(RULES("{ inside: 10.0.0.10, outside: 203.0.113.1, proto: tcp, ports: 443-445, inside_ports: "
			      "8443-8445 }")),
			0 },
		{ WORLD(RULES("{ inside: 10.0.0.9, outside: 203.0.113.1, proto: udp, ports: 443-445, inside_ports: "
			      "8443-8445 }")),
			0 },
		{ WORLD(PLAIN), 0 },
		{ WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.2 ], static: [ " RULE " ]"), 2 },
	};
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct rig *r = rig_create(WORLD(RULES(RULE)), NULL);
		IN(r, "tcp 192.0.2.9:1 > 203.0.113.1:443 flags syn", "tcp 192.0.2.9:1 > 10.0.0.9:8443");
		OUT(r, "tcp 10.0.0.9:8444 > 192.0.2.9:2 flags syn", "tcp 203.0.113.1:444 > 192.0.2.9:2");
		cr_assert_eq(sessions(r), 2);
		rig_reload(r, all[i].yaml);
		cr_assert_eq(sessions(r), all[i].left, "%u are left with %s", sessions(r), all[i].yaml);
		end_world(r);
	}
}

Test(nat44_reload, one_to_one_prefixes_grow)
{
#define ONE(len) \
	WORLD("inside: [ 10.0.0.0/8 ], static: [ { inside: 10.1.0.0/" len ", outside: 198.51.100.0/" len " } ]")
	struct rig *r = rig_create(ONE("29"), NULL);
	OUT(r, "udp 10.1.0.7:1 > 192.0.2.9:2", "udp 198.51.100.7:1 > 192.0.2.9:2");
	OUT(r, "udp 10.1.0.2:1 > 192.0.2.9:2", "udp 198.51.100.2:1 > 192.0.2.9:2");
	rig_reload(r, ONE("28"));
	cr_assert_eq(sessions(r), 2);
	rig_reload(r, ONE("30"));
	cr_assert_eq(sessions(r), 1);
	OUT(r, "udp 10.1.0.2:1 > 192.0.2.9:2", "udp 198.51.100.2:1 > 192.0.2.9:2");
	/* an inside address that has no outside one */
	OUT(r, "udp 10.1.0.7:1 > 192.0.2.9:2", "nothing");
	cr_assert_eq(rig_dropped(r, "lan", "out", "nat44-no-address"), 1);
	end_world(r);
}

Test(nat44_reload, ports_that_become_the_kernels)
{
	struct rig *r = rig_create(WORLD(PLAIN), NULL);
	both_ways(r);
	OUT(r, "udp 10.0.0.1:45000 > 192.0.2.9:53", "udp 203.0.113.1:45000 > 192.0.2.9:53");
	rig_reload(r, WORLD(PLAIN ", ports: 40000-50000, leftover: kernel"));
	cr_assert_eq(sessions(r), 1, "what comes to port 5000 is not seen any more");
	OUT(r, "udp 10.0.0.1:45000 > 192.0.2.9:53", "udp 203.0.113.1:45000 > 192.0.2.9:53");
	end_world(r);
}

/* The ports of static rules stay theirs as long as a configuration in force says so; then they are free. */
Test(nat44_reload, ports_of_rules_over_reloads)
{
#define TWO "inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1 ], ports: 2000-2001, port_choice: preserve, quarantine: 0s"
#define ONE_OF(port) \
	", static: [ { inside: 10.0.0.9, outside: 203.0.113.1, proto: tcp, ports: " port ", inside_ports: 80 } ]"
	static const char ask[] = "tcp 10.0.0.1:2000 > 192.0.2.9:1 flags syn",
			  kept[] = "tcp 203.0.113.1:2001 > 192.0.2.9:1";
	struct rig *r = rig_create(WORLD(TWO ONE_OF("2000")), NULL);
	OUT(r, ask, kept);
	end_sessions(r);
	rig_give_up(r, WORLD(TWO));
	OUT(r, ask, kept);
	end_sessions(r);
	rig_give_up(r, WORLD(TWO ONE_OF("2001")));
	OUT(r, ask, "nothing"); /* it may be in force where a worker is late */
	rig_reload(r, WORLD(TWO));
	OUT(r, ask, "tcp 203.0.113.1:2000 > 192.0.2.9:1");
	end_world(r);
	r = rig_create(WORLD(TWO ONE_OF("2000")), NULL);
	rig_reload(r, WORLD(TWO ONE_OF("2001")));
	OUT(r, ask, "tcp 203.0.113.1:2000 > 192.0.2.9:1");
	end_sessions(r);
	rig_reload(r, WORLD(TWO));
	OUT(r, "tcp 10.0.0.1:2001 > 192.0.2.9:1 flags syn", "tcp 203.0.113.1:2001 > 192.0.2.9:1");
	end_world(r);
}

/* What a session of another filter ends is not what one of this filter let in. */
Test(nat44_reload, filters_that_become_stricter)
{
	struct rig *r = rig_create(WORLD(PLAIN), NULL);
	both_ways(r);
	uint32_t older = mr_sessions_next(r->sh.sessions, 1);
	rig_reload(r, WORLD(PLAIN ", filtering: address-dependent"));
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:54", "udp 203.0.113.1:5000 > 192.0.2.9:54");
	IN(r, "udp 192.0.2.8:99 > 203.0.113.1:5000", "nothing");
	cr_assert(mr_session_end(r->sh.sessions, 0, older, clock_ms()));
	IN(r, "udp 192.0.2.9:99 > 203.0.113.1:5000", "udp 192.0.2.9:99 > 10.0.0.1:5000");
	end_world(r);
}

/* Sessions that were not translated, and would be now, do not go on as they were. */
Test(nat44_reload, what_was_exempt_is_translated)
{
	struct rig *r = rig_create(WORLD(PLAIN ", exempt: [ 192.0.2.0/24 ]"), NULL);
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53", "udp 10.0.0.1:5000 > 192.0.2.9:53");
	IN(r, "udp 192.0.2.9:53 > 10.0.0.1:5000", "udp 192.0.2.9:53 > 10.0.0.1:5000");
	rig_reload(r, WORLD(PLAIN ", exempt: [ 192.0.2.0/25 ]"));
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53", "udp 10.0.0.1:5000 > 192.0.2.9:53");
	rig_reload(r, WORLD(PLAIN));
	both_ways(r);
	cr_assert_eq(sessions(r), 1);
	end_world(r);
}

Test(nat44_reload, a_stage_that_comes_and_goes)
{
	struct rig *r = rig_create(WORLD(PLAIN), NULL);
	both_ways(r);
	rig_reload(r,
		WORLD_HEAD
		"  nat: { type: filter }\npipelines:\n  in: { from: [ wan ], match: all, stages: [ nat ], to: lan }\n"
		"  out: { from: [ lan ], match: all, stages: [ nat ], to: wan }\n");
	cr_assert_eq(sessions(r), 0, "nobody knows what they were translated to");
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53", "udp 10.0.0.1:5000 > 192.0.2.9:53");
	rig_reload(r, WORLD(PLAIN));
	both_ways(r);
	end_world(r);
}
