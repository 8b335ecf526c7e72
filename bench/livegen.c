// SPDX-License-Identifier: BSD-2-Clause
/*
 * livegen - offers UDP frames to a device and counts what arrives at another; the test bed's load.
 *
 *   gen.bpf.c ─BPF_PROG_RUN live frames─► --tx device ─► device under test ─► --sink device ─► sink.bpf.c: count, drop
 *
 * The devices may live in different network namespaces.  Everything it attaches is held by links of this
 * process, so it leaves nothing behind however it ends.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "gen.skel.h"
#include "sink.skel.h"

#include "livegen.h"

#define BATCH_MAX       1024 /* frames a call at full speed; the kernel moves them 64 at a time */
#define PACED_BATCH_MAX 64
#define LAG_MAX_NS      100000000ull /* further behind than this, a paced run starts its clock anew and says so */

/* One device's counters from /proc/net/dev: a count nobody here had a hand in. */
struct device {
	uint64_t rx_packets, rx_dropped, tx_packets, tx_dropped;
};

struct sample {
	uint64_t ns, sent, packets, bytes, other;
	struct device tx, sink;
};

struct bed {
	struct livegen_options o;
	int home_netns, tx_netns, sink_netns, spare_netns;
	struct gen_bpf *gen;
	struct sink_bpf *sink;
	int gen_link, sink_link;
	uint64_t late_ns_max, restarts;
};

static volatile sig_atomic_t stopped;

static void stop(int sig)
{
	stopped = 1;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t ns)
{
	struct timespec t = { .tv_sec = (time_t)(ns / 1000000000ull), .tv_nsec = (long)(ns % 1000000000ull) };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

/* ---- namespaces ---- */

static int open_netns(const char *name)
{
	char path[256];
	int fd;

	if (!name)
		snprintf(path, sizeof(path), "/proc/thread-self/ns/net");
	else
		snprintf(path, sizeof(path), "/run/netns/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		livegen_die("cannot open network namespace %s: %s", path, strerror(errno));
	return fd;
}

static void enter(int fd)
{
	if (setns(fd, CLONE_NEWNET))
		livegen_die("cannot enter a network namespace: %s (root needed)", strerror(errno));
}

static unsigned device_index(const char *name)
{
	unsigned i = if_nametoindex(name);

	if (!i)
		livegen_die("no device '%s' in its network namespace", name);
	return i;
}

static struct device read_device(int netns, const char *name)
{
	struct device d = { 0 };
	char line[512], found[64];
	FILE *f;

	if (!name)
		return d;
	enter(netns);
	f = fopen("/proc/thread-self/net/dev", "re");
	while (f && fgets(line, sizeof(line), f)) {
		unsigned long long v[12];

		if (sscanf(line, " %63[^:]: %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu %llu", found, &v[0],
			    &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7], &v[8], &v[9], &v[10], &v[11]) == 13 &&
			!strcmp(found, name))
			d = (struct device){
				.rx_packets = v[1], .rx_dropped = v[3], .tx_packets = v[9], .tx_dropped = v[11]
			};
	}
	if (f)
		fclose(f);
	return d;
}

/* ---- the sink ---- */

static void start_sink(struct bed *b)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = b->o.generic ? XDP_FLAGS_SKB_MODE : XDP_FLAGS_DRV_MODE);
	int err;

	b->sink_link = -1;
	if (!b->o.sink)
		return;
	b->sink = sink_bpf__open();
	if (!b->sink)
		livegen_die("cannot open the sink program: %s", strerror(errno));
	b->sink->rodata->sink_dport = b->o.dport;
	err = sink_bpf__load(b->sink);
	if (err)
		livegen_die("cannot load the sink program: %s", strerror(-err));
	enter(b->sink_netns);
	b->sink_link =
		bpf_link_create(bpf_program__fd(b->sink->progs.sink_xdp), (int)device_index(b->o.sink), BPF_XDP, &opts);
	if (b->sink_link < 0)
		livegen_die("cannot attach the sink to %s: %s", b->o.sink, strerror(errno));
}

static void read_sink(const struct bed *b, struct sample *s)
{
	struct {
		uint64_t packets, bytes, other;
	} cpu[256];
	uint32_t key = 0;
	int cpus = libbpf_num_possible_cpus();

	if (!b->sink)
		return;
	if (cpus > 256)
		livegen_die("more than 256 possible CPUs");
	if (bpf_map_lookup_elem(bpf_map__fd(b->sink->maps.sink_counts), &key, cpu))
		livegen_die("cannot read the sink's counters: %s", strerror(errno));
	for (int i = 0; i < cpus; i++) {
		s->packets += cpu[i].packets;
		s->bytes += cpu[i].bytes;
		s->other += cpu[i].other;
	}
}

/* ---- the generator ---- */

static uint32_t sum16(const uint8_t *p, unsigned bytes)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i + 1 < bytes; i += 2)
		sum += (uint32_t)(p[i] << 8 | p[i + 1]);
	if (bytes & 1)
		sum += (uint32_t)(p[bytes - 1] << 8);
	return sum;
}

