/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

#include "core/explain_frame.h"
#include "core/handback.h"
#include "core/tier_table.h"
#include "core/timeouts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(ok, ...)                                \
	do {                                          \
		if (!(ok)) {                          \
			fprintf(stderr, __VA_ARGS__); \
			fputc('\n', stderr);          \
			abort();                      \
		}                                     \
	} while (0)

/* ---- lists ------------------------------------------------------------------------------------------------------ */

static struct rig_frame *list_add(struct rig_list *l)
{
	if (l->cnt == l->capacity) {
		l->capacity = l->capacity ? l->capacity * 2 : 64;
		l->frame = realloc(l->frame, l->capacity * sizeof(*l->frame));
		CHECK(l->frame, "no memory");
	}
	return &l->frame[l->cnt++];
}

static void list_put(struct rig_list *l, const void *data, uint32_t len)
{
	struct rig_frame *f = list_add(l);
	CHECK(len <= sizeof(f->data), "a frame of %u bytes", len);
	f->len = len;
	memcpy(f->data, data, len);
}

/* ---- queues ------------------------------------------------------------------------------------------------------ */

static unsigned queue_rx(struct mr_queue *q, struct mr_frame *f, unsigned n)
{
	struct rig_queue *r = (struct rig_queue *)q;
	uint64_t addr[64];
	uint64_t left = r->endless || r->lap ? r->endless : r->in.cnt - r->in.next;
	n = n < left ? n : left;
	n = mr_frames_take(r->magazine, addr, n);
	for (unsigned i = 0; i < n; i++) {
		const struct rig_frame *from = &r->in.frame[r->endless ? r->lap++ % r->in.cnt : r->in.next++];
		f[i] = (struct mr_frame){ .addr = addr[i] + 256, .len = from->len };
		memcpy(mr_frames_base(r->frames) + f[i].addr, from->data, from->len);
		mr_frames_tag(r->frames, addr[i], MR_OWNER_RX, q->interface_id, q->queue_idx);
	}
	if (r->endless)
		r->endless -= n;
	return n;
}

static unsigned queue_tx(struct mr_queue *q, const struct mr_frame *f, unsigned n)
{
	struct rig_queue *r = (struct rig_queue *)q;
	n = n < r->tx_room ? n : r->tx_room;
	if (r->tx_room != UINT32_MAX)
		r->tx_room -= n;
	for (unsigned i = 0; i < n; i++) {
		if (r->discard)
			r->out.cnt++;
		else
			list_put(&r->out, mr_frames_base(r->frames) + f[i].addr, f[i].len);
		mr_frames_give(r->magazine, &f[i].addr, 1);
	}
	return n;
}

static void queue_service(struct mr_queue *q)
{
	((struct rig_queue *)q)->service_cnt++;
}

static int queue_fd(const struct mr_queue *q)
{
	return -1;
}

static bool queue_drained(const struct mr_queue *q)
{
	const struct rig_queue *r = (const struct rig_queue *)q;
	return !r->endless && (r->lap || r->in.next == r->in.cnt);
}

static const struct mr_interface_ops ops = {
	.abi = MR_INTERFACE_ABI,
	.name = "rig",
	.rx = queue_rx,
	.tx = queue_tx,
	.service = queue_service,
	.fd = queue_fd,
	.drained = queue_drained,
};

/* In place of core/interface.c and core/handback.c. */
unsigned mr_interface_queue_cnt(const struct mr_interface *i)
{
	return i->queue_cnt;
}

struct mr_queue *mr_interface_queue(struct mr_interface *i, unsigned queue_idx)
{
	return &i->queue[queue_idx].queue;
}

const struct mr_interface_info *mr_interface_info(const struct mr_interface *i)
{
	return &i->info;
}

int mr_handback_send(struct mr_handback *h, const void *frame, uint32_t len)
{
	if (!h->answer)
		list_put(&h->taken, frame, len);
	return h->answer;
}

/* ---- life --------------------------------------------------------------------------------------------------------- */

