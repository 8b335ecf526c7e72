/* SPDX-License-Identifier: BSD-2-Clause */
/* Three kinds of mapping by three kinds of filtering (RFC 4787 sections 4.1 and 5), for UDP and TCP. */
#include "nat44_world.h"

#include <stdlib.h>

static const char *const kinds[] = { "endpoint-independent", "address-dependent", "address-and-port-dependent" };

static unsigned outside_port(struct rig *r, const char *proto, const char *to)
{
	char packet[96], want[96];
	snprintf(packet, sizeof(packet), "%s 10.0.0.1:5000 > %s", proto, to);
	const char *got = passes(r, "lan", packet, "wan"), *colon = strchr(got, ':');
	unsigned port = colon ? (unsigned)strtoul(colon + 1, NULL, 10) : 0;
	snprintf(want, sizeof(want), "%s 203.0.113.1:%u > %s", proto, port, to);
	cr_assert_str_eq(got, want, "%s: %s", packet, got);
	return port;
}

static bool gets_in(struct rig *r, const char *proto, const char *from, unsigned port)
{
	char packet[96], want[96];
	snprintf(packet, sizeof(packet), "%s %s > 203.0.113.1:%u", proto, from, port);
	snprintf(want, sizeof(want), "%s %s > 10.0.0.1:5000", proto, from);
	const char *got = passes(r, "wan", packet, "lan");
	bool in = !strcmp(got, want);
	cr_assert(in || !strcmp(got, "nothing"), "%s: %s", packet, got);
	return in;
}

/* By how much of the destination is another: nothing, the port, the address. */
static void one(unsigned mapping, unsigned filtering, const char *proto)
{
	char yaml[1024];
	snprintf(yaml, sizeof(yaml),
		WORLD_HEAD "  nat: { type: nat44, inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.1 ], mapping: %s, "
			   "filtering: %s }\n" WORLD_TAIL,
		kinds[mapping], kinds[filtering]);
	struct rig *r = rig_create(yaml, NULL);
	unsigned first = outside_port(r, proto, "192.0.2.9:80");
	unsigned other_port = outside_port(r, proto, "192.0.2.9:81"),
		 other_address = outside_port(r, proto, "192.0.2.10:80");
	cr_assert_eq(outside_port(r, proto, "192.0.2.9:80"), first);
	cr_assert_eq(other_port == first, mapping <= NAT_ADDRESS_DEPENDENT, "%s", kinds[mapping]);
	cr_assert_eq(other_address == first, mapping == NAT_ENDPOINT_INDEPENDENT, "%s", kinds[mapping]);
	cr_assert_eq(mappings(r), 1 + (other_port != first) + (other_address != first));
	/* whom it has sent to is let in always */
	cr_assert(gets_in(r, proto, "192.0.2.9:80", first));
	cr_assert(gets_in(r, proto, "192.0.2.9:81", other_port));
	cr_assert(gets_in(r, proto, "192.0.2.10:80", other_address));
	/* another port of such an address, another address */
	cr_assert_eq(
		gets_in(r, proto, "192.0.2.9:4000", first), filtering <= NAT_ADDRESS_DEPENDENT, "%s", kinds[filtering]);
	cr_assert_eq(gets_in(r, proto, "192.0.2.66:80", first), filtering == NAT_ENDPOINT_INDEPENDENT, "%s",
		kinds[filtering]);
	cr_assert_eq(
		rig_dropped(r, "wan", "in", "nat44-filtered"), filtering == 0 ? 0 : filtering, "%s", kinds[filtering]);
	/* let in only as long as it has a session there */
	if (filtering == NAT_ADDRESS_DEPENDENT) {
		end_sessions(r);
		unsigned port = outside_port(r, proto, "192.0.2.10:80");
		cr_assert(!gets_in(r, proto, "192.0.2.9:4000", port));
		cr_assert(gets_in(r, proto, "192.0.2.10:4000", port));
	}
	end_world(r);
}

#define KIND(name, mapping, filtering)          \
	Test(nat44_kinds, name)                 \
	{                                       \
		one(mapping, filtering, "udp"); \
		one(mapping, filtering, "tcp"); \
	}
