/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fragment.h - what the first fragment of a datagram said, so that the others can follow it.
 *
 * Nothing is put together again: only *knowledge* is kept.  The first fragment has the transport header; it is decided like any packet
 * and teaches ports (or ICMP type and identifier).  Later ones get them filled in and then find the same record and the same rules.
 *
 *     first ────────────────────────────► decided by its key        teaches ┐
 *     later, first one seen ────────────► filled in, decided        ◄───────┤
 *     later, too early ─► held (HELD) ──► filled in, in order       ◄───────┘   or dropped after MR_FRAGMENT_HOLD_NS (fragment-timeout)
 *     a byte that came before ──────────► it and all that follow of this datagram: dropped (fragment-overlap)
 *
 * One table a worker, used by that worker alone: all fragments of a datagram are handled by one worker, chosen by the hash of
 * (zone, source, destination, identification, and protocol where it is IPv4); those received elsewhere cross by the hand-off ring
 * (core/fragment_turn.c).
 *
 * Bounds, and what a flood can do.  Nothing is allocated after mr_fragment_create(), and the hash is seeded.
 * - A datagram whose pieces have all been seen is forgotten at once: what is complete cannot be pushed out.
 * - Those whose first fragment was seen and those that wait for it have places of their own.  A flood of later fragments competes with
 *   early fragments only, and a flood of first fragments with datagrams under way only.  The oldest is forgotten: of fragments sent back
 *   to back the last follows the first by microseconds, and even ten million first fragments a second leave each datagram 0.3 ms.
 * - Frames held: MR_FRAGMENT_HELD of one worker and at most an eighth of its share of the pool, so that reception goes on.
 *   Beyond that the oldest datagram that waits loses its frames (fragment-limit).
 * - MR_FRAGMENT_HOLD_NS: fragments of one datagram leave together and differ by what queues and parallel paths add, far less than a
 *   round trip; half a second is more than that, and short enough that a lost first fragment does not keep frames for long.
 *
 * Overlaps (RFC 1858, 3128, 5722, 8200 section 4.5; IPv4 is treated alike, no sender overlaps in earnest): a fragment that repeats a byte
 * condemns the datagram, until it is forgotten or its number is used anew.  The exact repetition of a fragment is a duplicate made on the way and is
 * dropped alone.  A TCP fragment that begins within the first 20 bytes would overlap the header that a first fragment must hold whole.
 */
#ifndef MR_CORE_FRAGMENT_H
#define MR_CORE_FRAGMENT_H

#include "core/reason.h"
#include "kern/parse.h"
#include "millrace/interface.h"

#define MR_FRAGMENT_SETTLED  3072 /* datagrams of one worker whose first fragment was seen */
#define MR_FRAGMENT_WAITING  1024 /* ... and that wait for it */
#define MR_FRAGMENT_HELD     512  /* frames held by one worker */
#define MR_FRAGMENT_HELD_PER 64   /* ... of one datagram: 64 KB that arrive backwards in pieces of 1480 bytes are 45 */
#define MR_FRAGMENT_PIECES   128  /* of one datagram: 64 KB in pieces of 512 bytes */
#define MR_FRAGMENT_KNOW_NS  30000000000ull /* knowledge is kept, RFC 8200 section 4.5 gives reassembly 60 s, Linux 30 */
#define MR_FRAGMENT_HOLD_NS  500000000ull
#define MR_FRAGMENT_REUSE_NS \
	1000000000ull /* a first fragment again after so long is another datagram of the same number (RFC 4963) */

struct mr_fragments;

struct mr_fragment_key {
	struct mr_key6 id; /* ports: the identification */
	uint64_t hash;
};

/* What a first fragment tells about the later ones. */
struct mr_fragment_known {
	uint16_t flags; /* MR_PKT_*: those of the transport header */
	uint16_t sport_be, dport_be, icmp_id_be;
	uint8_t proto, tcp_flags, icmp_type, icmp_code;
	uint8_t error; /* enum mr_parse_error: malformed, and so are the rest */
};

enum mr_fragment_fate {
	MR_FRAGMENT_GO,      /* decide it: a first one as it is, a later one filled in */
	MR_FRAGMENT_KEPT,    /* taken: mr_fragment_next() gives it back */
	MR_FRAGMENT_REFUSED, /* drop it */
};

/* A frame that was held and is held no longer. */
struct mr_fragment_out {
	struct mr_frame frame;
	uint8_t interface_id;
	uint8_t fallback; /* as given to mr_fragment_see() */
	uint8_t reason;   /* MR_REASON_NONE: fill `known` in and decide it; else drop it */
	struct mr_fragment_known known;
};

struct mr_fragment_usage {
	uint32_t settled_cnt, waiting_cnt; /* datagrams */
	uint32_t held_cnt;                 /* frames */
	uint64_t forgotten;                /* datagrams that had to make room, since creation */
};

/* A table that holds up to held_max frames (bounded by MR_FRAGMENT_HELD; at least 1).  NULL = no memory.  Threads: any. */
struct mr_fragments *mr_fragment_create(uint32_t held_max);
void mr_fragment_destroy(struct mr_fragments *t); /* NULL allowed; holds no frame */

/* True when a fragment is whole enough to be followed: its IP header and lengths are right. */
bool mr_fragment_follows(const struct mr_parsed *p);
/* p: a fragment with mr_fragment_follows(). */
void mr_fragment_key(
	const struct mr_parsed *p, const void *data, uint16_t zone, uint64_t seed, struct mr_fragment_key *out);
static inline unsigned mr_fragment_owner(const struct mr_fragment_key *k, unsigned worker_cnt)
{
	return (unsigned)((k->hash >> 32) * worker_cnt >> 32);
}

/*
 * Says what is to become of a fragment, and fills *p in.  *reason is set with REFUSED.  KEPT: the frame belongs to the table until
 * mr_fragment_next() returns it, with interface_id and fallback (which the table only keeps).  Now and then others become ready by it.
 */
enum mr_fragment_fate mr_fragment_see(struct mr_fragments *t, const struct mr_fragment_key *k, struct mr_parsed *p,
	const uint8_t *data, const struct mr_frame *f, uint8_t interface_id, uint8_t fallback, uint64_t now_ns,
	unsigned *reason);
/* Forgets what is too old. */
void mr_fragment_expire(struct mr_fragments *t, uint64_t now_ns);
/* Gives up all frames held, under `reason`, and forgets everything. */
void mr_fragment_forget_all(struct mr_fragments *t, unsigned reason);
/* The next frame held no longer: of one datagram in the order they came.  Ask until false after each of the three above (several calls
 * of see may come before). */
bool mr_fragment_next(struct mr_fragments *t, struct mr_fragment_out *out);
/* Fills a later fragment in. */
void mr_fragment_fill(const struct mr_fragment_known *known, struct mr_parsed *p);

void mr_fragment_usage(const struct mr_fragments *t, struct mr_fragment_usage *out);
static inline bool mr_fragment_any_held(const struct mr_fragments *t)
{
	return *(const uint32_t *)t != 0; /* held_cnt is the first member */
}

#endif
