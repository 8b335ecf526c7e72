/* SPDX-License-Identifier: BSD-2-Clause */
/* test_nat_store.c - mappings and subscribers: what they depend on, whom they let in, where they get, and that all of it comes back. */
#include "nat_store_rig.h"

#include <errno.h>

/* ---- what a mapping depends on (RFC 4787 section 4.1) ------------------------------------------------------------ */

/* Of six flows from one port: to two addresses, three ports each. */
static unsigned distinct(struct rig *r, uint32_t *mapping)
{
	unsigned cnt = 0;

	for (unsigned i = 0; i < 6; i++) {
		struct nat_flow f = rig_flow(1, 5000, i / 3, (uint16_t)(80 + i % 3));
		bool known = false;
		mapping[i] = rig_take(r, &f);
		for (unsigned k = 0; k < i; k++)
			known |= mapping[k] == mapping[i];
		cnt += !known;
	}
	return cnt;
}

Test(nat_store, mapping_is_shared_as_far_as_it_is_independent)
{
	static const unsigned expected[] = { 1, 2, 6 };

	for (unsigned kind = 0; kind < 3; kind++) {
		struct nat_mapping m;
		struct rig r;
		uint32_t mapping[6];
		rig_init(&r, 1, 1);
		r.policy.mapping = (uint8_t)kind;
		cr_assert_eq(distinct(&r, mapping), expected[kind]);
		m = rig_mapping(&r, mapping[4]);
		cr_assert_eq(m.session_cnt, 6 / expected[kind]);
		cr_assert_eq(m.remote_be, kind ? htonl(0xc6336401u) : 0);
		cr_assert_eq(m.remote_port_be, kind == 2 ? htons(81) : 0);
		cr_assert_eq(m.inside_be, rig_inside(1));
		cr_assert_eq(m.inside_port_be, htons(5000));
		for (unsigned i = 0; i < 6; i++)
			nat_store_release(r.s, &r.turn, mapping[i], htonl(0xc6336400u + i / 3), false);
		rig_end(&r);
	}
}

Test(nat_store, zone_protocol_address_and_port_are_told_apart)
{
	struct rig r;
	struct nat_flow f[5];
	uint32_t mapping[5];

	rig_init(&r, 1, 1);
	for (unsigned i = 0; i < 5; i++)
		f[i] = rig_flow(1, 5000, 0, 80);
	f[1].zone = 3;
	f[2].proto = NAT_TCP;
	f[3].inside_be = rig_inside(2);
	f[4].inside_port_be = htons(5001);
	for (unsigned i = 0; i < 5; i++) {
		mapping[i] = rig_take(&r, &f[i]);
		for (unsigned k = 0; k < i; k++)
			cr_assert_neq(mapping[i], mapping[k]);
	}
	for (unsigned i = 0; i < 5; i++) {
		struct nat_mapping m = rig_mapping(&r, mapping[i]), same;
		cr_assert_eq(m.zone, f[i].zone);
		cr_assert_eq(m.proto, f[i].proto);
		cr_assert(nat_store_find_outside(r.s, m.proto, m.outside_be, m.outside_port_be, &same));
		cr_assert_eq(same.inside_be, f[i].inside_be);
		nat_store_release(r.s, &r.turn, mapping[i], f[i].remote_be, false);
		cr_assert(!nat_store_mapping(r.s, mapping[i], &m));
		cr_assert(!nat_store_find_outside(r.s, m.proto, m.outside_be, m.outside_port_be, &same));
	}
	rig_end(&r);
}

Test(nat_store, made_is_said_of_the_first_only)
{
	struct nat_flow f = rig_flow(1, 5000, 0, 80);
	uint32_t mapping, same;
	struct rig r;
	bool made;

	rig_init(&r, 1, 1);
	cr_assert_eq(nat_store_take(r.s, &r.turn, &f, &mapping, &made), NAT_OK);
	cr_assert(made);
	cr_assert_eq(nat_store_take(r.s, &r.turn, &f, &same, &made), NAT_OK);
	cr_assert(!made);
	cr_assert_eq(mapping, same);
	nat_store_release(r.s, &r.turn, mapping, f.remote_be, false);
	cr_assert_eq(rig_mapping(&r, mapping).session_cnt, 1);
	nat_store_release(r.s, &r.turn, mapping, f.remote_be, false);
	rig_end(&r);
}

