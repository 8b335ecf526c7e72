/* SPDX-License-Identifier: BSD-2-Clause */
/* options.c - what the configuration says about a NAT, checked and made ready. */
#include "pipelines/nat44/nat44.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table ---------------------------------------------------------------------------------------------------- */

#define SECOND 1000000000ull
#define DAY    (86400 * SECOND)
#define MOST   1000000000 /* of a limit */

static const char *const leftover_words[] = { "drop", "kernel", NULL };
static const char *const dependence_words[] = { "endpoint-independent", "address-dependent",
	"address-and-port-dependent", NULL };
static const char *const pooling_words[] = { "paired", "arbitrary", NULL };
static const char *const choice_words[] = { "random", "parity", "preserve", NULL };
static const char *const unsolicited_words[] = { "drop", "answer", NULL };
static const char *const event_words[] = { "sessions", "blocks", NULL };
static const char *const mss_words[] = { "auto", NULL };

#define RULE(k, t, m, ...) MR_OPT(k, t, struct nat_static_options, m, __VA_ARGS__)
#define LIMIT(k, m, ...)   MR_OPT(k, MR_TYPE_UINT, struct nat_limit_options, m, .max = MOST, __VA_ARGS__)
#define TIMEOUT(k, m, f, ...)                                                                            \
	MR_OPT(k, MR_TYPE_DURATION, struct nat_timeout_options, m, .min = SECOND / 10, .max = 365 * DAY, \
		.fallback = f, __VA_ARGS__)
#define LOG(k, t, m, ...) MR_OPT(k, t, struct nat_log_config, m, __VA_ARGS__)
#define NAT(k, t, m, ...) MR_OPT(k, t, struct nat_options, m, __VA_ARGS__)
#define AT(s, m)          .at_offset = offsetof(struct s, m)

static const struct mr_option rule_options[] = {
	RULE("inside", MR_TYPE_PREFIX, inside, .required = true, .help = "the inside address, or prefix"),
	RULE("outside", MR_TYPE_PREFIX, outside, .required = true,
		.help = "what it is outside; a prefix of equal length, address by address"),
	RULE("proto", MR_TYPE_PROTO_LIST, proto, .help = "only these protocols; default: all of them, one to one"),
	RULE("ports", MR_TYPE_PORT_LIST, ports, .help = "with tcp, udp: these outside ports only"),
	RULE("inside_ports", MR_TYPE_PORT_LIST, inside_ports,
		.help = "the ports they are inside, as many; default: the same"),
	MR_OPT_END,
};

static const struct mr_option limit_options[] = {
	LIMIT("sessions", sessions, .help = "sessions at once; 0: any number"),
	LIMIT("mappings", mappings, .help = "mappings at once; 0: any number"),
	MR_OPT("blocks", MR_TYPE_UINT, struct nat_limit_options, blocks, .max = NAT_BLOCKS_MAX,
		AT(nat_limit_options, blocks_at), .help = "blocks of ports; 0: as many as there can be"),
	MR_OPT_END,
};

static const struct mr_option timeout_options[] = {
	TIMEOUT("udp", udp_ns, "300s", AT(nat_timeout_options, udp_at), .help = "UDP that was answered"),
	TIMEOUT("udp_unreplied", udp_unreplied_ns, "300s", AT(nat_timeout_options, udp_unreplied_at),
		.help = "UDP that was not answered"),
	TIMEOUT("tcp_established", tcp_established_ns, "7440s", AT(nat_timeout_options, tcp_established_at),
		.help = "TCP after its handshake"),
	TIMEOUT("tcp_transitory", tcp_transitory_ns, "240s", AT(nat_timeout_options, tcp_transitory_at),
		.help = "TCP that opens or closes"),
	TIMEOUT("tcp_closed", tcp_closed_ns, "240s", AT(nat_timeout_options, tcp_closed_at),
		.help = "TCP after its end"),
	TIMEOUT("icmp", icmp_ns, "60s", AT(nat_timeout_options, icmp_at), .help = "ICMP queries"),
	TIMEOUT("other", other_ns, "600s", .help = "other protocols"),
	MR_OPT_END,
};

static const struct mr_option log_options[] = {
	LOG("events", MR_TYPE_ENUM, events, .values = event_words, .fallback = "sessions",
		.help = "a line for each session, or for each block of ports"),
	LOG("file", MR_TYPE_STRING, file, .help = "written at its end; opened again when it was moved away"),
	LOG("syslog", MR_TYPE_BOOL, syslog, .help = "to syslog instead of a file"),
	LOG("rate", MR_TYPE_UINT, rate_per_s, .unit = "lines/s", .max = MOST,
		.help = "lines a second at most, the others are counted; 0: all"),
	MR_OPT_END,
};

