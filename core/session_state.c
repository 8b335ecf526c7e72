/* SPDX-License-Identifier: BSD-2-Clause */
/* session_state.c - what packets do to a session's state, and how long each state lasts without them. */
#include "core/session_table.h"
#include <netinet/in.h>

bool mr_session_opens(uint8_t proto, uint8_t tcp_flags)
{
	if (proto != IPPROTO_TCP)
		return true;
	if (tcp_flags & TCP_RST)
		return false;
	if (tcp_flags & TCP_SYN)
		return !(tcp_flags & (TCP_ACK | TCP_FIN));
	return tcp_flags & TCP_ACK;
}

bool mr_session_word_half_open(union mr_session_word w)
{
	if (w.flags & MR_SESSION_KEPT)
		return false;
	return w.state == MR_SESSION_NEW ||
		(w.state == MR_SESSION_CLOSED && w.tcp_seen[MR_FORWARD] & MR_SESSION_UNBORN);
}

bool mr_session_half_open(const struct mr_session *x)
{
	return mr_session_word_half_open(
		(union mr_session_word){ .word = __atomic_load_n((const uint32_t *)&x->state, __ATOMIC_ACQUIRE) });
}

static void tcp_reset(union mr_session_word *w, enum mr_direction dir)
{
	if (w->state == MR_SESSION_NEW)
		w->tcp_seen[MR_FORWARD] |= MR_SESSION_UNBORN;
	w->state = MR_SESSION_CLOSED;
	w->tcp_seen[0] &= (uint8_t)~TCP_ACK; /* seen again in both directions, the RST was not believed */
	w->tcp_seen[1] &= (uint8_t)~TCP_ACK;
	w->tcp_seen[dir] |= TCP_RST;
}

static void tcp_syn(union mr_session_word *w, enum mr_direction dir)
{
	if (w->state == MR_SESSION_NEW) {
		w->tcp_seen[dir] |= TCP_SYN;
	} else if (dir == MR_FORWARD && (w->state == MR_SESSION_CLOSING || w->state == MR_SESSION_CLOSED)) {
		w->state = w->flags & MR_SESSION_ONE_WAY ? MR_SESSION_ESTABLISHED : MR_SESSION_NEW;
		w->tcp_seen[MR_FORWARD] = TCP_SYN;
		w->tcp_seen[MR_REPLY] = 0;
	}
}

static void tcp_segment(union mr_session_word *w, enum mr_direction dir, uint8_t flags)
{
	bool both_fin = w->tcp_seen[0] & w->tcp_seen[1] & TCP_FIN;

	w->tcp_seen[dir] |= flags & (TCP_FIN | TCP_SYN | TCP_ACK);
	uint8_t both = w->tcp_seen[0] & w->tcp_seen[1];
	uint8_t any = w->tcp_seen[0] | w->tcp_seen[1];
	uint8_t live = any & TCP_FIN ? MR_SESSION_CLOSING : MR_SESSION_ESTABLISHED;

	switch (w->state) {
	case MR_SESSION_NEW:
		if (w->tcp_seen[MR_FORWARD] & TCP_SYN) {
			if ((both & TCP_SYN) && (both & TCP_ACK))
				w->state = live;
		} else if (dir == MR_REPLY && (flags & TCP_ACK) && !(flags & TCP_SYN)) {
			w->state = live; /* picked up */
		}
		break;
	case MR_SESSION_ESTABLISHED:
		w->state = live;
		break;
	case MR_SESSION_CLOSING:
		if (both_fin && (flags & TCP_ACK) && !(flags & (TCP_FIN | TCP_SYN)))
			w->state = MR_SESSION_CLOSED;
		break;
	case MR_SESSION_CLOSED:
		if ((any & TCP_RST) && (both & TCP_ACK)) {
			w->tcp_seen[0] &= (uint8_t) ~(TCP_RST | MR_SESSION_UNBORN);
			w->tcp_seen[1] &= (uint8_t)~TCP_RST;
			w->state = live;
		}
		break;
	}
}

