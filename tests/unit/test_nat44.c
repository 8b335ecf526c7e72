/* SPDX-License-Identifier: BSD-2-Clause */
/* The stage nat44: what becomes of packets, both ways.  Kinds of mapping and filtering: test_nat44_kinds.c; reloads: test_nat44_reload.c. */
#include "nat44_world.h"

#include <stdlib.h>
#include <unistd.h>

#define OUT(r, packet, want)  BECOMES(r, "lan", packet, "wan", want)
#define IN(r, packet, want)   BECOMES(r, "wan", packet, "lan", want)
#define HAIR(r, packet, want) BECOMES(r, "lan", packet, "wan", want)

Test(nat44, udp_and_tcp_go_out_and_come_back)
{
	struct rig *r = rig_create(WORLD(PLAIN), NULL);
	for (int i = 0; i < 3; i++) { /* the first is decided, the others meet records */
		OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53 length 77", "udp 203.0.113.1:5000 > 192.0.2.9:53");
		IN(r, "udp 192.0.2.9:53 > 203.0.113.1:5000 length 99", "udp 192.0.2.9:53 > 10.0.0.1:5000");
	}
	cr_assert_eq(rig_stats(r, "lan", "out").hits, 2);
	cr_assert_eq(rig_stats(r, "wan", "in").hits, 2);
	OUT(r, "tcp 10.0.0.1:5000 > 192.0.2.9:80 flags syn", "tcp 203.0.113.1:5000 > 192.0.2.9:80");
	IN(r, "tcp 192.0.2.9:80 > 203.0.113.1:5000 flags syn,ack", "tcp 192.0.2.9:80 > 10.0.0.1:5000");
	OUT(r, "tcp 10.0.0.1:5000 > 192.0.2.9:80 flags ack", "tcp 203.0.113.1:5000 > 192.0.2.9:80");
	OUT(r, "tcp 10.0.0.1:5000 > 192.0.2.9:80 flags fin,ack", "tcp 203.0.113.1:5000 > 192.0.2.9:80");
	IN(r, "tcp 192.0.2.9:80 > 203.0.113.1:5000 flags rst", "tcp 192.0.2.9:80 > 10.0.0.1:5000");
	cr_assert_eq(rig_counter(r, "stages.nat.out"), 6);
	cr_assert_eq(rig_counter(r, "stages.nat.in"), 5);
	cr_assert_eq(mappings(r), 2);
	cr_assert_eq(sessions(r), 2);
	end_world(r);
}

Test(nat44, what_is_not_ours_is_left_as_it_is)
{
	struct rig *r =
		rig_create(WORLD_HEAD "  nat: { type: nat44, " PLAIN ", exempt: [ 198.51.100.0/24 ] }\npipelines:\n"
				      "  in: { from: [ wan ], match: all, stages: [ nat ], to: lan }\n"
				      "  out: { from: [ lan ], match: all, stages: [ nat ], to: wan }\n",
			NULL);
	static const char *const out[] = { "udp 10.0.0.1:1 > 10.0.0.2:2", "udp 10.0.0.1:1 > 198.51.100.7:53",
		"udp 10.0.0.1:68 > 255.255.255.255:67", "udp 10.0.0.1:5353 > 224.0.0.251:5353",
		"udp 172.16.0.1:1 > 192.0.2.9:2" };
	for (unsigned i = 0; i < sizeof(out) / sizeof(out[0]); i++)
		OUT(r, out[i], out[i]);
	static const char *const in[] = { "udp 198.51.100.7:53 > 10.0.0.1:1", "udp 198.51.100.8:9 > 10.0.0.1:77",
		"udp 192.0.2.9:2 > 172.16.0.1:1", "tcp 192.0.2.9:2 > 203.0.113.2:80" };
	for (unsigned i = 0; i < sizeof(in) / sizeof(in[0]); i++)
		IN(r, in[i], in[i]);
	cr_assert_eq(mappings(r), 0);
	cr_assert_eq(rig_counter(r, "stages.nat.out"), 0);
	end_world(r);
}

