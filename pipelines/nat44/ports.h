/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ports.h - which ports of an outside address are taken: bitmaps, exact, for each protocol.
 *
 *     free ─take─► taken ─give─► resting (quarantine, RFC 6888 REQ-8) ─► free
 *                    └──give unused──────────────────────────────────────► free
 *
 * Two levels of summary over 65536 bits find a free port in a few words wherever the search begins, also when one is left.  A port rests in
 * one of a few bitmaps that take turns, each for a part of the quarantine: it rests at least that long, and at most a part longer.
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

struct nat_ports {
	uint64_t busy[NAT_PORTS_WORDS];      /* taken or resting */
	uint64_t full[NAT_PORTS_WORDS / 64]; /* bit: that word of busy has no 0 */
	uint64_t resting[NAT_PORTS_TURNS][NAT_PORTS_WORDS];
	uint32_t resting_cnt[NAT_PORTS_TURNS];
	uint32_t turn;      /* the one that fills */
	uint32_t turned_ms; /* since when */
	uint32_t taken_cnt;
};

/* How a port is chosen. */
enum nat_choice {
	NAT_CHOICE_RANDOM,   /* RFC 6056 */
	NAT_CHOICE_PARITY,   /* even for even, odd for odd (RFC 4787 REQ-4); another when there is none such */
	NAT_CHOICE_PRESERVE, /* the same when it is free (RFC 4787 section 4.2.1), else as with PARITY */
};

/*
 * Takes a free port of lo..hi (host order, inclusive): `want` is the inside one, for parity and preservation; `random` where the search begins.
 * 0 and *port, or -EADDRINUSE.  What has rested for quarantine_ms is free again.
 */
int nat_ports_take(struct nat_ports *p, uint16_t lo, uint16_t hi, enum nat_choice choice, uint16_t want,
	uint32_t random, uint32_t now_ms, uint32_t quarantine_ms, uint16_t *port);
/* This one: -EADDRINUSE when it is taken (resting ones are given, when `resting_too`). */
int nat_ports_take_one(struct nat_ports *p, uint16_t port, bool resting_too, uint32_t now_ms, uint32_t quarantine_ms);
/* Given back: it rests, or (unused) is free at once. */
void nat_ports_give(struct nat_ports *p, uint16_t port, bool unused, uint32_t now_ms, uint32_t quarantine_ms);
/* Frees what has rested. */
void nat_ports_turn(struct nat_ports *p, uint32_t now_ms, uint32_t quarantine_ms);
uint32_t nat_ports_resting(const struct nat_ports *p);

#endif
