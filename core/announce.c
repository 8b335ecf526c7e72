/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/announce.h"

#include "core/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOOK_MS  1000
#define LOOPBACK 1 /* ifindex of lo, in every namespace */

enum state {
	STATE_WANTED, /* not there yet */
	STATE_OURS,   /* on `ifindex` */
	STATE_OTHERS, /* somebody else's: left alone */
};

struct announced {
	struct mr_prefix address;
	enum state state;
	uint32_t ifindex;
	uint64_t renewed_ms;
	int err; /* of the last try, as logged */
};

struct mr_announce {
	struct announced *item;
	uint32_t cnt;
	uint64_t looked_ms;
	bool unread; /* the addresses could not be read, which was logged */
	struct mnl_socket *nl;
};

static const char *text_of(const struct mr_prefix *p, char *text)
{
	return inet_ntop(p->family == 4 ? AF_INET : AF_INET6, p->addr, text, INET6_ADDRSTRLEN);
}

static const char *device_of(uint32_t ifindex, char *name)
{
	return if_indextoname(ifindex, name) ? name : "a device that is gone";
}

/* ---- asking the kernel ------------------------------------------------------------------------------------------- */

/* Sends and takes the acknowledgement: rtnetlink has it ready when sendto() returns. */
static int request(struct mr_announce *a, struct nlmsghdr *nlh)
{
	static unsigned seq;
	char buf[8192];
	if (!a->nl) {
		a->nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
		if (!a->nl)
			return -errno;
		if (mnl_socket_bind(a->nl, 0, MNL_SOCKET_AUTOPID) < 0) {
			int err = -errno;
			mnl_socket_close(a->nl);
			a->nl = NULL;
			return err;
		}
	}
	nlh->nlmsg_seq = ++seq;
	if (mnl_socket_sendto(a->nl, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	for (;;) {
		ssize_t n = mnl_socket_recvfrom(a->nl, buf, sizeof(buf));
		if (n < 0)
			return -errno;
		int more = mnl_cb_run(buf, (size_t)n, seq, mnl_socket_get_portid(a->nl), NULL, NULL);
		if (more <= 0)
			return more < 0 ? -errno : 0;
	}
}

static struct nlmsghdr *begin(char *buf, const struct announced *x, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	uint16_t len = x->address.family == 4 ? 4 : 16;
	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
	struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));
	ifa->ifa_family = len == 4 ? AF_INET : AF_INET6;
	ifa->ifa_prefixlen = (uint8_t)(len * 8);
	/* Not what the box takes for a source of its own packets where it has another one. */
	ifa->ifa_scope = len == 4 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	ifa->ifa_index = x->ifindex;
	mnl_attr_put(nlh, IFA_LOCAL, len, x->address.addr);
	mnl_attr_put(nlh, IFA_ADDRESS, len, x->address.addr);
	return nlh;
}

