#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What an idle `millrace run` costs: its processor time from /proc/PID/stat over some seconds without traffic."""
import argparse
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "netns"))
import bed as netbed  # noqa: E402
import results  # noqa: E402
import veth  # noqa: E402


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--seconds", type=float, default=10)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--no-write", action="store_true", help="show, keep nothing")
    args = p.parse_args()
    percent = []
    with netbed.Bed("idle") as bed:
        veth.topology(bed)
        with veth.millrace(bed) as m:
            time.sleep(1)
            for n in range(args.rounds):
                start, used = time.monotonic(), bed.cpu_seconds(m.pid)
                time.sleep(args.seconds)
                percent.append(100 * (bed.cpu_seconds(m.pid) - used) / (time.monotonic() - start))
                print("round %d  %.2f %% of a core" % (n + 1, percent[-1]), flush=True)
    if not args.no_write:
        results.write("idle", "Idle in adaptive mode, two interfaces, one worker", "% of a core", "AF_XDP copy mode on veth, no traffic",
                      "make bench", {"millrace": percent}, [], better="lower", note="goal: under 3 % of a core")
    if results.median(percent) >= 3:
        sys.exit("idle.py: %.2f %% of a core, the goal is under 3 %%" % results.median(percent))


if __name__ == "__main__":
    try:
        main()
    except netbed.Failed as e:
        sys.exit("idle.py: %s" % e)
