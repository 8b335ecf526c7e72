/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * route_table.h - what the files of route.h share.
 *
 *     route_mirror.c   the socket: dumps, events, resynchronisation        route.c        workers: lookup; life
 *         │ messages                                                       route_text.c   for people
 *         ▼
 *     route_hear.c     what a route message does to a prefix               route_device.c links, addresses, rules
 *         │
 *     route_prefix.c   prefixes and the routes each has; the best one ─► core/fib.h
 *         │ path number
 *     route_path.c     paths, shared by all routes that go the same way; the views workers read
 *
 * Everything belongs to control but what workers read: views (immutable, swapped, freed after an epoch), the forwarding table,
 * the bucket versions, the source addresses, and a few flags.
 */
#ifndef MR_CORE_ROUTE_TABLE_H
#define MR_CORE_ROUTE_TABLE_H

#include "core/reason.h"
#include "core/route.h"
#include "core/rtnl.h"
#include <stdatomic.h>

#define MR_ROUTE_CHUNK       4096u /* path numbers that share a page of views */
#define MR_ROUTE_CHUNKS      4096u
#define MR_ROUTE_PICKS       1024u /* what a flow's hash chooses from, when there are several hops */
#define MR_ROUTE_ONLY_KERNEL 1u    /* the path of prefixes that only the kernel can follow */

/* Where a route's table stands: the default rules ask local, main, default. */
enum { MR_ROUTE_DEFAULT, MR_ROUTE_MAIN, MR_ROUTE_LOCAL };

/* Messages are told apart by what they dump, in the order they are asked for. */
enum mr_route_dump {
	MR_DUMP_LINK,
	MR_DUMP_ADDR,
	MR_DUMP_NEIGH,
	MR_DUMP_NEXTHOP,
	MR_DUMP_RULE4,
	MR_DUMP_RULE6,
	MR_DUMP_ROUTE4,
	MR_DUMP_ROUTE6,
	MR_DUMP_CNT,
};

#define MR_DUMP_ALL    ((1u << MR_DUMP_CNT) - 1)
#define MR_DUMP_ROUTES (1u << MR_DUMP_NEXTHOP | 1u << MR_DUMP_ROUTE4 | 1u << MR_DUMP_ROUTE6)

/* ---- paths ------------------------------------------------------------------------------------------------ */

/* What makes two routes go the same way.  Hops are sorted; flags are not part of it. */
struct mr_path_key {
	uint64_t hash;
	uint8_t family;
	uint8_t type; /* RTN_* */
	bool unknown;
	uint32_t source;
	uint32_t mtu;
	uint32_t nexthop_id;
	uint16_t hop_cnt;
	struct mr_rtnl_hop hop[MR_RTNL_HOPS];
};

struct mr_view_hop {
	uint32_t ifindex;
	uint8_t family;
	bool kernel; /* out of a device that is none of ours */
	uint8_t gateway[16];
};

/* What a worker reads of a path.  Retired whole. */
struct mr_path_view {
	uint8_t verdict; /* enum mr_route_verdict */
	uint8_t reason;
	uint16_t mtu;
	uint16_t hop_cnt;
	const uint8_t *pick; /* MR_ROUTE_PICKS hops, behind hop[]; NULL: hop 0 */
	struct mr_view_hop hop[];
};

struct mr_path {
	uint64_t hash;
	struct mr_rtnl_hop *hop;
	uint32_t refs; /* routes; 0 = the number is free, or waits for an epoch */
	uint32_t hash_next;
	uint32_t mtu, nexthop_id, source;
	uint16_t hop_cnt;
	uint8_t family, type;
	bool unknown;
	bool flushed; /* the kernel has forgotten its routes without a word (its device went down): out of the index, routes to go */
	bool dead;    /* no member can be used: its routes do not count */
	bool revisit; /* one of these two changed: prefixes are to be looked at again */
	bool tunnel;  /* out of a tunnel device; route_text.c names it */
	bool encap;
};

/* ---- prefixes --------------------------------------------------------------------------------------------- */

