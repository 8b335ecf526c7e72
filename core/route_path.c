/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * route_path.c - ways to go.  A million routes have a few paths: each is kept once, counted, and its number is the value in the
 * forwarding table.  Workers read a view of it, which is made anew and swapped when a device or a next hop changes.
 */
#include "core/route_table.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- keys --------------------------------------------------------------------------------------------------- */

static int compare_hops(const void *x, const void *y)
{
	const struct mr_rtnl_hop *a = x, *b = y;

	if (a->ifindex != b->ifindex)
		return a->ifindex < b->ifindex ? -1 : 1;
	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	int c = memcmp(a->gateway, b->gateway, sizeof(a->gateway));
	return c ? c : a->weight < b->weight ? -1 : a->weight > b->weight;
}

static bool same_hop(const struct mr_rtnl_hop *a, const struct mr_rtnl_hop *b)
{
	return !compare_hops(a, b) && a->unknown == b->unknown;
}

static uint64_t hash_hop(uint64_t h, const struct mr_rtnl_hop *hop)
{
	uint64_t words[2];

	memcpy(words, hop->gateway, sizeof(words));
	h = mr_route_mix(h, (uint64_t)hop->ifindex << 32 | (uint64_t)hop->family << 24 | (uint64_t)hop->unknown << 20);
	return mr_route_mix(mr_route_mix(h, words[0]), words[1]);
}

static void finish_key(struct mr_path_key *k)
{
	qsort(k->hop, k->hop_cnt, sizeof(k->hop[0]), compare_hops);
	uint64_t h = mr_route_mix(0x51ed270b, (uint64_t)k->mtu << 32 | k->nexthop_id);
	h = mr_route_mix(
		h, (uint64_t)k->source << 32 | (uint64_t)k->type << 8 | k->family | (uint64_t)k->unknown << 16);
	for (unsigned i = 0; i < k->hop_cnt; i++)
		h = mr_route_mix(hash_hop(h, &k->hop[i]), k->hop[i].weight);
	k->hash = h;
}

void mr_path_key(struct mr_path_key *k, const struct mr_rtnl_route *m)
{
	k->family = m->family;
	/* The type of a route by a next-hop object is told as what the object is just now. */
	k->type = m->nexthop_id && m->type == RTN_BLACKHOLE ? RTN_UNICAST : m->type;
	k->unknown = m->unknown;
	k->source = m->source;
	k->mtu = m->mtu;
	k->nexthop_id = m->nexthop_id;
	/* With an object the hops are its own; the kernel repeats them only for old readers. */
	k->hop_cnt = m->nexthop_id || m->type != RTN_UNICAST ? 0 : m->hop_cnt;
	memcpy(k->hop, m->hop, k->hop_cnt * sizeof(k->hop[0]));
	finish_key(k);
}

void mr_path_get(const struct mr_routes *r, uint32_t n, struct mr_path_key *k)
{
	const struct mr_path *p = &r->path[n];

	k->family = p->family;
	k->type = p->type;
	k->unknown = p->unknown;
	k->source = p->source;
	k->mtu = p->mtu;
	k->nexthop_id = p->nexthop_id;
	k->hop_cnt = p->hop_cnt;
	if (p->hop_cnt)
		memcpy(k->hop, p->hop, p->hop_cnt * sizeof(k->hop[0]));
	finish_key(k);
}

bool mr_path_is(const struct mr_routes *r, uint32_t n, const struct mr_path_key *k)
{
	const struct mr_path *p = &r->path[n];

	if (p->hash != k->hash || p->family != k->family || p->type != k->type || p->unknown != k->unknown ||
		p->source != k->source || p->mtu != k->mtu || p->nexthop_id != k->nexthop_id ||
		p->hop_cnt != k->hop_cnt)
		return false;
	for (unsigned i = 0; i < k->hop_cnt; i++) {
		if (!same_hop(&p->hop[i], &k->hop[i]))
			return false;
	}
	return true;
}

/* ---- views -------------------------------------------------------------------------------------------------- */

/* The members a view is made of: what the path has, or what its next-hop object is. */
struct members {
	unsigned cnt;
	bool blackhole, unknown;
	struct mr_rtnl_hop hop[MR_RTNL_HOPS];
};

struct mr_route_nexthop *mr_route_nexthop_find(const struct mr_routes *r, uint32_t id)
{
	struct mr_route_nexthop *n = r->nexthop[id % MR_ROUTE_NEXTHOP_CHAINS];

	while (n && n->n.id != id)
		n = n->next;
	return n;
}

