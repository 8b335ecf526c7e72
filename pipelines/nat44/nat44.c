/* SPDX-License-Identifier: BSD-2-Clause */
/* nat44.c - the stage: instances, what they share over reloads, what they need to see. */
#include "pipelines/nat44/nat44.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define TICK_NS  100000000ull /* of the store, on each worker */
#define LOG_RING 32768        /* events a worker may be ahead of the writer */

/* ---- what instances share ------------------------------------------------------------------------------------------ */

static void shared_drop(struct nat_shared *s)
{
	if (!s || --s->holder_cnt)
		return;
	nat_store_drop(s->store);
	nat_identities_free(&s->identities);
	free(s->counts);
	free(s);
}

/* Mappings and subscribers are at most as many as there are sessions.  Where nothing will run it is small. */
static int shared_create(struct mr_stage_env *env, struct nat_shared **out)
{
	uint32_t most = mr_stage_checking(env) ? 64 : mr_stage_session_capacity(env);
	struct nat_store_options so = {
		.mapping_max = most, .subscriber_max = most, .worker_cnt = mr_stage_worker_cnt(env)
	};
	struct nat_shared *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->holder_cnt = 1;
	s->worker_cnt = so.worker_cnt;
	if (getrandom(&s->knock_seed, sizeof(s->knock_seed), GRND_NONBLOCK) != (ssize_t)sizeof(s->knock_seed))
		s->knock_seed = (uintptr_t)s; /* then the store has none either */
	s->counts = aligned_alloc(_Alignof(struct nat_counts), (so.worker_cnt + 1) * sizeof(*s->counts));
	int err = s->counts ? nat_identities_make(&s->identities) : -ENOMEM;
	if (!err) {
		memset(s->counts, 0, (so.worker_cnt + 1) * sizeof(*s->counts));
		err = nat_store_create(&so, &s->store);
	}
	if (err) {
		s->store = NULL;
		nat_identities_free(&s->identities);
		free(s->counts);
		free(s);
		return err;
	}
	*out = s;
	return 0;
}

/* ---- an instance ----------------------------------------------------------------------------------------------------- */

/* The number in the store of the protocol of a rule whose ports are given to no mapping; -1: it has none at this address. */
static int reserves(const struct nat_rule *r, uint32_t address)
{
	if (r->outside != address || r->proto == NAT_PROTO_ALL)
		return -1;
	return r->proto == IPPROTO_TCP     ? NAT_TCP
		: r->proto == IPPROTO_UDP  ? NAT_UDP
		: r->proto == IPPROTO_ICMP ? NAT_ICMP
					   : -1;
}

static void reserve(struct nat *n, uint32_t number, uint32_t address)
{
	for (uint32_t i = 0; i < n->statics.cnt; i++) {
		const struct nat_rule *r = &n->statics.rule[i];
		int proto = reserves(r, address);
		if (proto >= 0)
			nat_store_reserve(n->shared->store, number, proto, r->outside_port, r->last_port);
	}
}

static void keep_reserved(void *ctx, __be32 outside_be, struct nat_port_set *keep)
{
	const struct nat *n = ctx;
	for (uint32_t i = 0; i < n->statics.cnt; i++) {
		const struct nat_rule *r = &n->statics.rule[i];
		int proto = reserves(r, ntohl(outside_be));
		for (unsigned port = r->outside_port; proto >= 0 && port <= r->last_port; port++)
			keep->port[proto][port / 64] |= 1ull << port % 64;
	}
}

/* Numbers of its outside addresses, and of its rules, in the shared store.  An address there is no number for is left out. */
static void bind_to_store(struct nat *n)
{
	n->pool_cnt = n->pool_left_out = 0;
	for (uint32_t i = 0; i < n->pool.cnt; i++)
		for (uint64_t a = n->pool.range[i].lo; a <= n->pool.range[i].hi; a++) {
			uint32_t number;
			if (nat_store_address(n->shared->store, htonl((uint32_t)a), &number)) {
				n->pool_left_out++;
				continue;
			}
			n->pool_number[n->pool_cnt++] = number;
			reserve(n, number, (uint32_t)a);
		}
	nat_policy_addresses(&n->policy, n->pool_number, n->pool_cnt);
	nat_statics_number(&n->statics, &n->shared->identities);
}

