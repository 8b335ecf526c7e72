/* SPDX-License-Identifier: BSD-2-Clause */
/* test_icmp.c - errors of our own: who is answered, with which bytes, how often.  Sums are RFC 1071's, computed by tests/packets.h. */
#include "core/icmp.h"

#include "tests/packets.h"
#include <criterion/criterion.h>

#define FRAME_MAX 4096

static const uint8_t our_mac[6] = { 2, 0, 0, 0, 0, 0xaa };
static const uint8_t our4[4] = { 192, 0, 2, 1 };
static const uint8_t our6[16] = { 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 };

struct sample {
	uint8_t bytes[FRAME_MAX];
	uint32_t len;
	struct mr_parsed p;
};

static void parse(struct sample *s)
{
	mr_parse(s->bytes, s->bytes + s->len, &s->p);
}

static uint8_t *ip_of(struct sample *s)
{
	return s->bytes + s->p.l3_off;
}

/* UDP of l4 bytes from 198.51.100.7 (2001:db8:7::7) to 203.0.113.9 (2001:db8:9::9), with tags. */
static struct sample udp(unsigned family, unsigned tags, uint32_t payload)
{
	struct sample s = { .len = 12 };
	uint32_t l3 = 14 + 4 * tags, head = family == 4 ? 20 : 40;
	uint8_t *b = s.bytes, *ip = b + l3;

	memcpy(b, our_mac, 6);
	memcpy(b + 6, (uint8_t[]){ 2, 0, 0, 0, 0, 0xbb }, 6);
	for (unsigned i = 0; i < tags; i++, s.len += 4) {
		put16(b + s.len, i + 1 < tags ? 0x88a8 : 0x8100);
		put16(b + s.len + 2, 0x6000 | (100 + i));
	}
	put16(b + s.len, family == 4 ? 0x0800 : 0x86dd);
	uint8_t *l4 = ip + head;
	for (uint32_t i = 0; i < payload; i++)
		l4[8 + i] = (uint8_t)(i * 7);
	put16(l4, 4000);
	put16(l4 + 2, 53);
	put16(l4 + 4, 8 + payload);
	if (family == 4) {
		ip[0] = 0x45;
		ip[1] = 0x2b; /* precedence 1, TOS 0x0a, CE */
		put16(ip + 2, 28 + payload);
		put16(ip + 4, 0x1234);
		ip[8] = 1;
		ip[9] = 17;
		memcpy(ip + 12, (uint8_t[]){ 198, 51, 100, 7, 203, 0, 113, 9 }, 8);
		finish_ip4(ip);
	} else {
		put16(ip, 0x6ab1);
		put16(ip + 4, 8 + payload);
		ip[6] = 17;
		ip[7] = 1;
		memcpy(ip + 8, (uint8_t[]){ 0x20, 1, 0x0d, 0xb8, 0, 7, [15] = 7 }, 16);
		memcpy(ip + 24, (uint8_t[]){ 0x20, 1, 0x0d, 0xb8, 0, 9, [15] = 9 }, 16);
	}
	s.len = l3 + head + 8 + payload;
	parse(&s);
	cr_assert_eq(s.p.error, MR_PARSE_OK);
	return s;
}

static bool may(struct sample *s, enum mr_icmp_kind kind)
{
	uint8_t *ip = ip_of(s);
	if (s->p.flags & MR_PKT_IP4)
		finish_ip4(ip);
	parse(s);
	return mr_icmp_may_answer(s->bytes, &s->p, kind);
}

/* ---- who is answered --------------------------------------------------------------------------------------------- */

Test(icmp, whole_unicast_packets_are_answered)
{
	for (int kind = MR_ICMP_TIME_EXCEEDED; kind < MR_ICMP_KIND_CNT; kind++)
		for (unsigned tags = 0; tags < 3; tags++) {
			struct sample a = udp(4, tags, 10), b = udp(6, tags, 10);
			cr_assert(may(&a, (enum mr_icmp_kind)kind));
			cr_assert(may(&b, (enum mr_icmp_kind)kind));
		}
	struct sample s = udp(4, 0, 10);
	cr_assert_not(may(&s, MR_ICMP_NONE));
	cr_assert_not(may(&s, MR_ICMP_KIND_CNT));
}

