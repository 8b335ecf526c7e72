/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_tier_kern.c - the kernel tier takes what the flow tier would send, byte for byte and count for count.
 *
 * What it is in doubt about: test_tier_doubts_kern.c.  Nanoseconds: bench/bench_tier.c.
 */
#include "tier_scene.h"

#define PACKETS 60000

/* ---- generated -------------------------------------------------------------------------------------------------- */

static void generate(struct rng *r, struct scene *s)
{
	memset(s, 0, sizeof(*s));
	for (unsigned tries = 0; tries < 8; tries++) { /* mostly such that may be taken */
		packet_build(r, &s->p);
		parse(s);
		if (has_flow(s) && !(s->parsed.flags & (MR_PKT_FRAG | MR_PKT_OPTIONS)))
			break;
	}
	if (s->parsed.proto == MR_IP_TCP && s->parsed.flags & MR_PKT_PORTS && rng_below(r, 8)) {
		uint8_t *tcp = s->p.bytes + s->parsed.l4_off; /* its checksum stays as wrong as it gets */
		tcp[13] &= ~7;
	}
	if (!rng_below(r, 8))
		packet_damage(r, &s->p);
	if (s->p.len < 14)
		s->p.len = 14;
	parse(s);
	if (s->parsed.flags & MR_PKT_IP4)
		random_rewrite4(r, &s->parsed, &s->k4, &s->r4);
	if (s->parsed.flags & MR_PKT_IP6)
		random_rewrite6(r, &s->parsed, &s->k6, &s->r6);
	random_nexthop(r, &s->nh);
	if (!rng_below(r, 40))
		s->nh.kind = MR_NH_RESOLVING + rng_below(r, 2);
	if (rng_below(r, 4))
		s->nh.flags = 0;
	s->nh.egress = rng_below(r, 20) ? rng_below(r, 2) ? BED_ID : BED_OTHER : BED_DOWN;
	s->nh.mtu = rng_below(r, 3) ? 0 : rng_below(r, 3) ? 9000 : s->parsed.l3_len - 2 + rng_below(r, 64);
	s->ingress = BED_PAIR;
	s->st.generation = BED_GENERATION;
	s->st.nexthop = SLOT;
	s->st.flags = MR_FLOW_DECIDED | MR_FLOW_OFFLOAD;
	s->st.flags |= rng_below(r, 4) * MR_FLOW_SNAT;
	s->st.flags |= rng_below(r, 3) ? 0 : MR_FLOW_NO_TTL;
	s->st.flags |= s->nh.kind == MR_NH_ROUTED && rng_below(r, 2) ? MR_FLOW_ROUTED : 0;
}

static void test_generated(struct bed *b)
{
	static unsigned long kinds[5][5], family[2], nat[4], protos[256], tags[3], actions[5];
	struct rng r = { 0x71e2 };
	static struct scene s;
	unsigned long up = 0, taken = 0;
	memset(b->nexthop, 0, MR_MAX_NEXTHOPS * sizeof(*b->nexthop));
	for (unsigned i = 0; i < PACKETS; i++) {
		uint8_t *frame;
		uint32_t len;
		generate(&r, &s);
		install(b, &s);
		int action = model(&s, &frame, &len);
		expect(b, &s, action, frame, len, action != UP, "generated");
		if (action == UP) {
			up++;
			take_away(b, &s);
			continue;
		}
		count(&s, action, s.nh.kind == MR_NH_BACK ? BED_ID : s.nh.egress);
		expect(b, &s, action, frame, len, 2, "again");
		count(&s, action, s.nh.kind == MR_NH_BACK ? BED_ID : s.nh.egress);
		take_away(b, &s);
		taken++;
		actions[action]++;
		kinds[s.nh.kind][action == ACT_PASS ? 0 : s.nh.encap]++;
		family[!(s.parsed.flags & MR_PKT_IP4)]++;
		nat[(s.st.flags & NAT) / MR_FLOW_SNAT]++;
		protos[s.parsed.proto]++;
		tags[s.parsed.vlan_cnt]++;
	}
	check_tally(b);
	for (unsigned k = MR_NH_WIRE; k <= MR_NH_ROUTED; k++)
		for (unsigned e = 0; e < (k == MR_NH_KERNEL ? 1 : 5); e++)
			CHECK(kinds[k][e] > 20, "next hop kind %u with encapsulation %u: %lu", k, e, kinds[k][e]);
	for (unsigned i = 0; i < 4; i++)
		CHECK(nat[i] > 100, "translation %u", i);
	CHECK(protos[1] > 100 && protos[6] > 100 && protos[17] > 100 && protos[58] > 100 && protos[132] > 20,
		"protocols");
	CHECK(tags[0] > 100 && tags[1] > 100 && tags[2] > 100 && family[0] > 100 && family[1] > 100, "tags, families");
	CHECK(actions[ACT_PASS] > 100 && actions[ACT_TX] > 100 && actions[ACT_REDIR] > 100 && up > 1000, "actions");
	printf("%u packets: %lu taken and rewritten as mr_apply() does, twice each; %lu came up as they were\n",
		PACKETS, taken, up);
}

