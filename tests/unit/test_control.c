/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/control.h"
#include "millrace/control.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* The server over real sockets, in a folder of the test's own. */

static char folder[64], path[96];
static unsigned answered;

static void make_folder(void)
{
	strcpy(folder, "/tmp/mr_test_control.XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/x.sock", folder);
}

static void remove_folder(void)
{
	unlink(path);
	rmdir(folder);
}

/* Says back what was asked; "big" asks for so many bytes; "null" fails without a word, "latin" with bytes that are no UTF-8. */
static json_t *echo(void *ctx, const char *verb, const json_t *request, struct mr_error *e)
{
	answered++;
	if (!strcmp(verb, "fail")) {
		mr_error_set(e, -EINVAL, "it is \"wrong\"\n");
		return NULL;
	}
	if (!strcmp(verb, "null"))
		return NULL;
	if (!strcmp(verb, "latin")) {
		mr_error_set(e, -EINVAL, "caf\xe9");
		return NULL;
	}
	if (!strcmp(verb, "big")) {
		size_t n = (size_t)json_integer_value(json_object_get(request, "bytes"));
		char *s = malloc(n + 1);
		memset(s, 'x', n);
		s[n] = '\0';
		json_t *j = json_pack("{s:s}", "data", s);
		free(s);
		return j;
	}
	return json_pack("{s:s, s:O}", "verb", verb, "request", (json_t *)request);
}

static struct mr_control *start(void)
{
	struct mr_control *c = NULL;
	struct mr_error e = { "" };
	cr_assert_eq(mr_control_create(path, echo, NULL, &c, &e), 0, "%s", e.text);
	return c;
}

static int dial(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	strcpy(sa.sun_path, path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	cr_assert_geq(fd, 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0, "%s", strerror(errno));
	return fd;
}

static void service(struct mr_control *c, unsigned turns)
{
	for (unsigned i = 0; i < turns; i++)
		mr_control_service(c);
}

static void put(int fd, const char *s)
{
	size_t n = strlen(s);
	cr_assert_eq(send(fd, s, n, MSG_NOSIGNAL), (ssize_t)n);
}

/* What has come so far; 0 bytes and *eof when the other side is done. */
static size_t get(int fd, char *out, size_t room, bool *eof)
{
	size_t have = 0;
	ssize_t n;
	while (have + 1 < room && (n = recv(fd, out + have, room - have - 1, MSG_DONTWAIT)) > 0)
		have += (size_t)n;
	out[have] = '\0';
	*eof = have + 1 < room && n == 0;
	return have;
}

static char buf[1 << 20];
static bool eof;

TestSuite(control, .init = make_folder, .fini = remove_folder, .timeout = 60);

Test(control, answers_one_line_with_one_line)
{
	struct mr_control *c = start();
	int fd = dial();
	put(fd, "{\"verb\": \"show\", \"what\": \"flows\"}\n");
	service(c, 3);
	get(fd, buf, sizeof(buf), &eof);
	cr_assert_str_eq(buf, "{\"verb\":\"show\",\"request\":{\"verb\":\"show\",\"what\":\"flows\"}}\n");
	cr_assert_not(eof);
	/* the connection stays for the next one, also for several at once, and blank lines are nothing */
	put(fd,
		"\n  "
		"\r\n{\"verb\":\"a\"}\n{\"verb\":\"b\"}\n{\"verb\":\"c\"}\n{\"verb\":\"d\"}\n{\"verb\":\"e\"}\n{"
		"\"verb\":\"f\"}\n");
	service(c, 8);
	get(fd, buf, sizeof(buf), &eof);
	unsigned lines = 0;
	for (char *p = buf; (p = strchr(p, '\n')); p++)
		lines++;
	cr_assert_eq(lines, 6, "%s", buf);
	close(fd);
	service(c, 2);
	mr_control_destroy(c);
}

Test(control, no_client_keeps_the_thread_for_all_its_requests)
{
	struct mr_control *c = start();
	int fd = dial();
	service(c, 1);
	for (unsigned i = 0; i < 100; i++)
		put(fd, "{\"verb\":\"a\"}\n");
	answered = 0;
	service(c, 1);
	cr_assert_leq(answered, 4);
	for (unsigned i = 0; i < 100; i++) {
		service(c, 1);
		get(fd, buf, sizeof(buf), &eof); /* small answers fill a socket's buffer sooner than their bytes say */
	}
	cr_assert_eq(answered, 100);
	close(fd);
	mr_control_destroy(c);
}

Test(control, a_request_may_come_in_pieces)
{
	static const char request[] = "{\"verb\":\"show\",\"what\":\"drops\"}\n";
	struct mr_control *c = start();
	int fd = dial();
	for (size_t i = 0; i < sizeof(request) - 1; i++) {
		cr_assert_eq(send(fd, &request[i], 1, 0), 1);
		service(c, 2);
		cr_assert_eq(get(fd, buf, sizeof(buf), &eof) > 0, i == sizeof(request) - 2);
	}
	cr_assert(strstr(buf, "drops"));
	/* the last one needs no newline when the sender says that it is the last */
	put(fd, "{\"verb\":\"end\"}");
	shutdown(fd, SHUT_WR);
	service(c, 4);
	get(fd, buf, sizeof(buf), &eof);
	cr_assert(strstr(buf, "\"end\""), "%s", buf);
	cr_assert(eof);
	close(fd);
	mr_control_destroy(c);
}

Test(control, garbage_gets_a_sentence_and_the_connection_goes_on)
{
	static const char *const bad[] = { "x\n", "{\n", "[]\n", "{}\n", "{\"verb\":5}\n",
		"{\"verb\":\"a\",\"verb\":\"b\"}\n", "\"verb\"\n", "{\"verb\":\"\\u0000\"}\n", "{\"verb\":\"fail\"}\n",
		"{\"verb\":\"null\"}\n", "{\"verb\":\"latin\"}\n", "\xff\xfe{}\n", "{\"verb\":\"a\"} trailing\n",
		"{\"verb\":1e999}\n" };
	struct mr_control *c = start();
	int fd = dial();
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put(fd, bad[i]);
		service(c, 4);
		size_t n = get(fd, buf, sizeof(buf), &eof);
		cr_assert(!strncmp(buf, "{\"error\":\"", 10), "%s: %s", bad[i], buf);
		cr_assert_eq(strchr(buf, '\n'), buf + n - 1, "one line");
		json_t *j = json_loads(buf, 0, NULL);
		cr_assert_not_null(j, "%s", buf);
		cr_assert_gt(json_string_length(json_object_get(j, "error")), 0);
		if (!strstr(bad[i], "{\"verb\":\"") || strstr(bad[i], "trailing"))
			cr_assert(json_is_true(json_object_get(j, "misuse")), "%s: %s", bad[i], buf);
		json_decref(j);
	}
	char nul[] = "{\"verb\":\0\"a\"}\n";
	cr_assert_eq(send(fd, nul, sizeof(nul) - 1, 0), (ssize_t)sizeof(nul) - 1);
	service(c, 4);
	get(fd, buf, sizeof(buf), &eof);
	cr_assert(strstr(buf, "error"), "%s", buf);
	close(fd);
	mr_control_destroy(c);
}

