/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * steer.h - which packets of an interface come up: match and except entries as bitmaps.
 *
 * The same compiled tables serve kern/steer.bpf.c (maps) and user space (mr_steer_classify(): capture files, and finding the
 * pipeline of a packet whose flow is not known).
 *
 * Evaluation: entries are numbered in pipeline order, a pipeline's `except` entries before its `match` entries.  Each field
 * looks up the set of entries it satisfies; the sets are and-ed; the lowest entry left wins.  When it is an except entry, its whole
 * pipeline is struck out and the next lowest looked at.  No entry left: the packet stays with the kernel.
 *
 * Fragments: the kernel does not look at their ports, not even where the first one shows them, nor at ICMP types.  A fragment comes up
 * when a match entry might hold for some port, whatever `except` entries say about ports: so all fragments of an address pair and
 * protocol come up together.  mr_steer_classify() evaluates the first one by its true ports, later ones likewise once the ports were
 * filled in (MR_PKT_FRAG_KNOWN, core/fragment.h), and hands back what nobody wants.  Later ones without them it treats as the kernel
 * does.  A port condition never matches a protocol without ports; `icmp` means ICMP over IPv4 and ICMPv6 over IPv6 by number.
 *
 * `vlan` is the outer tag's id; an untagged frame satisfies no vlan condition.  `ethertype` is the innermost.  A prefix list of one
 * family matches no packet of the other; an empty set matches none at all.
 *
 * Malformed frames: what could be parsed decides.  A condition on a field that could not be read does not hold, so a frame with a
 * broken transport header still comes up by its addresses, and one that stays with the kernel is counted as unparsed.
 */
#ifndef MR_CORE_STEER_H
#define MR_CORE_STEER_H

#include "core/config.h"
#include "core/error.h"
#include "kern/parse.h"

/* One interface's entries, in the order of its pipelines. */
struct mr_steer_entry {
	const struct mr_config_match *match; /* NULL: matches every frame (`match: all`) */
	uint8_t pipeline;                    /* 0.. MR_MAX_PIPELINES-1, ascending over entries */
	bool except;
};

struct mr_steer_table; /* compiled, immutable */
struct mr_steer;       /* the loaded program of one interface */

/* Compiles.  -E2BIG (more than MR_STEER_ENTRIES entries, too many prefixes or groups of ports; the sentence says which), -EINVAL
 * (entries not in the order of their pipelines), -ENOMEM.  Keeps nothing of `entry`. */
int mr_steer_compile(const struct mr_steer_entry *entry, unsigned cnt, struct mr_steer_table **out, struct mr_error *e);
void mr_steer_table_free(struct mr_steer_table *t);
/* Whose pipelines its numbers mean: the generation of its plan, for the kernel tier; 0 (as compiled) = nobody's.  Before it is applied. */
void mr_steer_table_number(struct mr_steer_table *t, uint16_t generation);

/* The pipeline of a parsed frame, or -1.  Equal to what the kernel side does (of fragments: see above), proven by test.  Threads: any. */
int mr_steer_classify(const struct mr_steer_table *t, const struct mr_parsed *p, const void *frame);
/* True when some fragment of this packet's addresses and protocol could have a pipeline: what the kernel sends up of them. */
bool mr_steer_wants_fragment(const struct mr_steer_table *t, const struct mr_parsed *p, const void *frame);
/* True when an entry looks at what only a first fragment tells. */
bool mr_steer_needs_first(const struct mr_steer_table *t);
/* True when the pipeline of a packet is a function of its flow key alone (no entry looks at vlan or ethertype-only things). */
bool mr_steer_key_only(const struct mr_steer_table *t);

struct bpf_object;
struct mr_tier_maps;

struct mr_steer_options {
	const char *instance; /* NULL = nobody's */
	const char *device;   /* its name, for who finds the program later; NULL = not told */
	unsigned interface_id;
	bool generic;         /* attached in generic mode: handed-back frames carry the shim */
	uint64_t shim_cookie; /* random, never guessable from outside: only frames with it are stripped and passed */
	bool redirect_back;   /* what leaves where it came in is redirected there (kern/tier.h) */
	struct mr_tier_maps *tier; /* it meets the kernel tier (core/tier.h), which outlives it; NULL = it does not */
	/* NULL, or what loads the opened object instead (the dispatcher of libxdp, attaching it at once); 0 or -errno with the
	 * sentence */
	int (*load)(void *ctx, struct bpf_object *object, struct mr_error *e);
	void *load_ctx;
};

/* Loads the program with an empty table (everything passes).  Errors: of opt->load, and what bpf(2) says.  Threads: control. */
int mr_steer_load(const struct mr_steer_options *opt, struct mr_steer **out, struct mr_error *e);
void mr_steer_unload(struct mr_steer *s);
int mr_steer_prog_fd(const struct mr_steer *s);
int mr_steer_xskmap_fd(const struct mr_steer *s);
/* Puts a table in force, without detaching; in force for every packet when it returns.  NULL or one without entries: everything
 * passes.  On failure the old one stays.  Waits twice for the kernel's running programs, some 10 ms each.  Keeps nothing of t.
 * -ENOMEM, -EPERM and what bpf(2) says.  Threads: control, one at a time for one s. */
int mr_steer_apply(struct mr_steer *s, const struct mr_steer_table *t, struct mr_error *e);

/* What becomes of a matched packet whose queue has no socket: dropped, or passed to the kernel (as after loading).  At once.
 * Threads: control. */
void mr_steer_set_unserved(struct mr_steer *s, bool drop);

/* Packets since load, summed over CPUs. */
struct mr_steer_counters {
	uint64_t steered;     /* sent to a socket */
	uint64_t no_socket;   /* matched, but the queue has no socket: passed to the kernel */
	uint64_t passed;      /* matched nothing: left with the kernel */
	uint64_t unparsed;    /* malformed frames among those (which pipeline they would match cannot be told) */
	uint64_t handed_back; /* shim stripped and passed */
	uint64_t unserved;    /* matched, but the queue has no socket: dropped */
	uint64_t offloaded;   /* carried out by the kernel tier */
};
int mr_steer_read_counters(const struct mr_steer *s, struct mr_steer_counters *out);

#endif
