#!/usr/bin/env bash
# The application on another Erlang: installs the Debian that is named in a folder, and does there what a newcomer does:
# setup, xref, dialyzer, every suite, the demo, all of it compiled there. Debian trixie has OTP 27, and forky has OTP 29.
# Takes a quarter of an hour, and 4 GB of TMPDIR or /var/tmp. Without a name: both.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

skip() {
  echo "SKIPPED: $*"
  exit 0
}

if (($# == 0)); then
  for debian in trixie forky; do scripts/otp.sh "$debian"; done
  exit
fi
debian=$1

[[ $(id -u) == 0 ]] || skip 'another Debian wants root'
command -v debootstrap >/dev/null || skip 'there is no debootstrap (apt-get install debootstrap)'
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null | sed -n 1p) || true
[[ -n $mirror ]] || skip 'this is no Debian, and so does not say where one is had'
rust=$(rustc --print sysroot)
[[ $rust != /usr ]] || skip 'a Rust that is installed in /usr cannot be lent to another system'
registry=${CARGO_HOME:-$HOME/.cargo}/registry
mkdir -p "$registry"

# All that gets mounted is so in the name space below alone, which has ended when this folder is removed.
root=$(mktemp -d -p "${TMPDIR:-/var/tmp}" "erlmcp-shm-$debian.XXXXXX")
trap 'rm -rf --one-file-system "$root"' EXIT

# A debootstrap that is older than that Debian does not know it: all of them are installed like sid. With curl, ip and
# prometheus fewer cases are skipped.
script=$debian
[[ -e /usr/share/debootstrap/scripts/$debian ]] || script=sid
debootstrap --variant=minbase --include=ca-certificates,curl,iproute2,prometheus "$debian" "$root" "$mirror" "$script"
cp --dereference /etc/hosts /etc/resolv.conf "$root/etc/"
mkdir -p "$root/project" "$root/root/.cargo/registry" "$root/rust"
git ls-files -z | tar --create --null --files-from=- | tar --extract --directory "$root/project"

# shellcheck disable=SC2016 # the inner shells expand it
unshare --mount --pid --fork --kill-child bash -euc '
  root=$1 rust=$2 registry=$3
  # A system of its own has a mount at its root.
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs tmpfs "$root/dev/shm"
  mount --bind "$rust" "$root/rust"
  mount --bind "$registry" "$root/root/.cargo/registry"
  exec env -i HOME=/root LANG=C.UTF-8 TERM=dumb PATH=/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    chroot "$root" bash -euc "cd /project
      scripts/setup.sh
      rebar3 compile
      rebar3 xref
      rebar3 dialyzer
      rebar3 ct
      scripts/demo.sh"
' bash "$root" "$rust" "$registry"
