/* SPDX-License-Identifier: BSD-2-Clause */
/* range.c - sets of IPv4 addresses as sorted ranges. */
#include "pipelines/nat44/nat44.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int by_lo(const void *a, const void *b)
{
	const struct nat_range *x = a, *y = b;
	return x->lo < y->lo ? -1 : x->lo > y->lo;
}

int nat_ranges_add(struct nat_ranges *r, uint32_t lo, uint32_t hi)
{
	struct nat_range *grown = realloc(r->range, (r->cnt + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	r->range = grown;
	r->range[r->cnt++] = (struct nat_range){ lo, hi };
	return 0;
}

void nat_ranges_merge(struct nat_ranges *r)
{
	uint32_t n = 0;
	if (!r->cnt)
		return;
	qsort(r->range, r->cnt, sizeof(*r->range), by_lo);
	for (uint32_t i = 1; i < r->cnt; i++) {
		struct nat_range *last = &r->range[n];
		if (r->range[i].lo > last->hi && r->range[i].lo - last->hi > 1)
			r->range[++n] = r->range[i];
		else if (r->range[i].hi > last->hi)
			last->hi = r->range[i].hi;
	}
	r->cnt = n + 1;
}

/* The first range that ends at `address` or after. */
static uint32_t first_from(const struct nat_ranges *r, uint32_t address)
{
	uint32_t lo = 0, hi = r->cnt;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (r->range[mid].hi < address)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

bool nat_ranges_hold(const struct nat_ranges *r, uint32_t address)
{
	uint32_t i = first_from(r, address);
	return i < r->cnt && r->range[i].lo <= address;
}

bool nat_ranges_cover(const struct nat_ranges *r, uint32_t lo, uint32_t hi)
{
	uint32_t i = first_from(r, lo);
	return i < r->cnt && r->range[i].lo <= lo && r->range[i].hi >= hi;
}

bool nat_ranges_meet(const struct nat_ranges *r, uint32_t lo, uint32_t hi)
{
	uint32_t i = first_from(r, lo);
	return i < r->cnt && r->range[i].lo <= hi;
}

int nat_ranges_remove(struct nat_ranges *r, uint32_t lo, uint32_t hi)
{
	struct nat_ranges left = { 0 };
	int err = 0;
	for (uint32_t i = 0; i < r->cnt && !err; i++) {
		struct nat_range x = r->range[i];
		if (x.hi < lo || x.lo > hi) {
			err = nat_ranges_add(&left, x.lo, x.hi);
			continue;
		}
		if (x.lo < lo)
			err = nat_ranges_add(&left, x.lo, lo - 1);
		if (!err && x.hi > hi)
			err = nat_ranges_add(&left, hi + 1, x.hi);
	}
	if (err) {
		nat_ranges_free(&left);
		return err;
	}
	nat_ranges_free(r);
	*r = left;
	return 0;
}

uint64_t nat_ranges_count(const struct nat_ranges *r)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < r->cnt; i++)
		n += (uint64_t)r->range[i].hi - r->range[i].lo + 1;
	return n;
}

void nat_ranges_free(struct nat_ranges *r)
{
	free(r->range);
	memset(r, 0, sizeof(*r));
}
