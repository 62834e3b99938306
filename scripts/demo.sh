#!/usr/bin/env bash
# An Erlang node publishes this repository's files, its commands, prompts and capabilities; another process reads
# every one of them from shared memory, checks it, and says what a lookup costs. `make demo` builds both first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

built=${CARGO_TARGET_DIR:-target}/release
built=$(cd "$built" 2>/dev/null && pwd) || built=
if [[ ! -x $built/erlmcp-shm || ! -x $built/erlmcp-shm-demo || ! -d _build/default/lib/erlmcp_shm/ebin ]]; then
  echo "demo: something is not built: run make build" >&2
  exit 1
fi

shm=/dev/shm
[[ -d $shm && -w $shm ]] || shm=${TMPDIR:-/tmp}
dir=$(mktemp -d "$shm/erlmcp-shm-demo.XXXXXX")
node=
clean_up() {
  if [[ -n $node ]]; then
    kill "$node" 2>/dev/null || true
    wait "$node" || true
  fi
  rm -rf "$dir"
}
trap clean_up EXIT

# Each name followed by a NUL: what git keeps, and not whatever else lies here. Where it knows no files, all of them but
# what is built.
git ls-files -z --cached >"$dir/names" 2>/dev/null || true
if [[ ! -s $dir/names ]]; then
  find . \( -path ./.git -o -path ./target -o -path ./_build -o -path ./priv \) \
    -prune -o -type f -printf '%P\0' >"$dir/names"
fi
# What is listed and not there any more, or is a link, has no bytes to publish.
while IFS= read -r -d '' name; do
  if [[ -f $name && ! -L $name ]]; then printf '%s\0' "$name"; fi
done <"$dir/names" >"$dir/files"

# The store is allocated in full, and while it grows there are two of them.
bytes=$(xargs -0 stat -c %s <"$dir/files" | awk '{ sum += $1 } END { printf "%d", sum }')
needed=$((16 * 1024 * 1024 + 6 * bytes))
room=$(df --output=avail --block-size=1 "$shm" | tail -n 1)
if ((room < needed)); then
  echo "demo: $shm has $((room >> 20)) MiB free and the store may need $((needed >> 20)): remove what is not needed there" >&2
  exit 1
fi

erlc -Wall -Werror -o "$dir" examples/demo/node/*.erl

# The node's stdout belongs to its conversation with the reader, so what it logs goes to stderr.
coproc pipes {
  ERL_LIBS=_build/default/lib ERL_CRASH_DUMP_SECONDS=0 exec erl -noshell -pa "$dir" \
    -kernel logger '[{handler, default, logger_std_h, #{config => #{type => standard_error}}}]' \
    -s demo_publisher -extra "$dir/export.bin" "$PWD" "$dir/files" "$dir/manifest" "$built/erlmcp-shm"
}
node=$!
answers=${pipes[0]} orders=${pipes[1]}

"$built/erlmcp-shm-demo" "$dir/export.bin" "$PWD" "$dir/files" "$dir/manifest" 2>&1 <&"$answers" >&"$orders"

# At the end of its stdin the node closes the store and stops.
exec {orders}>&-
wait "$node"
node=