Test(control, a_line_that_never_ends_is_refused)
{
	struct mr_control *c = start();
	int fd = dial();
	char block[1000];
	memset(block, 'a', sizeof(block));
	for (unsigned i = 0; i < 200; i++) {
		if (send(fd, block, sizeof(block), MSG_NOSIGNAL) < 0)
			break;
		service(c, 2);
	}
	service(c, 100);
	get(fd, buf, sizeof(buf), &eof);
	cr_assert(strstr(buf, "longer than 65536 bytes"), "%s", buf);
	close(fd);
	/* the longest line that is allowed */
	fd = dial();
	char *line = malloc(65537);
	memset(line, ' ', 65536);
	memcpy(line, "{\"verb\":\"a\"}", 12);
	line[65536] = '\n';
	for (size_t done = 0; done < 65537;) {
		ssize_t n = send(fd, line + done, 65537 - done, MSG_NOSIGNAL);
		if (n > 0)
			done += (size_t)n;
		service(c, 1);
	}
	service(c, 100);
	get(fd, buf, sizeof(buf), &eof);
	cr_assert(strstr(buf, "request"), "%s", buf);
	free(line);
	close(fd);
	mr_control_destroy(c);
}

Test(control, a_long_answer_waits_for_its_reader_and_nobody_else_does)
{
	struct mr_control *c = start();
	int slow = dial(), quick = dial();
	put(slow, "{\"verb\":\"big\",\"bytes\":8000000}\n{\"verb\":\"after\"}\n");
	service(c, 10);
	put(quick, "{\"verb\":\"quick\"}\n");
	service(c, 4);
	get(quick, buf, sizeof(buf), &eof);
	cr_assert(strstr(buf, "quick"));
	answered = 0;
	size_t total = 0;
	for (unsigned i = 0; i < 1000 && !strstr(buf, "after"); i++) {
		total += get(slow, buf, sizeof(buf), &eof);
		service(c, 2);
	}
	cr_assert_gt(total, 8000000);
	cr_assert_eq(answered, 1, "the second request was not looked at before the first was taken");
	/* an answer over the bound of all clients is refused, not built up */
	put(quick, "{\"verb\":\"big\",\"bytes\":70000000}\n");
	service(c, 4);
	get(quick, buf, sizeof(buf), &eof);
	cr_assert(strstr(buf, "too long"), "%.200s", buf);
	close(slow);
	close(quick);
	mr_control_destroy(c);
}

