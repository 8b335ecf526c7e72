/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stages from plugins: loading, the ABI, translation, sessions' private bytes, abort and expire, reload.
 * MR_TEST_RELAY is tests/plugin/relay.c; MR_TEST_EXAMPLE is docs/example-stage built by its own Makefile.
 */
#include "../unit/rig.h"

#include "core/neighbour.h"
#include "core/route.h"
#include "core/stage.h"
#include "kern/rewrite.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HEAD "version: 1\ninterfaces:\n  wan: { device: wan0 }\n  lan: { device: lan0 }\nstages:\n  s: { "
#define TAIL                                                            \
	" }\npipelines:\n"                                              \
	"  in: { from: [ wan ], match: all, stages: [ s ], to: lan }\n" \
	"  out: { from: [ lan ], match: all, stages: [ s ], to: wan }\n"

static void load(const char *path)
{
	struct mr_error e = { 0 };
	cr_assert_eq(mr_stage_load(path, &e), 0, "%s", e.text);
}

static unsigned *relay(const char *symbol)
{
	void *h = dlopen(MR_TEST_RELAY, RTLD_NOW | RTLD_NOLOAD);
	cr_assert_not_null(h);
	unsigned *at = dlsym(h, symbol);
	cr_assert_not_null(at);
	return at;
}

Test(plugin, loading)
{
	struct mr_error e = { 0 };
	load(MR_TEST_RELAY);
	load(MR_TEST_RELAY);
	cr_assert_not_null(mr_stage_find("relay"));
	cr_assert_null(mr_stage_find("none such"));
	cr_assert_eq(mr_stage_load("/nonexistent.so", &e), -ENOENT);
	cr_assert(strstr(e.text, "/nonexistent.so"));
	cr_assert_eq(mr_stage_load("/proc/self/exe", &e), -ENOEXEC);
	cr_assert_eq(mr_stage_load("/proc/self/maps", &e), -ENOEXEC);
	cr_assert_eq(mr_stage_load(MR_TEST_TWIN, &e), -EEXIST, "%s", e.text);
	cr_assert(strstr(e.text, "'relay'"), "%s", e.text);
	cr_assert_eq(mr_stage_load(MR_TEST_OLD, &e), -ENOEXEC);
	cr_assert(strstr(e.text, "ABI"), "%s", e.text);
	unsigned n = 0;
	while (mr_stage_at(n))
		n++;
	cr_assert_eq(mr_stage_at(n - 1), mr_stage_find("relay"));
}

static struct mr_parsed parse(const struct rig_frame *f)
{
	struct mr_parsed p;
	cr_assert_not_null(f);
	cr_assert_eq(mr_parse(f->data, f->data + f->len, &p), MR_PARSE_OK);
	return p;
}

/* RFC 1071 over header and pseudo header: a wrong delta shows. */
static bool sums_right(const struct rig_frame *f)
{
	struct mr_parsed p = parse(f);
	const uint8_t *ip = f->data + p.l3_off, *l4 = f->data + p.l4_off;
	unsigned len = p.l3_off + p.l3_len - p.l4_off;
	uint32_t head = 0, sum = htons(p.proto) + htons(len);
	for (unsigned i = 0; i < 20; i += 2)
		head += mr_load16(ip + i);
	for (unsigned i = 12; i < 20; i += 2)
		sum += mr_load16(ip + i);
	for (unsigned i = 0; i + 1 < len; i += 2)
		sum += mr_load16(l4 + i);
	sum += len & 1 ? htons(l4[len - 1] << 8) : 0;
	return mr_csum_fold(head) == 0xffff && mr_csum_fold(sum) == 0xffff;
}

static void expect(
	struct rig *r, const char *interface, const char *src, uint16_t sport, const char *dst, uint16_t dport)
{
	const struct rig_frame *f = rig_last(r, interface);
	struct mr_parsed p = parse(f);
	char a[INET_ADDRSTRLEN], b[INET_ADDRSTRLEN];
	inet_ntop(AF_INET, f->data + p.l3_off + 12, a, sizeof(a));
	inet_ntop(AF_INET, f->data + p.l3_off + 16, b, sizeof(b));
	cr_assert_str_eq(a, src);
	cr_assert_str_eq(b, dst);
	cr_assert_eq(ntohs(p.sport_be), sport);
	cr_assert_eq(ntohs(p.dport_be), dport);
	cr_assert(sums_right(f));
}

