/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * keys.h - what the two keys of a session say.
 *
 *     forward packet comes in as FORWARD, leaves as the reverse of REPLY
 *     reply          comes in as REPLY,   leaves as the reverse of FORWARD
 *
 * Untranslated, one is the reverse of the other; where they differ is what is translated.
 */
#ifndef MR_CORE_KEYS_H
#define MR_CORE_KEYS_H

#include "core/session.h"
#include "millrace/stage.h"

/* Swaps the ends, and hashes anew. */
void mr_key_reverse(struct mr_flow_key *k, uint64_t seed);
bool mr_key_equal(const struct mr_flow_key *a, const struct mr_flow_key *b); /* of one family */

/* Its ends: addresses in network order, 4 or 16 bytes. */
static inline const uint8_t *mr_key_source(const struct mr_flow_key *k)
{
	return k->family == 4 ? (const uint8_t *)&k->k4.saddr_be : (const uint8_t *)k->k6.saddr_be;
}

static inline const uint8_t *mr_key_destination(const struct mr_flow_key *k)
{
	return k->family == 4 ? (const uint8_t *)&k->k4.daddr_be : (const uint8_t *)k->k6.daddr_be;
}

static inline uint16_t mr_key_sport(const struct mr_flow_key *k)
{
	return k->family == 4 ? k->k4.sport_be : k->k6.sport_be;
}

static inline uint16_t mr_key_dport(const struct mr_flow_key *k)
{
	return k->family == 4 ? k->k4.dport_be : k->k6.dport_be;
}

/*
 * The keys of session `idx` by direction (enum mr_direction), without hashes.  -ENOENT: it has ended.  Threads: as mr_session_at.
 */
int mr_keys_of_session(
	struct mr_sessions *sessions, const struct mr_flows *flows, uint32_t idx, struct mr_flow_key out[2]);

/* The session whose key this is, and the direction of that key; 0 = none has it.  Threads: any. */
uint32_t mr_keys_holder(const struct mr_flows *flows, const struct mr_flow_key *k, enum mr_direction *dir);

/* As stages see them: of ICMP queries the identifier and the type.  Threads: any. */
void mr_keys_tuples(const struct mr_flow_key key[2], struct mr_tuple *forward, struct mr_tuple *reply);

#endif
