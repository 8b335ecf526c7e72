/* SPDX-License-Identifier: BSD-2-Clause */
/* test_fragment.c - the table by itself, with the time given; and fragments through the engine in every order. */
#include "core/fragment.h"
#include "rig.h"
#include "tests/packets.h"

#include <criterion/criterion.h>
#include <time.h>

#define MS 1000000ull
#define S  (1000 * MS)

/* ---- making fragments ---------------------------------------------------------------------------------------------- */

struct datagram {
	unsigned family;
	uint8_t proto;
	uint16_t sport, dport; /* ICMP: identifier */
	uint32_t id;
	uint32_t bytes; /* transport header and data */
	uint8_t host;   /* last byte of the source */
};

/* Bytes from..end of it, as a frame. */
static uint32_t cut(const struct datagram *d, uint32_t from, uint32_t end, uint8_t *f)
{
	uint8_t l4[4096] = { 0 };
	uint32_t hlen = d->family == 4 ? 20 : 48, more = end < d->bytes;
	uint8_t *ip = f + 14;
	for (uint32_t i = 0; i < d->bytes; i++)
		l4[i] = (uint8_t)(i * 7);
	put16(l4, d->sport);
	put16(l4 + 2, d->dport);
	if (d->proto == 6) {
		l4[12] = 0x50;
		l4[13] = 0x10;
	} else if (d->proto == 17) {
		put16(l4 + 4, d->bytes);
	} else {
		l4[0] = d->family == 4 ? 8 : 128;
		l4[1] = 0;
		put16(l4 + 4, d->sport);
	}
	memset(f, 0, 14 + hlen);
	f[0] = f[6] = 2;
	put16(f + 12, d->family == 4 ? 0x0800 : 0x86dd);
	if (d->family == 4) {
		ip[0] = 0x45;
		put16(ip + 2, hlen + end - from);
		put16(ip + 4, d->id);
		put16(ip + 6, from / 8 | (more ? 0x2000 : 0));
		ip[8] = 64;
		ip[9] = d->proto;
		memcpy(ip + 12, (uint8_t[]){ 10, 0, 0, d->host, 10, 0, 1, 1 }, 8);
		finish_ip4(ip);
	} else {
		ip[0] = 0x60;
		put16(ip + 4, 8 + end - from);
		ip[6] = 44;
		ip[7] = 64;
		ip[8] = ip[24] = 0xfd;
		ip[23] = d->host;
		ip[39] = 1;
		ip[40] = d->proto;
		put16(ip + 42, from | more);
		put16(ip + 44, d->id >> 16);
		put16(ip + 46, d->id);
	}
	memcpy(ip + hlen, l4 + from, end - from);
	return 14 + hlen + end - from;
}

/* ---- the table --------------------------------------------------------------------------------------------------------- */

struct seen {
	enum mr_fragment_fate fate;
	unsigned reason;
	struct mr_parsed p;
};

static struct seen see(struct mr_fragments *t, const struct datagram *d, uint32_t from, uint32_t end, uint64_t now_ns)
{
	uint8_t frame[4096];
	struct seen s = { .reason = 0 };
	struct mr_fragment_key k;
	struct mr_frame f = { .addr = from, .len = cut(d, from, end, frame) };
	cr_assert_eq(mr_parse(frame, frame + f.len, &s.p), MR_PARSE_OK);
	cr_assert(mr_fragment_follows(&s.p));
	mr_fragment_key(&s.p, frame, 1, 77, &k);
	s.fate = mr_fragment_see(t, &k, &s.p, frame, &f, 3, 9, now_ns, &s.reason);
	return s;
}

static struct mr_fragment_usage usage(const struct mr_fragments *t)
{
	struct mr_fragment_usage u;
	mr_fragment_usage(t, &u);
	return u;
}

static const struct datagram udp = {
	.family = 4, .proto = 17, .sport = 1000, .dport = 53, .id = 5, .bytes = 1000, .host = 1
};

/* Takes all that is held no longer; returns how many, and that all have this reason. */
static unsigned drain(struct mr_fragments *t, unsigned reason)
{
	struct mr_fragment_out o;
	unsigned n = 0;
	for (; mr_fragment_next(t, &o); n++) {
		cr_assert_eq(o.reason, reason);
		cr_assert(o.interface_id == 3 && o.fallback == 9);
	}
	return n;
}

Test(fragment, the_first_teaches_and_the_whole_is_forgotten)
{
	struct mr_fragments *t = mr_fragment_create(64);
	struct seen s = see(t, &udp, 0, 400, S);
	cr_assert_eq(s.fate, MR_FRAGMENT_GO);
	s = see(t, &udp, 800, 1000, S);
	cr_assert_eq(s.fate, MR_FRAGMENT_GO);
	cr_assert(s.p.flags & MR_PKT_FRAG_KNOWN && s.p.flags & MR_PKT_PORTS && mr_parse_has_key(&s.p));
	cr_assert(s.p.sport_be == mr_be16(1000) && s.p.dport_be == mr_be16(53));
	cr_assert_eq(usage(t).settled_cnt, 1);
	cr_assert_eq(see(t, &udp, 400, 800, S).fate, MR_FRAGMENT_GO);
	cr_assert_eq(usage(t).settled_cnt, 0);
	mr_fragment_destroy(t);
}

