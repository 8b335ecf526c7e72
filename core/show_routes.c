/* SPDX-License-Identifier: BSD-2-Clause */
/* show_routes.c - `show routes`, `show neighbours`: the mirror and the next hops in use. */
#include "core/neighbour.h"
#include "core/route.h"
#include "core/show_part.h"
#include "core/value.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LIMIT_DEFAULT 100
#define LIMIT_MAX     10000

static void add_sentence(void *list, const char *affects, const char *sentence)
{
	json_array_append_new(
		list, json_pack("{s:o, s:o}", "affects", mr_show_text(affects), "sentence", mr_show_text(sentence)));
}

static json_t *unmirrored(const struct mr_routes *r)
{
	json_t *list = json_array();
	if (r)
		mr_routes_unmirrored(r, add_sentence, list);
	return list;
}

static json_t *usage(const struct mr_routes *r)
{
	struct mr_routes_usage u = { .synced = false };
	if (r)
		mr_routes_usage(r, &u);
	return json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "synced", u.synced, "routes4_cnt",
		(json_int_t)u.route_cnt[0], "routes6_cnt", (json_int_t)u.route_cnt[1], "prefixes4_cnt",
		(json_int_t)u.prefix_cnt[0], "prefixes6_cnt", (json_int_t)u.prefix_cnt[1], "paths_cnt",
		(json_int_t)u.path_cnt, "nexthops_cnt", (json_int_t)u.nexthop_cnt, "memory_bytes", (json_int_t)u.bytes,
		"messages_cnt", (json_int_t)u.event_cnt, "resyncs_cnt", (json_int_t)u.resync_cnt, "sweeps_cnt",
		(json_int_t)u.sweep_cnt);
}

struct listing {
	json_t *list;
	json_int_t limit;
};

static int add_route(void *ctx, unsigned family, const uint8_t *dst_be, unsigned bits, const char *words)
{
	struct listing *l = ctx;
	char addr[INET6_ADDRSTRLEN], prefix[INET6_ADDRSTRLEN + 8];
	if ((json_int_t)json_array_size(l->list) >= l->limit)
		return 1;
	inet_ntop(family == 4 ? AF_INET : AF_INET6, dst_be, addr, sizeof(addr));
	snprintf(prefix, sizeof(prefix), "%s/%u", addr, bits);
	json_array_append_new(l->list, json_pack("{s:s, s:o}", "prefix", prefix, "route", mr_show_text(words)));
	return 0;
}

/* One address: the route over it.  A prefix: the routes under it. */
static void list_routes(const struct mr_routes *r, const struct mr_prefix *p, struct listing *l)
{
	static const uint8_t zero[16];
	char words[1024];
	if (!p->family) {
		if (!mr_routes_each(r, 4, zero, 0, add_route, l))
			mr_routes_each(r, 6, zero, 0, add_route, l);
		return;
	}
	if (p->len < (p->family == 4 ? 32 : 128)) {
		mr_routes_each(r, p->family, p->addr, p->len, add_route, l);
		return;
	}
	if (mr_routes_describe(r, p->family, p->addr, words, sizeof(words)))
		return;
	char prefix[MR_VALUE_PREFIX_BYTES];
	mr_value_prefix_print(p, prefix, sizeof(prefix));
	json_array_append_new(l->list, json_pack("{s:s, s:o}", "address", prefix, "route", mr_show_text(words)));
}

json_t *mr_show_routes(struct mr_runtime *rt, const json_t *request, struct mr_error *e)
{
	const struct mr_routes *r = rt->sh.routes;
	struct listing l = { .limit = LIMIT_DEFAULT };
	struct mr_prefix p = { .family = 0 };
	const char *text, *why;
	uint8_t family;
	if (mr_show_get_string(request, "prefix", &text, e) ||
		mr_show_get_number(request, "limit", 0, LIMIT_MAX, &l.limit, e))
		return NULL;
	if (text && !mr_value_prefix(text, &p, &family, &why)) {
		mr_error_set(e, -EINVAL, "'%.64s' is neither an address nor a prefix", text);
		return NULL;
	}
	l.list = json_array();
	if (r)
		list_routes(r, &p, &l);
	return json_pack("{s:b, s:I, s:I, s:o, s:o, s:o}", "mirrored", r != NULL, "shown_cnt",
		(json_int_t)json_array_size(l.list), "limit_cnt", l.limit, "usage", usage(r), "unmirrored",
		unmirrored(r), "routes", l.list);
}

struct neighbours {
	struct mr_runtime *rt;
	json_t *list;
};

static void add_neighbour(void *ctx, const struct mr_neighbour_info *n)
{
	struct neighbours *x = ctx;
	char addr[INET6_ADDRSTRLEN] = "", mac[18];
	if (n->family)
		inet_ntop(n->family == 4 ? AF_INET : AF_INET6, n->addr, addr, sizeof(addr));
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", n->mac[0], n->mac[1], n->mac[2], n->mac[3],
		n->mac[4], n->mac[5]);
	const char *name = n->interface_id <= MR_MAX_INTERFACES ? x->rt->interface[n->interface_id].name : NULL;
	bool resolved = !strcmp(n->state, "reachable");
	json_array_append_new(x->list,
		json_pack("{s:i, s:s, s:o, s:i, s:i, s:o, s:s, s:i, s:b, s:I, s:I, s:I}", "slot", (int)n->slot,
			"address", addr, "interface", mr_show_text(name), "ifindex", (int)n->ifindex, "vlan",
			(int)n->vlan, "mac", resolved ? json_string(mac) : json_null(), "state", n->state, "mtu_bytes",
			(int)n->mtu, "tunnel", (int)n->tunnel, "used_ms_ago", (json_int_t)n->used_ms_ago, "asked_cnt",
			(json_int_t)n->asked_cnt, "failed_cnt", (json_int_t)n->failed_cnt));
}

json_t *mr_show_neighbours(struct mr_runtime *rt)
{
	struct neighbours x = { rt, json_array() };
	struct mr_neighbours_usage u = { 0 };
	if (rt->sh.neighbours) {
		struct timespec ts;
		clock_gettime(CLOCK_MONOTONIC, &ts);
		uint32_t now_ms = (uint32_t)((uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000);
		mr_neighbours_each(rt->sh.neighbours, now_ms, add_neighbour, &x);
		mr_neighbours_usage(rt->sh.neighbours, &u);
	}
	return json_pack("{s:o, s:{s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I}}", "neighbours", x.list, "usage",
		"slots_cnt", (int)u.slot_cnt, "slots_max_cnt", (int)u.slot_max, "resolving_cnt", (int)u.resolving_cnt,
		"tunnels_cnt", (int)u.tunnel_cnt, "refused_cnt", (json_int_t)u.refused_cnt, "asked_cnt",
		(json_int_t)u.asked_cnt, "failed_cnt", (json_int_t)u.failed_cnt, "freed_cnt", (json_int_t)u.freed_cnt);
}
