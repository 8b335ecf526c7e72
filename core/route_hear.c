/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * route_hear.c - what a route message does to the routes of its prefix.
 *
 * The routes of a prefix stand in the kernel's order: local before main before default table, IPv4 with a TOS before those without, low
 * metric before high; of the same in all three (here: a group) as the message says:
 *
 *     IPv4   plain: before its group; NLM_F_APPEND: behind it; NLM_F_REPLACE: in the place of the group's first
 *     IPv6   routes by gateways of one metric are one multipath route, which every message tells in full; a member that goes is
 *            told alone.  Others stand behind their group.  NLM_F_REPLACE: in the place of the first of its own sort, else of the first.
 *
 * While a dump runs, events are newer than what it says: a route deleted meanwhile stays as a tomb until the dump's end, so that the
 * dump cannot bring it back, and a multipath route an event told of is not taken from the dump.
 */
#include "core/route_table.h"

#include <linux/rtnetlink.h>
#include <string.h>

struct heard {
	unsigned f;
	uint32_t prefix;
	struct mr_path_key key;
	struct mr_route_entry e; /* path not taken yet */
};

static int class_of(uint32_t table, unsigned f)
{
	switch (table) {
	case RT_TABLE_LOCAL:
		return MR_ROUTE_LOCAL;
	case RT_TABLE_MAIN:
		return MR_ROUTE_MAIN;
	case RT_TABLE_DEFAULT: /* IPv6's default rules do not ask it */
		return f ? -1 : MR_ROUTE_DEFAULT;
	default:
		return -1;
	}
}

/* -1: a before b; 0: the same group. */
static int compare(const struct mr_route_entry *a, const struct mr_route_entry *b)
{
	int ca = a->flags & MR_ROUTE_CLASS, cb = b->flags & MR_ROUTE_CLASS;

	if (ca != cb)
		return ca > cb ? -1 : 1;
	if (a->tos != b->tos)
		return a->tos > b->tos ? -1 : 1;
	return a->metric < b->metric ? -1 : a->metric > b->metric;
}

/* Where a group begins and ends: `before` is the entry in front of it (0 = none), `first` its first (0 = it has none), `last`
 * where to insert behind it. */
struct group {
	uint32_t before, first, last, done; /* done: the last one whose place the dump has told, else before */
};

static struct group find_group(const struct mr_routes *r, const struct heard *h)
{
	struct group g = { 0 };
	uint32_t n = mr_prefix_at(r, h->f, h->prefix)->first;

	for (; n && compare(&r->entry[n], &h->e) < 0; n = r->entry[n].next)
		g.before = n;
	g.last = g.done = g.before;
	for (; n && !compare(&r->entry[n], &h->e); n = r->entry[n].next) {
		g.first = g.first ? g.first : n;
		g.last = n;
		if (r->entry[n].flags & MR_ROUTE_DONE)
			g.done = n;
	}
	return g;
}

static bool in_group(const struct mr_routes *r, const struct group *g, uint32_t n)
{
	return n && g->first && !compare(&r->entry[n], &r->entry[g->first]);
}

static bool same_route(const struct mr_routes *r, const struct mr_route_entry *e, const struct heard *h)
{
	return e->protocol == h->e.protocol && !r->path[e->path].flushed && mr_path_is(r, e->path, &h->key);
}

static uint32_t find_same(const struct mr_routes *r, const struct group *g, const struct heard *h, bool tomb)
{
	for (uint32_t n = g->first; in_group(r, g, n); n = r->entry[n].next) {
		if (!(r->entry[n].flags & MR_ROUTE_TOMB) == !tomb && same_route(r, &r->entry[n], h))
			return n;
	}
	return 0;
}

static uint32_t insert(struct mr_routes *r, struct heard *h, uint32_t after, unsigned flags)
{
	struct mr_route_entry e = h->e;

	e.path = mr_path_take(r, &h->key);
	e.flags |= (uint8_t)flags | r->mark[h->f];
	uint32_t n = e.path ? mr_prefix_insert(r, h->f, h->prefix, after, &e) : 0;
	if (!n) {
		r->short_of_memory = true;
		mr_route_rules_weigh(r);
	}
	return n;
}

/* The entry goes another way now. */
static void change(struct mr_routes *r, struct heard *h, uint32_t n)
{
	uint32_t path = mr_path_take(r, &h->key);

	if (!path) {
		r->short_of_memory = true;
		mr_route_rules_weigh(r);
		return;
	}
	mr_path_release(r, r->entry[n].path);
	r->entry[n].path = path;
	r->entry[n].protocol = h->e.protocol;
	r->entry[n].flags = (uint8_t)((r->entry[n].flags & ~MR_ROUTE_MARK) | r->mark[h->f]);
}

