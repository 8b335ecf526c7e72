/* SPDX-License-Identifier: BSD-2-Clause */
/* Options of nat44: what is refused, with its place; and the sets of addresses they are made of. */
#include "nat44_world.h"

#include "core/config.h"
#include "core/plan.h"
#include "core/stage_check.h"

#define IO           "inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.0/28 ]"
#define STATIC(list) "inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.0/28 ], static: [ " list " ]"

/* What is wrong with the options, "" = nothing. */
static const char *fault(const char *options)
{
	static struct mr_error e;
	char yaml[4096];
	struct mr_config *c;
	memset(&e, 0, sizeof(e));
	snprintf(yaml, sizeof(yaml), WORLD_HEAD "  nat: { type: nat44, %s }\n" WORLD_TAIL, options);
	cr_assert_eq(mr_config_read_text(yaml, strlen(yaml), "test.yaml", ".", &c, &e), 0, "%s", e.text);
	int err = mr_plan_check(c, 2, &e);
	mr_config_free(c);
	cr_assert_eq(!err, !e.text[0], "%d: %s", err, e.text);
	return e.text;
}

Test(nat44_options, taken)
{
	static const char *const all[] = {
		IO,
		"inside: 10.0.0.0/8, outside: 203.0.113.1",
		"inside: [ 10.0.0.0/8, 192.168.0.0/16 ], outside: [ 203.0.113.64/28, 203.0.113.100-203.0.113.105, "
		"203.0.113.104 ]",
		IO ", ports: 1-65535, leftover: kernel, mapping: address-dependent, filtering: "
		   "address-and-port-dependent, "
		   "pooling: arbitrary, port_choice: parity, port_block: 512, limits: { sessions: 10, mappings: 5, "
		   "blocks: 2 }",
		IO ", quarantine: 0s, timeouts: { udp: 2m, icmp: 1s }, inbound_refresh: false, unsolicited: answer, "
		   "mss: auto",
		IO ", exempt: [ 198.51.100.0/24, '2001:db8::/32' ], mss: 1400, announce: true",
		IO ", log: { file: /nowhere/at/all.log }",
		IO ", port_block: 16, log: { events: blocks, syslog: true, rate: 1000 }",
		"inside: [ 10.0.0.0/8 ], static: [ { inside: 10.0.0.1, outside: 203.0.113.1 } ]",
		STATIC("{ inside: 10.0.0.1, outside: 203.0.113.1, proto: tcp, ports: 80 }, { inside: 10.0.0.1, "
		       "outside: 203.0.113.1, proto: tcp, ports: 81, inside_ports: 80 }, "
		       "{ inside: 10.0.0.2, outside: 203.0.113.1, proto: udp, ports: 80 }, { inside: 10.0.0.1, "
		       "outside: 203.0.113.7 }, "
		       "{ inside: 10.0.0.4, outside: 203.0.113.1, proto: [ gre, esp ] }, { inside: 10.9.0.0/16, "
		       "outside: 192.0.0.0/16 }"),
	};
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		cr_assert_str_empty(fault(all[i]), "%s: %s", all[i], fault(all[i]));
}

