/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/leave.h"

#include "core/device.h"
#include "core/dispatch.h"
#include "core/listener.h"
#include "core/restore.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/un.h>
#include <unistd.h>

#define BPFFS      "/sys/fs/bpf"
#define ROOT       BPFFS "/millrace"
#define PATH_BYTES 320
#define DEVICES    64 /* MR_MAX_INTERFACES: links of this process */

struct mr_leave {
	char instance[80];
	char folder[PATH_BYTES];
	uint64_t cookie;        /* of the namespace */
	int lock_fd;            /* the folder; -1 = there is none yet */
	uint32_t used[DEVICES]; /* ifindex of links that are this process's now; 0 = free */
};

/* ---- names ------------------------------------------------------------------------------------------------------- */

/* The bpffs allows no dot in a name, instances do: what is not a letter, a digit, - or _ is written %XX. */
static void folder_of(const char *instance, char folder[PATH_BYTES])
{
	size_t n = (size_t)snprintf(folder, PATH_BYTES, ROOT "/");
	for (const char *s = instance; *s && n + 4 < PATH_BYTES; s++) {
		bool plain = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
			*s == '-' || *s == '_';
		n += (size_t)snprintf(folder + n, PATH_BYTES - n, plain ? "%c" : "%%%02X", (unsigned char)*s);
	}
}

static void pin_path(const char *folder, uint64_t cookie, uint32_t ifindex, char path[PATH_BYTES + 40])
{
	snprintf(path, PATH_BYTES + 40, "%s/xdp-%llx-%u", folder, (unsigned long long)cookie, ifindex);
}

static bool has_bpffs(void)
{
	struct statfs fs;
	return !statfs(BPFFS, &fs) && (unsigned long)fs.f_type == BPF_FS_MAGIC;
}

int mr_leave_check(const char *device, struct mr_error *e)
{
	if (has_bpffs())
		return 0;
	return mr_error_set(e, -ENOENT,
		"%s: on_exit: drop (the default behind a filter or a NAT) keeps its program in a BPF file system, and "
		"there is "
		"none at " BPFFS ": `mount -t bpf bpf " BPFFS
		"` (under `ip netns exec`, which hides it, use `nsenter --net=/run/netns/NAME` "
		"instead), or set on_exit: pass",
		device);
}

/* ---- the folder -------------------------------------------------------------------------------------------------- */

