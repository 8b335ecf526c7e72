/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_tier_doubts_kern.c - what the kernel tier is in doubt about comes up as it was, one doubt at a time, and without it is taken.
 */
#include "tier_scene.h"

static void fragment(struct bed *b, struct scene *s)
{
	if (s->p.family == 4)
		put16(ip_of(s) + 6, 0x2000);
	else { /* the first eight bytes behind become a fragment header */
		ip_of(s)[40] = s->p.proto;
		ip_of(s)[41] = 0;
		put16(ip_of(s) + 42, 1);
		ip_of(s)[6] = 44;
	}
	fix_sums(s);
}

static void options(struct bed *b, struct scene *s)
{
	uint8_t *ip = ip_of(s);
	uint32_t at = s->p.family == 4 ? 20 : 40, more = s->p.family == 4 ? 4 : 8;
	memmove(ip + at + more, ip + at, s->p.l3_len - at);
	memset(ip + at, 1, more);
	if (s->p.family == 4) {
		ip[0]++;
	} else {
		memcpy(ip + at, (uint8_t[]){ s->p.proto, 0, 1, 4, 0, 0, 0, 0 }, 8);
		ip[6] = 0;
	}
	s->p.l3_len += more;
	s->p.l4_off += more;
	s->p.len += more;
	put16(ip + (s->p.family == 4 ? 2 : 4), s->p.l3_len - (s->p.family == 4 ? 0 : 40));
	fix_sums(s);
}

static void ttl_1(struct bed *b, struct scene *s)
{
	ip_of(s)[s->p.family == 4 ? 8 : 7] = 1;
	fix_sums(s);
}

static void mtu(struct bed *b, struct scene *s)
{
	s->nh.mtu = s->p.l3_len - 1;
}

static void mtu_outer(struct bed *b, struct scene *s)
{
	s->nh.encap = MR_ENCAP_GUE6;
	s->nh.mtu = s->p.l3_len + 47;
}

static void mtu_wire(struct bed *b, struct scene *s)
{
	s->nh.kind = MR_NH_WIRE;
	s->nh.mtu = s->p.l3_len; /* and one byte behind it counts */
	s->p.len++;
}

static void track(struct bed *b, struct scene *s)
{
	s->st.flags |= MR_FLOW_TRACK;
}

static void closing(struct bed *b, struct scene *s)
{
	s->st.flags |= MR_FLOW_CLOSING;
}

static void undecided(struct bed *b, struct scene *s)
{
	s->st.flags &= ~MR_FLOW_DECIDED;
}

static void not_offloaded(struct bed *b, struct scene *s)
{
	s->st.flags &= ~MR_FLOW_OFFLOAD;
}

static void old_generation(struct bed *b, struct scene *s)
{
	s->st.generation--;
}

static void other_generation_in_force(struct bed *b, struct scene *s)
{
	b->tier->word++;
}

static void nothing_in_force(struct bed *b, struct scene *s)
{
	b->tier->word = 0;
}

static void other_half(struct bed *b, struct scene *s)
{
	b->tier->word = MR_TIER_WORD(BED_GENERATION, 0); /* where no pair is of this interface */
}

static void dead(struct bed *b, struct scene *s)
{
	b->tier->heartbeat_ns = bed_clock_ns() - (MR_TIER_HEARTBEAT_MS + 100) * 1000000LL;
}

/* Its program stays on the device (on_exit: drop), and milliseconds in 32 bits would begin anew. */
static void long_dead(struct bed *b, struct scene *s)
{
	b->tier->heartbeat_ns = bed_clock_ns() - 30LL * 86400 * 1000000000;
}

static void other_interface(struct bed *b, struct scene *s)
{
	s->ingress = BED_PAIR + 2;
}

static void no_pair(struct bed *b, struct scene *s)
{
	s->ingress = 0;
}

