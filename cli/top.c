/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/*
 * Rates are differences of two answers to `show`, over the difference of their time_ns: the server's clock, so that a slow answer
 * makes no false rate.
 */

#define TIMEOUT_MS 10000

static volatile sig_atomic_t stopped;

static void stop(int sig)
{
	stopped = 1;
}

/* The object of an array whose `key` says `name`; NULL = none (it came with a reload: counted from 0). */
static const json_t *find(const json_t *list, const char *key, const char *name)
{
	size_t i;
	json_t *o;
	json_array_foreach(list, i, o)
	{
		if (!strcmp(mr_ask_text(o, key), name))
			return o;
	}
	return NULL;
}

static int64_t rate(const json_t *now, const json_t *before, const char *key, double seconds)
{
	return (int64_t)((double)(mr_ask_int(now, key) - mr_ask_int(before, key)) / seconds + 0.5);
}

/* {name: rate} of the reasons that rose. */
static json_t *reason_rates(const json_t *now, const json_t *before, double seconds)
{
	json_t *out = json_object();
	const char *key;
	json_t *v;
	json_object_foreach(json_object_get(now, "dropped"), key, v)
	{
		int64_t r = rate(json_object_get(now, "dropped"), json_object_get(before, "dropped"), key, seconds);
		if (r > 0)
			json_object_set_new(out, key, json_integer(r));
	}
	return out;
}

/* What one interface or (interface, pipeline) pair did in the interval. */
static json_t *row(const char *name, const json_t *now, const json_t *before, double seconds)
{
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "name", name, "received_pps",
		(json_int_t)rate(now, before, "received_packets", seconds), "received_bps",
		(json_int_t)(8 * rate(now, before, "received_bytes", seconds)), "forwarded_pps",
		(json_int_t)rate(now, before, "forwarded_packets", seconds), "forwarded_bps",
		(json_int_t)(8 * rate(now, before, "forwarded_bytes", seconds)), "kernel_pps",
		(json_int_t)rate(now, before, "kernel_packets", seconds), "dropped_pps",
		(json_int_t)rate(now, before, "dropped_packets", seconds), "kernel_tier_pps",
		(json_int_t)rate(now, before, "kernel_tier_packets", seconds), "dropped",
		reason_rates(now, before, seconds));
}

/* An interface has also what was never taken from the kernel: it arrived, and the kernel has it. */
static json_t *interface_row(const json_t *now, const json_t *before, double seconds)
{
	json_t *r = row(mr_ask_text(now, "name"), now, before, seconds);
	const json_t *a = json_object_get(now, "steer"), *b = json_object_get(before, "steer");
	int64_t passed = rate(a, b, "passed_packets", seconds) + rate(a, b, "no_socket_packets", seconds);
	if (!r || !a)
		return r;
	json_object_set_new(r, "received_pps", json_integer(mr_ask_int(r, "received_pps") + passed));
	json_object_set_new(r, "kernel_pps", json_integer(mr_ask_int(r, "kernel_pps") + passed));
	json_object_set_new(r, "tx_pps", json_integer(rate(now, before, "tx_packets", seconds)));
	return r;
}

/* The pipelines that packets of this interface went through. */
static json_t *pipeline_rows(const char *interface, const json_t *now, const json_t *before, double seconds)
{
	json_t *rows = json_array(), *p;
	size_t i;
	json_array_foreach(json_object_get(now, "pipelines"), i, p)
	{
		const char *name = mr_ask_text(p, "name");
		const json_t *a = find(json_object_get(p, "by_interface"), "interface", interface);
		const json_t *old = find(json_object_get(before, "pipelines"), "name", name);
		const json_t *b = find(json_object_get(old, "by_interface"), "interface", interface);
		if (a && (name[0] || mr_ask_int(a, "received_packets")))
			json_array_append_new(rows, row(name, a, b, seconds));
	}
	return rows;
}

static json_t *rates(const json_t *now, const json_t *before, double seconds)
{
	json_t *list = json_array(), *i;
	size_t n;
	json_array_foreach(json_object_get(now, "interfaces"), n, i)
	{
		const char *name = mr_ask_text(i, "name");
		json_t *r = interface_row(i, find(json_object_get(before, "interfaces"), "name", name), seconds);
		json_object_set_new(r, "state", json_string(mr_ask_text(i, "state")));
		json_object_set_new(r, "pipelines", pipeline_rows(name, now, before, seconds));
		json_array_append_new(list, r);
	}
	return list;
}

static void add_row(struct mr_table *t, const char *indent, const json_t *r)
{
	static const char *const keys[] = { "received_pps", "received_bps", "forwarded_pps", "forwarded_bps",
		"kernel_tier_pps", "kernel_pps", "dropped_pps" };
	char buf[MR_NUMBER_BYTES], why[160] = "";
	size_t at = 0;
	const char *key, *name = mr_ask_text(r, "name"), *state = mr_ask_text(r, "state");
	json_t *v;
	mr_table_add(t, "%s%s%s%s", indent, name[0] ? name : "(none)", state[0] && strcmp(state, "up") ? " " : "",
		strcmp(state, "up") ? state : "");
	for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		mr_table_add(t, "%s", mr_number_count(mr_ask_int(r, keys[i]), buf));
	json_object_foreach(json_object_get(r, "dropped"), key, v)
	{
		int n = snprintf(why + at, sizeof(why) - at, "%s%s %s/s", at ? ", " : "", key,
			mr_number_count(json_integer_value(v), buf));
		if (n < 0 || (size_t)n >= sizeof(why) - at)
			break;
		at += (size_t)n;
	}
	mr_table_add(t, "%s", why);
}

