/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arena.h - memory that lives exactly as long as the configuration it belongs to.
 *
 *     create ─► alloc, alloc, alloc ... ─► destroy (all at once; nothing is freed alone)
 *
 * The arena owns what it gave out.  One thread at a time.
 */
#ifndef MR_CORE_ARENA_H
#define MR_CORE_ARENA_H

#include <stddef.h>

struct mr_arena;

/* NULL = no memory. */
struct mr_arena *mr_arena_create(void);
/* NULL allowed. */
void mr_arena_destroy(struct mr_arena *a);

/* Zeroed, aligned for any type, valid until destroy; bytes 0 gives a pointer that may not be read.  NULL = no memory. */
void *mr_arena_alloc(struct mr_arena *a, size_t bytes);
/* cnt elements; NULL too when the product overflows. */
void *mr_arena_array(struct mr_arena *a, size_t cnt, size_t element_bytes);
/* A copy with a NUL after it. */
char *mr_arena_text(struct mr_arena *a, const char *text, size_t bytes);

#endif
