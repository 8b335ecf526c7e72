/* SPDX-License-Identifier: BSD-2-Clause */
/* show.c - what `millrace show nat` is told: the use of the pool, subscribers, mappings, the log.  docs/control.md has the keys. */
#include "pipelines/nat44/nat44.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIMIT_DEFAULT 20
#define LIMIT_MAX     10000

static const char *const protos[NAT_PROTO_CNT] = { [NAT_TCP] = "tcp", [NAT_UDP] = "udp", [NAT_ICMP] = "icmp" };

/* As the drop reasons nat44-... of the same. */
static const char *const outcomes[NAT_OUTCOME_CNT] = {
	[NAT_NO_PORTS] = "ports",
	[NAT_NO_BLOCKS] = "blocks",
	[NAT_BLOCK_LIMIT] = "block-limit",
	[NAT_SESSION_LIMIT] = "session-limit",
	[NAT_MAPPING_LIMIT] = "mapping-limit",
	[NAT_NO_MEMORY] = "memory",
	[NAT_NO_ADDRESS] = "no-address",
};

/* An end that was asked for. */
struct end {
	bool given;
	__be32 addr_be;
	int port; /* -1 = any */
};

struct question {
	bool addresses, subscribers, mappings;
	struct end inside, outside;
	json_int_t limit;
};

/* ---- what is asked ------------------------------------------------------------------------------------------------------- */

