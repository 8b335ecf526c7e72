/* SPDX-License-Identifier: BSD-2-Clause */
/* nat_event.h - an event for tests of the log. */
#ifndef MR_TESTS_UNIT_NAT_EVENT_H
#define MR_TESTS_UNIT_NAT_EVENT_H

#include "pipelines/nat44/log.h"

#include <arpa/inet.h>

/* 2026-01-02T14:03:07.123Z */
#define A_TIME 1767362587123000000ull

static inline struct nat_event udp(uint64_t time_ns, unsigned n)
{
	return (struct nat_event){
		.time_ns = time_ns,
		.kind = NAT_EVENT_SESSION_ADD,
		.proto = IPPROTO_UDP,
		.inside_be = htonl(0x64400005),
		.inside_port_be = htons(5000),
		.outside_be = htonl(0xcb007140),
		.outside_port_be = htons((uint16_t)(n & 0xffff)),
		.remote_be = htonl(0xc6336407),
		.remote_port_be = htons(53),
		.zone = 1,
	};
}

#endif
