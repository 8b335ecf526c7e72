/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ICMP errors through a translation, both ways: what comes out quotes what its receiver once sent, byte by byte.
 *
 * The stage translates sources to 203.0.113.1 (2001:db8::1), and with `hairpin` destinations too; errors go by mr_decide_related().
 */
#include "script.h"

#include "core/explain_frame.h"

#include <errno.h>
#include <stdlib.h>

#define YAML                                                                          \
	"version: 1\ninterfaces:\n  wan: { device: wan0 }\n  lan: { device: lan0 }\n" \
	"stages:\n  s: { type: script }\n"                                            \
	"pipelines:\n"                                                                \
	"  out: { from: [ lan ], match: all, stages: [ s ], to: wan }\n"              \
	"  in: { from: [ wan ], match: all, stages: [ s ], to: lan }\n"

static struct {
	bool plain;          /* nothing is translated */
	const char *hairpin; /* where the destination goes */
	int port;            /* host order; of it */
	int related, again;  /* what mr_decide_related() said, once and twice */
	enum mr_conn_state state;
	struct mr_tuple after;
	bool to_kernel, no_related;
} now;

static void nat(struct mr_packet *p)
{
	struct mr_tuple forward, reply;
	const struct mr_tuple *t = mr_packet_tuple(p);
	uint8_t type, code;
	if (!mr_packet_icmp(p, &type, &code) && (t->family == 4 ? type == 3 || type == 11 || type == 5 : type < 128)) {
		now.state = mr_packet_state(p);
		now.related = now.no_related ? 0 : mr_decide_related(p);
		now.again = now.no_related ? 0 : mr_decide_related(p);
		now.after = *mr_packet_tuple(p);
		if (now.no_related)
			mr_decide_destination(p, address("10.0.0.1"), MR_PORT_KEEP);
		if (now.related)
			mr_decide_drop(p, 0);
		if (now.to_kernel)
			mr_decide_kernel(p);
		return;
	}
	if (now.plain)
		return;
	if (!mr_packet_session_tuples(p, &forward, &reply) && mr_packet_direction(p)) {
		mr_decide_source(p, forward.dst, forward.dport_be);
		mr_decide_destination(p, forward.src, forward.sport_be);
		return;
	}
	mr_decide_source(p, address(t->family == 4 ? "203.0.113.1" : "2001:db8::1"),
		t->has_ports && t->proto != MR_IP_SCTP ? htons(40000)
			: t->has_ports                 ? MR_PORT_KEEP
						       : htons(500));
	if (now.hairpin)
		mr_decide_destination(p, address(now.hairpin), htons((uint16_t)now.port));
}

static struct rig *begin(void)
{
	script(nat, NULL, NULL);
	return rig_create(YAML, NULL);
}

/* ---- errors ------------------------------------------------------------------------------------------------------- */

struct bytes {
	uint8_t at[512];
	uint32_t len;
};

/* A packet in words, as it comes in, with data that a checksum notices; `options` bytes of IP options (IPv6: of a destination options header). */
static struct bytes packet(const char *words, uint32_t options)
{
	struct mr_explain_packet x;
	struct mr_error e;
	struct bytes b = { .len = 0 };
	uint8_t plain[512];
	cr_assert_eq(mr_explain_frame_parse(words, &x, &e), 0, "%s", e.text);
	int len = mr_explain_frame_build(&x, plain, sizeof(plain), &e);
	cr_assert_gt(len, 0, "%s", e.text);
	uint32_t hlen = x.family == 4 ? 20 : 40,
		 l3 = x.family == 4 ? plain[16] << 8 | plain[17] : 40 + (plain[18] << 8 | plain[19]);
	memcpy(b.at, plain, 14 + hlen);
	memcpy(b.at + 14 + hlen + options, plain + 14 + hlen, l3 - hlen);
	uint8_t *ip = b.at + 14;
	if (x.family == 4 && options) {
		memset(ip + 20, 1, options);
		ip[0] = (uint8_t)(0x45 + options / 4);
		ip[2] = (uint8_t)((l3 + options) >> 8);
		ip[3] = (uint8_t)(l3 + options);
		ip[10] = ip[11] = 0;
		uint16_t sum = (uint16_t)~sum16(ip, 20 + options, 0);
		ip[10] = sum >> 8;
		ip[11] = (uint8_t)sum;
	} else if (options) {
		ip[40] = ip[6];
		ip[41] = (uint8_t)(options / 8 - 1);
		ip[42] = 1; /* padding */
		ip[43] = (uint8_t)(options - 4);
		ip[6] = MR_IP_DSTOPTS;
		ip[4] = (uint8_t)((l3 - 40 + options) >> 8);
		ip[5] = (uint8_t)(l3 - 40 + options);
	}
	b.len = 14 + l3 + options;
	if (b.len < 60)
		b.len = 60;
	return b;
}

