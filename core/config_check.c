/* SPDX-License-Identifier: BSD-2-Clause */
/* config_check.c - what spans several keys, and what others ask of a configuration: places, paths, stages' options. */
#include "core/config_read.h"
#include "core/value.h"
#include "kern/abi.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COVER_MAX   256 /* prefixes of a list compared with another list */

#define WHERE_BYTES 128

/* "pipelines.in" + ".match" for mr_config_error() and mr_config_locate(). */
struct where {
	char text[WHERE_BYTES];
};

static struct where where_of(const char *kind, const char *name, const char *key)
{
	struct where w;
	snprintf(w.text, sizeof(w.text), "%s.%s%s%s", kind, name, key ? "." : "", key ? key : "");
	return w;
}

int mr_config_error(
	const struct mr_config *c, struct mr_error *e, struct mr_position at, const char *where, const char *fmt, ...)
{
	char what[MR_ERROR_BYTES], place[32] = "";
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (at.line)
		snprintf(place, sizeof(place), ":%u:%u", at.line, at.column);
	return mr_error_set(
		e, -EINVAL, "%s%s: %s%s%s", c->path, place, where ? where : "", where && *where ? ": " : "", what);
}

bool mr_config_share_pipeline(const struct mr_config *c, const char *a, const char *b)
{
	for (uint32_t i = 0; i < c->pipeline_cnt; i++) {
		const struct mr_string_list *s = &c->pipelines[i].stages;
		bool has_a = false, has_b = false;
		for (uint32_t k = 0; k < s->cnt; k++) {
			has_a |= !strcmp(s->items[k], a);
			has_b |= !strcmp(s->items[k], b);
		}
		if (has_a && has_b)
			return true;
	}
	return false;
}

struct mr_position mr_config_locate(const struct mr_config *c, const char *path)
{
	const struct mr_node *n = c->root;
	struct mr_position at = n->at;
	while (*path && n->kind == MR_NODE_MAPPING) {
		size_t len = strcspn(path, ".");
		const struct mr_node *k = n->child;
		while (k && (strncmp(k->key, path, len) != 0 || k->key[len]))
			k = k->next;
		if (!k)
			break;
		n = k;
		at = n->at;
		path += len + (path[len] == '.');
	}
	return at;
}

const char *mr_config_resolve_path(const struct mr_config *c, const char *file)
{
	size_t folder = strlen(c->folder), len = strlen(file);
	if (file[0] == '/' || strcmp(c->folder, ".") == 0)
		return file;
	char *p = mr_arena_alloc(c->arena, folder + len + 2);
	if (p)
		snprintf(p, folder + len + 2, "%s%s%s", c->folder, c->folder[folder - 1] == '/' ? "" : "/", file);
	return p;
}

const struct mr_config_set *mr_config_find_set(const void *ctx, const char *name)
{
	const struct mr_config *c = ctx;
	for (uint32_t i = 0; i < c->set_cnt; i++)
		if (strcmp(c->sets[i].name, name) == 0)
			return &c->sets[i];
	return NULL;
}

int mr_config_read_stage(const struct mr_config *c, const struct mr_config_stage *s, const struct mr_option *table,
	void *out, size_t out_bytes, struct mr_error *e)
{
	struct mr_reader r = {
		.arena = c->arena, .path = c->path, .e = e, .find_set = mr_config_find_set, .ctx = c, .skip_key = "type"
	};
	memset(out, 0, out_bytes);
	mr_option_enter(&r, "stages.%s", s->name);
	return mr_option_read(&r, s->node, table, out);
}

static const struct mr_config_interface *find_interface(const struct mr_config *c, const char *name)
{
	for (uint32_t i = 0; i < c->interface_cnt; i++)
		if (strcmp(c->interfaces[i].name, name) == 0)
			return &c->interfaces[i];
	return NULL;
}

static const struct mr_config_stage *find_stage(const struct mr_config *c, const char *name)
{
	for (uint32_t i = 0; i < c->stage_cnt; i++)
		if (strcmp(c->stages[i].name, name) == 0)
			return &c->stages[i];
	return NULL;
}

