/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * interface.h - one configured interface from opening to closing, whatever stands behind it.
 *
 *     absent ──open──► up ◄──link──► down
 *        ▲              │ device deleted
 *        └──────────────┘   (control tries again when the device is back)
 *
 * Control opens and closes; workers only call the queue operations of millrace/interface.h.  A queue is taken away from
 * its worker (a new plan, one epoch) before control closes it.
 */
#ifndef MR_CORE_INTERFACE_H
#define MR_CORE_INTERFACE_H

#include "core/config.h"
#include "core/error.h"
#include "core/frames.h"
#include "millrace/interface.h"

enum mr_interface_kind { MR_INTERFACE_XSK, MR_INTERFACE_PCAP, MR_INTERFACE_MEMORY };

/* What was got, for show, check and the ready line. */
struct mr_interface_info {
	const char *name; /* configuration name */
	char device[64];  /* "" for files */
	char driver[32];  /* ethtool driver name */
	enum mr_interface_kind kind;
	enum mr_mode mode;  /* as bound: ZEROCOPY, COPY or GENERIC (never AUTO) */
	char mode_why[160]; /* why not the next better one; "" = it is the best */
	char tier_why[160]; /* why its program does without the kernel tier it was to have; "" = it does not */
	uint32_t ifindex;
	uint32_t mtu;     /* this, the MAC address and the device's name follow the device (mr_interface_poll) */
	uint32_t mtu_max; /* the largest whose frames fit a packet frame */
	uint8_t mac[6];
	uint16_t queue_cnt;        /* queues with a socket */
	uint16_t device_queue_cnt; /* rx queues the device has; follows the device */
	uint16_t channels;         /* set by us; 0 = kept */
	bool promiscuous;          /* asked for by us */
	char spread[256];          /* its RSS, core/spread.h */
	char spread_why[256];      /* why packets are not spread over the sockets; "" = they are, or nobody knows */
	int numa_node;
	bool up;          /* operational state, as last told */
	char held_by[64]; /* mr_interface_check(): the instance whose program is on the device; "" = none */
	bool held_left;   /* ... which does not run: it left it (on_exit: drop) */
	bool exit_drop;   /* on_exit: drop, and the program is pinned */
	bool unserved_drop;
	char notice[160]; /* what opening it found and put in order, for the log; "" = nothing */
	bool locks_out;   /* on_exit: drop will keep everything from addresses this machine has on the device */
	char beside[160]; /* what others have on the device (core/beside.h); "" = nothing */
};

/* Room in front of the first byte of every frame an interface receives. */
#define MR_INTERFACE_HEADROOM_BYTES 256

/* What the runtime lends to every interface. */
struct mr_interface_env {
	struct mr_frames *frames;
	/* magazine of the worker that will serve a queue; the queue keeps it */
	struct mr_magazine *(*magazine)(void *ctx, unsigned queue_idx);
	void *ctx;
	const char *instance;
	uint64_t shim_cookie;   /* of hand-back in generic mode (core/handback.h) */
	struct mr_leave *leave; /* where `on_exit: drop` keeps programs (core/leave.h); NULL = cannot be had */
	struct mr_tier_maps
		*tier; /* the kernel tier (core/tier.h), for what is attached in native mode by a link; NULL = none */
};

struct mr_steer_table;

/*
 * Opens: checks the device (exists, up, MTU fits the frame, mode), loads kern/steer.bpf.c with nothing steered yet, binds one
 * socket a queue in the best allowed mode, fills the fill rings, enters the sockets into the XSKMAP and attaches the program
 * (with `attach: shared` before the sockets: libxdp loads and attaches in one; it passes everything until a table is applied).
 * Where the kernel does not take the program with the kernel tier, it is loaded without, before a worse mode is tried (info: tier_why).
 * Where an earlier run left its program (on_exit: drop), that one stays in force until mr_interface_apply().
 * Nothing is left behind on failure.  id is 1..MR_MAX_INTERFACES.
 * Errors: -ENODEV (no such device), -ENETDOWN, -EMSGSIZE (MTU over the frame), -EOPNOTSUPP (mode), -EBUSY (another XDP program
 * or a socket on the queue; the sentence names it), -EPERM, -ENOMEM.  Threads: control.
 */
int mr_interface_open(const struct mr_config_interface *c, unsigned id, const struct mr_interface_env *env,
	struct mr_interface **out, struct mr_error *e);
/*
 * Puts a table in force, and then what happens to matched packets without us: on_exit and unserved of `c` (auto: pass).  In this
 * order: the table, the program into the link an earlier run left, the pin; so that no packet which both drop passes in between.  For
 * files nothing to do.  On failure the table before may be in force or this one.  Errors of mr_steer_apply(), mr_attach_replace(),
 * mr_attach_keep().  Threads: control.
 */
int mr_interface_apply(struct mr_interface *i, const struct mr_steer_table *t, const struct mr_config_interface *c,
	struct mr_error *e);
/* No new packet comes to the sockets any more: what matches is passed to the kernel, or dropped with on_exit: drop.  Before the
 * end, so that what is under way can be finished.  Threads: control. */
void mr_interface_quiet(struct mr_interface *i);
/* Closing shall leave nothing on the device.  `inherited` false: unless an earlier run had left something there.  Threads: control. */
void mr_interface_let_go(struct mr_interface *i, bool inherited);
/* Detaches (but for on_exit: drop, whose program stays, unless the device is gone or was let go), closes sockets, unmaps rings, reclaims frames.  NULL allowed.  No worker may use its queues.  `last` (may be NULL) gets the
 * final counters summed over its queues, frames lost by the closing (tx_lost) included.  Threads: control. */
void mr_interface_close(struct mr_interface *i, struct mr_queue_counters *last);

const struct mr_interface_info *mr_interface_info(const struct mr_interface *i);
unsigned mr_interface_queue_cnt(const struct mr_interface *i);
struct mr_queue *mr_interface_queue(struct mr_interface *i, unsigned queue_idx);

/* The steering of an AF_XDP interface (core/steer.h); NULL for files. */
struct mr_steer *mr_interface_steer(struct mr_interface *i);

/* Refreshes kernel statistics into the queues' counters and the device's state into info.  Threads: control. */
void mr_interface_poll(struct mr_interface *i);
/* Switches promiscuous mode; nothing to do for files.  -EPERM and others, with the sentence.  Threads: control. */
int mr_interface_promiscuous(struct mr_interface *i, bool on, struct mr_error *e);
/* True once after the device got other receive queues than it had. */
bool mr_interface_queues_changed(struct mr_interface *i);
/* True once the device is gone: deleted, away in another namespace (even when it came back), or its sockets say ENXIO. */
bool mr_interface_gone(const struct mr_interface *i);

/* Checks what mr_interface_open() would check, touching nothing, for `millrace check`.  A device that a running instance of Millrace
 * has is no error here: held_by names it, and open refuses. */
int mr_interface_check(
	const struct mr_config_interface *c, uint32_t frame_bytes, struct mr_interface_info *out, struct mr_error *e);

#endif
