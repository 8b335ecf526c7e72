/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"

#include <errno.h>
#include <string.h>

#define TIMEOUT_MS 60000

static int make_request(const struct mr_cli *c, json_t *request, struct mr_error *e)
{
	if (strcmp(c->arg[0], "delete"))
		return mr_error_set(e, -EINVAL,
			"flows can only be deleted: millrace flows delete ...; to see them: millrace show flows");
	int err = mr_ask_filters(c, request, e);
	if (err)
		return err;
	bool all = mr_args_value(c, "all");
	if (all == (json_object_size(request) > 1))
		return mr_error_set(e, -EINVAL,
			all ? "give filters or --all, not both"
			    : "say which flows: with --addr, --port, --proto, --state, --pipeline, --interface, "
			      "--zone, "
			      "--vlan, or "
			      "--all");
	if (all)
		json_object_set_new(request, "all", json_true());
	return 0;
}

int mr_verb_flows(const struct mr_cli *c)
{
	struct mr_error e = { "" };
	json_t *request = mr_ask_request("flows-delete", NULL), *answer = NULL;
	if (make_request(c, request, &e)) {
		json_decref(request);
		return mr_ask_fail(MR_EXIT_MISUSE, &e);
	}
	int code = mr_ask_instance(c, request, TIMEOUT_MS, &answer);
	if (code)
		return code;
	long long cnt = (long long)mr_ask_int(json_object_get(answer, "data"), "deleted_cnt");
	if (c->json)
		code = mr_ask_write_json(answer);
	else
		printf("%lld flow%s deleted\n", cnt, cnt == 1 ? "" : "s");
	json_decref(answer);
	return code;
}
