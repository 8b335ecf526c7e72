/* SPDX-License-Identifier: BSD-2-Clause */
#include "pipelines/nat44/who.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_MS 1000000ull
/* A line tells when it was written and how long the session lived, both in ms: one session's beginning, told twice. */
#define SAME_NS    (3 * NS_PER_MS)
#define LINE_BYTES (4 * NAT_LINE_BYTES) /* with what a syslog daemon puts in front */

struct nat_who {
	struct nat_who_question q;
	char address[16]; /* as in lines */
	struct nat_who_holder *holder;
	size_t holder_cnt, holder_room;
	struct nat_who_stage *stage;
	size_t stage_cnt;
	uint64_t lines;
};

int nat_who_create(const struct nat_who_question *q, struct nat_who **out)
{
	struct nat_who *w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->q = *q;
	inet_ntop(AF_INET, &q->outside_be, w->address, sizeof(w->address));
	*out = w;
	return 0;
}

void nat_who_destroy(struct nat_who *w)
{
	if (!w)
		return;
	free(w->holder);
	free(w->stage);
	free(w);
}

/* ---- holders ------------------------------------------------------------------------------------------------------------ */

static bool is_block(const struct nat_event *e)
{
	return e->kind == NAT_EVENT_BLOCK_ADD || e->kind == NAT_EVENT_BLOCK_DELETE;
}

static bool is_end(const struct nat_event *e)
{
	return e->kind == NAT_EVENT_SESSION_DELETE || e->kind == NAT_EVENT_BLOCK_DELETE;
}

static bool asked_for(const struct nat_who_question *q, const struct nat_event *e)
{
	if (e->outside_be != q->outside_be)
		return false;
	if (is_block(e))
		return q->port < 0 || (q->port >= ntohs(e->inside_port_be) && q->port <= ntohs(e->outside_port_be));
	/* A session without ports has all of its address: GRE, ESP. */
	return (q->proto < 0 || q->proto == e->proto) &&
		(q->port < 0 || q->port == ntohs(e->outside_port_be) || (q->proto >= 0 && !e->outside_port_be));
}

static bool same(const struct nat_who_holder *h, const struct nat_event *e, const char *stage)
{
	return h->e.outside_port_be == e->outside_port_be && h->e.inside_port_be == e->inside_port_be &&
		h->e.inside_be == e->inside_be && h->e.remote_be == e->remote_be &&
		h->e.remote_port_be == e->remote_port_be && h->e.proto == e->proto && h->e.zone == e->zone &&
		is_block(&h->e) == is_block(e) && !strcmp(h->stage, stage);
}

static bool meets(const struct nat_who_question *q, const struct nat_who_holder *h)
{
	return h->since_ns <= q->to_ns && (h->until == NAT_WHO_OPEN || h->until_ns >= q->from_ns);
}

