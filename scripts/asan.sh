#!/usr/bin/env bash
# AddressSanitizer, where there is a nightly toolchain, over the unit tests that work in heap memory: its redzones
# catch every access past the end of a region.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! cargo +nightly --version >/dev/null 2>&1; then
  echo 'SKIPPED: no nightly toolchain (rustup toolchain install nightly)'
  exit 0
fi
if [[ "$(uname -sm)" != 'Linux x86_64' ]]; then
  echo 'SKIPPED: AddressSanitizer is run on x86-64 Linux only'
  exit 0
fi

# Its build differs from every other one.
export CARGO_TARGET_DIR=target/asan
export RUSTFLAGS=-Zsanitizer=address
# More of the bytes of a damaged file.
export BYTES_APART=2

nice -n 10 cargo +nightly test --target x86_64-unknown-linux-gnu -p erlmcp-shm-writer -p erlmcp-shm-reader --lib -- region heap