/* Others must not be able to put something there for us to take over. */
static int folder_is_ours(const char *path, struct mr_error *e)
{
	struct stat st;
	if (lstat(path, &st))
		return mr_error_set(e, -errno, "%s: %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & (S_IWGRP | S_IWOTH)))
		return 0;
	return mr_error_set(e, -EPERM,
		"%s is not a folder that only this user can write, so what is in it is not trusted: remove it", path);
}

static int folder_lock(struct mr_leave *l, struct mr_error *e)
{
	int err = folder_is_ours(ROOT, e);
	if (!err)
		err = folder_is_ours(l->folder, e);
	if (err)
		return err;
	int fd = open(l->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return mr_error_set(e, -errno, "%s: %s", l->folder, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		close(fd);
		return mr_error_set(e, -EBUSY,
			"instance '%s' is running: it holds %s; stop it, or give this one a name of its own with "
			"--name",
			l->instance, l->folder);
	}
	l->lock_fd = fd;
	return 0;
}

static int folder_make(struct mr_leave *l, const char *device, struct mr_error *e)
{
	if (l->lock_fd >= 0)
		return 0;
	int err = mr_leave_check(device, e);
	if (err)
		return err;
	if ((mkdir(ROOT, 0700) && errno != EEXIST) || (mkdir(l->folder, 0700) && errno != EEXIST))
		return mr_error_set(e, -errno, "%s: the folder %s for what on_exit: drop keeps cannot be made: %s",
			device, l->folder, strerror(errno));
	return folder_lock(l, e);
}

int mr_leave_open(const char *instance, struct mr_leave **out, struct mr_error *e)
{
	struct mr_leave *l = calloc(1, sizeof(*l));
	if (!l)
		return mr_error_set(e, -ENOMEM, "out of memory");
	snprintf(l->instance, sizeof(l->instance), "%s", instance);
	folder_of(l->instance, l->folder);
	l->cookie = mr_device_space();
	l->lock_fd = -1;
	/* who may not look has left nothing: only root pins */
	if (has_bpffs() && !access(l->folder, F_OK)) {
		int err = folder_lock(l, e);
		if (err) {
			free(l);
			return err;
		}
	}
	*out = l;
	return 0;
}

void mr_leave_close(struct mr_leave *l)
{
	if (!l)
		return;
	if (l->lock_fd >= 0) {
		(void)rmdir(l->folder); /* not while something is in it */
		close(l->lock_fd);
	}
	free(l);
}

static void use(struct mr_leave *l, uint32_t ifindex, bool on)
{
	uint32_t from = on ? 0 : ifindex, to = on ? ifindex : 0;
	for (unsigned i = 0; i < DEVICES; i++)
		if (l->used[i] == ifindex && on)
			return;
	for (unsigned i = 0; i < DEVICES; i++)
		if (l->used[i] == from) {
			l->used[i] = to;
			return;
		}
}

static bool in_use(const struct mr_leave *l, uint32_t ifindex)
{
	for (unsigned i = 0; i < DEVICES; i++)
		if (l->used[i] == ifindex)
			return true;
	return false;
}

/* ---- one pin ----------------------------------------------------------------------------------------------------- */

/* What a BPF descriptor is: "link", "map", "prog", or "file". */
static const char *kind_of(int fd)
{
	char self[40], text[80] = "";
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (readlink(self, text, sizeof(text) - 1) < 0)
		return "file";
	return strstr(text, "bpf-link") || strstr(text, "bpf_link") ? "link"
		: strstr(text, "bpf-map")                           ? "map"
		: strstr(text, "bpf-prog")                          ? "prog"
								    : "file";
}

enum pin_state { PIN_NONE, PIN_OURS, PIN_GONE, PIN_FOREIGN };

struct pin {
	int fd;
	const char *kind;
	uint32_t ifindex; /* where it is attached now; 0 = the device is gone */
	uint32_t prog_id;
	struct mr_steer_owner owner;
};

/* Looks at a pin; the descriptor is the caller's unless there is none. */
static enum pin_state pin_look(const struct mr_leave *l, const char *path, struct pin *p)
{
	struct bpf_link_info info = { 0 };
	uint32_t len = sizeof(info);

	*p = (struct pin){ .kind = "file" };
	p->fd = bpf_obj_get(path);
	if (p->fd < 0)
		return p->fd == -ENOENT ? PIN_NONE : PIN_FOREIGN;
	p->kind = kind_of(p->fd);
	if (strcmp(p->kind, "link") || bpf_obj_get_info_by_fd(p->fd, &info, &len) || info.type != BPF_LINK_TYPE_XDP)
		return PIN_FOREIGN;
	p->prog_id = info.prog_id;
	p->ifindex = info.xdp.ifindex;
	if (!mr_dispatch_owner(info.prog_id, &p->owner) ||
		strncmp(p->owner.instance, l->instance, sizeof(p->owner.instance) - 1))
		return PIN_FOREIGN;
	return p->ifindex ? PIN_OURS : PIN_GONE;
}

static void close_pin(struct pin *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

static uint64_t dropped_by(uint32_t prog_id)
{
	uint64_t packets[MR_STEER_CNT_CNT];
	return mr_dispatch_counters(prog_id, packets) ? 0 : packets[MR_STEER_CNT_UNSERVED];
}

static int foreign(const char *path, const char *kind, struct mr_error *e)
{
	return mr_error_set(e, -EEXIST,
		"%s is a BPF %s that is not ours and lies where ours would: it is left alone; move it away", path,
		kind);
}

static bool is_attached(const struct bpf_xdp_query_opts *q, uint32_t prog_id)
{
	return prog_id == q->prog_id || prog_id == q->drv_prog_id || prog_id == q->skb_prog_id ||
		prog_id == q->hw_prog_id;
}

int mr_leave_find(struct mr_leave *l, const char *device, uint32_t ifindex, struct mr_leave_link *out, char *notice,
	size_t notice_bytes, struct mr_error *e)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, q);
	char path[PATH_BYTES + 40];
	struct pin p;
	int err = 0;

	if (l->lock_fd < 0)
		return 0;
	pin_path(l->folder, l->cookie, ifindex, path);
	switch (pin_look(l, path, &p)) {
	case PIN_NONE:
		return 0;
	case PIN_FOREIGN:
		err = foreign(path, p.kind, e);
		break;
	case PIN_GONE:
	case PIN_OURS:
		/* a device that was moved took its program with it; another may have its number now */
		err = p.ifindex == ifindex ? bpf_xdp_query((int)ifindex, 0, &q) : 0;
		if (err) {
			err = mr_error_set(e, err, "%s: the kernel does not tell how the program at %s is attached: %s",
				device, path, strerror(-err));
			break;
		}
		if (p.ifindex == ifindex && is_attached(&q, p.prog_id)) {
			use(l, ifindex, true);
			*out = (struct mr_leave_link){ .fd = p.fd,
				.generic = q.skb_prog_id == p.prog_id,
				.owner = p.owner,
				.dropped = dropped_by(p.prog_id) };
			return 1;
		}
		(void)unlink(path);
		snprintf(notice, notice_bytes, "removed the pinned program of an earlier %.16s that is gone", device);
		break;
	}
	close_pin(&p);
	return err;
}

int mr_leave_pin(struct mr_leave *l, const char *device, uint32_t ifindex, int link_fd, struct mr_error *e)
{
	char path[PATH_BYTES + 40];
	struct pin p;
	int err = folder_make(l, device, e);

	if (err)
		return err;
	if (!l->cookie)
		return mr_error_set(
			e, -EOPNOTSUPP, "%s: on_exit: drop: the kernel does not number network namespaces", device);
	pin_path(l->folder, l->cookie, ifindex, path);
	switch (pin_look(l, path, &p)) {
	case PIN_NONE:
		break;
	case PIN_FOREIGN:
		err = foreign(path, p.kind, e);
		close_pin(&p);
		return err;
	case PIN_OURS:
		close_pin(&p);
		if (in_use(l, ifindex))
			return 0;
		/* fall through */
	case PIN_GONE:
		close_pin(&p);
		(void)unlink(path);
		break;
	}
	err = bpf_obj_pin(link_fd, path);
	if (err)
		return mr_error_set(e, err, "%s: on_exit: drop: the program cannot be pinned at %s: %s", device, path,
			strerror(-err));
	use(l, ifindex, true);
	return 0;
}

void mr_leave_unpin(struct mr_leave *l, uint32_t ifindex)
{
	char path[PATH_BYTES + 40];

	if (!l || l->lock_fd < 0 || !in_use(l, ifindex))
		return;
	pin_path(l->folder, l->cookie, ifindex, path);
	(void)unlink(path);
	use(l, ifindex, false);
}

/* ---- what earlier runs left -------------------------------------------------------------------------------------- */

struct sweep {
	struct mr_leave *l;
	mr_leave_fn fn;
	void *ctx;
	const char *device;
	bool start; /* of a run: devices of other namespaces are not its own */
	struct mr_error *e;
	int err;
};

static void tell(struct sweep *s, const char *kind, const char *device, uint32_t ifindex, const char *path,
	bool removed, const char *text)
{
	const struct mr_leave_thing thing = { kind, device, ifindex, path, text, removed };
	s->fn(s->ctx, &thing);
}

/* Detached at once and not when the last who holds it goes; then the pin. */
static void remove_pin(struct sweep *s, const char *path, struct pin *p, bool here)
{
	char text[PATH_BYTES + 256], name[IF_NAMESIZE];
	const char *device = here && p->ifindex && if_indextoname(p->ifindex, name) ? name : p->owner.device;
	int err = p->ifindex ? bpf_link_detach(p->fd) : 0;

	if ((err && err != -ENOLINK) || unlink(path)) {
		err = err ? err : -errno;
		if (!s->err)
			s->err = mr_error_set(s->e, err,
				"%s, which an earlier run of instance '%s' left, cannot be removed: %s", path,
				s->l->instance, strerror(-err));
		return;
	}
	snprintf(text, sizeof(text), "removed the XDP program that an earlier run of instance '%s' left on %s%s",
		s->l->instance, device[0] ? device : "a device",
		!p->ifindex    ? " (the device is gone)"
			: here ? ""
			       : " (in another network namespace)");
	tell(s, "xdp-program", device[0] ? device : NULL, p->ifindex, path, true, text);
}

static void sweep_pin(struct sweep *s, const char *name)
{
	char path[PATH_BYTES + 280], text[PATH_BYTES + 400], now[IF_NAMESIZE];
	unsigned long long cookie = 0;
	unsigned ifindex = 0;
	bool named = sscanf(name, "xdp-%llx-%u", &cookie, &ifindex) == 2;
	bool here = named && cookie == s->l->cookie;
	struct pin p;

	if (here && in_use(s->l, ifindex))
		return;
	snprintf(path, sizeof(path), "%s/%s", s->l->folder, name);
	switch (pin_look(s->l, path, &p)) {
	case PIN_NONE:
		return;
	case PIN_FOREIGN:
		if (s->device)
			break;
		snprintf(text, sizeof(text), "left alone: %s, a BPF %s that is not ours", path, p.kind);
		tell(s, "foreign", NULL, 0, path, false, text);
		break;
	case PIN_OURS:
		if (s->start && !here) {
			snprintf(text, sizeof(text),
				"left alone: the program that an earlier run of instance '%s' left on %s in another "
				"network "
				"namespace (`millrace cleanup` removes it)",
				s->l->instance, p.owner.device);
			tell(s, "xdp-program", p.owner.device, p.ifindex, path, false, text);
			break;
		}
		/* fall through */
	case PIN_GONE:
		if (!s->device ||
			!strcmp(s->device, here && p.ifindex && if_indextoname(p.ifindex, now) ? now : p.owner.device))
			remove_pin(s, path, &p, here);
		break;
	}
	close_pin(&p);
}

static void sweep_pins(struct sweep *s)
{
	DIR *dir = s->l->lock_fd >= 0 ? opendir(s->l->folder) : NULL;
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			sweep_pin(s, entry->d_name);
	if (dir)
		closedir(dir);
}

static void sweep_dispatcher(struct sweep *s, const struct if_nameindex *i, const struct mr_steer_owner *self)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, q);
	struct mr_device d = { .ifindex = i->if_index };
	struct mr_error why = { "" };
	char text[256];

	if (bpf_xdp_query((int)i->if_index, 0, &q) || !(q.drv_prog_id || q.skb_prog_id || q.hw_prog_id))
		return;
	snprintf(d.name, sizeof(d.name), "%s", i->if_name);
	int cnt = mr_dispatch_clean(&d, self, &why);
	if (cnt < 0 && cnt != -EBUSY && !s->err)
		s->err = mr_error_set(s->e, cnt, "%s", why.text);
	if (cnt <= 0)
		return;
	snprintf(text, sizeof(text),
		"removed from %s the XDP program that an earlier run of instance '%s' left in its dispatcher", d.name,
		s->l->instance);
	tell(s, "dispatcher-program", d.name, d.ifindex, NULL, true, text);
}

