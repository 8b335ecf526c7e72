/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/runtime.h"

#include "core/announce.h"
#include "core/control.h"
#include "core/egress.h"
#include "core/handoff.h"
#include "core/hotplug.h"
#include "core/leave.h"
#include "core/link.h"
#include "core/mirror.h"
#include "core/reload.h"
#include "core/show.h"
#include "core/stage.h"
#include "core/tier.h"

#include <errno.h>
#include <numa.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define TICK_MS                 100
#define PUBLISH_TIMEOUT_MS      5000
#define PUBLISH_BEAT_MS         (MR_TIER_HEARTBEAT_MS / 4)
#define DRAIN_US                20000 /* for what is still in the rings when the program ends */
#define BATCH_FRAMES_PER_WORKER 512   /* in batches, pending transmissions and magazines */

uint64_t mr_runtime_now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void mr_runtime_log(struct mr_runtime *rt, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	if (!rt->opt.log)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	rt->opt.log(line);
}

unsigned mr_runtime_worker_cnt(const struct mr_config *c)
{
	unsigned cnt = 0;
	for (uint32_t i = 0; i < c->workers.cores.cnt; i++)
		cnt += c->workers.cores.items[i].hi - c->workers.cores.items[i].lo + 1;
	return cnt ? cnt : c->workers.count ? c->workers.count : 1;
}

int mr_runtime_worker_core(const struct mr_config *c, unsigned w)
{
	for (uint32_t i = 0; i < c->workers.cores.cnt; i++) {
		unsigned span = c->workers.cores.items[i].hi - c->workers.cores.items[i].lo + 1;
		if (w < span)
			return c->workers.cores.items[i].lo + w;
		w -= span;
	}
	return -1;
}

uint64_t mr_runtime_frames_default(const struct mr_config *c, const unsigned *queue_cnt, unsigned worker_cnt)
{
	uint64_t cnt = 0;
	for (uint32_t i = 0; i < c->interface_cnt; i++)
		cnt += queue_cnt[i] * (c->interfaces[i].rx_ring + c->interfaces[i].tx_ring);
	cnt += cnt / 2;
	return cnt + (uint64_t)worker_cnt * BATCH_FRAMES_PER_WORKER;
}

/* The program lives meanwhile, whatever holds up a worker. */
int mr_runtime_wait(struct mr_runtime *rt)
{
	uint64_t stamp = mr_epoch_retire(rt->sh.epoch);
	int err = -ETIMEDOUT;

	for (unsigned ms = 0; err == -ETIMEDOUT && ms < PUBLISH_TIMEOUT_MS; ms += PUBLISH_BEAT_MS) {
		err = mr_epoch_wait(rt->sh.epoch, stamp, PUBLISH_BEAT_MS);
		if (rt->sh.tier)
			mr_tier_beat(mr_tier_shared(rt->sh.tier), mr_runtime_now_ms() * 1000000);
	}
	return err;
}

int mr_runtime_publish(struct mr_runtime *rt, struct mr_plan *plan, struct mr_error *e)
{
	struct mr_plan *old = atomic_exchange(&rt->sh.plan, plan);
	mr_egress_publish(rt, plan);
	if (!old)
		return 0;
	for (unsigned w = 0; w < rt->sh.worker_cnt; w++)
		if (rt->worker[w])
			mr_worker_wake(rt->worker[w]);
	int err = mr_runtime_wait(rt);
	if (!err)
		return 0;
	atomic_store(&rt->sh.plan, old);
	mr_egress_publish(rt, old);
	return mr_error_set(e, err, "a worker did not take up the new plan within %u ms", PUBLISH_TIMEOUT_MS);
}

void mr_runtime_abandon(struct mr_runtime *rt, struct mr_plan *plan, bool shell)
{
	plan->abandoned_shell = shell;
	plan->abandoned_stamp = mr_epoch_retire(rt->sh.epoch);
	plan->abandoned_next = atomic_load(&rt->sh.abandoned);
	atomic_store_explicit(&rt->sh.abandoned, plan, memory_order_release);
}

