/* SPDX-License-Identifier: BSD-2-Clause */
/* test_config.c - whole files: every bad one with its sentence, good ones with their values. */
#include "core/config_read.h"
#include "core/node.h"
#include "core/value.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void enter_fixtures(void)
{
	cr_assert_eq(chdir(MR_TEST_FOLDER "/fixtures/config"), 0, "no fixtures in " MR_TEST_FOLDER);
}

TestSuite(config, .init = enter_fixtures);

static char *slurp(const char *path, size_t *bytes)
{
	char *text = NULL;
	cr_assert_eq(mr_config_read_file(path, 1 << 20, &text, bytes), 0, "%s", path);
	text[*bytes] = 0;
	return text;
}

static struct mr_config *good(const char *path)
{
	struct mr_config *c = NULL;
	struct mr_error e = { .text = "?" };
	int err = mr_config_read(path, &c, &e);
	cr_assert_eq(err, 0, "%s: %d %s", path, err, e.text);
	cr_assert_str_eq(e.text, "");
	return c;
}

static struct mr_config *good_text(const char *text)
{
	struct mr_config *c = NULL;
	struct mr_error e;
	cr_assert_eq(mr_config_read_text(text, strlen(text), "t.yaml", NULL, &c, &e), 0, "%s", e.text);
	return c;
}

static void bad_text(const char *text, size_t bytes, const char *sentence)
{
	struct mr_config *c = (struct mr_config *)&text;
	struct mr_error e;
	cr_assert_eq(mr_config_read_text(text, bytes, "t.yaml", NULL, &c, &e), -EINVAL);
	cr_expect_str_eq(e.text, sentence);
	cr_expect_eq((void *)c, (void *)&text, "out was touched");
}

Test(config, every_bad_file_has_its_sentence)
{
	DIR *d = opendir("bad");
	unsigned cnt = 0;
	cr_assert_not_null(d);
	for (struct dirent *de; (de = readdir(d));) {
		char path[512], expected[520];
		size_t len = strlen(de->d_name), bytes;
		if (len < 6 || strcmp(de->d_name + len - 5, ".yaml") != 0)
			continue;
		snprintf(path, sizeof(path), "bad/%s", de->d_name);
		snprintf(expected, sizeof(expected), "bad/%.*s.expected", (int)len - 5, de->d_name);
		char *want = slurp(expected, &bytes);
		want[strcspn(want, "\n")] = 0;
		struct mr_config *c = NULL;
		struct mr_error e = { .text = "" };
		cr_expect_eq(mr_config_read(path, &c, &e), -EINVAL, "%s was accepted", path);
		cr_expect_str_eq(e.text, want);
		cr_expect_null(c);
		cr_expect_null(strchr(e.text, '\n'), "%s: more than a line", path);
		free(want);
		cnt++;
	}
	closedir(d);
	cr_expect_geq(cnt, 40u);
}

Test(config, every_good_file_is_read)
{
	DIR *d = opendir("good");
	unsigned cnt = 0;
	cr_assert_not_null(d);
	for (struct dirent *de; (de = readdir(d));) {
		char path[512];
		size_t len = strlen(de->d_name);
		if (len < 6 || strcmp(de->d_name + len - 5, ".yaml") != 0)
			continue;
		snprintf(path, sizeof(path), "good/%s", de->d_name);
		mr_config_free(good(path));
		cnt++;
	}
	closedir(d);
	cr_expect_geq(cnt, 8u);
}