Test(nat44, icmp_queries_have_identifiers_for_ports)
{
	struct rig *r = rig_create(WORLD(PLAIN), NULL);
	for (int i = 0; i < 2; i++) {
		OUT(r, "icmp 10.0.0.1 > 192.0.2.9 type 8 id 4000", "icmp 203.0.113.1 > 192.0.2.9 type 8 id 4000");
		OUT(r, "icmp 10.0.0.2 > 192.0.2.9 type 13 id 6000", "icmp 203.0.113.1 > 192.0.2.9 type 13 id 6000");
		IN(r, "icmp 192.0.2.9 > 203.0.113.1 type 0 id 4000", "icmp 192.0.2.9 > 10.0.0.1 type 0 id 4000");
		IN(r, "icmp 192.0.2.9 > 203.0.113.1 type 14 id 6000", "icmp 192.0.2.9 > 10.0.0.2 type 14 id 6000");
	}
	/* one identifier, two hosts: the second gets another */
	const char *second = passes(r, "lan", "icmp 10.0.0.3 > 192.0.2.9 type 8 id 4000", "wan");
	unsigned id = 0;
	cr_assert_eq(sscanf(second, "icmp 203.0.113.1 > 192.0.2.9 type 8 id %u", &id), 1, "%s", second);
	cr_assert_neq(id, 4000);
	char reply[80];
	snprintf(reply, sizeof(reply), "icmp 192.0.2.9 > 203.0.113.1 type 0 id %u", id);
	IN(r, reply, "icmp 192.0.2.9 > 10.0.0.3 type 0 id 4000");
	/* an identifier keeps its mapping wherever it asks */
	OUT(r, "icmp 10.0.0.1 > 192.0.2.10 type 8 id 4000", "icmp 203.0.113.1 > 192.0.2.10 type 8 id 4000");
	/* replies nobody asked for, requests to nobody */
	IN(r, "icmp 192.0.2.9 > 203.0.113.1 type 0 id 999", "nothing");
	IN(r, "icmp 192.0.2.99 > 203.0.113.1 type 8 id 4000", "nothing");
	OUT(r, "icmp 10.0.0.1 > 192.0.2.9 type 0 id 77", "nothing");
	cr_assert_eq(rig_dropped(r, "wan", "in", "nat44-unwanted"), 2);
	cr_assert_eq(rig_dropped(r, "lan", "out", "nat44-no-session"), 1);
	end_world(r);
}

Test(nat44, packets_that_can_have_no_session_do_not_get_out)
{
	struct rig *r = rig_create(WORLD(PLAIN), NULL);
	OUT(r, "tcp 10.0.0.1:5000 > 192.0.2.9:80 flags rst", "nothing");
	OUT(r, "tcp 10.0.0.1:5000 > 192.0.2.9:80 flags syn,ack", "nothing");
	OUT(r, "tcp 10.0.0.1:5000 > 192.0.2.9:80 flags none", "nothing");
	cr_assert_eq(rig_dropped(r, "lan", "out", "nat44-no-session"), 3);
	cr_assert_eq(mappings(r), 0);
	cr_assert_eq(ports_resting(r, 0), 0);
	end_world(r);
}

Test(nat44, fragments_follow_the_first)
{
	struct rig *r = rig_create(WORLD(PLAIN), NULL);
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53 length 100 fragment first", "udp 203.0.113.1:5000 > 192.0.2.9:53");
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53 length 100 fragment later", "17 203.0.113.1 > 192.0.2.9");
	cr_assert_eq(sessions(r), 1);
	rig_turn(r);
	end_sessions(r);
	cr_assert_eq(mappings(r), 0);
	rig_destroy(r);
}

Test(nat44, hairpins)
{
	struct rig *r = rig_create(
		WORLD(PLAIN ", static: [ { inside: 10.0.0.9, outside: 203.0.113.1, proto: tcp, "
			    "ports: 443, inside_ports: 8443 }, { inside: 10.0.0.8, outside: 203.0.113.8 } ]"),
		NULL);
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53", "udp 203.0.113.1:5000 > 192.0.2.9:53");
	/* RFC 4787 REQ-9 a): the source is the sender's outside end */
	HAIR(r, "udp 10.0.0.2:6000 > 203.0.113.1:5000", "udp 203.0.113.1:6000 > 10.0.0.1:5000");
	HAIR(r, "udp 10.0.0.1:5000 > 203.0.113.1:6000", "udp 203.0.113.1:5000 > 10.0.0.2:6000");
	HAIR(r, "udp 10.0.0.2:6000 > 203.0.113.1:5000", "udp 203.0.113.1:6000 > 10.0.0.1:5000");
	/* to a forward, and back */
	HAIR(r, "tcp 10.0.0.2:6001 > 203.0.113.1:443 flags syn", "tcp 203.0.113.1:6001 > 10.0.0.9:8443");
	HAIR(r, "tcp 10.0.0.9:8443 > 203.0.113.1:6001 flags syn,ack", "tcp 203.0.113.1:443 > 10.0.0.2:6001");
	HAIR(r, "tcp 10.0.0.2:6001 > 203.0.113.1:443 flags ack", "tcp 203.0.113.1:6001 > 10.0.0.9:8443");
	/* one to one, with ICMP (RFC 5508 REQ-7) */
	HAIR(r, "icmp 10.0.0.2 > 203.0.113.8 type 8 id 3000", "icmp 203.0.113.1 > 10.0.0.8 type 8 id 3000");
	HAIR(r, "icmp 10.0.0.8 > 203.0.113.1 type 0 id 3000", "icmp 203.0.113.8 > 10.0.0.2 type 0 id 3000");
	HAIR(r, "udp 10.0.0.8:70 > 203.0.113.1:5000", "udp 203.0.113.8:70 > 10.0.0.1:5000");
	/* to itself */
	HAIR(r, "udp 10.0.0.1:5000 > 203.0.113.1:5000", "udp 203.0.113.1:5000 > 10.0.0.1:5000");
	HAIR(r, "udp 10.0.0.1:5001 > 203.0.113.1:5000", "udp 203.0.113.1:5001 > 10.0.0.1:5000");
	/* to nobody: the sender gets no mapping for it */
	unsigned before = mappings(r);
	HAIR(r, "udp 10.0.0.7:7 > 203.0.113.1:7777", "nothing");
	cr_assert_eq(mappings(r), before);
	cr_assert_eq(rig_dropped(r, "lan", "out", "nat44-unwanted"), 1);
	cr_assert_geq(rig_counter(r, "stages.nat.hairpin"), 9);
	end_world(r);
}

