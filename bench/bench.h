/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench.h - what several benches need: numbers that are the same in each run, frames a router forwards, a device that never waits.
 */
#ifndef BENCH_H
#define BENCH_H

#include "kern/rewrite.h"
#include "millrace/interface.h"
#include <stdbool.h>
#include <stdint.h>

static inline uint64_t bench_random64(void)
{
	static uint64_t state = 42;
	uint64_t z = state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

/* Writes the checksum of an IPv4 header without options: a router looks at it. */
static inline void bench_seal(uint8_t *ip)
{
	uint32_t sum = 0;

	mr_store16(ip + 10, 0);
	for (unsigned i = 0; i < 20; i += 2)
		sum += mr_load16(ip + i);
	mr_store16(ip + 10, (uint16_t)~mr_csum_fold(sum));
}

/* Of a device made of arrays. */
static inline void bench_service(struct mr_queue *q)
{
}

static inline int bench_fd(const struct mr_queue *q)
{
	return -1;
}

static inline bool bench_drained(const struct mr_queue *q)
{
	return false;
}

#endif
