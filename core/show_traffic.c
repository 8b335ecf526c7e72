/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/show_part.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static json_int_t num(uint64_t v)
{
	return (json_int_t)v;
}

static uint64_t load(const uint64_t *v)
{
	return __atomic_load_n(v, __ATOMIC_RELAXED);
}

/* ---- ingress pairs --------------------------------------------------------------------------------------------- */

bool mr_show_pair_of_interface(struct mr_runtime *rt, uint8_t id, const char *name)
{
	return !strcmp(mr_stats_ingress_interface(rt->sh.stats, id), name);
}

bool mr_show_pair_of_pipeline(struct mr_runtime *rt, uint8_t id, const char *name)
{
	const char *p = mr_stats_ingress_pipeline(rt->sh.stats, id);
	return p && !strcmp(p, name);
}

static bool every_pair(struct mr_runtime *rt, uint8_t id, const char *name)
{
	return true;
}

static void add_count(struct mr_count *a, const struct mr_count *b)
{
	a->packets += b->packets;
	a->bytes += b->bytes;
}

/* Of the received, carried out inside XDP. */
static uint64_t by_kernel_tier(struct mr_runtime *rt, unsigned id)
{
	return load(&mr_stats_tier(rt->sh.stats)->ingress[id].received.packets);
}

static void sum_pairs(
	struct mr_runtime *rt, mr_show_pair_fn want, const char *name, struct mr_stats_ingress *sum, uint64_t *tier)
{
	memset(sum, 0, sizeof(*sum));
	*tier = 0;
	for (unsigned id = 1; id < MR_STATS_INGRESS; id++) {
		struct mr_stats_ingress one;
		if (!mr_stats_ingress_interface(rt->sh.stats, (uint8_t)id) || !want(rt, (uint8_t)id, name))
			continue;
		*tier += by_kernel_tier(rt, id);
		mr_stats_ingress_sum(rt->sh.stats, (uint8_t)id, &one);
		add_count(&sum->received, &one.received);
		add_count(&sum->forwarded, &one.forwarded);
		add_count(&sum->kernel, &one.kernel);
		sum->hits += one.hits;
		for (unsigned r = 0; r < MR_REASON_CNT; r++)
			sum->dropped[r] += one.dropped[r];
	}
}

static uint64_t dropped_total(const struct mr_stats_ingress *s)
{
	uint64_t total = 0;
	for (unsigned r = 0; r < MR_REASON_CNT; r++)
		total += s->dropped[r];
	return total;
}

static int put_sums(struct mr_runtime *rt, const struct mr_stats_ingress *s, uint64_t tier, json_t *o)
{
	uint64_t dropped = dropped_total(s);
	int64_t unfinished = (int64_t)(s->received.packets - s->forwarded.packets - s->kernel.packets - dropped);
	json_t *reasons = json_object();
	int err = reasons ? 0 : -1;
	for (unsigned r = 0; r < MR_REASON_CNT && !err; r++) {
		const char *name = mr_stats_reason_name(rt->sh.stats, r);
		if (s->dropped[r])
			err = json_object_set_new(reasons, name ? name : "unnamed", json_integer(num(s->dropped[r])));
	}
	json_t *more = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:O*}", "received_packets",
		num(s->received.packets), "received_bytes", num(s->received.bytes), "forwarded_packets",
		num(s->forwarded.packets), "forwarded_bytes", num(s->forwarded.bytes), "kernel_packets",
		num(s->kernel.packets), "kernel_bytes", num(s->kernel.bytes), "dropped_packets", num(dropped),
		"hits_packets", num(s->hits), "kernel_tier_packets", num(tier), "unfinished_packets",
		(json_int_t)unfinished, "dropped", reasons);
	err = err || !more || json_object_update(o, more);
	json_decref(reasons);
	json_decref(more);
	return err ? -1 : 0;
}

int mr_show_traffic(struct mr_runtime *rt, mr_show_pair_fn want, const char *name, json_t *o)
{
	struct mr_stats_ingress sum;
	uint64_t tier;
	sum_pairs(rt, want, name, &sum, &tier);
	return put_sums(rt, &sum, tier, o);
}

