/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/redirect.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/ethtool.h>
#include <linux/genetlink.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* include/uapi/linux/netdev.h, Linux 6.3, which older headers do not have. */
#define NETDEV_FAMILY_NAME        "netdev"
#define NETDEV_MCGRP_MGMT         "mgmt"
#define NETDEV_CMD_DEV_GET        1
#define NETDEV_A_DEV_IFINDEX      1
#define NETDEV_A_DEV_XDP_FEATURES 3
#define NETDEV_XDP_ACT_NDO_XMIT   4u

#define ANSWER_BYTES              (32 << 10)

struct mr_redirect {
	struct mnl_socket *ask;  /* NULL = the kernel does not tell */
	struct mnl_socket *hear; /* its announcements */
	struct mnl_socket *link; /* route netlink */
	uint16_t family;
	uint32_t group;
	uint32_t seq;
	char buf[ANSWER_BYTES] __attribute__((aligned(8)));
};

/*
 * By ethtool name: those that had .ndo_xdp_xmit in the sources of Linux 6.1 (drivers/net).  octeontx2 only in its physical function, cpsw
 * in both its drivers.  Most of them take frames only while the device has a program.
 */
static const char *const known[] = { "atlantic", "bnxt_en", "bonding", "cpsw", "cpsw-switch", "ena", "fsl-dpaa2-eth",
	"fsl_dpa", "fsl_dpaa2_eth", "fsl_enetc", "funeth", "hv_netvsc", "i40e", "ice", "igb", "igc", "ixgbe", "mana",
	"mlx5_core", "mtk_soc_eth", "mvneta", "mvpp2", "netsec", "qede", "rvu-nicpf", "sfc", "sfc_siena", "st_gmac",
	"st_mac100", "st_xgmac", "tun", "vif", "virtio_net" };

bool mr_redirect_driver(const char *driver)
{
	for (unsigned i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (!strcmp(driver, known[i]))
			return true;
	return false;
}

/* ---- asking ------------------------------------------------------------------------------------------------------ */

/* Sends a request and hands its one answer to fn; what is left of an answer that could not be read before is thrown away.  What the
 * kernel answered, or -errno. */
static int exchange(struct mr_redirect *r, struct mnl_socket *nl, struct nlmsghdr *nlh, mnl_cb_t fn, void *ctx)
{
	const struct nlmsghdr *answer = (const void *)r->buf;
	ssize_t n;
	nlh->nlmsg_flags |= NLM_F_REQUEST;
	nlh->nlmsg_seq = ++r->seq;
	if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	do
		n = mnl_socket_recvfrom(nl, r->buf, sizeof(r->buf));
	while (n >= (ssize_t)sizeof(*answer) && answer->nlmsg_seq != r->seq);
	if (n < 0 || mnl_cb_run(r->buf, (size_t)n, r->seq, mnl_socket_get_portid(nl), fn, ctx) < 0)
		return -errno;
	return 0;
}

static struct nlmsghdr *genl_request(void *buf, uint16_t type, uint8_t command)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	nlh->nlmsg_type = type;
	struct genlmsghdr *g = mnl_nlmsg_put_extra_header(nlh, sizeof(*g));
	g->cmd = command;
	g->version = 1;
	return nlh;
}

static void read_group(struct mr_redirect *r, const struct nlattr *group)
{
	const struct nlattr *a;
	const char *name = "";
	uint32_t id = 0;
	mnl_attr_for_each_nested(a, group)
	{
		if (mnl_attr_get_type(a) == CTRL_ATTR_MCAST_GRP_NAME && !mnl_attr_validate(a, MNL_TYPE_NUL_STRING))
			name = mnl_attr_get_str(a);
		else if (mnl_attr_get_type(a) == CTRL_ATTR_MCAST_GRP_ID && !mnl_attr_validate(a, MNL_TYPE_U32))
			id = mnl_attr_get_u32(a);
	}
	if (!strcmp(name, NETDEV_MCGRP_MGMT))
		r->group = id;
}

static int family_message(const struct nlmsghdr *nlh, void *data)
{
	struct mr_redirect *r = data;
	const struct nlattr *a, *group;
	mnl_attr_for_each(a, nlh, sizeof(struct genlmsghdr))
	{
		if (mnl_attr_get_type(a) == CTRL_ATTR_FAMILY_ID && !mnl_attr_validate(a, MNL_TYPE_U16))
			r->family = mnl_attr_get_u16(a);
		else if (mnl_attr_get_type(a) == CTRL_ATTR_MCAST_GROUPS)
			mnl_attr_for_each_nested(group, a) read_group(r, group);
	}
	return MNL_CB_OK;
}

