/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tunnel.c - a plugin for tests: everything that reaches the stage goes into one tunnel.
 */
#include <millrace/stage.h>

#include <stdlib.h>
#include <string.h>

struct options {
	struct mr_prefix src, dst;
	uint64_t gue;
};

struct tunnel {
	uint16_t number, sent;
};

static const struct mr_option options[] = {
	MR_OPT("src", MR_TYPE_ADDRESS, struct options, src, .required = true, .help = "this end of the tunnel"),
	MR_OPT("dst", MR_TYPE_ADDRESS, struct options, dst, .required = true, .help = "the other end"),
	MR_OPT("gue", MR_TYPE_UINT, struct options, gue, .max = 65535, .help = "UDP port; 0: IP in IP"),
	MR_OPT_END,
};

static int create(struct mr_stage_env *env, const void *opt, void **stage)
{
	const struct options *o = opt;
	struct mr_stage_tunnel t = {
		.kind = o->gue ? MR_TUNNEL_GUE : MR_TUNNEL_IP, .family = o->dst.family, .port = (uint16_t)o->gue
	};
	struct tunnel *s = calloc(1, sizeof(*s));
	if (!s)
		return -1;
	memcpy(t.src, o->src.addr, sizeof(t.src));
	memcpy(t.dst, o->dst.addr, sizeof(t.dst));
	s->number = mr_stage_tunnel(env, &t);
	s->sent = mr_stage_counter(env, "sent");
	if (!s->number || o->src.family != o->dst.family) {
		free(s);
		return mr_stage_error(env, (struct mr_position){ 0 }, "no such tunnel can be made");
	}
	*stage = s;
	return 0;
}

static void decide(void *stage, unsigned worker, struct mr_batch *batch)
{
	const struct tunnel *s = stage;
	for (unsigned i = 0; i < mr_batch_cnt(batch); i++) {
		struct mr_packet *p = mr_batch_packet(batch, i);
		mr_packet_tuple(p);
		mr_decide_count(p, s->sent);
		mr_decide_one_way(p);
		mr_decide_tunnel(p, s->number);
	}
}

MR_STAGE_PLUGIN = {
	.abi = MR_STAGE_ABI,
	.type = "tunnel",
	.summary = "for tests",
	.options = options,
	.options_bytes = sizeof(struct options),
	.create = create,
	.destroy = free,
	.decide = decide,
};
