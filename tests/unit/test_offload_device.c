/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/offload.h"
#include "core/offload_device.h"
#include "core/redirect.h"

#include <criterion/criterion.h>
#include <string.h>

static struct mr_config *config;

static struct mr_config *read_config(const char *flows, const char *interface, const char *pipeline)
{
	char text[1024];
	struct mr_error e = { "" };
	int n = snprintf(text, sizeof(text),
		"version: 1\nflows: { capacity: 4k%s }\n"
		"interfaces: { a: { device: a0%s }, b: { device: b0 }, f: { pcap: f.pcap } }\n"
		"pipelines:\n  p: { from: [ a, f ], match: all, to: b%s }\n  q: { from: [ b ], match: all, to: a }\n",
		flows, interface, pipeline);
	cr_assert_eq(mr_config_read_text(text, (size_t)n, "t.yaml", ".", &config, &e), 0, "%s", e.text);
	return config;
}

/* The sentence about interface `nr` bound in a mode; "" = it may. */
static const char *about(unsigned nr, enum mr_mode mode)
{
	static char why[160];
	const struct mr_config_interface *c = &config->interfaces[nr];
	struct mr_interface_info info = {
		.name = c->name, .kind = c->device ? MR_INTERFACE_XSK : MR_INTERFACE_PCAP, .mode = mode
	};
	bool in = mr_offload_in(config, c, &info, why, sizeof(why));
	cr_assert_eq(in, !why[0]);
	return why;
}

Test(offload_device, copy_mode_has_one_unless_nothing_wants_it)
{
	read_config("", "", "");
	cr_expect_str_eq(about(0, MR_MODE_COPY), "");
	cr_expect_str_eq(about(0, MR_MODE_AUTO), "");
	cr_expect(strstr(about(2, MR_MODE_COPY), "capture files"));
	mr_config_free(config);
	read_config(", offload: never", "", "");
	cr_expect(strstr(about(0, MR_MODE_COPY), "no pipeline from it"));
	mr_config_free(config);
	read_config(", offload: never", "", ", offload: established");
	cr_expect_str_eq(about(0, MR_MODE_COPY), "");
	cr_expect(strstr(about(1, MR_MODE_COPY), "no pipeline from it"), "that of another interface");
	mr_config_free(config);
	read_config("", "", ", state: none");
	cr_expect(strstr(about(0, MR_MODE_COPY), "no pipeline from it"));
	mr_config_free(config);
}

Test(offload_device, zero_copy_only_when_it_is_said)
{
	read_config("", "", "");
	cr_expect(strstr(about(0, MR_MODE_ZEROCOPY), "zero-copy mode: only where"));
	mr_config_free(config);
	read_config(", offload: established", "", "");
	cr_expect_str_eq(about(0, MR_MODE_ZEROCOPY), "");
	mr_config_free(config);
	read_config("", "", ", offload: always");
	cr_expect_str_eq(about(0, MR_MODE_ZEROCOPY), "");
	cr_expect(strstr(about(1, MR_MODE_ZEROCOPY), "zero-copy mode: only where"), "that of another interface");
	mr_config_free(config);
	read_config(", offload: never", "", "");
	cr_expect(strstr(about(0, MR_MODE_ZEROCOPY), "no pipeline from it"), "zero-copy is not why");
	mr_config_free(config);
}

Test(offload_device, generic_mode_and_programs_beside_ours_have_none)
{
	read_config(", offload: always", "", "");
	cr_expect(strstr(about(0, MR_MODE_GENERIC), "generic mode"));
	mr_config_free(config);
	read_config(", offload: always", ", attach: shared", "");
	cr_expect(strstr(about(0, MR_MODE_COPY), "attach: shared"));
	cr_expect_str_eq(about(1, MR_MODE_COPY), "");
	mr_config_free(config);
}

Test(offload_device, a_program_without_one_says_why)
{
	char why[160];
	read_config(", offload: always", "", "");
	const struct mr_config_interface *c = &config->interfaces[0];
	struct mr_interface_info info = { .name = c->name,
		.kind = MR_INTERFACE_XSK,
		.mode = MR_MODE_COPY,
		.tier_why = "the kernel does not take it" };
	cr_expect_not(mr_offload_in(config, c, &info, why, sizeof(why)));
	cr_expect_str_eq(why, "the kernel does not take it");
	cr_expect_eq(mr_offload_policy(&config->flows, &config->pipelines[0], &info), MR_OFFLOAD_NEVER);
	mr_config_free(config);
}

Test(offload_device, drivers_are_known_by_their_ethtool_names)
{
	static const char *const takes[] = { "i40e", "ice", "mlx5_core", "virtio_net", "ena", "bnxt_en", "tun" };
	static const char *const not_by_themselves[] = { "veth", "bridge", "dummy", "", "unknown", "ixgbevf",
		"mlx4_en" };
	for (unsigned i = 0; i < sizeof(takes) / sizeof(*takes); i++)
		cr_expect(mr_redirect_driver(takes[i]), "%s", takes[i]);
	for (unsigned i = 0; i < sizeof(not_by_themselves) / sizeof(*not_by_themselves); i++)
		cr_expect_not(mr_redirect_driver(not_by_themselves[i]), "%s", not_by_themselves[i]);
}
