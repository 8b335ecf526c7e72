/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interfaces on virtio-net, zero-copy where the kernel has it (from 6.11 on) and copy, each alone and mixed: every frame accounted, and
 * all that can happen to a device while it is ours.
 */
#include "core/attach.h"
#include "core/steer.h"
#include "tests/netns/forwarder.h"
#include "tests/netns/spaces.h"
#include "tests/vm/nics.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static struct nics_line *at_g, *at_s;
static bool zerocopy; /* this kernel's virtio-net has it */

static const char *const mode_name[] = { "auto", "zero-copy", "copy", "generic" };

/* ---- a forwarder with steering that takes every frame ----------------------------------------------------------- */

static int open_port(struct forwarder *f, unsigned port, const char *device, enum mr_mode mode, struct mr_error *e)
{
	const struct mr_steer_entry all = { 0 };
	struct mr_steer_table *t = NULL;
	int err = forwarder_open(f, port, device, mode, e);

	if (!err)
		err = mr_steer_compile(&all, 1, &t, e);
	if (!err)
		err = mr_steer_apply(mr_interface_steer(f->port[port]), t, e);
	mr_steer_table_free(t);
	return err;
}

static bool open_pair(struct forwarder *f, enum mr_mode left, enum mr_mode right)
{
	struct mr_error e = { { 0 } };

	if (open_port(f, 0, "r0", left, &e) || open_port(f, 1, "r1", right, &e)) {
		tap_note("%s", e.text);
		return false;
	}
	return true;
}

static bool nothing_attached(const char *device)
{
	struct mr_device d;

	return !mr_device_query(device, &d, NULL) && !mr_attach_check_free(&d, NULL);
}

static const struct mr_queue_counters *counters(struct forwarder *f, unsigned port)
{
	return &mr_interface_queue(f->port[port], 0)->counters;
}

static bool traffic_whole(const char *what, struct nics_line *from, struct nics_line *to, unsigned cnt)
{
	struct nics_result r = nics_traffic(from, to, cnt, NULL, NULL);
	bool whole = r.sent_cnt == cnt && r.received_cnt == cnt && !r.twice_cnt && !r.broken_cnt;

	tap_case(whole, "%s: %u of %u frames arrive, %u twice, %u broken", what, r.received_cnt, r.sent_cnt,
		r.twice_cnt, r.broken_cnt);
	return whole;
}

/* ---- cases -------------------------------------------------------------------------------------------------------- */

static enum mr_mode best(enum mr_mode m)
{
	return m == MR_MODE_AUTO ? zerocopy ? MR_MODE_ZEROCOPY : MR_MODE_COPY : m;
}

static void forward_case(enum mr_mode left, enum mr_mode right, unsigned cnt)
{
	struct forwarder f;
	char what[64];

	snprintf(what, sizeof(what), "%s to %s", mode_name[left], mode_name[right]);
	forwarder_create(&f, 16384, 1);
	bool opened = open_pair(&f, left, right);
	tap_case(opened && mr_interface_info(f.port[0])->mode == best(left) &&
			mr_interface_info(f.port[1])->mode == best(right),
		"%s: opens, as %s and %s", what, mode_name[best(left)], mode_name[best(right)]);
	if (opened && left == MR_MODE_AUTO && !zerocopy)
		tap_case(strstr(mr_interface_info(f.port[0])->mode_why, "virtio_net"), "%s: why not better: %s", what,
			mr_interface_info(f.port[0])->mode_why);
	forwarder_start(&f);
	tap_case(nics_ping("10.88.0.2", 20) && nics_ping("fd88::2", 20), "%s: echo requests of both families, 20 of 20",
		what);
	traffic_whole(what, at_g, at_s, cnt);
	snprintf(what, sizeof(what), "%s to %s, the other way", mode_name[left], mode_name[right]);
	traffic_whole(what, at_s, at_g, cnt);
	forwarder_stop(&f);
	if (opened) {
		const struct mr_queue_counters *a = counters(&f, 0), *b = counters(&f, 1);
		mr_interface_poll(f.port[0]);
		mr_interface_poll(f.port[1]);
		tap_case(a->rx_packets > cnt && b->rx_packets > cnt && !a->tx_lost && !b->tx_lost,
			"%s: received %lu and %lu, none lost", what, (unsigned long)a->rx_packets,
			(unsigned long)b->rx_packets);
		tap_case(!a->kernel_rx_dropped && !a->kernel_rx_ring_full && !a->kernel_rx_invalid &&
				!a->kernel_tx_invalid,
			"%s: the kernel dropped none", what);
	}
	tap_case(forwarder_sums(&f) && forwarder_destroy(&f), "%s: every frame is back in the pool", what);
	tap_case(nothing_attached("r0") && nothing_attached("r1"), "%s: nothing is left attached", what);
}

