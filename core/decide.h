/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * decide.h - from the verdict of the stages to a decision that can be applied, and stored as far as it may be.
 *
 *     verdict ─► next hop (a route's: core/route.h), rewrite, effects ─► storable? ─► session made, or record of a known session decided
 *
 * docs/semantics.md says what is stored and when.
 */
#ifndef MR_CORE_DECIDE_H
#define MR_CORE_DECIDE_H

#include "core/batch.h"

enum mr_decide_outcome {
	MR_DECIDE_APPLY, /* *out is to be applied to this packet */
	MR_DECIDE_DROP,  /* packet.reason */
	MR_DECIDE_AGAIN, /* somebody was first, or its session ended: look up and decide again */
};

/* Settles a packet that ran through its pipeline.  *store tells whether *out may be (was) stored.  With dry, nothing is changed: what
 * would happen is said.  Of a packet that had no session, the stages that ran are told: commit when it has one now, else abort.  Threads: the pass's worker, or control with dry. */
enum mr_decide_outcome mr_decide_settle(struct mr_packet *p, struct mr_flow_decision *out, bool dry, bool *store);

/* The packet's key as it leaves, given the one it came with. */
void mr_decide_key_after(const struct mr_packet *p, const struct mr_flow_key *before, struct mr_flow_key *out);

/* The record flag a TCP session's records carry while it is opening or closing: then every packet is told to the session. */
uint16_t mr_decide_track(uint8_t proto, enum mr_session_state state);

/* Replaces what a record says, for the record's session.  Threads: workers. */
void mr_decide_record(
	struct mr_flows *flows, mr_flow_ref ref, uint32_t session, uint8_t family, const struct mr_flow_decision *d);

#endif
