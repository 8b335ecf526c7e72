/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * leave.h - what stays when the process is gone (`on_exit: drop`), and how it is found and removed again.
 *
 *     /sys/fs/bpf/millrace/          0700
 *       INSTANCE/                    0700, locked (flock) by the process that runs the instance; gone when it is empty
 *         xdp-NAMESPACE-IFINDEX      the BPF link of one device: it keeps the program, and that keeps its maps
 *
 *     run 1 ─pin─► [link ─► program] ─killed─► [link ─► program, no sockets: drops what matches] ─run 2 takes it over─► ...
 *                                                      └─► `millrace cleanup`
 *
 * NAMESPACE is the kernel's cookie of the network namespace, so one name may be used in two of them.  The link alone is pinned: from it
 * the program, from that the owner (struct mr_steer_owner) is found.  What carries another mark than ours is named and never touched.
 *
 * Of an earlier run there may also be programs in a dispatcher (core/dispatch.h) and a socket file; everything else it made (TAPs with
 * their qdisc, promiscuous mode, links that are not pinned) ends with the process.
 */
#ifndef MR_CORE_LEAVE_H
#define MR_CORE_LEAVE_H

#include "core/error.h"
#include "kern/steer.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct mr_leave; /* the folder of one instance, locked while it is there */

/* Takes the folder of an instance as it is: creates nothing.  -EBUSY (a process runs this instance), -EPERM (the folder can be
 * written by others), -ENOMEM.  Threads: control. */
int mr_leave_open(const char *instance, struct mr_leave **out, struct mr_error *e);
/* The folder goes when it is empty.  NULL allowed. */
void mr_leave_close(struct mr_leave *l);

/* 0 when links can be pinned here, or -ENOENT: no BPF file system that outlives the process.  Threads: any. */
int mr_leave_check(const char *device, struct mr_error *e);

/* A link found pinned. */
struct mr_leave_link {
	int fd;                      /* the caller closes it */
	bool generic;                /* it is attached in this mode and stays so */
	struct mr_steer_owner owner; /* of the program */
	uint64_t dropped;            /* matched packets the program dropped for want of a socket */
};

/*
 * The link this instance left on a device of the caller's namespace: 1 and *out, or 0.  One whose device is gone (or away) is removed,
 * which `notice` then says.  -EEXIST: something else lies at its path; the sentence names it.  Threads: control.
 */
int mr_leave_find(struct mr_leave *l, const char *device, uint32_t ifindex, struct mr_leave_link *out, char *notice,
	size_t notice_bytes, struct mr_error *e);
/* Pins a link, making the folders; one that is pinned already is fine.  -ENOENT, -EEXIST, -EPERM with the sentence. */
int mr_leave_pin(struct mr_leave *l, const char *device, uint32_t ifindex, int link_fd, struct mr_error *e);
/* Takes the pin away; the link lives on while somebody holds it.  One that is not there is fine. */
void mr_leave_unpin(struct mr_leave *l, uint32_t ifindex);

/* Something an earlier run left, removed or (foreign) not. */
struct mr_leave_thing {
	const char *kind;   /* "xdp-program", "dispatcher-program", "device-settings", "control-socket", "foreign" */
	const char *device; /* its name, or the one it had; NULL = none */
	uint32_t ifindex;   /* 0 = none, or gone */
	const char *path;   /* NULL = none */
	const char *text;   /* a sentence */
	bool removed;
};

typedef void (*mr_leave_fn)(void *ctx, const struct mr_leave_thing *thing);

/*
 * Removes what earlier runs left and tells each: pins but those found or pinned by this process, and programs in the dispatchers of all
 * devices of the namespace.  `process`: the mark of this run, whose programs stay, and which leaves what is pinned for devices of other
 * namespaces alone and names it (0: no run, those are removed too).  `device`: only there (NULL: everywhere).  Offloads and channels that were
 * changed for what is removed are put back (core/restore.h).  0, or -errno with the sentence of the first thing of ours that could not be removed.  Threads: control.
 */
int mr_leave_sweep(
	struct mr_leave *l, uint64_t process, const char *device, mr_leave_fn fn, void *ctx, struct mr_error *e);

/* Whether a process runs the instance, by its control socket or its lock, and which (0 = cannot be told).  Threads: any. */
bool mr_leave_alive(const char *instance, pid_t *pid);
/* Whether this instance has a pin for a device of the caller's namespace.  Threads: any. */
bool mr_leave_pinned(const char *instance, uint32_t ifindex);
/* Removes the socket file of an instance that does not run; false = there is none. */
bool mr_leave_socket(const char *instance, mr_leave_fn fn, void *ctx);

#endif
