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

WEAK uint16_t mr_neighbours_tunnel(struct mr_neighbours *t, struct mr_routes *routes, const struct mr_tunnel *tunnel)
{
	return 0;
}

WEAK void mr_neighbours_tunnels_refresh(struct mr_neighbours *t, struct mr_routes *routes)
{
}

WEAK int mr_neighbours_create(
	const struct mr_neighbours_options *opt, bool no_kernel, struct mr_neighbours **out, struct mr_error *e)
{
	*out = NULL;
	return 0;
}

WEAK void mr_neighbours_destroy(struct mr_neighbours *t)
{
}

WEAK int mr_neighbours_fd(const struct mr_neighbours *t)
{
	return -1;
}

WEAK void mr_neighbours_service(struct mr_neighbours *t, uint64_t now_ms)
{
}

WEAK int mr_routes_create(const struct mr_routes_options *opt, struct mr_routes **out, struct mr_error *e)
{
	*out = NULL;
	return 0;
}

WEAK void mr_routes_destroy(struct mr_routes *r)
{
}

WEAK int mr_routes_open(struct mr_routes *r, struct mr_error *e)
{
	return mr_error_set(e, -95, "this build has no mirror of them");
}

WEAK int mr_routes_fd(const struct mr_routes *r)
{
	return -1;
}

WEAK int mr_routes_service(struct mr_routes *r)
{
	return 0;
}

WEAK void mr_routes_tick(struct mr_routes *r, uint64_t now_ms)
{
}

WEAK void mr_routes_interface(struct mr_routes *r, unsigned interface_id, uint32_t ifindex)
{
}

WEAK int mr_routes_describe(const struct mr_routes *r, unsigned family, const void *dst_be, char *text, size_t bytes)
{
	return -2;
}
