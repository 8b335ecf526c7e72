/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const struct mr_cli_option mr_cli_globals[] = {
	{ "name", "INSTANCE", "which instance (default: default)" },
	{ "json", NULL, "write JSON, as docs/control.md describes it" },
	{ "help", NULL, "explain the verb" },
	{ "version", NULL, "say the version" },
	{ NULL, NULL, NULL },
};

enum { GLOBAL_NAME, GLOBAL_JSON, GLOBAL_HELP, GLOBAL_VERSION };

static const struct mr_cli_verb *find_verb(const struct mr_cli_verb *verbs, const char *name)
{
	for (; verbs->name; verbs++) {
		if (!strcmp(verbs->name, name))
			return verbs;
	}
	return NULL;
}

static int unknown_verb(const struct mr_cli_verb *verbs, const char *word, struct mr_error *e)
{
	const char *best = NULL;
	for (; verbs->name; verbs++)
		mr_suggest_consider(word, verbs->name, &best);
	if (best)
		return mr_error_set(e, -EINVAL, "there is no verb '%s'; did you mean '%s'?", word, best);
	return mr_error_set(e, -EINVAL, "there is no verb '%s'; see: millrace help", word);
}

/* Of a table, the option with this name of n bytes; its index or -1. */
static int find_option(const struct mr_cli_option *o, const char *name, size_t n)
{
	for (int i = 0; o && o[i].name; i++) {
		if (strlen(o[i].name) == n && !memcmp(o[i].name, name, n))
			return i;
	}
	return -1;
}

static int unknown_option(const struct mr_cli *c, const char *word, size_t n, struct mr_error *e)
{
	char name[64];
	const char *best = NULL;
	snprintf(name, sizeof(name), "%.*s", (int)n, word);
	for (const struct mr_cli_option *o = mr_cli_globals; o->name; o++)
		mr_suggest_consider(name, o->name, &best);
	for (const struct mr_cli_option *o = c->verb ? c->verb->options : NULL; o && o->name; o++)
		mr_suggest_consider(name, o->name, &best);
	if (best)
		return mr_error_set(e, -EINVAL, "there is no option --%s; did you mean --%s?", name, best);
	if (c->verb)
		return mr_error_set(
			e, -EINVAL, "%s has no option --%s; see: millrace help %s", c->verb->name, name, c->verb->name);
	return mr_error_set(e, -EINVAL, "there is no option --%s before the verb; see: millrace help", name);
}

/* One word that starts with dashes.  *i is moved on when the next word is its value. */
static int read_option(
	int argc, char *const *argv, int *i, struct mr_cli *c, bool *help, bool *version, struct mr_error *e)
{
	const char *word = argv[*i];
	const char *name = word + 2, *value = NULL;
	if (!strcmp(word, "-h"))
		name = "help";
	else if (!strcmp(word, "-V"))
		name = "version";
	else if (word[1] != '-')
		return mr_error_set(
			e, -EINVAL, "there is no option %s; options have two dashes, see: millrace help", word);
	size_t n = strcspn(name, "=");
	if (name[n])
		value = name + n + 1;
	int g = find_option(mr_cli_globals, name, n);
	int v = c->verb ? find_option(c->verb->options, name, n) : -1;
	if (g < 0 && v < 0)
		return unknown_option(c, name, n, e);
	const struct mr_cli_option *o = v >= 0 ? &c->verb->options[v] : &mr_cli_globals[g];
	if (!o->argument && value)
		return mr_error_set(e, -EINVAL, "--%s takes no value", o->name);
	if (o->argument && !value) {
		if (*i + 1 >= argc)
			return mr_error_set(e, -EINVAL, "--%s wants a value: %s", o->name, o->argument);
		value = argv[++*i];
	}
	if (v >= 0) {
		if (o->many && c->many_cnt == MR_CLI_ARGS)
			return mr_error_set(e, -EINVAL, "--%s is given more than %d times", o->name, MR_CLI_ARGS);
		if (o->many)
			c->many[c->many_cnt++] = value;
		else if (c->value[v])
			return mr_error_set(e, -EINVAL, "--%s is given twice", o->name);
		c->value[v] = value ? value : "";
	} else if (g == GLOBAL_NAME) {
		c->instance = value;
	} else if (g == GLOBAL_JSON) {
		c->json = true;
	} else {
		*(g == GLOBAL_HELP ? help : version) = true;
	}
	return 0;
}