/* An error from src to dst that quotes `n` bytes, and more that is appended as it is. */
static struct bytes error(const char *src, const char *dst, const uint8_t *quoted, uint32_t n, uint32_t appended)
{
	bool v4 = !strchr(src, ':');
	uint32_t hlen = v4 ? 20 : 40, icmp_bytes = 8 + n + appended, bytes = v4 ? 4 : 16;
	struct bytes b = { .len = 14 + hlen + icmp_bytes };
	uint8_t *ip = b.at + 14, *icmp = ip + hlen;
	memcpy(b.at, "\2\0\0\0\0\1\2\0\0\0\0\2", 12);
	memcpy(b.at + 12, v4 ? "\x08\x00" : "\x86\xdd", 2);
	memcpy(ip + (v4 ? 12 : 8), address(src), bytes);
	memcpy(ip + (v4 ? 16 : 24), address(dst), bytes);
	icmp[0] = v4 ? 3 : 1;
	icmp[1] = v4 ? 1 : 3;
	memcpy(icmp + 8, quoted, n);
	for (uint32_t i = 0; i < appended; i++)
		icmp[8 + n + i] = (uint8_t)(0xa0 + i);
	uint32_t pseudo = v4 ? 0 : sum16(ip + 8, 32, 58 + icmp_bytes);
	uint16_t sum = (uint16_t)~sum16(icmp, icmp_bytes, pseudo);
	icmp[2] = sum >> 8;
	icmp[3] = (uint8_t)sum;
	if (v4) {
		memcpy(ip, "\x45\0\0\0\0\x77\0\0\x40\x01", 10);
		ip[2] = (uint8_t)((hlen + icmp_bytes) >> 8);
		ip[3] = (uint8_t)(hlen + icmp_bytes);
		sum = (uint16_t)~sum16(ip, 20, 0);
		ip[10] = sum >> 8;
		ip[11] = (uint8_t)sum;
	} else {
		ip[0] = 0x60;
		ip[4] = (uint8_t)(icmp_bytes >> 8);
		ip[5] = (uint8_t)icmp_bytes;
		ip[6] = MR_IP_ICMP6;
		ip[7] = 64;
	}
	return b;
}

/* After the test changed a quoted IPv4 header. */
static void sum_again(uint8_t *ip)
{
	ip[10] = ip[11] = 0;
	uint16_t sum = (uint16_t)~sum16(ip, (ip[0] & 15) * 4, 0);
	ip[10] = sum >> 8;
	ip[11] = (uint8_t)sum;
}

static struct rig_frame pass(struct rig *r, const char *in, const struct bytes *b, const char *out)
{
	rig_sent(r, out);
	rig_inject(r, in, 0, b->at, b->len);
	rig_turn(r);
	const struct rig_frame *f = rig_last(r, out);
	return f ? *f : (struct rig_frame){ .len = 0 };
}

/*
 * `sent` comes in by `in` and leaves by `out`; an error about what left, from `from`, comes back there.  It must go to the sender of `sent`,
 * quote it as it was sent, and have `source` as its own.
 */
