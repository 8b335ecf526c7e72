/* SPDX-License-Identifier: BSD-2-Clause */
/* test_rewrite_kern.c - every kind of rewrite in the kernel and here, byte for byte, on generated frames. */
#include "prog_run.h"
#include "tests/packets.h"

#include "rewrite_wrap.skel.h"

#define PACKETS 60000
#define ROOM    256

static unsigned long kinds[5][5], applied, refused, grown, shrunk;

static void choose(struct rng *r, struct rewrite_wrap *w, const struct packet *p)
{
	struct mr_parsed parsed;
	struct mr_key4 k4;
	struct mr_key6 k6;
	mr_parse(p->bytes, p->bytes + p->len, &parsed);
	if (parsed.flags & MR_PKT_IP4) {
		mr_parse_key4(&parsed, p->bytes, MR_ZONE_DEFAULT, &k4);
		random_rewrite4(r, &parsed, &k4, &w->bss->rewrite4);
	}
	if (parsed.flags & MR_PKT_IP6) {
		mr_parse_key6(&parsed, p->bytes, MR_ZONE_DEFAULT, &k6);
		random_rewrite6(r, &parsed, &k6, &w->bss->rewrite6);
	}
	random_nexthop(r, &w->bss->nexthop);
	w->bss->hash = rng_next(r);
	w->bss->flow_flags = rng_below(r, 4) ? MR_FLOW_SNAT : 0;
	w->bss->flow_flags |= rng_below(r, 3) ? 0 : MR_FLOW_NO_TTL;
}

static void compare(struct rewrite_wrap *w, const struct packet *p)
{
	static uint8_t room[ROOM + PACKET_MAX], out[ROOM + PACKET_MAX];
	struct mr_parsed parsed;
	uint8_t *frame = room + ROOM;
	uint32_t len = p->len, out_len = sizeof(out);
	int apply = 0;
	memcpy(frame, p->bytes, len);
	mr_parse(frame, frame + len, &parsed);
	if (parsed.flags & MR_PKT_IP4)
		apply = mr_rewrite_apply4(frame, frame + len, &parsed, &w->bss->rewrite4, w->bss->flow_flags);
	else if (parsed.flags & MR_PKT_IP6)
		apply = mr_rewrite_apply6(frame, frame + len, &parsed, &w->bss->rewrite6, w->bss->flow_flags);
	int front = mr_rewrite_front(&frame, &len, ROOM, &parsed, &w->bss->nexthop, w->bss->hash);
	if (!front && len < 14)
		return;
	int action = prog_run(bpf_program__fd(w->progs.rewrite_wrap), p->bytes, p->len, out, &out_len);
	CHECK(action == 2, "the program could not move the front");
	CHECK(w->bss->apply_err == (unsigned)apply, "%u there, %d here", w->bss->apply_err, apply);
	CHECK(w->bss->begin_err == (unsigned)front || w->bss->finish_err == (unsigned)front, "%u %u there, %d here",
		w->bss->begin_err, w->bss->finish_err, front);
	CHECK(out_len == len, "%u bytes there, %u here", out_len, len);
	CHECK(!memcmp(out, frame, len), "different bytes, kind %u encapsulation %u", w->bss->nexthop.kind,
		w->bss->nexthop.encap);
	applied += !apply;
	refused += apply || front;
	if (!front) {
		kinds[w->bss->nexthop.kind][w->bss->nexthop.encap]++;
		grown += len > p->len;
		shrunk += len < p->len;
	}
}

int main(void)
{
	struct rng r = { 0x7654321 };
	struct packet p;
	libbpf_set_print(NULL);
	struct rewrite_wrap *w = rewrite_wrap__open_and_load();
	if (!w)
		load_failed("rewrite_wrap", -errno);
	print_verified("rewrite_wrap", bpf_program__fd(w->progs.rewrite_wrap));
	for (unsigned i = 0; i < PACKETS; i++) {
		packet_build(&r, &p);
		choose(&r, w, &p);
		if (!(i % 8))
			packet_damage(&r, &p);
		if (p.len >= 14)
			compare(w, &p);
	}
	for (unsigned k = MR_NH_WIRE; k <= MR_NH_ROUTED; k++)
		for (unsigned e = 0; e < 5; e++)
			CHECK(kinds[k][e], "no packet met next hop kind %u with encapsulation %u", k, e);
	CHECK(applied && refused && grown && shrunk, "%lu %lu %lu %lu", applied, refused, grown, shrunk);
	printf("%u packets rewritten alike: %lu applied, %lu refused something, %lu grew, %lu shrank\n", PACKETS,
		applied, refused, grown, shrunk);
	rewrite_wrap__destroy(w);
	return 0;
}
