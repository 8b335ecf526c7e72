/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * script.h - for tests whose stage is a function of their own (script.c), and what they say about frames.
 */
#ifndef MR_TEST_SCRIPT_H
#define MR_TEST_SCRIPT_H

#include "../unit/rig.h"

#include "core/stage.h"
#include "kern/rewrite.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

typedef void (*script_fn)(struct mr_packet *p);

/* Loads the plugin and says what its stages do. */
static inline void script(script_fn decide, script_fn commit, script_fn give_up)
{
	struct mr_error e = { 0 };
	cr_assert_eq(mr_stage_load(MR_TEST_SCRIPT, &e), 0, "%s", e.text);
	void *h = dlopen(MR_TEST_SCRIPT, RTLD_NOW | RTLD_NOLOAD);
	cr_assert_not_null(h);
	*(script_fn *)dlsym(h, "script_decide") = decide;
	*(script_fn *)dlsym(h, "script_commit") = commit;
	*(script_fn *)dlsym(h, "script_abort") = give_up;
}

static inline const uint8_t *address(const char *text)
{
	static uint8_t bytes[8][16];
	static unsigned at;
	uint8_t *b = bytes[at++ % 8];
	memset(b, 0, 16);
	cr_assert_eq(inet_pton(strchr(text, ':') ? AF_INET6 : AF_INET, text, b), 1);
	return b;
}

static inline struct mr_parsed parsed_frame(const struct rig_frame *f)
{
	struct mr_parsed p;
	cr_assert_not_null(f);
	cr_assert_eq(mr_parse(f->data, f->data + f->len, &p), MR_PARSE_OK);
	return p;
}

/* "SRC:PORT > DST:PORT" as the frame has it, ports as in the key. */
static inline const char *ends_of(const uint8_t *frame, const struct mr_parsed *p)
{
	static char text[2 * INET6_ADDRSTRLEN + 32];
	char a[INET6_ADDRSTRLEN], b[INET6_ADDRSTRLEN];
	bool v4 = p->flags & MR_PKT_IP4;
	const uint8_t *ip = frame + p->l3_off;
	inet_ntop(v4 ? AF_INET : AF_INET6, ip + (v4 ? 12 : 8), a, sizeof(a));
	inet_ntop(v4 ? AF_INET : AF_INET6, ip + (v4 ? 16 : 24), b, sizeof(b));
	snprintf(text, sizeof(text), "%s:%u > %s:%u", a, ntohs(p->sport_be), b, ntohs(p->dport_be));
	return text;
}

/* One's complement sum, in host order. */
static inline uint32_t sum16(const uint8_t *p, uint32_t bytes, uint32_t acc)
{
	for (uint32_t i = 0; i < bytes; i++)
		acc += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (acc >> 16)
		acc = (acc & 0xffff) + (acc >> 16);
	return acc;
}

/* Checksums of the IP header and of what it carries. */
static inline bool sums_hold(const uint8_t *frame, const struct mr_parsed *p)
{
	const uint8_t *ip = frame + p->l3_off;
	uint32_t len = p->l3_off + p->l3_len - p->l4_off;
	if (p->flags & MR_PKT_IP4 && sum16(ip, (ip[0] & 15) * 4, 0) != 0xffff)
		return false;
	if (p->proto == MR_IP_ICMP)
		return sum16(frame + p->l4_off, len, 0) == 0xffff;
	if (p->proto != MR_IP_TCP && p->proto != MR_IP_UDP && p->proto != MR_IP_ICMP6)
		return true;
	uint32_t pseudo = p->flags & MR_PKT_IP4 ? sum16(ip + 12, 8, p->proto + len) : sum16(ip + 8, 32, p->proto + len);
	return sum16(frame + p->l4_off, len, pseudo) == 0xffff;
}

/* The last frame an interface sent goes from here to there. */
static inline void expect_ends(struct rig *r, const char *interface, const char *ends)
{
	const struct rig_frame *f = rig_last(r, interface);
	struct mr_parsed p = parsed_frame(f);
	cr_assert_str_eq(ends_of(f->data, &p), ends);
	cr_assert(sums_hold(f->data, &p), "%s: a checksum is wrong", ends);
}

#endif
