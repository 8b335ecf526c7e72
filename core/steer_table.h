/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * steer_table.h - what a compiled steering table holds, between steer_compile.c, steer_classify.c and steer.c.
 *
 * The image goes to the kernel as it is.  The prefixes go there as tries, and stay here as spans: the address space cut where the
 * set of covering prefixes changes, searched by halving.
 */
#ifndef MR_CORE_STEER_TABLE_H
#define MR_CORE_STEER_TABLE_H

#include "core/steer.h"
#include "kern/steer.h"

/* An address of either family, IPv4 in the top 32 bits. */
__extension__ typedef unsigned __int128 mr_steer_addr;

struct mr_steer_prefix {
	mr_steer_addr addr;
	uint8_t bits;             /* length */
	struct mr_steer_bits set; /* entries with this or a covering prefix, or without a condition */
};

struct mr_steer_span {
	mr_steer_addr from; /* up to the next span's */
	struct mr_steer_bits set;
};

/* One end (source, destination) of one family. */
struct mr_steer_end {
	struct mr_steer_prefix *prefix; /* sorted by address, then length; all different */
	uint32_t prefix_cnt;
	struct mr_steer_span *span; /* sorted; the first is at 0; none when there are no prefixes */
	uint32_t span_cnt;
};

struct mr_steer_table {
	struct mr_steer_image *image;
	struct mr_steer_end end[2][2]; /* [0 IPv4, 1 IPv6][0 source, 1 destination] */
};

#endif
