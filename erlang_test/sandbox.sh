#!/usr/bin/env bash
# Runs the commands of a page, one after the other in one shell, as on a host of their own: /dev/shm, /run, /etc and what
# gets installed are its own, and so are network and processes. sandbox.sh PROJECT BUILT LIBS, commands on stdin, each ended
# by a NUL. What each printed and its exit code go to stdout, framed by lines that begin with @@.
#
# A command that fails is tried again for some seconds, as one does who has just started something. One that goes on
# until it is stopped is stopped after a second.
set -uo pipefail

project=$1 built=$2 libs=$3 inside=${4:-}
root=$(id -u)
if [[ -z $inside ]]; then
  map=()
  [[ $root == 0 ]] || map=(--map-root-user)
  exec unshare "${map[@]}" --mount --net --pid --fork --kill-child --mount-proc "$0" "$project" "$built" "$libs" "$root"
fi

ip link set lo up || { echo "@@ no network"; exit 2; }
mount -t tmpfs none /dev/shm && mount -t tmpfs none /run || { echo "@@ no tmpfs"; exit 2; }
if [[ $inside == 0 ]]; then
  # What an installation writes, over what is there.
  layers=/run/layers
  mkdir "$layers" && mount -t tmpfs none "$layers"
  for folder in /etc /usr/lib /usr/local/bin /usr/share/doc /var/lib; do
    name=${folder//\//-}
    mkdir -p "$layers/$name/upper" "$layers/$name/work"
    mount -t overlay overlay -o "lowerdir=$folder,upperdir=$layers/$name/upper,workdir=$layers/$name/work" "$folder" ||
      { echo "@@ no overlay over $folder"; exit 2; }
  done
fi

# The project as it is, and room for files of one's own.
home=/run/project
mkdir "$home" && cd "$home" || exit 2
for entry in "$project"/*; do ln -s "$entry" .; done
# Wherever they were built.
rm -f target _build && mkdir -p target && ln -s "$built" target/release
mkdir -p _build/default && ln -s "$libs" _build/default/lib
PATH=$built:$PATH
unset ERL_LIBS ERL_FLAGS ERL_AFLAGS ERL_ZFLAGS ROOTDIR BINDIR EMU PROGNAME

# What is built or tested elsewhere: here it counts that what is named is there. A tarball is made of what is built.
make() {
  command make --dry-run "$@" >/dev/null || return
  [[ $1 != dist ]] || scripts/dist.sh
}
exists() {
  while (($#)); do
    case $1 in
      -p | --package) grep -q "^name = \"$2\"" ./*/Cargo.toml examples/*/Cargo.toml || { echo "no package $2"; return 1; } ;;
      --test | --bench | --example)
        compgen -G "*/${1#--}s/$2.rs" >/dev/null || compgen -G "*/${1#--}s/$2/main.rs" >/dev/null || { echo "no $1 $2"; return 1; }
        ;;
      --suite=*) [[ -f ${1#--suite=}.erl ]] || { echo "no ${1#--suite=}"; return 1; } ;;
      --case=*) grep -q "${1#--case=}" erlang_test/*.erl || { echo "no case ${1#--case=}"; return 1; } ;;
    esac
    shift
  done
}
# A program of one's own is really built, of what this one was built of.
cargo() {
  case $1 in
    new | add | run) command cargo --offline "$@" ;;
    *) exists "$@" ;;
  esac
}
rebar3() { exists "$@"; }

# As much of systemd as starts a service: its environment, its user, its folders, its command.
systemctl() {
  local verb=$1 unit
  shift
  [[ $verb != daemon-reload ]] || return 0
  [[ ${1:-} != --now ]] || shift
  for unit; do
    case $verb in
      enable | start | restart) stop_unit "$unit" && start_unit "$unit" ;;
      disable | stop) stop_unit "$unit" ;;
      status) kill -0 "$(<"/run/$unit.pid")" ;;
      *) return 1 ;;
    esac || return
  done
}
start_unit() {
  local file=/etc/systemd/system/$1.service user
  user=$(sed -n 's/^User=//p' "$file")
  sed -n 's/^RuntimeDirectory=//p' "$file" | while read -r name; do install -d -o "$user" "/run/$name"; done
  sed -n 's/^StateDirectory=//p' "$file" | while read -r name; do install -d -o "$user" "/var/lib/$name"; done
  (
    # What is not set is nothing, to systemd.
    set -a +u
    # shellcheck disable=SC2046 # one word is one variable
    export $(sed -n 's/^Environment=//p' "$file" | tr '\n' ' ')
    # shellcheck disable=SC1090
    source "$(sed -n 's/^EnvironmentFile=-*//p' "$file")"
    cd "$(sed -n 's/^WorkingDirectory=//p' "$file")" || exit
    eval "exec setpriv --reuid $user --regid $user --clear-groups --no-new-privs $(sed -n 's/^ExecStart=//p' "$file")"
  ) >"/run/$1.log" 2>&1 &
  echo $! >"/run/$1.pid"
}
stop_unit() {
  [[ ! -f /run/$1.pid ]] || { kill "$(<"/run/$1.pid")" && wait "$(<"/run/$1.pid")"; rm "/run/$1.pid"; }
}

# Whether a command can be tried here at all.
reason() {
  case $1 in
    docker\ *) docker info >/dev/null 2>&1 || echo "no Docker daemon" ;;
    promtool\ *) command -v promtool >/dev/null || echo "no promtool" ;;
    curl\ *) command -v curl >/dev/null || echo "no curl" ;;
    *\ doctor\ *config/config.toml*) echo "not all of that configuration's transports are there" ;;
    mount\ -o\ remount*) [[ $inside == 0 ]] || echo "not root" ;;
  esac
}

endless='^erlmcp-shm ([^|;]* )?(watch|serve|top|publish .*--watch)( |$)'
number=0
while IFS= read -r -d '' command; do
  root_only=${command%%:*} command=${command#*:}
  number=$((number + 1))
  why=$(reason "$command")
  [[ $root_only != root || $inside == 0 ]] || why="not root"
  if [[ -n $why ]]; then
    printf '@@ skipped %s\n' "$why"
    continue
  fi
  for try in {1..40}; do
    if [[ $command =~ $endless && $command != *--once* ]]; then
      eval "timeout 1 $command" >/run/out 2>/run/err </dev/null
      status=$?
      [[ $status != 124 ]] || status=0
    else
      eval "$command" >/run/out 2>/run/err </dev/null
      status=$?
    fi
    [[ $status != 0 ]] || break
    sleep 0.25
  done
  printf '@@ out\n%s\n@@ err\n%s\n@@ status %d\n' "$(cat /run/out)" "$(cat /run/err; tail -n 5 /run/*.log 2>/dev/null)" "$status"
done
