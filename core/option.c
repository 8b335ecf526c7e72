/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/option.h"

#include "core/value.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

size_t mr_option_enter(struct mr_reader *r, const char *fmt, ...)
{
	size_t mark = strlen(r->where);
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(r->where + mark, sizeof(r->where) - mark, fmt, ap);
	va_end(ap);
	return mark;
}

void mr_option_leave(struct mr_reader *r, size_t mark)
{
	r->where[mark] = 0;
}

/* One level down, by key. */
static size_t enter_key(struct mr_reader *r, const char *key)
{
	return mr_option_enter(r, "%s%s", r->where[0] ? "." : "", mr_node_quote(key).text);
}

int mr_option_error(struct mr_reader *r, struct mr_position at, const char *key, const char *fmt, ...)
{
	char what[MR_ERROR_BYTES];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	const char *dot = key && r->where[0] ? "." : "", *colon = key || r->where[0] ? ": " : "";
	return mr_error_set(r->e, -EINVAL, "%s:%u:%u: %s%s%s%s%s", r->path, at.line, at.column, r->where, dot,
		key ? key : "", colon, what);
}

int mr_option_no_memory(struct mr_reader *r)
{
	return mr_error_set(r->e, -ENOMEM, "%s: no memory to read it", r->path);
}

#define TABLE_KEYS_MAX 64

/* "(did you mean 'mode'?)", or all keys there are. */
static void suggest(const struct mr_option *table, const char *key, char *buf, size_t bytes)
{
	const char *words[TABLE_KEYS_MAX];
	unsigned cnt = 0;
	size_t n = 0;
	for (const struct mr_option *o = table; o->key && cnt < TABLE_KEYS_MAX; o++)
		words[cnt++] = o->key;
	const char *near = mr_value_nearest(key, words, cnt);
	if (near) {
		snprintf(buf, bytes, "did you mean '%s'?", near);
		return;
	}
	buf[0] = 0;
	for (unsigned i = 0; i < cnt && n < bytes; i++)
		n += (size_t)snprintf(buf + n, bytes - n, "%s%s", i ? ", " : "known: ", words[i]);
}

/* A mapping where something else belongs, made by YAML out of `fe80::`. */
static bool is_mangled_ipv6(const struct mr_node *n)
{
	return n->kind == MR_NODE_MAPPING && n->child && mr_node_like_ipv6(n->child->key);
}

static int mangled_ipv6(struct mr_reader *r, const struct mr_node *n, const char *key)
{
	return mr_option_error(r, n->at, key,
		"'%s' looks like an IPv6 address that YAML takes apart (write it in quotes, \"2001:db8::/32\")",
		mr_node_quote(n->child->key).text);
}

static int wrong_kind(struct mr_reader *r, const struct mr_node *n, const struct mr_option *o, const char *noun)
{
	char want[256];
	if (is_mangled_ipv6(n))
		return mangled_ipv6(r, n, o->key);
	mr_option_want(o, want, sizeof(want));
	if (mr_node_is_empty(n))
		return mr_option_error(r, n->at, o->key, "nothing is not %s (want %s)", noun, want);
	if (n->kind == MR_NODE_SCALAR)
		return mr_option_error(
			r, n->at, o->key, "'%s' is not %s (want %s)", mr_node_quote(n->text).text, noun, want);
	return mr_option_error(r, n->at, o->key, "%s is not %s (want %s)", mr_node_kind_name(n), noun, want);
}

