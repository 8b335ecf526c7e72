/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/hotplug.h"
#include "core/offload.h"
#include "core/show_part.h"
#include "core/tier.h"
#include "core/zone.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LIMIT_DEFAULT    100
#define LIMIT_MAX        10000
#define SESSIONS_A_QUIET 1024 /* looked at between two quiet moments, so that nothing waits for a long walk */
#define DEVICES_MS       100  /* between two looks at the devices, as when nothing is asked */
#define READ_TRIES       16

static const char *const state_names[] = { "free", "new", "established", "closing", "closed" };

#define STATES (sizeof(state_names) / sizeof(state_names[0]))

/* What is asked for; every field given must hold. */
struct filter {
	bool any; /* something was given */
	struct mr_prefix addr;
	int port;         /* -1 = any */
	int proto;        /* -1 = any */
	int state;        /* -1 = any */
	int vlan;         /* -1 = any */
	const char *zone; /* NULL = any */
	bool offloaded;   /* only those of which the kernel tier carries out a direction */
	bool count_only;  /* the list is full: no record is read that need not be */
	bool pairs_given;
	bool pair[MR_STATS_INGRESS];
};

/* One direction of a flow, whichever family. */
struct side {
	bool live;
	uint8_t src[16], dst[16], new_src[16], new_dst[16];
	uint16_t sport, dport, new_sport, new_dport; /* host order */
	uint16_t zone;
	uint8_t ingress;
	struct mr_flow_state st;
};

static uint32_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint32_t)((uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000);
}

/* ---- reading records ------------------------------------------------------------------------------------------- */

/* A copy that no writer touched meanwhile (kern/flow.h).  False when it keeps changing: then the flow is passed over. */
static bool copy_record(const void *rec, const struct mr_flow_state *st, void *out, size_t bytes)
{
	for (unsigned try = 0; try < READ_TRIES; try++) {
		if (mr_flow_copy(out, rec, &st->seq, (unsigned)(bytes / 8)))
			return true;
	}
	return false;
}

static void read_side4(const struct mr_flows *t, mr_flow_ref ref, struct side *s)
{
	const struct mr_flow4 *rec = mr_flows_record4(t, ref);
	struct mr_flow4 f;
	if (!rec || !copy_record(rec, &rec->st, &f, sizeof(f)))
		return;
	memcpy(s->src, &f.key.saddr_be, 4);
	memcpy(s->dst, &f.key.daddr_be, 4);
	memcpy(s->new_src, &f.rewrite.saddr_be, 4);
	memcpy(s->new_dst, &f.rewrite.daddr_be, 4);
	s->sport = ntohs(f.key.sport_be);
	s->dport = ntohs(f.key.dport_be);
	s->new_sport = ntohs(f.rewrite.sport_be);
	s->new_dport = ntohs(f.rewrite.dport_be);
	s->zone = f.key.zone;
	s->ingress = f.key.ingress;
	s->st = f.st;
	s->live = true;
}

static void read_side6(const struct mr_flows *t, mr_flow_ref ref, struct side *s)
{
	const struct mr_flow6 *rec = mr_flows_record6(t, ref);
	struct mr_flow6 f;
	if (!rec || !copy_record(rec, &rec->st, &f, sizeof(f)))
		return;
	memcpy(s->src, f.key.saddr_be, 16);
	memcpy(s->dst, f.key.daddr_be, 16);
	memcpy(s->new_src, f.rewrite.saddr_be, 16);
	memcpy(s->new_dst, f.rewrite.daddr_be, 16);
	s->sport = ntohs(f.key.sport_be);
	s->dport = ntohs(f.key.dport_be);
	s->new_sport = ntohs(f.rewrite.sport_be);
	s->new_dport = ntohs(f.rewrite.dport_be);
	s->zone = f.key.zone;
	s->ingress = f.key.ingress;
	s->st = f.st;
	s->live = true;
}

