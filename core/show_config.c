/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/show_part.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The configuration in force, defaults filled in: what the file means, not how it is written. */

static json_int_t ms(uint64_t ns)
{
	return (json_int_t)(ns / 1000000);
}

static json_t *word(const char *const *words, unsigned cnt, int v)
{
	return v >= 0 && (unsigned)v < cnt ? json_string(words[v]) : json_null();
}

#define WORD(v, ...)                               \
	word((const char *const[]){ __VA_ARGS__ }, \
		sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(const char *), v)

static json_t *ranges(const struct mr_range_list *l)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < l->cnt; i++) {
		char buf[32];
		if (l->items[i].lo == l->items[i].hi)
			snprintf(buf, sizeof(buf), "%u", l->items[i].lo);
		else
			snprintf(buf, sizeof(buf), "%u-%u", l->items[i].lo, l->items[i].hi);
		json_array_append_new(list, json_string(buf));
	}
	return list;
}

static json_t *strings(const struct mr_string_list *l)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < l->cnt; i++)
		json_array_append_new(list, mr_show_text(l->items[i]));
	return list;
}

static json_t *offload_word(int kind)
{
	return WORD(kind, "never", "established", "always");
}

static json_t *flows(const struct mr_config_flows *f)
{
	const struct mr_config_timeouts *t = &f->timeouts;
	json_t *timeouts = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "udp_ms", ms(t->udp_ns), "udp_unreplied_ms",
		ms(t->udp_unreplied_ns), "tcp_established_ms", ms(t->tcp_established_ns), "tcp_transitory_ms",
		ms(t->tcp_transitory_ns), "tcp_closed_ms", ms(t->tcp_closed_ns), "icmp_ms", ms(t->icmp_ns), "other_ms",
		ms(t->other_ns));
	return json_pack("{s:I, s:I, s:o, s:b, s:I, s:o}", "capacity_cnt", (json_int_t)f->capacity, "half_open_max_cnt",
		(json_int_t)f->half_open_max, "offload", offload_word(f->offload), "offload_given", (int)f->has_offload,
		"offload_after_packets", (json_int_t)f->offload_after, "timeouts", timeouts);
}

static json_t *interface(const struct mr_config_interface *i)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:b, s:I, s:I, s:I}",
		"name", mr_show_text(i->name), "device", mr_show_text(i->device), "pcap", mr_show_text(i->pcap_in),
		"out", mr_show_text(i->pcap_out), "memory", mr_show_text(i->has_memory ? i->memory.file : NULL), "mode",
		WORD(i->mode, "auto", "zerocopy", "copy", "generic"), "queues", ranges(&i->queues), "channels",
		i->channels ? json_integer((json_int_t)i->channels) : json_string("keep"), "zone",
		mr_show_text(i->zone), "vlan_zones", (int)i->vlan_zones, "on_exit",
		WORD(i->on_exit, "auto", "pass", "drop"), "unserved", WORD(i->unserved, "auto", "pass", "drop"),
		"attach", WORD(i->attach, "link", "shared"), "promiscuous", (int)i->promiscuous, "rx_ring_cnt",
		(json_int_t)i->rx_ring, "tx_ring_cnt", (json_int_t)i->tx_ring, "line", (json_int_t)i->at.line);
}

static json_t *set(const struct mr_config_set *s)
{
	bool ports = s->type == MR_SET_PORT;
	return json_pack("{s:o, s:s, s:o, s:I, s:I}", "name", mr_show_text(s->name), "type", ports ? "port" : "prefix",
		"file", mr_show_text(s->file), "entries_cnt", (json_int_t)(ports ? s->ports.cnt : s->prefixes.cnt),
		"line", (json_int_t)s->at.line);
}

static json_t *stage(const struct mr_config_stage *s)
{
	return json_pack("{s:o, s:o, s:I}", "name", mr_show_text(s->name), "type", mr_show_text(s->type), "line",
		(json_int_t)s->at.line);
}

static json_t *pipeline(const struct mr_config_pipeline *p)
{
	return json_pack("{s:o, s:o, s:o, s:I, s:I, s:o, s:o, s:o, s:o, s:I}", "name", mr_show_text(p->name), "from",
		strings(&p->from), "match", WORD(p->match_kind, "all", "list", "auto"), "match_cnt",
		(json_int_t)p->match_cnt, "except_cnt", (json_int_t)p->except_cnt, "stages", strings(&p->stages), "to",
		p->to_kind == MR_TO_INTERFACE ? mr_show_text(p->to) : WORD(p->to_kind, "", "back", "kernel", "route"),
		"state", WORD(p->state, "sessions", "none"), "offload", offload_word(p->offload), "line",
		(json_int_t)p->at.line);
}

#define LIST(out, items, cnt, make)                                     \
	do {                                                            \
		(out) = json_array();                                   \
		for (uint32_t i_ = 0; i_ < (cnt); i_++)                 \
			json_array_append_new(out, make(&(items)[i_])); \
	} while (0)

json_t *mr_show_config(struct mr_runtime *rt)
{
	const struct mr_plan *plan = mr_runtime_plan(rt);
	const struct mr_config *c = plan ? plan->config : NULL;
	json_t *interfaces, *sets, *stages, *pipelines;
	if (!c)
		return json_pack("{s:o}", "path", mr_show_text(rt->opt.path));
	LIST(interfaces, c->interfaces, c->interface_cnt, interface);
	LIST(sets, c->sets, c->set_cnt, set);
	LIST(stages, c->stages, c->stage_cnt, stage);
	LIST(pipelines, c->pipelines, c->pipeline_cnt, pipeline);
	json_t *workers = json_pack("{s:o, s:i, s:o, s:I}", "cores", ranges(&c->workers.cores), "worker_cnt",
		(int)plan->worker_cnt, "idle", WORD(c->workers.idle, "adaptive", "spin", "poll"), "spin_ns",
		(json_int_t)c->workers.spin_ns);
	json_t *memory = json_pack("{s:I, s:I, s:o}", "frames_cnt", (json_int_t)c->memory.frames_cnt, "frame_bytes",
		(json_int_t)c->memory.frame_bytes, "huge_pages", WORD(c->memory.huge, "auto", "always", "never"));
	return json_pack("{s:o, s:I, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "path", mr_show_text(c->path),
		"loaded_at_s", (json_int_t)rt->loaded_at, "last_reload", mr_show_text(rt->last_reload),
		"reload_failures_cnt", (json_int_t)rt->reload_failures, "workers", workers, "memory", memory, "flows",
		flows(&c->flows), "plugins", strings(&c->plugins), "interfaces", interfaces, "sets", sets, "stages",
		stages, "pipelines", pipelines);
}
