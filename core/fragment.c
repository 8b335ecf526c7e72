/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fragment.c - the table: datagrams in hash chains and in two lists by age, frames in queues by datagram.
 */
#include "core/fragment.h"

#include <stdlib.h>
#include <string.h>

#define DATAGRAMS (MR_FRAGMENT_SETTLED + MR_FRAGMENT_WAITING)
#define CHAINS    8192 /* a power of two */
#define NONE      UINT16_MAX
#define HELD      (MR_FRAGMENT_HELD + MR_FRAGMENT_HELD_PER) /* with those that are given up and not yet taken away */

_Static_assert(DATAGRAMS < NONE && HELD < NONE, "numbers of 16 bits");

/* A queue of held frames, the oldest first. */
struct queue {
	uint16_t head, tail;
};

enum state { WAITING, SETTLED }; /* which list */

struct datagram {
	struct mr_key6 id;
	uint16_t chain, chain_next;
	uint16_t older, newer; /* of its list; a free one: newer is the next free one */
	uint16_t ready_next;
	uint8_t state;
	bool condemned; /* overlapped */
	bool ready;     /* in the list of those whose frames may go */
	uint8_t held_cnt;
	struct queue held;
	uint64_t since_ns; /* the first early fragment came, or the first fragment */
	uint64_t last_ns;
	struct mr_fragment_known known;
	uint16_t whole_bytes; /* of the datagram, once its last fragment was seen; 0 = not yet */
	uint16_t end_bytes;   /* the furthest byte seen */
	uint32_t seen_bytes;
	uint16_t piece_cnt;
	struct piece {
		uint16_t from, end;
	} piece[MR_FRAGMENT_PIECES];
};

struct held {
	struct mr_frame frame;
	uint16_t next;
	uint8_t interface_id, fallback, reason;
};

struct list {
	uint16_t oldest, newest;
	uint32_t cnt;
};

struct mr_fragments {
	uint32_t held_cnt; /* first: mr_fragment_any_held() */
	uint32_t held_max;
	uint32_t doomed_cnt; /* of held_cnt */
	uint64_t forgotten;
	struct list list[2]; /* by state */
	uint16_t unused;     /* datagrams */
	uint16_t held_unused;
	uint16_t ready_head, ready_tail;
	struct queue doomed; /* frames to be dropped */
	uint16_t chain[CHAINS];
	struct held held[HELD];
	struct datagram datagram[DATAGRAMS];
};

/* ---- life --------------------------------------------------------------------------------------------------------- */

static void clear(struct mr_fragments *t)
{
	memset(t->chain, 0xff, sizeof(t->chain));
	for (unsigned i = 0; i < DATAGRAMS; i++)
		t->datagram[i].newer = i + 1 < DATAGRAMS ? i + 1 : NONE;
	for (unsigned i = 0; i < HELD; i++)
		t->held[i].next = i + 1 < HELD ? i + 1 : NONE;
	t->unused = t->held_unused = 0;
	t->ready_head = t->ready_tail = NONE;
	t->doomed = (struct queue){ NONE, NONE };
	t->list[WAITING] = t->list[SETTLED] = (struct list){ NONE, NONE, 0 };
}

struct mr_fragments *mr_fragment_create(uint32_t held_max)
{
	struct mr_fragments *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->held_max = held_max > MR_FRAGMENT_HELD ? MR_FRAGMENT_HELD : held_max ? held_max : 1;
	clear(t);
	return t;
}

void mr_fragment_destroy(struct mr_fragments *t)
{
	free(t);
}

/* ---- what a fragment is --------------------------------------------------------------------------------------------- */

bool mr_fragment_follows(const struct mr_parsed *p)
{
	return p->flags & MR_PKT_FRAG &&
		(p->error == MR_PARSE_OK || p->error == MR_PARSE_SHORT_L4 || p->error == MR_PARSE_BAD_L4);
}

