/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log.c - the writer: takes events of all rings in the order of their times, makes lines, writes them together.
 *
 * It looks a hundred times a second: a ring of 32768 events holds a million a second for three of its turns.
 */
#include "pipelines/nat44/log.h"
#include "pipelines/nat44/log_part.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_S      1000000000ull
#define NS_PER_MS     1000000ull
#define TURN_NS       (10 * NS_PER_MS)
#define AGAIN_NS      (250 * NS_PER_MS) /* after nothing was taken */
#define FOLLOW_NS     (NS_PER_S / 2)    /* between two looks at the name of the file when nothing is written */
#define TELL_NS       NS_PER_S          /* between two lines that tell of lost events */
#define BUFFER_BYTES  (256u << 10)
#define BUFFER_LINES  8192u
#define OWN_CNT       4u /* lines kept free for the log itself */
#define RING_MAX      (1u << 20)
#define RINGS_MAX     1024u
#define SYSLOG_SOCKET "/dev/log"

struct nat_log {
	struct nat_log *next; /* of those open */
	unsigned holders;
	char *stage, *path;
	unsigned ring_cnt;
	struct nat_log_ring *ring;
	struct nat_log_sink sink;

	pthread_t thread;
	pthread_mutex_t lock; /* stop */
	pthread_cond_t wake;
	bool stop;

	/* The writer's. */
	char *text;
	size_t text_bytes;
	uint16_t line_bytes[BUFFER_LINES];
	bool line_own[BUFFER_LINES];
	unsigned line_cnt;
	struct nat_log_loss loss; /* not told yet */
	uint64_t credit_ns, credited_ns, told_ns, followed_ns, again_ns;
	uint64_t seen_ns; /* the newest event */

	_Atomic uint64_t rate_per_s, written, over_rate, failed;
	_Atomic uint64_t buffered; /* events among the lines of the buffer */
	_Atomic int error;
};

/* Those open: control opens and closes, and no two threads of it at once. */
static struct nat_log *logs;
static pthread_mutex_t logs_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;
	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* ---- the buffer ---------------------------------------------------------------------------------------------------- */

static bool has_room(const struct nat_log *l, unsigned spare)
{
	return l->line_cnt + spare < BUFFER_LINES && l->text_bytes + (spare + 1) * NAT_LINE_BYTES <= BUFFER_BYTES;
}

static void add_line(struct nat_log *l, const struct nat_event *e, bool own)
{
	unsigned n = nat_log_format(e, l->stage, l->text + l->text_bytes);
	l->text[l->text_bytes + n++] = '\n';
	l->text_bytes += n;
	l->line_bytes[l->line_cnt] = (uint16_t)n;
	l->line_own[l->line_cnt++] = own;
	if (!own)
		atomic_fetch_add_explicit(&l->buffered, 1, memory_order_relaxed);
}

static void add_own(struct nat_log *l, struct nat_event *e)
{
	uint64_t now = clock_ns(CLOCK_REALTIME);
	/* Not before what it comes after; a clock that was set back is another matter. */
	e->time_ns = now < l->seen_ns && l->seen_ns - now < NS_PER_S ? l->seen_ns : now;
	add_line(l, e, true);
}

static void forget_lines(struct nat_log *l, unsigned cnt)
{
	size_t bytes = 0;
	uint64_t events = 0;
	for (unsigned i = 0; i < cnt; i++) {
		bytes += l->line_bytes[i];
		events += !l->line_own[i];
	}
	l->line_cnt -= cnt;
	l->text_bytes -= bytes;
	memmove(l->text, l->text + bytes, l->text_bytes);
	memmove(l->line_bytes, l->line_bytes + cnt, l->line_cnt * sizeof(l->line_bytes[0]));
	memmove(l->line_own, l->line_own + cnt, l->line_cnt * sizeof(l->line_own[0]));
	atomic_fetch_add_explicit(&l->written, events, memory_order_relaxed);
	atomic_fetch_sub_explicit(&l->buffered, events, memory_order_relaxed);
}

