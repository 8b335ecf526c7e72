// SPDX-License-Identifier: BSD-2-Clause
/*
 * watch - which way packets take, and since when: bench/change.py's eyes.
 *
 *     watch --dport PORT NETNS/DEVICE...      (a namespace by its name in /run/netns)
 *
 * One XDP program on all devices counts and drops UDP frames to the port by the last byte of their destination's MAC address.  Each
 * line on standard input is answered with one of JSON: {"now_ns": ..., "ways": {"10": {"packets": ..., "first_ns": ..., "last_ns": ...}}}, times
 * of CLOCK_MONOTONIC; first_ns is that since the line before.  It ends with its input and leaves nothing behind.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "watch.skel.h"

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("watch: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

/* Attaches to NETNS/DEVICE; the link lives as long as the process. */
static void attach(const struct watch_bpf *w, const char *where)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = XDP_FLAGS_DRV_MODE);
	const char *device = strchr(where, '/');
	char path[256];

	if (!device)
		die("'%s' is not NETNS/DEVICE", where);
	snprintf(path, sizeof(path), "/run/netns/%.*s", (int)(device - where), where);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		die("cannot enter %s: %s", path, strerror(errno));
	close(fd);
	unsigned idx = if_nametoindex(device + 1);
	if (!idx || bpf_link_create(bpf_program__fd(w->progs.watch_xdp), (int)idx, BPF_XDP, &opts) < 0)
		die("cannot attach to %s: %s", where, strerror(errno));
}

static void tell(struct watch_bpf *w)
{
	struct timespec ts;
	const char *comma = "";

	clock_gettime(CLOCK_MONOTONIC, &ts);
	printf("{\"now_ns\": %llu, \"ways\": {",
		(unsigned long long)ts.tv_sec * 1000000000ull + (unsigned long long)ts.tv_nsec);
	for (unsigned i = 0; i < 256; i++) {
		volatile __u64 *first_ns = &w->bss->watch_first_ns[i];
		uint64_t packets = __atomic_load_n(&w->bss->watch_packets[i], __ATOMIC_RELAXED);

		if (!packets)
			continue;
		printf("%s\"%u\": {\"packets\": %llu, \"first_ns\": %llu, \"last_ns\": %llu}", comma, i,
			(unsigned long long)packets, (unsigned long long)*first_ns,
			(unsigned long long)__atomic_load_n(&w->bss->watch_last_ns[i], __ATOMIC_RELAXED));
		*first_ns = 0;
		comma = ", ";
	}
	puts("}}");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char line[64];

	if (argc < 4 || strcmp(argv[1], "--dport")) {
		fputs("usage: watch --dport PORT NETNS/DEVICE...\n", stderr);
		return 2;
	}
	struct watch_bpf *w = watch_bpf__open();
	if (!w)
		die("cannot open the program: %s", strerror(errno));
	w->rodata->watch_dport = (uint16_t)atoi(argv[2]);
	int err = watch_bpf__load(w);
	if (err)
		die("cannot load the program: %s", strerror(-err));
	for (int i = 3; i < argc; i++)
		attach(w, argv[i]);
	while (fgets(line, sizeof(line), stdin))
		tell(w);
	watch_bpf__destroy(w);
	return 0;
}