static const char *near_interface(const struct mr_config *c, const char *name)
{
	const char *names[MR_MAX_INTERFACES];
	uint32_t n = 0;
	for (; n < c->interface_cnt && n < MR_MAX_INTERFACES; n++)
		names[n] = c->interfaces[n].name;
	return mr_value_nearest(name, names, n);
}

static const char *near_stage(const struct mr_config *c, const char *name)
{
	const char *names[64];
	uint32_t n = 0;
	for (; n < c->stage_cnt && n < 64; n++)
		names[n] = c->stages[n].name;
	return mr_value_nearest(name, names, n);
}

static int dangling(const struct mr_config *c, struct mr_error *e, struct mr_position at, const struct where *w,
	const char *name, const char *kind, const char *near)
{
	struct mr_quoted q = mr_node_quote(name);
	if (near)
		return mr_config_error(
			c, e, at, w->text, "'%s' is not the name of %s (did you mean '%s'?)", q.text, kind, near);
	return mr_config_error(c, e, at, w->text, "'%s' is not the name of %s (want one under %s:)", q.text, kind,
		kind[0] == 'a' && kind[1] == 'n' ? "interfaces" : "stages");
}

static bool same_text(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

/* Two captures written into one file spoil each other, and writing empties what another is to read. */
static int check_out(const struct mr_config *c, uint32_t idx, struct mr_error *e)
{
	const struct mr_config_interface *i = &c->interfaces[idx];
	struct where key = where_of("interfaces", i->name, "out");
	for (uint32_t j = 0; i->pcap_out && j < c->interface_cnt; j++) {
		const struct mr_config_interface *other = &c->interfaces[j];
		if (same_text(i->pcap_out, other->pcap_in) || same_text(i->pcap_out, other->memory.file) ||
			(j < idx && same_text(i->pcap_out, other->pcap_out)))
			return mr_config_error(c, e, mr_config_locate(c, key.text), key.text,
				"'%s' is a file of interface '%s' already (want a file of its own)",
				mr_node_quote(i->pcap_out).text, other->name);
	}
	return 0;
}

static int check_interface(const struct mr_config *c, uint32_t idx, struct mr_error *e)
{
	const struct mr_config_interface *i = &c->interfaces[idx];
	struct where w = where_of("interfaces", i->name, NULL);
	unsigned kinds = (i->device != NULL) + (i->pcap_in != NULL) + i->has_memory;
	if (strcmp(i->name, "route") == 0 || strcmp(i->name, "back") == 0 || strcmp(i->name, "kernel") == 0)
		return mr_config_error(c, e, i->at, w.text,
			"'%s' is a word of to: and not a name for an interface (want another name)", i->name);
	if (kinds != 1)
		return mr_config_error(c, e, i->at, w.text, "%s (want exactly one of device, pcap, memory)",
			kinds ? "more than one source of packets" : "an interface of nothing");
	if (i->pcap_out && !i->pcap_in) {
		struct where key = where_of("interfaces", i->name, "out");
		return mr_config_error(c, e, mr_config_locate(c, key.text), key.text,
			"'%s' is without a meaning here (want pcap: with it)", mr_node_quote(i->pcap_out).text);
	}
	for (uint32_t j = 0; i->device && j < idx; j++) {
		const struct mr_config_interface *other = &c->interfaces[j];
		struct where key = where_of("interfaces", i->name, "device");
		if (other->device && strcmp(other->device, i->device) == 0)
			return mr_config_error(c, e, i->device_at, key.text,
				"'%s' is the device of interface '%s' already (want one interface a device)",
				mr_node_quote(i->device).text, other->name);
	}
	return check_out(c, idx, e);
}

/* Which families can these addresses have?  Bit 0 IPv4, bit 1 IPv6; a list not given allows both. */
static unsigned families(const struct mr_prefix_list *l)
{
	unsigned bits = 0;
	if (l->cnt == 0)
		return 3;
	for (uint32_t i = 0; i < l->cnt && bits != 3; i++)
		bits |= l->items[i].family == 4 ? 1 : 2;
	return bits;
}

static bool ranges_hold(const struct mr_range_list *l, uint32_t v)
{
	for (uint32_t i = 0; i < l->cnt; i++)
		if (v >= l->items[i].lo && v <= l->items[i].hi)
			return true;
	return false;
}

/* Why an entry could never hold, or NULL. */
static const char *impossible(const struct mr_config_match *m)
{
	bool ports = m->sport.cnt || m->dport.cnt;
	bool l3 = ports || m->icmp.cnt || m->proto.cnt || m->src.cnt || m->dst.cnt;
	if ((families(&m->src) & families(&m->dst)) == 0)
		return "src and dst are of different IP versions";
	if (ports && m->icmp.cnt)
		return "ICMP has no ports";
	if (ports && m->proto.cnt && !ranges_hold(&m->proto, 6) && !ranges_hold(&m->proto, 17) &&
		!ranges_hold(&m->proto, 132))
		return "these protocols have no ports";
	if (m->icmp.cnt && m->proto.cnt && !ranges_hold(&m->proto, 1) && !ranges_hold(&m->proto, 58))
		return "these protocols have no ICMP types";
	if (l3 && m->ethertype.cnt && !ranges_hold(&m->ethertype, 0x0800) && !ranges_hold(&m->ethertype, 0x86dd))
		return "these Ethernet types carry no IP";
	return NULL;
}

static bool names_nothing(const struct mr_config_match *m)
{
	return !mr_list_given(&m->src) && !mr_list_given(&m->dst) && !mr_list_given(&m->sport) &&
		!mr_list_given(&m->dport) && !m->proto.cnt && !m->icmp.cnt && !m->ethertype.cnt && !m->vlan.cnt;
}

static bool names_empty_set(const struct mr_config_match *m)
{
	return (m->src.set && !m->src.cnt) || (m->dst.set && !m->dst.cnt) || (m->sport.set && !m->sport.cnt) ||
		(m->dport.set && !m->dport.cnt);
}

/* Checks entries, and leaves out those an empty set keeps from ever holding. */
static int check_entries(const struct mr_config *c, const struct mr_config_pipeline *p, const char *key,
	struct mr_config_match *list, uint32_t *cnt, struct mr_error *e)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < *cnt; i++) {
		struct where w = where_of("pipelines", p->name, key);
		size_t n = strlen(w.text);
		snprintf(w.text + n, sizeof(w.text) - n, "[%u]", i);
		if (names_nothing(&list[i]))
			return mr_config_error(c, e, list[i].at, w.text,
				"an entry without a field would match everything (want a field, or match: all)");
		const char *why = impossible(&list[i]);
		if (why)
			return mr_config_error(c, e, list[i].at, w.text, "this entry can never match: %s", why);
		if (!names_empty_set(&list[i]))
			list[kept++] = list[i];
	}
	*cnt = kept;
	return 0;
}

