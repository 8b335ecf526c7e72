/* SPDX-License-Identifier: BSD-2-Clause */
/* test_option.c - one word at a time: numbers, units, addresses, lists, and a table with every type. */
#include "core/config.h"
#include "core/value.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static void expect_number(bool ok, const uint64_t *value, const char *text, uint64_t want)
{
	uint64_t got = *value; /* by address: the call that fills it is the argument before */
	cr_expect(ok, "%s", text);
	cr_expect_eq(got, want, "%s is %llu", text, (unsigned long long)got);
}

Test(value, numbers)
{
	static const struct {
		const char *text;
		uint64_t value;
	} good[] = { { "0", 0 }, { "64", 64 }, { "64k", 64000 }, { "64Ki", 65536 }, { "1M", 1000000 },
		{ "1.5M", 1500000 }, { "2G", 2000000000 }, { "1Gi", 1073741824 }, { "0.5k", 500 },
		{ "18446744073709551615", UINT64_MAX } };
	static const char *const bad[] = { "", "k", "-1", "+1", " 1", "1 ", "1K", "1.5", "1.", ".5k", "0x10", "1e3",
		"1kB", "18446744073709551616", "18446744073709551615k", "1.0000000001G", "nan" };
	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		uint64_t v = 7;
		bool ok = mr_value_uint(good[i].text, &v);
		expect_number(ok, &v, good[i].text, good[i].value);
	}
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint64_t v = 7;
		cr_expect_not(mr_value_uint(bad[i], &v), "%s", bad[i]);
		cr_expect_eq(v, 7, "touched by %s", bad[i]);
	}
}

Test(value, units)
{
	uint64_t v = 0;
	expect_number(mr_value_bytes("9000B", &v), &v, "9000B", 9000);
	expect_number(mr_value_bytes("2KiB", &v), &v, "2KiB", 2048);
	expect_number(mr_value_bytes("2kB", &v), &v, "2kB", 2000);
	expect_number(mr_value_duration("10us", &v), &v, "10us", 10000);
	expect_number(mr_value_duration("1.5s", &v), &v, "1.5s", 1500000000);
	expect_number(mr_value_duration("5m", &v), &v, "5m", UINT64_C(300000000000));
	expect_number(mr_value_duration("0", &v), &v, "0", 0);
	cr_expect_not(mr_value_duration("5", &v));
	cr_expect_not(mr_value_duration("5M", &v));
	cr_expect_not(mr_value_duration("0.5ns", &v));
	cr_expect_not(mr_value_duration("999999999999d", &v));
	expect_number(mr_value_rate("2Mpps", "packets/s", &v), &v, "2Mpps", 2000000);
	expect_number(mr_value_rate("500kbps", "bits/s", &v), &v, "500kbps", 500000);
	expect_number(mr_value_rate("10k/s", "flows/s", &v), &v, "10k/s", 10000);
	cr_expect_not(mr_value_rate("2Mbps", "packets/s", &v));
	cr_expect_not(mr_value_rate("2M", "packets/s", &v));
}

Test(value, words)
{
	bool b = false;
	cr_expect(mr_value_bool("yes", &b) && b);
	cr_expect(mr_value_bool("off", &b) && !b);
	cr_expect_not(mr_value_bool("True", &b));
	cr_expect(mr_value_name("a-b_9"));
	cr_expect(mr_value_name("12345678901234567890123456789012"));
	cr_expect_not(mr_value_name("123456789012345678901234567890123"));
	cr_expect_not(mr_value_name(""));
	cr_expect_not(mr_value_name("-a"));
	cr_expect_not(mr_value_name("a.b"));
	static const char *const words[] = { "mode", "device", "queues" };
	cr_expect_str_eq(mr_value_nearest("devcie", words, 3), "device");
	cr_expect_str_eq(mr_value_nearest("que", words, 3), "queues");
	cr_expect_null(mr_value_nearest("zzz", words, 3));
	cr_expect_null(mr_value_nearest("", words, 3));
	cr_expect_null(mr_value_nearest("a-word-that-is-much-longer-than-any-key-there-is", words, 3));
}

static void expect_prefix(const char *text, const char *want)
{
	struct mr_prefix p;
	uint8_t family;
	const char *why;
	char out[MR_VALUE_PREFIX_BYTES];
	cr_assert(mr_value_prefix(text, &p, &family, &why), "%s", text);
	cr_expect_eq(p.family, family);
	mr_value_prefix_print(&p, out, sizeof(out));
	cr_expect_str_eq(out, want);
}

