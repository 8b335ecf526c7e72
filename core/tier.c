/* SPDX-License-Identifier: BSD-2-Clause */
/* tier.c - the maps of the kernel tier: made once, mapped, lent to programs; its devmap; the halves. */
#include "core/tier_table.h"
#include "core/xmit.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct shape {
	const char *name; /* in kern/tier.bpf.h, and in the kernel */
	enum bpf_map_type type;
	uint32_t value_bytes;
	uint64_t entry_cnt;
};

static void shapes(struct shape s[MR_TIER_MAP_CNT], const uint64_t bucket_cnt[2])
{
	s[MR_TIER_MAP_FLOWS4] =
		(struct shape){ "flows4", BPF_MAP_TYPE_ARRAY, sizeof(struct mr_bucket4), bucket_cnt[0] };
	s[MR_TIER_MAP_FLOWS6] =
		(struct shape){ "flows6", BPF_MAP_TYPE_ARRAY, sizeof(struct mr_bucket6), bucket_cnt[1] };
	s[MR_TIER_MAP_NEXTHOPS] =
		(struct shape){ "nexthops", BPF_MAP_TYPE_ARRAY, sizeof(struct mr_nexthop), MR_MAX_NEXTHOPS };
	s[MR_TIER_MAP_TIER] = (struct shape){ "tier", BPF_MAP_TYPE_ARRAY, sizeof(struct mr_tier), 1 };
	s[MR_TIER_MAP_EFFECTS] = (struct shape){ "tier_effects", BPF_MAP_TYPE_ARRAY, sizeof(struct mr_effect),
		MR_TIER_HALVES * MR_EFFECTS };
	s[MR_TIER_MAP_METERS] = (struct shape){ "tier_meters", BPF_MAP_TYPE_ARRAY, sizeof(struct mr_meter),
		MR_TIER_HALVES * MR_METERS };
	s[MR_TIER_MAP_PAIRS] =
		(struct shape){ "tier_pairs", BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(struct mr_tier_pair), MR_TIER_INGRESS };
	s[MR_TIER_MAP_COUNTERS] = (struct shape){ "tier_counters", BPF_MAP_TYPE_PERCPU_ARRAY,
		sizeof(struct mr_tier_count), MR_TIER_COUNTERS };
	s[MR_TIER_MAP_EGRESS] = (struct shape){ "tier_egress", BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(struct mr_tier_egress),
		MR_TIER_EGRESS };
	s[MR_TIER_MAP_DEVMAP] = (struct shape){ "tier_devmap", BPF_MAP_TYPE_DEVMAP, sizeof(uint32_t), MR_TIER_EGRESS };
}

size_t mr_tier_bytes(const struct mr_tier_options *opt)
{
	const uint64_t bucket_cnt[2] = { opt->flows_bytes[0] / sizeof(struct mr_bucket4),
		opt->flows_bytes[1] / sizeof(struct mr_bucket6) };
	struct shape s[MR_TIER_MAP_CNT];
	int cpus = libbpf_num_possible_cpus();
	size_t sum = 0;

	shapes(s, bucket_cnt);
	for (unsigned m = 0; m < MR_TIER_MAP_CNT; m++)
		sum += s[m].value_bytes * s[m].entry_cnt *
			(s[m].type == BPF_MAP_TYPE_PERCPU_ARRAY && cpus > 0 ? (unsigned)cpus : 1);
	return sum;
}

/* ---- making ----------------------------------------------------------------------------------------------------- */

static int refused(const struct shape *s, int err, struct mr_error *e)
{
	return mr_error_set(e, err, "the kernel does not give map %s (%llu elements of %u bytes): %s%s", s->name,
		(unsigned long long)s->entry_cnt, s->value_bytes, strerror(-err),
		err == -EPERM ? " (CAP_BPF and CAP_NET_ADMIN are needed)" : "");
}

static int make(struct mr_tier_maps *t, enum mr_tier_map m, const struct shape *s, struct mr_error *e)
{
	const bool mapped = m < MR_TIER_MAP_MAPPED;
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = mapped ? BPF_F_MMAPABLE : 0);
	if (s->entry_cnt > UINT32_MAX)
		return refused(s, -ENOMEM, e);
	t->fd[m] = bpf_map_create(s->type, s->name, sizeof(uint32_t), s->value_bytes, (uint32_t)s->entry_cnt, &opts);
	if (t->fd[m] < 0)
		return refused(s, t->fd[m], e);
	if (!mapped)
		return 0;
	size_t bytes = s->value_bytes * s->entry_cnt;
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, t->fd[m], 0);
	if (at == MAP_FAILED)
		return refused(s, -errno, e);
	t->at[m] = at;
	t->bytes[m] = bytes;
	return 0;
}

