/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/value.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

struct suffix {
	const char *text;
	uint64_t factor;
};

static const struct suffix si[] = { { "", 1 }, { "k", 1000 }, { "M", 1000000 }, { "G", 1000000000 },
	{ "T", 1000000000000 }, { "Ki", 1024 }, { "Mi", 1048576 }, { "Gi", 1073741824 }, { NULL, 0 } };
static const struct suffix durations[] = { { "ns", 1 }, { "us", 1000 }, { "ms", 1000000 }, { "s", 1000000000 },
	{ "m", UINT64_C(60000000000) }, { "h", UINT64_C(3600000000000) }, { "d", UINT64_C(86400000000000) },
	{ NULL, 0 } };

#define FRACTION_SCALE UINT64_C(1000000000)

/* "12.5M" + `tail`: digits, a fraction of up to nine digits, a suffix of the table, then the tail exactly. */
static bool number(const char *text, const struct suffix *table, const char *tail, uint64_t *out)
{
	uint64_t whole = 0, fraction = 0, scale = FRACTION_SCALE;
	const char *p = text;
	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
			__builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole))
			return false;
	if (*p == '.') {
		if (p[1] < '0' || p[1] > '9')
			return false;
		for (p++; *p >= '0' && *p <= '9'; p++) {
			if (scale == 1)
				return false;
			scale /= 10;
			fraction += scale * (uint64_t)(*p - '0');
		}
	}
	for (; table->text; table++) {
		size_t n = strlen(table->text);
		if (strncmp(p, table->text, n) != 0 || strcmp(p + n, tail) != 0)
			continue;
		uint64_t value, part;
		if (__builtin_mul_overflow(whole, table->factor, &value) ||
			__builtin_mul_overflow(fraction, table->factor, &part) || part % FRACTION_SCALE ||
			__builtin_add_overflow(value, part / FRACTION_SCALE, &value))
			return false;
		*out = value;
		return true;
	}
	return false;
}

bool mr_value_uint(const char *text, uint64_t *out)
{
	return number(text, si, "", out);
}

bool mr_value_bytes(const char *text, uint64_t *out)
{
	return number(text, si, "", out) || number(text, si, "B", out);
}

bool mr_value_duration(const char *text, uint64_t *out_ns)
{
	if (strcmp(text, "0") == 0) {
		*out_ns = 0;
		return true;
	}
	return number(text, durations, "", out_ns);
}

const char *mr_value_rate_suffix(const char *unit)
{
	if (unit && (strncmp(unit, "packet", 6) == 0 || strcmp(unit, "pps") == 0))
		return "pps";
	if (unit && (strncmp(unit, "bit", 3) == 0 || strcmp(unit, "bps") == 0))
		return "bps";
	return "/s";
}

bool mr_value_rate(const char *text, const char *unit, uint64_t *out_per_s)
{
	return number(text, si, mr_value_rate_suffix(unit), out_per_s);
}

bool mr_value_bool(const char *text, bool *out)
{
	static const char *const yes[] = { "true", "yes", "on" }, *const no[] = { "false", "no", "off" };
	for (unsigned i = 0; i < 3; i++) {
		if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
			*out = strcmp(text, yes[i]) == 0;
			return true;
		}
	}
	return false;
}

