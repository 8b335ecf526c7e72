/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/interface.h"

#include "core/attach.h"
#include "core/dispatch.h"
#include "core/interface_check.h"
#include "core/leave.h"
#include "core/memory.h"
#include "core/pcap.h"
#include "core/restore.h"
#include "core/steer.h"
#include "core/xsk.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RING_DEFAULT_CNT 2048u
#define QUEUE_POLLS      8u /* the number of queues is asked for at every so many looks at the device */

struct mr_interface {
	struct mr_interface_info info;
	char name[64];
	unsigned id;
	struct mr_frames *frames;
	struct mr_attach attach;
	struct mr_steer *steer;
	struct mr_xsk *xsk[MR_MAX_QUEUES];
	struct mr_queue *file; /* of a capture or memory interface */
	unsigned queue_cnt;
	int state_fd; /* to ask for the device's state, in the namespace it was opened in */
	bool gone;
	unsigned polls;
	bool queues_changed;
	uint16_t device_queue[MR_MAX_QUEUES]; /* those with a socket */
};

/* ---- AF_XDP ------------------------------------------------------------------------------------------------- */

static void mode_undo(struct mr_interface *i)
{
	mr_attach_detach(&i->attach);
	for (unsigned q = 0; q < MR_MAX_QUEUES; q++) {
		mr_xsk_close(i->xsk[q]);
		i->xsk[q] = NULL;
	}
	mr_steer_unload(i->steer);
	i->steer = NULL;
}

static int sockets_open(struct mr_interface *i, const struct mr_config_interface *c, const struct mr_interface_env *env,
	const struct mr_device *d, const uint16_t *queue, unsigned cnt, bool zerocopy, struct mr_error *e)
{
	for (unsigned q = 0; q < cnt; q++) {
		struct mr_xsk_options opt = {
			.frames = env->frames,
			.magazine = env->magazine(env->ctx, q),
			.interface = i,
			.interface_id = (uint16_t)i->id,
			.queue_idx = (uint16_t)q,
			.device_queue = queue[q],
			.ifindex = d->ifindex,
			.numa_node = d->numa_node,
			.rx_ring_cnt = c->rx_ring ? (uint32_t)c->rx_ring : RING_DEFAULT_CNT,
			.tx_ring_cnt = c->tx_ring ? (uint32_t)c->tx_ring : RING_DEFAULT_CNT,
			.zerocopy = zerocopy,
		};
		int err = mr_xsk_open(&opt, &i->xsk[q], e);
		if (err)
			return err;
		uint32_t key = queue[q];
		int fd = mr_xsk_fd(i->xsk[q]);
		err = bpf_map_update_elem(mr_steer_xskmap_fd(i->steer), &key, &fd, BPF_ANY);
		if (err)
			return mr_error_set(e, err, "the socket of queue %u cannot be entered for steering: %s", key,
				strerror(-err));
	}
	return 0;
}

struct shared_load {
	struct mr_attach *attach;
	bool generic;
};

static int load_shared(void *ctx, struct bpf_object *object, struct mr_error *e)
{
	const struct shared_load *l = ctx;

	return mr_attach_shared(l->attach, object, l->generic, e);
}

/* With the kernel tier.  Where the kernel does not take that (its verifier, memory) without: no reason for a worse mode. */
static int steer_load(struct mr_interface *i, struct mr_steer_options *so, struct mr_error *e)
{
	i->info.tier_why[0] = '\0';
	int err = mr_steer_load(so, &i->steer, e);
	if (!err || !so->tier)
		return err;
	snprintf(i->info.tier_why, sizeof(i->info.tier_why), "%.150s", e->text);
	so->tier = NULL;
	return mr_steer_load(so, &i->steer, e);
}

