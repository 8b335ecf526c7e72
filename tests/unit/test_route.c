/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_route.c - answers, versions, several next hops, sources, rules; and readers while routes change.
 *
 * The messages are made here; that the mirror follows a real kernel is tests/netns/test_mirror.c.
 */
#include "core/reason.h"
#include "core/route.h"
#include "core/route_table.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <linux/fib_rules.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- next hops: the slot is the last byte of the address, devices are remembered ---- */

static struct mr_neighbour_device told[16];
static uint16_t told_mtu;

uint16_t mr_neighbours_slot(
	struct mr_neighbours *t, uint32_t ifindex, unsigned family, const void *addr_be, uint16_t mtu, uint32_t now_ms)
{
	__atomic_store_n(&told_mtu, mtu, __ATOMIC_RELAXED);
	return (uint16_t)(ifindex << 8 | ((const uint8_t *)addr_be)[family == 4 ? 3 : 15]);
}

void mr_neighbours_device(struct mr_neighbours *t, const struct mr_neighbour_device *d)
{
	told[d->ifindex % 16] = *d;
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

/* ---- messages ---- */

static struct mr_routes *r;
static unsigned swept;
static char buf[4096];
static size_t n;

static void put(unsigned type, const void *data, size_t bytes)
{
	struct rtattr a = { .rta_len = (unsigned short)RTA_LENGTH(bytes), .rta_type = (unsigned short)type };
	memcpy(buf + n, &a, sizeof(a));
	if (bytes)
		memcpy(buf + n + sizeof(a), data, bytes);
	n += RTA_ALIGN(a.rta_len);
}

static void begin(const void *head, size_t bytes)
{
	memset(buf, 0, sizeof(buf));
	n = sizeof(struct nlmsghdr) + bytes;
	memcpy(buf + sizeof(struct nlmsghdr), head, bytes);
}

static void feed_last(void)
{
	mr_routes_feed(r, buf, n);
}

static void (*feeds)(void) = feed_last;

static void send_it(unsigned type, unsigned flags)
{
	struct nlmsghdr h = { .nlmsg_len = (uint32_t)n, .nlmsg_type = (uint16_t)type, .nlmsg_flags = (uint16_t)flags };
	memcpy(buf, &h, sizeof(h));
	feeds();
}

static void link_is(uint32_t ifindex, unsigned flags, uint32_t lower, uint16_t vlan, uint32_t master)
{
	struct ifinfomsg m = { .ifi_index = (int)ifindex, .ifi_type = 1, .ifi_flags = flags };
	uint8_t mac[6] = { 2, 0, 0, 0, 0, (uint8_t)ifindex };
	uint32_t mtu = 1500;
	begin(&m, sizeof(m));
	put(IFLA_IFNAME, "dev", 4);
	put(IFLA_ADDRESS, mac, 6);
	put(IFLA_MTU, &mtu, 4);
	if (master)
		put(IFLA_MASTER, &master, 4);
	if (vlan) {
		put(IFLA_LINK, &lower, 4);
		size_t info = n;
		put(IFLA_LINKINFO, NULL, 0);
		put(IFLA_INFO_KIND, "vlan", 5);
		size_t data = n;
		put(IFLA_INFO_DATA, NULL, 0);
		put(IFLA_VLAN_ID, &vlan, 2);
		uint16_t len[2] = { (uint16_t)(n - info), (uint16_t)(n - data) };
		memcpy(buf + info, &len[0], 2);
		memcpy(buf + data, &len[1], 2);
	}
	send_it(RTM_NEWLINK, 0);
}

#define UP (IFF_UP | IFF_RUNNING)

/* gateways: "10.0.0.2@1 10.0.0.3@2*3": address, device, weight */
static void route_msg(unsigned type, const char *prefix, unsigned bits, unsigned rtn, const char *gateways)
{
	bool v6 = strchr(prefix, ':');
	struct rtmsg m = { .rtm_family = v6 ? AF_INET6 : AF_INET,
		.rtm_dst_len = (unsigned char)bits,
		.rtm_table = rtn == RTN_LOCAL ? RT_TABLE_LOCAL : RT_TABLE_MAIN,
		.rtm_type = (unsigned char)rtn };
	uint8_t addr[16];
	char text[256], *save = NULL;
	inet_pton(m.rtm_family, prefix, addr);
	begin(&m, sizeof(m));
	put(RTA_DST, addr, v6 ? 16 : 4);
	size_t nest = n;
	snprintf(text, sizeof(text), "%s", gateways);
	if (*gateways)
		put(RTA_MULTIPATH, NULL, 0);
	for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		char *at = strchr(w, '@'), *star = strchr(at, '*');
		*at = '\0';
		size_t hop = n;
		struct rtnexthop nh = { .rtnh_ifindex = atoi(at + 1),
			.rtnh_hops = (unsigned char)(star ? atoi(star + 1) - 1 : 0) };
		n += sizeof(nh);
		inet_pton(m.rtm_family, w, addr);
		put(RTA_GATEWAY, addr, v6 ? 16 : 4);
		nh.rtnh_len = (unsigned short)(n - hop);
		memcpy(buf + hop, &nh, sizeof(nh));
	}
	uint16_t len = (uint16_t)(n - nest);
	if (*gateways)
		memcpy(buf + nest, &len, 2);
	send_it(type, 0);
}

