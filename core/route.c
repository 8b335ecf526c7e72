/* SPDX-License-Identifier: BSD-2-Clause */
/* route.c - what workers ask: where does a packet for this address go; and the life of the mirror. */
#include "core/route_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* ---- lookup ------------------------------------------------------------------------------------------------- */

/* Destinations no routing table decides about: the kernel's own code looks at them first. */
static bool special4(const uint8_t *a)
{
	return a[0] == 0 || a[0] == 127 || a[0] >= 224;
}

static bool special6(const uint8_t *a)
{
	static const uint8_t zero[15];

	return a[0] == 0xff || (a[0] == 0xfe && (a[1] & 0xc0) == 0x80) || (a[15] <= 1 && !memcmp(a, zero, 15));
}

static uint32_t bucket_of(unsigned f, const void *dst_be)
{
	__be32 words[4];

	memcpy(words, dst_be, mr_route_bytes(f));
	return f ? mr_route_bucket6(words) : mr_route_bucket4(words[0]);
}

static const struct mr_path_view *find_view(const struct mr_routes *r, unsigned f, const void *dst_be)
{
	__be32 addr_be;
	uint32_t n;

	if (f) {
		n = mr_fib_lookup6(r->fib, dst_be);
	} else {
		memcpy(&addr_be, dst_be, sizeof(addr_be));
		n = mr_fib_lookup4(r->fib, addr_be);
	}
	if (!n)
		return NULL;
	const _Atomic(struct mr_path_view *) *chunk =
		atomic_load_explicit(&r->view[n / MR_ROUTE_CHUNK], memory_order_acquire);
	return atomic_load_explicit(&chunk[n % MR_ROUTE_CHUNK], memory_order_acquire);
}

/* A tick behind at most: when a neighbour's slot was made, which is looked at in seconds. */
static uint32_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (uint32_t)((uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000);
}

static void go(struct mr_routes *r, const struct mr_path_view *v, unsigned family, const void *dst_be, uint64_t hash,
	struct mr_route_answer *out)
{
	/* Mixed: the low bits of the flow's hash also choose buckets, tags and queues. */
	unsigned i = v->pick ? v->pick[(hash * 0xd6e8feb86659fd93ULL) >> 54] : 0;
	const struct mr_view_hop *h = &v->hop[i];

	if (h->kernel) {
		out->verdict = MR_ROUTE_KERNEL;
		out->reason = MR_REASON_UNMIRRORED;
		return;
	}
	out->slot = mr_neighbours_slot(r->opt.neighbours, h->ifindex, h->family ? h->family : family,
		h->family ? h->gateway : dst_be, v->mtu, now_ms());
	if (!out->slot) {
		out->verdict = MR_ROUTE_DROP;
		out->reason = MR_REASON_NO_NEXTHOP;
	}
}

/* What comes after the destination, whichever the verdict. */
static void answer(struct mr_routes *r, unsigned interface_id, unsigned family, const void *dst_be, uint64_t hash,
	struct mr_route_answer *out)
{
	unsigned f = mr_route_f(family);

	out->verdict = MR_ROUTE_KERNEL;
	out->reason = MR_REASON_NONE;
	if (f ? special6(dst_be) : special4(dst_be))
		return;
	out->reason = MR_REASON_UNMIRRORED;
	if (atomic_load_explicit(&r->only_kernel[f], memory_order_relaxed) ||
		(interface_id <= MR_MAX_INTERFACES &&
			atomic_load_explicit(&r->foreign[interface_id], memory_order_relaxed)))
		return;
	const struct mr_path_view *v = find_view(r, f, dst_be);
	out->verdict = v ? v->verdict : MR_ROUTE_DROP;
	out->reason = v ? v->reason : MR_REASON_NO_ROUTE;
	if (out->verdict == MR_ROUTE_DROP && !f && atomic_load_explicit(&r->last_table, memory_order_relaxed)) {
		out->verdict = MR_ROUTE_KERNEL; /* the kernel goes on to table 253, or not, as its history is */
		out->reason = MR_REASON_UNMIRRORED;
	}
	if (out->verdict == MR_ROUTE_SLOT)
		go(r, v, f ? 6 : 4, dst_be, hash, out);
}

void mr_routes_lookup(struct mr_routes *r, unsigned interface_id, unsigned family, const void *dst_be, uint64_t hash,
	struct mr_route_answer *out)
{
	const uint8_t *version = &r->version[mr_route_f(family)][bucket_of(mr_route_f(family), dst_be)];

	*out = (struct mr_route_answer){ .version = __atomic_load_n(version, __ATOMIC_ACQUIRE) };
	answer(r, interface_id, family, dst_be, hash, out);
}

void mr_routes_expect4(const struct mr_routes *r, __be32 addr_be)
{
	mr_fib_expect4(r->fib, addr_be);
}

bool mr_routes_local(const struct mr_routes *r, unsigned family, const void *addr_be)
{
	const struct mr_path_view *v = find_view(r, mr_route_f(family), addr_be);

	return v && v->verdict == MR_ROUTE_KERNEL && v->reason == MR_REASON_NONE;
}

const uint8_t *mr_routes_versions(const struct mr_routes *r, unsigned family)
{
	return r->version[mr_route_f(family)];
}