/* IPv4 counts identifications by protocol (RFC 791); of IPv6 a later fragment need not know the protocol (RFC 8200 section 4.5). */
void mr_fragment_key(
	const struct mr_parsed *p, const void *data, uint16_t zone, uint64_t seed, struct mr_fragment_key *out)
{
	struct mr_key6 *k = &out->id;
	memset(k, 0, sizeof(*k));
	if (p->flags & MR_PKT_IP4) {
		const uint8_t *ip = (const uint8_t *)data + p->l3_off;
		k->saddr_be[0] = mr_load32(ip + 12);
		k->daddr_be[0] = mr_load32(ip + 16);
		k->ingress = 4;
		k->proto = p->proto;
	} else {
		mr_parse_key6(p, data, zone, k);
		k->ingress = 6;
		k->proto = 0;
	}
	k->zone = zone;
	k->sport_be = (uint16_t)p->frag_id_be;
	k->dport_be = (uint16_t)(p->frag_id_be >> 16);
	out->hash = mr_flow_hash6(k, seed);
}

struct span {
	uint32_t from, end;
	bool last;
};

/* The bytes of the datagram it carries.  mr_parse() has walked the same headers. */
static struct span span_of(const struct mr_parsed *p, const uint8_t *data)
{
	const uint8_t *ip = data + p->l3_off;
	uint32_t off = p->flags & MR_PKT_IP4 ? (ip[0] & 15) * 4u : 40;
	bool more = ip[6] & 0x20;
	if (p->flags & MR_PKT_IP6) {
		uint8_t next = ip[6];
		for (unsigned i = 0; i <= MR_PARSE_EXT_MAX && next != MR_IP_FRAGMENT && off + 8 <= p->l3_len; i++) {
			next = ip[off];
			off += (ip[off + 1] + 1u) * 8;
		}
		more = ip[off + 3] & 1;
		off += 8;
	}
	uint32_t from = p->frag_off * 8u;
	return (struct span){ from, from + p->l3_len - off, !more };
}

void mr_fragment_fill(const struct mr_fragment_known *known, struct mr_parsed *p)
{
	p->flags |= known->flags | MR_PKT_FRAG_KNOWN;
	p->proto = known->proto;
	p->sport_be = known->sport_be;
	p->dport_be = known->dport_be;
	p->tcp_flags = known->tcp_flags;
	p->icmp_type = known->icmp_type;
	p->icmp_code = known->icmp_code;
	p->icmp_id_be = known->icmp_id_be;
	p->error = known->error;
}

static struct mr_fragment_known learn(const struct mr_parsed *p)
{
	return (struct mr_fragment_known){
		.flags = p->flags & (MR_PKT_PORTS | MR_PKT_ICMP | MR_PKT_ICMP_ERROR | MR_PKT_ICMP_QUERY),
		.sport_be = p->sport_be,
		.dport_be = p->dport_be,
		.icmp_id_be = p->icmp_id_be,
		.proto = p->proto,
		.tcp_flags = p->tcp_flags,
		.icmp_type = p->icmp_type,
		.icmp_code = p->icmp_code,
		.error = p->error,
	};
}

/* ---- queues of frames ------------------------------------------------------------------------------------------------ */

static void put(struct mr_fragments *t, struct queue *q, uint16_t at)
{
	t->held[at].next = NONE;
	if (q->tail == NONE)
		q->head = at;
	else
		t->held[q->tail].next = at;
	q->tail = at;
}

static uint16_t take(struct mr_fragments *t, struct queue *q)
{
	uint16_t at = q->head;
	q->head = t->held[at].next;
	if (q->head == NONE)
		q->tail = NONE;
	return at;
}

static void doom(struct mr_fragments *t, struct datagram *d, unsigned reason)
{
	while (d->held.head != NONE) {
		uint16_t at = take(t, &d->held);
		t->held[at].reason = reason;
		put(t, &t->doomed, at);
		t->doomed_cnt++;
	}
	d->held_cnt = 0;
}

static bool full(const struct mr_fragments *t)
{
	return t->held_unused == NONE || t->held_cnt - t->doomed_cnt >= t->held_max;
}

static bool hold(
	struct mr_fragments *t, struct datagram *d, const struct mr_frame *f, uint8_t interface_id, uint8_t fallback)
{
	if (full(t) || d->held_cnt == MR_FRAGMENT_HELD_PER)
		return false;
	uint16_t at = t->held_unused;
	t->held_unused = t->held[at].next;
	t->held[at] = (struct held){ .frame = *f, .interface_id = interface_id, .fallback = fallback };
	put(t, &d->held, at);
	d->held_cnt++;
	t->held_cnt++;
	return true;
}

/* ---- datagrams --------------------------------------------------------------------------------------------------------- */

