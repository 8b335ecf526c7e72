/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fib.h - longest prefix match, IPv4 and IPv6: which value the longest prefix over an address has.
 *
 *     IPv4   24 bits at once ─► the value, or a block of 256 for the last 8
 *     IPv6   24 bits at once ─► value or block ─► 8 more bits ─► value or block ─► ... at most 13 blocks
 *
 * A block with few prefixes is one cache line (core/fib_table.h); prefixes of at most 8 bits, a default route among them, lie in a table
 * of 256 of their own, so that no update changes more than 32768 entries and nothing has to be filled for a default route.
 *
 * One writer (control) changes entries with single stores; readers (workers) take no lock and see the old or the new value, never
 * a third.  A block that is no longer needed is used again only after an epoch (core/epoch.h), so a reader must be online there
 * while it looks up.  Which prefix covers what is known from a table of prefixes only the writer has.
 *
 * Memory: the two first levels are 64 MiB of address space each, and cost huge pages (2 MiB: a /7) only where prefixes of 9 bits and more
 * are; blocks 64 or 1088 bytes, the writer's table at most 21 bytes a prefix of IPv4 and 53 of IPv6.  4 GiB of address space are reserved
 * for blocks.
 */
#ifndef MR_CORE_FIB_H
#define MR_CORE_FIB_H

#include "core/epoch.h"
#include <linux/types.h>
#include <stddef.h>
#include <stdint.h>

#define MR_FIB_VALUE_MAX 0x00ffffffu /* 0 = no prefix */

struct mr_fib;

struct mr_fib_usage {
	uint64_t prefix_cnt[2]; /* IPv4, IPv6 */
	uint64_t block_cnt;     /* in use, both families */
	uint64_t
		bytes; /* resident: first levels as far as touched (estimated by what was written), blocks, the writer's table */
};

/* NULL = no memory.  The epoch outlives it; NULL epoch: nobody reads meanwhile (tests). */
struct mr_fib *mr_fib_create(struct mr_epoch *epoch);
void mr_fib_destroy(struct mr_fib *f); /* NULL allowed */

/*
 * Gives the prefix a value (1..MR_FIB_VALUE_MAX), new or in place of the one it has.  Bits of prefix after `bits` are ignored.
 * addr_be: 4 or 16 bytes.  0; -ENOMEM (then nothing changed); -EINVAL (family, bits or value).  Threads: control.
 */
int mr_fib_set(struct mr_fib *f, unsigned family, const void *addr_be, unsigned bits, uint32_t value);
/* Takes the prefix out.  0, -ENOENT, -ENOMEM (nothing changed).  Threads: control. */
int mr_fib_unset(struct mr_fib *f, unsigned family, const void *addr_be, unsigned bits);
/* The value of exactly this prefix, 0 = none.  Threads: control. */
uint32_t mr_fib_exact(const struct mr_fib *f, unsigned family, const void *addr_be, unsigned bits);
/* Value and length of the longest prefix over an address; 0 = none.  Threads: control (it also tells the prefix; workers use the below). */
uint32_t mr_fib_match(const struct mr_fib *f, unsigned family, const void *addr_be, unsigned *bits);
/* Every prefix under (and with) the one given, in any order; reads the whole table of the family (some ms with a million); stops when fn returns non-zero and returns that.  Threads: control; fn changes
 * nothing. */
typedef int (*mr_fib_fn)(void *ctx, const uint8_t *addr_be, unsigned bits, uint32_t value);
int mr_fib_each(const struct mr_fib *f, unsigned family, const void *addr_be, unsigned bits, mr_fib_fn fn, void *ctx);

/* The value of the longest prefix; 0 = none.  Threads: any that is online in the epoch, no lock. */
uint32_t mr_fib_lookup4(const struct mr_fib *f, __be32 addr_be);
/* Fetches what it will look at first.  Threads: any. */
void mr_fib_expect4(const struct mr_fib *f, __be32 addr_be);
uint32_t mr_fib_lookup6(const struct mr_fib *f, const void *addr_be);
void mr_fib_lookup4_bulk(const struct mr_fib *f, const __be32 *addr_be, uint32_t *value, unsigned n);
void mr_fib_lookup6_bulk(const struct mr_fib *f, const uint8_t (*addr_be)[16], uint32_t *value, unsigned n);

void mr_fib_usage(const struct mr_fib *f, struct mr_fib_usage *out);

#endif