Test(nat44, static_rules_work_both_ways)
{
	struct rig *r = rig_create(
		WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1 ], port_choice: preserve, static: ["
		      "{ inside: 10.0.0.5, outside: 203.0.113.5 }, { inside: 10.1.0.0/30, outside: 198.51.100.4/30 },"
		      "{ inside: 10.0.0.6, outside: 203.0.113.1, proto: [ tcp, udp ], ports: 8000-8003, inside_ports: "
		      "80-83 },"
		      "{ inside: 10.0.0.7, outside: 203.0.113.1, proto: icmp },"
		      "{ inside: 10.0.0.7, outside: 203.0.113.1, proto: gre } ]"),
		NULL);
	/* one to one: all protocols, ports as they are */
	IN(r, "tcp 192.0.2.9:1 > 203.0.113.5:22 flags syn", "tcp 192.0.2.9:1 > 10.0.0.5:22");
	OUT(r, "tcp 10.0.0.5:22 > 192.0.2.9:1 flags syn,ack", "tcp 203.0.113.5:22 > 192.0.2.9:1");
	OUT(r, "udp 10.0.0.5:1 > 192.0.2.9:2", "udp 203.0.113.5:1 > 192.0.2.9:2");
	IN(r, "icmp 192.0.2.9 > 203.0.113.5 type 8 id 8", "icmp 192.0.2.9 > 10.0.0.5 type 8 id 8");
	IN(r, "icmp 192.0.2.9 > 203.0.113.5 type 8 id 1234", "icmp 192.0.2.9 > 10.0.0.5 type 8 id 1234");
	OUT(r, "icmp 10.0.0.5 > 192.0.2.9 type 0 id 1234", "icmp 203.0.113.5 > 192.0.2.9 type 0 id 1234");
	IN(r, "gre 192.0.2.9 > 203.0.113.5", "47 192.0.2.9 > 10.0.0.5");
	OUT(r, "gre 10.0.0.5 > 192.0.2.9", "47 203.0.113.5 > 192.0.2.9");
	/* a prefix, address by address */
	IN(r, "udp 192.0.2.9:1 > 198.51.100.6:7", "udp 192.0.2.9:1 > 10.1.0.2:7");
	OUT(r, "udp 10.1.0.3:7 > 192.0.2.9:1", "udp 198.51.100.7:7 > 192.0.2.9:1");
	/* ports: from outside, and when the server begins */
	IN(r, "tcp 192.0.2.9:1 > 203.0.113.1:8002 flags syn", "tcp 192.0.2.9:1 > 10.0.0.6:82");
	OUT(r, "tcp 10.0.0.6:82 > 192.0.2.9:1 flags syn,ack", "tcp 203.0.113.1:8002 > 192.0.2.9:1");
	OUT(r, "udp 10.0.0.6:80 > 192.0.2.9:9", "udp 203.0.113.1:8000 > 192.0.2.9:9");
	IN(r, "udp 192.0.2.9:9 > 203.0.113.1:8000", "udp 192.0.2.9:9 > 10.0.0.6:80");
	OUT(r, "udp 10.0.0.6:5084 > 192.0.2.9:9", "udp 203.0.113.1:5084 > 192.0.2.9:9");
	/* a forward of a protocol */
	IN(r, "icmp 192.0.2.9 > 203.0.113.1 type 8 id 5", "icmp 192.0.2.9 > 10.0.0.7 type 8 id 5");
	OUT(r, "icmp 10.0.0.7 > 192.0.2.9 type 0 id 5", "icmp 203.0.113.1 > 192.0.2.9 type 0 id 5");
	IN(r, "gre 192.0.2.9 > 203.0.113.1", "47 192.0.2.9 > 10.0.0.7");
	/* ports that a rule has no mapping gets */
	struct nat_address_usage u;
	cr_assert(nat_store_address_usage(nat_of(r)->shared->store, 0, &u));
	cr_assert_eq(u.reserved[NAT_TCP], 4);
	cr_assert_eq(u.reserved[NAT_UDP], 4);
	const char *other = passes(r, "lan", "udp 10.0.0.44:8001 > 192.0.2.9:9", "wan");
	cr_assert(strncmp(other, "udp 203.0.113.1:", 16) == 0 && strncmp(other + 16, "800", 3), "%s", other);
	end_world(r);
}

