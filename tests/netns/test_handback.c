/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every frame that reaches r0 is steered up and handed back: the stack of r answers as if nothing had happened, and nothing goes round in circles.
 */
#include "core/steer.h"
#include "tests/netns/forwarder.h"
#include "tests/netns/spaces.h"

#include <string.h>
#include <time.h>

static bool steer_everything(struct mr_interface *i)
{
	const struct mr_steer_entry all = { .match = NULL, .pipeline = 0, .except = false };
	struct mr_steer_table *t = NULL;
	struct mr_error e = { { 0 } };
	bool ok = !mr_steer_compile(&all, 1, &t, &e) && !mr_steer_apply(mr_interface_steer(i), t, &e);

	if (!ok)
		tap_note("%s", e.text);
	mr_steer_table_free(t);
	return ok;
}

static void handback_case(const char *what, enum mr_mode mode)
{
	struct forwarder f;
	struct mr_error e = { { 0 } };

	spaces_wire(1);
	(void)spaces_run("r", "ip addr add 10.77.0.254/24 dev r0; ip addr add fd77::fe/64 dev r0 nodad");
	forwarder_create(&f, 8192, 1);
	bool opened = !forwarder_open(&f, 0, "r0", mode, &e);
	tap_case(opened, "%s: opens %s", what, e.text);
	if (!opened)
		return;
	const struct mr_interface_info *info = mr_interface_info(f.port[0]);
	struct mr_handback_options opt = { .ifindex = info->ifindex,
		.mtu = info->mtu,
		.generic = mode == MR_MODE_GENERIC,
		.shim_cookie = f.shim_cookie };
	tap_case(!mr_handback_open(&opt, &f.handback, &e), "%s: hand-back opens %s", what, e.text);
	tap_case(steer_everything(f.port[0]), "%s: everything is steered", what);
	forwarder_start(&f);
	tap_case(spaces_ping("10.77.0.254", 100), "%s: own IPv4 address answers 100 of 100", what);
	tap_case(spaces_ping("fd77::fe", 100), "%s: own IPv6 address answers 100 of 100", what);
	tap_case(spaces_run("a", "ping -i 0.01 -c 20 -W 1 -s 1472 -M do 10.77.0.254 | grep -q \" 20 received\""),
		"%s: also with frames as large as the MTU", what);
	tap_case(spaces_run("r", "ip -6 addr show dev mrt0 | grep -q inet6") == false &&
			spaces_run("r", "ip link show dev mrt0"),
		"%s: the TAP has no address to speak from", what);
	forwarder_stop(&f);
	struct mr_steer_counters c = { 0 };
	uint64_t rx = mr_interface_queue(f.port[0], 0)->counters.rx_packets;
	(void)mr_steer_read_counters(mr_interface_steer(f.port[0]), &c);
	tap_case(rx >= 220 && rx <= c.steered && rx == f.handed_back[0],
		"%s: each frame came up once (%lu) and was handed back (%lu)", what, (unsigned long)rx,
		(unsigned long)f.handed_back[0]);
	tap_case(mode == MR_MODE_GENERIC ? c.handed_back == rx : c.handed_back == 0, "%s: shims cut off: %lu", what,
		(unsigned long)c.handed_back);
	mr_handback_close(f.handback);
	f.handback = NULL;
	tap_case(!spaces_run("r", "ip link show dev mrt0"), "%s: the TAP is gone", what);
	tap_case(forwarder_destroy(&f), "%s: every frame is back in the pool", what);
}

int main(void)
{
	spaces_begin("handback");
	handback_case("native", MR_MODE_COPY);
	handback_case("generic", MR_MODE_GENERIC);
	return tap_end();
}