static struct mr_config *read_config(const char *yaml)
{
	struct mr_error e = { 0 };
	struct mr_config *c;
	int err = mr_config_read_text(yaml, strlen(yaml), "test.yaml", ".", &c, &e);
	CHECK(!err, "%s", e.text);
	return c;
}

static void fill_env(struct rig *r, const struct mr_config *c, struct mr_plan_env *env)
{
	memset(env, 0, sizeof(*env));
	for (unsigned id = 1; id < 8; id++) {
		if (!r->name[id])
			continue;
		env->device[id].name = r->name[id];
		env->device[id].open = &r->interface[id];
		env->device[id].handback = &r->handback[id];
		env->device[id].link_down = r->down[id];
		memcpy(env->device[id].mac, r->mac[id], 6);
	}
	env->neighbours = r->sh.neighbours;
	env->routes = r->sh.routes;
	env->stats = r->sh.stats;
	env->nexthops = r->sh.nexthops;
	env->worker_cnt = r->sh.worker_cnt;
	env->serial = r->serial;
	env->previous = atomic_load(&r->sh.plan);
}

static const struct mr_config_timeouts timeouts = { .udp_ns = 300000000000ull,
	.udp_unreplied_ns = 30000000000ull,
	.tcp_established_ns = 7440000000000ull,
	.tcp_transitory_ns = 240000000000ull,
	.tcp_closed_ns = 10000000000ull,
	.icmp_ns = 60000000000ull,
	.other_ns = 600000000000ull };

static void follow_timeouts(struct rig *r, const struct mr_plan *plan)
{
	mr_timeouts_apply(plan->timeouts, r->sh.sessions);
	mr_sessions_configure(r->sh.sessions, &timeouts, r->half_open_max);
}

/* In force, though workers may still be in the one before. */
static struct mr_plan *put_in_force(struct rig *r, const char *yaml)
{
	struct mr_config *c = read_config(yaml);
	struct mr_plan_env *env = malloc(sizeof(*env));
	struct mr_error e = { 0 };
	struct mr_plan *plan, *old = atomic_load(&r->sh.plan);
	r->serial++;
	fill_env(r, c, env);
	int err = mr_plan_create(c, env, &plan, &e);
	CHECK(!err, "%s", e.text);
	if (old)
		mr_plan_adopt(plan, old);
	atomic_store(&r->sh.plan, plan);
	if (r->sh.tier)
		mr_tier_shared(r->sh.tier)->word = MR_TIER_WORD(plan->generation, r->serial & 1);
	free(env);
	return plan;
}

/* As mr_runtime_abandon(). */
void rig_give_up(struct rig *r, const char *yaml)
{
	struct mr_plan *old = atomic_load(&r->sh.plan), *plan = put_in_force(r, yaml);
	if (r->meanwhile)
		r->meanwhile(r);
	atomic_store(&r->sh.plan, old);
	plan->abandoned_stamp = mr_epoch_retire(r->sh.epoch);
	plan->abandoned_next = atomic_load(&r->sh.abandoned);
	atomic_store(&r->sh.abandoned, plan);
}

static void publish(struct rig *r, const char *yaml)
{
	struct mr_plan *old = atomic_load(&r->sh.plan), *plan = put_in_force(r, yaml);
	if (old) {
		CHECK(!mr_epoch_wait(r->sh.epoch, mr_epoch_retire(r->sh.epoch), 5000), "workers hold the old plan");
		if (r->meanwhile)
			r->meanwhile(r);
		mr_succession_walk(&r->sh, plan, old);
		CHECK(!mr_epoch_wait(r->sh.epoch, mr_epoch_retire(r->sh.epoch), 5000), "workers hold the old plan");
		mr_succession_count(plan, old, &r->succession);
		mr_succession_close(plan);
		mr_plan_destroy(old);
	}
	follow_timeouts(r, plan);
}

