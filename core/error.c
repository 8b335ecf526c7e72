/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/error.h"

#include <stdio.h>

int mr_error_set(struct mr_error *e, int err, const char *fmt, ...)
{
	if (e) {
		va_list ap;
		va_start(ap, fmt);
		vsnprintf(e->text, sizeof(e->text), fmt, ap);
		va_end(ap);
	}
	return err;
}
