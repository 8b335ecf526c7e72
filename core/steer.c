/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * steer.c - the loaded steer program of one interface and the table in force.
 *
 * Two tables lie in the kernel's maps; steer_active in the program's memory says which one counts.  A new table is written into the
 * other one, the word is stored, and then an update of a map of maps is made for its side effect: the kernel returns from it only
 * after every program that was running has ended (kernel/bpf/syscall.c, maybe_wait_bpf_programs()).  From then on nobody reads the
 * old table, and the next one may be written there.
 */
#include "core/steer_table.h"
#include "core/tier.h"

#include "steer.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct mr_steer {
	struct steer_bpf *skel;
	unsigned cpu_cnt;
};

static void mark_owner(struct steer_bpf *skel, const struct mr_steer_options *opt)
{
	struct mr_steer_owner *owner = &skel->rodata_owner->steer_owner;
	if (opt->instance)
		strncpy(owner->instance, opt->instance, sizeof(owner->instance) - 1);
	if (opt->device)
		strncpy(owner->device, opt->device, sizeof(owner->device) - 1);
	owner->process = opt->shim_cookie;
}

static int join(struct steer_bpf *skel, const struct mr_steer_options *opt, struct mr_error *e)
{
	if (!opt->tier)
		return 0;
	mr_tier_begin(opt->tier, opt->interface_id);
	skel->rodata_tier->steer_tier = mr_tier_fixed(opt->tier, opt->interface_id);
	skel->rodata_tier->steer_tier.redirect_back = opt->redirect_back;
	return mr_tier_join(opt->tier, skel->obj, e);
}

static int map_variable(void *at, size_t bytes, const struct bpf_map *map)
{
	return mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, bpf_map__fd(map), 0) == at ? 0 : -errno;
}

/* What steer_bpf__load() does after loading: the variables of the skeleton become the maps' memory. */
static int map_variables(struct steer_bpf *skel)
{
	int err = map_variable(skel->bss, sizeof(*skel->bss), skel->maps.bss);
	return err ? err : map_variable(skel->data, sizeof(*skel->data), skel->maps.data);
}

static int load(struct steer_bpf *skel, const struct mr_steer_options *opt, struct mr_error *e)
{
	int err;
	if (opt->load) {
		err = opt->load(opt->load_ctx, skel->obj, e);
		if (err)
			return err;
		err = map_variables(skel);
	} else {
		err = steer_bpf__load(skel);
	}
	if (!err)
		return 0;
	return mr_error_set(e, err, "the kernel does not take the steering program: %s%s", strerror(-err),
		err == -EPERM ? " (CAP_BPF and CAP_NET_ADMIN are needed)" : "");
}

int mr_steer_load(const struct mr_steer_options *opt, struct mr_steer **out, struct mr_error *e)
{
	struct mr_steer *s = calloc(1, sizeof(*s));
	if (!s)
		return mr_error_set(e, -ENOMEM, "no memory for the steering program");
	int cpus = libbpf_num_possible_cpus(), err = -EINVAL;
	if (cpus < 1) {
		mr_error_set(e, cpus, "cannot tell the number of CPUs: %s", strerror(-cpus));
		goto fail;
	}
	s->cpu_cnt = (unsigned)cpus;
	libbpf_print_fn_t before =
		libbpf_set_print(NULL); /* a library says nothing on stderr; the sentence below does */
	s->skel = steer_bpf__open();
	if (s->skel) {
		s->skel->rodata->steer_shim_cookie = opt->generic ? opt->shim_cookie : 0;
		mark_owner(s->skel, opt);
		err = join(s->skel, opt, e);
		if (!err)
			err = load(s->skel, opt, e);
	} else {
		err = mr_error_set(e, -errno, "the steering program cannot be opened: %s", strerror(errno));
	}
	libbpf_set_print(before);
	if (err)
		goto fail;
	*out = s;
	return 0;
fail:
	mr_steer_unload(s);
	return err;
}

void mr_steer_unload(struct mr_steer *s)
{
	if (!s)
		return;
	steer_bpf__destroy(s->skel);
	free(s);
}

int mr_steer_prog_fd(const struct mr_steer *s)
{
	return bpf_program__fd(s->skel->progs.steer);
}

int mr_steer_xskmap_fd(const struct mr_steer *s)
{
	return bpf_map__fd(s->skel->maps.xsks);
}

/* ---- tables ----------------------------------------------------------------------------------------------------- */