static struct mr_route_answer ask(const char *dst, uint64_t hash)
{
	struct mr_route_answer a;
	uint8_t addr[16];
	bool v6 = strchr(dst, ':');
	inet_pton(v6 ? AF_INET6 : AF_INET, dst, addr);
	mr_routes_lookup(r, 1, v6 ? 6 : 4, addr, hash * 0x9e3779b97f4a7c15ULL, &a);
	return a;
}

static void sweep(void *ctx)
{
	swept++;
}

/* Where others look, as the kernel tier does. */
static uint8_t versions[2][MR_ROUTE_BUCKETS];
static __u64 tags[MR_MAX_INTERFACES + 1][MR_ROUTE_VLAN_WORDS];

static void up(void)
{
	struct mr_routes_options opt = {
		.neighbours = (void *)&told, .sweep = sweep, .version = versions, .vlan = tags
	};
	cr_assert_eq(mr_routes_create(&opt, &r, NULL), 0);
	for (uint32_t i = 1; i <= 3; i++)
		link_is(i, UP, 0, 0, 0);
	link_is(9, UP, 0, 0, 0);
	for (unsigned i = 1; i <= 3; i++)
		mr_routes_interface(r, i, i);
}

static void down(void)
{
	mr_routes_destroy(r);
}

static void is(const char *dst, unsigned verdict, unsigned reason)
{
	struct mr_route_answer a = ask(dst, 1);
	cr_assert(a.verdict == verdict && a.reason == reason, "%s: verdict %u reason %u", dst, a.verdict, a.reason);
}

TestSuite(route, .init = up, .fini = down);

Test(route, verdicts)
{
	is("198.51.100.1", MR_ROUTE_DROP, MR_REASON_NO_ROUTE);
	is("2001:db8::1", MR_ROUTE_DROP, MR_REASON_NO_ROUTE);
	route_msg(RTM_NEWROUTE, "0.0.0.0", 0, RTN_UNICAST, "10.0.0.2@1");
	route_msg(RTM_NEWROUTE, "198.51.100.0", 24, RTN_UNREACHABLE, "");
	route_msg(RTM_NEWROUTE, "198.51.101.0", 24, RTN_BLACKHOLE, "");
	route_msg(RTM_NEWROUTE, "198.51.102.0", 24, RTN_PROHIBIT, "");
	route_msg(RTM_NEWROUTE, "198.51.103.0", 24, RTN_THROW, "");
	route_msg(RTM_NEWROUTE, "198.51.104.0", 24, RTN_UNICAST, "10.0.0.2@9");
	route_msg(RTM_NEWROUTE, "198.51.105.0", 24, RTN_LOCAL, "");
	route_msg(RTM_NEWROUTE, "198.51.105.7", 32, RTN_UNICAST, "10.0.0.2@1");
	is("198.51.100.1", MR_ROUTE_DROP, MR_REASON_UNREACHABLE);
	is("198.51.101.1", MR_ROUTE_DROP, MR_REASON_BLACKHOLE);
	is("198.51.102.1", MR_ROUTE_DROP, MR_REASON_PROHIBIT);
	is("198.51.103.1", MR_ROUTE_KERNEL, MR_REASON_UNMIRRORED);
	is("198.51.104.1", MR_ROUTE_KERNEL, MR_REASON_UNMIRRORED);
	is("198.51.105.1", MR_ROUTE_KERNEL, MR_REASON_NONE);
	is("198.51.105.7", MR_ROUTE_KERNEL, MR_REASON_UNMIRRORED);
	is("224.0.0.5", MR_ROUTE_KERNEL, MR_REASON_NONE);
	is("255.255.255.255", MR_ROUTE_KERNEL, MR_REASON_NONE);
	is("127.0.0.1", MR_ROUTE_KERNEL, MR_REASON_NONE);
	is("ff02::1", MR_ROUTE_KERNEL, MR_REASON_NONE);
	is("fe80::1", MR_ROUTE_KERNEL, MR_REASON_NONE);
	is("203.0.113.1", MR_ROUTE_SLOT, MR_REASON_NONE);
	cr_assert_eq(ask("203.0.113.1", 1).slot, 0x102);
	route_msg(RTM_DELROUTE, "198.51.105.0", 24, RTN_LOCAL, "");
	is("198.51.105.7", MR_ROUTE_SLOT, MR_REASON_NONE);
}

