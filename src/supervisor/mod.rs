//! PURE: the machine.
#![forbid(unsafe_code)]

mod action;
mod cause;
mod event;
mod view;

pub use action::*;
pub use cause::*;
pub use event::*;
pub use view::*;

use serde::{Deserialize, Serialize};

/// What is wanted of a unit, apart from what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    Up,
    Down,
}