/* One slot for one map of one number: nothing but a reason to wait. */
static int make_wait(struct mr_tier_maps *t, struct mr_error *e)
{
	int inner = bpf_map_create(BPF_MAP_TYPE_ARRAY, "tier_waited", sizeof(uint32_t), sizeof(uint32_t), 1, NULL);
	if (inner >= 0) {
		LIBBPF_OPTS(bpf_map_create_opts, opts, .inner_map_fd = (uint32_t)inner);
		t->wait_fd = bpf_map_create(
			BPF_MAP_TYPE_ARRAY_OF_MAPS, "tier_wait", sizeof(uint32_t), sizeof(uint32_t), 1, &opts);
		close(inner);
	} else {
		t->wait_fd = inner;
	}
	int err = t->wait_fd < 0 ? t->wait_fd : 0;
	return err ? mr_error_set(e, err, "the kernel does not give a map to wait on: %s", strerror(-err)) : 0;
}

/* What the kernel could give without going to its limits, where others are ended for want of memory.  0: it does not tell. */
static uint64_t available_bytes(void)
{
	unsigned long long kib = 0;
	char line[128];
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && fgets(line, sizeof(line), f) && sscanf(line, "MemAvailable: %llu kB", &kib) != 1)
		;
	if (f)
		fclose(f);
	return kib * 1024;
}

/* The kernel would try until nothing is left. */
static int afford(const struct mr_tier_options *opt, struct mr_error *e)
{
	uint64_t bytes = mr_tier_bytes(opt), available = available_bytes();

	if (!available || bytes <= available / 8 * 7)
		return 0;
	return mr_error_set(e, -ENOMEM,
		"it takes %llu MiB of kernel memory (flows.capacity), and %llu MiB are available",
		(unsigned long long)bytes >> 20, (unsigned long long)available >> 20);
}

int mr_tier_create(const struct mr_tier_options *opt, struct mr_tier_maps **out, struct mr_error *e)
{
	static const size_t bucket_bytes[2] = { sizeof(struct mr_bucket4), sizeof(struct mr_bucket6) };
	struct shape s[MR_TIER_MAP_CNT];
	uint64_t bucket_cnt[2];
	int cpus = libbpf_num_possible_cpus(), err = 0;

	for (unsigned f = 0; f < 2; f++) {
		bucket_cnt[f] = opt->flows_bytes[f] / bucket_bytes[f];
		if (bucket_cnt[f] < 2 || opt->flows_bytes[f] % bucket_bytes[f])
			return mr_error_set(e, -EINVAL, "%zu bytes are no flow table", opt->flows_bytes[f]);
	}
	if (cpus < 1)
		return mr_error_set(e, cpus, "cannot tell the number of CPUs: %s", strerror(-cpus));
	err = afford(opt, e);
	if (err)
		return err;
	struct mr_tier_maps *t = calloc(1, sizeof(*t));
	if (!t)
		return mr_error_set(e, -ENOMEM, "out of memory");
	t->cpu_cnt = (unsigned)cpus;
	t->wait_fd = -1;
	t->fixed = (struct mr_tier_fixed){
		.on = 1, .seed = opt->seed, .bucket_cnt = { (uint32_t)bucket_cnt[0], (uint32_t)bucket_cnt[1] }
	};
	for (unsigned m = 0; m < MR_TIER_MAP_CNT; m++)
		t->fd[m] = -1;
	shapes(s, bucket_cnt);
	for (unsigned m = 0; m < MR_TIER_MAP_CNT && !err; m++)
		err = make(t, m, &s[m], e);
	if (!err)
		err = make_wait(t, e);
	if (err) {
		mr_tier_destroy(t);
		return err;
	}
	*out = t;
	return 0;
}

void mr_tier_destroy(struct mr_tier_maps *t)
{
	if (!t)
		return;
	for (unsigned m = 0; m < MR_TIER_MAP_MAPPED; m++)
		if (t->at[m])
			munmap(t->at[m], t->bytes[m]);
	for (unsigned m = 0; m < MR_TIER_MAP_CNT; m++)
		if (t->fd[m] >= 0)
			close(t->fd[m]);
	if (t->wait_fd >= 0)
		close(t->wait_fd);
	free(t);
}

struct mr_xmit_maps mr_tier_xmit_maps(const struct mr_tier_maps *t)
{
	return (struct mr_xmit_maps){ .pairs_fd = t->fd[MR_TIER_MAP_PAIRS],
		.egress_fd = t->fd[MR_TIER_MAP_EGRESS],
		.devmap_fd = t->fd[MR_TIER_MAP_DEVMAP] };
}

/* ---- memory others live in -------------------------------------------------------------------------------------- */

