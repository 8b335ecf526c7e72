/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_nat_store_threads.c - the store with four threads at once, and one that looks on.
 *
 * Beside the store stands a shadow: for each protocol, address and port whose it is, written by whoever took the port when it was made and
 * cleared just before it is given back.  Two at once are seen at once.  Sessions are swapped between the threads, so that what one took
 * another releases.
 */
#include "nat_store_rig.h"

#include <pthread.h>

#define THREADS   4
#define ADDRESSES 6
#define HELD      600 /* sessions a thread */
#define SWAPPED   64
#ifdef __SANITIZE_THREAD__
#define OPERATIONS 60000
#else
#define OPERATIONS 600000
#endif

/* A session: a mapping's, or (mapping 0) a subscriber's. */
struct held {
	uint32_t mapping, subscriber;
	__be32 remote_be;
};

static struct {
	struct rig r;
	struct nat_policy policy[2];
	uint32_t now_ms;
	uint64_t shadow[3][ADDRESSES][65536]; /* inside address, port, remote; atomic */
	uint32_t held_by[300000];             /* sessions of a mapping that are not to be released yet; atomic */
	struct held *swap[SWAPPED];           /* atomic */
	bool stop;
	unsigned long wrong, taken, refused, let_in, blocks;
} w;

struct thread {
	pthread_t id;
	unsigned number, cnt;
	uint64_t state;
	struct held held[HELD];
	uint8_t room[THREADS];
};

static uint32_t random_of(struct thread *t)
{
	t->state = t->state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(t->state >> 32);
}

static void wrong_if(bool wrong)
{
	if (wrong)
		__atomic_add_fetch(&w.wrong, 1, __ATOMIC_RELAXED);
}

static void on_block(void *ctx, unsigned worker, const struct nat_block_event *e)
{
	(void)ctx;
	(void)worker;
	__atomic_add_fetch(&w.blocks, e->given ? 1 : (unsigned long)-1, __ATOMIC_RELAXED);
}

static uint64_t *shadow_of(const struct nat_mapping *m)
{
	return &w.shadow[m->proto][ntohl(m->outside_be) - ntohl(rig_outside(0))][ntohs(m->outside_port_be)];
}

static uint64_t name_of(const struct nat_mapping *m)
{
	return (uint64_t)m->inside_be << 32 | (uint64_t)m->inside_port_be << 16 | (m->remote_be >> 24) << 8 | 1;
}

/*
 * A port belongs to one name while a session of its mapping is held here: the first that comes writes it, the last that goes clears it.  Both
 * are decided by a count beside the store's own, changed while this thread holds a session, so the mapping cannot end meanwhile.
 */
static void enter(const struct held *h, const struct nat_flow *f)
{
	struct nat_mapping m, seen;
	uint64_t was;

	nat_store_held(w.r.s, h->mapping, &seen); /* first: no lock is taken in between that could hide a race */
	if (!nat_store_mapping(w.r.s, h->mapping, &m)) {
		wrong_if(true);
		return;
	}
	if (f)
		wrong_if(m.inside_be != f->inside_be || m.inside_port_be != f->inside_port_be || m.proto != f->proto);
	wrong_if(seen.inside_be != m.inside_be || seen.inside_port_be != m.inside_port_be ||
		seen.outside_be != m.outside_be || seen.outside_port_be != m.outside_port_be || seen.proto != m.proto ||
		seen.remote_be != m.remote_be || seen.zone != m.zone);
	__atomic_add_fetch(&w.held_by[h->mapping], 1, __ATOMIC_ACQ_REL);
	was = __atomic_exchange_n(shadow_of(&m), name_of(&m), __ATOMIC_ACQ_REL);
	wrong_if(was && was != name_of(&m));
}

static void leave(const struct held *h)
{
	struct nat_mapping m;

	if (!nat_store_mapping(w.r.s, h->mapping, &m)) {
		wrong_if(true);
		return;
	}
	wrong_if(m.session_cnt == 0);
	/* The last of those known here: one that has taken it and not come here yet writes it again. */
	if (__atomic_sub_fetch(&w.held_by[h->mapping], 1, __ATOMIC_ACQ_REL) == 0)
		__atomic_store_n(shadow_of(&m), 0, __ATOMIC_RELEASE);
}

