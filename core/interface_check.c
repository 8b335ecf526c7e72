/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * interface_check.c - what can be said about an interface before anything is touched: is the device there, do its frames fit, which of its
 * queues get a socket, is it free.
 */
#include "core/interface_check.h"

#include "core/attach.h"
#include "core/beside.h"
#include "core/dispatch.h"
#include "core/leave.h"
#include "core/pcap.h"
#include "core/spread.h"
#include "core/xsk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum mr_interface_kind mr_interface_kind_of(const struct mr_config_interface *c)
{
	if (c->device)
		return MR_INTERFACE_XSK;
	return c->has_memory ? MR_INTERFACE_MEMORY : MR_INTERFACE_PCAP;
}

void mr_interface_describe(
	struct mr_interface_info *info, const struct mr_config_interface *c, const struct mr_device *d)
{
	snprintf(info->device, sizeof(info->device), "%s", d->name);
	snprintf(info->driver, sizeof(info->driver), "%s", d->driver);
	info->ifindex = d->ifindex;
	info->mtu = d->mtu;
	memcpy(info->mac, d->mac, sizeof(info->mac));
	info->device_queue_cnt = d->rx_queue_cnt;
	info->numa_node = d->numa_node;
	info->up = d->running;
	info->locks_out = c->on_exit == MR_EXIT_DROP && c->takes_all && mr_beside_has_address(d->name);
	mr_beside_describe(d->name, d->ifindex, info->beside, sizeof(info->beside));
}

void mr_interface_describe_spread(
	struct mr_interface_info *info, const struct mr_device *d, const uint16_t *queue, unsigned cnt)
{
	struct mr_spread s;

	mr_spread_query(d->name, &s);
	mr_spread_describe(&s, info->spread, sizeof(info->spread));
	/* a veth without native XDP takes no note of queues */
	mr_spread_warn(&s, queue, cnt, info->device_queue_cnt,
		info->mode == MR_MODE_GENERIC && !strcmp(d->driver, "veth"), info->spread_why,
		sizeof(info->spread_why));
}

/* The device queues that get a socket, in order; returns how many or a negative errno. */
static int queues_wanted(
	const struct mr_config_interface *c, const struct mr_device *d, uint16_t *queue, struct mr_error *e)
{
	int cnt = 0;

	if (!c->queues.cnt) {
		if (d->rx_queue_cnt > MR_MAX_QUEUES)
			return mr_error_set(e, -E2BIG,
				"%s has %u receive queues, at most %u can be served: set channels: %u, or name some of "
				"them with queues",
				d->name, d->rx_queue_cnt, MR_MAX_QUEUES, MR_MAX_QUEUES);
		while (cnt < d->rx_queue_cnt) {
			queue[cnt] = (uint16_t)cnt;
			cnt++;
		}
	}
	for (uint32_t r = 0; r < c->queues.cnt; r++)
		for (uint32_t q = c->queues.items[r].lo; q <= c->queues.items[r].hi; q++) {
			if (q >= d->rx_queue_cnt)
				return mr_error_set(e, -EINVAL, "%s has no receive queue %u, the last is %d", d->name,
					q, d->rx_queue_cnt - 1);
			if (cnt == MR_MAX_QUEUES)
				return mr_error_set(
					e, -E2BIG, "at most %u queues of %s can be served", MR_MAX_QUEUES, d->name);
			queue[cnt++] = (uint16_t)q;
		}
	/* the kernel would take frames for a transmit queue that is not there and never send them */
	if (cnt && queue[cnt - 1] >= d->tx_queue_cnt)
		return mr_error_set(e, -EINVAL,
			"%s has fewer transmit queues (%u) than the receive queues to serve: make them as many with "
			"`ethtool -L %s`",
			d->name, d->tx_queue_cnt, d->name);
	return cnt;
}

static int mtu_check(const struct mr_device *d, uint32_t frame_bytes, struct mr_error *e)
{
	const uint32_t room = frame_bytes - MR_XSK_HEADROOM_BYTES, need = d->mtu + MR_INTERFACE_L2_BYTES;

	if (need <= room)
		return 0;
	if (frame_bytes < 4096 && need <= 4096 - MR_XSK_HEADROOM_BYTES)
		return mr_error_set(e, -EMSGSIZE,
			"%s has MTU %u, frames of up to %u bytes with Ethernet and VLAN headers, but a packet frame of "
			"%u holds %u: set "
			"memory.frame_size to 4096, or the MTU to %u",
			d->name, d->mtu, need, frame_bytes, room, room - MR_INTERFACE_L2_BYTES);
	return mr_error_set(e, -EMSGSIZE,
		"%s has MTU %u, frames of up to %u bytes with Ethernet and VLAN headers, but a packet frame of %u "
		"holds %u: set the MTU to %u",
		d->name, d->mtu, need, frame_bytes, room, room - MR_INTERFACE_L2_BYTES);
}

