//! What a guest is, told from its own exports.

use wasmtime::component::Component;
use wasmtime::{Engine, Result};

use super::cause::WrongWorld;
use cellinit::unit::World;

/// A component's world and the release of WASI that it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// `wasi:cli/run@0.2.x`
    Command2,
    /// `wasi:cli/run@0.3.x`
    Command3,
    /// `wasi:http/incoming-handler@0.2.x`
    Http2,
    /// `wasi:http/handler@0.3.x`
    Http3,
}

/// In this order: what serves HTTP is a server, even if it can also be run.
const EXPORTS: [(&str, Speaks); 4] = [
    ("wasi:http/handler@0.3", Speaks::Http3),
    ("wasi:http/incoming-handler@0.2", Speaks::Http2),
    ("wasi:cli/run@0.3", Speaks::Command3),
    ("wasi:cli/run@0.2", Speaks::Command2),
];

pub fn tell(engine: &Engine, component: &Component, wanted: World) -> Result<Speaks> {
    let ty = component.component_type();
    let found = EXPORTS.iter().find(|(prefix, speaks)| {
        let fits = match wanted {
            World::Auto => true,
            World::Command => matches!(speaks, Speaks::Command2 | Speaks::Command3),
            World::Http => matches!(speaks, Speaks::Http2 | Speaks::Http3),
        };
        fits && ty.exports(engine).any(|(name, _)| name.starts_with(prefix))
    });
    let missing = match (found, wanted) {
        (Some((_, speaks)), _) => return Ok(*speaks),
        (None, World::Auto) => "the component exports neither wasi:cli/run nor wasi:http/incoming-handler, so there is nothing to call",
        (None, World::Command) => "the component does not export wasi:cli/run, as wasm.world = \"command\" wants",
        (None, World::Http) => "the component does not export wasi:http/incoming-handler, as wasm.world = \"http\" wants",
    };
    Err(WrongWorld(missing).into())
}