/* Packets of our own: ICMP errors, by what they say. */
static json_t *own_packets(struct mr_runtime *rt, const struct mr_stats_ingress *own)
{
	static const char *const kinds[MR_ICMP_KIND_CNT] = { [MR_ICMP_TIME_EXCEEDED] = "time-exceeded",
		[MR_ICMP_REASSEMBLY] = "reassembly-time",
		[MR_ICMP_TOO_BIG] = "too-big",
		[MR_ICMP_NET_UNREACHABLE] = "net-unreachable",
		[MR_ICMP_HOST_UNREACHABLE] = "host-unreachable",
		[MR_ICMP_PORT_UNREACHABLE] = "port-unreachable",
		[MR_ICMP_ADMIN_PROHIBITED] = "admin-prohibited" };
	struct mr_stats_icmp icmp;
	json_t *errors = json_object();
	mr_stats_icmp_sum(rt->sh.stats, &icmp);
	for (unsigned k = 1; errors && k < MR_ICMP_KIND_CNT; k++)
		json_object_set_new(errors, kinds[k], json_integer(num(icmp.sent[k])));
	return json_pack("{s:I, s:I, s:I, s:o, s:I, s:I, s:I}", "made_packets", num(own->received.packets),
		"sent_packets", num(own->forwarded.packets), "lost_packets", num(dropped_total(own)), "icmp_errors",
		errors, "icmp_not_due_cnt", num(icmp.not_due), "icmp_limited_cnt", num(icmp.limited),
		"icmp_no_source_cnt", num(icmp.no_source));
}

json_t *mr_show_totals(struct mr_runtime *rt)
{
	struct mr_stats_ingress sum, own;
	uint64_t tier;
	int64_t held = 0;
	/* Outcomes are read before what is held: a packet between the two counts as unaccounted, never twice. */
	sum_pairs(rt, every_pair, NULL, &sum, &tier);
	mr_stats_ingress_sum(rt->sh.stats, MR_STATS_OWN, &own);
	for (unsigned w = 0; w < rt->sh.worker_cnt; w++)
		held += (int64_t)load(&mr_stats_worker(rt->sh.stats, w)->held);
	int64_t finished = (int64_t)(sum.forwarded.packets + sum.kernel.packets + dropped_total(&sum));
	/* Our own wait in the same hand-off rings. */
	int64_t own_waiting = (int64_t)(own.received.packets - own.forwarded.packets - dropped_total(&own));
	json_t *o = json_pack("{s:I, s:I, s:o}", "held_packets", (json_int_t)held, "unaccounted_packets",
		(json_int_t)((int64_t)sum.received.packets - finished - held + own_waiting), "own",
		own_packets(rt, &own));
	if (!o || put_sums(rt, &sum, tier, o)) {
		json_decref(o);
		return NULL;
	}
	json_object_del(o, "unfinished_packets");
	return o;
}

/* ---- pipelines and stages -------------------------------------------------------------------------------------- */

/* The pairs of a pipeline one by one: what came in where. */
static json_t *pipeline_pairs(struct mr_runtime *rt, const char *name)
{
	json_t *list = json_array();
	for (unsigned id = 1; list && id < MR_STATS_INGRESS; id++) {
		const char *interface = mr_stats_ingress_interface(rt->sh.stats, (uint8_t)id);
		struct mr_stats_ingress one;
		if (!interface || !mr_show_pair_of_pipeline(rt, (uint8_t)id, name))
			continue;
		mr_stats_ingress_sum(rt->sh.stats, (uint8_t)id, &one);
		json_t *o = json_pack("{s:o}", "interface", mr_show_text(interface));
		if (!o || put_sums(rt, &one, by_kernel_tier(rt, id), o) || json_array_append(list, o)) {
			json_decref(list);
			list = NULL;
		}
		json_decref(o);
	}
	return list;
}

static const char *pipeline_to(struct mr_runtime *rt, const struct mr_plan_pipeline *p)
{
	switch (p->to_kind) {
	case MR_TO_BACK:
		return "back";
	case MR_TO_KERNEL:
		return "kernel";
	case MR_TO_ROUTE:
		return "route";
	default:
		return p->to_interface <= MR_MAX_INTERFACES ? rt->interface[p->to_interface].name : NULL;
	}
}