Test(value, prefixes)
{
	static const char *const bad[] = { "", "/", "10", "10.0.0", "10.0.0.0.0", "10.0.0.256", "10.0.0.00", "01.0.0.0",
		"10.0.0.0/", "10.0.0.0/33", "10.0.0.0/08x", "10.0.0.0/-1", "10.0.0.1/31", "10.0.0.0 ", "::1/129",
		":::", "1::2::3", "2001:db8::1/64", "::1/0",
		"g::", "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000", "10.0.0.0/99999999999" };
	struct mr_prefix p;
	uint8_t family;
	const char *why;
	expect_prefix("10.0.0.0/8", "10.0.0.0/8");
	expect_prefix("10.0.0.1", "10.0.0.1");
	expect_prefix("10.0.0.2/31", "10.0.0.2/31");
	expect_prefix("0.0.0.0/0", "0.0.0.0/0");
	expect_prefix("255.255.255.255/32", "255.255.255.255");
	expect_prefix("2001:DB8::/32", "2001:db8::/32");
	expect_prefix("::/0", "::/0");
	expect_prefix("::ffff:192.0.2.1", "::ffff:192.0.2.1");
	expect_prefix("2001:db8::8000:0/97", "2001:db8::8000:0/97");
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_not(mr_value_prefix(bad[i], &p, &family, &why), "%s", bad[i]);
}

Test(value, ranges)
{
	struct mr_range r;
	cr_expect(mr_value_range("22", 0, 65535, &r) && r.lo == 22 && r.hi == 22);
	cr_expect(mr_value_range("8000-8100", 0, 65535, &r) && r.lo == 8000 && r.hi == 8100);
	cr_expect_not(mr_value_range("8100-8000", 0, 65535, &r));
	cr_expect_not(mr_value_range("0-65536", 0, 65535, &r));
	cr_expect_not(mr_value_range("5-", 0, 65535, &r));
	cr_expect_not(mr_value_range("-5", 0, 65535, &r));
	cr_expect(mr_value_proto("sctp", &r) && r.lo == 132);
	cr_expect(mr_value_proto("255", &r) && r.lo == 255);
	cr_expect_not(mr_value_proto("256", &r));
	cr_expect(mr_value_ethertype("ip6", &r) && r.lo == 0x86dd);
	cr_expect(mr_value_ethertype("0x88CC", &r) && r.lo == 0x88cc);
	cr_expect_not(mr_value_ethertype("0x5ff", &r)); /* a length */
	cr_expect_not(mr_value_ethertype("0x10000", &r));
	cr_expect_not(mr_value_ethertype("0x", &r));
}

Test(value, icmp_and_flags)
{
	struct mr_icmp_type t[2];
	struct mr_tcp_flags f;
	cr_expect_eq(mr_value_icmp("echo-reply", t), 2);
	cr_expect_eq(t[0].type, 0);
	cr_expect_eq(t[1].type, 129);
	cr_expect_eq(mr_value_icmp("3/4", t), 1);
	cr_expect_eq(t[0].code, 4);
	cr_expect_eq(mr_value_icmp("256", t), 0);
	cr_expect_eq(mr_value_icmp("3/256", t), 0);
	cr_expect_eq(mr_value_icmp("3/", t), 0);
	cr_expect(mr_value_tcp_flags("syn", &f) && f.set == 0x02 && f.mask == 0x02);
	cr_expect(mr_value_tcp_flags("syn/syn,ack", &f) && f.set == 0x02 && f.mask == 0x12);
	cr_expect(mr_value_tcp_flags("syn+ack/fin+syn+rst+ack", &f) && f.set == 0x12 && f.mask == 0x17);
	cr_expect(mr_value_tcp_flags("none/syn,ack", &f) && f.set == 0 && f.mask == 0x12);
	cr_expect_not(mr_value_tcp_flags("fin/syn", &f)); /* could never hold */
	cr_expect_not(mr_value_tcp_flags("syn/", &f));
	cr_expect_not(mr_value_tcp_flags("", &f));
	cr_expect_not(mr_value_tcp_flags("none", &f));
}

