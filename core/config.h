/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * config.h - the configuration as read: everything checked that can be checked without touching the system.
 *
 *     FILE ─libyaml─► struct mr_node tree (positions) ─tables─► struct mr_config ─runtime─► struct mr_plan
 *
 * A struct mr_config is immutable after mr_config_read() and owns all it points to.
 */
#ifndef MR_CORE_CONFIG_H
#define MR_CORE_CONFIG_H

#include "core/error.h"
#include "millrace/option.h"
#include <stdio.h>

enum mr_idle { MR_IDLE_ADAPTIVE, MR_IDLE_SPIN, MR_IDLE_POLL };
enum mr_mode { MR_MODE_AUTO, MR_MODE_ZEROCOPY, MR_MODE_COPY, MR_MODE_GENERIC };
/* Of matched packets that no socket takes.  AUTO: decided by what serves the interface, when the file is read for a run (core/reload.h). */
enum mr_exit_policy { MR_EXIT_AUTO, MR_EXIT_PASS, MR_EXIT_DROP };
enum mr_attach_kind { MR_ATTACH_LINK, MR_ATTACH_SHARED };
enum mr_state_kind { MR_STATE_SESSIONS, MR_STATE_NONE };
/* Which flows the kernel tier takes (core/offload.h). */
enum mr_offload_kind { MR_OFFLOAD_NEVER, MR_OFFLOAD_ESTABLISHED, MR_OFFLOAD_ALWAYS };

struct mr_config_workers {
	struct mr_range_list cores; /* empty = one worker, not pinned */
	uint64_t count;             /* with no cores given: how many workers, not pinned; default 1 */
	int idle;                   /* enum mr_idle */
	uint64_t spin_ns;           /* adaptive: how long to spin before sleeping */
};

struct mr_config_memory {
	uint64_t frames_cnt;  /* default: what the queues' rings need, and half again */
	uint64_t frame_bytes; /* 2048 or 4096 */
	int huge;             /* 0 auto, 1 always, 2 never */
};

struct mr_config_timeouts {          /* all in nanoseconds */
	uint64_t udp_ns;             /* both directions seen; default 300 s */
	uint64_t udp_unreplied_ns;   /* default 30 s */
	uint64_t tcp_established_ns; /* default 7440 s (RFC 5382) */
	uint64_t tcp_transitory_ns;  /* opening or closing; default 240 s (RFC 5382) */
	uint64_t tcp_closed_ns;      /* after RST or both FINs acknowledged; default 10 s */
	uint64_t icmp_ns;            /* default 60 s (RFC 5508) */
	uint64_t other_ns;           /* GRE, ESP, SCTP ...; default 600 s */
};

struct mr_config_flows {
	uint64_t capacity;      /* sessions; default 64k */
	int offload;            /* enum mr_offload_kind */
	bool has_offload;       /* it was said: zero-copy interfaces are meant too */
	uint64_t offload_after; /* packets of a flow that user space sees before; default 3 */
	uint64_t half_open_max; /* sessions that may be half open; 0 = half of capacity */
	struct mr_config_timeouts timeouts;
};

struct mr_config_pcap {
	const char *in;
	const char *out; /* may be NULL: frames sent are counted and dropped */
};

struct mr_config_memory_loop { /* { memory: { file: in.pcap, repeat: 10 } }: frames kept in memory, sent round and round */
	const char *file;
	uint64_t repeat;
};

struct mr_config_interface {
	const char *name; /* first member: MAP key */
	struct mr_position at;
	const char *device;           /* exactly one of device, pcap_in, has_memory is given */
	struct mr_position device_at; /* of the value */
	bool has_memory;
	const char *pcap_in, *pcap_out; /* interface: { pcap: in.pcap, out: out.pcap }; resolved */
	struct mr_config_memory_loop memory;
	int mode;                    /* enum mr_mode */
	struct mr_range_list queues; /* ids; empty = all; `queues: 2` is read as 0-1 */
	uint64_t channels;           /* to set; 0 = keep those there are */
	bool has_channels;           /* one of the two was said */
	const char *zone;            /* "default" */
	bool vlan_zones;             /* outer VLAN ids are zones of their own */
	int on_exit;                 /* enum mr_exit_policy: when the process is gone */
	int unserved;                /* enum mr_exit_policy: when the queue has no socket */
	bool has_unserved;
	bool takes_all;          /* a pipeline from it has match: all; decided with on_exit */
	const char *on_exit_why; /* the stage that makes auto drop; NULL = none, or on_exit was given */
	int attach;              /* enum mr_attach_kind */
	bool promiscuous;        /* not given: where a pipeline from it ends in an interface */
	bool has_promiscuous;
	uint64_t rx_ring, tx_ring; /* descriptors, powers of two; default 2048 */
};

enum mr_set_type { MR_SET_PREFIX, MR_SET_PORT };

struct mr_config_set {
	const char *name;
	struct mr_position at;
	int type;                       /* enum mr_set_type */
	const char *file;               /* as given, relative to the configuration's folder; NULL = inline only */
	struct mr_prefix_list prefixes; /* inline and file together, sorted */
	struct mr_range_list ports;
};

