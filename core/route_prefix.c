/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * route_prefix.c - the prefixes, the routes each of them has, and which of these counts.
 *
 * The index is a hash that grows one bucket with each prefix (linear hashing), so that a full table is loaded without a pause.
 */
#include "core/route_table.h"

#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BUCKETS_FIRST 256u

struct mr_route_prefix *mr_prefix_at(const struct mr_routes *r, unsigned f, uint32_t i)
{
	return (void *)(r->prefixes[f].item + (size_t)i * r->prefixes[f].stride);
}

/* ---- the index ------------------------------------------------------------------------------------------------ */

static uint32_t hash_prefix(const struct mr_routes *r, unsigned f, const uint8_t *addr, unsigned bits)
{
	uint64_t words[2] = { 0, 0 };

	memcpy(words, addr, mr_route_bytes(f));
	uint64_t h = mr_route_mix(mr_route_mix(r->seed + bits, words[0]), words[1]);
	return (uint32_t)(h >> 32);
}

/* Buckets 0..cnt-1, of which those behind half the next power of two are not split yet. */
static uint32_t *bucket_of(const struct mr_route_prefixes *p, uint32_t hash)
{
	uint32_t mask = p->bucket_cnt <= 1 ? 0 : UINT32_MAX >> __builtin_clz(p->bucket_cnt - 1);
	uint32_t b = hash & mask;

	return &p->bucket[b < p->bucket_cnt ? b : b & (mask >> 1)];
}

static void split_bucket(struct mr_routes *r, unsigned f)
{
	struct mr_route_prefixes *p = &r->prefixes[f];

	if (p->bucket_cnt == p->bucket_cap) {
		uint32_t cap = p->bucket_cap * 2;
		uint32_t *bucket = realloc(p->bucket, cap * sizeof(*bucket));
		if (!bucket)
			return; /* longer chains */
		p->bucket = bucket;
		p->bucket_cap = cap;
	}
	uint32_t half = 1u << (31 - __builtin_clz(p->bucket_cnt));
	uint32_t i = p->bucket[p->bucket_cnt - half];
	p->bucket[p->bucket_cnt - half] = 0;
	p->bucket[p->bucket_cnt++] = 0;
	while (i) {
		struct mr_route_prefix *x = mr_prefix_at(r, f, i);
		uint32_t next = x->hash_next;
		uint32_t *head = bucket_of(p, hash_prefix(r, f, x->addr, x->bits));
		x->hash_next = *head;
		*head = i;
		i = next;
	}
}

uint32_t mr_prefix_find(const struct mr_routes *r, unsigned f, const uint8_t *addr, unsigned bits)
{
	const struct mr_route_prefixes *p = &r->prefixes[f];

	if (!p->bucket)
		return 0;
	for (uint32_t i = *bucket_of(p, hash_prefix(r, f, addr, bits)); i;) {
		const struct mr_route_prefix *x = mr_prefix_at(r, f, i);
		if (x->bits == bits && !memcmp(x->addr, addr, mr_route_bytes(f)))
			return i;
		i = x->hash_next;
	}
	return 0;
}

static bool first_memory(struct mr_route_prefixes *p, unsigned f)
{
	if (p->bucket)
		return true;
	p->stride = sizeof(struct mr_route_prefix) + mr_route_bytes(f);
	p->cap = 256;
	p->top = 1;
	p->item = malloc(p->cap * p->stride);
	p->bucket = calloc(BUCKETS_FIRST, sizeof(*p->bucket));
	if (!p->item || !p->bucket) {
		free(p->item);
		free(p->bucket);
		p->item = NULL;
		p->bucket = NULL;
		return false;
	}
	p->bucket_cnt = p->bucket_cap = BUCKETS_FIRST;
	return true;
}

