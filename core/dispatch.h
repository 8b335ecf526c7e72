/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dispatch.h - the steering program beside other XDP programs on one device (`attach: shared`), through libxdp's dispatcher.
 *
 *     device ─► xdp_dispatcher ─► program of somebody ─► steer ─► program of somebody else ─► stack
 *                                      │ PASS goes on      │ PASS goes on
 *                                      └ else: done        └ redirected to a socket: done
 *
 * libxdp builds a new dispatcher around the programs that are there and ours, each loaded as a replacement of one of the
 * dispatcher's functions (freplace), and keeps links to them in a bpffs.  So, unlike a link held by a process, it outlives
 * kill -9: the leftover has no socket, so what matches is passed or dropped as `unserved` says, until the next start of the same
 * instance or `millrace cleanup` removes it.
 * Which program is whose says the map .rodata.owner (struct mr_steer_owner).  Programs of others are never touched.
 */
#ifndef MR_CORE_DISPATCH_H
#define MR_CORE_DISPATCH_H

#include "core/device.h"
#include "core/error.h"
#include "kern/steer.h"

#include <stdbool.h>

struct bpf_object;
struct xdp_program;

/* Whether a program can be shared on this device, touching nothing: -EBUSY (an XDP program that is not a dispatcher, named),
 * -ENOENT (no bpffs for the pins, no dispatcher object of libxdp), -EOPNOTSUPP (the kernel refuses freplace).  Threads: any. */
int mr_dispatch_check(const struct mr_device *d, struct mr_error *e);

/*
 * Loads the opened object's program, steer or steer_shared, into the device's dispatcher, in exactly this mode; what it passes goes to the next
 * program.  *out is for mr_dispatch_detach(); the object stays the caller's and must live as long.
 * -EOPNOTSUPP (not in this mode, or not shared after all), -EBUSY, -E2BIG (ten programs are there), -EPERM, and what bpf(2) says.
 * Nothing is left attached on failure.  Threads: control.
 */
int mr_dispatch_attach(const char *device, uint32_t ifindex, struct bpf_object *object, bool generic,
	struct xdp_program **out, struct mr_error *e);

/* Takes our program out of the dispatcher, which goes when it was the last; also when the device is gone.  NULL allowed.
 * Threads: control. */
void mr_dispatch_detach(struct xdp_program *p, uint32_t ifindex);

/* Whether the program of this number is a steering program, and whose: also of one that is on its device alone.  Threads: any. */
bool mr_dispatch_owner(uint32_t prog_id, struct mr_steer_owner *out);

/* What a steering program counted, summed over CPUs.  -ENOENT: it is none, or gone.  Threads: any. */
int mr_dispatch_counters(uint32_t prog_id, uint64_t packets[MR_STEER_CNT_CNT]);

/* Takes out what an earlier process of this instance left: how many programs, or -errno with the sentence.  -EBUSY: the
 * program belongs to this very process (its mark).  Threads: control. */
int mr_dispatch_clean(const struct mr_device *d, const struct mr_steer_owner *self, struct mr_error *e);

#endif
