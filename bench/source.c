/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * source.c - the stage of bench/offload.py: the source address becomes one of `to`, its host bits and the port stay.
 */
#include <millrace/stage.h>

#include <stdlib.h>
#include <string.h>

struct options {
	struct mr_prefix to;
};

static const struct mr_option options[] = {
	MR_OPT("to", MR_TYPE_PREFIX, struct options, to, .required = true, .help = "what sources become"),
	MR_OPT_END,
};

static int create(struct mr_stage_env *env, const void *opt, void **stage)
{
	*stage = (void *)opt; /* lives as long as the stage */
	return 0;
}

static void destroy(void *stage)
{
}

static void decide(void *stage, unsigned worker, struct mr_batch *batch)
{
	const struct options *o = stage;

	for (unsigned i = 0; i < mr_batch_cnt(batch); i++) {
		struct mr_packet *p = mr_batch_packet(batch, i);
		const struct mr_tuple *t = mr_packet_tuple(p);
		uint8_t addr[4];

		if (t->family != 4 || mr_packet_direction(p) == 1)
			continue;
		memcpy(addr, t->src, 4);
		for (unsigned bit = 0; bit < o->to.len; bit++) {
			uint8_t mask = (uint8_t)(0x80 >> bit % 8);
			addr[bit / 8] = (uint8_t)((addr[bit / 8] & ~mask) | (o->to.addr[bit / 8] & mask));
		}
		mr_decide_source(p, addr, t->sport_be);
	}
}

MR_STAGE_PLUGIN = {
	.abi = MR_STAGE_ABI,
	.type = "source",
	.summary = "for benches: another source address",
	.options = options,
	.options_bytes = sizeof(struct options),
	.create = create,
	.destroy = destroy,
	.decide = decide,
};