Test(icmp, nothing_malformed_or_not_ip)
{
	struct sample s = udp(4, 0, 10);
	s.bytes[s.p.l3_off + 10] ^= 1; /* header checksum */
	cr_assert_not(mr_icmp_may_answer(s.bytes, &s.p, MR_ICMP_TIME_EXCEEDED));
	s = udp(4, 0, 10);
	s.len -= 4; /* cut off */
	cr_assert_not(may(&s, MR_ICMP_TIME_EXCEEDED));
	s = udp(6, 0, 10);
	s.len -= 4;
	cr_assert_not(may(&s, MR_ICMP_TIME_EXCEEDED));
	s = udp(4, 0, 10);
	put16(s.bytes + 12, 0x0806);
	parse(&s);
	cr_assert_not(mr_icmp_may_answer(s.bytes, &s.p, MR_ICMP_TIME_EXCEEDED));
}

Test(icmp, no_later_fragment)
{
	struct sample s = udp(4, 0, 32);
	put16(ip_of(&s) + 6, 0x2000); /* the first */
	cr_assert(may(&s, MR_ICMP_REASSEMBLY));
	put16(ip_of(&s) + 6, 0x2001);
	cr_assert_not(may(&s, MR_ICMP_TIME_EXCEEDED));
	put16(ip_of(&s) + 6, 0x0001);
	cr_assert_not(may(&s, MR_ICMP_TOO_BIG));

	s = udp(6, 0, 32);
	uint8_t *ip = ip_of(&s);
	memmove(ip + 48, ip + 40, 40);
	memset(ip + 40, 0, 8);
	ip[6] = 44;
	ip[40] = 17;
	s.len += 8;
	put16(ip + 4, 48);
	put16(ip + 42, 1); /* M, offset 0 */
	cr_assert(may(&s, MR_ICMP_TIME_EXCEEDED));
	put16(ip + 42, 8 | 1);
	cr_assert_not(may(&s, MR_ICMP_TIME_EXCEEDED));
}

Test(icmp, no_error_answers_an_error)
{
	static const struct {
		uint8_t type;
		bool answered;
	} v4[] = { { 0, true }, { 3, false }, { 4, false }, { 5, false }, { 8, true }, { 11, false }, { 12, false },
		{ 13, true }, { 14, true }, { 18, true }, { 19, false }, { 42, false }, { 255, false } };
	static const struct {
		uint8_t type;
		bool answered;
	} v6[] = { { 1, false }, { 2, false }, { 3, false }, { 4, false }, { 100, false }, { 127, false },
		{ 128, true }, { 129, true }, { 135, true }, { 137, false }, { 200, true } };
	for (unsigned i = 0; i < sizeof(v4) / sizeof(*v4); i++) {
		struct sample s = udp(4, 0, 10);
		ip_of(&s)[9] = 1;
		ip_of(&s)[20] = v4[i].type;
		cr_assert_eq(may(&s, MR_ICMP_TIME_EXCEEDED), v4[i].answered, "ICMP type %u", v4[i].type);
	}
	for (unsigned i = 0; i < sizeof(v6) / sizeof(*v6); i++) {
		struct sample s = udp(6, 0, 10);
		ip_of(&s)[6] = 58;
		ip_of(&s)[40] = v6[i].type;
		cr_assert_eq(may(&s, MR_ICMP_TOO_BIG), v6[i].answered, "ICMPv6 type %u", v6[i].type);
	}
}

Test(icmp, no_multicast_and_no_broadcast)
{
	static const uint8_t to4[][4] = { { 224, 0, 0, 1 }, { 239, 255, 255, 255 }, { 255, 255, 255, 255 },
		{ 0, 0, 0, 0 }, { 127, 0, 0, 1 } };
	for (unsigned i = 0; i < sizeof(to4) / sizeof(*to4); i++) {
		struct sample s = udp(4, 0, 10);
		memcpy(ip_of(&s) + 16, to4[i], 4);
		cr_assert_not(may(&s, MR_ICMP_TIME_EXCEEDED), "to %u...", to4[i][0]);
		cr_assert_not(may(&s, MR_ICMP_TOO_BIG));
	}
	struct sample s = udp(4, 0, 10);
	memcpy(ip_of(&s) + 16, (uint8_t[]){ 223, 255, 255, 255 }, 4);
	cr_assert(may(&s, MR_ICMP_TIME_EXCEEDED));
	memcpy(ip_of(&s) + 16, (uint8_t[]){ 240, 0, 0, 1 }, 4);
	cr_assert(may(&s, MR_ICMP_NET_UNREACHABLE));

	s = udp(6, 0, 10);
	ip_of(&s)[24] = 0xff;
	cr_assert_not(may(&s, MR_ICMP_TIME_EXCEEDED));
	cr_assert_not(may(&s, MR_ICMP_ADMIN_PROHIBITED));
	cr_assert(may(&s, MR_ICMP_TOO_BIG));
}

