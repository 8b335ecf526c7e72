/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/hotplug.h"

#include "core/egress.h"
#include "core/mirror.h"

#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS 200 /* how often an absent device is looked for */

unsigned mr_hotplug_id(struct mr_runtime *rt, const char *name)
{
	unsigned unused = 0;
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		if (!rt->interface[id].name) {
			if (!unused)
				unused = id;
		} else if (!strcmp(rt->interface[id].name, name)) {
			return id;
		}
	}
	return unused;
}

/* The configuration of an interface outlives the file it was read from: it is opened again when its device returns. */
static int keep_config(struct mr_runtime_interface *ri, const struct mr_config_interface *c)
{
	struct mr_config_interface copy = *c;
	copy.name = strdup(c->name);
	copy.device = c->device ? strdup(c->device) : NULL;
	copy.pcap_in = c->pcap_in ? strdup(c->pcap_in) : NULL;
	copy.pcap_out = c->pcap_out ? strdup(c->pcap_out) : NULL;
	copy.memory.file = c->memory.file ? strdup(c->memory.file) : NULL;
	copy.zone = c->zone ? strdup(c->zone) : NULL;
	copy.queues.items = NULL;
	if (c->queues.cnt) {
		copy.queues.items = malloc(c->queues.cnt * sizeof(*c->queues.items));
		if (copy.queues.items)
			memcpy(copy.queues.items, c->queues.items, c->queues.cnt * sizeof(*c->queues.items));
	}
	copy.on_exit_why = NULL;
	ri->config = copy;
	ri->name = (char *)copy.name;
	bool whole = copy.name && (!c->device || copy.device) && (!c->pcap_in || copy.pcap_in) &&
		(!c->pcap_out || copy.pcap_out) && (!c->memory.file || copy.memory.file) && (!c->zone || copy.zone) &&
		(!c->queues.cnt || copy.queues.items);
	return whole ? 0 : -ENOMEM;
}

static void drop_config(struct mr_runtime_interface *ri)
{
	free((char *)ri->config.name);
	free((char *)ri->config.device);
	free((char *)ri->config.pcap_in);
	free((char *)ri->config.pcap_out);
	free((char *)ri->config.memory.file);
	free((char *)ri->config.zone);
	free(ri->config.queues.items);
	memset(ri, 0, sizeof(*ri));
}

static struct mr_magazine *magazine_of(void *ctx, unsigned queue_idx)
{
	struct mr_runtime *rt = ctx;
	return mr_frames_magazine(rt->sh.frames, queue_idx % rt->sh.worker_cnt);
}

static void set_wire(struct mr_runtime *rt, unsigned id, const struct mr_interface_info *info)
{
	struct mr_nexthop wire = { .kind = MR_NH_WIRE, .egress = id, .ifindex = info->ifindex, .mtu = info->mtu };
	memcpy(wire.smac, info->mac, sizeof(wire.smac));
	mr_nexthops_set(rt->sh.nexthops, id, &wire);
}

static int open_device(struct mr_runtime *rt, unsigned id, struct mr_error *e)
{
	struct mr_runtime_interface *ri = &rt->interface[id];
	struct mr_interface_env env = { .frames = rt->sh.frames,
		.magazine = magazine_of,
		.ctx = rt,
		.instance = rt->opt.instance,
		.shim_cookie = rt->shim_cookie,
		.leave = rt->leave,
		.tier = rt->sh.tier };
	int err = mr_interface_open(&ri->config, id, &env, &ri->open, e);
	if (err)
		return err;
	const struct mr_interface_info *info = mr_interface_info(ri->open);
	if (info->notice[0])
		mr_runtime_log(rt, "interface %s: %s", ri->name, info->notice);
	if (info->locks_out)
		mr_runtime_log(rt,
			"interface %s: when Millrace ends, everything that arrives on %s is dropped, ARP and SSH to "
			"this "
			"machine too "
			"(match: all, on_exit: drop): set on_exit: pass if it is reached that way",
			ri->name, info->device);
	if (info->tier_why[0])
		mr_runtime_log(rt, "interface %s: no kernel tier for what comes in: %s", ri->name, info->tier_why);
	if (info->beside[0])
		mr_runtime_log(rt, "interface %s: %s", ri->name, info->beside);
	if (info->spread_why[0] && rt->sh.worker_cnt > 1)
		mr_runtime_log(rt, "interface %s: %s", ri->name, info->spread_why);
	if (!ri->is_file) {
		struct mr_handback_options opt = { .ifindex = info->ifindex,
			.mtu = info->mtu,
			.generic = info->mode == MR_MODE_GENERIC,
			.shim_cookie = rt->shim_cookie };
		err = mr_handback_open(&opt, &ri->handback, e);
		if (err) {
			mr_interface_close(ri->open, NULL);
			ri->open = NULL;
			return err;
		}
	}
	set_wire(rt, id, info);
	ri->opened_cnt++;
	ri->link_down = !info->up;
	ri->absent_why[0] = '\0';
	mr_egress_opened(rt, id);
	return 0;
}

