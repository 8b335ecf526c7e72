/* SPDX-License-Identifier: BSD-2-Clause */
/* neighbour_hear.c - what the kernel says of neighbours and devices, carried into the slots. */
#include "core/neighbour_table.h"

#include <stdlib.h>
#include <string.h>

#define AT_ONCE 256 /* slots looked at under one hold of the lock */

/* ---- what the kernel knows --------------------------------------------------------------------------------------- */

static bool multicast(const struct mr_rtnl_neigh *n)
{
	return n->family == 4 ? n->addr[0] >= 224 : n->addr[0] == 0xff;
}

/* No room: forgotten.  Then a slot made later asks the kernel, which answers what it has (neighbour_ask.c). */
static void known_put(struct mr_neighbours *t, const struct mr_neighbour_key *k, const struct mr_rtnl_neigh *n)
{
	struct mr_neighbour_known *known = mr_neighbours_known(t, k);
	if (!known) {
		uint32_t idx = t->known_free;
		if (idx)
			t->known_free = t->known[idx].next;
		else if (t->known_top < MR_NEIGHBOUR_KNOWN)
			idx = ++t->known_top;
		else
			return;
		uint32_t *head = &t->known_chain[mr_neighbours_chain(t, k)];
		known = &t->known[idx];
		known->key = *k;
		known->next = *head;
		*head = idx;
		t->known_cnt++;
	}
	known->state = n->state;
	known->flags = n->flags;
	known->managed = n->managed;
	memcpy(known->mac, n->mac, 6);
	known->round = t->round;
}

static void known_drop(struct mr_neighbours *t, const struct mr_neighbour_key *k)
{
	struct mr_neighbour_known *known = mr_neighbours_known(t, k);
	if (!known)
		return;
	uint32_t idx = (uint32_t)(known - t->known), *at = &t->known_chain[mr_neighbours_chain(t, k)];
	while (*at != idx)
		at = &t->known[*at].next;
	*at = known->next;
	memset(known, 0, sizeof(*known)); /* family 0: not in use */
	known->next = t->known_free;
	t->known_free = idx;
	t->known_cnt--;
}

/* ---- into the slots ---------------------------------------------------------------------------------------------- */

static bool in_use(const struct mr_neighbours *t, uint16_t slot)
{
	return __atomic_load_n(&t->wanted[slot], __ATOMIC_RELAXED) ||
		mr_neighbours_idle_ms(t->now_ms, mr_neighbours_used(t, slot)) < MR_NEIGHBOUR_IN_USE_MS;
}

/* The kernel gave up on it: who has use for it is to be told, others find it as if never asked for. */
static bool slot_failed(struct mr_neighbours *t, uint16_t slot)
{
	struct mr_neighbour_slot *s = &t->slot[slot];
	if (s->state != MR_NEIGHBOUR_ROUTED && s->state != MR_NEIGHBOUR_RESOLVING)
		return false;
	s->since_ms = t->now_ms;
	return mr_neighbours_turn(t, slot, in_use(t, slot) ? MR_NEIGHBOUR_UNREACHABLE : MR_NEIGHBOUR_IDLE, NULL);
}

/* It has no MAC (any more): asked for with the next packet, or at once when packets wait already. */
static bool slot_lost(struct mr_neighbours *t, uint16_t slot)
{
	struct mr_neighbour_slot *s = &t->slot[slot];
	s->asked = false;
	if (s->state != MR_NEIGHBOUR_ROUTED && s->state != MR_NEIGHBOUR_UNREACHABLE)
		return false;
	return mr_neighbours_turn(t, slot, MR_NEIGHBOUR_IDLE, NULL);
}

/* n: NULL = it has no MAC any more. */
static bool tell_slots(
	struct mr_neighbours *t, const struct mr_neighbour_key *k, const struct mr_rtnl_neigh *n, bool failed)
{
	bool waited = false;
	for (uint16_t slot = t->chain[mr_neighbours_chain(t, k)]; slot; slot = t->slot[slot].next) {
		struct mr_neighbour_key its = t->slot[slot].key;
		its.mtu = 0;
		if (memcmp(&its, k, sizeof(its)))
			continue;
		if (n) {
			waited |= mr_neighbours_turn(t, slot, MR_NEIGHBOUR_ROUTED, n->mac);
			mr_neighbours_bit(t->stale_bits, slot, n->state & NUD_STALE);
		} else {
			waited |= failed ? slot_failed(t, slot) : slot_lost(t, slot);
		}
	}
	return waited;
}

static void changed(struct mr_neighbours *t, bool waited)
{
	if (waited && t->opt.changed)
		t->opt.changed(t->opt.ctx);
}

void mr_neighbours_heard(struct mr_neighbours *t, const struct mr_rtnl_neigh *n, bool deleted)
{
	if ((n->family != 4 && n->family != 6) || n->flags & NTF_PROXY || multicast(n))
		return;
	struct mr_neighbour_key k = mr_neighbours_key(n->ifindex, n->family, n->addr, 0);
	bool valid = !deleted && n->has_mac && n->state & MR_NEIGHBOUR_NUD_VALID;
	mr_neighbours_lock(t);
	/* It fails after it was probed, or while it is resolved.  An entry that somebody deletes fails too, from any state, and goes. */
	const struct mr_neighbour_known *known = mr_neighbours_known(t, &k);
	bool failed = !deleted && n->state & NUD_FAILED && (!known || known->state & NUD_PROBE);
	if (valid)
		known_put(t, &k, n);
	else
		known_drop(t, &k);
	bool waited = tell_slots(t, &k, valid ? n : NULL, failed);
	mr_neighbours_unlock(t);
	changed(t, waited);
}