static void read_side(
	struct mr_runtime *rt, const struct mr_session *ss, uint32_t idx, enum mr_direction dir, struct side *s)
{
	memset(s, 0, sizeof(*s));
	mr_flow_ref ref = __atomic_load_n(&ss->ref[dir], __ATOMIC_RELAXED);
	if (ref == MR_FLOW_NONE)
		return;
	if (ss->family == 4)
		read_side4(rt->sh.flows, ref, s);
	else
		read_side6(rt->sh.flows, ref, s);
	if (s->live && s->st.session != idx)
		s->live = false;
}

/* ---- filters --------------------------------------------------------------------------------------------------- */

static int read_prefix(const char *text, struct mr_prefix *out, struct mr_error *e)
{
	char addr[64];
	const char *slash = strchr(text, '/');
	size_t n = slash ? (size_t)(slash - text) : strlen(text);
	struct mr_prefix p = { 0 };
	if (n < sizeof(addr)) {
		memcpy(addr, text, n);
		addr[n] = '\0';
		if (inet_pton(AF_INET, addr, p.addr) == 1)
			p.family = 4;
		else if (inet_pton(AF_INET6, addr, p.addr) == 1)
			p.family = 6;
	}
	unsigned max = p.family == 4 ? 32 : 128;
	char *end = NULL;
	unsigned long len = slash && slash[1] >= '0' && slash[1] <= '9' ? strtoul(slash + 1, &end, 10) : max;
	if (!p.family || (slash && (!end || *end)) || len > max)
		return mr_error_set(
			e, -EINVAL, "addr: '%.64s' is no prefix; write 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32", text);
	p.len = (uint8_t)len;
	*out = p;
	return 0;
}

static int read_state(const char *text, int *out, struct mr_error *e)
{
	for (unsigned i = 1; i < STATES; i++) {
		if (!strcasecmp(text, state_names[i])) {
			*out = (int)i;
			return 0;
		}
	}
	return mr_error_set(
		e, -EINVAL, "state: there is no '%.32s'; there are new, established, closing and closed", text);
}

static int no_such_name(const char *kind, const char *name, struct mr_runtime *rt,
	const char *(*get)(const struct mr_stats *, uint8_t), struct mr_error *e)
{
	char names[256] = "";
	const char *seen[16];
	unsigned cnt = 0;
	for (unsigned id = 1; id < MR_STATS_INGRESS && cnt < 16; id++) {
		const char *have = get(rt->sh.stats, (uint8_t)id);
		unsigned i = 0;
		if (!have || !have[0])
			continue;
		while (i < cnt && strcmp(seen[i], have))
			i++;
		size_t at = strlen(names);
		if (i == cnt && at + strlen(have) + 3 < sizeof(names)) {
			seen[cnt++] = have;
			snprintf(names + at, sizeof(names) - at, "%s%s", at ? ", " : "", have);
		}
	}
	return mr_error_set(
		e, -EINVAL, "no %s is called '%.64s'; there are: %s", kind, name, names[0] ? names : "none");
}

/* Narrows the pairs to those of the name. */
static int read_pairs(struct mr_runtime *rt, const char *kind, const char *name,
	const char *(*get)(const struct mr_stats *, uint8_t), struct filter *f, struct mr_error *e)
{
	unsigned cnt = 0;
	for (unsigned id = 1; id < MR_STATS_INGRESS; id++) {
		const char *have = get(rt->sh.stats, (uint8_t)id);
		bool hit = have && !strcmp(have, name);
		cnt += hit;
		f->pair[id] = hit && (!f->pairs_given || f->pair[id]);
	}
	f->pairs_given = true;
	return cnt ? 0 : no_such_name(kind, name, rt, get, e);
}

static bool zone_known(const struct mr_plan *plan, const char *name)
{
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		int vlan;
		const char *have =
			plan->interface[id].name ? mr_zone_name(plan, plan->interface[id].zone, &vlan) : NULL;
		if (have && !strcmp(have, name))
			return true;
	}
	return false;
}