Test(plugin, translation_there_and_back)
{
	load(MR_TEST_RELAY);
	struct rig *r = rig_create(HEAD "type: relay, to: 10.9.9.9, port: 8080" TAIL, NULL);
	for (int i = 0; i < 3; i++) {
		rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:80 length 77");
		rig_turn(r);
		expect(r, "lan", "10.0.0.1", 1000, "10.9.9.9", 8080);
		rig_say(r, "lan", "udp 10.9.9.9:8080 > 10.0.0.1:1000 length 78");
		rig_turn(r);
		expect(r, "wan", "10.0.0.2", 80, "10.0.0.1", 1000);
	}
	cr_assert_eq(rig_stats(r, "wan", "in").hits, 2);
	cr_assert_eq(rig_stats(r, "lan", "out").hits, 2);
	/* translated packets are not the kernel's; another generation asks revalidate and keeps the translation */
	rig_reload(r, HEAD "type: relay, to: 10.7.7.7, port: 1" TAIL);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:80 length 77");
	rig_turn(r);
	expect(r, "lan", "10.0.0.1", 1000, "10.9.9.9", 8080);
	cr_assert_eq(rig_counter(r, "stages.s.revalidated"), 1, "%llu of %llu",
		(unsigned long long)rig_counter(r, "stages.s.revalidated"),
		(unsigned long long)rig_counter(r, "stages.s.decided"));
	rig_say(r, "wan", "udp 10.0.0.1:1001 > 10.0.0.2:80 length 77");
	rig_turn(r);
	expect(r, "lan", "10.0.0.1", 1001, "10.7.7.7", 1);
	cr_assert_eq(*relay("relay_aborted"), 0);
	/* ... or ends the session: the packet is then the first of a new one */
	rig_reload(r, HEAD "type: relay, to: 10.6.6.6, port: 2, end: true" TAIL);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 10.0.0.2:80 length 77");
	rig_turn(r);
	expect(r, "lan", "10.0.0.1", 1000, "10.6.6.6", 2);
	cr_assert_eq(*relay("relay_expired"), 1);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(plugin, tcp_is_translated_and_a_batch_of_first_packets_takes_one)
{
	load(MR_TEST_RELAY);
	struct rig *r = rig_create(HEAD "type: relay, to: 10.9.9.9" TAIL, NULL);
	for (int i = 0; i < 40; i++)
		rig_say(r, "wan", "tcp 10.0.0.1:1000 > 10.0.0.2:80 flags syn");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 40);
	struct mr_sessions_usage u;
	mr_sessions_usage(r->sh.sessions, &u);
	cr_assert_eq(u.live, 1);
	cr_assert_eq(*relay("relay_aborted"), 0, "no packet took what it had to give back");
	rig_say(r, "wan", "tcp 10.0.0.1:1000 > 10.0.0.2:80 flags syn");
	rig_turn(r);
	expect(r, "lan", "10.0.0.1", 1000, "10.9.9.9", 80);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(plugin, a_full_table_drops_what_needs_a_session)
{
	load(MR_TEST_RELAY);
	struct rig_options opt = { .sessions = 64 };
	struct rig *r = rig_create(HEAD "type: relay, to: 10.9.9.9, one_way: true" TAIL, &opt);
	char packet[80];
	for (unsigned i = 0; i < 500; i++) {
		snprintf(packet, sizeof(packet), "udp 10.0.%u.%u:1000 > 10.0.0.2:80", i / 200, i % 200);
		rig_say(r, "wan", packet);
	}
	rig_turn(r);
	struct mr_sessions_usage u;
	mr_sessions_usage(r->sh.sessions, &u);
	unsigned sent = rig_sent(r, "lan");
	cr_assert_eq(sent, u.live);
	cr_assert_eq(rig_dropped(r, "wan", "in", "table-full"), 500 - sent);
	cr_assert_eq(*relay("relay_aborted"), 500 - sent);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(plugin, the_example_of_the_documentation)
{
	load(MR_TEST_EXAMPLE);
	struct rig *r = rig_create(HEAD "type: hostquota, sessions: 3" TAIL, NULL);
	char packet[80];
	for (unsigned i = 0; i < 10; i++) {
		snprintf(packet, sizeof(packet), "udp 10.0.0.1:%u > 10.0.0.2:80", 1000 + i);
		rig_say(r, "wan", packet);
	}
	rig_say(r, "wan", "udp 10.0.0.7:1000 > 10.0.0.2:80");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 4);
	cr_assert_eq(rig_dropped(r, "wan", "in", "hostquota-exceeded"), 7);
	struct mr_explanation x;
	struct mr_error e;
	struct rig_frame f = r->interface[1].queue[0].in.frame[9];
	for (int i = 0; i < 5; i++)
		cr_assert_eq(mr_worker_explain(&r->sh, rig_plan(r), 1, f.data, f.len, &x, &e), 0);
	cr_assert_str_eq(x.reason, "hostquota-exceeded");
	cr_assert(strstr(x.text, "its source has 3 of 3 sessions"), "%s", x.text);
	/* counted over a reload, and given back when a session ends */
	rig_reload(r, HEAD "type: hostquota, sessions: 4" TAIL);
	rig_say(r, "wan", "udp 10.0.0.1:2000 > 10.0.0.2:80");
	rig_say(r, "wan", "udp 10.0.0.1:2001 > 10.0.0.2:80");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 1);
	mr_session_end(r->sh.sessions, 1, mr_sessions_next(r->sh.sessions, 1), 1);
	rig_say(r, "wan", "udp 10.0.0.1:2001 > 10.0.0.2:80");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "lan"), 1);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

