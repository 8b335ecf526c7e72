/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/show.h"
#include "core/diff.h"
#include "core/reload.h"
#include "core/tier.h"

#include "core/show_part.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- reading requests, writing values -------------------------------------------------------------------------- */

json_t *mr_show_text(const char *s)
{
	if (!s)
		return json_null();
	json_t *j = json_string(s);
	if (j)
		return j;
	char *plain = strdup(s);
	if (!plain)
		return NULL;
	for (char *c = plain; *c; c++) {
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	}
	j = json_string(plain);
	free(plain);
	return j;
}

static const struct {
	const char *name;
	uint8_t number;
} protos[] = {
	{ "icmp", IPPROTO_ICMP },
	{ "tcp", IPPROTO_TCP },
	{ "udp", IPPROTO_UDP },
	{ "gre", IPPROTO_GRE },
	{ "esp", IPPROTO_ESP },
	{ "icmp6", IPPROTO_ICMPV6 },
	{ "sctp", IPPROTO_SCTP },
};

const char *mr_show_proto(uint8_t proto, char buf[4])
{
	for (size_t i = 0; i < sizeof(protos) / sizeof(protos[0]); i++) {
		if (protos[i].number == proto)
			return protos[i].name;
	}
	snprintf(buf, 4, "%u", proto);
	return buf;
}

int mr_show_proto_number(const char *s)
{
	for (size_t i = 0; i < sizeof(protos) / sizeof(protos[0]); i++) {
		if (!strcasecmp(s, protos[i].name))
			return protos[i].number;
	}
	char *end;
	long v = strtol(s, &end, 10);
	return *s >= '0' && *s <= '9' && !*end && v <= 255 ? (int)v : -1;
}

int mr_show_get_string(const json_t *request, const char *key, const char **out, struct mr_error *e)
{
	const json_t *v = json_object_get(request, key);
	*out = json_string_value(v);
	return v && !*out ? mr_error_set(e, -EINVAL, "%s wants a string", key) : 0;
}

int mr_show_get_number(
	const json_t *request, const char *key, json_int_t min, json_int_t max, json_int_t *out, struct mr_error *e)
{
	const json_t *v = json_object_get(request, key);
	if (!v)
		return 0;
	if (!json_is_integer(v) || json_integer_value(v) < min || json_integer_value(v) > max)
		return mr_error_set(e, -EINVAL,
			"%s wants a number from %" JSON_INTEGER_FORMAT " to %" JSON_INTEGER_FORMAT, key, min, max);
	*out = json_integer_value(v);
	return 0;
}

/* Is it one of the words, which have a blank between? */
static bool is_word(const char *key, const char *words)
{
	size_t n = strlen(key);
	while (*words) {
		size_t k = strcspn(words, " ");
		if (k == n && !memcmp(words, key, n))
			return true;
		words += k + (words[k] == ' ');
	}
	return false;
}

/* Refuses members that nobody reads: a filter that is misspelt must not be ignored. */
static int check_keys(const json_t *request, const char *keys, struct mr_error *e)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)request, key, value)
	{
		if (!is_word(key, keys))
			return mr_error_set(
				e, -EINVAL, "a request of this kind has no '%.64s'; it may have: %s", key, keys);
	}
	return 0;
}

/* ---- answers --------------------------------------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Takes data (which may be NULL, then so is the result). */
static json_t *envelope(struct mr_runtime *rt, const char *kind, json_t *data)
{
	struct mr_plan *plan = mr_runtime_plan(rt);
	char schema[64];
	if (!data)
		return NULL;
	snprintf(schema, sizeof(schema), "millrace/%s/1", kind);
	return json_pack("{s:s, s:o, s:I, s:o}", "schema", schema, "instance",
		mr_show_text(rt->opt.instance ? rt->opt.instance : "default"), "generation",
		(json_int_t)(plan ? plan->serial : rt->serial), "data", data);
}

/* {KEY: value} and when it was read: rates are differences of counters over differences of time_ns. */
static json_t *with_time(const char *key, json_t *value)
{
	return value ? json_pack("{s:I, s:o}", "time_ns", (json_int_t)now_ns(), key, value) : NULL;
}

static json_t *summary(struct mr_runtime *rt)
{
	uint64_t now = now_ns();
	return json_pack("{s:I, s:s, s:I, s:o, s:I, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "time_ns",
		(json_int_t)now, "version", MR_VERSION, "uptime_ms", (json_int_t)((now - rt->started_ns) / 1000000),
		"path", mr_show_text(rt->opt.path), "loaded_at_s", (json_int_t)rt->loaded_at, "last_reload",
		mr_show_text(rt->last_reload), "reload_failures_cnt", (json_int_t)rt->reload_failures, "interfaces",
		mr_show_interfaces(rt), "pipelines", mr_show_pipelines(rt), "totals", mr_show_totals(rt), "flows",
		mr_show_flows_usage(rt), "frames", mr_show_frames(rt), "workers", mr_show_workers(rt));
}

