/* SPDX-License-Identifier: BSD-2-Clause */
/* builtin.c - the stage types that are part of this program. */
#include "core/stage.h"

#include "pipelines/filter/filter.h"
#include "pipelines/nat44/nat44.h"

const struct mr_stage_type *const mr_stage_builtin[] = {
	&mr_filter_stage,
	&mr_nat44_stage,
	NULL,
};
