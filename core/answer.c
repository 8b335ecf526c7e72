/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * answer.c - the ICMP error that a dropped packet is owed, made and sent (core/icmp.h says what may be answered, and the bytes).
 *
 *     packet of a pipeline that routes, dropped ─► due? ─► under the rate? ─► an address of ours ─► a frame back where it came from
 *
 * The packet itself is a counted drop like any other.  What is sent counts apart, under the pair of our own packets (core/stats.h).
 */
#include "core/icmp.h"
#include "core/route.h"
#include "core/turn.h"

#include <string.h>

#define ROOM_BYTES 256 /* in front of the frame, as a received one has it */

_Static_assert(ROOM_BYTES + MR_ICMP_FRAME_MAX <= 2048, "an answer fits the smallest frame");

/* As Linux answers (net/ipv4/route.c ip_error(), net/ipv6/route.c ip6_pkt_drop(), the neighbours' error_report). */
static enum mr_icmp_kind kind_of(unsigned reason, const struct mr_parsed *p)
{
	switch (reason) {
	case MR_REASON_TTL:
		return MR_ICMP_TIME_EXCEEDED;
	case MR_REASON_TOO_BIG:
		return p->flags & MR_PKT_IP6 || p->flags & MR_PKT_DF ? MR_ICMP_TOO_BIG : MR_ICMP_NONE;
	case MR_REASON_NO_ROUTE:
		return MR_ICMP_NET_UNREACHABLE;
	case MR_REASON_UNREACHABLE: /* to an `unreachable` route IPv4 says host unreachable, IPv6 no route */
		return p->flags & MR_PKT_IP6 ? MR_ICMP_NET_UNREACHABLE : MR_ICMP_HOST_UNREACHABLE;
	case MR_REASON_PROHIBIT:
		return MR_ICMP_ADMIN_PROHIBITED;
	case MR_REASON_NEIGHBOUR_FAILED:
		return MR_ICMP_HOST_UNREACHABLE;
	default:
		return MR_ICMP_NONE;
	}
}

static const uint8_t *source_of(const uint8_t *data, const struct mr_parsed *p)
{
	return data + p->l3_off + (p->flags & MR_PKT_IP4 ? 12 : 8);
}

static void send(struct mr_worker *w, uint64_t addr, uint32_t len, unsigned interface_id, enum mr_icmp_kind kind)
{
	const struct mr_frame out = { .addr = addr, .len = len };
	mr_frames_tag(w->sh->frames, addr, MR_OWNER_RX, interface_id, w->idx);
	mr_turn_count(&w->stats->ingress[MR_STATS_OWN].received, 1, len);
	mr_turn_add(&w->stats->icmp.sent[kind], 1);
	mr_transmit_frame(w, &out, interface_id, MR_STATS_OWN);
}

void mr_answer(struct mr_worker *w, const uint8_t *data, uint32_t len, const struct mr_parsed *p, uint8_t ingress,
	unsigned kind, uint32_t mtu)
{
	unsigned interface_id = w->plan->ingress[ingress].interface_id; /* 0: gone while the packet waited */
	const struct mr_plan_interface *pi = &w->plan->interface[interface_id];
	struct mr_stats_icmp *cnt = &w->stats->icmp;
	unsigned family = p->flags & MR_PKT_IP4 ? 4 : 6;
	uint8_t source[16];
	uint64_t addr;
	if (!kind || !mr_icmp_may_answer(data, p, kind)) {
		mr_turn_add(&cnt->not_due, 1);
	} else if (!mr_icmp_limit_pass(w->icmp_limit, data, p, kind, w->pass.now_ns)) {
		mr_turn_add(&cnt->limited, 1);
	} else if (!w->sh->routes || !interface_id || !pi->queue_cnt ||
		!mr_routes_source(w->sh->routes, interface_id, family, source_of(data, p), source) ||
		mr_frames_take(w->magazine, &addr, 1) != 1) {
		mr_turn_add(&cnt->no_source, 1);
	} else {
		addr += ROOM_BYTES;
		len = mr_icmp_build(w->base + addr, data, len, p, kind, mtu, source, pi->mac);
		send(w, addr, len, interface_id, kind);
	}
}

void mr_answer_drop(struct mr_worker *w, const struct mr_frame *f, const uint8_t *data, const struct mr_parsed *p,
	uint8_t ingress, unsigned reason, uint32_t mtu)
{
	enum mr_icmp_kind kind = kind_of(reason, p);
	if (kind)
		mr_answer(w, data, f->len, p, ingress, kind, mtu);
	mr_transmit_drop(w, f, ingress, reason);
}
