/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ports.h - which ports of an outside address are taken: bitmaps, exact, for each protocol.
 *
 *     free ─take─► taken ─give─► resting (quarantine, RFC 6888 REQ-8) ─► free
 *                    └──give unused──────────────────────────────────────► free
 *
 * Two levels of summary over 65536 bits, for even and odd ports apart, find a free port in four words wherever the search begins, also when
 * one is left.  A port rests in one of four bitmaps that take turns, each for a third of the quarantine: it rests at least that long, and
 * at most a third longer, if somebody calls.  Reserved ports are of static use: whether they are taken is another matter.
 * Zeros are the beginning, so that memory nobody uses is not there.
 *
 * Threads: the caller locks (store.h: one lock an address).
 */
#ifndef MR_PIPELINES_NAT44_PORTS_H
#define MR_PIPELINES_NAT44_PORTS_H

#include <stdbool.h>
#include <stdint.h>

#define NAT_PORTS_WORDS 1024 /* of 64 */
#define NAT_PORTS_TURNS 4    /* resting bitmaps: the one that fills, and three parts of the quarantine */
#define NAT_PORTS_UNIT  16   /* ports of the smallest block */

struct nat_ports {
	uint64_t full[2][NAT_PORTS_WORDS / 64]; /* of even, of odd ports; bit: that word has no free one */
	uint32_t filled[2];                     /* bit: that word of full is all ones */
	uint32_t turn;                          /* the resting bitmap that fills */
	uint32_t turned_ms;                     /* since when */
	uint32_t taken_cnt, reserved_cnt;
	uint32_t resting_cnt[NAT_PORTS_TURNS];
	uint64_t busy[NAT_PORTS_WORDS]; /* taken or resting */
	uint64_t reserved[NAT_PORTS_WORDS];
	uint64_t resting[NAT_PORTS_TURNS][NAT_PORTS_WORDS];
};

/* How a port is chosen. */
enum nat_choice {
	NAT_CHOICE_RANDOM,   /* RFC 6056 */
	NAT_CHOICE_PARITY,   /* even for even, odd for odd (RFC 4787 REQ-4); another when there is none such */
	NAT_CHOICE_PRESERVE, /* the same when it is free (RFC 4787 section 4.2.1), else as with PARITY */
};

/* What is wanted: a free port of lo..hi (host order, inclusive). */
struct nat_ports_want {
	uint16_t lo, hi;
	uint16_t inside;        /* the inside port, for parity and preservation */
	uint8_t choice;         /* enum nat_choice */
	uint32_t random;        /* where the search begins */
	const uint64_t *closed; /* bit: none of those NAT_PORTS_UNIT ports; NULL = all may be given */
};

/* Takes one: 0 and *port, or -EADDRINUSE.  What has rested for quarantine_ms is free again.  Two clocks may differ by a minute. */
int nat_ports_take(struct nat_ports *p, const struct nat_ports_want *want, uint32_t now_ms, uint32_t quarantine_ms,
	uint16_t *port);
/* Given back: it rests, or (unused) is free at once. */
void nat_ports_give(struct nat_ports *p, uint16_t port, bool unused, uint32_t now_ms, uint32_t quarantine_ms);
/* Frees what has rested, and says how many. */
uint32_t nat_ports_turn(struct nat_ports *p, uint32_t now_ms, uint32_t quarantine_ms);
/* When the next turn may free something; false = nothing rests. */
bool nat_ports_next_turn(const struct nat_ports *p, uint32_t quarantine_ms, uint32_t *at_ms);
uint32_t nat_ports_resting(const struct nat_ports *p);
/* None of lo..hi is taken or rests. */
bool nat_ports_idle(const struct nat_ports *p, uint16_t lo, uint16_t hi);
/* Not to be given from now on; those taken stay so, and are not given again. */
void nat_ports_reserve(struct nat_ports *p, uint16_t lo, uint16_t hi);
/* All but these (of NAT_PORTS_WORDS words); NULL = all. */
void nat_ports_unreserve(struct nat_ports *p, const uint64_t *but);

#endif
