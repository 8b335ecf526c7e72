/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"
#include "pipelines/nat44/who.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <ftw.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static char folder[64];

static void up(void)
{
	snprintf(folder, sizeof(folder), "/tmp/mr-nat-who.XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
}

static int remove_one(const char *p, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(p);
}

static void down(void)
{
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

TestSuite(nat_who, .init = up, .fini = down, .timeout = 120);

/* ---- times ------------------------------------------------------------------------------------------------------------ */

#define S 1000000000ull

/* 2026-03-29 and 2026-10-25 are when clocks are changed there; 1767362587 = 2026-01-02T14:03:07Z */
Test(nat_who, times_as_people_write_them)
{
	static const struct {
		const char *text;
		uint64_t from, length;
	} cases[] = {
		{ "2026-01-02T14:03:07Z", 1767362587 * S, S },
		{ "2026-01-02T14:03:07.25Z", 1767362587 * S + S / 4, S / 100 },
		{ "2026-01-02t15:03:07+01:00", 1767362587 * S, S },
		{ "2026-01-02T08:33:07-05:30", 1767362587 * S, S },
		{ "2026-01-02 15:03:07", 1767362587 * S, S },
		{ "2026-01-02 15:03", 1767362580 * S, 60 * S },
		{ "2026-01-02T14:03Z", 1767362580 * S, 60 * S },
		{ "2026-01-02", 1767308400 * S, 86400 * S },
		{ "2026-07-02 15:03", 1782997380 * S, 60 * S }, /* summer: two hours */
		{ "2026-10-25T02:30+01:00", 1792891800 * S, 60 * S },
		{ "14:03", 1795870980 * S, 60 * S },
		{ "14:03:59", 1795871039 * S, S },
		{ "-90s", 1795876110 * S, S },
		{ "-10m", 1795875600 * S, S },
		{ "-2h", 1795869000 * S, S },
		{ "-1d", 1795789800 * S, S },
	};
	uint64_t now = 1795876200 * S; /* 2026-11-28T15:30:00 there */
	setenv("TZ", "Europe/Berlin", 1);
	struct stat st;
	if (stat("/usr/share/zoneinfo/Europe/Berlin", &st))
		setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mr_error e = { "" };
		uint64_t from = 0, to = 0;
		cr_assert_eq(mr_when_read("--at", cases[i].text, now, &from, &to, &e), 0, "%s", e.text);
		cr_assert_eq(from, cases[i].from, "%s: %llu", cases[i].text, (unsigned long long)(from / S));
		cr_assert_eq(to - from + 1, cases[i].length, "%s", cases[i].text);
	}
}

Test(nat_who, what_is_no_time_is_told)
{
	static const struct {
		const char *text, *sentence;
	} cases[] = {
		{ "", "is no time" },
		{ "noon", "is no time" },
		{ "24:00", "is no time" },
		{ "14:60", "is no time" },
		{ "14", "is no time" },
		{ "14:03Z", "is no time" },
		{ "2026-02-29", "is no time" },
		{ "2026-01-02 14", "is no time" },
		{ "2026-01-02X14:03", "is no time" },
		{ "2026-01-02T14:03:07+1:00", "is no time" },
		{ "-10", "no time ago" },
		{ "-0m", "no time ago" },
		{ "-99999999d", "no time ago" },
		{ "-m", "no time ago" },
		{ "16:00", "still to come" },
		{ "2026-11-29", "still to come" },
		{ "2026-03-29 02:30", "never showed" },
		{ "2026-10-25 02:30", "twice" },
	};
	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mr_error e = { "" };
		uint64_t from = 7, to = 7;
		cr_assert_eq(mr_when_read("--at", cases[i].text, 1795876200 * S, &from, &to, &e), -EINVAL, "%s",
			cases[i].text);
		cr_assert_not_null(strstr(e.text, cases[i].sentence), "%s: %s", cases[i].text, e.text);
		cr_assert(from == 7 && to == 7);
	}
}

/* ---- answers ------------------------------------------------------------------------------------------------------------ */

