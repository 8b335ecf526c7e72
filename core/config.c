/* SPDX-License-Identifier: BSD-2-Clause */
/* config.c - the tables of the whole file, and the way from text to struct mr_config. */
#include "core/config.h"

#include "core/config_read.h"
#include "core/node.h"
#include "core/option.h"
#include "core/value.h"
#include "kern/abi.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STAGES_MAX  256u
#define SECOND      UINT64_C(1000000000)
#define MILLISECOND UINT64_C(1000000)
#define TIMEOUT_MAX (30 * 24 * 3600 * SECOND) /* due times are 32 bits of milliseconds: 49 days */

static const char *const idle_words[] = { "adaptive", "spin", "poll", NULL };
static const char *const huge_words[] = { "auto", "always", "never", NULL };
static const char *const offload_words[] = { "never", "established", "always", NULL };
static const char *const mode_words[] = { "auto", "zerocopy", "copy", "generic", NULL };
static const char *const keep_words[] = { "keep", NULL };
static const char *const exit_words[] = { "auto", "pass", "drop", NULL };
static const char *const attach_words[] = { "link", "shared", NULL };
static const char *const set_words[] = { "prefix", "port", NULL };
static const char *const match_words[] = { "all", "auto", NULL };
static const char *const state_words[] = { "sessions", "none", NULL };

static const struct mr_option workers_table[] = {
	MR_OPT("cores", MR_TYPE_CORES, struct mr_config_workers, cores,
		.help = "CPU cores, one pinned worker each, in this order; not given: `count` workers, not pinned"),
	MR_OPT("count", MR_TYPE_UINT, struct mr_config_workers, count, .min = 1, .max = 64, .fallback = "1",
		.help = "how many workers when no cores are given"),
	MR_OPT("idle", MR_TYPE_ENUM, struct mr_config_workers, idle, .values = idle_words, .fallback = "adaptive",
		.help = "with nothing to do: spin a while and then sleep (adaptive), never sleep (spin), sleep at once "
			"(poll)"),
	MR_OPT("spin", MR_TYPE_DURATION, struct mr_config_workers, spin_ns, .max = SECOND, .fallback = "50us",
		.help = "how long adaptive spins before it sleeps"),
	MR_OPT_END
};

static const struct mr_option memory_table[] = {
	MR_OPT("frames", MR_TYPE_UINT, struct mr_config_memory, frames_cnt, .max = UINT64_C(1) << 26, .fallback = "0",
		.unit = "frames", .help = "size of the packet memory; 0: what the queues' rings need, and half again"),
	MR_OPT("frame_size", MR_TYPE_BYTES, struct mr_config_memory, frame_bytes, .min = 2048, .max = 4096,
		.power_of_two = true, .fallback = "2048", .unit = "bytes",
		.help = "one frame, 2048 or 4096; a packet must fit into one"),
	MR_OPT("huge_pages", MR_TYPE_ENUM, struct mr_config_memory, huge, .values = huge_words, .fallback = "auto",
		.help = "packet memory in huge pages: when there are any (auto), or fail without (always), or not "
			"(never)"),
	MR_OPT_END
};

#define TIMEOUT(key_, field_, fallback_, help_)                                                                        \
	MR_OPT(key_, MR_TYPE_DURATION, struct mr_config_timeouts, field_, .min = 10 * MILLISECOND, .max = TIMEOUT_MAX, \
		.fallback = fallback_, .help = help_)

static const struct mr_option timeouts_table[] = { TIMEOUT("udp", udp_ns, "300s",
							   "UDP, both directions seen (RFC 4787 REQ-5)"),
	TIMEOUT("udp_unreplied", udp_unreplied_ns, "30s", "UDP, only one direction seen"),
	TIMEOUT("tcp_established", tcp_established_ns, "7440s", "TCP after the handshake (RFC 5382 REQ-5)"),
	TIMEOUT("tcp_transitory", tcp_transitory_ns, "240s", "TCP opening or closing (RFC 5382 REQ-5)"),
	TIMEOUT("tcp_closed", tcp_closed_ns, "10s", "TCP after a reset, or both FINs acknowledged"),
	TIMEOUT("icmp", icmp_ns, "60s", "ICMP queries (RFC 5508 REQ-1)"),
	TIMEOUT("other", other_ns, "600s", "GRE, ESP, SCTP and every other protocol"), MR_OPT_END };

