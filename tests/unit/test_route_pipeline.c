/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `to: route` in the packet's path: what routes decide, records that follow them, packets that wait, errors that are sent.
 *
 * Routes and neighbours are a few lines here instead of core/route.c and core/neighbour.c, so that every answer, and every moment it
 * changes, is the test's.
 */
#include "rig.h"

#include "core/apply.h"
#include "core/explain_frame.h"
#include "core/hold.h"
#include "core/icmp.h"
#include "core/offload.h"
#include "core/route.h"
#include "core/route_flows.h"
#include "kern/rewrite.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- routes and neighbours of the test ----------------------------------------------------------------------------- */

#define ROUTES 16
#define SLOT_A (MR_NEXTHOP_FIRST_FREE + 1) /* out of lan */
#define SLOT_B (MR_NEXTHOP_FIRST_FREE + 9) /* out of dmz; shares no way of the copies with A */
#define SLOT_C (MR_NEXTHOP_FIRST_FREE + 2) /* out of lan */

struct one_route {
	unsigned family, bits;
	uint8_t dst[16];
	struct mr_route_answer answer;
};

static struct {
	pthread_mutex_t lock;
	struct one_route route[ROUTES]; /* the last that covers wins */
	unsigned cnt;
	uint8_t version[2][MR_ROUTE_BUCKETS];
	uint8_t source[2][16];
	bool has_source;
	unsigned lookup_cnt;
	unsigned wanted[MR_MAX_NEXTHOPS], touched[MR_MAX_NEXTHOPS];
} net = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool covers(const struct one_route *o, unsigned family, const uint8_t *dst)
{
	if (o->family != family)
		return false;
	for (unsigned b = 0; b < o->bits; b++)
		if ((o->dst[b / 8] ^ dst[b / 8]) & (0x80 >> b % 8))
			return false;
	return true;
}

static unsigned bucket(unsigned family, const void *dst)
{
	__be32 first;
	memcpy(&first, dst, 4);
	return family == 4 ? mr_route_bucket4(first) : mr_route_bucket6(&first);
}

void mr_routes_lookup(struct mr_routes *r, unsigned interface_id, unsigned family, const void *dst_be, uint64_t hash,
	struct mr_route_answer *out)
{
	struct mr_route_answer a = { .verdict = MR_ROUTE_DROP, .reason = MR_REASON_NO_ROUTE };
	pthread_mutex_lock(&net.lock);
	net.lookup_cnt++;
	for (unsigned i = 0; i < net.cnt; i++)
		if (covers(&net.route[i], family, dst_be))
			a = net.route[i].answer;
	a.version = __atomic_load_n(&net.version[family == 6][bucket(family, dst_be)], __ATOMIC_RELAXED);
	pthread_mutex_unlock(&net.lock);
	*out = a;
}

bool mr_routes_takes_tag(const struct mr_routes *r, unsigned interface_id, unsigned vlan_cnt, uint16_t tci)
{
	return vlan_cnt == 1 && (tci & 0xfff) == 7;
}

const uint8_t *mr_routes_versions(const struct mr_routes *r, unsigned family)
{
	return net.version[family == 6];
}

bool mr_routes_source(
	const struct mr_routes *r, unsigned interface_id, unsigned family, const void *dst_be, void *src_be)
{
	memcpy(src_be, net.source[family == 6], family == 4 ? 4 : 16);
	return net.has_source;
}

void mr_routes_expect4(const struct mr_routes *r, __be32 addr_be)
{
}

bool mr_routes_local(const struct mr_routes *r, unsigned family, const void *addr_be)
{
	return family == 4 && !memcmp(addr_be, net.source[0], 4);
}

int mr_routes_describe(const struct mr_routes *r, unsigned family, const void *dst_be, char *text, size_t bytes)
{
	snprintf(text, bytes, "in the words of the test");
	return 0;
}

void mr_neighbours_want(struct mr_neighbours *t, uint16_t slot)
{
	__atomic_fetch_add(&net.wanted[slot], 1, __ATOMIC_RELAXED);
}

void mr_neighbours_touch(struct mr_neighbours *t, uint16_t slot, uint32_t now_ms)
{
	__atomic_fetch_add(&net.touched[slot], 1, __ATOMIC_RELAXED);
}

uint16_t mr_neighbours_tunnel(struct mr_neighbours *t, struct mr_routes *routes, const struct mr_tunnel *tunnel)
{
	return 0;
}

static void use_net(struct mr_shared *sh)
{
	sh->routes = (void *)&net; /* never looked into */
	sh->neighbours = (void *)&net;
	net.has_source = true;
	inet_pton(AF_INET, "192.0.2.1", net.source[0]);
	inet_pton(AF_INET6, "2001:db8:1::1", net.source[1]);
}

/* A route, or another answer of one that is there; what it touches gets new versions. */
static void route(const char *prefix, uint8_t verdict, unsigned reason, uint16_t slot)
{
	struct one_route o = { .answer = { .verdict = verdict, .reason = reason, .slot = slot } };
	char text[64];
	snprintf(text, sizeof(text), "%s", prefix);
	char *bits = strchr(text, '/');
	cr_assert(bits);
	*bits = '\0';
	o.bits = atoi(bits + 1);
	o.family = strchr(text, ':') ? 6 : 4;
	cr_assert_eq(inet_pton(o.family == 4 ? AF_INET : AF_INET6, text, o.dst), 1);
	pthread_mutex_lock(&net.lock);
	unsigned at = 0;
	while (at < net.cnt &&
		(net.route[at].family != o.family || net.route[at].bits != o.bits ||
			memcmp(net.route[at].dst, o.dst, 16)))
		at++;
	net.route[at] = o;
	net.cnt += at == net.cnt;
	/* prefixes of the tests lie in one bucket */
	uint8_t *v = &net.version[o.family == 6][bucket(o.family, o.dst)];
	__atomic_store_n(v, (*v + 1) & 127, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&net.lock);
}

static void slot(struct rig *r, uint16_t id, uint8_t kind, const char *egress, uint16_t mtu)
{
	struct mr_nexthop nh = { .kind = kind,
		.egress = rig_id(r, egress),
		.mtu = mtu,
		.dmac = { 2, 0, 0, 0, 0, (uint8_t)id },
		.smac = { 2, 0, 0, 0, 1, 1 } };
	mr_nexthops_set(r->sh.nexthops, id, &nh);
}

#define YAML                                                                       \
	"version: 1\n"                                                             \
	"interfaces:\n"                                                            \
	"  wan: { device: wan0 }\n"                                                \
	"  lan: { device: lan0 }\n"                                                \
	"  dmz: { device: dmz0 }\n"                                                \
	"stages:\n  guard: { type: filter, default: accept }\n"                    \
	"pipelines:\n"                                                             \
	"  in: { from: [ wan, dmz ], match: all, stages: [ guard ], to: route }\n" \
	"  out: { from: [ lan ], match: all, stages: [ guard ], to: route }\n"

