/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_arrive.c - frames known at once (core/arrive.h) are those that mr_parse() says are of that kind, all of them and no others, and the
 * same is said of them; what mr_apply_arrived4() makes of them is what mr_apply() makes of them.  Frames are exact copies on the heap, so
 * that a sanitizer sees a read past their end.
 */
#include "core/apply.h"
#include "core/arrive.h"
#include "tests/packets.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define FRAMES 400000u
#define ROOM   64u
#define ZONE   0x1230

/* Most frames of the kind sought, some next to it, some anything. */
static void frame(struct rng *r, struct packet *k)
{
	do
		packet_build(r, k);
	while (rng_below(r, 8) &&
		!(k->family == 4 && !k->tags && !k->frag && k->l4_off == 34 &&
			(k->proto == MR_IP_TCP || k->proto == MR_IP_UDP)));
	if (!rng_below(r, 4))
		packet_damage(r, k);
}

static bool of_the_kind(const struct mr_parsed *p)
{
	return p->error == MR_PARSE_OK && !p->vlan_cnt && p->flags & MR_PKT_IP4 &&
		!(p->flags & (MR_PKT_OPTIONS | MR_PKT_FRAG)) && (p->proto == MR_IP_TCP || p->proto == MR_IP_UDP);
}

static void same_parse(const struct mr_parsed *a, const struct mr_parsed *b)
{
	cr_assert(!memcmp(a, b, offsetof(struct mr_parsed, frag_off) + sizeof(a->frag_off)));
	cr_assert_eq(a->frag_id_be, b->frag_id_be);
}

Test(arrive, is_what_parse_says)
{
	struct rng r = { 11 };
	struct packet *k = malloc(sizeof(*k));
	unsigned known = 0, not_known = 0;
	for (unsigned i = 0; i < FRAMES; i++) {
		frame(&r, k);
		uint8_t *copy = malloc(k->len);
		memcpy(copy, k->bytes, k->len);
		struct mr_parsed p, q;
		struct mr_key4 kp, kq;
		memset(&kq, 0xa5, sizeof(kq));
		mr_parse(copy, copy + k->len, &p);
		bool is = mr_arrive4(copy, k->len, ZONE, &q, &kq);
		cr_assert_eq(is, of_the_kind(&p), "frame %u", i);
		*(is ? &known : &not_known) += 1;
		if (is) {
			same_parse(&p, &q);
			mr_parse_key4(&p, copy, mr_parse_zone(&p, ZONE, 0xfff0), &kp);
			cr_assert(!memcmp(&kp, &kq, sizeof(kp)));
			cr_assert(mr_parse_has_key(&p));
			cr_assert_eq(mr_flow_hash4(&kp, 7), mr_flow_hash4(&kq, 7));
		}
		free(copy);
	}
	printf("%u frames known, %u not\n", known, not_known);
	cr_assert(known > FRAMES / 4 && not_known > FRAMES / 8);
	free(k);
}

/* One good frame of each kind, with each byte of its headers set to each value, and cut at each length. */
Test(arrive, each_byte_and_each_length)
{
	struct rng r = { 12 };
	struct packet *k = malloc(sizeof(*k));
	for (unsigned proto = MR_IP_TCP; proto <= MR_IP_UDP; proto += MR_IP_UDP - MR_IP_TCP) {
		do
			packet_build(&r, k);
		while (k->family != 4 || k->tags || k->frag || k->l4_off != 34 || k->proto != proto || k->len > 128);
		unsigned known = 0;
		for (unsigned at = 12; at < 54 && at < k->len; at++) {
			for (unsigned v = 0; v < 256; v++) {
				struct mr_parsed p, q;
				struct mr_key4 key;
				uint8_t was = k->bytes[at];
				k->bytes[at] = (uint8_t)v;
				mr_parse(k->bytes, k->bytes + k->len, &p);
				bool is = mr_arrive4(k->bytes, k->len, 0, &q, &key);
				k->bytes[at] = was;
				cr_assert_eq(is, of_the_kind(&p), "byte %u is %u", at, v);
				if (is)
					same_parse(&p, &q);
				known += is;
			}
		}
		cr_assert_gt(known, 20 * 256u);
		for (uint32_t len = 0; len <= k->len; len++) {
			struct mr_parsed p, q;
			struct mr_key4 key;
			uint8_t *copy = malloc(len ? len : 1);
			memcpy(copy, k->bytes, len);
			mr_parse(copy, copy + len, &p);
			cr_assert_eq(mr_arrive4(copy, len, 0, &q, &key), of_the_kind(&p), "%u bytes", len);
			free(copy);
		}
	}
	free(k);
}

