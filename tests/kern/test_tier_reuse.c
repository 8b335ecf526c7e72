/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_tier_reuse.c - records that are freed, reused and decided anew while XDP reads them never give a packet another flow's rewrite.
 *
 *     test_tier_reuse             100 million of each, or as many as 8 s let it
 *     test_tier_reuse 4000        4000 million lookups of each family
 *
 * One thread inserts, decides and frees two keys that live in the same slot, through core/flow.h; the table is told that the quarantine is
 * over each time, so that nothing but the sequence number stands between the flows.  Another CPU looks both up inside BPF.  First the
 * same without looking at sequence numbers: it must find mixtures, or this test would prove nothing.
 */
#include "core/flow.h"
#include "prog_run.h"
#include "tests/kern/reuse.h"

#include "reuse_wrap.skel.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <time.h>

#define SEED          0x5eedULL
#define MILLION       1000000ULL
#define SHORT_MILLION 100
#define A_RUN         50000 /* lookups: a few milliseconds without preemption */
#define GIVE_UP_S     120   /* for what must go wrong to go wrong */
#define SHORT_S       8     /* an emulated CPU does a hundredth of it in that time */

struct reuse {
	struct mr_flows *flows;
	bool v6;
	struct mr_key4 k4[2];
	struct mr_key6 k6[2];
	uint64_t hash[2];
	unsigned cpu;
	atomic_bool stop;
	uint64_t rounds;
};

static cpu_set_t all; /* CPUs we may run on, before anything was pinned */

static void pin(unsigned nth)
{
	cpu_set_t one;
	CPU_ZERO(&one);
	for (unsigned cpu = 0, seen = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all) && seen++ == nth)
			CPU_SET(cpu, &one);
	CHECK(!sched_setaffinity(0, sizeof(one), &one), "CPU %u: %s", nth, strerror(errno));
}

static void one_life(struct reuse *u, unsigned k, uint32_t number, uint32_t *now_ms)
{
	struct mr_rewrite4 r4;
	struct mr_rewrite6 r6;
	struct mr_flow_taken t;
	struct mr_flow_state st = { .session = 1 };
	mr_flow_ref ref;
	uint32_t word = u->v6 ? u->k6[k].saddr_be[0] : u->k4[k].saddr_be;
	for (unsigned i = 0; i < 3; i++, number++) {
		reuse_fill(word, number, &t);
		reuse_fill4(&u->k4[k], number, &r4);
		reuse_fill6(&u->k6[k], number, &r6);
		st.flags = t.flags;
		st.nexthop = t.nexthop;
		st.generation = t.generation;
		st.effects = t.effects;
		u->k4[k].ingress = u->k6[k].ingress = t.ingress;
		int err;
		if (!i && u->v6)
			err = mr_flows_insert6(u->flows, &u->k6[k], u->hash[k], &r6, &st, *now_ms, &ref);
		else if (!i)
			err = mr_flows_insert4(u->flows, &u->k4[k], u->hash[k], &r4, &st, *now_ms, &ref);
		else if (u->v6)
			err = mr_flows_decide6(
				u->flows, ref, 1, t.ingress, &r6, t.flags, t.nexthop, t.generation, t.effects);
		else
			err = mr_flows_decide4(
				u->flows, ref, 1, t.ingress, &r4, t.flags, t.nexthop, t.generation, t.effects);
		CHECK(!err && ref % MR_FLOW_WAYS == 0, "%d, way %u", err, ref % MR_FLOW_WAYS);
	}
	CHECK(!mr_flows_free(u->flows, ref, 1, *now_ms), "free");
	*now_ms += MR_FLOW_QUARANTINE_MS;
}

static void *churn(void *arg)
{
	struct reuse *u = arg;
	uint32_t now_ms = 1000, number = 1;
	pin(0);
	while (!atomic_load_explicit(&u->stop, memory_order_relaxed)) {
		for (unsigned k = 0; k < 2; k++, number += 3)
			one_life(u, k, number, &now_ms);
		u->rounds++;
	}
	return NULL;
}

/* Two keys with one home, one first way and different tags. */
static void choose(struct reuse *u, struct reuse_wrap *w)
{
	unsigned cnt = 0;
	for (uint32_t a = 1; cnt < 2; a++) {
		struct mr_key4 k4 = { 1, 17, 0, a, 2, 3, 4 };
		struct mr_key6 k6 = { 1, 17, 0, 3, 4, { a, 5 }, { 6, 7, 8, 9 } };
		uint64_t hash = u->v6 ? mr_flow_hash6(&k6, SEED) : mr_flow_hash4(&k4, SEED);
		if (mr_flow_bucket_primary(hash, REUSE_BUCKETS) != 1 || mr_flow_way_first(hash) != 0)
			continue;
		u->k4[cnt] = w->bss->key4[cnt] = k4;
		u->k6[cnt] = w->bss->key6[cnt] = k6;
		w->bss->tag[cnt] = mr_flow_tag(hash);
		u->hash[cnt++] = hash;
	}
	w->bss->bucket = 1;
	CHECK(w->bss->tag[0] != w->bss->tag[1], "tags");
}