static const uint8_t wan_mac[6] = { 2, 0, 0, 0, 0, 0x77 };

static struct rig *box_of(const char *yaml, unsigned workers)
{
	struct rig_options opt = { .route = use_net, .worker_cnt = workers, .tier = strstr(yaml, "offload:") };
	struct rig *r = rig_create(yaml, &opt);
	route("198.51.100.0/24", MR_ROUTE_SLOT, 0, SLOT_A);
	route("10.0.0.0/8", MR_ROUTE_SLOT, 0, SLOT_B);
	route("2001:db8:2::/48", MR_ROUTE_SLOT, 0, SLOT_A);
	slot(r, SLOT_A, MR_NH_ROUTED, "lan", 1500);
	slot(r, SLOT_B, MR_NH_ROUTED, "dmz", 1500);
	slot(r, SLOT_C, MR_NH_ROUTED, "lan", 1500);
	return r;
}

static struct rig *box(void)
{
	return box_of(YAML, 1);
}

static void finish(struct rig *r)
{
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* A packet in words, and then whatever the test changes in it. */
static uint32_t frame_of(const char *packet, uint8_t *frame)
{
	struct mr_explain_packet p;
	struct mr_error e = { 0 };
	cr_assert_eq(mr_explain_frame_parse(packet, &p, &e), 0, "%s", e.text);
	int len = mr_explain_frame_build(&p, frame, MR_EXPLAIN_FRAME_MAX, &e);
	cr_assert_gt(len, 0, "%s", e.text);
	return len;
}

/* DF, checksum adjusted. */
static void forbid_fragments(uint8_t *frame)
{
	uint8_t *ip = frame + 14;
	uint16_t was = mr_load16(ip + 6);
	ip[6] |= 0x40;
	mr_store16(ip + 10, mr_csum_apply(mr_load16(ip + 10), mr_csum_change16(was, mr_load16(ip + 6))));
}

static void give(struct rig *r, const char *interface, const uint8_t *frame, uint32_t len)
{
	rig_inject(r, interface, 0, frame, len);
	rig_turn(r);
}

static void say(struct rig *r, const char *interface, const char *packet)
{
	rig_say(r, interface, packet);
	rig_turn(r);
}

/* The ICMP error last sent out of an interface: type << 8 | code; 0 = the last frame is none. */
static unsigned error_sent(struct rig *r, const char *interface)
{
	const struct rig_frame *f = rig_last(r, interface);
	struct mr_parsed p;
	if (!f)
		return 0;
	cr_assert_eq(mr_parse(f->data, f->data + f->len, &p), MR_PARSE_OK);
	return p.flags & MR_PKT_ICMP_ERROR ? (unsigned)p.icmp_type << 8 | p.icmp_code : 0;
}

/* ---- decisions ------------------------------------------------------------------------------------------------------ */

#define FLOW "udp 192.0.2.9:1000 > 198.51.100.9:53"

Test(route_pipeline, a_flow_goes_to_its_neighbour_and_is_remembered)
{
	struct rig *r = box();
	say(r, "wan", FLOW " ttl 17");
	const struct rig_frame *f = rig_last(r, "lan");
	cr_assert(f);
	cr_assert_eq(f->data[5], (uint8_t)SLOT_A);
	cr_assert_eq(f->data[10], 1);
	cr_assert_eq(f->data[14 + 8], 16, "the TTL is %u", f->data[14 + 8]);
	unsigned lookups = net.lookup_cnt;
	for (int i = 0; i < 5; i++)
		rig_say(r, "wan", FLOW);
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 6);
	cr_assert_eq(rig_stats(r, "wan", "in").hits, 5);
	cr_assert_eq(net.lookup_cnt, lookups, "a hit asks no route");
	cr_assert_gt(net.touched[SLOT_A], 0);
	say(r, "wan", "udp [2001:db8:9::9]:1000 > [2001:db8:2::9]:53");
	say(r, "wan", "udp [2001:db8:9::9]:1000 > [2001:db8:2::9]:53");
	cr_assert_eq(rig_sent(r, "lan"), 2);
	cr_assert_eq(rig_stats(r, "wan", "in").hits, 6);
	finish(r);
}

Test(route_pipeline, what_is_for_the_box_goes_to_the_stack_even_with_ttl_1)
{
	struct rig *r = box();
	route("192.0.2.1/32", MR_ROUTE_KERNEL, 0, 0);
	say(r, "wan", "tcp 192.0.2.9:1000 > 192.0.2.1:22 ttl 1");
	say(r, "wan", "tcp 192.0.2.9:1000 > 192.0.2.1:22 ttl 1 flags ack");
	cr_assert_eq(rig_kernel(r, "wan"), 2);
	cr_assert_eq(rig_sent(r, "wan"), 0);
	/* when the address leaves the box, the flow leaves with it */
	route("192.0.2.1/32", MR_ROUTE_SLOT, 0, SLOT_A);
	say(r, "wan", "tcp 192.0.2.9:1000 > 192.0.2.1:22 flags ack");
	cr_assert_eq(rig_sent(r, "lan"), 1);
	cr_assert_eq(rig_last(r, "lan"), NULL);
	route("192.0.2.1/32", MR_ROUTE_KERNEL, 0, 0);
	say(r, "wan", "tcp 192.0.2.9:1000 > 192.0.2.1:22 ttl 1 flags ack");
	cr_assert_eq(rig_kernel(r, "wan"), 1);
	finish(r);
}

Test(route_pipeline, drops_have_their_reason_and_their_error)
{
	static const struct {
		unsigned reason;
		const char *name;
		unsigned v4, v6; /* type << 8 | code */
	} drops[] = {
		{ MR_REASON_NO_ROUTE, "no-route", 3 << 8 | 0, 1 << 8 | 0 },
		{ MR_REASON_UNREACHABLE, "route-unreachable", 3 << 8 | 1, 1 << 8 | 0 },
		{ MR_REASON_PROHIBIT, "route-prohibit", 3 << 8 | 13, 1 << 8 | 1 },
		{ MR_REASON_BLACKHOLE, "route-blackhole", 0, 0 },
	};
	struct rig *r = box();
	for (unsigned i = 0; i < sizeof(drops) / sizeof(drops[0]); i++) {
		route("203.0.113.0/24", MR_ROUTE_DROP, drops[i].reason, 0);
		route("2001:db8:3::/48", MR_ROUTE_DROP, drops[i].reason, 0);
		say(r, "wan", "udp 192.0.2.9:1 > 203.0.113.1:1");
		cr_assert_eq(error_sent(r, "wan"), drops[i].v4, "%s", drops[i].name);
		rig_sent(r, "wan");
		say(r, "wan", "udp [2001:db8:9::9]:1 > [2001:db8:3::1]:1");
		cr_assert_eq(error_sent(r, "wan"), drops[i].v6, "%s", drops[i].name);
		rig_sent(r, "wan");
		cr_assert_eq(rig_dropped(r, "wan", "in", drops[i].name), 2);
	}
	cr_assert_eq(mr_sessions_next(r->sh.sessions, 1), 0, "drops are not stored");
	struct mr_stats_ingress own;
	mr_stats_ingress_sum(r->sh.stats, MR_STATS_OWN, &own);
	cr_assert_eq(own.received.packets, 6);
	cr_assert_eq(own.forwarded.packets, 6);
	finish(r);
}

