/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_tier_kern.c - the kernel tier takes what the flow tier would send, byte for byte and count for count; what it is in doubt about
 * comes up as it was.
 *
 *     test_tier_kern          the cases
 *     test_tier_kern --time   nanoseconds a packet (BPF_PROG_RUN, many times)
 */
#include "core/apply.h"
#include "tests/packets.h"
#include "tier_bed.h"

#include <unistd.h>

#define PACKETS   60000
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

static void parse(struct scene *s)
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

static bool has_flow(const struct scene *s)
{
	return mr_parse_has_key(&s->parsed) && s->parsed.flags & (MR_PKT_IP4 | MR_PKT_IP6);
}

static void install(struct bed *b, struct scene *s)
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

static void take_away(struct bed *b, struct scene *s)
{
	if (s->ref != MR_FLOW_NONE)
		CHECK(!mr_flows_free(b->flows, s->ref, 4711, b->now_ms), "free");
	b->now_ms += MR_FLOW_QUARANTINE_MS;
}

/* ---- one packet ------------------------------------------------------------------------------------------------- */

/* Runs it; the action, or UP when it was counted as come up. */
static int run(struct bed *b, const struct scene *s, uint8_t *out, uint32_t *out_len)
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

static void expect_up(struct bed *b, const struct scene *s, const char *what)
{
	static uint8_t out[ROOM + PACKET_MAX];
	uint32_t len = sizeof(out);
	int action = run(b, s, out, &len);
	CHECK(action == UP, "%s: taken with action %d", what, action);
	CHECK(len == s->p.len && !memcmp(out, s->p.bytes, len), "%s: came up changed", what);
}

