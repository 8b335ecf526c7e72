/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/beside.h"

#include <bpf/bpf.h>
#include <ifaddrs.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TCX_INGRESS 46 /* BPF_TCX_INGRESS, Linux 6.6; older kernels refuse the question */
#define TCX_EGRESS  47

struct look {
	uint32_t ifindex;
	char kind[16]; /* of the qdisc found */
};

static int qdisc_message(const struct nlmsghdr *nlh, void *data)
{
	struct look *l = data;
	const struct tcmsg *tc = mnl_nlmsg_get_payload(nlh);
	const struct nlattr *a;

	if ((uint32_t)tc->tcm_ifindex != l->ifindex)
		return MNL_CB_OK;
	mnl_attr_for_each(a, nlh, sizeof(*tc))
	{
		if (mnl_attr_get_type(a) != TCA_KIND || mnl_attr_validate(a, MNL_TYPE_NUL_STRING) < 0)
			continue;
		const char *kind = mnl_attr_get_str(a);
		if (!strcmp(kind, "clsact") || !strcmp(kind, "ingress"))
			snprintf(l->kind, sizeof(l->kind), "%s", kind);
	}
	return MNL_CB_OK;
}

static void find_qdisc(struct look *l)
{
	const size_t buf_bytes = 64 << 10;
	char *buf = malloc(buf_bytes);
	struct mnl_socket *nl = buf ? mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC) : NULL;

	if (!nl || mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0)
		goto out;
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	nlh->nlmsg_type = RTM_GETQDISC;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nlh->nlmsg_seq = 1;
	struct tcmsg *tc = mnl_nlmsg_put_extra_header(nlh, sizeof(*tc));
	tc->tcm_family = AF_UNSPEC;
	tc->tcm_ifindex = (int)l->ifindex;
	if (mnl_socket_sendto(nl, nlh, nlh->nlmsg_len) < 0)
		goto out;
	for (;;) {
		ssize_t n = mnl_socket_recvfrom(nl, buf, buf_bytes);
		if (n <= 0 || mnl_cb_run(buf, (size_t)n, 1, mnl_socket_get_portid(nl), qdisc_message, l) <= MNL_CB_STOP)
			break;
	}
out:
	if (nl)
		mnl_socket_close(nl);
	free(buf);
}

static bool has_tcx(uint32_t ifindex)
{
	__u32 cnt = 0;
	if (!bpf_prog_query((int)ifindex, (enum bpf_attach_type)TCX_INGRESS, 0, NULL, NULL, &cnt) && cnt)
		return true;
	cnt = 0;
	return !bpf_prog_query((int)ifindex, (enum bpf_attach_type)TCX_EGRESS, 0, NULL, NULL, &cnt) && cnt;
}

void mr_beside_describe(const char *device, uint32_t ifindex, char *text, size_t bytes)
{
	struct look l = { .ifindex = ifindex };

	find_qdisc(&l);
	text[0] = '\0';
	if (l.kind[0])
		snprintf(text, bytes,
			"%s has tc filters of somebody else (qdisc %s): they see what is left or handed to the kernel, "
			"not what is taken",
			device, l.kind);
	else if (has_tcx(ifindex))
		snprintf(text, bytes,
			"%s has tcx programs of somebody else: they see what is left or handed to the kernel, not what "
			"is taken",
			device);
}

bool mr_beside_has_address(const char *device)
{
	struct ifaddrs *all, *a;
	bool found = false;

	if (getifaddrs(&all))
		return false;
	for (a = all; a && !found; a = a->ifa_next) {
		if (!a->ifa_addr || strcmp(a->ifa_name, device))
			continue;
		const struct sockaddr_in6 *six = (const void *)a->ifa_addr;
		found = a->ifa_addr->sa_family == AF_INET ||
			(a->ifa_addr->sa_family == AF_INET6 && !IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr));
	}
	freeifaddrs(all);
	return found;
}