static int open_log(struct mr_stage_env *env, struct nat *n)
{
	char why[256] = "";
	struct nat_log_options lo = { .stage = mr_stage_name(env),
		.file = n->o->log.file,
		.worker_cnt = n->worker_cnt,
		.ring_cnt = LOG_RING,
		.rate_per_s = n->o->log.rate_per_s };
	if (!n->o->log_given || mr_stage_checking(env))
		return 0;
	int err = nat_log_open(&lo, &n->log, why, sizeof(why));
	if (err) {
		n->log = NULL;
		(void)mr_stage_error(env, n->o->log_at, "the log cannot be written: %s", why);
		return err;
	}
	if (n->o->log.events == NAT_LOG_BLOCKS) {
		n->policy.on_block = nat_log_block;
		n->policy.ctx = n->log;
	}
	return 0;
}

static int announce(struct mr_stage_env *env, const struct nat *n)
{
	if (!n->o->announce)
		return 0;
	if (nat_ranges_count(&n->outsides) > NAT_ADDRESSES_MAX)
		return mr_stage_error(env, n->o->announce_at,
			"announce: more than %u outside addresses (want a route to them)", NAT_ADDRESSES_MAX);
	for (uint32_t i = 0; i < n->outsides.cnt; i++)
		for (uint64_t a = n->outsides.range[i].lo; a <= n->outsides.range[i].hi; a++) {
			struct mr_prefix p = { .family = 4, .len = 32 };
			__be32 be = htonl((uint32_t)a);
			memcpy(p.addr, &be, 4);
			if (mr_stage_announce(env, &p))
				return mr_stage_error(env, n->o->announce_at,
					"announce: there is no room for so many addresses (want a route to them)");
		}
	return 0;
}

/* Two stages of a pipeline with one outside address: answers would all go to the first. */
static int claim(struct mr_stage_env *env, const struct nat *n)
{
	struct mr_position at =
		n->o->outside.cnt ? n->o->outside.at[0] : ((const struct nat_static_options *)n->o->rules.items)->at;
	int err = 0;
	for (uint32_t i = 0; i < n->outsides.cnt && !err; i++) {
		uint8_t end[2][16] = { { 0 } };
		__be32 lo_be = htonl(n->outsides.range[i].lo), hi_be = htonl(n->outsides.range[i].hi);
		memcpy(end[0], &lo_be, 4);
		memcpy(end[1], &hi_be, 4);
		err = mr_stage_claim(env, at, 4, end[0], end[1]);
	}
	return err;
}

static void register_names(struct mr_stage_env *env, struct nat *n)
{
	static const char *const reasons[NAT_REASON_CNT][2] = {
		[NAT_REASON_NO_SESSION] = { "no-session", "from inside, but it has no session and cannot open one" },
		[NAT_REASON_UNWANTED] = { "unwanted",
			"to an outside address, where no session, mapping or static rule wants it" },
		[NAT_REASON_NOT_EXEMPT] = { "not-exempt",
			"to an inside address as such, from a source that is neither inside nor exempt" },
		[NAT_REASON_FILTERED] = { "filtered", "to a mapping whose filter does not let its sender in" },
		[NAT_REASON_AMBIGUOUS] = { "ambiguous",
			"replies to it could not be told from those of another session" },
		[NAT_REASON_PORTS] = { "ports", "no outside port is free" },
		[NAT_REASON_BLOCKS] = { "blocks", "no block of outside ports is free" },
		[NAT_REASON_BLOCK_LIMIT] = { "block-limit",
			"the inside address has as many blocks as it may, and they are used up" },
		[NAT_REASON_SESSION_LIMIT] = { "session-limit", "the inside address has as many sessions as it may" },
		[NAT_REASON_MAPPING_LIMIT] = { "mapping-limit", "the inside address has as many mappings as it may" },
		[NAT_REASON_MEMORY] = { "memory", "no room for another mapping or inside address" },
		[NAT_REASON_NO_ADDRESS] = { "no-address", "there is no outside address for it" },
	};
	for (unsigned i = 0; i < NAT_REASON_CNT; i++)
		n->reason[i] = mr_stage_reason(env, reasons[i][0], reasons[i][1]);
	n->count_out = mr_stage_counter(env, "out");
	n->count_in = mr_stage_counter(env, "in");
	n->count_hairpin = mr_stage_counter(env, "hairpin");
	n->count_errors = mr_stage_counter(env, "icmp_errors");
	n->count_leftover = mr_stage_counter(env, "leftover");
}