static int put(struct mr_announce *a, const struct announced *x)
{
	char buf[512];
	struct ifa_cacheinfo life = { .ifa_prefered = x->address.family == 4 ? MR_ANNOUNCE_VALID_S : 0,
		.ifa_valid = MR_ANNOUNCE_VALID_S };
	struct nlmsghdr *nlh = begin(buf, x, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
	mnl_attr_put(nlh, IFA_CACHEINFO, sizeof(life), &life);
	mnl_attr_put_u32(nlh, IFA_FLAGS, IFA_F_NOPREFIXROUTE | (x->address.family == 6 ? IFA_F_NODAD : 0));
	mnl_attr_put_u8(nlh, IFA_PROTO, MR_ADDRESS_PROTO);
	return request(a, nlh);
}

static int take_away(struct mr_announce *a, const struct announced *x)
{
	char buf[512];
	return request(a, begin(buf, x, RTM_DELADDR, 0));
}

/* Whoever had it before, or its old MAC address, hears of it (RFC 5227: an ARP announcement).  A device without ARP needs none. */
static void tell_network(const struct announced *x)
{
	struct ifreq ifr = { 0 };
	struct sockaddr_ll to = { .sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ARP),
		.sll_ifindex = (int)x->ifindex,
		.sll_halen = 6 };
	struct {
		struct arphdr head;
		uint8_t sha[6], spa[4], tha[6], tpa[4];
	} __attribute__((packed)) arp = { .head = { .ar_hrd = htons(ARPHRD_ETHER),
						  .ar_pro = htons(ETH_P_IP),
						  .ar_hln = 6,
						  .ar_pln = 4,
						  .ar_op = htons(ARPOP_REQUEST) } };
	if (x->address.family != 4 || x->ifindex == LOOPBACK || !if_indextoname(x->ifindex, ifr.ifr_name))
		return;
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (!ioctl(fd, SIOCGIFHWADDR, &ifr) && ifr.ifr_hwaddr.sa_family == ARPHRD_ETHER) {
		memcpy(arp.sha, ifr.ifr_hwaddr.sa_data, 6);
		memcpy(arp.spa, x->address.addr, 4);
		memcpy(arp.tpa, x->address.addr, 4);
		memset(to.sll_addr, 0xff, 6);
		/* A hint: when it is lost, neighbours ask again as their entries age. */
		(void)!sendto(fd, &arp, sizeof(arp), 0, (struct sockaddr *)&to, sizeof(to));
	}
	close(fd);
}

/* ---- one address ------------------------------------------------------------------------------------------------- */

static void failed(struct mr_runtime *rt, struct announced *x, int err, const char *what)
{
	char address[INET6_ADDRSTRLEN], device[IF_NAMESIZE];
	if (err != x->err && err)
		mr_runtime_log(rt, "announce: %s cannot be %s %s: %s; it is tried again", text_of(&x->address, address),
			what, device_of(x->ifindex, device), strerror(-err));
	x->err = err;
}

/* Takes it from where it is, if it is still ours there. */
static void remove_from(struct mr_runtime *rt, const struct mr_addresses *there, struct announced *x)
{
	if (x->state == STATE_OURS && mr_address_is_ours(mr_addresses_find(there, &x->address, x->ifindex))) {
		int err = take_away(rt->announce, x);
		failed(rt, x, err == -EADDRNOTAVAIL || err == -ENODEV ? 0 : err, "taken off");
	}
	x->state = STATE_WANTED;
}

static void add_to(struct mr_runtime *rt, struct announced *x, uint32_t ifindex, uint64_t now_ms)
{
	bool fresh = x->state != STATE_OURS;
	x->ifindex = ifindex;
	int err = put(rt->announce, x);
	failed(rt, x, err, "added to");
	x->state = err ? STATE_WANTED : STATE_OURS;
	x->renewed_ms = now_ms;
	if (!err && fresh)
		tell_network(x);
}

/* An address of somebody else: of whom it is said once. */
static void leave_alone(struct mr_runtime *rt, struct announced *x, const struct mr_address *m)
{
	char address[INET6_ADDRSTRLEN], device[IF_NAMESIZE];
	if (x->state != STATE_OTHERS)
		mr_runtime_log(rt, "announce: %s is an address of %s already, and is left as it is",
			text_of(&x->address, address), device_of(m->ifindex, device));
	x->state = STATE_OTHERS;
}

/* The kernel cannot be asked the way to an address of its own: one that is on a device by a route stays there as long as it can. */
static uint32_t device_for(const struct mr_addresses *there, const struct announced *x)
{
	uint32_t device = mr_addresses_device(there, &x->address);
	if (!device && x->state == STATE_OURS && mr_addresses_find(there, &x->address, x->ifindex))
		device = x->ifindex;
	return device ? device : LOOPBACK;
}