/* ---- what is let in (RFC 4787 section 5) ------------------------------------------------------------------------- */

Test(nat_store, filters)
{
	for (unsigned kind = 0; kind < 3; kind++) {
		struct nat_flow f = rig_flow(1, 5000, 0, 80);
		struct rig r;
		uint32_t mapping, in;
		struct nat_mapping m;
		bool filtered;
		rig_init(&r, 1, 1);
		r.policy.filtering = (uint8_t)kind;
		mapping = rig_take(&r, &f);
		m = rig_mapping(&r, mapping);
		in = rig_outside_take(&r, &m, 0, &filtered); /* from where it went, another port */
		cr_assert_eq(in, kind == 2 ? 0 : mapping);
		cr_assert_eq(filtered, kind == 2);
		if (in)
			nat_store_release(r.s, &r.turn, in, f.remote_be, false);
		in = rig_outside_take(&r, &m, 1, &filtered); /* from elsewhere */
		cr_assert_eq(in, kind == 0 ? mapping : 0);
		cr_assert_eq(filtered, kind != 0);
		if (in)
			nat_store_release(r.s, &r.turn, in, htonl(0xc6336401u), false);
		cr_assert_eq(rig_mapping(&r, mapping).session_cnt, 1);
		nat_store_release(r.s, &r.turn, mapping, f.remote_be, false);
		in = rig_outside_take(&r, &m, 0, &filtered);
		cr_assert(!in && !filtered, "there is none");
		rig_end(&r);
	}
}

/* Two sessions to one address: it is let in until both have ended; the one from outside counts too. */
Test(nat_store, peers_are_counted)
{
	struct nat_flow a = rig_flow(1, 5000, 3, 80), b = rig_flow(1, 5000, 3, 81), other = rig_flow(1, 5000, 4, 80);
	uint32_t mapping;
	struct nat_mapping m;
	struct rig r;
	bool filtered;

	rig_init(&r, 1, 1);
	r.policy.filtering = NAT_ADDRESS_DEPENDENT;
	mapping = rig_take(&r, &other);
	rig_take(&r, &a);
	rig_take(&r, &b);
	m = rig_mapping(&r, mapping);
	nat_store_release(r.s, &r.turn, mapping, a.remote_be, false);
	cr_assert_eq(rig_outside_take(&r, &m, 3, &filtered), mapping);
	nat_store_release(r.s, &r.turn, mapping, b.remote_be, false);
	cr_assert_eq(rig_outside_take(&r, &m, 3, &filtered), mapping, "the session from outside holds it");
	nat_store_release(r.s, &r.turn, mapping, b.remote_be, false);
	nat_store_release(r.s, &r.turn, mapping, b.remote_be, false);
	cr_assert_eq(rig_outside_take(&r, &m, 3, &filtered), 0);
	cr_assert(filtered);
	cr_assert_eq(rig_outside_take(&r, &m, 4, &filtered), mapping);
	nat_store_release(r.s, &r.turn, mapping, other.remote_be, false);
	nat_store_release(r.s, &r.turn, mapping, other.remote_be, false);
	rig_end(&r);
}

Test(nat_store, another_zone_is_not_let_in)
{
	struct nat_flow f = rig_flow(1, 5000, 0, 80);
	uint32_t mapping;
	struct nat_mapping m;
	struct rig r;
	bool filtered;

	rig_init(&r, 1, 1);
	mapping = rig_take(&r, &f);
	m = rig_mapping(&r, mapping);
	m.zone = 1;
	cr_assert_eq(rig_outside_take(&r, &m, 0, &filtered), 0);
	m.zone = 0;
	m.outside_be = rig_outside(9);
	cr_assert_eq(rig_outside_take(&r, &m, 0, &filtered), 0, "an address the store does not know");
	nat_store_release(r.s, &r.turn, mapping, f.remote_be, true);
	rig_end(&r);
}

/* ---- ports: all of them, and rest -------------------------------------------------------------------------------- */

