/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/mss.h"

#include "kern/rewrite.h"

#define TCP_SYN    0x02
#define TCP_BYTES  20
#define OPTION_END 0
#define OPTION_NOP 1
#define OPTION_MSS 2
#define MSS_BYTES  4

/* The option after `at` (0 = the first): its offset in the header, 0 when there is no more.  False: the options are malformed. */
static bool next_option(const uint8_t *tcp, uint32_t hlen, uint32_t *at)
{
	uint32_t o = *at ? *at + tcp[*at + 1] : TCP_BYTES;
	while (o < hlen && tcp[o] == OPTION_NOP)
		o++;
	*at = 0;
	if (o >= hlen || tcp[o] == OPTION_END)
		return true;
	if (o + 2 > hlen || tcp[o + 1] < 2 || o + tcp[o + 1] > hlen ||
		(tcp[o] == OPTION_MSS && tcp[o + 1] != MSS_BYTES))
		return false;
	*at = o;
	return true;
}

/* The value of an option, wherever it lies: the words that hold it change by what is returned. */
static uint32_t store(uint8_t *tcp, uint32_t at, uint16_t value)
{
	uint8_t *word = tcp + (at & ~1u);
	unsigned words = at & 1 ? 2 : 1;
	uint32_t sum = 0;
	uint16_t was[2] = { mr_load16(word), words == 2 ? mr_load16(word + 2) : 0 };
	tcp[at] = (uint8_t)(value >> 8);
	tcp[at + 1] = (uint8_t)value;
	for (unsigned i = 0; i < words; i++)
		sum += mr_csum_change16(was[i], mr_load16(word + 2 * i));
	return sum;
}

uint32_t mr_mss_fits(const struct mr_parsed *p, uint32_t mtu, uint32_t outer_bytes)
{
	uint32_t headers = outer_bytes + (p->flags & MR_PKT_IP4 ? 40 : 60);
	uint32_t most = mtu <= headers ? 0 : mtu - headers;
	return most < UINT16_MAX ? most : UINT16_MAX;
}

/* 0: none. */
static uint32_t limit_of(const struct mr_parsed *p, uint32_t mss, const struct mr_nexthop *nh)
{
	uint32_t fits = mss & MR_MSS_AUTO ? mr_mss_fits(p, nh->mtu, mr_rewrite_outer_bytes(nh)) : 0;
	return mr_mss_both(mss & 0xffff, fits);
}

bool mr_mss_clamp(uint8_t *tcp, const struct mr_parsed *p, uint32_t mss, const struct mr_nexthop *nh)
{
	uint32_t limit = limit_of(p, mss, nh), have = (uint32_t)p->l3_off + p->l3_len - p->l4_off, sum = 0, at = 0;
	if (!limit || p->error != MR_PARSE_OK || p->proto != MR_IP_TCP || !(p->flags & MR_PKT_PORTS) ||
		p->flags & MR_PKT_FRAG_LATER || !(p->tcp_flags & TCP_SYN))
		return false;
	uint32_t hlen = (tcp[12] >> 4) * 4u;
	if (hlen < TCP_BYTES || hlen > have)
		return false;
	do {
		if (!next_option(tcp, hlen, &at))
			return false;
	} while (at);
	bool written = false;
	while (next_option(tcp, hlen, &at) && at) {
		if (tcp[at] != OPTION_MSS || (uint32_t)(tcp[at + 2] << 8 | tcp[at + 3]) <= limit)
			continue;
		sum += store(tcp, at + 2, (uint16_t)limit);
		written = true;
	}
	if (written)
		mr_store16(tcp + 16, mr_csum_apply(mr_load16(tcp + 16), mr_csum_delta(sum)));
	return written;
}
