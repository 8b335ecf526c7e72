/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_related.c - any frame as an ICMP error about translated sessions, and as a segment whose MSS is clamped: nothing outside the frame is
 * touched, every checksum is as right or wrong as before, and what was translated is what the session says.
 *
 * Input: MSS (2 bytes; an odd one has the checksums of an ICMP error set right, as only such errors are translated), then the frame.  The sessions are those of ends[] below; tests/fuzz/corpus/related has errors about each of them.
 */
#include "core/batch.h"
#include "core/keys.h"
#include "core/mss.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define ZONE 1

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

/* Inside, remote and outside: ports, or identifier and type. */
static const struct {
	uint8_t proto;
	const char *inside;
	uint16_t inside_port;
	const char *remote;
	uint16_t remote_port;
	const char *outside;
	uint16_t outside_port;
} ends[] = {
	{ 17, "10.0.0.1", 1000, "192.0.2.1", 53, "203.0.113.1", 40000 },
	{ 6, "10.0.0.1", 1000, "192.0.2.1", 80, "203.0.113.1", 40001 },
	{ 1, "10.0.0.1", 77, "192.0.2.1", 8, "203.0.113.1", 500 },
	{ 47, "10.0.0.1", 0, "192.0.2.1", 0, "203.0.113.1", 0 },
	{ 17, "10.0.0.2", 9, "192.0.2.1", 9, "10.0.0.2", 9 }, /* not translated */
	{ 17, "fd00::1", 1000, "2001:db8::9", 53, "2001:db8::1", 40000 },
	{ 6, "fd00::1", 1000, "2001:db8::9", 80, "2001:db8::1", 40001 },
	{ 58, "fd00::1", 77, "2001:db8::9", 128, "2001:db8::1", 500 },
};

static struct mr_flow_key key_of(
	uint8_t proto, const char *src, uint16_t sport, const char *dst, uint16_t dport, uint64_t seed)
{
	struct mr_flow_key k = { .family = strchr(src, ':') ? 6 : 4 };
	if (k.family == 4) {
		k.k4.zone = ZONE;
		k.k4.proto = proto;
		inet_pton(AF_INET, src, &k.k4.saddr_be);
		inet_pton(AF_INET, dst, &k.k4.daddr_be);
		k.k4.sport_be = htons(sport);
		k.k4.dport_be = htons(dport);
		k.hash = mr_flow_hash4(&k.k4, seed);
	} else {
		k.k6.zone = ZONE;
		k.k6.proto = proto;
		inet_pton(AF_INET6, src, k.k6.saddr_be);
		inet_pton(AF_INET6, dst, k.k6.daddr_be);
		k.k6.sport_be = htons(sport);
		k.k6.dport_be = htons(dport);
		k.hash = mr_flow_hash6(&k.k6, seed);
	}
	return k;
}

static struct mr_shared *world(void)
{
	static struct mr_shared sh;
	struct mr_flows_options lo = { .capacity4 = 64, .capacity6 = 64, .seed = 7 };
	struct mr_error e;
	if (sh.flows)
		return &sh;
	sh.epoch = mr_epoch_create();
	check(!mr_flows_create(&lo, &sh.flows, &e));
	struct mr_sessions_options so = {
		.capacity = 32, .half_open_max = 32, .worker_cnt = 1, .flows = sh.flows, .epoch = sh.epoch
	};
	check(!mr_sessions_create(&so, &sh.sessions, &e));
	for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		struct mr_flow_key forward = key_of(ends[i].proto, ends[i].inside, ends[i].inside_port, ends[i].remote,
					   ends[i].remote_port, 7),
				   reply = key_of(ends[i].proto, ends[i].remote, ends[i].remote_port, ends[i].outside,
					   ends[i].outside_port, 7);
		struct mr_flow_decision d = { .generation = 1 };
		uint32_t idx;
		check(!mr_session_create(sh.sessions, 0, &forward, &reply, &d, 2, false, NULL, 1, &idx));
	}
	return &sh;
}

static uint32_t sum(const uint8_t *p, uint32_t n, uint32_t acc)
{
	for (uint32_t i = 0; i < n; i++)
		acc += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (acc >> 16)
		acc = (acc & 0xffff) + (acc >> 16);
	return acc == 0xffff ? 0 : acc;
}

/* Of the IPv4 header, and of the transport. */
static void sums(const uint8_t *frame, const struct mr_parsed *p, uint32_t out[2])
{
	bool v4 = p->flags & MR_PKT_IP4;
	const uint8_t *ip = frame + p->l3_off;
	uint32_t len = p->l3_off + p->l3_len - p->l4_off;
	uint32_t pseudo = v4 ? p->proto == MR_IP_ICMP ? 0 : sum(ip + 12, 8, 0) : sum(ip + 8, 32, 0);
	out[0] = v4 ? sum(ip, (uint32_t)p->l4_off - p->l3_off, 0) : 0;
	out[1] = sum(frame + p->l4_off, len, pseudo);
}