Test(config, defaults)
{
	struct mr_config *c = good("good/minimal.yaml");
	cr_expect_eq(c->workers.count, 1);
	cr_expect_eq(c->workers.cores.cnt, 0);
	cr_expect_eq(c->workers.idle, MR_IDLE_ADAPTIVE);
	cr_expect_eq(c->workers.spin_ns, 50000);
	cr_expect_eq(c->memory.frame_bytes, 2048);
	cr_expect_eq(c->memory.frames_cnt, 0);
	cr_expect_eq(c->memory.huge, 0);
	cr_expect_eq(c->flows.capacity, 64000);
	cr_expect_eq(c->flows.offload, MR_OFFLOAD_ESTABLISHED);
	cr_expect_not(c->flows.has_offload);
	cr_expect_eq(c->flows.offload_after, 3);
	cr_expect_eq(c->flows.timeouts.udp_ns, UINT64_C(300000000000));
	cr_expect_eq(c->flows.timeouts.udp_unreplied_ns, UINT64_C(30000000000));
	cr_expect_eq(c->flows.timeouts.tcp_established_ns, UINT64_C(7440000000000));
	cr_expect_eq(c->flows.timeouts.tcp_transitory_ns, UINT64_C(240000000000));
	cr_expect_eq(c->flows.timeouts.tcp_closed_ns, UINT64_C(10000000000));
	cr_expect_eq(c->flows.timeouts.icmp_ns, UINT64_C(60000000000));
	cr_expect_eq(c->flows.timeouts.other_ns, UINT64_C(600000000000));
	cr_assert_eq(c->interface_cnt, 2);
	const struct mr_config_interface *i = &c->interfaces[0];
	cr_expect_str_eq(i->name, "wan");
	cr_expect_str_eq(i->device, "eth1");
	cr_expect_eq(i->at.line, 3);
	cr_expect_eq(i->at.column, 3);
	cr_expect_eq(i->device_at.line, 3);
	cr_expect_eq(i->device_at.column, 18);
	cr_expect_eq(i->mode, MR_MODE_AUTO);
	cr_expect_eq(i->queues.cnt, 0);
	cr_expect_str_eq(i->zone, "default");
	cr_expect_eq(i->on_exit, MR_EXIT_AUTO);
	cr_expect_eq(i->unserved, MR_EXIT_AUTO);
	cr_expect_eq(i->attach, MR_ATTACH_LINK);
	cr_expect_not(i->promiscuous);
	cr_expect_not(i->has_memory);
	cr_expect_eq(i->rx_ring, 2048);
	cr_expect_eq(i->tx_ring, 2048);
	cr_expect_eq(c->pipeline_cnt, 0);
	mr_config_free(c);
}

static void expect_range(const struct mr_range_list *l, uint32_t idx, uint32_t lo, uint32_t hi)
{
	cr_assert_lt(idx, l->cnt);
	cr_expect_eq(l->items[idx].lo, lo);
	cr_expect_eq(l->items[idx].hi, hi);
}

Test(config, values)
{
	struct mr_config *c = good("good/values.yaml");
	cr_assert_eq(c->workers.cores.cnt, 2);
	expect_range(&c->workers.cores, 0, 4, 4); /* in the order given */
	expect_range(&c->workers.cores, 1, 2, 3);
	cr_expect_eq(c->workers.idle, MR_IDLE_SPIN);
	cr_expect_eq(c->workers.spin_ns, 1500000);
	cr_expect_eq(c->memory.frames_cnt, 65536);
	cr_expect_eq(c->memory.frame_bytes, 4096);
	cr_expect_eq(c->memory.huge, 2);
	cr_expect_eq(c->flows.capacity, 1500000);
	cr_expect_eq(c->flows.half_open_max, 10000);
	cr_expect_eq(c->flows.timeouts.udp_ns, UINT64_C(120000000000));
	cr_expect_eq(c->flows.timeouts.tcp_established_ns, UINT64_C(7200000000000));
	cr_expect_eq(c->flows.timeouts.other_ns, UINT64_C(86400000000000));
	cr_assert_eq(c->plugins.cnt, 1);
	cr_expect_str_eq(c->plugins.items[0], "good/./mine.so");
	cr_expect_str_eq(mr_config_resolve_path(c, "x"), "good/x");
	cr_expect_str_eq(mr_config_resolve_path(c, "/x"), "/x");

	const struct mr_config_interface *i = &c->interfaces[0];
	cr_assert_eq(i->queues.cnt, 2);
	expect_range(&i->queues, 0, 0, 2);
	expect_range(&i->queues, 1, 5, 5);
	cr_expect_eq(i->mode, MR_MODE_COPY);
	cr_expect_str_eq(i->zone, "outside");
	cr_expect_eq(i->attach, MR_ATTACH_SHARED);
	cr_expect(i->promiscuous);
	cr_expect_eq(i->rx_ring, 64);
	cr_expect_eq(i->tx_ring, 4096);
	cr_assert_eq(i[1].queues.cnt, 1);
	expect_range(&i[1].queues, 0, 0, 1); /* queues: 2 */

	cr_assert_eq(c->set_cnt, 3);
	cr_assert_eq(c->sets[0].ports.cnt, 3);
	expect_range(&c->sets[0].ports, 0, 80, 81);
	expect_range(&c->sets[0].ports, 1, 443, 443);
	expect_range(&c->sets[0].ports, 2, 8000, 8200);
	cr_assert_eq(c->sets[2].prefixes.cnt, 4); /* the double one of the file is gone */
	for (uint32_t k = 1; k < 4; k++)
		cr_expect_lt(
			mr_value_prefix_compare(&c->sets[2].prefixes.items[k - 1], &c->sets[2].prefixes.items[k]), 0);
	mr_config_free(c);
}