Test(route, versions_move_with_their_prefix_only)
{
	uint8_t before = ask("198.51.100.1", 1).version, other = ask("10.0.0.1", 1).version;
	route_msg(RTM_NEWROUTE, "198.51.100.0", 24, RTN_UNICAST, "10.0.0.2@1");
	cr_assert_neq(ask("198.51.100.1", 1).version, before);
	cr_assert_eq(ask("10.0.0.1", 1).version, other);
	const uint8_t *v = mr_routes_versions(r, 4);
	cr_assert_eq(v[198 << 4 | 51 >> 4], ask("198.51.100.1", 1).version);
	cr_assert_eq(v, versions[0], "in the memory that was given");
	cr_assert_eq(mr_routes_versions(r, 6), versions[1]);
	route_msg(RTM_NEWROUTE, "10.0.0.0", 8, RTN_UNICAST, "10.0.0.2@1");
	cr_assert_neq(ask("10.255.0.1", 1).version, other, "a short prefix lies in several buckets");
	before = ask("2001:db8::1", 1).version;
	route_msg(RTM_NEWROUTE, "2001:db8::", 32, RTN_UNICAST, "fd00::2@1");
	cr_assert_neq(ask("2001:db8::1", 1).version, before);
}

Test(route, a_sweep_comes_before_versions_come_round)
{
	unsigned since = 0;
	for (unsigned i = 0; i < 1000; i++) {
		unsigned had = swept;
		route_msg(i % 2 ? RTM_DELROUTE : RTM_NEWROUTE, "198.51.100.0", 24, RTN_UNICAST, "10.0.0.2@1");
		since = swept == had ? since + 1 : 0;
		cr_assert_lt(since, 65u);
	}
	cr_assert_geq(swept, 15u);
}

#define FLOWS 20000

Test(route, a_member_that_goes_moves_its_own_flows_only)
{
	static uint16_t was[FLOWS];
	unsigned cnt[4] = { 0 };
	route_msg(RTM_NEWROUTE, "198.18.0.0", 15, RTN_UNICAST, "10.0.0.2@1*1 10.0.0.2@2*2 10.0.0.2@3*5");
	for (unsigned i = 0; i < FLOWS; i++) {
		was[i] = ask("198.18.7.7", i + 1).slot;
		cnt[was[i] >> 8]++;
	}
	cr_assert(cnt[1] > FLOWS / 8 * 0.8 && cnt[1] < FLOWS / 8 * 1.2, "weight 1 of 8: %u of %u", cnt[1], FLOWS);
	cr_assert(cnt[3] > FLOWS / 8 * 4.6 && cnt[3] < FLOWS / 8 * 5.4, "weight 5 of 8: %u of %u", cnt[3], FLOWS);
	uint8_t version = ask("198.18.7.7", 1).version;
	link_is(2, 0, 0, 0, 0);
	cr_assert_neq(ask("198.18.7.7", 1).version, version, "flows must look again");
	cr_assert_not(told[2].up);
	for (unsigned i = 0; i < FLOWS; i++) {
		uint16_t now = ask("198.18.7.7", i + 1).slot;
		cr_assert(was[i] >> 8 == 2 ? now >> 8 != 2 : now == was[i]);
	}
	link_is(2, UP, 0, 0, 0);
	for (unsigned i = 0; i < FLOWS; i++)
		cr_assert_eq(ask("198.18.7.7", i + 1).slot, was[i], "and they come back");
}

