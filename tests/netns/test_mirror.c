/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_mirror.c - the mirror of the routing tables beside the kernel's own answers.
 *
 * In a namespace of its own, a long random sequence of `ip` commands: routes of both families added, replaced, appended, deleted, over one
 * hop and several, next-hop objects and groups, addresses, devices that go down and lose their carrier.  After every one
 * the mirror hears what the kernel says, and random addresses are looked up here and by RTM_GETROUTE (as forwarded packets: with an
 * ingress device).  Where several paths are possible the sets of answers are compared.
 *
 *     test_mirror [STEPS [SEED]]
 */
#include "core/reason.h"
#include "core/route.h"
#include "spaces.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEVICES 4 /* v0..v2 are interfaces of ours, v3 is not */
#define INGRESS 9
#define SLOTS   4096
#define SAMPLES 150

/* ---- next hops, only to be told apart --------------------------------------------------------------------------- */

struct hop {
	uint32_t ifindex;
	uint8_t family;
	uint8_t addr[16];
	uint16_t mtu;
};

static struct hop slots[SLOTS];
static unsigned slot_cnt;

uint16_t mr_neighbours_slot(
	struct mr_neighbours *t, uint32_t ifindex, unsigned family, const void *addr_be, uint16_t mtu, uint32_t now_ms)
{
	struct hop h = { .ifindex = ifindex, .family = (uint8_t)family, .mtu = mtu };
	memcpy(h.addr, addr_be, family == 4 ? 4 : 16);
	for (unsigned i = 0; i < slot_cnt; i++) {
		if (!memcmp(&slots[i], &h, sizeof(h)))
			return (uint16_t)(i + 1);
	}
	if (slot_cnt == SLOTS)
		slot_cnt = 0; /* of another step: nobody remembers */
	slots[slot_cnt++] = h;
	return (uint16_t)slot_cnt;
}

static unsigned neigh_begun, neigh_ended, neigh_heard, devices_told;

void mr_neighbours_device(struct mr_neighbours *t, const struct mr_neighbour_device *d)
{
	devices_told++;
}

void mr_neighbours_heard(struct mr_neighbours *t, const struct mr_rtnl_neigh *n, bool deleted)
{
	neigh_heard++;
}

void mr_neighbours_dump_begin(struct mr_neighbours *t)
{
	neigh_begun++;
}

void mr_neighbours_dump_end(struct mr_neighbours *t)
{
	neigh_ended++;
}

/* ---- chance ------------------------------------------------------------------------------------------------------- */

static uint64_t chance = 1;

static uint32_t any(uint32_t below)
{
	chance ^= chance << 13;
	chance ^= chance >> 7;
	chance ^= chance << 17;
	return (uint32_t)((chance >> 20) % below);
}

/* ---- the kernel's answer ------------------------------------------------------------------------------------------- */

static int ask_fd = -1;
static uint32_t ifindex[DEVICES], ingress_ifindex;

struct answer {
	int error;
	unsigned type;
	struct hop hop;
};

static void put(struct nlmsghdr *h, unsigned type, const void *data, size_t n)
{
	struct rtattr *a = (void *)((char *)h + NLMSG_ALIGN(h->nlmsg_len));
	a->rta_type = (unsigned short)type;
	a->rta_len = (unsigned short)RTA_LENGTH(n);
	memcpy(RTA_DATA(a), data, n);
	h->nlmsg_len = (uint32_t)(NLMSG_ALIGN(h->nlmsg_len) + RTA_ALIGN(a->rta_len));
}