Test(route_pipeline, an_error_comes_from_the_box_and_quotes_what_was_sent)
{
	struct rig *r = box();
	uint8_t frame[MR_EXPLAIN_FRAME_MAX];
	memcpy(r->mac[rig_id(r, "wan")], wan_mac, 6);
	rig_refresh(r);
	uint32_t len = frame_of(FLOW " ttl 1 vlan 7", frame);
	memcpy(frame, wan_mac, 6);
	give(r, "wan", frame, len);
	cr_assert_eq(error_sent(r, "wan"), 11 << 8);
	const struct rig_frame *f = rig_last(r, "wan");
	cr_assert(!memcmp(f->data, frame + 6, 6));
	cr_assert(!memcmp(f->data + 6, wan_mac, 6));
	cr_assert(!memcmp(f->data + 12, frame + 12, 4), "the tag stays");
	cr_assert(!memcmp(f->data + 18 + 12, net.source[0], 4));
	cr_assert(!memcmp(f->data + 18 + 20 + 8, frame + 18, 28), "as it was sent, TTL and checksum too");
	cr_assert_eq(rig_dropped(r, "wan", "in", "ttl"), 1);
	/* a second time by the record */
	route("198.51.100.0/24", MR_ROUTE_SLOT, 0, SLOT_A);
	rig_sent(r, "wan");
	say(r, "wan", "udp [2001:db8:9::9]:1000 > [2001:db8:2::9]:53 ttl 1");
	cr_assert_eq(rig_dropped(r, "wan", "in", "ttl"), 1, "to another MAC address");
	memset(r->mac, 0, sizeof(r->mac));
	rig_refresh(r);
	say(r, "wan", "udp [2001:db8:9::9]:1000 > [2001:db8:2::9]:53 ttl 1");
	cr_assert_eq(error_sent(r, "wan"), 3 << 8);
	net.has_source = false;
	rig_sent(r, "wan");
	say(r, "wan", "udp [2001:db8:9::8]:1000 > [2001:db8:2::9]:53 ttl 1");
	cr_assert_eq(rig_sent(r, "wan"), 0);
	struct mr_stats_icmp icmp;
	mr_stats_icmp_sum(r->sh.stats, &icmp);
	cr_assert_eq(icmp.no_source, 1);
	cr_assert_eq(icmp.sent[MR_ICMP_TIME_EXCEEDED], 2);
	finish(r);
}

Test(route_pipeline, errors_are_limited_and_the_drops_are_not)
{
	struct rig *r = box();
	struct mr_stats_icmp icmp;
	for (int i = 0; i < 100; i++)
		rig_say(r, "wan", "udp 192.0.2.9:1 > 203.0.113.1:1");
	/* an error is never answered */
	rig_say(r, "wan", "icmp 192.0.2.9 > 203.0.113.1 type 3 code 1");
	rig_turn(r);
	mr_stats_icmp_sum(r->sh.stats, &icmp);
	cr_assert_eq(rig_dropped(r, "wan", "in", "no-route"), 101);
	cr_assert_eq(icmp.not_due, 1);
	cr_assert_geq(icmp.sent[MR_ICMP_NET_UNREACHABLE], 1);
	cr_assert_leq(icmp.sent[MR_ICMP_NET_UNREACHABLE], 20);
	cr_assert_eq(icmp.sent[MR_ICMP_NET_UNREACHABLE] + icmp.limited, 100);
	cr_assert_eq(rig_sent(r, "wan"), icmp.sent[MR_ICMP_NET_UNREACHABLE]);
	finish(r);
}

Test(route_pipeline, larger_than_the_way_is_told_with_its_mtu)
{
	struct rig *r = box();
	uint8_t frame[MR_EXPLAIN_FRAME_MAX];
	slot(r, SLOT_A, MR_NH_ROUTED, "lan", 1300);
	uint32_t len = frame_of("udp 192.0.2.9:1000 > 198.51.100.9:53 length 1301", frame);
	forbid_fragments(frame);
	for (int i = 0; i < 2; i++) { /* decided, and by the record */
		give(r, "wan", frame, len);
		cr_assert_eq(error_sent(r, "wan"), 3 << 8 | 4);
		const uint8_t *icmp = rig_last(r, "wan")->data + 14 + 20;
		cr_assert_eq(icmp[6] << 8 | icmp[7], 1300);
		rig_sent(r, "wan");
	}
	cr_assert_eq(rig_stats(r, "wan", "in").hits, 1);
	say(r, "wan", "udp [2001:db8:9::9]:1000 > [2001:db8:2::9]:53 length 1301");
	cr_assert_eq(error_sent(r, "wan"), 2 << 8);
	const uint8_t *icmp6 = rig_last(r, "wan")->data + 14 + 40;
	cr_assert_eq(icmp6[6] << 8 | icmp6[7], 1300);
	/* what encapsulation adds is taken off */
	struct mr_nexthop nh;
	mr_nexthops_get(r->sh.nexthops, SLOT_A, &nh);
	nh.encap = MR_ENCAP_IP4;
	mr_nexthops_set(r->sh.nexthops, SLOT_A, &nh);
	rig_sent(r, "wan");
	give(r, "wan", frame, len);
	const uint8_t *icmp = rig_last(r, "wan")->data + 14 + 20;
	cr_assert_eq(error_sent(r, "wan"), 3 << 8 | 4);
	cr_assert_eq(icmp[6] << 8 | icmp[7], 1280);
	cr_assert_eq(rig_dropped(r, "wan", "in", "too-big"), 4);
	finish(r);
}