static void open_interfaces(struct rig *r, const char *yaml, unsigned queues)
{
	struct mr_config *c = read_config(yaml);
	for (unsigned i = 0; i < c->interface_cnt; i++) {
		unsigned id = i + 1;
		struct mr_nexthop nh = { .kind = MR_NH_WIRE, .egress = id, .mtu = 1500 };
		r->name[id] = strdup(c->interfaces[i].name);
		r->interface[id].queue_cnt = queues;
		r->interface[id].info = (struct mr_interface_info){
			.name = r->name[id], .kind = MR_INTERFACE_XSK, .mode = MR_MODE_COPY
		};
		for (unsigned q = 0; q < RIG_QUEUES; q++) {
			struct rig_queue *rq = &r->interface[id].queue[q];
			rq->queue.ops = &ops;
			rq->queue.interface_id = id;
			rq->queue.queue_idx = q;
			rq->queue.interface = &r->interface[id];
			rq->frames = r->sh.frames;
			rq->magazine = mr_frames_magazine(r->sh.frames, q % r->sh.worker_cnt);
			rq->tx_room = UINT32_MAX;
		}
		mr_nexthops_set(r->sh.nexthops, id, &nh);
	}
	mr_config_free(c);
}

/* Memory as core/tier.c has it, and no map behind it. */
static struct mr_tier_maps *make_tier(void)
{
	struct mr_tier_maps *t = calloc(1, sizeof(*t));
	CHECK(t, "no memory");
	for (unsigned m = 0; m < MR_TIER_MAP_CNT; m++)
		t->fd[m] = -1;
	t->at[MR_TIER_MAP_TIER] = calloc(1, sizeof(struct mr_tier));
	CHECK(t->at[MR_TIER_MAP_TIER], "no memory");
	for (unsigned id = 1; id < MR_TIER_EGRESS; id++)
		t->egress[id] = id;
	return t;
}

void rig_takes(struct rig *r, const char *interface, bool takes)
{
	r->sh.tier->egress[rig_id(r, interface)] = takes;
}

struct rig *rig_create(const char *yaml, const struct rig_options *opt)
{
	static const struct rig_options none;
	struct rig *r = calloc(1, sizeof(*r));
	struct mr_error e = { 0 };
	if (!opt)
		opt = &none;
	CHECK(r, "no memory");
	unsigned workers = opt->worker_cnt ? opt->worker_cnt : 1;
	uint32_t sessions = opt->sessions ? opt->sessions : 4096;
	struct mr_frames_options fo = {
		.frame_cnt = opt->frames ? opt->frames : 1024, .frame_bytes = 2048, .worker_cnt = workers
	};
	struct mr_flows_options lo = {
		.capacity4 = 2 * sessions, .capacity6 = 2 * sessions, .seed = 0x1234567890abcdefULL
	};
	CHECK(!mr_frames_create(&fo, &r->sh.frames, &e), "%s", e.text);
	CHECK(!mr_flows_create(&lo, &r->sh.flows, &e), "%s", e.text);
	r->half_open_max = opt->half_open_max ? opt->half_open_max : sessions;
	r->sh.worker_cnt = workers;
	r->sh.epoch = mr_epoch_create();
	r->sh.stats = mr_stats_create(workers);
	r->sh.nexthops = mr_nexthops_create(NULL);
	r->sh.handoff = mr_handoff_create(workers);
	r->sh.idle = (struct mr_config_workers){ .idle = MR_IDLE_ADAPTIVE, .spin_ns = 20000 };
	struct mr_sessions_options so = { .capacity = sessions,
		.half_open_max = r->half_open_max,
		.worker_cnt = workers,
		.flows = r->sh.flows,
		.epoch = r->sh.epoch,
		.timeouts = timeouts };
	CHECK(!mr_sessions_create(&so, &r->sh.sessions, &e), "%s", e.text);
	mr_sessions_on_expire(r->sh.sessions, mr_succession_ended, &r->sh);
	if (opt->route)
		opt->route(&r->sh);
	if (opt->tier)
		r->sh.tier = make_tier();
	open_interfaces(r, yaml, opt->queues ? opt->queues : workers);
	publish(r, yaml);
	for (unsigned w = 0; w < workers; w++)
		CHECK(!mr_worker_create(&r->sh, w, &r->worker[w], &e), "%s", e.text);
	return r;
}

