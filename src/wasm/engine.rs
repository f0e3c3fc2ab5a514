//! One engine configuration. Machine code is refused by an engine that differs in anything that shapes code, so whoever
//! compiles and whoever runs take it from here.

use wasmtime::{Config, Engine, OptLevel, Strategy, WasmBacktraceDetails};

/// What a unit may change about the machine code of its guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codegen {
    /// Counting fuel costs every basic block a little, so only guests with a fuel limit pay.
    pub fuel: bool,
}

/// For `compile` and `digest`.
pub fn compiler(codegen: Codegen) -> wasmtime::Result<Engine> {
    Engine::new(&config(codegen))
}

/// For `run`: the same, without a compiler to set up. A guest cannot make this process compile anything.
pub fn runtime(codegen: Codegen) -> wasmtime::Result<Engine> {
    let mut config = config(codegen);
    config.enable_compiler(false);
    Engine::new(&config)
}

fn config(codegen: Codegen) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        // Bounds are checked by guard pages and the processor's own faults.
        .signals_based_traps(true)
        // How a deadline, or the next request's turn, reaches a guest that never calls out.
        .epoch_interruption(true)
        .consume_fuel(codegen.fuel)
        // Names of functions come from the module; file and line numbers would need a DWARF reader next to the guest.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_component_model_async(true);
    config
}
