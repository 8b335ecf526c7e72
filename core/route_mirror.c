/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * route_mirror.c - the netlink socket: events first, then dumps one after the other on the same socket, so that what an event says and
 * what a dump says come in one order.
 *
 *     owed ─► asked (running) ─► read to DONE ─► what it did not name goes (sweeping) ─► next
 *                  ▲ interrupted: again                    events lost (ENOBUFS): all of them are owed again
 */
#include "core/route_table.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES   (256u << 10)
#define RECEIVE_BYTES  (32 << 20)
#define SERVICE_US     3000
#define SLICE          512 /* prefixes between two looks at the clock */
#define WALK_US        1000
#define RESTARTS       3 /* dumps interrupted in a row before the next one waits for a tick */
#define RETRY_MS       1000
#define SILENT_MS      10000 /* a dump that says nothing for so long is asked for again */
#define POKE_MS        100
#define OPEN_MS        60000
#define SWEEP_ADVANCED 60 /* twice that, and one, is less than versions are: a sweep may last until the next one */

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* ---- the end of a round --------------------------------------------------------------------------------------- */

static bool bump(struct mr_routes *r, unsigned f, unsigned b)
{
	uint8_t v = r->version[f][b];

	__atomic_store_n(&r->version[f][b], (uint8_t)((v + 1) & 127), __ATOMIC_RELEASE);
	return ++r->advanced[f][b] >= SWEEP_ADVANCED;
}

/* New versions, each bucket once, behind all the stores of the round. */
static void bump_versions(struct mr_routes *r)
{
	bool full = false;

	if (!r->dirty_any)
		return;
	r->dirty_any = false;
	for (unsigned f = 0; f < 2; f++) {
		for (unsigned w = 0; w < MR_ROUTE_BUCKETS / 64; w++) {
			for (uint64_t bits = r->dirty[f][w]; bits; bits &= bits - 1)
				full |= bump(r, f, w * 64 + (unsigned)__builtin_ctzll(bits));
			r->dirty[f][w] = 0;
		}
	}
	if (!full)
		return;
	if (r->opt.sweep)
		r->opt.sweep(r->opt.ctx);
	memset(r->advanced, 0, sizeof(r->advanced));
	r->sweep_cnt++;
}

void mr_route_round_end(struct mr_routes *r)
{
	if (r->sources_dirty)
		mr_route_sources_make(r);
	bump_versions(r);
	mr_route_reclaim(r);
}

/* ---- dumps ------------------------------------------------------------------------------------------------------ */

struct request {
	struct nlmsghdr h;
	union {
		struct ifinfomsg link;
		struct ifaddrmsg addr;
		struct ndmsg neigh;
		struct nhmsg nexthop;
		struct fib_rule_hdr rule;
		struct rtmsg route;
	};
	struct nlattr mask_head;
	uint32_t mask;
};

