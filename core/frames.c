/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/frames.h"

#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE_BYTES (2u << 20)
#define MAGAZINE_MAX    512u /* frames; two refills of the largest burst, 4 KiB of addresses */
#define MAGAZINE_MIN    8u
#define NODES_MAX       64u

/* Where frames lie that no worker keeps: a stack of frame numbers. */
struct depot {
	pthread_mutex_t lock;
	uint32_t *stack;
	uint32_t cnt;
	uint32_t room;
};

struct mr_magazine {
	struct mr_frames *frames;
	uint32_t depot; /* the one of its worker's node */
	uint32_t cnt;
	uint32_t room;
	uint32_t stack[MAGAZINE_MAX];
} __attribute__((aligned(64)));

struct mr_frames {
	uint8_t *base;
	size_t bytes; /* mapped */
	uint32_t frame_cnt;
	uint32_t frame_bytes;
	uint32_t shift;
	bool huge;
	uint32_t *tags; /* owner | interface << 8 | queue << 16, relaxed atomics */
	struct mr_magazine *magazines;
	uint32_t magazine_cnt;
	struct depot *depots;
	int *depot_node;
	uint32_t depot_cnt;
};

static uint32_t tag_of(enum mr_frame_owner owner, unsigned interface, unsigned queue)
{
	return (uint32_t)owner | (interface & 0xff) << 8 | (queue & 0xffff) << 16;
}

static void tag_store(struct mr_frames *f, uint32_t frame_idx, uint32_t tag)
{
	__atomic_store_n(&f->tags[frame_idx], tag, __ATOMIC_RELAXED);
}

/* ---- depots: cold, locked ----------------------------------------------------------------------------------- */

static unsigned depot_take(struct depot *d, uint32_t *out, unsigned n)
{
	pthread_mutex_lock(&d->lock);
	if (n > d->cnt)
		n = d->cnt;
	d->cnt -= n;
	memcpy(out, d->stack + d->cnt, n * sizeof(*out));
	pthread_mutex_unlock(&d->lock);
	return n;
}

static void depot_give(struct depot *d, const uint32_t *in, unsigned n)
{
	pthread_mutex_lock(&d->lock);
	memcpy(d->stack + d->cnt, in, n * sizeof(*in));
	d->cnt += n;
	pthread_mutex_unlock(&d->lock);
}

/* Its own depot first, then whichever has some: memory far away is better than none. */
static unsigned depots_take(struct mr_frames *f, uint32_t first, uint32_t *out, unsigned n)
{
	unsigned got = 0;

	for (uint32_t i = 0; i < f->depot_cnt && got < n; i++)
		got += depot_take(&f->depots[(first + i) % f->depot_cnt], out + got, n - got);
	return got;
}

static uint32_t depot_of_node(const struct mr_frames *f, int node)
{
	for (uint32_t i = 0; i < f->depot_cnt; i++)
		if (f->depot_node[i] == node)
			return i;
	return 0;
}

/* ---- making ------------------------------------------------------------------------------------------------- */