static void bury(struct mr_routes *r, const struct heard *h, uint32_t n)
{
	if (r->route_dump[h->f]) {
		/* Not to be counted any more: taken out and put back as a tomb. */
		struct mr_route_entry e = r->entry[n];
		e.flags |= MR_ROUTE_TOMB;
		r->path[e.path].refs++;
		mr_prefix_remove(r, h->f, h->prefix, 0, n);
		struct group g = find_group(r, h);
		if (!mr_prefix_insert(r, h->f, h->prefix, g.last, &e))
			r->owed |= 1u << (h->f ? MR_DUMP_ROUTE6 : MR_DUMP_ROUTE4);
	} else {
		mr_prefix_remove(r, h->f, h->prefix, 0, n);
	}
}

static void take_out_tombs(struct mr_routes *r, const struct heard *h)
{
	struct group g = find_group(r, h);

	for (uint32_t n; r->route_dump[h->f] && (n = find_same(r, &g, h, true)); g = find_group(r, h))
		mr_prefix_remove(r, h->f, h->prefix, 0, n);
}

static uint32_t first_living(const struct mr_routes *r, const struct group *g)
{
	for (uint32_t n = g->first; in_group(r, g, n); n = r->entry[n].next) {
		if (!(r->entry[n].flags & MR_ROUTE_TOMB) && !r->path[r->entry[n].path].flushed)
			return n;
	}
	return 0;
}

/* ---- IPv4 ---------------------------------------------------------------------------------------------------- */

static void new4(struct mr_routes *r, struct heard *h, const struct mr_rtnl *m)
{
	take_out_tombs(r, h);
	struct group g = find_group(r, h);
	uint32_t first = first_living(r, &g);

	/* The dump may have told it already; and what replaces is told again, where it is, when its next-hop object changes. */
	if (r->route_dump[0] || m->replace) {
		uint32_t same = find_same(r, &g, h, false);
		if (same) {
			r->entry[same].flags = (uint8_t)((r->entry[same].flags & ~MR_ROUTE_MARK) | r->mark[0]);
			return;
		}
	}
	if (m->replace && first) {
		insert(r, h, first, r->entry[first].flags & MR_ROUTE_DONE);
		bury(r, h, first);
		return;
	}
	insert(r, h, m->append ? g.last : g.before, 0);
}

/* ---- IPv6 ---------------------------------------------------------------------------------------------------- */

static bool multipath6(const struct mr_path_key *k, uint8_t protocol)
{
	if (k->type != RTN_UNICAST || k->nexthop_id || k->source || !k->hop_cnt || protocol == RTPROT_RA)
		return false;
	for (unsigned i = 0; i < k->hop_cnt; i++) {
		if (!k->hop[i].family)
			return false;
	}
	return true;
}

static bool entry_is_multipath6(const struct mr_routes *r, uint32_t n)
{
	struct mr_path_key k;

	mr_path_get(r, r->entry[n].path, &k);
	return multipath6(&k, r->entry[n].protocol);
}

/* The first of the group that is (or is not) by gateways. */
static uint32_t find_sort(const struct mr_routes *r, const struct group *g, bool multipath, bool tomb)
{
	for (uint32_t n = g->first; in_group(r, g, n); n = r->entry[n].next) {
		const struct mr_route_entry *e = &r->entry[n];
		if (!(e->flags & MR_ROUTE_TOMB) == !tomb && !r->path[e->path].flushed &&
			entry_is_multipath6(r, n) == multipath)
			return n;
	}
	return 0;
}

static void new6(struct mr_routes *r, struct heard *h, const struct mr_rtnl *m)
{
	bool multipath = multipath6(&h->key, h->e.protocol);

	take_out_tombs(r, h);
	struct group g = find_group(r, h);
	uint32_t n = multipath || m->replace ? find_sort(r, &g, multipath, false) : find_same(r, &g, h, false);
	if (!n && m->replace)
		n = first_living(r, &g);
	uint32_t same = h->key.nexthop_id ? find_same(r, &g, h, false) : 0;
	if (same) { /* told again because the object has changed */
		r->entry[same].flags = (uint8_t)((r->entry[same].flags & ~MR_ROUTE_MARK) | r->mark[1]);
		return;
	}
	if (n && (multipath || m->replace)) {
		if (!multipath || !entry_is_multipath6(r, n)) { /* what it was may still be in the dump */
			insert(r, h, n, r->entry[n].flags & MR_ROUTE_DONE);
			bury(r, h, n);
			return;
		}
		change(r, h, n);
		return;
	}
	if (n) /* the same again: its lifetime */
		r->entry[n].flags = (uint8_t)((r->entry[n].flags & ~MR_ROUTE_MARK) | r->mark[1]);
	else
		insert(r, h, g.last, 0);
}

