/* SPDX-License-Identifier: BSD-2-Clause */
/* flow.c - the flow table's memory, references to records, and what may happen to a live one. */
#include "core/flow_table.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>

#define HUGE_BYTES ((size_t)2 << 20)

/* ---- memory --------------------------------------------------------------------------------------------- */

static uint32_t buckets_for(uint32_t capacity)
{
	uint64_t cnt = ((uint64_t)capacity * 10 + 8 * MR_FLOW_WAYS - 1) / (8 * MR_FLOW_WAYS);

	if (!capacity)
		return 0;
	return cnt < 2 ? 2 : (uint32_t)cnt;
}

static uint32_t overflow_for(uint32_t bucket_cnt)
{
	return bucket_cnt ? 2 + bucket_cnt / 128 : 0;
}

size_t mr_flows_bytes4(uint32_t capacity4)
{
	return (size_t)buckets_for(capacity4) * sizeof(struct mr_bucket4);
}

size_t mr_flows_bytes6(uint32_t capacity6)
{
	return (size_t)buckets_for(capacity6) * sizeof(struct mr_bucket6);
}

static int side_map(struct mr_flow_side *s, size_t bytes, bool want_huge)
{
	if (want_huge) {
		size_t huge_bytes = (bytes + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1);
		void *p = mmap(NULL, huge_bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
		if (p != MAP_FAILED) {
			s->mapped = p;
			s->mapped_bytes = huge_bytes;
			s->huge = true;
			return 0;
		}
	}
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	if (want_huge)
		madvise(p, bytes, MADV_HUGEPAGE); /* a hint: refused, the pages stay small */
	s->mapped = p;
	s->mapped_bytes = bytes;
	return 0;
}

static int side_create(struct mr_flow_side *s, uint32_t capacity, bool v6, void *given, bool want_huge)
{
	s->bucket_cnt = buckets_for(capacity);
	s->overflow_cnt = overflow_for(s->bucket_cnt);
	s->bucket_bytes = v6 ? sizeof(struct mr_bucket6) : sizeof(struct mr_bucket4);
	s->record_bytes = v6 ? sizeof(struct mr_flow6) : sizeof(struct mr_flow4);
	s->state_offset = v6 ? offsetof(struct mr_flow6, st) : offsetof(struct mr_flow4, st);
	s->key_bytes = v6 ? sizeof(struct mr_key6) : sizeof(struct mr_key4);
	if (!s->bucket_cnt)
		return 0;

	size_t own_bytes = (size_t)s->overflow_cnt * s->bucket_bytes;
	size_t base_bytes = (size_t)s->bucket_cnt * s->bucket_bytes;
	if (given)
		s->given_bytes = base_bytes;
	else
		own_bytes += base_bytes;
	int err = side_map(s, own_bytes, want_huge);
	if (err)
		return err;
	s->base = given ? given : s->mapped;
	s->overflow = given ? s->mapped : (uint8_t *)s->mapped + base_bytes;
	return 0;
}

int mr_flows_create(const struct mr_flows_options *opt, struct mr_flows **out, struct mr_error *e)
{
	const uint32_t max = MR_FLOW_REF_MASK / 10 * 8;

	if (opt->capacity4 > max || opt->capacity6 > max)
		return mr_error_set(e, -EINVAL, "a flow table holds at most %u records", max);
	if ((uintptr_t)opt->memory4 % 64 || (uintptr_t)opt->memory6 % 64)
		return mr_error_set(e, -EINVAL, "memory given for a flow table is not aligned to 64 bytes");

	struct mr_flows *t = aligned_alloc(64, sizeof(*t));
	if (!t)
		return mr_error_set(e, -ENOMEM, "no memory for a flow table");
	memset(t, 0, sizeof(*t));
	t->seed = opt->seed;
	if (!t->seed && getrandom(&t->seed, sizeof(t->seed), 0) != sizeof(t->seed))
		goto fail;
	if (side_create(&t->side[0], opt->capacity4, false, opt->memory4, opt->want_huge))
		goto fail;
	if (side_create(&t->side[1], opt->capacity6, true, opt->memory6, opt->want_huge))
		goto fail;
	*out = t;
	return 0;
fail:
	mr_flows_destroy(t);
	return mr_error_set(e, -ENOMEM, "no memory for a flow table of %u IPv4 and %u IPv6 records (%zu bytes)",
		opt->capacity4, opt->capacity6, mr_flows_bytes4(opt->capacity4) + mr_flows_bytes6(opt->capacity6));
}

void mr_flows_destroy(struct mr_flows *t)
{
	if (!t)
		return;
	for (unsigned i = 0; i < 2; i++) {
		if (t->side[i].mapped)
			munmap(t->side[i].mapped, t->side[i].mapped_bytes);
	}
	free(t);
}

uint64_t mr_flows_seed(const struct mr_flows *t)
{
	return t->seed;
}

uint32_t mr_flows_buckets4(const struct mr_flows *t)
{
	return t->side[0].bucket_cnt;
}

uint32_t mr_flows_buckets6(const struct mr_flows *t)
{
	return t->side[1].bucket_cnt;
}

void mr_flows_usage(const struct mr_flows *t, struct mr_flows_usage *out)
{
	const struct mr_flow_side *a = &t->side[0], *b = &t->side[1];

	*out = (struct mr_flows_usage){
		.live4 = __atomic_load_n(&a->live, __ATOMIC_RELAXED),
		.live6 = __atomic_load_n(&b->live, __ATOMIC_RELAXED),
		.overflow4 = __atomic_load_n(&a->overflow_live, __ATOMIC_RELAXED),
		.overflow6 = __atomic_load_n(&b->overflow_live, __ATOMIC_RELAXED),
		.offloaded = __atomic_load_n(&t->offloaded, __ATOMIC_RELAXED),
		.slots4 = (uint64_t)(a->bucket_cnt + a->overflow_cnt) * MR_FLOW_WAYS,
		.slots6 = (uint64_t)(b->bucket_cnt + b->overflow_cnt) * MR_FLOW_WAYS,
		.bytes = a->mapped_bytes + a->given_bytes + b->mapped_bytes + b->given_bytes,
		.huge = (!a->mapped || a->huge) && (!b->mapped || b->huge) && (a->mapped || b->mapped),
	};
}

/* ---- references ----------------------------------------------------------------------------------------- */

struct mr_flow_state *mr_flows_state(const struct mr_flows *t, mr_flow_ref ref)
{
	const struct mr_flow_side *s;
	unsigned way;
	uint8_t *bucket = mr_flow_ref_bucket(t, ref, &s, &way);

	if (!bucket || !__atomic_load_n(&((struct mr_bucket_head *)bucket)->tag[way], __ATOMIC_ACQUIRE))
		return NULL;
	return mr_flow_state_of(s, mr_flow_record_of(s, bucket, way));
}

static const void *record_named(const struct mr_flows *t, mr_flow_ref ref)
{
	const struct mr_flow_side *s;
	unsigned way;
	uint8_t *bucket = mr_flow_ref_bucket(t, ref, &s, &way);

	return bucket ? mr_flow_record_of(s, bucket, way) : NULL;
}

const struct mr_flow4 *mr_flows_record4(const struct mr_flows *t, mr_flow_ref ref)
{
	return ref & MR_FLOW_REF_V6 ? NULL : record_named(t, ref);
}

const struct mr_flow6 *mr_flows_record6(const struct mr_flows *t, mr_flow_ref ref)
{
	return ref & MR_FLOW_REF_V6 ? record_named(t, ref) : NULL;
}

static mr_flow_ref ref_of_record(const struct mr_flows *t, const struct mr_flow_side *s, const uint8_t *record)
{
	bool overflow = record < s->base || record >= s->base + (size_t)s->bucket_cnt * s->bucket_bytes;
	size_t in_bucket = (size_t)(record - (overflow ? s->overflow : s->base)) % s->bucket_bytes;

	return mr_flow_ref_of(
		t, s, record - in_bucket, (unsigned)((in_bucket - sizeof(struct mr_bucket_head)) / s->record_bytes));
}

static void each_in(const struct mr_flows *t, const struct mr_flow_side *s, uint8_t *bucket, uint32_t bucket_cnt,
	mr_flows_fn fn, void *ctx)
{
	for (uint32_t i = 0; i < bucket_cnt; i++, bucket += s->bucket_bytes) {
		const struct mr_bucket_head *h = (const struct mr_bucket_head *)bucket;
		for (unsigned way = 0; way < MR_FLOW_WAYS; way++)
			if (__atomic_load_n(&h->tag[way], __ATOMIC_ACQUIRE))
				fn(ctx, mr_flow_ref_of(t, s, bucket, way),
					mr_flow_state_of(s, mr_flow_record_of(s, bucket, way)));
	}
}

void mr_flows_each(const struct mr_flows *t, mr_flows_fn fn, void *ctx)
{
	for (unsigned side = 0; side < 2; side++) {
		const struct mr_flow_side *s = &t->side[side];
		if (!__atomic_load_n(&s->live, __ATOMIC_RELAXED))
			continue;
		each_in(t, s, s->base, s->bucket_cnt, fn, ctx);
		if (__atomic_load_n(&s->overflow_live, __ATOMIC_RELAXED))
			each_in(t, s, s->overflow, s->overflow_cnt, fn, ctx);
	}
}

bool mr_flows_each_some(const struct mr_flows *t, uint64_t *at, uint32_t bucket_cnt, mr_flows_fn fn, void *ctx)
{
	uint64_t skip = *at;

	for (unsigned part = 0; part < 4; part++) { /* of each side the buckets, then the overflow */
		const struct mr_flow_side *s = &t->side[part / 2];
		uint8_t *first = part % 2 ? s->overflow : s->base;
		uint32_t cnt = part % 2 ? s->overflow_cnt : s->bucket_cnt;
		const uint64_t *live = part % 2 ? &s->overflow_live : &s->live;

		if (skip >= cnt) {
			skip -= cnt;
			continue;
		}
		if (!__atomic_load_n(live, __ATOMIC_RELAXED)) {
			*at += cnt - skip;
			skip = 0;
			continue;
		}
		uint32_t n = cnt - (uint32_t)skip < bucket_cnt ? cnt - (uint32_t)skip : bucket_cnt;
		each_in(t, s, first + skip * s->bucket_bytes, n, fn, ctx);
		*at += n;
		bucket_cnt -= n;
		if (!bucket_cnt)
			return true;
		skip = 0;
	}
	return false;
}

mr_flow_ref mr_flows_ref4(const struct mr_flows *t, const struct mr_flow4 *rec)
{
	return ref_of_record(t, &t->side[0], (const uint8_t *)rec);
}

mr_flow_ref mr_flows_ref6(const struct mr_flows *t, const struct mr_flow6 *rec)
{
	return ref_of_record(t, &t->side[1], (const uint8_t *)rec);
}

/* ---- changes to a live record --------------------------------------------------------------------------- */

struct held {
	const struct mr_flow_side *s;
	struct mr_bucket_head *head;
	unsigned way;
	uint8_t *record;
	struct mr_flow_state *st;
};

/* Locks the bucket of a record that still belongs to `session` (0 = any) and makes its sequence number odd. */
static bool change_begin(const struct mr_flows *t, mr_flow_ref ref, uint32_t session, struct held *h)
{
	uint8_t *bucket = mr_flow_ref_bucket(t, ref, &h->s, &h->way);

	if (!bucket)
		return false;
	h->head = (struct mr_bucket_head *)bucket;
	h->record = mr_flow_record_of(h->s, bucket, h->way);
	h->st = mr_flow_state_of(h->s, h->record);
	mr_flow_head_lock(h->head);
	uint32_t owner = __atomic_load_n(&h->st->session, __ATOMIC_RELAXED);
	if (!h->head->tag[h->way] || (session && owner != session)) {
		mr_flow_head_unlock(h->head);
		return false;
	}
	__atomic_store_n(&h->st->seq, h->st->seq + 1, __ATOMIC_RELAXED);
	return true;
}

static void change_end(struct held *h)
{
	__atomic_store_n(&h->st->seq, h->st->seq + 1, __ATOMIC_RELEASE);
	mr_flow_head_unlock(h->head);
}

static void count_offloaded(struct mr_flows *t, uint16_t was, uint16_t now)
{
	if ((was ^ now) & MR_FLOW_OFFLOAD)
		__atomic_fetch_add(&t->offloaded, now & MR_FLOW_OFFLOAD ? 1 : UINT64_MAX, __ATOMIC_RELAXED);
}

/* XDP may mark the record CLOSING at the same time, which is kept unless it is to be cleared. */
static void change_flags(struct mr_flows *t, struct mr_flow_state *st, uint16_t set, uint16_t clear)
{
	uint16_t was = __atomic_load_n(&st->flags, __ATOMIC_RELAXED), now;

	do {
		now = (uint16_t)((was & ~clear) | set);
	} while (!__atomic_compare_exchange_n(&st->flags, &was, now, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
	count_offloaded(t, was, now);
}

static int decide(struct mr_flows *t, mr_flow_ref ref, uint32_t session, uint8_t ingress, const void *rw,
	size_t rw_words, const struct mr_flow_state *st)
{
	struct held h;

	if (!change_begin(t, ref, session, &h))
		return -ESTALE;
	uint64_t *to = (uint64_t *)(h.record + h.s->key_bytes);
	for (size_t i = 0; i < rw_words; i++) {
		uint64_t word;
		memcpy(&word, (const char *)rw + 8 * i, 8);
		__atomic_store_n(to + i, word, __ATOMIC_RELEASE);
	}
	__atomic_store_n(h.record + offsetof(struct mr_key4, ingress), ingress, __ATOMIC_RELEASE);
	change_flags(t, h.st, st->flags, (uint16_t) ~(st->flags | MR_FLOW_CLOSING));
	__atomic_store_n(&h.st->nexthop, st->nexthop, __ATOMIC_RELEASE);
	__atomic_store_n(&h.st->generation, st->generation, __ATOMIC_RELEASE);
	__atomic_store_n(&h.st->effects, st->effects, __ATOMIC_RELEASE);
	change_end(&h);
	return 0;
}

_Static_assert(offsetof(struct mr_key4, ingress) == offsetof(struct mr_key6, ingress), "one place for ingress");
_Static_assert(offsetof(struct mr_flow4, rewrite) == sizeof(struct mr_key4), "rewrite follows key");
_Static_assert(offsetof(struct mr_flow6, rewrite) == sizeof(struct mr_key6), "rewrite follows key");

int mr_flows_decide4(struct mr_flows *t, mr_flow_ref ref, uint32_t session, uint8_t ingress,
	const struct mr_rewrite4 *rw, uint16_t flags, uint16_t nexthop, uint16_t generation, uint16_t effects)
{
	struct mr_flow_state st = { .flags = flags, .nexthop = nexthop, .generation = generation, .effects = effects };

	if (ref == MR_FLOW_NONE || ref & MR_FLOW_REF_V6)
		return -ESTALE;
	return decide(t, ref, session, ingress, rw, sizeof(*rw) / 8, &st);
}

int mr_flows_decide6(struct mr_flows *t, mr_flow_ref ref, uint32_t session, uint8_t ingress,
	const struct mr_rewrite6 *rw, uint16_t flags, uint16_t nexthop, uint16_t generation, uint16_t effects)
{
	struct mr_flow_state st = { .flags = flags, .nexthop = nexthop, .generation = generation, .effects = effects };

	if (!(ref & MR_FLOW_REF_V6))
		return -ESTALE;
	return decide(t, ref, session, ingress, rw, sizeof(*rw) / 8, &st);
}

void mr_flows_mark(struct mr_flows *t, mr_flow_ref ref, uint32_t session, uint16_t set, uint16_t clear)
{
	struct held h;

	if (!change_begin(t, ref, session, &h))
		return;
	change_flags(t, h.st, set, clear);
	change_end(&h);
}

void mr_flows_undecide(struct mr_flows *t, mr_flow_ref ref, uint32_t session)
{
	mr_flows_mark(t, ref, session, 0, MR_FLOW_DECIDED | MR_FLOW_OFFLOAD);
}

struct outdating {
	struct mr_flows *t;
	uint16_t keep;
};

static void outdate(void *ctx, mr_flow_ref ref, const struct mr_flow_state *st)
{
	const struct outdating *o = ctx;
	uint16_t generation = __atomic_load_n(&st->generation, __ATOMIC_RELAXED);
	struct held h;

	if (generation == o->keep || !generation || !change_begin(o->t, ref, 0, &h))
		return;
	if (h.st->generation != o->keep)
		__atomic_store_n(&h.st->generation, 0, __ATOMIC_RELEASE);
	change_end(&h);
}

void mr_flows_outdate(struct mr_flows *t, uint16_t keep)
{
	struct outdating o = { t, keep };
	mr_flows_each(t, outdate, &o);
}

/* ---- free ----------------------------------------------------------------------------------------------- */

/* The hash of the key in a record; who did not lock its bucket must look again. */
static uint64_t record_hash(const struct mr_flows *t, const struct mr_flow_side *s, const uint8_t *record)
{
	uint64_t word[sizeof(struct mr_key6) / 8];
	struct mr_key4 k4;
	struct mr_key6 k6;

	for (size_t i = 0; i < s->key_bytes / 8; i++)
		word[i] = __atomic_load_n((const uint64_t *)record + i, __ATOMIC_RELAXED);
	if (s == &t->side[1]) {
		memcpy(&k6, word, sizeof(k6));
		return mr_flow_hash6(&k6, t->seed);
	}
	memcpy(&k4, word, sizeof(k4));
	return mr_flow_hash4(&k4, t->seed);
}

int mr_flows_free(struct mr_flows *t, mr_flow_ref ref, uint32_t session, uint32_t now_ms)
{
	const struct mr_flow_side *s;
	unsigned way;
	uint8_t *bucket = mr_flow_ref_bucket(t, ref, &s, &way);

	if (!bucket)
		return -ESTALE;
	struct mr_bucket_head *head = (struct mr_bucket_head *)bucket;
	uint8_t *record = mr_flow_record_of(s, bucket, way);
	struct mr_flow_state *st = mr_flow_state_of(s, record);
	uint64_t hash = record_hash(t, s, record);
	uint8_t *first = mr_flow_primary_of(s, hash);
	struct mr_flow_lockset l = { .cnt = 0 };

	/* The key vanishes: its first bucket is locked too.  Another key meanwhile means the record was freed: stale. */
	mr_flow_lockset_add(&l, first);
	mr_flow_lockset_add(&l, bucket);
	mr_flow_lockset_lock(&l);
	if (!head->tag[way] || record_hash(t, s, record) != hash || (session && st->session != session)) {
		mr_flow_lockset_unlock(&l);
		return -ESTALE;
	}
	__atomic_store_n(&head->tag[way], 0, __ATOMIC_RELEASE);
	__atomic_store_n(&st->seq, st->seq + 1, __ATOMIC_RELAXED);
	__atomic_store_n((uint16_t *)record, 0, __ATOMIC_RELEASE); /* zone 0: no key */
	count_offloaded(t, __atomic_exchange_n(&st->flags, 0, __ATOMIC_RELEASE), 0);
	__atomic_store_n(&st->session, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&st->seq, st->seq + 1, __ATOMIC_RELEASE);
	head->freed_ms[way] = now_ms ? now_ms : 1;
	if (first != bucket) {
		struct mr_bucket_head *h = (struct mr_bucket_head *)first;
		uint32_t spill =
			h->spill - (ref & MR_FLOW_REF_OVERFLOW ? MR_FLOW_SPILL_OVERFLOW : MR_FLOW_SPILL_SECOND);
		__atomic_store_n(&h->spill, spill, __ATOMIC_RELEASE);
		if (!spill)
			__atomic_store_n(&h->spilled, 0, __ATOMIC_RELEASE);
	}
	if (ref & MR_FLOW_REF_OVERFLOW)
		__atomic_fetch_sub(&t->side[s == &t->side[1]].overflow_live, 1, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&t->side[s == &t->side[1]].live, 1, __ATOMIC_RELAXED);
	mr_flow_lockset_unlock(&l);
	return 0;
}
