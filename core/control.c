/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/control.h"

#include "core/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX          64
#define REQUEST_MAX_BYTES    65536        /* a line, without its newline */
#define OUTPUT_MAX_BYTES     (64UL << 20) /* waiting for all clients together */
#define REQUESTS_PER_SERVICE 4            /* of one client, so that no client keeps the control thread to itself */
#define SLOW_MS              5000         /* a client that takes no byte of its answer for so long is dropped */
#define IDLE_MS              60000        /* ... and one that sends nothing */
#define FOLDER_MS            4000         /* as long as a start waits for a killed instance to be gone, and a second */
#define LOOK_MS              10

struct client {
	int fd; /* -1 = free slot */
	bool eof;
	bool closing; /* ends once its output is written */
	bool pending; /* a whole request may still lie in `in` */
	uint32_t events;
	uint64_t touched_ms; /* the last byte that moved */
	char *in;
	size_t in_bytes, in_room;
	char *out;
	size_t out_bytes, out_done;
};

struct mr_control {
	mr_control_fn fn;
	void *ctx;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int listen_fd, epoll_fd, timer_fd;
	dev_t dev; /* of the socket file we made: somebody else's is never removed */
	ino_t ino;
	bool bound;
	unsigned client_cnt;
	size_t out_bytes; /* of all clients */
	struct client client[CLIENTS_MAX];
};

/* What epoll tells about: below CLIENTS_MAX a client. */
enum { TAG_LISTEN = CLIENTS_MAX, TAG_TIMER };

static uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- one request ----------------------------------------------------------------------------------------------- */

/* A sentence may hold bytes of a device name or a file, or be cut inside a character: JSON wants valid UTF-8. */
static json_t *error_text(const char *s)
{
	json_t *j = json_string(s);
	if (j)
		return j;
	char plain[MR_ERROR_BYTES];
	size_t i = 0;
	for (; s[i] && i < sizeof(plain) - 1; i++)
		plain[i] = (unsigned char)s[i] < 0x80 ? s[i] : '?';
	plain[i] = '\0';
	return json_string(plain);
}

static char *dump(json_t *j)
{
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	if (!text)
		return NULL;
	size_t n = strlen(text);
	char *line = realloc(text, n + 2);
	if (!line) {
		free(text);
		return NULL;
	}
	line[n] = '\n';
	line[n + 1] = '\0';
	return line;
}

static char *error_line(const char *sentence, bool misuse)
{
	char *line = dump(misuse ? json_pack("{s:o, s:b}", "error", error_text(sentence), "misuse", 1)
				 : json_pack("{s:o}", "error", error_text(sentence[0] ? sentence : "it failed")));
	return line ? line : strdup("{\"error\":\"out of memory\"}\n");
}

char *mr_control_answer(mr_control_fn fn, void *ctx, const char *line, size_t bytes)
{
	json_error_t je;
	struct mr_error e = { "" };
	json_t *request = json_loadb(line, bytes, JSON_REJECT_DUPLICATES, &je);
	if (!request) {
		mr_error_set(&e, -EINVAL, "the request is not JSON: %s", je.text);
		return error_line(e.text, true);
	}
	json_t *answer = NULL;
	const char *verb = json_string_value(json_object_get(request, "verb"));
	const bool misuse = !verb;
	if (misuse)
		mr_error_set(&e, -EINVAL, "a request is an object with a verb, like {\"verb\": \"show\"}");
	else
		answer = fn(ctx, verb, request, &e);
	json_decref(request);
	if (!answer)
		return error_line(e.text, misuse);
	char *text = dump(answer);
	return text ? text : error_line("out of memory", false);
}

/* ---- clients --------------------------------------------------------------------------------------------------- */

static void client_close(struct mr_control *c, struct client *cl)
{
	if (cl->fd < 0)
		return;
	close(cl->fd);
	c->out_bytes -= cl->out_bytes;
	free(cl->in);
	free(cl->out);
	*cl = (struct client){ .fd = -1 };
	c->client_cnt--;
}

