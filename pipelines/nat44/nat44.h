/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nat44.h - stage type `nat44`: many inside addresses behind a few outside ones.
 *
 *     options.c   what the configuration says, checked and made ready
 *     range.c     sets of addresses
 *     static.c    static rules: one to one, and forwards of ports
 *     decide.c    what becomes of a packet: look.c says what it is, open.c makes new sessions
 *     session.c   what a session has taken, and gives back
 *     knock.c     who inside has sent to whose outside end: for filters over the hairpin
 *     nat44.c     the stage: instances and what they share, match
 *     check.c     what `millrace check` says
 *     ports.c store.c   outside addresses, subscribers, mappings (store.h)
 *     log.c show.c      who had what when (log.h), `millrace show nat`
 *
 * A translation is a session: decide() is asked once, the records of the session say the rest.  What outlives an instance of the stage, over
 * reloads, is struct nat_shared; everything else is made from the options each time.
 */
#ifndef MR_PIPELINES_NAT44_H
#define MR_PIPELINES_NAT44_H

#include "millrace/stage.h"
#include "pipelines/nat44/log.h"
#include "pipelines/nat44/store.h"

#include <stdatomic.h>
#include <string.h>

extern const struct mr_stage_type mr_nat44_stage;

/* ---- options ---------------------------------------------------------------------------------------------------- */

enum nat_leftover { NAT_LEFTOVER_DROP, NAT_LEFTOVER_KERNEL };
enum nat_unsolicited { NAT_UNSOLICITED_DROP, NAT_UNSOLICITED_ANSWER };
enum nat_log_events { NAT_LOG_SESSIONS, NAT_LOG_BLOCKS };

struct nat_static_options {
	struct mr_prefix inside, outside;
	struct mr_range_list proto, ports, inside_ports;
	struct mr_position at;
};

struct nat_limit_options {
	uint64_t sessions, mappings, blocks;
	struct mr_position blocks_at;
};

struct nat_timeout_options {
	uint64_t udp_ns, udp_unreplied_ns, tcp_established_ns, tcp_transitory_ns, tcp_closed_ns, icmp_ns, other_ns;
	struct mr_position udp_at, udp_unreplied_at, tcp_established_at, tcp_transitory_at, tcp_closed_at, icmp_at;
};

struct nat_log_config {
	int events; /* enum nat_log_events */
	const char *file;
	bool syslog;
	uint64_t rate_per_s;
};

struct nat_options {
	struct mr_prefix_list inside, exempt;
	struct mr_string_list outside;
	struct mr_range_list ports;
	int leftover, mapping, filtering, pooling, port_choice, unsolicited;
	struct mr_position unsolicited_at, announce_at;
	uint64_t port_block;
	struct mr_position port_block_at;
	struct nat_limit_options limits;
	uint64_t quarantine_ns;
	struct nat_timeout_options timeouts;
	bool inbound_refresh;
	bool mss_given; /* and mss_bytes 0: `auto` */
	uint64_t mss_bytes;
	struct mr_object_list rules; /* struct nat_static_options */
	bool log_given;
	struct mr_position log_at;
	struct nat_log_config log;
	bool announce;
};

extern const struct mr_option nat_options_table[];

/* ---- ranges of addresses ---------------------------------------------------------------------------------------- */

struct nat_range { /* host order, inclusive */
	uint32_t lo, hi;
};

struct nat_ranges { /* sorted, apart from each other */
	struct nat_range *range;
	uint32_t cnt;
};

bool nat_ranges_hold(const struct nat_ranges *r, uint32_t address);
bool nat_ranges_cover(const struct nat_ranges *r, uint32_t lo, uint32_t hi); /* all of them */
bool nat_ranges_meet(const struct nat_ranges *r, uint32_t lo, uint32_t hi);  /* one of them */
/* -ENOMEM.  Keeps r as it was then.  `merge` afterwards makes it searchable. */
int nat_ranges_add(struct nat_ranges *r, uint32_t lo, uint32_t hi);
void nat_ranges_merge(struct nat_ranges *r);
/* Takes addresses out of merged ranges.  -ENOMEM. */
int nat_ranges_remove(struct nat_ranges *r, uint32_t lo, uint32_t hi);
uint64_t nat_ranges_count(const struct nat_ranges *r);
void nat_ranges_free(struct nat_ranges *r);

