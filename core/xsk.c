/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/xsk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif
#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9 /* Linux 6.17 */
#endif

#define BURST        256u  /* frames one call handles at most */
#define TX_BUDGET    256u  /* frames one kick sends in copy mode, where the kernel can be told; else 32 */
#define KICKS_MAX    64u   /* system calls one service makes at most */
#define DOWN_TRY_CNT 1024u /* services between two tries while down */
#define BIND_TRY_CNT 50u   /* half a second */
#define BIND_WAIT_NS 10000000

struct mapping {
	void *p;
	size_t bytes;
};

struct mr_xsk {
	struct mr_queue queue; /* first */
	struct mr_ring fill, rx, tx, completion;
	struct mr_frames *frames;
	struct mr_magazine *magazine;
	int fd;
	uint16_t device_queue;
	bool zerocopy;
	uint32_t state; /* enum mr_xsk_state, atomic */
	uint32_t fill_target_cnt;
	uint32_t lent_cnt;      /* in fill ring, kernel and rx ring */
	uint32_t in_flight_cnt; /* in tx ring, kernel and completion ring */
	uint32_t lost_cnt;      /* reported lost (EBUSY), their completion not yet reaped */
	uint32_t down_cnt;
	bool settled;
	struct mapping map[4];
};

/* One writer, any reader. */
static void count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* ---- the worker's side -------------------------------------------------------------------------------------- */

static void state_set(struct mr_xsk *x, enum mr_xsk_state s)
{
	__atomic_store_n(&x->state, (uint32_t)s, __ATOMIC_RELAXED);
}

/* Lends up to n frames of the pool to the fill ring; returns how many. */
static unsigned fill_lend(struct mr_xsk *x, unsigned n)
{
	uint64_t addr[BURST];
	const unsigned id = x->queue.interface_id, q = x->queue.queue_idx;
	unsigned want = mr_ring_free(&x->fill, n < BURST ? n : BURST);
	unsigned got = want ? mr_frames_take(x->magazine, addr, want) : 0;

	for (unsigned i = 0; i < got; i++) {
		mr_frames_tag(x->frames, addr[i], MR_OWNER_FILL, id, q);
		*mr_ring_addr(&x->fill, i) = addr[i];
	}
	if (got)
		mr_ring_produce(&x->fill, got);
	x->lent_cnt += got;
	if (got < want)
		count(&x->queue.counters.rx_no_frame, 1);
	return got;
}

/*
 * Replacements first: the kernel never waits for frames while there are any.  With none to be had the packets are taken all the same and
 * the fill ring runs short; service makes up for it when frames come home.  (Leaving them in the rx ring until there are replacements, as
 * other drivers do, would wait for ever once a small pool lies in fill and rx rings as a whole.)
 */
static unsigned xsk_rx(struct mr_queue *queue, struct mr_frame *f, unsigned n)
{
	struct mr_xsk *x = (struct mr_xsk *)queue;
	unsigned cnt = mr_ring_ready(&x->rx, n < BURST ? n : BURST);
	uint64_t bytes = 0;

	if (!cnt)
		return 0;
	if (x->lent_cnt < x->fill_target_cnt + cnt)
		fill_lend(x, x->fill_target_cnt + cnt - x->lent_cnt);
	for (unsigned i = 0; i < cnt; i++) {
		const struct xdp_desc *d = mr_ring_desc(&x->rx, i);
		f[i] = (struct mr_frame){ .addr = d->addr, .len = d->len };
		bytes += d->len;
		mr_frames_tag(x->frames, d->addr, MR_OWNER_RX, queue->interface_id, queue->queue_idx);
	}
	mr_ring_consume(&x->rx, cnt);
	x->lent_cnt -= cnt;
	count(&queue->counters.rx_packets, cnt);
	count(&queue->counters.rx_bytes, bytes);
	return cnt;
}

/* Takes sent frames home. */
static void completion_reap(struct mr_xsk *x)
{
	uint64_t addr[BURST];
	unsigned cnt;

	for (uint32_t budget = x->completion.size; budget; budget -= cnt) {
		cnt = mr_ring_ready(&x->completion, budget < BURST ? budget : BURST);
		if (!cnt)
			return;
		for (unsigned i = 0; i < cnt; i++)
			addr[i] = *mr_ring_addr(&x->completion, i);
		mr_ring_consume(&x->completion, cnt);
		mr_frames_give(x->magazine, addr, cnt);
		x->in_flight_cnt -= cnt;
		/* a lost frame completes too: it was counted already */
		unsigned lost = cnt < x->lost_cnt ? cnt : x->lost_cnt;
		x->lost_cnt -= lost;
		count(&x->queue.counters.tx_packets, cnt - lost);
	}
}