static int mode_try(struct mr_interface *i, const struct mr_config_interface *c, const struct mr_interface_env *env,
	const struct mr_device *d, const uint16_t *queue, unsigned cnt, enum mr_mode mode, struct mr_error *e)
{
	struct mr_steer_options so = {
		.instance = env->instance,
		.device = d->name,
		.interface_id = i->id,
		.generic = mode == MR_MODE_GENERIC,
		.shim_cookie = env->shim_cookie,
		.redirect_back = !strcmp(d->driver, "veth"),
		.tier = c->attach == MR_ATTACH_SHARED || mode == MR_MODE_GENERIC ? NULL : env->tier,
		.load = c->attach == MR_ATTACH_SHARED ? load_shared : NULL,
		.load_ctx = &(struct shared_load){ &i->attach, mode == MR_MODE_GENERIC },
	};
	int err = steer_load(i, &so, e);

	if (!err)
		err = sockets_open(i, c, env, d, queue, cnt, mode == MR_MODE_ZEROCOPY, e);
	/* what an earlier run left stays in force until this one knows what to do (mr_interface_apply) */
	if (!err && c->attach != MR_ATTACH_SHARED && !i->attach.left)
		err = mr_attach_program(&i->attach, mr_steer_prog_fd(i->steer), mode == MR_MODE_GENERIC, e);
	if (err)
		mode_undo(i);
	return err;
}

/* An error that another mode would meet as well. */
static bool error_is_general(int err)
{
	switch (err) {
	case -EBUSY:
	case -EPERM:
	case -E2BIG:
	case -ENOENT:
	case -ENOMEM:
	case -ENOBUFS:
	case -ENODEV:
	case -ENXIO:
	case -ENETDOWN:
	case -ENOSPC:
		return true;
	default:
		return false;
	}
}

/* Down the ladder with `auto`, one rung otherwise.  The sentence of the first rung that failed is why the mode is not better. */
static int mode_choose(struct mr_interface *i, const struct mr_config_interface *c, const struct mr_interface_env *env,
	const struct mr_device *d, const uint16_t *queue, unsigned cnt, struct mr_error *e)
{
	static const char *const name[] = { "auto", "zerocopy", "copy", "generic" };
	enum mr_mode mode = c->mode == MR_MODE_AUTO ? MR_MODE_ZEROCOPY : (enum mr_mode)c->mode;
	struct mr_error why = { { 0 } };

	if (i->attach.left) {
		/* a link keeps the mode it was made with */
		if (c->mode != MR_MODE_AUTO && (c->mode == MR_MODE_GENERIC) != i->attach.left_generic)
			return mr_error_set(e, -EBUSY,
				"%s has the program that an earlier run of this instance left in %s mode, which mode: "
				"%s cannot "
				"take over: `millrace cleanup --name %s` removes it",
				d->name, i->attach.left_generic ? "generic" : "native", name[mode], env->instance);
		if (i->attach.left_generic && mode != MR_MODE_GENERIC) {
			mode = MR_MODE_GENERIC;
			snprintf(i->info.mode_why, sizeof(i->info.mode_why),
				"the program that an earlier run left is attached in generic mode");
		}
	}
	for (;; mode++) {
		int err = mode_try(i, c, env, d, queue, cnt, mode, &why);
		if (!err)
			break;
		if (error_is_general(err))
			return mr_error_set(e, err, "%s", why.text);
		if (c->mode != MR_MODE_AUTO || mode == MR_MODE_GENERIC || (i->attach.left && mode == MR_MODE_COPY))
			return mr_error_set(e, c->mode == MR_MODE_AUTO ? err : -EOPNOTSUPP,
				"%s (driver %s) cannot be used in mode %s: %.200s%s", d->name, d->driver, name[mode],
				why.text, c->mode == MR_MODE_AUTO ? "" : "; mode: auto takes the best there is");
		snprintf(i->info.mode_why, sizeof(i->info.mode_why), "driver %s: %.110s", d->driver, why.text);
	}
	i->info.mode = mode;
	return 0;
}

