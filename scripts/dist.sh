#!/usr/bin/env bash
# A tarball of what runs without a compiler: the command, the OTP application with its NIF and the libraries of its
# network transports, configurations, units, and the pages with what they link to. Then tries it out where it was unpacked,
# outside of this clone. `make dist` builds what goes into it.
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
libs=$root/_build/default/lib
tree=$scratch/$name
mkdir -p "$tree/bin" "$tree/lib/erlmcp_shm-$version"/{ebin,priv}
# With the names of its functions, for what a panic says, and without the rest of what a debugger reads: a fifth of it.
strip --strip-debug -o "$tree/bin/erlmcp-shm" "$built/erlmcp-shm"
cp "$libs"/erlmcp_shm/ebin/*.{app,beam} "$tree/lib/erlmcp_shm-$version/ebin/"
cp -L "$libs/erlmcp_shm/priv/erlmcp_shm_nif.so" "$tree/lib/erlmcp_shm-$version/priv/"
for library in cowboy cowlib ranch; do
  if [[ ! -f $libs/$library/LICENSE ]]; then
    echo "dist: without $library, which has no licence beside it here" >&2
    continue
  fi
  copy=$tree/lib/$library-$(sed -n 's/.*{vsn, *"\(.*\)"}.*/\1/p' "$libs/$library/ebin/$library.app")
  mkdir -p "$copy/ebin"
  cp "$libs/$library"/ebin/*.{app,beam} "$copy/ebin/"
  cp "$libs/$library/LICENSE" "$copy/"
done

# What PAGE links to in its own repository or tarball.
links() { grep -oP '\]\(\K(?!https?:)[^)#]+' "$1" || true; }

# carry PATH: a file or a folder, and all that it links to if it is a page.
carry() {
  local link
  [[ ! -e $tree/$1 ]] || return 0
  mkdir -p "$(dirname "$tree/$1")"
  cp -rL "$1" "$tree/$1"
  [[ $1 == *.md ]] || return 0
  for link in $(links "$1"); do carry "$(realpath --no-symlinks --relative-to=. "$(dirname "$1")/$link")"; done
}

# Of the clone what is not built.
make_origin
cd "$origin"
for each in config ops LICENSE-MIT LICENSE-APACHE README.md docs/*.md; do carry "$each"; done
cd "$root"
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
find "$name" -name '*.md' | while read -r page; do
  for link in $(links "$page"); do
    [[ -e $(dirname "$page")/$link ]] || { echo "dist: $page links to $link, which is not there" >&2; exit 1; }
  done
done
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