static int range_map(struct mr_frames *f, bool want_huge, struct mr_error *e)
{
	void *p = MAP_FAILED;

	f->bytes = ((size_t)f->frame_cnt * f->frame_bytes + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
	if (want_huge) {
		p = mmap(NULL, f->bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (21 << MAP_HUGE_SHIFT), -1, 0);
		f->huge = p != MAP_FAILED;
	}
	if (p == MAP_FAILED) {
		p = mmap(NULL, f->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p != MAP_FAILED && want_huge)
			(void)madvise(p, f->bytes,
				MADV_HUGEPAGE); /* perhaps the kernel has some without being asked for a reserve */
	}
	if (p == MAP_FAILED) {
		int err = -errno;
		return mr_error_set(e, err, "no memory for %u frames of %u bytes: %s; set memory.frames lower",
			f->frame_cnt, f->frame_bytes, strerror(-err));
	}
	f->base = p;
	return 0;
}

/* One depot a node that has a worker. */
static int depots_make(struct mr_frames *f, const struct mr_frames_options *opt)
{
	f->depots = calloc(NODES_MAX, sizeof(*f->depots));
	f->depot_node = calloc(NODES_MAX, sizeof(*f->depot_node));
	if (!f->depots || !f->depot_node)
		return -ENOMEM;
	for (uint32_t w = 0; w < opt->worker_cnt; w++) {
		int node = opt->worker_node ? opt->worker_node[w] : -1;
		uint32_t i;
		for (i = 0; i < f->depot_cnt && f->depot_node[i] != node; i++)
			;
		if (i < f->depot_cnt || f->depot_cnt == NODES_MAX)
			continue;
		struct depot *d = &f->depots[f->depot_cnt];
		/* any frame may come to rest in any depot */
		d->stack = malloc((size_t)f->frame_cnt * sizeof(*d->stack));
		if (!d->stack)
			return -ENOMEM;
		d->room = f->frame_cnt;
		pthread_mutex_init(&d->lock, NULL);
		f->depot_node[f->depot_cnt++] = node;
	}
	return 0;
}

/* Cuts the range into one part a depot, at huge-page borders, asks for each part on its node, and stocks the depots. */
static void depots_fill(struct mr_frames *f)
{
	const uint32_t per_page = HUGE_PAGE_BYTES / f->frame_bytes;
	const uint32_t page_cnt = (uint32_t)(f->bytes / HUGE_PAGE_BYTES);
	const bool numa = numa_available() >= 0;
	uint32_t page_from = 0;

	for (uint32_t i = 0; i < f->depot_cnt; i++) {
		uint32_t page_to = (uint32_t)((uint64_t)page_cnt * (i + 1) / f->depot_cnt);
		int node = f->depot_node[i];

		if (numa && node >= 0 && node <= numa_max_node() && page_to > page_from) {
			/* a preference: a node without memory must not be the end of it */
			struct bitmask *mask = numa_bitmask_alloc((unsigned)numa_max_node() + 1);
			if (mask) {
				numa_bitmask_setbit(mask, (unsigned)node);
				(void)mbind(f->base + (size_t)page_from * HUGE_PAGE_BYTES,
					(size_t)(page_to - page_from) * HUGE_PAGE_BYTES, MPOL_PREFERRED, mask->maskp,
					mask->size + 1, 0);
				numa_bitmask_free(mask);
			}
		}
		struct depot *d = &f->depots[i];
		uint32_t first = page_from * per_page, last = page_to * per_page;
		if (last > f->frame_cnt)
			last = f->frame_cnt;
		/* lowest on top: a small load touches few pages */
		for (uint32_t n = last; n > first; n--)
			d->stack[d->cnt++] = n - 1;
		page_from = page_to;
	}
}

/* Magazines hold at most a quarter of the pool together, so that a small pool is not stuck in idle workers. */
static int magazines_make(struct mr_frames *f, const struct mr_frames_options *opt)
{
	uint32_t room = f->frame_cnt / (4 * opt->worker_cnt);

	room = room > MAGAZINE_MAX ? MAGAZINE_MAX : room < MAGAZINE_MIN ? MAGAZINE_MIN : room;
	f->magazines = aligned_alloc(64, opt->worker_cnt * sizeof(*f->magazines));
	if (!f->magazines)
		return -ENOMEM;
	memset(f->magazines, 0, opt->worker_cnt * sizeof(*f->magazines));
	f->magazine_cnt = opt->worker_cnt;
	for (uint32_t w = 0; w < opt->worker_cnt; w++) {
		f->magazines[w].frames = f;
		f->magazines[w].room = room;
		f->magazines[w].depot = depot_of_node(f, opt->worker_node ? opt->worker_node[w] : -1);
	}
	return 0;
}

int mr_frames_create(const struct mr_frames_options *opt, struct mr_frames **out, struct mr_error *e)
{
	struct mr_frames *f;
	int err;

	if (opt->frame_bytes != 2048 && opt->frame_bytes != 4096)
		return mr_error_set(
			e, -EINVAL, "frames of %u bytes: only 2048 and 4096 are possible", opt->frame_bytes);
	if (!opt->frame_cnt || opt->frame_cnt > 1u << 26 || !opt->worker_cnt)
		return mr_error_set(e, -EINVAL, "a pool of %u frames for %u workers is not possible", opt->frame_cnt,
			opt->worker_cnt);
	f = calloc(1, sizeof(*f));
	if (!f)
		return mr_error_set(e, -ENOMEM, "no memory for the frame pool");
	f->frame_cnt = opt->frame_cnt;
	f->frame_bytes = opt->frame_bytes;
	f->shift = opt->frame_bytes == 2048 ? 11 : 12;
	err = range_map(f, opt->want_huge, e);
	if (err)
		goto fail;
	f->tags = calloc(f->frame_cnt, sizeof(*f->tags));
	err = f->tags ? depots_make(f, opt) : -ENOMEM;
	if (!err)
		err = magazines_make(f, opt);
	if (err) {
		mr_error_set(e, err, "no memory for the tags of %u frames", f->frame_cnt);
		goto fail;
	}
	depots_fill(f);
	*out = f;
	return 0;
fail:
	mr_frames_destroy(f);
	return err;
}

void mr_frames_destroy(struct mr_frames *f)
{
	if (!f)
		return;
	for (uint32_t i = 0; i < f->depot_cnt; i++) {
		pthread_mutex_destroy(&f->depots[i].lock);
		free(f->depots[i].stack);
	}
	free(f->depots);
	free(f->depot_node);
	free(f->magazines);
	free(f->tags);
	if (f->base)
		munmap(f->base, f->bytes);
	free(f);
}

uint8_t *mr_frames_base(const struct mr_frames *f)
{
	return f->base;
}

size_t mr_frames_bytes(const struct mr_frames *f)
{
	return f->bytes;
}

uint32_t mr_frames_frame_bytes(const struct mr_frames *f)
{
	return f->frame_bytes;
}

struct mr_magazine *mr_frames_magazine(struct mr_frames *f, unsigned worker)
{
	return worker < f->magazine_cnt ? &f->magazines[worker] : NULL;
}

/* ---- workers ------------------------------------------------------------------------------------------------ */

unsigned mr_frames_take(struct mr_magazine *m, uint64_t *addr, unsigned n)
{
	const uint32_t shift = m->frames->shift;
	unsigned got = 0;

	while (got < n) {
		if (!m->cnt) {
			/* half a magazine, so that the next give finds room */
			uint32_t want = n - got > m->room / 2 ? n - got : m->room / 2;
			m->cnt = depots_take(m->frames, m->depot, m->stack, want > m->room ? m->room : want);
			if (!m->cnt)
				break;
		}
		unsigned k = n - got < m->cnt ? n - got : m->cnt;
		for (unsigned i = 0; i < k; i++)
			addr[got++] = (uint64_t)m->stack[--m->cnt] << shift;
	}
	return got;
}

void mr_frames_give(struct mr_magazine *m, const uint64_t *addr, unsigned n)
{
	struct mr_frames *f = m->frames;

	for (unsigned i = 0; i < n; i++) {
		uint32_t idx = (uint32_t)(addr[i] >> f->shift);
		if (m->cnt == m->room) {
			/* the older half goes: what was touched last stays near */
			uint32_t half = (m->room + 1) / 2;
			depot_give(&f->depots[m->depot], m->stack, half);
			m->cnt -= half;
			memmove(m->stack, m->stack + half, m->cnt * sizeof(m->stack[0]));
		}
		tag_store(f, idx, tag_of(MR_OWNER_POOL, 0, 0));
		m->stack[m->cnt++] = idx;
	}
}

void mr_frames_flush(struct mr_magazine *m)
{
	depot_give(&m->frames->depots[m->depot], m->stack, m->cnt);
	m->cnt = 0;
}

void mr_frames_tag(struct mr_frames *f, uint64_t addr, enum mr_frame_owner owner, unsigned interface, unsigned queue)
{
	tag_store(f, (uint32_t)(addr >> f->shift), tag_of(owner, interface, queue));
}

/* ---- control ------------------------------------------------------------------------------------------------ */

unsigned mr_frames_take_shared(struct mr_frames *f, int node, uint64_t *addr, unsigned n)
{
	uint32_t idx[256];
	unsigned got = 0;

	while (got < n) {
		unsigned want = n - got < 256 ? n - got : 256;
		unsigned k = depots_take(f, depot_of_node(f, node), idx, want);
		for (unsigned i = 0; i < k; i++)
			addr[got + i] = (uint64_t)idx[i] << f->shift;
		got += k;
		if (k < want)
			break;
	}
	return got;
}

void mr_frames_give_shared(struct mr_frames *f, const uint64_t *addr, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		uint32_t idx = (uint32_t)(addr[i] >> f->shift);
		uint32_t depot = 0;
		/* back to the part of the range it was cut from */
		if (f->depot_cnt > 1)
			depot = (uint32_t)((uint64_t)idx * f->depot_cnt / f->frame_cnt);
		tag_store(f, idx, tag_of(MR_OWNER_POOL, 0, 0));
		depot_give(&f->depots[depot], &idx, 1);
	}
}