static void set_events(struct mr_control *c, struct client *cl)
{
	/* While an answer waits nothing more is read: the client's own socket buffer fills and it has to wait.  A request that
	 * already lies here asks for EPOLLOUT, so that the next service finds it. */
	uint32_t want = 0;
	if (cl->out || cl->pending)
		want = EPOLLOUT;
	else if (!cl->eof && !cl->closing)
		want = EPOLLIN;
	if (want == cl->events)
		return;
	struct epoll_event ev = { .events = want, .data.u32 = (uint32_t)(cl - c->client) };
	if (epoll_ctl(c->epoll_fd, EPOLL_CTL_MOD, cl->fd, &ev))
		client_close(c, cl);
	else
		cl->events = want;
}

/* Takes the text, or frees it and says that it is too much. */
static void queue_answer(struct mr_control *c, struct client *cl, char *text)
{
	size_t n = text ? strlen(text) : 0;
	if (text && c->out_bytes + n > OUTPUT_MAX_BYTES) {
		free(text);
		text = error_line("the answer is too long: ask for less, with filters or a smaller limit", true);
		n = text ? strlen(text) : 0;
	}
	if (!text) {
		cl->closing = true;
		return;
	}
	cl->out = text;
	cl->out_bytes = n;
	cl->out_done = 0;
	c->out_bytes += n;
}

/* False when the client is gone. */
static bool client_write(struct mr_control *c, struct client *cl)
{
	while (cl->out) {
		ssize_t n =
			send(cl->fd, cl->out + cl->out_done, cl->out_bytes - cl->out_done, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return true;
		if (n < 0) {
			client_close(c, cl);
			return false;
		}
		cl->touched_ms = now_ms();
		cl->out_done += (size_t)n;
		if (cl->out_done < cl->out_bytes)
			continue;
		free(cl->out);
		c->out_bytes -= cl->out_bytes;
		cl->out = NULL;
		cl->out_bytes = cl->out_done = 0;
	}
	return true;
}

/* One read, so that a client that never stops sending is one of many.  False when the client is gone. */
static bool client_read(struct mr_control *c, struct client *cl)
{
	if (cl->in_bytes == cl->in_room) {
		size_t room = cl->in_room ? cl->in_room * 2 : 4096;
		if (room > REQUEST_MAX_BYTES + 1)
			room = REQUEST_MAX_BYTES + 1;
		char *in = realloc(cl->in, room);
		if (!in) {
			client_close(c, cl);
			return false;
		}
		cl->in = in;
		cl->in_room = room;
	}
	ssize_t n = recv(cl->fd, cl->in + cl->in_bytes, cl->in_room - cl->in_bytes, MSG_DONTWAIT);
	if (n < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
			return true;
		client_close(c, cl);
		return false;
	}
	cl->touched_ms = now_ms();
	if (n == 0)
		cl->eof = true;
	cl->in_bytes += (size_t)n;
	cl->pending = true;
	return true;
}

/* Takes one request off the input.  False when there is no whole one. */
static bool client_request(struct mr_control *c, struct client *cl)
{
	char *nl = cl->in_bytes ? memchr(cl->in, '\n', cl->in_bytes) : NULL;
	size_t line = nl ? (size_t)(nl - cl->in) : cl->in_bytes;
	size_t used = nl ? line + 1 : line;
	if (line > REQUEST_MAX_BYTES) {
		cl->in_bytes = 0;
		cl->closing = true;
		queue_answer(c, cl, error_line("the request is longer than 65536 bytes", true));
		return true;
	}
	if (!nl && !(cl->eof && line))
		return false;
	bool blank = true;
	for (size_t i = 0; i < line && blank; i++)
		blank = cl->in[i] == ' ' || cl->in[i] == '\r' || cl->in[i] == '\t';
	if (!blank)
		queue_answer(c, cl, mr_control_answer(c->fn, c->ctx, cl->in, line));
	memmove(cl->in, cl->in + used, cl->in_bytes - used);
	cl->in_bytes -= used;
	return true;
}

static void client_serve(struct mr_control *c, struct client *cl, uint32_t events)
{
	if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLIN)) {
		client_close(c, cl); /* both directions are gone */
		return;
	}
	if (!client_write(c, cl))
		return;
	if (events & EPOLLIN && !cl->out && !client_read(c, cl))
		return;
	for (unsigned i = 0; i < REQUESTS_PER_SERVICE && cl->pending && !cl->out && !cl->closing; i++) {
		cl->pending = client_request(c, cl);
		if (!client_write(c, cl))
			return;
	}
	if (!cl->out && (cl->closing || (cl->eof && !cl->pending))) {
		client_close(c, cl);
		return;
	}
	set_events(c, cl);
}

