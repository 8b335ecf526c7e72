/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/explain_frame.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define WORDS_MAX             32
#define FRAGMENT_LATER_OFFSET 185 /* units of 8 bytes: 1480, what follows a first fragment of a 1500 byte packet */

static const struct {
	const char *name;
	uint8_t proto;
} protos[] = {
	{ "tcp", IPPROTO_TCP },
	{ "udp", IPPROTO_UDP },
	{ "sctp", IPPROTO_SCTP },
	{ "icmp", IPPROTO_ICMP },
	{ "icmp6", IPPROTO_ICMPV6 },
	{ "icmpv6", IPPROTO_ICMPV6 },
	{ "gre", IPPROTO_GRE },
	{ "esp", IPPROTO_ESP },
};

static const char *const tcp_flag_names[8] = { "fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr" };

/* ---- reading --------------------------------------------------------------------------------------------------- */

/* Decimal or 0x..., nothing else around it. */
static bool number(const char *s, unsigned long max, unsigned long *out)
{
	if (*s < '0' || *s > '9')
		return false;
	char *end;
	errno = 0;
	unsigned long v = strtoul(s, &end, s[0] == '0' && (s[1] == 'x' || s[1] == 'X') ? 16 : 10);
	if (errno || *end || v > max)
		return false;
	*out = v;
	return true;
}

static int read_proto(const char *s, struct mr_explain_packet *p, struct mr_error *e)
{
	for (size_t i = 0; i < sizeof(protos) / sizeof(protos[0]); i++) {
		if (!strcasecmp(s, protos[i].name)) {
			p->proto = protos[i].proto;
			return 0;
		}
	}
	unsigned long v;
	if (!number(s, 255, &v))
		return mr_error_set(e, -EINVAL,
			"'%s' is no protocol: start with tcp, udp, sctp, icmp, icmp6, gre, esp, a number up to 255, or "
			"ethertype",
			s);
	p->proto = (uint8_t)v;
	return 0;
}

static bool wants_ports(uint8_t proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP;
}

/* ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT.  *port is -1 when none is given. */
static int read_endpoint(char *s, uint8_t *family, uint8_t addr[16], long *port, struct mr_error *e)
{
	char whole[128];
	strncpy(whole, s, sizeof(whole) - 1);
	whole[sizeof(whole) - 1] = '\0';
	char *colon = NULL;
	*port = -1;
	if (*s == '[') {
		char *end = strchr(s, ']');
		if (!end || (end[1] && end[1] != ':'))
			return mr_error_set(e, -EINVAL, "'%s' is not [ADDRESS]:PORT", whole);
		colon = end[1] ? end + 1 : NULL;
		*end = '\0';
		s++;
	} else if (strchr(s, '.')) {
		colon = strrchr(s, ':');
		/* ::ffff:10.0.0.1 is an IPv6 address, not an address and a port */
		if (colon && strchr(s, ':') != colon)
			colon = NULL;
	}
	if (colon) {
		unsigned long v;
		*colon = '\0';
		if (!number(colon + 1, 65535, &v))
			return mr_error_set(e, -EINVAL, "'%s': a port is a number up to 65535", whole);
		*port = (long)v;
	}
	memset(addr, 0, 16);
	if (inet_pton(AF_INET, s, addr) == 1)
		*family = 4;
	else if (inet_pton(AF_INET6, s, addr) == 1)
		*family = 6;
	else
		return mr_error_set(e, -EINVAL,
			"'%s' is not an address: write 10.0.0.1:80, 2001:db8::1 or [2001:db8::1]:80", whole);
	return 0;
}

static int read_ends(char *from, char *to, struct mr_explain_packet *p, struct mr_error *e)
{
	uint8_t family;
	long sport, dport;
	int err = read_endpoint(from, &p->family, p->src, &sport, e);
	if (err)
		return err;
	err = read_endpoint(to, &family, p->dst, &dport, e);
	if (err)
		return err;
	if (family != p->family)
		return mr_error_set(e, -EINVAL, "source and destination are of two address families");
	if ((sport < 0) != (dport < 0))
		return mr_error_set(e, -EINVAL, "a port is missing: give one at each end");
	p->has_ports = sport >= 0;
	if (p->has_ports && !wants_ports(p->proto))
		return mr_error_set(e, -EINVAL, "only tcp, udp and sctp have ports");
	p->sport = p->has_ports ? (uint16_t)sport : 0;
	p->dport = p->has_ports ? (uint16_t)dport : 0;
	if (p->family == 6 && p->proto == IPPROTO_ICMP)
		p->proto = IPPROTO_ICMPV6;
	if (p->family == 4 && p->proto == IPPROTO_ICMPV6)
		return mr_error_set(e, -EINVAL, "icmp6 needs IPv6 addresses");
	p->ethertype = p->family == 4 ? 0x0800 : 0x86dd;
	p->icmp_type = p->family == 4 ? 8 : 128;
	return 0;
}

