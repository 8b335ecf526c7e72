/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nat44_world.h - a NAT by hand: hosts on `lan` inside, hosts on `wan` outside, packets in words both ways.
 *
 *     passes(r, "lan", "udp 10.0.0.1:5000 > 192.0.2.9:53", "wan")  is  "udp 203.0.113.1:5000 > 192.0.2.9:53"
 *
 * Both pipelines are wires, so that nothing but the NAT is looked at.
 */
#ifndef NAT44_WORLD_H
#define NAT44_WORLD_H

#include "rig.h"

#include "core/explain_frame.h"
#include "kern/rewrite.h"
#include "pipelines/nat44/nat44.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define WORLD_HEAD "version: 1\ninterfaces:\n  wan: { device: wan0 }\n  lan: { device: lan0 }\nstages:\n"
#define WORLD_TAIL                                                         \
	"pipelines:\n"                                                     \
	"  in: { from: [ wan ], match: auto, stages: [ nat ], to: lan }\n" \
	"  out: { from: [ lan ], match: auto, stages: [ nat ], to: wan }\n"
#define WORLD(options) WORLD_HEAD "  nat: { type: nat44, " options " }\n" WORLD_TAIL
/* One outside address, ports as they are inside. */
#define PLAIN "inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1 ], port_choice: preserve"

/* RFC 1071 over header and pseudo header: a wrong delta shows. */
static inline bool sums_right(const struct rig_frame *f, const struct mr_parsed *p)
{
	const uint8_t *ip = f->data + p->l3_off, *l4 = f->data + p->l4_off;
	unsigned len = p->l3_off + p->l3_len - p->l4_off;
	uint32_t head = 0, sum = p->proto == IPPROTO_ICMP ? 0 : (uint32_t)htons(p->proto) + htons((uint16_t)len);
	for (unsigned i = 0; i < 20; i += 2)
		head += mr_load16(ip + i);
	for (unsigned i = 12; i < 20 && p->proto != IPPROTO_ICMP; i += 2)
		sum += mr_load16(ip + i);
	for (unsigned i = 0; i + 1 < len; i += 2)
		sum += mr_load16(l4 + i);
	sum += len & 1 ? htons((uint16_t)(l4[len - 1] << 8)) : 0;
	bool summed = p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP || p->proto == IPPROTO_ICMP;
	return mr_csum_fold(head) == 0xffff && (!summed || p->flags & MR_PKT_FRAG || mr_csum_fold(sum) == 0xffff);
}

/* A frame in the words rig_say() takes. */
static inline void frame_words(const struct rig_frame *f, char *out, size_t bytes)
{
	struct mr_parsed p;
	char a[INET_ADDRSTRLEN], b[INET_ADDRSTRLEN];
	cr_assert_eq(mr_parse(f->data, f->data + f->len, &p), MR_PARSE_OK);
	cr_assert(sums_right(f, &p));
	inet_ntop(AF_INET, f->data + p.l3_off + 12, a, sizeof(a));
	inet_ntop(AF_INET, f->data + p.l3_off + 16, b, sizeof(b));
	if (p.proto == IPPROTO_ICMP)
		snprintf(out, bytes, "icmp %s > %s type %u id %u", a, b, p.icmp_type, ntohs(p.icmp_id_be));
	else if (p.flags & MR_PKT_PORTS && (p.proto == IPPROTO_TCP || p.proto == IPPROTO_UDP))
		snprintf(out, bytes, "%s %s:%u > %s:%u", p.proto == IPPROTO_TCP ? "tcp" : "udp", a, ntohs(p.sport_be),
			b, ntohs(p.dport_be));
	else
		snprintf(out, bytes, "%u %s > %s", p.proto, a, b);
}

/* What left by the interface last, in words; "nothing". */
static inline const char *left_by(struct rig *r, const char *interface)
{
	static char words[4][128];
	static unsigned at;
	char *w = words[at++ % 4];
	const struct rig_frame *f = rig_last(r, interface);
	if (f)
		frame_words(f, w, sizeof(words[0]));
	else
		strcpy(w, "nothing");
	rig_sent(r, interface);
	return w;
}

static inline const char *passes(struct rig *r, const char *from, const char *packet, const char *to)
{
	rig_sent(r, to);
	rig_say(r, from, packet);
	rig_turn(r);
	return left_by(r, to);
}