static void end_abandoned(struct mr_runtime *rt)
{
	for (struct mr_plan *p = atomic_load(&rt->sh.abandoned), *next; p; p = next) {
		next = p->abandoned_next;
		if (p->abandoned_shell)
			mr_plan_free_shell(p);
		else
			mr_plan_destroy(p);
	}
}

/* The flow table and what else workers share. */
static int make_tables(struct mr_runtime *rt, const struct mr_config *c, struct mr_error *e)
{
	struct mr_shared *sh = &rt->sh;
	struct mr_flows_options flows = {
		.capacity4 = c->flows.capacity * 2, .capacity6 = c->flows.capacity * 2, .want_huge = c->memory.huge != 2
	};
	if (getrandom(&flows.seed, sizeof(flows.seed), 0) != sizeof(flows.seed) ||
		getrandom(&rt->shim_cookie, sizeof(rt->shim_cookie), 0) != sizeof(rt->shim_cookie))
		return mr_error_set(e, -EIO, "the kernel gives no random numbers");
	mr_egress_create(rt, c, &flows);
	int err = mr_flows_create(&flows, &sh->flows, e);
	if (err)
		return err;
	sh->epoch = mr_epoch_create();
	sh->stats = mr_stats_create(sh->worker_cnt);
	sh->nexthops = mr_nexthops_create(sh->tier ? mr_tier_nexthops(sh->tier) : NULL);
	sh->handoff = mr_handoff_create(sh->worker_cnt);
	if (!sh->epoch || !sh->stats || !sh->nexthops || !sh->handoff)
		return mr_error_set(e, -ENOMEM, "out of memory");
	struct mr_sessions_options sessions = {
		.capacity = c->flows.capacity,
		.half_open_max = c->flows.half_open_max ? c->flows.half_open_max : c->flows.capacity / 2,
		.worker_cnt = sh->worker_cnt,
		.timeouts = c->flows.timeouts,
		.flows = sh->flows,
		.epoch = sh->epoch,
		.want_huge = c->memory.huge != 2,
	};
	err = mr_sessions_create(&sessions, &sh->sessions, e);
	if (err)
		return err;
	mr_sessions_on_expire(sh->sessions, mr_succession_ended, sh);
	return mr_mirror_create(rt, e);
}

/* Memory, tables and what workers share; sized by what the interfaces will need. */
static int make_shared(struct mr_runtime *rt, const struct mr_config *c, struct mr_error *e)
{
	struct mr_shared *sh = &rt->sh;
	unsigned queue_cnt[MR_MAX_INTERFACES] = { 0 };
	int node[MR_WORKERS_MAX];

	for (uint32_t i = 0; i < c->interface_cnt; i++) {
		struct mr_interface_info info = { 0 };
		int err = mr_interface_check(&c->interfaces[i], c->memory.frame_bytes, &info, e);
		if (err)
			return mr_reload_place(c, &c->interfaces[i], err, e);
		queue_cnt[i] = info.queue_cnt;
	}
	sh->worker_cnt = mr_runtime_worker_cnt(c);
	sh->idle = c->workers;
	for (unsigned w = 0; w < sh->worker_cnt; w++) {
		int core = mr_runtime_worker_core(c, w);
		node[w] = core >= 0 && numa_available() >= 0 ? numa_node_of_cpu(core) : -1;
	}
	struct mr_frames_options frames = {
		.frame_cnt = c->memory.frames_cnt ? c->memory.frames_cnt
						  : mr_runtime_frames_default(c, queue_cnt, sh->worker_cnt),
		.frame_bytes = c->memory.frame_bytes,
		.worker_cnt = sh->worker_cnt,
		.worker_node = node,
		.want_huge = c->memory.huge != 2,
	};
	int err = mr_frames_create(&frames, &sh->frames, e);
	if (err)
		return err;
	struct mr_frames_census census;
	mr_frames_count(sh->frames, &census);
	if (c->memory.huge == 1 && !census.huge)
		return mr_error_set(e, -ENOMEM,
			"memory.huge: always, but there are not enough huge pages for %zu bytes; reserve them in "
			"/proc/sys/vm/nr_hugepages",
			mr_frames_bytes(sh->frames));
	if (!census.huge && c->memory.huge != 2)
		mr_runtime_log(rt,
			"packet memory is ordinary pages: no huge pages are reserved "
			"(/proc/sys/vm/nr_hugepages)");
	return make_tables(rt, c, e);
}

