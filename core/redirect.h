/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * redirect.h - whether a device takes frames that XDP programs redirect to it (ndo_xdp_xmit).
 *
 * The kernel tells since 6.3 (netdev generic netlink, NETDEV_XDP_ACT_NDO_XMIT), and tells again when it changes.  Many drivers take them only
 * while the device has an XDP program itself, which our interfaces have; a veth only while its peer has one or GRO switched on.  A kernel
 * that does not tell is asked for the peer's program by route netlink, and other drivers are looked up in a list of those known to.
 *
 * The kernel's answer was compared with what becomes of frames (tests/netns/test_redirect.c).  It is wrong for a veth whose peer is down,
 * which is seen here by its link, and for one whose peer lost GRO while it was down, which is seen where the peer is in the same namespace;
 * else only the first frames lost tell (core/xmit.h: ENXIO).
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

/* Whether the device takes redirected frames now; if not, why, in one sentence with what to do about it.  A question or two to the kernel
 * each time. */
bool mr_redirect_target(
	struct mr_redirect *r, uint32_t ifindex, const char *device, const char *driver, char *why, size_t why_bytes);

/* Whether devices of this driver take them at the latest once they have an XDP program in native mode.  False for veth: its peer matters. */
bool mr_redirect_driver(const char *driver);

/* From now on as with a kernel that does not tell.  For tests. */
void mr_redirect_untold(struct mr_redirect *r);

#endif
