/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/reload.h"

#include "core/announce.h"
#include "core/egress.h"
#include "core/hotplug.h"
#include "core/mirror.h"
#include "core/offload.h"
#include "core/stage.h"
#include "core/timeouts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int check_cores(const struct mr_config *c, struct mr_error *e)
{
	long online = sysconf(_SC_NPROCESSORS_CONF);
	unsigned cnt = mr_runtime_worker_cnt(c);
	if (cnt > MR_WORKERS_MAX)
		return mr_config_error(
			c, e, c->workers.cores.at, "workers", "%u workers, and %u is the most", cnt, MR_WORKERS_MAX);
	for (unsigned w = 0; w < cnt; w++)
		if (mr_runtime_worker_core(c, w) >= online)
			return mr_config_error(c, e, c->workers.cores.at, "workers.cores",
				"there is no core %d here (0-%ld)", mr_runtime_worker_core(c, w), online - 1);
	return 0;
}

static int load_plugins(const struct mr_config *c, struct mr_error *e)
{
	for (uint32_t i = 0; i < c->plugins.cnt; i++) {
		struct mr_error why = { "" };
		int err = mr_stage_load(c->plugins.items[i], &why);
		if (err)
			return mr_config_error(c, e, c->plugins.at[i], "plugins", "%s", why.text);
	}
	return 0;
}

/* The first stage that guards, of the pipelines that take packets of the interface. */
static const char *guard_of(const struct mr_config *c, const char *interface)
{
	for (uint32_t p = 0; p < c->pipeline_cnt; p++) {
		const struct mr_config_pipeline *line = &c->pipelines[p];
		bool from = false;
		for (uint32_t i = 0; i < line->from.cnt; i++)
			from |= !strcmp(line->from.items[i], interface);
		for (uint32_t s = 0; from && s < c->stage_cnt; s++)
			for (uint32_t i = 0; i < line->stages.cnt; i++) {
				const struct mr_stage_type *t = mr_stage_find(c->stages[s].type);
				if (!strcmp(line->stages.items[i], c->stages[s].name) && t && t->guards)
					return c->stages[s].name;
			}
	}
	return NULL;
}

static bool takes_all(const struct mr_config *c, const char *interface)
{
	for (uint32_t p = 0; p < c->pipeline_cnt; p++)
		for (uint32_t i = 0; i < c->pipelines[p].from.cnt; i++)
			if (c->pipelines[p].match_kind == MR_MATCH_ALL &&
				!strcmp(c->pipelines[p].from.items[i], interface))
				return true;
	return false;
}

/* What happens without us, where the file leaves it open.  A file or a shared device is not ours to close. */
static int decide_exit(struct mr_config *c, struct mr_error *e)
{
	for (uint32_t n = 0; n < c->interface_cnt; n++) {
		struct mr_config_interface *i = &c->interfaces[n];
		i->takes_all = takes_all(c, i->name);
		if (i->on_exit == MR_EXIT_AUTO) {
			bool closes = i->device && i->attach != MR_ATTACH_SHARED;
			i->on_exit_why = closes ? guard_of(c, i->name) : NULL;
			i->on_exit = i->on_exit_why ? MR_EXIT_DROP : MR_EXIT_PASS;
		}
		char where[80];
		snprintf(where, sizeof(where), "interfaces.%s.on_exit", i->name);
		if (i->on_exit == MR_EXIT_DROP && (!i->device || i->attach == MR_ATTACH_SHARED))
			return mr_config_error(c, e, mr_config_locate(c, where), where, "drop %s",
				i->device ? "needs a BPF link of its own: set attach: link, or leave on_exit out"
					  : "is for devices, and this is a file");
		if (i->unserved == MR_EXIT_AUTO)
			i->unserved = i->on_exit;
		if (i->on_exit != MR_EXIT_DROP || i->unserved == MR_EXIT_DROP)
			continue;
		snprintf(where, sizeof(where), "interfaces.%s.unserved", i->name);
		return mr_config_error(c, e, mr_config_locate(c, where), where,
			"pass cannot go with on_exit: drop%s%s%s: the program that drops when all sockets are gone "
			"drops when one "
			"is missing; set on_exit: pass as well, or leave unserved out",
			i->on_exit_why ? " (the default behind stage '" : "", i->on_exit_why ? i->on_exit_why : "",
			i->on_exit_why ? "')" : "");
	}
	return 0;
}

