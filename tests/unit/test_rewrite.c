/* SPDX-License-Identifier: BSD-2-Clause */
/* test_rewrite.c - checksums after a rewrite are what computing them anew gives; fronts and encapsulations by their RFCs. */
#include "tests/packets.h"

#include <criterion/criterion.h>

#define ROOM 128

struct work {
	uint8_t room[ROOM + PACKET_MAX];
	uint8_t *frame;
	uint32_t len;
	struct mr_parsed p;
};

static void take(struct work *w, const struct packet *b)
{
	w->frame = w->room + ROOM;
	w->len = b->len;
	memcpy(w->frame, b->bytes, b->len);
	mr_parse(w->frame, w->frame + w->len, &w->p);
}

static int apply(struct work *w, struct rng *r, unsigned flags)
{
	struct mr_key4 k4;
	struct mr_key6 k6;
	struct mr_rewrite4 r4;
	struct mr_rewrite6 r6;
	if (w->p.flags & MR_PKT_IP4) {
		mr_parse_key4(&w->p, w->frame, 1, &k4);
		random_rewrite4(r, &w->p, &k4, &r4);
		return mr_rewrite_apply4(w->frame, w->frame + w->len, &w->p, &r4, flags);
	}
	mr_parse_key6(&w->p, w->frame, 1, &k6);
	random_rewrite6(r, &w->p, &k6, &r6);
	return mr_rewrite_apply6(w->frame, w->frame + w->len, &w->p, &r6, flags);
}

/* The checksums of a frame as full computation would have them. */
static void compute(uint8_t *frame, const struct mr_parsed *p)
{
	uint8_t *ip = frame + p->l3_off, *l4 = frame + p->l4_off;
	int off = csum_offset(p->proto, p->flags & MR_PKT_IP4 ? 4 : 6);
	if (p->flags & MR_PKT_IP4)
		finish_ip4(ip);
	if (off < 0 || p->flags & MR_PKT_FRAG_LATER || (p->proto == 17 && !get16(l4 + off)))
		return;
	put16(l4 + off, 0);
	uint32_t c = ~l4_sum(ip, l4, p->l3_off + p->l3_len - p->l4_off, p->proto) & 0xffff;
	put16(l4 + off, p->proto == 17 && !c ? 0xffff : c);
}

Test(rewrite, checksums_as_computed_anew)
{
	struct rng r = { 8086 };
	struct packet b;
	struct work w, fresh;
	unsigned done = 0, zero_udp = 0, by_proto[256] = { 0 };
	for (unsigned i = 0; i < 100000; i++) {
		packet_build(&r, &b);
		take(&w, &b);
		if (w.p.error || !(w.p.flags & (MR_PKT_IP4 | MR_PKT_IP6)) || apply(&w, &r, MR_FLOW_SNAT | MR_FLOW_DNAT))
			continue;
		fresh = w;
		fresh.frame = fresh.room + ROOM;
		compute(fresh.frame, &w.p);
		cr_assert(!memcmp(fresh.frame, w.frame, w.len), "packet %u, protocol %u", i, w.p.proto);
		cr_assert_eq(w.frame[w.p.l3_off + (w.p.flags & MR_PKT_IP4 ? 8 : 7)], w.p.ttl - 1);
		struct mr_parsed after;
		mr_parse(w.frame, w.frame + w.len, &after);
		cr_assert(!after.error && after.icmp_type == w.p.icmp_type && after.flags == w.p.flags, "packet %u", i);
		done++;
		by_proto[w.p.proto]++;
		zero_udp += w.p.proto == 17 && !(w.p.flags & MR_PKT_FRAG) && !get16(w.frame + w.p.l4_off + 6);
	}
	cr_assert(done > 50000 && zero_udp > 100 && by_proto[1] && by_proto[58] && by_proto[6] && by_proto[132] &&
		by_proto[50]);
}

Test(rewrite, wrong_checksums_stay_wrong)
{
	struct rng r = { 6502 };
	struct packet b;
	struct work w;
	unsigned seen = 0;
	for (unsigned i = 0; i < 20000; i++) {
		packet_build(&r, &b);
		take(&w, &b);
		int off = csum_offset(w.p.proto, w.p.flags & MR_PKT_IP4 ? 4 : 6);
		if (w.p.error || !(w.p.flags & (MR_PKT_IP4 | MR_PKT_IP6)) || off < 0 || w.p.flags & MR_PKT_FRAG_LATER ||
			(w.p.proto == 17 && !get16(w.frame + w.p.l4_off + off)))
			continue;
		uint8_t *ip = w.frame + w.p.l3_off, *l4 = w.frame + w.p.l4_off;
		uint32_t l4_len = w.p.l3_off + w.p.l3_len - w.p.l4_off;
		/* A sum, right or wrong, keeps its distance to the right one; 0 and 0xffff are one number. */
		put16(l4 + off, (get16(l4 + off) + 1 + rng_below(&r, 0xfffd)) % 0xffff);
		if (!get16(l4 + off))
			continue;
		uint32_t before = l4_sum(ip, l4, l4_len, w.p.proto) % 0xffff;
		if (apply(&w, &r, MR_FLOW_SNAT | MR_FLOW_NO_TTL))
			continue;
		cr_assert_eq(l4_sum(ip, l4, l4_len, w.p.proto) % 0xffff, before, "packet %u", i);
		seen++;
	}
	cr_assert(seen > 1000);
}