static int open_interfaces(struct mr_runtime *rt, const struct mr_config *c, struct mr_error *e)
{
	for (uint32_t i = 0; i < c->interface_cnt; i++) {
		const struct mr_config_interface *ci = &c->interfaces[i];
		int err = mr_hotplug_open(rt, mr_hotplug_id(rt, ci->name), ci, e);
		if (err)
			return mr_reload_place(c, ci, err, e);
	}
	return 0;
}

static int steer_interfaces(struct mr_runtime *rt, struct mr_error *e)
{
	const struct mr_plan *plan = mr_runtime_plan(rt);
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		struct mr_runtime_interface *ri = &rt->interface[id];
		int err = ri->open ? mr_interface_apply(ri->open, plan->interface[id].steer, &ri->config, e) : 0;
		if (err)
			return err;
	}
	return 0;
}

static void say_left(void *ctx, const struct mr_leave_thing *thing)
{
	mr_runtime_log(ctx, "%s", thing->text);
}

/* What earlier runs left on devices that are not ours now.  After all that may fail: a start that fails changes nothing of it. */
static void sweep_leftovers(struct mr_runtime *rt)
{
	struct mr_error e = { "" };
	if (mr_leave_sweep(rt->leave, rt->shim_cookie, NULL, say_left, rt, &e))
		mr_runtime_log(rt, "%s", e.text);
}

static int start_workers(struct mr_runtime *rt, const struct mr_config *c, struct mr_error *e)
{
	for (unsigned w = 0; w < rt->sh.worker_cnt; w++) {
		int err = mr_worker_create(&rt->sh, w, &rt->worker[w], e);
		if (err)
			return err;
	}
	for (unsigned w = 0; w < rt->sh.worker_cnt; w++) {
		int err = mr_worker_start(rt->worker[w], mr_runtime_worker_core(c, w), e);
		if (err)
			return err;
	}
	return 0;
}