Test(fragment, early_ones_wait_and_keep_their_order)
{
	struct mr_fragments *t = mr_fragment_create(64);
	struct mr_fragment_out o;
	cr_assert_eq(see(t, &udp, 800, 1000, S).fate, MR_FRAGMENT_KEPT);
	cr_assert_eq(see(t, &udp, 200, 400, S).fate, MR_FRAGMENT_KEPT);
	cr_assert(mr_fragment_any_held(t));
	cr_assert_not(mr_fragment_next(t, &o));
	cr_assert_eq(see(t, &udp, 0, 200, S).fate, MR_FRAGMENT_GO);
	/* those behind them wait for them */
	cr_assert_eq(see(t, &udp, 400, 800, S).fate, MR_FRAGMENT_KEPT);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert(mr_fragment_next(t, &o));
		cr_assert_eq(o.frame.addr, ((unsigned[]){ 800, 200, 400 })[i]);
		cr_assert_eq(o.reason, MR_REASON_NONE);
		cr_assert_eq(o.known.dport_be, mr_be16(53));
	}
	cr_assert_not(mr_fragment_next(t, &o));
	cr_assert(usage(t).settled_cnt == 0 && usage(t).held_cnt == 0, "whole, and forgotten");
	mr_fragment_destroy(t);
}

Test(fragment, what_tells_datagrams_apart)
{
	struct mr_fragments *t = mr_fragment_create(64);
	struct datagram other[4] = { udp, udp, udp, udp };
	other[0].id++;
	other[1].host++;
	other[2].proto = 6;
	other[3].family = 6;
	see(t, &udp, 0, 200, S);
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(see(t, &other[i], 200, 400, S).fate, MR_FRAGMENT_KEPT, "%u", i);
	/* of IPv6 the protocol is not part of it (RFC 8200): a later fragment may name an extension header of the first */
	struct datagram ext = other[3];
	ext.proto = 60;
	see(t, &other[3], 0, 200, S);
	cr_assert_eq(drain(t, MR_REASON_NONE), 1);
	struct seen s = see(t, &ext, 400, 600, S);
	cr_assert_eq(s.fate, MR_FRAGMENT_GO);
	cr_assert_eq(s.p.proto, 17);
	mr_fragment_destroy(t);
}

Test(fragment, time_runs_out)
{
	struct mr_fragments *t = mr_fragment_create(64);
	see(t, &udp, 200, 400, S);
	see(t, &udp, 400, 600, S + 400 * MS);
	mr_fragment_expire(t, S + MR_FRAGMENT_HOLD_NS - 1);
	cr_assert_eq(drain(t, MR_REASON_FRAG_TIMEOUT), 0);
	mr_fragment_expire(t, S + MR_FRAGMENT_HOLD_NS);
	cr_assert_eq(drain(t, MR_REASON_FRAG_TIMEOUT), 2);
	cr_assert(usage(t).waiting_cnt == 0 && usage(t).held_cnt == 0);
	see(t, &udp, 0, 200, 2 * S);
	mr_fragment_expire(t, 2 * S + MR_FRAGMENT_KNOW_NS - 1);
	cr_assert_eq(usage(t).settled_cnt, 1);
	mr_fragment_expire(t, 2 * S + MR_FRAGMENT_KNOW_NS);
	cr_assert_eq(usage(t).settled_cnt, 0);
	mr_fragment_destroy(t);
}

/* A sender that uses a number again, before or after what it sent under it was forgotten. */
Test(fragment, a_number_used_again)
{
	struct mr_fragments *t = mr_fragment_create(64);
	struct datagram again = udp;
	again.dport = 99;
	see(t, &udp, 0, 200, S);
	cr_assert_eq(see(t, &again, 0, 200, S + MR_FRAGMENT_REUSE_NS).fate, MR_FRAGMENT_GO);
	cr_assert_eq(see(t, &again, 200, 400, S + MR_FRAGMENT_REUSE_NS).p.dport_be, mr_be16(99));
	mr_fragment_destroy(t);
}

Test(fragment, duplicates_and_overlaps)
{
	static const struct {
		uint32_t from, end;
	} bad[] = { { 0, 208 }, { 192, 400 }, { 208, 216 }, { 0, 992 }, { 392, 600 } };
	for (unsigned i = 0; i < 5; i++) {
		struct mr_fragments *t = mr_fragment_create(64);
		see(t, &udp, 0, 200, S);
		see(t, &udp, 200, 400, S);
		for (unsigned k = 0; k < 2; k++) { /* again, whole: alone */
			struct seen s = see(t, &udp, 200 * k, 200 * k + 200, S);
			cr_assert(s.fate == MR_FRAGMENT_REFUSED && s.reason == MR_REASON_FRAG_OVERLAP);
		}
		cr_assert_eq(see(t, &udp, 600, 800, S).fate, MR_FRAGMENT_GO);
		struct seen s = see(t, &udp, bad[i].from, bad[i].end, S);
		cr_assert(s.fate == MR_FRAGMENT_REFUSED && s.reason == MR_REASON_FRAG_OVERLAP, "%u", i);
		s = see(t, &udp, 800, 1000, S); /* and so is what follows */
		cr_assert(s.fate == MR_FRAGMENT_REFUSED && s.reason == MR_REASON_FRAG_OVERLAP, "%u", i);
		mr_fragment_destroy(t);
	}
}

Test(fragment, an_overlap_of_early_ones_takes_them_along)
{
	struct mr_fragments *t = mr_fragment_create(64);
	see(t, &udp, 200, 400, S);
	see(t, &udp, 400, 600, S);
	cr_assert_eq(see(t, &udp, 392, 800, S).fate, MR_FRAGMENT_REFUSED);
	cr_assert_eq(drain(t, MR_REASON_FRAG_OVERLAP), 2);
	cr_assert_eq(see(t, &udp, 0, 200, S).fate, MR_FRAGMENT_REFUSED, "the first one, too");
	mr_fragment_destroy(t);
}

Test(fragment, ends_that_do_not_agree)
{
	struct mr_fragments *t = mr_fragment_create(64);
	struct datagram longer = udp;
	longer.bytes = 2000;
	see(t, &udp, 0, 200, S);
	see(t, &udp, 800, 1000, S);
	cr_assert_eq(see(t, &longer, 1000, 1200, S).fate, MR_FRAGMENT_REFUSED, "beyond the end");
	mr_fragment_destroy(t);
}

