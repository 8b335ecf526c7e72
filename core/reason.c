/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/reason.h"

#include <stddef.h>

static const char *const names[] = {
#define X(sym, name, help) [MR_REASON_##sym] = (name),
	MR_REASONS(X)
#undef X
};

static const char *const helps[] = {
#define X(sym, name, help) [MR_REASON_##sym] = (help),
	MR_REASONS(X)
#undef X
};

_Static_assert(MR_REASON_CORE_CNT <= MR_REASON_STAGE_BASE, "core reasons run into the stages'");

const char *mr_reason_name(unsigned reason)
{
	return reason < MR_REASON_CORE_CNT ? names[reason] : NULL;
}

const char *mr_reason_help(unsigned reason)
{
	return reason < MR_REASON_CORE_CNT ? helps[reason] : NULL;
}
