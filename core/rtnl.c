/* SPDX-License-Identifier: BSD-2-Clause */
/* rtnl.c - rtnetlink messages: their heads, routes and next hops; rtnl_device.c has the rest. */
#include "core/rtnl_attribute.h"

#include <errno.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>

static void mask_address(uint8_t *addr, unsigned family, unsigned bits)
{
	for (unsigned i = 0; i < mr_attr_address_bytes(family); i++) {
		unsigned keep = bits >= 8 * (i + 1) ? 8 : bits > 8 * i ? bits - 8 * i : 0;
		addr[i] &= (uint8_t)(0xff00u >> keep);
	}
}

/* ---- routes and next hops ------------------------------------------------------------------------------------ */

static void read_via(struct mr_walk *w, const struct mr_attribute *a, struct mr_rtnl_hop *h)
{
	uint16_t af;

	if (a->bytes < sizeof(af)) {
		w->broken = true;
		return;
	}
	memcpy(&af, a->value, sizeof(af));
	unsigned family = mr_attr_family(af);
	if (!family) {
		h->unknown = true;
		return;
	}
	if (a->bytes != sizeof(af) + mr_attr_address_bytes(family)) {
		w->broken = true;
		return;
	}
	h->family = (uint8_t)family;
	memcpy(h->gateway, a->value + sizeof(af), mr_attr_address_bytes(family));
}

/* What a route of one hop and a member of several share.  True: it was one of those. */
static bool read_hop_attribute(struct mr_walk *w, const struct mr_attribute *a, unsigned family, struct mr_rtnl_hop *h)
{
	uint16_t encap = 0;

	switch (a->type) {
	case RTA_GATEWAY:
		mr_attr_take(w, a, h->gateway, mr_attr_address_bytes(family));
		h->family = (uint8_t)family;
		return true;
	case RTA_VIA:
		read_via(w, a, h);
		return true;
	case RTA_ENCAP_TYPE:
		mr_attr_take(w, a, &encap, sizeof(encap));
		h->unknown |= encap != 0;
		return true;
	case RTA_ENCAP:
	case RTA_NEWDST:
		h->unknown = true;
		return true;
	default:
		return false;
	}
}

static void read_multipath(struct mr_walk *w, const struct mr_attribute *a, struct mr_rtnl_route *r)
{
	const uint8_t *at = a->value;
	size_t left = a->bytes;
	struct rtnexthop nh;

	r->hop_cnt = 0;
	while (left) {
		if (left < sizeof(nh)) {
			w->broken = true;
			return;
		}
		memcpy(&nh, at, sizeof(nh));
		if (nh.rtnh_len < sizeof(nh) || nh.rtnh_len > left) {
			w->broken = true;
			return;
		}
		struct mr_rtnl_hop h = {
			.ifindex = (uint32_t)nh.rtnh_ifindex, .weight = nh.rtnh_hops + 1u, .flags = nh.rtnh_flags
		};
		struct mr_walk in = { at + sizeof(nh), nh.rtnh_len - sizeof(nh), false };
		struct mr_attribute b;
		while (mr_attr_next(&in, &b))
			read_hop_attribute(&in, &b, r->family, &h);
		w->broken |= in.broken;
		if (r->hop_cnt < MR_RTNL_HOPS)
			r->hop[r->hop_cnt++] = h;
		else
			r->unknown = true; /* more than we keep */
		size_t step = RTNH_ALIGN((size_t)nh.rtnh_len);
		step = step < left ? step : left;
		at += step;
		left -= step;
	}
}

static void read_metrics(struct mr_walk *w, const struct mr_attribute *a, struct mr_rtnl_route *r)
{
	struct mr_walk in = mr_attr_inside(a);
	struct mr_attribute b;

	while (mr_attr_next(&in, &b)) {
		if (b.type == RTAX_MTU)
			mr_attr_take(&in, &b, &r->mtu, sizeof(r->mtu));
	}
	w->broken |= in.broken;
}

static enum mr_rtnl_kind read_route(struct mr_walk *w, struct mr_rtnl_route *r)
{
	struct rtmsg m;
	struct mr_attribute a;
	bool several = false, has_dst = false;

