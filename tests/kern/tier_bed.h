/* SPDX-License-Identifier: BSD-2-Clause */
/* tier_bed.h - the steering program with a kernel tier whose maps are the test's own: a table, next hops, what is in force. */
#ifndef MR_TESTS_KERN_TIER_BED_H
#define MR_TESTS_KERN_TIER_BED_H

#include "core/flow.h"
#include "core/steer.h"
#include "kern/tier.h"
#include "prog_run.h"

#include <sys/mman.h>
#include <time.h>

#define BED_ID         3 /* the interface the program belongs to */
#define BED_OTHER      5 /* one that takes frames */
#define BED_DOWN       6 /* one that takes none */
#define BED_PAIR       9
#define BED_PIPELINE   2 /* of that pair, as steering numbers it */
#define BED_GENERATION 77
#define BED_ZONE       16
#define BED_SEED       0x123456789abcdefULL
#define BED_LO         1 /* ifindex: frames are never sent here, so any device does */

struct bed {
	struct mr_steer *steer;
	struct bpf_object *obj;
	struct mr_tier *tier;
	struct mr_nexthop *nexthop;
	struct mr_effect *effect;
	struct mr_meter *meter;
	struct mr_flows *flows;
	uint32_t capacity;
	uint32_t now_ms; /* for the table: quarantine */
	unsigned cpu_cnt;
};

static inline struct bpf_map *bed_map(struct bed *b, const char *name)
{
	struct bpf_map *m = bpf_object__find_map_by_name(b->obj, name);
	CHECK(m, "no map %s", name);
	return m;
}

static inline void bed_size(struct bed *b, const char *name, size_t value_bytes, size_t cnt)
{
	CHECK(!bpf_map__set_value_size(bed_map(b, name), (__u32)value_bytes), "%s", name);
	CHECK(!bpf_map__set_max_entries(bed_map(b, name), (__u32)cnt), "%s", name);
}

static inline void *bed_memory(struct bed *b, const char *name)
{
	struct bpf_map *m = bed_map(b, name);
	size_t bytes = (bpf_map__value_size(m) + 7ul) / 8 * 8 * bpf_map__max_entries(m);
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(m), 0);
	CHECK(at != MAP_FAILED, "%s: %s", name, strerror(errno));
	return at;
}

static inline int bed_load(void *ctx, struct bpf_object *obj, struct mr_error *e)
{
	struct bed *b = ctx;
	b->obj = obj;
	size_t cnt[2] = { mr_flows_bytes4(b->capacity) / sizeof(struct mr_bucket4),
		mr_flows_bytes6(b->capacity) / sizeof(struct mr_bucket6) };
	struct mr_tier_fixed fixed = {
		.on = 1, .interface_id = BED_ID, .seed = BED_SEED, .bucket_cnt = { (__u32)cnt[0], (__u32)cnt[1] }
	};
	int err = bpf_map__set_initial_value(bed_map(b, ".rodata.tier"), &fixed, sizeof(fixed));
	CHECK(!err, "%s", strerror(-err));
	bed_size(b, "flows4", sizeof(struct mr_bucket4), cnt[0]);
	bed_size(b, "flows6", sizeof(struct mr_bucket6), cnt[1]);
	bed_size(b, "nexthops", sizeof(struct mr_nexthop), MR_MAX_NEXTHOPS);
	bed_size(b, "tier", sizeof(struct mr_tier), 1);
	bed_size(b, "tier_effects", sizeof(struct mr_effect), MR_TIER_HALVES * MR_EFFECTS);
	bed_size(b, "tier_meters", sizeof(struct mr_meter), MR_TIER_HALVES * MR_METERS);
	bed_size(b, "tier_pairs", sizeof(struct mr_tier_pair), MR_TIER_INGRESS);
	bed_size(b, "tier_counters", sizeof(struct mr_tier_count), MR_TIER_COUNTERS);
	bed_size(b, "tier_egress", sizeof(struct mr_tier_egress), MR_TIER_EGRESS);
	return bpf_object__load(obj);
}

static inline uint64_t bed_clock_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static inline uint32_t bed_clock_ms(void)
{
	return (uint32_t)(bed_clock_ns() / 1000000);
}

static inline void bed_beat(struct bed *b)
{
	__atomic_store_n(&b->tier->heartbeat_ns, bed_clock_ns(), __ATOMIC_RELAXED);
}

