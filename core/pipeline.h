/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pipeline.h - running the stages of a pipeline over packets that no record decides.
 *
 * Stages are asked one after the other, each once for all packets that are still on their way.  A packet whose session was made
 * under an older configuration is asked about by revalidate instead, where the stage has one.
 */
#ifndef MR_CORE_PIPELINE_H
#define MR_CORE_PIPELINE_H

#include "core/batch.h"

/* Runs packets of one pipeline.  Afterwards each has its verdict.  n <= MR_BATCH.  Threads: the pass's worker, or control. */
void mr_pipeline_run(const struct mr_pass *pass, unsigned pipeline, struct mr_packet **packet, unsigned n);
/* Asks one stage, by its position, about packets still on their way; those that go on move to the front, and their number is returned. */
unsigned mr_pipeline_ask(
	const struct mr_pass *pass, unsigned pipeline, unsigned position, struct mr_packet **live, unsigned n);
/* Tells the stages that ran that nothing was stored: what they took goes back. */
void mr_pipeline_abort(struct mr_packet *p);
/* ... that the session it opened was made. */
void mr_pipeline_commit(struct mr_packet *p);

#endif
