/* SPDX-License-Identifier: BSD-2-Clause */
/* log_ring.c - events between a worker and the writer. */
#include "pipelines/nat44/log_part.h"

#include <errno.h>
#include <stdlib.h>

#define RELAXED memory_order_relaxed
#define ACQUIRE memory_order_acquire
#define RELEASE memory_order_release

int nat_log_ring_init(struct nat_log_ring *r, uint32_t cnt)
{
	r->event = calloc(cnt, sizeof(*r->event));
	r->mask = cnt - 1;
	return r->event ? 0 : -ENOMEM;
}

void nat_log_ring_end(struct nat_log_ring *r)
{
	free(r->event);
	r->event = NULL;
}

/* The first since the writer told of them: it stores `told` after it has read `lost_from_ns`, so a range is too wide at most. */
static void lose(struct nat_log_ring *r, uint64_t time_ns)
{
	uint64_t lost = atomic_load_explicit(&r->lost, RELAXED);
	if (lost == atomic_load_explicit(&r->told, ACQUIRE))
		atomic_store_explicit(&r->lost_from_ns, time_ns, RELAXED);
	atomic_store_explicit(&r->lost_to_ns, time_ns, RELAXED);
	atomic_store_explicit(&r->lost, lost + 1, RELEASE);
}

bool nat_log_ring_put(struct nat_log_ring *r, const struct nat_event *e)
{
	uint64_t head = atomic_load_explicit(&r->head, RELAXED);
	if (head - r->tail_seen > r->mask) {
		r->tail_seen = atomic_load_explicit(&r->tail, ACQUIRE);
		if (head - r->tail_seen > r->mask) {
			lose(r, e->time_ns);
			return false;
		}
	}
	r->event[head & r->mask] = *e;
	atomic_store_explicit(&r->head, head + 1, RELEASE);
	return true;
}

uint64_t nat_log_ring_head(const struct nat_log_ring *r)
{
	return atomic_load_explicit(&r->head, ACQUIRE);
}

const struct nat_event *nat_log_ring_peek(const struct nat_log_ring *r)
{
	return &r->event[atomic_load_explicit(&r->tail, RELAXED) & r->mask];
}

void nat_log_ring_pop(struct nat_log_ring *r)
{
	atomic_store_explicit(&r->tail, atomic_load_explicit(&r->tail, RELAXED) + 1, RELEASE);
}

uint64_t nat_log_ring_waiting(const struct nat_log_ring *r)
{
	uint64_t tail = atomic_load_explicit(&r->tail, RELAXED), head = atomic_load_explicit(&r->head, RELAXED);
	return head > tail ? head - tail : 0;
}

void nat_log_loss_add(struct nat_log_loss *l, uint64_t cnt, uint64_t from_ns, uint64_t to_ns)
{
	if (!cnt)
		return;
	if (!l->cnt || from_ns < l->from_ns)
		l->from_ns = from_ns;
	if (!l->cnt || to_ns > l->to_ns)
		l->to_ns = to_ns;
	l->cnt += cnt;
}

void nat_log_ring_tell(struct nat_log_ring *r, struct nat_log_loss *l)
{
	uint64_t lost = atomic_load_explicit(&r->lost, ACQUIRE), told = atomic_load_explicit(&r->told, RELAXED);
	nat_log_loss_add(l, lost - told, atomic_load_explicit(&r->lost_from_ns, RELAXED),
		atomic_load_explicit(&r->lost_to_ns, RELAXED));
	if (lost != told)
		atomic_store_explicit(&r->told, lost, RELEASE);
}
