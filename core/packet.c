/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * packet.c - what stages may ask of a packet and say about it (millrace/stage.h).
 *
 * The rule of the whole program is kept here: what is not a function of the flow key marks the decision as this packet's only.
 */
#include "core/decide.h"
#include "core/icmp.h"
#include "core/keys.h"
#include "core/layout.h"
#include "core/mss.h"
#include "core/route.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define REJECT_MS_MAX 3600000 /* an answer after an hour answers nothing */

bool mr_packet_key(const struct mr_parsed *p, const void *data, uint16_t zone, uint64_t seed, struct mr_flow_key *out)
{
	if (!mr_parse_has_key(p))
		return false;
	if (p->flags & MR_PKT_IP4) {
		out->family = 4;
		mr_parse_key4(p, data, zone, &out->k4);
		out->hash = mr_flow_hash4(&out->k4, seed);
		return true;
	}
	out->family = 6;
	mr_parse_key6(p, data, zone, &out->k6);
	out->hash = mr_flow_hash6(&out->k6, seed);
	return true;
}

bool mr_parsed_is_request(const struct mr_parsed *h)
{
	return h->flags & MR_PKT_IP4 ? h->icmp_type == 8 || h->icmp_type & 1 : h->icmp_type == 128;
}

/* The identifier of an ICMP query is the end of its key that is not the type: the source of a request, the destination of a reply. */
static bool is_query(const struct mr_parsed *h, bool request)
{
	if (!(h->flags & MR_PKT_ICMP_QUERY))
		return false;
	return request == mr_parsed_is_request(h);
}

bool mr_packet_is_query(const struct mr_packet *p, bool request)
{
	return is_query(p->parsed, request);
}

static void tuple_fill(struct mr_tuple *t, const struct mr_parsed *p, const uint8_t *data, uint16_t zone)
{
	memset(t, 0, sizeof(*t));
	t->zone = zone;
	t->ethertype = p->ethertype;
	if (!(p->flags & (MR_PKT_IP4 | MR_PKT_IP6)))
		return;
	const uint8_t *ip = data + p->l3_off;
	t->family = p->flags & MR_PKT_IP4 ? 4 : 6;
	t->proto = p->proto;
	if (t->family == 4) {
		memcpy(t->src, ip + 12, 4);
		memcpy(t->dst, ip + 16, 4);
	} else {
		memcpy(t->src, ip + 8, 16);
		memcpy(t->dst, ip + 24, 16);
	}
	if (p->flags & MR_PKT_PORTS) {
		t->has_ports = 1;
		t->sport_be = p->sport_be;
		t->dport_be = p->dport_be;
	}
	if (p->flags & MR_PKT_ICMP) {
		t->has_icmp = 1;
		t->icmp_type = p->icmp_type;
	}
	if (is_query(p, true))
		t->sport_be = p->icmp_id_be;
	else if (is_query(p, false))
		t->dport_be = p->icmp_id_be;
}

/*
 * A query whose identifier is itself the type of a request (kern/flow.h): echo with id 13 and a timestamp reply with id 8 have one key,
 * and so have request and reply with id 8; so the type is not in it.
 */
static bool two_types(const struct mr_parsed *p)
{
	uint16_t id = mr_be16(p->icmp_id_be);
	if (!(p->flags & MR_PKT_ICMP_QUERY))
		return false;
	return p->flags & MR_PKT_IP4 ? id == 8 || id == 13 || id == 15 || id == 17 : id == 128;
}

void mr_packet_reset(struct mr_packet *p)
{
	tuple_fill(&p->tuple, p->parsed, p->data, p->zone);
	p->verdict = MR_VERDICT_GO;
	p->reason = MR_REASON_NONE;
	p->egress = 0;
	p->tunnel = 0;
	p->aside = false;
	p->one_way = p->keep = p->ends = p->private_used = p->effects_lost = false;
	p->timeouts = 0;
	p->translated = 0;
	p->related.found = false;
	p->mss = 0;
	p->reject = MR_ICMP_NONE;
	p->counter_cnt = p->meter_cnt = 0;
	p->ran = 0;
	p->this_packet_only = two_types(p->parsed);
	p->no_session = false;
	if (!p->session) {
		p->private = p->fresh;
		memset(p->fresh, 0, sizeof(p->fresh));
	}
}

