/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * interface_check.h - what `millrace check` and opening an interface ask of a device alike, before anything is changed (core/interface.c).
 *
 *     there? Ethernet? up? ─► frames fit? ─► channels ─► which queues ─► the rest of them meant? ─► free?
 */
#ifndef MR_CORE_INTERFACE_CHECK_H
#define MR_CORE_INTERFACE_CHECK_H

#include "core/device.h"
#include "core/interface.h"

#define MR_INTERFACE_L2_BYTES (14u + 2 * 4u) /* Ethernet and two VLAN tags: what comes on top of the MTU */

enum mr_interface_kind mr_interface_kind_of(const struct mr_config_interface *c);
/* A program that is to drop when its sockets are gone does so whichever socket is missing. */
bool mr_interface_drops_unserved(const struct mr_config_interface *c);

/* Everything that can be said about a device: *d is filled in (with `channels: N`, as it will be), queue[MR_MAX_QUEUES] gets the device
 * queues that get a socket, ascending, and *queue_cnt how many.  Errors of mr_interface_open(), with the sentence.  Threads: control. */
int mr_interface_check_device(const struct mr_config_interface *c, uint32_t frame_bytes, struct mr_device *d,
	uint16_t *queue, int *queue_cnt, struct mr_error *e);
/* Whether no XDP program is in the way.  -EBUSY with its name. */
int mr_interface_check_free(const struct mr_config_interface *c, const struct mr_device *d, struct mr_error *e);

/* What is told of the device, and of how it spreads packets over these queues (info->mode and device_queue_cnt are filled in). */
void mr_interface_describe(
	struct mr_interface_info *info, const struct mr_config_interface *c, const struct mr_device *d);
void mr_interface_describe_spread(
	struct mr_interface_info *info, const struct mr_device *d, const uint16_t *queue, unsigned cnt);

#endif
