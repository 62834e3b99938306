#!/usr/bin/env bash
# The long forms of the tests: the same checks as `make test`, more of each, and tools of nightly Rust where there
# are any.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

printf '\n== a writer killed 10,000 times\n'
KILLS=10000 cargo test --release -p erlmcp-shm-writer --test kill --test starts -- --nocapture
printf '\n== an Erlang node killed 200 times under load\n'
NODE_KILLS=200 rebar3 ct --suite=erlang_test/erlmcp_shm_kills_SUITE --verbose
printf '\n== 1,000 programs of erlmcp servers and a bridge to them\n'
BRIDGE_PROGRAMS=1000 rebar3 ct --suite=erlang_test/erlmcp_shm_bridge_prop_SUITE --verbose
printf '\n== a node killed every second for a minute, below a client of all tiers\n'
NODE_KILLS_SECONDS=60 rebar3 ct --suite=erlang_test/erlmcp_shm_client_kills_SUITE --verbose
printf '\n== 1,000 WebSocket clients of one node, with a publish every 10 ms\n'
CROWD=1000 CROWD_SECONDS=30 CROWD_COMPRESSION=false rebar3 ct --suite=erlang_test/erlmcp_shm_crowd_SUITE --verbose
printf '\n== a node under load for ten minutes, and what metrics, Prometheus and top say of it\n'
AGREED_SECONDS=600 rebar3 ct --suite=erlang_test/erlmcp_shm_ops_SUITE --case=agreed --verbose
printf '\n== calls on normal schedulers while 1 GiB is compacted\n'
LATENCY_MIB=1024 rebar3 ct --suite=erlang_test/erlmcp_shm_latency_SUITE --verbose
printf '\n== a thousand readers killed, a writer stopped 2,000 times\n'
READERS=1000 STOPS=2000 cargo test --release -p erlmcp-shm-writer --test misbehave -- --nocapture
printf '\n== 5,000 rollovers with files that come to the path, and with readers that lock what they find\n'
ROLLOVERS=5000 cargo test --release -p erlmcp-shm-writer --test squats --test attacks -- --nocapture
printf '\n== a million first reads through a cache in another process\n'
READS=1000000 cargo test --release -p erlmcp-shm-reader --test l1_processes
printf '\n== random programs, rollovers included\n'
PROPTEST_CASES=2000 cargo test --release -p erlmcp-shm-writer --test model -- --nocapture
printf '\n== every key linearizable\n'
PROPTEST_CASES=10000 cargo test --release -p erlmcp-shm-writer --test linear -- --nocapture
printf '\n== mutated and random files\n'
PROPTEST_CASES=1000000 cargo test --release -p erlmcp-shm-reader --test hostile -- --nocapture
printf '\n== writers started on mutated files\n'
PROPTEST_CASES=1000000 cargo test --release -p erlmcp-shm-writer --test recovery -- --nocapture
printf '\n== coverage-guided fuzzing\n'
scripts/fuzz.sh
printf '\n== loom, the long models\n'
scripts/loom.sh --long
printf '\n== Miri\n'
scripts/miri.sh
printf '\n== AddressSanitizer\n'
scripts/asan.sh
printf '\n== each crate built from its package, and by the oldest Rust\n'
scripts/package.sh --verify
printf '\n== other targets\n'
scripts/cross.sh
printf '\n== everything on the Erlangs of other Debians\n'
scripts/otp.sh
printf '\n== a release whose NIF is compiled as a dependency\n'
scripts/release.sh --compile
