// SPDX-License-Identifier: BSD-2-Clause
#include "livegen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DSTS_MAX (1u << 20)

void livegen_die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("livegen: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

static void usage(FILE *to)
{
	fputs("usage: livegen [--tx DEV [--tx-netns NS]] [--sink DEV [--sink-netns NS]] [options]\n"
	      "  --src IP --dst IP       addresses of one family (198.18.0.1, 198.19.0.1); the source is the first "
	      "flow's\n"
	      "  --dsts FILE             IPv4 destinations, one a line, taken in turn (instead of --dst)\n"
	      "  --smac MAC --dmac MAC   Ethernet addresses (02:00:00:00:00:01, ff:ff:ff:ff:ff:ff)\n"
	      "  --sport N --dport N     UDP ports (1024, 9)\n"
	      "  --flows N               source ports and addresses to cycle through (1)\n"
	      "  --size BYTES            of a frame without its checksum, 60 to 3000 (60; IPv6 62)\n"
	      "  --rate PPS              paced on absolute deadlines; 0 = as fast as it goes (0)\n"
	      "  --duration S --warmup S measured time and the time before it (3, 0.5)\n"
	      "  --count N               stop after N frames\n"
	      "  --cpu N                 run on this CPU\n"
	      "  --generic               attach the sink in generic mode\n"
	      "  --json                  one JSON object on standard output\n",
		to);
}

static void parse_mac(const char *s, uint8_t *mac)
{
	char rest;

	if (sscanf(s, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx%c", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5], &rest) !=
		6)
		livegen_die("'%s' is not an Ethernet address", s);
}

static double number(const char *s, double min, double max)
{
	char *end;
	double v = strtod(s, &end);

	if (end == s || *end || !(v >= min && v <= max))
		livegen_die("'%s' is not a number from %.0f to %.0f", s, min, max);
	return v;
}

enum opt {
	TX = 256,
	TX_NS,
	SINK,
	SINK_NS,
	SRC,
	DST,
	DSTS,
	SMAC,
	DMAC,
	SPORT,
	DPORT,
	FLOWS,
	SIZE,
	RATE,
	DURATION,
	WARMUP,
	COUNT,
	CPU,
	GENERIC,
	JSON,
	HELP
};

static const struct option long_options[] = {
	{ "tx", 1, NULL, TX },
	{ "tx-netns", 1, NULL, TX_NS },
	{ "sink", 1, NULL, SINK },
	{ "sink-netns", 1, NULL, SINK_NS },
	{ "src", 1, NULL, SRC },
	{ "dst", 1, NULL, DST },
	{ "dsts", 1, NULL, DSTS },
	{ "smac", 1, NULL, SMAC },
	{ "dmac", 1, NULL, DMAC },
	{ "sport", 1, NULL, SPORT },
	{ "dport", 1, NULL, DPORT },
	{ "flows", 1, NULL, FLOWS },
	{ "size", 1, NULL, SIZE },
	{ "rate", 1, NULL, RATE },
	{ "duration", 1, NULL, DURATION },
	{ "warmup", 1, NULL, WARMUP },
	{ "count", 1, NULL, COUNT },
	{ "cpu", 1, NULL, CPU },
	{ "generic", 0, NULL, GENERIC },
	{ "json", 0, NULL, JSON },
	{ "help", 0, NULL, HELP },
	{ NULL, 0, NULL, 0 },
};

static void parse_number(struct livegen_options *o, int c, const char *arg)
{
	switch (c) {
	case SPORT:
		o->sport = (uint16_t)number(arg, 1, 65535);
		break;
	case DPORT:
		o->dport = (uint16_t)number(arg, 1, 65535);
		break;
	case FLOWS:
		o->flows = (uint32_t)number(arg, 1, 4e9);
		break;
	case SIZE:
		o->size_bytes = (uint32_t)number(arg, 60, LIVEGEN_FRAME_MAX);
		break;
	case RATE:
		o->rate_pps = (uint64_t)number(arg, 0, 1e9);
		break;
	case DURATION:
		o->duration_s = number(arg, 0, 86400);
		break;
	case WARMUP:
		o->warmup_s = number(arg, 0, 3600);
		break;
	case COUNT:
		o->count = (uint64_t)number(arg, 1, 1e15);
		break;
	case CPU:
		o->cpu = (int)number(arg, 0, 1023);
		break;
	}
}

static const struct livegen_options defaults = { .src = "198.18.0.1",
	.dst = "198.19.0.1",
	.smac = { 2, 0, 0, 0, 0, 1 },
	.dmac = { 255, 255, 255, 255, 255, 255 },
	.sport = 1024,
	.dport = 9,
	.flows = 1,
	.size_bytes = 60,
	.duration_s = 3,
	.warmup_s = 0.5,
	.cpu = -1 };

/* One IPv4 address a line. */
static void read_dsts(struct livegen_options *o, const char *path)
{
	FILE *f = fopen(path, "re");
	char line[64];

	if (!f)
		livegen_die("cannot read %s: %s", path, strerror(errno));
	o->dsts_be = malloc(DSTS_MAX * sizeof(*o->dsts_be));
	if (!o->dsts_be)
		livegen_die("out of memory");
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (o->dst_cnt == DSTS_MAX)
			livegen_die("%s: more than %u addresses", path, DSTS_MAX);
		if (inet_pton(AF_INET, line, &o->dsts_be[o->dst_cnt++]) != 1)
			livegen_die("%s: '%s' is not an IPv4 address", path, line);
	}
	fclose(f);
	if (!o->dst_cnt)
		livegen_die("%s: no address", path);
}

void livegen_parse(struct livegen_options *o, int argc, char **argv)
{
	int c;

	*o = defaults;

	while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (c) {
		case TX:
			o->tx = optarg;
			break;
		case TX_NS:
			o->tx_netns = optarg;
			break;
		case SINK:
			o->sink = optarg;
			break;
		case SINK_NS:
			o->sink_netns = optarg;
			break;
		case SRC:
			o->src = optarg;
			break;
		case DST:
			o->dst = optarg;
			break;
		case DSTS:
			read_dsts(o, optarg);
			break;
		case SMAC:
			parse_mac(optarg, o->smac);
			break;
		case DMAC:
			parse_mac(optarg, o->dmac);
			break;
		case GENERIC:
			o->generic = true;
			break;
		case JSON:
			o->json = true;
			break;
		case HELP:
			usage(stdout);
			exit(0);
		case '?':
			usage(stderr);
			exit(2);
		default:
			parse_number(o, c, optarg);
		}
	}
	if (optind != argc || (!o->tx && !o->sink)) {
		usage(stderr);
		exit(2);
	}
	if (strchr(o->dst, ':') && o->dsts_be)
		livegen_die("--dsts wants IPv4 addresses, --dst is none");
	if (strchr(o->dst, ':') && o->size_bytes < 62)
		o->size_bytes = 62;
}
