/* SPDX-License-Identifier: BSD-2-Clause */
/* check.c - what `millrace check` does: everything up to touching the system, then tells the plan. */
#include "core/offload.h"
#include "core/offload_device.h"
#include "core/redirect.h"
#include "core/reload.h"
#include "core/route.h"
#include "core/show_part.h"
#include "core/stage_check.h"
#include "core/tier.h"

#include <errno.h>
#include <jansson.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>

static const char *const mode_names[] = { "auto", "zerocopy", "copy", "generic" };
static const char *const to_names[] = { "", "back", "kernel", "route" };

struct check {
	struct mr_config *config;
	struct mr_interface_info info[MR_MAX_INTERFACES];
	unsigned worker_cnt;
	json_t *warnings;
};

static void warn(struct check *k, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void warn(struct check *k, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	json_array_append_new(k->warnings, json_string(text));
}

static void warn_of_stage(void *ctx, const char *text)
{
	warn(ctx, "%s", text);
}

/* What of the kernel tier it will have, as far as that can be told before its program is on the device. */
static json_t *offload_json(struct check *k, const struct mr_config_interface *c, const struct mr_interface_info *info,
	struct mr_redirect *r)
{
	char in_why[160] = "", out_why[320] = "no pipeline leaves flows to the kernel";
	bool in = mr_offload_in(k->config, c, info, in_why, sizeof(in_why)), out = false;
	if (!info->up)
		snprintf(out_why, sizeof(out_why), "the link is down");
	else if (mr_offload_wanted(k->config) && r)
		out = mr_redirect_target(r, info->ifindex, info->device, info->driver, out_why, sizeof(out_why)) ||
			(info->mode != MR_MODE_GENERIC && mr_redirect_driver(info->driver));
	return json_pack("{s:b, s:s, s:b, s:s}", "in", (int)in, "in_why", in_why, "out", (int)out, "out_why",
		out ? "" : out_why);
}

static void warn_of_device(struct check *k, const struct mr_config_interface *c, const struct mr_interface_info *info)
{
	if (info->spread_why[0] && k->worker_cnt > 1)
		warn(k, "interfaces.%s: %s", c->name, info->spread_why);
	if (info->held_by[0])
		warn(k,
			info->held_left
				? "interfaces.%s: %s still has the program that instance '%s' left (on_exit: drop): "
				  "its next start takes it over, another instance is refused"
				: "interfaces.%s: %s is in use by the running instance '%s': a reload of it keeps it, "
				  "another run is refused",
			c->name, c->device, info->held_by);
	if (info->locks_out)
		warn(k,
			"interfaces.%s: when Millrace ends, everything that arrives on %s is dropped, ARP and SSH to "
			"this machine too (match: all, on_exit: drop): set on_exit: pass if it is reached that way",
			c->name, c->device);
	if (info->beside[0])
		warn(k, "interfaces.%s: %s", c->name, info->beside);
	if (info->queue_cnt < info->device_queue_cnt)
		warn(k, "interfaces.%s: %u of %u queues have a socket; matched packets on the others %s", c->name,
			info->queue_cnt, info->device_queue_cnt,
			c->unserved == MR_EXIT_DROP ? "are dropped (unserved: drop)" : "stay with the kernel");
}

static void put_device(struct check *k, json_t *o, const struct mr_config_interface *c,
	const struct mr_interface_info *info, struct mr_redirect *r)
{
	json_object_set_new(o, "device", json_string(c->device));
	json_object_set_new(o, "driver", json_string(info->driver));
	json_object_set_new(o, "mode_asked", json_string(mode_names[c->mode]));
	json_object_set_new(o, "mtu_bytes", json_integer(info->mtu));
	json_object_set_new(o, "device_queues", json_integer(info->device_queue_cnt));
	json_object_set_new(o, "link", json_string(info->up ? "up" : "down"));
	json_object_set_new(o, "on_exit", json_string(c->on_exit == MR_EXIT_DROP ? "drop" : "pass"));
	json_object_set_new(o, "on_exit_because", c->on_exit_why ? json_string(c->on_exit_why) : json_null());
	json_object_set_new(o, "unserved", json_string(c->unserved == MR_EXIT_DROP ? "drop" : "pass"));
	json_object_set_new(o, "promiscuous", json_boolean(info->promiscuous));
	json_object_set_new(o, "channels_set", info->channels ? json_integer(info->channels) : json_null());
	json_object_set_new(o, "rss", json_string(info->spread));
	json_object_set_new(o, "offload", offload_json(k, c, info, r));
	if (info->held_by[0])
		json_object_set_new(o, "held_by", json_string(info->held_by));
}

static json_t *interfaces_json(struct check *k)
{
	json_t *all = json_array();
	struct mr_redirect *r = NULL;
	if (mr_redirect_open(&r, NULL))
		r = NULL;
	for (uint32_t i = 0; i < k->config->interface_cnt; i++) {
		const struct mr_config_interface *c = &k->config->interfaces[i];
		const struct mr_interface_info *info = &k->info[i];
		json_t *o = json_pack("{s:s, s:s, s:i}", "name", c->name, "kind",
			info->kind == MR_INTERFACE_XSK            ? "device"
				: info->kind == MR_INTERFACE_PCAP ? "pcap"
								  : "memory",
			"queues", info->queue_cnt);
		if (info->kind == MR_INTERFACE_XSK) {
			put_device(k, o, c, info, r);
			warn_of_device(k, c, info);
		}
		if (info->queue_cnt < k->worker_cnt && info->kind == MR_INTERFACE_XSK)
			warn(k,
				"interfaces.%s: %u queue%s for %u workers: what it receives cannot be spread over more "
				"than %u of them; what others send there crosses to those by a hand-off ring",
				c->name, info->queue_cnt, info->queue_cnt == 1 ? "" : "s", k->worker_cnt,
				info->queue_cnt);
		json_array_append_new(all, o);
	}
	mr_redirect_close(r);
	return all;
}

static const struct mr_config_interface *interface_named(const struct mr_config *c, const char *name)
{
	for (uint32_t i = 0; i < c->interface_cnt; i++)
		if (!strcmp(c->interfaces[i].name, name))
			return &c->interfaces[i];
	return NULL;
}

static bool wire_from_to(const struct mr_config_pipeline *p, const char *from, const char *to)
{
	if (p->to_kind != MR_TO_INTERFACE || p->state != MR_STATE_SESSIONS || strcmp(p->to, to))
		return false;
	for (uint32_t i = 0; i < p->from.cnt; i++)
		if (!strcmp(p->from.items[i], from))
			return true;
	return false;
}

static bool wire(const struct mr_config *c, const char *from, const char *to)
{
	for (uint32_t i = 0; i < c->pipeline_cnt; i++)
		if (wire_from_to(&c->pipelines[i], from, to))
			return true;
	return false;
}

/* Replies are looked for in the zone they come in by. */
static void warn_of_zones(struct check *k)
{
	const struct mr_config *c = k->config;
	for (uint32_t i = 0; i < c->interface_cnt; i++)
		for (uint32_t j = i + 1; j < c->interface_cnt; j++) {
			const struct mr_config_interface *a = &c->interfaces[i], *b = &c->interfaces[j];
			if (strcmp(a->zone, b->zone) && wire(c, a->name, b->name) && wire(c, b->name, a->name))
				warn(k,
					"interfaces.%s and interfaces.%s are the ends of one wire but of different "
					"zones ('%s', "
					"'%s'): flows that begin on one never see their replies from the other",
					a->name, b->name, a->zone, b->zone);
		}
	for (uint32_t i = 0; i < c->pipeline_cnt; i++) {
		const struct mr_config_pipeline *p = &c->pipelines[i];
		for (uint32_t n = 0; p->to_kind == MR_TO_ROUTE && p->state == MR_STATE_SESSIONS && n < p->from.cnt;
			n++) {
			const struct mr_config_interface *from = interface_named(c, p->from.items[n]);
			if (from && from->vlan_zones)
				warn(k,
					"pipelines.%s routes what comes from '%s', which has vlan_zones: a reply "
					"belongs to its flow "
					"only when it comes in with the same VLAN id",
					p->name, from->name);
		}
	}
}

static void add_unmirrored(void *ctx, const char *affects, const char *sentence)
{
	warn(ctx, "routing (%s): %s", affects, sentence);
}

/* What of the kernel's routing is not followed, when the file routes: the mirror is opened for a moment, and asks the kernel for nothing
 * but its tables. */
static void warn_of_routing(struct check *k)
{
	struct mr_routes_options opt = { 0 };
	struct mr_routes *r;
	struct mr_error e = { "" };
	bool routes = false;
	for (uint32_t i = 0; i < k->config->pipeline_cnt; i++)
		routes |= k->config->pipelines[i].to_kind == MR_TO_ROUTE;
	if (!routes || mr_routes_create(&opt, &r, &e))
		return;
	for (uint32_t i = 0; i < k->config->interface_cnt && i < MR_MAX_INTERFACES; i++) {
		const char *device = k->config->interfaces[i].device;
		if (device)
			mr_routes_interface(r, i + 1, if_nametoindex(device));
	}
	if (mr_routes_open(r, &e))
		warn(k, "routing: %s", e.text);
	else
		mr_routes_unmirrored(r, add_unmirrored, k);
	mr_routes_destroy(r);
}

static json_t *names_json(const struct mr_string_list *l)
{
	json_t *a = json_array();
	for (uint32_t i = 0; i < l->cnt; i++)
		json_array_append_new(a, json_string(l->items[i]));
	return a;
}

static json_t *pipelines_json(struct check *k)
{
	json_t *all = json_array();
	for (uint32_t i = 0; i < k->config->pipeline_cnt; i++) {
		const struct mr_config_pipeline *p = &k->config->pipelines[i];
		const char *match = p->match_kind == MR_MATCH_ALL ? "all"
			: p->match_kind == MR_MATCH_AUTO          ? "auto"
								  : "list";
		json_array_append_new(all,
			json_pack("{s:s, s:o, s:s, s:i, s:i, s:o, s:s, s:s}", "name", p->name, "from",
				names_json(&p->from), "match", match, "match_entries", (int)p->match_cnt,
				"except_entries", (int)p->except_cnt, "stages", names_json(&p->stages), "to",
				p->to_kind == MR_TO_INTERFACE ? p->to : to_names[p->to_kind], "state",
				p->state == MR_STATE_NONE ? "none" : "sessions"));
	}
	return all;
}

static json_t *workers_json(struct check *k)
{
	json_t *all = json_array();
	for (unsigned w = 0; w < k->worker_cnt; w++) {
		int core = mr_runtime_worker_core(k->config, w);
		json_array_append_new(all, core < 0 ? json_null() : json_integer(core));
	}
	return all;
}

static json_t *memory_json(struct check *k)
{
	const struct mr_config *c = k->config;
	unsigned queue_cnt[MR_MAX_INTERFACES];
	for (uint32_t i = 0; i < c->interface_cnt; i++)
		queue_cnt[i] = k->info[i].queue_cnt;
	uint64_t frames =
		c->memory.frames_cnt ? c->memory.frames_cnt : mr_runtime_frames_default(c, queue_cnt, k->worker_cnt);
	uint64_t rings = 0;
	for (uint32_t i = 0; i < c->interface_cnt; i++)
		rings += queue_cnt[i] * c->interfaces[i].rx_ring;
	if (frames < rings)
		warn(k, "memory.frames: %llu frames cannot fill all receive rings (%llu descriptors)",
			(unsigned long long)frames, (unsigned long long)rings);
	struct mr_tier_options tier = { .flows_bytes = { mr_flows_bytes4(c->flows.capacity * 2),
						mr_flows_bytes6(c->flows.capacity * 2) } };
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "frames", (json_int_t)frames, "frame_bytes",
		(json_int_t)c->memory.frame_bytes, "packet_bytes", (json_int_t)(frames * c->memory.frame_bytes),
		"flow_capacity", (json_int_t)c->flows.capacity, "flow_table_bytes",
		(json_int_t)(tier.flows_bytes[0] + tier.flows_bytes[1]), "kernel_memory_bytes",
		(json_int_t)(mr_offload_wanted(c) ? mr_tier_bytes(&tier) : 0));
}

