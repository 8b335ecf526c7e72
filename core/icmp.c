/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/icmp.h"

#include <string.h>

#define IP4_BYTES       20
#define IP6_BYTES       40
#define ICMP_BYTES      8
#define IP4_ERROR_MAX   576  /* RFC 1812 section 4.3.2.3: as much as fits without exceeding 576 bytes */
#define IP6_ERROR_MAX   1280 /* RFC 4443 section 2.4 c: without exceeding the minimum IPv6 MTU */
#define ICMP4_TYPE_LAST 18   /* types above are of nobody's RFC 792; some of them may be errors */
#define ICMP6_REDIRECT  137

struct code {
	uint8_t type, code;
};

/* RFC 792 and RFC 1812 section 5.2.7; RFC 4443 section 3. */
static const struct code code4[MR_ICMP_KIND_CNT] = {
	[MR_ICMP_TIME_EXCEEDED] = { 11, 0 },
	[MR_ICMP_REASSEMBLY] = { 11, 1 },
	[MR_ICMP_TOO_BIG] = { 3, 4 },
	[MR_ICMP_NET_UNREACHABLE] = { 3, 0 },
	[MR_ICMP_HOST_UNREACHABLE] = { 3, 1 },
	[MR_ICMP_PORT_UNREACHABLE] = { 3, 3 },
	[MR_ICMP_ADMIN_PROHIBITED] = { 3, 13 },
};
static const struct code code6[MR_ICMP_KIND_CNT] = {
	[MR_ICMP_TIME_EXCEEDED] = { 3, 0 },
	[MR_ICMP_REASSEMBLY] = { 3, 1 },
	[MR_ICMP_TOO_BIG] = { 2, 0 },
	[MR_ICMP_NET_UNREACHABLE] = { 1, 0 },
	[MR_ICMP_HOST_UNREACHABLE] = { 1, 3 },
	[MR_ICMP_PORT_UNREACHABLE] = { 1, 4 },
	[MR_ICMP_ADMIN_PROHIBITED] = { 1, 1 },
};

/* One's complement sum of 16-bit words as they lie (RFC 1071), folded. */
static uint32_t csum(const uint8_t *p, uint32_t bytes, uint32_t sum)
{
	uint64_t acc = sum;
	uint16_t last = 0;
	for (; bytes >= 2; bytes -= 2, p += 2)
		acc += mr_load16(p);
	if (bytes)
		memcpy(&last, p, 1);
	acc += last;
	while (acc >> 16)
		acc = (acc & 0xffff) + (acc >> 16);
	return (uint32_t)acc;
}

/* ---- may it be answered ------------------------------------------------------------------------------------------ */

static bool all_zero(const uint8_t *p, unsigned n)
{
	uint8_t any = 0;
	for (unsigned i = 0; i < n; i++)
		any |= p[i];
	return !any;
}

/* RFC 4291 section 2.5.5.2: ::ffff:0:0/96 stands for an IPv4 address inside a host; on a wire it names nobody. */
static bool mapped6(const uint8_t *a)
{
	return all_zero(a, 10) && a[10] == 0xff && a[11] == 0xff;
}

static bool answer4(const uint8_t *ip, uint32_t header_bytes, const struct mr_parsed *p)
{
	const uint8_t *src = ip + 12, *dst = ip + 16;

	/* RFC 1812 section 4.3.2.7: "A packet which fails the IP header validation tests described in Section [5.2.2]".  mr_parse()
	 * has seen to lengths and version; the checksum is looked at here alone. */
	if (csum(ip, header_bytes, 0) != 0xffff)
		return false;
	/* "A packet destined to an IP broadcast or IP multicast address".  Broadcasts of a subnet are the stack's: routes say so.  0/8
	 * and 127/8 are no destinations (section 5.3.7); Linux is silent about them too. */
	if ((dst[0] >= 224 && dst[0] < 240) || (mr_load32(dst) == 0xffffffff) || dst[0] == 0 || dst[0] == 127)
		return false;
	/* "A packet whose source address has a network prefix of zero or is an invalid source address": section 5.3.7 names
	 * broadcast, multicast, loopback and class E. */
	if (src[0] == 0 || src[0] == 127 || src[0] >= 224)
		return false;
	/* "An ICMP error message".  Unknown types are taken for errors, as Linux does: two boxes that disagree would never end. */
	return !(p->flags & MR_PKT_ICMP && (p->flags & MR_PKT_ICMP_ERROR || p->icmp_type > ICMP4_TYPE_LAST));
}

