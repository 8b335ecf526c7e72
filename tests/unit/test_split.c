/* SPDX-License-Identifier: BSD-2-Clause */
/* test_split.c - pieces put together again are the packet, byte for byte; the routed path that cuts. */
#include "core/neighbour.h"
#include "core/split.h"
#include "rig.h"
#include "tests/packets.h"

#include <criterion/criterion.h>

#define BIG 1500

struct whole {
	uint8_t bytes[4096];
	bool have[4096];
	uint32_t len;
	bool last;
};

/* Takes a piece in; every byte must come once. */
static void join(struct whole *to, const uint8_t *ip)
{
	uint32_t hlen = (ip[0] & 15) * 4u, frag = get16(ip + 6), from = (frag & 0x1fff) * 8, n = get16(ip + 2) - hlen;
	for (uint32_t i = 0; i < n; i++) {
		cr_assert_not(to->have[from + i], "byte %u came twice", from + i);
		to->have[from + i] = true;
		to->bytes[from + i] = ip[hlen + i];
	}
	if (frag & 0x2000)
		cr_assert_eq(n % 8, 0);
	else
		to->last = true;
	to->len = from + n > to->len ? from + n : to->len;
}

/* An IPv4 packet behind an Ethernet header and tags: random, or with options of all kinds. */
static uint32_t random_ip4(struct rng *r, uint8_t *f, uint32_t l3, uint32_t frag)
{
	static const uint8_t options[] = { 1, 7, 7, 4, 0, 0, 0, 0, 0x94, 4, 0, 0, 1, 0x83, 7, 4, 1, 2, 3, 4, 0, 9, 9,
		9 };
	uint32_t opt = rng_below(r, 3) ? 0 : rng_below(r, 7) * 4, hlen = 20 + opt, n = 1 + rng_below(r, BIG - hlen);
	uint8_t *ip = f + l3;
	if (frag & 0x2000)
		n &= ~7u;
	if (!n)
		n = 8;
	for (uint32_t i = 0; i < l3 + hlen + n; i++)
		f[i] = (uint8_t)rng_next(r);
	put16(f + 12, l3 == 14 ? 0x0800 : 0x8100);
	if (l3 == 18)
		put16(f + 16, 0x0800);
	memcpy(ip + 20, options, opt);
	ip[0] = (uint8_t)(0x40 | hlen / 4);
	put16(ip + 2, hlen + n);
	put16(ip + 6, frag);
	ip[8] = 64;
	ip[9] = 253; /* for experiments, RFC 3692: no transport header to be right */
	finish_ip4(ip);
	return l3 + hlen + n;
}

static void check_piece(const uint8_t *piece, uint32_t len, uint32_t l3, const uint8_t *frame, uint32_t mtu)
{
	const uint8_t *ip = piece + l3, *was = frame + l3;
	uint32_t hlen = (ip[0] & 15) * 4u;
	cr_assert_arr_eq(piece, frame, l3);
	cr_assert_leq(len - l3, mtu);
	cr_assert_eq(len - l3, get16(ip + 2));
	cr_assert_eq(sum_bytes(ip, hlen, 0), 0xffff, "header checksum");
	cr_assert_eq(get16(ip + 4), get16(was + 4));
	cr_assert_eq(ip[1], was[1]);
	cr_assert_arr_eq(ip + 8, was + 8, 2);
	cr_assert_arr_eq(ip + 12, was + 12, 8);
}

Test(split, pieces_make_the_packet_again)
{
	struct rng r = { 99 };
	uint8_t frame[2048], out[2048];
	for (unsigned round = 0; round < 20000; round++) {
		uint32_t l3 = rng_below(&r, 4) ? 14 : 18, off = rng_below(&r, 3) ? 0 : rng_below(&r, 100);
		uint32_t frag = off | (rng_below(&r, 4) ? 0 : 0x2000), mtu = 68 + rng_below(&r, 600);
		uint32_t len = random_ip4(&r, frame, l3, frag);
		struct whole got = { .last = false };
		struct mr_parsed p, piece_p, again;
		struct mr_split s;
		cr_assert_eq(mr_parse(frame, frame + len, &p), MR_PARSE_OK);
		unsigned cnt = mr_split_begin(&s, frame, &p, mtu);
		cr_assert_gt(cnt, 0);
		uint32_t hlen = p.l4_off - p.l3_off;
		for (unsigned i = 0; i < cnt; i++) {
			uint8_t *exact = malloc(l3 + mtu);
			uint32_t n = mr_split_next(&s, exact, &piece_p);
			memcpy(out, exact, n);
			free(exact);
			check_piece(out, n, l3, frame, mtu);
			join(&got, out + l3);
			if (!i)
				cr_assert_arr_eq(
					out + l3 + 20, frame + l3 + 20, hlen - 20, "the first has all options");
			for (uint32_t k = 20; i && k + 1 < (out[l3] & 15) * 4u && out[l3 + k] > 1; k += out[l3 + k + 1])
				cr_assert(out[l3 + k] & 0x80, "an option that is not to be copied");
			/* what it says of itself is what a parser finds */
			mr_parse(out, out + n, &again);
			again.flags |= piece_p.flags & MR_PKT_FRAG_KNOWN;
			piece_p.flags &= cnt > 1 ? 0xffff : again.flags | (__u16)~MR_PKT_FRAG;
			cr_assert_eq(again.flags & ~MR_PKT_OPTIONS, piece_p.flags & ~MR_PKT_OPTIONS, "%x %x",
				again.flags, piece_p.flags);
			cr_assert(again.l4_off == piece_p.l4_off && again.l3_len == piece_p.l3_len &&
				again.frag_off == piece_p.frag_off);
		}
		cr_assert_eq(got.last, !(frag & 0x2000), "more fragments");
		cr_assert_eq(got.len, off * 8 + p.l3_len - hlen);
		cr_assert_arr_eq(got.bytes + off * 8, frame + p.l4_off, p.l3_len - hlen);
		if (p.l3_len <= mtu)
			cr_assert_eq(cnt, 1);
	}
}

