/* SPDX-License-Identifier: BSD-2-Clause */
/* list.c - scalars and sequences of scalars into lists; $name of a set stands for its items. */
#include "core/config.h"
#include "core/option.h"
#include "core/value.h"
#include "kern/abi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONTROLS                                                                                           \
	"\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18" \
	"\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f"
#define CORE_MAX  1023
#define ITEMS_MAX ((size_t)16 << 20) /* a set named again and again must not eat the memory */

static int bad_item(struct mr_reader *r, const struct mr_node *n, const struct mr_option *o, const char *noun)
{
	char want[256];
	mr_option_want(o, want, sizeof(want));
	if (n->kind == MR_NODE_SCALAR)
		return mr_option_error(
			r, n->at, o->key, "'%s' is not %s (want %s)", mr_node_quote(n->text).text, noun, want);
	if (n->kind == MR_NODE_MAPPING && n->child && mr_node_like_ipv6(n->child->key))
		return mr_option_error(r, n->at, o->key,
			"'%s' looks like an IPv6 address that YAML takes apart (write it in quotes, \"2001:db8::/32\")",
			mr_node_quote(n->child->key).text);
	return mr_option_error(r, n->at, o->key, "%s is not %s (want %s)", mr_node_kind_name(n), noun, want);
}

static int too_many(struct mr_reader *r, const struct mr_node *list, const struct mr_option *o)
{
	return mr_option_error(
		r, list->at, o->key, "more than %zu items, those of its sets included (want fewer)", ITEMS_MAX);
}

/* The items of a list: the scalar itself, or the children. */
static const struct mr_node *first_item(const struct mr_node *n)
{
	return n->kind == MR_NODE_SCALAR ? n : n->child;
}

static const struct mr_node *next_item(const struct mr_node *list, const struct mr_node *item)
{
	return list == item ? NULL : item->next;
}

static uint32_t item_cnt(const struct mr_node *n)
{
	return n->kind == MR_NODE_SCALAR ? 1 : n->child_cnt;
}

static int by_lo(const void *a, const void *b)
{
	const struct mr_range *x = a, *y = b;
	return x->lo < y->lo ? -1 : x->lo > y->lo;
}

void mr_list_merge(struct mr_range *items, uint32_t *cnt)
{
	uint32_t n = 0;
	if (*cnt == 0)
		return;
	qsort(items, *cnt, sizeof(*items), by_lo);
	for (uint32_t i = 1; i < *cnt; i++) {
		if (items[i].lo <= items[n].hi || items[i].lo == items[n].hi + 1) {
			if (items[i].hi > items[n].hi)
				items[n].hi = items[i].hi;
		} else {
			items[++n] = items[i];
		}
	}
	*cnt = n + 1;
}

static int find_set(struct mr_reader *r, const struct mr_node *n, const struct mr_option *o, int type,
	const struct mr_config_set **out)
{
	static const char *const nouns[] = { "prefixes", "ports" };
	const char *name = n->text + 1;
	struct mr_quoted q = mr_node_quote(n->text);
	const struct mr_config_set *s = r->find_set ? r->find_set(r->ctx, name) : NULL;
	if (!s)
		return mr_option_error(
			r, n->at, o->key, "'%s' is not a set (want the name of one under sets:)", q.text);
	if (s->type != type)
		return mr_option_error(r, n->at, o->key, "'%s' is a set of %s (want a set of %s)", q.text,
			nouns[s->type], nouns[type]);
	*out = s;
	return 0;
}

static int read_prefix_item(
	struct mr_reader *r, const struct mr_node *n, const struct mr_option *o, struct mr_prefix *out)
{
	uint8_t family;
	const char *why;
	if (n->kind != MR_NODE_SCALAR)
		return bad_item(r, n, o, "an IP prefix");
	if (mr_value_prefix(n->text, out, &family, &why))
		return 0;
	const char *noun = family == 4 ? "an IPv4 prefix" : family == 6 ? "an IPv6 prefix" : "an IP prefix";
	if (!why)
		return bad_item(r, n, o, noun);
	return mr_option_error(r, n->at, o->key, "'%s' is not %s (%s)", mr_node_quote(n->text).text, noun, why);
}

