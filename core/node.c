/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define IPV6_HINT                                                                                                 \
	"seems to hold an IPv6 address without quotes, which YAML takes apart (write \"2001:db8::/32\" with the " \
	"quotes)"

struct reader {
	yaml_parser_t parser;
	struct mr_arena *arena;
	const char *name;
	const char *text;
	size_t bytes;
	struct mr_error *e;
	uint32_t node_cnt;
	unsigned depth;
	struct {                 /* where it is, for sentences */
		const char *key; /* NULL: in a sequence */
		uint32_t idx;
	} level[MR_NODE_DEPTH_MAX + 1];
};

static struct mr_position position_of(yaml_mark_t m)
{
	return (struct mr_position){ .line = (uint32_t)m.line + 1, .column = (uint32_t)m.column + 1 };
}

/* "interfaces.wan: ", "" outside of all. */
static void where_text(const struct reader *r, char *buf, size_t bytes)
{
	size_t n = 0;
	buf[0] = 0;
	for (unsigned i = 0; i < r->depth && n < bytes; i++) {
		if (r->level[i].key)
			n += (size_t)snprintf(
				buf + n, bytes - n, "%s%s", n ? "." : "", mr_node_quote(r->level[i].key).text);
		else
			n += (size_t)snprintf(buf + n, bytes - n, "[%u]", r->level[i].idx);
	}
	if (n >= bytes)
		n = bytes - 1;
	if (n)
		snprintf(buf + n, bytes - n, ": ");
}

static int fail(struct reader *r, struct mr_position at, const char *what)
{
	char where[200];
	where_text(r, where, sizeof(where));
	return mr_error_set(r->e, -EINVAL, "%s:%u:%u: %s%s", r->name, at.line, at.column, where, what);
}

/* The bytes of line `line` (from 1), without its end. */
static const char *line_of(const struct reader *r, uint32_t line, size_t *len)
{
	const char *p = r->text, *end = r->text + r->bytes;
	while (line > 1 && p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		if (!nl)
			return NULL;
		p = nl + 1;
		line--;
	}
	const char *nl = memchr(p, '\n', (size_t)(end - p));
	*len = (size_t)((nl ? nl : end) - p);
	return p;
}

static bool hex_or_colon(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || c == ':';
}

bool mr_node_like_ipv6(const char *text)
{
	unsigned colons = 0, digits = 0;
	const char *p = text;
	for (; hex_or_colon(*p) || *p == '.'; p++) {
		colons += *p == ':';
		digits += *p != ':';
	}
	if (*p && *p != '/')
		return false;
	return colons >= 2 || (colons == 1 && digits >= 2 && p > text && p[-1] == ':');
}

/* Is there an unquoted word with "::" or more than two colons in this line? */
static bool line_has_ipv6(const char *line, size_t len)
{
	char quote = 0;
	for (size_t i = 0; i < len; i++) {
		if (quote) {
			if (line[i] == quote)
				quote = 0;
			continue;
		}
		if (line[i] == '"' || line[i] == '\'') {
			quote = line[i];
			continue;
		}
		if (line[i] == '#' && (i == 0 || line[i - 1] == ' '))
			return false;
		if (!hex_or_colon(line[i]) || (i && (hex_or_colon(line[i - 1]) || line[i - 1] == '_')))
			continue;
		unsigned colons = 0;
		bool two = false;
		size_t j = i;
		for (; j < len && hex_or_colon(line[j]); j++) {
			colons += line[j] == ':';
			two |= line[j] == ':' && j > i && line[j - 1] == ':';
		}
		if (two || colons > 2)
			return true;
	}
	return false;
}

static int yaml_failure(struct reader *r)
{
	const yaml_parser_t *p = &r->parser;
	struct mr_position at = position_of(p->problem_mark);
	size_t len = 0;

	if (p->error == YAML_MEMORY_ERROR)
		return mr_error_set(r->e, -ENOMEM, "%s: no memory to read it", r->name);
	for (uint32_t back = 0; back < 2 && at.line > back; back++) {
		const char *line = line_of(r, at.line - back, &len);
		if (line && line_has_ipv6(line, len))
			return mr_error_set(r->e, -EINVAL, "%s:%u:%u: this line " IPV6_HINT, r->name, at.line - back,
				back ? 1 : at.column);
	}
	const char *line = line_of(r, at.line, &len);
	if (line && at.column <= len && memchr(line, '\t', len))
		return mr_error_set(r->e, -EINVAL, "%s:%u:%u: a tab stands in this line where YAML wants spaces",
			r->name, at.line, (uint32_t)((const char *)memchr(line, '\t', len) - line) + 1);
	return mr_error_set(r->e, -EINVAL, "%s:%u:%u: not readable as YAML: %s%s%s%s", r->name, at.line, at.column,
		p->problem ? p->problem : "bad input", p->context ? " (" : "", p->context ? p->context : "",
		p->context ? ")" : "");
}

