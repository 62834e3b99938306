#!/usr/bin/env bash
# The models of the concurrent protocols: every interleaving that loom tells apart, and the mutants that must fail.
# With --long also the models that take minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

which=()
[[ ${1:-} != --long ]] || which=(--include-ignored)

# A folder of its own: the flag would have everything else built anew each time.
export RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=target/loom
nice -n 10 cargo test -p erlmcp-shm-layout --release --test loom --no-run
# What the models print stands in their order only if they run one after the other.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
nice -n 10 cargo test --quiet -p erlmcp-shm-layout --release --test loom -- \
  --test-threads 1 --nocapture "${which[@]}" >"$log" 2>&1 || status=$?
if ((status == 0)); then
  sed -nE '/^[.i]*nothing at all/d; s/^[.i]*(.*: ([0-9]+ interleavings|killed: .*)|test result: .*)$/\1/p' "$log"
  printf '%d mutants killed, none survived\n' "$(grep -c ': killed: ' "$log")"
else
  cat "$log"
fi
exit "$status"
