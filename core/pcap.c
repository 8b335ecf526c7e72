/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/pcap.h"

#include <errno.h>
#include <limits.h>
#include <pcap/pcap.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#define SNAP_BYTES 65535

struct pcap_queue {
	struct mr_queue queue; /* first */
	struct mr_frames *frames;
	struct mr_magazine *magazine;
	pcap_t *in;
	pcap_t *out_format;
	pcap_dumper_t *out;
	const u_char *next; /* a packet read that found no frame */
	struct pcap_pkthdr next_head;
	bool ended;
};

static void count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* The next packet that fits a frame, or false at the end. */
static bool packet_next(struct pcap_queue *p, uint32_t room_bytes)
{
	struct pcap_pkthdr *h;

	while (!p->next && !p->ended) {
		/* a file cut off in the middle ends there */
		if (pcap_next_ex(p->in, &h, &p->next) != 1) {
			p->next = NULL;
			p->ended = true;
		} else if (h->caplen > room_bytes || !h->caplen) {
			p->next = NULL;
			count(&p->queue.counters.rx_too_long, 1);
		} else {
			p->next_head = *h;
		}
	}
	return p->next;
}

static unsigned pcap_rx(struct mr_queue *queue, struct mr_frame *f, unsigned n)
{
	struct pcap_queue *p = (struct pcap_queue *)queue;
	const uint32_t room = mr_frames_frame_bytes(p->frames) - MR_INTERFACE_HEADROOM_BYTES;
	unsigned cnt = 0;
	uint64_t addr, bytes = 0;

	if (!p->in)
		return 0;
	for (; cnt < n && packet_next(p, room); cnt++) {
		if (!mr_frames_take(p->magazine, &addr, 1)) {
			count(&queue->counters.rx_no_frame, 1);
			break;
		}
		mr_frames_tag(p->frames, addr, MR_OWNER_RX, queue->interface_id, queue->queue_idx);
		addr += MR_INTERFACE_HEADROOM_BYTES;
		memcpy(mr_frames_base(p->frames) + addr, p->next, p->next_head.caplen);
		f[cnt] = (struct mr_frame){ .addr = addr, .len = p->next_head.caplen };
		bytes += p->next_head.caplen;
		p->next = NULL;
	}
	count(&queue->counters.rx_packets, cnt);
	count(&queue->counters.rx_bytes, bytes);
	return cnt;
}

static unsigned pcap_tx(struct mr_queue *queue, const struct mr_frame *f, unsigned n)
{
	struct pcap_queue *p = (struct pcap_queue *)queue;
	struct pcap_pkthdr h = { 0 };

	if (p->out && n)
		gettimeofday(&h.ts, NULL);
	for (unsigned i = 0; i < n; i++) {
		bool lost = false;
		if (p->out) {
			h.caplen = h.len = f[i].len;
			pcap_dump((u_char *)p->out, &h, mr_frames_base(p->frames) + f[i].addr);
			lost = ferror(pcap_dump_file(p->out)); /* disk full: stays set, nothing written since counts */
		}
		count(lost ? &queue->counters.tx_lost : &queue->counters.tx_packets, 1);
		if (!lost)
			count(&queue->counters.tx_bytes, f[i].len);
		mr_frames_give(p->magazine, &f[i].addr, 1);
	}
	return n;
}

static void pcap_service(struct mr_queue *queue)
{
}

static int pcap_fd(const struct mr_queue *queue)
{
	return -1;
}

static bool pcap_drained(const struct mr_queue *queue)
{
	const struct pcap_queue *p = (const struct pcap_queue *)queue;

	return !p->in || (p->ended && !p->next);
}

static const struct mr_interface_ops pcap_ops = {
	.abi = MR_INTERFACE_ABI,
	.name = "pcap",
	.rx = pcap_rx,
	.tx = pcap_tx,
	.service = pcap_service,
	.fd = pcap_fd,
	.drained = pcap_drained,
};

/* ---- opening ------------------------------------------------------------------------------------------------ */