Test(control, a_reader_that_stops_is_dropped)
{
	struct mr_control *c = start();
	int fd = dial();
	put(fd, "{\"verb\":\"big\",\"bytes\":8000000}\n");
	size_t total = 0;
	struct pollfd p = { .fd = mr_control_fd(c), .events = POLLIN };
	service(c, 4);
	for (unsigned i = 0; i < 9; i++) {
		poll(&p, 1, 1000);
		sleep(1);
		service(c, 2);
	}
	while (get(fd, buf, sizeof(buf), &eof) && !eof)
		total += strlen(buf);
	cr_assert_lt(total, 8000000);
	close(fd);
	mr_control_destroy(c);
}

Test(control, sixty_four_clients_and_not_one_more)
{
	struct mr_control *c = start();
	int fd[70];
	for (unsigned i = 0; i < 70; i++) {
		fd[i] = dial();
		service(c, 1);
	}
	for (unsigned i = 0; i < 64; i++)
		put(fd[i], "{\"verb\":\"here\"}\n");
	service(c, 20);
	for (unsigned i = 0; i < 70; i++) {
		get(fd[i], buf, sizeof(buf), &eof);
		cr_assert(strstr(buf, i < 64 ? "here" : "too many clients"), "%u: %s", i, buf);
		cr_assert_eq(eof, i >= 64);
	}
	/* a place that is given up can be taken again, also after one that hung up in the middle */
	put(fd[5], "{\"verb\":\"big\",\"bytes\":8000000}\n{\"ve");
	service(c, 2);
	close(fd[5]);
	service(c, 2);
	fd[5] = dial();
	put(fd[5], "{\"verb\":\"again\"}\n");
	service(c, 5);
	get(fd[5], buf, sizeof(buf), &eof);
	cr_assert(strstr(buf, "again"), "%s", buf);
	for (unsigned i = 0; i < 70; i++)
		close(fd[i]);
	service(c, 3);
	mr_control_destroy(c);
}

Test(control, random_bytes_from_many_clients)
{
	struct mr_control *c = start();
	int fd[16];
	unsigned seed = 1;
	for (unsigned i = 0; i < 16; i++)
		fd[i] = dial();
	for (unsigned round = 0; round < 3000; round++) {
		static const char words[] = "{}[]\",:\\ \nverb0123456789truefalsenull\xff\x01";
		unsigned i = (unsigned)rand_r(&seed) % 16;
		char junk[64];
		unsigned n = 1 + (unsigned)rand_r(&seed) % sizeof(junk);
		for (unsigned k = 0; k < n; k++)
			junk[k] = words[(unsigned)rand_r(&seed) % (sizeof(words) - 1)];
		if (send(fd[i], junk, n, MSG_NOSIGNAL) < 0 || rand_r(&seed) % 50 == 0) {
			close(fd[i]);
			fd[i] = dial();
		}
		get(fd[i], buf, sizeof(buf), &eof);
		service(c, 1);
	}
	for (unsigned i = 0; i < 16; i++)
		close(fd[i]);
	service(c, 2);
	int fd0 = dial();
	put(fd0, "{\"verb\":\"alive\"}\n");
	service(c, 5);
	get(fd0, buf, sizeof(buf), &eof);
	cr_assert(strstr(buf, "alive"));
	close(fd0);
	mr_control_destroy(c);
}

/* ---- the file -------------------------------------------------------------------------------------------------- */

