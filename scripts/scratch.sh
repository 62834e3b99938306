# For scripts that try this repository out from outside of it: sourced, from the repository's folder.
#
# $scratch is a folder outside of the clone that is removed at the end, $origin in it a git repository of the files as
# they are here, what is not committed included. What rebar3 and mix would fetch from Hex and is here already they find.

root=$PWD
scratch=$(mktemp -d)
origin=$scratch/origin
running=

scratch_end() {
  local status=$?
  if [[ -n $running ]]; then
    kill "$running" 2>/dev/null || true
    wait "$running" 2>/dev/null || true
  fi
  rm -rf "$scratch"
  exit "$status"
}
trap scratch_end EXIT

built=$root/${CARGO_TARGET_DIR:-target}/release
[[ ${CARGO_TARGET_DIR:-} != /* ]] || built=$CARGO_TARGET_DIR/release

# The tracked files, and those to be; without git, all but what is built.
make_origin() {
  mkdir "$origin"
  if git rev-parse --git-dir >/dev/null 2>&1; then
    git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' name; do
      if [[ -e $name || -L $name ]]; then printf '%s\0' "$name"; fi
    done
  else
    find . \( -path ./.git -o -path ./target -o -path ./_build -o -path ./priv \) -prune -o \( -type f -o -type l \) -printf '%P\0'
  fi | tar --create --null --files-from=- | tar --extract --directory "$origin"
  (
    cd "$origin"
    git init --quiet --initial-branch main .
    git add --all
    git -c user.name=scratch -c user.email=scratch@localhost -c commit.gpgsign=false commit --quiet --message scratch
  )
  # Not those of this clone's own build: an application is found where a user would have it.
  export ERL_LIBS=$root/_build/debian/lib
}

# Waits until a command succeeds, for half a minute at most.
eventually() {
  local n
  for ((n = 0; n < 300; n++)); do
    if "$@" >/dev/null 2>&1; then return 0; fi
    sleep 0.1
  done
  echo "never: $*" >&2
  return 1
}
