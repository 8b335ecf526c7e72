/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * address.h - what this box does with an address, as it is at one moment: its own, on a network of a device, answered for.
 *
 * Read anew whenever it matters: by `millrace check`, and by core/announce.c once a second while it has addresses to keep.
 */
#ifndef MR_CORE_ADDRESS_H
#define MR_CORE_ADDRESS_H

#include "core/error.h"
#include "millrace/option.h"
#include <stdbool.h>
#include <stdint.h>

/* Who made an address (IFA_PROTO): Millrace, of whatever instance. */
#define MR_ADDRESS_PROTO 0x6d

struct mr_address {
	uint32_t ifindex;
	uint32_t flags; /* IFA_F_* */
	uint8_t family; /* 4, 6 */
	uint8_t bits;
	uint8_t proto; /* IFA_PROTO, 0 = not said */
	uint8_t addr[16];
};

struct mr_addresses;

/* Reads the addresses of all devices.  -EPERM, -ENOMEM, -errno.  Threads: control. */
int mr_addresses_read(struct mr_addresses **out, struct mr_error *e);
void mr_addresses_free(struct mr_addresses *a); /* NULL allowed */

/* The entry of exactly this address on a device (0 = any); NULL = none. */
const struct mr_address *mr_addresses_find(
	const struct mr_addresses *a, const struct mr_prefix *address, uint32_t ifindex);
/* An entry of it on any device that is not one Millrace made for a while; NULL = none. */
const struct mr_address *mr_addresses_other(const struct mr_addresses *a, const struct mr_prefix *address);
/* Made by Millrace, for a while.  NULL allowed. */
bool mr_address_is_ours(const struct mr_address *m);
/* The device that is connected to a network the address belongs to, the smallest one; 0 = none.  Addresses Millrace made are no network. */
uint32_t mr_addresses_device(const struct mr_addresses *a, const struct mr_prefix *address);
/* The kernel takes packets to it as its own, and not because Millrace announces it. */
bool mr_addresses_local(const struct mr_addresses *a, const struct mr_prefix *address);
/* Somebody here answers for it on that device: an entry of `ip neigh add proxy`, or proxy_arp. */
bool mr_addresses_proxied(const struct mr_addresses *a, const struct mr_prefix *address, uint32_t ifindex);

#endif
