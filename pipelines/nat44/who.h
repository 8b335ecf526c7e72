/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * who.h - who had an outside address and port at some time, by the lines of the log.
 *
 *     files, oldest first ─line by line─► [those of that address and port] ─► holders, and what of the time the log covers
 *
 * Lines are read once and forgotten: memory goes by the answers, not by the log.  A session that ended tells its age, so that it is found although
 * its first line is in a file that is gone.
 */
#ifndef MR_PIPELINES_NAT44_WHO_H
#define MR_PIPELINES_NAT44_WHO_H

#include "pipelines/nat44/log.h"

struct nat_who_question {
	__be32 outside_be;
	int port;                /* host order; -1 = any */
	int proto;               /* IPPROTO_*; -1 = any */
	uint64_t from_ns, to_ns; /* any moment of it; CLOCK_REALTIME */
};

enum nat_who_until {
	NAT_WHO_ENDED, /* there is a line of it */
	NAT_WHO_OPEN,  /* it lives, as far as the log goes */
	NAT_WHO_CUT,   /* the log was ended or begun anew at until_ns, and it is not heard of again */
};

struct nat_who_holder {
	struct nat_event e; /* the line it is known by; a block or a session.  Totals and age when it ended */
	char stage[NAT_STAGE_BYTES];
	uint64_t since_ns, until_ns;
	uint8_t until;     /* enum nat_who_until */
	bool began_unseen; /* no line says that it began: since_ns is by its age; of a block 0 */
};

/* Of one stage: what its lines cover of the time asked for. */
struct nat_who_stage {
	char name[NAT_STAGE_BYTES];
	bool used;                  /* it had the address */
	bool ended;                 /* the last it said is log-end */
	uint64_t first_ns, last_ns; /* of its lines */
	bool gap;                   /* it was not written for a part of the time asked for ... */
	uint64_t gap_from_ns, gap_to_ns;
	uint64_t lost_then; /* events lost between times that meet the time asked for ... */
	uint64_t lost_from_ns, lost_to_ns;
	uint64_t lost_before; /* events lost before: of sessions that may have lived on */
};

struct nat_who;

/* -ENOMEM */
int nat_who_create(const struct nat_who_question *q, struct nat_who **out);
void nat_who_destroy(struct nat_who *w); /* NULL allowed */
/* A plain file, one of gzip, or stdin ("-").  0; -errno, -EBADMSG (gzip: damaged): what could be read was read. */
int nat_who_read(struct nat_who *w, const char *path);
/* After the last file.  By `since`; they live as long as w. */
const struct nat_who_holder *nat_who_holders(struct nat_who *w, size_t *cnt);
const struct nat_who_stage *nat_who_stages(const struct nat_who *w, size_t *cnt);
uint64_t nat_who_lines(const struct nat_who *w); /* of the log, in all files; others are passed over */

/* ---- who_files.c ------------------------------------------------------------------------------------------------------ */

/* The file and those it was before it was rotated (FILE.1, FILE.2.gz, FILE-20260102.gz ...), by the time of their first line.  Names and list are
 * from malloc; NULL-terminated.  -ENOENT: there is none; -ENOMEM. */
int nat_who_files(const char *path, char ***out);
void nat_who_files_free(char **files);
/* gzgets-like over both kinds of files. */
struct nat_who_reader;
int nat_who_reader_open(const char *path, struct nat_who_reader **out);
/* The next line without its newline; false: no more, or *err (-EBADMSG, -EIO).  Longer ones come in pieces. */
bool nat_who_reader_line(struct nat_who_reader *r, char *line, unsigned bytes, int *err);
void nat_who_reader_close(struct nat_who_reader *r);

#endif