Test(icmp, no_group_frame_and_no_station_that_is_none)
{
	for (unsigned family = 4; family <= 6; family += 2) {
		struct sample s = udp(family, 1, 10);
		s.bytes[0] |= 1;
		cr_assert_not(may(&s, MR_ICMP_TIME_EXCEEDED));
		cr_assert_eq(may(&s, MR_ICMP_TOO_BIG), family == 6);
		memset(s.bytes, 0xff, 6);
		cr_assert_not(may(&s, MR_ICMP_HOST_UNREACHABLE));
		s = udp(family, 1, 10);
		s.bytes[6] |= 1;
		cr_assert_not(may(&s, MR_ICMP_TIME_EXCEEDED));
		cr_assert_not(may(&s, MR_ICMP_TOO_BIG));
		memset(s.bytes + 6, 0, 6);
		cr_assert_not(may(&s, MR_ICMP_TIME_EXCEEDED));
	}
}

Test(icmp, no_source_that_is_no_single_host)
{
	static const uint8_t from4[][4] = { { 0, 0, 0, 0 }, { 0, 1, 2, 3 }, { 127, 0, 0, 1 }, { 224, 0, 0, 5 },
		{ 240, 0, 0, 1 }, { 255, 255, 255, 255 } };
	static const uint8_t from6[][16] = { { 0 }, { [15] = 1 }, { 0xff, 2, [15] = 1 },
		{ [10] = 0xff, [11] = 0xff, [12] = 198, [15] = 7 } };
	for (unsigned i = 0; i < sizeof(from4) / sizeof(*from4); i++) {
		struct sample s = udp(4, 0, 10);
		memcpy(ip_of(&s) + 12, from4[i], 4);
		cr_assert_not(may(&s, MR_ICMP_TOO_BIG), "from %u...", from4[i][0]);
	}
	for (unsigned i = 0; i < sizeof(from6) / sizeof(*from6); i++) {
		struct sample s = udp(6, 0, 10), t = s;
		memcpy(ip_of(&s) + 8, from6[i], 16);
		cr_assert_not(may(&s, MR_ICMP_TOO_BIG), "from %u", i);
		memcpy(ip_of(&t) + 24, from6[i], 16);
		cr_assert_not(may(&t, MR_ICMP_TIME_EXCEEDED), "to %u", i);
	}
	struct sample s = udp(6, 0, 10); /* link-local: the error goes back by the same link */
	memcpy(ip_of(&s) + 8, (uint8_t[16]){ 0xfe, 0x80, [15] = 9 }, 16);
	cr_assert(may(&s, MR_ICMP_TIME_EXCEEDED));
}

/* ---- the bytes --------------------------------------------------------------------------------------------------- */

static const uint8_t codes[MR_ICMP_KIND_CNT][4] = {
	/* v4 type, code, v6 type, code: the numbers of the RFCs */
	[MR_ICMP_TIME_EXCEEDED] = { 11, 0, 3, 0 },
	[MR_ICMP_REASSEMBLY] = { 11, 1, 3, 1 },
	[MR_ICMP_TOO_BIG] = { 3, 4, 2, 0 },
	[MR_ICMP_NET_UNREACHABLE] = { 3, 0, 1, 0 },
	[MR_ICMP_HOST_UNREACHABLE] = { 3, 1, 1, 3 },
	[MR_ICMP_PORT_UNREACHABLE] = { 3, 3, 1, 4 },
	[MR_ICMP_ADMIN_PROHIBITED] = { 3, 13, 1, 1 },
};

