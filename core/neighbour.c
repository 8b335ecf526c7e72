/* SPDX-License-Identifier: BSD-2-Clause */
/* neighbour.c - the slots and the index workers find them by. */
#include "core/neighbour.h"

#include "core/neighbour_table.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#define RESOLVING_MAX  4096
#define TOUCH_EVERY_MS 64       /* the line of a slot's time is shared by workers: not every turn */
#define GONE           0x10000u /* an index entry that was taken out: no slot, but the run goes on */

/* ---- keys -------------------------------------------------------------------------------------------------------- */

struct mr_neighbour_key mr_neighbours_key(uint32_t ifindex, unsigned family, const void *addr_be, uint16_t mtu)
{
	struct mr_neighbour_key k = { .ifindex = ifindex, .mtu = mtu, .family = (uint8_t)family };
	memcpy(k.addr, addr_be, family == 4 ? 4 : 16);
	return k;
}

static bool same(const struct mr_neighbour_key *a, const struct mr_neighbour_key *b)
{
	return !memcmp(a, b, sizeof(*a));
}

static bool same_neighbour(const struct mr_neighbour_key *a, const struct mr_neighbour_key *b)
{
	return a->ifindex == b->ifindex && a->family == b->family && !memcmp(a->addr, b->addr, sizeof(a->addr));
}

static uint64_t hash(const struct mr_neighbours *t, const struct mr_neighbour_key *k, uint16_t mtu)
{
	uint32_t w[4];
	memcpy(w, k->addr, sizeof(w));
	uint64_t h = mr_flow_hash_pair(k->ifindex, (uint32_t)k->family << 16 | mtu, t->seed, 0x9e3779b97f4a7c15ULL);
	h += mr_flow_hash_pair(w[0], w[1], t->seed, 0xd6e8feb86659fd93ULL);
	h += mr_flow_hash_pair(w[2], w[3], t->seed, 0xa0761d6478bd642fULL);
	return mr_flow_hash_finish(h);
}

uint32_t mr_neighbours_chain(const struct mr_neighbours *t, const struct mr_neighbour_key *k)
{
	return (uint32_t)(hash(t, k, 0) >> 32) % MR_NEIGHBOUR_CHAINS;
}

/* ---- the index: open addressing, read without a lock ------------------------------------------------------------- */
/*
 * A run ends at an empty entry.  Entries taken out become GONE; those before an empty one become empty too.  A reader may miss an
 * entry that moves in while it looks: whoever misses looks again under the lock before making a slot.
 */

static uint32_t entry_of(uint64_t h, uint16_t slot)
{
	return (uint32_t)(h & 0xffff0000u) | slot;
}

static uint16_t find(const struct mr_neighbours *t, const struct mr_neighbour_key *k, uint64_t h)
{
	uint32_t tag = entry_of(h, 0), at = (uint32_t)(h >> 32);
	for (uint32_t i = 0; i < MR_NEIGHBOUR_INDEX; i++, at++) {
		uint32_t e = __atomic_load_n(&t->index[at % MR_NEIGHBOUR_INDEX], __ATOMIC_ACQUIRE);
		uint16_t slot = (uint16_t)e;
		if (!e)
			return 0;
		if (slot && (e & 0xffff0000u) == tag && same(&t->slot[slot].key, k))
			return slot;
	}
	return 0;
}

static void link_slot(struct mr_neighbours *t, uint16_t slot, uint64_t h)
{
	uint32_t at = (uint32_t)(h >> 32);
	/* Never full: it has four entries for each slot. */
	while ((uint16_t)t->index[at % MR_NEIGHBOUR_INDEX])
		at++;
	__atomic_store_n(&t->index[at % MR_NEIGHBOUR_INDEX], entry_of(h, slot), __ATOMIC_RELEASE);
	t->slot[slot].linked = true;
}

