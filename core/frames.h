/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * frames.h - the packet memory: one virtual range of equal frames that every socket registers as its own UMEM.
 *
 *     worker 0 magazine ◄──► depot ◄──► worker 1 magazine        (frames nobody lends out)
 *          │  take                         ▲ give
 *          ▼                               │
 *     fill ring ─► rx ring ─► batch ─► tx ring ─► completion ring
 *
 * A frame is named by its offset in the range, the same in every UMEM, so a frame received on one device is
 * sent on another without a copy.  Each frame carries an owner tag; frames lent to a socket that died are
 * found by their tag and taken back.  Frames in all places sum to the pool: mr_frames_count() says where.
 *
 * The range is huge pages where they can be had, bound part by part to the NUMA nodes of the workers.
 */
#ifndef MR_CORE_FRAMES_H
#define MR_CORE_FRAMES_H

#include "core/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mr_frames;
struct mr_magazine; /* one worker's stock; used by that worker only */

enum mr_frame_owner {
	MR_OWNER_POOL = 0, /* magazine or depot */
	MR_OWNER_FILL,     /* lent to a fill ring (or in the kernel, or in an rx ring not yet read) */
	MR_OWNER_RX,       /* in a worker's batch */
	MR_OWNER_TX,       /* lent to a tx or completion ring */
	MR_OWNER_HELD,     /* waiting: hand-off ring, fragment or neighbour queue */
	MR_OWNER_CNT
};

struct mr_frames_options {
	uint32_t frame_cnt;     /* exactly so many; the range they lie in is rounded up to whole huge pages */
	uint32_t frame_bytes;   /* 2048 or 4096 */
	uint32_t worker_cnt;    /* magazines to make; >= 1 */
	const int *worker_node; /* NUMA node of each worker; NULL = wherever */
	bool want_huge;
};

/* Where all frames are. */
struct mr_frames_census {
	uint32_t total_cnt;
	uint32_t by_owner_cnt[MR_OWNER_CNT];
	bool huge; /* the range is huge pages */
};

/* Makes the pool.  -ENOMEM, -EINVAL; the sentence in e.  Huge pages that cannot be had are no error (census.huge tells).
 * Threads: control. */
int mr_frames_create(const struct mr_frames_options *opt, struct mr_frames **out, struct mr_error *e);
/* Ends it.  NULL is allowed.  No socket may hold it any more. */
void mr_frames_destroy(struct mr_frames *f);

uint8_t *mr_frames_base(const struct mr_frames *f);
size_t mr_frames_bytes(const struct mr_frames *f);
uint32_t mr_frames_frame_bytes(const struct mr_frames *f);
struct mr_magazine *mr_frames_magazine(struct mr_frames *f, unsigned worker);

/* Takes up to n frames; returns how many (fewer = pool empty).  addr[] get frame starts; tags stay POOL until set. */
unsigned mr_frames_take(struct mr_magazine *m, uint64_t *addr, unsigned n);
/* Gives back n frames.  addr may point anywhere into each frame. */
void mr_frames_give(struct mr_magazine *m, const uint64_t *addr, unsigned n);

/* The same past any magazine, under the depots' lock: for control, which owns no magazine, and for opening a queue while its worker runs.
 * Takes from the depot of `node` first (-1 = any).  Threads: any. */
unsigned mr_frames_take_shared(struct mr_frames *f, int node, uint64_t *addr, unsigned n);
void mr_frames_give_shared(struct mr_frames *f, const uint64_t *addr, unsigned n);
/* Frames in the depots just now (those in magazines are not counted).  Threads: any. */
uint32_t mr_frames_depot_cnt(struct mr_frames *f);
/* Empties a magazine into its depot: when a worker ends or goes idle with a small pool.  Threads: that worker, or control after it ended. */
void mr_frames_flush(struct mr_magazine *m);

/* Sets the owner of the frame that addr lies in.  interface id 0..255, queue 0..65535.  Hot: one store. */
void mr_frames_tag(struct mr_frames *f, uint64_t addr, enum mr_frame_owner owner, unsigned interface, unsigned queue);

/* Takes back every frame tagged FILL or TX of this interface and queue; returns how many.  The socket must be
 * closed.  Threads: control, with no worker using that queue. */
unsigned mr_frames_reclaim(struct mr_frames *f, unsigned interface, unsigned queue);

/* Counts tags.  A running system gives a snapshot that may be off by frames in flight between two tags; a
 * quiet one sums exactly.  Threads: any. */
void mr_frames_count(const struct mr_frames *f, struct mr_frames_census *out);

#endif
