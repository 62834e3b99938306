#!/usr/bin/env bash
# examples/elixir as a user has it: a mix project elsewhere, this repository its git dependency. It publishes, another
# process reads.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! command -v mix >/dev/null; then
  echo "SKIPPED: there is no Elixir here"
  exit 0
fi
# shellcheck source=scripts/scratch.sh
source scripts/scratch.sh

make_origin
cp -r examples/elixir "$scratch/motd"
cd "$scratch/motd"
store=$scratch/motd.bin
sed -i "s|URL of this repository|file://$origin|" mix.exs
sed -i "s|/dev/shm/motd.bin|$store|" config/config.exs
# rebar3 is here already, and so is the library.
MIX_REBAR3=$(command -v rebar3)
export MIX_REBAR3 MIX_HOME=$scratch/mix ERLMCP_SHM_NIF=$root/priv/erlmcp_shm_nif.so
# git has much to say of its progress.
mix deps.get >mix.log 2>&1 || { cat mix.log >&2; exit 1; }
mix compile

mkfifo end
mix run publish.exs <end &
running=$!
exec {end}>end
eventually "$built/erlmcp-shm" --path "$store" get prompt greet
[[ $("$built/erlmcp-shm" --path "$store" get resource file:///motd) == 'hello from Elixir' ]]
"$built/examples/lookup" "$store"
exec {end}>&-
wait "$running"
running=
"$built/erlmcp-shm" --path "$store" stat | grep -q '^writer *closed'
echo "the mix project published, and closed its store"