static void random_orders(
	struct rng *r, const struct mr_parsed *p, struct mr_rewrite4 *rw, struct mr_nexthop *nh, const uint8_t *bytes)
{
	struct mr_key4 key;
	mr_parse_key4(p, bytes, 0, &key);
	random_rewrite4(r, p, &key, rw);
	random_nexthop(r, nh);
	nh->kind = MR_NH_ROUTED;
	nh->flags = nh->encap = 0;
	nh->mtu = rng_below(r, 4) ? 1500 : rng_below(r, 2) ? 0 : (uint16_t)(68 + rng_below(r, 200));
}

Test(arrive, is_applied_as_any_other)
{
	struct rng r = { 13 };
	struct packet *k = malloc(sizeof(*k));
	unsigned by_reason[MR_REASON_CNT] = { 0 }, trimmed = 0;
	for (unsigned i = 0; i < FRAMES; i++) {
		uint16_t flags = (rng_below(&r, 2) ? MR_FLOW_SNAT : 0) | (rng_below(&r, 2) ? MR_FLOW_DNAT : 0) |
			(rng_below(&r, 8) ? 0 : MR_FLOW_NO_TTL);
		struct mr_parsed p;
		struct mr_key4 key;
		struct mr_rewrite4 rw;
		struct mr_nexthop nh;
		frame(&r, k);
		if (!rng_below(&r, 16) && k->len > 22)
			k->bytes[22] = (uint8_t)rng_below(&r, 3);
		if (rng_below(&r, 8) && k->family == 4 && !k->tags && k->len >= 34 && k->bytes[14] == 0x45)
			finish_ip4(k->bytes + 14); /* else the sum is mostly wrong after damage */
		if (!mr_arrive4(k->bytes, k->len, 0, &p, &key))
			continue;
		random_orders(&r, &p, &rw, &nh, k->bytes);
		uint8_t *general = malloc(ROOM + k->len), *at = general + ROOM, *mine = malloc(k->len);
		uint32_t len = k->len, my_len = k->len;
		memcpy(at, k->bytes, len);
		memcpy(mine, k->bytes, len);
		cr_assert(mr_apply_front_stays(&nh));
		unsigned reason = mr_apply(&at, &len, ROOM, &p, flags, &rw, NULL, &nh, 1);
		cr_assert_eq(mr_apply_arrived4(mine, &my_len, &p, flags, &rw, &nh), reason, "frame %u", i);
		cr_assert_eq(my_len, len);
		cr_assert(at == general + ROOM && !memcmp(at, mine, k->len), "frame %u", i);
		by_reason[reason]++;
		trimmed += len < k->len;
		free(general);
		free(mine);
	}
	printf("%u carried out, %u trimmed, %u checksum, %u too big, %u TTL\n", by_reason[MR_REASON_NONE], trimmed,
		by_reason[MR_REASON_IP_CHECKSUM], by_reason[MR_REASON_TOO_BIG], by_reason[MR_REASON_TTL]);
	cr_assert(by_reason[MR_REASON_NONE] > FRAMES / 4 && trimmed > FRAMES / 64);
	cr_assert(by_reason[MR_REASON_IP_CHECKSUM] > 1000 && by_reason[MR_REASON_TOO_BIG] > 1000 &&
		by_reason[MR_REASON_TTL] > 1000);
	free(k);
}

/* Whatever would change the front goes the general way. */
Test(arrive, only_next_hops_that_leave_the_front)
{
	struct mr_nexthop nh = { .kind = MR_NH_ROUTED, .egress = 1 };
	cr_assert(mr_apply_front_stays(&nh));
	for (unsigned kind = 0; kind <= MR_NH_UNREACHABLE; kind++) {
		nh.kind = (uint8_t)kind;
		cr_assert_eq(mr_apply_front_stays(&nh), kind == MR_NH_ROUTED);
	}
	nh = (struct mr_nexthop){ .kind = MR_NH_ROUTED, .flags = MR_NH_PUSH_VLAN };
	cr_assert(!mr_apply_front_stays(&nh));
	nh = (struct mr_nexthop){ .kind = MR_NH_ROUTED, .encap = MR_ENCAP_GUE6 };
	cr_assert(!mr_apply_front_stays(&nh));
}
