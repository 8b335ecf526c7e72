/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a stage took for a session comes back to it, whatever configurations come in between: stages that leave, come back, change pipelines or
 * places, and say themselves what is not to live on.  The stage is tests/plugin/life.c.
 */
#include "../unit/rig.h"

#include "core/layout.h"
#include "core/stage.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *paths[] = { MR_TEST_LIFE, MR_TEST_LIFE16 };

/* Of one of the two types. */
static int *symbol(unsigned type, const char *name)
{
	struct mr_error e = { 0 };
	cr_assert_eq(mr_stage_load(paths[type], &e), 0, "%s", e.text);
	void *h = dlopen(paths[type], RTLD_NOW | RTLD_NOLOAD);
	cr_assert_not_null(h);
	int *at = dlsym(h, name);
	cr_assert_not_null(at);
	return at;
}

static int open_of(char name)
{
	return symbol(0, "life_open")[name - 'a'] + symbol(1, "life_open")[name - 'a'];
}

static int garbled(void)
{
	return *symbol(0, "life_garbled") + *symbol(1, "life_garbled");
}

/* Stages "a b16 c", types by their names: a `16` makes it the larger one. */
static const char *yaml(const char *stages, const char *in, const char *out)
{
	static char text[4][2048];
	static unsigned turn;
	char *at = text[turn++ % 4], list[256], *save, *name;
	int n = sprintf(at, "version: 1\ninterfaces:\n  wan: { device: wan0 }\n  lan: { device: lan0 }\nstages:\n");
	snprintf(list, sizeof(list), "%s", stages);
	for (name = strtok_r(list, "|", &save); name; name = strtok_r(NULL, "|", &save)) {
		bool large = name[1] == '6', options = strchr(name, '{') != NULL;
		n += sprintf(at + n, "  %c: { type: %s%s%s }\n", name[0], large ? "life16" : "life",
			options ? ", " : "", options ? strchr(name, '{') + 1 : "");
	}
	n += sprintf(at + n, "pipelines:\n");
	if (in)
		n += sprintf(at + n, "  in: { from: [ wan ], match: all, stages: [ %s ], to: lan }\n", in);
	if (out)
		sprintf(at + n, "  out: { from: [ lan ], match: all, stages: [ %s ], to: wan }\n", out);
	return at;
}

static void opened(struct rig *r, unsigned from, unsigned cnt)
{
	char packet[80];
	for (unsigned i = 0; i < cnt; i++) {
		snprintf(packet, sizeof(packet), "udp 10.0.0.1:%u > 10.0.0.2:80", from + i);
		rig_say(r, "wan", packet);
	}
	rig_turn(r);
}

static uint64_t live(struct rig *r)
{
	struct mr_sessions_usage u;
	mr_sessions_usage(r->sh.sessions, &u);
	return u.live;
}

static uint64_t ended_of(struct rig *r, const char *stage)
{
	for (unsigned i = 0; i < r->succession.cnt; i++)
		if (!strcmp(r->succession.stage[i].name, stage))
			return r->succession.stage[i].sessions;
	return 0;
}

static void end_all(struct rig *r)
{
	for (uint32_t idx = 0; (idx = mr_sessions_next(r->sh.sessions, idx)); idx++)
		mr_session_end(r->sh.sessions, 0, idx, 1);
}

static struct rig *begin(const char *text)
{
	symbol(0, "life_open");
	symbol(1, "life_open");
	return rig_create(text, NULL);
}

/* Everything given back, nothing read that was another's. */
static void finish(struct rig *r)
{
	end_all(r);
	cr_assert_eq(live(r), 0);
	cr_assert_eq(garbled(), 0);
	for (char name = 'a'; name <= 'z'; name++)
		cr_assert_eq(open_of(name), 0, "%c has %d", name, open_of(name));
	cr_assert(rig_adds_up(r));
	rig_destroy(r);
}

