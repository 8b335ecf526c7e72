/* SPDX-License-Identifier: BSD-2-Clause */
/* test_parse.c - every parse error, every field, and no byte read past the frame (exact copies on the heap). */
#include "tests/packets.h"

#include <criterion/criterion.h>

/* Parses an exact copy, so that a sanitizer sees a read past the end. */
static struct mr_parsed parse(const uint8_t *bytes, uint32_t len)
{
	struct mr_parsed out;
	uint8_t *copy = malloc(len ? len : 1);
	if (len)
		memcpy(copy, bytes, len);
	int err = mr_parse(copy, copy + len, &out);
	cr_assert_eq(out.error, err);
	free(copy);
	return out;
}

/* UDP 10.0.0.1:1000 -> 10.0.0.2:53 in Ethernet, 4 bytes of payload. */
static const uint8_t udp4[46] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0xb8, 0, 32, 0x12, 0x34, 0x40, 0, 63,
	17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x03, 0xe8, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4 };

/* ICMPv6 echo request, identifier 0x0102, behind a hop-by-hop header and a fragment header (atomic). */
static const uint8_t icmp6[78] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x6b, 0x80, 0, 0, 0, 24, 0,
	64, [22] = 0x20, 1, [37] = 1, [38] = 0x20, 1, [53] = 2, [54] = 44, 0, [62] = 58, 0, 0, 0, 9, 9, 9,
	9, [70] = 128, 0, 0, 0, 1, 2, 0, 1 };

Test(parse, udp4)
{
	struct mr_parsed p = parse(udp4, sizeof(udp4));
	cr_assert_eq(p.error, MR_PARSE_OK);
	cr_assert_eq(p.flags, MR_PKT_IP4 | MR_PKT_PORTS | MR_PKT_DF | MR_PKT_PROTO);
	cr_assert_eq(p.ethertype, 0x0800);
	cr_assert(p.l3_off == 14 && p.l4_off == 34 && p.l3_len == 32);
	cr_assert(p.proto == 17 && p.ttl == 63 && p.tos == 0xb8);
	cr_assert(p.sport_be == mr_be16(1000) && p.dport_be == mr_be16(53));
	struct mr_key4 k;
	mr_parse_key4(&p, udp4, 7, &k);
	cr_assert(k.zone == 7 && k.proto == 17 && k.ingress == 0 && k.sport_be == mr_be16(1000));
	cr_assert(k.saddr_be == mr_be32(0x0a000001) && k.daddr_be == mr_be32(0x0a000002));
	cr_assert(mr_parse_has_key(&p));
}

Test(parse, icmp6_behind_extensions)
{
	struct mr_parsed p = parse(icmp6, sizeof(icmp6));
	cr_assert_eq(p.error, MR_PARSE_OK);
	cr_assert_eq(
		p.flags, MR_PKT_IP6 | MR_PKT_OPTIONS | MR_PKT_PROTO | MR_PKT_ICMP | MR_PKT_ICMP_QUERY, "%x", p.flags);
	cr_assert(p.l4_off == 70 && p.l3_len == 64 && p.proto == 58 && p.tos == 0xb8 && p.icmp_type == 128);
	cr_assert(p.sport_be == mr_be16(0x0102) && p.dport_be == mr_be16(128) && p.icmp_id_be == mr_be16(0x0102));
	uint8_t reply[sizeof(icmp6)];
	memcpy(reply, icmp6, sizeof(reply));
	reply[70] = 129;
	p = parse(reply, sizeof(reply));
	cr_assert(p.sport_be == mr_be16(128) && p.dport_be == mr_be16(0x0102));
	reply[70] = 135; /* neighbour solicitation */
	p = parse(reply, sizeof(reply));
	cr_assert(!mr_parse_has_key(&p) && p.error == MR_PARSE_OK);
	reply[70] = 1;
	p = parse(reply, sizeof(reply));
	cr_assert(p.flags & MR_PKT_ICMP_ERROR && !mr_parse_has_key(&p));
}

/* One byte or two changed in a good frame, and what that makes of it. */
struct change {
	const char *what;
	const uint8_t *frame;
	uint32_t len;
	int at[2];
	uint8_t value[2];
	int error;
	unsigned with, without; /* flags */
};

