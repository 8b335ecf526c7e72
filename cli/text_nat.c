/* SPDX-License-Identifier: BSD-2-Clause */
/* text_nat.c - `show nat` for people. */
#include "cli/cli.h"

#include <string.h>

static const char *const protos[] = { "tcp", "udp", "icmp" };

static void add_count(struct mr_table *t, int64_t v)
{
	char buf[MR_NUMBER_BYTES];
	mr_table_add(t, "%s", mr_number_count(v, buf));
}

/* "3.1 %" of the ports; what rests cannot be had either. */
static void add_use(struct mr_table *t, const json_t *ports)
{
	double all = (double)mr_ask_int(ports, "ports_cnt");
	double gone = (double)(mr_ask_int(ports, "taken_cnt") + mr_ask_int(ports, "resting_cnt"));
	if (all > 0)
		mr_table_add(t, "%.1f %%", 100 * gone / all);
	else
		mr_table_add(t, "-");
}

static void write_pool(const json_t *s, FILE *out)
{
	struct mr_table t;
	mr_table_begin(&t, "pool", ">ports", ">taken", ">resting", ">reserved", ">in use", NULL);
	for (unsigned i = 0; i < 3; i++) {
		const json_t *p = json_object_get(json_object_get(s, "pool"), protos[i]);
		mr_table_add(&t, "%s", protos[i]);
		add_count(&t, mr_ask_int(p, "ports_cnt"));
		add_count(&t, mr_ask_int(p, "taken_cnt"));
		add_count(&t, mr_ask_int(p, "resting_cnt"));
		add_count(&t, mr_ask_int(p, "reserved_cnt"));
		add_use(&t, p);
	}
	mr_table_write(&t, out);
	if (mr_ask_int(s, "blocks_cnt"))
		fprintf(out, "blocks: %lld of %lld taken\n", (long long)mr_ask_int(s, "blocks_taken_cnt"),
			(long long)mr_ask_int(s, "blocks_cnt"));
}

static void write_refused(const json_t *refused, FILE *out)
{
	const char *key, *between = "refused: ";
	json_t *v;
	json_object_foreach((json_t *)refused, key, v)
	{
		if (!json_integer_value(v))
			continue;
		fprintf(out, "%s%s %lld", between, key, (long long)json_integer_value(v));
		between = ", ";
	}
	fputs(between[0] == ',' ? "\n" : "refused: nothing\n", out);
}

static void write_log(const json_t *log, FILE *out)
{
	if (!json_is_object(log)) {
		fputs("log: none\n", out);
		return;
	}
	fprintf(out, "log of %s to %s: %lld written, %lld lost, %lld waiting", mr_ask_text(log, "events"),
		mr_ask_text(log, "file")[0] ? mr_ask_text(log, "file") : "syslog",
		(long long)mr_ask_int(log, "written_cnt"), (long long)mr_ask_int(log, "lost_cnt"),
		(long long)mr_ask_int(log, "waiting_cnt"));
	if (mr_ask_text(log, "error")[0])
		fprintf(out, "; it takes nothing now: %s", mr_ask_text(log, "error"));
	fputc('\n', out);
}

static void write_summary(const json_t *s, FILE *out)
{
	const json_t *opened = json_object_get(s, "sessions_opened");
	fprintf(out, "%lld address%s in the pool, %lld of %lld subscribers, %lld of %lld mappings\n",
		(long long)mr_ask_int(s, "pool_addresses_cnt"), mr_ask_int(s, "pool_addresses_cnt") == 1 ? "" : "es",
		(long long)mr_ask_int(s, "subscribers_cnt"), (long long)mr_ask_int(s, "subscribers_max_cnt"),
		(long long)mr_ask_int(s, "mappings_cnt"), (long long)mr_ask_int(s, "mappings_max_cnt"));
	if (mr_ask_int(s, "pool_left_out_cnt"))
		fprintf(out,
			"%lld more are not used: the program has had its 4096 outside addresses since it started; a "
			"restart forgets "
			"those that are no longer configured\n",
			(long long)mr_ask_int(s, "pool_left_out_cnt"));
	fprintf(out, "sessions opened: %lld out, %lld in, %lld hairpin (%lld by static rules); %lld ended\n",
		(long long)mr_ask_int(opened, "out_cnt"), (long long)mr_ask_int(opened, "in_cnt"),
		(long long)mr_ask_int(opened, "hairpin_cnt"), (long long)mr_ask_int(opened, "static_cnt"),
		(long long)mr_ask_int(opened, "ended_cnt"));
	write_pool(s, out);
	write_refused(json_object_get(s, "refused"), out);
	write_log(json_object_get(s, "log"), out);
}

