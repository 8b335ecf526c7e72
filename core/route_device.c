/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * route_device.c - what routes rest on: links, next-hop objects, addresses and policy rules.
 *
 * When a device goes down the kernel forgets its IPv4 routes and its next-hop objects without a word: the same is done here at once, and
 * routes are asked for again to be sure.
 */
#include "core/route_table.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

static void no_memory(struct mr_routes *r)
{
	r->short_of_memory = true;
	mr_route_rules_weigh(r);
}

/* ---- links ---------------------------------------------------------------------------------------------------- */

struct mr_route_link *mr_route_link_find(const struct mr_routes *r, uint32_t ifindex)
{
	struct mr_route_link *l = r->link[ifindex % MR_ROUTE_LINK_CHAINS];

	while (l && l->l.ifindex != ifindex)
		l = l->next;
	return l;
}

static unsigned interface_with(const struct mr_routes *r, uint32_t ifindex)
{
	for (unsigned id = 1; ifindex && id <= MR_MAX_INTERFACES; id++) {
		if (r->interface[id] == ifindex)
			return id;
	}
	return 0;
}

unsigned mr_route_interface_of(const struct mr_routes *r, uint32_t ifindex)
{
	const struct mr_route_link *l = mr_route_link_find(r, ifindex);

	if (!l)
		return interface_with(r, ifindex);
	if (!l->l.has_mac)
		return 0;
	unsigned id = interface_with(r, ifindex);
	if (!id && l->l.device == MR_RTNL_DEVICE_VLAN && !l->l.unknown)
		id = interface_with(r, l->l.lower);
	return id;
}

/* Tells the next hops what the device is. */
static void tell(struct mr_routes *r, struct mr_route_link *l, unsigned id)
{
	if (!r->opt.neighbours || (!id && !l->told))
		return;
	struct mr_neighbour_device d = { .ifindex = l->l.ifindex,
		.interface_id = (uint8_t)id,
		.vlan = l->l.ifindex == r->interface[id] ? 0 : l->l.vlan,
		.mtu = (uint16_t)(l->l.mtu > UINT16_MAX ? UINT16_MAX : l->l.mtu),
		.up = id && l->l.admin_up && l->l.running };
	memcpy(d.mac, l->l.mac, sizeof(d.mac));
	mr_neighbours_device(r->opt.neighbours, &d);
	l->told = id != 0;
}

/* Packets from these interfaces are looked up in other tables: their device, or a VLAN device over it, has a master. */
static void weigh_foreign(struct mr_routes *r)
{
	bool foreign[MR_MAX_INTERFACES + 1] = { false };

	for (unsigned c = 0; c < MR_ROUTE_LINK_CHAINS; c++) {
		for (const struct mr_route_link *l = r->link[c]; l; l = l->next)
			foreign[l->id] |= l->id && l->l.master;
	}
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		if (atomic_exchange_explicit(&r->foreign[id], foreign[id], memory_order_relaxed) == foreign[id])
			continue;
		mr_versions_touch_all(r, 0);
		mr_versions_touch_all(r, 1);
	}
}

/* Which tags lead into this namespace: a VLAN without a device here is somebody else's network. */
static void weigh_vlans(struct mr_routes *r)
{
	uint64_t vlan[MR_MAX_INTERFACES + 1][MR_ROUTE_VLAN_WORDS];

	memset(vlan, 0, sizeof(vlan));
	for (unsigned c = 0; c < MR_ROUTE_LINK_CHAINS; c++) {
		for (const struct mr_route_link *l = r->link[c]; l; l = l->next) {
			if (l->id && l->l.ifindex != r->interface[l->id] && l->l.admin_up)
				vlan[l->id][l->l.vlan / 64] |= 1ULL << l->l.vlan % 64;
		}
	}
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		for (unsigned w = 0; w < MR_ROUTE_VLAN_WORDS; w++) {
			if (__atomic_load_n(&r->vlan[id][w], __ATOMIC_RELAXED) != vlan[id][w])
				__atomic_store_n(&r->vlan[id][w], vlan[id][w], __ATOMIC_RELAXED);
		}
		atomic_store_explicit(&r->device[id], r->interface[id] != 0, memory_order_relaxed);
	}
}