static int features_message(const struct nlmsghdr *nlh, void *data)
{
	const struct nlattr *a;
	mnl_attr_for_each(a, nlh, sizeof(struct genlmsghdr))
	{
		if (mnl_attr_get_type(a) == NETDEV_A_DEV_XDP_FEATURES && !mnl_attr_validate(a, MNL_TYPE_U64))
			*(uint64_t *)data = mnl_attr_get_u64(a);
	}
	return MNL_CB_OK;
}

static int ask_features(struct mr_redirect *r, uint32_t ifindex, uint64_t *features)
{
	char buf[128];
	struct nlmsghdr *nlh = genl_request(buf, r->family, NETDEV_CMD_DEV_GET);
	mnl_attr_put_u32(nlh, NETDEV_A_DEV_IFINDEX, ifindex);
	*features = 0;
	return exchange(r, r->ask, nlh, features_message, features);
}

/* ---- route netlink: a device, and the peer of a veth --------------------------------------------------------------- */

struct seen {
	char name[IFNAMSIZ];
	unsigned flags;    /* IFF_* */
	uint32_t peer;     /* IFLA_LINK */
	int32_t peer_nsid; /* -1 = in the same namespace */
	bool native;       /* has an XDP program that is not generic */
};

static bool native_program(const struct nlattr *xdp)
{
	const struct nlattr *a;
	bool native = false;
	mnl_attr_for_each_nested(a, xdp)
	{
		unsigned type = mnl_attr_get_type(a);
		if (type == IFLA_XDP_DRV_PROG_ID || type == IFLA_XDP_HW_PROG_ID)
			native = true;
		if (type == IFLA_XDP_ATTACHED && !mnl_attr_validate(a, MNL_TYPE_U8))
			native |= mnl_attr_get_u8(a) == XDP_ATTACHED_DRV || mnl_attr_get_u8(a) == XDP_ATTACHED_HW;
	}
	return native;
}

static int link_message(const struct nlmsghdr *nlh, void *data)
{
	struct seen *s = data;
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *a;
	s->flags = ifi->ifi_flags;
	mnl_attr_for_each(a, nlh, sizeof(*ifi))
	{
		switch (mnl_attr_get_type(a)) {
		case IFLA_IFNAME:
			if (!mnl_attr_validate(a, MNL_TYPE_NUL_STRING))
				snprintf(s->name, sizeof(s->name), "%s", mnl_attr_get_str(a));
			break;
		case IFLA_LINK:
			if (!mnl_attr_validate(a, MNL_TYPE_U32))
				s->peer = mnl_attr_get_u32(a);
			break;
		case IFLA_LINK_NETNSID:
			if (!mnl_attr_validate(a, MNL_TYPE_U32))
				s->peer_nsid = (int32_t)mnl_attr_get_u32(a);
			break;
		case IFLA_XDP:
			s->native = native_program(a);
			break;
		}
	}
	return MNL_CB_OK;
}

/* nsid -1: of our own namespace. */
static int look(struct mr_redirect *r, uint32_t ifindex, int32_t nsid, struct seen *s)
{
	char buf[256];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	nlh->nlmsg_type = RTM_GETLINK;
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
	ifi->ifi_family = AF_UNSPEC;
	ifi->ifi_index = (int)ifindex;
	if (nsid >= 0)
		mnl_attr_put_u32(nlh, IFLA_TARGET_NETNSID, (uint32_t)nsid);
	*s = (struct seen){ .peer_nsid = -1 };
	return exchange(r, r->link, nlh, link_message, s);
}

/* Whether GRO is on; only of a device of our own namespace. */
static bool gro_on(const char *device)
{
	struct ethtool_value v = { .cmd = ETHTOOL_GGRO };
	struct ifreq ifr = { .ifr_data = (void *)&v };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", device);
	bool on = !ioctl(fd, SIOCETHTOOL, &ifr) && v.data;
	close(fd);
	return on;
}

/* ---- answers ------------------------------------------------------------------------------------------------------- */

/* `told`: what the kernel says of its features; NULL: nothing. */
static bool veth_target(struct mr_redirect *r, const struct seen *s, const uint64_t *told, char *why, size_t why_bytes)
{
	struct seen peer;
	const bool far = s->peer_nsid >= 0;
	const bool seen = !look(r, s->peer, s->peer_nsid, &peer);
	const char *name = seen ? peer.name : "PEER";
	bool willing = seen && (peer.native || (!far && gro_on(peer.name))); /* as far as we can see */
	/* What the kernel tells outlives a GRO switched off while the peer was down: where that can be seen, it is looked at. */
	bool takes = told ? (*told & NETDEV_XDP_ACT_NDO_XMIT) && (willing || far) : willing;

	/* Its carrier is that both ends are up.  The kernel says it takes frames, and loses them all, while the peer is down. */
	if (!(s->flags & IFF_RUNNING))
		snprintf(why, why_bytes, "it or its peer%s%s is down", seen ? " " : "", seen ? peer.name : "");
	else if (takes)
		return true;
	else if (!told && far)
		snprintf(why, why_bytes,
			"its peer%s%s has no XDP program, and whether it has GRO switched on Linux before 6.3 does not "
			"tell to another "
			"namespace (an XDP program on the peer that passes everything will do)",
			seen ? " " : "", seen ? peer.name : "");
	else /* a GRO switched on while the device was down shows as on and does nothing: hence off first */
		snprintf(why, why_bytes,
			"its peer%s%s has neither an XDP program nor GRO switched on (%swith the device up: ethtool -K "
			"%s gro off; "
			"ethtool -K %s gro on)",
			seen ? " " : "", seen ? peer.name : "", far ? "in its namespace, " : "", name, name);
	return false;
}

