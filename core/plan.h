/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * plan.h - a configuration made ready to run: numbers instead of names, one immutable object for all workers.
 *
 *     struct mr_config ─mr_plan_create─► struct mr_plan ─published─► workers ─next plan, one epoch─► mr_plan_destroy
 *
 * A worker takes the plan pointer at the start of a loop and uses no other during it.  The only things in a plan that change are
 * the effects table (append-only) and the queue pointers' presence: a queue that goes away comes with a new plan.
 */
#ifndef MR_CORE_PLAN_H
#define MR_CORE_PLAN_H

#include "core/config.h"
#include "core/effects.h"
#include "core/handback.h"
#include "core/interface.h"
#include "core/nexthop.h"
#include "core/stats.h"
#include "core/steer.h"
#include "kern/abi.h"
#include "millrace/stage.h"
#include <stdatomic.h>

#define MR_PLAN_STAGES     64   /* stages of a configuration */
#define MR_PIPELINE_STAGES 16   /* stages of a pipeline */
#define MR_PLAN_ANNOUNCE   4096 /* addresses */

struct mr_plan_stage {
	const char *name;
	const struct mr_stage_type *type;
	void *self; /* the instance */
	void *options;
	uint8_t session_offset; /* its private bytes in mr_session.priv */
	const struct mr_config_stage *config;
	bool inherits; /* it took over from its like in the plan before */
};

struct mr_plan_pipeline {
	const char *name;
	uint8_t stage_cnt;
	uint8_t stage[MR_PIPELINE_STAGES]; /* index into plan.stages, in order */
	uint8_t to_kind;                   /* enum mr_to_kind */
	uint8_t to_interface;              /* id, with MR_TO_INTERFACE */
	uint8_t state;                     /* enum mr_state_kind */
	uint16_t nexthop;                  /* slot of where the pipeline ends */
	const struct mr_config_pipeline *config;
};

/* One interface as the workers see it.  queue_cnt 0: absent or down. */
struct mr_plan_interface {
	const char *name;   /* NULL = id not used */
	uint16_t zone;      /* of a packet: mr_parse_zone() with both (core/zone.h) */
	uint16_t vlan_mask; /* 0, or the bits of the zone that the outer VLAN id fills */
	uint16_t queue_cnt;
	struct mr_queue **queue;      /* [queue_cnt] */
	struct mr_handback *handback; /* NULL for files: `kernel` is then a counted drop */
	struct mr_steer_table *steer; /* classification in user space */
	bool key_only;                /* mr_steer_key_only(steer) */
	bool fragments_follow; /* later fragments need what the first one says; else each goes at once, in any order */
	bool link_down;        /* nothing can be sent: egress drops with link-down */
	uint8_t mac[6];        /* of the device; zeros: none */
	uint8_t pipeline_cnt;
	uint8_t pipeline[MR_MAX_PIPELINES]; /* steer pipeline number -> index into plan.pipelines */
	uint8_t ingress[MR_MAX_PIPELINES];  /* steer pipeline number -> ingress pair */
	uint8_t ingress_none;               /* ingress pair for "no pipeline" */
};

/* What an ingress pair stands for. */
struct mr_plan_ingress {
	uint8_t interface_id; /* 0 = not of this plan */
	uint8_t pipeline;     /* index into plan.pipelines; 0xff = none */
	uint8_t offload;      /* enum mr_offload_kind: what the kernel tier may take; 0 = nothing */
	uint8_t offload_why;  /* enum mr_offload_why, when nothing */
};

