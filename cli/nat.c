/* SPDX-License-Identifier: BSD-2-Clause */
/* nat.c - `millrace nat who`: who had an outside address and port, from the log of nat44. */
#include "cli/cli.h"
#include "pipelines/nat44/who.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TIMEOUT_MS 20000
#define NS_PER_MS  1000000ull

struct asking {
	struct nat_who_question q;
	bool at; /* a time was given */
	uint64_t now_ns;
	bool live;   /* the files are those that the instance writes to just now */
	char **file; /* in the order they are read */
	size_t file_cnt;
	struct nat_who *who;
};

/* ---- the question ---------------------------------------------------------------------------------------------------- */

static int read_end(const char *text, struct nat_who_question *q, struct mr_error *e)
{
	char addr[INET_ADDRSTRLEN];
	uint64_t port;
	size_t n = strcspn(text, ":");
	q->port = -1;
	if (n < sizeof(addr)) {
		memcpy(addr, text, n);
		addr[n] = '\0';
		if (inet_pton(AF_INET, addr, &q->outside_be) == 1) {
			if (!text[n])
				return 0;
			int err = mr_args_number("nat who", text + n + 1, 0, 65535, &port, e);
			q->port = err ? -1 : (int)port;
			return err;
		}
	}
	return mr_error_set(e, -EINVAL, "nat who: '%s' is no IPv4 address and port, as in 203.0.113.64:40123", text);
}

static int read_question(const struct mr_cli *c, struct asking *a, struct mr_error *e)
{
	struct timespec ts;
	const char *proto = mr_args_value(c, "proto"), *at = mr_args_value(c, "at");
	clock_gettime(CLOCK_REALTIME, &ts);
	a->now_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	a->q.proto = proto ? nat_log_proto_number(proto) : -1;
	a->q.to_ns = a->now_ns;
	a->at = at;
	if (strcmp(c->arg[0], "who"))
		return mr_error_set(
			e, -EINVAL, "nat has the word who: millrace nat who ADDRESS:PORT; see also: millrace show nat");
	if (c->arg_cnt < 2)
		return mr_error_set(
			e, -EINVAL, "nat who wants an address and port: millrace nat who 203.0.113.64:40123");
	if (proto && a->q.proto < 0)
		return mr_error_set(e, -EINVAL,
			"--proto: '%s' is no protocol: write tcp, udp, icmp, gre, esp, sctp or a number", proto);
	int err = read_end(c->arg[1], &a->q, e);
	if (!err && at)
		err = mr_when_read("--at", at, a->now_ns, &a->q.from_ns, &a->q.to_ns, e);
	if (!err && a->q.to_ns > a->now_ns)
		a->q.to_ns = a->now_ns;
	return err;
}

/* ---- the files -------------------------------------------------------------------------------------------------------- */

/* Takes the name when it is not there yet. */
static int add_name(struct asking *a, char *name)
{
	for (size_t i = 0; i < a->file_cnt; i++) {
		if (!strcmp(a->file[i], name)) {
			free(name);
			return 0;
		}
	}
	char **more = realloc(a->file, (a->file_cnt + 1) * sizeof(*more));
	if (!more) {
		free(name);
		return -ENOMEM;
	}
	a->file = more;
	a->file[a->file_cnt++] = name;
	return 0;
}

static int add_files(struct asking *a, const char *path, struct mr_error *e)
{
	char **names = NULL;
	int err = 0;
	if (!strcmp(path, "-")) {
		char *name = strdup("-");
		err = name ? add_name(a, name) : -ENOMEM;
	} else {
		err = nat_who_files(path, &names);
	}
	for (size_t i = 0; names && names[i]; i++) {
		if (!err)
			err = add_name(a, names[i]);
		else
			free(names[i]);
	}
	free(names);
	return err ? mr_error_set(e, err, "%s: %s", path, strerror(-err)) : 0;
}

/* Of every stage that translates: its file.  One without a file is only a fault when there is no other. */
static int add_running(struct asking *a, const json_t *stages, struct mr_error *e)
{
	size_t i;
	json_t *s;
	struct mr_error first = { "" };
	if (!json_array_size(stages))
		return mr_error_set(
			e, -ENOENT, "the instance has no stage that translates; give the log with --log FILE");
	json_array_foreach(stages, i, s)
	{
		const json_t *log = json_object_get(s, "log");
		const char *file = mr_ask_text(log, "file");
		if (file[0]) {
			int err = add_files(a, file, e);
			if (err)
				return err;
		} else if (json_is_object(log)) {
			mr_error_set(&first, -ENOENT,
				"%s logs to syslog: give what that wrote with --log FILE, or send it: "
				"journalctl -t millrace -o cat | millrace nat who ... --log -",
				mr_ask_text(s, "name"));
		} else if (!first.text[0]) {
			mr_error_set(&first, -ENOENT,
				"%s has no log (stages.%s.log); of what is there now: millrace show nat "
				"--mappings --outside ADDRESS:PORT",
				mr_ask_text(s, "name"), mr_ask_text(s, "name"));
		}
	}
	a->live = true;
	return a->file_cnt ? 0 : mr_error_set(e, -ENOENT, "%s", first.text);
}

