/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/show.h"
#include "rig_runtime.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Answers over a whole engine that has forwarded known packets. */

static const char yaml[] = "version: 1\n"
			   "interfaces: { wan: { pcap: wan.pcap }, lan: { pcap: lan.pcap } }\n"
			   "stages: { guard: { type: filter, default: accept, rules: [\n"
			   "  { name: telnet, action: drop, proto: tcp, dport: 23 } ] } }\n"
			   "pipelines:\n"
			   "  in: { from: [ wan ], match: all, stages: [ guard ], to: lan }\n"
			   "  out: { from: [ lan ], match: all, stages: [ guard ], to: wan }\n";

static struct rig *r;
static struct mr_runtime *rt;

static void up(void)
{
	r = rig_create(yaml, NULL);
	rt = rig_runtime_create(r);
}

static void down(void)
{
	rig_runtime_destroy(rt);
	rig_destroy(r);
}

TestSuite(show, .init = up, .fini = down, .timeout = 60);

/* The answer as a tree; every answer goes through the same text a client reads. */
static json_t *ask(const char *request)
{
	char *line = mr_control_answer(mr_show_answer, rt, request, strlen(request));
	cr_assert_not_null(line);
	json_t *j = json_loads(line, 0, NULL);
	cr_assert_not_null(j, "%s: %s", request, line);
	free(line);
	return j;
}

static json_t *data(json_t *answer)
{
	json_t *d = json_object_get(answer, "data");
	cr_assert_not_null(d, "%s", json_string_value(json_object_get(answer, "error")));
	return d;
}

static long long num(json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);
	cr_assert(json_is_integer(v), "%s", key);
	return (long long)json_integer_value(v);
}

static const char *text(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	cr_assert_not_null(s, "%s", key);
	return s;
}

static json_t *by_name(json_t *list, const char *name)
{
	size_t i;
	json_t *o;
	json_array_foreach(list, i, o)
	{
		const char *n = json_string_value(json_object_get(o, "name"));
		if (n && !strcmp(n, name))
			return o;
	}
	cr_assert_fail("no %s", name);
	return NULL;
}

/* Two UDP flows, one of them answered, one IPv6, an HTTP SYN, two telnet SYNs that are dropped. */
static void traffic(void)
{
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	rig_say(r, "lan", "udp 10.0.0.2:53 > 10.0.0.1:1000");
	rig_turn(r);
	rig_say(r, "wan", "udp 10.0.0.1:1001 > 10.0.0.3:53 length 100");
	rig_say(r, "wan", "udp [2001:db8::1]:7 > [2001:db8::2]:53");
	rig_say(r, "wan", "tcp 10.0.0.1:2000 > 10.0.0.2:80");
	rig_say(r, "wan", "tcp 10.0.0.1:2001 > 10.0.0.2:23");
	rig_say(r, "wan", "tcp 10.0.0.1:2002 > 10.0.0.2:23");
	rig_say(r, "wan", "icmp 10.0.0.1 > 10.0.0.2 id 77");
	rig_turn(r);
}

static void conserved(json_t *o, const char *rest)
{
	long long reasons = 0;
	const char *key;
	json_t *v;
	json_object_foreach(json_object_get(o, "dropped"), key, v) reasons += (long long)json_integer_value(v);
	cr_assert_eq(reasons, num(o, "dropped_packets"));
	cr_assert_eq(num(o, "received_packets"),
		num(o, "forwarded_packets") + num(o, "kernel_packets") + num(o, "dropped_packets") + num(o, rest));
	cr_assert_eq(num(o, rest), 0);
}