static void write_addresses(const json_t *list, FILE *out)
{
	struct mr_table t;
	size_t i;
	json_t *a;
	mr_table_begin(&t, "address", "", ">subscribers", ">tcp", ">in use", ">udp", ">in use", ">icmp", ">in use",
		">resting", ">reserved", ">blocks", NULL);
	json_array_foreach(list, i, a)
	{
		long long resting = 0, reserved = 0;
		mr_table_add(&t, "%s", mr_ask_text(a, "address"));
		mr_table_add(&t, "%s", json_is_true(json_object_get(a, "in_pool")) ? "" : "not in the pool");
		add_count(&t, mr_ask_int(a, "subscribers_cnt"));
		for (unsigned p = 0; p < 3; p++) {
			const json_t *ports = json_object_get(a, protos[p]);
			add_count(&t, mr_ask_int(ports, "taken_cnt"));
			add_use(&t, ports);
			resting += mr_ask_int(ports, "resting_cnt");
			reserved += mr_ask_int(ports, "reserved_cnt");
		}
		add_count(&t, resting);
		add_count(&t, reserved);
		mr_table_add(&t, "%lld/%lld", (long long)mr_ask_int(a, "blocks_taken_cnt"),
			(long long)mr_ask_int(a, "blocks_cnt"));
	}
	mr_table_write(&t, out);
}

static void add_text(struct mr_table *t, const json_t *o, const char *key)
{
	const char *s = mr_ask_text(o, key);
	mr_table_add(t, "%s", s[0] ? s : "-");
}

static void write_subscribers(const json_t *list, FILE *out)
{
	struct mr_table t;
	size_t i;
	json_t *u;
	mr_table_begin(&t, "subscriber", "outside", ">zone", ">sessions", ">mappings", ">blocks", ">tcp ports",
		">udp ports", ">icmp ids", NULL);
	json_array_foreach(list, i, u)
	{
		add_text(&t, u, "inside");
		add_text(&t, u, "outside");
		mr_table_add(&t, "%lld", (long long)mr_ask_int(u, "zone"));
		add_count(&t, mr_ask_int(u, "sessions_cnt"));
		add_count(&t, mr_ask_int(u, "mappings_cnt"));
		add_count(&t, mr_ask_int(u, "blocks_cnt"));
		for (unsigned p = 0; p < 3; p++)
			add_count(&t, mr_ask_int(json_object_get(u, "ports_cnt"), protos[p]));
	}
	mr_table_write(&t, out);
}

/* An end; "-" where there is none, the address alone where it has no port. */
static void add_end(struct mr_table *t, const json_t *o, const char *addr, const char *port)
{
	const json_t *p = json_object_get(o, port);
	if (mr_ask_text(o, addr)[0] && json_is_integer(p))
		mr_table_add(t, "%s:%lld", mr_ask_text(o, addr), (long long)json_integer_value(p));
	else
		add_text(t, o, addr);
}

static void write_mappings(const json_t *list, FILE *out)
{
	struct mr_table t;
	size_t i;
	json_t *m;
	mr_table_begin(&t, "proto", "inside", "outside", "only to", ">zone", ">sessions", NULL);
	json_array_foreach(list, i, m)
	{
		add_text(&t, m, "proto");
		add_end(&t, m, "inside", "inside_port");
		add_end(&t, m, "outside", "outside_port");
		add_end(&t, m, "remote", "remote_port");
		mr_table_add(&t, "%lld", (long long)mr_ask_int(m, "zone"));
		add_count(&t, mr_ask_int(m, "sessions_cnt"));
	}
	mr_table_write(&t, out);
}

static void write_shown(const json_t *s, const char *what, FILE *out)
{
	fprintf(out, "%lld of %lld %s shown\n", (long long)mr_ask_int(s, "shown_cnt"),
		(long long)mr_ask_int(s, "total_cnt"), what);
}

void mr_text_nat(const json_t *data, FILE *out)
{
	const json_t *list, *stages = json_object_get(data, "stages");
	size_t i;
	json_t *s;
	if (!json_array_size(stages))
		fputs("no stage translates\n", out);
	json_array_foreach(stages, i, s)
	{
		if (i)
			fputc('\n', out);
		fprintf(out, "stage %s (%s)\n", mr_ask_text(s, "name"), mr_ask_text(s, "type"));
		if ((list = json_object_get(s, "addresses"))) {
			write_addresses(list, out);
		} else if ((list = json_object_get(s, "subscribers"))) {
			write_subscribers(list, out);
			write_shown(s, "subscribers", out);
		} else if ((list = json_object_get(s, "mappings"))) {
			write_mappings(list, out);
			write_shown(s, "mappings", out);
		} else {
			write_summary(s, out);
		}
	}
}
