/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interfaces on real devices: veth pairs in namespaces of their own.  Steering is a program of the test that sends every frame to the socket of its
 * queue, so that this test stands on its own; steer.bpf.c has its tests elsewhere.
 */
#include "core/attach.h"
#include "core/link.h"
#include "core/steer.h"
#include "core/xsk.h"
#include "tests/netns/forwarder.h"
#include "tests/netns/spaces.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/if_link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- steering of the test ----------------------------------------------------------------------------------- */

struct mr_steer {
	int map_fd, prog_fd;
};

static int tier_err;              /* what the kernel says to a program with the kernel tier */
static unsigned without_tier_cnt; /* programs loaded without */

static int program_load(int map_fd, const char *name)
{
	const struct bpf_insn insns[] = {
		{ .code = BPF_LDX | BPF_W | BPF_MEM,
			.dst_reg = 2,
			.src_reg = 1,
			.off = 16 }, /* xdp_md.rx_queue_index */
		{ .code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = 1, .src_reg = BPF_PSEUDO_MAP_FD, .imm = map_fd },
		{ 0 },
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect_map },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	return bpf_prog_load(BPF_PROG_TYPE_XDP, name, "Dual BSD/GPL", insns, sizeof(insns) / sizeof(insns[0]), NULL);
}

int mr_steer_load(const struct mr_steer_options *opt, struct mr_steer **out, struct mr_error *e)
{
	if (opt->tier && tier_err)
		return mr_error_set(e, tier_err, "refused with the kernel tier: %s", strerror(-tier_err));
	without_tier_cnt += !opt->tier;

	struct mr_steer *s = calloc(1, sizeof(*s));
	s->map_fd = bpf_map_create(BPF_MAP_TYPE_XSKMAP, "test_xsks", 4, 4, MR_MAX_QUEUES, NULL);
	s->prog_fd = s->map_fd < 0 ? -1 : program_load(s->map_fd, "test_steer");
	if (s->prog_fd < 0) {
		int err = -errno;
		free(s);
		return mr_error_set(e, err, "the test's program does not load: %s", strerror(-err));
	}
	*out = s;
	return 0;
}

void mr_steer_unload(struct mr_steer *s)
{
	if (!s)
		return;
	close(s->prog_fd);
	close(s->map_fd);
	free(s);
}

int mr_steer_prog_fd(const struct mr_steer *s)
{
	return s->prog_fd;
}

int mr_steer_xskmap_fd(const struct mr_steer *s)
{
	return s->map_fd;
}

/* It steers everything, always. */
int mr_steer_apply(struct mr_steer *s, const struct mr_steer_table *t, struct mr_error *e)
{
	return 0;
}

void mr_steer_set_unserved(struct mr_steer *s, bool drop)
{
}

/* ---- cases -------------------------------------------------------------------------------------------------- */

static void pause_ms(unsigned ms)
{
	nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l }, NULL);
}

static bool nothing_attached(const char *device)
{
	struct mr_device d;

	return !mr_device_query(device, &d, NULL) && !mr_attach_check_free(&d, NULL);
}

static bool open_both(struct forwarder *f, enum mr_mode mode)
{
	struct mr_error e = { { 0 } };

	if (forwarder_open(f, 0, "r0", mode, &e) || forwarder_open(f, 1, "r1", mode, &e)) {
		tap_note("%s", e.text);
		return false;
	}
	return true;
}

