/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * redirect.h - whether a device takes frames that XDP programs redirect to it (ndo_xdp_xmit).
 *
 * The kernel tells since 6.3 (netdev generic netlink, NETDEV_XDP_ACT_NDO_XMIT), and tells again when it changes.  A veth takes them
 * only while its peer has an XDP program or GRO switched on; a kernel that does not tell is asked for the peer's program by route netlink, and
 * other drivers are looked up in a list of those known to.
 */
#ifndef MR_CORE_REDIRECT_H
#define MR_CORE_REDIRECT_H

#include "core/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mr_redirect; /* the sockets to ask by */

/* -ENOMEM, -errno.  fd becomes readable when some device's answer may have changed; -1: this kernel says nothing, ask now and then. */
int mr_redirect_open(struct mr_redirect **out, struct mr_error *e);
void mr_redirect_close(struct mr_redirect *r); /* NULL allowed */
int mr_redirect_fd(const struct mr_redirect *r);
/* Reads what came; true when devices should be asked again. */
bool mr_redirect_service(struct mr_redirect *r);

/* Whether the device takes redirected frames now; if not, why, in one sentence with what to do about it. */
bool mr_redirect_target(
	struct mr_redirect *r, uint32_t ifindex, const char *device, const char *driver, char *why, size_t why_bytes);

#endif
