#!/usr/bin/env bash
# The crates as they would be published: what is in each, that its description is complete, that the reader builds with
# its smallest feature set and brings along what its README says. `--verify` also builds each from its package alone,
# and the workspace with the oldest Rust that it claims to work with (minutes).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# In the order of their publication: each needs those before it.
crates=(erlmcp-shm-layout erlmcp-shm-reader erlmcp-shm-writer erlmcp-shm-client erlmcp-shm)
packages=("${crates[@]/#/-p}")

log=$(mktemp)
trap 'rm -f "$log"' EXIT

die() {
  echo "package: $*" >&2
  exit 1
}

# What is not committed is packaged too, so that a change can be checked before it is.
cargo package --locked --allow-dirty --no-verify "${packages[@]}" 2>&1 | tee "$log"
if grep -q '^warning' "$log"; then die "cargo warns of something"; fi
for crate in "${crates[@]}"; do
  files=$(cargo package --list --locked --allow-dirty -p "$crate")
  for file in Cargo.toml README.md LICENSE-MIT LICENSE-APACHE src/; do
    [[ $'\n'$files == *$'\n'$file* ]] || die "$crate has no $file"
  done
done

# The application's package has to hold a whole workspace.
whole=$(mktemp -d)
trap 'rm -rf "$log" "$whole"' EXIT
erl -noinput -eval '
  {ok, [{application, erlmcp_shm, Keys}]} = file:consult("src/erlmcp_shm.app.src"),
  [io:format("~s~n", [File]) || File <- proplists:get_value(files, Keys)],
  halt().' |
  tar --create --exclude target --files-from=- | tar --extract --directory "$whole"
cargo metadata --locked --no-deps --format-version 1 --manifest-path "$whole/Cargo.toml" >/dev/null
[[ -x $whole/scripts/build-nif.sh ]] || die "the application's package cannot build its NIF"

cargo check --locked -p erlmcp-shm-reader --no-default-features
tree=$(
  cargo tree --locked -p erlmcp-shm-reader --no-default-features --no-dedupe \
    --edges normal,no-proc-macro --target x86_64-unknown-linux-gnu | sed -E 's/ v[0-9][^ ]*//; s| \(.*\)||'
)
shown=$(sed -n '/^<!-- tree -->$/,/^<!-- end of tree -->$/p' reader/README.md | sed '1,2d' | head -n -2)
diff <(echo "$shown") <(echo "$tree") || die "reader/README.md shows another tree of dependencies"

if [[ ${1:-} == --verify ]]; then
  cargo publish --dry-run --locked --allow-dirty "${packages[@]}"
  oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml).0
  if rustup run "$oldest" cargo --version >/dev/null 2>&1; then
    CARGO_TARGET_DIR=target/oldest rustup run "$oldest" cargo check --locked --workspace
  else
    echo "SKIPPED: Rust $oldest is not installed (rustup toolchain install --profile minimal $oldest)"
  fi
fi
echo "packages: ${crates[*]}"
