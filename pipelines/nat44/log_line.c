/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log_line.c - lines of the log and the events they tell of, both ways.
 *
 *     TIME STAGE session-add PROTO INSIDE OUTSIDE REMOTE
 *     TIME STAGE session-delete PROTO INSIDE OUTSIDE REMOTE OUT-PACKETS OUT-BYTES IN-PACKETS IN-BYTES AGE-MS
 *     TIME STAGE block-add|block-delete - INSIDE OUTSIDE LO-HI
 *     TIME STAGE log-start|log-end
 *     TIME STAGE lost COUNT FROM TO
 *
 * and of the first three ` zone=N` at the end where it is not the default one.  Made by hand: a busy box writes a million of them a second.
 */
#include "pipelines/nat44/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define NS_PER_MS 1000000u
#define NS_PER_S  1000000000ull
#define DAY_S     86400u
#define YEAR_MAX  2553 /* 2^64 ns end in the year after */

static const char *const words[NAT_EVENT_KIND_CNT] = {
	[NAT_EVENT_SESSION_ADD] = "session-add",
	[NAT_EVENT_SESSION_DELETE] = "session-delete",
	[NAT_EVENT_BLOCK_ADD] = "block-add",
	[NAT_EVENT_BLOCK_DELETE] = "block-delete",
	[NAT_EVENT_LOG_START] = "log-start",
	[NAT_EVENT_LOG_END] = "log-end",
	[NAT_EVENT_LOST] = "lost",
};

static const struct {
	const char *name;
	uint8_t number;
} protos[] = {
	{ "udp", IPPROTO_UDP },
	{ "tcp", IPPROTO_TCP },
	{ "icmp", IPPROTO_ICMP },
	{ "gre", IPPROTO_GRE },
	{ "esp", IPPROTO_ESP },
	{ "ah", IPPROTO_AH },
	{ "sctp", IPPROTO_SCTP },
};

/* ---- writing ----------------------------------------------------------------------------------------------------- */

static char *put_text(char *at, const char *s)
{
	size_t n = strlen(s);
	memcpy(at, s, n);
	return at + n;
}

