/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/stage.h"

#include "core/arena.h"
#include "core/neighbour.h"
#include "core/session.h"
#include "core/timeouts.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLUGINS_MAX 64

/* Plugins stay loaded for good: records, sessions and counters name things that live in them.  Control only. */
static struct {
	char *path;
	const struct mr_stage_type *type;
} plugins[PLUGINS_MAX];
static unsigned plugin_cnt;

static unsigned builtin_cnt(void)
{
	unsigned n = 0;
	while (mr_stage_builtin[n])
		n++;
	return n;
}

const struct mr_stage_type *mr_stage_at(unsigned idx)
{
	unsigned builtin = builtin_cnt();
	if (idx < builtin)
		return mr_stage_builtin[idx];
	return idx - builtin < plugin_cnt ? plugins[idx - builtin].type : NULL;
}

const struct mr_stage_type *mr_stage_find(const char *type)
{
	const struct mr_stage_type *t;
	for (unsigned i = 0; (t = mr_stage_at(i)) != NULL; i++)
		if (!strcmp(t->type, type))
			return t;
	return NULL;
}

/* ---- plugins --------------------------------------------------------------------------------------------------- */

static int plugin_check(const char *path, const struct mr_stage_type *t, struct mr_error *e)
{
	if (t->abi != MR_STAGE_ABI)
		return mr_error_set(e, -ENOEXEC,
			"plugin '%s' was built for stage ABI %u, this program has %u: build it again", path, t->abi,
			MR_STAGE_ABI);
	if (!t->type || !*t->type || !t->create || !t->destroy || !t->decide || !t->options || !t->options_bytes)
		return mr_error_set(e, -ENOEXEC,
			"plugin '%s' is incomplete: a stage needs type, options, create, destroy and decide", path);
	if (t->session_bytes > MR_SESSION_PRIVATE_BYTES)
		return mr_error_set(e, -ENOEXEC, "plugin '%s' wants %u bytes in a session, which has %u", path,
			t->session_bytes, MR_SESSION_PRIVATE_BYTES);
	if (mr_stage_find(t->type))
		return mr_error_set(
			e, -EEXIST, "plugin '%s' brings stage type '%s', which exists already", path, t->type);
	return 0;
}

int mr_stage_load(const char *path, struct mr_error *e)
{
	char real[PATH_MAX];
	if (!realpath(path, real))
		return mr_error_set(e, -ENOENT, "plugin '%s' cannot be read: %s", path, strerror(errno));
	for (unsigned i = 0; i < plugin_cnt; i++)
		if (!strcmp(plugins[i].path, real))
			return 0;
	if (plugin_cnt == PLUGINS_MAX)
		return mr_error_set(e, -ENOMEM, "plugin '%s': more than %u plugins", path, PLUGINS_MAX);
	void *handle = dlopen(real, RTLD_NOW | RTLD_LOCAL);
	if (!handle) {
		const char *why = dlerror();
		return mr_error_set(
			e, -ENOEXEC, "plugin '%s' cannot be loaded: %s", path, why ? why : "unknown reason");
	}
	const struct mr_stage_type *type = dlsym(handle, MR_STAGE_PLUGIN_SYMBOL);
	int err = type ? plugin_check(path, type, e)
		       : mr_error_set(e, -ENOEXEC, "plugin '%s' does not export '%s'", path, MR_STAGE_PLUGIN_SYMBOL);
	char *kept = err ? NULL : strdup(real);
	if (!err && !kept)
		err = mr_error_set(e, -ENOMEM, "out of memory loading plugin '%s'", path);
	if (err) {
		dlclose(handle);
		return err;
	}
	plugins[plugin_cnt].path = kept;
	plugins[plugin_cnt++].type = type;
	return 0;
}

/* ---- instances ------------------------------------------------------------------------------------------------- */

int mr_stage_create(struct mr_stage_env *env, struct mr_plan_stage *out)
{
	const struct mr_stage_type *t = env->type;
	out->options = calloc(1, t->options_bytes ? t->options_bytes : 1);
	if (!out->options)
		return mr_error_set(env->error, -ENOMEM, "out of memory making stage '%s'", env->stage->name);
	int err = mr_config_read_stage(env->config, env->stage, t->options, out->options, t->options_bytes, env->error);
	if (!err) {
		if (env->error)
			env->error->text[0] = '\0';
		err = t->create(env, out->options, &out->self);
		if (err && env->error && !env->error->text[0])
			mr_error_set(
				env->error, err, "stage '%s' cannot be made: %s", env->stage->name, strerror(-err));
	}
	if (err) {
		free(out->options);
		out->options = NULL;
		out->self = NULL;
	}
	return err;
}

