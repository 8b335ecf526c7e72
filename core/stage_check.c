/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/stage_check.h"

#include "core/address.h"
#include "core/plan.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICES_MAX 64

struct mr_check {
	const struct mr_config *config;
	void (*warn)(void *ctx, const char *text);
	void *ctx;
	const char *stage;
	struct mr_addresses *addresses; /* NULL: they cannot be read */
	unsigned device_cnt;
	char device[DEVICES_MAX][IF_NAMESIZE]; /* told to stages */
};

void mr_check_warn(struct mr_check *check, struct mr_position at, const char *fmt, ...)
{
	char where[128], text[MR_ERROR_BYTES];
	struct mr_error e = { "" };
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(where, sizeof(where), "stages.%.100s", check->stage);
	(void)mr_config_error(check->config, &e, at, where, "%s", text);
	check->warn(check->ctx, e.text);
}

bool mr_check_is_local(struct mr_check *check, const struct mr_prefix *address)
{
	return check->addresses && mr_addresses_local(check->addresses, address);
}

const char *mr_check_on_link(struct mr_check *check, const struct mr_prefix *address)
{
	char name[IF_NAMESIZE];
	uint32_t ifindex = check->addresses ? mr_addresses_device(check->addresses, address) : 0;
	if (!ifindex || !if_indextoname(ifindex, name))
		return NULL;
	unsigned i = 0;
	while (i < check->device_cnt && strcmp(check->device[i], name))
		i++;
	if (i == DEVICES_MAX)
		return NULL;
	if (i == check->device_cnt)
		memcpy(check->device[check->device_cnt++], name, sizeof(name));
	return check->device[i];
}

bool mr_check_is_proxied(struct mr_check *check, const struct mr_prefix *address)
{
	return check->addresses &&
		mr_addresses_proxied(check->addresses, address, mr_addresses_device(check->addresses, address));
}

static void ask(void *ctx, const struct mr_plan_stage *s)
{
	struct mr_check *check = ctx;
	check->stage = s->name;
	if (s->type->check)
		s->type->check(s->self, check);
}

int mr_stage_check(const struct mr_config *config, unsigned worker_cnt, void (*warn)(void *ctx, const char *text),
	void *ctx, struct mr_error *e)
{
	struct mr_error why = { "" };
	struct mr_check *check = calloc(1, sizeof(*check));
	if (!check)
		return mr_error_set(e, -ENOMEM, "out of memory");
	check->config = config;
	check->warn = warn;
	check->ctx = ctx;
	if (mr_addresses_read(&check->addresses, &why))
		warn(ctx, why.text);
	int err = mr_plan_visit(config, worker_cnt, ask, check, e);
	mr_addresses_free(check->addresses);
	free(check);
	return err;
}
