//! Has `cell-wasm` linked by way of `src/wasm/layout/linker.sh`, which says what for. Not where nobody measures: in debug builds.

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=src/wasm/layout");
    let room = var("CARGO_MANIFEST_DIR").unwrap_or_default() + "/src/wasm/layout";
    if var("PROFILE").is_ok_and(|profile| profile == "release") && var("CARGO_FEATURE_WASM").is_ok() {
        // An option of gcc's: the program that it runs its steps by.
        println!("cargo::rustc-link-arg-bin=cell-wasm=-wrapper");
        println!("cargo::rustc-link-arg-bin=cell-wasm=/bin/sh,{room}/linker.sh");
    }
}
