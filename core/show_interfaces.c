/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/egress.h"
#include "core/offload_device.h"
#include "core/show_part.h"
#include "core/steer.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#define QUEUE_COUNTER(key, member)                              \
	{                                                       \
		key, offsetof(struct mr_queue_counters, member) \
	}

static const struct {
	const char *key;
	size_t offset;
} queue_counters[] = {
	QUEUE_COUNTER("rx_packets", rx_packets),
	QUEUE_COUNTER("rx_bytes", rx_bytes),
	QUEUE_COUNTER("tx_packets", tx_packets),
	QUEUE_COUNTER("tx_bytes", tx_bytes),
	QUEUE_COUNTER("tx_lost_packets", tx_lost),
	QUEUE_COUNTER("rx_no_frame_cnt", rx_no_frame),
	QUEUE_COUNTER("rx_too_long_packets", rx_too_long),
	QUEUE_COUNTER("kicks_cnt", kicks),
	QUEUE_COUNTER("kernel_rx_dropped_packets", kernel_rx_dropped),
	QUEUE_COUNTER("kernel_rx_ring_full_packets", kernel_rx_ring_full),
	QUEUE_COUNTER("kernel_fill_empty_cnt", kernel_fill_empty),
	QUEUE_COUNTER("kernel_rx_invalid_packets", kernel_rx_invalid),
	QUEUE_COUNTER("kernel_tx_invalid_packets", kernel_tx_invalid),
};

#define QUEUE_COUNTERS (sizeof(queue_counters) / sizeof(queue_counters[0]))

_Static_assert(sizeof(struct mr_queue_counters) == QUEUE_COUNTERS * sizeof(uint64_t), "a queue counter is not shown");

static uint64_t *counter_at(struct mr_queue_counters *c, unsigned i)
{
	return (uint64_t *)(void *)((char *)c + queue_counters[i].offset);
}

static int put_counters(json_t *o, struct mr_queue_counters *c)
{
	int err = 0;
	for (unsigned i = 0; i < QUEUE_COUNTERS; i++)
		err |= json_object_set_new(o, queue_counters[i].key, json_integer((json_int_t)*counter_at(c, i)));
	return err;
}

/* Adds one queue's counters to the sum and to the list. */
static int put_queue(struct mr_queue *q, struct mr_queue_counters *sum, json_t *list)
{
	struct mr_queue_counters now;
	json_t *o = json_pack("{s:i}", "queue", (int)q->queue_idx);
	for (unsigned i = 0; i < QUEUE_COUNTERS; i++) {
		*counter_at(&now, i) = __atomic_load_n(counter_at(&q->counters, i), __ATOMIC_RELAXED);
		*counter_at(sum, i) += *counter_at(&now, i);
	}
	if (!o || put_counters(o, &now)) {
		json_decref(o);
		return -1;
	}
	return json_array_append_new(list, o);
}

static const char *mode_name(enum mr_mode mode)
{
	static const char *const names[] = { "auto", "zerocopy", "copy", "generic" };
	return (unsigned)mode < 4 ? names[mode] : "?";
}

static const char *exit_name(bool drop)
{
	return drop ? "drop" : "pass";
}

static int put_info(json_t *o, const struct mr_interface_info *info)
{
	static const char *const kinds[] = { "xsk", "pcap", "memory" };
	char mac[18];
	bool xsk = info->kind == MR_INTERFACE_XSK;
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", info->mac[0], info->mac[1], info->mac[2],
		info->mac[3], info->mac[4], info->mac[5]);
	json_t *more = json_pack(
		"{s:s, s:o, s:o, s:s?, s:o, s:I, s:i, s:s?, s:i, s:i, s:i, s:i, s:b, s:b, s:o, s:o, s:o, s:s?, s:s?}",
		"kind", (unsigned)info->kind < 3 ? kinds[info->kind] : "?", "device", mr_show_text(info->device),
		"driver", mr_show_text(info->driver), "mode", xsk ? mode_name(info->mode) : NULL, "mode_why",
		mr_show_text(info->mode_why), "ifindex", (json_int_t)info->ifindex, "mtu_bytes", (int)info->mtu, "mac",
		xsk ? mac : NULL, "queue_cnt", (int)info->queue_cnt, "device_queue_cnt", (int)info->device_queue_cnt,
		"unserved_queue_cnt",
		info->device_queue_cnt > info->queue_cnt ? info->device_queue_cnt - info->queue_cnt : 0, "numa_node",
		info->numa_node, "link_up", (int)info->up, "promiscuous", (int)info->promiscuous, "channels_set",
		info->channels ? json_integer(info->channels) : json_null(), "rss",
		xsk ? mr_show_text(info->spread) : json_null(), "rss_why", mr_show_text(info->spread_why), "on_exit",
		xsk ? exit_name(info->exit_drop) : NULL, "unserved", xsk ? exit_name(info->unserved_drop) : NULL);
	int err = more ? json_object_update(o, more) : -1;
	json_decref(more);
	return err;
}

