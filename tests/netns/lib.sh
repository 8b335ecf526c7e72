# SPDX-License-Identifier: BSD-2-Clause
# lib.sh - namespaces, veth pairs, the program under test and counted results, for shell tests.
#
#     . "$(dirname "$0")/lib.sh"
#     bed_begin forward                 # namespaces are called mr-forward-PID-NAME
#     bed_ns a; bed_ns r; bed_ns b
#     bed_veth a a0 r r0; bed_veth r r1 b b0
#     bed_host a a0 10.0.0.1/24; bed_host b b0 10.0.0.2/24
#     millrace_start r "$config"        # returns when it said `ready`
#     ok "ping crosses" in_ns a ping -c 3 -W 1 10.0.0.2
#     bed_end                           # prints the plan; exit status says whether all went well
#
# Results are TAP (ok N - name, not ok N - name), which scripts/test counts.  A test that cannot run calls
# skip_all REASON and exits 77.  All that was made is removed on exit, also after Ctrl-C.  bed.py is the same
# for Python.

set -u
bed_root=$(cd "$(dirname "$0")/../.." && pwd)
: "${MR_BUILD:=$bed_root/build}"
: "${MILLRACE:=$MR_BUILD/cli/millrace}"
: "${LIVEGEN:=$MR_BUILD/bench/livegen}"
bed_cnt=0 bed_failed_cnt=0 bed_spaces="" bed_pids="" bed_dir="" bed_prefix=""

# skip_all REASON: nothing in this file can run here.
skip_all() {
	echo "1..0 # SKIP $1"
	exit 77
}

bed_begin() {
	[ "$(id -u)" = 0 ] || skip_all "network namespaces need root"
	bed_prefix=mr-$1-$$
	bed_dir=$(mktemp -d "/tmp/$bed_prefix-XXXXXX") || exit 1
	trap bed_clean EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
}

bed_clean() {
	bed_status=$?
	trap '' INT TERM HUP
	for bed_pid in $bed_pids; do
		stop_pid "$bed_pid"
	done
	# What a sanitizer found in a program this test ran fails the test, whatever its cases said.
	if [ -n "$bed_dir" ] && grep -lE 'ERROR: (Address|Leak)Sanitizer|WARNING: ThreadSanitizer|runtime error:' "$bed_dir"/*.log >"$bed_dir/reports" 2>/dev/null; then
		for bed_log in $(cat "$bed_dir/reports"); do
			echo "not ok - sanitizer report in ${bed_log##*/}"
			tail -60 "$bed_log" | sed 's/^/# /'
		done
		bed_status=1
	fi
	for bed_space in $bed_spaces; do
		ip netns del "$bed_space" 2>/dev/null
	done
	[ -n "$bed_dir" ] && rm -rf "$bed_dir"
	exit "$bed_status"
}

# bed_end: the plan line, then exit 0 only if there were cases and none failed.
bed_end() {
	echo "1..$bed_cnt"
	[ "$bed_cnt" -gt 0 ] && [ "$bed_failed_cnt" -eq 0 ]
	exit $?
}

# ---- namespaces and devices

bed_ns() {
	ip netns add "$bed_prefix-$1" || exit 1
	bed_spaces="$bed_spaces $bed_prefix-$1"
	in_ns "$1" ip link set lo up
	# Addresses are usable at once and nothing is sent that a test did not send.
	in_ns "$1" sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
		echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad
		echo 0 >/proc/sys/net/ipv6/conf/default/router_solicitations'
}

# in_ns NAME COMMAND...: not `ip netns exec`, which remounts /sys and so hides bpffs.
in_ns() {
	bed_in=$1
	shift
	nsenter --net="/run/netns/$bed_prefix-$bed_in" "$@"
}

# bed_veth NS1 DEV1 NS2 DEV2 [QUEUES]
bed_veth() {
	bed_q="numrxqueues ${5:-1} numtxqueues ${5:-1}"
	# shellcheck disable=SC2086
	ip link add "$2" netns "$bed_prefix-$1" $bed_q type veth peer name "$4" netns "$bed_prefix-$3" $bed_q || exit 1
	in_ns "$1" ip link set "$2" up
	in_ns "$3" ip link set "$4" up
}

# bed_host NS DEV ADDRESS...: a host's end.  Its frames look as on a wire: finished checksums, none over the MTU.
bed_host() {
	bed_space=$1 bed_dev=$2
	shift 2
	in_ns "$bed_space" ethtool -K "$bed_dev" tx off tso off gso off gro off >/dev/null
	in_ns "$bed_space" ethtool -K "$bed_dev" txvlan off >/dev/null 2>&1
	for bed_addr in "$@"; do
		in_ns "$bed_space" ip addr add "$bed_addr" dev "$bed_dev" || exit 1
	done
}