Test(show, every_answer_has_the_envelope)
{
	static const struct {
		const char *request, *schema;
	} cases[] = {
		{ "{\"verb\":\"show\"}", "millrace/show/1" },
		{ "{\"verb\":\"show\",\"what\":\"interfaces\"}", "millrace/show-interfaces/1" },
		{ "{\"verb\":\"show\",\"what\":\"pipelines\"}", "millrace/show-pipelines/1" },
		{ "{\"verb\":\"show\",\"what\":\"stages\"}", "millrace/show-stages/1" },
		{ "{\"verb\":\"show\",\"what\":\"flows\"}", "millrace/show-flows/1" },
		{ "{\"verb\":\"show\",\"what\":\"drops\"}", "millrace/show-drops/1" },
		{ "{\"verb\":\"show\",\"what\":\"frames\"}", "millrace/show-frames/1" },
		{ "{\"verb\":\"show\",\"what\":\"workers\"}", "millrace/show-workers/1" },
		{ "{\"verb\":\"show\",\"what\":\"config\"}", "millrace/show-config/1" },
		{ "{\"verb\":\"show\",\"what\":\"nat\"}", "millrace/show-nat/1" },
		{ "{\"verb\":\"version\"}", "millrace/version/1" },
		{ "{\"verb\":\"reload\"}", "millrace/reload/1" },
		{ "{\"verb\":\"flows-delete\",\"all\":true}", "millrace/flows-delete/1" },
		{ "{\"verb\":\"explain\",\"in\":\"wan\",\"tuple\":\"icmp 10.0.0.1 > 10.0.0.2\"}",
			"millrace/explain/1" },
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *a = ask(cases[i].request);
		cr_assert(json_is_object(data(a)));
		cr_assert_str_eq(text(a, "schema"), cases[i].schema);
		cr_assert_str_eq(text(a, "instance"), "rig");
		cr_assert_eq(num(a, "generation"), 1);
		cr_assert_eq(json_object_size(a), 4);
		json_decref(a);
	}
}

Test(show, traffic_adds_up_everywhere)
{
	traffic();
	json_t *a = ask("{\"verb\":\"show\",\"what\":\"pipelines\"}");
	json_t *list = json_object_get(data(a), "pipelines"), *totals = json_object_get(data(a), "totals");
	json_t *in = by_name(list, "in"), *out = by_name(list, "out");
	cr_assert_eq(num(in, "received_packets"), 7);
	cr_assert_eq(num(in, "forwarded_packets"), 5);
	cr_assert_eq(num(in, "dropped_packets"), 2);
	cr_assert_eq(num(out, "received_packets"), 1);
	cr_assert_str_eq(text(in, "to"), "lan");
	cr_assert_str_eq(json_string_value(json_array_get(json_object_get(in, "stages"), 0)), "guard");
	conserved(in, "unfinished_packets");
	conserved(json_array_get(json_object_get(in, "by_interface"), 0), "unfinished_packets");
	cr_assert_eq(num(totals, "received_packets"), 8);
	cr_assert_eq(num(totals, "held_packets"), 0);
	conserved(totals, "unaccounted_packets");
	json_decref(a);
	a = ask("{\"verb\":\"show\",\"what\":\"interfaces\"}");
	json_t *wan = by_name(json_object_get(data(a), "interfaces"), "wan");
	cr_assert_eq(num(wan, "received_packets"), 7);
	cr_assert_str_eq(text(wan, "state"), "up");
	cr_assert_eq(json_array_size(json_object_get(wan, "queues")), 1);
	conserved(wan, "unfinished_packets");
	json_decref(a);
	a = ask("{\"verb\":\"show\",\"what\":\"frames\"}");
	json_t *f = json_object_get(data(a), "frames");
	cr_assert_eq(num(f, "total_cnt"),
		num(f, "pool_cnt") + num(f, "fill_cnt") + num(f, "rx_cnt") + num(f, "tx_cnt") + num(f, "held_cnt"));
	cr_assert_gt(num(f, "total_cnt"), 0);
	json_decref(a);
}