/* Everything a receiver can check. */
static void check_error(const struct sample *s, const uint8_t *out, uint32_t len, enum mr_icmp_kind kind, uint32_t mtu)
{
	const uint8_t *ip = out + s->p.l3_off, *in = s->bytes + s->p.l3_off;
	bool v4 = s->p.flags & MR_PKT_IP4;
	uint32_t head = v4 ? 20 : 40, most = v4 ? 576 : 1280, room = most - head - 8;
	uint32_t quoted = s->p.l3_len < room ? s->p.l3_len : room;
	struct mr_parsed p;

	cr_assert_eq(len, s->p.l3_off + head + 8 + quoted);
	cr_assert_leq(len, MR_ICMP_FRAME_MAX);
	cr_assert_eq(mr_parse(out, out + len, &p), MR_PARSE_OK);
	cr_assert(p.flags & MR_PKT_ICMP_ERROR);
	cr_assert_arr_eq(out, s->bytes + 6, 6);
	cr_assert_arr_eq(out + 6, our_mac, 6);
	cr_assert_arr_eq(out + 12, s->bytes + 12, s->p.l3_off - 12);
	cr_assert_eq(p.ttl, 64);
	const uint8_t *icmp = ip + head;
	if (v4) {
		cr_assert_eq(ip[0], 0x45);
		cr_assert_eq(ip[1], 0xc0 | (in[1] & 0x1c));
		cr_assert_eq(get16(ip + 2), 28 + quoted);
		cr_assert_eq(get16(ip + 6), 0);
		cr_assert_eq(sum_bytes(ip, 20, 0), 0xffff);
		cr_assert_eq(sum_bytes(icmp, 8 + quoted, 0), 0xffff);
		cr_assert_arr_eq(ip + 12, our4, 4);
		cr_assert_arr_eq(ip + 16, in + 12, 4);
	} else {
		cr_assert_eq(mr_be32(mr_load32(ip)), 0x60000000u);
		cr_assert_eq(get16(ip + 4), 8 + quoted);
		cr_assert_eq(ip[6], 58);
		cr_assert_eq(sum_bytes(icmp, 8 + quoted, pseudo_sum(ip, 58, 8 + quoted)), 0xffff);
		cr_assert_arr_eq(ip + 8, our6, 16);
		cr_assert_arr_eq(ip + 24, in + 8, 16);
	}
	cr_assert_eq(icmp[0], codes[kind][v4 ? 0 : 2]);
	cr_assert_eq(icmp[1], codes[kind][v4 ? 1 : 3]);
	uint32_t rest = kind != MR_ICMP_TOO_BIG ? 0 : v4 ? (mtu < 65535 ? mtu : 65535) : (mtu > 1280 ? mtu : 1280);
	cr_assert_eq(mr_be32(mr_load32(icmp + 4)), rest);
	cr_assert_arr_eq(icmp + 8, in, quoted);
}

static void build_and_check(struct sample *s, enum mr_icmp_kind kind, uint32_t mtu)
{
	uint8_t *out = malloc(MR_ICMP_FRAME_MAX);
	bool v4 = s->p.flags & MR_PKT_IP4;
	uint32_t len = mr_icmp_build(out, s->bytes, s->len, &s->p, kind, mtu, v4 ? our4 : our6, our_mac);
	check_error(s, out, len, kind, mtu);
	free(out);
}

Test(icmp, every_kind_every_length_tags_and_padding)
{
	static const uint32_t payloads[] = { 0, 1, 10, 519, 520, 521, 522, 1000, 1183, 1184, 1185, 1472, 3000 };
	for (int kind = MR_ICMP_TIME_EXCEEDED; kind < MR_ICMP_KIND_CNT; kind++)
		for (unsigned tags = 0; tags < 3; tags++)
			for (unsigned i = 0; i < sizeof(payloads) / sizeof(*payloads); i++)
				for (unsigned family = 4; family <= 6; family += 2) {
					struct sample s = udp(family, tags, payloads[i]);
					build_and_check(&s, (enum mr_icmp_kind)kind, 1400);
					memset(s.bytes + s.len, 0xee, 20);
					s.len += 20; /* padding: not quoted */
					build_and_check(&s, (enum mr_icmp_kind)kind, 1400);
				}
}

