#!/usr/bin/env bash
# Measures ours beside its peers, in one run of a few minutes, and puts the figures into the README and docs/. Wants a
# machine with nothing else to do. Redis is installed where it can be; without it, its row is left out.
# `bench.sh full` takes longer: it also has other sizes, more keys, a skewed order and many reader processes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v redis-server >/dev/null && command -v apt-get >/dev/null && [[ $(id -u) == 0 ]]; then
  apt-get -q update || true
  DEBIAN_FRONTEND=noninteractive apt-get -q install --yes --no-install-recommends redis-server ||
    echo 'bench: no redis-server to be had'
fi

run() { cargo run --quiet --release --manifest-path benches/peers/Cargo.toml --target-dir target/peers -- "$1"; }

run reads
if [[ ${1:-} == full ]]; then
  run more
fi
run writes
run rollover
escript benches/erlang/put.escript
run report

# The client's tiers, between the same kind of marks.
cargo bench --quiet -p erlmcp-shm-benches --bench tiers | tee target/bench/tiers.md
sed -i -e '/^<!-- tiers -->$/,/^<!-- end of tiers -->$/{//!d}' -e '/^<!-- tiers -->$/r target/bench/tiers.md' docs/performance.md
