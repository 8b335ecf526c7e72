/* SPDX-License-Identifier: BSD-2-Clause */
/* The stage nat44 where it meets others: odd destinations, the kernel's share, questions, other stages, ends that are no longer configured. */
#include "nat44_world.h"

#define OUT(r, packet, want) BECOMES(r, "lan", packet, "wan", want)
#define IN(r, packet, want)  BECOMES(r, "wan", packet, "lan", want)

/* ---- destinations -------------------------------------------------------------------------------------------------- */

/* A default route covers them all, and routers send to the reserved ones too (240/4): nothing but what is for many goes out as it is. */
Test(nat44_corners, whatever_the_destination_the_source_is_translated)
{
	static const char *const one[] = { "240.0.0.1", "255.255.255.254", "0.1.2.3", "0.0.0.0", "127.0.0.1",
		"169.254.1.1", "223.255.255.255" };
	static const char *const many[] = { "224.0.0.251", "239.255.255.250", "255.255.255.255" };
	struct rig *r = rig_create(WORLD(PLAIN), NULL);
	char packet[80], want[80];
	for (unsigned i = 0; i < sizeof(one) / sizeof(one[0]); i++) {
		snprintf(packet, sizeof(packet), "udp 10.0.0.1:5000 > %s:53", one[i]);
		snprintf(want, sizeof(want), "udp 203.0.113.1:5000 > %s:53", one[i]);
		OUT(r, packet, want);
	}
	for (unsigned i = 0; i < sizeof(many) / sizeof(many[0]); i++) {
		snprintf(packet, sizeof(packet), "udp 10.0.0.1:5000 > %s:53", many[i]);
		OUT(r, packet, packet);
	}
	end_world(r);
}

/* ---- leftover: kernel ---------------------------------------------------------------------------------------------- */

/* Hosts outside knock first, and the kernel got it: that is in nobody's way when the host inside opens its filter (RFC 4787 REQ-8). */
Test(nat44_corners, what_the_kernel_got_is_not_in_the_way)
{
	static const char *const filters[] = { "address-dependent", "address-and-port-dependent" };
	for (unsigned i = 0; i < 2; i++) {
		char yaml[1024];
		snprintf(yaml, sizeof(yaml), WORLD(PLAIN ", leftover: kernel, filtering: %s"), filters[i]);
		struct rig *r = rig_create(yaml, NULL);
		OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53", "udp 203.0.113.1:5000 > 192.0.2.9:53");
		for (int again = 0; again < 2; again++) {
			IN(r, "udp 192.0.2.8:99 > 203.0.113.1:5000", "nothing");
			cr_assert_eq(rig_kernel(r, "wan"), 1);
		}
		OUT(r, "udp 10.0.0.1:5000 > 192.0.2.8:99", "udp 203.0.113.1:5000 > 192.0.2.8:99");
		IN(r, "udp 192.0.2.8:99 > 203.0.113.1:5000", "udp 192.0.2.8:99 > 10.0.0.1:5000");
		cr_assert_eq(rig_kernel(r, "wan"), 0);
		end_world(r);
	}
}

/* Nor where there was no mapping yet, and the port is preserved; what no mapping can be in the way of has a session as any flow. */
Test(nat44_corners, the_kernels_flows_have_sessions_where_no_mapping_can_be)
{
	struct rig *r = rig_create(WORLD(PLAIN ", leftover: kernel, ports: 4096-65535"), NULL);
	IN(r, "udp 192.0.2.8:99 > 203.0.113.1:5000", "nothing");
	IN(r, "tcp 192.0.2.8:99 > 203.0.113.1:5000 flags syn", "nothing");
	cr_assert_eq(rig_kernel(r, "wan"), 2);
	cr_assert_eq(sessions(r), 0);
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.8:99", "udp 203.0.113.1:5000 > 192.0.2.8:99");
	OUT(r, "tcp 10.0.0.1:5000 > 192.0.2.8:99 flags syn", "tcp 203.0.113.1:5000 > 192.0.2.8:99");
	cr_assert_eq(sessions(r), 2);
	IN(r, "icmp 192.0.2.8 > 203.0.113.1 type 8 id 7", "nothing");
	cr_assert_eq(rig_kernel(r, "wan"), 1);
	cr_assert_eq(sessions(r), 3);
	end_world(r);
}

/* ---- questions ----------------------------------------------------------------------------------------------------- */

static unsigned told[2];

static void on_block(void *ctx, unsigned worker, const struct nat_block_event *e)
{
	told[e->given]++;
}

static void ask(struct rig *r, const char *interface, const char *packet)
{
	static struct mr_explanation x;
	struct mr_explain_packet p;
	struct mr_error e = { 0 };
	uint8_t frame[MR_EXPLAIN_FRAME_MAX];
	cr_assert_eq(mr_explain_frame_parse(packet, &p, &e), 0, "%s", e.text);
	int len = mr_explain_frame_build(&p, frame, sizeof(frame), &e);
	cr_assert_gt(len, 0, "%s", e.text);
	cr_assert_eq(mr_worker_explain(&r->sh, rig_plan(r), rig_id(r, interface), frame, (uint32_t)len, &x, &e), 0,
		"%s", e.text);
}