/* A program that is to drop when its sockets are gone does so whichever socket is missing. */
bool mr_interface_drops_unserved(const struct mr_config_interface *c)
{
	return c->on_exit == MR_EXIT_DROP || c->unserved == MR_EXIT_DROP;
}

/* With `channels: N` the device is taken for what it will be. */
static int channels_check(const struct mr_config_interface *c, struct mr_device *d, struct mr_error *e)
{
	struct mr_device_channels want;
	int err = c->channels ? mr_device_channels_for(d, (unsigned)c->channels, &want, e) : 0;

	if (!err && c->channels)
		d->rx_queue_cnt = d->tx_queue_cnt = (uint16_t)c->channels;
	return err;
}

/* Queues that nobody serves are meant: one of the keys that are about them is given. */
static int unserved_check(const struct mr_config_interface *c, const struct mr_device *d, const uint16_t *queue,
	unsigned cnt, struct mr_error *e)
{
	struct mr_device_channels want;
	char channels[64] = "";

	if (cnt >= d->rx_queue_cnt || c->has_unserved || c->has_channels)
		return 0;
	/* where the device can be made to have just these */
	if (queue[cnt - 1] == cnt - 1 && !mr_device_channels_for(d, cnt, &want, NULL))
		snprintf(channels, sizeof(channels), "channels: %u to have no others, ", cnt);
	return mr_error_set(e, -EINVAL,
		"%s has %u receive queues and %u of them would have a socket: set %squeues: all to serve them all, or "
		"say with unserved: pass or drop what becomes of matched packets on the others",
		d->name, d->rx_queue_cnt, cnt, channels);
}

/* Everything that can be said about a device before it is changed. */
int mr_interface_check_device(const struct mr_config_interface *c, uint32_t frame_bytes, struct mr_device *d,
	uint16_t *queue, int *queue_cnt, struct mr_error *e)
{
	int err = mr_device_query(c->device, d, e);

	if (err)
		return err;
	if (!d->ethernet)
		return mr_error_set(e, -EOPNOTSUPP, "%s is not an Ethernet device", d->name);
	if (!d->admin_up)
		return mr_error_set(e, -ENETDOWN, "%s is down: `ip link set dev %s up`", d->name, d->name);
	if (c->on_exit == MR_EXIT_DROP)
		err = c->attach == MR_ATTACH_SHARED
			? mr_error_set(e, -EOPNOTSUPP,
				  "%s: on_exit: drop needs a link of its own: set attach: link, "
				  "or on_exit: pass",
				  d->name)
			: mr_leave_check(d->name, e);
	if (err)
		return err;
	err = mtu_check(d, frame_bytes, e);
	if (err)
		return err;
	err = channels_check(c, d, e);
	if (!err)
		err = queues_wanted(c, d, queue, e);
	if (err < 0)
		return err;
	*queue_cnt = err;
	return unserved_check(c, d, queue, (unsigned)err, e);
}

int mr_interface_check_free(const struct mr_config_interface *c, const struct mr_device *d, struct mr_error *e)
{
	return c->attach == MR_ATTACH_SHARED ? mr_dispatch_check(d, e) : mr_attach_check_free(d, e);
}

int mr_interface_check(
	const struct mr_config_interface *c, uint32_t frame_bytes, struct mr_interface_info *out, struct mr_error *e)
{
	struct mr_interface_info info = {
		.name = c->name, .kind = mr_interface_kind_of(c), .numa_node = -1, .up = true
	};
	uint16_t queue[MR_MAX_QUEUES];
	struct mr_device d;
	int err, cnt = 1;

	if (info.kind == MR_INTERFACE_XSK) {
		err = mr_interface_check_device(c, frame_bytes, &d, queue, &cnt, e);
		if (err)
			return err;
		err = mr_interface_check_free(c, &d, e);
		if (err &&
			(err != -EBUSY || !mr_attach_holder(&d, info.held_by, sizeof(info.held_by), &info.held_left)))
			return err;
		mr_interface_describe(&info, c, &d);
		info.exit_drop = c->on_exit == MR_EXIT_DROP;
		info.unserved_drop = mr_interface_drops_unserved(c);
		info.mode = (enum mr_mode)c->mode; /* what will be got shows when it is bound */
		info.channels = (uint16_t)c->channels;
		info.promiscuous = c->promiscuous;
		mr_interface_describe_spread(&info, &d, queue, (unsigned)cnt);
	} else {
		info.mtu = frame_bytes - MR_XSK_HEADROOM_BYTES - MR_INTERFACE_L2_BYTES;
		info.device_queue_cnt = 1;
		const struct mr_config_interface loop = { .pcap_in = c->memory.file };
		err = mr_pcap_check(info.kind == MR_INTERFACE_PCAP ? c : &loop, e);
		if (err)
			return err;
	}
	info.queue_cnt = (uint16_t)cnt;
	*out = info;
	return 0;
}
