/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log_file.c - where lines go: a file, opened again when its name belongs to another one (logrotate needs no postrotate), or syslog.
 *
 * Lines are appended by few writes.  When the disk is full inside a line, the part is taken away again; where that cannot be (another writer has
 * appended since, or it is no regular file) the next write ends it first, and readers pass it over.
 *
 * Syslog is a datagram a line to /dev/log, in the form of syslog(3), which every local daemon reads; not by syslog(3), which does not say what
 * was not taken.
 */
#include "pipelines/nat44/log_part.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#define FILE_MODE      0640
#define FOLDER_MODE    0750
#define SYSLOG_WAIT_MS 100

/* ---- files ---------------------------------------------------------------------------------------------------------- */

/* A process that was killed while it wrote, or a machine that lost power, may have left part of a line. */
static bool ends_inside_line(const char *path, off_t size)
{
	char last = '\n';
	int fd = size ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
	if (fd < 0)
		return false;
	if (pread(fd, &last, 1, size - 1) != 1)
		last = '\n';
	close(fd);
	return last != '\n';
}

static void make_folder(const char *path)
{
	char folder[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;
	if (!n || n >= sizeof(folder))
		return;
	memcpy(folder, path, n);
	folder[n] = '\0';
	(void)mkdir(folder, FOLDER_MODE); /* open() says what is wrong */
}

static int open_file(struct nat_log_sink *s)
{
	struct stat st;
	int flags = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	int fd = open(s->path, flags, FILE_MODE);
	if (fd < 0 && errno == ENOENT) {
		make_folder(s->path);
		fd = open(s->path, flags, FILE_MODE);
	}
	if (fd < 0 || fstat(fd, &st)) {
		int err = -errno;
		if (fd >= 0)
			close(fd);
		return err;
	}
	if (s->fd >= 0)
		close(s->fd);
	s->fd = fd;
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	s->regular = S_ISREG(st.st_mode);
	s->torn = s->regular && ends_inside_line(s->path, st.st_size);
	return 0;
}

/* Takes the last `bytes` away that were written, when they are the last there are. */
static bool take_back(int fd, off_t bytes)
{
	struct stat st;
	off_t end = lseek(fd, 0, SEEK_CUR); /* of what this descriptor appended */
	return end >= bytes && !fstat(fd, &st) && st.st_size == end && !ftruncate(fd, end - bytes);
}

/* All of it, or as many bytes as go: *written; -errno why not all. */
static int write_all(int fd, const char *text, size_t bytes, size_t *written)
{
	*written = 0;
	while (*written < bytes) {
		ssize_t n = write(fd, text + *written, bytes - *written);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		*written += (size_t)n;
	}
	return 0;
}

/* A pipe takes no more than this in one piece. */
static unsigned lines_at_once(const struct nat_log_sink *s, const uint16_t *line_bytes, unsigned cnt, size_t *bytes)
{
	unsigned n = 0;
	for (*bytes = 0; n < cnt; n++) {
		if (!s->regular && n && *bytes + line_bytes[n] > PIPE_BUF)
			break;
		*bytes += line_bytes[n];
	}
	return n;
}

static int write_file(
	struct nat_log_sink *s, const char *text, const uint16_t *line_bytes, unsigned line_cnt, unsigned *done)
{
	size_t bytes, written;
	while (*done < line_cnt) {
		if (s->torn && write(s->fd, "\n", 1) != 1)
			return -errno;
		s->torn = false;
		unsigned n = lines_at_once(s, line_bytes + *done, line_cnt - *done, &bytes);
		int err = write_all(s->fd, text, bytes, &written);
		if (!err) {
			*done += n;
			text += bytes;
			continue;
		}
		for (; written >= line_bytes[*done]; ++*done)
			written -= line_bytes[*done];
		s->torn = written && !(s->regular && take_back(s->fd, (off_t)written));
		return err;
	}
	return 0;
}

/* ---- syslog ----------------------------------------------------------------------------------------------------------- */

static int open_syslog(struct nat_log_sink *s)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	if (strlen(s->path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, s->path, strlen(s->path));
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa))) {
		int err = -errno;
		close(fd);
		return err;
	}
	if (s->fd >= 0)
		close(s->fd);
	s->fd = fd;
	snprintf(s->tag, sizeof(s->tag), "millrace[%d]", (int)getpid());
	return 0;
}

/* "<30>Jan  2 14:03:07 millrace[123]: ", in local time as syslog(3) does it. */
static unsigned syslog_head(const struct nat_log_sink *s, char *out, unsigned bytes)
{
	static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov",
		"Dec" };
	time_t now = time(NULL);
	struct tm tm;
	localtime_r(&now, &tm);
	int n = snprintf(out, bytes, "<%d>%s %2d %02d:%02d:%02d %s: ", LOG_DAEMON | LOG_INFO, months[tm.tm_mon % 12],
		tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, s->tag);
	return n > 0 && (unsigned)n < bytes ? (unsigned)n : 0;
}

/* A daemon that has much to do is waited for a little: only the writer waits. */
static int send_one(int fd, const char *datagram, size_t bytes)
{
	for (unsigned tries = 0;; tries++) {
		if (send(fd, datagram, bytes, MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno != EAGAIN || tries)
			return -errno;
		struct pollfd p = { .fd = fd, .events = POLLOUT };
		(void)poll(&p, 1, SYSLOG_WAIT_MS);
	}
}

static int write_syslog(
	struct nat_log_sink *s, const char *text, const uint16_t *line_bytes, unsigned line_cnt, unsigned *done)
{
	char datagram[128 + NAT_LINE_BYTES];
	unsigned head = syslog_head(s, datagram, 128);
	for (; *done < line_cnt; ++*done) {
		unsigned n = line_bytes[*done] - 1u;
		memcpy(datagram + head, text, n);
		int err = send_one(s->fd, datagram, head + n);
		if (err)
			return err;
		text += n + 1;
	}
	return 0;
}

/* ---- both ------------------------------------------------------------------------------------------------------------ */

int nat_log_sink_open(struct nat_log_sink *s)
{
	return s->is_file ? open_file(s) : open_syslog(s);
}

void nat_log_sink_close(struct nat_log_sink *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

void nat_log_sink_follow(struct nat_log_sink *s)
{
	struct stat st;
	if (!s->is_file || (!stat(s->path, &st) && st.st_dev == s->dev && st.st_ino == s->ino))
		return;
	(void)open_file(s);
}

int nat_log_sink_write(
	struct nat_log_sink *s, const char *text, const uint16_t *line_bytes, unsigned line_cnt, unsigned *done)
{
	*done = 0;
	if (s->fd < 0)
		return -EBADF;
	return s->is_file ? write_file(s, text, line_bytes, line_cnt, done)
			  : write_syslog(s, text, line_bytes, line_cnt, done);
}