int mr_reload_read(const char *path, struct mr_config **out, struct mr_error *e)
{
	struct mr_config *c;
	int err = mr_config_read(path, &c, e);
	if (err)
		return err;
	err = check_cores(c, e);
	if (!err)
		err = load_plugins(c, e);
	if (!err)
		err = decide_exit(c, e);
	if (!err)
		err = mr_plan_check(c, mr_runtime_worker_cnt(c), e);
	if (err) {
		mr_config_free(c);
		return err;
	}
	*out = c;
	return 0;
}

struct place {
	char text[160];
};

static struct place place_of(const struct mr_config_interface *i)
{
	struct place p;
	snprintf(p.text, sizeof(p.text), "interfaces.%.120s", i->name);
	return p;
}

int mr_reload_place(const struct mr_config *c, const struct mr_config_interface *i, int err, struct mr_error *e)
{
	struct mr_error why = *e;
	char where[80];
	snprintf(where, sizeof(where), "interfaces.%s", i->name);
	(void)mr_config_error(c, e, i->at, where, "%s", why.text);
	return err;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static bool same_ranges(const struct mr_range_list *a, const struct mr_range_list *b)
{
	return a->cnt == b->cnt && (!a->cnt || !memcmp(a->items, b->items, a->cnt * sizeof(*a->items)));
}

/* What a running interface cannot change without closing its sockets: NULL, or the key. */
static const char *interface_difference(const struct mr_config_interface *a, const struct mr_config_interface *b)
{
	if (!same_text(a->device, b->device))
		return "device";
	if (!same_text(a->pcap_in, b->pcap_in) || !same_text(a->pcap_out, b->pcap_out))
		return "pcap";
	if (!same_text(a->memory.file, b->memory.file) || a->memory.repeat != b->memory.repeat)
		return "memory";
	if (a->mode != b->mode)
		return "mode";
	if (!same_ranges(&a->queues, &b->queues))
		return "queues";
	if (a->channels != b->channels)
		return "channels";
	if (a->attach != b->attach)
		return "attach";
	if (a->rx_ring != b->rx_ring || a->tx_ring != b->tx_ring)
		return "rx_ring or tx_ring";
	return NULL;
}

static const struct mr_config_interface *interface_named(const struct mr_config *c, const char *name)
{
	for (uint32_t i = 0; i < c->interface_cnt; i++)
		if (!strcmp(c->interfaces[i].name, name))
			return &c->interfaces[i];
	return NULL;
}

/* Memory the kernel shares is made at the start or not at all.  Who says nothing about it goes on without. */
static int check_offload(struct mr_runtime *rt, const struct mr_config *c, struct mr_error *e)
{
	char where[80] = "flows.offload";
	bool said = c->flows.has_offload && c->flows.offload != MR_OFFLOAD_NEVER;
	if (rt->tier_wanted || !mr_offload_wanted(c))
		return 0;
	for (uint32_t p = 0; p < c->pipeline_cnt && !said; p++)
		if (c->pipelines[p].has_offload && c->pipelines[p].offload != MR_OFFLOAD_NEVER) {
			snprintf(where, sizeof(where), "pipelines.%s.offload", c->pipelines[p].name);
			said = true;
		}
	return !said ? 0
		     : mr_config_error(c, e, mr_config_locate(c, where), where,
			       "nothing was to be left to the kernel when the program started; beginning with it needs "
			       "a restart");
}

int mr_reload_check(struct mr_runtime *rt, const struct mr_config *c, struct mr_error *e)
{
	const struct mr_config *old = mr_runtime_plan(rt)->config;
	struct mr_position nowhere = { 0 };
	if (!same_ranges(&c->workers.cores, &old->workers.cores) ||
		mr_runtime_worker_cnt(c) != mr_runtime_worker_cnt(old) || c->workers.idle != old->workers.idle ||
		c->workers.spin_ns != old->workers.spin_ns)
		return mr_config_error(c, e, c->workers.cores.at, "workers", "changing workers needs a restart");
	if (c->memory.frames_cnt != old->memory.frames_cnt || c->memory.frame_bytes != old->memory.frame_bytes ||
		c->memory.huge != old->memory.huge)
		return mr_config_error(c, e, nowhere, "memory", "changing the packet memory needs a restart");
	if (c->flows.capacity != old->flows.capacity)
		return mr_config_error(
			c, e, nowhere, "flows.capacity", "changing the size of the flow table needs a restart");
	int err = check_offload(rt, c, e);
	if (err)
		return err;
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		const struct mr_runtime_interface *ri = &rt->interface[id];
		const struct mr_config_interface *ci = ri->name ? interface_named(c, ri->name) : NULL;
		const char *key = ci ? interface_difference(&ri->config, ci) : NULL;
		if (key)
			return mr_config_error(c, e, ci->at, place_of(ci).text,
				"changing %s of a running interface needs a restart, or two reloads: one without the "
				"interface, one with it again",
				key);
	}
	return 0;
}

