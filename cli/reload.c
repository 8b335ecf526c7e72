/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 120000 /* large sets are read, stages made anew */

int mr_verb_reload(const struct mr_cli *c)
{
	struct mr_error e = { "" };
	json_t *request = mr_ask_request("reload", NULL), *answer = NULL;
	if (c->arg[0]) {
		/* The instance has another working folder. */
		char *path = realpath(c->arg[0], NULL);
		if (!path || json_object_set_new(request, "path", json_string(path))) {
			mr_error_set(&e, -errno, "%s: %s", c->arg[0], path ? "the path is no UTF-8" : strerror(errno));
			free(path);
			json_decref(request);
			return mr_ask_fail(MR_EXIT_MISUSE, &e);
		}
		free(path);
	}
	int code = mr_ask_instance(c, request, TIMEOUT_MS, &answer);
	if (code)
		return code;
	const json_t *data = json_object_get(answer, "data");
	if (c->json)
		code = mr_ask_write_json(answer);
	else
		printf("generation %lld is in force: %s\n", (long long)mr_ask_int(answer, "generation"),
			mr_ask_text(data, "path"));
	json_decref(answer);
	return code;
}