static int fill_end(int fd, const struct mr_steer_end *end, uint32_t which)
{
	bool v6 = which & 2;
	for (uint32_t i = 0; i < end->prefix_cnt; i++) {
		const struct mr_steer_prefix *p = &end->prefix[i];
		struct mr_steer_key key = { .prefix_bits = MR_STEER_KEY_BITS + p->bits, .end = which };
		for (unsigned w = 0; w < (v6 ? 4 : 1); w++)
			key.addr_be[w] = mr_be32((uint32_t)(p->addr >> (96 - 32 * w)));
		int err = bpf_map_update_elem(fd, &key, &p->set, BPF_ANY);
		if (err)
			return err;
	}
	return 0;
}

/* A trie with a table's prefixes (NULL: none): its fd, or -errno. */
static int create_trie(const struct mr_steer_table *t)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_NO_PREALLOC);
	uint32_t cnt = 1;
	for (unsigned i = 0; t && i < 4; i++)
		cnt += t->end[i / 2][i % 2].prefix_cnt;
	int fd = bpf_map_create(BPF_MAP_TYPE_LPM_TRIE, "steer_prefixes", sizeof(struct mr_steer_key),
		sizeof(struct mr_steer_bits), cnt, &opts);
	for (unsigned i = 0; t && fd >= 0 && i < 4; i++) {
		int err = fill_end(fd, &t->end[i / 2][i % 2], MR_STEER_END(i / 2, MR_STEER_SRC + i % 2));
		if (err) {
			close(fd);
			return err;
		}
	}
	return fd;
}

/* Puts a trie into a slot.  The kernel returns from that when no program that was running at the call still runs. */
static int write_trie(struct mr_steer *s, uint32_t slot, const struct mr_steer_table *t)
{
	int fd = create_trie(t);
	if (fd < 0)
		return fd;
	int err = bpf_map_update_elem(bpf_map__fd(s->skel->maps.steer_tries), &slot, &fd, BPF_ANY);
	close(fd);
	return err;
}

int mr_steer_apply(struct mr_steer *s, const struct mr_steer_table *t, struct mr_error *e)
{
	uint32_t before = s->skel->bss->steer_active, active = 0;
	int err = 0;
	if (t && t->image->head.entry_cnt) {
		active = before == 1 ? 2 : 1;
		uint32_t idx = active - 1;
		err = write_trie(s, idx, t);
		if (!err)
			err = bpf_map_update_elem(bpf_map__fd(s->skel->maps.steer_tables), &idx, t->image, BPF_ANY);
	}
	if (err)
		return mr_error_set(e, err, "cannot write the steering table: %s", strerror(-err));
	__atomic_store_n(&s->skel->bss->steer_active, active, __ATOMIC_RELEASE);
	err = write_trie(s, MR_STEER_TRIE_SPARE, NULL); /* for the wait */
	if (!err)
		return 0;
	__atomic_store_n(&s->skel->bss->steer_active, before, __ATOMIC_RELEASE);
	return mr_error_set(e, err, "cannot put the steering table in force: %s", strerror(-err));
}

void mr_steer_set_unserved(struct mr_steer *s, bool drop)
{
	__atomic_store_n(&s->skel->data->steer_unserved, drop ? XDP_DROP : XDP_PASS, __ATOMIC_RELEASE);
}

int mr_steer_read_counters(const struct mr_steer *s, struct mr_steer_counters *out)
{
	struct mr_steer_cpu_counters *cpu = calloc(s->cpu_cnt, sizeof(*cpu));
	uint32_t key = 0;
	if (!cpu)
		return -ENOMEM;
	int err = bpf_map_lookup_elem(bpf_map__fd(s->skel->maps.steer_counters), &key, cpu);
	if (err) {
		free(cpu);
		return err;
	}
	struct mr_steer_cpu_counters sum = { { 0 } };
	for (unsigned c = 0; c < s->cpu_cnt; c++)
		for (unsigned i = 0; i < MR_STEER_CNT_CNT; i++)
			sum.packets[i] += cpu[c].packets[i];
	free(cpu);
	*out = (struct mr_steer_counters){ .steered = sum.packets[MR_STEER_CNT_STEERED],
		.no_socket = sum.packets[MR_STEER_CNT_NO_SOCKET],
		.passed = sum.packets[MR_STEER_CNT_PASSED],
		.unparsed = sum.packets[MR_STEER_CNT_UNPARSED],
		.handed_back = sum.packets[MR_STEER_CNT_HANDED_BACK],
		.unserved = sum.packets[MR_STEER_CNT_UNSERVED],
		.offloaded = sum.packets[MR_STEER_CNT_OFFLOADED] };
	return 0;
}
