/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log.h - who had which outside address and port when: one line an event, to a file or to syslog.
 *
 *     workers ─ring each─► writer thread ─► file (opened again when it was moved away) or syslog
 *
 * Rings are bounded: what does not fit is counted, and the count is written into the log itself when there is room again (RFC 6888 REQ-12,
 * RFC 6269 section 12).  Workers never wait.  docs/nat44.md has the fields.
 */
#ifndef MR_PIPELINES_NAT44_LOG_H
#define MR_PIPELINES_NAT44_LOG_H

#include <linux/types.h>
#include <stdbool.h>
#include <stdint.h>

enum nat_event_kind { NAT_EVENT_SESSION_ADD, NAT_EVENT_SESSION_DELETE, NAT_EVENT_BLOCK_ADD, NAT_EVENT_BLOCK_DELETE };

struct nat_event {
	uint64_t time_ns;                                       /* CLOCK_REALTIME */
	uint8_t kind;                                           /* enum nat_event_kind */
	uint8_t proto;                                          /* IPPROTO_*; blocks: 0, they are of all */
	__be16 inside_port_be, outside_port_be, remote_port_be; /* blocks: lo and hi in the first two, network order */
	__be32 inside_be, outside_be, remote_be;
	uint32_t zone;
	uint64_t packets[2], bytes[2]; /* SESSION_DELETE: out, in */
};

struct nat_log;

struct nat_log_options {
	const char *instance, *stage; /* for syslog's tag and the lines */
	const char *file;             /* NULL = syslog */
	unsigned worker_cnt;          /* rings: one more, for control */
	uint32_t ring_cnt;            /* events each ring holds */
	uint64_t rate_per_s;          /* lines written at most; 0 = as many as come */
};

struct nat_log_usage {
	uint64_t written, lost,
		failed; /* lines written; events no ring took or over the rate; lines the file or syslog did not take */
};

/* Opens the file (appending, 0640) and starts the writer.  -errno with a sentence in why[why_bytes].  Threads: control. */
int nat_log_open(const struct nat_log_options *opt, struct nat_log **out, char *why, unsigned why_bytes);
void nat_log_close(struct nat_log *l); /* writes what is there; NULL allowed; nobody puts any more */
/* False: lost and counted.  Threads: each worker its own number. */
bool nat_log_put(struct nat_log *l, unsigned worker, const struct nat_event *e);
void nat_log_usage(const struct nat_log *l, struct nat_log_usage *out);
/* One line without its newline, as in the file.  Returns its length. */
unsigned nat_log_format(const struct nat_event *e, const char *stage, char *out, unsigned bytes);
/* The other way round, for `millrace nat who`: 0, -EINVAL: no line of this log. */
int nat_log_parse(const char *line, struct nat_event *out, char *stage, unsigned stage_bytes);

#endif