uint32_t mr_prefix_make(struct mr_routes *r, unsigned f, const uint8_t *addr, unsigned bits)
{
	struct mr_route_prefixes *p = &r->prefixes[f];
	uint32_t i = mr_prefix_find(r, f, addr, bits);

	if (i)
		return i;
	if (!first_memory(p, f))
		return 0;
	i = p->free;
	if (i) {
		p->free = mr_prefix_at(r, f, i)->hash_next;
	} else {
		if (p->top == p->cap) {
			uint8_t *item = realloc(p->item, (size_t)p->cap * 2 * p->stride);
			if (!item)
				return 0;
			p->item = item;
			p->cap *= 2;
		}
		i = p->top++;
		p->walk_left += p->walk_left != 0; /* a walk that comes round at the end comes back to where it began */
	}
	if (++p->cnt > p->bucket_cnt)
		split_bucket(r, f);
	struct mr_route_prefix *x = mr_prefix_at(r, f, i);
	memset(x, 0, p->stride);
	x->used = 1;
	x->bits = (uint8_t)bits;
	memcpy(x->addr, addr, mr_route_bytes(f));
	uint32_t *head = bucket_of(p, hash_prefix(r, f, addr, bits));
	x->hash_next = *head;
	*head = i;
	return i;
}

static void free_prefix(struct mr_routes *r, unsigned f, uint32_t i)
{
	struct mr_route_prefixes *p = &r->prefixes[f];
	struct mr_route_prefix *x = mr_prefix_at(r, f, i);
	uint32_t *at = bucket_of(p, hash_prefix(r, f, x->addr, x->bits));

	while (*at != i)
		at = &mr_prefix_at(r, f, *at)->hash_next;
	*at = x->hash_next;
	x->used = 0;
	x->hash_next = p->free;
	p->free = i;
	p->cnt--;
}

/* ---- routes ---------------------------------------------------------------------------------------------------- */

static void count_route(struct mr_routes *r, unsigned f, const struct mr_route_entry *e, int by)
{
	if (e->flags & MR_ROUTE_TOMB)
		return;
	r->route_cnt[f] += (uint64_t)by;
	if (f == 0 && (e->flags & MR_ROUTE_CLASS) == MR_ROUTE_DEFAULT) {
		r->last_table_cnt += (uint64_t)by;
		atomic_store_explicit(&r->last_table, r->last_table_cnt != 0, memory_order_relaxed);
	}
}

static void link_entry(struct mr_routes *r, unsigned f, uint32_t prefix, uint32_t after, uint32_t n)
{
	uint32_t *at = after ? &r->entry[after].next : &mr_prefix_at(r, f, prefix)->first;

	r->entry[n].next = *at;
	*at = n;
}

uint32_t mr_prefix_insert(
	struct mr_routes *r, unsigned f, uint32_t prefix, uint32_t after, const struct mr_route_entry *e)
{
	uint32_t n = r->entry_free;

	if (n) {
		r->entry_free = r->entry[n].next;
	} else {
		if (r->entry_top == r->entry_cap) {
			uint32_t cap = r->entry_cap ? r->entry_cap * 2 : 256;
			struct mr_route_entry *more = realloc(r->entry, (size_t)cap * sizeof(*more));
			if (!more) {
				mr_path_release(r, e->path);
				return 0;
			}
			r->entry = more;
			r->entry_cap = cap;
			r->entry_top += !r->entry_top;
		}
		n = r->entry_top++;
	}
	r->entry[n] = *e;
	r->entry_cnt++;
	link_entry(r, f, prefix, after, n);
	count_route(r, f, e, 1);
	return n;
}

void mr_prefix_remove(struct mr_routes *r, unsigned f, uint32_t prefix, uint32_t before, uint32_t entry)
{
	struct mr_route_entry *e = &r->entry[entry];
	uint32_t *at = before ? &r->entry[before].next : &mr_prefix_at(r, f, prefix)->first;

	while (*at != entry)
		at = &r->entry[*at].next;
	*at = e->next;
	count_route(r, f, e, -1);
	mr_path_release(r, e->path);
	e->next = r->entry_free;
	r->entry_free = entry;
	r->entry_cnt--;
}

void mr_prefix_move(struct mr_routes *r, unsigned f, uint32_t prefix, uint32_t entry, uint32_t after)
{
	uint32_t *at = &mr_prefix_at(r, f, prefix)->first;

	while (*at != entry)
		at = &r->entry[*at].next;
	*at = r->entry[entry].next;
	link_entry(r, f, prefix, after, entry);
}

/* ---- which one counts ------------------------------------------------------------------------------------------- */

static bool counts(const struct mr_routes *r, const struct mr_route_entry *e)
{
	return !(e->flags & MR_ROUTE_TOMB) && !r->path[e->path].flushed && !r->path[e->path].dead;
}

