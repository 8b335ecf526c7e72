# SPDX-License-Identifier: BSD-2-Clause
# Each target installs what it needs and is missing (Debian packages, named as it does so), and builds in build/.
#
#   make            the program, the library, the BPF programs
#   make demo       ten seconds of real traffic through an appliance between two hosts (root)
#   make test       every suite; the last line counts (root; without it what needs root is skipped)
#   make test-vm    the kern, netns and zero-copy suites in QEMU on Linux 6.1 and the newest Debian kernel; VM=--brief: what .ci/run runs of it
#   make bench      side-by-side benches, writes bench/RESULTS.md (root)
#   make install    into PREFIX (/usr/local), DESTDIR is honoured
#   make test-asan, make test-tsan    unit and netns suites under the sanitizers
#   make check-format, make build-werror, make clean

BUILD := build
PREFIX := /usr/local
SETUP := $(BUILD)/build.ninja
# Rounds of each bench; a round of the veth bench takes about 8 s a device under test.
ROUNDS := 5
export MR_BUILD = $(abspath $(BUILD))

.NOTPARALLEL:
.PHONY: all demo test test-vm test-asan test-tsan bench install clean check-format build-werror

all: deps-build $(SETUP)
	ninja -C $(BUILD)

deps-%:
	@scripts/install-deps $*

$(SETUP): | deps-build
	meson setup --prefix=$(PREFIX) $(BUILD)

demo: deps-demo $(SETUP)
	ninja -C $(BUILD) --quiet
	@scripts/demo

test: deps-test $(SETUP)
	ninja -C $(BUILD)
	@scripts/test

# Without QEMU, or without a kernel to be had, it says so and is no failure (77).
test-vm: deps-test $(SETUP)
	ninja -C $(BUILD) --quiet
	-@scripts/install-deps vm
	@tests/vm/run $(VM) || test $$? = 77

# The netns suite runs the sanitized program itself; the kern suite adds nothing under these two, and fuzz replay only under the first.  What the
# kernel answers where Millrace does not run (MR_HALVES) and the same again in another mode (MR_ONCE) is asked by `make test`.
test-asan test-tsan: export MR_HALVES = millrace
test-asan test-tsan: export MR_ONCE = 1

test-asan: deps-check
	test -f build-asan/build.ninja || meson setup -Db_sanitize=address,undefined -Db_lundef=false build-asan
	ninja -C build-asan
	@ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1 \
		LSAN_OPTIONS=suppressions=$(CURDIR)/tests/lsan.supp:print_suppressions=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		MR_BUILD=$(abspath build-asan) scripts/test --brief --label "millrace (address, undefined)" --timeout-factor 4 --suite unit --suite fuzz --suite netns

test-tsan: deps-check
	test -f build-tsan/build.ninja || meson setup -Db_sanitize=thread -Db_lundef=false build-tsan
	ninja -C build-tsan
	@TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1 MR_BUILD=$(abspath build-tsan) \
		scripts/test --tsan --threads --label "millrace (thread)" --timeout-factor 4 --suite unit --suite netns

bench: deps-bench $(SETUP)
	ninja -C $(BUILD)
	bench/run --rounds $(ROUNDS)

install: all
	meson install -C $(BUILD) --no-rebuild

check-format: deps-check
	git ls-files '*.c' '*.h' | xargs clang-format --dry-run -Werror

build-werror: deps-check
	for cc in gcc clang; do \
		test -f build-$$cc/build.ninja || CC=$$cc meson setup -Dwerror=true build-$$cc || exit 1; \
		ninja -C build-$$cc || exit 1; \
	done

clean:
	rm -rf build build-deps build-asan build-tsan build-gcc build-clang