static uint16_t number(const struct mr_fragments *t, const struct datagram *d)
{
	return (uint16_t)(d - t->datagram);
}

static void list_add(struct mr_fragments *t, struct datagram *d, enum state state)
{
	struct list *l = &t->list[state];
	d->state = state;
	d->older = l->newest;
	d->newer = NONE;
	if (l->newest == NONE)
		l->oldest = number(t, d);
	else
		t->datagram[l->newest].newer = number(t, d);
	l->newest = number(t, d);
	l->cnt++;
}

static void list_remove(struct mr_fragments *t, struct datagram *d)
{
	struct list *l = &t->list[d->state];
	if (d->older == NONE)
		l->oldest = d->newer;
	else
		t->datagram[d->older].newer = d->newer;
	if (d->newer == NONE)
		l->newest = d->older;
	else
		t->datagram[d->newer].older = d->older;
	l->cnt--;
}

static struct datagram *find(struct mr_fragments *t, const struct mr_fragment_key *k)
{
	uint16_t at = t->chain[k->hash & (CHAINS - 1)];
	while (at != NONE && memcmp(&t->datagram[at].id, &k->id, sizeof(k->id)))
		at = t->datagram[at].chain_next;
	return at == NONE ? NULL : &t->datagram[at];
}

static void unlink_ready(struct mr_fragments *t, struct datagram *d)
{
	uint16_t before = NONE;
	if (!d->ready)
		return;
	for (uint16_t at = t->ready_head; at != number(t, d); at = t->datagram[at].ready_next)
		before = at;
	if (before == NONE)
		t->ready_head = d->ready_next;
	else
		t->datagram[before].ready_next = d->ready_next;
	if (t->ready_tail == number(t, d))
		t->ready_tail = before;
	d->ready = false;
}

/* Its frames, if it still has some, are dropped under `reason`. */
static void forget(struct mr_fragments *t, struct datagram *d, unsigned reason)
{
	uint16_t *at = &t->chain[d->chain];
	while (*at != number(t, d))
		at = &t->datagram[*at].chain_next;
	*at = d->chain_next;
	unlink_ready(t, d);
	doom(t, d, reason);
	list_remove(t, d);
	d->newer = t->unused;
	t->unused = number(t, d);
}

/* Makes room in a list that is full. */
static void make_room(struct mr_fragments *t, enum state state, uint32_t most)
{
	if (t->list[state].cnt < most)
		return;
	t->forgotten++;
	forget(t, &t->datagram[t->list[state].oldest], MR_REASON_FRAG_LIMIT);
}

static void begin(struct datagram *d, uint64_t now_ns)
{
	d->condemned = false;
	d->since_ns = d->last_ns = now_ns;
	d->whole_bytes = d->end_bytes = d->piece_cnt = 0;
	d->seen_bytes = 0;
}

static struct datagram *add(struct mr_fragments *t, const struct mr_fragment_key *k, enum state state, uint64_t now_ns)
{
	make_room(t, state, state == WAITING ? MR_FRAGMENT_WAITING : MR_FRAGMENT_SETTLED);
	struct datagram *d = &t->datagram[t->unused];
	t->unused = d->newer;
	d->id = k->id;
	d->chain = k->hash & (CHAINS - 1);
	d->chain_next = t->chain[d->chain];
	t->chain[d->chain] = number(t, d);
	d->ready = false;
	d->held_cnt = 0;
	d->held = (struct queue){ NONE, NONE };
	begin(d, now_ns);
	list_add(t, d, state);
	return d;
}

static void settle(struct mr_fragments *t, struct datagram *d, uint64_t now_ns)
{
	list_remove(t, d);
	make_room(t, SETTLED, MR_FRAGMENT_SETTLED);
	list_add(t, d, SETTLED);
	d->since_ns = now_ns;
}

/* Overlapped: what is held of it goes, what comes finds it here. */
static void condemn(struct mr_fragments *t, struct datagram *d, uint64_t now_ns)
{
	unlink_ready(t, d);
	doom(t, d, MR_REASON_FRAG_OVERLAP);
	settle(t, d, now_ns);
	d->condemned = true;
}

/* ---- pieces ------------------------------------------------------------------------------------------------------------ */

enum relation { NEW, REPEATED, OVERLAPS, TOO_MANY };

