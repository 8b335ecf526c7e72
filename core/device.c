/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/device.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* Linux 5.14; Debian 12 headers may not have it */
#endif

static int ethtool(int fd, const char *name, void *cmd)
{
	struct ifreq ifr = { 0 };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	ifr.ifr_data = cmd;
	return ioctl(fd, SIOCETHTOOL, &ifr) < 0 ? -errno : 0; /* SFEATURES returns flags above 0 */
}

static int link_message(const struct nlmsghdr *nlh, void *data)
{
	struct mr_device *d = data;
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *a;

	d->ifindex = (uint32_t)ifi->ifi_index;
	d->ethernet = ifi->ifi_type == ARPHRD_ETHER;
	d->admin_up = ifi->ifi_flags & IFF_UP;
	d->running = (ifi->ifi_flags & IFF_UP) && (ifi->ifi_flags & IFF_LOWER_UP);
	mnl_attr_for_each(a, nlh, sizeof(*ifi))
	{
		switch (mnl_attr_get_type(a)) {
		case IFLA_IFNAME:
			snprintf(d->name, sizeof(d->name), "%s", mnl_attr_get_str(a));
			break;
		case IFLA_MTU:
			d->mtu = mnl_attr_get_u32(a);
			break;
		case IFLA_ADDRESS:
			if (mnl_attr_get_payload_len(a) == sizeof(d->mac))
				memcpy(d->mac, mnl_attr_get_payload(a), sizeof(d->mac));
			break;
		case IFLA_NUM_RX_QUEUES:
			d->rx_queue_cnt = (uint16_t)mnl_attr_get_u32(a);
			break;
		case IFLA_NUM_TX_QUEUES:
			d->tx_queue_cnt = (uint16_t)mnl_attr_get_u32(a);
			break;
		}
	}
	return MNL_CB_OK;
}

static int link_query(const char *name, struct mr_device *d)
{
	/* a link message with many virtual functions is larger than libmnl's usual buffer */
	const size_t buf_bytes = 64 << 10;
	char *buf = malloc(buf_bytes);
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	int err = !buf ? -ENOMEM : !nl ? -errno : 0;

	if (!err && mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0)
		err = -errno;
	if (!err) {
		struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
		nlh->nlmsg_type = RTM_GETLINK;
		nlh->nlmsg_flags = NLM_F_REQUEST;
		nlh->nlmsg_seq = (uint32_t)time(NULL);
		struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
		ifi->ifi_family = AF_UNSPEC;
		mnl_attr_put_u32(nlh, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
		mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
		uint32_t seq = nlh->nlmsg_seq;
		if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0) {
			err = -errno;
		} else {
			ssize_t n = mnl_socket_recvfrom(nl, buf, buf_bytes);
			if (n < 0 || mnl_cb_run(buf, (size_t)n, seq, mnl_socket_get_portid(nl), link_message, d) < 0)
				err = -errno;
		}
	}
	if (nl)
		mnl_socket_close(nl);
	free(buf);
	return err;
}

static int numa_node_of(const char *bus_info)
{
	char path[128];
	int node = -1;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/numa_node", bus_info);
	FILE *f = fopen(path, "re");
	if (!f)
		return -1;
	if (fscanf(f, "%d", &node) != 1)
		node = -1;
	fclose(f);
	return node;
}

/* ---- receive offloads, by their names: their numbers differ between kernels ------------------------------------------ */

static const struct {
	unsigned bit;
	const char *name, *what;
} offload[] = {
	{ MR_DEVICE_LRO, "rx-lro", "LRO" },
	{ MR_DEVICE_RX_VLAN, "rx-vlan-hw-parse", "rx-vlan offload" },
	{ MR_DEVICE_GRO_HW, "rx-gro-hw", "hardware GRO" },
};

#define RENAMES        4 /* times a device may get another name while it is being looked at */
#define OFFLOADS       (sizeof(offload) / sizeof(offload[0]))
#define FEATURES_MAX   256u
#define FEATURE_BLOCKS (FEATURES_MAX / 32)

struct features {
	uint32_t cnt;
	int index[OFFLOADS]; /* -1 = this kernel has none such */
};

/* How many features this kernel has, 0 = it does not tell. */
static uint32_t features_cnt(int fd, const char *name)
{
	struct ethtool_sset_info *set = calloc(1, sizeof(*set) + sizeof(set->data[0]));
	uint32_t cnt = 0;

	if (!set)
		return 0;
	set->cmd = ETHTOOL_GSSET_INFO;
	set->sset_mask = 1ULL << ETH_SS_FEATURES;
	if (!ethtool(fd, name, set) && set->sset_mask)
		cnt = set->data[0];
	free(set);
	return cnt;
}