/* ---- static rules ----------------------------------------------------------------------------------------------- */

#define NAT_STATIC_MAX     4096 /* rules of one configuration, each protocol of a forward counted */
#define NAT_PROTO_ALL      (-1)
#define NAT_IDENTITIES_MAX 65535

/* A rule made ready.  One to one: proto NAT_PROTO_ALL, any number of addresses.  A forward: one address, one protocol, ports. */
struct nat_rule {
	uint32_t inside, outside; /* host order, the first of address_cnt */
	uint32_t address_cnt;
	int16_t proto; /* IPPROTO_* */
	bool ports;    /* it has some: TCP and UDP; else all of its protocol belong to it as they are */
	uint16_t inside_port, outside_port, last_port; /* host order; last_port of the outside ones */
	uint16_t identity; /* in nat_identities: the same in every configuration that has it */
	const char *where; /* "edge.yaml:12" */
};

/* An end of a rule met by a packet: what it becomes. */
struct nat_end {
	const struct nat_rule *rule;
	__be32 address_be;
	int port_be;     /* MR_PORT_KEEP */
	uint32_t offset; /* of the address, or of the port, in the rule */
};

struct nat_statics {
	struct nat_rule *rule; /* in file order */
	uint32_t cnt;
	struct nat_find *by_outside, *by_inside; /* static.c */
	uint32_t by_outside_cnt, by_inside_cnt;
	struct nat_ranges whole;    /* outside addresses that are one inside address's */
	struct nat_ranges outsides; /* all of the rules */
};

/* Rules by what they say, numbered once and for all; 0 is none.  Never moved: workers read while control adds. */
struct nat_identities {
	struct nat_rule *rule; /* by number */
	uint32_t cnt;          /* highest number given */
};

/* Checks and compiles.  -EINVAL with the sentence, -ENOMEM; nothing is left then.  `inside`: what the stage serves. */
int nat_statics_make(struct mr_stage_env *env, const struct nat_options *o, const struct nat_ranges *inside,
	struct nat_statics *out);
int nat_identities_make(struct nat_identities *ids); /* -ENOMEM */
/* Numbers the rules.  One there is no number for keeps 0 and is not used.  Control. */
void nat_statics_number(struct nat_statics *s, struct nat_identities *ids);
void nat_statics_free(struct nat_statics *s);
/* The rule a packet to (address, port) meets, and the inside end; likewise of a packet from inside.  Ports network order.  False: none. */
bool nat_statics_inward(
	const struct nat_statics *s, uint8_t proto, __be32 outside_be, __be16 port_be, struct nat_end *out);
bool nat_statics_outward(
	const struct nat_statics *s, uint8_t proto, __be32 inside_be, __be16 port_be, struct nat_end *out);
/* Whether what rule `identity` said of its offset-th address or port is still said.  *outside_be is the address. */
bool nat_statics_keep(const struct nat_statics *s, const struct nat_identities *ids, uint16_t identity, uint32_t offset,
	__be32 *outside_be);
void nat_identities_free(struct nat_identities *ids);

/* ---- what instances share --------------------------------------------------------------------------------------- */

/* By worker, and one more for control. */
struct nat_counts {
	_Alignas(64) uint64_t opened_out, opened_in, opened_hairpin,
		opened_static; /* sessions; static ones are in the others too */
	uint64_t ended, ticked_ns;
};

#define NAT_KNOCKS 4096

/* A packet from one outside end to another, both of hosts inside. */
struct nat_knock {
	__be32 from_be, to_be;
	__be16 from_port_be, to_port_be; /* to_port_be 0: the filter does not look at it */
	uint16_t zone;
	uint8_t proto; /* enum nat_proto */
};

struct nat_shared {
	unsigned holder_cnt; /* instances; control only */
	struct nat *newest;  /* who has taken over last; control only */
	unsigned worker_cnt;
	struct nat_store *store;
	struct nat_identities identities;
	struct nat_counts *counts; /* worker_cnt + 1; each written by its own, read by control (relaxed) */
	uint64_t knock_seed;
	_Atomic uint64_t knock[NAT_KNOCKS]; /* knock.c */
};