static int read_filter(struct mr_runtime *rt, const json_t *request, struct filter *f, struct mr_error *e)
{
	const char *addr, *proto, *state, *pipeline, *interface;
	json_int_t port = -1, vlan = -1;
	*f = (struct filter){ .port = -1, .proto = -1, .state = -1 };
	if (mr_show_get_string(request, "addr", &addr, e) || mr_show_get_string(request, "proto", &proto, e) ||
		mr_show_get_string(request, "state", &state, e) ||
		mr_show_get_string(request, "pipeline", &pipeline, e) ||
		mr_show_get_string(request, "interface", &interface, e) ||
		mr_show_get_string(request, "zone", &f->zone, e) ||
		mr_show_get_number(request, "port", 0, 65535, &port, e) ||
		mr_show_get_number(request, "vlan", 0, 4095, &vlan, e))
		return -EINVAL;
	const json_t *offloaded = json_object_get(request, "offloaded");
	if (offloaded && !json_is_boolean(offloaded))
		return mr_error_set(e, -EINVAL, "offloaded wants true or false");
	f->offloaded = json_is_true(offloaded);
	f->port = (int)port;
	f->vlan = (int)vlan;
	f->any = f->offloaded || addr || proto || state || pipeline || interface || f->zone || port >= 0 || vlan >= 0;
	if (f->zone && !zone_known(mr_runtime_plan(rt), f->zone))
		return mr_error_set(e, -EINVAL, "no interface has the zone '%.64s'", f->zone);
	if (addr && read_prefix(addr, &f->addr, e))
		return -EINVAL;
	if (proto && (f->proto = mr_show_proto_number(proto)) < 0)
		return mr_error_set(e, -EINVAL,
			"proto: '%.32s' is no protocol; write tcp, udp, icmp, icmp6, gre, esp, sctp or a number",
			proto);
	if (state && read_state(state, &f->state, e))
		return -EINVAL;
	if (pipeline && read_pairs(rt, "pipeline", pipeline, mr_stats_ingress_pipeline, f, e))
		return -EINVAL;
	if (interface && read_pairs(rt, "interface", interface, mr_stats_ingress_interface, f, e))
		return -EINVAL;
	return 0;
}

static bool in_prefix(const struct mr_prefix *p, const uint8_t *addr)
{
	unsigned whole = p->len / 8, rest = p->len % 8;
	if (memcmp(p->addr, addr, whole))
		return false;
	return !rest || !((p->addr[whole] ^ addr[whole]) >> (8 - rest));
}

/* Any end of either direction: what the packets carry before and after translation. */
static bool match_sides(const struct filter *f, uint8_t family, const struct side side[2])
{
	bool addr = !f->addr.family, port = f->port < 0;
	if (f->addr.family && f->addr.family != family)
		return false;
	for (unsigned d = 0; d < 2; d++) {
		if (!side[d].live)
			continue;
		addr = addr || in_prefix(&f->addr, side[d].src) || in_prefix(&f->addr, side[d].dst);
		port = port || side[d].sport == f->port || side[d].dport == f->port;
	}
	return addr && port;
}

/* Why the kernel tier does not carry it out; OK: it does. */
static enum mr_offload_why why_not(
	struct mr_runtime *rt, const struct mr_session *ss, enum mr_direction dir, const struct side *s)
{
	const struct mr_plan *plan = mr_runtime_plan(rt);
	return plan ? mr_offload_judge(&rt->sh, plan, ss, dir, s->ingress, &s->st) : MR_OFFLOAD_NO_TIER;
}

static bool match_offloaded(struct mr_runtime *rt, const struct mr_session *ss, const struct side side[2])
{
	for (unsigned d = 0; d < 2; d++)
		if (side[d].live && why_not(rt, ss, d, &side[d]) == MR_OFFLOAD_OK)
			return true;
	return false;
}

/* vlan 0: those of a zone with vlan_zones that have no tag. */
static bool match_zone(const struct filter *f, const struct mr_plan *plan, uint16_t zone)
{
	int vlan = -1;
	if (!f->zone && f->vlan < 0)
		return true;
	const char *name = mr_zone_name(plan, zone, &vlan);
	return name && (!f->zone || !strcmp(f->zone, name)) && (f->vlan < 0 || f->vlan == vlan);
}

/* ---- walking --------------------------------------------------------------------------------------------------- */