Test(nat44_corners, a_question_is_neither_logged_nor_counted)
{
	struct rig *r = rig_create(WORLD(PLAIN ", port_block: 64, limits: { mappings: 1 }"), NULL);
	struct nat_store_usage before, after;
	nat_of(r)->policy.on_block = on_block;
	memset(told, 0, sizeof(told));
	for (int i = 0; i < 3; i++)
		ask(r, "lan", "udp 10.0.0.1:5000 > 192.0.2.9:53");
	cr_assert_eq(told[1], 0, "%u blocks given", told[1]);
	cr_assert_eq(told[0], 0, "%u blocks taken back", told[0]);
	cr_assert_str_neq(passes(r, "lan", "udp 10.0.0.1:5000 > 192.0.2.9:53", "wan"), "nothing");
	cr_assert_eq(told[1], 1);
	nat_store_usage(nat_of(r)->shared->store, &before);
	ask(r, "lan", "udp 10.0.0.1:5001 > 192.0.2.9:53");
	nat_store_usage(nat_of(r)->shared->store, &after);
	cr_assert_eq(after.refused[NAT_MAPPING_LIMIT], before.refused[NAT_MAPPING_LIMIT]);
	cr_assert_eq(told[1], 1);
	cr_assert_eq(told[0], 0);
	end_world(r);
}

/* ---- inside addresses seen from outside ----------------------------------------------------------------------------- */

#define ALL_TAIL                                                          \
	"pipelines:\n"                                                    \
	"  in: { from: [ wan ], match: all, stages: [ nat ], to: lan }\n" \
	"  out: { from: [ lan ], match: all, stages: [ nat ], to: wan }\n"
#define ALL(options) WORLD_HEAD "  nat: { type: nat44, " options " }\n" ALL_TAIL

/* Nobody but who is exempt speaks to inside addresses as such, so no answer leaves untranslated; not even over a reload. */
Test(nat44_corners, inside_addresses_are_not_seen_outside)
{
	struct rig *r = rig_create(ALL(PLAIN ", exempt: [ 198.51.100.0/24, 192.0.2.9 ]"), NULL);
	IN(r, "udp 192.0.2.8:1 > 10.0.0.1:5000", "nothing");
	IN(r, "tcp 192.0.2.8:1 > 10.0.0.1:5000 flags syn", "nothing");
	IN(r, "gre 192.0.2.8 > 10.0.0.1", "nothing");
	say_error(r, "wan", "192.0.2.8", "10.0.0.1", 3, 1, "udp 10.0.0.1:5000 > 192.0.2.8:1", 8);
	rig_turn(r);
	cr_assert_str_eq(left_by(r, "lan"), "nothing");
	cr_assert_eq(rig_dropped(r, "wan", "in", "nat44-not-exempt"), 4);
	cr_assert_eq(rig_kernel(r, "wan"), 0);
	IN(r, "udp 192.0.2.9:1 > 10.0.0.1:5000", "udp 192.0.2.9:1 > 10.0.0.1:5000");
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:1", "udp 10.0.0.1:5000 > 192.0.2.9:1");
	rig_reload(r, ALL(PLAIN ", exempt: [ 198.51.100.0/24 ]"));
	IN(r, "udp 192.0.2.9:1 > 10.0.0.1:5000", "nothing");
	cr_assert_eq(sessions(r), 0);
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:1", "udp 203.0.113.1:5000 > 192.0.2.9:1");
	end_world(r);
}

/* With match: auto what others send to inside addresses is not even seen. */
Test(nat44_corners, only_from_exempt_sources_to_inside)
{
	struct rig *r = rig_create(WORLD(PLAIN ", exempt: [ 198.51.100.0/24 ]"), NULL);
	IN(r, "udp 192.0.2.9:1 > 10.0.0.1:5", "nothing");
	cr_assert_eq(rig_kernel(r, "wan"), 1);
	cr_assert_eq(rig_stats(r, "wan", "in").received.packets, 0);
	IN(r, "udp 198.51.100.9:1 > 10.0.0.1:5", "udp 198.51.100.9:1 > 10.0.0.1:5");
	OUT(r, "udp 10.0.0.1:5 > 198.51.100.9:1", "udp 10.0.0.1:5 > 198.51.100.9:1");
	end_world(r);
}

/* ---- several stages ------------------------------------------------------------------------------------------------ */

