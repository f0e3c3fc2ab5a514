//! What the Wasm host is told: one JSON argument of `cell-wasm run`. It names nothing of the host system, only what the plan
//! has put into the cell.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::unit::World;

/// Where the plan puts things in a Wasm cell.
pub const HOST_PATH: &str = "/cell-wasm";
pub const ARTIFACT_PATH: &str = "/module.cwasm";
pub const MODULE_PATH: &str = "/module.wasm";
pub const PREOPEN_DIR: &str = "/preopen";
/// The descriptor on which `cell-wasm digest` writes what it has hashed, and `cell-wasm compile` its artifact.
pub const OUTPUT_FD: i32 = 3;
/// Bytes. A larger module is refused: Cranelift needs some ten times this much memory.
pub const MAX_MODULE: u64 = 256 << 20;

/// What `cell-wasm` exits with when the fault is not the guest's nor the module's: another try may end otherwise.
pub const EXIT_HOST: i32 = 197;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestSpec {
    pub unit: String,
    pub world: World,
    /// What the guest sees as its arguments, program name first.
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub dirs: Vec<GuestDir>,
    pub limits: GuestLimits,
    pub http: GuestHttp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestDir {
    /// What the guest calls it.
    pub guest: String,
    /// Where it is bound in the cell: `/preopen/0`.
    pub path: String,
    pub writable: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestLimits {
    /// Bytes of linear memory in all.
    pub memory: u64,
    /// Of the whole run of a command.
    pub deadline_ms: Option<u64>,
    /// Of one HTTP request.
    pub request_timeout_ms: u64,
    pub fuel: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestHttp {
    /// The descriptor of the listener, if a socket was granted.
    pub listen_fd: Option<i32>,
    pub max_concurrent: u32,
    pub max_connections: u32,
    /// Bytes.
    pub max_body: u64,
}
