/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/later.h"

#include "core/keys.h"

#include <stdlib.h>
#include <string.h>

#define WAYS 4 /* places a key may have */

struct entry {
	struct mr_flow_key key;
	struct mr_parsed parsed;
	uint32_t due_ms;
	uint8_t kind; /* 0 = free */
	uint8_t ingress;
	uint8_t len;
	uint8_t frame[MR_LATER_BYTES];
};

_Static_assert(MR_LATER_BYTES <= UINT8_MAX, "len");

struct later {
	struct mr_later head;
	uint64_t seed;
	struct entry entry[MR_LATER_MAX];
};

static struct later *of(struct mr_later *head)
{
	return (struct later *)head; /* the first member */
}

struct mr_later *mr_later_create(uint64_t seed)
{
	struct later *l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->seed = seed;
	return &l->head;
}

void mr_later_destroy(struct mr_later *l)
{
	free(l);
}

/* Its place; NULL: others are there. */
static struct entry *place(struct later *l, const struct mr_flow_key *key)
{
	struct entry *unused = NULL;
	for (unsigned i = 0; i < WAYS; i++) {
		struct entry *e = &l->entry[(key->hash + i) % MR_LATER_MAX];
		if (!e->kind)
			unused = unused ? unused : e;
		else if (e->key.family == key->family && mr_key_equal(&e->key, key))
			return e;
	}
	return unused;
}

bool mr_later_put(struct mr_later *head, const struct mr_packet *p, unsigned kind, uint32_t due_ms)
{
	struct later *l = of(head);
	struct mr_flow_key key;
	if (!mr_packet_key(p->parsed, p->data, p->zone, l->seed, &key))
		return false;
	struct entry *e = place(l, &key);
	if (!e || e->kind)
		return e != NULL;
	e->key = key;
	e->parsed = *p->parsed;
	e->kind = (uint8_t)kind;
	e->ingress = p->ingress;
	e->due_ms = due_ms;
	e->len = (uint8_t)(p->frame.len < MR_LATER_BYTES ? p->frame.len : MR_LATER_BYTES);
	memcpy(e->frame, p->data, e->len);
	/* what can be quoted */
	if (e->parsed.l3_off + e->parsed.l3_len > e->len)
		e->parsed.l3_len = (uint16_t)(e->len - e->parsed.l3_off);
	if (!head->cnt++ || (int32_t)(due_ms - head->next_ms) < 0)
		head->next_ms = due_ms;
	return true;
}

void mr_later_send(struct mr_worker *w)
{
	struct later *l = of(w->later);
	uint32_t now_ms = w->pass.now_ms, next_ms = now_ms + INT32_MAX;
	enum mr_direction dir;
	for (unsigned i = 0; i < MR_LATER_MAX; i++) {
		struct entry *e = &l->entry[i];
		if (!e->kind)
			continue;
		if ((int32_t)(now_ms - e->due_ms) < 0) {
			next_ms = (int32_t)(e->due_ms - next_ms) < 0 ? e->due_ms : next_ms;
			continue;
		}
		if (!mr_keys_holder(w->sh->flows, &e->key, &dir))
			mr_answer(w, e->frame, e->len, &e->parsed, e->ingress, e->kind, 0);
		e->kind = 0;
		l->head.cnt--;
	}
	l->head.next_ms = next_ms;
}