static int find_files(const struct mr_cli *c, struct asking *a, struct mr_error *e)
{
	json_t *answer = NULL;
	for (int i = 0; i < c->many_cnt; i++) {
		if (add_files(a, c->many[i], e))
			return mr_ask_fail(MR_EXIT_FAILURE, e);
	}
	if (c->many_cnt)
		return 0;
	int code = mr_ask_instance(c, mr_ask_request("show", "nat"), TIMEOUT_MS, &answer);
	if (code)
		return code;
	int err = add_running(a, json_object_get(json_object_get(answer, "data"), "stages"), e);
	json_decref(answer);
	return err ? mr_ask_fail(MR_EXIT_FAILURE, e) : 0;
}

static int read_files(struct asking *a, struct mr_error *e)
{
	int err = nat_who_create(&a->q, &a->who);
	for (size_t i = 0; !err && i < a->file_cnt; i++) {
		int one = nat_who_read(a->who, a->file[i]);
		if (one == -EBADMSG)
			fprintf(stderr, "millrace: %s is damaged: what could be read of it was\n", a->file[i]);
		else if (one)
			err = mr_error_set(e, one, "%s: %s", a->file[i], strerror(-one));
	}
	if (err && !e->text[0])
		mr_error_set(e, err, "%s", strerror(-err));
	return err;
}

/* ---- what the log covers ---------------------------------------------------------------------------------------------- */

/* Up to when it would have said something.  A log that is being written says nothing when nothing happens. */
static uint64_t known_to(const struct asking *a, const struct nat_who_stage *s)
{
	return a->live && !s->ended ? a->now_ns : s->last_ns;
}

/* All of the time asked for; without a time only what the log has was asked for. */
static bool covers(const struct asking *a, const struct nat_who_stage *s)
{
	return !a->at ||
		(a->q.from_ns >= s->first_ns && !s->gap && a->q.to_ns / NS_PER_MS <= known_to(a, s) / NS_PER_MS);
}

/* Whose log counts: of those that had the address, or of all when none had. */
static bool counts(const struct nat_who_stage *s, size_t cnt, size_t i)
{
	for (size_t k = 0; k < cnt; k++) {
		if (s[k].used)
			return s[i].used;
	}
	return true;
}

/* Whether nobody means nobody. */
static bool certain(const struct asking *a)
{
	size_t cnt;
	const struct nat_who_stage *s = nat_who_stages(a->who, &cnt);
	bool all = cnt;
	for (size_t i = 0; i < cnt; i++)
		all &= !counts(s, cnt, i) || (covers(a, &s[i]) && !s[i].lost_then);
	return all;
}

/* ---- text ---------------------------------------------------------------------------------------------------------------- */

static void write_asked(const struct asking *a)
{
	char addr[INET_ADDRSTRLEN], from[NAT_TIME_BYTES], to[NAT_TIME_BYTES], number[8];
	inet_ntop(AF_INET, &a->q.outside_be, addr, sizeof(addr));
	printf("%s", addr);
	if (a->q.port >= 0)
		printf(":%d", a->q.port);
	if (a->q.proto >= 0)
		printf(" %s", nat_log_proto((uint8_t)a->q.proto, number));
	nat_log_time(a->q.from_ns, from);
	nat_log_time(a->q.to_ns, to);
	if (a->at)
		printf(" from %s to %s", from, to);
}

static void add_end(struct mr_table *t, uint8_t proto, __be32 addr_be, __be16 port_be)
{
	char addr[INET_ADDRSTRLEN];
	inet_ntop(AF_INET, &addr_be, addr, sizeof(addr));
	if (port_be || proto == IPPROTO_TCP || proto == IPPROTO_UDP)
		mr_table_add(t, "%s:%u", addr, ntohs(port_be));
	else
		mr_table_add(t, "%s", addr);
}

static bool is_block(const struct nat_who_holder *h)
{
	return h->e.kind == NAT_EVENT_BLOCK_ADD || h->e.kind == NAT_EVENT_BLOCK_DELETE;
}

static void add_block(struct mr_table *t, const struct nat_event *e)
{
	char addr[INET_ADDRSTRLEN];
	add_end(t, 0, e->inside_be, 0);
	mr_table_add(t, "-");
	inet_ntop(AF_INET, &e->outside_be, addr, sizeof(addr));
	mr_table_add(t, "%s:%u-%u", addr, ntohs(e->inside_port_be), ntohs(e->outside_port_be));
	mr_table_add(t, "-");
}

