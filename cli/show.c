/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"

#include <errno.h>
#include <string.h>

#define TIMEOUT_MS 20000 /* a walk over millions of flows takes a while */

static const char *const topics[] = { "interfaces", "pipelines", "stages", "flows", "drops", "routes", "neighbours",
	"nat", "frames", "workers", "config" };

static int check_topic(const char *what, struct mr_error *e)
{
	const char *best = NULL;
	for (unsigned i = 0; i < sizeof(topics) / sizeof(topics[0]); i++) {
		if (!strcmp(what, topics[i]))
			return 0;
		mr_suggest_consider(what, topics[i], &best);
	}
	if (best)
		return mr_error_set(e, -EINVAL, "there is no '%s' to show; did you mean '%s'?", what, best);
	return mr_error_set(e, -EINVAL,
		"there is no '%s' to show; there are interfaces, pipelines, stages, flows, drops, routes, neighbours, "
		"nat, frames, workers and config",
		what);
}

/* Which topics an option belongs to; those of flows are not listed. */
static const struct {
	const char *option, *topics[3];
} owners[] = {
	{ "limit", { "flows", "routes", "nat" } },
	{ "all", { "drops" } },
	{ "addresses", { "nat" } },
	{ "subscribers", { "nat" } },
	{ "mappings", { "nat" } },
	{ "inside", { "nat" } },
	{ "outside", { "nat" } },
};

static int check_option(const char *name, const char *what, struct mr_error *e)
{
	static const char *const of_flows[3] = { "flows" };
	const char *const *of = of_flows;
	char list[128] = "";
	for (unsigned i = 0; i < sizeof(owners) / sizeof(owners[0]); i++) {
		if (!strcmp(owners[i].option, name))
			of = owners[i].topics;
	}
	for (unsigned i = 0; i < 3 && of[i]; i++) {
		size_t n = strlen(list);
		if (what && !strcmp(what, of[i]))
			return 0;
		snprintf(list + n, sizeof(list) - n, "%smillrace show %s", i ? ", " : "", of[i]);
	}
	return mr_error_set(e, -EINVAL, "--%s belongs to: %s", name, list);
}

/* Options that the topic does not have are a mistake, not to be passed over. */
static int check_options(const struct mr_cli *c, const char *what, struct mr_error *e)
{
	for (unsigned i = 0; c->verb->options[i].name; i++) {
		int err = c->value[i] ? check_option(c->verb->options[i].name, what, e) : 0;
		if (err)
			return err;
	}
	return 0;
}

/* What of nat; one list at a time, which the stage says. */
static int fill_nat(const struct mr_cli *c, json_t *request, struct mr_error *e)
{
	static const char *const lists[] = { "addresses", "subscribers", "mappings" },
				 *const ends[] = { "inside", "outside" };
	for (unsigned i = 0; i < 3; i++) {
		if (mr_args_value(c, lists[i]))
			json_object_set_new(request, lists[i], json_true());
	}
	for (unsigned i = 0; i < 2; i++) {
		const char *v = mr_args_value(c, ends[i]);
		if (v && json_object_set_new(request, ends[i], json_string(v)))
			return mr_error_set(e, -EINVAL, "--%s: '%s' is no UTF-8", ends[i], v);
	}
	return 0;
}

static int fill_request(const struct mr_cli *c, json_t *request, struct mr_error *e)
{
	uint64_t limit;
	const char *v = mr_args_value(c, "limit");
	if (v) {
		int err = mr_args_number("--limit", v, 0, 10000, &limit, e);
		if (err)
			return err;
		json_object_set_new(request, "limit", json_integer((json_int_t)limit));
	}
	bool nat = c->arg_cnt && !strcmp(c->arg[0], "nat");
	if (c->arg_cnt > 1 && json_object_set_new(request, nat ? "stage" : "prefix", json_string(c->arg[1])))
		return mr_error_set(e, -EINVAL, "show %s: '%s' is no UTF-8", c->arg[0], c->arg[1]);
	if (mr_args_value(c, "all"))
		json_object_set_new(request, "all", json_true());
	int err = fill_nat(c, request, e);
	return err ? err : mr_ask_filters(c, request, e);
}

/* An address or a prefix was asked for, and nothing is listed: in words, for an empty list looks like a mistake of ours. */
static void tell_no_route(const char *asked, const json_t *data)
{
	if (!json_is_true(json_object_get(data, "mirrored")) || json_array_size(json_object_get(data, "routes")))
		return;
	printf(strchr(asked, '/') ? "no route lies in %s\n" : "no route covers %s\n", asked);
}

int mr_verb_show(const struct mr_cli *c)
{
	struct mr_error e = { "" };
	const char *what = c->arg[0];
	json_t *answer = NULL;
	if ((what && check_topic(what, &e)) || check_options(c, what, &e))
		return mr_ask_fail(MR_EXIT_MISUSE, &e);
	bool nat = what && !strcmp(what, "nat"), routes = what && !strcmp(what, "routes");
	if (c->arg_cnt > 1 && !nat && !routes) {
		mr_error_set(&e, -EINVAL,
			"show %s takes no second word; routes takes an address or a prefix, nat a stage", what);
		return mr_ask_fail(MR_EXIT_MISUSE, &e);
	}
	json_t *request = mr_ask_request("show", what);
	if (fill_request(c, request, &e)) {
		json_decref(request);
		return mr_ask_fail(MR_EXIT_MISUSE, &e);
	}
	int code = mr_ask_instance(c, request, TIMEOUT_MS, &answer);
	if (code)
		return code;
	if (c->json)
		code = mr_ask_write_json(answer);
	else {
		if (c->arg_cnt > 1 && routes)
			tell_no_route(c->arg[1], json_object_get(answer, "data"));
		mr_text_show(what, answer, stdout);
	}
	json_decref(answer);
	return code;
}
