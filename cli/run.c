/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"
#include "core/runtime.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

static void say(const char *line)
{
	fprintf(stderr, "%s\n", line);
}

/* Scripts and tests wait for exactly this line. */
static void ready(void)
{
	fputs("ready\n", stderr);
	sd_notify(0, "READY=1");
}

int mr_verb_run(const struct mr_cli *c)
{
	struct mr_error e = { "" };
	struct mr_runtime *rt = NULL;
	struct mr_runtime_options opt = {
		.path = c->arg[0],
		.instance = c->instance ? c->instance : "default",
		.log = say,
		.ready = ready,
	};
	if (access(opt.path, R_OK)) {
		mr_error_set(&e, -errno, "%s cannot be read: %s", opt.path, strerror(errno));
		return mr_ask_fail(MR_EXIT_MISUSE, &e);
	}
	signal(SIGPIPE, SIG_IGN);
	int err = mr_runtime_create(&opt, &rt, &e);
	if (err)
		return mr_ask_fail(err == -EINVAL ? MR_EXIT_MISUSE : MR_EXIT_FAILURE, &e);
	err = mr_runtime_run(rt, &e);
	sd_notify(0, "STOPPING=1");
	mr_runtime_destroy(rt);
	return err ? mr_ask_fail(MR_EXIT_FAILURE, &e) : 0;
}