union mr_session_word mr_session_next(
	uint8_t proto, union mr_session_word was, enum mr_direction dir, uint8_t tcp_flags)
{
	union mr_session_word w = was;

	if (w.state == MR_SESSION_FREE)
		return w;
	if (proto != IPPROTO_TCP) {
		if (w.state == MR_SESSION_NEW && dir == MR_REPLY)
			w.state = MR_SESSION_ESTABLISHED;
		return w;
	}
	if (tcp_flags & TCP_RST)
		tcp_reset(&w, dir);
	else if ((tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		tcp_syn(&w, dir);
	else
		tcp_segment(&w, dir, tcp_flags);
	return w;
}

enum mr_session_timeout mr_session_timeout_of(uint8_t proto, uint8_t state)
{
	switch (proto) {
	case IPPROTO_TCP:
		if (state == MR_SESSION_ESTABLISHED)
			return MR_TIMEOUT_TCP_ESTABLISHED;
		return state == MR_SESSION_CLOSED ? MR_TIMEOUT_TCP_CLOSED : MR_TIMEOUT_TCP_TRANSITORY;
	case IPPROTO_UDP:
		return state == MR_SESSION_ESTABLISHED ? MR_TIMEOUT_UDP : MR_TIMEOUT_UDP_UNREPLIED;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return MR_TIMEOUT_ICMP;
	default:
		return MR_TIMEOUT_OTHER;
	}
}

/* Ticks are 32-bit milliseconds that wrap; a time-out stays well inside half of that (12 days). */
static uint32_t to_ms(uint64_t ns)
{
	uint64_t ms = (ns + 999999) / 1000000;

	return ms < 1 ? 1 : ms > 1u << 30 ? 1u << 30 : (uint32_t)ms;
}

static void set_class(struct mr_sessions *s, unsigned n, const struct mr_stage_timeouts *t)
{
	const uint64_t ns[MR_TIMEOUT_CNT] = {
		[MR_TIMEOUT_UDP] = t->udp_ns,
		[MR_TIMEOUT_UDP_UNREPLIED] = t->udp_unreplied_ns,
		[MR_TIMEOUT_TCP_ESTABLISHED] = t->tcp_established_ns,
		[MR_TIMEOUT_TCP_TRANSITORY] = t->tcp_transitory_ns,
		[MR_TIMEOUT_TCP_CLOSED] = t->tcp_closed_ns,
		[MR_TIMEOUT_ICMP] = t->icmp_ns,
		[MR_TIMEOUT_OTHER] = t->other_ns,
	};

	for (unsigned i = 0; i < MR_TIMEOUT_CNT; i++)
		__atomic_store_n(&s->timeout_ms[n][i], ns[i] ? to_ms(ns[i]) : s->timeout_ms[0][i], __ATOMIC_RELAXED);
	__atomic_store_n(&s->refresh[n], t->refresh, __ATOMIC_RELAXED);
}

void mr_session_timeouts_set(struct mr_sessions *s, const struct mr_config_timeouts *t)
{
	/* None of them is no time at all here: of flows.timeouts, that is the shortest. */
	s->class[0] = (struct mr_stage_timeouts){ .udp_ns = t->udp_ns ? t->udp_ns : 1,
		.udp_unreplied_ns = t->udp_unreplied_ns ? t->udp_unreplied_ns : 1,
		.tcp_established_ns = t->tcp_established_ns ? t->tcp_established_ns : 1,
		.tcp_transitory_ns = t->tcp_transitory_ns ? t->tcp_transitory_ns : 1,
		.tcp_closed_ns = t->tcp_closed_ns ? t->tcp_closed_ns : 1,
		.icmp_ns = t->icmp_ns ? t->icmp_ns : 1,
		.other_ns = t->other_ns ? t->other_ns : 1 };
	for (unsigned n = 0; n < 256; n++)
		set_class(s, n, &s->class[n]);
}

void mr_sessions_class(struct mr_sessions *s, uint8_t number, const struct mr_stage_timeouts *t)
{
	if (number)
		s->class[number] = t ? *t : (struct mr_stage_timeouts){ .refresh = MR_REFRESH_BOTH };
}

uint32_t mr_session_timeout_ms(const struct mr_sessions *s, const struct mr_session *x, uint8_t state)
{
	enum mr_session_timeout kind = mr_session_timeout_of(x->proto, state);
	return __atomic_load_n(&s->timeout_ms[x->timeouts][kind], __ATOMIC_RELAXED);
}

/* Whether packets of this direction keep it alive. */
static bool refreshes(const struct mr_sessions *s, const struct mr_session *x, unsigned dir)
{
	uint8_t refresh = __atomic_load_n(&s->refresh[x->timeouts], __ATOMIC_RELAXED);
	return refresh == MR_REFRESH_BOTH || (refresh == MR_REFRESH_FORWARD) == (dir == MR_FORWARD);
}

/* The state in a record's memory, live or quarantined; NULL when the session never had that record. */
static struct mr_flow_state *record_state(const struct mr_sessions *s, const struct mr_session *x, unsigned dir)
{
	mr_flow_ref ref = __atomic_load_n(&x->ref[dir], __ATOMIC_RELAXED);
	const struct mr_flow6 *r6;
	const struct mr_flow4 *r4;

	if (ref == MR_FLOW_NONE)
		return NULL;
	if (x->family == 6) {
		r6 = mr_flows_record6(s->flows, ref);
		return r6 ? (struct mr_flow_state *)&r6->st : NULL;
	}
	r4 = mr_flows_record4(s->flows, ref);
	return r4 ? (struct mr_flow_state *)&r4->st : NULL;
}

uint32_t mr_session_due(const struct mr_sessions *s, const struct mr_session *x, uint32_t now_ms)
{
	uint32_t idle_ms = UINT32_MAX;

	/* By how long ago: over sessions that live for weeks, one clock time is not before or after another. */
	for (unsigned dir = 0; dir < 2; dir++) {
		if (!refreshes(s, x, dir))
			continue;
		const struct mr_flow_state *st = record_state(s, x, dir);
		uint32_t ago_ms = now_ms - (st ? __atomic_load_n(&st->last_seen_ms, __ATOMIC_RELAXED) : x->created_ms);
		if (ago_ms > UINT32_MAX - MR_CLOCKS_APART_MS)
			ago_ms = 0;
		if (ago_ms < idle_ms)
			idle_ms = ago_ms;
	}
	uint32_t due_ms = now_ms - idle_ms + mr_session_timeout_ms(s, x, mr_session_state_of(x));
	return due_ms ? due_ms : 1;
}

/*
 * half_wraps is the counter's bits above 31, as of the last look: one count for every crossing of 2^31.  Its lowest bit equals bit 31
 * of the counter then; when they differ the counter has crossed since.  One word, so a reader needs no lock.
 */
void mr_session_fold(struct mr_sessions *s, struct mr_session *x)
{
	for (unsigned dir = 0; dir < 2; dir++) {
		const struct mr_flow_state *st = record_state(s, x, dir);
		uint32_t wraps = __atomic_load_n(&x->half_wraps[dir], __ATOMIC_RELAXED);
		if (st && ((wraps ^ __atomic_load_n(&st->packets, __ATOMIC_RELAXED) >> 31) & 1))
			__atomic_store_n(&x->half_wraps[dir], wraps + 1, __ATOMIC_RELEASE);
	}
}

void mr_session_totals(
	const struct mr_sessions *s, uint32_t idx, enum mr_direction dir, uint64_t *packets, uint64_t *bytes)
{
	const struct mr_session *x = &s->session[idx];
	const struct mr_flow_state *st = record_state(s, x, dir);

	*packets = 0;
	*bytes = 0;
	if (!st)
		return;
	/* First the wraps: a crossing between the two loads is then counted. */
	uint32_t wraps = __atomic_load_n(&x->half_wraps[dir], __ATOMIC_ACQUIRE);
	uint32_t low = __atomic_load_n(&st->packets, __ATOMIC_RELAXED);
	if ((wraps ^ low >> 31) & 1)
		wraps++;
	*packets = (uint64_t)(wraps >> 1) << 32 | low;
	*bytes = __atomic_load_n(&st->bytes, __ATOMIC_RELAXED);
}
