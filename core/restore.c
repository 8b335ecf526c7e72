/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FOLDER      "/run/millrace"
#define ENTRIES_MAX 128
#define RETRY_MS    20
#define RETRIES     50

struct entry {
	uint64_t space; /* cookie of the network namespace */
	uint64_t run;
	struct mr_restore r;
};

struct state {
	char path[160];
	unsigned cnt;
	struct entry entry[ENTRIES_MAX];
};

/* Nothing when there is no file; lines that are not understood are left out. */
static struct state *load(const char *instance)
{
	struct state *s = calloc(1, sizeof(*s));
	char line[256];
	if (!s)
		return NULL;
	snprintf(s->path, sizeof(s->path), FOLDER "/%s.state", instance);
	FILE *f = fopen(s->path, "re");
	while (f && s->cnt < ENTRIES_MAX && fgets(line, sizeof(line), f)) {
		struct entry *n = &s->entry[s->cnt];
		struct mr_restore *r = &n->r;
		if (sscanf(line, "device %" SCNu64 " %" SCNx64 " %u offloads %u channels %u %u %u set %u %u %u",
			    &n->space, &n->run, &r->ifindex, &r->offloads, &r->before.rx, &r->before.tx,
			    &r->before.combined, &r->set.rx, &r->set.tx, &r->set.combined) == 10)
			s->cnt++;
	}
	if (f)
		fclose(f);
	return s;
}

/* Whole or not at all. */
static int save(const struct state *s)
{
	char path[180];
	int err = 0;
	if (!s->cnt)
		return unlink(s->path) && errno != ENOENT ? -errno : 0;
	if (mkdir(FOLDER, 0755) && errno != EEXIST)
		return -errno;
	snprintf(path, sizeof(path), "%s.new", s->path);
	(void)unlink(path); /* of a run that was killed while it wrote */
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!f) {
		err = -errno;
		if (fd >= 0)
			close(fd);
		return err;
	}
	for (unsigned i = 0; i < s->cnt; i++) {
		const struct entry *n = &s->entry[i];
		const struct mr_restore *r = &n->r;
		fprintf(f, "device %" PRIu64 " %" PRIx64 " %u offloads %u channels %u %u %u set %u %u %u\n", n->space,
			n->run, r->ifindex, r->offloads, r->before.rx, r->before.tx, r->before.combined, r->set.rx,
			r->set.tx, r->set.combined);
	}
	bool whole = !fflush(f) && !ferror(f);
	if (fclose(f) || !whole || rename(path, s->path))
		err = errno ? -errno : -EIO;
	if (err)
		(void)unlink(path);
	return err;
}

static struct entry *find(struct state *s, uint32_t ifindex)
{
	uint64_t here = mr_device_space();
	for (unsigned i = 0; i < s->cnt; i++)
		if (s->entry[i].space == here && s->entry[i].r.ifindex == ifindex)
			return &s->entry[i];
	return NULL;
}

static bool any_channels(const struct mr_device_channels *c)
{
	return c->rx || c->tx || c->combined;
}

/* Unless somebody has set other channels in between: then those are what there was before. */
static void join(struct mr_restore *r, const struct mr_restore *older)
{
	r->offloads |= older->offloads;
	if (!any_channels(&older->before) ||
		(any_channels(&r->before) && !mr_device_channels_same(&r->before, &older->set)))
		return;
	r->before = older->before;
	if (!any_channels(&r->set))
		r->set = older->set;
}

static void take_out(struct state *s, struct entry *n)
{
	*n = s->entry[--s->cnt];
}

/* A free entry; in a file that is full, that of the oldest line of another namespace, which may be gone. */
static struct entry *make_room(struct state *s)
{
	uint64_t here = mr_device_space();
	for (unsigned i = 0; s->cnt == ENTRIES_MAX && i < s->cnt; i++)
		if (s->entry[i].space != here) {
			memmove(&s->entry[i], &s->entry[i + 1], (s->cnt - i - 1) * sizeof(s->entry[0]));
			s->cnt--;
		}
	return s->cnt < ENTRIES_MAX ? &s->entry[s->cnt++] : NULL;
}

