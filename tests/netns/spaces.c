/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/netns/spaces.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char prefix[64];
static pid_t owner;
static unsigned case_cnt, failed_cnt;

__attribute__((format(printf, 1, 2))) static bool shell(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	int status = system(cmd);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void spaces_end(void)
{
	/* children of the test leave it alone */
	if (getpid() != owner)
		return;
	for (const char *s = "arb"; *s; s++)
		/* busy for a moment when somebody else just copied the mounts */
		for (unsigned tries = 0; tries < 10 && !shell("ip netns del %s-%c 2>/dev/null", prefix, *s); tries++)
			nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
}

static void on_signal(int sig)
{
	exit(128 + sig);
}

static void skip(const char *why)
{
	printf("1..0 # SKIP %s\n", why);
	exit(77);
}

void spaces_enter(const char *space)
{
	char path[128];
	snprintf(path, sizeof(path), "/run/netns/%s-%s", prefix, space);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		skip("a network namespace cannot be entered here");
	close(fd);
}

void spaces_begin(const char *test)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (geteuid())
		skip("network namespaces need root");
	owner = getpid();
	snprintf(prefix, sizeof(prefix), "mr-%s-%d", test, (int)owner);
	atexit(spaces_end);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGALRM, on_signal);
	alarm(getenv("MR_VM") ? 560 : 280); /* nothing here waits for ever; an emulated machine is slow */
	for (const char *s = "arb"; *s; s++)
		if (!shell("ip netns add %s-%c 2>/dev/null", prefix, *s))
			skip("network namespaces are not permitted here");
	spaces_enter("r");
	for (const char *s = "arb"; *s; s++) {
		char name[2] = { *s, 0 };
		(void)spaces_run(name,
			"ip link set lo up; echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad;"
			"echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad;"
			"echo 0 >/proc/sys/net/ipv6/conf/default/router_solicitations");
	}
}

bool spaces_shell(const char *name, const char *cmd)
{
	char path[128], *const argv[] = { "sh", "-c", (char *)cmd, NULL };
	int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), status = -1;
	posix_spawn_file_actions_t quiet;
	pid_t pid;

	if (name) {
		snprintf(path, sizeof(path), "/run/netns/%s", name);
		int there = open(path, O_RDONLY | O_CLOEXEC);
		if (there < 0 || setns(there, CLONE_NEWNET)) {
			close(here);
			return false;
		}
		close(there);
	}
	posix_spawn_file_actions_init(&quiet);
	posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&quiet, 1, 2);
	int err = posix_spawn(&pid, "/bin/sh", &quiet, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&quiet);
	if (setns(here, CLONE_NEWNET))
		abort();
	close(here);
	while (!err && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return !err && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool spaces_run(const char *space, const char *fmt, ...)
{
	char cmd[512], name[80];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	snprintf(name, sizeof(name), "%s-%s", prefix, space);
	return spaces_shell(name, cmd);
}

static void wire(const char *host, const char *dev, unsigned host_nr, unsigned queue_cnt)
{
	(void)spaces_run("r", "ip link del %s", dev);
	(void)shell("ip link add %s numrxqueues %u numtxqueues %u type veth peer name %s0 netns %s-%s numrxqueues %u "
		    "numtxqueues %u",
		dev, queue_cnt, queue_cnt, host, prefix, host, queue_cnt, queue_cnt);
	(void)spaces_run("r", "ip link set %s up", dev);
	/* frames as on a wire: finished checksums, tags inside, none over the MTU */
	(void)spaces_run(host,
		"ethtool -K %s0 tx off tso off gso off gro off; ethtool -K %s0 txvlan off; ip link set %s0 up;"
		"ip addr add 10.77.0.%u/24 dev %s0; ip addr add fd77::%u/64 dev %s0 nodad",
		host, host, host, host_nr, host, host_nr, host);
}

void spaces_wire(unsigned queue_cnt)
{
	wire("a", "r0", 1, queue_cnt);
	wire("b", "r1", 2, queue_cnt);
}

bool spaces_ping(const char *address, unsigned cnt)
{
	/* one first for neighbour discovery, which may take a second when the last case broke it */
	(void)spaces_run("a", "ping -c 1 -W 2 %s", address);
	return spaces_run("a", "ping -i 0.01 -c %u -W 1 %s | grep -q \" %u received\"", cnt, address, cnt);
}

bool spaces_wait(bool (*what)(void *), void *arg)
{
	for (unsigned i = 0; i < 200; i++) {
		if (what(arg))
			return true;
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	return false;
}

void tap_case(bool passed, const char *fmt, ...)
{
	va_list ap;

	printf("%sok %u - ", passed ? "" : "not ", ++case_cnt);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	failed_cnt += !passed;
}

void tap_note(const char *fmt, ...)
{
	va_list ap;

	fputs("# ", stdout);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

int tap_end(void)
{
	printf("1..%u\n", case_cnt);
	return failed_cnt || !case_cnt;
}
