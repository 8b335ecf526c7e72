/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * neighbour.h - the next-hop slots of routing: one for each neighbour in use, filled from the kernel's neighbour table.
 *
 *     (device, address, MTU) ─► slot:   free ─first use─► RESOLVING ──kernel knows the MAC──► ROUTED ◄─► (MAC, MTU, link change in place)
 *                                          ▲                  │ ▲                              │ neighbour deleted
 *                                          │ nobody refers    │ └──────────────────────────────┘
 *                                          │ to it            ▼ kernel gave up
 *                                          └───────────── UNREACHABLE ──after a second──► RESOLVING on the next use
 *
 * Millrace speaks no ARP and no ND: it asks the kernel to (RTM_NEWNEIGH with NTF_USE), both for a neighbour that is wanted and for one
 * in use that turned stale.  That leaves nothing behind in the kernel's table but what its own traffic would.
 *
 * A slot that nothing waits for and whose neighbour has no MAC says RESOLVING too, so that the next packet asks; only those being asked
 * for count against resolving_max.
 *
 * Workers find and make slots (mr_neighbours_slot), hold packets of a slot that is RESOLVING (core/hold.h) and say so
 * (mr_neighbours_want).  Everything else is control's.
 *
 * Tunnels (mr_neighbours_tunnel) are slots too: the next hop of their outer destination, with the encapsulation; control keeps them up to
 * date, so records that use them carry no MR_FLOW_ROUTED.
 */
#ifndef MR_CORE_NEIGHBOUR_H
#define MR_CORE_NEIGHBOUR_H

#include "core/epoch.h"
#include "core/error.h"
#include "core/nexthop.h"
#include "core/rtnl.h"
#include <stdbool.h>
#include <stdint.h>

struct mr_neighbours;
struct mr_routes;

struct mr_neighbours_options {
	struct mr_nexthops *nexthops;
	struct mr_epoch *epoch;
	/* A slot that packets wait for has changed: wake the workers.  Control thread.  May be NULL. */
	void (*changed)(void *ctx);
	/* Marks every slot that a flow record refers to: calls mark(arg, slot) for each.  Control thread.  NULL: no slot is ever freed. */
	void (*referred)(void *ctx, void (*mark)(void *arg, uint16_t slot), void *arg);
	void *ctx;
	uint32_t resolving_max; /* slots that may be RESOLVING at once; 0 = 4096 */
	/* [MR_MAX_NEXTHOPS] zeros, when each slot was last used; atomic, and others may write there too (kern/tier.h); outlives the table.
	 * NULL = its own. */
	uint32_t *used_ms;
};

/* -ENOMEM, and errors of the sockets.  Without a socket (no_kernel) nothing is asked: tests, captures.  Threads: control. */
int mr_neighbours_create(
	const struct mr_neighbours_options *opt, bool no_kernel, struct mr_neighbours **out, struct mr_error *e);
void mr_neighbours_destroy(struct mr_neighbours *t); /* NULL allowed */

/* ---- workers ---------------------------------------------------------------------------------------------- */

/*
 * The slot of a neighbour on a device of the kernel (its ifindex, which may be a VLAN device), made when there is none.  mtu: of the route,
 * 0 = the device's.  0 = none can be made: all are in use, too many are resolving, or the device is none of ours.
 * A lookup takes no lock; making one takes a short one.  Threads: workers online in the epoch, and control.
 */
uint16_t mr_neighbours_slot(
	struct mr_neighbours *t, uint32_t ifindex, unsigned family, const void *addr_be, uint16_t mtu, uint32_t now_ms);
/* A packet waits for it: the kernel is asked, by control, soon.  Cheap when it has been said already.  Threads: any. */
void mr_neighbours_want(struct mr_neighbours *t, uint16_t slot);
/* It is in use: once a turn for each slot a worker sends by.  One store when the time changed.  Threads: workers. */
void mr_neighbours_touch(struct mr_neighbours *t, uint16_t slot, uint32_t now_ms);

/* ---- control ---------------------------------------------------------------------------------------------- */

/*
 * A device of ours, or a VLAN device over one.  id 0: not ours any more.  Its slots become MR_NH_NONE, so that records which still hold one
 * are routed anew, and new ones are refused.  Down: what is known of its neighbours stays, as long as the kernel keeps it; one that
 * has to be resolved is unreachable at once.
 */
struct mr_neighbour_device {
	uint32_t ifindex;
	uint8_t interface_id;
	uint16_t vlan; /* 0 = none */
	uint8_t mac[6];
	uint16_t mtu;
	bool up;
};
void mr_neighbours_device(struct mr_neighbours *t, const struct mr_neighbour_device *d);
/* What the kernel said of a neighbour (deleted included).  Of any device: which are ours may be learned later. */
void mr_neighbours_heard(struct mr_neighbours *t, const struct mr_rtnl_neigh *n, bool deleted);
/* A dump of neighbours begins; at its end those it did not name are taken for deleted. */
void mr_neighbours_dump_begin(struct mr_neighbours *t);
void mr_neighbours_dump_end(struct mr_neighbours *t);
/* Readable when a worker wants something; -1 with no_kernel. */
int mr_neighbours_fd(const struct mr_neighbours *t);
/* Asks the kernel for what is wanted and for stale ones in use, ends what waited too long, frees slots.  On fd, and about every 100 ms. */
void mr_neighbours_service(struct mr_neighbours *t, uint64_t now_ms);

/*
 * A tunnel's slot: the packet is encapsulated (enum mr_encap_kind) from outer_src to outer_dst and sent where routes say.  The same
 * parameters, the same slot; never freed.  0 = full, or no such encapsulation.  Without a route, or with one that is the kernel's, it is
 * unreachable.  A change of the slot under it is followed at once, routes that change by mr_neighbours_tunnels_refresh().  Its MTU is the
 * link's.  Threads: control.
 */
struct mr_tunnel {
	uint8_t encap;  /* enum mr_encap_kind */
	uint8_t ttl;    /* 0 = 64 */
	uint16_t dport; /* GUE */
	uint8_t src[16], dst[16];
};
uint16_t mr_neighbours_tunnel(struct mr_neighbours *t, struct mr_routes *routes, const struct mr_tunnel *tunnel);
void mr_neighbours_tunnels_refresh(struct mr_neighbours *t, struct mr_routes *routes);

struct mr_neighbour_info {
	uint16_t slot;
	uint32_t ifindex;
	uint8_t interface_id;
	uint8_t family;
	uint8_t addr[16];
	uint8_t mac[6];
	uint16_t mtu, vlan;
	const char *state; /* "resolving", "reachable", "unreachable", "link-down", "unused" */
	uint32_t used_ms_ago;
	uint32_t asked_cnt, failed_cnt;
	bool tunnel;
};
typedef void (*mr_neighbours_fn)(void *ctx, const struct mr_neighbour_info *info);
void mr_neighbours_each(const struct mr_neighbours *t, uint32_t now_ms, mr_neighbours_fn fn, void *ctx);

struct mr_neighbours_usage {
	uint32_t slot_cnt, slot_max, resolving_cnt, tunnel_cnt;
	uint64_t refused_cnt; /* slots that could not be made */
	uint64_t asked_cnt, failed_cnt, freed_cnt;
	uint64_t error_cnt; /* requests the kernel refused; they are repeated until it is too late */
	uint32_t known_cnt; /* of the kernel's neighbours, used or not */
};
void mr_neighbours_usage(const struct mr_neighbours *t, struct mr_neighbours_usage *out);

#endif