/* An earlier run that was killed is still in the dispatcher of the device. */
static int leftover_remove(
	struct mr_interface *i, const struct mr_device *d, const struct mr_interface_env *env, struct mr_error *e)
{
	struct mr_steer_owner self = { .process = env->shim_cookie };
	int cnt;

	strncpy(self.instance, env->instance, sizeof(self.instance) - 1);
	cnt = mr_dispatch_clean(d, &self, e);
	if (cnt > 0)
		snprintf(i->info.notice, sizeof(i->info.notice),
			"removed from %s the XDP program that an earlier run of this instance left in its dispatcher",
			d->name);
	return cnt < 0 ? cnt : 0;
}

static void note_left(void *ctx, const char *device, bool done, const char *sentence)
{
	struct mr_interface *i = ctx;

	snprintf(i->info.notice, sizeof(i->info.notice), "%s", sentence);
}

/*
 * `channels: keep` means those there were before an earlier run that was killed had set others.  Where that run's program is still in
 * force, nothing changes under it (with rx-vlan on again it would see no tags): what is written down is joined to ours.
 */
static void channels_left(
	struct mr_interface *i, const struct mr_config_interface *c, const struct mr_interface_env *env)
{
	unsigned ifindex = if_nametoindex(c->device);

	if (ifindex && !c->channels && env->instance && !mr_leave_pinned(env->instance, ifindex))
		mr_restore_undo(env->instance, env->shim_cookie, ifindex, note_left, i);
}

static int change(struct mr_interface *i, const struct mr_config_interface *c, const struct mr_interface_env *env,
	const struct mr_device *d, struct mr_error *e)
{
	int err = 0;

	if (env->instance)
		mr_attach_remember(&i->attach, env->instance, env->shim_cookie);
	if (c->channels)
		err = mr_attach_channels(&i->attach, d, (unsigned)c->channels, e);
	return err ? err : mr_attach_prepare(&i->attach, d, c->promiscuous, e);
}

static int xsk_open(struct mr_interface *i, const struct mr_config_interface *c, const struct mr_interface_env *env,
	struct mr_error *e)
{
	uint16_t queue[MR_MAX_QUEUES];
	struct mr_device d;
	int cnt = 0, err;

	channels_left(i, c, env);
	err = mr_interface_check_device(c, mr_frames_frame_bytes(env->frames), &d, queue, &cnt, e);

	if (err)
		return err;
	mr_interface_describe(&i->info, c, &d);
	i->state_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (i->state_fd < 0) {
		err = -errno;
		return mr_error_set(e, err, "%s: %s", d.name, strerror(-err));
	}
	err = mr_attach_find_left(&i->attach, env->leave, &d, i->info.notice, sizeof(i->info.notice), e);
	if (!err && i->attach.left && c->attach == MR_ATTACH_SHARED)
		err = mr_error_set(e, -EBUSY,
			"%s has the program that an earlier run of this instance left, which attach: shared cannot "
			"take over: "
			"`millrace cleanup --name %s` removes it",
			d.name, env->instance);
	if (!err && !i->attach.left)
		err = mr_interface_check_free(c, &d, e);
	if (!err && c->attach == MR_ATTACH_SHARED)
		err = leftover_remove(i, &d, env, e);
	if (!err)
		err = change(i, c, env, &d, e);
	if (!err)
		err = mode_choose(i, c, env, &d, queue, (unsigned)cnt, e);
	if (err)
		return err;
	i->queue_cnt = (unsigned)cnt;
	memcpy(i->device_queue, queue, sizeof(i->device_queue));
	i->info.channels = (uint16_t)c->channels;
	i->info.promiscuous = c->promiscuous;
	mr_interface_describe_spread(&i->info, &d, queue, (unsigned)cnt);
	return 0;
}

/* ---- the interface ------------------------------------------------------------------------------------------ */

int mr_interface_open(const struct mr_config_interface *c, unsigned id, const struct mr_interface_env *env,
	struct mr_interface **out, struct mr_error *e)
{
	struct mr_interface *i = calloc(1, sizeof(*i));
	int err;

