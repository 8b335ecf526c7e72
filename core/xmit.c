/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/xmit.h"

#include "xmit.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mr_xmit {
	struct xmit_bpf *skel;
};

static int cannot(int err, const char *what, struct mr_error *e)
{
	return mr_error_set(e, err, "what egress devices lose is not counted: %s: %s", what, strerror(-err));
}

/* A map of the tier in place of the one declared, of which it must have the shape. */
static int take_map(struct bpf_map *declared, int fd)
{
	uint32_t value_bytes = bpf_map__value_size(declared);
	enum bpf_map_type type = bpf_map__type(declared);
	int err = bpf_map__reuse_fd(declared, fd);
	if (err)
		return err;
	return bpf_map__value_size(declared) == value_bytes && bpf_map__type(declared) == type ? 0 : -EINVAL;
}

static int count(struct mr_xmit *x, const struct mr_xmit_maps *maps, struct mr_error *e)
{
	int err = take_map(x->skel->maps.tier_pairs, maps->pairs_fd);
	if (!err)
		err = take_map(x->skel->maps.tier_egress, maps->egress_fd);
	if (err)
		return cannot(err, "the tier's maps", e);
	err = xmit_bpf__load(x->skel);
	if (err)
		return cannot(err, "loading the program", e);
	err = xmit_bpf__attach(x->skel);
	return err ? cannot(err, "attaching to the XDP tracepoints", e) : 0;
}

int mr_xmit_load(const struct mr_xmit_maps *maps, uint64_t space, struct mr_xmit **out, struct mr_error *e)
{
	struct bpf_map_info devmap = { 0 };
	uint32_t bytes = sizeof(devmap);
	struct mr_xmit *x = NULL;
	int err = 0;

	if (access("/sys/kernel/btf/vmlinux", R_OK))
		return mr_error_set(e, -EOPNOTSUPP,
			"what egress devices lose is not counted: the kernel has no BTF (/sys/kernel/btf/vmlinux)");
	if (bpf_obj_get_info_by_fd(maps->devmap_fd, &devmap, &bytes))
		return cannot(-errno, "the devmap", e);
	x = calloc(1, sizeof(*x));
	x = x && (x->skel = xmit_bpf__open()) ? x : (free(x), NULL);
	if (!x)
		return cannot(-ENOMEM, "opening the program", e);
	x->skel->rodata->xmit_space = space;
	x->skel->rodata->xmit_devmap = devmap.id;
	libbpf_print_fn_t before = libbpf_set_print(NULL); /* the sentence says it */
	err = count(x, maps, e);
	libbpf_set_print(before);
	if (err)
		mr_xmit_unload(x);
	else
		*out = x;
	return err;
}

void mr_xmit_unload(struct mr_xmit *x)
{
	if (!x)
		return;
	xmit_bpf__destroy(x->skel);
	free(x);
}

int mr_xmit_device(struct mr_xmit *x, uint32_t ifindex, unsigned interface_id)
{
	uint32_t id = interface_id;
	int err;

	if (!x)
		return 0;
	if (id)
		return bpf_map__update_elem(
			x->skel->maps.xmit_devices, &ifindex, sizeof(ifindex), &id, sizeof(id), BPF_ANY);
	err = bpf_map__delete_elem(x->skel->maps.xmit_devices, &ifindex, sizeof(ifindex), 0);
	return err == -ENOENT ? 0 : err;
}