static int read_flags(char *s, struct mr_explain_packet *p, struct mr_error *e)
{
	p->tcp_flags = 0;
	if (!strcasecmp(s, "none"))
		return 0;
	char *save;
	for (char *w = strtok_r(s, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
		unsigned i = 0;
		while (i < 8 && strcasecmp(w, tcp_flag_names[i]))
			i++;
		if (i == 8)
			return mr_error_set(
				e, -EINVAL, "'%s' is no TCP flag: fin, syn, rst, psh, ack, urg, ece, cwr or none", w);
		p->tcp_flags |= (uint8_t)(1u << i);
	}
	return 0;
}

static int read_fragment(const char *s, struct mr_explain_packet *p, struct mr_error *e)
{
	if (!strcasecmp(s, "first"))
		p->fragment = MR_FRAGMENT_FIRST;
	else if (!strcasecmp(s, "later"))
		p->fragment = MR_FRAGMENT_LATER;
	else if (!strcasecmp(s, "none"))
		p->fragment = MR_FRAGMENT_NONE;
	else
		return mr_error_set(e, -EINVAL, "'%s': a fragment is first, later or none", s);
	return 0;
}

static int read_option(const char *key, char *value, struct mr_explain_packet *p, struct mr_error *e)
{
	static const struct {
		const char *key;
		unsigned long max;
	} numbers[] = { { "length", MR_EXPLAIN_LENGTH_MAX }, { "dscp", 63 }, { "ttl", 255 }, { "vlan", 4095 },
		{ "type", 255 }, { "code", 255 }, { "id", 65535 } };
	const unsigned cnt = sizeof(numbers) / sizeof(numbers[0]);
	if (!strcasecmp(key, "flags"))
		return p->proto == IPPROTO_TCP ? read_flags(value, p, e)
					       : mr_error_set(e, -EINVAL, "only tcp has flags");
	if (!strcasecmp(key, "fragment"))
		return read_fragment(value, p, e);
	unsigned i = 0;
	while (i < cnt && strcasecmp(key, numbers[i].key))
		i++;
	if (i == cnt)
		return mr_error_set(e, -EINVAL,
			"'%s' is no option of a packet: length, flags, dscp, ttl, vlan, type, code, id or fragment",
			key);
	unsigned long v;
	if (!number(value, numbers[i].max, &v))
		return mr_error_set(
			e, -EINVAL, "%s is a number up to %lu, not '%s'", numbers[i].key, numbers[i].max, value);
	bool icmp = p->proto == IPPROTO_ICMP || p->proto == IPPROTO_ICMPV6;
	if (i >= 4 && !(p->family && icmp))
		return mr_error_set(e, -EINVAL, "only icmp and icmp6 have %s", numbers[i].key);
	if (!p->family && i != 0 && i != 3)
		return mr_error_set(e, -EINVAL, "a frame that is not IP has no %s", numbers[i].key);
	switch (i) {
	case 0:
		p->length_bytes = (uint32_t)v;
		break;
	case 1:
		p->dscp = (uint8_t)v;
		break;
	case 2:
		p->ttl = (uint8_t)v;
		break;
	case 3:
		p->vlan = (int)v;
		break;
	case 4:
		p->icmp_type = (uint8_t)v;
		break;
	case 5:
		p->icmp_code = (uint8_t)v;
		break;
	case 6:
		p->icmp_id = (uint16_t)v;
		break;
	default:
		break;
	}
	return 0;
}

/* The words before the options: PROTO SRC > DST, or ethertype N.  *used says how many. */
static int read_head(char **word, unsigned cnt, struct mr_explain_packet *p, unsigned *used, struct mr_error *e)
{
	unsigned long v;
	if (cnt >= 1 && !strcasecmp(word[0], "ethertype")) {
		if (cnt < 2 || !number(word[1], 0xffff, &v) || v < 0x600)
			return mr_error_set(e, -EINVAL, "ethertype wants a number from 0x600 to 0xffff");
		if (v == 0x0800 || v == 0x86dd || v == 0x8100 || v == 0x88a8)
			return mr_error_set(
				e, -EINVAL, "for IP write PROTO SOURCE > DESTINATION, for a VLAN tag add: vlan N");
		p->ethertype = (uint16_t)v;
		*used = 2;
		return 0;
	}
	if (cnt < 4 || (strcmp(word[2], ">") && strcmp(word[2], "->") && strcasecmp(word[2], "to")))
		return mr_error_set(e, -EINVAL,
			"a packet is written: PROTO SOURCE > DESTINATION, as in: tcp 10.0.0.1:1234 > 10.0.0.2:80");
	int err = read_proto(word[0], p, e);
	if (!err)
		err = read_ends(word[1], word[3], p, e);
	*used = 4;
	return err;
}

int mr_explain_frame_parse(const char *text, struct mr_explain_packet *out, struct mr_error *e)
{
	struct mr_explain_packet p = { .vlan = -1,
		.ttl = 64,
		.icmp_id = 1,
		.tcp_flags = 0x02,
		.smac = { 2, 0, 0, 0, 0, 1 },
		.dmac = { 2, 0, 0, 0, 0, 2 } };
	char line[MR_EXPLAIN_TUPLE_MAX];
	size_t n = strlen(text);
	if (n >= sizeof(line))
		return mr_error_set(e, -EINVAL, "the packet is written in more than %zu bytes", sizeof(line) - 1);
	memcpy(line, text, n + 1);
	char *word[WORDS_MAX], *save;
	unsigned cnt = 0, used = 0;
	for (char *w = strtok_r(line, " \t", &save); w; w = strtok_r(NULL, " \t", &save)) {
		if (cnt == WORDS_MAX)
			return mr_error_set(e, -EINVAL, "too many words");
		word[cnt++] = w;
	}
	int err = read_head(word, cnt, &p, &used, e);
	if (err)
		return err;
	for (unsigned i = used; i < cnt; i += 2) {
		if (i + 1 == cnt)
			return mr_error_set(e, -EINVAL, "'%s' wants a value after it", word[i]);
		err = read_option(word[i], word[i + 1], &p, e);
		if (err)
			return err;
	}
	if (p.family && wants_ports(p.proto) && !p.has_ports && p.fragment != MR_FRAGMENT_LATER)
		return mr_error_set(
			e, -EINVAL, "%s wants a port at each end: ADDRESS:PORT, for IPv6 [ADDRESS]:PORT", word[0]);
	*out = p;
	return 0;
}

/* ---- building -------------------------------------------------------------------------------------------------- */

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static uint32_t sum16(uint32_t sum, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i + 1 < n; i += 2)
		sum += (uint32_t)p[i] << 8 | p[i + 1];
	if (n & 1)
		sum += (uint32_t)p[n - 1] << 8;
	return sum;
}

