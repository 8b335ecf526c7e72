/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * look.h - one packet at work: what it is, and what becomes of it when nobody translates it.
 *
 * Shared by decide.c (who is asked) and open.c (a new session).  Nobody else includes it.
 */
#ifndef MR_PIPELINES_NAT44_LOOK_H
#define MR_PIPELINES_NAT44_LOOK_H

#include "pipelines/nat44/nat44.h"

#include <netinet/in.h>

/* The tuple as it was when it came to the stage: deciding changes it. */
struct nat_look {
	struct nat *n;
	struct mr_packet *p;
	struct nat_private *mine;
	struct nat_turn turn;
	struct mr_tuple t;
	__be32 src_be, dst_be;
};

enum nat_kind {
	NAT_NOT_OURS,
	NAT_OUTWARD,
	NAT_TO_BOX, /* as NAT_OUTWARD, and it is the box that it is to: its stack gets nothing translated */
	NAT_INWARD,
	NAT_HAIRPIN,
	NAT_UNASKED /* to an inside address that no stage made it: the answers would leave untranslated */
};

static inline bool nat_look_is_request(const struct mr_tuple *t)
{
	uint8_t type = t->icmp_type;
	return t->has_icmp && (type == 8 || type == 13 || type == 15 || type == 17);
}

static inline bool nat_look_is_error(const struct mr_tuple *t)
{
	uint8_t type = t->icmp_type;
	return t->proto == IPPROTO_ICMP && t->has_icmp &&
		(type == 3 || type == 4 || type == 5 || type == 11 || type == 12);
}

/* The number of its protocol in the store; -1: it has no ports there. */
static inline int nat_look_proto(const struct mr_tuple *t)
{
	if (t->proto == IPPROTO_TCP)
		return NAT_TCP;
	if (t->proto == IPPROTO_UDP)
		return NAT_UDP;
	return t->proto == IPPROTO_ICMP ? NAT_ICMP : -1;
}

static inline bool nat_look_has_ports(const struct mr_tuple *t)
{
	return t->proto == IPPROTO_TCP || t->proto == IPPROTO_UDP;
}

static inline struct nat_flow nat_look_flow(const struct mr_tuple *t)
{
	return (struct nat_flow){ .zone = t->zone,
		.proto = (uint8_t)nat_look_proto(t),
		.inside_be = nat_address_at(t->src),
		.inside_port_be = t->sport_be,
		.remote_be = nat_address_at(t->dst),
		.remote_port_be = nat_look_has_ports(t) ? t->dport_be : 0 };
}

void nat_look_at(struct nat *n, unsigned worker, struct mr_packet *p, struct nat_look *l);
/* By its ends alone; dst_changed: a stage before this one made the destination what it is.  Never NAT_TO_BOX. */
enum nat_kind nat_look_kind_of(const struct nat *n, __be32 src_be, __be32 dst_be, bool dst_changed);
enum nat_kind nat_look_kind(const struct nat_look *l);

/* Gives back what was taken for it. */
void nat_look_give_up(struct nat_look *l);
void nat_look_drop(struct nat_look *l, enum nat_reason reason, const char *why);
void nat_look_drop_unasked(struct nat_look *l);
void nat_look_to_box(struct nat_look *l);
/* RFC 6888 REQ-11 B: its sender is told.  A sender outside is not: it would learn who is inside. */
void nat_look_refuse(struct nat_look *l, enum nat_outcome outcome, bool from_inside);
/* To an outside address, and nobody wants it. */
void nat_look_leave_over(struct nat_look *l, bool filtered);
void nat_look_mss(struct nat_look *l);

/* open.c: the first packet of a session, or what cannot be one. */
void nat_open(struct nat_look *l, enum nat_kind kind);

#endif
