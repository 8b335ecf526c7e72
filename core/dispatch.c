/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/dispatch.h"

#include "core/attach.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <linux/magic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>
#include <xdp/libxdp.h>

#define PROGRAM         "steer" /* how the names of our programs begin */
#define PROGRAM_MAX     10      /* of one dispatcher (xdp/prog_dispatcher.h) */
#define OWNER_MAP       ".rodata.owner"

#define COUNTERS_MAP    "steer_counters"

#define OWNER_BYTES_MAX 1024

/* ---- both libraries say nothing on stderr; our sentences do ------------------------------------------------------ */

struct quiet {
	libbpf_print_fn_t bpf;
	libxdp_print_fn_t xdp;
};

static struct quiet quiet_begin(void)
{
	return (struct quiet){ libbpf_set_print(NULL), libxdp_set_print(NULL) };
}

static void quiet_end(struct quiet q)
{
	libbpf_set_print(q.bpf);
	libxdp_set_print(q.xdp);
}

/* ---- what must be there ------------------------------------------------------------------------------------------ */

static const char *bpffs(void)
{
	const char *dir = secure_getenv("LIBXDP_BPFFS"); /* libxdp asks it too */

	return dir ? dir : "/sys/fs/bpf";
}

static int bpffs_check(const char *device, struct mr_error *e)
{
	struct statfs fs;

	if (!statfs(bpffs(), &fs) && (unsigned long)fs.f_type == BPF_FS_MAGIC)
		return 0;
	return mr_error_set(e, -ENOENT,
		"%s: attach: shared keeps its programs in a BPF file system, and there is none at %s: `mount -t bpf "
		"bpf %s`",
		device, bpffs(), bpffs());
}

/* Where replacing a function is allowed, this one is refused only for naming no function (EINVAL). */
static int freplace_check(const char *device, struct mr_error *e)
{
	const struct bpf_insn insns[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K }, { .code = BPF_JMP | BPF_EXIT } };
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .attach_btf_id = 1);
	int fd = bpf_prog_load(BPF_PROG_TYPE_EXT, "probe", "Dual BSD/GPL", insns, 2, &opts);

	if (fd >= 0)
		close(fd);
	if (fd != -EPERM)
		return 0;
	return mr_error_set(e, -EOPNOTSUPP,
		"%s: attach: shared needs a kernel that lets one BPF program replace a function of another (freplace), "
		"and "
		"this one does not permit it (%s): leave attach out, or set it to link, to have the device alone",
		device, strerror(EPERM));
}

int mr_dispatch_check(const struct mr_device *d, struct mr_error *e)
{
	struct mr_error why = { { 0 } };
	struct quiet q;
	struct xdp_multiprog *mp;
	bool alone;
	int err = mr_attach_check_free(d, &why);

	if (err && err != -EBUSY)
		return mr_error_set(e, err, "%s", why.text);
	if (err) {
		q = quiet_begin();
		mp = xdp_multiprog__get_from_ifindex((int)d->ifindex);
		alone = libxdp_get_error(mp) || xdp_multiprog__is_legacy(mp);
		xdp_multiprog__close(mp);
		quiet_end(q);
		if (alone)
			return mr_error_set(e, -EBUSY, "%s", why.text);
	}
	err = bpffs_check(d->name, e);
	return err ? err : freplace_check(d->name, e);
}

/* ---- attaching --------------------------------------------------------------------------------------------------- */

/* The mode of the dispatcher that is there, XDP_MODE_UNSPEC when there is none; *shared: it is one. */
static enum xdp_attach_mode present(uint32_t ifindex, bool *shared)
{
	struct xdp_multiprog *mp = xdp_multiprog__get_from_ifindex((int)ifindex);
	bool none = libxdp_get_error(mp) != 0;
	enum xdp_attach_mode mode = none ? XDP_MODE_UNSPEC : xdp_multiprog__attach_mode(mp);

	*shared = !none && !xdp_multiprog__is_legacy(mp);
	xdp_multiprog__close(mp);
	return mode;
}

static int attach_error(const char *device, int err, bool generic, struct mr_error *e)
{
	switch (err) {
	case -EPERM:
		return mr_error_set(
			e, err, "attaching to %s needs root or CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON", device);
	case -E2BIG:
		return mr_error_set(e, err, "%s already shares as many XDP programs as its dispatcher holds, %d",
			device, PROGRAM_MAX);
	case -EEXIST:
	case -EBUSY:
		return mr_error_set(e, -EBUSY,
			"%s has an XDP program that the dispatcher of libxdp cannot run beside ours (`bpftool net` "
			"names it)",
			device);
	case -ENOENT:
		return mr_error_set(e, err,
			"%s: libxdp does not find its dispatcher, xdp-dispatcher.o: install libxdp whole", device);
	case -EINVAL:
		if (generic)
			return mr_error_set(e, err,
				"%s: in generic mode the steering program may change packets (those handed back), "
				"which this "
				"kernel allows in a dispatcher only from libxdp 1.5.5 on: use a native mode, or "
				"attach: link",
				device);
		/* fall through */
	default:
		return mr_error_set(e, err, "%s takes no %s XDP program through the dispatcher of libxdp: %s", device,
			generic ? "generic" : "native", strerror(-err));
	}
}

