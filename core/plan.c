/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/plan.h"

#include "core/layout.h"
#include "core/offload.h"
#include "core/stage.h"
#include "core/timeouts.h"
#include "core/zone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What stages ask for with `match: auto`; becomes ordinary match entries. */
struct mr_match_sink {
	struct mr_config_match *match;
	uint32_t cnt, capacity;
};

static int list_prefix(struct mr_prefix_list *l, const struct mr_prefix *p)
{
	if (!p->family)
		return 0;
	l->items = malloc(sizeof(*l->items));
	if (!l->items)
		return -ENOMEM;
	l->items[0] = *p;
	l->cnt = 1;
	return 0;
}

static int list_range(struct mr_range_list *l, const struct mr_range *r)
{
	if (!r->lo && !r->hi)
		return 0;
	l->items = malloc(sizeof(*l->items));
	if (!l->items)
		return -ENOMEM;
	l->items[0] = *r;
	l->cnt = 1;
	return 0;
}

static void match_free(struct mr_config_match *m)
{
	free(m->src.items);
	free(m->dst.items);
	free(m->proto.items);
	free(m->sport.items);
	free(m->dport.items);
}

int mr_match_add(struct mr_match_sink *sink, const struct mr_match_need *need)
{
	if (sink->cnt >= MR_STEER_ENTRIES)
		return -E2BIG;
	if (sink->cnt == sink->capacity) {
		uint32_t capacity = sink->capacity ? sink->capacity * 2 : 8;
		void *grown = realloc(sink->match, capacity * sizeof(*sink->match));
		if (!grown)
			return -ENOMEM;
		sink->match = grown;
		sink->capacity = capacity;
	}
	struct mr_config_match *m = &sink->match[sink->cnt];
	memset(m, 0, sizeof(*m));
	int err = list_prefix(&m->src, &need->src);
	if (!err)
		err = list_prefix(&m->dst, &need->dst);
	if (!err)
		err = list_range(&m->proto, &need->proto);
	if (!err)
		err = list_range(&m->sport, &need->sport);
	if (!err)
		err = list_range(&m->dport, &need->dport);
	if (err) {
		match_free(m);
		return err;
	}
	sink->cnt++;
	return 0;
}

static void sink_free(struct mr_match_sink *s)
{
	for (uint32_t i = 0; i < s->cnt; i++)
		match_free(&s->match[i]);
	free(s->match);
	memset(s, 0, sizeof(*s));
}

unsigned mr_plan_interface_id(const struct mr_plan *plan, const char *name)
{
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++)
		if (plan->interface[id].name && !strcmp(plan->interface[id].name, name))
			return id;
	return 0;
}

/* "kind.name", for sentences. */
struct place {
	char text[160];
};

static struct place place_of(const char *kind, const char *name)
{
	struct place p;
	snprintf(p.text, sizeof(p.text), "%s.%.120s", kind, name);
	return p;
}

static unsigned interface_id(void *ctx, const char *name)
{
	return mr_plan_interface_id(ctx, name);
}

static const struct mr_plan_stage *stage_named(const struct mr_plan *plan, const char *name)
{
	for (unsigned i = 0; plan && i < plan->stage_cnt; i++)
		if (!strcmp(plan->stage[i].name, name))
			return &plan->stage[i];
	return NULL;
}

static int make_stages(
	struct mr_plan *plan, const struct mr_plan_env *env, struct mr_claims *claims, struct mr_error *e)
{
	const struct mr_config *c = plan->config;
	if (c->stage_cnt > MR_PLAN_STAGES)
		return mr_config_error(
			c, e, c->stages[MR_PLAN_STAGES].at, "stages", "more than %u stages", MR_PLAN_STAGES);
	for (uint32_t i = 0; i < c->stage_cnt; i++) {
		const struct mr_config_stage *cs = &c->stages[i];
		const struct mr_stage_type *type = mr_stage_find(cs->type);
		if (!type) {
			char known[256] = "";
			for (unsigned k = 0; mr_stage_at(k); k++) {
				size_t used = strlen(known);
				snprintf(known + used, sizeof(known) - used, "%s%s", k ? ", " : "",
					mr_stage_at(k)->type);
			}
			char where[128];
			snprintf(where, sizeof(where), "stages.%s.type", cs->name);
			return mr_config_error(c, e, cs->type_at, where,
				"'%s' is not a known stage type (known here: %s; others come from 'plugins:')",
				cs->type, known);
		}
		struct mr_plan_stage *s = &plan->stage[plan->stage_cnt];
		*s = (struct mr_plan_stage){ .name = cs->name, .type = type, .config = cs };
		struct mr_stage_env stage_env = {
			.config = c,
			.stage = cs,
			.type = type,
			.stats = env->stats,
			.effects = plan->effects,
			.worker_cnt = env->worker_cnt,
			.neighbours = env->neighbours,
			.routes = env->routes,
			.wants_routes = &plan->wants_routes,
			.interface_id = interface_id,
			.ctx = plan,
			.timeouts = plan->timeouts,
			.announce = &plan->announce,
			.claims = claims,
			.checking = env->checking,
			.error = e,
		};
		int err = mr_layout_place(plan, s, env->previous, e);
		if (!err)
			err = mr_stage_create(&stage_env, s);
		if (err)
			return err;
		plan->stage_cnt++;
	}
	return 0;
}

