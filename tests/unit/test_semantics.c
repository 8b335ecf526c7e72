/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * docs/semantics.md as tests: whatever is stored, each packet gets the verdict the rules give that packet.
 *
 * The model here is written from the meaning of the rules, not from their implementation: it looks at the description a frame was
 * built from.
 */
#include "rig.h"

#include "core/explain_frame.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RULES   6
#define SETS    250
#define PACKETS 500 /* of each set */
#define TEXT    8192

static uint64_t random_state = 88172645463325252ull;

static uint32_t rnd(uint32_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (uint32_t)(random_state >> 32) % n;
}

static bool chance(unsigned percent)
{
	return rnd(100) < percent;
}

/* ---- rules as the test sees them ----------------------------------------------------------------------------------- */

struct range {
	bool given;
	uint32_t lo, hi;
};

struct rule {
	bool drop;
	int src_host, not_dst_host; /* 10.0.0.N or fd00::N; -1 = any; 0 with a prefix of everything below 4 */
	struct range proto, sport, dport, length, dscp, vlan;
	int fragment; /* -1 any */
	bool flags_given;
	uint8_t flags_set, flags_mask;
	int icmp_type, icmp_code;
	int ethertype; /* 0 any, 4, 6 */
	bool from_wan;
};

static struct range random_range(unsigned percent, uint32_t lo, uint32_t hi)
{
	struct range r = { .given = chance(percent) };
	r.lo = lo + rnd(hi - lo + 1);
	r.hi = r.lo + rnd(hi - r.lo + 1);
	return r;
}

static struct rule random_rule(void)
{
	struct rule r = {
		.drop = chance(50), .fragment = -1, .src_host = -1, .not_dst_host = -1, .icmp_type = -1, .icmp_code = -1
	};
	r.src_host = chance(30) ? (int)rnd(4) : -1;
	r.not_dst_host = chance(15) ? (int)rnd(4) : -1;
	if (chance(40))
		r.proto = (struct range){ true, chance(50) ? 6 : 17, 17 };
	r.dport = random_range(30, 1, 4);
	r.sport = random_range(15, 1, 4);
	r.length = random_range(25, 100, 400);
	r.dscp = random_range(20, 0, 3);
	r.vlan = random_range(10, 5, 7);
	r.fragment = chance(15) ? (int)rnd(2) : -1;
	r.flags_given = chance(15);
	r.flags_mask = 1u << rnd(5);
	r.flags_set = chance(50) ? r.flags_mask : 0;
	if (!r.dport.given && !r.sport.given && chance(15)) {
		r.icmp_type = (int[]){ 8, 8, 3, 14 }[rnd(4)];
		r.icmp_code = chance(50) ? (int)rnd(2) : -1;
	}
	r.ethertype = chance(15) ? (chance(50) ? 4 : 6) : 0;
	r.from_wan = chance(10);
	return r;
}

static void write_range(char *to, const char *key, struct range r)
{
	if (r.given)
		sprintf(to + strlen(to), ", %s: [ %u-%u ]", key, r.lo, r.hi);
}

static const char *flag_name(uint8_t flag)
{
	static const char *const names[] = { "fin", "syn", "rst", "psh", "ack" };
	unsigned i = 0;
	while (i < 4 && flag != 1u << i)
		i++;
	return names[i];
}

