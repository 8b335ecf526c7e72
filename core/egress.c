/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/egress.h"

#include "core/device.h"
#include "core/flow.h"
#include "core/offload.h"
#include "core/redirect.h"
#include "core/tier.h"
#include "core/xmit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define ASK_TICKS \
	10 /* how often devices that are no target are asked about, and all where the kernel tells of no changes: every second */
#define REST_MS     10000 /* after a refusal nobody had foreseen; then twice that, and so on */
#define REST_MAX_MS 600000
#define BEHIND_MS   300 /* queues that are never empty lose packets: order is the lesser harm */

struct way {
	uint32_t device;              /* ifindex, as long as it is open */
	uint32_t ifindex;             /* as the tier has it; 0 = no packet leaves by it */
	bool up;                      /* its link, then */
	bool target;                  /* it takes redirected frames, as far as is known */
	uint32_t refused;             /* of the tier's count, seen */
	struct mr_tier_egress before; /* the tier's count when it was opened: of whoever had its number then */
	uint64_t rest_ms;             /* how long the last rest was */
	uint64_t resting_ms;          /* until when; 0 = it does not */
	int entry_err;      /* what bpf(2) said the last time it was to be a target and could not be made one */
	char why[256];      /* why it is no target */
	char rest_why[128]; /* why it rests */
};

struct mr_egresses {
	struct mr_redirect *redirect; /* NULL: nobody can be asked */
	struct mr_xmit *xmit;         /* NULL: what is lost is not counted */
	unsigned ticks;
	uint64_t stopped_ms;                   /* when the heart was found stopped; 0: it beats */
	struct way way[MR_MAX_INTERFACES + 1]; /* by id */
};

/* ---- life ------------------------------------------------------------------------------------------------------- */

static void open_redirect(struct mr_runtime *rt)
{
	struct mr_error e = { "" };
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = MR_EGRESS_EVENT };

	if (mr_redirect_open(&rt->egress->redirect, &e)) {
		mr_runtime_log(rt,
			"kernel tier: nobody knows which interfaces take its packets, so none leaves by it: %s",
			e.text);
		return;
	}
	int fd = mr_redirect_fd(rt->egress->redirect);
	if (fd >= 0 && epoll_ctl(rt->epoll_fd, EPOLL_CTL_ADD, fd, &ev))
		mr_runtime_log(rt, "kernel tier: changes of devices are seen late: %s", strerror(errno));
}

void mr_egress_create(struct mr_runtime *rt, const struct mr_config *c, struct mr_flows_options *flows)
{
	struct mr_error e = { "" };
	struct mr_tier_options opt = { .seed = flows->seed,
		.flows_bytes = { mr_flows_bytes4(flows->capacity4), mr_flows_bytes6(flows->capacity6) } };

	rt->tier_wanted = mr_offload_wanted(c);
	if (!rt->tier_wanted)
		return;
	rt->egress = calloc(1, sizeof(*rt->egress));
	int err = rt->egress ? mr_tier_create(&opt, &rt->sh.tier, &e) : mr_error_set(&e, -ENOMEM, "out of memory");
	if (err) {
		mr_runtime_log(rt, "no kernel tier, every packet comes up to user space: %s", e.text);
		snprintf(rt->tier_why, sizeof(rt->tier_why), "%.255s", e.text);
		free(rt->egress);
		rt->egress = NULL;
		return;
	}
	flows->memory4 = mr_tier_flows(rt->sh.tier, false);
	flows->memory6 = mr_tier_flows(rt->sh.tier, true);
	struct mr_xmit_maps maps = mr_tier_xmit_maps(rt->sh.tier);
	if (mr_xmit_load(&maps, mr_device_space(), &rt->egress->xmit, &e))
		mr_runtime_log(rt, "kernel tier: %s", e.text);
	mr_tier_wake(mr_tier_shared(rt->sh.tier), mr_runtime_now_ms() * 1000000);
	open_redirect(rt);
}

void mr_egress_destroy(struct mr_runtime *rt)
{
	if (rt->egress) {
		mr_redirect_close(rt->egress->redirect);
		mr_xmit_unload(rt->egress->xmit);
	}
	free(rt->egress);
	rt->egress = NULL;
	mr_tier_destroy(rt->sh.tier);
	rt->sh.tier = NULL;
}

/* ---- plans ------------------------------------------------------------------------------------------------------ */

/* Plans a worker was too late for keep their half until it is out of them. */
static void give_abandoned(struct mr_runtime *rt)
{
	for (struct mr_plan *p = atomic_load(&rt->sh.abandoned); p; p = p->abandoned_next)
		if (!p->abandoned_shell && p->tier_half >= 0 && mr_epoch_passed(rt->sh.epoch, p->abandoned_stamp)) {
			mr_tier_give(rt->sh.tier, p->tier_half);
			p->tier_half = -1;
		}
}

