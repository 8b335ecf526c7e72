/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * related.h - ICMP errors belong to the session of the packet they quote, and are translated as that packet was.
 *
 *     we sent Q ──► somebody cannot take it ──► error E (outer header │ ICMP │ Q, cut) ──► here ──► whoever sent us the packet
 *
 * Q left as the reverse of one of the session's keys, U, and had come in as the other one, T (core/keys.h).  So the quoted packet becomes T
 * again, and E goes to T's source.  E travels as the packets of U do: where those have their source translated, E has it too, also when a
 * router on the way sent it (RFC 5508 REQ-4 and REQ-5; one inside has no address that the outside could see).
 *
 * What is quoted may be cut after the IP header and 8 bytes (RFC 792).  An error whose own checksum is wrong, or that of the IPv4 header it
 * quotes, belongs to nothing (REQ-3, REQ-3a); the quoted transport's checksum is adjusted (RFC 1624) as far as it was quoted, and stays wrong
 * where it was (REQ-3c).  Of fragments, the first says what it belongs to; the others do so only where there are no ports.
 */
#ifndef MR_CORE_RELATED_H
#define MR_CORE_RELATED_H

#include "core/session.h"

struct mr_packet;

struct mr_related {
	bool found;
	bool changes; /* something of E or of what it quotes is translated */
	bool source;  /* the source of E is */
	bool request; /* a quoted ICMP query: the identifier is the source end */
	uint8_t family, proto;
	uint32_t session;
	uint32_t ip_off, l4_off, end; /* of Q, in the frame */
	struct mr_flow_key quoted;    /* Q's key */
	struct mr_flow_key was;       /* T */
};

/*
 * Finds the session of the packet that E quotes.  False: E is no ICMP error, is a later fragment of one, quotes too little, has a wrong
 * checksum, quotes nothing of ours, or goes to somebody else than the sender of what it quotes.  Threads: those of the packet's pass.
 */
bool mr_related_find(const struct mr_packet *e, struct mr_related *out);
/* Translates the frame in place: what it quotes, and the outer header as e->tuple says; neither TTL.  e->related.changes. */
void mr_related_apply(const struct mr_packet *e);

#endif
