/* SPDX-License-Identifier: BSD-2-Clause */
/* session.c - sessions begin, hear of packets, and end. */
#include "core/session.h"
#include "core/session_table.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CAPACITY_MAX (1u << 28)
#define EVICT_WORDS  256 /* of half_open_bits looked at for one eviction */
#define SWEEP_FREES  128 /* sessions freed in one call of the sweep */
#define FOLD_PASSES  64  /* sweeps until every session was folded */

/* ---- memory --------------------------------------------------------------------------------------------- */

/* More indexes than sessions: those in workers' caches and those that wait for an epoch. */
static uint32_t indexes_for(const struct mr_sessions_options *opt)
{
	return opt->capacity + opt->capacity / 64 + 256 * (opt->worker_cnt + 1);
}

static int map(struct mr_sessions *s, bool want_huge)
{
	const size_t huge_bytes = (size_t)2 << 20;
	size_t cnt = ((size_t)s->index_cnt + 1 + 63) & ~(size_t)63;
	size_t bytes = cnt * (sizeof(*s->session) + 2 * sizeof(uint32_t)) + cnt / 8;
	void *p = MAP_FAILED;

	s->mapped_bytes = (bytes + huge_bytes - 1) & ~(huge_bytes - 1);
	if (want_huge)
		p = mmap(NULL, s->mapped_bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
	if (p == MAP_FAILED) {
		s->mapped_bytes = bytes;
		p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			return -ENOMEM;
		if (want_huge)
			madvise(p, bytes, MADV_HUGEPAGE); /* a hint: refused, the pages stay small */
	}
	s->mapped = p;
	s->session = p;
	s->half_open_bits = (uint64_t *)(s->session + cnt);
	s->due_ms = (uint32_t *)(s->half_open_bits + cnt / 64);
	s->depot = s->due_ms + cnt;
	return 0;
}

int mr_sessions_create(const struct mr_sessions_options *opt, struct mr_sessions **out, struct mr_error *e)
{
	if (!opt->capacity || opt->capacity > CAPACITY_MAX)
		return mr_error_set(
			e, -EINVAL, "%u sessions: between 1 and %u are possible", opt->capacity, CAPACITY_MAX);
	if (!opt->worker_cnt || opt->worker_cnt >= MR_EPOCH_WORKERS)
		return mr_error_set(
			e, -EINVAL, "%u workers: between 1 and %u are possible", opt->worker_cnt, MR_EPOCH_WORKERS - 1);

	size_t bytes = sizeof(struct mr_sessions) + (opt->worker_cnt + 1) * sizeof(struct mr_session_ctx);
	struct mr_sessions *s = aligned_alloc(64, bytes);
	if (!s)
		return mr_error_set(e, -ENOMEM, "no memory for sessions");
	memset(s, 0, bytes);
	s->capacity = opt->capacity;
	s->index_cnt = indexes_for(opt);
	s->worker_cnt = opt->worker_cnt;
	s->flows = opt->flows;
	s->epoch = opt->epoch;
	if (map(s, opt->want_huge)) {
		free(s);
		return mr_error_set(e, -ENOMEM, "no memory for %u sessions", opt->capacity);
	}
	for (uint32_t idx = s->index_cnt; idx; idx--)
		s->depot[s->depot_cnt++] = idx;
	for (uint32_t i = 0; i < s->worker_cnt; i++) {
		struct mr_session_ctx *c = &s->ctx[i];
		c->lo = 1 + (uint32_t)((uint64_t)s->index_cnt * i / s->worker_cnt);
		c->hi = 1 + (uint32_t)((uint64_t)s->index_cnt * (i + 1) / s->worker_cnt);
		c->at = c->lo;
	}
	mr_sessions_configure(s, &opt->timeouts, opt->half_open_max);
	for (uint32_t i = 0; i < s->worker_cnt; i++)
		s->ctx[i].timeouts_seen = s->timeouts_gen;
	*out = s;
	return 0;
}

void mr_sessions_destroy(struct mr_sessions *s)
{
	if (!s)
		return;
	munmap(s->mapped, s->mapped_bytes);
	free(s);
}

int mr_sessions_configure(struct mr_sessions *s, const struct mr_config_timeouts *t, uint32_t half_open_max)
{
	uint32_t max = half_open_max ? half_open_max : s->capacity / 2;

	mr_session_timeouts_set(s, t);
	__atomic_store_n(&s->half_open_max, max ? max : 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&s->timeouts_gen, 1, __ATOMIC_RELEASE);
	return 0;
}

void mr_sessions_on_expire(struct mr_sessions *s, mr_session_expire_fn fn, void *ctx)
{
	s->expire = fn;
	s->expire_ctx = ctx;
}

static uint64_t load64(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

void mr_sessions_usage(const struct mr_sessions *s, struct mr_sessions_usage *out)
{
	*out = (struct mr_sessions_usage){
		.capacity = s->capacity,
		.live = __atomic_load_n(&s->live, __ATOMIC_RELAXED),
		.half_open = __atomic_load_n(&s->half_open, __ATOMIC_RELAXED),
		.bytes = s->mapped_bytes + sizeof(*s) + (s->worker_cnt + 1) * sizeof(struct mr_session_ctx),
	};
	for (uint32_t i = 0; i <= s->worker_cnt; i++) {
		const struct mr_session_ctx *c = &s->ctx[i];
		out->created += load64(&c->cnt.created);
		out->expired += load64(&c->cnt.expired);
		out->ended += load64(&c->cnt.ended);
		out->evicted += load64(&c->cnt.evicted);
		out->refused_full += load64(&c->cnt.refused_full);
		out->refused_half_open += load64(&c->cnt.refused_half_open);
		out->lost_race += load64(&c->cnt.lost_race);
	}
}

/* ---- end ------------------------------------------------------------------------------------------------ */

/* Replaces the state by FREE (with half_open, only then).  Who succeeds does the rest of the ending. */
static bool state_end(struct mr_session *x, bool half_open)
{
	union mr_session_word was = { .word = __atomic_load_n((uint32_t *)&x->state, __ATOMIC_ACQUIRE) };
	union mr_session_word now;

	do {
		if (was.state == MR_SESSION_FREE || (half_open && !mr_session_word_half_open(was)))
			return false;
		now = was;
		now.state = MR_SESSION_FREE;
	} while (!__atomic_compare_exchange_n(
		(uint32_t *)&x->state, &was.word, now.word, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
	return true;
}

static void finish(struct mr_sessions *s, struct mr_session_ctx *c, uint32_t idx, uint32_t now_ms)
{
	struct mr_session *x = &s->session[idx];
	struct mr_session_end end;

	__atomic_store_n(&s->due_ms[idx], 0, __ATOMIC_RELAXED);
	mr_session_half_open_clear(s, idx);
	if (s->expire)
		mr_session_end_keys(s, x, end.key); /* a record that is free has none */
	for (unsigned dir = 0; dir < 2; dir++)
		mr_flows_free(s->flows, __atomic_load_n(&x->ref[dir], __ATOMIC_RELAXED), idx, now_ms);
	if (s->expire) {
		end.sessions = s;
		end.session = x;
		end.idx = idx;
		end.worker = (unsigned)(c - s->ctx);
		end.now_ms = now_ms;
		s->expire(s->expire_ctx, &end);
	}
	__atomic_fetch_sub(&s->live, 1, __ATOMIC_RELAXED);
	mr_session_index_retire(s, c, idx);
}

bool mr_session_end(struct mr_sessions *s, unsigned worker, uint32_t idx, uint32_t now_ms)
{
	struct mr_session_ctx *c = &s->ctx[worker];

	if (!idx || idx > s->index_cnt || !state_end(&s->session[idx], false))
		return false;
	finish(s, c, idx, now_ms);
	mr_session_count(&c->cnt.ended);
	return true;
}

/*
 * Ends one half-open session.  The hand goes round the bits of all indexes ever used, each worker's its own way.
 * A session whose due time is not set yet is still being made.
 */
static bool evict(struct mr_sessions *s, struct mr_session_ctx *c, uint32_t now_ms)
{
	uint32_t words = __atomic_load_n(&s->high_water, __ATOMIC_RELAXED) / 64 + 1;

	/* One word more than there are: the hand may stand in the middle of the first. */
	for (uint32_t i = 0; i < EVICT_WORDS && i <= words; i++) {
		uint32_t word = c->hand / 64 < words ? c->hand / 64 : 0;
		uint64_t ahead = word == c->hand / 64 ? ~0ull << c->hand % 64 : ~0ull;
		uint64_t bits = __atomic_load_n(&s->half_open_bits[word], __ATOMIC_RELAXED) & ahead;
		for (; bits; bits &= bits - 1) {
			uint32_t idx = word * 64 + (uint32_t)__builtin_ctzll(bits);
			struct mr_session *x = &s->session[idx];
			if (!mr_session_half_open(x) || !__atomic_load_n(&s->due_ms[idx], __ATOMIC_ACQUIRE) ||
				!state_end(x, true))
				continue;
			c->hand = idx + 1; /* its index is soon used again, and is then the last in turn */
			finish(s, c, idx, now_ms);
			mr_session_count(&c->cnt.evicted);
			return true;
		}
		c->hand = (word + 1) * 64;
	}
	return false;
}

_Static_assert(offsetof(struct mr_key4, zone) == offsetof(struct mr_key6, zone), "zone lies alike");
_Static_assert(offsetof(struct mr_key4, proto) == offsetof(struct mr_key6, proto), "protocol lies alike");

/* ---- create --------------------------------------------------------------------------------------------- */

static bool keys_fit(const struct mr_flow_key *f, const struct mr_flow_key *r)
{
	if (f->family != r->family || (f->family != 4 && f->family != 6))
		return false;
	/* Zone and protocol lie alike in both families' keys; ingress is not part of the key. */
	if (!f->k4.zone || f->k4.zone != r->k4.zone || f->k4.proto != r->k4.proto)
		return false;
	if (f->family == 4)
		return memcmp(&f->k4.saddr_be, &r->k4.saddr_be, sizeof(f->k4) - offsetof(struct mr_key4, saddr_be)) !=
			0;
	return memcmp(&f->k6.sport_be, &r->k6.sport_be, sizeof(f->k6) - offsetof(struct mr_key6, sport_be)) != 0;
}

/* The session that holds either key already; false when none does.  Asked before another one is evicted for nothing. */
static bool exists(struct mr_sessions *s, const struct mr_flow_key *k, uint32_t *holder)
{
	struct mr_flow4 *r4;
	struct mr_flow6 *r6;
	struct mr_flow_state *st = NULL;

	if (k->family == 4 && mr_flows_lookup4(s->flows, &k->k4, &k->hash, 1, &r4, NULL))
		st = &r4->st;
	else if (k->family == 6 && mr_flows_lookup6(s->flows, &k->k6, &k->hash, 1, &r6, NULL))
		st = &r6->st;
	if (!st)
		return false;
	*holder = __atomic_load_n(&st->session, __ATOMIC_RELAXED);
	return true;
}

/* Room for one more: live is counted up on success.  At a limit, somebody half open makes room.  counts: it will be half open itself. */
static int reserve(struct mr_sessions *s, struct mr_session_ctx *c, const struct mr_flow_key *f,
	const struct mr_flow_key *r, bool counts, uint32_t now_ms, uint32_t *holder)
{
	uint32_t live = __atomic_add_fetch(&s->live, 1, __ATOMIC_RELAXED);
	bool full = live > s->capacity;
	bool quota = counts &&
		__atomic_load_n(&s->half_open, __ATOMIC_RELAXED) >=
			__atomic_load_n(&s->half_open_max, __ATOMIC_RELAXED);
	int err = 0;

	if (!full && !quota)
		return 0;
	if (exists(s, f, holder) || exists(s, r, holder)) {
		mr_session_count(&c->cnt.lost_race);
		err = -EEXIST;
	} else if (!evict(s, c, now_ms)) {
		mr_session_count(full ? &c->cnt.refused_full : &c->cnt.refused_half_open);
		err = full ? -ENOSPC : -EDQUOT;
	}
	if (err)
		__atomic_fetch_sub(&s->live, 1, __ATOMIC_RELAXED);
	return err;
}

/* Everything but the references, which the insert fills. */
static void fill(struct mr_session *x, const struct mr_flow_key *f, const struct mr_flow_decision *d, uint8_t tcp_flags,
	bool one_way, const void *priv, uint32_t now_ms)
{
	union mr_session_word w = { .state = one_way ? MR_SESSION_ESTABLISHED : MR_SESSION_NEW,
		.flags = (uint8_t)((one_way ? MR_SESSION_ONE_WAY : 0) | (d->keep ? MR_SESSION_KEPT : 0)) };

	w.tcp_seen[MR_FORWARD] = f->k4.proto == IPPROTO_TCP ? tcp_flags & (TCP_FIN | TCP_SYN | TCP_ACK) : 0;
	for (unsigned dir = 0; dir < 2; dir++) {
		__atomic_store_n(&x->ref[dir], MR_FLOW_NONE, __ATOMIC_RELAXED);
		__atomic_store_n(&x->half_wraps[dir], 0, __ATOMIC_RELAXED);
	}
	x->family = f->family;
	x->proto = f->k4.proto;
	x->ingress = d->ingress;
	x->timeouts = d->timeouts;
	x->created_ms = now_ms;
	__atomic_store_n(&x->serial, d->serial, __ATOMIC_RELAXED);
	if (priv)
		memcpy(x->priv, priv, sizeof(x->priv));
	else
		memset(x->priv, 0, sizeof(x->priv));
	__atomic_store_n((uint32_t *)&x->state, w.word, __ATOMIC_RELEASE);
}

static int insert_both(struct mr_sessions *s, uint32_t idx, const struct mr_flow_key *f, const struct mr_flow_key *r,
	const struct mr_flow_decision *d, uint32_t now_ms, uint32_t *holder)
{
	const struct mr_rewrite6 none = { .reserved = 0 };
	struct mr_flow_state st[2] = { { .flags = d->flags & (uint16_t) ~(MR_FLOW_REPLY | MR_FLOW_CLOSING),
					       .nexthop = d->nexthop,
					       .session = idx,
					       .last_seen_ms = now_ms,
					       .generation = d->generation,
					       .effects = d->effects },
		/* of this configuration, though undecided: stages are not asked to revalidate its first packet */
		{ .flags = MR_FLOW_REPLY, .session = idx, .last_seen_ms = now_ms, .generation = d->generation } };
	struct mr_flow_key kf = *f, kr = *r;

	kf.k4.ingress = d->ingress; /* the same place in both families' keys */
	kr.k4.ingress = 0;
	struct mr_flow_insert in[2] = { { &kf.k4, f->hash, &d->r4, &st[0] }, { &kr.k4, r->hash, &none, &st[1] } };
	return mr_flows_insert_pair(s->flows, f->family == 6, in, now_ms, s->session[idx].ref, holder);
}

/* Takes back a session that nobody could find. */
static void unmake(struct mr_sessions *s, struct mr_session_ctx *c, uint32_t idx)
{
	__atomic_store_n(&s->session[idx].state, MR_SESSION_FREE, __ATOMIC_RELEASE);
	mr_session_half_open_clear(s, idx);
	__atomic_fetch_sub(&s->live, 1, __ATOMIC_RELAXED);
	mr_session_index_give(s, c, idx);
}

int mr_session_create(struct mr_sessions *s, unsigned worker, const struct mr_flow_key *forward,
	const struct mr_flow_key *reverse, const struct mr_flow_decision *d, uint8_t tcp_flags, bool one_way,
	const void *priv, uint32_t now_ms, uint32_t *idx)
{
	struct mr_session_ctx *c = &s->ctx[worker];
	uint32_t holder = 0;

	if (!keys_fit(forward, reverse))
		return -EINVAL;
	if (!mr_session_opens(forward->k4.proto, tcp_flags))
		return -EPROTO;
	bool half_open = !one_way && !d->keep;
	int err = reserve(s, c, forward, reverse, half_open, now_ms, &holder);
	if (err == -EEXIST)
		*idx = holder;
	if (err)
		return err;

	uint32_t mine = mr_session_index_take(s, c);
	if (!mine) {
		__atomic_fetch_sub(&s->live, 1, __ATOMIC_RELAXED);
		mr_session_count(&c->cnt.refused_full);
		return -ENOSPC;
	}
	struct mr_session *x = &s->session[mine];
	__atomic_store_n(&s->due_ms[mine], 0, __ATOMIC_RELAXED); /* still being made */
	fill(x, forward, d, tcp_flags, one_way, priv, now_ms);
	if (half_open)
		mr_session_half_open_set(s, mine);
	err = insert_both(s, mine, forward, reverse, d, now_ms, &holder);
	if (err) {
		unmake(s, c, mine);
		mr_session_count(err == -EEXIST ? &c->cnt.lost_race : &c->cnt.refused_full);
		if (err == -EEXIST)
			*idx = holder;
		return err;
	}
	__atomic_store_n(&s->due_ms[mine], mr_session_due(s, x, now_ms), __ATOMIC_RELEASE);
	mr_session_count(&c->cnt.created);
	*idx = mine;
	return 0;
}

/* ---- packets -------------------------------------------------------------------------------------------- */

struct mr_session *mr_session_at(struct mr_sessions *s, uint32_t idx)
{
	return &s->session[idx];
}

static bool is_closing(union mr_session_word w, unsigned dir)
{
	return (w.tcp_seen[dir] & TCP_FIN) || ((w.tcp_seen[0] | w.tcp_seen[1]) & TCP_RST);
}

bool mr_session_closing(const struct mr_session *x, enum mr_direction dir)
{
	union mr_session_word w = { .word = __atomic_load_n((const uint32_t *)&x->state, __ATOMIC_ACQUIRE) };

	return is_closing(w, dir);
}

/* The records learn what the kernel tier must know: which direction is closing.  One that comes back goes over to it anew, in order. */
static void mark(struct mr_sessions *s, uint32_t idx, union mr_session_word was, union mr_session_word now)
{
	struct mr_session *x = &s->session[idx];

	for (unsigned dir = 0; dir < 2; dir++) {
		bool before = is_closing(was, dir), after = is_closing(now, dir);
		if (before != after)
			mr_flows_mark(s->flows, __atomic_load_n(&x->ref[dir], __ATOMIC_RELAXED), idx,
				after ? MR_FLOW_CLOSING : 0, after ? MR_FLOW_OFFLOAD : MR_FLOW_CLOSING);
	}
}

enum mr_session_state mr_session_packet(
	struct mr_sessions *s, uint32_t idx, enum mr_direction dir, uint8_t tcp_flags, uint32_t now_ms, bool *changed)
{
	struct mr_session *x = &s->session[idx];
	union mr_session_word was = { .word = __atomic_load_n((uint32_t *)&x->state, __ATOMIC_ACQUIRE) };
	union mr_session_word now;

	do {
		now = mr_session_next(x->proto, was, dir, tcp_flags);
		if (now.word == was.word) {
			*changed = false;
			return now.state;
		}
	} while (!__atomic_compare_exchange_n(
		(uint32_t *)&x->state, &was.word, now.word, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
	if (x->proto == IPPROTO_TCP)
		mark(s, idx, was, now);
	*changed = now.state != was.state;
	if (!*changed)
		return now.state;
	if (mr_session_word_half_open(now)) {
		mr_session_half_open_set(s, idx);
		if (!mr_session_half_open(x))
			mr_session_half_open_clear(s, idx); /* moved on meanwhile */
	} else {
		mr_session_half_open_clear(s, idx);
	}
	/* A new state has its whole time, whichever direction it came from. */
	uint32_t due_ms = now_ms + mr_session_timeout_ms(s, x, now.state);
	__atomic_store_n(&s->due_ms[idx], due_ms ? due_ms : 1, __ATOMIC_RELAXED);
	return now.state;
}

/* ---- sweep ---------------------------------------------------------------------------------------------- */

unsigned mr_sessions_budget(const struct mr_sessions *s)
{
	uint32_t share = s->index_cnt / s->worker_cnt + 1;
	unsigned budget = share / 800 + 1; /* a fifth to spare over a call every millisecond */

	return budget < 64 ? 64 : budget;
}

/* A live session whose due time has come, or is to be computed anew: ends it or sets the time.  True when it ended. */
static bool come_due(
	struct mr_sessions *s, struct mr_session_ctx *c, uint32_t idx, uint32_t was_due_ms, uint32_t now_ms)
{
	struct mr_session *x = &s->session[idx];

	if (mr_session_state_of(x) == MR_SESSION_FREE) {
		/* A packet's store came after the ending's. */
		__atomic_compare_exchange_n(&s->due_ms[idx], &was_due_ms, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
		return false;
	}
	uint32_t due_ms = mr_session_due(s, x, now_ms);
	if ((int32_t)(due_ms - now_ms) > 0) {
		if (due_ms != was_due_ms)
			__atomic_compare_exchange_n(
				&s->due_ms[idx], &was_due_ms, due_ms, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
		return false;
	}
	if (!state_end(x, false))
		return false;
	finish(s, c, idx, now_ms);
	mr_session_count(&c->cnt.expired);
	return true;
}

unsigned mr_sessions_sweep(struct mr_sessions *s, unsigned worker, uint32_t now_ms, unsigned budget)
{
	struct mr_session_ctx *c = &s->ctx[worker];
	uint32_t gen = __atomic_load_n(&s->timeouts_gen, __ATOMIC_ACQUIRE);
	unsigned freed = 0;

	if (gen != c->timeouts_seen) {
		c->timeouts_seen = gen;
		c->recheck_left = c->hi - c->lo;
	}
	if (budget > c->hi - c->lo)
		budget = c->hi - c->lo;
	for (; budget && freed < SWEEP_FREES; budget--) {
		uint32_t idx = c->at++;
		if (c->at == c->hi) {
			c->at = c->lo;
			c->pass++;
		}
		bool recheck = c->recheck_left && c->recheck_left--;
		uint32_t due_ms = __atomic_load_n(&s->due_ms[idx], __ATOMIC_ACQUIRE);
		if (!due_ms)
			continue;
		if ((idx + c->pass) % FOLD_PASSES == 0 && mr_session_state_of(&s->session[idx]) != MR_SESSION_FREE)
			mr_session_fold(s, &s->session[idx]);
		if (recheck || (int32_t)(due_ms - now_ms) <= 0)
			freed += come_due(s, c, idx, due_ms, now_ms);
	}
	mr_session_index_reclaim(s, c);
	if (worker == 0)
		mr_session_index_reclaim(s, &s->ctx[s->worker_cnt]);
	return freed;
}

uint32_t mr_session_remaining_ms(const struct mr_sessions *s, uint32_t idx, uint32_t now_ms)
{
	int32_t left_ms = (int32_t)(mr_session_due(s, &s->session[idx], now_ms) - now_ms);

	return left_ms > 0 ? (uint32_t)left_ms : 0;
}

uint32_t mr_sessions_next(const struct mr_sessions *s, uint32_t from)
{
	for (uint32_t idx = from ? from : 1; idx <= s->index_cnt; idx++) {
		if (__atomic_load_n(&s->due_ms[idx], __ATOMIC_ACQUIRE) &&
			mr_session_state_of(&s->session[idx]) != MR_SESSION_FREE)
			return idx;
	}
	return 0;
}
