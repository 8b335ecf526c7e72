/* SPDX-License-Identifier: BSD-2-Clause */
/* tier_plan.c - what the kernel tier is told of a plan, and what it has counted. */
#include "core/tier_table.h"

#include "core/plan.h"
#include "core/stats.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is in force ------------------------------------------------------------------------------------------- */

static void fill_ingress(struct mr_tier_half *half, const struct mr_plan *plan)
{
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		const struct mr_plan_interface *pi = &plan->interface[id];
		for (unsigned i = 0; pi->name && i < pi->pipeline_cnt; i++)
			half->ingress[pi->ingress[i]] =
				(struct mr_tier_ingress){ .interface_id = (uint8_t)id, .steer_pipeline = (uint8_t)i };
	}
}

static bool offloads(const struct mr_plan *plan, const struct mr_plan_interface *pi)
{
	bool some = false;
	for (unsigned i = 0; i < pi->pipeline_cnt; i++)
		some |= plan->ingress[pi->ingress[i]].offload != MR_OFFLOAD_NEVER;
	return pi->name && some;
}

/* Only the MAC address is more than one store, and no frame is for half of the old one and half of the new. */
static void fill_interface(struct mr_tier_interface *to, const struct mr_plan *plan, const struct mr_plan_interface *pi)
{
	struct mr_tier_interface now = { 0 };
	if (offloads(plan, pi)) {
		now = (struct mr_tier_interface){
			.zone = pi->zone, .vlan_mask = pi->vlan_mask, .flags = pi->key_only ? MR_TIER_KEY_ONLY : 0
		};
		memcpy(now.mac, pi->mac, sizeof(now.mac));
	}
	if (memcmp(to, &now, sizeof(now)))
		*to = now;
}

void mr_tier_publish(struct mr_tier_maps *t, const struct mr_plan *plan)
{
	struct mr_tier *shared = mr_tier_shared(t);
	uint32_t word = 0;

	if (plan->tier_half >= 0) {
		struct mr_tier_half *half = &shared->half[plan->tier_half];
		word = MR_TIER_WORD(plan->generation, plan->tier_half);
		if (word != shared->word)
			fill_ingress(half, plan);
		for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++)
			fill_interface(&half->interface[id], plan, &plan->interface[id]);
	}
	__atomic_store_n(&shared->word, word, __ATOMIC_RELEASE);
}

/* ---- what was counted ------------------------------------------------------------------------------------------- */

static void put(uint64_t *cell, uint64_t value)
{
	if (value > __atomic_load_n(cell, __ATOMIC_RELAXED))
		__atomic_store_n(cell, value, __ATOMIC_RELAXED);
}

static void collect_pair(struct mr_tier_maps *t, uint32_t pair, struct mr_tier_pair *cpu, struct mr_stats_ingress *cell)
{
	struct mr_tier_pair sum = { 0 };
	uint64_t *word = (uint64_t *)&sum;

	if (bpf_map_lookup_elem(t->fd[MR_TIER_MAP_PAIRS], &pair, cpu))
		return;
	for (unsigned c = 0; c < t->cpu_cnt; c++)
		for (unsigned i = 0; i < sizeof(sum) / sizeof(*word); i++)
			word[i] += ((const uint64_t *)&cpu[c])[i];
	/* lost ones are counted when a bulk is flushed, later than they were forwarded */
	uint64_t lost = sum.lost_packets < sum.forwarded_packets ? sum.lost_packets : sum.forwarded_packets;
	put(&cell->forwarded.packets, sum.forwarded_packets - lost);
	put(&cell->forwarded.bytes, sum.forwarded_bytes);
	put(&cell->kernel.packets, sum.kernel_packets);
	put(&cell->kernel.bytes, sum.kernel_bytes);
	put(&cell->dropped[MR_REASON_METER], sum.metered_packets);
	put(&cell->dropped[MR_REASON_REDIRECT], lost);
	uint64_t received = cell->forwarded.packets + cell->kernel.packets + cell->dropped[MR_REASON_METER] +
		cell->dropped[MR_REASON_REDIRECT];
	put(&cell->received.packets, received);
	put(&cell->received.bytes, sum.received_bytes);
	put(&cell->hits, received);
}

static void collect_pairs(struct mr_tier_maps *t, struct mr_stats *s)
{
	struct mr_tier_pair *cpu = calloc(t->cpu_cnt, sizeof(*cpu));

	for (unsigned pair = 1; cpu && pair < MR_TIER_INGRESS; pair++)
		if (mr_stats_ingress_interface(s, (uint8_t)pair))
			collect_pair(t, pair, cpu, &mr_stats_tier(s)->ingress[pair]);
	free(cpu);
}

#define BATCH 256 /* counters of one look */

/* Adds up those from `first` on.  False: the kernel has no more of them to tell. */
static bool collect_some(
	struct mr_tier_maps *t, uint32_t *first, uint32_t cnt, struct mr_tier_count *cpu, struct mr_count *cell)
{
	uint32_t key[BATCH], next, got = cnt < BATCH ? cnt : BATCH;
	int err = bpf_map_lookup_batch(
		t->fd[MR_TIER_MAP_COUNTERS], *first ? &(uint32_t){ *first - 1 } : NULL, &next, key, cpu, &got, NULL);

	if (err && err != -ENOENT) /* which means that these are the last */
		return false;
	for (uint32_t i = 0; i < got; i++) {
		struct mr_count sum = { 0 };
		for (unsigned c = 0; c < t->cpu_cnt; c++) {
			sum.packets += cpu[(size_t)i * t->cpu_cnt + c].packets;
			sum.bytes += cpu[(size_t)i * t->cpu_cnt + c].bytes;
		}
		put(&cell[key[i]].packets, sum.packets);
		put(&cell[key[i]].bytes, sum.bytes);
	}
	*first += got;
	return !err && got;
}

static void collect_counters(struct mr_tier_maps *t, struct mr_stats *s)
{
	struct mr_tier_count *cpu = calloc((size_t)BATCH * t->cpu_cnt, sizeof(*cpu));
	uint32_t cnt = 1, at = 0;

	while (cnt < MR_TIER_COUNTERS && mr_stats_counter_name(s, (uint16_t)cnt)) /* numbers are given out in order */
		cnt++;
	while (cpu && at < cnt && collect_some(t, &at, cnt - at, cpu, mr_stats_tier(s)->counter))
		;
	free(cpu);
}

void mr_tier_collect(struct mr_tier_maps *t, struct mr_stats *s)
{
	collect_pairs(t, s);
	collect_counters(t, s);
}

void mr_tier_egress_read(struct mr_tier_maps *t, unsigned interface_id, struct mr_tier_egress *out)
{
	struct mr_tier_egress *cpu = calloc(t->cpu_cnt, sizeof(*cpu)), sum = { 0 };

	if (cpu && !bpf_map_lookup_elem(t->fd[MR_TIER_MAP_EGRESS], &interface_id, cpu))
		for (unsigned c = 0; c < t->cpu_cnt; c++)
			mr_tier_egress_add(&sum, &cpu[c]);
	free(cpu);
	*out = sum;
}
