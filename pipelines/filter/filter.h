/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * filter.h - stage type `filter`: rules in order, the first that matches decides.
 *
 *     filter.c    the stage: options, verdicts, counters
 *     rule.c      one rule made ready, and whether it matches a packet
 *     range.c     sorted ranges of addresses and numbers
 */
#ifndef MR_FILTER_H
#define MR_FILTER_H

#include "millrace/stage.h"

extern const struct mr_stage_type mr_filter_stage;

/* ---- options ---------------------------------------------------------------------------------------------------- */

enum filter_action { FILTER_ACCEPT, FILTER_DROP, FILTER_LIMIT };
enum filter_fragment { FILTER_FRAGMENT_ANY, FILTER_FRAGMENT_NO, FILTER_FRAGMENT_YES };

struct filter_rule_options {
	const char *name;
	struct mr_position at;
	int action;          /* enum filter_action */
	uint64_t rate_per_s; /* with limit; packets */
	uint64_t burst;
	struct mr_prefix_list src, dst, not_src, not_dst;
	struct mr_range_list proto, sport, dport, length, dscp, vlan, ethertype;
	struct mr_icmp_list icmp;
	struct mr_tcp_flags tcp_flags;
	int fragment; /* enum filter_fragment */
	struct mr_string_list state, interface;
};

struct filter_options {
	struct mr_object_list rules;
	int fallback; /* FILTER_ACCEPT or FILTER_DROP */
};

/* ---- ranges ----------------------------------------------------------------------------------------------------- */

struct filter_address { /* host order; IPv4 has hi 0 */
	uint64_t hi, lo;
};

struct filter_address_range {
	struct filter_address from, to; /* inclusive */
};

/* Prefixes of one family as sorted ranges that do not touch. */
struct filter_addresses {
	struct filter_address_range *range;
	uint32_t cnt;
};

/* Prefixes of both families: [0] IPv4, [1] IPv6.  `given` with none matches nothing. */
struct filter_prefixes {
	bool given;
	struct filter_addresses family[2];
};

int filter_prefixes_make(const struct mr_prefix_list *list, struct filter_prefixes *out); /* -ENOMEM */
void filter_prefixes_free(struct filter_prefixes *p);
/* addr as in struct mr_tuple. */
bool filter_prefixes_hold(const struct filter_prefixes *p, uint8_t family, const uint8_t *addr);
/* Items sorted and merged, as the configuration reader leaves them. */
bool filter_range_holds(const struct mr_range_list *list, uint32_t value);

/* ---- rules ------------------------------------------------------------------------------------------------------ */

struct filter_rule {
	const struct filter_rule_options *o;
	struct filter_prefixes src, dst, not_src, not_dst;
	uint64_t interfaces; /* bit id-1 */
	uint8_t states;      /* bit enum mr_conn_state */
	bool wants_ip;       /* every condition but ethertype, vlan, length and interface needs an IP packet */
	bool reads_packet;   /* has conditions beyond the flow key */
	bool icmp_codes;     /* its icmp condition names codes */
	char label[40];
	const char *where; /* "edge.yaml:12" */
	uint16_t counter, meter;
};

/* 0, -ENOMEM, or -EINVAL with the sentence. */
int filter_rule_make(
	struct mr_stage_env *env, const struct filter_rule_options *o, unsigned number, struct filter_rule *out);
void filter_rule_free(struct filter_rule *r);
/* Whether all conditions hold.  Those of the flow key are looked at first: the others bind the decision to this packet. */
bool filter_rule_matches(const struct filter_rule *r, struct mr_packet *p);

#endif
