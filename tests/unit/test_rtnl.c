/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_rtnl.c - messages of the kernel, captured and built by hand.
 *
 * The captured ones are the fuzzer's seeds (tests/fuzz/corpus/rtnl), made on Linux 6.18 with the commands named in the cases.
 */
#include "core/rtnl.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#define MESSAGES 64

static struct mr_rtnl got[MESSAGES];
static uint8_t bytes[1 << 16];

static unsigned read_all(const void *data, size_t left)
{
	unsigned n = 0;
	while (n < MESSAGES && mr_rtnl_read(&data, &left, &got[n]))
		n++;
	return n;
}

static unsigned captured(const char *name)
{
	char path[512];
	snprintf(path, sizeof(path), MR_TEST_FOLDER "/../fuzz/corpus/rtnl/%s", name);
	FILE *f = fopen(path, "rb");
	cr_assert(f, "%s", path);
	size_t n = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	return read_all(bytes, n);
}

static void is_address(const uint8_t *a, unsigned family, const char *text)
{
	char buf[INET6_ADDRSTRLEN];
	cr_assert_str_eq(inet_ntop(family == 4 ? AF_INET : AF_INET6, a, buf, sizeof(buf)), text);
}

/* ---- building --------------------------------------------------------------------------------------------- */

struct built {
	uint8_t data[4096];
	size_t n;
};

static void put(struct built *b, const void *data, size_t n)
{
	if (n)
		memcpy(b->data + b->n, data, n);
	memset(b->data + b->n + n, 0, (4 - n % 4) % 4);
	b->n += (n + 3) / 4 * 4;
}

static void begin(struct built *b, unsigned type, unsigned flags, const void *head, size_t n)
{
	struct nlmsghdr h = { .nlmsg_type = (uint16_t)type, .nlmsg_flags = (uint16_t)flags };
	b->n = 0;
	put(b, &h, sizeof(h));
	put(b, head, n);
}

static void attribute(struct built *b, unsigned type, const void *value, size_t n)
{
	struct nlattr a = { .nla_len = (uint16_t)(4 + n), .nla_type = (uint16_t)type };
	put(b, &a, sizeof(a));
	put(b, value, n);
}

static size_t open_nest(struct built *b, unsigned type)
{
	size_t at = b->n;
	attribute(b, type, NULL, 0);
	return at;
}

static void close_nest(struct built *b, size_t at)
{
	uint16_t len = (uint16_t)(b->n - at);
	memcpy(b->data + at, &len, sizeof(len));
}

static enum mr_rtnl_kind finish(struct built *b)
{
	uint32_t len = (uint32_t)b->n;
	memcpy(b->data, &len, sizeof(len));
	cr_assert_eq(read_all(b->data, b->n), 1);
	return got[0].kind;
}

static void link_begin(struct built *b, unsigned ifindex, unsigned arp_type, unsigned flags)
{
	struct ifinfomsg m = { .ifi_index = (int)ifindex, .ifi_type = (uint16_t)arp_type, .ifi_flags = flags };
	begin(b, RTM_NEWLINK, 0, &m, sizeof(m));
}

/* ---- captured ------------------------------------------------------------------------------------------------ */

Test(rtnl, ipv4_routes_as_they_change)
{
	cr_assert_eq(captured("event_route4"), 7);
	for (unsigned i = 0; i < 7; i++)
		cr_assert_eq(got[i].kind, MR_RTNL_ROUTE);
	const struct mr_rtnl_route *r = &got[0].route; /* add 198.51.100.0/24 via 10.0.0.2 metric 100 mtu 1400 */
	is_address(r->dst, 4, "198.51.100.0");
	cr_assert(r->bits == 24 && r->metric == 100 && r->mtu == 1400 && r->table == RT_TABLE_MAIN);
	cr_assert(r->type == RTN_UNICAST && r->hop_cnt == 1 && r->hop[0].family == 4 && r->hop[0].ifindex);
	is_address(r->hop[0].gateway, 4, "10.0.0.2");
	cr_assert(!got[0].append && !got[0].replace && !got[0].deleted);
	cr_assert(got[1].route.type == RTN_BLACKHOLE && got[1].route.hop_cnt == 0);
	cr_assert(got[2].append); /* append ... via 10.0.0.3 */
	is_address(got[2].route.hop[0].gateway, 4, "10.0.0.3");
	cr_assert(got[3].replace); /* replace ... via 10.0.0.4 */
	cr_assert(got[4].route.tos == 0x10 && got[4].route.bits == 0);
	cr_assert(got[5].route.hop[0].family == 6); /* via inet6 fe80::1 */
	is_address(got[5].route.hop[0].gateway, 6, "fe80::1");
	cr_assert(got[6].deleted);
	is_address(got[6].route.hop[0].gateway, 4, "10.0.0.4");
}