/*
 * Makes the kernel send.  In copy mode one call moves its budget of frames and says EAGAIN, which means: call again; so does a full
 * completion ring, and a busy device, which moves nothing.  EBUSY: the device refused one frame, which is consumed, completed and lost.
 */
static void tx_kick(struct mr_xsk *x)
{
	for (unsigned tries = 0; tries < KICKS_MAX; tries++) {
		uint32_t before = mr_ring_pending(&x->tx);
		if (!before)
			return;
		int err = sendto(x->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 ? errno : 0;
		count(&x->queue.counters.kicks, 1);
		switch (err) {
		case 0:
			return;
		case EBUSY:
			x->lost_cnt++;
			count(&x->queue.counters.tx_lost, 1);
			completion_reap(x);
			break;
		case EAGAIN:
			completion_reap(x);
			if (mr_ring_pending(&x->tx) == before)
				return;
			break;
		case ENETDOWN:
			state_set(x, MR_XSK_DOWN);
			return;
		case ENXIO:
		case ENODEV:
		case EBADF:
			state_set(x, MR_XSK_GONE);
			return;
		default: /* ENOBUFS, EINTR, ENOMEM: the next service tries again */
			return;
		}
	}
}

/* The kernel skips a descriptor it finds invalid and never completes it: its frame would be gone.  So none is handed over. */
static bool tx_fits(const struct mr_xsk *x, const struct mr_frame *f)
{
	const uint32_t frame_bytes = mr_frames_frame_bytes(x->frames);

	return f->len && (f->addr & (frame_bytes - 1)) + f->len <= frame_bytes && f->addr < mr_frames_bytes(x->frames);
}

static unsigned tx_put(struct mr_xsk *x, const struct mr_frame *f, unsigned n)
{
	const unsigned id = x->queue.interface_id, q = x->queue.queue_idx;
	unsigned room = mr_ring_free(&x->tx, n), put = 0, done;
	uint64_t bytes = 0;

	for (done = 0; done < n && put < room; done++) {
		if (!tx_fits(x, &f[done])) {
			mr_frames_give(x->magazine, &f[done].addr, 1);
			count(&x->queue.counters.tx_lost, 1);
			continue;
		}
		*mr_ring_desc(&x->tx, put++) = (struct xdp_desc){ .addr = f[done].addr, .len = f[done].len };
		mr_frames_tag(x->frames, f[done].addr, MR_OWNER_TX, id, q);
		bytes += f[done].len;
	}
	if (put)
		mr_ring_produce(&x->tx, put);
	x->in_flight_cnt += put;
	count(&x->queue.counters.tx_bytes, bytes);
	return done;
}

static unsigned xsk_tx(struct mr_queue *queue, const struct mr_frame *f, unsigned n)
{
	struct mr_xsk *x = (struct mr_xsk *)queue;
	unsigned done;

	if (mr_xsk_state(x) != MR_XSK_UP)
		return 0;
	done = tx_put(x, f, n);
	if (done < n) {
		/* full: one try to make room now, before the caller drops the rest */
		tx_kick(x);
		completion_reap(x);
		if (mr_xsk_state(x) == MR_XSK_UP)
			done += tx_put(x, f + done, n - done);
	}
	return done;
}

static void xsk_service(struct mr_queue *queue)
{
	struct mr_xsk *x = (struct mr_xsk *)queue;
	enum mr_xsk_state state = mr_xsk_state(x);

	if (x->settled)
		return;
	completion_reap(x);
	if (state == MR_XSK_GONE)
		return;
	if (x->lent_cnt < x->fill_target_cnt)
		fill_lend(x, x->fill_target_cnt - x->lent_cnt);
	if (mr_ring_needs_wakeup(&x->fill)) {
		/* error or not: an interrupted or down device is asked again next time */
		(void)!recvfrom(x->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
		count(&queue->counters.kicks, 1);
	}
	if (state == MR_XSK_DOWN) {
		if (++x->down_cnt % DOWN_TRY_CNT)
			return;
		state_set(x, MR_XSK_UP);
	}
	if (mr_ring_needs_wakeup(&x->tx) && mr_ring_pending(&x->tx)) {
		tx_kick(x);
		completion_reap(x);
	}
}

static int xsk_fd(const struct mr_queue *queue)
{
	return ((const struct mr_xsk *)queue)->fd;
}

static bool xsk_drained(const struct mr_queue *queue)
{
	return false;
}

static const struct mr_interface_ops xsk_ops = {
	.abi = MR_INTERFACE_ABI,
	.name = "af_xdp",
	.rx = xsk_rx,
	.tx = xsk_tx,
	.service = xsk_service,
	.fd = xsk_fd,
	.drained = xsk_drained,
};

/* ---- opening ------------------------------------------------------------------------------------------------ */

static int umem_register(struct mr_xsk *x, struct mr_error *e)
{
	struct xdp_umem_reg reg = {
		.addr = (uint64_t)(uintptr_t)mr_frames_base(x->frames),
		.len = mr_frames_bytes(x->frames),
		.chunk_size = mr_frames_frame_bytes(x->frames),
	};

	if (!setsockopt(x->fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof(reg)))
		return 0;
	int err = -errno;
	if (err == -ENOBUFS || err == -EPERM)
		return mr_error_set(e, err,
			"the memory limit does not allow %zu MiB of packet memory: raise it (ulimit -l unlimited, "
			"LimitMEMLOCK=infinity) "
			"or set memory.frames lower",
			mr_frames_bytes(x->frames) >> 20);
	return mr_error_set(e, err, "the kernel does not take %zu MiB of packet memory for a socket: %s",
		mr_frames_bytes(x->frames) >> 20, strerror(-err));
}

static int ring_sizes(struct mr_xsk *x, const struct mr_xsk_options *opt, struct mr_error *e)
{
	const struct {
		int name;
		uint32_t cnt;
	} ring[] = {
		{ XDP_UMEM_FILL_RING, opt->rx_ring_cnt },
		/* as large as the tx ring: the kernel takes no frame it could not complete */
		{ XDP_UMEM_COMPLETION_RING, opt->tx_ring_cnt },
		{ XDP_RX_RING, opt->rx_ring_cnt },
		{ XDP_TX_RING, opt->tx_ring_cnt },
	};
	uint32_t budget = opt->tx_ring_cnt < TX_BUDGET ? opt->tx_ring_cnt : TX_BUDGET;

	for (unsigned i = 0; i < sizeof(ring) / sizeof(ring[0]); i++)
		if (setsockopt(x->fd, SOL_XDP, ring[i].name, &ring[i].cnt, sizeof(ring[i].cnt))) {
			int err = -errno;
			return mr_error_set(e, err, "the kernel refuses rings of %u and %u descriptors: %s",
				opt->rx_ring_cnt, opt->tx_ring_cnt, strerror(-err));
		}
	/* in copy mode a frame counts against the send buffer until the driver is done: let a whole ring be under way */
	int send_bytes = (int)(opt->tx_ring_cnt * mr_frames_frame_bytes(x->frames));
	if (setsockopt(x->fd, SOL_SOCKET, SO_SNDBUFFORCE, &send_bytes, sizeof(send_bytes)))
		(void)setsockopt(x->fd, SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof(send_bytes));
	/* older kernels do not know it and send 32 a call */
	(void)setsockopt(x->fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget, sizeof(budget));
	return 0;
}

static int ring_map(struct mr_xsk *x, unsigned slot, struct mr_ring *r, const struct xdp_ring_offset *off, off_t page,
	size_t entry_bytes, uint32_t cnt, bool producing)
{
	size_t bytes = off->desc + cnt * entry_bytes;
	uint8_t *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, x->fd, page);

	if (p == MAP_FAILED)
		return -errno;
	x->map[slot] = (struct mapping){ p, bytes };
	mr_ring_init(r, (uint32_t *)(p + off->producer), (uint32_t *)(p + off->consumer), (uint32_t *)(p + off->flags),
		p + off->desc, cnt, producing);
	return 0;
}

static int rings_map(struct mr_xsk *x, const struct mr_xsk_options *opt, struct mr_error *e)
{
	struct xdp_mmap_offsets off;
	socklen_t len = sizeof(off);
	int err = 0;

	if (getsockopt(x->fd, SOL_XDP, XDP_MMAP_OFFSETS, &off, &len))
		err = -errno;
	else if (len != sizeof(off))
		err = -EOPNOTSUPP; /* before Linux 5.4: no flags in the rings */
	if (!err)
		err = ring_map(x, 0, &x->fill, &off.fr, (off_t)XDP_UMEM_PGOFF_FILL_RING, sizeof(uint64_t),
			opt->rx_ring_cnt, true);
	if (!err)
		err = ring_map(x, 1, &x->completion, &off.cr, (off_t)XDP_UMEM_PGOFF_COMPLETION_RING, sizeof(uint64_t),
			opt->tx_ring_cnt, false);
	if (!err)
		err = ring_map(
			x, 2, &x->rx, &off.rx, XDP_PGOFF_RX_RING, sizeof(struct xdp_desc), opt->rx_ring_cnt, false);
	if (!err)
		err = ring_map(x, 3, &x->tx, &off.tx, (off_t)XDP_PGOFF_TX_RING, sizeof(struct xdp_desc),
			opt->tx_ring_cnt, true);
	if (err)
		mr_error_set(e, err, "the rings of a socket cannot be mapped: %s", strerror(-err));
	return err;
}

/* Before binding, as zero-copy drivers want it.  A queue takes at most half of what is left, so that the next one finds frames and packets
 * have somewhere to go. */
static int fill_first(struct mr_xsk *x, const struct mr_xsk_options *opt, struct mr_error *e)
{
	uint32_t target = mr_frames_depot_cnt(x->frames) / 2;

	if (target > opt->rx_ring_cnt)
		target = opt->rx_ring_cnt;
	if (!target)
		return mr_error_set(e, -ENOMEM, "no packet frames are left for this queue: set memory.frames higher");
	while (x->lent_cnt < target) {
		uint64_t addr[BURST];
		unsigned want = target - x->lent_cnt < BURST ? target - x->lent_cnt : BURST;
		unsigned got = mr_frames_take_shared(x->frames, opt->numa_node, addr, want);
		for (unsigned i = 0; i < got; i++) {
			mr_frames_tag(x->frames, addr[i], MR_OWNER_FILL, opt->interface_id, opt->queue_idx);
			*mr_ring_addr(&x->fill, i) = addr[i];
		}
		mr_ring_produce(&x->fill, got);
		x->lent_cnt += got;
		if (got < want)
			break;
	}
	x->fill_target_cnt = target;
	return 0;
}

static int bind_retry(struct mr_xsk *x, const struct mr_xsk_options *opt, struct mr_error *e)
{
	struct sockaddr_xdp sa = {
		.sxdp_family = AF_XDP,
		.sxdp_flags = XDP_USE_NEED_WAKEUP | (opt->zerocopy ? XDP_ZEROCOPY : XDP_COPY),
		.sxdp_ifindex = opt->ifindex,
		.sxdp_queue_id = opt->device_queue,
	};
	int err = 0;

	for (unsigned tries = 0; tries < BIND_TRY_CNT; tries++) {
		err = bind(x->fd, (struct sockaddr *)&sa, sizeof(sa)) ? -errno : 0;
		if (err != -EBUSY)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = BIND_WAIT_NS }, NULL);
	}
	if (err == -EBUSY)
		return mr_error_set(e, err, "another program's AF_XDP socket is on queue %u", opt->device_queue);
	if (err)
		return mr_error_set(e, err, "queue %u cannot be bound in %s mode: %s", opt->device_queue,
			opt->zerocopy ? "zero-copy" : "copy", strerror(-err));
	if (opt->zerocopy) {
		struct xdp_options o = { 0 };
		socklen_t len = sizeof(o);
		if (getsockopt(x->fd, SOL_XDP, XDP_OPTIONS, &o, &len) || !(o.flags & XDP_OPTIONS_ZEROCOPY))
			return mr_error_set(e, -EOPNOTSUPP, "queue %u was bound without zero-copy", opt->device_queue);
	}
	return 0;
}