Test(control, the_socket_is_private_and_goes_away)
{
	struct stat st;
	umask(0);
	snprintf(path, sizeof(path), "%s/sub/x.sock", folder);
	struct mr_control *c = start();
	cr_assert_eq(stat(path, &st), 0);
	cr_assert(S_ISSOCK(st.st_mode));
	cr_assert_eq(st.st_mode & 07777, 0600);
	char sub[96];
	snprintf(sub, sizeof(sub), "%s/sub", folder);
	cr_assert_eq(stat(sub, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0755);
	mr_control_destroy(c);
	cr_assert_eq(stat(path, &st), -1);
	rmdir(sub);
	mr_control_destroy(NULL);
}

/* The kernel takes a killed process down in its time, and until then its socket still takes connections. */
Test(control, one_that_was_just_killed_is_waited_for)
{
	struct mr_error e = { "" };
	int ready[2];
	char byte;
	cr_assert_eq(pipe(ready), 0);
	pid_t pid = fork();
	if (pid == 0) {
		start();
		/* much to take down, before the files are closed */
		size_t bytes = 256UL << 20;
		char *much = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (much != MAP_FAILED)
			for (size_t i = 0; i < bytes; i += 4096)
				much[i] = 1;
		if (write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	cr_assert_eq(read(ready[0], &byte, 1), 1);
	kill(pid, SIGKILL);
	struct mr_control *c = NULL;
	cr_assert_eq(mr_control_create(path, echo, NULL, &c, &e), 0, "%s", e.text);
	mr_control_destroy(c);
	waitpid(pid, NULL, 0);
	close(ready[0]);
	close(ready[1]);
}

Test(control, a_live_socket_is_refused_and_a_stale_one_replaced)
{
	struct mr_error e = { "" };
	struct mr_control *c = start(), *second = NULL;
	cr_assert_eq(mr_control_create(path, echo, NULL, &second, &e), -EADDRINUSE);
	cr_assert(strstr(e.text, "--name"), "%s", e.text);
	cr_assert_null(second);
	mr_control_destroy(c);
	pid_t pid = fork();
	if (pid == 0) {
		start();
		kill(getpid(), SIGKILL);
	}
	waitpid(pid, NULL, 0);
	cr_assert_eq(access(path, F_OK), 0, "what a killed process leaves");
	c = start();
	int fd = dial();
	close(fd);
	/* somebody else's file in its place is not removed */
	unlink(path);
	int other = open(path, O_CREAT | O_WRONLY, 0600);
	close(other);
	mr_control_destroy(c);
	cr_assert_eq(access(path, F_OK), 0);
	cr_assert_eq(mr_control_create(path, echo, NULL, &c, &e), -EEXIST);
	cr_assert(strstr(e.text, "no socket"), "%s", e.text);
	cr_assert_eq(access(path, F_OK), 0);
}

Test(control, paths_that_cannot_be_are_said)
{
	struct mr_error e = { "" };
	struct mr_control *c = NULL;
	char longer[300];
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	cr_assert_eq(mr_control_create(longer, echo, NULL, &c, &e), -EINVAL);
	cr_assert_eq(mr_control_create("", echo, NULL, &c, &e), -EINVAL);
	cr_assert_eq(mr_control_create("/nonexistent-folder/deeper/x.sock", echo, NULL, &c, &e), -ENOENT);
	cr_assert(strstr(e.text, "/nonexistent-folder/deeper"), "%s", e.text);
	cr_assert_null(c);
}

/* ---- the client ------------------------------------------------------------------------------------------------ */

static struct mr_control *served;
static atomic_bool serving;

static void *serve(void *arg)
{
	while (serving) {
		struct pollfd p = { .fd = mr_control_fd(served), .events = POLLIN };
		if (poll(&p, 1, 20) > 0)
			mr_control_service(served);
	}
	return NULL;
}

Test(control, client_and_server)
{
	pthread_t t;
	char *answer = NULL, error[256] = "";
	served = start();
	serving = true;
	cr_assert_eq(pthread_create(&t, NULL, serve, NULL), 0);
	cr_assert_eq(
		mr_control_call(path, "{\"verb\":\"hello\"}", 5000, &answer, error, sizeof(error)), 0, "%s", error);
	cr_assert(strstr(answer, "hello"));
	cr_assert_null(strchr(answer, '\n'));
	free(answer);
	cr_assert_eq(
		mr_control_call(path, "{\"verb\":\"big\",\"bytes\":30000000}", 20000, &answer, error, sizeof(error)), 0,
		"%s", error);
	cr_assert_gt(strlen(answer), 30000000);
	free(answer);
	cr_assert_eq(mr_control_call(path, "{\n}", 1000, &answer, error, sizeof(error)), -EINVAL);
	serving = false;
	pthread_join(t, NULL);
	cr_assert_eq(mr_control_call(path, "{\"verb\":\"late\"}", 100, &answer, error, sizeof(error)), -ETIMEDOUT);
	cr_assert(strstr(error, "100 ms"), "%s", error);
	mr_control_destroy(served);
	cr_assert_eq(mr_control_call(path, "{\"verb\":\"gone\"}", 100, &answer, error, sizeof(error)), -ENOENT);
	cr_assert(strlen(error) > 0);
}

Test(control, client_of_a_dead_instance)
{
	char *answer = NULL, error[256] = "";
	pid_t pid = fork();
	if (pid == 0) {
		start();
		kill(getpid(), SIGKILL);
	}
	waitpid(pid, NULL, 0);
	cr_assert_eq(mr_control_call(path, "{\"verb\":\"x\"}", 100, &answer, error, sizeof(error)), -ECONNREFUSED);
	cr_assert(strstr(error, "has died"), "%s", error);
	char longer[300];
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	cr_assert_eq(mr_control_call(longer, "{}", 100, &answer, error, sizeof(error)), -EINVAL);
}