/* A file of these lines; `h:m:s ` in front of each becomes a time of 2026-01-02. */
static const char *write_log(const char *name, bool packed, const char *const *line)
{
	static char path[4][160];
	static unsigned next;
	char *p = path[next++ % 4];
	snprintf(p, sizeof(path[0]), "%s/%s", folder, name);
	gzFile f = gzopen(p, packed ? "w" : "wT");
	for (; *line; line++)
		gzprintf(f, "2026-01-02T%.8s.000Z%s\n", *line, *line + 8);
	cr_assert_eq(gzclose(f), Z_OK);
	return p;
}

#define DAY (1767312000 * S)

static struct nat_who *ask(const char *address, int port, int proto, unsigned from_s, unsigned to_s)
{
	struct nat_who_question q = {
		.port = port, .proto = proto, .from_ns = DAY + from_s * S, .to_ns = DAY + to_s * S
	};
	struct nat_who *w;
	inet_pton(AF_INET, address, &q.outside_be);
	cr_assert_eq(nat_who_create(&q, &w), 0);
	return w;
}

static const char *const day[] = {
	"01:00:00 cgn log-start",
	"02:00:00 cgn session-add udp 100.64.0.5:5000 203.0.113.64:4000 198.51.100.7:53",
	"02:00:10 cgn session-add udp 100.64.0.5:5000 203.0.113.64:4000 198.51.100.8:53",
	"02:05:10 cgn session-delete udp 100.64.0.5:5000 203.0.113.64:4000 198.51.100.7:53 3 300 2 200 310000",
	"02:06:00 cgn session-delete udp 100.64.0.5:5000 203.0.113.64:4000 198.51.100.8:53 3 300 2 200 350000",
	"02:10:00 cgn session-add udp 100.64.0.9:7000 203.0.113.64:4000 198.51.100.8:53",
	"02:10:00 cgn session-add tcp 100.64.0.7:7000 203.0.113.64:4000 198.51.100.8:80",
	"02:10:01 cgn session-add tcp 100.64.0.7:7000 203.0.113.65:4000 198.51.100.8:80",
	"02:11:00 cgn lost 17 2026-01-02T02:10:30.000Z 2026-01-02T02:10:40.000Z",
	"02:20:00 cgn session-delete tcp 100.64.0.7:7000 203.0.113.64:4000 198.51.100.8:80 1 2 3 4 600000",
	"02:30:00 cgn session-delete tcp 100.64.0.1:7000 203.0.113.64:4001 198.51.100.8:80 1 2 3 4 7200000",
	"02:40:00 cgn block-add - 100.64.0.8 203.0.113.66 40000-40255",
	"02:50:00 cgn block-delete - 100.64.0.8 203.0.113.66 40000-40255",
	"02:55:00 cgn block-add - 100.64.0.6 203.0.113.66 40000-40255",
	"03:00:00 cgn log-end",
	NULL,
};

/* "100.64.0.5 100.64.0.9": whose, by since. */
static const char *whose(struct nat_who *w)
{
	static char out[512];
	char addr[INET_ADDRSTRLEN];
	size_t cnt;
	const struct nat_who_holder *h = nat_who_holders(w, &cnt);
	out[0] = '\0';
	for (size_t i = 0; i < cnt; i++) {
		size_t n = strlen(out);
		snprintf(out + n, sizeof(out) - n, "%s%s", i ? " " : "",
			inet_ntop(AF_INET, &h[i].e.inside_be, addr, sizeof(addr)));
	}
	return out;
}

