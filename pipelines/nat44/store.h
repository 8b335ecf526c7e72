/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * store.h - what a NAT knows besides sessions: outside addresses and their ports, subscribers, mappings.
 *
 *     subscriber (inside address) ─► its outside address, its blocks of ports, its sessions counted
 *       └─ mapping (inside address, port, protocol [, destination]) ◄─► (outside address, port, protocol)
 *            └─ sessions, each of which holds it
 *
 * A mapping lives as long as a session holds it (RFC 4787 section 4.3: the sessions' time-outs are the mapping's timer), and is never given up
 * for another (RFC 6888 REQ-11 D).  With endpoint-independent mapping many sessions share one.  One mapping has a port of an outside
 * address for itself, whatever the mapping depends on: ports are not overloaded (RFC 4787 REQ-3).
 *
 * The store outlives instances of the stage: those of the configuration before and after a reload use the same one, each with its own policy.
 * A mapping made under one policy is used under another when its key is the same and its outside address is one of the policy's.  If the
 * address is not, the next flow from inside gets a new mapping elsewhere at once, and the old one serves its sessions until they end;
 * so does a subscriber whose address left.  Peers (address-dependent filtering) are those of sessions taken under such a policy.
 *
 * Paired (RFC 4787 REQ-2): a subscriber keeps its outside address as long as it has a session, a mapping or a block; a new one gets the less
 * loaded of two drawn at random, or else any with room.  When its address is full it is refused, though others have room.
 *
 * Blocks (RFC 7422): a block is a subscriber's in all three protocols, from the first port it needs until all of them have been given back and
 * have rested; meanwhile the subscriber itself may use its other ports.  So no port of a block reaches another subscriber within the
 * quarantine.  A block none of whose ports was used goes back without rest.  Blocks go back in nat_store_tick().
 *
 * Memory: 32 bytes a mapping, 4 to 8 for finding it from inside and 4 from outside; 16 to 24 a peer; 48 a subscriber and 4 to 8
 * to find it; all that is there as it is touched (huge pages where the kernel gives them), like the 1.1 MiB of an outside address.  Measured with
 * 1 031 161 mappings of 65 536 subscribers at 16 addresses: 50 bytes a mapping, everything included (bench/bench_nat_ports.c).
 *
 * Threads: take, find and release by workers and control, several at once; no two with the same worker number.  Locks, held for some hundred
 * instructions: one for each of many shards (by inside address: subscribers, and what is counted of mappings), one for each outside address
 * (its ports), a bit in each head of a hash chain.  The order: shard, address or chain; never two of a kind.  The longest times they are held:
 * a subscriber's NAT_BLOCKS_MAX blocks searched (a few µs), and a third of the quarantine's ports freed (once in that time; a few µs).
 * Besides, the kernel zeroes a page that is touched first, also while a lock is held: 2 MiB of it where pages are huge.
 */
#ifndef MR_PIPELINES_NAT44_STORE_H
#define MR_PIPELINES_NAT44_STORE_H

#include "pipelines/nat44/ports.h"

#include <linux/types.h>

#define NAT_ADDRESSES_MAX   4096 /* outside addresses a store ever had */
#define NAT_BLOCKS_MAX      256  /* of a subscriber, whatever its limit */
#define NAT_BLOCK_PORTS_MIN 16
#define NAT_BLOCK_PORTS_MAX 16384

/* RFC 4787 sections 4.1 and 5: what a mapping, and what is let in, depends on. */
enum nat_dependence { NAT_ENDPOINT_INDEPENDENT, NAT_ADDRESS_DEPENDENT, NAT_ADDRESS_AND_PORT_DEPENDENT };

/* Protocols with ports of their own here. */
enum nat_proto { NAT_TCP, NAT_UDP, NAT_ICMP, NAT_PROTO_CNT };

enum nat_outcome {
	NAT_OK,
	NAT_NO_PORTS,      /* all ports of its address (paired) or of all addresses are taken or resting */
	NAT_NO_BLOCKS,     /* its blocks are used up, and no other is free */
	NAT_BLOCK_LIMIT,   /* ... and it may not have another */
	NAT_SESSION_LIMIT, /* the subscriber has as many sessions as it may */
	NAT_MAPPING_LIMIT, /* ... mappings */
	NAT_NO_MEMORY,     /* no room for another mapping or subscriber */
	NAT_NO_ADDRESS,    /* there is no outside address for it */
	NAT_OUTCOME_CNT
};