static int read_prefixes(
	struct mr_reader *r, const struct mr_node *list, const struct mr_option *o, struct mr_prefix_list *out)
{
	const struct mr_config_set *set = NULL;
	size_t total = 0;
	for (const struct mr_node *n = first_item(list); n; n = next_item(list, n)) {
		total++;
		if (n->kind != MR_NODE_SCALAR || n->text[0] != '$')
			continue;
		int err = find_set(r, n, o, MR_SET_PREFIX, &set);
		if (err)
			return err;
		if (!out->set)
			out->set = set->name;
		total += set->prefixes.cnt;
	}
	if (set && item_cnt(list) == 1) { /* shared, not copied: it may hold a million */
		out->items = set->prefixes.items;
		out->cnt = set->prefixes.cnt;
		return 0;
	}
	if (total > ITEMS_MAX)
		return too_many(r, list, o);
	out->items = mr_arena_array(r->arena, total, sizeof(*out->items));
	if (!out->items)
		return mr_option_no_memory(r);
	for (const struct mr_node *n = first_item(list); n; n = next_item(list, n)) {
		if (n->kind == MR_NODE_SCALAR && n->text[0] == '$') {
			set = r->find_set(r->ctx, n->text + 1);
			if (set->prefixes.cnt)
				memcpy(out->items + out->cnt, set->prefixes.items,
					set->prefixes.cnt * sizeof(*out->items));
			out->cnt += set->prefixes.cnt;
			continue;
		}
		int err = read_prefix_item(r, n, o, &out->items[out->cnt]);
		if (err)
			return err;
		out->cnt++;
	}
	return 0;
}

static bool range_of(const struct mr_option *o, const char *text, struct mr_range *out)
{
	switch (o->type) {
	case MR_TYPE_PORT_LIST:
		return mr_value_range(text, 0, 65535, out);
	case MR_TYPE_PROTO_LIST:
		return mr_value_proto(text, out);
	case MR_TYPE_ETHERTYPE_LIST:
		return mr_value_ethertype(text, out);
	case MR_TYPE_CORES:
		return mr_value_range(text, 0, CORE_MAX, out);
	case MR_TYPE_QUEUES:
		return mr_value_range(text, 0, MR_MAX_QUEUES - 1, out);
	default:
		return mr_value_range(text, o->min, o->max && o->max < UINT32_MAX ? o->max : UINT32_MAX, out);
	}
}

static const char *range_noun(enum mr_option_type t)
{
	switch (t) {
	case MR_TYPE_PORT_LIST:
		return "a port or a range of ports";
	case MR_TYPE_PROTO_LIST:
		return "an IP protocol";
	case MR_TYPE_ETHERTYPE_LIST:
		return "an Ethernet type";
	case MR_TYPE_CORES:
		return "a CPU core or a range of cores";
	case MR_TYPE_QUEUES:
		return "a queue or a range of queues";
	default:
		return "a number or range within the limits";
	}
}

static int refuse_repeated_cores(
	struct mr_reader *r, const struct mr_node *list, const struct mr_option *o, const struct mr_range_list *l)
{
	bool taken[CORE_MAX + 1] = { 0 };
	for (uint32_t i = 0; i < l->cnt; i++)
		for (uint32_t c = l->items[i].lo; c <= l->items[i].hi; c++) {
			if (taken[c])
				return mr_option_error(
					r, list->at, o->key, "core %u is named twice (want each core once)", c);
			taken[c] = true;
		}
	return 0;
}

