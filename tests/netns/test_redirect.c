/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_redirect.c - what core/redirect.h says of a device beside what becomes of frames redirected to it.
 *
 * A veth goes through every state that matters (GRO and XDP program of its peer, peer down); in each 64 live frames are redirected to it and
 * counted at the peer: all of them must arrive where it was called a target, none where it was not.  The same with a kernel that does not
 * tell, with the peer in another namespace and in the same.
 */
#include "core/redirect.h"
#include "redirect.skel.h"
#include "spaces.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES 64

static struct redirect_bpf *bpf;
static struct mr_redirect *redirect;

/* ---- frames ------------------------------------------------------------------------------------------------------ */

/* Redirects live frames to a device, the caller's namespace; how many its peer has received, by the counters of `peer` in `space`. */
static unsigned long long received(const char *space, const char *peer)
{
	char line[512], path[] = "/proc/net/dev";
	unsigned long long bytes, packets = 0;
	spaces_enter(space);
	FILE *f = fopen(path, "re"); /* of the process's main thread, which this is */
	while (f && fgets(line, sizeof(line), f)) {
		char *colon = strchr(line, ':'), *name = line + strspn(line, " ");
		if (!colon)
			continue;
		*colon = 0;
		if (!strcmp(name, peer))
			sscanf(colon + 1, "%llu %llu", &bytes, &packets);
	}
	if (f)
		fclose(f);
	spaces_enter("r");
	return packets;
}

static bool all_there(void *arg)
{
	const unsigned long long *want = arg;
	return received("b", "b0") == *want;
}

static unsigned send_frames(const char *device, const char *space, const char *peer)
{
	unsigned char frame[60] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5 };
	struct xdp_md ctx = { .data_end = sizeof(frame), .ingress_ifindex = if_nametoindex("r0") };
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = frame, .data_size_in = sizeof(frame), .ctx_in = &ctx,
		.ctx_size_in = sizeof(ctx), .repeat = FRAMES, .flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = 16);
	uint32_t key = 1, ifindex = if_nametoindex(device);
	unsigned long long before = received(space, peer), want = before + FRAMES;

	bpf->bss->send_id = key;
	if (bpf_map_update_elem(bpf_map__fd(bpf->maps.tier_devmap), &key, &ifindex, BPF_ANY) ||
		bpf_prog_test_run_opts(bpf_program__fd(bpf->progs.send), &o)) {
		tap_note("no live frames: %s", strerror(errno));
		return ~0u;
	}
	if (!strcmp(peer, "b0"))
		(void)spaces_wait(all_there, &want);
	return (unsigned)(received(space, peer) - before);
}

/* ---- answers ----------------------------------------------------------------------------------------------------- */

static bool heard(void)
{
	struct pollfd p = { .fd = mr_redirect_fd(redirect), .events = POLLIN };
	return poll(&p, 1, 5000) == 1 && mr_redirect_service(redirect);
}

static bool target(const char *device, const char *driver, char why[256])
{
	why[0] = 0;
	return mr_redirect_target(redirect, if_nametoindex(device), device, driver, why, 256);
}

struct state {
	const char *name;
	const char *command; /* in b */
	bool takes;
	bool announced;
	bool varies;     /* with the kernel: 6.18 needs GRO switched while the peer is up, 7.3 does not */
	bool wrongly;    /* the kernel may say it takes frames, and it does not */
	const char *why; /* part of the sentence */
};

#define GRO_HINT                                                                                           \
	"neither an XDP program nor GRO switched on (in its namespace, with the device up: ethtool -K b0 " \
	"gro off; ethtool -K b0 gro on)"
#define DOWN    "it or its peer b0 is down"
#define NO_TELL "has no XDP program, and whether it has GRO switched on Linux before 6.3 does not tell"