static void down(struct mr_routes *r, uint32_t ifindex)
{
	mr_route_nexthops_down(r, ifindex);
	mr_paths_changed(r, ifindex, 0);
	mr_paths_flush(r, ifindex);
}

static void drop_link(struct mr_routes *r, struct mr_route_link *l)
{
	struct mr_route_link **at = &r->link[l->l.ifindex % MR_ROUTE_LINK_CHAINS];
	uint32_t ifindex = l->l.ifindex;

	l->l.admin_up = false;
	down(r, ifindex);
	tell(r, l, 0);
	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	free(l);
	r->sources_dirty = true;
	weigh_foreign(r);
	weigh_vlans(r);
	mr_route_owe(r, MR_DUMP_ROUTES);
}

static struct mr_route_link *make_link(struct mr_routes *r, uint32_t ifindex)
{
	struct mr_route_link *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->l.ifindex = ifindex;
	l->next = r->link[ifindex % MR_ROUTE_LINK_CHAINS];
	r->link[ifindex % MR_ROUTE_LINK_CHAINS] = l;
	return l;
}

/* The id of a device, and of VLAN devices over it, may be another now. */
static bool assign(struct mr_routes *r, struct mr_route_link *l)
{
	unsigned id = mr_route_interface_of(r, l->l.ifindex);
	bool changed = id != l->id;

	l->id = (uint8_t)id;
	if (changed)
		r->sources_dirty = true;
	return changed;
}

void mr_route_link_heard(struct mr_routes *r, const struct mr_rtnl *m, bool dumped)
{
	struct mr_route_link *l = mr_route_link_find(r, m->link.ifindex);

	if (m->deleted) {
		if (l)
			drop_link(r, l);
		return;
	}
	bool fresh = !l;
	if (fresh)
		l = make_link(r, m->link.ifindex);
	if (!l) {
		no_memory(r);
		return;
	}
	struct mr_rtnl_link was = l->l;
	l->l = m->link;
	l->mark = true;
	bool moved = assign(r, l);
	if (moved || fresh || was.master != l->l.master)
		weigh_foreign(r);
	if (moved || fresh || was.vlan != l->l.vlan || was.admin_up != l->l.admin_up)
		weigh_vlans(r);
	if (l->id || moved)
		tell(r, l, l->id);
	if (!fresh && was.admin_up && !l->l.admin_up) {
		down(r, l->l.ifindex);
		mr_route_owe(r, MR_DUMP_ROUTES);
	} else if (!fresh && !was.admin_up && l->l.admin_up) {
		mr_paths_revive(r, l->l.ifindex);
		mr_paths_changed(r, l->l.ifindex, 0);
		mr_route_owe(r, MR_DUMP_ROUTES);
	} else if (moved || (fresh && !dumped)) {
		mr_paths_changed(r, l->l.ifindex, 0);
	} else if (!fresh && was.running != l->l.running) {
		mr_route_owe(r,
			MR_DUMP_ROUTES); /* members without carrier may be dead now: the kernel tells in a dump only */
	}
}

void mr_routes_interface(struct mr_routes *r, unsigned interface_id, uint32_t ifindex)
{
	if (!interface_id || interface_id > MR_MAX_INTERFACES || r->interface[interface_id] == ifindex)
		return;
	r->interface[interface_id] = ifindex;
	for (unsigned c = 0; c < MR_ROUTE_LINK_CHAINS; c++) {
		for (struct mr_route_link *l = r->link[c]; l; l = l->next) {
			if (assign(r, l) && l->id)
				tell(r, l, l->id);
		}
	}
	weigh_foreign(r);
	weigh_vlans(r);
	mr_paths_changed(r, 0, 0);
	/* Behind the views: who finds his next hop gone is then told where else to. */
	for (unsigned c = 0; c < MR_ROUTE_LINK_CHAINS; c++) {
		for (struct mr_route_link *l = r->link[c]; l; l = l->next) {
			if (!l->id && l->told)
				tell(r, l, 0);
		}
	}
	if (r->running < 0 && !r->owed)
		mr_route_round_end(r);
}

/* ---- next-hop objects -------------------------------------------------------------------------------------------- */

static void drop_nexthop(struct mr_routes *r, struct mr_route_nexthop *n)
{
	struct mr_route_nexthop **at = &r->nexthop[n->n.id % MR_ROUTE_NEXTHOP_CHAINS];

	while (*at != n)
		at = &(*at)->next;
	*at = n->next;
	r->nexthop_cnt--;
	free(n);
}