static void kernel_lookup(unsigned family, const uint8_t *dst, const uint8_t *src, struct answer *out)
{
	_Alignas(8) char buf[4096];
	struct nlmsghdr *h = memset(buf, 0, sizeof(buf));
	struct rtmsg *m = NLMSG_DATA(h);
	unsigned n = family == 4 ? 4 : 16;
	static struct mr_rtnl got;

	h->nlmsg_len = NLMSG_LENGTH(sizeof(*m));
	h->nlmsg_type = RTM_GETROUTE;
	h->nlmsg_flags = NLM_F_REQUEST;
	m->rtm_family = family == 4 ? AF_INET : AF_INET6;
	m->rtm_dst_len = m->rtm_src_len = (unsigned char)(8 * n);
	put(h, RTA_DST, dst, n);
	put(h, RTA_SRC, src, n);
	put(h, RTA_IIF, &ingress_ifindex, 4);
	memset(out, 0, sizeof(*out));
	if (send(ask_fd, h, h->nlmsg_len, 0) < 0) {
		out->error = -errno;
		return;
	}
	ssize_t len = recv(ask_fd, buf, sizeof(buf), 0);
	const void *at = buf;
	size_t left = len > 0 ? (size_t)len : 0;
	if (!mr_rtnl_read(&at, &left, &got) || (got.kind != MR_RTNL_ROUTE && got.kind != MR_RTNL_ERROR)) {
		out->error = -EPROTO;
		return;
	}
	if (got.kind == MR_RTNL_ERROR) {
		out->error = got.error_code;
		return;
	}
	out->type = got.route.type;
	if (got.route.hop_cnt) {
		out->hop.ifindex = got.route.hop[0].ifindex;
		out->hop.family = got.route.hop[0].family ? got.route.hop[0].family : (uint8_t)family;
		memcpy(out->hop.addr, got.route.hop[0].family ? got.route.hop[0].gateway : dst,
			out->hop.family == 4 ? 4 : 16);
	}
}

/* ---- comparing ----------------------------------------------------------------------------------------------------- */

static struct mr_routes *mirror;
static unsigned compared, excused, forwarded, several, failures;
static char last[4096]; /* the commands of the last steps */

static bool same_hop(const struct hop *a, const struct hop *b)
{
	return a->ifindex == b->ifindex && a->family == b->family && !memcmp(a->addr, b->addr, sizeof(a->addr));
}

static bool is_ours(uint32_t i)
{
	return i == ingress_ifindex || i == ifindex[0] || i == ifindex[1] || i == ifindex[2];
}

static void wrong(
	unsigned family, const uint8_t *dst, const struct mr_route_answer *a, const struct answer *k, const char *what)
{
	char text[INET6_ADDRSTRLEN], gw[INET6_ADDRSTRLEN] = "-", ours[INET6_ADDRSTRLEN] = "-", words[1024] = "-";
	inet_ntop(family == 4 ? AF_INET : AF_INET6, dst, text, sizeof(text));
	if (k->hop.family)
		inet_ntop(k->hop.family == 4 ? AF_INET : AF_INET6, k->hop.addr, gw, sizeof(gw));
	if (a->verdict == MR_ROUTE_SLOT)
		inet_ntop(slots[a->slot - 1].family == 4 ? AF_INET : AF_INET6, slots[a->slot - 1].addr, ours,
			sizeof(ours));
	mr_routes_describe(mirror, family, dst, words, sizeof(words));
	if (failures++ < 20)
		tap_note("%s: %s: here verdict %u %s slot %u dev %u via %s; kernel error %d type %u dev %u via %s\n#   "
			 "here: "
			 "%s\n#   commands:\n%s",
			text, what, a->verdict, mr_reason_name(a->reason), a->slot,
			a->verdict == MR_ROUTE_SLOT ? slots[a->slot - 1].ifindex : 0, ours, k->error, k->type,
			k->hop.ifindex, gw, words, last);
}

static int errno_of(unsigned reason)
{
	switch (reason) {
	case MR_REASON_NO_ROUTE:
		return -ENETUNREACH;
	case MR_REASON_UNREACHABLE:
		return -EHOSTUNREACH;
	case MR_REASON_BLACKHOLE:
		return -EINVAL;
	case MR_REASON_PROHIBIT:
		return -EACCES;
	default:
		return 1;
	}
}

static void source(unsigned family, unsigned i, uint8_t *src)
{
	inet_pton(family == 4 ? AF_INET : AF_INET6, family == 4 ? "172.31.0.2" : "fd31::2", src);
	src[family == 4 ? 3 : 15] = (uint8_t)(2 + i % 250);
}