int mr_restore_remember(const char *instance, uint64_t run, struct mr_restore *r, struct mr_error *e)
{
	struct state *s = load(instance);
	struct entry *n = s ? find(s, r->ifindex) : NULL;
	int err = s ? 0 : -ENOMEM;
	if (n)
		join(r, &n->r);
	if (!n && s && (r->offloads || any_channels(&r->before))) {
		n = make_room(s);
		err = n ? 0 : -ENOSPC;
	}
	if (n) {
		*n = (struct entry){ .space = mr_device_space(), .run = run, .r = *r };
		err = save(s);
	}
	if (err)
		mr_error_set(e, err,
			FOLDER "/%s.state cannot be written: %s; after kill -9 the device would stay as it is",
			instance, strerror(-err));
	free(s);
	return err;
}

void mr_restore_forget(const char *instance, uint32_t ifindex)
{
	struct state *s = load(instance);
	struct entry *n = s ? find(s, ifindex) : NULL;
	if (n) {
		take_out(s, n);
		(void)save(s);
	}
	free(s);
}

/* Sockets that were closed still count for a moment: the kernel ends them from a work queue. */
static int channels_back(const char *name, const struct mr_restore *r, struct mr_error *e)
{
	const struct timespec pause = { .tv_nsec = RETRY_MS * 1000000L };
	struct mr_device_channels now, max;
	int err = mr_device_channels_get(name, &now, &max);
	/* somebody has set others since */
	if (err || !mr_device_channels_same(&now, &r->set) || mr_device_channels_same(&now, &r->before))
		return 0;
	for (unsigned i = 0;; i++) {
		err = mr_device_channels_set(name, &r->before, e);
		if ((err != -EINVAL && err != -EBUSY) || i == RETRIES)
			return err;
		(void)nanosleep(&pause, NULL);
	}
}

int mr_restore_apply(const struct mr_restore *r, struct mr_error *e)
{
	/* by its number: it may have another name now, and its name another device; one that is gone is nothing to restore */
	char name[IF_NAMESIZE];
	int err = 0, channels = 0;
	if (!if_indextoname(r->ifindex, name))
		return 0;
	if (r->offloads)
		err = mr_device_offload(name, r->offloads, true, e);
	if (any_channels(&r->before))
		channels = channels_back(name, r, e);
	return err ? err : channels;
}

static int undo_one(const struct entry *n, mr_restore_fn say, void *ctx)
{
	char name[IF_NAMESIZE] = "", text[400];
	struct mr_error e = { "" };
	bool there = if_indextoname(n->r.ifindex, name);
	int err = mr_restore_apply(&n->r, &e);
	if (err)
		snprintf(text, sizeof(text), "%s is not as it was before an earlier run of this instance: %.300s", name,
			e.text);
	else if (there)
		snprintf(text, sizeof(text), "put back on %s what an earlier run of this instance had changed:%s%s",
			name, n->r.offloads ? " receive offloads" : "", any_channels(&n->r.before) ? " channels" : "");
	if (say && there)
		say(ctx, name, !err, text);
	return err;
}

int mr_restore_undo(const char *instance, uint64_t run, uint32_t ifindex, mr_restore_fn say, void *ctx)
{
	struct state *s = load(instance);
	uint64_t here = mr_device_space();
	unsigned i = 0, before = s ? s->cnt : 0;
	int cnt = 0;
	while (s && i < s->cnt) {
		struct entry *n = &s->entry[i];
		bool mine = n->space == here && (!run || n->run != run) && (!ifindex || n->r.ifindex == ifindex);
		if (mine && !undo_one(n, say, ctx)) {
			take_out(s, n);
			cnt++;
		} else {
			i++;
		}
	}
	if (s && s->cnt != before)
		(void)save(s);
	free(s);
	return cnt;
}
