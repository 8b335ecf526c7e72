/* SPDX-License-Identifier: BSD-2-Clause */
/* test_steer_kern.c - the steer program takes what mr_steer_classify() takes, through live changes of the table; shim; counters. */
#include "prog_run.h"
#include "tests/steer_model.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#define TABLES  60
#define PACKETS 2000 /* a table */

static struct mr_steer *load(bool generic)
{
	struct mr_steer_options opt = {
		.instance = "test", .interface_id = 1, .generic = generic, .shim_cookie = 0x1122334455667788ULL
	};
	struct mr_steer *s;
	struct mr_error e = { "" };
	int err = mr_steer_load(&opt, &s, &e);
	if (err)
		load_failed(e.text, err);
	return s;
}

static void apply(struct mr_steer *s, const struct steer_set *set, struct mr_steer_table **t)
{
	struct mr_error e = { "" };
	CHECK(!mr_steer_compile(set->entry, set->cnt, t, &e), "%s", e.text);
	CHECK(!mr_steer_apply(s, *t, &e), "%s", e.text);
}

/* Runs one frame; no queue has a socket, so a match shows in the counter and passes. */
static bool matched(struct mr_steer *s, const struct packet *p, struct mr_steer_counters *last)
{
	struct mr_steer_counters now;
	CHECK(prog_run(mr_steer_prog_fd(s), p->bytes, p->len, NULL, NULL) == 2, "not passed");
	CHECK(!mr_steer_read_counters(s, &now), "counters");
	bool hit = now.no_socket == last->no_socket + 1;
	CHECK(hit + (now.passed - last->passed) == 1, "a packet counted other than once");
	*last = now;
	return hit;
}

static void test_equal(void)
{
	struct rng r = { 4711 };
	static struct steer_set set;
	struct mr_steer *s = load(false);
	struct mr_steer_counters c;
	unsigned long hits = 0, misses = 0, unparsed = 0, handed_back = 0;
	print_verified("steer", mr_steer_prog_fd(s));
	CHECK(!mr_steer_read_counters(s, &c), "counters");
	for (unsigned i = 0; i < TABLES; i++) {
		static const unsigned sizes[] = { 0, 1, 2, 5, 16, 64, 65, 128, 200, 256 };
		struct mr_steer_table *t;
		random_entries(&r, &set, sizes[i % 10]);
		apply(s, &set, &t);
		for (unsigned k = 0; k < PACKETS; k++) {
			struct packet p;
			struct mr_parsed parsed;
			packet_build(&r, &p);
			if (!(k % 3))
				packet_damage(&r, &p);
			if (p.len < 14)
				continue;
			int err = mr_parse(p.bytes, p.bytes + p.len, &parsed);
			bool wanted = mr_steer_classify(t, &parsed, p.bytes) >= 0;
			bool here = parsed.flags & MR_PKT_FRAG ? mr_steer_wants_fragment(t, &parsed, p.bytes) : wanted;
			CHECK(wanted == (model_classify(&set, &parsed, p.bytes) >= 0), "table %u packet %u", i, k);
			CHECK(here == model_comes_up(&set, &parsed, p.bytes), "table %u packet %u", i, k);
			CHECK(here || !wanted, "table %u packet %u stays with the kernel", i, k);
			handed_back += here && !wanted;
			CHECK(matched(s, &p, &c) == here, "table %u (%u entries) packet %u: %s here", i, set.cnt, k,
				here ? "matched" : "not matched");
			hits += here;
			misses += !here;
			unparsed += !here && set.cnt && err != MR_PARSE_OK && err != MR_PARSE_NOT_IP;
		}
		mr_steer_table_free(t);
	}
	CHECK(c.no_socket == hits && c.passed == misses && c.unparsed == unparsed && !c.steered, "%llu %llu %llu",
		(unsigned long long)c.no_socket, (unsigned long long)c.passed, (unsigned long long)c.unparsed);
	CHECK(hits > 1000 && misses > 1000, "%lu hits, %lu misses", hits, misses);
	CHECK(handed_back > 10, "%lu first fragments come up for the sake of others", handed_back);
	printf("%u tables: %lu packets matched and %lu passed alike\n", TABLES, hits, misses);
	mr_steer_unload(s);
}

static void test_shim(void)
{
	static const uint8_t cookie[8] = { 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11 };
	struct rng r = { 5 };
	struct packet p;
	struct mr_steer_entry all = { NULL, 0, false };
	struct steer_set set = { .entry = { all }, .cnt = 1 };
	uint8_t frame[sizeof(struct mr_shim) + PACKET_MAX], out[sizeof(frame)];
	struct mr_shim *shim = (struct mr_shim *)frame;
	packet_build(&r, &p);
	memcpy(shim->mac, p.bytes, 12);
	put16((uint8_t *)&shim->ethertype_be, MR_SHIM_ETHERTYPE);
	memcpy(shim->cookie, cookie, 8);
	memcpy(frame + sizeof(*shim), p.bytes, p.len);
	for (unsigned generic = 0; generic < 2; generic++) {
		for (unsigned wrong = 0; wrong < 2; wrong++) {
			struct mr_steer *s = load(generic);
			struct mr_steer_table *t;
			struct mr_steer_counters c;
			uint32_t len = p.len + sizeof(*shim), out_len = sizeof(out);
			apply(s, &set, &t);
			shim->cookie[7] = cookie[7] + (uint8_t)wrong;
			CHECK(prog_run(mr_steer_prog_fd(s), frame, len, out, &out_len) == 2, "shim");
			CHECK(!mr_steer_read_counters(s, &c), "counters");
			bool strip = generic && !wrong;
			CHECK(c.handed_back == strip && c.no_socket == !strip, "generic %u wrong %u", generic, wrong);
			CHECK(out_len == (strip ? p.len : len) && !memcmp(out, strip ? p.bytes : frame, out_len),
				"the frame behind the shim, generic %u wrong %u", generic, wrong);
			mr_steer_table_free(t);
			mr_steer_unload(s);
		}
	}
	printf("shim: stripped in generic mode with the right cookie only\n");
}