/* Several paths: every answer of one side is one of the other's. */
static void compare_sets(unsigned family, const uint8_t *dst)
{
	struct hop ours[SAMPLES], theirs[SAMPLES];
	unsigned n = 0, k = 0;
	struct mr_route_answer a = { 0 };
	struct answer ka;
	uint8_t src[16];
	for (unsigned i = 0; i < SAMPLES; i++) {
		mr_routes_lookup(mirror, INGRESS, family, dst, (i + 1) * 0x9e3779b97f4a7c15ULL, &a);
		if (a.verdict == MR_ROUTE_KERNEL) /* a member of a device that is not ours */
			continue;
		source(family, i, src);
		kernel_lookup(family, dst, src, &ka);
		if (ka.error || ka.type != RTN_UNICAST) {
			wrong(family, dst, &a, &ka, "one of several");
			return;
		}
		ours[n++] = slots[a.slot - 1];
		if (is_ours(ka.hop.ifindex))
			theirs[k++] = ka.hop;
	}
	for (unsigned side = 0; side < 2; side++) {
		const struct hop *x = side ? theirs : ours, *y = side ? ours : theirs;
		unsigned xn = side ? k : n, yn = side ? n : k;
		for (unsigned i = 0; i < xn; i++) {
			unsigned j = 0;
			while (j < yn && !same_hop(&x[i], &y[j]))
				j++;
			if (j == yn) {
				ka.hop = x[i];
				wrong(family, dst, &a, &ka,
					side ? "only the kernel goes there" : "only the mirror goes there");
				return;
			}
		}
	}
	several++;
}

static void compare(unsigned family, const uint8_t *dst)
{
	struct mr_route_answer a, b;
	struct answer k;
	uint8_t src[16];

	source(family, 0, src);
	kernel_lookup(family, dst, src, &k);
	mr_routes_lookup(mirror, INGRESS, family, dst, 1, &a);
	compared++;
	bool mixed = false;
	for (unsigned i = 2; i < 40 && !mixed; i++) {
		mr_routes_lookup(mirror, INGRESS, family, dst, i * 0x9e3779b97f4a7c15ULL, &b);
		mixed = b.verdict != a.verdict || b.slot != a.slot;
	}
	if (mixed) {
		compare_sets(family, dst);
		return;
	}
	switch (a.verdict) {
	case MR_ROUTE_SLOT:
		forwarded++;
		if (k.error || k.type != RTN_UNICAST || !same_hop(&slots[a.slot - 1], &k.hop))
			wrong(family, dst, &a, &k, "another way");
		break;
	case MR_ROUTE_DROP:
		if (errno_of(a.reason) != k.error)
			wrong(family, dst, &a, &k, "dropped");
		break;
	default:
		if (a.reason == MR_REASON_NONE && !k.error && k.type == RTN_UNICAST)
			wrong(family, dst, &a, &k, "taken for local");
		if (a.reason != MR_REASON_NONE && (k.error || is_ours(k.hop.ifindex)))
			excused++;
		break;
	}
}

/* ---- commands ------------------------------------------------------------------------------------------------------- */

static void run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *fmt, ...)
{
	char cmd[1024], line[1200];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	snprintf(line, sizeof(line), "exec ip %s 2>/dev/null", cmd);
	int status = system(line);
	size_t n = strlen(last), add = strlen(cmd) + 16;
	if (n + add >= sizeof(last)) {
		size_t cut = sizeof(last) / 2;
		while (cut < n && last[cut] != '\n')
			cut++;
		cut += cut < n;
		memmove(last, last + cut, n - cut + 1);
		n -= cut;
	}
	snprintf(last + n, sizeof(last) - n, "#     %s%s\n", cmd, status ? " (refused)" : "");
}