/* Writes what is there.  After a failure it is tried again, with the name opened anew, when some time has passed. */
static void flush(struct nat_log *l, uint64_t now, bool last)
{
	unsigned done = 0;
	bool again = atomic_load_explicit(&l->error, memory_order_relaxed);
	if (again && now < l->again_ns && !last)
		return;
	/* Before each write: whoever moved the file may be about to compress it. */
	if (l->line_cnt || now >= l->followed_ns + FOLLOW_NS) {
		nat_log_sink_follow(&l->sink);
		l->followed_ns = now;
	}
	if (!l->line_cnt)
		return;
	int err = again ? nat_log_sink_open(&l->sink) : 0;
	if (!err || l->sink.is_file) /* the one that is open may take it, whatever its name is */
		err = nat_log_sink_write(&l->sink, l->text, l->line_bytes, l->line_cnt, &done);
	forget_lines(l, done);
	atomic_store_explicit(&l->error, -err, memory_order_relaxed);
	if (err) {
		atomic_fetch_add_explicit(&l->failed, 1, memory_order_relaxed);
		l->again_ns = now + AGAIN_NS;
	}
}

/* ---- events ---------------------------------------------------------------------------------------------------------- */

/* A bucket of one second: each line costs its part of one. */
static bool within_rate(struct nat_log *l, uint64_t now)
{
	uint64_t rate = atomic_load_explicit(&l->rate_per_s, memory_order_relaxed);
	if (!rate || rate >= NS_PER_S)
		return true;
	l->credit_ns += now - l->credited_ns;
	l->credited_ns = now;
	if (l->credit_ns > NS_PER_S)
		l->credit_ns = NS_PER_S;
	uint64_t cost = NS_PER_S / rate;
	if (l->credit_ns < cost)
		return false;
	l->credit_ns -= cost;
	return true;
}

/* The ring whose next event is the oldest, of those that had one when `head` was read; ring_cnt = none. */
static unsigned oldest(const struct nat_log *l, const uint64_t *head)
{
	unsigned best = l->ring_cnt;
	uint64_t best_ns = UINT64_MAX;
	for (unsigned i = 0; i < l->ring_cnt; i++) {
		if (atomic_load_explicit(&l->ring[i].tail, memory_order_relaxed) == head[i])
			continue;
		uint64_t ns = nat_log_ring_peek(&l->ring[i])->time_ns;
		if (best == l->ring_cnt || ns < best_ns) {
			best = i;
			best_ns = ns;
		}
	}
	return best;
}

/* Makes lines of what waits, as long as there is room for them; returns how many events it took. */
static uint64_t take(struct nat_log *l, uint64_t now, bool last)
{
	uint64_t head[RINGS_MAX], cnt = 0;
	unsigned r;
	for (unsigned i = 0; i < l->ring_cnt; i++)
		head[i] = nat_log_ring_head(&l->ring[i]);
	while ((r = oldest(l, head)) < l->ring_cnt) {
		const struct nat_event *e = nat_log_ring_peek(&l->ring[r]);
		if (!has_room(l, OWN_CNT))
			flush(l, now, last);
		if (!has_room(l, OWN_CNT))
			break;
		if (e->time_ns > l->seen_ns)
			l->seen_ns = e->time_ns;
		if (within_rate(l, now)) {
			add_line(l, e, false);
		} else {
			nat_log_loss_add(&l->loss, 1, e->time_ns, e->time_ns);
			atomic_fetch_add_explicit(&l->over_rate, 1, memory_order_relaxed);
		}
		nat_log_ring_pop(&l->ring[r]);
		cnt++;
	}
	return cnt;
}

