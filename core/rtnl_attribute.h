/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rtnl_attribute.h - walking over the attributes of a message; for rtnl.c and rtnl_device.c only.
 *
 * Everything is copied out with memcpy: the bytes may lie at any address.  A length that is not what the attribute must have makes the
 * walk `broken`: the kernel never sends that, and half a route would send packets a wrong way.
 */
#ifndef MR_CORE_RTNL_ATTRIBUTE_H
#define MR_CORE_RTNL_ATTRIBUTE_H

#include "core/rtnl.h"

#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

struct mr_walk {
	const uint8_t *at;
	size_t left;
	bool broken;
};

struct mr_attribute {
	uint16_t type;
	uint16_t bytes;
	const uint8_t *value;
};

static inline bool mr_attr_next(struct mr_walk *w, struct mr_attribute *a)
{
	struct nlattr head;

	if (!w->left || w->broken)
		return false;
	if (w->left < sizeof(head)) {
		w->broken = true;
		return false;
	}
	memcpy(&head, w->at, sizeof(head));
	if (head.nla_len < sizeof(head) || head.nla_len > w->left) {
		w->broken = true;
		return false;
	}
	a->type = head.nla_type & NLA_TYPE_MASK;
	a->bytes = (uint16_t)(head.nla_len - sizeof(head));
	a->value = w->at + sizeof(head);
	size_t step = NLA_ALIGN((size_t)head.nla_len);
	step = step < w->left ? step : w->left;
	w->at += step;
	w->left -= step;
	return true;
}

static inline struct mr_walk mr_attr_inside(const struct mr_attribute *a)
{
	return (struct mr_walk){ a->value, a->bytes, false };
}

/* Takes a value of exactly this size. */
static inline void mr_attr_take(struct mr_walk *w, const struct mr_attribute *a, void *out, size_t bytes)
{
	if (a->bytes != bytes)
		w->broken = true;
	else
		memcpy(out, a->value, bytes);
}

/* A name that ends within the attribute and fits; unprintable bytes, which no device name of ours has, become '?'. */
static inline void mr_attr_take_name(struct mr_walk *w, const struct mr_attribute *a, char *out, size_t bytes)
{
	size_t n = strnlen((const char *)a->value, a->bytes);

	if (n == a->bytes || n >= bytes) {
		w->broken = true;
		return;
	}
	for (size_t i = 0; i < n; i++)
		out[i] = a->value[i] > 0x20 && a->value[i] < 0x7f ? (char)a->value[i] : '?';
	out[n] = '\0';
}

static inline unsigned mr_attr_family(unsigned af)
{
	return af == AF_INET ? 4 : af == AF_INET6 ? 6 : 0;
}

static inline unsigned mr_attr_address_bytes(unsigned family)
{
	return family == 4 ? 4 : 16;
}

/* The fixed part of a message; false: too short for it. */
static inline bool mr_attr_head(struct mr_walk *w, void *out, size_t bytes)
{
	if (w->left < bytes) {
		w->broken = true;
		return false;
	}
	memcpy(out, w->at, bytes);
	size_t step = NLMSG_ALIGN(bytes);
	step = step < w->left ? step : w->left;
	w->at += step;
	w->left -= step;
	return true;
}

/* rtnl_device.c: MR_RTNL_BROKEN, MR_RTNL_OTHER or their kind. */
enum mr_rtnl_kind mr_rtnl_device_neigh(struct mr_walk *w, struct mr_rtnl_neigh *n);
enum mr_rtnl_kind mr_rtnl_device_addr(struct mr_walk *w, struct mr_rtnl_addr *out);
enum mr_rtnl_kind mr_rtnl_device_link(struct mr_walk *w, struct mr_rtnl_link *l);
enum mr_rtnl_kind mr_rtnl_device_rule(struct mr_walk *w, struct mr_rtnl_rule *r);

#endif
