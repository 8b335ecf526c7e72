/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/split.h"

#include "core/apply.h"
#include "core/mss.h"

#include <string.h>

#define ROOM_BYTES 256 /* in front of a frame, as a received one has it */

/* The header of the pieces after the first: of the options, those with the copied flag (RFC 791 section 3.1). */
static void copy_options(struct mr_split *s, const uint8_t *ip, uint32_t hlen)
{
	uint32_t n = 20;
	memcpy(s->later, ip, 20);
	for (uint32_t at = 20; at < hlen && ip[at] != 0;) {
		if (ip[at] == 1) { /* no operation: it only aligns */
			at++;
			continue;
		}
		if (at + 2 > hlen || ip[at + 1] < 2 || at + ip[at + 1] > hlen)
			break;
		if (ip[at] & 0x80) {
			memcpy(s->later + n, ip + at, ip[at + 1]);
			n += ip[at + 1];
		}
		at += ip[at + 1];
	}
	while (n % 4)
		s->later[n++] = 0; /* end of options */
	s->later_bytes = n;
	s->later[0] = (uint8_t)(0x40 | n / 4);
}

static uint16_t header_sum(const uint8_t *ip, uint32_t hlen)
{
	uint32_t sum = 0;
	for (uint32_t i = 0; i < hlen; i += 2)
		sum += mr_load16(ip + i);
	return mr_csum_fold(sum);
}

/* Payload of a piece that begins at `at`. */
static uint32_t piece_bytes(const struct mr_split *s, uint32_t at)
{
	uint32_t hlen = at ? s->later_bytes : (uint32_t)s->p->l4_off - s->p->l3_off;
	uint32_t room = s->mtu - hlen, left = s->total - at;
	return left <= room ? left : room & ~7u;
}

unsigned mr_split_begin(struct mr_split *s, const uint8_t *frame, const struct mr_parsed *p, uint32_t mtu)
{
	const uint8_t *ip = frame + p->l3_off;
	uint32_t hlen = (uint32_t)p->l4_off - p->l3_off;
	unsigned cnt = 0;
	if (mtu < MR_SPLIT_MTU_MIN)
		return 0;
	*s = (struct mr_split){ .frame = frame, .p = p, .mtu = mtu, .total = p->l3_len - hlen };
	if (p->frag_off * 8u + s->total > UINT16_MAX) /* a part of what no datagram can be; its offsets would wrap */
		return 0;
	copy_options(s, ip, hlen);
	for (uint32_t at = 0; cnt <= MR_SPLIT_MAX && (at < s->total || !cnt); cnt++)
		at += piece_bytes(s, at);
	return cnt <= MR_SPLIT_MAX ? cnt : 0;
}

uint32_t mr_split_next(struct mr_split *s, uint8_t *out, struct mr_parsed *out_p)
{
	const struct mr_parsed *p = s->p;
	const uint8_t *ip = s->frame + p->l3_off;
	uint32_t first_bytes = (uint32_t)p->l4_off - p->l3_off;
	uint32_t hlen = s->at ? s->later_bytes : first_bytes, n = piece_bytes(s, s->at);
	uint32_t frag = mr_be16(mr_load16(ip + 6));
	uint8_t *to = out + p->l3_off;
	memcpy(out, s->frame, p->l3_off);
	memcpy(to, s->at ? s->later : ip, hlen);
	memcpy(to + hlen, ip + first_bytes + s->at, n);
	frag = (frag & 0xe000) | ((frag & 0x1fff) + s->at / 8);
	if (s->at + n < s->total)
		frag |= 0x2000;
	mr_store16(to + 2, mr_be16(hlen + n));
	mr_store16(to + 6, mr_be16(frag));
	mr_store16(to + 10, 0);
	mr_store16(to + 10, (uint16_t)~header_sum(to, hlen));
	*out_p = *p;
	out_p->l3_len = hlen + n;
	out_p->l4_off = p->l3_off + hlen;
	out_p->frag_off = frag & 0x1fff;
	if (frag & 0x3fff)
		out_p->flags |= MR_PKT_FRAG;
	if (s->at)
		out_p->flags |= MR_PKT_FRAG_LATER | MR_PKT_FRAG_KNOWN;
	if (s->at && hlen == 20)
		out_p->flags &= (__u16)~MR_PKT_OPTIONS;
	s->at += n;
	return p->l3_off + hlen + n;
}