/* An instance is a file name; a path is allowed where only a socket is wanted. */
static int check_instance(const struct mr_cli *c, struct mr_error *e)
{
	const char *s = c->instance;
	if (!s || (strchr(s, '/') && strcmp(c->verb->name, "run")))
		return 0;
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
	if (!n || s[n] || n > 64 || s[0] == '.' || s[0] == '-')
		return mr_error_set(e, -EINVAL,
			"--name: '%s' is no name: use up to 64 letters, digits, ., - and _, a letter, digit or _ first",
			s);
	return 0;
}

static int check_args(const struct mr_cli *c, struct mr_error *e)
{
	if (c->arg_cnt < c->verb->arg_min)
		return mr_error_set(
			e, -EINVAL, "%s wants more: millrace %s %s", c->verb->name, c->verb->name, c->verb->synopsis);
	if (c->arg_cnt > c->verb->arg_max)
		return mr_error_set(e, -EINVAL, "'%s' is too much: millrace %s %s", c->arg[c->verb->arg_max],
			c->verb->name, c->verb->synopsis);
	return check_instance(c, e);
}

int mr_args_parse(int argc, char *const *argv, const struct mr_cli_verb *verbs, struct mr_cli *out, struct mr_error *e)
{
	struct mr_cli c = { 0 };
	bool help = false, version = false, options = true;
	for (int i = 0; i < argc; i++) {
		const char *word = argv[i];
		if (options && !strcmp(word, "--")) {
			options = false;
		} else if (options && word[0] == '-' && word[1] && word[1] != '>') {
			int err = read_option(argc, argv, &i, &c, &help, &version, e);
			if (err)
				return err;
		} else if (!c.verb) {
			c.verb = find_verb(verbs, word);
			if (!c.verb)
				return unknown_verb(verbs, word, e);
		} else if (c.arg_cnt == MR_CLI_ARGS) {
			return mr_error_set(e, -EINVAL, "more than %d words", MR_CLI_ARGS);
		} else {
			c.arg[c.arg_cnt++] = word;
		}
	}
	if (help || version) {
		const char *about = c.verb ? c.verb->name : NULL;
		c.verb = find_verb(verbs, help ? "help" : "version");
		memset(c.value, 0, sizeof(c.value));
		memset(c.arg, 0, sizeof(c.arg));
		c.arg[0] = help ? about : NULL;
		c.arg_cnt = c.arg[0] != NULL;
	}
	if (!c.verb)
		return mr_error_set(e, -EINVAL, "a verb is missing; see: millrace help");
	int err = check_args(&c, e);
	if (!err)
		*out = c;
	return err;
}

const char *mr_args_value(const struct mr_cli *c, const char *name)
{
	int i = find_option(c->verb->options, name, strlen(name));
	return i < 0 ? NULL : c->value[i];
}

int mr_args_number(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *out, struct mr_error *e)
{
	char *end;
	errno = 0;
	unsigned long long v = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || v < min || v > max)
		return mr_error_set(e, -EINVAL, "%s: '%s' is no number from %llu to %llu", what, text,
			(unsigned long long)min, (unsigned long long)max);
	*out = v;
	return 0;
}

int mr_args_duration_ms(const char *what, const char *text, uint64_t *out, struct mr_error *e)
{
	static const struct {
		const char *unit;
		double ms;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 } };
	char *end = NULL;
	double v = text[0] >= '0' && text[0] <= '9' ? strtod(text, &end) : -1;
	for (unsigned i = 0; v > 0 && end && i < sizeof(units) / sizeof(units[0]); i++) {
		if (!strcmp(end, units[i].unit) && v * units[i].ms >= 1 && v * units[i].ms <= 86400000) {
			*out = (uint64_t)(v * units[i].ms);
			return 0;
		}
	}
	return mr_error_set(e, -EINVAL, "%s: '%s' is no duration from 1ms to a day: write 500ms, 2s or 1m", what, text);
}

int mr_args_join(const struct mr_cli *c, int first, char *out, size_t bytes, struct mr_error *e)
{
	size_t at = 0;
	for (int i = first; i < c->arg_cnt; i++) {
		size_t n = strlen(c->arg[i]);
		if (at + n + 2 > bytes)
			return mr_error_set(e, -EINVAL, "the packet is written in more than %zu bytes", bytes - 1);
		if (at)
			out[at++] = ' ';
		memcpy(out + at, c->arg[i], n);
		at += n;
	}
	out[at] = '\0';
	return 0;
}
