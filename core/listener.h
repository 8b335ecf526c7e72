/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * listener.h - is there somebody behind a socket in the file system, or only the file of somebody who was killed?
 *
 * A connection to the socket of a process that was killed succeeds while the kernel still takes the process down, some 100 ms with much
 * memory: who is ending is waited for, and counts as gone.
 */
#ifndef MR_CORE_LISTENER_H
#define MR_CORE_LISTENER_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/un.h>

/* True when somebody listens; *pid then says who, 0 = unknown.  False: nobody, whether the file is there or not.  Waits for who is ending,
 * three seconds at most.  -errno when no socket can be made.  Threads: any. */
int mr_listener_alive(const struct sockaddr_un *sa, pid_t *pid);

#endif
