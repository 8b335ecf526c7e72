/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * spaces.h - three namespaces in a row for tests in C, and TAP results.
 *
 *     a: a0 ─veth─ r0 :r: r1 ─veth─ b0 :b       a0 10.77.0.1 fd77::1, b0 10.77.0.2 fd77::2, the caller in r
 *
 * Names carry the process number; all of it goes at exit, also after a signal that ends the process in order.
 */
#ifndef MR_TESTS_NETNS_SPACES_H
#define MR_TESTS_NETNS_SPACES_H

#include <stdbool.h>

/* Makes the namespaces and enters r.  Ends the process with 77 and a reason when that is not permitted. */
void spaces_begin(const char *test);
/* (Re-)makes the two veth pairs with this many queues each way; what was there is removed. */
void spaces_wire(unsigned queue_cnt);
/* Runs a shell command in a namespace ("a", "r", "b"), output dropped; true when it succeeded. */
bool spaces_run(const char *space, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same in a namespace of that name as `ip netns` has it, NULL = where the caller is.  One process fewer than through nsenter: that counts
 * where the CPU is emulated. */
bool spaces_shell(const char *name, const char *cmd);
/* The caller goes into a namespace; it begins in r. */
void spaces_enter(const char *space);
/* Sends cnt echo requests from a; true when all were answered.  `address`: of either family. */
bool spaces_ping(const char *address, unsigned cnt);
/* Waits up to two seconds for something to become true. */
bool spaces_wait(bool (*what)(void *), void *arg);

void tap_case(bool passed, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void tap_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Prints the plan; the exit status of the program. */
int tap_end(void);

#endif
