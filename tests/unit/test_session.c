/* SPDX-License-Identifier: BSD-2-Clause */
/* test_session.c - states, limits, ends, and many workers on few sessions. */
#include "core/session.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SEED      0x123456789abcdef1ULL
#define SECOND_NS 1000000000ull

#define FIN       0x01
#define SYN       0x02
#define RST       0x04
#define PSH       0x08
#define ACK       0x10

static struct mr_flows *flows;
static struct mr_epoch *epoch;
static struct mr_sessions *ss;
static unsigned workers;

static const struct mr_config_timeouts defaults = {
	.udp_ns = 300 * SECOND_NS,
	.udp_unreplied_ns = 30 * SECOND_NS,
	.tcp_established_ns = 7440 * SECOND_NS,
	.tcp_transitory_ns = 240 * SECOND_NS,
	.tcp_closed_ns = 10 * SECOND_NS,
	.icmp_ns = 60 * SECOND_NS,
	.other_ns = 600 * SECOND_NS,
};

static void setup(uint32_t capacity, uint32_t half_open_max, unsigned worker_cnt)
{
	struct mr_flows_options fo = { .capacity4 = 2 * capacity, .capacity6 = 2 * capacity, .seed = SEED };
	struct mr_sessions_options so = {
		.capacity = capacity, .half_open_max = half_open_max, .worker_cnt = worker_cnt, .timeouts = defaults
	};
	struct mr_error e = { "" };

	workers = worker_cnt;
	epoch = mr_epoch_create();
	cr_assert_eq(mr_flows_create(&fo, &flows, &e), 0, "%s", e.text);
	so.flows = flows;
	so.epoch = epoch;
	cr_assert_eq(mr_sessions_create(&so, &ss, &e), 0, "%s", e.text);
	mr_epoch_online(epoch, 0);
}

static void teardown(void)
{
	mr_sessions_destroy(ss);
	mr_flows_destroy(flows);
	mr_epoch_destroy(epoch);
}

static struct mr_sessions_usage usage(void)
{
	struct mr_sessions_usage u;

	mr_sessions_usage(ss, &u);
	return u;
}

static uint64_t records(void)
{
	struct mr_flows_usage u;

	mr_flows_usage(flows, &u);
	return u.live4 + u.live6;
}

static struct mr_flow_key key(uint8_t family, uint8_t proto, uint32_t n, bool reverse)
{
	struct mr_flow_key k = { .family = family };
	uint16_t client = (uint16_t)(n % 50000 + 1), server = 443;

	if (family == 4) {
		k.k4 = (struct mr_key4){ .zone = MR_ZONE_DEFAULT, .proto = proto };
		k.k4.saddr_be = reverse ? 99 : 0x0a000000 + n / 50000;
		k.k4.daddr_be = reverse ? 0x0a000000 + n / 50000 : 99;
		k.k4.sport_be = reverse ? server : client;
		k.k4.dport_be = reverse ? client : server;
		k.hash = mr_flow_hash4(&k.k4, SEED);
	} else {
		k.k6 = (struct mr_key6){ .zone = MR_ZONE_DEFAULT, .proto = proto };
		k.k6.saddr_be[3] = reverse ? 99 : n / 50000;
		k.k6.daddr_be[3] = reverse ? n / 50000 : 99;
		k.k6.sport_be = reverse ? server : client;
		k.k6.dport_be = reverse ? client : server;
		k.hash = mr_flow_hash6(&k.k6, SEED);
	}
	return k;
}

static struct mr_flow_decision decision(uint8_t family, uint32_t n)
{
	struct mr_flow_decision d = {
		.ingress = 3, .flags = MR_FLOW_DECIDED, .nexthop = 4, .generation = 5, .effects = 6
	};

	if (family == 4)
		d.r4.saddr_be = n;
	else
		d.r6.saddr_be[3] = n;
	return d;
}

static int create(unsigned worker, uint8_t family, uint8_t proto, uint32_t n, uint8_t tcp_flags, bool one_way,
	uint32_t now_ms, uint32_t *idx)
{
	struct mr_flow_key f = key(family, proto, n, false), r = key(family, proto, n, true);
	struct mr_flow_decision d = decision(family, n);

	return mr_session_create(ss, worker, &f, &r, &d, tcp_flags, one_way, NULL, now_ms, idx);
}

static uint32_t made(uint8_t proto, uint32_t n, uint8_t tcp_flags, uint32_t now_ms)
{
	uint32_t idx = 0;

	cr_assert_eq(create(0, 4, proto, n, tcp_flags, false, now_ms, &idx), 0);
	cr_assert_neq(idx, 0);
	return idx;
}

static uint32_t found(uint8_t family, uint8_t proto, uint32_t n, bool reverse)
{
	struct mr_flow_key k = key(family, proto, n, reverse);
	struct mr_flow4 *r4;
	struct mr_flow6 *r6;

	if (family == 4)
		return mr_flows_lookup4(flows, &k.k4, &k.hash, 1, &r4, NULL) ? r4->st.session : 0;
	return mr_flows_lookup6(flows, &k.k6, &k.hash, 1, &r6, NULL) ? r6->st.session : 0;
}

/* Sweeps everything. */
static unsigned sweep_all(uint32_t now_ms)
{
	unsigned freed = 0;

	for (unsigned w = 0; w < workers; w++) {
		for (unsigned i = 0; i < 2000; i++)
			freed += mr_sessions_sweep(ss, w, now_ms, mr_sessions_budget(ss));
	}
	return freed;
}

/* ---- creation ------------------------------------------------------------------------------------------- */

