/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone.h - the numbers of zones: which packets may belong to one flow.
 *
 * Flows of different zones are different flows even with equal addresses and ports.  An interface has a zone by name ("default" when
 * it has none); with `vlan_zones: true` every outer VLAN id of it is a zone of its own.  A flow key has 16 bits for all of that:
 *
 *     0               no zone: an all-zero key matches nothing
 *     VVVVVVVVVVVV0bbb   base b (1..7) and VLAN id V, 0 = untagged or priority tag; 1 = "default"
 *     hhhhhhhhhhhh1hhh   a zone without vlan_zones, numbered by its name alone
 *
 * A name keeps its number over a reload, so that its flows go on, unless vlan_zones is switched on or off for it: then its flows
 * (of "default": those with a VLAN tag) are not found any more and end by their time-outs.
 */
#ifndef MR_CORE_ZONE_H
#define MR_CORE_ZONE_H

#include "core/plan.h"

#define MR_ZONE_BASES 7 /* zones with vlan_zones, "default" included */

/* Gives every interface of the plan its zone and vlan_mask.  -EINVAL with the sentence (too many zones with vlan_zones, interfaces of
 * one zone that disagree about it, two names of one number).  `previous` may be NULL.  Threads: control. */
int mr_zone_number_all(struct mr_plan *plan, const struct mr_plan *previous, struct mr_error *e);

/* The name of the zone a key's number belongs to, or NULL when the plan has none such; *vlan gets the id, -1 = the zone has no
 * vlan_zones.  Threads: any that holds the plan. */
const char *mr_zone_name(const struct mr_plan *plan, uint16_t zone, int *vlan);

#endif