Test(show, a_pair_that_does_not_add_up_is_seen)
{
	traffic();
	mr_stats_worker(r->sh.stats, 0)->ingress[1].received.packets += 3;
	json_t *a = ask("{\"verb\":\"show\"}");
	cr_assert_eq(num(json_object_get(data(a), "totals"), "unaccounted_packets"), 3);
	json_decref(a);
	mr_stats_worker(r->sh.stats, 0)->held = 2;
	a = ask("{\"verb\":\"show\"}");
	cr_assert_eq(num(json_object_get(data(a), "totals"), "held_packets"), 2);
	cr_assert_eq(num(json_object_get(data(a), "totals"), "unaccounted_packets"), 1);
	json_decref(a);
	mr_stats_worker(r->sh.stats, 0)->held = 0;
	mr_stats_worker(r->sh.stats, 0)->ingress[1].received.packets -= 3;
}

Test(show, drops_and_stage_counters_have_names)
{
	traffic();
	json_t *a = ask("{\"verb\":\"show\",\"what\":\"drops\"}");
	json_t *list = json_object_get(data(a), "drops");
	cr_assert_eq(json_array_size(list), 1);
	json_t *d = json_array_get(list, 0);
	cr_assert_eq(num(d, "packets"), 2);
	cr_assert(!strncmp(text(d, "reason"), "filter-", 7), "%s", text(d, "reason"));
	cr_assert_gt(strlen(text(d, "help")), 0);
	cr_assert_str_eq(text(json_array_get(json_object_get(d, "by"), 0), "interface"), "wan");
	cr_assert_str_eq(text(json_array_get(json_object_get(d, "by"), 0), "pipeline"), "in");
	json_decref(a);
	a = ask("{\"verb\":\"show\",\"what\":\"drops\",\"all\":true}");
	cr_assert_geq(json_array_size(json_object_get(data(a), "drops")), MR_REASON_CORE_CNT - 1);
	json_decref(a);
	a = ask("{\"verb\":\"show\",\"what\":\"stages\"}");
	json_t *guard = by_name(json_object_get(data(a), "stages"), "guard");
	cr_assert_str_eq(text(guard, "type"), "filter");
	cr_assert_eq(json_array_size(json_object_get(guard, "pipelines")), 2);
	cr_assert_eq(num(by_name(json_object_get(guard, "counters"), "rules.telnet"), "packets"), 2);
	json_decref(a);
}

/* ---- flows ----------------------------------------------------------------------------------------------------- */

static long long total(const char *filter)
{
	char request[256];
	snprintf(request, sizeof(request), "{\"verb\":\"show\",\"what\":\"flows\"%s%s}", filter[0] ? "," : "", filter);
	json_t *a = ask(request);
	long long n = num(data(a), "total_cnt");
	cr_assert_eq((long long)json_array_size(json_object_get(data(a), "flows")), num(data(a), "shown_cnt"));
	json_decref(a);
	return n;
}

Test(show, flows_are_found_by_every_filter)
{
	traffic();
	cr_assert_eq(total(""), 5);
	cr_assert_eq(total("\"proto\":\"udp\""), 3);
	cr_assert_eq(total("\"proto\":\"17\""), 3);
	cr_assert_eq(total("\"proto\":\"icmp\""), 1);
	cr_assert_eq(total("\"proto\":\"esp\""), 0);
	cr_assert_eq(total("\"port\":53"), 3);
	cr_assert_eq(total("\"port\":1001"), 1);
	cr_assert_eq(total("\"addr\":\"10.0.0.0/8\""), 4);
	cr_assert_eq(total("\"addr\":\"10.0.0.3\""), 1);
	cr_assert_eq(total("\"addr\":\"10.0.0.2/31\""), 4);
	cr_assert_eq(total("\"addr\":\"2001:db8::/32\""), 1);
	cr_assert_eq(total("\"addr\":\"0.0.0.0/0\""), 4);
	cr_assert_eq(total("\"addr\":\"::/0\""), 1);
	cr_assert_eq(total("\"state\":\"established\""), 1);
	cr_assert_eq(total("\"state\":\"new\""), 4);
	cr_assert_eq(total("\"pipeline\":\"in\""), 5);
	cr_assert_eq(total("\"pipeline\":\"out\""), 0);
	cr_assert_eq(total("\"interface\":\"wan\""), 5);
	cr_assert_eq(total("\"interface\":\"wan\",\"pipeline\":\"out\""), 0);
	cr_assert_eq(total("\"proto\":\"udp\",\"port\":53,\"addr\":\"10.0.0.3/32\",\"state\":\"new\""), 1);
	json_t *a = ask("{\"verb\":\"show\",\"what\":\"flows\",\"limit\":2}");
	cr_assert_eq(num(data(a), "total_cnt"), 5);
	cr_assert_eq(num(data(a), "shown_cnt"), 2);
	json_decref(a);
}

