# Each target installs what it needs: `scripts/setup.sh` uses apt, with sudo unless it runs as root.

.PHONY: demo build test lint unit wide fuzz soak bench install test-camera test-netem clean

demo: build
	./target/release/udpchat demo

build:
	scripts/setup.sh build
	cargo build --release --locked

# After `make build`, as root: sudo make install
install:
	install -Dm755 -t $(DESTDIR)/usr/local/bin target/release/udpchat target/release/udpchat-opencv

test: lint unit

# The last three clippy runs check what users compile: without the fuzz bodies, which only tests
# use.
lint:
	scripts/setup.sh test
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --all-targets --no-default-features --features cli -- -D warnings
	cargo clippy --locked -- -D warnings
	cargo clippy --locked --lib --no-default-features -- -D warnings
	cargo clippy --locked --lib --no-default-features --features opencv -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
	scripts/deny.sh

unit:
	scripts/setup.sh test
	cargo test --locked

# Runs the property tests with WIDE times as many cases, from a random seed, and the fuzz bodies with ten times as many
# rounds. Takes an hour or more. SEED=N replays a run.
WIDE ?= 100
SEED ?= $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
wide: SEED := $(SEED)
wide:
	scripts/setup.sh test
	@echo "this is SEED=$(SEED) WIDE=$(WIDE)"
	cargo build --locked
	PROPTEST_RNG_SEED=$(SEED) PROPTEST_CASES=$$((256 * $(WIDE))) cargo test --locked --lib
	PROPTEST_RNG_SEED=$(SEED) PROPTEST_CASES=$$((256 * $(WIDE))) cargo test --locked --test it contract::
	UDPCHAT_ROUNDS=200000 cargo test --locked --test it fuzzing::

# Fuzzes each target for FUZZ_SECONDS (default 300). docs/TESTING.md has the latest table.
fuzz:
	scripts/setup.sh fuzz
	scripts/fuzz.sh

# Streams for 10 minutes at 30 frames/s: memory and latency must not grow.
soak: build
	scripts/soak.sh

# Writes the tables of docs/BENCHMARKS.md and draws docs/charts. Measuring the slow link needs root.
bench:
	scripts/setup.sh build
	cargo bench --locked --bench transport --bench reassembly --bench codec --bench pipeline
	cargo bench --locked --bench report -- --write

# Boots a virtual machine with a simulated camera, if LABVM is available. Not part of `test`.
test-camera: build
	scripts/test-camera.sh

# Streams over links that the kernel's netem impairs, if LABVM is available. Takes 15 minutes. Not part of `test`.
test-netem: build
	scripts/test-netem.sh

clean:
	cargo clean
