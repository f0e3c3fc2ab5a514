//! The last step of a Wasm cell, and the only compiler.
//!
//! Its room belongs to this program and not to the library, so that neither `cellinit` nor `cell` can link wasmtime.

#[path = "../wasm/mod.rs"]
mod wasm;

fn main() -> ! {
    wasm::main(std::env::args_os().skip(1))
}