void rig_destroy(struct rig *r)
{
	for (unsigned w = 0; w < r->sh.worker_cnt; w++)
		mr_worker_stop(r->worker[w]);
	for (unsigned w = 0; w < r->sh.worker_cnt; w++)
		mr_worker_destroy(r->worker[w]);
	mr_plan_destroy(atomic_load(&r->sh.plan));
	for (struct mr_plan *p = atomic_load(&r->sh.abandoned), *next; p; p = next) {
		next = p->abandoned_next;
		mr_plan_destroy(p);
	}
	mr_sessions_destroy(r->sh.sessions);
	mr_flows_destroy(r->sh.flows);
	mr_handoff_destroy(r->sh.handoff);
	mr_nexthops_destroy(r->sh.nexthops);
	mr_stats_destroy(r->sh.stats);
	mr_epoch_destroy(r->sh.epoch);
	mr_frames_destroy(r->sh.frames);
	if (r->sh.tier)
		free(r->sh.tier->at[MR_TIER_MAP_TIER]);
	free(r->sh.tier);
	for (unsigned id = 0; id < 8; id++) {
		free(r->name[id]);
		free(r->handback[id].taken.frame);
		for (unsigned q = 0; q < RIG_QUEUES; q++) {
			free(r->interface[id].queue[q].in.frame);
			free(r->interface[id].queue[q].out.frame);
		}
	}
	free(r);
}

void rig_reload(struct rig *r, const char *yaml)
{
	publish(r, yaml);
}

void rig_refresh(struct rig *r)
{
	struct mr_plan *old = atomic_load(&r->sh.plan), *plan;
	struct mr_plan_env *env = malloc(sizeof(*env));
	struct mr_error e = { 0 };
	fill_env(r, old->config, env);
	CHECK(!mr_plan_refresh(old, env, &plan, &e), "%s", e.text);
	atomic_store(&r->sh.plan, plan);
	CHECK(!mr_epoch_wait(r->sh.epoch, mr_epoch_retire(r->sh.epoch), 5000), "workers hold the old plan");
	mr_plan_free_shell(old);
	free(env);
}

struct mr_plan *rig_plan(struct rig *r)
{
	return atomic_load(&r->sh.plan);
}

unsigned rig_id(struct rig *r, const char *interface)
{
	for (unsigned id = 1; id < 8; id++)
		if (r->name[id] && !strcmp(r->name[id], interface))
			return id;
	CHECK(false, "no interface %s", interface);
	return 0;
}

/* ---- packets ------------------------------------------------------------------------------------------------------- */

void rig_inject(struct rig *r, const char *interface, unsigned queue, const void *frame, uint32_t len)
{
	list_put(&r->interface[rig_id(r, interface)].queue[queue].in, frame, len);
}

void rig_say(struct rig *r, const char *interface, const char *packet)
{
	uint8_t frame[MR_EXPLAIN_FRAME_MAX];
	struct mr_explain_packet p;
	struct mr_error e = { 0 };
	CHECK(!mr_explain_frame_parse(packet, &p, &e), "%s: %s", packet, e.text);
	int len = mr_explain_frame_build(&p, frame, sizeof(frame), &e);
	CHECK(len > 0, "%s: %s", packet, e.text);
	rig_inject(r, interface, 0, frame, len);
}

void rig_turn(struct rig *r)
{
	for (unsigned quiet = 0; quiet < 2;) {
		unsigned got = 0;
		for (unsigned w = 0; w < r->sh.worker_cnt; w++)
			got += mr_worker_poll(r->worker[w]);
		quiet = got ? 0 : quiet + 1;
	}
}

unsigned rig_sent(struct rig *r, const char *interface)
{
	struct mr_interface *i = &r->interface[rig_id(r, interface)];
	unsigned n = 0;
	for (unsigned q = 0; q < RIG_QUEUES; q++) {
		n += i->queue[q].out.cnt;
		i->queue[q].out.cnt = 0;
	}
	return n;
}

