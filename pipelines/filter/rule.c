/* SPDX-License-Identifier: BSD-2-Clause */
#include "pipelines/filter/filter.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static const char *const state_words[] = {
	[MR_CONN_NEW] = "new",
	[MR_CONN_ESTABLISHED] = "established",
	[MR_CONN_RELATED] = "related",
	[MR_CONN_INVALID] = "invalid",
	[MR_CONN_UNTRACKED] = "untracked",
};
#define STATES (sizeof(state_words) / sizeof(state_words[0]))

static int read_states(struct mr_stage_env *env, const struct mr_string_list *list, uint8_t *out)
{
	for (uint32_t i = 0; i < list->cnt; i++) {
		unsigned s = 0;
		while (s < STATES && strcmp(state_words[s], list->items[i]))
			s++;
		if (s == STATES)
			return mr_stage_error(env, list->at ? list->at[i] : (struct mr_position){ 0 },
				"'%s' is no state; there are new, established, related, invalid and untracked",
				list->items[i]);
		*out |= 1u << s;
	}
	return 0;
}

static int read_interfaces(struct mr_stage_env *env, const struct mr_string_list *list, uint64_t *out)
{
	for (uint32_t i = 0; i < list->cnt; i++) {
		unsigned id = mr_stage_interface(env, list->items[i]);
		if (!id)
			return mr_stage_error(env, list->at ? list->at[i] : (struct mr_position){ 0 },
				"no interface is called '%s'", list->items[i]);
		*out |= (uint64_t)1 << (id - 1);
	}
	return 0;
}

static int read_action(struct mr_stage_env *env, const struct filter_rule_options *o, struct filter_rule *out)
{
	if (o->action != FILTER_LIMIT) {
		if (o->rate_per_s || o->burst)
			return mr_stage_error(env, o->at,
				"rule '%s' has a rate or burst, which only action 'limit' uses", out->label);
		return 0;
	}
	if (!o->rate_per_s)
		return mr_stage_error(
			env, o->at, "rule '%s' limits and needs a rate, such as 'rate: 1kpps'", out->label);
	/* A tenth of a second's worth, when nothing is said: bursts of a batch pass, and the rate holds within a second. */
	uint64_t burst = o->burst ? o->burst : o->rate_per_s / 10 ? o->rate_per_s / 10 : 1;
	out->meter = mr_stage_meter(env, out->label, o->rate_per_s, burst, false);
	if (!out->meter)
		return mr_stage_error(env, o->at, "rule '%s': too many limits", out->label);
	return 0;
}

int filter_rule_make(
	struct mr_stage_env *env, const struct filter_rule_options *o, unsigned number, struct filter_rule *out)
{
	char counter[64];
	memset(out, 0, sizeof(*out));
	out->o = o;
	if (o->name)
		snprintf(out->label, sizeof(out->label), "%s", o->name);
	else
		snprintf(out->label, sizeof(out->label), "%u", number);
	snprintf(counter, sizeof(counter), "rules.%s", out->label);
	out->counter = mr_stage_counter(env, counter);
	out->where = mr_stage_where(env, o->at);
	bool ports = mr_list_given(&o->sport) || mr_list_given(&o->dport);
	out->wants_ip = !mr_list_given(&o->ethertype);
	out->reads_packet = o->icmp.cnt || o->state.cnt || o->length.cnt || o->dscp.cnt || o->tcp_flags.mask ||
		o->vlan.cnt || o->fragment != FILTER_FRAGMENT_ANY;
	for (uint32_t i = 0; i < o->icmp.cnt; i++)
		out->icmp_codes |= o->icmp.items[i].code >= 0;
	if (ports && o->icmp.cnt)
		return mr_stage_error(
			env, o->at, "rule '%s' asks for ports and ICMP types: no packet has both", out->label);
	int err = read_states(env, &o->state, &out->states);
	if (!err)
		err = read_interfaces(env, &o->interface, &out->interfaces);
	if (!err)
		err = read_action(env, o, out);
	if (!err)
		err = filter_prefixes_make(&o->src, &out->src);
	if (!err)
		err = filter_prefixes_make(&o->dst, &out->dst);
	if (!err)
		err = filter_prefixes_make(&o->not_src, &out->not_src);
	if (!err)
		err = filter_prefixes_make(&o->not_dst, &out->not_dst);
	if (err)
		filter_rule_free(out);
	return err;
}

void filter_rule_free(struct filter_rule *r)
{
	filter_prefixes_free(&r->src);
	filter_prefixes_free(&r->dst);
	filter_prefixes_free(&r->not_src);
	filter_prefixes_free(&r->not_dst);
}