static void tell_restored(void *ctx, const char *device, bool done, const char *sentence)
{
	tell(ctx, "device-settings", device, if_nametoindex(device), NULL, done, sentence);
}

int mr_leave_sweep(
	struct mr_leave *l, uint64_t process, const char *device, mr_leave_fn fn, void *ctx, struct mr_error *e)
{
	struct sweep s = { .l = l, .fn = fn, .ctx = ctx, .device = device, .start = process != 0, .e = e };
	struct mr_steer_owner self = { .process = process };
	struct if_nameindex *all = if_nameindex();

	memcpy(self.instance, l->instance, sizeof(self.instance) - 1);
	sweep_pins(&s);
	for (struct if_nameindex *i = all; i && i->if_index; i++)
		if (!device || !strcmp(device, i->if_name))
			sweep_dispatcher(&s, i, &self);
	if (all)
		if_freenameindex(all);
	unsigned ifindex = device ? if_nametoindex(device) : 0;
	if (!device || ifindex)
		mr_restore_undo(l->instance, process, ifindex, tell_restored, &s);
	return s.err;
}

/* ---- is it alive ------------------------------------------------------------------------------------------------- */

static bool socket_path(const char *instance, struct sockaddr_un *sa)
{
	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	int n = snprintf(sa->sun_path, sizeof(sa->sun_path), "/run/millrace/%s.sock", instance);
	return n > 0 && (size_t)n < sizeof(sa->sun_path);
}

