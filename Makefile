# make run    build everything and run the units of units/ in the foreground, until Ctrl-C
# make test   the whole test suite
# make bench  medians and ratios against the bare kernel and against peers
# make order  trace starts of cell-wasm and write anew which of its functions are laid side by side; then build again

TARGET := target/x86_64-unknown-linux-gnu
UNITS ?= units/
# Cells, namespaces and cgroups need root; only the last command of each recipe gets it.
ROOT := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=PATH,HOME,CARGO_HOME,RUSTUP_HOME)

.PHONY: run test bench order build guests setup-run setup-test setup-bench

run: build
	$(ROOT) $(TARGET)/release/cell up $(UNITS)

test: setup-test guests
	cargo build --locked --all-targets
	$(ROOT) env INSTA_UPDATE=no cargo test --locked --no-fail-fast

bench: setup-bench guests
	cargo bench --locked --bench peers --no-run
	$(ROOT) cargo bench --locked --bench peers

order: setup-run guests
	cargo rustc --locked --release --bin cell-wasm -- -C strip=none
	src/wasm/layout/record $(TARGET)/release/cell-wasm

build: setup-run guests
	cargo build --locked --release

guests:
	guests/build.sh

setup-run setup-test setup-bench: setup-%:
	@.ci/setup $*