	if (!i)
		return mr_error_set(e, -ENOMEM, "no memory for interface %s", c->name);
	mr_attach_init(&i->attach);
	i->state_fd = -1;
	i->id = id;
	i->frames = env->frames;
	i->info.mtu_max = mr_frames_frame_bytes(env->frames) - MR_XSK_HEADROOM_BYTES - MR_INTERFACE_L2_BYTES;
	snprintf(i->name, sizeof(i->name), "%s", c->name);
	i->info.name = i->name;
	i->info.kind = mr_interface_kind_of(c);
	i->info.numa_node = -1;
	if (i->info.kind == MR_INTERFACE_XSK) {
		err = xsk_open(i, c, env, e);
	} else {
		i->info.up = true;
		i->info.mtu = i->info.mtu_max;
		i->info.mode = MR_MODE_COPY;
		i->info.device_queue_cnt = 1;
		err = i->info.kind == MR_INTERFACE_PCAP ? mr_pcap_open(c, id, env, i, &i->file, e)
							: mr_memory_open(c, id, env, i, &i->file, e);
		i->queue_cnt = 1;
	}
	if (err) {
		mr_interface_close(i, NULL);
		return err;
	}
	i->info.queue_cnt = (uint16_t)i->queue_cnt;
	*out = i;
	return 0;
}

/* ---- what happens without us ---------------------------------------------------------------------------------- */

int mr_interface_apply(
	struct mr_interface *i, const struct mr_steer_table *t, const struct mr_config_interface *c, struct mr_error *e)
{
	const bool drop = mr_interface_drops_unserved(c), keep = c->on_exit == MR_EXIT_DROP;
	int err;

	if (!i->steer)
		return 0;
	if (drop)
		mr_steer_set_unserved(i->steer, true);
	err = mr_steer_apply(i->steer, t, e);
	if (!err)
		err = mr_attach_replace(&i->attach, mr_steer_prog_fd(i->steer), e);
	if (!err)
		err = mr_attach_keep(&i->attach, keep, e);
	if (err)
		return err;
	if (!drop)
		mr_steer_set_unserved(i->steer, false);
	i->info.exit_drop = keep;
	i->info.unserved_drop = drop;
	return 0;
}

static void forget_sockets(struct mr_interface *i)
{
	for (uint32_t key = 0; key < MR_MAX_QUEUES; key++)
		(void)bpf_map_delete_elem(mr_steer_xskmap_fd(i->steer), &key);
}

void mr_interface_quiet(struct mr_interface *i)
{
	if (!i->steer)
		return;
	if (i->info.exit_drop)
		forget_sockets(i);
	else
		(void)mr_steer_apply(i->steer, NULL, NULL); /* what cannot be quieted is cut off by closing */
}

void mr_interface_let_go(struct mr_interface *i, bool inherited)
{
	if (!inherited && i->attach.inherited)
		return;
	(void)mr_attach_keep(&i->attach, false, NULL);
	i->info.exit_drop = false;
}

static void counters_add(struct mr_queue_counters *sum, const struct mr_queue_counters *c)
{
	const uint64_t *from = (const uint64_t *)c;
	uint64_t *to = (uint64_t *)sum;

	_Static_assert(sizeof(*c) % sizeof(*from) == 0, "counters are all 64 bits");
	for (size_t n = 0; n < sizeof(*c) / sizeof(*from); n++)
		to[n] += from[n];
}