static void write_text(const json_t *answer, const json_t *list, bool terminal)
{
	const json_t *d = json_object_get(answer, "data"), *flows = json_object_get(d, "flows"),
		     *frames = json_object_get(d, "frames");
	char up[MR_NUMBER_BYTES], live[MR_NUMBER_BYTES], room[MR_NUMBER_BYTES];
	struct mr_table t;
	size_t i, k;
	json_t *r, *p;
	if (terminal)
		fputs("\033[H\033[J", stdout); /* home, clear to the end */
	printf("%s: %s, generation %lld, up %s, flows %s of %s, %lld records offloaded, frames free %lld of %lld\n",
		mr_ask_text(answer, "instance"), mr_ask_text(d, "path"), (long long)mr_ask_int(answer, "generation"),
		mr_number_duration(mr_ask_int(d, "uptime_ms"), up),
		mr_number_count(mr_ask_int(flows, "live_cnt"), live),
		mr_number_count(mr_ask_int(flows, "capacity_cnt"), room),
		(long long)mr_ask_int(json_object_get(flows, "records"), "offloaded_cnt"),
		(long long)mr_ask_int(frames, "pool_cnt"), (long long)mr_ask_int(frames, "total_cnt"));
	mr_table_begin(&t, "packets/s", ">received", ">bits/s", ">forwarded", ">bits/s", ">kernel tier", ">to kernel",
		">dropped", "why", NULL);
	json_array_foreach(list, i, r)
	{
		add_row(&t, "", r);
		json_array_foreach(json_object_get(r, "pipelines"), k, p) add_row(&t, "  ", p);
	}
	mr_table_write(&t, stdout);
	if (!terminal)
		fputc('\n', stdout);
}

static int write_json(const json_t *answer, json_t *list, int64_t interval_ns)
{
	json_t *line = json_pack("{s:s, s:O, s:O, s:{s:I, s:I, s:O}}", "schema", "millrace/top/1", "instance",
		json_object_get(answer, "instance"), "generation", json_object_get(answer, "generation"), "data",
		"time_ns", (json_int_t)mr_ask_int(json_object_get(answer, "data"), "time_ns"), "interval_ns",
		(json_int_t)interval_ns, "interfaces", list);
	int err = !line || json_dumpf(line, stdout, JSON_COMPACT) || fputc('\n', stdout) == EOF;
	json_decref(line);
	return err;
}

/* False when nobody reads any more. */
static bool refresh(const struct mr_cli *c, const json_t *now, const json_t *before, bool terminal)
{
	const json_t *a = json_object_get(now, "data"), *b = json_object_get(before, "data");
	int64_t interval_ns = mr_ask_int(a, "time_ns") - mr_ask_int(b, "time_ns");
	if (interval_ns <= 0 || mr_ask_int(a, "uptime_ms") < mr_ask_int(b, "uptime_ms"))
		return true; /* another process answers: its counters begin anew */
	json_t *list = rates(a, b, (double)interval_ns / 1e9);
	int err = 0;
	if (c->json)
		err = write_json(now, list, interval_ns);
	else
		write_text(now, list, terminal);
	json_decref(list);
	return !err && !fflush(stdout) && !ferror(stdout);
}

int mr_verb_top(const struct mr_cli *c)
{
	struct mr_error e = { "" };
	uint64_t interval_ms = 1000, count = 0;
	const char *v = mr_args_value(c, "interval");
	if (v && mr_args_duration_ms("--interval", v, &interval_ms, &e))
		return mr_ask_fail(MR_EXIT_MISUSE, &e);
	v = mr_args_value(c, "count");
	if (v && mr_args_number("--count", v, 1, UINT32_MAX, &count, &e))
		return mr_ask_fail(MR_EXIT_MISUSE, &e);
	bool terminal = !c->json && isatty(STDOUT_FILENO);
	struct sigaction sa = { .sa_handler = stop };
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	json_t *before = NULL, *now = NULL;
	int code = mr_ask_instance(c, mr_ask_request("show", NULL), TIMEOUT_MS, &before);
	if (!code && terminal)
		fputs("\033[2J", stdout);
	for (uint64_t n = 0; !code && !stopped && (!count || n < count); n++) {
		struct timespec ts = { .tv_sec = (time_t)(interval_ms / 1000),
			.tv_nsec = (long)(interval_ms % 1000) * 1000000 };
		nanosleep(&ts, NULL);
		if (stopped)
			break;
		code = mr_ask_instance(c, mr_ask_request("show", NULL), TIMEOUT_MS, &now);
		if (code || !refresh(c, now, before, terminal))
			break;
		json_decref(before);
		before = now;
		now = NULL;
	}
	json_decref(before);
	json_decref(now);
	return code;
}