#define MR_ROUTE_CLASS 0x03 /* of flags */
#define MR_ROUTE_MARK  0x04 /* seen by the dump that is running */
#define MR_ROUTE_TOMB  0x08 /* deleted while a dump runs that may still tell of it */
#define MR_ROUTE_DONE  0x10 /* its place was told by the dump that is running */

struct mr_route_entry {
	uint32_t path;
	uint32_t metric;
	uint32_t next; /* 0 = the last; else of the same prefix, in the kernel's order */
	uint8_t tos;
	uint8_t protocol;
	uint8_t flags;
	uint8_t reserved;
};

_Static_assert(sizeof(struct mr_route_entry) == 16, "a million of them");

struct mr_route_prefix {
	uint32_t hash_next;
	uint32_t first; /* entry; 0 = the prefix is free */
	uint32_t value; /* in the forwarding table; 0 = none */
	uint8_t bits;
	uint8_t used;
	uint8_t local; /* counted in local_cnt */
	uint8_t reserved;
	uint8_t addr[]; /* 4 or 16 */
};

/* One family's. */
struct mr_route_prefixes {
	uint8_t *item;
	uint32_t *bucket;
	size_t stride;
	uint32_t cnt, top, cap, free;
	uint32_t bucket_cnt, bucket_cap; /* grows by one bucket a prefix: never a pause for all */
	uint32_t local_cnt[129];         /* prefixes of each length that have a route in the local table */
	uint32_t walk_left, walk_at;     /* prefixes to look at again, from where */
	bool walk_all;                   /* every one, not only those of paths to be revisited */
};

/* ---- devices ---------------------------------------------------------------------------------------------- */

struct mr_route_link {
	struct mr_rtnl_link l;
	struct mr_route_link *next;
	uint8_t id; /* interface it is, or a VLAN device over; 0 = none of ours */
	bool mark;
	bool told; /* mr_neighbours_device() knows it */
};

#define MR_ROUTE_LINK_CHAINS 1024u

struct mr_route_rule {
	struct mr_rtnl_rule r;
	bool mark;
};

struct mr_route_nexthop {
	struct mr_rtnl_nexthop n;
	struct mr_route_nexthop *next;
	bool mark;
};

#define MR_ROUTE_NEXTHOP_CHAINS 4096u

struct mr_route_addr {
	struct mr_rtnl_addr a;
	bool mark;
};

struct mr_route_source {
	uint8_t addr[16];
	uint8_t family, bits, id;
	bool vlan;
	bool link; /* IPv6 link-local */
};

struct mr_route_sources {
	uint32_t cnt;
	struct mr_route_source s[];
};

/* ---- all of it -------------------------------------------------------------------------------------------- */

struct mr_route_retired {
	struct mr_route_retired *next;
	void *memory;
	uint32_t path; /* a number to be given free; 0 = none */
	uint64_t stamp;
};

struct mr_routes {
	struct mr_routes_options opt;

	/* workers read */
	struct mr_fib *fib;
	_Atomic(_Atomic(struct mr_path_view *) *) view[MR_ROUTE_CHUNKS];
	uint8_t (*version)[MR_ROUTE_BUCKETS]; /* [2]; opt.version or own_version */
	_Atomic bool only_kernel[2];          /* rules, or lost memory: everything of that family */
	_Atomic bool last_table;              /* IPv4: table 253 has routes, which come after an unreachable in main */
	_Atomic bool foreign[MR_MAX_INTERFACES + 1]; /* packets from it belong to a VRF, bridge or bond */
	_Atomic(struct mr_route_sources *) sources;
	_Atomic bool device[MR_MAX_INTERFACES + 1]; /* the interface is one of the kernel's (and no capture) */
	__u64 (*vlan)[MR_ROUTE_VLAN_WORDS]; /* atomic; of VLAN devices over it that are up; opt.vlan or own_vlan */
	uint8_t own_version[2][MR_ROUTE_BUCKETS];
	__u64 own_vlan[MR_MAX_INTERFACES + 1][MR_ROUTE_VLAN_WORDS];