static void refused(void)
{
	struct forwarder f;
	struct mr_error e = { { 0 } };

	forwarder_create(&f, 4096, 1);
	int err = forwarder_open(&f, 0, "r0", MR_MODE_ZEROCOPY, &e);
	tap_case(err == -EOPNOTSUPP && strstr(e.text, "virtio_net"), "zero-copy is refused by name: %s", e.text);
	tap_case(forwarder_destroy(&f) && nothing_attached("r0"), "and nothing is left");
}

static void foreign_program(enum mr_mode mode)
{
	const struct bpf_insn insns[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT } };
	struct forwarder f;
	struct mr_error e = { { 0 } };
	struct mr_attach a;
	struct mr_device d;

	mr_attach_init(&a);
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "someone_elses", "GPL", insns, 2, NULL);
	bool ready = fd >= 0 && !mr_device_query("r0", &d, NULL) && !mr_attach_prepare(&a, &d, false, NULL) &&
		!mr_attach_program(&a, fd, false, NULL);
	forwarder_create(&f, 4096, 1);
	int err = forwarder_open(&f, 0, "r0", mode, &e);
	tap_case(ready && err == -EBUSY && strstr(e.text, "someone_elses"), "another tool's program: %s", e.text);
	tap_case(!nothing_attached("r0"), "it is still there");
	mr_attach_release(&a);
	close(fd);
	tap_case(open_pair(&f, mode, mode), "without it we open");
	tap_case(forwarder_destroy(&f), "every frame is back in the pool");
}

static uint64_t received(struct forwarder *f)
{
	return __atomic_load_n(&counters(f, 0)->rx_packets, __ATOMIC_RELAXED);
}

static uint64_t kernel_lost(struct forwarder *f)
{
	const struct mr_queue_counters *c = counters(f, 0);

	return c->kernel_rx_dropped + c->kernel_rx_ring_full + c->kernel_fill_empty;
}

