//! PURE: the machine.
#![forbid(unsafe_code)]

mod action;
mod cause;
mod chance;
mod check;
mod event;
mod gate;
mod graph;
mod health;
mod life;
mod machine;
mod node;
mod restart;
mod view;
mod want;

pub use action::*;
pub use cause::*;
pub use event::*;
pub use health::PROBE_GUARD;
pub use life::{DETAIL_MAX, KILL_AGAIN};
pub use machine::Supervisor;
pub use node::{Cell, Main, Stage, State};
pub use restart::{HISTORY_MAX, MIN_DELAY};
pub use view::*;
pub use want::SHUTDOWN_TIMEOUT;

use serde::{Deserialize, Serialize};

/// What is wanted of a unit, apart from what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    Up,
    Down,
}