int mr_option_check_keys(struct mr_reader *r, const struct mr_node *node, const struct mr_option *table)
{
	if (node->kind != MR_NODE_MAPPING)
		return mr_option_error(r, node->at, NULL, "%s%s%s is not a mapping (want { key: value, ... })",
			node->kind == MR_NODE_SCALAR ? "'" : "",
			node->kind == MR_NODE_SCALAR ? mr_node_quote(node->text).text : mr_node_kind_name(node),
			node->kind == MR_NODE_SCALAR ? "'" : "");
	for (const struct mr_node *c = node->child; c; c = c->next) {
		const struct mr_option *o = table;
		char hint[256];
		if (r->skip_key && strcmp(c->key, r->skip_key) == 0)
			continue;
		while (o->key && strcmp(o->key, c->key) != 0)
			o++;
		if (o->key)
			continue;
		if (is_mangled_ipv6(node) && c == node->child)
			return mangled_ipv6(r, node, NULL);
		suggest(table, c->key, hint, sizeof(hint));
		struct mr_quoted q = mr_node_quote(c->key);
		return mr_option_error(r, c->key_at, q.text, "'%s' is not a known key (%s)", q.text, hint);
	}
	return 0;
}

static int read_number(struct mr_reader *r, const struct mr_node *n, const struct mr_option *o, uint64_t *out)
{
	char want[256];
	uint64_t v;
	if (o->values && !strcmp(n->text, o->values[0])) {
		*out = 0;
		return 0;
	}
	bool ok = o->type == MR_TYPE_UINT     ? mr_value_uint(n->text, &v)
		: o->type == MR_TYPE_BYTES    ? mr_value_bytes(n->text, &v)
		: o->type == MR_TYPE_DURATION ? mr_value_duration(n->text, &v)
					      : mr_value_rate(n->text, o->unit, &v);
	if (!ok)
		return wrong_kind(r, n, o, mr_option_noun(o->type));
	mr_option_want(o, want, sizeof(want));
	if (v < o->min || (o->max && v > o->max))
		return mr_option_error(
			r, n->at, o->key, "'%s' is not in range (want %s)", mr_node_quote(n->text).text, want);
	if (o->power_of_two && (v == 0 || (v & (v - 1))))
		return mr_option_error(
			r, n->at, o->key, "'%s' is not a power of two (want %s)", mr_node_quote(n->text).text, want);
	*out = v;
	return 0;
}

static int read_enum(struct mr_reader *r, const struct mr_node *n, const struct mr_option *o, int *out)
{
	char list[256] = "";
	size_t len = 0;
	unsigned cnt = 0;
	for (; o->values[cnt]; cnt++) {
		if (strcmp(o->values[cnt], n->text) == 0) {
			*out = (int)cnt;
			return 0;
		}
		if (len < sizeof(list))
			len += (size_t)snprintf(
				list + len, sizeof(list) - len, "%s%s", cnt ? ", " : "", o->values[cnt]);
	}
	const char *near = mr_value_nearest(n->text, o->values, cnt);
	struct mr_quoted q = mr_node_quote(n->text);
	if (near)
		return mr_option_error(
			r, n->at, o->key, "'%s' is not one of %s (did you mean '%s'?)", q.text, list, near);
	return mr_option_error(
		r, n->at, o->key, "'%s' is not one of the words known here (want one of %s)", q.text, list);
}

static int read_prefix(struct mr_reader *r, const struct mr_node *n, const struct mr_option *o, struct mr_prefix *out)
{
	struct mr_prefix p;
	uint8_t family;
	const char *why, *noun = o->type == MR_TYPE_ADDRESS ? "address" : "prefix";
	struct mr_quoted q = mr_node_quote(n->text);
	if (!mr_value_prefix(n->text, &p, &family, &why)) {
		char want[256];
		mr_option_want(o, want, sizeof(want));
		return mr_option_error(r, n->at, o->key, "'%s' is not an IP%s %s (%s%s)", q.text,
			family == 4           ? "v4"
				: family == 6 ? "v6"
					      : "",
			noun, why ? "" : "want ", why ? why : want);
	}
	if (o->type == MR_TYPE_ADDRESS && strchr(n->text, '/'))
		return mr_option_error(
			r, n->at, o->key, "'%s' is not an address but a prefix (leave out the length)", q.text);
	*out = p;
	return 0;
}