static void write_rule(char *to, const struct rule *r)
{
	to += strlen(to);
	sprintf(to, "      - { action: %s", r->drop ? "drop" : "accept");
	if (r->src_host >= 0)
		sprintf(to + strlen(to), ", src: [ 10.0.0.%d, \"fd00::%d\" ]", r->src_host, r->src_host);
	if (r->not_dst_host >= 0)
		sprintf(to + strlen(to), ", not_dst: [ 10.0.0.%d/31, \"fd00::%d/127\" ]", r->not_dst_host & ~1,
			r->not_dst_host & ~1);
	write_range(to, "proto", r->proto);
	write_range(to, "sport", r->sport);
	write_range(to, "dport", r->dport);
	write_range(to, "length", r->length);
	write_range(to, "dscp", r->dscp);
	write_range(to, "vlan", r->vlan);
	if (r->fragment >= 0)
		sprintf(to + strlen(to), ", fragment: %s", r->fragment ? "true" : "false");
	if (r->flags_given)
		sprintf(to + strlen(to), ", tcp_flags: \"%s/%s\"", r->flags_set ? flag_name(r->flags_set) : "none",
			flag_name(r->flags_mask));
	if (r->icmp_type >= 0 && r->icmp_code >= 0)
		sprintf(to + strlen(to), ", icmp: [ \"%d/%d\" ]", r->icmp_type, r->icmp_code);
	else if (r->icmp_type >= 0)
		sprintf(to + strlen(to), ", icmp: [ %d ]", r->icmp_type);
	if (r->ethertype)
		sprintf(to + strlen(to), ", ethertype: %s", r->ethertype == 4 ? "ip" : "ip6");
	if (r->from_wan)
		strcat(to, ", interface: wan");
	strcat(to, " }\n");
}

static void write_config(char *to, const struct rule *rules, unsigned cnt, bool drop)
{
	sprintf(to,
		"version: 1\ninterfaces:\n  wan: { device: wan0 }\n  lan: { device: lan0 }\n"
		"stages:\n  guard:\n    type: filter\n    default: %s\n    rules:\n",
		drop ? "drop" : "accept");
	for (unsigned i = 0; i < cnt; i++)
		write_rule(to, &rules[i]);
	strcat(to,
		"pipelines:\n  in: { from: [ wan ], match: all, stages: [ guard ], to: lan }\n"
		"  out: { from: [ lan ], match: all, stages: [ guard ], to: wan }\n");
}

/* ---- packets -------------------------------------------------------------------------------------------------------- */

/* Few conversations, each in every shape. */
static void random_packet(struct mr_explain_packet *p, unsigned number, bool from_wan)
{
	static const uint8_t protos[] = { 6, 6, 17, 17, 1, 132, 47 };
	memset(p, 0, sizeof(*p));
	p->family = chance(70) ? 4 : 6;
	p->ethertype = p->family == 4 ? 0x0800 : 0x86dd;
	p->proto = protos[rnd(sizeof(protos))];
	if (p->proto == 1 && p->family == 6)
		p->proto = 58;
	p->has_ports = p->proto == 6 || p->proto == 17 || p->proto == 132;
	unsigned a = rnd(2), b = 2 + rnd(2);
	uint8_t *src = p->src, *dst = p->dst;
	if (p->family == 4) {
		memcpy(src, "\x0a\0\0", 3);
		memcpy(dst, "\x0a\0\0", 3);
		src[3] = from_wan ? a : b;
		dst[3] = from_wan ? b : a;
	} else {
		src[0] = dst[0] = 0xfd;
		src[15] = from_wan ? a : b;
		dst[15] = from_wan ? b : a;
	}
	p->sport = p->has_ports ? 1 + rnd(2) : 0;
	p->dport = p->has_ports ? 3 + rnd(2) : 0;
	if (!from_wan) {
		uint16_t was = p->sport;
		p->sport = p->dport;
		p->dport = was;
	}
	p->length_bytes = 120 + rnd(250);
	p->tcp_flags = p->proto == 6 ? 1u << rnd(5) | (chance(50) ? 0x10 : 0) : 0;
	p->dscp = rnd(4);
	p->ttl = 1 + rnd(3);
	if (p->proto == 1) {
		p->icmp_type = (uint8_t[]){ 8, 8, 0, 14, 3 }[rnd(5)];
		p->icmp_code = rnd(2);
		p->icmp_id = (uint16_t[]){ 7, 8, 13 }[rnd(3)]; /* 8 and 13 are also types of requests */
	} else if (p->proto == 58) {
		p->icmp_type = chance(50) ? 128 : 3;
		p->icmp_id = 1;
	}
	p->fragment = chance(80) ? MR_FRAGMENT_NONE : chance(50) ? MR_FRAGMENT_FIRST : MR_FRAGMENT_LATER;
	if (p->fragment != MR_FRAGMENT_NONE) /* what it carries is a multiple of 8 */
		p->length_bytes = (p->family == 4 ? 20 : 48) + (p->length_bytes & ~7u);
	p->vlan = chance(80) ? -1 : 5 + (int)rnd(3);
	p->smac[0] = 2;
	p->smac[4] = number >> 8;
	p->smac[5] = number;
}