Test(session, both_records)
{
	setup(100, 0, 1);
	for (uint8_t family = 4; family <= 6; family += 2) {
		uint8_t priv[MR_SESSION_PRIVATE_BYTES];
		struct mr_flow_key f = key(family, IPPROTO_UDP, 1, false), r = key(family, IPPROTO_UDP, 1, true);
		struct mr_flow_decision d = decision(family, 77);
		uint32_t idx = 0, other = 0;
		memset(priv, family, sizeof(priv));
		cr_assert_eq(mr_session_create(ss, 0, &f, &r, &d, 0, false, priv, 1000, &idx), 0);
		struct mr_session *x = mr_session_at(ss, idx);
		cr_assert(x->state == MR_SESSION_NEW && x->family == family && x->proto == IPPROTO_UDP &&
			x->ingress == 3);
		cr_assert_eq(memcmp(x->priv, priv, sizeof(priv)), 0);
		cr_assert_eq(found(family, IPPROTO_UDP, 1, false), idx);
		cr_assert_eq(found(family, IPPROTO_UDP, 1, true), idx);
		const struct mr_flow_state *a = mr_flows_state(flows, x->ref[MR_FORWARD]);
		const struct mr_flow_state *b = mr_flows_state(flows, x->ref[MR_REPLY]);
		cr_assert(a->flags == MR_FLOW_DECIDED && a->nexthop == 4 && a->generation == 5 && a->effects == 6);
		cr_assert(b->flags == MR_FLOW_REPLY && b->nexthop == 0 && b->last_seen_ms == 1000);
		if (family == 4) {
			cr_assert_eq(mr_flows_record4(flows, x->ref[0])->rewrite.saddr_be, 77u);
			cr_assert_eq(mr_flows_record4(flows, x->ref[0])->key.ingress, 3);
		} else {
			cr_assert_eq(mr_flows_record6(flows, x->ref[0])->rewrite.saddr_be[3], 77u);
			cr_assert_eq(mr_flows_record6(flows, x->ref[0])->key.ingress, 3);
		}
		/* Again, and from the other end: theirs. */
		cr_assert_eq(mr_session_create(ss, 0, &f, &r, &d, 0, false, NULL, 1000, &other), -EEXIST);
		cr_assert_eq(other, idx);
		other = 0;
		cr_assert_eq(mr_session_create(ss, 0, &r, &f, &d, 0, false, NULL, 1000, &other), -EEXIST);
		cr_assert_eq(other, idx);
	}
	cr_assert(usage().live == 2 && usage().half_open == 2 && usage().created == 2 && usage().lost_race == 4);
	cr_assert_eq(records(), 4u);
	teardown();
}

Test(session, keys_that_do_not_fit)
{
	struct mr_flow_decision d = decision(4, 1);
	uint32_t idx = 12345;

	setup(10, 0, 1);
	struct mr_flow_key f = key(4, IPPROTO_UDP, 1, false), r = key(4, IPPROTO_UDP, 1, true);
	struct mr_flow_key six = key(6, IPPROTO_UDP, 1, true), tcp = key(4, IPPROTO_TCP, 1, true), zone = r, zero = f;
	zone.k4.zone = 9;
	zero.k4.zone = 0;
	cr_assert_eq(mr_session_create(ss, 0, &f, &f, &d, 0, false, NULL, 1, &idx), -EINVAL, "a packet to itself");
	cr_assert_eq(mr_session_create(ss, 0, &f, &six, &d, 0, false, NULL, 1, &idx), -EINVAL);
	cr_assert_eq(mr_session_create(ss, 0, &f, &tcp, &d, 0, false, NULL, 1, &idx), -EINVAL);
	cr_assert_eq(mr_session_create(ss, 0, &f, &zone, &d, 0, false, NULL, 1, &idx), -EINVAL);
	cr_assert_eq(mr_session_create(ss, 0, &zero, &zero, &d, 0, false, NULL, 1, &idx), -EINVAL);
	cr_assert_eq(idx, 12345u, "untouched");
	cr_assert_eq(usage().live + records(), 0u);
	teardown();
}

Test(session, what_opens)
{
	static const struct {
		uint8_t flags;
		bool opens;
	} cases[] = { { SYN, true }, { SYN | 0xc0, true }, { ACK, true }, { ACK | PSH, true }, { FIN | ACK, true },
		{ 0, false }, { FIN, false }, { PSH, false }, { FIN | PSH | 0x20, false }, { RST, false },
		{ RST | ACK, false }, { SYN | ACK, false }, { SYN | FIN, false }, { SYN | RST, false } };
	uint32_t idx;

	setup(100, 0, 1);
	for (uint32_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		cr_assert_eq(mr_session_opens(IPPROTO_TCP, cases[i].flags), cases[i].opens);
		cr_assert_eq(
			create(0, 4, IPPROTO_TCP, i, cases[i].flags, false, 1, &idx), cases[i].opens ? 0 : -EPROTO);
		cr_assert(mr_session_opens(IPPROTO_UDP, cases[i].flags));
	}
	teardown();
}

Test(session, refuses_bad_options)
{
	struct mr_sessions_options so = { .capacity = 0, .worker_cnt = 1 };
	struct mr_error e = { "" };
	struct mr_sessions *s = NULL;

	cr_assert_eq(mr_sessions_create(&so, &s, &e), -EINVAL);
	so.capacity = 10;
	so.worker_cnt = 0;
	cr_assert_eq(mr_sessions_create(&so, &s, &e), -EINVAL);
	so.worker_cnt = MR_EPOCH_WORKERS;
	cr_assert_eq(mr_sessions_create(&so, &s, &e), -EINVAL);
	cr_assert_neq(e.text[0], 0);
	mr_sessions_destroy(NULL);
}

/* Two records, the session, its due time and its place in the depot: what docs/flow-table.md promises. */
Test(session, memory_of_a_v4_session)
{
	const uint32_t capacity = 1u << 20;
	struct mr_flows_options fo = { .capacity4 = 2 * capacity, .seed = SEED };
	struct mr_sessions_options so = { .capacity = capacity, .worker_cnt = 2, .timeouts = defaults };
	struct mr_flows_usage fu;

	epoch = mr_epoch_create();
	cr_assert_eq(mr_flows_create(&fo, &flows, NULL), 0);
	so.flows = flows;
	so.epoch = epoch;
	cr_assert_eq(mr_sessions_create(&so, &ss, NULL), 0);
	mr_flows_usage(flows, &fu);
	double bytes = (double)(fu.bytes + usage().bytes) / capacity;
	cr_assert(bytes <= 256 && bytes > 200, "%f", bytes);
	teardown();
}

/* ---- states --------------------------------------------------------------------------------------------- */

struct step {
	enum mr_direction dir;
	uint8_t flags;
	enum mr_session_state want;
};

#define F   MR_FORWARD
#define R   MR_REPLY
#define NEW MR_SESSION_NEW
#define EST MR_SESSION_ESTABLISHED
#define CLG MR_SESSION_CLOSING
#define CLD MR_SESSION_CLOSED