static int gather(struct check *k, const char *path, struct mr_error *e)
{
	int err = mr_reload_read(path, &k->config, e);
	if (err)
		return err;
	k->worker_cnt = mr_runtime_worker_cnt(k->config);
	for (uint32_t i = 0; i < k->config->interface_cnt; i++) {
		const struct mr_config_interface *c = &k->config->interfaces[i];
		err = mr_interface_check(c, k->config->memory.frame_bytes, &k->info[i], e);
		if (err)
			return mr_reload_place(k->config, c, err, e);
	}
	return 0;
}

static void print_list(FILE *out, const json_t *list)
{
	size_t i;
	json_t *v;
	json_array_foreach(list, i, v) fprintf(out, "%s%s", i ? ", " : "", json_string_value(v));
}

static void print_offload(FILE *out, const json_t *offload)
{
	static const char *const way[][2] = { { "in", "in_why" }, { "out", "out_why" } };
	fprintf(out, "  %-12s kernel tier:", "");
	for (unsigned i = 0; i < 2; i++) {
		const char *why = json_string_value(json_object_get(offload, way[i][1]));
		fprintf(out, "%s %s %s%s%s", i ? ";" : "", way[i][0],
			json_is_true(json_object_get(offload, way[i][0])) ? "yes" : "no", *why ? ": " : "", why);
	}
	fputc('\n', out);
}