static bool in_range(struct range r, uint32_t v)
{
	return !r.given || (v >= r.lo && v <= r.hi);
}

static int host(const struct mr_explain_packet *p, const uint8_t *addr)
{
	return p->family == 4 ? addr[3] : addr[15];
}

static bool rule_holds(const struct rule *r, const struct mr_explain_packet *p, bool from_wan)
{
	bool icmp = p->proto == (p->family == 4 ? 1 : 58);
	if (r->from_wan && !from_wan)
		return false;
	if (r->src_host >= 0 && host(p, p->src) != r->src_host)
		return false;
	if (r->not_dst_host >= 0 && (host(p, p->dst) & ~1) == (r->not_dst_host & ~1))
		return false;
	if (!in_range(r->proto, p->proto) || !in_range(r->length, p->length_bytes) || !in_range(r->dscp, p->dscp))
		return false;
	if (r->sport.given && (!p->has_ports || !in_range(r->sport, p->sport)))
		return false;
	if (r->dport.given && (!p->has_ports || !in_range(r->dport, p->dport)))
		return false;
	if (r->vlan.given && (p->vlan < 0 || !in_range(r->vlan, p->vlan)))
		return false;
	if (r->fragment >= 0 && (p->fragment != MR_FRAGMENT_NONE) != r->fragment)
		return false;
	if (r->flags_given && (p->proto != 6 || (p->tcp_flags & r->flags_mask) != r->flags_set))
		return false;
	if (r->icmp_type >= 0 && (!icmp || p->icmp_type != r->icmp_type))
		return false;
	if (r->icmp_code >= 0 && p->icmp_code != r->icmp_code)
		return false;
	return !r->ethertype || r->ethertype == p->family;
}

static bool model_drops(
	const struct rule *rules, unsigned cnt, bool fallback, const struct mr_explain_packet *p, bool from_wan)
{
	for (unsigned i = 0; i < cnt; i++)
		if (rule_holds(&rules[i], p, from_wan))
			return rules[i].drop;
	return fallback;
}

/* ---- the comparison --------------------------------------------------------------------------------------------------- */

static unsigned collect(struct rig *r, const char *interface, bool *sent)
{
	unsigned cnt = 0;
	for (unsigned q = 0; q < RIG_QUEUES; q++) {
		struct rig_list *l = &r->interface[rig_id(r, interface)].queue[q].out;
		for (unsigned i = 0; i < l->cnt; i++, cnt++)
			sent[l->frame[i].data[10] << 8 | l->frame[i].data[11]] = true;
		l->cnt = 0;
	}
	return cnt;
}

enum when { BEFORE, AFTER };

static void inject_one(struct rig *r, const struct mr_explain_packet *p, uint16_t id, bool from_wan)
{
	uint8_t frame[MR_EXPLAIN_FRAME_MAX];
	struct mr_error e;
	int len = mr_explain_frame_build(p, frame, sizeof(frame), &e);
	cr_assert_gt(len, 0, "%s", e.text);
	if (p->fragment != MR_FRAGMENT_NONE) { /* the identification */
		uint8_t *at = frame + (p->vlan < 0 ? 14 : 18) + (p->family == 4 ? 4 : 44);
		at[0] = id >> 8;
		at[1] = id;
	}
	rig_inject(r, from_wan ? "wan" : "lan", rnd(r->sh.worker_cnt), frame, len);
}

