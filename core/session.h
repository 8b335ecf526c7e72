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
#include "millrace/stage.h"

enum mr_session_state {
	MR_SESSION_FREE = 0,
	MR_SESSION_NEW, /* only the forward direction seen (TCP: SYN or less than the handshake): half open, may be evicted */
	MR_SESSION_ESTABLISHED, /* both directions seen (TCP: handshake complete) */
	MR_SESSION_CLOSING,     /* TCP: FIN seen in one or both directions */
	MR_SESSION_CLOSED,      /* TCP: RST accepted or both FINs acknowledged */
};

enum mr_direction { MR_FORWARD = 0, MR_REPLY = 1 };

/*
 * TCP, judged by flags alone (sequence numbers are the end hosts' business; RFC 9293 figure 5, RFC 7857 section 2):
 *  - A SYN opens, and so does a segment with ACK and without SYN ("pick-up": the conversation is older than this program).  RST, SYN
 *    with ACK or FIN, and segments with neither SYN nor ACK open nothing (mr_session_opens).
 *  - SYN, SYN/ACK, ACK establishes; so does the simultaneous open.  A picked-up session is NEW until the other direction answers
 *    with an ACK.
 *  - A FIN makes it CLOSING, both FINs and an ACK after them CLOSED.
 *  - A RST makes it CLOSED, whoever sent it.  A RST may be forged: when after it both ends go on sending ACKs, the session is
 *    what it was (RFC 7857 section 2.2).  One reset before it was established stays half open: a RST frees no place in the quota.
 *  - A SYN of the forward direction starts a CLOSING or CLOSED session over.  One of the reply direction changes nothing: what it wants
 *    to open was never decided.
 *  - A FIN marks its direction's record MR_FLOW_CLOSING, a RST both; starting over and coming back clear the marks.  The kernel tier
 *    marks a record before it sends such a packet up; should that packet be lost, core/offload_turn.c clears the mark.
 */

enum {
	MR_SESSION_ONE_WAY = 1, /* established by its forward direction alone */
	MR_SESSION_KEPT = 2,    /* never given up for others: not counted half open */
};

#define MR_SESSION_PRIVATE_BYTES 32 /* shared by the stages of its pipeline */

struct mr_session {
	mr_flow_ref ref[2];     /* by enum mr_direction */
	uint32_t half_wraps[2]; /* how often the records' packet counters crossed 2^31, when last folded; atomic */
	uint8_t state;          /* enum mr_session_state; atomic, one word with the next three */
	uint8_t tcp_seen[2];    /* TCP flags seen in each direction, or-ed */
	uint8_t flags;          /* MR_SESSION_ONE_WAY, ... */
	uint8_t family;         /* 4 or 6 */
	uint8_t proto;
	uint8_t ingress;  /* (interface, pipeline) pair that created it */
	uint8_t timeouts; /* class of its time-outs; 0 = flows.timeouts */
	uint32_t created_ms;
	union {
		uint32_t serial; /* of the plan that laid its private bytes out (low 32 bits) */
		uint32_t link;   /* of free ones, on their way to the next use; atomic */
	};
	uint8_t priv[MR_SESSION_PRIVATE_BYTES] __attribute__((aligned(32)));
};

_Static_assert(sizeof(struct mr_session) == 64, "a session is one cache line");

struct mr_sessions;

struct mr_sessions_options {
	uint32_t capacity;      /* sessions alive at once; some more indexes than that exist */
	uint32_t half_open_max; /* 0: half of capacity */
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
	/* of the session it opens */
	uint8_t timeouts; /* class */
	bool keep;
	uint32_t serial; /* of the plan */
	union {
		struct mr_rewrite4 r4;
		struct mr_rewrite6 r6;
	};
};

/* -EINVAL, -ENOMEM.  Threads: control. */
int mr_sessions_create(const struct mr_sessions_options *opt, struct mr_sessions **out, struct mr_error *e);
void mr_sessions_destroy(struct mr_sessions *s); /* NULL allowed; no worker may be using it */
/* New time-outs and quota from a reload; the next second's sweep brings every session's due time into line.  Capacity cannot change.
 * 0.  Threads: control. */
int mr_sessions_configure(struct mr_sessions *s, const struct mr_config_timeouts *t, uint32_t half_open_max);
/* Time-outs of a class (1..255) from the next mr_sessions_configure() on; NULL: as flows.timeouts.  Threads: control. */
void mr_sessions_class(struct mr_sessions *s, uint8_t number, const struct mr_stage_timeouts *t);
void mr_sessions_usage(const struct mr_sessions *s, struct mr_sessions_usage *out);

/* NEW, or reset before it was established, and not kept: counts against the quota and may be evicted.  Threads: any. */
bool mr_session_half_open(const struct mr_session *x);