/* ---- one by one ------------------------------------------------------------------------------------------------- */

/* Interface and key do not always tell the pipeline; then steering does, before. */
static void test_pipeline(struct bed *b)
{
	struct mr_tier_interface *in = &b->tier->half[1].interface[BED_ID];
	static struct scene s;
	for (unsigned key_only = 0; key_only < 2; key_only++) {
		for (unsigned other = 0; other < 2; other++) {
			in->flags = key_only ? MR_TIER_KEY_ONLY : 0;
			good(b, &s, 4, 17);
			s.ingress = BED_PAIR + (uint8_t)other;
			install(b, &s);
			if (!key_only && other)
				expect_up(b, &s, "another pipeline");
			else if (!other)
				expect_good(b, &s, "this pipeline");
			else
				CHECK(run(b, &s, NULL, NULL) == ACT_REDIR, "any pipeline of the interface");
			take_away(b, &s);
		}
	}
	/* The steering table is still (or already) that of another configuration: its numbers are not compared. */
	in->flags = 0;
	bed_steer(b, BED_GENERATION - 1);
	good(b, &s, 4, 17);
	install(b, &s);
	expect_up(b, &s, "a steering table of another generation");
	bed_steer(b, BED_GENERATION);
	expect_good(b, &s, "the steering table of this one");
	take_away(b, &s);
	in->flags = MR_TIER_KEY_ONLY;
	printf("the pipeline of a record is the packet's\n");
}

/* Another key has the way where this one is looked for first. */
static void test_other_way(struct bed *b)
{
	static struct scene s;
	struct mr_rewrite4 rw = { 0 };
	struct mr_flow_state st = { .flags = 0 };
	unsigned buckets = mr_flows_buckets4(b->flows);
	mr_flow_ref other;
	good(b, &s, 4, 17);
	struct mr_key4 k = s.k4;
	uint64_t hash;
	do {
		k.saddr_be++;
		hash = mr_flow_hash4(&k, BED_SEED);
	} while (mr_flow_bucket_primary(hash, buckets) != mr_flow_bucket_primary(s.hash, buckets) ||
		mr_flow_way_first(hash) != mr_flow_way_first(s.hash));
	install(b, &s);
	CHECK(s.ref % MR_FLOW_WAYS == mr_flow_way_first(s.hash), "the way is free");
	expect_good(b, &s, "in its first way");
	take_away(b, &s);
	CHECK(!mr_flows_insert4(b->flows, &k, hash, &rw, &st, b->now_ms, &other), "insert");
	CHECK(other % MR_FLOW_WAYS == mr_flow_way_first(s.hash), "the other has it");
	install(b, &s);
	CHECK(s.ref % MR_FLOW_WAYS != mr_flow_way_first(s.hash), "it has another");
	expect_good(b, &s, "in another way");
	take_away(b, &s);
	expect_up(b, &s, "gone, and the other is not taken for it");
	CHECK(!mr_flows_free(b->flows, other, 0, b->now_ms), "free");
	printf("a record in another way than its first is found\n");
}

static void test_second_bucket(struct bed *b)
{
	static struct scene s;
	mr_flow_ref other[64];
	struct mr_rewrite4 rw = { 0 };
	struct mr_flow_state st = { .flags = 0 };
	unsigned cnt = 0, buckets = mr_flows_buckets4(b->flows);
	good(b, &s, 4, 17);
	uint32_t home = mr_flow_bucket_primary(s.hash, buckets);
	struct mr_key4 k = s.k4;
	for (uint32_t a = 0; cnt < MR_FLOW_WAYS + 2; a++) { /* others with that home, until it is full */
		k.saddr_be = a;
		uint64_t hash = mr_flow_hash4(&k, BED_SEED);
		if (mr_flow_bucket_primary(hash, buckets) == home)
			CHECK(!mr_flows_insert4(b->flows, &k, hash, &rw, &st, b->now_ms, &other[cnt++]), "insert");
	}
	install(b, &s);
	CHECK((s.ref & 0x3fffffff) / MR_FLOW_WAYS == mr_flow_bucket_secondary(s.hash, buckets), "not in its second");
	expect_good(b, &s, "in its second bucket");
	struct mr_bucket4 *bucket = (void *)(mr_flows_record4(b->flows, s.ref) - s.ref % MR_FLOW_WAYS);
	bucket = (void *)((char *)bucket - sizeof(bucket->head));
	bucket += (int64_t)home - mr_flow_bucket_secondary(s.hash, buckets);
	uint64_t spilled = bucket->head.spilled;
	bucket->head.spilled &= ~mr_flow_spill_bit(s.hash);
	expect_up(b, &s, "its bit says it lives nowhere else");
	bucket->head.spilled = spilled;
	expect_good(b, &s, "and again");
	take_away(b, &s);
	for (unsigned i = 0; i < cnt; i++)
		CHECK(!mr_flows_free(b->flows, other[i], 0, b->now_ms), "free");
	printf("a record in its second bucket is found\n");
}