Test(route_pipeline, exceptions_go_to_the_stack_alone)
{
	struct rig *r = box();
	uint8_t frame[MR_EXPLAIN_FRAME_MAX], with[MR_EXPLAIN_FRAME_MAX];
	memcpy(r->mac[rig_id(r, "wan")], wan_mac, 6);
	rig_refresh(r);
	uint32_t len = frame_of(FLOW, frame);
	memcpy(frame, wan_mac, 6);
	give(r, "wan", frame, len);
	cr_assert_eq(rig_sent(r, "lan"), 1);
	for (unsigned round = 0; round < 2; round++) {
		/* router alert */
		memcpy(with, frame, 34);
		memcpy(with + 34, "\x94\x04\x00\x00", 4);
		memcpy(with + 38, frame + 34, len - 34);
		with[14] = 0x46;
		with[17] += 4;
		give(r, "wan", with, len + 4);
		cr_assert_eq(rig_kernel(r, "wan"), 1);
		/* to all stations, but to one address */
		memcpy(with, frame, len);
		memset(with, 0xff, 6);
		give(r, "wan", with, len);
		cr_assert_eq(rig_kernel(r, "wan"), 1);
		/* to another station, or to a device of ours over the interface: as it was received */
		memcpy(with, "\x02\x99\x99\x99\x99\x99", 6);
		give(r, "wan", with, len);
		cr_assert_eq(rig_kernel(r, "wan"), 1);
		/* of a VLAN the box is not in */
		memcpy(with, frame, 12);
		memcpy(with + 12, "\x81\x00\x00\x08", 4);
		memcpy(with + 16, frame + 12, len - 12);
		give(r, "wan", with, len + 4);
		cr_assert_eq(rig_kernel(r, "wan"), 1);
		with[15] = 7;
		give(r, "wan", with, len + 4);
		cr_assert_eq(rig_sent(r, "lan"), 1, "one it is in");
		/* and the flow goes on by its record */
		uint64_t hits = rig_stats(r, "wan", "in").hits;
		give(r, "wan", frame, len);
		cr_assert_eq(rig_stats(r, "wan", "in").hits, hits + 1);
		cr_assert_eq(rig_sent(r, "lan"), 1);
	}
	static const char *const martians[] = { "udp 127.0.0.1:1 > 198.51.100.9:1", "udp 0.1.2.3:1 > 198.51.100.9:1",
		"udp 224.0.0.5:1 > 198.51.100.9:1", "udp 255.255.255.255:1 > 198.51.100.9:1",
		"udp [::1]:1 > [2001:db8:2::1]:1", "udp [fe80::1]:1 > [2001:db8:2::1]:1",
		"udp [ff02::1]:1 > [2001:db8:2::1]:1", "udp [::]:1 > [2001:db8:2::1]:1", "ethertype 0x0806",
		"udp 192.0.2.1:1 > 198.51.100.9:1" /* an address of the box itself */ };
	for (unsigned i = 0; i < sizeof(martians) / sizeof(martians[0]); i++) {
		len = frame_of(martians[i], with);
		memcpy(with, wan_mac, 6);
		give(r, "wan", with, len);
		cr_assert_eq(rig_kernel(r, "wan"), 1, "%s", martians[i]);
	}
	cr_assert_eq(rig_sent(r, "lan"), 0);
	finish(r);
}

Test(route_pipeline, what_comes_behind_the_packet_is_not_sent_on)
{
	struct rig *r = box();
	uint8_t frame[2048];
	const struct rig_list *out = &r->interface[rig_id(r, "lan")].queue[0].out;
	uint32_t len = frame_of(FLOW, frame);
	for (unsigned round = 0; round < 2; round++) { /* first packet, and by the record */
		memset(frame + len, 0xaa, 1600);
		give(r, "wan", frame, len + 1600); /* larger than the MTU only with it */
		cr_assert_eq(rig_sent(r, "lan"), 1);
		cr_assert_eq(out->frame[0].len, len > 60 ? len : 60);
		give(r, "wan", frame, len);
		cr_assert_eq(rig_sent(r, "lan"), 1);
		cr_assert_eq(out->frame[0].len, len, "nothing is added");
	}
	finish(r);
}

/* Translated packets with options are routed: their sum is that of the whole header. */
Test(route_pipeline, options_are_part_of_the_header_checksum)
{
	uint8_t memory[256 + 2048] = { 0 }, *frame = memory + 256, plain[MR_EXPLAIN_FRAME_MAX];
	struct mr_nexthop nh = { .kind = MR_NH_ROUTED, .egress = 1, .mtu = 1500 };
	struct mr_rewrite4 r4 = { 0 };
	struct mr_parsed p;
	uint32_t len = frame_of(FLOW, plain), with = len + 4, cut = with;
	memcpy(frame, plain, 34);
	memcpy(frame + 34, "\x94\x04\x00\x00", 4); /* router alert */
	memcpy(frame + 38, plain + 34, len - 34);
	frame[14] = 0x46;
	frame[17] += 4;
	mr_parse(frame, frame + with, &p);
	cr_assert_eq(p.error, MR_PARSE_OK);
	cr_assert_eq(mr_apply(&frame, &cut, 256, &p, 0, &r4, NULL, &nh, 1), MR_REASON_IP_CHECKSUM);
	uint32_t sum = 0;
	memset(frame + 24, 0, 2);
	for (unsigned i = 14; i < 38; i += 2)
		sum += mr_load16(frame + i);
	mr_store16(frame + 24, (uint16_t)~mr_csum_fold(sum));
	cr_assert_eq(mr_apply(&frame, &cut, 256, &p, 0, &r4, NULL, &nh, 1), MR_REASON_NONE);
}

Test(route_pipeline, a_wrong_header_checksum_is_not_sent_on)
{
	struct rig *r = box();
	uint8_t frame[MR_EXPLAIN_FRAME_MAX];
	uint32_t len = frame_of(FLOW, frame);
	for (unsigned bit = 0; bit < 160; bit++) { /* as a first packet, and where a record decides */
		if (bit / 8 == 0 || bit / 8 == 2 || bit / 8 == 3 || bit / 8 == 9 || bit / 8 == 6 || bit / 8 == 7)
			continue; /* then it is another kind of packet */
		frame[14 + bit / 8] ^= 1 << bit % 8;
		if (frame[14 + 8] > 1) /* not used up */
			give(r, "wan", frame, len);
		cr_assert_eq(rig_sent(r, "lan"), 0, "bit %u", bit);
		frame[14 + bit / 8] ^= 1 << bit % 8;
		give(r, "wan", frame, len);
		cr_assert_eq(rig_sent(r, "lan"), 1);
	}
	cr_assert_gt(rig_stats(r, "wan", "in").dropped[MR_REASON_IP_CHECKSUM], 40);
	finish(r);
}

/* ---- change --------------------------------------------------------------------------------------------------------- */

