/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_pages.c - the committed reference page and schema are what the program writes, its stages included:
 *
 *     millrace help config --markdown > docs/configuration.md
 *     millrace help config --schema > docs/millrace.schema.json
 */
#include "core/config_read.h"
#include "core/stage.h"
#include "millrace/stage.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define TYPES_MAX 32

typedef int (*writer)(FILE *, const struct mr_config_stage_type *, unsigned);

static void expect_committed(const char *path, writer write)
{
	struct mr_config_stage_type types[TYPES_MAX];
	unsigned cnt = 0;
	char *text = NULL, *committed = NULL;
	size_t bytes = 0, committed_bytes = 0;
	for (; cnt < TYPES_MAX && mr_stage_builtin[cnt]; cnt++)
		types[cnt] = (struct mr_config_stage_type){ mr_stage_builtin[cnt]->type, mr_stage_builtin[cnt]->summary,
			mr_stage_builtin[cnt]->options };
	FILE *f = open_memstream(&text, &bytes);
	cr_assert_eq(write(f, types, cnt), 0);
	fclose(f);
	cr_assert_eq(mr_config_read_file(path, 16 << 20, &committed, &committed_bytes), 0, "%s", path);
	size_t same = 0, line = 1;
	while (same < bytes && same < committed_bytes && text[same] == committed[same])
		line += text[same++] == '\n';
	cr_expect(same == bytes && same == committed_bytes, "%s:%zu: differs from what the program writes", path, line);
	free(text);
	free(committed);
}

Test(pages, reference)
{
	expect_committed(MR_TEST_FOLDER "/../../docs/configuration.md", mr_config_reference);
}

Test(pages, schema)
{
	expect_committed(MR_TEST_FOLDER "/../../docs/millrace.schema.json", mr_config_schema);
}
