/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stage_check.h - stages say what will not work on this box as it is (millrace/stage.h, mr_check_*).
 */
#ifndef MR_CORE_STAGE_CHECK_H
#define MR_CORE_STAGE_CHECK_H

#include "core/config.h"

/* Makes every stage of a configuration as for a check, and asks those that have something to say: `warn` gets sentences with their place.
 * Errors as mr_plan_check().  Threads: control. */
int mr_stage_check(const struct mr_config *config, unsigned worker_cnt, void (*warn)(void *ctx, const char *text),
	void *ctx, struct mr_error *e);

#endif