Test(nat44_options, refused)
{
	static const struct {
		const char *options, *says;
	} all[] = {
		{ "outside: [ 203.0.113.1 ]", "'inside' is missing" },
		{ "inside: [ 10.0.0.0/8 ]", "the key 'outside' is missing" },
		{ "inside: [ '2001:db8::/32' ], outside: [ 203.0.113.1 ]", "inside: IPv6 is not translated here" },
		{ "inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1/28 ]",
			"outside: '203.0.113.1/28' is not an IPv4 address" },
		{ "inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.0/33 ]", "is not an IPv4 address" },
		{ "inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.9-203.0.113.1 ]", "is not an IPv4 address" },
		{ "inside: [ 10.0.0.0/8 ], outside: [ wan ]", "is not an IPv4 address" },
		{ "inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1, 10.1.0.0/24 ]",
			"outside: '10.1.0.0/24' has addresses that are inside" },
		{ "inside: [ 10.0.0.0/8 ], outside: [ 9.255.255.0-10.0.0.0 ]", "are inside" },
		{ "inside: [ 10.0.0.0/8 ], outside: [ 224.0.0.1 ]", "no host outside could answer" },
		{ "inside: [ 10.0.0.0/8 ], outside: [ 192.0.0.0/16 ]", "more than 4096 addresses" },
		{ "inside: [ 10.0.0.0/8 ], outside: [ 192.0.0.0/20, 203.0.113.1 ]", "more than 4096 addresses in all" },
		{ IO ", ports: [ 1000-2000, 3000 ]", "ports: 2 ranges" },
		{ IO ", ports: 0-100", "port 0" },
		{ IO ", port_block: 8", "port_block: 8 is not taken" },
		{ IO ", port_block: 100", "port_block: 100 is not taken" },
		{ IO ", ports: 1030-1054, port_block: 16", "no block of 16 ports" },
		{ IO ", limits: { blocks: 2 }", "limits.blocks: there are no blocks" },
		{ IO ", log: { }", "log: to nowhere" },
		{ IO ", log: { file: /x, syslog: true }", "log: to a file and to syslog" },
		{ IO ", log: { file: /x, events: blocks }", "no blocks without port_block" },
		{ IO ", leftover: kernel, unsolicited: answer", "unsolicited: with 'leftover: kernel'" },
		{ IO ", mss: 0", "mss" },
		{ IO ", timeouts: { udp: 1ms }", "is not in range" },
		{ IO ", nonsense: 1", "'nonsense' is not a known key" },
		{ "inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1 ], static: [ { inside: 10.0.0.1, outside: "
		  "203.0.113.1 } ]",
			"static rules take every address" },
		{ STATIC("{ inside: 10.0.0.1, outside: 203.0.113.0/28 }"), "equal length" },
		{ STATIC("{ inside: 192.168.0.1, outside: 203.0.113.1 }"), "192.168.0.1/32 is not part of inside" },
		{ STATIC("{ inside: 10.0.0.1, outside: 10.0.0.2 }"), "outside address is inside as well" },
		{ STATIC("{ inside: 10.0.0.1, outside: 127.0.0.1 }"), "could answer its outside address" },
		{ STATIC("{ inside: 10.0.0.1, outside: 203.0.113.1, ports: 80 }"), "ports need a protocol" },
		{ STATIC("{ inside: 10.0.0.1, outside: 203.0.113.1, proto: gre, ports: 80 }"),
			"protocol 47 has no ports" },
		{ STATIC("{ inside: 10.0.0.1, outside: 203.0.113.1, proto: tcp, inside_ports: 80 }"),
			"inside_ports need ports" },
		{ STATIC("{ inside: 10.0.0.1, outside: 203.0.113.1, proto: tcp, ports: 80-82, inside_ports: 80 }"),
			"ranges of equal length" },
		{ STATIC("{ inside: 10.0.0.1, outside: 203.0.113.1, proto: tcp, ports: [ 80, 443 ] }"),
			"a rule for each" },
		{ STATIC("{ inside: 10.0.0.0/30, outside: 203.0.113.0/30, proto: tcp, ports: 80 }"),
			"about one address" },
		{ STATIC("{ inside: 10.0.0.1, outside: 203.0.113.1, proto: tcp, ports: 80 }, { inside: 10.0.0.2, "
			 "outside: 203.0.113.1, proto: tcp, ports: 70-90 }"),
			"has this outside address and port already (203.0.113.1)" },
		{ STATIC("{ inside: 10.0.0.1, outside: 203.0.113.1 }, { inside: 10.0.0.2, outside: 203.0.113.1, proto: "
			 "tcp, ports: 70-90 }"),
			"has this outside address" },
		{ STATIC("{ inside: 10.0.0.0/30, outside: 203.0.113.0/30 }, { inside: 10.0.0.9, outside: 203.0.113.2 "
			 "}"),
			"has this outside address already (203.0.113.2)" },
		{ STATIC("{ inside: 10.0.0.0/30, outside: 203.0.113.0/30 }, { inside: 10.0.0.2, outside: 203.0.113.9 "
			 "}"),
			"has this inside address already (10.0.0.2)" },
	};
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const char *got = fault(all[i].options);
		cr_assert(strstr(got, all[i].says), "%s:\n  %s\n  without: %s", all[i].options, got, all[i].says);
		cr_assert_eq(strncmp(got, "test.yaml:6:", 12), 0, "%s", got);
		cr_assert(strstr(got, "stages.nat"), "%s", got);
	}
}