Test(config, pipelines)
{
	struct mr_config *c = good("good/values.yaml");
	cr_assert_eq(c->pipeline_cnt, 2);
	const struct mr_config_pipeline *p = &c->pipelines[0];
	cr_expect_str_eq(p->name, "web");
	cr_expect_eq(p->match_kind, MR_MATCH_LIST);
	cr_expect_eq(p->to_kind, MR_TO_BACK);
	cr_expect_eq(p->state, MR_STATE_SESSIONS);
	cr_assert_eq(p->match_cnt, 2);
	cr_expect_str_eq(p->match[0].src.set, "nets");
	cr_expect_eq(p->match[0].src.items, c->sets[2].prefixes.items, "a set is shared, not copied");
	cr_assert_eq(p->match[0].proto.cnt, 2);
	expect_range(&p->match[0].proto, 0, 6, 6);
	expect_range(&p->match[0].proto, 1, 17, 17);
	cr_expect_str_eq(p->match[0].dport.set, "web");
	cr_expect_eq(p->match[0].dport.cnt, 3);
	cr_expect_eq(p->match[0].at.line, 17);
	cr_assert_eq(p->match[1].icmp.cnt, 3); /* echo of both families, 3/4 */
	cr_expect_eq(p->match[1].icmp.items[0].type, 8);
	cr_expect_eq(p->match[1].icmp.items[1].type, 128);
	cr_expect_eq(p->match[1].icmp.items[1].code, -1);
	cr_expect_eq(p->match[1].icmp.items[2].type, 3);
	cr_expect_eq(p->match[1].icmp.items[2].code, 4);
	expect_range(&p->match[1].vlan, 0, 10, 20);
	/* The entry with the empty set can never hold and is gone: left in, it would look like "any source". */
	cr_assert_eq(p->except_cnt, 1);
	expect_range(&p->except[0].ethertype, 0, 0x0806, 0x0806);
	expect_range(&p->except[0].ethertype, 1, 0x88cc, 0x88cc);
	cr_expect_eq(p[1].match_kind, MR_MATCH_ALL);
	cr_expect_eq(p[1].to_kind, MR_TO_KERNEL);
	cr_expect_eq(p[1].from.cnt, 2);
	mr_config_free(c);
}

Test(config, offload)
{
	struct mr_config *c = good("good/offload.yaml");
	cr_expect(c->flows.has_offload);
	cr_expect_eq(c->flows.offload, MR_OFFLOAD_NEVER);
	cr_expect_eq(c->flows.offload_after, 10);
	cr_assert_eq(c->pipeline_cnt, 3);
	cr_expect_not(c->pipelines[0].has_offload);
	cr_expect_eq(c->pipelines[0].offload, MR_OFFLOAD_NEVER, "not given: that of flows");
	cr_expect(c->pipelines[1].has_offload);
	cr_expect_eq(c->pipelines[1].offload, MR_OFFLOAD_ALWAYS);
	mr_config_free(c);
}

