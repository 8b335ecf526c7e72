/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * millrace/option.h - configuration by table.
 *
 * Every object of the configuration is described by one table of struct mr_option: key, type, unit, range,
 * default and a line of help.  From the table come the parser, the error sentences (FILE:LINE:COLUMN: path:
 * what is wrong and what is wanted), `millrace help config`, the JSON schema and the reference page.
 *
 *     static const struct mr_option limit_options[] = {
 *         MR_OPT_RATE("rate", struct limit, rate_per_s, .required = true, .help = "packets a second let through"),
 *         MR_OPT_END };
 *
 * A table describes a C struct; values land at their offsets.  Memory the reader allocates for values (strings,
 * lists) belongs to the arena of the configuration it was read for and lives exactly as long.
 */
#ifndef MILLRACE_OPTION_H
#define MILLRACE_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where something stands in its file; line and column count from 1; line 0 = nowhere (a default). */
struct mr_position {
	uint32_t line;
	uint32_t column;
};

struct mr_prefix {
	uint8_t family;   /* 4 or 6; 0 = unset */
	uint8_t len;      /* prefix length */
	uint8_t addr[16]; /* network order; IPv4 in the first 4 bytes; host bits are 0 */
};

struct mr_range {
	uint32_t lo;
	uint32_t hi; /* inclusive */
};

/*
 * A list of prefixes, given inline (in file order), or `$name` for a set (then `set` is its name and items are the set's,
 * sorted).  Not given: cnt 0 and set NULL.  An empty set has cnt 0 and set != NULL, and matches nothing: mr_list_given() tells
 * the two apart.  Items of a mixed list ([ $bad, 10.0.0.0/8 ]) are copied together, set is the first set's name.
 */
struct mr_prefix_list {
	const char *set; /* NULL = inline */
	struct mr_prefix *items;
	uint32_t cnt;
	struct mr_position at;
};

struct mr_range_list {
	struct mr_range *items; /* sorted, merged */
	uint32_t cnt;
	struct mr_position at;
	const char *set; /* PORT_LIST: as in mr_prefix_list */
};

/* Was a mr_prefix_list or mr_range_list given at all?  An empty set is given and matches nothing. */
#define mr_list_given(list) ((list)->cnt != 0 || (list)->set != NULL)

struct mr_string_list {
	const char **items;
	struct mr_position *at;
	uint32_t cnt;
};

/* One (type, code) of ICMP; code -1 = any. */
struct mr_icmp_type {
	uint8_t type;
	int16_t code;
};
struct mr_icmp_list {
	struct mr_icmp_type *items;
	uint32_t cnt;
	struct mr_position at;
};

enum mr_option_type {
	MR_TYPE_END = 0,
	MR_TYPE_BOOL,           /* bool */
	MR_TYPE_UINT,           /* uint64_t; suffixes k, M, G (powers of 1000) and Ki, Mi, Gi */
	MR_TYPE_BYTES,          /* uint64_t; as UINT, plus B */
	MR_TYPE_DURATION,       /* uint64_t nanoseconds; "2s", "500ms", "10us", "5m", "2h"; a bare number is refused */
	MR_TYPE_RATE,           /* uint64_t a second; "1kpps", "2Mbps"; the table's unit says which */
	MR_TYPE_STRING,         /* const char * */
	MR_TYPE_NAME,           /* const char *; letters, digits, - and _; the identity of something */
	MR_TYPE_ENUM,           /* int; .values lists the words, index = value */
	MR_TYPE_PREFIX,         /* struct mr_prefix */
	MR_TYPE_ADDRESS,        /* struct mr_prefix with the full length */
	MR_TYPE_PREFIX_LIST,    /* struct mr_prefix_list; scalar, sequence or $set */
	MR_TYPE_PORT_LIST,      /* struct mr_range_list; 22, "8000-8100", or a sequence of both */
	MR_TYPE_PROTO_LIST,     /* struct mr_range_list; tcp, udp, icmp, icmp6, gre, esp, sctp, 0-255 */
	MR_TYPE_ICMP_LIST,      /* struct mr_icmp_list; echo-request, "3/4", 8, ... */
	MR_TYPE_ETHERTYPE_LIST, /* struct mr_range_list; ip, ip6, arp, 0x88cc */
	MR_TYPE_UINT_LIST,      /* struct mr_range_list; numbers and ranges within min..max */
	MR_TYPE_TCP_FLAGS,      /* struct mr_tcp_flags; "syn", "syn/syn,ack" (set / of mask) */
	MR_TYPE_CORES,          /* struct mr_range_list; "2-3" or [ 2, 4 ]; order kept, not merged */
	MR_TYPE_STRING_LIST,    /* struct mr_string_list; scalar or sequence of scalars */
	MR_TYPE_OBJECT,         /* a struct inline at the offset, described by .table */
	MR_TYPE_LIST,           /* struct mr_object_list of structs described by .table */
	MR_TYPE_MAP,            /* as LIST, keyed: the key lands in the first member (const char *name) */
	MR_TYPE_NODE,           /* const struct mr_node *: unread, for a stage or a hand-written reader */
	MR_TYPE_QUEUES, /* struct mr_range_list; "all" = empty, N = the first N (0 to N-1), [ 1, 3-4 ] = those ids */
};

struct mr_tcp_flags {
	uint8_t set;  /* must be set */
	uint8_t mask; /* are looked at; 0 = unset */
};

struct mr_object_list {
	void *items; /* cnt structs of the element size, in file order */
	struct mr_position *at;
	uint32_t cnt;
	uint32_t word; /* LIST with .values: 0 = a list was given, n = the n-th word (from 1) instead */
};

struct mr_option {
	const char *key;
	enum mr_option_type type;
	uint32_t offset;      /* into the struct */
	uint32_t seen_offset; /* of a bool set to true when the key is given; 0 = none */
	const char *unit;     /* for help; RATE: "packets/s" wants pps, "bits/s" wants bps, others "/s" */
	uint64_t min,
		max; /* numbers, durations (ns), rates; max 0 = none.  Lists of numbers: of each.  STRING: bytes */
	const char *fallback; /* the default, as written in YAML; NULL = zero / empty */
	bool required;
	/* ENUM: words, NULL-terminated; LIST: words that may stand for the list; UINT: one for 0. */
	const char *const *values;
	const struct mr_option *table; /* OBJECT, LIST, MAP: of the element */
	uint32_t element_bytes;        /* LIST, MAP: sizeof the element; OBJECT: sizeof the struct */
	uint32_t at_offset; /* of a struct mr_position that receives where it stands; 0 = none.  LIST, MAP: in the
	                                 * element; others: in the struct itself */
	const char *help;   /* one line */
	bool power_of_two;  /* UINT, BYTES */
	bool may_be_empty;  /* lists of scalars: `[]` is taken; else refused, lest a forgotten condition hold always */
};

#define MR_OPT(k, t, s, m, ...)                                                \
	{                                                                      \
		.key = (k), .type = (t), .offset = offsetof(s, m), __VA_ARGS__ \
	}
#define MR_OPT_END                               \
	{                                        \
		.key = NULL, .type = MR_TYPE_END \
	}

struct mr_node; /* a piece of the YAML file with its position */

#endif
