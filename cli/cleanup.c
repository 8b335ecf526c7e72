/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"
#include "core/leave.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>

struct cleanup {
	const struct mr_cli *c;
	json_t *things;
	unsigned removed_cnt;
};

static void put_text(json_t *o, const char *key, const char *text)
{
	json_t *value = text ? json_string(text) : NULL;
	json_object_set_new(o, key, value ? value : json_null());
}

static void told(void *ctx, const struct mr_leave_thing *thing)
{
	struct cleanup *k = ctx;
	json_t *o = json_object();
	k->removed_cnt += thing->removed;
	put_text(o, "kind", thing->kind);
	put_text(o, "device", thing->device);
	json_object_set_new(o, "ifindex", thing->ifindex ? json_integer(thing->ifindex) : json_null());
	put_text(o, "path", thing->path);
	json_object_set_new(o, "removed", json_boolean(thing->removed));
	put_text(o, "text", thing->text);
	json_array_append_new(k->things, o);
	if (!k->c->json)
		printf("%s\n", thing->text);
}

/* What is attached and pinned first, the socket last: while it is there, somebody who looks finds the name. */
static int clean(struct cleanup *k, const char *instance, const char *device, struct mr_error *e)
{
	struct mr_leave *l = NULL;
	int err = mr_leave_open(instance, &l, e);
	if (err)
		return err;
	err = mr_leave_sweep(l, 0, device, told, k, e);
	mr_leave_close(l);
	if (!err && !device)
		mr_leave_socket(instance, told, k);
	return err;
}

int mr_verb_cleanup(const struct mr_cli *c)
{
	struct mr_error e = { "" };
	struct cleanup k = { .c = c };
	const char *instance = c->instance ? c->instance : "default", *device = mr_args_value(c, "device");
	pid_t pid = 0;
	int code = 0;
	if (strchr(instance, '/')) {
		mr_error_set(&e, -EINVAL, "cleanup wants the name of an instance, not a path: --name %s", instance);
		return mr_ask_fail(MR_EXIT_MISUSE, &e);
	}
	if (mr_leave_alive(instance, &pid)) {
		char who[40] = "";
		if (pid)
			snprintf(who, sizeof(who), " (process %d)", (int)pid);
		mr_error_set(&e, -EBUSY, "instance '%s' is running%s: what is there is in use; stop it first", instance,
			who);
		return mr_ask_fail(MR_EXIT_FAILURE, &e);
	}
	k.things = json_array();
	if (clean(&k, instance, device, &e)) {
		code = mr_ask_fail(MR_EXIT_FAILURE, &e);
	} else if (device && !k.removed_cnt && !if_nametoindex(device)) {
		mr_error_set(&e, -ENODEV,
			"there is no device %s, and nothing left of instance '%s' on one of that name", device,
			instance);
		code = mr_ask_fail(MR_EXIT_FAILURE, &e);
	}
	if (c->json) {
		json_t *answer = json_pack("{s:s, s:s, s:i, s:{s:O}}", "schema", "millrace/cleanup/1", "instance",
			instance, "generation", 0, "data", "things", k.things);
		int wrote = answer ? mr_ask_write_json(answer) : MR_EXIT_FAILURE;
		code = code ? code : wrote;
		json_decref(answer);
	} else if (!code && !k.removed_cnt) {
		printf("nothing left of instance '%s'%s%s\n", instance, device ? " on " : "", device ? device : "");
	}
	json_decref(k.things);
	return code;
}