	/* control's */
	struct mr_route_prefixes prefixes[2];
	struct mr_route_entry *entry;
	uint32_t entry_cnt, entry_top, entry_cap, entry_free;
	uint64_t route_cnt[2];
	uint64_t last_table_cnt;
	struct mr_path *path;
	uint32_t path_cnt, path_top, path_cap, path_free;
	uint32_t *path_bucket;
	uint32_t path_bucket_cnt;
	struct mr_route_link *link[MR_ROUTE_LINK_CHAINS];
	struct mr_route_nexthop *nexthop[MR_ROUTE_NEXTHOP_CHAINS];
	uint64_t nexthop_cnt;
	struct mr_route_rule *rule;
	uint32_t rule_cnt, rule_cap;
	bool rules_known[2];
	bool short_of_memory; /* something could not be kept: the mirror is not to be trusted until it was read again */
	bool short_before;    /* it is being read again for that */
	struct mr_route_addr *addr;
	uint32_t addr_cnt, addr_cap;
	bool sources_dirty;
	uint32_t interface[MR_MAX_INTERFACES + 1]; /* ifindex */
	uint64_t seed;

	/* versions */
	uint64_t dirty[2][MR_ROUTE_BUCKETS / 64];
	bool dirty_any;
	uint8_t advanced[2][MR_ROUTE_BUCKETS]; /* since the last sweep */

	struct mr_route_retired *retired, *retiring; /* stamped; of this round */

	/* the socket */
	int fd;
	uint32_t portid, seq;
	uint32_t owed;    /* dumps to ask for, bits of enum mr_route_dump */
	int running;      /* the one being read, -1 = none */
	bool interrupted; /* it is worth nothing */
	bool sweeping;    /* read; what it did not name goes */
	bool sweep_whole; /* else only tombs go */
	uint32_t sweep_at;
	uint8_t mark[2];    /* value of MR_ROUTE_MARK of this dump: 0 or MR_ROUTE_MARK */
	bool route_dump[2]; /* one is running, of this family */
	unsigned restarts;
	uint64_t asked_ms, retry_ms;
	uint8_t *buffer;
	uint64_t event_cnt, resync_cnt, sweep_cnt;
};

/* ---- route_path.c ---- */
void mr_path_key(struct mr_path_key *k, const struct mr_rtnl_route *m);
/* The number of a path, with one reference more; 0 = no memory. */
uint32_t mr_path_take(struct mr_routes *r, const struct mr_path_key *k);
void mr_path_release(struct mr_routes *r, uint32_t n);
bool mr_path_is(const struct mr_routes *r, uint32_t n, const struct mr_path_key *k);
/* The key of a path as it is kept, to make another one of it. */
void mr_path_get(const struct mr_routes *r, uint32_t n, struct mr_path_key *k);
/* What the kernel says of members' state now. */
void mr_path_flags(struct mr_routes *r, uint32_t n, const struct mr_path_key *k);
/* Views of the paths that use a device or a next-hop object are made again (0, 0: all; UINT32_MAX: by any object); all versions of
 * their families move. */
void mr_paths_changed(struct mr_routes *r, uint32_t ifindex, uint32_t nexthop_id);
/* The device went down: what the kernel forgets now. */
void mr_paths_flush(struct mr_routes *r, uint32_t ifindex);
/* It came up: members are not dead any more. */
void mr_paths_revive(struct mr_routes *r, uint32_t ifindex);
int mr_paths_create(struct mr_routes *r);
void mr_paths_destroy(struct mr_routes *r);
/* Frees `memory` and `path` after an epoch. */
void mr_route_retire(struct mr_routes *r, void *memory, uint32_t path);
/* Of a round: stamps what was retired in it, frees what no worker can hold any more. */
void mr_route_reclaim(struct mr_routes *r);
struct mr_route_nexthop *mr_route_nexthop_find(const struct mr_routes *r, uint32_t id);

