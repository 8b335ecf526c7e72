/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/timeouts.h"

#include "core/session.h"

#include <stdlib.h>
#include <string.h>

#define NUMBERS 256

struct mr_timeouts {
	struct {
		char *stage, *name; /* NULL: never used */
		bool made;
		struct mr_stage_timeouts values;
	} class[NUMBERS];
};

static bool set_names(struct mr_timeouts *t, unsigned n, const char *stage, const char *name)
{
	char *s = strdup(stage), *m = strdup(name);
	if (!s || !m) {
		free(s);
		free(m);
		return false;
	}
	free(t->class[n].stage);
	free(t->class[n].name);
	t->class[n].stage = s;
	t->class[n].name = m;
	return true;
}

struct mr_timeouts *mr_timeouts_create(const struct mr_timeouts *before)
{
	struct mr_timeouts *t = calloc(1, sizeof(*t));
	for (unsigned n = 1; t && before && n < NUMBERS; n++)
		if (before->class[n].stage && !set_names(t, n, before->class[n].stage, before->class[n].name)) {
			mr_timeouts_destroy(t);
			return NULL;
		}
	return t;
}

void mr_timeouts_destroy(struct mr_timeouts *t)
{
	for (unsigned n = 0; t && n < NUMBERS; n++) {
		free(t->class[n].stage);
		free(t->class[n].name);
	}
	free(t);
}

static bool is(const struct mr_timeouts *t, unsigned n, const char *stage, const char *name)
{
	return t->class[n].stage && !strcmp(t->class[n].stage, stage) && !strcmp(t->class[n].name, name);
}

/* The number it has, or one that nobody had, or one that nobody has made yet: who had it then gets another one. */
static unsigned number_for(const struct mr_timeouts *t, const char *stage, const char *name)
{
	unsigned unused = 0, idle = 0;
	for (unsigned n = NUMBERS - 1; n; n--) {
		if (is(t, n, stage, name))
			return n;
		if (!t->class[n].stage)
			unused = n;
		else if (!t->class[n].made)
			idle = n;
	}
	return unused ? unused : idle;
}

uint8_t mr_timeouts_add(
	struct mr_timeouts *t, const char *stage, const char *name, const struct mr_stage_timeouts *values)
{
	unsigned n = number_for(t, stage, name);
	if (!n || (!is(t, n, stage, name) && !set_names(t, n, stage, name)))
		return 0;
	t->class[n].made = true;
	t->class[n].values = *values;
	return (uint8_t)n;
}

void mr_timeouts_apply(const struct mr_timeouts *t, struct mr_sessions *s)
{
	for (unsigned n = 1; n < NUMBERS; n++)
		mr_sessions_class(s, (uint8_t)n, t->class[n].made ? &t->class[n].values : NULL);
}