static uint32_t fold32(uint32_t sum)
{
	return (sum & 0xffff) + (sum >> 16);
}

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Fills the frame and the sums of what does not vary (gen.bpf.c adds source address and port, and destinations). */
static void build_frame(const struct livegen_options *o, struct gen_bpf *g, uint8_t *frame)
{
	bool ip6 = strchr(o->dst, ':') != NULL;
	uint8_t *ip = frame + 14, *udp = ip + (ip6 ? 40 : 20);
	unsigned udp_bytes = o->size_bytes - (unsigned)(udp - frame);
	uint8_t *src = ip + (ip6 ? 8 : 12), *dst = ip + (ip6 ? 24 : 16);
	unsigned addr_bytes = ip6 ? 16 : 4;

	if (inet_pton(ip6 ? AF_INET6 : AF_INET, o->dst, dst) != 1 ||
		inet_pton(ip6 ? AF_INET6 : AF_INET, o->src, src) != 1)
		livegen_die("--src '%s' and --dst '%s' must be addresses of one family", o->src, o->dst);
	memcpy(frame, o->dmac, 6);
	memcpy(frame + 6, o->smac, 6);
	put16(frame + 12, ip6 ? 0x86dd : 0x0800);
	if (ip6) {
		ip[0] = 0x60;
		put16(ip + 4, udp_bytes);
		ip[6] = 17;
		ip[7] = 64;
	} else {
		ip[0] = 0x45;
		put16(ip + 2, udp_bytes + 20);
		put16(ip + 6, 0x4000); /* don't fragment */
		ip[8] = 64;
		ip[9] = 17;
	}
	put16(udp + 2, o->dport);
	put16(udp + 4, udp_bytes);
	g->rodata->gen_saddr = get32(src + addr_bytes - 4);
	if (o->dsts_be)
		memset(dst, 0, 4); /* varies too */
	g->rodata->gen_dst_cnt = o->dst_cnt;
	g->rodata->gen_ip_sum = fold32(sum16(ip, 12) + sum16(dst, 4));
	g->rodata->gen_udp_sum =
		fold32(sum16(src, addr_bytes - 4) + sum16(dst, addr_bytes) + 17 + udp_bytes + sum16(udp, udp_bytes));
	g->rodata->gen_ip6 = ip6;
	g->rodata->gen_sport = o->sport;
	g->rodata->gen_flows = o->flows;
	memcpy((void *)(uintptr_t)g->rodata->gen_head, frame, 64);
}

static void start_gen(struct bed *b, uint8_t *frame)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = XDP_FLAGS_SKB_MODE);
	int err, fd;

	b->gen_link = -1;
	if (!b->o.tx)
		return;
	b->gen = gen_bpf__open();
	if (!b->gen)
		livegen_die("cannot open the generator program: %s", strerror(errno));
	enter(b->tx_netns);
	b->gen->rodata->gen_ifindex = device_index(b->o.tx);
	build_frame(&b->o, b->gen, frame);
	if (b->o.dst_cnt)
		bpf_map__set_max_entries(b->gen->maps.gen_dsts, b->o.dst_cnt);
	err = gen_bpf__load(b->gen);
	if (err)
		livegen_die("cannot load the generator program: %s", strerror(-err));
	for (uint32_t i = 0; i < b->o.dst_cnt; i++) {
		if (bpf_map_update_elem(bpf_map__fd(b->gen->maps.gen_dsts), &i, &b->o.dsts_be[i], BPF_ANY))
			livegen_die("cannot tell the generator its destinations: %s", strerror(errno));
	}
	fd = bpf_program__fd(b->gen->progs.gen_xdp);
	/*
	 * A run of a program that is attached nowhere waits for an RCU grace period (25 ms) before and after.  So it
	 * is attached to the loopback device of a namespace of its own, where no packet ever comes by.
	 */
	if (unshare(CLONE_NEWNET))
		livegen_die("cannot make a network namespace: %s", strerror(errno));
	b->spare_netns = open_netns(NULL);
	b->gen_link = bpf_link_create(fd, (int)device_index("lo"), BPF_XDP, &opts);
	if (b->gen_link < 0)
		livegen_die("cannot attach the generator: %s", strerror(errno));
}

static void send_batch(struct bed *b, uint8_t *frame, uint32_t n)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = b->o.size_bytes, .repeat = (int)n,
		.flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = 64);
	int err = bpf_prog_test_run_opts(bpf_program__fd(b->gen->progs.gen_xdp), &opts);

	if (err && err != -EINTR)
		livegen_die("the kernel refused to run the generator: %s", strerror(-err));
}

static uint64_t sent_frames(const struct bed *b)
{
	return b->gen ? __atomic_load_n(&b->gen->bss->gen_sent, __ATOMIC_RELAXED) : 0;
}

static void take_sample(struct bed *b, struct sample *s)
{
	memset(s, 0, sizeof(*s));
	s->sent = sent_frames(b);
	read_sink(b, s);
	s->ns = now_ns();
	s->sink = read_device(b->sink_netns, b->o.sink);
	s->tx = read_device(b->tx_netns, b->o.tx);
	enter(b->tx_netns);
}