static void count(const struct scene *s, int action, unsigned egress)
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
static void expect(struct bed *b, const struct scene *s, int action, const uint8_t *frame, uint32_t len,
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
static int model(const struct scene *s, uint8_t **frame, uint32_t *len)
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

/* ---- generated -------------------------------------------------------------------------------------------------- */

static void generate(struct rng *r, struct scene *s)
{
	memset(s, 0, sizeof(*s));
	for (unsigned tries = 0; tries < 8; tries++) { /* mostly such that may be taken */
		packet_build(r, &s->p);
		parse(s);
		if (has_flow(s) && !(s->parsed.flags & (MR_PKT_FRAG | MR_PKT_OPTIONS)))
			break;
	}
	if (s->parsed.proto == MR_IP_TCP && s->parsed.flags & MR_PKT_PORTS && rng_below(r, 8)) {
		uint8_t *tcp = s->p.bytes + s->parsed.l4_off; /* its checksum stays as wrong as it gets */
		tcp[13] &= ~7;
	}
	if (!rng_below(r, 8))
		packet_damage(r, &s->p);
	if (s->p.len < 14)
		s->p.len = 14;
	parse(s);
	if (s->parsed.flags & MR_PKT_IP4)
		random_rewrite4(r, &s->parsed, &s->k4, &s->r4);
	if (s->parsed.flags & MR_PKT_IP6)
		random_rewrite6(r, &s->parsed, &s->k6, &s->r6);
	random_nexthop(r, &s->nh);
	if (!rng_below(r, 40))
		s->nh.kind = MR_NH_RESOLVING + rng_below(r, 2);
	if (rng_below(r, 4))
		s->nh.flags = 0;
	s->nh.egress = rng_below(r, 20) ? rng_below(r, 2) ? BED_ID : BED_OTHER : BED_DOWN;
	s->nh.mtu = rng_below(r, 3) ? 0 : rng_below(r, 3) ? 9000 : s->parsed.l3_len - 2 + rng_below(r, 64);
	s->ingress = BED_PAIR;
	s->st.generation = BED_GENERATION;
	s->st.nexthop = SLOT;
	s->st.flags = MR_FLOW_DECIDED | MR_FLOW_OFFLOAD;
	s->st.flags |= rng_below(r, 4) * MR_FLOW_SNAT;
	s->st.flags |= rng_below(r, 3) ? 0 : MR_FLOW_NO_TTL;
	s->st.flags |= s->nh.kind == MR_NH_ROUTED && rng_below(r, 2) ? MR_FLOW_ROUTED : 0;
}

static void check_tally(struct bed *b)
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

static void test_generated(struct bed *b)
{
	static unsigned long kinds[5][5], family[2], nat[4], protos[256], tags[3], actions[5];
	struct rng r = { 0x71e2 };
	static struct scene s;
	unsigned long up = 0, taken = 0;
	memset(b->nexthop, 0, MR_MAX_NEXTHOPS * sizeof(*b->nexthop));
	for (unsigned i = 0; i < PACKETS; i++) {
		uint8_t *frame;
		uint32_t len;
		generate(&r, &s);
		install(b, &s);
		int action = model(&s, &frame, &len);
		expect(b, &s, action, frame, len, action != UP, "generated");
		if (action == UP) {
			up++;
			take_away(b, &s);
			continue;
		}
		count(&s, action, s.nh.kind == MR_NH_BACK ? BED_ID : s.nh.egress);
		expect(b, &s, action, frame, len, 2, "again");
		count(&s, action, s.nh.kind == MR_NH_BACK ? BED_ID : s.nh.egress);
		take_away(b, &s);
		taken++;
		actions[action]++;
		kinds[s.nh.kind][action == ACT_PASS ? 0 : s.nh.encap]++;
		family[!(s.parsed.flags & MR_PKT_IP4)]++;
		nat[(s.st.flags & NAT) / MR_FLOW_SNAT]++;
		protos[s.parsed.proto]++;
		tags[s.parsed.vlan_cnt]++;
	}
	check_tally(b);
	for (unsigned k = MR_NH_WIRE; k <= MR_NH_ROUTED; k++)
		for (unsigned e = 0; e < (k == MR_NH_KERNEL ? 1 : 5); e++)
			CHECK(kinds[k][e] > 20, "next hop kind %u with encapsulation %u: %lu", k, e, kinds[k][e]);
	for (unsigned i = 0; i < 4; i++)
		CHECK(nat[i] > 100, "translation %u", i);
	CHECK(protos[1] > 100 && protos[6] > 100 && protos[17] > 100 && protos[58] > 100 && protos[132] > 20,
		"protocols");
	CHECK(tags[0] > 100 && tags[1] > 100 && tags[2] > 100 && family[0] > 100 && family[1] > 100, "tags, families");
	CHECK(actions[ACT_PASS] > 100 && actions[ACT_TX] > 100 && actions[ACT_REDIR] > 100 && up > 1000, "actions");
	printf("%u packets: %lu taken and rewritten as mr_apply() does, twice each; %lu came up as they were\n",
		PACKETS, taken, up);
}

/* ---- one by one ------------------------------------------------------------------------------------------------- */

#define TAG_KNOWN   10
#define TAG_UNKNOWN 11

static void fix_sums(struct scene *s)
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
static void build(struct scene *s, unsigned family, uint8_t proto, unsigned tag)
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
static void good(struct bed *b, struct scene *s, unsigned family, uint8_t proto)
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

static uint8_t *ip_of(struct scene *s)
{
	return s->p.bytes + s->p.l3_off;
}

static void fragment(struct bed *b, struct scene *s)
{
	if (s->p.family == 4)
		put16(ip_of(s) + 6, 0x2000);
	else { /* the first eight bytes behind become a fragment header */
		ip_of(s)[40] = s->p.proto;
		ip_of(s)[41] = 0;
		put16(ip_of(s) + 42, 1);
		ip_of(s)[6] = 44;
	}
	fix_sums(s);
}

static void options(struct bed *b, struct scene *s)
{
	uint8_t *ip = ip_of(s);
	uint32_t at = s->p.family == 4 ? 20 : 40, more = s->p.family == 4 ? 4 : 8;
	memmove(ip + at + more, ip + at, s->p.l3_len - at);
	memset(ip + at, 1, more);
	if (s->p.family == 4) {
		ip[0]++;
	} else {
		memcpy(ip + at, (uint8_t[]){ s->p.proto, 0, 1, 4, 0, 0, 0, 0 }, 8);
		ip[6] = 0;
	}
	s->p.l3_len += more;
	s->p.l4_off += more;
	s->p.len += more;
	put16(ip + (s->p.family == 4 ? 2 : 4), s->p.l3_len - (s->p.family == 4 ? 0 : 40));
	fix_sums(s);
}

static void ttl_1(struct bed *b, struct scene *s)
{
	ip_of(s)[s->p.family == 4 ? 8 : 7] = 1;
	fix_sums(s);
}

static void mtu(struct bed *b, struct scene *s)
{
	s->nh.mtu = s->p.l3_len - 1;
}

static void mtu_outer(struct bed *b, struct scene *s)
{
	s->nh.encap = MR_ENCAP_GUE6;
	s->nh.mtu = s->p.l3_len + 47;
}

static void mtu_wire(struct bed *b, struct scene *s)
{
	s->nh.kind = MR_NH_WIRE;
	s->nh.mtu = s->p.l3_len; /* and one byte behind it counts */
	s->p.len++;
}

static void track(struct bed *b, struct scene *s)
{
	s->st.flags |= MR_FLOW_TRACK;
}

static void closing(struct bed *b, struct scene *s)
{
	s->st.flags |= MR_FLOW_CLOSING;
}

static void undecided(struct bed *b, struct scene *s)
{
	s->st.flags &= ~MR_FLOW_DECIDED;
}

static void not_offloaded(struct bed *b, struct scene *s)
{
	s->st.flags &= ~MR_FLOW_OFFLOAD;
}

static void old_generation(struct bed *b, struct scene *s)
{
	s->st.generation--;
}

static void other_generation_in_force(struct bed *b, struct scene *s)
{
	b->tier->word++;
}

static void nothing_in_force(struct bed *b, struct scene *s)
{
	b->tier->word = 0;
}

static void other_half(struct bed *b, struct scene *s)
{
	b->tier->word = MR_TIER_WORD(BED_GENERATION, 0); /* where no pair is of this interface */
}

static void dead(struct bed *b, struct scene *s)
{
	b->tier->heartbeat_ns = bed_clock_ns() - (MR_TIER_HEARTBEAT_MS + 100) * 1000000LL;
}

/* Its program stays on the device (on_exit: drop), and milliseconds in 32 bits would begin anew. */
static void long_dead(struct bed *b, struct scene *s)
{
	b->tier->heartbeat_ns = bed_clock_ns() - 30LL * 86400 * 1000000000;
}

static void other_interface(struct bed *b, struct scene *s)
{
	s->ingress = BED_PAIR + 2;
}

static void no_pair(struct bed *b, struct scene *s)
{
	s->ingress = 0;
}

static void version(struct bed *b, struct scene *s)
{
	b->tier->version[s->p.family == 6]
			[s->p.family == 4 ? mr_route_bucket4(s->r4.daddr_be) : mr_route_bucket6(s->r6.daddr_be)]++;
}

static void mac(struct bed *b, struct scene *s)
{
	s->p.bytes[5] ^= 1;
}

static void broadcast(struct bed *b, struct scene *s)
{
	memset(s->p.bytes, 0xff, 6);
}

static void tag(struct bed *b, struct scene *s)
{
	put16(s->p.bytes + 14, TAG_UNKNOWN);
}

static void two_tags(struct bed *b, struct scene *s)
{
	memmove(s->p.bytes + 16, s->p.bytes + 12, s->p.len - 12);
	put16(s->p.bytes + 12, 0x88a8);
	s->p.l3_off += 4;
	s->p.l4_off += 4;
	s->p.len += 4;
}

static void behind(struct bed *b, struct scene *s)
{
	s->p.len++;
}

static void cut(struct bed *b, struct scene *s)
{
	s->p.len--;
}

static void no_devmap(struct bed *b, struct scene *s)
{
	s->nh.egress = BED_DOWN;
}

static void nh_resolving(struct bed *b, struct scene *s)
{
	s->nh.kind = MR_NH_RESOLVING;
}

static void nh_unreachable(struct bed *b, struct scene *s)
{
	s->nh.kind = MR_NH_UNREACHABLE;
}

static void nh_none(struct bed *b, struct scene *s)
{
	s->nh.kind = MR_NH_NONE;
}

static void nh_written(struct bed *b, struct scene *s)
{
	s->nh.seq = 1;
}

static void nh_kernel(struct bed *b, struct scene *s)
{
	s->nh.kind = MR_NH_KERNEL; /* of a translated flow */
}

static void third_tag(struct bed *b, struct scene *s)
{
	two_tags(b, s);
	s->st.flags &= ~MR_FLOW_ROUTED;
	s->nh.kind = MR_NH_WIRE;
	s->nh.flags = MR_NH_PUSH_VLAN;
}

static void counter(struct bed *b, struct scene *s)
{
	s->st.effects = 9;
	b->effect[MR_EFFECTS + 9] = (struct mr_effect){ .counter = { 1, MR_TIER_COUNTERS } };
}

static void absent(struct bed *b, struct scene *s)
{
	s->absent = true;
}

struct doubt {
	const char *name;
	void (*spoil)(struct bed *b, struct scene *s);
	bool late; /* after the record was stored */
};

static const struct doubt doubts[] = {
	{ "fragment", fragment, false },
	{ "options", options, false },
	{ "TTL 1", ttl_1, false },
	{ "longer than the MTU", mtu, false },
	{ "longer than the MTU with its outer header", mtu_outer, false },
	{ "longer than the MTU with what is behind it", mtu_wire, false },
	{ "TRACK", track, false },
	{ "CLOSING", closing, false },
	{ "undecided", undecided, false },
	{ "not offloaded", not_offloaded, false },
	{ "old generation", old_generation, false },
	{ "another generation in force", other_generation_in_force, true },
	{ "nothing in force", nothing_in_force, true },
	{ "the other half in force", other_half, true },
	{ "old heartbeat", dead, true },
	{ "heartbeat of last month", long_dead, true },
	{ "a pair of another interface", other_interface, false },
	{ "no pair", no_pair, false },
	{ "route version changed", version, true },
	{ "another station's MAC", mac, true },
	{ "broadcast MAC", broadcast, true },
	{ "unknown tag", tag, true },
	{ "two tags", two_tags, true },
	{ "bytes behind the packet", behind, true },
	{ "truncated", cut, true },
	{ "no devmap entry", no_devmap, false },
	{ "next hop resolving", nh_resolving, false },
	{ "next hop unreachable", nh_unreachable, false },
	{ "next hop none", nh_none, false },
	{ "next hop being written", nh_written, false },
	{ "translated, to the kernel", nh_kernel, false },
	{ "a third tag", third_tag, false },
	{ "counter too high", counter, false },
	{ "not found", absent, false },
};

static void expect_taken(struct bed *b, struct scene *s, const char *what)
{
	uint8_t *frame;
	uint32_t len;
	int action = model(s, &frame, &len);
	CHECK(action != UP, "%s: the model does not take it", what);
	expect(b, s, action, frame, len, mr_flows_state(b->flows, s->ref)->packets + 1, what);
	count(s, action, s->nh.kind == MR_NH_BACK ? BED_ID : s->nh.egress);
}

/* The model knows no tags of VLANs: here there is one. */
static void expect_good(struct bed *b, struct scene *s, const char *what)
{
	uint16_t tci = s->parsed.vlan_tci[0];
	s->parsed.vlan_tci[0] = 0;
	expect_taken(b, s, what);
	s->parsed.vlan_tci[0] = tci;
}

static void test_doubts(struct bed *b)
{
	static const uint8_t protos[2][3] = { { 6, 17, 1 }, { 6, 17, 58 } };
	static struct scene s;
	unsigned cases = 0;
	for (unsigned f = 0; f < 2; f++) {
		for (unsigned k = 0; k < 3; k++) {
			for (unsigned i = 0; i < sizeof(doubts) / sizeof(*doubts); i++) {
				const struct doubt *d = &doubts[i];
				good(b, &s, f ? 6 : 4, protos[f][k]);
				install(b, &s);
				expect_good(b, &s, "good");
				if (!d->late)
					take_away(b, &s);
				d->spoil(b, &s);
				if (!d->late) {
					parse(&s);
					install(b, &s);
				}
				expect_up(b, &s, d->name);
				if (s.ref != MR_FLOW_NONE)
					CHECK(mr_flows_state(b->flows, s.ref)->packets == d->late, "%s: counted",
						d->name);
				take_away(b, &s);
				cases++;
			}
		}
	}
	check_tally(b);
	printf("%u cases of doubt came up as they were\n", cases);
}

/* What is there for IPv4 or TCP alone. */
static void test_more_doubts(struct bed *b)
{
	static struct scene s;
	good(b, &s, 4, 17);
	install(b, &s);
	ip_of(&s)[10] ^= 1;
	expect_up(b, &s, "wrong header checksum");
	ip_of(&s)[10] ^= 1;
	expect_good(b, &s, "right header checksum");
	take_away(b, &s);
	for (unsigned v6 = 0; v6 < 2; v6++) {
		good(b, &s, v6 ? 6 : 4, v6 ? 58 : 1);
		install(b, &s);
		s.p.bytes[s.p.l4_off] = v6 ? 1 : 3;
		fix_sums(&s);
		expect_up(b, &s, "ICMP error");
		take_away(b, &s);
	}
	for (unsigned flags = 1; flags < 8; flags++) {
		for (unsigned v6 = 0; v6 < 2; v6++) {
			good(b, &s, v6 ? 6 : 4, 6);
			install(b, &s);
			uint8_t *tcp = s.p.bytes + s.p.l4_off;
			tcp[13] |= flags;
			fix_sums(&s);
			expect_up(b, &s, "FIN, SYN or RST");
			const struct mr_flow_state *st = mr_flows_state(b->flows, s.ref);
			bool closes = flags & 5;
			CHECK(st->flags == (s.st.flags | (closes ? MR_FLOW_CLOSING : 0)), "flags %x: %x", flags,
				st->flags);
			CHECK(st->nexthop == SLOT, "the other half of the word");
			tcp[13] &= ~7;
			fix_sums(&s);
			if (closes)
				expect_up(b, &s, "behind FIN or RST");
			else
				expect_good(b, &s, "behind SYN");
			take_away(b, &s);
		}
	}
	/* A FIN of a record that is not ours to carry out changes nothing. */
	good(b, &s, 4, 6);
	s.st.generation--;
	install(b, &s);
	s.p.bytes[s.p.l4_off + 13] |= 1;
	fix_sums(&s);
	expect_up(b, &s, "FIN of an old generation");
	CHECK(mr_flows_state(b->flows, s.ref)->flags == s.st.flags, "marked");
	take_away(b, &s);
	printf("header checksum, ICMP errors, FIN and RST: up, and the record is marked closing\n");
}

/* Interface and key do not always tell the pipeline; then steering does, before. */
static void test_pipeline(struct bed *b)
{
	struct mr_tier_interface *in = &b->tier->half[1].interface[BED_ID];
	static struct scene s;
	for (unsigned key_only = 0; key_only < 2; key_only++) {
		for (unsigned other = 0; other < 2; other++) {
			in->flags = key_only ? MR_TIER_KEY_ONLY : 0;
			good(b, &s, 4, 17);
			s.ingress = BED_PAIR + (uint8_t)other;
			install(b, &s);
			if (!key_only && other)
				expect_up(b, &s, "another pipeline");
			else if (!other)
				expect_good(b, &s, "this pipeline");
			else
				CHECK(run(b, &s, NULL, NULL) == ACT_REDIR, "any pipeline of the interface");
			take_away(b, &s);
		}
	}
	/* The steering table is still (or already) that of another configuration: its numbers are not compared. */
	in->flags = 0;
	bed_steer(b, BED_GENERATION - 1);
	good(b, &s, 4, 17);
	install(b, &s);
	expect_up(b, &s, "a steering table of another generation");
	bed_steer(b, BED_GENERATION);
	expect_good(b, &s, "the steering table of this one");
	take_away(b, &s);
	in->flags = MR_TIER_KEY_ONLY;
	printf("the pipeline of a record is the packet's\n");
}

static void test_second_bucket(struct bed *b)
{
	static struct scene s;
	mr_flow_ref other[64];
	struct mr_rewrite4 rw = { 0 };
	struct mr_flow_state st = { .flags = 0 };
	unsigned cnt = 0, buckets = mr_flows_buckets4(b->flows);
	good(b, &s, 4, 17);
	uint32_t home = mr_flow_bucket_primary(s.hash, buckets);
	struct mr_key4 k = s.k4;
	for (uint32_t a = 0; cnt < MR_FLOW_WAYS + 2; a++) { /* others with that home, until it is full */
		k.saddr_be = a;
		uint64_t hash = mr_flow_hash4(&k, BED_SEED);
		if (mr_flow_bucket_primary(hash, buckets) == home)
			CHECK(!mr_flows_insert4(b->flows, &k, hash, &rw, &st, b->now_ms, &other[cnt++]), "insert");
	}
	install(b, &s);
	CHECK((s.ref & 0x3fffffff) / MR_FLOW_WAYS == mr_flow_bucket_secondary(s.hash, buckets), "not in its second");
	expect_good(b, &s, "in its second bucket");
	struct mr_bucket4 *bucket = (void *)(mr_flows_record4(b->flows, s.ref) - s.ref % MR_FLOW_WAYS);
	bucket = (void *)((char *)bucket - sizeof(bucket->head));
	bucket += (int64_t)home - mr_flow_bucket_secondary(s.hash, buckets);
	uint64_t spilled = bucket->head.spilled;
	bucket->head.spilled &= ~mr_flow_spill_bit(s.hash);
	expect_up(b, &s, "its bit says it lives nowhere else");
	bucket->head.spilled = spilled;
	expect_good(b, &s, "and again");
	take_away(b, &s);
	for (unsigned i = 0; i < cnt; i++)
		CHECK(!mr_flows_free(b->flows, other[i], 0, b->now_ms), "free");
	printf("a record in its second bucket is found\n");
}

/* Room in front that was made and not needed is given back: here for ports that no SCTP packet can take. */
static void test_give_back(struct bed *b)
{
	static struct scene s;
	good(b, &s, 4, 17);
	s.p.proto = 132;
	ip_of(&s)[9] = 132;
	fix_sums(&s);
	parse(&s);
	s.r4.sport_be ^= 1;
	s.nh.encap = MR_ENCAP_IP4;
	install(b, &s);
	expect_up(b, &s, "a port SCTP cannot change");
	take_away(b, &s);
	printf("room made in front is given back\n");
}

static void test_effects(struct bed *b)
{
	static struct scene s;
	uint64_t cell[2];
	const uint16_t top = MR_TIER_COUNTERS - 1;
	good(b, &s, 4, 17);
	s.st.effects = 7;
	b->effect[7] = (struct mr_effect){ .counter = { 100 } }; /* of the other half */
	b->effect[MR_EFFECTS + 7] = (struct mr_effect){ .counter = { 5, 6, 7, top }, .meter = { 3, 4 } };
	b->meter[MR_METERS + 3] = (struct mr_meter){ .burst_ticks = 1ull << 60, .cost_mul = 1, .cost_shift = 0 };
	/* 100 s of what the rate allows a packet, ten of them at once */
	const uint64_t cost = 100000000000ull * MR_METER_TICKS_PER_NS;
	b->meter[MR_METERS + 4] = (struct mr_meter){ .burst_ticks = 10 * cost, .cost_mul = cost };
	install(b, &s);
	for (unsigned i = 0; i < 10; i++)
		expect_good(b, &s, "within its limit");
	for (unsigned i = 0; i < 5; i++) {
		CHECK(run(b, &s, NULL, NULL) == ACT_DROP, "over its limit");
		tally.received[0]++;
		tally.received[1] += s.p.len;
		tally.metered++;
	}
	check_tally(b);
	const uint16_t keys[] = { 5, 6, 7, top, 100 };
	for (unsigned i = 0; i < 5; i++) {
		bed_sum(b, "tier_counters", keys[i], cell, 2);
		CHECK(cell[0] == (i == 4 ? 0 : 15) && cell[1] == cell[0] * s.p.len, "counter %u: %llu", keys[i],
			(unsigned long long)cell[0]);
	}
	CHECK(mr_flows_state(b->flows, s.ref)->packets == 15, "the record counts what a limit then drops");
	take_away(b, &s);
	printf("counters and limits: 10 packets passed, 5 dropped, 15 counted\n");
}

/* What is read of next hops that are used; who was last sent to an egress. */
static void test_marks(struct bed *b)
{
	static struct scene s;
	good(b, &s, 4, 17);
	install(b, &s);
	b->tier->nexthop_used_ms[SLOT] = 5;
	expect_good(b, &s, "routed");
	CHECK(bed_clock_ms() - b->tier->nexthop_used_ms[SLOT] + 1000 < 11000, "used %u ms",
		b->tier->nexthop_used_ms[SLOT]);
	struct mr_tier_egress e[64];
	__u32 id = BED_OTHER;
	bool seen = false;
	CHECK(b->cpu_cnt <= 64 && sizeof(e[0]) % 8 == 0, "%u CPUs", b->cpu_cnt);
	CHECK(!bpf_map_lookup_elem(bpf_map__fd(bed_map(b, "tier_egress")), &id, e), "egress");
	for (unsigned c = 0; c < b->cpu_cnt; c++)
		seen |= e[c].last_ingress == BED_PAIR;
	CHECK(seen, "last ingress");
	/* The owner's clock is ahead of the coarse one. */
	b->tier->heartbeat_ns = bed_clock_ns() + 50000000;
	CHECK(run(b, &s, NULL, NULL) == ACT_REDIR, "a heartbeat from the future");
	take_away(b, &s);
	printf("next hops are marked used, egresses know whom they carry\n");
}

/* ---- time ------------------------------------------------------------------------------------------------------- */

#define REPEAT     5000
#define ROUNDS     40
#define ONE_BY_ONE 20000

/* Nanoseconds a run; what the frame became in the run before is what the next one gets, so only what leaves it alone can be repeated. */
static unsigned time_of(struct bed *b, const struct scene *s)
{
	unsigned best = UINT32_MAX;
	for (unsigned round = 0; round < ROUNDS; round++) {
		LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = s->p.bytes, .data_size_in = s->p.len, .repeat = REPEAT);
		bed_beat(b);
		CHECK(!bpf_prog_test_run_opts(mr_steer_prog_fd(b->steer), &o), "BPF_PROG_RUN");
		best = o.duration < best ? o.duration : best;
	}
	CHECK(!mr_steer_read_counters(b->steer, &last), "counters");
	return best;
}

