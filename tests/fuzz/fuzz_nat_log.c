/* SPDX-License-Identifier: BSD-2-Clause */
/* Lines of the log of nat44.  An input is one line: what is read as an event must be written as that event again. */
#include "pipelines/nat44/log.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	char again[NAT_LINE_BYTES], stage[NAT_STAGE_BYTES], small[8];
	struct nat_event e, back;
	char *line = malloc(size + 1); /* just as long: what reads on is found */
	if (!line)
		return 0;
	memcpy(line, bytes, size);
	line[size] = '\0';
	int err = nat_log_parse(line, &e, stage, sizeof(stage));
	if (!err) {
		unsigned n = nat_log_format(&e, stage, again);
		if (n >= sizeof(again) || again[n] || strlen(again) != n)
			abort();
		if (nat_log_parse(again, &back, stage, sizeof(stage)) || memcmp(&e, &back, sizeof(e)))
			abort();
	}
	if (!nat_log_parse(line, &back, small, sizeof(small)) && err)
		abort();
	free(line);
	return 0;
}