Test(show, a_flow_is_told_whole)
{
	traffic();
	json_t *a = ask("{\"verb\":\"show\",\"what\":\"flows\",\"state\":\"established\"}");
	json_t *f = json_array_get(json_object_get(data(a), "flows"), 0);
	cr_assert_str_eq(text(f, "proto"), "udp");
	cr_assert_str_eq(text(f, "source"), "10.0.0.1");
	cr_assert_eq(num(f, "source_port"), 1000);
	cr_assert_str_eq(text(f, "destination"), "10.0.0.2");
	cr_assert_eq(num(f, "destination_port"), 53);
	cr_assert_str_eq(text(f, "interface"), "wan");
	cr_assert_str_eq(text(f, "pipeline"), "in");
	cr_assert_leq(num(f, "age_ms"), 60000);
	cr_assert_gt(num(f, "remaining_ms"), 60000);
	json_t *forward = json_object_get(f, "forward"), *reply = json_object_get(f, "reply");
	cr_assert_eq(num(forward, "packets"), 1);
	cr_assert_eq(num(reply, "packets"), 1);
	cr_assert_str_eq(text(forward, "to"), "lan");
	cr_assert_str_eq(text(reply, "to"), "wan");
	cr_assert(json_is_true(json_object_get(forward, "current")));
	json_decref(a);
	a = ask("{\"verb\":\"show\",\"what\":\"flows\",\"proto\":\"icmp\"}");
	f = json_array_get(json_object_get(data(a), "flows"), 0);
	cr_assert_eq(num(f, "icmp_id"), 77);
	cr_assert_eq(num(f, "icmp_type"), 8);
	json_decref(a);
}

/* Of the flow, whether the kernel tier has this direction, and the word why not. */
static void expect_tier(json_t *flow, const char *direction, const char *why)
{
	json_t *side = json_object_get(flow, direction);
	cr_assert(json_is_object(side));
	cr_expect_eq((bool)json_is_true(json_object_get(side, "offloaded")), !why);
	if (why)
		cr_expect_str_eq(text(side, "offload_why"), why);
	else
		cr_expect(json_is_null(json_object_get(side, "offload_why")));
}

Test(show, flows_say_why_the_kernel_tier_has_them_not)
{
	traffic();
	json_t *a = ask("{\"verb\":\"show\",\"what\":\"flows\",\"state\":\"established\"}");
	expect_tier(json_array_get(json_object_get(data(a), "flows"), 0), "forward", "no-kernel-tier");
	cr_expect_eq(num(json_object_get(json_object_get(data(a), "usage"), "records"), "kernel_memory_bytes"), 0);
	json_decref(a);
	a = ask("{\"verb\":\"show\",\"what\":\"flows\",\"offloaded\":true}");
	cr_expect_eq(num(data(a), "total_cnt"), 0);
	json_decref(a);
	a = ask("{\"verb\":\"show\",\"what\":\"flows\",\"offloaded\":1}");
	cr_expect(strstr(text(a, "error"), "offloaded wants true or false"));
	json_decref(a);
}

