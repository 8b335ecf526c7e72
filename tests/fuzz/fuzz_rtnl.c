/* SPDX-License-Identifier: BSD-2-Clause */
/* fuzz_rtnl.c - any bytes, as a datagram of the kernel: reading ends, moves forward, and what it tells is within its bounds. */
#include "core/rtnl.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok)
{
	if (!ok)
		abort();
}

static void ends(const char *text, size_t bytes)
{
	must(memchr(text, 0, bytes) != NULL);
}

static void check_hop(const struct mr_rtnl_hop *h)
{
	must(h->family == 0 || h->family == 4 || h->family == 6);
	must(h->weight >= 1 && h->weight <= 65536);
}

static void check(const struct mr_rtnl *m)
{
	switch (m->kind) {
	case MR_RTNL_ROUTE:
		must(m->route.family == 4 || m->route.family == 6);
		must(m->route.bits <= (m->route.family == 4 ? 32 : 128));
		must(m->route.hop_cnt <= MR_RTNL_HOPS);
		for (unsigned i = m->route.bits; i < (m->route.family == 4 ? 32 : 128); i++)
			must(!(m->route.dst[i / 8] & 0x80 >> i % 8));
		for (unsigned i = 0; i < m->route.hop_cnt; i++)
			check_hop(&m->route.hop[i]);
		break;
	case MR_RTNL_NEXTHOP:
		must(m->nexthop.id && m->nexthop.member_cnt <= MR_RTNL_HOPS);
		check_hop(&m->nexthop.hop);
		for (unsigned i = 0; i < m->nexthop.member_cnt; i++)
			must(m->nexthop.member[i].weight >= 1 && m->nexthop.member[i].weight <= 65536);
		break;
	case MR_RTNL_NEIGH:
		must(m->neigh.family == 4 || m->neigh.family == 6);
		break;
	case MR_RTNL_ADDR:
		must(m->addr.family == 4 || m->addr.family == 6);
		must(m->addr.bits <= (m->addr.family == 4 ? 32 : 128));
		break;
	case MR_RTNL_LINK:
		ends(m->link.name, sizeof(m->link.name));
		ends(m->link.kind, sizeof(m->link.kind));
		must(m->link.device <= MR_RTNL_DEVICE_LOOPBACK);
		must(m->link.device != MR_RTNL_DEVICE_VLAN || m->link.unknown ||
			(m->link.vlan >= 1 && m->link.vlan <= 4094 && m->link.lower));
		break;
	case MR_RTNL_RULE:
		must(m->rule.family == 4 || m->rule.family == 6);
		must(!(m->rule.plain && m->rule.l3mdev));
		ends(m->rule.words, sizeof(m->rule.words));
		break;
	case MR_RTNL_ERROR:
	case MR_RTNL_DONE:
		must(m->error_code <= 0);
		break;
	default:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct mr_rtnl m;
	const void *at = data;
	size_t left = size;

	while (left) {
		const uint8_t *before = at;
		size_t was = left;
		memset(&m, 0x5a, sizeof(m)); /* what is not filled in must not be relied on */
		must(mr_rtnl_read(&at, &left, &m));
		must(left < was && (const uint8_t *)at == before + (was - left));
		must(m.kind != MR_RTNL_BROKEN || !left);
		check(&m);
	}
	must(!mr_rtnl_read(&at, &left, &m));
	return 0;
}