static bool letter_or_digit(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool mr_value_name(const char *text)
{
	if (!letter_or_digit(text[0]))
		return false;
	size_t n = 1;
	for (; text[n]; n++)
		if (n >= 32 || (!letter_or_digit(text[n]) && text[n] != '-' && text[n] != '_'))
			return false;
	return true;
}

/* Dotted quad without leading zeros, up to `/` or the end.  By hand, because files hold a million of them. */
static bool ipv4(const char **text, uint8_t out[4])
{
	const char *p = *text;
	for (unsigned i = 0; i < 4; i++) {
		unsigned v = 0, digits = 0;
		for (; *p >= '0' && *p <= '9' && digits < 4; p++, digits++)
			v = v * 10 + (unsigned)(*p - '0');
		if (!digits || v > 255 || (digits > 1 && p[-(int)digits] == '0'))
			return false;
		out[i] = (uint8_t)v;
		if (i < 3 && *p++ != '.')
			return false;
	}
	if (*p && *p != '/')
		return false;
	*text = p;
	return true;
}

static bool ipv6(const char **text, uint8_t out[16])
{
	char copy[INET6_ADDRSTRLEN];
	size_t n = strcspn(*text, "/");
	if (n >= sizeof(copy))
		return false;
	memcpy(copy, *text, n);
	copy[n] = 0;
	if (inet_pton(AF_INET6, copy, out) != 1)
		return false;
	*text += n;
	return true;
}

static bool host_bits(const struct mr_prefix *p, unsigned full)
{
	unsigned i = p->len / 8;
	if (p->len < full && p->len % 8 && (p->addr[i] & (0xff >> (p->len % 8))))
		return true;
	for (i += p->len % 8 != 0; i < full / 8; i++)
		if (p->addr[i])
			return true;
	return false;
}

bool mr_value_prefix(const char *text, struct mr_prefix *out, uint8_t *family, const char **why)
{
	struct mr_prefix p = { 0 };
	const char *s = text;
	*why = NULL;
	*family = strchr(text, ':') ? 6 : strchr(text, '.') ? 4 : 0;
	if (*family == 0 || (*family == 4 && !ipv4(&s, p.addr)) || (*family == 6 && !ipv6(&s, p.addr)))
		return false;
	unsigned full = *family == 4 ? 32 : 128, len = full;
	if (*s == '/') {
		unsigned digits = 0;
		len = 0;
		for (s++; *s >= '0' && *s <= '9' && digits < 4; s++, digits++)
			len = len * 10 + (unsigned)(*s - '0');
		if (!digits || *s || len > full) {
			*why = full == 32 ? "the length is 0 to 32" : "the length is 0 to 128";
			return false;
		}
	}
	p.family = *family;
	p.len = (uint8_t)len;
	if (host_bits(&p, full)) {
		*why = "bits behind the prefix length are set";
		return false;
	}
	*out = p;
	return true;
}

void mr_value_prefix_print(const struct mr_prefix *p, char *out, size_t bytes)
{
	char address[INET6_ADDRSTRLEN] = "";
	inet_ntop(p->family == 4 ? AF_INET : AF_INET6, p->addr, address, sizeof(address));
	if (p->len == (p->family == 4 ? 32 : 128))
		snprintf(out, bytes, "%s", address);
	else
		snprintf(out, bytes, "%s/%u", address, p->len);
}

int mr_value_prefix_compare(const struct mr_prefix *a, const struct mr_prefix *b)
{
	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	int c = memcmp(a->addr, b->addr, sizeof(a->addr));
	return c ? c : (int)a->len - (int)b->len;
}

static const char *plain_number(const char *p, uint64_t *out)
{
	uint64_t v = 0;
	const char *start = p;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return NULL;
	*out = v;
	return p == start ? NULL : p;
}

bool mr_value_range(const char *text, uint64_t min, uint64_t max, struct mr_range *out)
{
	uint64_t lo, hi;
	const char *p = plain_number(text, &lo);
	if (!p)
		return false;
	hi = lo;
	if (*p == '-')
		p = plain_number(p + 1, &hi);
	if (!p || *p || lo < min || hi > max || lo > hi)
		return false;
	*out = (struct mr_range){ .lo = (uint32_t)lo, .hi = (uint32_t)hi };
	return true;
}

struct word {
	const char *text;
	int number[2]; /* -1 = no second one */
};

static const struct word *word_find(const struct word *w, const char *text)
{
	for (; w->text; w++)
		if (strcmp(w->text, text) == 0)
			return w;
	return NULL;
}

static const struct word protos[] = { { "tcp", { 6, -1 } }, { "udp", { 17, -1 } }, { "icmp", { 1, -1 } },
	{ "icmp6", { 58, -1 } }, { "gre", { 47, -1 } }, { "esp", { 50, -1 } }, { "sctp", { 132, -1 } },
	{ NULL, { 0, 0 } } };

bool mr_value_proto(const char *text, struct mr_range *out)
{
	const struct word *w = word_find(protos, text);
	if (!w)
		return mr_value_range(text, 0, 255, out);
	*out = (struct mr_range){ .lo = (uint32_t)w->number[0], .hi = (uint32_t)w->number[0] };
	return true;
}

static const struct word ethertypes[] = { { "ip", { 0x0800, -1 } }, { "ip6", { 0x86dd, -1 } },
	{ "arp", { 0x0806, -1 } }, { "lldp", { 0x88cc, -1 } }, { "mpls", { 0x8847, -1 } }, { "pppoe", { 0x8864, -1 } },
	{ NULL, { 0, 0 } } };

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'    ? c - '0'
		: c >= 'a' && c <= 'f' ? c - 'a' + 10
		: c >= 'A' && c <= 'F' ? c - 'A' + 10
				       : -1;
}

bool mr_value_ethertype(const char *text, struct mr_range *out)
{
	const struct word *w = word_find(ethertypes, text);
	uint32_t v = 0;
	if (w) {
		v = (uint32_t)w->number[0];
	} else if (text[0] == '0' && text[1] == 'x' && text[2]) {
		for (const char *p = text + 2; *p; p++) {
			if (hex_digit(*p) < 0 || v > 0xfff)
				return false;
			v = v * 16 + (uint32_t)hex_digit(*p);
		}
		if (v < 0x600) /* below is a length, IEEE 802.3 */
			return false;
	} else {
		return mr_value_range(text, 0x600, 0xffff, out);
	}
	*out = (struct mr_range){ .lo = v, .hi = v };
	return true;
}