const struct mr_option nat_options_table[] = {
	NAT("inside", MR_TYPE_PREFIX_LIST, inside, .required = true, .help = "IPv4 addresses that are translated"),
	NAT("outside", MR_TYPE_STRING_LIST, outside,
		.help = "IPv4 addresses, prefixes and ranges (A-B) they become; needed unless there are static rules"),
	NAT("ports", MR_TYPE_PORT_LIST, ports, .fallback = "1024-65535",
		.help = "outside ports of dynamic mappings, and identifiers of ICMP queries; one range"),
	NAT("leftover", MR_TYPE_ENUM, leftover, .values = leftover_words, .fallback = "drop",
		.help = "packets to an outside address that nobody wants; kernel: the address is this box's own"),
	NAT("mapping", MR_TYPE_ENUM, mapping, .values = dependence_words, .fallback = "endpoint-independent",
		.help = "whether an inside address and port has another outside port for another destination"),
	NAT("filtering", MR_TYPE_ENUM, filtering, .values = dependence_words, .fallback = "endpoint-independent",
		.help = "who may send to a mapping: all, or only whom it has sent to"),
	NAT("pooling", MR_TYPE_ENUM, pooling, .values = pooling_words, .fallback = "paired",
		.help = "paired: an inside address keeps to one outside address"),
	NAT("port_choice", MR_TYPE_ENUM, port_choice, .values = choice_words, .fallback = "random",
		.help = "random; parity: even ports for even ones; preserve: the inside port when it is free"),
	NAT("port_block", MR_TYPE_UINT, port_block, AT(nat_options, port_block_at), .max = 16384, .unit = "ports",
		.help = "ports are given to inside addresses in blocks of so many, a power of two from 16; 0: singly"),
	NAT("limits", MR_TYPE_OBJECT, limits, .table = limit_options, .element_bytes = sizeof(struct nat_limit_options),
		.help = "of each inside address"),
	NAT("quarantine", MR_TYPE_DURATION, quarantine_ns, .max = 3600 * SECOND, .fallback = "120s",
		.help = "how long a port rests before another mapping gets it"),
	NAT("timeouts", MR_TYPE_OBJECT, timeouts, .table = timeout_options,
		.element_bytes = sizeof(struct nat_timeout_options), .help = "of sessions, and so of their mappings"),
	NAT("inbound_refresh", MR_TYPE_BOOL, inbound_refresh, .fallback = "true",
		.help = "false: only packets from inside keep a session alive"),
	NAT("unsolicited", MR_TYPE_ENUM, unsolicited, .values = unsolicited_words, .fallback = "drop",
		AT(nat_options, unsolicited_at),
		.help = "a TCP SYN from outside that no mapping lets in; answer: port unreachable, after 6 seconds"),
	NAT("exempt", MR_TYPE_PREFIX_LIST, exempt,
		.help = "destinations that are not translated to, and sources that may reach inside addresses as such"),
	NAT("mss", MR_TYPE_UINT, mss_bytes, .seen_offset = offsetof(struct nat_options, mss_given), .min = 88,
		.max = 65495, .unit = "bytes", .values = mss_words,
		.help = "TCP MSS at most; auto: what fits where the segment goes and where it came from; default: as "
			"it is"),
	NAT("static", MR_TYPE_LIST, rules, .table = rule_options, .element_bytes = sizeof(struct nat_static_options),
		AT(nat_static_options, at), .max = NAT_STATIC_MAX,
		.help = "inside addresses, or ports of them, that have an outside one for themselves"),
	NAT("log", MR_TYPE_OBJECT, log, .table = log_options, .element_bytes = sizeof(struct nat_log_config),
		.seen_offset = offsetof(struct nat_options, log_given), AT(nat_options, log_at),
		.help = "who had which outside address and port when"),
	NAT("announce", MR_TYPE_BOOL, announce, AT(nat_options, announce_at), .fallback = "false",
		.help = "the kernel answers ARP for the outside addresses as long as the program runs"),
	MR_OPT_END,
};

/* ---- addresses ---------------------------------------------------------------------------------------------------- */

/* Nobody's, this host's, or more than one host's. */
bool nat_address_special(uint32_t a)
{
	return a >> 24 == 0 || a >> 24 == 127 || a >> 28 >= 0xe;
}

static uint32_t host_bits(unsigned len)
{
	return len >= 32 ? 0 : 0xffffffffu >> len;
}

