/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench_steer.c - what steering costs the traffic that no pipeline wants.
 *
 * BPF_PROG_RUN repeats each program on one frame; programs take turns in every round, so that what disturbs the machine disturbs all.
 * A figure is the median over the rounds; a ratio is to a program that only returns XDP_PASS, in the same rounds.
 *
 * Then the same entries in user space: mr_steer_classify() on the parsed frame, in the same rounds.
 *
 *     bench_steer [--json] [--rounds N] [--repeat N]
 */
#include "core/steer.h"
#include "kern/parse.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ENTRIES_MAX 256
#define ROUNDS_MAX  101
#define VARIANT_CNT 8
#define PROGRAM_CNT 5
#define TRAFFIC_CNT 4

/* Programs first (-1 entries: the bare one), then classification in user space. */
static const struct {
	const char *name;
	int entries;
} variants[VARIANT_CNT] = { { "bare", -1 }, { "steer", 0 }, { "steer", 1 }, { "steer", 16 }, { "steer", 256 },
	{ "classify", 1 }, { "classify", 16 }, { "classify", 256 } };

/* Destination ports of the entries are 1000..1255, destinations 10.0.N.0/24 and 2001:db8:N::/48. */
struct entries {
	struct mr_steer_entry entry[ENTRIES_MAX];
	struct mr_config_match match[ENTRIES_MAX];
	struct mr_prefix dst[ENTRIES_MAX][2];
	struct mr_range port[ENTRIES_MAX];
	struct mr_range proto;
};

struct traffic {
	const char *name;
	const char *what;
	unsigned family;
	unsigned dport;
	uint8_t frame[74];
};

static struct traffic traffics[TRAFFIC_CNT] = {
	{ "far4", "IPv4, a port no entry has", 4, 40000, { 0 } },
	{ "near4", "IPv4, an entry's port to another address", 4, 1000, { 0 } },
	{ "far6", "IPv6, a port no entry has", 6, 40000, { 0 } },
	{ "near6", "IPv6, an entry's port to another address", 6, 1000, { 0 } },
};

static void make_entries(struct entries *e)
{
	e->proto = (struct mr_range){ 17, 17 };
	for (unsigned i = 0; i < ENTRIES_MAX; i++) {
		e->dst[i][0] = (struct mr_prefix){ 4, 24, { 10, 0, (uint8_t)i } };
		e->dst[i][1] = (struct mr_prefix){ 6, 48, { 0x20, 1, 0x0d, 0xb8, 0, (uint8_t)i } };
		e->port[i] = (struct mr_range){ 1000 + i, 1000 + i };
		e->match[i].dst = (struct mr_prefix_list){ .items = e->dst[i], .cnt = 2 };
		e->match[i].dport = (struct mr_range_list){ .items = &e->port[i], .cnt = 1 };
		e->match[i].proto = (struct mr_range_list){ .items = &e->proto, .cnt = 1 };
		e->entry[i] = (struct mr_steer_entry){ &e->match[i], (uint8_t)(i / 4), i % 4 == 0 && i };
	}
}

/* UDP from and to documentation addresses. */
static void make_frame(struct traffic *t)
{
	static const uint8_t head4[] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64,
		17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 1, 0x9c, 0x40, 0, 0, 0, 26 };
	static const uint8_t head6[] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 17, 64,
		0x20, 1, 0x0d, 0xb8, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x20, 1, 0x0d, 0xb8, 0xff, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 0, 2, 0x9c, 0x40, 0, 0, 0, 20 };
	unsigned port_at = t->family == 4 ? 36 : 56;
	memcpy(t->frame, t->family == 4 ? head4 : head6, t->family == 4 ? sizeof(head4) : sizeof(head6));
	t->frame[port_at] = (uint8_t)(t->dport >> 8);
	t->frame[port_at + 1] = (uint8_t)t->dport;
}

static int load_bare(void)
{
	static const struct bpf_insn code[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT } };
	return bpf_prog_load(BPF_PROG_TYPE_XDP, "bare", "BSD", code, 2, NULL);
}

/* Nanoseconds a call, in user space. */
static unsigned classify(const struct mr_steer_table *t, const struct traffic *f, unsigned repeat)
{
	struct timespec a, b;
	struct mr_parsed p;
	unsigned bytes = f->family == 4 ? 60 : 74;
	int sum = 0;
	mr_parse(f->frame, f->frame + bytes, &p);
	clock_gettime(CLOCK_MONOTONIC, &a);
	for (unsigned i = 0; i < repeat; i++)
		sum += mr_steer_classify(t, &p, f->frame);
	clock_gettime(CLOCK_MONOTONIC, &b);
	if (sum != -(int)repeat) {
		fprintf(stderr, "bench_steer: an entry matched\n");
		exit(1);
	}
	return (unsigned)((double)((b.tv_sec - a.tv_sec) * 1000000000LL + b.tv_nsec - a.tv_nsec) / repeat + 0.5);
}

/* The program with the first cnt entries in force: its fd, or -errno. */
static int load_steer(const struct entries *e, unsigned cnt, struct mr_steer **s, struct mr_error *err)
{
	struct mr_steer_options opt = { .instance = "bench", .interface_id = 1 };
	struct mr_steer_table *t;
	int rc = mr_steer_load(&opt, s, err);
	if (rc)
		return rc;
	rc = mr_steer_compile(e->entry, cnt, &t, err);
	if (rc)
		return rc;
	rc = mr_steer_apply(*s, t, err);
	mr_steer_table_free(t);
	return rc ? rc : mr_steer_prog_fd(*s);
}

