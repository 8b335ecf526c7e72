/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"

#include <string.h>
#include <time.h>

/* "blocklist 12, ttl 3", the largest first, at most `most` of them; "-" for none. */
static void reasons(const json_t *dropped, char *out, size_t bytes, unsigned most)
{
	json_int_t below = INT64_MAX;
	size_t at = 0;
	const char *after = NULL; /* among equals the order of the object */
	snprintf(out, bytes, "-");
	for (unsigned n = 0; n < most; n++) {
		const char *key, *best_key = NULL;
		json_int_t best = 0;
		bool passed = false;
		json_t *v;
		json_object_foreach((json_t *)dropped, key, v)
		{
			json_int_t k = json_integer_value(v);
			bool next = k < below || (k == below && passed);
			if (after && !strcmp(key, after))
				passed = true;
			else if (k > best && next) {
				best = k;
				best_key = key;
			}
		}
		if (!best_key)
			return;
		char num[MR_NUMBER_BYTES];
		int len =
			snprintf(out + at, bytes - at, "%s%s %s", at ? ", " : "", best_key, mr_number_count(best, num));
		if (len < 0 || (size_t)len >= bytes - at)
			return;
		at += (size_t)len;
		below = best;
		after = best_key;
	}
}

static void add_count(struct mr_table *t, const json_t *o, const char *key)
{
	char buf[MR_NUMBER_BYTES];
	mr_table_add(t, "%s", mr_number_count(mr_ask_int(o, key), buf));
}

static void add_bytes(struct mr_table *t, const json_t *o, const char *key)
{
	char buf[MR_NUMBER_BYTES];
	mr_table_add(t, "%s", mr_number_bytes(mr_ask_int(o, key), buf));
}

static void add_duration(struct mr_table *t, const json_t *o, const char *key)
{
	char buf[MR_NUMBER_BYTES];
	mr_table_add(t, "%s", mr_number_duration(mr_ask_int(o, key), buf));
}

static void add_dropped(struct mr_table *t, const json_t *o)
{
	char why[160];
	reasons(json_object_get(o, "dropped"), why, sizeof(why), 3);
	add_count(t, o, "dropped_packets");
	mr_table_add(t, "%s", why);
}

/* The items of an array of strings, with a separator. */
static void add_list(struct mr_table *t, const json_t *list, const char *separator)
{
	char line[512] = "";
	size_t at = 0, i;
	json_t *v;
	json_array_foreach(list, i, v)
	{
		int n = snprintf(line + at, sizeof(line) - at, "%s%s", at ? separator : "",
			json_string_value(v) ? json_string_value(v) : "");
		if (n < 0 || (size_t)n >= sizeof(line) - at)
			break;
		at += (size_t)n;
	}
	mr_table_add(t, "%s", line[0] ? line : "-");
}

static void show_interfaces(const json_t *list, FILE *out)
{
	struct mr_table t;
	size_t i;
	json_t *o;
	mr_table_begin(&t, "interface", "state", "device", "driver", "mode", ">queues", ">mtu", ">rx", ">rx bytes",
		">tx", ">tx bytes", ">dropped", "why", NULL);
	json_array_foreach(list, i, o)
	{
		mr_table_add(&t, "%s", mr_ask_text(o, "name"));
		mr_table_add(&t, "%s", mr_ask_text(o, "state"));
		mr_table_add(&t, "%s", mr_ask_text(o, "device")[0] ? mr_ask_text(o, "device") : mr_ask_text(o, "kind"));
		mr_table_add(&t, "%s", mr_ask_text(o, "driver"));
		mr_table_add(&t, "%s", mr_ask_text(o, "mode")[0] ? mr_ask_text(o, "mode") : "-");
		mr_table_add(&t, "%lld/%lld", (long long)mr_ask_int(o, "queue_cnt"),
			(long long)mr_ask_int(o, "device_queue_cnt"));
		mr_table_add(&t, "%lld", (long long)mr_ask_int(o, "mtu_bytes"));
		add_count(&t, o, "rx_packets");
		add_bytes(&t, o, "rx_bytes");
		add_count(&t, o, "tx_packets");
		add_bytes(&t, o, "tx_bytes");
		add_dropped(&t, o);
	}
	mr_table_write(&t, out);
}