	/* The hops that are used are filled one by one. */
	memset(r, 0, offsetof(struct mr_rtnl_route, hop));
	r->cloned = r->unknown = false;
	r->source = 0;
	if (!mr_attr_head(w, &m, sizeof(m)))
		return MR_RTNL_BROKEN;
	r->family = (uint8_t)mr_attr_family(m.rtm_family);
	if (!r->family)
		return MR_RTNL_OTHER;
	r->bits = m.rtm_dst_len;
	r->tos = m.rtm_tos;
	r->type = m.rtm_type;
	r->protocol = m.rtm_protocol;
	r->table = m.rtm_table;
	r->cloned = m.rtm_flags & RTM_F_CLONED;
	r->source = m.rtm_src_len;
	if (r->bits > 8 * mr_attr_address_bytes(r->family))
		return MR_RTNL_BROKEN;
	struct mr_rtnl_hop one = { .weight = 1, .flags = (uint8_t)m.rtm_flags };
	while (mr_attr_next(w, &a)) {
		if (read_hop_attribute(w, &a, r->family, &one))
			continue;
		switch (a.type) {
		case RTA_DST:
			mr_attr_take(w, &a, r->dst, mr_attr_address_bytes(r->family));
			has_dst = true;
			break;
		case RTA_SRC:
			for (unsigned i = 0; i < a.bytes; i++) /* FNV-1a */
				r->source = (r->source ^ a.value[i]) * 0x01000193u;
			r->source |= 1;
			break;
		case RTA_OIF:
			mr_attr_take(w, &a, &one.ifindex, sizeof(one.ifindex));
			break;
		case RTA_PRIORITY:
			mr_attr_take(w, &a, &r->metric, sizeof(r->metric));
			break;
		case RTA_TABLE:
			mr_attr_take(w, &a, &r->table, sizeof(r->table));
			break;
		case RTA_NH_ID:
			mr_attr_take(w, &a, &r->nexthop_id, sizeof(r->nexthop_id));
			break;
		case RTA_METRICS:
			read_metrics(w, &a, r);
			break;
		case RTA_MULTIPATH:
			read_multipath(w, &a, r);
			several = true;
			break;
		default:
			break;
		}
	}
	if (w->broken || (r->bits && !has_dst))
		return MR_RTNL_BROKEN;
	mask_address(r->dst, r->family, r->bits);
	if (!several && (one.ifindex || one.family || one.unknown)) {
		r->hop[0] = one;
		r->hop_cnt = 1;
	}
	return MR_RTNL_ROUTE;
}

static void read_group(struct mr_walk *w, const struct mr_attribute *a, struct mr_rtnl_nexthop *n)
{
	if (a->bytes % 8 || !a->bytes) {
		w->broken = true;
		return;
	}
	n->group = true;
	/* struct nexthop_grp; its third member has been weight_high since Linux 6.12 and 0 before. */
	for (unsigned i = 0; i < a->bytes / 8u; i++) {
		const uint8_t *p = a->value + 8 * i;
		if (n->member_cnt == MR_RTNL_HOPS) {
			n->unknown = true;
			return;
		}
		memcpy(&n->member[n->member_cnt].id, p, 4);
		n->member[n->member_cnt++].weight = 1u + p[4] + ((uint32_t)p[5] << 8);
	}
}

static enum mr_rtnl_kind read_nexthop(struct mr_walk *w, struct mr_rtnl_nexthop *n)
{
	struct nhmsg m;
	struct mr_attribute a;
	uint16_t encap = 0;

