/* SPDX-License-Identifier: BSD-2-Clause */
#include "pipelines/filter/filter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct filter {
	struct filter_rule *rule;
	uint32_t rule_cnt;
	int fallback;
	uint16_t fallback_counter;
	unsigned blocked, by_default; /* drop reasons */
};

/* ---- options ---------------------------------------------------------------------------------------------------- */

static const char *const action_words[] = { "accept", "drop", "limit", NULL };
static const char *const fallback_words[] = { "accept", "drop", NULL };
static const char *const fragment_words[] = { "any", "false", "true", NULL };

#define RULE(k, t, m, ...) MR_OPT(k, t, struct filter_rule_options, m, __VA_ARGS__)

static const struct mr_option rule_options[] = {
	RULE("name", MR_TYPE_NAME, name, .max = 31, .help = "what counters and explain call it; default: its number"),
	RULE("action", MR_TYPE_ENUM, action, .values = action_words, .required = true,
		.help = "accept, drop, or limit: let through up to a rate, drop above it"),
	RULE("rate", MR_TYPE_RATE, rate_per_s, .unit = "packets/s", .help = "of limit: packets a second let through"),
	RULE("burst", MR_TYPE_UINT, burst, .unit = "packets", .max = 1000000000,
		.help = "of limit: packets let through at once; default: a tenth of a second's"),
	RULE("src", MR_TYPE_PREFIX_LIST, src, .help = "source address is in the list"),
	RULE("dst", MR_TYPE_PREFIX_LIST, dst, .help = "destination address is in the list"),
	RULE("not_src", MR_TYPE_PREFIX_LIST, not_src, .help = "source address is not in the list"),
	RULE("not_dst", MR_TYPE_PREFIX_LIST, not_dst, .help = "destination address is not in the list"),
	RULE("proto", MR_TYPE_PROTO_LIST, proto, .help = "IP protocol"),
	RULE("sport", MR_TYPE_PORT_LIST, sport, .help = "source port; a later fragment has those of its first one"),
	RULE("dport", MR_TYPE_PORT_LIST, dport,
		.help = "destination port; a later fragment has those of its first one"),
	RULE("icmp", MR_TYPE_ICMP_LIST, icmp, .help = "ICMP or ICMPv6 type, or type/code"),
	RULE("tcp_flags", MR_TYPE_TCP_FLAGS, tcp_flags, .help = "TCP flags set / of those looked at"),
	RULE("length", MR_TYPE_UINT_LIST, length, .max = 65575, .unit = "bytes", .help = "bytes of the IP packet"),
	RULE("dscp", MR_TYPE_UINT_LIST, dscp, .max = 63, .help = "differentiated services code point"),
	RULE("fragment", MR_TYPE_ENUM, fragment, .values = fragment_words, .fallback = "any",
		.help = "true: fragments only; false: whole packets only"),
	RULE("vlan", MR_TYPE_UINT_LIST, vlan, .max = 4095, .help = "id of the outer VLAN tag"),
	RULE("state", MR_TYPE_STRING_LIST, state,
		.help = "new, established, related, invalid, untracked: what the packet is to a session"),
	RULE("ethertype", MR_TYPE_ETHERTYPE_LIST, ethertype,
		.help = "of the frame; what is not IP matches only rules with this"),
	RULE("interface", MR_TYPE_STRING_LIST, interface, .help = "it came in by one of these"),
	MR_OPT_END,
};

static const struct mr_option filter_options_table[] = {
	MR_OPT("rules", MR_TYPE_LIST, struct filter_options, rules, .table = rule_options,
		.element_bytes = sizeof(struct filter_rule_options),
		.at_offset = offsetof(struct filter_rule_options, at),
		.help = "in order; the first whose conditions all hold decides"),
	MR_OPT("default", MR_TYPE_ENUM, struct filter_options, fallback, .values = fallback_words, .fallback = "accept",
		.help = "what happens to packets no rule matches"),
	MR_OPT_END,
};

/* ---- life --------------------------------------------------------------------------------------------------------- */

static void filter_destroy(void *stage)
{
	struct filter *f = stage;
	for (uint32_t i = 0; i < f->rule_cnt; i++)
		filter_rule_free(&f->rule[i]);
	free(f->rule);
	free(f);
}

static int filter_create(struct mr_stage_env *env, const void *options, void **stage)
{
	const struct filter_options *o = options;
	const struct filter_rule_options *rules = o->rules.items;
	struct filter *f = calloc(1, sizeof(*f));
	int err = -ENOMEM;
	if (!f)
		return err;
	f->fallback = o->fallback;
	f->blocked = mr_stage_reason(env, "blocked", "a filter rule drops it");
	f->by_default = mr_stage_reason(env, "default", "no filter rule lets it through, and the default is drop");
	f->fallback_counter = mr_stage_counter(env, "default");
	f->rule = calloc(o->rules.cnt ? o->rules.cnt : 1, sizeof(*f->rule));
	if (!f->rule)
		goto fail;
	for (uint32_t i = 0; i < o->rules.cnt; i++) {
		err = filter_rule_make(env, &rules[i], i + 1, &f->rule[i]);
		if (err)
			goto fail;
		f->rule_cnt++;
		for (uint32_t k = 0; k < i; k++)
			if (!strcmp(f->rule[k].label, f->rule[i].label)) { /* one's name may be another's number */
				err = mr_stage_error(env, rules[i].at, "two rules are called '%s'", f->rule[i].label);
				goto fail;
			}
	}
	*stage = f;
	return 0;
fail:
	filter_destroy(f);
	return err;
}

/* ---- deciding ------------------------------------------------------------------------------------------------------ */

static void decide_by_rule(const struct filter *f, const struct filter_rule *r, struct mr_packet *p)
{
	mr_decide_count(p, r->counter);
	switch (r->o->action) {
	case FILTER_DROP:
		mr_packet_explain(p, "rule %s (%s) drops it", r->label, r->where);
		mr_decide_drop(p, f->blocked);
		break;
	case FILTER_LIMIT:
		mr_packet_explain(p, "rule %s (%s) lets %llu packets a second through", r->label, r->where,
			(unsigned long long)r->o->rate_per_s);
		mr_decide_meter(p, r->meter);
		break;
	default:
		mr_packet_explain(p, "rule %s (%s) accepts it", r->label, r->where);
		break;
	}
}

static void decide_one(const struct filter *f, struct mr_packet *p)
{
	for (uint32_t i = 0; i < f->rule_cnt; i++)
		if (filter_rule_matches(&f->rule[i], p)) {
			decide_by_rule(f, &f->rule[i], p);
			return;
		}
	mr_decide_count(p, f->fallback_counter);
	mr_packet_explain(p, "no rule matches: the default %s it", f->fallback == FILTER_DROP ? "drops" : "accepts");
	if (f->fallback == FILTER_DROP)
		mr_decide_drop(p, f->by_default);
}

static void filter_decide(void *stage, unsigned worker, struct mr_batch *batch)
{
	for (unsigned i = 0; i < mr_batch_cnt(batch); i++)
		decide_one(stage, mr_batch_packet(batch, i));
}

const struct mr_stage_type mr_filter_stage = {
	.abi = MR_STAGE_ABI,
	.type = "filter",
	.guards = true,
	.summary = "rules in order: accept, drop or limit packets",
	.options = filter_options_table,
	.options_bytes = sizeof(struct filter_options),
	.create = filter_create,
	.destroy = filter_destroy,
	.decide = filter_decide,
};
