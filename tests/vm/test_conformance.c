/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a user of AF_XDP sockets must survive, after the cases of the kernel's own xskxceiver, put to core/interface.h: two devices that face
 * each other, both ours, on a veth pair and on two virtio-net devices, in every mode these have.  docs/conformance.md is the table.
 *
 *     pool ─► a: tx ─► device ══ device ─► b: rx ─► pool         and back
 */
#include "core/attach.h"
#include "core/steer.h"
#include "tests/netns/forwarder.h"
#include "tests/netns/spaces.h"
#include "tests/vm/nics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#define OURS      0x88b6
#define OTHERS    0x88b7
#define BURST     32u
#define FRAMES    8192u
#define FRAME     2048u
#define SEEN      2048u /* numbers run below this */
#define QUIET_CNT 400u  /* rounds of a millisecond without a frame, then no more come */

static const char *dev_a, *dev_b, *label;
static enum mr_mode mode;
static char title[128];

static const char *const mode_name[] = { "auto", "zero-copy", "copy", "generic" };

/*
 * What arrived.  Order: a device without buffers makes QEMU queue frames, and those that come later overtake them; so order is asked for
 * only where rings never run short.
 */
struct end {
	struct mr_interface *i;
	struct mr_queue *q;
	uint32_t next;
	uint32_t got_cnt;   /* whole, for the first time */
	uint32_t late_cnt;  /* of those, behind one sent later */
	uint32_t wrong_cnt; /* broken, or again */
	uint8_t seen[SEEN];
};

struct pair {
	struct mr_frames *frames;
	struct mr_magazine *m;
	struct end a, b;
};

#define CASE(cond, ...)                                                  \
	do {                                                             \
		char text_[700];                                         \
		snprintf(text_, sizeof(text_), __VA_ARGS__);             \
		tap_case((cond), "%s, %s: %s", title, case_name, text_); \
	} while (0)

static const char *case_name;

static struct mr_magazine *magazine_of(void *ctx, unsigned queue_idx)
{
	return mr_frames_magazine(ctx, 0);
}

/* Opens one end; steers frames of OURS to it. */
static int end_open(struct pair *p, struct end *end, unsigned id, const char *device, enum mr_mode m, uint32_t ring,
	struct mr_error *e)
{
	struct mr_range type = { OURS, OURS };
	const struct mr_config_match match = { .ethertype = { .items = &type, .cnt = 1 } };
	const struct mr_steer_entry entry = { .match = &match };
	struct mr_config_interface c = {
		.name = device, .device = device, .mode = m, .promiscuous = true, .rx_ring = ring, .tx_ring = ring
	};
	struct mr_interface_env env = {
		.frames = p->frames, .magazine = magazine_of, .ctx = p->frames, .instance = "test"
	};
	struct mr_steer_table *t = NULL;
	int err = mr_interface_open(&c, id, &env, &end->i, e);

	if (err)
		return err;
	err = mr_steer_compile(&entry, 1, &t, e);
	if (!err)
		err = mr_steer_apply(mr_interface_steer(end->i), t, e);
	mr_steer_table_free(t);
	end->q = mr_interface_queue(end->i, 0);
	return err;
}

static bool pair_open(struct pair *p, uint32_t ring)
{
	const struct mr_frames_options opt = { .frame_cnt = FRAMES, .frame_bytes = FRAME, .worker_cnt = 1 };
	struct mr_error e = { { 0 } };

	memset(p, 0, sizeof(*p));
	if (mr_frames_create(&opt, &p->frames, NULL))
		abort();
	p->m = mr_frames_magazine(p->frames, 0);
	int err = end_open(p, &p->a, 1, dev_a, mode, ring, &e);
	if (!err)
		err = end_open(p, &p->b, 2, dev_b, mode, ring, &e);
	CASE(!err && mr_interface_info(p->a.i)->mode == mode, "opens %s", e.text);
	return !err;
}

static void ends_close(struct pair *p)
{
	mr_interface_close(p->a.i, NULL);
	mr_interface_close(p->b.i, NULL);
	p->a.i = p->b.i = NULL;
}

static bool whole(struct pair *p)
{
	struct mr_frames_census c;

	mr_frames_count(p->frames, &c);
	return c.by_owner_cnt[MR_OWNER_POOL] == c.total_cnt;
}

static bool free_of_programs(const char *device)
{
	struct mr_device d;

	return !mr_device_query(device, &d, NULL) && !mr_attach_check_free(&d, NULL);
}