struct opened {
	bool fresh[MR_MAX_INTERFACES + 1]; /* opened by this reload */
};

static int open_new(struct mr_runtime *rt, const struct mr_config *c, struct opened *o, struct mr_error *e)
{
	for (uint32_t i = 0; i < c->interface_cnt; i++) {
		const struct mr_config_interface *ci = &c->interfaces[i];
		unsigned id = mr_hotplug_id(rt, ci->name);
		if (id && rt->interface[id].name)
			continue;
		if (!id)
			return mr_config_error(c, e, ci->at, place_of(ci).text,
				"no room for another interface before the ones that leave are gone; reload in two "
				"steps");
		int err = mr_hotplug_open(rt, id, ci, e);
		if (err)
			return mr_reload_place(c, ci, err, e);
		o->fresh[id] = true;
	}
	return 0;
}

static void close_new(struct mr_runtime *rt, const struct opened *o)
{
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++)
		if (o->fresh[id]) {
			mr_hotplug_let_go(rt, id, false);
			mr_hotplug_forget(rt, id);
		}
}

/* Puts a plan's steering in force on every open interface, and what it says about on_exit and unserved; interfaces the plan does
 * not have steer nothing. */
static int steer_all(struct mr_runtime *rt, const struct mr_plan *plan, struct mr_error *e)
{
	int err = 0;
	for (unsigned id = 1; !err && id <= MR_MAX_INTERFACES; id++) {
		struct mr_runtime_interface *ri = &rt->interface[id];
		if (!ri->open)
			continue;
		const struct mr_config_interface *ci =
			plan->interface[id].name ? interface_named(plan->config, ri->name) : NULL;
		err = mr_interface_apply(ri->open, ci ? plan->interface[id].steer : NULL, ci ? ci : &ri->config, e);
	}
	return err;
}

/* When the device comes back, it is opened as this plan says. */
static void keep_exit(struct mr_runtime *rt, const struct mr_plan *plan)
{
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		struct mr_runtime_interface *ri = &rt->interface[id];
		const struct mr_config_interface *ci = ri->name ? interface_named(plan->config, ri->name) : NULL;
		if (!ci)
			continue;
		ri->config.on_exit = ci->on_exit;
		ri->config.unserved = ci->unserved;
	}
}

static void close_left_over(struct mr_runtime *rt, const struct mr_plan *plan)
{
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++)
		if (rt->interface[id].name && !plan->interface[id].name) {
			/* not ours any more, whatever its on_exit was: that is for when Millrace is gone */
			mr_hotplug_let_go(rt, id, true);
			mr_hotplug_forget(rt, id);
		}
}

/* Pipelines decide it where the interface does not say.  One that cannot be switched stays as it is, and is tried again by the next
 * reload: its packets are classified like any others. */
static void follow_promiscuous(struct mr_runtime *rt, const struct mr_config *c)
{
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		struct mr_runtime_interface *ri = &rt->interface[id];
		const struct mr_config_interface *ci = ri->name ? interface_named(c, ri->name) : NULL;
		struct mr_error e = { "" };
		if (!ci)
			continue;
		ri->config.promiscuous = ci->promiscuous;
		if (ri->open && mr_interface_promiscuous(ri->open, ci->promiscuous, &e))
			mr_runtime_log(rt, "interface %s: %s", ri->name, e.text);
	}
}

/* Generations have 16 bits in flow records: before a number comes round, idle flows that were decided under it must not have it any more. */
#define OUTDATE_RELOADS 16384

static void outdate_flows(struct mr_runtime *rt, const struct mr_plan *plan)
{
	if (rt->serial - rt->outdated_serial < OUTDATE_RELOADS)
		return;
	mr_flows_outdate(rt->sh.flows, plan->generation);
	rt->outdated_serial = rt->serial;
}

