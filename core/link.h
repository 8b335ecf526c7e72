/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * link.h - hears from the kernel that a device appeared, changed or went.
 *
 *     dump at start ─► known devices ◄─ RTM_NEWLINK / RTM_DELLINK
 *                         ▲ dump again after ENOBUFS: what is not in it was deleted meanwhile
 *
 * Only a hint to look: what is true about a device is asked when it matters (core/device.h).
 */
#ifndef MR_CORE_LINK_H
#define MR_CORE_LINK_H

#include "core/error.h"
#include <stdbool.h>
#include <stdint.h>

struct mr_links;

struct mr_link_event {
	uint32_t ifindex;
	uint32_t mtu;
	char name[16];
	bool admin_up;
	bool running; /* and has a carrier */
	bool deleted;
};

typedef void (*mr_link_fn)(void *ctx, const struct mr_link_event *event);

/* Listens in the namespace of the caller.  -EPERM, -ENOMEM.  Threads: control. */
int mr_links_open(struct mr_links **out, struct mr_error *e);
void mr_links_close(struct mr_links *l); /* NULL allowed */
/* Readable when there is something to service. */
int mr_links_fd(const struct mr_links *l);
/* Called by service for every device that is new, changed or deleted. */
void mr_links_on_event(struct mr_links *l, mr_link_fn fn, void *ctx);
/* Reads what is there, never waits; returns how many events there were.  A socket overrun asks for a new dump by itself. */
int mr_links_service(struct mr_links *l);
/* How often events were lost and everything was asked again. */
uint64_t mr_links_resync_cnt(const struct mr_links *l);

#endif
