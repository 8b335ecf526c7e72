/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/show.h"
#include "nat44_world.h"
#include "rig_runtime.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* `show nat` over a whole engine, and the log that it writes. */

static struct rig *r;
static struct mr_runtime *rt;
static char path[] = "/tmp/mr-nat-show.XXXXXX";

static void up(void)
{
	char yaml[2048];
	int fd = mkstemp(path);
	cr_assert_geq(fd, 0);
	close(fd);
	snprintf(yaml, sizeof(yaml),
		WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1, 203.0.113.2 ], port_choice: preserve, limits: { "
		      "sessions: 3 }, log: { events: sessions, file: %s }"),
		path);
	r = rig_create(yaml, NULL);
	rt = rig_runtime_create(r);
}

static void down(void)
{
	rig_runtime_destroy(rt);
	rig_destroy(r);
	unlink(path);
}

TestSuite(nat_show, .init = up, .fini = down, .timeout = 60);

static json_t *ask(const char *request)
{
	char *line = mr_control_answer(mr_show_answer, rt, request, strlen(request));
	cr_assert_not_null(line);
	json_t *j = json_loads(line, 0, NULL);
	cr_assert_not_null(j, "%s: %s", request, line);
	free(line);
	return j;
}

/* What the stage said; answer is to be given back. */
static json_t *stage(json_t *answer)
{
	json_t *stages = json_object_get(json_object_get(answer, "data"), "stages");
	cr_assert_eq(json_array_size(stages), 1, "%s", json_string_value(json_object_get(answer, "error")));
	return json_array_get(stages, 0);
}

static long long num(const json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);
	cr_assert(json_is_integer(v), "%s", key);
	return (long long)json_integer_value(v);
}

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	cr_assert_not_null(s, "%s", key);
	return s;
}

static void say(const char *packet)
{
	rig_say(r, "lan", packet);
	rig_turn(r);
	(void)rig_sent(r, "wan");
}

/* 10.0.0.1 has three sessions over two mappings and is refused a fourth, 10.0.0.2 one of each protocol's first two, 10.0.0.3 one. */
static void traffic(void)
{
	say("udp 10.0.0.1:5000 > 192.0.2.9:53");
	say("udp 10.0.0.1:5000 > 192.0.2.8:53");
	say("tcp 10.0.0.1:5001 > 192.0.2.8:80");
	say("tcp 10.0.0.1:5002 > 192.0.2.8:80");
	say("tcp 10.0.0.2:6000 > 192.0.2.8:80");
	say("udp 10.0.0.2:6000 > 192.0.2.8:80");
	say("icmp 10.0.0.3 > 192.0.2.8 id 7777");
}

Test(nat_show, summary)
{
	traffic();
	json_t *a = ask("{\"verb\":\"show\",\"what\":\"nat\"}"), *s = stage(a);
	cr_assert_str_eq(text(a, "schema"), "millrace/show-nat/1");
	cr_assert_str_eq(text(s, "name"), "nat");
	cr_assert_str_eq(text(s, "type"), "nat44");
	cr_assert_eq(num(s, "subscribers_cnt"), 3);
	cr_assert_eq(num(s, "mappings_cnt"), 5);
	cr_assert_eq(num(s, "mappings_made_cnt"), 5);
	cr_assert_eq(num(s, "mappings_ended_cnt"), 0);
	cr_assert_eq(num(s, "pool_addresses_cnt"), 2);
	cr_assert_gt(num(s, "memory_bytes"), 0);
	cr_assert_eq(num(json_object_get(s, "sessions_opened"), "out_cnt"), 6);
	json_t *pool = json_object_get(s, "pool"), *refused = json_object_get(s, "refused");
	static const char *const protos[] = { "tcp", "udp", "icmp" };
	for (unsigned i = 0; i < 3; i++) {
		json_t *p = json_object_get(pool, protos[i]);
		cr_assert_eq(num(p, "ports_cnt"), 2 * (65535 - 1024 + 1));
		cr_assert_eq(num(p, "taken_cnt"), i == 2 ? 1 : 2, "%s", protos[i]);
		cr_assert_eq(num(p, "resting_cnt"), 0);
		cr_assert_eq(num(p, "reserved_cnt"), 0);
	}
	cr_assert_eq(num(refused, "session-limit"), 1);
	cr_assert_eq(num(refused, "ports"), 0);
	json_t *log = json_object_get(s, "log");
	cr_assert_str_eq(text(log, "file"), path);
	cr_assert_str_eq(text(log, "events"), "sessions");
	cr_assert_eq(num(log, "written_cnt") + num(log, "waiting_cnt") <= 6, 1);
	cr_assert_eq(num(log, "lost_cnt"), 0);
	cr_assert(json_is_null(json_object_get(log, "error")));
	json_decref(a);
}

