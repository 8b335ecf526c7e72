/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * flow.h - the flow table as it lies in memory, shared by the kernel tier and user space.
 *
 * The table is an array of buckets.  A bucket is one 64-byte head (tags) followed by MR_FLOW_WAYS records.
 * An IPv4 record is one cache line, an IPv6 record two; each family has its own array of buckets.
 *
 *     bucket:  head   { tag[8], seq lock word, spill }          64 bytes
 *              record 0 { key | seq | what to do | counters }   64 (v4) or 128 (v6) bytes
 *              ...
 *              record 7
 *
 * A key hashes to 64 bits: a primary bucket, a secondary bucket and a 16-bit tag that is never 0.  Records
 * live in either bucket; what neither can hold lives in a small overflow that only user space knows.
 *
 * Readers take no lock: read seq (even), copy the record, read seq again; a change in between means retry.
 * Writers hold the bucket's lock word, make seq odd, write, make it even.  A record that is freed keeps its
 * seq (it only ever grows) and is quarantined before its slot is used again, so a reader that holds a copy
 * never applies another flow's rewrite.
 *
 * The memory is either a BPF array map with BPF_F_MMAPABLE (value = one bucket) or plain huge pages.
 */
#ifndef MR_KERN_FLOW_H
#define MR_KERN_FLOW_H

#include "abi.h"

#define MR_FLOW_WAYS 8

/*
 * Keys.  `ingress` is not part of the key: it is not hashed and not compared.  In a record it names the
 * (interface, pipeline) pair the stored decision was made for; a packet that arrives by another pair is
 * decided again.  In a lookup key it is 0.
 *
 * Ports of ICMP queries: a request has sport = identifier, dport = request type; a reply has
 * sport = request type, dport = identifier, so that reversing a key is swapping its ends.
 * Protocols without ports have both 0.
 */
struct mr_key4 {
	__u16 zone;
	__u8 proto;
	__u8 ingress;
	__be32 saddr_be;
	__be32 daddr_be;
	__be16 sport_be;
	__be16 dport_be;
};

struct mr_key6 {
	__u16 zone;
	__u8 proto;
	__u8 ingress;
	__be16 sport_be;
	__be16 dport_be;
	__be32 saddr_be[4];
	__be32 daddr_be[4];
};

_Static_assert(sizeof(struct mr_key4) == 16, "v4 key");
_Static_assert(sizeof(struct mr_key6) == 40, "v6 key");

/* Record flags. */
#define MR_FLOW_DECIDED (1u << 0) /* the decision below may be applied to every packet of this key */
#define MR_FLOW_OFFLOAD (1u << 1) /* the kernel tier may apply it */
#define MR_FLOW_REPLY   (1u << 2) /* this record is the session's reverse direction */
#define MR_FLOW_SNAT    (1u << 3) /* the rewrite changes source address or port */
#define MR_FLOW_DNAT    (1u << 4) /* the rewrite changes destination address or port */
#define MR_FLOW_CLOSING (1u << 5) /* this direction has seen FIN or RST: user space only */
#define MR_FLOW_NO_TTL  (1u << 6) /* TTL / hop limit stays as it is (bump in the wire, back) */
#define MR_FLOW_TRACK   (1u << 7) /* TCP opening or closing: user space only, which tells the session of every packet */
#define MR_FLOW_ROUTED  (1u << 8) /* the next hop came from a route: good as long as the version below is its bucket's */

/*
 * Bits 9..15: the version of the bucket of the (translated) destination when the route was looked up.  A route that changes gives the
 * buckets its prefix touches a new version; a record of another one is looked up again before it is used (core/route.h).
 */
#define MR_FLOW_VERSION_SHIFT 9
#define MR_FLOW_VERSION_MASK  0xfe00u
#define MR_ROUTE_BUCKETS      4096 /* of each family */
#define MR_ROUTE_BUCKET6_BITS 32   /* the bits before it, 12 of them, are the bucket of an IPv6 address */

/* The first 12 bits of an IPv4 address.  Prefixes shorter than that lie in several buckets. */
static __always_inline __u32 mr_route_bucket4(__be32 addr_be)
{
	const __u8 *a = (const __u8 *)&addr_be;

	return (__u32)a[0] << 4 | a[1] >> 4;
}

