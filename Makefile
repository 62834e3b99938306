.PHONY: build setup demo test bench bench-full soak interop dist clean

# The Rust programs, in target/release, and the OTP application, in _build. The NIF is rebar3's to build, by a hook: built
# here too, with other features of what it depends on, it would be built twice each time.
build:
	@scripts/setup.sh build
	cargo build --release -p erlmcp-shm -p erlmcp-shm-demo
	PATH="$$PATH:$(CURDIR)/_build/debian/bin" rebar3 compile

# Installs what is missing for all of the targets.
setup:
	@scripts/setup.sh

# A node publishes, another process reads.
demo: build
	@scripts/demo.sh

# Every check that a change must pass.
test: setup
	@scripts/check.sh

# Lookups and puts side by side with a floor and with what else one might use; the tables and plots of the
# README and of docs/performance.md are made of it. (`cargo bench -p erlmcp-shm-benches` has criterion look at ours and the floor.)
bench: build
	@scripts/bench.sh

# The same, and other sizes of values, more keys, a skewed order, and many reader processes.
bench-full: build
	@scripts/bench.sh full

# What takes longer: ten thousand kills, many random programs, the long models, Miri where it is installed.
soak: setup
	@scripts/soak.sh

# Servers and clients that nobody here wrote: the MCP project's own, out of npm. Writes the README's table of them anew.
interop: setup
	@scripts/interop.sh

# A tarball of the command and the application, for machines without a compiler, in target/dist; and the crates as they
# would be published.
dist: build
	@scripts/package.sh
	@scripts/dist.sh

clean:
	rm -rf target _build priv/*.so rebar3.crashdump erl_crash.dump