/* RFC 1071 */
static uint16_t fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static unsigned l4_header_bytes(const struct mr_explain_packet *p)
{
	if (p->fragment == MR_FRAGMENT_LATER)
		return 8; /* data: one unit */
	switch (p->proto) {
	case IPPROTO_TCP:
		return 20;
	case IPPROTO_SCTP:
		return 12;
	case IPPROTO_UDP:
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
	case IPPROTO_ESP:
		return 8;
	case IPPROTO_GRE:
		return 4;
	default:
		return 0;
	}
}

static void put_checksum(const struct mr_explain_packet *p, uint8_t *l4, unsigned len, unsigned at)
{
	unsigned addr_bytes = p->family == 4 ? 4 : 16;
	uint32_t sum = 0;
	if (p->proto != IPPROTO_ICMP) {
		sum = sum16(sum, p->src, addr_bytes);
		sum = sum16(sum, p->dst, addr_bytes);
		sum += p->proto + len;
	}
	uint16_t c = fold(sum16(sum, l4, len));
	put16(l4 + at, c || p->proto != IPPROTO_UDP ? c : 0xffff); /* RFC 768: 0 says "none" */
}

/* The frame is zeroed before.  SCTP's CRC32c stays 0: no stage looks at it. */
static void put_l4(const struct mr_explain_packet *p, uint8_t *l4, unsigned len)
{
	if (p->fragment == MR_FRAGMENT_LATER)
		return;
	if (wants_ports(p->proto)) {
		put16(l4, p->sport);
		put16(l4 + 2, p->dport);
	}
	switch (p->proto) {
	case IPPROTO_TCP:
		l4[12] = 5 << 4;
		l4[13] = p->tcp_flags;
		put16(l4 + 14, 65535);
		put_checksum(p, l4, len, 16);
		break;
	case IPPROTO_UDP:
		put16(l4 + 4, len);
		put_checksum(p, l4, len, 6);
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		l4[0] = p->icmp_type;
		l4[1] = p->icmp_code;
		put16(l4 + 4, p->icmp_id);
		put_checksum(p, l4, len, 2);
		break;
	case IPPROTO_GRE:
		put16(l4 + 2, 0x0800);
		break;
	case IPPROTO_ESP:
		put16(l4 + 2, 1);
		put16(l4 + 6, 1);
		break;
	default:
		break;
	}
}