/* The same where the frame does not stay: one run at a time, mean of many, the clock and cold caches in it. */
static double time_of_one(struct bed *b, const struct scene *s)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < ONE_BY_ONE; i++) {
		LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = s->p.bytes, .data_size_in = s->p.len, .repeat = 1);
		if (i % 1000 == 0)
			bed_beat(b);
		CHECK(!bpf_prog_test_run_opts(mr_steer_prog_fd(b->steer), &o) && o.retval == ACT_REDIR, "BPF_PROG_RUN");
		sum += o.duration;
	}
	CHECK(!mr_steer_read_counters(b->steer, &last), "counters");
	return (double)sum / ONE_BY_ONE;
}

static unsigned time_of_empty(const struct scene *s)
{
	/* return XDP_PASS */
	static const struct bpf_insn insns[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 2 },
		{ .code = BPF_JMP | BPF_EXIT } };
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "empty", "GPL", insns, 2, NULL);
	unsigned best = UINT32_MAX;
	CHECK(fd >= 0, "%s", strerror(errno));
	for (unsigned round = 0; round < ROUNDS; round++) {
		LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = s->p.bytes, .data_size_in = s->p.len, .repeat = REPEAT);
		CHECK(!bpf_prog_test_run_opts(fd, &o), "BPF_PROG_RUN");
		best = o.duration < best ? o.duration : best;
	}
	close(fd);
	return best;
}

