/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * value.h - words of the configuration turned into numbers, addresses and ranges; no positions, no sentences.
 *
 * Every function reads all of a NUL-terminated text, returns false when it is not what is wanted, leaves *out untouched
 * then, needs no memory and may be called by any thread.
 */
#ifndef MR_CORE_VALUE_H
#define MR_CORE_VALUE_H

#include "millrace/option.h"

/* 10, 64k, 1.5M, 16Ki.  k M G T are powers of 1000, Ki Mi Gi powers of 1024. */
bool mr_value_uint(const char *text, uint64_t *out);
/* As uint, and with a B behind it: 2048, 2KiB, 64MB. */
bool mr_value_bytes(const char *text, uint64_t *out);
/* 10us, 500ms, 1.5s, 5m, 2h, 1d; 0 needs no unit. */
bool mr_value_duration(const char *text, uint64_t *out_ns);
/* 2Mpps, 500kbps, 10k/s: unit is "packets/s" (pps), "bits/s" (bps) or anything else (/s). */
bool mr_value_rate(const char *text, const char *unit, uint64_t *out_per_s);
/* The suffix mr_value_rate() wants for a unit. */
const char *mr_value_rate_suffix(const char *unit);
bool mr_value_bool(const char *text, bool *out);
/* Letters, digits, - and _, beginning with a letter or digit, up to 32 bytes. */
bool mr_value_name(const char *text);

/*
 * An address or prefix, IPv4 or IPv6 (RFC 4291 section 2.2 forms), host bits 0.  On false *why is a short hint, or NULL.
 * `family` is what it looks like (4 or 6), 0 when neither, set in any case.
 */
bool mr_value_prefix(const char *text, struct mr_prefix *out, uint8_t *family, const char **why);
/* Writes "10.0.0.0/8", or the address alone at full length.  At most MR_VALUE_PREFIX_BYTES. */
#define MR_VALUE_PREFIX_BYTES 52
void mr_value_prefix_print(const struct mr_prefix *p, char *out, size_t bytes);
/* Order: IPv4 first, then by address, then the shorter prefix. */
int mr_value_prefix_compare(const struct mr_prefix *a, const struct mr_prefix *b);

/* "22" or "8000-8100" within min..max. */
bool mr_value_range(const char *text, uint64_t min, uint64_t max, struct mr_range *out);
/* tcp, udp, icmp, icmp6, gre, esp, sctp, or a number or range of 0-255. */
bool mr_value_proto(const char *text, struct mr_range *out);
/* ip, ip6, arp ..., 0x88cc, or a decimal number of 0x600-0xffff. */
bool mr_value_ethertype(const char *text, struct mr_range *out);
/* "echo-request", "8", "3/4": up to two types (echo names mean both families').  Returns how many, 0 = not one. */
unsigned mr_value_icmp(const char *text, struct mr_icmp_type out[2]);
/* "syn", "syn/syn,ack" or with + between. */
bool mr_value_tcp_flags(const char *text, struct mr_tcp_flags *out);

/* The word nearest to `text` of `cnt` words, or NULL when none is near. */
const char *mr_value_nearest(const char *text, const char *const *words, unsigned cnt);

#endif
