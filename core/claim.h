/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * claim.h - addresses that stages have to themselves.
 *
 * What two stages of one pipeline both translate to, the first one takes: the second would never see an answer.  Stages that meet in no pipeline
 * may have the same addresses (in zones of their own).
 */
#ifndef MR_CORE_CLAIM_H
#define MR_CORE_CLAIM_H

#include "millrace/option.h"

struct mr_claim {
	const char *stage;
	struct mr_position at;
	uint8_t family;
	uint8_t lo[16], hi[16]; /* network order, inclusive */
};

struct mr_claims {
	struct mr_claim *claim;
	uint32_t cnt;
};

#endif