#define BECOMES(r, from, packet, to, want)                                          \
	do {                                                                        \
		const char *got_ = passes(r, from, packet, to);                     \
		cr_assert_str_eq(got_, want, "%s: %s, not %s", packet, got_, want); \
	} while (0)

static inline struct nat *nat_of(struct rig *r)
{
	struct mr_plan *plan = rig_plan(r);
	for (unsigned i = 0; i < plan->stage_cnt; i++)
		if (!strcmp(plan->stage[i].name, "nat"))
			return plan->stage[i].self;
	cr_assert(false, "no stage is called nat");
	return NULL;
}

static inline unsigned sessions(struct rig *r)
{
	struct mr_sessions_usage u;
	mr_sessions_usage(r->sh.sessions, &u);
	return u.live;
}

static inline unsigned mappings(struct rig *r)
{
	struct nat_store_usage u;
	nat_store_usage(nat_of(r)->shared->store, &u);
	return u.mapping_cnt;
}

static inline unsigned ports_resting(struct rig *r, unsigned number)
{
	struct nat_address_usage u;
	cr_assert(nat_store_address_usage(nat_of(r)->shared->store, number, &u));
	return u.resting[NAT_TCP] + u.resting[NAT_UDP] + u.resting[NAT_ICMP];
}

/* Sessions of subscribers the store still counts. */
static inline unsigned subscriber_sessions(struct rig *r)
{
	struct nat_subscriber_usage u;
	unsigned n = 0;
	for (uint32_t at = 0; nat_store_next_subscriber(nat_of(r)->shared->store, &at, &u);)
		n += u.session_cnt;
	return n;
}

/* The workers' clock: ports and blocks rest by it. */
static inline uint32_t clock_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint32_t)((uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000);
}

static inline void end_sessions(struct rig *r)
{
	uint32_t idx;
	while ((idx = mr_sessions_next(r->sh.sessions, 1)) != 0)
		mr_session_end(r->sh.sessions, 0, idx, clock_ms());
	rig_turn(r);
}

/* At the end of every test: what sessions took is given back, and every packet has an outcome. */
static inline void end_world(struct rig *r)
{
	cr_assert(rig_adds_up(r));
	end_sessions(r);
	cr_assert_eq(sessions(r), 0);
	cr_assert_eq(mappings(r), 0, "%u mappings are left", mappings(r));
	cr_assert_eq(subscriber_sessions(r), 0);
	rig_destroy(r);
}

/* An ICMP error from `src` to `dst` that quotes the packet, in words: its header and the first `l4_bytes` of what follows. */
static inline void say_error(struct rig *r, const char *interface, const char *src, const char *dst, uint8_t type,
	uint8_t code, const char *quoted, unsigned l4_bytes)
{
	uint8_t inner[MR_EXPLAIN_FRAME_MAX], frame[256] = { 0 };
	struct mr_explain_packet p;
	struct mr_error e = { 0 };
	char words[128];
	snprintf(words, sizeof(words), "icmp %s > %s type %u code %u length %u", src, dst, type, code,
		20 + 8 + 20 + l4_bytes);
	cr_assert_eq(mr_explain_frame_parse(quoted, &p, &e), 0, "%s", e.text);
	int len = mr_explain_frame_build(&p, inner, sizeof(inner), &e);
	cr_assert(len > 0, "%s", e.text);
	cr_assert_eq(mr_explain_frame_parse(words, &p, &e), 0, "%s", e.text);
	len = mr_explain_frame_build(&p, frame, sizeof(frame), &e);
	cr_assert(len > 0, "%s", e.text);
	uint8_t *icmp = frame + 14 + 20;
	memset(icmp + 4, 0, 4);
	memcpy(icmp + 8, inner + 14, 20 + l4_bytes);
	icmp[2] = icmp[3] = 0;
	uint32_t sum = 0;
	for (unsigned i = 0; i < 8 + 20 + l4_bytes; i += 2)
		sum += mr_load16(icmp + i);
	uint16_t check = (uint16_t)~mr_csum_fold(sum);
	memcpy(icmp + 2, &check, 2);
	rig_inject(r, interface, 0, frame, (uint32_t)len);
}

#endif