static void print_interfaces(FILE *out, const json_t *interfaces)
{
	size_t i;
	json_t *o;
	json_array_foreach(interfaces, i, o)
	{
		const char *device = json_string_value(json_object_get(o, "device"));
		fprintf(out, "  %-12s %s", json_string_value(json_object_get(o, "name")),
			device ? device : json_string_value(json_object_get(o, "kind")));
		if (device)
			fprintf(out, " (driver %s), mode %s, MTU %lld, link %s",
				json_string_value(json_object_get(o, "driver")),
				json_string_value(json_object_get(o, "mode_asked")),
				json_integer_value(json_object_get(o, "mtu_bytes")),
				json_string_value(json_object_get(o, "link")));
		fprintf(out, ", %lld queue(s)%s%s\n", json_integer_value(json_object_get(o, "queues")),
			json_is_integer(json_object_get(o, "channels_set")) ? ", channels set" : "",
			json_is_true(json_object_get(o, "promiscuous")) ? ", promiscuous" : "");
		if (device)
			fprintf(out, "  %-12s RSS: %s\n", "", json_string_value(json_object_get(o, "rss")));
		if (device)
			print_offload(out, json_object_get(o, "offload"));
		const char *because = json_string_value(json_object_get(o, "on_exit_because"));
		if (device && !strcmp(json_string_value(json_object_get(o, "on_exit")), "drop"))
			fprintf(out,
				"  %-12s when Millrace is gone, what is matched here is dropped (on_exit: drop%s%s)\n",
				"", because ? ", the default behind " : "", because ? because : "");
	}
}

