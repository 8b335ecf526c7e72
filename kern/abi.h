/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * abi.h - everything the kernel side and user space must agree on.
 *
 * Compiled twice: by clang for BPF and by the host compiler for user space.  A structure that both sides
 * read is declared here (or in flow.h) and nowhere else, with its size and offsets asserted.
 *
 * Byte order: a name ending in _be holds network order; everything else is host order.
 */
#ifndef MR_KERN_ABI_H
#define MR_KERN_ABI_H

#ifdef __bpf__
#include <linux/types.h>
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define MR_BPF 1
#else
#include <linux/types.h>
#include <stddef.h>
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define MR_BPF 0
#endif

#define MR_ABI_VERSION 1

/* Limits that size maps and bitmaps on both sides. */
#define MR_MAX_INTERFACES 64  /* interface ids are 1..MR_MAX_INTERFACES; 0 means none */
#define MR_MAX_QUEUES     64  /* queues of one interface that may hold a socket */
#define MR_MAX_PIPELINES  64  /* pipelines serving one interface */
#define MR_STEER_ENTRIES  256 /* match and except entries of one interface, together */
#define MR_STEER_WORDS    (MR_STEER_ENTRIES / 64)
#define MR_MAX_NEXTHOPS   65536 /* next-hop slots; slot 0 is "none" */
#define MR_ZONE_DEFAULT   1     /* zone 0 is never used, so an all-zero key matches nothing */

/* ---- steering ------------------------------------------------------------------------------------------ */

/* A set of steering entries, bit i = entry i.  Entries are in evaluation order (see steer.bpf.c). */
struct mr_steer_bits {
	__u64 word[MR_STEER_WORDS];
};

_Static_assert(sizeof(struct mr_steer_bits) == 32, "steer bits");

/* ---- hand-back in generic mode -------------------------------------------------------------------------- */

/*
 * What stands before a frame handed back to an interface whose XDP program would see it again: a whole Ethernet header of its own
 * (with the MACs of the frame) and the cookie.  steer.bpf.c cuts it off.
 */
#define MR_SHIM_ETHERTYPE 0x88b5 /* IEEE 802 local experimental 1 */

struct mr_shim {
	__u8 mac[12];
	__be16 ethertype_be;
	__u8 cookie[8]; /* the 64-bit number, least significant byte first */
};

_Static_assert(sizeof(struct mr_shim) == 22, "shim");

#endif
