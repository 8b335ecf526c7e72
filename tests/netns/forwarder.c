/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/netns/forwarder.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BURST 64

struct worker {
	struct forwarder *f;
	unsigned idx;
};

static struct mr_magazine *magazine_of(void *ctx, unsigned queue_idx)
{
	struct forwarder *f = ctx;

	return mr_frames_magazine(f->frames, queue_idx % f->worker_cnt);
}

void forwarder_create(struct forwarder *f, uint32_t frame_cnt, unsigned worker_cnt)
{
	struct mr_frames_options opt = {
		.frame_cnt = frame_cnt, .frame_bytes = 2048, .worker_cnt = worker_cnt, .want_huge = true
	};

	memset(f, 0, sizeof(*f));
	f->worker_cnt = worker_cnt;
	f->shim_cookie = 0x1122334455667788;
	if (mr_frames_create(&opt, &f->frames, NULL))
		abort();
}

int forwarder_open(struct forwarder *f, unsigned port, const char *device, enum mr_mode mode, struct mr_error *e)
{
	struct mr_config_interface c = {
		.name = port ? "right" : "left", .device = device, .mode = mode, .attach = f->attach
	};
	struct mr_interface_env env = { .frames = f->frames,
		.magazine = magazine_of,
		.ctx = f,
		.instance = f->instance ? f->instance : "test",
		.shim_cookie = f->shim_cookie,
		.tier = f->tier };

	return mr_interface_open(&c, port + 1, &env, &f->port[port], e);
}

static unsigned step(struct forwarder *f, unsigned idx, struct mr_queue *in, struct mr_queue *out, bool to_kernel)
{
	struct mr_magazine *m = mr_frames_magazine(f->frames, idx);
	struct mr_frame frame[BURST];
	unsigned n = in->ops->rx(in, frame, BURST), sent = 0;

	if (to_kernel) {
		for (unsigned i = 0; i < n; i++)
			f->handed_back[idx] +=
				!mr_handback_send(f->handback, mr_frames_base(f->frames) + frame[i].addr, frame[i].len);
	} else if (n && out) {
		sent = out->ops->tx(out, frame, n);
	}
	for (unsigned i = sent; i < n; i++)
		mr_frames_give(m, &frame[i].addr, 1);
	in->ops->service(in);
	return n;
}

static void *worker_run(void *arg)
{
	struct worker w = *(struct worker *)arg;
	struct forwarder *f = w.f;

	free(arg);
	while (!__atomic_load_n(&f->stop, __ATOMIC_ACQUIRE)) {
		unsigned n = 0;
		for (unsigned p = 0; p < 2; p++) {
			struct mr_queue *in = f->port[p] ? mr_interface_queue(f->port[p], w.idx) : NULL;
			struct mr_queue *out = f->port[!p] ? mr_interface_queue(f->port[!p], w.idx) : NULL;
			if (in)
				n += step(f, w.idx, in, out, !p && f->handback);
		}
		if (!n)
			nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
	}
	return NULL;
}

void forwarder_start(struct forwarder *f)
{
	f->stop = 0;
	f->running = 1;
	for (unsigned i = 0; i < f->worker_cnt; i++) {
		struct worker *w = malloc(sizeof(*w));
		*w = (struct worker){ f, i };
		if (pthread_create(&f->thread[i], NULL, worker_run, w))
			abort();
	}
}

void forwarder_stop(struct forwarder *f)
{
	if (!f->running)
		return;
	__atomic_store_n(&f->stop, 1, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < f->worker_cnt; i++)
		pthread_join(f->thread[i], NULL);
	f->running = 0;
}

void forwarder_close(struct forwarder *f, unsigned port)
{
	mr_interface_close(f->port[port], NULL);
	f->port[port] = NULL;
}

bool forwarder_sums(const struct forwarder *f)
{
	struct mr_frames_census c;
	uint32_t sum = 0;

	mr_frames_count(f->frames, &c);
	for (unsigned i = 0; i < MR_OWNER_CNT; i++)
		sum += c.by_owner_cnt[i];
	return sum == c.total_cnt;
}

/* In tags and in the stacks behind them. */
bool forwarder_pool_whole(const struct forwarder *f)
{
	struct mr_frames_census c;
	uint64_t addr[64];
	uint32_t cnt = 0;
	unsigned n;

	mr_frames_count(f->frames, &c);
	if (c.by_owner_cnt[MR_OWNER_POOL] != c.total_cnt)
		return false;
	for (unsigned w = 0; w < f->worker_cnt; w++)
		mr_frames_flush(mr_frames_magazine(f->frames, w));
	while ((n = mr_frames_take_shared(f->frames, -1, addr, 64)))
		cnt += n;
	return cnt == c.total_cnt;
}

bool forwarder_destroy(struct forwarder *f)
{
	bool whole;

	forwarder_stop(f);
	forwarder_close(f, 0);
	forwarder_close(f, 1);
	whole = forwarder_pool_whole(f);
	mr_frames_destroy(f->frames);
	f->frames = NULL;
	return whole;
}