static void add_object(const struct mr_routes *r, const struct mr_rtnl_nexthop *n, uint32_t weight, struct members *m)
{
	m->blackhole |= n->blackhole;
	m->unknown |= n->unknown;
	if (!n->blackhole && !n->group && m->cnt < MR_RTNL_HOPS) {
		m->hop[m->cnt] = n->hop;
		m->hop[m->cnt++].weight = weight;
	}
}

static void members_of(const struct mr_routes *r, const struct mr_path *p, struct members *m)
{
	m->cnt = 0;
	m->blackhole = false;
	m->unknown = p->unknown || p->source;
	if (!p->nexthop_id) {
		m->cnt = p->hop_cnt;
		memcpy(m->hop, p->hop, p->hop_cnt * sizeof(m->hop[0]));
		return;
	}
	const struct mr_route_nexthop *n = mr_route_nexthop_find(r, p->nexthop_id);
	if (!n)
		return;
	if (!n->n.group) {
		add_object(r, &n->n, 1, m);
		return;
	}
	m->unknown |= n->n.unknown;
	for (unsigned i = 0; i < n->n.member_cnt; i++) {
		const struct mr_route_nexthop *one = mr_route_nexthop_find(r, n->n.member[i].id);
		if (one)
			add_object(r, &one->n, n->n.member[i].weight, m);
	}
}

/* Leaves in m those that can be used. */
static void keep_living(const struct mr_routes *r, struct members *m)
{
	unsigned cnt = 0;

	for (unsigned i = 0; i < m->cnt; i++) {
		const struct mr_route_link *l = mr_route_link_find(r, m->hop[i].ifindex);
		if (m->hop[i].flags & RTNH_F_DEAD || (l && !l->l.admin_up))
			continue;
		m->hop[cnt++] = m->hop[i];
	}
	m->cnt = cnt;
}

/*
 * Which hop each of the MR_ROUTE_PICKS shares of flows goes by: weighted rendezvous.  A hop's score for a share depends on nothing but
 * the two, so a hop that goes leaves the others' shares where they are, and one that comes back gets its own again.
 */
static void fill_picks(uint8_t *pick, const struct members *m)
{
	uint64_t salt[MR_RTNL_HOPS];

	for (unsigned i = 0; i < m->cnt; i++)
		salt[i] = hash_hop(0x2545f4914f6cdd1dULL, &m->hop[i]);
	for (unsigned share = 0; share < MR_ROUTE_PICKS; share++) {
		double best = -1;
		for (unsigned i = 0; i < m->cnt; i++) {
			uint64_t h = mr_route_mix(mr_route_mix(salt[i], share + 1), 0x9e3779b97f4a7c15ULL);
			double u = ((double)(h >> 11) + 1) / 9007199254740993.0; /* 0 < u < 1 */
			double score = m->hop[i].weight / -log(u);
			if (score > best) {
				best = score;
				pick[share] = (uint8_t)i;
			}
		}
	}
}

static struct mr_path_view *new_view(uint8_t verdict, uint8_t reason, unsigned hop_cnt)
{
	size_t hops = hop_cnt * sizeof(struct mr_view_hop);
	struct mr_path_view *v = calloc(1, sizeof(*v) + hops + (hop_cnt > 1 ? MR_ROUTE_PICKS : 0));

	if (!v)
		return NULL;
	v->verdict = verdict;
	v->reason = reason;
	v->hop_cnt = (uint16_t)hop_cnt;
	return v;
}

static struct mr_path_view *unicast_view(struct mr_routes *r, struct mr_path *p, bool *dead)
{
	struct members m;

	members_of(r, p, &m);
	p->encap = false;
	p->tunnel = false;
	for (unsigned i = 0; i < m.cnt; i++) {
		const struct mr_route_link *l = mr_route_link_find(r, m.hop[i].ifindex);
		m.unknown |= m.hop[i].unknown;
		p->encap |= m.hop[i].unknown;
		p->tunnel |= l && l->l.device == MR_RTNL_DEVICE_TUNNEL;
	}
	if (m.blackhole)
		return new_view(MR_ROUTE_DROP, MR_REASON_BLACKHOLE, 0);
	keep_living(r, &m);
	*dead = !m.cnt;
	if (m.unknown || !m.cnt)
		return new_view(MR_ROUTE_KERNEL, MR_REASON_UNMIRRORED, 0);
	struct mr_path_view *v = new_view(MR_ROUTE_SLOT, MR_REASON_NONE, m.cnt);
	if (!v)
		return NULL;
	v->mtu = (uint16_t)(p->mtu > UINT16_MAX ? UINT16_MAX : p->mtu);
	for (unsigned i = 0; i < m.cnt; i++) {
		v->hop[i].ifindex = m.hop[i].ifindex;
		v->hop[i].family = m.hop[i].family;
		v->hop[i].kernel = !mr_route_interface_of(r, m.hop[i].ifindex);
		memcpy(v->hop[i].gateway, m.hop[i].gateway, sizeof(v->hop[i].gateway));
	}
	if (m.cnt > 1) {
		uint8_t *pick = (uint8_t *)&v->hop[m.cnt];
		fill_picks(pick, &m);
		v->pick = pick;
	}
	return v;
}

