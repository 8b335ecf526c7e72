/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log_part.h - what the log is made of: rings that events wait in, and the place that takes lines.
 *
 *     put ─► [ring of each worker] ─take─► line ─► [buffer] ─► sink: file, or datagrams to syslog
 *
 * A ring has one producer and one consumer.  What it cannot take it counts, with the time of the first and the last since that was last told.
 */
#ifndef MR_PIPELINES_NAT44_LOG_PART_H
#define MR_PIPELINES_NAT44_LOG_PART_H

#include "pipelines/nat44/log.h"

#include <stdatomic.h>
#include <sys/types.h>

/* ---- log_ring.c ---------------------------------------------------------------------------------------------------- */

struct nat_log_ring {
	struct nat_event *event;
	uint64_t mask;
	/* The producer's. */
	_Alignas(64) _Atomic uint64_t head;
	uint64_t tail_seen;
	_Atomic uint64_t lost, lost_from_ns, lost_to_ns;
	/* The writer's. */
	_Alignas(64) _Atomic uint64_t tail;
	_Atomic uint64_t told; /* of lost */
};

/* cnt is a power of two.  -ENOMEM. */
int nat_log_ring_init(struct nat_log_ring *r, uint32_t cnt);
void nat_log_ring_end(struct nat_log_ring *r);
/* False: full, and counted.  Threads: the producer. */
bool nat_log_ring_put(struct nat_log_ring *r, const struct nat_event *e);
/* How far the producer was; the oldest that waits; takes it.  Threads: the writer. */
uint64_t nat_log_ring_head(const struct nat_log_ring *r);
const struct nat_event *nat_log_ring_peek(const struct nat_log_ring *r);
void nat_log_ring_pop(struct nat_log_ring *r);
uint64_t nat_log_ring_waiting(const struct nat_log_ring *r); /* Threads: any */

/* Events that are in no line. */
struct nat_log_loss {
	uint64_t cnt, from_ns, to_ns;
};
void nat_log_loss_add(struct nat_log_loss *l, uint64_t cnt, uint64_t from_ns, uint64_t to_ns);
/* Moves what the ring lost since the last time into l.  The range is never too narrow.  Threads: the writer. */
void nat_log_ring_tell(struct nat_log_ring *r, struct nat_log_loss *l);

/* ---- log_file.c ------------------------------------------------------------------------------------------------------ */

struct nat_log_sink {
	const char *path; /* of the file, or of syslog's socket */
	bool is_file;
	int fd;             /* -1 = none */
	bool regular, torn; /* torn: what is there ends inside a line */
	dev_t dev;
	ino_t ino;
	char tag[32]; /* syslog */
};

/* 0 or -errno. */
int nat_log_sink_open(struct nat_log_sink *s);
void nat_log_sink_close(struct nat_log_sink *s);
/* Opens what the path names now, when that is something else.  Where it cannot be had, what is open is kept. */
void nat_log_sink_follow(struct nat_log_sink *s);
/* Writes lines (each with its newline), whole ones only: *done of them.  0 or -errno: no more go now. */
int nat_log_sink_write(
	struct nat_log_sink *s, const char *text, const uint16_t *line_bytes, unsigned line_cnt, unsigned *done);

#endif