static bool settle(void)
{
	struct mr_routes_usage u;
	for (unsigned i = 0; i < 10000; i++) {
		struct pollfd p = { .fd = mr_routes_fd(mirror), .events = POLLIN };
		while (mr_routes_service(mirror))
			;
		mr_routes_usage(mirror, &u);
		if (u.synced && !poll(&p, 1, 0))
			return true;
		if (!u.synced)
			poll(&p, 1, 2);
		mr_routes_tick(mirror);
	}
	return false;
}

static const char *const prefixes4[] = { "0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.128/25",
	"10.1.2.129/32", "10.1.2.130/32", "100.64.0.0/10", "100.64.9.0/24", "198.18.0.0/15", "198.18.1.0/31",
	"10.200.1.64/26", "10.200.2.2/32" };
static const char *const prefixes6[] = { "::/0", "2000::/3", "2001:db8::/32", "2001:db8:1::/48", "2001:db8:1:2::/64",
	"2001:db8:1:2::/65", "2001:db8:1:2:8000::/65", "2001:db8:1:2::1/128", "2001:db8:1:2:8000::1/128", "fd00::/8",
	"fd20:1::/64", "2001:db8:f::/52" };

#define OF(a) ((a)[any(sizeof(a) / sizeof((a)[0]))])

static void hop_words(unsigned family, char *out, size_t bytes)
{
	unsigned dev = any(8) ? any(3) : 3, gw = 2 + any(3);
	if (family == 4 && !any(10))
		snprintf(out, bytes, "via inet6 fd20:%u::%u dev v%u", dev, gw, dev);
	else if (family == 4)
		snprintf(out, bytes, "via 10.200.%u.%u dev v%u", dev, gw, dev);
	else
		snprintf(out, bytes, "via fd20:%u::%u dev v%u", dev, gw, dev);
}

/* Routes added lately, so that what is deleted is there. */
#define RECENT 32
static struct {
	unsigned family;
	const char *prefix;
	const char *type;
	char words[512], member[96], metric[32];
} recent[RECENT];
static unsigned recent_cnt;
static char member[96]; /* of the route put into words last */

static void route_words(unsigned family, char *out, size_t bytes)
{
	char hop[4][96];
	unsigned what = any(20);
	for (unsigned i = 0; i < 4; i++)
		hop_words(family, hop[i], sizeof(hop[i]));
	snprintf(member, sizeof(member), "%s", hop[0]);
	if (what < 9)
		snprintf(out, bytes, "%s%s", hop[0], any(8) ? "" : " mtu 1300");
	else if (what < 13)
		snprintf(out, bytes, "nexthop %s weight %u nexthop %s weight %u", hop[0], 1 + any(4), hop[1],
			1 + any(4));
	else if (what < 14)
		snprintf(out, bytes, "nexthop %s nexthop %s nexthop %s", hop[0], hop[1], hop[2]);
	else if (what < 17)
		snprintf(out, bytes, "nhid %u", (family == 4 ? 1 : 21) + any(10));
	else if (what < 18)
		snprintf(out, bytes, "dev v%u", any(4));
	else
		snprintf(out, bytes, "%s", hop[0]);
}

static void route_command(void)
{
	static const char *const verbs[] = { "add", "add", "add", "replace", "replace", "append", "prepend", "change" };
	static const char *const types[] = { "unreachable", "blackhole", "prohibit" };
	unsigned family = any(2) ? 4 : 6;
	const char *prefix = family == 4 ? OF(prefixes4) : OF(prefixes6), *type = "";
	char words[512], metric[32] = "";
	if (any(2))
		snprintf(metric, sizeof(metric), "metric %u", 5 + any(3) * 100);
	route_words(family, words, sizeof(words));
	if (!any(8)) {
		type = OF(types);
		words[0] = '\0';
	}
	unsigned i = any(RECENT);
	if (any(3)) {
		run("-%u route %s %s %s %s %s", family, OF(verbs), type, prefix, words, metric);
		i = recent_cnt++ % RECENT;
		recent[i].family = family;
		recent[i].prefix = prefix;
		recent[i].type = type;
		snprintf(recent[i].words, sizeof(recent[i].words), "%s", words);
		snprintf(recent[i].member, sizeof(recent[i].member), "%s", member);
		snprintf(recent[i].metric, sizeof(recent[i].metric), "%s", metric);
	} else if (!any(6) || !recent[i].prefix) {
		run("-%u route del %s %s", family, prefix, metric);
	} else {
		run("-%u route del %s %s %s %s", recent[i].family, recent[i].type, recent[i].prefix,
			any(2) ? recent[i].words : recent[i].member, recent[i].metric);
	}
}