static struct mr_path_view *make_view(struct mr_routes *r, struct mr_path *p, bool *dead)
{
	*dead = false;
	switch (p->type) {
	case RTN_UNICAST:
		return unicast_view(r, p, dead);
	case RTN_LOCAL:
	case RTN_BROADCAST:
	case RTN_ANYCAST:
	case RTN_MULTICAST:
		return new_view(MR_ROUTE_KERNEL, p->source ? MR_REASON_UNMIRRORED : MR_REASON_NONE, 0);
	case RTN_BLACKHOLE:
	case RTN_UNREACHABLE:
	case RTN_PROHIBIT:
		if (!p->source && !p->unknown)
			return new_view(MR_ROUTE_DROP,
				p->type == RTN_BLACKHOLE          ? MR_REASON_BLACKHOLE
					: p->type == RTN_PROHIBIT ? MR_REASON_PROHIBIT
								  : MR_REASON_UNREACHABLE,
				0);
		break;
	default: /* throw, nat, xresolve */
		break;
	}
	return new_view(MR_ROUTE_KERNEL, MR_REASON_UNMIRRORED, 0);
}

static _Atomic(struct mr_path_view *) *view_of(struct mr_routes *r, uint32_t n)
{
	_Atomic(struct mr_path_view *) *chunk =
		atomic_load_explicit(&r->view[n / MR_ROUTE_CHUNK], memory_order_relaxed);

	if (!chunk) {
		chunk = calloc(MR_ROUTE_CHUNK, sizeof(*chunk));
		if (!chunk)
			return NULL;
		atomic_store_explicit(&r->view[n / MR_ROUTE_CHUNK], chunk, memory_order_release);
	}
	return &chunk[n % MR_ROUTE_CHUNK];
}

/* Without memory the old view stays, and the mirror is not to be trusted until it was read again. */
static bool renew_view(struct mr_routes *r, uint32_t n)
{
	struct mr_path *p = &r->path[n];
	_Atomic(struct mr_path_view *) *at = view_of(r, n);
	bool dead;
	struct mr_path_view *v = at ? make_view(r, p, &dead) : NULL;

	if (!v) {
		r->short_of_memory = true;
		mr_route_rules_weigh(r);
		return false;
	}
	struct mr_path_view *old = atomic_exchange_explicit(at, v, memory_order_acq_rel);
	mr_route_retire(r, old, 0);
	if (dead != p->dead && old) {
		p->revisit = true;
		mr_prefixes_walk(r, mr_route_f(p->family), false);
	}
	p->dead = dead;
	return true;
}

/* ---- the index ---------------------------------------------------------------------------------------------- */

static void link_path(struct mr_routes *r, uint32_t n)
{
	uint32_t *head = &r->path_bucket[r->path[n].hash & (r->path_bucket_cnt - 1)];

	r->path[n].hash_next = *head;
	*head = n;
}

static void unlink_path(struct mr_routes *r, uint32_t n)
{
	uint32_t *at = &r->path_bucket[r->path[n].hash & (r->path_bucket_cnt - 1)];

	while (*at && *at != n)
		at = &r->path[*at].hash_next;
	if (*at)
		*at = r->path[n].hash_next;
}

static void grow_index(struct mr_routes *r)
{
	uint32_t cnt = r->path_bucket_cnt * 4;
	uint32_t *bucket = calloc(cnt, sizeof(*bucket));

	if (!bucket)
		return; /* longer chains */
	free(r->path_bucket);
	r->path_bucket = bucket;
	r->path_bucket_cnt = cnt;
	for (uint32_t n = 1; n < r->path_top; n++) {
		if (r->path[n].refs && !r->path[n].flushed)
			link_path(r, n);
	}
}