Test(nat_store, all_ports_of_all_addresses_in_each_protocol)
{
	struct nat_flow f;
	struct rig r;
	uint32_t *mapping = calloc(3 * 3 * 4096, sizeof(*mapping)), cnt = 0;

	rig_init(&r, 3, 1);
	r.policy.paired = false;
	r.policy.port_lo = 61440;
	for (unsigned i = 0; i < 3 * 4096; i++)
		for (unsigned proto = 0; proto < 3; proto++) {
			f = rig_flow(i % 50, (uint16_t)(i / 50 + 1), 0, 80);
			f.proto = (uint8_t)proto;
			mapping[cnt++] = rig_take(&r, &f);
		}
	for (unsigned proto = 0; proto < 3; proto++) {
		f = rig_flow(90, 1, 0, 80);
		f.proto = (uint8_t)proto;
		cr_assert_eq(rig_refused(&r, &f), NAT_NO_PORTS);
	}
	for (unsigned i = 0; i < cnt; i++) { /* one given back unused can be had at once, wherever it is */
		struct nat_mapping m;
		if (i % 37)
			continue;
		m = rig_mapping(&r, mapping[i]);
		nat_store_release(r.s, &r.turn, mapping[i], 0, true);
		f = rig_flow(90, 1, 0, 80);
		f.proto = m.proto;
		mapping[i] = rig_take(&r, &f);
		cr_assert_eq(rig_mapping(&r, mapping[i]).outside_be, m.outside_be);
		cr_assert_eq(rig_mapping(&r, mapping[i]).outside_port_be, m.outside_port_be);
		f.inside_port_be = htons(2);
		cr_assert_eq(rig_refused(&r, &f), NAT_NO_PORTS);
		nat_store_release(r.s, &r.turn, mapping[i], 0, true);
		f = (struct nat_flow){ .proto = m.proto, .inside_be = m.inside_be, .inside_port_be = m.inside_port_be };
		mapping[i] = rig_take(&r, &f);
	}
	for (unsigned i = 0; i < cnt; i++)
		nat_store_release(r.s, &r.turn, mapping[i], 0, false);
	free(mapping);
	rig_end(&r);
}

/* The last address with room is found, and ports that have rested are, whoever asks for them first. */
Test(nat_store, what_has_rested_is_found_without_a_tick)
{
	struct nat_flow f = rig_flow(1, 1, 0, 80);
	struct rig r;
	uint32_t mapping[4];

	rig_init(&r, 4, 1);
	r.policy.paired = false;
	r.policy.port_lo = r.policy.port_hi = 7777;
	for (unsigned i = 0; i < 4; i++) {
		f.inside_port_be = htons((uint16_t)(i + 1));
		mapping[i] = rig_take(&r, &f);
	}
	f.inside_port_be = htons(9);
	cr_assert_eq(rig_refused(&r, &f), NAT_NO_PORTS);
	nat_store_release(r.s, &r.turn, mapping[2], f.remote_be, false);
	cr_assert_eq(rig_refused(&r, &f), NAT_NO_PORTS, "it rests");
	r.turn.now_ms += 119999;
	cr_assert_eq(rig_refused(&r, &f), NAT_NO_PORTS, "it rests");
	r.turn.now_ms += 40002;
	mapping[2] = rig_take(&r, &f);
	for (unsigned i = 0; i < 4; i++)
		nat_store_release(r.s, &r.turn, mapping[i], f.remote_be, false);
	rig_end(&r);
}

Test(nat_store, unused_is_free_at_once_but_not_what_another_session_used)
{
	struct nat_flow f = rig_flow(1, 1, 0, 80), g = rig_flow(2, 1, 0, 80);
	struct rig r;
	uint32_t mapping;

	rig_init(&r, 1, 1);
	r.policy.port_lo = r.policy.port_hi = 7777;
	mapping = rig_take(&r, &f);
	nat_store_release(r.s, &r.turn, mapping, f.remote_be, true);
	mapping = rig_take(&r, &g);
	rig_take(&r, &g);
	nat_store_release(r.s, &r.turn, mapping, f.remote_be, false);
	nat_store_release(r.s, &r.turn, mapping, f.remote_be, true);
	cr_assert_eq(rig_refused(&r, &f), NAT_NO_PORTS);
	rig_end(&r);
}

