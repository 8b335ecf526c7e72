/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES ((size_t)64 * 1024)
#define ALIGN_BYTES alignof(max_align_t)

struct chunk {
	struct chunk *next;
	size_t used;
	size_t size;
	alignas(max_align_t) unsigned char data[];
};

struct mr_arena {
	struct chunk *head; /* the one with room; chunks of one large object stand behind it */
};

struct mr_arena *mr_arena_create(void)
{
	return calloc(1, sizeof(struct mr_arena));
}

void mr_arena_destroy(struct mr_arena *a)
{
	if (!a)
		return;
	for (struct chunk *c = a->head, *next; c; c = next) {
		next = c->next;
		free(c);
	}
	free(a);
}

/* calloc, not malloc: large chunks come zeroed from the kernel without being touched. */
static struct chunk *chunk_create(size_t bytes)
{
	struct chunk *c = calloc(1, sizeof(*c) + bytes);
	if (c)
		c->size = bytes;
	return c;
}

void *mr_arena_alloc(struct mr_arena *a, size_t bytes)
{
	if (bytes > SIZE_MAX / 2)
		return NULL;
	bytes = (bytes + ALIGN_BYTES - 1) & ~(ALIGN_BYTES - 1);
	if (bytes > CHUNK_BYTES / 4) {
		struct chunk *c = chunk_create(bytes);
		if (!c)
			return NULL;
		c->used = bytes;
		if (a->head) {
			c->next = a->head->next;
			a->head->next = c;
		} else {
			a->head = c;
		}
		return c->data;
	}
	if (!a->head || a->head->size - a->head->used < bytes) {
		struct chunk *c = chunk_create(CHUNK_BYTES);
		if (!c)
			return NULL;
		c->next = a->head;
		a->head = c;
	}
	void *p = a->head->data + a->head->used;
	a->head->used += bytes;
	return p;
}

void *mr_arena_array(struct mr_arena *a, size_t cnt, size_t element_bytes)
{
	size_t bytes;
	if (__builtin_mul_overflow(cnt, element_bytes, &bytes))
		return NULL;
	return mr_arena_alloc(a, bytes);
}

char *mr_arena_text(struct mr_arena *a, const char *text, size_t bytes)
{
	char *p = mr_arena_alloc(a, bytes + 1);
	if (p && bytes)
		memcpy(p, text, bytes);
	return p;
}
