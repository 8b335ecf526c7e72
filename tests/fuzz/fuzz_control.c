/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Request lines against real answers over a small engine with some flows in it.  An input is any number of lines; every answer
 * must be one line of JSON with a schema or an error.
 */
#include "../unit/rig_runtime.h"
#include "core/show.h"

#include <stdlib.h>
#include <string.h>

static const char yaml[] = "version: 1\n"
			   "interfaces: { wan: { pcap: wan.pcap }, lan: { pcap: lan.pcap } }\n"
			   "stages: { guard: { type: filter, default: accept, rules: [\n"
			   "  { name: telnet, action: drop, proto: tcp, dport: 23 },\n"
			   "  { name: small, action: drop, proto: udp, length: 0-40 } ] } }\n"
			   "pipelines:\n"
			   "  in: { from: [ wan ], match: [ { dst: 10.0.0.0/8 }, { dst: \"2001:db8::/32\" } ], stages: "
			   "[ guard ], to: lan }\n"
			   "  out: { from: [ lan ], match: all, stages: [ guard ], to: wan }\n";

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static struct rig *rig;
static struct mr_runtime *rt;

static void traffic(void)
{
	rig_say(rig, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53 length 100");
	rig_say(rig, "wan", "udp [2001:db8::1]:7 > [2001:db8::2]:53 length 100");
	rig_say(rig, "wan", "tcp 10.0.0.1:2001 > 10.0.0.2:23");
	rig_say(rig, "wan", "tcp 10.0.0.1:2001 > 10.0.0.2:80");
	rig_turn(rig);
	rig_say(rig, "lan", "udp 10.0.0.2:53 > 10.0.0.1:1000");
	rig_turn(rig);
	(void)rig_sent(rig, "lan");
	(void)rig_sent(rig, "wan");
	/* A rig remembers what it was given; here it would be given millions. */
	for (unsigned id = 1; id <= 2; id++)
		rig->interface[id].queue[0].in.cnt = rig->interface[id].queue[0].in.next = 0;
}

/* Leak checks see a clean end. */
static void end(void)
{
	rig_runtime_destroy(rt);
	rig_destroy(rig);
}

static void answer(const char *line, size_t bytes)
{
	char *text = mr_control_answer(mr_show_answer, rt, line, bytes);
	size_t n = text ? strlen(text) : 0;
	if (n < 2 || text[n - 1] != '\n' || strchr(text, '\n') != text + n - 1)
		abort();
	json_t *j = json_loadb(text, n, 0, NULL);
	if (!json_is_string(json_object_get(j, "error")) && !json_is_string(json_object_get(j, "schema")))
		abort();
	json_decref(j);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	if (!rig) {
		rig = rig_create(yaml, NULL);
		rt = rig_runtime_create(rig);
		atexit(end);
	}
	/* flows-delete of the input before took them */
	if (!mr_sessions_next(rig->sh.sessions, 1))
		traffic();
	const char *at = (const char *)bytes, *end = at + size;
	while (at < end) {
		const char *nl = memchr(at, '\n', (size_t)(end - at));
		answer(at, (size_t)((nl ? nl : end) - at));
		at = nl ? nl + 1 : end;
	}
	return 0;
}
