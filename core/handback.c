/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/handback.h"

#include "handback.skel.h"
#include "kern/abi.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define ETHERNET_BYTES 14u
#define TAGS_BYTES     8u     /* two VLAN tags on top of the MTU */
#define MTU_MAX        65521u /* of a TAP */

struct mr_handback {
	int tap_fd;
	char name[IFNAMSIZ];
	uint32_t ifindex; /* of the TAP */
	struct handback_bpf *skel;
	bool generic;
	struct mr_shim shim; /* the MACs are each frame's */
};

enum link_step { LINK_MTU, LINK_NO_IPV6_ADDRESS, LINK_UP };

static int link_set(uint32_t ifindex, enum link_step step, uint32_t mtu)
{
	char buf[512];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	struct ifinfomsg *ifi;
	struct nlattr *spec, *inet6;
	ssize_t n;
	int err = 0;

	if (!nl)
		return -errno;
	nlh->nlmsg_type = RTM_NEWLINK;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	nlh->nlmsg_seq = 1;
	ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
	ifi->ifi_family = AF_UNSPEC;
	ifi->ifi_index = (int)ifindex;
	switch (step) {
	case LINK_MTU:
		mnl_attr_put_u32(nlh, IFLA_MTU, mtu);
		break;
	case LINK_NO_IPV6_ADDRESS:
		spec = mnl_attr_nest_start(nlh, IFLA_AF_SPEC);
		inet6 = mnl_attr_nest_start(nlh, AF_INET6);
		mnl_attr_put_u8(nlh, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
		mnl_attr_nest_end(nlh, inet6);
		mnl_attr_nest_end(nlh, spec);
		break;
	case LINK_UP:
		ifi->ifi_flags = ifi->ifi_change = IFF_UP;
		break;
	}
	if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 || mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0 ||
		(n = mnl_socket_recvfrom(nl, buf, sizeof(buf))) < 0 ||
		mnl_cb_run(buf, (size_t)n, 1, mnl_socket_get_portid(nl), NULL, NULL) < 0)
		err = -errno;
	mnl_socket_close(nl);
	return err;
}

/* The TAP must say nothing of its own: no IPv6 address, so no neighbour discovery, no router solicitation.  One message each: told both at
 * once, the kernel brings it up first and gives it an address. */
static int tap_silence_and_up(const struct mr_handback *h, uint32_t mtu)
{
	int err = link_set(h->ifindex, LINK_MTU, mtu);

	if (!err)
		err = link_set(h->ifindex, LINK_NO_IPV6_ADDRESS, 0);
	/* without IPv6 there is nothing to silence */
	if (!err || err == -EAFNOSUPPORT)
		err = link_set(h->ifindex, LINK_UP, 0);
	return err;
}

static int tap_open(struct mr_handback *h, uint32_t mtu, struct mr_error *e)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int err, fd;

	h->tap_fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (h->tap_fd < 0) {
		err = -errno;
		return mr_error_set(e, err,
			"/dev/net/tun, which handing packets back to the kernel needs, cannot be opened: %s",
			strerror(-err));
	}
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "mrt%%d");
	if (ioctl(h->tap_fd, TUNSETIFF, &ifr)) {
		err = -errno;
		return mr_error_set(e, err, "no TAP device for handing packets back: %s", strerror(-err));
	}
	memcpy(h->name, ifr.ifr_name, sizeof(h->name));
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	err = fd < 0 || ioctl(fd, SIOCGIFINDEX, &ifr) ? -errno : 0;
	if (fd >= 0)
		close(fd);
	if (!err) {
		h->ifindex = (uint32_t)ifr.ifr_ifindex;
		err = tap_silence_and_up(h, mtu);
	}
	if (err)
		mr_error_set(e, err, "%s cannot be set up: %s", h->name, strerror(-err));
	return err;
}

static int program_attach(struct mr_handback *h, uint32_t target_ifindex, struct mr_error *e)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)h->ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, tc, .handle = 1, .priority = 1);
	int err;

	h->skel = handback_bpf__open();
	if (!h->skel) {
		err = -errno;
		return mr_error_set(e, err, "the hand-back program cannot be opened: %s", strerror(-err));
	}
	h->skel->rodata->handback_ifindex = target_ifindex;
	err = handback_bpf__load(h->skel);
	if (err)
		return mr_error_set(e, err, "the hand-back program cannot be loaded: %s", strerror(-err));
	/* the TAP is ours alone, and its clsact goes with it */
	err = bpf_tc_hook_create(&hook);
	if (!err) {
		tc.prog_fd = bpf_program__fd(h->skel->progs.handback);
		err = bpf_tc_attach(&hook, &tc);
	}
	if (err)
		mr_error_set(e, err, "the hand-back program cannot be attached to %s: %s", h->name, strerror(-err));
	return err;
}

int mr_handback_open(const struct mr_handback_options *opt, struct mr_handback **out, struct mr_error *e)
{
	struct mr_handback *h = calloc(1, sizeof(*h));
	/* the shim and the tags come on top of what the device takes */
	uint32_t mtu = opt->mtu + TAGS_BYTES + (uint32_t)sizeof(h->shim);
	int err;

	if (!h)
		return mr_error_set(e, -ENOMEM, "no memory for handing packets back");
	h->tap_fd = -1;
	h->generic = opt->generic;
	h->shim.ethertype_be = htons(MR_SHIM_ETHERTYPE);
	for (unsigned i = 0; i < sizeof(h->shim.cookie); i++)
		h->shim.cookie[i] = (uint8_t)(opt->shim_cookie >> 8 * i);
	err = tap_open(h, mtu > MTU_MAX ? MTU_MAX : mtu, e);
	if (!err)
		err = program_attach(h, opt->ifindex, e);
	if (err) {
		mr_handback_close(h);
		return err;
	}
	*out = h;
	return 0;
}

void mr_handback_close(struct mr_handback *h)
{
	if (!h)
		return;
	/* the device, its clsact and the program's attachment end with the file */
	if (h->tap_fd >= 0)
		close(h->tap_fd);
	handback_bpf__destroy(h->skel);
	free(h);
}

int mr_handback_send(struct mr_handback *h, const void *frame, uint32_t len)
{
	struct mr_shim shim = h->shim;
	struct iovec v[2] = {
		{ .iov_base = &shim, .iov_len = sizeof(shim) },
		{ .iov_base = (void *)frame, .iov_len = len },
	};
	ssize_t n;

	if (len < ETHERNET_BYTES)
		return -EIO;
	memcpy(shim.mac, frame, sizeof(shim.mac));
	n = h->generic ? writev(h->tap_fd, v, 2) : write(h->tap_fd, frame, len);
	if (n >= 0)
		return 0;
	return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM ? -EAGAIN : -EIO;
}