static void nexthop_command(void)
{
	unsigned family = any(2) ? 4 : 6, base = family == 4 ? 1 : 21;
	char hop[96];
	hop_words(family, hop, sizeof(hop));
	switch (any(8)) {
	case 0:
	case 1:
	case 2:
		run("nexthop replace id %u %s", base + any(6), hop);
		break;
	case 3:
		run("nexthop replace id %u blackhole%s", base + 6, family == 4 ? "" : "");
		break;
	case 4:
	case 5:
	case 6:
		run("nexthop replace id %u group %u,%u/%u,%u", base + 7 + any(3), base + any(3), 1 + any(4),
			base + 3 + any(3), 1 + any(4));
		break;
	default:
		run("nexthop del id %u", base + any(10));
		break;
	}
}

static void device_command(void)
{
	unsigned dev = any(DEVICES);
	switch (any(6)) {
	case 0:
		run("link set v%u down", dev);
		if (any(2)) {
			settle();
			run("link set v%u up", dev);
			run("-6 addr replace fd20:%u::1/64 dev v%u nodad", dev, dev);
		}
		break;
	case 1:
		run("link set v%u up", dev);
		run("-6 addr replace fd20:%u::1/64 dev v%u nodad", dev, dev);
		break;
	case 2:
		run("link set p%u down", dev);
		break;
	case 3:
		run("link set p%u up", dev);
		break;
	case 4:
		run("addr add 10.1.2.%u/%u dev v%u", 130 + any(3), 24 + any(9), dev);
		break;
	default:
		run("addr del 10.1.2.%u/24 dev v%u", 130 + any(3), dev);
		break;
	}
}

static void odd_command(void)
{
	switch (any(6)) {
	case 0:
		run("route replace local 198.18.0.0/15 dev lo table local");
		break;
	case 1:
		run("route del local 198.18.0.0/15 dev lo table local");
		break;
	case 2:
		run("-6 route replace local 2001:db8:f::/52 dev lo table local");
		break;
	case 3:
		run("-6 route del local 2001:db8:f::/52 dev lo table local");
		break;
	case 4:
		run("route replace 10.1.0.0/16 tos 0x10 via 10.200.0.2");
		break;
	default:
		run("route del 10.1.0.0/16 tos 0x10");
		break;
	}
}

static void step(void)
{
	unsigned what = any(20);
	if (what < 14)
		route_command();
	else if (what < 17)
		nexthop_command();
	else if (what < 19)
		device_command();
	else
		odd_command();
}

static void any_address(unsigned family, uint8_t *out)
{
	char text[64];
	memset(out, 0, 16);
	snprintf(text, sizeof(text), "%s", family == 4 ? OF(prefixes4) : OF(prefixes6));
	*strchr(text, '/') = '\0';
	inet_pton(family == 4 ? AF_INET : AF_INET6, text, out);
	unsigned n = family == 4 ? 4 : 16;
	switch (any(4)) {
	case 0:
		out[n - 1] = (uint8_t)(out[n - 1] + any(4));
		break;
	case 1:
		out[n - 2] = (uint8_t)any(256);
		break;
	case 2:
		out[any(n)] ^= (uint8_t)(1u << any(8));
		break;
	default:
		break;
	}
}

static void compare_some(unsigned cnt)
{
	uint8_t dst[16];
	for (unsigned i = 0; i < cnt; i++) {
		unsigned family = any(2) ? 4 : 6;
		any_address(family, dst);
		/* Multicast and the like: the kernel's code, not its tables. */
		if (family == 4 ? dst[0] == 0 || dst[0] == 127 || dst[0] >= 224 : dst[0] == 0 || dst[0] >= 0xfe)
			continue;
		compare(family, dst);
	}
}

