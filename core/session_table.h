/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * session_table.h - what session.c (create, end, sweep), session_index.c (indexes) and session_state.c (states, time-outs)
 * share.  Nobody else includes it.
 *
 * The way of an index, so that nobody finds another session where he still looks at the old one:
 *
 *     depot ─► a worker's cache ─► live ─► ended: the open batch ─► a stamped batch ─(epoch)─► depot
 */
#ifndef MR_CORE_SESSION_TABLE_H
#define MR_CORE_SESSION_TABLE_H

#include "core/session.h"

#define MR_SESSION_CACHE   64 /* indexes a worker keeps at hand */
#define MR_SESSION_BATCH   32 /* ended indexes that share a stamp */
#define MR_SESSION_BATCHES 64 /* stamped batches of a context; when all wait, the open one grows */

#define MR_CLOCKS_APART_MS 60000 /* workers take the time once a turn: another's may be ahead by this much */

/* Byte 13 of the TCP header. */
#define TCP_FIN           0x01
#define TCP_SYN           0x02
#define TCP_RST           0x04
#define TCP_ACK           0x10
#define MR_SESSION_UNBORN 0x80 /* in tcp_seen[MR_FORWARD], no flag of TCP there: reset before it was established */

enum mr_session_timeout {
	MR_TIMEOUT_UDP,
	MR_TIMEOUT_UDP_UNREPLIED,
	MR_TIMEOUT_TCP_ESTABLISHED,
	MR_TIMEOUT_TCP_TRANSITORY,
	MR_TIMEOUT_TCP_CLOSED,
	MR_TIMEOUT_ICMP,
	MR_TIMEOUT_OTHER,
	MR_TIMEOUT_CNT
};

/* The word a state change replaces at once. */
union mr_session_word {
	uint32_t word;
	struct {
		uint8_t state;
		uint8_t tcp_seen[2];
		uint8_t flags;
	};
};

struct mr_session_batch {
	uint64_t stamp;
	uint32_t head, tail, cnt;
};

/* A worker's things, and one set for control. */
struct mr_session_ctx {
	/* The owner alone. */
	uint32_t cache[MR_SESSION_CACHE];
	uint32_t cache_cnt;
	uint32_t lo, hi, at; /* the share of indexes it sweeps, and where it is */
	uint32_t pass;       /* sweeps of the share begun */
	uint32_t timeouts_seen, recheck_left;
	uint32_t hand; /* clock hand of eviction: an index */
	struct {       /* written by the owner, read by all */
		uint64_t created, expired, ended, evicted, refused_full, refused_half_open, lost_race;
	} cnt;
	/* Under the lock. */
	uint32_t lock __attribute__((aligned(64)));
	struct mr_session_batch open;
	struct mr_session_batch waiting[MR_SESSION_BATCHES]; /* a ring */
	uint32_t waiting_head, waiting_cnt;
} __attribute__((aligned(64)));

struct mr_sessions {
	struct mr_session *session; /* [index_cnt + 1]; 0 is never used */
	uint32_t *due_ms;           /* [index_cnt + 1]; 0 = free; atomic */
	uint32_t *depot;            /* stack of free indexes */
	uint64_t *half_open_bits;   /* atomic */
	uint32_t index_cnt, capacity, worker_cnt;
	struct mr_flows *flows;
	struct mr_epoch *epoch;
	mr_session_expire_fn expire;
	void *expire_ctx;
	void *mapped;
	size_t mapped_bytes;
	uint32_t timeout_ms[256][MR_TIMEOUT_CNT];        /* atomic; by class, 0 = flows.timeouts */
	uint8_t refresh[256];                            /* atomic; enum mr_refresh of the class */
	struct mr_stage_timeouts class[256];             /* as given: 0 = no time of its own */
	uint32_t timeouts_gen;                           /* atomic: grows with every mr_sessions_configure() */
	uint32_t half_open_max;                          /* atomic */
	uint32_t high_water;                             /* atomic: no index above it was ever used */
	uint32_t live __attribute__((aligned(64)));      /* atomic */
	uint32_t half_open __attribute__((aligned(64))); /* atomic: bits set */
	uint32_t depot_lock __attribute__((aligned(64)));
	uint32_t depot_cnt;
	struct mr_session_ctx ctx[]; /* [worker_cnt + 1]; the last is control's */
};

/* session_state.c */

bool mr_session_word_half_open(union mr_session_word w);
/* What a packet does to a state: the new word. */
union mr_session_word mr_session_next(
	uint8_t proto, union mr_session_word was, enum mr_direction dir, uint8_t tcp_flags);
enum mr_session_timeout mr_session_timeout_of(uint8_t proto, uint8_t state);
/* For all classes, which take from `t` what they do not say. */
void mr_session_timeouts_set(struct mr_sessions *s, const struct mr_config_timeouts *t);
/* Of a session in that state. */
uint32_t mr_session_timeout_ms(const struct mr_sessions *s, const struct mr_session *x, uint8_t state);
/* When it ends if no more packets come; may lie in the past. */
uint32_t mr_session_due(const struct mr_sessions *s, const struct mr_session *x, uint32_t now_ms);
void mr_session_fold(struct mr_sessions *s, struct mr_session *x);

/* session_end.c */

/* Both keys of a session whose records nobody else frees; family 0: it never had that record. */
void mr_session_end_keys(const struct mr_sessions *s, const struct mr_session *x, struct mr_flow_key key[2]);

/* session_index.c */

uint32_t mr_session_index_take(struct mr_sessions *s, struct mr_session_ctx *c);           /* 0 = none */
void mr_session_index_give(struct mr_sessions *s, struct mr_session_ctx *c, uint32_t idx); /* never seen by others */
void mr_session_index_retire(struct mr_sessions *s, struct mr_session_ctx *c, uint32_t idx);
void mr_session_index_reclaim(struct mr_sessions *s, struct mr_session_ctx *c);
bool mr_session_half_open_set(struct mr_sessions *s, uint32_t idx);
void mr_session_half_open_clear(struct mr_sessions *s, uint32_t idx);

static inline uint8_t mr_session_state_of(const struct mr_session *x)
{
	return __atomic_load_n(&x->state, __ATOMIC_ACQUIRE);
}

static inline void mr_session_count(uint64_t *counter)
{
	__atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

#endif
