/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * store_table.h - the store's inside: what lies where, and its locks.
 *
 * Things are numbers in arrays of address space that gets memory as it is touched; 0 is none.  What lock protects what:
 *     shard      its subscribers and their chains; of their mappings what changes (sessions, flags); of their blocks all but the map;
 *                the list of blocks that rest
 *     address    ports, the map of blocks, what is counted of it
 *     chain      (a bit of its head) who is in it; keys of mappings in it do not change
 *     pool       free numbers, taken and given in handfuls
 * A shard's is taken first; address or chain inside it, one at a time; a pool's inside all of them.  A mapping, subscriber or block never leaves
 * its shard while it is in use.  Its `shard` is written last when it comes into use and first when it goes, under that shard's lock: whoever has
 * locked the shard it names, and finds it still named, may read the rest.
 */
#ifndef MR_PIPELINES_NAT44_STORE_TABLE_H
#define MR_PIPELINES_NAT44_STORE_TABLE_H

#include "pipelines/nat44/store.h"

#include <sched.h>
#include <stddef.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define NAT_SHARDS          256
#define NAT_UNITS           (65536 / NAT_PORTS_UNIT)
#define NAT_HANDFUL         32
#define NAT_CHAIN_LOCK      (1u << 31)
#define NAT_SUBSCRIBER_LOAD 32 /* ports a subscriber that has just come is reckoned with */

/* A mapping: 32 bytes. */
struct nat_entry {
	uint32_t next; /* in its chain; free: in the pool */
	__be32 inside_be, remote_be;
	__be16 inside_port_be, remote_port_be;
	uint16_t zone;
	uint16_t shard;   /* + 1; 0 = not in use; atomic */
	uint16_t address; /* number, and << 12 the protocol */
	uint16_t outside_port;
	uint32_t subscriber;
	uint32_t session_cnt : 29;
	uint32_t retired : 1; /* it is in no chain: its address left the policy, or its port is reserved */
	uint32_t worn : 1;    /* a session used it */
	uint32_t peers : 1;   /* some of its sessions have one */
};
_Static_assert(sizeof(struct nat_entry) == 32, "memory a mapping");

struct nat_subscriber {
	uint32_t next;
	__be32 inside_be;
	uint16_t zone;
	uint16_t shard;   /* + 1; atomic */
	uint32_t address; /* number + 1 */
	uint32_t session_cnt, mapping_cnt, block_cnt;
	uint32_t block; /* the first of its list */
	uint32_t ports[NAT_PROTO_CNT];
};

/* An address that sessions of a mapping go to. */
struct nat_peer {
	uint32_t next;
	uint32_t mapping;
	__be32 remote_be;
	uint32_t session_cnt;
};

/* Named by its first unit: address << 12 | unit, + 1. */
struct nat_block {
	uint32_t subscriber;
	uint32_t next, prev;           /* of the subscriber */
	uint32_t idle_next, idle_prev; /* of the shard: those that rest, the longest first */
	uint32_t idle_ms;              /* since when */
	uint32_t taken_cnt;
	uint16_t unit_cnt, lo, hi;
	bool worn, idle, told; /* told: whoever wants to know knows that it was given */
};

struct nat_address {
	uint32_t lock;
	uint32_t number;
	__be32 be;
	uint32_t subscriber_cnt; /* atomic */
	uint32_t blocks_taken, blocks;
	uint64_t owned[NAT_UNITS / 64]; /* units of blocks */
	uint16_t start[NAT_UNITS];      /* the first unit of the block a unit is of, + 1 */
	struct nat_ports ports[NAT_PROTO_CNT];
	struct nat_block block[NAT_UNITS];
	uint32_t mapping[NAT_PROTO_CNT][65536]; /* by port; atomic */
};

struct nat_shard {
	uint32_t lock;
	uint32_t idle_first, idle_last; /* blocks; the first one atomic */
} __attribute__((aligned(64)));

/* Numbers 1..cnt of an array; a worker has some at hand, so that the lock is taken once in many. */
struct nat_pool {
	uint32_t lock;
	uint32_t free; /* linked by the first word of each */
	uint32_t used; /* the highest ever given; atomic */
	uint32_t cnt;
	size_t size;
	uint8_t *base;
};
enum { NAT_MAPPINGS, NAT_SUBSCRIBERS, NAT_PEERS, NAT_POOL_CNT };
struct nat_hand {
	uint32_t cnt, number[2 * NAT_HANDFUL];
};

