//! PURE: the text of unit files becomes [`Unit`]s and a checked [`UnitSet`]; every fault has a place and a suggestion.

#![forbid(unsafe_code)]

mod address;
mod caps;
mod choice;
mod diagnostic;
mod errno;
mod foreign;
mod guest;
mod harmless;
mod kernel;
mod keys;
mod later;
mod model;
mod names;
mod near;
mod order;
mod parse;
mod reader;
mod reference;
mod rules;
mod schema;
#[cfg(test)]
mod schema_tests;
mod service;
mod set;
mod spelling;
pub mod syscalls;
mod values;
mod walls;
mod words;

pub use caps::{CAPABILITIES, CapabilitySet};
pub use diagnostic::Diagnostic;
pub use errno::ERRNOS;
pub use harmless::{harmless, harmless_lines, is_harmful};
pub use kernel::signal_name;
pub use model::*;
pub use near::nearest;
pub use parse::parse;
pub use reference::reference;
pub use set::{DEFAULT_TARGET, UnitSet, fault_at, nearest_unit, written};
