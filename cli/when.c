/* SPDX-License-Identifier: BSD-2-Clause */
/* when.c - times as people write them. */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_S 1000000000ull
#define DAY_S    86400

/* What was written; `unit_s` how long the moment is that it names, 0: a fraction of a second was written. */
struct written {
	struct tm tm;
	bool day, zone;
	long zone_s; /* east of UTC */
	unsigned unit_s;
	uint64_t fraction_ns, fraction_unit_ns;
};

static bool digits(const char **at, unsigned width, int min, int max, int *out)
{
	int v = 0;
	for (unsigned i = 0; i < width; i++) {
		if ((*at)[i] < '0' || (*at)[i] > '9')
			return false;
		v = v * 10 + ((*at)[i] - '0');
	}
	*at += width;
	*out = v;
	return v >= min && v <= max;
}

static bool mark(const char **at, char c)
{
	if (**at != c)
		return false;
	++*at;
	return true;
}

static bool read_day(const char **at, struct written *w)
{
	static const int days[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	if (!digits(at, 4, 1970, 2553, &w->tm.tm_year) || !mark(at, '-') || !digits(at, 2, 1, 12, &w->tm.tm_mon) ||
		!mark(at, '-') || !digits(at, 2, 1, 31, &w->tm.tm_mday))
		return false;
	int y = w->tm.tm_year;
	bool leap = y % 4 == 0 && (y % 100 || y % 400 == 0);
	if (w->tm.tm_mday > days[w->tm.tm_mon - 1] || (w->tm.tm_mon == 2 && w->tm.tm_mday == 29 && !leap))
		return false;
	w->tm.tm_year -= 1900;
	w->tm.tm_mon--;
	w->day = true;
	w->unit_s = DAY_S;
	return true;
}

static bool read_fraction(const char **at, struct written *w)
{
	uint64_t unit = NS_PER_S;
	const char *from = *at;
	for (; **at >= '0' && **at <= '9' && unit > 1; ++*at) {
		unit /= 10;
		w->fraction_ns += (uint64_t)(**at - '0') * unit;
	}
	w->unit_s = 0;
	w->fraction_unit_ns = unit;
	return *at > from;
}

static bool read_clock(const char **at, struct written *w)
{
	if (!digits(at, 2, 0, 23, &w->tm.tm_hour) || !mark(at, ':') || !digits(at, 2, 0, 59, &w->tm.tm_min))
		return false;
	w->unit_s = 60;
	if (!mark(at, ':'))
		return true;
	w->unit_s = 1;
	if (!digits(at, 2, 0, 59, &w->tm.tm_sec))
		return false;
	return !mark(at, '.') || read_fraction(at, w);
}

static bool read_zone(const char **at, struct written *w)
{
	int hours, minutes;
	if (!**at)
		return true;
	w->zone = true;
	if (mark(at, 'Z') || mark(at, 'z'))
		return true;
	int sign = **at == '-' ? -1 : 1;
	if ((!mark(at, '+') && !mark(at, '-')) || !digits(at, 2, 0, 23, &hours) || !mark(at, ':') ||
		!digits(at, 2, 0, 59, &minutes))
		return false;
	w->zone_s = sign * (hours * 3600L + minutes * 60L);
	return true;
}

static bool read_written(const char *text, struct written *w)
{
	*w = (struct written){ 0 };
	if (strlen(text) >= 10 && text[4] == '-') {
		if (!read_day(&text, w))
			return false;
		if (!*text)
			return true;
		if (!mark(&text, 'T') && !mark(&text, 't') && !mark(&text, ' '))
			return false;
	}
	return read_clock(&text, w) && read_zone(&text, w) && !*text && (w->day || !w->zone);
}

/* The local time as the clock on the wall showed it, with or without daylight saving; false: it did not. */
static bool showed(const struct tm *wall, int summer, time_t *out)
{
	struct tm tm = *wall, back;
	tm.tm_isdst = summer;
	time_t t = mktime(&tm);
	if (t == (time_t)-1 || !localtime_r(&t, &back) || back.tm_hour != wall->tm_hour ||
		back.tm_min != wall->tm_min || back.tm_mday != wall->tm_mday)
		return false;
	*out = t;
	return true;
}

static int local_time(const char *what, const char *text, const struct tm *wall, time_t *out, struct mr_error *e)
{
	time_t winter = 0, summer = 0;
	bool w = showed(wall, 0, &winter), s = showed(wall, 1, &summer);
	if (w && s && winter != summer)
		return mr_error_set(e, -EINVAL,
			"%s: the clocks here showed '%s' twice that day: say which, with a zone, as in "
			"2026-10-25T02:30+01:00",
			what, text);
	if (!w && !s)
		return mr_error_set(e, -EINVAL, "%s: the clocks here never showed '%s'", what, text);
	*out = w ? winter : summer;
	return 0;
}

/* "-10m": that moment, to the second. */
static int read_ago(
	const char *what, const char *text, uint64_t now_ns, uint64_t *from, uint64_t *to, struct mr_error *e)
{
	static const struct {
		char unit;
		uint64_t s;
	} units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', DAY_S } };
	char *end;
	unsigned long long v = text[1] >= '0' && text[1] <= '9' ? strtoull(text + 1, &end, 10) : 0;
	for (unsigned i = 0; v && v < 100000000 && i < sizeof(units) / sizeof(units[0]); i++) {
		if (end[0] != units[i].unit || end[1])
			continue;
		uint64_t ago = v * units[i].s, now = now_ns / NS_PER_S;
		if (ago > now)
			break;
		*from = (now - ago) * NS_PER_S;
		*to = *from + NS_PER_S - 1;
		return 0;
	}
	return mr_error_set(e, -EINVAL, "%s: '%s' is no time ago: write -30s, -10m, -2h or -3d", what, text);
}

int mr_when_read(
	const char *what, const char *text, uint64_t now_ns, uint64_t *from_ns, uint64_t *to_ns, struct mr_error *e)
{
	struct written w;
	struct tm today;
	time_t at = 0, now = (time_t)(now_ns / NS_PER_S);
	if (text[0] == '-')
		return read_ago(what, text, now_ns, from_ns, to_ns, e);
	if (!read_written(text, &w))
		return mr_error_set(e, -EINVAL,
			"%s: '%s' is no time: write 14:03, 14:03:07, '2026-01-02 14:03', 2026-01-02T14:03:07Z or -10m",
			what, text);
	if (!w.day) {
		localtime_r(&now, &today);
		w.tm.tm_year = today.tm_year;
		w.tm.tm_mon = today.tm_mon;
		w.tm.tm_mday = today.tm_mday;
	}
	if (w.zone) {
		at = timegm(&w.tm) - w.zone_s;
	} else {
		int err = local_time(what, text, &w.tm, &at, e);
		if (err)
			return err;
	}
	if (at < 0)
		return mr_error_set(e, -EINVAL, "%s: '%s' is before 1970", what, text);
	uint64_t from = (uint64_t)at * NS_PER_S + w.fraction_ns;
	if (from > now_ns)
		return mr_error_set(e, -EINVAL, "%s: '%s' is still to come%s", what, text,
			w.day ? "" : "; of another day, say which: '2026-01-02 14:03'");
	*from_ns = from;
	*to_ns = from + (w.unit_s ? w.unit_s * NS_PER_S : w.fraction_unit_ns) - 1;
	return 0;
}