/* Groups that have no member left go with the last one. */
static void drop_empty_groups(struct mr_routes *r)
{
	for (unsigned c = 0; c < MR_ROUTE_NEXTHOP_CHAINS; c++) {
		for (struct mr_route_nexthop *n = r->nexthop[c], *next; n; n = next) {
			bool living = !n->n.group;
			next = n->next;
			for (unsigned i = 0; i < n->n.member_cnt && !living; i++)
				living = mr_route_nexthop_find(r, n->n.member[i].id);
			if (!living)
				drop_nexthop(r, n);
		}
	}
}

/* One of them (UINT32_MAX: any).  Paths by objects that are gone: the kernel has forgotten their routes. */
static void nexthops_changed(struct mr_routes *r, uint32_t id, bool some_gone)
{
	if (some_gone)
		drop_empty_groups(r);
	mr_paths_changed(r, 0, id);
	if (some_gone)
		mr_paths_flush(r, UINT32_MAX);
}

void mr_route_nexthop_heard(struct mr_routes *r, const struct mr_rtnl *m)
{
	struct mr_route_nexthop *n = mr_route_nexthop_find(r, m->nexthop.id);

	if (m->deleted) {
		if (n) {
			drop_nexthop(r, n);
			nexthops_changed(r, m->nexthop.id, true);
			mr_route_owe(r, MR_DUMP_ROUTES);
		}
		return;
	}
	if (!n) {
		n = calloc(1, sizeof(*n));
		if (!n) {
			no_memory(r);
			return;
		}
		n->next = r->nexthop[m->nexthop.id % MR_ROUTE_NEXTHOP_CHAINS];
		r->nexthop[m->nexthop.id % MR_ROUTE_NEXTHOP_CHAINS] = n;
		r->nexthop_cnt++;
	} else if (!memcmp(&n->n, &m->nexthop, sizeof(n->n))) {
		n->mark = true;
		return;
	}
	n->n = m->nexthop;
	n->mark = true;
	nexthops_changed(r, m->nexthop.id, false);
}

void mr_route_nexthops_down(struct mr_routes *r, uint32_t ifindex)
{
	bool some = false;

	for (unsigned c = 0; c < MR_ROUTE_NEXTHOP_CHAINS; c++) {
		for (struct mr_route_nexthop *n = r->nexthop[c], *next; n; n = next) {
			next = n->next;
			if (!n->n.group && !n->n.blackhole && n->n.hop.ifindex == ifindex) {
				drop_nexthop(r, n);
				some = true;
			}
		}
	}
	if (some)
		nexthops_changed(r, UINT32_MAX, true);
}

/* ---- addresses --------------------------------------------------------------------------------------------------- */

void mr_route_addr_heard(struct mr_routes *r, const struct mr_rtnl *m)
{
	const struct mr_rtnl_addr *a = &m->addr;
	uint32_t i = 0;

	r->sources_dirty = true;
	while (i < r->addr_cnt &&
		(r->addr[i].a.ifindex != a->ifindex || r->addr[i].a.family != a->family ||
			r->addr[i].a.bits != a->bits || memcmp(r->addr[i].a.local, a->local, sizeof(a->local)) != 0))
		i++;
	if (m->deleted) {
		if (i < r->addr_cnt) {
			memmove(&r->addr[i], &r->addr[i + 1], (r->addr_cnt - i - 1) * sizeof(r->addr[0]));
			r->addr_cnt--;
		}
		return;
	}
	if (i == r->addr_cap) {
		uint32_t cap = r->addr_cap ? r->addr_cap * 2 : 16;
		struct mr_route_addr *more = realloc(r->addr, cap * sizeof(*more));
		if (!more)
			return; /* one source fewer */
		r->addr = more;
		r->addr_cap = cap;
	}
	r->addr_cnt += i == r->addr_cnt;
	r->addr[i] = (struct mr_route_addr){ *a, true };
}

static bool is_link_local(const struct mr_rtnl_addr *a)
{
	return a->family == 6 && a->local[0] == 0xfe && (a->local[1] & 0xc0) == 0x80;
}