/* ---- route_prefix.c ---- */
struct mr_route_prefix *mr_prefix_at(const struct mr_routes *r, unsigned f, uint32_t i);
uint32_t mr_prefix_find(const struct mr_routes *r, unsigned f, const uint8_t *addr, unsigned bits); /* 0 = none */
uint32_t mr_prefix_make(struct mr_routes *r, unsigned f, const uint8_t *addr, unsigned bits);       /* 0 = no memory */
/* Puts a route behind entry `after` (0: first).  Takes the reference on path.  0 = no memory, the reference is dropped. */
uint32_t mr_prefix_insert(
	struct mr_routes *r, unsigned f, uint32_t prefix, uint32_t after, const struct mr_route_entry *e);
void mr_prefix_remove(struct mr_routes *r, unsigned f, uint32_t prefix, uint32_t before, uint32_t entry);
/* Takes the entry out of its place and puts it behind `after`. */
void mr_prefix_move(struct mr_routes *r, unsigned f, uint32_t prefix, uint32_t entry, uint32_t after);
/* The best route again, into the forwarding table; a prefix without routes is given free. */
void mr_prefix_settle(struct mr_routes *r, unsigned f, uint32_t prefix);
/* The entry that counts, 0 = none. */
uint32_t mr_prefix_best(const struct mr_routes *r, unsigned f, uint32_t prefix);
void mr_prefixes_walk(struct mr_routes *r, unsigned f, bool all);           /* asks for it */
bool mr_prefixes_walk_some(struct mr_routes *r, unsigned cnt);              /* does some; true = there is more */
bool mr_prefixes_sweep_some(struct mr_routes *r, unsigned f, unsigned cnt); /* of a dump; true = there is more */
void mr_prefixes_destroy(struct mr_routes *r);
void mr_versions_touch(struct mr_routes *r, unsigned f, const uint8_t *addr, unsigned bits);
void mr_versions_touch_all(struct mr_routes *r, unsigned f);

/* ---- route_hear.c ---- */
void mr_route_heard(struct mr_routes *r, const struct mr_rtnl *m, bool dumped);

/* ---- route_device.c ---- */
void mr_route_link_heard(struct mr_routes *r, const struct mr_rtnl *m, bool dumped);
void mr_route_addr_heard(struct mr_routes *r, const struct mr_rtnl *m);
void mr_route_rule_heard(struct mr_routes *r, const struct mr_rtnl *m);
void mr_route_nexthop_heard(struct mr_routes *r, const struct mr_rtnl *m);
void mr_route_nexthops_down(struct mr_routes *r, uint32_t ifindex);
/* A dump begins; at its end what it did not name goes. */
void mr_route_devices_begin(struct mr_routes *r, enum mr_route_dump d);
void mr_route_devices_end(struct mr_routes *r, enum mr_route_dump d);
struct mr_route_link *mr_route_link_find(const struct mr_routes *r, uint32_t ifindex);
/* The interface a device is or lies over; 0 = none. */
unsigned mr_route_interface_of(const struct mr_routes *r, uint32_t ifindex);
void mr_route_sources_make(struct mr_routes *r);
/* May packets of this family be routed here at all? */
void mr_route_rules_weigh(struct mr_routes *r);
bool mr_route_rule_is_plain(const struct mr_rtnl_rule *rule); /* one of the default rules, or harmless */
uint32_t mr_route_rule_missing(
	const struct mr_routes *r, unsigned family); /* table of a default rule that is not there, 0 = none */
void mr_route_devices_destroy(struct mr_routes *r);

/* ---- route_mirror.c ---- */
void mr_route_round_end(struct mr_routes *r);
void mr_route_owe(struct mr_routes *r, uint32_t dumps);

static inline unsigned mr_route_f(unsigned family)
{
	return family == 6 || family == 10; /* AF_INET6 */
}

static inline unsigned mr_route_bytes(unsigned f)
{
	return f ? 16 : 4;
}

static inline uint64_t mr_route_mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9fb21c651e98df25ULL;
	return h ^ h >> 32;
}

#endif
