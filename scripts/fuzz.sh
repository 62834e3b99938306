#!/usr/bin/env bash
# Coverage-guided fuzzing, where there are a nightly toolchain and cargo-fuzz: each target (or those named) for
# FUZZ_SECONDS, under AddressSanitizer. What is learned stays in fuzz/target/corpus for the next run, what is found in
# fuzz/target/finds; a find belongs into fuzz/seeds, which `cargo test` replays, or into a test of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! cargo +nightly --version >/dev/null 2>&1; then
  echo 'SKIPPED: no nightly toolchain (rustup toolchain install nightly)'
  exit 0
fi
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
  echo 'SKIPPED: no cargo-fuzz (cargo install cargo-fuzz)'
  exit 0
fi

# The files under test stand in memory.
if [[ -w /dev/shm ]]; then export TMPDIR=/dev/shm; fi
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

table= status=0

run() {
  local target=$1 seeds=fuzz/seeds/$1 log=$TMPDIR/$1.log corpus=fuzz/target/corpus/$1 finds=fuzz/target/finds/$1
  case $target in recovery) seeds=fuzz/seeds/file ;; esac
  # No search for leaks where writers are started: it takes what their threads, which come and go, hold by
  # themselves for one, now and then.
  local leaks=1
  case $target in mutations | recovery) leaks=0 ;; esac
  [[ -d $seeds ]] || seeds=
  mkdir -p "$corpus" "$finds"
  printf '\n== %s\n' "$target"
  nice -n 10 cargo +nightly fuzz run --target-dir fuzz/target "$target" "$corpus" $seeds -- \
    -max_total_time="${FUZZ_SECONDS:-60}" -max_len=10000 -timeout=10 -detect_leaks=$leaks -print_final_stats=1 \
    -artifact_prefix="$finds/" >"$log" 2>&1 || {
    status=1
    tail -n 60 "$log"
  }
  local runs coverage found
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
  coverage=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1 | cut -d ' ' -f 2 || true)
  found=$(find "$finds" -type f | wc -l)
  printf -v table '%s%-10s %10s %9s %6s\n' "$table" "$target" "${runs:--}" "${coverage:--}" "$found"
}

(($#)) || set -- file mutations recovery format json key
for target in "$@"; do run "$target"; done
printf '\n%-10s %10s %9s %6s\n%s' target execs coverage finds "$table"
exit "$status"
