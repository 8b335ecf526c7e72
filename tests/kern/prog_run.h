/* SPDX-License-Identifier: BSD-2-Clause */
/* prog_run.h - BPF_PROG_RUN on one frame, and what a test that may not load programs says. */
#ifndef MR_TESTS_KERN_PROG_RUN_H
#define MR_TESTS_KERN_PROG_RUN_H

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SKIP 77

#define CHECK(cond, ...)                                                               \
	do {                                                                           \
		if (!(cond)) {                                                         \
			fprintf(stderr, "%s:%d: not %s: ", __FILE__, __LINE__, #cond); \
			fprintf(stderr, __VA_ARGS__);                                  \
			fputc('\n', stderr);                                           \
			exit(1);                                                       \
		}                                                                      \
	} while (0)

/* Ends the test: skipped without the privilege, failed otherwise. */
static inline void load_failed(const char *what, int err)
{
	if (err == -EPERM) {
		printf("skipped: no permission to load BPF programs\n");
		exit(SKIP);
	}
	fprintf(stderr, "%s does not load: %s\n", what, strerror(-err));
	exit(1);
}

static inline void print_verified(const char *name, int fd)
{
	struct bpf_prog_info info = { 0 };
	__u32 len = sizeof(info);
	CHECK(!bpf_obj_get_info_by_fd(fd, &info, &len), "%s", strerror(errno));
	printf("%s: %u instructions verified, %u bytes\n", name, info.verified_insns, info.xlated_prog_len);
}

/* Runs an XDP program on a frame (14 bytes or more); the frame it left is in out.  Returns the action. */
static inline int prog_run(int fd, const void *in, __u32 len, void *out, __u32 *out_len)
{
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = in, .data_size_in = len, .data_out = out,
		.data_size_out = out ? *out_len : 0, .repeat = 1);
	int err = bpf_prog_test_run_opts(fd, &o);
	CHECK(!err, "BPF_PROG_RUN of %u bytes: %s", len, strerror(-err));
	if (out_len)
		*out_len = o.data_size_out;
	return (int)o.retval;
}

#endif