/* RFC 3128: a TCP fragment that begins within the header; RFC 791: all but the last carry multiples of 8; nothing beyond 64 KB. */
Test(fragment, impossible_ones)
{
	struct mr_fragments *t = mr_fragment_create(64);
	struct datagram tcp = udp, huge = udp;
	tcp.proto = 6;
	struct seen s = see(t, &tcp, 8, 400, S);
	cr_assert(s.fate == MR_FRAGMENT_REFUSED && s.reason == MR_REASON_FRAG_OVERLAP);
	s = see(t, &tcp, 24, 400, S);
	cr_assert_eq(s.fate, MR_FRAGMENT_KEPT);
	s = see(t, &udp, 8, 13, S);
	cr_assert(s.fate == MR_FRAGMENT_REFUSED && s.reason == MR_REASON_BAD_IP);
	uint8_t frame[4096];
	struct mr_fragment_key k;
	struct mr_frame f = { .len = cut(&huge, 800, 1000, frame) };
	put16(frame + 20, 0x1fff);
	mr_parse(frame, frame + f.len, &s.p);
	mr_fragment_key(&s.p, frame, 1, 77, &k);
	cr_assert_eq(mr_fragment_see(t, &k, &s.p, frame, &f, 3, 9, S, &s.reason), MR_FRAGMENT_REFUSED);
	cr_assert_eq(s.reason, MR_REASON_BAD_IP);
	mr_fragment_destroy(t);
}

Test(fragment, frames_held_are_bounded)
{
	struct mr_fragments *t = mr_fragment_create(32);
	struct datagram d = udp;
	uint64_t got = 0, limited = 0;
	for (unsigned i = 0; i < 1000; i++) {
		d.id = i;
		got += see(t, &d, 200, 400, S).fate == MR_FRAGMENT_KEPT;
		limited += drain(t, MR_REASON_FRAG_LIMIT);
		cr_assert_leq(usage(t).held_cnt, 32);
	}
	cr_assert_eq(got - limited, usage(t).held_cnt);
	cr_assert_gt(got, 900, "the newest are kept");
	cr_assert_eq(usage(t).forgotten, limited);
	mr_fragment_destroy(t);
	/* and of one datagram */
	t = mr_fragment_create(512);
	d.bytes = 4000;
	got = 0;
	for (unsigned i = 1; i < 80; i++)
		got += see(t, &d, 8 * i, 8 * i + 8, S).fate == MR_FRAGMENT_KEPT;
	cr_assert_eq(got, MR_FRAGMENT_HELD_PER);
	mr_fragment_forget_all(t, MR_REASON_STOPPING);
	cr_assert_eq(drain(t, MR_REASON_STOPPING), MR_FRAGMENT_HELD_PER);
	mr_fragment_destroy(t);
}

/* A datagram whose only frame could not be held takes none from those that came after it. */
Test(fragment, the_oldest_may_hold_nothing)
{
	struct mr_fragments *t = mr_fragment_create(2);
	struct datagram d[5] = { udp, udp, udp, udp, udp };
	for (unsigned i = 0; i < 5; i++)
		d[i].id = i;
	see(t, &d[0], 200, 400, S);
	see(t, &d[0], 400, 600, S);
	see(t, &d[0], 0, 200, S); /* both may go, and still are there */
	cr_assert_eq(see(t, &d[1], 200, 400, S).fate, MR_FRAGMENT_REFUSED);
	cr_assert_eq(drain(t, MR_REASON_NONE), 2);
	cr_assert_eq(see(t, &d[2], 200, 400, S).fate, MR_FRAGMENT_KEPT);
	cr_assert_eq(see(t, &d[3], 200, 400, S).fate, MR_FRAGMENT_KEPT);
	cr_assert_eq(see(t, &d[4], 200, 400, S).fate, MR_FRAGMENT_KEPT, "the newest is kept");
	cr_assert_eq(drain(t, MR_REASON_FRAG_LIMIT), 1);
	mr_fragment_destroy(t);
}

/* Frames given up make room once they are taken away: until then no more are given up. */
Test(fragment, nothing_is_given_up_in_vain)
{
	struct mr_fragments *t = mr_fragment_create(MR_FRAGMENT_HELD);
	struct datagram d = udp;
	d.bytes = 4000;
	for (unsigned i = 0; i < MR_FRAGMENT_HELD; i++) {
		d.id = i / MR_FRAGMENT_HELD_PER;
		unsigned at = 8 + 8 * (i % MR_FRAGMENT_HELD_PER);
		cr_assert_eq(see(t, &d, at, at + 8, S).fate, MR_FRAGMENT_KEPT);
	}
	for (unsigned i = 0; i < 200; i++) {
		d.id = 1000 + i;
		see(t, &d, 8, 16, S);
	}
	cr_assert_eq(usage(t).forgotten, 1);
	cr_assert_eq(drain(t, MR_REASON_FRAG_LIMIT), MR_FRAGMENT_HELD_PER);
	cr_assert_eq(usage(t).held_cnt, MR_FRAGMENT_HELD);
	mr_fragment_destroy(t);
}

Test(fragment, floods_do_not_meet)
{
	struct mr_fragments *t = mr_fragment_create(512);
	struct datagram d = udp;
	see(t, &udp, 0, 200, S);
	for (unsigned i = 0; i < 20000; i++) { /* later fragments at random */
		d.id = 1000 + i % 60000;
		see(t, &d, 200, 400, S);
		drain(t, MR_REASON_FRAG_LIMIT);
	}
	cr_assert_leq(usage(t).waiting_cnt, MR_FRAGMENT_WAITING);
	cr_assert_eq(see(t, &udp, 200, 400, S).fate, MR_FRAGMENT_GO, "knowledge is untouched");
	struct datagram early = udp;
	early.id = 60001;
	see(t, &early, 200, 400, S);
	drain(t, MR_REASON_FRAG_LIMIT);
	for (unsigned i = 0; i < 20000; i++) { /* first fragments */
		d.id = i;
		d.host = 77;
		cr_assert_eq(see(t, &d, 0, 200, S).fate, MR_FRAGMENT_GO);
	}
	cr_assert_eq(usage(t).settled_cnt, MR_FRAGMENT_SETTLED);
	cr_assert_eq(see(t, &early, 0, 200, S).fate, MR_FRAGMENT_GO);
	cr_assert_eq(drain(t, MR_REASON_NONE), 1, "the early one waited on");
	mr_fragment_destroy(t);
}

