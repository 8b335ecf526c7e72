/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Slots against the kernel's own neighbour table: asked for, resolved, changed, deleted, failed, kept fresh; and nothing in that table is
 * altered that is not ours to alter.
 */
#include "core/neighbour.h"
#include "core/route.h"
#include "tests/netns/spaces.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
	struct mr_nexthops *nh;
	struct mr_epoch *epoch;
	struct mr_neighbours *t;
	struct mnl_socket *nl;
	uint32_t ifindex;
	bool deaf; /* events are read and forgotten */
	unsigned changed_cnt, reachable_cnt;
} w;

/* No tunnels here. */
void mr_routes_lookup(struct mr_routes *r, unsigned interface_id, unsigned family, const void *dst_be, uint64_t hash,
	struct mr_route_answer *out)
{
	(void)r, (void)interface_id, (void)family, (void)dst_be, (void)hash;
	*out = (struct mr_route_answer){ .verdict = MR_ROUTE_DROP };
}

static uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void on_changed(void *ctx)
{
	(void)ctx;
	w.changed_cnt++;
}

static void take(const struct mr_rtnl *m)
{
	if (m->kind == MR_RTNL_NEIGH) {
		w.reachable_cnt += !m->deleted && m->neigh.state == NUD_REACHABLE && m->neigh.family == 4;
		mr_neighbours_heard(w.t, &m->neigh, m->deleted);
	}
	if (m->kind == MR_RTNL_LINK && m->link.ifindex == w.ifindex && !m->deleted) {
		struct mr_neighbour_device d = {
			.ifindex = w.ifindex, .interface_id = 1, .mtu = (uint16_t)m->link.mtu
		};
		d.up = m->link.admin_up && m->link.running;
		memcpy(d.mac, m->link.mac, 6);
		mr_neighbours_device(w.t, &d);
	}
}

static void listen_once(void)
{
	char buf[65536];
	ssize_t n;
	while ((n = mnl_socket_recvfrom(w.nl, buf, sizeof(buf))) > 0) {
		const void *at = buf;
		size_t left = (size_t)n;
		struct mr_rtnl m;
		while (mr_rtnl_read(&at, &left, &m))
			if (!w.deaf)
				take(&m);
	}
}

static void dump(uint16_t type)
{
	char buf[256];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	struct rtgenmsg *g =
		mnl_nlmsg_put_extra_header(nlh, type == RTM_GETLINK ? sizeof(struct ifinfomsg) : sizeof(struct ndmsg));
	g->rtgen_family = AF_UNSPEC;
	(void)mnl_socket_sendto(w.nl, nlh, nlh->nlmsg_len);
	for (unsigned i = 0; i < 10; i++) {
		usleep(2000);
		listen_once();
	}
}

/* What control does, for this long; `slot` is touched all the while (0 = none). */
static void turn(unsigned ms, uint16_t slot)
{
	for (uint64_t end = now_ms() + ms;;) {
		struct pollfd p[2] = { { .fd = mnl_socket_get_fd(w.nl), .events = POLLIN },
			{ .fd = mr_neighbours_fd(w.t), .events = POLLIN } };
		(void)poll(p, 2, 20);
		listen_once();
		if (slot)
			mr_neighbours_touch(w.t, slot, (uint32_t)now_ms());
		mr_neighbours_service(w.t, now_ms());
		if (now_ms() >= end)
			return;
	}
}

static struct mr_nexthop at(uint16_t slot)
{
	struct mr_nexthop nh;
	mr_nexthops_get(w.nh, slot, &nh);
	return nh;
}

/* What happens at once happens before SOON_MS, on a machine that has other work too; becomes() gives up at NEVER_MS. */
#define SOON_MS  4000
#define NEVER_MS 10000

/* How long until the slot is of this kind. */
static unsigned becomes(uint16_t slot, unsigned kind)
{
	uint64_t begin = now_ms();
	while (at(slot).kind != kind && now_ms() - begin < NEVER_MS)
		turn(0, 0);
	return (unsigned)(now_ms() - begin);
}

static uint16_t slot_of(unsigned family, const char *text)
{
	uint8_t a[16] = { 0 };
	inet_pton(family == 4 ? AF_INET : AF_INET6, text, a);
	return mr_neighbours_slot(w.t, w.ifindex, family, a, 0, (uint32_t)now_ms());
}

static bool mac_is(uint16_t slot, const char *text)
{
	uint8_t m[6];
	struct mr_nexthop nh = at(slot);
	sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]);
	return nh.kind == MR_NH_ROUTED && !memcmp(nh.dmac, m, 6);
}

