/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/link.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BUF_BYTES (64u << 10)
#define READS_MAX 64u /* messages one service takes */

struct known {
	struct mr_link_event last;
	uint32_t round; /* the dump it was last seen in or after */
};

struct mr_links {
	struct mnl_socket *nl;
	struct known *known;
	uint32_t known_cnt;
	uint32_t known_room;
	uint32_t round;   /* number of the newest dump, its netlink sequence too */
	bool dumping;     /* its end has not come */
	bool dump_wanted; /* could not be asked for: one is running */
	uint64_t resync_cnt;
	int event_cnt;
	mr_link_fn fn;
	void *ctx;
	char buf[BUF_BYTES];
};

static int dump_ask(struct mr_links *l)
{
	char buf[256];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	struct ifinfomsg *ifi;

	nlh->nlmsg_type = RTM_GETLINK;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nlh->nlmsg_seq = l->round + 1;
	ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));
	ifi->ifi_family = AF_UNSPEC;
	mnl_attr_put_u32(nlh, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	if (mnl_socket_sendto(l->nl, nlh, nlh->nlmsg_len) < 0) {
		l->dump_wanted = errno == EBUSY || errno == EAGAIN || errno == ENOBUFS;
		return -errno;
	}
	l->round++;
	l->dumping = true;
	l->dump_wanted = false;
	return 0;
}

static void tell(struct mr_links *l, const struct mr_link_event *ev)
{
	l->event_cnt++;
	if (l->fn)
		l->fn(l->ctx, ev);
}

static struct known *known_find(struct mr_links *l, uint32_t ifindex)
{
	for (uint32_t i = 0; i < l->known_cnt; i++)
		if (l->known[i].last.ifindex == ifindex)
			return &l->known[i];
	return NULL;
}

static void known_forget(struct mr_links *l, struct known *k)
{
	struct mr_link_event ev = k->last;

	*k = l->known[--l->known_cnt];
	ev.deleted = true;
	ev.admin_up = ev.running = false;
	tell(l, &ev);
}

static int known_update(struct mr_links *l, const struct mr_link_event *ev)
{
	struct known *k = known_find(l, ev->ifindex);

	if (!k) {
		if (l->known_cnt == l->known_room) {
			uint32_t room = l->known_room ? 2 * l->known_room : 16;
			struct known *more = realloc(l->known, room * sizeof(*more));
			if (!more)
				return -ENOMEM;
			l->known = more;
			l->known_room = room;
		}
		k = &l->known[l->known_cnt++];
	} else if (!memcmp(&k->last, ev, sizeof(*ev))) {
		k->round = l->round;
		return 0; /* something changed that is none of ours */
	}
	k->last = *ev;
	k->round = l->round;
	tell(l, ev);
	return 0;
}

static int on_message(const struct nlmsghdr *nlh, void *data)
{
	struct mr_links *l = data;
	const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);
	struct mr_link_event ev;
	const struct nlattr *a;

	if (nlh->nlmsg_type != RTM_NEWLINK && nlh->nlmsg_type != RTM_DELLINK)
		return MNL_CB_OK;
	/* bridges report their ports in a family of their own: no deletion of the device */
	if (ifi->ifi_family != AF_UNSPEC)
		return MNL_CB_OK;
	memset(&ev, 0, sizeof(ev)); /* compared as memory */
	ev.ifindex = (uint32_t)ifi->ifi_index;
	ev.admin_up = ifi->ifi_flags & IFF_UP;
	ev.running = (ifi->ifi_flags & IFF_UP) && (ifi->ifi_flags & IFF_LOWER_UP);
	mnl_attr_for_each(a, nlh, sizeof(*ifi))
	{
		if (mnl_attr_get_type(a) == IFLA_IFNAME)
			snprintf(ev.name, sizeof(ev.name), "%s", mnl_attr_get_str(a));
		else if (mnl_attr_get_type(a) == IFLA_MTU)
			ev.mtu = mnl_attr_get_u32(a);
	}
	if (nlh->nlmsg_type == RTM_DELLINK) {
		struct known *k = known_find(l, ev.ifindex);
		if (k)
			known_forget(l, k);
		return MNL_CB_OK;
	}
	return known_update(l, &ev) ? MNL_CB_ERROR : MNL_CB_OK;
}

/* The dump is complete: what it did not name is gone. */
static void dump_done(struct mr_links *l)
{
	l->dumping = false;
	for (uint32_t i = l->known_cnt; i-- > 0;)
		if (l->known[i].round != l->round)
			known_forget(l, &l->known[i]);
}

/* libmnl stops at the end of a dump, wherever it stands in the buffer; events may follow it. */
static void on_buffer(struct mr_links *l, int bytes)
{
	const struct nlmsghdr *nlh = (const struct nlmsghdr *)l->buf;

	for (; mnl_nlmsg_ok(nlh, bytes); nlh = mnl_nlmsg_next(nlh, &bytes)) {
		bool ours = nlh->nlmsg_seq == l->round && nlh->nlmsg_pid == mnl_socket_get_portid(l->nl);
		if (nlh->nlmsg_type == NLMSG_DONE || nlh->nlmsg_type == NLMSG_ERROR) {
			if (!ours)
				continue;
			if (nlh->nlmsg_type == NLMSG_DONE && !(nlh->nlmsg_flags & NLM_F_DUMP_INTR)) {
				dump_done(l);
			} else {
				l->dumping = false;
				l->dump_wanted = true;
			}
		} else if (nlh->nlmsg_type >= NLMSG_MIN_TYPE && on_message(nlh, l) == MNL_CB_ERROR) {
			l->dump_wanted = true;
		}
	}
}

int mr_links_service(struct mr_links *l)
{
	l->event_cnt = 0;
	for (unsigned reads = 0; reads < READS_MAX; reads++) {
		ssize_t n = recv(mnl_socket_get_fd(l->nl), l->buf, sizeof(l->buf), MSG_DONTWAIT);
		if (n > 0) {
			on_buffer(l, (int)n);
			continue;
		}
		if (n < 0 && errno == ENOBUFS) {
			/* events were lost, the end of a dump perhaps too */
			l->resync_cnt++;
			l->dumping = false;
			l->dump_wanted = true;
			continue;
		}
		break;
	}
	if (l->dump_wanted && !l->dumping)
		(void)dump_ask(l);
	return l->event_cnt;
}

int mr_links_open(struct mr_links **out, struct mr_error *e)
{
	struct mr_links *l = calloc(1, sizeof(*l));
	int err;

	if (!l)
		return mr_error_set(e, -ENOMEM, "no memory to watch devices");
	l->nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!l->nl || mnl_socket_bind(l->nl, RTMGRP_LINK, MNL_SOCKET_AUTOPID) < 0 || dump_ask(l) < 0) {
		err = errno ? -errno : -EIO;
		mr_links_close(l);
		return mr_error_set(e, err, "the kernel does not tell about devices: %s", strerror(-err));
	}
	*out = l;
	return 0;
}

void mr_links_close(struct mr_links *l)
{
	if (!l)
		return;
	if (l->nl)
		mnl_socket_close(l->nl);
	free(l->known);
	free(l);
}

int mr_links_fd(const struct mr_links *l)
{
	return mnl_socket_get_fd(l->nl);
}

void mr_links_on_event(struct mr_links *l, mr_link_fn fn, void *ctx)
{
	l->fn = fn;
	l->ctx = ctx;
}

uint64_t mr_links_resync_cnt(const struct mr_links *l)
{
	return l->resync_cnt;
}