static void forward_case(const char *what, enum mr_mode mode, enum mr_mode expected, unsigned queue_cnt)
{
	struct forwarder f;

	spaces_wire(queue_cnt);
	forwarder_create(&f, 16384, queue_cnt);
	bool opened = open_both(&f, mode);
	tap_case(opened && mr_interface_info(f.port[0])->mode == expected &&
			mr_interface_queue_cnt(f.port[0]) == queue_cnt,
		"%s: opens with %u queue(s)", what, queue_cnt);
	if (opened && expected != MR_MODE_ZEROCOPY && mode == MR_MODE_AUTO)
		tap_case(strstr(mr_interface_info(f.port[0])->mode_why, "veth"),
			"%s: why it is not better names the driver: %s", what, mr_interface_info(f.port[0])->mode_why);
	forwarder_start(&f);
	tap_case(spaces_ping("10.77.0.2", 50), "%s: IPv4 crosses, 50 of 50", what);
	tap_case(spaces_ping("fd77::2", 50), "%s: IPv6 crosses, 50 of 50", what);
	for (unsigned cpu = 0; cpu < queue_cnt; cpu++)
		tap_case(spaces_run("a", "taskset -c %u ping -i 0.01 -c 30 -W 1 10.77.0.2 | grep -q \" 30 received\"",
				 cpu),
			"%s: from CPU %u, 30 of 30", what, cpu);
	tap_case(spaces_run("a", "ping -f -s 1400 -c 3000 10.77.0.2"), "%s: 3000 large packets as fast as they come",
		what);
	forwarder_stop(&f);
	uint64_t rx = 0, tx = 0;
	bool every_queue = true;
	for (unsigned q = 0; opened && q < queue_cnt; q++) {
		rx += mr_interface_queue(f.port[0], q)->counters.rx_packets;
		tx += mr_interface_queue(f.port[1], q)->counters.tx_packets;
		every_queue &= mr_interface_queue(f.port[0], q)->counters.rx_packets > 0;
	}
	tap_case(every_queue, "%s: every queue received", what);
	tap_case(rx >= 3000 && rx == tx, "%s: all that was received was sent (%lu, %lu)", what, (unsigned long)rx,
		(unsigned long)tx);
	tap_case(forwarder_sums(&f), "%s: frames sum to the pool", what);
	tap_case(forwarder_destroy(&f), "%s: every frame is back in the pool", what);
	tap_case(nothing_attached("r0") && nothing_attached("r1"), "%s: nothing is left attached", what);
}

static void refusal_case(const char *device, enum mr_mode mode, int expected, const char *word)
{
	struct forwarder f;
	struct mr_error e = { { 0 } };

	forwarder_create(&f, 1024, 1);
	int err = forwarder_open(&f, 0, device, mode, &e);
	tap_case(err == expected && strstr(e.text, word), "refused: %s", e.text);
	tap_case(forwarder_destroy(&f), "and no frame is missing");
}

static void refusals(void)
{
	spaces_wire(1);
	refusal_case("r0", MR_MODE_ZEROCOPY, -EOPNOTSUPP, "veth");
	tap_case(nothing_attached("r0"), "and nothing is left attached");
	refusal_case("r7", MR_MODE_AUTO, -ENODEV, "r7");
	(void)spaces_run("r", "ip link set r0 down");
	refusal_case("r0", MR_MODE_AUTO, -ENETDOWN, "ip link set dev r0 up");
	(void)spaces_run("r", "ip link set r0 up mtu 3000");
	refusal_case("r0", MR_MODE_AUTO, -EMSGSIZE, "frame_size to 4096");
	(void)spaces_run("r", "ip link set r0 mtu 9000");
	refusal_case("r0", MR_MODE_AUTO, -EMSGSIZE, "MTU to 1770");
	(void)spaces_run("r", "ip link set r0 mtu 1500");
	refusal_case("lo", MR_MODE_AUTO, -EOPNOTSUPP, "not an Ethernet device");
}

static void foreign_program(void)
{
	struct mr_device d;
	struct mr_attach a;

	spaces_wire(1);
	mr_attach_init(&a);
	int map_fd = bpf_map_create(BPF_MAP_TYPE_XSKMAP, "foreign_xsks", 4, 4, 1, NULL);
	int prog_fd = program_load(map_fd, "foreign");
	bool ready = !mr_device_query("r0", &d, NULL) && !mr_attach_prepare(&a, &d, false, NULL) &&
		!mr_attach_program(&a, prog_fd, true, NULL);
	tap_case(ready, "somebody else attaches a program");
	refusal_case("r0", MR_MODE_AUTO, -EBUSY, "foreign");
	tap_case(mr_attach_check_free(&d, NULL) == -EBUSY, "and it is still there");
	mr_attach_release(&a);
	tap_case(nothing_attached("r0"), "until its owner takes it off");
	close(prog_fd);
	close(map_fd);
}