static json_t *one_pipeline(struct mr_runtime *rt, const struct mr_plan *plan, const struct mr_plan_pipeline *p)
{
	json_t *stages = json_array();
	for (unsigned i = 0; i < p->stage_cnt; i++)
		json_array_append_new(stages, mr_show_text(plan->stage[p->stage[i]].name));
	json_t *o = json_pack("{s:o, s:o, s:o, s:s, s:o}", "name", mr_show_text(p->name), "stages", stages, "to",
		mr_show_text(pipeline_to(rt, p)), "state", p->state == MR_STATE_NONE ? "none" : "sessions",
		"by_interface", pipeline_pairs(rt, p->name));
	if (!o || mr_show_traffic(rt, mr_show_pair_of_pipeline, p->name, o)) {
		json_decref(o);
		return NULL;
	}
	return o;
}

/* "" stands for frames that came up and match no pipeline (the steering of another generation, capture files). */
static json_t *no_pipeline(struct mr_runtime *rt)
{
	json_t *o = json_pack(
		"{s:n, s:[], s:n, s:n, s:o}", "name", "stages", "to", "state", "by_interface", pipeline_pairs(rt, ""));
	if (!o || mr_show_traffic(rt, mr_show_pair_of_pipeline, "", o)) {
		json_decref(o);
		return NULL;
	}
	return o;
}

json_t *mr_show_pipelines(struct mr_runtime *rt)
{
	const struct mr_plan *plan = mr_runtime_plan(rt);
	json_t *list = json_array();
	int err = list ? 0 : -1;
	for (unsigned i = 0; plan && i < plan->pipeline_cnt && !err; i++)
		err = json_array_append_new(list, one_pipeline(rt, plan, &plan->pipeline[i]));
	if (!err)
		err = json_array_append_new(list, no_pipeline(rt));
	if (err) {
		json_decref(list);
		return NULL;
	}
	return list;
}

/* Counters named "stages.STAGE.NAME". */
static json_t *stage_counters(struct mr_runtime *rt, const char *stage)
{
	json_t *list = json_array();
	size_t n = strlen(stage);
	for (unsigned id = 1; list && id < MR_STATS_COUNTERS; id++) {
		const char *name = mr_stats_counter_name(rt->sh.stats, (uint16_t)id);
		if (!name)
			break; /* numbers are given out in order */
		if (strncmp(name, "stages.", 7) || strncmp(name + 7, stage, n) || name[7 + n] != '.')
			continue;
		struct mr_count c = mr_stats_counter_sum(rt->sh.stats, (uint16_t)id);
		json_t *o = json_pack("{s:o, s:I, s:I}", "name", mr_show_text(name + 8 + n), "packets", num(c.packets),
			"bytes", num(c.bytes));
		if (json_array_append_new(list, o)) {
			json_decref(list);
			list = NULL;
		}
	}
	return list;
}

static json_t *stage_users(const struct mr_plan *plan, unsigned stage)
{
	json_t *list = json_array();
	for (unsigned i = 0; i < plan->pipeline_cnt; i++) {
		for (unsigned k = 0; k < plan->pipeline[i].stage_cnt; k++) {
			if (plan->pipeline[i].stage[k] == stage)
				json_array_append_new(list, mr_show_text(plan->pipeline[i].name));
		}
	}
	return list;
}

