/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * `attach: shared`: the steering program between two programs of somebody else, in the dispatcher of libxdp.  Where the kernel does
 * not permit freplace, that it is said and nothing is done; inside a guest of tests/vm everything must work.
 *
 *     r0 ─► dispatcher: neighbour (10) ─► steer (50) ─► neighbour (90)
 */
#include "core/attach.h"
#include "core/dispatch.h"
#include "core/steer.h"
#include "tests/netns/forwarder.h"
#include "tests/netns/spaces.h"

#include "changer.skel.h"
#include "neighbour.skel.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <glob.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xdp/libxdp.h>

/* ---- programs of somebody else ------------------------------------------------------------------------------------ */

struct neighbour {
	struct neighbour_bpf *skel;
	struct xdp_program *program;
};

static struct mr_device device(const char *name)
{
	struct mr_device d = { .name = "" };

	(void)mr_device_query(name, &d, NULL);
	return d;
}

static bool neighbour_join(struct neighbour *n, unsigned priority, enum xdp_attach_mode mode)
{
	n->skel = neighbour_bpf__open();
	n->program = n->skel ? xdp_program__from_bpf_obj(n->skel->obj, "xdp") : NULL;
	return !libxdp_get_error(n->program) && !xdp_program__set_run_prio(n->program, priority) &&
		!xdp_program__attach(n->program, (int)device("r0").ifindex, mode, 0);
}

static bool neighbour_leave(struct neighbour *n, enum xdp_attach_mode mode)
{
	bool left = !xdp_program__detach(n->program, (int)device("r0").ifindex, mode, 0);

	xdp_program__close(n->program);
	neighbour_bpf__destroy(n->skel);
	return left;
}

static uint64_t seen(const struct neighbour *n)
{
	uint32_t key = 0;
	uint64_t cnt = 0;

	(void)bpf_map_lookup_elem(bpf_map__fd(n->skel->maps.seen), &key, &cnt);
	return cnt;
}

/* Programs whose name begins so in the device's dispatcher; -1 when there is no dispatcher. */
static int program_cnt(const char *name, const char *program)
{
	struct xdp_multiprog *mp = xdp_multiprog__get_from_ifindex((int)device(name).ifindex);
	struct xdp_program *p = NULL;
	int cnt = 0;

	if (libxdp_get_error(mp) || xdp_multiprog__is_legacy(mp)) {
		xdp_multiprog__close(mp);
		return -1;
	}
	while ((p = xdp_multiprog__next_prog(p, mp)))
		cnt += !strncmp(xdp_program__name(p), program, strlen(program));
	xdp_multiprog__close(mp);
	return cnt;
}

/* ---- ours --------------------------------------------------------------------------------------------------------- */

static void create(struct forwarder *f, uint64_t run)
{
	forwarder_create(f, 16384, 1);
	f->attach = MR_ATTACH_SHARED;
	f->shim_cookie = run;
}

static bool open_both(struct forwarder *f, enum mr_mode mode)
{
	struct mr_error e = { { 0 } };

	if (!forwarder_open(f, 0, "r0", mode, &e) && !forwarder_open(f, 1, "r1", mode, &e))
		return true;
	tap_note("%s", e.text);
	return false;
}

static bool steer(const struct forwarder *f, bool everything)
{
	const struct mr_steer_entry all = { .match = NULL };
	struct mr_steer_table *t = NULL;
	bool ok = !mr_steer_compile(&all, everything ? 1 : 0, &t, NULL);

	for (unsigned p = 0; p < 2; p++)
		ok = ok && !mr_steer_apply(mr_interface_steer(f->port[p]), t, NULL);
	mr_steer_table_free(t);
	return ok;
}

static void wire(void)
{
	spaces_wire(1);
	(void)spaces_run("r", "ip addr add 10.77.0.254/24 dev r0");
}

static bool nothing_attached(const char *name)
{
	struct mr_device d = device(name);

	return d.ifindex && !mr_attach_check_free(&d, NULL);
}

