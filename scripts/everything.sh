#!/bin/sh
# Installs the reference MCP server that client/tests/everything.rs talks to, below target/.
set -eu
cd "$(dirname "$0")/.."
version=${EVERYTHING_VERSION:-2026.8.31}
command -v node >/dev/null || { echo "SKIPPED: no node"; exit 0; }
npm install --silent --no-fund --no-audit --prefix target/everything "@modelcontextprotocol/server-everything@$version"