static bool mac_becomes(uint16_t slot, const char *text)
{
	for (uint64_t end = now_ms() + 5000; !mac_is(slot, text) && now_ms() < end;)
		turn(0, 0);
	return mac_is(slot, text);
}

static struct mr_neighbours_usage usage(void)
{
	struct mr_neighbours_usage u;
	mr_neighbours_usage(w.t, &u);
	return u;
}

static bool begin(void)
{
	const struct mr_neighbours_options opt = { .nexthops = w.nh, .epoch = w.epoch, .changed = on_changed };
	struct mr_error e = { "" };
	if (mr_neighbours_create(&opt, false, &w.t, &e)) {
		tap_note("%s", e.text);
		return false;
	}
	return true;
}

static bool start(void)
{
	w.nh = mr_nexthops_create(NULL);
	w.epoch = mr_epoch_create();
	w.nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_NONBLOCK);
	w.ifindex = if_nametoindex("r0");
	if (!w.nl || mnl_socket_bind(w.nl, RTMGRP_NEIGH | RTMGRP_LINK, MNL_SOCKET_AUTOPID) || !begin())
		return false;
	dump(RTM_GETLINK);
	dump(RTM_GETNEIGH);
	return true;
}

/* ---- cases ------------------------------------------------------------------------------------------------------- */

static void resolving(unsigned family, const char *peer)
{
	uint16_t slot = slot_of(family, peer);
	unsigned before = w.changed_cnt;
	tap_case(slot && at(slot).kind == MR_NH_RESOLVING, "%s: not known at first", peer);
	turn(200, 0);
	tap_case(at(slot).kind == MR_NH_RESOLVING, "%s: nobody asks unless a packet waits", peer);
	mr_neighbours_want(w.t, slot);
	unsigned ms = becomes(slot, MR_NH_ROUTED);
	tap_case(ms < NEVER_MS, "%s: resolved after %u ms", peer, ms);
	tap_case(mac_is(slot, "02:00:00:00:77:01"), "%s: its MAC", peer);
	tap_case(w.changed_cnt > before, "%s: who waits is told", peer);
}

static void mac_change(uint16_t four)
{
	(void)spaces_run("a", "ip link set a0 address 02:00:00:00:77:02");
	(void)spaces_run("a", "ip neigh flush dev a0; ping -c 1 -W 1 10.77.0.254");
	tap_case(mac_becomes(four, "02:00:00:00:77:02"), "a MAC that changes is followed");
	(void)spaces_run("a", "ip link set a0 address 02:00:00:00:77:01; ip addr add fd77::1/64 dev a0 nodad");
	(void)spaces_run("a", "ip neigh flush dev a0; ping -c 1 -W 1 10.77.0.254");
	tap_case(mac_becomes(four, "02:00:00:00:77:01"), "and back");
}

static void deletion(uint16_t four)
{
	(void)spaces_run("r", "ip neigh del 10.77.0.1 dev r0");
	tap_case(becomes(four, MR_NH_RESOLVING) < NEVER_MS, "a neighbour that is deleted has to be resolved again");
	mr_neighbours_want(w.t, four);
	tap_case(becomes(four, MR_NH_ROUTED) < NEVER_MS, "and is");
}

static void nobody_there(unsigned family, const char *peer)
{
	uint16_t slot = slot_of(family, peer);
	unsigned before = w.changed_cnt;
	mr_neighbours_want(w.t, slot);
	unsigned ms = becomes(slot, MR_NH_UNREACHABLE);
	tap_case(ms >= 300 && ms < NEVER_MS, "%s: nobody there, after %u ms", peer, ms);
	tap_case(w.changed_cnt > before, "%s: who waits is told", peer);
	ms = becomes(slot, MR_NH_RESOLVING);
	tap_case(ms > 800 && ms < NEVER_MS, "%s: may be asked again after %u ms", peer, ms);
	mr_neighbours_want(w.t, slot);
	tap_case(becomes(slot, MR_NH_UNREACHABLE) < NEVER_MS, "%s: still nobody there", peer);
}

static void mtu_change(uint16_t four)
{
	(void)spaces_run("r", "ip link set r0 mtu 1400");
	for (unsigned i = 0; i < 50 && at(four).mtu != 1400; i++)
		turn(10, 0);
	tap_case(at(four).mtu == 1400, "an MTU that changes is followed");
	(void)spaces_run("r", "ip link set r0 mtu 1500");
	turn(100, 0);
}

