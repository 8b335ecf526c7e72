/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * forwarder.h - the smallest runtime: a pool, two interfaces, and one thread a queue that moves frames from one to the other.
 */
#ifndef MR_TESTS_NETNS_FORWARDER_H
#define MR_TESTS_NETNS_FORWARDER_H

#include "core/handback.h"
#include "core/interface.h"
#include <pthread.h>

#define FORWARDER_WORKERS_MAX 4

struct forwarder {
	struct mr_frames *frames;
	struct mr_interface *port[2];
	struct mr_handback *handback; /* not NULL: what port 0 receives goes there */
	unsigned worker_cnt;
	int attach;           /* enum mr_attach_kind, of the ports opened next */
	const char *instance; /* NULL = "test" */
	uint64_t shim_cookie;
	struct mr_tier_maps *tier; /* NULL = none */
	int stop;
	int running;
	uint64_t handed_back[FORWARDER_WORKERS_MAX];
	pthread_t thread[FORWARDER_WORKERS_MAX];
};

void forwarder_create(struct forwarder *f, uint32_t frame_cnt, unsigned worker_cnt);
/* Opens port 0 or 1 on this device; result of mr_interface_open(). */
int forwarder_open(struct forwarder *f, unsigned port, const char *device, enum mr_mode mode, struct mr_error *e);
void forwarder_start(struct forwarder *f);
void forwarder_stop(struct forwarder *f);
void forwarder_close(struct forwarder *f, unsigned port);
/* Closes everything; true when every frame is back in the pool. */
bool forwarder_destroy(struct forwarder *f);
/* The sum of all places is the pool. */
bool forwarder_sums(const struct forwarder *f);
bool forwarder_pool_whole(const struct forwarder *f);

#endif