static void starvation(unsigned queue_cnt)
{
	struct forwarder f;

	spaces_wire(queue_cnt);
	forwarder_create(&f, 64, queue_cnt);
	tap_case(open_both(&f, MR_MODE_COPY), "a pool of 64 frames opens with %u queue(s)", queue_cnt);
	/* nobody takes anything: the rings fill, the kernel drops */
	(void)spaces_run(
		"a", "ip neigh replace 10.77.0.2 lladdr 02:00:00:00:00:01 dev a0; ping -f -w 1 -c 2000 10.77.0.2");
	mr_interface_poll(f.port[0]);
	uint64_t dropped = 0;
	for (unsigned q = 0; q < queue_cnt; q++) {
		const struct mr_queue_counters *c = &mr_interface_queue(f.port[0], q)->counters;
		dropped += c->kernel_fill_empty + c->kernel_rx_dropped + c->kernel_rx_ring_full;
	}
	tap_case(dropped > 0, "a stopped consumer is counted by the kernel");
	tap_case(forwarder_sums(&f), "frames sum to the pool while stopped");
	(void)spaces_run("a", "ip neigh del 10.77.0.2 dev a0");
	forwarder_start(&f);
	tap_case(spaces_ping("10.77.0.2", 50), "and traffic flows when it goes on");
	(void)spaces_run("a", "ping -f -s 1000 -l 200 -c 5000 10.77.0.2");
	/* frames under way in one queue may be what another is short of: a ping lost among them is no standstill */
	tap_case(spaces_ping("10.77.0.2", 50) || spaces_ping("10.77.0.2", 50) || spaces_ping("10.77.0.2", 50),
		"also after bursts larger than the pool");
	forwarder_stop(&f);
	tap_case(forwarder_sums(&f), "frames sum to the pool after it");
	tap_case(forwarder_destroy(&f), "every frame is back in the pool");
}

static bool is_up(void *arg)
{
	mr_interface_poll(arg);
	return mr_interface_info(arg)->up;
}

static bool is_down(void *arg)
{
	return !is_up(arg);
}

static bool is_gone(void *arg)
{
	mr_interface_poll(arg);
	return mr_interface_gone(arg);
}

static uint64_t tx_lost(struct forwarder *f)
{
	return __atomic_load_n(&mr_interface_queue(f->port[1], 0)->counters.tx_lost, __ATOMIC_RELAXED);
}

static void link_changes(void)
{
	struct forwarder f;

	spaces_wire(1);
	forwarder_create(&f, 8192, 1);
	tap_case(open_both(&f, MR_MODE_COPY), "opens");
	forwarder_start(&f);
	tap_case(spaces_ping("10.77.0.2", 20), "traffic flows");
	/* the far end down: frames sent to it are refused one by one */
	(void)spaces_run("b", "ip link set b0 down");
	tap_case(spaces_wait(is_down, f.port[1]), "carrier loss is seen");
	(void)spaces_run(
		"a", "ip neigh replace 10.77.0.2 lladdr 02:00:00:00:00:01 dev a0; ping -f -w 1 -c 500 10.77.0.2");
	tap_case(tx_lost(&f) > 0, "frames the device refused are counted lost (%lu)", (unsigned long)tx_lost(&f));
	(void)spaces_run("b", "ip link set b0 up; ip addr replace fd77::2/64 dev b0 nodad");
	(void)spaces_run("a", "ip neigh del 10.77.0.2 dev a0");
	tap_case(spaces_wait(is_up, f.port[1]), "carrier is seen");
	tap_case(spaces_ping("10.77.0.2", 20), "traffic flows again");
	/* our end down: ENETDOWN */
	(void)spaces_run("r", "ip link set r1 down");
	tap_case(spaces_wait(is_down, f.port[1]), "the device down is seen");
	(void)spaces_run(
		"a", "ip neigh replace 10.77.0.2 lladdr 02:00:00:00:00:01 dev a0; ping -f -w 1 -c 500 10.77.0.2");
	tap_case(!is_gone(f.port[1]), "down is not gone");
	(void)spaces_run("r", "ip link set r1 up");
	(void)spaces_run("a", "ip neigh del 10.77.0.2 dev a0");
	tap_case(spaces_wait(is_up, f.port[1]), "the device up is seen");
	tap_case(spaces_ping("10.77.0.2", 20), "traffic flows once more");
	forwarder_stop(&f);
	tap_case(forwarder_sums(&f) && forwarder_destroy(&f), "every frame is back in the pool");
}

