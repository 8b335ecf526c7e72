/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_egress.c - which devices packets of the kernel tier may leave by, as links, the kernel's word and refusals follow each other; what
 * it is asked and told stands in for it.
 */
#include "core/egress.h"

#include "core/device.h"
#include "core/offload.h"
#include "core/redirect.h"
#include "core/tier.h"
#include "core/xmit.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define WAN 3

/* ---- the world --------------------------------------------------------------------------------------------------- */

static struct mr_interface_info info;
static bool takes, gone, heard;
static uint32_t entered;   /* ifindex in the devmap, of WAN */
static int entry_err;      /* what bpf(2) says to the next entry */
static unsigned asked_cnt; /* of workers, to wake the heart */
static unsigned told_cnt;  /* entries tried */
static int tier_err;       /* of making one */
static struct mr_tier_egress counted;
static struct mr_tier shared;
static uint32_t counted_device; /* of xmit, WAN's */
static uint64_t now_ms;
static char log_text[4096];
static unsigned log_cnt;
static struct mr_runtime *rt;
static int beside; /* somewhere for pointers to point */

int mr_tier_create(const struct mr_tier_options *opt, struct mr_tier_maps **out, struct mr_error *e)
{
	if (tier_err)
		return mr_error_set(e, tier_err, "no memory for it");
	*out = (void *)&beside;
	return 0;
}

void mr_tier_destroy(struct mr_tier_maps *t)
{
}

struct mr_tier *mr_tier_shared(struct mr_tier_maps *t)
{
	return &shared;
}

void *mr_tier_flows(struct mr_tier_maps *t, bool v6)
{
	return &beside;
}

struct mr_effect *mr_tier_effects(struct mr_tier_maps *t, unsigned half)
{
	return NULL;
}

struct mr_meter *mr_tier_meters(struct mr_tier_maps *t, unsigned half)
{
	return NULL;
}

struct mr_xmit_maps mr_tier_xmit_maps(const struct mr_tier_maps *t)
{
	return (struct mr_xmit_maps){ 0 };
}

int mr_tier_take(struct mr_tier_maps *t)
{
	return 0;
}

void mr_tier_give(struct mr_tier_maps *t, int half)
{
}

void mr_tier_publish(struct mr_tier_maps *t, const struct mr_plan *plan)
{
}

void mr_tier_stop(struct mr_tier_maps *t)
{
}

int mr_tier_egress(struct mr_tier_maps *t, unsigned interface_id, uint32_t ifindex)
{
	cr_assert_eq(interface_id, WAN);
	told_cnt++;
	if (ifindex && entry_err)
		return entry_err;
	entered = ifindex;
	return 0;
}

void mr_tier_egress_read(struct mr_tier_maps *t, unsigned interface_id, struct mr_tier_egress *out)
{
	*out = counted;
}

int mr_xmit_load(const struct mr_xmit_maps *maps, uint64_t space, struct mr_xmit **out, struct mr_error *e)
{
	*out = (void *)&beside;
	return 0;
}

void mr_xmit_unload(struct mr_xmit *x)
{
}

int mr_xmit_device(struct mr_xmit *x, uint32_t ifindex, unsigned interface_id)
{
	cr_assert(interface_id || ifindex == counted_device, "what is taken out was put in");
	counted_device = interface_id ? ifindex : 0;
	return 0;
}

int mr_redirect_open(struct mr_redirect **out, struct mr_error *e)
{
	*out = (void *)&beside;
	return 0;
}

void mr_redirect_close(struct mr_redirect *r)
{
}

int mr_redirect_fd(const struct mr_redirect *r)
{
	return rt->epoll_fd;
}

bool mr_redirect_service(struct mr_redirect *r)
{
	return heard;
}

bool mr_redirect_target(
	struct mr_redirect *r, uint32_t ifindex, const char *device, const char *driver, char *why, size_t why_bytes)
{
	if (!takes)
		snprintf(why, why_bytes, "it takes none");
	return takes;
}

const struct mr_interface_info *mr_interface_info(const struct mr_interface *i)
{
	return &info;
}

bool mr_interface_gone(const struct mr_interface *i)
{
	return gone;
}

bool mr_offload_wanted(const struct mr_config *c)
{
	return true;
}

size_t mr_flows_bytes4(uint32_t capacity4)
{
	return 0;
}

size_t mr_flows_bytes6(uint32_t capacity6)
{
	return 0;
}

uint64_t mr_device_space(void)
{
	return 1;
}

bool mr_epoch_passed(const struct mr_epoch *e, uint64_t stamp)
{
	return true;
}

void mr_worker_wake_tier(struct mr_shared *sh, struct mr_worker *const *worker)
{
	asked_cnt++;
}

