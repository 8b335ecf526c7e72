/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stats.h - counters: one writer a cell, names for life.
 *
 * Every worker has its own cells; a reader adds them up (relaxed).  A name keeps its number as long as the process lives, so a
 * reload never makes a total go back.  Two kinds:
 *
 *     ingress pairs   (interface, pipeline): received = forwarded + kernel + sum of dropped + held
 *     counters        packets and bytes, made by stages ("stages.guard.rules.blocklist")
 */
#ifndef MR_CORE_STATS_H
#define MR_CORE_STATS_H

#include "core/reason.h"
#include <stdint.h>

#define MR_STATS_INGRESS  256 /* pairs; 0 is never used */
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

/* One worker's cells. */
struct mr_stats_worker {
	struct mr_stats_ingress *ingress; /* [MR_STATS_INGRESS] */
	struct mr_count *counter;         /* [MR_STATS_COUNTERS], pages touched as used */
	uint64_t loops, busy_loops, sleeps;
	uint64_t handoff_out, handoff_in;
	uint64_t held;          /* gauge: packets this worker holds (hand-off rings it feeds) */
} __attribute__((aligned(64))); /* workers do not share a line */

struct mr_stats;

struct mr_stats *mr_stats_create(unsigned worker_cnt); /* NULL = no memory */
void mr_stats_destroy(struct mr_stats *s);
struct mr_stats_worker *mr_stats_worker(struct mr_stats *s, unsigned worker);
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

/* Sums over workers.  Threads: any. */
void mr_stats_ingress_sum(const struct mr_stats *s, uint8_t id, struct mr_stats_ingress *out);
struct mr_count mr_stats_counter_sum(const struct mr_stats *s, uint16_t id);

#endif