/* A stage with every type there is. */
struct inner {
	uint64_t depth;
};
struct rule {
	const char *action;
	struct mr_position at;
};
struct pool {
	const char *name;
	struct mr_position at;
	uint64_t weight;
};
struct every {
	uint64_t first; /* so that no offset of interest is 0 */
	bool flag, flag_seen;
	uint64_t count, size, wait_ns, rate;
	const char *text, *name;
	struct mr_position text_at;
	int word;
	struct mr_prefix prefix, address;
	struct mr_prefix_list prefixes;
	struct mr_range_list ports, protos, types, numbers, cores, queues;
	struct mr_icmp_list icmp;
	struct mr_tcp_flags flags;
	struct mr_string_list texts;
	struct inner inner;
	struct mr_object_list rules, pools;
	const struct mr_node *node;
};

static const char *const word_words[] = { "red", "green", NULL };
static const char *const rules_words[] = { "none", "some", NULL };
static const struct mr_option inner_table[] = {
	MR_OPT("depth", MR_TYPE_UINT, struct inner, depth, .fallback = "3", .max = 9), MR_OPT_END
};
static const struct mr_option rule_table[] = { MR_OPT("action", MR_TYPE_STRING, struct rule, action, .required = true),
	MR_OPT_END };
static const struct mr_option pool_table[] = { MR_OPT("weight", MR_TYPE_UINT, struct pool, weight, .fallback = "100"),
	MR_OPT_END };
#define EVERY(k, t, m, ...) MR_OPT(k, t, struct every, m, __VA_ARGS__)
static const struct mr_option every_table[] = { EVERY("flag", MR_TYPE_BOOL, flag,
							.seen_offset = offsetof(struct every, flag_seen)),
	EVERY("count", MR_TYPE_UINT, count, .min = 2, .max = 10, .fallback = "5"),
	EVERY("size", MR_TYPE_BYTES, size, .fallback = "2KiB"),
	EVERY("wait", MR_TYPE_DURATION, wait_ns, .fallback = "250ms"),
	EVERY("rate", MR_TYPE_RATE, rate, .unit = "packets/s", .max = 1000000),
	EVERY("text", MR_TYPE_STRING, text, .at_offset = offsetof(struct every, text_at), .max = 5),
	EVERY("name", MR_TYPE_NAME, name), EVERY("word", MR_TYPE_ENUM, word, .values = word_words, .fallback = "green"),
	EVERY("prefix", MR_TYPE_PREFIX, prefix), EVERY("address", MR_TYPE_ADDRESS, address),
	EVERY("prefixes", MR_TYPE_PREFIX_LIST, prefixes), EVERY("ports", MR_TYPE_PORT_LIST, ports),
	EVERY("protos", MR_TYPE_PROTO_LIST, protos), EVERY("types", MR_TYPE_ETHERTYPE_LIST, types),
	EVERY("numbers", MR_TYPE_UINT_LIST, numbers, .min = 1, .max = 63), EVERY("cores", MR_TYPE_CORES, cores),
	EVERY("queues", MR_TYPE_QUEUES, queues, .fallback = "all"), EVERY("icmp", MR_TYPE_ICMP_LIST, icmp),
	EVERY("flags", MR_TYPE_TCP_FLAGS, flags), EVERY("texts", MR_TYPE_STRING_LIST, texts, .fallback = "one"),
	EVERY("inner", MR_TYPE_OBJECT, inner, .table = inner_table, .element_bytes = sizeof(struct inner)),
	EVERY("rules", MR_TYPE_LIST, rules, .table = rule_table, .element_bytes = sizeof(struct rule),
		.at_offset = offsetof(struct rule, at), .values = rules_words, .fallback = "some", .max = 3),
	EVERY("pools", MR_TYPE_MAP, pools, .table = pool_table, .element_bytes = sizeof(struct pool),
		.at_offset = offsetof(struct pool, at)),
	EVERY("node", MR_TYPE_NODE, node), MR_OPT_END };

#define SETS                                                                                                           \
	"sets: { bad: { type: prefix, entries: [ 10.0.0.0/8, 192.0.2.0/24 ] }, web: { type: port, entries: [ 80, 443 " \
	"] } }\n"

static int read_stage(const char *keys, struct every *out, struct mr_config **c, struct mr_error *e)
{
	char text[2048];
	snprintf(text, sizeof(text), "version: 1\ninterfaces: {}\n" SETS "stages:\n s: { type: every%s%s }\n",
		*keys ? ", " : "", keys);
	int err = mr_config_read_text(text, strlen(text), "t.yaml", NULL, c, e);
	cr_assert_eq(err, 0, "%s", e->text);
	return mr_config_read_stage(*c, &(*c)->stages[0], every_table, out, sizeof(*out), e);
}