/* A store has numbers for 4096 outside addresses, those of configurations before among them. */
Test(nat_show, addresses_there_is_no_number_for)
{
	rig_runtime_destroy(rt);
	rig_reload(r, WORLD("inside: [ 10.0.0.0/8 ], outside: [ 198.18.0.0/21, 198.18.8.0/22 ]"));
	rig_reload(r, WORLD("inside: [ 10.0.0.0/8 ], outside: [ 198.18.16.0/22, 198.18.0.1 ]"));
	rt = rig_runtime_create(r);
	json_t *a = ask("{\"verb\":\"show\",\"what\":\"nat\"}"), *s = stage(a);
	cr_assert_eq(num(s, "pool_addresses_cnt"), 4096 - 2 - 2048 - 1024 + 1, "those left, and one that has a number");
	cr_assert_eq(num(s, "pool_left_out_cnt"), 2);
	json_decref(a);
}

Test(nat_show, addresses)
{
	traffic();
	json_t *a = ask("{\"verb\":\"show\",\"what\":\"nat\",\"addresses\":true}");
	json_t *list = json_object_get(stage(a), "addresses");
	long long taken = 0, subscribers = 0;
	cr_assert_eq(json_array_size(list), 2);
	for (unsigned i = 0; i < 2; i++) {
		json_t *one = json_array_get(list, i);
		cr_assert(json_is_true(json_object_get(one, "in_pool")));
		cr_assert_eq(strncmp(text(one, "address"), "203.0.113.", 10), 0);
		taken += num(json_object_get(one, "tcp"), "taken_cnt") + num(json_object_get(one, "udp"), "taken_cnt") +
			num(json_object_get(one, "icmp"), "taken_cnt");
		subscribers += num(one, "subscribers_cnt");
	}
	cr_assert_eq(taken, 5);
	cr_assert_eq(subscribers, 3);
	json_decref(a);
}

Test(nat_show, subscribers_by_use)
{
	static const struct {
		const char *request, *inside[3];
		long long total;
	} cases[] = {
		{ "", { "10.0.0.1", "10.0.0.2", "10.0.0.3" }, 3 },
		{ ",\"limit\":1", { "10.0.0.1" }, 3 },
		{ ",\"limit\":0", { NULL }, 3 },
		{ ",\"inside\":\"10.0.0.2\"", { "10.0.0.2" }, 1 },
		{ ",\"inside\":\"10.0.0.9\"", { NULL }, 0 },
	};
	traffic();
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char request[256];
		size_t want = 0;
		snprintf(request, sizeof(request), "{\"verb\":\"show\",\"what\":\"nat\",\"subscribers\":true%s}",
			cases[i].request);
		json_t *a = ask(request), *s = stage(a), *list = json_object_get(s, "subscribers");
		for (; want < 3 && cases[i].inside[want]; want++)
			cr_assert_str_eq(text(json_array_get(list, want), "inside"), cases[i].inside[want]);
		cr_assert_eq(json_array_size(list), want);
		cr_assert_eq(num(s, "shown_cnt"), (long long)want);
		cr_assert_eq(num(s, "total_cnt"), cases[i].total);
		if (!i) {
			json_t *first = json_array_get(list, 0);
			cr_assert_eq(num(first, "sessions_cnt"), 3);
			cr_assert_eq(num(first, "mappings_cnt"), 2);
			cr_assert_eq(num(json_object_get(first, "ports_cnt"), "tcp"), 1);
		}
		json_decref(a);
	}
}