/* 1: somebody listens; 0: nobody does, but the file is there; -1: no file. */
static int socket_state(const char *instance, pid_t *pid)
{
	struct sockaddr_un sa;
	struct stat st;

	if (!socket_path(instance, &sa) || lstat(sa.sun_path, &st) || !S_ISSOCK(st.st_mode))
		return -1;
	return mr_listener_alive(&sa, pid) != 0;
}

bool mr_leave_alive(const char *instance, pid_t *pid)
{
	char folder[PATH_BYTES];
	*pid = 0;
	if (socket_state(instance, pid) == 1)
		return true;
	folder_of(instance, folder);
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool held = flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
	close(fd);
	return held;
}

bool mr_leave_pinned(const char *instance, uint32_t ifindex)
{
	char folder[PATH_BYTES], path[PATH_BYTES + 40];
	folder_of(instance, folder);
	pin_path(folder, mr_device_space(), ifindex, path);
	return !access(path, F_OK);
}

bool mr_leave_socket(const char *instance, mr_leave_fn fn, void *ctx)
{
	struct sockaddr_un sa;
	pid_t pid;
	char text[sizeof(sa.sun_path) + 64];

	if (socket_state(instance, &pid) || !socket_path(instance, &sa) || unlink(sa.sun_path))
		return false;
	snprintf(text, sizeof(text), "removed the control socket %s of an earlier run", sa.sun_path);
	fn(ctx, &(struct mr_leave_thing){ "control-socket", NULL, 0, sa.sun_path, text, true });
	return true;
}
