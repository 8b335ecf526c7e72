/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"
#include "core/runtime.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int mr_verb_check(const struct mr_cli *c)
{
	struct mr_error e = { "" };
	if (access(c->arg[0], R_OK)) {
		mr_error_set(&e, -errno, "%s cannot be read: %s", c->arg[0], strerror(errno));
		return mr_ask_fail(MR_EXIT_MISUSE, &e);
	}
	int err = mr_runtime_check(c->arg[0], c->json, stdout, &e);
	if (err)
		return mr_ask_fail(err == -EINVAL ? MR_EXIT_MISUSE : MR_EXIT_FAILURE, &e);
	return 0;
}
