/* SPDX-License-Identifier: BSD-2-Clause */
#include "nat_event.h"
#include "pipelines/nat44/log.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Lines of the log and the events they tell of. */

/* Splitmix64. */
static uint64_t random_next(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

Test(nat_log_line, lines_are_as_documented)
{
	char line[NAT_LINE_BYTES];
	struct nat_event e = udp(A_TIME, 40123);
	nat_log_format(&e, "cgn", line);
	cr_assert_str_eq(line,
		"2026-01-02T14:03:07.123Z cgn session-add udp 100.64.0.5:5000 203.0.113.64:40123 198.51.100.7:53");
	e.kind = NAT_EVENT_SESSION_DELETE;
	e.zone = 17;
	e.packets[0] = 3, e.bytes[0] = 300, e.packets[1] = 2, e.bytes[1] = 2000, e.age_ms = 300123;
	nat_log_format(&e, "cgn", line);
	cr_assert_str_eq(line,
		"2026-01-02T14:03:07.123Z cgn session-delete udp 100.64.0.5:5000 203.0.113.64:40123 "
		"198.51.100.7:53 3 300 2 2000 300123 zone=17");
	e = (struct nat_event){ .time_ns = A_TIME,
		.kind = NAT_EVENT_BLOCK_ADD,
		.zone = 1,
		.inside_be = htonl(0x64400005),
		.outside_be = htonl(0xcb007140),
		.inside_port_be = htons(40000),
		.outside_port_be = htons(40255) };
	nat_log_format(&e, "cgn", line);
	cr_assert_str_eq(line, "2026-01-02T14:03:07.123Z cgn block-add - 100.64.0.5 203.0.113.64 40000-40255");
	e = (struct nat_event){ .time_ns = A_TIME,
		.kind = NAT_EVENT_LOST,
		.lost_cnt = 7,
		.lost_from_ns = A_TIME - 1000000,
		.lost_to_ns = A_TIME };
	nat_log_format(&e, "cgn", line);
	cr_assert_str_eq(line, "2026-01-02T14:03:07.123Z cgn lost 7 2026-01-02T14:03:07.122Z 2026-01-02T14:03:07.123Z");
	e = udp(A_TIME, 700);
	e.proto = IPPROTO_ICMP, e.remote_port_be = 0;
	nat_log_format(&e, "cgn", line);
	cr_assert_str_eq(
		line, "2026-01-02T14:03:07.123Z cgn session-add icmp 100.64.0.5:5000 203.0.113.64:700 198.51.100.7");
	e.proto = IPPROTO_GRE, e.inside_port_be = e.outside_port_be = 0;
	nat_log_format(&e, "cgn", line);
	cr_assert_str_eq(line, "2026-01-02T14:03:07.123Z cgn session-add gre 100.64.0.5 203.0.113.64 198.51.100.7");
}

static struct nat_event any_event(uint64_t *r)
{
	struct nat_event e;
	memset(&e, 0, sizeof(e));
	e.time_ns = random_next(r) % 18400000000000ull * 1000000;
	e.kind = (uint8_t)(random_next(r) % NAT_EVENT_KIND_CNT);
	e.zone = NAT_ZONE_DEFAULT;
	if (e.kind == NAT_EVENT_LOST) {
		e.lost_cnt = random_next(r) >> random_next(r) % 64;
		e.lost_from_ns = random_next(r) % 18400000000000ull * 1000000;
		e.lost_to_ns = random_next(r) % 18400000000000ull * 1000000;
	}
	if (e.kind >= NAT_EVENT_LOG_START)
		return e;
	e.zone = random_next(r) % 2 ? NAT_ZONE_DEFAULT : (uint32_t)random_next(r);
	e.inside_be = (uint32_t)random_next(r);
	e.outside_be = (uint32_t)random_next(r);
	uint16_t lo = (uint16_t)random_next(r), hi = (uint16_t)(lo | random_next(r));
	e.inside_port_be = htons(lo);
	e.outside_port_be = htons(hi);
	if (e.kind >= NAT_EVENT_BLOCK_ADD)
		return e;
	static const uint8_t usual[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_GRE };
	e.proto = random_next(r) % 4 ? usual[random_next(r) % 4] : (uint8_t)random_next(r);
	e.remote_be = (uint32_t)random_next(r);
	if (random_next(r) % 2)
		e.remote_port_be = (uint16_t)random_next(r);
	if (random_next(r) % 4 == 0)
		e.inside_port_be = e.outside_port_be = 0;
	if (e.kind != NAT_EVENT_SESSION_DELETE)
		return e;
	for (unsigned i = 0; i < 2; i++) {
		e.packets[i] = random_next(r) >> random_next(r) % 64;
		e.bytes[i] = random_next(r) >> random_next(r) % 64;
	}
	e.age_ms = random_next(r) >> random_next(r) % 64;
	return e;
}

Test(nat_log_line, what_was_written_is_read)
{
	uint64_t r = 6;
	unsigned longest = 0;
	char line[NAT_LINE_BYTES], again[NAT_LINE_BYTES], stage[NAT_STAGE_BYTES], name[NAT_STAGE_BYTES];
	memset(name, 'n', sizeof(name) - 1);
	for (unsigned i = 0; i < 200000; i++) {
		struct nat_event e = any_event(&r), back;
		name[1 + random_next(&r) % (sizeof(name) - 1)] = '\0';
		unsigned n = nat_log_format(&e, name, line);
		cr_assert_eq(n, strlen(line));
		longest = n > longest ? n : longest;
		cr_assert_eq(nat_log_parse(line, &back, stage, sizeof(stage)), 0, "%s", line);
		cr_assert_str_eq(stage, name);
		nat_log_format(&back, stage, again);
		cr_assert_str_eq(again, line);
		cr_assert_eq(memcmp(&back, &e, sizeof(e)), 0, "%s", line);
		/* one character more, less or other is another line, or none; never read past its end */
		line[random_next(&r) % n] = (char)(32 + random_next(&r) % 95);
		if (!nat_log_parse(line, &back, stage, sizeof(stage))) {
			nat_log_format(&back, stage, again);
			cr_assert_eq(nat_log_parse(again, &e, stage, sizeof(stage)), 0);
			cr_assert_eq(memcmp(&back, &e, sizeof(e)), 0);
		}
		line[random_next(&r) % n] = '\0';
		(void)nat_log_parse(line, &back, stage, sizeof(stage));
		memset(name, 'n', sizeof(name) - 1);
	}
	cr_assert_gt(longest, 250);
	cr_assert_lt(longest, NAT_LINE_BYTES);
}

Test(nat_log_line, calendar_is_that_of_the_c_library)
{
	uint64_t r = 7;
	for (unsigned i = 0; i < 100000; i++) {
		uint64_t ms = random_next(&r) % 18400000000000ull;
		time_t s = (time_t)(ms / 1000);
		struct tm tm;
		char want[64], have[NAT_TIME_BYTES];
		gmtime_r(&s, &tm);
		size_t n = strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%S", &tm);
		snprintf(want + n, sizeof(want) - n, ".%03uZ", (unsigned)(ms % 1000));
		nat_log_time(ms * 1000000, have);
		cr_assert_str_eq(have, want);
	}
}

Test(nat_log_line, other_lines_are_refused)
{
	static const char *const cases[] = {
		"",
		"2026-01-02T14:03:07.123Z",
		"2026-01-02T14:03:07.123Z cgn",
		"2026-01-02T14:03:07.123Z cgn session-add",
		"2026-01-02T14:03:07Z cgn log-start",
		"2026-02-29T14:03:07.123Z cgn log-start",
		"2026-13-01T14:03:07.123Z cgn log-start",
		"2026-01-02T24:03:07.123Z cgn log-start",
		"2026-01-02T14:03:07.123+01:00 cgn log-start",
		"2026-01-02T14:03:07.123Z  cgn log-start",
		"2026-01-02T14:03:07.123Z cgn log-start ",
		"2026-01-02T14:03:07.123Z cgn log-middle",
		"2026-01-02T14:03:07.123Z cgn session-add udp 100.64.0.5:5000 203.0.113.64:40123",
		"2026-01-02T14:03:07.123Z cgn session-add xyz 100.64.0.5:5000 203.0.113.64:40123 198.51.100.7:53",
		"2026-01-02T14:03:07.123Z cgn session-add udp 100.64.0.256:5000 203.0.113.64:40123 198.51.100.7:53",
		"2026-01-02T14:03:07.123Z cgn session-add udp 100.64.0.5:65536 203.0.113.64:40123 198.51.100.7:53",
		"2026-01-02T14:03:07.123Z cgn session-add udp 100.64.0.5:5000 203.0.113.64:40123 198.51.100.7:53 zone=",
		"2026-01-02T14:03:07.123Z cgn session-add udp 100.64.0.5:5000 203.0.113.64:40123 198.51.100.7:53 x",
		"2026-01-02T14:03:07.123Z cgn session-delete udp 100.64.0.5:5000 203.0.113.64:40123 198.51.100.7:53",
		"2026-01-02T14:03:07.123Z cgn session-delete gre 1.1.1.1 1.1.1.1 1.1.1.1 1 1 1 1 18446744073709551616",
		"2026-01-02T14:03:07.123Z cgn block-add - 100.64.0.5 203.0.113.64 40255-40000",
		"2026-01-02T14:03:07.123Z cgn block-add udp 100.64.0.5 203.0.113.64 40000-40255",
		"2026-01-02T14:03:07.123Z cgn lost 7 2026-01-02T14:03:07.122Z",
		"2026-01-02T14:03:07.1232026-01-02T14:03:07.123Z cgn log-start",
	};
	struct nat_event e;
	char stage[NAT_STAGE_BYTES], small[4];
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_assert_eq(nat_log_parse(cases[i], &e, stage, sizeof(stage)), -EINVAL, "%s", cases[i]);
	cr_assert_eq(nat_log_parse("2026-01-02T14:03:07.123Z cgn log-start", &e, small, 4), 0);
	cr_assert_eq(nat_log_parse("2026-01-02T14:03:07.123Z cgnn log-start", &e, small, 4), -EINVAL);
	cr_assert_eq(nat_log_parse("2026-02-28T14:03:07.123Z cgn log-start", &e, stage, sizeof(stage)), 0);
	cr_assert_eq(nat_log_parse("2028-02-29T14:03:07.123Z cgn log-start", &e, stage, sizeof(stage)), 0);
}
