/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoch.h - when may memory that workers could still be looking at be used again.
 *
 * Each worker announces a quiet moment once a loop, when it holds no pointer to shared things.  Whoever retires
 * something notes the epoch; once every worker has announced since, nobody can hold it.
 *
 * A worker that sleeps goes offline first and so holds nothing up.
 */
#ifndef MR_CORE_EPOCH_H
#define MR_CORE_EPOCH_H

#include <stdbool.h>
#include <stdint.h>

#define MR_EPOCH_WORKERS 64

struct mr_epoch;

/* NULL = no memory. */
struct mr_epoch *mr_epoch_create(void);
void mr_epoch_destroy(struct mr_epoch *e); /* NULL allowed */

/* worker < MR_EPOCH_WORKERS, one thread a slot.  Online before the first use and after sleeping; offline before sleeping or ending;
 * quiet once a loop, holding nothing. */
void mr_epoch_online(struct mr_epoch *e, unsigned worker);
void mr_epoch_offline(struct mr_epoch *e, unsigned worker);
void mr_epoch_quiet(struct mr_epoch *e, unsigned worker);

/* A stamp for what was just unlinked.  Threads: any. */
uint64_t mr_epoch_retire(struct mr_epoch *e);
/* Nobody can hold it any more; who is online itself holds it up until its own quiet moment.  Threads: any. */
bool mr_epoch_passed(const struct mr_epoch *e, uint64_t stamp);
/* Waits until the stamp has passed.  0, or -ETIMEDOUT after timeout_ms.  Threads: control only, never a worker. */
int mr_epoch_wait(struct mr_epoch *e, uint64_t stamp, unsigned timeout_ms);

#endif