Test(fragment, too_many_pieces)
{
	struct mr_fragments *t = mr_fragment_create(512);
	struct datagram d = udp;
	d.bytes = 4000;
	for (unsigned i = 0; i < MR_FRAGMENT_PIECES; i++)
		cr_assert_eq(see(t, &d, 8 * i, 8 * i + 8, S).fate, MR_FRAGMENT_GO);
	struct seen s = see(t, &d, 8 * MR_FRAGMENT_PIECES, 8 * MR_FRAGMENT_PIECES + 8, S);
	cr_assert(s.fate == MR_FRAGMENT_REFUSED && s.reason == MR_REASON_FRAG_LIMIT);
	mr_fragment_destroy(t);
}

/* ---- through the engine ---------------------------------------------------------------------------------------------------- */

#define WIRE "version: 1\ninterfaces:\n  wan: { device: wan0 }\n  lan: { device: lan0 }\n"

static const char *const guarded =
	WIRE "stages:\n  guard: { type: filter, default: drop, rules: [ { name: dns, action: accept, dport: 53 },"
	     " { name: ping, action: accept, icmp: [ echo-request ] } ] }\n"
	     "pipelines:\n  in: { from: [ wan ], match: all, stages: [ guard ], to: lan }\n";
static const char *const by_port =
	WIRE "pipelines:\n  in: { from: [ wan ], match: [ { proto: udp, dport: 53 } ], stages: [], to: lan }\n";

struct plan {
	struct datagram d;
	unsigned pieces;
	uint32_t from[4], end[4];
};

static struct plan plan(unsigned family, uint8_t proto, uint16_t dport, uint32_t id, unsigned pieces)
{
	struct plan p = { .d = { .family = family,
				  .proto = proto,
				  .sport = 1000,
				  .dport = dport,
				  .id = id,
				  .bytes = 1001,
				  .host = 1 },
		.pieces = pieces };
	for (unsigned i = 0; i < pieces; i++) {
		p.from[i] = i * 240;
		p.end[i] = i + 1 < pieces ? i * 240 + 240 : 1001;
	}
	return p;
}

static void inject(struct rig *r, const struct plan *p, unsigned piece, unsigned queue)
{
	uint8_t frame[4096];
	uint32_t len = cut(&p->d, p->from[piece], p->end[piece], frame);
	rig_inject(r, "wan", queue, frame, len);
}

/* The k-th order of n pieces. */
static void order(unsigned n, unsigned k, unsigned *out)
{
	unsigned left[4] = { 0, 1, 2, 3 };
	for (unsigned i = 0; i < n; i++) {
		unsigned at = k % (n - i);
		k /= n - i;
		out[i] = left[at];
		memmove(left + at, left + at + 1, (3 - at) * sizeof(left[0]));
	}
}

static const unsigned factorial[] = { 1, 1, 2, 6, 24 };

/* What left must be the pieces as they came, each once. */
static void all_there(struct rig *r, const char *out, const struct plan *p, bool kernel)
{
	uint8_t frame[4096];
	unsigned id = rig_id(r, out);
	for (unsigned i = 0; i < p->pieces; i++) {
		uint32_t len = cut(&p->d, p->from[i], p->end[i], frame);
		unsigned found = 0;
		for (unsigned q = 0; q < (kernel ? 1 : RIG_QUEUES); q++) {
			struct rig_list *l = kernel ? &r->handback[id].taken : &r->interface[id].queue[q].out;
			for (unsigned k = 0; k < l->cnt; k++)
				found += l->frame[k].len == len && !memcmp(l->frame[k].data, frame, len);
		}
		cr_assert_eq(found, 1, "piece %u", i);
	}
}

static void every_order(unsigned workers)
{
	static const uint8_t protos[][2] = { { 17, 17 }, { 6, 6 }, { 1, 58 } };
	struct rig_options opt = { .worker_cnt = workers };
	struct rig *r = rig_create(guarded, &opt);
	uint32_t id = 1;
	for (unsigned family = 4; family <= 6; family += 2)
		for (unsigned proto = 0; proto < 3; proto++)
			for (unsigned n = 2; n <= 4; n++)
				for (unsigned k = 0; k < factorial[n]; k++)
					for (unsigned batched = 0; batched < 2; batched++) {
						struct plan good =
							plan(family, protos[proto][family == 6], 53, ++id, n);
						struct plan bad = plan(family, 17, 54, ++id, n);
						unsigned at[4];
						order(n, k, at);
						for (unsigned i = 0; i < n; i++) {
							inject(r, &good, at[i], (i + k) % workers);
							inject(r, &bad, at[i], (i + k + 1) % workers);
							if (!batched)
								rig_turn(r);
						}
						rig_turn(r);
						all_there(r, "lan", &good, false);
						cr_assert_eq(rig_sent(r, "lan"), n);
					}
	struct mr_stats_ingress s = rig_stats(r, "wan", "in");
	cr_assert_eq(
		s.dropped[MR_REASON_FRAG_TIMEOUT] + s.dropped[MR_REASON_FRAG_LIMIT] + s.dropped[MR_REASON_FRAG_OVERLAP],
		0);
	cr_assert_gt(s.hits, 100, "later ones find the record");
	cr_assert(rig_adds_up(r));
	cr_assert_eq(workers == 1, mr_stats_worker(r->sh.stats, 0)->handoff_out == 0);
	rig_destroy(r);
}

Test(fragment, every_order)
{
	every_order(1);
}