static void pair_close(struct pair *p)
{
	ends_close(p);
	CASE(whole(p) && free_of_programs(dev_a) && free_of_programs(dev_b),
		"every frame is back, nothing is left attached");
	mr_frames_destroy(p->frames);
}

/* ---- frames --------------------------------------------------------------------------------------------------- */

static uint32_t length_of(uint32_t nr)
{
	return 60 + nr * 367 % (1514 - 60 + 1);
}

static void fill(uint8_t *f, uint32_t nr, uint32_t len, uint16_t type)
{
	const uint16_t type_be = htons(type);

	memcpy(f, "\x02\0\0\0\0\x0b\x02\0\0\0\0\x0a", 12);
	memcpy(f + 12, &type_be, 2);
	memcpy(f + 14, &nr, 4);
	for (uint32_t i = 18; i < len; i++)
		f[i] = (uint8_t)(nr + i * 5);
}

static bool same(const uint8_t *f, uint32_t nr, uint32_t len)
{
	uint8_t want[FRAME];

	fill(want, nr, len, OURS);
	return !memcmp(f, want, len);
}

/* Hands over up to n frames from number nr on; returns how many were taken. */
static unsigned offer(struct pair *p, struct end *from, uint32_t nr, unsigned n, uint16_t type, uint32_t len)
{
	uint64_t addr[BURST];
	struct mr_frame f[BURST];
	unsigned got = mr_frames_take(p->m, addr, n < BURST ? n : BURST);

	for (unsigned i = 0; i < got; i++) {
		f[i] = (struct mr_frame){ .addr = addr[i] + (len ? 0 : 256), .len = len ? len : length_of(nr + i) };
		fill(mr_frames_base(p->frames) + f[i].addr, nr + i, f[i].len, type);
	}
	unsigned sent = got ? from->q->ops->tx(from->q, f, got) : 0;
	if (sent < got)
		mr_frames_give(p->m, addr + sent, got - sent);
	return sent;
}

static unsigned take(struct pair *p, struct end *to)
{
	struct mr_frame f[BURST];
	unsigned n = to->q->ops->rx(to->q, f, BURST);

	for (unsigned i = 0; i < n; i++) {
		const uint8_t *d = mr_frames_base(p->frames) + f[i].addr;
		uint32_t nr;
		memcpy(&nr, d + 14, 4);
		if (nr < SEEN && !to->seen[nr] && f[i].len == length_of(nr) && same(d, nr, f[i].len)) {
			to->seen[nr] = 1;
			to->got_cnt++;
			to->late_cnt += nr < to->next;
			to->next = nr + 1;
		} else if (!to->wrong_cnt++) {
			tap_note("number %u, %u bytes: broken, or for the second time", nr, f[i].len);
		}
		mr_frames_give(p->m, &f[i].addr, 1);
	}
	to->q->ops->service(to->q);
	return n;
}

static void ms(unsigned n)
{
	nanosleep(&(struct timespec){ .tv_nsec = n * 1000000l }, NULL);
}

/* Sends cnt frames from one end to the other, never more than 48 under way; true when all came whole. */
static bool pass(struct pair *p, struct end *from, struct end *to, uint32_t cnt)
{
	uint32_t sent = 0;

	to->next = to->got_cnt = to->late_cnt = to->wrong_cnt = 0;
	memset(to->seen, 0, sizeof(to->seen));
	for (unsigned quiet = 0; to->got_cnt + to->wrong_cnt < cnt && quiet < QUIET_CNT;) {
		unsigned room = 48 - (sent - to->got_cnt - to->wrong_cnt), n = 0;
		if (sent < cnt && room && room <= 48)
			n = offer(p, from, sent, room < cnt - sent ? room : cnt - sent, OURS, 0);
		sent += n;
		from->q->ops->service(from->q);
		if (take(p, to) || n) {
			quiet = 0;
		} else {
			quiet++;
			ms(1);
		}
	}
	return to->got_cnt == cnt && !to->wrong_cnt;
}

/* ---- cases ---------------------------------------------------------------------------------------------------- */

static void send_receive(void)
{
	struct pair p;

	case_name = "SEND_RECEIVE";
	if (pair_open(&p, 0)) {
		bool all = pass(&p, &p.a, &p.b, 1000);
		CASE(all && !p.b.late_cnt, "%u of 1000 of 60 to 1514 bytes, in order, %u wrong", p.b.got_cnt,
			p.b.wrong_cnt);
		for (unsigned i = 0; i < 200 && p.a.q->counters.tx_packets < 1000; i++) {
			p.a.q->ops->service(p.a.q);
			ms(1);
		}
		case_name = "TX_QUEUE_CONSUMER";
		CASE(p.a.q->counters.tx_packets == 1000 && !p.a.q->counters.tx_lost, "%lu completed",
			(unsigned long)p.a.q->counters.tx_packets);
	}
	pair_close(&p);
}

