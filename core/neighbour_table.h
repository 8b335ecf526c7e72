/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * neighbour_table.h - what the files of neighbour.h share: the slots, the index workers search, what the kernel is known to know.
 *
 *     neighbour.c         the index and the slots; workers            ┐
 *     neighbour_hear.c    the kernel says: neighbours, devices        │  all of it under one short lock, but for
 *     neighbour_ask.c     the kernel is asked; timers                 ├─ looking a slot up (the index, atomic entries) and
 *     neighbour_free.c    slots that nobody uses                      │  what the atomic arrays hold
 *     neighbour_tunnel.c  slots with an encapsulation                 │
 *     neighbour_show.c    for people                                  ┘
 *
 * A slot's key is written before its index entry is published and stays as it is until an epoch after the entry is gone, so who
 * found an entry may read the key.
 */
#ifndef MR_CORE_NEIGHBOUR_TABLE_H
#define MR_CORE_NEIGHBOUR_TABLE_H

#include "core/neighbour.h"
#include <linux/neighbour.h>
#include <pthread.h>
#include <sched.h>

#define MR_NEIGHBOUR_INDEX      (1u << 18) /* entries; four for each slot, so that runs stay short */
#define MR_NEIGHBOUR_CHAINS     (1u << 16)
#define MR_NEIGHBOUR_KNOWN      65536u /* of the kernel's neighbours that are kept */
#define MR_NEIGHBOUR_WORDS      (MR_MAX_NEXTHOPS / 64)
#define MR_NEIGHBOUR_GIVE_UP_MS 5000u /* resolving; the kernel's own answer comes after 3 s by default */
#define MR_NEIGHBOUR_REST_MS    1000u /* unreachable, before it may be asked for again */
#define MR_NEIGHBOUR_IN_USE_MS  2000u /* touched since: worth keeping fresh */
#define MR_NEIGHBOUR_AHEAD_MS   60000u
#define MR_NEIGHBOUR_NUD_VALID  (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY)

enum mr_neighbour_state {
	MR_NEIGHBOUR_FREE,
	MR_NEIGHBOUR_IDLE,      /* no MAC, nobody waits: its next hop says RESOLVING, so that the next packet does */
	MR_NEIGHBOUR_RESOLVING, /* asked for, or about to be */
	MR_NEIGHBOUR_ROUTED,
	MR_NEIGHBOUR_UNREACHABLE,
	MR_NEIGHBOUR_TUNNEL, /* as its underlying slot is */
};

struct mr_neighbour_key {
	uint32_t ifindex;
	uint16_t mtu;
	uint8_t family;
	uint8_t reserved;
	uint8_t addr[16];
};

_Static_assert(sizeof(struct mr_neighbour_key) == 24, "three words, no padding: compared as memory");

struct mr_neighbour_slot {
	struct mr_neighbour_key key;
	uint8_t state; /* enum mr_neighbour_state */
	bool linked;   /* in the index */
	uint8_t mac[6];
	uint32_t since_ms;        /* RESOLVING, UNREACHABLE: began */
	uint32_t asked_ms;        /* last request; valid when asked */
	uint32_t retired_used_ms; /* its last use when it was taken out of the index */
	uint16_t next, prev;      /* chain of slots whose neighbours hash alike; 0 = end */
	uint16_t tunnel_cnt;      /* tunnels that go by it */
	bool asked;               /* since it began, or went stale */
	uint32_t asked_cnt, failed_cnt;
};

/* A neighbour as the kernel has it. */
struct mr_neighbour_known {
	struct mr_neighbour_key key; /* mtu 0 */
	uint16_t state;              /* NUD_* */
	uint8_t flags;               /* NTF_* */
	bool managed;                /* kept fresh by the kernel itself */
	uint8_t mac[6];
	uint32_t round; /* of the dump it was last named in or after */
	uint32_t next;  /* chain, or of free ones; 0 = end */
};

struct mr_neighbour_port {
	struct mr_neighbour_device d;
	struct mr_neighbour_port *next;
};

struct mr_neighbour_tunnel {
	struct mr_tunnel param;
	uint16_t slot, under; /* under 0: no route */
};

#define MR_NEIGHBOUR_PORTS 256

struct mr_neighbours {
	struct mr_neighbours_options opt;
	uint64_t seed;
	pthread_spinlock_t lock;

	uint32_t index[MR_NEIGHBOUR_INDEX];     /* atomic; slot and 16 bits of the hash; 0 = empty */
	uint32_t *used_ms;                      /* [MR_MAX_NEXTHOPS], atomic; opt.used_ms or own_used_ms */
	uint8_t wanted[MR_MAX_NEXTHOPS];        /* atomic: packets wait */
	uint64_t want_bits[MR_NEIGHBOUR_WORDS]; /* atomic: ... which control has not looked at */
	bool signalled;                         /* atomic: the eventfd was written */
	int event_fd;                           /* -1 = no_kernel */

	uint32_t own_used_ms[MR_MAX_NEXTHOPS];

