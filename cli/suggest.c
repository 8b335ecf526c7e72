/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"

#include <string.h>

#define WORD_MAX 32

/* Edits (insert, remove, replace, swap neighbours) from one word to the other. */
static unsigned distance(const char *a, const char *b)
{
	unsigned d[WORD_MAX + 1][WORD_MAX + 1];
	size_t n = strlen(a), m = strlen(b);
	if (n > WORD_MAX || m > WORD_MAX)
		return WORD_MAX;
	for (size_t i = 0; i <= n; i++)
		d[i][0] = (unsigned)i;
	for (size_t j = 0; j <= m; j++)
		d[0][j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		for (size_t j = 1; j <= m; j++) {
			unsigned best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			if (d[i - 1][j] + 1 < best)
				best = d[i - 1][j] + 1;
			if (d[i][j - 1] + 1 < best)
				best = d[i][j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
				d[i - 2][j - 2] + 1 < best)
				best = d[i - 2][j - 2] + 1;
			d[i][j] = best;
		}
	}
	return d[n][m];
}

/* A word that was cut short ("pipe" for "pipelines") counts as one edit. */
static unsigned cost(const char *word, const char *candidate)
{
	size_t n = strlen(word);
	return n >= 2 && !strncmp(word, candidate, n) && candidate[n] ? 1 : distance(word, candidate);
}

void mr_suggest_consider(const char *word, const char *candidate, const char **best)
{
	size_t n = strlen(candidate);
	unsigned limit = n <= 3 ? 1 : n <= 6 ? 2 : 3;
	unsigned d = cost(word, candidate);
	if (d <= limit && d < strlen(word) && (!*best || d < cost(word, *best)))
		*best = candidate;
}
