/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/route.h"

#define WEAK __attribute__((weak))

WEAK void mr_routes_lookup(struct mr_routes *r, unsigned interface_id, unsigned family, const void *dst_be,
	uint64_t hash, struct mr_route_answer *out)
{
	*out = (struct mr_route_answer){ .verdict = MR_ROUTE_KERNEL };
}

WEAK const uint8_t *mr_routes_versions(const struct mr_routes *r, unsigned family)
{
	static const uint8_t zero[MR_ROUTE_BUCKETS];
	return zero;
}

WEAK bool mr_routes_source(
	const struct mr_routes *r, unsigned interface_id, unsigned family, const void *dst_be, void *src_be)
{
	return false;
}

WEAK void mr_neighbours_touch(struct mr_neighbours *t, uint16_t slot, uint32_t now_ms)
{
}

WEAK void mr_neighbours_want(struct mr_neighbours *t, uint16_t slot)
{
}

WEAK uint16_t mr_neighbours_tunnel(
	struct mr_neighbours *t, struct mr_routes *routes, const struct mr_tunnel *tunnel)
{
	return 0;
}