/* More than are wanted, in any order: the first are the ones with the most. */
Test(nat_show, many_subscribers)
{
	for (unsigned i = 0; i < 300; i++) {
		char packet[96];
		unsigned host = i * 7 % 300;
		for (unsigned k = 0; k < (host < 4 ? 2u : 1u); k++) {
			snprintf(packet, sizeof(packet), "udp 10.0.%u.%u:%u > 192.0.2.9:53", host / 200, host % 200 + 1,
				5000 + k);
			say(packet);
		}
	}
	json_t *a = ask("{\"verb\":\"show\",\"what\":\"nat\",\"subscribers\":true,\"limit\":5}"), *s = stage(a);
	json_t *list = json_object_get(s, "subscribers");
	static const char *const want[] = { "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5" };
	cr_assert_eq(num(s, "total_cnt"), 300);
	for (unsigned i = 0; i < 5; i++)
		cr_assert_str_eq(text(json_array_get(list, i), "inside"), want[i]);
	cr_assert_eq(json_array_size(list), 5);
	json_decref(a);
}

Test(nat_show, mappings_by_either_end)
{
	char outside[64], address_only[32], request[256];
	traffic();
	json_t *a = ask("{\"verb\":\"show\",\"what\":\"nat\",\"inside\":\"10.0.0.2:6000\",\"mappings\":true}");
	json_t *list = json_object_get(stage(a), "mappings");
	cr_assert_eq(json_array_size(list), 2, "tcp and udp");
	snprintf(outside, sizeof(outside), "%s:%lld", text(json_array_get(list, 0), "outside"),
		num(json_array_get(list, 0), "outside_port"));
	snprintf(address_only, sizeof(address_only), "%s", text(json_array_get(list, 0), "outside"));
	cr_assert_eq(num(json_array_get(list, 0), "sessions_cnt"), 1);
	cr_assert(json_is_null(json_object_get(json_array_get(list, 0), "remote")));
	json_decref(a);
	static const char *const cases[] = { "", ",\"mappings\":true", ",\"inside\":\"10.0.0.2\"",
		",\"inside\":\"10.0.0.2:6000\"" };
	for (unsigned i = 0; i < 4; i++) {
		snprintf(request, sizeof(request), "{\"verb\":\"show\",\"what\":\"nat\",\"outside\":\"%s\"%s}", outside,
			cases[i]);
		a = ask(request);
		list = json_object_get(stage(a), "mappings");
		cr_assert_eq(json_array_size(list), 2, "%s", request);
		cr_assert_str_eq(text(json_array_get(list, 0), "inside"), "10.0.0.2");
		cr_assert_eq(num(json_array_get(list, 0), "inside_port"), 6000);
		json_decref(a);
	}
	snprintf(request, sizeof(request), "{\"verb\":\"show\",\"what\":\"nat\",\"outside\":\"%s\",\"limit\":1}",
		address_only);
	a = ask(request);
	cr_assert_eq(json_array_size(json_object_get(stage(a), "mappings")), 1);
	cr_assert_geq(num(stage(a), "total_cnt"), 2);
	json_decref(a);
	a = ask("{\"verb\":\"show\",\"what\":\"nat\",\"outside\":\"203.0.113.9:1\"}");
	cr_assert_eq(num(stage(a), "total_cnt"), 0);
	json_decref(a);
}