static const struct mr_option flows_table[] = {
	MR_OPT("capacity", MR_TYPE_UINT, struct mr_config_flows, capacity, .min = 16, .max = 64000000,
		.fallback = "64k", .unit = "sessions",
		.help = "how many sessions the flow table holds; fixed while running"),
	MR_OPT("offload", MR_TYPE_ENUM, struct mr_config_flows, offload, .values = offload_words,
		.fallback = "established", .seen_offset = offsetof(struct mr_config_flows, has_offload),
		.help = "which flows the kernel forwards by itself: none (never), those with both directions seen "
			"(established), or each as soon as it is decided (always; TCP: after the handshake); not "
			"given: "
			"established, but never on zero-copy interfaces"),
	MR_OPT("offload_after", MR_TYPE_UINT, struct mr_config_flows, offload_after, .min = 1, .max = 1 << 20,
		.fallback = "3", .unit = "packets",
		.help = "with established: how many packets of a direction come to user space before the kernel takes "
			"over"),
	MR_OPT("half_open", MR_TYPE_UINT, struct mr_config_flows, half_open_max, .max = 64000000, .fallback = "0",
		.unit = "sessions",
		.help = "how many sessions may be half open (a SYN, an unreplied UDP packet); 0: half of capacity"),
	MR_OPT("timeouts", MR_TYPE_OBJECT, struct mr_config_flows, timeouts, .table = timeouts_table,
		.element_bytes = sizeof(struct mr_config_timeouts),
		.help = "how long a session without packets is kept"),
	MR_OPT_END
};

static const struct mr_option memory_loop_table[] = { MR_OPT("file", MR_TYPE_STRING, struct mr_config_memory_loop, file,
							      .required = true,
							      .help = "capture whose frames are sent"),
	MR_OPT("repeat", MR_TYPE_UINT, struct mr_config_memory_loop, repeat, .max = UINT32_MAX, .fallback = "1",
		.help = "how often; 0: until stopped"),
	MR_OPT_END };

#define INTERFACE(key_, type_, field_, ...) MR_OPT(key_, type_, struct mr_config_interface, field_, __VA_ARGS__)

static const struct mr_option interface_table[] = { INTERFACE("device", MR_TYPE_STRING, device, .max = 15,
							    .at_offset =
								    offsetof(struct mr_config_interface, device_at),
							    .help = "the network device; instead of it pcap or memory"),
	INTERFACE("pcap", MR_TYPE_STRING, pcap_in, .help = "capture file that is read instead of a device"),
	INTERFACE("out", MR_TYPE_STRING, pcap_out,
		.help = "with pcap: file that gets what is sent; not given: counted only"),
	INTERFACE("memory", MR_TYPE_OBJECT, memory, .seen_offset = offsetof(struct mr_config_interface, has_memory),
		.table = memory_loop_table, .element_bytes = sizeof(struct mr_config_memory_loop),
		.help = "frames kept in memory instead of a device, for measuring"),
	INTERFACE("mode", MR_TYPE_ENUM, mode, .values = mode_words, .fallback = "auto",
		.help = "how packets cross: the best the driver can do (auto), or this one or fail"),
	INTERFACE("queues", MR_TYPE_QUEUES, queues, .fallback = "all",
		.help = "receive queues taken: all, the first N, or a list of ids"),
	INTERFACE("channels", MR_TYPE_UINT, channels, .min = 1, .max = MR_MAX_QUEUES, .values = keep_words,
		.fallback = "keep", .seen_offset = offsetof(struct mr_config_interface, has_channels),
		.help = "sets of queues the device is given while Millrace runs, restored at the end; keep: those it "
			"has"),
	INTERFACE("zone", MR_TYPE_NAME, zone, .fallback = "default",
		.help = "interfaces of one zone share their flows, so replies may come back another way"),
	INTERFACE("vlan_zones", MR_TYPE_BOOL, vlan_zones, .fallback = "false",
		.help = "packets of different outer VLAN ids are different flows, even with the same addresses; the "
			"same for "
			"all interfaces of a zone"),
	INTERFACE("on_exit", MR_TYPE_ENUM, on_exit, .values = exit_words, .fallback = "auto",
		.help = "what happens to matched packets when Millrace is gone: the kernel gets them (pass), or its "
			"program "
			"stays and drops them until the next start or `millrace cleanup` (drop); auto: drop behind a "
			"stage that "
			"guards, as filter, else pass (docs/attach.md)"),
	INTERFACE("unserved", MR_TYPE_ENUM, unserved, .values = exit_words, .fallback = "auto",
		.seen_offset = offsetof(struct mr_config_interface, has_unserved),
		.help = "what happens to matched packets of a queue that has no socket; auto: as with on_exit"),
	INTERFACE("attach", MR_TYPE_ENUM, attach, .values = attach_words, .fallback = "link",
		.help = "alone on the device by a BPF link, which ends with the process, or shared with other XDP "
			"programs by the libxdp dispatcher (docs/attach.md)"),
	INTERFACE("promiscuous", MR_TYPE_BOOL, promiscuous,
		.seen_offset = offsetof(struct mr_config_interface, has_promiscuous),
		.help = "receive frames for other MAC addresses too; not given: true where a pipeline from it goes to "
			"an "
			"interface (a bump in the wire)"),
	INTERFACE("rx_ring", MR_TYPE_UINT, rx_ring, .min = 8, .max = 32768, .power_of_two = true, .fallback = "2048",
		.unit = "descriptors", .help = "receive ring of each queue"),
	INTERFACE("tx_ring", MR_TYPE_UINT, tx_ring, .min = 8, .max = 32768, .power_of_two = true, .fallback = "2048",
		.unit = "descriptors", .help = "transmit ring of each queue"),
	MR_OPT_END };

