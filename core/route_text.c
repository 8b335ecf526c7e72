/* SPDX-License-Identifier: BSD-2-Clause */
/* route_text.c - the mirror in words. */
#include "core/route_table.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct text {
	char *at;
	size_t left;
};

static void say(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct text *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(t->at, t->left, fmt, ap);
	va_end(ap);
	size_t k = n < 0 ? 0 : (size_t)n < t->left ? (size_t)n : t->left ? t->left - 1 : 0;
	t->at += k;
	t->left -= k;
}

static void say_address(struct text *t, unsigned family, const uint8_t *addr)
{
	char buf[INET6_ADDRSTRLEN];

	say(t, "%s", inet_ntop(family == 4 ? AF_INET : AF_INET6, addr, buf, sizeof(buf)));
}

static const char *type_name(unsigned type)
{
	static const char *const names[] = { [RTN_UNSPEC] = "unspecified",
		[RTN_LOCAL] = "local",
		[RTN_BROADCAST] = "broadcast",
		[RTN_ANYCAST] = "anycast",
		[RTN_MULTICAST] = "multicast",
		[RTN_BLACKHOLE] = "blackhole",
		[RTN_UNREACHABLE] = "unreachable",
		[RTN_PROHIBIT] = "prohibit",
		[RTN_THROW] = "throw",
		[RTN_NAT] = "nat",
		[RTN_XRESOLVE] = "xresolve" };

	return type < sizeof(names) / sizeof(names[0]) && names[type] ? names[type] : "unknown";
}

static void say_hop(const struct mr_routes *r, struct text *t, unsigned family, const struct mr_rtnl_hop *h)
{
	const struct mr_route_link *l = mr_route_link_find(r, h->ifindex);

	if (h->family) {
		say(t, h->family == family ? " via " : " via inet6 ");
		say_address(t, h->family, h->gateway);
	}
	if (l && l->l.name[0])
		say(t, " dev %s", l->l.name);
	else if (h->ifindex)
		say(t, " dev #%u", h->ifindex);
	if (h->unknown)
		say(t, " encap");
	if (h->flags & RTNH_F_DEAD || (l && !l->l.admin_up))
		say(t, " dead");
}

static void say_path(const struct mr_routes *r, struct text *t, const struct mr_path *p)
{
	if (p->nexthop_id)
		say(t, " nhid %u", p->nexthop_id);
	const struct mr_route_nexthop *n = p->nexthop_id ? mr_route_nexthop_find(r, p->nexthop_id) : NULL;
	if (n && n->n.blackhole)
		say(t, " blackhole");
	else if (n && !n->n.group)
		say_hop(r, t, p->family, &n->n.hop);
	for (unsigned i = 0; n && n->n.group && i < n->n.member_cnt; i++) {
		const struct mr_route_nexthop *one = mr_route_nexthop_find(r, n->n.member[i].id);
		say(t, " nexthop");
		if (one)
			say_hop(r, t, p->family, &one->n.hop);
		say(t, " weight %u", n->n.member[i].weight);
	}
	for (unsigned i = 0; i < p->hop_cnt; i++) {
		if (p->hop_cnt > 1)
			say(t, " nexthop");
		say_hop(r, t, p->family, &p->hop[i]);
		if (p->hop_cnt > 1)
			say(t, " weight %u", p->hop[i].weight);
	}
	if (p->mtu)
		say(t, " mtu %u", p->mtu);
}

/* The best route of a prefix. */
static int describe(const struct mr_routes *r, unsigned f, const uint8_t *addr, unsigned bits, char *out, size_t bytes)
{
	struct text t = { out, bytes };
	uint32_t prefix = mr_prefix_find(r, f, addr, bits);
	uint32_t best = prefix ? mr_prefix_best(r, f, prefix) : 0;

	if (!best)
		return -ENOENT;
	const struct mr_route_entry *e = &r->entry[best];
	const struct mr_path *p = &r->path[e->path];
	if (p->type != RTN_UNICAST)
		say(&t, "%s ", type_name(p->type));
	say_address(&t, f ? 6 : 4, addr);
	say(&t, "/%u", bits);
	if (e->tos)
		say(&t, " tos 0x%02x", e->tos);
	say_path(r, &t, p);
	if (e->metric)
		say(&t, " metric %u", e->metric);
	const struct mr_path_view *v = NULL;
	uint32_t n = mr_prefix_at(r, f, prefix)->value;
	_Atomic(struct mr_path_view *) *chunk =
		atomic_load_explicit(&r->view[n / MR_ROUTE_CHUNK], memory_order_relaxed);
	if (n && chunk)
		v = atomic_load_explicit(&chunk[n % MR_ROUTE_CHUNK], memory_order_relaxed);
	bool elsewhere = v && v->verdict == MR_ROUTE_SLOT;
	for (unsigned i = 0; elsewhere && i < v->hop_cnt; i++)
		elsewhere = v->hop[i].kernel;
	if (v && (elsewhere || (v->verdict == MR_ROUTE_KERNEL && v->reason)))
		say(&t, ", left to the kernel");
	return 0;
}

static void mask(uint8_t *addr, unsigned f, const void *from, unsigned bits)
{
	memcpy(addr, from, mr_route_bytes(f));
	for (unsigned i = 0; i < mr_route_bytes(f); i++) {
		unsigned keep = bits >= 8 * (i + 1) ? 8 : bits > 8 * i ? bits - 8 * i : 0;
		addr[i] &= (uint8_t)(0xff00u >> keep);
	}
}

