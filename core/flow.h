/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * flow.h - the user side of the flow table: bulk lookup, insert, free.
 *
 * kern/flow.h is the layout and the read protocol; this is who writes.  Any worker may insert, change or free
 * any record: a writer holds the locks of the (at most two) buckets concerned, lowest address first, for a few
 * stores.  Lookups take no lock.
 *
 *     free ──insert──► live ──free──► quarantined (MR_FLOW_QUARANTINE_MS) ──► free
 */
#ifndef MR_CORE_FLOW_H
#define MR_CORE_FLOW_H

#include "core/error.h"
#include "kern/flow.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MR_FLOW_QUARANTINE_MS 20

struct mr_flows;

/* Names a record: bit 31 = IPv6; below it bucket * MR_FLOW_WAYS + way, or (bit 30) an overflow slot.  MR_FLOW_NONE = none. */
typedef uint32_t mr_flow_ref;
#define MR_FLOW_NONE UINT32_MAX

/* It lies where only user space looks. */
static inline bool mr_flows_overflows(mr_flow_ref ref)
{
	return ref >> 30 & 1;
}

struct mr_flows_options {
	uint32_t capacity4; /* records to hold; buckets are sized so that this many fit at <= 80 % */
	uint32_t capacity6;
	uint64_t seed; /* of the hash; random unless a test wants otherwise */
	bool want_huge;
	void *memory4; /* given memory (a mapped BPF array), zeros, 64-byte aligned; NULL = allocate; sizes by mr_flows_bytes4/6 */
	void *memory6;
};

struct mr_flows_usage {
	uint64_t live4, live6, overflow4, overflow6;
	uint64_t slots4, slots6;
	uint64_t offloaded; /* records marked MR_FLOW_OFFLOAD */
	uint64_t bytes;     /* of memory */
	bool huge;
};

/* -ENOMEM, -EINVAL.  Threads: control. */
int mr_flows_create(const struct mr_flows_options *opt, struct mr_flows **out, struct mr_error *e);
void mr_flows_destroy(struct mr_flows *t); /* NULL allowed */
size_t mr_flows_bytes4(uint32_t capacity4);
size_t mr_flows_bytes6(uint32_t capacity6);
uint64_t mr_flows_seed(const struct mr_flows *t);
/* What the kernel tier needs to find a bucket (kern/flow.h). */
uint32_t mr_flows_buckets4(const struct mr_flows *t);
uint32_t mr_flows_buckets6(const struct mr_flows *t);
void mr_flows_usage(const struct mr_flows *t, struct mr_flows_usage *out);

/*
 * Looks up n (<= 64) keys whose hashes are known (mr_flow_hash4(key, seed), kern/flow.h).  rec[i] points at the live record or
 * is NULL; copy[i], where copy is not NULL, holds a consistent copy of the record taken under its sequence number.
 * Returns a bit mask of hits.  Buckets and records are prefetched.  A record that is being written at that moment is waited for, but
 * not long: a writer that lost its CPU in between makes it a miss, and the insert that follows such a miss says -EEXIST.
 * rec[i] may be freed at any time; its memory stays and is not another flow's for MR_FLOW_QUARANTINE_MS.  Threads: any, no lock.
 */
uint64_t mr_flows_lookup4(const struct mr_flows *t, const struct mr_key4 *key, const uint64_t *hash, unsigned n,
	struct mr_flow4 **rec, struct mr_flow4 *copy);
uint64_t mr_flows_lookup6(const struct mr_flows *t, const struct mr_key6 *key, const uint64_t *hash, unsigned n,
	struct mr_flow6 **rec, struct mr_flow6 *copy);

/*
 * Inserts a record for key with the given state and rewrite (st->seq is ignored).  `hash` is the key's under mr_flows_seed(): freeing
 * computes it again.  0 and *ref; -EEXIST and *ref of the one that
 * is there; -ENOSPC when both buckets and the overflow are full.  Threads: any.
 */
int mr_flows_insert4(struct mr_flows *t, const struct mr_key4 *key, uint64_t hash, const struct mr_rewrite4 *rw,
	const struct mr_flow_state *st, uint32_t now_ms, mr_flow_ref *ref);