static enum relation compare(const struct datagram *d, struct span s)
{
	for (unsigned i = 0; i < d->piece_cnt; i++) {
		const struct piece *p = &d->piece[i];
		if (s.from == p->from && s.end == p->end && s.last == (d->whole_bytes == p->end))
			return REPEATED;
		if (s.from < p->end && p->from < s.end)
			return OVERLAPS;
	}
	/* Ends that do not agree: RFC 815 would believe either. */
	if (s.last ? d->whole_bytes || d->end_bytes > s.end : d->whole_bytes && s.end >= d->whole_bytes)
		return OVERLAPS;
	return d->piece_cnt == MR_FRAGMENT_PIECES ? TOO_MANY : NEW;
}

static void note(struct datagram *d, struct span s, uint64_t now_ns)
{
	d->piece[d->piece_cnt++] = (struct piece){ s.from, s.end };
	d->seen_bytes += s.end - s.from;
	if (s.end > d->end_bytes)
		d->end_bytes = s.end;
	if (s.last)
		d->whole_bytes = s.end;
	d->last_ns = now_ns;
}

/* Nothing more can come of it. */
static void forget_whole(struct mr_fragments *t, struct datagram *d)
{
	if (d->state == SETTLED && !d->condemned && !d->held_cnt && d->whole_bytes && d->seen_bytes == d->whole_bytes)
		forget(t, d, MR_REASON_NONE);
}

/* ---- seeing ------------------------------------------------------------------------------------------------------------- */

static enum mr_fragment_fate refuse(unsigned *reason, unsigned why)
{
	*reason = why;
	return MR_FRAGMENT_REFUSED;
}

/* A fragment no datagram can have. */
static unsigned impossible(const struct mr_parsed *p, struct span s)
{
	if (s.end <= s.from || s.end > UINT16_MAX || (!s.last && (s.end - s.from) % 8))
		return MR_REASON_BAD_IP;
	if (p->proto == MR_IP_TCP && s.from && s.from < 20)
		return MR_REASON_FRAG_OVERLAP;
	return MR_REASON_NONE;
}

static void teach(struct mr_fragments *t, struct datagram *d, const struct mr_parsed *p)
{
	d->known = learn(p);
	if (!d->held_cnt || d->ready)
		return;
	d->ready = true;
	d->ready_next = NONE;
	if (t->ready_tail == NONE)
		t->ready_head = number(t, d);
	else
		t->datagram[t->ready_tail].ready_next = number(t, d);
	t->ready_tail = number(t, d);
}

/* One whose transport header is cut short or wrong is dropped for that (or is the kernel's), and so is what follows it. */
static enum mr_fragment_fate see_malformed(struct mr_fragments *t, const struct mr_fragment_key *k, struct datagram *d,
	const struct mr_parsed *p, uint64_t now_ns)
{
	if (d && d->state == SETTLED)
		return MR_FRAGMENT_GO;
	if (d)
		settle(t, d, now_ns);
	else
		d = add(t, k, SETTLED, now_ns);
	teach(t, d, p);
	return MR_FRAGMENT_GO;
}

static enum mr_fragment_fate see_first(struct mr_fragments *t, const struct mr_fragment_key *k, struct datagram *d,
	const struct mr_parsed *p, struct span s, uint64_t now_ns)
{
	if (!d)
		d = add(t, k, SETTLED, now_ns);
	else if (d->state == WAITING)
		settle(t, d, now_ns);
	teach(t, d, p);
	note(d, s, now_ns);
	forget_whole(t, d);
	return MR_FRAGMENT_GO;
}

static enum mr_fragment_fate see_later(struct mr_fragments *t, struct datagram *d, struct mr_parsed *p, struct span s,
	const struct mr_frame *f, uint8_t interface_id, uint8_t fallback, uint64_t now_ns, unsigned *reason)
{
	/* Those held go first; they are about to. */
	if (d->state == WAITING || d->held_cnt) {
		if (!hold(t, d, f, interface_id, fallback))
			return refuse(reason, MR_REASON_FRAG_LIMIT);
		note(d, s, now_ns);
		return MR_FRAGMENT_KEPT;
	}
	mr_fragment_fill(&d->known, p);
	note(d, s, now_ns);
	forget_whole(t, d);
	return MR_FRAGMENT_GO;
}