void mr_egress_describe(struct mr_runtime *rt, struct mr_plan_env *env)
{
	env->tier_half = -1;
	if (!rt->sh.tier)
		return;
	give_abandoned(rt);
	env->tier_half = mr_tier_take(rt->sh.tier);
	if (env->tier_half < 0) {
		mr_runtime_log(rt,
			"kernel tier: not used by this configuration, because a worker has not left one before that "
			"was given up; the next reload tries again");
		return;
	}
	env->effects = mr_tier_effects(rt->sh.tier, (unsigned)env->tier_half);
	env->meters = mr_tier_meters(rt->sh.tier, (unsigned)env->tier_half);
}

void mr_egress_give(struct mr_runtime *rt, int half)
{
	if (rt->sh.tier)
		mr_tier_give(rt->sh.tier, half);
}

void mr_egress_publish(struct mr_runtime *rt, const struct mr_plan *plan)
{
	if (rt->sh.tier)
		mr_tier_publish(rt->sh.tier, plan);
}

void mr_egress_stop(struct mr_runtime *rt)
{
	if (rt->sh.tier)
		mr_tier_stop(rt->sh.tier);
}

/* ---- devices ---------------------------------------------------------------------------------------------------- */

/* why: NULL = they may be again. */
static void say(struct mr_runtime *rt, unsigned id, const char *why)
{
	const char *name = rt->interface[id].name;

	if (why)
		mr_runtime_log(rt, "interface %s: flows out of it are not left to the kernel tier: %s", name, why);
	else
		mr_runtime_log(rt, "interface %s: flows out of it may be left to the kernel tier", name);
}

static void rest_no_more(struct way *w)
{
	w->resting_ms = 0;
	w->rest_ms = 0;
}

static void ask(struct mr_runtime *rt, unsigned id)
{
	const struct mr_interface_info *info = mr_interface_info(rt->interface[id].open);
	struct way *w = &rt->egress->way[id];

	w->why[0] = '\0';
	w->target = rt->egress->redirect &&
		mr_redirect_target(
			rt->egress->redirect, info->ifindex, info->device, info->driver, w->why, sizeof(w->why));
	if (!w->target) /* that is why it refused, if it did: no reason to distrust it when it takes them again */
		rest_no_more(w);
}

static void enter(struct mr_runtime *rt, unsigned id, uint32_t ifindex)
{
	struct way *w = &rt->egress->way[id];

	if (w->ifindex == ifindex)
		return;
	int err = mr_tier_egress(rt->sh.tier, id, ifindex);
	if (err && ifindex) { /* tried again at the next tick, said once */
		snprintf(w->why, sizeof(w->why), "the kernel does not take it as a target: %s", strerror(-err));
		if (err != w->entry_err)
			say(rt, id, w->why);
		w->entry_err = err;
		return;
	}
	if (ifindex && w->entry_err) {
		w->why[0] = '\0';
		say(rt, id, NULL);
	}
	w->entry_err = 0;
	w->ifindex = ifindex;
}

void mr_egress_follow(struct mr_runtime *rt, unsigned id)
{
	const struct mr_runtime_interface *ri = &rt->interface[id];

	if (!rt->egress || ri->is_file)
		return;
	const struct mr_interface_info *info = ri->open ? mr_interface_info(ri->open) : NULL;
	struct way *w = &rt->egress->way[id];
	bool up = info && info->up && !mr_interface_gone(ri->open);
	if (up && !w->up) { /* a veth says no while its peer is down, and what is down refuses */
		rest_no_more(w);
		ask(rt, id);
	}
	w->up = up;
	enter(rt, id, up && w->target && !w->resting_ms ? info->ifindex : 0);
}

void mr_egress_opened(struct mr_runtime *rt, unsigned id)
{
	struct mr_tier_egress count;

	if (!rt->egress || rt->interface[id].is_file)
		return;
	mr_tier_egress_read(rt->sh.tier, id, &count);
	enter(rt, id, 0);
	rt->egress->way[id] = (struct way){ .refused = count.refused, .before = count };
	rt->egress->way[id].device = mr_interface_info(rt->interface[id].open)->ifindex;
	(void)mr_xmit_device(rt->egress->xmit, rt->egress->way[id].device, id);
	ask(rt, id);
	mr_egress_follow(rt, id);
}