static void down_and_up(uint16_t four)
{
	(void)spaces_run("r", "ip link set r0 down");
	tap_case(becomes(four, MR_NH_RESOLVING) < NEVER_MS, "down: the kernel forgets its neighbours");
	mr_neighbours_want(w.t, four);
	unsigned ms = becomes(four, MR_NH_UNREACHABLE);
	tap_case(ms < SOON_MS, "down: unreachable after %u ms", ms);
	(void)spaces_run("r", "ip link set r0 up; ip addr add fd77::fe/64 dev r0 nodad");
	ms = becomes(four, MR_NH_RESOLVING);
	tap_case(ms < NEVER_MS, "up: may be asked after %u ms", ms);
	mr_neighbours_want(w.t, four);
	tap_case(becomes(four, MR_NH_ROUTED) < NEVER_MS, "up: resolved");
}

/* Reachable for 1.5 to 4.5 s, as the kernel's dice fall, and probed a second after it was used: with its default times this takes minutes. */
static void kept_fresh(uint16_t four)
{
	(void)spaces_run("r",
		"sysctl -w net.ipv4.neigh.r0.base_reachable_time_ms=3000 net.ipv4.neigh.r0.delay_first_probe_time=1");
	(void)spaces_run("a", "ip addr add 10.77.0.3/24 dev a0");
	uint16_t other = slot_of(4, "10.77.0.3");
	mr_neighbours_want(w.t, other);
	becomes(other, MR_NH_ROUTED);
	/* Its timer was set by the times before. */
	(void)spaces_run("r", "ip neigh del 10.77.0.1 dev r0");
	becomes(four, MR_NH_RESOLVING);
	mr_neighbours_want(w.t, four);
	becomes(four, MR_NH_ROUTED);
	uint64_t asked = usage().asked_cnt;
	unsigned confirmed = w.reachable_cnt;
	turn(12000, four);
	asked = usage().asked_cnt - asked;
	confirmed = w.reachable_cnt - confirmed;
	tap_case(confirmed >= 2, "in use: confirmed %u times in 12 s", confirmed);
	tap_case(asked >= 2 && asked <= 9, "with %lu questions", (unsigned long)asked);
	tap_case(at(four).kind == MR_NH_ROUTED, "and always there");
	tap_case(spaces_run("r", "ip neigh show 10.77.0.3 dev r0 | grep -q STALE"), "not in use: left to grow stale");
	tap_case(at(other).kind == MR_NH_ROUTED, "a stale one is used nevertheless");
}

static void entries_of_others(void)
{
	(void)spaces_run("r", "ip neigh replace 10.77.0.9 lladdr 02:00:00:00:77:09 dev r0 nud permanent");
	(void)spaces_run("r", "ip neigh replace 10.77.0.3 lladdr 02:00:00:00:77:01 dev r0 nud stale extern_learn");
	turn(2500, 0); /* what was in use before is not any more */
	uint16_t fixed = slot_of(4, "10.77.0.9"), learned = slot_of(4, "10.77.0.3");
	uint64_t asked = usage().asked_cnt;
	tap_case(mac_is(fixed, "02:00:00:00:77:09"), "a permanent neighbour");
	turn(2500, fixed);
	tap_case(usage().asked_cnt == asked, "is never asked for");
	tap_case(spaces_run("r", "ip neigh show 10.77.0.9 dev r0 | grep -q PERMANENT"), "and stays permanent");
	tap_case(mac_is(learned, "02:00:00:00:77:01"), "a neighbour some daemon learned");
	turn(2500, learned);
	tap_case(usage().asked_cnt > asked, "is confirmed when it is stale");
	tap_case(spaces_run("r", "ip neigh show 10.77.0.3 dev r0 | grep -q extern_learn"), "and stays the daemon's");
}

/* The kernel keeps it resolved by itself; asking would end that. */
static void managed(void)
{
	(void)spaces_run("a", "ip addr add 10.77.0.4/24 dev a0");
	/* The kernel asks this often, not every 5 s. */
	(void)spaces_run("r", "sysctl -w net.ipv4.neigh.r0.interval_probe_time_ms=1000");
	if (!spaces_run("r", "ip neigh replace 10.77.0.4 dev r0 managed")) {
		tap_note("no managed neighbours here");
		return;
	}
	turn(1000, 0);
	uint16_t slot = slot_of(4, "10.77.0.4");
	tap_case(mac_is(slot, "02:00:00:00:77:01"), "a managed neighbour");
	turn(3000, slot);
	tap_case(spaces_run("r", "ip neigh show 10.77.0.4 dev r0 | grep -q managed"), "stays managed");
	/* One that does not answer has to be asked for, and what it is to its owner is said again with it. */
	(void)spaces_run("r", "ip neigh replace 10.77.0.97 dev r0 managed extern_learn");
	turn(1500, 0);
	slot = slot_of(4, "10.77.0.97");
	uint64_t asked = usage().asked_cnt;
	mr_neighbours_want(w.t, slot);
	becomes(slot, MR_NH_UNREACHABLE);
	tap_case(usage().asked_cnt > asked, "a managed neighbour nobody finds is asked for");
	tap_case(spaces_run("r", "ip neigh show 10.77.0.97 dev r0 | grep managed | grep -q extern_learn"),
		"and stays managed, and the daemon's");
}