/* The oldest datagrams that wait give their frames up for a newer one; not while those given up before are still to be taken away. */
static void make_frame_room(struct mr_fragments *t, const struct datagram *keep)
{
	while (full(t) && t->held_unused != NONE && t->list[WAITING].oldest != NONE) {
		struct datagram *oldest = &t->datagram[t->list[WAITING].oldest];
		if (oldest == keep)
			return;
		t->forgotten++;
		forget(t, oldest, MR_REASON_FRAG_LIMIT);
	}
}

enum mr_fragment_fate mr_fragment_see(struct mr_fragments *t, const struct mr_fragment_key *k, struct mr_parsed *p,
	const uint8_t *data, const struct mr_frame *f, uint8_t interface_id, uint8_t fallback, uint64_t now_ns,
	unsigned *reason)
{
	struct span s = span_of(p, data);
	bool first = !(p->flags & MR_PKT_FRAG_LATER);
	struct datagram *d = find(t, k);
	if (first && p->error)
		return see_malformed(t, k, d, p, now_ns);
	unsigned why = impossible(p, s);
	if (why)
		return refuse(reason, why);
	if (d && first && d->state == SETTLED && now_ns - d->last_ns >= MR_FRAGMENT_REUSE_NS) {
		forget(t, d, MR_REASON_FRAG_TIMEOUT);
		d = NULL;
	}
	if (d && d->condemned)
		return refuse(reason, MR_REASON_FRAG_OVERLAP);
	switch (d ? compare(d, s) : NEW) {
	case REPEATED:
		return refuse(reason, MR_REASON_FRAG_OVERLAP);
	case OVERLAPS:
		condemn(t, d, now_ns);
		return refuse(reason, MR_REASON_FRAG_OVERLAP);
	case TOO_MANY:
		return refuse(reason, MR_REASON_FRAG_LIMIT);
	case NEW:
		break;
	}
	if (first)
		return see_first(t, k, d, p, s, now_ns);
	if (!d)
		d = add(t, k, WAITING, now_ns);
	make_frame_room(t, d);
	return see_later(t, d, p, s, f, interface_id, fallback, now_ns, reason);
}

/* ---- time ------------------------------------------------------------------------------------------------------------------ */

static void expire(struct mr_fragments *t, enum state state, uint64_t age_ns, uint64_t now_ns)
{
	struct list *l = &t->list[state];
	while (l->oldest != NONE && now_ns - t->datagram[l->oldest].since_ns >= age_ns)
		forget(t, &t->datagram[l->oldest], MR_REASON_FRAG_TIMEOUT);
}

void mr_fragment_expire(struct mr_fragments *t, uint64_t now_ns)
{
	expire(t, WAITING, MR_FRAGMENT_HOLD_NS, now_ns);
	expire(t, SETTLED, MR_FRAGMENT_KNOW_NS, now_ns);
}

void mr_fragment_forget_all(struct mr_fragments *t, unsigned reason)
{
	for (unsigned s = WAITING; s <= SETTLED; s++)
		while (t->list[s].oldest != NONE)
			forget(t, &t->datagram[t->list[s].oldest], reason);
}

bool mr_fragment_next(struct mr_fragments *t, struct mr_fragment_out *out)
{
	struct datagram *d = t->ready_head == NONE ? NULL : &t->datagram[t->ready_head];
	if (!d && t->doomed.head == NONE)
		return false;
	uint16_t at = take(t, d ? &d->held : &t->doomed);
	const struct held *h = &t->held[at];
	*out = (struct mr_fragment_out){
		.frame = h->frame, .interface_id = h->interface_id, .fallback = h->fallback, .reason = h->reason
	};
	if (d) {
		out->reason = MR_REASON_NONE;
		out->known = d->known;
		if (!--d->held_cnt) {
			unlink_ready(t, d);
			forget_whole(t, d);
		}
	} else {
		t->doomed_cnt--;
	}
	t->held[at].next = t->held_unused;
	t->held_unused = at;
	t->held_cnt--;
	return true;
}

void mr_fragment_usage(const struct mr_fragments *t, struct mr_fragment_usage *out)
{
	*out = (struct mr_fragment_usage){ .settled_cnt = t->list[SETTLED].cnt,
		.waiting_cnt = t->list[WAITING].cnt,
		.held_cnt = t->held_cnt,
		.forgotten = t->forgotten };
}