static int make_interfaces(struct mr_plan *plan, const struct mr_plan_env *env)
{
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		const struct mr_plan_device *d = &env->device[id];
		struct mr_plan_interface *pi = &plan->interface[id];
		pi->name = NULL;
		for (uint32_t i = 0; d->name && i < plan->config->interface_cnt; i++)
			if (!strcmp(plan->config->interfaces[i].name, d->name))
				pi->name = plan->config->interfaces[i].name;
		if (!pi->name)
			continue;
		pi->handback = d->handback;
		pi->link_down = d->link_down || !d->open;
		memcpy(pi->mac, d->mac, sizeof(pi->mac));
		pi->queue_cnt = 0;
		pi->queue = NULL;
		if (!d->open)
			continue;
		unsigned cnt = mr_interface_queue_cnt(d->open);
		pi->queue = calloc(cnt ? cnt : 1, sizeof(*pi->queue));
		if (!pi->queue)
			return -ENOMEM;
		for (unsigned q = 0; q < cnt; q++)
			pi->queue[q] = mr_interface_queue(d->open, q);
		pi->queue_cnt = cnt;
	}
	return 0;
}

static bool shares_device(const struct mr_config *c, const char *interface)
{
	for (uint32_t i = 0; i < c->interface_cnt; i++)
		if (!strcmp(c->interfaces[i].name, interface))
			return c->interfaces[i].attach == MR_ATTACH_SHARED;
	return false;
}

/* What the kernel tier may take of each pair's flows.  Devices come and go: with every plan. */
static void make_offload(struct mr_plan *plan, const struct mr_plan_env *env)
{
	const struct mr_config_flows *flows = &plan->config->flows;
	plan->offloads = false;
	plan->offload_after = (uint32_t)flows->offload_after;
	for (unsigned pair = 1; pair < MR_STATS_INGRESS; pair++) {
		struct mr_plan_ingress *in = &plan->ingress[pair];
		const struct mr_plan_device *d = &env->device[in->interface_id];
		in->offload = MR_OFFLOAD_NEVER;
		in->offload_why = MR_OFFLOAD_INTERFACE;
		if (!in->interface_id || in->pipeline >= plan->pipeline_cnt)
			continue;
		const struct mr_config_pipeline *p = plan->pipeline[in->pipeline].config;
		const struct mr_interface_info *info = d->open ? mr_interface_info(d->open) : NULL;
		if (mr_offload_unwanted(flows, p, info))
			in->offload_why = MR_OFFLOAD_OFF;
		else if (info && !shares_device(plan->config, plan->interface[in->interface_id].name))
			in->offload = (uint8_t)mr_offload_policy(flows, p, info);
		plan->offloads |= in->offload != MR_OFFLOAD_NEVER;
	}
}

