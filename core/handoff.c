/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/handoff.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MASK (MR_HANDOFF_RING - 1)

/* Head and tail count up for ever.  Each side keeps a copy of the other's, so that it looks over only when it must. */
struct ring {
	uint32_t head __attribute__((aligned(64))); /* the producer's; atomic */
	uint32_t tail_seen;
	uint32_t arrived_put;                       /* of those, not decided yet; atomic */
	uint32_t tail __attribute__((aligned(64))); /* the consumer's; atomic */
	uint32_t head_seen;
	uint32_t arrived_taken; /* atomic */
	uint32_t sent;          /* of those taken, sent on; atomic */
	struct mr_handoff_entry entry[MR_HANDOFF_RING] __attribute__((aligned(64)));
};

struct sleeper {
	int fd;
	uint32_t asleep; /* atomic */
} __attribute__((aligned(64)));

struct mr_handoff {
	unsigned worker_cnt;
	struct ring *ring; /* [from * worker_cnt + to] */
	struct sleeper *sleeper;
};

static struct ring *ring_of(const struct mr_handoff *h, unsigned from, unsigned to)
{
	return &h->ring[from * h->worker_cnt + to];
}

struct mr_handoff *mr_handoff_create(unsigned worker_cnt)
{
	struct mr_handoff *h = calloc(1, sizeof(*h));
	size_t ring_bytes = sizeof(struct ring) * worker_cnt * worker_cnt;
	if (!h)
		return NULL;
	h->worker_cnt = worker_cnt;
	h->ring = aligned_alloc(64, ring_bytes);
	h->sleeper = aligned_alloc(64, worker_cnt * sizeof(*h->sleeper));
	for (unsigned w = 0; h->sleeper && w < worker_cnt; w++)
		h->sleeper[w] = (struct sleeper){ .fd = -1 };
	if (!h->ring || !h->sleeper)
		goto fail;
	memset(h->ring, 0, ring_bytes);
	for (unsigned w = 0; w < worker_cnt; w++) {
		h->sleeper[w].fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (h->sleeper[w].fd < 0)
			goto fail;
	}
	return h;
fail:
	mr_handoff_destroy(h);
	return NULL;
}

void mr_handoff_destroy(struct mr_handoff *h)
{
	if (!h)
		return;
	for (unsigned w = 0; h->sleeper && w < h->worker_cnt; w++)
		if (h->sleeper[w].fd >= 0)
			close(h->sleeper[w].fd);
	free(h->sleeper);
	free(h->ring);
	free(h);
}

unsigned mr_handoff_put(struct mr_handoff *h, unsigned from, unsigned to, const struct mr_handoff_entry *e, unsigned n)
{
	struct ring *r = ring_of(h, from, to);
	uint32_t head = __atomic_load_n(&r->head, __ATOMIC_RELAXED);
	if (MR_HANDOFF_RING - (head - r->tail_seen) < n)
		r->tail_seen = __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE);
	uint32_t room = MR_HANDOFF_RING - (head - r->tail_seen);
	n = n < room ? n : room;
	uint32_t arrived = r->arrived_put;
	for (unsigned i = 0; i < n; i++) {
		r->entry[(head + i) & MASK] = e[i];
		arrived += e[i].arrived != 0;
	}
	__atomic_store_n(&r->arrived_put, arrived, __ATOMIC_RELAXED);
	__atomic_store_n(&r->head, head + n, __ATOMIC_RELEASE);
	return n;
}

