/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a stage may ask for in a pipeline that routes: errors at once and later, the MSS option.
 *
 * Everything is routed to one neighbour out of lan, by a few lines here instead of core/route.c; the clock is the test's.
 */
#include "script.h"

#include "core/explain_frame.h"
#include "core/later.h"
#include "core/mss.h"
#include "core/neighbour.h"
#include "core/route.h"

#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SLOT (MR_NEXTHOP_FIRST_FREE + 1)

/* ---- the world ---------------------------------------------------------------------------------------------------- */

static uint8_t versions[MR_ROUTE_BUCKETS];
static uint64_t ahead_ms;

int clock_gettime(clockid_t id, struct timespec *ts)
{
	int err = (int)syscall(SYS_clock_gettime, id, ts);
	if (id == CLOCK_MONOTONIC) {
		ts->tv_sec += (time_t)(ahead_ms / 1000);
		ts->tv_nsec += (long)(ahead_ms % 1000) * 1000000;
		if (ts->tv_nsec >= 1000000000) {
			ts->tv_sec++;
			ts->tv_nsec -= 1000000000;
		}
	}
	return err;
}

void mr_routes_lookup(struct mr_routes *r, unsigned interface_id, unsigned family, const void *dst_be, uint64_t hash,
	struct mr_route_answer *out)
{
	*out = (struct mr_route_answer){ .verdict = MR_ROUTE_SLOT, .slot = SLOT };
}

bool mr_routes_takes_tag(const struct mr_routes *r, unsigned interface_id, unsigned vlan_cnt, uint16_t tci)
{
	return true;
}

const uint8_t *mr_routes_versions(const struct mr_routes *r, unsigned family)
{
	return versions;
}

bool mr_routes_source(
	const struct mr_routes *r, unsigned interface_id, unsigned family, const void *dst_be, void *src_be)
{
	memcpy(src_be, address(family == 4 ? "192.0.2.1" : "2001:db8::1"), family == 4 ? 4 : 16);
	return true;
}

void mr_routes_expect4(const struct mr_routes *r, __be32 addr_be)
{
}

bool mr_routes_local(const struct mr_routes *r, unsigned family, const void *addr_be)
{
	return false;
}

int mr_routes_describe(const struct mr_routes *r, unsigned family, const void *dst_be, char *text, size_t bytes)
{
	snprintf(text, bytes, "to the neighbour");
	return 0;
}

void mr_neighbours_want(struct mr_neighbours *t, uint16_t slot)
{
}

void mr_neighbours_touch(struct mr_neighbours *t, uint16_t slot, uint32_t now_ms)
{
}

uint16_t mr_neighbours_tunnel(struct mr_neighbours *t, struct mr_routes *routes, const struct mr_tunnel *tunnel)
{
	return 0;
}

static void use_net(struct mr_shared *sh)
{
	sh->routes = (void *)versions; /* never looked into */
	sh->neighbours = (void *)versions;
}

static struct {
	enum mr_reject with;
	bool reject;
	uint32_t delay_ms;
	uint16_t mss;
	bool clamp;
	unsigned asked;
	struct mr_nexthop nh;
} now;

static void stage(struct mr_packet *p)
{
	now.asked++;
	if (now.clamp)
		mr_decide_mss(p, now.mss);
	if (now.reject && now.delay_ms)
		mr_decide_reject_later(p, 0, now.with, now.delay_ms);
	else if (now.reject)
		mr_decide_reject(p, 0, now.with);
}

static void neighbour(struct rig *r, uint8_t kind, uint16_t mtu, uint8_t encap)
{
	now.nh = (struct mr_nexthop){ .kind = kind,
		.egress = rig_id(r, "lan"),
		.mtu = mtu,
		.encap = encap,
		.dmac = { 2, 0, 0, 0, 0, 9 },
		.smac = { 2, 0, 0, 0, 1, 1 } };
	mr_nexthops_set(r->sh.nexthops, SLOT, &now.nh);
}

#define INTERFACES                                                                    \
	"version: 1\ninterfaces:\n  wan: { device: wan0 }\n  lan: { device: lan0 }\n" \
	"stages:\n  s: { type: script }\n"
