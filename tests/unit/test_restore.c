/* SPDX-License-Identifier: BSD-2-Clause */
/* What is remembered of devices over kill -9: the file, its entries of this and of other namespaces. */
#include "core/restore.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NO_DEVICE 0x7ffffff0u /* no kernel has got that far */

static char instance[64], path[128];

static void up(void)
{
	snprintf(instance, sizeof(instance), "test-restore-%d", (int)getpid());
	snprintf(path, sizeof(path), "/run/millrace/%s.state", instance);
	if ((mkdir("/run/millrace", 0755) && access("/run/millrace", W_OK)) || access("/run/millrace", W_OK))
		cr_skip("nobody but root writes to /run/millrace");
}

static void down(void)
{
	unlink(path);
}

TestSuite(restore, .init = up, .fini = down, .timeout = 60);

static bool there(void)
{
	return !access(path, F_OK);
}

static unsigned said;
static void say(void *ctx, const char *device, bool done, const char *sentence)
{
	said++;
}

Test(restore, nothing_changed_makes_no_file)
{
	struct mr_restore r = { .ifindex = NO_DEVICE };
	cr_expect_eq(mr_restore_remember(instance, 7, &r, NULL), 0);
	cr_expect_not(there());
	cr_expect_eq(mr_restore_undo(instance, 0, 0, say, NULL), 0);
}

Test(restore, the_file_goes_with_its_last_line)
{
	struct mr_restore a = { .ifindex = NO_DEVICE, .offloads = MR_DEVICE_LRO },
			  b = { .ifindex = NO_DEVICE + 1, .offloads = 2 };
	cr_expect_eq(mr_restore_remember(instance, 7, &a, NULL), 0);
	cr_expect_eq(mr_restore_remember(instance, 7, &b, NULL), 0);
	cr_expect(there());
	mr_restore_forget(instance, a.ifindex);
	cr_expect(there());
	mr_restore_forget(instance, b.ifindex);
	cr_expect_not(there());
}

Test(restore, what_an_earlier_run_changed_is_joined)
{
	struct mr_restore a = {
		.ifindex = NO_DEVICE, .offloads = MR_DEVICE_LRO, .before = { 4, 4, 0 }, .set = { 2, 2, 0 }
	};
	struct mr_restore b = {
		.ifindex = NO_DEVICE, .offloads = MR_DEVICE_RX_VLAN, .before = { 2, 2, 0 }, .set = { 1, 1, 0 }
	};
	struct mr_restore c = { .ifindex = NO_DEVICE };
	cr_expect_eq(mr_restore_remember(instance, 7, &a, NULL), 0);
	cr_expect_eq(mr_restore_remember(instance, 8, &b, NULL), 0);
	cr_expect_eq(b.offloads, MR_DEVICE_LRO | MR_DEVICE_RX_VLAN);
	cr_expect(b.before.rx == 4 && b.set.rx == 1);
	cr_expect_eq(mr_restore_remember(instance, 9, &c, NULL), 0);
	cr_expect(c.offloads == b.offloads && c.before.rx == 4 && c.set.rx == 1);
}

Test(restore, only_other_runs_and_this_namespace)
{
	struct mr_restore a = { .ifindex = NO_DEVICE, .offloads = 1 }, b = { .ifindex = NO_DEVICE + 1, .offloads = 1 };
	cr_expect_eq(mr_restore_remember(instance, 7, &a, NULL), 0);
	cr_expect_eq(mr_restore_remember(instance, 8, &b, NULL), 0);
	FILE *f = fopen(path, "a");
	cr_assert_not_null(f);
	fprintf(f, "device 1 5 77 offloads 1 channels 0 0 0 set 0 0 0\nsomething else\n");
	fclose(f);
	cr_expect_eq(
		mr_restore_undo(instance, 8, 0, say, NULL), 1); /* of a device that is gone: done, nothing to say */
	cr_expect_eq(said, 0);
	cr_expect_eq(mr_restore_undo(instance, 8, 0, say, NULL), 0);
	cr_expect_eq(mr_restore_undo(instance, 0, NO_DEVICE, say, NULL), 0);
	cr_expect_eq(mr_restore_undo(instance, 0, 0, say, NULL), 1);
	cr_expect(there()); /* the other namespace's */
}

Test(restore, many)
{
	for (uint32_t i = 0; i < 128; i++) {
		struct mr_restore r = { .ifindex = NO_DEVICE - i, .offloads = 1 };
		cr_expect_eq(mr_restore_remember(instance, 7, &r, NULL), 0);
	}
	struct mr_restore r = { .ifindex = 1 << 30, .offloads = 1 };
	struct mr_error e = { "" };
	cr_expect_lt(mr_restore_remember(instance, 7, &r, &e), 0);
	cr_expect(strstr(e.text, "cannot be written"), "%s", e.text);
	cr_expect_eq(mr_restore_undo(instance, 0, 0, say, NULL), 128);
	cr_expect_not(there());
}