static int features_names(int fd, const char *name, struct features *f)
{
	uint32_t cnt = features_cnt(fd, name);

	if (!cnt || cnt > FEATURES_MAX)
		return -EOPNOTSUPP;
	struct ethtool_gstrings *s = calloc(1, sizeof(*s) + (size_t)cnt * ETH_GSTRING_LEN);
	if (!s)
		return -ENOMEM;
	*s = (struct ethtool_gstrings){ .cmd = ETHTOOL_GSTRINGS, .string_set = ETH_SS_FEATURES, .len = cnt };
	int err = ethtool(fd, name, s);
	*f = (struct features){ .cnt = cnt };
	for (unsigned o = 0; o < OFFLOADS; o++) {
		f->index[o] = -1;
		for (uint32_t i = 0; !err && i < cnt; i++)
			if (!strncmp((const char *)s->data + (size_t)i * ETH_GSTRING_LEN, offload[o].name,
				    ETH_GSTRING_LEN))
				f->index[o] = (int)i;
	}
	free(s);
	return err;
}

static int features_get(int fd, const char *name, unsigned *bits)
{
	struct features f;
	unsigned on = 0;
	int err = features_names(fd, name, &f);

	if (err)
		return err;
	struct ethtool_gfeatures *g = calloc(1, sizeof(*g) + FEATURE_BLOCKS * sizeof(g->features[0]));
	if (!g)
		return -ENOMEM;
	g->cmd = ETHTOOL_GFEATURES;
	g->size = FEATURE_BLOCKS;
	err = ethtool(fd, name, g);
	for (unsigned o = 0; !err && o < OFFLOADS; o++)
		if (f.index[o] >= 0 && g->features[f.index[o] / 32].active >> (f.index[o] % 32) & 1)
			on |= offload[o].bit;
	free(g);
	if (!err)
		*bits = on;
	return err;
}

static int features_set(int fd, const char *name, unsigned bits, bool on)
{
	struct features f;
	int err = features_names(fd, name, &f);

	if (err)
		return err;
	struct ethtool_sfeatures *s = calloc(1, sizeof(*s) + FEATURE_BLOCKS * sizeof(s->features[0]));
	if (!s)
		return -ENOMEM;
	s->cmd = ETHTOOL_SFEATURES;
	s->size = (f.cnt + 31) / 32;
	for (unsigned o = 0; o < OFFLOADS; o++) {
		if (!(bits & offload[o].bit) || f.index[o] < 0)
			continue;
		s->features[f.index[o] / 32].valid |= 1u << (f.index[o] % 32);
		if (on)
			s->features[f.index[o] / 32].requested |= 1u << (f.index[o] % 32);
	}
	err = ethtool(fd, name, s);
	free(s);
	return err;
}

static void ethtool_query(int fd, struct mr_device *d)
{
	struct ethtool_drvinfo drv = { .cmd = ETHTOOL_GDRVINFO };
	struct ethtool_channels ch = { .cmd = ETHTOOL_GCHANNELS };

	if (!ethtool(fd, d->name, &drv)) {
		snprintf(d->driver, sizeof(d->driver), "%s", drv.driver);
		drv.bus_info[sizeof(drv.bus_info) - 1] = 0;
		if (drv.bus_info[0] && !strchr(drv.bus_info, '/'))
			d->numa_node = numa_node_of(drv.bus_info);
	}
	/* what is in use now, where the driver tells; else what was allocated at most */
	if (!ethtool(fd, d->name, &ch) && ch.rx_count + ch.combined_count > 0) {
		d->rx_queue_cnt = (uint16_t)(ch.rx_count + ch.combined_count);
		d->tx_queue_cnt = (uint16_t)(ch.tx_count + ch.combined_count);
		d->channels = (struct mr_device_channels){ ch.rx_count, ch.tx_count, ch.combined_count };
		d->channels_max = (struct mr_device_channels){ ch.max_rx, ch.max_tx, ch.max_combined };
	}
	(void)features_get(fd, d->name, &d->offloads);
}

int mr_device_query(const char *name, struct mr_device *out, struct mr_error *e)
{
	struct mr_device d = { .numa_node = -1, .driver = "unknown" };
	int fd, err;

	if (!name[0] || strlen(name) >= sizeof(d.name))
		return mr_error_set(e, -ENODEV, "there is no device %s", name);
	err = link_query(name, &d);
	if (err == -ENODEV)
		return mr_error_set(e, err, "there is no device %s", name);
	if (err)
		return mr_error_set(e, err, "the kernel does not tell about device %s: %s", name, strerror(-err));
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		err = -errno;
		return mr_error_set(e, err, "no socket to ask about device %s: %s", name, strerror(-err));
	}
	ethtool_query(fd, &d);
	close(fd);
	*out = d;
	return 0;
}

