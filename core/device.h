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
	int numa_node; /* -1 = unknown */
	bool lro;      /* receive offloads that change what XDP sees */
	bool rx_vlan;
};

/* -ENODEV, -EPERM, -ENOMEM; the sentence in e.  Threads: any. */
int mr_device_query(const char *name, struct mr_device *out, struct mr_error *e);

/* Switches LRO and rx-vlan offload.  Bits of MR_DEVICE_*; returns -EOPNOTSUPP when one cannot be switched. */
#define MR_DEVICE_LRO     1u
#define MR_DEVICE_RX_VLAN 2u
int mr_device_offload(const char *name, unsigned bits, bool on, struct mr_error *e);

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

#endif
