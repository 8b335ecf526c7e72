/* SPDX-License-Identifier: BSD-2-Clause */
#include "nat_event.h"
#include "pipelines/nat44/log.h"
#include "pipelines/nat44/log_part.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WAIT_TURNS 2000 /* of 5 ms: far more than anything takes */

static char folder[64], path[96];

static void up(void)
{
	snprintf(folder, sizeof(folder), "/tmp/mr-nat-log.XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/cgn.log", folder);
}

static int remove_one(const char *p, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(p);
}

static void down(void)
{
	nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

TestSuite(nat_log, .init = up, .fini = down, .timeout = 120);

/* ---- the file --------------------------------------------------------------------------------------------------------- */

struct seen {
	unsigned lines, adds, starts, ends, bad, lost_lines;
	uint64_t lost, last_ns, lost_from_ns, lost_to_ns;
	bool ordered, whole; /* times do not go back; the file ends with a newline */
	uint8_t have[65536]; /* outside ports of adds */
};

static struct seen seen;

static void look(const char *file, bool more)
{
	static char line[4096];
	if (!more)
		memset(&seen, 0, sizeof(seen));
	seen.ordered = seen.whole = true;
	FILE *f = fopen(file, "r");
	if (!f)
		return;
	while (fgets(line, sizeof(line), f)) {
		struct nat_event e;
		char stage[NAT_STAGE_BYTES];
		size_t n = strlen(line);
		seen.whole = line[n - 1] == '\n';
		line[strcspn(line, "\n")] = '\0';
		seen.lines++;
		if (nat_log_parse(line, &e, stage, sizeof(stage))) {
			seen.bad++;
			continue;
		}
		seen.adds += e.kind == NAT_EVENT_SESSION_ADD;
		seen.starts += e.kind == NAT_EVENT_LOG_START;
		seen.ends += e.kind == NAT_EVENT_LOG_END;
		if (e.kind == NAT_EVENT_SESSION_ADD)
			seen.have[ntohs(e.outside_port_be)]++;
		if (e.kind == NAT_EVENT_LOST) {
			seen.lost_lines++;
			seen.lost += e.lost_cnt;
			seen.lost_from_ns = e.lost_from_ns;
			seen.lost_to_ns = e.lost_to_ns;
		}
		if (e.kind == NAT_EVENT_SESSION_ADD && e.time_ns < seen.last_ns)
			seen.ordered = false;
		if (e.kind == NAT_EVENT_SESSION_ADD)
			seen.last_ns = e.time_ns;
	}
	fclose(f);
}

static struct nat_log *open_log(const char *file, unsigned workers, uint32_t ring_cnt, uint64_t rate)
{
	struct nat_log_options opt = {
		.stage = "cgn", .file = file, .worker_cnt = workers, .ring_cnt = ring_cnt, .rate_per_s = rate
	};
	struct nat_log *l = NULL;
	char why[256] = "";
	cr_assert_eq(nat_log_open(&opt, &l, why, sizeof(why)), 0, "%s", why);
	return l;
}

static bool wait_written(struct nat_log *l, uint64_t cnt)
{
	struct nat_log_usage u = { 0 };
	for (unsigned i = 0; i < WAIT_TURNS && u.written < cnt; i++) {
		nat_log_usage(l, &u);
		usleep(5000);
	}
	return u.written == cnt;
}

Test(nat_log, everything_is_written_by_the_end)
{
	struct nat_log *l = open_log(path, 1, 1024, 0);
	cr_assert_str_eq(nat_log_file(l), path);
	for (unsigned i = 0; i < 1000; i++) {
		struct nat_event e = udp(A_TIME + i * 1000000, i);
		cr_assert(nat_log_put(l, i % 2, &e));
	}
	nat_log_close(l);
	look(path, false);
	cr_assert_eq(seen.lines, 1002);
	cr_assert_eq(seen.adds, 1000);
	cr_assert(seen.starts == 1 && seen.ends == 1 && !seen.bad && seen.whole);
	cr_assert(seen.ordered, "events of several workers come in the order of their times");
	for (unsigned i = 0; i < 1000; i++)
		cr_assert_eq(seen.have[i], 1);
	struct stat st;
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 07137, 0, "not for everyone");
}

