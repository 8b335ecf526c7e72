/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/pcap.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define POOL 64u

static char folder[] = "/tmp/mr-pcap-XXXXXX";
static char in_path[64], out_path[64];
static struct mr_frames *frames;

static struct mr_magazine *magazine_of(void *ctx, unsigned queue_idx)
{
	return mr_frames_magazine(ctx, 0);
}

static struct mr_interface_env env;

static void setup(void)
{
	struct mr_frames_options opt = { .frame_cnt = POOL, .frame_bytes = 2048, .worker_cnt = 1 };

	cr_assert_not_null(mkdtemp(folder));
	snprintf(in_path, sizeof(in_path), "%s/in.pcap", folder);
	snprintf(out_path, sizeof(out_path), "%s/out.pcap", folder);
	cr_assert_eq(mr_frames_create(&opt, &frames, NULL), 0);
	env = (struct mr_interface_env){ .frames = frames, .magazine = magazine_of, .ctx = frames, .instance = "test" };
}

static void teardown(void)
{
	mr_frames_destroy(frames);
	unlink(in_path);
	unlink(out_path);
	rmdir(folder);
}

/* Packet i: len bytes, all of them i. */
static void write_capture(int linktype, const uint32_t *len, unsigned cnt)
{
	pcap_t *p = pcap_open_dead(linktype, 65535);
	pcap_dumper_t *d = pcap_dump_open(p, in_path);
	uint8_t bytes[8192];

	cr_assert_not_null(d);
	for (unsigned i = 0; i < cnt; i++) {
		struct pcap_pkthdr h = { .caplen = len[i], .len = len[i] };
		memset(bytes, (int)i, sizeof(bytes));
		pcap_dump((u_char *)d, &h, bytes);
	}
	pcap_dump_close(d);
	pcap_close(p);
}

static struct mr_queue *open_queue(bool in, bool out)
{
	struct mr_config_interface c = {
		.name = "file", .pcap_in = in ? in_path : NULL, .pcap_out = out ? out_path : NULL
	};
	struct mr_queue *q = NULL;
	struct mr_error e = { { 0 } };

	cr_assert_eq(mr_pcap_open(&c, 1, &env, NULL, &q, &e), 0, "%s", e.text);
	return q;
}

static void assert_pool_whole(void)
{
	struct mr_frames_census c;

	mr_frames_count(frames, &c);
	cr_assert_eq(c.by_owner_cnt[MR_OWNER_POOL], POOL);
}

Test(pcap_interface, copies_every_frame_through, .init = setup, .fini = teardown)
{
	uint32_t len[200];
	unsigned got = 0, n;
	struct mr_frame f[32];

	for (unsigned i = 0; i < 200; i++)
		len[i] = 60 + i * 7;
	write_capture(DLT_EN10MB, len, 200);
	struct mr_queue *q = open_queue(true, true);
	cr_assert_not(q->ops->drained(q));
	cr_assert_eq(q->ops->fd(q), -1);
	while ((n = q->ops->rx(q, f, 32))) {
		for (unsigned i = 0; i < n; i++, got++) {
			const uint8_t *p = mr_frames_base(frames) + f[i].addr;
			cr_assert_eq(f[i].len, len[got]);
			cr_assert_eq(f[i].addr % 2048, MR_INTERFACE_HEADROOM_BYTES);
			cr_assert(p[0] == (uint8_t)got && p[f[i].len - 1] == (uint8_t)got);
		}
		cr_assert_eq(q->ops->tx(q, f, n), n);
		q->ops->service(q);
	}
	cr_assert(q->ops->drained(q));
	cr_assert_eq(got, 200);
	cr_assert_eq(q->counters.rx_packets, 200);
	cr_assert_eq(q->counters.tx_packets, 200);
	cr_assert_eq(q->counters.rx_bytes, q->counters.tx_bytes);
	assert_pool_whole();
	mr_pcap_close(q);

	/* what was written is what was read */
	char why[PCAP_ERRBUF_SIZE];
	pcap_t *p = pcap_open_offline(out_path, why);
	struct pcap_pkthdr *h;
	const u_char *bytes;
	cr_assert_not_null(p, "%s", why);
	for (got = 0; pcap_next_ex(p, &h, &bytes) == 1; got++) {
		cr_assert_eq(h->caplen, len[got]);
		cr_assert(bytes[0] == (uint8_t)got && bytes[h->caplen - 1] == (uint8_t)got);
		cr_assert_gt(h->ts.tv_sec, 0);
	}
	cr_assert_eq(got, 200);
	pcap_close(p);
}

Test(pcap_interface, too_long_frames_are_counted_and_skipped, .init = setup, .fini = teardown)
{
	const uint32_t len[] = { 60, 2048 - 256 + 1, 2048 - 256, 4000, 61 };
	struct mr_frame f[8];

	write_capture(DLT_EN10MB, len, 5);
	struct mr_queue *q = open_queue(true, false);
	cr_assert_eq(q->ops->rx(q, f, 8), 3);
	cr_assert_eq(f[0].len, 60);
	cr_assert_eq(f[1].len, 2048 - 256);
	cr_assert_eq(f[2].len, 61);
	cr_assert_eq(q->counters.rx_too_long, 2);
	cr_assert(q->ops->drained(q));
	cr_assert_eq(q->ops->tx(q, f, 3), 3, "without a file to write, sent frames are counted and dropped");
	cr_assert_eq(q->counters.tx_packets, 3);
	assert_pool_whole();
	mr_pcap_close(q);
}