/* Room in front that was made and not needed is given back: here for ports that no SCTP packet can take. */
static void test_give_back(struct bed *b)
{
	static struct scene s;
	good(b, &s, 4, 17);
	s.p.proto = 132;
	ip_of(&s)[9] = 132;
	fix_sums(&s);
	parse(&s);
	s.r4.sport_be ^= 1;
	s.nh.encap = MR_ENCAP_IP4;
	install(b, &s);
	expect_up(b, &s, "a port SCTP cannot change");
	take_away(b, &s);
	printf("room made in front is given back\n");
}

static void test_effects(struct bed *b)
{
	static struct scene s;
	uint64_t cell[2];
	const uint16_t top = MR_TIER_COUNTERS - 1;
	good(b, &s, 4, 17);
	s.st.effects = 7;
	b->effect[7] = (struct mr_effect){ .counter = { 100 } }; /* of the other half */
	b->effect[MR_EFFECTS + 7] = (struct mr_effect){ .counter = { 5, 6, 7, top }, .meter = { 3, 4 } };
	b->meter[MR_METERS + 3] = (struct mr_meter){ .burst_ticks = 1ull << 60, .cost_mul = 1, .cost_shift = 0 };
	/* 100 s of what the rate allows a packet, ten of them at once */
	const uint64_t cost = 100000000000ull * MR_METER_TICKS_PER_NS;
	b->meter[MR_METERS + 4] = (struct mr_meter){ .burst_ticks = 10 * cost, .cost_mul = cost };
	install(b, &s);
	for (unsigned i = 0; i < 10; i++)
		expect_good(b, &s, "within its limit");
	for (unsigned i = 0; i < 5; i++) {
		CHECK(run(b, &s, NULL, NULL) == ACT_DROP, "over its limit");
		tally.received[0]++;
		tally.received[1] += s.p.len;
		tally.metered++;
	}
	check_tally(b);
	const uint16_t keys[] = { 5, 6, 7, top, 100 };
	for (unsigned i = 0; i < 5; i++) {
		bed_sum(b, "tier_counters", keys[i], cell, 2);
		CHECK(cell[0] == (i == 4 ? 0 : 15) && cell[1] == cell[0] * s.p.len, "counter %u: %llu", keys[i],
			(unsigned long long)cell[0]);
	}
	CHECK(mr_flows_state(b->flows, s.ref)->packets == 15, "the record counts what a limit then drops");
	take_away(b, &s);
	printf("counters and limits: 10 packets passed, 5 dropped, 15 counted\n");
}

/* What is read of next hops that are used; who was last sent to an egress. */
static void test_marks(struct bed *b)
{
	static struct scene s;
	good(b, &s, 4, 17);
	install(b, &s);
	b->tier->nexthop_used_ms[SLOT] = 5;
	expect_good(b, &s, "routed");
	CHECK(bed_clock_ms() - b->tier->nexthop_used_ms[SLOT] + 1000 < 11000, "used %u ms",
		b->tier->nexthop_used_ms[SLOT]);
	struct mr_tier_egress e[64];
	__u32 id = BED_OTHER;
	bool seen = false;
	CHECK(b->cpu_cnt <= 64 && sizeof(e[0]) % 8 == 0, "%u CPUs", b->cpu_cnt);
	CHECK(!bpf_map_lookup_elem(bpf_map__fd(bed_map(b, "tier_egress")), &id, e), "egress");
	for (unsigned c = 0; c < b->cpu_cnt; c++)
		seen |= e[c].last_ingress == BED_PAIR;
	CHECK(seen, "last ingress");
	/* The owner's clock is ahead of the coarse one. */
	b->tier->heartbeat_ns = bed_clock_ns() + 50000000;
	CHECK(run(b, &s, NULL, NULL) == ACT_REDIR, "a heartbeat from the future");
	take_away(b, &s);
	printf("next hops are marked used, egresses know whom they carry\n");
}

int main(int argc, char **argv)
{
	static struct bed b;
	libbpf_set_print(NULL);
	bed_open(&b, 1000);
	print_verified("steer with a tier", mr_steer_prog_fd(b.steer));
	test_generated(&b);
	test_effects(&b);
	test_pipeline(&b);
	test_other_way(&b);
	test_second_bucket(&b);
	test_give_back(&b);
	test_marks(&b);
	bed_close(&b);
	return 0;
}
