/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * steer_model.h - match entries at random, and the plainest evaluation of them: entry by entry, condition by condition.
 *
 * The model is written from core/steer.h alone and shares nothing with the compiled tables.
 */
#ifndef MR_TESTS_STEER_MODEL_H
#define MR_TESTS_STEER_MODEL_H

#include "core/steer.h"
#include "tests/packets.h"

/* Entries with the memory they point to. */
struct steer_set {
	struct mr_steer_entry entry[MR_STEER_ENTRIES];
	unsigned cnt;
	struct mr_config_match match[MR_STEER_ENTRIES];
	struct mr_prefix prefix[MR_STEER_ENTRIES][2][3];
	struct mr_range range[MR_STEER_ENTRIES][5][3];
	struct mr_icmp_type icmp[MR_STEER_ENTRIES][2];
};

static inline void random_prefixes(struct rng *r, struct mr_prefix *items, struct mr_prefix_list *l)
{
	static const uint8_t lens4[] = { 0, 8, 15, 16, 18, 24, 32 }, lens6[] = { 0, 32, 48, 64, 65, 128 };
	if (!rng_below(r, 24)) {
		l->set = "empty"; /* a set with nothing in it: no packet satisfies it */
		return;
	}
	l->items = items;
	l->cnt = 1 + rng_below(r, 3);
	for (uint32_t i = 0; i < l->cnt; i++) {
		items[i].family = rng_below(r, 5) < 3 ? 4 : 6;
		items[i].len = items[i].family == 4 ? lens4[rng_below(r, 7)] : lens6[rng_below(r, 6)];
		random_addr(r, items[i].addr, items[i].family);
		for (unsigned bit = items[i].len; bit < (items[i].family == 4 ? 32u : 128u); bit++)
			items[i].addr[bit / 8] &= (uint8_t) ~(0x80 >> bit % 8);
	}
}

static inline void random_ranges(struct rng *r, unsigned kind, struct mr_range *items, struct mr_range_list *l)
{
	static const uint16_t ethertypes[] = { 0x0800, 0x86dd, 0x0806, 46 };
	l->items = items;
	l->cnt = 1 + rng_below(r, 3);
	for (uint32_t i = 0; i < l->cnt; i++) {
		uint32_t lo = kind == 0 ? random_proto(r, rng_below(r, 2) ? 4 : 6)
			: kind == 3     ? ethertypes[rng_below(r, 4)]
			: kind == 4     ? 10 * rng_below(r, 4)
					: random_port(r);
		uint32_t wide = rng_below(r, 3) ? 0 : rng_below(r, kind == 0 ? 20 : 3000),
			 top = kind == 0 ? 255 : 65535;
		items[i] = (struct mr_range){ lo, lo + wide > top ? top : lo + wide };
	}
}

static inline void random_match(struct rng *r, struct steer_set *s, unsigned i)
{
	struct mr_config_match *m = &s->match[i];
	struct mr_range_list *list[] = { &m->proto, &m->sport, &m->dport, &m->ethertype, &m->vlan };
	if (rng_below(r, 2))
		random_prefixes(r, s->prefix[i][0], &m->src);
	if (rng_below(r, 2))
		random_prefixes(r, s->prefix[i][1], &m->dst);
	for (unsigned k = 0; k < 5; k++)
		if (!rng_below(r, k == 0 ? 3 : k < 3 ? 4 : 8))
			random_ranges(r, k, s->range[i][k], list[k]);
	if (!rng_below(r, 10)) {
		m->icmp.items = s->icmp[i];
		m->icmp.cnt = 1 + rng_below(r, 2);
		for (uint32_t k = 0; k < m->icmp.cnt; k++)
			s->icmp[i][k] = (struct mr_icmp_type){ rng_below(r, 2) ? 8 : (uint8_t)(rng_below(r, 140)),
				(int16_t)(rng_below(r, 3) ? -1 : (int)rng_below(r, 4)) };
	}
}

static inline void random_entries(struct rng *r, struct steer_set *s, unsigned cnt)
{
	unsigned pipeline = 0;
	memset(s, 0, sizeof(*s));
	s->cnt = cnt;
	for (unsigned i = 0; i < cnt; i++) {
		random_match(r, s, i);
		pipeline += i && !rng_below(r, 3) && pipeline < MR_MAX_PIPELINES - 1;
		bool first = !i || pipeline != s->entry[i - 1].pipeline;
		bool after_except = !first && s->entry[i - 1].except;
		s->entry[i] = (struct mr_steer_entry){ rng_below(r, 40) ? &s->match[i] : NULL, (uint8_t)pipeline,
			(first || after_except) && !rng_below(r, 3) };
	}
}