Test(nat44, protocols_without_ports_keep_apart_or_are_refused)
{
	struct rig *r = rig_create(WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1 ]"), NULL);
	OUT(r, "gre 10.0.0.1 > 192.0.2.9", "47 203.0.113.1 > 192.0.2.9");
	IN(r, "gre 192.0.2.9 > 203.0.113.1", "47 192.0.2.9 > 10.0.0.1");
	OUT(r, "esp 10.0.0.1 > 192.0.2.9", "50 203.0.113.1 > 192.0.2.9");
	OUT(r, "gre 10.0.0.2 > 192.0.2.10", "47 203.0.113.1 > 192.0.2.10");
	/* the second inside address to one server: its replies could not be told apart */
	OUT(r, "gre 10.0.0.2 > 192.0.2.9", "nothing");
	cr_assert_eq(rig_dropped(r, "lan", "out", "nat44-ambiguous"), 1);
	IN(r, "gre 192.0.2.77 > 203.0.113.1", "nothing");
	cr_assert_eq(subscriber_sessions(r), 3);
	end_world(r);
}

Test(nat44, errors_are_translated_as_what_they_quote)
{
	struct rig *r = rig_create(WORLD(PLAIN), NULL);
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53", "udp 203.0.113.1:5000 > 192.0.2.9:53");
	/* from a router outside, about a packet of ours: 8 bytes of it are enough (RFC 5508 REQ-3) */
	say_error(r, "wan", "192.0.2.1", "203.0.113.1", 11, 0, "udp 203.0.113.1:5000 > 192.0.2.9:53", 8);
	rig_turn(r);
	const struct rig_frame *f = rig_last(r, "lan");
	cr_assert_not_null(f);
	const uint8_t *quoted = f->data + 14 + 20 + 8;
	cr_assert_eq(memcmp(f->data + 14 + 16, "\x0a\x00\x00\x01", 4), 0, "to the host inside");
	cr_assert_eq(memcmp(quoted + 12, "\x0a\x00\x00\x01", 4), 0, "which finds its own packet");
	cr_assert_eq(mr_load16(quoted + 20), htons(5000));
	cr_assert_str_eq(left_by(r, "lan"), "icmp 192.0.2.1 > 10.0.0.1 type 11 id 0");
	/* from a router inside, about a reply: it must not show its own address */
	IN(r, "udp 192.0.2.9:53 > 203.0.113.1:5000", "udp 192.0.2.9:53 > 10.0.0.1:5000");
	say_error(r, "lan", "10.0.0.254", "192.0.2.9", 3, 3, "udp 192.0.2.9:53 > 10.0.0.1:5000", 8);
	rig_turn(r);
	cr_assert_str_eq(left_by(r, "wan"), "icmp 203.0.113.1 > 192.0.2.9 type 3 id 0");
	/* about nothing we know: neither in nor out */
	say_error(r, "wan", "192.0.2.1", "203.0.113.1", 3, 1, "udp 203.0.113.1:5001 > 192.0.2.9:53", 8);
	say_error(r, "lan", "10.0.0.254", "192.0.2.9", 3, 3, "udp 192.0.2.9:53 > 10.0.0.1:5009", 8);
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan") + rig_sent(r, "wan"), 0);
	cr_assert_eq(rig_dropped(r, "wan", "in", "nat44-unwanted"), 1);
	cr_assert_eq(rig_dropped(r, "lan", "out", "nat44-no-session"), 1);
	cr_assert_eq(rig_counter(r, "stages.nat.icmp_errors"), 2);
	cr_assert_eq(sessions(r), 1);
	end_world(r);
}