Test(life, what_a_stage_may_ask_at_creation)
{
	struct mr_error e = { 0 };
	struct mr_config *c;
	struct rig *r = begin(yaml("a", "a", NULL));
	cr_assert_eq(*symbol(0, "life_checking"), 0);
	cr_assert_eq(*symbol(0, "life_capacity"), 64000);
	const char *text = yaml("a|b{ fails: 'no room on the disk'", "a", NULL);
	cr_assert_eq(mr_config_read_text(text, strlen(text), "t.yaml", ".", &c, &e), 0, "%s", e.text);
	cr_assert_eq(mr_plan_check(c, 1, &e), -EBUSY);
	cr_assert_str_eq(e.text, "stage 'b' cannot be made: no room on the disk");
	cr_assert_eq(*symbol(0, "life_checking"), 1);
	mr_config_free(c);
	finish(r);
}

Test(life, an_end_says_who_and_which)
{
	struct rig *r = begin(yaml("a", "a", "a"));
	opened(r, 1000, 1);
	mr_session_end(r->sh.sessions, 1, mr_sessions_next(r->sh.sessions, 1), 1);
	const struct mr_tuple *t = (const struct mr_tuple *)symbol(0, "life_last");
	cr_assert_eq(*symbol(0, "life_last_worker"), 1);
	cr_assert(t[0].sport_be == htons(1000) && t[0].dport_be == htons(80) && t[1].sport_be == htons(80));
	cr_assert_arr_eq(t[0].src, "\x0a\x00\x00\x01", 4);
	cr_assert_arr_eq(t[1].src, "\x0a\x00\x00\x02", 4);
	finish(r);
}

Test(life, sessions_live_on_where_nothing_changed)
{
	struct rig *r = begin(yaml("a|b6", "a, b", "b"));
	opened(r, 1000, 10);
	rig_reload(r, yaml("c|b6|a", "c, b, a", "b"));
	cr_assert_eq(r->succession.cnt, 0);
	cr_assert_eq(live(r), 10);
	opened(r, 1000, 20);
	cr_assert(open_of('a') == 20 && open_of('b') == 20 && open_of('c') == 10);
	finish(r);
}

Test(life, a_stage_that_leaves_takes_its_sessions_along)
{
	struct rig *r = begin(yaml("a|b", "a, b", "b"));
	opened(r, 1000, 10);
	rig_reload(r, yaml("a", "a", NULL));
	cr_assert_eq(live(r), 0);
	cr_assert_eq(ended_of(r, "b"), 10);
	cr_assert_eq(ended_of(r, "a"), 0);
	cr_assert(open_of('a') == 0 && open_of('b') == 0);
	cr_assert_eq(*symbol(0, "life_last_worker"), 1, "by control");
	/* and one that comes back finds nothing of it, wherever it is put */
	opened(r, 1000, 5);
	rig_reload(r, yaml("b6|a|c", "c, b, a", NULL));
	cr_assert_eq(live(r), 5);
	opened(r, 1000, 8);
	cr_assert(open_of('a') == 8 && open_of('b') == 3 && open_of('c') == 3);
	finish(r);
}

Test(life, a_stage_that_changes_pipelines)
{
	struct rig *r = begin(yaml("a|b|c", "a, b", "c"));
	rig_say(r, "lan", "udp 10.1.0.1:7 > 10.1.0.2:8");
	opened(r, 1000, 10);
	/* b goes over, the instance is the new one, and what it had in sessions of `in` comes back to it */
	rig_reload(r, yaml("a|b|c", "a", "c, b"));
	cr_assert_eq(ended_of(r, "b"), 10);
	cr_assert_eq(live(r), 1);
	cr_assert(((void **)symbol(0, "life_heard_by"))[1] == ((void **)symbol(0, "life_instance"))[1]);
	cr_assert(open_of('a') == 0 && open_of('b') == 0 && open_of('c') == 1);
	opened(r, 1000, 4);
	rig_reload(r, yaml("a|b|c", "a, b", "c"));
	cr_assert_eq(live(r), 4, "b is new to those of `in`; in the one of `out` it might have had something");
	finish(r);
}

/* Two stages that were apart, at one place, come together: one of them has to move. */
Test(life, a_stage_that_moves)
{
	struct rig *r = begin(yaml("a|b", "a", "b"));
	cr_assert_eq(rig_plan(r)->stage[0].session_offset, rig_plan(r)->stage[1].session_offset);
	rig_say(r, "lan", "udp 10.1.0.1:7 > 10.1.0.2:8");
	opened(r, 1000, 10);
	rig_reload(r, yaml("a|b", "a, b", "b"));
	cr_assert_neq(rig_plan(r)->stage[0].session_offset, rig_plan(r)->stage[1].session_offset);
	cr_assert_eq(live(r), 10, "those of a, who was first");
	cr_assert_eq(ended_of(r, "b"), 1);
	finish(r);
}