/* What an interface has of the kernel tier. */
static void note_offload(const char *name, const json_t *offload, FILE *out)
{
	char sent[MR_NUMBER_BYTES], lost[MR_NUMBER_BYTES];
	if (!offload)
		return;
	if (mr_ask_text(offload, "in_why")[0])
		fprintf(out, "%s: flows in by it are not left to the kernel tier: %s\n", name,
			mr_ask_text(offload, "in_why"));
	if (mr_ask_text(offload, "out_why")[0])
		fprintf(out, "%s: flows out by it are not left to the kernel tier: %s\n", name,
			mr_ask_text(offload, "out_why"));
	if (mr_ask_int(offload, "sent_packets"))
		fprintf(out, "%s: %s packets sent by the kernel tier, %s of them lost\n", name,
			mr_number_count(mr_ask_int(offload, "sent_packets"), sent),
			mr_number_count(mr_ask_int(offload, "lost_packets"), lost));
}

/* What an operator should know and does not see in the table. */
static void note_interfaces(const json_t *list, FILE *out)
{
	static const struct {
		const char *key, *text;
	} losses[] = {
		{ "kernel_rx_dropped_packets", "packets dropped by the kernel before the rx ring" },
		{ "kernel_rx_ring_full_packets", "packets lost because the rx ring was full" },
		{ "rx_too_long_packets", "packets longer than a frame" },
		{ "rx_no_frame_cnt", "times the frame pool was empty" },
		{ "tx_lost_packets", "packets lost at transmit" },
	};
	size_t i;
	json_t *o;
	char buf[MR_NUMBER_BYTES];
	json_array_foreach(list, i, o)
	{
		const char *name = mr_ask_text(o, "name");
		const json_t *steer = json_object_get(o, "steer");
		if (mr_ask_text(o, "why")[0])
			fprintf(out, "%s: %s\n", name, mr_ask_text(o, "why"));
		if (mr_ask_text(o, "mode_why")[0])
			fprintf(out, "%s: %s\n", name, mr_ask_text(o, "mode_why"));
		if (mr_ask_text(o, "rss")[0])
			fprintf(out, "%s: RSS: %s\n", name, mr_ask_text(o, "rss"));
		if (mr_ask_text(o, "rss_why")[0])
			fprintf(out, "%s: %s\n", name, mr_ask_text(o, "rss_why"));
		if (mr_ask_text(o, "device")[0])
			note_offload(name, json_object_get(o, "offload"), out);
		if (mr_ask_int(o, "unserved_queue_cnt"))
			fprintf(out, "%s: %lld receive queues of the device have no socket\n", name,
				(long long)mr_ask_int(o, "unserved_queue_cnt"));
		if (steer)
			fprintf(out, "%s: %s packets taken, ", name,
				mr_number_count(mr_ask_int(steer, "steered_packets"), buf));
		if (steer)
			fprintf(out, "%s left to the kernel\n",
				mr_number_count(
					mr_ask_int(steer, "passed_packets") + mr_ask_int(steer, "no_socket_packets"),
					buf));
		if (mr_ask_int(steer, "unserved_dropped_packets"))
			fprintf(out,
				"%s: %s packets matched on queues without a socket and were dropped (unserved: drop)\n",
				name, mr_number_count(mr_ask_int(steer, "unserved_dropped_packets"), buf));
		if (!strcmp(mr_ask_text(o, "on_exit"), "drop"))
			fprintf(out, "%s: on_exit: drop: when Millrace is gone, what its pipelines match is dropped\n",
				name);
		for (unsigned k = 0; k < sizeof(losses) / sizeof(losses[0]); k++) {
			if (mr_ask_int(o, losses[k].key))
				fprintf(out, "%s: %s %s\n", name, mr_number_count(mr_ask_int(o, losses[k].key), buf),
					losses[k].text);
		}
	}
}

static void add_traffic(struct mr_table *t, const json_t *o)
{
	add_count(t, o, "received_packets");
	add_bytes(t, o, "received_bytes");
	add_count(t, o, "forwarded_packets");
	add_count(t, o, "kernel_packets");
	add_dropped(t, o);
}

/* ICMP errors of our own, when there were any. */
static void show_own(const json_t *own, FILE *out)
{
	const json_t *n;
	const char *kind;
	long long limited = (long long)mr_ask_int(own, "icmp_limited_cnt");
	if (!mr_ask_int(own, "made_packets") && !limited)
		return;
	fprintf(out, "ICMP errors sent: %lld", (long long)mr_ask_int(own, "sent_packets"));
	json_object_foreach(json_object_get(own, "icmp_errors"), kind, n) if (json_integer_value(n))
		fprintf(out, ", %s %lld", kind, (long long)json_integer_value(n));
	fprintf(out, "; %lld over the rate\n", limited);
}