static int make_pipelines(struct mr_plan *plan, const struct mr_plan_env *env, struct mr_error *e)
{
	const struct mr_config *c = plan->config;
	if (c->pipeline_cnt > MR_MAX_PIPELINES)
		return mr_config_error(c, e, c->pipelines[MR_MAX_PIPELINES].at, "pipelines", "more than %u pipelines",
			MR_MAX_PIPELINES);
	for (uint32_t i = 0; i < c->pipeline_cnt; i++) {
		const struct mr_config_pipeline *cp = &c->pipelines[i];
		struct mr_plan_pipeline *p = &plan->pipeline[plan->pipeline_cnt++];
		*p = (struct mr_plan_pipeline){
			.name = cp->name, .to_kind = cp->to_kind, .state = cp->state, .config = cp
		};
		if (cp->stages.cnt > MR_PIPELINE_STAGES)
			return mr_config_error(c, e, cp->stages.at[MR_PIPELINE_STAGES],
				place_of("pipelines", cp->name).text, "more than %u stages in a pipeline",
				MR_PIPELINE_STAGES);
		for (uint32_t k = 0; k < cp->stages.cnt; k++) {
			const struct mr_plan_stage *s = stage_named(plan, cp->stages.items[k]);
			if (s->type->session_bytes && cp->state == MR_STATE_NONE)
				return mr_config_error(c, e, cp->stages.at[k], place_of("pipelines", cp->name).text,
					"stage '%s' remembers something of every session, and 'state: none' means "
					"that there are none",
					s->name);
			p->stage[p->stage_cnt++] = s - plan->stage;
		}
		switch (cp->to_kind) {
		case MR_TO_INTERFACE:
			p->to_interface = mr_plan_interface_id(plan, cp->to);
			p->nexthop = p->to_interface;
			break;
		case MR_TO_BACK:
			p->nexthop = MR_NEXTHOP_BACK;
			break;
		case MR_TO_KERNEL:
			p->nexthop = MR_NEXTHOP_KERNEL;
			break;
		case MR_TO_ROUTE: /* each packet's own */
			plan->wants_routes = true;
			break;
		}
		bool stack = cp->to_kind == MR_TO_KERNEL || cp->to_kind == MR_TO_ROUTE;
		for (uint32_t k = 0; stack && k < cp->from.cnt; k++) {
			unsigned id = mr_plan_interface_id(plan, cp->from.items[k]);
			if (id && env->device[id].is_file)
				return mr_config_error(c, e, cp->to_at, place_of("pipelines", cp->name).text,
					"'%s' needs a device, and interface '%s' is a file",
					cp->to_kind == MR_TO_KERNEL ? "kernel" : "route", cp->from.items[k]);
		}
	}
	return 0;
}

static int auto_match(
	struct mr_plan *plan, const struct mr_plan_pipeline *p, struct mr_match_sink *sink, struct mr_error *e)
{
	for (unsigned k = 0; k < p->stage_cnt; k++) {
		struct mr_plan_stage *s = &plan->stage[p->stage[k]];
		int err = s->type->match ? s->type->match(s->self, sink) : 0;
		if (err)
			return mr_error_set(e, err, "pipelines.%s.match: stage '%s' needs too much to be steered: %s",
				p->name, s->name, strerror(-err));
	}
	if (!sink->cnt)
		return mr_config_error(plan->config, e, p->config->at, place_of("pipelines", p->name).text,
			"'match: auto' matches nothing, because none of its stages says what it needs; write 'match: "
			"all' "
			"or a list");
	return 0;
}

static bool comes_from(const struct mr_config_pipeline *cp, const char *interface)
{
	for (uint32_t i = 0; i < cp->from.cnt; i++)
		if (!strcmp(cp->from.items[i], interface))
			return true;
	return false;
}

struct entries {
	struct mr_steer_entry entry[MR_STEER_ENTRIES];
	unsigned cnt;
};

static int add_entry(struct mr_plan *plan, struct entries *all, const struct mr_plan_interface *pi,
	const struct mr_plan_pipeline *p, const struct mr_config_match *match, bool except, struct mr_error *e)
{
	if (all->cnt == MR_STEER_ENTRIES)
		return mr_config_error(plan->config, e, p->config->at, place_of("pipelines", p->name).text,
			"with it interface '%s' has more than %u match and except entries", pi->name, MR_STEER_ENTRIES);
	all->entry[all->cnt++] =
		(struct mr_steer_entry){ .match = match, .pipeline = pi->pipeline_cnt, .except = except };
	return 0;
}

