/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * millrace/stage.h - write a stage: something that decides about packets.
 *
 * A stage decides, it does not edit.  The first packet of a flow runs through the stages of its pipeline; together they fill
 * one decision (drop it, new addresses, where to send it, what to count).  The runtime applies the decision, stores it with the
 * flow, and applies it to later packets without asking again:
 *
 *     first packet ─► stage A ─► stage B ─► decision ─► stored in the flow record
 *     later packets ────────────────────────────────────► applied from there (user space, or inside XDP)
 *
 * A decision may be stored only as far as it depends on the flow key.  The accessors below know: those of the key cost nothing;
 * each of the others notes that it was called, and then the decision holds for this packet only.  So a stage need not think
 * about it: it must only read packets through these functions, key fields first.
 *
 * Threads: decide, revalidate, abort and expire run on workers, several at once; `worker` numbers the caller, 0..n-1, and one more
 * (n) for control, which uses it for explain.  create, destroy and adopt run on control.  Nothing here may block.
 */
#ifndef MILLRACE_STAGE_H
#define MILLRACE_STAGE_H

#include "millrace/option.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MR_STAGE_ABI 2
#define MR_API       __attribute__((visibility("default")))

struct mr_packet;      /* one packet and the decision growing for it */
struct mr_batch;       /* packets of one pipeline, met together */
struct mr_session_end; /* a session that has ended */
struct mr_stage_env;
struct mr_error;
struct mr_match_sink;
struct mr_check;

/* ---- what a stage is ------------------------------------------------------------------------------------ */

enum mr_revalidate {
	MR_REVALIDATE_KEEP, /* the decision was filled again as the session has it, or anew: go on */
	MR_REVALIDATE_END, /* end the session; the packet is dropped (by a reason already set) or decided as a new flow */
};

struct mr_stage_type {
	uint32_t abi;                    /* MR_STAGE_ABI */
	const char *type;                /* as in `type:` */
	const char *summary;             /* one line for help */
	const struct mr_option *options; /* describes a struct of options_bytes; the key `type` is not part of it */
	uint32_t options_bytes;
	uint32_t session_bytes; /* private bytes wanted in every session (all stages of a pipeline share 32) */

	/* Makes an instance from its options, which live until destroy.  0 or -errno with a sentence (mr_stage_error). */
	int (*create)(struct mr_stage_env *env, const void *options, void **stage);
	void (*destroy)(void *stage); /* NULL is never passed */
	/* Takes over from the instance of the same name and type of the configuration before, while that still runs. */
	void (*adopt)(void *stage, void *old_stage); /* may be NULL */

	/* Decides for every packet of the batch.  Packets that an earlier stage dropped are not in it. */
	void (*decide)(void *stage, unsigned worker, struct mr_batch *batch);
	/* As decide for one packet of a session made under an older configuration.  NULL: decide is called. */
	enum mr_revalidate (*revalidate)(void *stage, unsigned worker, struct mr_packet *p);
	/* The decision was not stored (somebody was first, or the table is full): give back what it took.  May be NULL. */
	void (*abort)(void *stage, unsigned worker, struct mr_packet *p);
	/* The session this packet opened was made: what decide took is taken.  Of a packet that had no session, every stage that was asked gets
	 * either commit or abort, whatever became of it.  Its private bytes are a copy by then; it may even have ended.  May be NULL. */
	void (*commit)(void *stage, unsigned worker, struct mr_packet *p);
	/* A session ended; priv is this stage's part of it.  On the worker (or control) that mr_end_worker() names.  May be NULL. */
	void (*expire)(void *stage, const void *priv, const struct mr_session_end *end);
	/* After a reload control asks for every session that lives on: false ends it, and its next packet is a first one.  May be NULL. */
	bool (*keeps)(void *stage, const void *priv);
	/* About once a millisecond on each worker.  May be NULL. */
	void (*tick)(void *stage, unsigned worker, uint64_t now_ns);
	/* For pipelines with `match: auto`: what this stage needs to see, by mr_match_add.  May be NULL. */
	int (*match)(void *stage, struct mr_match_sink *sink);
	/*
	 * A question about its state from the control socket, both ways JSON texts: `request` is an object, *answer one (from malloc; the
	 * caller frees it).  0, -EINVAL with a sentence in *answer (a request that cannot be answered), -EOPNOTSUPP (the member "what", which
	 * `show` was asked for, is nothing of this type: *answer is untouched), -ENOMEM.  Control.  May be NULL.
	 */
	int (*ask)(void *stage, const char *request, char **answer);
	/* For `millrace check`: says what will not work on this box as it is (mr_check_warn).  Control.  May be NULL. */
	void (*check)(void *stage, struct mr_check *check);
	/* It keeps packets out that must not pass without it: where it serves an interface, on_exit and unserved are drop by default. */
	bool guards;
	void *reserved[5];
};

