/* SPDX-License-Identifier: BSD-2-Clause */
/* test_steer.c - classification equals the plain evaluation entry by entry; the refusals of the compiler. */
#include "kern/steer.h"
#include "tests/steer_model.h"

#include <criterion/criterion.h>
#include <errno.h>

Test(steer, equals_the_model)
{
	static const unsigned sizes[] = { 0, 1, 2, 5, 16, 63, 64, 65, 130, 256 };
	static struct steer_set set;
	struct rng r = { 42 };
	unsigned long hits = 0, late = 0;
	for (unsigned i = 0; i < 200; i++) {
		struct mr_steer_table *t;
		struct mr_error e = { "" };
		random_entries(&r, &set, sizes[i % 10]);
		cr_assert(!mr_steer_compile(set.entry, set.cnt, &t, &e), "%s", e.text);
		for (unsigned k = 0; k < 2000; k++) {
			struct packet p;
			struct mr_parsed parsed;
			packet_build(&r, &p);
			if (!(k % 3))
				packet_damage(&r, &p);
			uint8_t *exact = malloc(p.len);
			memcpy(exact, p.bytes, p.len);
			mr_parse(exact, exact + p.len, &parsed);
			int want = model_classify(&set, &parsed, exact), got = mr_steer_classify(t, &parsed, exact);
			cr_assert_eq(got, want, "table %u packet %u: %d, wanted %d", i, k, got, want);
			free(exact);
			hits += want >= 0;
			late += want > 3;
		}
		mr_steer_table_free(t);
	}
	cr_assert(hits > 10000 && late > 1000, "%lu %lu", hits, late);
}

static struct mr_parsed parsed_udp(uint8_t *frame, uint16_t dport, uint16_t frag)
{
	static const uint8_t head[] = {
		[12] = 8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 0, 0, 8, 0, 0
	};
	struct mr_parsed p;
	memcpy(frame, head, sizeof(head));
	put16(frame + 36, dport);
	put16(frame + 20, frag);
	mr_parse(frame, frame + sizeof(head), &p);
	return p;
}

/* A pipeline with an except entry is passed over as a whole; the next one still gets its turn. */
Test(steer, except_strikes_its_pipeline_only)
{
	struct mr_range dns = { 53, 53 }, low = { 0, 1023 };
	struct mr_config_match except = { .dport = { &dns, 1 } }, match = { .dport = { &low, 1 } };
	struct mr_steer_entry entry[] = { { &except, 0, true }, { &match, 0, false }, { NULL, 0, false },
		{ &match, 1, false } };
	struct mr_steer_table *t;
	struct mr_parsed p;
	uint8_t frame[64];
	cr_assert(!mr_steer_compile(entry, 4, &t, NULL));
	p = parsed_udp(frame, 53, 0);
	cr_assert_eq(mr_steer_classify(t, &p, frame), 1);
	p = parsed_udp(frame, 54, 0);
	cr_assert_eq(mr_steer_classify(t, &p, frame), 0);
	p = parsed_udp(frame, 2000, 0);
	cr_assert_eq(mr_steer_classify(t, &p, frame), 0);
	mr_steer_table_free(t);
}

Test(steer, later_fragments_follow_port_matches)
{
	struct mr_range port = { 53, 53 }, tcp = { 6, 6 };
	struct mr_config_match by_port = { .dport = { &port, 1 } },
			       by_tcp_port = { .dport = { &port, 1 }, .proto = { &tcp, 1 } };
	struct mr_steer_entry entry[] = { { &by_tcp_port, 0, false }, { &by_port, 1, false } };
	struct mr_steer_table *t;
	struct mr_parsed p;
	uint8_t frame[64];
	cr_assert(!mr_steer_compile(entry, 2, &t, NULL));
	p = parsed_udp(frame, 80, 0);
	cr_assert_eq(mr_steer_classify(t, &p, frame), -1);
	p = parsed_udp(frame, 80, 100);
	cr_assert_eq(mr_steer_classify(t, &p, frame), 1);
	frame[23] = 47; /* GRE has no ports, so no fragment of it satisfies one */
	mr_parse(frame, frame + 42, &p);
	cr_assert_eq(mr_steer_classify(t, &p, frame), -1);
	mr_steer_table_free(t);
}