static int attach(const char *device, uint32_t ifindex, struct xdp_program *p, bool generic, struct mr_error *e)
{
	const enum xdp_attach_mode mode = generic ? XDP_MODE_SKB : XDP_MODE_NATIVE;
	bool shared;
	enum xdp_attach_mode now = present(ifindex, &shared);
	int err;

	/* libxdp would try ten times to put one mode beside the other */
	if (shared && now != mode)
		return mr_error_set(e, -EOPNOTSUPP, "%s is shared with XDP programs attached in %s mode", device,
			now == XDP_MODE_SKB ? "generic" : "native");
	err = xdp_program__set_chain_call_enabled(p, XDP_PASS, true);
	if (!err)
		err = xdp_program__attach(p, (int)ifindex, mode, 0);
	if (err)
		return attach_error(device, err, generic, e);
	(void)present(ifindex, &shared);
	if (shared)
		return 0;
	/* told that the kernel cannot do it, libxdp attaches the program alone */
	mr_dispatch_detach(p, ifindex);
	return mr_error_set(e, -EOPNOTSUPP,
		"%s: this kernel, or the environment of libxdp, does not let XDP programs be shared: set attach to "
		"link",
		device);
}

int mr_dispatch_attach(const char *device, uint32_t ifindex, struct bpf_object *object, bool generic,
	struct xdp_program **out, struct mr_error *e)
{
	/* kern/steer.bpf.c: steer, which also strips the shim of generic mode, or steer_shared */
	const char *section = generic ? "xdp" : "freplace";
	struct quiet q = quiet_begin();
	struct xdp_program *p = xdp_program__from_bpf_obj(object, section);
	struct bpf_program *each;
	int err = (int)libxdp_get_error(p);

	bpf_object__for_each_program(each, object)(void)
		bpf_program__set_autoload(each, !strcmp(bpf_program__section_name(each), section));
	if (err) {
		p = NULL;
		mr_error_set(e, err, "libxdp does not take the steering program: %s", strerror(-err));
	} else {
		err = attach(device, ifindex, p, generic, e);
	}
	if (!err)
		*out = p;
	else
		xdp_program__close(p);
	quiet_end(q);
	return err;
}

/* ---- detaching --------------------------------------------------------------------------------------------------- */

static uint32_t pinned_id(const char *path)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);
	int fd = bpf_obj_get(path);

	if (fd < 0)
		return 0;
	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		info.id = 0;
	close(fd);
	return info.id;
}

/* A dispatcher whose device is gone is known to nobody, but its pins keep the programs: ours go. */
static void unpin(uint32_t ifindex, uint32_t id)
{
	char folder[300], prefix[32], path[700], dir_path[700];
	struct dirent *entry;
	DIR *dir;

	snprintf(folder, sizeof(folder), "%.255s/xdp", bpffs());
	snprintf(prefix, sizeof(prefix), "dispatch-%u-", ifindex);
	dir = opendir(folder);
	while (dir && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, prefix, strlen(prefix)))
			continue;
		snprintf(dir_path, sizeof(dir_path), "%s/%s", folder, entry->d_name);
		for (unsigned i = 0; i < PROGRAM_MAX; i++) {
			snprintf(path, sizeof(path), "%.600s/prog%u-prog", dir_path, i);
			if (pinned_id(path) != id)
				continue;
			(void)unlink(path);
			snprintf(path, sizeof(path), "%.600s/prog%u-link", dir_path, i);
			(void)unlink(path);
		}
		(void)rmdir(dir_path); /* not while somebody else's are in it */
	}
	if (dir)
		closedir(dir);
}

static int take_out(struct xdp_program *p, uint32_t ifindex)
{
	enum xdp_attach_mode mode = xdp_program__is_attached(p, (int)ifindex);

	if (mode != XDP_MODE_UNSPEC)
		return xdp_program__detach(p, (int)ifindex, mode, 0);
	unpin(ifindex, xdp_program__id(p));
	return 0;
}

void mr_dispatch_detach(struct xdp_program *p, uint32_t ifindex)
{
	struct quiet q;

	if (!p)
		return;
	q = quiet_begin();
	(void)take_out(p, ifindex); /* what stays is found by the next start */
	xdp_program__close(p);
	quiet_end(q);
}

/* ---- leftovers --------------------------------------------------------------------------------------------------- */

/* One of another version may be longer or shorter: what both have counts. */
static bool owner_of_map(uint32_t map_id, void *to)
{
	struct mr_steer_owner *out = to;
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info), key = 0;
	char value[OWNER_BYTES_MAX] = { 0 };
	int fd = bpf_map_get_fd_by_id(map_id);
	bool found;

	if (fd < 0)
		return false;
	found = !bpf_obj_get_info_by_fd(fd, &info, &len) && !strcmp(info.name, OWNER_MAP) &&
		info.value_size >= offsetof(struct mr_steer_owner, device) && info.value_size <= sizeof(value) &&
		!bpf_map_lookup_elem(fd, &key, value);
	close(fd);
	if (!found)
		return false;
	memcpy(out, value, sizeof(*out));
	out->instance[sizeof(out->instance) - 1] = 0;
	out->device[sizeof(out->device) - 1] = 0;
	return true;
}

