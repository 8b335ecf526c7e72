#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The test bed itself: what livegen says it sent and counted is what the kernel's own counters say.
. "$(dirname "$0")/lib.sh"
bed_begin livegen
[ -x "$LIVEGEN" ] || skip_all "no livegen at $LIVEGEN"
bed_ns a
bed_ns b
# No multicast listener reports from the sending end: counts are exact.
in_ns a sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6'
bed_veth a a0 b b0
in_ns b ip addr add 198.19.0.1/24 dev b0
in_ns b ip addr add fd00:19::1/64 dev b0

# field JSON NAME
field() {
	printf '%s' "$1" | jq -r "$2"
}

# generate ARGUMENTS...: result in $out
generate() {
	out=$(timeout 60 "$LIVEGEN" --tx a0 --tx-netns "$bed_prefix-a" --json "$@" 2>"$bed_dir/livegen.log")
}

before=$(bed_counter b b0 rx packets)
generate --sink b0 --sink-netns "$bed_prefix-b" --count 50000 --flows 40000 --warmup 0 --duration 20
after=$(bed_counter b b0 rx packets)
same "a count is sent exactly" 50000 "$(field "$out" .sent_packets)"
same "and all of it arrives" 50000 "$(field "$out" .arrived_packets)"
same "in frames of 60 bytes" 3000000 "$(field "$out" .arrived_bytes)"
same "the device counted as many" 50000 "$((after - before))"

generate --sink b0 --sink-netns "$bed_prefix-b" --rate 20000 --warmup 0.2 --duration 2 --src fd00:19::2 --dst fd00:19::1 --size 1000
rate=$(field "$out" .arrived_pps)
ok "a rate of 20000 is kept within 5 % (got $rate)" [ "$rate" -ge 19000 -a "$rate" -le 21000 ]
same "IPv6 frames of 1000 bytes" "$(field "$out" .arrived_packets)" "$(($(field "$out" .arrived_bytes) / 1000))"

# Checksums and addresses: without a sink the frames go to the stack, whose UDP layer throws away what is wrong.
bed_accept_redirects b b0
no_ports() {
	in_ns b cat /proc/net/snmp /proc/net/snmp6 | awk '/^Udp: [0-9]/ { n += $3 } /^Udp6NoPorts/ { n += $2 } END { print n }'
}
errors() {
	in_ns b cat /proc/net/snmp /proc/net/snmp6 | awk '/^Udp: [0-9]/ { n += $4 } /^Ip: [0-9]/ { n += $5 } /^Udp6InErrors|^Ip6InHdrErrors/ { n += $2 } END { print n }'
}
mac=$(bed_mac b b0)
generate --count 3000 --flows 3000 --dmac "$mac" --src 198.19.0.2 --dst 198.19.0.1 --warmup 0 --size 75 --rate 20000
generate --count 3000 --flows 3000 --dmac "$mac" --src fd00:19::2 --dst fd00:19::1 --warmup 0 --size 75 --rate 20000
same "the stack found no wrong header or checksum" 0 "$(errors)"
same "and took every frame up to UDP" 6000 "$(no_ports)"
in_ns b ip addr add 198.19.0.3/24 dev b0
printf '198.19.0.1\n198.19.0.3\n255.1.2.3\n' >"$bed_dir/dsts"
generate --count 3000 --flows 3000 --dmac "$mac" --src 198.19.0.2 --dsts "$bed_dir/dsts" --warmup 0 --rate 20000
same "of three destinations in turn, two are the stack's" 8000 "$(no_ports)"

in_ns b ip -d link show b0 >"$bed_dir/link"
no "nothing stays attached" grep -q xdp "$bed_dir/link"
bed_end
