/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_xmit.c - core/xmit.h counts each frame that an egress did not take, and no other.
 *
 * redirect.bpf.c stands for the kernel tier: live frames go by its devmap from r0 to r1, or come in at r0 and are turned round.  In every case
 * what was given to the egress is what its peer counted and what is said to be lost, to the frame.
 */
#include "core/device.h"
#include "core/tier.h"
#include "core/xmit.h"
#include "kern/tier.h"
#include "redirect.skel.h"
#include "spaces.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IN   5 /* ids of r0 and r1 */
#define OUT  7
#define PAIR 3 /* of r0 */
#define BACK 4

static struct redirect_bpf *bpf;
static struct mr_xmit *xmit;

/* ---- counters ------------------------------------------------------------------------------------------------------ */

static struct mr_tier_egress egress_sum(uint32_t id)
{
	static struct mr_tier_egress cell[1024];
	struct mr_tier_egress sum = { 0 };
	memset(cell, 0, sizeof(cell));
	if (libbpf_num_possible_cpus() > 1024 || bpf_map_lookup_elem(bpf_map__fd(bpf->maps.tier_egress), &id, cell))
		tap_case(false, "reading egress %u", id);
	for (int i = 0; i < libbpf_num_possible_cpus(); i++)
		mr_tier_egress_add(&sum, &cell[i]);
	return sum;
}

static uint64_t pair_lost(uint32_t pair)
{
	static struct mr_tier_pair cell[1024];
	uint64_t sum = 0;
	memset(cell, 0, sizeof(cell));
	if (bpf_map_lookup_elem(bpf_map__fd(bpf->maps.tier_pairs), &pair, cell))
		tap_case(false, "reading pair %u", pair);
	for (int i = 0; i < libbpf_num_possible_cpus(); i++)
		sum += cell[i].lost_packets;
	return sum;
}

struct now {
	uint64_t sent, lost, pair, counted, turned;
	uint32_t refused;
	int refused_errno;
};

static struct now now(uint32_t id, uint32_t pair)
{
	struct mr_tier_egress e = egress_sum(id);
	return (struct now){ .sent = e.sent_packets,
		.lost = e.lost_packets,
		.refused = e.refused,
		.refused_errno = e.refused_errno,
		.pair = pair_lost(pair),
		.counted = __atomic_load_n(&bpf->bss->counted, __ATOMIC_RELAXED),
		.turned = __atomic_load_n(&bpf->bss->turned, __ATOMIC_RELAXED) };
}

/* ---- frames -------------------------------------------------------------------------------------------------------- */

static int run(struct bpf_program *prog, const char *from, unsigned cnt, unsigned bytes)
{
	static unsigned char frame[2000] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5 };
	struct xdp_md ctx = { .data_end = bytes, .ingress_ifindex = if_nametoindex(from) };
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = frame, .data_size_in = bytes, .ctx_in = &ctx,
		.ctx_size_in = sizeof(ctx), .repeat = (int)cnt, .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = 256);
	return bpf_prog_test_run_opts(bpf_program__fd(prog), &o);
}

static int aim(struct bpf_map *devmap, uint32_t id, const char *device)
{
	uint32_t ifindex = if_nametoindex(device);
	bpf->bss->send_id = id;
	bpf->bss->send_pair = PAIR;
	return bpf_map_update_elem(bpf_map__fd(devmap), &id, &ifindex, BPF_ANY);
}

struct settled {
	uint32_t id, pair;
	struct now from;
};

static bool is_settled(void *arg)
{
	const struct settled *s = arg;
	struct now n = now(s->id, s->pair);
	return n.sent - s->from.sent == n.counted - s->from.counted + n.lost - s->from.lost;
}

/* sent == counted + lost, lost of the egress == lost of the pair; returns what changed. */
static struct now settle(const char *what, uint32_t id, uint32_t pair, struct now from)
{
	struct settled s = { id, pair, from };
	bool equal = spaces_wait(is_settled, &s);
	struct now n = now(id, pair),
		   d = { n.sent - from.sent, n.lost - from.lost, n.pair - from.pair, n.counted - from.counted,
			   n.turned - from.turned, n.refused - from.refused, n.refused_errno };
	tap_case(equal && d.pair == d.lost, "%s: %llu sent = %llu counted + %llu lost, %llu of the pair", what,
		(unsigned long long)d.sent, (unsigned long long)d.counted, (unsigned long long)d.lost,
		(unsigned long long)d.pair);
	return d;
}

/* ---- cases ----------------------------------------------------------------------------------------------------------- */

