/* SPDX-License-Identifier: BSD-2-Clause */
/* steer_compile.c - match and except entries to sets: by a sweep over each field's values, by nesting for prefixes. */
#include "core/steer_table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ITEMS_MAX (4u << 20) /* prefixes of all entries together, before equal ones are merged */

static void set_bit(struct mr_steer_bits *b, unsigned idx)
{
	b->word[idx / 64] |= 1ULL << (idx % 64);
}

static void clear_bit(struct mr_steer_bits *b, unsigned idx)
{
	b->word[idx / 64] &= ~(1ULL << (idx % 64));
}

static void or_bits(struct mr_steer_bits *b, const struct mr_steer_bits *with)
{
	for (unsigned i = 0; i < MR_STEER_WORDS; i++)
		b->word[i] |= with->word[i];
}

/* ---- fields of up to 16 bits ------------------------------------------------------------------------------------ */

static const char *const field_names[MR_STEER_FIELD_CNT] = { [MR_STEER_ETHERTYPE] = "ethertypes",
	[MR_STEER_VLAN] = "VLAN ids",
	[MR_STEER_ICMP] = "ICMP types",
	[MR_STEER_SPORT] = "source ports",
	[MR_STEER_DPORT] = "destination ports",
	[MR_STEER_PROTO] = "protocols",
	[MR_STEER_SRC] = "source prefixes",
	[MR_STEER_DST] = "destination prefixes" };

static const struct mr_range_list *ranges_of(const struct mr_config_match *m, enum mr_steer_field f)
{
	switch (f) {
	case MR_STEER_ETHERTYPE:
		return &m->ethertype;
	case MR_STEER_VLAN:
		return &m->vlan;
	case MR_STEER_SPORT:
		return &m->sport;
	case MR_STEER_DPORT:
		return &m->dport;
	default:
		return &m->proto;
	}
}

static uint32_t condition_cnt(const struct mr_config_match *m, enum mr_steer_field f)
{
	if (!m)
		return 0;
	return f == MR_STEER_ICMP ? m->icmp.cnt : ranges_of(m, f)->cnt;
}

static struct mr_range condition(const struct mr_config_match *m, enum mr_steer_field f, uint32_t i)
{
	if (f != MR_STEER_ICMP)
		return ranges_of(m, f)->items[i];
	const struct mr_icmp_type *t = &m->icmp.items[i];
	uint32_t base = (uint32_t)t->type << 8;
	if (t->code < 0)
		return (struct mr_range){ base, base | 255 };
	return (struct mr_range){ base | (uint8_t)t->code, base | (uint8_t)t->code };
}

/* A range of one entry begins at or ends before `at`. */
struct event {
	uint32_t at;
	uint16_t entry;
	int16_t step;
};

static int by_place(const void *a, const void *b)
{
	const struct event *x = a, *y = b;
	return x->at < y->at ? -1 : x->at > y->at;
}

/* The events of one field, sorted; entries without a condition go into *absent.  NULL with *cnt 0: no condition at all. */
static int collect_events(const struct mr_steer_entry *entry, unsigned entry_cnt, enum mr_steer_field f,
	struct mr_steer_bits *absent, struct event **out, size_t *cnt)
{
	size_t n = 0;
	*out = NULL;
	*cnt = 0;
	for (unsigned i = 0; i < entry_cnt; i++)
		n += condition_cnt(entry[i].match, f);
	struct event *ev = n ? malloc(2 * n * sizeof(*ev)) : NULL;
	if (n && !ev)
		return -ENOMEM;
	n = 0;
	for (unsigned i = 0; i < entry_cnt; i++) {
		uint32_t have = condition_cnt(entry[i].match, f);
		if (!have)
			set_bit(absent, i);
		for (uint32_t k = 0; k < have; k++) {
			struct mr_range r = condition(entry[i].match, f, k);
			if (r.lo > r.hi)
				continue;
			ev[n++] = (struct event){ r.lo, (uint16_t)i, 1 };
			if (r.hi < 0xffff)
				ev[n++] = (struct event){ r.hi + 1, (uint16_t)i, -1 };
		}
	}
	if (n)
		qsort(ev, n, sizeof(*ev), by_place);
	*out = ev;
	*cnt = n;
	return 0;
}