Test(split, what_cannot_be)
{
	uint8_t frame[64] = { [12] = 8, [14] = 0x45 };
	struct mr_parsed p;
	struct mr_split s;
	put16(frame + 16, 28);
	frame[23] = 253;
	finish_ip4(frame + 14);
	cr_assert_eq(mr_parse(frame, frame + 42, &p), MR_PARSE_OK);
	cr_assert_eq(mr_split_begin(&s, frame, &p, 67), 0);
	cr_assert_eq(mr_split_begin(&s, frame, &p, 68), 1);
	/* the end of what it is a part of lies beyond 64 KB: an offset has 13 bits, and the next is "more fragments" */
	uint8_t big[14 + 20 + 1000] = { [12] = 8, [14] = 0x45 };
	put16(big + 16, 1020);
	big[23] = 253;
	for (unsigned more = 0; more < 2; more++) {
		put16(big + 20, (more ? 0x2000 : 0) | 0x1fff);
		finish_ip4(big + 14);
		cr_assert_eq(mr_parse(big, big + sizeof(big), &p), MR_PARSE_OK);
		cr_assert_eq(mr_split_begin(&s, big, &p, 576), 0);
	}
	put16(big + 20, (65535 - 1000) / 8);
	finish_ip4(big + 14);
	cr_assert_eq(mr_parse(big, big + sizeof(big), &p), MR_PARSE_OK);
	cr_assert_eq(mr_split_begin(&s, big, &p, 576), 2);
}

/* ---- in the path ------------------------------------------------------------------------------------------------------ */

#define YAML                                                                          \
	"version: 1\ninterfaces:\n  wan: { device: wan0 }\n  lan: { device: lan0 }\n" \
	"pipelines:\n  in: { from: [ wan ], match: all, stages: [], to: lan }\n"

/* The pipeline's end becomes a routed next hop of a small MTU. */
static struct rig *make(uint32_t mtu, uint8_t encap, const struct rig_options *opt)
{
	struct rig *r = rig_create(YAML, opt);
	struct mr_nexthop nh = { .kind = MR_NH_ROUTED,
		.egress = 2,
		.mtu = mtu,
		.encap = encap,
		.dmac = { 2, 1, 1, 1, 1, 1 },
		.smac = { 2, 2, 2, 2, 2, 2 },
		.outer_dport = 6080 };
	nh.outer_saddr_be[0] = 0x0100000a;
	nh.outer_daddr_be[0] = 0x0200000a;
	mr_nexthops_set(r->sh.nexthops, 2, &nh);
	return r;
}

static void joined_equals(struct rig *r, uint32_t skip, uint32_t mtu)
{
	struct rig_queue *q = &r->interface[2].queue[0];
	const struct rig_frame *in = &r->interface[1].queue[0].in.frame[0];
	struct whole got = { .last = false };
	for (unsigned i = 0; i < q->out.cnt; i++) {
		const struct rig_frame *f = &q->out.frame[i];
		cr_assert_leq(f->len - 14, mtu);
		cr_assert_eq(f->data[0], 2);
		join(&got, f->data + 14 + skip);
		cr_assert_eq(sum_bytes(f->data + 14 + skip, 20, 0), 0xffff);
		if (skip)
			cr_assert_eq(sum_bytes(f->data + 14, 20, 0), 0xffff);
	}
	cr_assert(got.last);
	cr_assert_eq(got.len, in->len - 34);
	cr_assert_arr_eq(got.bytes, in->data + 34, got.len);
}

Test(split, a_routed_packet_is_cut_and_counted_once)
{
	struct rig *r = make(600, MR_ENCAP_NONE, NULL);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53 length 1500");
	rig_turn(r);
	joined_equals(r, 0, 600);
	cr_assert_eq(rig_sent(r, "lan"), 3);
	cr_assert_eq(rig_stats(r, "wan", "in").received.packets, 1);
	cr_assert_eq(rig_stats(r, "wan", "in").forwarded.packets, 1);
	rig_say(r, "wan", "tcp 10.0.0.1:1000 > 10.0.0.2:53 length 600");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 1);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(split, inside_the_encapsulation)
{
	struct rig *r = make(600, MR_ENCAP_IP4, NULL);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53 length 1500");
	rig_turn(r);
	joined_equals(r, 20, 600);
	struct rig_list *out = &r->interface[2].queue[0].out;
	for (unsigned i = 0; i < out->cnt; i++)
		for (unsigned k = 0; k < i; k++)
			cr_assert_neq(get16(out->frame[i].data + 18), get16(out->frame[k].data + 18),
				"outer packets of one identification");
	cr_assert_eq(rig_sent(r, "lan"), 3);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(split, without_frames_all_of_it_is_dropped)
{
	struct rig_options opt = { .frames = 64 };
	struct rig *r = make(68, MR_ENCAP_NONE, &opt);
	uint64_t addr[64];
	unsigned n = mr_frames_take_shared(r->sh.frames, -1, addr, 60);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53 length 1500");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 0);
	cr_assert_eq(rig_dropped(r, "wan", "in", "no-frames"), 1);
	mr_frames_give_shared(r->sh.frames, addr, n);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53 length 1500");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 31);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}
