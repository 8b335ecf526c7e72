/* SPDX-License-Identifier: BSD-2-Clause */
#include "millrace/control.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FOLDER           "/run/millrace"
#define ANSWER_MAX_BYTES (64UL << 20)

static int fail(char *error, size_t bytes, int err, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static int fail(char *error, size_t bytes, int err, const char *fmt, ...)
{
	if (error && bytes) {
		va_list ap;
		va_start(ap, fmt);
		vsnprintf(error, bytes, fmt, ap);
		va_end(ap);
	}
	return err;
}

static uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* "wan, lan" of the instances that have a socket, for the sentence. */
static void running(char *out, size_t bytes)
{
	out[0] = '\0';
	DIR *d = opendir(FOLDER);
	if (!d)
		return;
	for (struct dirent *de; (de = readdir(d));) {
		size_t n = strlen(de->d_name), at = strlen(out);
		if (n <= 5 || strcmp(de->d_name + n - 5, ".sock"))
			continue;
		if (at + n + 2 >= bytes)
			break;
		snprintf(out + at, bytes - at, "%s%.*s", at ? ", " : "", (int)(n - 5), de->d_name);
	}
	closedir(d);
}

static int connect_error(int err, const char *name, const char *path, char *error, size_t bytes)
{
	char others[256];
	switch (err) {
	case ENOENT:
	case ENOTDIR:
		running(others, sizeof(others));
		if (others[0])
			return fail(error, bytes, -ENOENT, "no instance '%s' runs; with --name choose of: %s", name,
				others);
		return fail(error, bytes, -ENOENT,
			"no instance '%s' runs (there is no %s): start it with: millrace run FILE", name, path);
	case EACCES:
	case EPERM:
		return fail(error, bytes, -EACCES, "%s may only be used by root: use sudo", path);
	case ECONNREFUSED:
		return fail(error, bytes, -ECONNREFUSED,
			"the instance '%s' has died and left %s: start it again with: millrace run FILE", name, path);
	case EAGAIN:
		return fail(
			error, bytes, -ETIMEDOUT, "the instance '%s' takes no more connections: try again later", name);
	default:
		return fail(error, bytes, -err, "%s: %s", path, strerror(err));
	}
}

/* Waits for events until the deadline.  0 or -ETIMEDOUT. */
static int wait_for(int fd, short events, uint64_t deadline_ms)
{
	for (;;) {
		uint64_t now = now_ms();
		if (now >= deadline_ms)
			return -ETIMEDOUT;
		struct pollfd p = { .fd = fd, .events = events };
		uint64_t left = deadline_ms - now;
		if (poll(&p, 1, left > 1000000 ? 1000000 : (int)left) > 0)
			return 0;
	}
}

static int send_request(int fd, const char *request, uint64_t deadline_ms)
{
	size_t n = strlen(request), done = 0;
	while (done <= n) { /* the byte at n goes out as the newline */
		const char *at = done < n ? request + done : "\n";
		ssize_t k = send(fd, at, done < n ? n - done : 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (k >= 0) {
			done += (size_t)k;
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			int err = wait_for(fd, POLLOUT, deadline_ms);
			if (err)
				return err;
		} else if (errno == EPIPE || errno == ECONNRESET) {
			return 0; /* its last words may still be readable */
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

/* Up to the newline, which is cut off.  -ECONNREFUSED when the other side ends before. */
static int read_answer(int fd, uint64_t deadline_ms, char **answer)
{
	size_t have = 0, room = 16384;
	int err = -ENOMEM;
	char *buf = malloc(room);
	while (buf) {
		if (have + 1 == room) {
			err = room >= ANSWER_MAX_BYTES ? -EMSGSIZE : -ENOMEM;
			char *more = err == -EMSGSIZE ? NULL : realloc(buf, room * 2);
			if (!more)
				break;
			buf = more;
			room *= 2;
		}
		ssize_t k = recv(fd, buf + have, room - have - 1, MSG_DONTWAIT);
		if (k > 0) {
			char *nl = memchr(buf + have, '\n', (size_t)k);
			have += (size_t)k;
			if (!nl)
				continue;
			*nl = '\0';
			*answer = buf;
			return 0;
		}
		err = -ECONNREFUSED;
		if (k == 0)
			break;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			break;
		err = wait_for(fd, POLLIN, deadline_ms);
		if (err)
			break;
	}
	free(buf);
	return err;
}

static int exchange(
	int fd, const char *request, unsigned timeout_ms, char **answer, const char *name, char *error, size_t bytes)
{
	uint64_t deadline_ms = now_ms() + timeout_ms;
	int err = send_request(fd, request, deadline_ms);
	if (!err)
		err = read_answer(fd, deadline_ms, answer);
	switch (err) {
	case 0:
		return 0;
	case -ETIMEDOUT:
		return fail(error, bytes, err, "the instance '%s' did not answer within %u ms", name, timeout_ms);
	case -ECONNREFUSED:
		return fail(error, bytes, err, "the instance '%s' ended while it was asked", name);
	case -EMSGSIZE:
		return fail(error, bytes, err, "the answer is longer than %lu bytes: ask for less", ANSWER_MAX_BYTES);
	default:
		return fail(error, bytes, err, "asking the instance '%s' failed: %s", name, strerror(-err));
	}
}

int mr_control_call(
	const char *name, const char *request, unsigned timeout_ms, char **answer, char *error, size_t error_bytes)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	if (!name)
		name = "default";
	int n = strchr(name, '/') ? snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", name)
				  : snprintf(sa.sun_path, sizeof(sa.sun_path), FOLDER "/%s.sock", name);
	if (n < 0 || (size_t)n >= sizeof(sa.sun_path))
		return fail(error, error_bytes, -EINVAL, "the name of the instance is too long");
	if (strchr(request, '\n'))
		return fail(error, error_bytes, -EINVAL, "a request is one line");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return fail(error, error_bytes, -errno, "no socket can be made: %s", strerror(errno));
	int err;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		err = connect_error(errno, name, sa.sun_path, error, error_bytes);
	else
		err = exchange(fd, request, timeout_ms, answer, name, error, error_bytes);
	close(fd);
	return err;
}