int mr_flows_insert6(struct mr_flows *t, const struct mr_key6 *key, uint64_t hash, const struct mr_rewrite6 *rw,
	const struct mr_flow_state *st, uint32_t now_ms, mr_flow_ref *ref);

/* Some packets before an insert: where it looks first is fetched.  Threads: any. */
void mr_flows_prefetch(const struct mr_flows *t, bool v6, uint64_t hash);

/* One of two records to insert: a key of the table's family and what to store. */
struct mr_flow_insert {
	const void *key; /* struct mr_key4 or mr_key6 */
	uint64_t hash;
	const void *rewrite; /* struct mr_rewrite4 or mr_rewrite6 */
	const struct mr_flow_state *st;
};

/*
 * Inserts two records with different keys, or neither.  ref[] is stored before either can be found.  0; -EEXIST, ref[0] the record that
 * is there (of either key) and *holder its session; -ENOSPC.  Threads: any.
 */
int mr_flows_insert_pair(struct mr_flows *t, bool v6, const struct mr_flow_insert in[2], uint32_t now_ms,
	mr_flow_ref ref[2], uint32_t *holder);

/* Replaces ingress, rewrite, flags, nexthop, generation and effects of a live record that still belongs to `session`; counters,
 * session, last_seen and MR_FLOW_CLOSING stay.  -ESTALE when it does not.  Threads: any. */
int mr_flows_decide4(struct mr_flows *t, mr_flow_ref ref, uint32_t session, uint8_t ingress,
	const struct mr_rewrite4 *rw, uint16_t flags, uint16_t nexthop, uint16_t generation, uint16_t effects);
int mr_flows_decide6(struct mr_flows *t, mr_flow_ref ref, uint32_t session, uint8_t ingress,
	const struct mr_rewrite6 *rw, uint16_t flags, uint16_t nexthop, uint16_t generation, uint16_t effects);
/* Clears MR_FLOW_DECIDED and MR_FLOW_OFFLOAD: the next packet is decided again.  Threads: any. */
void mr_flows_undecide(struct mr_flows *t, mr_flow_ref ref, uint32_t session);

/* Sets and clears flags of a record that still belongs to `session`.  Threads: any. */
void mr_flows_mark(struct mr_flows *t, mr_flow_ref ref, uint32_t session, uint16_t set, uint16_t clear);

/* Records of another generation than this are of none (0) from now on, so that its number may come round.  Walks the table.  Threads: any. */
void mr_flows_outdate(struct mr_flows *t, uint16_t keep);

/* Frees a record that still belongs to `session` (0 = any).  -ESTALE when it does not.  The slot is quarantined.  Threads: any. */
int mr_flows_free(struct mr_flows *t, mr_flow_ref ref, uint32_t session, uint32_t now_ms);

/* The state of a live record, for counters and last_seen (fields are read and added to with atomics); NULL when free.
 * Threads: any.  mr_flows_record4/6 give the record's memory even when it is free (its counters stay readable while quarantined), NULL
 * for a reference that names none. */
struct mr_flow_state *mr_flows_state(const struct mr_flows *t, mr_flow_ref ref);
const struct mr_flow4 *mr_flows_record4(const struct mr_flows *t, mr_flow_ref ref);
const struct mr_flow6 *mr_flows_record6(const struct mr_flows *t, mr_flow_ref ref);
/* Calls fn for every live record, as they lie in memory (1 M sessions in some 50 ms; by their sessions it takes ten times as long).
 * Records that come or go meanwhile may be missed.  Threads: any. */
typedef void (*mr_flows_fn)(void *ctx, mr_flow_ref ref, const struct mr_flow_state *st);
void mr_flows_each(const struct mr_flows *t, mr_flows_fn fn, void *ctx);
/* The same in slices of bucket_cnt buckets (8 records each), from *at on, which begins at 0 and is moved.  False: that was the last. */
bool mr_flows_each_some(const struct mr_flows *t, uint64_t *at, uint32_t bucket_cnt, mr_flows_fn fn, void *ctx);
mr_flow_ref mr_flows_ref4(const struct mr_flows *t, const struct mr_flow4 *rec);
mr_flow_ref mr_flows_ref6(const struct mr_flows *t, const struct mr_flow6 *rec);

#endif