/* ---- listening ------------------------------------------------------------------------------------------------- */

static void accept_clients(struct mr_control *c)
{
	static const char full[] = "{\"error\":\"too many clients are connected: try again later\"}\n";
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		int fd = accept4(c->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		unsigned slot = 0;
		while (slot < CLIENTS_MAX && c->client[slot].fd >= 0)
			slot++;
		struct epoll_event ev = { .events = EPOLLIN, .data.u32 = slot };
		if (slot == CLIENTS_MAX || epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, fd, &ev)) {
			(void)!send(fd, full, sizeof(full) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
			close(fd);
			continue;
		}
		c->client[slot] = (struct client){ .fd = fd, .events = EPOLLIN, .touched_ms = now_ms() };
		c->client_cnt++;
	}
}

static void drop_slow(struct mr_control *c)
{
	uint64_t expirations, now = now_ms();
	(void)!read(c->timer_fd, &expirations, sizeof(expirations));
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		struct client *cl = &c->client[i];
		if (cl->fd >= 0 && now - cl->touched_ms > (cl->out || cl->in_bytes ? SLOW_MS : IDLE_MS))
			client_close(c, cl);
	}
}

/* Ticks only while somebody is connected: an idle instance sleeps. */
static void set_timer(struct mr_control *c, bool on)
{
	struct itimerspec its = { 0 };
	if (on)
		its.it_interval.tv_sec = its.it_value.tv_sec = 1;
	timerfd_settime(c->timer_fd, 0, &its, NULL);
}

void mr_control_service(struct mr_control *c)
{
	struct epoll_event ev[CLIENTS_MAX + 2];
	bool had = c->client_cnt > 0;
	int n = epoll_wait(c->epoll_fd, ev, CLIENTS_MAX + 2, 0);
	bool listening = false;
	for (int i = 0; i < n; i++) {
		if (ev[i].data.u32 == TAG_LISTEN)
			listening = true;
		else if (ev[i].data.u32 == TAG_TIMER)
			drop_slow(c);
		else if (c->client[ev[i].data.u32].fd >= 0)
			client_serve(c, &c->client[ev[i].data.u32], ev[i].events);
	}
	/* Last, so that no event of this turn meets a newcomer in a slot that was just freed. */
	if (listening)
		accept_clients(c);
	if (had != (c->client_cnt > 0))
		set_timer(c, c->client_cnt > 0);
}

int mr_control_fd(const struct mr_control *c)
{
	return c->epoll_fd;
}

/* ---- the socket file ------------------------------------------------------------------------------------------- */

/* Makes the folder and locks it, so that of two instances starting at once only one looks at a stale file. */
static int lock_folder(const char *path, int *out, struct mr_error *e)
{
	char folder[sizeof(((struct mr_control *)0)->path)];
	const char *slash = strrchr(path, '/');
	if (!slash)
		strcpy(folder, ".");
	else if (slash == path)
		strcpy(folder, "/");
	else
		snprintf(folder, sizeof(folder), "%.*s", (int)(slash - path), path);
	if (mkdir(folder, 0755) && errno != EEXIST)
		return mr_error_set(
			e, -errno, "the folder %s of the control socket cannot be made: %s", folder, strerror(errno));
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return mr_error_set(
			e, -errno, "the folder %s of the control socket cannot be opened: %s", folder, strerror(errno));
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB); i++) {
		if (i == FOLDER_MS / LOOK_MS) {
			close(fd);
			return mr_error_set(e, -EBUSY, "the folder %s stays locked by another program", folder);
		}
		nanosleep(&(struct timespec){ .tv_nsec = LOOK_MS * 1000000L }, NULL);
	}
	*out = fd;
	return 0;
}