static void attach(const char *space, const char *device, struct bpf_program *prog, bool on)
{
	spaces_enter(space);
	int ifindex = (int)if_nametoindex(device);
	int err = on ? bpf_xdp_attach(ifindex, bpf_program__fd(prog), XDP_FLAGS_DRV_MODE, NULL)
		     : bpf_xdp_detach(ifindex, XDP_FLAGS_DRV_MODE, NULL);
	spaces_enter("r");
	if (err)
		tap_case(false, "program on %s: %s", device, strerror(-err));
}

/* Until the peer's ring of 256 has once been full. */
static void overflow(void)
{
	struct now before = now(OUT, PAIR), d = { 0 };
	for (unsigned i = 0; i < 200 && !d.lost; i++) {
		if (run(bpf->progs.send, "r0", 65536, 60)) {
			tap_case(false, "live frames: %s", strerror(errno));
			return;
		}
		d.lost = now(OUT, PAIR).lost - before.lost;
	}
	d = settle("more than the ring takes", OUT, PAIR, before);
	tap_case(d.lost > 0, "some were lost: %llu", (unsigned long long)d.lost);
	tap_case(!d.refused, "which is no refusal");
}

static void redirects(void)
{
	struct now before = now(OUT, PAIR), d;
	attach("b", "b0", bpf->progs.count, true);
	tap_case(!aim(bpf->maps.tier_devmap, OUT, "r1") && !run(bpf->progs.send, "r0", 100, 60), "100 frames");
	d = settle("a few", OUT, PAIR, before);
	tap_case(d.counted == 100 && !d.lost, "all arrive");
	overflow();

	before = now(OUT, PAIR);
	tap_case(!run(bpf->progs.send, "r0", 50, 1600), "50 frames larger than the MTU");
	d = settle("too large", OUT, PAIR, before);
	tap_case(d.lost == 50 && !d.refused, "all lost, no refusal");

	before = now(OUT, PAIR);
	(void)spaces_run("b", "ip link set b0 down");
	tap_case(!run(bpf->progs.send, "r0", 50, 60), "50 frames to a peer that is down");
	d = settle("peer down", OUT, PAIR, before);
	tap_case(d.lost == 50 && d.refused > 0 && d.refused_errno == ENXIO, "all lost, refused %u times: %s", d.refused,
		strerror(d.refused_errno));
	(void)spaces_run("b", "ip link set b0 up");

	before = now(OUT, PAIR);
	attach("b", "b0", NULL, false);
	tap_case(!run(bpf->progs.send, "r0", 50, 60), "50 frames to a peer without a program");
	d = settle("no target", OUT, PAIR, before);
	tap_case(d.lost == 50 && d.refused > 0, "all lost, refused %u times: %s", d.refused, strerror(d.refused_errno));
	attach("b", "b0", bpf->progs.count, true);

	before = now(OUT, PAIR);
	(void)spaces_run("r", "ip link set r1 down");
	tap_case(!run(bpf->progs.send, "r0", 50, 60), "50 frames to a device that is down");
	d = settle("down", OUT, PAIR, before);
	tap_case(d.lost == 50 && d.refused > 0 && d.refused_errno == ENETDOWN, "all lost, refused %u times: %s",
		d.refused, strerror(d.refused_errno));
	(void)spaces_run("r", "ip link set r1 up");
}

/* What is not ours is not counted. */
static void foreign(void)
{
	struct now before = now(OUT, PAIR), d;
	(void)spaces_run("b", "ip link set b0 down");
	(void)aim(bpf->maps.tier_devmap, OUT, "r1");
	(void)mr_xmit_device(xmit, if_nametoindex("r1"), 0);
	tap_case(!run(bpf->progs.send, "r0", 50, 60), "50 frames by a device that is none of ours any more");
	tap_case(now(OUT, PAIR).lost == before.lost, "not counted");
	(void)mr_xmit_device(xmit, if_nametoindex("r1"), OUT);
	(void)mr_xmit_device(xmit, if_nametoindex("r0"), 0);
	tap_case(!run(bpf->progs.send, "r0", 50, 60) && now(OUT, PAIR).lost == before.lost,
		"from one that is none of ours: neither");
	(void)mr_xmit_device(xmit, if_nametoindex("r0"), IN);
	(void)spaces_run("b", "ip link set b0 up");
	(void)aim(bpf->maps.other_devmap, OUT, "r1");
	tap_case(!run(bpf->progs.send_other, "r0", 50, 1600) && now(OUT, PAIR).lost == before.lost,
		"by another devmap: neither");
	struct mr_tier_egress e = egress_sum(OUT);
	tap_case(e.lost_packets == before.lost, "lost is as before");

	/* Another namespace's device with the same number as r1. */
	struct mr_xmit *elsewhere = NULL;
	struct mr_error err = { 0 };
	struct mr_xmit_maps maps = { bpf_map__fd(bpf->maps.tier_pairs), bpf_map__fd(bpf->maps.tier_egress),
		bpf_map__fd(bpf->maps.tier_devmap) };
	mr_xmit_unload(xmit);
	tap_case(!mr_xmit_load(&maps, mr_device_space() + 1000000, &elsewhere, &err), "loaded for another namespace %s",
		err.text);
	(void)mr_xmit_device(elsewhere, if_nametoindex("r0"), IN);
	(void)mr_xmit_device(elsewhere, if_nametoindex("r1"), OUT);
	(void)aim(bpf->maps.tier_devmap, OUT, "r1");
	tap_case(!run(bpf->progs.send, "r0", 50, 1600) && egress_sum(OUT).lost_packets == before.lost,
		"devices of another namespace are none of ours");
	mr_xmit_unload(elsewhere);
	d = now(OUT, PAIR);
	tap_case(!run(bpf->progs.send, "r0", 50, 1600) && egress_sum(OUT).lost_packets == d.lost,
		"unloaded: nothing is counted");
	tap_case(!mr_xmit_load(&maps, mr_device_space(), &xmit, &err), "loaded again %s", err.text);
	(void)mr_xmit_device(xmit, if_nametoindex("r0"), IN);
	(void)mr_xmit_device(xmit, if_nametoindex("r1"), OUT);
}