static bool prefix_covers(const struct mr_prefix *outer, const struct mr_prefix *inner)
{
	if (outer->family != inner->family || outer->len > inner->len)
		return false;
	unsigned bytes = outer->len / 8, bits = outer->len % 8;
	uint8_t mask = (uint8_t)(0xff00 >> bits);
	if (memcmp(outer->addr, inner->addr, bytes))
		return false;
	return !bits || !((outer->addr[bytes] ^ inner->addr[bytes]) & mask);
}

static bool prefixes_cover(const struct mr_prefix_list *outer, const struct mr_prefix_list *inner)
{
	if (!mr_list_given(outer))
		return true;
	if (!mr_list_given(inner) || inner->cnt > COVER_MAX || outer->cnt > COVER_MAX)
		return false;
	for (uint32_t i = 0; i < inner->cnt; i++) {
		uint32_t k = 0;
		while (k < outer->cnt && !prefix_covers(&outer->items[k], &inner->items[i]))
			k++;
		if (k == outer->cnt)
			return false;
	}
	return true;
}

/* Lists are sorted and merged: one range covers another or none does. */
static bool ranges_cover(const struct mr_range_list *outer, const struct mr_range_list *inner)
{
	if (!mr_list_given(outer))
		return true;
	if (!mr_list_given(inner))
		return false;
	for (uint32_t i = 0, k = 0; i < inner->cnt; i++) {
		while (k < outer->cnt && outer->items[k].hi < inner->items[i].lo)
			k++;
		if (k == outer->cnt || outer->items[k].lo > inner->items[i].lo ||
			outer->items[k].hi < inner->items[i].hi)
			return false;
	}
	return true;
}