/* The first step creates. */
static const struct {
	const char *name;
	struct step step[12];
} stories[] = {
	{ "handshake and orderly end",
		{ { F, SYN, NEW }, { R, SYN | ACK, NEW }, { F, ACK, EST }, { F, ACK | PSH, EST }, { R, ACK | FIN, CLG },
			{ F, ACK, CLG }, { F, ACK | FIN, CLG }, { R, ACK, CLD } } },
	{ "SYN again",
		{ { F, SYN, NEW }, { F, SYN, NEW }, { R, SYN | ACK, NEW }, { R, SYN | ACK, NEW }, { F, ACK, EST } } },
	{ "an ACK to a SYN establishes nothing",
		{ { F, SYN, NEW }, { R, ACK, NEW }, { F, ACK, NEW }, { R, ACK, NEW } } },
	{ "the third ACK lost, data instead", { { F, SYN, NEW }, { R, SYN | ACK, NEW }, { F, PSH | ACK, EST } } },
	{ "simultaneous open", { { F, SYN, NEW }, { R, SYN, NEW }, { F, SYN | ACK, NEW }, { R, SYN | ACK, EST } } },
	{ "refused", { { F, SYN, NEW }, { R, RST | ACK, CLD } } },
	{ "refused, tried again",
		{ { F, SYN, NEW }, { R, RST | ACK, CLD }, { F, SYN, NEW }, { R, SYN | ACK, NEW }, { F, ACK, EST } } },
	{ "picked up", { { F, ACK, NEW }, { F, ACK | PSH, NEW }, { R, ACK, EST } } },
	{ "a SYN/ACK is no answer to a pick-up", { { F, ACK, NEW }, { R, SYN | ACK, NEW }, { R, ACK, EST } } },
	{ "picked up at its end", { { F, ACK | FIN, NEW }, { R, ACK, CLG }, { R, ACK | FIN, CLG }, { F, ACK, CLD } } },
	{ "both FINs at once",
		{ { F, ACK, NEW }, { R, ACK, EST }, { F, FIN | ACK, CLG }, { R, FIN | ACK, CLG }, { R, FIN | ACK, CLG },
			{ F, ACK, CLD } } },
	{ "RST in established",
		{ { F, ACK, NEW }, { R, ACK, EST }, { R, RST, CLD }, { F, ACK, CLD }, { F, ACK, CLD } } },
	{ "a RST nobody believed",
		{ { F, ACK, NEW }, { R, ACK, EST }, { R, RST, CLD }, { F, ACK, CLD }, { R, ACK, EST } } },
	{ "a closed one stays closed",
		{ { F, ACK, NEW }, { R, ACK, EST }, { F, FIN | ACK, CLG }, { R, FIN | ACK, CLG }, { F, ACK, CLD },
			{ R, ACK, CLD }, { F, ACK, CLD } } },
	{ "a SYN in established changes nothing",
		{ { F, ACK, NEW }, { R, ACK, EST }, { F, SYN, EST }, { R, SYN, EST } } },
	{ "starts over while closing",
		{ { F, ACK, NEW }, { R, ACK, EST }, { F, FIN | ACK, CLG }, { F, SYN, NEW }, { R, SYN | ACK, NEW },
			{ F, ACK, EST } } },
	{ "a SYN of the other end opens nothing",
		{ { F, ACK, NEW }, { R, ACK, EST }, { F, RST, CLD }, { R, SYN, CLD }, { F, SYN | ACK, CLD } } },
	{ "no flags at all", { { F, SYN, NEW }, { R, 0, NEW }, { F, 0, NEW } } },
};

Test(session, tcp_stories)
{
	setup(100, 0, 1);
	for (uint32_t i = 0; i < sizeof(stories) / sizeof(*stories); i++) {
		const struct step *s = stories[i].step;
		uint32_t idx = made(IPPROTO_TCP, i, s->flags, 1000);
		enum mr_session_state state = MR_SESSION_NEW;
		bool half_open = true;
		for (unsigned j = 1; s[j].want; j++) {
			bool changed;
			enum mr_session_state now = mr_session_packet(ss, idx, s[j].dir, s[j].flags, 1000, &changed);
			cr_assert_eq(now, s[j].want, "%s, step %u: %d, not %d", stories[i].name, j, now, s[j].want);
			cr_assert_eq(changed, now != state);
			state = now;
			half_open = now == NEW || (half_open && now == CLD);
			cr_assert_eq(usage().half_open, half_open, "%s, step %u", stories[i].name, j);
		}
		cr_assert(mr_session_end(ss, 0, idx, 1000));
	}
	teardown();
}

Test(session, closing_marks_records)
{
	bool changed;

	setup(10, 0, 1);
	uint32_t idx = made(IPPROTO_TCP, 1, ACK, 1);
	struct mr_session *x = mr_session_at(ss, idx);
	struct mr_flow_state *f = mr_flows_state(flows, x->ref[F]), *r = mr_flows_state(flows, x->ref[R]);
	mr_session_packet(ss, idx, R, ACK, 1, &changed);
	for (unsigned dir = 0; dir < 2; dir++)
		mr_flows_mark(flows, x->ref[dir], idx, MR_FLOW_OFFLOAD, 0);
	mr_session_packet(ss, idx, R, FIN | ACK, 1, &changed);
	cr_assert(!(f->flags & MR_FLOW_CLOSING) && r->flags & MR_FLOW_CLOSING, "the other direction goes on");
	cr_assert(f->flags & MR_FLOW_OFFLOAD && !(r->flags & MR_FLOW_OFFLOAD), "in the kernel tier, too");
	cr_assert(!mr_session_closing(x, F) && mr_session_closing(x, R));
	mr_session_packet(ss, idx, F, RST, 1, &changed);
	cr_assert(f->flags & MR_FLOW_CLOSING && r->flags & MR_FLOW_CLOSING);
	cr_assert(!(f->flags & MR_FLOW_OFFLOAD));
	cr_assert(mr_session_closing(x, F) && mr_session_closing(x, R));
	mr_session_packet(ss, idx, F, SYN, 1, &changed);
	cr_assert(!(f->flags & MR_FLOW_CLOSING) && !(r->flags & MR_FLOW_CLOSING), "starting over clears");
	cr_assert(!mr_session_closing(x, F) && !mr_session_closing(x, R));
	teardown();
}

Test(session, others_by_direction)
{
	static const uint8_t protos[] = { IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ESP, IPPROTO_SCTP };
	static const uint32_t fresh_s[] = { 30, 60, 600, 600 }, replied_s[] = { 300, 60, 600, 600 };

	setup(100, 0, 1);
	for (uint32_t i = 0; i < 4; i++) {
		bool changed;
		uint32_t idx = made(protos[i], i, 0, 1000);
		cr_assert_eq(mr_session_remaining_ms(ss, idx, 1000), fresh_s[i] * 1000);
		cr_assert_eq(mr_session_packet(ss, idx, F, 0, 1000, &changed), NEW);
		cr_assert_not(changed);
		cr_assert_eq(mr_session_packet(ss, idx, R, 0, 1000, &changed), EST);
		cr_assert(changed);
		cr_assert_eq(mr_session_remaining_ms(ss, idx, 1000), replied_s[i] * 1000);
		cr_assert_eq(mr_session_remaining_ms(ss, idx, 1000 + replied_s[i] * 1000), 0u);
	}
	teardown();
}

Test(session, one_way_is_established_at_once)
{
	uint32_t idx;
	bool changed;

	setup(10, 1, 1);
	cr_assert_eq(create(0, 4, IPPROTO_TCP, 1, SYN, true, 1, &idx), 0);
	cr_assert_eq(mr_session_at(ss, idx)->state, EST);
	cr_assert_eq(usage().half_open, 0u);
	cr_assert_eq(mr_session_packet(ss, idx, F, FIN | ACK, 1, &changed), CLG);
	cr_assert_eq(mr_session_packet(ss, idx, F, SYN, 1, &changed), EST);
	teardown();
}

