/* SPDX-License-Identifier: BSD-2-Clause */
/* config_help.c - the tables told to a person: `help config` and the reference page. */
#include "core/config.h"
#include "core/option.h"
#include "core/value.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TOPIC_BYTES 128

static const struct mr_option type_option = { .key = "type",
	.type = MR_TYPE_NAME,
	.required = true,
	.help = "which kind of stage; it decides which other keys there are" };

static bool has_table(const struct mr_option *o)
{
	return o->table && (o->type == MR_TYPE_OBJECT || o->type == MR_TYPE_LIST || o->type == MR_TYPE_MAP);
}

/* One option in a few lines: what it is for, what it wants, its default. */
static void print_option(FILE *out, const struct mr_option *o, unsigned indent)
{
	char want[256];
	fprintf(out, "%*s%s%s\n", (int)indent, "", o->key, o->required ? " (required)" : "");
	fprintf(out, "%*s    %s\n", (int)indent, "", o->help ? o->help : "");
	fprintf(out, "%*s    %s", (int)indent, "", mr_option_want(o, want, sizeof(want)));
	if (o->unit && o->type != MR_TYPE_RATE)
		fprintf(out, " (%s)", o->unit);
	if (o->fallback)
		fprintf(out, "; default %s", o->fallback);
	fputc('\n', out);
}

static void print_table(FILE *out, const struct mr_option *table, unsigned indent)
{
	for (const struct mr_option *o = table; o->key; o++) {
		print_option(out, o, indent);
		if (has_table(o))
			print_table(out, o->table, indent + 4);
	}
}

static void print_stages(FILE *out, const struct mr_config_stage_type *types, unsigned type_cnt, unsigned indent)
{
	print_option(out, &type_option, indent);
	for (unsigned i = 0; i < type_cnt; i++) {
		fprintf(out, "%*swith type: %s - %s\n", (int)indent, "", types[i].name,
			types[i].summary ? types[i].summary : "");
		if (types[i].options)
			print_table(out, types[i].options, indent + 4);
	}
}

static int no_topic(struct mr_error *e, const char *topic, const char *word, const char *near)
{
	struct mr_quoted q = mr_node_quote(word);
	(void)topic;
	if (near)
		return mr_error_set(
			e, -ENOENT, "'%s' is not a topic of the configuration (did you mean '%s'?)", q.text, near);
	return mr_error_set(e, -ENOENT, "'%s' is not a topic of the configuration (see: millrace help config)", q.text);
}

static const char *near_key(const struct mr_option *table, const char *word)
{
	const char *words[64];
	unsigned n = 0;
	for (; table && table->key && n < 64; table++)
		words[n++] = table->key;
	return mr_value_nearest(word, words, n);
}

/* The rest of a topic in a table: "mode", "rules.action". */
static int help_in(FILE *out, const struct mr_option *table, char *topic, struct mr_error *e)
{
	for (;;) {
		char *word = strsep(&topic, ".");
		const struct mr_option *o = table;
		while (o && o->key && strcmp(o->key, word) != 0)
			o++;
		if (!o || !o->key)
			return no_topic(e, topic, word, near_key(table, word));
		if (topic && has_table(o)) {
			table = o->table;
			continue;
		}
		if (topic)
			return no_topic(e, topic, topic, NULL);
		print_option(out, o, 0);
		if (has_table(o))
			print_table(out, o->table, 4);
		return 0;
	}
}

static int help_stages(
	FILE *out, char *topic, const struct mr_config_stage_type *types, unsigned type_cnt, struct mr_error *e)
{
	if (!topic) {
		print_stages(out, types, type_cnt, 0);
		return 0;
	}
	char *word = strsep(&topic, ".");
	for (unsigned i = 0; i < type_cnt; i++) {
		if (strcmp(types[i].name, word) != 0)
			continue;
		if (topic)
			return help_in(out, types[i].options, topic, e);
		fprintf(out, "type: %s - %s\n", types[i].name, types[i].summary ? types[i].summary : "");
		if (types[i].options)
			print_table(out, types[i].options, 4);
		return 0;
	}
	return no_topic(e, topic, word, NULL);
}

int mr_config_help(
	FILE *out, const char *topic, const struct mr_config_stage_type *types, unsigned type_cnt, struct mr_error *e)
{
	char copy[TOPIC_BYTES];
	if (topic && *topic) {
		if (strlen(topic) >= sizeof(copy))
			return no_topic(e, topic, topic, NULL);
		memcpy(copy, topic, strlen(topic) + 1);
		if (strcmp(copy, "stages") == 0)
			return help_stages(out, NULL, types, type_cnt, e);
		if (strncmp(copy, "stages.", 7) == 0)
			return help_stages(out, copy + 7, types, type_cnt, e);
		return help_in(out, mr_config_options(), copy, e);
	}
	for (const struct mr_option *o = mr_config_options(); o->key; o++) {
		print_option(out, o, 0);
		if (has_table(o))
			print_table(out, o->table, 4);
		else if (o->type == MR_TYPE_NODE)
			print_stages(out, types, type_cnt, 4);
	}
	return 0;
}

