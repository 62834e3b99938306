#!/usr/bin/env bash
# Puts the NIF into priv/: what rebar3 runs before it compiles the application.
#
# One script, because rebar3 runs a hook as `exec COMMAND`. It finds the crate from its own place and not from the
# working folder, so it does the same in a checkout and in another project's _build/default/lib/erlmcp_shm.
#
# ERLMCP_SHM_NIF=/path/to/a/built.so  takes that library and compiles nothing.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
nif=$root/priv/erlmcp_shm_nif.so

if [[ -n ${ERLMCP_SHM_NIF:-} ]]; then
  built=$ERLMCP_SHM_NIF
  if [[ ! -f $built ]]; then
    echo "erlmcp_shm: ERLMCP_SHM_NIF names no file: $built (give an absolute path)" >&2
    exit 1
  fi
elif command -v cargo >/dev/null; then
  # Cargo itself says where the library is: the target folder may be moved by a variable or by a config file.
  built=$(
    cargo build --profile nif --manifest-path "$root/Cargo.toml" -p erlmcp-shm-native \
      --message-format json-render-diagnostics |
      sed -nE 's/.*"filenames":\["([^"]*liberlmcp_shm_native\.(so|dylib))".*/\1/p'
  )
  if [[ ! -f $built ]]; then
    echo "erlmcp_shm: cargo built no liberlmcp_shm_native" >&2
    exit 1
  fi
else
  echo "erlmcp_shm: cargo is not on the PATH: install Rust (https://rustup.rs), or set ERLMCP_SHM_NIF to a built erlmcp_shm_nif.so" >&2
  exit 1
fi

# rebar3 links priv/ into _build before it compiles, and links nothing that is not there yet.
mkdir -p "$root/priv"

# A running node may have the old library mapped, and writing into a mapped library crashes the node: so a new file
# takes its name, and only when the bytes differ.
if ! cmp -s "$built" "$nif"; then
  new=$(mktemp "$root/priv/.erlmcp_shm_nif.so.XXXXXX")
  trap 'rm -f "$new"' EXIT
  cp "$built" "$new"
  chmod 755 "$new"
  mv -f "$new" "$nif"
fi
