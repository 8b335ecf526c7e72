/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * spread.h - how a device spreads received packets over its queues (RSS), as its driver tells: the indirection table, and which
 * header fields are hashed.  Told to people and warned about; nothing is decided by it.
 */
#ifndef MR_CORE_SPREAD_H
#define MR_CORE_SPREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MR_SPREAD_QUEUES 256

enum mr_spread_flow { MR_SPREAD_TCP4, MR_SPREAD_UDP4, MR_SPREAD_TCP6, MR_SPREAD_UDP6, MR_SPREAD_FLOWS };

#define MR_SPREAD_ADDRESSES 1u
#define MR_SPREAD_PORTS     2u
#define MR_SPREAD_VLAN      4u

struct mr_spread {
	uint32_t entry_cnt;                /* of the table; 0 = the driver tells none */
	uint32_t weight[MR_SPREAD_QUEUES]; /* entries of each queue */
	uint8_t fields[MR_SPREAD_FLOWS];   /* MR_SPREAD_* bits; 0 = not told */
};

/* Asks the driver.  What it does not tell is 0.  Threads: any. */
void mr_spread_query(const char *device, struct mr_spread *out);

/* One line: "128 entries: queues 0-3 with 32 each; hashed: tcp4 addresses and ports, ...", or "the driver tells none". */
void mr_spread_describe(const struct mr_spread *s, char *buf, size_t bytes);

/*
 * Why packets would not be spread as wanted, or "".  `queue`: the device queues with a socket, ascending, of device_queue_cnt;
 * `first_only`: packets come by queue 0 alone whatever the table says (generic mode of a driver without RSS).
 */
void mr_spread_warn(const struct mr_spread *s, const uint16_t *queue, unsigned cnt, unsigned device_queue_cnt,
	bool first_only, char *buf, size_t bytes);

#endif