Test(option, defaults_come_from_the_table)
{
	struct every v;
	struct mr_config *c;
	struct mr_error e;
	memset(&v, 0xff, sizeof(v));
	cr_assert_eq(read_stage("", &v, &c, &e), 0, "%s", e.text);
	cr_expect_eq(v.first, 0);
	cr_expect_not(v.flag_seen);
	cr_expect_eq(v.count, 5);
	cr_expect_eq(v.size, 2048);
	cr_expect_eq(v.wait_ns, 250000000);
	cr_expect_eq(v.rate, 0);
	cr_expect_null(v.text);
	cr_expect_eq(v.word, 1);
	cr_expect_eq(v.prefix.family, 0);
	cr_expect_not(mr_list_given(&v.prefixes));
	cr_expect_not(mr_list_given(&v.ports));
	cr_expect_eq(v.texts.cnt, 1);
	cr_expect_eq(v.inner.depth, 3);
	cr_expect_eq(v.rules.word, 2);
	cr_expect_eq(v.pools.cnt, 0);
	cr_expect_null(v.node);
	mr_config_free(c);
}

Test(option, every_type)
{
	struct every v;
	struct mr_config *c;
	struct mr_error e;
	cr_assert_eq(read_stage("flag: on, count: 7, size: 1kB, wait: 2s, rate: 2kpps, text: abc, name: n-1, word: "
				"red, prefix: 10.0.0.0/8,"
				" address: \"2001:db8::1\", prefixes: [ $bad, 198.51.100.0/24 ], ports: [ 22, $web ], "
				"protos: [ udp, tcp ],"
				" types: arp, numbers: [ 5, 1-3 ], cores: [ 3, 1 ], queues: 4, icmp: 8, flags: "
				"syn/syn+ack, texts: [ b, a ],"
				" inner: { depth: 9 }, rules: [ { action: x }, { action: y } ], pools: { w1: {}, w2: { "
				"weight: 7 } }, node: [ 1, 2 ]",
			     &v, &c, &e),
		0, "%s", e.text);
	cr_expect(v.flag && v.flag_seen);
	cr_expect(v.count == 7 && v.size == 1000 && v.wait_ns == 2000000000 && v.rate == 2000);
	cr_expect_str_eq(v.text, "abc");
	cr_expect_eq(v.text_at.line, 5);
	cr_expect_str_eq(v.name, "n-1");
	cr_expect_eq(v.word, 0);
	cr_expect(v.prefix.family == 4 && v.prefix.len == 8 && v.address.family == 6 && v.address.len == 128);
	cr_expect_eq(v.prefixes.cnt, 3);
	cr_expect_str_eq(v.prefixes.set, "bad");
	cr_expect_eq(v.ports.cnt, 3);
	cr_expect(v.protos.cnt == 2 && v.protos.items[0].lo == 6);
	cr_expect(v.types.cnt == 1 && v.types.items[0].lo == 0x806);
	cr_expect(v.numbers.cnt == 2 && v.numbers.items[0].lo == 1 && v.numbers.items[0].hi == 3);
	cr_expect(v.cores.cnt == 2 && v.cores.items[0].lo == 3);
	cr_expect(v.queues.cnt == 1 && v.queues.items[0].hi == 3);
	cr_expect(v.icmp.cnt == 1 && v.icmp.items[0].code == -1);
	cr_expect(v.flags.set == 2 && v.flags.mask == 0x12);
	cr_expect_str_eq(v.texts.items[1], "a");
	cr_expect_eq(v.inner.depth, 9);
	const struct rule *r = v.rules.items;
	cr_assert_eq(v.rules.cnt, 2);
	cr_expect_eq(v.rules.word, 0);
	cr_expect_str_eq(r[1].action, "y");
	cr_expect_eq(r[1].at.line, 5);
	cr_expect_eq(r[1].at.column, v.rules.at[1].column);
	const struct pool *p = v.pools.items;
	cr_assert_eq(v.pools.cnt, 2);
	cr_expect_str_eq(p[0].name, "w1");
	cr_expect(p[0].weight == 100 && p[1].weight == 7);
	cr_expect_not_null(v.node);
	mr_config_free(c);
}

