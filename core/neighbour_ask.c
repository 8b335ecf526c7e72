/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * neighbour_ask.c - asking the kernel, and what happens as time passes.
 *
 * For a neighbour that is wanted, two messages.  RTM_GETNEIGH: perhaps it is known after all and we missed it.  If not,
 * RTM_NEWNEIGH with NTF_USE and no address: neigh_add() creates the entry if need be, leaves its address and state alone and starts
 * resolving, as a packet of the kernel's own would (neigh_event_send).  One that is stale but in use gets the second alone: it is
 * then probed.  Both are carried out before sendto() returns, so answers are read right after.
 *
 * NTF_USE takes NUD_PERMANENT off an entry that has it, and NTF_EXT_LEARNED and NTF_EXT_MANAGED unless they are repeated (__neigh_update):
 * so it is never sent for an entry that does not need it, and says again what the entry has.
 */
#include "core/neighbour_table.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH          64   /* neighbours asked for in one datagram: the answers fit the socket's smallest buffer */
#define TURN_MAX       1024 /* ... in one service */
#define AGAIN_MS       1000 /* asked for again while no answer came */
#define FRESH_MS       2000 /* from one request for a stale one to the next */
#define FRESH_EVERY_MS 50   /* all stale ones are looked at: not with each packet that waits (10000 of them: 0.2 ms) */
#define READ_BYTES     32768
#define REQUEST_MAX    64 /* bytes of one request: 16 + 12 + 20 + 8, aligned */

struct request {
	uint16_t slot;
	struct mr_neighbour_key key;
	uint8_t flags; /* NTF_* to repeat */
	bool managed;  /* NTF_EXT_MANAGED to repeat */
	bool stale;
};

/* Requests on their way, which answers may tell something of. */
struct batch {
	struct request *r;
	unsigned cnt;
};

int mr_neighbours_ask_open(struct mr_neighbours *t, struct mr_error *e)
{
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (!nl)
		return mr_error_set(e, -errno, "netlink socket for neighbours: %s", strerror(errno));
	if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0) {
		int err = mr_error_set(e, -errno, "netlink socket for neighbours: %s", strerror(errno));
		mnl_socket_close(nl);
		return err;
	}
	t->nl = nl;
	return 0;
}

void mr_neighbours_ask_close(struct mr_neighbours *t)
{
	if (t->nl)
		mnl_socket_close(t->nl);
	t->nl = NULL;
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static size_t put_request(char *buf, const struct request *r, uint16_t type)
{
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buf);
	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | (type == RTM_NEWNEIGH ? NLM_F_CREATE : 0);
	nlh->nlmsg_seq = r->slot;
	struct ndmsg *nd = mnl_nlmsg_put_extra_header(nlh, sizeof(*nd));
	nd->ndm_family = r->key.family == 4 ? AF_INET : AF_INET6;
	nd->ndm_ifindex = (int)r->key.ifindex;
	if (type == RTM_NEWNEIGH)
		nd->ndm_flags = NTF_USE | r->flags;
	mnl_attr_put(nlh, NDA_DST, r->key.family == 4 ? 4 : 16, r->key.addr);
	if (type == RTM_NEWNEIGH && r->managed)
		mnl_attr_put_u32(nlh, NDA_FLAGS_EXT, NTF_EXT_MANAGED);
	return nlh->nlmsg_len;
}

/* An entry that has no address yet: whose it is.  Nothing else: the event says it, once the kernel has made up its mind. */
static void take_flags(const struct batch *b, uint32_t slot, const struct mr_rtnl_neigh *n)
{
	for (unsigned i = 0; i < b->cnt; i++)
		if (b->r[i].slot == slot) {
			b->r[i].flags = n->flags & NTF_EXT_LEARNED;
			b->r[i].managed = n->managed;
		}
}

static void take_message(struct mr_neighbours *t, const struct mr_rtnl *m, const struct batch *b)
{
	if (m->kind == MR_RTNL_NEIGH && !m->deleted) {
		if (m->neigh.has_mac && m->neigh.state & MR_NEIGHBOUR_NUD_VALID)
			mr_neighbours_heard(t, &m->neigh, false);
		else
			take_flags(b, m->seq, &m->neigh);
	}
	/* GETNEIGH of one that is not there */
	if (m->kind == MR_RTNL_ERROR && m->error_code && m->error_code != -ENOENT)
		t->count.error_cnt++;
}