Test(fragment, every_order_on_two_workers)
{
	every_order(2);
}

Test(fragment, what_the_ports_say_nobody_wants_goes_back_in_order)
{
	for (unsigned workers = 1; workers <= 2; workers++) {
		struct rig_options opt = { .worker_cnt = workers };
		struct rig *r = rig_create(by_port, &opt);
		for (unsigned k = 0; k < 6; k++) {
			struct plan p = plan(4, 17, 54, 10 + k, 3), mine = plan(4, 17, 53, 20 + k, 3);
			unsigned at[4];
			order(3, k, at);
			for (unsigned i = 0; i < 3; i++) {
				inject(r, &p, at[i], i % workers);
				inject(r, &mine, at[i], i % workers);
			}
			rig_turn(r);
			all_there(r, "wan", &p, true);
			all_there(r, "lan", &mine, false);
			cr_assert_eq(rig_kernel(r, "wan"), 3);
			cr_assert_eq(rig_sent(r, "lan"), 3);
		}
		cr_assert_eq(rig_stats(r, "wan", "").kernel.packets, 18);
		cr_assert(rig_adds_up(r));
		rig_destroy(r);
	}
}

Test(fragment, a_wire_that_asks_nothing_waits_for_nothing)
{
	struct rig *r = rig_create(
		WIRE "pipelines:\n  in: { from: [ wan ], match: all, state: none, stages: [], to: lan }\n", NULL);
	struct plan p = plan(4, 17, 53, 1, 3);
	cr_assert_not(rig_plan(r)->interface[1].fragments_follow);
	inject(r, &p, 2, 0);
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 1);
	cr_assert(rig_adds_up(r));
	rig_reload(r, guarded);
	cr_assert(rig_plan(r)->interface[1].fragments_follow);
	rig_reload(r, by_port);
	cr_assert(rig_plan(r)->interface[1].fragments_follow);
	rig_destroy(r);
}

