/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ring.h - one side of a single-producer single-consumer ring, as AF_XDP shares it with the kernel.
 *
 *      consumer ─►[ . . x x x x x . . ]◄─ producer        x: produced, not yet consumed
 *
 * Both indexes run freely over 32 bits and are masked on access; producer - consumer is what lies in the ring.  Nothing here needs a kernel:
 * the indexes and entries are plain memory, so tests play the other side.
 *
 * The producing side:  n = mr_ring_free(r, want); write entries at mr_ring_addr or _desc(r, i); mr_ring_produce(r, n).
 * The consuming side:  n = mr_ring_ready(r, want); read  entries at mr_ring_addr or _desc(r, i); mr_ring_consume(r, n).
 * Nothing is in force before produce or consume is called: not calling it is the roll-back.
 */
#ifndef MR_CORE_RING_H
#define MR_CORE_RING_H

#include <linux/if_xdp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mr_ring {
	uint32_t *producer; /* shared */
	uint32_t *consumer; /* shared */
	uint32_t *flags;    /* shared; kernel writes; may be NULL */
	void *entries;      /* uint64_t of fill and completion, struct xdp_desc of rx and tx */
	uint32_t size;      /* power of two */
	uint32_t mask;
	uint32_t own;   /* our index, as last published */
	uint32_t other; /* the other side's index, as last read */
};

/* Makes a ring over memory of the caller; the indexes are taken as they stand.  `producing`: which side we are. */
static inline void mr_ring_init(struct mr_ring *r, uint32_t *producer, uint32_t *consumer, uint32_t *flags,
	void *entries, uint32_t size, bool producing)
{
	r->producer = producer;
	r->consumer = consumer;
	r->flags = flags;
	r->entries = entries;
	r->size = size;
	r->mask = size - 1;
	r->own = producing ? *producer : *consumer;
	r->other = producing ? *consumer : *producer;
}

/* Producing side: how many of `want` entries may be written.  Looks at the other side only when its last known place is not enough. */
static inline uint32_t mr_ring_free(struct mr_ring *r, uint32_t want)
{
	uint32_t room = r->size - (r->own - r->other);

	if (room < want) {
		r->other = __atomic_load_n(r->consumer, __ATOMIC_ACQUIRE);
		room = r->size - (r->own - r->other);
	}
	return room < want ? room : want;
}

static inline void mr_ring_produce(struct mr_ring *r, uint32_t n)
{
	r->own += n;
	__atomic_store_n(r->producer, r->own, __ATOMIC_RELEASE);
}

/* Consuming side: how many of `want` entries may be read. */
static inline uint32_t mr_ring_ready(struct mr_ring *r, uint32_t want)
{
	uint32_t cnt = r->other - r->own;

	if (cnt < want) {
		r->other = __atomic_load_n(r->producer, __ATOMIC_ACQUIRE);
		cnt = r->other - r->own;
	}
	return cnt < want ? cnt : want;
}

static inline void mr_ring_consume(struct mr_ring *r, uint32_t n)
{
	r->own += n;
	__atomic_store_n(r->consumer, r->own, __ATOMIC_RELEASE);
}

/* Producing side: entries the other side has not taken yet. */
static inline uint32_t mr_ring_pending(struct mr_ring *r)
{
	r->other = __atomic_load_n(r->consumer, __ATOMIC_ACQUIRE);
	return r->own - r->other;
}

/* The kernel sleeps on this ring and wants a system call. */
static inline bool mr_ring_needs_wakeup(const struct mr_ring *r)
{
	return r->flags && (__atomic_load_n(r->flags, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP);
}

/* Entry i (0 = the next) of a ring of addresses, and of a ring of descriptors. */
static inline uint64_t *mr_ring_addr(const struct mr_ring *r, uint32_t i)
{
	return (uint64_t *)r->entries + ((r->own + i) & r->mask);
}

static inline struct xdp_desc *mr_ring_desc(const struct mr_ring *r, uint32_t i)
{
	return (struct xdp_desc *)r->entries + ((r->own + i) & r->mask);
}

#endif