/* Sessions live through a reload, and so each stage must find its bytes where it left them. */
Test(plugin, a_stage_keeps_its_place_in_sessions)
{
#define TWO(first, second)                                                                                      \
	"version: 1\ninterfaces:\n  wan: { device: wan0 }\n  lan: { device: lan0 }\nstages:\n"                  \
	"  " first ": { type: relay, to: 10.9.9.9 }\n  " second ": { type: relay, to: 10.9.9.9 }\npipelines:\n" \
	"  in: { from: [ wan ], match: all, stages: [ " first ", " second " ], to: lan }\n"
	load(MR_TEST_RELAY);
	struct rig *r = rig_create(HEAD "type: relay, to: 10.9.9.9" TAIL, NULL);
	cr_assert_eq(rig_plan(r)->stage[0].session_offset, 0);
	rig_reload(r, TWO("a", "s"));
	cr_assert_str_eq(rig_plan(r)->stage[1].name, "s");
	cr_assert_eq(rig_plan(r)->stage[1].session_offset, 0);
	cr_assert_eq(rig_plan(r)->stage[0].session_offset, 16);
	rig_reload(r, TWO("s", "a"));
	cr_assert_eq(rig_plan(r)->stage[0].session_offset, 0);
	cr_assert_eq(rig_plan(r)->stage[1].session_offset, 16);
	/* who comes new takes what nobody had, if there is such */
	rig_reload(r, HEAD "type: relay, to: 10.9.9.9" TAIL);
	rig_reload(r,
		"version: 1\ninterfaces:\n  wan: { device: wan0 }\n  lan: { device: lan0 }\nstages:\n"
		"  b: { type: relay, to: 10.9.9.9 }\npipelines:\n"
		"  in: { from: [ wan ], match: all, stages: [ b ], to: lan }\n");
	cr_assert_eq(rig_plan(r)->stage[0].session_offset, 16);
	rig_destroy(r);
}

/* ---- tunnels ---------------------------------------------------------------------------------------------------- */

static struct mr_neighbours *slots;
static struct mr_routes *routes; /* none in it: the outer destination goes nowhere until the test says so */

static void make_slots(struct mr_shared *sh)
{
	struct mr_neighbours_options opt = { .nexthops = sh->nexthops, .epoch = sh->epoch };
	struct mr_error e = { 0 };
	cr_assert_eq(mr_neighbours_create(&opt, true, &slots, &e), 0, "%s", e.text);
	struct mr_routes_options ro = { .neighbours = slots, .epoch = sh->epoch };
	cr_assert_eq(mr_routes_create(&ro, &routes, &e), 0, "%s", e.text);
	sh->neighbours = slots;
	sh->routes = routes;
}

