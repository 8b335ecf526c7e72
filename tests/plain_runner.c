// SPDX-License-Identifier: BSD-2-Clause
/*
 * plain_runner.c - runs Criterion tests without Criterion, for builds with the thread sanitizer.
 *
 * Criterion isolates tests with a memory arena mapped where that sanitizer keeps its shadow, and does not start
 * under it.  The test macros only record tests in a section and report assertions by a few functions; those are
 * here.  Each test runs in a forked child; results are TAP on standard output.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define TIMEOUT_S    240
#define EXIT_SKIPPED 77

int main(void);

extern struct criterion_test *__start_cr_tst[], *__stop_cr_tst[];
extern struct criterion_suite *__start_cr_sts[] __attribute__((weak)), *__stop_cr_sts[] __attribute__((weak));

struct criterion_options criterion_options;
static const struct criterion_test *current;
static const struct criterion_suite *current_suite;
static jmp_buf aborted;
static bool failed;

/* ---- what the macros call */

void criterion_internal_test_setup(void)
{
	if (current_suite && current_suite->data && current_suite->data->init)
		current_suite->data->init();
	if (current->data->init)
		current->data->init();
}

static void run_parameters(void (*fn)(void))
{
	struct criterion_test_params p = current->data->param_();

	for (size_t i = 0; i < p.length; i++) {
		if (setjmp(aborted) == 0)
			((void (*)(void *))fn)((char *)p.params + i * p.size);
	}
	if (p.cleanup)
		p.cleanup(&p);
}

void criterion_internal_test_main(void (*fn)(void))
{
	if (current->data->kind_ == CR_TEST_PARAMETERIZED)
		run_parameters(fn);
	else if (setjmp(aborted) == 0)
		fn();
}

void criterion_internal_test_teardown(void)
{
	if (current->data->fini)
		current->data->fini();
	if (current_suite && current_suite->data && current_suite->data->fini)
		current_suite->data->fini();
}

void criterion_send_assert(struct criterion_assert_stats *stats)
{
	if (stats->passed)
		return;
	failed = true;
	printf("# %s:%u: %s\n", stats->file, stats->line, stats->message);
	fflush(stdout);
}

void criterion_abort_test(void)
{
	failed = true;
	longjmp(aborted, 1);
}

void criterion_skip_test(const char *format, ...)
{
	va_list ap;

	printf("# SKIP ");
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	exit(EXIT_SKIPPED);
}

void criterion_continue_test(void)
{
}

void criterion_test_die(const char *msg, ...)
{
	va_list ap;

	va_start(ap, msg);
	vprintf(msg, ap);
	va_end(ap);
	fflush(stdout);
	exit(1);
}

void cri_asserts_passed_incr(void)
{
}

int cr_vasprintf(char **strp, const char *fmt, va_list ap)
{
	return vasprintf(strp, fmt, ap);
}

int cr_asprintf(char **strp, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(strp, fmt, ap);
	va_end(ap);
	return n;
}

void cr_asprintf_free(char *buf)
{
	free(buf);
}

/* The expression that did not hold is among the strings; which ones there are depends on the kind. */
char *cr_translate_assert_msg(int msg_index, ...)
{
	va_list ap;
	char *text = NULL;

	va_start(ap, msg_index);
	if (asprintf(&text, "%s", msg_index == CRITERION_ASSERT_MSG_FAIL ? "failed" : va_arg(ap, const char *)) < 0)
		text = NULL;
	va_end(ap);
	return text;
}

void cr_log(enum criterion_severity severity, const char *msg, ...)
{
	va_list ap;

	printf("# ");
	va_start(ap, msg);
	vprintf(msg, ap);
	va_end(ap);
	printf("\n");
}

void *cr_malloc(size_t size)
{
	return malloc(size);
}

void *cr_calloc(size_t nmemb, size_t size)
{
	return calloc(nmemb, size);
}

void *cr_realloc(void *ptr, size_t size)
{
	return realloc(ptr, size);
}

void cr_free(void *ptr)
{
	free(ptr);
}

/* ---- running */

static const struct criterion_suite *find_suite(const char *name)
{
	for (struct criterion_suite **s = __start_cr_sts; s && s < __stop_cr_sts; s++) {
		if (*s && !strcmp((*s)->name, name))
			return *s;
	}
	return NULL;
}

static int child_status(const struct criterion_test *t)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return -1;
	if (pid == 0) {
		alarm(t->data->timeout > 0 ? 4 * (unsigned)t->data->timeout + 1 : TIMEOUT_S);
		current = t;
		current_suite = find_suite(t->category);
		t->test();
		exit(failed ? 1 : 0);
	}
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

static bool as_expected(const struct criterion_test *t, int status)
{
	if (t->data->signal)
		return WIFSIGNALED(status) && WTERMSIG(status) == t->data->signal;
	return WIFEXITED(status) && WEXITSTATUS(status) == t->data->exit_code;
}

int main(void)
{
	unsigned cnt = 0, failed_cnt = 0;

	for (struct criterion_test **t = __start_cr_tst; t < __stop_cr_tst; t++) {
		int status;

		if (!*t)
			continue;
		cnt++;
		status = (*t)->data->disabled ? EXIT_SKIPPED << 8 : child_status(*t);
		if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIPPED) {
			printf("ok %u - %s::%s # SKIP see above\n", cnt, (*t)->category, (*t)->name);
			continue;
		}
		if (as_expected(*t, status)) {
			printf("ok %u - %s::%s\n", cnt, (*t)->category, (*t)->name);
			continue;
		}
		failed_cnt++;
		printf("not ok %u - %s::%s\n", cnt, (*t)->category, (*t)->name);
		if (WIFSIGNALED(status))
			printf("# ended by signal %d\n", WTERMSIG(status));
	}
	printf("1..%u\n", cnt);
	return failed_cnt || !cnt;
}