static int refuse(char **answer, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int refuse(char **answer, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	int n = vasprintf(answer, fmt, ap);
	va_end(ap);
	return n < 0 ? -ENOMEM : -EINVAL;
}

static int read_end(const json_t *request, const char *key, struct end *out, char **answer)
{
	const json_t *v = json_object_get(request, key);
	const char *text = json_string_value(v), *colon = text ? strchr(text, ':') : NULL;
	char addr[INET_ADDRSTRLEN];
	size_t n = !text ? 0 : colon ? (size_t)(colon - text) : strlen(text);
	*out = (struct end){ .port = -1 };
	if (!v)
		return 0;
	if (text && n < sizeof(addr)) {
		memcpy(addr, text, n);
		addr[n] = '\0';
		out->given = inet_pton(AF_INET, addr, &out->addr_be) == 1;
	}
	if (out->given && colon) {
		char *rest;
		unsigned long port = strtoul(colon + 1, &rest, 10);
		out->given = colon[1] >= '0' && colon[1] <= '9' && !*rest && port <= 65535;
		out->port = (int)port;
	}
	return out->given ? 0 : refuse(answer, "%s wants an IPv4 address, with or without a port: 192.0.2.1:4000", key);
}

static int read_question(const json_t *request, struct question *q, char **answer)
{
	const json_t *limit = json_object_get(request, "limit");
	*q = (struct question){ .addresses = json_is_true(json_object_get(request, "addresses")),
		.subscribers = json_is_true(json_object_get(request, "subscribers")),
		.mappings = json_is_true(json_object_get(request, "mappings")),
		.limit = limit ? json_integer_value(limit) : LIMIT_DEFAULT };
	int err = read_end(request, "inside", &q->inside, answer);
	if (!err)
		err = read_end(request, "outside", &q->outside, answer);
	if (err)
		return err;
	if (q->addresses + q->subscribers + q->mappings > 1)
		return refuse(answer, "one of addresses, subscribers and mappings at a time");
	if (!q->addresses && !q->subscribers && (q->inside.given || q->outside.given))
		q->mappings = true;
	if (q->addresses && (q->inside.given || q->outside.given))
		return refuse(answer, "inside and outside belong to subscribers and mappings");
	if (q->subscribers && (q->inside.port >= 0 || q->outside.port >= 0))
		return refuse(answer, "a subscriber is an address: without a port");
	if ((limit && !json_is_integer(limit)) || q->limit < 0 || q->limit > LIMIT_MAX)
		return refuse(answer, "limit wants a number from 0 to %d", LIMIT_MAX);
	return 0;
}

/* ---- pieces ---------------------------------------------------------------------------------------------------------------- */

static json_t *address(__be32 addr_be)
{
	char addr[INET_ADDRSTRLEN];
	return json_string(inet_ntop(AF_INET, &addr_be, addr, sizeof(addr)));
}

static json_t *number(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static json_t *ports_of(const struct nat_address_usage *u, unsigned proto, uint64_t ports)
{
	return json_pack("{s:o, s:o, s:o, s:o}", "ports_cnt", number(ports), "taken_cnt", number(u->taken[proto]),
		"resting_cnt", number(u->resting[proto]), "reserved_cnt", number(u->reserved[proto]));
}

static uint32_t ports_each(const struct nat *n)
{
	return (uint32_t)n->policy.port_hi - n->policy.port_lo + 1;
}

/* Blocks of an address: those it had before its first one was given are counted too. */
static uint32_t blocks_each(const struct nat *n)
{
	uint32_t size = n->policy.block_ports;
	return size ? n->policy.port_hi / size - n->policy.port_lo / size + 1 : 0;
}

/* Sums over the addresses that dynamic mappings may use. */
static int add_pool(const struct nat *n, json_t *o)
{
	struct nat_address_usage one;
	uint64_t sum[3][NAT_PROTO_CNT] = { 0 }, blocks = 0, blocks_taken = 0;
	for (uint32_t i = 0; i < n->pool_cnt; i++) {
		if (!nat_store_address_usage(n->shared->store, n->pool_number[i], &one))
			continue;
		for (unsigned p = 0; p < NAT_PROTO_CNT; p++) {
			sum[0][p] += one.taken[p];
			sum[1][p] += one.resting[p];
			sum[2][p] += one.reserved[p];
		}
		blocks += blocks_each(n);
		blocks_taken += one.blocks_taken;
	}
	json_t *pool = json_object();
	for (unsigned p = 0; p < NAT_PROTO_CNT; p++)
		json_object_set_new(pool, protos[p],
			json_pack("{s:o, s:o, s:o, s:o}", "ports_cnt", number((uint64_t)n->pool_cnt * ports_each(n)),
				"taken_cnt", number(sum[0][p]), "resting_cnt", number(sum[1][p]), "reserved_cnt",
				number(sum[2][p])));
	return json_object_set_new(o, "pool", pool) |
		json_object_set_new(o, "pool_addresses_cnt", number(n->pool_cnt)) |
		json_object_set_new(o, "pool_left_out_cnt", number(n->pool_left_out)) |
		json_object_set_new(o, "blocks_cnt", number(blocks)) |
		json_object_set_new(o, "blocks_taken_cnt", number(blocks_taken));
}

static json_t *log_of(const struct nat *n)
{
	struct nat_log_usage u;
	char path[PATH_MAX];
	if (!n->log)
		return json_null();
	nat_log_usage(n->log, &u);
	const char *file = nat_log_file(n->log);
	if (file && file[0] != '/' && getcwd(path, sizeof(path))) { /* the asker has another working folder */
		size_t at = strlen(path);
		if (at + strlen(file) + 2 <= sizeof(path)) {
			snprintf(path + at, sizeof(path) - at, "/%s", file);
			file = path;
		}
	}
	return json_pack("{s:o, s:s, s:o, s:o, s:o, s:o, s:o}", "file", file ? json_string(file) : json_null(),
		"events", n->o->log.events == NAT_LOG_BLOCKS ? "blocks" : "sessions", "written_cnt", number(u.written),
		"lost_cnt", number(u.lost), "failed_cnt", number(u.failed), "waiting_cnt", number(u.waiting), "error",
		u.error ? json_string(strerror(u.error)) : json_null());
}

static uint64_t summed(const struct nat *n, size_t offset)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i <= n->shared->worker_cnt; i++) {
		const uint8_t *c = (const uint8_t *)&n->shared->counts[i];
		sum += __atomic_load_n((const uint64_t *)(const void *)(c + offset), __ATOMIC_RELAXED);
	}
	return sum;
}

static json_t *sessions_of(const struct nat *n)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o}", "out_cnt",
		number(summed(n, offsetof(struct nat_counts, opened_out))), "in_cnt",
		number(summed(n, offsetof(struct nat_counts, opened_in))), "hairpin_cnt",
		number(summed(n, offsetof(struct nat_counts, opened_hairpin))), "static_cnt",
		number(summed(n, offsetof(struct nat_counts, opened_static))), "ended_cnt",
		number(summed(n, offsetof(struct nat_counts, ended))));
}