static bool readable(struct end *e, int wait_ms, short events)
{
	struct pollfd fd = { .fd = e->q->ops->fd(e->q), .events = events };

	return poll(&fd, 1, wait_ms) == 1 && fd.revents & events;
}

static void polling(void)
{
	struct pair p;

	case_name = "POLL_RX";
	if (pair_open(&p, 0)) {
		p.b.q->ops->service(p.b.q);
		CASE(!readable(&p.b, 50, POLLIN), "nothing came, nothing is told");
		(void)offer(&p, &p.a, 0, 1, OURS, 0);
		p.a.q->ops->service(p.a.q);
		CASE(readable(&p.b, 2000, POLLIN) && take(&p, &p.b) == 1, "one came and is told");
		case_name = "POLL_TX";
		CASE(readable(&p.a, 1000, POLLOUT), "room to send is told");
	}
	pair_close(&p);
}

/* More than a ring holds, and nobody reads: what is taken arrives or is counted, the rest stays ours. */
static void rings_full(void)
{
	struct pair p;
	unsigned taken = 0;

	case_name = "POLL_TXQ_FULL, RXQ_FULL";
	if (pair_open(&p, 64)) {
		for (unsigned i = 0; i < 60; i++)
			taken += offer(&p, &p.a, taken, BURST, OURS, 0);
		for (unsigned i = 0; i < 50; i++) {
			p.a.q->ops->service(p.a.q);
			ms(1);
		}
		CASE(taken >= 64 && taken <= 60 * BURST, "%u of %u frames are taken", taken, 60 * BURST);
		unsigned quiet = 0;
		while (quiet < QUIET_CNT / 2) {
			p.a.q->ops->service(p.a.q);
			quiet = take(&p, &p.b) ? 0 : quiet + 1;
			ms(1);
		}
		mr_interface_poll(p.b.i);
		const struct mr_queue_counters *c = &p.b.q->counters, *a = &p.a.q->counters;
		uint64_t kernel = c->kernel_fill_empty + c->kernel_rx_dropped + c->kernel_rx_ring_full;
		CASE(!p.b.wrong_cnt && p.b.got_cnt <= taken && p.b.got_cnt + kernel + a->tx_lost >= taken,
			"%u arrive whole, the kernel counted %lu, sending lost %lu", p.b.got_cnt, (unsigned long)kernel,
			(unsigned long)a->tx_lost);
		case_name = "STAT_FILL_EMPTY, RX_FULL";
		CASE(c->kernel_rx_ring_full == 0, "the fill ring runs out before the rx ring is full (%lu times)",
			(unsigned long)c->kernel_fill_empty);
		bool all = pass(&p, &p.a, &p.b, 200);
		CASE(all, "and goes on, %u of 200", p.b.got_cnt);
	}
	pair_close(&p);
}

static void invalid(void)
{
	struct pair p;
	uint64_t addr[5];

	case_name = "ALIGNED_INV_DESC, STAT_TX_INVALID";
	if (pair_open(&p, 0) && mr_frames_take(p.m, addr, 5) == 5) {
		const struct mr_frame f[5] = { { .addr = addr[0], .len = 0 }, { .addr = addr[1], .len = FRAME + 1 },
			{ .addr = addr[2] + FRAME - 1, .len = 2 }, { .addr = addr[3] + 256, .len = FRAME - 255 },
			{ .addr = addr[4] + 256, .len = length_of(0) } };
		fill(mr_frames_base(p.frames) + f[4].addr, 0, f[4].len, OURS);
		CASE(p.a.q->ops->tx(p.a.q, f, 5) == 5, "are taken");
		for (unsigned i = 0; i < 500 && !p.b.got_cnt; i++) {
			p.a.q->ops->service(p.a.q);
			(void)take(&p, &p.b);
			ms(1);
		}
		mr_interface_poll(p.a.i);
		CASE(p.b.got_cnt == 1 && p.a.q->counters.tx_lost == 4 && !p.a.q->counters.kernel_tx_invalid,
			"four counted lost before the kernel sees them, the fifth arrives");
	}
	pair_close(&p);
}