struct mr_tier *mr_tier_shared(struct mr_tier_maps *t)
{
	return t->at[MR_TIER_MAP_TIER];
}

void *mr_tier_flows(struct mr_tier_maps *t, bool v6)
{
	return t->at[v6 ? MR_TIER_MAP_FLOWS6 : MR_TIER_MAP_FLOWS4];
}

struct mr_nexthop *mr_tier_nexthops(struct mr_tier_maps *t)
{
	return t->at[MR_TIER_MAP_NEXTHOPS];
}

struct mr_effect *mr_tier_effects(struct mr_tier_maps *t, unsigned half)
{
	return (struct mr_effect *)t->at[MR_TIER_MAP_EFFECTS] + (size_t)half * MR_EFFECTS;
}

struct mr_meter *mr_tier_meters(struct mr_tier_maps *t, unsigned half)
{
	return (struct mr_meter *)t->at[MR_TIER_MAP_METERS] + (size_t)half * MR_METERS;
}

/* ---- programs --------------------------------------------------------------------------------------------------- */

int mr_tier_join(struct mr_tier_maps *t, struct bpf_object *object, struct mr_error *e)
{
	const uint64_t any[2] = { 1, 1 };
	struct shape s[MR_TIER_MAP_CNT];

	shapes(s, any);
	for (unsigned m = 0; m < MR_TIER_MAP_CNT; m++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object, s[m].name);
		if (!map)
			continue;
		/* what is only declared as memory is as large as whoever makes it says */
		bool same = bpf_map__type(map) == s[m].type &&
			(m == MR_TIER_MAP_TIER || bpf_map__value_size(map) == s[m].value_bytes);
		int err = same ? bpf_map__reuse_fd(map, t->fd[m]) : -EINVAL;
		if (err)
			return mr_error_set(e, err, "the program does not take map %s of the kernel tier: %s",
				s[m].name, strerror(-err));
	}
	return 0;
}

struct mr_tier_fixed mr_tier_fixed(const struct mr_tier_maps *t, unsigned interface_id)
{
	struct mr_tier_fixed fixed = t->fixed;
	fixed.interface_id = interface_id;
	return fixed;
}

void mr_tier_begin(struct mr_tier_maps *t, unsigned interface_id)
{
	struct mr_tier_queue *queue = mr_tier_shared(t)->queue[interface_id];

	for (unsigned q = 0; q < MR_MAX_QUEUES; q++)
		__atomic_store_n(&queue[q].up_packets, 0, __ATOMIC_RELAXED);
}

int mr_tier_egress(struct mr_tier_maps *t, unsigned interface_id, uint32_t ifindex)
{
	int fd = t->fd[MR_TIER_MAP_DEVMAP];
	int err = interface_id < MR_TIER_EGRESS ? 0 : -EINVAL;

	if (!err && ifindex)
		err = bpf_map_update_elem(fd, &interface_id, &ifindex, BPF_ANY);
	else if (!err)
		err = bpf_map_delete_elem(fd, &interface_id);
	if (err == -ENOENT)
		err = 0;
	if (!err)
		__atomic_store_n(&t->egress[interface_id], ifindex, __ATOMIC_RELAXED);
	return err;
}

bool mr_tier_takes(const struct mr_tier_maps *t, unsigned interface_id)
{
	return interface_id < MR_TIER_EGRESS && __atomic_load_n(&t->egress[interface_id], __ATOMIC_RELAXED);
}

/* ---- halves ----------------------------------------------------------------------------------------------------- */

/* The kernel returns from an update of a map of maps only when no program that was running still runs (kernel/bpf/syscall.c,
 * maybe_wait_bpf_programs()). */
int mr_tier_settle(struct mr_tier_maps *t)
{
	uint32_t key = 0;
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "tier_waited", sizeof(uint32_t), sizeof(uint32_t), 1, NULL);
	if (fd < 0)
		return fd;
	int err = bpf_map_update_elem(t->wait_fd, &key, &fd, BPF_ANY);
	close(fd);
	return err;
}

int mr_tier_take(struct mr_tier_maps *t)
{
	int half = 0;
	while (half < MR_TIER_HALVES && t->taken[half])
		half++;
	if (half == MR_TIER_HALVES || mr_tier_settle(t))
		return -1;
	t->taken[half] = true;
	memset(&mr_tier_shared(t)->half[half], 0, sizeof(struct mr_tier_half));
	return half;
}

void mr_tier_give(struct mr_tier_maps *t, int half)
{
	if (half >= 0)
		t->taken[half] = false;
}

void mr_tier_stop(struct mr_tier_maps *t)
{
	__atomic_store_n(&mr_tier_shared(t)->word, 0, __ATOMIC_RELEASE);
	(void)mr_tier_settle(t); /* cannot be waited for: what is under way leaves as it would have before */
}