static void fill_request(struct request *q, int d)
{
	static const uint16_t types[MR_DUMP_CNT] = { [MR_DUMP_LINK] = RTM_GETLINK,
		[MR_DUMP_ADDR] = RTM_GETADDR,
		[MR_DUMP_NEIGH] = RTM_GETNEIGH,
		[MR_DUMP_NEXTHOP] = RTM_GETNEXTHOP,
		[MR_DUMP_RULE4] = RTM_GETRULE,
		[MR_DUMP_RULE6] = RTM_GETRULE,
		[MR_DUMP_ROUTE4] = RTM_GETROUTE,
		[MR_DUMP_ROUTE6] = RTM_GETROUTE };
	static const uint8_t bytes[MR_DUMP_CNT] = { [MR_DUMP_LINK] = sizeof(struct ifinfomsg),
		[MR_DUMP_ADDR] = sizeof(struct ifaddrmsg),
		[MR_DUMP_NEIGH] = sizeof(struct ndmsg),
		[MR_DUMP_NEXTHOP] = sizeof(struct nhmsg),
		[MR_DUMP_RULE4] = sizeof(struct fib_rule_hdr),
		[MR_DUMP_RULE6] = sizeof(struct fib_rule_hdr),
		[MR_DUMP_ROUTE4] = sizeof(struct rtmsg),
		[MR_DUMP_ROUTE6] = sizeof(struct rtmsg) };

	memset(q, 0, sizeof(*q));
	q->h.nlmsg_type = types[d];
	q->h.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	q->h.nlmsg_len = NLMSG_LENGTH(bytes[d]);
	if (d == MR_DUMP_RULE4 || d == MR_DUMP_ROUTE4)
		q->rule.family = AF_INET; /* where rtmsg has it too */
	if (d == MR_DUMP_RULE6 || d == MR_DUMP_ROUTE6)
		q->rule.family = AF_INET6;
	if (d == MR_DUMP_LINK) {
		struct nlattr a = { .nla_len = 8, .nla_type = IFLA_EXT_MASK };
		uint32_t mask = RTEXT_FILTER_SKIP_STATS;
		memcpy((char *)q + q->h.nlmsg_len, &a, sizeof(a));
		memcpy((char *)q + q->h.nlmsg_len + sizeof(a), &mask, sizeof(mask));
		q->h.nlmsg_len += 8;
	}
}

void mr_route_owe(struct mr_routes *r, uint32_t dumps)
{
	if (r->fd >= 0)
		r->owed |= dumps;
}

static unsigned family_index(int d)
{
	return d == MR_DUMP_ROUTE6;
}

static bool is_route(int d)
{
	return d == MR_DUMP_ROUTE4 || d == MR_DUMP_ROUTE6;
}

static bool begin_dump(struct mr_routes *r)
{
	int d = __builtin_ctz(r->owed);
	struct request q;

	fill_request(&q, d);
	q.h.nlmsg_seq = ++r->seq;
	if (send(r->fd, &q, q.h.nlmsg_len, 0) < 0) {
		r->retry_ms = now_us() / 1000 + RETRY_MS;
		return false;
	}
	r->owed &= ~(1u << d);
	r->running = d;
	r->interrupted = false;
	r->asked_ms = now_us() / 1000;
	mr_route_devices_begin(r, d);
	if (d == MR_DUMP_NEIGH && r->opt.neighbours)
		mr_neighbours_dump_begin(r->opt.neighbours);
	if (is_route(d)) {
		r->mark[family_index(d)] ^= MR_ROUTE_MARK;
		r->route_dump[family_index(d)] = true;
	}
	return true;
}

/* It ended: what it did not name goes, unless it was not whole. */
static void end_dump(struct mr_routes *r, const struct mr_rtnl *m)
{
	int d = r->running;

	r->interrupted |= m->interrupted;
	if (m->error_code || r->interrupted) {
		r->owed |= 1u << d;
		if (m->error_code || ++r->restarts > RESTARTS) {
			r->restarts = 0;
			r->retry_ms = now_us() / 1000 + (m->error_code == -ETIMEDOUT ? RETRY_MS : 100);
		}
	} else {
		r->restarts = 0;
		mr_route_devices_end(r, d);
		if (d == MR_DUMP_NEIGH && r->opt.neighbours)
			mr_neighbours_dump_end(r->opt.neighbours);
	}
	if (!is_route(d)) {
		r->running = -1;
		return;
	}
	/* Tombs go in any case; when it was not whole, everything counts as named. */
	r->route_dump[family_index(d)] = false;
	r->sweeping = true;
	r->sweep_whole = !m->error_code && !r->interrupted;
	r->sweep_at = 0;
}

static bool sweep_some(struct mr_routes *r)
{
	unsigned f = family_index(r->running);

	if (mr_prefixes_sweep_some(r, f, SLICE))
		return true;
	r->sweeping = false;
	r->running = -1;
	return false;
}

/* ---- messages --------------------------------------------------------------------------------------------------- */