/* Bits 20..31 of an IPv6 address.  Prefixes shorter than /32 lie in several buckets; those shorter than /20 in all. */
static __always_inline __u32 mr_route_bucket6(const __be32 *addr_be)
{
	const __u8 *a = (const __u8 *)addr_be;

	return (__u32)(a[2] & 0x0f) << 8 | a[3];
}

/*
 * The stored rewrite.  New addresses and ports are complete (unchanged ones are repeated), so that applying
 * is a plain store; the deltas are one's complement differences (RFC 1624) of what changes:
 * l3_delta covers the addresses (IPv4 header checksum), l4_delta addresses and ports (TCP, UDP, ICMPv6).
 */
struct mr_rewrite4 {
	__be32 saddr_be;
	__be32 daddr_be;
	__be16 sport_be;
	__be16 dport_be;
	__u16 l3_delta;
	__u16 l4_delta;
};

struct mr_rewrite6 {
	__be32 saddr_be[4];
	__be32 daddr_be[4];
	__be16 sport_be;
	__be16 dport_be;
	__u16 l4_delta;
	__u16 reserved;
};

_Static_assert(sizeof(struct mr_rewrite4) == 16, "v4 rewrite");
_Static_assert(sizeof(struct mr_rewrite6) == 40, "v6 rewrite");

/* What both families' records share, after key and rewrite. */
struct mr_flow_state {
	__u32 seq;          /* even: stable; odd: being written.  Only ever grows. */
	__u16 flags;        /* MR_FLOW_* */
	__u16 nexthop;      /* slot of struct mr_nexthop */
	__u32 session;      /* index of the session in user space; 0 = none */
	__u32 last_seen_ms; /* low 32 bits of CLOCK_MONOTONIC in ms */
	__u64 bytes;        /* frame bytes, added with atomics: two CPUs may meet on one record */
	__u32 packets;      /* wraps; folded into the session's total by the sweep */
	__u16 generation;   /* configuration generation the decision belongs to */
	__u16 effects;      /* per-packet effects (counters, meters); 0 = none */
};

_Static_assert(sizeof(struct mr_flow_state) == 32, "flow state");

struct mr_flow4 {
	struct mr_key4 key;
	struct mr_rewrite4 rewrite;
	struct mr_flow_state st;
} __attribute__((aligned(64)));

struct mr_flow6 {
	struct mr_key6 key;
	struct mr_rewrite6 rewrite;
	struct mr_flow_state st;
	__u64 reserved[2];
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct mr_flow4) == 64, "a v4 record is one cache line");
_Static_assert(sizeof(struct mr_flow6) == 128, "a v6 record is two cache lines");

struct mr_bucket_head {
	__u16 tag[MR_FLOW_WAYS]; /* 0 = free (or quarantined) */
	__u32 lock;              /* writers only: 0 free, 1 held */
	__u32 spill; /* keys whose primary bucket is this one and that live elsewhere; 0: a miss ends here */
	__u32 freed_ms[MR_FLOW_WAYS]; /* when a free slot was freed (quarantine); 0 = never used */
	__u64 spilled; /* bit mr_flow_spill_bit(hash) of each of those keys; set early, cleared when spill is 0: a key whose bit
			  is not set lives nowhere else */
};

_Static_assert(sizeof(struct mr_bucket_head) == 64, "bucket head is one cache line");

struct mr_bucket4 {
	struct mr_bucket_head head;
	struct mr_flow4 rec[MR_FLOW_WAYS];
};

struct mr_bucket6 {
	struct mr_bucket_head head;
	struct mr_flow6 rec[MR_FLOW_WAYS];
};

_Static_assert(sizeof(struct mr_bucket4) == 576, "v4 bucket");
_Static_assert(sizeof(struct mr_bucket6) == 1088, "v6 bucket");

/* ---- next hops ------------------------------------------------------------------------------------------ */

enum mr_nexthop_kind {
	MR_NH_NONE = 0,        /* slot not in use: the packet goes to the stage tier */
	MR_NH_WIRE = 1,        /* out of `egress`, the Ethernet header as it is (bump in the wire) */
	MR_NH_BACK = 2,        /* out of the ingress interface, MACs swapped */
	MR_NH_KERNEL = 3,      /* to the kernel stack, as received on the ingress interface */
	MR_NH_ROUTED = 4,      /* out of `egress`, MACs written, TTL decremented */
	MR_NH_RESOLVING = 5,   /* as ROUTED once the kernel knows the neighbour's MAC: the packet waits */
	MR_NH_UNREACHABLE = 6, /* the kernel found no such neighbour: drop, with an ICMP error */
};