/* A TCP segment that cannot begin a conversation: RST, SYN with ACK, and the combinations only scanners send; a fragment that is not first,
 * whose datagram opened one if it was to. */
static bool opens_nothing(const struct mr_parsed *p)
{
	return p->flags & MR_PKT_FRAG_LATER || !mr_session_opens(p->proto, p->tcp_flags);
}

void mr_packet_begin(struct mr_packet *p, const struct mr_pass *pass, const struct mr_frame *frame, uint8_t *data,
	const struct mr_parsed *parsed, unsigned interface_id, unsigned steer_pipeline)
{
	const struct mr_plan_interface *pi = &pass->plan->interface[interface_id];
	memset(p, 0, offsetof(struct mr_packet, fresh));
	p->pass = pass;
	p->frame = *frame;
	p->data = data;
	p->parsed = parsed;
	p->interface_id = interface_id;
	p->ingress = pi->ingress[steer_pipeline];
	p->pipeline = pi->pipeline[steer_pipeline];
	p->zone = mr_parse_zone(parsed, pi->zone, pi->vlan_mask);
	p->ref = MR_FLOW_NONE;
	p->attempts = 0;
	p->explanation = NULL;
	p->stateful = pass->plan->pipeline[p->pipeline].state == MR_STATE_SESSIONS &&
		mr_packet_key(parsed, data, p->zone, mr_flows_seed(pass->sh->flows), &p->key);
	if (!p->stateful)
		p->key.family = 0;
	mr_packet_reset(p);
}

static uint8_t state_of(const struct mr_session *s)
{
	return __atomic_load_n(&s->state, __ATOMIC_ACQUIRE);
}

/* What stages left in a session means nothing where another plan laid it out: it ends, or, made by a plan that is just taking over, is not ours. */
static bool can_go_on(const struct mr_packet *p, uint32_t idx, const struct mr_session *s)
{
	struct mr_shared *sh = p->pass->sh;
	const struct mr_plan *in_force = atomic_load_explicit(&sh->plan, memory_order_acquire);
	enum mr_layout layout = mr_layout_of(p->pass->plan, in_force, s);
	if (layout == MR_LAYOUT_OLD)
		mr_session_end(sh->sessions, p->pass->worker, idx, p->pass->now_ms);
	return layout == MR_LAYOUT_KNOWN;
}

bool mr_packet_attach(struct mr_packet *p, uint32_t session, uint16_t flags, uint16_t generation, mr_flow_ref ref)
{
	struct mr_session *s = mr_session_at(p->pass->sh->sessions, session);
	if (!session || state_of(s) == MR_SESSION_FREE || !can_go_on(p, session, s))
		return false;
	p->session = session;
	p->direction = flags & MR_FLOW_REPLY ? MR_REPLY : MR_FORWARD;
	p->record_flags = flags;
	p->record_generation = generation;
	p->stale = generation != p->pass->plan->generation;
	p->ref = ref;
	p->private = s->priv;
	p->opened_by = s->ingress;
	return true;
}

/* ---- batches ------------------------------------------------------------------------------------------------- */

unsigned mr_batch_cnt(const struct mr_batch *b)
{
	return b->cnt;
}

