/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/related.h"

#include "core/batch.h"
#include "core/keys.h"
#include "kern/rewrite.h"

#include <string.h>

#define ICMP_BYTES   8
#define QUOTED_MAX   128 /* RFC 4884: what comes after that may be extensions; all that is changed lies before */
#define QUOTED_LEAST 8   /* RFC 792: bytes behind the IP header */

/* ---- what is quoted ---------------------------------------------------------------------------------------------- */

/* The quoted packet's headers, as far as a key needs them. */
struct quote {
	struct mr_parsed h;
	uint32_t end;
	bool later; /* a fragment after the first */
};

static bool read_ip4(const uint8_t *frame, struct quote *q)
{
	const uint8_t *ip = frame + q->h.l3_off;
	uint32_t hlen = (ip[0] & 15) * 4u;
	if (ip[0] >> 4 != 4 || hlen < 20)
		return false;
	q->h.flags = MR_PKT_IP4;
	q->h.proto = ip[9];
	q->h.l4_off = (uint16_t)(q->h.l3_off + hlen);
	q->later = mr_be16(mr_load16(ip + 6)) & 0x1fff;
	return true;
}

static bool read_ip6(const uint8_t *frame, struct quote *q)
{
	const uint8_t *ip = frame + q->h.l3_off;
	uint32_t off = q->h.l3_off + 40u;
	uint8_t next = ip[6];
	if (ip[0] >> 4 != 6)
		return false;
	while (!q->later &&
		(next == MR_IP_HOPOPTS || next == MR_IP_ROUTING || next == MR_IP_FRAGMENT || next == MR_IP_DSTOPTS)) {
		if (off + 8 > q->end)
			return false;
		const uint8_t *ext = frame + off;
		off += next == MR_IP_FRAGMENT ? 8 : (ext[1] + 1u) * 8;
		q->later = next == MR_IP_FRAGMENT && mr_be16(mr_load16(ext + 2)) >> 3;
		next = ext[0];
	}
	q->h.flags = MR_PKT_IP6;
	q->h.proto = next;
	q->h.l4_off = (uint16_t)off;
	return off <= q->end;
}

static bool has_ports(uint8_t proto)
{
	return proto == MR_IP_TCP || proto == MR_IP_UDP || proto == MR_IP_SCTP;
}

/* Ports, or identifier and type.  False: it has some, and they are not known. */
static bool read_ends(const uint8_t *frame, struct quote *q)
{
	bool icmp = q->h.proto == (q->h.flags & MR_PKT_IP4 ? MR_IP_ICMP : MR_IP_ICMP6);
	if (!icmp && !has_ports(q->h.proto))
		return true;
	if (q->later)
		return false;
	if (icmp)
		return !mr_parse_icmp(frame, frame + q->end, q->end - q->h.l4_off, &q->h) &&
			q->h.flags & MR_PKT_ICMP_QUERY;
	q->h.sport_be = mr_load16(frame + q->h.l4_off);
	q->h.dport_be = mr_load16(frame + q->h.l4_off + 2);
	return true;
}

static bool read_quote(const struct mr_packet *e, struct quote *q)
{
	const struct mr_parsed *outer = e->parsed;
	bool v4 = outer->flags & MR_PKT_IP4;
	uint32_t start = outer->l4_off + ICMP_BYTES, end = (uint32_t)outer->l3_off + outer->l3_len;
	if (outer->error != MR_PARSE_OK || outer->flags & MR_PKT_FRAG_LATER || !(outer->flags & MR_PKT_ICMP_ERROR))
		return false;
	*q = (struct quote){ .h.l3_off = (uint16_t)start, .end = end < start + QUOTED_MAX ? end : start + QUOTED_MAX };
	if (q->end < start + (v4 ? 20u : 40u) || !(v4 ? read_ip4(e->data, q) : read_ip6(e->data, q)))
		return false;
	return (uint32_t)q->h.l4_off + QUOTED_LEAST <= q->end && read_ends(e->data, q);
}

/* ---- checksums: RFC 5508 REQ-3 ------------------------------------------------------------------------------------ */

/* One's complement sum of 16-bit words as they lie (RFC 1071), folded. */
static uint16_t sum_of(const uint8_t *p, uint32_t bytes, uint32_t sum)
{
	uint64_t acc = sum;
	uint16_t last = 0;
	for (; bytes >= 2; bytes -= 2, p += 2)
		acc += mr_load16(p);
	if (bytes)
		memcpy(&last, p, 1);
	for (acc += last; acc >> 16;)
		acc = (acc & 0xffff) + (acc >> 16);
	return (uint16_t)acc;
}

/* The error's own checksum, and that of a quoted IPv4 header; the quoted transport's is not looked at.  A fragment's cannot be known. */
static bool sums_hold(const struct mr_packet *e, const struct quote *q)
{
	const struct mr_parsed *p = e->parsed;
	uint32_t bytes = p->l3_off + p->l3_len - (uint32_t)p->l4_off, sum = 0;
	if (q->h.flags & MR_PKT_IP4) {
		if (sum_of(e->data + q->h.l3_off, (uint32_t)q->h.l4_off - q->h.l3_off, 0) != 0xffff)
			return false;
	} else { /* RFC 4443 section 2.3: a pseudo header */
		uint8_t tail[8] = { 0, 0, (uint8_t)(bytes >> 8), (uint8_t)bytes, 0, 0, 0, MR_IP_ICMP6 };
		sum = sum_of(tail, sizeof(tail), sum_of(e->data + p->l3_off + 8, 32, 0));
	}
	return p->flags & MR_PKT_FRAG || sum_of(e->data + p->l4_off, bytes, sum) == 0xffff;
}