typedef int (*visit_fn)(
	struct mr_runtime *rt, uint32_t idx, const struct mr_session *ss, const struct side side[2], void *ctx);

/* A quiet moment of a walk, which takes seconds with millions of flows: what cannot wait for its end is done. */
static void breathe(struct mr_runtime *rt, uint32_t *polled_ms)
{
	unsigned slot = rt->sh.worker_cnt;
	mr_epoch_quiet(rt->sh.epoch, slot);
	if (now_ms() - *polled_ms < DEVICES_MS)
		return;
	mr_epoch_offline(rt->sh.epoch, slot); /* a new plan waits for all who are online */
	mr_hotplug_poll(rt);
	mr_epoch_online(rt->sh.epoch, slot);
	*polled_ms = now_ms();
}

/* Visits what the filter wants, online in control's epoch slot.  Stops at the first error. */
static int walk(struct mr_runtime *rt, const struct filter *f, visit_fn visit, void *ctx)
{
	unsigned slot = rt->sh.worker_cnt, cnt = 0;
	uint32_t polled_ms = now_ms();
	int err = 0;
	mr_epoch_online(rt->sh.epoch, slot);
	for (uint32_t idx = mr_sessions_next(rt->sh.sessions, 1); idx && !err;
		idx = mr_sessions_next(rt->sh.sessions, idx + 1)) {
		struct side side[2];
		if (++cnt % SESSIONS_A_QUIET == 0)
			breathe(rt, &polled_ms);
		const struct mr_session *ss = mr_session_at(rt->sh.sessions, idx);
		uint8_t state = __atomic_load_n(&ss->state, __ATOMIC_ACQUIRE);
		if (state == MR_SESSION_FREE || state >= STATES || (f->state >= 0 && state != f->state) ||
			(f->proto >= 0 && ss->proto != f->proto) ||
			(f->pairs_given && !f->pair[ss->ingress % MR_STATS_INGRESS]))
			continue;
		if (f->count_only && !f->addr.family && f->port < 0 && !f->zone && f->vlan < 0 && !f->offloaded) {
			err = visit(rt, idx, ss, NULL, ctx);
			continue;
		}
		read_side(rt, ss, idx, MR_FORWARD, &side[MR_FORWARD]);
		read_side(rt, ss, idx, MR_REPLY, &side[MR_REPLY]);
		if (side[MR_FORWARD].live && match_zone(f, mr_runtime_plan(rt), side[MR_FORWARD].zone) &&
			match_sides(f, ss->family, side) && (!f->offloaded || match_offloaded(rt, ss, side)))
			err = visit(rt, idx, ss, side, ctx);
	}
	mr_epoch_offline(rt->sh.epoch, slot);
	return err;
}

/* ---- show flows ------------------------------------------------------------------------------------------------ */

static json_t *addr_text(uint8_t family, const uint8_t *addr)
{
	char buf[INET6_ADDRSTRLEN] = "";
	inet_ntop(family == 4 ? AF_INET : AF_INET6, addr, buf, sizeof(buf));
	return json_string(buf);
}

static json_t *nexthop_text(struct mr_runtime *rt, uint16_t slot)
{
	struct mr_nexthop nh;
	if (slot == MR_NEXTHOP_BACK)
		return json_string("back");
	if (slot == MR_NEXTHOP_KERNEL)
		return json_string("kernel");
	if (slot == 0)
		return json_null();
	mr_nexthops_get(rt->sh.nexthops, slot, &nh);
	return mr_show_text(nh.egress && nh.egress <= MR_MAX_INTERFACES ? rt->interface[nh.egress].name : NULL);
}

