/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * error.h - one sentence about what went wrong, for a person.
 *
 * Functions return 0 or a negative errno; the sentence travels in struct mr_error, filled by the function
 * that knows most.  The first sentence wins: a caller that adds context writes a new one on purpose.
 */
#ifndef MR_CORE_ERROR_H
#define MR_CORE_ERROR_H

#include <stdarg.h>

#define MR_ERROR_BYTES 512

struct mr_error {
	char text[MR_ERROR_BYTES]; /* "" = none; no trailing newline or period */
};

/* Writes the sentence and returns `err` (a negative errno), so that `return mr_error_set(e, -EINVAL, ...)` reads well.
 * `e` may be NULL.  Threads: any, each with its own struct. */
int mr_error_set(struct mr_error *e, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