/* True when the one exception takes away all that the entry matches.  What several take together is not looked at. */
static bool entry_covers(const struct mr_config_match *except, const struct mr_config_match *match)
{
	return prefixes_cover(&except->src, &match->src) && prefixes_cover(&except->dst, &match->dst) &&
		ranges_cover(&except->proto, &match->proto) && ranges_cover(&except->sport, &match->sport) &&
		ranges_cover(&except->dport, &match->dport) && ranges_cover(&except->ethertype, &match->ethertype) &&
		ranges_cover(&except->vlan, &match->vlan) && except->icmp.cnt == 0;
}

static bool all_excepted(const struct mr_config_pipeline *p)
{
	for (uint32_t i = 0; i < p->match_cnt; i++) {
		uint32_t k = 0;
		while (k < p->except_cnt && !entry_covers(&p->except[k], &p->match[i]))
			k++;
		if (k == p->except_cnt)
			return false;
	}
	return p->match_cnt > 0;
}

static int check_match(const struct mr_config *c, struct mr_config_pipeline *p, struct mr_error *e)
{
	struct where w = where_of("pipelines", p->name, "match");
	struct mr_position at = mr_config_locate(c, w.text);
	uint32_t given = p->match_cnt;
	int err = check_entries(c, p, "match", p->match, &p->match_cnt, e);
	if (!err)
		err = check_entries(c, p, "except", p->except, &p->except_cnt, e);
	if (err)
		return err;
	if (p->match_kind == MR_MATCH_AUTO && p->stages.cnt == 0)
		return mr_config_error(
			c, e, at, w.text, "'auto' without stages matches nothing (want all, a list, or stages)");
	if (p->match_kind == MR_MATCH_LIST && p->match_cnt == 0)
		return mr_config_error(c, e, at, w.text, "%s matches nothing (want all, auto, or a list of entries)",
			given ? "a list that names only empty sets" : "an empty list");
	if (p->match_kind == MR_MATCH_LIST && all_excepted(p))
		return mr_config_error(c, e, at, w.text,
			"matches nothing, because 'except' takes away all of it (want an entry that is not excepted)");
	return 0;
}

static int check_names(const struct mr_config *c, const struct mr_config_pipeline *p, struct mr_error *e)
{
	struct where from = where_of("pipelines", p->name, "from"), stages = where_of("pipelines", p->name, "stages"),
		     to = where_of("pipelines", p->name, "to");
	if (p->from.cnt == 0)
		return mr_config_error(c, e, mr_config_locate(c, from.text), from.text,
			"an empty list matches nothing (want names of interfaces)");
	for (uint32_t i = 0; i < p->from.cnt; i++) {
		const char *name = p->from.items[i];
		if (!find_interface(c, name))
			return dangling(c, e, p->from.at[i], &from, name, "an interface", near_interface(c, name));
		for (uint32_t j = 0; j < i; j++)
			if (strcmp(p->from.items[j], name) == 0)
				return mr_config_error(c, e, p->from.at[i], from.text,
					"'%s' is named twice (want each interface once)", name);
	}
	if (p->to_kind == MR_TO_INTERFACE && !find_interface(c, p->to)) {
		const char *near = near_interface(c, p->to);
		struct mr_quoted q = mr_node_quote(p->to);
		return mr_config_error(c, e, p->to_at, to.text, "'%s' is not a place to send packets (%s%s%s)", q.text,
			near ? "did you mean '" : "want an interface, back, kernel or route", near ? near : "",
			near ? "'?" : "");
	}
	for (uint32_t i = 0; i < p->stages.cnt; i++) {
		const char *name = p->stages.items[i];
		if (!find_stage(c, name))
			return dangling(c, e, p->stages.at[i], &stages, name, "a stage", near_stage(c, name));
		for (uint32_t j = 0; j < i; j++)
			if (strcmp(p->stages.items[j], name) == 0)
				return mr_config_error(c, e, p->stages.at[i], stages.text,
					"'%s' is named twice (want each stage once)", name);
	}
	return 0;
}

