/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void mr_table_begin(struct mr_table *t, ...)
{
	va_list ap;
	const char *h;
	*t = (struct mr_table){ 0 };
	va_start(ap, t);
	while ((h = va_arg(ap, const char *)) && t->column_cnt < MR_TABLE_COLUMNS)
		t->heading[t->column_cnt++] = h;
	va_end(ap);
}

void mr_table_add(struct mr_table *t, const char *fmt, ...)
{
	if (t->cell_cnt == t->cell_room) {
		size_t room = t->cell_room ? 2 * t->cell_room : 64;
		char **cell = realloc(t->cell, room * sizeof(*cell));
		if (!cell) {
			t->failed = true;
			return;
		}
		t->cell = cell;
		t->cell_room = room;
	}
	va_list ap;
	va_start(ap, fmt);
	if (vasprintf(&t->cell[t->cell_cnt], fmt, ap) < 0)
		t->failed = true;
	else
		t->cell_cnt++;
	va_end(ap);
}

/* Characters, not bytes. */
static int width(const char *s)
{
	int n = 0;
	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

static void write_cell(FILE *out, const char *s, int room, bool right, bool last)
{
	int pad = room - width(s);
	if (right)
		fprintf(out, "%*s", pad, "");
	fputs(s, out);
	if (!right && !last)
		fprintf(out, "%*s", pad, "");
	fputs(last ? "\n" : "  ", out);
}

void mr_table_write(struct mr_table *t, FILE *out)
{
	int room[MR_TABLE_COLUMNS];
	bool right[MR_TABLE_COLUMNS];
	unsigned n = t->column_cnt;
	for (unsigned c = 0; c < n; c++) {
		right[c] = t->heading[c][0] == '>';
		room[c] = width(t->heading[c] + right[c]);
	}
	for (size_t i = 0; i < t->cell_cnt; i++) {
		if (width(t->cell[i]) > room[i % n])
			room[i % n] = width(t->cell[i]);
	}
	for (unsigned c = 0; c < n && !t->failed; c++)
		write_cell(out, t->heading[c] + right[c], room[c], right[c], c + 1 == n);
	for (size_t i = 0; i < t->cell_cnt && !t->failed; i++)
		write_cell(out, t->cell[i], room[i % n], right[i % n], (i + 1) % n == 0);
	for (size_t i = 0; i < t->cell_cnt; i++)
		free(t->cell[i]);
	free(t->cell);
	*t = (struct mr_table){ 0 };
}