Test(icmp, mtu_of_too_big)
{
	static const uint32_t mtus[] = { 68, 576, 1279, 1280, 1281, 1480, 9000, 65535, 70000 };
	for (unsigned i = 0; i < sizeof(mtus) / sizeof(*mtus); i++) {
		struct sample a = udp(4, 0, 1472), b = udp(6, 0, 1472);
		build_and_check(&a, MR_ICMP_TOO_BIG, mtus[i]);
		build_and_check(&b, MR_ICMP_TOO_BIG, mtus[i]);
	}
}

Test(icmp, identifications_differ)
{
	struct sample s = udp(4, 0, 100);
	uint8_t a[MR_ICMP_FRAME_MAX], b[MR_ICMP_FRAME_MAX];
	mr_icmp_build(a, s.bytes, s.len, &s.p, MR_ICMP_TIME_EXCEEDED, 0, our4, our_mac);
	put16(ip_of(&s) + 4, 0x1235);
	finish_ip4(ip_of(&s));
	s.bytes[60]++;
	mr_icmp_build(b, s.bytes, s.len, &s.p, MR_ICMP_TIME_EXCEEDED, 0, our4, our_mac);
	cr_assert_neq(get16(a + 18), get16(b + 18));
}

Test(icmp, what_cannot_be_quoted_is_not_built)
{
	struct sample s = udp(4, 0, 100);
	uint8_t out[MR_ICMP_FRAME_MAX];
	cr_assert_eq(mr_icmp_build(out, s.bytes, 40, &s.p, MR_ICMP_TIME_EXCEEDED, 0, our4, our_mac), 0);
	cr_assert_eq(mr_icmp_build(out, s.bytes, s.len, &s.p, MR_ICMP_NONE, 0, our4, our_mac), 0);
	cr_assert_eq(mr_icmp_build(out, s.bytes, s.len, &s.p, MR_ICMP_KIND_CNT, 0, our4, our_mac), 0);
	s.p.flags = 0;
	cr_assert_eq(mr_icmp_build(out, s.bytes, s.len, &s.p, MR_ICMP_TIME_EXCEEDED, 0, our4, our_mac), 0);
}

Test(icmp, random_packets)
{
	struct rng r = { 77 };
	unsigned answered = 0;
	for (unsigned i = 0; i < 50000; i++) {
		struct packet pk;
		struct sample s;
		packet_build(&r, &pk);
		memcpy(s.bytes, pk.bytes, pk.len);
		s.len = pk.len;
		s.bytes[0] &= 0xfe;
		s.bytes[6] &= 0xfe;
		parse(&s);
		enum mr_icmp_kind kind = (enum mr_icmp_kind)(1 + rng_below(&r, MR_ICMP_KIND_CNT - 1));
		if (!mr_icmp_may_answer(s.bytes, &s.p, kind))
			continue;
		cr_assert_not(pk.later);
		answered++;
		build_and_check(&s, kind, rng_below(&r, 10000));
		/* and never an error about that error */
		struct sample again;
		again.len = mr_icmp_build(
			again.bytes, s.bytes, s.len, &s.p, kind, 1500, s.p.flags & MR_PKT_IP4 ? our4 : our6, our_mac);
		parse(&again);
		cr_assert_not(mr_icmp_may_answer(again.bytes, &again.p, kind));
	}
	cr_assert_gt(answered, 10000);
}

/* ---- how often --------------------------------------------------------------------------------------------------- */

#define S 1000000000ull

static unsigned passed(struct mr_icmp_limit *l, struct sample *s, enum mr_icmp_kind kind, unsigned n, uint64_t now_ns)
{
	unsigned cnt = 0;
	for (unsigned i = 0; i < n; i++)
		cnt += mr_icmp_limit_pass(l, s->bytes, &s->p, kind, now_ns);
	return cnt;
}