void mr_neighbours_unlink(struct mr_neighbours *t, uint16_t slot)
{
	uint64_t h = hash(t, &t->slot[slot].key, t->slot[slot].key.mtu);
	uint32_t at = (uint32_t)(h >> 32);

	while (t->index[at % MR_NEIGHBOUR_INDEX] != entry_of(h, slot))
		at++;
	t->slot[slot].linked = false;
	__atomic_store_n(&t->index[at % MR_NEIGHBOUR_INDEX], GONE, __ATOMIC_RELAXED);
	if (t->index[(at + 1) % MR_NEIGHBOUR_INDEX])
		return;
	for (; t->index[at % MR_NEIGHBOUR_INDEX] == GONE; at--)
		__atomic_store_n(&t->index[at % MR_NEIGHBOUR_INDEX], 0, __ATOMIC_RELAXED);
}

/* ---- slots ------------------------------------------------------------------------------------------------------- */

uint16_t mr_neighbours_take(struct mr_neighbours *t)
{
	if (!t->free_cnt)
		return 0;
	t->free_cnt--;
	return t->ring[t->ring_head++ % MR_MAX_NEXTHOPS];
}

static void chain_in(struct mr_neighbours *t, uint16_t slot)
{
	uint16_t *head = &t->chain[mr_neighbours_chain(t, &t->slot[slot].key)];
	t->slot[slot].prev = 0;
	t->slot[slot].next = *head;
	if (*head)
		t->slot[*head].prev = slot;
	*head = slot;
}

static void chain_out(struct mr_neighbours *t, uint16_t slot)
{
	struct mr_neighbour_slot *s = &t->slot[slot];
	if (s->prev)
		t->slot[s->prev].next = s->next;
	else
		t->chain[mr_neighbours_chain(t, &s->key)] = s->next;
	if (s->next)
		t->slot[s->next].prev = s->prev;
}

void mr_neighbours_give(struct mr_neighbours *t, uint16_t slot)
{
	chain_out(t, slot);
	mr_neighbours_turn(t, slot, MR_NEIGHBOUR_FREE, NULL);
	mr_neighbours_bit(t->retired_bits, slot, false);
	t->ring[(t->ring_head + t->free_cnt++) % MR_MAX_NEXTHOPS] = slot;
	t->count.freed_cnt++;
}

struct mr_neighbour_port *mr_neighbours_port(const struct mr_neighbours *t, uint32_t ifindex)
{
	struct mr_neighbour_port *p = t->port[ifindex % MR_NEIGHBOUR_PORTS];
	while (p && p->d.ifindex != ifindex)
		p = p->next;
	return p;
}

struct mr_neighbour_known *mr_neighbours_known(struct mr_neighbours *t, const struct mr_neighbour_key *k)
{
	for (uint32_t i = t->known_chain[mr_neighbours_chain(t, k)]; i; i = t->known[i].next)
		if (same_neighbour(&t->known[i].key, k))
			return &t->known[i];
	return NULL;
}

/* What the slot's next hop is to say now. */
static struct mr_nexthop compose(const struct mr_neighbours *t, const struct mr_neighbour_slot *s)
{
	static const uint8_t kinds[] = {
		[MR_NEIGHBOUR_FREE] = MR_NH_NONE,
		[MR_NEIGHBOUR_IDLE] = MR_NH_RESOLVING,
		[MR_NEIGHBOUR_RESOLVING] = MR_NH_RESOLVING,
		[MR_NEIGHBOUR_ROUTED] = MR_NH_ROUTED,
		[MR_NEIGHBOUR_UNREACHABLE] = MR_NH_UNREACHABLE,
	};
	const struct mr_neighbour_port *p = mr_neighbours_port(t, s->key.ifindex);
	struct mr_nexthop nh = { .kind = kinds[s->state] };

	if (s->state == MR_NEIGHBOUR_FREE || !p || !p->d.interface_id)
		return (struct mr_nexthop){ .kind = MR_NH_NONE };
	nh.egress = p->d.interface_id;
	nh.ifindex = t->wire_ifindex[nh.egress] ? t->wire_ifindex[nh.egress] : p->d.ifindex;
	nh.mtu = s->key.mtu && (s->key.mtu < p->d.mtu || !p->d.mtu) ? s->key.mtu : p->d.mtu;
	if (p->d.vlan) {
		nh.flags = MR_NH_PUSH_VLAN;
		nh.vlan_tci = p->d.vlan;
	}
	memcpy(nh.smac, p->d.mac, 6);
	if (s->state == MR_NEIGHBOUR_ROUTED)
		memcpy(nh.dmac, s->mac, 6);
	return nh;
}