static const struct mr_option set_table[] = { MR_OPT("type", MR_TYPE_ENUM, struct mr_config_set_raw, type,
						      .values = set_words, .required = true,
						      .help = "what it is a set of"),
	MR_OPT("file", MR_TYPE_STRING, struct mr_config_set_raw, file,
		.at_offset = offsetof(struct mr_config_set_raw, file_at),
		.help = "file of one entry a line, # begins a comment; relative to the folder of this file"),
	MR_OPT("entries", MR_TYPE_STRING_LIST, struct mr_config_set_raw, entries, .may_be_empty = true,
		.seen_offset = offsetof(struct mr_config_set_raw, has_entries),
		.help = "entries given here; together with those of the file"),
	MR_OPT_END };

#define MATCH(key_, type_, field_, ...) MR_OPT(key_, type_, struct mr_config_match, field_, __VA_ARGS__)

static const struct mr_option match_table[] = { MATCH("src", MR_TYPE_PREFIX_LIST, src, .help = "source addresses"),
	MATCH("dst", MR_TYPE_PREFIX_LIST, dst, .help = "destination addresses"),
	MATCH("proto", MR_TYPE_PROTO_LIST, proto, .help = "IP protocols"),
	MATCH("sport", MR_TYPE_PORT_LIST, sport, .help = "source ports"),
	MATCH("dport", MR_TYPE_PORT_LIST, dport, .help = "destination ports"),
	MATCH("icmp", MR_TYPE_ICMP_LIST, icmp,
		.help = "ICMP and ICMPv6 types; echo-request and echo-reply mean both, names with 6 are ICMPv6's"),
	MATCH("ethertype", MR_TYPE_ETHERTYPE_LIST, ethertype, .help = "Ethernet types, behind VLAN tags"),
	MATCH("vlan", MR_TYPE_UINT_LIST, vlan, .max = 4094, .help = "outer VLAN ids"), MR_OPT_END };

#define PIPELINE(key_, type_, field_, ...) MR_OPT(key_, type_, struct mr_config_pipeline_raw, field_, __VA_ARGS__)
#define MATCH_LIST                                                             \
	.table = match_table, .element_bytes = sizeof(struct mr_config_match), \
	.at_offset = offsetof(struct mr_config_match, at)

