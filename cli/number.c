/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"

static const char *scaled(int64_t v, const char *unit, char buf[MR_NUMBER_BYTES])
{
	static const char prefix[] = { 'k', 'M', 'G', 'T', 'P', 'E' };
	const char *sign = v < 0 ? "-" : "";
	double d = v < 0 ? -(double)v : (double)v;
	const char *space = unit[0] ? " " : "";
	if (d < 10000) {
		snprintf(buf, MR_NUMBER_BYTES, "%s%.0f%s%s", sign, d, space, unit);
		return buf;
	}
	unsigned i = 0;
	d /= 1000;
	while (d >= 999.5 && i + 1 < sizeof(prefix)) {
		d /= 1000;
		i++;
	}
	snprintf(buf, MR_NUMBER_BYTES, "%s%.*f%s%c%s", sign,
		d < 9.995           ? 2
			: d < 99.95 ? 1
				    : 0,
		d, space, prefix[i], unit);
	return buf;
}

const char *mr_number_count(int64_t v, char buf[MR_NUMBER_BYTES])
{
	return scaled(v, "", buf);
}

const char *mr_number_bytes(int64_t v, char buf[MR_NUMBER_BYTES])
{
	return scaled(v, "B", buf);
}

const char *mr_number_duration(int64_t ms, char buf[MR_NUMBER_BYTES])
{
	long long s = ms / 1000;
	if (ms < 1000)
		snprintf(buf, MR_NUMBER_BYTES, "%lld ms", (long long)ms);
	else if (s < 120)
		snprintf(buf, MR_NUMBER_BYTES, "%lld s", s);
	else if (s < 3600)
		snprintf(buf, MR_NUMBER_BYTES, "%lld min %lld s", s / 60, s % 60);
	else if (s < 86400)
		snprintf(buf, MR_NUMBER_BYTES, "%lld h %lld min", s / 3600, s / 60 % 60);
	else
		snprintf(buf, MR_NUMBER_BYTES, "%lld d %lld h", s / 86400, s / 3600 % 24);
	return buf;
}