/* Takes the members the message names out of a multipath route.  False: some it does not have. */
static bool take_members(struct mr_path_key *from, const struct mr_path_key *gone)
{
	for (unsigned i = 0; i < gone->hop_cnt; i++) {
		unsigned at = 0;
		while (at < from->hop_cnt &&
			(from->hop[at].ifindex != gone->hop[i].ifindex ||
				memcmp(from->hop[at].gateway, gone->hop[i].gateway, sizeof(gone->hop[i].gateway)) != 0))
			at++;
		if (at == from->hop_cnt)
			return false;
		memmove(&from->hop[at], &from->hop[at + 1], (from->hop_cnt - at - 1u) * sizeof(from->hop[0]));
		from->hop_cnt--;
	}
	return true;
}

/* Members of a multipath route go.  False: the route is not here, or not with those. */
static bool delete_members(struct mr_routes *r, struct heard *h)
{
	struct group g = find_group(r, h);
	uint32_t n = find_sort(r, &g, true, false);
	struct mr_rtnl_route rest = { .family = 6, .type = RTN_UNICAST };
	struct mr_path_key left;

	if (!n)
		return false;
	mr_path_get(r, r->entry[n].path, &left);
	if (!take_members(&left, &h->key))
		return false;
	if (!left.hop_cnt) {
		bury(r, h, n);
		return true;
	}
	rest.mtu = left.mtu;
	rest.hop_cnt = left.hop_cnt;
	memcpy(rest.hop, left.hop, left.hop_cnt * sizeof(left.hop[0]));
	struct heard now = *h;
	now.e.protocol = r->entry[n].protocol;
	mr_path_key(&now.key, &rest);
	change(r, &now, n);
	return true;
}

/* ---- both ------------------------------------------------------------------------------------------------------ */

static void gone(struct mr_routes *r, struct heard *h)
{
	if (h->f && multipath6(&h->key, h->e.protocol) && delete_members(r, h))
		return;
	struct group g = find_group(r, h);
	uint32_t n = find_same(r, &g, h, false);
	if (n)
		bury(r, h, n);
	else if (r->route_dump[h->f] && !find_same(r, &g, h, true))
		insert(r, h, g.last, MR_ROUTE_TOMB);
	if (!n && h->f && r->route_dump[1] && multipath6(&h->key, h->e.protocol))
		r->owed |= 1u << MR_DUMP_ROUTE6; /* a member of a route the dump has yet to tell: which, is not known */
}

/* The dump goes through each group in order. */
static void dumped_route(struct mr_routes *r, struct heard *h)
{
	struct group g = find_group(r, h);
	bool multipath = h->f && multipath6(&h->key, h->e.protocol);

	if (multipath ? find_sort(r, &g, true, true) && !find_sort(r, &g, true, false) : find_same(r, &g, h, true) != 0)
		return; /* deleted meanwhile */
	uint32_t n = multipath ? find_sort(r, &g, true, false) : find_same(r, &g, h, false);
	if (!n) {
		insert(r, h, g.done, MR_ROUTE_DONE);
		return;
	}
	if ((r->entry[n].flags & MR_ROUTE_MARK) != r->mark[h->f])
		change(r, h, n);
	if (!(r->entry[n].flags & MR_ROUTE_DONE)) {
		r->entry[n].flags |= MR_ROUTE_DONE;
		mr_prefix_move(r, h->f, h->prefix, n, g.done);
	}
}

void mr_route_heard(struct mr_routes *r, const struct mr_rtnl *m, bool dumped)
{
	const struct mr_rtnl_route *route = &m->route;
	struct heard h;

	h.f = mr_route_f(route->family);
	int class = class_of(route->table, h.f);
	if (route->cloned || class < 0)
		return;
	h.e = (struct mr_route_entry){ .metric = route->metric,
		.tos = route->tos,
		.protocol = route->protocol,
		.flags = (uint8_t) class };
	mr_path_key(&h.key, route);
	h.prefix = m->deleted && !r->route_dump[h.f] ? mr_prefix_find(r, h.f, route->dst, route->bits)
						     : mr_prefix_make(r, h.f, route->dst, route->bits);
	if (!h.prefix) {
		r->short_of_memory |= !m->deleted;
		mr_route_rules_weigh(r);
		return;
	}
	if (m->deleted)
		gone(r, &h);
	else if (dumped)
		dumped_route(r, &h);
	else if (h.f)
		new6(r, &h, m);
	else
		new4(r, &h, m);
	mr_prefix_settle(r, h.f, h.prefix);
}
