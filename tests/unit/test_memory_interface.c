/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/memory.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POOL 256u

static char path[] = "/tmp/mr-memory-XXXXXX";
static struct mr_frames *frames;
static struct mr_interface_env env;

static struct mr_magazine *magazine_of(void *ctx, unsigned queue_idx)
{
	return mr_frames_magazine(ctx, 0);
}

static void setup(void)
{
	struct mr_frames_options opt = { .frame_cnt = POOL, .frame_bytes = 2048, .worker_cnt = 1 };
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	close(fd);
	cr_assert_eq(mr_frames_create(&opt, &frames, NULL), 0);
	env = (struct mr_interface_env){ .frames = frames, .magazine = magazine_of, .ctx = frames, .instance = "test" };
}

static void teardown(void)
{
	mr_frames_destroy(frames);
	unlink(path);
}

static void write_capture(unsigned cnt, uint32_t first_len)
{
	pcap_t *p = pcap_open_dead(DLT_EN10MB, 65535);
	pcap_dumper_t *d = pcap_dump_open(p, path);
	uint8_t bytes[8192];

	cr_assert_not_null(d);
	for (unsigned i = 0; i < cnt; i++) {
		struct pcap_pkthdr h = { .caplen = first_len + i, .len = first_len + i };
		memset(bytes, (int)i, sizeof(bytes));
		pcap_dump((u_char *)d, &h, bytes);
	}
	pcap_dump_close(d);
	pcap_close(p);
}

static struct mr_queue *open_queue(uint64_t repeat)
{
	struct mr_config_interface c = {
		.name = "loop", .has_memory = true, .memory = { .file = path, .repeat = repeat }
	};
	struct mr_queue *q = NULL;
	struct mr_error e = { { 0 } };

	cr_assert_eq(mr_memory_open(&c, 2, &env, NULL, &q, &e), 0, "%s", e.text);
	return q;
}

/* Reads bursts of n until drained or `most` packets; each packet must be the capture's next, unharmed by the last round. */
static unsigned run(struct mr_queue *q, unsigned n, unsigned capture_cnt, unsigned most)
{
	struct mr_frame f[256];
	unsigned got = 0, k;

	while (got < most && (k = q->ops->rx(q, f, n))) {
		for (unsigned i = 0; i < k; i++, got++) {
			uint8_t *p = mr_frames_base(frames) + f[i].addr;
			cr_assert_eq(f[i].len, 60 + got % capture_cnt);
			cr_assert(p[0] == got % capture_cnt && p[f[i].len - 1] == got % capture_cnt);
			memset(p, 0xee, f[i].len);
		}
		cr_assert_eq(q->ops->tx(q, f, k), k);
		q->ops->service(q);
	}
	return got;
}

static void assert_pool_whole(void)
{
	struct mr_frames_census c;

	mr_frames_count(frames, &c);
	cr_assert_eq(c.by_owner_cnt[MR_OWNER_POOL], POOL);
}

Test(memory_interface, repeats_exactly, .init = setup, .fini = teardown)
{
	const unsigned capture[] = { 1, 3, 10, 100 }, burst[] = { 1, 7, 64, 256 };

	for (unsigned c = 0; c < 4; c++)
		for (unsigned b = 0; b < 4; b++) {
			write_capture(capture[c], 60);
			struct mr_queue *q = open_queue(5);
			cr_assert_not(q->ops->drained(q));
			cr_assert_eq(run(q, burst[b], capture[c], UINT32_MAX), 5 * capture[c]);
			cr_assert(q->ops->drained(q));
			cr_assert_eq(q->ops->fd(q), -1);
			cr_assert_eq(q->counters.rx_packets, 5 * capture[c]);
			cr_assert_eq(q->counters.tx_packets, 5 * capture[c]);
			cr_assert_eq(q->counters.rx_bytes, q->counters.tx_bytes);
			assert_pool_whole();
			mr_memory_close(q);
		}
}

Test(memory_interface, endless, .init = setup, .fini = teardown)
{
	write_capture(3, 60);
	struct mr_queue *q = open_queue(0);
	cr_assert_geq(run(q, 256, 3, 100000), 100000);
	cr_assert_not(q->ops->drained(q));
	assert_pool_whole();
	mr_memory_close(q);
}

Test(memory_interface, empty_pool_loses_nothing, .init = setup, .fini = teardown)
{
	uint64_t addr[POOL];

	write_capture(10, 60);
	struct mr_queue *q = open_queue(30);
	unsigned n = mr_frames_take(mr_frames_magazine(frames, 0), addr, POOL);
	struct mr_frame f[4];
	cr_assert_eq(n, POOL);
	cr_assert_eq(q->ops->rx(q, f, 4), 0);
	cr_assert_eq(q->counters.rx_no_frame, 1);
	mr_frames_give(mr_frames_magazine(frames, 0), addr, 2);
	cr_assert_eq(q->ops->rx(q, f, 4), 2);
	q->ops->tx(q, f, 2);
	mr_frames_give(mr_frames_magazine(frames, 0), addr + 2, POOL - 2);
	unsigned got = 2, k;
	struct mr_frame g[64];
	while ((k = q->ops->rx(q, g, 64))) {
		cr_assert_eq(g[0].len, 60 + got % 10);
		got += k;
		q->ops->tx(q, g, k);
	}
	cr_assert_eq(got, 300);
	assert_pool_whole();
	mr_memory_close(q);
}

Test(memory_interface, bad_captures, .init = setup, .fini = teardown)
{
	struct mr_config_interface c = { .name = "loop", .has_memory = true, .memory = { .file = path, .repeat = 1 } };
	struct mr_queue *q = NULL;
	struct mr_error e = { { 0 } };

	cr_assert_eq(mr_memory_open(&c, 2, &env, NULL, &q, &e), -EINVAL, "an empty file");
	write_capture(0, 60);
	cr_assert_eq(mr_memory_open(&c, 2, &env, NULL, &q, &e), -EINVAL, "no packets");
	write_capture(2, 5000);
	cr_assert_eq(mr_memory_open(&c, 2, &env, NULL, &q, &e), -EINVAL, "none that fits");
	cr_assert_not_null(strstr(e.text, "1792"));
	c.memory.file = "/nonexistent.pcap";
	cr_assert_eq(mr_memory_open(&c, 2, &env, NULL, &q, &e), -ENOENT);
	cr_assert_null(q);
}