#define ROUTED                                                                       \
	INTERFACES "pipelines:\n"                                                    \
		   "  in: { from: [ wan ], match: all, stages: [ s ], to: route }\n" \
		   "  out: { from: [ lan ], match: all, stages: [ s ], to: route }\n"
#define WIRE INTERFACES "pipelines:\n  in: { from: [ wan ], match: all, stages: [ s ], to: lan }\n"

static struct rig *begin(const char *yaml)
{
	struct rig_options opt = { .route = use_net };
	script(stage, NULL, NULL);
	struct rig *r = rig_create(yaml, &opt);
	neighbour(r, MR_NH_ROUTED, 1500, 0);
	return r;
}

static void finish(struct rig *r)
{
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

static void say(struct rig *r, const char *interface, const char *packet)
{
	rig_say(r, interface, packet);
	rig_turn(r);
}

/* Type << 8 | code of the error last sent out of wan; 0 = none. */
static unsigned error_sent(struct rig *r)
{
	const struct rig_frame *f = rig_last(r, "wan");
	if (!f)
		return 0;
	struct mr_parsed p = parsed_frame(f);
	cr_assert(p.flags & MR_PKT_ICMP_ERROR);
	cr_assert(sums_hold(f->data, &p));
	unsigned is = (unsigned)p.icmp_type << 8 | p.icmp_code;
	rig_sent(r, "wan");
	return is;
}

/* ---- reject ------------------------------------------------------------------------------------------------------- */

Test(routed, the_sender_is_told_by_the_kind_a_stage_names)
{
	static const struct {
		enum mr_reject with;
		unsigned v4, v6;
	} kinds[] = { { MR_REJECT_NET_UNREACHABLE, 0x300, 0x100 }, { MR_REJECT_HOST_UNREACHABLE, 0x301, 0x103 },
		{ MR_REJECT_PORT_UNREACHABLE, 0x303, 0x104 }, { MR_REJECT_PROHIBITED, 0x30d, 0x101 } };
	struct rig *r = begin(ROUTED);
	now.reject = true;
	for (unsigned i = 0; i < 4; i++) {
		now.with = kinds[i].with;
		say(r, "wan", "udp 198.51.100.7:1000 > 203.0.113.1:53");
		const struct rig_frame *f = rig_last(r, "wan");
		cr_assert_not_null(f);
		cr_assert(!memcmp(f->data + 14 + 12, address("192.0.2.1"), 4));
		cr_assert(!memcmp(f->data + 14 + 28 + 16, address("203.0.113.1"), 4));
		cr_assert_eq(error_sent(r), kinds[i].v4);
		say(r, "wan", "udp [2001:db8:7::7]:1000 > [2001:db8:8::8]:53");
		cr_assert_eq(error_sent(r), kinds[i].v6);
	}
	cr_assert_eq(rig_dropped(r, "wan", "in", "stage"), 8);
	cr_assert_eq(rig_sent(r, "lan"), 0);
	/* not in answer to an error, and no more than the rate allows */
	say(r, "wan", "icmp 198.51.100.7 > 203.0.113.1 type 3 length 80");
	cr_assert_eq(error_sent(r), 0);
	for (unsigned i = 0; i < 100; i++)
		rig_say(r, "wan", "udp 198.51.100.7:1000 > 203.0.113.1:53");
	rig_turn(r);
	cr_assert_lt(rig_sent(r, "wan"), 12);
	cr_assert_eq(rig_dropped(r, "wan", "in", "stage"), 109);
	finish(r);
}

static void stage_that_changes_its_mind(struct mr_packet *p)
{
	mr_decide_reject(p, 0, MR_REJECT_HOST_UNREACHABLE);
	mr_decide_drop(p, 0);
}

Test(routed, a_drop_after_a_reject_is_a_drop)
{
	struct rig *r = begin(ROUTED);
	script(stage_that_changes_its_mind, NULL, NULL);
	say(r, "wan", "udp 198.51.100.7:1000 > 203.0.113.1:53");
	cr_assert_eq(error_sent(r), 0);
	cr_assert_eq(rig_dropped(r, "wan", "in", "stage"), 1);
	finish(r);
}

Test(routed, a_wire_tells_nobody)
{
	struct rig *r = begin(WIRE);
	now.reject = true;
	for (now.delay_ms = 0; now.delay_ms < 2; now.delay_ms++)
		say(r, "wan", "udp 198.51.100.7:1000 > 203.0.113.1:53");
	ahead_ms = 1000;
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "wan"), 0);
	cr_assert_eq(rig_dropped(r, "wan", "in", "stage"), 2);
	finish(r);
}

