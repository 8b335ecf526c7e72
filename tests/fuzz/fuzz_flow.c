/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_flow.c - any sequence of operations on a tiny flow table does what a plain array does.
 *
 * The first byte is the capacity; then three bytes an operation: what, which key, and how much time passes.
 */
#include "core/flow.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KEYS 128
#define SEED 0x243f6a8885a308d3ULL

static struct {
	mr_flow_ref ref;
	uint32_t session; /* 0 = not there */
	uint32_t mark;    /* what the rewrite says */
} model[2][KEYS];

static struct mr_flows *t;
static uint32_t now_ms, next_session;

static void must(bool ok)
{
	if (!ok)
		abort();
}

static struct mr_key4 key4(unsigned n)
{
	return (struct mr_key4){ .zone = 1, .proto = 17, .saddr_be = n, .daddr_be = 7, .sport_be = 53, .dport_be = 53 };
}

static struct mr_key6 key6(unsigned n)
{
	return (struct mr_key6){ .zone = 1, .proto = 6, .saddr_be = { 1, 2, 3, n }, .daddr_be = { 4 } };
}

static void check(unsigned v6, unsigned n)
{
	struct mr_key4 k4 = key4(n);
	struct mr_key6 k6 = key6(n);
	uint64_t h4 = mr_flow_hash4(&k4, SEED), h6 = mr_flow_hash6(&k6, SEED);
	struct mr_flow4 *r4 = NULL, c4 = { .st.session = 0 };
	struct mr_flow6 *r6 = NULL, c6 = { .st.session = 0 };
	uint64_t hit = v6 ? mr_flows_lookup6(t, &k6, &h6, 1, &r6, &c6) : mr_flows_lookup4(t, &k4, &h4, 1, &r4, &c4);

	must(hit == (model[v6][n].session != 0));
	if (!hit)
		return;
	must((v6 ? mr_flows_ref6(t, r6) : mr_flows_ref4(t, r4)) == model[v6][n].ref);
	must((v6 ? c6.st.session : c4.st.session) == model[v6][n].session);
	must((v6 ? c6.rewrite.daddr_be[1] : c4.rewrite.daddr_be) == model[v6][n].mark);
	must(mr_flows_state(t, model[v6][n].ref) == (v6 ? &r6->st : &r4->st));
}

static void insert(unsigned v6, unsigned n)
{
	struct mr_key4 k4 = key4(n);
	struct mr_key6 k6 = key6(n);
	struct mr_rewrite4 r4 = { .daddr_be = n };
	struct mr_rewrite6 r6 = { .daddr_be = { 0, n } };
	struct mr_flow_state st = { .session = ++next_session };
	mr_flow_ref ref = MR_FLOW_NONE;
	int err = v6 ? mr_flows_insert6(t, &k6, mr_flow_hash6(&k6, SEED), &r6, &st, now_ms, &ref)
		     : mr_flows_insert4(t, &k4, mr_flow_hash4(&k4, SEED), &r4, &st, now_ms, &ref);

	must((err == -EEXIST) == (model[v6][n].session != 0));
	must(err == 0 || err == -EEXIST || err == -ENOSPC);
	if (err == -EEXIST)
		must(ref == model[v6][n].ref);
	if (!err) {
		model[v6][n].ref = ref;
		model[v6][n].session = st.session;
		model[v6][n].mark = n;
	}
}

static void insert_pair(unsigned n)
{
	unsigned m = (n + 1) % KEYS;
	struct mr_key4 k[2] = { key4(n), key4(m) };
	struct mr_rewrite4 rw[2] = { { .daddr_be = n }, { .daddr_be = m } };
	struct mr_flow_state st = { .session = ++next_session };
	struct mr_flow_insert in[2] = { { &k[0], mr_flow_hash4(&k[0], SEED), &rw[0], &st },
		{ &k[1], mr_flow_hash4(&k[1], SEED), &rw[1], &st } };
	mr_flow_ref ref[2];
	uint32_t holder = 0;
	int err = mr_flows_insert_pair(t, false, in, now_ms, ref, &holder);

	must((err == -EEXIST) == (model[0][n].session || model[0][m].session));
	if (err == -EEXIST)
		must(holder && (holder == model[0][n].session || holder == model[0][m].session));
	for (unsigned i = 0; !err && i < 2; i++) {
		unsigned which = i ? m : n;
		model[0][which].ref = ref[i];
		model[0][which].session = st.session;
		model[0][which].mark = which;
	}
	check(0, m);
}

static void decide(unsigned v6, unsigned n)
{
	struct mr_rewrite4 r4 = { .daddr_be = ++next_session };
	struct mr_rewrite6 r6 = { .daddr_be = { 0, next_session } };
	mr_flow_ref ref = model[v6][n].session ? model[v6][n].ref : n;
	uint32_t session = model[v6][n].session ? model[v6][n].session : UINT32_MAX;
	int err = v6 ? mr_flows_decide6(t, ref, session, 1, &r6, 1, 2, 3, 4)
		     : mr_flows_decide4(t, ref, session, 1, &r4, 1, 2, 3, 4);

	must(err == (model[v6][n].session ? 0 : -ESTALE));
	if (!err)
		model[v6][n].mark = next_session;
}

static void take(unsigned v6, unsigned n)
{
	int err = mr_flows_free(t, model[v6][n].ref, model[v6][n].session ? model[v6][n].session : UINT32_MAX, now_ms);

	must(err == (model[v6][n].session ? 0 : -ESTALE));
	model[v6][n].session = 0;
}

static void finish(void)
{
	struct mr_flows_usage u;
	uint64_t live[2] = { 0, 0 };

	for (unsigned v6 = 0; v6 < 2; v6++) {
		for (unsigned n = 0; n < KEYS; n++) {
			check(v6, n);
			live[v6] += model[v6][n].session != 0;
		}
	}
	mr_flows_usage(t, &u);
	must(u.live4 == live[0] && u.live6 == live[1]);
	for (unsigned v6 = 0; v6 < 2; v6++) {
		for (unsigned n = 0; n < KEYS; n++)
			take(v6, n);
	}
	mr_flows_usage(t, &u);
	must(u.live4 + u.live6 + u.overflow4 + u.overflow6 == 0);
	const struct mr_bucket4 *b =
		(const void *)((const char *)mr_flows_record4(t, 0) - sizeof(struct mr_bucket_head));
	for (uint32_t i = 0; i < mr_flows_buckets4(t); i++)
		must(!b[i].head.spill && !b[i].head.spilled && !b[i].head.lock);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mr_flows_options opt = { .seed = SEED };

	if (!size)
		return 0;
	opt.capacity4 = opt.capacity6 = 1 + data[0] % 100;
	memset(model, 0, sizeof(model));
	now_ms = next_session = 0;
	must(mr_flows_create(&opt, &t, NULL) == 0);
	for (size_t i = 1; i + 2 < size; i += 3) {
		unsigned v6 = data[i] >> 7, n = data[i + 1] % KEYS;
		now_ms += data[i + 2];
		switch (data[i] % 5) {
		case 0:
			insert(v6, n);
			break;
		case 1:
			take(v6, n);
			break;
		case 2:
			decide(v6, n);
			break;
		case 3:
			insert_pair(n);
			v6 = 0;
			break;
		default:
			mr_flows_undecide(
				t, model[v6][n].ref, model[v6][n].session ? model[v6][n].session : UINT32_MAX);
			break;
		}
		check(v6, n);
	}
	finish();
	mr_flows_destroy(t);
	return 0;
}