/* ---- sending -------------------------------------------------------------------------------------------------------- */

struct piece {
	struct mr_frame frame;
	uint8_t *data;
};

/* Gives a piece its front.  The same for all pieces of a packet, so that when the first one can be had all can. */
static unsigned give_front(
	struct mr_worker *w, struct piece *x, const struct mr_parsed *p, const struct mr_nexthop *nh, uint64_t hash)
{
	uint8_t *start = x->data;
	unsigned reason = mr_apply(
		&x->data, &x->frame.len, x->frame.addr & w->frame_mask, p, MR_FLOW_NO_TTL, NULL, NULL, nh, hash);
	x->frame.addr += x->data - start;
	return reason;
}

static void send_own(struct mr_worker *w, const struct piece *x, unsigned egress)
{
	mr_turn_count(&w->stats->ingress[MR_STATS_OWN].received, 1, x->frame.len);
	mr_transmit_frame(w, &x->frame, egress, MR_STATS_OWN);
}

/* The packet as it leaves, but for its front. */
static unsigned rewrite(uint8_t *data, uint32_t len, const struct mr_parsed *p, const struct mr_found *how)
{
	const struct mr_nexthop as_it_is = { .kind = MR_NH_WIRE };
	return mr_apply(&data, &len, 0, p, how->st->flags, how->r4, how->r6, &as_it_is, how->hash);
}

void mr_split_send(struct mr_worker *w, const struct mr_frame *f, uint8_t *data, const struct mr_parsed *p,
	uint8_t ingress, const struct mr_found *how, const struct mr_nexthop *nh)
{
	uint64_t addr[MR_SPLIT_MAX];
	struct mr_split s;
	uint32_t outer = mr_rewrite_outer_bytes(nh);
	unsigned cnt = nh->mtu > outer ? mr_split_begin(&s, data, p, nh->mtu - outer) : 0;
	unsigned got = cnt ? mr_frames_take(w->magazine, addr, cnt) : 0;
	unsigned reason = !cnt ? MR_REASON_TOO_BIG : got < cnt ? MR_REASON_NO_FRAMES : MR_REASON_NONE;
	if (!reason)
		reason = rewrite(data, f->len, p, how);
	if (!reason && how->mss)
		mr_mss_clamp(data + p->l4_off, p, how->mss, nh);
	if (!reason && mr_split_begin(&s, data, p, nh->mtu - outer) != cnt) /* the header copied is the rewritten one */
		reason = MR_REASON_TOO_BIG;
	unsigned sent = 0;
	for (; !reason && sent < cnt; sent++) {
		struct mr_parsed piece_p;
		struct piece x = { .frame = { .addr = addr[sent] + ROOM_BYTES } };
		x.data = w->base + x.frame.addr;
		x.frame.len = mr_split_next(&s, x.data, &piece_p);
		reason = give_front(w, &x, &piece_p, nh, how->hash);
		if (reason)
			break;
		mr_frames_tag(w->sh->frames, addr[sent], MR_OWNER_RX, nh->egress, w->idx);
		if (sent)
			send_own(w, &x, nh->egress);
		else
			mr_transmit_frame(w, &x.frame, nh->egress, ingress);
	}
	if (sent < got)
		mr_frames_give(w->magazine, addr + sent, got - sent);
	if (!sent)
		mr_transmit_drop(w, f, ingress, reason);
	else
		mr_transmit_give(w, f->addr);
}
