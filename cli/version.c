/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"
#include "kern/abi.h"
#include "millrace/control.h"
#include "millrace/stage.h"

#include <stdlib.h>
#include <string.h>

/* Of this program.  The instance is asked only when one was named: the version must be told without any. */
int mr_verb_version(const struct mr_cli *c)
{
	json_t *answer = NULL;
	int code = 0;
	if (c->instance)
		code = mr_ask_instance(c, mr_ask_request("version", NULL), 5000, &answer);
	else
		answer = json_pack("{s:s, s:n, s:n, s:{s:s, s:i, s:i}}", "schema", "millrace/version/1", "instance",
			"generation", "data", "version", MR_VERSION, "stage_abi", MR_STAGE_ABI, "kernel_abi",
			MR_ABI_VERSION);
	if (code)
		return code;
	const json_t *d = json_object_get(answer, "data");
	if (c->json)
		code = mr_ask_write_json(answer);
	else
		printf("millrace %s (stage ABI %lld, kernel ABI %lld)\n", mr_ask_text(d, "version"),
			(long long)mr_ask_int(d, "stage_abi"), (long long)mr_ask_int(d, "kernel_abi"));
	json_decref(answer);
	return code;
}