/* The kernel sends up every fragment that some port could make ours; then the true ports count. */
Test(steer, fragments_of_an_address_pair_come_up_together)
{
	struct mr_range port = { 53, 53 }, udp = { 17, 17 };
	struct mr_config_match by_proto = { .proto = { &udp, 1 } }, dns = { .dport = { &port, 1 } };
	struct mr_steer_entry entry[] = { { &dns, 0, true }, { &by_proto, 0, false } };
	struct mr_steer_table *t;
	struct mr_parsed p;
	uint8_t frame[64];
	cr_assert(!mr_steer_compile(entry, 2, &t, NULL));
	cr_assert(mr_steer_needs_first(t));
	p = parsed_udp(frame, 53, 0x2000);
	cr_assert_eq(mr_steer_classify(t, &p, frame), -1, "by its own port the first one stays");
	cr_assert(mr_steer_wants_fragment(t, &p, frame),
		"an except by port is no reason to leave fragments with the kernel");
	p = parsed_udp(frame, 53, 100);
	cr_assert_eq(mr_steer_classify(t, &p, frame), 0);
	p.flags |= MR_PKT_FRAG_KNOWN | MR_PKT_PORTS;
	p.dport_be = mr_be16(53);
	cr_assert_eq(mr_steer_classify(t, &p, frame), -1, "nor does a later one once its port is known");
	p.dport_be = mr_be16(54);
	cr_assert_eq(mr_steer_classify(t, &p, frame), 0);
	mr_steer_table_free(t);
}

Test(steer, key_only)
{
	struct mr_range one = { 6, 6 };
	struct mr_icmp_type echo = { 8, -1 };
	struct mr_config_match proto = { .proto = { &one, 1 } }, vlan = { .vlan = { &one, 1 } },
			       icmp = { .icmp = { &echo, 1 } };
	const struct mr_config_match *match[] = { NULL, &proto, &vlan, &icmp };
	for (unsigned i = 0; i < 4; i++) {
		struct mr_steer_entry entry = { match[i], 0, false };
		struct mr_steer_table *t;
		cr_assert(!mr_steer_compile(&entry, 1, &t, NULL));
		cr_assert_eq(mr_steer_key_only(t), i < 2);
		mr_steer_table_free(t);
	}
}

Test(steer, refusals)
{
	static struct mr_steer_entry entry[MR_STEER_ENTRIES + 1];
	struct mr_steer_table *t = NULL;
	struct mr_error e = { "" };
	cr_assert_eq(mr_steer_compile(entry, MR_STEER_ENTRIES + 1, &t, &e), -E2BIG);
	cr_assert(strstr(e.text, "257"), "%s", e.text);
	cr_assert(!mr_steer_compile(entry, MR_STEER_ENTRIES, &t, &e));
	mr_steer_table_free(t);
	t = NULL;
	entry[0].pipeline = 1; /* and entry 1 of pipeline 0 after it */
	cr_assert_eq(mr_steer_compile(entry, 2, &t, &e), -EINVAL);
	entry[0].pipeline = MR_MAX_PIPELINES;
	cr_assert_eq(mr_steer_compile(entry, 1, &t, &e), -EINVAL);

	unsigned cnt = MR_STEER_PREFIXES + 1;
	struct mr_prefix *many = calloc(cnt, sizeof(*many));
	for (unsigned i = 0; i < cnt; i++)
		many[i] = (struct mr_prefix){ 4, 32, { 10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i } };
	struct mr_config_match match = { .src = { .items = many, .cnt = cnt } };
	entry[0] = (struct mr_steer_entry){ &match, 0, false };
	cr_assert_eq(mr_steer_compile(entry, 1, &t, &e), -E2BIG);
	cr_assert(strstr(e.text, "source prefixes"), "%s", e.text);
	match.src.cnt--;
	cr_assert(!mr_steer_compile(entry, 1, &t, &e));
	mr_steer_table_free(t);
	free(many);
}

/* 256 entries can tell 2^n groups of ports apart in theory: more classes than there are is refused in a sentence. */
Test(steer, too_many_groups_of_ports)
{
	static struct mr_steer_entry entry[16];
	static struct mr_config_match match[16];
	struct mr_steer_table *t;
	struct mr_error e = { "" };
	for (unsigned i = 0; i < 16;
		i++) { /* entry i: ports with bit i set, so that every port is a group of its own */
		uint32_t cnt = 0x8000u >> i;
		struct mr_range *items = calloc(cnt, sizeof(*items));
		for (uint32_t k = 0; k < cnt; k++)
			items[k] = (struct mr_range){ (2 * k + 1) << i, ((2 * k + 1) << i) + (1u << i) - 1 };
		match[i].dport = (struct mr_range_list){ items, cnt };
		entry[i].match = &match[i];
	}
	cr_assert_eq(mr_steer_compile(entry, 16, &t, &e), -E2BIG);
	cr_assert(strstr(e.text, "destination ports"), "%s", e.text);
	for (unsigned i = 0; i < 16; i++)
		free(match[i].dport.items);
	mr_steer_table_free(NULL);
}