Test(route_pipeline, a_route_that_moves_takes_its_flows_along_and_no_stage_is_asked)
{
	struct rig *r = box();
	say(r, "wan", FLOW);
	cr_assert_eq(rig_sent(r, "lan"), 1);
	route("198.51.100.0/24", MR_ROUTE_SLOT, 0, SLOT_B);
	for (int i = 0; i < 3; i++)
		rig_say(r, "wan", FLOW);
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "dmz"), 3);
	cr_assert_eq(rig_stats(r, "wan", "in").hits, 3, "looked up anew, not decided anew");
	unsigned lookups = net.lookup_cnt;
	say(r, "wan", FLOW);
	cr_assert_eq(net.lookup_cnt, lookups, "the record has the answer");
	/* a route of another bucket changes nothing */
	route("10.1.0.0/16", MR_ROUTE_SLOT, 0, SLOT_B);
	say(r, "wan", FLOW);
	cr_assert_eq(net.lookup_cnt, lookups);
	/* gone, and back */
	route("198.51.100.0/24", MR_ROUTE_DROP, MR_REASON_NO_ROUTE, 0);
	rig_sent(r, "dmz");
	say(r, "wan", FLOW);
	say(r, "wan", FLOW);
	cr_assert_eq(rig_sent(r, "dmz"), 0);
	cr_assert_eq(rig_dropped(r, "wan", "in", "no-route"), 2);
	cr_assert_eq(error_sent(r, "wan"), 3 << 8);
	route("198.51.100.0/24", MR_ROUTE_SLOT, 0, SLOT_A);
	say(r, "wan", FLOW);
	cr_assert_eq(rig_sent(r, "lan"), 1);
	finish(r);
}

Test(route_pipeline, a_neighbour_that_changes_is_one_store)
{
	struct rig *r = box();
	say(r, "wan", FLOW);
	slot(r, SLOT_A, MR_NH_ROUTED, "dmz", 1500);
	unsigned lookups = net.lookup_cnt;
	say(r, "wan", FLOW);
	cr_assert_eq(rig_sent(r, "dmz"), 1);
	cr_assert_eq(net.lookup_cnt, lookups);
	/* a slot that was given up is looked up again */
	slot(r, SLOT_A, MR_NH_NONE, "lan", 0);
	route("198.51.0.0/16", MR_ROUTE_DROP, MR_REASON_NO_ROUTE, 0); /* before it in the list: hidden */
	net.route[0].answer.slot = SLOT_C;
	say(r, "wan", FLOW);
	say(r, "wan", FLOW);
	cr_assert_eq(rig_sent(r, "lan"), 1 + 0 * lookups);
	finish(r);
}

Test(route_pipeline, a_sweep_leaves_no_old_version_behind)
{
	struct rig *r = box();
	unsigned marked = 0;
	say(r, "wan", FLOW);
	say(r, "wan", "udp 192.0.2.9:1000 > 10.1.2.3:53");
	say(r, "wan", "udp [2001:db8:9::9]:1000 > [2001:db8:2::9]:53");
	route("198.51.100.0/24", MR_ROUTE_SLOT, 0, SLOT_C);
	mr_route_flows_sweep(&r->sh, &(uint64_t){ 0 }, UINT32_MAX);
	/* 128 changes later the version is what it was */
	for (int i = 0; i < 127; i++)
		route("198.51.100.0/24", MR_ROUTE_SLOT, 0, SLOT_C);
	uint64_t hits = rig_stats(r, "wan", "in").hits;
	rig_sent(r, "lan");
	say(r, "wan", FLOW);
	cr_assert_eq(rig_last(r, "lan")->data[5], (uint8_t)SLOT_C);
	cr_assert_eq(rig_stats(r, "wan", "in").hits, hits, "it was decided anew");
	say(r, "wan", "udp 192.0.2.9:1000 > 10.1.2.3:53");
	say(r, "wan", "udp [2001:db8:9::9]:1000 > [2001:db8:2::9]:53");
	cr_assert_eq(rig_stats(r, "wan", "in").hits, hits + 2, "the others stayed");
	(void)marked;
	finish(r);
}

static void mark(void *arg, uint16_t id)
{
	((unsigned *)arg)[id]++;
}

#define YAML_OFFLOADING YAML "flows: { offload: always }\n"

/* The one flow there is may be carried out inside XDP, as far as its record says. */
static bool offloaded(struct rig *r)
{
	const struct mr_session *s = mr_session_at(r->sh.sessions, mr_sessions_next(r->sh.sessions, 1));
	const struct mr_flow_state *st = mr_flows_state(r->sh.flows, s->ref[MR_FORWARD]);
	return st->flags & MR_FLOW_OFFLOAD;
}

static const char *why_not(struct rig *r)
{
	const struct mr_session *s = mr_session_at(r->sh.sessions, mr_sessions_next(r->sh.sessions, 1));
	const struct mr_flow4 *rec = mr_flows_record4(r->sh.flows, s->ref[MR_FORWARD]);
	return mr_offload_name(mr_offload_judge(&r->sh, rig_plan(r), s, MR_FORWARD, rec->key.ingress, &rec->st));
}

Test(route_pipeline, an_offloaded_flow_follows_its_route_in_order)
{
	struct rig *r = box_of(YAML_OFFLOADING, 1);
	say(r, "wan", FLOW);
	cr_assert(offloaded(r));
	cr_expect_str_eq(why_not(r), "");
	route("198.51.100.0/24", MR_ROUTE_SLOT, 0, SLOT_B);
	cr_expect_str_eq(why_not(r), "next-hop", "XDP sees the other version");
	rig_say(r, "wan", FLOW);
	rig_say(r, "wan", FLOW);
	mr_worker_poll(r->worker[0]);
	cr_expect_not(offloaded(r), "looked up anew: what came up is sent first");
	rig_turn(r);
	cr_expect(offloaded(r));
	cr_expect_str_eq(why_not(r), "");
	cr_expect_eq(rig_sent(r, "dmz"), 2);
	finish(r);
}

Test(route_pipeline, an_offloaded_flow_waits_for_its_neighbour_in_order)
{
	struct rig *r = box_of(YAML_OFFLOADING, 1);
	say(r, "wan", FLOW);
	cr_assert(offloaded(r));
	slot(r, SLOT_A, MR_NH_RESOLVING, "lan", 1500);
	cr_expect_str_eq(why_not(r), "next-hop");
	say(r, "wan", FLOW);
	say(r, "wan", FLOW);
	cr_expect_not(offloaded(r), "or XDP would send the next one before those that wait");
	slot(r, SLOT_A, MR_NH_ROUTED, "lan", 1500);
	rig_sent(r, "lan");
	rig_turn(r);
	cr_expect_eq(rig_sent(r, "lan"), 2);
	say(r, "wan", FLOW);
	cr_expect(offloaded(r));
	slot(r, SLOT_A, MR_NH_UNREACHABLE, "lan", 1500);
	cr_expect_str_eq(why_not(r), "next-hop");
	slot(r, SLOT_A, MR_NH_ROUTED, "lan", 1500);
	finish(r);
}