Test(parse, errors)
{
	const struct change cases[] = {
		{ "ARP", udp4, 46, { 12, 13 }, { 8, 6 }, MR_PARSE_NOT_IP, 0, MR_PKT_IP4 },
		{ "cut in Ethernet", udp4, 13, { 0, 0 }, { 2, 2 }, MR_PARSE_SHORT_ETH, 0, MR_PKT_IP4 },
		{ "cut in a tag", udp4, 17, { 12, 13 }, { 0x81, 0 }, MR_PARSE_SHORT_ETH, 0, MR_PKT_IP4 },
		{ "cut in IPv4", udp4, 33, { 0, 0 }, { 2, 2 }, MR_PARSE_SHORT_IP, 0, MR_PKT_IP4 },
		{ "cut in IPv6", icmp6, 53, { 0, 0 }, { 2, 2 }, MR_PARSE_SHORT_IP, 0, MR_PKT_IP6 },
		{ "IPv4 version 5", udp4, 46, { 14, 0 }, { 0x55, 2 }, MR_PARSE_BAD_IP, 0, MR_PKT_IP4 },
		{ "IPv6 version 4", icmp6, 78, { 14, 0 }, { 0x40, 2 }, MR_PARSE_BAD_IP, 0, MR_PKT_IP6 },
		{ "header of 16 bytes", udp4, 46, { 14, 0 }, { 0x44, 2 }, MR_PARSE_BAD_IP, MR_PKT_IP4, MR_PKT_PROTO },
		{ "total under header", udp4, 46, { 17, 0 }, { 19, 2 }, MR_PARSE_BAD_IP, MR_PKT_IP4, MR_PKT_PROTO },
		{ "total over frame", udp4, 46, { 17, 0 }, { 33, 2 }, MR_PARSE_TRUNCATED, MR_PKT_PROTO, MR_PKT_PORTS },
		{ "payload over frame", icmp6, 78, { 19, 0 }, { 25, 2 }, MR_PARSE_TRUNCATED, MR_PKT_IP6, MR_PKT_PROTO },
		{ "extension over packet", icmp6, 78, { 55, 0 }, { 9, 2 }, MR_PARSE_EXT_CHAIN, MR_PKT_IP6,
			MR_PKT_PROTO },
		{ "hop-by-hop second", icmp6, 78, { 54, 0 }, { 0, 2 }, MR_PARSE_EXT_CHAIN, MR_PKT_IP6, MR_PKT_PROTO },
		{ "UDP length 7", udp4, 46, { 39, 0 }, { 7, 2 }, MR_PARSE_BAD_L4, MR_PKT_PORTS, 0 },
		{ "UDP length 13", udp4, 46, { 39, 0 }, { 13, 2 }, MR_PARSE_BAD_L4, MR_PKT_PORTS, 0 },
		{ "UDP length 13, first fragment", udp4, 46, { 39, 20 }, { 13, 0x20 }, MR_PARSE_OK, MR_PKT_FRAG, 0 },
		{ "UDP cut", udp4, 46, { 17, 0 }, { 27, 2 }, MR_PARSE_SHORT_L4, MR_PKT_PORTS, 0 },
		{ "UDP without ports", udp4, 46, { 17, 0 }, { 23, 2 }, MR_PARSE_SHORT_L4, MR_PKT_PROTO, MR_PKT_PORTS },
		{ "TCP in 12 bytes", udp4, 46, { 23, 0 }, { 6, 2 }, MR_PARSE_SHORT_L4, MR_PKT_PORTS, 0 },
		{ "later fragment", udp4, 46, { 21, 20 }, { 1, 0 }, MR_PARSE_OK, MR_PKT_FRAG_LATER, MR_PKT_PORTS },
		{ "second fragment header", icmp6, 78, { 62, 0 }, { 44, 2 }, MR_PARSE_EXT_CHAIN, 0, MR_PKT_PROTO },
		{ "not atomic", icmp6, 78, { 65, 0 }, { 1, 2 }, MR_PARSE_OK, MR_PKT_FRAG, MR_PKT_FRAG_LATER },
		{ "later fragment of v6", icmp6, 78, { 65, 0 }, { 8, 2 }, MR_PARSE_OK, MR_PKT_FRAG_LATER, MR_PKT_ICMP },
		{ "GRE", udp4, 46, { 23, 0 }, { 47, 2 }, MR_PARSE_OK, MR_PKT_PROTO, MR_PKT_PORTS },
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct change *c = &cases[i];
		uint8_t frame[80];
		memcpy(frame, c->frame, c->len);
		frame[c->at[0]] = c->value[0];
		frame[c->at[1]] = c->value[1];
		struct mr_parsed p = parse(frame, c->len);
		cr_expect_eq(p.error, c->error, "%s: error %u", c->what, p.error);
		cr_expect((p.flags & c->with) == c->with && !(p.flags & c->without), "%s: flags %x", c->what, p.flags);
	}
}