/* 0 = there is no room for other time-outs: those of flows.timeouts hold. */
static void register_timeouts(struct mr_stage_env *env, struct nat *n)
{
	const struct nat_timeout_options *o = &n->o->timeouts;
	struct mr_stage_timeouts t = { .udp_ns = o->udp_ns,
		.udp_unreplied_ns = o->udp_unreplied_ns,
		.tcp_established_ns = o->tcp_established_ns,
		.tcp_transitory_ns = o->tcp_transitory_ns,
		.tcp_closed_ns = o->tcp_closed_ns,
		.icmp_ns = o->icmp_ns,
		.other_ns = o->other_ns };
	t.refresh = n->o->inbound_refresh ? MR_REFRESH_BOTH : MR_REFRESH_FORWARD;
	n->timeouts_out = mr_stage_timeouts(env, "out", &t);
	t.refresh = n->o->inbound_refresh ? MR_REFRESH_BOTH : MR_REFRESH_REPLY;
	n->timeouts_in = mr_stage_timeouts(env, "in", &t);
	t.refresh = MR_REFRESH_BOTH; /* both are inside */
	n->timeouts_hairpin = mr_stage_timeouts(env, "hairpin", &t);
}

static void nat_destroy(void *stage)
{
	struct nat *n = stage;
	struct nat *newest = n->shared ? n->shared->newest : NULL;
	nat_log_close(n->log);
	if (newest == n)
		n->shared->newest = NULL;
	else if (newest) /* that is in force, or the next one ends what stays reserved now */
		(void)nat_store_unreserve(n->shared->store, keep_reserved, newest);
	shared_drop(n->shared);
	nat_options_free(n);
	free(n->pool_number);
	free(n);
}

static int nat_create(struct mr_stage_env *env, const void *options, void **stage)
{
	struct nat *n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->name = mr_stage_name(env);
	n->worker_cnt = mr_stage_worker_cnt(env);
	int err = nat_options_make(env, options, n);
	if (err) {
		free(n);
		return err;
	}
	n->pool_number = calloc(nat_ranges_count(&n->pool) + 1, sizeof(*n->pool_number));
	err = n->pool_number ? shared_create(env, &n->shared) : -ENOMEM;
	if (!err) {
		bind_to_store(n);
		register_names(env, n);
		register_timeouts(env, n);
		err = claim(env, n);
	}
	if (!err)
		err = announce(env, n);
	if (!err)
		err = open_log(env, n);
	if (err)
		nat_destroy(n);
	else
		*stage = n;
	return err;
}

static void nat_adopt(void *stage, void *old_stage)
{
	struct nat *n = stage;
	const struct nat *old = old_stage;
	shared_drop(n->shared);
	n->shared = old->shared;
	n->shared->holder_cnt++;
	n->shared->newest = n;
	bind_to_store(n); /* the old one's rules keep their ports too, until it ends: this one may be given up */
	if (n->log)
		nat_log_set_rate(n->log, n->o->log.rate_per_s);
}

static void nat_tick(void *stage, unsigned worker, uint64_t now_ns)
{
	struct nat *n = stage;
	struct nat_counts *c = &n->shared->counts[worker];
	struct nat_turn t = { &n->policy, worker, (uint32_t)(now_ns / 1000000) };
	if (now_ns - c->ticked_ns < TICK_NS)
		return;
	c->ticked_ns = now_ns;
	nat_store_tick(n->shared->store, &t);
}

/* ---- what it needs to see ----------------------------------------------------------------------------------------------- */

struct needs {
	struct mr_match_sink *sink;
	const struct nat *n;
	int (*add)(const struct needs *needs, struct mr_match_need *need, const struct mr_prefix *prefix);
	struct mr_prefix from;
};

/* Ranges as prefixes. */
static int each_prefix(const struct nat_ranges *r, const struct needs *needs)
{
	for (uint32_t i = 0; i < r->cnt; i++) {
		uint64_t at = r->range[i].lo, end = (uint64_t)r->range[i].hi + 1;
		while (at < end) {
			unsigned bits = at ? (unsigned)__builtin_ctzll(at) : 32;
			while (bits > 32 || at + (1ull << bits) > end)
				bits--;
			struct mr_prefix p = { .family = 4, .len = (uint8_t)(32 - bits) };
			struct mr_match_need need = { 0 };
			__be32 be = htonl((uint32_t)at);
			memcpy(p.addr, &be, 4);
			int err = needs->add(needs, &need, &p);
			if (err)
				return err;
			at += 1ull << bits;
		}
	}
	return 0;
}

