/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * neighbour_free.c - slots nobody uses any more are used again.
 *
 *     unused ─out of the index─► retired ─epoch─► nobody has it in hand ─marks─► no record refers to it ─► free
 *                                   ▲ a worker may take it back until the end        │ one does: stays, served as before
 *                                   └────────────────────────────────────────────────┘
 */
#include "core/neighbour_table.h"

#include <string.h>

#define ROUND_MS        10000 /* from round to round */
#define ROUND_SCARCE_MS 1000  /* when fewer than a quarter are free */
#define UNUSED_MS       60000
#define SCARCE_MS       10000 /* unused, when slots are scarce */
#define SCARCE_IDLE_MS  5000  /* ... and it has no MAC: scans make many of these */
#define AT_ONCE         256   /* slots looked at under one hold of the lock */
#define SLOTS           (MR_MAX_NEXTHOPS - MR_NEXTHOP_FIRST_FREE)

static bool quiet(const struct mr_neighbours *t, uint16_t slot)
{
	const struct mr_neighbour_slot *s = &t->slot[slot];
	return s->state != MR_NEIGHBOUR_FREE && s->state != MR_NEIGHBOUR_TUNNEL && s->state != MR_NEIGHBOUR_RESOLVING &&
		!s->tunnel_cnt && !__atomic_load_n(&t->wanted[slot], __ATOMIC_RELAXED);
}

static bool unused(const struct mr_neighbours *t, uint16_t slot, uint32_t now_ms, bool scarce)
{
	uint32_t limit_ms = !scarce                          ? UNUSED_MS
		: t->slot[slot].state == MR_NEIGHBOUR_ROUTED ? SCARCE_MS
							     : SCARCE_IDLE_MS;
	return mr_neighbours_idle_ms(now_ms, __atomic_load_n(&t->used_ms[slot], __ATOMIC_RELAXED)) >= limit_ms;
}

static void retire(struct mr_neighbours *t, uint32_t now_ms, bool scarce)
{
	for (uint32_t from = MR_NEXTHOP_FIRST_FREE; from < MR_MAX_NEXTHOPS; from += AT_ONCE) {
		mr_neighbours_lock(t);
		for (uint32_t i = from; i < from + AT_ONCE && i < MR_MAX_NEXTHOPS; i++) {
			uint16_t slot = (uint16_t)i;
			if (!t->slot[slot].linked || !quiet(t, slot) || !unused(t, slot, now_ms, scarce))
				continue;
			mr_neighbours_unlink(t, slot);
			t->slot[slot].retired_used_ms = __atomic_load_n(&t->used_ms[slot], __ATOMIC_RELAXED);
			mr_neighbours_bit(t->retired_bits, slot, true);
		}
		mr_neighbours_unlock(t);
	}
	mr_neighbours_lock(t);
	memcpy(t->passing, t->retired_bits, sizeof(t->passing));
	mr_neighbours_unlock(t);
}

static void mark(void *arg, uint16_t slot)
{
	struct mr_neighbours *t = arg;
	mr_neighbours_bit(t->marked, slot, true);
}

/* Records are looked at last, so what a worker put into one before it lost the slot from its hands is seen. */
static void release(struct mr_neighbours *t)
{
	memset(t->marked, 0, sizeof(t->marked));
	t->opt.referred(t->opt.ctx, mark, t);
	for (uint32_t i = mr_neighbours_bit_next(t->passing, 0); i;
		i = i + 1 < MR_MAX_NEXTHOPS ? mr_neighbours_bit_next(t->passing, i + 1) : 0) {
		uint16_t slot = (uint16_t)i;
		mr_neighbours_lock(t);
		uint32_t used_ms = __atomic_load_n(&t->used_ms[slot], __ATOMIC_RELAXED);
		bool touched = used_ms != t->slot[slot].retired_used_ms;
		if (mr_neighbours_bit_is(t->retired_bits, slot) && quiet(t, slot) && !touched &&
			!mr_neighbours_bit_is(t->marked, slot))
			mr_neighbours_give(t, slot);
		else
			t->slot[slot].retired_used_ms = used_ms;
		mr_neighbours_unlock(t);
	}
}

static bool any(const uint64_t *bits)
{
	return mr_neighbours_bit_next(bits, 0);
}

void mr_neighbours_free_round(struct mr_neighbours *t, uint32_t now_ms)
{
	if (!t->opt.referred)
		return;
	if (t->freeing) {
		if (!mr_epoch_passed(t->opt.epoch, t->freeing_stamp))
			return;
		release(t);
		t->freeing = false;
		return;
	}
	mr_neighbours_lock(t);
	bool scarce = t->free_cnt < SLOTS / 4;
	mr_neighbours_unlock(t);
	if (now_ms - t->freeing_ms < (scarce ? ROUND_SCARCE_MS : ROUND_MS))
		return;
	t->freeing_ms = now_ms;
	retire(t, now_ms, scarce);
	if (!any(t->passing))
		return;
	t->freeing_stamp = mr_epoch_retire(t->opt.epoch);
	t->freeing = true;
}
