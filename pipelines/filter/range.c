/* SPDX-License-Identifier: BSD-2-Clause */
#include "pipelines/filter/filter.h"

#include <errno.h>
#include <stdlib.h>

static int compare(const struct filter_address *a, const struct filter_address *b)
{
	if (a->hi != b->hi)
		return a->hi < b->hi ? -1 : 1;
	return a->lo == b->lo ? 0 : a->lo < b->lo ? -1 : 1;
}

static int compare_ranges(const void *a, const void *b)
{
	const struct filter_address_range *x = a, *y = b;
	return compare(&x->from, &y->from);
}

static uint64_t word(const uint8_t *at)
{
	uint64_t v = 0;
	for (unsigned i = 0; i < 8; i++)
		v = v << 8 | at[i];
	return v;
}

static struct filter_address address(uint8_t family, const uint8_t *at)
{
	if (family == 4)
		return (struct filter_address){ 0,
			(uint64_t)at[0] << 24 | (uint64_t)at[1] << 16 | (uint64_t)at[2] << 8 | at[3] };
	return (struct filter_address){ word(at), word(at + 8) };
}

/* Ones in the host part: bits len.. of `bits`. */
static struct filter_address last(struct filter_address from, uint8_t family, uint8_t len)
{
	struct filter_address to = from;
	if (family == 4) {
		to.lo |= len >= 32 ? 0 : 0xffffffffu >> len;
		return to;
	}
	to.hi |= len >= 64 ? 0 : ~(uint64_t)0 >> len;
	to.lo |= len >= 128 ? 0 : len <= 64 ? ~(uint64_t)0 : ~(uint64_t)0 >> (len - 64);
	return to;
}

static void merge(struct filter_addresses *a)
{
	uint32_t n = 0;
	qsort(a->range, a->cnt, sizeof(*a->range), compare_ranges);
	for (uint32_t i = 0; i < a->cnt; i++) {
		if (n && compare(&a->range[i].from, &a->range[n - 1].to) <= 0) {
			if (compare(&a->range[i].to, &a->range[n - 1].to) > 0)
				a->range[n - 1].to = a->range[i].to;
			continue;
		}
		a->range[n++] = a->range[i];
	}
	a->cnt = n;
}

int filter_prefixes_make(const struct mr_prefix_list *list, struct filter_prefixes *out)
{
	*out = (struct filter_prefixes){ .given = mr_list_given(list) };
	for (unsigned f = 0; f < 2; f++) {
		struct filter_addresses *a = &out->family[f];
		uint8_t family = f ? 6 : 4;
		a->range = calloc(list->cnt ? list->cnt : 1, sizeof(*a->range));
		if (!a->range) {
			filter_prefixes_free(out);
			return -ENOMEM;
		}
		for (uint32_t i = 0; i < list->cnt; i++) {
			const struct mr_prefix *p = &list->items[i];
			if (p->family != family)
				continue;
			struct filter_address from = address(family, p->addr);
			a->range[a->cnt++] = (struct filter_address_range){ from, last(from, family, p->len) };
		}
		merge(a);
	}
	return 0;
}

void filter_prefixes_free(struct filter_prefixes *p)
{
	free(p->family[0].range);
	free(p->family[1].range);
	p->family[0].range = p->family[1].range = NULL;
}

bool filter_prefixes_hold(const struct filter_prefixes *p, uint8_t family, const uint8_t *addr)
{
	if (family != 4 && family != 6)
		return false;
	const struct filter_addresses *a = &p->family[family == 6];
	struct filter_address x = address(family, addr);
	uint32_t lo = 0, hi = a->cnt; /* the first range that ends at x or after */
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (compare(&a->range[mid].to, &x) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < a->cnt && compare(&a->range[lo].from, &x) <= 0;
}

bool filter_range_holds(const struct mr_range_list *list, uint32_t value)
{
	uint32_t lo = 0, hi = list->cnt;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (list->items[mid].hi < value)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < list->cnt && list->items[lo].lo <= value;
}