/* `cnt` destination options of 8 bytes and nothing after them. */
static int chain_error(unsigned cnt)
{
	uint8_t frame[54 + 8 * 16] = { [12] = 0x86, 0xdd, 0x60, [20] = 60, 64 };
	put16(frame + 18, 8 * cnt);
	for (unsigned i = 0; i < cnt; i++)
		frame[54 + 8 * i] = i + 1 < cnt ? 60 : 59;
	return parse(frame, 54 + 8 * cnt).error;
}

Test(parse, extension_limit)
{
	cr_assert_eq(chain_error(MR_PARSE_EXT_MAX), MR_PARSE_OK);
	cr_assert_eq(chain_error(MR_PARSE_EXT_MAX + 1), MR_PARSE_EXT_CHAIN);
}

Test(parse, tags)
{
	uint8_t frame[60] = { [12] = 0x88, 0xa8, 0x60, 0x64, 0x81, 0, 0, 0x0a, 0x08, 0x06 };
	struct mr_parsed p = parse(frame, sizeof(frame));
	cr_assert(p.error == MR_PARSE_NOT_IP && p.vlan_cnt == 2 && p.l3_off == 22 && p.ethertype == 0x0806);
	cr_assert(p.vlan_tci[0] == 0x6064 && p.vlan_tci[1] == 10);
	put16(frame + 20, 0x8100);
	p = parse(frame, sizeof(frame));
	cr_assert(p.error == MR_PARSE_VLAN_DEPTH && p.vlan_cnt == 2);
}

Test(parse, what_was_built)
{
	struct rng r = { 31337 };
	struct packet b;
	for (unsigned i = 0; i < 50000; i++) {
		packet_build(&r, &b);
		struct mr_parsed p = parse(b.bytes, b.len);
		if (b.tags > 2) {
			cr_assert_eq(p.error, MR_PARSE_VLAN_DEPTH);
			continue;
		}
		cr_assert_eq(p.vlan_cnt, b.tags);
		cr_assert_eq(p.l3_off, b.l3_off);
		if (!b.family) {
			cr_assert_eq(p.error, MR_PARSE_NOT_IP);
			continue;
		}
		cr_assert_eq(p.error, MR_PARSE_OK, "packet %u: error %u", i, p.error);
		cr_assert(p.proto == b.proto && p.l4_off == b.l4_off && p.l3_len == b.l3_len, "packet %u", i);
		cr_assert_eq(!!(p.flags & MR_PKT_FRAG), b.frag, "packet %u", i);
		cr_assert_eq(!!(p.flags & MR_PKT_FRAG_LATER), b.later, "packet %u", i);
		if (p.flags & MR_PKT_PORTS)
			cr_assert(!memcmp(&p.sport_be, b.bytes + b.l4_off, 2) &&
				!memcmp(&p.dport_be, b.bytes + b.l4_off + 2, 2));
	}
}

Test(parse, every_length)
{
	struct rng r = { 271828 };
	struct packet b;
	for (unsigned i = 0; i < 400; i++) {
		packet_build(&r, &b);
		struct mr_parsed whole = parse(b.bytes, b.len);
		for (uint32_t len = 0; len < b.len; len++) {
			struct mr_parsed p = parse(b.bytes, len);
			if (b.family && b.tags <= 2 && len < b.l3_off + b.l3_len)
				cr_assert_neq(p.error, MR_PARSE_OK, "packet %u cut to %u", i, len);
			cr_assert(!p.error || (p.flags & ~whole.flags) == 0, "packet %u cut to %u", i, len);
		}
	}
}

Test(parse, damaged)
{
	struct rng r = { 161803 };
	struct packet b;
	for (unsigned i = 0; i < 100000; i++) {
		packet_build(&r, &b);
		packet_damage(&r, &b);
		struct mr_parsed p = parse(b.bytes, b.len);
		if (p.error == MR_PARSE_OK)
			cr_assert(
				p.l3_off < p.l4_off && p.l4_off <= p.l3_off + p.l3_len && p.l3_off + p.l3_len <= b.len);
		cr_assert(p.error < MR_PARSE_ERROR_CNT);
	}
}