int mr_device_offload(const char *name, unsigned bits, bool on, struct mr_error *e)
{
	char names[64] = "";
	unsigned now = 0;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err = fd < 0 ? -errno : features_set(fd, name, bits, on);

	/* some drivers accept and ignore */
	if (!err)
		err = features_get(fd, name, &now);
	if (!err && (now & bits) != (on ? bits : 0))
		err = -EOPNOTSUPP;
	if (fd >= 0)
		close(fd);
	for (unsigned i = 0; i < OFFLOADS; i++) {
		size_t at = strlen(names);
		if (bits & offload[i].bit && (on || !now || now & offload[i].bit))
			snprintf(names + at, sizeof(names) - at, "%s%s", at ? " and " : "", offload[i].what);
	}
	if (err)
		mr_error_set(e, err, "%s: %s cannot be switched %s: %s", name, names[0] ? names : "receive offloads",
			on ? "on" : "off", strerror(-err));
	return err;
}

/* ---- channels ------------------------------------------------------------------------------------------------- */

int mr_device_channels_get(const char *name, struct mr_device_channels *now, struct mr_device_channels *max)
{
	struct ethtool_channels c = { .cmd = ETHTOOL_GCHANNELS };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err = fd < 0 ? -errno : ethtool(fd, name, &c);

	if (fd >= 0)
		close(fd);
	if (err)
		return err;
	*now = (struct mr_device_channels){ c.rx_count, c.tx_count, c.combined_count };
	*max = (struct mr_device_channels){ c.max_rx, c.max_tx, c.max_combined };
	return 0;
}

int mr_device_channels_for(const struct mr_device *d, unsigned cnt, struct mr_device_channels *out, struct mr_error *e)
{
	const struct mr_device_channels *m = &d->channels_max;
	unsigned most = m->combined ? m->combined : m->rx < m->tx ? m->rx : m->tx;

	if (!most)
		return mr_error_set(e, -EOPNOTSUPP,
			"%s (driver %s) has no channels that could be set: leave `channels` out", d->name, d->driver);
	if (cnt > most)
		return mr_error_set(e, -ERANGE, "%s can have at most %u channel%s, not %u", d->name, most,
			most == 1 ? "" : "s", cnt);
	/* sets of one direction next to combined ones would be queues more than were asked for */
	*out = m->combined ? (struct mr_device_channels){ .combined = cnt }
			   : (struct mr_device_channels){ .rx = cnt, .tx = cnt };
	return 0;
}

int mr_device_channels_set(const char *name, const struct mr_device_channels *want, struct mr_error *e)
{
	struct ethtool_channels c = { .cmd = ETHTOOL_GCHANNELS };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int err = fd < 0 ? -errno : ethtool(fd, name, &c);

	if (!err) {
		c.cmd = ETHTOOL_SCHANNELS;
		c.rx_count = want->rx;
		c.tx_count = want->tx;
		c.combined_count = want->combined;
		err = ethtool(fd, name, &c);
	}
	if (fd >= 0)
		close(fd);
	if (err)
		mr_error_set(e, err, "%s: its channels cannot be set to %u: %s%s", name,
			want->combined ? want->combined : want->rx, strerror(-err),
			err == -EINVAL ? " (sockets of others or an RSS table, `ethtool -x`, may use more of them)"
				       : "");
	return err;
}

/* ---- what changes ----------------------------------------------------------------------------------------------- */

/* By the name it had a moment ago: -ENODEV also when it was given another one meanwhile. */
static int state_by_name(int fd, struct ifreq *ifr, struct mr_device_state *s)
{
	memcpy(s->name, ifr->ifr_name, sizeof(s->name));
	if (ioctl(fd, SIOCGIFFLAGS, ifr))
		return -errno;
	s->admin_up = ifr->ifr_flags & IFF_UP;
	s->running = (ifr->ifr_flags & IFF_UP) && (ifr->ifr_flags & IFF_RUNNING);
	if (ioctl(fd, SIOCGIFMTU, ifr))
		return -errno;
	s->mtu = (uint32_t)ifr->ifr_mtu;
	if (ioctl(fd, SIOCGIFHWADDR, ifr))
		return -errno;
	memcpy(s->mac, ifr->ifr_hwaddr.sa_data, sizeof(s->mac));
	return 0;
}

int mr_device_state(int fd, uint32_t ifindex, struct mr_device_state *out)
{
	struct mr_device_state s;
	int err = -ENODEV;

	for (unsigned try = 0; try < RENAMES && (err == -ENODEV || err == -ENXIO); try++) {
		struct ifreq ifr = { .ifr_ifindex = (int)ifindex };
		if (ioctl(fd, SIOCGIFNAME, &ifr))
			return errno == ENXIO ? -ENODEV : -errno;
		err = state_by_name(fd, &ifr, &s);
	}
	if (err)
		return err == -ENXIO ? -ENODEV : err;
	*out = s;
	return 0;
}

uint64_t mr_device_space(void)
{
	uint64_t cookie = 0;
	socklen_t bytes = sizeof(cookie);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return 0;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &bytes))
		cookie = 0;
	close(fd);
	return cookie;
}