/* ---- ends ----------------------------------------------------------------------------------------------- */

static unsigned expired_calls;
static uint64_t expired_packets;

static void on_expire(void *ctx, const struct mr_session_end *end)
{
	const struct mr_session *x = end->session;
	uint32_t idx = end->idx;
	uint64_t packets, bytes;

	cr_assert_eq(ctx, &expired_calls);
	cr_assert_eq(x, mr_session_at(ss, idx));
	cr_assert_null(mr_flows_state(flows, x->ref[F]));
	mr_end_totals(end, 0, &packets, &bytes);
	expired_packets += packets;
	expired_calls++;
}

Test(session, end_is_once)
{
	setup(10, 0, 1);
	mr_sessions_on_expire(ss, on_expire, &expired_calls);
	uint32_t idx = made(IPPROTO_UDP, 1, 0, 1);
	mr_flows_state(flows, mr_session_at(ss, idx)->ref[F])->packets = 12;
	cr_assert(mr_session_end(ss, workers, idx, 1), "control's own list");
	cr_assert_not(mr_session_end(ss, 0, idx, 1));
	cr_assert_not(mr_session_end(ss, 0, 0, 1));
	cr_assert_not(mr_session_end(ss, 0, UINT32_MAX, 1));
	cr_assert_eq(expired_calls, 1u);
	cr_assert_eq(expired_packets, 12u);
	cr_assert_eq(found(4, IPPROTO_UDP, 1, false) + found(4, IPPROTO_UDP, 1, true), 0u);
	cr_assert(usage().live == 0 && usage().half_open == 0 && usage().ended == 1 && records() == 0);
	teardown();
}

static struct mr_tuple end_tuple[2];
static unsigned end_worker, end_calls;
static uint64_t end_age_ms, end_time_ns, end_packets[2], end_bytes[2];

static void on_end(void *ctx, const struct mr_session_end *end)
{
	(void)ctx;
	end_calls++;
	end_worker = mr_end_worker(end);
	end_age_ms = mr_end_age_ms(end);
	end_time_ns = mr_end_time_ns(end);
	mr_end_tuples(end, &end_tuple[F], &end_tuple[R]);
	for (int dir = 0; dir < 2; dir++)
		mr_end_totals(end, dir, &end_packets[dir], &end_bytes[dir]);
}

static uint32_t made_of(const struct mr_flow_key *f, const struct mr_flow_key *r, uint32_t now_ms)
{
	struct mr_flow_decision d = decision(f->family, 1);
	uint32_t idx = 0;

	cr_assert_eq(mr_session_create(ss, 0, f, r, &d, SYN, false, NULL, now_ms, &idx), 0);
	return idx;
}