Test(nat44, what_nobody_wants)
{
	struct rig *r = rig_create(WORLD(PLAIN), NULL);
	IN(r, "udp 192.0.2.9:53 > 203.0.113.1:5000", "nothing");
	IN(r, "tcp 192.0.2.9:53 > 203.0.113.1:5000 flags syn", "nothing");
	IN(r, "sctp 192.0.2.9:53 > 203.0.113.1:5000", "nothing");
	cr_assert_eq(rig_dropped(r, "wan", "in", "nat44-unwanted"), 3);
	cr_assert_eq(rig_counter(r, "stages.nat.leftover"), 3);
	cr_assert_eq(sessions(r), 0);
	end_world(r);
}

Test(nat44, what_nobody_wants_is_the_kernels_when_the_address_is_the_boxs_own)
{
	struct rig *r = rig_create(
		WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1 ], ports: 40000-50000, leftover: kernel, "
		      "port_choice: preserve, static: [ { inside: 10.0.0.9, outside: 203.0.113.1, proto: tcp, ports: "
		      "443 } ]"),
		NULL);
	static const char *const kernels[] = { "udp 192.0.2.9:53 > 203.0.113.1:41000",
		"tcp 192.0.2.9:53 > 203.0.113.1:22 flags syn", "icmp 192.0.2.9 > 203.0.113.1 type 8 id 1",
		"icmp 192.0.2.9 > 203.0.113.1 type 0 id 45000", "gre 192.0.2.9 > 203.0.113.1" };
	for (unsigned i = 0; i < 5; i++) {
		IN(r, kernels[i], "nothing");
		cr_assert_eq(rig_kernel(r, "wan"), 1, "%s", kernels[i]);
	}
	/* ports beyond the range do not even come up */
	cr_assert_eq(rig_stats(r, "wan", "in").received.packets, 4);
	IN(r, "tcp 192.0.2.9:1 > 203.0.113.1:443 flags syn", "tcp 192.0.2.9:1 > 10.0.0.9:443");
	/* the host inside speaks to the box */
	static const char *const own[] = { "tcp 10.0.0.1:5000 > 203.0.113.1:22 flags syn",
		"tcp 10.0.0.1:80 > 203.0.113.1:5000 flags syn,ack", "icmp 10.0.0.1 > 203.0.113.1 type 8 id 7",
		"icmp 10.0.0.1 > 203.0.113.1 type 0 id 7" };
	for (unsigned i = 0; i < 4; i++) {
		HAIR(r, own[i], "nothing");
		cr_assert_eq(rig_kernel(r, "lan"), 1, "%s", own[i]);
	}
	cr_assert_eq(mappings(r), 0);
	OUT(r, "udp 10.0.0.1:41001 > 192.0.2.9:53", "udp 203.0.113.1:41001 > 192.0.2.9:53");
	IN(r, "udp 192.0.2.9:53 > 203.0.113.1:41001", "udp 192.0.2.9:53 > 10.0.0.1:41001");
	end_world(r);
}

Test(nat44, a_session_from_outside_is_the_mappings)
{
	struct rig *r = rig_create(WORLD(PLAIN), NULL);
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53", "udp 203.0.113.1:5000 > 192.0.2.9:53");
	IN(r, "udp 192.0.2.77:7 > 203.0.113.1:5000", "udp 192.0.2.77:7 > 10.0.0.1:5000");
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.77:7", "udp 203.0.113.1:5000 > 192.0.2.77:7");
	cr_assert_eq(sessions(r), 2);
	cr_assert_eq(mappings(r), 1);
	cr_assert_eq(subscriber_sessions(r), 2);
	struct nat_counts *c = nat_of(r)->shared->counts;
	cr_assert_eq(c[0].opened_out, 1);
	cr_assert_eq(c[0].opened_in, 1);
	/* it lives as long as one of them */
	mr_session_end(r->sh.sessions, 0, mr_sessions_next(r->sh.sessions, 1), clock_ms());
	rig_turn(r);
	cr_assert_eq(mappings(r), 1);
	end_sessions(r);
	cr_assert_eq(mappings(r), 0);
	cr_assert_eq(c[0].ended, 2);
	cr_assert_eq(ports_resting(r, 0), 1, "the port rests");
	end_world(r);
}

Test(nat44, a_full_table_gives_back_what_was_taken)
{
	struct rig_options opt = { .sessions = 64 };
	struct rig *r = rig_create(WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1 ]"), &opt);
	char packet[80];
	for (unsigned i = 0; i < 300; i++) {
		snprintf(packet, sizeof(packet), "udp 10.0.%u.%u:1000 > 192.0.2.9:53", i / 200, i % 200 + 1);
		rig_say(r, "lan", packet);
	}
	rig_turn(r);
	unsigned sent = rig_sent(r, "wan");
	cr_assert_eq(sent, sessions(r));
	cr_assert_leq(sent, 64);
	cr_assert_eq(mappings(r), sent, "%u mappings, %u sent", mappings(r), sent);
	cr_assert_eq(subscriber_sessions(r), sent);
	cr_assert_eq(ports_resting(r, 0), 0, "a session that was not made leaves no rest");
	end_world(r);
}