void mr_neighbours_write(struct mr_neighbours *t, uint16_t slot)
{
	struct mr_nexthop nh = compose(t, &t->slot[slot]), old;

	mr_nexthops_get(t->opt.nexthops, slot, &old);
	nh.seq = old.seq;
	if (memcmp(&nh, &old, sizeof(nh)))
		mr_nexthops_set(t->opt.nexthops, slot, &nh);
}

bool mr_neighbours_turn(struct mr_neighbours *t, uint16_t slot, enum mr_neighbour_state state, const uint8_t *mac)
{
	struct mr_neighbour_slot *s = &t->slot[slot];
	bool waited = false;

	t->resolving_cnt += (state == MR_NEIGHBOUR_RESOLVING) - (s->state == MR_NEIGHBOUR_RESOLVING);
	s->failed_cnt += state == MR_NEIGHBOUR_UNREACHABLE;
	t->count.failed_cnt += state == MR_NEIGHBOUR_UNREACHABLE;
	if (s->state != state)
		s->asked = false;
	s->state = (uint8_t)state;
	if (mac)
		memcpy(s->mac, mac, 6);
	mr_neighbours_bit(t->busy_bits, slot, state == MR_NEIGHBOUR_RESOLVING || state == MR_NEIGHBOUR_UNREACHABLE);
	if (state != MR_NEIGHBOUR_ROUTED)
		mr_neighbours_bit(t->stale_bits, slot, false);
	mr_neighbours_write(t, slot);
	if (state == MR_NEIGHBOUR_ROUTED || state == MR_NEIGHBOUR_UNREACHABLE || state == MR_NEIGHBOUR_FREE)
		waited = __atomic_exchange_n(&t->wanted[slot], 0, __ATOMIC_ACQ_REL);
	return (s->tunnel_cnt && mr_neighbours_tunnels_follow(t, slot)) || waited;
}

/* ---- workers ----------------------------------------------------------------------------------------------------- */

/* A slot of this key that was taken out of the index and not given back yet. */
static uint16_t find_retired(const struct mr_neighbours *t, const struct mr_neighbour_key *k)
{
	uint16_t slot = t->chain[mr_neighbours_chain(t, k)];
	while (slot && !same(&t->slot[slot].key, k))
		slot = t->slot[slot].next;
	return slot;
}

static uint16_t make(struct mr_neighbours *t, const struct mr_neighbour_key *k, uint64_t h, uint32_t now_ms)
{
	const struct mr_neighbour_port *p = mr_neighbours_port(t, k->ifindex);
	if (!p || !p->d.interface_id)
		return 0;
	uint16_t slot = find_retired(t, k);
	if (slot) {
		mr_neighbours_bit(t->retired_bits, slot, false);
		__atomic_store_n(&t->used_ms[slot], now_ms, __ATOMIC_RELAXED);
		link_slot(t, slot, h);
		return slot;
	}
	const struct mr_neighbour_known *known = mr_neighbours_known(t, k);
	if (!known && t->resolving_cnt >= t->opt.resolving_max)
		return 0;
	slot = mr_neighbours_take(t);
	if (!slot)
		return 0;
	t->slot[slot] = (struct mr_neighbour_slot){ .key = *k, .since_ms = now_ms };
	__atomic_store_n(&t->used_ms[slot], now_ms, __ATOMIC_RELAXED);
	__atomic_store_n(&t->wanted[slot], 0, __ATOMIC_RELAXED);
	chain_in(t, slot);
	if (known) {
		mr_neighbours_turn(t, slot, MR_NEIGHBOUR_ROUTED, known->mac);
		mr_neighbours_bit(t->stale_bits, slot, known->state & NUD_STALE);
	} else {
		mr_neighbours_turn(t, slot, MR_NEIGHBOUR_RESOLVING, NULL);
	}
	link_slot(t, slot, h);
	return slot;
}