bool mr_redirect_target(
	struct mr_redirect *r, uint32_t ifindex, const char *device, const char *driver, char *why, size_t why_bytes)
{
	struct seen s;
	uint64_t features = 0;
	int err = look(r, ifindex, -1, &s);

	if (!err && r->ask)
		err = ask_features(r, ifindex, &features);
	if (err) {
		snprintf(why, why_bytes, "the kernel does not tell whether %s takes redirected frames: %s", device,
			strerror(-err));
		return false;
	}
	if (!strcmp(driver, "veth"))
		return veth_target(r, &s, r->ask ? &features : NULL, why, why_bytes);
	if (r->ask ? features & NETDEV_XDP_ACT_NDO_XMIT
		   : mr_redirect_driver(driver) && (s.native || !strcmp(driver, "tun")))
		return true;
	if (!mr_redirect_driver(driver))
		snprintf(why, why_bytes, "driver %s sends no frames that XDP redirects%s", driver,
			r->ask ? "" : ", as far as known (Linux before 6.3 does not tell)");
	else if (!s.native)
		snprintf(why, why_bytes,
			"driver %s takes redirected frames only while an XDP program is on the device in native mode",
			driver);
	else
		snprintf(why, why_bytes, "driver %s does not take redirected frames as the device is set up now",
			driver);
	return false;
}

/* ---- opening, hearing ------------------------------------------------------------------------------------------------ */

static struct mnl_socket *open_socket(int bus)
{
	struct mnl_socket *nl = mnl_socket_open2(bus, SOCK_CLOEXEC);
	if (nl && mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0) {
		int err = errno;
		mnl_socket_close(nl);
		errno = err;
		return NULL;
	}
	return nl;
}

static int find_family(struct mr_redirect *r)
{
	char buf[128];
	struct nlmsghdr *nlh = genl_request(buf, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
	mnl_attr_put_strz(nlh, CTRL_ATTR_FAMILY_NAME, NETDEV_FAMILY_NAME);
	return exchange(r, r->ask, nlh, family_message, r);
}

int mr_redirect_open(struct mr_redirect **out, struct mr_error *e)
{
	struct mr_redirect *r = calloc(1, sizeof(*r));
	int err = -ENOMEM;
	if (!r)
		goto failed;
	r->link = open_socket(NETLINK_ROUTE);
	r->ask = r->link ? open_socket(NETLINK_GENERIC) : NULL;
	if (!r->ask) {
		err = -errno;
		goto failed;
	}
	err = find_family(r);
	if (err == -ENOENT) {
		mr_redirect_untold(r);
		*out = r;
		return 0;
	}
	if (err)
		goto failed;
	r->hear = open_socket(NETLINK_GENERIC);
	int group = (int)r->group;
	if (!r->hear || mnl_socket_setsockopt(r->hear, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0) {
		err = -errno;
		goto failed;
	}
	*out = r;
	return 0;
failed:
	mr_redirect_close(r);
	return mr_error_set(e, err, "cannot ask the kernel which devices take redirected frames: %s", strerror(-err));
}

void mr_redirect_untold(struct mr_redirect *r)
{
	if (r->ask)
		mnl_socket_close(r->ask);
	if (r->hear)
		mnl_socket_close(r->hear);
	r->ask = r->hear = NULL;
}

void mr_redirect_close(struct mr_redirect *r)
{
	if (!r)
		return;
	mr_redirect_untold(r);
	if (r->link)
		mnl_socket_close(r->link);
	free(r);
}

int mr_redirect_fd(const struct mr_redirect *r)
{
	return r->hear ? mnl_socket_get_fd(r->hear) : -1;
}

bool mr_redirect_service(struct mr_redirect *r)
{
	bool heard = false;
	if (!r->hear)
		return false;
	for (;;) {
		ssize_t n = recv(mnl_socket_get_fd(r->hear), r->buf, sizeof(r->buf), MSG_DONTWAIT);
		if (n >= 0 || errno == ENOBUFS) /* some were lost: ask */
			heard = true;
		else if (errno != EINTR)
			return heard;
	}
}