Test(route, a_device_that_goes_down_takes_its_routes_along)
{
	route_msg(RTM_NEWROUTE, "0.0.0.0", 0, RTN_UNICAST, "10.0.0.3@3");
	route_msg(RTM_NEWROUTE, "198.51.100.0", 24, RTN_UNICAST, "10.0.0.2@1");
	cr_assert_eq(ask("198.51.100.1", 1).slot, 0x102);
	link_is(1, 0, 0, 0, 0);
	cr_assert_eq(ask("198.51.100.1", 1).slot, 0x303, "the shorter prefix has it now");
	link_is(1, UP, 0, 0, 0);
	cr_assert_eq(ask("198.51.100.1", 1).slot, 0x303, "the kernel has forgotten the route");
	route_msg(RTM_NEWROUTE, "198.51.100.0", 24, RTN_UNICAST, "10.0.0.2@1");
	cr_assert_eq(ask("198.51.100.1", 1).slot, 0x102);
}

/* What feeding does, but for the walk over all prefixes that follows it in slices. */
static void hear_last(void)
{
	const void *data = buf;
	size_t bytes = n;
	struct mr_rtnl m;
	while (mr_rtnl_read(&data, &bytes, &m)) {
		if (m.kind == MR_RTNL_LINK)
			mr_route_link_heard(r, &m, false);
		else if (m.kind == MR_RTNL_ROUTE)
			mr_route_heard(r, &m, false);
	}
}

static void route_nr(unsigned i, const char *gateway)
{
	char prefix[32];
	snprintf(prefix, sizeof(prefix), "100.%u.%u.0", i / 256, i % 256);
	route_msg(RTM_NEWROUTE, prefix, 24, RTN_UNICAST, gateway);
}

Test(route, routes_that_go_while_others_come_all_go)
{
	enum { OLD = 300, NEW = 500 };
	for (unsigned i = 0; i < OLD; i++)
		route_nr(i, "10.0.0.2@1");
	link_is(3, 0, 0, 0, 0); /* a walk before: the next one begins where it ended */
	link_is(3, UP, 0, 0, 0);
	mr_prefixes_walk(r, 0, true);
	while (mr_prefixes_walk_some(r, 7))
		;
	feeds = hear_last;
	link_is(1, 0, 0, 0, 0);
	for (unsigned i = 0; i < NEW; i++) {
		route_nr(OLD + i, "10.0.0.3@3");
		mr_prefixes_walk_some(r, 1);
	}
	while (mr_prefixes_walk_some(r, 7))
		;
	mr_route_round_end(r);
	for (unsigned i = 0; i < OLD; i++) {
		char dst[32];
		snprintf(dst, sizeof(dst), "100.%u.%u.1", i / 256, i % 256);
		is(dst, MR_ROUTE_DROP, MR_REASON_NO_ROUTE);
	}
	is("100.2.0.1", MR_ROUTE_SLOT, MR_REASON_NONE);
}

Test(route, a_route_forgotten_by_a_later_walk_leaves_no_way_behind)
{
	route_nr(0, "10.0.0.2@1");
	feeds = hear_last;
	link_is(1, 0, 0, 0, 0);
	r->prefixes[0].walk_left = 0; /* as if this walk had been over before it came there */
	for (uint32_t i = 1; i < r->path_top; i++)
		r->path[i].revisit = false;
	link_is(2, 0, 0, 0, 0);
	mr_prefixes_walk(r, 0, false);
	while (mr_prefixes_walk_some(r, 7))
		;
	mr_route_round_end(r);
	route_nr(1, "10.0.0.3@3"); /* by the number that became free */
	mr_route_round_end(r);
	is("100.0.0.1", MR_ROUTE_DROP, MR_REASON_NO_ROUTE);
	is("100.0.1.1", MR_ROUTE_SLOT, MR_REASON_NONE);
}

