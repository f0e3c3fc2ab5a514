//! One engine configuration. Machine code is refused by an engine that differs in anything that shapes code, so whoever
//! compiles and whoever runs take it from here.

use wasmtime::{Config, Engine, OptLevel, PoolingAllocationConfig, Strategy, WasmBacktraceDetails};

use super::limits::MAX_TABLE_ELEMENTS;

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
    Engine::new(&without_compiler(codegen))
}

/// For a server: room for so many guests at once is set up beforehand, which takes milliseconds and is why a command does
/// without; then a request no longer waits for the kernel to map memory and take it away again.
pub fn pool(codegen: Codegen, guests: u32) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(guests)
        .total_core_instances(guests.saturating_mul(INSTANCES))
        .total_memories(guests.saturating_mul(MEMORIES))
        .total_tables(guests.saturating_mul(TABLES))
        .total_stacks(guests)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_core_instances_per_component(INSTANCES)
        .max_component_instance_size(INSTANCE_BYTES)
        .max_core_instance_size(INSTANCE_BYTES)
        .table_elements(MAX_TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEPT_MEMORY)
        .table_keep_resident(KEPT_TABLE);
    let mut config = without_compiler(codegen);
    config.allocation_strategy(pool);
    Engine::new(&config)
}

/// What one component in the pool may consist of. One that a toolchain makes has four instances, one or two memories and
/// two or three tables; a component that needs more is run without a pool.
const INSTANCES: u32 = 32;
const MEMORIES: u32 = 4;
const TABLES: u32 = 16;
/// Bytes of the engine's own records on one instance; an upper bound, not a reservation.
const INSTANCE_BYTES: usize = 16 << 20;
/// Bytes at the start of a memory or table that are wiped by hand and kept, instead of being given back and faulted in anew.
const KEPT_MEMORY: usize = 256 << 10;
const KEPT_TABLE: usize = 16 << 10;

fn without_compiler(codegen: Codegen) -> Config {
    let mut config = config(codegen);
    config.enable_compiler(false);
    config
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
        // For debuggers only: backtraces follow frame pointers, and each start would have to register the tables.
        .native_unwind_info(false)
        .wasm_component_model_async(true);
    config
}
