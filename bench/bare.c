// SPDX-License-Identifier: BSD-2-Clause
/*
 * bare - forwards every frame of one device to another by an XDP redirect and nothing else, as long as its input is open.
 *
 *     bare FROM TO     (devices of the namespace it runs in; the line `ready` when it does)
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bare.skel.h"

static int fail(const char *what, int err)
{
	fprintf(stderr, "bare: %s: %s\n", what, strerror(err));
	return 1;
}

int main(int argc, char **argv)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = XDP_FLAGS_DRV_MODE);

	if (argc != 3) {
		fputs("usage: bare FROM TO\n", stderr);
		return 2;
	}
	unsigned from = if_nametoindex(argv[1]), to = if_nametoindex(argv[2]), key = 0;
	if (!from || !to)
		return fail("no such device", errno);
	struct bare_bpf *b = bare_bpf__open_and_load();
	if (!b)
		return fail("the program does not load", errno);
	if (bpf_map_update_elem(bpf_map__fd(b->maps.bare_to), &key, &to, BPF_ANY))
		return fail(argv[2], errno);
	if (bpf_link_create(bpf_program__fd(b->progs.bare), (int)from, BPF_XDP, &opts) < 0)
		return fail(argv[1], errno);
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF)
		;
	bare_bpf__destroy(b);
	return 0;
}