Test(route, vlan_devices_over_an_interface_are_ours)
{
	route_msg(RTM_NEWROUTE, "198.51.100.0", 24, RTN_UNICAST, "10.0.0.2@7");
	is("198.51.100.1", MR_ROUTE_KERNEL, MR_REASON_UNMIRRORED);
	link_is(7, UP, 2, 30, 0);
	is("198.51.100.1", MR_ROUTE_SLOT, MR_REASON_NONE);
	cr_assert(told[7].interface_id == 2 && told[7].vlan == 30 && told[7].up && told[7].mac[5] == 7);
	cr_assert(mr_routes_takes_tag(r, 2, 1, 30) && !mr_routes_takes_tag(r, 2, 1, 31));
	cr_assert_eq(tags[2][0], 1ULL << 30, "where others see it too");
	mr_routes_interface(r, 2, 0);
	is("198.51.100.1", MR_ROUTE_KERNEL, MR_REASON_UNMIRRORED);
	cr_assert_eq(told[7].interface_id, 0);
}

/* gateway NULL: a group of the members, the last 0 */
static void object(uint32_t id, const char *gateway, uint32_t ifindex, const uint32_t *member)
{
	struct nhmsg m = { .nh_family = gateway ? AF_INET : AF_UNSPEC };
	struct nexthop_grp group[8] = { 0 };
	uint8_t addr[4];
	unsigned cnt = 0;
	begin(&m, sizeof(m));
	put(NHA_ID, &id, 4);
	if (gateway) {
		inet_pton(AF_INET, gateway, addr);
		put(NHA_OIF, &ifindex, 4);
		put(NHA_GATEWAY, addr, 4);
	} else {
		for (; member[cnt]; cnt++)
			group[cnt].id = member[cnt];
		put(NHA_GROUP, group, cnt * sizeof(group[0]));
	}
	send_it(RTM_NEWNEXTHOP, 0);
}

static void route_by_object(const char *prefix, uint32_t id)
{
	struct rtmsg m = {
		.rtm_family = AF_INET, .rtm_dst_len = 24, .rtm_table = RT_TABLE_MAIN, .rtm_type = RTN_UNICAST
	};
	uint8_t addr[4];
	inet_pton(AF_INET, prefix, addr);
	begin(&m, sizeof(m));
	put(RTA_DST, addr, 4);
	put(RTA_NH_ID, &id, 4);
	send_it(RTM_NEWROUTE, 0);
}

static const void *view_of(const char *dst)
{
	__be32 addr_be;
	inet_pton(AF_INET, dst, &addr_be);
	return atomic_load(&r->view[0][mr_fib_lookup4(r->fib, addr_be)]);
}

Test(route, an_object_that_changes_is_the_business_of_its_own_paths)
{
	static const char *const dst[] = { "100.0.1.1", "100.0.2.1", "100.0.3.1", "100.0.4.1" };
	const void *was[4];
	object(1, "10.0.0.2", 1, NULL);
	object(2, "10.0.0.3", 2, NULL);
	object(3, "10.0.0.4", 3, NULL);
	object(4, NULL, 0, (const uint32_t[]){ 1, 2, 0 });
	object(5, NULL, 0, (const uint32_t[]){ 2, 3, 0 });
	route_by_object("100.0.1.0", 1);
	route_by_object("100.0.2.0", 2);
	route_by_object("100.0.3.0", 4);
	route_by_object("100.0.4.0", 5);
	for (unsigned i = 0; i < 4; i++)
		was[i] = view_of(dst[i]);
	cr_assert_eq(ask(dst[0], 1).slot, 0x102);
	uint8_t version = ask(dst[2], 1).version;
	object(1, "10.0.0.9", 1, NULL);
	cr_assert_eq(ask(dst[0], 1).slot, 0x109);
	cr_assert_neq(ask(dst[2], 1).version, version);
	cr_assert_neq(view_of(dst[0]), was[0]);
	cr_assert_eq(view_of(dst[1]), was[1]);
	cr_assert_neq(view_of(dst[2]), was[2], "a group it is in");
	cr_assert_eq(view_of(dst[3]), was[3], "a table of many groups is not made again for each of them");
	for (unsigned i = 0; i < 4; i++)
		was[i] = view_of(dst[i]);
	object(5, NULL, 0, (const uint32_t[]){ 3, 0 });
	cr_assert_eq(ask(dst[3], 1).slot, 0x304);
	cr_assert_eq(view_of(dst[2]), was[2]);
}