/* Length of the UTF-8 character at p, 0 when it is none (RFC 3629: no overlong forms, no surrogates, up to U+10FFFF). */
static unsigned utf8_length(const unsigned char *p, size_t left)
{
	unsigned n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
	if (!n || n > left)
		return 0;
	for (unsigned i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
		(p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

int mr_node_check_text(const char *text, size_t bytes, const char *name, struct mr_error *e)
{
	const unsigned char *p = (const unsigned char *)text;
	uint32_t line = 1, column = 1;

	for (size_t i = 0; i < bytes;) {
		unsigned n = utf8_length(p + i, bytes - i);
		if (!n)
			return mr_error_set(e, -EINVAL, "%s:%u:%u: byte 0x%02x is not UTF-8 (save the file as UTF-8)",
				name, line, column, p[i]);
		if ((n == 1 && ((p[i] < 0x20 && p[i] != '\n' && p[i] != '\r' && p[i] != '\t') || p[i] == 0x7f)) ||
			(n == 2 && p[i] == 0xc2 && p[i + 1] < 0xa0 && p[i + 1] != 0x85))
			return mr_error_set(e, -EINVAL,
				"%s:%u:%u: a control character (0x%02x) does not belong in a text file", name, line,
				column, n == 1 ? p[i] : p[i + 1]);
		column++;
		if (p[i] == '\n') {
			line++;
			column = 1;
		}
		i += n;
	}
	return 0;
}

static int check_tabs(struct reader *r)
{
	const char *p = r->text, *end = r->text + r->bytes;
	for (uint32_t line = 1; p < end; line++) {
		const char *start = p;
		while (p < end && *p == ' ')
			p++;
		if (p < end && *p == '\t')
			return mr_error_set(r->e, -EINVAL, "%s:%u:%u: a tab indents this line (YAML wants spaces)",
				r->name, line, (uint32_t)(p - start) + 1);
		p = memchr(p, '\n', (size_t)(end - p));
		if (!p)
			break;
		p++;
	}
	return 0;
}

static int next_event(struct reader *r, yaml_event_t *ev)
{
	return yaml_parser_parse(&r->parser, ev) ? 0 : yaml_failure(r);
}

static int refuse_anchor(struct reader *r, const yaml_event_t *ev)
{
	const yaml_char_t *anchor = NULL, *tag = NULL;
	switch (ev->type) {
	case YAML_ALIAS_EVENT:
		return fail(r, position_of(ev->start_mark),
			"aliases (*name) are not taken: write the value out, or use a set ($name)");
	case YAML_SCALAR_EVENT:
		anchor = ev->data.scalar.anchor;
		tag = ev->data.scalar.tag;
		break;
	case YAML_SEQUENCE_START_EVENT:
		anchor = ev->data.sequence_start.anchor;
		tag = ev->data.sequence_start.tag;
		break;
	case YAML_MAPPING_START_EVENT:
		anchor = ev->data.mapping_start.anchor;
		tag = ev->data.mapping_start.tag;
		break;
	default:
		break;
	}
	if (anchor)
		return fail(r, position_of(ev->start_mark),
			"anchors (&name) are not taken: write the value out, or use a set ($name)");
	if (tag)
		return fail(r, position_of(ev->start_mark),
			"tags (!name) are not taken: write the value in quotes if it begins with !");
	return 0;
}

static struct mr_node *node_create(struct reader *r, const yaml_event_t *ev, int *err)
{
	if (++r->node_cnt > MR_NODE_CNT_MAX) {
		*err = fail(r, position_of(ev->start_mark),
			"more than two million values (keep large sets in files of their own)");
		return NULL;
	}
	struct mr_node *n = mr_arena_alloc(r->arena, sizeof(*n));
	if (!n) {
		*err = mr_error_set(r->e, -ENOMEM, "%s: no memory to read it", r->name);
		return NULL;
	}
	n->at = position_of(ev->start_mark);
	return n;
}

static int scalar_text(struct reader *r, const yaml_event_t *ev, const char **out)
{
	if (memchr(ev->data.scalar.value, 0, ev->data.scalar.length))
		return fail(r, position_of(ev->start_mark), "a text with a NUL character in it is not taken");
	*out = mr_arena_text(r->arena, (const char *)ev->data.scalar.value, ev->data.scalar.length);
	return *out ? 0 : mr_error_set(r->e, -ENOMEM, "%s: no memory to read it", r->name);
}

static int by_key(const void *a, const void *b)
{
	const struct mr_node *x = *(const struct mr_node *const *)a, *y = *(const struct mr_node *const *)b;
	int c = strcmp(x->key, y->key);
	if (c)
		return c;
	if (x->key_at.line != y->key_at.line)
		return x->key_at.line < y->key_at.line ? -1 : 1;
	return x->key_at.column < y->key_at.column ? -1 : x->key_at.column > y->key_at.column;
}

/* Sorted, because a mapping may have a million keys. */
static int check_duplicates(struct reader *r, const struct mr_node *mapping)
{
	if (mapping->child_cnt < 2)
		return 0;
	const struct mr_node **sorted = malloc(mapping->child_cnt * sizeof(*sorted)), *twice = NULL;
	if (!sorted)
		return mr_error_set(r->e, -ENOMEM, "%s: no memory to read it", r->name);
	uint32_t n = 0, first = 0;
	for (const struct mr_node *c = mapping->child; c; c = c->next)
		sorted[n++] = c;
	qsort(sorted, n, sizeof(*sorted), by_key);
	for (uint32_t i = 1; i < n; i++) {
		if (strcmp(sorted[i - 1]->key, sorted[i]->key) == 0) {
			twice = sorted[i];
			first = sorted[i - 1]->key_at.line;
			break;
		}
	}
	free(sorted);
	if (!twice)
		return 0;
	char what[128];
	snprintf(what, sizeof(what), "the key '%s' is given twice (first in line %u)", mr_node_quote(twice->key).text,
		first);
	return fail(r, twice->key_at, what);
}

static int read_value(struct reader *r, yaml_event_t *ev, unsigned depth, struct mr_node **out);

/* Children up to the end event.  `ev` is the reader's; events read here are deleted here. */
static int read_children(struct reader *r, struct mr_node *parent, unsigned depth)
{
	struct mr_node **tail = &parent->child;
	bool mapping = parent->kind == MR_NODE_MAPPING;
	yaml_event_type_t end = mapping ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT;

	for (;;) {
		yaml_event_t ev;
		const char *key = NULL;
		struct mr_position key_at = { 0 };
		int err = next_event(r, &ev);
		if (err)
			return err;
		if (ev.type == end) {
			yaml_event_delete(&ev);
			return mapping ? check_duplicates(r, parent) : 0;
		}
		if (mapping) {
			key_at = position_of(ev.start_mark);
			err = refuse_anchor(r, &ev);
			if (!err)
				err = ev.type == YAML_SCALAR_EVENT
					? scalar_text(r, &ev, &key)
					: fail(r, key_at, "a key must be a word, not a list or a mapping");
			yaml_event_delete(&ev);
			if (!err)
				err = next_event(r, &ev);
			if (err)
				return err;
		}
		r->level[depth - 1].key = key;
		r->level[depth - 1].idx = parent->child_cnt;
		r->depth = depth;
		err = read_value(r, &ev, depth, tail);
		r->depth = depth - 1;
		yaml_event_delete(&ev);
		if (err)
			return err;
		(*tail)->key = key;
		(*tail)->key_at = key_at;
		tail = &(*tail)->next;
		parent->child_cnt++;
	}
}

static int read_value(struct reader *r, yaml_event_t *ev, unsigned depth, struct mr_node **out)
{
	int err = refuse_anchor(r, ev);
	if (err)
		return err;
	struct mr_node *n = node_create(r, ev, &err);
	if (!n)
		return err;
	switch (ev->type) {
	case YAML_SCALAR_EVENT:
		n->kind = MR_NODE_SCALAR;
		n->quoted = ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
		err = scalar_text(r, ev, &n->text);
		break;
	case YAML_SEQUENCE_START_EVENT:
	case YAML_MAPPING_START_EVENT:
		n->kind = ev->type == YAML_SEQUENCE_START_EVENT ? MR_NODE_SEQUENCE : MR_NODE_MAPPING;
		if (depth + 1 > MR_NODE_DEPTH_MAX)
			err = fail(r, n->at, "nested deeper than 32 levels");
		else
			err = read_children(r, n, depth + 1);
		break;
	default:
		err = fail(r, n->at, "not readable as YAML: a value is missing");
	}
	if (!err)
		*out = n;
	return err;
}

/* stream start, document start, value, document end, stream end */
static int read_stream(struct reader *r, struct mr_node **out)
{
	yaml_event_t ev;
	struct mr_node *root = NULL;
	for (;;) {
		int err = next_event(r, &ev);
		if (err)
			return err;
		yaml_event_type_t type = ev.type;
		struct mr_position at = position_of(ev.start_mark);
		if (type == YAML_DOCUMENT_START_EVENT && root)
			err = fail(r, at, "a second document begins here (one file holds one configuration)");
		else if (type != YAML_STREAM_START_EVENT && type != YAML_STREAM_END_EVENT &&
			type != YAML_DOCUMENT_START_EVENT && type != YAML_DOCUMENT_END_EVENT && type != YAML_NO_EVENT)
			err = read_value(r, &ev, 0, &root);
		yaml_event_delete(&ev);
		if (err)
			return err;
		if (type == YAML_STREAM_END_EVENT || type == YAML_NO_EVENT)
			break;
	}
	if (!root)
		return fail(r, (struct mr_position){ 1, 1 }, "the file is empty (want at least: version: 1)");
	*out = root;
	return 0;
}

int mr_node_read(
	const char *text, size_t bytes, const char *name, struct mr_arena *a, struct mr_node **out, struct mr_error *e)
{
	struct reader r = { .arena = a, .name = name, .text = text, .bytes = bytes, .e = e };
	if (bytes > MR_NODE_FILE_BYTES_MAX)
		return mr_error_set(e, -EINVAL, "%s: larger than 16 MiB (keep large sets in files of their own)", name);
	int err = mr_node_check_text(text, bytes, name, e);
	if (!err)
		err = check_tabs(&r);
	if (err)
		return err;
	if (!yaml_parser_initialize(&r.parser))
		return mr_error_set(e, -ENOMEM, "%s: no memory to read it", name);
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, bytes);
	err = read_stream(&r, out);
	yaml_parser_delete(&r.parser);
	return err;
}

const struct mr_node *mr_node_find(const struct mr_node *mapping, const char *key)
{
	if (!mapping || mapping->kind != MR_NODE_MAPPING)
		return NULL;
	for (const struct mr_node *c = mapping->child; c; c = c->next)
		if (strcmp(c->key, key) == 0)
			return c;
	return NULL;
}

const char *mr_node_kind_name(const struct mr_node *n)
{
	return n->kind == MR_NODE_MAPPING ? "a mapping" : n->kind == MR_NODE_SEQUENCE ? "a list" : "a value";
}

bool mr_node_is_empty(const struct mr_node *n)
{
	return n->kind == MR_NODE_SCALAR && !n->quoted &&
		(!*n->text || strcmp(n->text, "~") == 0 || strcmp(n->text, "null") == 0);
}

struct mr_quoted mr_node_quote(const char *text)
{
	struct mr_quoted q;
	size_t n = 0;
	for (const unsigned char *p = (const unsigned char *)text; *p;) {
		unsigned len = utf8_length(p, strnlen((const char *)p, 4));
		if (!len)
			len = 1;
		if (n + len > sizeof(q.text) - 4) {
			memcpy(q.text + n, "...", 3);
			n += 3;
			break;
		}
		if (*p < 0x20 || *p == 0x7f || (len == 1 && *p >= 0x80))
			q.text[n++] = '?';
		else
			for (unsigned i = 0; i < len; i++)
				q.text[n++] = (char)p[i];
		p += len;
	}
	q.text[n] = 0;
	return q;
}
