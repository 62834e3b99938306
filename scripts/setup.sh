#!/usr/bin/env bash
# Installs, from Debian's or Ubuntu's packages, what building and testing need beyond Rust, git and make; with the
# argument `build`, what building alone needs, a tenth of it: Debian's common_test brings the graphical tools along.
# Where all of it is there it installs nothing, and needs neither the network nor root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly purpose=${1:-test}

# The OTP applications that a node and rebar3 itself load; and beyond them the suites, xref and dialyzer.
otp=(crypto inets parsetools public_key ssl syntax_tools)
[[ $purpose == build ]] || otp+=(common_test dialyzer eunit tools)

say() { echo "setup: $*"; }

die() {
  echo "setup: $*" >&2
  exit 1
}

evaluate() { erl -noinput -boot start_clean -eval "$1, halt()."; }

cc_works() { echo 'int main(void) { return 0; }' | cc -x c - -o /dev/null 2>/dev/null; }

# The packages that are missing, one a line.
missing() {
  # Rust links with cc, and cc with libc6-dev.
  cc_works || printf '%s\n' gcc libc6-dev
  [[ $purpose == build ]] || command -v rebar3 >/dev/null || echo rebar3
  if ! command -v erl >/dev/null; then
    printf '%s\n' erlang-base erlang-dev "${otp[@]/#/erlang-}" | tr _ -
    [[ $purpose == build ]] || echo erlang-proper
    return
  fi
  # Debian keeps the header files in erlang-dev. An Erlang that is not Debian's gets proper from Hex, through rebar3.
  evaluate "
    Lacks = fun(App) -> code:lib_dir(App) =:= {error, bad_name} end,
    [io:format(\"erlang-~s~n\", [App]) || App <- [$(IFS=, && echo "${otp[*]}")], Lacks(App)],
    \"$purpose\" =/= \"build\" andalso code:root_dir() =:= \"/usr/lib/erlang\" andalso Lacks(proper) andalso io:format(\"erlang-proper~n\"),
    filelib:wildcard(code:lib_dir() ++ \"/public_key-*/include/public_key.hrl\") =:= [] andalso io:format(\"erlang-dev~n\")
  " | tr _ -
}

# apt-get with the rights to change the system, or 1.
privileged_apt() {
  local as_root=()
  if [[ $(id -u) != 0 ]]; then
    command -v sudo >/dev/null || return 1
    as_root=(sudo)
  fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@"
}

update_lists() {
  say "fetching the package lists"
  # The list that cannot be fetched may be one of a third party, which is not needed.
  privileged_apt update || say "a package list could not be fetched; going on with those that are here"
}

install_packages() {
  command -v apt-get >/dev/null || die "missing, and this system has no apt-get to install it: $*"
  [[ $(id -u) == 0 ]] || command -v sudo >/dev/null ||
    die "missing: run this as root: apt-get update && apt-get install --no-install-recommends $*"
  update_lists
  say "installing $*"
  privileged_apt install --yes --no-install-recommends "$@" ||
    die "could not be installed (apt-get says why above; is the network there?): $*"
}

# What is borrowed is taken out of a package, and the package is not installed.
readonly borrowed=_build/debian
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
# As the Makefile has it.
[[ $purpose != build ]] || PATH+=:$PWD/$borrowed/bin

# apt drops its rights to download, and then may not write here.
unpack() { (cd "$unpacked" && apt-get -q download "$1" 2>/dev/null >&2 && dpkg -x "$1"_*.deb .); }

# Without a list apt knows of no package.
fetch() {
  command -v apt-get >/dev/null || return 1
  say "taking $2 out of Debian's $1"
  unpack "$1" || { update_lists && unpack "$1"; }
}

# One file, whose package wants all of Erlang for what building does not use.
borrow_rebar3() {
  command -v rebar3 >/dev/null && return
  fetch rebar3 rebar3 || die "rebar3 is not on the PATH, and Debian's cannot be had here: https://rebar3.org"
  install -D -m 755 "$unpacked/usr/bin/rebar3" "$borrowed/bin/rebar3"
}

# Erlang libraries that Debian has in no package of their own, but compiled in that of a program that uses them.
# rebar.config.script finds them there; where they cannot be had like that, rebar3 fetches them from Hex.
readonly libraries=(cowboy cowlib ranch prometheus)
# What prometheus needs below itself depends on its version; the package has what its own needs.
readonly below=(accept quantile_estimator ddskerl)

borrow_libraries() {
  local lacking library found licence
  lacking=$(evaluate "[io:format(\"~s \", [A]) || A <- [$(IFS=, && echo "${libraries[*]}")], code:lib_dir(A) =:= {error, bad_name}]")
  if [[ -n $lacking ]] && ! compgen -G "$borrowed/lib/cowboy-*/LICENSE" >/dev/null; then
    if fetch rabbitmq-server "${lacking% }"; then
      mkdir -p "$borrowed/lib"
      for library in "${libraries[@]}" "${below[@]}"; do
        rm -rf "$borrowed/lib/$library"-[0-9]*
        for found in "$unpacked"/usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins/"$library"-[0-9]*; do
          [[ ! -d $found ]] || cp -r "$found" "$borrowed/lib/"
        done
      done
      # Of one author and under one licence, which whoever passes them on has to pass on too.
      licence=$(echo "$unpacked"/usr/lib/rabbitmq/lib/rabbitmq_server-*/LICENSE-ISC-cowboy)
      for library in cowboy cowlib ranch; do cp "$licence" "$(echo "$borrowed/lib/$library"-[0-9]*)/LICENSE"; done
    else
      say "rabbitmq-server cannot be had here; rebar3 will want Hex for: $lacking"
    fi
  fi
  # So that ERL_LIBS=_build/default/lib is all that a node needs.
  local path name
  for path in "$borrowed"/lib/*-[0-9]*; do
    [[ -d $path ]] || continue
    name=${path##*/}
    mkdir -p _build/default/lib
    [[ -e _build/default/lib/${name%%-[0-9]*} ]] || ln -s "../../../$path" "_build/default/lib/${name%%-[0-9]*}"
  done
}

command -v cargo >/dev/null || die "cargo is not on the PATH: install Rust (https://rustup.rs) and run this again"

packages=$(missing | xargs)
if [[ -n $packages ]]; then
  # shellcheck disable=SC2086 # one word is one package
  install_packages $packages
  packages=$(missing | xargs)
  [[ -z $packages ]] || die "installed, and still missing (is another Erlang first on the PATH?): $packages"
else
  say "nothing to install"
fi

[[ $purpose != build ]] || borrow_rebar3
borrow_libraries

release=$(evaluate 'io:format(erlang:system_info(otp_release))')
((release >= 25)) || die "Erlang/OTP 25 or newer is needed, and $(command -v erl) is OTP $release"
((release <= 29)) || say "OTP $release is newer than what is tested (25 to 29)"
say "$(cargo --version)"
say "$(rebar3 version)"
say "$(cc --version | head -n 1)"