/* Sets already given a class, found by hash. */
struct class_index {
	uint16_t slot[4 * MR_STEER_CLASSES]; /* class + 1; 0 = free */
	unsigned cnt;
};

/* The class of a set, a new one if need be; -1 when there are too many. */
static int class_for(struct class_index *x, struct mr_steer_bits *classes, const struct mr_steer_bits *set)
{
	uint64_t h = 0;
	for (unsigned i = 0; i < MR_STEER_WORDS; i++)
		h = (h ^ set->word[i]) * 0x9e3779b97f4a7c15ULL, h ^= h >> 32;
	for (unsigned i = h % (4 * MR_STEER_CLASSES);; i = (i + 1) % (4 * MR_STEER_CLASSES)) {
		if (!x->slot[i]) {
			if (x->cnt == MR_STEER_CLASSES)
				return -1;
			classes[x->cnt] = *set;
			x->slot[i] = (uint16_t)++x->cnt;
			return (int)x->cnt - 1;
		}
		if (!memcmp(&classes[x->slot[i] - 1], set, sizeof(*set)))
			return x->slot[i] - 1;
	}
}

/* Walks the values of a field in order and calls for each stretch with one set: to `classes` or to the protocols' own table. */
static int sweep_field(struct mr_steer_image *m, enum mr_steer_field f, const struct event *ev, size_t cnt,
	unsigned *ranges, struct mr_error *e)
{
	struct class_index index = { .cnt = 0 };
	struct mr_steer_bits now = m->head.absent[f];
	uint32_t end = f == MR_STEER_PROTO ? 256 : 65536;
	size_t k = 0;
	memset(ranges, 0, MR_STEER_ENTRIES * sizeof(*ranges));
	for (uint32_t at = 0; at < end;) {
		for (; k < cnt && ev[k].at == at; k++) {
			ranges[ev[k].entry] += (unsigned)(int)ev[k].step;
			if (ranges[ev[k].entry])
				set_bit(&now, ev[k].entry);
			else
				clear_bit(&now, ev[k].entry);
		}
		uint32_t next = k < cnt && ev[k].at < end ? ev[k].at : end;
		if (f == MR_STEER_PROTO) {
			for (; at < next; at++)
				m->proto[at] = now;
			continue;
		}
		int class = class_for(&index, m->bits[f], &now);
		if (class < 0)
			return mr_error_set(e, -E2BIG,
				"the match entries of one interface tell apart more than %u groups of %s",
				MR_STEER_CLASSES, field_names[f]);
		for (; at < next; at++)
			m->class_of[f][at] = (uint16_t) class;
	}
	return 0;
}

static int compile_field(struct mr_steer_image *m, const struct mr_steer_entry *entry, unsigned cnt,
	enum mr_steer_field f, struct mr_error *e)
{
	unsigned ranges[MR_STEER_ENTRIES];
	struct event *ev;
	size_t ev_cnt;
	int err = collect_events(entry, cnt, f, &m->head.absent[f], &ev, &ev_cnt);
	if (err)
		return mr_error_set(e, err, "no memory for the match entries");
	/* A condition that no value meets still is one: then there are no events but absent is not everything. */
	if (memcmp(&m->head.absent[f], &m->head.all, sizeof(m->head.all))) {
		m->head.fields |= 1u << f;
		err = sweep_field(m, f, ev, ev_cnt, ranges, e);
	}
	free(ev);
	return err;
}

/* ---- prefixes --------------------------------------------------------------------------------------------------- */

struct item {
	mr_steer_addr addr;
	uint8_t bits;
	uint16_t entry;
};

static int by_prefix(const void *a, const void *b)
{
	const struct item *x = a, *y = b;
	if (x->addr != y->addr)
		return x->addr < y->addr ? -1 : 1;
	return (int)x->bits - (int)y->bits;
}

static mr_steer_addr net_mask(unsigned bits)
{
	return bits ? ~(mr_steer_addr)0 << (128 - bits) : 0;
}

static mr_steer_addr addr_of(const struct mr_prefix *p)
{
	mr_steer_addr a = 0;
	for (unsigned i = 0; i < (p->family == 4 ? 4u : 16u); i++)
		a |= (mr_steer_addr)p->addr[i] << (120 - 8 * i);
	return a & net_mask(p->len);
}

static const struct mr_prefix_list *prefixes_of(const struct mr_config_match *m, unsigned side)
{
	return side ? &m->dst : &m->src;
}