/* The line `lost`: when lines are taken again, and not oftener than once a second. */
static void tell(struct nat_log *l, uint64_t now, bool last)
{
	if (!last && (now < l->told_ns + TELL_NS || atomic_load_explicit(&l->error, memory_order_relaxed)))
		return;
	for (unsigned i = 0; i < l->ring_cnt; i++)
		nat_log_ring_tell(&l->ring[i], &l->loss);
	if (!l->loss.cnt || !has_room(l, 1))
		return;
	struct nat_event e = {
		.kind = NAT_EVENT_LOST,
		.lost_cnt = l->loss.cnt,
		.lost_from_ns = l->loss.from_ns,
		.lost_to_ns = l->loss.to_ns,
	};
	if (e.lost_to_ns > l->seen_ns)
		l->seen_ns = e.lost_to_ns;
	add_own(l, &e);
	l->loss = (struct nat_log_loss){ 0 };
	l->told_ns = now;
}

/* ---- the thread ------------------------------------------------------------------------------------------------------ */

/* True when it is to end. */
static bool rest(struct nat_log *l)
{
	struct timespec until;
	uint64_t ns = clock_ns(CLOCK_MONOTONIC) + TURN_NS;
	until.tv_sec = (time_t)(ns / NS_PER_S);
	until.tv_nsec = (long)(ns % NS_PER_S);
	pthread_mutex_lock(&l->lock);
	if (!l->stop)
		pthread_cond_timedwait(&l->wake, &l->lock, &until);
	bool stop = l->stop;
	pthread_mutex_unlock(&l->lock);
	return stop;
}

static void *writer(void *log)
{
	struct nat_log *l = log;
	struct nat_event start = { .kind = NAT_EVENT_LOG_START }, end = { .kind = NAT_EVENT_LOG_END };
	l->credit_ns = NS_PER_S;
	l->credited_ns = l->followed_ns = clock_ns(CLOCK_MONOTONIC);
	add_own(l, &start);
	for (bool stop = false; !stop;) {
		/* Asked before the rings are looked at: what was put before is in there. */
		stop = rest(l);
		uint64_t now = clock_ns(CLOCK_MONOTONIC), busy = l->ring[0].mask / 4;
		while (take(l, now, stop) > busy && !stop)
			now = clock_ns(CLOCK_MONOTONIC);
		tell(l, now, stop);
		if (stop)
			add_own(l, &end);
		flush(l, now, stop);
	}
	return NULL;
}

static int start(struct nat_log *l)
{
	pthread_condattr_t attr;
	sigset_t all, before;
	pthread_mutex_init(&l->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&l->wake, &attr);
	pthread_condattr_destroy(&attr);
	sigfillset(&all); /* signals are control's; a pipe nobody reads is an errno */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = pthread_create(&l->thread, NULL, writer, l);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!err) {
		pthread_setname_np(l->thread, "mr-nat-log");
		return 0;
	}
	pthread_cond_destroy(&l->wake);
	pthread_mutex_destroy(&l->lock);
	return -err;
}

/* ---- open and close ---------------------------------------------------------------------------------------------------- */

static void free_log(struct nat_log *l)
{
	if (!l)
		return;
	nat_log_sink_close(&l->sink);
	for (unsigned i = 0; l->ring && i < l->ring_cnt; i++)
		nat_log_ring_end(&l->ring[i]);
	free(l->ring);
	free(l->text);
	free(l->stage);
	free(l->path);
	free(l);
}

static uint32_t power_of_two(uint32_t v)
{
	uint32_t p = 2;
	while (p < v && p < RING_MAX)
		p *= 2;
	return p;
}

static const char *path_of(const struct nat_log_options *opt)
{
	return opt->file ? opt->file : opt->socket ? opt->socket : SYSLOG_SOCKET;
}