void mr_interface_close(struct mr_interface *i, struct mr_queue_counters *last)
{
	struct mr_queue_counters sum = { 0 };

	if (!i)
		return;
	if (i->gone)
		mr_interface_let_go(i, true);
	/* the program first, so that nothing is steered to a closed socket */
	if (i->steer && i->attach.pinned && !i->attach.left)
		forget_sockets(i);
	mr_attach_detach(&i->attach);
	for (unsigned q = 0; q < MR_MAX_QUEUES; q++) {
		if (!i->xsk[q])
			continue;
		mr_xsk_read_statistics(i->xsk[q]);
		mr_xsk_settle(i->xsk[q]);
		counters_add(&sum, &mr_xsk_queue(i->xsk[q])->counters);
		mr_xsk_close(i->xsk[q]);
	}
	mr_steer_unload(i->steer);
	mr_attach_release(&i->attach);
	if (i->state_fd >= 0)
		close(i->state_fd);
	if (i->file)
		counters_add(&sum, &i->file->counters);
	if (i->info.kind == MR_INTERFACE_PCAP)
		mr_pcap_close(i->file);
	else if (i->info.kind == MR_INTERFACE_MEMORY)
		mr_memory_close(i->file);
	if (last)
		*last = sum;
	free(i);
}

const struct mr_interface_info *mr_interface_info(const struct mr_interface *i)
{
	return &i->info;
}

unsigned mr_interface_queue_cnt(const struct mr_interface *i)
{
	return i->queue_cnt;
}

struct mr_queue *mr_interface_queue(struct mr_interface *i, unsigned queue_idx)
{
	if (queue_idx >= i->queue_cnt)
		return NULL;
	return i->file ? i->file : mr_xsk_queue(i->xsk[queue_idx]);
}

struct mr_steer *mr_interface_steer(struct mr_interface *i)
{
	return i->steer;
}

/* Queues come and go by `ethtool -L`.  The kernel takes away none that has a socket. */
static void follow_queues(struct mr_interface *i)
{
	struct mr_device_channels now, max;
	unsigned cnt;

	if (i->polls++ % QUEUE_POLLS || mr_device_channels_get(i->info.device, &now, &max))
		return;
	cnt = mr_device_channels_rx(&now);
	if (!cnt || cnt > UINT16_MAX || cnt == i->info.device_queue_cnt)
		return;
	i->info.device_queue_cnt = (uint16_t)cnt;
	i->queues_changed = true;
	struct mr_device d = { 0 };
	memcpy(d.name, i->info.device, sizeof(d.name));
	memcpy(d.driver, i->info.driver, sizeof(d.driver));
	mr_interface_describe_spread(&i->info, &d, i->device_queue, i->queue_cnt);
}

int mr_interface_promiscuous(struct mr_interface *i, bool on, struct mr_error *e)
{
	int err = i->info.kind == MR_INTERFACE_XSK ? mr_attach_promiscuous(&i->attach, on, e) : 0;

	if (!err && i->info.kind == MR_INTERFACE_XSK)
		i->info.promiscuous = on;
	return err;
}

bool mr_interface_queues_changed(struct mr_interface *i)
{
	bool changed = i->queues_changed;

	i->queues_changed = false;
	return changed;
}

void mr_interface_poll(struct mr_interface *i)
{
	struct mr_device_state s = { .admin_up = false };

	if (i->info.kind != MR_INTERFACE_XSK)
		return;
	int err = mr_device_state(i->state_fd, i->info.ifindex, &s);
	if (err == -ENODEV)
		i->gone = true;
	for (unsigned q = 0; q < i->queue_cnt; q++) {
		mr_xsk_read_statistics(i->xsk[q]);
		if (s.admin_up)
			mr_xsk_tell_up(i->xsk[q]);
		if (mr_xsk_left(i->xsk[q]) || mr_xsk_state(i->xsk[q]) == MR_XSK_GONE)
			i->gone = true;
	}
	i->info.up = s.running && !i->gone;
	if (err || i->gone)
		return;
	memcpy(i->info.device, s.name, sizeof(s.name));
	memcpy(i->info.mac, s.mac, sizeof(s.mac));
	i->info.mtu = s.mtu;
	follow_queues(i);
}

bool mr_interface_gone(const struct mr_interface *i)
{
	return i->gone;
}
