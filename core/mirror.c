/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/mirror.h"

#include "core/route.h"
#include "core/route_flows.h"
#include "core/tier.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#define SWEEP_BUCKETS 4096 /* of the flow table between two looks at the kernel: about half a millisecond */

/* Packets wait for what changed: workers that sleep look now. */
static void changed(void *ctx)
{
	struct mr_runtime *rt = ctx;
	for (unsigned w = 0; w < rt->sh.worker_cnt; w++)
		if (rt->worker[w])
			mr_worker_wake(rt->worker[w]);
}

static void referred(void *ctx, void (*mark)(void *arg, uint16_t slot), void *arg)
{
	struct mr_runtime *rt = ctx;
	mr_route_flows_referred(&rt->sh, mark, arg);
}

/* Begins one; the one before is over by then (core/route.h). */
static void sweep(void *ctx)
{
	struct mr_runtime *rt = ctx;
	if (rt->mirror_sweeping)
		mr_route_flows_sweep(&rt->sh, &rt->mirror_sweep_at, UINT32_MAX);
	rt->mirror_sweep_at = 0;
	rt->mirror_sweeping = true;
}

/* A slice of it: a change of routes does not wait for a million flows to be looked at. */
static bool sweep_some(struct mr_runtime *rt)
{
	if (rt->mirror_sweeping)
		rt->mirror_sweeping = mr_route_flows_sweep(&rt->sh, &rt->mirror_sweep_at, SWEEP_BUCKETS);
	return rt->mirror_sweeping;
}

int mr_mirror_create(struct mr_runtime *rt, struct mr_error *e)
{
	struct mr_shared *sh = &rt->sh;
	struct mr_tier *tier = sh->tier ? mr_tier_shared(sh->tier) : NULL;
	struct mr_neighbours_options neighbours = { .nexthops = sh->nexthops,
		.epoch = sh->epoch,
		.changed = changed,
		.referred = referred,
		.ctx = rt,
		.used_ms = tier ? tier->nexthop_used_ms : NULL };
	int err = mr_neighbours_create(&neighbours, false, &sh->neighbours, e);
	if (err)
		return err;
	struct mr_routes_options routes = { .neighbours = sh->neighbours,
		.epoch = sh->epoch,
		.sweep = sweep,
		.ctx = rt,
		.version = tier ? tier->version : NULL,
		.vlan = tier ? tier->vlan : NULL };
	return mr_routes_create(&routes, &sh->routes, e);
}

void mr_mirror_destroy(struct mr_runtime *rt)
{
	mr_routes_destroy(rt->sh.routes);
	mr_neighbours_destroy(rt->sh.neighbours);
	rt->sh.routes = NULL;
	rt->sh.neighbours = NULL;
}

static int wait_on(struct mr_runtime *rt, int fd, uint32_t what, struct mr_error *e)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = what };
	if (fd < 0 || !epoll_ctl(rt->epoll_fd, EPOLL_CTL_ADD, fd, &ev) || errno == EEXIST)
		return 0;
	return mr_error_set(e, -errno, "cannot wait for changes of routes: %s", strerror(errno));
}

int mr_mirror_open(struct mr_runtime *rt, const struct mr_plan *plan, struct mr_error *e)
{
	struct mr_error why = { "" };
	if (!plan->wants_routes || rt->mirror_open)
		return 0;
	int err = mr_routes_open(rt->sh.routes, &why);
	if (err)
		return mr_error_set(e, err, "'to: route' needs the kernel's routing tables: %s", why.text);
	err = wait_on(rt, mr_routes_fd(rt->sh.routes), MR_MIRROR_EVENT_ROUTES, e);
	if (!err)
		err = wait_on(rt, mr_neighbours_fd(rt->sh.neighbours), MR_MIRROR_EVENT_NEIGHBOURS, e);
	if (err) { /* what nobody services must not wake anybody */
		(void)epoll_ctl(rt->epoll_fd, EPOLL_CTL_DEL, mr_routes_fd(rt->sh.routes), NULL);
		return err;
	}
	rt->mirror_open = true;
	mr_neighbours_tunnels_refresh(rt->sh.neighbours, rt->sh.routes);
	mr_neighbours_service(rt->sh.neighbours, mr_runtime_now_ms());
	return 0;
}

void mr_mirror_device(struct mr_runtime *rt, unsigned interface_id, uint32_t ifindex)
{
	if (rt->sh.routes)
		mr_routes_interface(rt->sh.routes, interface_id, ifindex);
}

void mr_mirror_withdraw(struct mr_runtime *rt, const struct mr_plan *plan)
{
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++)
		if (!plan->interface[id].queue_cnt)
			mr_mirror_device(rt, id, 0);
}

void mr_mirror_follow(struct mr_runtime *rt, const struct mr_plan *plan)
{
	mr_mirror_withdraw(rt, plan);
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		const struct mr_runtime_interface *ri = &rt->interface[id];
		if (plan->interface[id].queue_cnt && ri->open && !ri->is_file)
			mr_mirror_device(rt, id, mr_interface_info(ri->open)->ifindex);
	}
}

bool mr_mirror_service(struct mr_runtime *rt)
{
	if (!rt->mirror_open)
		return false;
	bool more = mr_routes_service(rt->sh.routes) > 0;
	more |= sweep_some(rt);
	mr_neighbours_tunnels_refresh(rt->sh.neighbours, rt->sh.routes);
	mr_neighbours_service(rt->sh.neighbours, mr_runtime_now_ms());
	return more;
}

void mr_mirror_tick(struct mr_runtime *rt)
{
	if (!rt->mirror_open)
		return;
	mr_routes_tick(rt->sh.routes);
	rt->mirror_more |= rt->mirror_sweeping;
	mr_neighbours_tunnels_refresh(rt->sh.neighbours, rt->sh.routes);
	mr_neighbours_service(rt->sh.neighbours, mr_runtime_now_ms());
}
