/* SPDX-License-Identifier: BSD-2-Clause */
/* make_seeds.c - writes the first corpora of fuzz_parse, fuzz_rewrite and fuzz_icmp: `make_seeds CORPUS_FOLDER`. */
#include "tests/packets.h"

#include <stdio.h>

#define SEEDS        48
#define ORDERS_BYTES 42 /* struct orders of fuzz_rewrite.c: 6 numbers, 2 ports, 32 bytes of addresses */

static int save(const char *folder, const char *name, unsigned n, const uint8_t *bytes, size_t len)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/%s/seed-%02u", folder, name, n);
	FILE *f = fopen(path, "wb");
	if (!f) {
		perror(path);
		return -1;
	}
	size_t done = fwrite(bytes, 1, len, f);
	return fclose(f) || done != len ? -1 : 0;
}

int main(int argc, char **argv)
{
	struct rng r = { 20 };
	if (argc != 2) {
		fprintf(stderr, "usage: make_seeds CORPUS_FOLDER\n");
		return 2;
	}
	for (unsigned i = 0; i < SEEDS; i++) {
		struct packet p;
		uint8_t in[ORDERS_BYTES + PACKET_MAX];
		do
			packet_build(&r, &p);
		while (p.len > 300);
		if (i % 3 == 2)
			packet_damage(&r, &p);
		for (unsigned k = 0; k < ORDERS_BYTES; k++)
			in[k] = (uint8_t)rng_next(&r);
		in[3] |= 0x40; /* headroom */
		memcpy(in + ORDERS_BYTES, p.bytes, p.len);
		if (save(argv[1], "parse", i, p.bytes, p.len) || save(argv[1], "rewrite", i, in, ORDERS_BYTES + p.len))
			return 1;
		/* fuzz_icmp.c: kind and MTU before the frame, which is no group's */
		in[ORDERS_BYTES - 3] = (uint8_t)(i % 8);
		if (p.len > 12) {
			in[ORDERS_BYTES] &= 0xfe;
			in[ORDERS_BYTES + 6] &= 0xfe;
		}
		if (save(argv[1], "icmp", i, in + ORDERS_BYTES - 3, 3 + p.len))
			return 1;
	}
	return 0;
}
