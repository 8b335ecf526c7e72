/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/claim.h"

#include "core/stage.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool meet(const struct mr_claim *a, const struct mr_claim *b)
{
	return a->family == b->family && memcmp(a->lo, b->hi, 16) <= 0 && memcmp(b->lo, a->hi, 16) <= 0;
}

static int refuse(struct mr_stage_env *env, const struct mr_claim *mine, const struct mr_claim *other)
{
	char first[INET6_ADDRSTRLEN] = "";
	/* the lowest address of both */
	inet_ntop(mine->family == 4 ? AF_INET : AF_INET6, memcmp(mine->lo, other->lo, 16) < 0 ? other->lo : mine->lo,
		first, sizeof(first));
	return mr_stage_error(env, mine->at,
		"%s belongs to stage '%s' (line %u) as well, which is in a pipeline with it: its answers would go to "
		"the first of "
		"both (want addresses of its own)",
		first, other->stage, other->at.line);
}

int mr_stage_claim(
	struct mr_stage_env *env, struct mr_position at, unsigned family, const uint8_t lo[16], const uint8_t hi[16])
{
	struct mr_claims *all = env->claims;
	struct mr_claim mine = { .stage = env->stage->name, .at = at, .family = (uint8_t)family };
	memcpy(mine.lo, lo, 16);
	memcpy(mine.hi, hi, 16);
	for (uint32_t i = 0; i < all->cnt; i++)
		if (strcmp(all->claim[i].stage, mine.stage) && meet(&mine, &all->claim[i]) &&
			mr_config_share_pipeline(env->config, mine.stage, all->claim[i].stage))
			return refuse(env, &mine, &all->claim[i]);
	if (!(all->cnt & (all->cnt - 1))) {
		void *grown = realloc(all->claim, (all->cnt ? 2 * all->cnt : 1) * sizeof(*all->claim));
		if (!grown)
			return -ENOMEM;
		all->claim = grown;
	}
	all->claim[all->cnt++] = mine;
	return 0;
}