int mr_routes_describe(const struct mr_routes *r, unsigned family, const void *dst_be, char *text, size_t bytes)
{
	unsigned f = mr_route_f(family), bits = 0;
	uint8_t addr[16] = { 0 };

	if (!mr_fib_match(r->fib, f ? AF_INET6 : AF_INET, dst_be, &bits))
		return -ENOENT;
	mask(addr, f, dst_be, bits);
	return describe(r, f, addr, bits, text, bytes);
}

struct each {
	const struct mr_routes *r;
	mr_routes_fn fn;
	void *ctx;
	unsigned family;
};

static int each_prefix(void *ctx, const uint8_t *addr, unsigned bits, uint32_t value)
{
	struct each *x = ctx;
	char words[1024];

	if (describe(x->r, mr_route_f(x->family), addr, bits, words, sizeof(words)))
		return 0;
	return x->fn(x->ctx, x->family, addr, bits, words);
}

int mr_routes_each(
	const struct mr_routes *r, unsigned family, const void *dst_be, unsigned bits, mr_routes_fn fn, void *ctx)
{
	struct each x = { r, fn, ctx, family };

	return mr_fib_each(r->fib, family == 6 ? AF_INET6 : AF_INET, dst_be, bits, each_prefix, &x);
}

/* ---- what is not mirrored ----------------------------------------------------------------------------------------- */

static const char *family_name(unsigned family)
{
	return family == 4 ? "ipv4" : "ipv6";
}

static void rules(const struct mr_routes *r, mr_routes_unmirrored_fn fn, void *ctx)
{
	char s[320];

	for (uint32_t i = 0; i < r->rule_cnt; i++) {
		const struct mr_rtnl_rule *x = &r->rule[i].r;
		if (mr_route_rule_is_plain(x))
			continue;
		snprintf(s, sizeof(s),
			"rule %s: policy rules are not mirrored; %s packets to be routed go to the kernel, translated "
			"ones "
			"are dropped",
			x->words, x->family == 4 ? "IPv4" : "IPv6");
		fn(ctx, family_name(x->family), s);
	}
	for (unsigned family = 4; family <= 6; family += 2) {
		uint32_t table = r->rules_known[family == 6] ? mr_route_rule_missing(r, family) : 0;
		if (!table)
			continue;
		snprintf(s, sizeof(s),
			"the default rule that asks table %u is gone: %s packets to be routed go to the kernel, "
			"translated "
			"ones are dropped",
			table, family == 4 ? "IPv4" : "IPv6");
		fn(ctx, family_name(family), s);
	}
}

static void links(const struct mr_routes *r, mr_routes_unmirrored_fn fn, void *ctx)
{
	char s[320];

	for (unsigned c = 0; c < MR_ROUTE_LINK_CHAINS; c++) {
		for (const struct mr_route_link *l = r->link[c]; l; l = l->next) {
			if (!l->id || !l->l.master)
				continue;
			const struct mr_route_link *m = mr_route_link_find(r, l->l.master);
			snprintf(s, sizeof(s),
				"%s belongs to %s%s%s: packets that come in there and are to be routed go to the "
				"kernel, "
				"translated ones are dropped",
				l->l.name, m ? m->l.kind : "", m && m->l.kind[0] ? " " : "",
				m ? m->l.name : "another device");
			fn(ctx, l->l.name, s);
		}
	}
}

/* Routes of these paths, in one sentence a path. */
static void paths(const struct mr_routes *r, mr_routes_unmirrored_fn fn, void *ctx)
{
	char words[512], s[768];

	for (uint32_t n = MR_ROUTE_ONLY_KERNEL + 1; n < r->path_top; n++) {
		const struct mr_path *p = &r->path[n];
		struct text t = { words, sizeof(words) };
		const char *why = p->encap ? "it encapsulates"
			: p->tunnel        ? "it leaves by a tunnel"
			: p->source        ? "it is for some sources only"
			: p->unknown       ? "it has more next hops, or others, than are mirrored"
			: p->type == RTN_THROW || p->type > RTN_THROW ? "routes of this type are not mirrored"
								      : NULL;
		if (!p->refs || p->flushed || !why)
			continue;
		say(&t, "%s", p->type == RTN_UNICAST ? "route" : type_name(p->type));
		say_path(r, &t, p);
		snprintf(s, sizeof(s),
			"%s (%u of them): %s; packets for it go to the kernel, translated ones are dropped", words,
			p->refs, why);
		fn(ctx, family_name(p->family), s);
	}
}

void mr_routes_unmirrored(const struct mr_routes *r, mr_routes_unmirrored_fn fn, void *ctx)
{
	rules(r, fn, ctx);
	links(r, fn, ctx);
	paths(r, fn, ctx);
	if (r->last_table_cnt)
		fn(ctx, "ipv4",
			"table default (253) has routes: packets that the main table has no way for go to the kernel, "
			"translated "
			"ones are dropped");
	if (r->short_of_memory || r->short_before)
		fn(ctx, "all",
			"memory ran short while routes were read: packets to be routed go to the kernel until they are "
			"read "
			"again");
}