Test(pcap_interface, waits_for_frames_and_loses_nothing, .init = setup, .fini = teardown)
{
	uint32_t len[100];
	struct mr_frame f[128];

	for (unsigned i = 0; i < 100; i++)
		len[i] = 100;
	write_capture(DLT_EN10MB, len, 100);
	struct mr_queue *q = open_queue(true, false);
	cr_assert_eq(q->ops->rx(q, f, 128), POOL);
	cr_assert_eq(q->counters.rx_no_frame, 1);
	cr_assert_eq(q->ops->rx(q, f + POOL, 1), 0);
	cr_assert_not(q->ops->drained(q), "the packet that found no frame is still to come");
	q->ops->tx(q, f, POOL);
	cr_assert_eq(q->ops->rx(q, f, 128), 100 - POOL);
	cr_assert_eq(mr_frames_base(frames)[f[0].addr], POOL, "the one that waited is the next");
	cr_assert(q->ops->drained(q));
	q->ops->tx(q, f, 100 - POOL);
	assert_pool_whole();
	mr_pcap_close(q);
}

Test(pcap_interface, only_out, .init = setup, .fini = teardown)
{
	struct mr_queue *q = open_queue(false, true);
	struct mr_frame f;
	uint64_t addr;

	cr_assert_eq(q->ops->rx(q, &f, 1), 0);
	cr_assert(q->ops->drained(q));
	cr_assert_eq(mr_frames_take(mr_frames_magazine(frames, 0), &addr, 1), 1);
	f = (struct mr_frame){ .addr = addr + 200, .len = 64 };
	cr_assert_eq(q->ops->tx(q, &f, 1), 1);
	mr_pcap_close(q);
	struct stat st;
	cr_assert_eq(stat(out_path, &st), 0);
	cr_assert_eq(st.st_size, 24 + 16 + 64);
	assert_pool_whole();
}

Test(pcap_interface, bad_files_are_one_sentence, .init = setup, .fini = teardown)
{
	struct mr_config_interface c = { .name = "file", .pcap_in = in_path };
	struct mr_queue *q = NULL;
	struct mr_error e = { { 0 } };
	const uint32_t len[] = { 60 };

	cr_assert_eq(mr_pcap_open(&c, 1, &env, NULL, &q, &e), -ENOENT);
	cr_assert_not_null(strstr(e.text, in_path));
	FILE *f = fopen(in_path, "w");
	fputs("not a capture file at all", f);
	fclose(f);
	cr_assert_eq(mr_pcap_open(&c, 1, &env, NULL, &q, &e), -EINVAL);
	cr_assert_not_null(strstr(e.text, "no capture file"));
	write_capture(DLT_RAW, len, 1);
	cr_assert_eq(mr_pcap_check(&c, &e), -EINVAL);
	cr_assert_not_null(strstr(e.text, "RAW"));
	write_capture(DLT_EN10MB, len, 1);
	cr_assert_eq(mr_pcap_check(&c, &e), 0);
	c.pcap_out = in_path;
	cr_assert_eq(mr_pcap_open(&c, 1, &env, NULL, &q, &e), -EINVAL, "reading and writing one file");
	cr_assert_eq(mr_pcap_check(&c, &e), -EINVAL);
	c.pcap_out = NULL;
	cr_assert_eq(mr_pcap_check(&c, &e), 0, "it is unharmed");
	c.pcap_out = "/nonexistent/folder/out.pcap";
	cr_assert_eq(mr_pcap_open(&c, 1, &env, NULL, &q, &e), -ENOENT);
	cr_assert_eq(mr_pcap_check(&c, &e), -ENOENT, "told without opening");
	c.pcap_out = out_path;
	cr_assert_eq(mr_pcap_check(&c, &e), 0);
	cr_assert(access(out_path, F_OK), "a check makes no file");
	c.pcap_out = NULL;
	unlink(in_path);
	cr_assert_eq(mkfifo(in_path, 0600), 0);
	alarm(10); /* nobody ever writes to it */
	cr_assert_eq(mr_pcap_check(&c, &e), -EINVAL);
	cr_assert_eq(mr_pcap_open(&c, 1, &env, NULL, &q, &e), -EINVAL);
	cr_assert_not_null(strstr(e.text, "no regular file"));
	cr_assert_null(q);
}

Test(pcap_interface, a_file_cut_off_ends_there, .init = setup, .fini = teardown)
{
	const uint32_t len[] = { 60, 60, 60 };
	struct mr_frame f[8];

	write_capture(DLT_EN10MB, len, 3);
	cr_assert_eq(truncate(in_path, 24 + 3 * (16 + 60) - 10), 0);
	struct mr_queue *q = open_queue(true, false);
	cr_assert_eq(q->ops->rx(q, f, 8), 2);
	cr_assert(q->ops->drained(q));
	mr_pcap_close(q);
}