static void keep_text(void *ctx, const char *text)
{
	char *all = ctx;
	snprintf(all + strlen(all), 4096 - strlen(all), "%s\n", text);
}

Test(nat44_options, check_warns_of_short_time_outs)
{
	struct mr_error e = { 0 };
	struct mr_config *c;
	char all[4096] = "";
	const char *yaml = WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1 ],\n"
				 "    timeouts: { udp: 60s,\n      tcp_established: 1h, tcp_transitory: 240s, icmp: "
				 "60s, tcp_closed: 10s }");
	cr_assert_eq(mr_config_read_text(yaml, strlen(yaml), "test.yaml", ".", &c, &e), 0, "%s", e.text);
	cr_assert_eq(mr_stage_check(c, 1, keep_text, all, &e), 0, "%s", e.text);
	cr_assert(strstr(all, "test.yaml:7:22: stages.nat: timeouts.udp is less than the 120 s of RFC 4787 REQ-5\n"),
		"%s", all);
	cr_assert(strstr(all,
			  "test.yaml:8:24: stages.nat: timeouts.tcp_established is less than the 7440 s of RFC 5382 "
			  "REQ-5\n"),
		"%s", all);
	cr_assert(strstr(all, "timeouts.tcp_closed is less than the 240 s of RFC 7857 section 2\n"), "%s", all);
	cr_assert_null(strstr(all, "tcp_transitory"));
	cr_assert_null(strstr(all, "icmp"));
	mr_config_free(c);
}

Test(nat44_options, words_and_defaults)
{
	struct rig *r = rig_create(WORLD(IO), NULL);
	const struct nat *n = nat_of(r);
	cr_assert_eq(n->policy.mapping, NAT_ENDPOINT_INDEPENDENT);
	cr_assert_eq(n->policy.filtering, NAT_ENDPOINT_INDEPENDENT);
	cr_assert(n->policy.paired);
	cr_assert_eq(n->policy.choice, NAT_CHOICE_RANDOM);
	cr_assert_eq(n->policy.port_lo, 1024);
	cr_assert_eq(n->policy.port_hi, 65535);
	cr_assert_eq(n->policy.quarantine_ms, 120000);
	cr_assert_eq(n->pool_cnt, 16);
	cr_assert_eq(n->o->timeouts.tcp_established_ns, 7440000000000ull);
	cr_assert(n->o->inbound_refresh && !n->o->mss_given && !n->o->log_given);
	rig_reload(r,
		WORLD(IO ", port_choice: preserve, pooling: arbitrary, mapping: address-and-port-dependent, filtering: "
			 "address-dependent, mss: auto"));
	n = nat_of(r);
	cr_assert_eq(n->policy.choice, NAT_CHOICE_PRESERVE);
	cr_assert(!n->policy.paired && n->o->mss_given && !n->o->mss_bytes);
	cr_assert_eq(n->policy.mapping, NAT_ADDRESS_AND_PORT_DEPENDENT);
	cr_assert_eq(n->policy.filtering, NAT_ADDRESS_DEPENDENT);
	end_world(r);
}