Test(rewrite, refused_and_untouched)
{
	struct rng r = { 68000 };
	struct packet b;
	struct work w;
	unsigned by_error[MR_REWRITE_ERROR_CNT] = { 0 };
	for (unsigned i = 0; i < 100000; i++) {
		struct mr_nexthop nh;
		packet_build(&r, &b);
		if (!(i % 4))
			packet_damage(&r, &b);
		take(&w, &b);
		if (w.p.flags & (MR_PKT_IP4 | MR_PKT_IP6)) {
			int err = apply(&w, &r, MR_FLOW_DNAT);
			by_error[err]++;
			cr_assert(!err || !memcmp(w.frame, b.bytes, b.len), "packet %u, error %d", i, err);
			if (w.p.proto == 132 && err == MR_REWRITE_PORTS)
				cr_assert(w.p.flags & MR_PKT_PORTS);
		}
		take(&w, &b);
		random_nexthop(&r, &nh);
		uint32_t room = rng_below(&r, 2) ? ROOM : rng_below(&r, 32);
		int err = mr_rewrite_front(&w.frame, &w.len, room, &w.p, &nh, 5);
		by_error[err]++;
		if (err)
			cr_assert(w.len == b.len && w.frame == w.room + ROOM && !memcmp(w.frame, b.bytes, b.len),
				"packet %u", i);
	}
	for (unsigned e = 0; e < MR_REWRITE_ERROR_CNT; e++)
		cr_expect(by_error[e] || e == MR_REWRITE_SIZE, "no packet met rewrite error %u", e);
}

/* An error has no key: routed like anything, with its TTL alone, and never translated by one. */
Test(rewrite, icmp_without_a_key_is_only_routed)
{
	struct rng r = { 792 };
	struct packet b;
	struct work w;
	unsigned seen[2] = { 0 };
	for (unsigned i = 0; i < 200000; i++) {
		packet_build(&r, &b);
		take(&w, &b);
		if (w.p.error || !(w.p.flags & MR_PKT_ICMP) || w.p.flags & MR_PKT_ICMP_QUERY || w.p.ttl <= 1)
			continue;
		bool v6 = w.p.flags & MR_PKT_IP6;
		cr_assert_eq(apply(&w, &r, MR_FLOW_SNAT), MR_REWRITE_KEY);
		cr_assert_eq(apply(&w, &r, MR_FLOW_DNAT | MR_FLOW_NO_TTL), MR_REWRITE_KEY);
		cr_assert(!memcmp(w.frame, b.bytes, b.len));
		cr_assert_eq(apply(&w, &r, 0), MR_REWRITE_OK);
		cr_assert_eq(w.frame[w.p.l3_off + (v6 ? 7 : 8)], w.p.ttl - 1);
		cr_assert(!memcmp(w.frame + w.p.l4_off, b.bytes + w.p.l4_off, b.len - w.p.l4_off));
		seen[v6]++;
	}
	cr_assert(seen[0] > 100 && seen[1] > 100, "%u and %u", seen[0], seen[1]);
}