Test(routed, told_later)
{
	struct rig *r = begin(ROUTED);
	now.reject = true;
	now.with = MR_REJECT_PORT_UNREACHABLE;
	now.delay_ms = 6000;
	for (int i = 0; i < 3; i++) /* sent again by its sender: answered once */
		say(r, "wan", "tcp 198.51.100.7:1000 > 203.0.113.1:80 flags syn length 400");
	cr_assert_eq(rig_dropped(r, "wan", "in", "stage"), 3);
	ahead_ms = 3000;
	say(r, "wan", "tcp [2001:db8:7::7]:1000 > [2001:db8:8::8]:80 flags syn");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "wan"), 0);
	ahead_ms = 6100;
	rig_turn(r);
	const struct rig_frame *f = rig_last(r, "wan");
	cr_assert_not_null(f);
	struct mr_parsed p = parsed_frame(f);
	cr_assert_eq(f->len, MR_LATER_BYTES - 14 + 14 + 28, "it quotes what was kept");
	cr_assert_eq(p.icmp_code, 3);
	uint8_t sent[MR_EXPLAIN_FRAME_MAX];
	struct mr_explain_packet x;
	struct mr_error e;
	cr_assert_eq(mr_explain_frame_parse("tcp 198.51.100.7:1000 > 203.0.113.1:80 flags syn length 400", &x, &e), 0);
	mr_explain_frame_build(&x, sent, sizeof(sent), &e);
	cr_assert(!memcmp(f->data + 42, sent + 14, MR_LATER_BYTES - 14));
	cr_assert_eq(rig_sent(r, "wan"), 1);
	ahead_ms = 9200;
	rig_turn(r);
	cr_assert_eq(error_sent(r), 0x104);
	ahead_ms = 30000;
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "wan"), 0);
	finish(r);
}

/* RFC 5382 REQ-4: the inside host opened the same conversation meanwhile. */
Test(routed, a_session_meanwhile_answers_for_itself)
{
	struct rig *r = begin(ROUTED);
	now.reject = true;
	now.delay_ms = 6000;
	now.with = MR_REJECT_PORT_UNREACHABLE;
	say(r, "wan", "tcp 198.51.100.7:1000 > 203.0.113.1:80 flags syn");
	now.reject = false;
	say(r, "lan", "tcp 203.0.113.1:80 > 198.51.100.7:1000 flags syn");
	rig_sent(r, "lan");
	ahead_ms = 6100;
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "wan"), 0);
	finish(r);
}

Test(routed, only_so_many_wait)
{
	struct rig *r = begin(ROUTED);
	char packet[80];
	now.reject = true;
	now.delay_ms = 6000;
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(packet, sizeof(packet), "tcp 198.51.%u.%u:1000 > 203.0.113.1:80 flags syn", i / 200, i % 200);
		say(r, "wan", packet);
	}
	ahead_ms = 6500;
	rig_turn(r);
	unsigned sent = rig_sent(r, "wan");
	cr_assert_leq(sent, MR_LATER_MAX);
	cr_assert_gt(sent, MR_LATER_MAX / 2, "%u", sent);
	cr_assert_eq(rig_dropped(r, "wan", "in", "stage"), 2000);
	/* and there is room again */
	say(r, "wan", "tcp 198.51.77.7:1000 > 203.0.113.1:80 flags syn");
	ahead_ms = 13000;
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "wan"), 1);
	finish(r);
}