static int in_open(const char *path, pcap_t **out, struct mr_error *e)
{
	char why[PCAP_ERRBUF_SIZE];
	struct stat st;

	if (access(path, R_OK) || stat(path, &st)) {
		int err = -errno;
		return mr_error_set(e, err, "%s: %s", path, strerror(-err));
	}
	/* a pipe would stop the worker that waits for it, and with it the end of the program */
	if (!S_ISREG(st.st_mode))
		return mr_error_set(e, -EINVAL, "%s is no regular file: save the capture to one first", path);
	pcap_t *p = pcap_open_offline(path, why);
	if (!p)
		return mr_error_set(e, -EINVAL, "%s is no capture file: %s", path, why);
	if (pcap_datalink(p) != DLT_EN10MB) {
		const char *name = pcap_datalink_val_to_name(pcap_datalink(p));
		mr_error_set(e, -EINVAL, "%s holds %s packets, not Ethernet frames", path, name ? name : "other");
		pcap_close(p);
		return -EINVAL;
	}
	*out = p;
	return 0;
}

/* Opening the one for writing would empty the other. */
static int same_file(const char *in, const char *out, struct mr_error *e)
{
	struct stat a, b;

	if (!in || !out || stat(in, &a) || stat(out, &b) || a.st_dev != b.st_dev || a.st_ino != b.st_ino)
		return 0;
	return mr_error_set(e, -EINVAL, "%s is the capture that is read: out must be another file", out);
}

static int out_open(struct pcap_queue *p, const char *path, struct mr_error *e)
{
	p->out_format = pcap_open_dead(DLT_EN10MB, SNAP_BYTES);
	if (!p->out_format)
		return mr_error_set(e, -ENOMEM, "no memory for a capture file");
	errno = 0;
	p->out = pcap_dump_open(p->out_format, path);
	if (p->out)
		return 0;
	int err = errno ? -errno : -EIO;
	return mr_error_set(e, err, "%s", pcap_geterr(p->out_format));
}

int mr_pcap_open(const struct mr_config_interface *c, unsigned id, const struct mr_interface_env *env,
	struct mr_interface *owner, struct mr_queue **out, struct mr_error *e)
{
	struct pcap_queue *p = calloc(1, sizeof(*p));
	int err;

	if (!p)
		return mr_error_set(e, -ENOMEM, "no memory for a capture file");
	p->queue.ops = &pcap_ops;
	p->queue.interface = owner;
	p->queue.interface_id = (uint16_t)id;
	p->frames = env->frames;
	p->magazine = env->magazine(env->ctx, 0);
	err = same_file(c->pcap_in, c->pcap_out, e);
	if (!err && c->pcap_in)
		err = in_open(c->pcap_in, &p->in, e);
	if (!err && c->pcap_out)
		err = out_open(p, c->pcap_out, e);
	if (err) {
		mr_pcap_close(&p->queue);
		return err;
	}
	*out = &p->queue;
	return 0;
}

void mr_pcap_close(struct mr_queue *q)
{
	struct pcap_queue *p = (struct pcap_queue *)q;

	if (!p)
		return;
	if (p->out)
		pcap_dump_close(p->out);
	if (p->out_format)
		pcap_close(p->out_format);
	if (p->in)
		pcap_close(p->in);
	free(p);
}

/* What can be told without making the file. */
static int out_check(const char *path, struct mr_error *e)
{
	const char *slash = strrchr(path, '/');
	char folder[PATH_MAX] = ".";

	if (!access(path, W_OK))
		return 0;
	if (errno == ENOENT) {
		if (slash)
			snprintf(folder, sizeof(folder), "%.*s", slash == path ? 1 : (int)(slash - path), path);
		if (!access(folder, W_OK))
			return 0;
	}
	int err = -errno;
	return mr_error_set(e, err, "%s cannot be written: %s", path, strerror(-err));
}

int mr_pcap_check(const struct mr_config_interface *c, struct mr_error *e)
{
	pcap_t *p = NULL;
	int err = same_file(c->pcap_in, c->pcap_out, e);

	if (!err && c->pcap_in)
		err = in_open(c->pcap_in, &p, e);
	if (!err && c->pcap_out)
		err = out_check(c->pcap_out, e);
	if (p)
		pcap_close(p);
	return err;
}