static void deletion(void)
{
	struct forwarder f;
	struct mr_queue_counters last;

	spaces_wire(1);
	forwarder_create(&f, 8192, 1);
	tap_case(open_both(&f, MR_MODE_COPY), "opens");
	forwarder_start(&f);
	tap_case(spaces_ping("10.77.0.2", 20), "traffic flows");
	(void)spaces_run("a", "(ping -f -w 1 -l 100 10.77.0.2 &) ; sleep 0.3");
	(void)spaces_run("r", "ip link del r1");
	tap_case(spaces_wait(is_gone, f.port[1]), "a deleted device is gone");
	pause_ms(100);
	tap_case(!is_gone(f.port[0]), "the other is not");
	forwarder_stop(&f);
	tap_case(forwarder_sums(&f), "frames sum to the pool");
	mr_interface_close(f.port[1], &last);
	f.port[1] = NULL;
	tap_case(last.tx_packets > 0, "the last counters remain (%lu sent, %lu lost)", (unsigned long)last.tx_packets,
		(unsigned long)last.tx_lost);
	forwarder_start(&f);
	pause_ms(100);
	forwarder_stop(&f);
	struct mr_frames_census c;
	mr_frames_count(f.frames, &c);
	tap_case(c.by_owner_cnt[MR_OWNER_TX] + c.by_owner_cnt[MR_OWNER_RX] == 0, "what was lent to it is home");
	forwarder_close(&f, 0);
	tap_case(forwarder_pool_whole(&f), "every frame is back in the pool");
	mr_frames_destroy(f.frames);

	/* and back */
	spaces_wire(1);
	forwarder_create(&f, 8192, 1);
	tap_case(open_both(&f, MR_MODE_COPY), "opens on the devices made again");
	forwarder_start(&f);
	tap_case(spaces_ping("10.77.0.2", 20), "traffic flows again");
	tap_case(forwarder_destroy(&f), "every frame is back in the pool");
}

static void reopening(void)
{
	struct forwarder f;
	unsigned opened = 0;

	spaces_wire(2);
	forwarder_create(&f, 16384, 2);
	for (unsigned i = 0; i < 10; i++) {
		opened += open_both(&f, i % 2 ? MR_MODE_COPY : MR_MODE_GENERIC);
		forwarder_start(&f);
		forwarder_stop(&f);
		forwarder_close(&f, 0);
		forwarder_close(&f, 1);
	}
	tap_case(opened == 10, "opens 10 of 10 times right after closing (%u)", opened);
	tap_case(forwarder_destroy(&f), "every frame is back in the pool");
}

