/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * offload.h - which flows are left to the kernel tier, and when.
 *
 *     decided ──N packets, established──► candidate ──worker has caught up──► MR_FLOW_OFFLOAD
 *        ▲                                                                        │
 *        └──── decided anew (generation), TCP opening or closing ─────────────────┘
 *
 * A mark is a permission: XDP looks at each packet, next hop and egress itself (kern/tier.h), and what it is in doubt about comes up.
 * A flow goes over when its worker has taken out and sent all that XDP has sent up to its queue, so that no packet overtakes those before it;
 * a queue that loses packets is not waited for (core/offload_turn.c).
 */
#ifndef MR_CORE_OFFLOAD_H
#define MR_CORE_OFFLOAD_H

#include "core/config.h"
#include "core/interface.h"
#include "core/session.h"

struct mr_plan;
struct mr_shared;
struct mr_tier_maps;

/* Why a record is not offloaded; OK: it is.  Names are stable (JSON). */
#define MR_OFFLOADS(X)                                                                                              \
	X(OK, "", "")                                                                                               \
	X(SOON, "soon", "nothing is in the way: it goes over when its next packets leave the queue empty")          \
	X(OFF, "off", "offload is never: said so, state: none, or not said and the interface is zero-copy")         \
	X(NO_TIER, "no-kernel-tier", "the program runs without a kernel tier")                                      \
	X(INTERFACE, "interface", "the interface it comes in by has no kernel tier: show interfaces says why")      \
	X(EGRESS, "egress", "the interface it leaves by takes no redirected frames: show interfaces says why")      \
	X(UNDECIDED, "undecided", "every packet is decided for itself, or none of this configuration has come yet") \
	X(STATE, "state", "not established, or closing")                                                            \
	X(PACKETS, "packets", "fewer packets than flows.offload_after")                                             \
	X(OVERFLOW, "overflow", "its record lies in the part of the table that only user space knows")              \
	X(EFFECTS, "effects", "it needs a counter whose number the kernel tier has no room for")                    \
	X(NEXTHOP, "next-hop", "a route over it changed, or its next hop is being resolved or was not found")

enum mr_offload_why {
#define X(sym, name, help) MR_OFFLOAD_##sym,
	MR_OFFLOADS(X)
#undef X
		MR_OFFLOAD_CNT
};

const char *mr_offload_name(enum mr_offload_why why); /* stable */
const char *mr_offload_help(enum mr_offload_why why);

/* What holds for packets of a pipeline that come in by an interface (enum mr_offload_kind): the pipeline's own word, else that of `flows`, else
 * ESTABLISHED; NEVER where the interface cannot, and, when nobody said a word, where it is zero-copy. */
int mr_offload_policy(
	const struct mr_config_flows *flows, const struct mr_config_pipeline *p, const struct mr_interface_info *in);
/* Somebody wants it never: they said so, or nobody said a word and the interface is zero-copy.  in: NULL = not known. */
bool mr_offload_unwanted(
	const struct mr_config_flows *flows, const struct mr_config_pipeline *p, const struct mr_interface_info *in);
/* True when some pipeline from a device may offload: then the runtime makes a kernel tier. */
bool mr_offload_wanted(const struct mr_config *c);

/* Whether XDP may take a session's record, and if not, why.  For the worker before marking and for `show flows`.  st: a copy of the
 * record's state.  Threads: workers online, or control online in its slot. */
enum mr_offload_why mr_offload_judge(const struct mr_shared *sh, const struct mr_plan *plan, const struct mr_session *s,
	enum mr_direction dir, uint8_t ingress, const struct mr_flow_state *st);

#endif