Test(rtnl, multipath_with_weights_and_both_families_of_gateways)
{
	cr_assert_eq(captured("event_multipath4"), 1);
	const struct mr_rtnl_route *r = &got[0].route;
	cr_assert(r->hop_cnt == 2 && r->hop[0].weight == 3 && r->hop[1].weight == 1);
	cr_assert(r->hop[0].family == 4 && r->hop[1].family == 6 && r->hop[0].ifindex != r->hop[1].ifindex);
}

Test(rtnl, ipv6_routes_as_they_change)
{
	unsigned n = captured("event_route6");
	cr_assert_eq(n, 6);
	cr_assert_eq(got[0].route.hop_cnt, 1);
	cr_assert_eq(got[1].route.hop_cnt, 2, "an appended member is told with all of them");
	cr_assert(got[2].route.hop_cnt == 2 && got[2].route.hop[0].weight + got[2].route.hop[1].weight == 6);
	cr_assert(got[3].deleted && got[3].route.hop_cnt == 1, "a member that goes is told alone");
	cr_assert_eq(got[4].route.type, RTN_UNREACHABLE);
	cr_assert(got[5].replace && got[5].route.hop_cnt == 1);
}

Test(rtnl, nexthop_objects)
{
	unsigned n = captured("event_nexthop"), groups = 0;
	bool hole = false, used = false, gone = false;
	for (unsigned i = 0; i < n; i++) {
		const struct mr_rtnl_nexthop *h = &got[i].nexthop;
		if (got[i].kind == MR_RTNL_ROUTE)
			used = got[i].route.nexthop_id == 9;
		if (got[i].kind != MR_RTNL_NEXTHOP)
			continue;
		hole |= h->id == 10 && h->blackhole;
		gone |= h->id == 8 && got[i].deleted;
		if (h->id == 9 && !groups++) {
			cr_assert(h->group && h->member_cnt == 2);
			cr_assert(h->member[0].id == 7 && h->member[0].weight == 2);
			cr_assert(h->member[1].id == 8 && h->member[1].weight == 5);
		}
	}
	cr_assert(hole && used && gone);
	cr_assert_geq(groups, 2u, "a group is told again when a member goes");
}

Test(rtnl, rules_in_words)
{
	cr_assert_eq(captured("event_rule"), 4);
	cr_assert_str_eq(got[0].rule.words, "100: from all fwmark 0x1 lookup 100");
	cr_assert_str_eq(got[1].rule.words, "200: from 10.9.0.0/16 iif v0 lookup 7");
	cr_assert_str_eq(got[2].rule.words, "5: from all to 2001:db8:9::/48 action 6");
	cr_assert_str_eq(got[3].rule.words, "1000: from all lookup [l3mdev-table]");
	for (unsigned i = 0; i < 4; i++)
		cr_assert(!got[i].rule.plain && got[i].rule.l3mdev == (i == 3));
	unsigned n = captured("dump_rule4"), plain = 0;
	for (unsigned i = 0; i < n; i++)
		plain += got[i].kind == MR_RTNL_RULE && got[i].rule.plain;
	cr_assert_eq(plain, 3, "the default ones");
	cr_assert_eq(got[n - 1].kind, MR_RTNL_DONE);
}

Test(rtnl, addresses_neighbours_links)
{
	unsigned n = captured("dump_addr"), seen = 0;
	for (unsigned i = 0; i < n; i++) {
		char buf[INET6_ADDRSTRLEN];
		if (got[i].kind != MR_RTNL_ADDR)
			continue;
		inet_ntop(got[i].addr.family == 4 ? AF_INET : AF_INET6, got[i].addr.local, buf, sizeof(buf));
		seen |= !strcmp(buf, "10.0.0.1") && got[i].addr.bits == 24 ? 1 : 0;
		seen |= !strcmp(buf, "192.168.7.1") ? 2 : 0; /* has a peer: the local one counts */
		seen |= !strcmp(buf, "2001:db8::1") && got[i].addr.family == 6 ? 4 : 0;
	}
	cr_assert_eq(seen, 7);
	n = captured("event_neigh");
	cr_assert_geq(n, 3u);
	cr_assert(got[0].kind == MR_RTNL_NEIGH && got[0].neigh.has_mac && got[0].neigh.mac[5] == 9);
	cr_assert_eq(got[1].neigh.family, 6);
	n = captured("dump_link");
	seen = 0;
	for (unsigned i = 0; i < n; i++) {
		const struct mr_rtnl_link *l = &got[i].link;
		if (got[i].kind != MR_RTNL_LINK)
			continue;
		seen |= !strcmp(l->name, "lo") && l->device == MR_RTNL_DEVICE_LOOPBACK ? 1 : 0;
		seen |= !strcmp(l->name, "v0") && l->device == MR_RTNL_DEVICE_PLAIN && l->admin_up && l->running &&
				l->has_mac && l->mac[5] == 1 && l->mtu == 1500
			? 2
			: 0;
	}
	cr_assert_eq(seen, 3);
}

