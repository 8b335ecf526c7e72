/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct mr_cli_option show_options[] = {
	{ "addr", "PREFIX", "" },
	{ "limit", "N", "" },
	{ "all", NULL, "" },
	{ NULL, NULL, NULL },
};

static const struct mr_cli_option nat_options[] = {
	{ "at", "TIME", "" },
	{ "log", "FILE", "", true },
	{ NULL, NULL, NULL },
};

static const struct mr_cli_verb verbs[] = {
	{ "nat", "who", "", NULL, nat_options, 1, 2, NULL },
	{ "run", "FILE", "", NULL, NULL, 1, 1, NULL },
	{ "show", "[WHAT]", "", NULL, show_options, 0, 1, NULL },
	{ "explain", "...", "", NULL, show_options, 0, MR_CLI_ARGS, NULL },
	{ "version", "", "", NULL, NULL, 0, 0, NULL },
	{ "help", "[VERB]", "", NULL, NULL, 0, 2, NULL },
	{ NULL, NULL, NULL, NULL, NULL, 0, 0, NULL },
};

static struct mr_cli c;
static struct mr_error e;

#define PARSE(...)     \
	mr_args_parse( \
		(int)(sizeof((char *[]){ __VA_ARGS__ }) / sizeof(char *)), (char *[]){ __VA_ARGS__ }, verbs, &c, &e)

Test(cli_args, verb_options_and_arguments_in_any_order)
{
	cr_assert_eq(PARSE("--name", "edge", "show", "--limit", "5", "flows", "--json", "--addr=10.0.0.0/8"), 0, "%s",
		e.text);
	cr_assert_str_eq(c.verb->name, "show");
	cr_assert_str_eq(c.instance, "edge");
	cr_assert(c.json);
	cr_assert_eq(c.arg_cnt, 1);
	cr_assert_str_eq(c.arg[0], "flows");
	cr_assert_null(c.arg[1]);
	cr_assert_str_eq(mr_args_value(&c, "limit"), "5");
	cr_assert_str_eq(mr_args_value(&c, "addr"), "10.0.0.0/8");
	cr_assert_null(mr_args_value(&c, "all"));
	cr_assert_eq(PARSE("show", "--all"), 0);
	cr_assert_str_eq(mr_args_value(&c, "all"), "");
	cr_assert_not(c.json);
}

Test(cli_args, two_dashes_end_options_and_arrows_are_words)
{
	cr_assert_eq(PARSE("run", "--", "--json"), 0, "%s", e.text);
	cr_assert_str_eq(c.arg[0], "--json");
	cr_assert_not(c.json);
	cr_assert_eq(PARSE("explain", "tcp", "10.0.0.1:1", "->", "10.0.0.2:1"), 0, "%s", e.text);
	cr_assert_eq(c.arg_cnt, 4);
	char line[64];
	cr_assert_eq(mr_args_join(&c, 0, line, sizeof(line), &e), 0);
	cr_assert_str_eq(line, "tcp 10.0.0.1:1 -> 10.0.0.2:1");
	cr_assert_eq(mr_args_join(&c, 0, line, 20, &e), -EINVAL);
}

Test(cli_args, help_and_version_become_verbs)
{
	cr_assert_eq(PARSE("--help"), 0);
	cr_assert_str_eq(c.verb->name, "help");
	cr_assert_eq(c.arg_cnt, 0);
	cr_assert_eq(PARSE("run", "-h"), 0, "%s", e.text);
	cr_assert_str_eq(c.verb->name, "help");
	cr_assert_str_eq(c.arg[0], "run");
	cr_assert_eq(PARSE("--version"), 0);
	cr_assert_str_eq(c.verb->name, "version");
	cr_assert_eq(c.arg_cnt, 0);
}

static void refused(int err, const char *says)
{
	cr_assert_eq(err, -EINVAL);
	cr_assert(strstr(e.text, says), "'%s' in: %s", says, e.text);
}

