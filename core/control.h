/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control.h - the control socket: one JSON request a line, one JSON answer a line.
 *
 *     → {"verb": "show", "what": "flows", "proto": "tcp"}
 *     ← {"schema": "millrace/show-flows/1", "instance": "default", "generation": 3, "data": {...}}
 *     ← {"error": "no interface is called 'wam'; there are wan and lan"}
 *
 * A UNIX stream socket, mode 0600.  The server runs on the control thread, never blocks and bounds what a client can make it hold.
 */
#ifndef MR_CORE_CONTROL_H
#define MR_CORE_CONTROL_H

#include "core/error.h"
#include <jansson.h>
#include <stddef.h>

struct mr_control;

/* Answers a request: returns the whole envelope (a new reference), or NULL with the sentence.  An envelope that is itself
 * { "error": ..., "misuse": true } tells that the request was wrong and not the system (exit code 2 of the command line). */
typedef json_t *(*mr_control_fn)(void *ctx, const char *verb, const json_t *request, struct mr_error *e);

/* Listens on path, making its folder (0755) when it is missing.  -EADDRINUSE: another instance answers there (a stale socket
 * file is replaced; one that was killed a moment ago is waited for, at most some seconds).  Threads: control. */
int mr_control_create(const char *path, mr_control_fn fn, void *ctx, struct mr_control **out, struct mr_error *e);
void mr_control_destroy(struct mr_control *c); /* removes the socket file */
/* To wait on (an epoll instance inside). */
int mr_control_fd(const struct mr_control *c);
/* Serves whatever is ready; never blocks. */
void mr_control_service(struct mr_control *c);

/* Parses and answers one request line (no newline); returns malloc'ed text with a newline.  What the fuzzer drives. */
char *mr_control_answer(mr_control_fn fn, void *ctx, const char *line, size_t bytes);

#endif
