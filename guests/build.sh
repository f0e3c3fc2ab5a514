#!/bin/sh
# Builds every guest into guests/target/wasm: NAME.wasm is a component, NAME.core.wasm the same program as a core module (WASI 0.1).
# Nothing is done when nothing has changed.
#   GUESTS_TOOLCHAIN=rustup|debian   whose compiler; unset: rustup's if it has the target wasm32-wasip1, else Debian's
#   GUESTS_TARGET_DIR=DIR            where to build instead of guests/target, which tests and units read (absolute)
set -eu
cd "$(dirname "$0")"

forced=${GUESTS_TOOLCHAIN-}
target=${GUESTS_TARGET_DIR:-target}
out=$target/wasm
stamp=$out/.built

# Tests call this from many processes at once.
mkdir -p "$out"
exec 9>"$out/.lock"
flock 9

if [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$forced" ] && [ -z "$(find . -path ./target -prune -o -type f -newer "$stamp" -print)" ]; then
    exit 0
fi

# What Debian's packages bring: a compiler without std for WebAssembly, std's source, and the C library that std needs.
debian_rustc=/usr/bin/rustc
debian_libc=/usr/lib/wasm32-wasi

has_rustup() {
    [ -d "$(rustc --print sysroot)/lib/rustlib/wasm32-wasip1/lib" ]
}
has_debian() {
    [ -e "$debian_libc/crt1-command.o" ] && command -v rust-lld && rustlib=$("$debian_rustc" --print sysroot)/lib/rustlib &&
        [ -e "$rustlib/src/rust/library/std" ] && ls "$rustlib"/*/bin/wasm-component-ld
} >/dev/null

common= program=
if [ "${forced:-rustup}" = rustup ] && has_rustup; then
    :
elif [ "${forced:-debian}" = debian ] && has_debian; then
    # Cargo builds std too, which only an unstable feature of the same compiler can do. What rustup keeps beside std comes
    # from the C library's package: libc, and for programs the object that has `_start`.
    export RUSTC="$debian_rustc" RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_BUILD_STD=std,panic_abort
    common="-C link-self-contained=no -L native=$debian_libc"
    program="-C link-arg=$debian_libc/crt1-command.o"
else
    cat >&2 <<'TEXT'
guests/build.sh: no Rust compiler for wasm32-wasip1. Install one with either of
    rustup target add wasm32-wasip1
    apt-get install rustc-web rust-web-src rust-web-llvm lld-22 wasi-libc
TEXT
    exit 1
fi

# build KIND WHAT FLAGS: one cargo run with the linker flags of one kind of artifact, in a target directory of its own,
# since these flags are part of what cargo compares. Rust's own directories are where `wasm-component-ld` is looked for.
build() {
    CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="$common $3" \
        cargo build --quiet --locked --release --target wasm32-wasip1 --target-dir "$target/$1" "$2"
}

component="-C linker=wasm-component-ld -C link-arg=--wasi-adapter"
build core --bins "$program"
build command --bins "$program $component -C link-arg=command"
build reactor --examples "$component -C link-arg=reactor"

for module in "$target"/core/wasm32-wasip1/release/command-*.wasm; do
    name=$(basename "$module" .wasm)
    cp "$module" "$out/$name.core.wasm"
    cp "$target/command/wasm32-wasip1/release/$name.wasm" "$out/$name.wasm"
done
for module in "$target"/reactor/wasm32-wasip1/release/examples/*.wasm; do
    case $module in
    *-????????????????.wasm) ;; # cargo's own copy
    *) cp "$module" "$out/$(basename "$module" | tr _ -)" ;;
    esac
done
echo "$forced" >"$stamp"
