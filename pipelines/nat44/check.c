/* SPDX-License-Identifier: BSD-2-Clause */
/* check.c - what `millrace check` says of a NAT on this box: time-outs below the RFCs', outside addresses nobody answers for. */
#include "pipelines/nat44/nat44.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static void check_timeouts(const struct nat *n, struct mr_check *check)
{
	const struct nat_timeout_options *o = &n->o->timeouts;
	const struct {
		const char *name;
		uint64_t is_ns, least_s;
		struct mr_position at;
		const char *rfc;
	} all[] = {
		{ "udp", o->udp_ns, 120, o->udp_at, "RFC 4787 REQ-5" },
		{ "udp_unreplied", o->udp_unreplied_ns, 120, o->udp_unreplied_at, "RFC 4787 REQ-5" },
		{ "tcp_established", o->tcp_established_ns, 7440, o->tcp_established_at, "RFC 5382 REQ-5" },
		{ "tcp_transitory", o->tcp_transitory_ns, 240, o->tcp_transitory_at, "RFC 5382 REQ-5" },
		{ "tcp_closed", o->tcp_closed_ns, 240, o->tcp_closed_at, "RFC 7857 section 2" },
		{ "icmp", o->icmp_ns, 60, o->icmp_at, "RFC 5508 REQ-2" },
	};
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (all[i].is_ns < all[i].least_s * 1000000000ull)
			mr_check_warn(check, all[i].at, "timeouts.%s is less than the %llu s of %s", all[i].name,
				(unsigned long long)all[i].least_s, all[i].rfc);
}

/* Addresses something is wrong with: the first, and how many more. */
struct found {
	char first[INET_ADDRSTRLEN];
	const char *device;
	unsigned cnt;
};

static void note(struct found *f, const struct mr_prefix *p, const char *device)
{
	if (f->cnt++)
		return;
	inet_ntop(AF_INET, p->addr, f->first, sizeof(f->first));
	f->device = device;
}

static void warn(struct mr_check *check, struct mr_position at, const struct found *f, const char *what)
{
	char more[32] = "";
	if (!f->cnt)
		return;
	if (f->cnt > 1)
		snprintf(more, sizeof(more), " and %u more", f->cnt - 1);
	mr_check_warn(check, at, "outside address %s%s %s%s%s", f->first, more, what, f->device ? f->device : "",
		f->device ? ", and nobody answers ARP for it (announce: true does)" : "");
}

static void check_addresses(const struct nat *n, struct mr_check *check)
{
	struct found unanswered = { 0 }, ours = { 0 }, not_ours = { 0 };
	struct mr_position at =
		n->o->outside.cnt ? n->o->outside.at[0] : ((const struct nat_static_options *)n->o->rules.items)->at;
	bool kernel = n->o->leftover == NAT_LEFTOVER_KERNEL;
	if (nat_ranges_count(&n->outsides) > NAT_ADDRESSES_MAX)
		return;
	for (uint32_t i = 0; i < n->outsides.cnt; i++)
		for (uint64_t a = n->outsides.range[i].lo; a <= n->outsides.range[i].hi; a++) {
			struct mr_prefix p = { .family = 4, .len = 32 };
			__be32 be = htonl((uint32_t)a);
			memcpy(p.addr, &be, 4);
			bool local = mr_check_is_local(check, &p);
			const char *device = local ? NULL : mr_check_on_link(check, &p);
			if (local && !kernel)
				note(&ours, &p, NULL);
			if (!local && kernel && nat_ranges_hold(&n->pool, (uint32_t)a))
				note(&not_ours, &p, NULL);
			if (device && !n->o->announce && !mr_check_is_proxied(check, &p))
				note(&unanswered, &p, device);
		}
	warn(check, at, &unanswered, "is on the network of ");
	warn(check, at, &ours,
		"is this box's own: what it gets for itself there is dropped (leftover: kernel passes it on)");
	warn(check, at, &not_ours, "is not this box's own: what the kernel gets of it (leftover: kernel) it routes");
}

void nat_check(void *stage, struct mr_check *check)
{
	check_timeouts(stage, check);
	check_addresses(stage, check);
}