/* A later fragment with its first one, which is nobody's number, before or after it: the rules see the ports of the first in both. */
static void inject(struct rig *r, const struct mr_explain_packet *p, bool from_wan, enum when when)
{
	static uint16_t id; /* of one datagram and no other */
	struct mr_explain_packet first = *p;
	id++;
	first.fragment = MR_FRAGMENT_FIRST;
	first.smac[4] = PACKETS >> 8;
	first.smac[5] = PACKETS & 255;
	if (p->fragment == MR_FRAGMENT_LATER && when == BEFORE)
		inject_one(r, &first, id, from_wan);
	inject_one(r, p, id, from_wan);
	if (p->fragment == MR_FRAGMENT_LATER && when == AFTER)
		inject_one(r, &first, id, from_wan);
}

static void one_round(struct rig *r, const struct rule *rules, unsigned cnt, bool fallback, const char *text)
{
	static struct mr_explain_packet packet[PACKETS];
	static bool from_wan[PACKETS], sent[PACKETS + 1];
	memset(sent, 0, sizeof(sent));
	for (unsigned i = 0; i < PACKETS; i++) {
		from_wan[i] = chance(60);
		random_packet(&packet[i], i, from_wan[i]);
		inject(r, &packet[i], from_wan[i], chance(50) ? BEFORE : AFTER);
		if (chance(10)) /* batches of all sizes */
			rig_turn(r);
	}
	rig_turn(r);
	collect(r, "wan", sent);
	collect(r, "lan", sent);
	for (unsigned i = 0; i < PACKETS; i++) {
		const struct mr_explain_packet *p = &packet[i];
		bool drops = model_drops(rules, cnt, fallback, p, from_wan[i]);
		cr_assert_neq(sent[i], drops,
			"packet %u (IPv%u proto %u %d>%d ports %u>%u length %u dscp %u flags %#x fragment %u vlan %d "
			"icmp %u/%u id %u, %s) "
			"must be %s by\n%s",
			i, p->family, p->proto, host(p, p->src), host(p, p->dst), p->sport, p->dport, p->length_bytes,
			p->dscp, p->tcp_flags, p->fragment, p->vlan, p->icmp_type, p->icmp_code, p->icmp_id,
			from_wan[i] ? "wan" : "lan", drops ? "dropped" : "sent", text);
	}
}

static void compare(unsigned workers)
{
	static struct rule rules[RULES];
	static char text[TEXT];
	struct rig_options opt = { .worker_cnt = workers };
	struct rig *r = NULL;
	uint64_t hits = 0;
	for (unsigned set = 0; set < SETS; set++) {
		unsigned cnt = 1 + rnd(RULES);
		bool fallback = chance(30);
		for (unsigned i = 0; i < cnt; i++)
			rules[i] = random_rule();
		write_config(text, rules, cnt, fallback);
		if (r)
			rig_reload(r, text);
		else
			r = rig_create(text, &opt);
		one_round(r, rules, cnt, fallback, text);
		for (unsigned id = 1; id <= 2; id++)
			for (unsigned q = 0; q < RIG_QUEUES; q++)
				r->interface[id].queue[q].in.cnt = r->interface[id].queue[q].in.next = 0;
		cr_assert(rig_adds_up(r));
	}
	hits = rig_stats(r, "wan", "in").hits + rig_stats(r, "lan", "out").hits;
	/* or nothing would have been tested: many packets were decided by records */
	cr_assert_gt(hits, SETS * PACKETS / 10, "%llu hits", (unsigned long long)hits);
	rig_destroy(r);
}

Test(semantics, each_packet_gets_the_verdict_the_rules_give_it)
{
	compare(1);
}

Test(semantics, and_so_with_two_workers)
{
	random_state ^= 0x5555;
	compare(2);
}