static json_t *side_json(struct mr_runtime *rt, uint32_t idx, const struct mr_session *ss, enum mr_direction dir,
	const struct side *s, uint32_t now)
{
	uint64_t packets = 0, bytes = 0;
	if (!s->live)
		return json_null();
	mr_session_totals(rt->sh.sessions, idx, dir, &packets, &bytes);
	const struct mr_plan *plan = mr_runtime_plan(rt);
	bool decided = s->st.flags & MR_FLOW_DECIDED;
	enum mr_offload_why why = why_not(rt, ss, dir, s);
	json_t *o = json_pack("{s:I, s:I, s:b, s:b, s:o, s:b, s:I, s:o}", "packets", (json_int_t)packets, "bytes",
		(json_int_t)bytes, "decided", (int)decided, "offloaded", (int)(why == MR_OFFLOAD_OK), "offload_why",
		why == MR_OFFLOAD_OK ? json_null() : json_string(mr_offload_name(why)), "current",
		(int)(plan && plan->generation == s->st.generation), "idle_ms",
		(json_int_t)(uint32_t)(now - s->st.last_seen_ms), "to",
		decided ? nexthop_text(rt, s->st.nexthop) : json_null());
	if (o && decided && s->st.flags & MR_FLOW_SNAT) {
		json_object_set_new(o, "new_source", addr_text(ss->family, s->new_src));
		json_object_set_new(o, "new_source_port", json_integer(s->new_sport));
	}
	if (o && decided && s->st.flags & MR_FLOW_DNAT) {
		json_object_set_new(o, "new_destination", addr_text(ss->family, s->new_dst));
		json_object_set_new(o, "new_destination_port", json_integer(s->new_dport));
	}
	return o;
}

struct listing {
	struct filter *filter;
	json_t *list;
	uint64_t total;
	json_int_t limit;
	uint32_t now;
};

static int put_ports(json_t *o, const struct mr_session *ss, const struct side *s)
{
	if (ss->proto == IPPROTO_ICMP ||
		ss->proto == IPPROTO_ICMPV6) /* kern/flow.h: a query's ports are its id and its type */
		return json_object_set_new(o, "icmp_id", json_integer(s->sport)) ||
			json_object_set_new(o, "icmp_type", json_integer(s->dport));
	return json_object_set_new(o, "source_port", json_integer(s->sport)) ||
		json_object_set_new(o, "destination_port", json_integer(s->dport));
}

static int list_flow(
	struct mr_runtime *rt, uint32_t idx, const struct mr_session *ss, const struct side side[2], void *ctx)
{
	struct listing *l = ctx;
	char proto[4];
	l->total++;
	l->filter->count_only = (json_int_t)json_array_size(l->list) >= l->limit;
	if (l->filter->count_only)
		return 0;
	const struct side *fw = &side[MR_FORWARD];
	uint8_t pair = (uint8_t)(ss->ingress % MR_STATS_INGRESS), state = __atomic_load_n(&ss->state, __ATOMIC_RELAXED);
	int vlan = -1;
	json_t *zone = mr_show_text(mr_zone_name(mr_runtime_plan(rt), fw->zone, &vlan));
	json_t *o =
		json_pack("{s:I, s:i, s:s, s:s, s:o, s:o, s:o, s:o}", "id", (json_int_t)idx, "family", (int)ss->family,
			"proto", mr_show_proto(ss->proto, proto), "state", state < STATES ? state_names[state] : "free",
			"zone", zone, "vlan", vlan < 0 ? json_null() : json_integer(vlan), "source",
			addr_text(ss->family, fw->src), "destination", addr_text(ss->family, fw->dst));
	json_t *more = json_pack("{s:o, s:o, s:I, s:I, s:b, s:o, s:o}", "interface",
		mr_show_text(mr_stats_ingress_interface(rt->sh.stats, pair)), "pipeline",
		mr_show_text(mr_stats_ingress_pipeline(rt->sh.stats, pair)), "age_ms",
		(json_int_t)(uint32_t)(l->now - ss->created_ms), "remaining_ms",
		(json_int_t)mr_session_remaining_ms(rt->sh.sessions, idx, l->now), "one_way",
		(__atomic_load_n(&ss->flags, __ATOMIC_RELAXED) & MR_SESSION_ONE_WAY) != 0, "forward",
		side_json(rt, idx, ss, MR_FORWARD, fw, l->now), "reply",
		side_json(rt, idx, ss, MR_REPLY, &side[MR_REPLY], l->now));
	int err = !o || !more || put_ports(o, ss, fw) || json_object_update(o, more);
	json_decref(more);
	if (err) {
		json_decref(o);
		return -ENOMEM;
	}
	return json_array_append_new(l->list, o) ? -ENOMEM : 0;
}

