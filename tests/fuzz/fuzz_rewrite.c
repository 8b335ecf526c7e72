/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_rewrite.c - any rewrite and any next hop on any frame: nothing outside the frame and its headroom is touched, a refusal changes
 * nothing, and a checksum is as right after as it was before.
 *
 * Input: struct orders, then the frame.
 */
#include "kern/rewrite.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct orders {
	uint8_t kind, flags, encap, headroom_bytes;
	uint8_t flow_flags; /* bit 0 SNAT, 1 DNAT, 2 NO_TTL */
	uint8_t ports;      /* bit 0 source, 1 destination: take the new ones */
	uint16_t sport_be, dport_be;
	uint8_t addr[32]; /* new addresses, and the outer ones */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
	if (!holds)
		abort();
}

static uint32_t sum(const uint8_t *p, uint32_t n, uint32_t acc)
{
	for (uint32_t i = 0; i < n; i++)
		acc += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	return acc % 0xffff;
}

/* Everything the transport's checksum covers that a rewrite may change; -1: there is none. */
static int transport_sum(const uint8_t *frame, const struct mr_parsed *p)
{
	const uint8_t *ip = frame + p->l3_off, *l4 = frame + p->l4_off;
	int v4 = p->flags & MR_PKT_IP4;
	uint32_t addr = v4 ? sum(ip + 12, 8, 0) : sum(ip + 8, 32, 0);
	if (p->flags & MR_PKT_FRAG_LATER || !(p->flags & (MR_PKT_PORTS | MR_PKT_ICMP_QUERY)) || p->proto == MR_IP_SCTP)
		return -1;
	if (p->proto == MR_IP_UDP && !mr_load16(l4 + 6))
		return -1;
	return (int)sum(l4, p->l3_off + p->l3_len - p->l4_off, p->proto == MR_IP_ICMP ? 0 : addr);
}

static int apply(uint8_t *frame, uint32_t len, const struct mr_parsed *p, const struct orders *o)
{
	uint16_t flags = (o->flow_flags & 1 ? MR_FLOW_SNAT : 0) | (o->flow_flags & 2 ? MR_FLOW_DNAT : 0) |
		(o->flow_flags & 4 ? MR_FLOW_NO_TTL : 0);
	if (p->flags & MR_PKT_IP4) {
		struct mr_key4 k;
		struct mr_rewrite4 rw = { 0 };
		mr_parse_key4(p, frame, MR_ZONE_DEFAULT, &k);
		memcpy(&rw.saddr_be, o->addr, 4);
		memcpy(&rw.daddr_be, o->addr + 4, 4);
		rw.sport_be = o->ports & 1 ? o->sport_be : k.sport_be;
		rw.dport_be = o->ports & 2 ? o->dport_be : k.dport_be;
		if (p->flags & MR_PKT_ICMP_QUERY) { /* of a query only the identifier may change */
			if (p->icmp_type == 8 || p->icmp_type & 1)
				rw.dport_be = k.dport_be;
			else
				rw.sport_be = k.sport_be;
		}
		mr_rewrite_delta4(&k, &rw);
		return mr_rewrite_apply4(frame, frame + len, p, &rw, flags);
	}
	struct mr_key6 k;
	struct mr_rewrite6 rw = { 0 };
	mr_parse_key6(p, frame, MR_ZONE_DEFAULT, &k);
	memcpy(rw.saddr_be, o->addr, 16);
	memcpy(rw.daddr_be, o->addr + 16, 16);
	rw.sport_be = o->ports & 1 ? o->sport_be : k.sport_be;
	rw.dport_be = o->ports & 2 ? o->dport_be : k.dport_be;
	if (p->flags & MR_PKT_ICMP_QUERY) {
		if (p->icmp_type == 128)
			rw.dport_be = k.dport_be;
		else
			rw.sport_be = k.sport_be;
	}
	mr_rewrite_delta6(&k, &rw);
	return mr_rewrite_apply6(frame, frame + len, p, &rw, flags);
}

static void check_apply(
	uint8_t *frame, const uint8_t *before, uint32_t len, const struct mr_parsed *p, const struct orders *o)
{
	int was = p->error ? -1 : transport_sum(frame, p);
	int head = p->flags & MR_PKT_IP4 && !p->error ? (int)sum(frame + p->l3_off, p->l4_off - p->l3_off, 0) : 0;
	if (apply(frame, len, p, o)) {
		check(!memcmp(frame, before, len));
		return;
	}
	check(transport_sum(frame, p) == was);
	if (p->flags & MR_PKT_IP4)
		check((int)sum(frame + p->l3_off, p->l4_off - p->l3_off, 0) == head);
}

static void check_front(uint8_t *frame, uint32_t len, const struct mr_parsed *p, const struct orders *o)
{
	struct mr_nexthop nh = {
		.kind = o->kind % 5, .flags = o->flags & 3, .encap = o->encap % 5, .vlan_tci = o->sport_be
	};
	memcpy(nh.outer_saddr_be, o->addr, 16);
	memcpy(nh.outer_daddr_be, o->addr + 16, 16);
	uint8_t *moved = frame, *copy = malloc(len + 1u);
	uint32_t moved_len = len;
	memcpy(copy, frame, len);
	if (mr_rewrite_front(&moved, &moved_len, o->headroom_bytes, p, &nh, o->dport_be))
		check(moved == frame && moved_len == len && !memcmp(frame, copy, len));
	else
		check(moved_len + (size_t)(moved - frame) == len && frame - moved <= o->headroom_bytes);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct orders o;
	struct mr_parsed p;
	if (size < sizeof(o) || size > 65536)
		return 0;
	memcpy(&o, data, sizeof(o));
	data += sizeof(o);
	uint32_t len = (uint32_t)(size - sizeof(o));
	/* Headroom and frame end where the memory ends, so that a sanitizer sees a step outside. */
	uint8_t *room = calloc(1, o.headroom_bytes + len + !len);
	uint8_t *frame = room + o.headroom_bytes;
	memcpy(frame, data, len);
	mr_parse(frame, frame + len, &p);
	if (p.flags & (MR_PKT_IP4 | MR_PKT_IP6))
		check_apply(frame, data, len, &p, &o);
	check_front(frame, len, &p, &o);
	free(room);
	return 0;
}
