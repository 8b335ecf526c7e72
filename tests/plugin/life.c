/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * life.c - a plugin for tests: takes something for every session and gives it back at its end, under every reload.
 *
 * Built twice, with private bytes of 8 and of 16, as two types.  What is taken is counted by the stage's name, which is also in the bytes: so a
 * stage that reads another's sees it.  So are the instances that took over from each other: one of another line knows nothing of the session.
 */
#include <millrace/stage.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifndef LIFE_BYTES
#define LIFE_BYTES 8
#endif
#define NAMES 26

struct options {
	struct mr_string_list forget; /* names of what keeps() says */
	struct mr_prefix_list announce;
	uint64_t udp, udp_unreplied;
	uint64_t refresh;
	bool keep, warns;
	const char *fails;
};

struct life {
	const struct options *o;
	uint8_t timeouts, line;
	char name;
	bool forgets;
};

struct private
{
	uint32_t magic;
	char name;
	uint8_t line;
	uint8_t rest[LIFE_BYTES - 6];
};

/* Looked up by the test with dlsym.  By the first letter of the stage's name. */
MR_API int life_open[NAMES], life_garbled, life_asked, life_checking, life_quiet; /* quiet: several threads */
MR_API unsigned life_last_worker, life_capacity, life_numbers[NAMES];
MR_API struct mr_tuple life_last[2];
MR_API void *life_heard_by[NAMES], *life_instance[NAMES];

#define MAGIC (0x11feu + LIFE_BYTES)

static const struct mr_option options[] = {
	MR_OPT("udp", MR_TYPE_DURATION, struct options, udp, .help = "time-out"),
	MR_OPT("udp_unreplied", MR_TYPE_DURATION, struct options, udp_unreplied, .help = "time-out"),
	MR_OPT("refresh", MR_TYPE_UINT, struct options, refresh, .max = 2, .help = "enum mr_refresh"),
	MR_OPT("keep", MR_TYPE_BOOL, struct options, keep, .help = "its sessions are not given up"),
	MR_OPT("forget", MR_TYPE_STRING_LIST, struct options, forget, .help = "keeps no session when it is in there"),
	MR_OPT("announce", MR_TYPE_PREFIX_LIST, struct options, announce, .help = "addresses"),
	MR_OPT("warns", MR_TYPE_BOOL, struct options, warns, .help = "check: what it finds of these"),
	MR_OPT("fails", MR_TYPE_STRING, struct options, fails, .help = "why it cannot be made"),
	MR_OPT_END,
};

static int index_of(char name)
{
	return (unsigned char)(name - 'a') < NAMES ? name - 'a' : NAMES - 1;
}

static int create(struct mr_stage_env *env, const void *opt, void **stage)
{
	const struct options *o = opt;
	struct mr_stage_timeouts t = {
		.udp_ns = o->udp, .udp_unreplied_ns = o->udp_unreplied, .refresh = (uint8_t)o->refresh
	};
	life_checking = mr_stage_checking(env);
	life_capacity = mr_stage_session_capacity(env);
	if (o->fails)
		return mr_stage_fail(env, -EBUSY, "%s", o->fails);
	struct life *l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	static uint8_t lines;
	l->o = o;
	l->line = ++lines;
	l->name = mr_stage_name(env)[0];
	l->timeouts = o->udp || o->udp_unreplied ? mr_stage_timeouts(env, "one", &t) : 0;
	life_numbers[index_of(l->name)] = l->timeouts;
	l->forgets = o->forget.cnt > 0;
	for (uint32_t i = 0; i < o->announce.cnt; i++)
		if (mr_stage_announce(env, &o->announce.items[i])) {
			free(l);
			return mr_stage_fail(env, -ENOSPC, "too many addresses");
		}
	life_instance[index_of(l->name)] = l;
	*stage = l;
	return 0;
}

static void destroy(void *stage)
{
	struct life *l = stage;
	l->name = '!';
	free(l);
}

static void adopt(void *stage, void *old_stage)
{
	struct life *l = stage;
	const struct life *old = old_stage;
	l->line = old->line;
}

static bool is_mine(const struct life *l, const struct private *mine)
{
	if (!mine->magic)
		return false;
	if (mine->magic == MAGIC && mine->name == l->name && mine->line == l->line)
		return true;
	__atomic_fetch_add(&life_garbled, 1, __ATOMIC_RELAXED);
	return false;
}

static void decide(void *stage, unsigned worker, struct mr_batch *batch)
{
	struct life *l = stage;
	(void)worker;
	for (unsigned i = 0; i < mr_batch_cnt(batch); i++) {
		struct mr_packet *p = mr_batch_packet(batch, i);
		struct private *mine = mr_packet_session(p);
		if (!mine)
			continue;
		if (mr_packet_session_exists(p)) {
			is_mine(l, mine);
			continue;
		}
		mine->magic = MAGIC;
		mine->name = l->name;
		mine->line = l->line;
		memset(mine->rest, l->name, sizeof(mine->rest));
		__atomic_fetch_add(&life_open[index_of(l->name)], 1, __ATOMIC_RELAXED);
		mr_decide_timeouts(p, l->timeouts);
		if (l->o->keep)
			mr_decide_keep(p);
	}
}

static void give_back(struct life *l, const struct private *mine)
{
	if (!is_mine(l, mine))
		return;
	for (unsigned i = 0; i < sizeof(mine->rest); i++)
		if (mine->rest[i] != (uint8_t)l->name)
			__atomic_fetch_add(&life_garbled, 1, __ATOMIC_RELAXED);
	__atomic_fetch_sub(&life_open[index_of(l->name)], 1, __ATOMIC_RELAXED);
}

static void give_up(void *stage, unsigned worker, struct mr_packet *p)
{
	struct private *mine = mr_packet_session(p);
	(void)worker;
	if (mine)
		give_back(stage, mine);
}

static void expire(void *stage, const void *priv, const struct mr_session_end *end)
{
	struct life *l = stage;
	give_back(l, priv);
	if (life_quiet)
		return;
	life_heard_by[index_of(l->name)] = l;
	life_last_worker = mr_end_worker(end);
	mr_end_tuples(end, &life_last[0], &life_last[1]);
}

static bool keeps(void *stage, const void *priv)
{
	struct life *l = stage;
	life_asked++;
	return !is_mine(l, priv) || !l->forgets;
}

/* One warning for each of `announce`, and what the box says of it. */
static void check(void *stage, struct mr_check *check)
{
	struct life *l = stage;
	for (uint32_t i = 0; l->o->warns && i < l->o->announce.cnt; i++) {
		const struct mr_prefix *p = &l->o->announce.items[i];
		const char *device = mr_check_on_link(check, p);
		mr_check_warn(check, l->o->announce.at, "number %u: local %d, on %s, proxied %d", i,
			mr_check_is_local(check, p), device ? device : "-", mr_check_is_proxied(check, p));
	}
}

MR_STAGE_PLUGIN = {
	.abi = MR_STAGE_ABI,
	.type = LIFE_BYTES == 8 ? "life" : "life16",
	.summary = "for tests",
	.options = options,
	.options_bytes = sizeof(struct options),
	.session_bytes = sizeof(struct private),
	.create = create,
	.destroy = destroy,
	.adopt = adopt,
	.decide = decide,
	.abort = give_up,
	.expire = expire,
	.keeps = keeps,
	.check = check,
};