/* Brings it to what is wanted now; true when the kernel was asked for something. */
static bool look_at(struct mr_runtime *rt, const struct mr_addresses *there, struct announced *x, uint64_t now_ms)
{
	const struct mr_address *other = mr_addresses_other(there, &x->address);
	if (other) {
		leave_alone(rt, x, other);
		return false;
	}
	uint32_t device = device_for(there, x);
	if (x->state == STATE_OURS && x->ifindex != device)
		remove_from(rt, there, x);
	else if (x->state == STATE_OURS && !mr_addresses_find(there, &x->address, device))
		x->state = STATE_WANTED; /* somebody took it away, or the device was gone for a while */
	if (x->state == STATE_OURS && now_ms - x->renewed_ms < MR_ANNOUNCE_RENEW_S * 1000)
		return false;
	add_to(rt, x, device, now_ms);
	return true;
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

static struct mr_addresses *read_addresses(struct mr_runtime *rt)
{
	struct mr_addresses *there = NULL;
	struct mr_error e = { "" };
	int err = mr_addresses_read(&there, &e);
	if (err && !rt->announce->unread)
		mr_runtime_log(rt, "announce: %s; it is tried again", e.text);
	rt->announce->unread = err != 0;
	return there;
}

static void look(struct mr_runtime *rt)
{
	struct mr_announce *a = rt->announce;
	uint64_t now_ms = mr_runtime_now_ms();
	struct mr_addresses *there = read_addresses(rt);
	unsigned asked = 0;
	for (uint32_t i = 0; there && i < a->cnt && asked < MR_ANNOUNCE_ROUND_MAX; i++)
		asked += look_at(rt, there, &a->item[i], now_ms);
	mr_addresses_free(there);
	a->looked_ms = asked < MR_ANNOUNCE_ROUND_MAX ? now_ms : now_ms - LOOK_MS; /* or go on with the next tick */
}

static bool wants(const struct mr_plan *plan, const struct mr_prefix *address)
{
	for (uint32_t i = 0; plan && i < plan->announce.cnt; i++)
		if (plan->announce.items[i].family == address->family &&
			!memcmp(plan->announce.items[i].addr, address->addr, 16))
			return true;
	return false;
}

static bool has(const struct mr_announce *a, const struct mr_prefix *address)
{
	for (uint32_t i = 0; i < a->cnt; i++)
		if (a->item[i].address.family == address->family && !memcmp(a->item[i].address.addr, address->addr, 16))
			return true;
	return false;
}

/* Takes away what the plan does not want. */
static void leave(struct mr_runtime *rt, const struct mr_plan *plan)
{
	struct mr_announce *a = rt->announce;
	struct mr_addresses *there = a->cnt ? read_addresses(rt) : NULL;
	uint32_t kept = 0;
	for (uint32_t i = 0; i < a->cnt; i++) {
		if (wants(plan, &a->item[i].address))
			a->item[kept++] = a->item[i];
		else if (there)
			remove_from(rt, there, &a->item[i]);
	}
	a->cnt = kept;
	mr_addresses_free(there);
}

void mr_announce_follow(struct mr_runtime *rt, const struct mr_plan *plan)
{
	if (!rt->announce && !plan->announce.cnt)
		return;
	if (!rt->announce && !(rt->announce = calloc(1, sizeof(*rt->announce)))) {
		mr_runtime_log(rt, "announce: out of memory, no address is announced");
		return;
	}
	struct mr_announce *a = rt->announce;
	leave(rt, plan);
	struct announced *grown = realloc(a->item, (a->cnt + plan->announce.cnt + 1) * sizeof(*grown));
	if (!grown) {
		mr_runtime_log(rt, "announce: out of memory, new addresses are not announced");
		return;
	}
	a->item = grown;
	for (uint32_t i = 0; i < plan->announce.cnt; i++)
		if (!has(a, &plan->announce.items[i]))
			a->item[a->cnt++] = (struct announced){ .address = plan->announce.items[i] };
	if (a->cnt)
		look(rt);
}

void mr_announce_tick(struct mr_runtime *rt)
{
	if (rt->announce && rt->announce->cnt && mr_runtime_now_ms() - rt->announce->looked_ms >= LOOK_MS)
		look(rt);
}

void mr_announce_destroy(struct mr_runtime *rt)
{
	if (!rt->announce)
		return;
	leave(rt, NULL);
	if (rt->announce->nl)
		mnl_socket_close(rt->announce->nl);
	free(rt->announce->item);
	free(rt->announce);
	rt->announce = NULL;
}
