/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/address.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define READ_BYTES 32768

struct mr_addresses {
	struct mnl_socket *nl;
	struct mr_address *item;
	uint32_t cnt, room;
};

/* ---- asking ------------------------------------------------------------------------------------------------------ */

/* Sends and hands every answer to fn, up to the end of a dump or an acknowledgement.  0, -errno (that of an error answered). */
static int ask(struct mnl_socket *nl, struct nlmsghdr *nlh, mnl_cb_t fn, void *ctx)
{
	char buf[READ_BYTES];
	static unsigned seq;
	nlh->nlmsg_seq = ++seq;
	if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	for (;;) {
		ssize_t n = mnl_socket_recvfrom(nl, buf, sizeof(buf));
		if (n < 0)
			return -errno;
		int more = mnl_cb_run(buf, (size_t)n, seq, mnl_socket_get_portid(nl), fn, ctx);
		if (more <= 0)
			return more < 0 ? -errno : 0;
	}
}

static void take_attribute(struct mr_address *m, const struct nlattr *a, bool *has_local)
{
	size_t len = m->family == 4 ? 4 : 16;
	uint16_t type = mnl_attr_get_type(a);
	if (type == IFA_FLAGS && mnl_attr_validate(a, MNL_TYPE_U32) >= 0)
		m->flags = mnl_attr_get_u32(a);
	if (type == IFA_PROTO && mnl_attr_get_payload_len(a) == 1)
		m->proto = mnl_attr_get_u8(a);
	if (mnl_attr_get_payload_len(a) != len || (type != IFA_LOCAL && (type != IFA_ADDRESS || *has_local)))
		return;
	memcpy(m->addr, mnl_attr_get_payload(a), len);
	*has_local |= type == IFA_LOCAL;
}

static int take_address(const struct nlmsghdr *nlh, void *ctx)
{
	struct mr_addresses *all = ctx;
	const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *a;
	bool has_local = false;
	if (nlh->nlmsg_type != RTM_NEWADDR || (ifa->ifa_family != AF_INET && ifa->ifa_family != AF_INET6))
		return MNL_CB_OK;
	if (all->cnt == all->room) {
		uint32_t room = all->room ? 2 * all->room : 64;
		void *grown = realloc(all->item, room * sizeof(*all->item));
		if (!grown) {
			errno = ENOMEM;
			return MNL_CB_ERROR;
		}
		all->item = grown;
		all->room = room;
	}
	struct mr_address *m = &all->item[all->cnt++];
	*m = (struct mr_address){ .ifindex = ifa->ifa_index,
		.flags = ifa->ifa_flags,
		.family = ifa->ifa_family == AF_INET ? 4 : 6,
		.bits = ifa->ifa_prefixlen };
	mnl_attr_for_each(a, nlh, sizeof(*ifa)) take_attribute(m, a, &has_local);
	return MNL_CB_OK;
}

int mr_addresses_read(struct mr_addresses **out, struct mr_error *e)
{
	char buf[256];
	struct mr_addresses *a = calloc(1, sizeof(*a));
	int err = a ? 0 : -ENOMEM;
	if (!err && !(a->nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC)))
		err = -errno;
	if (!err && mnl_socket_bind(a->nl, 0, MNL_SOCKET_AUTOPID) < 0)
		err = -errno;
	if (!err) {
		struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
		nlh->nlmsg_type = RTM_GETADDR;
		nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
		struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));
		ifa->ifa_family = AF_UNSPEC;
		err = ask(a->nl, nlh, take_address, a);
	}
	if (err) {
		mr_addresses_free(a);
		return mr_error_set(e, err, "the addresses of this box cannot be read: %s", strerror(-err));
	}
	*out = a;
	return 0;
}

void mr_addresses_free(struct mr_addresses *a)
{
	if (!a)
		return;
	if (a->nl)
		mnl_socket_close(a->nl);
	free(a->item);
	free(a);
}

/* ---- addresses --------------------------------------------------------------------------------------------------- */

const struct mr_address *mr_addresses_find(
	const struct mr_addresses *a, const struct mr_prefix *address, uint32_t ifindex)
{
	for (uint32_t i = 0; i < a->cnt; i++) {
		const struct mr_address *m = &a->item[i];
		if (m->family == address->family && (!ifindex || m->ifindex == ifindex) &&
			!memcmp(m->addr, address->addr, m->family == 4 ? 4 : 16))
			return m;
	}
	return NULL;
}

bool mr_address_is_ours(const struct mr_address *m)
{
	return m && m->proto == MR_ADDRESS_PROTO && !(m->flags & IFA_F_PERMANENT);
}

const struct mr_address *mr_addresses_other(const struct mr_addresses *a, const struct mr_prefix *address)
{
	for (uint32_t i = 0; i < a->cnt; i++) {
		const struct mr_address *m = &a->item[i];
		if (m->family == address->family && !mr_address_is_ours(m) &&
			!memcmp(m->addr, address->addr, m->family == 4 ? 4 : 16))
			return m;
	}
	return NULL;
}

