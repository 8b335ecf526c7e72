/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/spread.h"

#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define TABLE_MAX 16384u

static bool ask(int fd, const char *device, void *cmd)
{
	struct ifreq ifr = { 0 };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", device);
	ifr.ifr_data = cmd;
	return ioctl(fd, SIOCETHTOOL, &ifr) >= 0;
}

static void table_query(int fd, const char *device, struct mr_spread *s)
{
	struct ethtool_rxfh_indir size = { .cmd = ETHTOOL_GRXFHINDIR };

	if (!ask(fd, device, &size) || !size.size || size.size > TABLE_MAX)
		return;
	struct ethtool_rxfh_indir *t = calloc(1, sizeof(*t) + size.size * sizeof(t->ring_index[0]));
	if (!t)
		return;
	t->cmd = ETHTOOL_GRXFHINDIR;
	t->size = size.size;
	if (ask(fd, device, t)) {
		for (uint32_t i = 0; i < t->size; i++)
			if (t->ring_index[i] < MR_SPREAD_QUEUES)
				s->weight[t->ring_index[i]]++;
		s->entry_cnt = t->size;
	}
	free(t);
}

static void fields_query(int fd, const char *device, struct mr_spread *s)
{
	static const uint32_t type[MR_SPREAD_FLOWS] = { TCP_V4_FLOW, UDP_V4_FLOW, TCP_V6_FLOW, UDP_V6_FLOW };

	for (unsigned f = 0; f < MR_SPREAD_FLOWS; f++) {
		struct ethtool_rxnfc c = { .cmd = ETHTOOL_GRXFH, .flow_type = type[f] };
		if (!ask(fd, device, &c))
			continue;
		s->fields[f] = (uint8_t)((c.data & (RXH_IP_SRC | RXH_IP_DST) ? MR_SPREAD_ADDRESSES : 0) |
			(c.data & (RXH_L4_B_0_1 | RXH_L4_B_2_3) ? MR_SPREAD_PORTS : 0) |
			(c.data & RXH_VLAN ? MR_SPREAD_VLAN : 0));
	}
}

void mr_spread_query(const char *device, struct mr_spread *out)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memset(out, 0, sizeof(*out));
	if (fd < 0)
		return;
	table_query(fd, device, out);
	fields_query(fd, device, out);
	close(fd);
}

static size_t add(char *buf, size_t bytes, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static size_t add(char *buf, size_t bytes, const char *fmt, ...)
{
	size_t n = strlen(buf);
	va_list ap;

	va_start(ap, fmt);
	if (n + 1 < bytes)
		vsnprintf(buf + n, bytes - n, fmt, ap);
	va_end(ap);
	return strlen(buf);
}

static void add_range(char *buf, size_t bytes, const char *before, unsigned lo, unsigned hi)
{
	if (lo == hi)
		add(buf, bytes, "%s%u", before, lo);
	else
		add(buf, bytes, "%s%u-%u", before, lo, hi);
}

static void describe_table(const struct mr_spread *s, char *buf, size_t bytes)
{
	add(buf, bytes, "%u entries:", s->entry_cnt);
	for (unsigned q = 0, first = 1; q < MR_SPREAD_QUEUES;) {
		unsigned lo = q++;
		while (q < MR_SPREAD_QUEUES && s->weight[q] == s->weight[lo])
			q++;
		if (!s->weight[lo])
			continue;
		add_range(buf, bytes,
			first ? (q - lo > 1 ? " queues " : " queue ") : (q - lo > 1 ? ", queues " : ", queue "), lo,
			q - 1);
		add(buf, bytes, q - lo > 1 ? " with %u each" : " with %u", s->weight[lo]);
		first = 0;
	}
}

void mr_spread_describe(const struct mr_spread *s, char *buf, size_t bytes)
{
	static const char *const flow[] = { "tcp4", "udp4", "tcp6", "udp6" };
	static const char *const what[] = { "", "addresses", "ports", "addresses and ports", "VLAN id",
		"addresses and VLAN id", "ports and VLAN id", "addresses, ports and VLAN id" };
	const char *sep = "; hashed: ";

	buf[0] = 0;
	if (s->entry_cnt)
		describe_table(s, buf, bytes);
	else
		add(buf, bytes, "the driver tells none");
	for (unsigned f = 0; f < MR_SPREAD_FLOWS; f++) {
		if (!s->fields[f])
			continue;
		add(buf, bytes, "%s%s by %s", sep, flow[f], what[s->fields[f] & 7]);
		sep = ", ";
	}
}

static bool served(const uint16_t *queue, unsigned cnt, unsigned q)
{
	for (unsigned i = 0; i < cnt; i++)
		if (queue[i] == q)
			return true;
	return false;
}

/* The queues whose table entries and sockets disagree: "2-3, 7". */
static unsigned disagree(const struct mr_spread *s, const uint16_t *queue, unsigned cnt, unsigned device_queue_cnt,
	bool has_socket, char *buf, size_t bytes)
{
	unsigned found = 0;

	buf[0] = 0;
	for (unsigned q = 0; q < device_queue_cnt && q < MR_SPREAD_QUEUES;) {
		unsigned lo = q;
		while (q < device_queue_cnt && q < MR_SPREAD_QUEUES && served(queue, cnt, q) == has_socket &&
			(s->weight[q] != 0) != has_socket)
			q++;
		if (q == lo) {
			q++;
			continue;
		}
		add_range(buf, bytes, found ? ", " : "", lo, q - 1);
		found += q - lo;
	}
	return found;
}

void mr_spread_warn(const struct mr_spread *s, const uint16_t *queue, unsigned cnt, unsigned device_queue_cnt,
	bool first_only, char *buf, size_t bytes)
{
	char list[64];

	buf[0] = 0;
	if (first_only && cnt > 1) {
		add(buf, bytes,
			"in generic mode this driver does not tell the queue of a packet: all come by queue 0, to one "
			"worker");
		return;
	}
	if (!s->entry_cnt)
		return;
	if (disagree(s, queue, cnt, device_queue_cnt, false, list, sizeof(list)))
		add(buf, bytes, "the device spreads packets (RSS) to queues without a socket: %s", list);
	if (disagree(s, queue, cnt, device_queue_cnt, true, list, sizeof(list)))
		add(buf, bytes, "%sthe device spreads no packets (RSS) to queues with a socket: %s", buf[0] ? "; " : "",
			list);
	if (buf[0])
		add(buf, bytes, " (`ethtool -X` sets that)");
}