/* The session has heard a FIN of this direction, or a RST of either.  Threads: any. */
bool mr_session_closing(const struct mr_session *x, enum mr_direction dir);

/* Whether a first packet may open a session: any but TCP; TCP as said above.  Threads: any. */
bool mr_session_opens(uint8_t proto, uint8_t tcp_flags);

/*
 * Creates a session: inserts the forward record with `d` and the reverse record undecided, or neither.  Both keys' zone, family
 * and protocol are set.  `tcp_flags` of the first packet.
 *   0          *idx, and the session is NEW (ESTABLISHED with one_way)
 *   -EEXIST    somebody was first: *idx is theirs; give back what was taken and look up again
 *   -EINVAL    the keys are not of one family, zone and protocol, or equal (a packet from itself to itself has no two directions)
 *   -EPROTO    a TCP segment that can open nothing
 *   -ENOSPC    table full, and no half-open session to evict nearby
 *   -EDQUOT    half-open quota used up, and none to evict nearby
 * At the limits one half-open session makes room: the worker's clock hand goes round all of them, so each keeps its place
 * about as long as the others; it looks at a bounded stretch (16 Ki indexes).  The quota may be passed by one per worker.
 * Threads: workers.  priv (MR_SESSION_PRIVATE_BYTES, may be NULL = zeros) is in place before the records can be found.
 */
int mr_session_create(struct mr_sessions *s, unsigned worker, const struct mr_flow_key *forward,
	const struct mr_flow_key *reverse, const struct mr_flow_decision *d, uint8_t tcp_flags, bool one_way,
	const void *priv, uint32_t now_ms, uint32_t *idx);

/* The session of an index that a record named.  Valid until the worker's next quiet moment; never NULL for an index in range, but
 * its state may be FREE.  Threads: workers (online), or control between mr_epoch_online/offline of its own slot. */
struct mr_session *mr_session_at(struct mr_sessions *s, uint32_t idx);

/*
 * Tells the session about a packet: moves its state (TCP by flags, others by direction) and, when the state changed, its due time.
 * Returns the new state; *changed tells.  Counters are in the records and not touched.  Threads: workers.
 */
enum mr_session_state mr_session_packet(
	struct mr_sessions *s, uint32_t idx, enum mr_direction dir, uint8_t tcp_flags, uint32_t now_ms, bool *changed);

/* Ends a session now: frees both records, then (after an epoch) the index.  Returns false when it was ended already.  Threads: any
 * online worker, or control. `worker` = whose retire list; control uses worker_cnt. */
bool mr_session_end(struct mr_sessions *s, unsigned worker, uint32_t idx, uint32_t now_ms);

/* What the callback below gets, and stages see through mr_end_*() of millrace/stage.h.  Lives during the call. */
struct mr_session_end {
	const struct mr_sessions *sessions;
	const struct mr_session *session;
	uint32_t idx;
	unsigned worker; /* who ended it; worker_cnt = control */
	uint32_t now_ms;
	struct mr_flow_key key[2]; /* by enum mr_direction, without hashes */
};

/* Called once for a session freed by expiry, eviction or end, on the thread that frees it.  The records can no longer be found: their keys
 * were copied before, and mr_session_totals() still tells what they counted. */
typedef void (*mr_session_expire_fn)(void *ctx, const struct mr_session_end *end);
void mr_sessions_on_expire(struct mr_sessions *s, mr_session_expire_fn fn, void *ctx);

/* Sweeps up to `budget` entries of this worker's share; returns how many were freed.  The whole share is swept at least once a second
 * when called once a millisecond with the budget mr_sessions_budget() returns.  At most 128 sessions are freed a call, so that a mass
 * expiry is no pause.  Also folds packet counters and gives ended indexes back.  Threads: that worker, online. */
unsigned mr_sessions_sweep(struct mr_sessions *s, unsigned worker, uint32_t now_ms, unsigned budget);
unsigned mr_sessions_budget(const struct mr_sessions *s);

/* Milliseconds until expiry if no packet comes; 0 when due. */
uint32_t mr_session_remaining_ms(const struct mr_sessions *s, uint32_t idx, uint32_t now_ms);

/* Walks live sessions for `show flows`: the first live index >= from, or 0 at the end (index 0 is never used). */
uint32_t mr_sessions_next(const struct mr_sessions *s, uint32_t from);

/* Totals of one direction, both tiers, from the record and the folded wraps (every session is folded at least
 * once in 64 sweeps of its share, and its record may count 2^31 packets in between).  Threads: as mr_session_at. */
void mr_session_totals(
	const struct mr_sessions *s, uint32_t idx, enum mr_direction dir, uint64_t *packets, uint64_t *bytes);

#endif