Test(routed, a_reload_in_between)
{
	struct rig *r = begin(ROUTED);
	now.reject = true;
	now.delay_ms = 6000;
	say(r, "wan", "tcp 198.51.100.7:1000 > 203.0.113.1:80 flags syn");
	rig_reload(r, ROUTED);
	ahead_ms = 6100;
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "wan"), 1);
	finish(r);
}

/* ---- errors that are translated ------------------------------------------------------------------------------------ */

static void nat(struct mr_packet *p)
{
	if (mr_packet_tuple(p)->proto != MR_IP_ICMP)
		mr_decide_source(p, address("203.0.113.1"), htons(40000));
	else
		cr_assert_eq(mr_decide_related(p), 0);
}

/* Translated when it is decided, sent when the neighbour is known, with a TTL less. */
Test(routed, a_translated_error_may_wait)
{
	struct rig *r = begin(ROUTED);
	uint8_t error[14 + 28 + 28] = { 0 };
	script(nat, NULL, NULL);
	say(r, "wan", "udp 10.0.0.1:1000 > 198.51.100.7:53 length 28");
	const struct rig_frame *f = rig_last(r, "lan");
	cr_assert_not_null(f);
	memcpy(error, f->data, 14 + 20);
	memcpy(error + 42, f->data + 14, 28);
	uint8_t *ip = error + 14;
	ip[3] = 56;
	ip[9] = 1;
	ip[20] = 3;
	ip[21] = 3;
	memcpy(ip + 12, address("198.51.100.7"), 4);
	memcpy(ip + 16, address("203.0.113.1"), 4);
	ip[10] = ip[11] = 0;
	uint16_t sum = (uint16_t)~sum16(ip, 20, 0);
	ip[10] = sum >> 8;
	ip[11] = (uint8_t)sum;
	sum = (uint16_t)~sum16(ip + 20, 36, 0);
	ip[22] = sum >> 8;
	ip[23] = (uint8_t)sum;
	rig_sent(r, "lan");
	neighbour(r, MR_NH_RESOLVING, 1500, 0);
	rig_inject(r, "lan", 0, error, sizeof(error));
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 0);
	cr_assert_eq(mr_stats_worker(r->sh.stats, 0)->held, 1);
	neighbour(r, MR_NH_ROUTED, 1500, 0);
	rig_turn(r);
	f = rig_last(r, "lan");
	struct mr_parsed p = parsed_frame(f);
	cr_assert(sums_hold(f->data, &p));
	cr_assert_eq(p.ttl, ip[8] - 1);
	cr_assert(!memcmp(f->data + 14 + 16, address("10.0.0.1"), 4));
	cr_assert(!memcmp(f->data + 42 + 12, address("10.0.0.1"), 4));
	cr_assert_eq(f->data[42 + 20] << 8 | f->data[42 + 21], 1000);
	/* the way used up: a drop, and nobody is told */
	rig_sent(r, "lan");
	ip[8] = 1;
	ip[10] = ip[11] = 0;
	sum = (uint16_t)~sum16(ip, 20, 0);
	ip[10] = sum >> 8;
	ip[11] = (uint8_t)sum;
	rig_inject(r, "lan", 0, error, sizeof(error));
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 0);
	cr_assert_eq(rig_dropped(r, "lan", "out", "ttl"), 1);
	finish(r);
}

/* ---- MSS ---------------------------------------------------------------------------------------------------------- */

/* A SYN with options. */
static uint32_t syn(uint8_t *frame, const char *words, const uint8_t *options, uint32_t bytes)
{
	struct mr_explain_packet x;
	struct mr_error e;
	cr_assert_eq(mr_explain_frame_parse(words, &x, &e), 0, "%s", e.text);
	x.length_bytes = (x.family == 4 ? 40 : 60) + bytes;
	int len = mr_explain_frame_build(&x, frame, MR_EXPLAIN_FRAME_MAX, &e);
	cr_assert_gt(len, 0, "%s", e.text);
	struct mr_parsed p;
	cr_assert_eq(mr_parse(frame, frame + len, &p), MR_PARSE_OK);
	uint8_t *tcp = frame + p.l4_off, *ip = frame + p.l3_off;
	uint32_t l4 = 20 + bytes;
	memcpy(tcp + 20, options, bytes);
	tcp[12] = (uint8_t)(l4 / 4 << 4);
	tcp[16] = tcp[17] = 0;
	uint32_t pseudo = x.family == 4 ? sum16(ip + 12, 8, 6 + l4) : sum16(ip + 8, 32, 6 + l4);
	uint16_t sum = (uint16_t)~sum16(tcp, l4, pseudo);
	tcp[16] = sum >> 8;
	tcp[17] = (uint8_t)sum;
	return (uint32_t)len;
}