enum mr_encap_kind {
	MR_ENCAP_NONE = 0,
	MR_ENCAP_IP4 = 1,  /* outer IPv4, protocol 4 or 41 by the inner family (RFC 2003, RFC 4213) */
	MR_ENCAP_IP6 = 2,  /* outer IPv6, next header 4 or 41 (RFC 2473) */
	MR_ENCAP_GUE4 = 3, /* outer IPv4 + UDP + GUE variant 1 (inner IP directly after UDP) */
	MR_ENCAP_GUE6 = 4, /* outer IPv6 + UDP (zero checksum, RFC 6935) + GUE variant 1 */
};

#define MR_NH_PUSH_VLAN (1u << 0)
#define MR_NH_POP_VLAN  (1u << 1)

/* One next hop, shared by any number of flows: changing a MAC is one update for all of them. */
struct mr_nexthop {
	__u32 seq;      /* as in mr_flow_state */
	__u8 kind;      /* enum mr_nexthop_kind */
	__u8 flags;     /* MR_NH_* */
	__u8 encap;     /* enum mr_encap_kind */
	__u8 egress;    /* interface id */
	__u32 ifindex;  /* of egress */
	__u16 mtu;      /* of the egress link, bytes of L3 packet */
	__u16 vlan_tci; /* with MR_NH_PUSH_VLAN */
	__u8 dmac[6];
	__u8 smac[6];
	__u16 outer_dport; /* GUE: UDP destination port, host order */
	__u8 outer_ttl;
	__u8 reserved0;
	__be32 outer_saddr_be[4]; /* IPv4 uses [0] */
	__be32 outer_daddr_be[4];
	__u16 generation;
	__u8 reserved[62];
};

_Static_assert(sizeof(struct mr_nexthop) == 128, "next hop is two cache lines");

/* ---- hash ----------------------------------------------------------------------------------------------- */

/*
 * Both tiers find a record by the same 64-bit hash, so it uses only what BPF has: 64-bit multiply, xor, shift.
 * The words of the key are added to words of the seed and multiplied in pairs, 32 x 32 -> 64 (the NH construction of
 * UMAC, RFC 4418 section 5.2: keys chosen without knowing the seed collide about once in 2^32 pairs); a finalizer
 * spreads the sum so that bucket and tag may be cut from any bits.  `ingress` is masked out.
 */
static __always_inline __u64 mr_flow_hash_pair(__u32 a, __u32 b, __u64 seed, __u64 salt)
{
	__u64 k = seed ^ salt;

	return (__u64)(__u32)(a + (__u32)k) * (__u32)(b + (__u32)(k >> 32));
}

static __always_inline __u64 mr_flow_hash_finish(__u64 h)
{
	h ^= h >> 32;
	h *= 0x9fb21c651e98df25ULL;
	h ^= h >> 29;
	h *= 0xbf58476d1ce4e5b9ULL;
	return h ^ (h >> 32);
}

/* 32 bits of a key at a byte offset. */
static __always_inline __u32 mr_flow_hash_word(const void *key, unsigned int offset)
{
	__u32 w;

	__builtin_memcpy(&w, (const char *)key + offset, sizeof(w));
	return w;
}

/* The first word of either key, zone and proto without ingress. */
static __always_inline __u32 mr_flow_hash_first(__u16 zone, __u8 proto)
{
	return (__u32)proto << 16 | zone;
}

static __always_inline __u64 mr_flow_hash4(const struct mr_key4 *k, __u64 seed)
{
	__u64 h = mr_flow_hash_pair(mr_flow_hash_first(k->zone, k->proto), k->saddr_be, seed, 0x9e3779b97f4a7c15ULL);

	h += mr_flow_hash_pair(k->daddr_be, mr_flow_hash_word(k, 12), seed, 0xd6e8feb86659fd93ULL);
	return mr_flow_hash_finish(h);
}

static __always_inline __u64 mr_flow_hash6(const struct mr_key6 *k, __u64 seed)
{
	__u64 h = mr_flow_hash_pair(
		mr_flow_hash_first(k->zone, k->proto), mr_flow_hash_word(k, 4), seed, 0x9e3779b97f4a7c15ULL);

	h += mr_flow_hash_pair(k->saddr_be[0], k->saddr_be[1], seed, 0xd6e8feb86659fd93ULL);
	h += mr_flow_hash_pair(k->saddr_be[2], k->saddr_be[3], seed, 0xa0761d6478bd642fULL);
	h += mr_flow_hash_pair(k->daddr_be[0], k->daddr_be[1], seed, 0xe7037ed1a0b428dbULL);
	h += mr_flow_hash_pair(k->daddr_be[2], k->daddr_be[3], seed, 0x8ebc6af09c88c6e3ULL);
	return mr_flow_hash_finish(h);
}