static uint64_t apart(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

static int add_holder(struct nat_who *w, const struct nat_who_holder *h)
{
	if (w->holder_cnt == w->holder_room) {
		size_t room = w->holder_room ? 2 * w->holder_room : 16;
		struct nat_who_holder *more = realloc(w->holder, room * sizeof(*more));
		if (!more)
			return -ENOMEM;
		w->holder = more;
		w->holder_room = room;
	}
	w->holder[w->holder_cnt++] = *h;
	return 0;
}

static int began(struct nat_who *w, const struct nat_event *e, const char *stage)
{
	struct nat_who_holder h = { .e = *e, .since_ns = e->time_ns, .until = NAT_WHO_OPEN };
	/* Of a block that comes later is remembered that it did: its end does not say so. */
	if (e->time_ns > w->q.to_ns && !is_block(e))
		return 0;
	/* The same line in two files (one that is just being compressed), or a line that came after that of its end. */
	for (size_t i = 0; i < w->holder_cnt; i++) {
		if (same(&w->holder[i], e, stage) && apart(w->holder[i].since_ns, e->time_ns) <= SAME_NS)
			return 0;
	}
	snprintf(h.stage, sizeof(h.stage), "%s", stage);
	return add_holder(w, &h);
}

static void forget(struct nat_who *w, size_t i)
{
	w->holder[i] = w->holder[--w->holder_cnt];
}

static int ended(struct nat_who *w, const struct nat_event *e, const char *stage)
{
	uint64_t age_ns = e->age_ms < e->time_ns / NS_PER_MS ? e->age_ms * NS_PER_MS : e->time_ns;
	struct nat_who_holder h = { .e = *e,
		.since_ns = is_block(e) ? 0 : e->time_ns - age_ns,
		.until_ns = e->time_ns,
		.until = NAT_WHO_ENDED,
		.began_unseen = true };
	for (size_t i = w->holder_cnt; i--;) {
		struct nat_who_holder *had = &w->holder[i];
		if (!same(had, e, stage))
			continue;
		if (had->until == NAT_WHO_ENDED) {
			if (had->until_ns == e->time_ns)
				return 0; /* told twice */
			continue;
		}
		had->e = *e;
		had->until = NAT_WHO_ENDED;
		had->until_ns = e->time_ns;
		if (!meets(&w->q, had))
			forget(w, i);
		return 0;
	}
	if (!meets(&w->q, &h))
		return 0;
	snprintf(h.stage, sizeof(h.stage), "%s", stage);
	return add_holder(w, &h);
}

/* The log of a stage ends or begins anew: what is open may be over. */
static void cut(struct nat_who *w, uint64_t time_ns, const char *stage)
{
	for (size_t i = 0; i < w->holder_cnt; i++) {
		struct nat_who_holder *h = &w->holder[i];
		if (h->until == NAT_WHO_OPEN && !strcmp(h->stage, stage)) {
			h->until = NAT_WHO_CUT;
			h->until_ns = time_ns;
		}
	}
}

/* ---- what is covered --------------------------------------------------------------------------------------------------- */

static struct nat_who_stage *stage_of(struct nat_who *w, const char *name, uint64_t time_ns)
{
	for (size_t i = 0; i < w->stage_cnt; i++) {
		if (!strcmp(w->stage[i].name, name))
			return &w->stage[i];
	}
	struct nat_who_stage *more = realloc(w->stage, (w->stage_cnt + 1) * sizeof(*more));
	if (!more)
		return NULL;
	w->stage = more;
	struct nat_who_stage *s = &w->stage[w->stage_cnt++];
	*s = (struct nat_who_stage){ .first_ns = time_ns, .last_ns = time_ns };
	snprintf(s->name, sizeof(s->name), "%s", name);
	return s;
}

static void note_gap(struct nat_who *w, struct nat_who_stage *s, uint64_t from_ns, uint64_t to_ns)
{
	if (from_ns >= to_ns || from_ns > w->q.to_ns || to_ns < w->q.from_ns)
		return;
	if (!s->gap)
		s->gap_from_ns = from_ns;
	s->gap_to_ns = to_ns;
	s->gap = true;
}

static void note_lost(struct nat_who *w, struct nat_who_stage *s, const struct nat_event *e)
{
	if (e->lost_from_ns > w->q.to_ns)
		return;
	if (e->lost_to_ns < w->q.from_ns) {
		s->lost_before += e->lost_cnt;
		return;
	}
	if (!s->lost_then || e->lost_from_ns < s->lost_from_ns)
		s->lost_from_ns = e->lost_from_ns;
	if (!s->lost_then || e->lost_to_ns > s->lost_to_ns)
		s->lost_to_ns = e->lost_to_ns;
	s->lost_then += e->lost_cnt;
}

/* ---- lines -------------------------------------------------------------------------------------------------------------- */

static int take_own(struct nat_who *w, struct nat_who_stage *s, const struct nat_event *e)
{
	if (e->kind == NAT_EVENT_LOST) {
		note_lost(w, s, e);
		return 0;
	}
	if (e->kind == NAT_EVENT_LOG_START)
		note_gap(w, s, s->last_ns, e->time_ns);
	s->ended = e->kind == NAT_EVENT_LOG_END;
	cut(w, e->time_ns, s->name);
	return 0;
}

static int take(struct nat_who *w, const struct nat_event *e, const char *stage)
{
	int err = 0;
	struct nat_who_stage *s = stage_of(w, stage, e->time_ns);
	if (!s)
		return -ENOMEM;
	w->lines++;
	if (e->kind >= NAT_EVENT_LOG_START) {
		err = take_own(w, s, e);
	} else {
		s->ended = false;
		s->used |= e->outside_be == w->q.outside_be;
		if (asked_for(&w->q, e))
			err = is_end(e) ? ended(w, e, stage) : began(w, e, stage);
	}
	if (e->time_ns > s->last_ns)
		s->last_ns = e->time_ns;
	return err;
}

/* Behind what a syslog daemon puts in front. */
static const char *without_head(const char *line)
{
	const char *at = strstr(line, " millrace[");
	at = at ? strstr(at, "]: ") : NULL;
	return at ? at + 3 : line;
}

int nat_who_read(struct nat_who *w, const char *path)
{
	struct nat_who_reader *r;
	char line[LINE_BYTES], stage[NAT_STAGE_BYTES];
	struct nat_event e;
	int err = nat_who_reader_open(path, &r), bad = 0;
	if (err)
		return err;
	while (!bad && nat_who_reader_line(r, line, sizeof(line), &err)) {
		if (!nat_log_parse(line, &e, stage, sizeof(stage)) ||
			!nat_log_parse(without_head(line), &e, stage, sizeof(stage)))
			bad = take(w, &e, stage);
	}
	nat_who_reader_close(r);
	return bad ? bad : err;
}

/* ---- answers ------------------------------------------------------------------------------------------------------------- */

static int by_since(const void *a, const void *b)
{
	const struct nat_who_holder *x = a, *y = b;
	if (x->since_ns != y->since_ns)
		return x->since_ns < y->since_ns ? -1 : 1;
	return x->until_ns < y->until_ns ? -1 : x->until_ns > y->until_ns;
}

const struct nat_who_holder *nat_who_holders(struct nat_who *w, size_t *cnt)
{
	for (size_t i = w->holder_cnt; i--;) {
		if (!meets(&w->q, &w->holder[i]))
			forget(w, i);
	}
	if (w->holder_cnt)
		qsort(w->holder, w->holder_cnt, sizeof(*w->holder), by_since);
	*cnt = w->holder_cnt;
	return w->holder;
}

const struct nat_who_stage *nat_who_stages(const struct nat_who *w, size_t *cnt)
{
	*cnt = w->stage_cnt;
	return w->stage;
}

uint64_t nat_who_lines(const struct nat_who *w)
{
	return w->lines;
}