json_t *mr_show_stages(struct mr_runtime *rt)
{
	const struct mr_plan *plan = mr_runtime_plan(rt);
	json_t *list = json_array();
	for (unsigned i = 0; plan && list && i < plan->stage_cnt; i++) {
		const struct mr_plan_stage *s = &plan->stage[i];
		json_t *o = json_pack("{s:o, s:o, s:I, s:o, s:o}", "name", mr_show_text(s->name), "type",
			mr_show_text(s->type ? s->type->type : NULL), "line", num(s->config ? s->config->at.line : 0),
			"pipelines", stage_users(plan, i), "counters", stage_counters(rt, s->name));
		if (json_array_append_new(list, o)) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* ---- drops ----------------------------------------------------------------------------------------------------- */

static int put_drop(struct mr_runtime *rt, const struct mr_stats_ingress *pair, const bool *used, unsigned reason,
	bool all, json_t *list)
{
	const char *name = mr_stats_reason_name(rt->sh.stats, reason);
	uint64_t total = 0;
	json_t *by = json_array();
	for (unsigned id = 1; id < MR_STATS_INGRESS; id++) {
		if (!used[id] || !pair[id].dropped[reason])
			continue;
		total += pair[id].dropped[reason];
		json_array_append_new(by,
			json_pack("{s:o, s:o, s:I}", "interface",
				mr_show_text(mr_stats_ingress_interface(rt->sh.stats, (uint8_t)id)), "pipeline",
				mr_show_text(mr_stats_ingress_pipeline(rt->sh.stats, (uint8_t)id)), "packets",
				num(pair[id].dropped[reason])));
	}
	if (!total && (!all || !name || reason == MR_REASON_NONE)) {
		json_decref(by);
		return 0;
	}
	return json_array_append_new(list,
		json_pack("{s:o, s:o, s:I, s:o}", "reason", mr_show_text(name ? name : "unnamed"), "help",
			mr_show_text(mr_stats_reason_help(rt->sh.stats, reason)), "packets", num(total), "by", by));
}

json_t *mr_show_drops(struct mr_runtime *rt, bool all)
{
	struct mr_stats_ingress *pair = calloc(MR_STATS_INGRESS, sizeof(*pair));
	bool used[MR_STATS_INGRESS] = { false };
	json_t *list = json_array();
	int err = pair && list ? 0 : -1;
	for (unsigned id = 1; !err && id < MR_STATS_INGRESS; id++) {
		used[id] = mr_stats_ingress_interface(rt->sh.stats, (uint8_t)id);
		if (used[id])
			mr_stats_ingress_sum(rt->sh.stats, (uint8_t)id, &pair[id]);
	}
	for (unsigned r = 0; !err && r < MR_REASON_CNT; r++)
		err = put_drop(rt, pair, used, r, all, list);
	free(pair);
	if (err) {
		json_decref(list);
		return NULL;
	}
	return list;
}

/* ---- frames and workers ---------------------------------------------------------------------------------------- */

json_t *mr_show_frames(struct mr_runtime *rt)
{
	struct mr_frames_census c;
	mr_frames_count(rt->sh.frames, &c);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}", "total_cnt", num(c.total_cnt), "pool_cnt",
		num(c.by_owner_cnt[MR_OWNER_POOL]), "fill_cnt", num(c.by_owner_cnt[MR_OWNER_FILL]), "rx_cnt",
		num(c.by_owner_cnt[MR_OWNER_RX]), "tx_cnt", num(c.by_owner_cnt[MR_OWNER_TX]), "held_cnt",
		num(c.by_owner_cnt[MR_OWNER_HELD]), "frame_bytes", num(mr_frames_frame_bytes(rt->sh.frames)),
		"range_bytes", num(mr_frames_bytes(rt->sh.frames)), "huge_pages", (int)c.huge);
}

json_t *mr_show_workers(struct mr_runtime *rt)
{
	json_t *list = json_array();
	for (unsigned w = 0; list && w < rt->sh.worker_cnt; w++) {
		const struct mr_stats_worker *s = mr_stats_worker(rt->sh.stats, w);
		json_t *o = json_pack("{s:i, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "worker", (int)w, "running",
			(int)(rt->worker[w] && mr_worker_running(rt->worker[w])), "loops_cnt", num(load(&s->loops)),
			"busy_loops_cnt", num(load(&s->busy_loops)), "sleeps_cnt", num(load(&s->sleeps)),
			"handoff_out_packets", num(load(&s->handoff_out)), "handoff_in_packets",
			num(load(&s->handoff_in)), "held_packets", num(load(&s->held)), "fragments_held_packets",
			num(load(&s->fragments)), "datagrams_forgotten_cnt", num(load(&s->fragments_forgotten)));
		if (json_array_append_new(list, o)) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}