Test(nat_who, who_had_a_port_at_a_time)
{
	static const struct {
		const char *address;
		int port, proto;
		unsigned from, to; /* seconds of the day */
		const char *whose;
	} cases[] = {
		{ "203.0.113.64", 4000, IPPROTO_UDP, 7200, 7205, "100.64.0.5" },
		{ "203.0.113.64", 4000, IPPROTO_UDP, 7199, 7199, "" },
		{ "203.0.113.64", 4000, IPPROTO_UDP, 7210, 7210, "100.64.0.5 100.64.0.5" },
		{ "203.0.113.64", 4000, IPPROTO_UDP, 7560, 7560, "100.64.0.5" },
		{ "203.0.113.64", 4000, IPPROTO_UDP, 7561, 7799, "" },
		{ "203.0.113.64", 4000, IPPROTO_UDP, 7560, 7800, "100.64.0.5 100.64.0.9" },
		{ "203.0.113.64", 4000, IPPROTO_UDP, 10000, 10000, "100.64.0.9" },
		{ "203.0.113.64", 4000, IPPROTO_TCP, 7810, 7810, "100.64.0.7" },
		{ "203.0.113.64", 4000, IPPROTO_TCP, 8401, 8401, "" },
		{ "203.0.113.64", 4000, -1, 7810, 7810, "100.64.0.9 100.64.0.7" },
		{ "203.0.113.64", -1, -1, 8000, 8000, "100.64.0.1 100.64.0.9 100.64.0.7" },
		{ "203.0.113.64", 4001, IPPROTO_TCP, 1800, 1800, "100.64.0.1" }, /* by its age, before the log began */
		{ "203.0.113.64", 4001, IPPROTO_TCP, 1799, 1799, "" },
		{ "203.0.113.64", 4002, -1, 0, 86399, "" },
		{ "203.0.113.66", 40000, IPPROTO_UDP, 9600, 9600, "100.64.0.8" },
		{ "203.0.113.66", 40255, -1, 10200, 10200, "100.64.0.8" },
		{ "203.0.113.66", 40256, -1, 10200, 10200, "" },
		{ "203.0.113.66", 40100, -1, 9000, 9599, "" }, /* the later blocks are no blocks of then */
		{ "203.0.113.66", 40100, -1, 9600, 10500, "100.64.0.8 100.64.0.6" },
	};
	for (unsigned packed = 0; packed < 2; packed++) {
		const char *path = write_log(packed ? "a.gz" : "a", packed, day);
		for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
			struct nat_who *w =
				ask(cases[i].address, cases[i].port, cases[i].proto, cases[i].from, cases[i].to);
			cr_assert_eq(nat_who_read(w, path), 0);
			cr_assert_eq(nat_who_lines(w), 15);
			/* tcp and udp of one moment have no order */
			const char *have = whose(w);
			bool either = strlen(have) == strlen(cases[i].whose) && cases[i].proto < 0 && *have;
			cr_assert(either || !strcmp(have, cases[i].whose), "%u: %s, not %s", i, have, cases[i].whose);
			nat_who_destroy(w);
		}
	}
}

Test(nat_who, what_is_known_of_a_session)
{
	size_t cnt;
	struct nat_who *w = ask("203.0.113.64", 4000, -1, 7300, 7900);
	cr_assert_eq(nat_who_read(w, write_log("a", false, day)), 0);
	const struct nat_who_holder *h = nat_who_holders(w, &cnt);
	cr_assert_eq(cnt, 4);
	cr_assert(h[0].since_ns == DAY + 7200 * S && h[0].until_ns == DAY + 7510 * S && h[0].until == NAT_WHO_ENDED);
	cr_assert(h[0].e.packets[0] == 3 && h[0].e.bytes[1] == 200 && !h[0].began_unseen);
	cr_assert_str_eq(h[0].stage, "cgn");
	const struct nat_who_holder *open = h[2].e.proto == IPPROTO_UDP ? &h[2] : &h[3];
	cr_assert(open->until == NAT_WHO_CUT && open->until_ns == DAY + 10800 * S, "the log ended before it did");
	nat_who_destroy(w);
	w = ask("203.0.113.64", 4001, -1, 0, 8000);
	cr_assert_eq(nat_who_read(w, write_log("a", false, day)), 0);
	h = nat_who_holders(w, &cnt);
	cr_assert(cnt == 1 && h[0].began_unseen && h[0].since_ns == DAY + 1800 * S);
	nat_who_destroy(w);
}