static const uint8_t plain[4] = { 2, 4, 1460 >> 8, 1460 & 255 };

/* What a SYN of these words has for an MSS when it leaves by lan. */
static unsigned mss_of(struct rig *r, const char *words, const uint8_t options[4])
{
	uint8_t frame[MR_EXPLAIN_FRAME_MAX];
	uint32_t len = syn(frame, words, options, 4);
	rig_sent(r, "lan");
	rig_inject(r, "wan", 0, frame, len);
	rig_turn(r);
	const struct rig_frame *f = rig_last(r, "lan");
	cr_assert_not_null(f);
	struct mr_parsed p = parsed_frame(f), in;
	uint32_t off = p.l4_off;
	if (p.proto != MR_IP_TCP) { /* encapsulated */
		uint32_t inner = p.l4_off;
		uint8_t copy[512] = { [12] = 0x08 };
		memcpy(copy + 14, f->data + inner, f->len - inner);
		cr_assert_eq(mr_parse(copy, copy + 14 + f->len - inner, &in), MR_PARSE_OK);
		cr_assert(sums_hold(copy, &in));
		off = inner + 20;
	} else {
		cr_assert(sums_hold(f->data, &p));
	}
	return (unsigned)f->data[off + 22] << 8 | f->data[off + 23];
}

#define SYN4 "tcp 198.51.100.7:1000 > 203.0.113.1:80 flags syn"
#define SYN6 "tcp [2001:db8:7::7]:1000 > [2001:db8:8::8]:80 flags syn"

Test(routed, a_segment_with_syn_has_a_smaller_mss)
{
	struct rig *r = begin(ROUTED);
	cr_assert_eq(mss_of(r, SYN4, plain), 1460);
	now.clamp = true;
	now.mss = 1200;
	cr_assert_eq(mss_of(r, SYN4, plain), 1200);
	cr_assert_eq(mss_of(r, SYN6, plain), 1200);
	now.mss = 1461;
	cr_assert_eq(mss_of(r, SYN4, plain), 1460, "never raised");
	/* what fits the way */
	now.mss = 0;
	cr_assert_eq(mss_of(r, SYN4, plain), 1460);
	cr_assert_eq(mss_of(r, SYN6, plain), 1440);
	neighbour(r, MR_NH_ROUTED, 1300, 0);
	cr_assert_eq(mss_of(r, SYN4, plain), 1260);
	cr_assert_eq(mss_of(r, SYN6, plain), 1240);
	neighbour(r, MR_NH_ROUTED, 1300, MR_ENCAP_IP4);
	cr_assert_eq(mss_of(r, SYN4, plain), 1240);
	finish(r);
}

/* What the other end sends because of it leaves by the interface it came in by. */
Test(routed, the_way_back_is_looked_at_too)
{
	static const struct {
		uint16_t mtu_bytes, way_back_bytes, most, mss4, mss6;
	} all[] = { { 1500, 1280, 0, 1240, 1220 }, { 1200, 1280, 0, 1160, 1140 }, { 1500, 1280, 1000, 1000, 1000 },
		{ 1500, 1280, 1300, 1300, 1300 }, { 1500, 9000, 0, 1460, 1440 }, { 1500, 0, 0, 1460, 1440 },
		{ 1500, 40, 0, 1460, 1440 }, { 0, 1280, 0, 1240, 1220 } };
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct rig *r = begin(ROUTED);
		struct mr_nexthop wan = {
			.kind = MR_NH_WIRE, .egress = rig_id(r, "wan"), .mtu = all[i].way_back_bytes
		};
		mr_nexthops_set(r->sh.nexthops, (uint16_t)rig_id(r, "wan"), &wan);
		now.clamp = true;
		now.mss = all[i].most;
		neighbour(r, MR_NH_ROUTED, all[i].mtu_bytes, 0);
		cr_assert_eq(mss_of(r, SYN4, plain), all[i].mss4, "case %u", i);
		cr_assert_eq(mss_of(r, SYN6, plain), all[i].mss6, "case %u", i);
		finish(r);
	}
}