/* A block given to a subscriber or taken back, for the log. */
struct nat_block_event {
	bool given;
	__be32 inside_be, outside_be;
	uint16_t lo, hi; /* ports, host order */
	uint16_t zone;   /* of the subscriber */
};

/* One instance's. */
struct nat_policy {
	uint8_t mapping;           /* enum nat_dependence */
	uint8_t filtering;         /* enum nat_dependence */
	bool paired;               /* RFC 4787 REQ-2 */
	uint8_t choice;            /* enum nat_choice */
	uint16_t port_lo, port_hi; /* host order; of dynamic mappings */
	uint16_t block_ports;      /* 0 = no blocks; a power of two */
	uint32_t blocks_max;       /* of a subscriber, at the policy's addresses and in its range; 0 = NAT_BLOCKS_MAX */
	uint32_t sessions_max, mappings_max; /* likewise; 0 = any number */
	uint32_t quarantine_ms;
	const uint32_t
		*address; /* numbers of the outside addresses dynamic mappings may use: by nat_policy_addresses() */
	uint32_t address_cnt;
	uint64_t address_set[NAT_ADDRESSES_MAX / 64];
	/* Called with a shard locked, so that what is said of a block is in order: it returns soon and asks nothing of the store. */
	void (*on_block)(void *ctx, unsigned worker, const struct nat_block_event *e); /* NULL = nobody wants to know */
	void *ctx;
};

/* The numbers stay the caller's, for as long as the policy is used.  Threads: control, before anybody else uses the policy. */
void nat_policy_addresses(struct nat_policy *p, const uint32_t *address, uint32_t cnt);

/* Who asks, and when. */
struct nat_turn {
	const struct nat_policy *policy;
	unsigned worker; /* 0..n-1, n = control */
	uint32_t now_ms;
	bool let_in; /* nat_store_take_outside: whatever the filter says */
	bool trial;  /* explain: what is taken is given back at once, and neither counted nor told */
};

/* Of a packet from inside. */
struct nat_flow {
	uint16_t zone;
	uint8_t proto; /* enum nat_proto */
	__be32 inside_be;
	__be16 inside_port_be; /* ICMP: identifier */
	__be32 remote_be;
	__be16 remote_port_be; /* ICMP: 0 */
};

struct nat_mapping {
	__be32 inside_be, outside_be;
	__be16 inside_port_be, outside_port_be;
	__be32 remote_be;      /* 0 = it does not depend on it */
	__be16 remote_port_be; /* likewise */
	uint16_t zone;
	uint8_t proto; /* enum nat_proto */
	bool retired; /* its port is reserved, or its address was found to have left: new sessions from inside get another */
	uint32_t session_cnt;
};

struct nat_store;

struct nat_store_options {
	uint32_t mapping_max; /* at once; memory is used as they come */
	uint32_t subscriber_max;
	unsigned worker_cnt;
	uint64_t
		seed; /* of hashes and choices; 0 = the kernel's random numbers, and nothing else will do outside tests */
};

/* 0, -ENOMEM, -EINVAL (more than 2^29 of a kind, or none).  The caller has one reference.  Threads: control. */
int nat_store_create(const struct nat_store_options *opt, struct nat_store **out);
struct nat_store *nat_store_hold(struct nat_store *s);
void nat_store_drop(struct nat_store *s); /* NULL allowed; the last one ends it */

/*
 * The number of an outside address; it is the same as long as the store lives.  Made when new.  -ENOSPC, -ENOMEM.  Threads: control.
 * nat_store_reserve: ports lo..hi of it are for static use from now on (all protocols, or one).  Mappings that have one serve the sessions they
 * have, and those from outside, but new ones from inside get another mapping; given back, the port is not given again.
 */
int nat_store_address(struct nat_store *s, __be32 outside_be, uint32_t *number);
void nat_store_reserve(
	struct nat_store *s, uint32_t number, int proto /* enum nat_proto, -1 = all */, uint16_t lo, uint16_t hi);
/* Ports by protocol, a bit each. */
struct nat_port_set {
	uint64_t port[NAT_PROTO_CNT][NAT_PORTS_WORDS];
};
/* Only what `fn` puts into the (empty) set of an address stays reserved, and stays so meanwhile; the rest may be given at once.  Asked of each address
 * that has something reserved; nothing is locked.  NULL: nothing stays.  -ENOMEM: all stays.  Threads: control. */
int nat_store_unreserve(
	struct nat_store *s, void (*fn)(void *ctx, __be32 outside_be, struct nat_port_set *keep), void *ctx);

