/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * node.h - a YAML file as a tree that remembers where everything stands.
 *
 *     bytes ─checked: size, UTF-8, control characters, tabs─► libyaml events ─► struct mr_node
 *
 * Only the part of YAML that cannot surprise is taken: one document, mappings with unique scalar keys, sequences, scalars.
 * Tags, anchors, aliases, several documents, nesting over MR_NODE_DEPTH_MAX are refused with a sentence.  No scalar is given
 * a type here ("no" stays "no"); the tables of millrace/option.h do that.
 *
 * Nodes and texts belong to the arena and are never changed once read.
 */
#ifndef MR_CORE_NODE_H
#define MR_CORE_NODE_H

#include "core/arena.h"
#include "core/error.h"
#include "millrace/option.h"

#define MR_NODE_FILE_BYTES_MAX ((size_t)16 << 20)
#define MR_NODE_DEPTH_MAX      32
#define MR_NODE_CNT_MAX        (2u << 20) /* a file within the size limit needs no more for a million entries */

enum mr_node_kind { MR_NODE_SCALAR, MR_NODE_SEQUENCE, MR_NODE_MAPPING };

struct mr_node {
	enum mr_node_kind kind;
	bool quoted;           /* a scalar in quotes, or a block scalar */
	struct mr_position at; /* of the value */
	struct mr_position key_at;
	const char *key;       /* in a mapping: its key; else NULL */
	const char *text;      /* scalar */
	struct mr_node *child; /* first of a sequence or mapping */
	struct mr_node *next;  /* sibling, in file order */
	uint32_t child_cnt;
};

/* Reads text into *out, whose nodes belong to `a`.  `name` stands for the file in sentences.  -EINVAL with the sentence "name:line:
 * column: ...", -ENOMEM.  Threads: any, one arena each. */
int mr_node_read(
	const char *text, size_t bytes, const char *name, struct mr_arena *a, struct mr_node **out, struct mr_error *e);

/* Checks bytes as every text Millrace reads is checked: UTF-8 without control characters.  0, or -EINVAL with the sentence. */
int mr_node_check_text(const char *text, size_t bytes, const char *name, struct mr_error *e);

/* The value of a key of a mapping, or NULL. */
const struct mr_node *mr_node_find(const struct mr_node *mapping, const char *key);
/* "a mapping", "a list", "a value". */
const char *mr_node_kind_name(const struct mr_node *n);
/* A scalar nobody wrote: `key:` with nothing behind it, or ~ or null. */
bool mr_node_is_empty(const struct mr_node *n);
/* Does this text look like (part of) an IPv6 address? */
bool mr_node_like_ipv6(const char *text);

/* Text made fit for a sentence: printable, one line, not too long. */
struct mr_quoted {
	char text[84];
};
struct mr_quoted mr_node_quote(const char *text);

#endif
