/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nics.h - the emulated network devices of a guest (tests/vm/machine.py), for tests in C.
 *
 *     g: g0 ──hub── r0 :caller: r1 ──hub── s0 :s       g0 10.88.0.1 fd88::1, s0 10.88.0.2 fd88::2
 *     g: g2 ══ two queues ══ r2 :caller                 only where the guest was started by root
 *
 * Devices are found by MAC address and named so.  Frames of the tests carry a number and a pattern; each is counted on the other side.
 */
#ifndef MR_TESTS_VM_NICS_H
#define MR_TESTS_VM_NICS_H

#include <stdbool.h>
#include <stdint.h>

/* Names the devices, makes g and s.  Ends the process with 77 and a reason outside such a guest. */
void nics_begin(void);
/* g0 and r0 here, nothing else: two devices that face each other.  Ends the process as nics_begin() does. */
void nics_pair(void);
/* Gives the device its name (after it was plugged in again) and switches it on; waits for it at most ten seconds. */
bool nics_name(const char *device);
bool nics_have(const char *device);
/* Runs a shell command in "g", "s" or "r" (here), output dropped; true when it succeeded. */
bool nics_run(const char *space, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* cnt echo requests from g; true when all were answered. */
bool nics_ping(const char *address, unsigned cnt);
/* A request to the outside ("unplug r1"); false if it was refused. */
bool nics_ask(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Polls for at most this long. */
bool nics_wait(unsigned limit_ms, bool (*what)(void *), void *arg);
void nics_pause(unsigned ms);

/* A packet socket on a device of g or s that sends numbered frames and counts those it sees. */
struct nics_line;
struct nics_line *nics_line_open(const char *space, const char *device);
void nics_line_close(struct nics_line *l);

struct nics_result {
	unsigned sent_cnt;     /* the device took */
	unsigned received_cnt; /* different ones that arrived on the other side, whole */
	unsigned twice_cnt;
	unsigned broken_cnt; /* length or pattern wrong */
};

/* Numbered UDP frames of 60 to 1514 bytes over 16 flows, until all came or none came for half a second.  `between` (may be NULL) is called
 * again and again: for a test that does the forwarding itself. */
struct nics_result nics_traffic(
	struct nics_line *from, struct nics_line *to, unsigned cnt, void (*between)(void *), void *arg);

#endif
