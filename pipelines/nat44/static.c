/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * static.c - static rules: inside addresses (and ports) that have an outside one for themselves.
 *
 * Rules are compiled into two sorted arrays of pieces that do not overlap, one for packets from outside, one for those from inside.  Two rules
 * must not claim the same outside end; they may lead to the same inside end, which then goes out by the first of them.
 *
 * A session remembers which end of which rule it was made by: the rule's identity, by what it says, and an offset.  So a later configuration
 * can tell exactly whether it still says so.
 */
#include "pipelines/nat44/nat44.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A piece: addresses lo..hi and ports from..to of one protocol. */
struct nat_find {
	int16_t proto;
	uint16_t from, to;
	uint32_t lo, hi;
	const struct nat_rule *rule;
};

struct text {
	char text[INET_ADDRSTRLEN];
};

static struct text address_text(uint32_t address)
{
	struct text t;
	__be32 be = htonl(address);
	inet_ntop(AF_INET, &be, t.text, sizeof(t.text));
	return t;
}

static uint32_t address_of(const struct mr_prefix *p)
{
	return (uint32_t)p->addr[0] << 24 | (uint32_t)p->addr[1] << 16 | (uint32_t)p->addr[2] << 8 | p->addr[3];
}

/* ---- one rule --------------------------------------------------------------------------------------------------- */

static int check_addresses(
	struct mr_stage_env *env, const struct nat_static_options *o, const struct nat_ranges *inside)
{
	if (o->inside.family != 4 || o->outside.family != 4)
		return mr_stage_error(env, o->at, "static: a rule is about IPv4 (want IPv4 addresses or prefixes)");
	if (o->inside.len != o->outside.len)
		return mr_stage_error(env, o->at,
			"static: inside is a /%u and outside a /%u (want prefixes of equal length)", o->inside.len,
			o->outside.len);
	if (o->inside.len < 8)
		return mr_stage_error(env, o->at, "static: a /%u is too large (want /8 to /32)", o->inside.len);
	uint32_t first = address_of(&o->inside), more = o->inside.len == 32 ? 0 : 0xffffffffu >> o->inside.len;
	if (!nat_ranges_cover(inside, first, first + more))
		return mr_stage_error(
			env, o->at, "static: %s/%u is not part of inside", address_text(first).text, o->inside.len);
	return 0;
}

static int check_ports(struct mr_stage_env *env, const struct nat_static_options *o)
{
	if (!o->proto.cnt) {
		if (o->ports.cnt || o->inside_ports.cnt)
			return mr_stage_error(
				env, o->at, "static: ports need a protocol (want proto: tcp, udp or both)");
		return 0;
	}
	if (o->inside.len != 32)
		return mr_stage_error(env, o->at,
			"static: a rule with a protocol is about one address (want addresses, not prefixes)");
	if (!o->ports.cnt) {
		if (o->inside_ports.cnt)
			return mr_stage_error(env, o->at, "static: inside_ports need ports");
		return 0;
	}
	for (uint32_t i = 0; i < o->proto.cnt; i++)
		for (uint32_t p = o->proto.items[i].lo; p <= o->proto.items[i].hi; p++)
			if (p != IPPROTO_TCP && p != IPPROTO_UDP)
				return mr_stage_error(env, o->at,
					"static: protocol %u has no ports here (want tcp or udp, or no ports)", p);
	if (o->ports.cnt > 1 || o->inside_ports.cnt > 1)
		return mr_stage_error(env, o->at, "static: more than one range of ports (want a rule for each)");
	struct mr_range out = o->ports.items[0], in = o->inside_ports.cnt ? o->inside_ports.items[0] : out;
	if (!out.lo || !in.lo)
		return mr_stage_error(env, o->at, "static: port 0 is nobody's (want 1-65535)");
	if (out.hi - out.lo != in.hi - in.lo)
		return mr_stage_error(env, o->at,
			"static: %u ports outside and %u inside (want ranges of equal length)", out.hi - out.lo + 1,
			in.hi - in.lo + 1);
	return 0;
}