/* As if the outer destination were a neighbour on lan. */
static uint16_t resolve_tunnel(struct rig *r)
{
	struct mr_nexthop nh;
	for (unsigned id = MR_NEXTHOP_FIRST_FREE; id < MR_MAX_NEXTHOPS; id++) {
		mr_nexthops_get(r->sh.nexthops, id, &nh);
		if (!nh.encap)
			continue;
		nh.kind = MR_NH_ROUTED;
		nh.egress = rig_id(r, "lan");
		nh.mtu = 1500;
		mr_nexthops_set(r->sh.nexthops, id, &nh);
		return id;
	}
	return 0;
}

Test(plugin, a_tunnel_is_where_the_packet_ends)
{
	struct rig_options opt = { .route = make_slots };
	load(MR_TEST_TUNNEL);
	struct rig *r = rig_create(HEAD "type: tunnel, src: 192.0.2.1, dst: 198.51.100.7" TAIL, &opt);
	cr_assert(rig_plan(r)->wants_routes);
	uint16_t slot = resolve_tunnel(r);
	cr_assert(slot);
	for (int i = 0; i < 3; i++) {
		rig_say(r, "wan", "udp 10.0.0.1:1000 > 203.0.113.10:53 ttl 33");
		rig_turn(r);
		struct mr_parsed p = parse(rig_last(r, "lan"));
		const uint8_t *ip = rig_last(r, "lan")->data + p.l3_off;
		cr_assert_eq(p.proto, MR_IP_IP4);
		cr_assert_eq(p.ttl, 64);
		cr_assert(!memcmp(ip + 12, "\xc0\x00\x02\x01\xc6\x33\x64\x07", 8));
		cr_assert_eq(ip[20 + 8], 32, "the inner TTL is %u", ip[20 + 8]);
	}
	cr_assert_eq(rig_stats(r, "wan", "in").hits, 2);
	/* the same tunnel in the next configuration is the same slot: flows stay, and nothing fills up */
	rig_reload(r, HEAD "type: tunnel, src: 192.0.2.1, dst: 198.51.100.7" TAIL);
	resolve_tunnel(r);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 203.0.113.10:53 ttl 33");
	rig_turn(r);
	struct mr_neighbours_usage usage;
	mr_neighbours_usage(slots, &usage);
	cr_assert_eq(usage.tunnel_cnt, 1);
	cr_assert_eq(rig_sent(r, "lan"), 4);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
	mr_routes_destroy(routes);
	mr_neighbours_destroy(slots);
}

Test(plugin, a_tunnel_by_udp_and_over_ipv6)
{
	struct rig_options opt = { .route = make_slots };
	load(MR_TEST_TUNNEL);
	struct rig *r = rig_create(HEAD "type: tunnel, src: '2001:db8::1', dst: '2001:db8::7', gue: 6080" TAIL, &opt);
	cr_assert(resolve_tunnel(r));
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 203.0.113.10:53");
	rig_turn(r);
	struct mr_parsed p = parse(rig_last(r, "lan"));
	cr_assert(p.flags & MR_PKT_IP6);
	cr_assert_eq(p.proto, MR_IP_UDP);
	cr_assert_eq(p.dport_be, htons(6080));
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
	mr_routes_destroy(routes);
	mr_neighbours_destroy(slots);
}

Test(plugin, a_translation_the_stack_would_have_to_take_is_dropped)
{
	struct rig_options opt = { .route = make_slots };
	load(MR_TEST_RELAY);
	struct rig *r = rig_create("version: 1\ninterfaces:\n  wan: { device: wan0 }\n  lan: { device: lan0 }\n"
				   "stages:\n  s: { type: relay, to: 224.0.0.9, port: 53 }\n"
				   "pipelines:\n  in: { from: [ wan ], match: all, stages: [ s ], to: route }\n",
		&opt);
	rig_say(r, "wan", "udp 10.0.0.1:1000 > 203.0.113.10:53");
	rig_turn(r);
	cr_assert_eq(rig_kernel(r, "wan"), 0);
	cr_assert_eq(rig_dropped(r, "wan", "in", "no-nexthop"), 1);
	cr_assert_eq(mr_sessions_next(r->sh.sessions, 1), 0);
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
	mr_routes_destroy(routes);
	mr_neighbours_destroy(slots);
}