	/* under the lock */
	struct mr_neighbour_slot slot[MR_MAX_NEXTHOPS];
	uint16_t chain[MR_NEIGHBOUR_CHAINS];
	struct mr_neighbour_known known[MR_NEIGHBOUR_KNOWN + 1]; /* from 1 */
	uint32_t known_chain[MR_NEIGHBOUR_CHAINS];
	uint32_t known_free, known_top, known_cnt;
	struct mr_neighbour_port *port[MR_NEIGHBOUR_PORTS];
	uint32_t wire_ifindex[MR_MAX_INTERFACES + 1]; /* of the device under VLAN devices */
	uint16_t ring[MR_MAX_NEXTHOPS];               /* free slots, first in first out */
	uint32_t ring_head, free_cnt;
	uint64_t busy_bits[MR_NEIGHBOUR_WORDS];    /* RESOLVING or UNREACHABLE: time passes */
	uint64_t stale_bits[MR_NEIGHBOUR_WORDS];   /* ROUTED, and the kernel wants to see it confirmed */
	uint64_t retired_bits[MR_NEIGHBOUR_WORDS]; /* out of the index, still served */
	uint32_t resolving_cnt;
	struct mr_neighbours_usage count;

	/* control's alone */
	uint32_t now_ms;       /* of the last service */
	uint32_t freshened_ms; /* stale ones were looked at */
	uint32_t round;
	bool dumping;
	void *nl; /* struct mnl_socket; NULL = no_kernel */
	struct mr_neighbour_tunnel *tunnel;
	uint32_t tunnel_cnt, tunnel_room;
	uint64_t marked[MR_NEIGHBOUR_WORDS];
	uint32_t freeing_ms; /* last round */
	uint64_t freeing_stamp;
	bool freeing;                         /* waits for the epoch */
	uint64_t passing[MR_NEIGHBOUR_WORDS]; /* retired before the stamp */
};

/* The holder may be a worker that was put off its core, so who waits gives way after a while. */
static inline void mr_neighbours_lock(struct mr_neighbours *t)
{
	for (unsigned i = 0; pthread_spin_trylock(&t->lock); i++)
		if (i >= 100)
			sched_yield();
}

static inline void mr_neighbours_unlock(struct mr_neighbours *t)
{
	pthread_spin_unlock(&t->lock);
}

static inline void mr_neighbours_bit(uint64_t *bits, uint16_t slot, bool on)
{
	if (on)
		bits[slot / 64] |= 1ull << slot % 64;
	else
		bits[slot / 64] &= ~(1ull << slot % 64);
}

static inline bool mr_neighbours_bit_is(const uint64_t *bits, uint16_t slot)
{
	return bits[slot / 64] >> slot % 64 & 1;
}

/* The first slot from `from` on whose bit is set; 0 = none. */
static inline uint32_t mr_neighbours_bit_next(const uint64_t *bits, uint32_t from)
{
	for (uint32_t w = from / 64; w < MR_NEIGHBOUR_WORDS; w++) {
		uint64_t word = bits[w];
		if (w == from / 64)
			word &= ~0ull << from % 64;
		if (word)
			return w * 64 + (uint32_t)__builtin_ctzll(word);
	}
	return 0;
}

/* How long ago it was used.  A worker's clock may be a moment ahead of ours. */
static inline uint32_t mr_neighbours_idle_ms(uint32_t now_ms, uint32_t used_ms)
{
	uint32_t idle_ms = now_ms - used_ms;
	return idle_ms > UINT32_MAX - MR_NEIGHBOUR_AHEAD_MS ? 0 : idle_ms;
}

/* neighbour.c; all of them under the lock */
struct mr_neighbour_key mr_neighbours_key(uint32_t ifindex, unsigned family, const void *addr_be, uint16_t mtu);
uint32_t mr_neighbours_chain(const struct mr_neighbours *t, const struct mr_neighbour_key *k);
struct mr_neighbour_port *mr_neighbours_port(const struct mr_neighbours *t, uint32_t ifindex);
struct mr_neighbour_known *mr_neighbours_known(struct mr_neighbours *t, const struct mr_neighbour_key *k);
uint16_t mr_neighbours_take(struct mr_neighbours *t); /* a free slot, 0 = none */
void mr_neighbours_give(struct mr_neighbours *t, uint16_t slot);
void mr_neighbours_unlink(struct mr_neighbours *t, uint16_t slot);
/* Gives the slot a state and writes its next hop.  mac: of ROUTED.  True: packets waited for what has now changed. */
bool mr_neighbours_turn(struct mr_neighbours *t, uint16_t slot, enum mr_neighbour_state state, const uint8_t *mac);
void mr_neighbours_write(struct mr_neighbours *t, uint16_t slot); /* ... when only the device changed */

/* neighbour_tunnel.c; under the lock, control */
bool mr_neighbours_tunnels_follow(struct mr_neighbours *t, uint16_t under); /* true: packets waited */
uint32_t mr_neighbours_used(const struct mr_neighbours *t, uint16_t slot);  /* newest use, by tunnels too */
uint16_t mr_neighbours_under(const struct mr_neighbours *t, uint16_t slot); /* of a tunnel, 0 = none; else itself */

/* neighbour_free.c; control, not under the lock */
void mr_neighbours_free_round(struct mr_neighbours *t, uint32_t now_ms);

/* neighbour_ask.c; control */
int mr_neighbours_ask_open(struct mr_neighbours *t, struct mr_error *e);
void mr_neighbours_ask_close(struct mr_neighbours *t);

#endif