/* A plugin exports this symbol. */
#define MR_STAGE_PLUGIN_SYMBOL "millrace_stage"
/* In the plugin: MR_STAGE_PLUGIN = { .abi = MR_STAGE_ABI, ... }; */
#define MR_STAGE_PLUGIN MR_API const struct mr_stage_type millrace_stage

/* ---- at creation ---------------------------------------------------------------------------------------- */

/* A drop reason of this stage: name becomes "STAGETYPE-name" in show and JSON.  The same name gives the same number again.
 * Returns the number for mr_decide_drop; falls back to the general reason `stage` when there are too many. */
MR_API unsigned mr_stage_reason(struct mr_stage_env *env, const char *name, const char *help);
/* A counter of packets and bytes, shown as stages.STAGE.NAME; keeps its value over reloads by name.  0 = too many (not counted). */
MR_API uint16_t mr_stage_counter(struct mr_stage_env *env, const char *name);
/* A rate limit over all workers, with a burst.  bits: count bits, else packets.  0 = too many. */
MR_API uint16_t mr_stage_meter(
	struct mr_stage_env *env, const char *name, uint64_t rate_per_s, uint64_t burst, bool bits);
MR_API const char *mr_stage_name(const struct mr_stage_env *env);
MR_API unsigned mr_stage_worker_cnt(const struct mr_stage_env *env); /* workers; control is one more */
/* Id of a configured interface, 0 = none of that name. */
MR_API unsigned mr_stage_interface(const struct mr_stage_env *env, const char *name);
MR_API uint32_t mr_stage_session_capacity(const struct mr_stage_env *env); /* flows.capacity */
/* Nothing will run: the file is only checked.  No file, thread or large memory need be made. */
MR_API bool mr_stage_checking(const struct mr_stage_env *env);
/* Why the last one failed, without a place in the file; returns err. */
MR_API int mr_stage_fail(struct mr_stage_env *env, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/*
 * Time-outs of its own for sessions that mr_decide_timeouts() gives them to.  `name` tells several of a stage apart and keeps them theirs over
 * reloads: sessions that live get the new values.  0 is no time: that of flows.timeouts.  Returns a number, 0 = too many.
 */
enum mr_refresh {
	MR_REFRESH_BOTH,
	MR_REFRESH_FORWARD,
	MR_REFRESH_REPLY
}; /* packets of which direction keep it alive */
struct mr_stage_timeouts {
	uint64_t udp_ns, udp_unreplied_ns, tcp_established_ns, tcp_transitory_ns, tcp_closed_ns, icmp_ns, other_ns;
	uint8_t refresh; /* enum mr_refresh */
	uint8_t reserved[7];
};
MR_API uint8_t mr_stage_timeouts(struct mr_stage_env *env, const char *name, const struct mr_stage_timeouts *t);
/*
 * Addresses lo..hi (network order; IPv4 in the first 4 bytes, the rest 0) are what this stage translates to or answers for: another one in a
 * pipeline with it may not have them too.  0; -EINVAL with the sentence; -ENOMEM.
 */
MR_API int mr_stage_claim(
	struct mr_stage_env *env, struct mr_position at, unsigned family, const uint8_t lo[16], const uint8_t hi[16]);
/* The kernel shall answer ARP (neighbour discovery) for this address as long as the program runs: a prefix of full length.  0, -ENOSPC. */
MR_API int mr_stage_announce(struct mr_stage_env *env, const struct mr_prefix *address);
/*
 * A tunnel: packets sent by it (mr_decide_tunnel) are put into another one, from src to dst, which goes where the kernel's routes say.
 * The same parameters give the same number again.  0 = there is no room for another one, or the parameters make no tunnel.
 */
enum mr_tunnel_kind {
	MR_TUNNEL_IP = 1,  /* IP in IP (RFC 2003, 2473, 4213): the families of src and of the packets may differ */
	MR_TUNNEL_GUE = 2, /* UDP to `port`, the packet directly after it (GUE variant 1) */
};
struct mr_stage_tunnel {
	uint8_t kind;             /* enum mr_tunnel_kind */
	uint8_t family;           /* of src and dst: 4, 6 */
	uint8_t ttl;              /* of the outer packet; 0 = 64 */
	uint16_t port;            /* GUE: destination port, host order */
	uint8_t src[16], dst[16]; /* network order */
	uint32_t reserved[4];     /* 0 */
};
MR_API uint16_t mr_stage_tunnel(struct mr_stage_env *env, const struct mr_stage_tunnel *tunnel);
/* "FILE:LINE:COLUMN: stages.NAME: ..." for a fault in the options; returns -EINVAL. */
MR_API int mr_stage_error(struct mr_stage_env *env, struct mr_position at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Where in the file something stands, for explain: "edge.yaml:12". Lives as long as the stage. */
MR_API const char *mr_stage_where(struct mr_stage_env *env, struct mr_position at);

/* ---- batches -------------------------------------------------------------------------------------------- */

MR_API unsigned mr_batch_cnt(const struct mr_batch *b);
MR_API struct mr_packet *mr_batch_packet(const struct mr_batch *b, unsigned i);

/* ---- reading: the flow key (storable) -------------------------------------------------------------------- */

/* The effective tuple: what the packet will be after the stages before this one. */
struct mr_tuple {
	uint8_t family; /* 4 or 6; 0 = not an IP packet: only ethertype is set */
	uint8_t proto;
	uint16_t zone;
	uint16_t ethertype;
	/* Ports, with has_ports; of a later fragment: those of its first one.  Of an ICMP query the identifier, in sport_be of a request and
	 * in dport_be of a reply.  Else 0. */
	uint16_t sport_be;
	uint16_t dport_be;
	uint8_t icmp_type; /* of an ICMP packet; part of the key for queries, else mr_packet_icmp marks */
	uint8_t has_ports;
	uint8_t src[16]; /* network order; IPv4 in the first 4 bytes, the rest 0 */
	uint8_t dst[16];
	uint8_t has_icmp; /* icmp_type is known */
	uint8_t reserved[3];
};

MR_API const struct mr_tuple *mr_packet_tuple(const struct mr_packet *p);
MR_API unsigned mr_packet_interface(const struct mr_packet *p); /* where it came in; records are bound to it */
/* Whether a stage before this one made its destination what the tuple says. */
MR_API bool mr_packet_destination_changed(const struct mr_packet *p);

/* ---- reading: this packet only (the decision will not be stored) ----------------------------------------- */

enum mr_fragment { MR_FRAGMENT_NONE, MR_FRAGMENT_FIRST, MR_FRAGMENT_LATER };
enum mr_conn_state { MR_CONN_NEW, MR_CONN_ESTABLISHED, MR_CONN_RELATED, MR_CONN_INVALID, MR_CONN_UNTRACKED };

MR_API uint32_t mr_packet_length(struct mr_packet *p); /* IP packet, bytes; of a non-IP frame the whole frame */
MR_API uint8_t mr_packet_dscp(struct mr_packet *p);
MR_API uint8_t mr_packet_ttl(struct mr_packet *p);
MR_API uint8_t mr_packet_tcp_flags(struct mr_packet *p); /* 0 where there are none */
MR_API enum mr_fragment mr_packet_fragment(struct mr_packet *p);
MR_API int mr_packet_vlan(struct mr_packet *p);                                 /* outer VLAN id, -1 = untagged */
MR_API int mr_packet_icmp(struct mr_packet *p, uint8_t *type, uint8_t *code);   /* 0, or -ENOENT: not ICMP */
MR_API const uint8_t *mr_packet_data(struct mr_packet *p, uint32_t *len_bytes); /* the frame as received */
/* Storable once the session is established (it stays so); before, not. */
MR_API enum mr_conn_state mr_packet_state(struct mr_packet *p);

/* This stage's private bytes of the session (existing or about to be made); NULL when this packet cannot have one. */
MR_API void *mr_packet_session(struct mr_packet *p);
/* 0 forward, 1 reply; and whether the session exists already. */
MR_API int mr_packet_direction(const struct mr_packet *p);
MR_API bool mr_packet_session_exists(const struct mr_packet *p);
/*
 * The two keys of its session: what the packets of each direction are when they come in.  A forward packet leaves as the reverse of *reply, a reply
 * as the reverse of *forward: so the session itself says how it is translated.  0; -ENOENT: it has none, or it ended meanwhile.
 */
MR_API int mr_packet_session_tuples(const struct mr_packet *p, struct mr_tuple *forward, struct mr_tuple *reply);
/* Whether replies to the packet as decided so far would belong to another session: then this one could not be told from it. */
MR_API bool mr_packet_reply_taken(const struct mr_packet *p);
/* Its destination, as decided so far, is an address of the box itself: what is translated the stack does not get.  A route like any other to what
 * is stored: when it changes, the flow is looked at again.  False also where nothing routes. */
MR_API bool mr_packet_to_box(const struct mr_packet *p);
MR_API uint64_t mr_packet_time_ns(const struct mr_packet *p); /* CLOCK_MONOTONIC, once a batch */

/* ---- of a session that has ended ------------------------------------------------------------------------- */

MR_API unsigned mr_end_worker(const struct mr_session_end *e); /* who calls: 0..n-1, n = control */
MR_API uint64_t mr_end_time_ns(const struct mr_session_end *e);
MR_API void mr_end_tuples(const struct mr_session_end *e, struct mr_tuple *forward, struct mr_tuple *reply);
MR_API void mr_end_totals(const struct mr_session_end *e, int direction, uint64_t *packets, uint64_t *bytes);
MR_API uint64_t mr_end_age_ms(const struct mr_session_end *e); /* since it was made; modulo 2^32 (49.7 days) */

/* ---- deciding -------------------------------------------------------------------------------------------- */

MR_API void mr_decide_drop(struct mr_packet *p, unsigned reason);
MR_API void mr_decide_kernel(struct mr_packet *p); /* end: to the kernel stack (untranslated packets) */
MR_API void mr_decide_interface(struct mr_packet *p, unsigned interface_id); /* end: out of this interface as it is */
/* End: through this tunnel (mr_stage_tunnel), wherever the pipeline ends. Its TTL is taken down by one, as by a router. */
MR_API void mr_decide_tunnel(struct mr_packet *p, uint16_t tunnel);
/* NAT; changes the effective tuple.  port_be: 0..65535, or MR_PORT_KEEP; of an ICMP query the identifier; ignored where there is neither. */
#define MR_PORT_KEEP (-1)
MR_API void mr_decide_source(struct mr_packet *p, const uint8_t *addr, int port_be);
MR_API void mr_decide_destination(struct mr_packet *p, const uint8_t *addr, int port_be);
/*
 * An ICMP error is translated as the session of the packet it quotes is: destination, the source where packets of that direction have another
 * one, and the quoted packet as far as it is there (RFC 5508 REQ-3 to REQ-5).  The tuple is then what it will be; the session is not refreshed.
 * 0, also when it was called before; -ENOENT: no ICMP error, or it quotes no packet of a session.
 */
MR_API int mr_decide_related(struct mr_packet *p);
/* The MSS option of a TCP segment with SYN becomes no larger than this; 0: than what fits the MTU of where it goes and of where it came from.
 * Others: nothing. */
MR_API void mr_decide_mss(struct mr_packet *p, uint16_t max_bytes);
/* Dropped, and its sender is told, as far as RFC 1812 section 4.3.2.7 and the rate allow; in a pipeline that does not route, only dropped. */
enum mr_reject {
	MR_REJECT_NET_UNREACHABLE,  /* IPv4 3/0, IPv6 1/0 */
	MR_REJECT_HOST_UNREACHABLE, /* 3/1, 1/3 */
	MR_REJECT_PORT_UNREACHABLE, /* 3/3, 1/4 */
	MR_REJECT_PROHIBITED,       /* 3/13, 1/1 */
};
MR_API void mr_decide_reject(struct mr_packet *p, unsigned reason, enum mr_reject with);
/* Likewise, after a while, and then only when no session with its key was made meanwhile (RFC 5382 REQ-4).  Where there is no room to remember it, it
 * is dropped only. */
MR_API void mr_decide_reject_later(struct mr_packet *p, unsigned reason, enum mr_reject with, uint32_t delay_ms);
/* For the session it opens: time-outs of mr_stage_timeouts(), and that it is never given up for others while it is half open. */
MR_API void mr_decide_timeouts(struct mr_packet *p, uint8_t timeouts);
MR_API void mr_decide_keep(struct mr_packet *p);
MR_API void mr_decide_count(struct mr_packet *p, uint16_t counter); /* every packet of the flow counts there */
MR_API void mr_decide_meter(struct mr_packet *p, uint16_t meter); /* every packet of the flow passes it or is dropped */
MR_API void mr_decide_this_packet_only(struct mr_packet *p);      /* do not store */
MR_API void mr_decide_no_session(struct mr_packet *p); /* likewise, and open no session; for what is not translated */
MR_API void mr_decide_one_way(struct mr_packet *p);    /* no reply will come this way */

/* A sentence for `millrace explain`; costs nothing when nobody asks. */
MR_API bool mr_packet_explaining(const struct mr_packet *p);
MR_API void mr_packet_explain(struct mr_packet *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- match: auto ------------------------------------------------------------------------------------------ */

struct mr_match_need {
	struct mr_prefix src, dst;    /* family 0 = any */
	struct mr_range proto;        /* lo = hi = 0: any */
	struct mr_range sport, dport; /* lo = hi = 0: any */
};
MR_API int mr_match_add(struct mr_match_sink *sink, const struct mr_match_need *need);

/* ---- check ------------------------------------------------------------------------------------------------- */

MR_API void mr_check_warn(struct mr_check *check, struct mr_position at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* What this box does with an address as destination: it is its own, or is on a network a device is connected to (its name; NULL: none). */
MR_API bool mr_check_is_local(struct mr_check *check, const struct mr_prefix *address);
MR_API const char *mr_check_on_link(struct mr_check *check, const struct mr_prefix *address);
/* Somebody here answers ARP for it although it is not ours: proxy_arp, or an entry of `ip neigh add proxy`. */
MR_API bool mr_check_is_proxied(struct mr_check *check, const struct mr_prefix *address);

#ifdef __cplusplus
}
#endif
#endif
