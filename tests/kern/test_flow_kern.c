/* SPDX-License-Identifier: BSD-2-Clause */
/* test_flow_kern.c - records stored from user space into a mapped BPF array are found by the kernel's lookup. */
#include "prog_run.h"
#include "tests/packets.h"

#include "flow_wrap.skel.h"

#include <sys/mman.h>

#define BUCKETS 64
#define FLOWS   400 /* of 512 slots: some primary buckets are full */

/* Where the test put a flow. */
struct place {
	__u32 bucket;
	int way;
};

static void *map_array(int fd, size_t bytes)
{
	void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(m != MAP_FAILED, "%s", strerror(errno));
	return m;
}

static bool same_taken(const struct mr_flow_taken *t, const struct mr_flow_state *st, __u8 ingress)
{
	return t->flags == st->flags && t->nexthop == st->nexthop && t->generation == st->generation &&
		t->effects == st->effects && t->ingress == ingress;
}

static void fill(struct rng *r, void *rewrite, size_t bytes, struct mr_flow_state *st)
{
	for (size_t i = 0; i < bytes; i++)
		((__u8 *)rewrite)[i] = (__u8)rng_next(r);
	st->flags = (__u16)rng_next(r);
	st->nexthop = (__u16)rng_next(r);
	st->generation = (__u16)rng_next(r);
	st->effects = (__u16)rng_next(r);
}

static int free_way(const struct mr_bucket_head *h)
{
	for (int i = 0; i < MR_FLOW_WAYS; i++)
		if (!h->tag[i])
			return i;
	return -1;
}

/* Chooses a slot: primary, or secondary with the primary's spill counted. */
static bool choose(struct mr_bucket_head *(*head)(void *, __u32), void *b, __u64 hash, struct place *at)
{
	__u32 first = mr_flow_bucket_primary(hash, BUCKETS);
	*at = (struct place){ first, free_way(head(b, first)) };
	if (at->way < 0) {
		at->bucket = mr_flow_bucket_secondary(hash, BUCKETS);
		at->way = free_way(head(b, at->bucket));
		if (at->way < 0)
			return false;
		head(b, first)->spill++;
	}
	head(b, at->bucket)->tag[at->way] = mr_flow_tag(hash);
	return true;
}

static struct mr_bucket_head *head4(void *b, __u32 i)
{
	return &((struct mr_bucket4 *)b)[i].head;
}

static struct mr_bucket_head *head6(void *b, __u32 i)
{
	return &((struct mr_bucket6 *)b)[i].head;
}

static void run(int fd)
{
	static const uint8_t frame[64];
	CHECK(prog_run(fd, frame, sizeof(frame), NULL, NULL) == 2, "flow_wrap");
}

static void test4(struct flow_wrap *w, struct rng *r)
{
	struct mr_bucket4 *b = map_array(bpf_map__fd(w->maps.flows4), BUCKETS * sizeof(*b));
	static struct mr_key4 key[FLOWS];
	static struct place at[FLOWS];
	unsigned spilled = 0, placed = 0, fd = bpf_program__fd(w->progs.flow_wrap4);
	for (unsigned i = 0; i < FLOWS; i++) {
		key[i] = (struct mr_key4){ 1, 17, 0, rng_next(r), rng_next(r), rng_next(r), rng_next(r) };
		if (!choose(head4, b, mr_flow_hash4(&key[i], w->bss->seed), &at[i]))
			continue; /* both buckets are full: at[i].way is -1 */
		placed++;
		struct mr_flow4 *rec = &b[at[i].bucket].rec[at[i].way];
		rec->key = key[i];
		rec->key.ingress = 7; /* not part of the key */
		fill(r, &rec->rewrite, sizeof(rec->rewrite), &rec->st);
		rec->st.seq = 2 * i;
	}
	for (unsigned i = 0; i < FLOWS; i++) {
		if (at[i].way < 0)
			continue;
		struct mr_flow4 *rec = &b[at[i].bucket].rec[at[i].way];
		struct mr_rewrite4 rw;
		struct mr_flow_taken t = { 0 };
		w->bss->key4 = key[i];
		run(fd);
		CHECK(w->bss->hash4 == mr_flow_hash4(&key[i], w->bss->seed), "flow %u", i);
		CHECK(w->bss->way4 == at[i].way && w->bss->bucket4 == at[i].bucket, "flow %u at %u/%d, found %u/%d", i,
			at[i].bucket, at[i].way, w->bss->bucket4, w->bss->way4);
		CHECK(!memcmp(&w->bss->rewrite4, &rec->rewrite, sizeof(rec->rewrite)) &&
				same_taken(&w->bss->taken, &rec->st, 7),
			"flow %u", i);
		CHECK(mr_flow_find4(&b[at[i].bucket], &key[i], mr_flow_tag(w->bss->hash4), &rw, &t) == at[i].way &&
				!memcmp(&rw, &rec->rewrite, sizeof(rw)) && same_taken(&t, &rec->st, 7),
			"flow %u, found here", i);
		spilled += at[i].bucket != mr_flow_bucket_primary(w->bss->hash4, BUCKETS);
		rec->st.seq |= 1; /* being written */
		run(fd);
		CHECK(w->bss->way4 < 0, "flow %u was read while it was written", i);
		rec->st.seq &= ~1u;
		w->bss->key4.dport_be ^= 1;
		run(fd);
		CHECK(w->bss->way4 < 0, "a flow that is not there, near %u", i);
	}
	CHECK(spilled && placed > 300, "%u flows placed, %u in their second bucket", placed, spilled);
	printf("IPv4: %u flows found by the kernel, %u of them in their second bucket\n", placed, spilled);
	munmap(b, BUCKETS * sizeof(*b));
}