Test(route_pipeline, a_flow_whose_neighbour_is_new_goes_over_behind_those_that_waited)
{
	struct rig *r = box_of(YAML_OFFLOADING, 1);
	slot(r, SLOT_A, MR_NH_RESOLVING, "lan", 1500);
	say(r, "wan", FLOW);
	say(r, "wan", FLOW);
	cr_expect_not(offloaded(r));
	slot(r, SLOT_A, MR_NH_ROUTED, "lan", 1500);
	rig_turn(r);
	cr_expect_not(offloaded(r), "nothing has come since");
	say(r, "wan", FLOW);
	cr_expect(offloaded(r));
	cr_expect_eq(rig_sent(r, "lan"), 3);
	finish(r);
}

Test(route_pipeline, a_flow_does_not_go_over_in_the_turn_that_sends_what_waited)
{
	struct rig *r = box_of(YAML_OFFLOADING, 1);
	slot(r, SLOT_A, MR_NH_RESOLVING, "lan", 1500);
	mr_worker_poll(r->worker[0]);
	rig_say(r, "wan", FLOW);
	mr_worker_poll(r->worker[0]);
	slot(r, SLOT_A, MR_NH_ROUTED, "lan", 1500); /* before the worker asks whether its packets wait */
	mr_worker_poll(r->worker[0]);
	cr_expect_eq(rig_sent(r, "lan"), 1);
	cr_expect_not(offloaded(r), "the queue was found empty before it was sent");
	mr_worker_poll(r->worker[0]);
	cr_expect(offloaded(r));
	finish(r);
}

/* One packet of each comes up, in bursts of more than there are places for candidates; none is lost, and all go over again. */
Test(route_pipeline, a_change_of_many_flows_at_once_is_got_over)
{
	enum { FLOWS = 1500, AT_ONCE = 500, ROUNDS = 12 };
	struct rig *r = box_of(YAML_OFFLOADING, 1);
	struct mr_flows_usage u;
	char packet[64];
	for (unsigned round = 0; round < 2 * ROUNDS; round++) {
		if (round == ROUNDS)
			route("198.51.100.0/24", MR_ROUTE_SLOT, 0, SLOT_B);
		for (unsigned i = 0; i < FLOWS; i++) {
			snprintf(packet, sizeof(packet), "udp 192.0.2.9:%u > 198.51.100.9:53", 1000 + i);
			rig_say(r, "wan", packet);
			if (i % AT_ONCE == AT_ONCE - 1)
				rig_turn(r);
		}
		mr_flows_usage(r->sh.flows, &u);
		if (round % ROUNDS == ROUNDS - 1)
			cr_expect_eq(u.offloaded, FLOWS, "round %u: %llu", round, (unsigned long long)u.offloaded);
		if (round == ROUNDS)
			cr_expect_lt(u.offloaded, FLOWS, "those of a burst without a place wait for their next packet");
		cr_expect_eq(rig_sent(r, round < ROUNDS ? "lan" : "dmz"), FLOWS);
	}
	finish(r);
}

Test(route_pipeline, slots_of_records_are_found)
{
	static unsigned marked[MR_MAX_NEXTHOPS];
	struct rig *r = box();
	char packet[128];
	for (int i = 0; i < 100; i++) {
		snprintf(packet, sizeof(packet), "udp 192.0.2.9:%u > 198.51.100.9:53", 1000 + i);
		rig_say(r, "wan", packet);
	}
	say(r, "wan", "udp [2001:db8:9::9]:1000 > [2001:db8:2::9]:53");
	say(r, "wan", "udp 192.0.2.9:1000 > 10.1.2.3:53");
	say(r, "dmz", "udp 10.1.2.3:53 > 192.0.2.9:1000"); /* no route back: the reverse record stays undecided */
	mr_route_flows_referred(&r->sh, mark, marked);
	cr_assert_eq(marked[SLOT_A], 101);
	cr_assert_eq(marked[SLOT_B], 1);
	cr_assert_eq(marked[SLOT_C], 0);
	finish(r);
}

Test(route_pipeline, a_tcp_conversation_goes_on_over_a_route_that_moves)
{
	struct rig *r = box();
	route("192.0.2.0/24", MR_ROUTE_SLOT, 0, SLOT_B);
	say(r, "wan", "tcp 192.0.2.9:1000 > 198.51.100.9:80 flags syn");
	say(r, "lan", "tcp 198.51.100.9:80 > 192.0.2.9:1000 flags syn,ack");
	route("198.51.100.0/24", MR_ROUTE_SLOT, 0, SLOT_C); /* while it is being opened */
	say(r, "wan", "tcp 192.0.2.9:1000 > 198.51.100.9:80 flags ack");
	cr_assert_eq(rig_last(r, "lan")->data[5], (uint8_t)SLOT_C);
	struct mr_session *s = mr_session_at(r->sh.sessions, mr_sessions_next(r->sh.sessions, 1));
	cr_assert_eq(s->state, MR_SESSION_ESTABLISHED);
	const struct mr_flow_state *st = mr_flows_state(r->sh.flows, s->ref[MR_FORWARD]);
	cr_assert(!(st->flags & MR_FLOW_TRACK));
	cr_assert_eq(st->nexthop, SLOT_C);
	route("198.51.100.0/24", MR_ROUTE_SLOT, 0, SLOT_A);
	say(r, "wan", "tcp 192.0.2.9:1000 > 198.51.100.9:80 flags fin,ack");
	cr_assert_eq(s->state, MR_SESSION_CLOSING);
	cr_assert(st->flags & MR_FLOW_CLOSING);
	cr_assert_eq(st->nexthop, SLOT_A);
	finish(r);
}

Test(route_pipeline, without_sessions_each_packet_asks)
{
	struct rig *r = box_of("version: 1\n"
			       "interfaces: { wan: { device: wan0 }, lan: { device: lan0 }, dmz: { device: dmz0 } }\n"
			       "pipelines: { in: { from: [ wan ], match: all, state: none, to: route } }\n",
		1);
	for (int i = 0; i < 3; i++)
		say(r, "wan", FLOW);
	cr_assert_eq(rig_sent(r, "lan"), 3);
	cr_assert_eq(net.lookup_cnt, 3);
	cr_assert_eq(mr_sessions_next(r->sh.sessions, 1), 0);
	finish(r);
}

Test(route_pipeline, a_file_cannot_be_routed_from)
{
	static const char yaml[] = "version: 1\n"
				   "interfaces: { wan: { pcap: wan.pcap }, lan: { device: lan0 } }\n"
				   "pipelines: { in: { from: [ wan ], match: all, to: route } }\n";
	struct mr_config *c;
	struct mr_error e = { 0 };
	cr_assert_eq(mr_config_read_text(yaml, strlen(yaml), "test.yaml", ".", &c, &e), 0, "%s", e.text);
	cr_assert_eq(mr_plan_check(c, 1, &e), -EINVAL);
	cr_assert(strstr(e.text, "'route' needs a device, and interface 'wan' is a file"), "%s", e.text);
	mr_config_free(c);
}