Test(nat_who, what_the_log_covers)
{
	static const char *const again[] = {
		"04:00:00 cgn log-start",
		"04:00:01 edge session-add udp 100.64.0.5:5000 192.0.2.1:4000 198.51.100.7:53",
		"05:00:00 cgn session-add udp 100.64.0.5:5000 203.0.113.64:9 198.51.100.7:53",
		NULL,
	};
	size_t cnt;
	struct nat_who *w = ask("203.0.113.64", 9999, -1, 7835, 12600);
	cr_assert_eq(nat_who_read(w, write_log("a.1", true, day)), 0);
	cr_assert_eq(nat_who_read(w, write_log("a", false, again)), 0);
	cr_assert_str_eq(whose(w), "");
	const struct nat_who_stage *s = nat_who_stages(w, &cnt);
	cr_assert_eq(cnt, 2);
	cr_assert_str_eq(s[0].name, "cgn");
	cr_assert_str_eq(s[1].name, "edge");
	cr_assert(s[0].used && !s[1].used);
	cr_assert(s[0].first_ns == DAY + 3600 * S && s[0].last_ns == DAY + 18000 * S && !s[0].ended);
	cr_assert(s[0].gap && s[0].gap_from_ns == DAY + 10800 * S && s[0].gap_to_ns == DAY + 14400 * S);
	cr_assert(s[0].lost_then == 17 && !s[0].lost_before);
	cr_assert(s[0].lost_from_ns == DAY + 7830 * S && s[0].lost_to_ns == DAY + 7840 * S);
	nat_who_destroy(w);
	w = ask("203.0.113.64", 9999, -1, 7841, 10799);
	cr_assert_eq(nat_who_read(w, write_log("a.1", true, day)), 0);
	s = nat_who_stages(w, &cnt);
	cr_assert(cnt == 1 && s[0].ended && !s[0].gap && !s[0].lost_then && s[0].lost_before == 17);
	nat_who_destroy(w);
}

/* A program that was killed says nothing; the next one's beginning does. */
Test(nat_who, a_log_that_begins_anew_ends_what_was_open)
{
	static const char *const killed[] = {
		"01:00:00 cgn log-start",
		"02:00:00 cgn session-add udp 100.64.0.5:5000 203.0.113.64:4000 198.51.100.7:53",
		"02:00:01 other session-add udp 100.64.0.6:5000 203.0.113.64:4000 198.51.100.7:53",
		"02:30:00 cgn log-start",
		"03:00:00 cgn session-add udp 100.64.0.7:5000 203.0.113.64:4000 198.51.100.7:53",
		NULL,
	};
	const char *path = write_log("a", false, killed);
	struct nat_who *w = ask("203.0.113.64", 4000, -1, 8000, 8000);
	cr_assert_eq(nat_who_read(w, path), 0);
	cr_assert_str_eq(whose(w), "100.64.0.5 100.64.0.6");
	nat_who_destroy(w);
	w = ask("203.0.113.64", 4000, -1, 12000, 12000);
	cr_assert_eq(nat_who_read(w, path), 0);
	cr_assert_str_eq(whose(w), "100.64.0.6 100.64.0.7");
	nat_who_destroy(w);
}

Test(nat_who, the_same_lines_twice_are_one_answer)
{
	const char *a = write_log("a.1", false, day), *b = write_log("a.1.gz", true, day);
	struct nat_who *w = ask("203.0.113.64", -1, -1, 0, 86399);
	cr_assert_eq(nat_who_read(w, a), 0);
	size_t once, twice;
	nat_who_holders(w, &once);
	cr_assert_eq(nat_who_read(w, b), 0);
	nat_who_holders(w, &twice);
	cr_assert_eq(once, 5);
	cr_assert_eq(twice, 5);
	nat_who_destroy(w);
}

Test(nat_who, other_lines_are_passed_over_and_those_of_syslog_are_read)
{
	char path[160];
	snprintf(path, sizeof(path), "%s/syslog", folder);
	FILE *f = fopen(path, "w");
	fprintf(f, "\n\n%05000d\n", 7);
	fprintf(f,
		"Jan  2 14:03:07 box millrace[12]: 2026-01-02T14:03:07.123Z cgn session-add udp 100.64.0.5:5000 "
		"203.0.113.64:40123 198.51.100.7:53\n");
	fprintf(f, "Jan  2 14:03:07 box kernel: millrace[12]\n");
	fprintf(f, "2026-01-02T14:04:07.123Z cgn session-add udp 100.64.0.6:5000 203.0.113.64:40123 198.51.1");
	fclose(f);
	struct nat_who *w = ask("203.0.113.64", 40123, -1, 50587, 86399);
	cr_assert_eq(nat_who_read(w, path), 0);
	cr_assert_str_eq(whose(w), "100.64.0.5");
	cr_assert_eq(nat_who_lines(w), 1);
	nat_who_destroy(w);
}

