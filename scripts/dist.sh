#!/usr/bin/env bash
# A tarball of what runs without a compiler: the command, the OTP application with its NIF, licences, configuration. Then
# tries it out where it was unpacked, outside of this clone. `make dist` builds what goes into it.
#
# The same sources, compiler and SOURCE_DATE_EPOCH (default: the last commit's time) give the same names, times and order.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/scratch.sh
source scripts/scratch.sh

version=$(sed -n 's/.*{vsn, "\(.*\)"}.*/\1/p' src/erlmcp_shm.app.src)
crates=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
if [[ $version != "$crates" ]]; then
  echo "dist: the application is $version, and the crates are $crates" >&2
  exit 1
fi
name=erlmcp-shm-$version-$(uname -m)-$(uname -s | tr '[:upper:]' '[:lower:]')
application=_build/default/lib/erlmcp_shm

tree=$scratch/$name
mkdir -p "$tree/bin" "$tree/lib/erlmcp_shm-$version"/{ebin,priv} "$tree/config"
# With the names of its functions, for what a panic says, and without the rest of what a debugger reads: a fifth of it.
strip --strip-debug -o "$tree/bin/erlmcp-shm" "$built/erlmcp-shm"
cp "$application"/ebin/*.{app,beam} "$tree/lib/erlmcp_shm-$version/ebin/"
cp -L "$application/priv/erlmcp_shm_nif.so" "$tree/lib/erlmcp_shm-$version/priv/"
cp config/claude_flow.config config/config.toml "$tree/config/"
cp README.md LICENSE-MIT LICENSE-APACHE "$tree/"
chmod -R u=rwX,go=rX "$tree"

date=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
mkdir -p target/dist
tarball=$root/target/dist/$name.tar.gz
tar --create --directory "$scratch" --sort=name --mtime="@$date" --owner=0 --group=0 --numeric-owner "$name" |
  gzip --no-name >"$tarball"
rm -rf "$tree"

# Unpacked somewhere else, with nothing of this clone in sight.
unpacked=$scratch/elsewhere
mkdir "$unpacked"
cd "$unpacked"
tar --extract --file "$tarball"
store=$unpacked/store.bin
export ERL_LIBS=$unpacked/$name/lib
unset ERLMCP_SHM_NIF ERL_FLAGS
mkfifo end
erl -noinput -eval "
  {ok, _} = erlmcp_shm_exporter:start_link(#{path => \"$store\", size => 1048576}),
  ok = erlmcp_shm_exporter:export_resource(<<\"x\">>, <<\"out of a tarball\">>, #{}),
  {ok, _} = file:open(\"end\", [read, raw]),
  ok = gen_server:stop(erlmcp_shm_exporter),
  halt().
" &
running=$!
eventually "$name/bin/erlmcp-shm" --path "$store" get resource x
[[ $("$name/bin/erlmcp-shm" --path "$store" get resource x) == 'out of a tarball' ]]
[[ $("$name/bin/erlmcp-shm" --version) == "erlmcp-shm $version" ]]
: >end
wait "$running"
running=
"$name/bin/erlmcp-shm" --path "$store" verify
"$name/bin/erlmcp-shm" --path "$store" dump >dump.jsonl
"$name/bin/erlmcp-shm" --path "$unpacked/other.bin" load dump.jsonl
echo "$(du -h "$tarball" | cut -f 1) ${tarball#"$root/"}"