uint64_t mr_runtime_now_ms(void)
{
	return now_ms;
}

void mr_runtime_log(struct mr_runtime *runtime, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(log_text, sizeof(log_text), fmt, ap);
	va_end(ap);
	log_cnt++;
}

/* ---- a device ---------------------------------------------------------------------------------------------------- */

static const char *why(void)
{
	const char *text;

	cr_assert_eq(mr_egress_is(rt, WAN, &text), entered != 0);
	return text;
}

static void ticks(unsigned cnt)
{
	for (unsigned i = 0; i < cnt; i++) {
		now_ms += 100;
		mr_egress_tick(rt);
	}
}

static void refuse(void)
{
	counted.refused++;
	counted.refused_errno = ENXIO;
	ticks(1);
}

static void link_is(bool up)
{
	info.up = up;
	mr_egress_follow(rt, WAN);
}

static void begin(void)
{
	struct mr_flows_options flows = { 0 };

	rt = calloc(1, sizeof(*rt));
	rt->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	rt->interface[WAN] = (struct mr_runtime_interface){ .name = "wan", .open = (void *)&beside };
	info = (struct mr_interface_info){ .ifindex = 70, .device = "w0", .driver = "veth", .up = true };
	takes = true;
	now_ms = 1000;
	mr_egress_create(rt, NULL, &flows);
	mr_egress_opened(rt, WAN);
	log_cnt = 0;
}

static void end(void)
{
	mr_egress_withdraw(rt, WAN);
	cr_expect(!entered && !counted_device, "nothing is left behind");
	mr_egress_destroy(rt);
	close(rt->epoll_fd);
	free(rt);
}

TestSuite(egress, .init = begin, .fini = end);

/* ---- cases ------------------------------------------------------------------------------------------------------- */

Test(egress, what_is_up_and_takes_frames_is_one)
{
	cr_expect_eq(entered, 70);
	cr_expect_eq(counted_device, 70);
	cr_expect_str_eq(why(), "");
	link_is(false);
	cr_expect_eq(entered, 0, "at once");
	link_is(true);
	cr_expect_eq(entered, 70);
	gone = true;
	mr_egress_follow(rt, WAN);
	cr_expect_eq(entered, 0);
	gone = false;
}

Test(egress, what_is_announced_is_asked_for_and_said)
{
	takes = false;
	heard = true;
	mr_egress_service(rt);
	cr_expect(entered == 0 && log_cnt == 1);
	cr_expect_str_eq(why(), "it takes none");
	takes = true;
	mr_egress_service(rt);
	cr_expect(entered == 70 && log_cnt == 2);
	mr_egress_service(rt);
	cr_expect_eq(log_cnt, 2);
}

Test(egress, another_device_has_another_number)
{
	mr_egress_withdraw(rt, WAN);
	cr_expect(!entered && !counted_device);
	info.ifindex = 71;
	mr_egress_opened(rt, WAN);
	cr_expect(entered == 71 && counted_device == 71);
	info.ifindex = 72; /* opened again though nobody had said it was gone */
	mr_egress_opened(rt, WAN);
	cr_expect_eq(entered, 72);
}

Test(egress, what_the_kernel_does_not_take_is_tried_again_and_said_once)
{
	link_is(false);
	entry_err = -ENOMEM;
	link_is(true);
	cr_expect_eq(log_cnt, 1);
	cr_expect(strstr(log_text, "wan") && strstr(log_text, strerror(ENOMEM)), "%s", log_text);
	unsigned before = told_cnt;
	ticks(25);
	cr_expect(told_cnt >= before + 25, "it is tried again");
	cr_expect_eq(log_cnt, 1, "and said once");
	cr_expect(strstr(why(), strerror(ENOMEM)));
	entry_err = -EPERM;
	ticks(3);
	cr_expect_eq(log_cnt, 2, "something else is said");
	entry_err = 0;
	ticks(1);
	cr_expect_eq(entered, 70);
	cr_expect_str_eq(why(), "");
	cr_expect_eq(log_cnt, 3, "and that it went");
}

Test(egress, what_refused_rests_and_says_why_as_long_as_it_does)
{
	refuse();
	cr_expect_eq(entered, 0);
	cr_expect(strstr(why(), "refused"), "%s", why());
	cr_expect_eq(log_cnt, 1);
	heard = true; /* of some other device */
	mr_egress_service(rt);
	cr_expect(strstr(why(), "refused"), "still so: %s", why());
	ticks(98);
	cr_expect(!entered && strstr(why(), "refused"));
	cr_expect_eq(log_cnt, 1);
	ticks(2);
	cr_expect_eq(entered, 70);
	cr_expect_str_eq(why(), "");
	cr_expect_eq(log_cnt, 2, "tried again");
	refuse();
	ticks(150);
	cr_expect_eq(entered, 0, "the next rest is longer");
	ticks(51);
	cr_expect_eq(entered, 70);
}

