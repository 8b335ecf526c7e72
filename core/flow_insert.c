/* SPDX-License-Identifier: BSD-2-Clause */
/* flow_insert.c - where a new record goes: first bucket, second, overflow; one or two keys at once, all or none. */
#include "core/flow_table.h"
#include <errno.h>

/* From this many taken ways on, a key goes to its second bucket when that one is emptier.  7 leaves 90 % of keys in their first
 * bucket at 80 % load and 0.5 % for the overflow; 8 would leave 94 % and 1.7 % (simulated, docs/flow-table.md). */
#define WAYS_FIRST 7

/* One record to be. */
struct item {
	const void *key;
	uint64_t hash;
	const void *rewrite;
	const struct mr_flow_state *st;
	uint8_t *bucket; /* where it goes; NULL = nowhere yet */
	unsigned way;
	bool spills;   /* not in its primary bucket */
	bool overflow; /* in the overflow */
};

/* A free way that may be used: free longer than any reader may still hold it.  Clocks of two workers differ by a little, so a slot
 * freed "in the future" is quarantined too. */
static bool way_usable(const struct mr_bucket_head *h, unsigned way, uint32_t now_ms)
{
	uint32_t since_ms = now_ms - h->freed_ms[way];

	return !h->freed_ms[way] || (since_ms >= MR_FLOW_QUARANTINE_MS && since_ms < UINT32_MAX - 60000);
}

/* How many usable ways there are that the other item has not got; of these the one the key is looked for first, or else the first. */
static unsigned ways_usable(
	const uint8_t *bucket, const struct item *it, const struct item *other, uint32_t now_ms, unsigned *best)
{
	const struct mr_bucket_head *h = (const struct mr_bucket_head *)bucket;
	unsigned usable = 0, cnt = 0, first = mr_flow_way_first(it->hash);

	for (uint32_t free_ways = mr_flow_match(h, 0); free_ways; free_ways &= free_ways - 1) {
		unsigned way = (unsigned)__builtin_ctz(free_ways) / 2;
		if ((other && other->bucket == bucket && other->way == way) || !way_usable(h, way, now_ms))
			continue;
		usable |= 1u << way;
		cnt++;
	}
	if (usable)
		*best = usable >> first & 1 ? first : (unsigned)__builtin_ctz(usable);
	return cnt;
}

/* ---- insert --------------------------------------------------------------------------------------------- */

/* The way of a key in a locked bucket, or -1. */
static int find_in(const struct mr_flow_side *s, uint8_t *bucket, const struct item *it)
{
	uint32_t found = mr_flow_match((struct mr_bucket_head *)bucket, mr_flow_tag(it->hash));

	for (; found; found &= found - 1) {
		unsigned way = (unsigned)__builtin_ctz(found) / 2;
		if (mr_flow_record_is(mr_flow_record_of(s, bucket, way), it->key, s->key_bytes, s->state_offset,
			    s->record_bytes, NULL))
			return (int)way;
	}
	return -1;
}

/* How far one looks, and what is locked for it: each step only when the one before does not do. */
enum reach { PRIMARY, SECONDARY, OVERFLOW };

/* Whether the key may live outside of its locked primary bucket. */
static bool may_spill(const struct mr_flow_side *s, const struct item *it)
{
	const struct mr_bucket_head *h = (const struct mr_bucket_head *)mr_flow_primary_of(s, it->hash);

	return __atomic_load_n(&h->spilled, __ATOMIC_RELAXED) & mr_flow_spill_bit(it->hash);
}

static bool may_overflow(const struct mr_flow_side *s, const struct item *it)
{
	const struct mr_bucket_head *h = (const struct mr_bucket_head *)mr_flow_primary_of(s, it->hash);

	return may_spill(s, it) && h->spill >= MR_FLOW_SPILL_OVERFLOW;
}

/* Looks for the key where it may be, as far as is locked.  1 found (bucket and way set), 0 not there, -EAGAIN look further. */
static int find_locked(const struct mr_flow_side *s, struct item *it, enum reach reach)
{
	it->bucket = mr_flow_primary_of(s, it->hash);
	int way = find_in(s, it->bucket, it);
	if (way < 0 && may_spill(s, it)) {
		if (reach < SECONDARY)
			return -EAGAIN;
		it->bucket = mr_flow_secondary_of(s, it->hash);
		way = find_in(s, it->bucket, it);
		for (unsigned i = 0; way < 0 && i < 2 && may_overflow(s, it); i++) {
			if (reach < OVERFLOW)
				return -EAGAIN;
			it->bucket = mr_flow_overflow_at(s, it->hash, i);
			way = find_in(s, it->bucket, it);
		}
	}
	if (way < 0)
		return 0;
	it->way = (unsigned)way;
	return 1;
}

