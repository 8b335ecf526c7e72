/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/attach.h"

#include "core/dispatch.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <net/if.h>
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

bool mr_attach_holder(const struct mr_device *d, char *instance, size_t bytes)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, q);
	struct mr_steer_owner owner;
	if (bpf_xdp_query((int)d->ifindex, 0, &q) || !attached_id(&q) || !mr_dispatch_owner(attached_id(&q), &owner))
		return false;
	snprintf(instance, bytes, "%s", owner.instance);
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
	if (mr_dispatch_owner(id, &owner))
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

static int promiscuous_on(struct mr_attach *a, const struct mr_device *d, struct mr_error *e)
{
	struct packet_mreq mreq = { .mr_ifindex = (int)d->ifindex, .mr_type = PACKET_MR_PROMISC };
	int err;

	/* protocol 0: the socket receives nothing */
	a->promiscuous_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (a->promiscuous_fd >= 0 &&
		!setsockopt(a->promiscuous_fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mreq, sizeof(mreq)))
		return 0;
	err = -errno;
	return mr_error_set(e, err, "%s cannot be made promiscuous: %s", d->name, strerror(-err));
}

int mr_attach_prepare(struct mr_attach *a, const struct mr_device *d, bool promiscuous, struct mr_error *e)
{
	const unsigned on = (d->lro ? MR_DEVICE_LRO : 0) | (d->rx_vlan ? MR_DEVICE_RX_VLAN : 0);
	int err;

	memcpy(a->device, d->name, sizeof(a->device));
	a->ifindex = d->ifindex;
	if (on) {
		err = mr_device_offload(d->name, on, false, e);
		if (err)
			return err;
		a->restore = on;
	}
	return promiscuous ? promiscuous_on(a, d, e) : 0;
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

void mr_attach_detach(struct mr_attach *a)
{
	mr_dispatch_detach(a->shared, a->ifindex);
	a->shared = NULL;
	if (a->link_fd >= 0)
		close(a->link_fd);
	a->link_fd = -1;
}

void mr_attach_release(struct mr_attach *a)
{
	mr_attach_detach(a);
	if (a->promiscuous_fd >= 0)
		close(a->promiscuous_fd);
	/* by its number: it may have another name now, and its name another device; one that is gone is nothing to restore */
	char name[IF_NAMESIZE];
	if (a->restore && if_indextoname(a->ifindex, name))
		(void)mr_device_offload(name, a->restore, true, NULL);
	mr_attach_init(a);
}