/* One outside address for most, another for a partner: both stages have the same inside. */
#define BY_DESTINATION                                                                                             \
	WORLD_HEAD                                                                                                 \
	"  most: { type: nat44, inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1 ], exempt: [ 198.51.100.0/24 ] }\n" \
	"  nat: { type: nat44, inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.2 ] }\n"                               \
	"pipelines:\n"                                                                                             \
	"  in: { from: [ wan ], match: auto, stages: [ most, nat ], to: lan }\n"                                   \
	"  out: { from: [ lan ], match: auto, stages: [ most, nat ], to: wan }\n"

Test(nat44_corners, by_destination_and_over_reloads)
{
	struct rig *r = rig_create(BY_DESTINATION, NULL);
	unsigned port[2], now;
	char reply[80];
	cr_assert_eq(
		sscanf(passes(r, "lan", "udp 10.0.0.1:5000 > 192.0.2.9:53", "wan"), "udp 203.0.113.1:%u >", &port[0]),
		1);
	cr_assert_eq(sscanf(passes(r, "lan", "udp 10.0.0.1:5000 > 198.51.100.9:53", "wan"), "udp 203.0.113.2:%u >",
			     &port[1]),
		1);
	for (int i = 0; i < 2; i++) {
		rig_reload(r, BY_DESTINATION);
		cr_assert_eq(sessions(r), 2);
		snprintf(reply, sizeof(reply), "udp 192.0.2.9:53 > 203.0.113.1:%u", port[0]);
		IN(r, reply, "udp 192.0.2.9:53 > 10.0.0.1:5000");
		snprintf(reply, sizeof(reply), "udp 198.51.100.9:53 > 203.0.113.2:%u", port[1]);
		IN(r, reply, "udp 198.51.100.9:53 > 10.0.0.1:5000");
		cr_assert_eq(sscanf(passes(r, "lan", "udp 10.0.0.1:5000 > 192.0.2.9:53", "wan"), "udp 203.0.113.1:%u >",
				     &now),
			1);
		cr_assert_eq(now, port[0]);
	}
	end_world(r);
}

/* ---- ends that are not configured any more ------------------------------------------------------------------------- */

Test(nat44_corners, sessions_of_inside_addresses_that_go_end)
{
	static const char both[] =
		WORLD("inside: [ 10.0.0.0/8, 172.16.0.0/12 ], outside: [ 203.0.113.1 ], port_choice: preserve");
	struct rig *r = rig_create(both, NULL);
	OUT(r, "udp 10.0.0.1:5000 > 192.0.2.9:53", "udp 203.0.113.1:5000 > 192.0.2.9:53");
	OUT(r, "udp 172.16.0.1:6000 > 192.0.2.9:53", "udp 203.0.113.1:6000 > 192.0.2.9:53");
	OUT(r, "gre 172.16.0.2 > 192.0.2.9", "47 203.0.113.1 > 192.0.2.9");
	IN(r, "udp 192.0.2.7:9 > 203.0.113.1:6000", "udp 192.0.2.7:9 > 172.16.0.1:6000");
	cr_assert_eq(sessions(r), 4);
	rig_reload(r, WORLD(PLAIN));
	cr_assert_eq(sessions(r), 1, "%u", sessions(r));
	IN(r, "udp 192.0.2.9:53 > 203.0.113.1:6000", "nothing");
	IN(r, "udp 192.0.2.9:53 > 203.0.113.1:5000", "udp 192.0.2.9:53 > 10.0.0.1:5000");
	end_world(r);
}

#define FORWARD PLAIN ", static: [ { inside: 10.0.0.9, outside: 203.0.113.1, proto: tcp, ports: 4430-4440 } ]"

/* What lives goes on; but a port that a static rule has now gets no new session of the mapping that had it (RFC 4787 REQ-3). */
Test(nat44_corners, a_static_rule_over_a_live_mapping)
{
	struct rig *r = rig_create(WORLD(PLAIN), NULL);
	OUT(r, "tcp 10.0.0.1:4433 > 192.0.2.9:80 flags syn", "tcp 203.0.113.1:4433 > 192.0.2.9:80");
	for (int i = 0; i < 2; i++) {
		rig_reload(r, WORLD(FORWARD));
		cr_assert_eq(sessions(r), 1 + 2 * (unsigned)i);
		IN(r, "tcp 192.0.2.9:80 > 203.0.113.1:4433", "tcp 192.0.2.9:80 > 10.0.0.1:4433");
		OUT(r, "tcp 10.0.0.1:4433 > 192.0.2.9:80", "tcp 203.0.113.1:4433 > 192.0.2.9:80");
		IN(r, "tcp 192.0.2.8:1000 > 203.0.113.1:4433 flags syn", "tcp 192.0.2.8:1000 > 10.0.0.9:4433");
		unsigned port = 4433;
		cr_assert_eq(sscanf(passes(r, "lan", "tcp 10.0.0.1:4433 > 192.0.2.7:80 flags syn", "wan"),
				     "tcp 203.0.113.1:%u >", &port),
			1);
		cr_assert(port < 4430 || port > 4440, "%u is the rule's", port);
		cr_assert_eq(mappings(r), 2);
	}
	end_world(r);
}
