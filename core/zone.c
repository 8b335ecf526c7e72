/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/zone.h"

#include <string.h>

#define PLAIN_BIT 8u /* set: a zone without vlan_zones */
#define BASE_MASK 7u
#define VLAN_MASK 0xfff0u

static const char *name_of(const struct mr_config_interface *i)
{
	return i->zone ? i->zone : "default";
}

/* From the name alone, so that neither a reload nor a restart moves flows to another zone. */
static uint16_t plain_number(const char *zone)
{
	uint32_t h = 2166136261u; /* FNV-1a */
	if (!strcmp(zone, "default"))
		return MR_ZONE_DEFAULT;
	for (const char *c = zone; *c; c++)
		h = (h ^ (uint8_t)*c) * 16777619u;
	h ^= h >> 16;
	return (uint16_t)((h << 1 & VLAN_MASK) | PLAIN_BIT | (h & BASE_MASK));
}

/* The base a zone with vlan_zones has in the plan; 0 = none yet. */
static unsigned base_of(const struct mr_plan *plan, const char *zone)
{
	for (unsigned id = 1; plan && id <= MR_MAX_INTERFACES; id++) {
		const struct mr_plan_interface *pi = &plan->interface[id];
		for (uint32_t i = 0; pi->name && pi->vlan_mask && i < plan->config->interface_cnt; i++) {
			const struct mr_config_interface *ci = &plan->config->interfaces[i];
			if (!strcmp(ci->name, pi->name) && !strcmp(name_of(ci), zone))
				return pi->zone;
		}
	}
	return 0;
}

static unsigned bases_used(const struct mr_plan *plan)
{
	unsigned used = 1u << MR_ZONE_DEFAULT;
	for (unsigned id = 1; plan && id <= MR_MAX_INTERFACES; id++)
		if (plan->interface[id].name && plan->interface[id].vlan_mask)
			used |= 1u << plan->interface[id].zone;
	return used;
}

/* 0 = none is left.  One that another zone had before is not given out again yet: its flows may still be there. */
static unsigned base_for(const struct mr_plan *plan, const struct mr_plan *previous, const char *zone)
{
	unsigned have = base_of(plan, zone), used = bases_used(plan) | bases_used(previous);
	if (!strcmp(zone, "default"))
		return MR_ZONE_DEFAULT;
	if (!have && base_of(previous, zone) && !(bases_used(plan) & 1u << base_of(previous, zone)))
		have = base_of(previous, zone);
	for (unsigned b = 1; !have && b <= MR_ZONE_BASES; b++)
		if (!(used & 1u << b))
			have = b;
	return have;
}

static int refuse(const struct mr_plan *plan, const struct mr_config_interface *ci, struct mr_error *e,
	const char *what, const char *other)
{
	char where[80];
	snprintf(where, sizeof(where), "interfaces.%.60s", ci->name);
	return mr_config_error(plan->config, e, ci->at, where, "%s'%s'", what, other);
}

/* What two interfaces may not have together. */
static int agree(const struct mr_plan *plan, const struct mr_config_interface *a, const struct mr_config_interface *b,
	struct mr_error *e)
{
	if (!strcmp(name_of(a), name_of(b)))
		return a->vlan_zones == b->vlan_zones
			? 0
			: refuse(plan, a, e,
				  "vlan_zones is the same for all interfaces of a zone, and is not here and for ",
				  b->name);
	if (!a->vlan_zones && !b->vlan_zones && plain_number(name_of(a)) == plain_number(name_of(b)))
		return refuse(plan, a, e, "its zone has a name of the same number as another; rename one of it and ",
			name_of(b));
	return 0;
}

int mr_zone_number_all(struct mr_plan *plan, const struct mr_plan *previous, struct mr_error *e)
{
	const struct mr_config *c = plan->config;
	for (uint32_t i = 0; i < c->interface_cnt; i++) {
		const struct mr_config_interface *ci = &c->interfaces[i];
		unsigned id = mr_plan_interface_id(plan, ci->name), zone;
		for (uint32_t k = 0; k < i; k++) {
			int err = agree(plan, ci, &c->interfaces[k], e);
			if (err)
				return err;
		}
		if (!id)
			continue;
		zone = ci->vlan_zones ? base_for(plan, previous, name_of(ci)) : plain_number(name_of(ci));
		if (!zone)
			return refuse(plan, ci, e,
				"with it there are more than 7 zones with vlan_zones (those of the configuration in "
				"force count too): no number is left for zone ",
				name_of(ci));
		plan->interface[id].vlan_mask = ci->vlan_zones ? VLAN_MASK : 0;
		plan->interface[id].zone = (uint16_t)zone;
	}
	return 0;
}

const char *mr_zone_name(const struct mr_plan *plan, uint16_t zone, int *vlan)
{
	const struct mr_config *c = plan->config;
	for (uint32_t i = 0; c && i < c->interface_cnt; i++) {
		unsigned id = mr_plan_interface_id(plan, c->interfaces[i].name);
		const struct mr_plan_interface *pi = &plan->interface[id];
		if (!id || (zone & (uint16_t)~pi->vlan_mask) != pi->zone)
			continue;
		*vlan = pi->vlan_mask ? zone >> 4 : -1;
		return name_of(&c->interfaces[i]);
	}
	return NULL;
}