/* ---- matching ------------------------------------------------------------------------------------------------------ */

static bool addresses_match(const struct filter_rule *r, const struct mr_tuple *t)
{
	if (r->src.given && !filter_prefixes_hold(&r->src, t->family, t->src))
		return false;
	if (r->dst.given && !filter_prefixes_hold(&r->dst, t->family, t->dst))
		return false;
	if (r->not_src.given && filter_prefixes_hold(&r->not_src, t->family, t->src))
		return false;
	return !r->not_dst.given || !filter_prefixes_hold(&r->not_dst, t->family, t->dst);
}

/* Needs an IP packet, whatever the value. */
static bool names_ip_fields(const struct filter_rule *r)
{
	const struct filter_rule_options *o = r->o;
	return r->src.given || r->dst.given || r->not_src.given || r->not_dst.given || o->proto.cnt ||
		mr_list_given(&o->sport) || mr_list_given(&o->dport) || o->icmp.cnt || o->tcp_flags.mask ||
		o->dscp.cnt || r->states || o->fragment != FILTER_FRAGMENT_ANY;
}

static bool key_matches(const struct filter_rule *r, const struct mr_packet *p, const struct mr_tuple *t)
{
	const struct filter_rule_options *o = r->o;
	if (!t->family && (r->wants_ip || names_ip_fields(r)))
		return false;
	if (r->interfaces && !(r->interfaces >> (mr_packet_interface(p) - 1) & 1))
		return false;
	if (o->ethertype.cnt && !filter_range_holds(&o->ethertype, t->ethertype))
		return false;
	if (o->proto.cnt && !filter_range_holds(&o->proto, t->proto))
		return false;
	if (mr_list_given(&o->sport) && !(t->has_ports && filter_range_holds(&o->sport, ntohs(t->sport_be))))
		return false;
	if (mr_list_given(&o->dport) && !(t->has_ports && filter_range_holds(&o->dport, ntohs(t->dport_be))))
		return false;
	return addresses_match(r, t);
}

/* Only the types listed are looked at first: a type is part of a query's key, a code never. */
static bool icmp_matches(const struct filter_rule *r, struct mr_packet *p, const struct mr_tuple *t)
{
	const struct mr_icmp_list *list = &r->o->icmp;
	uint8_t type, code;
	bool code_matters = false;
	if (t->proto != (t->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6))
		return false;
	if (!t->has_icmp)
		return false;
	for (uint32_t i = 0; i < list->cnt; i++) {
		if (list->items[i].type != t->icmp_type)
			continue;
		if (list->items[i].code < 0)
			return true;
		code_matters = true;
	}
	if (!code_matters || mr_packet_icmp(p, &type, &code))
		return false;
	for (uint32_t i = 0; i < list->cnt; i++)
		if (list->items[i].type == type && list->items[i].code == code)
			return true;
	return false;
}

static bool fragment_matches(int wanted, struct mr_packet *p)
{
	bool is = mr_packet_fragment(p) != MR_FRAGMENT_NONE;
	return is == (wanted == FILTER_FRAGMENT_YES);
}

static bool packet_matches(const struct filter_rule *r, struct mr_packet *p, const struct mr_tuple *t)
{
	const struct filter_rule_options *o = r->o;
	if (o->icmp.cnt && !icmp_matches(r, p, t))
		return false;
	if (r->states && !(r->states >> mr_packet_state(p) & 1))
		return false;
	if (o->tcp_flags.mask && t->proto != IPPROTO_TCP)
		return false;
	if (o->tcp_flags.mask && (!t->has_ports || (mr_packet_tcp_flags(p) & o->tcp_flags.mask) != o->tcp_flags.set))
		return false;
	if (o->length.cnt && !filter_range_holds(&o->length, mr_packet_length(p)))
		return false;
	if (o->dscp.cnt && !filter_range_holds(&o->dscp, mr_packet_dscp(p)))
		return false;
	if (o->fragment != FILTER_FRAGMENT_ANY && !fragment_matches(o->fragment, p))
		return false;
	if (!o->vlan.cnt)
		return true;
	int vlan = mr_packet_vlan(p);
	return vlan >= 0 && filter_range_holds(&o->vlan, vlan);
}

bool filter_rule_matches(const struct filter_rule *r, struct mr_packet *p)
{
	const struct mr_tuple *t = mr_packet_tuple(p);
	if (!key_matches(r, p, t))
		return false;
	return !r->reads_packet || packet_matches(r, p, t);
}