/* A pool far smaller than the rings. */
static void starvation(enum mr_mode mode)
{
	struct forwarder f;
	const char *what = mode_name[mode];

	forwarder_create(&f, 64, 1);
	tap_case(open_pair(&f, mode, mode), "starved, %s: a pool of 64 frames opens", what);
	/* nobody takes anything: fill and rx rings run out of frames */
	struct nics_result r = nics_traffic(at_g, at_s, 600, NULL, NULL);
	tap_case(r.received_cnt == 0 && r.sent_cnt > 0, "starved, %s: nothing passes while nobody serves (%u sent)",
		what, r.sent_cnt);
	tap_case(forwarder_sums(&f), "starved, %s: frames sum to the pool", what);
	forwarder_start(&f);
	nics_pause(300);
	tap_case(nics_ping("10.88.0.2", 20), "starved, %s: traffic flows once somebody does", what);
	mr_interface_poll(f.port[0]);
	uint64_t before = __atomic_load_n(&counters(&f, 1)->tx_packets, __ATOMIC_RELAXED), took = received(&f),
		 lost = kernel_lost(&f);
	r = nics_traffic(at_g, at_s, 3000, NULL, NULL);
	uint64_t sent = __atomic_load_n(&counters(&f, 1)->tx_packets, __ATOMIC_RELAXED) - before;
	tap_case(r.received_cnt > 0 && r.received_cnt <= sent && !r.broken_cnt && !r.twice_cnt,
		"starved, %s: of %u frames %u arrive whole, %lu were sent on", what, r.sent_cnt, r.received_cnt,
		(unsigned long)sent);
	mr_interface_poll(f.port[0]);
	took = received(&f) - took;
	lost = kernel_lost(&f) - lost;
	tap_case(took <= r.sent_cnt && took + lost >= r.sent_cnt,
		"starved, %s: %lu received, the kernel counted %lu it had no room for", what, (unsigned long)took,
		(unsigned long)lost);
	tap_case(nics_ping("10.88.0.2", 20), "starved, %s: and it goes on", what);
	forwarder_stop(&f);
	tap_case(forwarder_sums(&f) && forwarder_destroy(&f), "starved, %s: every frame is back in the pool", what);
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

static void link_changes(enum mr_mode mode)
{
	const char *what = mode_name[mode];
	struct forwarder f;

	forwarder_create(&f, 8192, 1);
	tap_case(open_pair(&f, mode, mode), "link, %s: opens", what);
	forwarder_start(&f);
	tap_case(nics_ping("10.88.0.2", 10), "link, %s: traffic flows", what);
	tap_case(
		nics_ask("link r1 off") && nics_wait(3000, is_down, f.port[1]), "link, %s: carrier loss is seen", what);
	(void)nics_traffic(at_g, at_s, 100, NULL, NULL);
	tap_case(nics_ask("link r1 on") && nics_wait(3000, is_up, f.port[1]), "link, %s: carrier is seen", what);
	tap_case(nics_ping("10.88.0.2", 10), "link, %s: traffic flows again", what);
	(void)nics_run("r", "ip link set r1 down");
	tap_case(nics_wait(3000, is_down, f.port[1]), "link, %s: the device down is seen", what);
	(void)nics_traffic(at_g, at_s, 100, NULL, NULL);
	tap_case(!is_gone(f.port[1]), "link, %s: down is not gone", what);
	(void)nics_run("r", "ip link set r1 up");
	tap_case(nics_wait(3000, is_up, f.port[1]), "link, %s: the device up is seen", what);
	tap_case(nics_ping("10.88.0.2", 10), "link, %s: traffic flows once more", what);
	(void)nics_run("r", "ip link set r0 down");
	nics_pause(100);
	(void)nics_run("r", "ip link set r0 up");
	tap_case(nics_wait(3000, is_up, f.port[0]), "link, %s: the receiving device down and up", what);
	traffic_whole(what, at_g, at_s, 300);
	forwarder_stop(&f);
	tap_case(forwarder_sums(&f) && forwarder_destroy(&f), "link, %s: every frame is back in the pool", what);
}

/* What an operator may change while it runs. */
static void changes(enum mr_mode mode)
{
	static const char *const command[] = { "ip link set r0 mtu 1400", "ip link set r0 mtu 1500",
		"ethtool -G r0 rx 128", "ethtool -G r1 tx 128", "ethtool -G r0 rx 256", "ethtool -G r1 tx 256" };
	struct forwarder f;

	forwarder_create(&f, 8192, 1);
	tap_case(open_pair(&f, mode, mode), "changes, %s: opens", mode_name[mode]);
	forwarder_start(&f);
	for (unsigned i = 0; i < sizeof(command) / sizeof(command[0]); i++) {
		bool taken = nics_run("r", "%s", command[i]);
		tap_case(nics_ping("10.88.0.2", 10), "changes, %s: traffic flows after `%s` (%s)", mode_name[mode],
			command[i], taken ? "taken" : "the driver refused it");
	}
	traffic_whole(mode_name[mode], at_g, at_s, 300);
	forwarder_stop(&f);
	tap_case(forwarder_sums(&f) && forwarder_destroy(&f), "changes, %s: every frame is back in the pool",
		mode_name[mode]);
}

static bool is_absent(void *arg)
{
	return !nics_have(arg);
}

/* The link of a device that was just plugged in may take its time. */
static bool flows_again(void)
{
	for (unsigned i = 0; i < 20; i++)
		if (nics_ping("10.88.0.2", 10))
			return true;
	return false;
}

static void unplugging(enum mr_mode mode)
{
	const char *what = mode_name[mode];
	struct mr_queue_counters last;
	struct mr_error e = { { 0 } };
	struct forwarder f;

	forwarder_create(&f, 8192, 1);
	tap_case(open_pair(&f, mode, mode), "unplugged, %s: opens", what);
	forwarder_start(&f);
	tap_case(nics_ping("10.88.0.2", 10), "unplugged, %s: traffic flows", what);
	(void)nics_run("g", "(ping -f -w 2 -l 30 10.88.0.2 &) ; sleep 0.3");
	tap_case(nics_ask("unplug r1") && nics_wait(15000, is_gone, f.port[1]), "unplugged, %s: the device is gone",
		what);
	tap_case(!is_gone(f.port[0]), "unplugged, %s: the other is not", what);
	forwarder_stop(&f);
	tap_case(forwarder_sums(&f), "unplugged, %s: frames sum to the pool", what);
	mr_interface_close(f.port[1], &last);
	f.port[1] = NULL;
	tap_case(last.tx_packets > 0, "unplugged, %s: the last counters remain (%lu sent, %lu lost)", what,
		(unsigned long)last.tx_packets, (unsigned long)last.tx_lost);
	forwarder_start(&f);
	tap_case(nics_wait(10000, is_absent, (void *)"r1"), "unplugged, %s: the kernel let go of it", what);
	tap_case(nics_ask("plug r1") && nics_name("r1"), "unplugged, %s: plugged in again", what);
	forwarder_stop(&f);
	bool again = !open_port(&f, 1, "r1", mode, &e);
	tap_case(again && mr_interface_info(f.port[1])->mode == best(mode), "unplugged, %s: opens again %s", what,
		e.text);
	forwarder_start(&f);
	tap_case(flows_again(), "unplugged, %s: traffic flows again", what);
	traffic_whole(what, at_g, at_s, 300);
	tap_case(forwarder_destroy(&f), "unplugged, %s: every frame is back in the pool", what);
}

static void killing(enum mr_mode mode)
{
	const char *what = mode_name[mode];
	struct forwarder f;
	int told[2];
	char byte = 0;

	if (pipe(told))
		abort();
	pid_t pid = fork();
	if (!pid) {
		forwarder_create(&f, 8192, 1);
		byte = open_pair(&f, mode, mode) ? 'y' : 'n';
		forwarder_start(&f);
		(void)!write(told[1], &byte, 1);
		pause();
		_exit(0);
	}
	(void)!read(told[0], &byte, 1);
	tap_case(byte == 'y' && nics_ping("10.88.0.2", 10), "killed, %s: another process forwards", what);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	tap_case(nothing_attached("r0") && nothing_attached("r1"), "killed, %s: nothing is left attached", what);
	forwarder_create(&f, 8192, 1);
	tap_case(open_pair(&f, mode, mode), "killed, %s: a restart works at once", what);
	forwarder_start(&f);
	tap_case(nics_ping("10.88.0.2", 10), "killed, %s: traffic flows", what);
	tap_case(forwarder_destroy(&f), "killed, %s: every frame is back in the pool", what);
	close(told[0]);
	close(told[1]);
}

/* ---- several queues: what comes in on one goes out on it, MAC addresses swapped --------------------------------- */

static unsigned reflected[4];

static void reflect(void *arg)
{
	struct forwarder *f = arg;

	for (unsigned q = 0; q < mr_interface_queue_cnt(f->port[0]) && q < 4; q++) {
		struct mr_queue *queue = mr_interface_queue(f->port[0], q);
		struct mr_frame frame[32];
		unsigned n = queue->ops->rx(queue, frame, 32);
		for (unsigned i = 0; i < n; i++) {
			uint8_t *p = mr_frames_base(f->frames) + frame[i].addr, mac[6];
			memcpy(mac, p, 6);
			memcpy(p, p + 6, 6);
			memcpy(p + 6, mac, 6);
		}
		unsigned sent = n ? queue->ops->tx(queue, frame, n) : 0;
		for (unsigned i = sent; i < n; i++)
			mr_frames_give(mr_frames_magazine(f->frames, 0), &frame[i].addr, 1);
		queue->ops->service(queue);
		reflected[q] += sent;
	}
}

static void queues(enum mr_mode mode)
{
	const char *what = mode_name[mode];
	struct mr_error e = { { 0 } };
	struct forwarder f;

	if (!nics_have("r2")) {
		tap_case(true, "two queues, %s # SKIP no multi-queue device in this guest", what);
		return;
	}
	forwarder_create(&f, 16384, 1);
	memset(reflected, 0, sizeof(reflected));
	bool opened = !open_port(&f, 0, "r2", mode, &e);
	tap_case(opened && mr_interface_queue_cnt(f.port[0]) == 2 && mr_interface_info(f.port[0])->mode == best(mode),
		"two queues, %s: opens %s", what, e.text);
	if (opened) {
		struct nics_line *at_g2 = nics_line_open("g", "g2");
		struct nics_result r = nics_traffic(at_g2, at_g2, 2000, reflect, &f);
		tap_case(r.received_cnt == 2000 && !r.broken_cnt && !r.twice_cnt,
			"two queues, %s: %u of %u frames come back", what, r.received_cnt, r.sent_cnt);
		tap_case(reflected[0] && reflected[1], "two queues, %s: %u over the first, %u over the second", what,
			reflected[0], reflected[1]);
		bool taken = nics_run("r", "ethtool -L r2 combined 1");
		r = nics_traffic(at_g2, at_g2, 500, reflect, &f);
		tap_case(taken ? r.received_cnt > 0 : r.received_cnt == 500,
			"two queues, %s: fewer channels while it runs (%s), %u come back", what,
			taken ? "taken" : "the driver refused it", r.received_cnt);
		(void)nics_run("r", "ethtool -L r2 combined 2");
		r = nics_traffic(at_g2, at_g2, 500, reflect, &f);
		tap_case(r.received_cnt == 500, "two queues, %s: and as before, %u come back", what, r.received_cnt);
		nics_line_close(at_g2);
	}
	tap_case(forwarder_destroy(&f), "two queues, %s: every frame is back in the pool", what);
}

int main(int argc, char **argv)
{
	struct utsname u;

	nics_begin();
	if (argc > 1 && !strcmp(argv[1], "setup")) /* for scripts: devices named, hosts made, and no more */
		return 0;
	if (uname(&u))
		return 1;
	zerocopy = atoi(u.release) >= 7;
	at_g = nics_line_open("g", "g0");
	at_s = nics_line_open("s", "s0");
	if (!zerocopy)
		refused();
	forward_case(MR_MODE_AUTO, MR_MODE_AUTO, 500);
	forward_case(MR_MODE_COPY, MR_MODE_COPY, 1500);
	forward_case(MR_MODE_GENERIC, MR_MODE_COPY, 500);
	if (zerocopy) {
		forward_case(MR_MODE_ZEROCOPY, MR_MODE_ZEROCOPY, 1500);
		forward_case(MR_MODE_ZEROCOPY, MR_MODE_COPY, 1500);
		forward_case(MR_MODE_COPY, MR_MODE_ZEROCOPY, 1500);
	}
	for (enum mr_mode m = zerocopy ? MR_MODE_ZEROCOPY : MR_MODE_COPY; m <= MR_MODE_COPY; m++) {
		foreign_program(m);
		starvation(m);
		link_changes(m);
		changes(m);
		killing(m);
		queues(m);
		unplugging(m);
	}
	nics_line_close(at_g);
	nics_line_close(at_s);
	return tap_end();
}