static struct nat_rule compile(struct mr_stage_env *env, const struct nat_static_options *o, int proto)
{
	struct nat_rule r = { .inside = address_of(&o->inside),
		.outside = address_of(&o->outside),
		.address_cnt = 1u << (32 - o->inside.len),
		.proto = (int16_t)proto,
		.last_port = UINT16_MAX,
		.where = mr_stage_where(env, o->at) };
	if ((proto == IPPROTO_TCP || proto == IPPROTO_UDP) && o->ports.cnt) {
		r.ports = true;
		r.outside_port = (uint16_t)o->ports.items[0].lo;
		r.last_port = (uint16_t)o->ports.items[0].hi;
		r.inside_port = o->inside_ports.cnt ? (uint16_t)o->inside_ports.items[0].lo : r.outside_port;
	}
	return r;
}

static uint32_t protocols(const struct nat_static_options *o)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < o->proto.cnt; i++)
		n += o->proto.items[i].hi - o->proto.items[i].lo + 1;
	return n ? n : 1;
}

/* ---- pieces ----------------------------------------------------------------------------------------------------- */

static int compare(const struct nat_find *f, int proto, uint32_t address, uint16_t port)
{
	if (f->proto != proto)
		return f->proto < proto ? -1 : 1;
	if (f->lo != address)
		return f->lo < address ? -1 : 1;
	return f->from == port ? 0 : f->from < port ? -1 : 1;
}

static int by_place(const void *a, const void *b)
{
	const struct nat_find *x = a, *y = b;
	return compare(x, y->proto, y->lo, y->from);
}

/* The piece that holds it; NULL: none. */
static const struct nat_find *find(const struct nat_find *f, uint32_t cnt, int proto, uint32_t address, uint16_t port)
{
	uint32_t lo = 0, hi = cnt; /* the first that begins after it */
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (compare(&f[mid], proto, address, port) <= 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo)
		return NULL;
	f += lo - 1;
	return f->proto == proto && f->hi >= address && f->to >= port ? f : NULL;
}

/* Two pieces have something in common.  Rules of all protocols have it with those of one. */
static bool overlap(const struct nat_find *a, const struct nat_find *b, bool any_proto)
{
	bool same = a->proto == b->proto || (any_proto && (a->proto == NAT_PROTO_ALL || b->proto == NAT_PROTO_ALL));
	return same && a->lo <= b->hi && b->lo <= a->hi && a->from <= b->to && b->from <= a->to;
}

static struct nat_find outside_piece(const struct nat_rule *r)
{
	return (struct nat_find){ .proto = r->proto,
		.from = r->outside_port,
		.to = r->last_port,
		.lo = r->outside,
		.hi = r->outside + (r->address_cnt - 1),
		.rule = r };
}

static struct nat_find inside_piece(const struct nat_rule *r)
{
	struct nat_find f = outside_piece(r);
	f.lo = r->inside;
	f.hi = r->inside + (r->address_cnt - 1);
	f.from = r->inside_port;
	f.to = (uint16_t)(r->inside_port + (r->last_port - r->outside_port));
	return f;
}

static int by_address(const void *a, const void *b)
{
	const struct nat_find *x = a, *y = b;
	return x->lo < y->lo ? -1 : x->lo > y->lo;
}

/* No two rules claim the same outside end.  By address, so that only neighbours need be compared. */
static int refuse_collisions(
	struct mr_stage_env *env, const struct nat_options *o, struct nat_statics *s, const struct mr_position *at)
{
	struct nat_find *f = s->by_outside;
	qsort(f, s->by_outside_cnt, sizeof(*f), by_address);
	for (uint32_t i = 0; i < s->by_outside_cnt; i++)
		for (uint32_t k = i + 1; k < s->by_outside_cnt && f[k].lo <= f[i].hi; k++) {
			if (!overlap(&f[i], &f[k], true))
				continue;
			const struct nat_rule *a = f[i].rule, *b = f[k].rule, *late = a > b ? a : b,
					      *early = a > b ? b : a;
			return mr_stage_error(env, at[late - s->rule],
				"static: the rule at %s has this outside address%s already (%s)", early->where,
				late->ports ? " and port" : "",
				address_text(f[k].lo > f[i].lo ? f[k].lo : f[i].lo).text);
		}
	return 0;
}