/* Removes what a dead instance left; -EADDRINUSE when somebody listens there. */
static int remove_stale(const struct sockaddr_un *sa, struct mr_error *e)
{
	struct stat st;
	if (lstat(sa->sun_path, &st))
		return errno == ENOENT ? 0 : mr_error_set(e, -errno, "%s: %s", sa->sun_path, strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return mr_error_set(e, -EEXIST, "%s is there and is no socket: move it away", sa->sun_path);
	pid_t pid;
	int alive = mr_listener_alive(sa, &pid);
	if (alive < 0)
		return mr_error_set(e, alive, "no socket can be made: %s", strerror(-alive));
	if (alive)
		return mr_error_set(e, -EADDRINUSE,
			"another instance answers at %s: stop it, or give this one a name of its own with --name",
			sa->sun_path);
	if (unlink(sa->sun_path) && errno != ENOENT)
		return mr_error_set(
			e, -errno, "the stale control socket %s cannot be removed: %s", sa->sun_path, strerror(errno));
	return 0;
}

static int bind_socket(struct mr_control *c, struct mr_error *e)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct stat st;
	memcpy(sa.sun_path, c->path, sizeof(sa.sun_path));
	int folder = -1;
	int err = lock_folder(c->path, &folder, e);
	if (err)
		return err;
	err = remove_stale(&sa, e);
	if (err)
		goto out;
	c->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* The mode of an unbound socket is the mode bind() gives the file: never open to others, not even for a moment. */
	if (c->listen_fd < 0 || fchmod(c->listen_fd, 0600) || bind(c->listen_fd, (struct sockaddr *)&sa, sizeof(sa))) {
		err = mr_error_set(e, -errno, "the control socket %s cannot be made: %s", c->path, strerror(errno));
		goto out;
	}
	c->bound = true;
	if (lstat(c->path, &st) || listen(c->listen_fd, CLIENTS_MAX)) {
		err = mr_error_set(e, -errno, "the control socket %s cannot be used: %s", c->path, strerror(errno));
		goto out;
	}
	c->dev = st.st_dev;
	c->ino = st.st_ino;
out:
	close(folder);
	return err;
}

int mr_control_create(const char *path, mr_control_fn fn, void *ctx, struct mr_control **out, struct mr_error *e)
{
	int err;
	struct mr_control *c = calloc(1, sizeof(*c));
	if (!c)
		return mr_error_set(e, -ENOMEM, "out of memory");
	c->fn = fn;
	c->ctx = ctx;
	c->listen_fd = c->epoll_fd = c->timer_fd = -1;
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		c->client[i].fd = -1;
	if (!path[0] || strlen(path) >= sizeof(c->path)) {
		err = mr_error_set(
			e, -EINVAL, "the path of the control socket must have 1 to %zu bytes", sizeof(c->path) - 1);
		goto fail;
	}
	strcpy(c->path, path);
	err = bind_socket(c, e);
	if (err)
		goto fail;
	c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	c->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	struct epoll_event l = { .events = EPOLLIN, .data.u32 = TAG_LISTEN },
			   t = { .events = EPOLLIN, .data.u32 = TAG_TIMER };
	if (c->epoll_fd < 0 || c->timer_fd < 0 || epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, c->listen_fd, &l) ||
		epoll_ctl(c->epoll_fd, EPOLL_CTL_ADD, c->timer_fd, &t)) {
		err = mr_error_set(e, -errno, "the control socket cannot be waited on: %s", strerror(errno));
		goto fail;
	}
	*out = c;
	return 0;
fail:
	mr_control_destroy(c);
	return err;
}

void mr_control_destroy(struct mr_control *c)
{
	struct stat st;
	if (!c)
		return;
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		client_close(c, &c->client[i]);
	if (c->bound && !lstat(c->path, &st) && st.st_dev == c->dev && st.st_ino == c->ino)
		unlink(c->path);
	if (c->listen_fd >= 0)
		close(c->listen_fd);
	if (c->timer_fd >= 0)
		close(c->timer_fd);
	if (c->epoll_fd >= 0)
		close(c->epoll_fd);
	free(c);
}
