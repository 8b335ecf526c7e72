/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log.h - who had which outside address and port when: one line an event, to a file or to syslog.
 *
 *     workers ─ring each─► writer thread ─► file (opened again when it was moved away) or syslog
 *
 * Rings are bounded, and so is the rate: what is left out is counted, and the count is written into the log itself (RFC 6888 REQ-12, RFC 6269
 * section 12).  Workers never wait.  When the file takes nothing (disk full) the lines wait in the buffer and the rings as long as there is
 * room, and the writer tries again; a file never holds part of a line.  docs/nat44.md has the fields.
 *
 * log_line.c makes and reads lines, log_ring.c holds events, log_file.c has the file or the socket, log.c the writer, record.c makes events of
 * sessions.
 */
#ifndef MR_PIPELINES_NAT44_LOG_H
#define MR_PIPELINES_NAT44_LOG_H

#include "millrace/stage.h"

#include <linux/types.h>
#include <stdbool.h>
#include <stdint.h>

struct nat_block_event;

enum nat_event_kind {
	NAT_EVENT_SESSION_ADD,
	NAT_EVENT_SESSION_DELETE,
	NAT_EVENT_BLOCK_ADD,
	NAT_EVENT_BLOCK_DELETE,
	/* Of the log itself, which writes them. */
	NAT_EVENT_LOG_START, /* from here on it is complete, but for what it says was lost */
	NAT_EVENT_LOG_END,
	NAT_EVENT_LOST, /* lost_cnt events between two times */
	NAT_EVENT_KIND_CNT
};

#define NAT_ZONE_DEFAULT 1   /* core/zone.h */
#define NAT_LINE_BYTES   384 /* room for any line */
#define NAT_STAGE_BYTES  128 /* room for the name of a stage */

struct nat_event {
	uint64_t time_ns;                                       /* CLOCK_REALTIME; a line has milliseconds */
	uint8_t kind;                                           /* enum nat_event_kind */
	uint8_t proto;                                          /* IPPROTO_*; blocks: 0, they are of all */
	__be16 inside_port_be, outside_port_be, remote_port_be; /* blocks: lo and hi in the first two, network order */
	__be32 inside_be, outside_be, remote_be;
	uint32_t zone;
	union {
		struct {                               /* SESSION_DELETE */
			uint64_t packets[2], bytes[2]; /* out, in */
			uint64_t age_ms;               /* how long it lived */
		};
		struct { /* LOST */
			uint64_t lost_cnt, lost_from_ns, lost_to_ns;
		};
	};
};

/* ---- lines: log_line.c ------------------------------------------------------------------------------------------- */

/* One line without its newline, as in the file.  out has room for NAT_LINE_BYTES; a longer name of a stage is cut.  Returns its length. */
unsigned nat_log_format(const struct nat_event *e, const char *stage, char *out);
/* The other way round, for `millrace nat who`: 0, -EINVAL: no line of this log (then *out and stage may hold anything). */
int nat_log_parse(const char *line, struct nat_event *out, char *stage, unsigned stage_bytes);
/* The protocol by name, "47" where it has none, in a buffer of 4 bytes or elsewhere; and its number, -1 = none. */
const char *nat_log_proto(uint8_t proto, char buf[8]);
int nat_log_proto_number(const char *name);
/* 2026-01-02T14:03:07.123Z and its end. */
#define NAT_TIME_BYTES 25
char *nat_log_time(uint64_t time_ns, char out[NAT_TIME_BYTES]);

/* ---- the log: log.c ----------------------------------------------------------------------------------------------- */

struct nat_log;

struct nat_log_options {
	const char *stage;   /* in the lines */
	const char *file;    /* NULL = syslog */
	unsigned worker_cnt; /* rings: one more, for control */
	uint32_t ring_cnt;   /* events each ring holds; made a power of two */
	uint64_t rate_per_s; /* lines written at most, with a burst of one second; 0 = as many as come */
	const char *socket;  /* of syslog; NULL = /dev/log */
};

struct nat_log_usage {
	uint64_t written; /* lines of events */
	uint64_t lost;    /* events no ring took, over the rate, or given up at the end because nothing took them */
	uint64_t failed;  /* times the file or syslog did not take what it was given */
	uint64_t waiting; /* events in the rings */
	int error;        /* why it takes nothing just now; 0 = it does */
};

/*
 * Opens the file (appending, 0640; its folder is made when it is missing) and starts the writer.  A log of the same stage, file and number of
 * workers that is open already is shared: so it goes on over reloads.  -errno with a sentence in why[why_bytes].  Threads: control.
 */
int nat_log_open(const struct nat_log_options *opt, struct nat_log **out, char *why, unsigned why_bytes);
/* Writes what is there, when the last one that shares it closes it; nobody puts any more.  NULL allowed.  Threads: control. */
void nat_log_close(struct nat_log *l);
/* Of a log that is shared the rate is the one before until the new instance is in force: from adopt().  Threads: any. */
void nat_log_set_rate(struct nat_log *l, uint64_t rate_per_s);
/* False: lost and counted.  Threads: each worker its own number; worker_cnt = control. */
bool nat_log_put(struct nat_log *l, unsigned worker, const struct nat_event *e);
/* Threads: any. */
void nat_log_usage(const struct nat_log *l, struct nat_log_usage *out);
const char *nat_log_file(const struct nat_log *l); /* NULL = syslog */

/* ---- events of sessions: record.c --------------------------------------------------------------------------------- */

/* Which ends the stage translates; with both (hairpin) an event is two lines, one for each inside address. */
#define NAT_LOG_SOURCE      1u
#define NAT_LOG_DESTINATION 2u

/* A session was made: from commit(), with what mr_packet_session_tuples() says.  Threads: each worker its own number. */
void nat_log_session(struct nat_log *l, unsigned worker, unsigned ends, const struct mr_tuple *forward,
	const struct mr_tuple *reply);
/* It ended: from expire(). */
void nat_log_session_end(struct nat_log *l, unsigned ends, const struct mr_session_end *end);
/* nat_policy.on_block.  ctx: struct nat_log *, or NULL. */
void nat_log_block(void *ctx, unsigned worker, const struct nat_block_event *e);

#endif
