/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * session.h - one conversation: two flow records, a state, a time to live, and what stages remember of it.
 *
 *     free ─create─► new ─reply─► established ─FIN/RST─► closing ─► ended ─(epoch)─► free
 *
 * Records (core/flow.h) carry counters and last_seen, because the kernel tier writes them too; a session reads them
 * from there.  Expiry is a dense array of due times, swept a little each loop: setting a shorter time-out is one store
 * by any thread.  An index that was freed is reused only after every worker was quiet (core/epoch.h).
 */
#ifndef MR_CORE_SESSION_H
#define MR_CORE_SESSION_H

#include "core/config.h"
#include "core/epoch.h"
#include "core/flow.h"

enum mr_session_state {
	MR_SESSION_FREE = 0,
	MR_SESSION_NEW,         /* only the forward direction seen (TCP: SYN or less than the handshake) */
	MR_SESSION_ESTABLISHED, /* both directions seen (TCP: handshake complete) */
	MR_SESSION_CLOSING,     /* TCP: FIN seen in one or both directions */
	MR_SESSION_CLOSED,      /* TCP: RST accepted or both FINs acknowledged */
};

enum mr_direction { MR_FORWARD = 0, MR_REPLY = 1 };

#define MR_SESSION_PRIVATE_BYTES 32 /* shared by the stages of its pipeline */

struct mr_session {
	mr_flow_ref ref[2];      /* by enum mr_direction */
	uint32_t packets_hi[2];  /* high halves of the records' packet counters */
	uint32_t packets_seen[2]; /* the low halves when last folded */
	uint8_t state;           /* enum mr_session_state; atomic */
	uint8_t family;          /* 4 or 6 */
	uint8_t proto;
	uint8_t tcp_seen[2];     /* TCP flags seen in each direction, or-ed; atomic */
	uint8_t one_way;         /* established by its forward direction alone */
	uint16_t ingress;        /* (interface, pipeline) pair that created it */
	uint32_t created_ms;
	uint8_t priv[MR_SESSION_PRIVATE_BYTES];
};

struct mr_sessions;

struct mr_sessions_options {
	uint32_t capacity;
	uint32_t half_open_max;
	uint32_t worker_cnt;
	struct mr_config_timeouts timeouts;
	struct mr_flows *flows; /* borrowed */
	struct mr_epoch *epoch; /* borrowed */
	bool want_huge;
};

struct mr_sessions_usage {
	uint64_t capacity, live, half_open;
	uint64_t created, expired, ended, evicted, refused_full, refused_half_open, lost_race;
	uint64_t bytes;
};

/* Either family's key with its hash. */
struct mr_flow_key {
	uint8_t family;
	uint64_t hash;
	union {
		struct mr_key4 k4;
		struct mr_key6 k6;
	};
};

/* What to store for the forward direction. */
struct mr_flow_decision {
	uint8_t ingress;
	uint16_t flags;
	uint16_t nexthop;
	uint16_t generation;
	uint16_t effects;
	union {
		struct mr_rewrite4 r4;
		struct mr_rewrite6 r6;
	};
};

int mr_sessions_create(const struct mr_sessions_options *opt, struct mr_sessions **out, struct mr_error *e);
void mr_sessions_destroy(struct mr_sessions *s);
/* New time-outs and quota from a reload; capacity cannot change (-EINVAL).  Threads: control. */
int mr_sessions_configure(struct mr_sessions *s, const struct mr_config_timeouts *t, uint32_t half_open_max);
void mr_sessions_usage(const struct mr_sessions *s, struct mr_sessions_usage *out);

/*
 * Creates a session: inserts the forward record with `d` and the reverse record undecided, or neither.  Both keys' zone, family
 * and protocol are set.  `tcp_flags` of the first packet.
 *   0          *idx, and the session is NEW (ESTABLISHED with one_way)
 *   -EEXIST    somebody was first: *idx is theirs; give back what was taken and look up again
 *   -ENOSPC    table full (no evictable half-open session found nearby either)
 *   -EDQUOT    half-open quota used up and none evictable
 * Threads: workers.  priv (MR_SESSION_PRIVATE_BYTES, may be NULL = zeros) is in place before the records can be found.
 */
int mr_session_create(struct mr_sessions *s, unsigned worker, const struct mr_flow_key *forward, const struct mr_flow_key *reverse,
                      const struct mr_flow_decision *d, uint8_t tcp_flags, bool one_way, const void *priv, uint32_t now_ms,
                      uint32_t *idx);

/* The session of an index that a record named.  Valid until the worker's next quiet moment; never NULL for an index in range, but
 * its state may be FREE.  Threads: workers (online), or control between mr_epoch_online/offline of its own slot. */
struct mr_session *mr_session_at(struct mr_sessions *s, uint32_t idx);

/*
 * Tells the session about a packet: moves its state (TCP by flags, others by direction) and, when the state changed, its due time.
 * Returns the new state; *changed tells.  Counters are in the records and not touched.  Threads: workers.
 */
enum mr_session_state mr_session_packet(struct mr_sessions *s, uint32_t idx, enum mr_direction dir, uint8_t tcp_flags, uint32_t now_ms,
                                        bool *changed);

/* Ends a session now: frees both records, then (after an epoch) the index.  Returns false when it was ended already.  Threads: any
 * online worker, or control. `worker` = whose retire list; control uses worker_cnt. */
bool mr_session_end(struct mr_sessions *s, unsigned worker, uint32_t idx, uint32_t now_ms);

/* Called for a session about to be freed by expiry, eviction or end; the records are already gone. */
typedef void (*mr_session_expire_fn)(void *ctx, uint32_t idx, struct mr_session *session);
void mr_sessions_on_expire(struct mr_sessions *s, mr_session_expire_fn fn, void *ctx);

/* Sweeps up to `budget` entries of this worker's share; returns how many were freed.  The whole share is swept at least once a second
 * when called once a millisecond with the budget mr_sessions_budget() returns.  Also folds packet counters.  Threads: that worker. */
unsigned mr_sessions_sweep(struct mr_sessions *s, unsigned worker, uint32_t now_ms, unsigned budget);
unsigned mr_sessions_budget(const struct mr_sessions *s);

/* Milliseconds until expiry if no packet comes; 0 when due. */
uint32_t mr_session_remaining_ms(const struct mr_sessions *s, uint32_t idx, uint32_t now_ms);

/* Walks live sessions for `show flows`: the first live index >= from, or 0 at the end (index 0 is never used). */
uint32_t mr_sessions_next(const struct mr_sessions *s, uint32_t from);

/* Totals of one direction, both tiers, from the record and the folded high half. */
void mr_session_totals(const struct mr_sessions *s, uint32_t idx, enum mr_direction dir, uint64_t *packets, uint64_t *bytes);

#endif