/* Frames due by the absolute schedule at this moment; 0 = wait. */
static uint32_t due(struct bed *b, uint64_t start_ns, uint64_t sent, uint64_t now)
{
	uint64_t want = (uint64_t)((double)(now - start_ns) * (double)b->o.rate_pps / 1e9);

	if (want <= sent)
		return 0;
	return want - sent > PACED_BATCH_MAX ? PACED_BATCH_MAX : (uint32_t)(want - sent);
}

/* Sends (or only waits, with no generator) until end_ns, the count or a signal. */
static void drive(struct bed *b, uint8_t *frame, uint64_t end_ns)
{
	uint64_t start = now_ns(), first = sent_frames(b), now;

	while (!stopped && (now = now_ns()) < end_ns) {
		uint64_t sent = sent_frames(b);
		uint32_t n = BATCH_MAX;

		if (!b->gen) {
			sleep_until(now + 10000000 < end_ns ? now + 10000000 : end_ns);
			continue;
		}
		if (b->o.count && sent >= b->o.count)
			break;
		if (b->o.rate_pps) {
			uint64_t deadline =
				start + (uint64_t)((double)(sent - first + 1) * 1e9 / (double)b->o.rate_pps);

			n = due(b, start, sent - first, now);
			if (!n) {
				if (deadline > now + 60000)
					sleep_until(deadline < end_ns ? deadline : end_ns);
				continue;
			}
			if (now > deadline && now - deadline > b->late_ns_max)
				b->late_ns_max = now - deadline;
			if (now > deadline + LAG_MAX_NS) {
				start = now;
				first = sent;
				b->restarts++;
				continue;
			}
		}
		if (b->o.count && b->o.count - sent < n)
			n = (uint32_t)(b->o.count - sent);
		send_batch(b, frame, n);
	}
}

/* ---- report ---- */

static void report(const struct bed *b, const struct sample *first, const struct sample *a, const struct sample *z,
	const struct sample *last)
{
	double s = (double)(z->ns - a->ns) / 1e9;
	unsigned long long sent = last->sent, got = last->packets - first->packets;

	if (!b->o.json) {
		printf("offered %.3f Mpps, arrived %.3f Mpps over %.2f s; in all %llu sent, %llu arrived, %llu other\n",
			(double)(z->sent - a->sent) / s / 1e6, (double)(z->packets - a->packets) / s / 1e6, s, sent,
			got, (unsigned long long)(last->other - first->other));
		return;
	}
	printf("{\"window_s\": %.6f, \"offered_pps\": %.0f, \"arrived_pps\": %.0f, \"sent_packets\": %llu, "
	       "\"arrived_packets\": %llu, "
	       "\"arrived_bytes\": %llu, \"other_packets\": %llu, \"late_max_ns\": %llu, \"clock_restarts\": %llu,\n"
	       " \"tx_device\": {\"tx_packets\": %llu, \"tx_dropped\": %llu}, \"sink_device\": {\"rx_packets\": %llu, "
	       "\"rx_dropped\": %llu}}\n",
		s, (double)(z->sent - a->sent) / s, (double)(z->packets - a->packets) / s, sent, got,
		(unsigned long long)(last->bytes - first->bytes), (unsigned long long)(last->other - first->other),
		(unsigned long long)b->late_ns_max, (unsigned long long)b->restarts,
		(unsigned long long)(last->tx.tx_packets - first->tx.tx_packets),
		(unsigned long long)(last->tx.tx_dropped - first->tx.tx_dropped),
		(unsigned long long)(last->sink.rx_packets - first->sink.rx_packets),
		(unsigned long long)(last->sink.rx_dropped - first->sink.rx_dropped));
}

int main(int argc, char **argv)
{
	static struct bed b;
	static uint8_t frame[LIVEGEN_FRAME_MAX];
	struct sample first, a, z, last;
	struct sigaction sa = { .sa_handler = stop };

	livegen_parse(&b.o, argc, argv);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	if (b.o.cpu >= 0) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(b.o.cpu, &set);
		if (sched_setaffinity(0, sizeof(set), &set))
			livegen_die("cannot run on CPU %d: %s", b.o.cpu, strerror(errno));
	}
	b.home_netns = open_netns(NULL);
	b.tx_netns = b.o.tx_netns ? open_netns(b.o.tx_netns) : b.home_netns;
	b.sink_netns = b.o.sink_netns ? open_netns(b.o.sink_netns) : b.home_netns;
	start_sink(&b);
	start_gen(&b, frame);
	take_sample(&b, &first);
	drive(&b, frame, now_ns() + (uint64_t)(b.o.warmup_s * 1e9));
	take_sample(&b, &a);
	drive(&b, frame, now_ns() + (uint64_t)(b.o.duration_s * 1e9));
	take_sample(&b, &z);
	sleep_until(now_ns() + 50000000); /* what is still under way */
	take_sample(&b, &last);
	report(&b, &first, &a, &z, &last);
	return stopped ? 130 : 0;
}