static int steer_pipeline(struct mr_plan *plan, struct mr_plan_interface *pi, const struct mr_plan_pipeline *p,
	const struct mr_match_sink *sink, struct entries *all, struct mr_error *e)
{
	const struct mr_config_pipeline *cp = p->config;
	int err = 0;
	for (uint32_t k = 0; !err && k < cp->except_cnt; k++)
		err = add_entry(plan, all, pi, p, &cp->except[k], true, e);
	if (!err && cp->match_kind == MR_MATCH_ALL)
		err = add_entry(plan, all, pi, p, NULL, false, e);
	for (uint32_t k = 0; !err && cp->match_kind == MR_MATCH_LIST && k < cp->match_cnt; k++)
		err = add_entry(plan, all, pi, p, &cp->match[k], false, e);
	for (uint32_t k = 0; !err && cp->match_kind == MR_MATCH_AUTO && k < sink->cnt; k++)
		err = add_entry(plan, all, pi, p, &sink->match[k], false, e);
	return err;
}

static int number_ingress(struct mr_plan *plan, const struct mr_plan_env *env, unsigned id, const char *pipeline,
	unsigned index, uint8_t *out, struct mr_error *e)
{
	uint8_t pair = mr_stats_ingress_id(env->stats, plan->interface[id].name, pipeline);
	if (!pair)
		return mr_error_set(e, -E2BIG,
			"%s: more than %u pairs of interface and pipeline since the program started; restart it",
			plan->config->path, MR_STATS_INGRESS - 1);
	plan->ingress[pair] = (struct mr_plan_ingress){ .interface_id = id, .pipeline = index };
	*out = pair;
	return 0;
}

static int steer_interface(struct mr_plan *plan, const struct mr_plan_env *env, unsigned id,
	const struct mr_match_sink *sinks, struct mr_error *e)
{
	struct mr_plan_interface *pi = &plan->interface[id];
	struct entries *all = calloc(1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	int err = number_ingress(plan, env, id, "", 0xff, &pi->ingress_none, e);
	for (unsigned i = 0; !err && i < plan->pipeline_cnt; i++) {
		const struct mr_plan_pipeline *p = &plan->pipeline[i];
		if (!comes_from(p->config, pi->name))
			continue;
		err = steer_pipeline(plan, pi, p, &sinks[i], all, e);
		if (!err)
			err = number_ingress(plan, env, id, p->name, i, &pi->ingress[pi->pipeline_cnt], e);
		if (!err)
			pi->pipeline[pi->pipeline_cnt++] = i;
	}
	if (!err)
		err = mr_steer_compile(all->entry, all->cnt, &pi->steer, e);
	if (!err) {
		mr_steer_table_number(pi->steer, plan->generation);
		pi->key_only = mr_steer_key_only(pi->steer);
		pi->fragments_follow = mr_steer_needs_first(pi->steer);
		for (unsigned i = 0; i < pi->pipeline_cnt; i++) {
			const struct mr_plan_pipeline *p = &plan->pipeline[pi->pipeline[i]];
			pi->fragments_follow |= p->stage_cnt || p->state == MR_STATE_SESSIONS;
		}
	}
	free(all);
	return err;
}

static int make_steering(struct mr_plan *plan, const struct mr_plan_env *env, struct mr_error *e)
{
	struct mr_match_sink sinks[MR_MAX_PIPELINES] = { 0 };
	int err = 0;
	for (unsigned i = 0; !err && i < plan->pipeline_cnt; i++)
		if (plan->pipeline[i].config->match_kind == MR_MATCH_AUTO)
			err = auto_match(plan, &plan->pipeline[i], &sinks[i], e);
	for (unsigned id = 1; !err && id <= MR_MAX_INTERFACES; id++)
		if (plan->interface[id].name)
			err = steer_interface(plan, env, id, sinks, e);
	/* Tables are compiled: they keep bits, not entries. */
	for (unsigned i = 0; i < plan->pipeline_cnt; i++)
		sink_free(&sinks[i]);
	return err;
}

/* Ends what a plan owns besides the configuration. */
static void drop_contents(struct mr_plan *plan)
{
	for (unsigned i = 0; i < plan->stage_cnt; i++)
		mr_stage_destroy(&plan->stage[i]);
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		mr_steer_table_free(plan->interface[id].steer);
		free(plan->interface[id].queue);
	}
	mr_effects_destroy(plan->effects);
	mr_timeouts_destroy(plan->timeouts);
	free(plan->announce.items);
}

