/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rtnl.h - what the kernel says about routes, next hops, neighbours, addresses, links and rules, read out of its messages.
 *
 *     bytes of a netlink datagram ─mr_rtnl_read()─► one struct mr_rtnl a message ─► core/route.c, core/neighbour.c
 *
 * Reading is pure: no socket, no state, any bytes are allowed (tests/fuzz/fuzz_rtnl.c).  What a message holds that we do not model is
 * flagged (`unknown`), so that whoever decides can leave such traffic to the kernel instead of sending it a wrong way.
 */
#ifndef MR_CORE_RTNL_H
#define MR_CORE_RTNL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MR_RTNL_HOPS 64 /* members of one multipath route or next-hop group that are kept */

enum mr_rtnl_kind {
	MR_RTNL_OTHER, /* well-formed, none of ours */
	MR_RTNL_ROUTE,
	MR_RTNL_NEXTHOP,
	MR_RTNL_NEIGH,
	MR_RTNL_ADDR,
	MR_RTNL_LINK,
	MR_RTNL_RULE,
	MR_RTNL_DONE,   /* end of a dump */
	MR_RTNL_ERROR,  /* error_code, 0 = acknowledged */
	MR_RTNL_BROKEN, /* not well-formed: the rest of the datagram is not looked at */
};

struct mr_rtnl_hop {
	uint32_t ifindex;
	uint8_t family; /* of the gateway: 4, 6; 0 = none, the destination itself is the neighbour */
	uint8_t gateway[16];
	uint32_t weight; /* 1..65536; kernel's rtnh_hops + 1 */
	uint8_t flags;   /* RTNH_F_* : DEAD, LINKDOWN, ONLINK */
	bool unknown;    /* encapsulation (RTA_ENCAP ...) or something else we do not do */
};

struct mr_rtnl_route {
	uint8_t family; /* 4, 6 */
	uint8_t dst[16];
	uint8_t bits;
	uint8_t tos;
	uint8_t type; /* RTN_* */
	uint8_t protocol;
	uint32_t table;
	uint32_t metric;     /* RTA_PRIORITY */
	uint32_t mtu;        /* RTAX_MTU, 0 = none */
	uint32_t nexthop_id; /* RTA_NH_ID, 0 = none: then the hops are here */
	uint16_t hop_cnt;
	struct mr_rtnl_hop hop[MR_RTNL_HOPS];
	bool cloned;     /* RTM_F_CLONED: a cache entry, to be ignored */
	uint32_t source; /* a source prefix (RTA_SRC), not modelled: a number that tells it from others; 0 = none */
	bool unknown;
};

struct mr_rtnl_nexthop {
	uint32_t id;
	bool group; /* then member[], else hop */
	bool blackhole;
	bool unknown; /* fdb, resilient with ..., encapsulation */
	struct mr_rtnl_hop hop;
	uint16_t member_cnt;
	struct {
		uint32_t id;
		uint32_t weight; /* 1..65536 */
	} member[MR_RTNL_HOPS];
};

struct mr_rtnl_neigh {
	uint32_t ifindex;
	uint8_t family; /* 4, 6 */
	uint8_t addr[16];
	uint16_t state; /* NUD_* */
	uint8_t flags;  /* NTF_* */
	bool managed;   /* NTF_EXT_MANAGED: the kernel keeps it resolved */
	bool has_mac;
	uint8_t mac[6];
};

struct mr_rtnl_addr {
	uint32_t ifindex;
	uint8_t family;
	uint8_t bits;
	uint8_t scope;     /* RT_SCOPE_* */
	uint32_t flags;    /* IFA_F_* */
	uint8_t local[16]; /* the address of the device (IFA_LOCAL before IFA_ADDRESS) */
};

enum mr_rtnl_device {
	MR_RTNL_DEVICE_PLAIN,  /* nothing special: veth, a NIC */
	MR_RTNL_DEVICE_VLAN,   /* lower, vlan */
	MR_RTNL_DEVICE_VRF,    /* table */
	MR_RTNL_DEVICE_BRIDGE, /* or bond, team, macvlan ...: a master or upper device we do not look into */
	MR_RTNL_DEVICE_TUNNEL, /* ipip, gre, sit, wireguard, vxlan, tun ... */
	MR_RTNL_DEVICE_LOOPBACK,
};

struct mr_rtnl_link {
	uint32_t ifindex;
	char name[16];
	char kind[16];  /* IFLA_INFO_KIND, "" = none */
	uint8_t device; /* enum mr_rtnl_device */
	uint32_t mtu;
	uint32_t lower;  /* IFLA_LINK, 0 = none */
	uint32_t master; /* bridge, bond or VRF it belongs to, 0 = none */
	uint16_t vlan;   /* of a VLAN device; TPID 0x8100 only (else unknown) */
	uint32_t table;  /* of a VRF */
	bool admin_up;
	bool running;
	bool has_mac;
	uint8_t mac[6];
	bool unknown;
};

struct mr_rtnl_rule {
	uint8_t family;
	uint32_t priority;
	uint32_t table;
	uint8_t action;  /* FR_ACT_* */
	bool plain;      /* nothing but priority and table: selects every packet */
	bool l3mdev;     /* the kernel's own for VRFs: matters only to packets of devices in one */
	char words[128]; /* as `ip rule` would put it: "100: from 10.0.0.0/8 fwmark 0x1 lookup 100" */
};

struct mr_rtnl {
	enum mr_rtnl_kind kind;
	bool deleted;     /* RTM_DEL* */
	bool replace;     /* NLM_F_REPLACE on an event: in the place of the first of its kind */
	bool append;      /* NLM_F_APPEND on an event: behind those of its kind (IPv4; else before them) */
	bool multi;       /* NLM_F_MULTI: part of a dump */
	bool interrupted; /* NLM_F_DUMP_INTR */
	uint32_t seq, portid;
	int error_code; /* of MR_RTNL_ERROR: negative errno or 0 */
	union {
		struct mr_rtnl_route route;
		struct mr_rtnl_nexthop nexthop;
		struct mr_rtnl_neigh neigh;
		struct mr_rtnl_addr addr;
		struct mr_rtnl_link link;
		struct mr_rtnl_rule rule;
	};
};

/* Reads the message at *data (of *bytes left) and moves both past it.  False: nothing is left.  Threads: any. */
bool mr_rtnl_read(const void **data, size_t *bytes, struct mr_rtnl *out);

#endif