void mr_stage_destroy(struct mr_plan_stage *s)
{
	if (s->self)
		s->type->destroy(s->self);
	free(s->options);
	s->self = s->options = NULL;
}

/* ---- what a stage may ask while it is created (millrace/stage.h) --------------------------------------------------- */

unsigned mr_stage_reason(struct mr_stage_env *env, const char *name, const char *help)
{
	char full[128];
	snprintf(full, sizeof(full), "%s-%s", env->type->type, name);
	unsigned reason = mr_stats_reason_id(env->stats, full, help);
	return reason ? reason : MR_REASON_STAGE;
}

uint16_t mr_stage_counter(struct mr_stage_env *env, const char *name)
{
	char full[512];
	snprintf(full, sizeof(full), "stages.%s.%s", env->stage->name, name);
	return mr_stats_counter_id(env->stats, full);
}

uint16_t mr_stage_meter(struct mr_stage_env *env, const char *name, uint64_t rate_per_s, uint64_t burst, bool bits)
{
	return mr_effects_meter_add(env->effects, rate_per_s, burst, bits);
}

uint8_t mr_stage_timeouts(struct mr_stage_env *env, const char *name, const struct mr_stage_timeouts *t)
{
	return mr_timeouts_add(env->timeouts, env->stage->name, name, t);
}

int mr_stage_announce(struct mr_stage_env *env, const struct mr_prefix *address)
{
	struct mr_prefix_list *l = env->announce;
	for (uint32_t i = 0; i < l->cnt; i++)
		if (l->items[i].family == address->family && !memcmp(l->items[i].addr, address->addr, 16))
			return 0;
	if (l->cnt == MR_PLAN_ANNOUNCE)
		return -ENOSPC;
	if (!(l->cnt & (l->cnt - 1))) {
		void *grown = realloc(l->items, (l->cnt ? 2 * l->cnt : 1) * sizeof(*l->items));
		if (!grown)
			return -ENOSPC;
		l->items = grown;
	}
	l->items[l->cnt++] = *address;
	return 0;
}

uint16_t mr_stage_tunnel(struct mr_stage_env *env, const struct mr_stage_tunnel *tunnel)
{
	struct mr_tunnel t = { .ttl = tunnel->ttl, .dport = tunnel->port };
	bool gue = tunnel->kind == MR_TUNNEL_GUE;
	if ((tunnel->kind != MR_TUNNEL_IP && !gue) || (tunnel->family != 4 && tunnel->family != 6) || (gue && !t.dport))
		return 0;
	if (tunnel->family == 4)
		t.encap = gue ? MR_ENCAP_GUE4 : MR_ENCAP_IP4;
	else
		t.encap = gue ? MR_ENCAP_GUE6 : MR_ENCAP_IP6;
	memcpy(t.src, tunnel->src, tunnel->family == 4 ? 4 : 16);
	memcpy(t.dst, tunnel->dst, tunnel->family == 4 ? 4 : 16);
	*env->wants_routes = true;
	/* A plan that is only checked sends nothing: any number does. */
	return env->neighbours ? mr_neighbours_tunnel(env->neighbours, env->routes, &t) : MR_NEXTHOP_FIRST_FREE;
}

const char *mr_stage_name(const struct mr_stage_env *env)
{
	return env->stage->name;
}

unsigned mr_stage_worker_cnt(const struct mr_stage_env *env)
{
	return env->worker_cnt;
}

uint32_t mr_stage_session_capacity(const struct mr_stage_env *env)
{
	return (uint32_t)env->config->flows.capacity;
}

bool mr_stage_checking(const struct mr_stage_env *env)
{
	return env->checking;
}

int mr_stage_fail(struct mr_stage_env *env, int err, const char *fmt, ...)
{
	char text[MR_ERROR_BYTES];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return mr_error_set(env->error, err, "stage '%s' cannot be made: %s", env->stage->name, text);
}

unsigned mr_stage_interface(const struct mr_stage_env *env, const char *name)
{
	return env->interface_id(env->ctx, name);
}

int mr_stage_error(struct mr_stage_env *env, struct mr_position at, const char *fmt, ...)
{
	char where[128], text[MR_ERROR_BYTES];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(where, sizeof(where), "stages.%s", env->stage->name);
	return mr_config_error(env->config, env->error, at, where, "%s", text);
}

const char *mr_stage_where(struct mr_stage_env *env, struct mr_position at)
{
	char text[PATH_MAX + 16];
	snprintf(text, sizeof(text), "%s:%u", env->config->path ? env->config->path : "", at.line);
	char *kept = mr_arena_text(env->config->arena, text, strlen(text));
	return kept ? kept : "";
}
