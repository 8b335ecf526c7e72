/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef MR_KERN_REWRITE_H
#define MR_KERN_REWRITE_H
#include "flow.h"
#include "parse.h"
#endif