static int wait_on(struct mr_runtime *rt, int fd, uint32_t what)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = what };
	return epoll_ctl(rt->epoll_fd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

enum { EVENT_SIGNAL, EVENT_TIMER, EVENT_CONTROL, EVENT_LINK };

/* A replay of captures needs no root, and so does without the control socket where only root may make it. */
static int make_control(struct mr_runtime *rt, const struct mr_config *c, struct mr_error *e)
{
	struct mr_error why = { "" };
	char path[256];
	bool devices = false;

	snprintf(path, sizeof(path), "/run/millrace/%s.sock", rt->opt.instance);
	const char *socket = rt->opt.socket ? rt->opt.socket : path;
	bool stale = !access(socket, F_OK);
	int err = mr_control_create(socket, mr_show_answer, rt, &rt->control, &why);
	if (!err && stale)
		mr_runtime_log(rt, "replaced the control socket %s that an earlier run left", socket);
	if (!err)
		return wait_on(rt, mr_control_fd(rt->control), EVENT_CONTROL);
	for (uint32_t i = 0; i < c->interface_cnt; i++)
		devices |= c->interfaces[i].device != NULL;
	if (err != -EACCES && err != -EPERM)
		return mr_error_set(e, err, "%s", why.text);
	if (devices)
		return mr_error_set(e, err, "%s (taking packets off devices needs root)", why.text);
	mr_runtime_log(rt, "no control socket, this instance cannot be asked: %s", why.text);
	return 0;
}

static int make_events(struct mr_runtime *rt, const struct mr_config *c, struct mr_error *e)
{
	sigset_t set;
	struct itimerspec tick = { .it_interval.tv_nsec = TICK_MS * 1000000L, .it_value.tv_nsec = TICK_MS * 1000000L };

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	rt->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	rt->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	rt->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (rt->signal_fd < 0 || rt->timer_fd < 0 || rt->epoll_fd < 0 ||
		timerfd_settime(rt->timer_fd, 0, &tick, NULL) || wait_on(rt, rt->signal_fd, EVENT_SIGNAL) ||
		wait_on(rt, rt->timer_fd, EVENT_TIMER))
		return mr_error_set(e, -errno, "cannot set up events: %s", strerror(errno));
	int err = mr_links_open(&rt->links, e);
	if (!err)
		err = wait_on(rt, mr_links_fd(rt->links), EVENT_LINK);
	return err || rt->opt.no_control ? err : make_control(rt, c, e);
}

int mr_runtime_create(const struct mr_runtime_options *opt, struct mr_runtime **out, struct mr_error *e)
{
	struct mr_config *c = NULL;
	struct mr_plan *plan;
	struct mr_plan_env env;
	struct mr_runtime *rt = calloc(1, sizeof(*rt));
	if (!rt)
		return mr_error_set(e, -ENOMEM, "out of memory");
	rt->opt = *opt;
	rt->opt.path = strdup(opt->path);
	rt->opt.instance = strdup(opt->instance ? opt->instance : "default");
	rt->signal_fd = rt->timer_fd = rt->epoll_fd = -1;
	int err = rt->opt.path && rt->opt.instance ? 0 : mr_error_set(e, -ENOMEM, "out of memory");
	if (!err)
		err = mr_reload_read(opt->path, &c, e);
	if (!err)
		err = make_events(rt, c, e);
	/* after the control socket: of two runs of one name only one comes here */
	if (!err)
		err = mr_leave_open(rt->opt.instance, &rt->leave, e);
	if (!err)
		err = make_shared(rt, c, e);
	if (!err)
		err = open_interfaces(rt, c, e);
	if (err)
		goto failed;
	mr_hotplug_describe(rt, &env);
	mr_egress_describe(rt, &env);
	env.serial = rt->serial = 1;
	err = mr_plan_create(c, &env, &plan, e);
	if (err)
		goto failed;
	mr_runtime_publish(rt, plan, NULL);
	mr_reload_timeouts(rt, plan);
	mr_mirror_follow(rt, plan);
	err = mr_mirror_open(rt, plan, e);
	if (!err)
		err = start_workers(rt, c, e);
	c = NULL; /* the plan's */
	if (!err)
		err = steer_interfaces(rt, e);
	if (err)
		goto failed;
	sweep_leftovers(rt);
	mr_announce_follow(rt, plan);
	rt->started_ns = mr_runtime_now_ms() * 1000000;
	rt->loaded_at = time(NULL);
	*out = rt;
	return 0;
failed:
	mr_config_free(c);
	mr_runtime_destroy(rt);
	return err;
}

static void on_signals(struct mr_runtime *rt)
{
	struct signalfd_siginfo si;
	while (read(rt->signal_fd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo != SIGHUP) {
			rt->stopping = true;
			continue;
		}
		struct mr_error e = { "" };
		mr_runtime_reload(rt, NULL, &e); /* logs its outcome */
	}
}

static void on_timer(struct mr_runtime *rt)
{
	uint64_t ticks;
	while (read(rt->timer_fd, &ticks, sizeof(ticks)) == sizeof(ticks))
		;
	mr_egress_tick(rt);
	mr_hotplug_poll(rt);
	mr_mirror_tick(rt);
	mr_announce_tick(rt);
	if (mr_hotplug_drained(rt)) {
		mr_runtime_log(rt, "all capture files are read to their end");
		rt->stopping = true;
	}
}

int mr_runtime_run(struct mr_runtime *rt, struct mr_error *e)
{
	struct epoll_event ev[8];
	if (rt->opt.ready)
		rt->opt.ready();
	while (!rt->stopping) {
		bool routes = rt->mirror_more;
		int n = epoll_wait(rt->epoll_fd, ev, 8, rt->mirror_more ? 0 : -1);
		if (n < 0 && errno != EINTR)
			return mr_error_set(e, -errno, "waiting for events failed: %s", strerror(errno));
		for (int i = 0; i < n; i++) {
			switch (ev[i].data.u32) {
			case EVENT_SIGNAL:
				on_signals(rt);
				break;
			case EVENT_TIMER:
				on_timer(rt);
				break;
			case EVENT_CONTROL:
				mr_control_service(rt->control);
				break;
			case EVENT_LINK:
				mr_links_service(rt->links);
				mr_hotplug_poll(rt);
				break;
			case MR_EGRESS_EVENT:
				mr_egress_service(rt);
				break;
			case MR_MIRROR_EVENT_ROUTES:
			case MR_MIRROR_EVENT_NEIGHBOURS:
				routes = true;
				break;
			}
		}
		/* After the others, in slices: a table that changes as a whole keeps nobody waiting. */
		if (routes)
			rt->mirror_more = mr_mirror_service(rt);
	}
	return 0;
}

/* First nothing new comes up and what is in the rings is finished.  A start that failed leaves what it found. */
static void leave_devices(struct mr_runtime *rt)
{
	mr_egress_stop(rt);
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		struct mr_runtime_interface *ri = &rt->interface[id];
		if (!ri->open)
			continue;
		if (!rt->started_ns)
			mr_hotplug_let_go(rt, id, false);
		else
			mr_interface_quiet(ri->open);
		if (rt->started_ns && mr_interface_info(ri->open)->exit_drop)
			mr_runtime_log(rt,
				"interface %s: on_exit: drop: on %s, what its pipelines match is dropped until the "
				"next start or "
				"`millrace cleanup --name %s`",
				ri->name, mr_interface_info(ri->open)->device, rt->opt.instance);
	}
	if (rt->started_ns)
		usleep(DRAIN_US);
	if (rt->sh.tier && rt->sh.stats)
		mr_tier_collect(rt->sh.tier, rt->sh.stats);
}