static uint32_t new_number(struct mr_routes *r)
{
	uint32_t n = r->path_free;

	if (n) {
		r->path_free = r->path[n].hash_next;
		return n;
	}
	if (r->path_top == MR_ROUTE_CHUNK * MR_ROUTE_CHUNKS || r->path_top > MR_FIB_VALUE_MAX)
		return 0;
	if (r->path_top == r->path_cap) {
		uint32_t cap = r->path_cap * 2;
		struct mr_path *p = realloc(r->path, cap * sizeof(*p));
		if (!p)
			return 0;
		r->path = p;
		r->path_cap = cap;
	}
	return r->path_top++;
}

static void free_number(struct mr_routes *r, uint32_t n)
{
	_Atomic(struct mr_path_view *) *at = view_of(r, n);

	if (at)
		atomic_store_explicit(at, NULL, memory_order_relaxed);
	memset(&r->path[n], 0, sizeof(r->path[n]));
	r->path[n].hash_next = r->path_free;
	r->path_free = n;
}

uint32_t mr_path_take(struct mr_routes *r, const struct mr_path_key *k)
{
	for (uint32_t n = r->path_bucket[k->hash & (r->path_bucket_cnt - 1)]; n; n = r->path[n].hash_next) {
		if (mr_path_is(r, n, k)) {
			r->path[n].refs++;
			mr_path_flags(r, n, k);
			return n;
		}
	}
	if (r->path_cnt > r->path_bucket_cnt)
		grow_index(r);
	uint32_t n = new_number(r);
	if (!n)
		return 0;
	struct mr_rtnl_hop *hop = malloc((k->hop_cnt ? k->hop_cnt : 1u) * sizeof(*hop));
	if (!hop) {
		free_number(r, n);
		return 0;
	}
	memcpy(hop, k->hop, k->hop_cnt * sizeof(*hop));
	r->path[n] = (struct mr_path){ .hash = k->hash,
		.hop = hop,
		.refs = 1,
		.mtu = k->mtu,
		.nexthop_id = k->nexthop_id,
		.source = k->source,
		.hop_cnt = k->hop_cnt,
		.family = k->family,
		.type = k->type,
		.unknown = k->unknown };
	if (!renew_view(r, n)) {
		free(hop);
		free_number(r, n);
		return 0;
	}
	r->path_cnt++;
	link_path(r, n);
	return n;
}

void mr_path_release(struct mr_routes *r, uint32_t n)
{
	struct mr_path *p = &r->path[n];

	if (--p->refs)
		return;
	if (!p->flushed)
		unlink_path(r, n);
	free(p->hop);
	p->hop = NULL;
	p->hop_cnt = 0;
	r->path_cnt--;
	/* Readers may still hold the number: the view goes with it. */
	_Atomic(struct mr_path_view *) *at = view_of(r, n);
	mr_route_retire(r, atomic_load_explicit(at, memory_order_relaxed), n);
}

/* ---- changes ------------------------------------------------------------------------------------------------ */

void mr_path_flags(struct mr_routes *r, uint32_t n, const struct mr_path_key *k)
{
	struct mr_path *p = &r->path[n];
	bool changed = false;

	for (unsigned i = 0; i < p->hop_cnt; i++) {
		changed |= (p->hop[i].flags ^ k->hop[i].flags) & RTNH_F_DEAD;
		p->hop[i].flags = k->hop[i].flags;
	}
	if (changed) {
		renew_view(r, n);
		mr_versions_touch_all(r, mr_route_f(p->family));
	}
}

/* Whether the object of a path is this one, has it for a member, or is not here any more. */
static bool uses_object(const struct mr_routes *r, const struct mr_path *p, uint32_t id)
{
	const struct mr_route_nexthop *n = mr_route_nexthop_find(r, p->nexthop_id);

	if (!n || n->n.id == id)
		return true;
	for (unsigned i = 0; i < n->n.member_cnt; i++) {
		if (n->n.member[i].id == id)
			return true;
	}
	return false;
}

static bool uses(const struct mr_routes *r, const struct mr_path *p, uint32_t ifindex, uint32_t nexthop_id)
{
	if (p->type != RTN_UNICAST)
		return false;
	if (p->nexthop_id) /* which devices it goes by is not worth looking into */
		return !nexthop_id || nexthop_id == UINT32_MAX || uses_object(r, p, nexthop_id);
	if (nexthop_id && !ifindex)
		return false;
	for (unsigned i = 0; i < p->hop_cnt; i++) {
		if (!ifindex || p->hop[i].ifindex == ifindex)
			return true;
	}
	return false;
}

