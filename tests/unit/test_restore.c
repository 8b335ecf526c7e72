/* SPDX-License-Identifier: BSD-2-Clause */
/* What is remembered of devices over kill -9: the file, its entries of this and of other namespaces. */
#include "core/restore.h"

#include <criterion/criterion.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
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

/* Between the two runs somebody has given the device other channels: those are what it goes back to. */
Test(restore, what_somebody_else_has_set_since_is_the_truth)
{
	struct mr_restore a = { .ifindex = NO_DEVICE, .before = { 4, 4, 0 }, .set = { 2, 2, 0 } };
	struct mr_restore b = { .ifindex = NO_DEVICE, .before = { 6, 6, 0 }, .set = { 1, 1, 0 } };
	cr_expect_eq(mr_restore_remember(instance, 7, &a, NULL), 0);
	cr_expect_eq(mr_restore_remember(instance, 8, &b, NULL), 0);
	cr_expect(b.before.rx == 6 && b.set.rx == 1, "%u", b.before.rx);
	b.offloads = MR_DEVICE_LRO; /* the same run goes on */
	cr_expect_eq(mr_restore_remember(instance, 8, &b, NULL), 0);
	cr_expect(b.before.rx == 6 && b.set.rx == 1, "%u", b.before.rx);
}

Test(restore, only_other_runs_and_this_namespace)
{
	struct mr_restore a = { .ifindex = NO_DEVICE, .offloads = 1 }, b = { .ifindex = NO_DEVICE + 1, .offloads = 1 };
	cr_expect_eq(mr_restore_remember(instance, 7, &a, NULL), 0);
	cr_expect_eq(mr_restore_remember(instance, 8, &b, NULL), 0);
	FILE *f = fopen(path, "a");
	cr_assert_not_null(f);
	fprintf(f, "device 18446744073709551615 5 77 offloads 1 channels 0 0 0 set 0 0 0\nsomething else\n");
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

/* Nobody else is to write what root then does to devices, whatever the umask; and the file is never written through a link. */
Test(restore, the_file_is_its_owners)
{
	struct mr_restore r = { .ifindex = NO_DEVICE, .offloads = 1 };
	char fresh[160], victim[160];
	struct stat st;
	snprintf(fresh, sizeof(fresh), "%s.new", path);
	snprintf(victim, sizeof(victim), "/tmp/mr-%s", instance);
	FILE *f = fopen(victim, "w");
	cr_assert_not_null(f);
	fputs("mine\n", f);
	fclose(f);
	cr_assert_eq(symlink(victim, fresh), 0);
	umask(0);
	cr_expect_eq(mr_restore_remember(instance, 7, &r, NULL), 0);
	cr_expect(!lstat(path, &st) && S_ISREG(st.st_mode));
	cr_expect_eq(st.st_mode & 0777, 0600);
	cr_expect(!stat(victim, &st) && st.st_size == 5, "what a link names is left alone");
	unlink(victim);
}

static ino_t space_number(void)
{
	struct stat st;
	return stat("/proc/self/ns/net", &st) ? 0 : st.st_ino;
}

/* A process in a namespace of its own: does `what` there and gives its answer. */
static int elsewhere(int (*what)(ino_t), ino_t number)
{
	int status;
	pid_t pid = fork();
	if (!pid)
		_exit(unshare(CLONE_NEWNET) ? 99 : what(number));
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 98;
}

static int note_number(ino_t unused)
{
	struct mr_restore r = { .ifindex = NO_DEVICE, .offloads = 1 };
	ino_t number = space_number();
	FILE *f = fopen("/tmp/mr-test-space", "we");
	if (!f || mr_restore_remember(instance, 7, &r, NULL))
		return 97;
	fprintf(f, "%llu", (unsigned long long)number);
	return fclose(f) ? 97 : 0;
}

static int undo_there(ino_t number)
{
	if (space_number() != number)
		return 50;
	return mr_restore_undo(instance, 0, 0, NULL, NULL);
}

/* The number of a namespace in /proc is given to the next one soon after its end. */
Test(restore, a_namespace_that_is_gone_has_no_successor)
{
	unsigned long long number = 0;
	int got = elsewhere(note_number, 0);
	if (got == 99)
		cr_skip("no namespaces here");
	cr_assert_eq(got, 0);
	FILE *f = fopen("/tmp/mr-test-space", "re");
	cr_assert(f && fscanf(f, "%llu", &number) == 1);
	fclose(f);
	unlink("/tmp/mr-test-space");
	for (unsigned i = 0; i < 100 && (got = elsewhere(undo_there, (ino_t)number)) == 50; i++)
		usleep(20000);
	if (got == 50)
		cr_skip("this kernel did not use the number again");
	cr_expect_eq(got, 0, "what is written down is of another namespace");
	cr_expect(there());
}

/* Namespaces come and go and leave entries that nobody can undo any more: they do not keep a device of this one out. */
Test(restore, room_is_made)
{
	struct mr_restore r = { .ifindex = NO_DEVICE, .offloads = 1 };
	FILE *f = fopen(path, "w");
	cr_assert_not_null(f);
	for (unsigned i = 0; i < 128; i++)
		fprintf(f, "device %llu 5 77 offloads 1 channels 0 0 0 set 0 0 0\n", ~0ull - i);
	fclose(f);
	cr_expect_eq(mr_restore_remember(instance, 7, &r, NULL), 0);
	cr_expect_eq(mr_restore_undo(instance, 0, 0, say, NULL), 1);
	cr_expect(there());
}
