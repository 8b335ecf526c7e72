/* SPDX-License-Identifier: BSD-2-Clause */
/* Which packets may be of one flow: zones by name, and by VLAN id. */
#include "rig.h"

#include "core/session.h"
#include "core/zone.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PIPES                                                                             \
	"stages: { guard: { type: filter, default: drop, rules: [\n"                      \
	"  { action: accept, state: established }, { action: accept, dport: 53 } ] } }\n" \
	"pipelines:\n"                                                                    \
	"  in: { from: [ wan ], match: all, stages: [ guard ], to: lan }\n"               \
	"  out: { from: [ lan ], match: all, stages: [ guard ], to: wan }\n"
#define WIRE(keys)                          \
	"version: 1\n"                      \
	"interfaces:\n"                     \
	"  wan: { device: wan0" keys " }\n" \
	"  lan: { device: lan0" keys " }\n" PIPES

static unsigned sessions(struct rig *r)
{
	unsigned n = 0;
	for (uint32_t i = mr_sessions_next(r->sh.sessions, 1); i; i = mr_sessions_next(r->sh.sessions, i + 1))
		n++;
	return n;
}

static void pass(struct rig *r, const char *interface, const char *packet)
{
	rig_say(r, interface, packet);
	rig_turn(r);
}

Test(zone, without_vlan_zones_tags_are_not_looked_at)
{
	struct rig *r = rig_create(WIRE(""), NULL);
	pass(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	pass(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53 vlan 7");
	cr_expect_eq(sessions(r), 1);
	pass(r, "lan", "udp 10.0.0.2:53 > 10.0.0.1:1000 vlan 8");
	cr_expect_eq(rig_sent(r, "wan"), 1);
	cr_expect(rig_adds_up(r));
	rig_destroy(r);
}

Test(zone, each_vlan_id_has_flows_of_its_own)
{
	struct rig *r = rig_create(WIRE(", vlan_zones: true"), NULL);
	pass(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53 vlan 7");
	pass(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53 vlan 8");
	pass(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53 vlan 4094");
	cr_expect_eq(sessions(r), 3);
	pass(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53 vlan 7");
	cr_expect_eq(sessions(r), 3);
	/* a reply belongs to the flow of its own VLAN id */
	pass(r, "lan", "udp 10.0.0.2:53 > 10.0.0.1:1000 vlan 9");
	pass(r, "lan", "udp 10.0.0.2:53 > 10.0.0.1:1000");
	cr_expect_eq(rig_sent(r, "wan"), 0);
	pass(r, "lan", "udp 10.0.0.2:53 > 10.0.0.1:1000 vlan 8");
	cr_expect_eq(rig_sent(r, "wan"), 1);
	pass(r, "wan", "udp [fd00::1]:1000 > [fd00::2]:53 vlan 7");
	cr_expect(rig_adds_up(r));
	rig_destroy(r);
}

Test(zone, a_priority_tag_is_no_vlan)
{
	struct rig *r = rig_create(WIRE(", vlan_zones: true"), NULL);
	pass(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	pass(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53 vlan 0");
	cr_expect_eq(sessions(r), 1);
	rig_destroy(r);
}

/* PCP and DEI are not of the id; of two tags the outer counts. */
Test(zone, only_the_outer_id)
{
	struct mr_parsed p = { .vlan_cnt = 2, .vlan_tci = { 0xf007, 0x0123 } };
	cr_expect_eq(mr_parse_zone(&p, 3, 0xfff0), 0x0073);
	cr_expect_eq(mr_parse_zone(&p, 3, 0), 3);
	p.vlan_tci[0] = 0xffff;
	cr_expect_eq(mr_parse_zone(&p, 1, 0xfff0), 0xfff1);
}

Test(zone, names_and_numbers)
{
	struct rig *r = rig_create("version: 1\n"
				   "interfaces:\n"
				   "  wan: { device: wan0, zone: red, vlan_zones: true }\n"
				   "  lan: { device: lan0, zone: blue }\n" PIPES,
		NULL);
	struct mr_plan *plan = rig_plan(r);
	const struct mr_plan_interface *wan = &plan->interface[rig_id(r, "wan")],
				       *lan = &plan->interface[rig_id(r, "lan")];
	int vlan = 5;
	cr_expect(wan->zone >= 2 && wan->zone <= 7 && wan->vlan_mask == 0xfff0);
	cr_expect((lan->zone & 8) && !lan->vlan_mask);
	cr_expect_str_eq(mr_zone_name(plan, wan->zone | 77 << 4, &vlan), "red");
	cr_expect_eq(vlan, 77);
	cr_expect_str_eq(mr_zone_name(plan, lan->zone, &vlan), "blue");
	cr_expect_eq(vlan, -1);
	cr_expect_null(mr_zone_name(plan, lan->zone ^ 16, &vlan));
	uint16_t red = wan->zone, blue = lan->zone;
	/* a reload gives nobody another number, and a new zone none that flows of a zone before may have */
	rig_reload(r,
		"version: 1\n"
		"interfaces:\n"
		"  wan: { device: wan0, zone: green, vlan_zones: true }\n"
		"  lan: { device: lan0, zone: blue }\n" PIPES);
	plan = rig_plan(r);
	cr_expect_neq(plan->interface[rig_id(r, "wan")].zone, red);
	cr_expect_eq(plan->interface[rig_id(r, "lan")].zone, blue);
	uint16_t green = plan->interface[rig_id(r, "wan")].zone;
	rig_refresh(r);
	cr_expect_eq(rig_plan(r)->interface[rig_id(r, "wan")].zone, green);
	cr_expect_eq(rig_plan(r)->interface[rig_id(r, "wan")].vlan_mask, 0xfff0);
	rig_destroy(r);
}

Test(zone, switched_on_by_a_reload)
{
	struct rig *r = rig_create(WIRE(""), NULL);
	pass(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:53");
	pass(r, "wan", "udp 10.0.0.3:1000 > 10.0.0.2:53 vlan 7");
	rig_sent(r, "lan");
	rig_reload(r, WIRE(", vlan_zones: true"));
	/* those without a tag go on */
	pass(r, "lan", "udp 10.0.0.2:53 > 10.0.0.1:1000");
	cr_expect_eq(rig_sent(r, "wan"), 1);
	/* the others are not found any more */
	pass(r, "lan", "udp 10.0.0.2:53 > 10.0.0.3:1000 vlan 7");
	cr_expect_eq(rig_sent(r, "wan"), 0);
	cr_expect(rig_adds_up(r));
	rig_destroy(r);
}

static void refused(const char *yaml, const char *why)
{
	struct mr_config *c = NULL;
	struct mr_error e = { "" };
	cr_assert_eq(mr_config_read_text(yaml, strlen(yaml), "t.yaml", ".", &c, &e), 0, "%s", e.text);
	cr_expect_eq(mr_plan_check(c, 1, &e), -EINVAL);
	cr_expect(strstr(e.text, why), "%s", e.text);
	mr_config_free(c);
}

Test(zone, what_is_refused)
{
	char yaml[2048];
	refused("version: 1\n"
		"interfaces:\n"
		"  wan: { device: wan0, vlan_zones: true }\n"
		"  lan: { device: lan0 }\n" PIPES,
		"t.yaml:4:3: interfaces.lan: vlan_zones is the same for all interfaces of a zone");
	size_t n = (size_t)snprintf(
		yaml, sizeof(yaml), "version: 1\ninterfaces:\n  wan: { device: wan0 }\n  lan: { device: lan0 }\n");
	for (int i = 0; i < MR_ZONE_BASES; i++)
		n += (size_t)snprintf(
			yaml + n, sizeof(yaml) - n, "  v%d: { device: v%d, zone: z%d, vlan_zones: true }\n", i, i, i);
	snprintf(yaml + n, sizeof(yaml) - n, PIPES);
	refused(yaml, "interfaces.v6: with it there are more than 7 zones with vlan_zones");
}