/* Sessions opened from outside may be given up for others until they are answered; those from inside are not. */
Test(nat44, a_flood_from_outside_takes_no_mapping_away)
{
	struct rig_options opt = { .sessions = 64 };
	struct rig *r = rig_create(WORLD(PLAIN), &opt);
	char packet[80];
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53", "udp 203.0.113.1:5000 > 192.0.2.9:53");
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(packet, sizeof(packet), "udp 198.51.%u.%u:7 > 203.0.113.1:5000", i / 200, i % 200 + 1);
		rig_say(r, "wan", packet);
	}
	rig_turn(r);
	cr_assert_gt(rig_sent(r, "lan"), 64, "new ones take the place of old ones");
	cr_assert_eq(mappings(r), 1);
	cr_assert_eq(subscriber_sessions(r), sessions(r));
	IN(r, "udp 192.0.2.9:53 > 203.0.113.1:5000", "udp 192.0.2.9:53 > 10.0.0.1:5000");
	cr_assert_eq(rig_stats(r, "lan", "out").received.packets, 1);
	end_world(r);
}

/* A table that is full keeps nothing from the kernel. */
Test(nat44, what_is_the_kernels_needs_no_session)
{
	struct rig_options opt = { .sessions = 64 };
	struct rig *r = rig_create(WORLD(PLAIN ", leftover: kernel"), &opt);
	char packet[80];
	for (unsigned i = 0; i < 100; i++) {
		snprintf(packet, sizeof(packet), "udp 10.0.0.1:%u > 192.0.2.9:53", 2000 + i);
		rig_say(r, "lan", packet);
	}
	rig_turn(r);
	cr_assert_gt(rig_dropped(r, "lan", "out", "table-full") + rig_dropped(r, "lan", "out", "half-open-quota"), 0);
	for (unsigned i = 0; i < 10; i++) {
		snprintf(packet, sizeof(packet), "udp 198.51.100.%u:7 > 203.0.113.1:9000", i + 1);
		rig_say(r, "wan", packet);
	}
	rig_turn(r);
	cr_assert_eq(rig_kernel(r, "wan"), 10);
	end_world(r);
}

Test(nat44, sessions_have_the_time_outs_of_their_kind)
{
	struct rig *r = rig_create(WORLD(PLAIN ", inbound_refresh: false, timeouts: { udp: 100s }"), NULL);
	const struct nat *n = nat_of(r);
	cr_assert(n->timeouts_out && n->timeouts_in && n->timeouts_hairpin);
	cr_assert(n->timeouts_out != n->timeouts_in && n->timeouts_in != n->timeouts_hairpin);
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53", "udp 203.0.113.1:5000 > 192.0.2.9:53");
	uint32_t first = mr_sessions_next(r->sh.sessions, 1);
	cr_assert_eq(mr_session_at(r->sh.sessions, first)->timeouts, n->timeouts_out);
	IN(r, "udp 192.0.2.77:7 > 203.0.113.1:5000", "udp 192.0.2.77:7 > 10.0.0.1:5000");
	uint32_t second = mr_sessions_next(r->sh.sessions, first + 1);
	cr_assert_eq(mr_session_at(r->sh.sessions, second)->timeouts, n->timeouts_in);
	HAIR(r, "udp 10.0.0.2:6000 > 203.0.113.1:5000", "udp 203.0.113.1:6000 > 10.0.0.1:5000");
	uint32_t third = mr_sessions_next(r->sh.sessions, second + 1);
	cr_assert_eq(mr_session_at(r->sh.sessions, third)->timeouts, n->timeouts_hairpin);
	end_world(r);
}

static unsigned lines_with(const char *path, const char *word)
{
	char line[400];
	unsigned cnt = 0;
	FILE *f = fopen(path, "r");
	cr_assert_not_null(f);
	while (fgets(line, sizeof(line), f))
		cnt += strstr(line, word) != NULL;
	fclose(f);
	return cnt;
}

