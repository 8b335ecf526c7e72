/* SPDX-License-Identifier: BSD-2-Clause */
/* set.c - named lists of prefixes or ports, from the configuration and from files of one entry a line. */
#include "core/config_read.h"
#include "core/value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SET_FILE_BYTES_MAX ((size_t)64 << 20)
#define ENTRY_BYTES_MAX    63

static int read_entry(struct mr_config_set *set, const char *text, const char **noun, const char **why)
{
	uint8_t family;
	*why = NULL;
	if (set->type == MR_SET_PORT) {
		*noun = "a port or a range of ports";
		*why = "want 22 or 8000-8100";
		return mr_value_range(text, 0, 65535, &set->ports.items[set->ports.cnt]) ? (int)++set->ports.cnt : 0;
	}
	if (mr_value_prefix(text, &set->prefixes.items[set->prefixes.cnt], &family, why))
		return (int)++set->prefixes.cnt;
	*noun = family == 4 ? "an IPv4 prefix" : family == 6 ? "an IPv6 prefix" : "an IP prefix";
	if (!*why)
		*why = family == 6    ? "want 2001:db8::/32"
			: family == 4 ? "want 10.0.0.0/8"
				      : "want 10.0.0.0/8 or 2001:db8::/32";
	return 0;
}

/* Room for `more` entries behind those there are. */
static int grow(struct mr_arena *a, struct mr_config_set *set, size_t more)
{
	bool ports = set->type == MR_SET_PORT;
	size_t have = ports ? set->ports.cnt : set->prefixes.cnt,
	       size = ports ? sizeof(struct mr_range) : sizeof(struct mr_prefix);
	if (more == 0)
		return 0;
	if (have + more > UINT32_MAX)
		return -ENOMEM;
	void *items = mr_arena_array(a, have + more, size),
	     *old = ports ? (void *)set->ports.items : (void *)set->prefixes.items;
	if (!items)
		return -ENOMEM;
	if (have)
		memcpy(items, old, have * size);
	if (ports)
		set->ports.items = items;
	else
		set->prefixes.items = items;
	return 0;
}

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

int mr_set_read_text(struct mr_arena *a, const char *text, size_t bytes, const char *name, struct mr_config_set *set,
	struct mr_error *e)
{
	const char *p = text, *end = text + bytes;
	size_t lines = 1;
	int err = mr_node_check_text(text, bytes, name, e);
	if (err)
		return err;
	for (const char *q = p; q < end && (q = memchr(q, '\n', (size_t)(end - q))); q++)
		lines++;
	if (grow(a, set, lines))
		return mr_error_set(e, -ENOMEM, "%s: no memory to read it", name);
	for (uint32_t line = 1; p < end; line++) {
		char word[ENTRY_BYTES_MAX + 1];
		const char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end, *start = p, *noun, *why;
		const char *comment = memchr(p, '#', (size_t)(stop - p));
		p = nl ? nl + 1 : end;
		stop = comment ? comment : stop;
		const char *w = start;
		while (w < stop && blank(*w))
			w++;
		while (stop > w && blank(stop[-1]))
			stop--;
		if (w == stop)
			continue;
		size_t len = (size_t)(stop - w) > ENTRY_BYTES_MAX ? ENTRY_BYTES_MAX : (size_t)(stop - w);
		memcpy(word, w, len);
		word[len] = 0;
		if (!read_entry(set, word, &noun, &why))
			return mr_error_set(e, -EINVAL, "%s:%u:%u: '%s' is not %s (%s)", name, line,
				(unsigned)(w - start) + 1, mr_node_quote(word).text, noun, why);
	}
	return 0;
}

static int compare(const void *a, const void *b)
{
	return mr_value_prefix_compare(a, b);
}

void mr_set_finish(struct mr_config_set *set)
{
	struct mr_prefix *p = set->prefixes.items;
	uint32_t n = 0;
	mr_list_merge(set->ports.items, &set->ports.cnt);
	if (set->prefixes.cnt == 0)
		return;
	qsort(p, set->prefixes.cnt, sizeof(*p), compare);
	for (uint32_t i = 1; i < set->prefixes.cnt; i++)
		if (mr_value_prefix_compare(&p[n], &p[i]) != 0)
			p[++n] = p[i];
	set->prefixes.cnt = n + 1;
}

static int read_inline(struct mr_reader *r, const struct mr_string_list *entries, struct mr_config_set *set)
{
	if (grow(r->arena, set, entries->cnt))
		return mr_option_no_memory(r);
	for (uint32_t i = 0; i < entries->cnt; i++) {
		const char *noun, *why;
		if (!read_entry(set, entries->items[i], &noun, &why))
			return mr_option_error(r, entries->at[i], "entries", "'%s' is not %s (%s)",
				mr_node_quote(entries->items[i]).text, noun, why);
	}
	return 0;
}

static int read_file(
	struct mr_reader *r, const struct mr_config *c, const struct mr_config_set_raw *raw, struct mr_config_set *set)
{
	const char *path = mr_config_resolve_path(c, raw->file);
	struct mr_quoted q = mr_node_quote(raw->file);
	char *text = NULL;
	size_t bytes = 0;
	if (!path)
		return mr_option_no_memory(r);
	int err = mr_config_read_file(path, SET_FILE_BYTES_MAX, &text, &bytes);
	if (err == -EFBIG)
		return mr_option_error(r, raw->file_at, "file", "'%s' is larger than 64 MiB", q.text);
	if (err == -ENOTSUP)
		return mr_option_error(r, raw->file_at, "file", "'%s' is not a regular file", q.text);
	if (err == -ENOMEM)
		return mr_option_no_memory(r);
	if (err) {
		errno = -err;
		return mr_option_error(r, raw->file_at, "file", "'%s' cannot be read: %m", q.text);
	}
	err = mr_set_read_text(r->arena, text, bytes, path, set, r->e);
	free(text);
	return err;
}

int mr_set_read_all(struct mr_reader *r, struct mr_config *c, const struct mr_config_set_raw *raw, uint32_t cnt)
{
	c->sets = mr_arena_array(r->arena, cnt, sizeof(*c->sets));
	if (!c->sets)
		return mr_option_no_memory(r);
	for (uint32_t i = 0; i < cnt; i++) {
		struct mr_config_set *set = &c->sets[i];
		*set = (struct mr_config_set){
			.name = raw[i].name, .at = raw[i].at, .type = raw[i].type, .file = raw[i].file
		};
		set->prefixes.set = set->name;
		set->ports.set = set->name;
		size_t mark = mr_option_enter(r, "sets.%s", set->name);
		int err = 0;
		if (!raw[i].file && !raw[i].has_entries)
			err = mr_option_error(r, raw[i].at, NULL, "a set of nothing (want file: or entries:)");
		if (!err)
			err = read_inline(r, &raw[i].entries, set);
		if (!err && raw[i].file)
			err = read_file(r, c, &raw[i], set);
		if (err)
			return err;
		mr_set_finish(set);
		mr_option_leave(r, mark);
		c->set_cnt++;
	}
	return 0;
}
