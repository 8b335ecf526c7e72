/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * steer.h - the compiled match and except entries of one interface, as they lie in memory, and how they are evaluated.
 *
 * Every field a packet may have (protocol, ports, ...) looks up the set of entries that field satisfies, 256 bits; the sets are
 * and-ed.  Fields of 16 bits go through a class: value -> class -> set, because a table of sets for each port would be 2 MB and
 * the entries tell apart only a few ranges.  Prefixes are looked up outside: an LPM trie in the kernel, a search in user space;
 * either yields the set of all entries with a covering prefix, entries without a condition on that end included.
 *
 *     value ─► class[65536] ─► bits[class]  ┐
 *     proto ─► bits[256]                    ├─ and ─► lowest entry ─► match: its pipeline
 *     address ─► (caller's lookup) ─► bits  ┘                     └─► except: strike its pipeline out, look again
 *
 * core/steer_compile.c writes an image; nobody changes it after.
 */
#ifndef MR_KERN_STEER_H
#define MR_KERN_STEER_H

#include "abi.h"
#include "parse.h"

#define MR_STEER_CLASSES  1024  /* different sets that the values of one field can have */
#define MR_STEER_PREFIXES 65536 /* different prefixes of one family at one end */
#define MR_STEER_EXCEPT   0x80  /* in mr_steer_head.entry */

enum mr_steer_field {
	MR_STEER_ETHERTYPE,
	MR_STEER_VLAN,
	MR_STEER_ICMP, /* type << 8 | code */
	MR_STEER_SPORT,
	MR_STEER_DPORT,
	MR_STEER_CLASS_CNT, /* the fields above go through classes */
	MR_STEER_PROTO = MR_STEER_CLASS_CNT,
	MR_STEER_SRC,
	MR_STEER_DST,
	MR_STEER_FIELD_CNT
};

struct mr_steer_head {
	__u32 entry_cnt;
	__u32 fields; /* bit enum mr_steer_field: some entry has a condition on it; the others are not looked at */
	__u32 generation; /* of the plan whose pipelines it numbers: the kernel tier compares them with those of a record only then */
	__u32 reserved;
	struct mr_steer_bits all;                        /* entries there are */
	struct mr_steer_bits absent[MR_STEER_FIELD_CNT]; /* entries a packet without that field may satisfy */
	struct mr_steer_bits
		open_transport; /* entries some packet of unknown ports and ICMP type may satisfy: not a condition of `except` */
	struct mr_steer_bits open_proto;              /* ... and of unknown protocol */
	struct mr_steer_bits after[MR_MAX_PIPELINES]; /* entries of later pipelines */
	__u8 entry[MR_STEER_ENTRIES];                 /* pipeline | MR_STEER_EXCEPT */
};

struct mr_steer_image {
	struct mr_steer_head head;
	struct mr_steer_bits proto[256];
	struct mr_steer_bits bits[MR_STEER_CLASS_CNT][MR_STEER_CLASSES];
	__u16 class_of[MR_STEER_CLASS_CNT][65536];
};

_Static_assert(MR_STEER_WORDS == 4, "unrolled below");
_Static_assert(MR_MAX_PIPELINES <= MR_STEER_EXCEPT, "pipeline and flag share a byte");

/*
 * Whose a loaded program is, for whoever finds it on a device after its process is gone: map .rodata.owner, key 0.  Only ever made
 * longer.  A start replaces a program it finds together with all its maps, so nothing else of it need be understood later.
 */
struct mr_steer_owner {
	char instance[64]; /* ends with 0 */
	__u64 process;     /* random, one for each run */
	char device[16];   /* its name then; ends with 0 */
};

/* Key of the kernel's prefix trie: one trie holds both ends of both families, told apart by the first word. */
struct mr_steer_key {
	__u32 prefix_bits; /* MR_STEER_KEY_BITS and the prefix's own length */
	__u32 end;         /* MR_STEER_END() */
	__be32 addr_be[4]; /* IPv4 uses [0] */
};

#define MR_STEER_KEY_BITS       32
#define MR_STEER_END(v6, field) (((v6) ? 2u : 0u) | ((field) == MR_STEER_DST))

/* Slots of the map of tries: table 0, table 1, and one that exists to be waited on. */
#define MR_STEER_TRIE_SPARE 2
#define MR_STEER_TRIE_CNT   3

/* Packets, by CPU. */
enum mr_steer_count {
	MR_STEER_CNT_STEERED,
	MR_STEER_CNT_NO_SOCKET, /* matched, the queue has no socket: passed */
	MR_STEER_CNT_PASSED,
	MR_STEER_CNT_UNPARSED,
	MR_STEER_CNT_HANDED_BACK,
	MR_STEER_CNT_UNSERVED,  /* matched, the queue has no socket: dropped */
	MR_STEER_CNT_OFFLOADED, /* carried out by the kernel tier (tier.h) */
	MR_STEER_CNT_CNT
};

struct mr_steer_cpu_counters {
	__u64 packets[MR_STEER_CNT_CNT];
};

static __always_inline void mr_steer_and(struct mr_steer_bits *b, const struct mr_steer_bits *with)
{
	b->word[0] &= with->word[0];
	b->word[1] &= with->word[1];
	b->word[2] &= with->word[2];
	b->word[3] &= with->word[3];
}

static __always_inline int mr_steer_any(const struct mr_steer_bits *b)
{
	return (b->word[0] | b->word[1] | b->word[2] | b->word[3]) != 0;
}

/* One field that goes through classes: `known` says the packet has it, `value` is it. */
static __always_inline void mr_steer_class(
	const struct mr_steer_image *m, struct mr_steer_bits *b, enum mr_steer_field f, int known, __u16 value)
{
	if (!(m->head.fields & 1u << f))
		return;
	if (known) {
		__u32 idx = value;
		MR_OPAQUE(
			idx); /* the verifier of Linux 6.1 forgets, after turning bytes around, that there are only 16 bits */
		idx &= 0xffff;
		mr_steer_and(b, &m->bits[f][m->class_of[f][idx] & (MR_STEER_CLASSES - 1)]);
	} else {
		mr_steer_and(b, &m->head.absent[f]);
	}
}

/*
 * Fragments whose transport is not known satisfy every condition on it, so that those of an address pair stay together: in the kernel
 * all fragments, the first too, for if it stayed there while the others come up, the datagram would never be whole again; in user space
 * those whose first one was not seen.  What the true ports want is then found there.  An `except` is no reason to stay.
 */
#define MR_STEER_UNKNOWN (MR_BPF ? MR_PKT_FRAG : MR_PKT_FRAG_LATER)

static __always_inline int mr_steer_unknown(const struct mr_parsed *p)
{
	return p->flags & MR_STEER_UNKNOWN && !(p->flags & MR_PKT_FRAG_KNOWN);
}

/*
 * RFC 8200 section 4.5: what a later fragment's header calls the next one may be an extension header of the first.  Then the first one,
 * which has the protocol, is steered like it; whether its options lie behind the fragment header or before it is not asked.
 */
static __always_inline int mr_steer_unknown_proto(const struct mr_parsed *p)
{
	if (!(p->flags & MR_PKT_IP6))
		return 0;
	if (!(p->flags & MR_PKT_FRAG_LATER))
		return p->flags & MR_PKT_OPTIONS;
	return p->proto == MR_IP_DSTOPTS || p->proto == MR_IP_HOPOPTS || p->proto == MR_IP_ROUTING;
}

static __always_inline void mr_steer_fragment(
	const struct mr_steer_image *m, const struct mr_parsed *p, struct mr_steer_bits *b)
{
	if (mr_steer_unknown_proto(p)) {
		mr_steer_and(b, &m->head.open_proto);
		return;
	}
	if (m->head.fields & 1u << MR_STEER_PROTO)
		mr_steer_and(b, p->flags & MR_PKT_PROTO ? &m->proto[p->proto] : &m->head.absent[MR_STEER_PROTO]);
	if (p->proto == MR_IP_TCP || p->proto == MR_IP_UDP || p->proto == MR_IP_SCTP) {
		mr_steer_and(b, &m->head.absent[MR_STEER_ICMP]);
	} else {
		mr_steer_and(b, &m->head.absent[MR_STEER_SPORT]);
		mr_steer_and(b, &m->head.absent[MR_STEER_DPORT]);
		if (p->proto != (p->flags & MR_PKT_IP4 ? MR_IP_ICMP : MR_IP_ICMP6))
			mr_steer_and(b, &m->head.absent[MR_STEER_ICMP]);
	}
	mr_steer_and(b, &m->head.open_transport);
}

/* The entries that every field but the addresses satisfies.  What a malformed frame did not let us read satisfies no condition. */
static __always_inline void mr_steer_fields(
	const struct mr_steer_image *m, const struct mr_parsed *p, struct mr_steer_bits *b)
{
	*b = m->head.all;
	mr_steer_class(m, b, MR_STEER_ETHERTYPE, p->error != MR_PARSE_SHORT_ETH, p->ethertype);
	mr_steer_class(m, b, MR_STEER_VLAN, p->vlan_cnt, p->vlan_tci[0] & 0xfff);
	if (mr_steer_unknown(p)) {
		mr_steer_fragment(m, p, b);
		return;
	}
	if (m->head.fields & 1u << MR_STEER_PROTO)
		mr_steer_and(b, p->flags & MR_PKT_PROTO ? &m->proto[p->proto] : &m->head.absent[MR_STEER_PROTO]);
	int ports = p->flags & MR_PKT_PORTS;
	mr_steer_class(m, b, MR_STEER_DPORT, ports, mr_be16(p->dport_be));
	mr_steer_class(m, b, MR_STEER_SPORT, ports, mr_be16(p->sport_be));
	mr_steer_class(m, b, MR_STEER_ICMP, p->flags & MR_PKT_ICMP, p->icmp_type << 8 | p->icmp_code);
}

/* The number of zero bits below the lowest one set.  clang 14 cannot translate the builtin for BPF: population count instead. */
static __always_inline int mr_steer_ctz(__u64 x)
{
#if MR_BPF
	x = (x & -x) - 1;
	x -= x >> 1 & 0x5555555555555555ULL;
	x = (x & 0x3333333333333333ULL) + (x >> 2 & 0x3333333333333333ULL);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return (int)(x * 0x0101010101010101ULL >> 56);
#else
	return __builtin_ctzll(x);
#endif
}

static __always_inline int mr_steer_lowest(const struct mr_steer_bits *b)
{
	__u64 word = b->word[0];
	int base = 0;
	if (!word) {
		word = b->word[1];
		base = 64;
	}
	if (!word) {
		word = b->word[2];
		base = 128;
	}
	if (!word) {
		word = b->word[3];
		base = 192;
	}
	return word ? base + mr_steer_ctz(word) : -1;
}

/* The pipeline whose entry wins among *b (which is used up), or -1. */
static __always_inline int mr_steer_resolve(const struct mr_steer_image *m, struct mr_steer_bits *b)
{
	for (int i = 0; i < MR_MAX_PIPELINES; i++) {
		int idx = mr_steer_lowest(b);
		if (idx < 0)
			return -1;
		__u32 entry = m->head.entry[idx & (MR_STEER_ENTRIES - 1)];
		if (!(entry & MR_STEER_EXCEPT))
			return (int)entry;
		mr_steer_and(b, &m->head.after[entry & (MR_MAX_PIPELINES - 1)]);
	}
	return -1;
}

#endif