/* Chooses a place among the locked buckets.  0; -EAGAIN when others must be asked; -ENOSPC. */
static int choose(
	const struct mr_flow_side *s, struct item *it, const struct item *other, enum reach reach, uint32_t now_ms)
{
	unsigned way2 = 0;

	it->bucket = mr_flow_primary_of(s, it->hash);
	unsigned left1 = ways_usable(it->bucket, it, other, now_ms, &it->way);
	if (left1 > MR_FLOW_WAYS - WAYS_FIRST)
		return 0;
	if (reach < SECONDARY)
		return -EAGAIN;
	unsigned left2 = ways_usable(mr_flow_secondary_of(s, it->hash), it, other, now_ms, &way2);
	if (left1 && left1 >= left2)
		return 0;
	it->spills = true;
	it->bucket = mr_flow_secondary_of(s, it->hash);
	it->way = way2;
	if (left2)
		return 0;
	if (reach < OVERFLOW)
		return -EAGAIN;
	it->overflow = true;
	uint8_t *over1 = mr_flow_overflow_at(s, it->hash, 0), *over2 = mr_flow_overflow_at(s, it->hash, 1);
	left1 = ways_usable(over1, it, other, now_ms, &it->way);
	left2 = ways_usable(over2, it, other, now_ms, &way2);
	it->bucket = over1;
	if (left1 < left2) {
		it->bucket = over2;
		it->way = way2;
	}
	return left1 || left2 ? 0 : -ENOSPC;
}

/* Writes a record where nobody looks yet: odd, words, even.  Release stores, as their readers acquire. */
static inline __attribute__((always_inline)) void write_sized(
	uint8_t *record, const struct item *it, size_t key_bytes, size_t state_offset, size_t record_bytes)
{
	union {
		uint64_t word[sizeof(struct mr_flow6) / 8];
		uint32_t half[sizeof(struct mr_flow6) / 4];
	} image;
	uint64_t *to = (uint64_t *)record;
	uint32_t *seq = (uint32_t *)(record + state_offset);
	size_t seq_word = state_offset / 8, end = state_offset + sizeof(*it->st);

	memcpy(image.word, it->key, key_bytes);
	memcpy((char *)image.word + key_bytes, it->rewrite, state_offset - key_bytes);
	memcpy((char *)image.word + state_offset, it->st, sizeof(*it->st));
	memset((char *)image.word + end, 0, record_bytes - end);

	uint32_t was = __atomic_load_n(seq, __ATOMIC_RELAXED);
	__atomic_store_n(seq, was + 1, __ATOMIC_RELAXED);
	for (size_t i = 0; i < record_bytes / 8; i++) {
		if (i != seq_word)
			__atomic_store_n(to + i, image.word[i], __ATOMIC_RELEASE);
	}
	__atomic_store_n(seq + 1, image.half[2 * seq_word + 1], __ATOMIC_RELEASE);
	__atomic_store_n(seq, was + 2, __ATOMIC_RELEASE);
}

static void record_write(const struct mr_flow_side *s, const struct item *it)
{
	uint8_t *record = mr_flow_record_of(s, it->bucket, it->way);

	if (s->record_bytes == sizeof(struct mr_flow4))
		write_sized(record, it, sizeof(struct mr_key4), offsetof(struct mr_flow4, st), sizeof(struct mr_flow4));
	else
		write_sized(record, it, sizeof(struct mr_key6), offsetof(struct mr_flow6, st), sizeof(struct mr_flow6));
}

static void publish(const struct mr_flow_side *s, const struct item *it)
{
	struct mr_bucket_head *h = (struct mr_bucket_head *)it->bucket;

	if (it->spills) {
		struct mr_bucket_head *first = (struct mr_bucket_head *)mr_flow_primary_of(s, it->hash);
		uint32_t spill = first->spill + (it->overflow ? MR_FLOW_SPILL_OVERFLOW : MR_FLOW_SPILL_SECOND);
		__atomic_store_n(&first->spill, spill, __ATOMIC_RELEASE);
		__atomic_store_n(&first->spilled, first->spilled | mr_flow_spill_bit(it->hash), __ATOMIC_RELEASE);
	}
	__atomic_store_n(&h->tag[it->way], mr_flow_tag(it->hash), __ATOMIC_RELEASE);
}

/* Finds or places all items under the locks held.  0; -EEXIST with *at naming it and *holder its session; -ENOSPC; -EAGAIN when other
 * buckets must be looked at. */
static int place(const struct mr_flows *t, const struct mr_flow_side *s, struct item *it, unsigned n, enum reach reach,
	uint32_t now_ms, mr_flow_ref *at, uint32_t *holder)
{
	bool again = false;

	for (unsigned i = 0; i < n; i++) {
		int is = find_locked(s, &it[i], reach);
		if (is == 1) {
			uint8_t *record = mr_flow_record_of(s, it[i].bucket, it[i].way);
			*at = mr_flow_ref_of(t, s, it[i].bucket, it[i].way);
			*holder = __atomic_load_n(&mr_flow_state_of(s, record)->session, __ATOMIC_RELAXED);
			return -EEXIST;
		}
		again |= is == -EAGAIN;
	}
	if (again)
		return -EAGAIN;
	for (unsigned i = 0; i < n; i++) {
		it[i].spills = it[i].overflow = false;
		int err = choose(s, &it[i], i ? &it[0] : NULL, reach, now_ms);
		if (err)
			return err;
	}
	return 0;
}

