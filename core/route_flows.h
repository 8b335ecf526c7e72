/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * route_flows.h - what the routing table and the next-hop slots ask of the flow records (core/route.h: sweep, core/neighbour.h: referred).
 *
 * Both walk the whole flow table, as it lies in memory, on the control thread, while workers go on.
 */
#ifndef MR_CORE_ROUTE_FLOWS_H
#define MR_CORE_ROUTE_FLOWS_H

#include "core/worker.h"

/* Takes MR_FLOW_DECIDED off every routed record whose version is not its bucket's, so that a version may come round: in slices of bucket_cnt
 * buckets from *at on (mr_flows_each_some; UINT32_MAX: all at once).  False: that was the last. */
bool mr_route_flows_sweep(struct mr_shared *sh, uint64_t *at, uint32_t bucket_cnt);
/* Calls mark(arg, slot) for the next hop of every record. */
void mr_route_flows_referred(void *ctx, void (*mark)(void *arg, uint16_t slot), void *arg);

#endif