Test(life, another_type_of_the_same_name)
{
	struct rig *r = begin(yaml("a", "a", NULL));
	opened(r, 1000, 10);
	rig_reload(r, yaml("a6", "a", NULL));
	cr_assert_eq(ended_of(r, "a"), 10);
	cr_assert_eq(live(r), 0);
	finish(r);
}

Test(life, a_pipeline_that_goes)
{
	struct rig *r = begin(yaml("a|b", "a", "b"));
	rig_say(r, "lan", "udp 10.1.0.1:7 > 10.1.0.2:8");
	opened(r, 1000, 10);
	rig_reload(r, yaml("a|b", NULL, "b"));
	cr_assert_eq(ended_of(r, "a"), 10);
	cr_assert_eq(live(r), 1);
	finish(r);
}

/* A reply's pipeline may have stages the first packet's had not: they find nothing, and not what others left. */
Test(life, a_stage_of_the_reply_alone)
{
	struct rig *r = begin(yaml("a|b", "a", "b"));
	opened(r, 1000, 3);
	rig_say(r, "lan", "udp 10.0.0.2:80 > 10.0.0.1:1000");
	rig_turn(r);
	cr_assert_eq(rig_sent(r, "wan"), 1);
	cr_assert_eq(garbled(), 0);
	finish(r);
}

static void packets_meanwhile(struct rig *r)
{
	opened(r, 1000, 4);
	cr_assert_eq(live(r), 10);
	/* three of the old ones end by time, before control looks at them */
	for (uint32_t idx = 1, n = 0; n < 3; idx++)
		if ((idx = mr_sessions_next(r->sh.sessions, idx)) &&
			mr_session_at(r->sh.sessions, idx)->serial != (uint32_t)rig_plan(r)->serial) {
			cr_assert(mr_session_end(r->sh.sessions, 0, idx, 1));
			n++;
		}
	cr_assert_eq(garbled(), 0);
	cr_assert_eq(open_of('b'), 3);
}

/* Workers meet old sessions before control does. */
Test(life, packets_between_the_plans)
{
	struct rig *r = begin(yaml("a|b6", "b, a", NULL));
	opened(r, 1000, 10);
	r->meanwhile = packets_meanwhile;
	rig_reload(r, yaml("a|c", "a, c", NULL));
	r->meanwhile = NULL;
	cr_assert_eq(ended_of(r, "b"), 10);
	cr_assert_eq(live(r), 4);
	cr_assert(open_of('a') == 4 && open_of('b') == 0 && open_of('c') == 4);
	finish(r);
}

Test(life, a_stage_says_what_it_keeps)
{
	struct rig *r = begin(yaml("a|b", "a, b", NULL));
	opened(r, 1000, 10);
	*symbol(0, "life_asked") = 0;
	rig_reload(r, yaml("a|b", "a, b", NULL));
	cr_assert_eq(*symbol(0, "life_asked"), 20);
	cr_assert_eq(live(r), 10);
	rig_reload(r, yaml("a|b{ forget: x", "a, b", NULL));
	cr_assert_eq(ended_of(r, "b"), 10);
	char text[128];
	mr_succession_say(&r->succession, text, sizeof(text));
	cr_assert_str_eq(text, "10 sessions of stage b ended");
	cr_assert_eq(live(r), 0);
	finish(r);
}