Test(nat_who, a_damaged_archive_is_told_and_read_as_far_as_it_goes)
{
	static const char *many[2001];
	char text[2000][96];
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(text[i], sizeof(text[i]),
			"02:%02u:%02u cgn session-add udp 100.64.0.5:%u 203.0.113.64:%u 198.51.100.7:53", i / 60,
			i % 60, i * 7919 % 65536, i);
		many[i] = text[i];
	}
	const char *path = write_log("a.gz", true, many);
	struct stat st;
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(truncate(path, st.st_size / 2), 0);
	struct nat_who *w = ask("203.0.113.64", -1, -1, 0, 86399);
	cr_assert_eq(nat_who_read(w, path), -EBADMSG);
	cr_assert_gt(nat_who_lines(w), 100);
	cr_assert_lt(nat_who_lines(w), 2000);
	nat_who_destroy(w);
	w = ask("203.0.113.64", -1, -1, 0, 86399);
	cr_assert_eq(nat_who_read(w, "/nonexistent/a"), -ENOENT);
	nat_who_destroy(w);
}

/* ---- which files ------------------------------------------------------------------------------------------------------------ */

Test(nat_who, rotated_files_are_read_oldest_first)
{
	static const char *const hour[][2] = { { "01:00:00 cgn log-start", NULL }, { "02:00:00 cgn log-end", NULL },
		{ "03:00:00 cgn log-start", NULL }, { "04:00:00 cgn log-end", NULL } };
	char path[160], other[160], **files;
	write_log("cgn[1].log", false, hour[3]);
	write_log("cgn[1].log.1", false, hour[2]);
	write_log("cgn[1].log.10.gz", true, hour[0]);
	write_log("cgn[1].log-20260102.gz", true, hour[1]);
	write_log("cgn1.log.1", false, hour[0]);
	write_log("cgn[1].log.bak", false, hour[0]);
	snprintf(path, sizeof(path), "%s/cgn[1].log", folder);
	snprintf(other, sizeof(other), "%s/cgn[1].log.2", folder);
	cr_assert_eq(link(path, other), 0);
	cr_assert_eq(nat_who_files(path, &files), 0);
	static const char *const want[] = { ".10.gz", "-20260102.gz", ".1", "" };
	for (unsigned i = 0; i < 4; i++) {
		cr_assert_not_null(files[i], "%u", i);
		cr_assert_eq(strncmp(files[i], path, strlen(path)), 0);
		cr_assert_str_eq(files[i] + strlen(path), want[i]);
	}
	cr_assert_null(files[4]);
	nat_who_files_free(files);
	cr_assert_eq(nat_who_files("/nonexistent/cgn.log", &files), -ENOENT);
	cr_assert_eq(unlink(path), 0); /* just moved, and the new one is not there yet */
	cr_assert_eq(nat_who_files(path, &files), 0);
	nat_who_files_free(files);
}

Test(nat_who, memory_goes_by_the_answers)
{
	char path[160];
	snprintf(path, sizeof(path), "%s/a", folder);
	gzFile f = gzopen(path, "w1");
	for (unsigned i = 0; i < 300000; i++)
		gzprintf(f,
			"2026-01-02T%02u:%02u:%02u.000Z cgn session-%s udp 100.64.0.5:%u 203.0.113.64:4000 "
			"198.51.100.7:53%s\n",
			i / 36000, i / 600 % 60, i / 10 % 60, i % 2 ? "delete" : "add", i / 2 % 60000,
			i % 2 ? " 1 1 1 1 100" : "");
	gzclose(f);
	struct nat_who *w = ask("203.0.113.64", 4000, IPPROTO_UDP, 3600, 3601);
	cr_assert_eq(nat_who_read(w, path), 0);
	cr_assert_eq(nat_who_lines(w), 300000);
	size_t cnt;
	nat_who_holders(w, &cnt);
	cr_assert_geq(cnt, 10);
	cr_assert_leq(cnt, 12);
	nat_who_destroy(w);
}