Test(nat_store, parity_and_preservation_reach_the_ports)
{
	struct nat_flow f = rig_flow(1, 5001, 0, 80), g = rig_flow(2, 5001, 0, 80);
	struct rig r;
	uint32_t one, two;

	rig_init(&r, 1, 1);
	r.policy.choice = NAT_CHOICE_PRESERVE;
	one = rig_take(&r, &f);
	two = rig_take(&r, &g);
	cr_assert_eq(rig_mapping(&r, one).outside_port_be, htons(5001));
	cr_assert_eq(ntohs(rig_mapping(&r, two).outside_port_be) % 2, 1);
	nat_store_release(r.s, &r.turn, one, f.remote_be, false);
	nat_store_release(r.s, &r.turn, two, f.remote_be, false);
	rig_end(&r);
}

/* ---- pooling (RFC 4787 REQ-2) ------------------------------------------------------------------------------------ */

Test(nat_store, paired_keeps_the_address_as_long_as_it_has_sessions)
{
	struct rig r;
	uint32_t mapping[40 * 25], subscriber;
	__be32 outside, address;

	rig_init(&r, 8, 1);
	for (unsigned i = 0; i < 40 * 25; i++) {
		struct nat_flow f = rig_flow(i % 40, (uint16_t)(i + 1), 0, 80);
		f.proto = (uint8_t)(i % 3);
		mapping[i] = rig_take(&r, &f);
		cr_assert_eq(rig_mapping(&r, mapping[i]).outside_be, rig_mapping(&r, mapping[i % 40]).outside_be);
	}
	cr_assert_eq(nat_store_take_subscriber(r.s, &r.turn, 0, rig_inside(0), &subscriber, &address), NAT_OK);
	cr_assert_eq(address, rig_mapping(&r, mapping[0]).outside_be);
	for (unsigned i = 0; i < 40 * 25; i++)
		nat_store_release(r.s, &r.turn, mapping[i], 0, false);
	cr_assert(nat_store_outside_of(r.s, subscriber, &outside, &address));
	cr_assert_eq(outside, rig_inside(0));
	struct nat_flow f = rig_flow(0, 1, 0, 80);
	mapping[0] = rig_take(&r, &f);
	cr_assert_eq(rig_mapping(&r, mapping[0]).outside_be, address, "a session without ports keeps it too");
	nat_store_release(r.s, &r.turn, mapping[0], 0, false);
	nat_store_release_subscriber(r.s, &r.turn, subscriber);
	cr_assert(!nat_store_outside_of(r.s, subscriber, &outside, &address));
	rig_end(&r);
}

Test(nat_store, paired_is_refused_when_its_address_is_full_and_others_are_not)
{
	struct rig r;
	uint32_t mapping[17];
	struct nat_flow f;

	rig_init(&r, 2, 1);
	r.policy.port_lo = 65520;
	for (unsigned i = 0; i < 16; i++) {
		f = rig_flow(1, (uint16_t)(i + 1), 0, 80);
		mapping[i] = rig_take(&r, &f);
	}
	f = rig_flow(1, 100, 0, 80);
	cr_assert_eq(rig_refused(&r, &f), NAT_NO_PORTS);
	f = rig_flow(2, 100, 0, 80);
	mapping[16] = rig_take(&r, &f);
	cr_assert_neq(rig_mapping(&r, mapping[16]).outside_be, rig_mapping(&r, mapping[0]).outside_be,
		"a new one gets an address with room");
	for (unsigned i = 0; i < 17; i++)
		nat_store_release(r.s, &r.turn, mapping[i], 0, true);
	rig_end(&r);
}

Test(nat_store, subscribers_are_spread_by_load)
{
	struct nat_address_usage a;
	struct rig r;
	uint32_t mapping[1600];

	rig_init(&r, 16, 1);
	for (unsigned i = 0; i < 1600; i++) {
		struct nat_flow f = rig_flow(i, 1, 0, 80);
		mapping[i] = rig_take(&r, &f);
	}
	for (uint32_t i = 0; i < 16; i++) {
		cr_assert(nat_store_address_usage(r.s, i, &a));
		cr_assert(a.subscriber_cnt > 90 && a.subscriber_cnt < 110, "%u", a.subscriber_cnt);
		cr_assert_eq(a.taken[NAT_UDP], a.subscriber_cnt);
	}
	for (unsigned i = 0; i < 1600; i++)
		nat_store_release(r.s, &r.turn, mapping[i], 0, false);
	rig_end(&r);
}

/* ---- limits and refusals ----------------------------------------------------------------------------------------- */