/* The kernel knows it, and we were not told. */
static void missed_event(void)
{
	w.deaf = true;
	(void)spaces_run("r", "ip neigh replace 10.77.0.8 lladdr 02:00:00:00:77:08 dev r0 nud permanent");
	turn(100, 0);
	uint16_t slot = slot_of(4, "10.77.0.8");
	tap_case(at(slot).kind == MR_NH_RESOLVING, "an event was missed");
	mr_neighbours_want(w.t, slot);
	unsigned ms = becomes(slot, MR_NH_ROUTED);
	tap_case(ms < NEVER_MS, "what the kernel knows it tells when asked, after %u ms", ms);
	tap_case(spaces_run("r", "ip neigh show 10.77.0.8 dev r0 | grep -q PERMANENT"), "and it is still permanent");
	w.deaf = false;
}

static void refused(void)
{
	struct mr_neighbour_device d = { .ifindex = 9999, .interface_id = 2, .mtu = 1500, .up = true };
	uint8_t a[4] = { 10, 99, 0, 1 };
	mr_neighbours_device(w.t, &d);
	uint16_t slot = mr_neighbours_slot(w.t, 9999, 4, a, 0, (uint32_t)now_ms());
	mr_neighbours_want(w.t, slot);
	unsigned ms = becomes(slot, MR_NH_UNREACHABLE);
	tap_case(ms > SOON_MS && ms < NEVER_MS, "a device that is not there: given up after %u ms", ms);
	tap_case(usage().error_cnt >= 4 && usage().error_cnt < 20, "%lu errors counted",
		(unsigned long)usage().error_cnt);
}

/* More at once than fit one datagram. */
static void many(void)
{
	enum { MANY = 200 };
	uint16_t slot[MANY];
	unsigned routed = 0;
	(void)spaces_run("a", "for i in $(seq 1 %u); do ip addr add 10.77.5.$i/16 dev a0; done", MANY);
	(void)spaces_run("r", "ip addr add 10.77.5.254/16 dev r0");
	turn(100, 0);
	for (unsigned i = 0; i < MANY; i++) {
		char text[32];
		snprintf(text, sizeof(text), "10.77.5.%u", i + 1);
		slot[i] = slot_of(4, text);
		mr_neighbours_want(w.t, slot[i]);
	}
	for (uint64_t end = now_ms() + 1500 + NEVER_MS; routed < MANY && now_ms() < end;) {
		turn(50, 0);
		routed = 0;
		for (unsigned i = 0; i < MANY; i++)
			routed += mac_is(slot[i], "02:00:00:00:77:01");
	}
	tap_case(routed == MANY, "%u of %u resolved together", routed, MANY);
}

int main(void)
{
	spaces_begin("neighbour");
	spaces_wire(1);
	(void)spaces_run("a", "ip link set a0 address 02:00:00:00:77:01; ip addr add fd77::1/64 dev a0 nodad");
	(void)spaces_run("r", "ip addr add 10.77.0.254/24 dev r0; ip addr add fd77::fe/64 dev r0 nodad");
	(void)spaces_run("r",
		"sysctl -w net.ipv4.neigh.r0.retrans_time_ms=200 net.ipv6.neigh.r0.retrans_time_ms=200 "
		"net.ipv4.neigh.r0.locktime=0");
	(void)spaces_run("r", "ip neigh flush dev r0");
	tap_case(start(), "opens");
	if (!w.t)
		return tap_end();
	resolving(4, "10.77.0.1");
	resolving(6, "fd77::1");
	uint16_t four = slot_of(4, "10.77.0.1");
	mac_change(four);
	deletion(four);
	nobody_there(4, "10.77.0.99");
	nobody_there(6, "fd77::99");
	mtu_change(four);
	down_and_up(four);
	kept_fresh(four);
	entries_of_others();
	managed();
	missed_event();
	refused();
	many();
	mr_neighbours_destroy(w.t);
	mr_nexthops_destroy(w.nh);
	mr_epoch_destroy(w.epoch);
	mnl_socket_close(w.nl);
	return tap_end();
}