static const struct state states[] = {
	{ "fresh", "true", false, false, false, false, GRO_HINT },
	{ "GRO on", "ethtool -K b0 gro on", true, true, false, false, "" },
	{ "GRO on, peer down", "ip link set b0 down", false, false, false, false, DOWN },
	{ "up again", "ip link set b0 up", true, false, false, false, "" },
	{ "GRO off", "ethtool -K b0 gro off", false, true, false, false, GRO_HINT },
	{ "peer down, then GRO on", "ip link set b0 down; ethtool -K b0 gro on", false, false, false, false, DOWN },
	{ "and up: GRO shows as on", "ip link set b0 up", false, false, true, false, GRO_HINT },
	{ "what the sentence says", "ethtool -K b0 gro off; ethtool -K b0 gro on", true, true, false, false, "" },
	{ "peer down, then GRO off", "ip link set b0 down; ethtool -K b0 gro off", false, false, false, false, DOWN },
	{ "and up: GRO shows as off", "ip link set b0 up", false, false, false, true, GRO_HINT },
	{ "GRO on and off", "ethtool -K b0 gro on; ethtool -K b0 gro off", false, true, false, false, GRO_HINT },
};

/* Told, answers are what becomes of frames.  Untold, a target is one; what is none may take them nevertheless. */
static void walk(const struct state *s, unsigned cnt, bool told)
{
	char why[256];
	for (unsigned i = 0; i < cnt; i++, s++) {
		(void)mr_redirect_service(redirect);
		if (!spaces_run("b", "%s", s->command)) {
			tap_case(false, "%s: %s", s->name, s->command);
			continue;
		}
		if (told && s->announced)
			tap_case(heard(), "%s: the kernel announces it", s->name);
		bool is = target("r1", "veth", why);
		unsigned got = send_frames("r1", "b", "b0");
		const char *prefix = told ? "" : "untold, ";
		if (told && s->wrongly && is) {
			tap_note("%s: the kernel calls it a target; %u of %u frames arrive", s->name, got, FRAMES);
			continue;
		}
		bool expected = told && (s->varies ? is : s->takes);
		const char *part = told || !strcmp(s->why, DOWN) ? s->why : NO_TELL;
		tap_case(is == expected && (is || strstr(why, part)), "%s%s: %s%s%s", prefix, s->name,
			is ? "a target" : "no target", why[0] ? ": " : "", why);
		if (told || is)
			tap_case(got == (is ? FRAMES : 0u), "%s%s: %u of %u frames arrive", prefix, s->name, got,
				FRAMES);
	}
}

/* A program on the peer, native, then generic, then none. */
static void programs(bool told)
{
	static const struct {
		const char *name;
		unsigned flags;
		bool takes;
	} way[] = { { "native program", XDP_FLAGS_DRV_MODE, true }, { "generic program", XDP_FLAGS_SKB_MODE, false } };
	char why[256];
	for (unsigned i = 0; i < 2; i++) {
		spaces_enter("b");
		int ifindex = (int)if_nametoindex("b0");
		int err = bpf_xdp_attach(ifindex, bpf_program__fd(bpf->progs.count), way[i].flags, NULL);
		spaces_enter("r");
		tap_case(!err, "%s on the peer", way[i].name);
		if (told && way[i].takes)
			tap_case(heard(), "%s: announced", way[i].name);
		tap_case(target("r1", "veth", why) == way[i].takes, "%s%s: %s", told ? "" : "untold, ", way[i].name,
			why);
		uint64_t before = bpf->bss->counted;
		(void)send_frames("r1", "b", "b0");
		/* a generic program sees what the stack does: nothing, as nothing was taken */
		tap_case(bpf->bss->counted - before == (way[i].takes ? FRAMES : 0u), "%s: %llu of %u frames counted",
			way[i].name, (unsigned long long)(bpf->bss->counted - before), FRAMES);
		spaces_enter("b");
		bpf_xdp_detach(ifindex, way[i].flags, NULL);
		spaces_enter("r");
		if (told && way[i].takes)
			tap_case(heard(), "%s gone: announced", way[i].name);
		tap_case(!target("r1", "veth", why), "%s gone: %s", way[i].name, why);
	}
}

static bool make_here(unsigned queue_cnt, unsigned peer_queue_cnt)
{
	(void)spaces_run("r", "ip link del s0");
	return spaces_run("r",
		"ip link add s0 numrxqueues %u numtxqueues %u type veth peer name s1 numrxqueues %u numtxqueues %u &&"
		"echo 1 >/proc/sys/net/ipv6/conf/s0/disable_ipv6 && ip link set s0 up && ip link set s1 up",
		queue_cnt, queue_cnt, peer_queue_cnt, peer_queue_cnt);
}