static void *memory(struct bpf_map *m, size_t bucket_bytes)
{
	void *at = mmap(NULL, REUSE_BUCKETS * bucket_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(m), 0);
	CHECK(at != MAP_FAILED, "%s", strerror(errno));
	return at;
}

/* A capacity that makes the table of the maps' size. */
static uint32_t capacity(size_t (*bytes)(uint32_t), size_t want_bytes)
{
	uint32_t c = 1;
	while (bytes(c) < want_bytes)
		c++;
	CHECK(bytes(c) == want_bytes, "%zu", bytes(c));
	return c;
}

static void try(bool v6, bool unchecked, uint64_t lookups, time_t limit_s)
{
	static const uint8_t frame[64];
	struct reuse u = { .v6 = v6 };
	struct mr_error e = { "" };
	pthread_t writer;
	struct reuse_wrap *w = reuse_wrap__open();
	CHECK(w, "open");
	w->rodata->unchecked = unchecked;
	w->rodata->v6 = v6;
	int err = reuse_wrap__load(w);
	if (err)
		load_failed("reuse_wrap", err);
	struct mr_flows_options opt = { .capacity4 =
						capacity(mr_flows_bytes4, REUSE_BUCKETS * sizeof(struct mr_bucket4)),
		.capacity6 = capacity(mr_flows_bytes6, REUSE_BUCKETS * sizeof(struct mr_bucket6)),
		.seed = SEED,
		.memory4 = memory(w->maps.flows4, sizeof(struct mr_bucket4)),
		.memory6 = memory(w->maps.flows6, sizeof(struct mr_bucket6)) };
	CHECK(!mr_flows_create(&opt, &u.flows, &e), "%s", e.text);
	CHECK(mr_flows_buckets4(u.flows) == REUSE_BUCKETS && mr_flows_buckets6(u.flows) == REUSE_BUCKETS, "buckets");
	choose(&u, w);
	w->bss->lookups = A_RUN;
	CHECK(!pthread_create(&writer, NULL, churn, &u), "thread");
	time_t until = time(NULL) + limit_s;
	for (uint64_t done = 0; (unchecked ? !w->bss->mixed : done < lookups) && time(NULL) < until; done += A_RUN)
		CHECK(prog_run(bpf_program__fd(w->progs.reuse_wrap), frame, sizeof(frame), NULL, NULL) == 2, "run");
	atomic_store(&u.stop, true);
	pthread_join(writer, NULL);
	uint64_t found = w->bss->found[0] + w->bss->found[1];
	printf("IPv%u%s: %llu lookups, %llu found, %llu not there or being written; %llu times both keys lived; %llu "
	       "mixed\n",
		v6 ? 6 : 4, unchecked ? " without sequence numbers" : "", (unsigned long long)(found + w->bss->missed),
		(unsigned long long)found, (unsigned long long)w->bss->missed, (unsigned long long)u.rounds,
		(unsigned long long)w->bss->mixed);
	fflush(stdout);
	if (unchecked)
		CHECK(w->bss->mixed, "without sequence numbers nothing went wrong: the test proves nothing");
	else
		CHECK(!w->bss->mixed && u.rounds > 1000 && w->bss->found[0] > 1000 && w->bss->found[1] > 1000, "IPv%u",
			v6 ? 6 : 4);
	mr_flows_destroy(u.flows);
	munmap(opt.memory4, REUSE_BUCKETS * sizeof(struct mr_bucket4));
	munmap(opt.memory6, REUSE_BUCKETS * sizeof(struct mr_bucket6));
	reuse_wrap__destroy(w);
}

int main(int argc, char **argv)
{
	uint64_t lookups = (argc > 1 ? strtoull(argv[1], NULL, 10) : SHORT_MILLION) * MILLION;
	time_t limit_s = argc > 1 ? (time_t)1 << 30 : SHORT_S;
	libbpf_set_print(NULL);
	CHECK(!sched_getaffinity(0, sizeof(all), &all), "%s", strerror(errno));
	if (CPU_COUNT(&all) < 2) {
		printf("skipped: one CPU changes records, another one reads them, and here there is one\n");
		return SKIP;
	}
	pin(1);
	for (unsigned v6 = 0; v6 < 2; v6++) {
		try(v6, true, 0, GIVE_UP_S);
		try(v6, false, lookups, limit_s);
	}
	return 0;
}