static void version(struct bed *b, struct scene *s)
{
	b->tier->version[s->p.family == 6]
			[s->p.family == 4 ? mr_route_bucket4(s->r4.daddr_be) : mr_route_bucket6(s->r6.daddr_be)]++;
}

static void mac(struct bed *b, struct scene *s)
{
	s->p.bytes[5] ^= 1;
}

static void broadcast(struct bed *b, struct scene *s)
{
	memset(s->p.bytes, 0xff, 6);
}

static void tag(struct bed *b, struct scene *s)
{
	put16(s->p.bytes + 14, TAG_UNKNOWN);
}

static void two_tags(struct bed *b, struct scene *s)
{
	memmove(s->p.bytes + 16, s->p.bytes + 12, s->p.len - 12);
	put16(s->p.bytes + 12, 0x88a8);
	s->p.l3_off += 4;
	s->p.l4_off += 4;
	s->p.len += 4;
}

static void behind(struct bed *b, struct scene *s)
{
	s->p.len++;
}

static void cut(struct bed *b, struct scene *s)
{
	s->p.len--;
}

static void no_devmap(struct bed *b, struct scene *s)
{
	s->nh.egress = BED_DOWN;
}

static void nh_resolving(struct bed *b, struct scene *s)
{
	s->nh.kind = MR_NH_RESOLVING;
}

static void nh_unreachable(struct bed *b, struct scene *s)
{
	s->nh.kind = MR_NH_UNREACHABLE;
}

static void nh_none(struct bed *b, struct scene *s)
{
	s->nh.kind = MR_NH_NONE;
}

static void nh_written(struct bed *b, struct scene *s)
{
	s->nh.seq = 1;
}

static void nh_kernel(struct bed *b, struct scene *s)
{
	s->nh.kind = MR_NH_KERNEL; /* of a translated flow */
}

static void third_tag(struct bed *b, struct scene *s)
{
	two_tags(b, s);
	s->st.flags &= ~MR_FLOW_ROUTED;
	s->nh.kind = MR_NH_WIRE;
	s->nh.flags = MR_NH_PUSH_VLAN;
}

static void counter(struct bed *b, struct scene *s)
{
	s->st.effects = 9;
	b->effect[MR_EFFECTS + 9] = (struct mr_effect){ .counter = { 1, MR_TIER_COUNTERS } };
}

static void absent(struct bed *b, struct scene *s)
{
	s->absent = true;
}

struct doubt {
	const char *name;
	void (*spoil)(struct bed *b, struct scene *s);
	bool late; /* after the record was stored */
};

static const struct doubt doubts[] = {
	{ "fragment", fragment, false },
	{ "options", options, false },
	{ "TTL 1", ttl_1, false },
	{ "longer than the MTU", mtu, false },
	{ "longer than the MTU with its outer header", mtu_outer, false },
	{ "longer than the MTU with what is behind it", mtu_wire, false },
	{ "TRACK", track, false },
	{ "CLOSING", closing, false },
	{ "undecided", undecided, false },
	{ "not offloaded", not_offloaded, false },
	{ "old generation", old_generation, false },
	{ "another generation in force", other_generation_in_force, true },
	{ "nothing in force", nothing_in_force, true },
	{ "the other half in force", other_half, true },
	{ "old heartbeat", dead, true },
	{ "heartbeat of last month", long_dead, true },
	{ "a pair of another interface", other_interface, false },
	{ "no pair", no_pair, false },
	{ "route version changed", version, true },
	{ "another station's MAC", mac, true },
	{ "broadcast MAC", broadcast, true },
	{ "unknown tag", tag, true },
	{ "two tags", two_tags, true },
	{ "bytes behind the packet", behind, true },
	{ "truncated", cut, true },
	{ "no devmap entry", no_devmap, false },
	{ "next hop resolving", nh_resolving, false },
	{ "next hop unreachable", nh_unreachable, false },
	{ "next hop none", nh_none, false },
	{ "next hop being written", nh_written, false },
	{ "translated, to the kernel", nh_kernel, false },
	{ "a third tag", third_tag, false },
	{ "counter too high", counter, false },
	{ "not found", absent, false },
};