Test(option, sentences)
{
	static const struct {
		const char *keys, *sentence;
	} bad[] = {
		{ "count: 1", "s.count: '1' is not in range (want a number of 2 to 10)" },
		{ "rate: 2M",
			"s.rate: '2M' is not a rate (want a number with pps, as 500kpps, 2Mpps, between 0 and 1M)" },
		{ "rate: 2Mpps",
			"s.rate: '2Mpps' is not in range (want a number with pps, as 500kpps, 2Mpps, between 0 and "
			"1M)" },
		{ "text: abcdef", "s.text: 'abcdef' is too long (want 1 to 5 bytes)" },
		{ "text: ''", "s.text: '' is not a text (want at least one character)" },
		{ "name: a b", "s.name: 'a b' is not a name (want letters, digits, - and _, at most 32)" },
		{ "address: 10.0.0.0/32",
			"s.address: '10.0.0.0/32' is not an address but a prefix (leave out the length)" },
		{ "address: here", "s.address: 'here' is not an IP address (want 10.0.0.1 or \"2001:db8::1\")" },
		{ "prefix: 10.0.0.0/40", "s.prefix: '10.0.0.0/40' is not an IPv4 prefix (the length is 0 to 32)" },
		{ "prefix: { fe80:: }",
			"s.prefix: 'fe80:' looks like an IPv6 address that YAML takes apart (write it in quotes, "
			"\"2001:db8::/32\")" },
		{ "prefixes: $bda", "s.prefixes: '$bda' is not a set (want the name of one under sets:)" },
		{ "flags: syn/ack",
			"s.flags: 'syn/ack' is not a set of TCP flags (want syn, or syn/syn+ack: those set of those "
			"looked at)" },
		{ "numbers: 64",
			"s.numbers: '64' is not a number or range within the limits (want numbers and ranges of 1 to "
			"63)" },
		{ "inner: { dept: 1 }", "s.inner.dept: 'dept' is not a known key (did you mean 'depth'?)" },
		{ "rules: [ { action: x }, {} ]", "s.rules[1].action: the key 'action' is missing (want a text)" },
		{ "rules: [ {}, {}, {}, {} ]", "s.rules: 4 entries are too many (want at most 3)" },
		{ "pools: { w1: { weight: x } }", "s.pools.w1.weight: 'x' is not a number (want a number)" },
		{ "pools: { w.1: {} }", "s.pools: 'w.1' is not a name (want letters, digits, - and _, at most 32)" },
		{ "texts: []",
			"s.texts: an empty list is not taken (leave the key out, or want a text or a list of texts)" },
		{ "texts: [ [ a ] ]", "s.texts: a list is not a text of one line (want a text or a list of texts)" },
		{ "text: \"a\\nb\"",
			"s.text: 'a?b' has a control character or line break in it (want one line of text)" },
		{ "texts: [ \"a\\tb\" ]", "s.texts: 'a?b' is not a text of one line (want a text or a list of texts)" },
		{ "text: \"\\n\\e[1m\\u00e9\", flag: x", "s.flag: 'x' is not a yes or no (want true or false)" },
		{ "name: \"\\n\\e[1m\\u00e9\"",
			"s.name: '??[1m\xc3\xa9' is not a name (want letters, digits, - and _, at most 32)" },
	};
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct every v;
		struct mr_config *c;
		struct mr_error e = { .text = "" };
		cr_expect_eq(read_stage(bad[i].keys, &v, &c, &e), -EINVAL, "%s", bad[i].keys);
		const char *where = strstr(e.text, ": stages.");
		cr_assert_not_null(where, "%s", e.text);
		cr_expect_eq(strncmp(e.text, "t.yaml:5:", 9), 0, "%s", e.text);
		cr_expect_str_eq(where + 9, bad[i].sentence);
		mr_config_free(c);
	}
}

Test(option, a_long_value_is_cut_in_the_sentence)
{
	char keys[1200] = "name: \"";
	struct every v;
	struct mr_config *c;
	struct mr_error e;
	for (unsigned i = 0; i < 300; i++)
		strcat(keys, "\xc3\xa9"); /* never in the middle of a character */
	strcat(keys, "\"");
	cr_expect_eq(read_stage(keys, &v, &c, &e), -EINVAL);
	cr_expect_not_null(strstr(e.text, "\xc3\xa9...' is not a name"), "%s", e.text);
	cr_expect_lt(strlen(e.text), 250u);
	mr_config_free(c);
}