Test(route_pipeline, explained_in_words)
{
	struct rig *r = box();
	struct mr_explanation x;
	struct mr_error e = { 0 };
	uint8_t frame[MR_EXPLAIN_FRAME_MAX];
	uint32_t len = frame_of("udp 192.0.2.9:1000 > 198.51.100.9:53 length 1400", frame);
	unsigned wan = rig_id(r, "wan");
	cr_assert_eq(mr_worker_explain(&r->sh, rig_plan(r), wan, frame, len, &x, &e), 0);
	cr_assert_str_eq(x.verdict, "forward");
	cr_assert(strstr(x.text, "route in the words of the test"), "%s", x.text);
	cr_assert(strstr(x.text, "neighbour known"), "%s", x.text);
	slot(r, SLOT_A, MR_NH_RESOLVING, "lan", 1300);
	mr_worker_explain(&r->sh, rig_plan(r), wan, frame, len, &x, &e);
	cr_assert(strstr(x.text, "packets wait"), "%s", x.text);
	cr_assert(strstr(x.text, "sent in fragments"), "%s", x.text);
	forbid_fragments(frame);
	mr_worker_explain(&r->sh, rig_plan(r), wan, frame, len, &x, &e);
	cr_assert_str_eq(x.reason, "too-big");
	cr_assert(strstr(x.text, "told by ICMP"), "%s", x.text);
	slot(r, SLOT_A, MR_NH_UNREACHABLE, "lan", 1300);
	mr_worker_explain(&r->sh, rig_plan(r), wan, frame, len, &x, &e);
	cr_assert_str_eq(x.reason, "neighbour-failed");
	/* a record whose route moved */
	slot(r, SLOT_A, MR_NH_ROUTED, "lan", 1500);
	give(r, "wan", frame, len);
	route("198.51.100.0/24", MR_ROUTE_SLOT, 0, SLOT_B);
	mr_worker_explain(&r->sh, rig_plan(r), wan, frame, len, &x, &e);
	cr_assert(x.from_record);
	cr_assert_str_eq(x.egress, "dmz");
	cr_assert(strstr(x.text, "a route changed"), "%s", x.text);
	cr_assert_eq(rig_stats(r, "wan", "in").received.packets, 1);
	finish(r);
}

/* ---- waiting ---------------------------------------------------------------------------------------------------------- */

Test(route_pipeline, packets_wait_in_order_and_the_newest_do_not_fit)
{
	struct rig *r = box();
	uint8_t frame[MR_EXPLAIN_FRAME_MAX];
	uint32_t len = frame_of(FLOW, frame);
	slot(r, SLOT_A, MR_NH_RESOLVING, "lan", 1500);
	for (unsigned i = 0; i < MR_HOLD_PER_SLOT + 6; i++) {
		frame[42] = i;
		rig_inject(r, "wan", 0, frame, len);
	}
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 0);
	cr_assert_gt(net.wanted[SLOT_A], 0);
	cr_assert_eq(rig_dropped(r, "wan", "in", "neighbour-queue"), 6);
	cr_assert_eq(mr_stats_worker(r->sh.stats, 0)->held, MR_HOLD_PER_SLOT);
	cr_assert(rig_adds_up_holding(r));
	cr_assert(!mr_worker_drained(r->worker[0]));
	/* others go their way */
	say(r, "wan", "udp 192.0.2.9:1000 > 10.1.2.3:53");
	cr_assert_eq(rig_sent(r, "dmz"), 1);
	/* known now: those that waited go first */
	slot(r, SLOT_A, MR_NH_ROUTED, "lan", 1500);
	frame[42] = 200;
	give(r, "wan", frame, len);
	struct rig_list *out = &r->interface[rig_id(r, "lan")].queue[0].out;
	cr_assert_eq(out->cnt, MR_HOLD_PER_SLOT + 1);
	for (unsigned i = 0; i < MR_HOLD_PER_SLOT; i++)
		cr_assert_eq(out->frame[i].data[42], i, "at %u came %u", i, out->frame[i].data[42]);
	cr_assert_eq(out->frame[MR_HOLD_PER_SLOT].data[42], 200);
	cr_assert_eq(out->frame[0].data[14 + 8], out->frame[MR_HOLD_PER_SLOT].data[14 + 8], "each lost one of its TTL");
	cr_assert_eq(mr_stats_worker(r->sh.stats, 0)->held, 0);
	finish(r);
}

Test(route_pipeline, a_neighbour_nobody_finds_is_said)
{
	struct rig *r = box();
	slot(r, SLOT_A, MR_NH_RESOLVING, "lan", 1500);
	say(r, "wan", FLOW);
	say(r, "wan", "udp 192.0.2.8:1 > 198.51.100.9:1");
	say(r, "wan", "udp [2001:db8:9::9]:1000 > [2001:db8:2::9]:53");
	cr_assert_eq(mr_stats_worker(r->sh.stats, 0)->held, 3);
	slot(r, SLOT_A, MR_NH_UNREACHABLE, "lan", 1500);
	rig_turn(r);
	cr_assert_eq(rig_dropped(r, "wan", "in", "neighbour-failed"), 3);
	cr_assert_eq(rig_sent(r, "wan"), 3);
	unsigned wanted = net.wanted[SLOT_A];
	say(r, "wan", FLOW); /* and those that come then */
	cr_assert_eq(rig_dropped(r, "wan", "in", "neighbour-failed"), 4);
	cr_assert_eq(error_sent(r, "wan"), 3 << 8 | 1);
	cr_assert_eq(net.wanted[SLOT_A], wanted,
		"control is not woken for each: after a second the slot is RESOLVING again");
	finish(r);
}

Test(route_pipeline, the_ttl_is_looked_at_before_the_neighbour)
{
	struct rig *r = box();
	slot(r, SLOT_A, MR_NH_RESOLVING, "lan", 1500);
	say(r, "wan", FLOW " ttl 1");
	cr_assert_eq(error_sent(r, "wan"), 11 << 8);
	cr_assert_eq(net.wanted[SLOT_A], 0);
	finish(r);
}

Test(route_pipeline, what_waits_outlives_a_reload_and_ends_with_the_worker)
{
	struct rig *r = box();
	slot(r, SLOT_A, MR_NH_RESOLVING, "lan", 1500);
	say(r, "wan", FLOW);
	say(r, "dmz", "udp 192.0.2.8:1 > 198.51.100.9:1");
	/* its way in is gone */
	rig_reload(r,
		"version: 1\n"
		"interfaces: { wan: { device: wan0 }, lan: { device: lan0 } }\n"
		"pipelines: { in: { from: [ wan ], match: all, to: route } }\n");
	slot(r, SLOT_A, MR_NH_ROUTED, "lan", 1500);
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 2);
	slot(r, SLOT_A, MR_NH_RESOLVING, "lan", 1500);
	say(r, "wan", FLOW);
	say(r, "wan", "udp 192.0.2.8:1 > 198.51.100.9:1");
	cr_assert(rig_adds_up_holding(r));
	mr_worker_stop(r->worker[0]);
	cr_assert_eq(rig_dropped(r, "wan", "in", "stopping"), 2);
	cr_assert_eq(mr_stats_worker(r->sh.stats, 0)->held, 0);
	finish(r);
}

