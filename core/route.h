/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * route.h - `to: route`: the kernel's routing tables, mirrored, and what they say about a destination.
 *
 *     kernel ─netlink events, dumps─► control: routes, next-hop objects, addresses, links, rules
 *                                        │ best route of each prefix ─► path ─► core/fib.h
 *                                        ▼
 *     worker: address ─► prefix ─► path ─┬─► next-hop slot (core/neighbour.h); of several by the flow's hash
 *                                        ├─► the kernel: local, multicast, and whatever we do not mirror
 *                                        └─► drop: no route, blackhole, unreachable, prohibit
 *
 * Flows keep the slot they were given (MR_FLOW_ROUTED).  So that a route that moves reaches them at once, every answer carries the
 * version of its destination's bucket (kern/flow.h: mr_route_bucket4/6): a record whose version is not the bucket's is asked
 * again before it is used.  Versions have 7 bits; long before a bucket can come round, mr_routes_service() calls `sweep`: from then on
 * and before it is called again, MR_FLOW_DECIDED must be taken off every routed record whose version is not the current one.
 *
 * Neighbours, MACs, links and MTUs are the slots' (core/neighbour.h): changing them is one store for any number of flows.
 */
#ifndef MR_CORE_ROUTE_H
#define MR_CORE_ROUTE_H

#include "core/error.h"
#include "core/fib.h"
#include "core/neighbour.h"
#include "kern/flow.h"
#include <stdbool.h>
#include <stdint.h>

#define MR_ROUTE_VLAN_WORDS (4096 / 64)

struct mr_routes;

enum mr_route_verdict {
	MR_ROUTE_SLOT,   /* send by `slot` */
	MR_ROUTE_KERNEL, /* the stack's: local, multicast, broadcast, link-local, not mirrored */
	MR_ROUTE_DROP,   /* `reason` */
};

struct mr_route_answer {
	uint8_t verdict; /* enum mr_route_verdict */
	uint8_t reason; /* enum mr_reason; with KERNEL: MR_REASON_NONE, or why it cannot be forwarded here when it was translated
			    (MR_REASON_UNMIRRORED) */
	uint8_t version; /* of the destination's bucket, read before the lookup: 0..127 */
	uint16_t slot;
};

struct mr_routes_options {
	struct mr_neighbours *neighbours;
	struct mr_epoch *epoch;
	/* Called when versions would wrap some time; see above: it may only begin.  Control thread. */
	void (*sweep)(void *ctx);
	void *ctx;
	int receive_bytes; /* buffer of the netlink socket, 0 = 32 MiB; tests make it small */
	/* Zeros that others read and that outlive the mirror (kern/tier.h); NULL = its own. */
	uint8_t (*version)[MR_ROUTE_BUCKETS]; /* [2], as mr_routes_versions() */
	__u64 (*vlan)[MR_ROUTE_VLAN_WORDS];   /* [MR_MAX_INTERFACES + 1], the ids of mr_routes_takes_tag() */
};

/* An empty mirror: every destination is "no route" until it was fed or opened.  -ENOMEM.  Threads: control. */
int mr_routes_create(const struct mr_routes_options *opt, struct mr_routes **out, struct mr_error *e);
void mr_routes_destroy(struct mr_routes *r); /* NULL allowed; no reader left */

/* Starts mirroring the namespace of the caller: subscribes, dumps everything, returns when all of it is in.  Called again: nothing.
 * -EPERM, -ENOMEM, -errno of the sockets.  Threads: control. */
int mr_routes_open(struct mr_routes *r, struct mr_error *e);
int mr_routes_fd(const struct mr_routes *r); /* readable when there is something to service; -1 = not opened */
/* Reads what is there, bounded; 1 = more is waiting, call again soon.  After ENOBUFS it asks for everything again and takes out what is
 * gone, while lookups go on.  Threads: control. */
int mr_routes_service(struct mr_routes *r);
/* Regularly (about every 100 ms): asks again for dumps that failed.  Threads: control. */
void mr_routes_tick(struct mr_routes *r);
/* The bytes of a datagram as if the kernel had sent it (tests, fuzzing).  Threads: control. */
void mr_routes_feed(struct mr_routes *r, const void *data, size_t bytes);