/* The 16 bits a bucket head keeps of each record; 0 means free, so a hash of 0 there becomes 1. */
static __always_inline __u16 mr_flow_tag(__u64 hash)
{
	__u16 tag = (__u16)hash;

	return tag ? tag : 1;
}

/* The bit of a key in its primary bucket's `spilled`. */
static __always_inline __u64 mr_flow_spill_bit(__u64 hash)
{
	return 1ULL << ((hash >> 16) & 63);
}

/*
 * The way of its bucket a key goes to when that one is free: whoever looks a single key up may look there before he looks at the head, one
 * cache line instead of two.  A free record has no key.
 */
static __always_inline __u32 mr_flow_way_first(__u64 hash)
{
	return (__u32)(hash >> 22) & (MR_FLOW_WAYS - 1);
}

/*
 * The two buckets a key may live in, of bucket_cnt >= 2 (any number: memory follows capacity, not the next power of
 * two).  They differ.  The second is looked at only where the first one's
 * head has the key's bit in `spilled`.
 */
static __always_inline __u32 mr_flow_bucket_primary(__u64 hash, __u32 bucket_cnt)
{
	return (__u32)(((hash >> 32) * bucket_cnt) >> 32);
}

static __always_inline __u32 mr_flow_bucket_secondary(__u64 hash, __u32 bucket_cnt)
{
	__u64 other = hash * 0xc2b2ae3d27d4eb4fULL;
	__u32 second = (__u32)(((other >> 32) * bucket_cnt) >> 32);

	if (second != mr_flow_bucket_primary(hash, bucket_cnt))
		return second;
	return second + 1 < bucket_cnt ? second + 1 : 0;
}

/* ---- reading -------------------------------------------------------------------------------------------- */

#if MR_BPF
/* Keeps the compiler's order; x86 keeps the CPU's.  BPF before 6.13 has no load-acquire for weaker ones. */
#define MR_FLOW_READ_FENCE() asm volatile("" ::: "memory")
#define mr_flow_load32(p)    (*(const volatile __u32 *)(p))
#define mr_flow_load64(p)    (*(const volatile __u64 *)(p))
#else
#define MR_FLOW_READ_FENCE() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define mr_flow_load32(p)    __atomic_load_n((const __u32 *)(p), __ATOMIC_RELAXED)
#define mr_flow_load64(p)    __atomic_load_n((const __u64 *)(p), __ATOMIC_RELAXED)
#endif

#define MR_FLOW_INGRESS_SHIFT (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 24 : 32)
#define MR_FLOW_INGRESS_MASK  (~(0xffULL << MR_FLOW_INGRESS_SHIFT))

static __always_inline __u64 mr_flow_word(const void *key, unsigned idx)
{
	__u64 v;
	__builtin_memcpy(&v, (const char *)key + 8 * idx, sizeof(v));
	return v;
}

/* Copies a record as it stood at one moment.  1 = consistent; 0 = a writer was at it, *copy is to be ignored. */
static __always_inline int mr_flow_copy(void *copy, const void *rec, const __u32 *seq, unsigned words)
{
	__u32 before = mr_flow_load32(seq);
	if (before & 1)
		return 0;
	MR_FLOW_READ_FENCE();
	for (unsigned i = 0; i < words; i++)
		((__u64 *)copy)[i] = mr_flow_load64((const __u64 *)rec + i);
	MR_FLOW_READ_FENCE();
	return mr_flow_load32(seq) == before;
}

/* What carrying a record out needs besides its rewrite. */
struct mr_flow_taken {
	__u16 flags, nexthop, generation, effects;
	__u8 ingress;
};

/* The first and the last word of a record's state, each loaded at once. */
union mr_flow_first {
	__u64 word;
	struct {
		__u32 seq;
		__u16 flags, nexthop;
	} st;
};

union mr_flow_last {
	__u64 word;
	struct {
		__u32 packets;
		__u16 generation, effects;
	} st;
};