struct mr_plan {
	uint16_t generation; /* 1..65535, wraps past 0 */
	uint64_t serial;     /* never wraps; what `show` calls generation */
	unsigned worker_cnt;
	const struct mr_config *config;                            /* owned */
	struct mr_plan_interface interface[MR_MAX_INTERFACES + 1]; /* by id */
	struct mr_plan_ingress ingress[MR_STATS_INGRESS];
	uint8_t pipeline_cnt;
	struct mr_plan_pipeline pipeline[MR_MAX_PIPELINES];
	uint8_t stage_cnt;
	struct mr_plan_stage stage[MR_PLAN_STAGES];
	struct mr_prefix_list announce; /* addresses the kernel answers ARP for (core/announce.h) */
	struct mr_timeouts *timeouts;   /* classes of them, that stages made (core/timeouts.h) */
	/* What became of sessions that older plans laid out (core/layout.h). */
	bool changed[MR_STATS_INGRESS];            /* by pair: they cannot go on */
	uint64_t before_serial;                    /* of the plan this one took over from; 0 = none */
	_Atomic(struct mr_plan *) before;          /* that plan, until no session is laid out by it; NULL: none was */
	atomic_uint_fast64_t lost[MR_PLAN_STAGES]; /* sessions that ended because of stage i of `before` */
	atomic_uint_fast64_t refused[MR_PLAN_STAGES]; /* ... that stage i of this one did not keep */
	atomic_bool settled;                          /* control has looked at all that older plans made */
	struct mr_effects *effects;
	int tier_half;                /* where they lie (core/tier.h); -1 = in memory of their own */
	struct mr_nexthops *nexthops; /* borrowed from the runtime */
	bool offloads;                /* some pair's flows may go to the kernel tier */
	uint32_t offload_after;       /* packets of a record before */
	bool wants_routes;            /* a pipeline ends in `route`, or a stage has a tunnel */
	/* A plan a worker was too late for (core/runtime.h): the next of those, and whether another owns its contents. */
	struct mr_plan *abandoned_next;
	bool abandoned_shell;
	bool was_in_force;        /* it was given up when the next one had taken over */
	uint64_t abandoned_stamp; /* when it has passed, nobody is in it any more */
};

/* What control knows of the interfaces while it makes a plan. */
struct mr_plan_device {
	const char *name;          /* NULL = id not used */
	struct mr_interface *open; /* NULL = absent */
	struct mr_handback *handback;
	bool is_file;
	bool link_down;
	uint8_t mac[6];
};

struct mr_plan_env {
	struct mr_plan_device device[MR_MAX_INTERFACES + 1]; /* by id, for every interface of the configuration */
	struct mr_stats *stats;
	struct mr_nexthops *nexthops;
	struct mr_neighbours *neighbours; /* for tunnels; NULL: the plan is only checked */
	struct mr_routes *routes;
	struct mr_effect *effects; /* memory of the plan's effects and meters (core/effects.h); NULL: its own */
	struct mr_meter *meters;
	int tier_half; /* of the kernel tier's, which these are in; -1 = none */
	unsigned worker_cnt;
	uint64_t serial;
	bool checking;            /* the plan is only checked: nothing will run */
	struct mr_plan *previous; /* whose stages are adopted and session bytes kept; NULL at start */
};

/*
 * Makes a plan.  On success the plan owns `config`; on failure the caller still does and nothing else is left.
 * -EINVAL with the sentence (unknown stage type, `match: auto` without a need, too many ...), -ENOMEM, -E2BIG.
 * Threads: control.
 */
int mr_plan_create(
	const struct mr_config *config, const struct mr_plan_env *env, struct mr_plan **out, struct mr_error *e);

/* Makes and ends a plan without touching a device: every fault of the file that a plan would find, found early.  Errors as above. */
int mr_plan_check(const struct mr_config *config, unsigned worker_cnt, struct mr_error *e);
/* The same, and calls fn with every stage in between. */
typedef void (*mr_plan_visit_fn)(void *ctx, const struct mr_plan_stage *stage);
int mr_plan_visit(
	const struct mr_config *config, unsigned worker_cnt, mr_plan_visit_fn fn, void *ctx, struct mr_error *e);

/* Lets the stages of `plan` adopt from env->previous.  After everything that may fail, before publishing. */
void mr_plan_adopt(struct mr_plan *plan, struct mr_plan *previous);

/* The same plan with the queues and link states of `env`, because a device came or went: same generation, so flows stay as they are.
 * On success it owns all the old one owned, and the old one is to be ended with mr_plan_free_shell() after an epoch. */
int mr_plan_refresh(const struct mr_plan *old, const struct mr_plan_env *env, struct mr_plan **out, struct mr_error *e);
void mr_plan_free_shell(struct mr_plan *plan);

/* Ends a plan that no worker uses, with its stages and configuration.  NULL allowed. */
void mr_plan_destroy(struct mr_plan *plan);

/* The id of an interface of the plan, 0 = none. */
unsigned mr_plan_interface_id(const struct mr_plan *plan, const char *name);

#endif
