/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/attach.h"

#include "core/dispatch.h"
#include "core/leave.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void mr_attach_init(struct mr_attach *a)
{
	*a = (struct mr_attach){ .link_fd = -1, .promiscuous_fd = -1 };
}

static void program_name(uint32_t id, char *name, size_t bytes)
{
	struct bpf_prog_info info = { 0 };
	uint32_t len = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(id);

	name[0] = 0;
	if (fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &len)) {
		strncpy(name, info.name, bytes - 1);
		name[bytes - 1] = 0;
	}
	if (fd >= 0)
		close(fd);
}

static uint32_t attached_id(const struct bpf_xdp_query_opts *q)
{
	return q->drv_prog_id    ? q->drv_prog_id
		: q->skb_prog_id ? q->skb_prog_id
		: q->hw_prog_id  ? q->hw_prog_id
				 : q->prog_id;
}

/* Pinned, and no process runs the instance: what one left. */
static bool is_left(const char *instance, uint32_t ifindex)
{
	pid_t pid;
	return mr_leave_pinned(instance, ifindex) && !mr_leave_alive(instance, &pid);
}

bool mr_attach_holder(const struct mr_device *d, char *instance, size_t bytes, bool *left)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, q);
	struct mr_steer_owner owner;
	if (bpf_xdp_query((int)d->ifindex, 0, &q) || !attached_id(&q) || !mr_dispatch_owner(attached_id(&q), &owner))
		return false;
	snprintf(instance, bytes, "%s", owner.instance);
	*left = is_left(owner.instance, d->ifindex);
	return true;
}

int mr_attach_check_free(const struct mr_device *d, struct mr_error *e)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, q);
	struct mr_steer_owner owner;
	char name[32];
	uint32_t id;
	int err = bpf_xdp_query((int)d->ifindex, 0, &q);

	if (err)
		return mr_error_set(e, err, "%s: the kernel does not tell which XDP program is attached: %s", d->name,
			strerror(-err));
	id = attached_id(&q);
	if (!id)
		return 0;
	bool known = mr_dispatch_owner(id, &owner);
	if (known && is_left(owner.instance, d->ifindex))
		return mr_error_set(e, -EBUSY,
			"%s still has the XDP program (id %u) that instance '%s' left when it ended, because of "
			"on_exit: drop: "
			"start that "
			"instance again, or remove it with `millrace cleanup --name %s`",
			d->name, id, owner.instance, owner.instance);
	if (known)
		return mr_error_set(e, -EBUSY,
			"%s is in use by the running instance '%s' (its XDP program has id %u): end that one first; "
			"what "
			"a reload of it would change says `millrace --name %s check FILE --diff`",
			d->name, owner.instance, id, owner.instance);
	program_name(id, name, sizeof(name));
	if (!strcmp(name, "xdp_dispatcher"))
		return mr_error_set(e, -EBUSY,
			"%s has XDP programs behind the dispatcher of libxdp (xdp_dispatcher, id %u): set attach: "
			"shared to run beside them",
			d->name, id);
	return mr_error_set(e, -EBUSY,
		"%s already has an XDP program, %s (id %u), which is not ours: end its owner, or remove it with `ip "
		"link set dev %s %s off`",
		d->name, name[0] ? name : "without a name", id, d->name, q.skb_prog_id == id ? "xdpgeneric" : "xdp");
}

int mr_attach_promiscuous(struct mr_attach *a, bool on, struct mr_error *e)
{
	struct packet_mreq mreq = { .mr_ifindex = (int)a->ifindex, .mr_type = PACKET_MR_PROMISC };
	int err;

	if (on == (a->promiscuous_fd >= 0))
		return 0;
	if (!on) {
		close(a->promiscuous_fd);
		a->promiscuous_fd = -1;
		return 0;
	}
	/* protocol 0: the socket receives nothing */
	a->promiscuous_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (a->promiscuous_fd >= 0 &&
		!setsockopt(a->promiscuous_fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mreq, sizeof(mreq)))
		return 0;
	err = -errno;
	if (a->promiscuous_fd >= 0)
		close(a->promiscuous_fd);
	a->promiscuous_fd = -1;
	return mr_error_set(e, err, "%s cannot be made promiscuous: %s", a->device, strerror(-err));
}

void mr_attach_remember(struct mr_attach *a, const char *instance, uint64_t run)
{
	snprintf(a->instance, sizeof(a->instance), "%s", instance);
	a->run = run;
}

/* Before anything is changed, so that no kill comes in between.  What cannot be written down is put back by a clean end at least. */
static void write_down(struct mr_attach *a)
{
	struct mr_restore r = {
		.ifindex = a->ifindex, .offloads = a->restore, .before = a->channels_before, .set = a->channels_set
	};

	if (!a->instance[0])
		return;
	(void)mr_restore_remember(a->instance, a->run, &r, NULL);
	a->restore = r.offloads;
	a->channels_before = r.before;
	a->channels_set = r.set;
}