static unsigned put_ip4(const struct mr_explain_packet *p, uint8_t *h, unsigned len)
{
	h[0] = 0x45;
	h[1] = (uint8_t)(p->dscp << 2);
	put16(h + 2, len);
	put16(h + 4, 1);
	if (p->fragment == MR_FRAGMENT_FIRST)
		put16(h + 6, 0x2000);
	else if (p->fragment == MR_FRAGMENT_LATER)
		put16(h + 6, FRAGMENT_LATER_OFFSET);
	h[8] = p->ttl;
	h[9] = p->proto;
	memcpy(h + 12, p->src, 4);
	memcpy(h + 16, p->dst, 4);
	put16(h + 10, fold(sum16(0, h, 20)));
	return 20;
}

static unsigned put_ip6(const struct mr_explain_packet *p, uint8_t *h, unsigned len)
{
	h[0] = (uint8_t)(0x60 | p->dscp >> 2);
	h[1] = (uint8_t)(p->dscp << 6);
	put16(h + 4, len - 40);
	h[6] = p->fragment ? IPPROTO_FRAGMENT : p->proto;
	h[7] = p->ttl;
	memcpy(h + 8, p->src, 16);
	memcpy(h + 24, p->dst, 16);
	if (!p->fragment)
		return 40;
	h[40] = p->proto;
	put16(h + 42, p->fragment == MR_FRAGMENT_FIRST ? 1 : FRAGMENT_LATER_OFFSET << 3);
	h[47] = 1;
	return 48;
}

int mr_explain_frame_build(const struct mr_explain_packet *p, uint8_t *frame, size_t frame_bytes, struct mr_error *e)
{
	unsigned l2 = p->vlan >= 0 ? 18 : 14;
	unsigned l3 = p->family == 4 ? 20 : p->family == 6 ? (p->fragment ? 48 : 40) : 0;
	unsigned least = p->family ? l3 + l4_header_bytes(p) : l2;
	unsigned len = p->length_bytes ? p->length_bytes : least;
	if (len < least)
		return mr_error_set(
			e, -EINVAL, "length %u is less than the headers of this packet need: %u", len, least);
	size_t whole = p->family ? l2 + len : len;
	size_t padded = whole < 60 ? 60 : whole;
	if (padded > frame_bytes)
		return mr_error_set(
			e, -EMSGSIZE, "the frame would have %zu bytes, %zu is the most", padded, frame_bytes);
	memset(frame, 0, padded);
	memcpy(frame, p->dmac, 6);
	memcpy(frame + 6, p->smac, 6);
	if (p->vlan >= 0) {
		put16(frame + 12, 0x8100);
		put16(frame + 14, (unsigned)p->vlan);
	}
	put16(frame + l2 - 2, p->ethertype);
	if (p->family) {
		uint8_t *ip = frame + l2;
		unsigned off = p->family == 4 ? put_ip4(p, ip, len) : put_ip6(p, ip, len);
		put_l4(p, ip + off, len - off);
	}
	return (int)padded;
}
