/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bench_tier.c - nanoseconds a packet of the steering program with a kernel tier, by BPF_PROG_RUN: unmatched, missed, hit, next to an empty
 * program.
 *
 * One line of JSON a series, the best of ROUNDS times REPEAT runs over the same bytes.  "alone": frames that grow cannot be run again, so these are
 * means of single runs, the clock and cold caches in them; they compare with "no encapsulation" alone.
 */
#include "tests/kern/tier_scene.h"

static void tell(const char *series, double ns)
{
	printf("{\"series\": \"%s\", \"value\": %.0f}\n", series, ns);
	fflush(stdout);
}

#define REPEAT     5000
#define ROUNDS     40
#define ONE_BY_ONE 20000

/* Nanoseconds a run; what the frame became in the run before is what the next one gets, so only what leaves it alone can be repeated. */
static unsigned time_of(struct bed *b, const struct scene *s)
{
	unsigned best = UINT32_MAX;
	for (unsigned round = 0; round < ROUNDS; round++) {
		LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = s->p.bytes, .data_size_in = s->p.len, .repeat = REPEAT);
		bed_beat(b);
		CHECK(!bpf_prog_test_run_opts(mr_steer_prog_fd(b->steer), &o), "BPF_PROG_RUN");
		best = o.duration < best ? o.duration : best;
	}
	CHECK(!mr_steer_read_counters(b->steer, &last), "counters");
	return best;
}

/* The same where the frame does not stay: one run at a time, mean of many, the clock and cold caches in it. */
static double time_of_one(struct bed *b, const struct scene *s)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < ONE_BY_ONE; i++) {
		LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = s->p.bytes, .data_size_in = s->p.len, .repeat = 1);
		if (i % 1000 == 0)
			bed_beat(b);
		CHECK(!bpf_prog_test_run_opts(mr_steer_prog_fd(b->steer), &o) && o.retval == ACT_REDIR, "BPF_PROG_RUN");
		sum += o.duration;
	}
	CHECK(!mr_steer_read_counters(b->steer, &last), "counters");
	return (double)sum / ONE_BY_ONE;
}

static unsigned time_of_empty(const struct scene *s)
{
	/* return XDP_PASS */
	static const struct bpf_insn insns[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 2 },
		{ .code = BPF_JMP | BPF_EXIT } };
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "empty", "GPL", insns, 2, NULL);
	unsigned best = UINT32_MAX;
	CHECK(fd >= 0, "%s", strerror(errno));
	for (unsigned round = 0; round < ROUNDS; round++) {
		LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = s->p.bytes, .data_size_in = s->p.len, .repeat = REPEAT);
		CHECK(!bpf_prog_test_run_opts(fd, &o), "BPF_PROG_RUN");
		best = o.duration < best ? o.duration : best;
	}
	close(fd);
	return best;
}

/* An entry that no frame here satisfies. */
static void steer_tcp(struct bed *b)
{
	struct mr_range tcp = { 6, 6 };
	struct mr_config_match match = { .proto = { &tcp, 1 } };
	struct mr_steer_entry entry = { &match, BED_PIPELINE, false };
	struct mr_steer_table *table;
	struct mr_error e = { "" };
	CHECK(!mr_steer_compile(&entry, 1, &table, &e), "%s", e.text);
	mr_steer_table_number(table, BED_GENERATION);
	CHECK(!mr_steer_apply(b->steer, table, &e), "%s", e.text);
	mr_steer_table_free(table);
}

static void time_unmatched(struct bed *b, struct scene *s)
{
	char what[96];
	steer_tcp(b);
	for (unsigned f = 4; f <= 6; f += 2) {
		good(b, s, f, 17);
		snprintf(what, sizeof(what), "IPv%u unmatched", f);
		tell(what, time_of(b, s));
	}
	bed_steer(b, BED_GENERATION);
}

/*
 * The frame of one run is that of the next: the TTL must not run out, so it stays, and of a packet whose addresses change the key changes,
 * so what is stored rewrites it to itself.  Every store and every checksum is made all the same.
 */
static void time_all(struct bed *b)
{
	static struct scene s;
	char what[96];
	good(b, &s, 4, 17);
	memset(b->tier->version, 5, sizeof(b->tier->version));
	tell("empty program", time_of_empty(&s));
	CHECK(!mr_steer_apply(b->steer, NULL, NULL), "no table");
	tell("no pipeline matches anything", time_of(b, &s));
	bed_steer(b, BED_GENERATION);
	b->tier->word = 0;
	tell("nothing in force, steered", time_of(b, &s));
	b->tier->word = MR_TIER_WORD(BED_GENERATION, 1);
	time_unmatched(b, &s);
	for (unsigned f = 4; f <= 6; f += 2) {
		for (unsigned way = 0; way < 5; way++) {
			static const char *name[] = { "miss", "hit, WIRE as it is", "hit, routed",
				"hit, routed, translated", "hit, routed, translated, counter and limit" };
			good(b, &s, f, 17);
			memset(b->tier->version, 5, sizeof(b->tier->version));
			memcpy(s.nh.dmac, s.p.bytes, 6);
			memset(b->tier->half[1].interface[BED_ID].mac, 0, 6);
			build(&s, f, 17, 0);
			parse(&s);
			s.r4 = (struct mr_rewrite4){ s.k4.saddr_be, s.k4.daddr_be, s.k4.sport_be, s.k4.dport_be, 0, 0 };
			memcpy(&s.r6, s.k6.saddr_be, 32);
			s.r6.sport_be = s.k6.sport_be;
			s.r6.dport_be = s.k6.dport_be;
			s.r6.l4_delta = 0;
			s.absent = way == 0;
			s.nh.kind = way == 1 ? MR_NH_WIRE : MR_NH_ROUTED;
			s.st.flags = MR_FLOW_DECIDED | MR_FLOW_OFFLOAD | MR_FLOW_NO_TTL | 5 << MR_FLOW_VERSION_SHIFT;
			s.st.flags |= (way > 1 ? MR_FLOW_ROUTED : 0) | (way > 2 ? MR_FLOW_SNAT : 0);
			s.st.effects = way == 4 ? 3 : 0;
			b->effect[MR_EFFECTS + 3] = (struct mr_effect){ .counter = { 5 }, .meter = { 3 } };
			b->meter[MR_METERS + 3] = (struct mr_meter){ .burst_ticks = 1ull << 60, .cost_mul = 1 };
			install(b, &s);
			CHECK((run(b, &s, NULL, NULL) == UP) == (way == 0), "%s", name[way]);
			snprintf(what, sizeof(what), "IPv%u %s", f, name[way]);
			tell(what, time_of(b, &s));
			take_away(b, &s);
		}
	}
	for (unsigned f = 4; f <= 6; f += 2) {
		for (unsigned encap = 0; encap < 5; encap++) {
			static const char *name[] = { "no encapsulation", "IPv4", "IPv6", "GUE over IPv4",
				"GUE over IPv6" };
			good(b, &s, f, 17);
			s.nh.encap = (uint8_t)encap;
			install(b, &s);
			snprintf(what, sizeof(what), "IPv%u alone: hit, routed, translated, %s", f, name[encap]);
			tell(what, time_of_one(b, &s));
			take_away(b, &s);
		}
	}
}

int main(int argc, char **argv)
{
	static struct bed b;
	libbpf_set_print(NULL);
	bed_open(&b, 1000);
	time_all(&b);
	bed_close(&b);
	return 0;
}
