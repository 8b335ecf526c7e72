/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * attach.h - everything that changes a device while it is ours, and undoes it.
 *
 *     steering program   a bpf_link held by this process: when the process is gone, even by kill -9, so is the program; with
 *                        `on_exit: drop` the link is pinned too (core/leave.h), and the next run puts its program into it
 *                        (or, shared, a program in libxdp's dispatcher, core/dispatch.h: that one stays after kill -9)
 *     promiscuous        a membership of a packet socket: likewise
 *     receive offloads   LRO, rx-vlan, hardware GRO: switched off (XDP would not see tags, or see merged frames)
 *     channels           set where `channels: N` says so
 *
 * The last two outlive the process: what there was before is written down (core/restore.h), put back by release, and after kill -9 by
 * the next start or `cleanup`.
 *
 * A program that somebody else attached is named and never touched.
 */
#ifndef MR_CORE_ATTACH_H
#define MR_CORE_ATTACH_H

#include "core/device.h"
#include "core/error.h"
#include "core/restore.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bpf_object;
struct mr_leave;
struct xdp_program;

struct mr_attach {
	char device[16];
	uint32_t ifindex;
	int link_fd;            /* -1 = none */
	struct mr_leave *leave; /* where links are pinned; not owned, NULL = nowhere */
	bool left;              /* link_fd is what an earlier run left, and its program is still in force */
	bool left_generic;      /* ... attached in this mode */
	bool inherited;         /* this run found a pinned link and took it over */
	bool pinned;
	struct xdp_program *shared;                              /* in the dispatcher; NULL = none */
	int promiscuous_fd;                                      /* -1 = none */
	unsigned restore;                                        /* MR_DEVICE_* to switch on again */
	struct mr_device_channels channels_before, channels_set; /* before all 0 = as they were */
	char instance[64]; /* under whose name that is written down; "" = it is not */
	uint64_t run;
};

/* Makes it empty, so that release is allowed. */
void mr_attach_init(struct mr_attach *a);

/* 0 when no XDP program is on the device; -EBUSY with its name and number in the sentence.  Threads: any. */
int mr_attach_check_free(const struct mr_device *d, struct mr_error *e);

/* True and its name when the program on the device is that of an instance of Millrace, running or (`left`: pinned) gone.  Threads: any. */
bool mr_attach_holder(const struct mr_device *d, char *instance, size_t bytes, bool *left);

/* Takes hold of the link an earlier run of this instance left on the device, whose program stays in force until mr_attach_replace(); without
 * one, 0 and a->left is false.  `notice`: what was found and done, or as it was.  -EEXIST.  Threads: control. */
int mr_attach_find_left(struct mr_attach *a, struct mr_leave *leave, const struct mr_device *d, char *notice,
	size_t notice_bytes, struct mr_error *e);

/* What is changed from now on is written down for `instance`; `run`: this run's random number. */
void mr_attach_remember(struct mr_attach *a, const char *instance, uint64_t run);

/* Sets the channels.  Errors of mr_device_channels_for() and _set(). */
int mr_attach_channels(struct mr_attach *a, const struct mr_device *d, unsigned cnt, struct mr_error *e);

/* Takes what the device needs before sockets are bound: offloads off, promiscuous if asked.
 * -EOPNOTSUPP (an offload cannot be switched off), -EPERM.  Threads: control.  On failure release what was taken. */
int mr_attach_prepare(struct mr_attach *a, const struct mr_device *d, bool promiscuous, struct mr_error *e);

/* Switches promiscuous mode while the device is in use. */
int mr_attach_promiscuous(struct mr_attach *a, bool on, struct mr_error *e);

/* Attaches the program in exactly this mode.  -EOPNOTSUPP, -ERANGE, -EINVAL ... (the driver refuses), -EBUSY, -EPERM. */
int mr_attach_program(struct mr_attach *a, int prog_fd, bool generic, struct mr_error *e);

/* Puts the program into the link an earlier run left: from one packet to the next, no packet meets neither.  On failure the old one stays.
 * Nothing to do where none was left. */
int mr_attach_replace(struct mr_attach *a, int prog_fd, struct mr_error *e);

/* Whether the program is to outlive the process: pins the link, or takes the pin away.  -EOPNOTSUPP (shared), -ENOENT (no bpffs). */
int mr_attach_keep(struct mr_attach *a, bool keep, struct mr_error *e);

/* Loads and attaches the program of an opened object beside those of others; errors of mr_dispatch_attach(). */
int mr_attach_shared(struct mr_attach *a, struct bpf_object *object, bool generic, struct mr_error *e);

/* Takes the program off, if there is one of this run; the rest stays, and what an earlier run left.  Threads: control. */
void mr_attach_detach(struct mr_attach *a);

/* Undoes all of it; but a pinned program stays on the device, with the offloads it needs switched off, and so does what an earlier run left.
 * The sockets are closed: channels in use by them cannot be put back.  Threads: control. */
void mr_attach_release(struct mr_attach *a);

#endif
