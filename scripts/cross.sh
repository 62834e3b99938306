#!/usr/bin/env bash
# Compiles for targets that this machine is not, as far as the tool-chain at hand allows, and says what is not checked.
# Where there is qemu for it, the tests of format, reader and writer run on arm64 too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

skip() { echo "SKIPPED: $*"; }

has_std() { [[ -n $(compgen -G "$(rustc --print sysroot)/lib/rustlib/$1/lib/libstd-*") ]]; }

portable=(-p erlmcp-shm-layout -p erlmcp-shm-writer -p erlmcp-shm-reader)

arm=aarch64-unknown-linux-gnu
if ! has_std $arm; then
  skip "$arm: rustup target add $arm"
elif ! command -v aarch64-linux-gnu-gcc >/dev/null; then
  # TLS is partly assembler and C.
  cargo check --locked --target $arm "${portable[@]}"
  skip "$arm: what has TLS in it, and all tests: there is no aarch64-linux-gnu-gcc"
else
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
  cargo check --locked --target $arm --workspace
  if command -v qemu-aarch64 >/dev/null; then
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='qemu-aarch64 -L /usr/aarch64-linux-gnu'
    cargo test --locked --target $arm -p erlmcp-shm-layout --test golden --test parse
    cargo test --locked --target $arm -p erlmcp-shm-reader --test lookup --test switch --test l1
    cargo test --locked --target $arm -p erlmcp-shm-writer --test model --test readers
  else
    skip "$arm: the tests: there is no qemu-aarch64"
  fi
fi

mac=aarch64-apple-darwin
if has_std $mac; then
  # Only the reader is meant to be of use there.
  cargo check --locked --target $mac -p erlmcp-shm-layout -p erlmcp-shm-reader
  skip "$mac: linking and tests, and what has TLS in it: there is no SDK of Apple's"
else
  skip "$mac: rustup target add $mac"
fi
