/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"

#define TIMEOUT_MS 120000 /* large sets are read, stages made anew */

static void say(const json_t *answer, const json_t *data)
{
	const json_t *ended;
	size_t i;
	printf("generation %lld is in force: %s\n", (long long)mr_ask_int(answer, "generation"),
		mr_ask_text(data, "path"));
	json_array_foreach(json_object_get(data, "ended"), i, ended)
	{
		long long cnt = mr_ask_int(ended, "sessions_cnt");
		printf("%lld session%s of stage %s ended\n", cnt, cnt == 1 ? "" : "s", mr_ask_text(ended, "stage"));
	}
}

int mr_verb_reload(const struct mr_cli *c)
{
	struct mr_error e = { "" };
	json_t *request = mr_ask_request("reload", NULL), *answer = NULL;
	if (c->arg[0] && mr_ask_put_path(request, c->arg[0], &e)) {
		json_decref(request);
		return mr_ask_fail(MR_EXIT_MISUSE, &e);
	}
	int code = mr_ask_instance(c, request, TIMEOUT_MS, &answer);
	if (code)
		return code;
	const json_t *data = json_object_get(answer, "data");
	if (c->json)
		code = mr_ask_write_json(answer);
	else
		say(answer, data);
	json_decref(answer);
	return code;
}