static void add_session(struct mr_table *t, const struct nat_event *e)
{
	char number[8];
	add_end(t, e->proto, e->inside_be, e->inside_port_be);
	mr_table_add(t, "%s", nat_log_proto(e->proto, number));
	add_end(t, e->proto, e->outside_be, e->outside_port_be);
	add_end(t, e->proto, e->remote_be, e->remote_port_be);
}

static void write_holders(const struct nat_who_holder *h, size_t cnt)
{
	static const char *const until[] = {
		[NAT_WHO_ENDED] = "", [NAT_WHO_OPEN] = "not ended", [NAT_WHO_CUT] = "at the latest "
	};
	struct mr_table t;
	char time[NAT_TIME_BYTES];
	mr_table_begin(&t, "inside", "proto", "outside", "remote", "since", "until", "stage", "zone", NULL);
	for (size_t i = 0; i < cnt; i++) {
		if (is_block(&h[i]))
			add_block(&t, &h[i].e);
		else
			add_session(&t, &h[i].e);
		nat_log_time(h[i].since_ns, time);
		mr_table_add(&t, "%s", h[i].since_ns ? time : "before the log");
		nat_log_time(h[i].until_ns, time);
		mr_table_add(&t, "%s%s", until[h[i].until], h[i].until == NAT_WHO_OPEN ? "" : time);
		mr_table_add(&t, "%s", h[i].stage);
		if (h[i].e.zone == NAT_ZONE_DEFAULT)
			mr_table_add(&t, "-");
		else
			mr_table_add(&t, "%u", h[i].e.zone);
	}
	mr_table_write(&t, stdout);
}

/* What one should know of the log before one believes it. */
static void write_coverage(const struct asking *a, bool found, FILE *out)
{
	size_t cnt;
	char from[NAT_TIME_BYTES], to[NAT_TIME_BYTES];
	const struct nat_who_stage *s = nat_who_stages(a->who, &cnt);
	for (size_t i = 0; i < cnt; i++) {
		if (!counts(s, cnt, i))
			continue;
		nat_log_time(s[i].first_ns, from);
		nat_log_time(known_to(a, &s[i]), to);
		if (!covers(a, &s[i]) || !found)
			fprintf(out, "the log of %s goes from %s to %s%s\n", s[i].name, from, to,
				covers(a, &s[i]) ? "" : " and does not cover all of that time");
		nat_log_time(s[i].gap_from_ns, from);
		nat_log_time(s[i].gap_to_ns, to);
		if (a->at && s[i].gap)
			fprintf(out, "%s wrote no log from %s to %s\n", s[i].name, from, to);
		nat_log_time(s[i].lost_from_ns, from);
		nat_log_time(s[i].lost_to_ns, to);
		if (s[i].lost_then)
			fprintf(out, "%s lost %llu events from %s to %s\n", s[i].name,
				(unsigned long long)s[i].lost_then, from, to);
		if (s[i].lost_before)
			fprintf(out, "%s lost %llu events before: a session that was to be in them may have lived on\n",
				s[i].name, (unsigned long long)s[i].lost_before);
	}
}

static int write_text(const struct asking *a)
{
	size_t cnt;
	const struct nat_who_holder *h = nat_who_holders(a->who, &cnt);
	if (cnt) {
		if (a->at) {
			write_asked(a);
			printf(":\n");
		}
		write_holders(h, cnt);
		write_coverage(a, true, stdout);
		return 0;
	}
	if (!nat_who_lines(a->who)) {
		fprintf(stderr, "millrace: there is no line of a log in %s%s\n", a->file[0],
			a->file_cnt > 1 ? " ..." : "");
		return MR_EXIT_FAILURE;
	}
	bool nobody = certain(a);
	printf("%s ", nobody ? "nobody had" : "the log does not say who had");
	write_asked(a);
	printf("\n");
	write_coverage(a, false, stdout);
	return nobody ? 0 : MR_EXIT_FAILURE;
}

/* ---- JSON ---------------------------------------------------------------------------------------------------------------- */

static json_t *time_or_null(uint64_t ns, bool known)
{
	char time[NAT_TIME_BYTES];
	nat_log_time(ns, time);
	return known ? json_string(time) : json_null();
}

static json_t *address(__be32 addr_be)
{
	char addr[INET_ADDRSTRLEN];
	return json_string(inet_ntop(AF_INET, &addr_be, addr, sizeof(addr)));
}