Test(icmp, limit_of_each_destination)
{
	for (unsigned family = 4; family <= 6; family += 2) {
		struct mr_icmp_limit *l = mr_icmp_limit_create(42);
		struct sample a = udp(family, 0, 10), b = a;
		ip_of(&b)[family == 4 ? 15 : 23]++;
		uint64_t t = 5 * S + 7;
		cr_assert_eq(passed(l, &a, MR_ICMP_TIME_EXCEEDED, 50, t), MR_ICMP_BURST);
		cr_assert_eq(
			passed(l, &b, MR_ICMP_TIME_EXCEEDED, 50, t), MR_ICMP_BURST, "another destination has its own");
		cr_assert_eq(passed(l, &a, MR_ICMP_HOST_UNREACHABLE, 50, t + S / MR_ICMP_RATE_PER_S - 1), 0);
		cr_assert_eq(passed(l, &a, MR_ICMP_HOST_UNREACHABLE, 50, t + S / MR_ICMP_RATE_PER_S), 1);
		cr_assert_eq(passed(l, &a, MR_ICMP_TIME_EXCEEDED, 50, t + 3 * S / MR_ICMP_RATE_PER_S), 2);
		cr_assert_eq(
			passed(l, &a, MR_ICMP_TIME_EXCEEDED, 50, t + 3600 * S), MR_ICMP_BURST, "no more after an hour");
		mr_icmp_limit_destroy(l);
	}
}

/* A steady stream for ten seconds: the rate, to the packet. */
Test(icmp, limit_over_time)
{
	struct mr_icmp_limit *l = mr_icmp_limit_create(1);
	struct sample a = udp(4, 0, 10);
	unsigned cnt = 0;
	for (uint64_t t = S; t < 11 * S; t += S / 1000)
		cnt += mr_icmp_limit_pass(l, a.bytes, &a.p, MR_ICMP_TIME_EXCEEDED, t);
	cr_assert_eq(cnt, MR_ICMP_BURST + 10 * MR_ICMP_RATE_PER_S - 1);
	mr_icmp_limit_destroy(l);
}

Test(icmp, too_big_is_limited_in_all_only)
{
	struct mr_icmp_limit *l = mr_icmp_limit_create(1);
	struct sample a = udp(4, 0, 10);
	cr_assert_eq(passed(l, &a, MR_ICMP_TOO_BIG, 1000, S), MR_ICMP_TOTAL_BURST);
	cr_assert_eq(passed(l, &a, MR_ICMP_TIME_EXCEEDED, 1, S), 0, "all of them together");
	/* a destination that was refused because of the total has not paid */
	cr_assert_eq(passed(l, &a, MR_ICMP_TIME_EXCEEDED, 100, 2 * S), MR_ICMP_BURST);
	mr_icmp_limit_destroy(l);
}

Test(icmp, limit_in_all_over_random_sources)
{
	struct mr_icmp_limit *l = mr_icmp_limit_create(99);
	struct sample a = udp(4, 0, 10);
	struct rng r = { 5 };
	unsigned cnt = 0;
	for (unsigned i = 0; i < 100000; i++) { /* 100 000 a second for a second */
		put16(ip_of(&a) + 14, (uint32_t)rng_next(&r) & 0xffff);
		cnt += mr_icmp_limit_pass(l, a.bytes, &a.p, MR_ICMP_TIME_EXCEEDED, S + i * (S / 100000));
	}
	cr_assert_eq(cnt, MR_ICMP_TOTAL_BURST + MR_ICMP_TOTAL_RATE_PER_S - 1);
	mr_icmp_limit_destroy(l);
	mr_icmp_limit_destroy(NULL);
}

/* Who knows one seed's neighbours of a bucket does not know another's. */
Test(icmp, buckets_depend_on_the_seed)
{
	unsigned shared[2] = { 0 };
	for (unsigned seed = 0; seed < 2; seed++)
		for (unsigned i = 1; i < 20000 && !shared[seed]; i++) {
			struct mr_icmp_limit *l = mr_icmp_limit_create(seed * 0x123456789abcdefull);
			struct sample a = udp(4, 0, 10), b = a;
			put16(ip_of(&b) + 14, i);
			if (!memcmp(ip_of(&a) + 12, ip_of(&b) + 12, 4)) {
				mr_icmp_limit_destroy(l);
				continue;
			}
			passed(l, &a, MR_ICMP_TIME_EXCEEDED, 50, S);
			if (passed(l, &b, MR_ICMP_TIME_EXCEEDED, 50, S) < MR_ICMP_BURST)
				shared[seed] = i;
			mr_icmp_limit_destroy(l);
		}
	cr_assert_neq(shared[0], shared[1]);
}