Test(fragment, without_its_first_one_it_is_dropped_in_time)
{
	struct rig *r = rig_create(guarded, NULL);
	struct plan p = plan(4, 17, 53, 1, 3);
	inject(r, &p, 1, 0);
	inject(r, &p, 2, 0);
	rig_turn(r);
	cr_assert_eq(mr_stats_worker(r->sh.stats, 0)->fragments, 2);
	cr_assert_eq(mr_stats_worker(r->sh.stats, 0)->held, 0);
	cr_assert_eq(rig_stats(r, "wan", "in").received.packets, 0, "counted when decided");
	cr_assert_not(mr_worker_drained(r->worker[0]));
	nanosleep(&(struct timespec){ .tv_nsec = MR_FRAGMENT_HOLD_NS }, NULL);
	rig_turn(r);
	cr_assert_eq(rig_dropped(r, "wan", "in", "fragment-timeout"), 2);
	cr_assert_eq(mr_stats_worker(r->sh.stats, 0)->fragments, 0);
	rig_turn(r);
	cr_assert(mr_worker_drained(r->worker[0]));
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* While a fragment waits, two reloads give its interface's number to another one, whose pipelines it is none of. */
Test(fragment, an_interface_gives_its_number_away)
{
	static const char *const without = "version: 1\ninterfaces:\n  lan: { device: lan0 }\npipelines:\n"
					   "  out: { from: [ lan ], match: all, stages: [], to: kernel }\n";
	static const char *const other =
		"version: 1\ninterfaces:\n  dmz: { device: dmz0 }\n  lan: { device: lan0 }\npipelines:\n"
		"  dmz: { from: [ dmz ], match: all, stages: [], to: lan }\n"
		"  out: { from: [ lan ], match: all, stages: [], to: kernel }\n";
	struct rig_options opt = { .worker_cnt = 2 };
	struct rig *r = rig_create(guarded, &opt);
	struct plan p[8];
	uint8_t frame[4096];
	for (unsigned i = 0; i < 8; i++) {
		p[i] = plan(4, 17, 53, i, 2);
		inject(r, &p[i], 1, 0);
	}
	for (unsigned i = 0; i < 4; i++)
		mr_worker_poll(r->worker[0]);
	unsigned crossed = (unsigned)mr_stats_worker(r->sh.stats, 0)->handoff_out;
	cr_assert(crossed > 0 && crossed < 8, "some wait in the table, others in the ring");
	rig_reload(r, without);
	free(r->name[1]);
	r->name[1] = strdup("dmz");
	rig_reload(r, other);
	for (unsigned i = 0; i < 8; i++) {
		uint32_t len = cut(&p[i].d, p[i].from[0], p[i].end[0], frame);
		rig_inject(r, "lan", 0, frame, len);
	}
	rig_turn(r);
	cr_assert_eq(rig_kernel(r, "lan"), 8);
	cr_assert_eq(rig_sent(r, "lan"), 0);
	cr_assert_eq(rig_stats(r, "dmz", "dmz").received.packets, 0);
	cr_assert_eq(rig_dropped(r, "wan", "", "stopping"), 8);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* Nothing more comes, and the worker sleeps: the time runs out all the same. */
Test(fragment, a_sleeping_worker_drops_it_in_time)
{
	struct rig *r = rig_create(guarded, NULL);
	struct plan p = plan(4, 17, 53, 1, 3);
	struct mr_error e;
	uint64_t dropped = 0;
	inject(r, &p, 1, 0);
	cr_assert_eq(mr_worker_start(r->worker[0], -1, &e), 0, "%s", e.text);
	for (unsigned i = 0; i < 200 && !dropped; i++) {
		nanosleep(&(struct timespec){ .tv_nsec = 10 * MS }, NULL);
		dropped = rig_dropped(r, "wan", "in", "fragment-timeout");
	}
	cr_assert_eq(dropped, 1);
	mr_worker_stop(r->worker[0]);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* Of one zone a fragment follows its first one over any interface, as flows do; of another VLAN's zone or interface's it does not. */
Test(fragment, zones_do_not_teach_each_other)
{
	for (unsigned apart = 0; apart < 3; apart++) {
		char yaml[512];
		snprintf(yaml, sizeof(yaml),
			"version: 1\ninterfaces:\n  wan: { device: wan0%s }\n  lan: { device: lan0%s }\n"
			"pipelines:\n  in: { from: [ wan ], match: all, stages: [], to: lan }\n"
			"  out: { from: [ lan ], match: all, stages: [], to: wan }\n",
			apart == 1 ? ", vlan_zones: true" : "",
			apart == 1           ? ", vlan_zones: true"
				: apart == 2 ? ", zone: b"
					     : "");
		struct rig *r = rig_create(yaml, NULL);
		struct plan p = plan(6, 17, 53, 1, 3);
		uint8_t frame[4096];
		inject(r, &p, 0, 0);
		uint32_t len = cut(&p.d, p.from[1], p.end[1], frame);
		if (apart == 1) {
			memmove(frame + 16, frame + 12, len - 12);
			put16(frame + 12, 0x8100);
			put16(frame + 14, 7);
			len += 4;
		}
		rig_inject(r, apart == 1 ? "wan" : "lan", 0, frame, len);
		rig_turn(r);
		cr_assert_eq(rig_sent(r, "lan") + rig_sent(r, "wan"), apart ? 1 : 2);
		cr_assert_eq(mr_stats_worker(r->sh.stats, 0)->fragments, apart ? 1 : 0);
		rig_destroy(r);
	}
}

/* A malformed first one: the rest shares its fate. */
Test(fragment, tiny_first_fragments)
{
	struct rig *r = rig_create(guarded, NULL);
	struct plan p = plan(4, 6, 53, 1, 2);
	p.end[0] = p.from[1] = 16; /* not the whole TCP header */
	inject(r, &p, 0, 0);
	inject(r, &p, 1, 0);
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 0);
	cr_assert_eq(rig_dropped(r, "wan", "in", "short-l4"), 1);
	cr_assert_eq(rig_dropped(r, "wan", "in", "fragment-overlap"), 1, "it begins within the header");
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(fragment, overlaps_are_dropped_and_counted)
{
	struct rig *r = rig_create(guarded, NULL);
	struct plan p = plan(6, 17, 53, 1, 3);
	inject(r, &p, 0, 0);
	inject(r, &p, 1, 0);
	inject(r, &p, 1, 0); /* a duplicate: alone */
	p.from[1] -= 8;
	inject(r, &p, 1, 0);
	inject(r, &p, 2, 0);
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 2);
	cr_assert_eq(rig_dropped(r, "wan", "in", "fragment-overlap"), 3);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* More early fragments than may be held, from many datagrams; then everything stops with some of them still there. */
Test(fragment, bounded_in_the_engine_and_counted_at_the_end)
{
	struct rig_options opt = { .worker_cnt = 2, .frames = 1024 };
	struct rig *r = rig_create(guarded, &opt);
	for (unsigned i = 0; i < 3000; i++) {
		struct plan p = plan(4, 17, 53, i, 3);
		inject(r, &p, 1 + i % 2, i % 2);
	}
	rig_turn(r);
	uint64_t kept = mr_stats_worker(r->sh.stats, 0)->fragments + mr_stats_worker(r->sh.stats, 1)->fragments;
	cr_assert(kept > 0 && kept <= 128, "an eighth of the pool: %llu", (unsigned long long)kept);
	cr_assert_eq(rig_dropped(r, "wan", "in", "fragment-limit"), 3000 - kept);
	cr_assert_gt(mr_stats_worker(r->sh.stats, 0)->fragments_forgotten, 0);
	mr_worker_stop(r->worker[0]);
	mr_worker_stop(r->worker[1]);
	cr_assert_eq(rig_dropped(r, "wan", "in", "stopping"), kept);
	cr_assert_eq(rig_stats(r, "wan", "in").received.packets, 3000);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* On its way to another worker, and nobody takes it in. */
Test(fragment, stopped_in_the_ring)
{
	struct rig_options opt = { .worker_cnt = 2 };
	struct rig *r = rig_create(guarded, &opt);
	for (unsigned i = 0; i < 20; i++) {
		struct plan p = plan(4, 17, 53, i, 2);
		inject(r, &p, 0, 0);
	}
	mr_worker_poll(r->worker[0]);
	struct mr_stats_worker *w = mr_stats_worker(r->sh.stats, 0);
	uint64_t crossed = w->handoff_out;
	cr_assert(crossed > 0 && crossed < 20);
	cr_assert_eq(w->held, 0, "nobody has received them yet");
	cr_assert_eq(rig_stats(r, "wan", "in").received.packets, 20 - crossed);
	mr_worker_stop(r->worker[1]);
	cr_assert_eq(rig_dropped(r, "wan", "in", "stopping"), crossed);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(fragment, a_full_ring)
{
	struct rig_options opt = { .worker_cnt = 2, .frames = 8192 };
	struct rig *r = rig_create(guarded, &opt);
	for (unsigned i = 0; i < 3000; i++) {
		struct plan p = plan(4, 17, 53, i, 2);
		inject(r, &p, 0, 0);
	}
	while (mr_worker_poll(r->worker[0]))
		;
	cr_assert_gt(rig_dropped(r, "wan", "in", "handoff-full"), 0);
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan") + rig_dropped(r, "wan", "in", "handoff-full"), 3000);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* What one worker can receive in its turns, of several interfaces, the other can take in as many. */
Test(fragment, a_ring_is_emptied_as_fast_as_it_fills)
{
	static const char *const names[] = { "a", "b", "c", "d" };
	struct rig_options opt = { .worker_cnt = 2, .queues = 1, .frames = 8192 };
	struct rig *r = rig_create("version: 1\ninterfaces:\n  a: { device: a0 }\n  b: { device: b0 }\n  c: { device: "
				   "c0 }\n  d: { device: d0 }\n"
				   "  lan: { device: lan0 }\npipelines:\n  in: { from: [ a, b, c, d ], match: all, "
				   "stages: [], to: lan }\n",
		&opt);
	uint8_t frame[4096];
	for (unsigned i = 0; i < 8000; i++) {
		struct plan p = plan(4, 17, 53, i, 2);
		uint32_t len = cut(&p.d, p.from[0], p.end[0], frame);
		rig_inject(r, names[i % 4], 0, frame, len);
	}
	rig_turn(r);
	cr_assert_gt(mr_stats_worker(r->sh.stats, 0)->handoff_out, 2000);
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(rig_dropped(r, names[i], "in", "handoff-full"), 0);
	cr_assert_eq(rig_sent(r, "lan"), 8000);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* A later fragment opens no session: the conversation is the first one's. */
Test(fragment, sessions_are_the_first_ones)
{
	struct rig *r = rig_create(guarded, NULL);
	struct mr_sessions_usage u;
	struct plan p = plan(4, 17, 53, 1, 4);
	for (unsigned i = 0; i < 4; i++)
		inject(r, &p, i, 0);
	rig_turn(r);
	mr_sessions_usage(r->sh.sessions, &u);
	cr_assert_eq(u.live, 1);
	uint64_t packets, bytes;
	mr_session_totals(r->sh.sessions, mr_sessions_next(r->sh.sessions, 1), MR_FORWARD, &packets, &bytes);
	cr_assert_eq(packets, 4);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(fragment, explained)
{
	struct rig *r = rig_create(guarded, NULL);
	struct plan p = plan(4, 17, 53, 1, 2);
	struct mr_explanation x;
	struct mr_error e;
	uint8_t frame[4096];
	for (unsigned i = 0; i < 2; i++) {
		uint32_t len = cut(&p.d, p.from[i], p.end[i], frame);
		cr_assert_eq(mr_worker_explain(&r->sh, rig_plan(r), 1, frame, len, &x, &e), 0);
		cr_assert_str_eq(x.verdict, i ? "drop" : "forward");
		cr_assert_str_eq(x.reason, i ? "fragment-timeout" : "");
	}
	cr_assert(strstr(x.text, "explain that one"), "%s", x.text);
	rig_destroy(r);
}

/* Threads of their own, the pieces of each datagram spread over both, first ones early and late. */
static void running_at_once(unsigned queues)
{
	struct rig_options opt = { .worker_cnt = 2, .queues = queues, .frames = 4096 };
	struct rig *r = rig_create(guarded, &opt);
	struct mr_error e;
	unsigned wanted = 0;
	for (unsigned i = 0; i < 2000; i++) {
		struct plan p = plan(i % 2 ? 4 : 6, 17, 53, i, 3);
		unsigned at[4];
		order(3, i, at);
		for (unsigned k = 0; k < 3; k++)
			inject(r, &p, at[k], (i + k) % queues);
		wanted += 3;
	}
	for (unsigned w = 0; w < 2; w++)
		cr_assert_eq(mr_worker_start(r->worker[w], -1, &e), 0, "%s", e.text);
	for (unsigned quiet = 0, i = 0; quiet < 3 && i < 3000; i++) {
		nanosleep(&(struct timespec){ .tv_nsec = 5 * MS }, NULL);
		quiet = mr_worker_drained(r->worker[0]) && mr_worker_drained(r->worker[1]) ? quiet + 1 : 0;
	}
	mr_worker_stop(r->worker[0]);
	mr_worker_stop(r->worker[1]);
	struct mr_stats_ingress s = rig_stats(r, "wan", "in");
	cr_assert_eq(s.received.packets, wanted);
	cr_assert_eq(s.dropped[MR_REASON_FRAG_OVERLAP] + s.dropped[MR_REASON_STOPPING], 0);
	/* a slow machine may let a ring or the places for early ones run full, and then say so */
	uint64_t full =
		s.dropped[MR_REASON_HANDOFF_FULL] + s.dropped[MR_REASON_FRAG_LIMIT] + s.dropped[MR_REASON_FRAG_TIMEOUT];
	cr_assert_eq(rig_sent(r, "lan") + full, wanted);
	cr_assert_lt(full, wanted / 2);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(fragment, workers_running_at_once)
{
	running_at_once(2);
}

/* One of them has no queue, sleeps, and is woken for what crosses. */
Test(fragment, a_worker_without_a_queue)
{
	running_at_once(1);
}

/*
 * RFC 8200 section 4.5: where options follow the fragment header, the later ones' header names the options and not the transport.  So
 * they come up whatever protocol is matched, and the first one must, too, that they need not wait for it in vain.
 */
Test(fragment, options_behind_the_fragment_header)
{
	struct rig *r = rig_create(
		WIRE "pipelines:\n  in: { from: [ wan ], match: [ { proto: tcp } ], stages: [], to: lan }\n", NULL);
	for (unsigned k = 0; k < 2; k++) {
		struct plan p = plan(6, 17, 53, 1 + k, 2);
		uint8_t frame[4096];
		for (unsigned i = 0; i < 2; i++) {
			unsigned piece = i ^ k;
			uint32_t len = cut(&p.d, p.from[piece], p.end[piece], frame);
			frame[54] = 60;
			if (!piece) { /* eight bytes of padding, which the datagram begins with */
				uint8_t *l4 = frame + 62;
				memmove(l4 + 8, l4, len - 62 - 8);
				memcpy(l4, (uint8_t[]){ 17, 0, 1, 4, 0, 0, 0, 0 }, 8);
			}
			rig_inject(r, "wan", 0, frame, len);
		}
	}
	rig_turn(r);
	cr_assert_eq(rig_kernel(r, "wan"), 4);
	cr_assert_eq(mr_stats_worker(r->sh.stats, 0)->fragments, 0, "nobody waits");
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* ---- storm ------------------------------------------------------------------------------------------------------------------ */

#define VLANS                                                                                                        \
	WIRE "stages:\n  guard: { type: filter, default: drop, rules: [ { name: dns, action: accept, dport: 53 } ] " \
	     "}\n"

static const char *const worlds[] = {
	VLANS "pipelines:\n  in: { from: [ wan ], match: all, stages: [ guard ], to: lan }\n"
	      "  out: { from: [ lan ], match: all, stages: [], to: wan }\n",
	VLANS "pipelines:\n  in: { from: [ wan ], match: [ { proto: udp, dport: 53 } ], stages: [], to: lan }\n"
	      "  out: { from: [ lan ], match: all, state: none, stages: [], to: wan }\n",
	"version: 1\ninterfaces:\n  wan: { device: wan0, vlan_zones: true, zone: a }\n  lan: { device: lan0 }\n"
	"pipelines:\n  out: { from: [ wan ], match: all, stages: [], to: lan }\n"
	"  in: { from: [ lan ], match: [ { proto: tcp } ], stages: [], to: wan }\n",
	("version: 1\ninterfaces:\n  lan: { device: lan0 }\npipelines:\n  in: { from: [ lan ], match: all, stages: [], "
	 "to: kernel }\n"),
};

/* A frame of one of a few datagrams: cut well or badly, tagged, first one or not, its lengths sometimes wrong. */
static uint32_t random_piece(struct rng *r, uint8_t *frame)
{
	static const uint8_t protos[] = { 17, 17, 6, 1, 58, 47 };
	struct datagram d = { .family = rng_below(r, 2) ? 4 : 6,
		.proto = protos[rng_below(r, 6)],
		.sport = 1000,
		.dport = 53 + rng_below(r, 2),
		.id = rng_below(r, 200),
		.bytes = 1001,
		.host = (uint8_t)rng_below(r, 2) };
	uint32_t from = rng_below(r, 5) * 200, end = from + 200;
	if (!rng_below(r, 20))
		from += 8 * rng_below(r, 10);
	if (!rng_below(r, 20))
		end += rng_below(r, 20);
	end = end > 1001 || from >= 800 ? 1001 : end;
	uint32_t len = cut(&d, from, end, frame);
	if (!rng_below(r, 30))
		frame[12 + rng_below(r, 60)] ^= (uint8_t)(1 + rng_below(r, 255));
	if (!rng_below(r, 30))
		len = 14 + rng_below(r, len - 14);
	if (!rng_below(r, 3)) {
		memmove(frame + 16, frame + 12, len - 12);
		put16(frame + 12, 0x8100);
		put16(frame + 14, rng_below(r, 3));
		len += 4;
	}
	return len;
}

/* The way to `lan` becomes a wire, a router's with a small MTU (what is larger is cut), one that is being found out, or none. */
static void change_way(struct rig *r, struct rng *rng)
{
	static const uint8_t kinds[] = { MR_NH_WIRE, MR_NH_ROUTED, MR_NH_RESOLVING, MR_NH_UNREACHABLE, MR_NH_NONE };
	struct mr_nexthop nh = { .kind = kinds[rng_below(rng, 5)], .egress = 2, .mtu = 1500 };
	if (nh.kind == MR_NH_ROUTED)
		nh.mtu = 100 + rng_below(rng, 200);
	mr_nexthops_set(r->sh.nexthops, 2, &nh);
}

/* Whatever comes, under whatever configuration, with rings and pools that run full: every frame has one outcome and comes back. */
static void storm(unsigned workers, unsigned queues, uint32_t frames, unsigned rounds, uint64_t seed)
{
	struct rig_options opt = { .worker_cnt = workers, .queues = queues, .frames = frames };
	struct rig *r = rig_create(worlds[0], &opt);
	struct rng rng = { seed };
	uint8_t frame[4096];
	uint64_t given = 0, received = 0;
	for (unsigned i = 0; i < rounds; i++) {
		for (unsigned n = rng_below(&rng, 300); n; n--, given++) {
			uint32_t len = random_piece(&rng, frame);
			rig_inject(r, rng_below(&rng, 3) ? "wan" : "lan", rng_below(&rng, queues), frame, len);
		}
		for (unsigned q = 0; q < queues; q++)
			r->interface[2].queue[q].tx_room = rng_below(&rng, 4) ? UINT32_MAX : rng_below(&rng, 50);
		for (unsigned n = rng_below(&rng, 6); n; n--)
			mr_worker_poll(r->worker[rng_below(&rng, workers)]);
		if (!rng_below(&rng, 10))
			rig_turn(r);
		if (!rng_below(&rng, 8))
			rig_reload(r, worlds[rng_below(&rng, 4)]);
		if (!rng_below(&rng, 4))
			change_way(r, &rng);
		if (!rng_below(&rng, 40))
			nanosleep(&(struct timespec){ .tv_nsec = 40 * MS }, NULL);
		rig_sent(r, "wan");
		rig_sent(r, "lan");
		rig_kernel(r, "wan");
		rig_kernel(r, "lan");
	}
	rig_reload(r, worlds[0]);
	rig_turn(r);
	for (unsigned w = 0; w < workers; w++)
		mr_worker_stop(r->worker[w]);
	for (unsigned w = 0; w < workers; w++)
		mr_worker_stop(r->worker[w]);
	for (unsigned id = 0; id < MR_STATS_INGRESS; id++) {
		struct mr_stats_ingress s;
		mr_stats_ingress_sum(r->sh.stats, id, &s);
		received += id == MR_STATS_OWN ? 0 : s.received.packets;
	}
	cr_assert_eq(received, given, "%llu of %llu", (unsigned long long)received, (unsigned long long)given);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(fragment, storm)
{
	storm(1, 1, 1024, 300, 1);
	storm(2, 2, 512, 300, 2);
	storm(3, 2, 4096, 300, 3); /* more workers than queues */
	storm(4, 1, 1024, 300, 4);
}