Test(config, places)
{
	struct mr_config *c = good("good/values.yaml");
	struct mr_error e;
	struct mr_position at = mr_config_locate(c, "flows.timeouts.udp");
	cr_expect_eq(at.line, 7);
	cr_expect_eq(at.column, 20);
	at = mr_config_locate(c, "flows.offload"); /* not given: the mapping it would be in */
	cr_expect_eq(at.line, 5);
	cr_expect_eq(mr_config_error(c, &e, at, "flows.offload", "'%s' is odd", "x"), -EINVAL);
	cr_expect_str_eq(e.text, "good/values.yaml:5:3: flows.offload: 'x' is odd");
	cr_expect_eq(mr_config_error(c, &e, (struct mr_position){ 0 }, NULL, "odd"), -EINVAL);
	cr_expect_str_eq(e.text, "good/values.yaml: odd");
	mr_config_free(c);
}

Test(config, files_that_are_none)
{
	struct mr_config *c = NULL;
	struct mr_error e;
	cr_expect_eq(mr_config_read("bad/there-is-no-such-file", &c, &e), -ENOENT);
	cr_expect_str_eq(e.text, "bad/there-is-no-such-file: cannot be read: No such file or directory");
	cr_expect_eq(mr_config_read("bad", &c, &e), -EINVAL);
	cr_expect_str_eq(e.text, "bad: cannot be read: Is a directory");
	cr_expect_eq(mr_config_read("/dev/zero", &c, &e), -EINVAL);
	cr_expect_str_eq(e.text, "/dev/zero: not a regular file");
	cr_expect_eq(mr_config_read("bad/there-is-no-such-file", &c, NULL), -ENOENT); /* no sentence wanted */
	cr_expect_null(c);
	mr_config_free(NULL);
}

Test(config, too_large)
{
	size_t bytes = MR_NODE_FILE_BYTES_MAX + 1;
	char *text = malloc(bytes);
	memset(text, '#', bytes);
	bad_text(text, bytes, "t.yaml: larger than 16 MiB (keep large sets in files of their own)");
	memset(text, ' ', bytes);
	memcpy(text, "[", 1);
	bad_text(text, 64,
		"t.yaml:2:1: not readable as YAML: did not find expected node content (while parsing a flow node)");
	free(text);
}

Test(config, depth_is_taken_up_to_the_limit)
{
	char text[256] = "version: 1\ninterfaces: {}\nstages: { s: { type: t, x: ";
	size_t n = strlen(text);
	unsigned depth = MR_NODE_DEPTH_MAX - 3;
	memset(text + n, '[', depth);
	memset(text + n + depth, ']', depth);
	strcpy(text + n + 2 * depth, " } }\n");
	mr_config_free(good_text(text));
}

Test(config, many_keys_do_not_take_square_time)
{
	/* 200 000 keys, the last one twice. */
	size_t cnt = 200000, n = 0;
	char *text = malloc(cnt * 12 + 64);
	n += (size_t)sprintf(text, "version: 1\nx:\n");
	for (size_t i = 0; i < cnt; i++)
		n += (size_t)sprintf(text + n, " k%zu: 1\n", i);
	n += (size_t)sprintf(text + n, " k%zu: 1\n", cnt - 1);
	bad_text(text, n, "t.yaml:200003:2: x: the key 'k199999' is given twice (first in line 200002)");
	free(text);
}

Test(config, a_million_prefixes)
{
	char path[] = "/tmp/mr-test-set-XXXXXX", text[256];
	int fd = mkstemp(path);
	FILE *f = fdopen(fd, "w");
	cr_assert_not_null(f);
	for (unsigned i = 0; i < 1000000; i++) {
		/* An odd multiplier: all different, in no order. */
		uint32_t v = i * 2654435761u;
		fprintf(f, "%u.%u.%u.%u\n", v >> 24, v >> 16 & 255, v >> 8 & 255, v & 255);
	}
	fclose(f);
	snprintf(text, sizeof(text), "version: 1\ninterfaces: {}\nsets: { big: { type: prefix, file: %s } }\n", path);
	struct mr_config *c = good_text(text);
	unlink(path);
	cr_assert_eq(c->sets[0].prefixes.cnt, 1000000);
	for (uint32_t i = 1; i < 1000000; i++)
		cr_assert_lt(
			mr_value_prefix_compare(&c->sets[0].prefixes.items[i - 1], &c->sets[0].prefixes.items[i]), 0);
	mr_config_free(c);
}