/* Many configurations, one after the other, with sessions of each. */
Test(life, any_sequence_of_configurations)
{
	static const char *const stages[] = { "a|b|c", "c6|b|a", "b|a6", "a|c|b6|d", "d6|a", "b6|c", "a" };
	static const char *const in[] = { "a, b", "b, c", "a", "c, a", "d, a", "b", "a" };
	static const char *const out[] = { "c", "a, c", "b, a", "b, d", "d", "c", "a" };
	uint32_t random = 12345;
	uint64_t lived = 0;
	struct rig *r = begin(yaml("a|b|c", "a, b", "c"));
	for (unsigned i = 0; i < 200; i++) {
		random = random * 1664525 + 1013904223;
		unsigned k = random >> 16, n = k % 7, apart = 1000 + k % 500;
		opened(r, apart, 5);
		char packet[80];
		snprintf(packet, sizeof(packet), "udp 10.9.0.1:%u > 10.9.0.2:80", apart);
		rig_say(r, "lan", packet);
		snprintf(packet, sizeof(packet), "udp 10.0.0.2:80 > 10.0.0.1:%u", apart);
		rig_say(r, "lan", packet);
		rig_turn(r);
		if (k % 3 == 0) {
			uint32_t idx = mr_sessions_next(r->sh.sessions, k % 100);
			if (idx)
				mr_session_end(r->sh.sessions, 0, idx, 1);
		}
		rig_reload(r, yaml(stages[n], in[n], k % 5 ? out[n] : NULL));
		cr_assert_eq(garbled(), 0, "after %u", i);
		lived += live(r);
		mr_epoch_quiet(r->sh.epoch, 0);
	}
	cr_assert_gt(lived, 0);
	finish(r);
}

/* Two workers with packets of 300 conversations, both ways, in a table for 128, while configurations come and go. */
Test(life, reloads_while_packets_flow)
{
	static const char *const stages[] = { "a|b|c", "c6|b|a", "b|a6", "a|c|b6|d", "a|b{ forget: x" };
	static const char *const in[] = { "a, b", "b, c", "a", "c, a", "a, b" };
	static const char *const out[] = { "c", "a, c", "b, a", "b, d", "b" };
	struct rig_options opt = { .worker_cnt = 2, .sessions = 128 };
	struct mr_error e = { 0 };
	char packet[80];
	symbol(0, "life_open");
	symbol(1, "life_open");
	*symbol(0, "life_quiet") = *symbol(1, "life_quiet") = 1;
	struct rig *r = rig_create(yaml(stages[0], in[0], out[0]), &opt);
	for (unsigned i = 0; i < 300; i++) {
		snprintf(packet, sizeof(packet), "udp 10.0.0.1:%u > 10.0.0.2:80", 1000 + i);
		rig_say(r, "wan", packet);
		snprintf(packet, sizeof(packet), "udp 10.0.0.2:80 > 10.0.0.1:%u", 1000 + i);
		rig_say(r, "lan", packet);
	}
	for (unsigned id = 1; id <= 2; id++) {
		/* what came in by the first queue comes in by the second one as well */
		struct rig_queue *q = r->interface[id].queue;
		for (uint32_t i = 0; i < q[0].in.cnt; i++)
			rig_inject(r, id == rig_id(r, "wan") ? "wan" : "lan", 1,
				q[0].in.frame[(i + 150) % q[0].in.cnt].data, q[0].in.frame[i].len);
		for (unsigned n = 0; n < 2; n++) {
			q[n].endless = UINT64_MAX / 2;
			q[n].discard = true;
		}
	}
	for (unsigned w = 0; w < 2; w++)
		cr_assert_eq(mr_worker_start(r->worker[w], -1, &e), 0, "%s", e.text);
	uint64_t ended = 0;
	for (unsigned i = 1; i <= 150; i++) {
		unsigned n = i * 7 % 5;
		rig_reload(r, yaml(stages[n], in[n], out[n]));
		for (unsigned k = 0; k < r->succession.cnt; k++)
			ended += r->succession.stage[k].sessions;
		usleep(1000);
	}
	for (unsigned w = 0; w < 2; w++)
		mr_worker_stop(r->worker[w]);
	cr_assert_gt(ended, 0);
	finish(r);
}