int mr_xsk_open(const struct mr_xsk_options *opt, struct mr_xsk **out, struct mr_error *e)
{
	struct mr_xsk *x = aligned_alloc(64, (sizeof(*x) + 63) / 64 * 64);
	int err;

	if (!x)
		return mr_error_set(e, -ENOMEM, "no memory for a socket");
	memset(x, 0, sizeof(*x));
	x->queue.ops = &xsk_ops;
	x->queue.interface = opt->interface;
	x->queue.interface_id = opt->interface_id;
	x->queue.queue_idx = opt->queue_idx;
	x->queue.device_queue = opt->device_queue;
	x->frames = opt->frames;
	x->magazine = opt->magazine;
	x->device_queue = opt->device_queue;
	x->zerocopy = opt->zerocopy;
	x->fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (x->fd < 0) {
		err = -errno;
		if (err == -EPERM)
			mr_error_set(e, err, "AF_XDP sockets need root or CAP_NET_RAW");
		else
			mr_error_set(e, err, "the kernel makes no AF_XDP socket: %s", strerror(-err));
		goto fail;
	}
	err = umem_register(x, e);
	if (!err)
		err = ring_sizes(x, opt, e);
	if (!err)
		err = rings_map(x, opt, e);
	if (!err)
		err = fill_first(x, opt, e);
	if (!err)
		err = bind_retry(x, opt, e);
	if (err)
		goto fail;
	*out = x;
	return 0;
fail:
	mr_xsk_close(x);
	return err;
}