static void show_pipelines(const json_t *list, const json_t *totals, FILE *out)
{
	struct mr_table t;
	size_t i, k;
	json_t *o, *by;
	mr_table_begin(&t, "pipeline", "stages", "to", ">received", ">bytes", ">forwarded", ">to kernel", ">dropped",
		"why", NULL);
	json_array_foreach(list, i, o)
	{
		const char *name = mr_ask_text(o, "name");
		if (!name[0] && !mr_ask_int(o, "received_packets"))
			continue;
		mr_table_add(&t, "%s", name[0] ? name : "(none)");
		add_list(&t, json_object_get(o, "stages"), ", ");
		mr_table_add(&t, "%s", mr_ask_text(o, "to")[0] ? mr_ask_text(o, "to") : "-");
		add_traffic(&t, o);
		json_array_foreach(json_object_get(o, "by_interface"), k, by)
		{
			mr_table_add(&t, "  from %s", mr_ask_text(by, "interface"));
			mr_table_add(&t, "%s", "");
			mr_table_add(&t, "%s", "");
			add_traffic(&t, by);
		}
	}
	mr_table_add(&t, "total");
	mr_table_add(&t, "%s", "");
	mr_table_add(&t, "%s", "");
	add_traffic(&t, totals);
	mr_table_write(&t, out);
	fprintf(out, "held: %lld, unaccounted: %lld\n", (long long)mr_ask_int(totals, "held_packets"),
		(long long)mr_ask_int(totals, "unaccounted_packets"));
	if (mr_ask_int(totals, "kernel_tier_packets"))
		fprintf(out, "of the received, carried out by the kernel tier: %lld; by other records: %lld\n",
			(long long)mr_ask_int(totals, "kernel_tier_packets"),
			(long long)(mr_ask_int(totals, "hits_packets") - mr_ask_int(totals, "kernel_tier_packets")));
	show_own(json_object_get(totals, "own"), out);
}

static void show_stages(const json_t *list, FILE *out)
{
	struct mr_table t;
	size_t i, k;
	json_t *o, *c;
	mr_table_begin(&t, "stage", "type", "pipelines", ">packets", ">bytes", NULL);
	json_array_foreach(list, i, o)
	{
		mr_table_add(&t, "%s", mr_ask_text(o, "name"));
		mr_table_add(&t, "%s", mr_ask_text(o, "type"));
		add_list(&t, json_object_get(o, "pipelines"), ", ");
		mr_table_add(&t, "%s", "");
		mr_table_add(&t, "%s", "");
		json_array_foreach(json_object_get(o, "counters"), k, c)
		{
			mr_table_add(&t, "  %s", mr_ask_text(c, "name"));
			mr_table_add(&t, "%s", "");
			mr_table_add(&t, "%s", "");
			add_count(&t, c, "packets");
			add_bytes(&t, c, "bytes");
		}
	}
	mr_table_write(&t, out);
}

static void show_drops(const json_t *list, FILE *out)
{
	struct mr_table t;
	size_t i, k;
	json_t *o, *by;
	mr_table_begin(&t, "reason", ">packets", "", NULL);
	json_array_foreach(list, i, o)
	{
		mr_table_add(&t, "%s", mr_ask_text(o, "reason"));
		add_count(&t, o, "packets");
		mr_table_add(&t, "%s", mr_ask_text(o, "help"));
		json_array_foreach(json_object_get(o, "by"), k, by)
		{
			mr_table_add(&t, "  %s, %s", mr_ask_text(by, "interface"),
				mr_ask_text(by, "pipeline")[0] ? mr_ask_text(by, "pipeline") : "(no pipeline)");
			add_count(&t, by, "packets");
			mr_table_add(&t, "%s", "");
		}
	}
	mr_table_write(&t, out);
}

static void show_frames(const json_t *o, FILE *out)
{
	char buf[MR_NUMBER_BYTES];
	fprintf(out, "frames: %lld of %lld bytes (%s, %s)\n", (long long)mr_ask_int(o, "total_cnt"),
		(long long)mr_ask_int(o, "frame_bytes"), mr_number_bytes(mr_ask_int(o, "range_bytes"), buf),
		json_is_true(json_object_get(o, "huge_pages")) ? "huge pages" : "ordinary pages");
	fprintf(out, "  %lld free, %lld in fill and rx rings, %lld with workers, %lld in tx rings, %lld held\n",
		(long long)mr_ask_int(o, "pool_cnt"), (long long)mr_ask_int(o, "fill_cnt"),
		(long long)mr_ask_int(o, "rx_cnt"), (long long)mr_ask_int(o, "tx_cnt"),
		(long long)mr_ask_int(o, "held_cnt"));
}