static void read_answers(struct mr_neighbours *t, const struct batch *b)
{
	char buf[READ_BYTES];
	for (unsigned i = 0; i < 4 * BATCH; i++) {
		ssize_t n = mnl_socket_recvfrom(t->nl, buf, sizeof(buf));
		if (n <= 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* nothing left; or an overrun, and what was lost is asked for again */
		const void *at = buf;
		size_t left = (size_t)n;
		struct mr_rtnl m;
		while (mr_rtnl_read(&at, &left, &m))
			take_message(t, &m, b);
	}
}

static void send_requests(struct mr_neighbours *t, const struct batch *b, uint16_t type)
{
	char buf[BATCH * REQUEST_MAX];
	size_t len = 0;
	for (unsigned i = 0; i < b->cnt; i++)
		len += put_request(buf + len, &b->r[i], type);
	if (!len)
		return;
	if (mnl_socket_sendto(t->nl, buf, len) < 0)
		t->count.error_cnt++;
	read_answers(t, b);
}

/* Keeps those the kernel still has to resolve, and stale ones. */
static void keep_needed(struct mr_neighbours *t, struct batch *b)
{
	unsigned kept = 0;
	mr_neighbours_lock(t);
	for (unsigned i = 0; i < b->cnt; i++) {
		struct mr_neighbour_slot *s = &t->slot[b->r[i].slot];
		if (!b->r[i].stale && s->state != MR_NEIGHBOUR_RESOLVING)
			continue;
		s->asked_cnt++;
		t->count.asked_cnt++;
		b->r[kept++] = b->r[i];
	}
	mr_neighbours_unlock(t);
	b->cnt = kept;
}

/* All of them stale, or none. */
static void ask(struct mr_neighbours *t, struct batch *b)
{
	if (!t->nl || !b->cnt)
		return;
	if (!b->r[0].stale)
		send_requests(t, b, RTM_GETNEIGH);
	keep_needed(t, b);
	send_requests(t, b, RTM_NEWNEIGH);
}

/* ---- what is due ------------------------------------------------------------------------------------------------- */

static bool port_up(const struct mr_neighbours *t, uint16_t slot)
{
	const struct mr_neighbour_port *p = mr_neighbours_port(t, t->slot[slot].key.ifindex);
	return p && p->d.interface_id && p->d.up;
}

/* A packet waits for this slot.  True: the workers are to look again. */
static bool wanted(struct mr_neighbours *t, uint16_t slot)
{
	struct mr_neighbour_slot *s = &t->slot[slot];

	switch (s->state) {
	case MR_NEIGHBOUR_IDLE:
		if (port_up(t, slot) && t->resolving_cnt >= t->opt.resolving_max) {
			/* Later.  Until then what is waiting waits. */
			__atomic_fetch_or(&t->want_bits[slot / 64], 1ull << slot % 64, __ATOMIC_RELAXED);
			return false;
		}
		s->since_ms = t->now_ms;
		return mr_neighbours_turn(
			t, slot, port_up(t, slot) ? MR_NEIGHBOUR_RESOLVING : MR_NEIGHBOUR_UNREACHABLE, NULL);
	case MR_NEIGHBOUR_RESOLVING:
		if (!s->asked)
			s->since_ms = t->now_ms; /* made earlier, for nobody: its time begins now */
		return false;
	default: /* it was decided meanwhile */
		return __atomic_exchange_n(&t->wanted[slot], 0, __ATOMIC_ACQ_REL);
	}
}

/* A tunnel's packets wait for the slot under it.  That one is as wanted as if it had said so itself. */
static bool wanted_tunnel(struct mr_neighbours *t, uint16_t slot)
{
	uint16_t under = mr_neighbours_under(t, slot);
	struct mr_nexthop nh;

	mr_nexthops_get(t->opt.nexthops, slot, &nh);
	if (!under || nh.kind != MR_NH_RESOLVING)
		return __atomic_exchange_n(&t->wanted[slot], 0, __ATOMIC_ACQ_REL);
	__atomic_store_n(&t->wanted[under], 1, __ATOMIC_RELEASE);
	return wanted(t, under);
}

static bool take_wants(struct mr_neighbours *t)
{
	bool waited = false;
	for (uint32_t w = 0; w < MR_NEIGHBOUR_WORDS; w++) {
		if (!__atomic_load_n(&t->want_bits[w], __ATOMIC_RELAXED))
			continue;
		uint64_t word = __atomic_exchange_n(&t->want_bits[w], 0, __ATOMIC_SEQ_CST);
		mr_neighbours_lock(t);
		for (; word; word &= word - 1) {
			uint16_t slot = (uint16_t)(w * 64 + (uint32_t)__builtin_ctzll(word));
			waited |= t->slot[slot].state == MR_NEIGHBOUR_TUNNEL ? wanted_tunnel(t, slot) : wanted(t, slot);
		}
		mr_neighbours_unlock(t);
	}
	return waited;
}

/* A slot that is RESOLVING or UNREACHABLE.  Fills *r when it is to be asked for. */
static bool busy(struct mr_neighbours *t, uint16_t slot, struct request *r, bool *waited)
{
	struct mr_neighbour_slot *s = &t->slot[slot];
	int32_t age_ms = (int32_t)(t->now_ms - s->since_ms);

	if (s->state == MR_NEIGHBOUR_UNREACHABLE) {
		if (age_ms >= (int32_t)MR_NEIGHBOUR_REST_MS)
			*waited |= mr_neighbours_turn(t, slot, MR_NEIGHBOUR_IDLE, NULL);
		return false;
	}
	bool in_want = __atomic_load_n(&t->wanted[slot], __ATOMIC_RELAXED);
	if (age_ms >= (int32_t)MR_NEIGHBOUR_GIVE_UP_MS || (in_want && !port_up(t, slot))) {
		/* Made, but no packet ever waited for it: not worth a word. */
		s->since_ms = t->now_ms;
		*waited |= mr_neighbours_turn(t, slot, in_want ? MR_NEIGHBOUR_UNREACHABLE : MR_NEIGHBOUR_IDLE, NULL);
		return false;
	}
	if (!in_want || (s->asked && t->now_ms - s->asked_ms < AGAIN_MS))
		return false;
	s->asked = true;
	s->asked_ms = t->now_ms;
	*r = (struct request){ .slot = slot, .key = s->key };
	return true;
}

static bool stale(struct mr_neighbours *t, uint16_t slot, struct request *r)
{
	struct mr_neighbour_slot *s = &t->slot[slot];
	const struct mr_neighbour_known *known = mr_neighbours_known(t, &s->key);

	if ((s->asked && t->now_ms - s->asked_ms < FRESH_MS) || !known || known->managed ||
		!(known->state & NUD_STALE) || !port_up(t, slot))
		return false;
	if (mr_neighbours_idle_ms(t->now_ms, mr_neighbours_used(t, slot)) >= MR_NEIGHBOUR_IN_USE_MS)
		return false;
	s->asked = true;
	s->asked_ms = t->now_ms;
	*r = (struct request){ .slot = slot, .key = s->key, .flags = known->flags & NTF_EXT_LEARNED, .stale = true };
	return true;
}

/* Up to BATCH requests from the slots of a bitmap, from *from on (0 = all seen). */
static unsigned collect(
	struct mr_neighbours *t, const uint64_t *bits, bool fresh, uint32_t *from, struct request *r, bool *waited)
{
	unsigned cnt = 0;
	mr_neighbours_lock(t);
	uint32_t slot = mr_neighbours_bit_next(bits, *from);
	for (unsigned seen = 0; slot && cnt < BATCH && seen < 4 * BATCH; seen++) {
		cnt += fresh ? stale(t, (uint16_t)slot, &r[cnt]) : busy(t, (uint16_t)slot, &r[cnt], waited);
		slot = slot + 1 < MR_MAX_NEXTHOPS ? mr_neighbours_bit_next(bits, slot + 1) : 0;
	}
	mr_neighbours_unlock(t);
	*from = slot;
	return cnt;
}

static bool ask_for(struct mr_neighbours *t, const uint64_t *bits, bool fresh)
{
	struct request r[BATCH];
	uint32_t from = MR_NEXTHOP_FIRST_FREE;
	bool waited = false;

	for (unsigned asked = 0; from && asked < TURN_MAX;) {
		unsigned cnt = collect(t, bits, fresh, &from, r, &waited);
		ask(t, &(struct batch){ r, cnt });
		asked += cnt;
	}
	return waited;
}

void mr_neighbours_service(struct mr_neighbours *t, uint64_t now_ms)
{
	uint64_t cnt;
	bool waited;

	t->now_ms = (uint32_t)now_ms;
	if (t->event_fd >= 0 && read(t->event_fd, &cnt, sizeof(cnt)) < 0) {
		/* Nobody signalled: the regular call. */
	}
	/* Before the bits are taken: who sets one after that signals anew. */
	__atomic_store_n(&t->signalled, false, __ATOMIC_SEQ_CST);
	waited = take_wants(t);
	waited |= ask_for(t, t->busy_bits, false);
	if (t->now_ms - t->freshened_ms >= FRESH_EVERY_MS) {
		t->freshened_ms = t->now_ms;
		waited |= ask_for(t, t->stale_bits, true);
	}
	if (t->nl)
		read_answers(t, &(struct batch){ NULL, 0 });
	if (waited && t->opt.changed)
		t->opt.changed(t->opt.ctx);
	mr_neighbours_free_round(t, t->now_ms);
}