Test(nat_store, limits_of_a_subscriber)
{
	struct nat_flow f[4] = { rig_flow(1, 1, 0, 80), rig_flow(1, 2, 0, 80), rig_flow(1, 3, 0, 80),
		rig_flow(2, 3, 0, 80) };
	struct nat_store_usage u;
	struct nat_mapping m;
	struct rig r;
	uint32_t one, two, other, subscriber = 5, in = 6;
	__be32 outside;
	bool filtered;

	rig_init(&r, 1, 1);
	r.policy.mappings_max = 2;
	r.policy.sessions_max = 3;
	one = rig_take(&r, &f[0]);
	two = rig_take(&r, &f[1]);
	cr_assert_eq(rig_refused(&r, &f[2]), NAT_MAPPING_LIMIT);
	rig_take(&r, &f[1]);
	cr_assert_eq(rig_refused(&r, &f[1]), NAT_SESSION_LIMIT);
	cr_assert_eq(rig_refused(&r, &f[2]), NAT_SESSION_LIMIT);
	cr_assert_eq(
		nat_store_take_subscriber(r.s, &r.turn, 0, f[0].inside_be, &subscriber, &outside), NAT_SESSION_LIMIT);
	m = rig_mapping(&r, one);
	cr_assert_eq(
		nat_store_take_outside(r.s, &r.turn, 0, NAT_UDP, m.outside_be, m.outside_port_be, 9, 9, &in, &filtered),
		NAT_SESSION_LIMIT);
	other = rig_take(&r, &f[3]);
	nat_store_release(r.s, &r.turn, two, 0, false);
	cr_assert_eq(nat_store_take_subscriber(r.s, &r.turn, 0, f[0].inside_be, &subscriber, &outside), NAT_OK);
	nat_store_release_subscriber(r.s, &r.turn, subscriber);
	nat_store_release(r.s, &r.turn, two, 0, false);
	rig_take(&r, &f[2]);
	nat_store_usage(r.s, &u);
	cr_assert_eq(u.refused[NAT_MAPPING_LIMIT], 1);
	cr_assert_eq(u.refused[NAT_SESSION_LIMIT], 4);
	cr_assert_eq(u.mapping_cnt, 3);
	cr_assert_eq(u.subscriber_cnt, 2);
	cr_assert_eq(u.mappings_made, 4);
	cr_assert_eq(u.mappings_ended, 1);
	r.policy.sessions_max = 0;
	for (uint32_t at = 0; nat_store_next_mapping(r.s, &at, &m);)
		nat_store_release(r.s, &r.turn, at, 0, false);
	(void)other;
	rig_end(&r);
}

Test(nat_store, no_room_takes_nothing)
{
	struct nat_store_options opt = { .mapping_max = 1, .subscriber_max = 1, .worker_cnt = 0, .seed = 3 };
	struct nat_store_usage u;
	struct nat_flow f;
	struct rig r;
	uint32_t cnt = 0, mapping;
	bool made;

	rig_init(&r, 1, 0);
	nat_store_drop(r.s);
	cr_assert_eq(nat_store_create(&opt, &r.s), 0);
	cr_assert_eq(nat_store_address(r.s, rig_outside(0), &r.number[0]), 0);
	for (;; cnt++) {
		f = rig_flow(1, (uint16_t)(cnt + 1), 0, 80);
		if (nat_store_take(r.s, &r.turn, &f, &mapping, &made))
			break;
	}
	cr_assert(cnt >= 1 && cnt <= 65, "what is asked for, and a worker's handful");
	cr_assert_eq(rig_refused(&r, &f), NAT_NO_MEMORY);
	for (uint32_t i = 0; i < cnt; i++)
		nat_store_release(r.s, &r.turn, i + 1, 0, false);
	nat_store_usage(r.s, &u);
	cr_assert_eq(u.refused[NAT_NO_MEMORY], 2);
	rig_end(&r);
}

Test(nat_store, no_address)
{
	struct nat_flow f = rig_flow(1, 1, 0, 80);
	struct rig r;
	uint32_t subscriber;
	__be32 outside;

	rig_init(&r, 0, 1);
	cr_assert_eq(rig_refused(&r, &f), NAT_NO_ADDRESS);
	cr_assert_eq(nat_store_take_subscriber(r.s, &r.turn, 0, f.inside_be, &subscriber, &outside), NAT_NO_ADDRESS);
	rig_end(&r);
}