static void show_routes(const json_t *data, FILE *out)
{
	char buf[MR_NUMBER_BYTES];
	size_t i;
	json_t *o;
	const json_t *u = json_object_get(data, "usage");
	if (!json_is_true(json_object_get(data, "mirrored"))) {
		fprintf(out, "no pipeline routes: the kernel's tables are not mirrored\n");
		return;
	}
	json_array_foreach(json_object_get(data, "routes"), i, o) fprintf(out, "%s\n", mr_ask_text(o, "route"));
	if (mr_ask_int(data, "shown_cnt") >= mr_ask_int(data, "limit_cnt"))
		fprintf(out, "... no more than %lld are shown (--limit)\n", (long long)mr_ask_int(data, "limit_cnt"));
	fprintf(out, "%lld IPv4 and %lld IPv6 routes mirrored by %lld paths, %s%s; %lld resyncs\n",
		(long long)mr_ask_int(u, "routes4_cnt"), (long long)mr_ask_int(u, "routes6_cnt"),
		(long long)mr_ask_int(u, "paths_cnt"), mr_number_bytes(mr_ask_int(u, "memory_bytes"), buf),
		json_is_true(json_object_get(u, "synced")) ? "" : ", being read",
		(long long)mr_ask_int(u, "resyncs_cnt"));
	json_array_foreach(json_object_get(data, "unmirrored"), i, o)
		fprintf(out, "not mirrored: %s\n", mr_ask_text(o, "sentence"));
}

static void show_neighbours(const json_t *list, FILE *out)
{
	struct mr_table t;
	size_t i;
	json_t *o;
	mr_table_begin(
		&t, "interface", "address", "mac", "state", ">vlan", ">mtu", ">used ms ago", ">asked", ">failed", NULL);
	json_array_foreach(list, i, o)
	{
		mr_table_add(&t, "%s", mr_ask_text(o, "interface"));
		mr_table_add(&t, "%s", mr_ask_text(o, "address"));
		mr_table_add(&t, "%s", mr_ask_text(o, "mac"));
		mr_table_add(&t, "%s", mr_ask_text(o, "state"));
		mr_table_add(&t, "%lld", (long long)mr_ask_int(o, "vlan"));
		mr_table_add(&t, "%lld", (long long)mr_ask_int(o, "mtu_bytes"));
		mr_table_add(&t, "%lld", (long long)mr_ask_int(o, "used_ms_ago"));
		add_count(&t, o, "asked_cnt");
		add_count(&t, o, "failed_cnt");
	}
	mr_table_write(&t, out);
}

static void show_workers(const json_t *list, FILE *out)
{
	struct mr_table t;
	size_t i;
	json_t *o;
	mr_table_begin(&t, ">worker", "state", ">loops", ">busy", ">sleeps", ">handed out", ">taken in", ">held", NULL);
	json_array_foreach(list, i, o)
	{
		mr_table_add(&t, "%lld", (long long)mr_ask_int(o, "worker"));
		mr_table_add(&t, "%s", json_is_true(json_object_get(o, "running")) ? "running" : "stopped");
		add_count(&t, o, "loops_cnt");
		add_count(&t, o, "busy_loops_cnt");
		add_count(&t, o, "sleeps_cnt");
		add_count(&t, o, "handoff_out_packets");
		add_count(&t, o, "handoff_in_packets");
		add_count(&t, o, "held_packets");
	}
	mr_table_write(&t, out);
}

static void write_usage(const json_t *u, FILE *out)
{
	if (mr_ask_int(json_object_get(u, "records"), "offloaded_cnt"))
		fprintf(out, "kernel tier: %lld flow records offloaded\n",
			(long long)mr_ask_int(json_object_get(u, "records"), "offloaded_cnt"));
	fprintf(out,
		"flows: %lld of %lld, %lld half open; %lld created, %lld expired, %lld ended, %lld evicted, %lld "
		"refused\n",
		(long long)mr_ask_int(u, "live_cnt"), (long long)mr_ask_int(u, "capacity_cnt"),
		(long long)mr_ask_int(u, "half_open_cnt"), (long long)mr_ask_int(u, "created_cnt"),
		(long long)mr_ask_int(u, "expired_cnt"), (long long)mr_ask_int(u, "ended_cnt"),
		(long long)mr_ask_int(u, "evicted_cnt"),
		(long long)(mr_ask_int(u, "refused_full_cnt") + mr_ask_int(u, "refused_half_open_cnt")));
}

