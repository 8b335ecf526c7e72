/* SPDX-License-Identifier: BSD-2-Clause */
/* neighbour_world.h - slots of neighbours without a kernel, for test_neighbour.c and test_neighbour_use.c: what is said of neighbours and devices. */
#ifndef MR_TEST_NEIGHBOUR_WORLD_H
#define MR_TEST_NEIGHBOUR_WORLD_H

#include "core/neighbour.h"

#include "core/route.h"
#include <criterion/criterion.h>
#include <linux/neighbour.h>
#include <stdlib.h>
#include <string.h>

#define WAN      10u
#define LAN      11u
#define VLAN     12u
#define SLOT_MAX (MR_MAX_NEXTHOPS - MR_NEXTHOP_FIRST_FREE)

static const uint8_t wan_mac[6] = { 2, 0, 0, 0, 0, 0x10 };
static const uint8_t mac1[6] = { 2, 0, 0, 0, 1, 1 }, mac2[6] = { 2, 0, 0, 0, 1, 2 };

struct world {
	struct mr_nexthops *nh;
	struct mr_epoch *epoch;
	struct mr_neighbours *t;
	unsigned changed_cnt;
	unsigned referred_cnt;
	uint8_t refers[MR_MAX_NEXTHOPS];
};

static inline void on_changed(void *ctx)
{
	((struct world *)ctx)->changed_cnt++;
}

static inline void on_referred(void *ctx, void (*mark)(void *arg, uint16_t slot), void *arg)
{
	struct world *w = ctx;
	w->referred_cnt++;
	for (uint32_t i = 1; i < MR_MAX_NEXTHOPS; i++)
		if (__atomic_load_n(&w->refers[i], __ATOMIC_ACQUIRE))
			mark(arg, (uint16_t)i);
}

static inline struct mr_neighbour_device wan(void)
{
	struct mr_neighbour_device d = { .ifindex = WAN, .interface_id = 1, .mtu = 1500, .up = true };
	memcpy(d.mac, wan_mac, 6);
	return d;
}

static inline struct world *world(bool freeing, uint32_t resolving_max)
{
	struct world *w = calloc(1, sizeof(*w));
	struct mr_neighbours_options opt = { .changed = on_changed, .ctx = w, .resolving_max = resolving_max };
	struct mr_neighbour_device d = wan();
	struct mr_error e = { "" };

	opt.nexthops = w->nh = mr_nexthops_create(NULL);
	opt.epoch = w->epoch = mr_epoch_create();
	opt.referred = freeing ? on_referred : NULL;
	cr_assert_eq(mr_neighbours_create(&opt, true, &w->t, &e), 0, "%s", e.text);
	mr_neighbours_device(w->t, &d);
	return w;
}

static inline void end(struct world *w)
{
	mr_neighbours_destroy(w->t);
	mr_nexthops_destroy(w->nh);
	mr_epoch_destroy(w->epoch);
	free(w);
}

static inline void addr4(uint8_t a[16], uint32_t n)
{
	memset(a, 0, 16);
	a[0] = 10;
	a[1] = (uint8_t)(n >> 16);
	a[2] = (uint8_t)(n >> 8);
	a[3] = (uint8_t)n;
}

static uint16_t slot4(struct world *w, uint32_t ifindex, uint32_t n, uint16_t mtu, uint32_t now_ms)
{
	uint8_t a[16];
	addr4(a, n);
	return mr_neighbours_slot(w->t, ifindex, 4, a, mtu, now_ms);
}

static inline void heard(struct world *w, uint32_t ifindex, uint32_t n, uint16_t state, const uint8_t *mac)
{
	struct mr_rtnl_neigh m = { .ifindex = ifindex, .family = 4, .state = state, .has_mac = mac };
	addr4(m.addr, n);
	if (mac)
		memcpy(m.mac, mac, 6);
	mr_neighbours_heard(w->t, &m, false);
}

static inline void deleted(struct world *w, uint32_t ifindex, uint32_t n)
{
	struct mr_rtnl_neigh m = { .ifindex = ifindex, .family = 4, .state = NUD_REACHABLE, .has_mac = true };
	addr4(m.addr, n);
	mr_neighbours_heard(w->t, &m, true);
}

static inline struct mr_nexthop at(struct world *w, uint16_t slot)
{
	struct mr_nexthop nh;
	mr_nexthops_get(w->nh, slot, &nh);
	return nh;
}

static inline unsigned kind(struct world *w, uint16_t slot)
{
	return at(w, slot).kind;
}

static inline struct mr_neighbours_usage usage(struct world *w)
{
	struct mr_neighbours_usage u;
	mr_neighbours_usage(w->t, &u);
	return u;
}

static inline void serve(struct world *w, uint32_t from_ms, uint32_t to_ms)
{
	for (uint32_t ms = from_ms; ms <= to_ms; ms += 500)
		mr_neighbours_service(w->t, ms);
}

#endif