Test(rtnl, every_cut_of_a_real_message_is_told_from_a_whole_one)
{
	static const char *const files[] = { "event_route6", "event_multipath4", "dump_link", "event_nexthop" };
	for (unsigned f = 0; f < 4; f++) {
		captured(files[f]);
		struct nlmsghdr h;
		memcpy(&h, bytes, sizeof(h));
		for (uint32_t cut = 0; cut < h.nlmsg_len; cut++) {
			uint8_t *copy = malloc(cut ? cut : 1); /* exact: a sanitizer sees what is read too far */
			memcpy(copy, bytes, cut);
			unsigned n = read_all(copy, cut);
			cr_assert(cut == 0 ? n == 0 : n == 1 && got[0].kind == MR_RTNL_BROKEN);
			free(copy);
		}
	}
}

/* ---- by hand ----------------------------------------------------------------------------------------------------- */

Test(rtnl, vlan_devices)
{
	struct built b;
	uint32_t lower = 4;
	uint16_t id = 7, protocol_be[2] = { htons(0x8100), htons(0x88a8) };
	for (unsigned i = 0; i < 2; i++) {
		link_begin(&b, 9, 1, IFF_UP);
		attribute(&b, IFLA_IFNAME, "wan.7", 6);
		attribute(&b, IFLA_LINK, &lower, 4);
		size_t info = open_nest(&b, IFLA_LINKINFO);
		attribute(&b, IFLA_INFO_KIND, "vlan", 5);
		size_t data = open_nest(&b, IFLA_INFO_DATA);
		attribute(&b, IFLA_VLAN_ID, &id, 2);
		attribute(&b, IFLA_VLAN_PROTOCOL, &protocol_be[i], 2);
		close_nest(&b, data);
		close_nest(&b, info);
		cr_assert_eq(finish(&b), MR_RTNL_LINK);
		const struct mr_rtnl_link *l = &got[0].link;
		cr_assert(l->device == MR_RTNL_DEVICE_VLAN && l->vlan == 7 && l->lower == 4);
		cr_assert_eq(l->unknown, i == 1, "QinQ devices are not modelled");
		cr_assert(l->admin_up && !l->running);
	}
}

Test(rtnl, vrf_tunnels_and_what_lies_elsewhere)
{
	struct built b;
	uint32_t table = 1000, lower = 3, netns = 1;
	link_begin(&b, 9, 1, 0);
	size_t info = open_nest(&b, IFLA_LINKINFO);
	attribute(&b, IFLA_INFO_KIND, "vrf", 4);
	size_t data = open_nest(&b, IFLA_INFO_DATA);
	attribute(&b, IFLA_VRF_TABLE, &table, 4);
	close_nest(&b, data);
	close_nest(&b, info);
	cr_assert_eq(finish(&b), MR_RTNL_LINK);
	cr_assert(got[0].link.device == MR_RTNL_DEVICE_VRF && got[0].link.table == 1000);

	link_begin(&b, 9, 768 /* ARPHRD_TUNNEL */, 0);
	cr_assert_eq(finish(&b), MR_RTNL_LINK);
	cr_assert_eq(got[0].link.device, MR_RTNL_DEVICE_TUNNEL);

	link_begin(&b, 9, 1, 0);
	attribute(&b, IFLA_LINK, &lower, 4);
	attribute(&b, IFLA_LINK_NETNSID, &netns, 4);
	cr_assert_eq(finish(&b), MR_RTNL_LINK);
	cr_assert_eq(got[0].link.lower, 0);
}

