/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * beside.h - what others have on a device that is to be ours, beside XDP: named, never touched.
 *
 *     NIC ─► XDP (ours) ─┬─ taken ─► sockets ─► Millrace ─┬─► out of a device: none of its tc is asked
 *                        │                                └─► handed back ─┐
 *                        └─ passed ────────────────────────────────────────┴─► tc ingress of the device ─► stack
 */
#ifndef MR_CORE_BESIDE_H
#define MR_CORE_BESIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A sentence about tc on the device (a clsact or ingress qdisc, tcx programs), "" when there is nothing to say or the kernel does not
 * tell.  Threads: any. */
void mr_beside_describe(const char *device, uint32_t ifindex, char *text, size_t bytes);

/* Whether this machine has an address on the device, other than link-local ones.  Threads: any. */
bool mr_beside_has_address(const char *device);

#endif
