.PHONY: build setup demo test bench soak clean

# The Rust programs, in target/release, and the OTP application, in _build.
build: setup
	cargo build --release --workspace
	rebar3 compile

# Installs what is missing.
setup:
	@scripts/setup.sh

# A node publishes, another process reads.
demo: build
	@scripts/demo.sh

# Every check that a change must pass.
test: setup
	@scripts/check.sh

# Lookups and puts, beside a floor and ets.
bench: build
	cargo bench -p erlmcp-shm-benches
	escript benches/erlang/put.escript

# What takes longer: ten thousand kills, many random programs, the long models, Miri where it is installed.
soak: setup
	@scripts/soak.sh

clean:
	rm -rf target _build priv/*.so rebar3.crashdump erl_crash.dump