static int read_string(struct mr_reader *r, const struct mr_node *n, const struct mr_option *o, const char **out)
{
	size_t len = strlen(n->text), max = o->max ? o->max : 4095;
	struct mr_quoted q = mr_node_quote(n->text);
	if (o->type == MR_TYPE_NAME && !mr_value_name(n->text))
		return mr_option_error(
			r, n->at, o->key, "'%s' is not a name (want letters, digits, - and _, at most 32)", q.text);
	if (len == 0)
		return mr_option_error(r, n->at, o->key, "'' is not a text (want at least one character)");
	if (len < o->min || len > max)
		return mr_option_error(r, n->at, o->key, "'%s' is too %s (want %llu to %zu bytes)", q.text,
			len > max ? "long" : "short", (unsigned long long)(o->min ? o->min : 1), max);
	for (const unsigned char *p = (const unsigned char *)n->text; *p; p++)
		if (*p < 0x20 || *p == 0x7f)
			return mr_option_error(r, n->at, o->key,
				"'%s' has a control character or line break in it (want one line of text)", q.text);
	*out = n->text;
	return 0;
}

static int read_scalar(struct mr_reader *r, const struct mr_node *n, const struct mr_option *o, void *out)
{
	if (n->kind != MR_NODE_SCALAR || mr_node_is_empty(n))
		return wrong_kind(r, n, o, mr_option_noun(o->type));
	switch (o->type) {
	case MR_TYPE_BOOL:
		return mr_value_bool(n->text, out) ? 0 : wrong_kind(r, n, o, mr_option_noun(o->type));
	case MR_TYPE_TCP_FLAGS:
		return mr_value_tcp_flags(n->text, out) ? 0 : wrong_kind(r, n, o, mr_option_noun(o->type));
	case MR_TYPE_ENUM:
		return read_enum(r, n, o, out);
	case MR_TYPE_PREFIX:
	case MR_TYPE_ADDRESS:
		return read_prefix(r, n, o, out);
	case MR_TYPE_STRING:
	case MR_TYPE_NAME:
		return read_string(r, n, o, out);
	default:
		return read_number(r, n, o, out);
	}
}

static int list_word(const struct mr_option *o, const struct mr_node *n)
{
	if (o->type != MR_TYPE_LIST || !o->values || n->kind != MR_NODE_SCALAR)
		return 0;
	for (int i = 0; o->values[i]; i++)
		if (strcmp(o->values[i], n->text) == 0)
			return i + 1;
	return 0;
}

static int read_element(
	struct mr_reader *r, const struct mr_node *c, const struct mr_option *o, void *element, uint32_t idx)
{
	bool keyed = o->type == MR_TYPE_MAP;
	if (keyed && !mr_value_name(c->key))
		return mr_option_error(r, c->key_at, o->key,
			"'%s' is not a name (want letters, digits, - and _, at most 32)", mr_node_quote(c->key).text);
	size_t mark = enter_key(r, o->key);
	if (keyed)
		enter_key(r, c->key);
	else
		mr_option_enter(r, "[%u]", idx);
	if (o->at_offset)
		*(struct mr_position *)((char *)element + o->at_offset) = keyed ? c->key_at : c->at;
	if (keyed)
		*(const char **)element = c->key;
	int err = mr_option_read(r, c, o->table, element);
	mr_option_leave(r, mark);
	return err;
}

static int read_objects(
	struct mr_reader *r, const struct mr_node *n, const struct mr_option *o, struct mr_object_list *out)
{
	enum mr_node_kind kind = o->type == MR_TYPE_MAP ? MR_NODE_MAPPING : MR_NODE_SEQUENCE;
	int word = list_word(o, n);
	if (word) {
		out->word = (uint32_t)word;
		return 0;
	}
	if (o->type == MR_TYPE_MAP && mr_node_is_empty(n)) /* `sets:` with every entry commented out */
		return 0;
	if (n->kind != kind)
		return wrong_kind(r, n, o, mr_option_noun(o->type));
	if (o->max && n->child_cnt > o->max)
		return mr_option_error(r, n->at, o->key, "%u entries are too many (want at most %llu)", n->child_cnt,
			(unsigned long long)o->max);
	char *items = mr_arena_array(r->arena, n->child_cnt, o->element_bytes);
	out->at = mr_arena_array(r->arena, n->child_cnt, sizeof(*out->at));
	if (!items || !out->at)
		return mr_option_no_memory(r);
	uint32_t i = 0;
	for (const struct mr_node *c = n->child; c; c = c->next, i++) {
		int err = read_element(r, c, o, items + (size_t)i * o->element_bytes, i);
		if (err)
			return err;
		out->at[i] = o->type == MR_TYPE_MAP ? c->key_at : c->at;
	}
	out->items = items;
	out->cnt = i;
	return 0;
}