static const struct mr_option pipeline_table[] = { PIPELINE("from", MR_TYPE_STRING_LIST, from, .may_be_empty = true,
							   .required = true,
							   .help = "interfaces whose received packets it looks at"),
	PIPELINE("match", MR_TYPE_LIST, match, .required = true, .values = match_words, MATCH_LIST,
		.help = "which packets it takes: all, what its stages need (auto), or those that meet one entry of a "
			"list"),
	PIPELINE("except", MR_TYPE_LIST, except, MATCH_LIST, .help = "packets it leaves alone although they match"),
	PIPELINE("stages", MR_TYPE_STRING_LIST, stages, .may_be_empty = true,
		.help = "names of the stages that decide, in order"),
	PIPELINE("to", MR_TYPE_STRING, to, .required = true,
		.at_offset = offsetof(struct mr_config_pipeline_raw, to_at),
		.help = "where packets go: an interface, back (out where they came in, MACs swapped), kernel, or "
			"route"),
	PIPELINE("state", MR_TYPE_ENUM, state, .values = state_words, .fallback = "sessions",
		.help = "remember flows in the flow table, or run the stages for every packet (none)"),
	PIPELINE("offload", MR_TYPE_ENUM, offload, .values = offload_words,
		.seen_offset = offsetof(struct mr_config_pipeline_raw, has_offload),
		.help = "as flows.offload, for the flows of this pipeline; not given: as there"),
	MR_OPT_END };

#define TOP(key_, type_, field_, ...) MR_OPT(key_, type_, struct mr_config_raw, field_, __VA_ARGS__)

static const struct mr_option top_table[] = { TOP("version", MR_TYPE_UINT, version, .required = true, .min = 1,
						      .max = 1, .help = "of this format; always 1"),
	TOP("workers", MR_TYPE_OBJECT, workers, .table = workers_table,
		.element_bytes = sizeof(struct mr_config_workers), .help = "the threads that forward packets"),
	TOP("memory", MR_TYPE_OBJECT, memory, .table = memory_table, .element_bytes = sizeof(struct mr_config_memory),
		.help = "the packet memory"),
	TOP("flows", MR_TYPE_OBJECT, flows, .table = flows_table, .element_bytes = sizeof(struct mr_config_flows),
		.help = "the flow table"),
	TOP("plugins", MR_TYPE_STRING_LIST, plugins, .may_be_empty = true,
		.help = "shared objects with stages of your own, loaded before the stages are made"),
	TOP("interfaces", MR_TYPE_MAP, interfaces, .required = true, .table = interface_table,
		.max = MR_MAX_INTERFACES - 1, .element_bytes = sizeof(struct mr_config_interface),
		.at_offset = offsetof(struct mr_config_interface, at),
		.help = "where packets come from and go to, by names of your choice"),
	TOP("sets", MR_TYPE_MAP, sets, .table = set_table, .element_bytes = sizeof(struct mr_config_set_raw),
		.max = 4096, .at_offset = offsetof(struct mr_config_set_raw, at),
		.help = "named lists that pipelines and stages use as $name"),
	TOP("stages", MR_TYPE_NODE, stages,
		.help = "what decides about packets, by names of your choice; each has a type and that type's keys"),
	TOP("pipelines", MR_TYPE_MAP, pipelines, .table = pipeline_table, .max = MR_MAX_PIPELINES,
		.element_bytes = sizeof(struct mr_config_pipeline_raw),
		.at_offset = offsetof(struct mr_config_pipeline_raw, at),
		.help = "tried in this order, the first that matches takes the packet; what matches none stays with "
			"the kernel"),
	MR_OPT_END };

const struct mr_option *mr_config_options(void)
{
	return top_table;
}

/* First of all, so that a file of a later version is told so and not that its keys are unknown. */
static int check_version(struct mr_reader *r, const struct mr_node *root)
{
	const struct mr_node *v = mr_node_find(root, "version");
	if (root->kind != MR_NODE_MAPPING)
		return mr_option_check_keys(r, root, top_table);
	if (!v)
		return mr_option_error(r, root->at, "version", "the key 'version' is missing (want version: 1)");
	if (v->kind != MR_NODE_SCALAR)
		return mr_option_error(
			r, v->at, "version", "%s is not a version (want version: 1)", mr_node_kind_name(v));
	if (strcmp(v->text, "1") != 0)
		return mr_option_error(r, v->at, "version",
			"'%s' is not a version this program reads (want version: 1)", mr_node_quote(v->text).text);
	return 0;
}