/* ---- */

static void begin(void)
{
	if (unshare(CLONE_NEWNET)) {
		printf("1..0 # SKIP a network namespace: %s\n", strerror(errno));
		exit(77);
	}
	run("link set lo up");
	run("link add vin type veth peer name pin");
	run("link set pin up");
	run("link set vin up");
	run("addr add 172.31.0.1/16 dev vin");
	run("-6 addr add fd31::1/64 dev vin nodad");
	for (unsigned i = 0; i < DEVICES; i++) {
		run("link add v%u type veth peer name p%u", i, i);
		run("link set p%u up", i);
		run("link set v%u up", i);
		run("addr add 10.200.%u.1/24 dev v%u", i, i);
		run("-6 addr add fd20:%u::1/64 dev v%u nodad", i, i);
	}
	if (system("for d in all default vin v0 v1 v2 v3 p0 p1 p2 p3 pin; do echo 0 > "
		   "/proc/sys/net/ipv4/conf/$d/rp_filter; done;"
		   "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"))
		tap_note("some switches could not be set");
	ask_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	ingress_ifindex = if_nametoindex("vin");
	for (unsigned i = 0; i < DEVICES; i++) {
		char name[16];
		snprintf(name, sizeof(name), "v%u", i);
		ifindex[i] = if_nametoindex(name);
	}
}

static struct mr_routes *open_mirror(int receive_bytes)
{
	struct mr_routes_options opt = { .neighbours = (void *)slots, .receive_bytes = receive_bytes };
	struct mr_routes *r;
	struct mr_error e = { "" };
	if (mr_routes_create(&opt, &r, &e) == 0) {
		for (unsigned i = 0; i < 3; i++)
			mr_routes_interface(r, i + 1, ifindex[i]);
		mr_routes_interface(r, INGRESS, ingress_ifindex);
		if (mr_routes_open(r, &e) == 0)
			return r;
	}
	tap_case(false, "the mirror opens: %s", e.text);
	exit(tap_end());
}

static void say_unmirrored(void *ctx, const char *affects, const char *sentence)
{
	tap_note("%s: %s", affects, sentence);
}

static void test_random(unsigned steps)
{
	struct mr_routes_usage u;
	bool settled = true;
	for (unsigned i = 0; i < steps && settled && failures < 20; i++) {
		step();
		settled = settle();
		compare_some(24);
	}
	mr_routes_usage(mirror, &u);
	tap_note("%u lookups compared, %u of them forwarded by one path, %u by several, %u left to the kernel without "
		 "need",
		compared, forwarded, several, excused);
	tap_note("%llu messages, %llu IPv4 and %llu IPv6 routes, %llu paths, %llu sweeps",
		(unsigned long long)u.event_cnt, (unsigned long long)u.route_cnt[0], (unsigned long long)u.route_cnt[1],
		(unsigned long long)u.path_cnt, (unsigned long long)u.sweep_cnt);
	mr_routes_unmirrored(mirror, say_unmirrored, NULL);
	tap_case(settled, "the mirror comes to rest after every command");
	tap_case(!failures, "every answer is the kernel's");
	tap_case(forwarded > compared / 10 && several > 0, "many of them are forwarded, some by several paths");
	tap_case(excused < compared / 10, "few are left to the kernel without need");
}

