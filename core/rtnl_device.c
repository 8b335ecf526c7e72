/* SPDX-License-Identifier: BSD-2-Clause */
/* rtnl_device.c - rtnetlink messages about neighbours, addresses, links and policy rules. */
#include "core/rtnl_attribute.h"

#include <arpa/inet.h>
#include <linux/fib_rules.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <stdarg.h>
#include <stdio.h>

/* ---- neighbours, addresses ------------------------------------------------------------------------------------- */

enum mr_rtnl_kind mr_rtnl_device_neigh(struct mr_walk *w, struct mr_rtnl_neigh *n)
{
	struct ndmsg m;
	struct mr_attribute a;
	bool has_dst = false;

	memset(n, 0, sizeof(*n));
	if (!mr_attr_head(w, &m, sizeof(m)))
		return MR_RTNL_BROKEN;
	n->family = (uint8_t)mr_attr_family(m.ndm_family);
	if (!n->family)
		return MR_RTNL_OTHER; /* a bridge's forwarding database */
	n->ifindex = (uint32_t)m.ndm_ifindex;
	n->state = m.ndm_state;
	n->flags = m.ndm_flags;
	while (mr_attr_next(w, &a)) {
		if (a.type == NDA_DST) {
			mr_attr_take(w, &a, n->addr, mr_attr_address_bytes(n->family));
			has_dst = true;
		} else if (a.type == NDA_LLADDR && a.bytes == sizeof(n->mac)) {
			memcpy(n->mac, a.value, sizeof(n->mac));
			n->has_mac = true;
		} else if (a.type == NDA_FLAGS_EXT) {
			uint32_t more = 0;
			mr_attr_take(w, &a, &more, sizeof(more));
			n->managed = more & NTF_EXT_MANAGED;
		}
	}
	return w->broken || !has_dst ? MR_RTNL_BROKEN : MR_RTNL_NEIGH;
}

enum mr_rtnl_kind mr_rtnl_device_addr(struct mr_walk *w, struct mr_rtnl_addr *out)
{
	struct ifaddrmsg m;
	struct mr_attribute a;
	bool has_local = false, has_any = false;

	memset(out, 0, sizeof(*out));
	if (!mr_attr_head(w, &m, sizeof(m)))
		return MR_RTNL_BROKEN;
	out->family = (uint8_t)mr_attr_family(m.ifa_family);
	if (!out->family)
		return MR_RTNL_OTHER;
	out->ifindex = m.ifa_index;
	out->bits = m.ifa_prefixlen;
	out->scope = m.ifa_scope;
	out->flags = m.ifa_flags;
	while (mr_attr_next(w, &a)) {
		switch (a.type) {
		case IFA_LOCAL:
			mr_attr_take(w, &a, out->local, mr_attr_address_bytes(out->family));
			has_local = has_any = true;
			break;
		case IFA_ADDRESS: /* the other end of a point-to-point link, when there is IFA_LOCAL */
			if (!has_local)
				mr_attr_take(w, &a, out->local, mr_attr_address_bytes(out->family));
			has_any = true;
			break;
		case IFA_FLAGS:
			mr_attr_take(w, &a, &out->flags, sizeof(out->flags));
			break;
		default:
			break;
		}
	}
	return w->broken || !has_any || out->bits > 8 * mr_attr_address_bytes(out->family) ? MR_RTNL_BROKEN
											   : MR_RTNL_ADDR;
}

/* ---- links ------------------------------------------------------------------------------------------------------ */

static const struct {
	const char *kind;
	uint8_t device;
} kinds[] = {
	{ "vlan", MR_RTNL_DEVICE_VLAN },
	{ "vrf", MR_RTNL_DEVICE_VRF },
	{ "bridge", MR_RTNL_DEVICE_BRIDGE },
	{ "bond", MR_RTNL_DEVICE_BRIDGE },
	{ "team", MR_RTNL_DEVICE_BRIDGE },
	{ "macvlan", MR_RTNL_DEVICE_BRIDGE },
	{ "macvtap", MR_RTNL_DEVICE_BRIDGE },
	{ "ipvlan", MR_RTNL_DEVICE_BRIDGE },
	{ "ipvtap", MR_RTNL_DEVICE_BRIDGE },
	{ "macsec", MR_RTNL_DEVICE_BRIDGE },
	{ "openvswitch", MR_RTNL_DEVICE_BRIDGE },
	{ "batadv", MR_RTNL_DEVICE_BRIDGE },
	{ "hsr", MR_RTNL_DEVICE_BRIDGE },
	{ "ipip", MR_RTNL_DEVICE_TUNNEL },
	{ "gre", MR_RTNL_DEVICE_TUNNEL },
	{ "gretap", MR_RTNL_DEVICE_TUNNEL },
	{ "erspan", MR_RTNL_DEVICE_TUNNEL },
	{ "sit", MR_RTNL_DEVICE_TUNNEL },
	{ "ip6tnl", MR_RTNL_DEVICE_TUNNEL },
	{ "ip6gre", MR_RTNL_DEVICE_TUNNEL },
	{ "ip6gretap", MR_RTNL_DEVICE_TUNNEL },
	{ "ip6erspan", MR_RTNL_DEVICE_TUNNEL },
	{ "vti", MR_RTNL_DEVICE_TUNNEL },
	{ "vti6", MR_RTNL_DEVICE_TUNNEL },
	{ "xfrm", MR_RTNL_DEVICE_TUNNEL },
	{ "wireguard", MR_RTNL_DEVICE_TUNNEL },
	{ "vxlan", MR_RTNL_DEVICE_TUNNEL },
	{ "geneve", MR_RTNL_DEVICE_TUNNEL },
	{ "bareudp", MR_RTNL_DEVICE_TUNNEL },
	{ "gtp", MR_RTNL_DEVICE_TUNNEL },
	{ "ppp", MR_RTNL_DEVICE_TUNNEL },
	{ "tun", MR_RTNL_DEVICE_TUNNEL },
};