uint32_t mr_prefix_best(const struct mr_routes *r, unsigned f, uint32_t prefix)
{
	for (uint32_t n = mr_prefix_at(r, f, prefix)->first; n; n = r->entry[n].next) {
		if (counts(r, &r->entry[n]))
			return n;
	}
	return 0;
}

/* A shorter prefix of the local table over it, which the kernel may ask first: whether it does depends on its history. */
static bool under_local(const struct mr_routes *r, unsigned f, const struct mr_route_prefix *x)
{
	const struct mr_route_prefixes *p = &r->prefixes[f];

	for (unsigned bits = 0; bits < x->bits; bits++) {
		uint8_t addr[16] = { 0 };
		if (!p->local_cnt[bits])
			continue;
		memcpy(addr, x->addr, bits / 8);
		if (bits % 8)
			addr[bits / 8] = x->addr[bits / 8] & (uint8_t)(0xff00u >> bits % 8);
		uint32_t over = mr_prefix_find(r, f, addr, bits);
		if (over && mr_prefix_at(r, f, over)->local)
			return true;
	}
	return false;
}

/* Several IPv6 routes of one metric that are not one multipath route: the kernel prefers that of the device the packet came in by. */
static bool ambiguous(const struct mr_routes *r, uint32_t best)
{
	const struct mr_route_entry *e = &r->entry[best];

	for (uint32_t n = e->next; n; n = r->entry[n].next) {
		const struct mr_route_entry *o = &r->entry[n];
		if (o->metric != e->metric || (o->flags ^ e->flags) & MR_ROUTE_CLASS)
			return false;
		if (counts(r, o) && o->path != e->path)
			return true;
	}
	return false;
}

static uint32_t value_of(const struct mr_routes *r, unsigned f, uint32_t prefix)
{
	const struct mr_route_prefix *x = mr_prefix_at(r, f, prefix);
	uint32_t best = mr_prefix_best(r, f, prefix);

	if (!best)
		return 0;
	const struct mr_route_entry *e = &r->entry[best];
	if ((e->flags & MR_ROUTE_CLASS) == MR_ROUTE_LOCAL)
		return e->path;
	if ((e->flags & MR_ROUTE_CLASS) == MR_ROUTE_DEFAULT || under_local(r, f, x) || (f && ambiguous(r, best)))
		return MR_ROUTE_ONLY_KERNEL;
	for (uint32_t n = best; n; n = r->entry[n].next) { /* those with a TOS come first: for some packets only */
		if (r->entry[n].tos && counts(r, &r->entry[n]))
			return MR_ROUTE_ONLY_KERNEL;
	}
	return e->path;
}

static void settle_local(struct mr_routes *r, unsigned f, struct mr_route_prefix *x, uint32_t best)
{
	bool local = best && (r->entry[best].flags & MR_ROUTE_CLASS) == MR_ROUTE_LOCAL;

	if (local == x->local)
		return;
	x->local = local;
	r->prefixes[f].local_cnt[x->bits] += local ? 1u : UINT32_MAX;
	if (x->bits < 8 * mr_route_bytes(f))
		mr_prefixes_walk(r, f, true);
}

void mr_prefix_settle(struct mr_routes *r, unsigned f, uint32_t prefix)
{
	struct mr_route_prefix *x = mr_prefix_at(r, f, prefix);

	settle_local(r, f, x, mr_prefix_best(r, f, prefix));
	uint32_t value = value_of(r, f, prefix);
	if (value != x->value) {
		unsigned family = f ? AF_INET6 : AF_INET;
		int err = value ? mr_fib_set(r->fib, family, x->addr, x->bits, value)
				: mr_fib_unset(r->fib, family, x->addr, x->bits);
		mr_versions_touch(r, f, x->addr, x->bits);
		if (err) {
			r->short_of_memory = true;
			mr_route_rules_weigh(r);
		}
		x->value = value;
	}
	if (!x->first)
		free_prefix(r, f, prefix);
}

/* ---- going over them --------------------------------------------------------------------------------------------- */

void mr_prefixes_walk(struct mr_routes *r, unsigned f, bool all)
{
	r->prefixes[f].walk_left = r->prefixes[f].top;
	r->prefixes[f].walk_all |= all;
}

