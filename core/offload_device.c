/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/offload_device.h"

#include "core/offload.h"

#include <stdio.h>
#include <string.h>

static bool is_from(const struct mr_config_pipeline *p, const char *interface)
{
	for (uint32_t i = 0; i < p->from.cnt; i++)
		if (!strcmp(p->from.items[i], interface))
			return true;
	return false;
}

/* Some pipeline from it offloads; `as` is the interface as it is, or as if it were bound otherwise. */
static bool some(const struct mr_config *c, const char *interface, const struct mr_interface_info *as)
{
	for (uint32_t i = 0; i < c->pipeline_cnt; i++)
		if (is_from(&c->pipelines[i], interface) &&
			mr_offload_policy(&c->flows, &c->pipelines[i], as) != MR_OFFLOAD_NEVER)
			return true;
	return false;
}

bool mr_offload_in(const struct mr_config *c, const struct mr_config_interface *i, const struct mr_interface_info *info,
	char *why, size_t why_bytes)
{
	struct mr_interface_info copy = *info;
	copy.mode = MR_MODE_COPY;
	copy.tier_why[0] = '\0';
	const char *because = "";
	if (!i->device)
		because = "capture files and memory are not received by the kernel";
	else if (i->attach == MR_ATTACH_SHARED)
		because = "attach: shared: programs beside ours would not see its packets";
	else if (info->mode == MR_MODE_GENERIC)
		because = "generic mode: it would gain nothing there (native mode is wanted)";
	else if (!some(c, i->name, &copy))
		because = "no pipeline from it leaves flows to the kernel (offload: never, or state: none)";
	else if (info->tier_why[0])
		because = info->tier_why;
	else if (!some(c, i->name, info))
		because = "zero-copy mode: only where flows.offload or the pipeline's offload is given";
	snprintf(why, why_bytes, "%s", because);
	return !because[0];
}