/* What the steering programs saw, before any socket: the one there is now and those before it. */
static int put_steer(json_t *o, const struct mr_steer *now, const struct mr_steer_counters *before)
{
	struct mr_steer_counters c = { 0 };
	if (now && mr_steer_read_counters(now, &c))
		return 0;
	return json_object_set_new(o, "steer",
		json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "steered_packets",
			(json_int_t)(c.steered + before->steered), "no_socket_packets",
			(json_int_t)(c.no_socket + before->no_socket), "unserved_dropped_packets",
			(json_int_t)(c.unserved + before->unserved), "passed_packets",
			(json_int_t)(c.passed + before->passed), "unparsed_packets",
			(json_int_t)(c.unparsed + before->unparsed), "handed_back_packets",
			(json_int_t)(c.handed_back + before->handed_back)));
}

/* Whether its packets are left to the kernel tier, and why not. */
static bool offload_in(struct mr_runtime *rt, unsigned id, char *why, size_t why_bytes)
{
	const struct mr_runtime_interface *ri = &rt->interface[id];
	if (!ri->open) {
		snprintf(why, why_bytes, "it is not open");
		return false;
	}
	bool may = mr_offload_in(mr_runtime_plan(rt)->config, &ri->config, mr_interface_info(ri->open), why, why_bytes);
	if (may && !rt->sh.tier)
		snprintf(why, why_bytes, "%s%.250s",
			rt->tier_wanted ? "there is no kernel tier: "
					: "nothing wanted a kernel tier when the program started: restart it",
			rt->tier_why);
	return may && rt->sh.tier;
}

static const char *offload_out_why(struct mr_runtime *rt, unsigned id, const char *why)
{
	const struct mr_runtime_interface *ri = &rt->interface[id];
	if (!ri->open)
		return "it is not open";
	if (ri->is_file)
		return "capture files and memory are not sent by the kernel";
	if (!rt->sh.tier)
		return "there is no kernel tier";
	return why[0] ? why : "the link is down";
}

static int put_offload(json_t *o, struct mr_runtime *rt, unsigned id)
{
	struct mr_egress_count count;
	const char *out_why = "";
	char in_why[384];
	bool in = offload_in(rt, id, in_why, sizeof(in_why));
	bool out = mr_egress_is(rt, id, &out_why);
	mr_egress_counted(rt, id, &count);
	return json_object_set_new(o, "offload",
		json_pack("{s:b, s:o, s:b, s:o, s:I, s:I, s:I}", "in", (int)in, "in_why", mr_show_text(in_why), "out",
			(int)out, "out_why", mr_show_text(out ? "" : offload_out_why(rt, id, out_why)), "sent_packets",
			(json_int_t)count.sent_packets, "sent_bytes", (json_int_t)count.sent_bytes, "lost_packets",
			(json_int_t)count.lost_packets));
}

static json_t *one_interface(struct mr_runtime *rt, unsigned id)
{
	struct mr_runtime_interface *ri = &rt->interface[id];
	struct mr_queue_counters sum = ri->closed;
	json_t *queues = json_array();
	json_t *o = json_pack("{s:o, s:i, s:s, s:o, s:I}", "name", mr_show_text(ri->name), "id", (int)id, "state",
		!ri->open               ? "absent"
			: ri->link_down ? "down"
					: "up",
		"why", mr_show_text(ri->open ? "" : ri->absent_why), "opened_cnt", (json_int_t)ri->opened_cnt);
	int err = !o || !queues;
	if (!err && ri->open) {
		mr_interface_poll(ri->open);
		err |= put_info(o, mr_interface_info(ri->open));
		for (unsigned i = 0; i < mr_interface_queue_cnt(ri->open); i++)
			err |= put_queue(mr_interface_queue(ri->open, i), &sum, queues);
	}
	if (!err && !ri->is_file)
		err = put_steer(o, ri->open ? mr_interface_steer(ri->open) : NULL, &ri->closed_steer);
	if (!err)
		err = put_offload(o, rt, id) || put_counters(o, &sum) || json_object_set(o, "queues", queues) ||
			mr_show_traffic(rt, mr_show_pair_of_interface, ri->name, o);
	json_decref(queues);
	if (err) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static json_t *removed_interface(struct mr_runtime *rt, struct mr_runtime_removed *r)
{
	json_t *o = json_pack("{s:o, s:i, s:s, s:s, s:I, s:[]}", "name", mr_show_text(r->name), "id", (int)r->id,
		"state", "removed", "why", "not in this configuration any more", "opened_cnt",
		(json_int_t)r->opened_cnt, "queues");
	int err = o ? 0 : -1;
	if (!err && !r->is_file)
		err = put_steer(o, NULL, &r->closed_steer);
	if (!err)
		err = put_counters(o, &r->closed) || mr_show_traffic(rt, mr_show_pair_of_interface, r->name, o);
	if (err) {
		json_decref(o);
		return NULL;
	}
	return o;
}

json_t *mr_show_interfaces(struct mr_runtime *rt)
{
	json_t *list = json_array();
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		if (rt->interface[id].name && json_array_append_new(list, one_interface(rt, id))) {
			json_decref(list);
			return NULL;
		}
	}
	for (unsigned i = 0; i < MR_MAX_INTERFACES && rt->removed[i].name; i++) {
		if (json_array_append_new(list, removed_interface(rt, &rt->removed[i]))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}