static void test6(struct flow_wrap *w, struct rng *r)
{
	struct mr_bucket6 *b = map_array(bpf_map__fd(w->maps.flows6), BUCKETS * sizeof(*b));
	static struct mr_key6 key[FLOWS];
	static struct place at[FLOWS];
	unsigned spilled = 0, placed = 0, fd = bpf_program__fd(w->progs.flow_wrap6);
	for (unsigned i = 0; i < FLOWS; i++) {
		key[i] = (struct mr_key6){ 1, 6, 0, rng_next(r), rng_next(r), { 0 }, { 0 } };
		for (int k = 0; k < 4; k++) {
			key[i].saddr_be[k] = rng_next(r);
			key[i].daddr_be[k] = rng_next(r);
		}
		if (!choose(head6, b, mr_flow_hash6(&key[i], w->bss->seed), &at[i]))
			continue; /* both buckets are full: at[i].way is -1 */
		placed++;
		struct mr_flow6 *rec = &b[at[i].bucket].rec[at[i].way];
		rec->key = key[i];
		rec->key.ingress = 7;
		fill(r, &rec->rewrite, sizeof(rec->rewrite), &rec->st);
		rec->st.seq = 2 * i;
	}
	for (unsigned i = 0; i < FLOWS; i++) {
		if (at[i].way < 0)
			continue;
		struct mr_flow6 *rec = &b[at[i].bucket].rec[at[i].way];
		struct mr_rewrite6 rw;
		struct mr_flow_taken t = { 0 };
		w->bss->key6 = key[i];
		run(fd);
		CHECK(w->bss->hash6 == mr_flow_hash6(&key[i], w->bss->seed), "flow %u", i);
		CHECK(w->bss->way6 == at[i].way && w->bss->bucket6 == at[i].bucket, "flow %u at %u/%d, found %u/%d", i,
			at[i].bucket, at[i].way, w->bss->bucket6, w->bss->way6);
		CHECK(!memcmp(&w->bss->rewrite6, &rec->rewrite, sizeof(rec->rewrite)) &&
				same_taken(&w->bss->taken, &rec->st, 7),
			"flow %u", i);
		CHECK(mr_flow_find6(&b[at[i].bucket], &key[i], mr_flow_tag(w->bss->hash6), &rw, &t) == at[i].way &&
				!memcmp(&rw, &rec->rewrite, sizeof(rw)) && same_taken(&t, &rec->st, 7),
			"flow %u, found here", i);
		spilled += at[i].bucket != mr_flow_bucket_primary(w->bss->hash6, BUCKETS);
		rec->st.seq |= 1;
		run(fd);
		CHECK(w->bss->way6 < 0, "flow %u was read while it was written", i);
		rec->st.seq &= ~1u;
		w->bss->key6.daddr_be[3] ^= 1;
		run(fd);
		CHECK(w->bss->way6 < 0, "a flow that is not there, near %u", i);
	}
	CHECK(spilled && placed > 300, "%u flows placed, %u in their second bucket", placed, spilled);
	printf("IPv6: %u flows found by the kernel, %u of them in their second bucket\n", placed, spilled);
	munmap(b, BUCKETS * sizeof(*b));
}

int main(void)
{
	struct rng r = { 99 };
	libbpf_set_print(NULL);
	struct flow_wrap *w = flow_wrap__open_and_load();
	if (!w)
		load_failed("flow_wrap", -errno);
	print_verified("flow_wrap4", bpf_program__fd(w->progs.flow_wrap4));
	print_verified("flow_wrap6", bpf_program__fd(w->progs.flow_wrap6));
	w->bss->seed = rng_next(&r);
	test4(w, &r);
	test6(w, &r);
	flow_wrap__destroy(w);
	return 0;
}
