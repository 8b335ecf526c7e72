/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"
#include "core/explain_frame.h"

#include <errno.h>
#include <string.h>

#define TIMEOUT_MS 5000

static int make_request(const struct mr_cli *c, json_t *request, struct mr_error *e)
{
	const char *in = mr_args_value(c, "in"), *frame = mr_args_value(c, "frame");
	char tuple[MR_EXPLAIN_TUPLE_MAX];
	struct mr_explain_packet p;
	if (!in || !frame == !c->arg_cnt)
		return mr_error_set(e, -EINVAL,
			"explain wants --in INTERFACE and a packet, as in: millrace explain --in wan tcp "
			"10.0.0.1:1234 to 10.0.0.2:80");
	int err = mr_args_join(c, 0, tuple, sizeof(tuple), e);
	/* Read here too, so that a packet written wrongly is told without an instance. */
	if (!err && !frame)
		err = mr_explain_frame_parse(tuple, &p, e);
	if (err)
		return err;
	if (json_object_set_new(request, "in", json_string(in)) ||
		json_object_set_new(request, frame ? "frame" : "tuple", json_string(frame ? frame : tuple)))
		return mr_error_set(e, -EINVAL, "the command line holds bytes that are no UTF-8");
	return 0;
}

static void write_text(const json_t *d)
{
	size_t i;
	json_t *step;
	json_array_foreach(json_object_get(d, "steps"), i, step) printf("%s\n", json_string_value(step));
	printf("verdict: %s", mr_ask_text(d, "verdict"));
	if (mr_ask_text(d, "reason")[0])
		printf(" (%s)", mr_ask_text(d, "reason"));
	if (mr_ask_text(d, "egress")[0])
		printf(" to %s", mr_ask_text(d, "egress"));
	if (mr_ask_text(d, "pipeline")[0])
		printf(", pipeline %s", mr_ask_text(d, "pipeline"));
	if (json_is_true(json_object_get(d, "from_record")))
		printf(", from the stored flow");
	else if (json_is_true(json_object_get(d, "stored")))
		printf(", would be stored");
	printf("\n");
}

int mr_verb_explain(const struct mr_cli *c)
{
	struct mr_error e = { "" };
	json_t *request = mr_ask_request("explain", NULL), *answer = NULL;
	if (make_request(c, request, &e)) {
		json_decref(request);
		return mr_ask_fail(MR_EXIT_MISUSE, &e);
	}
	int code = mr_ask_instance(c, request, TIMEOUT_MS, &answer);
	if (code)
		return code;
	if (c->json)
		code = mr_ask_write_json(answer);
	else
		write_text(json_object_get(answer, "data"));
	json_decref(answer);
	return code;
}