/* What of `piece` no earlier one has.  One to one: an inside address has one outside address. */
static int add_inside(struct mr_stage_env *env, struct nat_statics *s, struct nat_find piece, uint32_t *room,
	const struct mr_position *at)
{
	for (uint32_t i = 0; i < s->by_inside_cnt; i++) {
		struct nat_find *f = &s->by_inside[i], rest = piece;
		if (!overlap(f, &piece, false))
			continue;
		if (piece.proto == NAT_PROTO_ALL)
			return mr_stage_error(env, at[piece.rule - s->rule],
				"static: the rule at %s has this inside address already (%s)", f->rule->where,
				address_text(piece.lo > f->lo ? piece.lo : f->lo).text);
		if (piece.to > f->to) { /* of one address: only ports are left over */
			rest.from = (uint16_t)(f->to + 1);
			int err = add_inside(env, s, rest, room, at);
			if (err)
				return err;
			f = &s->by_inside[i];
		}
		if (piece.from >= f->from)
			return 0;
		piece.to = (uint16_t)(f->from - 1);
	}
	if (s->by_inside_cnt == *room) {
		struct nat_find *grown = realloc(s->by_inside, 2 * (*room + 8) * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		s->by_inside = grown;
		*room = 2 * (*room + 8);
	}
	s->by_inside[s->by_inside_cnt++] = piece;
	return 0;
}

/* ---- all of them ------------------------------------------------------------------------------------------------ */

static int compile_all(struct mr_stage_env *env, const struct nat_options *o, const struct nat_ranges *inside,
	struct nat_statics *s, struct mr_position *at)
{
	const struct nat_static_options *rules = o->rules.items;
	for (uint32_t i = 0; i < o->rules.cnt; i++) {
		const struct nat_static_options *r = &rules[i];
		int err = check_addresses(env, r, inside);
		if (!err)
			err = check_ports(env, r);
		if (err)
			return err;
		if (s->cnt + protocols(r) > NAT_STATIC_MAX)
			return mr_stage_error(
				env, r->at, "static: more than %u rules (each protocol is one)", NAT_STATIC_MAX);
		if (!r->proto.cnt) {
			at[s->cnt] = r->at;
			s->rule[s->cnt++] = compile(env, r, NAT_PROTO_ALL);
		}
		for (uint32_t k = 0; k < r->proto.cnt; k++)
			for (uint32_t p = r->proto.items[k].lo; p <= r->proto.items[k].hi; p++) {
				at[s->cnt] = r->at;
				s->rule[s->cnt++] = compile(env, r, (int)p);
			}
	}
	return 0;
}

static int index_all(
	struct mr_stage_env *env, const struct nat_options *o, struct nat_statics *s, const struct mr_position *at)
{
	uint32_t room = 0;
	int err = 0;
	s->by_outside = calloc(s->cnt, sizeof(*s->by_outside));
	if (!s->by_outside)
		return -ENOMEM;
	for (uint32_t i = 0; i < s->cnt && !err; i++) {
		const struct nat_rule *r = &s->rule[i];
		uint32_t last = r->outside + (r->address_cnt - 1);
		s->by_outside[s->by_outside_cnt++] = outside_piece(r);
		err = add_inside(env, s, inside_piece(r), &room, at);
		if (!err)
			err = nat_ranges_add(&s->outsides, r->outside, last);
		if (!err && r->proto == NAT_PROTO_ALL)
			err = nat_ranges_add(&s->whole, r->outside, last);
	}
	if (!err)
		err = refuse_collisions(env, o, s, at);
	if (err)
		return err;
	nat_ranges_merge(&s->outsides);
	nat_ranges_merge(&s->whole);
	qsort(s->by_outside, s->by_outside_cnt, sizeof(*s->by_outside), by_place);
	qsort(s->by_inside, s->by_inside_cnt, sizeof(*s->by_inside), by_place);
	return 0;
}

int nat_statics_make(
	struct mr_stage_env *env, const struct nat_options *o, const struct nat_ranges *inside, struct nat_statics *out)
{
	struct nat_statics s = { 0 };
	if (!o->rules.cnt) {
		*out = s;
		return 0;
	}
	struct mr_position *at = calloc(NAT_STATIC_MAX, sizeof(*at));
	s.rule = calloc(NAT_STATIC_MAX, sizeof(*s.rule));
	int err = at && s.rule ? compile_all(env, o, inside, &s, at) : -ENOMEM;
	if (!err)
		err = index_all(env, o, &s, at);
	free(at);
	if (err)
		nat_statics_free(&s);
	else
		*out = s;
	return err;
}

void nat_statics_free(struct nat_statics *s)
{
	free(s->rule);
	free(s->by_outside);
	free(s->by_inside);
	nat_ranges_free(&s->whole);
	nat_ranges_free(&s->outsides);
	memset(s, 0, sizeof(*s));
}

/* ---- looking up ------------------------------------------------------------------------------------------------- */

static bool lead(const struct nat_find *f, uint32_t address, uint16_t port, bool inward, struct nat_end *out)
{
	const struct nat_rule *r = f ? f->rule : NULL;
	if (!r || !r->identity)
		return false;
	uint32_t from = inward ? r->outside : r->inside, to = inward ? r->inside : r->outside;
	out->rule = r;
	out->address_be = htonl(to + (address - from));
	out->offset = address - from;
	out->port_be = MR_PORT_KEEP;
	if (r->ports) {
		out->offset = (uint16_t)(port - (inward ? r->outside_port : r->inside_port));
		out->port_be = htons((uint16_t)((inward ? r->inside_port : r->outside_port) + out->offset));
	}
	return true;
}

/* A forward before one to one. */
bool nat_statics_inward(
	const struct nat_statics *s, uint8_t proto, __be32 outside_be, __be16 port_be, struct nat_end *out)
{
	uint32_t a = ntohl(outside_be);
	uint16_t p = ntohs(port_be);
	return lead(find(s->by_outside, s->by_outside_cnt, proto, a, p), a, p, true, out) ||
		lead(find(s->by_outside, s->by_outside_cnt, NAT_PROTO_ALL, a, p), a, p, true, out);
}

bool nat_statics_outward(
	const struct nat_statics *s, uint8_t proto, __be32 inside_be, __be16 port_be, struct nat_end *out)
{
	uint32_t a = ntohl(inside_be);
	uint16_t p = ntohs(port_be);
	return lead(find(s->by_inside, s->by_inside_cnt, proto, a, p), a, p, false, out) ||
		lead(find(s->by_inside, s->by_inside_cnt, NAT_PROTO_ALL, a, p), a, p, false, out);
}

/* ---- identities --------------------------------------------------------------------------------------------------- */

int nat_identities_make(struct nat_identities *ids)
{
	/* pages nobody writes are not there */
	*ids = (struct nat_identities){ .rule = calloc(NAT_IDENTITIES_MAX + 1, sizeof(*ids->rule)) };
	return ids->rule ? 0 : -ENOMEM;
}

void nat_identities_free(struct nat_identities *ids)
{
	free(ids->rule);
	memset(ids, 0, sizeof(*ids));
}

static bool say_the_same(const struct nat_rule *a, const struct nat_rule *b)
{
	return a->inside == b->inside && a->outside == b->outside && a->address_cnt == b->address_cnt &&
		a->proto == b->proto && a->ports == b->ports && a->inside_port == b->inside_port &&
		a->outside_port == b->outside_port && a->last_port == b->last_port;
}

static uint16_t number_of(struct nat_identities *ids, const struct nat_rule *r)
{
	for (uint32_t i = 1; i <= ids->cnt; i++)
		if (say_the_same(&ids->rule[i], r))
			return (uint16_t)i;
	if (ids->cnt == NAT_IDENTITIES_MAX)
		return 0;
	ids->rule[ids->cnt + 1] = *r;
	ids->rule[ids->cnt + 1].where = NULL; /* lives only as long as its configuration */
	return (uint16_t)++ids->cnt;
}

void nat_statics_number(struct nat_statics *s, struct nat_identities *ids)
{
	for (uint32_t i = 0; i < s->cnt; i++)
		s->rule[i].identity = number_of(ids, &s->rule[i]);
}

bool nat_statics_keep(const struct nat_statics *s, const struct nat_identities *ids, uint16_t identity, uint32_t offset,
	__be32 *outside_be)
{
	const struct nat_rule *was = &ids->rule[identity];
	uint32_t address = was->outside + (was->ports ? 0 : offset);
	uint16_t port = was->ports ? (uint16_t)(was->outside_port + offset) : 0;
	struct nat_end now;
	*outside_be = htonl(address);
	if (!lead(find(s->by_outside, s->by_outside_cnt, was->proto, address, port), address, port, true, &now) ||
		now.rule->ports != was->ports)
		return false;
	return ntohl(now.address_be) == was->inside + (was->ports ? 0 : offset) &&
		(!was->ports || ntohs((uint16_t)now.port_be) == was->inside_port + offset);
}