/* The same engine over devices, with a kernel tier. */
static void up_offloading(void)
{
	static const struct rig_options with_tier = { .tier = true };
	r = rig_create("version: 1\nflows: { offload_after: 2 }\n"
		       "interfaces: { wan: { device: wan0 }, lan: { device: lan0 } }\n"
		       "stages: { guard: { type: filter, default: accept } }\n"
		       "pipelines:\n"
		       "  in: { from: [ wan ], match: all, stages: [ guard ], to: lan }\n"
		       "  out: { from: [ lan ], match: all, stages: [ guard ], to: wan }\n",
		&with_tier);
	rt = rig_runtime_create(r);
}

Test(show, flows_of_the_kernel_tier, .init = up_offloading)
{
	traffic();
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	mr_stats_tier(r->sh.stats)->ingress[mr_stats_ingress_id(r->sh.stats, "wan", "in")].received.packets =
		5; /* as core/tier.c collects them */
	json_t *a = ask("{\"verb\":\"show\",\"what\":\"flows\",\"offloaded\":true}");
	cr_assert_eq(num(data(a), "total_cnt"), 1);
	json_t *records = json_object_get(json_object_get(data(a), "usage"), "records");
	cr_expect_eq(num(records, "offloaded_cnt"), 1);
	cr_expect_gt(num(records, "kernel_memory_bytes"), num(records, "slots4_cnt") * 64, "the flow table is in it");
	json_t *f = json_array_get(json_object_get(data(a), "flows"), 0);
	cr_expect_eq(num(f, "source_port"), 1000);
	expect_tier(f, "forward", NULL);
	expect_tier(f, "reply", "packets");
	json_decref(a);
	a = ask("{\"verb\":\"show\",\"what\":\"flows\",\"proto\":\"tcp\"}");
	f = json_array_get(json_object_get(data(a), "flows"), 0);
	expect_tier(f, "forward", "state");
	expect_tier(f, "reply", "undecided");
	json_decref(a);
	a = ask("{\"verb\":\"show\",\"what\":\"pipelines\"}");
	cr_expect_eq(num(json_object_get(data(a), "totals"), "kernel_tier_packets"), 5);
	cr_expect_eq(num(by_name(json_object_get(data(a), "pipelines"), "in"), "kernel_tier_packets"), 5);
	cr_expect_eq(num(by_name(json_object_get(data(a), "pipelines"), "out"), "kernel_tier_packets"), 0);
	json_decref(a);
	a = ask("{\"verb\":\"explain\",\"in\":\"wan\",\"tuple\":\"udp 10.0.0.1:1000 > 10.0.0.2:53\"}");
	char *whole = json_dumps(data(a), 0);
	cr_expect(strstr(whole, "the kernel tier carries the flow out"), "%s", whole);
	free(whole);
	json_decref(a);
	a = ask("{\"verb\":\"explain\",\"in\":\"lan\",\"tuple\":\"udp 10.0.0.2:53 > 10.0.0.1:1000\"}");
	whole = json_dumps(data(a), 0);
	cr_expect(strstr(whole, "not by the kernel tier: packets"), "%s", whole);
	free(whole);
	json_decref(a);
	a = ask("{\"verb\":\"flows-delete\",\"offloaded\":true}");
	cr_expect_eq(num(data(a), "deleted_cnt"), 1);
	json_decref(a);
}

Test(show, flows_are_deleted_by_filter)
{
	traffic();
	json_t *a = ask("{\"verb\":\"flows-delete\",\"proto\":\"udp\",\"addr\":\"10.0.0.0/24\"}");
	cr_assert_eq(num(data(a), "deleted_cnt"), 2);
	json_decref(a);
	cr_assert_eq(total(""), 3);
	a = ask("{\"verb\":\"flows-delete\"}");
	cr_assert(strstr(text(a, "error"), "say which flows"));
	json_decref(a);
	a = ask("{\"verb\":\"flows-delete\",\"all\":true,\"port\":5}");
	cr_assert(strstr(text(a, "error"), "one of the two"));
	json_decref(a);
	cr_assert_eq(total(""), 3);
	a = ask("{\"verb\":\"flows-delete\",\"all\":true}");
	cr_assert_eq(num(data(a), "deleted_cnt"), 3);
	json_decref(a);
	cr_assert_eq(total(""), 0);
	/* the same packet makes its flow again */
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	cr_assert_eq(total(""), 1);
	cr_assert(rig_adds_up(r));
}