Test(nat44, sessions_are_logged)
{
	char folder[] = "/tmp/nat44-XXXXXX", path[64], yaml[1024];
	cr_assert_not_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/nat.log", folder);
	snprintf(yaml, sizeof(yaml), WORLD_HEAD "  nat: { type: nat44, %s, log: { file: %s } }\n" WORLD_TAIL, PLAIN,
		path);
	struct rig *r = rig_create(yaml, NULL);
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53", "udp 203.0.113.1:5000 > 192.0.2.9:53");
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53", "udp 203.0.113.1:5000 > 192.0.2.9:53");
	IN(r, "udp 192.0.2.77:7 > 203.0.113.1:5000", "udp 192.0.2.77:7 > 10.0.0.1:5000");
	HAIR(r, "udp 10.0.0.2:6000 > 203.0.113.1:5000", "udp 203.0.113.1:6000 > 10.0.0.1:5000");
	rig_reload(r, yaml);
	end_world(r);
	cr_assert_eq(lines_with(path, "session-add udp 10.0.0.1:5000 203.0.113.1:5000 192.0.2.9:53"), 1);
	cr_assert_eq(lines_with(path, "session-delete udp 10.0.0.1:5000 203.0.113.1:5000 192.0.2.9:53 2 "), 1);
	cr_assert_eq(lines_with(path, "session-add udp 10.0.0.1:5000 203.0.113.1:5000 192.0.2.77:7"), 1);
	cr_assert_eq(lines_with(path, "session-add udp 10.0.0.2:6000 203.0.113.1:6000 203.0.113.1:5000"), 1);
	cr_assert_eq(lines_with(path, "session-add udp 10.0.0.1:5000 203.0.113.1:5000 203.0.113.1:6000"), 1);
	cr_assert_eq(lines_with(path, "session-add"), 4);
	cr_assert_eq(lines_with(path, "session-delete"), 4);
	unlink(path);
	rmdir(folder);
}

Test(nat44, limits_and_want_of_ports_are_told_apart)
{
	struct rig *r = rig_create(WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1 ], ports: 2000-2009, limits: "
					 "{ sessions: 8, mappings: 6 }"),
		NULL);
	char packet[80];
	for (unsigned i = 0; i < 8; i++) {
		snprintf(packet, sizeof(packet), "udp 10.0.0.1:%u > 192.0.2.9:53", 100 + i);
		rig_say(r, "lan", packet);
	}
	rig_turn(r);
	cr_assert_eq(rig_dropped(r, "lan", "out", "nat44-mapping-limit"), 2);
	for (unsigned i = 0; i < 3; i++) {
		snprintf(packet, sizeof(packet), "udp 10.0.0.1:100 > 192.0.2.%u:53", 20 + i);
		rig_say(r, "lan", packet);
	}
	rig_turn(r);
	cr_assert_eq(rig_dropped(r, "lan", "out", "nat44-session-limit"), 1);
	for (unsigned i = 0; i < 6; i++) {
		snprintf(packet, sizeof(packet), "udp 10.0.0.2:%u > 192.0.2.9:53", 100 + i);
		rig_say(r, "lan", packet);
	}
	rig_turn(r);
	cr_assert_eq(rig_dropped(r, "lan", "out", "nat44-ports"), 2, "ten ports, ten used");
	cr_assert_eq(mappings(r), 10);
	end_world(r);
}

Test(nat44, blocks_of_ports)
{
	struct rig *r =
		rig_create(WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1 ], ports: 1024-1055, port_block: 16, "
				 "limits: { blocks: 1 }, quarantine: 0s"),
			NULL);
	char packet[80];
	for (unsigned host = 1; host <= 3; host++)
		for (unsigned i = 0; i < 17; i++) {
			snprintf(packet, sizeof(packet), "udp 10.0.0.%u:%u > 192.0.2.9:53", host, 100 + i);
			rig_say(r, "lan", packet);
		}
	rig_turn(r);
	cr_assert_eq(mappings(r), 32);
	cr_assert_eq(rig_dropped(r, "lan", "out", "nat44-block-limit"), 2);
	cr_assert_eq(rig_dropped(r, "lan", "out", "nat44-blocks"), 17);
	end_world(r);
}