/* Its verifier, or its memory, has no room for it. */
static void refused_tier(void)
{
	static const int errors[] = { 0, -E2BIG, -ENOMEM, -EINVAL };

	for (unsigned i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
		struct forwarder f;
		spaces_wire(1);
		forwarder_create(&f, 16384, 1);
		f.tier = (void *)&f; /* nobody looks */
		tier_err = errors[i];
		without_tier_cnt = 0;
		bool opened = open_both(&f, MR_MODE_AUTO);
		const struct mr_interface_info *info = opened ? mr_interface_info(f.port[0]) : NULL;
		tap_case(opened && info->mode == MR_MODE_COPY, "the kernel tier and %s: opens in the same mode",
			strerror(-tier_err));
		if (opened && tier_err)
			tap_case(strstr(info->tier_why, strerror(-tier_err)) && !strstr(info->mode_why, "tier") &&
					without_tier_cnt,
				"why it has none: %s", info->tier_why);
		else if (opened)
			tap_case(!info->tier_why[0] && !without_tier_cnt, "it has it");
		forwarder_start(&f);
		tap_case(opened && spaces_ping("10.77.0.2", 20), "traffic flows");
		tap_case(forwarder_destroy(&f), "every frame is back in the pool");
	}
	tier_err = 0;
}

static void killing(void)
{
	struct forwarder f;
	int told[2];
	char byte = 0;

	spaces_wire(1);
	if (pipe(told))
		abort();
	pid_t pid = fork();
	if (!pid) {
		forwarder_create(&f, 8192, 1);
		byte = open_both(&f, MR_MODE_COPY) ? 'y' : 'n';
		(void)!write(told[1], &byte, 1);
		pause();
		_exit(0);
	}
	(void)!read(told[0], &byte, 1);
	tap_case(byte == 'y' && !nothing_attached("r0"), "another process has the devices");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	tap_case(nothing_attached("r0") && nothing_attached("r1"), "kill -9 leaves nothing attached");
	forwarder_create(&f, 8192, 1);
	tap_case(open_both(&f, MR_MODE_COPY), "a restart works at once");
	forwarder_start(&f);
	tap_case(spaces_ping("10.77.0.2", 20), "traffic flows");
	tap_case(forwarder_destroy(&f), "every frame is back in the pool");
	close(told[0]);
	close(told[1]);
}

static void device_settings(void)
{
	struct forwarder f;
	struct mr_device before, during, after;
	struct mr_config_interface c = { .name = "left", .device = "r0", .mode = MR_MODE_COPY, .promiscuous = true };
	struct mr_range one = { 1, 1 };

	spaces_wire(2);
	(void)mr_device_query("r0", &before, NULL);
	forwarder_create(&f, 8192, 1);
	tap_case(!forwarder_open(&f, 0, "r0", MR_MODE_COPY, NULL), "opens");
	(void)mr_device_query("r0", &during, NULL);
	tap_case(before.offloads & MR_DEVICE_RX_VLAN && !(during.offloads & MR_DEVICE_RX_VLAN),
		"rx-vlan offload is off while open");
	forwarder_close(&f, 0);
	(void)mr_device_query("r0", &after, NULL);
	tap_case(after.offloads & MR_DEVICE_RX_VLAN, "and on again after it");
	(void)forwarder_destroy(&f);

	/* through the check too: queues by number, and promiscuous */
	struct mr_interface_info info;
	struct mr_error e = { { 0 } };
	c.queues = (struct mr_range_list){ .items = &one, .cnt = 1 };
	c.has_unserved = true;
	tap_case(!mr_interface_check(&c, 2048, &info, &e) && info.queue_cnt == 1 && info.device_queue_cnt == 2 &&
			info.mtu == 1500,
		"check tells queues and MTU %s", e.text);
	one.hi = 2;
	tap_case(mr_interface_check(&c, 2048, &info, &e) == -EINVAL && strstr(e.text, "no receive queue 2"),
		"check: %s", e.text);
	struct mr_attach a;
	mr_attach_init(&a);
	tap_case(!mr_attach_prepare(&a, &after, true, NULL) &&
			spaces_run("r", "ip -d link show r0 | grep -q \"promiscuity 1\""),
		"promiscuous when asked");
	mr_attach_release(&a);
	tap_case(spaces_run("r", "ip -d link show r0 | grep -q \"promiscuity 0\""), "and no longer after it");
}