bool mr_routes_takes_tag(const struct mr_routes *r, unsigned interface_id, unsigned vlan_cnt, uint16_t tci)
{
	unsigned id = tci & 0xfff;

	if (!atomic_load_explicit(&r->device[interface_id], memory_order_relaxed) || (!id && vlan_cnt == 1))
		return true; /* a tag that is only a priority is none */
	return vlan_cnt == 1 && __atomic_load_n(&r->vlan[interface_id][id / 64], __ATOMIC_RELAXED) >> id % 64 & 1;
}

/* ---- sources of our own packets --------------------------------------------------------------------------------- */

static bool covers(const struct mr_route_source *s, const uint8_t *addr)
{
	unsigned whole = s->bits / 8, rest = s->bits % 8;

	return !memcmp(s->addr, addr, whole) &&
		(!rest || !((s->addr[whole] ^ addr[whole]) & (uint8_t)(0xff00u >> rest)));
}

/* Higher is better; 0 = not to be used. */
static unsigned worth(const struct mr_route_source *s, unsigned interface_id, unsigned family, const uint8_t *dst)
{
	bool dst_link = mr_route_f(family) && dst[0] == 0xfe && (dst[1] & 0xc0) == 0x80;

	family = mr_route_f(family) ? 6 : 4;
	if (s->family != family || (s->link && (!dst_link || s->id != interface_id)))
		return 0;
	if (s->id != interface_id || !interface_id)
		return 1;
	if (dst_link && s->link)
		return s->vlan ? 5 : 6;
	return (covers(s, dst) ? 4 : 2) + !s->vlan;
}

bool mr_routes_source(
	const struct mr_routes *r, unsigned interface_id, unsigned family, const void *dst_be, void *src_be)
{
	const struct mr_route_sources *t = atomic_load_explicit(&r->sources, memory_order_acquire);
	const struct mr_route_source *best = NULL;
	unsigned best_worth = 0;

	for (uint32_t i = 0; t && i < t->cnt; i++) {
		unsigned w = worth(&t->s[i], interface_id, family, dst_be);
		if (w > best_worth) {
			best_worth = w;
			best = &t->s[i];
		}
	}
	if (!best)
		return false;
	memcpy(src_be, best->addr, mr_route_bytes(mr_route_f(family)));
	return true;
}

/* ---- life ------------------------------------------------------------------------------------------------------- */

int mr_routes_create(const struct mr_routes_options *opt, struct mr_routes **out, struct mr_error *e)
{
	struct mr_routes *r = calloc(1, sizeof(*r));

	if (!r)
		return mr_error_set(e, -ENOMEM, "out of memory");
	r->opt = *opt;
	r->version = opt->version ? opt->version : r->own_version;
	r->vlan = opt->vlan ? opt->vlan : r->own_vlan;
	r->fd = -1;
	r->running = -1;
	if (getrandom(&r->seed, sizeof(r->seed), GRND_NONBLOCK) != (ssize_t)sizeof(r->seed))
		r->seed = (uint64_t)(uintptr_t)r ^ now_ms();
	r->fib = mr_fib_create(opt->epoch);
	if (!r->fib || mr_paths_create(r)) {
		mr_routes_destroy(r);
		return mr_error_set(e, -ENOMEM, "out of memory for the mirror of the routing tables");
	}
	*out = r;
	return 0;
}

void mr_routes_destroy(struct mr_routes *r)
{
	if (!r)
		return;
	if (r->fd >= 0)
		close(r->fd);
	mr_fib_destroy(r->fib);
	mr_prefixes_destroy(r);
	mr_route_devices_destroy(r);
	mr_paths_destroy(r);
	free(r->buffer);
	free(r);
}

void mr_routes_usage(const struct mr_routes *r, struct mr_routes_usage *out)
{
	struct mr_fib_usage fib;

	mr_fib_usage(r->fib, &fib);
	*out = (struct mr_routes_usage){ .route_cnt = { r->route_cnt[0], r->route_cnt[1] },
		.prefix_cnt = { r->prefixes[0].cnt, r->prefixes[1].cnt },
		.path_cnt = r->path_cnt - 1,
		.nexthop_cnt = r->nexthop_cnt,
		.bytes = sizeof(*r) + fib.bytes + (uint64_t)r->entry_cap * sizeof(*r->entry) +
			(uint64_t)r->path_cap * sizeof(*r->path) + r->path_bucket_cnt * sizeof(*r->path_bucket),
		.event_cnt = r->event_cnt,
		.resync_cnt = r->resync_cnt,
		.sweep_cnt = r->sweep_cnt,
		.synced = r->running < 0 && !r->owed && !r->prefixes[0].walk_left && !r->prefixes[1].walk_left };
	for (unsigned f = 0; f < 2; f++)
		out->bytes += (uint64_t)r->prefixes[f].cap * r->prefixes[f].stride +
			(uint64_t)r->prefixes[f].bucket_cap * sizeof(uint32_t);
	for (unsigned i = 0; i < MR_ROUTE_CHUNKS; i++) {
		if (atomic_load_explicit(&r->view[i], memory_order_relaxed))
			out->bytes += MR_ROUTE_CHUNK * sizeof(void *);
	}
}