unsigned mr_handoff_take(struct mr_handoff *h, unsigned from, unsigned to, struct mr_handoff_entry *e, unsigned n)
{
	struct ring *r = ring_of(h, from, to);
	uint32_t tail = __atomic_load_n(&r->tail, __ATOMIC_RELAXED);
	if (r->head_seen == tail)
		r->head_seen = __atomic_load_n(&r->head, __ATOMIC_ACQUIRE);
	uint32_t ready = r->head_seen - tail;
	n = n < ready ? n : ready;
	uint32_t arrived = r->arrived_taken;
	for (unsigned i = 0; i < n; i++) {
		e[i] = r->entry[(tail + i) & MASK];
		arrived += e[i].arrived != 0;
	}
	__atomic_store_n(&r->arrived_taken, arrived, __ATOMIC_RELAXED);
	if (n)
		__atomic_store_n(&r->tail, tail + n, __ATOMIC_RELEASE);
	return n;
}

static unsigned in_ring(const struct ring *r)
{
	uint32_t tail = __atomic_load_n(&r->tail, __ATOMIC_ACQUIRE);
	return __atomic_load_n(&r->head, __ATOMIC_ACQUIRE) - tail;
}

/* The order of reading keeps it from going below what is there when a consumer takes meanwhile. */
static unsigned decided_in_ring(const struct ring *r)
{
	uint32_t all = in_ring(r);
	uint32_t taken = __atomic_load_n(&r->arrived_taken, __ATOMIC_ACQUIRE);
	uint32_t arrived = __atomic_load_n(&r->arrived_put, __ATOMIC_RELAXED) - taken;
	return all > arrived ? all - arrived : 0;
}

unsigned mr_handoff_held(const struct mr_handoff *h, unsigned from)
{
	unsigned sum = 0;
	for (unsigned to = 0; to < h->worker_cnt; to++)
		sum += decided_in_ring(ring_of(h, from, to));
	return sum;
}

void mr_handoff_sent(struct mr_handoff *h, unsigned to)
{
	for (unsigned from = 0; from < h->worker_cnt; from++) {
		struct ring *r = ring_of(h, from, to);
		__atomic_store_n(&r->sent, __atomic_load_n(&r->tail, __ATOMIC_RELAXED), __ATOMIC_RELEASE);
	}
}

bool mr_handoff_under_way(const struct mr_handoff *h, unsigned from)
{
	for (unsigned to = 0; to < h->worker_cnt; to++) {
		const struct ring *r = ring_of(h, from, to);
		if (__atomic_load_n(&r->sent, __ATOMIC_ACQUIRE) != __atomic_load_n(&r->head, __ATOMIC_RELAXED))
			return true;
	}
	return false;
}

unsigned mr_handoff_waiting(const struct mr_handoff *h, unsigned to)
{
	unsigned sum = 0;
	for (unsigned from = 0; from < h->worker_cnt; from++)
		sum += in_ring(ring_of(h, from, to));
	return sum;
}

/* ---- sleeping ------------------------------------------------------------------------------------------------- */

/* Read-modify-write on both sides instead of a bare fence: thread sanitizers understand it, x86 pays the same. */
void mr_handoff_sleep_begin(struct mr_handoff *h, unsigned worker)
{
	__atomic_exchange_n(&h->sleeper[worker].asleep, 1, __ATOMIC_SEQ_CST);
}

void mr_handoff_sleep_end(struct mr_handoff *h, unsigned worker)
{
	uint64_t n;
	__atomic_store_n(&h->sleeper[worker].asleep, 0, __ATOMIC_RELAXED);
	if (read(h->sleeper[worker].fd, &n, sizeof(n)) < 0)
		return; /* EAGAIN: nobody woke it */
}

int mr_handoff_fd(const struct mr_handoff *h, unsigned worker)
{
	return h->sleeper[worker].fd;
}

void mr_handoff_wake(struct mr_handoff *h, unsigned worker)
{
	uint64_t one = 1;
	if (write(h->sleeper[worker].fd, &one, sizeof(one)) < 0)
		return; /* EAGAIN: it is readable as it is */
}

void mr_handoff_notify(struct mr_handoff *h, unsigned to)
{
	if (__atomic_fetch_add(&h->sleeper[to].asleep, 0, __ATOMIC_SEQ_CST))
		mr_handoff_wake(h, to);
}