# bed_accept_redirects NS DEV: without an XDP program a veth takes redirected frames only with GRO switched on while up.
bed_accept_redirects() {
	in_ns "$1" ethtool -K "$2" gro off >/dev/null
	in_ns "$1" ethtool -K "$2" gro on >/dev/null
}

bed_mac() {
	in_ns "$1" ip -o link show "$2" | sed -n 's/.*link\/ether \([0-9a-f:]*\).*/\1/p'
}

# bed_counter NS DEV rx|tx packets|bytes|dropped: the kernel's own count.
bed_counter() {
	in_ns "$1" ip -j -s link show "$2" | jq ".[0].stats64.$3.$4"
}

# ---- processes

# stop_pid PID: TERM, then KILL after five seconds.  Only for processes this shell started.
stop_pid() {
	kill "$1" 2>/dev/null || return 0
	bed_i=0
	while kill -0 "$1" 2>/dev/null && [ $bed_i -lt 50 ]; do
		sleep 0.1
		bed_i=$((bed_i + 1))
	done
	kill -9 "$1" 2>/dev/null
	wait "$1" 2>/dev/null
	return 0
}

# spawn NS LOG COMMAND...: in the background, ended with the test; output in $bed_dir/LOG (a name ending in .log), the pid
# in $spawned.
spawn() {
	bed_in=$1 bed_log=$bed_dir/$2
	shift 2
	nsenter --net="/run/netns/$bed_prefix-$bed_in" "$@" >"$bed_log" 2>&1 </dev/null &
	spawned=$!
	bed_pids="$spawned $bed_pids"
}

# wait_line LOG PATTERN [SECONDS]
wait_line() {
	bed_i=0
	while ! grep -q -- "$2" "$bed_dir/$1" 2>/dev/null; do
		[ $bed_i -ge $((${3:-15} * 20)) ] && return 1
		sleep 0.05
		bed_i=$((bed_i + 1))
	done
}

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
	bed_i=$(($1 * 10))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $bed_i -le 0 ] && return 1
		sleep 0.1
		bed_i=$((bed_i - 1))
	done
}

# millrace_start NS CONFIG [INSTANCE]: CONFIG is a file, or the text itself.  Output in millrace-NS.log, pid in $spawned.
millrace_start() {
	bed_config=$2
	if [ ! -f "$bed_config" ]; then
		bed_config=$bed_dir/$1.yaml
		printf '%s\n' "$2" >"$bed_config"
	fi
	[ -x "$MILLRACE" ] || skip_all "no millrace program at $MILLRACE"
	spawn "$1" "millrace-$1.log" "$MILLRACE" --name "${3:-$bed_prefix-$1}" run "$bed_config"
	wait_line "millrace-$1.log" '^ready$' 20 && return 0
	echo "# millrace did not become ready:"
	sed 's/^/# /' "$bed_dir/millrace-$1.log"
	return 1
}

# millrace_ask NS WORDS...: a command to the instance in that namespace.
millrace_ask() {
	bed_in=$1
	shift
	in_ns "$bed_in" "$MILLRACE" --name "$bed_prefix-$bed_in" "$@"
}

# ---- results

# result STATUS NAME: one counted case.
result() {
	bed_cnt=$((bed_cnt + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $bed_cnt - $2"
	else
		bed_failed_cnt=$((bed_failed_cnt + 1))
		echo "not ok $bed_cnt - $2"
	fi
}

# ok NAME COMMAND...: the case holds if the command succeeds; its output is shown when it does not. 
ok() {
	bed_case=$1
	shift
	"$@" >"$bed_dir/out" 2>&1
	bed_rc=$?
	result $bed_rc "$bed_case"
	[ $bed_rc -eq 0 ] || sed 's/^/# /' "$bed_dir/out"
	return $bed_rc
}

# no NAME COMMAND...: the case holds if the command fails.
no() {
	bed_case=$1
	shift
	if "$@" >"$bed_dir/out" 2>&1; then
		result 1 "$bed_case"
		sed 's/^/# /' "$bed_dir/out"
	else
		result 0 "$bed_case"
	fi
}

# same NAME EXPECTED GOT
same() {
	if [ "$2" = "$3" ]; then
		result 0 "$1"
	else
		result 1 "$1"
		echo "# expected '$2', got '$3'"
	fi
}

# skip NAME REASON: one case that cannot run here.
skip() {
	bed_cnt=$((bed_cnt + 1))
	echo "ok $bed_cnt - $1 # SKIP $2"
}