Test(route_pipeline, no_more_than_an_eighth_of_the_pool_waits)
{
	struct rig *r = box(); /* 1024 frames */
	char packet[128];
	for (unsigned s = 0; s < 4; s++) {
		uint16_t id = MR_NEXTHOP_FIRST_FREE + 20 + s;
		snprintf(packet, sizeof(packet), "10.0.%u.0/24", s);
		slot(r, id, MR_NH_RESOLVING, "lan", 1500);
		route(packet, MR_ROUTE_SLOT, 0, id);
		for (unsigned i = 0; i < 50; i++) {
			snprintf(packet, sizeof(packet), "udp 192.0.2.9:%u > 10.0.%u.9:53", 1000 + i, s);
			rig_say(r, "wan", packet);
		}
	}
	rig_turn(r);
	cr_assert_eq(mr_stats_worker(r->sh.stats, 0)->held, 128);
	cr_assert_eq(rig_dropped(r, "wan", "in", "neighbour-queue"), 72);
	cr_assert(rig_adds_up_holding(r));
	rig_destroy(r);
}

/* ---- in all of it, nothing is lost ---------------------------------------------------------------------------------------- */

Test(route_pipeline, whatever_changes_it_adds_up)
{
	static const uint8_t kinds[] = { MR_NH_ROUTED, MR_NH_RESOLVING, MR_NH_UNREACHABLE, MR_NH_NONE };
	struct rig *r = box();
	uint8_t frame[MR_EXPLAIN_FRAME_MAX];
	char text[128];
	unsigned state = 7;
	for (unsigned step = 0; step < 4000; step++) {
		state = state * 1103515245 + 12345;
		unsigned pick = state >> 16;
		uint16_t id = pick & 1 ? SLOT_A : SLOT_B;
		switch (pick % 9) {
		case 0:
			slot(r, id, kinds[pick / 16 % 4], pick & 8 ? "lan" : "dmz", 600 + pick % 1000);
			break;
		case 1:
			route(pick & 2 ? "198.51.100.0/24" : "10.0.0.0/8", pick / 16 % 3, MR_REASON_NO_ROUTE, id);
			break;
		case 2:
			snprintf(text, sizeof(text), "udp [2001:db8:9::%u]:1000 > [2001:db8:2::9]:53 length %u",
				pick % 100, 60 + pick % 1400);
			rig_say(r, "wan", text);
			break;
		default:
			snprintf(text, sizeof(text), "udp 192.0.2.%u:1000 > %s:53 length %u ttl %u", pick % 100,
				pick & 4 ? "198.51.100.9" : "10.0.0.9", 46 + pick % 1400, pick % 20);
			uint32_t len = frame_of(text, frame);
			if (pick & 32)
				forbid_fragments(frame);
			rig_inject(r, pick & 64 ? "wan" : "lan", 0, frame, len);
		}
		if (pick % 13 == 0) {
			rig_turn(r);
			cr_assert(rig_adds_up_holding(r), "after %u steps", step);
		}
	}
	rig_turn(r);
	mr_worker_stop(r->worker[0]);
	finish(r);
}

/* ---- threads -------------------------------------------------------------------------------------------------------------- */

/* As XDP does that found a FIN or RST, while workers write the record. */
static void mark_closing(void *ctx, mr_flow_ref ref, const struct mr_flow_state *st)
{
	if (__atomic_load_n(&st->flags, __ATOMIC_RELAXED) & MR_FLOW_OFFLOAD)
		__atomic_fetch_or((uint16_t *)&st->flags, MR_FLOW_CLOSING, __ATOMIC_RELAXED);
}

static void everything_changes(const char *yaml)
{
	enum { WORKERS = 2, FLOWS = 50, PACKETS = 20000 };
	struct rig *r = box_of(yaml, WORKERS);
	struct mr_error e = { 0 };
	uint8_t frame[MR_EXPLAIN_FRAME_MAX];
	char text[128];
	for (unsigned id = 1; id < 8; id++)
		for (unsigned q = 0; r->name[id] && q < WORKERS; q++)
			r->interface[id].queue[q].discard = true;
	for (unsigned q = 0; q < WORKERS; q++) {
		for (unsigned i = 0; i < FLOWS; i++) {
			snprintf(text, sizeof(text), "udp 192.0.2.9:%u > %s:53", 1000 + i,
				i & 1 ? "198.51.100.9" : "10.0.0.9"); /* the same flows by both queues */
			rig_inject(r, "wan", q, frame, frame_of(text, frame));
		}
		r->interface[rig_id(r, "wan")].queue[q].endless = PACKETS;
	}
	for (unsigned w = 0; w < WORKERS; w++)
		cr_assert_eq(mr_worker_start(r->worker[w], -1, &e), 0, "%s", e.text);
	for (unsigned i = 0; i < 400; i++) {
		struct timespec t = { .tv_nsec = 200000 };
		static const uint8_t kinds[] = { MR_NH_ROUTED, MR_NH_RESOLVING, MR_NH_ROUTED, MR_NH_UNREACHABLE };
		route("198.51.100.0/24", i % 5 == 4 ? MR_ROUTE_DROP : MR_ROUTE_SLOT, MR_REASON_NO_ROUTE,
			i % 2 ? SLOT_A : SLOT_B);
		slot(r, SLOT_A, kinds[i % 4], "lan", 1500);
		if (i % 50 == 0)
			mr_route_flows_sweep(&r->sh, &(uint64_t){ 0 }, UINT32_MAX);
		if (r->sh.tier)
			mr_flows_each(r->sh.flows, mark_closing, NULL);
		nanosleep(&t, NULL);
	}
	slot(r, SLOT_A, MR_NH_ROUTED, "lan", 1500);
	for (unsigned w = 0; w < WORKERS; w++)
		for (unsigned i = 0; i < 20000 && !mr_worker_drained(r->worker[w]); i++)
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	for (unsigned w = 0; w < WORKERS; w++)
		mr_worker_stop(r->worker[w]);
	for (unsigned w = 0; w < WORKERS; w++)
		mr_worker_stop(r->worker[w]);
	cr_assert_eq(rig_stats(r, "wan", "in").received.packets, WORKERS * PACKETS);
	finish(r);
}

Test(route_pipeline, two_workers_while_everything_changes, .timeout = 120)
{
	everything_changes(YAML);
}

Test(route_pipeline, two_workers_and_a_kernel_tier_while_everything_changes, .timeout = 120)
{
	everything_changes(YAML_OFFLOADING);
}
