/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stats.h - counters: one writer a cell, names for life.
 *
 * Every worker has its own cells; a reader adds them up (relaxed).  A name keeps its number as long as the process lives, so a
 * reload never makes a total go back.  Two kinds:
 *
 *     ingress pairs   (interface, pipeline): received = forwarded + kernel + sum of dropped + held
 *                     pair 0: packets of our own (ICMP errors): received = made
 *     counters        packets and bytes, made by stages ("stages.guard.rules.blocklist")
 */
#ifndef MR_CORE_STATS_H
#define MR_CORE_STATS_H

#include "core/icmp.h"
#include "core/reason.h"
#include <stdint.h>

#define MR_STATS_INGRESS  256 /* pairs; 0 is our own packets */
#define MR_STATS_OWN      0
#define MR_STATS_COUNTERS 65536

struct mr_count {
	uint64_t packets;
	uint64_t bytes;
};

struct mr_stats_ingress {
	struct mr_count received;
	struct mr_count forwarded; /* accepted by an egress ring */
	struct mr_count kernel;    /* handed back */
	uint64_t hits;             /* of received: decided by a stored record */
	uint64_t dropped[MR_REASON_CNT];
};

/* ICMP errors of our own. */
struct mr_stats_icmp {
	uint64_t sent[MR_ICMP_KIND_CNT]; /* made and given to an egress */
	uint64_t not_due;                /* to such a packet no error is sent (an error, multicast, ...) */
	uint64_t limited;                /* over the rate */
	uint64_t no_source; /* the box has no address to send it from, or no frame or interface to send it by */
};

/* One worker's cells. */
struct mr_stats_worker {
	struct mr_stats_ingress *ingress; /* [MR_STATS_INGRESS] */
	struct mr_count *counter;         /* [MR_STATS_COUNTERS], pages touched as used */
	uint64_t loops, busy_loops, sleeps;
	uint64_t handoff_out, handoff_in;
	uint64_t fragments; /* gauge: fragments kept until their first one comes; no pair has received them yet */
	uint64_t fragments_forgotten; /* datagrams in pieces that made room for others */
	uint64_t held; /* gauge: packets this worker holds (hand-off rings it feeds, waiting for a neighbour) */
	struct mr_stats_icmp icmp;
} __attribute__((aligned(64))); /* workers do not share a line */

struct mr_stats;

struct mr_stats *mr_stats_create(unsigned worker_cnt); /* NULL = no memory */
void mr_stats_destroy(struct mr_stats *s);
struct mr_stats_worker *mr_stats_worker(struct mr_stats *s, unsigned worker);
/* The cells of the kernel tier, which control fills (core/tier.h): in every sum, and no worker's. */
struct mr_stats_worker *mr_stats_tier(struct mr_stats *s);
unsigned mr_stats_worker_cnt(const struct mr_stats *s);

/* Numbers by name; the same name, the same number.  0 = full.  Threads: control. */
uint8_t mr_stats_ingress_id(struct mr_stats *s, const char *interface, const char *pipeline); /* pipeline "" = none */
uint16_t mr_stats_counter_id(struct mr_stats *s, const char *name);
unsigned mr_stats_reason_id(struct mr_stats *s, const char *name, const char *help); /* stages' own */
const char *mr_stats_ingress_interface(const struct mr_stats *s, uint8_t id);        /* NULL = unused */
const char *mr_stats_ingress_pipeline(const struct mr_stats *s, uint8_t id);
const char *mr_stats_counter_name(const struct mr_stats *s, uint16_t id);
const char *mr_stats_reason_name(const struct mr_stats *s, unsigned reason); /* core's and stages' */
const char *mr_stats_reason_help(const struct mr_stats *s, unsigned reason);

/* Sums over workers and the kernel tier.  Threads: any. */
void mr_stats_ingress_sum(const struct mr_stats *s, uint8_t id, struct mr_stats_ingress *out);
void mr_stats_icmp_sum(const struct mr_stats *s, struct mr_stats_icmp *out);
struct mr_count mr_stats_counter_sum(const struct mr_stats *s, uint16_t id);

#endif