Test(rtnl, wrong_lengths_break_the_message)
{
	struct built b;
	struct rtmsg m = { .rtm_family = AF_INET, .rtm_dst_len = 24, .rtm_type = RTN_UNICAST };
	uint8_t value[16] = { 10, 0, 0, 1 };
	static const struct {
		uint16_t type;
		uint16_t bytes;
	} wrong[] = { { RTA_DST, 16 }, { RTA_DST, 3 }, { RTA_OIF, 2 }, { RTA_GATEWAY, 16 }, { RTA_PRIORITY, 8 },
		{ RTA_VIA, 1 }, { RTA_MULTIPATH, 7 }, { RTA_METRICS, 3 }, { RTA_NH_ID, 0 } };
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		begin(&b, RTM_NEWROUTE, 0, &m, sizeof(m));
		attribute(&b, RTA_DST, value, 4);
		attribute(&b, wrong[i].type, value, wrong[i].bytes);
		cr_assert_eq(finish(&b), MR_RTNL_BROKEN, "attribute %u of %u bytes", wrong[i].type, wrong[i].bytes);
	}
	begin(&b, RTM_NEWROUTE, 0, &m, sizeof(m));
	cr_assert_eq(finish(&b), MR_RTNL_BROKEN, "a prefix without its address");
	m.rtm_dst_len = 33;
	begin(&b, RTM_NEWROUTE, 0, &m, sizeof(m));
	attribute(&b, RTA_DST, value, 4);
	cr_assert_eq(finish(&b), MR_RTNL_BROKEN);
}

Test(rtnl, bits_behind_the_prefix_are_cleared)
{
	struct built b;
	struct rtmsg m = { .rtm_family = AF_INET, .rtm_dst_len = 12, .rtm_type = RTN_UNICAST };
	uint8_t dst[4] = { 255, 255, 255, 255 };
	begin(&b, RTM_NEWROUTE, 0, &m, sizeof(m));
	attribute(&b, RTA_DST, dst, 4);
	cr_assert_eq(finish(&b), MR_RTNL_ROUTE);
	is_address(got[0].route.dst, 4, "255.240.0.0");
}

Test(rtnl, encapsulation_and_sources_are_flagged)
{
	struct built b;
	struct rtmsg m = { .rtm_family = AF_INET6, .rtm_src_len = 64, .rtm_type = RTN_UNICAST };
	uint32_t oif = 3;
	uint16_t encap = 5;
	begin(&b, RTM_NEWROUTE, NLM_F_MULTI | NLM_F_DUMP_INTR, &m, sizeof(m));
	attribute(&b, RTA_OIF, &oif, 4);
	attribute(&b, RTA_ENCAP_TYPE, &encap, 2);
	cr_assert_eq(finish(&b), MR_RTNL_ROUTE);
	cr_assert(got[0].route.source && got[0].route.hop[0].unknown && got[0].multi && got[0].interrupted);
	cr_assert_eq(captured("event_encap"), 1);
	cr_assert(got[0].route.hop[0].unknown);
}

Test(rtnl, more_members_than_are_kept)
{
	struct built b;
	struct rtmsg m = { .rtm_family = AF_INET, .rtm_type = RTN_UNICAST };
	begin(&b, RTM_NEWROUTE, 0, &m, sizeof(m));
	size_t nest = open_nest(&b, RTA_MULTIPATH);
	for (int i = 0; i <= MR_RTNL_HOPS; i++) {
		struct rtnexthop nh = { .rtnh_len = sizeof(nh), .rtnh_ifindex = i + 1, .rtnh_hops = 255 };
		put(&b, &nh, sizeof(nh));
	}
	close_nest(&b, nest);
	cr_assert_eq(finish(&b), MR_RTNL_ROUTE);
	cr_assert(got[0].route.hop_cnt == MR_RTNL_HOPS && got[0].route.unknown && got[0].route.hop[0].weight == 256);

	struct nhmsg n = { .nh_family = AF_UNSPEC };
	uint8_t group[8 * (MR_RTNL_HOPS + 1)] = { 1, 0, 0, 0, 0xff, 0xff };
	uint32_t id = 5;
	begin(&b, RTM_NEWNEXTHOP, 0, &n, sizeof(n));
	attribute(&b, NHA_ID, &id, 4);
	attribute(&b, NHA_GROUP, group, sizeof(group));
	cr_assert_eq(finish(&b), MR_RTNL_NEXTHOP);
	cr_assert(got[0].nexthop.unknown && got[0].nexthop.member[0].weight == 65536);
}

Test(rtnl, ends_and_errors)
{
	struct built b;
	int32_t code = -ENOENT;
	begin(&b, NLMSG_ERROR, 0, &code, sizeof(code));
	cr_assert_eq(finish(&b), MR_RTNL_ERROR);
	cr_assert_eq(got[0].error_code, -ENOENT);
	begin(&b, NLMSG_DONE, NLM_F_MULTI, NULL, 0);
	cr_assert_eq(finish(&b), MR_RTNL_DONE);
	begin(&b, NLMSG_OVERRUN, 0, NULL, 0);
	cr_assert_eq(finish(&b), MR_RTNL_ERROR);
	cr_assert_eq(got[0].error_code, -ENOBUFS);
	begin(&b, 999, 0, NULL, 0);
	cr_assert_eq(finish(&b), MR_RTNL_OTHER);
}