/* ADDRESS:PORT of one end. */
static void add_end(struct mr_table *t, const json_t *flow, const char *addr, const char *port)
{
	const json_t *p = json_object_get(flow, port);
	const char *a = mr_ask_text(flow, addr);
	bool six = strchr(a, ':');
	if (p)
		mr_table_add(t, "%s%s%s:%lld", six ? "[" : "", a, six ? "]" : "", (long long)json_integer_value(p));
	else
		mr_table_add(t, "%s", a);
}

static void add_zone(struct mr_table *t, const json_t *flow)
{
	long long vlan = mr_ask_int(flow, "vlan"); /* 0 where there is none */
	if (vlan)
		mr_table_add(t, "%s vlan %lld", mr_ask_text(flow, "zone"), vlan);
	else
		mr_table_add(t, "%s", mr_ask_text(flow, "zone"));
}

/* Who carries it out: forward/reply, in two words at most.  True: one of them is a reason why not. */
static bool add_tier(struct mr_table *t, const json_t *forward, const json_t *reply)
{
	const json_t *side[2] = { forward, reply };
	const char *word[2] = { "", "" };
	bool reason = false;
	for (unsigned d = 0; d < 2; d++)
		if (json_is_object(side[d])) {
			bool yes = json_is_true(json_object_get(side[d], "offloaded"));
			word[d] = yes ? "yes" : mr_ask_text(side[d], "offload_why");
			reason |= !yes;
		}
	if (!word[1][0] || !strcmp(word[0], word[1]))
		mr_table_add(t, "%s", word[0]);
	else
		mr_table_add(t, "%s/%s", word[0], word[1]);
	return reason;
}

static bool is_translated(const json_t *forward)
{
	return json_object_get(forward, "new_source") || json_object_get(forward, "new_destination");
}

/* The ends that forward packets leave with, where they are others. */
static void add_becomes(struct mr_table *t, const json_t *flow, const json_t *forward)
{
	static const char *const addr[2] = { "new_source", "new_destination" };
	static const char *const port[2] = { "new_source_port", "new_destination_port" };
	char end[2][80] = { "", "" };
	for (unsigned i = 0; i < 2; i++) {
		const char *a = mr_ask_text(forward, addr[i]);
		if (!*a)
			continue;
		if (json_object_get(flow, "source_port") && json_object_get(forward, port[i]))
			snprintf(end[i], sizeof(end[i]), strchr(a, ':') ? "[%s]:%lld" : "%s:%lld", a,
				(long long)mr_ask_int(forward, port[i]));
		else
			snprintf(end[i], sizeof(end[i]), "%s", a);
	}
	if (is_translated(forward))
		mr_table_add(t, "%s%s>%s%s", end[0], *end[0] ? " " : "", *end[1] ? " " : "", end[1]);
	else
		mr_table_add(t, "%s", "");
}

static void begin_flows(struct mr_table *t, bool translated)
{
	if (translated)
		mr_table_begin(t, "proto", "source", "destination", "becomes", "state", "in", "pipeline", "zone",
			">packets", ">bytes", ">replies", ">bytes", ">age", ">ends in", "kernel tier", NULL);
	else
		mr_table_begin(t, "proto", "source", "destination", "state", "in", "pipeline", "zone", ">packets",
			">bytes", ">replies", ">bytes", ">age", ">ends in", "kernel tier", NULL);
}

static void show_flows(const json_t *data, FILE *out)
{
	struct mr_table t;
	bool reasons = false, translated = false;
	size_t i;
	json_t *f;
	json_array_foreach(json_object_get(data, "flows"), i, f) translated |=
		is_translated(json_object_get(f, "forward"));
	begin_flows(&t, translated);
	json_array_foreach(json_object_get(data, "flows"), i, f)
	{
		const json_t *forward = json_object_get(f, "forward"), *reply = json_object_get(f, "reply");
		mr_table_add(&t, "%s", mr_ask_text(f, "proto"));
		add_end(&t, f, "source", "source_port");
		add_end(&t, f, "destination", "destination_port");
		if (translated)
			add_becomes(&t, f, forward);
		mr_table_add(&t, "%s", mr_ask_text(f, "state"));
		mr_table_add(&t, "%s", mr_ask_text(f, "interface"));
		mr_table_add(&t, "%s", mr_ask_text(f, "pipeline"));
		add_zone(&t, f);
		add_count(&t, forward, "packets");
		add_bytes(&t, forward, "bytes");
		add_count(&t, reply, "packets");
		add_bytes(&t, reply, "bytes");
		add_duration(&t, f, "age_ms");
		add_duration(&t, f, "remaining_ms");
		reasons |= add_tier(&t, forward, reply);
	}
	mr_table_write(&t, out);
	if (reasons)
		fputs("kernel tier: forward/reply; millrace help offload explains the words\n", out);
	fprintf(out, "%lld of %lld flows shown\n", (long long)mr_ask_int(data, "shown_cnt"),
		(long long)mr_ask_int(data, "total_cnt"));
	write_usage(json_object_get(data, "usage"), out);
}

