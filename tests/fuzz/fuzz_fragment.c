/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_fragment.c - any frames in any order to the table of fragments: what it keeps comes out once, in time, and within its bounds; and any
 * IPv4 packet cut: its pieces are packets whose payloads make the whole.
 *
 * Input: records of (time, flags, length, that many bytes of a frame); a shorter last one is the rest.
 */
#include "core/fragment.h"
#include "core/split.h"

#include <stdlib.h>
#include <string.h>

#define HELD_MAX   32
#define FRAMES_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
	if (!holds)
		abort();
}

struct world {
	struct mr_fragments *t;
	uint64_t now_ns;
	uint32_t kept, given;
	uint8_t out[FRAMES_MAX]; /* by number: 1 kept, 2 given */
};

static void drain(struct world *w)
{
	struct mr_fragment_out o;
	while (mr_fragment_next(w->t, &o)) {
		check(o.frame.addr < FRAMES_MAX && w->out[o.frame.addr] == 1);
		check(o.interface_id == (uint8_t)o.frame.addr && o.fallback == 7);
		w->out[o.frame.addr] = 2;
		w->given++;
	}
	struct mr_fragment_usage u;
	mr_fragment_usage(w->t, &u);
	check(w->kept - w->given == u.held_cnt && u.held_cnt <= HELD_MAX);
	check(u.settled_cnt <= MR_FRAGMENT_SETTLED && u.waiting_cnt <= MR_FRAGMENT_WAITING);
	check(mr_fragment_any_held(w->t) == (u.held_cnt != 0));
}

static void see(struct world *w, uint32_t number, const uint8_t *frame, uint32_t len)
{
	struct mr_parsed p;
	struct mr_fragment_key k;
	const struct mr_frame f = { .addr = number, .len = len };
	unsigned reason = MR_REASON_NONE;
	mr_parse(frame, frame + len, &p);
	if (!mr_fragment_follows(&p))
		return;
	int later = p.flags & MR_PKT_FRAG_LATER;
	mr_fragment_key(&p, frame, 1, 3, &k);
	check(mr_fragment_owner(&k, 7) < 7);
	switch (mr_fragment_see(w->t, &k, &p, frame, &f, (uint8_t)number, 7, w->now_ns, &reason)) {
	case MR_FRAGMENT_GO:
		check(!later == !(p.flags & MR_PKT_FRAG_KNOWN) && !reason);
		break;
	case MR_FRAGMENT_KEPT:
		check(later && !reason);
		w->out[number] = 1;
		w->kept++;
		break;
	default:
		check(reason != MR_REASON_NONE);
	}
}

static void cut(const uint8_t *frame, uint32_t len, uint32_t mtu)
{
	struct mr_parsed p, piece, again;
	struct mr_split s;
	if (mr_parse(frame, frame + len, &p) != MR_PARSE_OK || !(p.flags & MR_PKT_IP4))
		return;
	unsigned cnt = mr_split_begin(&s, frame, &p, mtu);
	uint32_t at = p.l4_off;
	uint32_t end = p.frag_off * 8u + p.l3_len - (p.l4_off - p.l3_off);
	check(cnt || mtu < MR_SPLIT_MTU_MIN || p.l3_len > mtu || end > UINT16_MAX);
	check(!cnt || end <= UINT16_MAX);
	for (unsigned i = 0; i < cnt; i++) {
		uint8_t *out = malloc(p.l3_off + mtu);
		uint32_t n = mr_split_next(&s, out, &piece);
		check(n <= p.l3_off + mtu && n == (uint32_t)piece.l3_off + piece.l3_len);
		mr_parse(out, out + n, &again);
		check(again.l4_off == piece.l4_off && again.l3_len == piece.l3_len && again.frag_off == piece.frag_off);
		uint32_t bytes = n - piece.l4_off;
		check(at + bytes <= (uint32_t)p.l3_off + p.l3_len && !memcmp(out + piece.l4_off, frame + at, bytes));
		check(i + 1 == cnt || bytes % 8 == 0);
		at += bytes;
		free(out);
	}
	check(!cnt || at == (uint32_t)p.l3_off + p.l3_len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world w;
	w = (struct world){ .t = mr_fragment_create(HELD_MAX), .now_ns = 1 };
	if (!w.t)
		return 0;
	for (uint32_t number = 0; size > 3 && number < FRAMES_MAX; number++) {
		uint32_t len = data[2], most = (uint32_t)size - 3;
		uint8_t *frame;
		len = len < most ? len : most;
		w.now_ns += (uint64_t)data[0] * data[0] * 1000000;
		frame = malloc(len ? len : 1);
		memcpy(frame, data + 3, len);
		see(&w, number, frame, len);
		cut(frame, len, 60 + data[1] / 2);
		free(frame);
		if (data[1] & 1) {
			mr_fragment_expire(w.t, w.now_ns);
			drain(&w);
		}
		data += 3 + len;
		size -= 3 + len;
	}
	mr_fragment_forget_all(w.t, MR_REASON_STOPPING);
	drain(&w);
	check(w.kept == w.given);
	mr_fragment_destroy(w.t);
	return 0;
}
