/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/explain_frame.h"
#include "kern/parse.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Every frame built is read again by the parser that the data path uses. */

static uint8_t frame[MR_EXPLAIN_FRAME_MAX];

static int build(const char *tuple, struct mr_parsed *out)
{
	struct mr_explain_packet p;
	struct mr_error e = { "" };
	cr_assert_eq(mr_explain_frame_parse(tuple, &p, &e), 0, "%s: %s", tuple, e.text);
	int len = mr_explain_frame_build(&p, frame, sizeof(frame), &e);
	cr_assert_geq(len, 60, "%s: %s", tuple, e.text);
	mr_parse(frame, frame + len, out);
	return len;
}

static uint32_t add(uint32_t sum, const uint8_t *p, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	return sum;
}

static uint16_t fold(uint32_t s)
{
	s = (s >> 16) + (s & 0xffff);
	return (uint16_t)(s + (s >> 16));
}

/* RFC 1071: over the data and its checksum the sum is all ones. */
static void check_sums(const struct mr_parsed *o)
{
	const uint8_t *ip = frame + o->l3_off;
	bool four = o->flags & MR_PKT_IP4;
	unsigned len = o->l3_off + o->l3_len - o->l4_off;
	uint32_t sum = 0;
	if (four)
		cr_assert_eq(fold(add(0, ip, 20)), 0xffff);
	if (o->proto != MR_IP_ICMP)
		sum = add(add(0, ip + (four ? 12 : 8), four ? 8 : 32), (const uint8_t[]){ 0, o->proto }, 2) + len;
	cr_assert_eq(fold(add(sum, frame + o->l4_off, len)), 0xffff, "transport checksum");
}

Test(explain_frame, tcp_as_in_the_documentation)
{
	struct mr_parsed o;
	build("tcp 10.0.0.1:1234 > 10.0.0.2:80", &o);
	cr_assert_eq(o.error, MR_PARSE_OK);
	cr_assert(o.flags & MR_PKT_IP4);
	cr_assert(o.flags & MR_PKT_PORTS);
	cr_assert_eq(o.proto, MR_IP_TCP);
	cr_assert_eq(ntohs(o.sport_be), 1234);
	cr_assert_eq(ntohs(o.dport_be), 80);
	cr_assert_eq(o.tcp_flags, 0x02);
	cr_assert_eq(o.ttl, 64);
	cr_assert_eq(o.l3_len, 40);
	cr_assert_eq(memcmp(frame + 26, (uint8_t[]){ 10, 0, 0, 1, 10, 0, 0, 2 }, 8), 0);
	check_sums(&o);
}

Test(explain_frame, options_reach_the_frame)
{
	struct mr_parsed o;
	int len = build("tcp 10.0.0.1:1 to 10.0.0.2:2 length 700 flags syn,ACK dscp 46 ttl 3 vlan 7", &o);
	cr_assert_eq(len, 718);
	cr_assert_eq(o.error, MR_PARSE_OK);
	cr_assert_eq(o.l3_len, 700);
	cr_assert_eq(o.tcp_flags, 0x12);
	cr_assert_eq(o.tos >> 2, 46);
	cr_assert_eq(o.ttl, 3);
	cr_assert_eq(o.vlan_cnt, 1);
	cr_assert_eq(o.vlan_tci[0], 7);
	check_sums(&o);
	build("tcp 10.0.0.1:1 to 10.0.0.2:2 flags none", &o);
	cr_assert_eq(o.tcp_flags, 0);
}

Test(explain_frame, ipv6_udp_and_icmp)
{
	struct mr_parsed o;
	build("udp [2001:db8::1]:53 > [2001:db8::2]:5353 dscp 10 length 99", &o);
	cr_assert_eq(o.error, MR_PARSE_OK);
	cr_assert(o.flags & MR_PKT_IP6);
	cr_assert_eq(ntohs(o.sport_be), 53);
	cr_assert_eq(ntohs(o.dport_be), 5353);
	cr_assert_eq(o.tos >> 2, 10);
	cr_assert_eq(o.l3_len, 99);
	check_sums(&o);
	build("icmp 2001:db8::1 > ::ffff:10.0.0.2", &o);
	cr_assert_eq(o.proto, MR_IP_ICMP6);
	cr_assert_eq(o.icmp_type, 128);
	check_sums(&o);
	build("icmp 10.0.0.1 > 10.0.0.2 type 13 code 2 id 700", &o);
	cr_assert_eq(o.icmp_type, 13);
	cr_assert_eq(o.icmp_code, 2);
	cr_assert_eq(ntohs(o.icmp_id_be), 700);
	check_sums(&o);
	build("udp 10.0.0.1:9 > 10.0.0.2:9", &o);
	check_sums(&o);
}

Test(explain_frame, fragments)
{
	struct mr_parsed o;
	build("udp 10.0.0.1:9 > 10.0.0.2:9 fragment first length 1500", &o);
	cr_assert_eq(o.error, MR_PARSE_OK);
	cr_assert(o.flags & MR_PKT_FRAG);
	cr_assert_not(o.flags & MR_PKT_FRAG_LATER);
	cr_assert_eq(ntohs(o.dport_be), 9);
	build("udp 10.0.0.1 > 10.0.0.2 fragment later", &o);
	cr_assert_eq(o.error, MR_PARSE_OK);
	cr_assert(o.flags & MR_PKT_FRAG_LATER);
	cr_assert_eq(o.frag_off, 185);
	build("tcp [2001:db8::1]:9 > [2001:db8::2]:9 fragment first", &o);
	cr_assert_eq(o.error, MR_PARSE_OK);
	cr_assert(o.flags & MR_PKT_FRAG);
	cr_assert_not(o.flags & MR_PKT_FRAG_LATER);
	build("tcp 2001:db8::1 > 2001:db8::2 fragment later", &o);
	cr_assert(o.flags & MR_PKT_FRAG_LATER);
	cr_assert_eq(o.proto, MR_IP_TCP);
}

