/* SPDX-License-Identifier: BSD-2-Clause */
/* Packets through whole workers: hits, misses, what is stored, the ways out. */
#include "rig.h"

#include "core/session.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#define WIRE                        \
	"version: 1\n"              \
	"interfaces:\n"             \
	"  wan: { device: wan0 }\n" \
	"  lan: { device: lan0 }\n"
#define BOTH                                                                \
	"pipelines:\n"                                                      \
	"  in: { from: [ wan ], match: all, stages: [ guard ], to: lan }\n" \
	"  out: { from: [ lan ], match: all, stages: [ guard ], to: wan }\n"

static const char open_wire[] = WIRE "stages:\n  guard: { type: filter, default: accept }\n" BOTH;

Test(pipeline, first_packet_is_decided_the_second_hits)
{
	struct rig *r = rig_create(open_wire, NULL);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 1);
	cr_assert_eq(rig_stats(r, "wan", "in").hits, 0);
	for (int i = 0; i < 5; i++)
		rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 5);
	cr_assert_eq(rig_stats(r, "wan", "in").hits, 5);
	cr_assert_eq(rig_stats(r, "wan", "in").forwarded.packets, 6);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}
