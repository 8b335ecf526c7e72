/* SPDX-License-Identifier: BSD-2-Clause */
/* test_parse_kern.c - mr_parse() in the kernel and here, byte for byte, on right, wrong and cut-off frames. */
#include "prog_run.h"
#include "tests/packets.h"

#include "parse_wrap.skel.h"

#define PACKETS   20000
#define TRUNCATED 150

static unsigned long compared, errors_seen[MR_PARSE_ERROR_CNT];

static void compare(struct parse_wrap *w, const struct packet *p)
{
	struct mr_parsed here;
	struct mr_key4 k4 = { 0 };
	struct mr_key6 k6 = { 0 };
	if (p->len < 14) /* BPF_PROG_RUN takes no less; test_parse.c does */
		return;
	uint8_t *exact = malloc(p->len);
	memcpy(exact, p->bytes, p->len);
	mr_parse(exact, exact + p->len, &here);
	if (here.flags & MR_PKT_IP4)
		mr_parse_key4(&here, exact, MR_ZONE_DEFAULT, &k4);
	if (here.flags & MR_PKT_IP6)
		mr_parse_key6(&here, exact, MR_ZONE_DEFAULT, &k6);
	prog_run(bpf_program__fd(w->progs.parse_wrap), exact, p->len, NULL, NULL);
	struct mr_parsed there = w->bss->result;
	CHECK(!memcmp(&here, &there, sizeof(here)), "packet %lu, %u bytes: error %u here, %u there", compared, p->len,
		here.error, there.error);
	CHECK(!memcmp(&k4, &w->bss->key4, sizeof(k4)), "IPv4 key of packet %lu", compared);
	CHECK(!memcmp(&k6, &w->bss->key6, sizeof(k6)), "IPv6 key of packet %lu", compared);
	CHECK((mr_parse_has_key(&here) != 0) == (w->bss->has_key != 0), "packet %lu", compared);
	free(exact);
	compared++;
	errors_seen[here.error]++;
}

int main(void)
{
	struct rng r = { 0x1234567 };
	struct packet p;
	libbpf_set_print(NULL);
	struct parse_wrap *w = parse_wrap__open_and_load();
	if (!w)
		load_failed("parse_wrap", -errno);
	print_verified("parse_wrap", bpf_program__fd(w->progs.parse_wrap));
	for (unsigned i = 0; i < PACKETS; i++) {
		packet_build(&r, &p);
		compare(w, &p);
		packet_damage(&r, &p);
		compare(w, &p);
	}
	for (unsigned i = 0; i < TRUNCATED; i++) {
		packet_build(&r, &p);
		for (uint32_t len = p.len < 200 ? p.len : 200; len >= 14; len--) {
			p.len = len;
			compare(w, &p);
		}
	}
	for (unsigned i = 0; i < MR_PARSE_ERROR_CNT; i++) {
		printf("error %u: %lu packets\n", i, errors_seen[i]);
		/* A frame cut inside its Ethernet header is too short for BPF_PROG_RUN, one cut inside a tag is not. */
		CHECK(errors_seen[i], "no packet met parse error %u", i);
	}
	printf("%lu packets parsed alike\n", compared);
	parse_wrap__destroy(w);
	return 0;
}