void mr_xsk_settle(struct mr_xsk *x)
{
	if (!x || x->settled)
		return;
	x->settled = true;
	state_set(x, MR_XSK_GONE);
	if (x->completion.entries) {
		/* not into the magazine: its worker may be running */
		uint32_t cnt = mr_ring_ready(&x->completion, x->completion.size);
		uint32_t lost = cnt < x->lost_cnt ? cnt : x->lost_cnt;
		mr_ring_consume(&x->completion, cnt);
		x->in_flight_cnt -= cnt;
		x->lost_cnt -= lost;
		count(&x->queue.counters.tx_packets, cnt - lost);
		/* whether these went out will never be known */
		count(&x->queue.counters.tx_lost, x->in_flight_cnt - x->lost_cnt);
	}
	if (x->fd >= 0)
		close(x->fd);
	x->fd = -1;
	/* the queue stays bound until the last mapping is gone */
	for (unsigned i = 0; i < 4; i++)
		if (x->map[i].p)
			munmap(x->map[i].p, x->map[i].bytes);
	mr_frames_reclaim(x->frames, x->queue.interface_id, x->queue.queue_idx);
}

void mr_xsk_close(struct mr_xsk *x)
{
	mr_xsk_settle(x);
	free(x);
}

struct mr_queue *mr_xsk_queue(struct mr_xsk *x)
{
	return &x->queue;
}

