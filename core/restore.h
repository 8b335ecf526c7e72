/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * restore.h - what was changed on devices, remembered where kill -9 does not reach.
 *
 *     remember ─► change the device ─► ... ─► change it back ─► forget          a clean end
 *                                      └ kill -9 ─► undo                        the next start of the instance, or `cleanup`
 *
 * One small text file an instance, /run/millrace/NAME.state, a line a device; gone with the last line, and with the machine's next
 * boot.  A line names the network namespace: entries of another one are not touched, and lost only to make room.  What somebody else
 * has changed since is left as it is.  Threads: control, one process of an instance at a time.
 */
#ifndef MR_CORE_RESTORE_H
#define MR_CORE_RESTORE_H

#include "core/device.h"
#include "core/error.h"
#include <stdint.h>

/* What to put back on one device. */
struct mr_restore {
	uint32_t ifindex;
	unsigned offloads; /* MR_DEVICE_* to switch on again */
	struct mr_device_channels before,
		set; /* channels there were, and those we made of them; before all 0 = unchanged */
};

/* Hears of a device that was put back, or (done false) was not. */
typedef void (*mr_restore_fn)(void *ctx, const char *device, bool done, const char *sentence);

/* Writes down what is about to be changed; `run` is this run's random number.  What an earlier run of the instance left of the device
 * is joined into *r: its `before` is the older truth.  -errno of the file; the caller may go on without. */
int mr_restore_remember(const char *instance, uint64_t run, struct mr_restore *r, struct mr_error *e);
/* The device is as it was before. */
void mr_restore_forget(const char *instance, uint32_t ifindex);

/* Puts one device back; nothing to do is 0.  Waits up to a second for the kernel to let go of closed sockets.  -errno and the
 * sentence when something stays as it is. */
int mr_restore_apply(const struct mr_restore *r, struct mr_error *e);

/* Puts back what other runs of the instance than `run` left on devices of this namespace (0: all runs), those of ifindex 0: all.  `say`
 * (may be NULL) hears a sentence for each device.  Returns how many devices were put back; entries that failed stay. */
int mr_restore_undo(const char *instance, uint64_t run, uint32_t ifindex, mr_restore_fn say, void *ctx);

#endif