static int need_source(const struct needs *needs, struct mr_match_need *need, const struct mr_prefix *prefix)
{
	need->src = *prefix;
	return mr_match_add(needs->sink, need);
}

static int need_destination(const struct needs *needs, struct mr_match_need *need, const struct mr_prefix *prefix)
{
	need->dst = *prefix;
	return mr_match_add(needs->sink, need);
}

static int need_from(const struct needs *needs, struct mr_match_need *need, const struct mr_prefix *prefix)
{
	need->src = needs->from;
	need->dst = *prefix;
	return mr_match_add(needs->sink, need);
}

/* From there to inside: both directions of what is exempt make one session. */
static int need_exempt(const struct needs *needs, struct mr_match_need *need, const struct mr_prefix *prefix)
{
	struct needs to_inside = { needs->sink, needs->n, need_from, *prefix };
	(void)need;
	return each_prefix(&needs->n->inside, &to_inside);
}

/* With `leftover: kernel`: the dynamic ports of TCP and UDP, and all other protocols, since replies to address-only sessions are among them. */
static int need_ports(const struct needs *needs, struct mr_match_need *need, const struct mr_prefix *prefix)
{
	static const struct mr_range others[] = { { 1, IPPROTO_TCP - 1 }, { IPPROTO_TCP + 1, IPPROTO_UDP - 1 },
		{ IPPROTO_UDP + 1, 255 } };
	int err = 0;
	need->dst = *prefix;
	for (unsigned i = 0; i < 3 && !err; i++) {
		need->proto = others[i];
		err = mr_match_add(needs->sink, need);
	}
	need->dport = (struct mr_range){ needs->n->policy.port_lo, needs->n->policy.port_hi };
	for (unsigned i = 0; i < 2 && !err; i++) {
		uint32_t proto = i ? IPPROTO_UDP : IPPROTO_TCP;
		need->proto = (struct mr_range){ proto, proto };
		err = mr_match_add(needs->sink, need);
	}
	return err;
}

/* A forward whose ports are not among those already. */
static int need_forward(const struct needs *needs, const struct nat_rule *r)
{
	const struct nat_policy *p = &needs->n->policy;
	struct mr_match_need need = { .dst = { .family = 4, .len = 32 },
		.proto = { (uint32_t)r->proto, (uint32_t)r->proto },
		.dport = { r->outside_port, r->last_port } };
	__be32 be = htonl(r->outside);
	memcpy(need.dst.addr, &be, 4);
	if (r->proto == NAT_PROTO_ALL)
		return 0;
	if (nat_ranges_hold(&needs->n->pool, r->outside) &&
		(r->proto != IPPROTO_TCP && r->proto != IPPROTO_UDP
				? 1
				: r->outside_port >= p->port_lo && r->last_port <= p->port_hi))
		return 0;
	if (!r->ports)
		need.dport = (struct mr_range){ 0, 0 };
	return mr_match_add(needs->sink, &need);
}

static int nat_match(void *stage, struct mr_match_sink *sink)
{
	const struct nat *n = stage;
	struct needs needs = { .sink = sink, .n = n, .add = need_source };
	int err = each_prefix(&n->inside, &needs);
	needs.add = need_exempt;
	if (!err)
		err = each_prefix(&n->exempt, &needs);
	needs.add = need_destination;
	if (!err && n->o->leftover == NAT_LEFTOVER_DROP)
		return each_prefix(&n->outsides, &needs);
	if (!err)
		err = each_prefix(&n->statics.whole, &needs);
	needs.add = need_ports;
	if (!err)
		err = each_prefix(&n->pool, &needs);
	for (uint32_t i = 0; i < n->statics.cnt && !err; i++)
		err = need_forward(&needs, &n->statics.rule[i]);
	return err;
}

const struct mr_stage_type mr_nat44_stage = {
	.abi = MR_STAGE_ABI,
	.type = "nat44",
	.guards = true,
	.summary = "many inside addresses behind a few outside ones (RFC 4787, 5382, 5508, 6888, 7857)",
	.options = nat_options_table,
	.options_bytes = sizeof(struct nat_options),
	.session_bytes = sizeof(struct nat_private),
	.create = nat_create,
	.destroy = nat_destroy,
	.adopt = nat_adopt,
	.decide = nat_decide,
	.revalidate = nat_revalidate,
	.abort = nat_abort,
	.commit = nat_commit,
	.expire = nat_expire,
	.keeps = nat_keeps,
	.tick = nat_tick,
	.match = nat_match,
	.ask = nat_ask,
	.check = nat_check,
};