static struct nat_log *make(const struct nat_log_options *opt)
{
	struct nat_log *l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->sink.fd = -1;
	l->holders = 1;
	l->ring_cnt = opt->worker_cnt + 1;
	l->ring = aligned_alloc(64, l->ring_cnt * sizeof(*l->ring));
	l->text = malloc(BUFFER_BYTES);
	l->stage = strdup(opt->stage);
	l->path = strdup(path_of(opt));
	bool made = l->ring && l->text && l->stage && l->path;
	if (l->ring)
		memset(l->ring, 0, l->ring_cnt * sizeof(*l->ring));
	for (unsigned i = 0; made && i < l->ring_cnt; i++)
		made = !nat_log_ring_init(&l->ring[i], power_of_two(opt->ring_cnt));
	if (!made) {
		free_log(l);
		return NULL;
	}
	l->sink.path = l->path;
	l->sink.is_file = opt->file;
	atomic_store(&l->rate_per_s, opt->rate_per_s);
	return l;
}

static struct nat_log *find(const struct nat_log_options *opt)
{
	struct nat_log *l = logs;
	while (l &&
		(strcmp(l->stage, opt->stage) || strcmp(l->path, path_of(opt)) ||
			l->sink.is_file != (opt->file != NULL) || l->ring_cnt != opt->worker_cnt + 1))
		l = l->next;
	return l;
}

static int open_new(const struct nat_log_options *opt, struct nat_log **out, char *why, unsigned why_bytes)
{
	struct nat_log *l = opt->worker_cnt < RINGS_MAX ? make(opt) : NULL;
	int err = l ? nat_log_sink_open(&l->sink) : -ENOMEM;
	if (!err)
		err = start(l);
	if (err) {
		snprintf(why, why_bytes, "%s: %s", l ? l->path : "the log", strerror(-err));
		free_log(l);
		return err;
	}
	l->next = logs;
	logs = l;
	*out = l;
	return 0;
}

int nat_log_open(const struct nat_log_options *opt, struct nat_log **out, char *why, unsigned why_bytes)
{
	int err = 0;
	pthread_mutex_lock(&logs_lock);
	struct nat_log *l = find(opt);
	if (l) {
		l->holders++;
		*out = l;
	} else {
		err = open_new(opt, out, why, why_bytes);
	}
	pthread_mutex_unlock(&logs_lock);
	return err;
}

void nat_log_close(struct nat_log *l)
{
	if (!l)
		return;
	pthread_mutex_lock(&logs_lock);
	bool last = !--l->holders;
	for (struct nat_log **at = &logs; last && *at; at = &(*at)->next) {
		if (*at == l) {
			*at = l->next;
			break;
		}
	}
	pthread_mutex_unlock(&logs_lock);
	if (!last)
		return;
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_signal(&l->wake);
	pthread_mutex_unlock(&l->lock);
	pthread_join(l->thread, NULL);
	pthread_cond_destroy(&l->wake);
	pthread_mutex_destroy(&l->lock);
	free_log(l);
}

void nat_log_set_rate(struct nat_log *l, uint64_t rate_per_s)
{
	atomic_store_explicit(&l->rate_per_s, rate_per_s, memory_order_relaxed);
}

bool nat_log_put(struct nat_log *l, unsigned worker, const struct nat_event *e)
{
	return nat_log_ring_put(&l->ring[worker], e);
}

void nat_log_usage(const struct nat_log *l, struct nat_log_usage *out)
{
	struct nat_log_usage u = {
		.written = atomic_load_explicit(&l->written, memory_order_relaxed),
		.lost = atomic_load_explicit(&l->over_rate, memory_order_relaxed),
		.failed = atomic_load_explicit(&l->failed, memory_order_relaxed),
		.error = atomic_load_explicit(&l->error, memory_order_relaxed),
		.waiting = atomic_load_explicit(&l->buffered, memory_order_relaxed),
	};
	for (unsigned i = 0; i < l->ring_cnt; i++) {
		u.lost += atomic_load_explicit(&l->ring[i].lost, memory_order_relaxed);
		u.waiting += nat_log_ring_waiting(&l->ring[i]);
	}
	*out = u;
}

const char *nat_log_file(const struct nat_log *l)
{
	return l->sink.is_file ? l->path : NULL;
}