/* Keeps what an interface counted that leaves; where there is no room, the oldest is forgotten. */
static void keep_counters(struct mr_runtime *rt, unsigned id)
{
	struct mr_runtime_interface *ri = &rt->interface[id];
	struct mr_runtime_removed *r = rt->removed, *last = &rt->removed[MR_MAX_INTERFACES - 1];
	if (!ri->opened_cnt || !ri->name)
		return;
	while (r < last && r->name)
		r++;
	if (r->name) {
		free(rt->removed[0].name);
		memmove(rt->removed, rt->removed + 1, sizeof(rt->removed) - sizeof(*r));
	}
	*r = (struct mr_runtime_removed){ .name = strdup(ri->name),
		.id = id,
		.is_file = ri->is_file,
		.opened_cnt = ri->opened_cnt,
		.closed = ri->closed,
		.closed_steer = ri->closed_steer,
		.closed_egress = ri->closed_egress };
}

/* An interface whose name was there before goes on from what it had counted. */
static void take_counters(struct mr_runtime *rt, struct mr_runtime_interface *ri)
{
	struct mr_runtime_removed *r = rt->removed, *end = r + MR_MAX_INTERFACES;
	while (r < end && (!r->name || strcmp(r->name, ri->name)))
		r++;
	if (r == end)
		return;
	ri->opened_cnt += r->opened_cnt;
	ri->closed = r->closed;
	ri->closed_steer = r->closed_steer;
	ri->closed_egress = r->closed_egress;
	free(r->name);
	memmove(r, r + 1, (size_t)(end - r - 1) * sizeof(*r));
	memset(end - 1, 0, sizeof(*r));
}

int mr_hotplug_open(struct mr_runtime *rt, unsigned id, const struct mr_config_interface *c, struct mr_error *e)
{
	struct mr_runtime_interface *ri = &rt->interface[id];
	memset(ri, 0, sizeof(*ri));
	if (keep_config(ri, c)) {
		drop_config(ri);
		return mr_error_set(e, -ENOMEM, "out of memory while opening interface '%s'", c->name);
	}
	ri->is_file = !c->device;
	int err = open_device(rt, id, e);
	if (err)
		drop_config(ri);
	else
		take_counters(rt, ri);
	return err;
}

static void add_counters(struct mr_queue_counters *to, const struct mr_queue_counters *from)
{
	/* All members are counters of the same type. */
	uint64_t *t = (uint64_t *)to;
	const uint64_t *f = (const uint64_t *)from;
	for (size_t i = 0; i < sizeof(*to) / sizeof(*t); i++)
		t[i] += f[i];
}

static void add_steer_counters(struct mr_runtime_interface *ri)
{
	struct mr_steer_counters last, *sum = &ri->closed_steer;
	struct mr_steer *s = ri->open ? mr_interface_steer(ri->open) : NULL;
	if (!s || mr_steer_read_counters(s, &last))
		return;
	sum->steered += last.steered;
	sum->no_socket += last.no_socket;
	sum->passed += last.passed;
	sum->unparsed += last.unparsed;
	sum->handed_back += last.handed_back;
	sum->unserved += last.unserved;
	sum->offloaded += last.offloaded;
}

void mr_hotplug_close(struct mr_runtime *rt, unsigned id)
{
	struct mr_runtime_interface *ri = &rt->interface[id];
	struct mr_queue_counters last = { 0 };
	mr_egress_withdraw(rt, id);
	if (ri->open && !ri->is_file)
		mr_mirror_device(rt, id, 0);
	add_steer_counters(ri);
	mr_interface_close(ri->open, &last);
	ri->open = NULL;
	add_counters(&ri->closed, &last);
	mr_handback_close(ri->handback);
	ri->handback = NULL;
}