static void lock_for(
	const struct mr_flow_side *s, const struct item *it, unsigned n, enum reach reach, struct mr_flow_lockset *l)
{
	for (unsigned i = 0; i < n; i++) {
		mr_flow_lockset_add(l, mr_flow_primary_of(s, it[i].hash));
		if (reach >= SECONDARY)
			mr_flow_lockset_add(l, mr_flow_secondary_of(s, it[i].hash));
		if (reach >= OVERFLOW) {
			mr_flow_lockset_add(l, mr_flow_overflow_at(s, it[i].hash, 0));
			mr_flow_lockset_add(l, mr_flow_overflow_at(s, it[i].hash, 1));
		}
	}
	mr_flow_lockset_lock(l);
}

static void count(struct mr_flows *t, struct mr_flow_side *s, const struct item *it, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (it[i].st->flags & MR_FLOW_OFFLOAD)
			__atomic_fetch_add(&t->offloaded, 1, __ATOMIC_RELAXED);
		if (it[i].overflow)
			__atomic_fetch_add(&s->overflow_live, 1, __ATOMIC_RELAXED);
	}
	__atomic_fetch_add(&s->live, n, __ATOMIC_RELAXED);
}

/* Inserts one or two records, all or none.  The references are stored before the records can be found. */
static int insert(struct mr_flows *t, struct mr_flow_side *s, struct item *it, unsigned n, uint32_t now_ms,
	mr_flow_ref *ref, uint32_t *holder)
{
	struct mr_flow_lockset l = { .cnt = 0 };
	mr_flow_ref at = MR_FLOW_NONE;
	int err = -EAGAIN;

	if (!s->bucket_cnt)
		return -ENOSPC;
	for (unsigned i = 0; i < n; i++)
		__builtin_prefetch(mr_flow_primary_of(s, it[i].hash), 1);
	for (enum reach reach = PRIMARY; err == -EAGAIN; reach++) {
		mr_flow_lockset_unlock(&l);
		lock_for(s, it, n, reach, &l);
		err = place(t, s, it, n, reach, now_ms, &at, holder);
	}
	if (!err)
		count(t, s, it, n); /* before the records: a locked add would wait for their cache lines */
	for (unsigned i = 0; !err && i < n; i++) {
		__atomic_store_n(&ref[i], mr_flow_ref_of(t, s, it[i].bucket, it[i].way), __ATOMIC_RELAXED);
		record_write(s, &it[i]);
	}
	for (unsigned i = n; !err && i--;)
		publish(s, &it[i]);
	mr_flow_lockset_unlock(&l);
	if (err == -EEXIST)
		ref[0] = at;
	return err;
}

void mr_flows_prefetch(const struct mr_flows *t, bool v6, uint64_t hash)
{
	const struct mr_flow_side *s = &t->side[v6];

	if (!s->bucket_cnt)
		return;
	uint8_t *bucket = mr_flow_primary_of(s, hash);
	__builtin_prefetch(bucket, 1);
	__builtin_prefetch(mr_flow_record_of(s, bucket, mr_flow_way_first(hash)), 1);
}

int mr_flows_insert4(struct mr_flows *t, const struct mr_key4 *key, uint64_t hash, const struct mr_rewrite4 *rw,
	const struct mr_flow_state *st, uint32_t now_ms, mr_flow_ref *ref)
{
	struct item it = { .key = key, .hash = hash, .rewrite = rw, .st = st };
	uint32_t holder;

	return insert(t, &t->side[0], &it, 1, now_ms, ref, &holder);
}

int mr_flows_insert6(struct mr_flows *t, const struct mr_key6 *key, uint64_t hash, const struct mr_rewrite6 *rw,
	const struct mr_flow_state *st, uint32_t now_ms, mr_flow_ref *ref)
{
	struct item it = { .key = key, .hash = hash, .rewrite = rw, .st = st };
	uint32_t holder;

	return insert(t, &t->side[1], &it, 1, now_ms, ref, &holder);
}

int mr_flows_insert_pair(struct mr_flows *t, bool v6, const struct mr_flow_insert in[2], uint32_t now_ms,
	mr_flow_ref ref[2], uint32_t *holder)
{
	struct item it[2] = { { .key = in[0].key, .hash = in[0].hash, .rewrite = in[0].rewrite, .st = in[0].st },
		{ .key = in[1].key, .hash = in[1].hash, .rewrite = in[1].rewrite, .st = in[1].st } };

	return insert(t, &t->side[v6], it, 2, now_ms, ref, holder);
}