/*
 * One entry of match or except: every field given must hold; a field not given (cnt 0) always holds.  An entry that names an
 * empty set can never hold and is left out of the list, so cnt 0 always means "not given" here.
 */
struct mr_config_match {
	struct mr_prefix_list src, dst;
	struct mr_range_list proto, sport, dport, ethertype, vlan;
	struct mr_icmp_list icmp;
	struct mr_position at; /* not first: offset 0 means "none" to a table */
};

enum mr_match_kind { MR_MATCH_ALL, MR_MATCH_LIST, MR_MATCH_AUTO };
enum mr_to_kind { MR_TO_INTERFACE, MR_TO_BACK, MR_TO_KERNEL, MR_TO_ROUTE };

struct mr_config_stage {
	const char *name;
	struct mr_position at;
	const char *type;
	struct mr_position type_at;
	const struct mr_node *node; /* the whole mapping; the stage's own table reads it */
};

struct mr_config_pipeline {
	const char *name;
	struct mr_position at;
	struct mr_string_list from; /* interface names */
	int match_kind;             /* enum mr_match_kind */
	struct mr_config_match *match;
	uint32_t match_cnt;
	struct mr_config_match *except;
	uint32_t except_cnt;
	struct mr_string_list stages;
	int to_kind;    /* enum mr_to_kind */
	const char *to; /* interface name with MR_TO_INTERFACE */
	struct mr_position to_at;
	int state;        /* enum mr_state_kind */
	int offload;      /* enum mr_offload_kind; not given: that of flows */
	bool has_offload; /* this pipeline said it itself */
};

struct mr_config {
	const char *path; /* as given */
	struct mr_config_workers workers;
	struct mr_config_memory memory;
	struct mr_config_flows flows;
	struct mr_config_interface *interfaces;
	uint32_t interface_cnt;
	struct mr_config_set *sets;
	uint32_t set_cnt;
	struct mr_config_stage *stages;
	uint32_t stage_cnt;
	struct mr_config_pipeline *pipelines;
	uint32_t pipeline_cnt;
	struct mr_string_list plugins; /* paths of stage plugins to load, resolved */
	const char *folder;            /* of the file: where relative paths in it begin */
	const struct mr_node *root;    /* the whole file */
	void *arena;
};

/* Reads and checks a file.  On failure nothing is kept and e holds one sentence, "FILE:LINE:COLUMN: path: ...".
 * Errors: -ENOENT, -EACCES, -EINVAL (the file's fault), -ENOMEM.  Threads: any, one configuration each. */
int mr_config_read(const char *path, struct mr_config **out, struct mr_error *e);
/* The same from memory; `name` stands for the path in sentences, relative files are looked up in `folder`. */
int mr_config_read_text(const char *text, size_t bytes, const char *name, const char *folder, struct mr_config **out,
	struct mr_error *e);
void mr_config_free(struct mr_config *c);

/* The place of "interfaces.wan.device" in the file: of the value, or of the nearest mapping around it when it is not given. */
struct mr_position mr_config_locate(const struct mr_config *c, const char *path);
/* Whether some pipeline has both stages. */
bool mr_config_share_pipeline(const struct mr_config *c, const char *a, const char *b);
/* For a file that a stage's options name (those of the configuration itself are resolved already): "FOLDER/file" for a
 * relative one, itself for an absolute one; in the configuration's memory; NULL = no memory.  Threads: one at a time for
 * each c. */
const char *mr_config_resolve_path(const struct mr_config *c, const char *file);

/* Reads a stage's node with its table into *out (element_bytes, zeroed here).  Keys `type` is skipped.  Sets ($name)
 * resolve against c.  Values live as long as c, in its memory.  -EINVAL with the sentence.  Threads: one at a time for each c. */
int mr_config_read_stage(const struct mr_config *c, const struct mr_config_stage *s, const struct mr_option *table,
	void *out, size_t out_bytes, struct mr_error *e);

/* Writes the sentence "path:line:column: where: ..." and returns -EINVAL. */
int mr_config_error(const struct mr_config *c, struct mr_error *e, struct mr_position at, const char *where,
	const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* ---- what can be configured, told from the same tables ---- */

/* A stage type's part: from the registry of stages (struct mr_stage_type). */
struct mr_config_stage_type {
	const char *name;
	const char *summary;
	const struct mr_option *options;
};

/* `millrace help config [TOPIC]`: topic is "interfaces", "interfaces.mode", "stages.filter.rules.action", or NULL for all.
 * -ENOENT with a sentence when there is no such topic. */
int mr_config_help(
	FILE *out, const char *topic, const struct mr_config_stage_type *types, unsigned type_cnt, struct mr_error *e);
/* JSON schema (draft-07) for editors.  0 or -ENOMEM. */
int mr_config_schema(FILE *out, const struct mr_config_stage_type *types, unsigned type_cnt);
/* The reference page, markdown: docs/configuration.md. */
int mr_config_reference(FILE *out, const struct mr_config_stage_type *types, unsigned type_cnt);
/* The table of the whole file; `stages` is an MR_TYPE_NODE there, its types' tables come from the registry. */
const struct mr_option *mr_config_options(void);

#endif
