/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_icmp.c - any frame, any kind: what may be answered is answered by a frame that is right in every length and checksum, within its
 * bounds, quotes what came and is itself never answered.
 *
 * Input: kind, MTU (2 bytes), then the frame.
 */
#include "core/icmp.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

static uint32_t sum(const uint8_t *p, uint32_t n, uint32_t acc)
{
	for (uint32_t i = 0; i < n; i++)
		acc += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (acc >> 16)
		acc = (acc & 0xffff) + (acc >> 16);
	return acc;
}

static void check_error(const uint8_t *out, uint32_t len, const uint8_t *frame, const struct mr_parsed *p)
{
	struct mr_parsed q;
	check(len && len <= MR_ICMP_FRAME_MAX);
	check(mr_parse(out, out + len, &q) == MR_PARSE_OK && q.flags & MR_PKT_ICMP_ERROR);
	const uint8_t *ip = out + q.l3_off, *icmp = out + q.l4_off;
	uint32_t icmp_bytes = len - q.l4_off;
	check(q.l3_off == p->l3_off && q.l3_off + q.l3_len == len);
	check(!memcmp(icmp + 8, frame + p->l3_off, icmp_bytes - 8));
	if (q.flags & MR_PKT_IP4) {
		check(q.l3_len <= 576 && sum(ip, 20, 0) == 0xffff && sum(icmp, icmp_bytes, 0) == 0xffff);
	} else {
		check(q.l3_len <= 1280);
		check(sum(icmp, icmp_bytes, sum(ip + 8, 32, 58 + icmp_bytes)) == 0xffff);
	}
	for (int kind = 1; kind < MR_ICMP_KIND_CNT; kind++)
		check(!mr_icmp_may_answer(out, &q, (enum mr_icmp_kind)kind));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t src[16] = { 0x20, 1, 0x0d, 0xb8, [15] = 1 }, mac[6] = { 2, 0, 0, 0, 0, 1 };
	struct mr_parsed p;
	if (size < 3 || size > 65536)
		return 0;
	enum mr_icmp_kind kind = (enum mr_icmp_kind)(data[0] % (MR_ICMP_KIND_CNT + 1));
	uint32_t mtu = (uint32_t)data[1] << 8 | data[2], len = (uint32_t)(size - 3);
	/* Frame and answer end where memory ends, so that a sanitizer sees a step outside. */
	uint8_t *frame = malloc(len + !len), *out = malloc(MR_ICMP_FRAME_MAX);
	memcpy(frame, data + 3, len);
	mr_parse(frame, frame + len, &p);
	bool may = mr_icmp_may_answer(frame, &p, kind);
	uint32_t out_len = mr_icmp_build(out, frame, len, &p, kind, mtu, src, mac);
	if (may)
		check_error(out, out_len, frame, &p);
	struct mr_icmp_limit *l = may ? mr_icmp_limit_create(mtu) : NULL;
	if (l)
		check(mr_icmp_limit_pass(l, frame, &p, kind, 0));
	mr_icmp_limit_destroy(l);
	free(out);
	free(frame);
	return 0;
}