static json_t *summary(const struct nat *n)
{
	struct nat_store_usage u;
	nat_store_usage(n->shared->store, &u);
	json_t *refused = json_object();
	for (unsigned i = 0; i < NAT_OUTCOME_CNT; i++) {
		if (outcomes[i])
			json_object_set_new(refused, outcomes[i], number(u.refused[i]));
	}
	json_t *o = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "subscribers_cnt",
		number(u.subscriber_cnt), "subscribers_max_cnt", number(u.subscriber_max), "mappings_cnt",
		number(u.mapping_cnt), "mappings_max_cnt", number(u.mapping_max), "mappings_made_cnt",
		number(u.mappings_made), "mappings_ended_cnt", number(u.mappings_ended), "memory_bytes",
		number(u.bytes), "sessions_opened", sessions_of(n), "refused", refused, "log", log_of(n));
	if (o && add_pool(n, o)) {
		json_decref(o);
		o = NULL;
	}
	return o;
}

/* ---- lists ------------------------------------------------------------------------------------------------------------------ */

static bool in_pool(const struct nat *n, uint32_t address_number)
{
	for (uint32_t i = 0; i < n->pool_cnt; i++) {
		if (n->pool_number[i] == address_number)
			return true;
	}
	return false;
}

/* Those of the pool, and others on which something is left. */
static void list_addresses(const struct nat *n, json_t *o)
{
	struct nat_address_usage u;
	json_t *list = json_array();
	for (uint32_t i = 0; nat_store_address_usage(n->shared->store, i, &u); i++) {
		bool pool = in_pool(n, i), used = u.subscriber_cnt;
		for (unsigned p = 0; p < NAT_PROTO_CNT; p++)
			used |= u.taken[p] || u.resting[p];
		if (!pool && !used)
			continue;
		json_t *a = json_pack("{s:o, s:b, s:o, s:o, s:o}", "address", address(u.outside_be), "in_pool", pool,
			"subscribers_cnt", number(u.subscriber_cnt), "blocks_cnt",
			number(pool ? blocks_each(n) : u.blocks), "blocks_taken_cnt", number(u.blocks_taken));
		for (unsigned p = 0; p < NAT_PROTO_CNT; p++)
			json_object_set_new(a, protos[p], ports_of(&u, p, pool ? ports_each(n) : 0));
		json_array_append_new(list, a);
	}
	json_object_set_new(o, "addresses", list);
}

static void put_counts(json_t *o, uint64_t total, size_t shown, json_int_t limit)
{
	json_object_set_new(o, "total_cnt", number(total));
	json_object_set_new(o, "shown_cnt", number(shown));
	json_object_set_new(o, "limit_cnt", json_integer(limit));
}

static int by_use(const void *a, const void *b)
{
	const struct nat_subscriber_usage *x = a, *y = b;
	if (x->session_cnt != y->session_cnt)
		return x->session_cnt > y->session_cnt ? -1 : 1;
	if (x->mapping_cnt != y->mapping_cnt)
		return x->mapping_cnt > y->mapping_cnt ? -1 : 1;
	return ntohl(x->inside_be) < ntohl(y->inside_be) ? -1 : ntohl(x->inside_be) > ntohl(y->inside_be);
}

static json_t *subscriber(const struct nat_subscriber_usage *u)
{
	json_t *ports = json_object();
	for (unsigned p = 0; p < NAT_PROTO_CNT; p++)
		json_object_set_new(ports, protos[p], number(u->ports[p]));
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "inside", address(u->inside_be), "outside",
		u->outside_be ? address(u->outside_be) : json_null(), "zone", number(u->zone), "sessions_cnt",
		number(u->session_cnt), "mappings_cnt", number(u->mapping_cnt), "blocks_cnt", number(u->block_cnt),
		"ports_cnt", ports);
}