void mr_neighbours_dump_begin(struct mr_neighbours *t)
{
	mr_neighbours_lock(t);
	t->round++;
	mr_neighbours_unlock(t);
	t->dumping = true;
}

void mr_neighbours_dump_end(struct mr_neighbours *t)
{
	bool waited = false;
	if (!t->dumping)
		return;
	t->dumping = false;
	for (uint32_t from = 1; from <= t->known_top; from += AT_ONCE) {
		mr_neighbours_lock(t);
		for (uint32_t i = from; i < from + AT_ONCE && i <= t->known_top; i++) {
			struct mr_neighbour_key k = t->known[i].key;
			if (!k.family || t->known[i].round == t->round)
				continue;
			known_drop(t, &k);
			waited |= tell_slots(t, &k, NULL, false);
		}
		mr_neighbours_unlock(t);
	}
	changed(t, waited);
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

/* A device that is gone leaves the index: a packet routed to it anew is refused instead of finding a slot that sends nowhere. */
static bool slot_device(struct mr_neighbours *t, uint16_t slot, const struct mr_neighbour_device *d)
{
	struct mr_neighbour_slot *s = &t->slot[slot];
	if (!d->interface_id && s->linked) {
		mr_neighbours_unlink(t, slot);
		s->retired_used_ms = __atomic_load_n(&t->used_ms[slot], __ATOMIC_RELAXED);
		mr_neighbours_bit(t->retired_bits, slot, true);
		mr_neighbours_bit(t->passing, slot, false);
	}
	/* Up again, or another wire: what failed may work now. */
	if (s->state == MR_NEIGHBOUR_UNREACHABLE && d->up)
		return mr_neighbours_turn(t, slot, MR_NEIGHBOUR_IDLE, NULL);
	mr_neighbours_write(t, slot);
	return s->tunnel_cnt && mr_neighbours_tunnels_follow(t, slot);
}

/* Takes the port out; its memory is the caller's. */
static void port_out(struct mr_neighbours *t, struct mr_neighbour_port *p)
{
	struct mr_neighbour_port **at = &t->port[p->d.ifindex % MR_NEIGHBOUR_PORTS];
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
}

static bool device_slots(struct mr_neighbours *t, const struct mr_neighbour_device *d)
{
	bool waited = false;
	for (uint32_t from = MR_NEXTHOP_FIRST_FREE; from < MR_MAX_NEXTHOPS; from += AT_ONCE) {
		mr_neighbours_lock(t);
		for (uint32_t slot = from; slot < from + AT_ONCE && slot < MR_MAX_NEXTHOPS; slot++) {
			const struct mr_neighbour_slot *s = &t->slot[slot];
			if (s->state != MR_NEIGHBOUR_FREE && s->state != MR_NEIGHBOUR_TUNNEL &&
				s->key.ifindex == d->ifindex)
				waited |= slot_device(t, (uint16_t)slot, d);
		}
		mr_neighbours_unlock(t);
	}
	return waited;
}

/* Which device is the wire under VLAN devices of an interface; true when that changed. */
static bool note_wire(
	struct mr_neighbours *t, const struct mr_neighbour_device *old, const struct mr_neighbour_device *d)
{
	bool moved = false;
	if (old && old->interface_id && !old->vlan && t->wire_ifindex[old->interface_id] == d->ifindex &&
		(old->interface_id != d->interface_id || d->vlan)) {
		t->wire_ifindex[old->interface_id] = 0;
		moved = true;
	}
	if (d->interface_id && !d->vlan && t->wire_ifindex[d->interface_id] != d->ifindex) {
		t->wire_ifindex[d->interface_id] = d->ifindex;
		moved = true;
	}
	return moved;
}

static bool port_of_interface(
	const struct mr_neighbours *t, unsigned idx, uint8_t interface_id, struct mr_neighbour_device *out)
{
	for (unsigned i = 0; i < MR_NEIGHBOUR_PORTS; i++)
		for (const struct mr_neighbour_port *p = t->port[i]; p; p = p->next)
			if (p->d.interface_id == interface_id && p->d.vlan && !idx--) {
				*out = p->d;
				return true;
			}
	return false;
}

void mr_neighbours_device(struct mr_neighbours *t, const struct mr_neighbour_device *d)
{
	struct mr_neighbour_device tagged;
	bool waited = false;

	if (d->interface_id > MR_MAX_INTERFACES)
		return;
	/* Only control changes ports, so it may look without the lock; workers look under it. */
	struct mr_neighbour_port *p = mr_neighbours_port(t, d->ifindex), *fresh = NULL;
	if (p && !memcmp(&p->d, d, sizeof(*d)))
		return;
	if (!p) {
		if (!d->interface_id)
			return;
		fresh = calloc(1, sizeof(*fresh));
		if (!fresh)
			return; /* its neighbours get no slots: refused, counted */
	}
	mr_neighbours_lock(t);
	bool moved = note_wire(t, p ? &p->d : NULL, d);
	if (fresh) {
		fresh->d = *d;
		fresh->next = t->port[d->ifindex % MR_NEIGHBOUR_PORTS];
		t->port[d->ifindex % MR_NEIGHBOUR_PORTS] = fresh;
	} else if (d->interface_id) {
		p->d = *d;
	} else {
		port_out(t, p);
	}
	mr_neighbours_unlock(t);
	if (!d->interface_id)
		free(p);
	waited = device_slots(t, d);
	for (unsigned i = 0; moved && d->interface_id && port_of_interface(t, i, d->interface_id, &tagged); i++)
		waited |= device_slots(t, &tagged);
	changed(t, waited);
}
