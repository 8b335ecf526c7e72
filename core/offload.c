/* SPDX-License-Identifier: BSD-2-Clause */
/* offload.c - the kernel tier's policy: what the file wants, and what a device can. */
#include "core/offload.h"

#include <string.h>

static const char *const names[MR_OFFLOAD_CNT] = {
#define X(sym, name, help) name,
	MR_OFFLOADS(X)
#undef X
};

static const char *const helps[MR_OFFLOAD_CNT] = {
#define X(sym, name, help) help,
	MR_OFFLOADS(X)
#undef X
};

const char *mr_offload_name(enum mr_offload_why why)
{
	return (unsigned)why < MR_OFFLOAD_CNT ? names[why] : "";
}

const char *mr_offload_help(enum mr_offload_why why)
{
	return (unsigned)why < MR_OFFLOAD_CNT ? helps[why] : "";
}

/* The file's word, and whether somebody said it.  Without records there is nothing to carry out. */
static int word_of(const struct mr_config_flows *flows, const struct mr_config_pipeline *p, bool *said)
{
	*said = p->has_offload || flows->has_offload;
	return p->state == MR_STATE_NONE ? MR_OFFLOAD_NEVER : p->has_offload ? p->offload : flows->offload;
}

int mr_offload_policy(
	const struct mr_config_flows *flows, const struct mr_config_pipeline *p, const struct mr_interface_info *in)
{
	bool said;
	int word = word_of(flows, p, &said);
	if (in->kind != MR_INTERFACE_XSK || in->mode == MR_MODE_GENERIC || in->tier_why[0])
		return MR_OFFLOAD_NEVER;
	return in->mode == MR_MODE_ZEROCOPY && !said ? MR_OFFLOAD_NEVER : word;
}

bool mr_offload_unwanted(
	const struct mr_config_flows *flows, const struct mr_config_pipeline *p, const struct mr_interface_info *in)
{
	bool said;
	int word = word_of(flows, p, &said);
	return word == MR_OFFLOAD_NEVER || (in && in->mode == MR_MODE_ZEROCOPY && !said);
}

static const struct mr_config_interface *interface_named(const struct mr_config *c, const char *name)
{
	for (uint32_t i = 0; i < c->interface_cnt; i++)
		if (!strcmp(c->interfaces[i].name, name))
			return &c->interfaces[i];
	return NULL;
}

/* What can be told before it is opened. */
static bool may_have_one(const struct mr_config_interface *i, bool said)
{
	return i && i->device && i->attach != MR_ATTACH_SHARED && i->mode != MR_MODE_GENERIC &&
		(said || i->mode != MR_MODE_ZEROCOPY);
}

bool mr_offload_wanted(const struct mr_config *c)
{
	for (uint32_t k = 0; k < c->pipeline_cnt; k++) {
		const struct mr_config_pipeline *p = &c->pipelines[k];
		bool said;
		if (word_of(&c->flows, p, &said) == MR_OFFLOAD_NEVER)
			continue;
		for (uint32_t i = 0; i < p->from.cnt; i++)
			if (may_have_one(interface_named(c, p->from.items[i]), said))
				return true;
	}
	return false;
}