/* An object: its own mapping, or all its defaults (n NULL or empty). */
static int read_object(struct mr_reader *r, const struct mr_node *n, const struct mr_option *o, void *out)
{
	size_t mark = enter_key(r, o->key);
	const char *skip = r->skip_key;
	int err = 0;
	if (n && !mr_node_is_empty(n)) {
		err = mr_option_read(r, n, o->table, out);
	} else {
		r->skip_key = NULL;
		for (const struct mr_option *t = o->table; t->key && !err; t++)
			err = mr_option_read_key(r, NULL, t, out);
		r->skip_key = skip;
	}
	mr_option_leave(r, mark);
	return err;
}

static int read_value(struct mr_reader *r, const struct mr_node *n, const struct mr_option *o, void *out)
{
	switch (o->type) {
	case MR_TYPE_OBJECT:
		return read_object(r, n, o, out);
	case MR_TYPE_LIST:
	case MR_TYPE_MAP:
		return read_objects(r, n, o, out);
	case MR_TYPE_NODE:
		*(const struct mr_node **)out = n;
		return 0;
	case MR_TYPE_PREFIX_LIST:
	case MR_TYPE_PORT_LIST:
	case MR_TYPE_PROTO_LIST:
	case MR_TYPE_ICMP_LIST:
	case MR_TYPE_ETHERTYPE_LIST:
	case MR_TYPE_UINT_LIST:
	case MR_TYPE_CORES:
	case MR_TYPE_STRING_LIST:
	case MR_TYPE_QUEUES:
		if (n->kind == MR_NODE_MAPPING || mr_node_is_empty(n))
			return wrong_kind(r, n, o, mr_option_noun(o->type));
		return mr_list_read(r, n, o, out);
	default:
		return read_scalar(r, n, o, out);
	}
}

int mr_option_read_key(struct mr_reader *r, const struct mr_node *node, const struct mr_option *o, void *out)
{
	const struct mr_node *n = mr_node_find(node, o->key);
	void *field = (char *)out + o->offset;
	if (n) {
		if (o->seen_offset)
			*(bool *)((char *)out + o->seen_offset) = true;
		if (o->at_offset && o->type != MR_TYPE_LIST && o->type != MR_TYPE_MAP)
			*(struct mr_position *)((char *)out + o->at_offset) = n->at;
		return read_value(r, n, o, field);
	}
	if (node && o->required) {
		char want[256];
		return mr_option_error(r, node->at, o->key, "the key '%s' is missing (want %s)", o->key,
			mr_option_want(o, want, sizeof(want)));
	}
	if (o->type == MR_TYPE_OBJECT)
		return read_object(r, NULL, o, field);
	if (!o->fallback)
		return 0;
	struct mr_node word = { .kind = MR_NODE_SCALAR, .quoted = true, .text = o->fallback };
	return read_value(r, &word, o, field);
}

int mr_option_read(struct mr_reader *r, const struct mr_node *node, const struct mr_option *table, void *out)
{
	int err = mr_option_check_keys(r, node, table);
	const char *skip = r->skip_key;
	r->skip_key = NULL;
	for (const struct mr_option *o = table; o->key && !err; o++)
		err = mr_option_read_key(r, node, o, out);
	r->skip_key = skip;
	return err;
}
