/* SPDX-License-Identifier: BSD-2-Clause */
/* show_nat.c - `show nat`: what the stages that translate say of themselves.  Which ones do, and what they have, is theirs to know. */
#include "core/show_part.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What a stage says, with its name in front.  0 with *out NULL: it has nothing to say about that. */
static int ask(const struct mr_plan_stage *s, const char *request, json_t **out, struct mr_error *e)
{
	char *text = NULL;
	*out = NULL;
	int err = s->type && s->type->ask ? s->type->ask(s->self, request, &text) : -EOPNOTSUPP;
	if (err == -EOPNOTSUPP)
		return 0;
	if (err == -EINVAL)
		mr_error_set(e, err, "%s: %s", s->name, text ? text : "cannot be answered");
	json_t *said = err ? NULL : json_loads(text, 0, NULL);
	free(text);
	if (err)
		return err;
	json_t *o = json_pack("{s:o, s:s}", "name", mr_show_text(s->name), "type", s->type->type);
	if (!o || !json_is_object(said) || json_object_update_missing(o, said)) {
		json_decref(o);
		o = NULL;
	}
	json_decref(said);
	*out = o;
	return o ? 0 : -ENOMEM;
}

/* Of the request what is for the stages. */
static char *question(const json_t *request)
{
	json_t *r = json_copy((json_t *)request);
	json_object_del(r, "verb");
	json_object_del(r, "stage");
	char *text = r ? json_dumps(r, JSON_COMPACT) : NULL;
	json_decref(r);
	return text;
}

static int ask_all(const struct mr_plan *plan, const char *name, const char *text, json_t *list, struct mr_error *e)
{
	bool there = false;
	for (unsigned i = 0; plan && i < plan->stage_cnt; i++) {
		const struct mr_plan_stage *s = &plan->stage[i];
		json_t *o;
		if (name && strcmp(s->name, name))
			continue;
		there = true;
		int err = ask(s, text, &o, e);
		if (err)
			return err;
		if (o && json_array_append_new(list, o))
			return -ENOMEM;
	}
	if (name && !there)
		return mr_error_set(e, -EINVAL, "no stage is called '%.64s'", name);
	if (name && !json_array_size(list))
		return mr_error_set(e, -EINVAL, "the stage '%.64s' translates nothing", name);
	return 0;
}

json_t *mr_show_nat(struct mr_runtime *rt, const json_t *request, struct mr_error *e)
{
	const char *name;
	struct timespec ts;
	if (mr_show_get_string(request, "stage", &name, e))
		return NULL;
	char *text = question(request);
	json_t *list = json_array();
	clock_gettime(CLOCK_MONOTONIC, &ts);
	int err = text && list ? ask_all(mr_runtime_plan(rt), name, text, list, e) : -ENOMEM;
	free(text);
	if (err) {
		json_decref(list);
		return NULL;
	}
	return json_pack("{s:I, s:o}", "time_ns", (json_int_t)ts.tv_sec * 1000000000 + ts.tv_nsec, "stages", list);
}