static int read_stages(struct mr_reader *r, struct mr_config *c, const struct mr_node *n)
{
	static const struct mr_option type = {
		.key = "type", .type = MR_TYPE_NAME, .required = true, .help = "which kind of stage"
	};
	if (!n || mr_node_is_empty(n))
		return 0;
	if (n->kind != MR_NODE_MAPPING)
		return mr_option_error(r, n->at, "stages",
			"%s is not a mapping of names (want { name: { type: ... }, ... })", mr_node_kind_name(n));
	if (n->child_cnt > STAGES_MAX)
		return mr_option_error(
			r, n->at, "stages", "%u entries are too many (want at most %u)", n->child_cnt, STAGES_MAX);
	c->stages = mr_arena_array(r->arena, n->child_cnt, sizeof(*c->stages));
	if (!c->stages)
		return mr_option_no_memory(r);
	size_t mark = mr_option_enter(r, "stages");
	for (const struct mr_node *s = n->child; s; s = s->next) {
		struct mr_config_stage *out = &c->stages[c->stage_cnt++];
		if (!mr_value_name(s->key))
			return mr_option_error(r, s->key_at, NULL,
				"'%s' is not a name (want letters, digits, - and _, at most 32)",
				mr_node_quote(s->key).text);
		size_t inner = mr_option_enter(r, ".%s", s->key);
		if (s->kind != MR_NODE_MAPPING)
			return mr_option_check_keys(r, s, &type);
		*out = (struct mr_config_stage){ .name = s->key, .at = s->key_at, .node = s };
		int err = mr_option_read_key(r, s, &type, &out->type);
		if (err)
			return err;
		out->type_at = mr_node_find(s, "type")->at;
		mr_option_leave(r, inner);
	}
	mr_option_leave(r, mark);
	return 0;
}

/* Sets before whatever may name them. */
static int read_top(struct mr_reader *r, struct mr_config *c, struct mr_config_raw *raw)
{
	int err = check_version(r, c->root);
	if (!err)
		err = mr_option_check_keys(r, c->root, top_table);
	for (const struct mr_option *o = top_table; o->key && !err; o++) {
		err = mr_option_read_key(r, c->root, o, raw);
		if (!err && strcmp(o->key, "sets") == 0)
			err = mr_set_read_all(r, c, raw->sets.items, raw->sets.cnt);
	}
	if (!err)
		err = read_stages(r, c, raw->stages);
	return err;
}

static int take_pipelines(struct mr_reader *r, struct mr_config *c, const struct mr_config_raw *raw)
{
	const struct mr_config_pipeline_raw *in = raw->pipelines.items;
	c->pipelines = mr_arena_array(r->arena, raw->pipelines.cnt, sizeof(*c->pipelines));
	if (!c->pipelines)
		return mr_option_no_memory(r);
	for (uint32_t i = 0; i < raw->pipelines.cnt; i++, in++) {
		struct mr_config_pipeline *p = &c->pipelines[i];
		*p = (struct mr_config_pipeline){ .name = in->name,
			.at = in->at,
			.from = in->from,
			.stages = in->stages,
			.match_kind = in->match.word == 1 ? MR_MATCH_ALL
				: in->match.word == 2     ? MR_MATCH_AUTO
							  : MR_MATCH_LIST,
			.match = in->match.items,
			.match_cnt = in->match.cnt,
			.except = in->except.items,
			.except_cnt = in->except.cnt,
			.to_at = in->to_at,
			.state = in->state,
			.offload = in->has_offload ? in->offload : c->flows.offload,
			.has_offload = in->has_offload,
			.to_kind = MR_TO_INTERFACE };
		if (strcmp(in->to, "back") == 0)
			p->to_kind = MR_TO_BACK;
		else if (strcmp(in->to, "kernel") == 0)
			p->to_kind = MR_TO_KERNEL;
		else if (strcmp(in->to, "route") == 0)
			p->to_kind = MR_TO_ROUTE;
		else
			p->to = in->to;
		c->pipeline_cnt++;
	}
	return 0;
}

static bool resolve(const struct mr_config *c, const char **file)
{
	if (*file)
		*file = mr_config_resolve_path(c, *file);
	return *file;
}