/* The records are free before anybody hears of the end, and a free record has no zone. */
Test(session, the_end_tells_both_keys)
{
	setup(10, 0, 2);
	mr_sessions_on_expire(ss, on_end, NULL);
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	uint32_t now = (uint32_t)((uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000);
	for (uint8_t family = 4; family <= 6; family += 2) {
		struct mr_flow_key f = key(family, IPPROTO_TCP, 70001, false),
				   r = key(family, IPPROTO_TCP, 70001, true);
		uint32_t idx = made_of(&f, &r, now - 5000);
		for (unsigned dir = 0; dir < 2; dir++) {
			struct mr_flow_state *st = mr_flows_state(flows, mr_session_at(ss, idx)->ref[dir]);
			st->packets = 10 + dir;
			st->bytes = 1000 + dir;
		}
		cr_assert(mr_session_end(ss, 2, idx, now));
		cr_assert(end_worker == 2 && end_age_ms == 5000);
		cr_assert_eq((uint32_t)(end_time_ns / 1000000), now);
		cr_assert(end_packets[F] == 10 && end_packets[R] == 11 && end_bytes[F] == 1000 && end_bytes[R] == 1001);
		for (unsigned dir = 0; dir < 2; dir++) {
			const struct mr_tuple *tuple = &end_tuple[dir];
			const struct mr_flow_key *k = dir ? &r : &f;
			size_t len = family == 4 ? 4 : 16;
			cr_assert(tuple->family == family && tuple->proto == IPPROTO_TCP && tuple->has_ports);
			cr_assert_eq(tuple->zone, MR_ZONE_DEFAULT);
			cr_assert_eq(tuple->sport_be, family == 4 ? k->k4.sport_be : k->k6.sport_be);
			cr_assert_eq(tuple->dport_be, family == 4 ? k->k4.dport_be : k->k6.dport_be);
			cr_assert_arr_eq(
				tuple->src, family == 4 ? (void *)&k->k4.saddr_be : (void *)k->k6.saddr_be, len);
			cr_assert_arr_eq(
				tuple->dst, family == 4 ? (void *)&k->k4.daddr_be : (void *)k->k6.daddr_be, len);
		}
	}
	cr_assert_eq(end_calls, 2u);
	teardown();
}

/* Workers take the time once a turn: who ends a session may be a moment behind who made it. */
Test(session, an_end_by_a_clock_that_is_behind)
{
	setup(4, 0, 1);
	mr_sessions_on_expire(ss, on_end, NULL);
	uint32_t idx = made(IPPROTO_UDP, 1, 0, 5000);
	cr_assert(mr_session_end(ss, 0, idx, 4998));
	cr_assert_eq(end_age_ms, 0u, "%llu", (unsigned long long)end_age_ms);
	teardown();
}

/* Of a query the identifier stands where its sender has it, and the types are those of request and answer. */
Test(session, the_end_of_an_icmp_query)
{
	setup(10, 0, 1);
	mr_sessions_on_expire(ss, on_end, NULL);
	struct mr_flow_key f = { .family = 4 }, r = { .family = 4 };
	f.k4 = (struct mr_key4){ .zone = MR_ZONE_DEFAULT, .proto = IPPROTO_ICMP, .saddr_be = 1, .daddr_be = 2 };
	f.k4.sport_be = htons(700);
	f.k4.dport_be = htons(8);
	r.k4 = (struct mr_key4){ .zone = MR_ZONE_DEFAULT, .proto = IPPROTO_ICMP, .saddr_be = 2, .daddr_be = 3 };
	r.k4.sport_be = htons(8);
	r.k4.dport_be = htons(701);
	f.hash = mr_flow_hash4(&f.k4, SEED);
	r.hash = mr_flow_hash4(&r.k4, SEED);
	mr_session_end(ss, 0, made_of(&f, &r, 1), 2);
	cr_assert(end_tuple[F].has_icmp && !end_tuple[F].has_ports && end_tuple[F].icmp_type == 8);
	cr_assert(end_tuple[R].has_icmp && !end_tuple[R].has_ports && end_tuple[R].icmp_type == 0);
	cr_assert(end_tuple[F].sport_be == htons(700) && end_tuple[R].dport_be == htons(701));
	teardown();
}

static uint32_t made_with(uint8_t proto, uint32_t n, uint8_t timeouts, bool keep, uint32_t now_ms)
{
	struct mr_flow_key f = key(4, proto, n, false), r = key(4, proto, n, true);
	struct mr_flow_decision d = decision(4, n);
	uint32_t idx = 0;

	d.timeouts = timeouts;
	d.keep = keep;
	return mr_session_create(ss, 0, &f, &r, &d, SYN, false, NULL, now_ms, &idx) ? 0 : idx;
}

/* A class has its own times, those of flows.timeouts where it says none, and new ones with the next configuration. */
Test(session, time_outs_of_a_class)
{
	bool changed;

	setup(100, 0, 1);
	struct mr_stage_timeouts t = { .udp_ns = 20 * SECOND_NS, .udp_unreplied_ns = 7 * SECOND_NS };
	mr_sessions_class(ss, 9, &t);
	uint32_t early = made_with(IPPROTO_UDP, 1, 9, false, 1000);
	cr_assert_eq(mr_session_remaining_ms(ss, early, 1000), 30000u, "not in force yet");
	mr_sessions_configure(ss, &defaults, 0);
	uint32_t own = made_with(IPPROTO_UDP, 2, 9, false, 1000), none = made_with(IPPROTO_UDP, 3, 0, false, 1000);
	uint32_t tcp = made_with(IPPROTO_TCP, 4, 9, false, 1000);
	cr_assert_eq(mr_session_remaining_ms(ss, early, 1000), 7000u);
	cr_assert_eq(mr_session_remaining_ms(ss, own, 1000), 7000u);
	cr_assert_eq(mr_session_remaining_ms(ss, none, 1000), 30000u);
	cr_assert_eq(mr_session_remaining_ms(ss, tcp, 1000), 240000u, "as flows.timeouts");
	mr_session_packet(ss, own, R, 0, 1000, &changed);
	cr_assert_eq(mr_session_remaining_ms(ss, own, 1000), 20000u);
	cr_assert_eq(sweep_all(7999), 0u);
	cr_assert_eq(sweep_all(8000), 1u);
	cr_assert_eq(sweep_all(20999), 0u);
	/* who lives gets the new values, of the class and of flows.timeouts through it */
	struct mr_config_timeouts shorter = defaults;
	shorter.tcp_transitory_ns = 25 * SECOND_NS;
	t.udp_ns = 40 * SECOND_NS;
	mr_sessions_class(ss, 9, &t);
	mr_sessions_configure(ss, &shorter, 0);
	cr_assert_eq(sweep_all(25999), 0u);
	cr_assert_eq(sweep_all(26000), 1u, "the one of TCP");
	cr_assert_eq(sweep_all(31000), 1u, "the one without a class");
	mr_sessions_class(ss, 9, NULL);
	mr_sessions_configure(ss, &defaults, 0);
	cr_assert_eq(mr_session_remaining_ms(ss, own, 1000), 300000u);
	cr_assert_eq(usage().live, 1u);
	teardown();
}

/* RFC 4787 REQ-6: whose packets keep a session alive. */
Test(session, refreshed_by_one_direction)
{
	static const struct {
		enum mr_refresh refresh;
		uint32_t ends_ms; /* forward was seen at 6000, reply at 8000 */
	} cases[] = { { MR_REFRESH_BOTH, 18000 }, { MR_REFRESH_FORWARD, 16000 }, { MR_REFRESH_REPLY, 18000 } };

	setup(100, 0, 1);
	for (unsigned i = 0; i < 3; i++) {
		struct mr_stage_timeouts t = { .udp_unreplied_ns = 10 * SECOND_NS, .refresh = cases[i].refresh };
		mr_sessions_class(ss, 1, &t);
		mr_sessions_configure(ss, &defaults, 0);
		for (unsigned later = 0; later < 2; later++) {
			uint32_t idx = made_with(IPPROTO_UDP, 1, 1, false, 1000);
			const struct mr_session *x = mr_session_at(ss, idx);
			mr_flows_state(flows, x->ref[F])->last_seen_ms = later ? 8000 : 6000;
			mr_flows_state(flows, x->ref[R])->last_seen_ms = later ? 6000 : 8000;
			uint32_t ends = cases[i].refresh == MR_REFRESH_BOTH         ? 18000
				: (cases[i].refresh == MR_REFRESH_FORWARD) == later ? 18000
										    : 16000;
			cr_assert(later || ends == cases[i].ends_ms);
			cr_assert_eq(sweep_all(ends - 1), 0u, "%u %u", i, later);
			cr_assert_eq(sweep_all(ends), 1u, "%u %u", i, later);
			mr_epoch_quiet(epoch, 0);
		}
	}
	teardown();
}

/* Neither the quota nor an eviction nor a RST before it is established makes a kept session a candidate. */
Test(session, a_kept_session_is_not_given_up)
{
	bool changed;

	setup(8, 4, 1);
	uint32_t kept[8];
	for (uint32_t n = 0; n < 4; n++)
		cr_assert(kept[n] = made_with(n % 2 ? IPPROTO_UDP : IPPROTO_TCP, n, 0, true, 1000));
	cr_assert_eq(usage().half_open, 0u);
	mr_session_packet(ss, kept[0], R, RST, 1000, &changed);
	cr_assert(changed && !mr_session_half_open(mr_session_at(ss, kept[0])));
	cr_assert_eq(usage().half_open, 0u);
	for (uint32_t n = 4; n < 50; n++)
		cr_assert(made_with(IPPROTO_UDP, n, 0, false, 1000 + n * 100), "%u: another one makes room", n);
	cr_assert_eq(usage().half_open, 4u);
	for (uint32_t n = 0; n < 4; n++)
		cr_assert_neq(mr_session_at(ss, kept[n])->state, MR_SESSION_FREE);
	/* kept ones take the places of the others, until there is nobody to make room */
	for (uint32_t n = 50; n < 54; n++)
		cr_assert(made_with(IPPROTO_UDP, n, 0, true, 1000 + n * 100));
	cr_assert_eq(made_with(IPPROTO_UDP, 54, 0, true, 1000), 0u);
	cr_assert_eq(made_with(IPPROTO_UDP, 55, 0, false, 1000), 0u);
	cr_assert_eq(usage().live, 8u);
	cr_assert_eq(usage().half_open, 0u);
	/* it starts over as it was */
	mr_session_packet(ss, kept[0], F, SYN, 1000, &changed);
	cr_assert_eq(mr_session_at(ss, kept[0])->state, MR_SESSION_NEW);
	cr_assert_eq(usage().half_open, 0u);
	teardown();
}

/* Makes and ends sessions until there is no index left; how many there were, and whether `idx` was one of them. */
static unsigned run_dry(uint32_t *n, uint32_t idx, bool *seen)
{
	unsigned cnt = 0;
	uint32_t other;

	*seen = false;
	for (; cnt < 10000 && !create(0, 4, IPPROTO_UDP, *n, 0, false, 100 * *n, &other); cnt++) {
		*seen |= other == idx;
		cr_assert(mr_session_end(ss, 0, other, 100 * *n));
		mr_sessions_sweep(ss, 0, 100 * *n, 64);
		mr_epoch_quiet(epoch, 0);
		(*n)++;
	}
	return cnt;
}

Test(session, index_waits_for_the_epoch)
{
	enum { CAPACITY = 200 };
	uint32_t n = 2;
	bool seen;

	setup(CAPACITY, CAPACITY, 1);
	mr_epoch_online(epoch, 5); /* looks at things and is not quiet */
	uint32_t idx = made(IPPROTO_UDP, 1, 0, 1);
	cr_assert(mr_session_end(ss, 0, idx, 1));
	unsigned cnt = run_dry(&n, idx, &seen);
	cr_assert_gt(cnt, (unsigned)CAPACITY);
	cr_assert_lt(cnt, 1000u, "indexes run out while a reader stands still");
	cr_assert_not(seen, "reused under a reader");
	cr_assert_eq(usage().refused_full, 1u);
	for (unsigned i = 0; i < 2; i++) { /* the first sweep stamps what was still open */
		mr_sessions_sweep(ss, 0, 100 * n, 64);
		mr_epoch_quiet(epoch, 0);
		mr_epoch_quiet(epoch, 5);
	}
	cr_assert_eq(run_dry(&n, idx, &seen), cnt + 1, "all come back when it moves on");
	cr_assert(seen);
	teardown();
}

Test(session, expiry)
{
	bool changed;

	setup(1000, 1000, 1);
	mr_sessions_on_expire(ss, on_expire, &expired_calls);
	uint32_t start = UINT32_MAX - 10000; /* the clock wraps on the way */
	for (uint32_t n = 0; n < 500; n++)
		made(IPPROTO_UDP, n, 0, start);
	uint32_t replied = found(4, IPPROTO_UDP, 7, false), seen = found(4, IPPROTO_UDP, 8, false);
	mr_session_packet(ss, replied, R, 0, start, &changed);
	cr_assert_eq(sweep_all(start + 29999), 0u);
	mr_flows_state(flows, mr_session_at(ss, seen)->ref[F])->last_seen_ms = start + 20000;
	cr_assert_eq(sweep_all(start + 30000), 498u);
	cr_assert_eq(expired_calls, 498u);
	cr_assert_eq(usage().expired, 498u);
	cr_assert_eq(sweep_all(start + 49999), 0u);
	cr_assert_eq(sweep_all(start + 50000), 1u);
	cr_assert_eq(sweep_all(start + 299999), 0u);
	cr_assert_eq(mr_sessions_next(ss, 0), replied);
	cr_assert_eq(mr_sessions_next(ss, replied + 1), 0u);
	cr_assert_eq(sweep_all(start + 300000), 1u);
	cr_assert(usage().live == 0 && usage().half_open == 0 && records() == 0);
	teardown();
}

/* The kernel tier writes the time of a clock that is some milliseconds behind, and workers' clocks are apart as well. */
Test(session, clocks_apart)
{
	setup(10, 0, 1);
	for (unsigned wrap = 0; wrap < 2; wrap++) {
		uint32_t now = wrap ? 2 : 1000000;
		uint32_t idx = made(IPPROTO_UDP, 1 + wrap, 0, now);
		struct mr_flow_state *st = mr_flows_state(flows, mr_session_at(ss, idx)->ref[F]);
		mr_flows_state(flows, mr_session_at(ss, idx)->ref[R])->last_seen_ms = now - 20000;
		for (int32_t apart = -12; apart <= 12; apart += 4) {
			st->last_seen_ms = now + (uint32_t)apart;
			uint32_t left = mr_session_remaining_ms(ss, idx, now);
			cr_expect(left >= 30000u - 12 && left <= 30000u + 12, "%d ms apart: %u", (int)apart, left);
		}
		sweep_all(now);
		cr_expect_eq(mr_session_at(ss, idx)->state, MR_SESSION_NEW);
	}
	teardown();
}

/* 32 bits of milliseconds are 49 days: whoever lives longer is judged by what it did last all the same. */
Test(session, old_sessions)
{
	const uint32_t day_ms = 24 * 3600 * 1000;
	bool changed;

	setup(100, 100, 1);
	for (uint32_t days = 20; days < 120; days += 5) {
		uint32_t now = 5000 + days * day_ms, idle = made(IPPROTO_UDP, 1, 0, 5000),
			 live = made(IPPROTO_UDP, 2, 0, 5000);
		mr_session_packet(ss, idle, R, 0, 5000, &changed);
		mr_session_packet(ss, live, R, 0, 5000, &changed);
		mr_flows_state(flows, mr_session_at(ss, idle)->ref[F])->last_seen_ms = now - 3600000;
		mr_flows_state(flows, mr_session_at(ss, idle)->ref[R])->last_seen_ms = now - 3600000;
		mr_flows_state(flows, mr_session_at(ss, live)->ref[F])->last_seen_ms =
			now + 3; /* by a worker whose clock is ahead */
		mr_flows_state(flows, mr_session_at(ss, live)->ref[R])->last_seen_ms = now - 3600000;
		cr_assert_eq(mr_session_remaining_ms(ss, idle, now), 0u, "idle, after %u days", days);
		cr_assert_geq(mr_session_remaining_ms(ss, live, now), 299000u, "live, after %u days", days);
		mr_session_end(ss, 0, idle, now);
		mr_session_end(ss, 0, live, now);
		mr_epoch_quiet(epoch, 0);
	}
	teardown();
}

Test(session, mass_expiry_is_bounded)
{
	setup(2000, 2000, 1);
	for (uint32_t n = 0; n < 2000; n++)
		made(IPPROTO_UDP, n, 0, 1);
	cr_assert_eq(mr_sessions_sweep(ss, 0, 100000, 100000), 128u);
	cr_assert_eq(sweep_all(100000), 2000u - 128u);
	teardown();
}

/* A second's worth of calls passes over every index of every worker's share. */
Test(session, budget_covers_a_share)
{
	setup(100000, 100000, 3);
	for (uint32_t n = 0; n < 100000; n += 500)
		made(IPPROTO_UDP, n, 0, 1);
	unsigned freed = 0;
	for (unsigned ms = 0; ms < 1000; ms++) {
		for (unsigned w = 0; w < 3; w++)
			freed += mr_sessions_sweep(ss, w, 100000, mr_sessions_budget(ss));
	}
	cr_assert_eq(freed, 200u);
	teardown();
}

Test(session, shorter_timeouts_reach_living_sessions)
{
	struct mr_config_timeouts t = defaults;
	bool changed;

	setup(100, 0, 1);
	uint32_t idx = made(IPPROTO_UDP, 1, 0, 1000);
	mr_session_packet(ss, idx, R, 0, 1000, &changed);
	sweep_all(1001);
	t.udp_ns = 5 * SECOND_NS;
	cr_assert_eq(mr_sessions_configure(ss, &t, 0), 0);
	cr_assert_eq(mr_session_remaining_ms(ss, idx, 1000), 5000u);
	cr_assert_eq(sweep_all(5999), 0u);
	cr_assert_eq(sweep_all(6000), 1u);
	teardown();
}

Test(session, totals_survive_wrapping)
{
	uint64_t packets, bytes, total = 0;

	setup(10, 0, 1);
	uint32_t idx = made(IPPROTO_UDP, 1, 0, 1);
	struct mr_flow_state *st = mr_flows_state(flows, mr_session_at(ss, idx)->ref[R]);
	for (unsigned i = 0; i < 30; i++) {
		total += 0x50000001;
		st->packets += 0x50000001;
		st->bytes += 7;
		mr_session_totals(ss, idx, R, &packets, &bytes);
		cr_assert_eq(packets, total, "step %u, before the fold", i);
		sweep_all(2);
		mr_session_totals(ss, idx, R, &packets, &bytes);
		cr_assert_eq(packets, total, "step %u, after the fold", i);
		cr_assert_eq(bytes, 7u * (i + 1));
	}
	mr_session_totals(ss, idx, F, &packets, &bytes);
	cr_assert_eq(packets + bytes, 0u);
	teardown();
}

/* ---- limits --------------------------------------------------------------------------------------------- */

Test(session, half_open_quota_evicts_half_open_only)
{
	uint32_t idx;
	bool changed;

	setup(1000, 100, 1);
	for (uint32_t n = 0; n < 50; n++) {
		idx = made(IPPROTO_TCP, n, SYN, 1);
		mr_session_packet(ss, idx, R, SYN | ACK, 1, &changed);
		cr_assert_eq(mr_session_packet(ss, idx, F, ACK, 1, &changed), EST);
	}
	for (uint32_t n = 50; n < 600; n++) {
		made(IPPROTO_TCP, n, SYN, n);
		cr_assert_leq(usage().half_open, 100u);
		mr_sessions_sweep(ss, 0, n, 64);
		mr_epoch_quiet(epoch, 0);
	}
	cr_assert_eq(usage().evicted, 450u);
	for (uint32_t n = 0; n < 50; n++)
		cr_assert_neq(found(4, IPPROTO_TCP, n, false), 0u, "established ones stay");
	cr_assert_eq(usage().live, 150u);
	cr_assert_eq(records(), 300u);

	/* Who exists already costs nobody his place. */
	uint64_t evicted = usage().evicted;
	cr_assert_eq(create(0, 4, IPPROTO_TCP, 599, SYN, false, 700, &idx), -EEXIST);
	cr_assert_eq(idx, found(4, IPPROTO_TCP, 599, false));
	cr_assert_eq(usage().evicted, evicted);
	teardown();
}

/* A RST is no way round the quota: who was reset before he was established may be evicted, too. */
Test(session, reset_ones_that_never_were_established_are_half_open)
{
	uint32_t idx, kept;
	bool changed;

	setup(100, 20, 1);
	kept = made(IPPROTO_TCP, 900, SYN, 1);
	mr_session_packet(ss, kept, R, SYN | ACK, 1, &changed);
	cr_assert_eq(mr_session_packet(ss, kept, F, ACK, 1, &changed), EST);
	cr_assert_eq(mr_session_packet(ss, kept, F, RST, 1, &changed), CLD);
	for (uint32_t n = 0; n < 500; n++) {
		cr_assert_eq(create(0, 4, IPPROTO_TCP, n, SYN, false, 40 * n, &idx), 0, "session %u", n);
		cr_assert_eq(mr_session_packet(ss, idx, n % 2 ? R : F, RST, 40 * n, &changed), CLD);
		cr_assert_leq(usage().half_open, 20u);
		mr_epoch_quiet(epoch, 0);
		mr_sessions_sweep(ss, 0, 1, 64);
	}
	cr_assert_eq(usage().evicted, 480u);
	cr_assert_eq(found(4, IPPROTO_TCP, 900, false), kept, "established once: stays its time");
	/* A RST nobody believed is forgotten. */
	cr_assert_eq(mr_session_packet(ss, idx, F, ACK, 20000, &changed), CLD);
	cr_assert_eq(mr_session_packet(ss, idx, R, ACK, 20000, &changed), EST);
	cr_assert_eq(usage().half_open, 19u);
	teardown();
}

/* Under a flood each half-open session keeps its place about as long as any other: a reply has the time to come. */
Test(session, eviction_goes_round)
{
	enum { QUOTA = 4096, FLOOD = 5 * QUOTA };

	for (uint32_t turn = 1; turn <= 64; turn *= 8) {
		uint32_t left = 0;
		setup(2 * QUOTA, QUOTA, 1);
		for (uint32_t n = 0; n < FLOOD; n++) {
			made(IPPROTO_UDP, n, 0, 1 + n / 50);
			if (n % turn)
				continue;
			mr_epoch_quiet(epoch, 0);
			mr_sessions_sweep(ss, 0, 1 + n / 50, 64);
		}
		for (uint32_t n = FLOOD - QUOTA / 2; n < FLOOD; n++)
			left += found(4, IPPROTO_UDP, n, false) != 0;
		cr_assert_geq(left, QUOTA / 2 - 64, "%u a turn: of the last %u, %u are left", turn, QUOTA / 2, left);
		teardown();
	}
}

Test(session, full_of_established_refuses)
{
	uint32_t idx = 0, n;
	bool changed;

	setup(100, 100, 1);
	for (n = 0; n < 99; n++)
		mr_session_packet(ss, made(IPPROTO_UDP, n, 0, 1), R, 0, 1, &changed);
	made(IPPROTO_UDP, 99, 0, 1);
	/* The one half-open session makes room, then again its successor. */
	for (n = 100; n < 110; n++) {
		made(IPPROTO_UDP, n, 0, 100 * n);
		cr_assert_eq(usage().live, 100u);
	}
	mr_session_packet(ss, found(4, IPPROTO_UDP, 109, false), R, 0, 1, &changed);
	cr_assert_eq(create(0, 4, IPPROTO_UDP, 200, 0, false, 20000, &idx), -ENOSPC);
	cr_assert_eq(create(0, 4, IPPROTO_UDP, 200, 0, true, 20000, &idx), -ENOSPC);
	cr_assert(usage().refused_full == 2 && usage().evicted == 10 && usage().live == 100 && usage().half_open == 0);
	cr_assert_eq(records(), 200u);
	cr_assert(mr_session_end(ss, 0, found(4, IPPROTO_UDP, 3, false), 20000));
	made(IPPROTO_UDP, 200, 0, 20000);
	teardown();
}

Test(session, quota_without_candidates_refuses)
{
	uint32_t idx;

	setup(100, 1, 1);
	made(IPPROTO_UDP, 1, 0, 1);
	made(IPPROTO_UDP, 2, 0, 1);
	cr_assert_eq(usage().evicted, 1u);
	cr_assert_eq(usage().half_open, 1u);
	cr_assert_eq(create(0, 4, IPPROTO_UDP, 3, 0, true, 1, &idx), 0, "one-way ones are not half open");
	cr_assert_eq(usage().evicted, 1u);
	teardown();
}

/* ---- at once -------------------------------------------------------------------------------------------- */

/*
 * Workers make, move, find and end sessions of a few keys, and sweep.  Whatever a worker finds under a key, read as a whole, is
 * that key's: rewrite and private bytes.  What is found one way is found the other way by the time it is said to exist.
 */
#define STRESS_WORKERS 3
#define STRESS_KEYS    24
#define STRESS_TURNS   30000

static unsigned wrong, half_found;
static int64_t began, over;

static unsigned wrong_keys;

static void on_stress_expire(void *ctx, const struct mr_session_end *end)
{
	const struct mr_key4 *f = &end->key[F].k4, *r = &end->key[R].k4;

	(void)ctx;
	__atomic_fetch_add(&over, 1, __ATOMIC_RELAXED);
	if (end->key[F].family != 4 || end->key[R].family != 4 || f->zone != MR_ZONE_DEFAULT || f->proto != r->proto ||
		f->saddr_be != r->daddr_be || f->sport_be != r->dport_be || f->dport_be != r->sport_be)
		__atomic_fetch_add(&wrong_keys, 1, __ATOMIC_RELAXED);
}

static void check_found(uint32_t n, uint32_t turn)
{
	struct mr_flow_key k[2] = { key(4, IPPROTO_TCP, n, false), key(4, IPPROTO_TCP, n, true) };
	struct mr_key4 k4[2] = { k[0].k4, k[1].k4 };
	uint64_t hash[2] = { k[0].hash, k[1].hash };
	struct mr_flow4 *rec[2], copy[2];
	uint64_t hits = mr_flows_lookup4(flows, k4, hash, 2, rec, copy);
	bool changed;

	if (hits & 1) {
		struct mr_session *x = mr_session_at(ss, copy[0].st.session);
		bool ok = copy[0].rewrite.saddr_be == n && copy[0].st.nexthop == 4 &&
			!(copy[0].st.flags & MR_FLOW_REPLY) && x->priv[0] == n && x->family == 4 &&
			x->proto == IPPROTO_TCP;
		__atomic_fetch_add(&wrong, !ok, __ATOMIC_RELAXED);
		static const uint8_t flags[] = { SYN, ACK, FIN | ACK, RST, SYN | ACK, ACK | PSH };
		mr_session_packet(ss, copy[0].st.session, turn & 1, flags[turn / 2 % 6], turn, &changed);
	}
	if (hits & 2) {
		bool ok = copy[1].st.flags & MR_FLOW_REPLY && mr_session_at(ss, copy[1].st.session)->priv[0] == n;
		__atomic_fetch_add(&wrong, !ok, __ATOMIC_RELAXED);
	}
	if (hits == 3)
		__atomic_fetch_add(&half_found, copy[0].st.session != copy[1].st.session && !turn, __ATOMIC_RELAXED);
}

static void *stress(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	uint64_t x = me * 0x9e3779b97f4a7c15ULL + 1;

	mr_epoch_online(epoch, me);
	for (uint32_t turn = 1; turn < STRESS_TURNS; turn++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		uint32_t n = (uint32_t)(x >> 33) % STRESS_KEYS, now_ms = turn * 30, idx;
		struct mr_flow_key f = key(4, IPPROTO_TCP, n, false), r = key(4, IPPROTO_TCP, n, true);
		struct mr_flow_decision d = decision(4, n);
		uint8_t priv[MR_SESSION_PRIVATE_BYTES] = { (uint8_t)n };
		int err = mr_session_create(ss, me, &f, &r, &d, SYN, false, priv, now_ms, &idx);
		if (!err)
			__atomic_fetch_add(&began, 1, __ATOMIC_RELAXED);
		else if (err == -EEXIST && idx && (x & 7) == 0)
			mr_session_end(ss, me, idx, now_ms);
		check_found((uint32_t)(x >> 20) % STRESS_KEYS, turn);
		if (turn % 8 == 0)
			mr_sessions_sweep(ss, me, now_ms, 64);
		if (turn % 256 == 0) {
			mr_epoch_offline(epoch, me);
			mr_epoch_online(epoch, me);
		}
		mr_epoch_quiet(epoch, me);
	}
	mr_epoch_offline(epoch, me);
	return NULL;
}

Test(session, many_workers_few_keys)
{
	pthread_t t[STRESS_WORKERS];

	setup(16, 12, STRESS_WORKERS);
	mr_epoch_offline(epoch, 0);
	mr_sessions_on_expire(ss, on_stress_expire, NULL);
	for (uintptr_t i = 0; i < STRESS_WORKERS; i++)
		pthread_create(&t[i], NULL, stress, (void *)i);
	for (unsigned i = 0; i < STRESS_WORKERS; i++)
		pthread_join(t[i], NULL);
	struct mr_sessions_usage u = usage();
	cr_assert_eq(wrong + half_found + wrong_keys, 0u, "%u, %u, %u", wrong, half_found, wrong_keys);
	cr_assert_gt(began, 1000);
	cr_assert_eq(u.created, (uint64_t)began);
	cr_assert_eq(u.expired + u.ended + u.evicted, (uint64_t)over);
	cr_assert_eq(u.live, (uint64_t)(began - over));
	cr_assert_leq(u.live, 16u);
	cr_assert_eq(records(), 2 * u.live, "two records each, none besides");
	uint64_t seen = 0, half_open = 0;
	for (uint32_t idx = mr_sessions_next(ss, 0); idx; idx = mr_sessions_next(ss, idx + 1)) {
		struct mr_session *x = mr_session_at(ss, idx);
		seen++;
		half_open += x->state == MR_SESSION_NEW;
		cr_assert_eq(found(4, IPPROTO_TCP, x->priv[0], false), idx);
		cr_assert_eq(found(4, IPPROTO_TCP, x->priv[0], true), idx);
		cr_assert(mr_session_end(ss, workers, idx, UINT32_MAX / 2));
	}
	cr_assert_eq(seen, u.live);
	cr_assert_leq(u.half_open, 12u + STRESS_WORKERS);
	cr_assert_leq(half_open, 12u + STRESS_WORKERS);
	cr_assert(usage().live == 0 && usage().half_open == 0 && records() == 0);
	teardown();
}