int mr_plan_create(
	const struct mr_config *config, const struct mr_plan_env *env, struct mr_plan **out, struct mr_error *e)
{
	struct mr_plan *plan = calloc(1, sizeof(*plan));
	struct mr_claims claims = { NULL, 0 };
	int err = -ENOMEM;
	if (!plan)
		goto no_memory;
	plan->config = config;
	plan->serial = env->serial;
	plan->generation = (env->serial - 1) % 65535 + 1;
	plan->worker_cnt = env->worker_cnt;
	plan->nexthops = env->nexthops;
	plan->tier_half = env->tier_half;
	plan->effects = mr_effects_create(env->effects, env->meters);
	plan->timeouts = mr_timeouts_create(env->previous ? env->previous->timeouts : NULL);
	if (!plan->effects || !plan->timeouts)
		goto no_memory;
	err = make_interfaces(plan, env);
	if (err)
		goto no_memory;
	err = mr_zone_number_all(plan, env->previous, e);
	if (!err)
		err = make_stages(plan, env, &claims, e);
	free(claims.claim);
	if (!err)
		err = make_pipelines(plan, env, e);
	if (!err)
		err = make_steering(plan, env, e);
	if (err)
		goto failed;
	make_offload(plan, env);
	mr_layout_compare(plan, env->previous);
	*out = plan;
	return 0;
no_memory:
	mr_error_set(e, err, "out of memory while preparing the configuration");
failed:
	if (plan) {
		drop_contents(plan);
		free(plan);
	}
	return err;
}

int mr_plan_check(const struct mr_config *config, unsigned worker_cnt, struct mr_error *e)
{
	return mr_plan_visit(config, worker_cnt, NULL, NULL, e);
}

int mr_plan_visit(
	const struct mr_config *config, unsigned worker_cnt, mr_plan_visit_fn fn, void *ctx, struct mr_error *e)
{
	struct mr_plan *plan = NULL;
	struct mr_plan_env env = { .stats = mr_stats_create(worker_cnt),
		.nexthops = mr_nexthops_create(NULL),
		.worker_cnt = worker_cnt,
		.serial = 1,
		.checking = true };
	int err = 0;
	if (!env.stats || !env.nexthops)
		err = mr_error_set(e, -ENOMEM, "out of memory while checking the configuration");
	else if (config->interface_cnt > MR_MAX_INTERFACES)
		err = mr_config_error(config, e, config->interfaces[MR_MAX_INTERFACES].at, "interfaces",
			"more than %u interfaces", MR_MAX_INTERFACES);
	for (uint32_t i = 0; !err && i < config->interface_cnt; i++)
		env.device[i + 1] = (struct mr_plan_device){ .name = config->interfaces[i].name,
			.is_file = !config->interfaces[i].device };
	if (!err)
		err = mr_plan_create(config, &env, &plan, e);
	for (unsigned i = 0; plan && fn && i < plan->stage_cnt; i++)
		fn(ctx, &plan->stage[i]);
	if (plan) {
		drop_contents(plan);
		free(plan);
	}
	mr_nexthops_destroy(env.nexthops);
	mr_stats_destroy(env.stats);
	return err;
}

void mr_plan_adopt(struct mr_plan *plan, struct mr_plan *previous)
{
	for (unsigned i = 0; i < plan->stage_cnt; i++) {
		struct mr_plan_stage *s = &plan->stage[i];
		const struct mr_plan_stage *before = previous ? mr_layout_same(previous, s) : NULL;
		s->inherits = before != NULL;
		if (before && s->type->adopt)
			s->type->adopt(s->self, before->self);
	}
}

int mr_plan_refresh(const struct mr_plan *old, const struct mr_plan_env *env, struct mr_plan **out, struct mr_error *e)
{
	struct mr_plan *plan = malloc(sizeof(*plan));
	if (!plan)
		return mr_error_set(e, -ENOMEM, "out of memory while taking up a device");
	memcpy(plan, old, sizeof(*plan));
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++)
		plan->interface[id].queue = NULL; /* the old shell keeps its own */
	if (make_interfaces(plan, env)) {
		mr_plan_free_shell(plan);
		return mr_error_set(e, -ENOMEM, "out of memory while taking up a device");
	}
	mr_zone_number_all(plan, old, NULL);
	make_offload(plan, env);
	*out = plan;
	return 0;
}

void mr_plan_free_shell(struct mr_plan *plan)
{
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++)
		free(plan->interface[id].queue);
	free(plan);
}

void mr_plan_destroy(struct mr_plan *plan)
{
	if (!plan)
		return;
	drop_contents(plan);
	mr_config_free((struct mr_config *)plan->config);
	free(plan);
}
