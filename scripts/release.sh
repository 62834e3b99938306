#!/usr/bin/env bash
# examples/release as a user has it: in a folder of its own, this repository its git dependency, made by `rebar3
# release`, started, read by another process, stopped. With `--compile` its NIF is compiled there (minutes); else it is
# the one that is built here, through ERLMCP_SHM_NIF.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/scratch.sh
source scripts/scratch.sh

if [[ ${1:-} == --compile ]]; then
  unset ERLMCP_SHM_NIF
else
  export ERLMCP_SHM_NIF=$root/priv/erlmcp_shm_nif.so
fi

make_origin
cp -r examples/release "$scratch/weather"
cd "$scratch/weather"
store=$scratch/weather.bin
sed -i "s|URL of this repository|file://$origin|" rebar.config
sed -i "s|/dev/shm/weather.bin|$store|" config/sys.config
rebar3 release

_build/default/rel/weather/bin/weather &
running=$!
eventually "$built/erlmcp-shm" --path "$store" get resource weather://now
"$built/examples/lookup" "$store"
[[ $("$built/erlmcp-shm" --path "$store" get tool forecast) == *'"hours"'* ]]
# It goes on publishing.
now=$("$built/erlmcp-shm" --path "$store" get resource weather://now)
changed() { [[ $("$built/erlmcp-shm" --path "$store" get resource weather://now) != "$now" ]]; }
eventually changed

# SIGTERM is an orderly stop: the store is closed, and readable.
kill "$running"
wait "$running" || true
running=
"$built/erlmcp-shm" --path "$store" stat | grep -q '^writer *closed'
"$built/erlmcp-shm" --path "$store" get resource weather://now
echo
echo "the release was made, published, and closed its store"
