/* SPDX-License-Identifier: BSD-2-Clause */
/* check.c - what `millrace check` says of a NAT on this box: time-outs below the RFCs', outside addresses nobody answers for. */
#include "pipelines/nat44/nat44.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
	mr_check_warn(check, at, "outside address %s%s: %s%s%s", f->first, more, what, f->device ? f->device : "",
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
			if (!local && kernel && !(device && n->o->announce) && nat_ranges_hold(&n->pool, (uint32_t)a))
				note(&not_ours, &p, NULL);
			if (device && !n->o->announce && !mr_check_is_proxied(check, &p))
				note(&unanswered, &p, device);
		}
	warn(check, at, &unanswered, "on the network of ");
	warn(check, at, &ours,
		"this box's own: what it gets for itself there is dropped (leftover: kernel passes it on)");
	warn(check, at, &not_ours, "not this box's own: what the kernel gets of it (leftover: kernel) it routes");
}

/* What the box sends itself must not have ports of mappings: the answers would go inside. */
static void check_own_ports(const struct nat *n, struct mr_check *check)
{
	unsigned lo = 0, hi = 0, both_lo, both_hi;
	char reserved[8] = "";
	FILE *f = n->o->leftover == NAT_LEFTOVER_KERNEL && n->pool.cnt
		? fopen("/proc/sys/net/ipv4/ip_local_port_range", "re")
		: NULL;
	if (!f)
		return;
	if (fscanf(f, "%u %u", &lo, &hi) != 2)
		lo = hi = 0;
	fclose(f);
	both_lo = lo > n->policy.port_lo ? lo : n->policy.port_lo;
	both_hi = hi < n->policy.port_hi ? hi : n->policy.port_hi;
	f = fopen("/proc/sys/net/ipv4/ip_local_reserved_ports", "re");
	if (f && fscanf(f, "%7s", reserved) != 1)
		reserved[0] = '\0';
	if (f)
		fclose(f);
	/* Whoever reserves ports knows what they do. */
	if (lo && both_lo <= both_hi && !reserved[0])
		mr_check_warn(check, n->o->outside.at[0],
			"leftover: kernel: ports %u-%u are the NAT's, and the kernel takes them too for what the box "
			"sends "
			"itself (sysctl net.ipv4.ip_local_port_range is %u-%u)",
			both_lo, both_hi, lo, hi);
}

/* 0, or why a file of this name can be neither made nor appended to.  One folder that is missing is made. */
static int unwritable(const char *file)
{
	char text[PATH_MAX];
	struct stat st;
	if (!stat(file, &st))
		return S_ISDIR(st.st_mode) ? EISDIR : access(file, W_OK) ? errno : 0;
	for (unsigned up = 0; errno == ENOENT && up < 2; up++) {
		if ((size_t)snprintf(text, sizeof(text), "%s", file) >= sizeof(text))
			return ENAMETOOLONG;
		for (unsigned i = 0; i <= up; i++) {
			char *slash = strrchr(text, '/');
			if (slash)
				*slash = '\0';
			else
				strcpy(text, ".");
		}
		if (!access(text[0] ? text : "/", W_OK | X_OK))
			return 0;
	}
	return errno;
}

static void check_log(const struct nat *n, struct mr_check *check)
{
	const char *file = n->o->log.syslog ? "/dev/log" : n->o->log.file;
	if (!n->o->log_given)
		return;
	int err = n->o->log.syslog ? access(file, F_OK) ? errno : 0 : unwritable(file);
	if (err)
		mr_check_warn(check, n->o->log_at, "the log cannot be written: %s: %s", file, strerror(err));
}

void nat_check(void *stage, struct mr_check *check)
{
	check_timeouts(stage, check);
	check_addresses(stage, check);
	check_own_ports(stage, check);
	check_log(stage, check);
}