static void of_device(struct mr_attach *a, const struct mr_device *d)
{
	memcpy(a->device, d->name, sizeof(a->device));
	a->ifindex = d->ifindex;
}

int mr_attach_channels(struct mr_attach *a, const struct mr_device *d, unsigned cnt, struct mr_error *e)
{
	struct mr_device_channels want;
	int err = mr_device_channels_for(d, cnt, &want, e);

	of_device(a, d);
	if (err || mr_device_channels_same(&want, &d->channels))
		return err;
	a->channels_before = d->channels;
	a->channels_set = want;
	write_down(a);
	return mr_device_channels_set(d->name, &want, e);
}

int mr_attach_prepare(struct mr_attach *a, const struct mr_device *d, bool promiscuous, struct mr_error *e)
{
	int err;

	of_device(a, d);
	if (d->offloads) {
		a->restore |= d->offloads;
		write_down(a);
		err = mr_device_offload(d->name, d->offloads, false, e);
		if (err)
			return err;
	} else {
		write_down(a); /* an earlier run may have left something changed */
	}
	return promiscuous ? mr_attach_promiscuous(a, true, e) : 0;
}

/* What fails stays written down, for the next start or `cleanup`. */
static void put_back(struct mr_attach *a)
{
	const struct mr_restore r = {
		.ifindex = a->ifindex, .offloads = a->restore, .before = a->channels_before, .set = a->channels_set
	};

	if (a->ifindex && !mr_restore_apply(&r, NULL) && a->instance[0])
		mr_restore_forget(a->instance, a->ifindex);
}

int mr_attach_program(struct mr_attach *a, int prog_fd, bool generic, struct mr_error *e)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE);
	int fd = bpf_link_create(prog_fd, (int)a->ifindex, BPF_XDP, &opts);

	if (fd >= 0) {
		a->link_fd = fd;
		return 0;
	}
	if (fd == -EEXIST)
		fd = -EBUSY;
	if (fd == -EPERM)
		return mr_error_set(e, fd, "attaching to %s needs root or CAP_NET_ADMIN and CAP_BPF", a->device);
	return mr_error_set(
		e, fd, "%s takes no %s XDP program: %s", a->device, generic ? "generic" : "native", strerror(-fd));
}

int mr_attach_shared(struct mr_attach *a, struct bpf_object *object, bool generic, struct mr_error *e)
{
	return mr_dispatch_attach(a->device, a->ifindex, object, generic, &a->shared, e);
}

int mr_attach_find_left(struct mr_attach *a, struct mr_leave *leave, const struct mr_device *d, char *notice,
	size_t notice_bytes, struct mr_error *e)
{
	struct mr_leave_link found;
	int err;

	a->leave = leave;
	err = leave ? mr_leave_find(leave, d->name, d->ifindex, &found, notice, notice_bytes, e) : 0;
	if (err <= 0)
		return err;
	a->link_fd = found.fd;
	a->left = a->inherited = a->pinned = true;
	a->left_generic = found.generic;
	snprintf(notice, notice_bytes,
		"takes over the program that an earlier run of this instance left on %s (it dropped %llu packets "
		"without "
		"one)",
		d->name, (unsigned long long)found.dropped);
	return 0;
}

int mr_attach_replace(struct mr_attach *a, int prog_fd, struct mr_error *e)
{
	int err = a->left ? bpf_link_update(a->link_fd, prog_fd, NULL) : 0;

	if (!err) {
		a->left = false;
		return 0;
	}
	return mr_error_set(e, err,
		"%s: the program that an earlier run left cannot be replaced: %s; it stays in force, `millrace "
		"cleanup` "
		"removes it",
		a->device, strerror(-err));
}

int mr_attach_keep(struct mr_attach *a, bool keep, struct mr_error *e)
{
	int err = 0;

	if (keep && a->link_fd < 0)
		return mr_error_set(
			e, -EOPNOTSUPP, "%s: on_exit: drop needs a link of its own, attach: link", a->device);
	if (keep && !a->leave)
		return mr_error_set(
			e, -EOPNOTSUPP, "%s: there is nowhere to keep a program for on_exit: drop", a->device);
	if (keep && !a->pinned)
		err = mr_leave_pin(a->leave, a->device, a->ifindex, a->link_fd, e);
	else if (!keep && a->pinned)
		mr_leave_unpin(a->leave, a->ifindex);
	if (!err)
		a->pinned = keep;
	return err;
}

void mr_attach_detach(struct mr_attach *a)
{
	mr_dispatch_detach(a->shared, a->ifindex);
	a->shared = NULL;
	if (a->left || a->pinned)
		return;
	if (a->link_fd >= 0)
		close(a->link_fd);
	a->link_fd = -1;
}

void mr_attach_release(struct mr_attach *a)
{
	const bool stays = a->left || a->pinned;

	mr_attach_detach(a);
	if (stays && a->link_fd >= 0)
		close(a->link_fd);
	if (a->promiscuous_fd >= 0)
		close(a->promiscuous_fd);
	if (!stays)
		put_back(a); /* else it stays written down */
	mr_attach_init(a);
}
