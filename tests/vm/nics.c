/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/vm/nics.h"

#include "tests/netns/spaces.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define MAGIC     0x6d696c6cu
#define HEADER    (14u + 20 + 8)
#define WINDOW    64u /* frames on the way at most: less than every ring */
#define QUIET_MS  500u
#define FRAME_MAX 1514u

static const char *const devices[] = { "g0", "r0", "r1", "s0", "r2", "g2" };

/* ---- devices -------------------------------------------------------------------------------------------------- */

bool nics_run(const char *space, const char *fmt, ...)
{
	char cmd[512], name[32];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	snprintf(name, sizeof(name), "mr-vm-%s", space);
	return spaces_shell(*space == 'r' ? NULL : name, cmd);
}

void nics_pause(unsigned ms)
{
	nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l }, NULL);
}

bool nics_wait(unsigned limit_ms, bool (*what)(void *), void *arg)
{
	for (unsigned i = 0; i <= limit_ms / 20; i++) {
		if (what(arg))
			return true;
		nics_pause(20);
	}
	return false;
}

/* The present name of the device with this MAC address; false if there is none here. */
static bool present_name(const char *mac, char *name, size_t bytes)
{
	DIR *d = opendir("/sys/class/net");
	bool found = false;

	for (struct dirent *e; d && !found && (e = readdir(d));) {
		char path[300], text[32] = { 0 };
		snprintf(path, sizeof(path), "/sys/class/net/%s/address", e->d_name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && !strncmp(text, mac, strlen(mac))) {
			snprintf(name, bytes, "%.15s", e->d_name);
			found = true;
		}
		if (fd >= 0)
			close(fd);
	}
	if (d)
		closedir(d);
	return found;
}

static void mac_of(const char *device, char *mac, size_t bytes)
{
	unsigned idx = 0;

	while (strcmp(devices[idx], device))
		idx++;
	snprintf(mac, bytes, "52:54:00:6d:72:%02x", idx + 1);
}

bool nics_name(const char *device)
{
	char mac[32], name[64];

	mac_of(device, mac, sizeof(mac));
	for (unsigned tries = 0; tries < 200; tries++) {
		if (present_name(mac, name, sizeof(name))) {
			if (strcmp(name, device))
				(void)nics_run("r", "ip link set %s down; ip link set %s name %s", name, name, device);
			/* virtio-net filters by MAC address, and what crosses a bump in the wire is addressed to others */
			return nics_run("r", "ip link set %s up promisc on", device);
		}
		nics_pause(50);
	}
	return false;
}

bool nics_have(const char *device)
{
	char mac[32], name[64];

	mac_of(device, mac, sizeof(mac));
	return present_name(mac, name, sizeof(name)) || nics_run("g", "ip link show %s", device);
}

static void host(const char *space, const char *device, unsigned net, unsigned nr)
{
	(void)nics_run("r", "ip link set %s netns mr-vm-%s", device, space);
	(void)nics_run(space,
		"ethtool -K %s tx off tso off gso off gro off; ip link set %s up; ip addr add 10.%u.0.%u/24 dev %s;"
		"ip addr add fd%u::%u/64 dev %s nodad",
		device, device, net, nr, device, net, nr, device);
}

static void need_guest(void)
{
	char name[64];

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (getenv("MR_VM") && present_name("52:54:00:6d:72:02", name, sizeof(name)))
		return;
	printf("1..0 # SKIP only in a guest of tests/vm/run --suite zerocopy\n");
	exit(77);
}

void nics_pair(void)
{
	need_guest();
	(void)nics_run("g", "ip link set g0 netns 1");
	for (unsigned i = 0; i < 2; i++) {
		(void)nics_name(devices[i]);
		(void)nics_run("r", "echo 1 >/proc/sys/net/ipv6/conf/%s/disable_ipv6", devices[i]);
	}
}