static json_t *holder(const struct nat_who_holder *h)
{
	static const char *const state[] = {
		[NAT_WHO_ENDED] = "ended", [NAT_WHO_OPEN] = "open", [NAT_WHO_CUT] = "cut"
	};
	char number[8];
	json_t *o = json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:s, s:I}", "kind", is_block(h) ? "block" : "session",
		"stage", h->stage, "inside", address(h->e.inside_be), "outside", address(h->e.outside_be), "since",
		time_or_null(h->since_ns, h->since_ns), "until", time_or_null(h->until_ns, h->until != NAT_WHO_OPEN),
		"state", state[h->until], "zone", (json_int_t)h->e.zone);
	if (!o)
		return NULL;
	if (is_block(h)) {
		json_object_set_new(o, "first_port", json_integer(ntohs(h->e.inside_port_be)));
		json_object_set_new(o, "last_port", json_integer(ntohs(h->e.outside_port_be)));
		return o;
	}
	json_object_set_new(o, "proto", json_string(nat_log_proto(h->e.proto, number)));
	json_object_set_new(o, "inside_port", json_integer(ntohs(h->e.inside_port_be)));
	json_object_set_new(o, "outside_port", json_integer(ntohs(h->e.outside_port_be)));
	json_object_set_new(o, "remote", address(h->e.remote_be));
	json_object_set_new(o, "remote_port", json_integer(ntohs(h->e.remote_port_be)));
	if (h->until == NAT_WHO_ENDED) {
		json_object_set_new(o, "out_packets", json_integer((json_int_t)h->e.packets[0]));
		json_object_set_new(o, "out_bytes", json_integer((json_int_t)h->e.bytes[0]));
		json_object_set_new(o, "in_packets", json_integer((json_int_t)h->e.packets[1]));
		json_object_set_new(o, "in_bytes", json_integer((json_int_t)h->e.bytes[1]));
	}
	return o;
}

static json_t *stage(const struct asking *a, const struct nat_who_stage *s)
{
	return json_pack("{s:s, s:o, s:o, s:b, s:b, s:o, s:o, s:I, s:I}", "name", s->name, "from",
		time_or_null(s->first_ns, true), "to", time_or_null(known_to(a, s), true), "used_address", s->used,
		"covered", covers(a, s), "gap_from", time_or_null(s->gap_from_ns, a->at && s->gap), "gap_to",
		time_or_null(s->gap_to_ns, a->at && s->gap), "lost_then_cnt", (json_int_t)s->lost_then,
		"lost_before_cnt", (json_int_t)s->lost_before);
}

static int write_json(const struct mr_cli *c, const struct asking *a)
{
	size_t holder_cnt, stage_cnt;
	const struct nat_who_holder *h = nat_who_holders(a->who, &holder_cnt);
	const struct nat_who_stage *s = nat_who_stages(a->who, &stage_cnt);
	json_t *holders = json_array(), *stages = json_array(), *files = json_array();
	char number[8];
	for (size_t i = 0; i < holder_cnt; i++)
		json_array_append_new(holders, holder(&h[i]));
	for (size_t i = 0; i < stage_cnt; i++)
		json_array_append_new(stages, stage(a, &s[i]));
	for (size_t i = 0; i < a->file_cnt; i++)
		json_array_append_new(files, json_string(a->file[i]));
	json_t *answer = json_pack("{s:s, s:o, s:i, s:{s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:o, s:o}}", "schema",
		"millrace/nat-who/1", "instance",
		a->live ? json_string(c->instance ? c->instance : "default") : json_null(), "generation", 0, "data",
		"outside", address(a->q.outside_be), "port", a->q.port < 0 ? json_null() : json_integer(a->q.port),
		"proto", a->q.proto < 0 ? json_null() : json_string(nat_log_proto((uint8_t)a->q.proto, number)), "from",
		time_or_null(a->q.from_ns, a->at), "to", time_or_null(a->q.to_ns, true), "certain",
		holder_cnt || certain(a), "holders", holders, "stages", stages, "files", files);
	int code = mr_ask_write_json(answer);
	json_decref(answer);
	return code ? code : holder_cnt || certain(a) ? 0 : MR_EXIT_FAILURE;
}

int mr_verb_nat(const struct mr_cli *c)
{
	struct mr_error e = { "" };
	struct asking a = { 0 };
	if (read_question(c, &a, &e))
		return mr_ask_fail(MR_EXIT_MISUSE, &e);
	int code = find_files(c, &a, &e);
	if (!code)
		code = read_files(&a, &e) ? mr_ask_fail(MR_EXIT_FAILURE, &e)
			: c->json         ? write_json(c, &a)
					  : write_text(&a);
	nat_who_destroy(a.who);
	for (size_t i = 0; i < a.file_cnt; i++)
		free(a.file[i]);
	free(a.file);
	return code;
}
