/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arrive.h - what nearly all frames are, read at once: IPv4 without options, TCP or UDP, not a fragment, no tag.
 *
 * Of such a frame mr_arrive4() says exactly what mr_parse() and mr_parse_key4() say, in one look, most of what they ask being known while
 * compiling.  Of any other, a malformed one too, it says nothing, and mr_parse() is to be asked.  kern/tier_fast.bpf.h does the same in XDP.
 */
#ifndef MR_CORE_ARRIVE_H
#define MR_CORE_ARRIVE_H

#include "kern/parse.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MR_ARRIVE_L4_OFF (MR_ETH_HLEN + 20)
#define MR_ARRIVE_MIN    (MR_ARRIVE_L4_OFF + 8) /* bytes of the shortest such frame */

_Static_assert(offsetof(struct mr_key4, dport_be) == offsetof(struct mr_key4, daddr_be) + 6,
	"the end of a key is what a header without options and its transport have next to each other");

/* Whether the transport header of l4_len bytes is as it should be. */
static inline bool mr_arrive_transport(const uint8_t *l4, uint32_t l4_len, uint8_t proto, uint8_t *tcp_flags)
{
	*tcp_flags = 0;
	if (proto == MR_IP_UDP) {
		uint32_t len = mr_be16(mr_load16(l4 + 4));
		return len >= 8 && len <= l4_len;
	}
	if (proto != MR_IP_TCP || l4_len < 20)
		return false;
	uint32_t hlen = (l4[12] >> 4) * 4u;
	*tcp_flags = l4[13];
	return hlen >= 20 && hlen <= l4_len;
}

/*
 * False: it is not of this kind, and *p and *key are to be ignored.  Reads data..data + len only.  zone: of a packet without a tag.
 */
static inline __attribute__((always_inline)) bool mr_arrive4(
	const uint8_t *data, uint32_t len, uint16_t zone, struct mr_parsed *p, struct mr_key4 *key)
{
	const uint8_t *ip = data + MR_ETH_HLEN;
	uint8_t tcp_flags;
	if (len < MR_ARRIVE_MIN)
		return false;
	uint16_t frag = mr_load16(ip + 6);
	uint32_t l3_len = mr_be16(mr_load16(ip + 2));
	if (mr_load16(data + 12) != mr_be16(MR_ETH_IP4) || ip[0] != 0x45 || frag & mr_be16(0x3fff) || l3_len < 28 ||
		MR_ETH_HLEN + l3_len > len || !mr_arrive_transport(ip + 20, l3_len - 20, ip[9], &tcp_flags))
		return false;
	*p = (struct mr_parsed){ .flags = MR_PKT_IP4 | MR_PKT_PROTO | MR_PKT_PORTS |
			(frag & mr_be16(0x4000) ? MR_PKT_DF : 0),
		.ethertype = MR_ETH_IP4,
		.proto = ip[9],
		.ttl = ip[8],
		.tos = ip[1],
		.l3_off = MR_ETH_HLEN,
		.l4_off = MR_ARRIVE_L4_OFF,
		.l3_len = (uint16_t)l3_len,
		.sport_be = mr_load16(ip + 20),
		.dport_be = mr_load16(ip + 22),
		.tcp_flags = tcp_flags,
		.frag_id_be = mr_load16(ip + 4) };
	uint64_t
		end; /* destination and ports in one, so that who reads both ports at once need not wait for two stores */
	memcpy(&end, ip + 16, sizeof(end));
	key->zone = zone;
	key->proto = ip[9];
	key->ingress = 0;
	key->saddr_be = mr_load32(ip + 12);
	memcpy((char *)key + offsetof(struct mr_key4, daddr_be), &end, sizeof(end));
	return true;
}

#endif
