/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define FLOW_FILTERS                                                                             \
	{ "addr", "PREFIX", "flows with an address in this prefix, at either end" },             \
		{ "port", "N", "flows with this port, at either end" },                          \
		{ "proto", "NAME", "tcp, udp, icmp, icmp6, gre, esp, sctp or a number" },        \
		{ "state", "STATE", "new, established, closing or closed" },                     \
		{ "pipeline", "NAME", "flows that began in this pipeline" },                     \
		{ "interface", "NAME", "flows that began on this interface" },                   \
		{ "zone", "NAME", "flows of this zone" },                                        \
		{ "offloaded", NULL, "flows of which the kernel tier carries out a direction" }, \
	{                                                                                        \
		"vlan", "N", "flows of this outer VLAN id, where interfaces have vlan_zones"     \
	}

static const struct mr_cli_option show_options[] = {
	FLOW_FILTERS,
	{ "limit", "N", "show no more flows, routes (100), subscribers or mappings (20) than this, at most 10000" },
	{ "all", NULL, "drops: also reasons that never happened" },
	{ "addresses", NULL, "nat: the outside addresses and the use of their ports" },
	{ "subscribers", NULL, "nat: inside addresses, those with the most sessions first" },
	{ "mappings", NULL, "nat: which inside address and port has which outside one" },
	{ "inside", "ADDR[:PORT]", "nat: subscribers or mappings of this inside address" },
	{ "outside", "ADDR[:PORT]", "nat: mappings of this outside address" },
	{ NULL, NULL, NULL },
};

static const struct mr_cli_option flows_options[] = {
	FLOW_FILTERS,
	{ "all", NULL, "every flow (when no filter is given)" },
	{ NULL, NULL, NULL },
};

static const struct mr_cli_option nat_options[] = {
	{ "proto", "NAME", "tcp, udp, icmp, gre, esp, sctp or a number (default: any)" },
	{ "at", "TIME", "when (default: ever, as far as the log goes)" },
	{ "log", "FILE", "instead of the running instance's; may be given several times; - is stdin", true },
	{ NULL, NULL, NULL },
};

static const struct mr_cli_option top_options[] = {
	{ "interval", "TIME", "time between two lines of the table (default 1s)" },
	{ "count", "N", "end after N refreshes" },
	{ NULL, NULL, NULL },
};

static const struct mr_cli_option check_options[] = {
	{ "diff", NULL, "what a reload of FILE would change in the running instance" },
	{ NULL, NULL, NULL },
};

static const struct mr_cli_option cleanup_options[] = {
	{ "device", "DEVICE", "only what is left on this device" },
	{ NULL, NULL, NULL },
};

static const struct mr_cli_option explain_options[] = {
	{ "in", "INTERFACE", "where the packet comes in" },
	{ "frame", "HEX", "a whole Ethernet frame instead of the written packet" },
	{ NULL, NULL, NULL },
};

static const struct mr_cli_option help_options[] = {
	{ "markdown", NULL, "help config: the whole reference as markdown" },
	{ "schema", NULL, "help config: a JSON schema for editors" },
	{ NULL, NULL, NULL },
};