Test(nat44, explain_says_why_and_takes_nothing)
{
	struct rig *r = rig_create(
		WORLD(PLAIN ", static: [ { inside: 10.0.0.9, outside: 203.0.113.1, proto: tcp, ports: 443 } ]"), NULL);
	static const struct {
		const char *interface, *packet, *says, *verdict;
	} all[] = {
		{ "lan", "udp 10.0.0.1:5000 > 192.0.2.9:53",
			"source 10.0.0.1:5000 becomes 203.0.113.1:5000, by a mapping it makes", "forward" },
		{ "wan", "tcp 192.0.2.9:5 > 203.0.113.1:443",
			"destination 203.0.113.1:443 becomes 10.0.0.9:443, by the static rule at test.yaml:",
			"forward" },
		{ "wan", "udp 192.0.2.9:5 > 203.0.113.1:443", "no session, mapping or static rule wants it", "drop" },
		{ "lan", "gre 10.0.0.1 > 192.0.2.9",
			"source 10.0.0.1 becomes 203.0.113.1, the outside address of its sender", "forward" },
		{ "lan", "tcp 10.0.0.1:1 > 192.0.2.9:2 flags rst", "belongs to no session and cannot open one",
			"drop" },
	};
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		uint8_t frame[MR_EXPLAIN_FRAME_MAX];
		struct mr_explain_packet p;
		struct mr_explanation x;
		struct mr_error e = { 0 };
		cr_assert_eq(mr_explain_frame_parse(all[i].packet, &p, &e), 0, "%s", e.text);
		int len = mr_explain_frame_build(&p, frame, sizeof(frame), &e);
		for (unsigned n = 0; n < 3; n++)
			cr_assert_eq(mr_worker_explain(&r->sh, rig_plan(r), rig_id(r, all[i].interface), frame,
					     (uint32_t)len, &x, &e),
				0, "%s", e.text);
		cr_assert(strstr(x.text, all[i].says), "%s: %s", all[i].packet, x.text);
		cr_assert_str_eq(x.verdict, all[i].verdict);
		cr_assert_eq(mappings(r), 0);
		cr_assert_eq(subscriber_sessions(r), 0);
		cr_assert_eq(ports_resting(r, 0), 0);
	}
	end_world(r);
}

#define THREE(first, second, third)                                                                        \
	WORLD_HEAD "  before: { type: filter, default: drop, rules: [ { action: accept, " first " } ] }\n" \
		   "  nat: { type: nat44, " PLAIN " }\n"                                                   \
		   "  after: { type: filter, default: drop, rules: [ { action: accept, " second " } ] }\n" \
		   "  back: { type: filter, default: drop, rules: [ { action: accept, " third " } ] }\n"   \
		   "pipelines:\n  in: { from: [ wan ], match: auto, stages: [ nat, back ], to: lan }\n"    \
		   "  out: { from: [ lan ], match: auto, stages: [ before, nat, after ], to: wan }\n"

Test(nat44, stages_before_and_after_see_the_right_addresses)
{
	struct rig *r =
		rig_create(THREE("src: 10.0.0.1", "src: 203.0.113.1, sport: 5000", "dst: 10.0.0.1, dport: 5000"), NULL);
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53", "udp 203.0.113.1:5000 > 192.0.2.9:53");
	IN(r, "udp 192.0.2.9:53 > 203.0.113.1:5000", "udp 192.0.2.9:53 > 10.0.0.1:5000");
	OUT(r, "udp 10.0.0.2:5001 > 192.0.2.9:53", "nothing");
	cr_assert_eq(mappings(r), 1, "the filter before it keeps a packet away");
	/* one after it drops: what was taken is given back without a rest */
	OUT(r, "udp 10.0.0.1:5001 > 192.0.2.9:53", "nothing");
	cr_assert_eq(mappings(r), 1);
	cr_assert_eq(ports_resting(r, 0), 0);
	cr_assert_eq(rig_dropped(r, "lan", "out", "filter-default"), 2);
	end_world(r);
}

Test(nat44, several_in_one_pipeline)
{
	struct rig *r = rig_create(WORLD_HEAD
		"  nat: { type: nat44, " PLAIN " }\n"
		"  other: { type: nat44, inside: [ 172.16.0.0/12 ], outside: [ 203.0.113.2 ], port_choice: preserve }\n"
		"pipelines:\n  in: { from: [ wan ], match: auto, stages: [ nat, other ], to: lan }\n"
		"  out: { from: [ lan ], match: auto, stages: [ nat, other ], to: wan }\n",
		NULL);
	for (int i = 0; i < 2; i++) {
		OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53", "udp 203.0.113.1:5000 > 192.0.2.9:53");
		IN(r, "udp 192.0.2.9:53 > 203.0.113.1:5000", "udp 192.0.2.9:53 > 10.0.0.1:5000");
		OUT(r, "udp 172.16.0.1:5000 > 192.0.2.9:53", "udp 203.0.113.2:5000 > 192.0.2.9:53");
		IN(r, "udp 192.0.2.9:53 > 203.0.113.2:5000", "udp 192.0.2.9:53 > 172.16.0.1:5000");
	}
	/* from the one to the other: both translate */
	OUT(r, "udp 172.16.0.1:5000 > 203.0.113.1:5000", "udp 203.0.113.2:5000 > 10.0.0.1:5000");
	OUT(r, "udp 10.0.0.1:5000 > 203.0.113.2:5000", "udp 203.0.113.1:5000 > 172.16.0.1:5000");
	end_world(r);
}