static const struct mr_option demo_rule[] = {
	{ .key = "action", .type = MR_TYPE_STRING, .required = true, .help = "what to do" }, MR_OPT_END
};
static const struct mr_option demo_options[] = {
	{ .key = "limit", .type = MR_TYPE_RATE, .unit = "packets/s", .help = "how many" },
	{ .key = "rules", .type = MR_TYPE_LIST, .table = demo_rule, .help = "rules in order" }, MR_OPT_END
};
static const struct mr_config_stage_type demo[] = { { "demo", "a stage for this test", demo_options } };

/* What a writer prints, as text. */
static char *printed(int (*fn)(FILE *, const struct mr_config_stage_type *, unsigned),
	const struct mr_config_stage_type *types, unsigned cnt)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *f = open_memstream(&text, &bytes);
	cr_assert_eq(fn(f, types, cnt), 0);
	fclose(f);
	return text;
}

Test(config, pages_tell_of_stages)
{
	char *page = printed(mr_config_reference, demo, 1), *schema = printed(mr_config_schema, demo, 1);
	cr_expect_not_null(strstr(page, "### `type: demo`"));
	cr_expect_not_null(strstr(page, "### `type: demo.rules[]`"));
	cr_expect_not_null(strstr(page, "| `limit` | a number with pps"));
	cr_expect_not_null(strstr(schema, "\"const\": \"demo\""));
	free(page);
	free(schema);
}

static void expect_help(const char *topic, int want, const char *part)
{
	char *text = NULL;
	size_t bytes = 0;
	struct mr_error e = { .text = "" };
	FILE *f = open_memstream(&text, &bytes);
	cr_expect_eq(mr_config_help(f, topic, demo, 1, &e), want, "%s", topic);
	fclose(f);
	cr_expect_not_null(strstr(want ? e.text : text, part), "%s: %s%s", topic ? topic : "(all)", text, e.text);
	free(text);
}

Test(config, help)
{
	expect_help(NULL, 0, "pipelines\n");
	expect_help(NULL, 0, "tcp_transitory");
	expect_help("interfaces.mode", 0, "one of auto, zerocopy, copy, generic; default auto");
	expect_help("flows.timeouts", 0, "udp_unreplied");
	expect_help("flows.timeouts.icmp", 0, "between 10ms and 30d; default 60s");
	expect_help("stages", 0, "with type: demo");
	expect_help("stages.demo", 0, "a stage for this test");
	expect_help("stages.demo.rules.action", 0, "what to do");
	expect_help("stages.dem", -ENOENT, "'dem' is not a topic");
	expect_help("stages.demo.rule", -ENOENT, "did you mean 'rules'?");
	expect_help("interfaces.mod", -ENOENT, "did you mean 'mode'?");
	expect_help("interfaces.mode.auto", -ENOENT, "'auto' is not a topic");
	expect_help("nonsense", -ENOENT, "see: millrace help config");
	expect_help(".", -ENOENT, "is not a topic");
}

Test(config, lists_that_would_eat_the_memory)
{
	/* 300 times a set of 60 000 entries, and 300 stages. */
	char *text = malloc(4 << 20);
	size_t n = (size_t)sprintf(
		text, "version: 1\ninterfaces: { a: { device: a } }\nsets:\n  s:\n    type: prefix\n    entries:\n");
	for (unsigned i = 0; i < 60000; i++)
		n += (size_t)sprintf(text + n, "      - 10.%u.%u.0/25\n", i >> 8, i & 255);
	n += (size_t)sprintf(text + n, "pipelines: { p: { from: a, to: back, match: [ { src: [ $s");
	for (unsigned i = 0; i < 300; i++)
		n += (size_t)sprintf(text + n, ", $s");
	n += (size_t)sprintf(text + n, " ] } ] } }\n");
	bad_text(text, n,
		"t.yaml:60007:54: pipelines.p.match[0].src: more than 16777216 items, those of its sets included (want "
		"fewer)");
	n = (size_t)sprintf(text, "version: 1\ninterfaces: {}\nstages:\n");
	for (unsigned i = 0; i < 300; i++)
		n += (size_t)sprintf(text + n, "  s%u: { type: x }\n", i);
	bad_text(text, n, "t.yaml:4:3: stages: 300 entries are too many (want at most 256)");
	free(text);
}