Test(nat_store, creation_refuses_what_cannot_be)
{
	struct nat_store_options opt = { .mapping_max = 0, .subscriber_max = 1 };
	struct nat_store *s = NULL;

	cr_assert_eq(nat_store_create(&opt, &s), -EINVAL);
	opt = (struct nat_store_options){ .mapping_max = 1u << 31, .subscriber_max = 1 };
	cr_assert_eq(nat_store_create(&opt, &s), -EINVAL);
	cr_assert_null(s);
	nat_store_drop(NULL);
}

Test(nat_store, addresses_have_numbers_for_ever_and_4096_of_them)
{
	struct rig r;
	uint32_t number;

	rig_init(&r, 2, 1);
	for (uint32_t i = 0; i < NAT_ADDRESSES_MAX; i++) {
		cr_assert_eq(nat_store_address(r.s, rig_outside(i), &number), 0);
		cr_assert_eq(number, i);
	}
	cr_assert_eq(nat_store_address(r.s, rig_outside(NAT_ADDRESSES_MAX), &number), -ENOSPC);
	cr_assert_eq(nat_store_address(r.s, rig_outside(77), &number), 0);
	cr_assert_eq(number, 77);
	nat_store_hold(r.s);
	nat_store_drop(r.s);
	rig_end(&r);
}

/* ---- static use -------------------------------------------------------------------------------------------------- */

static void keep_443(void *ctx, __be32 outside_be, struct nat_port_set *keep)
{
	struct rig *r = ctx;
	struct nat_address_usage a;

	cr_assert(nat_store_address_usage(r->s, 0, &a));
	cr_assert_eq(a.outside_be, outside_be);
	keep->port[NAT_UDP][443 / 64] |= 1ull << 443 % 64;
}

Test(nat_store, reserved_ports_are_not_given)
{
	struct nat_address_usage a;
	struct nat_flow f = rig_flow(1, 1, 0, 80), g = rig_flow(1, 2, 0, 80);
	struct rig r;
	uint32_t mapping;

	rig_init(&r, 1, 1);
	r.policy.port_lo = r.policy.port_hi = 443;
	mapping = rig_take(&r, &f);
	nat_store_reserve(r.s, r.number[0], NAT_UDP, 443, 443);
	cr_assert_eq(rig_mapping(&r, mapping).outside_port_be, htons(443), "it stays");
	nat_store_release(r.s, &r.turn, mapping, 0, true);
	cr_assert_eq(rig_refused(&r, &g), NAT_NO_PORTS);
	g.proto = NAT_TCP;
	mapping = rig_take(&r, &g);
	nat_store_release(r.s, &r.turn, mapping, 0, true);
	nat_store_reserve(r.s, r.number[0], -1, 0, 65535);
	cr_assert_eq(rig_refused(&r, &g), NAT_NO_PORTS);
	cr_assert(nat_store_address_usage(r.s, 0, &a));
	cr_assert_eq(a.reserved[NAT_ICMP], 65536);
	cr_assert_eq(nat_store_unreserve(r.s, keep_443, &r), 0);
	cr_assert(nat_store_address_usage(r.s, 0, &a));
	cr_assert(a.reserved[NAT_ICMP] == 0 && a.reserved[NAT_UDP] == 1);
	g.proto = NAT_UDP;
	cr_assert_eq(rig_refused(&r, &g), NAT_NO_PORTS);
	cr_assert_eq(nat_store_unreserve(r.s, NULL, NULL), 0);
	g.proto = NAT_UDP;
	mapping = rig_take(&r, &g);
	nat_store_release(r.s, &r.turn, mapping, 0, true);
	rig_end(&r);
}

/* ---- another policy ---------------------------------------------------------------------------------------------- */

Test(nat_store, mappings_outlive_a_policy)
{
	struct nat_flow f = rig_flow(1, 1, 0, 80);
	struct rig r;
	uint32_t mapping;
	struct nat_policy next;

	rig_init(&r, 3, 1);
	mapping = rig_take(&r, &f);
	next = r.policy;
	next.paired = false;
	next.port_lo = 60000;
	next.filtering = NAT_ADDRESS_DEPENDENT;
	nat_policy_addresses(&next, r.number, 3);
	nat_store_hold(r.s);
	r.turn.policy = &next;
	nat_store_drop(r.s);
	cr_assert_eq(
		rig_take(&r, &f), mapping, "its port is none of the new range: it is the same mapping all the same");
	nat_store_release(r.s, &r.turn, mapping, f.remote_be, false);
	nat_store_release(r.s, &r.turn, mapping, f.remote_be, false);
	rig_end(&r);
}

