/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random packets, ends of sessions and reloads; after each handful what must always hold of a NAT:
 *
 *     every mapping counts exactly the sessions whose private bytes name it, every subscriber those of its mappings and its own;
 *     no outside end belongs to two mappings, no inside end (endpoint-independent) to two at configured addresses;
 *     what leaves for outside has an outside source, and the mapping it has is the one the store tells;
 *     a packet that gets in reaches the inside end the store tells.
 */
#include "nat44_world.h"

#include "core/keys.h"

#include <stdlib.h>

#define STEPS    15000
#define MAPPINGS 4096

static uint32_t seed;

static uint32_t any(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)(((uint64_t)(seed >> 8) * n) >> 24);
}

static const char *const configs[] = {
	WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1, 203.0.113.2 ], ports: 2000-2031, quarantine: 0s"),
	WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1, 203.0.113.2 ], ports: 2000-2031, quarantine: 0s, "
	      "filtering: address-dependent, limits: { sessions: 40, mappings: 12 }"),
	WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.2, 203.0.113.3 ], ports: 2000-2063, pooling: arbitrary, "
	      "quarantine: 1s, "
	      "filtering: address-and-port-dependent, static: [ { inside: 10.0.0.2, outside: 203.0.113.9 }, "
	      "{ inside: 10.0.0.3, outside: 203.0.113.2, proto: tcp, ports: 2010-2012, inside_ports: 1002-1004 } ]"),
	WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1, 203.0.113.3 ], ports: 2000-2063, port_block: 16, "
	      "quarantine: 0s, "
	      "port_choice: parity, static: [ { inside: 10.0.0.3, outside: 203.0.113.1, proto: [ tcp, udp ], ports: "
	      "2010-2012, "
	      "inside_ports: 1002-1004 } ]"),
};

/* ---- what always holds -------------------------------------------------------------------------------------------- */

struct tally {
	uint32_t of_mapping[MAPPINGS], subscriber_sessions;
};

static void count_sessions(struct rig *r, struct tally *t)
{
	const struct mr_plan *plan = rig_plan(r);
	memset(t, 0, sizeof(*t));
	for (uint32_t i = 0; (i = mr_sessions_next(r->sh.sessions, i + 1)) != 0;) {
		struct nat_private mine;
		memcpy(&mine, mr_session_at(r->sh.sessions, i)->priv + plan->stage[0].session_offset, sizeof(mine));
		cr_assert(mine.flags, "a session that is not translated");
		if (mine.flags & NAT_SUBSCRIBER) {
			t->subscriber_sessions++;
		} else if (mine.flags & NAT_SOURCE && !(mine.flags & NAT_SOURCE_STATIC)) {
			cr_assert_lt(mine.source, MAPPINGS);
			t->of_mapping[mine.source]++;
		}
		if (mine.flags & NAT_DESTINATION && !(mine.flags & NAT_DESTINATION_STATIC)) {
			cr_assert_lt(mine.destination, MAPPINGS);
			t->of_mapping[mine.destination]++;
		}
	}
}

static void check_mappings(struct rig *r)
{
	struct nat_store *store = nat_of(r)->shared->store;
	struct nat_mapping all[256], m;
	struct tally t;
	uint32_t n = 0, of_mappings = 0;
	count_sessions(r, &t);
	for (uint32_t i = 1; i < MAPPINGS; i++) {
		bool there = nat_store_mapping(store, i, &m);
		cr_assert_eq(there ? m.session_cnt : 0, t.of_mapping[i], "mapping %u counts %u sessions of %u", i,
			there ? m.session_cnt : 0, t.of_mapping[i]);
		of_mappings += t.of_mapping[i];
		if (there)
			all[n++] = m;
	}
	cr_assert_eq(n, mappings(r));
	cr_assert_eq(subscriber_sessions(r), of_mappings + t.subscriber_sessions);
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = 0; k < i; k++) {
			const struct nat_mapping *a = &all[i], *b = &all[k];
			if (a->proto != b->proto)
				continue;
			cr_assert(a->outside_be != b->outside_be || a->outside_port_be != b->outside_port_be);
			bool both = nat_ranges_hold(&nat_of(r)->pool, ntohl(a->outside_be)) &&
				nat_ranges_hold(&nat_of(r)->pool, ntohl(b->outside_be)) && !a->retired && !b->retired;
			cr_assert(!both || a->inside_be != b->inside_be || a->inside_port_be != b->inside_port_be);
		}
}

/* ---- steps -------------------------------------------------------------------------------------------------------- */

static const char *const protos[] = { "udp", "tcp" };

/* By a static rule, or by a mapping; a session that has an older mapping than a rule for its port keeps it. */
static bool told(struct rig *r, unsigned proto, const char *inside, unsigned inside_port, const char *outside,
	unsigned outside_port)
{
	struct nat_mapping m;
	struct nat_end e;
	uint8_t number = proto ? IPPROTO_TCP : IPPROTO_UDP;
	if (nat_statics_inward(&nat_of(r)->statics, number, inet_addr(outside), htons((uint16_t)outside_port), &e) &&
		e.address_be == inet_addr(inside) &&
		(e.port_be == MR_PORT_KEEP ? outside_port : ntohs((uint16_t)e.port_be)) == inside_port)
		return true;
	return nat_store_find_outside(nat_of(r)->shared->store, proto ? NAT_TCP : NAT_UDP, inet_addr(outside),
		       htons((uint16_t)outside_port), &m) &&
		m.inside_be == inet_addr(inside) && ntohs(m.inside_port_be) == inside_port;
}