static void round_trip(struct rig *r, const struct bytes *sent, const char *in, const char *out, const char *from,
	const char *source, uint32_t n, uint32_t appended)
{
	struct rig_frame left = pass(r, in, sent, out);
	cr_assert_gt(left.len, 0);
	const uint8_t *ip = left.data + 14, *was = sent->at + 14;
	bool v4 = ip[0] >> 4 == 4;
	unsigned bytes = v4 ? 4 : 16, at = v4 ? 12 : 8;
	char to[INET6_ADDRSTRLEN];
	inet_ntop(v4 ? AF_INET : AF_INET6, ip + at, to, sizeof(to));
	struct bytes e = error(from, to, ip, n, appended);
	struct rig_frame back = pass(r, out, &e, in);
	cr_assert_eq(now.related, 0, "%u bytes quoted", n);
	cr_assert_eq(now.again, 0);
	cr_assert_eq(now.state, MR_CONN_RELATED);
	struct mr_parsed p = parsed_frame(&back);
	cr_assert(sums_hold(back.data, &p), "%u bytes quoted", n);
	const uint8_t *outer = back.data + 14, *quoted = back.data + p.l4_off + 8;
	cr_assert(!memcmp(outer + at, address(source), bytes));
	cr_assert(!memcmp(outer + at + bytes, was + at, bytes), "it does not go to the sender");
	cr_assert(!memcmp(now.after.dst, was + at, bytes));
	/* half of a TCP checksum is none */
	uint32_t half = v4 && was[9] == MR_IP_TCP && n == (was[0] & 15) * 4u + 17;
	half |= !v4 && n == 40 + 17 && was[6] == MR_IP_TCP;
	half |= !v4 && n == 64 + 17 && was[6] == MR_IP_DSTOPTS && was[40] == MR_IP_TCP;
	cr_assert(!memcmp(quoted, was, n - half), "the sender would not know its packet: %u bytes quoted", n);
	cr_assert(!memcmp(quoted + n, e.at + p.l4_off + 8 + n, appended), "what is behind was changed");
	cr_assert_eq(p.ttl, 64);
}

static const struct {
	const char *there, *back;
} packets4[] = {
	{ "udp 10.0.0.1:1000 > 192.0.2.1:53 length 70", "udp 192.0.2.1:53 > 203.0.113.1:40000 length 71" },
	{ "tcp 10.0.0.1:1000 > 192.0.2.1:80 flags syn", "tcp 192.0.2.1:80 > 203.0.113.1:40000 flags syn,ack" },
	{ "icmp 10.0.0.1 > 192.0.2.1 type 8 id 77 length 90", "icmp 192.0.2.1 > 203.0.113.1 type 0 id 500 length 90" },
	{ "gre 10.0.0.1 > 192.0.2.1 length 60", "gre 192.0.2.1 > 203.0.113.1 length 60" },
	{ "sctp 10.0.0.1:1 > 192.0.2.1:2 length 60", "sctp 192.0.2.1:2 > 203.0.113.1:1 length 60" },
}, packets6[] = {
	{ "udp [fd00::1]:1000 > [2001:db8::9]:53 length 90", "udp [2001:db8::9]:53 > [2001:db8::1]:40000 length 91" },
	{ "tcp [fd00::1]:1000 > [2001:db8::9]:80 flags syn", "tcp [2001:db8::9]:80 > [2001:db8::1]:40000 flags syn,ack" },
	{ "icmp6 fd00::1 > 2001:db8::9 type 128 id 77 length 90", "icmp6 2001:db8::9 > 2001:db8::1 type 129 id 500 length 90" },
};

#define CNT(a) (sizeof(a) / sizeof((a)[0]))

