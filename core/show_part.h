/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * show_part.h - the pieces that the answers of show.c are made of.
 *
 * Each returns a new reference, or NULL with the sentence (or, without one, when memory is short).  Control thread only.
 */
#ifndef MR_CORE_SHOW_PART_H
#define MR_CORE_SHOW_PART_H

#include "core/runtime.h"
#include <jansson.h>

/* A string that is valid UTF-8 whatever s holds; NULL becomes null. */
json_t *mr_show_text(const char *s);
/* Text for a proto number: "tcp", "47". */
const char *mr_show_proto(uint8_t proto, char buf[4]);
/* The number of a protocol name or number, or -1. */
int mr_show_proto_number(const char *s);
/* The member as a string; NULL when there is none.  -EINVAL when it is something else. */
int mr_show_get_string(const json_t *request, const char *key, const char **out, struct mr_error *e);
/* The member as a number in min..max; *out stays when there is none. */
int mr_show_get_number(
	const json_t *request, const char *key, json_int_t min, json_int_t max, json_int_t *out, struct mr_error *e);

/* show_interfaces.c: arrays */
json_t *mr_show_interfaces(struct mr_runtime *rt);
/* show_traffic.c */
json_t *mr_show_pipelines(struct mr_runtime *rt);
json_t *mr_show_stages(struct mr_runtime *rt);
json_t *mr_show_drops(struct mr_runtime *rt, bool all);
json_t *mr_show_frames(struct mr_runtime *rt);
json_t *mr_show_workers(struct mr_runtime *rt);
json_t *mr_show_totals(struct mr_runtime *rt);
/* The sums of the ingress pairs that `want` accepts, as members of *o; reasons that are 0 are left out. */
typedef bool (*mr_show_pair_fn)(struct mr_runtime *rt, uint8_t id, const char *name);
int mr_show_traffic(struct mr_runtime *rt, mr_show_pair_fn want, const char *name, json_t *o);
bool mr_show_pair_of_interface(struct mr_runtime *rt, uint8_t id, const char *name);
bool mr_show_pair_of_pipeline(struct mr_runtime *rt, uint8_t id, const char *name);
/* show_config.c */
json_t *mr_show_config(struct mr_runtime *rt);
/* show_flows.c */
json_t *mr_show_flows(struct mr_runtime *rt, const json_t *request, struct mr_error *e);
json_t *mr_show_flows_usage(struct mr_runtime *rt);
json_t *mr_show_flows_delete(struct mr_runtime *rt, const json_t *request, struct mr_error *e);
/* show_routes.c: objects */
json_t *mr_show_routes(struct mr_runtime *rt, const json_t *request, struct mr_error *e);
json_t *mr_show_neighbours(struct mr_runtime *rt);
/* show_nat.c */
json_t *mr_show_nat(struct mr_runtime *rt, const json_t *request, struct mr_error *e);
/* show_explain.c */
json_t *mr_show_explain(struct mr_runtime *rt, const json_t *request, struct mr_error *e);

#endif