/* Some session goes to that address as it is: it is older than the configuration by which it is one of ours. */
static bool known(struct rig *r, const char *address)
{
	for (uint32_t i = 0; (i = mr_sessions_next(r->sh.sessions, i + 1)) != 0;) {
		struct mr_flow_key key[2];
		if (!mr_keys_of_session(r->sh.sessions, r->sh.flows, i, key) &&
			key[0].k4.daddr_be == inet_addr(address) && key[1].k4.saddr_be == inet_addr(address))
			return true;
	}
	return false;
}

/* From inside, now and then to an outside address. */
static unsigned go_out(struct rig *r)
{
	unsigned proto = any(2), port = 1000 + any(8), sport, dport;
	char packet[96], inside[16], to[16], kind[8], source[16], destination[16];
	snprintf(inside, sizeof(inside), "10.0.0.%u", 1 + any(6));
	bool hairpin = !any(5);
	snprintf(to, sizeof(to), hairpin ? "203.0.113.%u" : "192.0.2.%u", 1 + any(3));
	snprintf(packet, sizeof(packet), "%s %s:%u > %s:%u", protos[proto], inside, port, to,
		hairpin ? 2000 + any(32) : 50 + any(3));
	const char *got = passes(r, "lan", packet, "wan");
	if (!strcmp(got, "nothing"))
		return 0;
	cr_assert_eq(
		sscanf(got, "%7s %15[^:]:%u > %15[^:]:%u", kind, source, &sport, destination, &dport), 5, "%s", got);
	cr_assert(told(r, proto, inside, port, source, sport), "%s became %s", packet, got);
	hairpin = nat_ranges_hold(&nat_of(r)->outsides, ntohl(inet_addr(to)));
	cr_assert(strcmp(destination, to) ? hairpin && !strncmp(destination, "10.", 3) : !hairpin || known(r, to),
		"%s became %s", packet, got);
	return 1;
}

static unsigned go_in(struct rig *r)
{
	unsigned proto = any(2), port = any(4) ? 2000 + any(64) : 1000 + any(8), sport, dport;
	char packet[96], outside[16], kind[8], source[16], destination[16];
	snprintf(outside, sizeof(outside), "203.0.113.%u", any(4) ? 1 + any(3) : 9);
	snprintf(packet, sizeof(packet), "%s 192.0.2.%u:%u > %s:%u", protos[proto], 1 + any(4), 50 + any(3), outside,
		port);
	const char *got = passes(r, "wan", packet, "lan");
	if (!strcmp(got, "nothing"))
		return 0;
	cr_assert_eq(
		sscanf(got, "%7s %15[^:]:%u > %15[^:]:%u", kind, source, &sport, destination, &dport), 5, "%s", got);
	cr_assert(told(r, proto, destination, dport, outside, port), "%s became %s", packet, got);
	return 1;
}

static unsigned go_without_ports(struct rig *r)
{
	char packet[96];
	snprintf(packet, sizeof(packet), "gre 10.0.0.%u > 192.0.2.%u", 1 + any(6), 1 + any(4));
	return strcmp(passes(r, "lan", packet, "wan"), "nothing") != 0;
}

static void end_one(struct rig *r)
{
	uint32_t idx = mr_sessions_next(r->sh.sessions, 1 + any(300));
	if (idx)
		mr_session_end(r->sh.sessions, 0, idx, 1);
}

static void explain(struct rig *r)
{
	uint8_t frame[MR_EXPLAIN_FRAME_MAX];
	struct mr_explain_packet p;
	struct mr_explanation x;
	struct mr_error e = { 0 };
	char packet[96];
	snprintf(packet, sizeof(packet), "udp 10.0.0.%u:%u > 192.0.2.1:%u", 1 + any(6), 1000 + any(8), 50 + any(3));
	cr_assert_eq(mr_explain_frame_parse(packet, &p, &e), 0, "%s", e.text);
	int len = mr_explain_frame_build(&p, frame, sizeof(frame), &e);
	cr_assert_eq(mr_worker_explain(&r->sh, rig_plan(r), rig_id(r, "lan"), frame, (uint32_t)len, &x, &e), 0, "%s",
		e.text);
}

static void walk(uint32_t first_seed)
{
	struct rig_options opt = { .sessions = 256 };
	seed = first_seed;
	struct rig *r = rig_create(configs[0], &opt);
	unsigned out = 0, in = 0, bare = 0, reloads = 0;
	for (unsigned i = 0; i < STEPS; i++) {
		unsigned what = any(100);
		if (what < 45)
			out += go_out(r);
		else if (what < 70)
			in += go_in(r);
		else if (what < 75)
			bare += go_without_ports(r);
		else if (what < 96)
			end_one(r);
		else if (what < 99)
			explain(r);
		else if (!any(3) && ++reloads)
			rig_reload(r, configs[any(4)]);
		if (i % 16 == 0)
			check_mappings(r);
	}
	cr_assert(out > 1000 && in > 200 && bare > 50 && reloads > 10, "%u out, %u in, %u without ports, %u reloads",
		out, in, bare, reloads);
	check_mappings(r);
	end_world(r);
}

#define WALK(n)                        \
	Test(nat44_model, walk_##n)    \
	{                              \
		walk(n * 2654435761u); \
	}
WALK(1)
WALK(2)
WALK(3)
WALK(4)