static uint8_t device_of(const char *kind, unsigned arp_type, unsigned flags)
{
	if (flags & IFF_LOOPBACK)
		return MR_RTNL_DEVICE_LOOPBACK;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (!strcmp(kind, kinds[i].kind))
			return kinds[i].device;
	}
	return arp_type == ARPHRD_ETHER ? MR_RTNL_DEVICE_PLAIN : MR_RTNL_DEVICE_TUNNEL;
}

static void read_vlan(struct mr_walk *w, struct mr_attribute *data, struct mr_rtnl_link *l)
{
	struct mr_walk in = mr_attr_inside(data);
	struct mr_attribute a;
	uint16_t protocol_be;

	while (mr_attr_next(&in, &a)) {
		if (a.type == IFLA_VLAN_ID) {
			mr_attr_take(&in, &a, &l->vlan, sizeof(l->vlan));
		} else if (a.type == IFLA_VLAN_PROTOCOL) {
			protocol_be = 0;
			mr_attr_take(&in, &a, &protocol_be, sizeof(protocol_be));
			l->unknown |= protocol_be != htons(ETH_P_8021Q);
		}
	}
	w->broken |= in.broken;
}

static void read_linkinfo(struct mr_walk *w, const struct mr_attribute *info, struct mr_rtnl_link *l)
{
	struct mr_walk in = mr_attr_inside(info);
	struct mr_attribute a, data = { 0 };
	struct mr_walk table;

	while (mr_attr_next(&in, &a)) {
		if (a.type == IFLA_INFO_KIND)
			mr_attr_take_name(&in, &a, l->kind, sizeof(l->kind));
		else if (a.type == IFLA_INFO_DATA)
			data = a;
	}
	w->broken |= in.broken;
	if (!data.value)
		return;
	if (!strcmp(l->kind, "vlan"))
		read_vlan(w, &data, l);
	table = mr_attr_inside(&data);
	while (!strcmp(l->kind, "vrf") && mr_attr_next(&table, &a)) {
		if (a.type == IFLA_VRF_TABLE)
			mr_attr_take(&table, &a, &l->table, sizeof(l->table));
	}
	w->broken |= table.broken;
}

enum mr_rtnl_kind mr_rtnl_device_link(struct mr_walk *w, struct mr_rtnl_link *l)
{
	struct ifinfomsg m;
	struct mr_attribute a;
	bool elsewhere = false;

	memset(l, 0, sizeof(*l));
	if (!mr_attr_head(w, &m, sizeof(m)))
		return MR_RTNL_BROKEN;
	if (m.ifi_family != AF_UNSPEC)
		return MR_RTNL_OTHER; /* a bridge about its ports, IPv6 about its own flags */
	l->ifindex = (uint32_t)m.ifi_index;
	l->admin_up = m.ifi_flags & IFF_UP;
	l->running = m.ifi_flags & (IFF_RUNNING | IFF_LOWER_UP);
	while (mr_attr_next(w, &a)) {
		switch (a.type) {
		case IFLA_IFNAME:
			mr_attr_take_name(w, &a, l->name, sizeof(l->name));
			break;
		case IFLA_MTU:
			mr_attr_take(w, &a, &l->mtu, sizeof(l->mtu));
			break;
		case IFLA_LINK:
			mr_attr_take(w, &a, &l->lower, sizeof(l->lower));
			break;
		case IFLA_LINK_NETNSID:
			elsewhere = true;
			break;
		case IFLA_MASTER:
			mr_attr_take(w, &a, &l->master, sizeof(l->master));
			break;
		case IFLA_ADDRESS:
			if (m.ifi_type == ARPHRD_ETHER && a.bytes == sizeof(l->mac)) {
				memcpy(l->mac, a.value, sizeof(l->mac));
				l->has_mac = true;
			}
			break;
		case IFLA_LINKINFO:
			read_linkinfo(w, &a, l);
			break;
		default:
			break;
		}
	}
	if (w->broken)
		return MR_RTNL_BROKEN;
	l->device = device_of(l->kind, m.ifi_type, m.ifi_flags);
	if (elsewhere) /* a number in another namespace */
		l->lower = 0;
	if (l->device == MR_RTNL_DEVICE_VLAN && (!l->vlan || l->vlan > 4094 || !l->lower))
		l->unknown = true;
	return MR_RTNL_LINK;
}