Test(show, many_flows)
{
	for (unsigned i = 0; i < 3000; i++) {
		char packet[80];
		snprintf(packet, sizeof(packet), "udp 10.1.%u.%u:%u > 10.0.0.2:53", i / 250, i % 250, 1024 + i);
		rig_say(r, "wan", packet);
		if (i % 100 == 99)
			rig_turn(r);
	}
	rig_turn(r);
	long long n = total("\"limit\":10000");
	cr_assert_gt(n, 2000);
	json_t *a = ask("{\"verb\":\"flows-delete\",\"addr\":\"10.1.0.0/16\"}");
	cr_assert_eq(num(data(a), "deleted_cnt"), n);
	json_decref(a);
	cr_assert_eq(total(""), 0);
}

/* ---- the rest -------------------------------------------------------------------------------------------------- */

Test(show, explain_says_what_would_happen_and_changes_nothing)
{
	json_t *a = ask("{\"verb\":\"explain\",\"in\":\"wan\",\"tuple\":\"tcp 10.0.0.1:5 > 10.0.0.2:23\"}");
	cr_assert_str_eq(text(data(a), "verdict"), "drop");
	cr_assert_str_eq(text(data(a), "pipeline"), "in");
	cr_assert_gt(json_array_size(json_object_get(data(a), "steps")), 0);
	json_decref(a);
	a = ask("{\"verb\":\"explain\",\"in\":\"wan\",\"tuple\":\"tcp 10.0.0.1:5 > 10.0.0.2:80\"}");
	cr_assert_str_eq(text(data(a), "verdict"), "forward");
	cr_assert_str_eq(text(data(a), "egress"), "lan");
	cr_assert(json_is_true(json_object_get(data(a), "stored")));
	json_decref(a);
	cr_assert_eq(total(""), 0);
	a = ask("{\"verb\":\"explain\",\"in\":\"wan\",\"frame\":"
		"\"0200000000010200000000020800450000140001000040ff66d40a0000010a000002\"}");
	cr_assert_str_eq(text(data(a), "verdict"), "forward");
	cr_assert_eq(num(data(a), "frame_bytes"), 34);
	json_decref(a);
	struct mr_stats_ingress s = rig_stats(r, "wan", "in");
	cr_assert_eq(s.received.packets, 0);
}

Test(show, reload_tells_a_bad_file_from_a_failure)
{
	json_t *a = ask("{\"verb\":\"reload\",\"path\":\"bad\"}");
	cr_assert_str_eq(text(a, "error"), "bad:1:1: it is wrong");
	cr_assert(json_is_true(json_object_get(a, "misuse")));
	json_decref(a);
	a = ask("{\"verb\":\"reload\",\"path\":\"gone\"}");
	cr_assert_str_eq(text(a, "error"), "it went away");
	cr_assert_null(json_object_get(a, "misuse"));
	json_decref(a);
}

Test(show, a_removed_interface_keeps_its_totals)
{
	traffic();
	rig_reload(r,
		"version: 1\ninterfaces: { lan: { pcap: lan.pcap } }\n"
		"pipelines: { out: { from: [ lan ], match: all, to: back } }\n");
	rig_runtime_refresh(rt, r);
	json_t *a = ask("{\"verb\":\"show\",\"what\":\"interfaces\"}");
	json_t *wan = by_name(json_object_get(data(a), "interfaces"), "wan");
	cr_assert_str_eq(text(wan, "state"), "removed");
	cr_assert_eq(num(wan, "received_packets"), 7);
	cr_assert_eq(num(a, "generation"), 2);
	json_decref(a);
	a = ask("{\"verb\":\"show\",\"what\":\"config\"}");
	cr_assert_eq(json_array_size(json_object_get(data(a), "interfaces")), 1);
	cr_assert_str_eq(text(json_array_get(json_object_get(data(a), "pipelines"), 0), "to"), "back");
	json_decref(a);
}

