/* SPDX-License-Identifier: BSD-2-Clause */
/* look.c - what a packet is, and what becomes of it when nobody translates it. */
#include "pipelines/nat44/look.h"

#include <arpa/inet.h>
#include <string.h>

#define ANSWER_AFTER_MS 6000 /* RFC 5382 REQ-4 */

void nat_look_at(struct nat *n, unsigned worker, struct mr_packet *p, struct nat_look *l)
{
	l->n = n;
	l->p = p;
	l->mine = NULL;
	l->turn = (struct nat_turn){ .policy = &n->policy,
		.worker = worker,
		.now_ms = (uint32_t)(mr_packet_time_ns(p) / 1000000),
		.trial = mr_packet_explaining(p) };
	l->t = *mr_packet_tuple(p);
	l->src_be = nat_address_at(l->t.src);
	l->dst_be = nat_address_at(l->t.dst);
}

/* ---- what a packet is --------------------------------------------------------------------------------------------- */

/* A group, all hosts of a link: the stack knows (DHCP, mDNS).  Anything else a default route may send out. */
static bool for_many(uint32_t address)
{
	return address >> 28 == 0xe || address == 0xffffffff;
}

enum nat_kind nat_look_kind_of(const struct nat *n, __be32 src_be, __be32 dst_be, bool dst_changed)
{
	uint32_t src = ntohl(src_be), dst = ntohl(dst_be);
	bool to_outside = nat_ranges_hold(&n->outsides, dst);
	if (!nat_ranges_hold(&n->inside, src))
		return to_outside ? NAT_INWARD
			: dst_changed || nat_ranges_hold(&n->exempt, src) || !nat_ranges_hold(&n->inside, dst)
			? NAT_NOT_OURS
			: NAT_UNASKED;
	if (for_many(dst) || nat_ranges_hold(&n->exempt, dst))
		return NAT_NOT_OURS;
	if (to_outside)
		return NAT_HAIRPIN;
	return nat_ranges_hold(&n->inside, dst) ? NAT_NOT_OURS : NAT_OUTWARD;
}

enum nat_kind nat_look_kind(const struct nat_look *l)
{
	enum nat_kind kind = nat_look_kind_of(l->n, l->src_be, l->dst_be, mr_packet_destination_changed(l->p));
	return kind == NAT_OUTWARD && mr_packet_to_box(l->p) ? NAT_TO_BOX : kind;
}

void nat_look_give_up(struct nat_look *l)
{
	if (!l->mine)
		return;
	nat_give_back(l->n, &l->turn, l->mine, true);
	memset(l->mine, 0, sizeof(*l->mine));
}

/* ---- refusals ------------------------------------------------------------------------------------------------------ */

void nat_look_drop(struct nat_look *l, enum nat_reason reason, const char *why)
{
	mr_packet_explain(l->p, "%s", why);
	mr_decide_drop(l->p, l->n->reason[reason]);
}

void nat_look_drop_unasked(struct nat_look *l)
{
	nat_look_drop(l, NAT_REASON_NOT_EXEMPT,
		"it is to an inside address as such, and its sender is neither inside nor exempt");
}

void nat_look_to_box(struct nat_look *l)
{
	mr_packet_explain(l->p, "it is for the box itself: left as it is, the kernel gets it");
	mr_decide_kernel(l->p);
	mr_decide_no_session(l->p);
}

void nat_look_refuse(struct nat_look *l, enum nat_outcome outcome, bool from_inside)
{
	static const struct {
		enum nat_reason reason;
		const char *why;
	} all[NAT_OUTCOME_CNT] = {
		[NAT_NO_PORTS] = { NAT_REASON_PORTS, "no outside port is free for it" },
		[NAT_NO_BLOCKS] = { NAT_REASON_BLOCKS, "its blocks of ports are used up, and no other block is free" },
		[NAT_BLOCK_LIMIT] = { NAT_REASON_BLOCK_LIMIT,
			"its blocks of ports are used up, and it may not have another" },
		[NAT_SESSION_LIMIT] = { NAT_REASON_SESSION_LIMIT, "the inside address has as many sessions as it may" },
		[NAT_MAPPING_LIMIT] = { NAT_REASON_MAPPING_LIMIT, "the inside address has as many mappings as it may" },
		[NAT_NO_MEMORY] = { NAT_REASON_MEMORY, "there is no room for another mapping or inside address" },
		[NAT_NO_ADDRESS] = { NAT_REASON_NO_ADDRESS, "there is no outside address for it" },
	};
	unsigned reason = l->n->reason[all[outcome].reason];
	nat_look_give_up(l);
	mr_packet_explain(l->p, "%s", all[outcome].why);
	if (from_inside)
		mr_decide_reject(l->p, reason, MR_REJECT_HOST_UNREACHABLE);
	else
		mr_decide_drop(l->p, reason);
}

/* A session of it would have the key of replies that a host inside may yet ask for: its filter, or its mapping, opens with what it sends. */
static bool may_be_mapped(const struct nat_look *l)
{
	uint16_t port = ntohs(l->t.dport_be);
	return nat_look_has_ports(&l->t) && nat_ranges_hold(&l->n->pool, ntohl(l->dst_be)) &&
		port >= l->n->policy.port_lo && port <= l->n->policy.port_hi;
}

void nat_look_leave_over(struct nat_look *l, bool filtered)
{
	struct nat *n = l->n;
	enum nat_reason reason = filtered ? NAT_REASON_FILTERED : NAT_REASON_UNWANTED;
	const char *why = filtered ? "the mapping it goes to lets nobody in it has not sent to"
				   : "no session, mapping or static rule wants it";
	nat_look_give_up(l);
	mr_decide_count(l->p, n->count_leftover);
	if (n->o->leftover == NAT_LEFTOVER_KERNEL) {
		mr_packet_explain(l->p, "%s: the kernel gets it", why);
		mr_decide_kernel(l->p);
		if (may_be_mapped(l))
			mr_decide_no_session(l->p);
		return;
	}
	if (n->o->unsolicited == NAT_UNSOLICITED_ANSWER && l->t.proto == IPPROTO_TCP &&
		!nat_ranges_hold(&n->inside, ntohl(l->src_be)) && (mr_packet_tcp_flags(l->p) & 0x12) == 0x02) {
		mr_packet_explain(l->p, "%s: port unreachable, unless it is wanted within 6 seconds", why);
		mr_decide_reject_later(l->p, n->reason[reason], MR_REJECT_PORT_UNREACHABLE, ANSWER_AFTER_MS);
		return;
	}
	nat_look_drop(l, reason, why);
}

void nat_look_mss(struct nat_look *l)
{
	if (l->n->o->mss_given && l->t.proto == IPPROTO_TCP)
		mr_decide_mss(l->p, (uint16_t)l->n->o->mss_bytes);
}
