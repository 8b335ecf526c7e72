/* SPDX-License-Identifier: BSD-2-Clause */
/* place.c - which of a session's private bytes are a stage's. */
#include "core/layout.h"
#include "core/session.h"

#include <stdio.h>
#include <string.h>

static bool offset_free(const struct mr_plan *plan, const struct mr_plan_stage *s, unsigned offset)
{
	unsigned end = offset + s->type->session_bytes;
	if (end > MR_SESSION_PRIVATE_BYTES)
		return false;
	for (unsigned i = 0; i < plan->stage_cnt; i++) {
		const struct mr_plan_stage *o = &plan->stage[i];
		if (o == s || !o->type->session_bytes || !mr_config_share_pipeline(plan->config, s->name, o->name))
			continue;
		if (offset < o->session_offset + o->type->session_bytes && o->session_offset < end)
			return false;
	}
	return true;
}

static bool goes_on(const struct mr_config *c, const struct mr_plan_stage *before)
{
	for (uint32_t i = 0; i < c->stage_cnt; i++)
		if (!strcmp(c->stages[i].name, before->name))
			return !strcmp(c->stages[i].type, before->type->type);
	return false;
}

/* Whether living sessions have something else there: of a stage that goes on beside this one, or (any) of one that was. */
static bool offset_used(const struct mr_plan *plan, const struct mr_plan_stage *s, const struct mr_plan *previous,
	unsigned offset, bool any)
{
	for (unsigned i = 0; previous && i < previous->stage_cnt; i++) {
		const struct mr_plan_stage *b = &previous->stage[i];
		if (offset >= b->session_offset + b->type->session_bytes ||
			b->session_offset >= offset + s->type->session_bytes)
			continue;
		if (any || (goes_on(plan->config, b) && mr_config_share_pipeline(plan->config, s->name, b->name)))
			return true;
	}
	return false;
}

int mr_layout_place(struct mr_plan *plan, struct mr_plan_stage *s, const struct mr_plan *previous, struct mr_error *e)
{
	char where[160];
	if (!s->type->session_bytes)
		return 0;
	const struct mr_plan_stage *before = previous ? mr_layout_same(previous, s) : NULL;
	if (before && offset_free(plan, s, before->session_offset)) {
		s->session_offset = before->session_offset;
		return 0;
	}
	for (int any = 1; any >= 0; any--)
		for (unsigned offset = 0; offset < MR_SESSION_PRIVATE_BYTES; offset += 8)
			if (offset_free(plan, s, offset) && !offset_used(plan, s, previous, offset, any)) {
				s->session_offset = offset;
				return 0;
			}
	snprintf(where, sizeof(where), "stages.%.120s", s->name);
	return mr_config_error(plan->config, e, s->config->at, where,
		"the stages that share a pipeline with it leave no room for its %u bytes in a session (%u in all)",
		s->type->session_bytes, MR_SESSION_PRIVATE_BYTES);
}