void mr_paths_changed(struct mr_routes *r, uint32_t ifindex, uint32_t nexthop_id)
{
	bool touched[2] = { false, false };

	for (uint32_t n = MR_ROUTE_ONLY_KERNEL + 1; n < r->path_top; n++) {
		if (r->path[n].refs && uses(r, &r->path[n], ifindex, nexthop_id)) {
			renew_view(r, n);
			touched[mr_route_f(r->path[n].family)] = true;
		}
	}
	for (unsigned f = 0; f < 2; f++) {
		if (touched[f])
			mr_versions_touch_all(r, f);
	}
}

void mr_paths_flush(struct mr_routes *r, uint32_t ifindex)
{
	for (uint32_t n = MR_ROUTE_ONLY_KERNEL + 1; n < r->path_top; n++) {
		struct mr_path *p = &r->path[n];
		if (!p->refs || p->flushed || !p->dead || !uses(r, p, ifindex, 0))
			continue;
		unlink_path(r, n); /* a route that is added now is not one of those forgotten */
		p->flushed = true;
		p->revisit = true;
		mr_prefixes_walk(r, mr_route_f(p->family), false);
	}
}

void mr_paths_revive(struct mr_routes *r, uint32_t ifindex)
{
	for (uint32_t n = MR_ROUTE_ONLY_KERNEL + 1; n < r->path_top; n++) {
		struct mr_path *p = &r->path[n];
		for (unsigned i = 0; p->refs && i < p->hop_cnt; i++) {
			if (p->hop[i].ifindex == ifindex)
				p->hop[i].flags &= (uint8_t)~RTNH_F_DEAD;
		}
	}
}

/* ---- life --------------------------------------------------------------------------------------------------- */

void mr_route_retire(struct mr_routes *r, void *memory, uint32_t path)
{
	if (!memory && !path)
		return;
	struct mr_route_retired *g = malloc(sizeof(*g));
	if (!g)
		return; /* kept for ever rather than freed under a reader */
	*g = (struct mr_route_retired){ .next = r->retiring, .memory = memory, .path = path };
	r->retiring = g;
}

int mr_paths_create(struct mr_routes *r)
{
	r->path_cap = 64;
	r->path_bucket_cnt = 64;
	r->path = calloc(r->path_cap, sizeof(*r->path));
	r->path_bucket = calloc(r->path_bucket_cnt, sizeof(*r->path_bucket));
	if (!r->path || !r->path_bucket)
		return -ENOMEM;
	r->path_top = MR_ROUTE_ONLY_KERNEL;
	struct mr_path_key k = { .family = 4, .type = RTN_THROW };
	finish_key(&k);
	k.hash++; /* found by nobody's */
	return mr_path_take(r, &k) == MR_ROUTE_ONLY_KERNEL ? 0 : -ENOMEM;
}

/* The newest come first; behind one that has passed all have. */
void mr_route_reclaim(struct mr_routes *r)
{
	if (r->retiring) {
		uint64_t stamp = r->opt.epoch ? mr_epoch_retire(r->opt.epoch) : 0;
		struct mr_route_retired *last = r->retiring;
		for (struct mr_route_retired *g = r->retiring; g; g = g->next) {
			g->stamp = stamp;
			last = g;
		}
		last->next = r->retired;
		r->retired = r->retiring;
		r->retiring = NULL;
	}
	struct mr_route_retired **at = &r->retired;
	while (*at && r->opt.epoch && !mr_epoch_passed(r->opt.epoch, (*at)->stamp))
		at = &(*at)->next;
	struct mr_route_retired *g = *at;
	*at = NULL;
	while (g) {
		struct mr_route_retired *next = g->next;
		if (g->path)
			free_number(r, g->path);
		free(g->memory);
		free(g);
		g = next;
	}
}

static void free_retired(struct mr_route_retired *g)
{
	while (g) {
		struct mr_route_retired *next = g->next;
		free(g->memory);
		free(g);
		g = next;
	}
}

void mr_paths_destroy(struct mr_routes *r)
{
	/* The view of a number that waits in `retired` is freed with that. */
	for (uint32_t n = 1; n < r->path_top && r->path; n++) {
		if (!r->path[n].refs)
			continue;
		free(r->path[n].hop);
		free(atomic_load_explicit(view_of(r, n), memory_order_relaxed));
	}
	for (unsigned i = 0; i < MR_ROUTE_CHUNKS; i++)
		free(atomic_load_explicit(&r->view[i], memory_order_relaxed));
	free_retired(r->retired);
	free_retired(r->retiring);
	free(r->path);
	free(r->path_bucket);
}
