/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/hold.h"

#include <stdlib.h>
#include <string.h>

#define NONE UINT16_MAX

/* A packet that waits, and the decision it is to be carried out by: the record it came from may be another flow's by then. */
struct held {
	struct mr_frame frame;
	struct mr_parsed parsed;
	uint64_t hash;
	union {
		struct mr_rewrite4 r4;
		struct mr_rewrite6 r6;
	};
	uint32_t mss;
	uint16_t flags, nexthop;
	uint16_t next;
	uint8_t ingress, family;
};

/* Those of one slot, the oldest first. */
struct queue {
	uint16_t slot, head, tail, cnt;
};

struct hold {
	struct mr_hold head;
	uint32_t frame_cnt; /* how many may be held; as many queues */
	struct held *held;
	uint16_t unused;     /* list of held[] */
	struct queue *queue; /* [queue_cnt]: dense */
	uint32_t queue_cnt;
	uint16_t by_slot[MR_MAX_NEXTHOPS]; /* index into queue; NONE */
};

struct mr_hold *mr_hold_create(uint32_t frame_cnt)
{
	struct hold *h = malloc(sizeof(*h));
	if (frame_cnt > MR_HOLD_MAX)
		frame_cnt = MR_HOLD_MAX;
	if (!frame_cnt)
		frame_cnt = 1;
	if (!h)
		return NULL;
	h->frame_cnt = frame_cnt;
	h->head.cnt = h->queue_cnt = 0;
	h->held = malloc(frame_cnt * sizeof(*h->held));
	h->queue = malloc(frame_cnt * sizeof(*h->queue));
	if (!h->held || !h->queue) {
		mr_hold_destroy(&h->head);
		return NULL;
	}
	for (uint32_t i = 0; i < frame_cnt; i++)
		h->held[i].next = i + 1 < frame_cnt ? i + 1 : NONE;
	h->unused = 0;
	memset(h->by_slot, 0xff, sizeof(h->by_slot));
	return &h->head;
}

static struct hold *of(const struct mr_hold *head)
{
	return (struct hold *)head; /* the first member */
}

void mr_hold_destroy(struct mr_hold *head)
{
	struct hold *h = of(head);
	if (!h)
		return;
	free(h->held);
	free(h->queue);
	free(h);
}

bool mr_hold_waiting(const struct mr_hold *h, uint16_t slot)
{
	return of(h)->by_slot[slot] != NONE;
}

static struct queue *queue_of(struct hold *h, uint16_t slot)
{
	if (h->by_slot[slot] == NONE) {
		h->by_slot[slot] = h->queue_cnt;
		h->queue[h->queue_cnt++] = (struct queue){ .slot = slot, .head = NONE, .tail = NONE };
	}
	return &h->queue[h->by_slot[slot]];
}

bool mr_hold_put(struct mr_hold *head, uint16_t slot, const struct mr_frame *f, const struct mr_parsed *p,
	uint8_t ingress, const struct mr_found *how)
{
	struct hold *h = of(head);
	if (h->unused == NONE || (mr_hold_waiting(head, slot) && queue_of(h, slot)->cnt == MR_HOLD_PER_SLOT))
		return false;
	struct queue *q = queue_of(h, slot);
	uint16_t at = h->unused;
	struct held *x = &h->held[at];
	h->unused = x->next;
	x->frame = *f;
	x->parsed = *p;
	x->hash = how->hash;
	x->mss = how->mss;
	x->flags = how->st->flags;
	x->nexthop = how->st->nexthop;
	x->ingress = ingress;
	x->family = p->flags & MR_PKT_IP4 ? 4 : 6;
	if (x->family == 4)
		x->r4 = *how->r4;
	else
		x->r6 = *how->r6;
	x->next = NONE;
	if (q->tail == NONE)
		q->head = at;
	else
		h->held[q->tail].next = at;
	q->tail = at;
	q->cnt++;
	head->cnt++;
	return true;
}

/* Takes a queue out: what is put for its slot from now on begins another one. */
static struct queue take_queue(struct hold *h, uint32_t idx)
{
	struct queue q = h->queue[idx];
	h->head.cnt -= q.cnt;
	h->by_slot[q.slot] = NONE;
	h->queue[idx] = h->queue[--h->queue_cnt];
	if (idx < h->queue_cnt)
		h->by_slot[h->queue[idx].slot] = idx;
	return q;
}

static struct held take_first(struct hold *h, struct queue *q)
{
	uint16_t at = q->head;
	struct held x = h->held[at];
	q->head = x.next;
	h->held[at].next = h->unused;
	h->unused = at;
	return x;
}

/* Decided as it was; the slot says what that means now. */
static void carry_out(struct mr_worker *w, const struct held *x)
{
	const struct mr_flow_state st = { .flags = x->flags, .nexthop = x->nexthop };
	const struct mr_found how = { .st = &st,
		.r4 = &x->r4,
		.r6 = &x->r6,
		.ingress = x->ingress,
		.family = x->family,
		.hash = x->hash,
		.mss = x->mss };
	mr_turn_apply(w, x->frame, w->base + x->frame.addr, &x->parsed, x->ingress, &how);
}

bool mr_hold_release(struct mr_worker *w)
{
	struct hold *h = of(w->hold);
	bool any = false;
	/* Downwards: what takes the place of one that is taken out was looked at already, or was put just now, and waits a turn. */
	for (uint32_t i = h->queue_cnt; i-- > 0;) {
		if (mr_nexthops_kind(w->sh->nexthops, h->queue[i].slot) == MR_NH_RESOLVING)
			continue;
		struct queue q = take_queue(h, i);
		any = true;
		mr_transmit_tell_held(
			w); /* before they count as anything else: a reader then finds too few, never too many */
		while (q.head != NONE) {
			struct held x = take_first(h, &q);
			carry_out(w, &x);
		}
	}
	return any;
}

void mr_hold_discard(struct mr_worker *w)
{
	struct hold *h = of(w->hold);
	while (h->queue_cnt) {
		struct queue q = take_queue(h, h->queue_cnt - 1);
		while (q.head != NONE) {
			struct held x = take_first(h, &q);
			mr_transmit_drop(w, &x.frame, x.ingress, MR_REASON_STOPPING);
		}
	}
}
