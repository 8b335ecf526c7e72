/* SPDX-License-Identifier: BSD-2-Clause */
/* want.c - what each type of option is called and wants, in words: for sentences, help, the schema and the reference. */
#include "core/option.h"
#include "core/value.h"
#include "kern/abi.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *noun, *want;
} words[] = {
	[MR_TYPE_BOOL] = { "a yes or no", "true or false" },
	[MR_TYPE_UINT] = { "a number", "a number" },
	[MR_TYPE_BYTES] = { "a number of bytes", "a number of bytes" },
	[MR_TYPE_DURATION] = { "a duration", "a number with a unit, as 500ms, 2s, 5m, 2h" },
	[MR_TYPE_RATE] = { "a rate", "a number with" },
	[MR_TYPE_STRING] = { "a text", "a text" },
	[MR_TYPE_NAME] = { "a name", "letters, digits, - and _" },
	[MR_TYPE_ENUM] = { "a word", "one of" },
	[MR_TYPE_PREFIX] = { "an IP prefix", "10.0.0.0/8 or \"2001:db8::/32\"" },
	[MR_TYPE_ADDRESS] = { "an IP address", "10.0.0.1 or \"2001:db8::1\"" },
	[MR_TYPE_PREFIX_LIST] = { "a prefix or list of prefixes",
		"10.0.0.0/8, \"2001:db8::/32\", a list of such, or $set" },
	[MR_TYPE_PORT_LIST] = { "a port or list of ports", "22, 8000-8100, a list of such, or $set" },
	[MR_TYPE_PROTO_LIST] = { "a protocol or list of protocols",
		"tcp, udp, icmp, icmp6, gre, esp, sctp, 0-255, or a list" },
	[MR_TYPE_ICMP_LIST] = { "an ICMP type or list of them", "echo-request, 8, 3/4, or a list" },
	[MR_TYPE_ETHERTYPE_LIST] = { "an Ethernet type or list of them", "ip, ip6, arp, 0x88cc, or a list" },
	[MR_TYPE_UINT_LIST] = { "a number or list of numbers", "numbers and ranges" },
	[MR_TYPE_TCP_FLAGS] = { "a set of TCP flags", "syn, or syn/syn+ack: those set of those looked at" },
	[MR_TYPE_CORES] = { "a CPU core or list of cores", "2-3 or [ 2, 4 ]" },
	[MR_TYPE_STRING_LIST] = { "a text or list of texts", "a text or a list of texts" },
	[MR_TYPE_OBJECT] = { "a mapping", "{ key: value, ... }" },
	[MR_TYPE_LIST] = { "a list", "a list of mappings, [ { key: value, ... } ]" },
	[MR_TYPE_MAP] = { "a mapping of names", "{ name: { ... }, ... }" },
	[MR_TYPE_NODE] = { "anything", "{ ... }" },
	[MR_TYPE_QUEUES] = { "a choice of queues", "all, a number of queues up to 64, or a list of queue ids of 0-63" },
};

_Static_assert(MR_MAX_QUEUES == 64, "the sentence for queues names this limit");

const char *mr_option_noun(enum mr_option_type type)
{
	return words[type].noun;
}

/* 64000000 ns as "64ms", 65536 as "64Ki", 2000 as "2k": the largest suffix that leaves a whole number. */
static void number_text(const struct mr_option *o, uint64_t v, char *buf, size_t bytes)
{
	static const struct {
		const char *text;
		uint64_t factor;
	} time[] = { { "d", UINT64_C(86400000000000) }, { "h", UINT64_C(3600000000000) },
		{ "m", UINT64_C(60000000000) }, { "s", 1000000000 }, { "ms", 1000000 }, { "us", 1000 }, { "ns", 1 } },
	  count[] = { { "G", 1000000000 }, { "M", 1000000 }, { "k", 1000 } };
	if (o->type == MR_TYPE_DURATION) {
		for (unsigned i = 0; v && i < sizeof(time) / sizeof(time[0]); i++)
			if (v % time[i].factor == 0) {
				snprintf(buf, bytes, "%llu%s", (unsigned long long)(v / time[i].factor), time[i].text);
				return;
			}
	}
	for (unsigned i = 0; o->type != MR_TYPE_DURATION && v >= 100000 && i < sizeof(count) / sizeof(count[0]); i++)
		if (v % count[i].factor == 0) {
			snprintf(buf, bytes, "%llu%s", (unsigned long long)(v / count[i].factor), count[i].text);
			return;
		}
	snprintf(buf, bytes, "%llu", (unsigned long long)v);
}

static size_t append(char *buf, size_t bytes, size_t n, const char *text)
{
	if (n < bytes)
		n += (size_t)snprintf(buf + n, bytes - n, "%s", text);
	return n;
}

static size_t append_words(char *buf, size_t bytes, size_t n, const char *const *values)
{
	for (unsigned i = 0; values[i]; i++) {
		n = append(buf, bytes, n, i ? ", " : " ");
		n = append(buf, bytes, n, values[i]);
	}
	return n;
}

static size_t append_range(char *buf, size_t bytes, size_t n, const struct mr_option *o)
{
	char lo[32], hi[32], text[96];
	bool timed = o->type == MR_TYPE_DURATION || o->type == MR_TYPE_RATE;
	number_text(o, o->min, lo, sizeof(lo));
	number_text(o, o->max, hi, sizeof(hi));
	if (o->max && o->max == o->min)
		snprintf(text, sizeof(text), ", %s only", lo);
	else if (o->max)
		snprintf(text, sizeof(text), "%s %s %s %s", timed ? ", between" : " of", lo, timed ? "and" : "to", hi);
	else if (o->min)
		snprintf(text, sizeof(text), ", at least %s", lo);
	else
		return n;
	return append(buf, bytes, n, text);
}

const char *mr_option_want(const struct mr_option *o, char *buf, size_t bytes)
{
	size_t n = 0;
	buf[0] = 0;
	switch (o->type) {
	case MR_TYPE_ENUM:
		n = append(buf, bytes, n, words[o->type].want);
		append_words(buf, bytes, n, o->values);
		break;
	case MR_TYPE_RATE: {
		char text[64];
		const char *s = mr_value_rate_suffix(o->unit);
		snprintf(text, sizeof(text), "a number with %s, as 500k%s, 2M%s", s, s, s);
		append_range(buf, bytes, append(buf, bytes, n, text), o);
		break;
	}
	case MR_TYPE_UINT:
	case MR_TYPE_BYTES:
		n = append(buf, bytes, n, o->power_of_two ? "a power of two" : words[o->type].want);
		n = append_range(buf, bytes, n, o);
		if (o->values) {
			n = append(buf, bytes, n, " or ");
			append(buf, bytes, n, o->values[0]);
		}
		break;
	case MR_TYPE_DURATION:
	case MR_TYPE_UINT_LIST:
		append_range(buf, bytes, append(buf, bytes, n, words[o->type].want), o);
		break;
	case MR_TYPE_LIST:
		if (o->values) {
			n = append(buf, bytes, n, "one of");
			n = append_words(buf, bytes, n, o->values);
			n = append(buf, bytes, n, ", or ");
		}
		append(buf, bytes, n, words[o->type].want);
		break;
	default:
		append(buf, bytes, n, words[o->type].want);
	}
	return buf;
}