static json_t *answer_show(struct mr_runtime *rt, const json_t *request, struct mr_error *e)
{
	const char *what;
	if (mr_show_get_string(request, "what", &what, e))
		return NULL;
	if (what && !strcmp(what, "flows")) {
		if (check_keys(
			    request, "verb what addr port proto state pipeline interface zone vlan offloaded limit", e))
			return NULL;
		return envelope(rt, "show-flows", mr_show_flows(rt, request, e));
	}
	if (what && !strcmp(what, "routes")) {
		if (check_keys(request, "verb what prefix limit", e))
			return NULL;
		return envelope(rt, "show-routes", mr_show_routes(rt, request, e));
	}
	if (what && !strcmp(what, "nat")) {
		if (check_keys(request, "verb what stage addresses subscribers mappings inside outside limit", e))
			return NULL;
		return envelope(rt, "show-nat", mr_show_nat(rt, request, e));
	}
	if (what && !strcmp(what, "drops")) {
		json_t *all = json_object_get(request, "all");
		if (check_keys(request, "verb what all", e))
			return NULL;
		return envelope(rt, "show-drops", with_time("drops", mr_show_drops(rt, json_is_true(all))));
	}
	if (check_keys(request, "verb what", e))
		return NULL;
	if (!what)
		return envelope(rt, "show", summary(rt));
	if (!strcmp(what, "interfaces"))
		return envelope(rt, "show-interfaces", with_time("interfaces", mr_show_interfaces(rt)));
	if (!strcmp(what, "pipelines")) {
		json_t *data = with_time("pipelines", mr_show_pipelines(rt));
		if (data && json_object_set_new(data, "totals", mr_show_totals(rt))) {
			json_decref(data);
			data = NULL;
		}
		return envelope(rt, "show-pipelines", data);
	}
	if (!strcmp(what, "stages"))
		return envelope(rt, "show-stages", with_time("stages", mr_show_stages(rt)));
	if (!strcmp(what, "frames"))
		return envelope(rt, "show-frames", with_time("frames", mr_show_frames(rt)));
	if (!strcmp(what, "workers"))
		return envelope(rt, "show-workers", with_time("workers", mr_show_workers(rt)));
	if (!strcmp(what, "neighbours"))
		return envelope(rt, "show-neighbours", mr_show_neighbours(rt));
	if (!strcmp(what, "config"))
		return envelope(rt, "show-config", mr_show_config(rt));
	mr_error_set(e, -EINVAL,
		"there is no '%s' to show; there are interfaces, pipelines, stages, flows, drops, routes, neighbours, "
		"nat, frames, workers and config",
		what);
	return NULL;
}

static json_t *answer_reload(struct mr_runtime *rt, const json_t *request, bool *failed, struct mr_error *e)
{
	const char *path;
	if (check_keys(request, "verb path", e) || mr_show_get_string(request, "path", &path, e))
		return NULL;
	int err = mr_runtime_reload(rt, path, e);
	*failed = err && err != -EINVAL;
	if (err)
		return NULL;
	json_t *ended = json_array();
	for (unsigned i = 0; i < rt->last_succession.cnt; i++)
		json_array_append_new(ended,
			json_pack("{s:o, s:I}", "stage", mr_show_text(rt->last_succession.stage[i].name),
				"sessions_cnt", (json_int_t)rt->last_succession.stage[i].sessions));
	return envelope(rt, "reload",
		json_pack("{s:o, s:o, s:o}", "path", mr_show_text(rt->opt.path), "outcome",
			mr_show_text(rt->last_reload), "ended", ended));
}

/* What a reload of this file would change, and whether it could; nothing is touched. */
static json_t *answer_diff(struct mr_runtime *rt, const json_t *request, struct mr_error *e)
{
	const char *path = NULL;
	struct mr_config *c;
	struct mr_error why = { "" };
	if (check_keys(request, "verb path", e) || mr_show_get_string(request, "path", &path, e) ||
		mr_reload_read(path ? path : rt->opt.path, &c, e))
		return NULL;
	int err = mr_reload_check(rt, c, &why);
	json_t *data = json_pack("{s:o, s:o, s:o, s:o}", "path", mr_show_text(path ? path : rt->opt.path),
		"running_path", mr_show_text(rt->opt.path), "changes", mr_diff(mr_runtime_plan(rt)->config, c),
		"needs_restart", err ? mr_show_text(why.text) : json_null());
	mr_config_free(c);
	return envelope(rt, "diff", data);
}

static json_t *answer_version(struct mr_runtime *rt, const json_t *request, struct mr_error *e)
{
	if (check_keys(request, "verb", e))
		return NULL;
	return envelope(rt, "version",
		json_pack("{s:s, s:i, s:i}", "version", MR_VERSION, "stage_abi", MR_STAGE_ABI, "kernel_abi",
			MR_ABI_VERSION));
}

static json_t *answer(struct mr_runtime *rt, const char *verb, const json_t *request, bool *failed, struct mr_error *e)
{
	if (!strcmp(verb, "show"))
		return answer_show(rt, request, e);
	if (!strcmp(verb, "reload"))
		return answer_reload(rt, request, failed, e);
	if (!strcmp(verb, "diff"))
		return answer_diff(rt, request, e);
	if (!strcmp(verb, "version"))
		return answer_version(rt, request, e);
	if (!strcmp(verb, "explain")) {
		if (check_keys(request, "verb in tuple frame", e))
			return NULL;
		return envelope(rt, "explain", mr_show_explain(rt, request, e));
	}
	if (!strcmp(verb, "flows-delete")) {
		if (check_keys(request, "verb addr port proto state pipeline interface zone vlan offloaded all", e))
			return NULL;
		return envelope(rt, "flows-delete", mr_show_flows_delete(rt, request, e));
	}
	mr_error_set(e, -EINVAL,
		"the control socket has no verb '%s'; it has show, reload, diff, explain, flows-delete and version",
		verb);
	return NULL;
}

/* What the asker did wrong is told apart from what went wrong here: the command line ends with another exit code. */
json_t *mr_show_answer(void *runtime, const char *verb, const json_t *request, struct mr_error *e)
{
	struct mr_runtime *rt = runtime;
	bool failed = false;
	if (rt->sh.tier)
		mr_tier_collect(rt->sh.tier, rt->sh.stats);
	json_t *a = answer(runtime, verb, request, &failed, e);
	if (a || failed || !e->text[0])
		return a;
	return json_pack("{s:o, s:b}", "error", mr_show_text(e->text), "misuse", 1);
}
