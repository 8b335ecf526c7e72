/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xsk.h - one AF_XDP socket on one device queue, as a queue of millrace/interface.h.
 *
 *      POOL ─► fill ─► (kernel) ─► rx ─► caller ─► tx ─► (kernel) ─► completion ─► POOL
 *
 * Every socket registers the whole frame range as its own UMEM, so a frame keeps its name on every device.  The worker that serves the
 * queue does everything on it; control opens and closes, reads statistics, and tells a queue that its device is up again.
 *
 *      UP ──ENETDOWN──► DOWN ──mr_xsk_tell_up() or a later try──► UP
 *       └──ENXIO, ENODEV──► GONE (for good: close it)
 *
 * In DOWN and GONE tx accepts nothing; what lies in the tx ring waits, and comes back to the pool when the socket is closed (tx_lost).
 */
#ifndef MR_CORE_XSK_H
#define MR_CORE_XSK_H

#include "core/error.h"
#include "core/frames.h"
#include "core/ring.h"
#include "millrace/interface.h"

#define MR_XSK_HEADROOM_BYTES 256 /* XDP_PACKET_HEADROOM: in front of every received packet */

enum mr_xsk_state { MR_XSK_UP, MR_XSK_DOWN, MR_XSK_GONE };

struct mr_xsk; /* a struct mr_queue is its first member */

struct mr_xsk_options {
	struct mr_frames *frames;
	struct mr_magazine *magazine; /* of the worker that will serve the queue */
	struct mr_interface *interface;
	uint16_t interface_id;
	uint16_t queue_idx;
	uint16_t device_queue;
	uint32_t ifindex;
	int numa_node;
	uint32_t rx_ring_cnt; /* powers of two */
	uint32_t tx_ring_cnt;
	bool zerocopy;
};

/*
 * Opens, binds and fills.  The frames come from the depots, not from the magazine (its worker may be running).  A queue that was closed
 * a moment ago is still bound in the kernel for a few milliseconds: -EBUSY is tried again for at most half a second.
 * Errors: -EOPNOTSUPP, -EINVAL and others of the driver (no zero-copy here), -EBUSY (somebody's socket is on the queue), -EPERM, -ENOMEM,
 * -ENOBUFS (memory limit), -ENODEV, -ENETDOWN.  Threads: control.
 */
int mr_xsk_open(const struct mr_xsk_options *opt, struct mr_xsk **out, struct mr_error *e);
/* Closes the socket, unmaps its rings, gives every frame lent to it back to the depots.  The counters can still be read; frames whose fate is
 * unknown are in tx_lost.  NULL allowed.  Threads: control, no worker uses the queue. */
void mr_xsk_settle(struct mr_xsk *x);
/* The same, and frees it. */
void mr_xsk_close(struct mr_xsk *x);

struct mr_queue *mr_xsk_queue(struct mr_xsk *x);
int mr_xsk_fd(const struct mr_xsk *x);
uint16_t mr_xsk_device_queue(const struct mr_xsk *x);
enum mr_xsk_state mr_xsk_state(const struct mr_xsk *x); /* Threads: any */
void mr_xsk_tell_up(struct mr_xsk *x);                  /* DOWN becomes UP.  Threads: control */
/* True, once, when the device was deleted or moved away since: the socket is unbound for good.  Threads: control */
bool mr_xsk_left(struct mr_xsk *x);
/* Reads XDP_STATISTICS into the counters.  Threads: control. */
void mr_xsk_read_statistics(struct mr_xsk *x);

#endif
