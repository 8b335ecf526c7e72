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

struct mr_epoch *mr_epoch_create(void); /* NULL = no memory */
void mr_epoch_destroy(struct mr_epoch *e);
void mr_epoch_online(struct mr_epoch *e, unsigned worker);  /* before the first use, and after sleeping */
void mr_epoch_offline(struct mr_epoch *e, unsigned worker); /* before sleeping or ending */
void mr_epoch_quiet(struct mr_epoch *e, unsigned worker);   /* once a loop */
uint64_t mr_epoch_retire(struct mr_epoch *e);               /* a stamp for what was just unlinked */
bool mr_epoch_passed(const struct mr_epoch *e, uint64_t stamp); /* nobody can hold it any more */
/* Waits until the stamp has passed.  Threads: control only, never a worker.  -ETIMEDOUT after timeout_ms. */
int mr_epoch_wait(struct mr_epoch *e, uint64_t stamp, unsigned timeout_ms);

#endif
