/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handback.h - giving a frame to the kernel stack as if the device had received it.
 *
 *     worker ─write─► TAP ─► tc clsact ingress: bpf_redirect(ifindex of the device, BPF_F_INGRESS) ─► stack
 *
 * One TAP an interface, made non-persistent so that the kernel removes it when the process dies.  In generic mode the XDP program
 * would see the frame again: it travels behind a shim (private EtherType and a random cookie) that steer.bpf.c strips and passes.
 * Only untranslated packets are handed back.
 */
#ifndef MR_CORE_HANDBACK_H
#define MR_CORE_HANDBACK_H

#include "core/error.h"
#include <stdbool.h>
#include <stdint.h>

struct mr_handback;

struct mr_handback_options {
	uint32_t ifindex;
	uint32_t mtu;
	bool generic;
	uint64_t shim_cookie;
};

/* -EPERM, -ENODEV, -ENOMEM.  Threads: control. */
int mr_handback_open(const struct mr_handback_options *opt, struct mr_handback **out, struct mr_error *e);
void mr_handback_close(struct mr_handback *h);
/* Hands over one frame (copied; the caller keeps its memory).  0, -EAGAIN (the TAP's queue is full), -EIO (gone).  Threads: any worker,
 * concurrently (one write each). */
int mr_handback_send(struct mr_handback *h, const void *frame, uint32_t len);

#endif
