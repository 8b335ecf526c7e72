/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * batch.h - a packet that no record decides, on its way through the stage tier.
 *
 *     miss ─mr_packet_begin─► stages (core/pipeline.h) ─► verdict, rewrite, effects ─► core/decide.h ─► core/apply.h
 *
 * Packets that a record decides never become a struct mr_packet: the hit path (core/worker.c) works on arrays.  Packets live in
 * their worker, are used for one turn and own nothing; the frame belongs to the worker's turn.
 */
#ifndef MR_CORE_BATCH_H
#define MR_CORE_BATCH_H

#include "core/plan.h"
#include "core/related.h"
#include "core/session.h"
#include "core/worker.h"
#include "kern/parse.h"

/* Effects a single packet may gather; a record holds fewer, then the decision is not stored. */
#define MR_PACKET_COUNTERS 16
#define MR_PACKET_METERS   16

/* Who decides, and with what: the same for all packets of a turn. */
struct mr_pass {
	struct mr_shared *sh;
	struct mr_plan *plan;
	unsigned worker; /* sh->worker_cnt = control, for explain */
	uint64_t now_ns;
	uint32_t now_ms;
};

enum mr_verdict {
	MR_VERDICT_GO,        /* on to the next stage, at the end to where the pipeline ends */
	MR_VERDICT_DROP,      /* reason */
	MR_VERDICT_KERNEL,    /* to the stack */
	MR_VERDICT_INTERFACE, /* out of `egress` as it is */
	MR_VERDICT_TUNNEL,    /* encapsulated, by the slot `tunnel` */
	MR_VERDICT_AGAIN,     /* revalidate ended its session: decide it as the first of a new flow */
};

struct mr_packet {
	const struct mr_pass *pass;
	struct mr_frame frame;
	uint8_t *data;
	const struct mr_parsed *parsed;

	/* where it belongs */
	uint8_t interface_id;
	uint8_t ingress;  /* pair */
	uint8_t pipeline; /* index into plan.pipelines */
	uint16_t zone;
	struct mr_flow_key key; /* family 0: names no session */
	bool stateful;          /* its pipeline has sessions, and this packet may have or open one */

	/* the session met */
	uint32_t session;  /* 0 = none yet */
	uint8_t direction; /* enum mr_direction */
	uint8_t opened_by; /* the pair that made it */
	mr_flow_ref ref;   /* of the record met; MR_FLOW_NONE */
	uint16_t record_generation;
	uint16_t record_flags;
	bool stale; /* the record is of another generation: stages revalidate */

	/* the decision */
	struct mr_tuple tuple; /* effective: after the stages so far */
	uint8_t verdict;       /* enum mr_verdict */
	uint8_t egress;
	uint16_t tunnel;
	uint16_t reason;
	bool this_packet_only;
	bool no_session; /* it opens none */
	bool aside;      /* an exception of routing: decided for itself, and what the record says of the others stays */
	bool one_way;
	bool keep;          /* of the session it opens, and */
	uint8_t timeouts;   /* the class of its time-outs */
	uint32_t mss;       /* core/mss.h; 0 = as it is */
	uint8_t reject;     /* dropped, and its sender is told: enum mr_icmp_kind; 0 = as its reason says */
	uint32_t reject_ms; /* ... after so long */
	bool ends;          /* dropped, and revalidate ended its session */
	bool private_used;
	uint16_t translated; /* MR_FLOW_SNAT | MR_FLOW_DNAT */
	uint8_t counter_cnt, meter_cnt;
	bool effects_lost; /* more than a packet can carry */
	uint16_t counter[MR_PACKET_COUNTERS];
	uint16_t meter[MR_PACKET_METERS];

	/* the stage at work */
	uint8_t private_offset;
	uint8_t private_bytes;
	bool private_foreign; /* the session has none of its bytes */
	uint32_t ran;         /* bit i: stage i of the pipeline was asked */
	uint8_t *private;     /* all stages' bytes: the session's, or `fresh` */
	uint8_t fresh[MR_SESSION_PRIVATE_BYTES] __attribute__((aligned(8)));
	struct mr_related related; /* with mr_decide_related() */
	uint8_t attempts;          /* times it was decided */
	uint8_t arrival;           /* which frame of the worker's turn */

	struct mr_explanation *explanation; /* NULL: nobody asks */
};

struct mr_batch {
	unsigned cnt;
	struct mr_packet *packet[MR_BATCH];
};

/* The key with its hash; false when the packet names no session (kern/parse.h). */
bool mr_packet_key(const struct mr_parsed *p, const void *data, uint16_t zone, uint64_t seed, struct mr_flow_key *out);

/* Fills *p for a frame of interface_id whose pipeline is known: tuple from the headers, nothing decided, no session. */
void mr_packet_begin(struct mr_packet *p, const struct mr_pass *pass, const struct mr_frame *frame, uint8_t *data,
	const struct mr_parsed *parsed, unsigned interface_id, unsigned steer_pipeline);
/* Forgets the decision (not the session) for another round. */
void mr_packet_reset(struct mr_packet *p);
/* Whether it, decided, opens a session when it has none. */
bool mr_packet_opens(const struct mr_packet *p);
/* Of an ICMP query: a request, not a reply. */
bool mr_parsed_is_request(const struct mr_parsed *h);
/* An ICMP query whose identifier is the source end of its key (a request), or (a reply) the destination end. */
bool mr_packet_is_query(const struct mr_packet *p, bool request);
/* Attaches the session of a record that was found.  False: the session is over, treat the packet as the first. */
bool mr_packet_attach(struct mr_packet *p, uint32_t session, uint16_t flags, uint16_t generation, mr_flow_ref ref);

#endif