/* Every packet has room in front, which is nobody else's: a tag is put there and the packet sent back. */
static void headroom(void)
{
	struct pair p;
	unsigned back = 0, room = 0;

	case_name = "UMEM_HEADROOM";
	if (pair_open(&p, 0)) {
		uint32_t sent = 0;
		for (unsigned rounds = 0; rounds < 2000 && back < 100; rounds++) {
			struct mr_frame f[BURST];
			if (sent < 100 && sent - back < 16)
				sent += offer(&p, &p.a, sent, 1, OURS, 0);
			p.a.q->ops->service(p.a.q);
			unsigned n = p.b.q->ops->rx(p.b.q, f, BURST);
			for (unsigned i = 0; i < n; i++) {
				uint8_t *d = mr_frames_base(p.frames) + f[i].addr;
				room += f[i].addr % FRAME >= 256;
				memset(d - f[i].addr % FRAME, 0xee, f[i].addr % FRAME);
				memmove(d - 4, d, 12); /* four bytes in front, as a tag would be */
				memcpy(d + 8, "\x88\xb6zz", 4);
				f[i].addr -= 4;
				f[i].len += 4;
			}
			unsigned k = n ? p.b.q->ops->tx(p.b.q, f, n) : 0;
			for (unsigned i = k; i < n; i++)
				mr_frames_give(p.m, &f[i].addr, 1);
			p.b.q->ops->service(p.b.q);
			n = p.a.q->ops->rx(p.a.q, f, BURST);
			for (unsigned i = 0; i < n; i++) {
				const uint8_t *d = mr_frames_base(p.frames) + f[i].addr;
				uint8_t want[FRAME];
				uint32_t nr;
				memcpy(&nr, d + 18, 4);
				fill(want, nr, f[i].len - 4, OURS);
				back += !memcmp(d + 12, "\x88\xb6zz", 4) && !memcmp(d + 18, want + 14, f[i].len - 18);
				mr_frames_give(p.m, &f[i].addr, 1);
			}
			if (!n)
				ms(1);
		}
		CASE(back == 100 && room == 100, "%u packets with 256 bytes in front, %u came back four bytes longer",
			room, back);
	}
	pair_close(&p);
}

static void bidirectional(void)
{
	struct pair p;

	case_name = "BIDIRECTIONAL";
	if (pair_open(&p, 0)) {
		uint32_t there = 0, here = 0;
		for (unsigned quiet = 0; (p.a.got_cnt < 500 || p.b.got_cnt < 500) && quiet < QUIET_CNT;) {
			if (there < 500 && there - p.b.got_cnt < 32)
				there += offer(&p, &p.a, there, 8 < 500 - there ? 8 : 500 - there, OURS, 0);
			if (here < 500 && here - p.a.got_cnt < 32)
				here += offer(&p, &p.b, here, 8 < 500 - here ? 8 : 500 - here, OURS, 0);
			if (take(&p, &p.a) + take(&p, &p.b)) {
				quiet = 0;
			} else {
				quiet++;
				ms(1);
			}
		}
		CASE(p.a.got_cnt == 500 && p.b.got_cnt == 500 && !p.a.wrong_cnt && !p.b.wrong_cnt && !p.a.late_cnt &&
				!p.b.late_cnt,
			"%u of 500 there, %u of 500 back", p.b.got_cnt, p.a.got_cnt);
	}
	pair_close(&p);
}

/* Steering takes every second frame; the others go to the stack. */
static void half(void)
{
	struct pair p;
	struct mr_steer_counters c = { 0 };
	unsigned got = 0;

	case_name = "XDP_DROP_HALF";
	if (pair_open(&p, 0)) {
		for (uint32_t nr = 0; nr < 200; nr++) {
			while (!offer(&p, &p.a, nr, 1, nr % 2 ? OTHERS : OURS, 0))
				p.a.q->ops->service(p.a.q);
			p.a.q->ops->service(p.a.q);
			got += take(&p, &p.b);
			if (nr % 16 == 15)
				ms(2);
		}
		for (unsigned i = 0; i < QUIET_CNT && got < 100; i++) {
			p.a.q->ops->service(p.a.q);
			got += take(&p, &p.b);
			ms(1);
		}
		(void)mr_steer_read_counters(mr_interface_steer(p.b.i), &c);
		CASE(p.b.got_cnt == 100 && !p.b.wrong_cnt && c.steered == 100 && c.passed >= 100,
			"%u steered, %lu passed", p.b.got_cnt, (unsigned long)c.passed);
	}
	pair_close(&p);
}

static void ring_sizes(void)
{
	static const uint32_t size[] = { 16, 64, 8192 };
	struct pair p;

	case_name = "HW_SW_MIN/MAX_RING_SIZE";
	for (unsigned i = 0; i < 3; i++) {
		if (pair_open(&p, size[i])) {
			bool all = pass(&p, &p.a, &p.b, 300);
			/* sixteen descriptors hold less than the sender has under way: what is lost is counted */
			mr_interface_poll(p.b.i);
			CASE(size[i] < 64 ? p.b.got_cnt && !p.b.wrong_cnt : all, "rings of %u: %u of 300", size[i],
				p.b.got_cnt);
		}
		pair_close(&p);
	}
}