/* The table mr_routes_source() reads: what may be a source, primary addresses before secondary ones. */
void mr_route_sources_make(struct mr_routes *r)
{
	struct mr_route_sources *t = malloc(sizeof(*t) + r->addr_cnt * sizeof(t->s[0]));

	if (!t)
		return; /* the old one; tried again at the next change */
	t->cnt = 0;
	for (unsigned pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < r->addr_cnt; i++) {
			const struct mr_rtnl_addr *a = &r->addr[i].a;
			bool late = a->flags & (IFA_F_SECONDARY | IFA_F_DEPRECATED);
			if (late != (pass == 1) || a->flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) ||
				a->scope >= RT_SCOPE_HOST || (a->scope == RT_SCOPE_LINK && a->family == 4))
				continue;
			struct mr_route_source *s = &t->s[t->cnt++];
			unsigned id = mr_route_interface_of(r, a->ifindex);
			*s = (struct mr_route_source){ .family = a->family,
				.bits = a->bits,
				.id = (uint8_t)id,
				.vlan = id && r->interface[id] != a->ifindex,
				.link = is_link_local(a) };
			memcpy(s->addr, a->local, sizeof(s->addr));
		}
	}
	mr_route_retire(r, atomic_exchange_explicit(&r->sources, t, memory_order_acq_rel), 0);
	r->sources_dirty = false;
}

/* ---- rules ------------------------------------------------------------------------------------------------------- */

static const struct {
	uint8_t family;
	uint32_t priority, table;
} plain_rules[] = {
	{ 4, 0, RT_TABLE_LOCAL },
	{ 4, 32766, RT_TABLE_MAIN },
	{ 4, 32767, RT_TABLE_DEFAULT },
	{ 6, 0, RT_TABLE_LOCAL },
	{ 6, 32766, RT_TABLE_MAIN },
};

#define PLAIN_RULES (sizeof(plain_rules) / sizeof(plain_rules[0]))

bool mr_route_rule_is_plain(const struct mr_rtnl_rule *rule)
{
	for (size_t i = 0; i < PLAIN_RULES; i++) {
		if (rule->plain && rule->family == plain_rules[i].family && rule->priority == plain_rules[i].priority &&
			rule->table == plain_rules[i].table)
			return true;
	}
	return rule->l3mdev; /* packets of devices in a VRF only: those are told by their master */
}

/* The first default rule that is missing, its table; 0 = none is. */
uint32_t mr_route_rule_missing(const struct mr_routes *r, unsigned family)
{
	for (size_t i = 0; i < PLAIN_RULES; i++) {
		bool here = plain_rules[i].family != family;
		for (uint32_t j = 0; j < r->rule_cnt && !here; j++) {
			const struct mr_rtnl_rule *x = &r->rule[j].r;
			here = x->plain && x->family == family && x->priority == plain_rules[i].priority &&
				x->table == plain_rules[i].table;
		}
		if (!here)
			return plain_rules[i].table;
	}
	return 0;
}

void mr_route_rules_weigh(struct mr_routes *r)
{
	for (unsigned f = 0; f < 2; f++) {
		unsigned family = f ? 6 : 4;
		bool kernel = r->short_of_memory || r->short_before ||
			(r->rules_known[f] && mr_route_rule_missing(r, family));
		for (uint32_t i = 0; i < r->rule_cnt && !kernel; i++)
			kernel = r->rule[i].r.family == family && !mr_route_rule_is_plain(&r->rule[i].r);
		if (atomic_exchange_explicit(&r->only_kernel[f], kernel, memory_order_relaxed) != kernel)
			mr_versions_touch_all(r, f);
	}
}

static bool same_rule(const struct mr_rtnl_rule *a, const struct mr_rtnl_rule *b)
{
	return a->family == b->family && a->priority == b->priority && a->table == b->table && a->action == b->action &&
		!strcmp(a->words, b->words);
}

