#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""nat44 as others see it: coturn's server outside, with two addresses, its client inside; behaviour discovery by STUN (RFC 5780)."""
import os
import re
import shutil

import nat
import wire as w
from nat import A, S, S2

NAMES = {"endpoint-independent": "Endpoint Independent", "address-dependent": "Address Dependent", "address-and-port-dependent": "Address and Port Dependent"}
SERVER = "turnserver -n -L %s -L %s --no-auth --no-tls --no-dtls --no-tcp --no-tcp-relay --no-cli --log-file stdout -r nat --pidfile %s/turn.pid --userdb %s/turn.db"


def serve(bed):
    server = bed.spawn("s", SERVER % (S, S2, bed.dir, bed.dir), "turnserver")
    server.wait_for("Total General servers", 20)

    def answers():
        return "UDP reflexive addr" in discover(bed, "t", "-m", "-L", nat.T, S)
    if not w.wait_for(answers, 10):
        raise nat.Failed("the STUN server does not answer an outside host:\n" + server.text()[-2000:])


def discover(bed, space, *words):
    return bed.run(space, ["turnutils_natdiscovery", *words], check=False, timeout_s=40)


def kind(out, what):
    """'Endpoint Independent' of 'NAT with Endpoint Independent Mapping!'."""
    found = re.findall(r"NAT with (.*) %s!" % what, out)
    return found[-1] if found else out[-600:]


def mapping(tap, bed, watch, mode):
    for option, name in NAMES.items():
        with nat.Nat(tap, bed, watch, "mapping: " + option, "STUN, mapping %s, %s" % (option, mode), mode=mode) as net:
            out = discover(bed, "a", "-m", "-L", A, S)
            net.same(kind(out, "Mapping"), name, "the client reports it")
            net.ok(set(re.findall(r"UDP reflexive addr: (203\.0\.113\.\d+):", out)), "an outside address is what it is told", out[-600:])


def filtering(tap, bed, watch, mode):
    for option, name in NAMES.items():
        with nat.Nat(tap, bed, watch, "filtering: " + option, "STUN, filtering %s, %s" % (option, mode), mode=mode) as net:
            out = discover(bed, "a", "-f", "-L", A, S)
            net.same(kind(out, "Filtering"), name, "the client reports it")
            if option == "endpoint-independent":
                net.ok("receive timeout" not in out, "at once: answers from the other address and port came in")


def hairpin(tap, bed, watch, mode):
    with nat.Nat(tap, bed, watch, "", "STUN, hairpin, " + mode, mode=mode) as net:
        out = discover(bed, "a", "-H", "-L", A, S)
        net.ok("successful hairpinning" in out and "receive timeout" not in out, "the client reaches itself by its outside address (RFC 4787 REQ-9)", out[-800:])


def test(tap, bed):
    nat.build(bed)
    serve(bed)
    wanted = nat.modes("never", "always")
    nat.cases(tap, bed, (mapping, filtering, hairpin), wanted)


if __name__ == "__main__":
    for tool in ("turnserver", "turnutils_natdiscovery"):
        if not shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/bin:/usr/sbin"):
            w.skip_all("%s is not installed (package coturn; scripts/install-deps test)" % tool)
    w.sys.exit(w.main(test, "natstn"))