void mr_hotplug_let_go(struct mr_runtime *rt, unsigned id, bool inherited)
{
	struct mr_runtime_interface *ri = &rt->interface[id];
	if (!ri->open)
		return;
	bool dropped = mr_interface_info(ri->open)->exit_drop;
	mr_interface_let_go(ri->open, inherited);
	if (dropped && !mr_interface_info(ri->open)->exit_drop)
		mr_runtime_log(rt, "interface %s: the program that on_exit: drop kept on %s is removed", ri->name,
			mr_interface_info(ri->open)->device);
}

void mr_hotplug_forget(struct mr_runtime *rt, unsigned id)
{
	struct mr_nexthop none = { .kind = MR_NH_NONE };
	mr_hotplug_close(rt, id);
	mr_nexthops_set(rt->sh.nexthops, id, &none);
	keep_counters(rt, id);
	drop_config(&rt->interface[id]);
}

void mr_hotplug_describe(struct mr_runtime *rt, struct mr_plan_env *env)
{
	memset(env, 0, sizeof(*env));
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		struct mr_runtime_interface *ri = &rt->interface[id];
		env->device[id] = (struct mr_plan_device){ .name = ri->name,
			.open = ri->open,
			.handback = ri->handback,
			.is_file = ri->is_file,
			.link_down = ri->link_down };
		if (ri->open && !ri->is_file)
			memcpy(env->device[id].mac, mr_interface_info(ri->open)->mac, 6);
	}
	env->stats = rt->sh.stats;
	env->nexthops = rt->sh.nexthops;
	env->neighbours = rt->sh.neighbours;
	env->routes = rt->sh.routes;
	env->worker_cnt = rt->sh.worker_cnt;
	env->previous = mr_runtime_plan(rt);
	env->tier_half = -1;
}

static int refresh_plan(struct mr_runtime *rt, struct mr_error *e)
{
	struct mr_plan_env env;
	struct mr_plan *old = mr_runtime_plan(rt), *plan;
	mr_hotplug_describe(rt, &env);
	int err = mr_plan_refresh(old, &env, &plan, e);
	if (err)
		return err;
	err = mr_runtime_publish(rt, plan, e);
	if (err) {
		mr_runtime_abandon(rt, plan, true);
		return err;
	}
	mr_mirror_follow(rt, plan);
	mr_plan_free_shell(old);
	return 0;
}

static void take_out(struct mr_runtime *rt, unsigned id)
{
	struct mr_runtime_interface *ri = &rt->interface[id];
	struct mr_error e = { "" };
	struct mr_interface *open = ri->open;
	struct mr_handback *handback = ri->handback;
	mr_egress_withdraw(rt, id);
	ri->open = NULL;
	ri->handback = NULL;
	ri->link_down = true;
	int err = refresh_plan(rt, &e);
	ri->open = open;
	ri->handback = handback;
	if (err) { /* tried again at the next poll; the workers only see errors from its rings until then */
		mr_runtime_log(rt, "interface %s: device is gone, and %s", ri->name, e.text);
		return;
	}
	snprintf(ri->absent_why, sizeof(ri->absent_why), "device %s is gone; it is taken up again when it is back",
		ri->config.device);
	mr_hotplug_close(rt, id);
	ri->retry_at_ms = mr_runtime_now_ms() + RETRY_MS;
	mr_runtime_log(rt, "interface %s: %s", ri->name, ri->absent_why);
}

static void take_in(struct mr_runtime *rt, unsigned id)
{
	struct mr_runtime_interface *ri = &rt->interface[id];
	struct mr_error e = { "" };
	ri->retry_at_ms = mr_runtime_now_ms() + RETRY_MS;
	if (!mr_runtime_plan(rt)->interface[id].name) /* of a reload that was given up */
		return;
	if (!if_nametoindex(ri->config.device))
		return;
	int err = open_device(rt, id, &e);
	if (!err)
		err = mr_interface_apply(ri->open, mr_runtime_plan(rt)->interface[id].steer, &ri->config, &e);
	if (!err)
		err = refresh_plan(rt, &e);
	if (err == -ETIMEDOUT) {
		ri->link_down =
			true; /* as the plan in force has it: tried again at the next poll; a late worker may use it */
		mr_runtime_log(rt, "interface %s: %s", ri->name, e.text);
		return;
	}
	if (err) {
		mr_hotplug_close(rt, id);
		if (strcmp(ri->absent_why, e.text)) /* said once, not every time it is tried */
			mr_runtime_log(rt, "interface %s: not taken up: %s", ri->name, e.text);
		snprintf(ri->absent_why, sizeof(ri->absent_why), "%.250s", e.text);
		return;
	}
	mr_runtime_log(rt, "interface %s: device %s is back and in use", ri->name, ri->config.device);
}

