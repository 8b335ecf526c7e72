/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * relay.c - a plugin for tests: translates destinations the way a load balancer does, and replies back.
 *
 * Private bytes hold the translation; counters tell the test which functions were called.
 */
#include <millrace/stage.h>

#include <stdlib.h>
#include <string.h>

struct options {
	struct mr_prefix to;
	uint64_t port;
	bool end; /* revalidate ends sessions */
	bool one_way;
};

struct relay {
	const struct options *o;
	uint16_t decided, revalidated;
};

struct private
{
	uint8_t was[4];
	uint16_t was_port_be;
	uint8_t to[4];
	uint16_t to_port_be;
	uint32_t set;
};

/* Looked up by the test with dlsym. */
MR_API unsigned relay_aborted, relay_expired, relay_ticks;

static const struct mr_option options[] = {
	MR_OPT("to", MR_TYPE_ADDRESS, struct options, to, .required = true, .help = "where packets go"),
	MR_OPT("port", MR_TYPE_UINT, struct options, port, .max = 65535, .help = "and to which port"),
	MR_OPT("end", MR_TYPE_BOOL, struct options, end, .help = "end sessions of an older configuration"),
	MR_OPT("one_way", MR_TYPE_BOOL, struct options, one_way, .help = "no replies come"),
	MR_OPT_END,
};

static int create(struct mr_stage_env *env, const void *opt, void **stage)
{
	struct relay *r = calloc(1, sizeof(*r));
	if (!r)
		return -1;
	r->o = opt;
	r->decided = mr_stage_counter(env, "decided");
	r->revalidated = mr_stage_counter(env, "revalidated");
	*stage = r;
	return 0;
}

static void destroy(void *stage)
{
	free(stage);
}

static void translate(struct relay *r, struct mr_packet *p)
{
	const struct mr_tuple *t = mr_packet_tuple(p);
	struct private *mine = mr_packet_session(p);
	if (t->family != 4 || !mine)
		return;
	if (mr_packet_direction(p) == 1) {
		mr_decide_source(p, mine->was, mine->was_port_be);
		return;
	}
	if (!mine->set) {
		memcpy(mine->was, t->dst, 4);
		mine->was_port_be = t->dport_be;
		memcpy(mine->to, r->o->to.addr, 4);
		mine->to_port_be = (uint16_t)(r->o->port >> 8 | (r->o->port & 0xff) << 8);
		mine->set = 1;
	}
	mr_decide_destination(p, mine->to, mine->to_port_be ? mine->to_port_be : MR_PORT_KEEP);
	if (r->o->one_way)
		mr_decide_one_way(p);
}

static void decide(void *stage, unsigned worker, struct mr_batch *batch)
{
	struct relay *r = stage;
	for (unsigned i = 0; i < mr_batch_cnt(batch); i++) {
		mr_decide_count(mr_batch_packet(batch, i), r->decided);
		translate(r, mr_batch_packet(batch, i));
	}
}

static enum mr_revalidate revalidate(void *stage, unsigned worker, struct mr_packet *p)
{
	struct relay *r = stage;
	if (r->o->end)
		return MR_REVALIDATE_END;
	mr_decide_count(p, r->revalidated);
	translate(r, p);
	return MR_REVALIDATE_KEEP;
}

static void give_up(void *stage, unsigned worker, struct mr_packet *p)
{
	__atomic_fetch_add(&relay_aborted, 1, __ATOMIC_RELAXED);
}

static void expire(void *stage, const void *priv, const struct mr_session_end *end)
{
	relay_expired += ((const struct private *)priv)->set;
}

static void tick(void *stage, unsigned worker, uint64_t now_ns)
{
	__atomic_fetch_add(&relay_ticks, 1, __ATOMIC_RELAXED);
}

#ifdef RELAY_ABI /* built once more as if for another program */
#define ABI RELAY_ABI
#else
#define ABI MR_STAGE_ABI
#endif

MR_STAGE_PLUGIN = {
	.abi = ABI,
	.type = "relay",
	.summary = "for tests",
	.options = options,
	.options_bytes = sizeof(struct options),
	.session_bytes = sizeof(struct private),
	.create = create,
	.destroy = destroy,
	.decide = decide,
	.revalidate = revalidate,
	.abort = give_up,
	.expire = expire,
	.tick = tick,
};
