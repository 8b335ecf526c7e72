/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * attach.h - everything that changes a device while it is ours, and undoes it.
 *
 *     steering program   a bpf_link held by this process: when the process is gone, even by kill -9, so is the program
 *                        (or, shared, a program in libxdp's dispatcher, core/dispatch.h: that one stays after kill -9)
 *     promiscuous        a membership of a packet socket: likewise
 *     LRO, rx-vlan       switched off (XDP would not see tags, or see merged frames) and restored by release
 *
 * A program that somebody else attached is named and never touched.
 */
#ifndef MR_CORE_ATTACH_H
#define MR_CORE_ATTACH_H

#include "core/device.h"
#include "core/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bpf_object;
struct xdp_program;

struct mr_attach {
	char device[16];
	uint32_t ifindex;
	int link_fd;                /* -1 = none */
	struct xdp_program *shared; /* in the dispatcher; NULL = none */
	int promiscuous_fd;         /* -1 = none */
	unsigned restore;           /* MR_DEVICE_* to switch on again */
};

/* Makes it empty, so that release is allowed. */
void mr_attach_init(struct mr_attach *a);

/* 0 when no XDP program is on the device; -EBUSY with its name and number in the sentence.  Threads: any. */
int mr_attach_check_free(const struct mr_device *d, struct mr_error *e);

/* True and its name when the program on the device is that of a running instance of Millrace.  Threads: any. */
bool mr_attach_holder(const struct mr_device *d, char *instance, size_t bytes);

/* Takes what the device needs before sockets are bound: offloads off, promiscuous if asked.
 * -EOPNOTSUPP (an offload cannot be switched off), -EPERM.  Threads: control.  On failure release what was taken. */
int mr_attach_prepare(struct mr_attach *a, const struct mr_device *d, bool promiscuous, struct mr_error *e);

/* Attaches the program in exactly this mode.  -EOPNOTSUPP, -ERANGE, -EINVAL ... (the driver refuses), -EBUSY, -EPERM. */
int mr_attach_program(struct mr_attach *a, int prog_fd, bool generic, struct mr_error *e);

/* Loads and attaches the program of an opened object beside those of others; errors of mr_dispatch_attach(). */
int mr_attach_shared(struct mr_attach *a, struct bpf_object *object, bool generic, struct mr_error *e);

/* Takes the program off, if there is one; the rest stays.  Threads: control. */
void mr_attach_detach(struct mr_attach *a);

/* Undoes all of it.  Threads: control. */
void mr_attach_release(struct mr_attach *a);

#endif
