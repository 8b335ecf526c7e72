/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * explain_frame.h - a packet written down in one line, and the frame it stands for.
 *
 *     "tcp 10.0.0.1:1234 > 10.0.0.2:80 flags syn vlan 7" ─parse─► struct mr_explain_packet ─build─► Ethernet frame
 *
 * The grammar (docs/control.md has examples; `to` may stand for `>`, which shells like to eat):
 *
 *     PROTO SOURCE > DESTINATION [OPTION VALUE]...
 *     ethertype N [vlan N] [length N]
 *
 *     PROTO        tcp udp sctp icmp icmp6 gre esp, or a number 0-255
 *     SOURCE ...   10.0.0.1  10.0.0.1:80  2001:db8::1  [2001:db8::1]:80   (tcp, udp and sctp want ports)
 *     OPTION       length BYTES   of the IP packet (of the frame for ethertype)
 *                  flags LIST     TCP flags: syn,ack ... or none; default syn
 *                  dscp N  ttl N  vlan N  type N  code N  id N
 *                  fragment first | later
 */
#ifndef MR_CORE_EXPLAIN_FRAME_H
#define MR_CORE_EXPLAIN_FRAME_H

#include "core/error.h"
#include "millrace/stage.h"
#include <stddef.h>
#include <stdint.h>

#define MR_EXPLAIN_LENGTH_MAX 9216                         /* bytes of an IP packet: jumbo frames */
#define MR_EXPLAIN_FRAME_MAX  (MR_EXPLAIN_LENGTH_MAX + 18) /* with Ethernet and a VLAN tag */
#define MR_EXPLAIN_TUPLE_MAX  512                          /* bytes of the line */

struct mr_explain_packet {
	uint8_t family; /* 4 or 6; 0: not IP */
	uint8_t proto;
	uint16_t ethertype;
	uint8_t src[16], dst[16]; /* network order; IPv4 in the first 4 bytes */
	uint16_t sport, dport;    /* host order */
	bool has_ports;
	uint32_t length_bytes; /* 0 = as short as the headers allow */
	uint8_t tcp_flags;
	uint8_t dscp;
	uint8_t ttl;
	uint8_t icmp_type, icmp_code;
	uint16_t icmp_id;
	uint8_t fragment; /* enum mr_fragment */
	int vlan;         /* -1 = untagged */
	uint8_t smac[6], dmac[6];
};

/* Reads the line.  -EINVAL with a sentence.  Addresses of the link (smac, dmac) get locally administered values.  Threads: any. */
int mr_explain_frame_parse(const char *text, struct mr_explain_packet *out, struct mr_error *e);

/* Writes the frame, checksums valid, padded with zeros to 60 bytes; returns its bytes, or -EMSGSIZE when frame_bytes is too small
 * (MR_EXPLAIN_FRAME_MAX always suffices) or -EINVAL when length_bytes is less than the headers need.  Threads: any. */
int mr_explain_frame_build(const struct mr_explain_packet *p, uint8_t *frame, size_t frame_bytes, struct mr_error *e);

#endif