void mr_runtime_destroy(struct mr_runtime *rt)
{
	if (!rt)
		return;
	struct mr_shared *sh = &rt->sh;
	mr_announce_destroy(rt);
	leave_devices(rt);
	for (unsigned w = 0; w < sh->worker_cnt; w++)
		if (rt->worker[w])
			mr_worker_stop(rt->worker[w]);
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++)
		if (rt->interface[id].name)
			mr_hotplug_forget(rt, id);
	for (unsigned i = 0; i < MR_MAX_INTERFACES; i++)
		free(rt->removed[i].name);
	for (unsigned w = 0; w < sh->worker_cnt; w++)
		mr_worker_destroy(rt->worker[w]);
	mr_control_destroy(rt->control);
	mr_links_close(rt->links);
	mr_leave_close(rt->leave);
	mr_sessions_destroy(sh->sessions);
	end_abandoned(rt);
	mr_plan_destroy(mr_runtime_plan(rt));
	mr_mirror_destroy(rt);
	mr_handoff_destroy(sh->handoff);
	mr_nexthops_destroy(sh->nexthops);
	mr_stats_destroy(sh->stats);
	mr_epoch_destroy(sh->epoch);
	mr_flows_destroy(sh->flows);
	mr_egress_destroy(rt);
	mr_frames_destroy(sh->frames);
	int fds[] = { rt->signal_fd, rt->timer_fd, rt->epoll_fd };
	for (unsigned i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free((char *)rt->opt.path);
	free((char *)rt->opt.instance);
	free(rt);
}