Test(nat_show, wrong_questions)
{
	static const char *const cases[][2] = {
		{ "\"stage\":\"nut\"", "no stage is called 'nut'" },
		{ "\"stage\":7", "stage wants a string" },
		{ "\"limit\":-1", "nat: limit wants" },
		{ "\"limit\":10001", "nat: limit wants" },
		{ "\"limit\":\"5\"", "nat: limit wants" },
		{ "\"inside\":\"10.0.0.0/8\"", "nat: inside wants" },
		{ "\"inside\":7", "nat: inside wants" },
		{ "\"outside\":\"203.0.113.1:65536\"", "nat: outside wants" },
		{ "\"outside\":\"203.0.113.1:\"", "nat: outside wants" },
		{ "\"addresses\":true,\"mappings\":true", "one of" },
		{ "\"addresses\":true,\"inside\":\"10.0.0.1\"", "belong to" },
		{ "\"subscribers\":true,\"inside\":\"10.0.0.1:5\"", "without a port" },
		{ "\"mapping\":true", "has no 'mapping'" },
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char request[256];
		snprintf(request, sizeof(request), "{\"verb\":\"show\",\"what\":\"nat\",%s}", cases[i][0]);
		json_t *a = ask(request);
		cr_assert_not_null(strstr(text(a, "error"), cases[i][1]), "%s: %s", request, text(a, "error"));
		cr_assert(json_is_true(json_object_get(a, "misuse")));
		json_decref(a);
	}
	json_t *a = ask("{\"verb\":\"show\",\"what\":\"nat\",\"stage\":\"nat\"}");
	cr_assert_eq(num(stage(a), "subscribers_cnt"), 0);
	json_decref(a);
}

/* ---- the log of a stage ------------------------------------------------------------------------------------------------ */

static unsigned count_lines(const char *part)
{
	char line[512];
	unsigned cnt = 0;
	FILE *f = fopen(path, "r");
	cr_assert_not_null(f);
	while (fgets(line, sizeof(line), f))
		cnt += strstr(line, part) != NULL;
	fclose(f);
	return cnt;
}

static bool wait_lines(const char *part, unsigned cnt)
{
	for (unsigned i = 0; i < 2000 && count_lines(part) < cnt; i++)
		usleep(5000);
	return count_lines(part) == cnt;
}

Test(nat_show, sessions_are_in_the_log)
{
	traffic();
	cr_assert(wait_lines(" nat session-add ", 6), "the one that was refused is not");
	cr_assert_eq(count_lines(" nat session-add udp 10.0.0.1:5000 203.0.113."), 2);
	cr_assert_eq(count_lines(":5000 192.0.2.9:53\n"), 1);
	cr_assert_eq(count_lines(" nat session-add icmp 10.0.0.3:7777 203.0.113."), 1);
	cr_assert_eq(count_lines(":7777 192.0.2.8\n"), 1);
	json_t *a = ask("{\"verb\":\"flows-delete\",\"addr\":\"10.0.0.2/32\"}");
	cr_assert_eq(num(json_object_get(a, "data"), "deleted_cnt"), 2);
	json_decref(a);
	cr_assert(wait_lines(" nat session-delete ", 2));
	cr_assert_eq(count_lines(" nat session-delete tcp 10.0.0.2:6000 203.0.113."), 1);
	cr_assert_eq(
		count_lines(":6000 192.0.2.8:80 1 60 0 0 "), 2, "one packet out, none in; bytes are those of frames");
	cr_assert_eq(count_lines(" nat log-start\n"), 1);
}

Test(nat_show, the_log_goes_on_over_a_reload)
{
	say("udp 10.0.0.1:5000 > 192.0.2.9:53");
	char yaml[2048];
	snprintf(yaml, sizeof(yaml),
		WORLD("inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1, 203.0.113.2 ], port_choice: preserve, log: { "
		      "events: sessions, file: %s, rate: 1000 }"),
		path);
	rig_reload(r, yaml);
	rig_runtime_refresh(rt, r);
	say("udp 10.0.0.1:5001 > 192.0.2.9:53");
	cr_assert(wait_lines(" nat session-add ", 2));
	cr_assert_eq(count_lines(" nat log-start\n"), 1);
	cr_assert_eq(count_lines(" nat log-end\n"), 0);
}