Test(nat_log, lines_are_there_without_a_close)
{
	struct nat_log *l = open_log(path, 1, 64, 0);
	struct nat_event e = udp(A_TIME, 7);
	cr_assert(nat_log_put(l, 0, &e));
	cr_assert(wait_written(l, 1));
	look(path, false);
	cr_assert(seen.adds == 1 && seen.starts == 1 && !seen.ends);
	nat_log_close(l);
}

Test(nat_log, a_file_that_was_moved_or_removed_is_made_again)
{
	char moved[128];
	uint64_t written = 0;
	struct nat_event e;
	struct nat_log *l = open_log(path, 0, 64, 0);
	for (unsigned i = 1; i <= 4; i++) {
		e = udp(A_TIME + i, i);
		cr_assert(nat_log_put(l, 0, &e));
		cr_assert(wait_written(l, ++written));
		snprintf(moved, sizeof(moved), "%s.%u", path, i);
		cr_assert_eq(i % 2 ? rename(path, moved) : unlink(path), 0);
		if (i == 1) { /* what is put from now on is in the new one */
			e = udp(A_TIME + i, 101);
			cr_assert(nat_log_put(l, 0, &e));
			cr_assert(wait_written(l, ++written));
		}
		unsigned turns = 0; /* it is there again although nothing was written */
		while (access(path, F_OK) && turns++ < WAIT_TURNS)
			usleep(5000);
		cr_assert_eq(access(path, F_OK), 0);
	}
	e = udp(A_TIME, 9);
	cr_assert(nat_log_put(l, 0, &e));
	nat_log_close(l);
	look(path, false);
	cr_assert(seen.have[9] == 1 && seen.adds == 1 && seen.ends == 1);
	snprintf(moved, sizeof(moved), "%s.1", path);
	look(moved, false);
	cr_assert(seen.have[1] == 1 && seen.adds == 1 && seen.starts == 1);
	snprintf(moved, sizeof(moved), "%s.3", path);
	look(moved, false);
	cr_assert(seen.have[3] == 1 && seen.adds == 1);
}

Test(nat_log, the_folder_may_go_and_come)
{
	char inner[128], file[160], away[128];
	snprintf(inner, sizeof(inner), "%s/log", folder);
	snprintf(file, sizeof(file), "%s/cgn.log", inner);
	snprintf(away, sizeof(away), "%s/away", folder);
	struct nat_log *l = open_log(file, 0, 64, 0); /* made */
	cr_assert_eq(rename(inner, away), 0);
	struct nat_event e = udp(A_TIME, 9);
	cr_assert(nat_log_put(l, 0, &e));
	cr_assert(wait_written(l, 1), "to the one or the other, but written");
	nat_log_close(l);
	look(file, false);
	snprintf(file, sizeof(file), "%s/cgn.log", away);
	look(file, true);
	cr_assert(seen.adds == 1 && seen.starts == 1 && seen.ends == 1);
}

Test(nat_log, half_a_line_of_a_killed_process_is_ended_first)
{
	FILE *f = fopen(path, "w");
	fputs("2026-01-02T14:03:07.123Z cgn session-add ud", f);
	fclose(f);
	struct nat_event e = udp(A_TIME, 9);
	struct nat_log *l = open_log(path, 0, 64, 0);
	cr_assert(nat_log_put(l, 0, &e));
	nat_log_close(l);
	look(path, false);
	cr_assert(seen.bad == 1 && seen.adds == 1 && seen.starts == 1 && seen.ends == 1);
}

