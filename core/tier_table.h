/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tier_table.h - what tier.c (the maps) and tier_plan.c (what is in force, what was counted) share.
 */
#ifndef MR_CORE_TIER_TABLE_H
#define MR_CORE_TIER_TABLE_H

#include "core/tier.h"

/* As kern/tier.bpf.h names them. */
enum mr_tier_map {
	MR_TIER_MAP_FLOWS4,
	MR_TIER_MAP_FLOWS6,
	MR_TIER_MAP_NEXTHOPS,
	MR_TIER_MAP_TIER,
	MR_TIER_MAP_EFFECTS,
	MR_TIER_MAP_METERS,
	MR_TIER_MAP_MAPPED, /* those above are user space's memory too */
	MR_TIER_MAP_PAIRS = MR_TIER_MAP_MAPPED,
	MR_TIER_MAP_COUNTERS,
	MR_TIER_MAP_EGRESS,
	MR_TIER_MAP_DEVMAP,
	MR_TIER_MAP_CNT
};

struct mr_tier_maps {
	struct mr_tier_fixed fixed; /* but for the interface */
	int fd[MR_TIER_MAP_CNT];
	void *at[MR_TIER_MAP_MAPPED];
	size_t bytes[MR_TIER_MAP_MAPPED];
	int wait_fd; /* a map of maps, updated for its side effect: mr_tier_settle() */
	unsigned cpu_cnt;
	bool taken[MR_TIER_HALVES];
	uint32_t egress[MR_TIER_EGRESS]; /* ifindex in the devmap; atomic, workers look */
};

#endif
