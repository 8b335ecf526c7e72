/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/succession.h"

#include "core/layout.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define SLICE_SESSIONS 4096 /* looked at between two quiet moments of control, so that ended indexes come back */

static const struct mr_plan_pipeline *pipeline_of(const struct mr_plan *plan, unsigned pair)
{
	const struct mr_plan_ingress *in = &plan->ingress[pair];
	return in->interface_id && in->pipeline < plan->pipeline_cnt ? &plan->pipeline[in->pipeline] : NULL;
}

/* ---- the end of a session ------------------------------------------------------------------------------------------ */

/* A plan that was given up before all workers used it, and that made this session all the same. */
static const struct mr_plan *given_up(struct mr_shared *sh, uint32_t serial)
{
	const struct mr_plan *p = atomic_load_explicit(&sh->abandoned, memory_order_acquire);
	while (p && (p->abandoned_shell || p->was_in_force || (uint32_t)p->serial != serial))
		p = p->abandoned_next;
	return p;
}

/* The plan that laid the session out, or one that has it the same way; NULL = there is none any more. */
static const struct mr_plan *laid_out_by(struct mr_shared *sh, const struct mr_plan *now, const struct mr_session *x)
{
	if (mr_layout_of(now, now, x) == MR_LAYOUT_KNOWN)
		return now;
	uint32_t serial = __atomic_load_n(&x->serial, __ATOMIC_RELAXED);
	const struct mr_plan *before = atomic_load_explicit(&now->before, memory_order_acquire);
	if ((int32_t)(serial - (uint32_t)now->before_serial) <= 0)
		return before;
	return given_up(sh, serial);
}

/*
 * The stage in force that hears of it instead of `s`, which is of another plan; NULL = none.  Where it was given up, that is only one that has
 * taken over from the same one as it, or that it has taken over from: another one of that name does not know the session.
 */
static const struct mr_plan_stage *heir_of(
	const struct mr_plan *now, const struct mr_plan *plan, const struct mr_plan_stage *s)
{
	const struct mr_plan_stage *found = mr_layout_same(now, s);
	if (!found || plan->serial == now->before_serial)
		return found;
	return s->inherits && (found->inherits || now->serial < plan->serial) ? found : NULL;
}

/* The first stage that does not keep it; NULL: it lives on. */
static const struct mr_plan_stage *refused_by(const struct mr_plan *plan, const struct mr_session *x)
{
	const struct mr_plan_pipeline *p = pipeline_of(plan, x->ingress);
	for (unsigned i = 0; p && i < p->stage_cnt; i++) {
		const struct mr_plan_stage *s = &plan->stage[p->stage[i]];
		if (s->type->keeps && !s->type->keeps(s->self, x->priv + s->session_offset))
			return s;
	}
	return NULL;
}

/* It would not have lived on: a packet may meet it before control does, and find that out first. */
static void count_refused(struct mr_plan *now, const struct mr_session *x)
{
	if (atomic_load_explicit(&now->settled, memory_order_relaxed) ||
		__atomic_load_n(&x->serial, __ATOMIC_RELAXED) == (uint32_t)now->serial)
		return;
	const struct mr_plan_stage *s = refused_by(now, x);
	if (s)
		atomic_fetch_add_explicit(&now->refused[s - now->stage], 1, memory_order_relaxed);
}

void mr_succession_ended(void *ctx, const struct mr_session_end *end)
{
	struct mr_shared *sh = ctx;
	const struct mr_session *x = end->session;
	struct mr_plan *now = atomic_load_explicit(&sh->plan, memory_order_acquire);
	const struct mr_plan *plan = now ? laid_out_by(sh, now, x) : NULL;
	const struct mr_plan_pipeline *p = plan ? pipeline_of(plan, x->ingress) : NULL;
	bool counted = plan == now || plan != atomic_load(&now->before);
	if (plan && plan == now)
		count_refused(now, x); /* while the stages still have what it holds */
	for (unsigned i = 0; p && i < p->stage_cnt; i++) {
		const struct mr_plan_stage *s = &plan->stage[p->stage[i]];
		const struct mr_plan_stage *heir = plan == now ? s : heir_of(now, plan, s);
		if (!counted && mr_layout_concerns(s) && !mr_layout_stays(now, x->ingress, s)) {
			atomic_fetch_add_explicit(&now->lost[p->stage[i]], 1, memory_order_relaxed);
			counted = true;
		}
		if (s->type->expire)
			s->type->expire(heir ? heir->self : s->self, x->priv + s->session_offset, end);
	}
}

