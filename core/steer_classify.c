/* SPDX-License-Identifier: BSD-2-Clause */
/* steer_classify.c - the evaluation of steer.bpf.c in user space: same image, same lines, another lookup of prefixes. */
#include "core/steer_table.h"

static mr_steer_addr load_addr(const uint8_t *at, unsigned words)
{
	mr_steer_addr a = 0;
	for (unsigned i = 0; i < words; i++)
		a |= (mr_steer_addr)mr_be32(mr_load32(at + 4 * i)) << (96 - 32 * i);
	return a;
}

static const struct mr_steer_bits *find_span(const struct mr_steer_end *end, mr_steer_addr addr)
{
	const struct mr_steer_span *at = end->span;
	/* Halving without a branch on the address: at stays at or before the span that holds it. */
	for (uint32_t n = end->span_cnt; n > 1;) {
		uint32_t half = n / 2;
		at += at[half].from <= addr ? half : 0;
		n -= half;
	}
	return &at->set;
}

static void end_bits(const struct mr_steer_table *t, unsigned side, const struct mr_parsed *p, const uint8_t *frame,
	struct mr_steer_bits *b)
{
	const struct mr_steer_head *h = &t->image->head;
	const uint8_t *ip = frame + p->l3_off;
	if (!(h->fields & 1u << (MR_STEER_SRC + side)) || !mr_steer_any(b))
		return;
	bool v4 = p->flags & MR_PKT_IP4, v6 = p->flags & MR_PKT_IP6;
	const struct mr_steer_end *end = &t->end[v6][side];
	if ((!v4 && !v6) || !end->span_cnt) {
		mr_steer_and(b, &h->absent[MR_STEER_SRC + side]);
		return;
	}
	mr_steer_addr addr = v4 ? load_addr(ip + (side ? 16 : 12), 1) : load_addr(ip + (side ? 24 : 8), 4);
	mr_steer_and(b, find_span(end, addr));
}

int mr_steer_classify(const struct mr_steer_table *t, const struct mr_parsed *p, const void *frame)
{
	struct mr_steer_bits b;
	if (!t->image->head.entry_cnt)
		return -1;
	mr_steer_fields(t->image, p, &b);
	end_bits(t, 1, p, frame, &b);
	end_bits(t, 0, p, frame, &b);
	return mr_steer_resolve(t->image, &b);
}

/* ICMP: of a key one cannot tell the type from an identifier of the same number, and the code is not in it. */
bool mr_steer_key_only(const struct mr_steer_table *t)
{
	return !(t->image->head.fields & (1u << MR_STEER_VLAN | 1u << MR_STEER_ICMP));
}

bool mr_steer_wants_fragment(const struct mr_steer_table *t, const struct mr_parsed *p, const void *frame)
{
	struct mr_parsed any = *p;
	if (mr_steer_unknown_proto(p)) /* of a first one: as the later ones may have it */
		any.proto = MR_IP_DSTOPTS;
	any.flags |= MR_PKT_FRAG | MR_PKT_FRAG_LATER;
	any.flags &= (__u16)~MR_PKT_FRAG_KNOWN;
	return mr_steer_classify(t, &any, frame) >= 0;
}

/* The protocol too: of IPv6 it is the first fragment's that counts. */
bool mr_steer_needs_first(const struct mr_steer_table *t)
{
	return t->image->head.fields &
		(1u << MR_STEER_SPORT | 1u << MR_STEER_DPORT | 1u << MR_STEER_ICMP | 1u << MR_STEER_PROTO);
}