uint32_t mr_frames_depot_cnt(struct mr_frames *f)
{
	uint32_t cnt = 0;

	for (uint32_t i = 0; i < f->depot_cnt; i++) {
		pthread_mutex_lock(&f->depots[i].lock);
		cnt += f->depots[i].cnt;
		pthread_mutex_unlock(&f->depots[i].lock);
	}
	return cnt;
}

unsigned mr_frames_reclaim(struct mr_frames *f, unsigned interface, unsigned queue)
{
	const uint32_t fill = tag_of(MR_OWNER_FILL, interface, queue), tx = tag_of(MR_OWNER_TX, interface, queue);
	unsigned cnt = 0;

	for (uint32_t i = 0; i < f->frame_cnt; i++) {
		uint32_t tag = __atomic_load_n(&f->tags[i], __ATOMIC_RELAXED);
		if (tag != fill && tag != tx)
			continue;
		uint64_t addr = (uint64_t)i << f->shift;
		mr_frames_give_shared(f, &addr, 1);
		cnt++;
	}
	return cnt;
}

void mr_frames_count(const struct mr_frames *f, struct mr_frames_census *out)
{
	memset(out, 0, sizeof(*out));
	out->total_cnt = f->frame_cnt;
	out->huge = f->huge;
	for (uint32_t i = 0; i < f->frame_cnt; i++) {
		uint32_t owner = __atomic_load_n(&f->tags[i], __ATOMIC_RELAXED) & 0xff;
		out->by_owner_cnt[owner < MR_OWNER_CNT ? owner : MR_OWNER_POOL]++;
	}
}
