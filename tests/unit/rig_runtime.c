/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig_runtime.h"

#include "core/egress.h"
#include "core/hotplug.h"
#include "core/reload.h"
#include "core/tier.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* In place of core/interface.c and core/runtime.c. */

static const struct mr_interface_info info = { .name = "rig",
	.device = "rig0",
	.driver = "rig",
	.kind = MR_INTERFACE_MEMORY,
	.mac = { 2, 0, 0, 0, 0, 9 },
	.mtu = 1500,
	.queue_cnt = 1,
	.device_queue_cnt = 1,
	.up = true };

void mr_interface_poll(struct mr_interface *i)
{
}

void mr_egress_counted(const struct mr_runtime *rt, unsigned id, struct mr_egress_count *out)
{
	*out = rt->interface[id].closed_egress;
}

bool mr_egress_is(const struct mr_runtime *rt, unsigned id, const char **why)
{
	*why = "";
	return rt->sh.tier && mr_tier_takes(rt->sh.tier, id);
}

void mr_hotplug_poll(struct mr_runtime *rt)
{
}

struct mr_steer *mr_interface_steer(struct mr_interface *i)
{
	return NULL;
}

int mr_runtime_reload(struct mr_runtime *rt, const char *path, struct mr_error *e)
{
	if (path && !strcmp(path, "bad"))
		return mr_error_set(e, -EINVAL, "bad:1:1: it is wrong");
	if (path && !strcmp(path, "gone"))
		return mr_error_set(e, -EIO, "it went away");
	rt->serial++;
	return 0;
}

int mr_reload_read(const char *path, struct mr_config **out, struct mr_error *e)
{
	return mr_config_read(path, out, e);
}

int mr_reload_check(struct mr_runtime *rt, const struct mr_config *c, struct mr_error *e)
{
	return 0;
}

void rig_runtime_refresh(struct mr_runtime *rt, struct rig *r)
{
	const struct mr_plan *plan = rig_plan(r);
	unsigned removed = 0;
	atomic_store(&rt->sh.plan, rig_plan(r));
	rt->serial = r->serial;
	/* as core/hotplug.c keeps interfaces that leave */
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		if (!rt->interface[id].name || plan->interface[id].name)
			continue;
		rt->removed[removed++] = (struct mr_runtime_removed){ .name = rt->interface[id].name, .id = id };
		memset(&rt->interface[id], 0, sizeof(rt->interface[id]));
	}
}

struct mr_runtime *rig_runtime_create(struct rig *r)
{
	struct mr_runtime *rt = calloc(1, sizeof(*rt));
	if (!rt)
		abort();
	rt->opt.instance = "rig";
	rt->opt.path = "test.yaml";
	rt->sh = r->sh;
	for (unsigned w = 0; w < r->sh.worker_cnt; w++)
		rt->worker[w] = r->worker[w];
	for (unsigned id = 1; id < sizeof(r->name) / sizeof(r->name[0]); id++) {
		rt->interface[id].name = r->name[id];
		rt->interface[id].open = r->name[id] ? &r->interface[id] : NULL;
		if (!r->sh.tier) /* else they stay what the plan made of them */
			r->interface[id].info = info;
	}
	rig_runtime_refresh(rt, r);
	return rt;
}

void rig_runtime_destroy(struct mr_runtime *rt)
{
	free(rt);
}
