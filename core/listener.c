/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/listener.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ENDING_MS 3000 /* how long a start waits for a killed instance to be gone */
#define LOOK_MS   10
#define LOOKS_CNT 5

/* Has this process been killed, and is the kernel still taking it down?  While it does, a connection to its socket succeeds. */
static bool is_ending(pid_t pid)
{
	char path[32], text[512];
	char state = 0;
	unsigned flags = 0;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	FILE *f = fopen(path, "re");
	if (!f)
		return errno == ENOENT && pid > 0 && kill(pid, 0) && errno == ESRCH;
	bool got = fgets(text, sizeof(text), f);
	fclose(f);
	const char *rest = got ? strrchr(text, ')') : NULL;
	if (!rest || sscanf(rest + 1, " %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2)
		return false;
	return state == 'Z' || state == 'X' || flags & 4 /* PF_EXITING */;
}

/* Until all threads of it are gone, and with them what it held, or the time is over. */
static void wait_for_end(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	if (fd < 0)
		return;
	(void)poll(&p, 1, ENDING_MS);
	close(fd);
}

int mr_listener_alive(const struct sockaddr_un *sa, pid_t *pid)
{
	*pid = 0;
	/* It was killed a moment ago, perhaps, and does not know yet: alive is who looks so several times. */
	for (int looks = 0; looks < LOOKS_CNT; looks++) {
		struct ucred peer = { 0 };
		socklen_t bytes = sizeof(peer);
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (fd < 0)
			return -errno;
		int err = connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) ? errno : 0;
		if (!err && !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes))
			*pid = peer.pid;
		close(fd);
		if (err == ECONNREFUSED || err == ENOENT)
			return false;
		if (peer.pid > 0 && is_ending(peer.pid))
			wait_for_end(peer.pid);
		else
			nanosleep(&(struct timespec){ .tv_nsec = LOOK_MS * 1000000L }, NULL);
	}
	return true;
}