Test(cli_args, mistakes_are_said_with_the_nearest_word)
{
	refused(PARSE("sohw"), "did you mean 'show'");
	refused(PARSE("vers"), "did you mean 'version'");
	refused(PARSE("frobnicate"), "see: millrace help");
	refused(PARSE("show", "--adr", "x"), "did you mean --addr");
	refused(PARSE("show", "--jsno"), "did you mean --json");
	refused(PARSE("show", "--frobnicate"), "millrace help show");
	refused(PARSE("--limit", "5", "show"), "before the verb");
	refused(PARSE("show", "-x"), "two dashes");
	refused(PARSE("show", "--limit"), "wants a value");
	refused(PARSE("show", "--all=yes"), "takes no value");
	refused(PARSE("show", "--limit", "1", "--limit", "2"), "given twice");
	refused(PARSE("show", "flows", "drops"), "'drops' is too much");
	refused(PARSE("run"), "millrace run FILE");
	refused(PARSE("--json"), "a verb is missing");
	refused(PARSE("--name", "../x", "run", "f"), "no name");
	refused(PARSE("--name", "", "show"), "no name");
	refused(PARSE("--name", ".x", "show"), "no name");
	cr_assert_eq(PARSE("--name", "/tmp/x.sock", "show"), 0, "a path names a socket");
}

Test(cli_args, many_words_do_not_overflow)
{
	char *argv[MR_CLI_ARGS + 10];
	argv[0] = (char *)"explain";
	for (unsigned i = 1; i < MR_CLI_ARGS + 10; i++)
		argv[i] = (char *)"x";
	cr_assert_eq(mr_args_parse(MR_CLI_ARGS + 1, argv, verbs, &c, &e), 0);
	cr_assert_null(c.arg[MR_CLI_ARGS]);
	cr_assert_eq(mr_args_parse(MR_CLI_ARGS + 2, argv, verbs, &c, &e), -EINVAL);
}

Test(cli_args, numbers_and_durations)
{
	uint64_t v = 7;
	cr_assert_eq(mr_args_number("--limit", "100", 0, 100, &v, &e), 0);
	cr_assert_eq(v, 100);
	refused(mr_args_number("--limit", "101", 0, 100, &v, &e), "from 0 to 100");
	refused(mr_args_number("--limit", "-1", 0, 100, &v, &e), "'-1'");
	refused(mr_args_number("--limit", "5x", 0, 100, &v, &e), "'5x'");
	refused(mr_args_number("--limit", "", 0, 100, &v, &e), "--limit");
	refused(mr_args_number("--limit", "99999999999999999999999", 0, UINT64_MAX, &v, &e), "no number");
	cr_assert_eq(v, 100, "untouched");
	cr_assert_eq(mr_args_duration_ms("--interval", "1s", &v, &e), 0);
	cr_assert_eq(v, 1000);
	cr_assert_eq(mr_args_duration_ms("--interval", "0.5s", &v, &e), 0);
	cr_assert_eq(v, 500);
	cr_assert_eq(mr_args_duration_ms("--interval", "20ms", &v, &e), 0);
	cr_assert_eq(v, 20);
	cr_assert_eq(mr_args_duration_ms("--interval", "2m", &v, &e), 0);
	cr_assert_eq(v, 120000);
	refused(mr_args_duration_ms("--interval", "5", &v, &e), "--interval");
	refused(mr_args_duration_ms("--interval", "0s", &v, &e), "--interval");
	refused(mr_args_duration_ms("--interval", "1h", &v, &e), "--interval");
	refused(mr_args_duration_ms("--interval", "-1s", &v, &e), "--interval");
	refused(mr_args_duration_ms("--interval", "9e99s", &v, &e), "--interval");
}

Test(cli_args, nearest_words)
{
	static const struct {
		const char *word, *want;
	} cases[] = { { "pipelnes", "pipelines" }, { "pipe", "pipelines" }, { "flow", "flows" }, { "dorps", "drops" },
		{ "x", NULL }, { "completely-different", NULL }, { "", NULL } };
	static const char *const words[] = { "interfaces", "pipelines", "flows", "drops" };
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *best = NULL;
		for (unsigned k = 0; k < 4; k++)
			mr_suggest_consider(cases[i].word, words[k], &best);
		if (cases[i].want)
			cr_assert(
				best && !strcmp(best, cases[i].want), "%s: %s", cases[i].word, best ? best : "nothing");
		else
			cr_assert_null(best, "%s", cases[i].word);
	}
}