Test(nat_log, what_cannot_be_opened_is_refused_with_a_sentence)
{
	char file[160], why[256];
	struct nat_log *l = NULL;
	snprintf(file, sizeof(file), "%s/a/b/c.log", folder);
	struct nat_log_options opt = { .stage = "cgn", .file = file, .ring_cnt = 64 };
	cr_assert_eq(nat_log_open(&opt, &l, why, sizeof(why)), -ENOENT);
	cr_assert_not_null(strstr(why, file));
	cr_assert_not_null(strstr(why, "No such file"));
	opt.file = folder;
	cr_assert_eq(nat_log_open(&opt, &l, why, sizeof(why)), -EISDIR);
	opt.file = NULL;
	opt.socket = file;
	cr_assert_eq(nat_log_open(&opt, &l, why, sizeof(why)), -ENOENT);
	cr_assert_null(l);
	nat_log_close(NULL);
}

Test(nat_log, one_file_of_a_stage_is_one_log)
{
	struct nat_log *a = open_log(path, 1, 64, 5), *b = open_log(path, 1, 64, 7), *c = open_log(path, 2, 64, 7);
	cr_assert_eq(a, b);
	cr_assert_neq(a, c);
	nat_log_close(a);
	struct nat_event e = udp(A_TIME, 9);
	cr_assert(nat_log_put(b, 0, &e));
	nat_log_close(b);
	nat_log_close(c);
	look(path, false);
	cr_assert(seen.adds == 1 && seen.starts == 2 && seen.ends == 2 && !seen.bad);
}

/* ---- what is too much ---------------------------------------------------------------------------------------------------- */

Test(nat_log, a_full_ring_loses_counts_and_says_between_which_times)
{
	struct nat_log_ring r = { 0 };
	struct nat_log_loss loss = { 0 };
	struct nat_event e;
	cr_assert_eq(nat_log_ring_init(&r, 8), 0);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 20; i++) {
			e = udp(A_TIME + 100 * round + i, i);
			cr_assert_eq(nat_log_ring_put(&r, &e), i < 8);
		}
		cr_assert_eq(nat_log_ring_waiting(&r), 8);
		loss = (struct nat_log_loss){ 0 };
		nat_log_ring_tell(&r, &loss);
		cr_assert_eq(loss.cnt, 12);
		cr_assert_eq(loss.from_ns, A_TIME + 100 * round + 8);
		cr_assert_eq(loss.to_ns, A_TIME + 100 * round + 19);
		loss = (struct nat_log_loss){ 0 };
		nat_log_ring_tell(&r, &loss);
		cr_assert_eq(loss.cnt, 0);
		for (unsigned i = 0; i < 8; i++) {
			cr_assert_eq(ntohs(nat_log_ring_peek(&r)->outside_port_be), i);
			nat_log_ring_pop(&r);
		}
		cr_assert_eq(nat_log_ring_head(&r), 8 * (round + 1));
	}
	nat_log_ring_end(&r);
}

Test(nat_log, what_is_over_the_rate_is_lost_and_told)
{
	struct nat_log_usage u;
	struct nat_log *l = open_log(path, 0, 4096, 10);
	for (unsigned i = 0; i < 1000; i++) {
		struct nat_event e = udp(A_TIME + i * 1000000, i);
		cr_assert(nat_log_put(l, 0, &e));
	}
	for (unsigned i = 0; i < WAIT_TURNS; i++) {
		nat_log_usage(l, &u);
		if (!u.waiting)
			break;
		usleep(5000);
	}
	cr_assert_eq(u.waiting, 0);
	nat_log_set_rate(l, 0);
	struct nat_event e = udp(A_TIME + 1000 * 1000000ull, 2000);
	cr_assert(nat_log_put(l, 0, &e));
	nat_log_close(l);
	look(path, false);
	cr_assert_eq(seen.adds + seen.lost, 1001);
	cr_assert_geq(seen.adds, 11, "the burst, and the one after the rate was taken away");
	cr_assert_lt(seen.adds, 900);
	cr_assert_eq(seen.have[2000], 1);
	cr_assert_geq(seen.lost_lines, 1);
	cr_assert_geq(seen.lost_from_ns, A_TIME + 10 * 1000000);
	cr_assert_eq(seen.lost_to_ns, A_TIME + 999 * 1000000ull);
}