void nics_begin(void)
{
	char name[64];

	need_guest();
	for (const char *s = "gs"; *s; s++) {
		char space[2] = { *s, 0 };
		(void)nics_run("r", "ip netns add mr-vm-%s", space);
		(void)nics_run(space,
			"ip link set lo up; echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad;"
			"echo 0 >/proc/sys/net/ipv6/conf/default/router_solicitations");
	}
	for (unsigned i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
		char mac[32];
		mac_of(devices[i], mac, sizeof(mac));
		if (!present_name(mac, name, sizeof(name)))
			continue; /* already in its place, or not in this machine */
		/* what is ours speaks no IPv6 of its own */
		(void)nics_run("r", "echo 1 >/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
		(void)nics_name(devices[i]);
		if (*devices[i] != 'r')
			host(*devices[i] == 'g' ? "g" : "s", devices[i], devices[i][1] == '2' ? 89 : 88,
				*devices[i] == 'g' ? 1 : 2);
	}
	for (const char *s = "gs"; *s; s++) {
		char space[2] = { *s, 0 };
		(void)nics_run(space,
			"echo 0 >/proc/sys/net/ipv6/conf/%c0/disable_ipv6; ip addr replace fd88::%u/64 dev %c0 nodad",
			*s, *s == 'g' ? 1 : 2, *s);
	}
}

bool nics_ping(const char *address, unsigned cnt)
{
	/* one first for neighbour discovery */
	(void)nics_run("g", "ping -c 1 -W 2 %s", address);
	return nics_run("g", "ping -i 0.01 -c %u -W 2 %s | grep -q \" %u received\"", cnt, address, cnt);
}

bool nics_ask(const char *fmt, ...)
{
	char line[128], answer[128] = { 0 };
	struct termios t;
	size_t used = 0;
	va_list ap;

	va_start(ap, fmt);
	int len = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	line[len++] = '\n';
	int fd = open("/dev/ttyS2", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (!tcgetattr(fd, &t)) {
		cfmakeraw(&t);
		(void)tcsetattr(fd, TCSANOW, &t);
	}
	bool sent = write(fd, line, (size_t)len) == len;
	for (unsigned i = 0; sent && i < 100 && !memchr(answer, '\n', used); i++) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		if (poll(&p, 1, 100) > 0) {
			ssize_t n = read(fd, answer + used, sizeof(answer) - 1 - used);
			used += n > 0 ? (size_t)n : 0;
		}
	}
	close(fd);
	if (strncmp(answer, "ok", 2))
		printf("# asked '%.*s', answered '%s'\n", len - 1, line, answer);
	return !strncmp(answer, "ok", 2);
}

/* ---- numbered frames ------------------------------------------------------------------------------------------ */

struct nics_line {
	int fd;
	uint32_t round;
};

struct nics_line *nics_line_open(const char *space, const char *device)
{
	struct nics_line *l = calloc(1, sizeof(*l));
	char path[64];
	const int room = 8 << 20, one = 1;
	int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), there;

	snprintf(path, sizeof(path), "/run/netns/mr-vm-%s", space);
	there = open(path, O_RDONLY | O_CLOEXEC);
	if (!l || here < 0 || there < 0 || setns(there, CLONE_NEWNET))
		abort();
	struct sockaddr_ll a = {
		.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_ifindex = (int)if_nametoindex(device)
	};
	struct packet_mreq m = { .mr_ifindex = a.sll_ifindex, .mr_type = PACKET_MR_PROMISC };
	l->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	(void)setsockopt(l->fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	(void)setsockopt(l->fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	(void)setsockopt(l->fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one));
	(void)setsockopt(l->fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m, sizeof(m));
	if (bind(l->fd, (struct sockaddr *)&a, sizeof(a)) || setns(here, CLONE_NEWNET))
		abort();
	close(here);
	close(there);
	return l;
}

void nics_line_close(struct nics_line *l)
{
	close(l->fd);
	free(l);
}

static unsigned frame_make(uint8_t *f, uint32_t round, uint32_t nr)
{
	/* every length between the smallest and the largest comes, in no order */
	const unsigned len = 60 + nr * 367 % (FRAME_MAX - 60 + 1);
	const uint16_t total = htons((uint16_t)(len - 14)), udp = htons((uint16_t)(len - 34));
	const uint16_t port = htons((uint16_t)(4000 + nr % 16));
	const uint32_t words[3] = { MAGIC, round, nr };
	uint32_t sum = 0;

	memset(f, 0, HEADER);
	memcpy(f, "\x02\0\0\0\0\x77\x02\0\0\0\0\x66\x08\0\x45", 15); /* to nobody: the stack leaves it alone */
	memcpy(f + 16, &total, 2);
	memcpy(f + 22, "\x40\x11", 2);
	memcpy(f + 26, "\x0a\x58\0\x01\x0a\x58\0\x63", 8);
	for (unsigned i = 14; i < 34; i += 2)
		sum += (unsigned)f[i] << 8 | f[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~((sum & 0xffff) + (sum >> 16));
	f[24] = (uint8_t)(sum >> 8);
	f[25] = (uint8_t)sum;
	memcpy(f + 34, &port, 2);
	memcpy(f + 36, "\0\x09", 2);
	memcpy(f + 38, &udp, 2);
	memcpy(f + HEADER, words, sizeof(words));
	for (unsigned i = HEADER + sizeof(words); i < len; i++)
		f[i] = (uint8_t)(nr + i * 7);
	return len;
}

/* Takes what has come; returns how many frames of this round those were. */
static unsigned receive(struct nics_line *to, uint32_t round, uint8_t *seen, unsigned cnt, struct nics_result *r)
{
	uint8_t got[2048], want[FRAME_MAX];
	unsigned n = 0;
	ssize_t len;

	while ((len = recv(to->fd, got, sizeof(got), 0)) > 0) {
		uint32_t words[3];
		if (len < 60)
			continue;
		memcpy(words, got + HEADER, sizeof(words));
		if (words[0] != MAGIC || words[1] != round || words[2] >= cnt)
			continue;
		n++;
		/* the MAC addresses may have been swapped on the way */
		if (frame_make(want, round, words[2]) != (unsigned)len || memcmp(want + 12, got + 12, (size_t)len - 12))
			r->broken_cnt++;
		else if (seen[words[2]]++)
			r->twice_cnt++;
		else
			r->received_cnt++;
	}
	return n;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

struct nics_result nics_traffic(
	struct nics_line *from, struct nics_line *to, unsigned cnt, void (*between)(void *), void *arg)
{
	static uint32_t rounds;
	struct nics_result r = { 0 };
	const uint32_t round = ++rounds;
	uint8_t f[FRAME_MAX], *seen = calloc(cnt, 1);
	uint64_t last_ms = now_ms(), slack = 0;

	while (r.received_cnt + r.broken_cnt < cnt && now_ms() - last_ms < QUIET_MS) {
		/* when frames are lost the window would stand still: it moves on */
		for (unsigned i = 0; i < 16 && r.sent_cnt < cnt && r.sent_cnt < r.received_cnt + WINDOW + slack; i++) {
			unsigned len = frame_make(f, round, r.sent_cnt);
			if (send(from->fd, f, len, 0) != (ssize_t)len)
				break;
			r.sent_cnt++;
			last_ms = now_ms();
		}
		if (between)
			between(arg);
		if (receive(to, round, seen, cnt, &r)) {
			last_ms = now_ms();
		} else {
			nics_pause(1);
			if (now_ms() - last_ms > QUIET_MS / 5 && r.sent_cnt < cnt)
				slack = r.sent_cnt - r.received_cnt;
		}
	}
	free(seen);
	return r;
}