static void test_doubts(struct bed *b)
{
	static const uint8_t protos[2][3] = { { 6, 17, 1 }, { 6, 17, 58 } };
	static struct scene s;
	unsigned cases = 0;
	for (unsigned f = 0; f < 2; f++) {
		for (unsigned k = 0; k < 3; k++) {
			for (unsigned i = 0; i < sizeof(doubts) / sizeof(*doubts); i++) {
				const struct doubt *d = &doubts[i];
				good(b, &s, f ? 6 : 4, protos[f][k]);
				install(b, &s);
				expect_good(b, &s, "good");
				if (!d->late)
					take_away(b, &s);
				d->spoil(b, &s);
				if (!d->late) {
					parse(&s);
					install(b, &s);
				}
				expect_up(b, &s, d->name);
				if (s.ref != MR_FLOW_NONE)
					CHECK(mr_flows_state(b->flows, s.ref)->packets == d->late, "%s: counted",
						d->name);
				take_away(b, &s);
				cases++;
			}
		}
	}
	check_tally(b);
	printf("%u cases of doubt came up as they were\n", cases);
}

/* What is there for IPv4 or TCP alone. */
static void test_more_doubts(struct bed *b)
{
	static struct scene s;
	good(b, &s, 4, 17);
	install(b, &s);
	ip_of(&s)[10] ^= 1;
	expect_up(b, &s, "wrong header checksum");
	ip_of(&s)[10] ^= 1;
	expect_good(b, &s, "right header checksum");
	take_away(b, &s);
	for (unsigned v6 = 0; v6 < 2; v6++) {
		good(b, &s, v6 ? 6 : 4, v6 ? 58 : 1);
		install(b, &s);
		s.p.bytes[s.p.l4_off] = v6 ? 1 : 3;
		fix_sums(&s);
		expect_up(b, &s, "ICMP error");
		take_away(b, &s);
	}
	for (unsigned flags = 1; flags < 8; flags++) {
		for (unsigned v6 = 0; v6 < 2; v6++) {
			good(b, &s, v6 ? 6 : 4, 6);
			install(b, &s);
			uint8_t *tcp = s.p.bytes + s.p.l4_off;
			tcp[13] |= flags;
			fix_sums(&s);
			expect_up(b, &s, "FIN, SYN or RST");
			const struct mr_flow_state *st = mr_flows_state(b->flows, s.ref);
			bool closes = flags & 5;
			CHECK(st->flags == (s.st.flags | (closes ? MR_FLOW_CLOSING : 0)), "flags %x: %x", flags,
				st->flags);
			CHECK(st->nexthop == SLOT, "the other half of the word");
			tcp[13] &= ~7;
			fix_sums(&s);
			if (closes)
				expect_up(b, &s, "behind FIN or RST");
			else
				expect_good(b, &s, "behind SYN");
			take_away(b, &s);
		}
	}
	/* A FIN of a record that is not ours to carry out changes nothing. */
	good(b, &s, 4, 6);
	s.st.generation--;
	install(b, &s);
	s.p.bytes[s.p.l4_off + 13] |= 1;
	fix_sums(&s);
	expect_up(b, &s, "FIN of an old generation");
	CHECK(mr_flows_state(b->flows, s.ref)->flags == s.st.flags, "marked");
	take_away(b, &s);
	printf("header checksum, ICMP errors, FIN and RST: up, and the record is marked closing\n");
}

int main(int argc, char **argv)
{
	static struct bed b;
	libbpf_set_print(NULL);
	bed_open(&b, 1000);
	test_doubts(&b);
	test_more_doubts(&b);
	bed_close(&b);
	return 0;
}