	memset(n, 0, sizeof(*n));
	if (!mr_attr_head(w, &m, sizeof(m)))
		return MR_RTNL_BROKEN;
	unsigned family = mr_attr_family(m.nh_family);
	n->hop.weight = 1;
	n->hop.flags = (uint8_t)m.nh_flags;
	while (mr_attr_next(w, &a)) {
		switch (a.type) {
		case NHA_ID:
			mr_attr_take(w, &a, &n->id, sizeof(n->id));
			break;
		case NHA_GROUP:
			read_group(w, &a, n);
			break;
		case NHA_BLACKHOLE:
			n->blackhole = true;
			break;
		case NHA_OIF:
			mr_attr_take(w, &a, &n->hop.ifindex, sizeof(n->hop.ifindex));
			break;
		case NHA_GATEWAY:
			if (!family)
				return MR_RTNL_BROKEN;
			mr_attr_take(w, &a, n->hop.gateway, mr_attr_address_bytes(family));
			n->hop.family = (uint8_t)family;
			break;
		case NHA_ENCAP_TYPE:
			mr_attr_take(w, &a, &encap, sizeof(encap));
			n->hop.unknown |= encap != 0;
			break;
		case NHA_ENCAP:
			n->hop.unknown = true;
			break;
		case NHA_FDB:
			n->unknown = true;
			break;
		default:
			break;
		}
	}
	if (w->broken || !n->id)
		return MR_RTNL_BROKEN;
	n->unknown |= n->hop.unknown;
	return MR_RTNL_NEXTHOP;
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

/* DONE and ERROR begin with an errno; DONE may have none. */
static enum mr_rtnl_kind read_end(struct mr_walk *w, unsigned type, struct mr_rtnl *out)
{
	int32_t code = 0;

	if (type == NLMSG_OVERRUN) {
		out->error_code = -ENOBUFS;
		return MR_RTNL_ERROR;
	}
	if (w->left >= sizeof(code))
		memcpy(&code, w->at, sizeof(code));
	else if (type == NLMSG_ERROR)
		return MR_RTNL_BROKEN;
	out->error_code = code <= 0 ? code : -EPROTO;
	return type == NLMSG_DONE ? MR_RTNL_DONE : MR_RTNL_ERROR;
}

static enum mr_rtnl_kind read_message(struct mr_walk *w, unsigned type, struct mr_rtnl *out)
{
	switch (type) {
	case NLMSG_DONE:
	case NLMSG_ERROR:
	case NLMSG_OVERRUN:
		return read_end(w, type, out);
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		return read_route(w, &out->route);
	case RTM_NEWNEXTHOP:
	case RTM_DELNEXTHOP:
		return read_nexthop(w, &out->nexthop);
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH:
		return mr_rtnl_device_neigh(w, &out->neigh);
	case RTM_NEWADDR:
	case RTM_DELADDR:
		return mr_rtnl_device_addr(w, &out->addr);
	case RTM_NEWLINK:
	case RTM_DELLINK:
		return mr_rtnl_device_link(w, &out->link);
	case RTM_NEWRULE:
	case RTM_DELRULE:
		return mr_rtnl_device_rule(w, &out->rule);
	default:
		return MR_RTNL_OTHER;
	}
}

bool mr_rtnl_read(const void **data, size_t *bytes, struct mr_rtnl *out)
{
	struct nlmsghdr m;

	if (!*bytes)
		return false;
	out->kind = MR_RTNL_BROKEN;
	out->deleted = out->replace = out->append = out->multi = out->interrupted = false;
	out->seq = out->portid = 0;
	out->error_code = 0;
	if (*bytes >= sizeof(m)) {
		memcpy(&m, *data, sizeof(m));
		if (m.nlmsg_len >= sizeof(m) && m.nlmsg_len <= *bytes) {
			struct mr_walk w = { (const uint8_t *)*data + sizeof(m), m.nlmsg_len - sizeof(m), false };
			out->seq = m.nlmsg_seq;
			out->portid = m.nlmsg_pid;
			/* RTM_NEW*, RTM_DEL*, RTM_GET*, RTM_SET* take turns. */
			out->deleted = m.nlmsg_type >= RTM_BASE && (m.nlmsg_type & 3) == 1;
			out->multi = m.nlmsg_flags & NLM_F_MULTI;
			out->interrupted = m.nlmsg_flags & NLM_F_DUMP_INTR;
			out->replace = m.nlmsg_flags & NLM_F_REPLACE;
			out->append = m.nlmsg_flags & NLM_F_APPEND;
			out->kind = read_message(&w, m.nlmsg_type, out);
		}
	}
	if (out->kind == MR_RTNL_BROKEN) {
		*data = (const uint8_t *)*data + *bytes;
		*bytes = 0;
		return true;
	}
	size_t step = NLMSG_ALIGN((size_t)m.nlmsg_len);
	step = step < *bytes ? step : *bytes;
	*data = (const uint8_t *)*data + step;
	*bytes -= step;
	return true;
}
