/* SPDX-License-Identifier: BSD-2-Clause */
/* who_files.c - files of the log, those that were rotated among them, line by line. */
#include "pipelines/nat44/who.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define READ_BYTES (256u << 10)

/* gzread reads plain files as they are. */
struct nat_who_reader {
	gzFile file;
};

int nat_who_reader_open(const char *path, struct nat_who_reader **out)
{
	struct nat_who_reader *r = malloc(sizeof(*r));
	if (!r)
		return -ENOMEM;
	errno = 0;
	r->file = strcmp(path, "-") ? gzopen(path, "re") : gzdopen(dup(STDIN_FILENO), "r");
	if (!r->file) {
		int err = errno ? -errno : -ENOMEM;
		free(r);
		return err;
	}
	gzbuffer(r->file, READ_BYTES);
	*out = r;
	return 0;
}

bool nat_who_reader_line(struct nat_who_reader *r, char *line, unsigned bytes, int *err)
{
	int why;
	*err = 0;
	if (gzgets(r->file, line, (int)bytes)) {
		line[strcspn(line, "\n")] = '\0';
		return true;
	}
	(void)gzerror(r->file, &why);
	if (why == Z_ERRNO)
		*err = errno ? -errno : -EIO;
	else if (why != Z_OK && why != Z_STREAM_END)
		*err = -EBADMSG;
	return false;
}

void nat_who_reader_close(struct nat_who_reader *r)
{
	if (r)
		gzclose(r->file);
	free(r);
}

/* ---- which files -------------------------------------------------------------------------------------------------------- */

struct found {
	char *path;
	uint64_t first_ns; /* UINT64_MAX: no line of the log */
	struct stat st;
};

struct list {
	struct found *f;
	size_t cnt;
};

static uint64_t first_time(const char *path)
{
	struct nat_who_reader *r;
	char line[2 * NAT_LINE_BYTES], stage[NAT_STAGE_BYTES];
	struct nat_event e;
	uint64_t ns = UINT64_MAX;
	int err;
	if (nat_who_reader_open(path, &r))
		return ns;
	for (unsigned i = 0; i < 100 && ns == UINT64_MAX && nat_who_reader_line(r, line, sizeof(line), &err); i++) {
		if (!nat_log_parse(line, &e, stage, sizeof(stage)))
			ns = e.time_ns;
	}
	nat_who_reader_close(r);
	return ns;
}

/* Takes each file once, also when it has two names. */
static int add(struct list *l, const char *path)
{
	struct found f = { 0 };
	if (stat(path, &f.st) || S_ISDIR(f.st.st_mode))
		return 0;
	for (size_t i = 0; i < l->cnt; i++) {
		if (l->f[i].st.st_dev == f.st.st_dev && l->f[i].st.st_ino == f.st.st_ino)
			return 0;
	}
	struct found *more = realloc(l->f, (l->cnt + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	l->f = more;
	f.path = strdup(path);
	if (!f.path)
		return -ENOMEM;
	f.first_ns = S_ISREG(f.st.st_mode) ? first_time(path) : UINT64_MAX; /* a pipe is read once */
	l->f[l->cnt++] = f;
	return 0;
}

static int by_time(const void *a, const void *b)
{
	const struct found *x = a, *y = b;
	return x->first_ns < y->first_ns ? -1 : x->first_ns > y->first_ns;
}

/* The name as a pattern that matches only itself. */
static char *escaped(const char *path, const char *pattern)
{
	char *out = malloc(2 * strlen(path) + strlen(pattern) + 1), *at = out;
	for (; out && *path; path++) {
		if (strchr("*?[]\\{}~", *path))
			*at++ = '\\';
		*at++ = *path;
	}
	if (out)
		strcpy(at, pattern);
	return out;
}

static int add_rotated(struct list *l, const char *path, const char *pattern)
{
	glob_t g;
	char *p = escaped(path, pattern);
	int err = p ? glob(p, GLOB_NOSORT, NULL, &g) : GLOB_NOSPACE;
	free(p);
	if (err)
		return err == GLOB_NOSPACE ? -ENOMEM : 0;
	for (size_t i = 0; !err && i < g.gl_pathc; i++)
		err = add(l, g.gl_pathv[i]);
	globfree(&g);
	return err;
}

static int to_names(struct list *l, char ***out)
{
	char **names = calloc(l->cnt + 1, sizeof(*names));
	if (!names)
		return -ENOMEM;
	qsort(l->f, l->cnt, sizeof(*l->f), by_time);
	for (size_t i = 0; i < l->cnt; i++) {
		names[i] = l->f[i].path;
		l->f[i].path = NULL;
	}
	*out = names;
	return 0;
}

int nat_who_files(const char *path, char ***out)
{
	static const char *const patterns[] = { ".[0-9]*", "-[0-9]*" };
	struct list l = { 0 };
	int err = add(&l, path);
	for (unsigned i = 0; !err && i < sizeof(patterns) / sizeof(patterns[0]); i++)
		err = add_rotated(&l, path, patterns[i]);
	if (!err)
		err = l.cnt ? to_names(&l, out) : -ENOENT;
	for (size_t i = 0; i < l.cnt; i++)
		free(l.f[i].path);
	free(l.f);
	return err;
}

void nat_who_files_free(char **files)
{
	for (size_t i = 0; files && files[i]; i++)
		free(files[i]);
	free(files);
}