Test(egress, what_refused_because_it_was_down_does_not_rest)
{
	refuse(); /* seen before the link is */
	cr_expect_eq(entered, 0);
	link_is(false);
	cr_expect_eq(entered, 0);
	link_is(true);
	cr_expect_eq(entered, 70);
	cr_expect_str_eq(why(), "");
}

Test(egress, what_refuses_as_the_kernel_says_does_not_rest)
{
	takes = false;
	refuse();
	cr_expect_str_eq(why(), "it takes none");
	takes = true;
	ticks(10);
	cr_expect_eq(entered, 70, "it is asked every second");
	refuse();
	ticks(101);
	cr_expect_eq(entered, 70, "and the rest is a first one");
}

static void expect_counted(uint64_t packets, uint64_t bytes, uint64_t lost)
{
	struct mr_egress_count c;
	mr_egress_counted(rt, WAN, &c);
	cr_expect(c.sent_packets == packets && c.sent_bytes == bytes && c.lost_packets == lost, "%llu, %llu, %llu",
		(unsigned long long)c.sent_packets, (unsigned long long)c.sent_bytes,
		(unsigned long long)c.lost_packets);
}

Test(egress, what_was_counted_is_the_interfaces_and_not_its_numbers)
{
	counted = (struct mr_tier_egress){ .sent_packets = 5, .sent_bytes = 300, .lost_packets = 1 };
	expect_counted(5, 300, 1);
	mr_egress_withdraw(rt, WAN); /* its device is gone */
	mr_egress_withdraw(rt, WAN);
	expect_counted(5, 300, 1);
	mr_egress_opened(rt, WAN);
	counted.sent_packets = 7;
	counted.sent_bytes = 420;
	expect_counted(7, 420, 1);
	mr_egress_withdraw(rt, WAN);
	expect_counted(7, 420, 1);
	rt->interface[WAN].closed_egress = (struct mr_egress_count){ 0 }; /* another interface gets the number */
	mr_egress_opened(rt, WAN);
	expect_counted(0, 0, 0);
	counted.lost_packets = 2;
	expect_counted(0, 0, 1);
}

Test(egress, without_a_kernel_tier_everything_does_nothing_and_why_is_known)
{
	struct mr_runtime none = { .epoll_fd = -1 };
	struct mr_flows_options flows = { 0 };
	struct mr_plan_env env = { .tier_half = 1 };
	const char *text;

	tier_err = -ENOMEM;
	mr_egress_create(&none, NULL, &flows);
	cr_expect(!none.sh.tier && !flows.memory4 && none.tier_wanted);
	cr_expect_str_eq(none.tier_why, "no memory for it");
	cr_expect_eq(log_cnt, 1);
	none.interface[WAN] = rt->interface[WAN];
	unsigned before = told_cnt;
	mr_egress_opened(&none, WAN);
	mr_egress_follow(&none, WAN);
	mr_egress_tick(&none);
	mr_egress_service(&none);
	mr_egress_describe(&none, &env);
	mr_egress_publish(&none, NULL);
	mr_egress_give(&none, 0);
	mr_egress_stop(&none);
	mr_egress_withdraw(&none, WAN);
	cr_expect(!mr_egress_is(&none, WAN, &text) && !*text);
	cr_expect(told_cnt == before && env.tier_half == -1);
	mr_egress_destroy(&none);
}

Test(egress, files_have_no_part_in_it)
{
	mr_egress_withdraw(rt, WAN);
	rt->interface[WAN].is_file = true;
	unsigned before = told_cnt;
	mr_egress_opened(rt, WAN);
	mr_egress_follow(rt, WAN);
	ticks(20);
	cr_expect(!entered && told_cnt == before);
}

static bool beats(void)
{
	return !mr_tier_stopped(&shared, now_ms * 1000000);
}

Test(egress, a_heart_that_stopped_beats_again_behind_what_came_up)
{
	ticks(30);
	cr_expect(beats() && !asked_cnt, "every tick is a beat");
	now_ms += 5000;
	ticks(2);
	cr_expect(!beats() && asked_cnt == 1, "packets may wait in queues, of which workers know");
	mr_tier_wake(&shared, now_ms * 1000000);
	ticks(30);
	cr_expect(beats() && asked_cnt == 1, "they were sent");
	now_ms += 5000;
	ticks(3);
	cr_expect(!beats() && asked_cnt == 2);
	ticks(1);
	cr_expect(beats(), "queues that are never empty are not waited for");
	ticks(30);
	cr_expect(beats() && asked_cnt == 2);
}