/* Its address is none of the policy's any more: the next flow goes elsewhere at once, what is there serves its sessions. */
Test(nat_store, address_that_left)
{
	struct nat_flow f = rig_flow(1, 1, 0, 80), g = rig_flow(1, 2, 0, 80);
	struct nat_mapping before, after;
	struct nat_address_usage a;
	struct rig r;
	uint32_t old, fresh, other, subscriber, left = 0;
	__be32 outside;
	bool filtered;

	rig_init(&r, 2, 1);
	old = rig_take(&r, &f);
	before = rig_mapping(&r, old);
	if (before.outside_be == rig_outside(0))
		left = 1;
	nat_policy_addresses(&r.policy, &r.number[left], 1);
	cr_assert_eq(rig_outside_take(&r, &before, 0, &filtered), 0, "nobody gets in there any more");
	fresh = rig_take(&r, &f);
	after = rig_mapping(&r, fresh);
	cr_assert_neq(fresh, old);
	cr_assert_eq(after.outside_be, rig_outside(left));
	cr_assert_eq(rig_take(&r, &f), fresh);
	other = rig_take(&r, &g);
	cr_assert_eq(rig_mapping(&r, other).outside_be, after.outside_be, "paired");
	cr_assert_eq(nat_store_take_subscriber(r.s, &r.turn, 0, f.inside_be, &subscriber, &outside), NAT_OK);
	cr_assert_eq(outside, after.outside_be);
	cr_assert_eq(rig_mapping(&r, old).outside_be, before.outside_be, "it is there for its session");
	cr_assert(nat_store_address_usage(r.s, 1 - left, &a));
	cr_assert_eq(a.taken[NAT_UDP], 1);
	cr_assert_eq(a.subscriber_cnt, 0);
	nat_store_release(r.s, &r.turn, old, 0, false);
	cr_assert_eq(rig_take(&r, &f), fresh, "the end of the old one is not the new one's");
	for (unsigned i = 0; i < 3; i++)
		nat_store_release(r.s, &r.turn, fresh, 0, false);
	nat_store_release(r.s, &r.turn, other, 0, false);
	nat_store_release_subscriber(r.s, &r.turn, subscriber);
	rig_end(&r);
}

/* ---- for show ---------------------------------------------------------------------------------------------------- */

Test(nat_store, everything_is_listed_once)
{
	struct nat_subscriber_usage who;
	struct nat_store_usage u;
	struct nat_mapping m;
	struct rig r;
	uint32_t mapping[500], seen[50] = { 0 }, cnt = 0;

	rig_init(&r, 2, 1);
	for (unsigned i = 0; i < 500; i++) {
		struct nat_flow f = rig_flow(i % 50, (uint16_t)(i / 50 + 1), 0, 80);
		f.proto = (uint8_t)(i / 50 % 3);
		mapping[i] = rig_take(&r, &f);
	}
	for (uint32_t at = 0; nat_store_next_mapping(r.s, &at, &m); cnt++)
		seen[ntohl(m.inside_be) - ntohl(rig_inside(0))]++;
	cr_assert_eq(cnt, 500);
	cnt = 0;
	for (uint32_t at = 0; nat_store_next_subscriber(r.s, &at, &who); cnt++) {
		cr_assert_eq(seen[ntohl(who.inside_be) - ntohl(rig_inside(0))], 10);
		cr_assert_eq(who.mapping_cnt, 10);
		cr_assert_eq(who.session_cnt, 10);
		cr_assert_eq(who.ports[0] + who.ports[1] + who.ports[2], 10);
		cr_assert_eq(who.ports[NAT_TCP], 4);
	}
	cr_assert_eq(cnt, 50);
	nat_store_usage(r.s, &u);
	cr_assert_eq(u.address_cnt, 2);
	cr_assert(u.bytes > 500 * 32 && u.bytes < 8 << 20, "%lu: what is not touched is not there",
		(unsigned long)u.bytes);
	for (unsigned i = 0; i < 500; i++)
		nat_store_release(r.s, &r.turn, mapping[i], 0, false);
	rig_end(&r);
}