/* a0 ─► r0: turn ─► XDP_TX ─► a0, whose XDP program makes it take them; then not. */
static void turns(void)
{
	struct now before, d;
	attach("r", "r0", bpf->progs.turn, true);
	attach("a", "a0", bpf->progs.count, true);
	before = now(IN, BACK);
	spaces_enter("a");
	bool ran = !aim(bpf->maps.other_devmap, IN, "a0") && !run(bpf->progs.send_other, "a0", 200, 60);
	spaces_enter("r");
	tap_case(ran, "200 frames to be turned round");
	d = settle("XDP_TX", IN, BACK, before);
	tap_case(d.turned == 200 && d.counted == 200, "all come back");
	attach("a", "a0", NULL, false);
	before = now(IN, BACK);
	spaces_enter("a");
	ran = !run(bpf->progs.send_other, "a0", 200, 60);
	spaces_enter("r");
	tap_case(ran, "200 more, and nobody takes them");
	d = settle("XDP_TX", IN, BACK, before);
	tap_case(d.turned == 200 && d.lost == 200 && d.refused > 0, "all lost, refused %u times: %s", d.refused,
		strerror(d.refused_errno));
	attach("r", "r0", NULL, false);
}

int main(void)
{
	struct mr_error e = { 0 };

	spaces_begin("xmit");
	spaces_wire(1);
	bpf = redirect_bpf__open();
	if (bpf) {
		bpf->rodata->turn_id = IN;
		bpf->rodata->turn_pair = BACK;
	}
	if (!bpf || redirect_bpf__load(bpf)) {
		printf("1..0 # SKIP no BPF programs here: %s\n", strerror(errno));
		return 77;
	}
	struct mr_xmit_maps maps = { bpf_map__fd(bpf->maps.tier_pairs), bpf_map__fd(bpf->maps.tier_egress),
		bpf_map__fd(bpf->maps.tier_devmap) };
	struct mr_xmit_maps wrong = { maps.egress_fd, maps.pairs_fd, maps.devmap_fd };
	tap_case(mr_xmit_load(&wrong, mr_device_space(), &xmit, &e) == -EINVAL && !xmit, "maps of another shape: %s",
		e.text);
	wrong = (struct mr_xmit_maps){ maps.pairs_fd, maps.egress_fd, -1 };
	tap_case(mr_xmit_load(&wrong, mr_device_space(), &xmit, &e) < 0 && !xmit, "no devmap: %s", e.text);
	int err = mr_xmit_load(&maps, mr_device_space(), &xmit, &e);
	if (err == -EOPNOTSUPP) {
		printf("1..0 # SKIP %s\n", e.text);
		return 77;
	}
	tap_case(!err, "loaded %s", err ? e.text : "");
	if (err)
		return tap_end();
	tap_case(!mr_xmit_device(xmit, if_nametoindex("r0"), IN) && !mr_xmit_device(xmit, if_nametoindex("r1"), OUT) &&
			!mr_xmit_device(xmit, 12345, 0) && !mr_xmit_device(NULL, 1, 1),
		"devices told");
	redirects();
	foreign();
	turns();
	mr_xmit_unload(xmit);
	mr_xmit_unload(NULL);
	redirect_bpf__destroy(bpf);
	return tap_end();
}