static int run(int fd, const struct traffic *t, unsigned repeat, unsigned *ns)
{
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = t->frame, .data_size_in = t->family == 4 ? 60 : 74,
		.repeat = (int)repeat);
	int err = bpf_prog_test_run_opts(fd, &o);
	if (err || o.retval != XDP_PASS) {
		fprintf(stderr, "bench_steer: BPF_PROG_RUN: %s, action %u\n", strerror(-err), o.retval);
		return -1;
	}
	*ns = o.duration;
	return 0;
}

static int by_value(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
	return x < y ? -1 : x > y;
}

static void report(unsigned ns[TRAFFIC_CNT][VARIANT_CNT][ROUNDS_MAX], unsigned rounds, unsigned repeat, bool json)
{
	if (json)
		printf("{ \"bench\": \"steer\", \"rounds\": %u, \"repeat\": %u, \"results\": [", rounds, repeat);
	for (unsigned t = 0; t < TRAFFIC_CNT; t++) {
		unsigned bare = 0;
		if (!json)
			printf("%s: %s\n", traffics[t].name, traffics[t].what);
		for (unsigned v = 0; v < VARIANT_CNT; v++) {
			unsigned *x = ns[t][v];
			qsort(x, rounds, sizeof(*x), by_value);
			unsigned median = x[rounds / 2], low = x[rounds / 4], high = x[rounds * 3 / 4];
			if (!v)
				bare = median ? median : 1;
			char name[32] = "bare";
			if (v)
				snprintf(name, sizeof(name), "%s %d", variants[v].name, variants[v].entries);
			if (json)
				printf("%s\n  { \"traffic\": \"%s\", \"program\": \"%s\", \"entries\": %d, "
				       "\"median_ns\": %u, "
				       "\"quartile_low_ns\": %u, \"quartile_high_ns\": %u, \"ratio_to_bare\": %.2f }",
					t || v ? "," : "", traffics[t].name, variants[v].name,
					v ? variants[v].entries : 0, median, low, high, (double)median / bare);
			else
				printf("  %-10s %4u ns a packet (quartiles %u-%u), %.2f of bare, %+d ns\n", name,
					median, low, high, (double)median / bare, (int)median - (int)bare);
		}
	}
	if (json)
		printf("\n] }\n");
}

static bool options(int argc, char **argv, unsigned *rounds, unsigned *repeat, bool *json)
{
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			*json = true;
		else if (!strcmp(argv[i], "--rounds") && i + 1 < argc)
			*rounds = (unsigned)atoi(argv[++i]);
		else if (!strcmp(argv[i], "--repeat") && i + 1 < argc)
			*repeat = (unsigned)atoi(argv[++i]);
		else
			*rounds = 0;
	}
	if (*rounds && *rounds <= ROUNDS_MAX && *repeat && *repeat <= 100000000)
		return true;
	fprintf(stderr, "usage: bench_steer [--json] [--rounds 1-%u] [--repeat N]\n", ROUNDS_MAX);
	return false;
}

int main(int argc, char **argv)
{
	static struct entries e;
	static unsigned ns[TRAFFIC_CNT][VARIANT_CNT][ROUNDS_MAX];
	struct mr_steer *steer[VARIANT_CNT] = { NULL };
	struct mr_error err = { "" };
	struct mr_steer_table *table[VARIANT_CNT] = { NULL };
	int fd[VARIANT_CNT], rc = 1;
	unsigned rounds = 21, repeat = 200000;
	bool json = false;
	if (!options(argc, argv, &rounds, &repeat, &json))
		return 2;
	make_entries(&e);
	for (unsigned t = 0; t < TRAFFIC_CNT; t++)
		make_frame(&traffics[t]);
	for (unsigned v = PROGRAM_CNT; v < VARIANT_CNT; v++)
		if (mr_steer_compile(e.entry, (unsigned)variants[v].entries, &table[v], &err))
			goto out;
	for (unsigned v = 0; v < PROGRAM_CNT; v++) {
		fd[v] = v ? load_steer(&e, (unsigned)variants[v].entries, &steer[v], &err) : load_bare();
		if (fd[v] < 0) {
			fprintf(stderr, "bench_steer: %s\n", err.text[0] ? err.text : strerror(-fd[v]));
			rc = fd[v] == -EPERM ? 77 : 1;
			goto out;
		}
	}
	for (unsigned r = 0; r < rounds; r++)
		for (unsigned t = 0; t < TRAFFIC_CNT; t++)
			for (unsigned v = 0; v < VARIANT_CNT; v++)
				if (v >= PROGRAM_CNT)
					ns[t][v][r] = classify(table[v], &traffics[t], repeat);
				else if (run(fd[v], &traffics[t], repeat, &ns[t][v][r]))
					goto out;
	report(ns, rounds, repeat, json);
	rc = 0;
out:
	for (unsigned v = 0; v < VARIANT_CNT; v++) {
		mr_steer_table_free(table[v]);
		mr_steer_unload(steer[v]);
	}
	return rc;
}
