/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rig.h - a whole engine without a device: a configuration in YAML, queues that are arrays, workers turned by hand.
 *
 *     rig_create(yaml) ─► rig_say(wan, "udp 10.0.0.1:1 > ...") ─► rig_turn() ─► rig_sent(lan) ─► rig_destroy()
 *
 * It stands in for core/interface.c and core/handback.c; everything else is the real thing.
 */
#ifndef RIG_H
#define RIG_H

#include "core/handoff.h"
#include "core/interface.h"
#include "core/succession.h"
#include "core/worker.h"

#define RIG_QUEUES 4
#define RIG_FRAME  2048

struct rig_frame {
	uint32_t len;
	uint8_t data[RIG_FRAME];
};

struct rig_list {
	struct rig_frame *frame;
	uint32_t cnt, capacity, next;
};

struct rig_queue {
	struct mr_queue queue; /* first */
	struct mr_frames *frames;
	struct mr_magazine *magazine;
	struct rig_list in, out;
	uint32_t tx_room; /* frames tx still takes; UINT32_MAX = any number */
	uint32_t service_cnt;
	bool discard;     /* count what is sent, keep nothing */
	uint64_t endless; /* > 0: so many more, round and round through `in` */
	uint64_t lap;
};

struct mr_interface {
	struct rig_queue queue[RIG_QUEUES];
	unsigned queue_cnt;
	struct mr_interface_info info; /* of a device in copy mode */
};

struct mr_handback {
	struct rig_list taken;
	int answer; /* what mr_handback_send() returns */
};

struct rig_options {
	unsigned worker_cnt; /* default 1 */
	uint32_t sessions;   /* default 4096 */
	uint32_t half_open_max;
	uint32_t frames; /* default 1024 */
	unsigned queues; /* of each interface; default worker_cnt */
	bool tier;       /* there is a kernel tier, and every interface takes its frames */
	/* Puts routes and neighbours in place, which end after the rig; may be NULL. */
	void (*route)(struct mr_shared *sh);
};

struct rig {
	struct mr_shared sh;
	struct mr_worker *worker[RIG_QUEUES];
	struct mr_interface interface[8]; /* by id */
	struct mr_handback handback[8];
	char *name[8];
	bool down[8];
	uint8_t mac[8][6]; /* of the devices; zeros: none */
	uint64_t serial;
	uint32_t half_open_max;
	void (*meanwhile)(struct
		rig *r); /* in a reload, when workers use the new plan and sessions were not looked at; may be NULL */
	struct mr_succession succession; /* of the last reload */
};

struct rig *rig_create(const char *yaml, const struct rig_options *opt); /* aborts the test when it cannot */
void rig_destroy(struct rig *r);
/* Another configuration over the same interfaces, flows and workers. */
void rig_reload(struct rig *r, const char *yaml);
/* Another configuration that one worker is too late for: the others use it, and what `meanwhile` does, until it is given up. */
void rig_give_up(struct rig *r, const char *yaml);
/* The same configuration after the link states changed. */
void rig_refresh(struct rig *r);
/* Whether frames of the kernel tier may leave by the interface. */
void rig_takes(struct rig *r, const char *interface, bool takes);
unsigned rig_id(struct rig *r, const char *interface);
struct mr_plan *rig_plan(struct rig *r);

void rig_inject(struct rig *r, const char *interface, unsigned queue, const void *frame, uint32_t len);
/* A packet in the words of core/explain_frame.h. */
void rig_say(struct rig *r, const char *interface, const char *packet);
/* Turns all workers until nothing moves. */
void rig_turn(struct rig *r);
/* Frames an interface sent since last asked, over all its queues. */
unsigned rig_sent(struct rig *r, const char *interface);
/* The last frame it sent; NULL = none. */
const struct rig_frame *rig_last(struct rig *r, const char *interface);
unsigned rig_kernel(struct rig *r, const char *interface); /* frames handed back since last asked */
struct mr_stats_ingress rig_stats(struct rig *r, const char *interface, const char *pipeline);
uint64_t rig_dropped(struct rig *r, const char *interface, const char *pipeline, const char *reason);
uint64_t rig_counter(struct rig *r, const char *name);
/* received = forwarded + kernel + dropped, of every pair and of our own packets; and all frames are in the pool again.  Says what is off. */
bool rig_adds_up(struct rig *r);
/* The same while packets wait: the sum over all pairs, and the frames held, differ by what the workers say they hold. */
bool rig_adds_up_holding(struct rig *r);

#endif
