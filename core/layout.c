/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/layout.h"

#include "core/session.h"

#include <string.h>

static const struct mr_plan_stage *stage_named(const struct mr_plan *plan, const char *name)
{
	for (unsigned i = 0; plan && i < plan->stage_cnt; i++)
		if (!strcmp(plan->stage[i].name, name))
			return &plan->stage[i];
	return NULL;
}

const struct mr_plan_stage *mr_layout_same(const struct mr_plan *plan, const struct mr_plan_stage *s)
{
	const struct mr_plan_stage *found = stage_named(plan, s->name);
	return found && found->type == s->type ? found : NULL;
}

bool mr_layout_concerns(const struct mr_plan_stage *s)
{
	return s->type->session_bytes || s->type->expire;
}

static const struct mr_plan_pipeline *pipeline_of(const struct mr_plan *plan, unsigned pair)
{
	const struct mr_plan_ingress *in = &plan->ingress[pair];
	return in->interface_id && in->pipeline < plan->pipeline_cnt ? &plan->pipeline[in->pipeline] : NULL;
}

bool mr_layout_lodges(const struct mr_plan *plan, unsigned pair, unsigned stage)
{
	const struct mr_plan_pipeline *p = pipeline_of(plan, pair);
	for (unsigned i = 0; p && i < p->stage_cnt; i++)
		if (p->stage[i] == stage)
			return true;
	return false;
}

bool mr_layout_stays(const struct mr_plan *plan, unsigned pair, const struct mr_plan_stage *before)
{
	const struct mr_plan_stage *now = mr_layout_same(plan, before);
	if (!now || !mr_layout_lodges(plan, pair, (unsigned)(now - plan->stage)))
		return false;
	return !now->type->session_bytes || now->session_offset == before->session_offset;
}

void mr_layout_compare(struct mr_plan *plan, struct mr_plan *previous)
{
	bool any = false;
	if (!previous)
		return;
	for (unsigned pair = 1; pair < MR_STATS_INGRESS; pair++) {
		const struct mr_plan_pipeline *was = pipeline_of(previous, pair);
		for (unsigned i = 0; was && i < was->stage_cnt; i++) {
			const struct mr_plan_stage *s = &previous->stage[was->stage[i]];
			plan->changed[pair] |= mr_layout_concerns(s) && !mr_layout_stays(plan, pair, s);
		}
		any |= plan->changed[pair];
	}
	plan->before_serial = previous->serial;
	atomic_store_explicit(&plan->before, any ? previous : NULL, memory_order_release);
}

enum mr_layout mr_layout_of(const struct mr_plan *plan, const struct mr_plan *in_force, const struct mr_session *x)
{
	uint32_t serial = __atomic_load_n(&x->serial, __ATOMIC_RELAXED), mine = (uint32_t)plan->serial;
	if (serial == mine)
		return MR_LAYOUT_KNOWN;
	if ((int32_t)(serial - mine) > 0) /* with nobody after this plan, it was one that was given up */
		return in_force->serial == plan->serial ? MR_LAYOUT_OLD
			: in_force->changed[x->ingress] ? MR_LAYOUT_NEWER
							: MR_LAYOUT_KNOWN;
	/* Between the two there were only plans that were given up. */
	if ((int32_t)(serial - (uint32_t)plan->before_serial) > 0)
		return MR_LAYOUT_OLD;
	return plan->changed[x->ingress] ? MR_LAYOUT_OLD : MR_LAYOUT_KNOWN;
}
