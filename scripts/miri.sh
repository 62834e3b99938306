#!/usr/bin/env bash
# Miri, where a nightly toolchain has it: undefined behaviour in what runs without the kernel's help. It cannot map a
# file, so of writer and reader it sees what their unit tests do in heap memory. Takes minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! cargo +nightly miri --version >/dev/null 2>&1; then
  echo 'SKIPPED: no nightly toolchain with Miri (rustup toolchain install nightly --component miri,rust-src)'
  exit 0
fi

# Its build differs from every other one. The tests read files, which Miri by itself forbids.
export CARGO_TARGET_DIR=target/miri
export MIRIFLAGS=-Zmiri-disable-isolation
# An interpreter takes its time.
export BYTES_APART=997

nice -n 10 cargo +nightly miri test -p erlmcp-shm-layout --lib --tests
# Miri knows no CLOCK_BOOTTIME.
nice -n 10 cargo +nightly miri test -p erlmcp-shm-writer -p erlmcp-shm-reader --lib -- --skip clock_goes_forward