static void refusal_case(int expected, const char *word)
{
	struct mr_config_interface c = { .name = "left", .device = "r0", .attach = MR_ATTACH_SHARED };
	struct mr_interface_info info;
	struct mr_error e = { { 0 } }, said = { { 0 } };
	struct forwarder f;

	tap_case(mr_interface_check(&c, 2048, &info, &said) == expected && strstr(said.text, word), "check refuses: %s",
		said.text);
	create(&f, 1);
	tap_case(forwarder_open(&f, 0, "r0", MR_MODE_AUTO, &e) == expected && !strcmp(e.text, said.text),
		"so does opening, in the same words");
	tap_case(forwarder_destroy(&f), "and no frame is missing");
}

static void plain_program(void)
{
	struct neighbour_bpf *skel = neighbour_bpf__open_and_load();
	struct mr_device d;
	struct mr_attach a;

	wire();
	d = device("r0");
	mr_attach_init(&a);
	tap_case(skel && !mr_attach_prepare(&a, &d, false, NULL) &&
			!mr_attach_program(&a, bpf_program__fd(skel->progs.neighbour), false, NULL),
		"a program that is no dispatcher");
	refusal_case(-EBUSY, "neighbour");
	tap_case(!nothing_attached("r0"), "and it is still there");
	mr_attach_release(&a);
	neighbour_bpf__destroy(skel);
}

static void without_bpffs(void)
{
	char text[600] = { 0 };
	int told[2];

	wire();
	if (pipe(told))
		abort();
	pid_t pid = fork();
	if (!pid) {
		struct mr_config_interface c = { .name = "left", .device = "r0", .attach = MR_ATTACH_SHARED };
		struct mr_interface_info info;
		struct mr_error e = { { 0 } };
		int err = unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) ? -1 : 0;
		while (!err && !umount2("/sys/fs/bpf", MNT_DETACH))
			;
		err = err ? err : mr_interface_check(&c, 2048, &info, &e);
		snprintf(text, sizeof(text), "%d %s", err, e.text);
		(void)!write(told[1], text, sizeof(text));
		_exit(0);
	}
	(void)!read(told[0], text, sizeof(text));
	waitpid(pid, NULL, 0);
	close(told[0]);
	close(told[1]);
	tap_case(atoi(text) == -ENOENT && strstr(text, "mount -t bpf bpf /sys/fs/bpf"), "without a BPF file system: %s",
		text);
}

static void not_permitted(void)
{
	struct forwarder f;

	wire();
	refusal_case(-EOPNOTSUPP, "freplace");
	tap_case(nothing_attached("r0"), "nothing is left attached");
	forwarder_create(&f, 8192, 1);
	tap_case(!forwarder_open(&f, 0, "r0", MR_MODE_AUTO, NULL), "attach: link, as the sentence says, opens");
	tap_case(forwarder_destroy(&f), "and no frame is missing");
}

/* ---- in the dispatcher -------------------------------------------------------------------------------------------- */