/* Which of our interfaces a device is: routes out of other devices are the kernel's.  ifindex 0: the interface is gone.
 * VLAN devices over it are found by themselves.  Threads: control. */
void mr_routes_interface(struct mr_routes *r, unsigned interface_id, uint32_t ifindex);

/*
 * Where a packet for `dst_be` (4 or 16 bytes) goes that came in on interface_id.  hash: the flow's, which chooses among several paths;
 * a path that goes moves only its own flows.  Threads: workers online in the epoch; control.  Never waits; takes a lock only
 * to make the slot of a neighbour never used before.
 */
void mr_routes_lookup(struct mr_routes *r, unsigned interface_id, unsigned family, const void *dst_be, uint64_t hash,
	struct mr_route_answer *out);

/* Some packets before mr_routes_lookup() or mr_routes_local(): what an IPv4 address is looked up by is fetched.  Threads: any. */
void mr_routes_expect4(const struct mr_routes *r, __be32 addr_be);

/* Whether a device of this namespace takes packets in that came to an interface with this outer tag (one of `vlan_cnt`): others
 * are no business of its routes.  Threads: any; no lock. */
bool mr_routes_takes_tag(const struct mr_routes *r, unsigned interface_id, unsigned vlan_cnt, uint16_t tci);

/* True when the address is one of this machine, or a broadcast address of its links: never the source of a packet from outside (RFC 1812
 * section 5.3.8; the kernel's rule for IPv4).  Threads: as mr_routes_lookup(). */
bool mr_routes_local(const struct mr_routes *r, unsigned family, const void *addr_be);

/* The versions of all buckets: [0] IPv4, [1] IPv6.  One byte each, relaxed loads.  For the hit path. */
const uint8_t *mr_routes_versions(const struct mr_routes *r, unsigned family);

/* The address our ICMP errors to `dst_be` come from when the offending packet came in on interface_id: one of that interface (RFC 1812
 * section 4.3.2.4), else any of the box of global scope.  False: there is none.  Threads: any online in the epoch. */
bool mr_routes_source(
	const struct mr_routes *r, unsigned interface_id, unsigned family, const void *dst_be, void *src_be);

/* ---- for people ------------------------------------------------------------------------------------------- */

struct mr_routes_usage {
	uint64_t route_cnt[2]; /* mirrored, IPv4 and IPv6 */
	uint64_t prefix_cnt[2];
	uint64_t path_cnt, nexthop_cnt;
	uint64_t bytes;
	uint64_t event_cnt;  /* messages taken */
	uint64_t resync_cnt; /* times everything was asked again because events were lost */
	uint64_t sweep_cnt;
	bool synced; /* no dump is running or owed */
};
void mr_routes_usage(const struct mr_routes *r, struct mr_routes_usage *out);

/* What the kernel has configured that this mirror does not follow, one sentence each ("rule 100 from all fwmark 0x1 lookup 100: ...").
 * affects: "ipv4", "ipv6", or the device.  Threads: control. */
typedef void (*mr_routes_unmirrored_fn)(void *ctx, const char *affects, const char *sentence);
void mr_routes_unmirrored(const struct mr_routes *r, mr_routes_unmirrored_fn fn, void *ctx);

/* The route over an address in words: "198.51.100.0/24 via 192.0.2.1 dev wan metric 100"; -ENOENT: none.  Threads: control. */
int mr_routes_describe(const struct mr_routes *r, unsigned family, const void *dst_be, char *text, size_t bytes);

/* Every route under a prefix (bits 0: all) as mr_routes_describe() words it; stops when fn returns non-zero.  Threads: control. */
typedef int (*mr_routes_fn)(void *ctx, unsigned family, const uint8_t *dst_be, unsigned bits, const char *words);
int mr_routes_each(
	const struct mr_routes *r, unsigned family, const void *dst_be, unsigned bits, mr_routes_fn fn, void *ctx);

#endif
