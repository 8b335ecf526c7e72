/* SPDX-License-Identifier: BSD-2-Clause */
/* test_steer_kern.c - the steer program takes what mr_steer_classify() takes, through live changes of the table; shim; counters. */
#include "prog_run.h"
#include "tests/steer_model.h"

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
	unsigned long hits = 0, misses = 0, unparsed = 0;
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
			bool here = mr_steer_classify(t, &parsed, p.bytes) >= 0;
			CHECK(here == (model_classify(&set, &parsed, p.bytes) >= 0), "table %u packet %u", i, k);
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

int main(void)
{
	test_equal();
	test_shim();
	return 0;
}