static bool answer6(const uint8_t *ip, const struct mr_parsed *p, enum mr_icmp_kind kind)
{
	const uint8_t *src = ip + 8, *dst = ip + 24;

	/* RFC 4443 section 2.4 e.3: not "a packet destined to an IPv6 multicast address", except for "the Packet Too Big Message [...]
	 * to allow Path MTU discovery to work for IPv6 multicast". */
	if (dst[0] == 0xff && kind != MR_ICMP_TOO_BIG)
		return false;
	/* e.6: "A packet whose source address does not uniquely identify a single node -- e.g., the IPv6 Unspecified Address, an IPv6
	 * multicast address".  RFC 4291 sections 2.5.2, 2.5.3: loopback and unspecified are never on a wire, either way. */
	if (src[0] == 0xff || (all_zero(src, 15) && src[15] <= 1) || mapped6(src))
		return false;
	if ((all_zero(dst, 15) && dst[15] <= 1) || mapped6(dst))
		return false;
	/* e.1: "An ICMPv6 error message"; e.2: "An ICMPv6 redirect message". */
	return !(p->flags & MR_PKT_ICMP && (p->flags & MR_PKT_ICMP_ERROR || p->icmp_type == ICMP6_REDIRECT));
}

bool mr_icmp_may_answer(const void *frame, const struct mr_parsed *p, enum mr_icmp_kind kind)
{
	const uint8_t *mac = frame, *ip = (const uint8_t *)frame + p->l3_off;

	if (kind <= MR_ICMP_NONE || kind >= MR_ICMP_KIND_CNT)
		return false;
	if (p->error != MR_PARSE_OK || !(p->flags & (MR_PKT_IP4 | MR_PKT_IP6)))
		return false;
	/* RFC 1812 section 4.3.2.7: "Any fragment of a datagram other than the first fragment".  RFC 4443 does not say it for IPv6, but
	 * such a fragment names no ports, so the error would reach no flow. */
	if (p->flags & MR_PKT_FRAG_LATER)
		return false;
	/* RFC 1812: "A packet sent as a Link Layer broadcast or multicast"; RFC 4443 section 2.4 e.4, e.5: so with its exception. */
	if (mac[0] & 1 && !(p->flags & MR_PKT_IP6 && kind == MR_ICMP_TOO_BIG))
		return false;
	/* The error goes to the station the frame came from: it must be one. */
	if (mac[6] & 1 || all_zero(mac + 6, 6))
		return false;
	return p->flags & MR_PKT_IP4 ? answer4(ip, (uint32_t)p->l4_off - p->l3_off, p) : answer6(ip, p, kind);
}

/* ---- the error --------------------------------------------------------------------------------------------------- */

/* Back to the station it came from, with the tags it came with.  Returns l3_off. */
static uint32_t put_ethernet(uint8_t *out, const uint8_t *frame, const struct mr_parsed *p, const uint8_t mac[6])
{
	memcpy(out, frame + 6, 6);
	memcpy(out + 6, mac, 6);
	memcpy(out + 12, frame + 12, p->l3_off - 12u);
	return p->l3_off;
}

static void put_icmp(uint8_t *icmp, struct code c, uint32_t rest, const uint8_t *quoted, uint32_t quoted_bytes)
{
	icmp[0] = c.type;
	icmp[1] = c.code;
	mr_store16(icmp + 2, 0);
	mr_store32(icmp + 4, mr_be32(rest));
	memcpy(icmp + ICMP_BYTES, quoted, quoted_bytes);
}