static void show_summary(const json_t *answer, const json_t *d, FILE *out)
{
	char up[MR_NUMBER_BYTES];
	fprintf(out, "millrace %s, instance %s, up %s\n%s, generation %lld\n", mr_ask_text(d, "version"),
		mr_ask_text(answer, "instance"), mr_number_duration(mr_ask_int(d, "uptime_ms"), up),
		mr_ask_text(d, "path"), (long long)mr_ask_int(answer, "generation"));
	if (mr_ask_text(d, "last_reload")[0])
		fprintf(out, "last reload: %s\n", mr_ask_text(d, "last_reload"));
	fputc('\n', out);
	show_interfaces(json_object_get(d, "interfaces"), out);
	note_interfaces(json_object_get(d, "interfaces"), out);
	fputc('\n', out);
	show_pipelines(json_object_get(d, "pipelines"), json_object_get(d, "totals"), out);
	fputc('\n', out);
	write_usage(json_object_get(d, "flows"), out);
	show_frames(json_object_get(d, "frames"), out);
}

/* The configuration is a tree: written as one, two blanks a level. */
static void write_tree(const char *key, const json_t *v, int depth, FILE *out)
{
	const char *k;
	size_t i;
	json_t *item;
	if (json_is_object(v)) {
		if (key)
			fprintf(out, "%*s%s:\n", depth * 2, "", key);
		json_object_foreach((json_t *)v, k, item) write_tree(k, item, depth + (key != NULL), out);
	} else if (json_is_array(v) && json_is_object(json_array_get(v, 0))) {
		fprintf(out, "%*s%s:\n", depth * 2, "", key);
		json_array_foreach(v, i, item) write_tree(mr_ask_text(item, "name"), item, depth + 1, out);
	} else if (json_is_array(v)) {
		if (!json_array_size(v))
			return;
		fprintf(out, "%*s%s: [", depth * 2, "", key);
		json_array_foreach(v, i, item)
			fprintf(out, "%s%s", i ? ", " : " ", json_string_value(item) ? json_string_value(item) : "");
		fprintf(out, " ]\n");
	} else if (json_is_string(v) && json_string_length(v)) {
		fprintf(out, "%*s%s: %s\n", depth * 2, "", key, json_string_value(v));
	} else if (json_is_integer(v)) {
		fprintf(out, "%*s%s: %lld\n", depth * 2, "", key, (long long)json_integer_value(v));
	} else if (json_is_boolean(v)) {
		fprintf(out, "%*s%s: %s\n", depth * 2, "", key, json_is_true(v) ? "true" : "false");
	}
}

void mr_text_show(const char *what, const json_t *answer, FILE *out)
{
	const json_t *data = json_object_get(answer, "data");
	const json_t *part = what ? json_object_get(data, what) : NULL;
	if (!what) {
		show_summary(answer, data, out);
	} else if (!strcmp(what, "interfaces")) {
		show_interfaces(part, out);
		note_interfaces(part, out);
	} else if (!strcmp(what, "pipelines")) {
		show_pipelines(part, json_object_get(data, "totals"), out);
	} else if (!strcmp(what, "stages")) {
		show_stages(part, out);
	} else if (!strcmp(what, "flows")) {
		show_flows(data, out);
	} else if (!strcmp(what, "drops")) {
		show_drops(part, out);
	} else if (!strcmp(what, "frames")) {
		show_frames(part, out);
	} else if (!strcmp(what, "routes")) {
		show_routes(data, out);
	} else if (!strcmp(what, "neighbours")) {
		show_neighbours(part, out);
	} else if (!strcmp(what, "nat")) {
		mr_text_nat(data, out);
	} else if (!strcmp(what, "workers")) {
		show_workers(part, out);
	} else {
		write_tree(NULL, data, 0, out);
	}
}