static bool contains(const struct mr_address *net, const uint8_t *addr)
{
	unsigned bytes = net->bits / 8, bits = net->bits % 8;
	if (memcmp(net->addr, addr, bytes))
		return false;
	return !bits || !((net->addr[bytes] ^ addr[bytes]) >> (8 - bits));
}

struct way {
	uint32_t ifindex;
	uint8_t type;
	bool gateway;
};

static int take_way(const struct nlmsghdr *nlh, void *ctx)
{
	struct way *w = ctx;
	const struct rtmsg *rt = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *a;
	if (nlh->nlmsg_type != RTM_NEWROUTE)
		return MNL_CB_OK;
	w->type = rt->rtm_type;
	mnl_attr_for_each(a, nlh, sizeof(*rt))
	{
		uint16_t type = mnl_attr_get_type(a);
		if (type == RTA_OIF && mnl_attr_get_payload_len(a) == 4)
			w->ifindex = mnl_attr_get_u32(a);
		w->gateway |= type == RTA_GATEWAY || type == RTA_VIA || type == RTA_MULTIPATH;
	}
	return MNL_CB_OK;
}

/* As `ip route get`. */
static int way_to(const struct mr_addresses *a, const struct mr_prefix *address, struct way *w)
{
	char buf[256];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	memset(w, 0, sizeof(*w));
	nlh->nlmsg_type = RTM_GETROUTE;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	struct rtmsg *rt = mnl_nlmsg_put_extra_header(nlh, sizeof(*rt));
	rt->rtm_family = address->family == 4 ? AF_INET : AF_INET6;
	rt->rtm_dst_len = address->family == 4 ? 32 : 128;
	mnl_attr_put(nlh, RTA_DST, address->family == 4 ? 4 : 16, address->addr);
	return ask(a->nl, nlh, take_way, w);
}

uint32_t mr_addresses_device(const struct mr_addresses *a, const struct mr_prefix *address)
{
	const struct mr_address *best = NULL;
	struct way w;
	for (uint32_t i = 0; i < a->cnt; i++) {
		const struct mr_address *m = &a->item[i];
		if (m->family != address->family || m->bits >= (m->family == 4 ? 32 : 128) ||
			m->flags & IFA_F_NOPREFIXROUTE)
			continue;
		if (contains(m, address->addr) && (!best || m->bits > best->bits))
			best = m;
	}
	if (best)
		return best->ifindex;
	/* Or a route to the network that no address made. */
	if (way_to(a, address, &w) || w.type != RTN_UNICAST || w.gateway)
		return 0;
	return w.ifindex;
}

bool mr_addresses_local(const struct mr_addresses *a, const struct mr_prefix *address)
{
	struct way w;
	if (mr_addresses_find(a, address, 0))
		return mr_addresses_other(a, address);
	return !way_to(a, address, &w) && w.type == RTN_LOCAL;
}

/* ---- proxies ----------------------------------------------------------------------------------------------------- */

static bool is_on(const char *family, const char *device, const char *name)
{
	char path[128];
	int value = 0;
	snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", family, device, name);
	FILE *f = fopen(path, "re");
	if (!f)
		return false;
	if (fscanf(f, "%d", &value) != 1)
		value = 0;
	fclose(f);
	return value > 0;
}

struct proxies {
	const struct mr_prefix *address;
	uint32_t ifindex;
	bool found;
};

static int take_proxy(const struct nlmsghdr *nlh, void *ctx)
{
	struct proxies *p = ctx;
	const struct ndmsg *nd = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *a;
	size_t len = p->address->family == 4 ? 4 : 16;
	if (nlh->nlmsg_type != RTM_NEWNEIGH || !(nd->ndm_flags & NTF_PROXY) ||
		(nd->ndm_ifindex && p->ifindex && (uint32_t)nd->ndm_ifindex != p->ifindex))
		return MNL_CB_OK;
	mnl_attr_for_each(a, nlh, sizeof(*nd))
	{
		if (mnl_attr_get_type(a) == NDA_DST && mnl_attr_get_payload_len(a) == len &&
			!memcmp(mnl_attr_get_payload(a), p->address->addr, len))
			p->found = true;
	}
	return MNL_CB_OK;
}

bool mr_addresses_proxied(const struct mr_addresses *a, const struct mr_prefix *address, uint32_t ifindex)
{
	char buf[256], device[IF_NAMESIZE] = "";
	struct proxies p = { .address = address, .ifindex = ifindex };
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	nlh->nlmsg_type = RTM_GETNEIGH;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	struct ndmsg *nd = mnl_nlmsg_put_extra_header(nlh, sizeof(*nd));
	nd->ndm_family = address->family == 4 ? AF_INET : AF_INET6;
	nd->ndm_flags = NTF_PROXY;
	if (!ask(a->nl, nlh, take_proxy, &p) && p.found)
		return true;
	/* IPv6 has entries alone; of IPv4 the device answers for what it would send elsewhere, and not to where it was asked from. */
	if (address->family != 4 || !ifindex || !if_indextoname(ifindex, device))
		return false;
	struct way w;
	if (!is_on("ipv4", "all", "proxy_arp") && !is_on("ipv4", device, "proxy_arp"))
		return false;
	return !way_to(a, address, &w) && w.type == RTN_UNICAST && w.ifindex != ifindex;
}
