/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * offload_device.h - whether flows that come in by an interface can be left to the kernel tier, for `show interfaces` and `check`.
 *
 * The other half, whether they can leave by one, is core/redirect.h before the start and core/egress.h then.
 */
#ifndef MR_CORE_OFFLOAD_DEVICE_H
#define MR_CORE_OFFLOAD_DEVICE_H

#include "core/config.h"
#include "core/interface.h"

/* With a kernel tier: true when some flow that comes in by it may be left to it; if not, the sentence.  info->mode: as bound, or, before it
 * is opened, as asked for. */
bool mr_offload_in(const struct mr_config *c, const struct mr_config_interface *i, const struct mr_interface_info *info,
	char *why, size_t why_bytes);

#endif
