/* SPDX-License-Identifier: BSD-2-Clause */
/* fuzz_parse.c - any bytes as a frame: no read past them, what is said to be known lies within them, and core/arrive.h says the same. */
#include "core/arrive.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
	if (!holds)
		abort();
}

/* Known at once are whole frames of one kind, all of them. */
static void arrive(const uint8_t *data, size_t size, const struct mr_parsed *p)
{
	struct mr_parsed q;
	struct mr_key4 key, want;
	const uint16_t flags = MR_PKT_IP4 | MR_PKT_PROTO | MR_PKT_PORTS;
	int of_kind = p->error == MR_PARSE_OK && !p->vlan_cnt && (p->flags & ~MR_PKT_DF) == flags &&
		(p->proto == MR_IP_TCP || p->proto == MR_IP_UDP);
	check(mr_arrive4(data, (uint32_t)size, MR_ZONE_DEFAULT, &q, &key) == of_kind);
	if (!of_kind)
		return;
	check(!memcmp(p, &q, offsetof(struct mr_parsed, frag_off)) && p->frag_off == q.frag_off &&
		p->frag_id_be == q.frag_id_be);
	mr_parse_key4(p, data, MR_ZONE_DEFAULT, &want);
	check(!memcmp(&want, &key, sizeof(key)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mr_parsed p, again;
	struct mr_key4 k4;
	struct mr_key6 k6;
	int err = mr_parse(data, data + size, &p);
	check(err >= 0 && err < MR_PARSE_ERROR_CNT && p.error == err);
	arrive(data, size, &p);
	check(p.vlan_cnt <= 2 && p.l3_off <= MR_L3_OFF_MAX);
	if (p.flags & MR_PKT_IP4) {
		check(p.l3_off + 20u <= size && !(p.flags & MR_PKT_IP6));
		mr_parse_key4(&p, data, MR_ZONE_DEFAULT, &k4);
		check(k4.proto == p.proto);
	}
	if (p.flags & MR_PKT_IP6) {
		check(p.l3_off + 40u <= size);
		mr_parse_key6(&p, data, MR_ZONE_DEFAULT, &k6);
		check(k6.proto == p.proto);
	}
	if (p.flags & MR_PKT_PORTS)
		check(p.flags & MR_PKT_PROTO && !(p.flags & MR_PKT_FRAG_LATER) && p.l4_off + 4u <= size);
	if (err == MR_PARSE_OK) {
		check(p.flags & MR_PKT_PROTO && p.l4_off > p.l3_off && p.l4_off <= p.l3_off + p.l3_len);
		check((size_t)p.l3_off + p.l3_len <= size);
		/* What follows the IP packet is padding: without it the frame parses the same. */
		mr_parse(data, data + p.l3_off + p.l3_len, &again);
		check(!memcmp(&p, &again, sizeof(p)));
	} else {
		check(!mr_parse_has_key(&p));
	}
	return 0;
}