int mr_xsk_fd(const struct mr_xsk *x)
{
	return x->fd;
}

uint16_t mr_xsk_device_queue(const struct mr_xsk *x)
{
	return x->device_queue;
}

enum mr_xsk_state mr_xsk_state(const struct mr_xsk *x)
{
	return (enum mr_xsk_state)__atomic_load_n(&x->state, __ATOMIC_RELAXED);
}

void mr_xsk_tell_up(struct mr_xsk *x)
{
	uint32_t down = MR_XSK_DOWN;

	__atomic_compare_exchange_n(&x->state, &down, MR_XSK_UP, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

bool mr_xsk_left(struct mr_xsk *x)
{
	int err = 0;
	socklen_t len = sizeof(err);

	/* the kernel notes it when it unbinds the socket, and tells it once */
	if (getsockopt(x->fd, SOL_SOCKET, SO_ERROR, &err, &len) || err != ENETDOWN)
		return false;
	state_set(x, MR_XSK_GONE);
	return true;
}

void mr_xsk_read_statistics(struct mr_xsk *x)
{
	struct xdp_statistics s = { 0 };
	socklen_t len = sizeof(s);
	struct mr_queue_counters *c = &x->queue.counters;

	if (getsockopt(x->fd, SOL_XDP, XDP_STATISTICS, &s, &len))
		return;
	__atomic_store_n(&c->kernel_rx_dropped, s.rx_dropped, __ATOMIC_RELAXED);
	__atomic_store_n(&c->kernel_rx_ring_full, s.rx_ring_full, __ATOMIC_RELAXED);
	__atomic_store_n(&c->kernel_fill_empty, s.rx_fill_ring_empty_descs, __ATOMIC_RELAXED);
	__atomic_store_n(&c->kernel_rx_invalid, s.rx_invalid_descs, __ATOMIC_RELAXED);
	__atomic_store_n(&c->kernel_tx_invalid, s.tx_invalid_descs, __ATOMIC_RELAXED);
}
