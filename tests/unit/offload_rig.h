/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * offload_rig.h - one session over whole workers and a kernel tier in plain memory; what XDP would do to a record (mark it CLOSING, count in it)
 * the tests do.
 */
#ifndef MR_TESTS_OFFLOAD_RIG_H
#define MR_TESTS_OFFLOAD_RIG_H

#include "rig.h"

#include "core/offload.h"
#include "core/session.h"
#include "core/tier.h"
#include "core/turn.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HEAD(flows)                 \
	"version: 1\n"              \
	"flows: { " flows " }\n"    \
	"interfaces:\n"             \
	"  wan: { device: wan0 }\n" \
	"  lan: { device: lan0 }\n" \
	"pipelines:\n"
#define BOTH                                             \
	"  in: { from: [ wan ], match: all, to: lan }\n" \
	"  out: { from: [ lan ], match: all, to: wan }\n"

static const char established[] = HEAD("capacity: 1k") BOTH;
static const char always[] = HEAD("offload: always") BOTH;
static const char never[] = HEAD("offload: never") BOTH;
static const struct rig_options with_tier = { .tier = true };

#define UDP_THERE "udp 10.0.0.1:1000 > 10.0.0.2:53"
#define UDP_BACK  "udp 10.0.0.2:53 > 10.0.0.1:1000"
#define TCP_THERE "tcp 10.0.0.1:1000 > 10.0.0.2:80 flags "
#define TCP_BACK  "tcp 10.0.0.2:80 > 10.0.0.1:1000 flags "

static inline void say(struct rig *r, const char *interface, const char *packet, unsigned times)
{
	for (unsigned i = 0; i < times; i++) {
		rig_say(r, interface, packet);
		rig_turn(r);
	}
}

/* The session there is: each test has one. */
static inline uint32_t session(struct rig *r)
{
	uint32_t idx = mr_sessions_next(r->sh.sessions, 1);
	cr_assert(idx, "there is a session");
	return idx;
}

static inline mr_flow_ref ref_of(struct rig *r, enum mr_direction dir)
{
	return mr_session_at(r->sh.sessions, session(r))->ref[dir];
}

static inline struct mr_flow_state *state_of(struct rig *r, enum mr_direction dir)
{
	struct mr_flow_state *st = mr_flows_state(r->sh.flows, ref_of(r, dir));
	cr_assert_not_null(st);
	return st;
}

static inline bool offloaded(struct rig *r, enum mr_direction dir)
{
	return (state_of(r, dir)->flags & (MR_FLOW_OFFLOAD | MR_FLOW_TRACK | MR_FLOW_CLOSING)) == MR_FLOW_OFFLOAD;
}

static const char *why(struct rig *r, enum mr_direction dir)
{
	const struct mr_session *s = mr_session_at(r->sh.sessions, session(r));
	const struct mr_flow4 *rec = mr_flows_record4(r->sh.flows, ref_of(r, dir));
	return mr_offload_name(mr_offload_judge(&r->sh, rig_plan(r), s, dir, rec->key.ingress, &rec->st));
}

/* SYN, SYN/ACK, ACK and data in both directions: more than three packets each. */
static inline void converse(struct rig *r)
{
	say(r, "wan", TCP_THERE "syn", 1);
	say(r, "lan", TCP_BACK "syn,ack", 1);
	for (unsigned i = 0; i < 4; i++) {
		say(r, "wan", TCP_THERE "ack", 1);
		say(r, "lan", TCP_BACK "ack", 1);
	}
}

/* What kern/tier.bpf.h does before it sends a FIN or RST up. */
static inline void xdp_marks(struct rig *r, enum mr_direction dir)
{
	__atomic_fetch_or(&state_of(r, dir)->flags, MR_FLOW_CLOSING, __ATOMIC_RELAXED);
}

#endif
