#!/bin/sh
# Builds every guest into guests/target/wasm: NAME.wasm is a component, NAME.core.wasm the same program as a core module (WASI 0.1).
# Nothing is done when nothing has changed.
set -eu
cd "$(dirname "$0")"

out=target/wasm
stamp=$out/.built

# Tests call this from many processes at once.
mkdir -p "$out"
exec 9>"$out/.lock"
flock 9

if [ -e "$stamp" ] && [ -z "$(find . -path ./target -prune -o -type f -newer "$stamp" -print)" ]; then
    exit 0
fi

if ! [ -d "$(rustc --print sysroot)/lib/rustlib/wasm32-wasip1/lib" ]; then
    cat >&2 <<'TEXT'
guests/build.sh: the target wasm32-wasip1 is missing. Install it with
    rustup target add wasm32-wasip1
TEXT
    exit 1
fi

# build KIND WHAT ADAPTER: one cargo run with the linker flags of one kind of artifact, in a target directory of its own,
# since these flags are part of what cargo compares.
build() {
    flags=
    if [ -n "$3" ]; then
        flags="-C linker=wasm-component-ld -C link-arg=--wasi-adapter -C link-arg=$3"
    fi
    CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="$flags" \
        cargo build --quiet --locked --release --target wasm32-wasip1 --target-dir "target/$1" "$2"
}

build core --bins ''
build command --bins command
build reactor --examples reactor

for module in target/core/wasm32-wasip1/release/command-*.wasm; do
    name=$(basename "$module" .wasm)
    cp "$module" "$out/$name.core.wasm"
    cp "target/command/wasm32-wasip1/release/$name.wasm" "$out/$name.wasm"
done
for module in target/reactor/wasm32-wasip1/release/examples/*.wasm; do
    case $module in
    *-????????????????.wasm) ;; # cargo's own copy
    *) cp "$module" "$out/$(basename "$module" | tr _ -)" ;;
    esac
done
touch "$stamp"