/* Random sets of small numbers, against a bitmap. */
Test(nat44_options, ranges)
{
	uint32_t seed = 1;
	for (unsigned round = 0; round < 2000; round++) {
		struct nat_ranges r = { 0 };
		bool in[64] = { 0 };
		unsigned cnt = 0;
#define ANY(n) ((seed = seed * 1664525u + 1013904223u) >> 16) % (n)
		for (unsigned i = ANY(6); i; i--) {
			unsigned lo = ANY(60), hi = lo + ANY(4);
			cr_assert_eq(nat_ranges_add(&r, lo, hi), 0);
			memset(in + lo, 1, hi - lo + 1);
		}
		nat_ranges_merge(&r);
		for (unsigned i = ANY(3); i; i--) {
			unsigned lo = ANY(60), hi = lo + ANY(4);
			cr_assert_eq(nat_ranges_remove(&r, lo, hi), 0);
			memset(in + lo, 0, hi - lo + 1);
		}
		for (unsigned a = 0; a < 64; a++) {
			cr_assert_eq(nat_ranges_hold(&r, a), in[a]);
			cnt += in[a];
			bool all = true, some = false;
			for (unsigned b = a; b < 64; b++) {
				all &= in[b];
				some |= in[b];
				cr_assert_eq(nat_ranges_cover(&r, a, b), all);
				cr_assert_eq(nat_ranges_meet(&r, a, b), some);
			}
		}
		cr_assert_eq(nat_ranges_count(&r), cnt);
		nat_ranges_free(&r);
	}
	struct nat_ranges all = { 0 };
	cr_assert_eq(nat_ranges_add(&all, 0, UINT32_MAX), 0);
	cr_assert_eq(nat_ranges_remove(&all, 0, 0), 0);
	cr_assert_eq(nat_ranges_remove(&all, UINT32_MAX, UINT32_MAX), 0);
	cr_assert_eq(nat_ranges_count(&all), (1ull << 32) - 2);
	nat_ranges_free(&all);
}

/* Two stages with one outside address: in one pipeline the second would hear nothing; in pipelines of their own they may. */
Test(nat44_options, an_outside_address_belongs_to_one_stage_of_a_pipeline)
{
#define TWO(first, second, pipelines)                                                          \
	"version: 1\ninterfaces:\n  wan: { device: wan0 }\n  lan: { device: lan0 }\nstages:\n" \
	"  a: { type: nat44, inside: [ 10.0.0.0/9 ], outside: [ " first " ] }\n"               \
	"  b: { type: nat44, inside: [ 10.128.0.0/9 ], outside: [ " second " ] }\npipelines:\n" pipelines
#define BOTH                                                                 \
	"  out: { from: [ lan ], match: auto, stages: [ a, b ], to: lan }\n" \
	"  in: { from: [ wan ], match: auto, stages: [ a, b ], to: wan }\n"
#define APART                                                             \
	"  out: { from: [ lan ], match: auto, stages: [ a ], to: lan }\n" \
	"  in: { from: [ wan ], match: auto, stages: [ b ], to: wan }\n"
	static const struct {
		const char *yaml, *says;
	} all[] = {
		{ TWO("203.0.113.0/28", "203.0.113.16/28", BOTH), NULL },
		{ TWO("203.0.113.0/28", "203.0.113.0/28", APART), NULL },
		{ TWO("203.0.113.0/28", "203.0.113.15-203.0.113.20", BOTH),
			"test.yaml:7:58: stages.b: 203.0.113.15 belongs to stage 'a' (line 6) as well" },
		{ TWO("203.0.113.9", "203.0.113.0/24", BOTH),
			"test.yaml:7:58: stages.b: 203.0.113.9 belongs to stage 'a' (line 6) as well" },
	};
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct mr_error e = { "" };
		struct mr_config *c;
		cr_assert_eq(mr_config_read_text(all[i].yaml, strlen(all[i].yaml), "test.yaml", ".", &c, &e), 0, "%s",
			e.text);
		int err = mr_plan_check(c, 2, &e);
		cr_assert_eq(!err, !all[i].says, "%s", e.text);
		cr_assert(!err || strstr(e.text, all[i].says), "%s", e.text);
		mr_config_free(c);
	}
}