Test(routed, a_syn_that_waits_is_no_exception)
{
	struct rig *r = begin(ROUTED);
	uint8_t frame[MR_EXPLAIN_FRAME_MAX];
	uint32_t len = syn(frame, SYN4, plain, 4);
	now.clamp = true;
	neighbour(r, MR_NH_RESOLVING, 1500, 0);
	rig_inject(r, "wan", 0, frame, len);
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 0);
	neighbour(r, MR_NH_ROUTED, 1400, 0);
	rig_turn(r);
	const struct rig_frame *f = rig_last(r, "lan");
	cr_assert_not_null(f);
	cr_assert_eq(f->data[14 + 42] << 8 | f->data[14 + 43], 1360);
	finish(r);
}

Test(routed, who_is_refused_reads_what_he_sent)
{
	struct rig *r = begin(ROUTED);
	uint8_t frame[MR_EXPLAIN_FRAME_MAX];
	uint32_t len = syn(frame, SYN4 " ttl 1", plain, 4);
	now.clamp = true;
	now.mss = 500;
	rig_inject(r, "wan", 0, frame, len);
	rig_turn(r);
	const struct rig_frame *f = rig_last(r, "wan");
	cr_assert_not_null(f);
	cr_assert(!memcmp(f->data + 42, frame + 14, 44));
	cr_assert_eq(error_sent(r), 0x0b00);
	finish(r);
}

/* Both the SYN and its answer reach the stages, however often they are sent; the rest is left to the records. */
Test(routed, every_segment_with_syn_is_the_stages)
{
	struct rig *r = begin(ROUTED);
	for (int i = 0; i < 3; i++)
		say(r, "wan", SYN4);
	cr_assert_eq(now.asked, 3);
	for (int i = 0; i < 3; i++)
		say(r, "lan", "tcp 203.0.113.1:80 > 198.51.100.7:1000 flags syn,ack");
	cr_assert_eq(now.asked, 6);
	struct mr_session *s = mr_session_at(r->sh.sessions, mr_sessions_next(r->sh.sessions, 1));
	cr_assert_eq(s->state, MR_SESSION_NEW);
	for (int i = 0; i < 3; i++) {
		say(r, "wan", "tcp 198.51.100.7:1000 > 203.0.113.1:80 flags ack");
		say(r, "lan", "tcp 203.0.113.1:80 > 198.51.100.7:1000 flags ack");
	}
	cr_assert_eq(now.asked, 6);
	cr_assert_eq(s->state, MR_SESSION_ESTABLISHED);
	/* ... also when the answer comes again late */
	say(r, "lan", "tcp 203.0.113.1:80 > 198.51.100.7:1000 flags syn,ack");
	cr_assert_eq(now.asked, 7);
	cr_assert_eq(s->state, MR_SESSION_ESTABLISHED);
	say(r, "lan", "tcp 203.0.113.1:80 > 198.51.100.7:1000 flags ack");
	cr_assert_eq(now.asked, 7);
	finish(r);
}

/* ---- options ------------------------------------------------------------------------------------------------------ */