/* That an address has nothing free, so that nobody has to look: until something is, or may be. */
struct nat_dry {
	uint64_t what;  /* ports lo, hi, and of a block; 0 = it may have; atomic */
	uint64_t until; /* 1 << 32 | ms; 0 = until it is said; atomic */
};

struct nat_worker {
	uint32_t key[12], random[16]; /* ChaCha8: key, counter; what is left of a block */
	unsigned random_left;
	struct nat_hand hand[NAT_POOL_CNT];
	uint32_t turned; /* the next address of its ticks */
	uint64_t made[2], ended[2],
		refused[NAT_OUTCOME_CNT]; /* of mappings, of subscribers; one writes, all read: atomic */
} __attribute__((aligned(64)));

struct nat_store {
	uint32_t holder_cnt;
	unsigned worker_cnt;
	uint64_t seed[2];
	uint32_t mapping_max, subscriber_max;
	struct nat_pool pool[NAT_POOL_CNT];
	uint32_t *head[NAT_POOL_CNT]; /* of chains */
	uint32_t head_cnt[NAT_POOL_CNT];
	struct nat_worker *worker;
	uint32_t block_cnt; /* atomic */
	uint32_t address_cnt;
	struct nat_shard shard[NAT_SHARDS];
	uint64_t known[2 * NAT_ADDRESSES_MAX]; /* be << 32 | number + 1; atomic */
	struct nat_address *address[NAT_ADDRESSES_MAX];
	uint32_t load[NAT_ADDRESSES_MAX];                                                      /* atomic */
	struct nat_dry dry[NAT_ADDRESSES_MAX][NAT_PROTO_CNT + 1] __attribute__((aligned(64))); /* the last: of blocks */
};

/* ---- locks ------------------------------------------------------------------------------------------------------- */

static inline void nat_relax(unsigned spins)
{
	if (spins % 256 == 0) {
		sched_yield(); /* the holder lost its CPU */
		return;
	}
#if defined(__SSE2__)
	_mm_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static inline void nat_lock(uint32_t *lock)
{
	for (unsigned spins = 1; __atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE); spins++)
		while (__atomic_load_n(lock, __ATOMIC_RELAXED))
			nat_relax(spins++);
}