Test(life, time_outs_over_reloads)
{
	struct rig *r = begin(yaml("a{ udp_unreplied: 50s|b{ udp_unreplied: 7s", "a", "b"));
	int *numbers = symbol(0, "life_numbers");
	int a = numbers[0], b = numbers[1];
	cr_assert(a > 0 && b > 0 && a != b);
	opened(r, 1000, 1);
	uint32_t idx = mr_sessions_next(r->sh.sessions, 1);
	uint32_t made = mr_session_at(r->sh.sessions, idx)->created_ms;
	cr_assert_eq(mr_session_at(r->sh.sessions, idx)->timeouts, a);
	cr_assert_eq(mr_session_remaining_ms(r->sh.sessions, idx, made), 50000u);
	rig_reload(r, yaml("c{ udp_unreplied: 1s|b{ udp_unreplied: 7s|a{ udp_unreplied: 60s", "a, c", "b"));
	cr_assert(numbers[0] == a && numbers[1] == b && numbers[2] != a && numbers[2] != b);
	cr_assert_eq(mr_session_remaining_ms(r->sh.sessions, idx, made), 60000u);
	/* says none any more: as flows.timeouts */
	rig_reload(r, yaml("a", "a", NULL));
	cr_assert_eq(mr_session_remaining_ms(r->sh.sessions, idx, made), 30000u);
	rig_reload(r, yaml("c{ udp_unreplied: 2s|a{ udp_unreplied: 9s", "a", NULL));
	cr_assert_eq(numbers[0], a);
	cr_assert_eq(mr_session_remaining_ms(r->sh.sessions, idx, made), 9000u);
	finish(r);
}

/* A plan that is made and does not come into force changes no living session. */
Test(life, time_outs_of_a_plan_that_is_given_up)
{
	struct rig *r = begin(yaml("a{ udp_unreplied: 50s", "a", NULL));
	opened(r, 1000, 1);
	uint32_t idx = mr_sessions_next(r->sh.sessions, 1);
	uint32_t made = mr_session_at(r->sh.sessions, idx)->created_ms;
	struct mr_config *c;
	struct mr_error e = { 0 };
	const char *text = yaml("a{ udp_unreplied: 5s", "a", NULL);
	cr_assert_eq(mr_config_read_text(text, strlen(text), "t.yaml", ".", &c, &e), 0, "%s", e.text);
	cr_assert_eq(mr_plan_check(c, 1, &e), 0, "%s", e.text);
	mr_config_free(c);
	cr_assert_eq(mr_session_remaining_ms(r->sh.sessions, idx, made), 50000u);
	finish(r);
}

static void opened_meanwhile(struct rig *r)
{
	opened(r, 2000, 3);
}

/* A plan that was given up made sessions all the same: who made them hears of their end, or who has it from the same one. */
Test(life, sessions_of_a_plan_that_is_given_up)
{
	static const char *const before[] = { "a", "a|b", "a|b" }, *const up[] = { "a|b", "a|b", "a|b16" },
				 *const after[] = { "a|b", "a|b", "a|b" };
	static const char *const in[][3] = { { "a", "a, b", "a, b" }, { "a, b", "b", "a" }, { "a, b", "a, b", "b" } };
	for (unsigned i = 0; i < 6; i++) {
		unsigned k = i % 3;
		struct rig *r = begin(yaml(before[k], in[k][0], NULL));
		opened(r, 1000, 3);
		r->meanwhile = opened_meanwhile;
		rig_give_up(r, yaml(up[k], in[k][1], NULL));
		r->meanwhile = NULL;
		if (i < 3) /* else they end under the one that stays in force */
			rig_reload(r, yaml(after[k], in[k][2], NULL));
		finish(r);
	}
}

Test(life, kept_sessions_are_not_half_open)
{
	struct rig *r = begin(yaml("a{ keep: true", "a", NULL));
	opened(r, 1000, 6);
	struct mr_sessions_usage u;
	mr_sessions_usage(r->sh.sessions, &u);
	cr_assert(u.live == 6 && u.half_open == 0);
	finish(r);
}

Test(life, without_sessions_there_is_nothing_to_remember)
{
	struct mr_config *c;
	struct mr_error e = { 0 };
	const char *text =
		"version: 1\ninterfaces:\n  wan: { device: wan0 }\nstages:\n  a: { type: life }\npipelines:\n"
		"  in: { from: [ wan ], match: all, stages: [ a ], to: back, state: none }\n";
	symbol(0, "life_open");
	cr_assert_eq(mr_config_read_text(text, strlen(text), "t.yaml", ".", &c, &e), 0, "%s", e.text);
	cr_assert_eq(mr_plan_check(c, 1, &e), -EINVAL);
	cr_assert_str_eq(e.text,
		"t.yaml:7:46: pipelines.in: stage 'a' remembers something of every session, and 'state: none' means "
		"that there "
		"are none");
	mr_config_free(c);
}