static void hear(struct mr_routes *r, const struct mr_rtnl *m, bool dumped)
{
	switch (m->kind) {
	case MR_RTNL_ROUTE:
		mr_route_heard(r, m, dumped);
		break;
	case MR_RTNL_NEXTHOP:
		mr_route_nexthop_heard(r, m);
		break;
	case MR_RTNL_NEIGH:
		if (r->opt.neighbours)
			mr_neighbours_heard(r->opt.neighbours, &m->neigh, m->deleted);
		break;
	case MR_RTNL_ADDR:
		mr_route_addr_heard(r, m);
		break;
	case MR_RTNL_LINK:
		mr_route_link_heard(r, m, dumped);
		break;
	case MR_RTNL_RULE:
		mr_route_rule_heard(r, m);
		break;
	default:
		return;
	}
	r->event_cnt++;
}

static void feed(struct mr_routes *r, const void *data, size_t bytes)
{
	struct mr_rtnl m;

	while (mr_rtnl_read(&data, &bytes, &m)) {
		bool mine = r->running >= 0 && !r->sweeping && m.seq == r->seq && m.portid == r->portid && r->portid;
		if (mine && (m.kind == MR_RTNL_DONE || m.kind == MR_RTNL_ERROR)) {
			end_dump(r, &m);
			continue;
		}
		if (!mine && m.multi && r->portid && m.portid == r->portid)
			continue; /* the rest of a dump given up */
		if (mine) {
			r->interrupted |= m.interrupted;
			r->asked_ms = now_us() / 1000;
		}
		if (m.kind == MR_RTNL_BROKEN || (m.kind == MR_RTNL_ERROR && m.error_code == -ENOBUFS))
			mr_route_owe(r, MR_DUMP_ALL);
		else
			hear(r, &m, mine && m.multi);
	}
}

void mr_routes_feed(struct mr_routes *r, const void *data, size_t bytes)
{
	feed(r, data, bytes);
	while (mr_prefixes_walk_some(r, SLICE))
		;
	mr_route_round_end(r);
}

/* Everything is asked for again; lookups go on with what is known. */
static void resync(struct mr_routes *r)
{
	r->resync_cnt++;
	r->interrupted = true; /* what is running now must not take anything out */
	r->owed = MR_DUMP_ALL;
	r->retry_ms = 0;
}

/* One datagram.  False: there is none. */
static bool receive(struct mr_routes *r)
{
	struct sockaddr_nl from;
	struct iovec iov = { r->buffer, BUFFER_BYTES };
	struct msghdr msg = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n = recvmsg(r->fd, &msg, MSG_DONTWAIT);

	if (n < 0) {
		if (errno == ENOBUFS)
			resync(r);
		return errno == ENOBUFS || errno == EINTR;
	}
	if (msg.msg_namelen != sizeof(from) || from.nl_pid)
		return true; /* not from the kernel */
	if (msg.msg_flags & MSG_TRUNC)
		resync(r);
	else
		feed(r, r->buffer, (size_t)n);
	return true;
}

/* What is to be done besides reading.  True: more is waiting. */
static bool work(struct mr_routes *r)
{
	bool more = r->sweeping ? sweep_some(r) : false;

	if (r->running < 0 && r->owed && now_us() / 1000 >= r->retry_ms)
		more |= begin_dump(r);
	if (r->running < 0 && !r->owed && r->short_before) {
		r->short_before = false;
		mr_route_rules_weigh(r);
	}
	/* Routes of a device that is gone come before the dump that confirms it, which is long when the table is. */
	uint64_t until = now_us() + WALK_US;
	bool walk;
	do
		walk = mr_prefixes_walk_some(r, SLICE);
	while (walk && now_us() < until);
	return walk || more;
}

int mr_routes_service(struct mr_routes *r)
{
	uint64_t until = now_us() + SERVICE_US;
	bool more = true;

	if (r->fd < 0)
		return 0;
	while (more && now_us() < until) {
		more = receive(r);
		more |= work(r);
	}
	mr_route_round_end(r);
	return more;
}