static inline void nat_unlock(uint32_t *lock)
{
	__atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

/* The first of a chain, which is the caller's until nat_chain_unlock() says what is first now. */
static inline uint32_t nat_chain_lock(uint32_t *head)
{
	for (unsigned spins = 1;; spins++) {
		uint32_t first = __atomic_fetch_or(head, NAT_CHAIN_LOCK, __ATOMIC_ACQUIRE);
		if (!(first & NAT_CHAIN_LOCK))
			return first;
		nat_relax(spins);
	}
}

static inline void nat_chain_unlock(uint32_t *head, uint32_t first)
{
	__atomic_store_n(head, first, __ATOMIC_RELEASE);
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

static inline struct nat_entry *nat_entry_at(const struct nat_store *s, uint32_t number)
{
	return (struct nat_entry *)s->pool[NAT_MAPPINGS].base + number;
}

static inline struct nat_subscriber *nat_subscriber_at(const struct nat_store *s, uint32_t number)
{
	return (struct nat_subscriber *)s->pool[NAT_SUBSCRIBERS].base + number;
}

static inline struct nat_peer *nat_peer_at(const struct nat_store *s, uint32_t number)
{
	return (struct nat_peer *)s->pool[NAT_PEERS].base + number;
}

static inline struct nat_block *nat_block_at(const struct nat_store *s, uint32_t block)
{
	return &s->address[(block - 1) / NAT_UNITS]->block[(block - 1) % NAT_UNITS];
}

static inline uint32_t nat_entry_address(const struct nat_entry *e)
{
	return e->address & (NAT_ADDRESSES_MAX - 1);
}

static inline uint8_t nat_entry_proto(const struct nat_entry *e)
{
	return (uint8_t)(e->address >> 12);
}

static inline bool nat_policy_has(const struct nat_policy *p, uint32_t address)
{
	return p->address_set[address / 64] >> address % 64 & 1;
}

/* One thread counts, others read. */
static inline void nat_count(uint64_t *counter)
{
	__atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

static inline uint64_t nat_hash(const struct nat_store *s, uint64_t a, uint64_t b)
{
	__extension__ unsigned __int128 x = (unsigned __int128)(a ^ s->seed[0]) * (b ^ s->seed[1]);
	uint64_t h = (uint64_t)x ^ (uint64_t)(x >> 64);

	x = (unsigned __int128)(h ^ s->seed[1]) * 0x9e3779b97f4a7c15u;
	return (uint64_t)x ^ (uint64_t)(x >> 64);
}

/* store.c */
uint32_t nat_pool_take(struct nat_store *s, unsigned pool, unsigned worker); /* 0: none left */
void nat_pool_give(struct nat_store *s, unsigned pool, unsigned worker, uint32_t number);
uint32_t nat_store_random(struct nat_store *s, unsigned worker);
/* The number of an address that is known; -ENOENT. */
int nat_store_known(const struct nat_store *s, __be32 outside_be, uint32_t *number);

/* store_subscriber.c: with the shard locked, if not said otherwise. */
uint64_t nat_subscriber_hash(const struct nat_store *s, uint16_t zone, __be32 inside_be);
static inline struct nat_shard *nat_shard_of(struct nat_store *s, uint64_t hash)
{
	return &s->shard[hash % NAT_SHARDS];
}
/* The low bits of a hash choose the shard, so a chain is of one shard and its lock is enough. */
static inline uint32_t *nat_subscriber_head(const struct nat_store *s, uint64_t hash)
{
	return &s->head[NAT_SUBSCRIBERS][hash & (s->head_cnt[NAT_SUBSCRIBERS] - 1)];
}
/* The one there is, or a new one, which nat_subscriber_settle() takes away if it stays without anything; 0 = no room. */
uint32_t nat_subscriber_get(
	struct nat_store *s, const struct nat_turn *t, uint64_t hash, uint16_t zone, __be32 inside_be);
void nat_subscriber_settle(struct nat_store *s, const struct nat_turn *t, uint32_t number);
void nat_subscriber_move(struct nat_store *s, struct nat_subscriber *u, uint32_t address);
/* Not locked: locks the shard of what is in use; NULL = it is not. */
struct nat_shard *nat_shard_lock(const struct nat_store *s, const uint16_t *shard);

/* store_address.c: a port for a subscriber, with its shard locked.  Not given: nothing has changed. */
enum nat_outcome nat_address_take(struct nat_store *s, const struct nat_turn *t, uint32_t subscriber, uint8_t proto,
	__be16 inside_port_be, uint32_t *address, uint16_t *port);
void nat_address_give(
	struct nat_store *s, const struct nat_turn *t, uint32_t address, uint8_t proto, uint16_t port, bool unused);
/* An address for a subscriber without ports. */
enum nat_outcome nat_address_pick(struct nat_store *s, const struct nat_turn *t, struct nat_subscriber *u);
/* With the address locked: something of it may be free again. */
void nat_address_wet(struct nat_store *s, struct nat_address *a);
void nat_address_turn(struct nat_store *s, const struct nat_turn *t, struct nat_address *a, uint8_t proto);

/* store_block.c: with the shard locked.  A port of a block the subscriber has; false: of none, and *cnt are at an address and in the range of
 * the policy. */
bool nat_block_take(struct nat_store *s, const struct nat_turn *t, uint32_t subscriber, uint8_t proto,
	struct nat_ports_want *want, uint32_t *address, uint16_t *port, uint32_t *cnt);
/* ... and the address: a new block, and a port of it.  -EADDRINUSE: no block is free; -EAGAIN: none with a port of this protocol. */
int nat_block_open(struct nat_store *s, const struct nat_turn *t, uint32_t subscriber, struct nat_address *a,
	uint8_t proto, struct nat_ports_want *want, uint16_t *port);
/* A port of it has been given back. */
/* That its block was given, if nobody was told.  With the shard locked. */
void nat_block_tell(struct nat_store *s, const struct nat_turn *t, uint32_t address, uint16_t port);
void nat_block_given(struct nat_store *s, const struct nat_turn *t, uint32_t block, bool unused);
/* Not locked: blocks of a shard that have rested. */
/* No new session from inside of the mapping that has the port.  Threads: control. */
void nat_mapping_retire(struct nat_store *s, uint32_t address, uint8_t proto, uint16_t port);
void nat_block_rested(struct nat_store *s, const struct nat_turn *t, struct nat_shard *shard);

#endif