void mr_reload_timeouts(struct mr_runtime *rt, const struct mr_plan *plan)
{
	uint64_t half_open = plan->config->flows.half_open_max;
	mr_timeouts_apply(plan->timeouts, rt->sh.sessions);
	mr_sessions_configure(rt->sh.sessions, &plan->config->flows.timeouts,
		half_open ? half_open : plan->config->flows.capacity / 2);
}

/* The plan before ends, and with it the sessions that nobody else could end.  For one epoch a worker may look at it for them, or count one. */
static void end_old(struct mr_runtime *rt, struct mr_plan *plan, struct mr_plan *old)
{
	bool looked_at = atomic_load(&plan->before) != NULL;
	mr_succession_walk(&rt->sh, plan, old);
	int late = mr_runtime_wait(rt);
	mr_succession_count(plan, old, &rt->last_succession);
	if (looked_at && late) {
		old->was_in_force = true; /* and stays: who is late may need it still */
		mr_runtime_abandon(rt, old, false);
		return;
	}
	mr_succession_close(plan);
	mr_egress_give(rt, old->tier_half);
	mr_plan_destroy(old);
}

static int swap_to(struct mr_runtime *rt, struct mr_config *c, struct mr_error *e)
{
	struct opened o = { { false } };
	struct mr_plan *old = mr_runtime_plan(rt), *plan = NULL;
	struct mr_plan_env env = { .tier_half = -1 };
	struct mr_error ignored;

	int err = mr_reload_check(rt, c, e);
	if (!err)
		err = open_new(rt, c, &o, e);
	if (err)
		goto undo;
	mr_hotplug_describe(rt, &env);
	mr_egress_describe(rt, &env);
	env.serial = rt->serial + 1;
	err = mr_plan_create(c, &env, &plan, e);
	if (err)
		goto undo;
	c = NULL; /* the plan's */
	err = mr_mirror_open(rt, plan, e);
	if (err)
		goto undo;
	err = steer_all(rt, plan, e);
	if (err) {
		steer_all(rt, old, &ignored);
		goto undo;
	}
	mr_plan_adopt(plan, old);
	mr_mirror_withdraw(
		rt, plan); /* what they would be sent goes to the kernel, while it is still taken up by the old plan */
	err = mr_runtime_publish(rt, plan, e);
	mr_mirror_follow(rt, mr_runtime_plan(rt));
	if (err) {
		/* Nothing of it can be ended: a worker that is late may be in it, and store decisions under its number, which is
		 * used up.  The next reload closes what it opened. */
		rt->serial++;
		steer_all(rt, old, &ignored);
		mr_runtime_abandon(rt, plan, false);
		return err;
	}
	rt->serial++;
	rt->loaded_at = time(NULL);
	mr_reload_timeouts(rt, plan);
	mr_announce_follow(rt, plan);
	keep_exit(rt, plan);
	follow_promiscuous(rt, plan->config);
	close_left_over(rt, plan);
	end_old(rt, plan, old);
	outdate_flows(rt, plan);
	return 0;
undo:
	mr_plan_destroy(plan);
	mr_egress_give(rt, env.tier_half);
	close_new(rt, &o);
	mr_config_free(c);
	return err;
}

int mr_runtime_reload(struct mr_runtime *rt, const char *path, struct mr_error *e)
{
	struct mr_config *c = NULL;
	struct mr_error why = { "" };
	char *kept = strdup(path ? path : rt->opt.path);
	int err = kept ? mr_reload_read(kept, &c, &why) : mr_error_set(&why, -ENOMEM, "out of memory");
	if (!err)
		err = swap_to(rt, c, &why);
	if (err) {
		rt->reload_failures++;
		snprintf(rt->last_reload, sizeof(rt->last_reload), "refused: %.480s", why.text);
		mr_error_set(e, err, "%s", why.text);
		free(kept);
	} else {
		char ended[256];
		mr_succession_say(&rt->last_succession, ended, sizeof(ended));
		snprintf(rt->last_reload, sizeof(rt->last_reload), "generation %llu from %.200s%s%s",
			(unsigned long long)rt->serial, kept, *ended ? "; " : "", ended);
		free((char *)rt->opt.path);
		rt->opt.path = kept;
	}
	mr_runtime_log(rt, "reload %s", rt->last_reload);
	return err;
}