KIND(mapping_independent_filtering_independent, 0, 0)
KIND(mapping_independent_filtering_by_address, 0, 1)
KIND(mapping_independent_filtering_by_address_and_port, 0, 2)
KIND(mapping_by_address_filtering_independent, 1, 0)
KIND(mapping_by_address_filtering_by_address, 1, 1)
KIND(mapping_by_address_filtering_by_address_and_port, 1, 2)
KIND(mapping_by_address_and_port_filtering_independent, 2, 0)
KIND(mapping_by_address_and_port_filtering_by_address, 2, 1)
KIND(mapping_by_address_and_port_filtering_by_address_and_port, 2, 2)

/*
 * A hairpinned packet comes from the outside end of its sender: that is what the filter looks at.  One that is not let in has opened the filter of
 * its sender, as it would at a NAT of its own.
 */
static void hairpins(const char *filtering, bool other_port)
{
	char yaml[1024];
	snprintf(yaml, sizeof(yaml), WORLD_HEAD "  nat: { type: nat44, " PLAIN ", filtering: %s }\n" WORLD_TAIL,
		filtering);
	struct rig *r = rig_create(yaml, NULL);
	BECOMES(r, "lan", "udp 10.0.0.1:5000 > 192.0.2.9:53", "wan", "udp 203.0.113.1:5000 > 192.0.2.9:53");
	BECOMES(r, "lan", "udp 10.0.0.2:6000 > 192.0.2.9:53", "wan", "udp 203.0.113.1:6000 > 192.0.2.9:53");
	BECOMES(r, "lan", "udp 10.0.0.2:6001 > 192.0.2.9:53", "wan", "udp 203.0.113.1:6001 > 192.0.2.9:53");
	BECOMES(r, "lan", "udp 10.0.0.2:6000 > 203.0.113.1:5000", "wan", "nothing");
	BECOMES(r, "lan", "udp 10.0.0.2:6000 > 203.0.113.1:5000", "wan", "nothing");
	cr_assert_eq(rig_dropped(r, "lan", "out", "nat44-filtered"), 2);
	cr_assert_eq(sessions(r), 3);
	/* now the other one speaks: its packet is let in, and so are all after it */
	BECOMES(r, "lan", "udp 10.0.0.1:5000 > 203.0.113.1:6000", "wan", "udp 203.0.113.1:5000 > 10.0.0.2:6000");
	BECOMES(r, "lan", "udp 10.0.0.2:6000 > 203.0.113.1:5000", "wan", "udp 203.0.113.1:6000 > 10.0.0.1:5000");
	/* another port of the same outside address */
	BECOMES(r, "lan", "udp 10.0.0.3:7000 > 203.0.113.1:6000", "wan",
		other_port ? "udp 203.0.113.1:7000 > 10.0.0.2:6000" : "nothing");
	/* a mapping that has spoken to nobody here */
	BECOMES(r, "lan", "udp 10.0.0.3:7001 > 203.0.113.1:6001", "wan", "nothing");
	end_world(r);
}

Test(nat44_kinds, hairpins_through_filters_by_address)
{
	hairpins("address-dependent", true);
}

Test(nat44_kinds, hairpins_through_filters_by_address_and_port)
{
	hairpins("address-and-port-dependent", false);
}

Test(nat44_kinds, paired_or_arbitrary_addresses)
{
	for (int paired = 0; paired < 2; paired++) {
		char yaml[1024], packet[80], seen[4] = { 0 };
		snprintf(yaml, sizeof(yaml),
			WORLD_HEAD "  nat: { type: nat44, inside: [ 10.0.0.0/8 ], outside: [ 203.0.113.0-203.0.113.3 "
				   "], pooling: %s }\n" WORLD_TAIL,
			paired ? "paired" : "arbitrary");
		struct rig *r = rig_create(yaml, NULL);
		for (unsigned i = 0; i < 64; i++) {
			unsigned last, port;
			snprintf(packet, sizeof(packet), "udp 10.0.0.1:%u > 192.0.2.9:53", 1000 + i);
			const char *got = passes(r, "lan", packet, "wan");
			cr_assert_eq(sscanf(got, "udp 203.0.113.%u:%u", &last, &port), 2, "%s", got);
			cr_assert_lt(last, 4);
			seen[last] = 1;
		}
		unsigned used = seen[0] + seen[1] + seen[2] + seen[3];
		cr_assert_eq(used, paired ? 1 : 4, "%u addresses of one host", used);
		end_world(r);
	}
}
