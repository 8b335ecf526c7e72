/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * handback.bpf.c - on the clsact ingress of a TAP: what the worker wrote into it arrives as received on the real device.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

const volatile __u32 handback_ifindex = 0; /* of the real device */

SEC("tc")
int handback(struct __sk_buff *skb)
{
	return bpf_redirect(handback_ifindex, BPF_F_INGRESS);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
