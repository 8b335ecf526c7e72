/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * runtime.h - the program in the middle: owns everything, on one thread (control).
 *
 *     main ─► mr_runtime_create(file) ─► mr_runtime_run() ─── signals, control socket, link events, timer ───► destroy
 *
 * Control opens interfaces, makes plans, publishes them to the workers and answers questions.  Only control calls what is here.
 */
#ifndef MR_CORE_RUNTIME_H
#define MR_CORE_RUNTIME_H

#include "core/succession.h"
#include "core/worker.h"
#include <stdio.h>
#include <time.h>

struct mr_announce;
struct mr_control;
struct mr_egresses;
struct mr_leave;
struct mr_links;

struct mr_runtime_options {
	const char *path;              /* configuration file */
	const char *instance;          /* --name; "default" */
	const char *socket;            /* NULL = /run/millrace/INSTANCE.sock */
	bool no_control;               /* tests */
	void (*log)(const char *line); /* events for the operator, one line each, no newline; NULL = nowhere */
	void (*ready)(void);           /* called once, when traffic flows; may be NULL */
};

/* What the kernel tier gave an interface to send. */
struct mr_egress_count {
	uint64_t sent_packets, sent_bytes;
	uint64_t lost_packets; /* of those: not taken */
};

/* One configured interface over its whole life; `open` comes and goes with the device. */
struct mr_runtime_interface {
	char *name;
	struct mr_config_interface config; /* as opened; strings owned here */
	struct mr_interface *open;         /* NULL = absent */
	struct mr_handback *handback;
	bool is_file;
	uint64_t opened_cnt;  /* times it was opened */
	char absent_why[256]; /* why it is not open */
	uint64_t retry_at_ms;
	bool link_down; /* as the plan in force has it */
	/* what was counted before it was closed, so that totals never go back */
	struct mr_queue_counters closed;
	struct mr_steer_counters closed_steer;
	struct mr_egress_count closed_egress;
};

/* What an interface had counted when a reload removed it: shown, and gone on from should the name come back. */
struct mr_runtime_removed {
	char *name; /* NULL = unused */
	unsigned id;
	bool is_file;
	uint64_t opened_cnt;
	struct mr_queue_counters closed;
	struct mr_steer_counters closed_steer;
	struct mr_egress_count closed_egress;
};

struct mr_runtime {
	struct mr_runtime_options opt;
	struct mr_shared sh;
	struct mr_worker *worker[MR_WORKERS_MAX];
	struct mr_runtime_interface interface[MR_MAX_INTERFACES + 1]; /* by id */
	struct mr_runtime_removed removed[MR_MAX_INTERFACES];         /* the oldest first */
	uint64_t shim_cookie;
	uint64_t started_ns;          /* CLOCK_MONOTONIC */
	uint64_t serial;              /* generations so far */
	uint64_t outdated_serial;     /* ... when flow records of older ones were last made nobody's */
	time_t loaded_at;             /* wall clock of the last load, for show */
	struct mr_announce *announce; /* addresses of ours in the kernel; NULL = none were wanted */
	struct mr_control *control;
	struct mr_links *links;
	struct mr_egresses *egress; /* what the kernel tier may send by; NULL = there is no tier */
	bool tier_wanted;           /* when the program started */
	char tier_why[256];         /* ... and why there is none */
	struct mr_leave *leave;     /* what on_exit: drop keeps; NULL = only files */
	int signal_fd, timer_fd, epoll_fd;
	bool mirror_open;     /* the kernel's routes are read (core/mirror.h) */
	bool mirror_more;     /* ... and some of what it said is still to be */
	bool mirror_sweeping; /* flow records are looked through, from mirror_sweep_at on (core/route.h: sweep) */
	uint64_t mirror_sweep_at;
	bool stopping;
	unsigned reload_failures;
	char last_reload[512];                /* outcome of the last reload, a sentence */
	struct mr_succession last_succession; /* ... and the sessions that ended with it */
};

/*
 * Reads the file, takes the control socket, makes memory, opens every interface, publishes the first plan, starts the workers.  On
 * failure nothing is left attached or created.  -EINVAL: the file is wrong (exit 2); anything else: the system refused (exit 1).
 * Blocks SIGINT, SIGTERM, SIGHUP for the calling thread and those it starts.
 */
int mr_runtime_create(const struct mr_runtime_options *opt, struct mr_runtime **out, struct mr_error *e);
/* Runs until a signal or the end of all capture files.  0 or -errno. */
int mr_runtime_run(struct mr_runtime *rt, struct mr_error *e);
void mr_runtime_destroy(struct mr_runtime *rt); /* NULL allowed */

/* Swaps to a file (NULL = the one in force).  On failure nothing changed and e says why.  0: the new plan is in force on all workers. */
int mr_runtime_reload(struct mr_runtime *rt, const char *path, struct mr_error *e);
/* For `check`: everything but doing it.  Writes the plan for a person to `out`, or JSON with `json`. */
int mr_runtime_check(const char *path, bool json, FILE *out, struct mr_error *e);

/*
 * Makes `plan` the one all workers use; returns when none uses the one before, which the caller now ends.  -ETIMEDOUT: the one before is
 * in force again, but a worker may look at `plan` and its interfaces whenever it goes on: they stay.
 */
int mr_runtime_publish(struct mr_runtime *rt, struct mr_plan *plan, struct mr_error *e);
/* Until no worker is in a plan that is not in force any more.  0, -ETIMEDOUT.  Threads: control. */
int mr_runtime_wait(struct mr_runtime *rt);
/* Keeps a plan that publish gave up until the workers are gone.  shell: as mr_plan_free_shell() ends it. */
void mr_runtime_abandon(struct mr_runtime *rt, struct mr_plan *plan, bool shell);
void mr_runtime_log(struct mr_runtime *rt, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint64_t mr_runtime_now_ms(void); /* CLOCK_MONOTONIC */
/* What a configuration needs of the frame pool when it does not say: rings of all queues, and half again. */
uint64_t mr_runtime_frames_default(const struct mr_config *c, const unsigned *queue_cnt, unsigned worker_cnt);
unsigned mr_runtime_worker_cnt(const struct mr_config *c);
int mr_runtime_worker_core(const struct mr_config *c, unsigned w); /* -1 = not pinned */

static inline struct mr_plan *mr_runtime_plan(struct mr_runtime *rt)
{
	return atomic_load_explicit(&rt->sh.plan, memory_order_acquire);
}

#endif
