//! PURE: the text of unit files becomes [`Unit`]s and a checked [`UnitSet`]; every fault has a place and a suggestion.

mod model;

pub use model::*;