/* What is sent there goes by the MTU and the address the device has now. */
static void follow_device(struct mr_runtime *rt, unsigned id)
{
	const struct mr_runtime_interface *ri = &rt->interface[id];
	const struct mr_interface_info *info = mr_interface_info(ri->open);
	struct mr_nexthop wire;
	mr_nexthops_get(rt->sh.nexthops, id, &wire);
	if (wire.mtu == info->mtu && !memcmp(wire.smac, info->mac, sizeof(wire.smac)))
		return;
	set_wire(rt, id, info);
	if (wire.mtu == info->mtu)
		return;
	mr_runtime_log(rt, "interface %s: MTU is %u", ri->name, info->mtu);
	if (info->mtu > info->mtu_max)
		mr_runtime_log(rt,
			"interface %s: packets longer than %u bytes do not fit a packet frame and are lost on arrival: "
			"set "
			"the MTU to that, or memory.frame_size higher",
			ri->name, info->mtu_max);
}

/* The plan knows the address frames to be routed must have. */
static bool readdressed(struct mr_runtime *rt, unsigned id)
{
	const struct mr_plan_interface *pi = &mr_runtime_plan(rt)->interface[id];
	return pi->name && memcmp(pi->mac, mr_interface_info(rt->interface[id].open)->mac, sizeof(pi->mac)) != 0;
}

/* Queues that came get no socket before the interface is opened again: their matched packets go the way of those of any unserved queue. */
static void say_queues(struct mr_runtime *rt, const struct mr_runtime_interface *ri)
{
	const struct mr_interface_info *info = mr_interface_info(ri->open);
	if (info->device_queue_cnt > info->queue_cnt)
		mr_runtime_log(rt,
			"interface %s: device %s has %u receive queues now, %u of them without a socket; a restart, or "
			"two reloads "
			"(one without the interface), takes them",
			ri->name, info->device, info->device_queue_cnt, info->device_queue_cnt - info->queue_cnt);
	else
		mr_runtime_log(rt, "interface %s: device %s has %u receive queues now", ri->name, info->device,
			info->device_queue_cnt);
	if (info->spread_why[0])
		mr_runtime_log(rt, "interface %s: %s", ri->name, info->spread_why);
}

void mr_hotplug_poll(struct mr_runtime *rt)
{
	uint64_t now_ms = mr_runtime_now_ms();
	/* All first: what leaves a link that went down comes up at once, whatever must be waited for after. */
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		struct mr_runtime_interface *ri = &rt->interface[id];
		if (ri->open && !ri->is_file)
			mr_interface_poll(ri->open);
		if (ri->open)
			mr_egress_follow(rt, id);
	}
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		struct mr_runtime_interface *ri = &rt->interface[id];
		if (!ri->name || ri->is_file)
			continue;
		if (!ri->open) {
			if (now_ms >= ri->retry_at_ms)
				take_in(rt, id);
			continue;
		}
		bool down = !mr_interface_info(ri->open)->up;
		if (mr_interface_gone(ri->open)) {
			take_out(rt, id);
			continue;
		}
		follow_device(rt, id);
		if (readdressed(rt, id)) {
			struct mr_error e = { "" };
			if (refresh_plan(rt, &e)) /* tried again at the next poll */
				mr_runtime_log(rt, "interface %s: %s", ri->name, e.text);
		}
		if (mr_interface_queues_changed(ri->open))
			say_queues(rt, ri);
		if (down != ri->link_down) {
			struct mr_error e = { "" };
			ri->link_down = down;
			mr_runtime_log(rt, "interface %s: link is %s", ri->name, down ? "down" : "up");
			if (refresh_plan(rt, &e)) {
				ri->link_down = !down; /* as the plan in force has it: tried again at the next poll */
				mr_runtime_log(rt, "interface %s: %s", ri->name, e.text);
			}
		}
	}
}

bool mr_hotplug_drained(struct mr_runtime *rt)
{
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++)
		if (rt->interface[id].name && !rt->interface[id].is_file)
			return false;
	for (unsigned w = 0; w < rt->sh.worker_cnt; w++)
		if (!mr_worker_drained(rt->worker[w]))
			return false;
	return true;
}