void mr_route_rule_heard(struct mr_routes *r, const struct mr_rtnl *m)
{
	uint32_t i = 0;

	while (i < r->rule_cnt && !same_rule(&r->rule[i].r, &m->rule))
		i++;
	if (m->deleted) {
		if (i < r->rule_cnt)
			r->rule[i] = r->rule[--r->rule_cnt];
		else
			mr_route_owe(r, 1u << (m->rule.family == 4 ? MR_DUMP_RULE4 : MR_DUMP_RULE6));
		mr_route_rules_weigh(r);
		return;
	}
	if (i == r->rule_cap) {
		uint32_t cap = r->rule_cap ? r->rule_cap * 2 : 16;
		struct mr_route_rule *more = realloc(r->rule, cap * sizeof(*more));
		if (!more) {
			no_memory(r);
			return;
		}
		r->rule = more;
		r->rule_cap = cap;
	}
	r->rule_cnt += i == r->rule_cnt;
	r->rule[i] = (struct mr_route_rule){ m->rule, true };
	mr_route_rules_weigh(r);
}

/* ---- dumps ------------------------------------------------------------------------------------------------------- */

void mr_route_devices_begin(struct mr_routes *r, enum mr_route_dump d)
{
	unsigned family = d == MR_DUMP_RULE4 ? 4 : 6;

	for (unsigned c = 0; c < MR_ROUTE_LINK_CHAINS && d == MR_DUMP_LINK; c++) {
		for (struct mr_route_link *l = r->link[c]; l; l = l->next)
			l->mark = false;
	}
	for (unsigned c = 0; c < MR_ROUTE_NEXTHOP_CHAINS && d == MR_DUMP_NEXTHOP; c++) {
		for (struct mr_route_nexthop *n = r->nexthop[c]; n; n = n->next)
			n->mark = false;
	}
	for (uint32_t i = 0; i < r->addr_cnt && d == MR_DUMP_ADDR; i++)
		r->addr[i].mark = false;
	for (uint32_t i = 0; i < r->rule_cnt && (d == MR_DUMP_RULE4 || d == MR_DUMP_RULE6); i++)
		r->rule[i].mark = r->rule[i].r.family != family;
}

static void end_links(struct mr_routes *r)
{
	for (unsigned c = 0; c < MR_ROUTE_LINK_CHAINS; c++) {
		for (struct mr_route_link *l = r->link[c], *next; l; l = next) {
			next = l->next;
			if (!l->mark)
				drop_link(r, l);
		}
	}
	mr_paths_changed(r, 0, 0);
}

static void end_nexthops(struct mr_routes *r)
{
	bool some = false;

	for (unsigned c = 0; c < MR_ROUTE_NEXTHOP_CHAINS; c++) {
		for (struct mr_route_nexthop *n = r->nexthop[c], *next; n; n = next) {
			next = n->next;
			if (!n->mark) {
				drop_nexthop(r, n);
				some = true;
			}
		}
	}
	if (some)
		nexthops_changed(r, UINT32_MAX, true);
}

void mr_route_devices_end(struct mr_routes *r, enum mr_route_dump d)
{
	if (d == MR_DUMP_LINK)
		end_links(r);
	if (d == MR_DUMP_NEXTHOP)
		end_nexthops(r);
	for (uint32_t i = 0; i < r->addr_cnt && d == MR_DUMP_ADDR;) {
		if (r->addr[i].mark) {
			i++;
			continue;
		}
		memmove(&r->addr[i], &r->addr[i + 1], (r->addr_cnt - i - 1) * sizeof(r->addr[0]));
		r->addr_cnt--;
		r->sources_dirty = true;
	}
	if (d != MR_DUMP_RULE4 && d != MR_DUMP_RULE6)
		return;
	for (uint32_t i = 0; i < r->rule_cnt;) {
		if (r->rule[i].mark)
			i++;
		else
			r->rule[i] = r->rule[--r->rule_cnt];
	}
	r->rules_known[d == MR_DUMP_RULE6] = true;
	mr_route_rules_weigh(r);
}

void mr_route_devices_destroy(struct mr_routes *r)
{
	for (unsigned c = 0; c < MR_ROUTE_LINK_CHAINS; c++) {
		while (r->link[c]) {
			struct mr_route_link *l = r->link[c];
			r->link[c] = l->next;
			free(l);
		}
	}
	for (unsigned c = 0; c < MR_ROUTE_NEXTHOP_CHAINS; c++) {
		while (r->nexthop[c])
			drop_nexthop(r, r->nexthop[c]);
	}
	free(r->addr);
	free(r->rule);
	free(atomic_load_explicit(&r->sources, memory_order_relaxed));
}
