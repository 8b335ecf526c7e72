/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench_nat.h - what bench_nat measures in: two devices made of arrays, one worker turned by hand, and the program's own filter, nat44 and
 * routes between them (bench_nat_bed.c).  One at a time.
 */
#ifndef BENCH_NAT_H
#define BENCH_NAT_H

#include "bench/bench.h"
#include "core/worker.h"

#define BENCH_NAT_FRAMES    2048
#define BENCH_NAT_FRAME_LEN 60

enum { LAN = 1, WAN, DEVICES };
enum what { WHAT_ROUTE, WHAT_FILTER, WHAT_NAT44, WHAT_CNT };

struct end {
	uint32_t addr_be;
	uint16_t port_be;
};

/* In place of core/interface.c: an interface is a queue. */
struct mr_interface {
	struct mr_queue queue; /* first */
	struct mr_interface_info info;
	bool offers;
	uint32_t next, step; /* of the number of a session */
};

struct bench_nat_bed {
	enum what what;
	uint32_t session_cnt, spread;
	struct mr_shared sh;
	struct mr_worker *worker;
	struct mr_interface device[DEVICES];
	uint64_t free[BENCH_NAT_FRAMES]; /* frames sent come back here */
	unsigned free_cnt;
	uint8_t *base;
	struct end *outside; /* by session: what a packet from inside has become */
	bool only_new;
	bool looks; /* at every frame that is sent */
	uint64_t wrong_cnt, looked_cnt;
};

extern struct bench_nat_bed bed;

void die(const char *why);
double now_s(void);
/* A number prime to cnt, so that steps of it meet all of them once a lap, in no order a prefetcher sees. */
uint32_t step_of(uint32_t cnt, uint32_t from);
unsigned device_rx(struct mr_queue *q, struct mr_frame *f, unsigned n);
unsigned device_tx(struct mr_queue *q, const struct mr_frame *f, unsigned n);
/* Routes and neighbours of the namespace the program is in. */
void tell_kernel(void);
/* All tables made anew, for so many sessions of bed.what. */
void open_bed(uint32_t session_cnt);
void close_bed(void);

#endif