_Static_assert(sizeof(union mr_flow_first) == 8 && sizeof(union mr_flow_last) == 8, "one load each");

/*
 * Takes rewrite and state of one record, if it has the key, as they stood at one moment.  Compared and copied between two looks at the
 * sequence number: no more of the record is read than is used.  0: another key, or a writer was at it; what was copied is to be ignored.
 */
static __always_inline int mr_flow_take(const void *key, const void *rec, unsigned key_words, void *rewrite,
	unsigned rewrite_words, struct mr_flow_taken *t)
{
	const __u64 *word = rec;
	const struct mr_flow_state *st = (const void *)(word + key_words + rewrite_words);
	union mr_flow_first first = { .word = mr_flow_load64(st) };
	union mr_flow_last last;
	MR_FLOW_READ_FENCE();
	__u64 head = mr_flow_load64(word);
	__u64 diff = (head ^ mr_flow_word(key, 0)) & MR_FLOW_INGRESS_MASK;
	for (unsigned i = 1; i < key_words; i++)
		diff |= mr_flow_load64(word + i) ^ mr_flow_word(key, i);
	for (unsigned i = 0; i < rewrite_words; i++)
		((__u64 *)rewrite)[i] = mr_flow_load64(word + key_words + i);
	last.word = mr_flow_load64(&st->packets);
	MR_FLOW_READ_FENCE();
	if (diff || first.st.seq & 1 || mr_flow_load32(&st->seq) != first.st.seq)
		return 0;
	t->flags = first.st.flags;
	t->nexthop = first.st.nexthop;
	t->generation = last.st.generation;
	t->effects = last.st.effects;
	t->ingress = (__u8)(head >> MR_FLOW_INGRESS_SHIFT);
	return 1;
}

/* The tags of a bucket that equal `tag`, two words compared in place (each half of it exactly): bit 16 * (way % 4) + way / 4. */
static __always_inline __u64 mr_flow_tags(const struct mr_bucket_head *h, __u16 tag)
{
	const __u64 low = 0x7fff7fff7fff7fffULL, want = tag * 0x0001000100010001ULL;
	__u64 a = mr_flow_load64(&h->tag[0]) ^ want, b = mr_flow_load64(&h->tag[4]) ^ want;

	a = ~(((a & low) + low) | a | low) >> 15;
	b = ~(((b & low) + low) | b | low) >> 14;
	return a | b;
}

/* The way of the lowest of those bits. */
static __always_inline __u32 mr_flow_tags_way(__u64 tags)
{
	__u64 bit = tags & -tags;
	__u32 upper = (bit & 0x0002000200020002ULL) != 0;
	__u32 way = (__u32)((bit >> upper) * 0x0000000100020003ULL >> 48);

	if (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)
		way = 3 - way;
	return way + 4 * upper;
}

/*
 * Looks for key in one bucket.  The way, with its rewrite and state as they stood at one moment in *rw and *t, or -1: not here, or
 * being written at this moment (the packet then takes the slower path, which is never wrong).  A caller that gets -1 from the
 * primary bucket looks into the other one only when that one's `spilled` has the key's bit.  Takes no lock, in BPF and user space.
 */
static __always_inline int mr_flow_find4(const struct mr_bucket4 *b, const struct mr_key4 *key, __u16 tag,
	struct mr_rewrite4 *rw, struct mr_flow_taken *t)
{
	__u64 tags = mr_flow_tags(&b->head, tag);
	for (int i = 0; i < MR_FLOW_WAYS && tags; i++, tags &= tags - 1) {
		__u32 way = mr_flow_tags_way(tags) & (MR_FLOW_WAYS - 1);
		if (mr_flow_take(key, &b->rec[way], sizeof(*key) / 8, rw, sizeof(*rw) / 8, t))
			return (int)way;
	}
	return -1;
}

static __always_inline int mr_flow_find6(const struct mr_bucket6 *b, const struct mr_key6 *key, __u16 tag,
	struct mr_rewrite6 *rw, struct mr_flow_taken *t)
{
	__u64 tags = mr_flow_tags(&b->head, tag);
	for (int i = 0; i < MR_FLOW_WAYS && tags; i++, tags &= tags - 1) {
		__u32 way = mr_flow_tags_way(tags) & (MR_FLOW_WAYS - 1);
		if (mr_flow_take(key, &b->rec[way], sizeof(*key) / 8, rw, sizeof(*rw) / 8, t))
			return (int)way;
	}
	return -1;
}

#endif