/* The first of all by use, with room for twice as many: what is too much is sorted away now and then. */
static int list_subscribers(const struct nat *n, const struct question *q, json_t *o)
{
	struct nat_subscriber_usage u, *top;
	size_t room = 2 * (size_t)q->limit + 16, cnt = 0;
	uint64_t total = 0;
	uint32_t at = 0;
	top = calloc(room, sizeof(*top));
	if (!top)
		return -ENOMEM;
	while (nat_store_next_subscriber(n->shared->store, &at, &u)) {
		if ((q->inside.given && u.inside_be != q->inside.addr_be) ||
			(q->outside.given && u.outside_be != q->outside.addr_be))
			continue;
		total++;
		if (cnt == room) {
			qsort(top, cnt, sizeof(*top), by_use);
			cnt = (size_t)q->limit;
		}
		top[cnt++] = u;
	}
	qsort(top, cnt, sizeof(*top), by_use);
	if (cnt > (size_t)q->limit)
		cnt = (size_t)q->limit;
	json_t *list = json_array();
	for (size_t i = 0; i < cnt; i++)
		json_array_append_new(list, subscriber(&top[i]));
	free(top);
	put_counts(o, total, cnt, q->limit);
	return json_object_set_new(o, "subscribers", list) ? -ENOMEM : 0;
}

static bool is_end(const struct end *e, __be32 addr_be, __be16 port_be)
{
	return !e->given || (e->addr_be == addr_be && (e->port < 0 || e->port == ntohs(port_be)));
}

static json_t *mapping(const struct nat_mapping *m)
{
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "proto", protos[m->proto], "inside",
		address(m->inside_be), "inside_port", number(ntohs(m->inside_port_be)), "outside",
		address(m->outside_be), "outside_port", number(ntohs(m->outside_port_be)), "remote",
		m->remote_be ? address(m->remote_be) : json_null(), "remote_port",
		m->remote_port_be ? number(ntohs(m->remote_port_be)) : json_null(), "zone", number(m->zone),
		"sessions_cnt", number(m->session_cnt));
}

static void put_mapping(const struct question *q, const struct nat_mapping *m, uint64_t *total, json_t *list)
{
	if (m->proto >= NAT_PROTO_CNT || !is_end(&q->inside, m->inside_be, m->inside_port_be) ||
		!is_end(&q->outside, m->outside_be, m->outside_port_be))
		return;
	if ((*total)++ < (uint64_t)q->limit)
		json_array_append_new(list, mapping(m));
}

static void list_mappings(const struct nat *n, const struct question *q, json_t *o)
{
	struct nat_mapping m;
	uint64_t total = 0;
	uint32_t at = 0;
	json_t *list = json_array();
	if (q->outside.port >= 0) {
		for (uint8_t p = 0; p < NAT_PROTO_CNT; p++) {
			if (nat_store_find_outside(
				    n->shared->store, p, q->outside.addr_be, htons((uint16_t)q->outside.port), &m))
				put_mapping(q, &m, &total, list);
		}
	} else {
		while (nat_store_next_mapping(n->shared->store, &at, &m))
			put_mapping(q, &m, &total, list);
	}
	put_counts(o, total, json_array_size(list), q->limit);
	json_object_set_new(o, "mappings", list);
}

/* ---- the answer --------------------------------------------------------------------------------------------------------------- */

static int answer_question(const struct nat *n, const struct question *q, char **answer)
{
	int err = 0;
	json_t *o = summary(n);
	if (q->addresses && o)
		list_addresses(n, o);
	else if (q->subscribers && o)
		err = list_subscribers(n, q, o);
	else if (q->mappings && o)
		list_mappings(n, q, o);
	char *text = o && !err ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	if (!text)
		return -ENOMEM;
	*answer = text;
	return 0;
}

int nat_ask(void *stage, const char *request, char **answer)
{
	struct question q;
	json_t *r = json_loads(request, 0, NULL);
	const char *what = json_string_value(json_object_get(r, "what"));
	int err = what && !strcmp(what, "nat") ? 0 : -EOPNOTSUPP;
	if (!err)
		err = read_question(r, &q, answer);
	if (!err)
		err = answer_question(stage, &q, answer);
	json_decref(r);
	return err;
}