static int add_prefixes(const struct mr_prefix_list *list, struct nat_ranges *out)
{
	for (uint32_t i = 0; i < list->cnt; i++) {
		const struct mr_prefix *p = &list->items[i];
		uint32_t first;
		if (p->family != 4)
			continue;
		memcpy(&first, p->addr, 4);
		first = ntohl(first);
		int err = nat_ranges_add(out, first, first | host_bits(p->len));
		if (err)
			return err;
	}
	nat_ranges_merge(out);
	return 0;
}

static bool parse_address(const char *text, uint32_t *out)
{
	__be32 be;
	if (inet_pton(AF_INET, text, &be) != 1)
		return false;
	*out = ntohl(be);
	return true;
}

/* "A", "A/LEN", "A-B". */
static bool parse_range(const char *text, struct nat_range *out)
{
	char copy[64];
	if (strlen(text) >= sizeof(copy))
		return false;
	strcpy(copy, text);
	char *slash = strchr(copy, '/'), *dash = strchr(copy, '-');
	if (slash) {
		char *end;
		*slash++ = 0;
		unsigned long len = *slash >= '0' && *slash <= '9' ? strtoul(slash, &end, 10) : 33;
		if (len > 32 || *end || !parse_address(copy, &out->lo) || out->lo & host_bits((unsigned)len))
			return false;
		out->hi = out->lo | host_bits((unsigned)len);
		return true;
	}
	if (dash) {
		*dash++ = 0;
		while (*dash == ' ')
			dash++;
		for (char *c = copy + strlen(copy); c > copy && c[-1] == ' ';)
			*--c = 0;
		return parse_address(copy, &out->lo) && parse_address(dash, &out->hi) && out->lo <= out->hi;
	}
	if (!parse_address(copy, &out->lo))
		return false;
	out->hi = out->lo;
	return true;
}

/* One of `outside`. */
static int add_outside(struct mr_stage_env *env, const char *text, struct mr_position at, struct nat *n)
{
	struct nat_range r;
	if (!parse_range(text, &r))
		return mr_stage_error(env, at,
			"outside: '%s' is not an IPv4 address, a prefix without host bits, or a range (want "
			"203.0.113.64, 203.0.113.64/28 or 203.0.113.64-203.0.113.70)",
			text);
	if (nat_address_special(r.lo) || nat_address_special(r.hi))
		return mr_stage_error(
			env, at, "outside: '%s' has addresses no host outside could answer (want unicast ones)", text);
	if (nat_ranges_meet(&n->inside, r.lo, r.hi))
		return mr_stage_error(env, at, "outside: '%s' has addresses that are inside as well", text);
	if (r.hi - r.lo >= NAT_ADDRESSES_MAX)
		return mr_stage_error(env, at, "outside: '%s' has more than %u addresses", text, NAT_ADDRESSES_MAX);
	return nat_ranges_add(&n->pool, r.lo, r.hi);
}

static int make_inside(struct mr_stage_env *env, const struct nat_options *o, struct nat *n)
{
	for (uint32_t i = 0; i < o->inside.cnt; i++)
		if (o->inside.items[i].family != 4)
			return mr_stage_error(
				env, o->inside.at, "inside: IPv6 is not translated here (want IPv4 prefixes)");
	int err = add_prefixes(&o->inside, &n->inside);
	if (!err && !n->inside.cnt)
		return mr_stage_error(env, o->inside.at, "inside: there is no address in it");
	return err ? err : add_prefixes(&o->exempt, &n->exempt);
}

/* The pool without the addresses that are one inside address's. */
static int make_outside(struct mr_stage_env *env, const struct nat_options *o, struct nat *n)
{
	int err = 0;
	for (uint32_t i = 0; i < o->outside.cnt && !err; i++)
		err = add_outside(env, o->outside.items[i], o->outside.at[i], n);
	if (err)
		return err;
	if (!o->outside.cnt && !o->rules.cnt)
		return mr_stage_error(
			env, o->inside.at, "the key 'outside' is missing (want addresses, or static rules)");
	nat_ranges_merge(&n->pool);
	for (uint32_t i = 0; i < n->statics.whole.cnt && !err; i++)
		err = nat_ranges_remove(&n->pool, n->statics.whole.range[i].lo, n->statics.whole.range[i].hi);
	if (!err && o->outside.cnt && !n->pool.cnt)
		return mr_stage_error(env, o->outside.at[0], "outside: static rules take every address of it");
	if (nat_ranges_count(&n->pool) > NAT_ADDRESSES_MAX)
		return mr_stage_error(
			env, o->outside.at[0], "outside: more than %u addresses in all", NAT_ADDRESSES_MAX);
	for (uint32_t i = 0; i < n->pool.cnt && !err; i++)
		err = nat_ranges_add(&n->outsides, n->pool.range[i].lo, n->pool.range[i].hi);
	for (uint32_t i = 0; i < n->statics.outsides.cnt && !err; i++)
		err = nat_ranges_add(&n->outsides, n->statics.outsides.range[i].lo, n->statics.outsides.range[i].hi);
	nat_ranges_merge(&n->outsides);
	return err;
}