struct mr_packet *mr_batch_packet(const struct mr_batch *b, unsigned i)
{
	return b->packet[i];
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

const struct mr_tuple *mr_packet_tuple(const struct mr_packet *p)
{
	return &p->tuple;
}

unsigned mr_packet_interface(const struct mr_packet *p)
{
	return p->interface_id;
}

bool mr_packet_destination_changed(const struct mr_packet *p)
{
	return p->translated & MR_FLOW_DNAT;
}

static bool is_ip(const struct mr_packet *p)
{
	return p->parsed->flags & (MR_PKT_IP4 | MR_PKT_IP6);
}

uint32_t mr_packet_length(struct mr_packet *p)
{
	p->this_packet_only = true;
	return is_ip(p) ? p->parsed->l3_len : p->frame.len;
}

uint8_t mr_packet_dscp(struct mr_packet *p)
{
	p->this_packet_only = true;
	return p->parsed->tos >> 2;
}

uint8_t mr_packet_ttl(struct mr_packet *p)
{
	p->this_packet_only = true;
	return p->parsed->ttl;
}

uint8_t mr_packet_tcp_flags(struct mr_packet *p)
{
	p->this_packet_only = true;
	return p->parsed->tcp_flags;
}

enum mr_fragment mr_packet_fragment(struct mr_packet *p)
{
	p->this_packet_only = true;
	if (!(p->parsed->flags & MR_PKT_FRAG))
		return MR_FRAGMENT_NONE;
	return p->parsed->flags & MR_PKT_FRAG_LATER ? MR_FRAGMENT_LATER : MR_FRAGMENT_FIRST;
}

int mr_packet_vlan(struct mr_packet *p)
{
	p->this_packet_only = true;
	return p->parsed->vlan_cnt ? p->parsed->vlan_tci[0] & 0xfff : -1;
}

int mr_packet_icmp(struct mr_packet *p, uint8_t *type, uint8_t *code)
{
	if (!(p->parsed->flags & MR_PKT_ICMP))
		return -ENOENT;
	p->this_packet_only = true;
	*type = p->parsed->icmp_type;
	*code = p->parsed->icmp_code;
	return 0;
}

const uint8_t *mr_packet_data(struct mr_packet *p, uint32_t *len_bytes)
{
	p->this_packet_only = true;
	*len_bytes = p->frame.len;
	return p->data;
}

enum mr_conn_state mr_packet_state(struct mr_packet *p)
{
	struct mr_related quoted;
	if (p->session) {
		struct mr_session *s = mr_session_at(p->pass->sh->sessions, p->session);
		uint8_t state = state_of(s);
		/* A SYN after the end is a new conversation between the same ends, whichever of them sends it. */
		bool reopens = p->parsed->proto == MR_IP_TCP && (p->parsed->tcp_flags & 0x12) == 0x02 &&
			state > MR_SESSION_ESTABLISHED;
		/* A reply makes it established, by being one.  A RST before that does not. */
		if (!reopens &&
			(p->direction == MR_REPLY || (state >= MR_SESSION_ESTABLISHED && !mr_session_half_open(s))))
			return MR_CONN_ESTABLISHED;
		p->this_packet_only = true;
		return MR_CONN_NEW;
	}
	p->this_packet_only = true;
	if (p->pass->plan->pipeline[p->pipeline].state != MR_STATE_SESSIONS)
		return MR_CONN_UNTRACKED;
	if (p->parsed->flags & MR_PKT_ICMP_ERROR && p->parsed->flags & MR_PKT_FRAG_KNOWN)
		return MR_CONN_RELATED; /* what it quotes is in the first one, which passed or did not */
	if (p->parsed->flags & MR_PKT_ICMP_ERROR && is_ip(p))
		return p->related.found || mr_related_find(p, &quoted) ? MR_CONN_RELATED : MR_CONN_INVALID;
	if (!p->stateful || p->parsed->flags & MR_PKT_FRAG_LATER) /* which only joins the session of the first one */
		return MR_CONN_UNTRACKED;
	return opens_nothing(p->parsed) ? MR_CONN_INVALID : MR_CONN_NEW;
}

bool mr_packet_opens(const struct mr_packet *p)
{
	return p->stateful && !opens_nothing(p->parsed);
}

/* Whether this packet, decided, would open a session. */
static bool may_have_session(const struct mr_packet *p)
{
	return p->session || mr_packet_opens(p);
}

void *mr_packet_session(struct mr_packet *p)
{
	if (!may_have_session(p) || !p->private_bytes)
		return NULL;
	p->private_used = true;
	if (p->private_foreign) /* it was not asked when the session was made: another stage may have its bytes there */
		return memset(p->fresh + p->private_offset, 0, p->private_bytes);
	return p->private + p->private_offset;
}

int mr_packet_direction(const struct mr_packet *p)
{
	return p->direction;
}

bool mr_packet_session_exists(const struct mr_packet *p)
{
	return p->session != 0;
}

int mr_packet_session_tuples(const struct mr_packet *p, struct mr_tuple *forward, struct mr_tuple *reply)
{
	const struct mr_shared *sh = p->pass->sh;
	struct mr_flow_key key[2];
	if (!p->session || mr_keys_of_session(sh->sessions, sh->flows, p->session, key))
		return -ENOENT;
	mr_keys_tuples(key, forward, reply);
	return 0;
}

bool mr_packet_reply_taken(const struct mr_packet *p)
{
	const struct mr_flows *flows = p->pass->sh->flows;
	struct mr_flow_key reply;
	enum mr_direction dir;
	if (!p->key.family)
		return false;
	mr_decide_key_after(p, &p->key, &reply);
	mr_key_reverse(&reply, mr_flows_seed(flows));
	uint32_t holder = mr_keys_holder(flows, &reply, &dir);
	return holder && holder != p->session;
}

bool mr_packet_to_box(const struct mr_packet *p)
{
	const struct mr_routes *r = p->pass->sh->routes;
	return r && p->tuple.family && mr_routes_local(r, p->tuple.family, p->tuple.dst);
}

uint64_t mr_packet_time_ns(const struct mr_packet *p)
{
	return p->pass->now_ns;
}

/* ---- deciding ------------------------------------------------------------------------------------------------ */

void mr_decide_drop(struct mr_packet *p, unsigned reason)
{
	p->verdict = MR_VERDICT_DROP;
	p->reject = MR_ICMP_NONE;
	p->reason = reason && reason < MR_REASON_CNT ? reason : MR_REASON_STAGE;
}

void mr_decide_reject_later(struct mr_packet *p, unsigned reason, enum mr_reject with, uint32_t delay_ms)
{
	static const uint8_t kind[] = { [MR_REJECT_NET_UNREACHABLE] = MR_ICMP_NET_UNREACHABLE,
		[MR_REJECT_HOST_UNREACHABLE] = MR_ICMP_HOST_UNREACHABLE,
		[MR_REJECT_PORT_UNREACHABLE] = MR_ICMP_PORT_UNREACHABLE,
		[MR_REJECT_PROHIBITED] = MR_ICMP_ADMIN_PROHIBITED };
	mr_decide_drop(p, reason);
	p->reject = (unsigned)with < sizeof(kind) ? kind[with] : MR_ICMP_NONE;
	p->reject_ms = delay_ms < REJECT_MS_MAX ? delay_ms : REJECT_MS_MAX;
}

void mr_decide_reject(struct mr_packet *p, unsigned reason, enum mr_reject with)
{
	mr_decide_reject_later(p, reason, with, 0);
}

void mr_decide_tunnel(struct mr_packet *p, uint16_t tunnel)
{
	p->verdict = MR_VERDICT_TUNNEL;
	p->tunnel = tunnel;
}

void mr_decide_kernel(struct mr_packet *p)
{
	p->verdict = MR_VERDICT_KERNEL;
}

void mr_decide_interface(struct mr_packet *p, unsigned interface_id)
{
	p->verdict = MR_VERDICT_INTERFACE;
	p->egress = interface_id <= MR_MAX_INTERFACES ? interface_id : 0;
}

static void decide_address(struct mr_packet *p, uint8_t *addr, uint16_t *port, const uint8_t *to, int port_be)
{
	memcpy(addr, to, p->tuple.family == 4 ? 4 : 16);
	if (port_be != MR_PORT_KEEP && p->tuple.has_ports)
		*port = (uint16_t)port_be;
}

void mr_decide_source(struct mr_packet *p, const uint8_t *addr, int port_be)
{
	if (!p->tuple.family)
		return;
	decide_address(p, p->tuple.src, &p->tuple.sport_be, addr, port_be);
	if (port_be != MR_PORT_KEEP && is_query(p->parsed, true))
		p->tuple.sport_be = (uint16_t)port_be;
	p->translated |= MR_FLOW_SNAT;
}

void mr_decide_destination(struct mr_packet *p, const uint8_t *addr, int port_be)
{
	if (!p->tuple.family)
		return;
	decide_address(p, p->tuple.dst, &p->tuple.dport_be, addr, port_be);
	if (port_be != MR_PORT_KEEP && is_query(p->parsed, false))
		p->tuple.dport_be = (uint16_t)port_be;
	p->translated |= MR_FLOW_DNAT;
}

int mr_decide_related(struct mr_packet *p)
{
	struct mr_related *r = &p->related;
	if (r->found)
		return 0;
	p->this_packet_only = true;
	if (!mr_related_find(p, r))
		return -ENOENT;
	if (!r->changes)
		return 0;
	mr_decide_destination(p, mr_key_source(&r->was), MR_PORT_KEEP);
	if (r->source)
		mr_decide_source(p, mr_key_destination(&r->was), MR_PORT_KEEP);
	return 0;
}

/* Who gets the segment sends as large ones the way it came; 0: nobody knows how large. */
static uint32_t way_back_mss(const struct mr_packet *p)
{
	struct mr_nexthop wire;
	if (p->parsed->proto != MR_IP_TCP || !(p->parsed->tcp_flags & 0x02))
		return 0;
	mr_nexthops_get(p->pass->sh->nexthops, (uint16_t)p->interface_id, &wire);
	return mr_mss_fits(p->parsed, wire.mtu, 0);
}

void mr_decide_mss(struct mr_packet *p, uint16_t max_bytes)
{
	p->mss = mr_mss_both(p->mss, max_bytes ? max_bytes : MR_MSS_AUTO | way_back_mss(p));
}

void mr_decide_count(struct mr_packet *p, uint16_t counter)
{
	if (!counter)
		return;
	if (p->counter_cnt == MR_PACKET_COUNTERS)
		p->effects_lost = true;
	else
		p->counter[p->counter_cnt++] = counter;
}

void mr_decide_meter(struct mr_packet *p, uint16_t meter)
{
	if (!meter)
		return;
	if (p->meter_cnt == MR_PACKET_METERS)
		p->effects_lost = true;
	else
		p->meter[p->meter_cnt++] = meter;
}

void mr_decide_this_packet_only(struct mr_packet *p)
{
	p->this_packet_only = true;
}

void mr_decide_no_session(struct mr_packet *p)
{
	p->this_packet_only = true;
	p->no_session = true;
}

void mr_decide_timeouts(struct mr_packet *p, uint8_t timeouts)
{
	p->timeouts = timeouts;
}

void mr_decide_keep(struct mr_packet *p)
{
	p->keep = true;
}

void mr_decide_one_way(struct mr_packet *p)
{
	p->one_way = true;
}

bool mr_packet_explaining(const struct mr_packet *p)
{
	return p->explanation != NULL;
}

void mr_packet_explain(struct mr_packet *p, const char *fmt, ...)
{
	if (!p->explanation)
		return;
	size_t used = strlen(p->explanation->text), room = sizeof(p->explanation->text) - used;
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(p->explanation->text + used, room, fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n + 1 < room)
		memcpy(p->explanation->text + used + n, "\n", 2);
}