static void end_walk(struct mr_routes *r, unsigned f)
{
	r->prefixes[f].walk_all = false;
	for (uint32_t n = 1; n < r->path_top; n++) {
		if (mr_route_f(r->path[n].family) == f)
			r->path[n].revisit = false;
	}
}

/* Takes out the routes the kernel has forgotten; true when the prefix is to be settled. */
static bool visit(struct mr_routes *r, unsigned f, uint32_t prefix)
{
	bool wanted = r->prefixes[f].walk_all;
	uint32_t before = 0;

	for (uint32_t n = mr_prefix_at(r, f, prefix)->first; n;) {
		uint32_t next = r->entry[n].next;
		wanted |= r->path[r->entry[n].path].revisit;
		if (r->path[r->entry[n].path].flushed) {
			mr_prefix_remove(r, f, prefix, before, n);
			wanted = true; /* its number may be another path's soon */
		} else {
			before = n;
		}
		n = next;
	}
	return wanted;
}

bool mr_prefixes_walk_some(struct mr_routes *r, unsigned cnt)
{
	for (unsigned f = 0; f < 2; f++) {
		struct mr_route_prefixes *p = &r->prefixes[f];
		for (; p->walk_left && cnt; cnt--) {
			if (++p->walk_at >= p->top)
				p->walk_at = 1;
			p->walk_left--;
			if (p->walk_at < p->top && mr_prefix_at(r, f, p->walk_at)->used && visit(r, f, p->walk_at))
				mr_prefix_settle(r, f, p->walk_at);
			if (!p->walk_left)
				end_walk(r, f);
		}
	}
	return r->prefixes[0].walk_left || r->prefixes[1].walk_left;
}

static void sweep_prefix(struct mr_routes *r, unsigned f, uint32_t prefix)
{
	uint32_t before = 0;
	bool changed = false;

	for (uint32_t n = mr_prefix_at(r, f, prefix)->first; n;) {
		struct mr_route_entry *e = &r->entry[n];
		uint32_t next = e->next;
		e->flags &= (uint8_t)~MR_ROUTE_DONE;
		if (e->flags & MR_ROUTE_TOMB || (r->sweep_whole && (e->flags & MR_ROUTE_MARK) != r->mark[f])) {
			mr_prefix_remove(r, f, prefix, before, n);
			changed = true;
		} else {
			e->flags = (uint8_t)((e->flags & ~MR_ROUTE_MARK) | r->mark[f]);
			before = n;
		}
		n = next;
	}
	if (changed)
		mr_prefix_settle(r, f, prefix);
}

bool mr_prefixes_sweep_some(struct mr_routes *r, unsigned f, unsigned cnt)
{
	struct mr_route_prefixes *p = &r->prefixes[f];

	for (; r->sweep_at < p->top && cnt; cnt--, r->sweep_at++) {
		if (r->sweep_at && mr_prefix_at(r, f, r->sweep_at)->used)
			sweep_prefix(r, f, r->sweep_at);
	}
	return r->sweep_at < p->top;
}

void mr_prefixes_destroy(struct mr_routes *r)
{
	for (unsigned f = 0; f < 2; f++) {
		free(r->prefixes[f].item);
		free(r->prefixes[f].bucket);
	}
	free(r->entry);
}

/* ---- versions ---------------------------------------------------------------------------------------------------- */

void mr_versions_touch_all(struct mr_routes *r, unsigned f)
{
	memset(r->dirty[f], 0xff, sizeof(r->dirty[f]));
	r->dirty_any = true;
}

void mr_versions_touch(struct mr_routes *r, unsigned f, const uint8_t *addr, unsigned bits)
{
	unsigned end = f ? MR_ROUTE_BUCKET6_BITS : 12; /* of the bits a bucket is made of */
	uint32_t first, cnt = 1;
	__be32 words[4] = { 0 };

	if (bits + 12 < end || bits == 0) {
		mr_versions_touch_all(r, f);
		return;
	}
	memcpy(words, addr, mr_route_bytes(f));
	first = f ? mr_route_bucket6(words) : mr_route_bucket4(words[0]);
	if (bits < end)
		cnt = 1u << (end - bits);
	for (uint32_t b = first; b < first + cnt && b < MR_ROUTE_BUCKETS; b++)
		r->dirty[f][b / 64] |= 1ULL << b % 64;
	r->dirty_any = true;
}