/* ---- rules ------------------------------------------------------------------------------------------------------- */

static void say(struct mr_rtnl_rule *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct mr_rtnl_rule *r, const char *fmt, ...)
{
	size_t n = strlen(r->words);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->words + n, sizeof(r->words) - n, fmt, ap);
	va_end(ap);
}

struct selector {
	uint8_t src[16], dst[16];
	char iif[16], oif[16];
	uint32_t mark, mask;
	uint8_t l3mdev;
	bool other; /* something more */
};

static void read_selector(struct mr_walk *w, const struct mr_attribute *a, struct mr_rtnl_rule *r, struct selector *s)
{
	switch (a->type) {
	case FRA_SRC:
		mr_attr_take(w, a, s->src, mr_attr_address_bytes(r->family));
		break;
	case FRA_DST:
		mr_attr_take(w, a, s->dst, mr_attr_address_bytes(r->family));
		break;
	case FRA_IIFNAME:
		mr_attr_take_name(w, a, s->iif, sizeof(s->iif));
		break;
	case FRA_OIFNAME:
		mr_attr_take_name(w, a, s->oif, sizeof(s->oif));
		break;
	case FRA_FWMARK:
		mr_attr_take(w, a, &s->mark, sizeof(s->mark));
		break;
	case FRA_FWMASK:
		mr_attr_take(w, a, &s->mask, sizeof(s->mask));
		break;
	case FRA_L3MDEV:
		mr_attr_take(w, a, &s->l3mdev, sizeof(s->l3mdev));
		break;
	default:
		s->other = true;
		break;
	}
}

static void say_rule(struct mr_rtnl_rule *r, const struct fib_rule_hdr *m, const struct selector *s)
{
	char text[INET6_ADDRSTRLEN];
	int af = r->family == 4 ? AF_INET : AF_INET6;

	say(r, "%u: %sfrom ", r->priority, m->flags & FIB_RULE_INVERT ? "not " : "");
	if (m->src_len)
		say(r, "%s/%u", inet_ntop(af, s->src, text, sizeof(text)), m->src_len);
	else
		say(r, "all");
	if (m->dst_len)
		say(r, " to %s/%u", inet_ntop(af, s->dst, text, sizeof(text)), m->dst_len);
	if (m->tos)
		say(r, " tos 0x%02x", m->tos);
	if (s->mark || s->mask)
		say(r, " fwmark 0x%x", s->mark);
	if (s->mask && s->mask != UINT32_MAX)
		say(r, "/0x%x", s->mask);
	if (s->iif[0])
		say(r, " iif %s", s->iif);
	if (s->oif[0])
		say(r, " oif %s", s->oif);
	if (s->other)
		say(r, " ...");
	if (s->l3mdev)
		say(r, " lookup [l3mdev-table]");
	else if (m->action == FR_ACT_TO_TBL)
		say(r, " lookup %u", r->table);
	else
		say(r, " action %u", m->action);
}

enum mr_rtnl_kind mr_rtnl_device_rule(struct mr_walk *w, struct mr_rtnl_rule *r)
{
	struct fib_rule_hdr m;
	struct mr_attribute a;
	struct selector s = { .other = false };
	uint32_t suppress;

	memset(r, 0, sizeof(*r));
	if (!mr_attr_head(w, &m, sizeof(m)))
		return MR_RTNL_BROKEN;
	r->family = (uint8_t)mr_attr_family(m.family);
	if (!r->family)
		return MR_RTNL_OTHER; /* rules of multicast routing */
	r->table = m.table;
	r->action = m.action;
	while (mr_attr_next(w, &a)) {
		switch (a.type) {
		case FRA_PRIORITY:
			mr_attr_take(w, &a, &r->priority, sizeof(r->priority));
			break;
		case FRA_TABLE:
			mr_attr_take(w, &a, &r->table, sizeof(r->table));
			break;
		case FRA_SUPPRESS_PREFIXLEN: /* -1: nothing is suppressed; it is always sent */
		case FRA_SUPPRESS_IFGROUP:
			suppress = UINT32_MAX;
			mr_attr_take(w, &a, &suppress, sizeof(suppress));
			s.other |= suppress != UINT32_MAX;
			break;
		case FRA_PROTOCOL:
		case FRA_PAD:
			break;
		default:
			read_selector(w, &a, r, &s);
			break;
		}
	}
	if (w->broken || m.src_len > 8 * mr_attr_address_bytes(r->family) ||
		m.dst_len > 8 * mr_attr_address_bytes(r->family))
		return MR_RTNL_BROKEN;
	bool all = !m.src_len && !m.dst_len && !m.tos && !(m.flags & FIB_RULE_INVERT) && !s.iif[0] && !s.oif[0] &&
		!s.mark && !s.mask && !s.other && m.action == FR_ACT_TO_TBL;
	r->plain = all && !s.l3mdev;
	r->l3mdev = all && s.l3mdev == 1;
	say_rule(r, &m, &s);
	return MR_RTNL_RULE;
}