static uint32_t put_ip4(uint8_t *ip, const uint8_t *quoted, uint32_t quoted_bytes, enum mr_icmp_kind kind, uint32_t mtu,
	const void *src_be)
{
	uint32_t len = IP4_BYTES + ICMP_BYTES + quoted_bytes;
	uint8_t *icmp = ip + IP4_BYTES;

	put_icmp(icmp, code4[kind], kind == MR_ICMP_TOO_BIG ? (mtu > 0xffff ? 0xffff : mtu) : 0, quoted, quoted_bytes);
	mr_store16(icmp + 2, (uint16_t)~csum(icmp, ICMP_BYTES + quoted_bytes, 0));
	memset(ip, 0, IP4_BYTES);
	ip[0] = 0x45;
	/* RFC 1812 section 4.3.2.5: the TOS of the packet, precedence 6 (internetwork control).  Without the bits that are ECN's today. */
	ip[1] = (quoted[1] & 0x1c) | 0xc0;
	mr_store16(ip + 2, mr_be16(len));
	/* May be fragmented, so the identification ought to differ from packet to packet; the checksum of what is quoted does. */
	mr_store16(ip + 4, (uint16_t)(mr_load16(icmp + 2) + mr_load16(quoted + 4)));
	ip[8] = 64;
	ip[9] = MR_IP_ICMP;
	memcpy(ip + 12, src_be, 4);
	memcpy(ip + 16, quoted + 12, 4);
	mr_store16(ip + 10, (uint16_t)~csum(ip, IP4_BYTES, 0));
	return len;
}

static uint32_t put_ip6(uint8_t *ip, const uint8_t *quoted, uint32_t quoted_bytes, enum mr_icmp_kind kind, uint32_t mtu,
	const void *src_be)
{
	uint32_t len = ICMP_BYTES + quoted_bytes;
	uint8_t *icmp = ip + IP6_BYTES;

	/* RFC 8200 section 5: nobody's path MTU is below 1280; RFC 8201 section 4 has a receiver ignore less. */
	put_icmp(icmp, code6[kind], kind == MR_ICMP_TOO_BIG ? (mtu < 1280 ? 1280 : mtu) : 0, quoted, quoted_bytes);
	memset(ip, 0, 8);
	ip[0] = 0x60;
	mr_store16(ip + 4, mr_be16(len));
	ip[6] = MR_IP_ICMP6;
	ip[7] = 64;
	memcpy(ip + 8, src_be, 16);
	memcpy(ip + 24, quoted + 8, 16);
	/* RFC 4443 section 2.3: over the pseudo-header of RFC 8200 section 8.1 too; its length and protocol are added as 16-bit words. */
	uint32_t sum = csum(ip + 8, 32, (uint32_t)mr_be16(len) + mr_be16(MR_IP_ICMP6));
	mr_store16(icmp + 2, (uint16_t)~csum(icmp, len, sum));
	return IP6_BYTES + len;
}

uint32_t mr_icmp_build(uint8_t *out, const void *frame, uint32_t frame_bytes, const struct mr_parsed *p,
	enum mr_icmp_kind kind, uint32_t mtu, const void *src_be, const uint8_t mac[6])
{
	const uint8_t *ip = (const uint8_t *)frame + p->l3_off;
	bool v4 = p->flags & MR_PKT_IP4;
	uint32_t room = v4 ? IP4_ERROR_MAX - IP4_BYTES - ICMP_BYTES : IP6_ERROR_MAX - IP6_BYTES - ICMP_BYTES;
	uint32_t quoted = p->l3_len < room ? p->l3_len : room;

	if (kind <= MR_ICMP_NONE || kind >= MR_ICMP_KIND_CNT || !(p->flags & (MR_PKT_IP4 | MR_PKT_IP6)))
		return 0;
	if (quoted < (v4 ? IP4_BYTES : IP6_BYTES) || p->l3_off + quoted > frame_bytes)
		return 0;
	uint32_t l3_off = put_ethernet(out, frame, p, mac);
	return l3_off +
		(v4 ? put_ip4(out + l3_off, ip, quoted, kind, mtu, src_be)
		    : put_ip6(out + l3_off, ip, quoted, kind, mtu, src_be));
}
