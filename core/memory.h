/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memory.h - a loop without a device: the frames of a capture held in memory and served round and round, one queue.
 *
 * rx copies the next packets into frames of the pool (stages change them in place); tx counts and gives back.  After `repeat` rounds
 * the queue is drained; 0 = it never ends.
 */
#ifndef MR_CORE_MEMORY_H
#define MR_CORE_MEMORY_H

#include "core/interface.h"

/* Errors as mr_pcap_open(), and -EINVAL for a capture without a packet that fits a frame.  Threads: control; the queue then belongs to one worker. */
int mr_memory_open(const struct mr_config_interface *c, unsigned id, const struct mr_interface_env *env,
	struct mr_interface *owner, struct mr_queue **out, struct mr_error *e);
void mr_memory_close(struct mr_queue *q);

#endif
