/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench_routes.c - a full table: how long the mirror takes to load it, what it costs in memory, what a lookup costs.
 *
 * The routes are /24s (one in eight shorter or longer) of 64 gateways, first as messages prepared in memory, then, when namespaces may be
 * made, from a kernel that has them.  A lookup is a whole answer but for the next hop's slot, of which there is one.
 *
 *     bench_routes [--what load|memory] [--routes N] [--no-kernel]
 */
#include "core/route.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define GATEWAYS 64
#define DATAGRAM 32768
#define LOOKUPS  4000000u
#define TARGETS  65536u

/* One slot: the neighbours are measured elsewhere. */
uint16_t mr_neighbours_slot(
	struct mr_neighbours *t, uint32_t ifindex, unsigned family, const void *addr_be, uint16_t mtu, uint32_t now_ms)
{
	return 1;
}

void mr_neighbours_device(struct mr_neighbours *t, const struct mr_neighbour_device *d)
{
}

void mr_neighbours_heard(struct mr_neighbours *t, const struct mr_rtnl_neigh *n, bool deleted)
{
}

void mr_neighbours_dump_begin(struct mr_neighbours *t)
{
}

void mr_neighbours_dump_end(struct mr_neighbours *t)
{
}

static double now_s(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* Route i: scattered over the address space; few prefixes come twice. */
static void route(uint32_t i, uint32_t *addr, unsigned *bits)
{
	uint32_t a = (uint32_t)((uint64_t)i * 11184811u & 0xffffff); /* odd: a permutation of 24 bits */
	*bits = i % 8 ? 24 : 25;
	*addr = ((a % (200u << 16)) + (11u << 16)) << 8;
}

static void put(char *buf, size_t *n, unsigned type, const void *data, size_t bytes)
{
	struct rtattr a = { .rta_len = (unsigned short)RTA_LENGTH(bytes), .rta_type = (unsigned short)type };
	memcpy(buf + *n, &a, sizeof(a));
	memcpy(buf + *n + sizeof(a), data, bytes);
	*n += RTA_ALIGN(a.rta_len);
}

static size_t message(char *buf, uint32_t i, uint32_t ifindex)
{
	uint32_t addr, metric = 20;
	unsigned bits;
	route(i, &addr, &bits);
	struct rtmsg m = { .rtm_family = AF_INET,
		.rtm_dst_len = (unsigned char)bits,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = 12,
		.rtm_type = RTN_UNICAST };
	uint32_t dst_be = htonl(addr), gateway_be = htonl(0x0a000002u + i % GATEWAYS);
	size_t n = sizeof(struct nlmsghdr) + sizeof(m);
	memcpy(buf + sizeof(struct nlmsghdr), &m, sizeof(m));
	put(buf, &n, RTA_DST, &dst_be, 4);
	put(buf, &n, RTA_PRIORITY, &metric, 4);
	put(buf, &n, RTA_GATEWAY, &gateway_be, 4);
	put(buf, &n, RTA_OIF, &ifindex, 4);
	struct nlmsghdr h = { .nlmsg_len = (uint32_t)n, .nlmsg_type = RTM_NEWROUTE, .nlmsg_flags = NLM_F_APPEND };
	memcpy(buf, &h, sizeof(h));
	return n;
}

struct result {
	double load_s, lookup_ns, worst_ms;
	struct mr_routes_usage usage;
};

static void lookups(struct mr_routes *r, uint32_t routes, struct result *out)
{
	uint32_t *target = malloc(TARGETS * sizeof(*target));
	struct mr_route_answer a;
	unsigned found = 0;
	if (!target)
		return;
	for (uint32_t i = 0; i < TARGETS; i++) {
		unsigned bits;
		route((uint32_t)((uint64_t)i * 7919 % routes), &target[i], &bits);
		target[i] = htonl(target[i] + (i & 63));
	}
	double begin = now_s();
	for (uint32_t i = 0; i < LOOKUPS; i++) {
		mr_routes_lookup(r, 1, 4, &target[(i * 40503u) % TARGETS], i, &a);
		found += a.verdict == MR_ROUTE_SLOT;
	}
	out->lookup_ns = (now_s() - begin) / LOOKUPS * 1e9;
	if (found != LOOKUPS)
		fprintf(stderr, "only %u of %u lookups found a route\n", found, LOOKUPS);
	free(target);
}

static struct mr_routes *create(uint32_t ifindex)
{
	struct mr_routes_options opt = { .neighbours = (void *)1 };
	struct mr_routes *r;
	struct mr_error e = { "" };
	if (mr_routes_create(&opt, &r, &e)) {
		fprintf(stderr, "%s\n", e.text);
		exit(1);
	}
	mr_routes_interface(r, 1, ifindex);
	return r;
}

static void fed(uint32_t routes, struct result *out)
{
	char *buf = malloc(((size_t)routes + 1) * 128), *end = buf;
	struct mr_routes *r = create(5);
	if (!buf)
		exit(1);
	for (uint32_t i = 0; i < routes; i++)
		end += message(end, i, 5);
	double begin = now_s();
	for (char *at = buf; at < end;) {
		size_t n = 0;
		while (at + n < end && n < DATAGRAM - 128)
			n += ((struct nlmsghdr *)(void *)(at + n))->nlmsg_len;
		double one = now_s();
		mr_routes_feed(r, at, n);
		one = (now_s() - one) * 1e3;
		out->worst_ms = one > out->worst_ms ? one : out->worst_ms;
		at += n;
	}
	out->load_s = now_s() - begin;
	mr_routes_usage(r, &out->usage);
	lookups(r, routes, out);
	mr_routes_destroy(r);
	free(buf);
}

static int from_kernel(uint32_t routes, struct result *out, double *kernel_s)
{
	struct mr_error e = { "" };
	if (unshare(CLONE_NEWNET) ||
		system("ip link set lo up; ip link add w type veth peer name x; ip link set x up; ip link set w up;"
		       "ip addr add 10.0.0.1/24 dev w"))
		return -EPERM;
	FILE *f = popen("ip -force -batch -", "w");
	if (!f)
		return -errno;
	double begin = now_s();
	for (uint32_t i = 0; i < routes; i++) {
		uint32_t addr;
		unsigned bits;
		route(i, &addr, &bits);
		fprintf(f, "route append %u.%u.%u.%u/%u via 10.0.0.%u metric 20\n", addr >> 24, addr >> 16 & 255,
			addr >> 8 & 255, addr & 255, bits, 2 + i % GATEWAYS);
	}
	pclose(f);
	*kernel_s = now_s() - begin;
	struct mr_routes *r = create(if_nametoindex("w"));
	begin = now_s();
	int err = mr_routes_open(r, &e);
	out->load_s = now_s() - begin;
	if (err)
		fprintf(stderr, "%s\n", e.text);
	mr_routes_usage(r, &out->usage);
	if (!err)
		lookups(r, routes, out);
	mr_routes_destroy(r);
	return err;
}

static void tell(const char *what, const char *from, const struct result *x)
{
	double cnt = (double)(x->usage.route_cnt[0] + x->usage.route_cnt[1]);
	double per_route = (double)x->usage.bytes / cnt;
	fprintf(stderr,
		"%-8s %9.0f routes in %6.3f s, %6.1f bytes a route (%llu in all), lookup %5.1f ns, longest datagram "
		"%.2f ms\n",
		from, cnt, x->load_s, per_route, (unsigned long long)x->usage.bytes, x->lookup_ns, x->worst_ms);
	if (what)
		printf("{\"series\": \"from %s\", \"value\": %.1f}\n", from,
			strcmp(what, "memory") != 0 ? x->load_s * 1000 : per_route);
}

int main(int argc, char **argv)
{
	uint32_t routes = 1000000;
	const char *what = NULL;
	bool kernel = true;
	struct result a = { 0 }, b = { 0 };
	double kernel_s = 0;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--what") && i + 1 < argc)
			what = argv[++i];
		else if (!strcmp(argv[i], "--no-kernel"))
			kernel = false;
		else if (!strcmp(argv[i], "--routes") && i + 1 < argc)
			routes = (uint32_t)strtoul(argv[++i], NULL, 10);
	}
	if (!routes || routes > 1u << 24 || (what && strcmp(what, "load") != 0 && strcmp(what, "memory") != 0))
		return 2;
	fed(routes, &a);
	tell(what, "messages in memory", &a);
	if (!kernel)
		return 0;
	if (from_kernel(routes, &b, &kernel_s))
		return 77;
	tell(what, "a kernel", &b);
	fprintf(stderr, "`ip -batch` took %.1f s to give them to the kernel\n", kernel_s);
	return 0;
}
