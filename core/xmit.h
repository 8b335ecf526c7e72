/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xmit.h - counts what egress devices did not take from the kernel tier: kern/xmit.bpf.c loaded, attached to its tracepoints, and told
 * which devices are ours.
 *
 * It adds to two of the tier's own maps: lost_packets of a pair and of an egress, and how often an egress refused everything.
 */
#ifndef MR_CORE_XMIT_H
#define MR_CORE_XMIT_H

#include "core/error.h"
#include <stdint.h>

struct mr_xmit;

/* Of the kernel tier (kern/tier.bpf.h); borrowed until mr_xmit_load() has returned. */
struct mr_xmit_maps {
	int pairs_fd;
	int egress_fd;
	int devmap_fd;
};

/*
 * Counting begins, for no device yet.  `space`: the cookie of the devices' namespace (mr_device_space()).
 * -EPERM, -EOPNOTSUPP (a kernel without BTF), -EINVAL (maps of another shape), -ENOMEM, with the sentence.  Threads: control.
 */
int mr_xmit_load(const struct mr_xmit_maps *maps, uint64_t space, struct mr_xmit **out, struct mr_error *e);
/* Ends counting.  NULL allowed. */
void mr_xmit_unload(struct mr_xmit *x);

/* The device is this interface (1..MR_MAX_INTERFACES), as source or target of what the tier sends; 0: no more.  At once.
 * 0, or what bpf(2) says.  x may be NULL: nothing to do.  Threads: control. */
int mr_xmit_device(struct mr_xmit *x, uint32_t ifindex, unsigned interface_id);

#endif