/* Frames larger than what is behind the headroom: the device's MTU was raised behind our back. */
static void too_long(void)
{
	struct pair p;

	case_name = "STAT_RX_DROPPED";
	if (pair_open(&p, 0)) {
		bool raised = nics_run("r", "ip link set %s mtu 1900 && ip link set %s mtu 1900", dev_a, dev_b);
		for (unsigned i = 0; i < 20; i++) {
			(void)offer(&p, &p.a, i, 1, OURS, 1880);
			p.a.q->ops->service(p.a.q);
			(void)take(&p, &p.b);
			ms(2);
		}
		mr_interface_poll(p.b.i);
		if (raised)
			CASE(!p.b.got_cnt && !p.b.wrong_cnt,
				"none of 20 frames longer than the room is given to us (%lu counted by the kernel)",
				(unsigned long)(p.b.q->counters.kernel_rx_dropped + p.b.q->counters.kernel_rx_invalid));
		else
			tap_case(true, "%s, %s # SKIP the driver does not raise its MTU under a program", title,
				case_name);
		(void)nics_run("r", "ip link set %s mtu 1500; ip link set %s mtu 1500", dev_a, dev_b);
		ms(50);
		bool all = pass(&p, &p.a, &p.b, 100);
		CASE(all, "others arrive, %u of 100", p.b.got_cnt);
	}
	pair_close(&p);
}

/* With frames under way in both rings. */
static void teardown(void)
{
	struct pair p;
	const enum mr_mode wanted = mode;
	unsigned opened = 0;

	case_name = "TEARDOWN, XDP_PROG_CLEANUP";
	const struct mr_frames_options opt = { .frame_cnt = FRAMES, .frame_bytes = FRAME, .worker_cnt = 1 };
	memset(&p, 0, sizeof(p));
	if (mr_frames_create(&opt, &p.frames, NULL))
		abort();
	p.m = mr_frames_magazine(p.frames, 0);
	for (unsigned i = 0; i < 6; i++) {
		struct mr_error e = { { 0 } };
		const enum mr_mode m = i % 2 ? MR_MODE_GENERIC : wanted;
		if (!end_open(&p, &p.a, 1, dev_a, m, 256, &e) && !end_open(&p, &p.b, 2, dev_b, m, 256, &e)) {
			opened++;
			for (unsigned k = 0; k < 4; k++)
				(void)offer(&p, &p.a, 0, BURST, OURS, 0);
			p.a.q->ops->service(p.a.q);
		} else {
			tap_note("%s", e.text);
		}
		ends_close(&p);
	}
	CASE(opened == 6, "%u of 6 times, in two modes in turn", opened);
	pair_close(&p);
}

static void run(const char *what, const char *a, const char *b, enum mr_mode m)
{
	label = what;
	dev_a = a;
	dev_b = b;
	mode = m;
	snprintf(title, sizeof(title), "%s, %s", label, mode_name[m]);
	send_receive();
	polling();
	rings_full();
	invalid();
	headroom();
	bidirectional();
	half();
	ring_sizes();
	too_long();
	teardown();
}

int main(int argc, char **argv)
{
	struct utsname u;

	nics_pair();
	(void)nics_run("r",
		"ip link add ca type veth peer name cb; for d in ca cb; do "
		"echo 1 >/proc/sys/net/ipv6/conf/$d/disable_ipv6; ip link set $d up; done");
	/* for a person: only this mode of virtio-net */
	if (argc > 1) {
		run("virtio-net", "g0", "r0", (enum mr_mode)atoi(argv[1]));
		return tap_end();
	}
	run("veth", "ca", "cb", MR_MODE_COPY);
	if (uname(&u))
		return 1;
	const bool zerocopy = atoi(u.release) >= 7;
	/* generic mode is the kernel's, not a driver's: once in the matrix is enough for its time */
	if (!zerocopy)
		run("veth", "ca", "cb", MR_MODE_GENERIC);
	(void)nics_run("r", "ip link del ca");
	if (zerocopy)
		run("virtio-net", "g0", "r0", MR_MODE_ZEROCOPY);
	run("virtio-net", "g0", "r0", MR_MODE_COPY);
	if (!zerocopy)
		run("virtio-net", "g0", "r0", MR_MODE_GENERIC);
	return tap_end();
}