/* Outside addresses of static rules: not inside, and such as a host may have. */
static int check_statics(struct mr_stage_env *env, const struct nat_options *o, struct nat *n)
{
	const struct nat_static_options *r = o->rules.items;
	for (uint32_t i = 0; i < o->rules.cnt; i++) {
		uint32_t first;
		memcpy(&first, r[i].outside.addr, 4);
		first = ntohl(first);
		uint32_t last = first | host_bits(r[i].outside.len);
		if (nat_ranges_meet(&n->inside, first, last))
			return mr_stage_error(env, r[i].at, "static: its outside address is inside as well");
		if (nat_address_special(first) || nat_address_special(last))
			return mr_stage_error(env, r[i].at, "static: no host outside could answer its outside address");
	}
	return 0;
}

/* ---- ports, limits ------------------------------------------------------------------------------------------------ */

static int check_ports(struct mr_stage_env *env, const struct nat_options *o)
{
	uint64_t block = o->port_block;
	if (o->ports.cnt != 1)
		return mr_stage_error(env, o->ports.at, "ports: %u ranges (want one)", o->ports.cnt);
	uint32_t lo = o->ports.items[0].lo, hi = o->ports.items[0].hi;
	if (!lo)
		return mr_stage_error(env, o->ports.at, "ports: port 0 is nobody's (want 1-65535)");
	if (block && (block < 16 || block & (block - 1)))
		return mr_stage_error(env, o->port_block_at,
			"port_block: %llu is not taken (want 0, or a power of two from 16 to 16384)",
			(unsigned long long)block);
	if (block && (lo + block - 1) / block * block + block - 1 > hi)
		return mr_stage_error(env, o->port_block_at,
			"port_block: no block of %llu ports, beginning at a multiple of that, fits into ports %u-%u",
			(unsigned long long)block, lo, hi);
	if (o->limits.blocks && !block)
		return mr_stage_error(
			env, o->limits.blocks_at, "limits.blocks: there are no blocks without port_block");
	return 0;
}

static int check_log(struct mr_stage_env *env, const struct nat_options *o)
{
	if (!o->log_given)
		return 0;
	if (!o->log.file == !o->log.syslog)
		return mr_stage_error(env, o->log_at, "log: %s (want file: PATH, or syslog: true)",
			o->log.file ? "to a file and to syslog" : "to nowhere");
	if (o->log.events == NAT_LOG_BLOCKS && !o->port_block)
		return mr_stage_error(env, o->log_at, "log: there are no blocks without port_block");
	return 0;
}

static void make_policy(const struct nat_options *o, struct nat_policy *p)
{
	*p = (struct nat_policy){ .mapping = (uint8_t)o->mapping,
		.filtering = (uint8_t)o->filtering,
		.paired = o->pooling == 0,
		.choice = (uint8_t)o->port_choice,
		.port_lo = (uint16_t)o->ports.items[0].lo,
		.port_hi = (uint16_t)o->ports.items[0].hi,
		.block_ports = (uint16_t)o->port_block,
		.blocks_max = (uint32_t)o->limits.blocks,
		.sessions_max = (uint32_t)o->limits.sessions,
		.mappings_max = (uint32_t)o->limits.mappings,
		.quarantine_ms = (uint32_t)(o->quarantine_ns / 1000000) };
}

/* ---- all of it ---------------------------------------------------------------------------------------------------- */

int nat_options_make(struct mr_stage_env *env, const struct nat_options *o, struct nat *n)
{
	n->o = o;
	int err = make_inside(env, o, n);
	if (!err)
		err = nat_statics_make(env, o, &n->inside, &n->statics);
	if (!err)
		err = check_statics(env, o, n);
	if (!err)
		err = make_outside(env, o, n);
	if (!err)
		err = check_ports(env, o);
	if (!err)
		err = check_log(env, o);
	if (!err && o->unsolicited == NAT_UNSOLICITED_ANSWER && o->leftover == NAT_LEFTOVER_KERNEL)
		err = mr_stage_error(env, o->unsolicited_at,
			"unsolicited: with 'leftover: kernel' the kernel answers itself (want drop)");
	if (err) {
		nat_options_free(n);
		return err;
	}
	make_policy(o, &n->policy);
	return 0;
}

void nat_options_free(struct nat *n)
{
	nat_ranges_free(&n->inside);
	nat_ranges_free(&n->exempt);
	nat_ranges_free(&n->pool);
	nat_ranges_free(&n->outsides);
	nat_statics_free(&n->statics);
}
