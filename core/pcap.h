/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pcap.h - capture files as an interface: `{ pcap: in.pcap, out: out.pcap }`, one queue.
 *
 * rx copies the next packets of the one file into frames of the pool; tx appends frames to the other and gives them back at once.  At
 * the end of `in` the queue is drained.  Frames longer than a frame of the pool are skipped and counted (rx_too_long).
 */
#ifndef MR_CORE_PCAP_H
#define MR_CORE_PCAP_H

#include "core/interface.h"

/* in or out may be NULL: nothing is received, what is sent is counted and dropped.  -ENOENT, -EACCES, -EINVAL (no Ethernet capture),
 * -ENOMEM; the sentence in e.  Threads: control; the queue then belongs to one worker. */
int mr_pcap_open(const struct mr_config_interface *c, unsigned id, const struct mr_interface_env *env,
	struct mr_interface *owner, struct mr_queue **out, struct mr_error *e);
/* Flushes and closes. */
void mr_pcap_close(struct mr_queue *q);
/* The checks of open, touching nothing but `in` (reading its head). */
int mr_pcap_check(const struct mr_config_interface *c, struct mr_error *e);

#endif