static bool has_prefixes(const struct mr_config_match *m, unsigned side)
{
	return m && (prefixes_of(m, side)->cnt || prefixes_of(m, side)->set);
}

static int collect_items(const struct mr_steer_entry *entry, unsigned cnt, unsigned side, unsigned family,
	struct item **out, size_t *out_cnt, struct mr_error *e)
{
	size_t n = 0;
	for (unsigned i = 0; i < cnt; i++)
		n += has_prefixes(entry[i].match, side) ? prefixes_of(entry[i].match, side)->cnt : 0;
	if (n > ITEMS_MAX)
		return mr_error_set(e, -E2BIG, "%zu %s in the match entries of one interface, more than %u", n,
			field_names[MR_STEER_SRC + side], ITEMS_MAX);
	struct item *item = malloc((n ? n : 1) * sizeof(*item));
	if (!item)
		return mr_error_set(e, -ENOMEM, "no memory for %zu prefixes", n);
	n = 0;
	for (unsigned i = 0; i < cnt; i++) {
		if (!has_prefixes(entry[i].match, side))
			continue;
		const struct mr_prefix_list *l = prefixes_of(entry[i].match, side);
		for (uint32_t k = 0; k < l->cnt; k++)
			if (l->items[k].family == family)
				item[n++] = (struct item){ addr_of(&l->items[k]), l->items[k].len, (uint16_t)i };
	}
	if (n)
		qsort(item, n, sizeof(*item), by_prefix);
	*out = item;
	*out_cnt = n;
	return 0;
}

/* Appends a span, or replaces the last one when it would be empty. */
static void add_span(struct mr_steer_end *end, mr_steer_addr from, const struct mr_steer_bits *set)
{
	if (end->span_cnt && end->span[end->span_cnt - 1].from == from)
		end->span_cnt--;
	end->span[end->span_cnt++] = (struct mr_steer_span){ from, *set };
}

/* Leaves the innermost of the open prefixes: what follows it belongs to the one around it. */
static void close_prefix(
	struct mr_steer_end *end, const uint32_t *open, unsigned depth, const struct mr_steer_bits *absent)
{
	const struct mr_steer_prefix *p = &end->prefix[open[depth - 1]];
	mr_steer_addr last = p->addr | ~net_mask(p->bits);
	if (last != ~(mr_steer_addr)0)
		add_span(end, last + 1, depth > 1 ? &end->prefix[open[depth - 2]].set : absent);
}

/* Merges equal prefixes, gives each the sets of those around it, and cuts the address space into spans. */
static void nest(struct mr_steer_end *end, const struct item *item, size_t cnt, const struct mr_steer_bits *absent)
{
	uint32_t open[129]; /* prefixes around the current one, outermost first; lengths grow, so at most 129 */
	unsigned depth = 0;
	add_span(end, 0, absent);
	for (size_t i = 0; i < cnt;) {
		struct mr_steer_prefix *p = &end->prefix[end->prefix_cnt];
		*p = (struct mr_steer_prefix){ .addr = item[i].addr, .bits = item[i].bits, .set = *absent };
		while (depth) {
			const struct mr_steer_prefix *around = &end->prefix[open[depth - 1]];
			if ((p->addr & net_mask(around->bits)) == around->addr) {
				or_bits(&p->set, &around->set);
				break;
			}
			close_prefix(end, open, depth--, absent);
		}
		for (; i < cnt && item[i].addr == p->addr && item[i].bits == p->bits; i++)
			set_bit(&p->set, item[i].entry);
		add_span(end, p->addr, &p->set);
		open[depth++] = end->prefix_cnt++;
	}
	for (; depth; depth--)
		close_prefix(end, open, depth, absent);
}