/* What is left of the program when no queue has a socket: matched is dropped, the rest passes, at once and back. */
static void test_unserved(void)
{
	struct rng r = { 6 };
	struct mr_steer *s = load(false);
	struct mr_steer_counters c;
	struct mr_range udp = { .lo = 17, .hi = 17 };
	struct mr_config_match match = { .proto = { .items = &udp, .cnt = 1 } };
	struct steer_set set = { .entry = { { &match, 0, false } }, .cnt = 1 };
	struct mr_steer_table *t;
	unsigned long dropped = 0, passed = 0, let = 0;
	apply(s, &set, &t);
	for (unsigned k = 0; k < 4000; k++) {
		struct packet p;
		struct mr_parsed parsed;
		bool drop = k / 500 % 2;
		packet_build(&r, &p);
		if (p.len < 14)
			continue;
		mr_steer_set_unserved(s, drop);
		mr_parse(p.bytes, p.bytes + p.len, &parsed);
		bool here = parsed.flags & MR_PKT_FRAG ? mr_steer_wants_fragment(t, &parsed, p.bytes)
						       : mr_steer_classify(t, &parsed, p.bytes) >= 0;
		CHECK(prog_run(mr_steer_prog_fd(s), p.bytes, p.len, NULL, NULL) == (here && drop ? 1 : 2), "packet %u",
			k);
		dropped += here && drop;
		let += here && !drop;
		passed += !here;
	}
	CHECK(!mr_steer_read_counters(s, &c), "counters");
	CHECK(c.unserved == dropped && c.no_socket == let && c.passed == passed && !c.steered,
		"%llu dropped, %llu let, %llu passed", (unsigned long long)c.unserved, (unsigned long long)c.no_socket,
		(unsigned long long)c.passed);
	CHECK(dropped > 100 && let > 100 && passed > 100, "%lu, %lu, %lu", dropped, let, passed);
	mr_steer_table_free(t);
	mr_steer_unload(s);
	printf("unserved: %lu matched packets dropped, %lu passed, %lu others passed\n", dropped, let, passed);
}

/* A worker that keeps the program busy with one frame until told to stop. */
struct busy {
	const struct mr_steer *s;
	const struct packet *p;
	atomic_bool stop;
	unsigned long runs;
};

static void *keep_busy(void *arg)
{
	struct busy *b = arg;
	while (!atomic_load(&b->stop)) {
		LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = b->p->bytes, .data_size_in = b->p->len, .repeat = 2000);
		CHECK(!bpf_prog_test_run_opts(mr_steer_prog_fd(b->s), &o) && o.retval == 2, "BPF_PROG_RUN");
		b->runs += 2000;
	}
	return NULL;
}

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Both tables match the frame by other entries, prefixes and ports: through every change each packet is matched, none slips by. */
static void test_live_change(void)
{
	static struct steer_set set[2];
	struct mr_steer *s = load(false);
	struct mr_steer_table *t[2];
	struct mr_steer_counters c;
	struct rng r = { 8 };
	struct packet p;
	struct mr_parsed parsed;
	do {
		packet_build(&r, &p);
		mr_parse(p.bytes, p.bytes + p.len, &parsed);
		for (unsigned i = 0; i < 2; i++) {
			random_entries(&r, &set[i], i ? 256 : 40);
			for (unsigned k = 0; k < set[i].cnt; k++)
				if (!set[i].entry[k].match) /* an entry that matches everything would prove little */
					set[i].entry[k].match = &set[i].match[k];
		}
	} while (!(parsed.flags & MR_PKT_PORTS) || model_classify(&set[0], &parsed, p.bytes) < 0 ||
		model_classify(&set[1], &parsed, p.bytes) < 0);
	apply(s, &set[0], &t[0]);
	apply(s, &set[1], &t[1]);
	struct busy b = { .s = s, .p = &p };
	pthread_t worker;
	double longest = 0;
	CHECK(!pthread_create(&worker, NULL, keep_busy, &b), "thread");
	for (unsigned i = 0; i < 40; i++) {
		double before = now_ms();
		CHECK(!mr_steer_apply(s, t[i % 2], NULL), "apply");
		longest = now_ms() - before > longest ? now_ms() - before : longest;
	}
	atomic_store(&b.stop, true);
	pthread_join(worker, NULL);
	CHECK(!mr_steer_read_counters(s, &c), "counters");
	CHECK(c.passed == 0 && c.no_socket == b.runs, "%llu of %lu packets slipped by", (unsigned long long)c.passed,
		b.runs);
	/* An empty table is in force when apply returns. */
	CHECK(!mr_steer_apply(s, NULL, NULL) && !matched(s, &p, &c), "empty");
	CHECK(!mr_steer_apply(s, t[0], NULL) && matched(s, &p, &c), "not empty again");
	printf("40 live changes under %lu packets, none slipped by; the longest took %.0f ms\n", b.runs, longest);
	mr_steer_table_free(t[0]);
	mr_steer_table_free(t[1]);
	mr_steer_unload(s);
}

int main(void)
{
	test_equal();
	test_shim();
	test_unserved();
	test_live_change();
	return 0;
}