const struct mr_cli_verb mr_cli_verbs[] = {
	{ "run", "FILE", "forward packets as FILE says, in the foreground",
		"Writes the line `ready` to stderr (and tells systemd) when traffic flows.  SIGINT and SIGTERM end it "
		"cleanly with exit\n"
		"code 0, SIGHUP reads FILE again.",
		NULL, 1, 1, mr_verb_run },
	{ "check", "FILE [--diff]", "validate FILE and show what would be done, touching nothing", NULL, check_options,
		1, 1, mr_verb_check },
	{ "show",
		"[interfaces | pipelines | stages | flows | drops | routes [PREFIX] | neighbours | nat [STAGE] | "
		"frames | workers | config]",
		"what a running instance does and counts",
		"Without a word: a summary.  Counters never go back while the instance runs.", show_options, 0, 2,
		mr_verb_show },
	{ "top", "", "a refreshing table of rates: received, forwarded, to the kernel, dropped and why",
		"Plain lines when stdout is no terminal; with --json one object a line.", top_options, 0, 0,
		mr_verb_top },
	{ "reload", "[FILE]", "swap to FILE (or read the same file again); a bad file changes nothing",
		"Returns when the new configuration is in force, with its generation.", NULL, 0, 1, mr_verb_reload },
	{ "explain", "--in INTERFACE PACKET", "what would happen to a packet and why, on the real tables",
		"PACKET: PROTO SOURCE > DESTINATION [OPTION VALUE]...  Quote the '>' or write 'to'.\n"
		"  PROTO    tcp udp sctp icmp icmp6 gre esp, or a number\n"
		"  SOURCE   10.0.0.1:1234, [2001:db8::1]:80, 10.0.0.1 (protocols without ports)\n"
		"  OPTION   length BYTES, flags syn,ack (default syn), dscp N, ttl N, vlan N, fragment first|later,\n"
		"           type N, code N, id N (icmp)\n"
		"or: ethertype N [vlan N] [length BYTES]\n"
		"\n"
		"  millrace explain --in wan tcp 192.0.2.1:1234 to 10.0.0.2:80 flags ack",
		explain_options, 0, MR_CLI_ARGS, mr_verb_explain },
	{ "flows", "delete [FILTER]...", "end flows: the next packet of each is decided anew",
		"Needs at least one filter, or --all.  To see flows: millrace show flows", flows_options, 1, 1,
		mr_verb_flows },
	{ "nat", "who ADDRESS[:PORT] [--at TIME]", "who had an outside address and port, from the log of nat44",
		"TIME: 14:03 or 14:03:07 (today), '2026-01-02 14:03', 2026-01-02T14:03:07Z, -10m.  Without a zone it\n"
		"is local time (TZ); 14:03 is any moment of that minute, 14:03:07 any of that second, a day alone any\n"
		"of that day.  Answers are in UTC.\n"
		"Files that logrotate made of FILE (FILE.1, FILE.2.gz ...) are read too.\n"
		"Exit code 0: somebody had it, or nobody had; 1: the log does not say.\n"
		"\n"
		"  millrace nat who 203.0.113.64:40123 --proto tcp --at 14:03\n"
		"  journalctl -t millrace -o cat | millrace nat who 203.0.113.64:40123 --log -",
		nat_options, 1, 2, mr_verb_nat },
	{ "cleanup", "[--device DEVICE]", "remove what an instance left that does not run any more",
		"With on_exit: drop the program of an interface stays when Millrace ends, and drops what its pipelines "
		"match\n"
		"until the next start or this.  Each thing removed is named; what is not ours is named and left "
		"alone.\n"
		"Refused while the instance runs.",
		cleanup_options, 0, 0, mr_verb_cleanup },
	{ "version", "", "say the version of this program, or with --name of that instance", NULL, NULL, 0, 0,
		mr_verb_version },
	{ "help", "[VERB | drops | offload | config [TOPIC]]",
		"explain a verb, why packets are dropped, why flows are not offloaded, or a part of the configuration",
		"  millrace help config                       everything that can be configured\n"
		"  millrace help config interfaces.mode       one key",
		help_options, 0, 2, mr_verb_help },
	{ NULL, NULL, NULL, NULL, NULL, 0, 0, NULL },
};

/*
 * A standard descriptor that is closed would be given to the next file opened (a socket, a TAP), and what is printed would go there.
 * What is put there instead refuses: nothing can be read from stdin, nothing written to stdout and stderr.
 */
static void hold_standard_files(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		/* the lowest that is free is the one given */
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
			return;
	}
}

/* An answer that nobody got (disk full, stdout closed) is no success. */
static int written(int code)
{
	struct mr_error e = { "" };
	bool before = ferror(stdout);
	int err = fflush(stdout) ? errno : 0;
	if (code || (!before && !err))
		return code;
	mr_error_set(&e, -EIO, "stdout cannot be written%s%s", err ? ": " : "", err ? strerror(err) : "");
	return mr_ask_fail(MR_EXIT_FAILURE, &e);
}

int main(int argc, char **argv)
{
	struct mr_cli c;
	struct mr_error e = { "" };
	hold_standard_files();
	if (argc < 2) {
		static const struct mr_cli help = { 0 };
		c = help;
		mr_verb_help(&c);
		return MR_EXIT_MISUSE;
	}
	if (mr_args_parse(argc - 1, argv + 1, mr_cli_verbs, &c, &e))
		return mr_ask_fail(MR_EXIT_MISUSE, &e);
	return written(c.verb->run(&c));
}