static void both_ways(bool plain, const char *in_source)
{
	struct rig *r = begin();
	now.plain = plain;
	for (unsigned i = 0; i < CNT(packets4); i++) {
		for (uint32_t options = 0; options <= 40; options += 20) {
			struct bytes there = packet(packets4[i].there, options),
				     back = packet(packets4[i].back, options);
			uint32_t l3 = (uint32_t)there.at[16] << 8 | there.at[17];
			for (uint32_t n = 28 + options; n <= l3; n++)
				round_trip(r, &there, "lan", "wan", "198.51.100.7", "198.51.100.7", n, 0);
			if (plain)
				continue;
			l3 = (uint32_t)back.at[16] << 8 | back.at[17];
			/* from a router inside: nobody out there could tell who that is (RFC 5508 REQ-5) */
			for (uint32_t n = 28 + options; n <= l3; n++)
				round_trip(r, &back, "wan", "lan", "10.7.7.7", in_source, n, 0);
		}
	}
	for (unsigned i = 0; i < CNT(packets6); i++) {
		for (uint32_t options = 0; options <= 24; options += 24) {
			struct bytes there = packet(packets6[i].there, options),
				     back = packet(packets6[i].back, options);
			uint32_t l3 = 40 + ((uint32_t)there.at[18] << 8 | there.at[19]);
			for (uint32_t n = 48 + options; n <= l3; n++)
				round_trip(r, &there, "lan", "wan", "2001:db8:7::7", "2001:db8:7::7", n, 0);
			if (plain)
				continue;
			l3 = 40 + ((uint32_t)back.at[18] << 8 | back.at[19]);
			for (uint32_t n = 48 + options; n <= l3; n++)
				round_trip(r, &back, "wan", "lan", "fd00::7", "2001:db8::1", n, 0);
		}
	}
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(related, an_error_comes_to_who_sent_the_packet)
{
	both_ways(false, "203.0.113.1");
}

Test(related, without_translation_it_is_as_it_was)
{
	both_ways(true, NULL);
}

/* RFC 4884: 128 bytes, and then something else. */
Test(related, extensions_are_left_alone)
{
	struct rig *r = begin();
	struct bytes there = packet("udp 10.0.0.1:1000 > 192.0.2.1:53 length 300", 0);
	round_trip(r, &there, "lan", "wan", "198.51.100.7", "198.51.100.7", 128, 16);
	round_trip(r, &there, "lan", "wan", "198.51.100.7", "198.51.100.7", 28, 100);
	rig_destroy(r);
}

/* RFC 5508 REQ-7: both ends are inside, each knows the other by an outside address only. */
Test(related, hairpinned)
{
	struct rig *r = begin();
	now.hairpin = "10.0.0.2";
	now.port = 2000;
	struct bytes there = packet("udp 10.0.0.1:1000 > 203.0.113.1:41000 length 70", 0);
	round_trip(r, &there, "lan", "wan", "10.0.0.2", "203.0.113.1", 28, 0);
	round_trip(r, &there, "lan", "wan", "10.0.0.2", "203.0.113.1", 70, 0);
	/* ... also by a router in between */
	round_trip(r, &there, "lan", "wan", "10.7.7.7", "203.0.113.1", 28, 0);
	struct bytes back = packet("udp 10.0.0.2:2000 > 203.0.113.1:40000 length 71", 0);
	round_trip(r, &back, "wan", "lan", "10.0.0.1", "203.0.113.1", 71, 0);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* ---- checksums ---------------------------------------------------------------------------------------------------- */

/* RFC 5508 REQ-3: its own and that of the quoted header are looked at; that of the quoted transport is not, and a wrong one stays wrong. */
Test(related, wrong_checksums)
{
	struct rig *r = begin();
	struct bytes there = packet("udp 10.0.0.1:1000 > 192.0.2.1:53 length 70", 0), e;
	struct rig_frame left = pass(r, "lan", &there, "wan");
	e = error("198.51.100.7", "203.0.113.1", left.data + 14, 70, 0);
	e.at[14 + 20 + 2] ^= 0x15;
	now.related = 1;
	cr_assert_eq(pass(r, "wan", &e, "lan").len, 0);
	cr_assert_eq(now.related, -ENOENT);
	left.data[14 + 10] ^= 0x15;
	e = error("198.51.100.7", "203.0.113.1", left.data + 14, 70, 0);
	now.related = 1;
	cr_assert_eq(pass(r, "wan", &e, "lan").len, 0);
	cr_assert_eq(now.related, -ENOENT);
	left.data[14 + 10] ^= 0x15;
	left.data[14 + 26] ^= 0x15; /* of the quoted UDP */
	there.at[14 + 26] ^= 0x15;
	uint32_t sent = sum16(there.at + 14 + 20, 50, sum16(there.at + 14 + 12, 8, 17 + 50));
	e = error("198.51.100.7", "203.0.113.1", left.data + 14, 70, 0);
	struct rig_frame back = pass(r, "wan", &e, "lan");
	struct mr_parsed p = parsed_frame(&back);
	cr_assert(sums_hold(back.data, &p));
	const uint8_t *quoted = back.data + p.l4_off + 8;
	cr_assert_neq(sent, 0xffff);
	cr_assert_eq(sum16(quoted + 20, 50, sum16(quoted + 12, 8, 17 + 50)), sent);
	rig_destroy(r);
}

/* The first fragment of an error: what its checksum is, the others say too. */
Test(related, an_error_in_fragments)
{
	struct rig *r = begin();
	struct bytes there = packet("udp 10.0.0.1:1000 > 192.0.2.1:53 length 70", 0);
	struct rig_frame left = pass(r, "lan", &there, "wan");
	struct bytes e = error("198.51.100.7", "203.0.113.1", left.data + 14, 70, 10);
	e.at[14 + 20 + 2] ^= 0x15; /* as if of more than is here */
	e.at[14 + 6] = 0x20;
	e.at[14 + 10] = e.at[14 + 11] = 0;
	uint16_t sum = (uint16_t)~sum16(e.at + 14, 20, 0);
	e.at[14 + 10] = sum >> 8;
	e.at[14 + 11] = (uint8_t)sum;
	uint32_t before = sum16(e.at + 34, e.len - 34, 0);
	struct rig_frame back = pass(r, "wan", &e, "lan");
	cr_assert_gt(back.len, 0);
	cr_assert_eq(sum16(back.data + 34, back.len - 34, 0), before);
	cr_assert_eq(sum16(back.data + 14, 20, 0), 0xffff);
	cr_assert(!memcmp(back.data + 14 + 28, there.at + 14, 70));
	rig_destroy(r);
}

Test(related, udp_without_a_checksum)
{
	struct rig *r = begin();
	struct bytes there = packet("udp 10.0.0.1:1000 > 192.0.2.1:53 length 70", 0);
	there.at[14 + 26] = there.at[14 + 27] = 0;
	round_trip(r, &there, "lan", "wan", "198.51.100.7", "198.51.100.7", 70, 0);
	rig_destroy(r);
}

/* ---- what belongs to nobody --------------------------------------------------------------------------------------- */

static void expect_none(struct rig *r, const char *in, const char *out, const struct bytes *e)
{
	now.related = 1;
	struct rig_frame f = pass(r, in, e, out);
	cr_assert_eq(f.len, 0);
	cr_assert_eq(now.related, -ENOENT);
	cr_assert_eq(now.state, MR_CONN_INVALID);
}

Test(related, errors_about_nothing_of_ours)
{
	struct rig *r = begin();
	struct bytes there = packet("udp 10.0.0.1:1000 > 192.0.2.1:53 length 70", 0), e;
	struct rig_frame left = pass(r, "lan", &there, "wan");
	uint8_t *q = left.data + 14;
	e = error("198.51.100.7", "203.0.113.1", q, 28, 0);
	cr_assert_gt(pass(r, "wan", &e, "lan").len, 0);
	e = error("198.51.100.7", "203.0.113.1", q, 27, 0); /* too little */
	expect_none(r, "wan", "lan", &e);
	e = error("198.51.100.7", "203.0.113.1", q, 0, 0);
	expect_none(r, "wan", "lan", &e);
	e = error("198.51.100.7", "203.0.113.2", q, 70, 0); /* to somebody who did not send it */
	expect_none(r, "wan", "lan", &e);
	e = error("198.51.100.7", "10.0.0.1", there.at + 14, 70,
		0); /* as it was before it was translated: it never left so */
	expect_none(r, "wan", "lan", &e);
	q[6] = 0x20; /* a first fragment has ports */
	sum_again(q);
	e = error("198.51.100.7", "203.0.113.1", q, 28, 0);
	cr_assert_gt(pass(r, "wan", &e, "lan").len, 0);
	q[7] = 9; /* a later one has none */
	sum_again(q);
	e = error("198.51.100.7", "203.0.113.1", q, 28, 0);
	expect_none(r, "wan", "lan", &e);
	q[6] = q[7] = 0;
	sum_again(q);
	static const struct {
		unsigned at;
		uint8_t value;
	} bad[] = { { 0, 0x65 }, { 0, 0x44 }, { 0, 0x4f }, { 9, 6 }, { 9, 132 }, { 21, 1 }, { 19, 99 }, { 9, 1 } };
	for (unsigned i = 0; i < CNT(bad); i++) {
		uint8_t was = q[bad[i].at];
		q[bad[i].at] = bad[i].value;
		sum_again(q);
		e = error("198.51.100.7", "203.0.113.1", q, 70, 0);
		expect_none(r, "wan", "lan", &e);
		q[bad[i].at] = was;
		sum_again(q);
	}
	mr_session_end(r->sh.sessions, 1, mr_sessions_next(r->sh.sessions, 1), 1);
	e = error("198.51.100.7", "203.0.113.1", q, 70, 0);
	expect_none(r, "wan", "lan", &e);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* Fragments after the first of what has no ports say as much as the first. */
Test(related, a_later_fragment_without_ports)
{
	struct rig *r = begin();
	struct bytes there = packet("gre 10.0.0.1 > 192.0.2.1 length 60", 0);
	struct rig_frame left = pass(r, "lan", &there, "wan");
	left.data[14 + 7] = 9;
	sum_again(left.data + 14);
	struct bytes e = error("198.51.100.7", "203.0.113.1", left.data + 14, 40, 0);
	struct rig_frame back = pass(r, "wan", &e, "lan");
	cr_assert_gt(back.len, 0);
	cr_assert(!memcmp(back.data + 14 + 28 + 12, address("10.0.0.1"), 4));
	cr_assert(!memcmp(back.data + 14 + 16, address("10.0.0.1"), 4));
	rig_destroy(r);
}

Test(related, the_session_hears_nothing_of_it)
{
	struct rig *r = begin();
	struct bytes there = packet("udp 10.0.0.1:1000 > 192.0.2.1:53 length 70", 0);
	struct rig_frame left = pass(r, "lan", &there, "wan");
	uint32_t idx = mr_sessions_next(r->sh.sessions, 1);
	uint64_t packets, bytes;
	struct bytes e = error("198.51.100.7", "203.0.113.1", left.data + 14, 70, 0);
	for (int i = 0; i < 5; i++)
		cr_assert_gt(pass(r, "wan", &e, "lan").len, 0);
	mr_session_totals(r->sh.sessions, idx, MR_REPLY, &packets, &bytes);
	cr_assert_eq(packets, 0);
	mr_session_totals(r->sh.sessions, idx, MR_FORWARD, &packets, &bytes);
	cr_assert_eq(packets, 1);
	cr_assert_eq(mr_session_at(r->sh.sessions, idx)->state, MR_SESSION_NEW);
	struct mr_sessions_usage u;
	mr_sessions_usage(r->sh.sessions, &u);
	cr_assert_eq(u.live, 1);
	rig_destroy(r);
}

/* The stack would not know an address that only the translation knows; nor is there a translation without a session. */
Test(related, not_to_the_kernel_and_not_without_a_session)
{
	struct rig *r = begin();
	struct bytes there = packet("udp 10.0.0.1:1000 > 192.0.2.1:53 length 70", 0);
	struct rig_frame left = pass(r, "lan", &there, "wan");
	struct bytes e = error("198.51.100.7", "203.0.113.1", left.data + 14, 70, 0);
	now.to_kernel = true;
	cr_assert_eq(pass(r, "wan", &e, "lan").len, 0);
	cr_assert_eq(rig_kernel(r, "wan"), 0);
	cr_assert_eq(rig_dropped(r, "wan", "in", "no-nexthop"), 1);
	now.to_kernel = false;
	now.no_related = true;
	cr_assert_eq(pass(r, "wan", &e, "lan").len, 0);
	cr_assert_eq(rig_dropped(r, "wan", "in", "bad-l4"), 1);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(related, explained)
{
	struct rig *r = begin();
	struct bytes there = packet("udp 10.0.0.1:1000 > 192.0.2.1:53 length 70", 0);
	struct rig_frame left = pass(r, "lan", &there, "wan");
	struct bytes e = error("198.51.100.7", "203.0.113.1", left.data + 14, 70, 0), was = e;
	struct mr_explanation x;
	struct mr_error err;
	cr_assert_eq(mr_worker_explain(&r->sh, rig_plan(r), rig_id(r, "wan"), e.at, e.len, &x, &err), 0);
	cr_assert_str_eq(x.verdict, "forward", "%s", x.text);
	cr_assert(strstr(x.text, "session 1"), "%s", x.text);
	cr_assert(!memcmp(e.at, was.at, e.len));
	rig_destroy(r);
}
