/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/keys.h"

#include "kern/parse.h"

#include <errno.h>
#include <string.h>

#define TRIES 1000 /* copies of a record that is being written; a writer is done long before */

void mr_key_reverse(struct mr_flow_key *k, uint64_t seed)
{
#define SWAP(a, b)                       \
	do {                             \
		__typeof__(a) was = (a); \
		(a) = (b);               \
		(b) = was;               \
	} while (0)
	if (k->family == 4) {
		SWAP(k->k4.saddr_be, k->k4.daddr_be);
		SWAP(k->k4.sport_be, k->k4.dport_be);
		k->hash = mr_flow_hash4(&k->k4, seed);
		return;
	}
	for (int i = 0; i < 4; i++)
		SWAP(k->k6.saddr_be[i], k->k6.daddr_be[i]);
	SWAP(k->k6.sport_be, k->k6.dport_be);
	k->hash = mr_flow_hash6(&k->k6, seed);
#undef SWAP
}

bool mr_key_equal(const struct mr_flow_key *a, const struct mr_flow_key *b)
{
	return a->family == 4 ? !memcmp(&a->k4, &b->k4, sizeof(a->k4)) : !memcmp(&a->k6, &b->k6, sizeof(a->k6));
}

/* ---- of a session ------------------------------------------------------------------------------------------------ */

/* The key of a record that belongs to the session still. */
static bool record_key(
	const struct mr_flows *flows, mr_flow_ref ref, uint8_t family, uint32_t idx, struct mr_flow_key *k)
{
	const struct mr_flow4 *r4 = family == 4 ? mr_flows_record4(flows, ref) : NULL;
	const struct mr_flow6 *r6 = family == 4 ? NULL : mr_flows_record6(flows, ref);
	struct mr_flow4 c4;
	struct mr_flow6 c6;
	bool copied = false;
	if (!r4 && !r6)
		return false;
	for (unsigned i = 0; i < TRIES && !copied; i++)
		copied = r4 ? mr_flow_copy(&c4, r4, &r4->st.seq, sizeof(c4) / 8)
			    : mr_flow_copy(&c6, r6, &r6->st.seq, sizeof(c6) / 8);
	if (!copied || (r4 ? c4.st.session : c6.st.session) != idx)
		return false;
	memset(k, 0, sizeof(*k));
	k->family = family;
	if (r4) {
		k->k4 = c4.key;
		k->k4.ingress = 0;
	} else {
		k->k6 = c6.key;
		k->k6.ingress = 0;
	}
	return true;
}

int mr_keys_of_session(
	struct mr_sessions *sessions, const struct mr_flows *flows, uint32_t idx, struct mr_flow_key out[2])
{
	const struct mr_session *s = mr_session_at(sessions, idx);
	if (__atomic_load_n(&s->state, __ATOMIC_ACQUIRE) == MR_SESSION_FREE)
		return -ENOENT;
	for (unsigned d = MR_FORWARD; d <= MR_REPLY; d++)
		if (!record_key(flows, __atomic_load_n(&s->ref[d], __ATOMIC_RELAXED), s->family, idx, &out[d]))
			return -ENOENT;
	return 0;
}

uint32_t mr_keys_holder(const struct mr_flows *flows, const struct mr_flow_key *k, enum mr_direction *dir)
{
	struct mr_flow4 *r4, c4;
	struct mr_flow6 *r6, c6;
	const struct mr_flow_state *st;
	if (k->family == 4 && mr_flows_lookup4(flows, &k->k4, &k->hash, 1, &r4, &c4))
		st = &c4.st;
	else if (k->family == 6 && mr_flows_lookup6(flows, &k->k6, &k->hash, 1, &r6, &c6))
		st = &c6.st;
	else
		return 0;
	*dir = st->flags & MR_FLOW_REPLY ? MR_REPLY : MR_FORWARD;
	return st->session;
}

/* ---- as tuples --------------------------------------------------------------------------------------------------- */

static void fill(const struct mr_flow_key *k, struct mr_tuple *t)
{
	memset(t, 0, sizeof(*t));
	t->family = k->family;
	if (k->family == 4) {
		t->ethertype = MR_ETH_IP4;
		t->zone = k->k4.zone;
		t->proto = k->k4.proto;
		memcpy(t->src, &k->k4.saddr_be, 4);
		memcpy(t->dst, &k->k4.daddr_be, 4);
		t->sport_be = k->k4.sport_be;
		t->dport_be = k->k4.dport_be;
	} else {
		t->ethertype = MR_ETH_IP6;
		t->zone = k->k6.zone;
		t->proto = k->k6.proto;
		memcpy(t->src, k->k6.saddr_be, 16);
		memcpy(t->dst, k->k6.daddr_be, 16);
		t->sport_be = k->k6.sport_be;
		t->dport_be = k->k6.dport_be;
	}
	t->has_ports = t->proto == MR_IP_TCP || t->proto == MR_IP_UDP || t->proto == MR_IP_SCTP;
}

static bool is_request(uint8_t family, uint16_t type)
{
	return family == 4 ? type == 8 || type == 13 || type == 15 || type == 17 : type == 128;
}

/* One end of a query's key is the type of the request (kern/flow.h): of a request's the destination, of a reply's the source. */
static void fill_type(struct mr_tuple *t, bool request)
{
	uint16_t type = mr_be16(request ? t->dport_be : t->sport_be);
	t->has_icmp = 1;
	if (request) {
		t->icmp_type = (uint8_t)type;
		t->dport_be = 0;
	} else {
		t->icmp_type = (uint8_t)(t->family == 6 ? 129 : type == 8 ? 0 : type + 1);
		t->sport_be = 0;
	}
}

void mr_keys_tuples(const struct mr_flow_key key[2], struct mr_tuple *forward, struct mr_tuple *reply)
{
	fill(&key[MR_FORWARD], forward);
	fill(&key[MR_REPLY], reply);
	if (forward->proto != (forward->family == 4 ? MR_IP_ICMP : MR_IP_ICMP6))
		return;
	/* The type is never translated.  Where the identifier looks like one and is not either, both readings are the same packets. */
	bool request = is_request(forward->family, mr_be16(forward->dport_be)) && forward->dport_be == reply->sport_be;
	fill_type(forward, request);
	fill_type(reply, !request);
}
