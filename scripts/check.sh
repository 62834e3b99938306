#!/usr/bin/env bash
# The gate. Every step runs, whatever the ones before it said; then a table, and as the last line how many passed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# rebar3 colours what it says even where nobody looks at it.
[[ -t 1 ]] || export TERM=dumb

passed=0 failed=0 skipped=0 table=
# What the steps say is kept until the end, so that the reason of a failure stands beside the table that names it.
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

row() { printf -v table '%s%-8s %5d s  %s\n' "$table" "$@"; }

# Where nobody watches, a step that hangs must end too, so that the table is printed. (Elsewhere Ctrl-C must reach it.)
limited() {
  if [[ -n ${CI:-} ]]; then
    timeout --kill-after=30 40m "$@"
  else
    "$@"
  fi
}

# step NAME COMMAND...
step() {
  local name=$1 start=$SECONDS status=0
  shift
  printf '\n==> %s\n' "$name"
  limited "$@" </dev/null > >(tee "$logs/last") 2>&1 || status=$?
  if ((status == 0)); then
    passed=$((passed + 1))
    row passed $((SECONDS - start)) "$name"
  else
    failed=$((failed + 1))
    row FAILED $((SECONDS - start)) "$name (exit code $status)"
    mv "$logs/last" "$logs/failed $failed: $name"
  fi
}

# skip NAME REASON
skip() {
  printf '\n==> %s\nSKIPPED: %s\n' "$1" "$2"
  skipped=$((skipped + 1))
  row SKIPPED 0 "$1: $2"
}

step 'Cargo.lock is up to date' cargo update --workspace --locked
if cargo fmt --version >/dev/null 2>&1; then
  step 'cargo fmt' cargo fmt --all --check
else
  skip 'cargo fmt' 'this Rust has no rustfmt'
fi
if cargo clippy --version >/dev/null 2>&1; then
  step 'cargo clippy' cargo clippy --workspace --all-targets -- -D warnings
else
  skip 'cargo clippy' 'this Rust has no clippy'
fi
step 'cargo test' cargo test --workspace --no-fail-fast
step 'a panic at every point' cargo test -p erlmcp-shm-writer --features test-panic --test panics -- --nocapture
step 'loom models' scripts/loom.sh
step 'cargo doc' env RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps
step 'cargo build --release' cargo build --release --workspace --exclude erlmcp-shm-native --lib --bins --examples
step 'rebar3 compile' rebar3 compile
step 'rebar3 xref' rebar3 xref
step 'rebar3 dialyzer' rebar3 dialyzer
step 'rebar3 ct' rebar3 ct
step 'the demo' scripts/demo.sh
step 'the crates as packages' scripts/package.sh
step 'a release that depends on this' scripts/release.sh
if command -v mix >/dev/null; then
  step 'a mix project that depends on this' scripts/elixir.sh
else
  skip 'a mix project that depends on this' 'there is no Elixir'
fi
step 'the tarball' scripts/dist.sh

for log in "$logs"/failed*; do
  [[ -e $log ]] || continue
  printf '\n==> the end of what %s said\n' "${log#*: }"
  tail -n 60 "$log"
done
printf '\n%s\n%d passed, %d failed' "$table" "$passed" "$failed"
((skipped == 0)) || printf ', %d skipped' "$skipped"
printf '\n'
((failed == 0))