static inline void bed_devmap(struct bed *b, __u32 id, __u32 ifindex)
{
	int fd = bpf_map__fd(bed_map(b, "tier_devmap"));
	if (ifindex)
		CHECK(!bpf_map_update_elem(fd, &id, &ifindex, 0), "%s", strerror(errno));
	else
		CHECK(!bpf_map_delete_elem(fd, &id), "%s", strerror(errno));
}

/* Every frame matches, one pipeline. */
static inline void bed_steer(struct bed *b, uint16_t generation)
{
	struct mr_error e = { "" };
	struct mr_steer_entry all = { NULL, BED_PIPELINE, false };
	struct mr_steer_table *table;
	CHECK(!mr_steer_compile(&all, 1, &table, &e), "%s", e.text);
	mr_steer_table_number(table, generation);
	CHECK(!mr_steer_apply(b->steer, table, &e), "%s", e.text);
	mr_steer_table_free(table);
}

/* A tier in force in half 1; every frame matches and comes up, to a queue without a socket: XDP_PASS, counted no_socket. */
static inline void bed_open(struct bed *b, uint32_t capacity)
{
	struct mr_error e = { "" };
	memset(b, 0, sizeof(*b));
	b->capacity = capacity;
	struct mr_steer_options opt = { .interface_id = BED_ID, .load = bed_load, .load_ctx = b };
	int err = mr_steer_load(&opt, &b->steer, &e);
	if (err)
		load_failed(e.text, err);
	b->cpu_cnt = (unsigned)libbpf_num_possible_cpus();
	b->tier = bed_memory(b, "tier");
	b->nexthop = bed_memory(b, "nexthops");
	b->effect = bed_memory(b, "tier_effects");
	b->meter = bed_memory(b, "tier_meters");
	struct mr_flows_options fo = { .capacity4 = capacity,
		.capacity6 = capacity,
		.seed = BED_SEED,
		.memory4 = bed_memory(b, "flows4"),
		.memory6 = bed_memory(b, "flows6") };
	CHECK(!mr_flows_create(&fo, &b->flows, &e), "%s", e.text);
	struct mr_tier_half *half = &b->tier->half[1];
	half->ingress[BED_PAIR] = (struct mr_tier_ingress){ BED_ID, BED_PIPELINE };
	half->ingress[BED_PAIR + 1] = (struct mr_tier_ingress){ BED_ID, BED_PIPELINE + 1 };
	half->ingress[BED_PAIR + 2] = (struct mr_tier_ingress){ BED_OTHER, BED_PIPELINE };
	half->interface[BED_ID] = (struct mr_tier_interface){ .zone = BED_ZONE, .flags = MR_TIER_KEY_ONLY };
	bed_devmap(b, BED_ID, BED_LO);
	bed_devmap(b, BED_OTHER, BED_LO);
	bed_beat(b);
	b->tier->word = MR_TIER_WORD(BED_GENERATION, 1);
	bed_steer(b, BED_GENERATION);
	b->now_ms = 1000;
}

static inline void bed_close(struct bed *b)
{
	mr_flows_destroy(b->flows);
	mr_steer_unload(b->steer);
}

/* The cell of a per-CPU map, added up; every field of it is 64 bits wide as far as `words` goes. */
static inline void bed_sum(struct bed *b, const char *map, __u32 key, uint64_t *sum, unsigned words)
{
	struct bpf_map *m = bed_map(b, map);
	size_t bytes = (bpf_map__value_size(m) + 7ul) / 8 * 8;
	uint64_t *cell = calloc(b->cpu_cnt, bytes);
	CHECK(cell && !bpf_map_lookup_elem(bpf_map__fd(m), &key, cell), "%s", map);
	for (unsigned w = 0; w < words; w++)
		sum[w] = 0;
	for (unsigned c = 0; c < b->cpu_cnt; c++)
		for (unsigned w = 0; w < words; w++)
			sum[w] += cell[c * (bytes / 8) + w];
	free(cell);
}

static inline uint64_t bed_hash(const struct mr_key4 *k4, const struct mr_key6 *k6)
{
	return k4 ? mr_flow_hash4(k4, BED_SEED) : mr_flow_hash6(k6, BED_SEED);
}

#endif