static struct nat_turn turn_of(struct thread *t)
{
	return (struct nat_turn){ .policy = &w.policy[random_of(t) % 2],
		.worker = t->number,
		.now_ms = __atomic_load_n(&w.now_ms, __ATOMIC_RELAXED) };
}

static void take(struct thread *t)
{
	struct nat_turn turn = turn_of(t);
	struct held *h = &t->held[t->cnt];
	struct nat_flow f = rig_flow(random_of(t) % 40, (uint16_t)(1 + random_of(t) % 100), random_of(t) % 3, 80);
	uint32_t kind = random_of(t) % 16;
	__be32 outside;
	bool made;

	f.proto = (uint8_t)(random_of(t) % 3);
	*h = (struct held){ .remote_be = f.remote_be };
	if (kind == 0) {
		if (nat_store_take_subscriber(w.r.s, &turn, 0, f.inside_be, &h->subscriber, &outside))
			return;
		t->cnt++;
		return;
	}
	if (nat_store_take(w.r.s, &turn, &f, &h->mapping, &made)) {
		__atomic_add_fetch(&w.refused, 1, __ATOMIC_RELAXED);
		return;
	}
	enter(h, &f);
	t->cnt++;
	__atomic_add_fetch(&w.taken, 1, __ATOMIC_RELAXED);
}

static void take_outside(struct thread *t)
{
	struct nat_turn turn = turn_of(t);
	struct held *h = &t->held[t->cnt];
	__be32 outside = rig_outside(random_of(t) % ADDRESSES);
	__be16 port = htons((uint16_t)(64000 + random_of(t) % 1536));
	bool filtered;

	*h = (struct held){ .remote_be = htonl(0xc6336400u + random_of(t) % 5) };
	if (nat_store_take_outside(w.r.s, &turn, 0, (uint8_t)(random_of(t) % 3), outside, port, h->remote_be, htons(5),
		    &h->mapping, &filtered) ||
		!h->mapping)
		return;
	enter(h, NULL);
	t->cnt++;
	__atomic_add_fetch(&w.let_in, 1, __ATOMIC_RELAXED);
}

static void release(struct thread *t, unsigned at)
{
	struct nat_turn turn = turn_of(t);
	struct held h = t->held[at];

	t->held[at] = t->held[--t->cnt];
	if (!h.mapping) {
		nat_store_release_subscriber(w.r.s, &turn, h.subscriber);
		return;
	}
	leave(&h);
	nat_store_release(w.r.s, &turn, h.mapping, h.remote_be, random_of(t) % 4 == 0);
}

/* What one took another releases. */
static void swap(struct thread *t)
{
	struct held *mine = malloc(sizeof(*mine)), *theirs;

	*mine = t->held[--t->cnt];
	theirs = __atomic_exchange_n(&w.swap[random_of(t) % SWAPPED], mine, __ATOMIC_ACQ_REL);
	if (theirs)
		t->held[t->cnt++] = *theirs;
	free(theirs);
}

static void *work(void *arg)
{
	struct thread *t = arg;

	for (unsigned i = 0; i < OPERATIONS; i++) {
		uint32_t what = random_of(t) % 32;
		if (what < 14 && t->cnt < HELD)
			take(t);
		else if (what < 19 && t->cnt < HELD)
			take_outside(t);
		else if (what < 29 && t->cnt)
			release(t, random_of(t) % t->cnt);
		else if (t->cnt)
			swap(t);
		if (random_of(t) % 256 == 0) {
			struct nat_turn turn = turn_of(t);
			__atomic_add_fetch(&w.now_ms, 1, __ATOMIC_RELAXED);
			nat_store_tick(w.r.s, &turn);
		}
	}
	while (t->cnt)
		release(t, 0);
	return NULL;
}

