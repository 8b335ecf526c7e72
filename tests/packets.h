/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * packets.h - frames made up at random from a seed, right in every length and checksum, and what is known about them.
 *
 * Addresses and ports come from small pools, so that entries and keys made from the same pools meet them.  packet_damage() then makes
 * them wrong.  Header-only: included by the tests of parse, rewrite and steer, on both sides of the kernel.
 */
#ifndef MR_TESTS_PACKETS_H
#define MR_TESTS_PACKETS_H

#include "kern/rewrite.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PACKET_MAX 2048

struct rng {
	uint64_t state; /* not 0 */
};

static inline uint64_t rng_next(struct rng *r)
{
	r->state ^= r->state << 13;
	r->state ^= r->state >> 7;
	r->state ^= r->state << 17;
	return r->state * 0x2545f4914f6cdd1dULL;
}

static inline uint32_t rng_below(struct rng *r, uint32_t n)
{
	return (uint32_t)((rng_next(r) >> 32) * n >> 32);
}

struct packet {
	uint8_t bytes[PACKET_MAX];
	uint32_t len;
	uint32_t l3_off, l4_off, l3_len; /* as built, 0 = none */
	uint8_t proto, family, tags;
	bool later, frag;
};

static inline void put16(uint8_t *at, uint32_t v)
{
	at[0] = (uint8_t)(v >> 8);
	at[1] = (uint8_t)v;
}

static inline uint32_t get16(const uint8_t *at)
{
	return (uint32_t)at[0] << 8 | at[1];
}