/*
 * The kernel goes on with a dump when the socket is read; one that found the buffer full, with nothing left to read since, goes on
 * only when something new comes.  A question it answers at once.
 */
static void poke(struct mr_routes *r)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg link;
	} q = { .h = { .nlmsg_len = sizeof(q), .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST },
		.link = { .ifi_index = 1 } };

	(void)send(r->fd, &q, sizeof(q), 0);
}

void mr_routes_tick(struct mr_routes *r)
{
	uint64_t now_ms = now_us() / 1000;

	if (r->fd < 0)
		return;
	if (r->running >= 0 && !r->sweeping && now_ms > r->asked_ms + SILENT_MS) {
		struct mr_rtnl m = { .kind = MR_RTNL_DONE, .error_code = -ETIMEDOUT };
		end_dump(r, &m);
	} else if (r->running >= 0 && !r->sweeping && now_ms > r->asked_ms + POKE_MS) {
		poke(r);
	}
	if (r->short_of_memory && r->running < 0 && now_ms >= r->retry_ms) {
		r->short_of_memory = false;
		r->short_before = true;
		r->owed = MR_DUMP_ALL;
		r->retry_ms = now_ms + RETRY_MS;
	}
	work(r);
	mr_route_round_end(r);
}

/* ---- opening ------------------------------------------------------------------------------------------------------ */

static int subscribe(int fd)
{
	static const int groups[] = { RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR,
		RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_RULE, RTNLGRP_NEXTHOP };

	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i], sizeof(groups[i])) < 0)
			return -errno;
	}
	return 0;
}

static int open_socket(struct mr_routes *r)
{
	struct sockaddr_nl me = { .nl_family = AF_NETLINK };
	socklen_t bytes = sizeof(me);
	int on = 1, size = r->opt.receive_bytes ? r->opt.receive_bytes : RECEIVE_BYTES;

	r->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (r->fd < 0)
		return -errno;
	if (setsockopt(r->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		(void)setsockopt(
			r->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)); /* what is allowed; overflow is handled */
	/* Without it the kernel would also dump its cache of exceptions. */
	(void)setsockopt(r->fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
	if (bind(r->fd, (struct sockaddr *)&me, sizeof(me)) < 0 ||
		getsockname(r->fd, (struct sockaddr *)&me, &bytes) < 0)
		return -errno;
	r->portid = me.nl_pid;
	return subscribe(r->fd);
}

static void close_socket(struct mr_routes *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
	r->owed = 0;
	r->running = -1;
	free(r->buffer);
	r->buffer = NULL;
}

int mr_routes_open(struct mr_routes *r, struct mr_error *e)
{
	struct mr_routes_usage u;
	uint64_t until = now_us() / 1000 + OPEN_MS;

	if (r->fd >= 0)
		return 0;
	r->buffer = malloc(BUFFER_BYTES);
	if (!r->buffer)
		return mr_error_set(e, -ENOMEM, "out of memory");
	int err = open_socket(r);
	if (err) {
		close_socket(r);
		return mr_error_set(
			e, err, "the kernel's routing tables cannot be listened to: %s (netlink)", strerror(-err));
	}
	r->owed = MR_DUMP_ALL;
	do {
		if (!mr_routes_service(r)) {
			struct pollfd p = { .fd = r->fd, .events = POLLIN };
			(void)poll(&p, 1, 10);
			mr_routes_tick(r);
		}
		mr_routes_usage(r, &u);
	} while (!u.synced && now_us() / 1000 < until);
	if (!u.synced) {
		close_socket(r);
		return mr_error_set(
			e, -ETIMEDOUT, "the kernel's routing tables could not be read within %d s", OPEN_MS / 1000);
	}
	return 0;
}

int mr_routes_fd(const struct mr_routes *r)
{
	return r->fd;
}