/* Both ends in r; also with queues that do not fit, which the kernel allows no XDP program. */
static void same_namespace(bool told)
{
	const char *prefix = told ? "" : "untold, ";
	char why[256];
	for (unsigned peer_queues = 1; peer_queues <= 2; peer_queues++) {
		bool made = make_here(1, peer_queues);
		tap_case(
			made && !target("s0", "veth", why) && strstr(why, "(with the device up: ethtool -K s1 gro off"),
			"%speer with %u queues here: %s", prefix, peer_queues, why);
		tap_case(send_frames("s0", "r", "s1") == 0, "none arrive");
		tap_case(spaces_run("r", "ethtool -K s1 gro on") && target("s0", "veth", why),
			"%speer here, GRO on: a target %s", prefix, why);
		tap_case(send_frames("s0", "r", "s1") == FRAMES, "all arrive");
		(void)spaces_run("r", "ip link set s1 down; ethtool -K s1 gro off; ip link set s1 up");
		tap_case(!target("s0", "veth", why), "%sGRO switched off while it was down: %s", prefix, why);
		tap_case(send_frames("s0", "r", "s1") == 0, "none arrive");
	}
	(void)spaces_run("r", "ip link del s0");
}

/* Devices of other kinds: as many as this kernel has. */
static void others(bool told)
{
	static const struct {
		const char *kind, *make, *driver, *why;
		bool takes;
	} other[] = {
		{ "dummy", "ip link add o0 type dummy", "dummy", "sends no frames that XDP redirects", false },
		{ "bridge", "ip link add o0 type bridge", "bridge", "sends no frames that XDP redirects", false },
		{ "bond without members", "ip link add o0 type bond", "bonding", "only while an XDP program", false },
		{ "tap", "ip tuntap add o0 mode tap", "tun", "", true },
	};
	char why[256];
	unsigned cnt = 0;
	for (unsigned i = 0; i < sizeof(other) / sizeof(*other); i++) {
		if (!spaces_run("r", "%s", other[i].make)) {
			tap_note("this kernel has no %s", other[i].kind);
			continue;
		}
		bool is = target("o0", other[i].driver, why);
		tap_case(is == other[i].takes && strstr(why, other[i].why), "%s%s: %s", told ? "" : "untold, ",
			other[i].kind, why);
		(void)spaces_run("r", "ip link del o0 2>/dev/null || ip tuntap del o0 mode tap");
		cnt++;
	}
	tap_case(cnt > 0, "%u kinds of other devices", cnt);
	tap_case(!mr_redirect_target(redirect, 987654, "gone0", "veth", why, sizeof(why)) && strstr(why, "gone0"),
		"gone: %s", why);
}

int main(void)
{
	struct mr_error e = { 0 };

	spaces_begin("redirect");
	spaces_wire(1);
	(void)spaces_run(
		"b", "ip link set b0 down; echo 1 >/proc/sys/net/ipv6/conf/b0/disable_ipv6; ip link set b0 up");
	(void)spaces_run("r", "echo 1 >/proc/sys/net/ipv6/conf/r1/disable_ipv6");
	bpf = redirect_bpf__open_and_load();
	if (!bpf) {
		printf("1..0 # SKIP no BPF programs here: %s\n", strerror(errno));
		return 77;
	}
	int err = mr_redirect_open(&redirect, &e);
	tap_case(!err, "opened %s", e.text);
	if (err)
		return tap_end();
	(void)mr_redirect_service(redirect);
	if (mr_redirect_fd(redirect) >= 0) {
		walk(states, sizeof(states) / sizeof(*states), true);
		programs(true);
		same_namespace(true);
		others(true);
		mr_redirect_untold(redirect);
	} else {
		tap_note("this kernel tells nothing: only what is found out without it is tested");
	}
	tap_case(mr_redirect_fd(redirect) == -1 && !mr_redirect_service(redirect), "untold: nothing to hear");
	walk(states, sizeof(states) / sizeof(*states), false);
	programs(false);
	same_namespace(false);
	others(false);
	mr_redirect_close(redirect);
	mr_redirect_close(NULL);
	redirect_bpf__destroy(bpf);
	return tap_end();
}
