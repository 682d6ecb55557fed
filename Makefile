# Each target installs what it needs: `scripts/setup.sh` asks apt, with sudo only when not root.

.PHONY: demo build test lint unit wide fuzz soak bench install test-camera test-netem clean

demo: build
	./target/release/udpchat demo

build:
	scripts/setup.sh build
	cargo build --release --locked

# After `make build`, as root: sudo make install
install:
	install -Dm755 target/release/udpchat $(DESTDIR)/usr/local/bin/udpchat

test: lint unit

lint:
	scripts/setup.sh test
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --all-targets --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
	scripts/deny.sh

unit:
	scripts/setup.sh test
	cargo test --locked

# The property tests with WIDE times their cases, from a seed that is drawn now, and ten times the fuzz bodies' rounds: an
# hour or more. SEED=N plays a run again.
WIDE ?= 100
SEED ?= $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
wide: SEED := $(SEED)
wide:
	scripts/setup.sh test
	@echo "this is SEED=$(SEED) WIDE=$(WIDE)"
	PROPTEST_RNG_SEED=$(SEED) PROPTEST_CASES=$$((256 * $(WIDE))) cargo test --locked --lib
	PROPTEST_RNG_SEED=$(SEED) PROPTEST_CASES=$$((256 * $(WIDE))) cargo test --locked --test it contract::
	UDPCHAT_ROUNDS=200000 cargo test --locked --test it fuzzing::

# Each target for FUZZ_SECONDS, 300 unless told otherwise; docs/TESTING.md has the last table.
fuzz:
	scripts/setup.sh fuzz
	scripts/fuzz.sh

# Ten minutes at 30 frames a second: memory and latency must stay as they are.
soak: build
	scripts/soak.sh

# Writes the tables of docs/BENCHMARKS.md and draws docs/charts. As root it also measures a slow link.
bench:
	scripts/setup.sh build
	cargo bench --locked --bench transport --bench reassembly --bench codec --bench pipeline
	cargo bench --locked --bench report -- --write

# Boots a kernel with a virtual camera, if the lab is there; not part of `test`.
test-camera: build
	scripts/test-camera.sh

# Streams over every bad way that the kernel can make, if the lab is there: 15 minutes; not part of `test`.
test-netem: build
	scripts/test-netem.sh

clean:
	cargo clean