/* ---- an instance ------------------------------------------------------------------------------------------------ */

enum nat_reason {
	NAT_REASON_NO_SESSION,
	NAT_REASON_UNWANTED,
	NAT_REASON_NOT_EXEMPT,
	NAT_REASON_FILTERED,
	NAT_REASON_AMBIGUOUS,
	NAT_REASON_PORTS,
	NAT_REASON_BLOCKS,
	NAT_REASON_BLOCK_LIMIT,
	NAT_REASON_SESSION_LIMIT,
	NAT_REASON_MAPPING_LIMIT,
	NAT_REASON_MEMORY,
	NAT_REASON_NO_ADDRESS,
	NAT_REASON_CNT
};

struct nat {
	const struct nat_options *o;
	const char *name;
	unsigned worker_cnt;
	struct nat_ranges inside, exempt;
	struct nat_ranges pool;     /* outside addresses of dynamic mappings */
	struct nat_ranges outsides; /* those and the ones of static rules */
	struct nat_statics statics;
	struct nat_policy policy; /* .address points to pool_number */
	uint32_t *pool_number;    /* in the store, in the order of the pool */
	uint32_t pool_cnt;
	uint32_t pool_left_out; /* addresses the store had no number for */
	struct nat_shared *shared;
	struct nat_log *log; /* NULL = none */
	unsigned reason[NAT_REASON_CNT];
	uint16_t count_out, count_in, count_hairpin, count_errors, count_leftover;
	uint8_t timeouts_out, timeouts_in, timeouts_hairpin;
};

/* What a session has of the stage.  All zeros: it is not translated. */
struct nat_private {
	uint32_t source; /* mapping of the source, or (static) identity of the rule << 16 | lower half of the offset */
	uint32_t destination; /* likewise of the destination */
	uint32_t aside; /* subscriber, with NAT_SUBSCRIBER; else the address a mapping was taken for (network order) */
	uint8_t flags;
	uint8_t source_more, destination_more; /* offset, upper bits */
	uint8_t reserved;
};
#define NAT_SOURCE             1 /* it translates the source of forward packets */
#define NAT_DESTINATION        2 /* ... the destination */
#define NAT_SOURCE_STATIC      4
#define NAT_DESTINATION_STATIC 8
#define NAT_SUBSCRIBER         16 /* the source has no mapping, only an address */
#define NAT_PEERS \
	32 /* its mappings were taken while the filter was address-dependent: the store remembers whom it let in */

_Static_assert(sizeof(struct nat_private) == 16, "as documented");

/* Makes ready what does not depend on the store: ranges, rules, policy.  -EINVAL with the sentence, -ENOMEM. */
int nat_options_make(struct mr_stage_env *env, const struct nat_options *o, struct nat *n);
void nat_options_free(struct nat *n);
bool nat_address_special(uint32_t address); /* host order; not one host's outside */

/* Gives back what the store was asked for.  `unused`: the session was not made.  Threads: any. */
void nat_give_back(struct nat *n, const struct nat_turn *t, const struct nat_private *mine, bool unused);
void nat_decide(void *stage, unsigned worker, struct mr_batch *batch);
enum mr_revalidate nat_revalidate(void *stage, unsigned worker, struct mr_packet *p);
void nat_abort(void *stage, unsigned worker, struct mr_packet *p);
void nat_commit(void *stage, unsigned worker, struct mr_packet *p);
void nat_expire(void *stage, const void *priv, const struct mr_session_end *end);
bool nat_keeps(void *stage, const void *priv);

/* As mr_stage_type.check. */
void nat_check(void *stage, struct mr_check *check);

/* It was filtered, but its sender is known to have sent there; and whether such a one was, within the last half minute.  Threads: any. */
void nat_knock(struct nat_shared *s, const struct nat_knock *k, uint32_t now_ms);
bool nat_knocked(struct nat_shared *s, const struct nat_knock *k, uint32_t now_ms);

/* show.c: answers `show nat`.  As mr_stage_type.ask. */
int nat_ask(void *stage, const char *request, char **answer);

/* An IPv4 address as tuples have it. */
static inline __be32 nat_address_at(const uint8_t *at)
{
	__be32 be;
	memcpy(&be, at, 4);
	return be;
}

#endif
