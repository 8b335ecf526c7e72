/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * millrace/interface.h - where packets come from and go to.
 *
 * An interface has queues; a queue is served by one worker thread, which calls rx, tx and service in turn.
 * AF_XDP sockets, capture files and a memory loop stand behind the same five calls:
 *
 *     rx(q, f, n)      up to n received frames; each now belongs to the caller
 *     tx(q, f, n)      hands over the first k of n frames and returns k; the other n-k stay the caller's
 *     service(q)       reaps completions, refills the fill ring, kicks the kernel; bounded work
 *     fd(q)            to poll on while idle, or -1
 *     drained(q)       true when the source is at its end (a capture read to its last packet)
 *
 * Frames are named by their offset in the frame range (core/frames.h), so that forwarding from one interface
 * to another moves a descriptor and no byte.
 */
#ifndef MILLRACE_INTERFACE_H
#define MILLRACE_INTERFACE_H

#include <stdbool.h>
#include <stdint.h>

#define MR_INTERFACE_ABI 1

/* The layout of struct xdp_desc, so that rings are copied and not converted. */
struct mr_frame {
	uint64_t addr;    /* offset of the first packet byte in the frame range */
	uint32_t len;     /* bytes of this frame */
	uint32_t options; /* reserved for chained frames; 0 */
};

struct mr_queue;
struct mr_interface;

/* Counters of one queue, monotonic.  Written by the queue's worker only, read by anybody (relaxed). */
struct mr_queue_counters {
	uint64_t rx_packets;
	uint64_t rx_bytes;
	uint64_t tx_packets; /* the driver said completed */
	uint64_t tx_bytes;   /* accepted for sending */
	uint64_t tx_lost;    /* consumed and lost by the kernel (EBUSY) or in flight when the device went */
	uint64_t
		rx_no_frame; /* times the fill ring could not be kept full, or a capture not read: the pool was empty */
	uint64_t rx_too_long; /* packets of a capture longer than a frame, skipped */
	uint64_t kicks;       /* system calls to make the kernel look at a ring */
	/* from the kernel (XDP_STATISTICS), read by control */
	uint64_t kernel_rx_dropped;
	uint64_t kernel_rx_ring_full;
	uint64_t kernel_fill_empty;
	uint64_t kernel_rx_invalid;
	uint64_t kernel_tx_invalid;
};

struct mr_interface_ops {
	uint32_t abi; /* MR_INTERFACE_ABI */
	const char *name;
	unsigned (*rx)(struct mr_queue *q, struct mr_frame *f, unsigned n);
	unsigned (*tx)(struct mr_queue *q, const struct mr_frame *f, unsigned n);
	void (*service)(struct mr_queue *q);
	int (*fd)(const struct mr_queue *q);
	bool (*drained)(const struct mr_queue *q);
};

/* The head of every queue; the driver's own part follows it. */
struct mr_queue {
	const struct mr_interface_ops *ops;
	struct mr_interface *interface;
	uint16_t interface_id; /* 1.. */
	uint16_t queue_idx;
	uint16_t device_queue; /* as the device numbers it */
	struct mr_queue_counters counters;
};

#endif
