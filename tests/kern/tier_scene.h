/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tier_scene.h - a packet, the record of its flow and its next hop, put where the kernel tier finds them; what the flow tier would make of it.
 */
#ifndef MR_TESTS_TIER_SCENE_H
#define MR_TESTS_TIER_SCENE_H

#include "core/apply.h"
#include "tests/packets.h"
#include "tier_bed.h"

#include <unistd.h>

#define ROOM      256
#define SLOT      300 /* the next hop of generated flows */
#define NAT       (MR_FLOW_SNAT | MR_FLOW_DNAT)
#define UP        (-1) /* comes up: XDP_PASS, and counted as matched without a socket */
#define ACT_DROP  1
#define ACT_PASS  2
#define ACT_TX    3
#define ACT_REDIR 4

/* A packet, the record of its flow and where it goes. */
struct scene {
	struct packet p;
	struct mr_parsed parsed;
	struct mr_key4 k4;
	struct mr_key6 k6;
	struct mr_rewrite4 r4;
	struct mr_rewrite6 r6;
	struct mr_flow_state st;
	struct mr_nexthop nh;
	uint64_t hash;
	uint8_t ingress;
	bool absent; /* no record at all */
	mr_flow_ref ref;
};

/* What must have been counted in all. */
struct tally {
	uint64_t received[2], forwarded[2], kernel[2], metered, sent[2][2], up;
};

static struct tally tally;
static struct mr_steer_counters last;

/* ---- the record ------------------------------------------------------------------------------------------------- */

static inline void parse(struct scene *s)
{
	mr_parse(s->p.bytes, s->p.bytes + s->p.len, &s->parsed);
	if (s->parsed.flags & MR_PKT_IP4) {
		mr_parse_key4(&s->parsed, s->p.bytes, BED_ZONE, &s->k4);
		s->hash = mr_flow_hash4(&s->k4, BED_SEED);
	} else if (s->parsed.flags & MR_PKT_IP6) {
		mr_parse_key6(&s->parsed, s->p.bytes, BED_ZONE, &s->k6);
		s->hash = mr_flow_hash6(&s->k6, BED_SEED);
	}
}

static inline bool has_flow(const struct scene *s)
{
	return mr_parse_has_key(&s->parsed) && s->parsed.flags & (MR_PKT_IP4 | MR_PKT_IP6);
}

static inline void install(struct bed *b, struct scene *s)
{
	struct mr_nexthop *nh = &b->nexthop[s->st.nexthop];
	uint32_t seq = nh->seq;
	*nh = s->nh;
	nh->seq = ((seq + 2) & ~1u) | (s->nh.seq & 1);
	s->ref = MR_FLOW_NONE;
	if (!has_flow(s) || s->absent)
		return;
	s->st.session = 4711;
	int err;
	if (s->parsed.flags & MR_PKT_IP4) {
		struct mr_key4 k = s->k4;
		k.ingress = s->ingress;
		err = mr_flows_insert4(b->flows, &k, s->hash, &s->r4, &s->st, b->now_ms, &s->ref);
	} else {
		struct mr_key6 k = s->k6;
		k.ingress = s->ingress;
		err = mr_flows_insert6(b->flows, &k, s->hash, &s->r6, &s->st, b->now_ms, &s->ref);
	}
	CHECK(!err, "insert: %d", err);
}

static inline void take_away(struct bed *b, struct scene *s)
{
	if (s->ref != MR_FLOW_NONE)
		CHECK(!mr_flows_free(b->flows, s->ref, 4711, b->now_ms), "free");
	b->now_ms += MR_FLOW_QUARANTINE_MS;
}

/* ---- one packet ------------------------------------------------------------------------------------------------- */

/* Runs it; the action, or UP when it was counted as come up. */
static inline int run(struct bed *b, const struct scene *s, uint8_t *out, uint32_t *out_len)
{
	struct mr_steer_counters now;
	int action = prog_run(mr_steer_prog_fd(b->steer), s->p.bytes, s->p.len, out, out_len);
	CHECK(!mr_steer_read_counters(b->steer, &now), "counters");
	bool taken = now.offloaded == last.offloaded + 1, up = now.no_socket == last.no_socket + 1;
	last = now;
	CHECK(taken != up, "counted other than once");
	CHECK(taken || action == ACT_PASS, "came up with action %d", action);
	tally.up += up;
	return up ? UP : action;
}

static inline void expect_up(struct bed *b, const struct scene *s, const char *what)
{
	static uint8_t out[ROOM + PACKET_MAX];
	uint32_t len = sizeof(out);
	int action = run(b, s, out, &len);
	CHECK(action == UP, "%s: taken with action %d", what, action);
	CHECK(len == s->p.len && !memcmp(out, s->p.bytes, len), "%s: came up changed", what);
}

static inline void count(const struct scene *s, int action, unsigned egress)
{
	uint64_t *where = action == ACT_PASS ? tally.kernel : tally.forwarded;
	tally.received[0]++;
	tally.received[1] += s->p.len;
	where[0]++;
	where[1] += s->p.len;
	if (action != ACT_PASS) {
		tally.sent[egress == BED_OTHER][0]++;
		tally.sent[egress == BED_OTHER][1] += s->p.len;
	}
}

