/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * diff.h - what another file would change: the two trees compared, place by place.
 */
#ifndef MR_CORE_DIFF_H
#define MR_CORE_DIFF_H

#include "core/config.h"
#include <jansson.h>

/*
 * A new array of { "path", "change": "added" | "removed" | "changed", "from", "to", "line" }, in file order.  Objects are compared by
 * key, list elements that have a `name` by name, others by position.  Sets read from files are compared by how many entries they have.
 * line: of `to`, or of `from` where something is removed.  NULL = no memory.  Threads: any.
 */
json_t *mr_diff(const struct mr_config *from, const struct mr_config *to);

#endif
