/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cli.h - the command line: `millrace [--name N] [--json] VERB [OPTION]... [ARGUMENT]...`
 *
 *     argv ─args.c─► struct mr_cli ─► verb ─┬─ run, check, cleanup, help: in this process
 *                                           └─ the others: ask.c ─control socket─► JSON ─► text.c, table.c
 *
 * Verbs are a table in main.c: from it come the parser, `millrace help` and the suggestions.  Answers go to stdout, one sentence to
 * stderr when something is wrong.  Exit: 0, MR_EXIT_FAILURE (the system or the instance refused), MR_EXIT_MISUSE (command line, file).
 */
#ifndef MR_CLI_H
#define MR_CLI_H

#include "core/error.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define MR_EXIT_FAILURE 1
#define MR_EXIT_MISUSE  2
#define MR_CLI_OPTIONS  20 /* of one verb */
#define MR_CLI_ARGS     64

struct mr_cli_option {
	const char *name;     /* without the dashes; NULL ends the table */
	const char *argument; /* what to call its value; NULL = a switch */
	const char *help;
	bool many; /* may be given several times; one option of a verb */
};

struct mr_cli;

struct mr_cli_verb {
	const char *name;                    /* NULL ends the table */
	const char *synopsis;                /* what follows the verb */
	const char *summary;                 /* one line */
	const char *help;                    /* more, may be NULL */
	const struct mr_cli_option *options; /* NULL = none */
	int arg_min, arg_max;
	int (*run)(const struct mr_cli *c); /* returns the exit code */
};

struct mr_cli {
	const struct mr_cli_verb *verb;
	const char *instance; /* --name; NULL = not given */
	bool json;
	const char *value[MR_CLI_OPTIONS]; /* of the verb's options, by index; a switch that was given has "" */
	const char *arg[MR_CLI_ARGS + 1];  /* NULL-terminated */
	int arg_cnt;
	const char *many[MR_CLI_ARGS + 1]; /* values of the option that may be given several times; NULL-terminated */
	int many_cnt;
};

extern const struct mr_cli_verb mr_cli_verbs[];
/* Options every verb takes. */
extern const struct mr_cli_option mr_cli_globals[];

/* ---- args.c, suggest.c --------------------------------------------------------------------------------------------- */

/* argv without the program's name.  Strings stay argv's.  0 or -EINVAL with a sentence.  `--help` and `--version` become the verbs. */
int mr_args_parse(int argc, char *const *argv, const struct mr_cli_verb *verbs, struct mr_cli *out, struct mr_error *e);
/* The value of an option of the verb; NULL when it was not given. */
const char *mr_args_value(const struct mr_cli *c, const char *name);
/* A whole decimal number in min..max. */
int mr_args_number(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *out, struct mr_error *e);
/* "500ms", "2s", "1m" into milliseconds. */
int mr_args_duration_ms(const char *what, const char *text, uint64_t *out, struct mr_error *e);
/* All arguments from `first` on, with a space between, in `out`.  -EINVAL when they do not fit. */
int mr_args_join(const struct mr_cli *c, int first, char *out, size_t bytes, struct mr_error *e);

/*
 * when.c: "14:03", "14:03:07" (today), "2026-01-02 14:03", RFC 3339, "-10m", into the first and last nanosecond of what is named: a minute, a
 * second ... or a day.  Without a zone it is local time (TZ).  -EINVAL with a sentence, also for what is still to come.
 */
int mr_when_read(
	const char *what, const char *text, uint64_t now_ns, uint64_t *from_ns, uint64_t *to_ns, struct mr_error *e);

/* Remembers `candidate` in *best when it is nearer to `word` than what *best holds; words that share too little never are. */
void mr_suggest_consider(const char *word, const char *candidate, const char **best);

/* ---- table.c, number.c --------------------------------------------------------------------------------------------- */

#define MR_TABLE_COLUMNS 16

/* Cells are collected row by row and written aligned.  A heading that starts with '>' makes its column right-aligned. */
struct mr_table {
	const char *heading[MR_TABLE_COLUMNS];
	unsigned column_cnt;
	char **cell;
	size_t cell_cnt, cell_room;
	bool failed; /* out of memory: nothing is written */
};

void mr_table_begin(struct mr_table *t, ...) __attribute__((sentinel)); /* headings, NULL */
void mr_table_add(struct mr_table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void mr_table_write(struct mr_table *t, FILE *out); /* and ends it */

#define MR_NUMBER_BYTES 24

/* For people: 9999, 12.3k, 4.56M; negative numbers too.  Return buf. */
const char *mr_number_count(int64_t v, char buf[MR_NUMBER_BYTES]);
const char *mr_number_bytes(int64_t v, char buf[MR_NUMBER_BYTES]);     /* 9999 B, 12.3 kB */
const char *mr_number_duration(int64_t ms, char buf[MR_NUMBER_BYTES]); /* 250 ms, 35 s, 2 h 5 min, 3 d 4 h */

/* ---- ask.c --------------------------------------------------------------------------------------------------------- */

/* Says the sentence on stderr and returns `code`. */
int mr_ask_fail(int code, const struct mr_error *e);
/* Sends `request` (stolen).  On success *answer is the envelope (a new reference); else an exit code, and the sentence is said. */
int mr_ask_instance(const struct mr_cli *c, json_t *request, unsigned timeout_ms, json_t **answer);
/* Writes the envelope to stdout as it came. */
int mr_ask_write_json(const json_t *answer);
/* {"verb": VERB} with `what` when it is not NULL. */
json_t *mr_ask_request(const char *verb, const char *what);
/* Puts the whole path of a file into the request: the instance has another working folder.  -ENOENT ..., -EINVAL with the sentence. */
int mr_ask_put_path(json_t *request, const char *path, struct mr_error *e);
/* A number or string of an object; 0 and "" when there is none. */
int64_t mr_ask_int(const json_t *o, const char *key);
const char *mr_ask_text(const json_t *o, const char *key);
/* Copies the filters of flows (--addr --port --proto --state --pipeline --interface) into the request. */
int mr_ask_filters(const struct mr_cli *c, json_t *request, struct mr_error *e);

/* ---- text.c: what the answers to show look like for people ---------------------------------------------------------- */

void mr_text_show(const char *what, const json_t *answer, FILE *out); /* what NULL = the summary */
void mr_text_nat(const json_t *data, FILE *out);                      /* text_nat.c */

/* ---- verbs --------------------------------------------------------------------------------------------------------- */

int mr_verb_run(const struct mr_cli *c);
int mr_verb_cleanup(const struct mr_cli *c);
int mr_verb_check(const struct mr_cli *c);
int mr_verb_show(const struct mr_cli *c);
int mr_verb_top(const struct mr_cli *c);
int mr_verb_reload(const struct mr_cli *c);
int mr_verb_explain(const struct mr_cli *c);
int mr_verb_flows(const struct mr_cli *c);
int mr_verb_nat(const struct mr_cli *c);
int mr_verb_help(const struct mr_cli *c);
int mr_verb_version(const struct mr_cli *c);

#endif
