/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * reuse_wrap.bpf.c - looks two keys up, as often as it is told, in a bucket that user space changes all the time, and checks that what it
 * took belongs to the key: all of it is a function of the key and of one number.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "tests/kern/reuse.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, REUSE_BUCKETS);
	__type(key, __u32);
	__type(value, struct mr_bucket4);
} flows4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, REUSE_BUCKETS);
	__type(key, __u32);
	__type(value, struct mr_bucket6);
} flows6 SEC(".maps");

const volatile int unchecked = 0; /* takes records without looking at their sequence numbers: this must go wrong */
const volatile int v6 = 0;

struct mr_key4 key4[2]; /* .bss, of the test */
struct mr_key6 key6[2];
__u32 bucket;
__u16 tag[2];
__u32 lookups;
__u64 found[2], missed, mixed;

/* As mr_flow_take() would be without the sequence number. */
static __always_inline int take_unchecked(const void *key, const void *rec, unsigned key_words, void *rewrite,
	unsigned rewrite_words, struct mr_flow_taken *t)
{
	const __u64 *word = rec;
	const struct mr_flow_state *st = (const void *)(word + key_words + rewrite_words);
	union mr_flow_first first = { .word = mr_flow_load64(st) };
	union mr_flow_last last;
	__u64 head = mr_flow_load64(word);
	__u64 diff = (head ^ mr_flow_word(key, 0)) & MR_FLOW_INGRESS_MASK;
	for (unsigned i = 1; i < key_words; i++)
		diff |= mr_flow_load64(word + i) ^ mr_flow_word(key, i);
	for (unsigned i = 0; i < rewrite_words; i++)
		((__u64 *)rewrite)[i] = mr_flow_load64(word + key_words + i);
	last.word = mr_flow_load64(&st->packets);
	t->flags = first.st.flags;
	t->nexthop = first.st.nexthop;
	t->generation = last.st.generation;
	t->effects = last.st.effects;
	t->ingress = (__u8)(head >> MR_FLOW_INGRESS_SHIFT);
	return !diff;
}

static __always_inline void note(__u32 which, int got, int right)
{
	if (got) {
		found[which]++;
		mixed += !right;
	} else {
		missed++;
	}
}

static long look4(__u32 i, void *ctx)
{
	struct mr_rewrite4 rw __attribute__((aligned(8))) = { 0 };
	struct mr_flow_taken t = { 0 };
	__u32 which = i & 1, idx = bucket;
	struct mr_key4 key = key4[which];
	struct mr_bucket4 *b = bpf_map_lookup_elem(&flows4, &idx);
	int got = 0;
	if (!b)
		return 1;
	if (unchecked)
		got = b->head.tag[0] == tag[which] &&
			take_unchecked(&key, &b->rec[0], sizeof(key) / 8, &rw, sizeof(rw) / 8, &t);
	else
		got = mr_flow_find4(b, &key, tag[which], &rw, &t) >= 0;
	note(which, got, got && reuse_right4(&key, &rw, &t));
	return 0;
}

static long look6(__u32 i, void *ctx)
{
	struct mr_rewrite6 rw __attribute__((aligned(8))) = { 0 };
	struct mr_flow_taken t = { 0 };
	__u32 which = i & 1, idx = bucket;
	struct mr_key6 key = key6[which];
	struct mr_bucket6 *b = bpf_map_lookup_elem(&flows6, &idx);
	int got = 0;
	if (!b)
		return 1;
	if (unchecked)
		got = b->head.tag[0] == tag[which] &&
			take_unchecked(&key, &b->rec[0], sizeof(key) / 8, &rw, sizeof(rw) / 8, &t);
	else
		got = mr_flow_find6(b, &key, tag[which], &rw, &t) >= 0;
	note(which, got, got && reuse_right6(&key, &rw, &t));
	return 0;
}

SEC("xdp")
int reuse_wrap(struct xdp_md *ctx)
{
	if (v6)
		bpf_loop(lookups, look6, (void *)0, 0);
	else
		bpf_loop(lookups, look4, (void *)0, 0);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