static void add_since(
	struct mr_egress_count *sum, const struct mr_tier_egress *before, const struct mr_tier_egress *now)
{
	if (now->sent_packets < before->sent_packets) /* could not be read */
		return;
	sum->sent_packets += now->sent_packets - before->sent_packets;
	sum->sent_bytes += now->sent_bytes - before->sent_bytes;
	sum->lost_packets += now->lost_packets - before->lost_packets;
}

void mr_egress_withdraw(struct mr_runtime *rt, unsigned id)
{
	if (!rt->egress || rt->interface[id].is_file)
		return;
	enter(rt, id, 0);
	if (rt->egress->way[id].device)
		(void)mr_xmit_device(rt->egress->xmit, rt->egress->way[id].device, 0);
	rt->egress->way[id].device = 0;
	struct mr_tier_egress now;
	mr_tier_egress_read(rt->sh.tier, id, &now);
	add_since(&rt->interface[id].closed_egress, &rt->egress->way[id].before, &now);
	rt->egress->way[id].before = now;
}

/* All, or those that are no target. */
static void ask_again(struct mr_runtime *rt, bool all)
{
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		const struct mr_runtime_interface *ri = &rt->interface[id];
		if (!ri->open || ri->is_file || (rt->egress->way[id].target && !all))
			continue;
		bool before = rt->egress->way[id].target;
		ask(rt, id);
		mr_egress_follow(rt, id);
		if (before != rt->egress->way[id].target)
			say(rt, id, before ? rt->egress->way[id].why : NULL);
	}
}

void mr_egress_service(struct mr_runtime *rt)
{
	if (rt->egress && rt->egress->redirect && mr_redirect_service(rt->egress->redirect))
		ask_again(rt, true);
}

/* It took nothing of a bulk: at once no more is sent there, whatever is said of it. */
static void look_refused(struct mr_runtime *rt, unsigned id, uint64_t now_ms)
{
	struct way *w = &rt->egress->way[id];
	struct mr_tier_egress count;

	mr_tier_egress_read(rt->sh.tier, id, &count);
	if (count.refused == w->refused) {
		if (w->resting_ms && now_ms >= w->resting_ms) {
			w->resting_ms = 0;
			ask(rt, id);
			if (w->target)
				say(rt, id, NULL);
		}
		return;
	}
	w->refused = count.refused;
	if (!w->ifindex)
		return;
	enter(rt, id, 0);
	w->rest_ms = !w->rest_ms ? REST_MS : w->rest_ms < REST_MAX_MS ? w->rest_ms * 2 : REST_MAX_MS;
	w->resting_ms = now_ms + w->rest_ms;
	snprintf(w->rest_why, sizeof(w->rest_why), "its device refused frames redirected to it (%s)",
		strerror(count.refused_errno));
	ask(rt, id);
	say(rt, id, w->why[0] ? w->why : w->rest_why);
}

/* After the process was stopped, what came up meanwhile goes first. */
static void beat(struct mr_runtime *rt, uint64_t now_ms)
{
	struct mr_tier *shared = mr_tier_shared(rt->sh.tier);
	struct mr_egresses *g = rt->egress;

	if (!mr_tier_stopped(shared, now_ms * 1000000)) {
		mr_tier_beat(shared, now_ms * 1000000);
		g->stopped_ms = 0;
	} else if (!g->stopped_ms) {
		g->stopped_ms = now_ms;
		mr_worker_wake_tier(&rt->sh, rt->worker);
	} else if (now_ms - g->stopped_ms >= BEHIND_MS)
		mr_tier_wake(shared, now_ms * 1000000);
}

void mr_egress_tick(struct mr_runtime *rt)
{
	uint64_t now_ms = mr_runtime_now_ms();

	if (!rt->egress)
		return;
	beat(rt, now_ms);
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++)
		if (rt->interface[id].open && !rt->interface[id].is_file) {
			look_refused(rt, id, now_ms);
			mr_egress_follow(rt, id);
		}
	if (++rt->egress->ticks % ASK_TICKS == 0 && rt->egress->redirect)
		ask_again(rt, mr_redirect_fd(rt->egress->redirect) < 0);
}

void mr_egress_counted(const struct mr_runtime *rt, unsigned id, struct mr_egress_count *out)
{
	struct mr_tier_egress now;

	*out = rt->interface[id].closed_egress;
	if (!rt->egress)
		return;
	mr_tier_egress_read(rt->sh.tier, id, &now);
	add_since(out, &rt->egress->way[id].before, &now);
}

bool mr_egress_is(const struct mr_runtime *rt, unsigned id, const char **why)
{
	const struct way *w = rt->egress ? &rt->egress->way[id] : NULL;

	*why = !w ? "" : !w->why[0] && w->resting_ms ? w->rest_why : w->why;
	return w && w->ifindex;
}
