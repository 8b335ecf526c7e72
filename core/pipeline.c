/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/pipeline.h"

#include "core/layout.h"

static void enter_stage(struct mr_packet *p, const struct mr_plan_stage *s, unsigned position)
{
	const struct mr_plan *plan = p->pass->plan;
	p->private_offset = s->session_offset;
	p->private_bytes = s->type->session_bytes;
	p->private_foreign = s->type->session_bytes && p->session && p->opened_by != p->ingress &&
		!mr_layout_lodges(plan, p->opened_by, (unsigned)(s - plan->stage));
	p->ran |= 1u << position;
}

unsigned mr_pipeline_ask(
	const struct mr_pass *pass, unsigned pipeline, unsigned position, struct mr_packet **live, unsigned n)
{
	const struct mr_plan_stage *s = &pass->plan->stage[pass->plan->pipeline[pipeline].stage[position]];
	struct mr_batch batch = { .cnt = 0 };
	unsigned left = 0;
	for (unsigned i = 0; i < n; i++) {
		struct mr_packet *p = live[i];
		enter_stage(p, s, position);
		if (!p->stale || !s->type->revalidate) {
			batch.packet[batch.cnt++] = p;
			continue;
		}
		if (s->type->revalidate(s->self, pass->worker, p) != MR_REVALIDATE_END)
			continue;
		if (p->verdict == MR_VERDICT_DROP)
			p->ends = true;
		else
			p->verdict = MR_VERDICT_AGAIN;
	}
	if (batch.cnt)
		s->type->decide(s->self, pass->worker, &batch);
	for (unsigned i = 0; i < n; i++)
		if (live[i]->verdict == MR_VERDICT_GO)
			live[left++] = live[i];
	return left;
}

void mr_pipeline_run(const struct mr_pass *pass, unsigned pipeline, struct mr_packet **packet, unsigned n)
{
	const struct mr_plan_pipeline *pl = &pass->plan->pipeline[pipeline];
	struct mr_packet *live[MR_BATCH];
	for (unsigned i = 0; i < n; i++)
		live[i] = packet[i];
	for (unsigned k = 0; k < pl->stage_cnt && n; k++)
		n = mr_pipeline_ask(pass, pipeline, k, live, n);
}

/* Calls one of two functions of every stage that ran. */
static void tell(struct mr_packet *p, bool commit)
{
	const struct mr_plan *plan = p->pass->plan;
	const struct mr_plan_pipeline *pl = &plan->pipeline[p->pipeline];
	for (unsigned k = 0; k < pl->stage_cnt; k++) {
		const struct mr_plan_stage *s = &plan->stage[pl->stage[k]];
		void (*fn)(void *, unsigned, struct mr_packet *) = commit ? s->type->commit : s->type->abort;
		if (!(p->ran & 1u << k) || !fn)
			continue;
		p->private_offset = s->session_offset;
		p->private_bytes = s->type->session_bytes;
		fn(s->self, p->pass->worker, p);
	}
}

void mr_pipeline_abort(struct mr_packet *p)
{
	tell(p, false);
}

void mr_pipeline_commit(struct mr_packet *p)
{
	tell(p, true);
}
