/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"
#include "core/runtime.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define DIFF_TIMEOUT_MS 120000 /* large sets are read */

static void write_diff(const json_t *data)
{
	size_t i;
	json_t *o;
	const json_t *changes = json_object_get(data, "changes"), *restart = json_object_get(data, "needs_restart");
	if (!json_array_size(changes))
		printf("no difference to %s, which is in force\n", mr_ask_text(data, "running_path"));
	json_array_foreach(changes, i, o)
	{
		const char *change = mr_ask_text(o, "change"), *path = mr_ask_text(o, "path");
		long long line = (long long)mr_ask_int(o, "line");
		if (!strcmp(change, "added"))
			printf("+ %s: %s (line %lld)\n", path, mr_ask_text(o, "to"), line);
		else if (!strcmp(change, "removed"))
			printf("- %s: %s\n", path, mr_ask_text(o, "from"));
		else if (!strcmp(mr_ask_text(o, "from"), "another order"))
			printf("~ %s: another order (line %lld)\n", path, line);
		else
			printf("~ %s: %s -> %s (line %lld)\n", path, mr_ask_text(o, "from"), mr_ask_text(o, "to"),
				line);
	}
	if (json_is_string(restart))
		printf("a reload would refuse it: %s\n", json_string_value(restart));
}

/* Against what the instance has in force: it reads the file itself, as a reload would. */
static int check_diff(const struct mr_cli *c)
{
	struct mr_error e = { "" };
	json_t *request = mr_ask_request("diff", NULL), *answer = NULL;
	if (mr_ask_put_path(request, c->arg[0], &e)) {
		json_decref(request);
		return mr_ask_fail(MR_EXIT_MISUSE, &e);
	}
	int code = mr_ask_instance(c, request, DIFF_TIMEOUT_MS, &answer);
	if (code)
		return code;
	if (c->json)
		code = mr_ask_write_json(answer);
	else
		write_diff(json_object_get(answer, "data"));
	json_decref(answer);
	return code;
}

int mr_verb_check(const struct mr_cli *c)
{
	struct mr_error e = { "" };
	if (mr_args_value(c, "diff"))
		return check_diff(c);
	if (access(c->arg[0], R_OK)) {
		mr_error_set(&e, -errno, "%s cannot be read: %s", c->arg[0], strerror(errno));
		return mr_ask_fail(MR_EXIT_MISUSE, &e);
	}
	int err = mr_runtime_check(c->arg[0], c->json, stdout, &e);
	if (err)
		return mr_ask_fail(err == -EINVAL ? MR_EXIT_MISUSE : MR_EXIT_FAILURE, &e);
	return 0;
}
