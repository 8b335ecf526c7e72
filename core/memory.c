/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/memory.h"

#include "core/pcap.h"

#include <errno.h>
#include <pcap/pcap.h>
#include <stdlib.h>
#include <string.h>

#define BURST 256u

struct packet {
	uint64_t at; /* in data */
	uint32_t len;
};

struct memory_queue {
	struct mr_queue queue; /* first */
	struct mr_frames *frames;
	struct mr_magazine *magazine;
	uint8_t *data;
	struct packet *packets;
	uint32_t packet_cnt;
	uint32_t next_idx;
	uint64_t rounds_left; /* this one included */
	bool endless;
};

static void count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static bool memory_drained(const struct mr_queue *queue)
{
	const struct memory_queue *m = (const struct memory_queue *)queue;

	return !m->endless && !m->rounds_left;
}

static unsigned memory_rx(struct mr_queue *queue, struct mr_frame *f, unsigned n)
{
	struct memory_queue *m = (struct memory_queue *)queue;
	uint8_t *base = mr_frames_base(m->frames);
	uint64_t addr[BURST], bytes = 0;
	unsigned cnt, want = n < BURST ? n : BURST;

	if (memory_drained(queue))
		return 0;
	if (!m->endless && m->rounds_left == 1 && want > m->packet_cnt - m->next_idx)
		want = m->packet_cnt - m->next_idx;
	cnt = mr_frames_take(m->magazine, addr, want);
	if (cnt < want)
		count(&queue->counters.rx_no_frame, 1);
	for (unsigned i = 0; i < cnt; i++) {
		/* a burst may go round more than once, when the capture is shorter: rounds end below */
		if (!m->endless && !m->rounds_left) {
			mr_frames_give(m->magazine, addr + i, cnt - i);
			cnt = i;
			break;
		}
		const struct packet *p = &m->packets[m->next_idx];
		mr_frames_tag(m->frames, addr[i], MR_OWNER_RX, queue->interface_id, queue->queue_idx);
		f[i] = (struct mr_frame){ .addr = addr[i] + MR_INTERFACE_HEADROOM_BYTES, .len = p->len };
		memcpy(base + f[i].addr, m->data + p->at, p->len);
		bytes += p->len;
		if (++m->next_idx == m->packet_cnt) {
			m->next_idx = 0;
			m->rounds_left -= m->endless ? 0 : 1;
		}
	}
	count(&queue->counters.rx_packets, cnt);
	count(&queue->counters.rx_bytes, bytes);
	return cnt;
}

static unsigned memory_tx(struct mr_queue *queue, const struct mr_frame *f, unsigned n)
{
	struct memory_queue *m = (struct memory_queue *)queue;
	uint64_t addr[BURST], bytes = 0;

	for (unsigned done = 0; done < n;) {
		unsigned k = n - done < BURST ? n - done : BURST;
		for (unsigned i = 0; i < k; i++) {
			addr[i] = f[done + i].addr;
			bytes += f[done + i].len;
		}
		mr_frames_give(m->magazine, addr, k);
		done += k;
	}
	count(&queue->counters.tx_packets, n);
	count(&queue->counters.tx_bytes, bytes);
	return n;
}

static void memory_service(struct mr_queue *queue)
{
}

static int memory_fd(const struct mr_queue *queue)
{
	return -1;
}

static const struct mr_interface_ops memory_ops = {
	.abi = MR_INTERFACE_ABI,
	.name = "memory",
	.rx = memory_rx,
	.tx = memory_tx,
	.service = memory_service,
	.fd = memory_fd,
	.drained = memory_drained,
};

/* ---- opening ------------------------------------------------------------------------------------------------ */

static int packet_add(struct memory_queue *m, const u_char *bytes, uint32_t len, size_t *data_room, uint64_t *data_cnt)
{
	if (*data_cnt + len > *data_room) {
		size_t room = (*data_room + len) * 2;
		uint8_t *data = realloc(m->data, room);
		if (!data)
			return -ENOMEM;
		m->data = data;
		*data_room = room;
	}
	if (!(m->packet_cnt & (m->packet_cnt - 1))) {
		struct packet *packets =
			realloc(m->packets, (m->packet_cnt ? 2 * (size_t)m->packet_cnt : 1) * sizeof(*packets));
		if (!packets)
			return -ENOMEM;
		m->packets = packets;
	}
	memcpy(m->data + *data_cnt, bytes, len);
	m->packets[m->packet_cnt++] = (struct packet){ .at = *data_cnt, .len = len };
	*data_cnt += len;
	return 0;
}

static int capture_load(struct memory_queue *m, const char *path, struct mr_error *e)
{
	const uint32_t room = mr_frames_frame_bytes(m->frames) - MR_INTERFACE_HEADROOM_BYTES;
	char why[PCAP_ERRBUF_SIZE];
	struct pcap_pkthdr *h;
	const u_char *bytes;
	size_t data_room = 0;
	uint64_t data_cnt = 0;
	int err = 0;

	/* says what is wrong with the file, as `check` does */
	const struct mr_config_interface file = { .pcap_in = path };
	err = mr_pcap_check(&file, e);
	if (err)
		return err;
	pcap_t *p = pcap_open_offline(path, why);
	if (!p)
		return mr_error_set(e, -EINVAL, "%s is no capture file: %s", path, why);
	while (!err && pcap_next_ex(p, &h, &bytes) == 1) {
		if (h->caplen && h->caplen <= room)
			err = packet_add(m, bytes, h->caplen, &data_room, &data_cnt);
		else
			m->queue.counters.rx_too_long++;
		if (err)
			mr_error_set(e, err, "no memory for the packets of %s", path);
	}
	pcap_close(p);
	if (!err && !m->packet_cnt)
		err = mr_error_set(e, -EINVAL, "%s holds no packet that fits a frame of %u bytes", path, room);
	return err;
}

int mr_memory_open(const struct mr_config_interface *c, unsigned id, const struct mr_interface_env *env,
	struct mr_interface *owner, struct mr_queue **out, struct mr_error *e)
{
	struct memory_queue *m = calloc(1, sizeof(*m));
	int err;

	if (!m)
		return mr_error_set(e, -ENOMEM, "no memory for a memory interface");
	m->queue.ops = &memory_ops;
	m->queue.interface = owner;
	m->queue.interface_id = (uint16_t)id;
	m->frames = env->frames;
	m->magazine = env->magazine(env->ctx, 0);
	m->rounds_left = c->memory.repeat;
	m->endless = !c->memory.repeat;
	err = capture_load(m, c->memory.file, e);
	if (err) {
		mr_memory_close(&m->queue);
		return err;
	}
	*out = &m->queue;
	return 0;
}

void mr_memory_close(struct mr_queue *q)
{
	struct memory_queue *m = (struct memory_queue *)q;

	if (!m)
		return;
	free(m->data);
	free(m->packets);
	free(m);
}