/* RFC 792 and RFC 4443, 4861.  Echo means the same in both families, so its names stand for both numbers. */
static const struct word icmp_types[] = { { "echo-request", { 8, 128 } }, { "echo-reply", { 0, 129 } },
	{ "unreachable", { 3, -1 } }, { "redirect", { 5, -1 } }, { "time-exceeded", { 11, -1 } },
	{ "parameter-problem", { 12, -1 } }, { "timestamp-request", { 13, -1 } }, { "timestamp-reply", { 14, -1 } },
	{ "unreachable6", { 1, -1 } }, { "packet-too-big", { 2, -1 } }, { "time-exceeded6", { 3, -1 } },
	{ "parameter-problem6", { 4, -1 } }, { "router-solicitation", { 133, -1 } },
	{ "router-advertisement", { 134, -1 } }, { "neighbour-solicitation", { 135, -1 } },
	{ "neighbour-advertisement", { 136, -1 } }, { "redirect6", { 137, -1 } }, { NULL, { 0, 0 } } };

unsigned mr_value_icmp(const char *text, struct mr_icmp_type out[2])
{
	const struct word *w = word_find(icmp_types, text);
	uint64_t type, code;
	if (w) {
		out[0] = (struct mr_icmp_type){ .type = (uint8_t)w->number[0], .code = -1 };
		if (w->number[1] < 0)
			return 1;
		out[1] = (struct mr_icmp_type){ .type = (uint8_t)w->number[1], .code = -1 };
		return 2;
	}
	const char *p = plain_number(text, &type);
	if (!p || type > 255)
		return 0;
	out[0].code = -1;
	if (*p == '/') {
		p = plain_number(p + 1, &code);
		if (!p || code > 255)
			return 0;
		out[0].code = (int16_t)code;
	}
	out[0].type = (uint8_t)type;
	return *p ? 0 : 1;
}

static bool flag_list(const char **text, uint8_t *out)
{
	static const char *const names[] = { "fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr" };
	uint8_t bits = 0;
	for (;;) {
		size_t n = strcspn(*text, ",+/");
		unsigned i = 0;
		while (i < 8 && (strlen(names[i]) != n || strncmp(names[i], *text, n) != 0))
			i++;
		if (i == 8)
			return false;
		bits |= (uint8_t)(1u << i);
		*text += n;
		if (**text != ',' && **text != '+')
			break;
		(*text)++;
		while (**text == ' ')
			(*text)++;
	}
	*out = bits;
	return true;
}

bool mr_value_tcp_flags(const char *text, struct mr_tcp_flags *out)
{
	struct mr_tcp_flags f = { 0 };
	if (strncmp(text, "none/", 5) == 0)
		text += 4;
	else if (!flag_list(&text, &f.set))
		return false;
	f.mask = f.set;
	if (*text == '/') {
		text++;
		if (!flag_list(&text, &f.mask))
			return false;
	}
	if (*text || (f.set & ~f.mask))
		return false;
	*out = f;
	return true;
}

/* Edits (insert, delete, replace) between two words of up to 31 bytes; more when longer. */
static unsigned distance(const char *a, const char *b)
{
	unsigned char row[33];
	size_t n = strlen(a), m = strlen(b);
	if (n > 32 || m > 32)
		return 99;
	for (size_t j = 0; j <= m; j++)
		row[j] = (unsigned char)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned diagonal = row[0];
		row[0] = (unsigned char)i;
		for (size_t j = 1; j <= m; j++) {
			unsigned above = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
			if (above + 1 < best)
				best = above + 1;
			if (row[j - 1] + 1u < best)
				best = row[j - 1] + 1u;
			diagonal = above;
			row[j] = (unsigned char)best;
		}
	}
	return row[m];
}

const char *mr_value_nearest(const char *text, const char *const *words, unsigned cnt)
{
	const char *best = NULL;
	unsigned best_distance = 3;
	size_t n = strlen(text);
	for (unsigned i = 0; i < cnt; i++) {
		unsigned d = distance(text, words[i]);
		if (d < best_distance && d < n) {
			best = words[i];
			best_distance = d;
		}
	}
	if (best)
		return best;
	for (unsigned i = 0; i < cnt && n >= 3; i++) /* interface -> interfaces, cap -> capacity */
		if (strncmp(text, words[i], n) == 0)
			return words[i];
	return NULL;
}
