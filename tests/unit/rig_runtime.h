/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rig_runtime.h - a struct mr_runtime around a rig, for what is answered over the control socket.
 *
 * It stands in for core/interface.c (as the rig does) and for mr_runtime_reload(): the path "bad" is a wrong file, "gone" fails for
 * another reason, anything else works.
 */
#ifndef RIG_RUNTIME_H
#define RIG_RUNTIME_H

#include "core/runtime.h"
#include "rig.h"

struct mr_runtime *rig_runtime_create(struct rig *r); /* aborts when it cannot */
void rig_runtime_destroy(struct mr_runtime *rt);      /* before the rig */
/* After rig_reload(). */
void rig_runtime_refresh(struct mr_runtime *rt, struct rig *r);

#endif