/*
 * The frame of one run is that of the next: the TTL must not run out, so it stays, and of a packet whose addresses change the key changes,
 * so what is stored rewrites it to itself.  Every store and every checksum is made all the same.
 */
static void time_all(struct bed *b)
{
	static struct scene s;
	good(b, &s, 4, 17);
	memset(b->tier->version, 5, sizeof(b->tier->version));
	printf("ns a packet, best of %u times %u: empty program %u\n", ROUNDS, REPEAT, time_of_empty(&s));
	CHECK(!mr_steer_apply(b->steer, NULL, NULL), "no table");
	printf("  no pipeline matches anything: %u\n", time_of(b, &s));
	bed_steer(b, BED_GENERATION);
	b->tier->word = 0;
	printf("  nothing in force, steered: %u\n", time_of(b, &s));
	b->tier->word = MR_TIER_WORD(BED_GENERATION, 1);
	for (unsigned f = 4; f <= 6; f += 2) {
		for (unsigned way = 0; way < 5; way++) {
			static const char *name[] = { "miss", "hit, WIRE as it is", "hit, routed",
				"hit, routed, translated", "hit, routed, translated, counter and limit" };
			good(b, &s, f, 17);
			memset(b->tier->version, 5, sizeof(b->tier->version));
			memcpy(s.nh.dmac, s.p.bytes, 6);
			memset(b->tier->half[1].interface[BED_ID].mac, 0, 6);
			build(&s, f, 17, 0);
			parse(&s);
			s.r4 = (struct mr_rewrite4){ s.k4.saddr_be, s.k4.daddr_be, s.k4.sport_be, s.k4.dport_be, 0, 0 };
			memcpy(&s.r6, s.k6.saddr_be, 32);
			s.r6.sport_be = s.k6.sport_be;
			s.r6.dport_be = s.k6.dport_be;
			s.r6.l4_delta = 0;
			s.absent = way == 0;
			s.nh.kind = way == 1 ? MR_NH_WIRE : MR_NH_ROUTED;
			s.st.flags = MR_FLOW_DECIDED | MR_FLOW_OFFLOAD | MR_FLOW_NO_TTL | 5 << MR_FLOW_VERSION_SHIFT;
			s.st.flags |= (way > 1 ? MR_FLOW_ROUTED : 0) | (way > 2 ? MR_FLOW_SNAT : 0);
			s.st.effects = way == 4 ? 3 : 0;
			b->effect[MR_EFFECTS + 3] = (struct mr_effect){ .counter = { 5 }, .meter = { 3 } };
			b->meter[MR_METERS + 3] = (struct mr_meter){ .burst_ticks = 1ull << 60, .cost_mul = 1 };
			install(b, &s);
			CHECK((run(b, &s, NULL, NULL) == UP) == (way == 0), "%s", name[way]);
			printf("  IPv%u %s: %u\n", f, name[way], time_of(b, &s));
			take_away(b, &s);
		}
	}
	printf("mean of %u single runs\n", ONE_BY_ONE);
	for (unsigned f = 4; f <= 6; f += 2) {
		for (unsigned encap = 0; encap < 5; encap++) {
			static const char *name[] = { "no encapsulation", "IPv4", "IPv6", "GUE over IPv4",
				"GUE over IPv6" };
			good(b, &s, f, 17);
			s.nh.encap = (uint8_t)encap;
			install(b, &s);
			printf("  IPv%u hit, routed, translated, %s: %.0f\n", f, name[encap], time_of_one(b, &s));
			take_away(b, &s);
		}
	}
}

int main(int argc, char **argv)
{
	static struct bed b;
	libbpf_set_print(NULL);
	bed_open(&b, 1000);
	print_verified("steer with a tier", mr_steer_prog_fd(b.steer));
	if (argc > 1 && !strcmp(argv[1], "--time")) {
		time_all(&b);
		bed_close(&b);
		return 0;
	}
	test_generated(&b);
	test_doubts(&b);
	test_more_doubts(&b);
	test_effects(&b);
	test_pipeline(&b);
	test_second_bucket(&b);
	test_give_back(&b);
	test_marks(&b);
	bed_close(&b);
	return 0;
}