/*
 * The mapping of a flow from inside, made when there is none, and one session more of it and of its subscriber.  With address-dependent filtering
 * the remote address is let in as long as the session lives.  NAT_OK and *mapping (never 0) and *made, else nothing is taken.  Threads: any.
 */
enum nat_outcome nat_store_take(
	struct nat_store *s, const struct nat_turn *t, const struct nat_flow *f, uint32_t *mapping, bool *made);

/*
 * The mapping an outside address and port belong to, for a packet that comes from `remote`, and one session more of both.  NAT_OK and *mapping;
 * *mapping is 0 when there is none (in this zone, at an address of the policy) or the filter does not let it in (*filtered).
 * Filtering endpoint-independent lets all in, address-dependent those a session of the mapping goes to, address-and-port-dependent nobody:
 * what it would let in belongs to a session already.  Threads: any.
 */
enum nat_outcome nat_store_take_outside(struct nat_store *s, const struct nat_turn *t, uint16_t zone, uint8_t proto,
	__be32 outside_be, __be16 outside_port_be, __be32 remote_be, __be16 remote_port_be, uint32_t *mapping,
	bool *filtered);

/* Some packets before nat_store_take(): what it will look at first is fetched.  Threads: any. */
void nat_store_prefetch(const struct nat_store *s, const struct nat_policy *p, const struct nat_flow *f);

/* One session less.  unused: the session was not made, and a mapping made for it goes without rest.  remote_be as taken; 0 when that was not under
 * address-dependent filtering.  Threads: any. */
void nat_store_release(struct nat_store *s, const struct nat_turn *t, uint32_t mapping, __be32 remote_be, bool unused);

/* A session of a subscriber without a mapping: protocols without ports.  *outside_be is the address it has, and keeps as long as it has a
 * session (unless the policy's addresses change: see above).  Threads: any. */
enum nat_outcome nat_store_take_subscriber(struct nat_store *s, const struct nat_turn *t, uint16_t zone,
	__be32 inside_be, uint32_t *subscriber, __be32 *outside_be);
void nat_store_release_subscriber(struct nat_store *s, const struct nat_turn *t, uint32_t subscriber);

/* Ten times a second or so on each worker: blocks that have rested are given back, some at a time.  Threads: any. */
void nat_store_tick(struct nat_store *s, const struct nat_turn *t);

/* What `number` has: for keeps() and show. */
bool nat_store_mapping(
	const struct nat_store *s, uint32_t mapping, struct nat_mapping *out); /* a copy; false = not in use */
/* ... its address of today, which after a change of the policy's addresses need not be that of an older session. */
bool nat_store_outside_of(const struct nat_store *s, uint32_t subscriber, __be32 *inside_be, __be32 *outside_be);
/* Of a mapping the caller has taken a session of: without a lock, for its ends stay.  session_cnt and retired are not told.  Threads: any. */
void nat_store_held(const struct nat_store *s, uint32_t mapping, struct nat_mapping *out);

/* ---- for show ---------------------------------------------------------------------------------------------------- */

struct nat_address_usage {
	__be32 outside_be;
	uint32_t taken[NAT_PROTO_CNT], resting[NAT_PROTO_CNT], reserved[NAT_PROTO_CNT];
	uint32_t subscriber_cnt, blocks_taken, blocks;
};
struct nat_subscriber_usage {
	__be32 inside_be, outside_be;
	uint16_t zone;
	uint32_t session_cnt, mapping_cnt, block_cnt;
	uint32_t ports[NAT_PROTO_CNT];
};
struct nat_store_usage {
	uint32_t address_cnt, subscriber_cnt, subscriber_max, mapping_cnt, mapping_max;
	uint64_t mappings_made, mappings_ended, refused[NAT_OUTCOME_CNT], bytes;
};
void nat_store_usage(const struct nat_store *s, struct nat_store_usage *out);
/* By number, 0..; false: no such (more) number.  Threads: control. */
bool nat_store_address_usage(const struct nat_store *s, uint32_t number, struct nat_address_usage *out);
/* The first in use from *at on, which is moved past it; false = no more.  Begins at 0.  Threads: control; what comes and goes meanwhile may be
 * missed. */
bool nat_store_next_subscriber(const struct nat_store *s, uint32_t *at, struct nat_subscriber_usage *out);
bool nat_store_next_mapping(const struct nat_store *s, uint32_t *at, struct nat_mapping *out);
/* By tuple; false = none.  proto: enum nat_proto. */
bool nat_store_find_outside(
	const struct nat_store *s, uint8_t proto, __be32 outside_be, __be16 port_be, struct nat_mapping *out);

#endif
