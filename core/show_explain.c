/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/explain_frame.h"
#include "core/show_part.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static unsigned find_interface(struct mr_runtime *rt, const char *name, struct mr_error *e)
{
	char names[256] = "";
	for (unsigned id = 1; id <= MR_MAX_INTERFACES; id++) {
		const char *have = rt->interface[id].name;
		if (!have)
			continue;
		if (!strcmp(have, name))
			return id;
		size_t at = strlen(names);
		if (at + strlen(have) + 3 < sizeof(names))
			snprintf(names + at, sizeof(names) - at, "%s%s", at ? ", " : "", have);
	}
	mr_error_set(e, -ENOENT, "no interface is called '%.64s'; there are: %s", name, names[0] ? names : "none");
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Bytes written as hex, without anything between. */
static int read_hex(const char *s, uint8_t *out, size_t room, struct mr_error *e)
{
	size_t n = strlen(s);
	if (n % 2 || n / 2 > room || n < 28)
		return mr_error_set(e, -EINVAL, "frame wants 14 to %zu bytes as hex digits", room);
	for (size_t i = 0; i < n / 2; i++) {
		int hi = hex_digit(s[2 * i]), lo = hex_digit(s[2 * i + 1]);
		if (hi < 0 || lo < 0)
			return mr_error_set(e, -EINVAL, "frame wants hex digits, two for a byte");
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	return (int)(n / 2);
}

static int make_frame(struct mr_runtime *rt, unsigned id, const char *tuple, const char *hex, uint8_t *frame,
	size_t room, struct mr_error *e)
{
	struct mr_explain_packet p;
	if (hex)
		return read_hex(hex, frame, room, e);
	int err = mr_explain_frame_parse(tuple, &p, e);
	if (err)
		return err;
	if (rt->interface[id].open)
		memcpy(p.dmac, mr_interface_info(rt->interface[id].open)->mac, 6);
	return mr_explain_frame_build(&p, frame, room, e);
}

/* The lines one by one. */
static json_t *steps(const char *text)
{
	json_t *list = json_array();
	while (list && *text) {
		size_t n = strcspn(text, "\n");
		char line[512];
		snprintf(line, sizeof(line), "%.*s", (int)n, text);
		if (n)
			json_array_append_new(list, mr_show_text(line));
		text += n + (text[n] == '\n');
	}
	return list;
}

json_t *mr_show_explain(struct mr_runtime *rt, const json_t *request, struct mr_error *e)
{
	const char *in, *tuple, *hex;
	struct mr_plan *plan = mr_runtime_plan(rt);
	if (mr_show_get_string(request, "in", &in, e) || mr_show_get_string(request, "tuple", &tuple, e) ||
		mr_show_get_string(request, "frame", &hex, e))
		return NULL;
	if (!in || !tuple == !hex || !plan) {
		mr_error_set(
			e, -EINVAL, "explain wants the interface (in) and the packet, as a tuple or as a frame in hex");
		return NULL;
	}
	unsigned id = find_interface(rt, in, e);
	if (!id)
		return NULL;
	static uint8_t frame[MR_EXPLAIN_FRAME_MAX]; /* control is one thread */
	int len = make_frame(rt, id, tuple, hex, frame, sizeof(frame), e);
	if (len < 0)
		return NULL;
	struct mr_explanation x = { 0 };
	mr_epoch_online(rt->sh.epoch, rt->sh.worker_cnt);
	int err = mr_worker_explain(&rt->sh, plan, id, frame, (uint32_t)len, &x, e);
	mr_epoch_offline(rt->sh.epoch, rt->sh.worker_cnt);
	if (err)
		return NULL;
	return json_pack("{s:o, s:i, s:o, s:o, s:o, s:o, s:b, s:b, s:o}", "in", mr_show_text(in), "frame_bytes", len,
		"verdict", mr_show_text(x.verdict), "reason", mr_show_text(x.reason), "pipeline",
		mr_show_text(x.pipeline), "egress", mr_show_text(x.egress), "from_record", (int)x.from_record, "stored",
		(int)x.stored, "steps", steps(x.text));
}
