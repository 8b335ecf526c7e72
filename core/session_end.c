/* SPDX-License-Identifier: BSD-2-Clause */
/* session_end.c - what stages can ask about a session that has ended (millrace/stage.h, mr_end_*). */
#include "core/keys.h"
#include "core/session_table.h"
#include <sched.h>
#include <string.h>
#include <time.h>

#define TRIES_MAX 100000 /* a writer that lost its CPU in the middle of a record */

/* A key as no writer touched it.  False: the reference names no record. */
static bool copy_key(const struct mr_sessions *s, const struct mr_session *x, unsigned dir, struct mr_flow_key *k)
{
	mr_flow_ref ref = __atomic_load_n(&x->ref[dir], __ATOMIC_RELAXED);
	const struct mr_flow4 *r4 = x->family == 4 && ref != MR_FLOW_NONE ? mr_flows_record4(s->flows, ref) : NULL;
	const struct mr_flow6 *r6 = x->family == 6 && ref != MR_FLOW_NONE ? mr_flows_record6(s->flows, ref) : NULL;

	if (!r4 && !r6)
		return false;
	for (unsigned try = 1; try < TRIES_MAX; try++) {
		if (r4 ? mr_flow_copy(&k->k4, r4, &r4->st.seq, sizeof(k->k4) / 8)
		       : mr_flow_copy(&k->k6, r6, &r6->st.seq, sizeof(k->k6) / 8))
			return true;
		if (try % 16 == 0)
			sched_yield();
	}
	return false;
}

void mr_session_end_keys(const struct mr_sessions *s, const struct mr_session *x, struct mr_flow_key key[2])
{
	for (unsigned dir = 0; dir < 2; dir++) {
		memset(&key[dir], 0, sizeof(key[dir]));
		if (copy_key(s, x, dir, &key[dir]))
			key[dir].family = x->family;
		key[dir].k4.ingress = 0; /* the same place in both families' keys */
	}
}

/* ---- millrace/stage.h ------------------------------------------------------------------------------------------ */

unsigned mr_end_worker(const struct mr_session_end *e)
{
	return e->worker;
}

/* From the end's tick, which has 32 bits: so one turn has one time, and a test its own. */
uint64_t mr_end_time_ns(const struct mr_session_end *e)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	uint64_t now_ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
	int64_t ms = (int64_t)now_ms + (int32_t)(e->now_ms - (uint32_t)now_ms);
	return ms > 0 ? (uint64_t)ms * 1000000 : 0;
}

void mr_end_tuples(const struct mr_session_end *e, struct mr_tuple *forward, struct mr_tuple *reply)
{
	mr_keys_tuples(e->key, forward, reply);
}

void mr_end_totals(const struct mr_session_end *e, int direction, uint64_t *packets, uint64_t *bytes)
{
	mr_session_totals(e->sessions, e->idx, direction ? MR_REPLY : MR_FORWARD, packets, bytes);
}

uint64_t mr_end_age_ms(const struct mr_session_end *e)
{
	uint32_t age_ms = e->now_ms - e->session->created_ms;

	return age_ms > UINT32_MAX - MR_CLOCKS_APART_MS ? 0 : age_ms;
}