static char *put_number(char *at, uint64_t v)
{
	char digits[20];
	unsigned n = 0;
	do {
		digits[n++] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	while (n)
		*at++ = digits[--n];
	return at;
}

/* The last `width` digits, zeros in front. */
static char *put_digits(char *at, uint64_t v, unsigned width)
{
	for (unsigned i = width; i--; v /= 10)
		at[i] = (char)('0' + v % 10);
	return at + width;
}

static char *put_address(char *at, __be32 addr_be)
{
	uint32_t a = ntohl(addr_be);
	for (int shift = 24; shift >= 0; shift -= 8) {
		at = put_number(at, a >> shift & 0xff);
		if (shift)
			*at++ = '.';
	}
	return at;
}

static bool has_ports(uint8_t proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_ICMP;
}

static char *put_end(char *at, uint8_t proto, __be32 addr_be, __be16 port_be)
{
	at = put_address(at, addr_be);
	if (!has_ports(proto) && !port_be)
		return at;
	*at++ = ':';
	return put_number(at, ntohs(port_be));
}

/* Days since 1970-01-01 and back, by the calendar of 400 years of 146097 days that begin in March. */
static void civil_of_days(uint32_t days, unsigned *year, unsigned *month, unsigned *day)
{
	uint32_t z = days + 719468, era = z / 146097, doe = z % 146097;
	uint32_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	uint32_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
	*day = doy - (153 * mp + 2) / 5 + 1;
	*month = mp < 10 ? mp + 3 : mp - 9;
	*year = yoe + era * 400 + (*month <= 2);
}

static uint32_t days_of_civil(unsigned year, unsigned month, unsigned day)
{
	unsigned y = year - (month <= 2), yoe = y % 400;
	unsigned doy = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
	return y / 400 * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

char *nat_log_time(uint64_t time_ns, char out[NAT_TIME_BYTES])
{
	uint64_t s = time_ns / NS_PER_S;
	unsigned year, month, day, of_day = (unsigned)(s % DAY_S);
	civil_of_days((uint32_t)(s / DAY_S), &year, &month, &day);
	char *at = put_digits(out, year, 4);
	*at++ = '-';
	at = put_digits(at, month, 2);
	*at++ = '-';
	at = put_digits(at, day, 2);
	*at++ = 'T';
	at = put_digits(at, of_day / 3600, 2);
	*at++ = ':';
	at = put_digits(at, of_day / 60 % 60, 2);
	*at++ = ':';
	at = put_digits(at, of_day % 60, 2);
	*at++ = '.';
	at = put_digits(at, time_ns % NS_PER_S / NS_PER_MS, 3);
	*at++ = 'Z';
	*at = '\0';
	return at;
}

const char *nat_log_proto(uint8_t proto, char buf[8])
{
	for (unsigned i = 0; i < sizeof(protos) / sizeof(protos[0]); i++) {
		if (protos[i].number == proto)
			return protos[i].name;
	}
	snprintf(buf, 8, "%u", proto);
	return buf;
}

static char *put_session(char *at, const struct nat_event *e)
{
	char number[8];
	at = put_text(at, nat_log_proto(e->proto, number));
	*at++ = ' ';
	at = put_end(at, e->proto, e->inside_be, e->inside_port_be);
	*at++ = ' ';
	at = put_end(at, e->proto, e->outside_be, e->outside_port_be);
	*at++ = ' ';
	at = put_end(
		at, e->proto == IPPROTO_ICMP && !e->remote_port_be ? 0 : e->proto, e->remote_be, e->remote_port_be);
	if (e->kind != NAT_EVENT_SESSION_DELETE)
		return at;
	for (unsigned dir = 0; dir < 2; dir++) {
		*at++ = ' ';
		at = put_number(at, e->packets[dir]);
		*at++ = ' ';
		at = put_number(at, e->bytes[dir]);
	}
	*at++ = ' ';
	return put_number(at, e->age_ms);
}

static char *put_block(char *at, const struct nat_event *e)
{
	at = put_text(at, "- ");
	at = put_address(at, e->inside_be);
	*at++ = ' ';
	at = put_address(at, e->outside_be);
	*at++ = ' ';
	at = put_number(at, ntohs(e->inside_port_be));
	*at++ = '-';
	return put_number(at, ntohs(e->outside_port_be));
}

static char *put_lost(char *at, const struct nat_event *e)
{
	at = put_number(at, e->lost_cnt);
	*at++ = ' ';
	at = nat_log_time(e->lost_from_ns, at);
	*at++ = ' ';
	return nat_log_time(e->lost_to_ns, at);
}

static bool of_session(uint8_t kind)
{
	return kind == NAT_EVENT_SESSION_ADD || kind == NAT_EVENT_SESSION_DELETE;
}

static bool of_block(uint8_t kind)
{
	return kind == NAT_EVENT_BLOCK_ADD || kind == NAT_EVENT_BLOCK_DELETE;
}

unsigned nat_log_format(const struct nat_event *e, const char *stage, char *out)
{
	size_t n = strnlen(stage, NAT_STAGE_BYTES - 1);
	char *at = nat_log_time(e->time_ns, out);
	*at++ = ' ';
	memcpy(at, stage, n);
	at += n;
	*at++ = ' ';
	at = put_text(at, words[e->kind]);
	if (of_session(e->kind) || of_block(e->kind) || e->kind == NAT_EVENT_LOST)
		*at++ = ' ';
	if (of_session(e->kind))
		at = put_session(at, e);
	else if (of_block(e->kind))
		at = put_block(at, e);
	else if (e->kind == NAT_EVENT_LOST)
		at = put_lost(at, e);
	if ((of_session(e->kind) || of_block(e->kind)) && e->zone != NAT_ZONE_DEFAULT) {
		at = put_text(at, " zone=");
		at = put_number(at, e->zone);
	}
	*at = '\0';
	return (unsigned)(at - out);
}

/* ---- reading: each moves *at past what it took, or returns false ------------------------------------------------------ */

static bool get_char(const char **at, char c)
{
	if (**at != c)
		return false;
	++*at;
	return true;
}

static bool get_number(const char **at, uint64_t max, uint64_t *out)
{
	const char *s = *at;
	uint64_t v = 0;
	if (*s < '0' || *s > '9' || (*s == '0' && s[1] >= '0' && s[1] <= '9'))
		return false;
	for (; *s >= '0' && *s <= '9'; s++) {
		unsigned digit = (unsigned)(*s - '0');
		if (v > (max - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	*at = s;
	*out = v;
	return true;
}

static bool get_digits(const char **at, unsigned width, unsigned min, unsigned max, unsigned *out)
{
	unsigned v = 0;
	for (unsigned i = 0; i < width; i++) {
		char c = (*at)[i];
		if (c < '0' || c > '9')
			return false;
		v = v * 10 + (unsigned)(c - '0');
	}
	*at += width;
	*out = v;
	return v >= min && v <= max;
}

static bool get_time(const char **at, uint64_t *out)
{
	static const uint8_t days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	unsigned year, month, day, hour, minute, second, ms;
	if (!get_digits(at, 4, 1970, YEAR_MAX, &year) || !get_char(at, '-') || !get_digits(at, 2, 1, 12, &month) ||
		!get_char(at, '-') || !get_digits(at, 2, 1, 31, &day) || !get_char(at, 'T') ||
		!get_digits(at, 2, 0, 23, &hour) || !get_char(at, ':') || !get_digits(at, 2, 0, 59, &minute) ||
		!get_char(at, ':') || !get_digits(at, 2, 0, 59, &second) || !get_char(at, '.') ||
		!get_digits(at, 3, 0, 999, &ms) || !get_char(at, 'Z'))
		return false;
	bool leap = year % 4 == 0 && (year % 100 || year % 400 == 0);
	if (day > days[month - 1] + (unsigned)(leap && month == 2))
		return false;
	uint64_t s = (uint64_t)days_of_civil(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second;
	*out = s * NS_PER_S + (uint64_t)ms * NS_PER_MS;
	return true;
}

static bool get_address(const char **at, __be32 *out)
{
	uint32_t a = 0;
	for (unsigned i = 0; i < 4; i++) {
		uint64_t octet;
		if ((i && !get_char(at, '.')) || !get_number(at, 255, &octet))
			return false;
		a = a << 8 | (uint32_t)octet;
	}
	*out = htonl(a);
	return true;
}

static bool get_port(const char **at, __be16 *out)
{
	uint64_t port;
	if (!get_number(at, 65535, &port))
		return false;
	*out = htons((uint16_t)port);
	return true;
}

static bool get_end(const char **at, __be32 *addr_be, __be16 *port_be)
{
	*port_be = 0;
	return get_address(at, addr_be) && (!get_char(at, ':') || get_port(at, port_be));
}

int nat_log_proto_number(const char *name)
{
	uint64_t number;
	for (unsigned i = 0; i < sizeof(protos) / sizeof(protos[0]); i++) {
		if (!strcmp(protos[i].name, name))
			return protos[i].number;
	}
	return get_number(&name, 255, &number) && !*name ? (int)number : -1;
}

static bool get_session(const char **at, struct nat_event *e)
{
	char name[8];
	size_t n = strcspn(*at, " ");
	if (n >= sizeof(name))
		return false;
	memcpy(name, *at, n);
	name[n] = '\0';
	*at += n;
	int proto = nat_log_proto_number(name);
	e->proto = (uint8_t)proto;
	if (proto < 0 || !get_char(at, ' ') || !get_end(at, &e->inside_be, &e->inside_port_be) || !get_char(at, ' ') ||
		!get_end(at, &e->outside_be, &e->outside_port_be) || !get_char(at, ' ') ||
		!get_end(at, &e->remote_be, &e->remote_port_be))
		return false;
	if (e->kind != NAT_EVENT_SESSION_DELETE)
		return true;
	for (unsigned dir = 0; dir < 2; dir++) {
		if (!get_char(at, ' ') || !get_number(at, UINT64_MAX, &e->packets[dir]) || !get_char(at, ' ') ||
			!get_number(at, UINT64_MAX, &e->bytes[dir]))
			return false;
	}
	return get_char(at, ' ') && get_number(at, UINT64_MAX, &e->age_ms);
}

static bool get_block(const char **at, struct nat_event *e)
{
	return get_char(at, '-') && get_char(at, ' ') && get_address(at, &e->inside_be) && get_char(at, ' ') &&
		get_address(at, &e->outside_be) && get_char(at, ' ') && get_port(at, &e->inside_port_be) &&
		get_char(at, '-') && get_port(at, &e->outside_port_be) &&
		ntohs(e->inside_port_be) <= ntohs(e->outside_port_be);
}

static bool get_lost(const char **at, struct nat_event *e)
{
	return get_number(at, UINT64_MAX, &e->lost_cnt) && get_char(at, ' ') && get_time(at, &e->lost_from_ns) &&
		get_char(at, ' ') && get_time(at, &e->lost_to_ns);
}

static bool get_zone(const char **at, uint32_t *zone)
{
	static const char key[] = " zone=";
	uint64_t v;
	if (strncmp(*at, key, sizeof(key) - 1))
		return true;
	*at += sizeof(key) - 1;
	if (!get_number(at, UINT32_MAX, &v))
		return false;
	*zone = (uint32_t)v;
	return true;
}

static bool get_stage(const char **at, char *stage, unsigned bytes)
{
	size_t n = strcspn(*at, " ");
	if (!n || n >= bytes || n >= NAT_STAGE_BYTES)
		return false;
	memcpy(stage, *at, n);
	stage[n] = '\0';
	*at += n;
	return get_char(at, ' ');
}

static bool get_kind(const char **at, uint8_t *kind)
{
	size_t n = strcspn(*at, " ");
	for (uint8_t k = 0; k < NAT_EVENT_KIND_CNT; k++) {
		if (strlen(words[k]) == n && !memcmp(words[k], *at, n)) {
			*at += n;
			*kind = k;
			return true;
		}
	}
	return false;
}

int nat_log_parse(const char *line, struct nat_event *out, char *stage, unsigned stage_bytes)
{
	const char *at = line;
	bool read;
	memset(out, 0, sizeof(*out));
	out->zone = NAT_ZONE_DEFAULT;
	if (!get_time(&at, &out->time_ns) || !get_char(&at, ' ') || !get_stage(&at, stage, stage_bytes) ||
		!get_kind(&at, &out->kind))
		return -EINVAL;
	if (of_session(out->kind))
		read = get_char(&at, ' ') && get_session(&at, out) && get_zone(&at, &out->zone);
	else if (of_block(out->kind))
		read = get_char(&at, ' ') && get_block(&at, out) && get_zone(&at, &out->zone);
	else
		read = out->kind != NAT_EVENT_LOST || (get_char(&at, ' ') && get_lost(&at, out));
	return read && !*at ? 0 : -EINVAL;
}