Test(show, what_cannot_be_answered_is_refused_with_a_sentence)
{
	static const struct {
		const char *request, *says;
	} bad[] = {
		{ "{\"verb\":\"shwo\"}", "no verb 'shwo'" },
		{ "{\"verb\":\"show\",\"what\":\"flwos\"}", "no 'flwos' to show" },
		{ "{\"verb\":\"show\",\"what\":5}", "what wants a string" },
		{ "{\"verb\":\"show\",\"what\":\"flows\",\"prot\":\"tcp\"}", "has no 'prot'" },
		{ "{\"verb\":\"show\",\"what\":\"drops\",\"proto\":\"tcp\"}", "has no 'proto'" },
		{ "{\"verb\":\"show\",\"proto\":\"tcp\"}", "has no 'proto'" },
		{ "{\"verb\":\"show\",\"what\":\"flows\",\"\":1}", "has no ''" },
		{ "{\"verb\":\"show\",\"what\":\"flows\",\"proto\":\"tpc\"}", "no protocol" },
		{ "{\"verb\":\"show\",\"what\":\"flows\",\"proto\":6}", "proto wants a string" },
		{ "{\"verb\":\"show\",\"what\":\"flows\",\"port\":65536}", "from 0 to 65535" },
		{ "{\"verb\":\"show\",\"what\":\"flows\",\"port\":\"53\"}", "port wants a number" },
		{ "{\"verb\":\"show\",\"what\":\"flows\",\"limit\":10001}", "from 0 to 10000" },
		{ "{\"verb\":\"show\",\"what\":\"flows\",\"limit\":-1}", "from 0 to 10000" },
		{ "{\"verb\":\"show\",\"what\":\"flows\",\"addr\":\"10.0.0.0/33\"}", "no prefix" },
		{ "{\"verb\":\"show\",\"what\":\"flows\",\"addr\":\"10.0.0.0/\"}", "no prefix" },
		{ "{\"verb\":\"show\",\"what\":\"flows\",\"addr\":\"wan\"}", "no prefix" },
		{ "{\"verb\":\"show\",\"what\":\"flows\",\"state\":\"free\"}", "established" },
		{ "{\"verb\":\"show\",\"what\":\"flows\",\"pipeline\":\"inn\"}", "in" },
		{ "{\"verb\":\"show\",\"what\":\"flows\",\"interface\":\"wam\"}", "wan" },
		{ "{\"verb\":\"flows-delete\",\"all\":1}", "true or false" },
		{ "{\"verb\":\"flows-delete\",\"limit\":1}", "has no 'limit'" },
		{ "{\"verb\":\"reload\",\"path\":1}", "path wants a string" },
		{ "{\"verb\":\"explain\"}", "explain wants" },
		{ "{\"verb\":\"explain\",\"in\":\"wan\",\"tuple\":\"x\",\"frame\":\"00\"}", "explain wants" },
		{ "{\"verb\":\"explain\",\"in\":\"wam\",\"tuple\":\"x\"}", "there are: wan, lan" },
		{ "{\"verb\":\"explain\",\"in\":\"wan\",\"tuple\":\"x\"}", "PROTO" },
		{ "{\"verb\":\"explain\",\"in\":\"wan\",\"frame\":\"00\"}", "14 to" },
		{ "{\"verb\":\"explain\",\"in\":\"wan\",\"frame\":\"zz00000000000000000000000000000000\"}", "hex" },
	};
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		json_t *a = ask(bad[i].request);
		cr_assert(strstr(text(a, "error"), bad[i].says), "%s: %s", bad[i].request, text(a, "error"));
		cr_assert(json_is_true(json_object_get(a, "misuse")));
		json_decref(a);
	}
}
