/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/diff.h"

#include "core/node.h"

#include <stdio.h>
#include <string.h>

#define PATH_BYTES 512

static const char *text_of(const struct mr_node *n)
{
	return n->kind == MR_NODE_SCALAR ? n->text : n->kind == MR_NODE_SEQUENCE ? "[ ... ]" : "{ ... }";
}

static void tell(json_t *out, const char *path, const struct mr_node *from, const struct mr_node *to)
{
	json_t *o = json_pack("{s:s, s:s, s:i}", "path", path, "change",
		!from         ? "added"
			: !to ? "removed"
			      : "changed",
		"line", (int)(to ? to : from)->at.line);
	if (from)
		json_object_set_new(o, "from", json_string(text_of(from)));
	if (to)
		json_object_set_new(o, "to", json_string(text_of(to)));
	json_array_append_new(out, o);
}

static void compare(json_t *out, const char *path, const struct mr_node *from, const struct mr_node *to);

/* The name of a list element that has one. */
static const char *name_of(const struct mr_node *element)
{
	const struct mr_node *name = element->kind == MR_NODE_MAPPING ? mr_node_find(element, "name") : NULL;
	return name && name->kind == MR_NODE_SCALAR ? name->text : NULL;
}

/* The idx-th element that has no name. */
static const struct mr_node *nameless_at(const struct mr_node *list, unsigned idx)
{
	for (const struct mr_node *n = list->child; n; n = n->next)
		if (!name_of(n) && !idx--)
			return n;
	return NULL;
}

/* The partner of a child: by key, by name, or by place among those without a name. */
static const struct mr_node *partner(const struct mr_node *of, const struct mr_node *child, unsigned nameless_idx)
{
	if (child->key)
		return mr_node_find(of, child->key);
	const char *name = name_of(child);
	if (!name)
		return nameless_at(of, nameless_idx);
	for (const struct mr_node *n = of->child; n; n = n->next)
		if (name_of(n) && !strcmp(name_of(n), name))
			return n;
	return NULL;
}

static void child_path(char *out, const char *path, const struct mr_node *child, unsigned idx)
{
	if (child->key)
		snprintf(out, PATH_BYTES, "%.400s%s%.100s", path, path[0] ? "." : "", child->key);
	else if (name_of(child))
		snprintf(out, PATH_BYTES, "%.400s[%.100s]", path, name_of(child));
	else
		snprintf(out, PATH_BYTES, "%.400s[%u]", path, idx);
}

/* Where a named element stands matters in a list: first match wins. */
static void compare_order(json_t *out, const char *path, const struct mr_node *from, const struct mr_node *to)
{
	const struct mr_node *a = from->child;
	for (const struct mr_node *b = to->child; b; b = b->next) {
		if (!name_of(b) || !partner(from, b, 0))
			continue;
		while (a && (!name_of(a) || !partner(to, a, 0)))
			a = a->next;
		if (a && strcmp(name_of(a), name_of(b))) {
			json_array_append_new(out,
				json_pack("{s:s, s:s, s:i, s:s, s:s}", "path", path, "change", "changed", "line",
					(int)b->at.line, "from", "another order", "to", "another order"));
			return;
		}
		a = a ? a->next : NULL;
	}
}

static void compare_children(json_t *out, const char *path, const struct mr_node *from, const struct mr_node *to)
{
	char below[PATH_BYTES];
	unsigned idx = 0, nameless = 0;
	for (const struct mr_node *n = from->child; n; nameless += !name_of(n), n = n->next, idx++) {
		child_path(below, path, n, idx);
		if (!partner(to, n, nameless))
			tell(out, below, n, NULL);
	}
	idx = nameless = 0;
	for (const struct mr_node *n = to->child; n; nameless += !name_of(n), n = n->next, idx++) {
		child_path(below, path, n, idx);
		compare(out, below, partner(from, n, nameless), n);
	}
	if (from->kind == MR_NODE_SEQUENCE)
		compare_order(out, path, from, to);
}

static void compare(json_t *out, const char *path, const struct mr_node *from, const struct mr_node *to)
{
	if (!from || from->kind != to->kind)
		tell(out, path, from, to);
	else if (to->kind == MR_NODE_SCALAR) {
		if (strcmp(from->text ? from->text : "", to->text ? to->text : ""))
			tell(out, path, from, to);
	} else {
		compare_children(out, path, from, to);
	}
}

/* The file of a set may have changed where the configuration did not. */
static void compare_sets(json_t *out, const struct mr_config *from, const struct mr_config *to)
{
	for (uint32_t i = 0; i < to->set_cnt; i++) {
		const struct mr_config_set *t = &to->sets[i];
		for (uint32_t k = 0; t->file && k < from->set_cnt; k++) {
			const struct mr_config_set *f = &from->sets[k];
			char path[PATH_BYTES], before[64], after[64];
			if (strcmp(f->name, t->name) ||
				(f->prefixes.cnt == t->prefixes.cnt && f->ports.cnt == t->ports.cnt))
				continue;
			snprintf(path, sizeof(path), "sets.%.400s.file", t->name);
			snprintf(before, sizeof(before), "%u entries", f->prefixes.cnt + f->ports.cnt);
			snprintf(after, sizeof(after), "%u entries", t->prefixes.cnt + t->ports.cnt);
			json_array_append_new(out,
				json_pack("{s:s, s:s, s:i, s:s, s:s}", "path", path, "change", "changed", "line",
					(int)t->at.line, "from", before, "to", after));
		}
	}
}

json_t *mr_diff(const struct mr_config *from, const struct mr_config *to)
{
	json_t *out = json_array();
	if (!out)
		return NULL;
	compare(out, "", from->root, to->root);
	compare_sets(out, from, to);
	return out;
}