/* Clamps to 1000; whether it did, which it must with checksum, and change nothing else. */
static bool clamps(const char *words, const uint8_t *options, uint32_t bytes, uint32_t at)
{
	uint8_t frame[MR_EXPLAIN_FRAME_MAX], was[MR_EXPLAIN_FRAME_MAX];
	static const struct mr_nexthop nh = { .kind = MR_NH_WIRE };
	uint32_t len = syn(frame, words, options, bytes);
	struct mr_parsed p;
	cr_assert_eq(mr_parse(frame, frame + len, &p), MR_PARSE_OK);
	memcpy(was, frame, len);
	bool did = mr_mss_clamp(frame + p.l4_off, &p, 1000, &nh);
	cr_assert(sums_hold(frame, &p));
	if (!did)
		cr_assert(!memcmp(was, frame, len));
	if (did && at) {
		cr_assert_eq(frame[p.l4_off + 20 + at] << 8 | frame[p.l4_off + 21 + at], 1000);
		memcpy(was + p.l4_off + 20 + at, frame + p.l4_off + 20 + at, 2);
		memcpy(was + p.l4_off + 16, frame + p.l4_off + 16, 2);
		cr_assert(!memcmp(was, frame, len));
	}
	return did;
}

Test(routed, options_of_all_sorts)
{
	static const struct {
		uint8_t bytes, at;
		bool clamped;
		uint8_t options[40];
	} cases[] = {
		{ 4, 2, true, { 2, 4, 5, 180 } },
		{ 8, 3, true, { 1, 2, 4, 5, 180, 1, 1, 0 } }, /* at an odd place */
		{ 20, 2, true, { 2, 4, 255, 255, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7 } },
		{ 20, 16, true, { 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 2, 4, 5, 180, 0, 0 } },
		{ 12, 0, true, { 2, 4, 5, 180, 2, 4, 3, 232, 2, 4, 9, 9 } }, /* two that are too large */
		{ 4, 0, false, { 2, 4, 3, 232 } },
		{ 4, 0, false, { 2, 4, 0, 0 } },
		{ 0, 0, false, { 0 } },
		{ 8, 0, false, { 0, 0, 0, 0, 2, 4, 5, 180 } }, /* behind the end */
		{ 8, 0, false, { 2, 4, 5, 180, 3, 0, 0, 0 } }, /* lengths that cannot be */
		{ 8, 0, false, { 2, 4, 5, 180, 3, 1, 0, 0 } },
		{ 8, 0, false, { 2, 4, 5, 180, 3, 5, 0, 0 } },
		{ 8, 0, false, { 2, 4, 5, 180, 1, 1, 1, 3 } },
		{ 8, 0, false, { 2, 3, 5, 180, 1, 1, 1, 1 } },
		{ 4, 0, false, { 1, 2, 4, 5 } },
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_assert_eq(
			clamps(SYN4, cases[i].options, cases[i].bytes, cases[i].at), cases[i].clamped, "case %u", i);
		cr_assert_eq(
			clamps(SYN6, cases[i].options, cases[i].bytes, cases[i].at), cases[i].clamped, "case %u", i);
	}
	cr_assert_not(clamps("tcp 10.0.0.1:1 > 10.0.0.2:2 flags ack", plain, 4, 2));
	cr_assert(clamps("tcp 10.0.0.1:1 > 10.0.0.2:2 flags syn,ack", plain, 4, 2));
}

Test(routed, any_bytes_for_options)
{
	uint8_t options[40];
	unsigned seed = 7, did = 0;
	for (unsigned i = 0; i < 200000; i++) {
		for (unsigned k = 0; k < 40; k++) {
			seed = seed * 1103515245 + 12345;
			options[k] = (uint8_t)((seed >> 16) % (k % 3 ? 7 : 256));
		}
		did += clamps(SYN4, options, (seed >> 24) % 11 * 4, 0);
	}
	cr_assert_gt(did, 100);
}

Test(routed, limits_of_several_stages)
{
	cr_assert_eq(mr_mss_both(0, 1200), 1200);
	cr_assert_eq(mr_mss_both(1300, 1200), 1200);
	cr_assert_eq(mr_mss_both(1200, 1300), 1200);
	cr_assert_eq(mr_mss_both(MR_MSS_AUTO, 1300), MR_MSS_AUTO | 1300);
	cr_assert_eq(mr_mss_both(MR_MSS_AUTO | 1300, MR_MSS_AUTO), MR_MSS_AUTO | 1300);
}
