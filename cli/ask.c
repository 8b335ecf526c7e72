/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"
#include "millrace/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int mr_ask_fail(int code, const struct mr_error *e)
{
	fprintf(stderr, "millrace: %s\n", e->text[0] ? e->text : "it failed");
	return code;
}

int mr_ask_instance(const struct mr_cli *c, json_t *request, unsigned timeout_ms, json_t **answer)
{
	struct mr_error e = { "" };
	char *line = request ? json_dumps(request, JSON_COMPACT) : NULL, *text = NULL;
	json_decref(request);
	if (!line) {
		/* jansson refuses what is not UTF-8 */
		mr_error_set(&e, -EINVAL, "the command line holds bytes that are no UTF-8");
		return mr_ask_fail(MR_EXIT_MISUSE, &e);
	}
	int err = mr_control_call(c->instance, line, timeout_ms, &text, e.text, sizeof(e.text));
	free(line);
	if (err)
		return mr_ask_fail(MR_EXIT_FAILURE, &e);
	json_error_t je;
	json_t *j = json_loads(text, 0, &je);
	free(text);
	const char *sentence = json_string_value(json_object_get(j, "error"));
	if (!json_is_object(j) || sentence) {
		bool misuse = json_is_true(json_object_get(j, "misuse"));
		mr_error_set(&e, -EINVAL, "%s",
			sentence ? sentence : "the answer cannot be understood: is the instance of another version?");
		json_decref(j);
		return mr_ask_fail(misuse ? MR_EXIT_MISUSE : MR_EXIT_FAILURE, &e);
	}
	*answer = j;
	return 0;
}

int mr_ask_write_json(const json_t *answer)
{
	struct mr_error e = { "" };
	if (!json_dumpf(answer, stdout, JSON_INDENT(2)) && fputc('\n', stdout) != EOF && !fflush(stdout))
		return 0;
	mr_error_set(&e, -EIO, "the answer cannot be written: %s", strerror(errno));
	return mr_ask_fail(MR_EXIT_FAILURE, &e);
}

json_t *mr_ask_request(const char *verb, const char *what)
{
	return what ? json_pack("{s:s, s:s}", "verb", verb, "what", what) : json_pack("{s:s}", "verb", verb);
}

int mr_ask_put_path(json_t *request, const char *path, struct mr_error *e)
{
	char *whole = realpath(path, NULL);
	if (!whole)
		return mr_error_set(e, -errno, "%s: %s", path, strerror(errno));
	int err = json_object_set_new(request, "path", json_string(whole));
	free(whole);
	return err ? mr_error_set(e, -EINVAL, "%s: the path is no UTF-8", path) : 0;
}

int64_t mr_ask_int(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

const char *mr_ask_text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

int mr_ask_filters(const struct mr_cli *c, json_t *request, struct mr_error *e)
{
	static const char *const words[] = { "addr", "proto", "state", "pipeline", "interface", "zone" };
	uint64_t port, vlan;
	const char *v = mr_args_value(c, "port");
	if (v) {
		int err = mr_args_number("--port", v, 0, 65535, &port, e);
		if (err)
			return err;
		json_object_set_new(request, "port", json_integer((json_int_t)port));
	}
	if (mr_args_value(c, "offloaded"))
		json_object_set_new(request, "offloaded", json_true());
	v = mr_args_value(c, "vlan");
	if (v) {
		int err = mr_args_number("--vlan", v, 0, 4095, &vlan, e);
		if (err)
			return err;
		json_object_set_new(request, "vlan", json_integer((json_int_t)vlan));
	}
	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		v = mr_args_value(c, words[i]);
		if (v && json_object_set_new(request, words[i], json_string(v)))
			return mr_error_set(e, -EINVAL, "--%s: '%s' is no UTF-8", words[i], v);
	}
	return 0;
}
