//! The last step of a Wasm cell, and the only compiler.

fn main() -> ! {
    cellinit::wasm::main(std::env::args_os().skip(1))
}
