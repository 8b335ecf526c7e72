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

#include "steer.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mr_steer {
	struct steer_bpf *skel;
	unsigned cpu_cnt;
};

static int silent(enum libbpf_print_level level, const char *fmt, va_list args)
{
	return 0;
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
		libbpf_set_print(silent); /* a library says nothing on stderr; the sentence below does */
	s->skel = steer_bpf__open();
	if (s->skel) {
		s->skel->rodata->steer_shim_cookie = opt->generic ? opt->shim_cookie : 0;
		err = steer_bpf__load(s->skel);
	} else {
		err = -errno;
	}
	libbpf_set_print(before);
	if (err) {
		mr_error_set(e, err, "the kernel does not take the steering program: %s%s", strerror(-err),
			err == -EPERM ? " (CAP_BPF and CAP_NET_ADMIN are needed)" : "");
		goto fail;
	}
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

static int fill_trie(int fd, const struct mr_steer_end *end, bool v6)
{
	for (uint32_t i = 0; i < end->prefix_cnt; i++) {
		const struct mr_steer_prefix *p = &end->prefix[i];
		struct mr_steer_key6 k6 = { .prefix_bits = p->bits };
		struct mr_steer_key4 k4 = { .prefix_bits = p->bits, .addr_be = mr_be32((uint32_t)(p->addr >> 96)) };
		for (unsigned w = 0; w < 4; w++)
			k6.addr_be[w] = mr_be32((uint32_t)(p->addr >> (96 - 32 * w)));
		int err = bpf_map_update_elem(fd, v6 ? (void *)&k6 : (void *)&k4, &p->set, BPF_ANY);
		if (err)
			return err;
	}
	return 0;
}

/* A trie with one end's prefixes: its fd, or -errno. */
static int create_trie(const struct mr_steer_end *end, bool v6)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_NO_PREALLOC);
	int fd = bpf_map_create(BPF_MAP_TYPE_LPM_TRIE, "steer_prefixes",
		v6 ? sizeof(struct mr_steer_key6) : sizeof(struct mr_steer_key4), sizeof(struct mr_steer_bits),
		end->prefix_cnt ? end->prefix_cnt : 1, &opts);
	if (fd < 0)
		return fd;
	int err = fill_trie(fd, end, v6);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

static int tries_fd(const struct mr_steer *s, bool v6)
{
	return bpf_map__fd(v6 ? s->skel->maps.steer_tries6 : s->skel->maps.steer_tries4);
}

/* Puts one end's trie into its place in table `idx`, which nobody reads; takes away an old one that is not replaced. */
static int write_end(struct mr_steer *s, const struct mr_steer_table *t, uint32_t idx, bool v6, unsigned side)
{
	const struct mr_steer_end *end = &t->end[v6][side];
	uint32_t slot = MR_STEER_TRIE(idx, side ? MR_STEER_DST : MR_STEER_SRC);
	if (!end->prefix_cnt) {
		uint32_t id;
		/* Looking first saves the wait that a deletion is. */
		if (bpf_map_lookup_elem(tries_fd(s, v6), &slot, &id))
			return 0;
		int err = bpf_map_delete_elem(tries_fd(s, v6), &slot);
		return err == -ENOENT ? 0 : err;
	}
	int fd = create_trie(end, v6);
	if (fd < 0)
		return fd;
	int err = bpf_map_update_elem(tries_fd(s, v6), &slot, &fd, BPF_ANY);
	close(fd);
	return err;
}

/* Returns when no program that was running at the call still runs. */
static int wait_for_programs(struct mr_steer *s)
{
	static const struct mr_steer_end none;
	uint32_t slot = MR_STEER_TRIE_SPARE;
	int fd = create_trie(&none, false);
	if (fd < 0)
		return fd;
	int err = bpf_map_update_elem(tries_fd(s, false), &slot, &fd, BPF_ANY);
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
		for (unsigned i = 0; i < 4 && !err; i++)
			err = write_end(s, t, idx, i / 2, i % 2);
		if (!err)
			err = bpf_map_update_elem(bpf_map__fd(s->skel->maps.steer_tables), &idx, t->image, BPF_ANY);
	}
	if (err)
		return mr_error_set(e, err, "cannot write the steering table: %s", strerror(-err));
	__atomic_store_n(&s->skel->bss->steer_active, active, __ATOMIC_RELEASE);
	err = wait_for_programs(s);
	if (!err)
		return 0;
	__atomic_store_n(&s->skel->bss->steer_active, before, __ATOMIC_RELEASE);
	return mr_error_set(e, err, "cannot put the steering table in force: %s", strerror(-err));
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
		.handed_back = sum.packets[MR_STEER_CNT_HANDED_BACK] };
	return 0;
}