/* Members of one route come and go one by one, and a route stands behind another of its metric: chance rarely gets there. */
static void test_members(void)
{
	static const char *const commands[] = { ("-6 route add 2001:db8:77::/48 nexthop via fd20:0::2 dev v0 nexthop "
						 "via fd20:1::2 dev v1 nexthop via fd20:2::2 dev v2"),
		"-6 route del 2001:db8:77::/48 via fd20:1::2 dev v1",
		"-6 route append 2001:db8:77::/48 via fd20:1::3 dev v1",
		"-6 route del 2001:db8:77::/48 via fd20:0::2 dev v0",
		"-6 route del 2001:db8:77::/48 via fd20:2::2 dev v2", "-6 route del 2001:db8:77::/48",
		"route add 10.77.0.0/16 via 10.200.0.2", "route append 10.77.0.0/16 via 10.200.1.2",
		"route prepend 10.77.0.0/16 via 10.200.2.2", "route replace 10.77.0.0/16 via 10.200.0.3",
		"route del 10.77.0.0/16 via 10.200.0.3", "route del 10.77.0.0/16 via 10.200.0.2",
		"route del 10.77.0.0/16", "nexthop add id 90 via 10.200.0.2 dev v0",
		"nexthop add id 91 via 10.200.1.2 dev v1", "nexthop add id 92 group 90/91,5",
		"route add 10.77.0.0/16 nhid 92", "route append 10.77.0.0/16 via 10.200.2.2",
		"route append 10.77.0.0/16 nhid 90", "nexthop replace id 90 via 10.200.0.4 dev v0", "nexthop del id 91",
		"nexthop del id 90" };
	uint8_t dst[2][16] = { { 10, 77, 1, 1 }, { 0 } };
	unsigned before = forwarded + several;
	inet_pton(AF_INET6, "2001:db8:77::1", dst[1]);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		run("%s", commands[i]);
		settle();
		compare(4, dst[0]);
		compare(6, dst[1]);
	}
	tap_case(!failures && forwarded + several > before + 12, "members of routes and groups that come and go");
}

/* A hundred thousand changes against a receive buffer for a few: everything is asked for again. */
static void test_overflow(void)
{
	struct mr_routes_usage u;
	failures = 0;
	for (unsigned i = 0; i < 3; i++) {
		run("link set v%u up", i);
		run("link set p%u up", i);
		run("addr replace 10.200.%u.1/24 dev v%u", i, i);
	}
	mr_routes_destroy(mirror);
	mirror = open_mirror(4096);
	FILE *f = popen("ip -force -batch - 2>/dev/null", "w");
	for (unsigned i = 0; f && i < 100000; i++) {
		unsigned n = i % 4 == 3 ? i - 1 : i; /* every fourth takes the one before away */
		char via[32] = "";
		if (n == i)
			snprintf(via, sizeof(via), "via 10.200.%u.2", i % 3);
		fprintf(f, "route %s 20.%u.%u.%u/32 %s\n", n == i ? "replace" : "del", n >> 16 & 255, n >> 8 & 255,
			n & 255, via);
	}
	while (f && mr_routes_service(mirror))
		;
	tap_case(f && pclose(f) >= 0, "100 000 changes made");
	tap_case(settle(), "the mirror comes to rest");
	mr_routes_usage(mirror, &u);
	tap_note(
		"%llu resyncs, %llu IPv4 routes", (unsigned long long)u.resync_cnt, (unsigned long long)u.route_cnt[0]);
	tap_case(u.resync_cnt > 0, "events were lost and asked for again");
	forwarded = 0;
	for (unsigned i = 0; i < 4000 && failures < 20; i++) {
		uint32_t n = any(100000);
		uint8_t dst[16] = { 20, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n };
		compare(4, dst);
	}
	tap_case(forwarded > 1000, "%u of 4000 lookups are forwarded", forwarded);
	compare_some(2000);
	tap_case(!failures, "and answers are the kernel's again");
	tap_case(neigh_begun && neigh_ended && devices_told, "neighbours and devices were told of");
}

int main(int argc, char **argv)
{
	unsigned steps = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1500;
	chance = argc > 2 ? strtoull(argv[2], NULL, 10) : 102;
	setvbuf(stdout, NULL, _IOLBF, 0);
	tap_note("%u steps, seed %llu", steps, (unsigned long long)chance);
	for (unsigned i = 0; i < 20; i++)
		any(2);
	begin();
	mirror = open_mirror(0);
	test_members();
	test_random(steps);
	test_overflow();
	mr_routes_destroy(mirror);
	return tap_end();
}