uint16_t mr_neighbours_slot(
	struct mr_neighbours *t, uint32_t ifindex, unsigned family, const void *addr_be, uint16_t mtu, uint32_t now_ms)
{
	struct mr_neighbour_key k = mr_neighbours_key(ifindex, family, addr_be, mtu);
	uint64_t h = hash(t, &k, mtu);
	uint16_t slot = find(t, &k, h);

	if (slot)
		return slot;
	mr_neighbours_lock(t);
	slot = find(t, &k, h);
	if (!slot)
		slot = make(t, &k, h, now_ms);
	if (!slot)
		t->count.refused_cnt++;
	mr_neighbours_unlock(t);
	return slot;
}

void mr_neighbours_want(struct mr_neighbours *t, uint16_t slot)
{
	if (__atomic_load_n(&t->wanted[slot], __ATOMIC_RELAXED) ||
		__atomic_exchange_n(&t->wanted[slot], 1, __ATOMIC_ACQ_REL))
		return;
	__atomic_fetch_or(&t->want_bits[slot / 64], 1ull << slot % 64, __ATOMIC_SEQ_CST);
	if (__atomic_exchange_n(&t->signalled, true, __ATOMIC_SEQ_CST) || t->event_fd < 0)
		return;
	uint64_t one = 1;
	if (write(t->event_fd, &one, sizeof(one)) != sizeof(one)) {
		/* The counter is full: then it is readable already. */
	}
}

void mr_neighbours_touch(struct mr_neighbours *t, uint16_t slot, uint32_t now_ms)
{
	if (now_ms - __atomic_load_n(&t->used_ms[slot], __ATOMIC_RELAXED) >= TOUCH_EVERY_MS)
		__atomic_store_n(&t->used_ms[slot], now_ms, __ATOMIC_RELAXED);
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

int mr_neighbours_create(
	const struct mr_neighbours_options *opt, bool no_kernel, struct mr_neighbours **out, struct mr_error *e)
{
	struct mr_neighbours *t = calloc(1, sizeof(*t));
	int err;

	if (!t)
		return mr_error_set(e, -ENOMEM, "no memory for the neighbours");
	t->opt = *opt;
	t->used_ms = opt->used_ms ? opt->used_ms : t->own_used_ms;
	if (!t->opt.resolving_max)
		t->opt.resolving_max = RESOLVING_MAX;
	t->event_fd = -1;
	pthread_spin_init(&t->lock, PTHREAD_PROCESS_PRIVATE);
	if (getrandom(&t->seed, sizeof(t->seed), 0) != sizeof(t->seed)) {
		err = mr_error_set(e, -EIO, "no random seed for the neighbours");
		goto fail;
	}
	for (uint32_t slot = MR_NEXTHOP_FIRST_FREE; slot < MR_MAX_NEXTHOPS; slot++)
		t->ring[t->free_cnt++] = (uint16_t)slot;
	if (no_kernel) {
		*out = t;
		return 0;
	}
	t->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (t->event_fd < 0) {
		err = mr_error_set(e, -errno, "eventfd: %s", strerror(errno));
		goto fail;
	}
	err = mr_neighbours_ask_open(t, e);
	if (err)
		goto fail;
	*out = t;
	return 0;
fail:
	mr_neighbours_destroy(t);
	return err;
}

void mr_neighbours_destroy(struct mr_neighbours *t)
{
	if (!t)
		return;
	mr_neighbours_ask_close(t);
	if (t->event_fd >= 0)
		close(t->event_fd);
	for (unsigned i = 0; i < MR_NEIGHBOUR_PORTS; i++)
		while (t->port[i]) {
			struct mr_neighbour_port *next = t->port[i]->next;
			free(t->port[i]);
			t->port[i] = next;
		}
	free(t->tunnel);
	pthread_spin_destroy(&t->lock);
	free(t);
}

int mr_neighbours_fd(const struct mr_neighbours *t)
{
	return t->event_fd;
}