/* RFC 1071, a byte pair at a time: slow and independent of what is tested. */
static inline uint32_t sum_bytes(const uint8_t *p, uint32_t n, uint32_t sum)
{
	for (uint32_t i = 0; i < n; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static inline uint32_t pseudo_sum(const uint8_t *ip, uint8_t proto, uint32_t l4_len)
{
	uint32_t sum = proto + l4_len;
	return ip[0] >> 4 == 4 ? sum_bytes(ip + 12, 8, sum) : sum_bytes(ip + 8, 32, sum);
}

/* Offset of the checksum in a transport header; -1: it has none, or no sum of this kind. */
static inline int csum_offset(uint8_t proto, uint8_t family)
{
	switch (proto) {
	case 6:
		return 16;
	case 17:
		return 6;
	case 1:
		return family == 4 ? 2 : -1;
	case 58:
		return family == 6 ? 2 : -1;
	default:
		return -1;
	}
}

/* What the whole transport sums up to with its checksum in place: 0xffff when it is right. */
static inline uint32_t l4_sum(const uint8_t *ip, const uint8_t *l4, uint32_t l4_len, uint8_t proto)
{
	return sum_bytes(l4, l4_len, proto == 1 ? 0 : pseudo_sum(ip, proto, l4_len));
}

static inline uint32_t random_port(struct rng *r)
{
	static const uint16_t pool[] = { 22, 53, 80, 443, 1000, 8000, 8080, 8100, 40000, 65535, 0 };
	return rng_below(r, 4) ? pool[rng_below(r, 11)] : rng_below(r, 65536);
}

static inline void random_addr(struct rng *r, uint8_t *a, unsigned family)
{
	memset(a, 0, family == 4 ? 4 : 16);
	if (family == 4) {
		a[0] = rng_below(r, 8) ? 10 : (uint8_t)rng_next(r);
		a[1] = (uint8_t)rng_below(r, 4);
		a[2] = (uint8_t)rng_below(r, 4) * 64;
		a[3] = (uint8_t)rng_next(r);
		return;
	}
	a[0] = 0x20;
	a[1] = 1;
	a[2] = 0x0d;
	a[3] = 0xb8;
	a[5] = (uint8_t)rng_below(r, 4);
	a[7] = (uint8_t)rng_below(r, 4);
	a[8] = (uint8_t)rng_below(r, 2) << 7;
	a[15] = (uint8_t)rng_next(r);
}

static inline uint8_t random_proto(struct rng *r, unsigned family)
{
	static const uint8_t pool[] = { 6, 6, 17, 17, 17, 132, 47, 50, 1, 58, 51, 89, 59 };
	uint32_t i = rng_below(r, 16);
	return i < 13 ? pool[i] : family == 4 ? 1 : 58;
}

/* A transport of l4_len bytes or more at `at`; returns its length. */
static inline uint32_t build_l4(struct rng *r, uint8_t *at, uint8_t proto, unsigned family)
{
	static const uint8_t types4[] = { 8, 0, 13, 14, 15, 16, 17, 18, 3, 4, 5, 11, 12, 9 };
	static const uint8_t types6[] = { 128, 129, 1, 2, 3, 4, 133, 135, 136, 127 };
	uint32_t payload = rng_below(r, 5) ? rng_below(r, 64) : rng_below(r, 900), len = 12 + payload;
	for (uint32_t i = 0; i < 80 + payload; i++)
		at[i] = (uint8_t)rng_next(r);
	put16(at, random_port(r));
	put16(at + 2, random_port(r));
	if (proto == 6) {
		uint32_t hlen = 20 + 4 * (rng_below(r, 3) ? 0 : rng_below(r, 11));
		at[12] = (uint8_t)(hlen / 4 << 4);
		len = hlen + payload;
	} else if (proto == 17) {
		len = 8 + payload;
		put16(at + 4, len);
	} else if ((proto == 1 && family == 4) || (proto == 58 && family == 6)) {
		at[0] = proto == 1 ? types4[rng_below(r, 14)] : types6[rng_below(r, 10)];
		at[1] = (uint8_t)rng_below(r, 4);
		len = 8 + payload;
	}
	return len;
}

/* Fills the checksum of a whole transport; a UDP one is left out (0) now and then. */
static inline void finish_l4(struct rng *r, const uint8_t *ip, uint8_t *l4, uint32_t len, uint8_t proto)
{
	int off = csum_offset(proto, ip[0] >> 4);
	if (off < 0)
		return;
	put16(l4 + off, 0);
	if (proto == 17 && !rng_below(r, 4))
		return;
	uint32_t csum = ~l4_sum(ip, l4, len, proto) & 0xffff;
	put16(l4 + off, proto == 17 && !csum ? 0xffff : csum);
}

static inline void finish_ip4(uint8_t *ip)
{
	uint32_t hlen = (ip[0] & 15) * 4u;
	put16(ip + 10, 0);
	put16(ip + 10, ~sum_bytes(ip, hlen, 0) & 0xffff);
}

/* Cuts the transport to what a fragment carries; returns its new length. */
static inline uint32_t cut_fragment(struct rng *r, struct packet *p, uint8_t *l4, uint32_t len, uint32_t *offset)
{
	p->frag = true;
	*offset = rng_below(r, 2) ? 0 : 1 + rng_below(r, 200);
	if (!*offset)
		return len; /* a first fragment that holds its transport header; MF says more follows */
	p->later = true;
	memset(l4, 0x5a, len);
	return len;
}

static inline void build_ip4(struct rng *r, struct packet *p)
{
	uint8_t *ip = p->bytes + p->l3_off;
	uint32_t hlen = 20 + 4 * (rng_below(r, 4) ? 0 : rng_below(r, 11)), frag = 0;
	memset(ip, 1, hlen); /* options: no-operation */
	p->proto = random_proto(r, 4);
	p->l4_off = p->l3_off + hlen;
	uint8_t *l4 = p->bytes + p->l4_off;
	uint32_t len = build_l4(r, l4, p->proto, 4);
	ip[0] = (uint8_t)(0x40 | hlen / 4);
	ip[1] = (uint8_t)rng_next(r);
	p->l3_len = hlen + len;
	put16(ip + 2, p->l3_len);
	put16(ip + 4, rng_below(r, 65536));
	ip[8] = (uint8_t)(1 + rng_below(r, 255));
	ip[9] = p->proto;
	random_addr(r, ip + 12, 4);
	random_addr(r, ip + 16, 4);
	finish_l4(r, ip, l4, len, p->proto);
	if (!rng_below(r, 6)) {
		cut_fragment(r, p, l4, len, &frag);
		if (!frag || rng_below(r, 2))
			frag |= 0x2000;
	} else if (rng_below(r, 2)) {
		frag = 0x4000;
	}
	put16(ip + 6, frag);
	finish_ip4(ip);
}

static inline void build_ip6(struct rng *r, struct packet *p)
{
	static const uint8_t kinds[] = { 43, 60 };
	uint8_t *ip = p->bytes + p->l3_off, *next = ip + 6;
	uint32_t ext = rng_below(r, 3) ? 0 : rng_below(r, 5), off = 40;
	p->proto = random_proto(r, 6);
	memset(ip, 0, 40);
	put16(ip, 0x6000 | rng_below(r, 4096));
	ip[7] = (uint8_t)(1 + rng_below(r, 255));
	random_addr(r, ip + 8, 6);
	random_addr(r, ip + 24, 6);
	for (uint32_t i = 0; i < ext; i++) {
		uint32_t units = rng_below(r, 3);
		*next = !i && rng_below(r, 2) ? 0 : kinds[rng_below(r, 2)];
		next = ip + off;
		memset(next, 0, 8 + 8 * units);
		next[1] = (uint8_t)units;
		off += 8 + 8 * units;
	}
	uint8_t *frag = NULL;
	if (!rng_below(r, 4)) {
		*next = 44;
		frag = next = ip + off;
		memset(frag, 0, 8);
		put16(frag + 4, rng_below(r, 65536));
		off += 8;
	}
	*next = p->proto;
	p->l4_off = p->l3_off + off;
	uint8_t *l4 = ip + off;
	uint32_t len = build_l4(r, l4, p->proto, 6), offset = 0;
	finish_l4(r, ip, l4, len, p->proto);
	if (frag && rng_below(r, 4)) { /* else atomic */
		cut_fragment(r, p, l4, len, &offset);
		put16(frag + 2, offset << 3 | (!offset || rng_below(r, 2)));
	}
	p->l3_len = off + len;
	put16(ip + 4, p->l3_len - 40);
}

static inline void packet_build(struct rng *r, struct packet *p)
{
	uint32_t kind = rng_below(r, 16), off = 12;
	p->l3_len = p->l4_off = p->proto = 0;
	p->later = p->frag = false;
	for (int i = 0; i < 12; i++)
		p->bytes[i] = (uint8_t)rng_next(r);
	p->tags = (uint8_t)(rng_below(r, 2) ? 0 : rng_below(r, 16) ? rng_below(r, 3) : 3);
	for (unsigned i = 0; i < p->tags; i++, off += 4) {
		put16(p->bytes + off, i + 1 < p->tags ? 0x88a8 : 0x8100);
		put16(p->bytes + off + 2,
			rng_below(r, 4) << 13 | (rng_below(r, 2) ? 10 * rng_below(r, 4) : rng_below(r, 4096)));
	}
	p->l3_off = off + 2;
	p->family = kind < 7 ? 4 : kind < 14 ? 6 : 0;
	put16(p->bytes + off, p->family == 4 ? 0x0800 : p->family == 6 ? 0x86dd : kind == 14 ? 0x0806 : 46);
	if (p->family == 4)
		build_ip4(r, p);
	else if (p->family == 6)
		build_ip6(r, p);
	else
		memset(p->bytes + p->l3_off, 0, 46);
	p->len = p->l3_off + (p->family ? p->l3_len : 46);
	uint32_t padding = rng_below(r, 3) ? 0 : rng_below(r, 24);
	memset(p->bytes + p->len, 0xee, padding);
	p->len += padding;
}

/* Makes it wrong: some bytes of the headers, and often its end cut off. */
static inline void packet_damage(struct rng *r, struct packet *p)
{
	uint32_t n = rng_below(r, 4), heads = p->len < 96 ? p->len : 96;
	for (uint32_t i = 0; i < n; i++)
		p->bytes[12 + rng_below(r, heads - 12)] = (uint8_t)rng_next(r);
	if (!rng_below(r, 2))
		return;
	p->len = 1 + rng_below(r, p->len);
	/* Now and then the IP header agrees with the cut, so that what is behind it is what is short. */
	if (p->tags <= 2 && rng_below(r, 2) && p->family == 4 && p->len >= p->l3_off + 20)
		put16(p->bytes + p->l3_off + 2, p->len - p->l3_off);
	if (p->tags <= 2 && rng_below(r, 2) && p->family == 6 && p->len >= p->l3_off + 40)
		put16(p->bytes + p->l3_off + 4, p->len - p->l3_off - 40);
}

/* ---- rewrites for packets --------------------------------------------------------------------------------------- */

/* New ends for a packet, at random: either address, either port (where the protocol can). */
static inline void random_rewrite4(
	struct rng *r, const struct mr_parsed *p, const struct mr_key4 *k, struct mr_rewrite4 *rw)
{
	*rw = (struct mr_rewrite4){ k->saddr_be, k->daddr_be, k->sport_be, k->dport_be, 0, 0 };
	if (rng_below(r, 2))
		random_addr(r, (uint8_t *)&rw->saddr_be, 4);
	if (rng_below(r, 2))
		random_addr(r, (uint8_t *)&rw->daddr_be, 4);
	bool ports = p->proto == 6 || p->proto == 17 || !rng_below(r, 8);
	if (ports && rng_below(r, 2))
		rw->sport_be = mr_be16(rng_next(r));
	if (ports && rng_below(r, 2))
		rw->dport_be = mr_be16(rng_next(r));
	if (p->flags & MR_PKT_ICMP_QUERY) { /* only the identifier may change */
		rw->sport_be = k->sport_be;
		rw->dport_be = k->dport_be;
		bool request = p->icmp_type == 8 || p->icmp_type == 13 || p->icmp_type == 15 || p->icmp_type == 17;
		*(request ? &rw->sport_be : &rw->dport_be) = mr_be16(rng_next(r));
	}
	mr_rewrite_delta4(k, rw);
}

static inline void random_rewrite6(
	struct rng *r, const struct mr_parsed *p, const struct mr_key6 *k, struct mr_rewrite6 *rw)
{
	memset(rw, 0, sizeof(*rw));
	memcpy(rw->saddr_be, k->saddr_be, 16);
	memcpy(rw->daddr_be, k->daddr_be, 16);
	rw->sport_be = k->sport_be;
	rw->dport_be = k->dport_be;
	if (rng_below(r, 2))
		random_addr(r, (uint8_t *)rw->saddr_be, 6);
	if (rng_below(r, 2))
		random_addr(r, (uint8_t *)rw->daddr_be, 6);
	bool ports = p->proto == 6 || p->proto == 17 || !rng_below(r, 8);
	if (p->flags & MR_PKT_ICMP_QUERY)
		*(p->icmp_type == 128 ? &rw->sport_be : &rw->dport_be) = mr_be16(rng_next(r));
	else if (ports) {
		rw->sport_be = mr_be16(rng_next(r));
		rw->dport_be = mr_be16(rng_next(r));
	}
	mr_rewrite_delta6(k, rw);
}

static inline void random_nexthop(struct rng *r, struct mr_nexthop *nh)
{
	memset(nh, 0, sizeof(*nh));
	nh->kind = rng_below(r, 20) ? 1 + rng_below(r, 4) : MR_NH_NONE;
	nh->flags = (uint8_t)rng_below(r, 4);
	nh->encap = rng_below(r, 2) ? (uint8_t)rng_below(r, 5) : MR_ENCAP_NONE;
	nh->vlan_tci = (uint16_t)rng_next(r);
	for (int i = 0; i < 6; i++) {
		nh->dmac[i] = (uint8_t)rng_next(r);
		nh->smac[i] = (uint8_t)rng_next(r);
	}
	nh->outer_dport = 6080;
	nh->outer_ttl = (uint8_t)rng_below(r, 3) * 60;
	random_addr(r, (uint8_t *)nh->outer_saddr_be, 6);
	random_addr(r, (uint8_t *)nh->outer_daddr_be, 6);
}

#endif