Test(nat_log, a_device_that_is_full_takes_nothing_and_that_is_counted)
{
	struct nat_log_usage u = { 0 };
	struct nat_log *l = open_log("/dev/full", 0, 64, 0);
	for (unsigned i = 0; i < 10; i++) {
		struct nat_event e = udp(A_TIME + i, i);
		cr_assert(nat_log_put(l, 0, &e));
	}
	for (unsigned i = 0; i < WAIT_TURNS && u.failed < 2; i++) {
		nat_log_usage(l, &u);
		usleep(5000);
	}
	cr_assert_geq(u.failed, 2, "it is tried again");
	cr_assert_eq(u.error, ENOSPC);
	cr_assert_eq(u.written, 0);
	cr_assert_eq(u.waiting, 10, "those that are lines already wait too");
	nat_log_close(l);
}

/*
 * A small disk in a mount namespace of our own, as a process of its own.  Exit code: 77 = this may not be done here, else the number of what was
 * wrong.
 */
static int full_disk(void)
{
	struct nat_log_options opt = { .stage = "cgn", .file = path, .ring_cnt = 65536 };
	struct nat_log_usage u = { 0 };
	struct nat_log *l;
	char why[256], moved[128];
	uint64_t put = 0;
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		mount("tmpfs", folder, "tmpfs", 0, "size=64k"))
		return 77;
	if (nat_log_open(&opt, &l, why, sizeof(why)))
		return 1;
	for (; put < 60000 && !u.failed; put++) {
		struct nat_event e = udp(A_TIME + put * 1000000, (unsigned)put);
		if (!nat_log_put(l, 0, &e))
			return 2;
		if (put % 10 == 0)
			usleep(1000);
		nat_log_usage(l, &u);
	}
	if (!u.failed || u.error != ENOSPC)
		return 3;
	look(path, false);
	uint64_t before = seen.adds;
	if (!seen.whole || seen.bad || before != u.written || before < 100 || before == put)
		return 4;
	/* Room again, in the way of logrotate: the rest comes, each line once. */
	snprintf(moved, sizeof(moved), "%s.1", path);
	if (rename(path, moved) || truncate(moved, 0) || !wait_written(l, put))
		return 5;
	nat_log_usage(l, &u);
	nat_log_close(l);
	look(path, false);
	for (uint64_t i = 0; i < put; i++) {
		if (seen.have[i] != (i >= before))
			return 6;
	}
	return u.error || u.lost || u.waiting || seen.bad || seen.lost_lines || seen.ends != 1 ? 7 : 0;
}

Test(nat_log, a_full_disk_holds_no_half_line_and_nothing_is_lost_when_there_is_room_again)
{
	int status = 0;
	pid_t pid = fork();
	if (!pid)
		_exit(full_disk());
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		cr_skip_test("no tmpfs can be mounted here");
	cr_assert_eq(WEXITSTATUS(status), 0, "%d", WEXITSTATUS(status));
}

/* ---- syslog ------------------------------------------------------------------------------------------------------------ */