/* From here on no one needs to know the folder. */
static int resolve_paths(struct mr_reader *r, struct mr_config *c)
{
	bool ok = true;
	for (uint32_t i = 0; i < c->interface_cnt; i++) {
		struct mr_config_interface *n = &c->interfaces[i];
		ok &= !n->pcap_in || resolve(c, &n->pcap_in);
		ok &= !n->pcap_out || resolve(c, &n->pcap_out);
		ok &= !n->memory.file || resolve(c, &n->memory.file);
	}
	for (uint32_t i = 0; i < c->plugins.cnt; i++)
		ok &= resolve(c, &c->plugins.items[i]);
	return ok ? 0 : mr_option_no_memory(r);
}

static int read_tree(struct mr_reader *r, struct mr_config *c)
{
	struct mr_config_raw raw = { 0 };
	int err = read_top(r, c, &raw);
	if (err)
		return err;
	c->workers = raw.workers;
	c->memory = raw.memory;
	c->flows = raw.flows;
	c->plugins = raw.plugins;
	c->interfaces = raw.interfaces.items;
	c->interface_cnt = raw.interfaces.cnt;
	err = take_pipelines(r, c, &raw);
	if (!err)
		err = mr_config_check(c, r->e);
	if (!err)
		err = resolve_paths(r, c);
	return err;
}

int mr_config_read_text(const char *text, size_t bytes, const char *name, const char *folder, struct mr_config **out,
	struct mr_error *e)
{
	struct mr_arena *a = mr_arena_create();
	struct mr_config *c = a ? mr_arena_alloc(a, sizeof(*c)) : NULL;
	struct mr_node *root;
	int err = mr_error_set(e, -ENOMEM, "%s: no memory to read it", name);

	if (!c)
		goto fail;
	c->arena = a;
	c->path = mr_arena_text(a, name, strlen(name));
	c->folder = mr_arena_text(a, folder ? folder : ".", strlen(folder ? folder : "."));
	if (!c->path || !c->folder)
		goto fail;
	err = mr_node_read(text, bytes, c->path, a, &root, e);
	if (err)
		goto fail;
	c->root = root;
	struct mr_reader r = { .arena = a, .path = c->path, .e = e, .find_set = mr_config_find_set, .ctx = c };
	err = read_tree(&r, c);
	if (err)
		goto fail;
	if (e)
		e->text[0] = 0;
	*out = c;
	return 0;
fail:
	mr_arena_destroy(a);
	return err;
}

int mr_config_read_file(const char *path, size_t max, char **text, size_t *bytes)
{
	struct stat st;
	int err = 0, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char *buf = NULL;
	size_t n = 0;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		err = -errno;
	else if (!S_ISREG(st.st_mode))
		err = S_ISDIR(st.st_mode) ? -EISDIR : -ENOTSUP;
	else if ((uint64_t)st.st_size > max)
		err = -EFBIG;
	else if (!(buf = malloc((size_t)st.st_size + 1)))
		err = -ENOMEM;
	while (!err && n < (size_t)st.st_size) {
		ssize_t got = read(fd, buf + n, (size_t)st.st_size - n);
		if (got == 0)
			break;
		if (got < 0 && errno != EINTR)
			err = -errno;
		n += got > 0 ? (size_t)got : 0;
	}
	close(fd);
	if (err) {
		free(buf);
		return err;
	}
	*text = buf;
	*bytes = n;
	return 0;
}

int mr_config_read(const char *path, struct mr_config **out, struct mr_error *e)
{
	char *text = NULL;
	size_t bytes = 0;
	int err = mr_config_read_file(path, MR_NODE_FILE_BYTES_MAX, &text, &bytes);
	if (err == -EFBIG)
		return mr_error_set(e, -EINVAL, "%s: larger than 16 MiB (keep large sets in files of their own)", path);
	if (err == -ENOTSUP)
		return mr_error_set(e, -EINVAL, "%s: not a regular file", path);
	if (err) {
		errno = -err;
		return mr_error_set(e, err == -EISDIR ? -EINVAL : err, "%s: cannot be read: %m", path);
	}
	const char *slash = strrchr(path, '/');
	char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	err = folder ? mr_config_read_text(text, bytes, path, folder, out, e)
		     : mr_error_set(e, -ENOMEM, "%s: no memory to read it", path);
	free(folder);
	free(text);
	return err;
}

void mr_config_free(struct mr_config *c)
{
	if (c)
		mr_arena_destroy(c->arena);
}
