/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * idle.c - a worker's thread: turning while there is something to do, resting when there is not.
 *
 *     spin      never sleeps
 *     adaptive  spins for spin_ns after the last packet, then sleeps in poll(2) until one comes
 *     poll      sleeps as soon as a turn brought nothing
 *
 * Asleep, a worker is offline for the epoch and wakes every SLEEP_MS for time-outs and ticks.
 */
#include "core/hold.h"
#include "core/turn.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define SLEEP_MS 4
#define POLL_FDS 256

static void relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Descriptors of its queues; false when one that may have packets cannot be waited on. */
static bool collect(const struct mr_worker *w, struct pollfd *fd, unsigned *cnt)
{
	fd[0] = (struct pollfd){ .fd = mr_handoff_fd(w->sh->handoff, w->idx), .events = POLLIN };
	*cnt = 1;
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		const struct mr_plan_interface *pi = &w->plan->interface[id];
		for (unsigned q = w->idx; q < pi->queue_cnt; q += w->sh->worker_cnt) {
			int n = pi->queue[q]->ops->fd(pi->queue[q]);
			if (n < 0 && !pi->queue[q]->ops->drained(pi->queue[q]))
				return false;
			if (n >= 0 && *cnt == POLL_FDS)
				return false;
			if (n >= 0)
				fd[(*cnt)++] = (struct pollfd){ .fd = n, .events = POLLIN };
		}
	}
	return true;
}

/* Until a frame may have come, somebody wakes us, or SLEEP_MS.  The socket of a device that went away is readable for good (POLLERR): then
 * the time is slept with the eventfd alone, until control has taken the queue out of the plan. */
static void wait(struct pollfd *fd, unsigned cnt)
{
	bool ready = false;
	int n = poll(fd, cnt, SLEEP_MS);
	for (unsigned i = 0; n > 0 && i < cnt; i++)
		ready |= fd[i].revents & POLLIN && !(fd[i].revents & (POLLERR | POLLHUP | POLLNVAL));
	if (n > 0 && !ready)
		poll(fd, 1, SLEEP_MS);
}

static void sleep_a_little(struct mr_worker *w)
{
	struct pollfd fd[POLL_FDS];
	unsigned cnt;
	/* The turn has ended, and with it the hold on its plan, if another one was published meanwhile. */
	if (atomic_load_explicit(&w->sh->plan, memory_order_acquire) != w->plan)
		return;
	if (!collect(w, fd, &cnt)) {
		sched_yield();
		return;
	}
	mr_handoff_sleep_begin(w->sh->handoff, w->idx);
	bool wanted = mr_handoff_waiting(w->sh->handoff, w->idx) || atomic_load(&w->stop) ||
		atomic_load_explicit(&w->sh->plan, memory_order_acquire) != w->plan;
	if (!wanted) {
		mr_turn_add(&w->stats->sleeps, 1);
		mr_epoch_offline(w->sh->epoch, w->idx);
		wait(fd, cnt);
		mr_epoch_online(w->sh->epoch, w->idx);
	}
	mr_handoff_sleep_end(w->sh->handoff, w->idx);
}

void mr_idle_rest(struct mr_worker *w)
{
	const struct mr_config_workers *idle = &w->sh->idle;
	if (idle->idle == MR_IDLE_POLL ||
		(idle->idle == MR_IDLE_ADAPTIVE && w->pass.now_ns - w->busy_ns >= idle->spin_ns))
		sleep_a_little(w);
	else
		relax();
}

static void *run(void *arg)
{
	struct mr_worker *w = arg;
	mr_epoch_online(w->sh->epoch, w->idx);
	while (!atomic_load_explicit(&w->stop, memory_order_acquire)) {
		if (mr_worker_poll(w))
			w->busy_ns = w->pass.now_ns;
		else
			mr_idle_rest(w);
	}
	mr_epoch_offline(w->sh->epoch, w->idx);
	atomic_store(&w->running, false);
	return NULL;
}

int mr_worker_start(struct mr_worker *w, int core, struct mr_error *e)
{
	pthread_attr_t attr;
	cpu_set_t set;
	char name[16];
	int err = pthread_attr_init(&attr);
	if (err)
		return mr_error_set(e, -err, "worker %u: %s", w->idx, strerror(err));
	CPU_ZERO(&set);
	if (core >= 0 && core < CPU_SETSIZE) {
		CPU_SET(core, &set);
		err = pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
	} else if (core >= 0) {
		err = EINVAL;
	}
	atomic_store(&w->stop, false);
	w->started = true;
	atomic_store(&w->running, true);
	if (!err)
		err = pthread_create(&w->thread, &attr, run, w);
	pthread_attr_destroy(&attr);
	if (err) {
		w->started = false;
		atomic_store(&w->running, false);
		return mr_error_set(e, -err, "worker %u cannot start on core %d: %s", w->idx, core, strerror(err));
	}
	snprintf(name, sizeof(name), "mr-worker-%u", w->idx % 100);
	pthread_setname_np(w->thread, name);
	return 0;
}

void mr_worker_stop(struct mr_worker *w)
{
	if (!w)
		return;
	if (w->started) {
		atomic_store(&w->stop, true);
		mr_worker_wake(w);
		pthread_join(w->thread, NULL);
		w->started = false;
	}
	mr_hold_discard(w);
	mr_turn_fragments_discard(w);
	mr_transmit_discard(w);
}

void mr_worker_wake(struct mr_worker *w)
{
	mr_handoff_wake(w->sh->handoff, w->idx);
}

bool mr_worker_running(const struct mr_worker *w)
{
	return atomic_load(&w->running);
}