/* Runs it and compares frame and record with what is expected. */
static inline void expect(struct bed *b, const struct scene *s, int action, const uint8_t *frame, uint32_t len,
	uint32_t packets, const char *what)
{
	static uint8_t out[ROOM + PACKET_MAX];
	uint32_t out_len = sizeof(out);
	bed_beat(b);
	int got = run(b, s, out, &out_len);
	CHECK(got == action, "%s: action %d, not %d (kind %u encap %u flags %x, family %u proto %u tags %u)", what, got,
		action, s->nh.kind, s->nh.encap, s->st.flags, s->p.family, s->parsed.proto, s->parsed.vlan_cnt);
	CHECK(out_len == len, "%s: %u bytes, not %u", what, out_len, len);
	for (uint32_t i = 0; i < len; i++)
		CHECK(out[i] == frame[i], "%s: byte %u of %u: %02x, not %02x (kind %u encap %u flags %x)", what, i, len,
			out[i], frame[i], s->nh.kind, s->nh.encap, s->st.flags);
	if (s->ref == MR_FLOW_NONE)
		return;
	const struct mr_flow_state *st = mr_flows_state(b->flows, s->ref);
	bool fresh = bed_clock_ms() - st->last_seen_ms + 1000 < 11000;
	CHECK(st->packets == packets && st->bytes == (uint64_t)packets * s->p.len, "%s: %u packets, %llu bytes", what,
		st->packets, (unsigned long long)st->bytes);
	CHECK(packets ? fresh : !st->last_seen_ms, "%s: last seen %u", what, st->last_seen_ms);
}

/* What the flow tier makes of it: the action and the frame, or UP. */
static inline int model(const struct scene *s, uint8_t **frame, uint32_t *len)
{
	static uint8_t room[ROOM + PACKET_MAX];
	const struct mr_parsed *p = &s->parsed;
	unsigned egress = s->nh.kind == MR_NH_BACK ? BED_ID : s->nh.egress;
	uint32_t before = s->p.len;
	*frame = room + ROOM;
	*len = s->p.len;
	memcpy(*frame, s->p.bytes, *len);
	if (!has_flow(s) || p->flags & (MR_PKT_FRAG | MR_PKT_OPTIONS) || p->tcp_flags & 7)
		return UP;
	if (s->st.flags & MR_FLOW_ROUTED && (p->vlan_cnt > 1 || (p->vlan_cnt && p->vlan_tci[0] & 0xfff)))
		return UP;
	if (s->nh.kind == MR_NH_KERNEL)
		return s->st.flags & NAT || (p->ttl <= 1 && !(s->st.flags & MR_FLOW_NO_TTL)) ? UP : ACT_PASS;
	if (s->nh.kind == MR_NH_NONE || s->nh.kind > MR_NH_ROUTED || egress == BED_DOWN)
		return UP;
	if (s->nh.kind == MR_NH_ROUTED && before > 60 && before > (uint32_t)p->l3_off + p->l3_len)
		return UP; /* bytes behind the packet: user space cuts them off */
	unsigned reason = mr_apply(frame, len, ROOM, p, s->st.flags, &s->r4, &s->r6, &s->nh, s->hash);
	if (reason) {
		*frame = (uint8_t *)s->p.bytes;
		*len = s->p.len;
		return UP;
	}
	return egress == BED_ID ? ACT_TX : ACT_REDIR;
}

static inline void check_tally(struct bed *b)
{
	uint64_t pair[8], sent[2];
	bed_sum(b, "tier_pairs", BED_PAIR, pair, 8);
	CHECK(pair[0] == tally.received[0] && pair[1] == tally.received[1], "received");
	CHECK(pair[2] == tally.forwarded[0] && pair[3] == tally.forwarded[1], "forwarded");
	CHECK(pair[4] == tally.kernel[0] && pair[5] == tally.kernel[1], "kernel");
	CHECK(pair[6] == tally.metered && !pair[7], "metered");
	CHECK(pair[0] == pair[2] + pair[4] + pair[6], "received is the sum of outcomes");
	for (unsigned other = 0; other < 2; other++) {
		bed_sum(b, "tier_egress", other ? BED_OTHER : BED_ID, sent, 2);
		CHECK(sent[0] == tally.sent[other][0] && sent[1] == tally.sent[other][1], "egress %u", other);
	}
}

static inline void expect_taken(struct bed *b, struct scene *s, const char *what)
{
	uint8_t *frame;
	uint32_t len;
	int action = model(s, &frame, &len);
	CHECK(action != UP, "%s: the model does not take it", what);
	expect(b, s, action, frame, len, mr_flows_state(b->flows, s->ref)->packets + 1, what);
	count(s, action, s->nh.kind == MR_NH_BACK ? BED_ID : s->nh.egress);
}