json_t *mr_show_flows_usage(struct mr_runtime *rt)
{
	struct mr_sessions_usage s;
	struct mr_flows_usage f;
	mr_sessions_usage(rt->sh.sessions, &s);
	mr_flows_usage(rt->sh.flows, &f);
	struct mr_tier_options tier = { .flows_bytes = { mr_flows_buckets4(rt->sh.flows) * sizeof(struct mr_bucket4),
						mr_flows_buckets6(rt->sh.flows) * sizeof(struct mr_bucket6) } };
	json_t *table = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "offloaded_cnt",
		(json_int_t)f.offloaded, "live4_cnt", (json_int_t)f.live4, "live6_cnt", (json_int_t)f.live6,
		"slots4_cnt", (json_int_t)f.slots4, "slots6_cnt", (json_int_t)f.slots6, "overflow4_cnt",
		(json_int_t)f.overflow4, "overflow6_cnt", (json_int_t)f.overflow6, "memory_bytes", (json_int_t)f.bytes,
		"kernel_memory_bytes", (json_int_t)(rt->sh.tier ? mr_tier_bytes(&tier) : 0), "huge_pages", (int)f.huge);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "capacity_cnt",
		(json_int_t)s.capacity, "live_cnt", (json_int_t)s.live, "half_open_cnt", (json_int_t)s.half_open,
		"created_cnt", (json_int_t)s.created, "expired_cnt", (json_int_t)s.expired, "ended_cnt",
		(json_int_t)s.ended, "evicted_cnt", (json_int_t)s.evicted, "refused_full_cnt",
		(json_int_t)s.refused_full, "refused_half_open_cnt", (json_int_t)s.refused_half_open, "lost_race_cnt",
		(json_int_t)s.lost_race, "memory_bytes", (json_int_t)s.bytes, "records", table);
}

json_t *mr_show_flows(struct mr_runtime *rt, const json_t *request, struct mr_error *e)
{
	struct filter f;
	struct listing l = { .filter = &f, .limit = LIMIT_DEFAULT, .now = now_ms() };
	if (read_filter(rt, request, &f, e) || mr_show_get_number(request, "limit", 0, LIMIT_MAX, &l.limit, e))
		return NULL;
	l.list = json_array();
	if (!l.list || walk(rt, &f, list_flow, &l)) {
		json_decref(l.list);
		mr_error_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	return json_pack("{s:I, s:I, s:I, s:o, s:o}", "total_cnt", (json_int_t)l.total, "shown_cnt",
		(json_int_t)json_array_size(l.list), "limit_cnt", l.limit, "usage", mr_show_flows_usage(rt), "flows",
		l.list);
}

/* ---- flows delete ---------------------------------------------------------------------------------------------- */

static int end_flow(
	struct mr_runtime *rt, uint32_t idx, const struct mr_session *ss, const struct side side[2], void *ctx)
{
	*(uint64_t *)ctx += mr_session_end(rt->sh.sessions, rt->sh.worker_cnt, idx, now_ms());
	return 0;
}

json_t *mr_show_flows_delete(struct mr_runtime *rt, const json_t *request, struct mr_error *e)
{
	struct filter f;
	uint64_t cnt = 0;
	json_t *all = json_object_get(request, "all");
	if (all && !json_is_boolean(all)) {
		mr_error_set(e, -EINVAL, "all wants true or false");
		return NULL;
	}
	if (read_filter(rt, request, &f, e))
		return NULL;
	if (f.any == (bool)json_is_true(all)) {
		mr_error_set(e, -EINVAL,
			f.any ? "all flows or those of a filter: say one of the two"
			      : "say which flows: give a filter (addr, port, proto, state, pipeline, interface, zone, "
				"vlan, offloaded), or all");
		return NULL;
	}
	walk(rt, &f, end_flow, &cnt);
	return json_pack("{s:I}", "deleted_cnt", (json_int_t)cnt);
}