Test(explain_frame, other_protocols_parse_whole)
{
	static const char *const tuples[] = { "sctp 10.0.0.1:9 > 10.0.0.2:9", "gre 10.0.0.1 > 10.0.0.2",
		"esp 2001:db8::1 > 2001:db8::2", "89 10.0.0.1 > 224.0.0.5", "0 10.0.0.1 -> 10.0.0.2" };
	for (unsigned i = 0; i < sizeof(tuples) / sizeof(tuples[0]); i++) {
		struct mr_parsed o;
		build(tuples[i], &o);
		cr_assert_eq(o.error, MR_PARSE_OK, "%s", tuples[i]);
	}
	struct mr_parsed o;
	build("89 10.0.0.1 > 224.0.0.5", &o);
	cr_assert_eq(o.proto, 89);
	int len = build("ethertype 0x88cc vlan 3 length 200", &o);
	cr_assert_eq(len, 200);
	cr_assert_eq(o.ethertype, 0x88cc);
	cr_assert_eq(o.error, MR_PARSE_NOT_IP);
	cr_assert_eq(o.vlan_tci[0], 3);
}

Test(explain_frame, what_is_wrong_is_said)
{
	static const struct {
		const char *tuple, *says;
	} bad[] = {
		{ "", "PROTO SOURCE > DESTINATION" },
		{ "tcp", "PROTO SOURCE > DESTINATION" },
		{ "tcp 10.0.0.1:1 10.0.0.2:2 x", "PROTO SOURCE > DESTINATION" },
		{ "tpc 10.0.0.1:1 > 10.0.0.2:2", "'tpc' is no protocol" },
		{ "256 10.0.0.1 > 10.0.0.2", "'256' is no protocol" },
		{ "tcp 10.0.0.1 > 10.0.0.2", "port" },
		{ "tcp 10.0.0.1:1 > 10.0.0.2", "one at each end" },
		{ "tcp 10.0.0.1:65536 > 10.0.0.2:1", "port" },
		{ "tcp 10.0.0.1: > 10.0.0.2:1", "port" },
		{ "tcp 10.0.0.256:1 > 10.0.0.2:1", "not an address" },
		{ "tcp [2001:db8::1:80 > [2001:db8::2]:80", "[ADDRESS]:PORT" },
		{ "tcp [2001:db8::1]:80 > 10.0.0.1:80", "two address families" },
		{ "icmp 10.0.0.1:1 > 10.0.0.2:1", "ports" },
		{ "icmp6 10.0.0.1 > 10.0.0.2", "IPv6" },
		{ "udp 10.0.0.1:1 > 10.0.0.2:1 flags syn", "only tcp" },
		{ "tcp 10.0.0.1:1 > 10.0.0.2:1 flags sin", "'sin'" },
		{ "tcp 10.0.0.1:1 > 10.0.0.2:1 dscp 64", "up to 63" },
		{ "tcp 10.0.0.1:1 > 10.0.0.2:1 dscp", "value" },
		{ "tcp 10.0.0.1:1 > 10.0.0.2:1 colour red", "'colour'" },
		{ "tcp 10.0.0.1:1 > 10.0.0.2:1 type 8", "icmp" },
		{ "tcp 10.0.0.1:1 > 10.0.0.2:1 fragment some", "first, later" },
		{ "ethertype 0x0800", "for IP write" },
		{ "ethertype 5", "0x600" },
		{ "ethertype 0x88cc ttl 5", "not IP" },
	};
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct mr_explain_packet p;
		struct mr_error e = { "" };
		memset(&p, 0x5a, sizeof(p));
		cr_assert_eq(mr_explain_frame_parse(bad[i].tuple, &p, &e), -EINVAL, "%s", bad[i].tuple);
		cr_assert(strstr(e.text, bad[i].says), "%s: %s", bad[i].tuple, e.text);
		cr_assert_eq(p.proto, 0x5a, "the output is untouched");
	}
}

Test(explain_frame, lengths_are_bounded)
{
	struct mr_explain_packet p;
	struct mr_error e = { "" };
	cr_assert_eq(mr_explain_frame_parse("tcp 10.0.0.1:1 > 10.0.0.2:1 length 39", &p, &e), 0);
	cr_assert_eq(mr_explain_frame_build(&p, frame, sizeof(frame), &e), -EINVAL);
	cr_assert(strstr(e.text, "40"), "%s", e.text);
	cr_assert_eq(mr_explain_frame_parse("tcp 10.0.0.1:1 > 10.0.0.2:1 length 9217", &p, &e), -EINVAL);
	cr_assert_eq(mr_explain_frame_parse("tcp 10.0.0.1:1 > 10.0.0.2:1 vlan 1 length 9216", &p, &e), 0);
	cr_assert_eq(mr_explain_frame_build(&p, frame, sizeof(frame), &e), MR_EXPLAIN_FRAME_MAX);
	cr_assert_eq(mr_explain_frame_build(&p, frame, sizeof(frame) - 1, &e), -EMSGSIZE);
	char line[MR_EXPLAIN_TUPLE_MAX + 1];
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = '\0';
	cr_assert_eq(mr_explain_frame_parse(line, &p, &e), -EINVAL);
}