/* The model knows no tags of VLANs: here there is one. */
static inline void expect_good(struct bed *b, struct scene *s, const char *what)
{
	uint16_t tci = s->parsed.vlan_tci[0];
	s->parsed.vlan_tci[0] = 0;
	expect_taken(b, s, what);
	s->parsed.vlan_tci[0] = tci;
}

/* ---- built by hand ---------------------------------------------------------------------------------------------- */

#define TAG_KNOWN   10
#define TAG_UNKNOWN 11

static inline void fix_sums(struct scene *s)
{
	uint8_t *ip = s->p.bytes + s->p.l3_off, *l4 = s->p.bytes + s->p.l4_off;
	uint32_t l4_len = s->p.l3_len - (s->p.l4_off - s->p.l3_off);
	int off = csum_offset(s->p.proto, ip[0] >> 4);
	if (off >= 0) {
		put16(l4 + off, 0);
		put16(l4 + off, ~l4_sum(ip, l4, l4_len, s->p.proto) & 0xffff);
	}
	if (ip[0] >> 4 == 4)
		finish_ip4(ip);
}

/* A whole frame of this family and protocol, with one tag or none and 100 bytes of payload. */
static inline void build(struct scene *s, unsigned family, uint8_t proto, unsigned tag)
{
	struct packet *p = &s->p;
	memset(p, 0, sizeof(*p));
	memcpy(p->bytes, "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02", 12);
	p->l3_off = tag ? 18 : 14;
	if (tag) {
		put16(p->bytes + 12, 0x8100);
		put16(p->bytes + 14, tag);
	}
	put16(p->bytes + p->l3_off - 2, family == 4 ? 0x0800 : 0x86dd);
	uint8_t *ip = p->bytes + p->l3_off, *l4 = ip + (family == 4 ? 20 : 40);
	uint32_t l4_len = (proto == 6 ? 20 : 8) + 100;
	p->l4_off = (uint32_t)(l4 - p->bytes);
	p->l3_len = (uint32_t)(l4 - ip) + l4_len;
	p->len = p->l3_off + p->l3_len;
	p->proto = proto;
	p->family = (uint8_t)family;
	if (family == 4) {
		memcpy(ip, "\x45\x00\x00\x00\x12\x34\x40\x00\x40\x00\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02", 20);
		put16(ip + 2, p->l3_len);
		ip[9] = proto;
	} else {
		memcpy(ip, "\x60\x00\x00\x00\x00\x00\x00\x40", 8);
		put16(ip + 4, l4_len);
		ip[6] = proto;
		memcpy(ip + 8, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1", 16);
		memcpy(ip + 24, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\2", 16);
	}
	put16(l4, proto == 1 || proto == 58 ? (family == 4 ? 8 : 128) << 8 : 1234);
	put16(l4 + 2, proto == 1 || proto == 58 ? 0 : 53);
	if (proto == 6) {
		l4[12] = 0x50;
		l4[13] = 0x10;
	} else if (proto == 17) {
		put16(l4 + 4, l4_len);
	} else {
		put16(l4 + 4, 777);
	}
	fix_sums(s);
}

/* Routed to another interface with a new source: the tier takes it. */
static inline void good(struct bed *b, struct scene *s, unsigned family, uint8_t proto)
{
	memset(s, 0, sizeof(*s));
	build(s, family, proto, TAG_KNOWN);
	parse(s);
	s->r4 = (struct mr_rewrite4){ mr_be32(0xcb007101), s->k4.daddr_be, s->k4.sport_be, s->k4.dport_be, 0, 0 };
	memcpy(&s->r6, s->k6.saddr_be, 32);
	s->r6.saddr_be[3] = mr_be32(99);
	s->r6.sport_be = s->k6.sport_be;
	s->r6.dport_be = s->k6.dport_be;
	mr_rewrite_delta4(&s->k4, &s->r4);
	mr_rewrite_delta6(&s->k6, &s->r6);
	s->nh = (struct mr_nexthop){
		.kind = MR_NH_ROUTED, .egress = BED_OTHER, .mtu = 1500, .dmac = { 2, 3 }, .smac = { 4 }
	};
	s->ingress = BED_PAIR;
	s->st.generation = BED_GENERATION;
	s->st.nexthop = SLOT;
	s->st.flags = MR_FLOW_DECIDED | MR_FLOW_OFFLOAD | MR_FLOW_SNAT | MR_FLOW_ROUTED | 5 << MR_FLOW_VERSION_SHIFT;
	memset(b->tier->version, 6, sizeof(b->tier->version));
	b->tier->version[0][mr_route_bucket4(s->r4.daddr_be)] = 5;
	b->tier->version[1][mr_route_bucket6(s->r6.daddr_be)] = 5;
	memset(b->tier->vlan, 0, sizeof(b->tier->vlan));
	b->tier->vlan[BED_ID][0] = 1ull << TAG_KNOWN;
	memcpy(b->tier->half[1].interface[BED_ID].mac, s->p.bytes, 6);
	b->tier->word = MR_TIER_WORD(BED_GENERATION, 1);
	bed_beat(b);
}

static inline uint8_t *ip_of(struct scene *s)
{
	return s->p.bytes + s->p.l3_off;
}

#endif
