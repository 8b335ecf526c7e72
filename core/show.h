/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * show.h - the verbs of the control socket, answered from the running tables.
 */
#ifndef MR_CORE_SHOW_H
#define MR_CORE_SHOW_H

#include "core/control.h"
#include "core/runtime.h"

/* mr_control_fn with ctx = struct mr_runtime *: show, reload, explain, flows-delete, version. */
json_t *mr_show_answer(void *runtime, const char *verb, const json_t *request, struct mr_error *e);

#endif