static void beside(struct neighbour *before, struct neighbour *after)
{
	struct forwarder f;
	struct mr_error e = { { 0 } };

	create(&f, 1);
	bool opened = open_both(&f, MR_MODE_AUTO);
	tap_case(opened && mr_interface_info(f.port[0])->mode == MR_MODE_COPY &&
			!mr_interface_info(f.port[0])->notice[0],
		"opens beside two programs, native");
	tap_case(program_cnt("r0", "steer") == 1 && program_cnt("r0", "neighbour") == 2 &&
			program_cnt("r1", "steer") == 1,
		"three programs on r0, one on r1");
	if (!opened)
		return;
	forwarder_start(&f);
	uint64_t first = seen(before), last = seen(after);
	tap_case(spaces_ping("10.77.0.254", 20), "nothing steered: the stack answers");
	tap_case(seen(before) >= first + 20 && seen(after) >= last + 20, "both neighbours saw it");
	tap_case(steer(&f, true), "everything steered");
	first = seen(before);
	last = seen(after);
	tap_case(spaces_ping("10.77.0.2", 50), "it crosses, 50 of 50");
	struct mr_steer_counters c = { 0 };
	(void)mr_steer_read_counters(mr_interface_steer(f.port[0]), &c);
	tap_case(c.steered >= 50 && mr_interface_queue(f.port[0], 0)->counters.rx_packets >= 50,
		"through the socket (%lu steered)", (unsigned long)c.steered);
	tap_case(seen(before) >= first + 50, "the neighbour before saw it");
	tap_case(seen(after) == last, "the one behind did not");
	struct forwarder second;
	create(&second, 9);
	second.attach = MR_ATTACH_LINK;
	tap_case(forwarder_open(&second, 0, "r0", MR_MODE_AUTO, &e) == -EBUSY && strstr(e.text, "attach: shared"),
		"attach: link is refused: %s", e.text);
	tap_case(forwarder_destroy(&second), "and no frame is missing");
	create(&second, 1);
	tap_case(forwarder_open(&second, 0, "r0", MR_MODE_AUTO, &e) == -EBUSY && program_cnt("r0", "steer") == 1,
		"once for each device and run: %s", e.text);
	tap_case(forwarder_destroy(&second), "and no frame is missing");
	tap_case(steer(&f, false) && spaces_ping("10.77.0.254", 20), "nothing steered again");
	tap_case(forwarder_destroy(&f), "closes with every frame");
	tap_case(program_cnt("r0", "steer") == 0 && program_cnt("r0", "neighbour") == 2, "the neighbours stay");
	tap_case(nothing_attached("r1"), "where there were none, nothing");
	first = seen(before);
	last = seen(after);
	tap_case(spaces_ping("10.77.0.254", 20) && seen(before) >= first + 20 && seen(after) >= last + 20,
		"and they still see packets");
}