/* What is inside must come out as it went in, behind an outer header that parses as what it is to be. */
static void check_encap(
	const struct work *w, const struct packet *b, const struct work *in, const struct mr_nexthop *nh)
{
	struct mr_parsed o;
	bool v4 = nh->encap == MR_ENCAP_IP4 || nh->encap == MR_ENCAP_GUE4;
	bool gue = nh->encap == MR_ENCAP_GUE4 || nh->encap == MR_ENCAP_GUE6;
	cr_assert(!mr_parse(w->frame, w->frame + w->len, &o));
	uint8_t *ip = w->frame + o.l3_off;
	cr_assert_eq(o.ethertype, v4 ? 0x0800 : 0x86dd);
	cr_assert_eq(o.proto, gue ? 17 : in->p.flags & MR_PKT_IP4 ? 4 : 41);
	cr_assert_eq(o.tos, in->p.tos); /* DSCP and ECN: RFC 6040 section 4.1, normal mode */
	cr_assert_eq(o.ttl, nh->outer_ttl ? nh->outer_ttl : 64);
	cr_assert_eq(o.l3_len, in->p.l3_len + (v4 ? 20 : 40) + (gue ? 8 : 0));
	cr_assert(!memcmp(w->frame + o.l4_off + (gue ? 8 : 0), b->bytes + in->p.l3_off, in->p.l3_len));
	if (v4) {
		cr_assert_eq(sum_bytes(ip, 20, 0), 0xffff);
		cr_assert_eq(!!(o.flags & MR_PKT_DF), !!(in->p.flags & (MR_PKT_DF | MR_PKT_IP6)));
		cr_assert(!memcmp(ip + 12, nh->outer_saddr_be, 4) && !memcmp(ip + 16, nh->outer_daddr_be, 4));
	} else {
		cr_assert(!memcmp(ip + 8, nh->outer_saddr_be, 16) && !memcmp(ip + 24, nh->outer_daddr_be, 16));
	}
	if (gue)
		cr_assert(get16(w->frame + o.l4_off) >= 0xc000 && o.dport_be == mr_be16(nh->outer_dport) &&
			!get16(w->frame + o.l4_off + 6));
}

Test(rewrite, fronts)
{
	struct rng r = { 1802 };
	struct packet b;
	struct work w, in;
	unsigned encaps[5] = { 0 };
	for (unsigned i = 0; i < 50000; i++) {
		struct mr_nexthop nh;
		struct mr_parsed o;
		packet_build(&r, &b);
		take(&w, &b);
		in = w;
		random_nexthop(&r, &nh);
		int grow = mr_rewrite_headroom(&nh, &w.p);
		if (w.p.error || mr_rewrite_front(&w.frame, &w.len, ROOM, &w.p, &nh, rng_next(&r)))
			continue;
		cr_assert_eq((int)w.len - (int)b.len, grow);
		encaps[nh.encap]++;
		mr_parse(w.frame, w.frame + w.len, &o);
		unsigned push = !!(nh.flags & MR_NH_PUSH_VLAN);
		unsigned pop = nh.kind == MR_NH_ROUTED ? b.tags : nh.flags & MR_NH_POP_VLAN && b.tags ? 1 : 0;
		cr_assert_eq(o.vlan_cnt, b.tags - pop + push);
		if (push)
			cr_assert_eq(o.vlan_tci[0], nh.vlan_tci);
		for (unsigned t = pop; t < b.tags; t++)
			cr_assert_eq(o.vlan_tci[t - pop + push], in.p.vlan_tci[t]);
		const uint8_t *dst = nh.kind == MR_NH_ROUTED ? nh.dmac : nh.kind == MR_NH_BACK ? b.bytes + 6 : b.bytes;
		const uint8_t *src = nh.kind == MR_NH_ROUTED ? nh.smac : nh.kind == MR_NH_BACK ? b.bytes : b.bytes + 6;
		cr_assert(!memcmp(w.frame, dst, 6) && !memcmp(w.frame + 6, src, 6), "packet %u", i);
		if (nh.encap)
			check_encap(&w, &b, &in, &nh);
		else
			cr_assert(!memcmp(w.frame + o.l3_off, b.bytes + b.l3_off, b.len - b.l3_off), "packet %u", i);
	}
	for (unsigned e = 0; e < 5; e++)
		cr_assert(encaps[e], "encapsulation %u", e);
}

Test(rewrite, source_port_is_the_flows)
{
	struct mr_nexthop nh = { .kind = MR_NH_ROUTED, .encap = MR_ENCAP_GUE4, .outer_dport = 6080 };
	struct rng r = { 3 };
	struct packet b;
	struct work w;
	unsigned different = 0, last = 0;
	do
		packet_build(&r, &b);
	while (b.family != 4 || b.tags);
	for (unsigned i = 0; i < 100; i++) {
		uint64_t hash = rng_next(&r);
		unsigned port[2];
		for (unsigned k = 0; k < 2; k++) {
			take(&w, &b);
			cr_assert(!mr_rewrite_front(&w.frame, &w.len, ROOM, &w.p, &nh, hash));
			port[k] = get16(w.frame + 34);
		}
		cr_assert_eq(port[0], port[1]);
		different += port[0] != last;
		last = port[0];
	}
	cr_assert(different > 90);
}

Test(rewrite, too_long_for_the_outer_length)
{
	struct mr_nexthop nh = { .kind = MR_NH_ROUTED, .encap = MR_ENCAP_IP4 };
	struct mr_parsed p = { .flags = MR_PKT_IP4, .l3_off = 14, .l3_len = 65520 };
	struct mr_rewrite_front f;
	static uint8_t frame[64];
	cr_assert_eq(mr_rewrite_begin(frame, frame + 64, &p, &nh, &f), MR_REWRITE_SIZE);
}