const struct rig_frame *rig_last(struct rig *r, const char *interface)
{
	struct rig_queue *q = &r->interface[rig_id(r, interface)].queue[0];
	return q->out.cnt ? &q->out.frame[q->out.cnt - 1] : NULL;
}

unsigned rig_kernel(struct rig *r, const char *interface)
{
	struct mr_handback *h = &r->handback[rig_id(r, interface)];
	unsigned n = h->taken.cnt;
	h->taken.cnt = 0;
	return n;
}

/* ---- counters ------------------------------------------------------------------------------------------------------ */

struct mr_stats_ingress rig_stats(struct rig *r, const char *interface, const char *pipeline)
{
	struct mr_stats_ingress s;
	mr_stats_ingress_sum(r->sh.stats, mr_stats_ingress_id(r->sh.stats, interface, pipeline), &s);
	return s;
}

uint64_t rig_dropped(struct rig *r, const char *interface, const char *pipeline, const char *reason)
{
	struct mr_stats_ingress s = rig_stats(r, interface, pipeline);
	for (unsigned i = 0; i < MR_REASON_CNT; i++) {
		const char *name = mr_stats_reason_name(r->sh.stats, i);
		if (name && !strcmp(name, reason))
			return s.dropped[i];
	}
	CHECK(false, "no reason is called %s", reason);
	return 0;
}

uint64_t rig_counter(struct rig *r, const char *name)
{
	return mr_stats_counter_sum(r->sh.stats, mr_stats_counter_id(r->sh.stats, name)).packets;
}

/* What came in of a pair and has no outcome. */
static int64_t unfinished(struct rig *r, unsigned id)
{
	struct mr_stats_ingress s;
	uint64_t out = 0;
	mr_stats_ingress_sum(r->sh.stats, id, &s);
	for (unsigned i = 0; i < MR_REASON_CNT; i++)
		out += s.dropped[i];
	return (int64_t)(s.received.packets - out - s.forwarded.packets - s.kernel.packets);
}

bool rig_adds_up(struct rig *r)
{
	struct mr_frames_census census;
	bool ok = true;
	for (unsigned id = 0; id < MR_STATS_INGRESS; id++) {
		const char *interface = mr_stats_ingress_interface(r->sh.stats, id);
		int64_t left = interface || id == MR_STATS_OWN ? unfinished(r, id) : 0;
		if (!left)
			continue;
		fprintf(stderr, "%s/%s: %lld packets without an outcome\n", interface ? interface : "own",
			interface ? mr_stats_ingress_pipeline(r->sh.stats, id) : "", (long long)left);
		ok = false;
	}
	mr_frames_count(r->sh.frames, &census);
	if (census.by_owner_cnt[MR_OWNER_POOL] == census.total_cnt)
		return ok;
	fprintf(stderr, "%u of %u frames are in the pool\n", census.by_owner_cnt[MR_OWNER_POOL], census.total_cnt);
	return false;
}

bool rig_adds_up_holding(struct rig *r)
{
	struct mr_frames_census census;
	int64_t held = 0, left = 0;
	for (unsigned w = 0; w < r->sh.worker_cnt; w++)
		held += (int64_t)mr_stats_worker(r->sh.stats, w)->held;
	for (unsigned id = 0; id < MR_STATS_INGRESS; id++)
		left += unfinished(r, id);
	mr_frames_count(r->sh.frames, &census);
	if (left == held && census.by_owner_cnt[MR_OWNER_HELD] == held &&
		census.by_owner_cnt[MR_OWNER_POOL] + held == census.total_cnt)
		return true;
	fprintf(stderr, "%lld packets without an outcome, %lld held, %u frames held, %u of %u in the pool\n",
		(long long)left, (long long)held, census.by_owner_cnt[MR_OWNER_HELD],
		census.by_owner_cnt[MR_OWNER_POOL], census.total_cnt);
	return false;
}