/* A run of instance "test" that ends by kill -9, steering everything. */
static bool killed_run(uint64_t run)
{
	int told[2];
	char byte = 0;

	if (pipe(told))
		abort();
	pid_t pid = fork();
	if (!pid) {
		struct forwarder f;
		create(&f, run);
		byte = open_both(&f, MR_MODE_AUTO) && steer(&f, true) ? 'y' : 'n';
		(void)!write(told[1], &byte, 1);
		pause();
		_exit(0);
	}
	(void)!read(told[0], &byte, 1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(told[0]);
	close(told[1]);
	return byte == 'y';
}

static void killing(struct neighbour *before, struct neighbour *after)
{
	struct forwarder f, other;

	tap_case(killed_run(2), "a run ends by kill -9");
	tap_case(program_cnt("r0", "steer") == 1, "it leaves its program");
	uint64_t first = seen(before), last = seen(after);
	tap_case(spaces_ping("10.77.0.254", 20) && seen(before) >= first + 20 && seen(after) >= last + 20,
		"which passes everything on");
	create(&other, 3);
	other.instance = "other";
	tap_case(!forwarder_open(&other, 0, "r0", MR_MODE_AUTO, NULL) && program_cnt("r0", "steer") == 2 &&
			!mr_interface_info(other.port[0])->notice[0],
		"another instance leaves it alone");
	tap_case(forwarder_destroy(&other) && program_cnt("r0", "steer") == 1, "also when it ends");
	create(&f, 4);
	bool opened = open_both(&f, MR_MODE_AUTO);
	tap_case(opened && program_cnt("r0", "steer") == 1 && program_cnt("r1", "steer") == 1,
		"the next run of the instance has one program on each device");
	tap_case(opened && strstr(mr_interface_info(f.port[0])->notice, "removed from r0"), "and says: %s",
		opened ? mr_interface_info(f.port[0])->notice : "");
	forwarder_start(&f);
	tap_case(opened && steer(&f, true) && spaces_ping("10.77.0.2", 50), "traffic crosses");
	tap_case(forwarder_destroy(&f), "closes with every frame");
	tap_case(program_cnt("r0", "steer") == 0 && program_cnt("r0", "neighbour") == 2 && nothing_attached("r1"),
		"the neighbours stay, and nothing else");
}

/* Linux 6.13 and later look whether a program put into a dispatcher may change packets; libxdp before 1.5.5 has no answer. */
static bool changes_are_checked(void)
{
	struct utsname u;
	unsigned major = 0, minor = 0;

	return !uname(&u) && sscanf(u.release, "%u.%u", &major, &minor) == 2 && major * 100 + minor >= 613;
}

/* The next echo request of 142 bytes a steered r0 receives, its bytes after the time stamp all 0xab: its length, 0 = none came, 1 = broken. */
static uint32_t echo_bytes(struct forwarder *f, const uint8_t **where)
{
	struct mr_queue *q = mr_interface_queue(f->port[0], 0);
	uint32_t len = 0;

	(void)spaces_run("a", "ping -c 1 -W 1 -s 100 -p ab 10.77.0.2");
	for (unsigned i = 0; i < 200 && !len; i++) {
		struct mr_frame frame[8];
		unsigned n = q->ops->rx(q, frame, 8);
		for (unsigned k = 0; k < n; k++) {
			const uint8_t *d = mr_frames_base(f->frames) + frame[k].addr;
			if (frame[k].len >= 100 && !memcmp(d + 12, "\x08\x00\x45", 3)) {
				len = frame[k].len;
				*where = d;
				for (uint32_t at = 60; at < len && at < 142; at++)
					if (d[at] != 0xab)
						len = 1;
			}
			mr_frames_give(mr_frames_magazine(f->frames, 0), &frame[k].addr, 1);
		}
		q->ops->service(q);
		usleep(5000);
	}
	return len;
}

/* XDP_METADATA_COPY, XDP_ADJUST_TAIL_SHRINK and _GROW of the kernel's xskxceiver: another's program does it, the socket is ours. */
static void changed_before(void)
{
	struct changer_bpf *skel = changer_bpf__open();
	struct xdp_program *p = skel ? xdp_program__from_bpf_obj(skel->obj, "xdp") : NULL;
	const uint8_t *d = NULL;
	struct forwarder f;
	uint32_t key = 0, len;

	wire();
	bool joined = !libxdp_get_error(p) && !xdp_program__set_run_prio(p, 10) &&
		!xdp_program__attach(p, (int)device("r0").ifindex, XDP_MODE_NATIVE, 0);
	if (!joined && changes_are_checked()) {
		tap_case(true,
			"metadata and tails # SKIP this libxdp has no dispatcher for programs that change packets");
		changer_bpf__destroy(skel);
		return;
	}
	create(&f, 8);
	tap_case(joined && open_both(&f, MR_MODE_COPY) && steer(&f, true), "behind a program that changes packets");
	(void)spaces_run("a", "ip neigh replace 10.77.0.2 lladdr 02:00:00:00:00:01 dev a0");
	for (uint32_t what = 0; what < 4; what++) {
		static const char *const name[] = { "unchanged", "XDP_METADATA_COPY", "XDP_ADJUST_TAIL_SHRINK",
			"XDP_ADJUST_TAIL_GROW" };
		static const uint32_t want[] = { 142, 142, 126, 158 };
		(void)bpf_map_update_elem(bpf_map__fd(skel->maps.change), &key, &what, BPF_ANY);
		len = joined ? echo_bytes(&f, &d) : 0;
		tap_case(len == want[what], "%s: %u bytes of %u, whole", name[what], len, want[what]);
		if (what == 1)
			tap_case(len > 1 && !memcmp(d - 8, "llimecar", 8), "%s: in front of the packet", name[what]);
		if (what == 3)
			tap_case(len > 142 && !memcmp(d + 142, (const uint8_t[16]){ 0 }, 16), "%s: with zeros",
				name[what]);
	}
	tap_case(forwarder_destroy(&f), "every frame is back in the pool");
	tap_case(!xdp_program__detach(p, (int)device("r0").ifindex, XDP_MODE_NATIVE, 0) && nothing_attached("r0"),
		"it leaves, and nothing is attached");
	xdp_program__close(p);
	changer_bpf__destroy(skel);
}

static void modes(void)
{
	struct forwarder f;
	struct neighbour n;
	struct mr_error e = { { 0 } };

	wire();
	tap_case(neighbour_join(&n, 10, XDP_MODE_SKB), "a neighbour in generic mode");
	create(&f, 5);
	tap_case(forwarder_open(&f, 0, "r0", MR_MODE_COPY, &e) == -EOPNOTSUPP && strstr(e.text, "generic mode"),
		"native is refused: %s", e.text);
	e.text[0] = 0;
	int err = forwarder_open(&f, 0, "r0", MR_MODE_AUTO, &e);
	if (err && changes_are_checked()) {
		tap_case(err == -EINVAL && strstr(e.text, "libxdp 1.5.5"), "generic is refused: %s", e.text);
	} else {
		tap_case(!err && mr_interface_info(f.port[0])->mode == MR_MODE_GENERIC &&
				!forwarder_open(&f, 1, "r1", MR_MODE_AUTO, &e),
			"auto goes there too %s", e.text);
		forwarder_start(&f);
		tap_case(!err && steer(&f, true) && spaces_ping("10.77.0.2", 50), "traffic crosses");
	}
	tap_case(forwarder_destroy(&f) && program_cnt("r0", "steer") == 0 && program_cnt("r0", "neighbour") == 1,
		"the neighbour stays");
	tap_case(neighbour_leave(&n, XDP_MODE_SKB) && nothing_attached("r0"), "until it leaves");
}

static void deletion(void)
{
	struct forwarder f;
	char pattern[64];
	glob_t found = { 0 };

	wire();
	snprintf(pattern, sizeof(pattern), "/sys/fs/bpf/xdp/dispatch-%u-*", device("r0").ifindex);
	create(&f, 6);
	tap_case(open_both(&f, MR_MODE_COPY) && !glob(pattern, 0, NULL, &found), "what is shared is pinned");
	globfree(&found);
	(void)spaces_run("r", "ip link del r0");
	tap_case(forwarder_destroy(&f), "the device goes; every frame is back");
	tap_case(glob(pattern, 0, NULL, &found) == GLOB_NOMATCH, "and no pin is left");
	globfree(&found);
}

static void full(void)
{
	struct neighbour n[10];
	struct mr_error e = { { 0 } };
	struct forwarder f;
	unsigned joined = 0, left = 0;

	wire();
	while (joined < 10 && neighbour_join(&n[joined], 10 + joined, XDP_MODE_NATIVE))
		joined++;
	create(&f, 7);
	tap_case(joined == 10 && forwarder_open(&f, 0, "r0", MR_MODE_AUTO, &e) == -E2BIG, "ten are there: %s", e.text);
	tap_case(forwarder_destroy(&f) && program_cnt("r0", "neighbour") == 10, "and they stay");
	for (unsigned i = 0; i < joined; i++)
		left += neighbour_leave(&n[i], XDP_MODE_NATIVE);
	tap_case(left == 10 && nothing_attached("r0"), "until they leave");
}

int main(void)
{
	struct neighbour before, after;
	struct mr_device d;

	spaces_begin("dispatch");
	libbpf_set_print(NULL);
	libxdp_set_print(NULL);
	plain_program();
	without_bpffs();
	wire();
	d = device("r0");
	if (mr_dispatch_check(&d, NULL) == -EOPNOTSUPP) {
		not_permitted();
		if (getenv("MR_VM"))
			tap_case(false, "freplace is permitted in a guest");
		return tap_end();
	}
	tap_case(neighbour_join(&before, 10, XDP_MODE_NATIVE) && neighbour_join(&after, 90, XDP_MODE_NATIVE),
		"two neighbours on r0");
	beside(&before, &after);
	killing(&before, &after);
	tap_case(neighbour_leave(&before, XDP_MODE_NATIVE) && neighbour_leave(&after, XDP_MODE_NATIVE) &&
			nothing_attached("r0"),
		"they leave, and nothing is attached");
	modes();
	changed_before();
	full();
	deletion();
	return tap_end();
}
