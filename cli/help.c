/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"
#include "core/config.h"
#include "core/offload.h"
#include "core/reason.h"
#include "core/stage.h"

#include <errno.h>
#include <string.h>

#define TYPES_MAX 64

static void write_options(const struct mr_cli_option *o)
{
	struct mr_table t;
	mr_table_begin(&t, "options", "", NULL);
	for (; o && o->name; o++) {
		mr_table_add(&t, "  --%s%s%s", o->name, o->argument ? " " : "", o->argument ? o->argument : "");
		mr_table_add(&t, "%s", o->help);
	}
	mr_table_write(&t, stdout);
}

static void write_overview(void)
{
	struct mr_table t;
	printf("millrace %s: takes chosen flows out of the kernel's stack, runs them through stages and sends them "
	       "on\n\n"
	       "millrace [--name INSTANCE] [--json] VERB ...\n\n",
		MR_VERSION);
	mr_table_begin(&t, "verbs", "", NULL);
	for (const struct mr_cli_verb *v = mr_cli_verbs; v->name; v++) {
		mr_table_add(&t, "  %s", v->name);
		mr_table_add(&t, "%s", v->summary);
	}
	mr_table_write(&t, stdout);
	printf("\n");
	write_options(mr_cli_globals);
	printf("\nExit code: 0 done, 1 it failed, 2 the command line or the file is wrong.  More: millrace help VERB, "
	       "man millrace\n");
}

static int help_verb(const char *name)
{
	struct mr_error e = { "" };
	const char *best = NULL;
	for (const struct mr_cli_verb *v = mr_cli_verbs; v->name; v++) {
		if (!strcmp(v->name, name)) {
			printf("millrace %s%s%s\n\n%s\n", v->name, v->synopsis[0] ? " " : "", v->synopsis, v->summary);
			if (v->help)
				printf("\n%s\n", v->help);
			if (v->options) {
				printf("\n");
				write_options(v->options);
			}
			return 0;
		}
		mr_suggest_consider(name, v->name, &best);
	}
	mr_suggest_consider(name, "config", &best);
	mr_suggest_consider(name, "drops", &best);
	mr_suggest_consider(name, "offload", &best);
	if (best)
		mr_error_set(&e, -EINVAL, "there is no verb '%s'; did you mean '%s'?", name, best);
	else
		mr_error_set(&e, -EINVAL, "there is no verb '%s'; see: millrace help", name);
	return mr_ask_fail(MR_EXIT_MISUSE, &e);
}

static int help_config(const struct mr_cli *c)
{
	struct mr_config_stage_type types[TYPES_MAX];
	struct mr_error e = { "" };
	const struct mr_stage_type *s;
	unsigned cnt = 0;
	for (; cnt < TYPES_MAX && (s = mr_stage_at(cnt)); cnt++)
		types[cnt] =
			(struct mr_config_stage_type){ .name = s->type, .summary = s->summary, .options = s->options };
	int err;
	if (mr_args_value(c, "schema"))
		err = mr_config_schema(stdout, types, cnt);
	else if (mr_args_value(c, "markdown"))
		err = mr_config_reference(stdout, types, cnt);
	else
		err = mr_config_help(stdout, c->arg[1], types, cnt, &e);
	return err ? mr_ask_fail(err == -ENOENT ? MR_EXIT_MISUSE : MR_EXIT_FAILURE, &e) : 0;
}

static int help_drops(void)
{
	struct mr_table t;
	mr_table_begin(&t, "reason", "", NULL);
	for (unsigned r = MR_REASON_NONE + 1; mr_reason_name(r); r++) {
		mr_table_add(&t, "%s", mr_reason_name(r));
		mr_table_add(&t, "%s", mr_reason_help(r));
	}
	mr_table_write(&t, stdout);
	printf("\nStages add reasons of their own, named after them (filter-blocked); `millrace show drops` explains "
	       "each.\n");
	return 0;
}

static int help_offload(void)
{
	struct mr_table t;
	printf("Flows whose decision is stored are carried out inside XDP when flows.offload or their pipeline's "
	       "offload\n"
	       "says so (docs/semantics.md, \"The kernel tier\").  `millrace show flows` says of each direction why "
	       "not:\n\n");
	mr_table_begin(&t, "why not", "", NULL);
	for (unsigned w = MR_OFFLOAD_OK + 1; w < MR_OFFLOAD_CNT; w++) {
		mr_table_add(&t, "%s", mr_offload_name(w));
		mr_table_add(&t, "%s", mr_offload_help(w));
	}
	mr_table_write(&t, stdout);
	return 0;
}

int mr_verb_help(const struct mr_cli *c)
{
	struct mr_error e = { "" };
	bool config = c->arg[0] && !strcmp(c->arg[0], "config");
	if (c->verb && !config && (mr_args_value(c, "schema") || mr_args_value(c, "markdown") || c->arg_cnt > 1)) {
		mr_error_set(&e, -EINVAL, "topics, --schema and --markdown belong to: millrace help config");
		return mr_ask_fail(MR_EXIT_MISUSE, &e);
	}
	if (config)
		return help_config(c);
	if (c->arg[0] && !strcmp(c->arg[0], "drops"))
		return help_drops();
	if (c->arg[0] && !strcmp(c->arg[0], "offload"))
		return help_offload();
	if (c->arg[0])
		return help_verb(c->arg[0]);
	write_overview();
	return 0;
}