static void *look_on(void *arg)
{
	struct nat_store_usage u;
	struct nat_address_usage a;
	struct nat_subscriber_usage who;
	struct nat_mapping m;
	unsigned long seen = 0;
	__be32 inside, outside;

	(void)arg;
	while (!__atomic_load_n(&w.stop, __ATOMIC_RELAXED)) {
		uint32_t at = 0;
		nat_store_usage(w.r.s, &u);
		for (uint32_t i = 0; nat_store_address_usage(w.r.s, i, &a); i++)
			wrong_if(a.taken[NAT_UDP] > 65536);
		while (nat_store_next_mapping(w.r.s, &at, &m)) {
			wrong_if(m.session_cnt == 0 || m.proto >= NAT_PROTO_CNT);
			seen++;
		}
		for (at = 0; nat_store_next_subscriber(w.r.s, &at, &who);)
			nat_store_outside_of(w.r.s, at, &inside, &outside);
		nat_store_find_outside(w.r.s, NAT_UDP, rig_outside(1), htons(64100), &m);
	}
	wrong_if(!seen);
	return NULL;
}

static void run(uint16_t block_ports, bool paired, uint8_t mapping, uint8_t filtering)
{
	static struct thread thread[THREADS];
	pthread_t watcher;
	struct nat_turn turn;

	memset(&w, 0, sizeof(w));
	rig_init(&w.r, ADDRESSES, THREADS);
	w.now_ms = 1;
	w.r.policy.port_lo = 64000;
	w.r.policy.paired = paired;
	w.r.policy.mapping = mapping;
	w.r.policy.filtering = filtering;
	w.r.policy.quarantine_ms = 40;
	w.r.policy.block_ports = block_ports;
	w.r.policy.sessions_max = 60;
	w.r.policy.on_block = on_block;
	w.policy[0] = w.policy[1] = w.r.policy; /* before and after a reload that takes an address away */
	nat_policy_addresses(&w.policy[1], w.r.number, ADDRESSES - 1);
	memset(thread, 0, sizeof(thread));
	pthread_create(&watcher, NULL, look_on, NULL);
	for (unsigned i = 0; i < THREADS; i++) {
		thread[i].number = i;
		thread[i].state = i + 1;
		pthread_create(&thread[i].id, NULL, work, &thread[i]);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(thread[i].id, NULL);
	__atomic_store_n(&w.stop, true, __ATOMIC_RELAXED);
	pthread_join(watcher, NULL);
	for (unsigned i = 0; i < SWAPPED; i++)
		if (w.swap[i]) {
			thread[0].held[thread[0].cnt++] = *w.swap[i];
			free(w.swap[i]);
		}
	while (thread[0].cnt)
		release(&thread[0], 0);
	turn = turn_of(&thread[0]);
	turn.now_ms += 1000;
	for (unsigned i = 0; i < 1000; i++)
		nat_store_tick(w.r.s, &turn);
	cr_assert_eq(w.wrong, 0, "%lu wrong of %lu taken", w.wrong, w.taken);
	cr_assert_eq(w.blocks, 0);
	cr_assert(w.taken > 1000 && w.refused > 0, "%lu taken, %lu refused", w.taken, w.refused);
	cr_assert(w.let_in > 100 || filtering == NAT_ADDRESS_AND_PORT_DEPENDENT);
	rig_end(&w.r);
}

Test(nat_store_threads, paired, .timeout = 240)
{
	run(0, true, NAT_ENDPOINT_INDEPENDENT, NAT_ENDPOINT_INDEPENDENT);
}

Test(nat_store_threads, arbitrary_and_dependent, .timeout = 240)
{
	run(0, false, NAT_ADDRESS_DEPENDENT, NAT_ADDRESS_DEPENDENT);
}

Test(nat_store_threads, blocks, .timeout = 240)
{
	run(16, true, NAT_ENDPOINT_INDEPENDENT, NAT_ADDRESS_DEPENDENT);
}

Test(nat_store_threads, blocks_at_several_addresses, .timeout = 240)
{
	run(32, false, NAT_ADDRESS_AND_PORT_DEPENDENT, NAT_ENDPOINT_INDEPENDENT);
}
