/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * xmit.bpf.c - counts what an egress did not take of the frames the kernel tier gave it.
 *
 * XDP_TX and XDP_REDIRECT promise nothing: frames are handed over in bulks after the program has ended, and those that do not fit are
 * freed.  The kernel tells so by tracepoints and in no counter every driver has:
 *
 *     redirect ─► xdp_redirect_err (refused at once: link down, larger than the MTU)
 *              └► bulk of up to 16 ─► ndo_xdp_xmit ─► xdp_devmap_xmit (sent, drops, error)
 *     XDP_TX ─► veth: bulk ─► xdp_bulk_tx (sent, drops, error)
 *            └► other drivers: xdp_exception
 *
 * The arguments are the same from Linux 6.1 to 7.3 (their types: btf_trace_xdp_* in the kernel's BTF).  Devices are ours by number and
 * namespace, a map by its number, so that what others redirect is not counted.  A lost frame is put down to the ingress pair that
 * last sent to that egress on this CPU: exactly right for one, and in a bulk of several pairs as a sum.
 */
#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "tier.h"

#define ENXIO      6
#define ENODEV     19
#define EOPNOTSUPP 95
#define ENETDOWN   100

/* Of the kernel's own types, what is read; where the fields lie is found when the program is loaded. */
struct net {
	__u64 net_cookie;
} __attribute__((preserve_access_index));

typedef struct {
	struct net *net;
} __attribute__((preserve_access_index)) possible_net_t;

struct bpf_prog;

struct net_device {
	int ifindex;
	possible_net_t nd_net;
} __attribute__((preserve_access_index));

const volatile __u64 xmit_space = 0;  /* cookie of our namespace */
const volatile __u32 xmit_devmap = 0; /* id of the kernel tier's devmap */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4 * MR_TIER_EGRESS);
	__type(key, __u32);   /* ifindex */
	__type(value, __u32); /* id of the interface */
} xmit_devices SEC(".maps");

/* The kernel tier's (kern/tier.bpf.h), put in place before loading. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mr_tier_pair);
} tier_pairs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mr_tier_egress);
} tier_egress SEC(".maps");

/* The interface a device is, 0 = none of ours. */
static __always_inline __u32 ours(const struct net_device *dev)
{
	__u32 ifindex = dev->ifindex;
	__u32 *id = bpf_map_lookup_elem(&xmit_devices, &ifindex);

	return id && dev->nd_net.net->net_cookie == xmit_space ? *id : 0;
}

static __always_inline void lost(__u32 id, int drops, int refused_errno)
{
	struct mr_tier_egress *e = bpf_map_lookup_elem(&tier_egress, &id);

	if (!e)
		return;
	e->lost_packets += drops;
	if (refused_errno) {
		e->refused++;
		e->refused_errno = refused_errno;
		e->refused_ns = bpf_ktime_get_ns();
	}
	__u32 ingress = e->last_ingress;
	struct mr_tier_pair *p = bpf_map_lookup_elem(&tier_pairs, &ingress);
	if (p)
		p->lost_packets += drops;
}

SEC("tp_btf/xdp_devmap_xmit")
int BPF_PROG(xmit_devmap_xmit, const struct net_device *from_dev, const struct net_device *to_dev, int sent, int drops,
	int err)
{
	if (drops <= 0 || !ours(from_dev))
		return 0;
	__u32 id = ours(to_dev);
	if (id)
		lost(id, drops, sent <= 0 && err < 0 ? -err : 0);
	return 0;
}

SEC("tp_btf/xdp_bulk_tx")
int BPF_PROG(xmit_bulk_tx, const struct net_device *dev, int sent, int drops, int err)
{
	__u32 id = drops > 0 ? ours(dev) : 0;

	if (id)
		lost(id, drops, sent <= 0 && err < 0 ? -err : 0);
	return 0;
}

/* A driver without bulks could not send what XDP_TX asked for.  (Redirects end here too, and in xdp_redirect_err: counted there.) */
SEC("tp_btf/xdp_exception")
int BPF_PROG(xmit_exception, const struct net_device *dev, const struct bpf_prog *xdp, __u32 act)
{
	__u32 id = act == XDP_TX ? ours(dev) : 0;

	if (id)
		lost(id, 1, 0);
	return 0;
}

/* `index` is the key in the devmap: the interface.  Redirects by other maps (the sockets' among them) are not the tier's. */
SEC("tp_btf/xdp_redirect_err")
int BPF_PROG(xmit_redirect_err, const struct net_device *dev, const struct bpf_prog *xdp, const void *tgt, int err,
	__u32 map_type, __u32 map_id, __u32 index)
{
	if (map_id != xmit_devmap || !ours(dev))
		return 0;
	int refused = err == -ENXIO || err == -ENODEV || err == -EOPNOTSUPP || err == -ENETDOWN;
	lost(index, 1, refused ? -err : 0);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