/* ---- the model -------------------------------------------------------------------------------------------------- */

static inline bool in_ranges(const struct mr_range_list *l, bool known, uint32_t v)
{
	for (uint32_t i = 0; known && i < l->cnt; i++)
		if (v >= l->items[i].lo && v <= l->items[i].hi)
			return true;
	return !l->cnt;
}

static inline bool in_prefixes(const struct mr_prefix_list *l, unsigned family, const uint8_t *addr)
{
	if (!l->cnt && !l->set)
		return true;
	for (uint32_t i = 0; i < l->cnt; i++) {
		const struct mr_prefix *p = &l->items[i];
		unsigned bit = 0;
		while (p->family == family && bit < p->len && !((p->addr[bit / 8] ^ addr[bit / 8]) & 0x80 >> bit % 8))
			bit++;
		if (p->family == family && bit == p->len)
			return true;
	}
	return false;
}

/* Whether the entry holds, or might: `unknown` fragments of protocols with ports (ICMP) may have any port (type), and count as holding
 * a match entry and not an except entry. */
static inline bool model_entry(
	const struct mr_steer_entry *entry, const struct mr_parsed *p, const uint8_t *frame, bool unknown)
{
	const struct mr_config_match *m = entry->match;
	if (!m)
		return true;
	bool v4 = p->flags & MR_PKT_IP4, v6 = p->flags & MR_PKT_IP6, later = p->flags & MR_PKT_FRAG_LATER;
	const uint8_t *ip = frame + p->l3_off;
	unsigned family = v4 ? 4 : v6 ? 6 : 0;
	bool proto_ports = p->proto == 6 || p->proto == 17 || p->proto == 132;
	bool ext = v6 &&
		(later ? p->proto == 0 || p->proto == 43 || p->proto == 60 : unknown && p->flags & MR_PKT_OPTIONS);
	bool any_port = unknown && (proto_ports || ext) && !entry->except;
	bool any_icmp = unknown && (p->proto == (v4 ? 1 : 58) || ext) && !entry->except;
	/* Of an unknown packet nothing else is known of the transport either. */
	bool ports = p->flags & MR_PKT_PORTS && !unknown, types = p->flags & MR_PKT_ICMP && !unknown;
	bool icmp = !m->icmp.cnt || any_icmp;
	for (uint32_t i = 0; i < m->icmp.cnt && types; i++)
		icmp |= m->icmp.items[i].type == p->icmp_type &&
			(m->icmp.items[i].code < 0 || m->icmp.items[i].code == p->icmp_code);
	return icmp && in_prefixes(&m->src, family, family ? ip + (v4 ? 12 : 8) : NULL) &&
		in_prefixes(&m->dst, family, family ? ip + (v4 ? 16 : 24) : NULL) &&
		((ext && unknown && !entry->except) ||
			in_ranges(&m->proto, p->flags & MR_PKT_PROTO && !(ext && unknown), p->proto)) &&
		(any_port || in_ranges(&m->sport, ports, mr_be16(p->sport_be))) &&
		(any_port || in_ranges(&m->dport, ports, mr_be16(p->dport_be))) &&
		in_ranges(&m->ethertype, p->error != MR_PARSE_SHORT_ETH, p->ethertype) &&
		in_ranges(&m->vlan, p->vlan_cnt, p->vlan_tci[0] & 0xfff);
}

static inline int model_evaluate(
	const struct steer_set *s, const struct mr_parsed *p, const uint8_t *frame, bool unknown)
{
	int struck = -1;
	for (unsigned i = 0; i < s->cnt; i++) {
		if (s->entry[i].pipeline == struck || !model_entry(&s->entry[i], p, frame, unknown))
			continue;
		if (!s->entry[i].except)
			return s->entry[i].pipeline;
		struck = s->entry[i].pipeline;
	}
	return -1;
}

/* By what is known in user space: a later fragment's ports are not. */
static inline int model_classify(const struct steer_set *s, const struct mr_parsed *p, const uint8_t *frame)
{
	return model_evaluate(s, p, frame, p->flags & MR_PKT_FRAG_LATER);
}

/* Whether the kernel sends it up: it reads the ports of no fragment. */
static inline bool model_comes_up(const struct steer_set *s, const struct mr_parsed *p, const uint8_t *frame)
{
	return model_evaluate(s, p, frame, p->flags & MR_PKT_FRAG) >= 0;
}

#endif