static int read_ranges(
	struct mr_reader *r, const struct mr_node *list, const struct mr_option *o, struct mr_range_list *out)
{
	const struct mr_config_set *set = NULL;
	size_t total = 0;
	for (const struct mr_node *n = first_item(list); n; n = next_item(list, n)) {
		total++;
		if (o->type != MR_TYPE_PORT_LIST || n->kind != MR_NODE_SCALAR || n->text[0] != '$')
			continue;
		int err = find_set(r, n, o, MR_SET_PORT, &set);
		if (err)
			return err;
		if (!out->set)
			out->set = set->name;
		total += set->ports.cnt;
	}
	if (total > ITEMS_MAX)
		return too_many(r, list, o);
	out->items = mr_arena_array(r->arena, total, sizeof(*out->items));
	if (!out->items)
		return mr_option_no_memory(r);
	for (const struct mr_node *n = first_item(list); n; n = next_item(list, n)) {
		if (set && n->kind == MR_NODE_SCALAR && n->text[0] == '$') {
			const struct mr_config_set *s = r->find_set(r->ctx, n->text + 1);
			if (s->ports.cnt)
				memcpy(out->items + out->cnt, s->ports.items, s->ports.cnt * sizeof(*out->items));
			out->cnt += s->ports.cnt;
			continue;
		}
		if (n->kind != MR_NODE_SCALAR || !range_of(o, n->text, &out->items[out->cnt]))
			return bad_item(r, n, o, range_noun(o->type));
		out->cnt++;
	}
	if (o->type == MR_TYPE_CORES)
		return refuse_repeated_cores(r, list, o, out);
	mr_list_merge(out->items, &out->cnt);
	return 0;
}

static int read_queues(
	struct mr_reader *r, const struct mr_node *list, const struct mr_option *o, struct mr_range_list *out)
{
	uint64_t cnt;
	if (list->kind != MR_NODE_SCALAR || strchr(list->text, '-'))
		return read_ranges(r, list, o, out);
	if (strcmp(list->text, "all") == 0)
		return 0;
	if (!mr_value_uint(list->text, &cnt) || cnt == 0 || cnt > MR_MAX_QUEUES)
		return bad_item(r, list, o, "a number of queues");
	out->items = mr_arena_array(r->arena, 1, sizeof(*out->items));
	if (!out->items)
		return mr_option_no_memory(r);
	out->items[0] = (struct mr_range){ .lo = 0, .hi = (uint32_t)cnt - 1 };
	out->cnt = 1;
	return 0;
}

static int read_icmp(
	struct mr_reader *r, const struct mr_node *list, const struct mr_option *o, struct mr_icmp_list *out)
{
	out->items = mr_arena_array(r->arena, (size_t)item_cnt(list) * 2, sizeof(*out->items));
	if (!out->items)
		return mr_option_no_memory(r);
	for (const struct mr_node *n = first_item(list); n; n = next_item(list, n)) {
		unsigned got = n->kind == MR_NODE_SCALAR ? mr_value_icmp(n->text, out->items + out->cnt) : 0;
		if (!got)
			return bad_item(r, n, o, "an ICMP type");
		out->cnt += got;
	}
	return 0;
}

static int read_strings(
	struct mr_reader *r, const struct mr_node *list, const struct mr_option *o, struct mr_string_list *out)
{
	uint32_t cnt = item_cnt(list);
	out->items = mr_arena_array(r->arena, cnt, sizeof(*out->items));
	out->at = mr_arena_array(r->arena, cnt, sizeof(*out->at));
	if (!out->items || !out->at)
		return mr_option_no_memory(r);
	for (const struct mr_node *n = first_item(list); n; n = next_item(list, n)) {
		if (n->kind != MR_NODE_SCALAR || !*n->text || strpbrk(n->text, CONTROLS))
			return bad_item(r, n, o, "a text of one line");
		out->items[out->cnt] = n->text;
		out->at[out->cnt++] = n->at;
	}
	return 0;
}

int mr_list_read(struct mr_reader *r, const struct mr_node *list, const struct mr_option *o, void *out)
{
	if (list->kind == MR_NODE_SEQUENCE && !list->child && !o->may_be_empty) {
		char want[256];
		return mr_option_error(r, list->at, o->key,
			"an empty list is not taken (leave the key out, or want %s)",
			mr_option_want(o, want, sizeof(want)));
	}
	switch (o->type) {
	case MR_TYPE_PREFIX_LIST:
		((struct mr_prefix_list *)out)->at = list->at;
		return read_prefixes(r, list, o, out);
	case MR_TYPE_ICMP_LIST:
		((struct mr_icmp_list *)out)->at = list->at;
		return read_icmp(r, list, o, out);
	case MR_TYPE_STRING_LIST:
		return read_strings(r, list, o, out);
	case MR_TYPE_QUEUES:
		((struct mr_range_list *)out)->at = list->at;
		return read_queues(r, list, o, out);
	default:
		((struct mr_range_list *)out)->at = list->at;
		return read_ranges(r, list, o, out);
	}
}
