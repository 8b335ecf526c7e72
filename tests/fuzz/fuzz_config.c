/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_config.c - any bytes as a configuration, or, behind a first line "#set prefix" or "#set port", as the file of a set.
 *
 * Beside what the sanitizers see: a refusal has exactly one printable line that begins with the name, an accepted file has
 * what the checks promise.
 */
#include "core/config_read.h"
#include "core/value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)        \
	do {                      \
		if (!(condition)) \
			abort();  \
	} while (0)

struct rule {
	const char *action;
	struct mr_prefix_list src;
	struct mr_range_list dport, numbers;
	struct mr_icmp_list icmp;
	struct mr_tcp_flags flags;
	uint64_t rate, wait_ns;
	struct mr_position at;
};
struct stage {
	uint64_t count;
	struct mr_object_list rules;
	struct mr_object_list names;
	struct mr_prefix address;
	const struct mr_node *node;
};

static const struct mr_option rule_table[] = { MR_OPT("action", MR_TYPE_STRING, struct rule, action),
	MR_OPT("src", MR_TYPE_PREFIX_LIST, struct rule, src), MR_OPT("dport", MR_TYPE_PORT_LIST, struct rule, dport),
	MR_OPT("numbers", MR_TYPE_UINT_LIST, struct rule, numbers),
	MR_OPT("icmp", MR_TYPE_ICMP_LIST, struct rule, icmp), MR_OPT("flags", MR_TYPE_TCP_FLAGS, struct rule, flags),
	MR_OPT("rate", MR_TYPE_RATE, struct rule, rate, .unit = "bits/s"),
	MR_OPT("wait", MR_TYPE_DURATION, struct rule, wait_ns), MR_OPT_END };
static const struct mr_option stage_table[] = { MR_OPT("count", MR_TYPE_UINT, struct stage, count, .fallback = "3"),
	MR_OPT("rules", MR_TYPE_LIST, struct stage, rules, .table = rule_table, .element_bytes = sizeof(struct rule),
		.at_offset = offsetof(struct rule, at)),
	MR_OPT("names", MR_TYPE_MAP, struct stage, names, .table = rule_table, .element_bytes = sizeof(struct rule)),
	MR_OPT("address", MR_TYPE_ADDRESS, struct stage, address), MR_OPT("node", MR_TYPE_NODE, struct stage, node),
	MR_OPT_END };

static void check_sentence(const struct mr_error *e)
{
	REQUIRE(strncmp(e->text, "fuzz", 4) == 0);
	for (const char *p = e->text; *p; p++)
		REQUIRE((unsigned char)*p >= 0x20 && *p != 0x7f);
}

static void check_config(const struct mr_config *c)
{
	struct mr_error e;
	for (uint32_t i = 0; i < c->interface_cnt; i++) {
		const struct mr_config_interface *n = &c->interfaces[i];
		REQUIRE((n->device != NULL) + (n->pcap_in != NULL) + n->has_memory == 1);
		REQUIRE(mr_value_name(n->name) && mr_value_name(n->zone));
	}
	for (uint32_t i = 0; i < c->pipeline_cnt; i++) {
		const struct mr_config_pipeline *p = &c->pipelines[i];
		REQUIRE(p->from.cnt > 0 && (p->to_kind != MR_TO_INTERFACE || p->to));
		REQUIRE(p->match_kind != MR_MATCH_LIST || p->match_cnt > 0);
		mr_config_locate(c, p->name);
	}
	for (uint32_t i = 0; i < c->stage_cnt; i++) {
		struct stage s;
		if (mr_config_read_stage(c, &c->stages[i], stage_table, &s, sizeof(s), &e))
			check_sentence(&e);
	}
}

static void fuzz_set(const char *text, size_t size, int type)
{
	struct mr_arena *a = mr_arena_create();
	struct mr_config_set set = { .type = type };
	struct mr_error e;
	if (mr_set_read_text(a, text, size, "fuzz", &set, &e)) {
		check_sentence(&e);
	} else {
		mr_set_finish(&set);
		for (uint32_t i = 1; i < set.prefixes.cnt; i++)
			REQUIRE(mr_value_prefix_compare(&set.prefixes.items[i - 1], &set.prefixes.items[i]) < 0);
		for (uint32_t i = 1; i < set.ports.cnt; i++)
			REQUIRE(set.ports.items[i - 1].hi + 1 < set.ports.items[i].lo);
	}
	mr_arena_destroy(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct mr_config *c = NULL;
	struct mr_error e = { .text = "" };
	if (size >= 12 && memcmp(text, "#set prefix\n", 12) == 0) {
		fuzz_set(text + 12, size - 12, MR_SET_PREFIX);
		return 0;
	}
	if (size >= 10 && memcmp(text, "#set port\n", 10) == 0) {
		fuzz_set(text + 10, size - 10, MR_SET_PORT);
		return 0;
	}
	int err = mr_config_read_text(text, size, "fuzz", "/nonexistent", &c, &e);
	if (err) {
		REQUIRE(err == -EINVAL && !c);
		check_sentence(&e);
		return 0;
	}
	check_config(c);
	mr_config_free(c);
	return 0;
}