/* ---- one socket --------------------------------------------------------------------------------------------- */

static int socket_open(struct forwarder *f, unsigned id, struct mr_xsk **x, struct mr_error *e)
{
	struct mr_device d;
	int err = mr_device_query("r0", &d, e);
	struct mr_xsk_options opt = { .frames = f->frames,
		.magazine = mr_frames_magazine(f->frames, 0),
		.interface_id = (uint16_t)id,
		.ifindex = d.ifindex,
		.numa_node = -1,
		.rx_ring_cnt = 64,
		.tx_ring_cnt = 64 };

	return err ? err : mr_xsk_open(&opt, x, e);
}

static void queue_in_use(void)
{
	struct forwarder f;
	struct mr_xsk *first = NULL, *second = NULL;
	struct mr_error e = { { 0 } };
	struct timespec t0, t1;

	spaces_wire(1);
	forwarder_create(&f, 1024, 1);
	tap_case(!socket_open(&f, 1, &first, &e), "a socket on the queue");
	clock_gettime(CLOCK_MONOTONIC, &t0);
	int err = socket_open(&f, 2, &second, &e);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	tap_case(err == -EBUSY && !second && t1.tv_sec - t0.tv_sec < 3, "a second one is refused, in bounded time: %s",
		e.text);
	mr_xsk_close(first);
	tap_case(!socket_open(&f, 2, &second, &e), "until the first is closed");
	mr_xsk_close(second);
	tap_case(forwarder_destroy(&f), "and no frame is missing");
}

/* Descriptors the kernel would skip and never complete are not handed over. */
static void impossible_frames(void)
{
	struct forwarder f;
	struct mr_xsk *x = NULL;
	struct mr_error e = { { 0 } };
	uint64_t addr[4];

	spaces_wire(1);
	forwarder_create(&f, 1024, 1);
	tap_case(!socket_open(&f, 1, &x, &e), "a socket %s", e.text);
	struct mr_queue *q = mr_xsk_queue(x);
	tap_case(mr_frames_take(mr_frames_magazine(f.frames, 0), addr, 4) == 4, "four frames");
	memset(mr_frames_base(f.frames) + addr[0], 0xff, 2048);
	const struct mr_frame bad[4] = { { .addr = addr[0] + 256, .len = 0 }, { .addr = addr[1] + 256, .len = 1793 },
		{ .addr = addr[2] + 2047, .len = 2 }, { .addr = addr[3] + 256, .len = 60 } };
	memset(mr_frames_base(f.frames) + bad[3].addr, 0xff, 60);
	tap_case(q->ops->tx(q, bad, 4) == 4, "all are taken");
	for (unsigned i = 0; i < 100 && !q->counters.tx_packets; i++) {
		q->ops->service(q);
		pause_ms(1);
	}
	tap_case(q->counters.tx_lost == 3 && q->counters.tx_packets == 1, "three counted lost, one sent");
	mr_xsk_read_statistics(x);
	tap_case(q->counters.kernel_tx_invalid == 0, "the kernel saw none of them");
	mr_xsk_close(x);
	tap_case(forwarder_destroy(&f), "and no frame is missing");
}

/* In a process of its own, because rights do not come back. */
static void without_rights(const char *what, void (*give_up)(void), int expected, const char *word)
{
	int told[2];
	char text[600] = { 0 };

	spaces_wire(1);
	if (pipe(told))
		abort();
	pid_t pid = fork();
	if (!pid) {
		struct forwarder f;
		struct mr_xsk *x = NULL;
		struct mr_error e = { { 0 } };
		forwarder_create(&f, 4096, 1);
		give_up();
		int err = socket_open(&f, 1, &x, &e);
		snprintf(text, sizeof(text), "%s %s", err == expected && forwarder_pool_whole(&f) ? "yes" : "no",
			e.text);
		(void)!write(told[1], text, sizeof(text));
		_exit(0);
	}
	(void)!read(told[0], text, sizeof(text));
	waitpid(pid, NULL, 0);
	tap_case(!strncmp(text, "yes", 3) && strstr(text, word), "%s: %s", what, text);
	close(told[0]);
	close(told[1]);
}

