/* SPDX-License-Identifier: BSD-2-Clause */
/* test_handback_kern.c - the hand-back program loads and redirects whatever it gets. */
#include "prog_run.h"

#include "handback.skel.h"

#define TC_ACT_REDIRECT 7

int main(void)
{
	static const unsigned char frame[64] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45 };
	libbpf_set_print(NULL);
	struct handback_bpf *h = handback_bpf__open();
	CHECK(h, "%s", strerror(errno));
	h->rodata->handback_ifindex = 1;
	int err = handback_bpf__load(h);
	if (err)
		load_failed("handback", err);
	print_verified("handback", bpf_program__fd(h->progs.handback));
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = frame, .data_size_in = sizeof(frame), .repeat = 1);
	CHECK(!bpf_prog_test_run_opts(bpf_program__fd(h->progs.handback), &o), "%s", strerror(errno));
	CHECK(o.retval == TC_ACT_REDIRECT, "action %u", o.retval);
	handback_bpf__destroy(h);
	return 0;
}
