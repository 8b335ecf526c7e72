/* SPDX-License-Identifier: BSD-2-Clause */
/* What is said about a device's indirection table.  The table of a real driver is read in tests/vm. */
#include "core/spread.h"

#include <criterion/criterion.h>
#include <string.h>

static struct mr_spread table(unsigned a, unsigned b, unsigned c, unsigned d)
{
	return (struct mr_spread){ .entry_cnt = a + b + c + d, .weight = { a, b, c, d } };
}

static const uint16_t queues[] = { 0, 1, 2, 3 };

Test(spread, descriptions)
{
	struct mr_spread s = { 0 };
	char text[256];
	mr_spread_describe(&s, text, sizeof(text));
	cr_expect_str_eq(text, "the driver tells none");
	s = table(32, 32, 32, 32);
	mr_spread_describe(&s, text, sizeof(text));
	cr_expect_str_eq(text, "128 entries: queues 0-3 with 32 each");
	s = table(96, 0, 32, 0);
	s.fields[MR_SPREAD_TCP4] = MR_SPREAD_ADDRESSES | MR_SPREAD_PORTS;
	s.fields[MR_SPREAD_UDP4] = MR_SPREAD_ADDRESSES;
	mr_spread_describe(&s, text, sizeof(text));
	cr_expect_str_eq(text,
		"128 entries: queue 0 with 96, queue 2 with 32; hashed: tcp4 by addresses and ports, udp4 by "
		"addresses");
	mr_spread_describe(&s, text, 20);
	cr_expect_eq(strlen(text), 19);
}

Test(spread, warnings)
{
	struct mr_spread s = { 0 };
	char text[256];
	mr_spread_warn(&s, queues, 4, 4, false, text, sizeof(text));
	cr_expect_str_eq(text, "");
	mr_spread_warn(&s, queues, 4, 4, true, text, sizeof(text));
	cr_expect(strstr(text, "all come by queue 0"));
	mr_spread_warn(&s, queues, 1, 4, true, text, sizeof(text));
	cr_expect_str_eq(text, "");
	s = table(32, 32, 32, 32);
	mr_spread_warn(&s, queues, 4, 4, false, text, sizeof(text));
	cr_expect_str_eq(text, "");
	mr_spread_warn(&s, queues, 2, 4, false, text, sizeof(text));
	cr_expect_str_eq(
		text, "the device spreads packets (RSS) to queues without a socket: 2-3 (`ethtool -X` sets that)");
	s = table(64, 0, 64, 0);
	mr_spread_warn(&s, queues, 4, 4, false, text, sizeof(text));
	cr_expect_str_eq(
		text, "the device spreads no packets (RSS) to queues with a socket: 1, 3 (`ethtool -X` sets that)");
	mr_spread_warn(&s, queues + 1, 3, 4, false, text, sizeof(text));
	cr_expect_str_eq(text,
		"the device spreads packets (RSS) to queues without a socket: 0; the device spreads no packets (RSS) "
		"to queues "
		"with a socket: 1, 3 (`ethtool -X` sets that)");
}
