/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/apply.h"

unsigned mr_apply_reason(int rewrite_error)
{
	switch (rewrite_error) {
	case MR_REWRITE_OK:
		return MR_REASON_NONE;
	case MR_REWRITE_TTL:
		return MR_REASON_TTL;
	case MR_REWRITE_VLAN:
		return MR_REASON_VLAN_DEPTH;
	case MR_REWRITE_NOT_IP:
		return MR_REASON_NOT_IP;
	case MR_REWRITE_SIZE:
		return MR_REASON_TOO_BIG;
	case MR_REWRITE_SHORT:
		return MR_REASON_TRUNCATED;
	case MR_REWRITE_KEY:
	case MR_REWRITE_PORTS:
		return MR_REASON_BAD_L4; /* a translation this transport cannot take */
	default:
		return MR_REASON_NO_NEXTHOP;
	}
}