static void print_text(FILE *out, const char *path, const json_t *data)
{
	size_t i;
	json_t *o;
	fprintf(out, "%s is good\n\ninterfaces\n", path);
	print_interfaces(out, json_object_get(data, "interfaces"));
	fprintf(out, "pipelines (first match wins; what matches none stays with the kernel)\n");
	json_array_foreach(json_object_get(data, "pipelines"), i, o)
	{
		fprintf(out, "  %-12s from ", json_string_value(json_object_get(o, "name")));
		print_list(out, json_object_get(o, "from"));
		fprintf(out, ", match %s", json_string_value(json_object_get(o, "match")));
		if (!strcmp(json_string_value(json_object_get(o, "match")), "list"))
			fprintf(out, " of %lld", json_integer_value(json_object_get(o, "match_entries")));
		fprintf(out, ", except %lld, stages [", json_integer_value(json_object_get(o, "except_entries")));
		print_list(out, json_object_get(o, "stages"));
		fprintf(out, "], to %s\n", json_string_value(json_object_get(o, "to")));
	}
	fprintf(out, "workers\n");
	json_array_foreach(json_object_get(data, "worker_cores"), i, o)
	{
		if (json_is_null(o))
			fprintf(out, "  %zu: not pinned\n", i);
		else
			fprintf(out, "  %zu: core %lld\n", i, json_integer_value(o));
	}
	const json_t *m = json_object_get(data, "memory");
	fprintf(out, "memory\n  %lld frames of %lld bytes (%.1f MiB), flow table for %lld sessions (%.1f MiB)\n",
		json_integer_value(json_object_get(m, "frames")), json_integer_value(json_object_get(m, "frame_bytes")),
		json_integer_value(json_object_get(m, "packet_bytes")) / 1048576.0,
		json_integer_value(json_object_get(m, "flow_capacity")),
		json_integer_value(json_object_get(m, "flow_table_bytes")) / 1048576.0);
	json_int_t kernel_bytes = json_integer_value(json_object_get(m, "kernel_memory_bytes"));
	if (kernel_bytes)
		fprintf(out,
			"  %.1f MiB of kernel memory for the kernel tier, the flow table among it, taken at the "
			"start\n",
			kernel_bytes / 1048576.0);
	json_array_foreach(json_object_get(data, "warnings"), i, o) fprintf(out, "warning: %s\n", json_string_value(o));
}

int mr_runtime_check(const char *path, bool json, FILE *out, struct mr_error *e)
{
	struct check *k = calloc(1, sizeof(*k));
	if (!k)
		return mr_error_set(e, -ENOMEM, "out of memory");
	k->warnings = json_array();
	int err = gather(k, path, e);
	if (!err) {
		json_t *data = json_pack("{s:o, s:o, s:o, s:o}", "interfaces", interfaces_json(k), "pipelines",
			pipelines_json(k), "worker_cores", workers_json(k), "memory", memory_json(k));
		warn_of_zones(k);
		warn_of_routing(k);
		err = mr_stage_check(k->config, k->worker_cnt, warn_of_stage, k, e);
		json_object_set(data, "warnings", k->warnings);
		if (err) {
			json_decref(data);
		} else if (json) {
			json_t *envelope = json_pack("{s:s, s:o, s:i, s:o}", "schema", "millrace/check/1", "file",
				mr_show_text(path), "generation", 0, "data", data);
			if (!envelope)
				err = mr_error_set(e, -ENOMEM, "out of memory");
			else if (!json_dumpf(envelope, out, JSON_INDENT(2)))
				fputc('\n', out);
			json_decref(envelope);
		} else {
			print_text(out, path, data);
			json_decref(data);
		}
	}
	mr_config_free(k->config);
	json_decref(k->warnings);
	free(k);
	return err;
}