static void store_sum(uint8_t *at, uint32_t rest)
{
	at[0] = (uint8_t)(~rest >> 8);
	at[1] = (uint8_t)~rest;
}

/* Of the error, and of a quoted IPv4 header that is there. */
static void repair(uint8_t *frame, const struct mr_parsed *p)
{
	bool v4 = p->flags & MR_PKT_IP4;
	uint32_t len = p->l3_off + p->l3_len - p->l4_off, hlen;
	uint8_t *icmp = frame + p->l4_off, *ip = icmp + 8;
	if (v4 && len >= 28) {
		hlen = (ip[0] & 15) * 4u;
		ip[10] = ip[11] = 0;
		if (hlen >= 20 && hlen + 8 <= len)
			store_sum(ip + 10, sum(ip, hlen, 0));
	}
	icmp[2] = icmp[3] = 0;
	store_sum(icmp + 2, sum(icmp, len, v4 ? 0 : sum(frame + p->l3_off + 8, 32, len + MR_IP_ICMP6)));
}

static void translate(struct mr_packet *p, uint32_t len)
{
	struct mr_parsed again;
	uint32_t before[2], after[2];
	if (!mr_related_find(p, &p->related))
		return;
	const struct mr_related *r = &p->related;
	unsigned bytes = r->family == 4 ? 4 : 16, at = r->family == 4 ? 12 : 8;
	check(r->session && r->ip_off + 28 <= r->end && r->end <= len && r->l4_off + 8 <= r->end);
	memcpy(p->tuple.src, p->data + p->parsed->l3_off + at, bytes);
	memcpy(p->tuple.dst, mr_key_source(&r->was), bytes);
	if (r->source)
		memcpy(p->tuple.src, mr_key_destination(&r->was), bytes);
	uint8_t *was = malloc(len);
	memcpy(was, p->data, len);
	sums(p->data, p->parsed, before);
	mr_related_apply(p);
	sums(p->data, p->parsed, after);
	check(before[0] == after[0] && before[1] == after[1]);
	check(r->changes || !memcmp(was, p->data, len));
	check(mr_parse(p->data, p->data + len, &again) == MR_PARSE_OK && !memcmp(&again, p->parsed, sizeof(again)));
	check(!memcmp(p->data + r->ip_off + at, mr_key_source(&r->was), bytes));
	check(!memcmp(p->data + r->ip_off + at + bytes, mr_key_destination(&r->was), bytes));
	check(!memcmp(was, p->data, p->parsed->l3_off) && !memcmp(was + r->end, p->data + r->end, len - r->end));
	free(was);
}

static void clamp(uint8_t *frame, const struct mr_parsed *p, uint32_t mss)
{
	static const struct mr_nexthop nh = { .kind = MR_NH_ROUTED, .mtu = 1300 };
	uint32_t before[2], after[2];
	sums(frame, p, before);
	bool did = mr_mss_clamp(frame + p->l4_off, p, mss ? mss : MR_MSS_AUTO, &nh);
	sums(frame, p, after);
	check(before[0] == after[0] && before[1] == after[1]);
	check(!did || !mr_mss_clamp(frame + p->l4_off, p, mss ? mss : MR_MSS_AUTO, &nh));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mr_pass pass = { .sh = world() };
	struct mr_parsed parsed;
	struct mr_packet p = { .pass = &pass, .parsed = &parsed, .zone = ZONE };
	if (size < 2 || size > 4096)
		return 0;
	uint32_t len = (uint32_t)(size - 2);
	p.data = malloc(len + !len); /* ends where memory ends, so that a sanitizer sees a step outside */
	memcpy(p.data, data + 2, len);
	mr_parse(p.data, p.data + len, &parsed);
	if (data[1] & 1 && parsed.error == MR_PARSE_OK && parsed.flags & MR_PKT_ICMP_ERROR &&
		!(parsed.flags & MR_PKT_FRAG_LATER))
		repair(p.data, &parsed);
	mr_epoch_online(pass.sh->epoch, 0);
	translate(&p, len);
	mr_epoch_offline(pass.sh->epoch, 0);
	if (parsed.error == MR_PARSE_OK && parsed.proto == MR_IP_TCP && !(parsed.flags & MR_PKT_FRAG))
		clamp(p.data, &parsed, (uint32_t)data[0] << 8 | data[1]);
	free(p.data);
	return 0;
}