static bool takes_all_of(const struct mr_config_pipeline *p, const char *interface)
{
	if (p->match_kind != MR_MATCH_ALL || p->except_cnt)
		return false;
	for (uint32_t i = 0; i < p->from.cnt; i++)
		if (strcmp(p->from.items[i], interface) == 0)
			return true;
	return false;
}

/* Every interface is already taken whole by pipelines before: nothing is left to match. */
static int check_reachable(const struct mr_config *c, uint32_t idx, struct mr_error *e)
{
	const struct mr_config_pipeline *p = &c->pipelines[idx], *by = NULL;
	for (uint32_t i = 0; i < p->from.cnt; i++) {
		uint32_t j = 0;
		while (j < idx && !takes_all_of(&c->pipelines[j], p->from.items[i]))
			j++;
		if (j == idx)
			return 0;
		by = &c->pipelines[j];
	}
	struct where w = where_of("pipelines", p->name, NULL);
	return mr_config_error(c, e, p->at, w.text,
		"matches nothing, because pipeline '%s' before it takes all packets (want the other order)", by->name);
}

/* The kernel carries records out, and without state there are none.  What `flows` says for all pipelines means those that have them. */
static int check_offload(const struct mr_config *c, const struct mr_config_pipeline *p, struct mr_error *e)
{
	struct where w = where_of("pipelines", p->name, "offload");
	if (!p->has_offload || p->offload == MR_OFFLOAD_NEVER || p->state != MR_STATE_NONE)
		return 0;
	return mr_config_error(c, e, mr_config_locate(c, w.text), w.text,
		"'%s' needs flow records, and state: none keeps none (want never, or state: sessions)",
		p->offload == MR_OFFLOAD_ALWAYS ? "always" : "established");
}

/* What crosses a wire is for other MAC addresses than the device's. */
static void default_promiscuous(struct mr_config *c)
{
	for (uint32_t i = 0; i < c->pipeline_cnt; i++) {
		const struct mr_config_pipeline *p = &c->pipelines[i];
		for (uint32_t k = 0; p->to_kind == MR_TO_INTERFACE && k < p->from.cnt; k++)
			for (uint32_t n = 0; n < c->interface_cnt; n++) {
				struct mr_config_interface *ci = &c->interfaces[n];
				if (!strcmp(ci->name, p->from.items[k]) && ci->device && !ci->has_promiscuous)
					ci->promiscuous = true;
			}
	}
}

int mr_config_check(struct mr_config *c, struct mr_error *e)
{
	int err = 0;
	if (c->workers.cores.cnt && mr_node_find(mr_node_find(c->root, "workers"), "count"))
		return mr_config_error(c, e, mr_config_locate(c, "workers.count"), "workers.count",
			"cores are given too, and each has one worker (want one of cores, count)");
	if (c->flows.half_open_max > c->flows.capacity)
		return mr_config_error(c, e, mr_config_locate(c, "flows.half_open"), "flows.half_open",
			"'%llu' is more than the %llu sessions of flows.capacity (want at most that)",
			(unsigned long long)c->flows.half_open_max, (unsigned long long)c->flows.capacity);
	for (uint32_t i = 0; i < c->interface_cnt && !err; i++)
		err = check_interface(c, i, e);
	for (uint32_t i = 0; i < c->pipeline_cnt && !err; i++) {
		err = check_names(c, &c->pipelines[i], e);
		if (!err)
			err = check_match(c, &c->pipelines[i], e);
		if (!err)
			err = check_reachable(c, i, e);
		if (!err)
			err = check_offload(c, &c->pipelines[i], e);
	}
	if (!err)
		default_promiscuous(c);
	return err;
}
