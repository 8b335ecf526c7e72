/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/nexthop.h"

#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define WORDS       (sizeof(struct mr_nexthop) / sizeof(uint64_t))
#define SLOTS_BYTES (MR_MAX_NEXTHOPS * sizeof(struct mr_nexthop))

/* Copied in words, each atomically: the sequence number then tells whether they belong together. */
struct mr_nexthops {
	struct mr_nexthop *slot; /* [MR_MAX_NEXTHOPS] */
	bool given;
};

_Static_assert(sizeof(struct mr_nexthop) % sizeof(uint64_t) == 0, "whole words");
_Static_assert(offsetof(struct mr_nexthop, seq) == 0, "the first word holds the sequence number");

struct mr_nexthops *mr_nexthops_create(struct mr_nexthop *memory)
{
	struct mr_nexthops *t = malloc(sizeof(*t));
	if (!t)
		return NULL;
	t->given = memory != NULL;
	t->slot = memory ? memory : aligned_alloc(64, SLOTS_BYTES);
	if (!t->slot) {
		free(t);
		return NULL;
	}
	if (!memory)
		memset(t->slot, 0, SLOTS_BYTES);
	struct mr_nexthop back = { .kind = MR_NH_BACK }, kernel = { .kind = MR_NH_KERNEL };
	mr_nexthops_set(t, MR_NEXTHOP_BACK, &back);
	mr_nexthops_set(t, MR_NEXTHOP_KERNEL, &kernel);
	return t;
}

void mr_nexthops_destroy(struct mr_nexthops *t)
{
	if (t && !t->given)
		free(t->slot);
	free(t);
}

void mr_nexthops_set(struct mr_nexthops *t, uint16_t slot, const struct mr_nexthop *nh)
{
	uint64_t *to = (uint64_t *)&t->slot[slot], from[WORDS];
	uint32_t seq = __atomic_load_n(&t->slot[slot].seq, __ATOMIC_RELAXED);
	memcpy(from, nh, sizeof(from));
	__atomic_store_n(&t->slot[slot].seq, seq + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	memcpy(from, &(uint32_t){ seq + 1 }, sizeof(uint32_t)); /* still odd: the last store makes it even */
	for (unsigned i = 0; i < WORDS; i++)
		__atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED);
	__atomic_store_n(&t->slot[slot].seq, seq + 2, __ATOMIC_RELEASE);
}

void mr_nexthops_get(const struct mr_nexthops *t, uint16_t slot, struct mr_nexthop *out)
{
	const struct mr_nexthop *nh = &t->slot[slot];
	const uint64_t *from = (const uint64_t *)nh;
	uint64_t to[WORDS];
	/* A writer writes 16 words, so this ends at once, unless it was put off its core: then it gets ours. */
	for (unsigned tries = 1;; tries++) {
		if (tries % 1024 == 0)
			sched_yield();
		uint32_t seq = __atomic_load_n(&nh->seq, __ATOMIC_ACQUIRE);
		for (unsigned i = 0; i < WORDS; i++)
			to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (!(seq & 1) && seq == __atomic_load_n(&nh->seq, __ATOMIC_RELAXED))
			break;
	}
	memcpy(out, to, sizeof(*out));
}

uint8_t mr_nexthops_kind(const struct mr_nexthops *t, uint16_t slot)
{
	/* The word it lies in, as the writer stores it. */
	const uint64_t *at = (const uint64_t *)&t->slot[slot];
	uint64_t first = __atomic_load_n(at, __ATOMIC_RELAXED);
	struct mr_nexthop head;
	memcpy(&head, &first, sizeof(first));
	return head.kind;
}