static int compile_end(struct mr_steer_end *end, const struct mr_steer_entry *entry, unsigned cnt, unsigned side,
	unsigned family, const struct mr_steer_bits *absent, struct mr_error *e)
{
	struct item *item = NULL;
	size_t item_cnt = 0, different = 0;
	int err = collect_items(entry, cnt, side, family, &item, &item_cnt, e);
	if (err || !item_cnt)
		goto out;
	for (size_t i = 0; i < item_cnt; i++)
		different += !i || item[i].addr != item[i - 1].addr || item[i].bits != item[i - 1].bits;
	if (different > MR_STEER_PREFIXES) {
		err = mr_error_set(e, -E2BIG,
			"%zu different IPv%u %s in the match entries of one interface, more than %u", different, family,
			field_names[MR_STEER_SRC + side], MR_STEER_PREFIXES);
		goto out;
	}
	end->prefix = calloc(different, sizeof(*end->prefix));
	end->span = calloc(2 * different + 1, sizeof(*end->span));
	if (!end->prefix || !end->span)
		err = mr_error_set(e, -ENOMEM, "no memory for %zu prefixes", different);
	else
		nest(end, item, item_cnt, absent);
out:
	free(item);
	return err;
}

static int compile_prefixes(
	struct mr_steer_table *t, const struct mr_steer_entry *entry, unsigned cnt, struct mr_error *e)
{
	struct mr_steer_head *h = &t->image->head;
	for (unsigned side = 0; side < 2; side++) {
		struct mr_steer_bits *absent = &h->absent[MR_STEER_SRC + side];
		for (unsigned i = 0; i < cnt; i++) {
			if (has_prefixes(entry[i].match, side))
				h->fields |= 1u << (MR_STEER_SRC + side);
			else
				set_bit(absent, i);
		}
		for (unsigned v6 = 0; v6 < 2; v6++) {
			int err = compile_end(&t->end[v6][side], entry, cnt, side, v6 ? 6 : 4, absent, e);
			if (err)
				return err;
		}
	}
	return 0;
}

/* ---- the table -------------------------------------------------------------------------------------------------- */

static void compile_head(struct mr_steer_head *h, const struct mr_steer_entry *entry, unsigned cnt)
{
	h->entry_cnt = cnt;
	for (unsigned i = 0; i < cnt; i++) {
		set_bit(&h->all, i);
		h->entry[i] = entry[i].pipeline | (entry[i].except ? MR_STEER_EXCEPT : 0);
		for (unsigned p = 0; p < entry[i].pipeline; p++)
			set_bit(&h->after[p], i);
		const struct mr_config_match *m = entry[i].match;
		bool transport = condition_cnt(m, MR_STEER_SPORT) || condition_cnt(m, MR_STEER_DPORT) ||
			condition_cnt(m, MR_STEER_ICMP);
		if (!entry[i].except || !transport)
			set_bit(&h->open_transport, i);
		if (!entry[i].except || !(transport || condition_cnt(m, MR_STEER_PROTO)))
			set_bit(&h->open_proto, i);
	}
}

int mr_steer_compile(const struct mr_steer_entry *entry, unsigned cnt, struct mr_steer_table **out, struct mr_error *e)
{
	if (cnt > MR_STEER_ENTRIES)
		return mr_error_set(
			e, -E2BIG, "%u match and except entries on one interface, more than %u", cnt, MR_STEER_ENTRIES);
	for (unsigned i = 0; i < cnt; i++)
		if (entry[i].pipeline >= MR_MAX_PIPELINES || (i && entry[i].pipeline < entry[i - 1].pipeline))
			return mr_error_set(e, -EINVAL, "match entry %u is out of the order of pipelines", i);
	int err = -ENOMEM;
	struct mr_steer_table *t = calloc(1, sizeof(*t));
	if (!t)
		goto fail;
	t->image = calloc(1, sizeof(*t->image));
	if (!t->image)
		goto fail;
	compile_head(&t->image->head, entry, cnt);
	for (int f = 0; f <= MR_STEER_PROTO; f++) {
		err = compile_field(t->image, entry, cnt, f, e);
		if (err)
			goto fail_told;
	}
	err = compile_prefixes(t, entry, cnt, e);
	if (err)
		goto fail_told;
	*out = t;
	return 0;
fail:
	mr_error_set(e, err, "no memory for the match entries");
fail_told:
	mr_steer_table_free(t);
	return err;
}

void mr_steer_table_free(struct mr_steer_table *t)
{
	if (!t)
		return;
	for (unsigned i = 0; i < 4; i++) {
		free(t->end[i / 2][i % 2].prefix);
		free(t->end[i / 2][i % 2].span);
	}
	free(t->image);
	free(t);
}

void mr_steer_table_number(struct mr_steer_table *t, uint16_t generation)
{
	t->image->head.generation = generation;
}
