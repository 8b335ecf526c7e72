/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * millrace/control.h - ask a running instance: the client side of its control socket.
 *
 * Requests and answers are JSON objects, described in docs/control.md.  The socket is /run/millrace/NAME.sock (root only).
 */
#ifndef MILLRACE_CONTROL_H
#define MILLRACE_CONTROL_H

#include <stddef.h>

#ifndef MR_API
#define MR_API __attribute__((visibility("default")))
#endif

/*
 * Sends one request to the instance `name` (NULL = "default"; a name with a '/' is the path of the socket) and waits up to
 * timeout_ms for the answer.  0: *answer is malloc'ed text, the caller frees it.  -ENOENT (no such instance runs), -EACCES,
 * -ECONNREFUSED (it died), -ETIMEDOUT, -EMSGSIZE, -EINVAL (a newline inside the request, a name too long), -ENOMEM; then error[error_bytes] holds a sentence.
 * Threads: any.
 */
MR_API int mr_control_call(
	const char *name, const char *request, unsigned timeout_ms, char **answer, char *error, size_t error_bytes);

#endif