static void give_up_root(void)
{
	if (setresuid(65534, 65534, 65534))
		_exit(1);
}

static void give_up_locking(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	const struct rlimit limit = { .rlim_cur = 1 << 20, .rlim_max = 1 << 20 };

	if (syscall(SYS_capget, &head, data))
		_exit(1);
	data[0].effective &= ~(1u << CAP_IPC_LOCK);
	data[0].permitted &= ~(1u << CAP_IPC_LOCK);
	if (syscall(SYS_capset, &head, data) || setrlimit(RLIMIT_MEMLOCK, &limit))
		_exit(1);
}

/* ---- devices coming and going ------------------------------------------------------------------------------- */

struct seen {
	struct mr_links *l;
	const char *name;
	unsigned event_cnt;
	struct mr_link_event last;
};

static void on_event(void *ctx, const struct mr_link_event *ev)
{
	struct seen *s = ctx;

	if (!strcmp(ev->name, s->name)) {
		s->event_cnt++;
		s->last = *ev;
	}
}

static bool seen_up(void *arg)
{
	struct seen *s = arg;
	(void)mr_links_service(s->l);
	return s->event_cnt && s->last.running && !s->last.deleted;
}

static bool seen_down(void *arg)
{
	struct seen *s = arg;
	(void)mr_links_service(s->l);
	return s->event_cnt && !s->last.running && !s->last.deleted;
}

static bool seen_deleted(void *arg)
{
	struct seen *s = arg;
	(void)mr_links_service(s->l);
	return s->event_cnt && s->last.deleted;
}

static void links(void)
{
	struct seen s = { .name = "r0" };
	const int small = 1;

	spaces_wire(1);
	tap_case(!mr_links_open(&s.l, NULL), "watches devices");
	mr_links_on_event(s.l, on_event, &s);
	tap_case(spaces_wait(seen_up, &s), "the dump tells what is there");
	(void)spaces_run("a", "ip link set a0 down");
	tap_case(spaces_wait(seen_down, &s), "carrier loss");
	(void)spaces_run("a", "ip link set a0 up");
	tap_case(spaces_wait(seen_up, &s), "carrier");
	(void)spaces_run("r", "ip link del r0");
	tap_case(spaces_wait(seen_deleted, &s), "deletion");
	spaces_wire(1);
	tap_case(spaces_wait(seen_up, &s), "creation");
	/* an overrun: the events of a deletion are lost, the dump after it tells */
	(void)setsockopt(mr_links_fd(s.l), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	(void)spaces_run(
		"r", "for i in 1 2 3 4 5 6 7 8 9; do ip link set r1 down; ip link set r1 up; done; ip link del r0");
	tap_case(spaces_wait(seen_deleted, &s), "a deletion behind lost events");
	tap_case(mr_links_resync_cnt(s.l) > 0, "was found by asking again (%lu)",
		(unsigned long)mr_links_resync_cnt(s.l));
	mr_links_close(s.l);
}

int main(void)
{
	spaces_begin("iface");
	forward_case("auto", MR_MODE_AUTO, MR_MODE_COPY, 1);
	forward_case("generic", MR_MODE_GENERIC, MR_MODE_GENERIC, 1);
	forward_case("two queues", MR_MODE_COPY, MR_MODE_COPY, 2);
	refusals();
	foreign_program();
	starvation(1);
	starvation(2);
	link_changes();
	deletion();
	reopening();
	refused_tier();
	killing();
	device_settings();
	queue_in_use();
	impossible_frames();
	without_rights("without rights", give_up_root, -EPERM, "CAP_NET_RAW");
	without_rights("memory limit", give_up_locking, -ENOBUFS, "LimitMEMLOCK");
	links();
	return tap_end();
}
