/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/diff.h"

#include <criterion/criterion.h>
#include <string.h>

static const char base[] = "version: 1\n"
			   "interfaces: { wan: { device: w0 }, lan: { device: l0 } }\n"
			   "stages: { guard: { type: filter, default: accept, rules: [\n"
			   "  { name: one, action: drop, proto: tcp, dport: 23 },\n"
			   "  { name: two, action: drop, proto: udp },\n"
			   "  { action: accept, proto: icmp } ] } }\n"
			   "pipelines:\n"
			   "  in: { from: [ wan ], match: all, stages: [ guard ], to: lan }\n";

static struct mr_config *read_text(const char *text)
{
	struct mr_config *c = NULL;
	struct mr_error e = { "" };
	cr_assert_eq(mr_config_read_text(text, strlen(text), "t.yaml", ".", &c, &e), 0, "%s", e.text);
	return c;
}

/* The base with the first `what` replaced by `with`. */
static struct mr_config *changed(const char *what, const char *with)
{
	char text[2048];
	const char *at = strstr(base, what);
	cr_assert_not_null(at);
	snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - base), base, with, at + strlen(what));
	return read_text(text);
}

static void expect_one(const char *what, const char *with, const char *path, const char *change, const char *to)
{
	struct mr_config *a = read_text(base), *b = changed(what, with);
	json_t *d = mr_diff(a, b), *o = json_array_get(d, 0);
	cr_assert_eq(json_array_size(d), 1, "%zu changes", json_array_size(d));
	cr_expect_str_eq(json_string_value(json_object_get(o, "path")), path);
	cr_expect_str_eq(json_string_value(json_object_get(o, "change")), change);
	if (to)
		cr_expect_str_eq(json_string_value(json_object_get(o, "to")), to);
	json_decref(d);
	mr_config_free(a);
	mr_config_free(b);
}

Test(diff, nothing)
{
	struct mr_config *a = read_text(base), *b = read_text(base);
	json_t *d = mr_diff(a, b);
	cr_expect_eq(json_array_size(d), 0);
	json_decref(d);
	mr_config_free(a);
	mr_config_free(b);
}

Test(diff, one_change)
{
	expect_one("dport: 23", "dport: 24", "stages.guard.rules[one].dport", "changed", "24");
	expect_one("proto: udp }", "proto: udp, dport: 53 }", "stages.guard.rules[two].dport", "added", "53");
	expect_one("proto: tcp, dport: 23", "proto: tcp", "stages.guard.rules[one].dport", "removed", NULL);
	expect_one("{ action: accept, proto: icmp }", "{ action: drop, proto: icmp }", "stages.guard.rules[2].action",
		"changed", "drop");
	expect_one("match: all", "match: [ { proto: tcp } ]", "pipelines.in.match", "changed", "[ ... ]");
}

Test(diff, named_elements_are_found_wherever_they_stand)
{
	/* a new rule in front is one change, not one for every rule behind it */
	expect_one("  { name: one,", "  { name: zero, action: drop, proto: gre },\n  { name: one,",
		"stages.guard.rules[zero]", "added", "{ ... }");
}

Test(diff, order_matters)
{
	struct mr_config *a = read_text(base),
			 *b = changed("  { name: one, action: drop, proto: tcp, dport: 23 },\n  { name: two, action: "
				      "drop, proto: udp },\n",
				 "  { name: two, action: drop, proto: udp },\n  { name: one, action: drop, proto: tcp, "
				 "dport: 23 },\n");
	json_t *d = mr_diff(a, b);
	cr_assert_eq(json_array_size(d), 1);
	cr_expect_str_eq(json_string_value(json_object_get(json_array_get(d, 0), "path")), "stages.guard.rules");
	json_decref(d);
	mr_config_free(a);
	mr_config_free(b);
}