Test(route, a_tag_without_a_device_is_none_of_ours)
{
	link_is(7, UP, 2, 30, 0);
	cr_assert(mr_routes_takes_tag(r, 2, 1, 30));
	cr_assert(mr_routes_takes_tag(r, 2, 1, 0xe000 | 30), "with a priority");
	cr_assert(mr_routes_takes_tag(r, 2, 1, 0xe000), "nothing but a priority");
	cr_assert_not(mr_routes_takes_tag(r, 2, 1, 31));
	cr_assert_not(mr_routes_takes_tag(r, 2, 2, 30), "and another one within");
	cr_assert_not(mr_routes_takes_tag(r, 1, 1, 30), "over another interface");
	link_is(7, 0, 2, 30, 0);
	cr_assert_not(mr_routes_takes_tag(r, 2, 1, 30), "down");
	link_is(7, UP, 2, 30, 0);
	cr_assert(mr_routes_takes_tag(r, 2, 1, 30));
	mr_routes_interface(r, 2, 0);
	cr_assert(mr_routes_takes_tag(r, 2, 1, 31), "nothing is known of an interface that is no device");
	mr_routes_interface(r, 2, 2);
	cr_assert_not(mr_routes_takes_tag(r, 2, 1, 31));
}

Test(route, what_belongs_to_another_device_is_the_kernels)
{
	route_msg(RTM_NEWROUTE, "0.0.0.0", 0, RTN_UNICAST, "10.0.0.3@3");
	link_is(1, UP, 0, 0, 40);
	is("198.51.100.1", MR_ROUTE_KERNEL, MR_REASON_UNMIRRORED);
	link_is(1, UP, 0, 0, 0);
	is("198.51.100.1", MR_ROUTE_SLOT, MR_REASON_NONE);
}

static void count_sentence(void *ctx, const char *affects, const char *sentence)
{
	(*(unsigned *)ctx)++;
	cr_assert_str_eq(affects, "ipv4");
	cr_assert(strstr(sentence, "100: from all fwmark 0x1 lookup 100"), "%s", sentence);
}

Test(route, a_rule_leaves_its_family_to_the_kernel)
{
	struct fib_rule_hdr m = { .family = AF_INET, .action = FR_ACT_TO_TBL, .table = 100 };
	uint32_t priority = 100, mark = 1;
	unsigned sentences = 0;
	route_msg(RTM_NEWROUTE, "0.0.0.0", 0, RTN_UNICAST, "10.0.0.3@3");
	route_msg(RTM_NEWROUTE, "2001:db8::", 32, RTN_UNICAST, "fd00::2@1");
	for (unsigned i = 0; i < 2; i++) {
		begin(&m, sizeof(m));
		put(FRA_PRIORITY, &priority, 4);
		put(FRA_FWMARK, &mark, 4);
		send_it(i ? RTM_DELRULE : RTM_NEWRULE, 0);
		is("198.51.100.1", i ? MR_ROUTE_SLOT : MR_ROUTE_KERNEL, i ? MR_REASON_NONE : MR_REASON_UNMIRRORED);
		is("2001:db8::1", MR_ROUTE_SLOT, MR_REASON_NONE);
		mr_routes_unmirrored(r, count_sentence, &sentences);
	}
	cr_assert_eq(sentences, 1u);
}

static void address(uint32_t ifindex, const char *text, unsigned bits, unsigned flags)
{
	bool v6 = strchr(text, ':');
	struct ifaddrmsg m = { .ifa_family = v6 ? AF_INET6 : AF_INET,
		.ifa_prefixlen = (unsigned char)bits,
		.ifa_index = ifindex,
		.ifa_flags = (unsigned char)flags };
	uint8_t addr[16];
	inet_pton(m.ifa_family, text, addr);
	m.ifa_scope = v6 && addr[0] == 0xfe ? RT_SCOPE_LINK : addr[0] == 127 ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;
	begin(&m, sizeof(m));
	put(IFA_ADDRESS, addr, v6 ? 16 : 4);
	send_it(RTM_NEWADDR, 0);
}

