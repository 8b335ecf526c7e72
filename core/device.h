/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * device.h - what the kernel says about a network device, asked by netlink and ethtool (never by /sys/class/net, which shows another
 * namespace to a process that changed its own).
 */
#ifndef MR_CORE_DEVICE_H
#define MR_CORE_DEVICE_H

#include "core/error.h"
#include <stdbool.h>
#include <stdint.h>

/* Receive offloads: frames merged, or without their VLAN tag, before XDP sees them. */
#define MR_DEVICE_LRO     1u
#define MR_DEVICE_RX_VLAN 2u
#define MR_DEVICE_GRO_HW  4u
#define MR_DEVICE_ALL     7u

/* Sets of queues, as ethtool -l tells them. */
struct mr_device_channels {
	uint32_t rx, tx, combined;
};

struct mr_device {
	char name[16];
	char driver[32];
	uint32_t ifindex;
	uint32_t mtu;
	uint8_t mac[6];
	bool ethernet;
	bool admin_up;
	bool running; /* and has a carrier */
	uint16_t rx_queue_cnt;
	uint16_t tx_queue_cnt;
	int numa_node;                                    /* -1 = unknown */
	unsigned offloads;                                /* MR_DEVICE_* that are on and change what XDP sees */
	struct mr_device_channels channels, channels_max; /* all 0 = the driver tells none */
};

/* -ENODEV, -EPERM, -ENOMEM; the sentence in e.  Threads: any. */
int mr_device_query(const char *name, struct mr_device *out, struct mr_error *e);

/* Switches offloads.  Bits of MR_DEVICE_*; returns -EOPNOTSUPP when one cannot be switched.  Threads: any. */
int mr_device_offload(const char *name, unsigned bits, bool on, struct mr_error *e);

/* The channels that give `cnt` receive and as many transmit queues: combined ones where the driver has them.
 * -EOPNOTSUPP (the driver has no channels to set), -ERANGE (more than it can have); the sentence in e.  Threads: any. */
int mr_device_channels_for(const struct mr_device *d, unsigned cnt, struct mr_device_channels *out, struct mr_error *e);
/* Reads and sets them.  The kernel refuses (-EINVAL, -EBUSY) fewer than are in use by sockets.  Threads: any. */
int mr_device_channels_get(const char *name, struct mr_device_channels *now, struct mr_device_channels *max);
int mr_device_channels_set(const char *name, const struct mr_device_channels *want, struct mr_error *e);
/* Receive queues of them, and whether they are the same. */
static inline unsigned mr_device_channels_rx(const struct mr_device_channels *c)
{
	return c->rx + c->combined;
}
static inline bool mr_device_channels_same(const struct mr_device_channels *a, const struct mr_device_channels *b)
{
	return a->rx == b->rx && a->tx == b->tx && a->combined == b->combined;
}

/* What changes while a device is in use. */
struct mr_device_state {
	char name[16];
	uint32_t mtu;
	uint8_t mac[6];
	bool admin_up;
	bool running;
};

/* Of a device by its number: 0, or -ENODEV once it is gone.  `fd`: any socket of that namespace; cheap. */
int mr_device_state(int fd, uint32_t ifindex, struct mr_device_state *out);

/* The cookie of the caller's network namespace, 0 = the kernel does not tell.  Not its number in /proc, which the next namespace gets:
 * this one is never given out again before the machine's next boot.  Threads: any. */
uint64_t mr_device_space(void);

#endif