/* ---- whose it is ------------------------------------------------------------------------------------------------- */

static unsigned address_bytes(uint8_t family)
{
	return family == 4 ? 4 : 16;
}

/* An error goes to who sent what it quotes; any other is somebody's invention. */
static bool goes_to_sender(const struct mr_packet *e, const struct mr_flow_key *quoted)
{
	const uint8_t *dst = e->data + e->parsed->l3_off + (quoted->family == 4 ? 16 : 24);
	return !memcmp(dst, mr_key_source(quoted), address_bytes(quoted->family));
}

bool mr_related_find(const struct mr_packet *e, struct mr_related *out)
{
	const struct mr_shared *sh = e->pass->sh;
	uint64_t seed = mr_flows_seed(sh->flows);
	struct mr_flow_key u, key[2];
	enum mr_direction dir;
	struct quote q;
	memset(out, 0, sizeof(*out));
	if (!read_quote(e, &q) || !mr_packet_key(&q.h, e->data, e->zone, seed, &out->quoted) ||
		!goes_to_sender(e, &out->quoted))
		return false;
	u = out->quoted;
	mr_key_reverse(&u, seed);
	out->session = mr_keys_holder(sh->flows, &u, &dir);
	if (!out->session || !sums_hold(e, &q) || mr_keys_of_session(sh->sessions, sh->flows, out->session, key))
		return false;
	unsigned bytes = address_bytes(u.family);
	out->was = key[dir == MR_FORWARD ? MR_REPLY : MR_FORWARD];
	out->changes = !mr_key_equal(&out->was, &out->quoted);
	out->source = memcmp(mr_key_source(&u), mr_key_destination(&out->was), bytes) != 0;
	out->family = u.family;
	out->proto = q.h.proto;
	out->request = q.h.flags & MR_PKT_ICMP_QUERY && mr_parsed_is_request(&q.h);
	out->ip_off = q.h.l3_off;
	out->l4_off = q.h.l4_off;
	out->end = q.end;
	out->found = true;
	return true;
}

/* ---- translating it ---------------------------------------------------------------------------------------------- */

/* What a checksum changes by: over the addresses, as a pseudo header has them, and over all words of the header. */
struct change {
	uint32_t addresses, header;
};

static uint32_t store_address(uint8_t *at, const uint8_t *to, unsigned bytes)
{
	uint32_t sum = 0;
	for (unsigned i = 0; i < bytes; i += 4) {
		sum += mr_csum_change32(mr_load32(at + i), mr_load32(to + i));
		mr_store32(at + i, mr_load32(to + i));
	}
	return sum;
}

static uint32_t store16(uint8_t *at, uint16_t to)
{
	uint32_t sum = mr_csum_change16(mr_load16(at), to);
	mr_store16(at, to);
	return sum;
}

static struct change store_addresses(uint8_t *ip, uint8_t family, const void *src, const void *dst)
{
	unsigned bytes = address_bytes(family), at = family == 4 ? 12 : 8;
	struct change c;
	c.addresses = store_address(ip + at, src, bytes) + store_address(ip + at + bytes, dst, bytes);
	c.header = c.addresses;
	if (family == 4)
		c.header += store16(ip + 10, mr_csum_apply(mr_load16(ip + 10), mr_csum_delta(c.addresses)));
	return c;
}

/* Ports or identifier of the quoted packet, and its checksum when it was quoted.  Returns the change of the words written. */
static uint32_t store_transport(uint8_t *frame, const struct mr_related *r, uint32_t addresses)
{
	uint8_t *l4 = frame + r->l4_off;
	uint32_t ports = 0, at;
	if (has_ports(r->proto))
		ports = store16(l4, mr_key_sport(&r->was)) + store16(l4 + 2, mr_key_dport(&r->was));
	if (r->proto == MR_IP_TCP) {
		at = 16;
	} else if (r->proto == MR_IP_UDP) {
		at = 6;
	} else if (r->proto == (r->family == 4 ? MR_IP_ICMP : MR_IP_ICMP6)) {
		ports = store16(l4 + 4, r->request ? mr_key_sport(&r->was) : mr_key_dport(&r->was));
		at = 2;
	} else {
		return ports;
	}
	if (r->l4_off + at + 2 > r->end)
		return ports;
	uint16_t csum = mr_load16(l4 + at);
	if (r->proto == MR_IP_UDP && !csum) /* none was sent */
		return ports;
	uint16_t now = mr_csum_apply(csum, mr_csum_delta(r->proto == MR_IP_ICMP ? ports : addresses + ports));
	if (r->proto == MR_IP_UDP && !now)
		now = 0xffff;
	return ports + store16(l4 + at, now);
}

void mr_related_apply(const struct mr_packet *e)
{
	const struct mr_related *r = &e->related;
	const struct mr_parsed *p = e->parsed;
	uint8_t *csum = e->data + p->l4_off + 2;
	struct change quoted =
		store_addresses(e->data + r->ip_off, r->family, mr_key_source(&r->was), mr_key_destination(&r->was));
	uint32_t sum = quoted.header + store_transport(e->data, r, quoted.addresses);
	struct change outer = store_addresses(e->data + p->l3_off, r->family, e->tuple.src, e->tuple.dst);
	if (r->family == 6) /* RFC 4443 section 2.3: a pseudo header */
		sum += outer.addresses;
	mr_store16(csum, mr_csum_apply(mr_load16(csum), mr_csum_delta(sum)));
}
