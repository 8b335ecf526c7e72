#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The demo recipe under real traffic: every check of `make demo` is a case, and nothing is left, also after Ctrl-C.
. "$(dirname "$0")/lib.sh"
bed_begin demo-test
[ -x "$MILLRACE" ] || skip_all "no millrace program at $MILLRACE"

# What the demo of process $1 may have left.
left() {
	ip netns list | grep "^mr-demo-$1-"
	ls -d /tmp/mr-demo-"$1"-* /run/millrace/mr-demo-"$1"-* 2>/dev/null
}

setsid "$bed_root/scripts/demo" --seconds 5 >"$bed_dir/demo.log" 2>&1 &
pid=$!
bed_pids=$pid
wait $pid
status=$?
while read -r word text; do
	case $word in
	ok) result 0 "$text" ;;
	NO) result 1 "$text" ;;
	esac
done <<END
$(grep -E '^  (ok|NO) ' "$bed_dir/demo.log")
END
same "the demo ends well" 0 $status
[ $status -eq 0 ] || sed 's/^/# /' "$bed_dir/demo.log"
same "and leaves nothing" "" "$(left $pid)"

setsid "$bed_root/scripts/demo" >"$bed_dir/interrupted.log" 2>&1 &
pid=$!
bed_pids=$pid
ok "starts again" wait_line interrupted.log '^[1-9] s' 30
kill -INT -$pid
wait $pid
same "Ctrl-C ends it" 130 $?
same "and leaves nothing either" "" "$(left $pid)"
bed_end