/* Table cells may not hold a bar. */
static void cell(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '|')
			fputc('\\', out);
		fputc(*text, out);
	}
}

static void markdown_table(FILE *out, const struct mr_option *table)
{
	fputs("\n| key | wants | default | |\n| --- | --- | --- | --- |\n", out);
	for (const struct mr_option *o = table; o->key; o++) {
		char want[256];
		fprintf(out, "| `%s` | ", o->key);
		cell(out, mr_option_want(o, want, sizeof(want)));
		if (o->unit && o->type != MR_TYPE_RATE)
			fprintf(out, " (%s)", o->unit);
		fprintf(out, " | %s%s%s | ", o->fallback ? "`" : "",
			o->fallback           ? o->fallback
				: o->required ? "required"
					      : "",
			o->fallback ? "`" : "");
		cell(out, o->help ? o->help : "");
		fputs(" |\n", out);
	}
}

static void markdown_object(FILE *out, const char *path, const char *intro, const struct mr_option *table)
{
	fprintf(out, "\n### `%s`\n\n%s\n", path, intro ? intro : "");
	markdown_table(out, table);
	for (const struct mr_option *o = table; o->key; o++) {
		char inner[TOPIC_BYTES];
		if (!has_table(o))
			continue;
		snprintf(inner, sizeof(inner), "%s.%s%s", path, o->key,
			o->type == MR_TYPE_MAP            ? ".NAME"
				: o->type == MR_TYPE_LIST ? "[]"
							  : "");
		markdown_object(out, inner, o->help, o->table);
	}
}

static const char intro[] =
	"# Configuration\n"
	"\n"
	"This page is written by `millrace help config --markdown`, from the tables that read the file; "
	"`millrace help config TOPIC` shows a part of it, and `docs/millrace.schema.json` is the same for editors.\n"
	"\n"
	"One YAML file, UTF-8, indented by spaces. Paths in it are relative to its folder. Tags, anchors and aliases, "
	"several "
	"documents, unknown keys and keys given twice are refused. A mistake is one sentence with its place, "
	"`edge.yaml:12:9: stages.cgn.outside: '203.0.113.0/33' is not an IPv4 prefix (the length is 0 to 32)`, and "
	"then nothing "
	"has been touched. List entries in such a path count from 0.\n"
	"\n"
	"- **Numbers** take `k`, `M`, `G`, `T` (powers of 1000) and `Ki`, `Mi`, `Gi` (powers of 1024): `64k`, `1.5M`.\n"
	"- **Durations** need a unit: `10us`, `500ms`, `2s`, `5m`, `2h`, `1d`. **Rates** too: `2Mpps`, `500kbps`.\n"
	"- **Prefixes** are `10.0.0.0/8` or an address alone; bits behind the length must be 0. Write IPv6 in quotes, "
	"`\"2001:db8::/32\"`, because YAML takes some addresses apart.\n"
	"- **Ports** are `22` or `8000-8100`. Where prefixes or ports are wanted, a list of them or a set, `$name`, "
	"will do. An "
	"empty set matches nothing.\n"
	"- **Names** have letters, digits, `-` and `_`, at most 32. `route`, `back` and `kernel` are no names for "
	"interfaces.\n"
	"\n"
	"```yaml\n"
	"version: 1\n"
	"workers: { cores: 2-3 }\n"
	"interfaces:\n"
	"  wan: { device: ens1f0 }\n"
	"  lan: { device: ens1f1, mode: copy, channels: 2 }\n"
	"sets:\n"
	"  bad: { type: prefix, file: bad.txt }\n"
	"stages:\n"
	"  guard: { type: filter, default: accept, rules: [ { action: drop, src: $bad } ] }\n"
	"pipelines:\n"
	"  in:  { from: [ wan ], match: all, except: [ { proto: tcp, dport: 22 } ], stages: [ guard ], to: lan }\n"
	"  out: { from: [ lan ], match: [ { src: 100.64.0.0/10 } ], to: wan }\n"
	"```\n";

int mr_config_reference(FILE *out, const struct mr_config_stage_type *types, unsigned type_cnt)
{
	const struct mr_option *top = mr_config_options();
	fputs(intro, out);
	fputs("\n## The file\n", out);
	markdown_table(out, top);
	for (const struct mr_option *o = top; o->key; o++) {
		char path[TOPIC_BYTES];
		snprintf(path, sizeof(path), "%s%s", o->key, o->type == MR_TYPE_MAP ? ".NAME" : "");
		if (has_table(o))
			markdown_object(out, path, o->help, o->table);
	}
	fputs("\n## Stages\n\nEach entry of `stages` has a `type`, and the keys of that type.\n", out);
	for (unsigned i = 0; i < type_cnt; i++) {
		char path[TOPIC_BYTES];
		static const struct mr_option none[] = { MR_OPT_END };
		snprintf(path, sizeof(path), "type: %s", types[i].name);
		markdown_object(out, path, types[i].summary, types[i].options ? types[i].options : none);
	}
	return ferror(out) ? -EIO : 0;
}