Test(nat_log, syslog_gets_a_datagram_a_line)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct nat_log_usage u = { 0 };
	char got[1024], why[256];
	struct nat_event e;
	struct nat_log *l;
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/dev-log", folder);
	cr_assert_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	struct nat_log_options opt = { .stage = "cgn", .socket = sa.sun_path, .ring_cnt = 64 };
	cr_assert_eq(nat_log_open(&opt, &l, why, sizeof(why)), 0, "%s", why);
	cr_assert_null(nat_log_file(l));
	e = udp(A_TIME, 40123);
	cr_assert(nat_log_put(l, 0, &e));
	ssize_t n = recv(fd, got, sizeof(got) - 1, 0);
	cr_assert_gt(n, 0);
	got[n] = '\0';
	cr_assert_eq(strncmp(got, "<30>", 4), 0, "%s", got);
	cr_assert_not_null(strstr(got, " cgn log-start"));
	n = recv(fd, got, sizeof(got) - 1, 0);
	cr_assert_gt(n, 0);
	got[n] = '\0';
	char want[128];
	snprintf(want, sizeof(want),
		" millrace[%d]: 2026-01-02T14:03:07.123Z cgn session-add udp 100.64.0.5:5000 "
		"203.0.113.64:40123 198.51.100.7:53",
		(int)getpid());
	cr_assert_not_null(strstr(got, want), "%s", got);
	cr_assert_eq(got[n - 1], '3', "no newline");
	/* The daemon goes and another comes: what was put meanwhile comes to that one. */
	close(fd);
	unlink(sa.sun_path);
	e = udp(A_TIME, 2);
	cr_assert(nat_log_put(l, 0, &e));
	for (unsigned i = 0; i < WAIT_TURNS && !u.failed; i++) {
		nat_log_usage(l, &u);
		usleep(5000);
	}
	cr_assert_geq(u.failed, 1);
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	n = recv(fd, got, sizeof(got) - 1, 0);
	cr_assert_gt(n, 0);
	got[n] = '\0';
	cr_assert_not_null(strstr(got, "203.0.113.64:2 "), "%s", got);
	cr_assert(wait_written(l, 2));
	nat_log_close(l);
	close(fd);
}

/* ---- several workers ------------------------------------------------------------------------------------------------------ */

#define WORKERS 4
#define EACH    20000u

struct worker {
	pthread_t thread;
	struct nat_log *log;
	unsigned number;
	uint64_t took, refused;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	for (unsigned i = 0; i < EACH; i++) {
		struct nat_event e = udp(A_TIME + i, i);
		if (nat_log_put(w->log, w->number, &e))
			w->took++;
		else
			w->refused++;
		if (i % 64 == 0)
			sched_yield();
	}
	return NULL;
}

/* Small rings, so that some is lost: what is in the file and what it says was lost is all there was. */
static void crowd(uint32_t ring_cnt)
{
	static struct worker w[WORKERS];
	char moved[128];
	uint64_t took = 0, refused = 0;
	struct nat_log_usage u;
	struct nat_log *l = open_log(path, WORKERS - 1, ring_cnt, 0);
	for (unsigned i = 0; i < WORKERS; i++) {
		w[i] = (struct worker){ .log = l, .number = i };
		cr_assert_eq(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
	}
	snprintf(moved, sizeof(moved), "%s.1", path);
	usleep(2000);
	rename(path, moved);
	for (unsigned i = 0; i < WORKERS; i++) {
		nat_log_usage(l, &u);
		pthread_join(w[i].thread, NULL);
		took += w[i].took;
		refused += w[i].refused;
	}
	nat_log_usage(l, &u);
	cr_assert_eq(u.lost, refused);
	nat_log_close(l);
	look(moved, false);
	unsigned bad = seen.bad;
	look(path, true);
	cr_assert_eq(bad + seen.bad, 0);
	cr_assert_eq(seen.adds, took);
	cr_assert_eq(seen.lost, refused);
	cr_assert_eq(took + refused, WORKERS * EACH);
}

Test(nat_log, workers_that_are_faster_than_the_writer)
{
	crowd(64);
	cr_assert_gt(seen.lost, 0, "the rings were meant to be too small");
}

Test(nat_log, workers_whose_rings_hold_all)
{
	crowd(32768);
	cr_assert_eq(seen.lost, 0);
	cr_assert_eq(seen.adds, WORKERS * EACH);
}