/* ---- after a reload ------------------------------------------------------------------------------------------------ */

static void add(struct mr_succession *out, const char *name, uint64_t sessions)
{
	if (!sessions)
		return;
	unsigned i = 0;
	while (i < out->cnt && strncmp(out->stage[i].name, name, sizeof(out->stage[i].name) - 1))
		i++;
	if (i == MR_PLAN_STAGES)
		return;
	if (i == out->cnt) {
		snprintf(out->stage[i].name, sizeof(out->stage[i].name), "%s", name);
		out->stage[out->cnt++].sessions = 0;
	}
	out->stage[i].sessions += sessions;
}

static bool has_reason(const struct mr_plan *plan, const struct mr_plan *old)
{
	if (plan->serial - old->serial > 1 || atomic_load(&plan->before))
		return true;
	for (unsigned i = 0; i < plan->stage_cnt; i++)
		if (plan->stage[i].type->keeps)
			return true;
	return false;
}

static uint32_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint32_t)((uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000);
}

/* One session that lives. */
static void look_at(struct mr_shared *sh, const struct mr_plan *plan, uint32_t idx)
{
	const struct mr_session *x = mr_session_at(sh->sessions, idx);
	if (__atomic_load_n(&x->serial, __ATOMIC_RELAXED) == (uint32_t)plan->serial)
		return;
	if (mr_layout_of(plan, plan, x) == MR_LAYOUT_OLD || refused_by(plan, x))
		mr_session_end(sh->sessions, sh->worker_cnt, idx, now_ms());
}

void mr_succession_walk(struct mr_shared *sh, struct mr_plan *plan, const struct mr_plan *old)
{
	unsigned left = SLICE_SESSIONS;
	if (!has_reason(plan, old))
		return;
	mr_epoch_online(sh->epoch, sh->worker_cnt);
	for (uint32_t idx = 0; (idx = mr_sessions_next(sh->sessions, idx)); idx++) {
		look_at(sh, plan, idx);
		if (!--left) {
			mr_epoch_quiet(sh->epoch, sh->worker_cnt);
			left = SLICE_SESSIONS;
		}
	}
	mr_epoch_offline(sh->epoch, sh->worker_cnt);
}

void mr_succession_count(struct mr_plan *plan, const struct mr_plan *old, struct mr_succession *out)
{
	memset(out, 0, sizeof(*out));
	atomic_store_explicit(&plan->settled, true, memory_order_relaxed);
	for (unsigned i = 0; i < plan->stage_cnt; i++)
		add(out, plan->stage[i].name, atomic_load_explicit(&plan->refused[i], memory_order_relaxed));
	for (unsigned i = 0; i < old->stage_cnt; i++)
		add(out, old->stage[i].name, atomic_load_explicit(&plan->lost[i], memory_order_relaxed));
}

void mr_succession_close(struct mr_plan *plan)
{
	atomic_store_explicit(&plan->before, NULL, memory_order_release);
}

void mr_succession_say(const struct mr_succession *s, char *text, size_t bytes)
{
	size_t used = 0;
	text[0] = '\0';
	for (unsigned i = 0; i < s->cnt && used < bytes; i++)
		used += (size_t)snprintf(text + used, bytes - used, "%s%llu session%s of stage %s ended", i ? ", " : "",
			(unsigned long long)s->stage[i].sessions, s->stage[i].sessions == 1 ? "" : "s",
			s->stage[i].name);
}