Test(cli_args, numbers_for_people)
{
	char b[MR_NUMBER_BYTES];
	cr_assert_str_eq(mr_number_count(0, b), "0");
	cr_assert_str_eq(mr_number_count(9999, b), "9999");
	cr_assert_str_eq(mr_number_count(10000, b), "10.0k");
	cr_assert_str_eq(mr_number_count(999499, b), "999k");
	cr_assert_str_eq(mr_number_count(999500, b), "1.00M");
	cr_assert_str_eq(mr_number_count(-12345678, b), "-12.3M");
	cr_assert_str_eq(mr_number_count(INT64_MAX, b), "9.22E");
	cr_assert_str_eq(mr_number_bytes(1500, b), "1500 B");
	cr_assert_str_eq(mr_number_bytes(150000, b), "150 kB");
	cr_assert_str_eq(mr_number_duration(250, b), "250 ms");
	cr_assert_str_eq(mr_number_duration(119000, b), "119 s");
	cr_assert_str_eq(mr_number_duration(7440000, b), "2 h 4 min");
	cr_assert_str_eq(mr_number_duration(90061000, b), "1 d 1 h");
}

Test(cli_args, tables_are_aligned)
{
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	struct mr_table t;
	mr_table_begin(&t, "name", ">count", "why", NULL);
	mr_table_add(&t, "wan");
	mr_table_add(&t, "%d", 5);
	mr_table_add(&t, "-");
	mr_table_add(&t, "größer");
	mr_table_add(&t, "%d", 1234567);
	mr_table_add(&t, "ttl");
	mr_table_write(&t, f);
	fclose(f);
	cr_assert_str_eq(text,
		"name      count  why\n"
		"wan           5  -\n"
		"größer  1234567  ttl\n");
	free(text);
}

/* Reads what text.c writes for an answer. */
static char *show(const char *what, const char *answer)
{
	char *text = NULL;
	size_t n = 0;
	json_t *j = json_loads(answer, 0, NULL);
	cr_assert_not_null(j);
	FILE *f = open_memstream(&text, &n);
	mr_text_show(what, j, f);
	fclose(f);
	json_decref(j);
	return text;
}

Test(cli_args, drops_are_listed_largest_first)
{
	char *text = show("pipelines",
		"{\"data\":{\"pipelines\":[{\"name\":\"in\",\"to\":\"lan\",\"stages\":[\"guard\",\"web\"],\"received_"
		"packets\":60,"
		"\"forwarded_packets\":10,\"dropped_packets\":50,\"dropped\":{\"ttl\":5,\"meter\":20,\"stage\":20,\"no-"
		"frame\":5}}],"
		"\"totals\":{\"received_packets\":60,\"held_packets\":0,\"unaccounted_packets\":0}}}");
	cr_assert(strstr(text, "meter 20, stage 20, ttl 5\n"), "%s", text);
	cr_assert(strstr(text, "guard, web"), "%s", text);
	cr_assert(strstr(text, "unaccounted: 0"), "%s", text);
	free(text);
}

Test(cli_args, answers_without_anything_are_survived)
{
	static const char *const topics[] = { NULL, "interfaces", "pipelines", "stages", "flows", "drops", "frames",
		"workers", "config" };
	for (unsigned i = 0; i < sizeof(topics) / sizeof(topics[0]); i++) {
		free(show(topics[i], "{}"));
		free(show(topics[i],
			"{\"data\":{\"interfaces\":[{}],\"pipelines\":[{}],\"stages\":[{}],\"flows\":[{}],\"drops\":[{}"
			"],"
			"\"frames\":{},\"workers\":[{}]}}"));
	}
}

Test(cli_args, an_option_that_may_be_given_several_times)
{
	cr_assert_eq(PARSE("nat", "--log", "a", "who", "--at", "-10m", "--log=b", "--log", "-"), 0, "%s", e.text);
	cr_assert_eq(c.many_cnt, 3);
	cr_assert(!strcmp(c.many[0], "a") && !strcmp(c.many[1], "b") && !strcmp(c.many[2], "-") && !c.many[3]);
	cr_assert_str_eq(mr_args_value(&c, "at"), "-10m");
	cr_assert_eq(PARSE("nat", "who"), 0);
	cr_assert_eq(c.many_cnt, 0);
	cr_assert_eq(PARSE("nat", "who", "--at", "1", "--at", "2"), -EINVAL);
	char *argv[2 * MR_CLI_ARGS + 4] = { "nat", "who" };
	for (unsigned i = 0; i <= MR_CLI_ARGS; i++) {
		argv[2 + 2 * i] = "--log";
		argv[3 + 2 * i] = "a";
	}
	cr_assert_eq(mr_args_parse(2 + 2 * MR_CLI_ARGS, argv, verbs, &c, &e), 0);
	cr_assert_eq(c.many_cnt, MR_CLI_ARGS);
	cr_assert_eq(mr_args_parse(4 + 2 * MR_CLI_ARGS, argv, verbs, &c, &e), -EINVAL);
}
