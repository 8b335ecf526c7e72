/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * livegen.h - what livegen was asked for, read from its command line.
 */
#ifndef MR_BENCH_LIVEGEN_H
#define MR_BENCH_LIVEGEN_H

#include <stdbool.h>
#include <stdint.h>

#define LIVEGEN_FRAME_MAX 3000 /* a live frame is one page with head and tail room */

struct livegen_options {
	const char *tx, *tx_netns, *sink, *sink_netns;
	const char *src, *dst;
	uint32_t *dsts_be; /* IPv4 destinations taken in turn instead of dst; NULL = one */
	uint32_t dst_cnt;
	uint8_t smac[6], dmac[6];
	uint16_t sport, dport;
	uint32_t flows, size_bytes;
	uint64_t rate_pps, count;
	double duration_s, warmup_s;
	int cpu;
	bool json, generic;
};

/* Fills *o; ends the program when that is not possible. */
void livegen_parse(struct livegen_options *o, int argc, char **argv);
__attribute__((format(printf, 1, 2), noreturn)) void livegen_die(const char *fmt, ...);

#endif