static void source_is(unsigned id, const char *dst, const char *want)
{
	uint8_t addr[16], src[16];
	char text[INET6_ADDRSTRLEN];
	bool v6 = strchr(dst, ':');
	inet_pton(v6 ? AF_INET6 : AF_INET, dst, addr);
	cr_assert_eq(mr_routes_source(r, id, v6 ? 6 : 4, addr, src), want != NULL);
	if (want)
		cr_assert_str_eq(inet_ntop(v6 ? AF_INET6 : AF_INET, src, text, sizeof(text)), want);
}

Test(route, sources_of_errors)
{
	source_is(1, "198.51.100.1", NULL);
	address(9, "127.0.0.1", 8, 0);
	source_is(1, "198.51.100.1", NULL);
	address(2, "10.2.0.1", 24, 0);
	source_is(1, "198.51.100.1", "10.2.0.1"); /* any of the box */
	address(1, "10.1.1.1", 24, IFA_F_SECONDARY);
	address(1, "10.1.0.1", 24, 0);
	source_is(1, "198.51.100.1", "10.1.0.1"); /* of the interface, the primary one */
	source_is(1, "10.1.1.77", "10.1.1.1");    /* the one that is on its subnet */
	source_is(2, "10.1.1.77", "10.2.0.1");
	address(1, "fe80::1", 64, 0);
	source_is(1, "2001:db8::1", NULL); /* link-local addresses go no further than the link */
	source_is(1, "fe80::77", "fe80::1");
	address(1, "2001:db8:1::1", 64, IFA_F_TENTATIVE);
	source_is(1, "2001:db8::1", NULL);
	address(1, "2001:db8:1::1", 64, 0);
	source_is(1, "2001:db8::1", "2001:db8:1::1");
}

/* ---- readers while everything changes ---- */

static struct mr_epoch *epoch;
static bool stop;
static unsigned wrong_answers;

static void *reader(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	uint8_t dst[4] = { 198, 18, 0, 1 }, src[4];
	mr_epoch_online(epoch, me);
	for (uint64_t i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++) {
		struct mr_route_answer a;
		dst[2] = (uint8_t)i;
		mr_routes_lookup(r, 1, 4, dst, i * 0x9e3779b97f4a7c15ULL, &a);
		/* Always one of those it was ever to go by, or, for the moment a device is down, the kernel. */
		bool good = a.verdict == MR_ROUTE_KERNEL ||
			(a.verdict == MR_ROUTE_SLOT && ((a.slot & 0xff) == 2 || (a.slot & 0xff) == 3));
		if (!good)
			__atomic_fetch_add(&wrong_answers, 1, __ATOMIC_RELAXED);
		mr_routes_source(r, 1, 4, dst, src);
		if (i % 32 == 31)
			mr_epoch_quiet(epoch, me);
	}
	mr_epoch_offline(epoch, me);
	return NULL;
}

Test(route, readers_see_the_old_or_the_new, .timeout = 60)
{
	struct mr_routes_options opt = { .neighbours = (void *)&told };
	pthread_t t[2];
	mr_routes_destroy(r);
	epoch = mr_epoch_create();
	opt.epoch = epoch;
	cr_assert_eq(mr_routes_create(&opt, &r, NULL), 0);
	for (uint32_t i = 1; i <= 3; i++) {
		link_is(i, UP, 0, 0, 0);
		mr_routes_interface(r, i, i);
	}
	route_msg(RTM_NEWROUTE, "198.18.0.0", 15, RTN_UNICAST, "10.0.0.2@1 10.0.0.3@2");
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, reader, (void *)i);
	for (unsigned i = 0; i < 2000; i++) {
		char prefix[32], hops[64];
		snprintf(prefix, sizeof(prefix), "198.18.%u.0", i % 250);
		snprintf(hops, sizeof(hops), "10.0.%u.2@%u 10.0.%u.3@%u", i % 7, 1 + i % 3, i % 5, 1 + (i + 1) % 3);
		route_msg(RTM_NEWROUTE, prefix, 24, RTN_UNICAST, hops);
		if (i % 3 == 0)
			route_msg(RTM_DELROUTE, prefix, 24, RTN_UNICAST, hops);
		if (i % 50 == 0)
			address(1, "10.1.0.1", 24, 0);
		if (i % 97 == 0)
			link_is(3, i % 2 ? UP : 0, 0, 0, 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	cr_assert_eq(wrong_answers, 0u);
	mr_routes_destroy(r);
	mr_epoch_destroy(epoch);
	r = NULL;
}