/* Of the maps of a program, the first that `fn` takes. */
static bool any_map(int prog_fd, bool (*fn)(uint32_t map_id, void *out), void *out)
{
	uint32_t map[32] = { 0 };
	struct bpf_prog_info info = { .nr_map_ids = 32, .map_ids = (uintptr_t)map };
	uint32_t len = sizeof(info);

	if (bpf_obj_get_info_by_fd(prog_fd, &info, &len))
		return false;
	for (uint32_t i = 0; i < info.nr_map_ids && i < 32; i++)
		if (fn(map[i], out))
			return true;
	return false;
}

static bool owner_of_fd(int prog_fd, struct mr_steer_owner *out)
{
	return any_map(prog_fd, owner_of_map, out);
}

static bool owner_of(const struct xdp_program *p, struct mr_steer_owner *out)
{
	return !strncmp(xdp_program__name(p), PROGRAM, strlen(PROGRAM)) && owner_of_fd(xdp_program__fd(p), out);
}

bool mr_dispatch_owner(uint32_t prog_id, struct mr_steer_owner *out)
{
	int fd = bpf_prog_get_fd_by_id(prog_id);
	bool found = fd >= 0 && owner_of_fd(fd, out);

	if (fd >= 0)
		close(fd);
	if (!found)
		out->instance[0] = 0;
	return found;
}

static bool counters_of_map(uint32_t map_id, void *to)
{
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info), key = 0;
	int cpus = libbpf_num_possible_cpus(), fd = bpf_map_get_fd_by_id(map_id);
	struct mr_steer_cpu_counters *cpu = cpus > 0 ? calloc((size_t)cpus, sizeof(*cpu)) : NULL;
	uint64_t *packets = to;
	bool found = fd >= 0 && cpu && !bpf_obj_get_info_by_fd(fd, &info, &len) && !strcmp(info.name, COUNTERS_MAP) &&
		info.type == BPF_MAP_TYPE_PERCPU_ARRAY && info.value_size == sizeof(*cpu) &&
		!bpf_map_lookup_elem(fd, &key, cpu);

	for (int c = 0; found && c < cpus; c++)
		for (unsigned i = 0; i < MR_STEER_CNT_CNT; i++)
			packets[i] += cpu[c].packets[i];
	free(cpu);
	if (fd >= 0)
		close(fd);
	return found;
}

int mr_dispatch_counters(uint32_t prog_id, uint64_t packets[MR_STEER_CNT_CNT])
{
	int fd = bpf_prog_get_fd_by_id(prog_id);
	if (fd < 0)
		return -ENOENT;
	memset(packets, 0, MR_STEER_CNT_CNT * sizeof(*packets));
	bool found = any_map(fd, counters_of_map, packets);
	close(fd);
	return found ? 0 : -ENOENT;
}

/* Numbers of this instance's programs in the device's dispatcher; -EBUSY when one is of this process. */
static int find_own(uint32_t ifindex, const struct mr_steer_owner *self, uint32_t *id)
{
	struct xdp_multiprog *mp = xdp_multiprog__get_from_ifindex((int)ifindex);
	struct xdp_program *p = NULL;
	struct mr_steer_owner owner;
	int cnt = 0;

	if (libxdp_get_error(mp))
		return 0;
	while (!xdp_multiprog__is_legacy(mp) && cnt >= 0 && cnt < PROGRAM_MAX &&
		(p = xdp_multiprog__next_prog(p, mp))) {
		if (!owner_of(p, &owner) || strncmp(owner.instance, self->instance, sizeof(owner.instance)))
			continue;
		if (owner.process == self->process)
			cnt = -EBUSY;
		else
			id[cnt++] = xdp_program__id(p);
	}
	xdp_multiprog__close(mp);
	return cnt;
}

int mr_dispatch_clean(const struct mr_device *d, const struct mr_steer_owner *self, struct mr_error *e)
{
	uint32_t id[PROGRAM_MAX];
	struct quiet q = quiet_begin();
	int err = 0, cnt = find_own(d->ifindex, self, id);

	for (int i = 0; !err && i < cnt; i++) {
		struct xdp_program *p = xdp_program__from_id(id[i]);
		err = (int)libxdp_get_error(p);
		if (err)
			continue;
		err = take_out(p, d->ifindex);
		xdp_program__close(p);
	}
	quiet_end(q);
	if (cnt == -EBUSY)
		return mr_error_set(e, cnt, "%s is already in use by another interface of this configuration", d->name);
	if (err)
		return mr_error_set(e, err,
			"%s: the program that an earlier run of instance %.63s left cannot be removed: %s", d->name,
			self->instance, strerror(-err));
	return cnt;
}
